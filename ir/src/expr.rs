//! Scalar expressions over the axes in scope: the common language of graph, plan and tile.
//!
//! An expression denotes one number for each assignment of positions to its free axes. It is a tree of shared
//! nodes with structural equality. Arithmetic is exact in meaning (the extended reals, integers for positions);
//! rounding happens where a value is stored or where a cast says so.
//!
//! Which leaves may appear is an invariant of each level's verifier: `Read` names a [`Value`] (graph and plan),
//! `Local` a kernel local (plan), `Tile` a tile (tile programs); `Reduce` appears in graphs only.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{Axis, DType, Extent, Local, Tile, Value};

/// A shared expression.
pub type Ex = Arc<Expr>;

/// A constant with total equality (by bit pattern, -0 and 0 kept apart).
#[derive(Clone, Copy, Debug)]
pub struct Num(pub f64);

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Num {}
impl Hash for Num {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Num {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// An expression node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expr {
    /// A literal.
    Num(Num),
    /// The position along an axis, an integer from 0.
    Pos(Axis),
    /// An extent as an integer (also how a symbol's value is read).
    Size(Extent),
    /// The element of a tensor at the given integer indices, one per axis of the tensor. Indices outside the
    /// tensor's extents read 0.
    Read(Value, Vec<Ex>),
    /// A local of the kernel plan at the current positions of its axes.
    Local(Local),
    /// A tile of the tile program at the current positions of its axes.
    Tile(Tile),
    /// A function of one argument.
    Unary(Unary, Ex),
    /// A function of two arguments.
    Binary(Binary, Ex, Ex),
    /// `where(condition, then, otherwise)`; the side not taken has no effect, not even NaN.
    Select(Ex, Ex, Ex),
    /// A conversion with the rounding of the type.
    Cast(DType, Ex),
    /// A reduction over axes, which are bound in the body. Over no positions: the identity of the operation.
    Reduce(Reduction, Vec<Axis>, Ex),
}

/// Functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Not,
    Abs,
    Inv,
    Exp,
    Exp2,
    Log,
    Sqrt,
    Rsqrt,
    Tanh,
    Sin,
    Cos,
    Floor,
}

/// All functions of one argument with their syntax.
pub const UNARY: [(Unary, &str); 13] = [
    (Unary::Neg, "neg"),
    (Unary::Not, "not"),
    (Unary::Abs, "abs"),
    (Unary::Inv, "inv"),
    (Unary::Exp, "exp"),
    (Unary::Exp2, "exp2"),
    (Unary::Log, "log"),
    (Unary::Sqrt, "sqrt"),
    (Unary::Rsqrt, "rsqrt"),
    (Unary::Tanh, "tanh"),
    (Unary::Sin, "sin"),
    (Unary::Cos, "cos"),
    (Unary::Floor, "floor"),
];

/// Functions of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// Integer division rounding toward minus infinity.
    FloorDiv,
    /// Remainder with the sign of the divisor.
    Mod,
    Max,
    Min,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Or,
    /// A random number in (0, 1] for an integer key and an integer counter, see [`crate::random`].
    Random,
}

/// All functions of two arguments with their syntax.
pub const BINARY: [(Binary, &str); 17] = [
    (Binary::Add, "+"),
    (Binary::Sub, "-"),
    (Binary::Mul, "*"),
    (Binary::Div, "/"),
    (Binary::FloorDiv, "//"),
    (Binary::Mod, "%"),
    (Binary::Max, "max"),
    (Binary::Min, "min"),
    (Binary::Lt, "<"),
    (Binary::Le, "<="),
    (Binary::Gt, ">"),
    (Binary::Ge, ">="),
    (Binary::Eq, "=="),
    (Binary::Ne, "!="),
    (Binary::And, "and"),
    (Binary::Or, "or"),
    (Binary::Random, "random"),
];

/// Reductions. (`argmax` is `min` over the positions that attain the maximum: the lowest index wins ties.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Reduction {
    Sum,
    Max,
    Min,
}

/// All reductions with their syntax.
pub const REDUCTION: [(Reduction, &str); 3] =
    [(Reduction::Sum, "sum"), (Reduction::Max, "max"), (Reduction::Min, "min")];

impl Unary {
    /// The syntax of the function.
    pub fn name(self) -> &'static str {
        UNARY[self as usize].1
    }
}

impl Binary {
    /// The syntax of the function.
    pub fn name(self) -> &'static str {
        BINARY[self as usize].1
    }

    /// Whether the result is a truth value.
    pub fn is_predicate(self) -> bool {
        self.is_comparison() || matches!(self, Binary::And | Binary::Or)
    }

    /// Whether this compares two numbers.
    pub fn is_comparison(self) -> bool {
        matches!(self, Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne)
    }
}

impl Reduction {
    /// The syntax of the reduction.
    pub fn name(self) -> &'static str {
        REDUCTION[self as usize].1
    }

    /// The result over no positions.
    pub fn identity(self) -> f64 {
        match self {
            Reduction::Sum => 0.0,
            Reduction::Max => f64::NEG_INFINITY,
            Reduction::Min => f64::INFINITY,
        }
    }

    /// The function that combines two partial results.
    pub fn combine(self) -> Binary {
        match self {
            Reduction::Sum => Binary::Add,
            Reduction::Max => Binary::Max,
            Reduction::Min => Binary::Min,
        }
    }
}

