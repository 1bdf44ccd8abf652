//! What the e-graph knows about each class: free axes, range, finiteness, size.
//!
//! Facts of equal terms are all true, so merging intersects. Assumption, stated in every report: inputs, weights and
//! states hold finite numbers.

use std::collections::{BTreeSet, HashMap};

use egg::{Analysis, DidMerge, Id};
use tilewright_ir::{Binary, Reduction, Unary, Value};

use super::{AxisSet, Graph, Part, SubAxis, Term};

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

/// What a term's value depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depends {
    /// Literals and positions: known before any weight is.
    Nothing,
    /// Weights, and nothing that changes from run to run: computed once, when they are loaded.
    Weights,
    /// What changes from run to run, extents of axes included.
    Run,
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The axes on which the value may depend.
    pub free: AxisSet,
    /// The axes that occur in any known term, bound ones included.
    pub mentions: AxisSet,
    /// The value is at least this.
    pub lo: f64,
    /// The value is at most this.
    pub hi: f64,
    /// The value is never -inf.
    pub above: bool,
    /// The value is never +inf.
    pub below: bool,
    /// What kind of value.
    pub kind: Kind,
    /// What it depends on.
    pub depends: Depends,
    /// The number of nodes of the smallest known term, as a tree; reductions over blocks count as very many.
    pub size: f64,
    /// That term's node.
    pub smallest: Term,
}

/// More nodes than terms over whole axes have.
const OVER_BLOCKS: f64 = 1e12;

impl Known {
    /// The value, if the range leaves only one.
    pub fn constant(&self) -> Option<f64> {
        (self.lo == self.hi && self.finite()).then_some(self.lo)
    }

    /// Whether the value is never infinite.
    pub fn finite(&self) -> bool {
        self.above && self.below
    }
}

/// The analysis: kinds of values are given by the function that was ingested.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kind of each tensor.
    pub kinds: HashMap<Value, Kind>,
    /// Axes that may have no positions.
    pub may_be_empty: AxisSet,
    /// Tensors that are constant for the life of a module.
    pub weights: BTreeSet<Value>,
    /// Axes whose extents change from run to run.
    pub varying: AxisSet,
}

impl Facts {
    /// Whether there are positions to reduce over, whatever the symbols are: a block has some.
    pub(super) fn inhabited(&self, axes: &[SubAxis]) -> bool {
        axes.iter().all(|a| a.part == Part::Inner || !self.may_be_empty.contains(SubAxis::whole(a.axis)))
    }

    fn kind(&self, v: Value) -> Kind {
        self.kinds.get(&v).copied().unwrap_or(Kind::Real)
    }

