//! The language of the e-graph.
//!
//! Sums and products are n-ary with sorted children: binary commutativity and associativity explode. There is no
//! difference and no quotient: `a - b` is `a + -1 * b`, `a / b` is `a * inv b`.

use std::fmt;
use std::mem::{Discriminant, discriminant};

use egg::{Id, Language};
use tilewright_ir::expr::Num;
use tilewright_ir::{Axis, Binary, DType, Extent, Reduction, Unary, Value};

use super::SubAxis;

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Term {
    /// A literal.
    Num(Num),
    /// The position along a whole axis.
    Pos(Axis),
    /// The position along a cut axis: block size times `axis.o` plus `axis.i`.
    CutPos(Axis),
    /// An extent.
    Size(Extent),
    /// An element of a tensor.
    Read(Value, Box<[Id]>),
    /// A sum of two or more.
    Add(Box<[Id]>),
    /// A product of two or more.
    Mul(Box<[Id]>),
    /// The largest of two or more.
    Max(Box<[Id]>),
    /// The smallest of two or more.
    Min(Box<[Id]>),
    /// A function of one argument (never `Neg`).
    Unary(Unary, [Id; 1]),
    /// A comparison, a connective, or an integer operation.
    Binary(Binary, [Id; 2]),
    /// `where(c, a, b)`.
    Select([Id; 3]),
    /// A conversion that is a function of its own (to integers); narrowings are refinements and not here.
    Cast(DType, [Id; 1]),
    /// A reduction over axis parts, sorted.
    Reduce(Reduction, Box<[SubAxis]>, [Id; 1]),
    /// `part[j] e`: `e` with every reduction over `j` restricted to the block `j.o`, and every free `j` cut.
    Part(Axis, [Id; 1]),
    /// What a fold moves from one reference point to another, in the action of the fold.
    Hole,
    /// A one-pass fold over an axis: children are the block value, the action (a term over [`Term::Hole`] and what is
    /// tracked), then pairs (block value, running value) of what it tracks.
    Fold(Axis, Reduction, Box<[Id]>),
}

impl Language for Term {
    type Discriminant = Discriminant<Term>;

    fn discriminant(&self) -> Self::Discriminant {
        discriminant(self)
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Term::Num(a), Term::Num(b)) => a == b,
            (Term::Pos(a), Term::Pos(b)) | (Term::CutPos(a), Term::CutPos(b)) => a == b,
            (Term::Size(a), Term::Size(b)) => a == b,
            (Term::Read(v, a), Term::Read(w, b)) => v == w && a.len() == b.len(),
            (Term::Add(a), Term::Add(b))
            | (Term::Mul(a), Term::Mul(b))
            | (Term::Max(a), Term::Max(b))
            | (Term::Min(a), Term::Min(b)) => a.len() == b.len(),
            (Term::Unary(f, _), Term::Unary(g, _)) => f == g,
            (Term::Binary(f, _), Term::Binary(g, _)) => f == g,
            (Term::Select(_), Term::Select(_)) => true,
            (Term::Cast(d, _), Term::Cast(e, _)) => d == e,
            (Term::Reduce(f, s, _), Term::Reduce(g, t, _)) => f == g && s == t,
            (Term::Part(a, _), Term::Part(b, _)) => a == b,
            (Term::Hole, Term::Hole) => true,
            (Term::Fold(a, o, x), Term::Fold(b, p, y)) => a == b && o == p && x.len() == y.len(),
            _ => false,
        }
    }

    fn children(&self) -> &[Id] {
        match self {
            Term::Num(_) | Term::Pos(_) | Term::CutPos(_) | Term::Size(_) | Term::Hole => &[],
            Term::Read(_, c)
            | Term::Add(c)
            | Term::Mul(c)
            | Term::Max(c)
            | Term::Min(c)
            | Term::Fold(_, _, c) => c,
            Term::Unary(_, c) | Term::Cast(_, c) | Term::Reduce(_, _, c) | Term::Part(_, c) => c,
            Term::Binary(_, c) => c,
            Term::Select(c) => c,
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Term::Num(_) | Term::Pos(_) | Term::CutPos(_) | Term::Size(_) | Term::Hole => &mut [],
            Term::Read(_, c)
            | Term::Add(c)
            | Term::Mul(c)
            | Term::Max(c)
            | Term::Min(c)
            | Term::Fold(_, _, c) => c,
            Term::Unary(_, c) | Term::Cast(_, c) | Term::Reduce(_, _, c) | Term::Part(_, c) => c,
            Term::Binary(_, c) => c,
            Term::Select(c) => c,
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Num(n) => write!(f, "{}", n.0),
            Term::Pos(a) => write!(f, "{a}"),
            Term::CutPos(a) => write!(f, "{a}.o:{a}.i"),
            Term::Size(e) => write!(f, "{e:?}"),
            Term::Read(v, _) => write!(f, "{v}"),
            Term::Add(_) => f.write_str("+"),
            Term::Mul(_) => f.write_str("*"),
            Term::Max(_) => f.write_str("max"),
            Term::Min(_) => f.write_str("min"),
            Term::Unary(u, _) => f.write_str(u.name()),
            Term::Binary(b, _) => f.write_str(b.name()),
            Term::Select(_) => f.write_str("where"),
            Term::Cast(d, _) => write!(f, "{d}"),
            Term::Reduce(r, s, _) => {
                write!(f, "{}[", r.name())?;
                for (n, a) in s.iter().enumerate() {
                    write!(f, "{}{a}", if n > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Term::Part(a, _) => write!(f, "part[{a}]"),
            Term::Hole => f.write_str("_"),
            Term::Fold(a, op, _) => write!(f, "fold {}[{a}]", op.name()),
        }
    }
}