/// Short constructors, so that passes and frontends read like the equations they build.
#[allow(missing_docs)]
pub mod build {
    use super::*;

    pub fn num(x: f64) -> Ex {
        Arc::new(Expr::Num(Num(x)))
    }
    pub fn pos(axis: Axis) -> Ex {
        Arc::new(Expr::Pos(axis))
    }
    pub fn size(extent: Extent) -> Ex {
        Arc::new(Expr::Size(extent))
    }
    pub fn read(value: Value, index: Vec<Ex>) -> Ex {
        Arc::new(Expr::Read(value, index))
    }
    /// Reads a value along whole axes: `at(q, [h, i, d])` is `q[h,i,d]`.
    pub fn at(value: Value, axes: &[Axis]) -> Ex {
        read(value, axes.iter().map(|&a| pos(a)).collect())
    }
    pub fn local(l: Local) -> Ex {
        Arc::new(Expr::Local(l))
    }
    pub fn tile(t: Tile) -> Ex {
        Arc::new(Expr::Tile(t))
    }
    pub fn unary(f: Unary, x: Ex) -> Ex {
        Arc::new(Expr::Unary(f, x))
    }
    pub fn binary(f: Binary, a: Ex, b: Ex) -> Ex {
        Arc::new(Expr::Binary(f, a, b))
    }
    pub fn add(a: Ex, b: Ex) -> Ex {
        binary(Binary::Add, a, b)
    }
    pub fn sub(a: Ex, b: Ex) -> Ex {
        binary(Binary::Sub, a, b)
    }
    pub fn mul(a: Ex, b: Ex) -> Ex {
        binary(Binary::Mul, a, b)
    }
    pub fn div(a: Ex, b: Ex) -> Ex {
        binary(Binary::Div, a, b)
    }
    pub fn select(c: Ex, a: Ex, b: Ex) -> Ex {
        Arc::new(Expr::Select(c, a, b))
    }
    pub fn cast(d: DType, x: Ex) -> Ex {
        Arc::new(Expr::Cast(d, x))
    }
    pub fn reduce(op: Reduction, axes: Vec<Axis>, body: Ex) -> Ex {
        Arc::new(Expr::Reduce(op, axes, body))
    }
    pub fn sum(axes: &[Axis], body: Ex) -> Ex {
        reduce(Reduction::Sum, axes.to_vec(), body)
    }
}

impl Expr {
    /// The direct subexpressions, in order.
    pub fn children(&self) -> Vec<&Ex> {
        match self {
            Expr::Num(_) | Expr::Pos(_) | Expr::Size(_) | Expr::Local(_) | Expr::Tile(_) => vec![],
            Expr::Read(_, index) => index.iter().collect(),
            Expr::Unary(_, x) | Expr::Cast(_, x) | Expr::Reduce(_, _, x) => vec![x],
            Expr::Binary(_, a, b) => vec![a, b],
            Expr::Select(c, a, b) => vec![c, a, b],
        }
    }

    /// The same node with its direct subexpressions replaced by `f` of them.
    pub fn map_children(&self, mut f: impl FnMut(&Ex) -> Ex) -> Expr {
        match self {
            Expr::Num(_) | Expr::Pos(_) | Expr::Size(_) | Expr::Local(_) | Expr::Tile(_) => self.clone(),
            Expr::Read(v, index) => Expr::Read(*v, index.iter().map(f).collect()),
            Expr::Unary(op, x) => Expr::Unary(*op, f(x)),
            Expr::Cast(d, x) => Expr::Cast(*d, f(x)),
            Expr::Reduce(op, axes, x) => Expr::Reduce(*op, axes.clone(), f(x)),
            Expr::Binary(op, a, b) => Expr::Binary(*op, f(a), f(b)),
            Expr::Select(c, a, b) => Expr::Select(f(c), f(a), f(b)),
        }
    }

    /// Calls `f` on this node and everything below it, parents first.
    pub fn visit(&self, f: &mut impl FnMut(&Expr)) {
        f(self);
        for child in self.children() {
            child.visit(f);
        }
    }

    /// The free axes that the expression itself mentions. Axes of locals and tiles are theirs to know: see the
    /// `axes_of` argument, which is asked for each such leaf.
    pub fn free_axes_with(&self, axes_of: &dyn Fn(&Expr) -> Vec<Axis>) -> BTreeSet<Axis> {
        match self {
            Expr::Pos(a) => BTreeSet::from([*a]),
            Expr::Local(_) | Expr::Tile(_) => axes_of(self).into_iter().collect(),
            Expr::Reduce(_, bound, body) => {
                let mut free = body.free_axes_with(axes_of);
                for a in bound {
                    free.remove(a);
                }
                free
            }
            _ => self.children().into_iter().flat_map(|c| c.free_axes_with(axes_of)).collect(),
        }
    }

    /// The free axes of an expression without locals and tiles.
    pub fn free_axes(&self) -> BTreeSet<Axis> {
        self.free_axes_with(&|_| Vec::new())
    }

    /// The literal, if this is one.
    pub fn as_num(&self) -> Option<f64> {
        match self {
            Expr::Num(n) => Some(n.0),
            _ => None,
        }
    }
}
