//! Equality saturation: applying every law to every class until nothing changes or the budget is spent.
//!
//! Why our own loop: conditions and normal forms are code, and each union carries the name of its law. The budget is in
//! e-nodes and iterations, never in seconds, so that results do not depend on the machine's load.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use egg::Id;
use tilewright_ir::{Axis, Extent, Reduction};

use super::ingest::Ingested;
use super::laws::{LAWS, Search};
use super::{SubAxis, Term};

/// The longest axis that is taken to be resident.
const RESIDENT: u64 = 128;

/// Limits of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// E-nodes.
    pub nodes: usize,
    /// Iterations.
    pub iterations: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { nodes: 60_000, iterations: 96 }
    }
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No law adds anything.
    Saturated,
    /// The budget of e-nodes is spent.
    Nodes,
    /// The budget of iterations is spent.
    Iterations,
}

/// What a search did.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// E-nodes at the end.
    pub nodes: usize,
    /// Classes at the end.
    pub classes: usize,
    /// Iterations.
    pub iterations: usize,
    /// Why it ended.
    pub stop: Stop,
    /// Assumptions that laws made.
    pub assumptions: BTreeSet<String>,
    /// How many pairs of classes each law found equal, by name; laws that found none are not there.
    pub laws: BTreeMap<&'static str, usize>,
}

/// Runs the laws, except the `disabled` ones. See the module.
pub fn saturate(ingested: &mut Ingested, budget: Budget, disabled: &[String]) -> Summary {
    let graph = std::mem::take(&mut ingested.graph);
    let is_extreme = |j: Axis, n: &Term| matches!(n, Term::Reduce(Reduction::Max | Reduction::Min, axes, _) if axes.iter().any(|a| a.axis == j));
    let extremes = |j: &Axis| graph.classes().any(|c| c.nodes.iter().any(|n| is_extreme(*j, n)));
    let extremes = ingested.cascades.iter().copied().filter(extremes).collect();
    let mut s = Search {
        graph,
        cascades: ingested.cascades.clone(),
        extents: ingested.axes.iter().map(|(a, data)| (a, data.extent)).collect(),
        extremes,
        resident: ingested
            .axes
            .iter()
            .filter(|(a, _)| !ingested.cascades.contains(a))
            .filter(|(_, a)| matches!(a.extent, Extent::Const(n) if n <= RESIDENT))
            .map(|(a, _)| SubAxis::whole(a))
            .collect(),
        parts: HashMap::new(),
        assumptions: BTreeSet::new(),
        disabled: disabled.to_vec(),
        unions: BTreeMap::new(),
        subject: Id::from(0),
    };
    let mut stop = Stop::Iterations;
    let mut iterations = 0;
    for _ in 0..budget.iterations {
        iterations += 1;
        let before = (s.graph.total_number_of_nodes(), s.found());
        let mut found: Vec<(Id, Vec<Term>)> = s.graph.classes().map(|c| (c.id, c.nodes.clone())).collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        let mut classes: Vec<(Id, Vec<(Term, Id)>)> = Vec::with_capacity(found.len());
        for (id, nodes) in found {
            let named = nodes.into_iter().map(|n| (n.clone(), s.graph.add_uncanonical(n))).collect();
            classes.push((id, named));
        }
        'laws: for law in LAWS.iter().filter(|l| !disabled.iter().any(|d| d == l.name)) {
            for (id, nodes) in &classes {
                if s.graph.total_size() > budget.nodes {
                    break 'laws;
                }
                for (node, subject) in nodes {
                    s.subject = *subject;
                    (law.apply)(&mut s, *id, node);
                }
            }
        }
        s.graph.rebuild();
        rekey(&mut s);
        if s.graph.total_size() > budget.nodes {
            stop = Stop::Nodes;
            break;
        }
        if (s.graph.total_number_of_nodes(), s.found()) == before {
            stop = Stop::Saturated;
            break;
        }
    }
    let summary = Summary {
        nodes: s.graph.total_size(),
        classes: s.graph.number_of_classes(),
        iterations,
        stop,
        assumptions: s.assumptions,
        laws: s.unions,
    };
    ingested.graph = s.graph;
    summary
}

/// Classes have merged: what is remembered by class is remembered by the new one.
fn rekey(s: &mut Search) {
    let old = std::mem::take(&mut s.parts);
    let mut entries: Vec<_> = old.into_iter().collect();
    entries.sort_unstable();
    for ((j, id), part) in entries {
        s.parts.entry((j, s.graph.find(id))).or_insert(part);
    }
}
