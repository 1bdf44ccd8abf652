//! Positions that a block has chosen: terms that are a position of their own block, or else a number that is none.
//!
//! Of two blocks such terms are only equal where both are that number. This is what lets a comparison of a position with one
//! that was chosen from all blocks be asked of the block alone.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::{Axis, Binary, Extent, Reduction};

use super::Search;
use super::construct::literal;
use crate::algebra::{SubAxis, Term};

/// Which position a block has chosen: where the class is a choice between such a term and no position, that term, and else the
/// class itself, if the block chose it without asking others. Nothing if the class is not known to be a position of the block
/// or none. Pairs of the class and of that term, both written so that it shows.
pub(super) fn of_block(s: &mut Search, id: Id, j: Axis) -> Vec<[Id; 2]> {
    let mut out = stripped(s, id, j, &mut BTreeSet::new());
    let mut seen = BTreeSet::new();
    out.retain(|&[_, t]| seen.insert(s.graph.find(t)));
    out
}

fn stripped(s: &mut Search, id: Id, j: Axis, open: &mut BTreeSet<Id>) -> Vec<[Id; 2]> {
    let id = s.graph.find(id);
    let mut out = Vec::new();
    if !open.insert(id) {
        return out;
    }
    let nodes = s.graph[id].nodes.to_vec();
    let mut chosen = false;
    for node in &nodes {
        let Term::Select([p, a, b]) = *node else { continue };
        for (t, n, first) in [(a, b, true), (b, a, false)] {
            if !is_none(s, n, j) {
                continue;
            }
            chosen = true;
            let n = shown(s, n, j, &mut HashMap::new()).unwrap_or(n);
            for [whole, t] in stripped(s, t, j, open) {
                let sides = if first { [p, whole, n] } else { [p, n, whole] };
                out.push([s.graph.add_uncanonical(Term::Select(sides)), t]);
            }
        }
    }
    open.remove(&id);
    // Between no position and a term of which nothing is known yet: that may still come.
    if !chosen
        && (chooses(s, id) || is_own(s, id, j, &mut BTreeSet::new()))
        && let Some(t) = shown(s, id, j, &mut HashMap::new())
    {
        out.push([t, t]);
    }
    out
}

