//! A domain of ranges: each result contains every value that the arguments' ranges allow.
//!
//! Bounds are rounded outward, so that ranges hold for exact and for f64 arithmetic, with and without the rounding of
//! casts and stores. Correlations are not seen: `x - x` of `0..1` is `-1..1`.

use crate::eval::domain::{Domain, Sort};
use crate::eval::real;
use crate::{Binary, DType, Reduction, Unary};

/// Numbers as ranges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval;

/// A closed range of extended reals; truth values are ranges within 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Range {
    /// Everything.
    pub const ALL: Range = Range { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// The range between two bounds; everything if one is no number.
    pub fn new(low: f64, high: f64) -> Range {
        if low.is_nan() || high.is_nan() || low > high { Range::ALL } else { Range { low, high } }
    }

    /// A single number.
    pub fn point(x: f64) -> Range {
        Range::new(x, x)
    }

    /// Whether a number is in the range.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// The smallest range that holds both.
    pub fn hull(self, other: Range) -> Range {
        Range::new(self.low.min(other.low), self.high.max(other.high))
    }

    fn is_point(&self) -> bool {
        self.low == self.high
    }

    fn is_infinite(&self) -> bool {
        self.is_point() && self.low.is_infinite()
    }

    /// Bounds of what is computed of numbers: moved outward by a few units in the last place, unless they are exact.
    ///
    /// What overflows in f64 is large and finite: infinite for certain is only what is so of infinities.
    fn outward(low: f64, high: f64, of: &[Range], exact: bool) -> Range {
        match (exact, of.iter().any(Range::is_infinite)) {
            (true, _) => Range::new(low, high),
            (false, true) => Range::widened(low, high),
            (false, false) => Range::widened(low.min(f64::MAX), high.max(f64::MIN)),
        }
    }

    /// The range and a few units in the last place around it.
    fn widened(low: f64, high: f64) -> Range {
        let down = |x: f64| if x.is_finite() { x.next_down().next_down() } else { x };
        let up = |x: f64| if x.is_finite() { x.next_up().next_up() } else { x };
        Range::new(down(low), up(high))
    }
}

/// The truth values that are possible.
fn truth(can_fail: bool, can_hold: bool) -> Range {
    Range::new(f64::from(u8::from(!can_fail)), f64::from(u8::from(can_hold)))
}

/// Whether sums and products of these are exact in f64: all are multiples of 1/512, and below 2^17, or integers below 2^26.
fn is_exact(a: Range, b: Range) -> bool {
    let all = [a.low, a.high, b.low, b.high];
    let small = |unit: f64| all.iter().all(|x| (x / unit).fract() == 0.0 && (x / unit).abs() < 6.7e7);
    small(1.0) || small(1.0 / 512.0)
}

fn product(a: Range, b: Range) -> Range {
    // 0 * inf occurs at corners only where the other factor is 0, and is 0 there.
    let mul = |x: f64, y: f64| if x == 0.0 || y == 0.0 { 0.0 } else { x * y };
    let corners = [mul(a.low, b.low), mul(a.low, b.high), mul(a.high, b.low), mul(a.high, b.high)];
    let low = corners.into_iter().fold(f64::INFINITY, f64::min);
    let high = corners.into_iter().fold(f64::NEG_INFINITY, f64::max);
    Range::outward(low, high, &[a, b], is_exact(a, b))
}

fn inverse(x: Range) -> Range {
    if x.low > 0.0 || x.high < 0.0 {
        Range::outward(1.0 / x.high, 1.0 / x.low, &[x], false)
    } else {
        Range::ALL
    }
}

fn floor(x: Range) -> Range {
    Range::new(x.low.floor(), x.high.floor())
}

impl Domain for Interval {
    type T = Range;

    fn num(&self, x: f64) -> Range {
        Range::point(x)
    }

    fn undefined(&self) -> Range {
        Range::ALL
    }

    fn index(&self, x: Range) -> Option<i64> {
        if x.is_point() { real::index(x.low) } else { None }
    }

    fn is_known(&self, x: Range) -> bool {
        x.is_point()
    }

    fn truth(&self, x: Range) -> bool {
        x.low != 0.0
    }

