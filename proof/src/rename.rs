//! Binders: restriction to a block and back, substitution, and names that do not matter.
//!
//! Why here: each of these is a place where a variable could be captured; they are together so that they can be read
//! together. The canonical form names each bound axis by how deep binders are nested below it and by its extent, so that
//! no binder can have the name of one inside of it, and terms that differ in the names of bound axes are the same node.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::{Axis, Extent};

use crate::laws::Rules;
use crate::normal::Normal;
use crate::term::{Id, Node, Part, Piece, Terms};

/// Whether a term can be restricted to one block of `j`: it has no parts of `j` already.
pub fn restrictable(t: &Terms, id: Id, j: Axis) -> bool {
    !t.facts(id).cut.contains(&j)
}

/// The term restricted to one block of `j`: reductions over `j` run within the block, free positions are cut. None if it has
/// parts of `j` already.
pub fn restrict(t: &mut Terms, id: Id, j: Axis) -> Option<Id> {
    fn go(t: &mut Terms, id: Id, j: Axis, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let node = match t.node(id).clone().map(|c| go(t, c, j, memo)) {
            Node::Pos(a) if a == j => Node::CutPos(j),
            Node::Reduce(op, pieces, body) => {
                let inner = |p: Piece| if p == Piece::whole(j) { Piece::inner(j) } else { p };
                Node::Reduce(op, pieces.into_iter().map(inner).collect(), body)
            }
            other => other,
        };
        let out = t.add(node);
        memo.insert(id, out);
        out
    }
    restrictable(t, id, j).then(|| go(t, id, j, &mut HashMap::default()))
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

/// The term with free positions of axes replaced. Pre: binders of the term have names of their own (see [`Canonical`]).
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
        let node = t.node(id).clone().map(|c| go(t, c, by, memo));
        let out = t.add(node);
        memo.insert(id, out);
        out
    }
    go(t, id, by, &mut HashMap::default())
}

/// The action of a fold with what it moves in place of the hole.
pub fn fill(t: &mut Terms, action: Id, with: Id) -> Id {
    fn go(t: &mut Terms, id: Id, with: Id, memo: &mut HashMap<Id, Id>) -> Id {
        if !t.facts(id).moved {
            return id;
        }
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let node = match t.node(id).clone() {
            Node::Hole => return with,
            Node::Fold(j, op, mut c) => {
                // Its own action is about what it moves itself.
                for (_, c) in c.iter_mut().enumerate().filter(|(n, _)| *n != 1) {
                    *c = go(t, *c, with, memo);
                }
                Node::Fold(j, op, c)
            }
            node => node.map(|c| go(t, c, with, memo)),
        };
        let out = t.add(node);
        memo.insert(id, out);
        out
    }
    go(t, action, with, &mut HashMap::default())
}

