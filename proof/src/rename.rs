//! Binders: restriction to a block and back, substitution, and names that do not matter.
//!
//! Why here: each of these is a place where a variable could be captured; they are together so that they can be read
//! together. The canonical form names each bound axis by how deep binders are nested below it and by its extent, so that
//! no binder can have the name of one inside of it, and terms that differ in the names of bound axes are the same node.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::{Axis, Extent};

use crate::normal::Normal;
use crate::term::{Id, Node, Part, Piece, Terms};

/// The term restricted to one block of `j`: reductions over `j` run within the block, free positions are cut. None if
/// parts of `j` occur already.
pub fn restrict(t: &mut Terms, id: Id, j: Axis) -> Option<Id> {
    fn go(t: &mut Terms, id: Id, j: Axis, memo: &mut HashMap<Id, Option<Id>>) -> Option<Id> {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let node = t.node(id).clone();
        let parts = |pieces: &[Piece]| pieces.iter().any(|p| p.axis == j && p.part != Part::Whole);
        let out = match node {
            Node::Pos(a) if a == j => Some(t.add(Node::CutPos(j))),
            Node::CutPos(a) | Node::Part(a, _) | Node::Fold(a, ..) if a == j => None,
            Node::Reduce(_, ref pieces, _) if parts(pieces) => None,
            _ => {
                let mut whole = true;
                let node = node.map(|c| match go(t, c, j, memo) {
                    Some(c) => c,
                    None => {
                        whole = false;
                        c
                    }
                });
                let node = match node {
                    Node::Reduce(op, pieces, body) => {
                        let inner = |p: Piece| if p == Piece::whole(j) { Piece::inner(j) } else { p };
                        Node::Reduce(op, pieces.into_iter().map(inner).collect(), body)
                    }
                    other => other,
                };
                whole.then(|| t.add(node))
            }
        };
        memo.insert(id, out);
        out
    }
    go(t, id, j, &mut HashMap::default())
}

/// The term with cut positions of `j` whole again; none if that leaves a part of `j` free, or `j` was free before.
pub fn uncut(t: &mut Terms, id: Id, j: Axis) -> Option<Id> {
    fn go(t: &mut Terms, id: Id, j: Axis, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let free = t.facts(id).free.iter().any(|p| p.axis == j);
        let binds = |pieces: &[Piece]| pieces.iter().any(|p| p.axis == j);
        let out = match t.node(id).clone() {
            _ if !free => id,
            Node::CutPos(_) => t.add(Node::Pos(j)),
            Node::Reduce(_, ref pieces, _) if binds(pieces) => id,
            Node::Part(a, _) | Node::Fold(a, ..) if a == j => id,
            node => {
                let node = node.map(|c| go(t, c, j, memo));
                t.add(node)
            }
        };
        memo.insert(id, out);
        out
    }
    if t.facts(id).free.contains(&Piece::whole(j)) {
        return None;
    }
    let out = go(t, id, j, &mut HashMap::default());
    (!t.facts(out).depends(&[Piece::outer(j), Piece::inner(j)])).then_some(out)
}

/// The term with free positions of axes replaced. Pre: binders of the term have names of their own (see [`canonical`]).
pub fn substitute(t: &mut Terms, id: Id, by: &BTreeMap<Axis, Id>) -> Id {
    fn go(t: &mut Terms, id: Id, by: &BTreeMap<Axis, Id>, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let out = match t.node(id).clone() {
            Node::Pos(a) if by.contains_key(&a) => by[&a],
            node => {
                let node = node.map(|c| go(t, c, by, memo));
                t.add(node)
            }
        };
        memo.insert(id, out);
        out
    }
    go(t, id, by, &mut HashMap::default())
}

/// The term with one subterm replaced wherever it stands.
pub fn replace(t: &mut Terms, id: Id, by: &HashMap<Id, Id>) -> Id {
    fn go(t: &mut Terms, id: Id, by: &HashMap<Id, Id>, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(&done) = by.get(&id).or_else(|| memo.get(&id)) {
            return done;
        }
        let node = t.node(id).clone();
        let node = node.map(|c| go(t, c, by, memo));
        let out = t.add(node);
        memo.insert(id, out);
        out
    }
    go(t, id, by, &mut HashMap::default())
}

