//! Introducing one-pass folds.
//!
//! `E = R[j.o] a(q; t, y)` with `q = part[j] E` is a fold over `j` with block value `q`, when the action `a` may follow the
//! maxima that it tracks from block to block: not moving changes nothing, and moving twice is moving once.
//!
//! A sum may be scaled, `a(q) = h * q`, when `h` is a cocycle: `h(a,a) = 1` and `h(a,b) h(b,c) = h(a,c)`. No function is
//! named: the laws are tried at fresh elements. Anything may be kept or dropped,
//! `a(q) = where(t == y, q, d)`: of maxima `t <= y <= z`, as of minima, the outer two are equal if and only if each is equal
//! to the middle one. A maximum or minimum may drop to a fixed `d` that is no better than what is kept, a sum to 0: where nothing was
//! kept yet, `d` takes its place too.
//!
//! Several sums may move together, `a(q) = h * (q + g * l)`, each to a multiple of itself and of the block values `l` of others.
//!
//! A sum may also be added to, `a(q) = q + g(t, y)`, when what it tracks are sums themselves and moving in two steps is moving
//! in one. Means move so, and squares of distances from them.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Id, Language};
use tilewright_ir::eval::FieldValue;
use tilewright_ir::{Axis, Binary, Reduction};

use super::additive::added;
use super::construct::{literal, mul, reduce};
use super::linear::linear;
use super::ordered::ordered;
use super::trial::{elements, for_each, is_one, moving, times, value};
use super::{Law, Search, positions};
use crate::algebra::{SubAxis, Term};

/// Fold introduction.
pub(crate) const FOLD: Law = Law {
    name: "fold",
    statement: "E = R[j.o] a(q; t, y), q = part[j] E  =>  E = fold R[j](q, a) tracking (t, y)",
    conditions: "y = max[j.o] t for each tracked pair; R is sum and a(v) = h * v with h(a,a) = 1 and \
                 h(a,b) h(b,c) = h(a,c), or a(v) = where(t == y, v, d) with R max and d never more than v, or R min and d \
                 never less, or d 0, where y may be min[j.o] t; or else y = sum[j.o] t, R is sum and a(v) = v + g with g(a,a) = 0 and g(a,a+b) + \
                 g(b,a+b) + g(a+b,c) = g(a,c) + g(b,c); or else y = R[j.o] t or a fold of t, R is max or min, a(v) \
                 compares and chooses among t, y, v and numbers, and nothing yet leaves all as it is; or else y = max[j.o] t, R \
                 is sum, a(v) = h * (v + g * l) for block values l of sums that run along, and moving all of these twice is \
                 moving them once",
    apply: fold,
};

/// Pairs of a block value and the maximum or minimum that it is a block value of.
pub(super) type Tracks = BTreeMap<Id, Id>;

fn fold(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    let [SubAxis { axis: j, part: crate::algebra::Part::Outer }] = axes[..] else { return };
    let hole = s.graph.add_uncanonical(Term::Hole);
    let mut found = added(s, *op, *body, j, hole);
    if let Some(&part) = s.parts.get(&(j, s.graph.find(id))) {
        let q = s.graph.find(part);
        found.extend(scaled(s, *op, *body, j, q, hole).into_iter().map(|(m, a, t)| (part, m, a, t)));
        found.extend(linear(s, *op, *body, j, q, hole).into_iter().map(|(m, a, t)| (part, m, a, t)));
        let mut chosen = kept(s, *op, *body, j, q, hole);
        if chosen.is_empty() {
            chosen = ordered(s, *op, *body, j, q, hole);
        }
        found.extend(chosen.into_iter().map(|(m, a, t)| (part, m, a, t)));
    }
    for (part, moved, action, tracks) in found {
        // The premise is part of the term: derivations say why the block value is one.
        let mut children = vec![part, action];
        for (&t, &y) in &tracks {
            children.extend([t, y]);
        }
        let rhs = s.graph.add_uncanonical(Term::Fold(j, *op, children.into()));
        // Equal to this form of the reduction, which other laws have shown equal to E.
        let moved = s.graph.add_uncanonical(moved);
        let whole = reduce(&mut s.graph, *op, axes.to_vec(), moved);
        s.subject = whole;
        s.equate(whole, rhs, "fold");
    }
}

/// The ways in which the body is the block value scaled by a cocycle: what it is, the action, and what it tracks.
fn scaled(s: &mut Search, op: Reduction, body: Id, j: Axis, q: Id, hole: Id) -> Vec<(Term, Id, Tracks)> {
    let mut out = Vec::new();
    if op != Reduction::Sum {
        return out;
    }
    let products = s.products(body);
    for factors in products {
        let Some(at) = factors.iter().position(|&f| s.graph.find(f) == q) else { continue };
        let mut rest = factors.clone();
        rest.remove(at);
        let mut tracks = Tracks::new();
        let mut memo = BTreeSet::new();
        let chosen: Option<Vec<Id>> =
            rest.iter().map(|&f| rescale(s, f, j, &mut tracks, &mut memo).then_some(f)).collect();
        if chosen.is_none() || tracks.is_empty() || !is_cocycle(s, &rest, &tracks) {
            continue;
        }
        rest.push(hole);
        let action = mul(&mut s.graph, rest);
        out.push((Term::Mul(factors.into()), action, tracks));
    }
    out
}

