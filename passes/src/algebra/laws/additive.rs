//! Folds whose action adds: what they track are sums.
//!
//! `E = sum[j.o](q + g)` is a fold with the action `v + g` if `g` is a term over sums within the block and over all blocks, and
//! moving in two steps is moving in one. The block value `q` is whatever is the block's own.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::eval::FieldValue;
use tilewright_ir::{Axis, Reduction, Unary};

use super::Search;
use super::blocks::mentions_reduction;
use super::construct::{add, literal, reduce};
use super::folds::Tracks;
use super::means::blocked;
use super::trial::{elements, for_each, is_zero, moving, plus, value};
use crate::algebra::{SubAxis, Term};

/// The ways in which the body is a block value and a term over sums within the block and over all blocks: the block value,
/// what it all is, the action, and what it tracks.
pub(super) fn added(
    s: &mut Search,
    op: Reduction,
    body: Id,
    j: Axis,
    hole: Id,
) -> Vec<(Id, Term, Id, Tracks)> {
    let mut out = Vec::new();
    if op != Reduction::Sum {
        return out;
    }
    for terms in s.sums(body) {
        if terms.iter().any(|&t| literal(&s.graph, t) == Some(0.0)) {
            // Without it it is a sum as well.
            continue;
        }
        let mut tracks = Tracks::new();
        let (moves, own): (Vec<Id>, Vec<Id>) = terms.iter().partition(|&&t| {
            let mut mine = tracks.clone();
            // What does not know of other blocks is the block's own.
            let moves = over_sums(s, t, j, &mut mine, &mut BTreeSet::new())
                && mine.values().any(|&y| mentions(s, t, y));
            if moves {
                tracks = mine;
            }
            moves
        });
        // What follows from other tracked values is not tracked: there is one way then to write the action over them.
        for t in tracks.keys().copied().collect::<Vec<_>>() {
            let mut fewer = tracks.clone();
            fewer.remove(&t);
            let mut fresh = elements(0);
            let names = fewer.iter().flat_map(|(&t, &y)| [t, y]).map(|id| (id, fresh())).collect();
            if moves.iter().all(|&m| value(s, m, &names).is_some()) {
                tracks = fewer;
            }
        }
        if moves.is_empty() || own.is_empty() || tracks.is_empty() || !adds_up(s, &moves, &tracks) {
            continue;
        }
        let q = add(&mut s.graph, own);
        let mut action = moves.clone();
        action.push(hole);
        let action = s.graph.add_uncanonical(Term::Add(action.into()));
        out.push((q, Term::Add(terms.clone().into()), action, tracks));
    }
    out
}

/// Whether the smallest term of a class holds another class.
fn mentions(s: &Search, id: Id, what: Id) -> bool {
    s.graph.find(id) == s.graph.find(what)
        || s.graph[id].data.smallest.children().iter().any(|&c| mentions(s, c, what))
}

/// Whether the class is a term over sums within a block and the same over all blocks; collects them. A sum within a block
/// that occurs alone is tracked as well.
fn over_sums(s: &mut Search, id: Id, j: Axis, tracks: &mut Tracks, open: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    let nodes = s.graph[id].nodes.to_vec();
    if literal(&s.graph, id).is_some() {
        return true;
    }
    for node in &nodes {
        match node {
            Term::Reduce(Reduction::Sum, axes, [t]) if axes[..] == [SubAxis::outer(j)] => {
                tracks.insert(s.graph.find(*t), id);
                return true;
            }
            Term::Reduce(Reduction::Sum, axes, [x])
                if blocked(s, axes) == Some(j)
                    && !mentions_reduction(&s.graph, *x, j, &mut HashMap::new()) =>
            {
                let all = reduce(&mut s.graph, Reduction::Sum, vec![SubAxis::outer(j)], id);
                let all = s.graph.find(all);
                tracks.insert(id, all);
                return true;
            }
            _ => {}
        }
    }
    if !open.insert(id) {
        return false;
    }
    let found = nodes.iter().any(|node| {
        let pointwise = matches!(node, Term::Add(_) | Term::Mul(_) | Term::Unary(Unary::Inv, _));
        let smaller = node.children().iter().all(|&c| s.graph[c].data.size < s.graph[id].data.size);
        let mut mine = tracks.clone();
        let closed =
            pointwise && smaller && node.children().iter().all(|&c| over_sums(s, c, j, &mut mine, open));
        if closed {
            *tracks = mine;
        }
        closed
    });
    open.remove(&id);
    found
}

/// Whether moving blocks to what they are together, and that on to any other reference, is moving each there at once, and
/// moving nothing adds nothing: `g(a, a+b) + g(b, a+b) + g(a+b, y) = g(a, y) + g(b, y)` and `g(a, a) = 0`, for what is tracked
/// adds up. The two sides are rational functions, and are compared at random points of a finite field.
fn adds_up(s: &Search, moves: &[Id], tracks: &Tracks) -> bool {
    (0..2).all(|trial| {
        let mut fresh = elements(trial);
        let [a, b, y] = [(); 3].map(|()| for_each(tracks, &mut fresh));
        let both: Vec<FieldValue> = a.iter().zip(&b).map(|(&a, &b)| plus(a, b)).collect();
        let g = |from: &[FieldValue], to: &[FieldValue]| -> Option<FieldValue> {
            let names = moving(s, tracks, from, to);
            let all: Option<Vec<FieldValue>> = moves.iter().map(|&m| value(s, m, &names)).collect();
            all?.into_iter().reduce(plus)
        };
        let holds = || {
            let near = plus(g(&a, &both)?, g(&b, &both)?);
            let (stepwise, direct) = (plus(near, g(&both, &y)?), plus(g(&a, &y)?, g(&b, &y)?));
            Some(is_zero(g(&a, &a)?) && stepwise.same(&direct))
        };
        holds() == Some(true)
    })
}
