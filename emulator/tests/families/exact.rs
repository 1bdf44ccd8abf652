//! What: exact arithmetic on the values of small floating-point formats, and correct rounding to them.
//! Why here: an oracle that itself rounds twice would agree with the faults that it is to find.
//! Pre: finite operands.
//! Post: results by integer arithmetic alone.

/// A binary format: mantissa bits (without the hidden one) and bias.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    pub(crate) mant: u32,
    pub(crate) bias: i32,
    pub(crate) bits: u32,
}

pub(crate) const F16: Format = Format { mant: 10, bias: 15, bits: 16 };
pub(crate) const BF16: Format = Format { mant: 7, bias: 127, bits: 16 };
pub(crate) const F64: Format = Format { mant: 52, bias: 1023, bits: 64 };
/// tf32 without its 13 unused bits.
pub(crate) const TF32: Format = Format { mant: 10, bias: 127, bits: 19 };
pub(crate) const F32: Format = Format { mant: 23, bias: 127, bits: 32 };

/// m * 2^e.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact {
    pub(crate) m: i128,
    pub(crate) e: i32,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Near,
    Zero,
    Down,
    Up,
    /// To nearest, ties away from zero.
    Away,
}

impl Format {
    pub(crate) fn exp_max(self) -> u64 {
        (1 << (self.bits - 1 - self.mant)) - 1
    }
    pub(crate) fn is_nan(self, v: u64) -> bool {
        let a = v & ((1 << (self.bits - 1)) - 1);
        a > self.exp_max() << self.mant
    }
    pub(crate) fn is_inf(self, v: u64) -> bool {
        v & ((1 << (self.bits - 1)) - 1) == self.exp_max() << self.mant
    }
    pub(crate) fn negative(self, v: u64) -> bool {
        v >> (self.bits - 1) & 1 != 0
    }
    /// The value of finite bits.
    pub(crate) fn value(self, v: u64) -> Exact {
        let (f, x) = (v & ((1 << self.mant) - 1), v >> self.mant & self.exp_max());
        let (m, e) = if x == 0 { (f, 1) } else { (f | 1 << self.mant, x as i32) };
        let m = i128::from(m) * if self.negative(v) { -1 } else { 1 };
        Exact { m, e: e - self.bias - self.mant as i32 }
    }
    /// The bits of a value, rounded; `negative` is the sign of zero.
    pub(crate) fn round(self, x: Exact, mode: Mode, negative: bool) -> u64 {
        let neg = if x.m == 0 { negative } else { x.m < 0 };
        let sign = u64::from(neg) << (self.bits - 1);
        let m = x.m.unsigned_abs();
        if m == 0 {
            return sign;
        }
        // The exponent of the last place: that of the binade, but not below the smallest.
        let top = 127 - m.leading_zeros() as i32 + x.e;
        let low = 1 - self.bias - self.mant as i32;
        let unit = (top - self.mant as i32).max(low);
        let shift = unit - x.e;
        let (q, cut) = if shift <= 0 {
            (m << -shift, std::cmp::Ordering::Less)
        } else if shift > 126 {
            (0, std::cmp::Ordering::Less)
        } else {
            let rest = m & ((1 << shift) - 1);
            (m >> shift, rest.cmp(&(1 << (shift - 1))))
        };
        let exact = shift <= 0 || shift <= 126 && m & ((1 << shift) - 1) == 0;
        let up = !exact
            && match mode {
                Mode::Near => cut.is_gt() || cut.is_eq() && q & 1 == 1,
                Mode::Away => cut.is_ge(),
                Mode::Zero => false,
                Mode::Down => neg,
                Mode::Up => !neg,
            };
        let q = q as u64 + u64::from(up);
        // A binade's codes are linear in units, and carry into the exponent.
        let code = q + (((unit - low) as u64) << self.mant);
        let limit = self.exp_max() << self.mant;
        let over = match mode {
            Mode::Zero => limit - 1,
            Mode::Down if !neg => limit - 1,
            Mode::Up if neg => limit - 1,
            _ => limit,
        };
        sign | if code >= limit { over } else { code }
    }
}

impl Exact {
    pub(crate) fn times(self, o: Exact) -> Exact {
        Exact { m: self.m * o.m, e: self.e + o.e }
    }
    /// The sum; what lies far below is one unit in the last of many places.
    pub(crate) fn plus(self, o: Exact) -> Exact {
        let (x, y) = match (self.m, o.m) {
            (0, _) => return o,
            (_, 0) => return self,
            _ if self.e >= o.e => (self, o),
            _ => (o, self),
        };
        let (tx, ty) = (
            127 - x.m.unsigned_abs().leading_zeros() as i32,
            127 - y.m.unsigned_abs().leading_zeros() as i32,
        );
        let d = x.e - y.e;
        if d + tx < 126 {
            return Exact { m: (x.m << d) + y.m, e: y.e };
        }
        assert!(x.e + tx > y.e + ty + 40, "the operands are too wide for each other");
        let s = 120 - tx;
        Exact { m: (x.m << s) + y.m.signum(), e: x.e - s }
    }
}

/// A value of one format in another; NaN is the canonical one.
pub(crate) fn convert(from: Format, to: Format, v: u64, mode: Mode) -> u64 {
    if from.is_nan(v) {
        return (1 << (to.bits - 1)) - 1;
    }
    if from.is_inf(v) {
        return u64::from(from.negative(v)) << (to.bits - 1) | to.exp_max() << to.mant;
    }
    to.round(from.value(v), mode, from.negative(v))
}

/// a * b + c in a format, NaN as the canonical one of halves.
pub(crate) fn fma(f: Format, a: u64, b: u64, c: u64, mode: Mode) -> u64 {
    let nan = (1 << (f.bits - 1)) - 1;
    let inf = f.exp_max() << f.mant;
    let negative = f.negative(a) != f.negative(b);
    if [a, b, c].iter().any(|v| f.is_nan(*v)) {
        return nan;
    }
    let zero = |v: u64| v & nan == 0;
    if f.is_inf(a) || f.is_inf(b) {
        if zero(a) || zero(b) || f.is_inf(c) && f.negative(c) != negative {
            return nan;
        }
        return u64::from(negative) << (f.bits - 1) | inf;
    }
    if f.is_inf(c) {
        return c;
    }
    let p = f.value(a).times(f.value(b));
    let s = p.plus(f.value(c));
    // An exact zero is +0 unless both terms are negative zeros (or the mode rounds down).
    let both = negative && f.negative(c);
    let mixed = negative != f.negative(c);
    f.round(s, mode, both || mixed && mode == Mode::Down)
}
