//! The syntax tree of equations, made by the parser and by the builder alike.
//!
//! Why here: the builder offers the same language without text, so both must meet before names are resolved.
//! Post: a tree says nothing about whether names exist or extents agree; lowering does.

use tilewright_ir::diag::Span;
use tilewright_ir::{Binary, DType};

/// A name with its place in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) span: Span,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) span: Span,
    /// Nodes on the longest path to a leaf. Every walk recurses, so whoever builds trees limits this.
    pub(super) depth: usize,
}

/// The largest [`Node::depth`] that walks are prepared for.
pub(super) const MAX_DEPTH: usize = 200;

impl Node {
    pub(super) fn new(kind: Kind, span: Span) -> Node {
        let depth = 1 + match &kind {
            Kind::Num(..) | Kind::Name(_) => 0,
            Kind::Index(_, slots) => slots.iter().map(|s| s.index.depth).max().unwrap_or(0),
            Kind::Call(c) => {
                let named = c.named.iter().map(|(_, n)| n.depth);
                c.args.iter().map(|n| n.depth).chain(named).max().unwrap_or(0)
            }
            Kind::Neg(x) | Kind::Not(x) => x.depth,
            Kind::Binary(_, a, b) | Kind::Power(a, b) => a.depth.max(b.depth),
            Kind::Block(lets, x) => lets.iter().map(|(_, n)| n.depth).max().unwrap_or(0).max(x.depth),
        };
        Node { kind, span, depth }
    }
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A literal; the flag tells whether it was written as an integer.
    Num(f64, bool),
    /// A bare name: position of an axis, scalar, symbol, parameter or local.
    Name(String),
    /// `X[i, t := e]`.
    Index(Name, Vec<Slot>),
    /// `f[j](x, eps = 1e-6)`.
    Call(Call),
    /// `-x`.
    Neg(Box<Node>),
    /// `not x`.
    Not(Box<Node>),
    /// `a + b` and the other infix operators.
    Binary(Binary, Box<Node>, Box<Node>),
    /// `x ** n`.
    Power(Box<Node>, Box<Node>),
    /// `{ a = ...; b = ...; result }`.
    Block(Vec<(Name, Node)>, Box<Node>),
}

/// A call of a reduction, a primitive, a library function or a user function.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) callee: Name,
    /// `None` when no brackets were written.
    pub(super) axes: Option<Vec<Name>>,
    pub(super) args: Vec<Node>,
    pub(super) named: Vec<(Name, Node)>,
}

/// One index of an access: a position along an axis, or an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    /// The name of the array's axis, where the index says it (`t := e`).
    pub(super) axis: Option<Name>,
    pub(super) index: Node,
}

impl Slot {
    /// The axis that this slot reads along as a whole, if it is one name.
    pub(super) fn plain(&self) -> Option<Name> {
        match (&self.axis, &self.index.kind) {
            (None, Kind::Name(n)) => Some(Name { text: n.clone(), span: self.index.span }),
            _ => None,
        }
    }
}

/// A declared extent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Size {
    Const(u64),
    Sym(String),
}

/// A declared axis of an array.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AxisDecl {
    pub(super) name: Name,
    pub(super) size: Option<(Size, Span)>,
}

/// `Q: bf16[i=33, d=64]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decl {
    pub(super) name: Name,
    /// Whether it is the same in every run.
    pub(super) constant: bool,
    pub(super) dtype: Option<DType>,
    /// `None` when no brackets were written: a scalar, or axes known from elsewhere.
    pub(super) axes: Option<Vec<AxisDecl>>,
}

/// `O[i, e] = ...`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    pub(super) name: Name,
    pub(super) axes: Vec<Name>,
    pub(super) body: Node,
}

/// `fn f[j](x, eps = 1e-6) = ... where f(a+b) = f(a)*f(b)`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FnDef {
    pub(super) name: Name,
    pub(super) axes: Vec<Name>,
    pub(super) params: Vec<(Name, Option<Node>)>,
    pub(super) body: Node,
    pub(super) properties: Vec<(Node, Node)>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stmt {
    Decl(Decl),
    /// `axis i=33, j=seq`: extents of axes that no array declares.
    Axes(Vec<AxisDecl>),
    /// `seq in 1..4096`, both ends included.
    Range(Name, u64, u64),
    Define(Definition),
    Fn(FnDef),
}
