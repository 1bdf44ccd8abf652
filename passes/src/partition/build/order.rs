//! The order in which kernels can run.
//!
//! Why here: kernels are made as they are found; what reads what is known once all of them are there.
//!
//! Post: each kernel comes after what it needs, or it is said that they need one another.

use std::collections::HashMap;

use tilewright_ir::graph::{Def, Function};
use tilewright_ir::plan::KernelPlan;
use tilewright_ir::{Expr, Value};

use crate::PassError;

/// Sorts kernels so that each comes after those whose stores it reads, and an update of a state after those that read the
/// state as it was.
pub(super) fn order(function: &Function, kernels: Vec<KernelPlan>) -> Result<Vec<KernelPlan>, PassError> {
    let mut graph = petgraph::graph::DiGraph::<usize, ()>::new();
    let nodes: Vec<_> = (0..kernels.len()).map(|n| graph.add_node(n)).collect();
    let writer: HashMap<Value, usize> =
        kernels.iter().enumerate().flat_map(|(n, k)| k.stores.iter().map(move |s| (s.value, n))).collect();
    for (n, k) in kernels.iter().enumerate() {
        for v in reads(k) {
            if let Some(&w) = writer.get(&v).filter(|&&w| w != n) {
                graph.update_edge(nodes[w], nodes[n], ());
            }
        }
    }
    for (v, data) in &function.values {
        let Def::Update { of, .. } = data.def else { continue };
        let Some(&w) = writer.get(&v) else { continue };
        for (n, k) in kernels.iter().enumerate() {
            if n != w && reads(k).contains(&of) {
                graph.update_edge(nodes[n], nodes[w], ());
            }
        }
        if let Some(&earlier) = writer.get(&of).filter(|&&e| e != w) {
            graph.update_edge(nodes[earlier], nodes[w], ());
        }
    }
    let sorted = petgraph::algo::toposort(&graph, None)
        .map_err(|_| PassError::Bug("kernels depend on one another in a cycle".into()))?;
    let mut kernels: Vec<Option<KernelPlan>> = kernels.into_iter().map(Some).collect();
    Ok(sorted.into_iter().filter_map(|n| kernels[graph[n]].take()).collect())
}

/// The tensors that a kernel reads, in order of first occurrence.
pub fn reads(kernel: &KernelPlan) -> Vec<Value> {
    let mut out = Vec::new();
    for e in kernel.exprs() {
        e.visit(&mut |e| {
            if let Expr::Read(v, _) = e
                && !out.contains(v)
            {
                out.push(*v);
            }
        });
    }
    out
}
