//! What the e-graph knows about each class: free axes, range, finiteness, size.
//!
//! Facts of equal terms are all true, so merging intersects. Assumption, stated in every report: inputs, weights and
//! states hold finite numbers.

use std::collections::HashMap;

use egg::{Analysis, DidMerge, Id};
use tilewright_ir::{Binary, Reduction, Unary};

use super::{AxisSet, Graph, SubAxis, Term};

/// The kind of a term's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A truth value.
    Bool,
    /// An integer (positions, sizes, integer tensors).
    Int,
    /// A real number.
    Real,
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The axes on which the value may depend.
    pub free: AxisSet,
    /// The axes that occur at all, bound ones included.
    pub mentions: AxisSet,
    /// The value is at least this.
    pub lo: f64,
    /// The value is at most this.
    pub hi: f64,
    /// The value is neither infinite nor undefined.
    pub finite: bool,
    /// What kind of value.
    pub kind: Kind,
    /// The number of nodes of the smallest known term, as a tree.
    pub size: f64,
    /// That term's node.
    pub smallest: Term,
}

impl Known {
    /// The value, if the range leaves only one.
    pub fn constant(&self) -> Option<f64> {
        (self.lo == self.hi && self.finite).then_some(self.lo)
    }
}

/// The analysis: kinds of values are given by the function that was ingested.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kind of each tensor.
    pub kinds: HashMap<tilewright_ir::Value, Kind>,
    /// Axes that may have no positions.
    pub may_be_empty: AxisSet,
}

impl Facts {
    fn kind(&self, v: tilewright_ir::Value) -> Kind {
        self.kinds.get(&v).copied().unwrap_or(Kind::Real)
    }
}

impl Analysis<Term> for Facts {
    type Data = Known;

    fn make(egraph: &mut Graph, node: &Term, _id: Id) -> Known {
        let child = |id: &Id| &egraph[*id].data;
        let children: Vec<&Known> = egg::Language::children(node).iter().map(child).collect();
        let mut free = children.iter().fold(AxisSet::default(), |s, c| s.union(c.free));
        let mut mentions = children.iter().fold(AxisSet::default(), |s, c| s.union(c.mentions));
        match node {
            Term::Pos(a) => {
                free.insert(SubAxis::whole(*a));
                mentions.insert(SubAxis::whole(*a));
            }
            Term::CutPos(a) => {
                for p in [SubAxis::outer(*a), SubAxis::inner(*a)] {
                    free.insert(p);
                    mentions.insert(p);
                }
            }
            Term::Reduce(_, bound, _) => {
                for &a in bound.iter() {
                    free.remove(a);
                    mentions.insert(a);
                }
            }
            Term::Part(a, _) => {
                free.remove(SubAxis::whole(*a));
                free.insert(SubAxis::outer(*a));
                free.insert(SubAxis::inner(*a));
            }
            Term::Fold(a, _) => {
                free.remove(SubAxis::outer(*a));
                mentions.insert(SubAxis::outer(*a));
            }
            _ => {}
        }
        let (mut lo, mut hi, mut finite) = range(node, &children);
        if let Term::Reduce(op @ (Reduction::Max | Reduction::Min), bound, _) = node
            && bound.iter().any(|a| egraph.analysis.may_be_empty.contains(SubAxis::whole(a.axis)))
        {
            // Over no positions a maximum is -inf.
            (lo, hi, finite) = (lo.min(op.identity()), hi.max(op.identity()), false);
        }
        let kind = match node {
            Term::Num(n) => {
                if n.0.fract() == 0.0 && n.0.abs() < 1e9 { Kind::Int } else { Kind::Real }
            }
            Term::Pos(_) | Term::CutPos(_) | Term::Size(_) => Kind::Int,
            Term::Read(v, _) => egraph.analysis.kind(*v),
            Term::Binary(b, _) if b.is_predicate() => Kind::Bool,
            Term::Unary(Unary::Not, _) => Kind::Bool,
            Term::Unary(Unary::Abs, _) => children[0].kind,
            Term::Unary(..) => Kind::Real,
            Term::Cast(d, _) => {
                if d.is_int() {
                    Kind::Int
                } else if d.is_float() {
                    Kind::Real
                } else {
                    Kind::Bool
                }
            }
            Term::Select(_) => children[1].kind.max(children[2].kind),
            _ => children.iter().map(|c| c.kind).max().unwrap_or(Kind::Real),
        };
        // Markers and folds are consequences, never the term that laws build on.
        let size = match node {
            Term::Part(..) | Term::Fold(..) => f64::INFINITY,
            _ => 1.0 + children.iter().map(|c| c.size).sum::<f64>(),
        };
        Known { free, mentions, lo, hi, finite, kind, size, smallest: node.clone() }
    }

