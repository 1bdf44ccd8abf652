//! Kernels from a cut term.
//!
//! Each stored subterm and each root is a store of a kernel, its own or one that has it at hand. A kernel has locals for what is
//! reduced, tracked, or used more than once (`kernel`, `folds`, `operands`).
//!
//! Pre: what is stored. Post: kernels in the order in which they can run (`order`), each with a name of its own.

mod folds;
mod kernel;
mod operands;
mod order;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cranelift_entity::{EntityRef, PrimaryMap};
use indexmap::IndexMap;
use tilewright_ir::expr::build as ex;
use tilewright_ir::graph::{Def, Function, ParamKind, ValueData};
use tilewright_ir::plan::{KernelPlan, Plan, Store};
use tilewright_ir::{Axis, DType, Ex, Expr, Value};

use kernel::Kernel;
use order::order;
pub use order::reads;

use super::association::Sums;
use super::canon::{Canons, Form};
use super::cuts::Cuts;
use super::group::heavy;
use crate::PassError;
use crate::algebra::costs::Sizes;
use crate::algebra::facts::{Depends, Kind};
use crate::algebra::ingest::Ingested;
use crate::algebra::{Dag, NodeId, Term};

/// A tensor that holds a subterm.
struct Stored {
    value: Value,
    form: Form,
    /// For each axis of the tensor, which free axis of the canonical form it is.
    order: Vec<usize>,
    node: NodeId,
}

struct Builder<'a> {
    dag: &'a Dag,
    sizes: &'a Sizes,
    heavy: Vec<bool>,
    /// Whether a node depends on weights alone.
    once: Vec<bool>,
    canons: Canons,
    sums: Sums<'a>,
    stored: IndexMap<Form, Stored>,
}

/// Builds the plan of a function, and the node behind each value that it stores. `storage` is the type of intermediates that the function does not name.
pub fn build(
    function: &Function,
    ingested: &Ingested,
    dag: &Dag,
    sizes: &Sizes,
    cuts: &Cuts,
    storage: DType,
) -> Result<(Plan, BTreeMap<Value, NodeId>), PassError> {
    let mut plan = Plan {
        name: function.name.clone(),
        axes: ingested.axes.clone(),
        values: function.values.clone(),
        first_temp: function.values.len() as u32,
        results: function.results.clone(),
        kernels: Vec::new(),
    };
    let once = dag.depends(&ingested.graph.analysis).into_iter().map(|d| d == Depends::Weights).collect();
    let canons = Canons::new(dag, &ingested.axes);
    let sums = Sums::of(ingested);
    let mut b = Builder { dag, sizes, heavy: heavy(dag), once, canons, sums, stored: IndexMap::new() };

    // A result that is an equation over its own axes can be read back by others.
    for (root, &node) in ingested.roots.iter().zip(&dag.roots) {
        let plain = matches!(function.values[root.value].def, Def::Equation(_));
        if plain && b.heavy[node.index()] {
            b.register(root.value, node, &root.axes);
        }
    }
    let declared: BTreeMap<_, Value> =
        ingested.values.iter().map(|(&v, &id)| (ingested.graph.find(id), v)).collect();
    for &node in cuts.stored.values() {
        let free: Vec<Axis> = dag.nodes[node].free.iter().map(|p| p.axis).collect();
        let named = declared.get(&dag.nodes[node].class).copied().filter(|&v| {
            let axes = &function.values[v].axes;
            axes.len() == free.len() && axes.iter().all(|a| free.contains(a))
        });
        let value = named.unwrap_or_else(|| {
            let dtype = match dag.nodes[node].kind {
                // A weight is not rounded again because of what was folded into it.
                Kind::Real if b.once[node.index()] && storage != DType::F64 => DType::F32,
                Kind::Real => storage,
                Kind::Int => DType::I64,
                Kind::Bool => DType::Bool,
            };
            plan.values.push(ValueData {
                name: String::new(),
                dtype,
                axes: free,
                def: Def::Param(ParamKind::Input),
            })
        });
        let axes = plan.values[value].axes.clone();
        b.register(value, node, &axes);
    }

    // Results that another's kernel has at hand are stored there, unless that makes kernels wait for one another in a circle.
    plan.kernels = match b.kernels(&plan, ingested, cuts, true).and_then(|k| order(function, k)) {
        Ok(kernels) => kernels,
        Err(_) => order(function, b.kernels(&plan, ingested, cuts, false)?)?,
    };
    let mut names: HashMap<String, u32> = HashMap::new();
    for k in &mut plan.kernels {
        let n = names.entry(k.name.clone()).or_default();
        *n += 1;
        if *n > 1 {
            k.name = format!("{}_{n}", k.name);
        }
    }
    let mut nodes: BTreeMap<Value, NodeId> = b.stored.values().map(|s| (s.value, s.node)).collect();
    nodes.extend(ingested.roots.iter().zip(&dag.roots).map(|(r, &n)| (r.value, n)));
    Ok((plan, nodes))
}

