//! Terms by cases: choices by predicates about a block, and everything else within.
//!
//! Why here: `e` is `where(p, e with p true, e with p false)` for any predicate `p`. Used for all predicates that are about a block
//! and not about a position in it, each time for the first of those that choose by no other, it gives a form that does not
//! depend on how choices were nested.
//!
//! Pre: operands are in that form. Post: the result is.

use std::collections::HashMap;

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

/// A term by its cases.
pub(crate) fn by(t: &mut Terms, id: Id) -> Id {
    let Some(p) = first(t, id, &mut HashMap::new()) else { return id };
    let yes = assume(t, id, p, true, &mut HashMap::new());
    let no = assume(t, id, p, false, &mut HashMap::new());
    let (yes, no) = (by(t, yes), by(t, no));
    if yes == no { yes } else { t.add(Node::Select([p, yes, no])) }
}

/// The predicate with the least number by which a term chooses, of those that choose by none.
fn first(t: &Terms, id: Id, memo: &mut HashMap<Id, Option<Id>>) -> Option<Id> {
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    let mut out = None;
    if pointwise(t.node(id)) {
        for &c in t.node(id).children() {
            out = out.into_iter().chain(first(t, c, memo)).min();
        }
    }
    if let Node::Select([p, ..]) = *t.node(id)
        && about_a_block(t, p)
        && first(t, p, memo).is_none()
    {
        out = out.into_iter().chain([p]).min();
    }
    memo.insert(id, out);
    out
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

/// The term where a predicate is known.
fn assume(t: &mut Terms, id: Id, p: Id, holds: bool, memo: &mut HashMap<Id, Id>) -> Id {
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    let node = t.node(id).clone();
    let out = match node {
        Node::Select([q, c, d]) if q == p => assume(t, if holds { c } else { d }, p, holds, memo),
        Node::Select(all) => {
            let [q, c, d] = all.map(|x| assume(t, x, p, holds, memo));
            if c == d { c } else { t.add(Node::Select([q, c, d])) }
        }
        node if pointwise(&node) => {
            let mut node = node.map(|x| assume(t, x, p, holds, memo));
            if let Node::Add(c) | Node::Mul(c) | Node::Max(c) | Node::Min(c) = &mut node {
                c.sort_unstable();
            }
            t.add(node)
        }
        _ => id,
    };
    memo.insert(id, out);
    out
}
