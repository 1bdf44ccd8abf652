//! Cutting an axis into blocks.
//!
//! `split` writes a reduction over `k` as one over blocks of one within a block. `part[j] e` is `e` with its reductions
//! over `j` restricted to the block `j.o`: what one block alone would contribute. Both are built on the smallest known
//! term of each class, so that the e-graph grows by one copy and not by one per equal term.

use std::collections::{HashMap, HashSet};

use egg::{Id, Language};
use tilewright_ir::Axis;

use super::construct::{add, max, min, mul, reduce};
use super::{Law, Search};
use crate::algebra::{Graph, Part, SubAxis, Term};

/// Splitting a reduction.
pub(crate) const SPLIT: Law = Law {
    name: "split",
    statement: "R[k] e = R[k.o] R[k.i] e[k := B*k.o + k.i]",
    conditions: "R is sum, max or min; no part of k free in e; a ragged last block is padded with the identity of R; used where R is over whole axes",
    apply: split,
};

fn split(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    for j in s.cascades.clone() {
        let free = s.graph[*body].data.free;
        let captured = free.contains(SubAxis::outer(j)) || free.contains(SubAxis::inner(j));
        // A kernel streams one axis of a reduction: the others are whole within its blocks.
        let streamed = axes.iter().any(|a| a.part != Part::Whole);
        if !axes.contains(&SubAxis::whole(j)) || captured || streamed {
            continue;
        }
        let shown = spell(&mut s.graph, *body, j, false, &mut Walk::default());
        s.subject = s.graph.add_uncanonical(Term::Reduce(*op, axes.clone(), [shown]));
        let cut = cut(&mut s.graph, *body, j, &mut HashMap::new());
        let inner = replace(axes, j, Part::Inner);
        let block = reduce(&mut s.graph, *op, inner, cut);
        let rhs = reduce(&mut s.graph, *op, vec![SubAxis::outer(j)], block);
        s.equate(id, rhs, "split");
    }
}

fn replace(axes: &[SubAxis], j: Axis, part: Part) -> Vec<SubAxis> {
    axes.iter().map(|&a| if a == SubAxis::whole(j) { SubAxis { axis: j, part } } else { a }).collect()
}

/// The contribution of a block.
pub(crate) const PART: Law = Law {
    name: "part",
    statement: "part[j] R[j] e = R[j.i] part[j] e;  part[j] f(x, ...) = f(part[j] x, ...)",
    conditions: "definition of part",
    apply: part,
};

fn part(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(_, axes, _) = node else { return };
    for j in s.extremes.clone() {
        if axes.contains(&SubAxis::whole(j)) {
            part_of(s, id, j);
        }
    }
}

/// `part[j]` of a class that does not depend on `j`: the class of the restricted term, made on first use.
pub(crate) fn part_of(s: &mut Search, id: Id, j: Axis) -> Option<Id> {
    if !s.enabled("part") {
        return None;
    }
    let id = s.graph.find(id);
    if let Some(&p) = s.parts.get(&(j, id)) {
        return Some(s.graph.find(p));
    }
    let data = &s.graph[id].data;
    if data.free.contains(SubAxis::whole(j))
        || data.free.contains(SubAxis::outer(j))
        || data.free.contains(SubAxis::inner(j))
        || !mentions_reduction(&s.graph, id, j, &mut HashMap::new())
    {
        return None;
    }
    let built = restrict(&mut s.graph, id, j, &mut Walk::default());
    let shown = spell(&mut s.graph, id, j, true, &mut Walk::default());
    let marker = s.graph.add_uncanonical(Term::Part(j, [shown]));
    let subject = std::mem::replace(&mut s.subject, marker);
    s.equate(marker, built, "part");
    s.subject = subject;
    s.parts.insert((j, id), marker);
    Some(built)
}

/// A node of the class that reduces over the whole of `j`, or else the smallest.
fn representative(g: &Graph, id: Id, j: Axis) -> Term {
    let whole = |n: &&Term| matches!(n, Term::Reduce(_, s, _) if s.contains(&SubAxis::whole(j)));
    g[id].nodes.iter().find(whole).unwrap_or(&g[id].data.smallest).clone()
}