impl Builder<'_> {
    fn register(&mut self, value: Value, node: NodeId, axes: &[Axis]) {
        let canon = self.canons.of(node);
        let order: Option<Vec<usize>> = axes.iter().map(|a| canon.free.iter().position(|f| f == a)).collect();
        if let Some(order) = order {
            let form = canon.form;
            self.stored.entry(form).or_insert(Stored { value, form, order, node });
        }
    }

    /// Whether what is stored depends on weights alone and does not leave the function.
    fn is_once(&self, plan: &Plan, output: &Output) -> bool {
        let leaves = plan.results.contains(&output.value)
            || matches!(plan.values[output.value].def, Def::Update { .. });
        self.once[output.node.index()] && !leaves
    }

    /// The kernels of all results and of all that is stored between kernels.
    fn kernels(
        &self,
        plan: &Plan,
        ingested: &Ingested,
        cuts: &Cuts,
        together: bool,
    ) -> Result<Vec<KernelPlan>, PassError> {
        let mut kernels = Vec::new();
        let output = |n: usize| {
            let root = &ingested.roots[n];
            let (axes, index) = (root.axes.clone(), root.index.clone());
            Output { value: root.value, axes, index, node: self.dag.roots[n] }
        };
        let mut hosts: BTreeMap<usize, usize> = BTreeMap::new();
        // What is made last has most at hand.
        let mut last: Vec<usize> = (0..ingested.roots.len()).collect();
        last.sort_by_key(|&n| std::cmp::Reverse(self.dag.roots[n]));
        for &n in last.iter().filter(|_| together) {
            if hosts.contains_key(&n) {
                continue;
            }
            let others = (0..ingested.roots.len()).filter(|m| *m != n && !hosts.contains_key(m));
            let others = others.filter(|m| !hosts.values().any(|h| h == m));
            for m in self.at_hand(ingested, n, &others.collect::<Vec<_>>())? {
                hosts.insert(m, n);
            }
        }
        for n in (0..ingested.roots.len()).filter(|n| !hosts.contains_key(n)) {
            let guests = hosts.iter().filter(|&(_, &h)| h == n).map(|(&g, _)| output(g));
            let outputs: Vec<Output> = std::iter::once(output(n)).chain(guests).collect();
            kernels.push(self.kernel(plan, &outputs)?);
        }
        let done: HashSet<Value> = ingested.roots.iter().map(|r| r.value).collect();
        let open = |s: &&Stored| !done.contains(&s.value) && !cuts.hosts.contains_key(&s.form);
        for s in self.stored.values().filter(open) {
            let guests = self.stored.values().filter(|g| cuts.hosts.get(&g.form) == Some(&s.form));
            let all: Vec<&Stored> = std::iter::once(s).chain(guests).collect();
            let outputs: Vec<Output> = all
                .iter()
                .map(|s| {
                    let axes = plan.values[s.value].axes.clone();
                    let index = axes.iter().map(|&a| ex::pos(a)).collect();
                    Output { value: s.value, axes, index, node: s.node }
                })
                .collect();
            let mut kernel = self.kernel(plan, &outputs)?;
            kernel.boundaries = all.iter().filter_map(|s| cuts.reasons.get(&s.form).cloned()).collect();
            kernels.push(kernel);
        }
        Ok(kernels)
    }

    /// Those of some results that the kernel of result `n` has at hand at the same positions: what its folds track, and what is
    /// made of that without a reduction.
    fn at_hand(&self, ingested: &Ingested, n: usize, others: &[usize]) -> Result<Vec<usize>, PassError> {
        let mut k = Kernel {
            b: self,
            roots: vec![self.dag.roots[n]],
            locals: PrimaryMap::new(),
            memo: HashMap::new(),
            uses: HashMap::new(),
        };
        k.count(self.dag.roots[n]);
        k.convert(self.dag.roots[n])?;
        let axes = |n: usize| ingested.roots[n].axes.iter().copied().collect::<BTreeSet<Axis>>();
        let fits = |m: usize| {
            let node = self.dag.roots[m];
            node != self.dag.roots[n]
                && self.heavy[node.index()]
                && self.once[node.index()] == self.once[self.dag.roots[n].index()]
                && axes(m) == axes(n)
                && self.made_of_runs(&k, node, &mut BTreeMap::new())
        };
        Ok(others.iter().copied().filter(|&m| fits(m)).collect())
    }

    /// Whether a kernel computes all reductions of a term, each as something that runs along with a pass.
    fn made_of_runs(&self, k: &Kernel<'_>, n: NodeId, memo: &mut BTreeMap<NodeId, bool>) -> bool {
        if let Some(&done) = memo.get(&n) {
            return done;
        }
        let runs = match k.memo.get(&n).map(|e| &**e) {
            Some(Expr::Local(l)) => k.locals[*l].def.runs().is_some(),
            _ => false,
        };
        let reduces = matches!(self.dag.nodes[n].term, Term::Reduce(..) | Term::Fold(..));
        let out = runs || (!reduces && self.dag.children(n).all(|c| self.made_of_runs(k, c, memo)));
        memo.insert(n, out);
        out
    }

    /// A kernel that stores these, the first over the most axes.
    fn kernel(&self, plan: &Plan, outputs: &[Output]) -> Result<KernelPlan, PassError> {
        let mut k = Kernel {
            b: self,
            roots: outputs.iter().map(|o| o.node).collect(),
            locals: PrimaryMap::new(),
            memo: HashMap::new(),
            uses: HashMap::new(),
        };
        for o in outputs {
            k.count(o.node);
        }
        let mut stores = Vec::new();
        for o in outputs {
            let expr = k.convert(o.node)?;
            stores.push(Store { value: o.value, axes: o.axes.clone(), index: o.index.clone(), expr });
        }
        let (Some(first), grid) =
            (outputs.first(), stores.iter().flat_map(|s: &Store| s.axes.iter().copied()))
        else {
            return Err(PassError::Bug("a kernel without a store".into()));
        };
        let grid: indexmap::IndexSet<Axis> = grid.collect();
        let data = &plan.values[first.value];
        let name = if data.name.is_empty() { first.value.to_string() } else { data.name.clone() };
        let name: String = format!("{}_{name}", plan.name)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        Ok(KernelPlan {
            name,
            grid: grid.into_iter().collect(),
            beside: false,
            continues: false,
            prologue: outputs.iter().all(|o| self.is_once(plan, o)),
            runs: None,
            locals: k.locals,
            stores,
            derivation: Vec::new(),
            refinements: Vec::new(),
            boundaries: Vec::new(),
        })
    }
}

/// What a kernel stores.
struct Output {
    value: Value,
    axes: Vec<Axis>,
    index: Vec<Ex>,
    node: NodeId,
}
