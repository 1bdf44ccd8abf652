//! Where the extracted term is cut: which subterms are stored and read back.
//!
//! A reduction inside the body of another is either computed there, again for every block that needs it, or stored by a
//! kernel of its own. Each kernel is walked for reductions (`walk`), and of each it is asked whether there is a reason to store
//! it (`reasons`), which depends on the loops it would stand in (`loops`) and on how much there is to compute and read (`work`).
//! A product with a packed weight is stored where a plan that was built shows that the weight would be read more than once.

mod loops;
mod reasons;
mod walk;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::graph::{Function, ValueData};
use tilewright_ir::{Axis, AxisData, Value};

use super::canon::{Canons, Form};
use super::group::heavy;
use super::{CostModel, Objective};
use crate::algebra::costs::Sizes;
use crate::algebra::facts::Depends;
use crate::algebra::ingest::Ingested;
use crate::algebra::{AxisSet, Dag, NodeId, Part, Term};

/// Which of the places where a term may be cut are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// By the cost that the caller's objective says.
    Objective,
    /// What is estimated to cost less stored than computed in place.
    Cost(Objective),
    /// The same by time, and besides what streams an axis while its consumer reduces over more than a few of its results:
    /// blocks that hold whole rows of results are few.
    Spread,
    /// What a block can keep for its own rows, where it would be computed again; all else is computed in place.
    Rows,
    /// Only what has to be stored.
    Needed,
    /// Each reduction.
    Every,
}

/// The decision for a term.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Canonical forms of stored subterms, with one node each, in the order of decision.
    pub stored: BTreeMap<Form, NodeId>,
    /// Why each boundary is there, by canonical form.
    pub reasons: BTreeMap<Form, String>,
    /// Stored subterms that the kernel of another one computes beside its own, by canonical form.
    pub hosts: BTreeMap<Form, Form>,
}

/// The analysis shared by the decisions.
pub struct Cutter<'a> {
    dag: &'a Dag,
    axes: &'a PrimaryMap<Axis, AxisData>,
    values: &'a PrimaryMap<Value, ValueData>,
    sizes: &'a Sizes,
    cost: CostModel,
    policy: Policy,
    /// Weights whose products are not computed in place, and why.
    apart: &'a BTreeMap<Value, String>,
    roots: Vec<NodeId>,
    /// The root that computes what a read of an update's result finds.
    written: BTreeMap<Value, NodeId>,
    /// All nodes of the term.
    reached: Vec<NodeId>,
    heavy: Vec<bool>,
    parents: Vec<Vec<NodeId>>,
    canons: Canons,
    /// Whether a node holds a value of one block, which has no meaning outside of its fold.
    blocky: Vec<bool>,
    /// Axes that may have no positions.
    may_be_empty: AxisSet,
    /// Whether a node is the same in every run, so that it can be computed once, when weights are loaded.
    once: Vec<bool>,
    cuts: Cuts,
    /// What is stored because of its form.
    forced: BTreeSet<Form>,
    /// The first reduction in the kernel of each root.
    owns: BTreeMap<NodeId, NodeId>,
    /// What was looked at in the kernel of a root since something was stored: looking again by another way finds the same.
    visited: HashSet<Place>,
}

/// A node in the kernel of a root: the axes streamed around it, and those that are bound around it.
type Place = (NodeId, Vec<Axis>, AxisSet);

/// Marks nodes that hold a reduction within a block of a fold around them.
fn blocky(dag: &Dag) -> Vec<bool> {
    let mut axes: Vec<BTreeSet<Axis>> = Vec::new();
    for (n, node) in &dag.nodes {
        let mut own: BTreeSet<Axis> =
            dag.children(n).flat_map(|c| axes[c.as_u32() as usize].clone()).collect();
        match &node.term {
            Term::Reduce(_, parts, _) => {
                for p in parts.iter() {
                    match p.part {
                        Part::Inner => {
                            own.insert(p.axis);
                        }
                        Part::Outer => {
                            own.remove(&p.axis);
                        }
                        Part::Whole => {}
                    }
                }
            }
            Term::Fold(a, ..) => {
                own.remove(a);
            }
            _ => {}
        }
        axes.push(own);
    }
    axes.into_iter().map(|s| !s.is_empty()).collect()
}

