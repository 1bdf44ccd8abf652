//! Folds that are folds because of what they were derived from.
//!
//! Why here: whether an action may follow what it tracks can be asked of the action alone, for all numbers that it might meet
//! ([`crate::order`]). It need not be asked where the derivation answers it. If `E = R[j.o] a(part[j] E; t, y)` holds for any
//! consecutive positions in place of the whole axis, cut into blocks in any way, then what was accumulated after some blocks
//! is `E` of their positions: it is so after the first, and if it is so after `n`, then these together are one block, and
//! the next another, of a cut of the positions of `n + 1`, for which the equation says the same. So numbers that no positions
//! could have need not be looked at, of which there are too many once several folds follow one another.
//!
//! What a derivation does not say is what becomes of no positions at all; that is asked of the action ([`order::starts`]).
//!
//! Pre: steps that were checked. Post: folds that are right wherever their tracked values are folds or run along.

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tilewright_ir::Reduction;

use crate::order;
use crate::rename::restrictable;
use crate::term::{Id, Node, Terms};

/// The side of a step that is a fold because its premise says that the other is what its block value is a part of; none if the
/// premise is about something else.
pub(crate) fn premise(t: &mut Terms, equal: (Id, Id), sides: (Id, Id)) -> Result<Option<Id>, String> {
    let is_fold = |t: &Terms, id: Id| matches!(t.node(id), Node::Fold(_, op, _) if *op != Reduction::Sum);
    let (fold, whole) = match (is_fold(t, sides.0), is_fold(t, sides.1)) {
        (true, false) => (sides.0, sides.1),
        (false, true) => (sides.1, sides.0),
        _ => return Ok(None),
    };
    let Node::Fold(j, _, children) = t.node(fold).clone() else { return Ok(None) };
    let Node::Part(axis, of) = *t.node(children[0]) else { return Ok(None) };
    if axis != j || (equal != (of, whole) && equal != (whole, of)) {
        return Ok(None);
    }
    if t.facts(of).free.iter().any(|p| p.axis == j) || !restrictable(t, of, j) {
        return Err("its block value is a part of what is of one block itself".into());
    }
    Ok(Some(fold))
}

/// The folds among the terms of a certificate that are equal, child by child, to those that it derives; `equal` are equalities
/// for all blocks.
pub(crate) fn folds(
    t: &mut Terms,
    ids: &[Id],
    derived: &[Id],
    equal: impl Iterator<Item = (Id, Id)>,
) -> Vec<Id> {
    if derived.is_empty() {
        return Vec::new();
    }
    let mut classes = Classes(HashMap::default());
    for (a, b) in equal {
        classes.join(a, b);
    }
    // Folds with equal operands are one key.
    let key = |t: &Terms, id: Id| t.node(id).clone().map(|c| classes.of(c));
    let derived: HashSet<Node> = derived.iter().map(|&d| key(t, d)).collect();
    let mut out = Vec::new();
    for &id in ids {
        let Node::Fold(_, op, _) = t.node(id) else { continue };
        if *op != Reduction::Sum && derived.contains(&key(t, id)) {
            let node = t.node(id).clone();
            if order::starts(t, &node).is_ok() {
                out.push(id);
            }
        }
    }
    out
}

/// Terms that were proved equal.
struct Classes(HashMap<Id, Id>);

impl Classes {
    fn of(&self, mut id: Id) -> Id {
        while let Some(&next) = self.0.get(&id) {
            id = next;
        }
        id
    }

    fn join(&mut self, a: Id, b: Id) {
        let (a, b) = (self.of(a), self.of(b));
        if a != b {
            self.0.insert(a.max(b), a.min(b));
        }
    }
}