    fn unary(&self, op: Unary, _: Sort, x: Range) -> Range {
        let monotone = |f: fn(f64) -> f64| Range::outward(f(x.low), f(x.high), &[x], false);
        let within = |r: Range, low: f64, high: f64| Range::new(r.low.max(low), r.high.min(high));
        match op {
            Unary::Neg => Range::new(-x.high, -x.low),
            Unary::Not => truth(x.contains(1.0) || !x.contains(0.0), x.contains(0.0)),
            Unary::Abs => match x {
                Range { low, .. } if low >= 0.0 => x,
                Range { high, .. } if high <= 0.0 => Range::new(-x.high, -x.low),
                _ => Range::new(0.0, x.high.max(-x.low)),
            },
            Unary::Inv => inverse(x),
            Unary::Exp => within(monotone(f64::exp), 0.0, f64::INFINITY),
            Unary::Exp2 => within(monotone(f64::exp2), 0.0, f64::INFINITY),
            Unary::Log if x.low >= 0.0 => Range::widened(x.low.ln(), x.high.ln()),
            Unary::Sqrt if x.low >= 0.0 => within(monotone(f64::sqrt), 0.0, f64::INFINITY),
            Unary::Rsqrt if x.low > 0.0 => within(
                Range::outward(1.0 / x.high.sqrt(), 1.0 / x.low.sqrt(), &[x], false),
                0.0,
                f64::INFINITY,
            ),
            Unary::Log | Unary::Sqrt | Unary::Rsqrt => Range::ALL,
            Unary::Tanh => within(monotone(f64::tanh), -1.0, 1.0),
            Unary::Sin | Unary::Cos if x.is_point() => {
                let y = real::unary(op, x.low);
                within(Range::outward(y, y, &[x], false), -1.0, 1.0)
            }
            Unary::Sin | Unary::Cos => Range::new(-1.0, 1.0),
            Unary::Floor => floor(x),
        }
    }

    fn binary(&self, op: Binary, _: Sort, a: Range, b: Range) -> Range {
        match op {
            Binary::Add => Range::outward(a.low + b.low, a.high + b.high, &[a, b], is_exact(a, b)),
            Binary::Sub => Range::outward(a.low - b.high, a.high - b.low, &[a, b], is_exact(a, b)),
            Binary::Mul => product(a, b),
            Binary::Div => product(a, inverse(b)),
            Binary::FloorDiv | Binary::Mod if a.is_point() && b.is_point() => {
                Range::point(real::binary(op, a.low, b.low))
            }
            Binary::FloorDiv => floor(product(a, inverse(b))),
            Binary::Mod if b.low > 0.0 => Range::new(0.0, b.high),
            Binary::Mod => Range::ALL,
            Binary::Max => Range::new(a.low.max(b.low), a.high.max(b.high)),
            Binary::Min => Range::new(a.low.min(b.low), a.high.min(b.high)),
            Binary::Lt => truth(a.high >= b.low, a.low < b.high),
            Binary::Le => truth(a.high > b.low, a.low <= b.high),
            Binary::Gt => truth(a.low <= b.high, a.high > b.low),
            Binary::Ge => truth(a.low < b.high, a.high >= b.low),
            Binary::Eq => truth(!(a.is_point() && a == b), a.low <= b.high && b.low <= a.high),
            Binary::Ne => truth(a.low <= b.high && b.low <= a.high, !(a.is_point() && a == b)),
            Binary::Random => Range::new(0.0, 1.0),
            Binary::And => Range::new(a.low.min(b.low), a.high.min(b.high)),
            Binary::Or => Range::new(a.low.max(b.low), a.high.max(b.high)),
        }
    }

    fn select(&self, c: Range, a: Range, b: Range) -> Range {
        match (c.contains(0.0), c.low == 0.0 && c.high == 0.0) {
            (_, true) => b,
            (false, _) => a,
            _ => a.hull(b),
        }
    }

    fn cast(&self, to: DType, x: Range) -> Range {
        // Rounding is monotone. A narrower float may or may not be rounded to, and both are held.
        let rounded = Range::new(to.round(x.low), to.round(x.high));
        if to.is_float() { rounded.hull(x) } else { rounded }
    }

    fn is_identity(&self, op: Reduction, x: Range) -> bool {
        x.is_point() && x.low == op.identity()
    }
}
