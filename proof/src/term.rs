//! Terms: what certificates speak of.
//!
//! Why here: the checker has a term language of its own, so that a mistake in the search's is not a mistake here. Nodes
//! are shared: equal nodes have equal numbers in a [`Terms`], and everything that is known of a node (the axes that are
//! free in it, its range) is computed once, when it is made.
//!
//! Post: a node's children have smaller numbers than itself.

use indexmap::IndexSet;
use rustc_hash::{FxBuildHasher, FxHashMap as HashMap};
use tilewright_ir::expr::Num;
use tilewright_ir::{Axis, Binary, DType, Extent, Reduction, Unary, Value};

use crate::facts::{self, Facts, Kind};

/// Which part of an axis: cutting `k` writes its position as `B * k.outer + k.inner` for some block size `B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// All of it.
    Whole,
    /// Which block.
    Outer,
    /// Where in the block.
    Inner,
}

/// An axis or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Piece {
    /// The axis.
    pub axis: Axis,
    /// The part.
    pub part: Part,
}

impl Piece {
    /// The whole axis.
    pub fn whole(axis: Axis) -> Piece {
        Piece { axis, part: Part::Whole }
    }
    /// The block number.
    pub fn outer(axis: Axis) -> Piece {
        Piece { axis, part: Part::Outer }
    }
    /// The position in the block.
    pub fn inner(axis: Axis) -> Piece {
        Piece { axis, part: Part::Inner }
    }
}

/// The number of a node.
pub type Id = u32;

/// A node over the numbers of its children.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// A literal.
    Num(Num),
    /// The position along a whole axis.
    Pos(Axis),
    /// The position along a cut axis.
    CutPos(Axis),
    /// An extent.
    Size(Extent),
    /// An element of a tensor.
    Read(Value, Vec<Id>),
    /// A sum.
    Add(Vec<Id>),
    /// A product.
    Mul(Vec<Id>),
    /// The largest.
    Max(Vec<Id>),
    /// The smallest.
    Min(Vec<Id>),
    /// A function of one argument.
    Unary(Unary, Id),
    /// A function of two arguments.
    Binary(Binary, [Id; 2]),
    /// `where(c, a, b)`.
    Select([Id; 3]),
    /// A conversion that is a function of its own.
    Cast(DType, Id),
    /// A reduction.
    Reduce(Reduction, Vec<Piece>, Id),
    /// `part[j] e`: `e` with its reductions over `j` restricted to one block.
    Part(Axis, Id),
    /// What the action of a fold moves.
    Hole,
    /// `R[j.o] a(q)`, computed in one pass: children are the block value `q`, the action `a` (a term over [`Node::Hole`],
    /// which stands for what is moved), then pairs of the block value `t` and the final value `y` of what it tracks.
    Fold(Axis, Reduction, Vec<Id>),
}

impl Node {
    /// The children, in order.
    pub fn children(&self) -> &[Id] {
        match self {
            Node::Num(_) | Node::Pos(_) | Node::CutPos(_) | Node::Size(_) | Node::Hole => &[],
            Node::Read(_, c)
            | Node::Add(c)
            | Node::Mul(c)
            | Node::Max(c)
            | Node::Min(c)
            | Node::Fold(_, _, c) => c,
            Node::Unary(_, c) | Node::Cast(_, c) | Node::Reduce(_, _, c) | Node::Part(_, c) => {
                std::slice::from_ref(c)
            }
            Node::Binary(_, c) => c,
            Node::Select(c) => c,
        }
    }

    /// The node over other children.
    pub fn map(mut self, mut f: impl FnMut(Id) -> Id) -> Node {
        match &mut self {
            Node::Num(_) | Node::Pos(_) | Node::CutPos(_) | Node::Size(_) | Node::Hole => {}
            Node::Read(_, c)
            | Node::Add(c)
            | Node::Mul(c)
            | Node::Max(c)
            | Node::Min(c)
            | Node::Fold(_, _, c) => c.iter_mut().for_each(|x| *x = f(*x)),
            Node::Unary(_, c) | Node::Cast(_, c) | Node::Reduce(_, _, c) | Node::Part(_, c) => *c = f(*c),
            Node::Binary(_, c) => c.iter_mut().for_each(|x| *x = f(*x)),
            Node::Select(c) => c.iter_mut().for_each(|x| *x = f(*x)),
        }
        self
    }

    /// Whether the other node differs in its children at most, and has as many.
    pub fn same_head(&self, other: &Node) -> bool {
        let mut own = self.children().iter().copied();
        // As many as there are: the default is never used.
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.children().len() == other.children().len()
            && other.clone().map(|_| own.next().unwrap_or_default()) == *self
    }
}

/// All nodes that are spoken of, and the axes and tensors that they name.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    nodes: IndexSet<Node, FxBuildHasher>,
    facts: Vec<Facts>,
    extents: HashMap<Axis, Extent>,
    bound: HashMap<(u32, u32, Extent), Axis>,
    next: u32,
    /// The kind of each tensor; others hold real numbers.
    pub kinds: HashMap<Value, Kind>,
    /// The smallest value of each symbol.
    pub least: HashMap<tilewright_ir::Sym, u64>,
    /// The largest value of each symbol.
    pub most: HashMap<tilewright_ir::Sym, u64>,
}

impl Terms {
    /// Declares an axis.
    pub fn declare(&mut self, axis: Axis, extent: Extent) {
        self.extents.insert(axis, extent);
        self.next = self.next.max(axis.as_u32() + 1);
    }

    /// The extent of an axis.
    pub fn extent(&self, axis: Axis) -> Option<Extent> {
        self.extents.get(&axis).copied()
    }

    /// Whether an axis has a position whatever the symbols are.
    pub fn inhabited(&self, axis: Axis) -> bool {
        match self.extent(axis) {
            Some(Extent::Const(n)) => n > 0,
            Some(Extent::Sym(s)) => self.least.get(&s).is_some_and(|&n| n > 0),
            None => false,
        }
    }

    /// An axis of its own with the extent of another.
    pub fn fresh(&mut self, like: Axis) -> Axis {
        let axis = Axis::from_u32(self.next);
        self.next += 1;
        if let Some(extent) = self.extent(like) {
            self.extents.insert(axis, extent);
        }
        axis
    }

    /// The canonical name of binder number `n` of its extent at a height.
    pub(crate) fn bound(&mut self, height: u32, n: u32, like: Axis) -> Axis {
        let extent = self.extent(like).unwrap_or(Extent::Const(0));
        if let Some(&axis) = self.bound.get(&(height, n, extent)) {
            return axis;
        }
        let axis = self.fresh(like);
        self.extents.insert(axis, extent);
        self.bound.insert((height, n, extent), axis);
        axis
    }

    /// The number of a node as it stands.
    pub fn add(&mut self, node: Node) -> Id {
        let (at, new) = self.nodes.insert_full(node);
        if new {
            let facts = facts::of(self, &self.nodes[at]);
            self.facts.push(facts);
        }
        at as Id
    }

    /// A literal.
    pub fn num(&mut self, x: f64) -> Id {
        self.add(Node::Num(Num(x)))
    }

    /// The node with a number.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// What is known of a node.
    pub fn facts(&self, id: Id) -> &Facts {
        &self.facts[id as usize]
    }

    /// The literal, if the node is one.
    pub fn literal(&self, id: Id) -> Option<f64> {
        match self.node(id) {
            Node::Num(n) => Some(n.0),
            _ => None,
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
