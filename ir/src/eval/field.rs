//! A domain in which algebraic identities hold exactly: residues modulo a large prime, with reals for their order.
//!
//! A number is a residue modulo `P = 2^61 - 2373`, where possible also one modulo `Q = 2^60 - 1187`, and a real shadow.
//! `P = 2 Q + 1`, both prime, so `4` has order `Q` modulo `P` and `exp x = 4^(x mod Q) mod P` satisfies
//! `exp(a + b) = exp a * exp b` exactly; `exp2` likewise with another base. An exponential has no residue modulo `Q`, so
//! an exponential of what depends on one is a keyed oracle (of which only `exp(-x) = inv(exp x)` is known), and the
//! result is *loose*: that two such numbers are the same is conclusive, that they differ is not. Logarithms are keyed oracles,
//! which know nothing of exponentials, so that of a product with an exponential or a quotient in it is loose, and so is an
//! exponential of a sum with a logarithm. Other functions are keyed oracles too: a fixed random element for each argument. Literals and inputs are rationals, which both fields
//! contain: the fraction with a small denominator that they are nearest to, if any, else the dyadic one that they are. Comparisons, maxima and rounding to integers are decided by the shadow: a maximum is one of its
//! arguments, a different one for each partial or running maximum, so a rescale that is dropped shows, and all laws of
//! maxima hold.
//!
//! Two programs that agree here on random inputs are equal up to a chance of about 2^-50, apart from what the shadow
//! decides; rounding of stored values is ignored. What is outside of the method (an infinity minus itself, an overflow)
//! becomes [`FieldValue::is_outside`] instead of a wrong verdict.

use std::sync::OnceLock;

use crate::eval::domain::{Domain, Sort};
use crate::eval::real;
use crate::{Binary, DType, Reduction, Unary, splitmix};

/// A prime field whose modulus is `2^BITS - LESS`.
#[derive(Clone, Copy)]
struct Prime {
    bits: u32,
    less: u64,
}

/// The field of values.
const P: Prime = Prime { bits: 61, less: 2373 };
/// The field of exponents: `P = 2 Q + 1`.
const Q: Prime = Prime { bits: 60, less: 1187 };

impl Prime {
    const fn modulus(self) -> u64 {
        (1 << self.bits) - self.less
    }

    #[inline(always)]
    fn add(self, a: u64, b: u64) -> u64 {
        let sum = a + b;
        if sum >= self.modulus() { sum - self.modulus() } else { sum }
    }

    #[inline(always)]
    fn neg(self, a: u64) -> u64 {
        if a == 0 { 0 } else { self.modulus() - a }
    }

    /// `2^BITS` is `LESS` here, so the high part of a product folds onto the low one; twice is enough.
    #[inline(always)]
    fn mul(self, a: u64, b: u64) -> u64 {
        let mask = (1u128 << self.bits) - 1;
        let x = u128::from(a) * u128::from(b);
        let x = (x >> self.bits) * u128::from(self.less) + (x & mask);
        let x = ((x >> self.bits) * u128::from(self.less) + (x & mask)) as u64;
        if x >= self.modulus() { x - self.modulus() } else { x }
    }

    fn pow(self, mut base: u64, mut exponent: u64) -> u64 {
        let mut out = 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                out = self.mul(out, base);
            }
            base = self.mul(base, base);
            exponent >>= 1;
        }
        out
    }

    fn inverse(self, a: u64) -> u64 {
        self.pow(a, self.modulus() - 2)
    }

    /// The residue of a finite real, which is an integer times a power of two; `powers` are those from 2^-1074 on.
    fn residue(self, x: f64, powers: &[u64]) -> u64 {
        let bits = x.to_bits() & !(1 << 63);
        let (exponent, fraction) = ((bits >> 52) as usize, bits & ((1 << 52) - 1));
        let (mantissa, power) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let r = self.mul(mantissa, powers[power]);
        if x < 0.0 { self.neg(r) } else { r }
    }

    /// The powers of two from 2^-1074 to the largest exponent of a double.
    fn powers(self) -> Vec<u64> {
        let mut power = self.inverse(self.pow(2, 1074));
        (0..2046)
            .map(|_| {
                let this = power;
                power = self.mul(power, 2);
                this
            })
            .collect()
    }
}

