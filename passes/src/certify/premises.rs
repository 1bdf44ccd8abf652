//! Steps by laws that used more than they say.
//!
//! Why here: a law that matched an operand as what it equals, and not as what is written, follows only from that equality; which one
//! it was the e-graph does not say, so those that may be are tried.
//!
//! Pre: the step by itself is no instance of its law. Post: the step with its premises, each proved, or both sides for people.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;
use tilewright_proof::build::Proof;
use tilewright_proof::term;

use super::Writer;
use crate::algebra::Term;

impl Writer<'_> {
    /// A step by a law that used that operands are equal to what they are not written as.
    pub(super) fn modulo(&mut self, law: &str, l: term::Id, r: term::Id) -> Result<Proof, String> {
        let mut pairs = self.twins(l, r);
        pairs.extend(self.flattened(l, r));
        let mut proofs = Vec::new();
        for (from, to) in pairs {
            if let Ok(Some(proof)) = self.equal(from, to) {
                proofs.push(proof);
                if let Some(step) = self.builder.law(law, l, r, &proofs) {
                    return Ok(step);
                }
            }
        }
        Err(format!("a step of `{law}` is no instance of it: {} and {}", self.show(l, 0), self.show(r, 0)))
    }

    /// The terms within both sides, without the sides themselves, in order.
    fn within(&self, l: term::Id, r: term::Id) -> BTreeSet<term::Id> {
        let mut out = BTreeSet::new();
        let mut todo = vec![l, r];
        while let Some(t) = todo.pop() {
            for &c in self.builder.terms.node(t).children() {
                if out.insert(c) {
                    todo.push(c);
                }
            }
        }
        out.remove(&l);
        out.remove(&r);
        out
    }

    /// Terms within the two sides that are written differently and are of one class, each with the first of its class.
    fn twins(&self, l: term::Id, r: term::Id) -> Vec<(Id, Id)> {
        let mut first: BTreeMap<Id, Id> = BTreeMap::new();
        let mut out = Vec::new();
        for t in self.within(l, r) {
            let Some(&id) = self.exact.get(&t) else { continue };
            match first.get(&self.graph.find(id)) {
                Some(&other) => out.push((id, other)),
                None => {
                    first.insert(self.graph.find(id), id);
                }
            }
        }
        out
    }

    /// Operands that are written as something else than the sum, product or literal that their class holds as its
    /// smallest term, each with that.
    fn flattened(&mut self, l: term::Id, r: term::Id) -> Vec<(Id, Id)> {
        let mut out = Vec::new();
        for t in self.within(l, r) {
            let Some(&id) = self.exact.get(&t) else { continue };
            let class = self.graph.find(id);
            let smallest = self.graph[class].data.smallest.clone();
            if !matches!(smallest, Term::Add(_) | Term::Mul(_) | Term::Max(_) | Term::Min(_) | Term::Num(_)) {
                continue;
            }
            let plain = self.graph.add_uncanonical(smallest);
            if self.term(plain) != t {
                out.push((id, plain));
            }
        }
        out
    }

    /// A term for people, to some depth.
    fn show(&self, t: term::Id, depth: usize) -> String {
        let n = self.builder.terms.node(t);
        let row = tilewright_proof::cert::row(n);
        if n.children().is_empty() {
            return row.of;
        }
        if depth > 5 {
            return "...".into();
        }
        let c: Vec<String> = n.children().iter().map(|&c| self.show(c, depth + 1)).collect();
        format!("{}{}{}({})", row.op, if row.of.is_empty() { "" } else { ":" }, row.of, c.join(", "))
    }
}