impl<'a> Cutter<'a> {
    /// Prepares the analysis of a term. Products of the weights in `apart` are stored, for the reason that is given.
    pub fn new(
        dag: &'a Dag,
        function: &'a Function,
        ingested: &'a Ingested,
        sizes: &'a Sizes,
        cost: CostModel,
        policy: Policy,
        apart: &'a BTreeMap<Value, String>,
    ) -> Self {
        let axes = &ingested.axes;
        let mut parents: Vec<Vec<NodeId>> = vec![Vec::new(); dag.nodes.len()];
        let mut seen = BTreeSet::new();
        let mut todo = dag.roots.clone();
        while let Some(n) = todo.pop() {
            if seen.insert(n) {
                for c in dag.children(n) {
                    parents[c.as_u32() as usize].push(n);
                    todo.push(c);
                }
            }
        }
        let heavy = heavy(dag);
        Cutter {
            dag,
            axes,
            values: &function.values,
            sizes,
            cost,
            policy,
            apart,
            roots: dag.roots.clone(),
            written: ingested.roots.iter().map(|r| r.value).zip(dag.roots.iter().copied()).collect(),
            reached: seen.into_iter().collect(),
            heavy,
            parents,
            canons: Canons::new(dag, axes),
            blocky: blocky(dag),
            may_be_empty: ingested.graph.analysis.may_be_empty,
            once: dag.depends(&ingested.graph.analysis).into_iter().map(|d| d == Depends::Weights).collect(),
            cuts: Cuts::default(),
            forced: BTreeSet::new(),
            owns: BTreeMap::new(),
            visited: HashSet::new(),
        }
    }

    /// Decides for all roots: `(root, axes over which it is computed)`.
    pub fn decide(mut self, roots: &[(NodeId, AxisSet)]) -> Cuts {
        self.settle(roots);
        if self.policy == Policy::Spread {
            // What was stored because of what it computed may be cheap now that its parts are stored.
            let forced = std::mem::take(&mut self.forced);
            self.cuts.stored.retain(|key, _| forced.contains(key));
            self.cuts.reasons.retain(|key, _| forced.contains(key));
            self.settle(roots);
        }
        self.cuts
    }

    fn settle(&mut self, roots: &[(NodeId, AxisSet)]) {
        // A decision in one kernel may store what another has planned to compute: repeat until nothing changes.
        loop {
            let before = self.cuts.stored.len();
            let mut todo: Vec<(NodeId, AxisSet)> = roots.to_vec();
            let stored: Vec<NodeId> = self.cuts.stored.values().copied().collect();
            todo.extend(stored.iter().map(|&n| (n, self.dag.nodes[n].free)));
            for (root, domain) in todo {
                self.visited.clear();
                self.visit(root, root, domain, &[], AxisSet::default(), &mut vec![]);
            }
            if self.cuts.stored.len() == before {
                break;
            }
        }
        if self.policy == Policy::Every {
            return;
        }
        self.cuts.hosts.clear();
        let stored: Vec<(Form, NodeId)> = self.cuts.stored.iter().map(|(&k, &n)| (k, n)).collect();
        for (key, n) in stored {
            // A guest is no host.
            let open = |c: &Cuts, k: Form| !c.hosts.contains_key(&k);
            if let Some(host) = self.host(n).filter(|h| open(&self.cuts, self.key(*h)))
                && !self.cuts.hosts.values().any(|h| *h == key)
            {
                let host = self.key(host);
                self.cuts.hosts.insert(key, host);
            }
        }
    }

    fn key(&self, n: NodeId) -> Form {
        self.canons.form(n)
    }

    fn is_once(&self, n: NodeId) -> bool {
        self.once[n.as_u32() as usize]
    }

    fn is_heavy(&self, n: NodeId) -> bool {
        self.heavy[n.as_u32() as usize]
    }
    fn is_stored(&self, n: NodeId) -> bool {
        self.is_heavy(n) && self.cuts.stored.contains_key(&self.key(n))
    }
}