    fn merge(&mut self, a: &mut Known, b: Known) -> DidMerge {
        let before = a.clone();
        a.free = a.free.intersection(b.free);
        a.mentions = a.mentions.intersection(b.mentions);
        a.lo = a.lo.max(b.lo);
        a.hi = a.hi.min(b.hi);
        a.finite |= b.finite;
        a.kind = a.kind.max(b.kind);
        if (b.size, &b.smallest) < (a.size, &a.smallest) {
            a.size = b.size;
            a.smallest = b.smallest.clone();
        }
        DidMerge(*a != before, *a != b)
    }
}

fn range(node: &Term, c: &[&Known]) -> (f64, f64, bool) {
    const ALL: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
    let finite = c.iter().all(|c| c.finite);
    let nonneg = |k: &Known| k.lo >= 0.0;
    match node {
        Term::Num(n) => (n.0, n.0, n.0.is_finite()),
        Term::Pos(_) | Term::CutPos(_) | Term::Size(_) => (0.0, f64::INFINITY, true),
        Term::Read(..) => (ALL.0, ALL.1, true),
        Term::Add(_) => {
            let lo: f64 = c.iter().map(|c| c.lo).sum();
            let hi: f64 = c.iter().map(|c| c.hi).sum();
            (if lo.is_nan() { ALL.0 } else { lo }, if hi.is_nan() { ALL.1 } else { hi }, finite)
        }
        Term::Mul(children) => {
            if c.iter().all(|c| c.constant().is_some()) {
                let p: f64 = c.iter().map(|c| c.lo).product();
                return (p, p, p.is_finite());
            }
            // A product of non-negative factors, or of factors that pair up to squares, is non-negative.
            let signed = c.iter().zip(children.iter()).filter(|(k, _)| !nonneg(k));
            let mut ids: Vec<Id> = signed.map(|(_, id)| *id).collect();
            ids.sort_unstable();
            let squares = ids.chunks(2).all(|p| p.len() == 2 && p[0] == p[1]);
            if squares && ids.is_empty() {
                let lo: f64 = c.iter().map(|c| c.lo).product();
                (if lo.is_nan() { 0.0 } else { lo.max(0.0) }, f64::INFINITY, finite)
            } else if squares {
                (0.0, f64::INFINITY, finite)
            } else {
                (ALL.0, ALL.1, finite)
            }
        }
        Term::Max(_) => (
            c.iter().map(|c| c.lo).fold(ALL.0, f64::max),
            c.iter().map(|c| c.hi).fold(ALL.0, f64::max),
            // Never above a finite bound of all, never below the finite one: finite if one is and none is +inf.
            finite || (c.iter().any(|c| c.finite) && c.iter().all(|c| c.finite || c.hi < f64::INFINITY)),
        ),
        Term::Min(_) => (
            c.iter().map(|c| c.lo).fold(ALL.1, f64::min),
            c.iter().map(|c| c.hi).fold(ALL.1, f64::min),
            finite,
        ),
        Term::Unary(u, _) => {
            let k = c[0];
            match u {
                Unary::Abs => (0.0, k.hi.max(-k.lo), finite),
                Unary::Exp | Unary::Exp2 => {
                    let f = |x: f64| if *u == Unary::Exp { x.exp() } else { x.exp2() };
                    // -inf is a legal key: its exponential is 0.
                    (f(k.lo), f(k.hi), finite || k.hi < f64::INFINITY)
                }
                Unary::Sqrt => (k.lo.max(0.0).sqrt(), k.hi.max(0.0).sqrt(), finite && nonneg(k)),
                Unary::Rsqrt | Unary::Inv if k.lo > 0.0 => (0.0, f64::INFINITY, finite),
                Unary::Tanh | Unary::Sin | Unary::Cos => (-1.0, 1.0, finite),
                Unary::Floor => (k.lo.floor(), k.hi.floor(), finite),
                Unary::Not => (0.0, 1.0, true),
                _ => (ALL.0, ALL.1, false),
            }
        }
        Term::Binary(b, _) => {
            if b.is_predicate() {
                (0.0, 1.0, true)
            } else if matches!(b, Binary::Mod) && nonneg(c[1]) {
                (0.0, c[1].hi, finite)
            } else {
                (ALL.0, ALL.1, finite)
            }
        }
        Term::Select(_) => (c[1].lo.min(c[2].lo), c[1].hi.max(c[2].hi), c[1].finite && c[2].finite),
        Term::Cast(..) => (ALL.0, ALL.1, finite),
        Term::Reduce(op, _, _) => match op {
            Reduction::Sum if nonneg(c[0]) => (0.0, f64::INFINITY, finite),
            Reduction::Sum => (ALL.0, ALL.1, finite),
            Reduction::Max | Reduction::Min => (c[0].lo, c[0].hi, finite),
        },
        Term::Part(..) => (ALL.0, ALL.1, false),
        Term::Fold(..) => (ALL.0, ALL.1, finite),
    }
}
