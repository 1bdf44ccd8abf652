//! Terms that are positions of their block, and numbers that are none.
//!
//! Why here: positions of different blocks differ, and all are on one side of a number that stands for none; that is known of
//! their order whatever the block.
//!
//! Post: whatever is not seen to be a position is none.

use tilewright_ir::{Axis, Binary, Extent, Reduction};

use super::orders::{LESS, MORE};
use crate::term::{Id, Node, Piece, Terms};

/// A term that is a position of its block, or a number that is none.
pub(super) struct Chosen {
    /// That number, if there is one.
    pub(super) none: Option<Id>,
}

/// On which side of all positions along an axis a number is, if it is no position: how positions compare with it.
pub(crate) fn beside(t: &Terms, n: Id, j: Axis) -> Option<u8> {
    match (t.node(n), t.extent(j)?) {
        (Node::Size(e), extent) => (*e == extent).then_some(LESS),
        (Node::Num(x), _) if x.0 < 0.0 => Some(MORE),
        (Node::Num(x), Extent::Const(extent)) if x.0 >= extent as f64 => Some(LESS),
        (Node::Num(x), Extent::Sym(s)) if t.most.get(&s).is_some_and(|&n| x.0 >= n as f64) => Some(LESS),
        _ => None,
    }
}

/// What is known of a term as a position of its block.
pub(super) fn chosen(t: &Terms, id: Id, j: Axis) -> Option<Chosen> {
    let mut nones = Vec::new();
    if !position(t, id, j, &mut nones) {
        return None;
    }
    nones.sort_unstable();
    nones.dedup();
    match nones[..] {
        [] => Some(Chosen { none: None }),
        [_] if attained(t, id, j) => Some(Chosen { none: None }),
        [none] => Some(Chosen { none: Some(none) }),
        _ => None,
    }
}

/// Whether a term is a position of its block along an axis, or a number that is none; collects those.
pub(crate) fn position(t: &Terms, id: Id, j: Axis, nones: &mut Vec<Id>) -> bool {
    if beside(t, id, j).is_some() {
        nones.push(id);
        return true;
    }
    match t.node(id) {
        Node::CutPos(a) => *a == j,
        Node::Select([_, c, d]) => position(t, *c, j, nones) && position(t, *d, j, nones),
        Node::Reduce(Reduction::Max | Reduction::Min, pieces, x) => {
            pieces[..] == [Piece::inner(j)] && position(t, *x, j, nones)
        }
        _ => false,
    }
}

/// Whether a term is the first or last position of the block at which something is the block's extreme: there is one.
fn attained(t: &Terms, id: Id, j: Axis) -> bool {
    let Node::Reduce(op, pieces, body) = t.node(id) else { return false };
    let Node::Select([p, c, d]) = *t.node(*body) else { return false };
    let Node::Binary(Binary::Eq, [a, b]) = *t.node(p) else { return false };
    let inner = [Piece::inner(j)];
    let extreme = |x: Id, y: Id| matches!(t.node(y), Node::Reduce(Reduction::Max | Reduction::Min, q, z) if q[..] == inner && *z == x);
    let side = if *op == Reduction::Min { LESS } else { MORE };
    pieces[..] == inner
        && *t.node(c) == Node::CutPos(j)
        && beside(t, d, j) == Some(side)
        && (extreme(a, b) || extreme(b, a))
}