/// The powers of two in both fields.
fn powers() -> &'static (Vec<u64>, Vec<u64>) {
    static POWERS: OnceLock<(Vec<u64>, Vec<u64>)> = OnceLock::new();
    POWERS.get_or_init(|| (P.powers(), Q.powers()))
}

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
    /// What is known of how it came to be.
    marks: u8,
}

/// Whether a law of exponentials or logarithms may have been lost on the way.
const LOOSE: u8 = 1;
/// An exponential, a quotient, or a product with one: its logarithm is a sum.
const POWER: u8 = 2;
/// A logarithm, or a sum or product with one: its exponential is a product.
const LOGARITHM: u8 = 4;

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

    /// Whether a difference from another number may be due to the method. See the module's documentation.
    pub fn is_loose(&self) -> bool {
        self.marks & LOOSE != 0
    }

    /// The real number that it stands for, approximately.
    pub fn shadow(&self) -> f64 {
        self.shadow
    }

    fn finite(&self) -> bool {
        self.shadow.is_finite()
    }
}

/// The fraction with a small denominator of which `x` is the nearest double, if there is one and `x` is not exact.
///
/// Programs fold constants in double precision: `x / 40` becomes `x * 0.025`, which is meant to be a fortieth.
fn fraction(x: f64) -> Option<(f64, f64)> {
    const DENOMINATOR: f64 = (1u64 << 20) as f64;
    if (x * DENOMINATOR).fract() == 0.0 || x.abs() > DENOMINATOR {
        return None;
    }
    // Convergents of the continued fraction.
    let (mut rest, mut above, mut below) = (x, (1.0, x.floor()), (0.0, 1.0));
    for _ in 0..24 {
        rest = 1.0 / (rest - rest.floor());
        let whole = rest.floor();
        above = (above.1, whole * above.1 + above.0);
        below = (below.1, whole * below.1 + below.0);
        if below.1 > DENOMINATOR || !rest.is_finite() {
            return None;
        }
        if above.1 / below.1 == x {
            return Some((above.1, below.1));
        }
    }
    None
}

/// A fixed random word for each word.
fn scramble(x: u64) -> u64 {
    splitmix::at(x, 1)
}

impl Field {
    /// A random element with the given shadow; equal for equal seeds.
    pub fn random(&self, shadow: f64, seed: u64) -> FieldValue {
        let a = scramble(seed ^ scramble(self.key));
        FieldValue { p: a % P.modulus(), q: Some(scramble(a) % Q.modulus()), shadow, marks: 0 }
    }

    fn outside(&self) -> FieldValue {
        self.special(f64::NAN)
    }

    /// Infinities and what is outside carry no residues.
    fn special(&self, shadow: f64) -> FieldValue {
        FieldValue { p: 0, q: None, shadow, marks: 0 }
    }

    fn add(&self, a: FieldValue, b: FieldValue) -> FieldValue {
        if !a.finite() || !b.finite() {
            return self.special(a.shadow + b.shadow);
        }
        let q = a.q.zip(b.q).map(|(x, y)| Q.add(x, y));
        let (shadow, marks) = (a.shadow + b.shadow, (a.marks | b.marks) & !POWER);
        self.checked(FieldValue { p: P.add(a.p, b.p), q, shadow, marks })
    }

    fn neg(&self, a: FieldValue) -> FieldValue {
        FieldValue { p: P.neg(a.p), q: a.q.map(|r| Q.neg(r)), shadow: -a.shadow, marks: a.marks }
    }

    fn mul(&self, a: FieldValue, b: FieldValue) -> FieldValue {
        if !a.finite() || !b.finite() {
            return self.special(a.shadow * b.shadow);
        }
        let q = a.q.zip(b.q).map(|(x, y)| Q.mul(x, y));
        let (shadow, marks) = (a.shadow * b.shadow, a.marks | b.marks);
        self.checked(FieldValue { p: P.mul(a.p, b.p), q, shadow, marks })
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
        let (p, q) = (P.inverse(a.p), a.q.map(|r| Q.inverse(r)));
        self.checked(FieldValue { p, q, shadow: 1.0 / a.shadow, marks: a.marks | POWER })
    }

