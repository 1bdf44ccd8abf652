//! Laws of choices: `where(p, c, d)`.
//!
//! A predicate that does not depend on the reduced positions leaves the reduction. `fact-where` moves what all of the body is
//! chosen by; `cases` takes it from wherever it stands: `e` is `where(p, e with p true, e with p false)` for any `p`. It is used
//! within a block for predicates that compare the block's own values with those of all blocks, which other laws have brought
//! there, and of several nested ones for the outermost.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::{Axis, Reduction};

use super::blocks::rebuild;
use super::construct::{literal, reduce};
use super::{Law, Search};
use crate::algebra::{AxisSet, Graph, Part, SubAxis, Term};

/// A predicate that does not depend on the reduced positions leaves the reduction.
pub(crate) const FACT: Law = Law {
    name: "fact-where",
    statement: "R[i] where(p, c, d) = where(p, R[i] c, d)",
    conditions: "i free in neither p nor d; R is max or min, or d is 0; used where i are the positions of a block, \
                 which has at least one",
    apply: fact,
};

fn fact(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    if axes.iter().any(|a| a.part != Part::Inner) {
        return;
    }
    let bound = AxisSet::of(axes);
    let nodes: Vec<[Id; 3]> = s.graph[*body]
        .nodes
        .iter()
        .filter_map(|n| if let Term::Select(c) = n { Some(*c) } else { None })
        .collect();
    for [p, c, d] in nodes {
        let free = [p, d].iter().all(|&x| s.graph[x].data.free.is_disjoint(&bound));
        if !free || (*op == Reduction::Sum && literal(&s.graph, d) != Some(0.0)) {
            continue;
        }
        s.matched(node, 0, Term::Select([p, c, d]));
        let inner = reduce(&mut s.graph, *op, axes.to_vec(), c);
        let rhs = s.graph.add_uncanonical(Term::Select([p, inner, d]));
        s.equate(id, rhs, "fact-where");
    }
}

/// A reduction by the cases of a predicate that does not depend on the reduced positions.
pub(crate) const CASES: Law = Law {
    name: "cases",
    statement: "R[i] e = where(p, R[i] e{p}, R[i] e{not p}), e{p} being e where where(p, c, d) is c, and e{not p} where it is d",
    conditions: "i not free in p; used where i are the positions of a block along j and j.o is free in p; used where e asks of \
                 all blocks by such predicates alone; used where `fact-where` does not say as much",
    apply: cases,
};

fn cases(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    let [SubAxis { axis: j, part: Part::Inner }] = axes[..] else { return };
    let by_block = |s: &Search, n: &Term| matches!(n, Term::Select([p, ..]) if compares(s, *p, j));
    if s.graph[id].nodes.iter().any(|n| by_block(s, n)) {
        return;
    }
    let Some(p) = outermost(s, *body, j) else { return };
    let fixed = |s: &Search, d: Id| {
        !s.graph[d].data.free.contains(SubAxis::inner(j))
            && (*op != Reduction::Sum || literal(&s.graph, d) == Some(0.0))
    };
    let leaves = |n: &Term| matches!(n, Term::Select([q, _, d]) if s.graph.find(*q) == p && fixed(s, *d));
    if s.graph[*body].nodes.iter().any(leaves) || asks(s, *body, j, &mut BTreeSet::new()) {
        return;
    }
    let mut cases = Cases { p, j, memo: HashMap::new() };
    let Some(Case { shown, yes, no }) = cases.of(s, *body) else { return };
    let side =
        |s: &mut Search, e: Id| if fixed(s, e) { e } else { reduce(&mut s.graph, *op, axes.to_vec(), e) };
    let (yes, no) = (side(s, yes), side(s, no));
    s.subject = s.graph.add_uncanonical(Term::Reduce(*op, axes.clone(), [shown]));
    let rhs = choice(&mut s.graph, p, yes, no);
    s.equate(id, rhs, "cases");
}

/// `where(p, c, d)`, which is `c` if both are one.
fn choice(g: &mut Graph, p: Id, c: Id, d: Id) -> Id {
    if g.find(c) == g.find(d) { c } else { g.add_uncanonical(Term::Select([p, c, d])) }
}

/// Whether a predicate is about the block along an axis, and not about a position in it.
fn compares(s: &Search, p: Id, j: Axis) -> bool {
    let free = &s.graph[p].data.free;
    free.contains(SubAxis::outer(j)) && !free.contains(SubAxis::inner(j))
}

/// A predicate about the block by which a class chooses, and which no other of them chooses by itself.
fn outermost(s: &Search, id: Id, j: Axis) -> Option<Id> {
    let mut all = Vec::new();
    predicates(s, id, j, &mut BTreeSet::new(), &mut all);
    let mut within = Vec::new();
    let mut seen = BTreeSet::new();
    all.iter().for_each(|&p| predicates(s, p, j, &mut seen, &mut within));
    all.into_iter().find(|p| !within.contains(p))
}

