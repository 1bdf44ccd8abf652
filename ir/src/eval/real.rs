//! The two domains that compute with real numbers: exact in f64, and rounded as a device rounds.

use crate::eval::domain::{Arg, Domain, Sort};
use crate::random::uniform;
use crate::{Binary, DType, Reduction, Unary};

/// Real numbers in f64; nothing is rounded to narrower types. The reference for everything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct F64;

/// Real numbers as a device has them: arithmetic in single precision (in double where a declared type says so), exact
/// integers, and values rounded to their declared types when they are stored. The order of sums is not specified.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounded;

/// A function of one real argument.
pub(crate) fn unary(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Neg => -x,
        Unary::Not => truth(x == 0.0),
        Unary::Abs => x.abs(),
        Unary::Inv => 1.0 / x,
        Unary::Exp => x.exp(),
        Unary::Exp2 => x.exp2(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Tanh => x.tanh(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Floor => x.floor(),
    }
}

/// A function of two real arguments. NaN is outside the laws; maxima pass it on, so that it is seen.
#[inline(always)]
pub(crate) fn binary(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::FloorDiv => (a / b).floor(),
        Binary::Mod => a - b * (a / b).floor(),
        Binary::Max => {
            if a > b || a.is_nan() {
                a
            } else {
                b
            }
        }
        Binary::Min => {
            if a < b || a.is_nan() {
                a
            } else {
                b
            }
        }
        Binary::Lt => truth(a < b),
        Binary::Le => truth(a <= b),
        Binary::Gt => truth(a > b),
        Binary::Ge => truth(a >= b),
        Binary::Eq => truth(a == b),
        Binary::Ne => truth(a != b),
        Binary::And => truth(a != 0.0 && b != 0.0),
        Binary::Or => truth(a != 0.0 || b != 0.0),
        Binary::Random => match (index(a), index(b)) {
            (Some(key), Some(counter)) => f64::from(uniform(key, counter)),
            _ => f64::NAN,
        },
    }
}

#[inline(always)]
fn truth(x: bool) -> f64 {
    f64::from(u8::from(x))
}

/// The integer that a real is.
pub(crate) fn index(x: f64) -> Option<i64> {
    // Beyond 2^53 neighbouring integers are not told apart, so nothing there is an index.
    (x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0).then_some(x as i64)
}

impl Domain for F64 {
    type T = f64;

    fn num(&self, x: f64) -> f64 {
        x
    }

    fn undefined(&self) -> f64 {
        f64::NAN
    }

    fn index(&self, x: f64) -> Option<i64> {
        index(x)
    }

    #[inline(always)]
    fn truth(&self, x: f64) -> bool {
        x != 0.0
    }

    #[inline(always)]
    fn unary(&self, op: Unary, _: Sort, x: f64) -> f64 {
        unary(op, x)
    }

    #[inline(always)]
    fn binary(&self, op: Binary, _: Sort, a: f64, b: f64) -> f64 {
        binary(op, a, b)
    }

    fn cast(&self, to: DType, x: f64) -> f64 {
        if to.is_float() { x } else { to.round(x) }
    }

    fn is_identity(&self, op: Reduction, x: f64) -> bool {
        x == op.identity()
    }

    fn dot(&self, _: Sort, acc: f64, a: Arg<'_, f64>, b: Arg<'_, f64>, len: usize) -> f64 {
        let (Arg::Slice(a), Arg::Slice(b)) = (a, b) else {
            return (0..len).fold(acc, |acc, i| acc + a.get(i) * b.get(i));
        };
        // Eight partial sums: they keep the adders busy, and their error is smaller than that of one.
        let mut lanes = [0.0; 8];
        let (mut xs, mut ys) = (a[..len].chunks_exact(8), b[..len].chunks_exact(8));
        for (x, y) in (&mut xs).zip(&mut ys) {
            for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
                *lane += x * y;
            }
        }
        let tail: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
        acc + (lanes.iter().sum::<f64>() + tail)
    }

    fn reduce(&self, op: Binary, sort: Sort, acc: f64, x: Arg<'_, f64>, len: usize) -> f64 {
        let Arg::Slice(x) = x else {
            return (0..len).fold(acc, |acc, i| self.binary(op, sort, acc, x.get(i)));
        };
        let x = &x[..len];
        match op {
            Binary::Add => {
                let mut lanes = [0.0; 8];
                let mut chunks = x.chunks_exact(8);
                for x in &mut chunks {
                    lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane += x);
                }
                acc + (lanes.iter().sum::<f64>() + chunks.remainder().iter().sum::<f64>())
            }
            _ => x.iter().fold(acc, |acc, &x| binary(op, acc, x)),
        }
    }
}

#[inline(always)]
fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

impl Domain for Rounded {
    type T = f64;

    fn num(&self, x: f64) -> f64 {
        x
    }

    fn undefined(&self) -> f64 {
        f64::NAN
    }

    fn index(&self, x: f64) -> Option<i64> {
        index(x)
    }

    #[inline(always)]
    fn truth(&self, x: f64) -> bool {
        x != 0.0
    }

    #[inline(always)]
    fn unary(&self, op: Unary, sort: Sort, x: f64) -> f64 {
        // Rounding the f64 result once is the correctly rounded single-precision function, but for results of the
        // transcendental ones that lie next to a tie.
        if sort == Sort::F32 { single(unary(op, single(x))) } else { unary(op, x) }
    }

    #[inline(always)]
    fn binary(&self, op: Binary, sort: Sort, a: f64, b: f64) -> f64 {
        // 53 bits are more than twice 24 plus 2, so rounding twice is rounding once for + - * / and the square root.
        if sort == Sort::F32 { single(binary(op, single(a), single(b))) } else { binary(op, a, b) }
    }

    fn cast(&self, to: DType, x: f64) -> f64 {
        to.round(x)
    }

    fn is_identity(&self, op: Reduction, x: f64) -> bool {
        x == op.identity()
    }

    fn dot(&self, sort: Sort, acc: f64, a: Arg<'_, f64>, b: Arg<'_, f64>, len: usize) -> f64 {
        let mul = |i| self.binary(Binary::Mul, sort, a.get(i), b.get(i));
        let mut lanes = [0.0; 8];
        for i in 0..len {
            lanes[i % 8] = self.binary(Binary::Add, sort, lanes[i % 8], mul(i));
        }
        lanes.iter().fold(acc, |acc, &x| self.binary(Binary::Add, sort, acc, x))
    }

    fn reduce(&self, op: Binary, sort: Sort, acc: f64, x: Arg<'_, f64>, len: usize) -> f64 {
        if op != Binary::Add {
            return (0..len).fold(acc, |acc, i| self.binary(op, sort, acc, x.get(i)));
        }
        let mut lanes = [0.0; 8];
        for i in 0..len {
            lanes[i % 8] = self.binary(Binary::Add, sort, lanes[i % 8], x.get(i));
        }
        lanes.iter().fold(acc, |acc, &x| self.binary(Binary::Add, sort, acc, x))
    }
}
