//! Numbers that know how wrong they may be.
//!
//! Terms of one class are evaluated in different orders, and some of them cancel badly. A bound on the error of each value
//! tells a rounding error from a wrong law, and a value that lost all its digits from one that says something.

use tilewright_ir::random::uniform;
use tilewright_ir::{Binary, DType, Reduction, Unary};

const EPS: f64 = f64::EPSILON;

/// A value and a bound on its error; NaN where it is undefined.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub x: f64,
    pub e: f64,
}

pub const UNDEFINED: Number = Number { x: f64::NAN, e: 0.0 };

fn exact(x: f64) -> Number {
    Number { x, e: 0.0 }
}

fn whole(n: Number) -> bool {
    n.e == 0.0 && n.x.fract() == 0.0 && n.x.abs() < 2f64.powi(50)
}

impl Number {
    /// An element of an input.
    pub fn given(x: f64) -> Number {
        exact(x)
    }

    /// A literal: laws may have computed it.
    pub fn literal(x: f64) -> Number {
        let e = if x.fract() == 0.0 || x.is_infinite() { 0.0 } else { EPS * x.abs() };
        Number { x, e }
    }

    pub fn defined(self) -> bool {
        !self.x.is_nan()
    }

    /// Whether enough digits are left for a comparison to mean something.
    pub fn sharp(self) -> bool {
        self.defined() && (self.x.is_infinite() || self.e <= 1e-6 * self.x.abs().max(1.0))
    }

    pub fn agrees(self, other: Number) -> bool {
        self.x == other.x || (self.x - other.x).abs() <= 4.0 * (self.e + other.e) + 1e-250
    }

    fn truth(self) -> Option<bool> {
        if self.x.is_nan() || (self.e > 0.0 && self.x.abs() <= self.e) { None } else { Some(self.x != 0.0) }
    }

    /// What is finite must not become infinite by being large.
    fn checked(self, finite: bool) -> Number {
        if finite && self.x.is_infinite() || self.e.is_nan() || self.e.is_infinite() {
            UNDEFINED
        } else {
            self
        }
    }

    fn add(self, b: Number) -> Number {
        let x = self.x + b.x;
        if !self.x.is_finite() || !b.x.is_finite() {
            return exact(x);
        }
        let e = if whole(self) && whole(b) { 0.0 } else { self.e + b.e + EPS * x.abs() };
        Number { x, e }.checked(true)
    }

    fn mul(self, b: Number) -> Number {
        let x = self.x * b.x;
        if self.x.is_infinite() || b.x.is_infinite() {
            let zero = |n: Number| n.x.is_finite() && n.x.abs() <= n.e;
            return if zero(self) || zero(b) { UNDEFINED } else { exact(x) };
        }
        let e = if whole(self) && whole(b) {
            0.0
        } else {
            self.x.abs() * b.e + b.x.abs() * self.e + self.e * b.e + EPS * x.abs()
        };
        Number { x, e }.checked(true)
    }

    fn pick(self, b: Number, larger: bool) -> Number {
        if !self.defined() || !b.defined() {
            return UNDEFINED;
        }
        let x = if larger { self.x.max(b.x) } else { self.x.min(b.x) };
        Number { x, e: self.e.max(b.e) }
    }

    /// The function at the value and at both ends of the interval of error.
    fn monotone(self, f: fn(f64) -> f64) -> Number {
        let x = f(self.x);
        if self.x.is_infinite() {
            return exact(x);
        }
        let ends = [f(self.x - self.e), f(self.x + self.e)].map(|y| (y - x).abs());
        Number { x, e: ends[0].max(ends[1]) + 4.0 * EPS * x.abs() }.checked(true)
    }

    fn steps(self, f: fn(f64) -> f64) -> Number {
        let (lo, hi) = (f(self.x - self.e), f(self.x + self.e));
        if lo == hi { exact(f(self.x)) } else { UNDEFINED }
    }
}

pub fn sum(terms: impl Iterator<Item = Number>) -> Number {
    terms.fold(exact(0.0), Number::add)
}

pub fn product(factors: impl Iterator<Item = Number>) -> Number {
    factors.fold(exact(1.0), Number::mul)
}