/// Gives the axes that are free in a term other names, all parts of them alike. Pre: where one of them is bound, a part of it
/// is free, too; what is bound otherwise has canonical names already.
fn rename(t: &mut Terms, id: Id, by: &BTreeMap<Axis, Axis>, normal: &mut Normal) -> Id {
    fn go(t: &mut Terms, id: Id, by: &BTreeMap<Axis, Axis>, memo: &mut HashMap<Id, Id>) -> Id {
        // Nested binders hold much that does not mention the outer ones.
        if !t.facts(id).free.iter().any(|p| by.contains_key(&p.axis)) {
            return id;
        }
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

/// Normal forms with canonical names for bound axes: terms that are equal up to those names become one node.
#[derive(Clone)]
pub struct Canonical {
    normal: Normal,
    forms: HashMap<Id, Id>,
}

impl Canonical {
    /// With the rules of a normal form.
    pub fn new(rules: Rules) -> Canonical {
        Canonical { normal: Normal::new(rules), forms: HashMap::default() }
    }

    /// The canonical form of a term.
    pub fn of(&mut self, t: &mut Terms, id: Id) -> Id {
        let id = self.normal.of(t, id);
        self.named(t, id)
    }

    fn named(&mut self, t: &mut Terms, id: Id) -> Id {
        if let Some(&done) = self.forms.get(&id) {
            return done;
        }
        let node = t.node(id).clone().map(|c| self.named(t, c));
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
            self.normal.of(t, out)
        } else {
            let names = names(t, &node, &binds, &mut self.normal);
            let node = match node {
                Node::Reduce(op, pieces, body) => {
                    let body = rename(t, body, &names, &mut self.normal);
                    let name =
                        |p: &Piece| Piece { axis: names.get(&p.axis).copied().unwrap_or(p.axis), ..*p };
                    let mut pieces: Vec<Piece> = pieces.iter().map(name).collect();
                    pieces.sort_unstable();
                    Node::Reduce(op, pieces, body)
                }
                Node::Fold(a, op, c) => {
                    let c = c.into_iter().map(|x| rename(t, x, &names, &mut self.normal)).collect();
                    Node::Fold(names[&a], op, c)
                }
                other => other,
            };
            t.add(node)
        };
        self.forms.insert(id, out);
        out
    }
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

#[cfg(test)]
mod tests {
    use tilewright_ir::{Reduction, Unary, Value};

    use super::*;
    use crate::laws::PLAN;

    fn terms() -> (Terms, Axis, Id) {
        let mut t = Terms::default();
        let j = Axis::from_u32(0);
        t.declare(j, Extent::Const(7));
        let pos = t.add(Node::Pos(j));
        let x = t.add(Node::Read(Value::from_u32(0), vec![pos]));
        (t, j, x)
    }

    #[test]
    fn what_has_parts_of_an_axis_is_not_restricted_to_a_block_of_it() {
        let (mut t, j, x) = terms();
        let whole = t.add(Node::Reduce(Reduction::Max, vec![Piece::whole(j)], x));
        let within = restrict(&mut t, whole, j);
        let cut = t.add(Node::CutPos(j));
        let y = t.add(Node::Read(Value::from_u32(0), vec![cut]));
        let by_hand = t.add(Node::Reduce(Reduction::Max, vec![Piece::inner(j)], y));
        assert_eq!(within, Some(by_hand));
        // Bound parts count, too: nothing of the axis is free in what is below.
        let all = t.add(Node::Reduce(Reduction::Max, vec![Piece::outer(j)], by_hand));
        let beside = t.add(Node::Add(vec![x, all]));
        assert!(t.facts(all).free.is_empty());
        for id in [y, by_hand, all, beside] {
            assert_eq!(restrict(&mut t, id, j), None);
        }
    }

    #[test]
    fn the_hole_of_a_fold_within_an_action_is_its_own() {
        let (mut t, j, x) = terms();
        let hole = t.add(Node::Hole);
        let fold = |t: &mut Terms, block: Id, action: Id| {
            t.add(Node::Fold(j, Reduction::Max, vec![block, action, x, x]))
        };
        let size = t.add(Node::Unary(Unary::Abs, hole));
        let (own, around) = (fold(&mut t, x, size), fold(&mut t, hole, size));
        let action = t.add(Node::Max(vec![own, around, hole]));
        let filled = fill(&mut t, action, x);
        assert_eq!(filled, t.add(Node::Max(vec![own, own, x])));
        assert!(!t.facts(own).moved && t.facts(around).moved);
    }

    #[test]
    fn names_of_bound_axes_do_not_matter() {
        let (mut t, ..) = terms();
        let extent = Extent::Const(7);
        // max[a] (x[a] + max[b] (x[b] + ... )), in different names and in names that are used again.
        let nest = |t: &mut Terms, names: [u32; 3]| {
            let mut inner = t.num(2.0);
            for n in names {
                let axis = Axis::from_u32(n);
                t.declare(axis, extent);
                let pos = t.add(Node::Pos(axis));
                let x = t.add(Node::Read(Value::from_u32(0), vec![pos]));
                let sum = t.add(Node::Mul(vec![x, inner]));
                inner = t.add(Node::Reduce(Reduction::Max, vec![Piece::whole(axis)], sum));
            }
            inner
        };
        let all = [[0, 1, 2], [2, 1, 0], [1, 1, 1], [0, 1, 0]].map(|names| nest(&mut t, names));
        let mut c = Canonical::new(PLAN);
        let forms = all.map(|id| c.of(&mut t, id));
        assert!(forms.iter().all(|&f| f == forms[0]), "{forms:?}");
        // Another number on the inside is another term.
        let other = nest(&mut t, [0, 1, 1]);
        let (one, two) = (t.num(1.0), t.num(2.0));
        let other = replace(&mut t, other, &HashMap::from_iter([(two, one)]));
        assert_ne!(c.of(&mut t, other), forms[0]);
    }
}