/// A term of a class that shows that it is a position of the block, or none.
fn shown(s: &mut Search, id: Id, j: Axis, memo: &mut HashMap<Id, Option<Id>>) -> Option<Id> {
    let id = s.graph.find(id);
    let nodes = s.graph[id].nodes.to_vec();
    if is_none(s, id, j) {
        let number = nodes.into_iter().find(|n| matches!(n, Term::Num(_) | Term::Size(_)))?;
        return Some(s.graph.add_uncanonical(number));
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    memo.insert(id, None);
    let found = nodes.iter().find_map(|n| {
        let term = match n {
            Term::CutPos(a) if *a == j => n.clone(),
            Term::Select([p, a, b]) => Term::Select([*p, shown(s, *a, j, memo)?, shown(s, *b, j, memo)?]),
            Term::Reduce(op @ (Reduction::Min | Reduction::Max), axes, [x])
                if axes[..] == [SubAxis::inner(j)] =>
            {
                Term::Reduce(*op, axes.clone(), [shown(s, *x, j, memo)?])
            }
            _ => return None,
        };
        Some(s.graph.add_uncanonical(term))
    });
    memo.insert(id, found);
    found
}

/// Whether a class is known to be a choice.
fn chooses(s: &Search, id: Id) -> bool {
    s.graph[id].nodes.iter().any(|n| matches!(n, Term::Select(_)))
}

/// Whether the smallest term of a class asks for nothing of other blocks.
fn is_own(s: &Search, id: Id, j: Axis, seen: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    if !seen.insert(id) {
        return true;
    }
    let node = &s.graph[id].data.smallest;
    let all = [SubAxis::whole(j), SubAxis::outer(j)];
    let asks = matches!(node, Term::Reduce(_, axes, _) if axes.iter().any(|a| all.contains(a)));
    !asks && node.children().iter().all(|&c| is_own(s, c, j, seen))
}

/// The numbers that are no position and that the class may be, an extent being nothing; nothing at all if it is not known to be
/// a position of the block or none.
pub(super) fn nones(s: &Search, id: Id, j: Axis) -> Option<Vec<Option<f64>>> {
    if !is_position(s, id, j, &mut HashMap::new()) {
        return None;
    }
    let mut out = Vec::new();
    if !is_attained(s, id, j) {
        collect(s, id, j, &mut BTreeSet::new(), &mut out);
    }
    Some(out)
}

/// Whether a class is the first or last position at which something is the largest or smallest of its block: there is one.
fn is_attained(s: &Search, id: Id, j: Axis) -> bool {
    let inner = [SubAxis::inner(j)];
    let reduced = |id: Id| {
        s.graph[id].nodes.iter().filter_map(move |n| match n {
            Term::Reduce(op @ (Reduction::Min | Reduction::Max), axes, [x]) if axes[..] == inner => {
                Some((*op, *x))
            }
            _ => None,
        })
    };
    let extreme = |x: Id, t: Id| reduced(t).any(|(_, z)| s.graph.find(z) == s.graph.find(x));
    let largest = |p: Id| {
        s.graph[p]
            .nodes
            .iter()
            .any(|n| matches!(n, Term::Binary(Binary::Eq, [a, b]) if extreme(*a, *b) || extreme(*b, *a)))
    };
    reduced(id).any(|(op, body)| {
        s.graph[body].nodes.iter().any(|n| match n {
            Term::Select([p, c, d]) => {
                let beyond = match op {
                    Reduction::Min => s.graph[*d].data.lo >= 0.0,
                    _ => s.graph[*d].data.hi < 0.0,
                };
                s.graph[*c].nodes.contains(&Term::CutPos(j)) && is_none(s, *d, j) && beyond && largest(*p)
            }
            _ => false,
        })
    })
}

fn collect(s: &Search, id: Id, j: Axis, seen: &mut BTreeSet<Id>, out: &mut Vec<Option<f64>>) {
    let id = s.graph.find(id);
    if !seen.insert(id) {
        return;
    }
    if is_none(s, id, j) {
        out.push(literal(&s.graph, id));
        return;
    }
    for n in &s.graph[id].nodes {
        match n {
            Term::Select([_, a, b]) => [a, b].into_iter().for_each(|&x| collect(s, x, j, seen, out)),
            Term::Reduce(_, axes, [x]) if axes[..] == [SubAxis::inner(j)] => collect(s, *x, j, seen, out),
            _ => {}
        }
    }
}

/// Whether a class is a position of the block, or none.
fn is_position(s: &Search, id: Id, j: Axis, memo: &mut HashMap<Id, bool>) -> bool {
    let id = s.graph.find(id);
    if is_none(s, id, j) {
        return true;
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    memo.insert(id, false);
    let found = s.graph[id].nodes.iter().any(|n| match n {
        Term::CutPos(a) => *a == j,
        Term::Select([_, a, b]) => is_position(s, *a, j, memo) && is_position(s, *b, j, memo),
        Term::Reduce(Reduction::Min | Reduction::Max, axes, [x]) => {
            axes[..] == [SubAxis::inner(j)] && is_position(s, *x, j, memo)
        }
        _ => false,
    });
    memo.insert(id, found);
    found
}

/// Whether a class is a number that is no position: below 0, or not below the extent.
pub(super) fn is_none(s: &Search, id: Id, j: Axis) -> bool {
    let extent = s.extents.get(&j).copied();
    match literal(&s.graph, id) {
        Some(x) => x < 0.0 || matches!(extent, Some(Extent::Const(n)) if x >= n as f64),
        None => s.graph[id].nodes.iter().any(|n| matches!(n, Term::Size(e) if extent == Some(*e))),
    }
}

/// Whether a number is never less than what a class is: a bound on its range, or no position above those that it is one of.
pub(super) fn at_most(s: &Search, id: Id, d: Id, j: Axis) -> bool {
    let (known, bound) = (&s.graph[id].data, &s.graph[d].data);
    if known.hi <= bound.lo {
        return true;
    }
    let above = is_none(s, d, j) && bound.lo >= 0.0;
    above && up_to(s, id, d, j, &mut HashMap::new())
}

/// Whether a class is a position along the axis, or the given number.
fn up_to(s: &Search, id: Id, d: Id, j: Axis, memo: &mut HashMap<Id, bool>) -> bool {
    let id = s.graph.find(id);
    if id == s.graph.find(d) || s.graph[id].data.hi < 0.0 {
        return true;
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    memo.insert(id, false);
    let found = s.graph[id].nodes.iter().any(|n| match n {
        Term::CutPos(a) | Term::Pos(a) => *a == j,
        Term::Select([_, a, b]) => up_to(s, *a, d, j, memo) && up_to(s, *b, d, j, memo),
        Term::Reduce(Reduction::Min | Reduction::Max, axes, [x]) => {
            axes[..] == [SubAxis::inner(j)] && up_to(s, *x, d, j, memo)
        }
        _ => false,
    });
    memo.insert(id, found);
    found
}
