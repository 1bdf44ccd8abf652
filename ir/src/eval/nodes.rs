//! Expressions as a graph of distinct nodes, which is what loop nests are compiled from.
//!
//! Expressions are trees of shared nodes; walked naively, sharing is lost and the work can grow exponentially. Here
//! each distinct subexpression is one node with its free axes and its sort.
//!
//! Post: a node's operands have smaller numbers than the node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::eval::domain::Sort;
use crate::expr::Num;
use crate::{Axis, Binary, DType, Ex, Expr, Extent, Local, Param, Reduction, Tile, Unary, Value};

/// A node of a [`Dag`].
pub(crate) type Id = usize;

/// What an array that is read stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Src {
    Value(Value),
    Local(Local),
    Tile(Tile),
    Param(Param),
    /// The result of the reduction at a node.
    Reduction(Id),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Num(Num),
    Pos(Axis),
    Read(Src, Vec<Id>),
    Unary(Unary, Id),
    Binary(Binary, Id, Id),
    Select(Id, Id, Id),
    Cast(DType, Id),
    Reduce(Reduction, Vec<Axis>, Id),
}

/// What a leaf of an expression stands for.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    /// An array over axes; it is read at their current positions.
    Array(Vec<Axis>, Sort),
    /// Another expression.
    Inline(Ex),
}

/// What the leaves in reach stand for. For values and buffers, whose uses carry their indices, only the sort counts.
pub(crate) type Leaves = BTreeMap<Src, Leaf>;

/// Distinct nodes of some expressions.
#[derive(Debug, Default)]
pub(crate) struct Dag {
    nodes: Vec<Node>,
    free: Vec<Arc<[Axis]>>,
    sorts: Vec<Sort>,
    by_node: HashMap<Node, Id>,
    by_address: HashMap<*const Expr, Id>,
    /// Keeps the expressions alive whose addresses are known.
    kept: Vec<Ex>,
    leaves: Arc<Leaves>,
    /// The symbols' values, by number.
    symbols: Vec<u64>,
}

impl Dag {
    /// An empty graph in which extents have the given values, and leaves stand for what is said of them.
    pub(crate) fn new(symbols: Vec<u64>, leaves: Arc<Leaves>) -> Dag {
        Dag { symbols, leaves, ..Dag::default() }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The free axes of a node, ascending.
    pub(crate) fn free(&self, id: Id) -> &[Axis] {
        &self.free[id]
    }

    pub(crate) fn sort(&self, id: Id) -> Sort {
        self.sorts[id]
    }

    /// The number of a node, which is added if it is new.
    pub(crate) fn push(&mut self, node: Node) -> Id {
        if let Some(&id) = self.by_node.get(&node) {
            return id;
        }
        let mut free: Vec<Axis> = match &node {
            Node::Num(_) => Vec::new(),
            Node::Pos(a) => vec![*a],
            _ => operands(&node).iter().flat_map(|&id| self.free[id].iter().copied()).collect(),
        };
        if let Node::Reduce(_, bound, _) = &node {
            free.retain(|a| !bound.contains(a));
        }
        free.sort_unstable();
        free.dedup();
        let sort = match &node {
            Node::Num(n) => Sort::of_literal(n.0),
            Node::Pos(_) => Sort::Int,
            Node::Read(Src::Reduction(of), _) => self.sorts[*of],
            Node::Read(src, _) => match self.leaves.get(src) {
                Some(Leaf::Array(_, sort)) => *sort,
                _ => Sort::F32,
            },
            Node::Unary(op, x) => Sort::unary(*op, self.sorts[*x]),
            Node::Binary(op, a, b) => Sort::binary(*op, self.sorts[*a], self.sorts[*b]).1,
            Node::Select(_, a, b) => self.sorts[*a].join(self.sorts[*b]),
            Node::Cast(to, _) => Sort::of(*to),
            Node::Reduce(op, _, x) => match (op, self.sorts[*x]) {
                (Reduction::Sum, Sort::Bool) => Sort::Int,
                (_, sort) => sort,
            },
        };
        let id = self.nodes.len();
        self.by_node.insert(node.clone(), id);
        self.nodes.push(node);
        self.free.push(free.into());
        self.sorts.push(sort);
        id
    }

    /// The node of an expression.
    pub(crate) fn add(&mut self, ex: &Ex) -> Id {
        if let Some(&id) = self.by_address.get(&Arc::as_ptr(ex)) {
            return id;
        }
        let id = match &**ex {
            Expr::Num(n) => self.push(Node::Num(*n)),
            Expr::Pos(a) => self.push(Node::Pos(*a)),
            Expr::Size(extent) => {
                let n = self.extent(*extent);
                self.push(Node::Num(Num(n as f64)))
            }
            Expr::Read(v, index) => {
                let index = index.iter().map(|i| self.add(i)).collect();
                self.push(Node::Read(Src::Value(*v), index))
            }
            Expr::Local(l) => self.leaf(Src::Local(*l)),
            Expr::Tile(t) => self.leaf(Src::Tile(*t)),
            Expr::Unary(op, x) => {
                let x = self.add(x);
                self.push(Node::Unary(*op, x))
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.add(a), self.add(b));
                self.push(Node::Binary(*op, a, b))
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.add(c), self.add(a), self.add(b));
                self.push(Node::Select(c, a, b))
            }
            Expr::Cast(to, x) => {
                let x = self.add(x);
                self.push(Node::Cast(*to, x))
            }
            Expr::Reduce(op, axes, x) => {
                let x = self.add(x);
                self.push(Node::Reduce(*op, axes.clone(), x))
            }
        };
        self.by_address.insert(Arc::as_ptr(ex), id);
        self.kept.push(ex.clone());
        id
    }

    /// The value of an extent; symbols without a value count as 0 (callers check that there are none).
    pub(crate) fn extent(&self, extent: Extent) -> u64 {
        match extent {
            Extent::Const(n) => n,
            Extent::Sym(s) => self.symbols.get(s.as_u32() as usize).copied().unwrap_or(0),
        }
    }

    /// A leaf at the current positions of its axes.
    pub(crate) fn leaf(&mut self, src: Src) -> Id {
        match self.leaves.get(&src).cloned() {
            Some(Leaf::Inline(ex)) => self.add(&ex),
            Some(Leaf::Array(axes, _)) => self.read_at(src, &axes),
            None => self.read_at(src, &[]),
        }
    }

    /// An array over axes at their current positions.
    pub(crate) fn read_at(&mut self, src: Src, axes: &[Axis]) -> Id {
        let index = axes.iter().map(|&a| self.push(Node::Pos(a))).collect();
        self.push(Node::Read(src, index))
    }

    /// The reductions at or below a node, those inside others first.
    pub(crate) fn reductions(&self, root: Id) -> Vec<Id> {
        let mut used = vec![false; root + 1];
        used[root] = true;
        for id in (0..=root).rev() {
            if used[id] {
                operands(&self.nodes[id]).into_iter().for_each(|o| used[o] = true);
            }
        }
        (0..=root).filter(|&id| used[id] && matches!(self.nodes[id], Node::Reduce(..))).collect()
    }
}

/// The operands of a node, in order.
pub(crate) fn operands(node: &Node) -> Vec<Id> {
    match node {
        Node::Num(_) | Node::Pos(_) => Vec::new(),
        Node::Read(_, index) => index.clone(),
        Node::Unary(_, x) | Node::Cast(_, x) | Node::Reduce(_, _, x) => vec![*x],
        Node::Binary(_, a, b) => vec![*a, *b],
        Node::Select(c, a, b) => vec![*c, *a, *b],
    }
}
