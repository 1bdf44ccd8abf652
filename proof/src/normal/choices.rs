//! Choices by a comparison with a block's number, as choices by the same comparison with the number of all blocks.
//!
//! Why here: what such a choice keeps of a block is kept of all blocks only where the block's number is that of all. Whether it is
//! then the same choice depends on how the two compare with what is chosen by: as a block's extreme, or as positions.
//!
//! Pre: normal operands. Post: the operands of the one choice, if it is one.

use tilewright_ir::{Binary, Reduction};

use super::Normal;
use crate::laws::Rules;
use crate::term::{Id, Node, Part, Piece, Terms};

/// `where(t == y, where(x ~ t, c, d), e)` as `where(x ~ y, c, d)`, if `meets` says of `x`, `t` and `y` that `x ~ y` is as `e` says
/// where `t` is not `y`: whether it is for what is less only, or for all that differs.
pub(super) fn shifted(
    t: &mut Terms,
    p: Id,
    c: Id,
    d: Id,
    meets: fn(&mut Terms, Id, Id, Id) -> Option<Between>,
) -> Option<[Id; 3]> {
    let Node::Binary(Binary::Eq, outer) = *t.node(p) else { return None };
    let Node::Select([near, c, e]) = *t.node(c) else { return None };
    let Node::Binary(f, inner) = *t.node(near) else { return None };
    for (b, y) in [(outer[0], outer[1]), (outer[1], outer[0])] {
        for (at, x) in [(1, inner[0]), (0, inner[1])] {
            if inner[at] != b {
                continue;
            }
            let Some(known) = meets(t, x, b, y) else { continue };
            // Whether the comparison holds of an x that is another than y.
            let apart = match (f, at, known) {
                (Binary::Eq, ..) => false,
                (Binary::Ne, ..) => true,
                (Binary::Lt, 1, Between::Most) | (Binary::Gt, 0, Between::Most) => true,
                (Binary::Ge, 1, Between::Most) | (Binary::Le, 0, Between::Most) => false,
                (Binary::Gt, 1, Between::Least) | (Binary::Lt, 0, Between::Least) => true,
                (Binary::Le, 1, Between::Least) | (Binary::Ge, 0, Between::Least) => false,
                _ => continue,
            };
            if d != if apart { c } else { e } {
                continue;
            }
            let sides = if at == 1 { [x, y] } else { [y, x] };
            let whole = t.add(Node::Binary(f, sides));
            return Some([whole, c, e]);
        }
    }
    None
}

/// What is known of an `x`, a block's `b` and all blocks' `y`.
pub(super) enum Between {
    /// If `x` is `y`, then `b` is.
    Same,
    /// `x <= b <= y`.
    Most,
    /// `x >= b >= y`.
    Least,
}

/// Whether `b` is an extreme within a block, of `x`, and `y` that over all blocks.
pub(super) fn extreme(t: &mut Terms, x: Id, b: Id, y: Id) -> Option<Between> {
    let Node::Reduce(op, pieces, z) = t.node(b).clone() else { return None };
    let known = match op {
        Reduction::Max => Between::Most,
        Reduction::Min => Between::Least,
        Reduction::Sum => return None,
    };
    let [Piece { axis, part: Part::Inner }] = pieces[..] else { return None };
    let mut split = Normal::new(Rules { split: true, ..crate::laws::PLAN });
    let all = t.add(Node::Reduce(op, vec![Piece::outer(axis)], b));
    (z == x && split.of(t, all) == split.of(t, y)).then_some(known)
}

/// Whether `x` is a position, `b` a position of its block or of none, and `y` an extreme over blocks of such, or of choices
/// between such and none: if `x` is `y`, then `b` is.
pub(super) fn placed(t: &mut Terms, x: Id, b: Id, y: Id) -> Option<Between> {
    let Node::CutPos(j) = *t.node(x) else { return None };
    let Node::Reduce(Reduction::Max | Reduction::Min, pieces, chosen) = t.node(y) else { return None };
    let none = |x: Id| crate::order::beside(t, x, j).is_some();
    let mut of = *chosen;
    while of != b {
        of = match *t.node(of) {
            Node::Select([_, c, d]) if none(d) => c,
            Node::Select([_, c, d]) if none(c) => d,
            _ => return None,
        };
    }
    (pieces[..] == [Piece::outer(j)] && crate::order::position(t, b, j, &mut Vec::new()))
        .then_some(Between::Same)
}