    /// What a term depends on by itself, its children apart.
    pub(super) fn depends(&self, node: &Term) -> Depends {
        let varies = |a: &SubAxis| self.varying.contains(SubAxis::whole(a.axis));
        let run = match node {
            Term::Read(v, _) if self.weights.contains(v) => return Depends::Weights,
            Term::Read(..) | Term::Size(_) => true,
            Term::Pos(a) | Term::CutPos(a) => varies(&SubAxis::whole(*a)),
            Term::Reduce(_, bound, _) => bound.iter().any(varies),
            Term::Fold(a, ..) => varies(&SubAxis::whole(*a)),
            _ => false,
        };
        if run { Depends::Run } else { Depends::Nothing }
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
                    // The last block may be ragged: how many positions a block has depends on which one it is, whatever
                    // is reduced over them.
                    let block = SubAxis::outer(a.axis);
                    if a.part == Part::Inner && !bound.contains(&block) {
                        free.insert(block);
                        mentions.insert(block);
                    }
                }
            }
            Term::Part(a, _) => {
                free.remove(SubAxis::whole(*a));
                free.insert(SubAxis::outer(*a));
                free.insert(SubAxis::inner(*a));
            }
            Term::Fold(a, ..) => {
                free.remove(SubAxis::outer(*a));
                mentions.insert(SubAxis::outer(*a));
            }
            _ => {}
        }
        let Range { mut lo, mut hi, mut above, mut below } = range(node, &children);
        if let Term::Reduce(op @ (Reduction::Max | Reduction::Min), bound, _) = node
            && !egraph.analysis.inhabited(bound)
        {
            // Over no positions a maximum is -inf.
            (lo, hi) = (lo.min(op.identity()), hi.max(op.identity()));
            above &= *op != Reduction::Max;
            below &= *op != Reduction::Min;
        }
        if let Term::Reduce(Reduction::Sum, bound, _) = node
            && children[0].lo > 0.0
            && egraph.analysis.inhabited(bound)
        {
            // Of at least one term, and a block has a position.
            lo = children[0].lo;
        }
        let kind = match node {
            Term::Num(n) => {
                if n.0.fract() == 0.0 && n.0.abs() < 9e15 {
                    Kind::Int
                } else {
                    Kind::Real
                }
            }
            Term::Pos(_) | Term::CutPos(_) | Term::Size(_) => Kind::Int,
            // Of the kind of what is moved: no more than the block value of the fold is.
            Term::Hole => Kind::Bool,
            Term::Fold(..) => children[0].kind.max(children[1].kind),
            Term::Read(v, _) => egraph.analysis.kind(*v),
            Term::Binary(b, _) if b.is_predicate() => Kind::Bool,
            Term::Binary(Binary::Random, _) => Kind::Real,
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
        // Markers and folds are consequences, never the term that laws build on; nor is a reduction over blocks if there is
        // one over the axis: what is cut along another axis, or restricted to a block of this one, must show the whole.
        let within = children.iter().map(|c| c.size).sum::<f64>();
        let size = match node {
            Term::Part(..) | Term::Fold(..) => f64::INFINITY,
            Term::Reduce(_, axes, _) if axes.iter().any(|a| a.part == Part::Outer) => within + OVER_BLOCKS,
            _ => 1.0 + within,
        };
        let depends = children.iter().map(|c| c.depends).fold(egraph.analysis.depends(node), Depends::max);
        Known { free, mentions, lo, hi, above, below, kind, depends, size, smallest: node.clone() }
    }

    fn merge(&mut self, a: &mut Known, b: Known) -> DidMerge {
        let before = a.clone();
        a.free = a.free.intersection(b.free);
        a.mentions = a.mentions.union(b.mentions);
        a.lo = a.lo.max(b.lo);
        a.hi = a.hi.min(b.hi);
        a.above |= b.above;
        a.below |= b.below;
        a.kind = a.kind.max(b.kind);
        a.depends = a.depends.min(b.depends);
        if (b.size, &b.smallest) < (a.size, &a.smallest) {
            a.size = b.size;
            a.smallest = b.smallest.clone();
        }
        DidMerge(*a != before, *a != b)
    }
}

struct Range {
    lo: f64,
    hi: f64,
    above: bool,
    below: bool,
}

impl Range {
    fn new(lo: f64, hi: f64, finite: bool) -> Range {
        let lo = if lo.is_nan() { f64::NEG_INFINITY } else { lo };
        let hi = if hi.is_nan() { f64::INFINITY } else { hi };
        Range { lo, hi, above: finite, below: finite }
    }

    fn any(finite: bool) -> Range {
        Range::new(f64::NEG_INFINITY, f64::INFINITY, finite)
    }
}

