//! What a term is about: small tensors, axes cut into blocks, and the evaluation of terms by their own syntax.
//!
//! Each number is computed twice: in doubles, and as a range that holds whatever exact arithmetic and any order of
//! rounding give. Two forms of one term whose ranges are apart are different; that numbers differ may be rounding, such
//! as a difference that is 0 in one order and 1e-16 in the other and of which a logarithm is taken.

use std::cell::Cell;
use std::collections::HashMap;

use tilewright_ir::eval::{Domain, Interval, Range, Sort};
use tilewright_ir::{Axis, Binary, Extent, Reduction, Unary};
use tilewright_proof::term::{Id, Node, Part, Piece, Terms};

/// Extents of the axes, and the positions of a block: the last one is ragged, or there is one only, or each has one position.
/// The last axis has none, and is reduced over only.
pub(crate) const EXTENTS: [usize; 4] = [5, 3, 2, 0];
pub(crate) const BLOCKS: [usize; 4] = [2, 3, 1, 1];
/// Which axis has no positions.
pub(crate) const EMPTY: usize = 3;
/// Indices of the tensors.
pub(crate) const TENSORS: [&[usize]; 5] = [&[], &[0], &[1], &[0, 1], &[2]];

/// Where a term is evaluated: positions of whole axes, blocks, positions within them, and whether reductions over the
/// whole axis are about the block.
#[derive(Clone, Default)]
pub(crate) struct Place {
    pub(crate) whole: HashMap<Axis, usize>,
    pub(crate) outer: HashMap<Axis, usize>,
    pub(crate) inner: HashMap<Axis, usize>,
    within: Vec<Axis>,
    /// Of these, those that a reduction within has bound.
    bound: Vec<Axis>,
}

/// A number in doubles, and bounds of what it is exactly and in any order of rounding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) double: f64,
    pub(crate) range: Range,
}

impl Number {
    const UNDEFINED: Number = Number { double: f64::NAN, range: Range::ALL };

    fn exact(x: f64) -> Number {
        Number { double: x, range: Range::point(x) }
    }

    /// Whether this and the other are different however they were rounded.
    pub(crate) fn apart(&self, other: &Number) -> bool {
        self.range.high < other.range.low || other.range.high < self.range.low
    }

    /// Whether doubles agree to most of their digits.
    pub(crate) fn close(&self, other: &Number) -> bool {
        let (a, b) = (self.double, other.double);
        a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    }
}

pub(crate) struct World {
    pub(crate) tensors: Vec<Vec<f64>>,
    /// Which of the first axes an axis is like: normal forms may rename binders.
    pub(crate) like: HashMap<Axis, usize>,
    /// Whether rounding may decide whether a number on the way is defined: then nothing is claimed of that.
    pub(crate) doubtful: Cell<bool>,
}

impl World {
    fn of(&self, a: Axis) -> usize {
        self.like[&a]
    }

    pub(crate) fn value(&self, t: &Terms, id: Id, at: &Place) -> Number {
        let v = |c: Id| self.value(t, c, at);
        match t.node(id) {
            Node::Num(n) => Number::exact(n.0),
            // `part` is about terms in which the axis is not free.
            Node::Pos(a) if at.within.contains(a) && !at.bound.contains(a) => Number::UNDEFINED,
            Node::Pos(a) => Number::exact(at.whole[a] as f64),
            Node::CutPos(a) => Number::exact(self.cut(*a, at)),
            Node::Size(Extent::Const(n)) => Number::exact(*n as f64),
            Node::Read(x, index) => {
                let n = x.as_u32() as usize;
                let mut place = 0;
                for (&i, &a) in index.iter().zip(TENSORS[n]) {
                    let i = v(i).double;
                    if i.is_nan() || i < 0.0 {
                        return Number::UNDEFINED;
                    }
                    // Beyond a ragged block is some number.
                    place = place * EXTENTS[a] + (i as usize).min(EXTENTS[a] - 1);
                }
                Number::exact(self.tensors[n][place])
            }
            Node::Add(c) => self.all(Binary::Add, 0.0, c.iter().map(|&c| v(c))),
            Node::Mul(c) => self.all(Binary::Mul, 1.0, c.iter().map(|&c| v(c))),
            Node::Max(c) => self.all(Binary::Max, f64::NEG_INFINITY, c.iter().map(|&c| v(c))),
            Node::Min(c) => self.all(Binary::Min, f64::INFINITY, c.iter().map(|&c| v(c))),
            Node::Unary(f, x) => self.unary(*f, v(*x)),
            Node::Binary(f, [a, b]) => self.binary(*f, v(*a), v(*b)),
            Node::Select([c, a, b]) => {
                let (c, a, b) = (v(*c), v(*a), v(*b));
                let range = Interval.select(c.range, a.range, b.range);
                self.doubt(c.range.contains(0.0) && c.range != Range::point(0.0));
                let double = match c.double {
                    c if c.is_nan() => return Number::UNDEFINED,
                    c if c != 0.0 => a.double,
                    _ => b.double,
                };
                Number { double, range }
            }
            Node::Reduce(op, pieces, body) => {
                let mut places = vec![at.clone()];
                for p in pieces {
                    places = places.into_iter().flat_map(|at| self.places(p, at)).collect();
                }
                let all = places.iter().map(|at| self.value(t, *body, at));
                match op {
                    Reduction::Sum => self.all(Binary::Add, 0.0, all),
                    Reduction::Max => self.all(Binary::Max, f64::NEG_INFINITY, all),
                    Reduction::Min => self.all(Binary::Min, f64::INFINITY, all),
                }
            }
            Node::Part(j, x) => {
                let mut at = at.clone();
                at.within.push(*j);
                at.bound.retain(|a| a != j);
                self.value(t, *x, &at)
            }
            other => panic!("{other:?} is not made"),
        }
    }

