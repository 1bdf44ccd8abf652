//! In which order the terms of a sum are added.
//!
//! The search knows sums of many terms and no brackets. Rounding does: of `(x - z) + w` with large `x` and `z` that are
//! nearly equal `w` is left, and of `(x + w) - z` nothing. So terms that the source adds up first are added up first, wherever
//! they stand: at the positions of a block, with the other sign, or among more terms.
//!
//! Pre: a graph with the number of its source terms. Post: brackets around some operands of a sum, which change no value but
//! its rounding.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use crate::algebra::ingest::Ingested;
use crate::algebra::laws::construct::multiple;
use crate::algebra::stable::{images, parts};
use crate::algebra::{Dag, Graph, NodeId, Term};

/// A term of a sum: the factors that it is a multiple of, by class, and of how many.
type Part = (Vec<Id>, f64);

/// Terms that the source adds up.
struct Sum {
    /// The number of the source term.
    number: usize,
    parts: Vec<Part>,
}

/// The sums of the source.
pub struct Sums<'a> {
    graph: &'a Graph,
    all: Vec<Sum>,
    /// Those that have a multiple of these factors.
    with: BTreeMap<Vec<Id>, BTreeSet<usize>>,
}

/// Operands with brackets.
#[derive(Debug, PartialEq)]
pub enum Brackets {
    /// An operand.
    One(NodeId),
    /// What is added up before anything else is added to it.
    All(Vec<Brackets>),
}

impl<'a> Sums<'a> {
    /// Those of a function, at positions and at the positions of blocks, relative to what is of all blocks and of the block.
    pub fn of(ingested: &'a Ingested) -> Sums<'a> {
        let graph = &ingested.graph;
        let source = (0..ingested.source_terms).map(|n| (n, graph.id_to_node(Id::from(n)).clone()));
        let blocks = images(ingested).into_iter().map(|(id, _, node)| (usize::from(id), node));
        let of_blocks = parts(graph);
        let mut out = Sums { graph, all: Vec::new(), with: BTreeMap::new() };
        for (number, node) in source.chain(blocks) {
            let Term::Add(terms) = &node else { continue };
            let all: Vec<Part> = terms.iter().map(|&t| part(graph, t)).collect();
            // The same with the block's own in place of what is of all blocks.
            for &axis in &ingested.cascades {
                let own = |f: Id| {
                    let found = of_blocks.get(&f).and_then(|p| p.iter().find(|(a, _)| *a == axis));
                    found.map_or(f, |&(_, own)| own)
                };
                let within = |(factors, by): &Part| {
                    let mut factors: Vec<Id> = factors.iter().map(|&f| own(f)).collect();
                    factors.sort_unstable();
                    (factors, *by)
                };
                let within: Vec<Part> = all.iter().map(within).collect();
                if within != all {
                    out.add(number, within);
                }
            }
            out.add(number, all);
        }
        out
    }

    fn add(&mut self, number: usize, parts: Vec<Part>) {
        for (factors, _) in &parts {
            self.with.entry(factors.clone()).or_default().insert(self.all.len());
        }
        self.all.push(Sum { number, parts });
    }

    /// The operands of a sum with brackets as in the source.
    pub fn brackets(&self, dag: &Dag, operands: &[NodeId]) -> Vec<Brackets> {
        let parts: Vec<Vec<Part>> = operands.iter().map(|&n| self.parts(dag, n)).collect();
        let known: BTreeSet<usize> = parts
            .iter()
            .flatten()
            .filter_map(|(factors, _)| self.with.get(factors))
            .flatten()
            .copied()
            .collect();
        let mut found: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut whole = None;
        for n in known {
            let Some(within) = inside(&self.all[n].parts, &parts) else { continue };
            match within.len() {
                some if some == operands.len() => whole = whole.or(Some(self.all[n].number)),
                0 | 1 => {}
                _ => found.push((self.all[n].number, within)),
            }
        }
        // Where terms could be added up in several ways, as the source made this very sum: just before it.
        let last = whole.unwrap_or(0);
        found.sort_by_key(|(n, within)| (*n > last, last.abs_diff(*n), within.len()));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (_, within) in found {
            let apart = |g: &Vec<usize>| within.iter().all(|n| !g.contains(n));
            let holds = |a: &[usize], b: &[usize]| b.iter().all(|n| a.contains(n));
            if !groups.contains(&within)
                && groups.iter().all(|g| apart(g) || holds(g, &within) || holds(&within, g))
            {
                groups.push(within);
            }
        }
        groups.sort_by_key(|g| std::cmp::Reverse(g.len()));
        let all: Vec<usize> = (0..operands.len()).collect();
        nested(&all, &groups, operands)
    }

    /// What an operand adds: itself, or the terms of a sum.
    fn parts(&self, dag: &Dag, n: NodeId) -> Vec<Part> {
        match dag.nodes[n].term {
            Term::Add(_) => dag.children(n).flat_map(|c| self.parts(dag, c)).collect(),
            // What was made after the search has no class.
            _ if !dag.has_class(n) => vec![(Vec::new(), f64::NAN)],
            _ => vec![part(self.graph, dag.nodes[n].class)],
        }
    }
}

fn part(graph: &Graph, id: Id) -> Part {
    let (by, factors) = multiple(graph, graph.find(id));
    (factors, by)
}

/// The operands of which a sum is made up, or the same with the other sign; none if it is not of some.
fn inside(sum: &[Part], operands: &[Vec<Part>]) -> Option<Vec<usize>> {
    [1.0, -1.0].into_iter().find_map(|sign| {
        let mut left: Vec<Part> = sum.iter().map(|(factors, by)| (factors.clone(), sign * by)).collect();
        let mut within = Vec::new();
        for (n, parts) in operands.iter().enumerate() {
            let mut rest = left.clone();
            let taken =
                parts.iter().all(|p| rest.iter().position(|r| r == p).map(|at| rest.remove(at)).is_some());
            if taken {
                left = rest;
                within.push(n);
            }
        }
        left.is_empty().then_some(within)
    })
}

/// The operands of these numbers in groups, of which each holds another or is apart from it, larger ones first.
fn nested(numbers: &[usize], groups: &[Vec<usize>], operands: &[NodeId]) -> Vec<Brackets> {
    let within: Vec<&Vec<usize>> =
        groups.iter().filter(|g| g.len() < numbers.len() && g.iter().all(|n| numbers.contains(n))).collect();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    let mut out = Vec::new();
    for &n in numbers {
        if !done.insert(n) {
            continue;
        }
        match within.iter().find(|g| g.contains(&n)) {
            Some(group) => {
                done.extend(group.iter());
                out.push(Brackets::All(nested(group, groups, operands)));
            }
            None => out.push(Brackets::One(operands[n])),
        }
    }
    out
}
