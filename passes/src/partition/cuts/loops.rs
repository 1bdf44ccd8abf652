//! The loops and blocks in which reductions would be computed.
//!
//! Why here: how often something is computed again is a matter of the loops around it and of those that need it.
//!
//! Post: of the term alone, whatever is stored.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::{Axis, Extent};

use super::Cutter;
use crate::algebra::{AxisSet, NodeId, Part, SubAxis, Term};

impl Cutter<'_> {
    /// The axes that a reduction streams: those too long to be resident, and those of folds.
    pub(super) fn streamed(&self, n: NodeId) -> Vec<Axis> {
        match &self.dag.nodes[n].term {
            Term::Fold(a, ..) => vec![*a],
            Term::Reduce(_, parts, _) => parts
                .iter()
                .filter(|p| match p.part {
                    Part::Whole => !self.fits(p.axis),
                    Part::Outer => true,
                    Part::Inner => false,
                })
                .map(|p| p.axis)
                .collect(),
            _ => vec![],
        }
    }

    /// Whether a tile may span the axis.
    pub(super) fn fits(&self, a: Axis) -> bool {
        matches!(self.axes[a].extent, Extent::Const(n) if n as f64 <= self.cost.resident)
    }

    /// Blocks of an axis that are computed independently, if it is split at all.
    pub(super) fn blocks(&self, a: SubAxis) -> f64 {
        (self.sizes.of(a) / self.cost.block).ceil()
    }

    /// Thread blocks that compute something over the given axes: enough to fill the machine where there are as many
    /// positions, blocks of some rows beyond.
    pub(super) fn spread(&self, axes: impl Iterator<Item = SubAxis>) -> f64 {
        let positions = axes.map(|a| self.sizes.of(a)).product::<f64>();
        positions.min((positions / self.cost.block).max(self.cost.processors))
    }

    /// The number of loops, one after the other, that need the subterm at every position of these axes.
    pub(super) fn passes(&self, n: NodeId, loops: AxisSet) -> f64 {
        let mut most: usize = 1;
        for a in loops.iter().map(|p| p.axis) {
            let mut found = BTreeSet::new();
            let mut seen = BTreeSet::new();
            let mut todo = vec![n];
            while let Some(x) = todo.pop() {
                for &p in &self.parents[x.as_u32() as usize] {
                    let binds = match &self.dag.nodes[p].term {
                        Term::Fold(b, ..) => *b == a,
                        Term::Reduce(_, parts, _) => {
                            parts.iter().any(|q| q.axis == a && q.part != Part::Inner)
                        }
                        _ => false,
                    };
                    if binds {
                        found.insert(self.level(p, a, &mut BTreeMap::new()));
                    } else if seen.insert(p) {
                        todo.push(p);
                    }
                }
            }
            most = most.max(found.len());
        }
        most as f64
    }

    /// How many passes over the axis a subterm takes, one waiting for the other.
    fn level(&self, n: NodeId, a: Axis, memo: &mut BTreeMap<NodeId, usize>) -> usize {
        if let Some(&l) = memo.get(&n) {
            return l;
        }
        let own = match &self.dag.nodes[n].term {
            Term::Fold(b, ..) => *b == a,
            Term::Reduce(_, parts, _) => parts.iter().any(|q| q.axis == a && q.part != Part::Inner),
            _ => false,
        };
        // What a fold tracks runs in step with it.
        let fold = matches!(self.dag.nodes[n].term, Term::Fold(..));
        let children = self.dag.children(n).take(if fold { 1 } else { usize::MAX });
        let below = children.map(|c| self.level(c, a, memo)).max().unwrap_or(0);
        let l = below + usize::from(own);
        memo.insert(n, l);
        l
    }
}
