//! Terms by cases: choices by predicates about a block, and everything else within.
//!
//! Why here: `e` is `where(p, e with p true, e with p false)` for any predicate `p`. Used for all predicates that are about a block
//! and not about a position in it, each time for the first of those that choose by no other, it gives a form that does not
//! depend on how choices were nested.
//!
//! Pre: operands are in that form. Post: the result is.

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::Axis;

use crate::term::{Id, Node, Part, Piece, Terms};

/// Whether a predicate is about the block along an axis.
pub(crate) fn about(t: &Terms, p: Id, j: Axis) -> bool {
    let free = &t.facts(p).free;
    free.contains(&Piece::outer(j)) && !free.contains(&Piece::inner(j))
}

fn about_a_block(t: &Terms, p: Id) -> bool {
    t.facts(p).free.iter().any(|q| q.part == Part::Outer && about(t, p, q.axis))
}

/// Forms by cases that were found: certificates ask of terms that have most of their parts in common.
#[derive(Clone, Default)]
pub(crate) struct Cases {
    forms: HashMap<Id, Id>,
    first: HashMap<Id, Option<Id>>,
    known: HashMap<(Id, Id, bool), Id>,
}

impl Cases {
    /// A term by its cases.
    pub(crate) fn of(&mut self, t: &mut Terms, id: Id) -> Id {
        if let Some(&done) = self.forms.get(&id) {
            return done;
        }
        let out = match self.first(t, id) {
            None => id,
            Some(p) => {
                let (yes, no) = (self.assume(t, id, p, true), self.assume(t, id, p, false));
                let (yes, no) = (self.of(t, yes), self.of(t, no));
                if yes == no { yes } else { t.add(Node::Select([p, yes, no])) }
            }
        };
        self.forms.insert(id, out);
        out
    }

    /// The predicate with the least number by which a term chooses, of those that choose by none.
    fn first(&mut self, t: &Terms, id: Id) -> Option<Id> {
        if let Some(&done) = self.first.get(&id) {
            return done;
        }
        let mut out = None;
        if pointwise(t.node(id)) {
            for &c in t.node(id).children() {
                out = out.into_iter().chain(self.first(t, c)).min();
            }
        }
        if let Node::Select([p, ..]) = *t.node(id)
            && about_a_block(t, p)
            && self.first(t, p).is_none()
        {
            out = out.into_iter().chain([p]).min();
        }
        self.first.insert(id, out);
        out
    }

    /// The term where a predicate is known, the first by which anything of which it is a part chooses.
    fn assume(&mut self, t: &mut Terms, id: Id, p: Id, holds: bool) -> Id {
        // What does not choose by it stays as it is.
        if self.first(t, id) != Some(p) {
            return id;
        }
        if let Some(&done) = self.known.get(&(id, p, holds)) {
            return done;
        }
        let node = t.node(id).clone();
        let out = match node {
            Node::Select([q, c, d]) if q == p => self.assume(t, if holds { c } else { d }, p, holds),
            Node::Select(all) => {
                let [q, c, d] = all.map(|x| self.assume(t, x, p, holds));
                if c == d { c } else { t.add(Node::Select([q, c, d])) }
            }
            node if pointwise(&node) => {
                let mut node = node.map(|x| self.assume(t, x, p, holds));
                if let Node::Add(c) | Node::Mul(c) | Node::Max(c) | Node::Min(c) = &mut node {
                    c.sort_unstable();
                }
                t.add(node)
            }
            _ => id,
        };
        self.known.insert((id, p, holds), out);
        out
    }
}

fn pointwise(node: &Node) -> bool {
    matches!(
        node,
        Node::Add(_)
            | Node::Mul(_)
            | Node::Max(_)
            | Node::Min(_)
            | Node::Unary(..)
            | Node::Binary(..)
            | Node::Select(_)
    )
}
