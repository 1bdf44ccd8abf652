//! Normal forms. Two terms with one normal form are equal.
//!
//! Why here: the checker decides whether a step is an instance of its law by bringing both sides to a normal form in
//! which that law (and no other) is used in one direction. The plain normal form holds what is not a law: sums, products,
//! maxima and minima are flat and sorted, finite literals are folded, opposite finite terms cancel, finite like terms are added up.
//!
//! Pre: premises were proved before. Post: the result equals the term wherever the premises and the recorded assumptions
//! hold. Each rule looks at its conditions in the facts of the very term that it is applied to.

mod choices;
mod flat;
mod functions;
mod reductions;

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tilewright_ir::Reduction;

use choices::{extreme, placed, shifted};

use crate::cases::Cases;
use crate::laws::Rules;
use crate::rename::{fill, restrict};
use crate::term::{Id, Node, Part, Piece, Terms};

/// A normaliser with a set of rules.
#[derive(Clone, Default)]
pub struct Normal {
    rules: Rules,
    memo: HashMap<Id, Id>,
    /// Normal forms of what is finite, which may not show it any more: squares that were multiplied out.
    finite: HashSet<Id>,
    cases: Cases,
    /// What may be replaced, in this direction, because an earlier equality says so.
    premises: HashMap<Id, Id>,
    /// What was assumed on the way.
    pub assumptions: BTreeSet<String>,
}

impl Normal {
    /// A normaliser that uses these rules.
    pub fn new(rules: Rules) -> Normal {
        Normal { rules, ..Normal::default() }
    }

    /// The same, modulo equalities.
    pub fn modulo(rules: Rules, premises: &[(Id, Id)]) -> Normal {
        Normal { rules, premises: premises.iter().copied().collect(), ..Normal::default() }
    }

    /// The normal form of a term.
    pub fn of(&mut self, t: &mut Terms, id: Id) -> Id {
        if let Some(&done) = self.memo.get(&id) {
            return done;
        }
        if let Some(other) = self.premises.remove(&id) {
            let out = self.of(t, other);
            self.premises.insert(id, other);
            self.memo.insert(id, out);
            return out;
        }
        let node = t.node(id).clone().map(|c| self.of(t, c));
        let out = self.node(t, node);
        if t.facts(id).finite() && !t.facts(out).finite() {
            self.finite.insert(out);
        }
        self.memo.insert(id, out);
        self.memo.insert(out, out);
        out
    }

    /// Whether two terms have different forms for sure, because the operations at their roots differ and no rule touches them.
    pub(crate) fn apart(&self, t: &Terms, a: Id, b: Id) -> bool {
        let fold = |id: Id| matches!(t.node(id), Node::Fold(..)) && !self.rules.fold;
        // Of reductions over blocks that are no sums, these rules may leave something else.
        let r = &self.rules;
        let moves = r.scale_max || r.binary_max || r.choose || r.split || r.merge;
        let extreme = |id: Id| match t.node(id) {
            Node::Reduce(Reduction::Max | Reduction::Min, pieces, _) => {
                !moves && !pieces.is_empty() && pieces.iter().all(|p| p.part == Part::Outer)
            }
            _ => false,
        };
        self.premises.is_empty() && (fold(a) && extreme(b) || extreme(a) && fold(b))
    }

    fn node(&mut self, t: &mut Terms, node: Node) -> Id {
        match node {
            Node::Add(c) => self.add(t, c),
            Node::Mul(c) => self.mul(t, c),
            Node::Max(c) => self.extreme(t, c, Node::Max),
            Node::Min(c) => self.extreme(t, c, Node::Min),
            Node::Unary(f, x) => self.unary(t, f, x),
            Node::Reduce(op, pieces, body) => self.reduce(t, op, pieces, body),
            Node::Select([p, c, d]) if self.rules.between || self.rules.placed => {
                let found = if self.rules.between {
                    shifted(t, p, c, d, extreme)
                } else {
                    shifted(t, p, c, d, placed)
                };
                t.add(Node::Select(found.unwrap_or([p, c, d])))
            }
            Node::Select(_) | Node::Binary(..) if self.rules.cases => {
                let id = t.add(node);
                self.cases.of(t, id)
            }
            Node::Part(j, x) if self.rules.part => match restrict(t, x, j) {
                Some(restricted) => self.of(t, restricted),
                None => t.add(Node::Part(j, x)),
            },
            Node::Fold(j, op, c) if self.rules.fold => {
                let moved = fill(t, c[1], c[0]);
                let moved = self.of(t, moved);
                self.reduce(t, op, vec![Piece::outer(j)], moved)
            }
            other => t.add(other),
        }
    }
}