/// Gives the axes that are free in a term other names, all parts of them alike.
fn rename(t: &mut Terms, id: Id, by: &BTreeMap<Axis, Axis>, normal: &mut Normal) -> Id {
    fn go(t: &mut Terms, id: Id, by: &BTreeMap<Axis, Axis>, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let name = |a: Axis| by.get(&a).copied().unwrap_or(a);
        let node = t.node(id).clone().map(|c| go(t, c, by, memo));
        let node = match node {
            Node::Pos(a) => Node::Pos(name(a)),
            Node::CutPos(a) => Node::CutPos(name(a)),
            Node::Reduce(op, pieces, body) => {
                let pieces = pieces.into_iter().map(|p| Piece { axis: name(p.axis), ..p });
                Node::Reduce(op, pieces.collect(), body)
            }
            Node::Part(a, x) => Node::Part(name(a), x),
            Node::Fold(a, op, c) => Node::Fold(name(a), op, c),
            other => other,
        };
        let out = t.add(node);
        memo.insert(id, out);
        out
    }
    let out = go(t, id, by, &mut HashMap::default());
    normal.of(t, out)
}

/// The normal form with canonical names for bound axes: terms that are equal up to those names become one node.
pub fn canonical(t: &mut Terms, id: Id, normal: &mut Normal) -> Id {
    fn go(t: &mut Terms, id: Id, normal: &mut Normal, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let node = t.node(id).clone().map(|c| go(t, c, normal, memo));
        // Parts within a block go by the name of the axis whose blocks are bound around them.
        let binds: Vec<Axis> = match &node {
            Node::Reduce(_, pieces, _) => {
                pieces.iter().filter(|p| p.part != Part::Inner).map(|p| p.axis).collect()
            }
            Node::Fold(a, ..) => vec![*a],
            _ => Vec::new(),
        };
        let out = if binds.is_empty() {
            let out = t.add(node);
            normal.of(t, out)
        } else {
            let names = names(t, &node, &binds, normal);
            let node = match node {
                Node::Reduce(op, pieces, body) => {
                    let body = rename(t, body, &names, normal);
                    let name =
                        |p: &Piece| Piece { axis: names.get(&p.axis).copied().unwrap_or(p.axis), ..*p };
                    let mut pieces: Vec<Piece> = pieces.iter().map(name).collect();
                    pieces.sort_unstable();
                    Node::Reduce(op, pieces, body)
                }
                Node::Fold(a, op, c) => {
                    let c = c.into_iter().map(|x| rename(t, x, &names, normal)).collect();
                    Node::Fold(names[&a], op, c)
                }
                other => other,
            };
            t.add(node)
        };
        memo.insert(id, out);
        out
    }
    let id = normal.of(t, id);
    go(t, id, normal, &mut HashMap::default())
}

/// Names for the axes that a node binds: by height, extent and, where several have one extent, by where they stand.
fn names(t: &mut Terms, node: &Node, binds: &[Axis], normal: &mut Normal) -> BTreeMap<Axis, Axis> {
    let height = node.children().iter().map(|&c| t.facts(c).height).max().unwrap_or(0) + 1;
    let mut keyed: Vec<(Option<Extent>, Vec<Id>, Axis)> = Vec::new();
    for &a in binds {
        let extent = t.extent(a);
        let alike = binds.iter().filter(|&&b| t.extent(b) == extent).count();
        let shape = if alike > 1 {
            // This axis marked, the others not told apart.
            let mut by = BTreeMap::new();
            for &b in binds {
                by.insert(b, t.bound(u32::MAX, u32::from(a == b), b));
            }
            node.children().iter().map(|&c| rename(t, c, &by, normal)).collect()
        } else {
            Vec::new()
        };
        keyed.push((extent, shape, a));
    }
    keyed.sort();
    let mut out = BTreeMap::new();
    for (n, (extent, _, a)) in keyed.iter().enumerate() {
        let before = keyed[..n].iter().filter(|(e, ..)| e == extent).count();
        let name = t.bound(height, before as u32, *a);
        out.insert(*a, name);
    }
    out
}
