//! What is known of a term without evaluating it: free axes, a range, whether it can be infinite, its kind.
//!
//! Why here: conditions of laws are decided from these and from nothing else. Values are extended reals; inputs, weights
//! and states are taken to hold finite numbers, which every certificate states.

use std::collections::BTreeSet;
use std::sync::Arc;

use tilewright_ir::{Axis, Binary, Reduction, Unary};

use crate::term::{Id, Node, Part, Piece, Terms};

/// The kind of a term's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A truth value.
    Bool,
    /// An integer.
    Int,
    /// A real number.
    Real,
}

/// What is known of a term.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The axes on which it depends.
    pub free: Arc<BTreeSet<Piece>>,
    /// The axes of which it has parts, free or bound.
    pub cut: Arc<BTreeSet<Axis>>,
    /// It is at least this.
    pub lo: f64,
    /// It is at most this.
    pub hi: f64,
    /// It is never -inf.
    pub above: bool,
    /// It is never +inf.
    pub below: bool,
    /// Its kind.
    pub kind: Kind,
    /// How deep binders are nested in it.
    pub height: u32,
    /// What the action of a fold around it moves is in it.
    pub moved: bool,
}

impl Facts {
    /// Whether the value is never infinite.
    pub fn finite(&self) -> bool {
        self.above && self.below
    }

    /// Whether the value is a positive finite number.
    pub fn positive(&self) -> bool {
        self.finite() && self.lo > 0.0
    }

    /// Whether a part of any of the axes is free.
    pub fn depends(&self, pieces: &[Piece]) -> bool {
        pieces.iter().any(|p| self.free.contains(p))
    }
}

/// Everything that is in any of the sets; one of them itself, if it holds the others.
fn union<'a, T: Copy + Ord + 'a>(sets: impl Iterator<Item = &'a Arc<BTreeSet<T>>>) -> Arc<BTreeSet<T>> {
    let mut out: Option<Arc<BTreeSet<T>>> = None;
    for set in sets {
        match &mut out {
            Some(o) if Arc::ptr_eq(o, set) || set.is_subset(o) => {}
            Some(o) if !o.is_subset(set) => Arc::make_mut(o).extend(set.iter()),
            _ => out = Some(set.clone()),
        }
    }
    out.unwrap_or_default()
}

fn insert<T: Clone + Ord>(set: &mut Arc<BTreeSet<T>>, x: T) {
    if !set.contains(&x) {
        Arc::make_mut(set).insert(x);
    }
}

/// Whether it was there.
fn remove<T: Clone + Ord>(set: &mut Arc<BTreeSet<T>>, x: &T) -> bool {
    set.contains(x) && Arc::make_mut(set).remove(x)
}

/// The facts of a node whose children are there already.
pub(crate) fn of(terms: &Terms, node: &Node) -> Facts {
    let children: Vec<&Facts> = node.children().iter().map(|&c| terms.facts(c)).collect();
    let mut free = union(children.iter().map(|c| &c.free));
    let mut cut = union(children.iter().map(|c| &c.cut));
    let mut height = children.iter().map(|c| c.height).max().unwrap_or(0);
    match node {
        Node::Pos(a) => {
            insert(&mut free, Piece::whole(*a));
        }
        Node::CutPos(a) => {
            insert(&mut free, Piece::outer(*a));
            insert(&mut free, Piece::inner(*a));
            insert(&mut cut, *a);
        }
        Node::Reduce(_, bound, _) => {
            for p in bound.iter().filter(|p| p.part != Part::Whole) {
                insert(&mut cut, p.axis);
            }
            for p in bound {
                remove(&mut free, p);
            }
            // The last block may be ragged: how many positions are reduced depends on which block it is.
            let blocks = bound.iter().filter(|p| p.part == Part::Inner).map(|p| Piece::outer(p.axis));
            for p in blocks.filter(|p| !bound.contains(p)) {
                insert(&mut free, p);
            }
            height += 1;
        }
        Node::Part(a, _) => {
            insert(&mut cut, *a);
            insert(&mut free, Piece::outer(*a));
            if remove(&mut free, &Piece::whole(*a)) {
                insert(&mut free, Piece::inner(*a));
            }
        }
        Node::Fold(a, ..) => {
            insert(&mut cut, *a);
            remove(&mut free, &Piece::outer(*a));
            height += 1;
        }
        _ => {}
    }
    let mut r = range(node, &children);
    if let Node::Reduce(op @ (Reduction::Max | Reduction::Min), bound, _) = node
        && bound.iter().any(|p| p.part != Part::Inner && !terms.inhabited(p.axis))
    {
        // Over no positions a maximum is -inf, a minimum +inf.
        (r.lo, r.hi) = (r.lo.min(op.identity()), r.hi.max(op.identity()));
        r.above &= *op != Reduction::Max;
        r.below &= *op != Reduction::Min;
    }
    if let Node::Reduce(Reduction::Sum, bound, _) = node
        && children[0].lo > 0.0
        && bound.iter().all(|p| p.part == Part::Inner || terms.inhabited(p.axis))
    {
        // Of at least one term: a block has a position.
        r.lo = children[0].lo;
    }
    Facts {
        free,
        cut,
        lo: r.lo,
        hi: r.hi,
        above: r.above,
        below: r.below,
        kind: kind(terms, node, &children),
        height,
        moved: match node {
            Node::Hole => true,
            // Its own action is about what it moves itself.
            Node::Fold(..) => children.iter().enumerate().any(|(n, c)| n != 1 && c.moved),
            _ => children.iter().any(|c| c.moved),
        },
    }
}