    fn doubt(&self, doubtful: bool) {
        self.doubtful.set(self.doubtful.get() || doubtful);
    }

    /// All numbers by one operation, from its identity on.
    fn all(&self, f: Binary, identity: f64, of: impl Iterator<Item = Number>) -> Number {
        of.fold(Number::exact(identity), |a, b| self.binary(f, a, b))
    }

    fn unary(&self, f: Unary, x: Number) -> Number {
        let range = Interval.unary(f, Sort::F64, x.range);
        let n = x.double;
        let double = match f {
            Unary::Exp => n.exp(),
            Unary::Exp2 => n.exp2(),
            Unary::Abs => n.abs(),
            Unary::Inv if n != 0.0 => 1.0 / n,
            Unary::Tanh => n.tanh(),
            Unary::Log if n >= 0.0 => n.ln(),
            _ => f64::NAN,
        };
        // An exponential of a double may overflow, and a difference may be 0 or below it.
        let near = x.range.low <= 0.0 && x.range.high >= 0.0 && x.range != Range::point(0.0);
        self.doubt(match f {
            Unary::Exp | Unary::Exp2 => x.range.high > 600.0,
            _ => matches!(f, Unary::Inv | Unary::Log) && near,
        });
        Number { double, range: if double.is_nan() { Range::ALL } else { range } }
    }

    fn binary(&self, f: Binary, a: Number, b: Number) -> Number {
        if a.double.is_nan() || b.double.is_nan() {
            return Number::UNDEFINED;
        }
        let range = Interval.binary(f, Sort::F64, a.range, b.range);
        let (x, y) = (a.double, b.double);
        let truth = |x: bool| f64::from(u8::from(x));
        let double = match f {
            Binary::Add => x + y,
            Binary::Mul => x * y,
            Binary::Max => x.max(y),
            Binary::Min => x.min(y),
            Binary::Lt => truth(x < y),
            Binary::Ge => truth(x >= y),
            Binary::Eq => truth(x == y),
            Binary::Ne => truth(x != y),
            other => panic!("{other:?} is not made"),
        };
        // An infinity may meet the other or a 0 where numbers are rounded otherwise.
        let ends = |r: Range| r.low == f64::NEG_INFINITY || r.high == f64::INFINITY;
        self.doubt(
            match f {
                Binary::Add => ends(a.range) && ends(b.range) && range == Range::ALL,
                Binary::Mul => {
                    ends(a.range) && b.range.contains(0.0) || ends(b.range) && a.range.contains(0.0)
                }
                _ => false,
            } && !double.is_nan(),
        );
        Number { double, range: if double.is_nan() { Range::ALL } else { range } }
    }

    fn cut(&self, a: Axis, at: &Place) -> f64 {
        (at.outer[&a] * BLOCKS[self.of(a)] + at.inner[&a]) as f64
    }

    /// The places where a piece of an axis has its positions.
    fn places(&self, p: &Piece, at: Place) -> Vec<Place> {
        let (extent, block) = (EXTENTS[self.of(p.axis)], BLOCKS[self.of(p.axis)]);
        let with = |set: &dyn Fn(&mut Place)| {
            let mut at = at.clone();
            set(&mut at);
            at
        };
        let inner = |at: &Place| block.min(extent - at.outer[&p.axis] * block);
        match p.part {
            Part::Whole if at.within.contains(&p.axis) => (0..inner(&at))
                .map(|n| {
                    let position = at.outer[&p.axis] * block + n;
                    with(&|at| {
                        at.whole.insert(p.axis, position);
                        at.bound.push(p.axis);
                    })
                })
                .collect(),
            Part::Whole => (0..extent).map(|n| with(&|at| _ = at.whole.insert(p.axis, n))).collect(),
            Part::Outer => {
                (0..extent.div_ceil(block)).map(|n| with(&|at| _ = at.outer.insert(p.axis, n))).collect()
            }
            Part::Inner => (0..inner(&at)).map(|n| with(&|at| _ = at.inner.insert(p.axis, n))).collect(),
        }
    }
}
