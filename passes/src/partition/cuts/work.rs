//! What subterms cost to compute, and what computes or needs them.
//!
//! Why here: estimates are of what a kernel computes itself, so they change with every subterm that is stored.
//!
//! Pre: what is stored so far. Post: operations and bytes for one computation, without what is stored.

use std::collections::BTreeSet;

use super::Cutter;
use crate::algebra::dag::child;
use crate::algebra::{NodeId, Term};

/// Bytes of an element, for estimates: weights and activations have 16 bits.
pub(super) const ELEMENT: f64 = 2.0;

/// The part of a subterm's work that a kernel must do anyway to compute it beside its own.
const SHARED: f64 = 0.9;

impl Cutter<'_> {
    /// The stored subterm whose kernel computes nearly all of `n` anyway, at the same positions or more. More than one position
    /// may be none, and then the kernel computes nothing.
    pub(super) fn host(&self, n: NodeId) -> Option<NodeId> {
        let (work, _) = self.work(n);
        let own = self.computed(n);
        let free = self.dag.nodes[n].free;
        let candidates = self.cuts.stored.values().copied().filter(|&h| self.key(h) != self.key(n));
        candidates
            .filter(|&h| {
                let theirs = self.dag.nodes[h].free;
                free.is_subset(&theirs) && theirs.difference(free).is_disjoint(&self.may_be_empty)
            })
            .filter(|&h| !self.needs(n, h) && !self.needs(h, n))
            .find(|&h| {
                let theirs = self.computed(h);
                self.work_of(own.iter().copied().filter(|x| theirs.contains(x))).0 >= SHARED * work
            })
    }

    /// Whether a subterm is somewhere within another, or within what that reads of an update.
    pub(super) fn needs(&self, n: NodeId, part: NodeId) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = vec![n];
        while let Some(x) = todo.pop() {
            if x != n && (x == part || self.is_heavy(x) && self.key(x) == self.key(part)) {
                return true;
            }
            if seen.insert(x) {
                todo.extend(self.dag.children(x));
                if let Term::Read(v, _) = self.dag.nodes[x].term {
                    todo.extend(self.written.get(&v));
                }
            }
        }
        false
    }

    /// How many kernels, as they are cut so far, compute or read what `n` computes.
    pub(super) fn users(&self, n: NodeId) -> usize {
        let key = self.key(n);
        let kernels = self.roots.iter().chain(self.cuts.stored.values());
        let needs = |root: NodeId| {
            let mut seen = BTreeSet::new();
            let mut todo = vec![root];
            while let Some(x) = todo.pop() {
                if !self.is_heavy(x) || !seen.insert(x) {
                    continue;
                }
                if self.key(x) == key {
                    return true;
                }
                if x == root || !self.cuts.stored.contains_key(&self.key(x)) {
                    todo.extend(self.dag.children(x));
                }
            }
            false
        };
        kernels.filter(|&&root| needs(root)).count().max(1)
    }

    /// Operations and bytes read of computing a subterm once, without what is stored.
    pub(super) fn work(&self, n: NodeId) -> (f64, f64) {
        let (work, bytes) = self.work_of(self.computed(n).into_iter());
        let stored = self.computed(n).into_iter().flat_map(|x| self.dag.children(x)).collect::<BTreeSet<_>>();
        let read: f64 = stored
            .into_iter()
            .filter(|&x| x != n && self.is_stored(x))
            .map(|x| ELEMENT * self.sizes.product(&self.dag.nodes[x].free))
            .sum();
        (work, bytes + read)
    }

    /// The terms that a kernel of `n` computes or reads: all but those within what is stored.
    pub(super) fn computed(&self, n: NodeId) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::from([n]);
        let mut todo = vec![n];
        while let Some(x) = todo.pop() {
            if matches!(self.dag.nodes[x].term, Term::Read(..)) {
                continue;
            }
            for c in self.dag.children(x) {
                if !self.is_stored(c) && seen.insert(c) {
                    todo.push(c);
                }
            }
        }
        seen
    }

    /// Operations and bytes of terms.
    pub(super) fn work_of(&self, terms: impl Iterator<Item = NodeId>) -> (f64, f64) {
        let (mut work, mut bytes) = (0.0, 0.0);
        for x in terms {
            let node = &self.dag.nodes[x];
            match &node.term {
                Term::Read(..) => bytes += ELEMENT * self.sizes.product(&node.free),
                Term::Reduce(_, _, [body]) => {
                    work += 2.0 * self.sizes.product(&self.dag.nodes[child(*body)].free);
                }
                Term::Unary(..) => work += 8.0 * self.sizes.product(&node.free),
                _ => {}
            }
        }
        (work, bytes)
    }
}