fn kind(terms: &Terms, node: &Node, c: &[&Facts]) -> Kind {
    match node {
        Node::Num(n) if n.0.fract() == 0.0 && n.0.abs() < 9e15 => Kind::Int,
        Node::Num(_) | Node::Hole => Kind::Real,
        Node::Pos(_) | Node::CutPos(_) | Node::Size(_) => Kind::Int,
        Node::Read(v, _) => terms.kinds.get(v).copied().unwrap_or(Kind::Real),
        Node::Binary(b, _) if b.is_predicate() => Kind::Bool,
        Node::Binary(Binary::Random, _) => Kind::Real,
        Node::Unary(Unary::Not, _) => Kind::Bool,
        Node::Unary(Unary::Abs, _) => c[0].kind,
        Node::Unary(..) => Kind::Real,
        Node::Cast(d, _) if d.is_int() => Kind::Int,
        Node::Cast(d, _) if d.is_float() => Kind::Real,
        Node::Cast(..) => Kind::Bool,
        Node::Select(_) => c[1].kind.max(c[2].kind),
        _ => c.iter().map(|c| c.kind).max().unwrap_or(Kind::Real),
    }
}

#[derive(Clone, Copy)]
struct Range {
    lo: f64,
    hi: f64,
    above: bool,
    below: bool,
}

fn between(lo: f64, hi: f64, finite: bool) -> Range {
    let lo = if lo.is_nan() { f64::NEG_INFINITY } else { lo };
    let hi = if hi.is_nan() { f64::INFINITY } else { hi };
    Range { lo, hi, above: finite, below: finite }
}

fn anything(finite: bool) -> Range {
    between(f64::NEG_INFINITY, f64::INFINITY, finite)
}

fn range(node: &Node, c: &[&Facts]) -> Range {
    let above = c.iter().all(|c| c.above);
    let below = c.iter().all(|c| c.below);
    let finite = above && below;
    let fold =
        |start: f64, f: fn(f64, f64) -> f64, of: fn(&Facts) -> f64| c.iter().map(|c| of(c)).fold(start, f);
    match node {
        Node::Num(n) => {
            Range { lo: n.0, hi: n.0, above: n.0 != f64::NEG_INFINITY, below: n.0 != f64::INFINITY }
        }
        Node::Pos(_) | Node::CutPos(_) | Node::Size(_) => between(0.0, f64::INFINITY, true),
        Node::Hole => anything(false),
        Node::Read(..) => anything(true),
        Node::Add(_) => Range {
            above,
            below,
            ..between(fold(0.0, |a, b| a + b, |c| c.lo), fold(0.0, |a, b| a + b, |c| c.hi), true)
        },
        Node::Mul(ids) => product(ids, c),
        Node::Max(_) => Range {
            lo: fold(f64::NEG_INFINITY, f64::max, |c| c.lo),
            hi: fold(f64::NEG_INFINITY, f64::max, |c| c.hi),
            above: c.iter().any(|c| c.above),
            below,
        },
        Node::Min(_) => Range {
            lo: fold(f64::INFINITY, f64::min, |c| c.lo),
            hi: fold(f64::INFINITY, f64::min, |c| c.hi),
            above,
            below: c.iter().any(|c| c.below),
        },
        Node::Unary(f, _) => function(*f, c[0]),
        Node::Binary(b, _) if b.is_predicate() => between(0.0, 1.0, true),
        Node::Binary(Binary::Random, _) => between(0.0, 1.0, true),
        Node::Binary(Binary::Mod, _) if c[1].lo >= 0.0 => between(0.0, c[1].hi, finite),
        Node::Binary(..) => anything(false),
        Node::Select(_) => Range {
            lo: c[1].lo.min(c[2].lo),
            hi: c[1].hi.max(c[2].hi),
            above: c[1].above && c[2].above,
            below: c[1].below && c[2].below,
        },
        Node::Cast(..) => anything(finite),
        Node::Reduce(Reduction::Sum, ..) if c[0].lo >= 0.0 => {
            Range { above, below, ..between(0.0, f64::INFINITY, true) }
        }
        Node::Reduce(Reduction::Sum, ..) => Range { above, below, ..anything(true) },
        Node::Reduce(..) => Range { lo: c[0].lo, hi: c[0].hi, above, below },
        Node::Part(..) => anything(false),
        Node::Fold(..) => anything(finite),
    }
}

