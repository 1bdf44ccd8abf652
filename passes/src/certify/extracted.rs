//! What the e-graph and the kernel have of an extracted term.
//!
//! Why here: the partition groups operands, and puts in place what others store; the proof goes from the one to the other.
//!
//! Post: a term that the e-graph holds, where it does, and that it equals what the kernel computes.

use egg::{Id, Language};
use tilewright_ir::EntityRef;
use tilewright_proof::build::Proof;
use tilewright_proof::term;

use super::terms::converted;
use super::{Writer, known};
use crate::algebra::{NodeId, Term};

/// In how many ways operands are ungrouped.
const FORMS: usize = 64;

/// An extracted node.
#[derive(Clone, Copy)]
pub(super) struct Extracted {
    /// The term that the e-graph holds, where it does.
    pub(super) exact: Option<Id>,
    /// The same as a term.
    pub(super) found: term::Id,
    /// What the kernel computes: grouped as the partition has it, with what others store as they define it.
    pub(super) computed: term::Id,
    /// That the two are equal.
    pub(super) proof: Proof,
}

impl Writer<'_> {
    /// What a node of the extracted term is to the e-graph and to the kernel.
    pub(super) fn node(&mut self, n: NodeId) -> Result<Extracted, String> {
        if let Some(&done) = self.extracted.get(&n) {
            return Ok(done);
        }
        let dag = self.plan.dag;
        let node = &dag.nodes[n];
        let children: Vec<Extracted> = dag.children(n).map(|c| self.node(c)).collect::<Result<_, _>>()?;
        let ids = |c: &[Extracted]| -> Vec<term::Id> { c.iter().map(|c| c.found).collect() };
        let together = self.builder.node(converted(&node.term, &ids(&children)));
        let mut out = Extracted { exact: None, found: together, computed: together, proof: None };
        if known(node.class) {
            let id = self.held(&node.term, node.class, &children).or_else(|| {
                // The partition has grouped operands of a sum or product that the e-graph has in one.
                let flat = self.flat(n)?;
                self.held(&node.term, node.class, &flat).or_else(|| self.ungrouped(n))
            });
            let id = id.ok_or("a subterm as the partition has it is not in the e-graph")?;
            out.exact = Some(id);
            out.found = self.term(id);
        }
        let from_others = self.as_source
            && !self.roots.contains(&n)
            && self.plan.heavy[n.index()]
            && self
                .plan
                .keys
                .get(&self.plan.canons.form(n))
                .is_some_and(|v| !self.roots.contains(&self.plan.stored[v]));
        let source = known(node.class).then(|| self.plan.source.get(&self.graph.find(node.class)).copied());
        if from_others && let (Some(Some(source)), Some(id)) = (source, out.exact) {
            out.computed = self.term(source);
            out.proof = self.equal(id, source)?;
        } else {
            let computed: Vec<term::Id> = children.iter().map(|c| c.computed).collect();
            let proofs: Vec<Proof> = children.iter().map(|c| c.proof).collect();
            out.computed = self.builder.node(converted(&node.term, &computed));
            let regrouped = self
                .builder
                .law("assoc", out.found, together, &[])
                .ok_or("grouping operands has changed a term")?;
            let inside = match together == out.computed {
                true => None,
                false => self.builder.congruence(together, out.computed, &proofs),
            };
            out.proof = self.builder.chain(&[regrouped, inside]);
        }
        self.extracted.insert(n, out);
        Ok(out)
    }

    /// The operands of a sum or product, with those that are the same operation replaced by theirs.
    fn flat(&mut self, n: NodeId) -> Option<Vec<Extracted>> {
        let dag = self.plan.dag;
        let term = &dag.nodes[n].term;
        if !matches!(term, Term::Add(_) | Term::Mul(_)) {
            return None;
        }
        let mut out = Vec::new();
        for c in dag.children(n) {
            if std::mem::discriminant(&dag.nodes[c].term) == std::mem::discriminant(term) {
                let inner: Vec<NodeId> = dag.children(c).collect();
                out.extend(match self.flat(c) {
                    Some(deeper) => deeper,
                    None => inner.iter().map(|&i| self.node(i).ok()).collect::<Option<_>>()?,
                });
            } else {
                out.push(self.node(c).ok()?);
            }
        }
        Some(out)
    }

    /// The number of a sum or product of which some operands are the same operation in the e-graph too, as in one that was searched
    /// in part: each is replaced by its operands or not.
    fn ungrouped(&mut self, n: NodeId) -> Option<Id> {
        let dag = self.plan.dag;
        let node = &dag.nodes[n];
        let mut todo: Vec<Vec<NodeId>> = vec![dag.children(n).collect()];
        let mut at = 0;
        while at < todo.len().min(FORMS) {
            let operands = todo[at].clone();
            at += 1;
            let written: Option<Vec<Extracted>> = operands.iter().map(|&c| self.node(c).ok()).collect();
            if let Some(id) = written.and_then(|w| self.held(&node.term, node.class, &w)) {
                return Some(id);
            }
            for (place, &c) in operands.iter().enumerate() {
                if std::mem::discriminant(&dag.nodes[c].term) == std::mem::discriminant(&node.term) {
                    let mut other = operands.clone();
                    other.splice(place..=place, dag.children(c));
                    if !todo.contains(&other) {
                        todo.push(other);
                    }
                }
            }
        }
        None
    }

    /// The number of a node over operands, if the class holds it.
    fn held(&mut self, term: &Term, class: Id, operands: &[Extracted]) -> Option<Id> {
        let class = self.graph.find(class);
        let ids: Vec<Id> = operands.iter().map(|o| o.exact).collect::<Option<_>>()?;
        let commutes = matches!(term, Term::Add(_) | Term::Mul(_) | Term::Max(_) | Term::Min(_));
        for node in self.graph[class].nodes.clone() {
            let same = match commutes {
                true => std::mem::discriminant(&node) == std::mem::discriminant(term),
                false => node.matches(term),
            };
            if !same || node.children().len() != ids.len() {
                continue;
            }
            let mut rest = ids.clone();
            let ordered: Option<Vec<Id>> = node
                .children()
                .iter()
                .enumerate()
                .map(|(n, &want)| {
                    let fits = |c: &Id| self.graph.find(*c) == self.graph.find(want);
                    match commutes {
                        true => rest.iter().position(fits).map(|at| rest.remove(at)),
                        false => ids.get(n).copied().filter(fits),
                    }
                })
                .collect();
            if let Some(ordered) = ordered {
                let mut ordered = ordered.into_iter();
                let node = node.map_children(|c| ordered.next().unwrap_or(c));
                return Some(self.graph.add_uncanonical(node));
            }
        }
        None
    }
}