/// Whether the term by which a class is restricted to a block holds a reduction over the whole axis.
pub(crate) fn mentions_reduction(g: &Graph, id: Id, j: Axis, memo: &mut HashMap<Id, bool>) -> bool {
    let id = g.find(id);
    if let Some(&known) = memo.get(&id) {
        return known;
    }
    memo.insert(id, false);
    let node = representative(g, id, j);
    let found = matches!(&node, Term::Reduce(_, s, _) if s.contains(&SubAxis::whole(j)))
        || node.children().iter().any(|&c| mentions_reduction(g, c, j, memo));
    memo.insert(id, found);
    found
}

/// Classes that were rebuilt, and those that are being rebuilt.
#[derive(Default)]
struct Walk {
    done: HashMap<Id, Id>,
    open: HashSet<Id>,
}

impl Walk {
    /// The representative of a class. Within itself it is the smallest node, or it would never end: `max[j] x` is also
    /// `max[j] max(x, max[j] x)`.
    fn enter(&mut self, g: &Graph, id: Id, j: Axis) -> (Term, bool) {
        match self.open.insert(id) {
            true => (representative(g, id, j), true),
            false => (g[id].data.smallest.clone(), false),
        }
    }

    fn leave(&mut self, id: Id, first: bool, out: Id) {
        if first {
            self.open.remove(&id);
        }
        self.done.insert(id, out);
    }
}

/// The very term that `cut` or `restrict` works on, so that derivations show how the class came to have it.
fn spell(g: &mut Graph, id: Id, j: Axis, restricting: bool, walk: &mut Walk) -> Id {
    let class = g.find(id);
    if let Some(&done) = walk.done.get(&class) {
        return done;
    }
    let depends = g[class].data.free.contains(SubAxis::whole(j));
    let reduces = || restricting && mentions_reduction(g, class, j, &mut HashMap::new());
    if !depends && !reduces() {
        return id;
    }
    let (node, first) =
        if restricting { walk.enter(g, class, j) } else { (g[class].data.smallest.clone(), false) };
    let children: Vec<Id> = node.children().iter().map(|&c| spell(g, c, j, restricting, walk)).collect();
    let mut children = children.into_iter();
    let out = node.map_children(|c| children.next().unwrap_or(c));
    let out = g.add_uncanonical(out);
    walk.leave(class, first, out);
    out
}

/// Rebuilds a node over new children in normal form.
pub(super) fn rebuild(g: &mut Graph, node: &Term, children: Vec<Id>) -> Id {
    match node {
        Term::Add(_) => add(g, children),
        Term::Mul(_) => mul(g, children),
        Term::Max(_) => max(g, children),
        Term::Min(_) => min(g, children),
        _ => {
            let mut it = children.into_iter();
            let node = node.clone().map_children(|old| it.next().unwrap_or(old));
            g.add_uncanonical(node)
        }
    }
}

/// `e[j := B*j.o + j.i]`: reductions over `j` inside do not depend on it and stay.
fn cut(g: &mut Graph, id: Id, j: Axis, memo: &mut HashMap<Id, Id>) -> Id {
    let id = g.find(id);
    if !g[id].data.free.contains(SubAxis::whole(j)) {
        return id;
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    let node = g[id].data.smallest.clone();
    let out = match &node {
        Term::Pos(a) if *a == j => g.add_uncanonical(Term::CutPos(j)),
        _ => {
            let children = node.children().iter().map(|&c| cut(g, c, j, memo)).collect();
            rebuild(g, &node, children)
        }
    };
    memo.insert(id, out);
    out
}

/// The term restricted to a block: reductions over `j` become reductions within the block.
fn restrict(g: &mut Graph, id: Id, j: Axis, walk: &mut Walk) -> Id {
    let id = g.find(id);
    if let Some(&done) = walk.done.get(&id) {
        return done;
    }
    if !g[id].data.free.contains(SubAxis::whole(j)) && !mentions_reduction(g, id, j, &mut HashMap::new()) {
        return id;
    }
    let (node, first) = walk.enter(g, id, j);
    let out = match &node {
        Term::Pos(a) if *a == j => g.add_uncanonical(Term::CutPos(j)),
        Term::Reduce(op, axes, [body]) if axes.contains(&SubAxis::whole(j)) => {
            let body = restrict(g, *body, j, walk);
            reduce(g, *op, replace(axes, j, Part::Inner), body)
        }
        _ => {
            let children = node.children().iter().map(|&c| restrict(g, c, j, walk)).collect();
            rebuild(g, &node, children)
        }
    };
    walk.leave(id, first, out);
    out
}
