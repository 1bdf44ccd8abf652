//! Proofs of the e-graph as steps.
//!
//! Why here: a union is between two classes; a step is between two terms, of which everything else is the same.
//!
//! Pre: numbers of one class. Post: steps that the checker accepts, or which of them it would not.

use std::rc::Rc;

use egg::{Id, TreeTerm};
use tilewright_ir::Reduction;
use tilewright_proof::build::Proof;
use tilewright_proof::term::{self, Node};

use super::Writer;
use crate::algebra::Term;

type Chain = [Rc<TreeTerm<Term>>];

impl Writer<'_> {
    /// The proof that two terms of one class are equal.
    pub(super) fn equal(&mut self, from: Id, to: Id) -> Result<Proof, String> {
        let (a, b) = (self.term(from), self.term(to));
        if let Some(known) = self.builder.known(a, b) {
            return Ok(known);
        }
        if self.graph.find(from) != self.graph.find(to) {
            return Err("the e-graph does not hold that they are equal".into());
        }
        let explanation = self.graph.explain_id_equivalence(from, to);
        let trees = explanation.explanation_trees;
        let (_, _, proof) = self.chain(&trees)?;
        // Proofs are remembered by address, and addresses are used again once a proof is gone.
        self.held.push(trees);
        Ok(proof)
    }

    /// A chain of terms, each from the one before by a rule: its first and last term, and the proof that they are equal.
    fn chain(&mut self, terms: &Chain) -> Result<(term::Id, term::Id, Proof), String> {
        let mut proofs = Vec::new();
        let mut ends: Option<(term::Id, term::Id)> = None;
        for t in terms {
            let (first, last, inside) = self.tree(t)?;
            if let Some((_, before)) = ends {
                let law = t.forward_rule.or(t.backward_rule).map(|s| s.to_string()).unwrap_or_default();
                proofs.push(self.step(&law, before, first)?);
            }
            proofs.push(inside);
            ends = Some((ends.map_or(first, |(f, _)| f), last));
        }
        let (first, last) = ends.ok_or("an empty proof")?;
        Ok((first, last, self.builder.chain(&proofs)))
    }

    /// One term whose operands change: the term before and after, and the proof by congruence.
    fn tree(&mut self, t: &Rc<TreeTerm<Term>>) -> Result<(term::Id, term::Id, Proof), String> {
        let key = Rc::as_ptr(t);
        if let Some(&done) = self.done.get(&key) {
            return Ok(done);
        }
        let (mut first, mut last, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        for c in &t.child_proofs {
            let (a, b, p) = self.chain(c)?;
            first.push(a);
            last.push(b);
            proofs.push(p);
        }
        let (a, b) = (self.over(&t.node, &first), self.over(&t.node, &last));
        let proof = if a == b { None } else { self.builder.congruence(a, b, &proofs) };
        self.done.insert(key, (a, b, proof));
        Ok((a, b, proof))
    }

    /// A step by a law.
    fn step(&mut self, law: &str, l: term::Id, r: term::Id) -> Result<Proof, String> {
        if let Some(known) = self.builder.known(l, r) {
            return Ok(known);
        }
        if let Some(folded) = self.folded(l, r) {
            return Ok(folded);
        }
        if let Some(known) = self.builder.law(law, l, r, &[]) {
            return Ok(known);
        }
        if !self.open.insert((l, r)) {
            return Err(format!("a step of `{law}` rests on itself"));
        }
        let out = self.modulo(law, l, r);
        self.open.remove(&(l, r));
        out
    }

    /// A step to or from a fold that chooses, with the proof that the other side is what its block value is a part of.
    fn folded(&mut self, l: term::Id, r: term::Id) -> Option<Proof> {
        let part = |t: term::Id| match self.builder.terms.node(t) {
            Node::Fold(_, op, c) if *op != Reduction::Sum => match self.builder.terms.node(c[0]) {
                Node::Part(_, of) => Some(*of),
                _ => None,
            },
            _ => None,
        };
        let (of, whole) = match (part(l), part(r)) {
            (Some(of), None) => (of, r),
            (None, Some(of)) => (of, l),
            _ => return None,
        };
        let (from, to) = (self.exact.get(&of).copied()?, self.exact.get(&whole).copied()?);
        if !self.open.insert((of, whole)) {
            return None;
        }
        let proof = self.equal(from, to);
        self.open.remove(&(of, whole));
        self.builder.fold(l, r, proof.ok()??)
    }
}
