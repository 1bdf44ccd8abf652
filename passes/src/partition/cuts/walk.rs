//! Walking the kernels of a term for what is to be stored.
//!
//! Why here: what is stored is not the bare reduction but the largest elementwise expression around it that is no larger and that
//! no one else needs in parts.
//!
//! Pre: what is stored so far. Post: of what the walk came to, all that there is a reason to store is stored, unless something was
//! stored first that ended the walk: then it is to be walked again.

use std::collections::BTreeSet;

use tilewright_ir::Axis;

use super::{Cutter, Policy};
use crate::algebra::dag::child;
use crate::algebra::{AxisSet, NodeId, Part, SubAxis, Term};

impl Cutter<'_> {
    /// Walks the part of the term that the kernel of `root` computes. `loops` are the axes streamed around `n`, the
    /// outermost first, `bound` those that the reductions around it bind, `path` the elementwise nodes above it since the last one.
    pub(super) fn visit(
        &mut self,
        root: NodeId,
        n: NodeId,
        domain: AxisSet,
        loops: &[Axis],
        bound: AxisSet,
        path: &mut Vec<NodeId>,
    ) {
        if !self.is_heavy(n) || (n != root && self.cuts.stored.contains_key(&self.key(n))) {
            return;
        }
        if !self.visited.insert((n, loops.to_vec(), bound)) {
            return;
        }
        let dag = self.dag;
        match &dag.nodes[n].term {
            Term::Reduce(_, parts, [body]) if parts.iter().all(|p| p.part == Part::Inner) => {
                self.visit(root, child(*body), domain, loops, bound, &mut vec![]);
            }
            Term::Reduce(..) | Term::Fold(..) => {
                if let Some((reason, forced)) = self.must_store(root, n, domain, loops, bound, path) {
                    let top = self.cone(n, path);
                    // Without fusion a kernel has one reduction, the first that it comes to.
                    let own = *self.owns.entry(root).or_insert(n);
                    let shared = self.policy == Policy::Every && top == root && self.key(own) != self.key(n);
                    let top = if shared { n } else { top };
                    if top != root && !self.blocky[top.as_u32() as usize] {
                        let key = self.key(top);
                        if forced {
                            self.forced.insert(key);
                        }
                        self.cuts.reasons.entry(key).or_insert(reason);
                        self.cuts.stored.entry(key).or_insert(top);
                        self.visited.clear();
                        return;
                    }
                }
                let streamed = self.streamed(n);
                let own: AxisSet = streamed.iter().copied().map(SubAxis::whole).collect();
                let inner: Vec<Axis> = loops.iter().copied().chain(streamed).collect();
                // What a fold tracks runs in step with it and holds nothing that its block value does not hold.
                let fold = matches!(dag.nodes[n].term, Term::Fold(..));
                let bound = bound.union(match &dag.nodes[n].term {
                    Term::Reduce(_, parts, _) => parts.iter().map(|p| SubAxis::whole(p.axis)).collect(),
                    _ => own,
                });
                for c in dag.children(n).take(if fold { 1 } else { usize::MAX }) {
                    self.visit(root, c, domain, &inner, bound, &mut vec![]);
                }
            }
            _ => {
                path.push(n);
                // The largest first: storing it may store this node, and its other parts with it.
                let mut children: Vec<NodeId> = dag.children(n).collect();
                let size = |c: NodeId| self.sizes.product(&dag.nodes[c].free);
                children.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
                for c in children {
                    if n != root && self.cuts.stored.contains_key(&self.key(n)) {
                        break;
                    }
                    self.visit(root, c, domain, loops, bound, path);
                }
                path.pop();
            }
        }
    }

    /// The largest elementwise expression around the reduction that is no larger than it and whose parts no one else needs.
    pub(super) fn cone(&self, n: NodeId, path: &[NodeId]) -> NodeId {
        let limit = self.sizes.product(&self.dag.nodes[n].free);
        let mixes = |top: NodeId| self.is_once(n) && !self.is_once(top);
        for (at, &top) in path.iter().enumerate() {
            if self.sizes.product(&self.dag.nodes[top].free) > limit
                || self.blocky[top.as_u32() as usize]
                || mixes(top)
            {
                continue;
            }
            let mut inside = BTreeSet::new();
            let mut todo = vec![top];
            while let Some(x) = todo.pop() {
                let elementwise = !matches!(self.dag.nodes[x].term, Term::Reduce(..) | Term::Fold(..));
                if inside.insert(x) && elementwise {
                    todo.extend(self.dag.children(x));
                }
            }
            let below = path[at + 1..].iter().chain([&n]);
            if below.into_iter().all(|x| self.parents[x.as_u32() as usize].iter().all(|p| inside.contains(p)))
            {
                return top;
            }
        }
        n
    }
}
