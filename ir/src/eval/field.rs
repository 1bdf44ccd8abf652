//! A domain in which algebraic identities hold exactly: residues modulo a large prime, with reals for their order.
//!
//! A number is a residue modulo `P`, where possible also one modulo `Q`, and a real shadow. `P = 2 Q + 1`, both prime,
//! so `4` has order `Q` modulo `P` and `exp x = 4^(x mod Q) mod P` satisfies `exp(a + b) = exp a * exp b` exactly;
//! `exp2` likewise with another base. An exponential has no residue modulo `Q`, so an exponential of one is outside of
//! the method. Other functions are keyed oracles: a fixed random element for each argument. Literals and inputs are
//! dyadic rationals, which both fields contain. Comparisons, maxima and rounding to integers are decided by the shadow:
//! a maximum is one of its arguments, a different one for each partial or running maximum, so a rescale that is
//! dropped shows, and all laws of maxima hold.
//!
//! Two programs that agree here on random inputs are equal up to a chance of about 2^-50, apart from what the shadow
//! decides; rounding of stored values is ignored. What is outside of the method becomes [`FieldValue::is_outside`]
//! instead of a wrong verdict.

use crate::eval::domain::{Domain, Sort};
use crate::eval::real;
use crate::{Binary, DType, Reduction, Unary};

/// The order of the exponents.
const Q: u64 = 1_152_921_504_606_845_789; // 2^60 - 1187
/// The modulus of values.
const P: u64 = 2_305_843_009_213_691_579; // 2 Q + 1 = 2^61 - 2373

/// The exact-identity domain. Oracles depend on the key: an identity that holds by accident for one fails for others.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key of the oracles.
    pub key: u64,
}

/// A number of [`Field`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldValue {
    /// The residue modulo `P`.
    p: u64,
    /// The residue modulo `Q`, if it has one.
    q: Option<u64>,
    /// The real number; infinities are only here, NaN is what is outside of the method.
    shadow: f64,
}

impl FieldValue {
    /// Whether the method says nothing about this number.
    pub fn is_outside(&self) -> bool {
        self.shadow.is_nan()
    }

    /// Whether two numbers are the same. What is outside is the same as nothing.
    pub fn same(&self, other: &FieldValue) -> bool {
        if self.shadow.is_infinite() || other.shadow.is_infinite() {
            return self.shadow == other.shadow;
        }
        !self.is_outside() && !other.is_outside() && self.p == other.p
    }

    /// The real number that it stands for, approximately.
    pub fn shadow(&self) -> f64 {
        self.shadow
    }

    fn finite(&self) -> bool {
        self.shadow.is_finite()
    }
}

fn mul(a: u64, b: u64, m: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(m)) as u64
}

fn pow(mut base: u64, mut exponent: u64, m: u64) -> u64 {
    let mut out = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = mul(out, base, m);
        }
        base = mul(base, base, m);
        exponent >>= 1;
    }
    out
}

fn add(a: u64, b: u64, m: u64) -> u64 {
    ((u128::from(a) + u128::from(b)) % u128::from(m)) as u64
}

fn inverse(a: u64, m: u64) -> u64 {
    pow(a, m - 2, m)
}

/// The residue of a finite real, which is an integer times a power of two.
fn residue(x: f64, m: u64) -> u64 {
    let bits = x.abs().to_bits();
    let (exponent, fraction) = ((bits >> 52) as i64, bits & ((1 << 52) - 1));
    let (mantissa, exponent) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    let base = if exponent < 0 { inverse(2, m) } else { 2 };
    let r = mul(mantissa % m, pow(base, exponent.unsigned_abs(), m), m);
    if x < 0.0 && r != 0 { m - r } else { r }
}