pub fn extreme(values: impl Iterator<Item = Number>, larger: bool) -> Number {
    let start = if larger { f64::NEG_INFINITY } else { f64::INFINITY };
    values.fold(exact(start), |a, b| a.pick(b, larger))
}

pub fn reduce(op: Reduction, values: impl Iterator<Item = Number>) -> Number {
    match op {
        Reduction::Sum => sum(values),
        Reduction::Max => extreme(values, true),
        Reduction::Min => extreme(values, false),
    }
}

pub fn unary(f: Unary, a: Number) -> Number {
    if !a.defined() {
        return UNDEFINED;
    }
    let near_zero = a.x.abs() <= a.e;
    match f {
        Unary::Neg => Number { x: -a.x, e: a.e },
        Unary::Not => a.truth().map_or(UNDEFINED, |t| exact(f64::from(u8::from(!t)))),
        Unary::Abs => Number { x: a.x.abs(), e: a.e },
        Unary::Inv if near_zero => UNDEFINED,
        Unary::Inv => a.monotone(|x| 1.0 / x),
        Unary::Exp => a.monotone(f64::exp),
        Unary::Exp2 => a.monotone(f64::exp2),
        Unary::Log if a.x == 0.0 && a.e == 0.0 => exact(f64::NEG_INFINITY),
        Unary::Log | Unary::Rsqrt if a.x <= a.e => UNDEFINED,
        Unary::Log => a.monotone(f64::ln),
        Unary::Rsqrt => a.monotone(|x| 1.0 / x.sqrt()),
        Unary::Sqrt if a.x < -a.e => UNDEFINED,
        Unary::Sqrt => a.monotone(|x| x.max(0.0).sqrt()),
        Unary::Tanh => a.monotone(f64::tanh),
        Unary::Sin | Unary::Cos => {
            let x = if f == Unary::Sin { a.x.sin() } else { a.x.cos() };
            Number { x, e: a.e + EPS }
        }
        Unary::Floor => a.steps(f64::floor),
    }
}

pub fn binary(op: Binary, a: Number, b: Number) -> Number {
    let truth = |t: Option<bool>| t.map_or(UNDEFINED, |t| exact(f64::from(u8::from(t))));
    if !a.defined() || !b.defined() {
        return UNDEFINED;
    }
    let unclear = a.e + b.e > 0.0 && (a.x - b.x).abs() <= a.e + b.e;
    let compare = |t: bool| truth((!unclear).then_some(t));
    match op {
        Binary::Lt => compare(a.x < b.x),
        Binary::Le => compare(a.x <= b.x),
        Binary::Gt => compare(a.x > b.x),
        Binary::Ge => compare(a.x >= b.x),
        Binary::Eq => compare(a.x == b.x),
        Binary::Ne => compare(a.x != b.x),
        Binary::And => truth(a.truth().zip(b.truth()).map(|(a, b)| a && b)),
        Binary::Or => truth(a.truth().zip(b.truth()).map(|(a, b)| a || b)),
        Binary::Random if !(whole(a) && whole(b)) => UNDEFINED,
        Binary::Random => Number::given(f64::from(uniform(a.x as i64, b.x as i64))),
        Binary::Add => a.add(b),
        Binary::Sub => a.add(Number { x: -b.x, e: b.e }),
        Binary::Mul => a.mul(b),
        Binary::Div => a.mul(unary(Unary::Inv, b)),
        Binary::Max => a.pick(b, true),
        Binary::Min => a.pick(b, false),
        Binary::FloorDiv | Binary::Mod => {
            let quotient = match whole(a) && whole(b) && b.x != 0.0 {
                true => exact((a.x / b.x).floor()),
                false => unary(Unary::Floor, a.mul(unary(Unary::Inv, b))),
            };
            if op == Binary::FloorDiv {
                quotient
            } else {
                let back = b.mul(quotient);
                a.add(Number { x: -back.x, e: back.e })
            }
        }
    }
}

pub fn select(c: Number, a: Number, b: Number) -> Number {
    match c.truth() {
        Some(true) => a,
        Some(false) => b,
        None => UNDEFINED,
    }
}

pub fn cast(to: DType, a: Number) -> Number {
    let round = |x: f64| to.round(x);
    if a.defined() && a.e == 0.0 || round(a.x - a.e) == round(a.x + a.e) {
        exact(round(a.x))
    } else {
        UNDEFINED
    }
}