fn range(node: &Term, c: &[&Known]) -> Range {
    let finite = c.iter().all(|c| c.finite());
    let (above, below) = (c.iter().all(|c| c.above), c.iter().all(|c| c.below));
    let nonneg = |k: &Known| k.lo >= 0.0;
    match node {
        Term::Num(n) => {
            Range { lo: n.0, hi: n.0, above: n.0 > f64::NEG_INFINITY, below: n.0 < f64::INFINITY }
        }
        Term::Pos(_) | Term::CutPos(_) | Term::Size(_) => Range::new(0.0, f64::INFINITY, true),
        Term::Read(..) => Range::any(true),
        Term::Add(_) => {
            let (lo, hi) = (c.iter().map(|c| c.lo).sum(), c.iter().map(|c| c.hi).sum());
            Range { above, below, ..Range::new(lo, hi, false) }
        }
        Term::Mul(children) => product(children, c),
        Term::Max(_) => Range {
            lo: c.iter().map(|c| c.lo).fold(f64::NEG_INFINITY, f64::max),
            hi: c.iter().map(|c| c.hi).fold(f64::NEG_INFINITY, f64::max),
            above: c.iter().any(|c| c.above),
            below,
        },
        Term::Min(_) => Range {
            lo: c.iter().map(|c| c.lo).fold(f64::INFINITY, f64::min),
            hi: c.iter().map(|c| c.hi).fold(f64::INFINITY, f64::min),
            above,
            below: c.iter().any(|c| c.below),
        },
        Term::Unary(u, _) => {
            let k = c[0];
            match u {
                Unary::Abs => Range::new(0.0, k.hi.max(-k.lo), finite),
                Unary::Exp | Unary::Exp2 => {
                    let f = |x: f64| if *u == Unary::Exp { x.exp() } else { x.exp2() };
                    // -inf is a legal key: its exponential is 0.
                    Range { lo: f(k.lo), hi: f(k.hi), above: true, below: k.below }
                }
                Unary::Sqrt => Range::new(k.lo.max(0.0).sqrt(), k.hi.max(0.0).sqrt(), finite && nonneg(k)),
                Unary::Rsqrt | Unary::Inv if k.lo > 0.0 => Range::new(0.0, f64::INFINITY, finite),
                Unary::Log if k.lo > 0.0 => Range::new(k.lo.ln(), k.hi.ln(), finite),
                Unary::Tanh | Unary::Sin | Unary::Cos => Range::new(-1.0, 1.0, finite),
                Unary::Floor => Range::new(k.lo.floor(), k.hi.floor(), finite),
                Unary::Not => Range::new(0.0, 1.0, true),
                _ => Range::any(false),
            }
        }
        Term::Binary(b, _) => {
            if b.is_predicate() || matches!(b, Binary::Random) {
                Range::new(0.0, 1.0, true)
            } else if matches!(b, Binary::Mod) && nonneg(c[1]) {
                Range::new(0.0, c[1].hi, finite)
            } else {
                Range::any(finite)
            }
        }
        Term::Select(_) => Range {
            lo: c[1].lo.min(c[2].lo),
            hi: c[1].hi.max(c[2].hi),
            above: c[1].above && c[2].above,
            below: c[1].below && c[2].below,
        },
        Term::Cast(..) => Range::any(finite),
        Term::Reduce(op, _, _) => match op {
            Reduction::Sum if nonneg(c[0]) => Range { above, below, ..Range::new(0.0, f64::INFINITY, false) },
            Reduction::Sum => Range { above, below, ..Range::any(false) },
            Reduction::Max | Reduction::Min => Range { lo: c[0].lo, hi: c[0].hi, above, below },
        },
        Term::Part(..) => Range::any(false),
        Term::Fold(..) => Range::any(finite),
        Term::Hole => Range::any(false),
    }
}

fn product(children: &[Id], c: &[&Known]) -> Range {
    let finite = c.iter().all(|c| c.finite());
    if c.iter().all(|c| c.constant().is_some()) {
        let p: f64 = c.iter().map(|c| c.lo).product();
        return Range::new(p, p, p.is_finite());
    }
    // Factors that are not known to be non-negative, paired up to squares.
    let mut signed: Vec<Id> = c.iter().zip(children).filter(|(k, _)| k.lo < 0.0).map(|(_, id)| *id).collect();
    signed.sort_unstable();
    if signed.is_empty() {
        return Range::new(c.iter().map(|c| c.lo).product::<f64>().max(0.0), f64::INFINITY, finite);
    }
    if signed.chunks(2).all(|p| p.len() == 2 && p[0] == p[1]) {
        return Range::new(0.0, f64::INFINITY, finite);
    }
    // A constant factor scales the range, a negative one turns it around.
    let (constants, rest): (Vec<&Known>, Vec<&Known>) = c.iter().partition(|k| k.constant().is_some());
    let scale: f64 = constants.iter().map(|k| k.lo).product();
    match rest[..] {
        [k] if scale > 0.0 => Range { lo: k.lo * scale, hi: k.hi * scale, above: k.above, below: k.below },
        [k] if scale < 0.0 => Range { lo: k.hi * scale, hi: k.lo * scale, above: k.below, below: k.above },
        _ => Range::any(finite),
    }
}