fn function(f: Unary, c: &Facts) -> Range {
    match f {
        Unary::Abs => between(0.0, c.hi.max(-c.lo), c.finite()),
        // The exponential of -inf is 0.
        Unary::Exp => Range { lo: c.lo.exp(), hi: c.hi.exp(), above: true, below: c.below },
        Unary::Exp2 => Range { lo: c.lo.exp2(), hi: c.hi.exp2(), above: true, below: c.below },
        Unary::Sqrt => between(c.lo.max(0.0).sqrt(), c.hi.max(0.0).sqrt(), c.finite() && c.lo >= 0.0),
        Unary::Rsqrt | Unary::Inv if c.lo > 0.0 => between(0.0, f64::INFINITY, c.finite()),
        Unary::Log if c.lo > 0.0 => between(c.lo.ln(), c.hi.ln(), c.finite()),
        Unary::Tanh | Unary::Sin | Unary::Cos => between(-1.0, 1.0, c.finite()),
        Unary::Floor => between(c.lo.floor(), c.hi.floor(), c.finite()),
        Unary::Not => between(0.0, 1.0, true),
        _ => anything(false),
    }
}

fn product(ids: &[Id], c: &[&Facts]) -> Range {
    let finite = c.iter().all(|c| c.finite());
    if c.iter().all(|c| c.lo == c.hi && c.finite()) {
        let p: f64 = c.iter().map(|c| c.lo).product();
        return between(p, p, p.is_finite());
    }
    // What may be negative must come in pairs.
    let mut odd: BTreeSet<Id> = BTreeSet::new();
    for (&id, _) in ids.iter().zip(c).filter(|(_, c)| c.lo < 0.0) {
        if !odd.remove(&id) {
            odd.insert(id);
        }
    }
    if odd.is_empty() {
        let low = if c.iter().all(|c| c.lo >= 0.0) { c.iter().map(|c| c.lo).product::<f64>() } else { 0.0 };
        return between(low.max(0.0), f64::INFINITY, finite);
    }
    // A literal scales the range of a single other factor, and a negative one turns it around.
    let scale: f64 = c.iter().filter(|c| c.lo == c.hi && c.finite()).map(|c| c.lo).product();
    let mut others = c.iter().filter(|c| !(c.lo == c.hi && c.finite()));
    match (others.next(), others.next()) {
        (Some(k), None) if scale > 0.0 => {
            Range { lo: k.lo * scale, hi: k.hi * scale, above: k.above, below: k.below }
        }
        (Some(k), None) if scale < 0.0 => {
            Range { lo: k.hi * scale, hi: k.lo * scale, above: k.below, below: k.above }
        }
        _ => anything(finite),
    }
}

#[cfg(test)]
mod tests {
    use tilewright_ir::Extent;

    use super::*;

    #[test]
    fn a_reduction_within_a_block_depends_on_the_block() {
        let mut t = Terms::default();
        let j = Axis::from_u32(0);
        t.declare(j, Extent::Const(7));
        let one = t.num(1.0);
        let within = t.add(Node::Reduce(Reduction::Sum, vec![Piece::inner(j)], one));
        assert!(t.facts(within).depends(&[Piece::outer(j)]));
        let all = t.add(Node::Reduce(Reduction::Sum, vec![Piece::outer(j)], within));
        assert!(t.facts(all).free.is_empty());
    }
}