/// The ways in which the body is the block value where no tracked maximum has moved, and something fixed elsewhere.
fn kept(s: &mut Search, op: Reduction, body: Id, j: Axis, q: Id, hole: Id) -> Vec<(Term, Id, Tracks)> {
    let choices: Vec<[Id; 3]> = s.graph[body]
        .nodes
        .iter()
        .filter_map(|n| if let Term::Select(c) = n { Some(*c) } else { None })
        .collect();
    let mut out = Vec::new();
    for [p, v, d] in choices {
        let number = |n: &Term| matches!(n, Term::Num(_) | Term::Size(_));
        // Where nothing was kept yet it is put in place of that too, and must not show.
        let idle = match op {
            Reduction::Sum => literal(&s.graph, d) == Some(0.0),
            Reduction::Max => s.graph[d].data.hi <= s.graph[q].data.lo,
            Reduction::Min => positions::at_most(s, q, d, j),
        };
        if s.graph.find(v) != q || !s.graph[d].nodes.iter().any(number) || !idle {
            continue;
        }
        let mut tracks = Tracks::new();
        let Term::Binary(Binary::Eq, sides) = s.graph[p].data.smallest else { continue };
        for (t, y) in [(sides[0], sides[1]), (sides[1], sides[0])] {
            let owner =
                [Reduction::Max, Reduction::Min].into_iter().find_map(|op| extreme_of_blocks(s, t, j, op));
            if let Some(owner) = owner.filter(|&o| o == s.graph.find(y)) {
                tracks.insert(s.graph.find(t), owner);
            }
        }
        if !tracks.is_empty() {
            let action = s.graph.add_uncanonical(Term::Select([p, hole, d]));
            out.push((Term::Select([p, v, d]), action, tracks));
        }
    }
    out
}

/// The maximum or minimum over blocks of which the class is the value of one block.
pub(super) fn extreme_of_blocks(s: &Search, t: Id, j: Axis, op: Reduction) -> Option<Id> {
    let t = s.graph.find(t);
    let is_over_blocks = |y: Id| {
        s.graph[y].nodes.iter().any(|n| {
            matches!(n, Term::Reduce(o, a, [x]) if *o == op && a[..] == [SubAxis::outer(j)] && s.graph.find(*x) == t)
        })
    };
    s.graph[t].nodes.iter().find_map(|n| match n {
        Term::Part(a, [y]) if *a == j && is_over_blocks(*y) => Some(s.graph.find(*y)),
        _ => None,
    })
}

/// Whether the class depends on the block only through block values of maxima; collects them.
pub(super) fn rescale(s: &Search, id: Id, j: Axis, tracks: &mut Tracks, memo: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    if memo.contains(&id) {
        return true;
    }
    if !s.graph[id].data.free.contains(SubAxis::outer(j)) {
        memo.insert(id);
        return true;
    }
    if s.graph[id].data.free.contains(SubAxis::inner(j)) {
        return false;
    }
    let owner = extreme_of_blocks(s, id, j, Reduction::Max);
    if let Some(y) = owner {
        tracks.insert(id, y);
        memo.insert(id);
        return true;
    }
    let mut nodes: Vec<Term> = s.graph[id].nodes.to_vec();
    // A multiple of a difference tracks what is subtracted, and not multiples of it, which are rounded.
    nodes.sort_by_key(|n| !matches!(n, Term::Mul(_)));
    for node in nodes {
        let pointwise =
            matches!(node, Term::Add(_) | Term::Mul(_) | Term::Unary(..) | Term::Max(_) | Term::Min(_));
        let smaller = node.children().iter().all(|&c| s.graph[c].data.size < s.graph[id].data.size);
        if pointwise && smaller && node.children().iter().all(|&c| rescale(s, c, j, tracks, memo)) {
            memo.insert(id);
            return true;
        }
    }
    false
}

/// Whether scaling by the factors composes: `h(a,a) = 1` and `h(a,b) h(b,c) = h(a,c)`, at random points of a finite field.
///
/// What is tracked is finite and otherwise arbitrary; quotients by it are defined because the law that brought them here
/// demanded it.
fn is_cocycle(s: &Search, factors: &[Id], tracks: &Tracks) -> bool {
    let tried = |trial: u64| {
        let mut fresh = elements(trial);
        let [a, b, c] = [(); 3].map(|()| for_each(tracks, &mut fresh));
        let h = |from: &[FieldValue], to: &[FieldValue]| -> Option<FieldValue> {
            let names = moving(s, tracks, from, to);
            let all: Option<Vec<FieldValue>> = factors.iter().map(|&f| value(s, f, &names)).collect();
            all?.into_iter().reduce(times)
        };
        let chained = times(h(&a, &b)?, h(&b, &c)?);
        Some(is_one(h(&a, &a)?) && chained.same(&h(&a, &c)?))
    };
    (0..2).all(|trial| tried(trial) == Some(true))
}