    fn exponential(&self, base: u64, x: FieldValue, shadow: f64) -> FieldValue {
        let marks = if x.marks & LOGARITHM != 0 { LOOSE } else { x.marks & LOOSE } | POWER;
        match (x.shadow, x.q) {
            (f64::NEG_INFINITY, _) => self.num(0.0),
            (f64::INFINITY, _) => self.special(f64::INFINITY),
            _ if !x.finite() => self.outside(),
            (_, Some(q)) => self.checked(FieldValue { p: P.pow(base, q), q: None, shadow, marks }),
            (_, None) => {
                // The smaller of x and -x is looked up.
                let turned = x.p > P.neg(x.p);
                let key = if turned { P.neg(x.p) } else { x.p };
                let p = self.random(shadow, key ^ scramble(base << 32)).p;
                let p = if turned { P.inverse(p) } else { p };
                self.checked(FieldValue { p, q: None, shadow, marks: marks | LOOSE })
            }
        }
    }

    fn oracle(&self, name: u64, x: FieldValue, shadow: f64) -> FieldValue {
        if !x.finite() || !shadow.is_finite() {
            return self.special(shadow);
        }
        FieldValue { marks: x.marks & LOOSE, ..self.random(shadow, x.p ^ scramble(name)) }
    }
}

impl Domain for Field {
    type T = FieldValue;

    fn num(&self, x: f64) -> FieldValue {
        if !x.is_finite() {
            return self.special(x);
        }
        if let Some((above, below)) = fraction(x) {
            return FieldValue { shadow: x, ..self.mul(self.num(above), self.inv(self.num(below))) };
        }
        let (p, q) = powers();
        FieldValue { p: P.residue(x, p), q: Some(Q.residue(x, q)), shadow: x, marks: 0 }
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
            Unary::Log => {
                let lost = if x.marks & POWER != 0 { LOOSE } else { x.marks & LOOSE };
                FieldValue { marks: lost | LOGARITHM, ..self.oracle(op as u64, x, shadow) }
            }
            Unary::Sqrt | Unary::Tanh | Unary::Sin | Unary::Cos => self.oracle(op as u64, x, shadow),
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
        if to.is_float() || x.is_outside() { x } else { self.num(to.round(x.shadow)) }
    }

    fn is_identity(&self, op: Reduction, x: FieldValue) -> bool {
        match op {
            Reduction::Sum => x.finite() && x.p == 0,
            _ => x.shadow == op.identity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_the_fractions_that_were_meant() {
        for (above, below) in [(1.0, 40.0), (-1.0, 3.0), (22.0, 7.0), (1.0, 1_000_000.0), (5.0, 48.0)] {
            assert_eq!(fraction(above / below), Some((above, below)));
        }
        for x in
            [0.0, 1.0, -2.5, 0.1f64.exp(), 1e-300, 1e300, f64::MIN_POSITIVE, std::f64::consts::FRAC_1_SQRT_2]
        {
            assert_eq!(fraction(x), None, "{x}");
        }
    }

    #[test]
    fn the_fields_are_fields() {
        for m in [P, Q] {
            let n = u128::from(m.modulus());
            let mut x = 12345;
            for _ in 0..2000 {
                let (a, b) = (scramble(x) % m.modulus(), scramble(x + 1) % m.modulus());
                x += 2;
                assert_eq!(u128::from(m.mul(a, b)), u128::from(a) * u128::from(b) % n);
                assert_eq!(u128::from(m.add(a, b)), (u128::from(a) + u128::from(b)) % n);
                assert_eq!(m.mul(a, m.inverse(a)), 1);
                assert_eq!(m.add(a, m.neg(a)), 0);
            }
            let top = m.modulus() - 1;
            assert_eq!(m.mul(top, top), 1);
        }
        // Both bases have order Q modulo P.
        assert_eq!([P.pow(4, Q.modulus()), P.pow(9, Q.modulus())], [1, 1]);
        assert_eq!(P.modulus(), 2 * Q.modulus() + 1);
    }
}