/// The predicates about the block by which a class chooses.
fn predicates(s: &Search, id: Id, j: Axis, seen: &mut BTreeSet<Id>, out: &mut Vec<Id>) {
    let id = s.graph.find(id);
    if !s.graph[id].data.free.contains(SubAxis::outer(j)) || !seen.insert(id) {
        return;
    }
    for node in s.graph[id].nodes.iter().filter(|n| is_pointwise(n)) {
        match node {
            Term::Select([p, c, d]) if compares(s, *p, j) => {
                out.push(s.graph.find(*p));
                [c, d].into_iter().for_each(|&x| predicates(s, x, j, seen, out));
            }
            _ => node.children().iter().for_each(|&c| predicates(s, c, j, seen, out)),
        }
    }
}

/// Whether a class asks for something of all blocks other than by a predicate about the block.
fn asks(s: &Search, id: Id, j: Axis, seen: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    let known = &s.graph[id].data;
    let over_all = [SubAxis::whole(j), SubAxis::outer(j)];
    if !known.free.contains(SubAxis::outer(j)) {
        return over_all.iter().any(|&a| known.mentions.contains(a));
    }
    if !known.free.contains(SubAxis::inner(j)) || !seen.insert(id) {
        return false;
    }
    let by_block = |n: &&Term| matches!(n, Term::Select([p, ..]) if compares(s, *p, j));
    let node = s.graph[id].nodes.iter().find(by_block);
    match node.unwrap_or(&known.smallest) {
        Term::Select([p, c, d]) if compares(s, *p, j) => [c, d].iter().any(|&&x| asks(s, x, j, seen)),
        node => node.children().iter().any(|&c| asks(s, c, j, seen)),
    }
}

fn is_pointwise(node: &Term) -> bool {
    matches!(
        node,
        Term::Add(_)
            | Term::Mul(_)
            | Term::Max(_)
            | Term::Min(_)
            | Term::Unary(..)
            | Term::Binary(..)
            | Term::Select(_)
    )
}

/// A class by the cases of a predicate.
#[derive(Clone, Copy)]
struct Case {
    /// The term that is looked at.
    shown: Id,
    /// The same where the predicate holds.
    yes: Id,
    /// And where it does not.
    no: Id,
}

/// Terms by the cases of a predicate.
struct Cases {
    p: Id,
    j: Axis,
    /// Nothing for those that do not choose by it, and for those that are being looked at.
    memo: HashMap<Id, Option<Case>>,
}

impl Cases {
    fn of(&mut self, s: &mut Search, id: Id) -> Option<Case> {
        let class = s.graph.find(id);
        if let Some(&done) = self.memo.get(&class) {
            return done;
        }
        self.memo.insert(class, None);
        let out = self.find(s, class);
        self.memo.insert(class, out);
        out
    }

    fn find(&mut self, s: &mut Search, class: Id) -> Option<Case> {
        if !s.graph[class].data.free.contains(SubAxis::outer(self.j)) {
            return None;
        }
        // What chooses by blocks first: that is what other laws have found out.
        let by_block = |n: &Term| matches!(n, Term::Select([p, ..]) if compares(s, *p, self.j));
        let mut nodes: Vec<(usize, Term)> = s.graph[class]
            .nodes
            .iter()
            .filter(|n| is_pointwise(n))
            .map(|n| match n {
                Term::Select([p, ..]) if s.graph.find(*p) == self.p => (0, n.clone()),
                n if by_block(n) => (1, n.clone()),
                n if *n == s.graph[class].data.smallest => (2, n.clone()),
                n => (3, n.clone()),
            })
            .collect();
        nodes.sort();
        nodes.into_iter().find_map(|(_, node)| self.node(s, &node))
    }

    fn node(&mut self, s: &mut Search, node: &Term) -> Option<Case> {
        let whole = |x: Id| Case { shown: x, yes: x, no: x };
        if let Term::Select([p, c, d]) = node
            && s.graph.find(*p) == self.p
        {
            let c = self.of(s, *c).unwrap_or(whole(*c));
            let d = self.of(s, *d).unwrap_or(whole(*d));
            let shown = s.graph.add_uncanonical(Term::Select([*p, c.shown, d.shown]));
            return Some(Case { shown, yes: c.yes, no: d.no });
        }
        let children: Vec<Option<Case>> = node.children().iter().map(|&c| self.of(s, c)).collect();
        if children.iter().all(Option::is_none) {
            return None;
        }
        let children: Vec<Case> =
            children.iter().zip(node.children()).map(|(c, &x)| c.unwrap_or(whole(x))).collect();
        let mut with = |pick: fn(&Case) -> Id| {
            let children: Vec<Id> = children.iter().map(pick).collect();
            match (node, &children[..]) {
                (Term::Select(_), &[p, c, d]) => choice(&mut s.graph, p, c, d),
                _ => rebuild(&mut s.graph, node, children),
            }
        };
        let (yes, no) = (with(|c| c.yes), with(|c| c.no));
        let mut shown = children.iter().map(|c| c.shown);
        let shown = node.clone().map_children(|c| shown.next().unwrap_or(c));
        Some(Case { shown: s.graph.add_uncanonical(shown), yes, no })
    }
}