/// A fixed random word for each word.
fn scramble(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Field {
    /// A random element with the given shadow; equal for equal seeds.
    pub fn random(&self, shadow: f64, seed: u64) -> FieldValue {
        let a = scramble(seed ^ scramble(self.key));
        FieldValue { p: a % P, q: Some(scramble(a) % Q), shadow }
    }

    fn outside(&self) -> FieldValue {
        FieldValue { p: 0, q: None, shadow: f64::NAN }
    }

    /// Infinities and what is outside carry no residues.
    fn special(&self, shadow: f64) -> FieldValue {
        FieldValue { p: 0, q: None, shadow }
    }

    fn add(&self, a: FieldValue, b: FieldValue) -> FieldValue {
        if !a.finite() || !b.finite() {
            return self.special(a.shadow + b.shadow);
        }
        let q = a.q.zip(b.q).map(|(x, y)| add(x, y, Q));
        self.checked(FieldValue { p: add(a.p, b.p, P), q, shadow: a.shadow + b.shadow })
    }

    fn neg(&self, a: FieldValue) -> FieldValue {
        let minus = |r: u64, m: u64| if r == 0 { 0 } else { m - r };
        FieldValue { p: minus(a.p, P), q: a.q.map(|r| minus(r, Q)), shadow: -a.shadow }
    }

    fn mul(&self, a: FieldValue, b: FieldValue) -> FieldValue {
        if !a.finite() || !b.finite() {
            return self.special(a.shadow * b.shadow);
        }
        let q = a.q.zip(b.q).map(|(x, y)| mul(x, y, Q));
        self.checked(FieldValue { p: mul(a.p, b.p, P), q, shadow: a.shadow * b.shadow })
    }

    /// A finite result whose shadow overflowed is outside: its order is lost.
    fn checked(&self, x: FieldValue) -> FieldValue {
        if x.finite() { x } else { self.outside() }
    }

    fn inv(&self, a: FieldValue) -> FieldValue {
        if a.shadow.is_infinite() {
            return self.num(0.0);
        }
        if a.is_outside() || a.p == 0 || a.q == Some(0) {
            return self.outside();
        }
        self.checked(FieldValue { p: inverse(a.p, P), q: a.q.map(|r| inverse(r, Q)), shadow: 1.0 / a.shadow })
    }

    fn exponential(&self, base: u64, x: FieldValue, shadow: f64) -> FieldValue {
        match (x.shadow, x.q) {
            (f64::NEG_INFINITY, _) => self.num(0.0),
            (f64::INFINITY, _) => self.special(f64::INFINITY),
            (_, Some(q)) if x.finite() => self.checked(FieldValue { p: pow(base, q, P), q: None, shadow }),
            _ => self.outside(),
        }
    }

    fn oracle(&self, name: u64, x: FieldValue, shadow: f64) -> FieldValue {
        if !x.finite() || !shadow.is_finite() {
            return self.special(shadow);
        }
        self.random(shadow, x.p ^ scramble(name))
    }
}

impl Domain for Field {
    type T = FieldValue;

    fn num(&self, x: f64) -> FieldValue {
        if !x.is_finite() {
            return self.special(x);
        }
        FieldValue { p: residue(x, P), q: Some(residue(x, Q)), shadow: x }
    }

    fn undefined(&self) -> FieldValue {
        self.outside()
    }

    fn index(&self, x: FieldValue) -> Option<i64> {
        real::index(x.shadow)
    }

    fn truth(&self, x: FieldValue) -> bool {
        x.shadow != 0.0
    }

    fn unary(&self, op: Unary, _: Sort, x: FieldValue) -> FieldValue {
        let shadow = real::unary(op, x.shadow);
        match op {
            Unary::Neg => self.neg(x),
            Unary::Abs => {
                if x.shadow < 0.0 {
                    self.neg(x)
                } else {
                    x
                }
            }
            Unary::Not | Unary::Floor => self.num(shadow),
            Unary::Inv => self.inv(x),
            // Two generators of the squares, so that the exponentials are unrelated.
            Unary::Exp => self.exponential(4, x, shadow),
            Unary::Exp2 => self.exponential(9, x, shadow),
            Unary::Rsqrt => self.inv(self.oracle(Unary::Sqrt as u64, x, x.shadow.sqrt())),
            Unary::Sqrt | Unary::Log | Unary::Tanh | Unary::Sin | Unary::Cos => {
                self.oracle(op as u64, x, shadow)
            }
        }
    }

    fn binary(&self, op: Binary, _: Sort, a: FieldValue, b: FieldValue) -> FieldValue {
        let shadow = real::binary(op, a.shadow, b.shadow);
        match op {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.add(a, self.neg(b)),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.mul(a, self.inv(b)),
            Binary::FloorDiv => self.num(shadow),
            Binary::Mod => self.add(a, self.neg(self.mul(b, self.num((a.shadow / b.shadow).floor())))),
            Binary::Max | Binary::Min => {
                if a.is_outside() || b.is_outside() {
                    self.outside()
                } else if (a.shadow > b.shadow) == (op == Binary::Max) {
                    a
                } else {
                    b
                }
            }
            // Equal numbers may have shadows that differ by rounding.
            Binary::Eq => self.num(f64::from(u8::from(a.same(&b)))),
            Binary::Ne => self.num(f64::from(u8::from(!a.same(&b)))),
            _ if a.is_outside() || b.is_outside() => self.outside(),
            _ => self.num(shadow),
        }
    }

    fn select(&self, c: FieldValue, a: FieldValue, b: FieldValue) -> FieldValue {
        if c.is_outside() {
            self.outside()
        } else if self.truth(c) {
            a
        } else {
            b
        }
    }

    fn cast(&self, to: DType, x: FieldValue) -> FieldValue {
        if to.is_float() || !x.finite() { x } else { self.num(to.round(x.shadow)) }
    }

    fn is_identity(&self, op: Reduction, x: FieldValue) -> bool {
        match op {
            Reduction::Sum => x.finite() && x.p == 0,
            _ => x.shadow == op.identity(),
        }
    }
}
