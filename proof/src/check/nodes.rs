//! The nodes of a certificate as terms.
//!
//! Why here: nothing that is read is believed. Nodes are in one order, each once, and name only what exists.
//!
//! Pre: any rows. Post: a term for each, nested no deeper than what walks them can go, or the row that is malformed.

use rustc_hash::FxHashSet as HashSet;
use tilewright_ir::Axis;

use super::{Checker, Refusal};
use crate::cert::{NodeRow, node};
use crate::term::{Id, Node};

/// The most operations that terms may nest in one another: what a thread with 2 MiB of stack is sure to walk.
const DEPTH: u32 = 1024;

impl Checker<'_> {
    /// The terms of the nodes, in their order.
    pub(super) fn load(&mut self, rows: &[NodeRow]) -> Result<Vec<Id>, Refusal> {
        let mut ids: Vec<Id> = Vec::new();
        let mut seen = HashSet::default();
        let mut depths: Vec<u32> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let bad = |reason: &str| Refusal::Node { at, reason: reason.to_owned() };
            let parsed = node(row).ok_or_else(|| bad("is not a node"))?;
            if parsed.children().iter().any(|&c| c as usize >= at) {
                return Err(bad("refers to what does not come before it"));
            }
            let depth = parsed.children().iter().map(|&c| depths[c as usize] + 1).max().unwrap_or(0);
            if at > 0 && (depths[at - 1], &rows[at - 1]) >= (depth, row) {
                return Err(bad("is out of order"));
            }
            if depth > DEPTH {
                return Err(bad("nests too many operations"));
            }
            depths.push(depth);
            self.known(&parsed).map_err(|e| bad(&e))?;
            let mut parsed = parsed.map(|c| ids[c as usize]);
            if let Node::Add(c) | Node::Mul(c) | Node::Max(c) | Node::Min(c) = &mut parsed {
                c.sort_unstable();
            }
            let id = self.terms.add(parsed);
            if !seen.insert(id) {
                return Err(bad("is there twice"));
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// That a node names only axes, tensors and symbols that exist, and tensors with all their indices.
    fn known(&self, n: &Node) -> Result<(), String> {
        let plan = self.context.plan;
        let axis = |a: Axis| plan.axes.get(a).map(|_| ()).ok_or_else(|| format!("there is no axis {a}"));
        match n {
            Node::Pos(a) | Node::CutPos(a) | Node::Part(a, _) | Node::Fold(a, ..) => axis(*a),
            Node::Reduce(_, pieces, _) => pieces.iter().try_for_each(|p| axis(p.axis)),
            Node::Size(tilewright_ir::Extent::Sym(s)) => {
                self.context.symbols.get(*s).map(|_| ()).ok_or_else(|| format!("there is no symbol {s}"))
            }
            Node::Read(v, index) => match self.context.function.values.get(*v) {
                Some(data) if data.axes.len() == index.len() => Ok(()),
                Some(_) => Err(format!("{v} is read with the wrong number of indices")),
                None => Err(format!("there is no tensor {v} in the graph")),
            },
            _ => Ok(()),
        }
    }
}
