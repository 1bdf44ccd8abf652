//! The extracted term: a directed acyclic graph of chosen nodes.

use cranelift_entity::{PrimaryMap, entity_impl};
use egg::{Id, Language};

use super::facts::{Depends, Facts, Kind};
use super::{AxisSet, SubAxis, Term};

/// A node of the extracted term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);
entity_impl!(NodeId, "n");

/// An extracted node. The children of `term` are [`NodeId`]s (as `egg::Id`s of the same number).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The chosen e-node.
    pub term: Term,
    /// The class that it was chosen for.
    pub class: Id,
    /// The axes that the chosen term mentions freely; cut axes count as the whole.
    pub free: AxisSet,
    /// The same with cut axes apart: an axis that only its outer part mentions is one number per block.
    pub parts: AxisSet,
    /// The kind of its value.
    pub kind: Kind,
}

/// The class of a node that has none: it was made after the search.
pub const NO_CLASS: u32 = u32::MAX;

/// The extracted term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dag {
    /// Nodes, children before parents.
    pub nodes: PrimaryMap<NodeId, Node>,
    /// One per root of the function.
    pub roots: Vec<NodeId>,
}

/// The node that a child refers to.
pub fn child(id: Id) -> NodeId {
    NodeId::from_u32(usize::from(id) as u32)
}

/// The child that refers to a node.
pub fn as_child(n: NodeId) -> Id {
    Id::from(n.as_u32() as usize)
}

/// Replaces parts of axes by the axes.
pub fn whole(set: AxisSet) -> AxisSet {
    set.iter().map(|p| SubAxis::whole(p.axis)).collect()
}

impl Dag {
    /// What each node depends on by its own term, whatever else its class holds. Indexed like the nodes.
    pub fn depends(&self, facts: &Facts) -> Vec<Depends> {
        let mut out: Vec<Depends> = Vec::with_capacity(self.nodes.len());
        for (n, node) in &self.nodes {
            let children = self.children(n).map(|c| out[c.as_u32() as usize]);
            let all = children.fold(facts.depends(&node.term), Depends::max);
            out.push(all);
        }
        out
    }

    /// The children of a node.
    pub fn children(&self, n: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes[n].term.children().iter().map(|&c| child(c))
    }

    /// Whether the search knows the node.
    pub fn has_class(&self, n: NodeId) -> bool {
        self.nodes[n].class != Id::from(NO_CLASS as usize)
    }

    /// Adds a node over existing children, computing its free axes.
    pub fn push(&mut self, term: Term, class: Id, kind: Kind) -> NodeId {
        let mut parts = AxisSet::default();
        for &c in term.children() {
            parts = parts.union(self.nodes[child(c)].parts);
        }
        match &term {
            Term::Pos(a) => parts.insert(SubAxis::whole(*a)),
            Term::CutPos(a) => {
                parts.insert(SubAxis::outer(*a));
                parts.insert(SubAxis::inner(*a));
            }
            Term::Reduce(_, bound, _) => bound.iter().for_each(|&b| parts.remove(b)),
            Term::Fold(a, ..) => parts.remove(SubAxis::outer(*a)),
            _ => {}
        }
        self.nodes.push(Node { term, class, free: whole(parts), parts, kind })
    }
}
