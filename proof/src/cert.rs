//! Certificates as they are written down.
//!
//! Why here: one place says what is in a certificate. Everything is integers and strings in one spelling: what can be
//! written in two ways is refused in all but one, so that no field can be changed without meaning something else.
//!
//! The format is described in `proof/README.md`.

use serde::{Deserialize, Serialize};
use tilewright_ir::expr::{BINARY, Num, REDUCTION, UNARY};
use tilewright_ir::{Axis, Extent, Sym, Value};

use crate::term::{Node, Part, Piece};

/// The version of the format.
pub const SCHEMA: u32 = 3;

/// A certificate of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The version of the format.
    pub schema: u32,
    /// The hash of the checker's law table.
    pub laws: String,
    /// The hash of the source function.
    pub graph: String,
    /// The hash of the kernel of the plan.
    pub plan: String,
    /// The function.
    pub function: String,
    /// The kernel.
    pub kernel: String,
    /// The tensor that the kernel stores.
    pub value: String,
    /// The axes that the terms name.
    pub axes: Vec<AxisRow>,
    /// The tensors that the terms read.
    pub leaves: Vec<LeafRow>,
    /// What is taken for granted.
    pub assumptions: Vec<String>,
    /// The terms, by depth and then by spelling.
    pub nodes: Vec<NodeRow>,
    /// Whether the source has what updates write in place of reads of updated states.
    pub forwarded: bool,
    /// What the graph says.
    pub source: u32,
    /// What the kernel computes.
    pub result: u32,
    /// The equalities that lead from one to the other; the last one is between the two.
    pub steps: Vec<Step>,
    /// The values of other kernels that this one reads, and in which form their terms stand in the result.
    pub stored: Vec<StoredRow>,
    /// The one-pass folds of the result.
    pub folds: Vec<FoldRow>,
    /// Narrowings: rounding that the plan places, which no equality covers.
    pub refinements: Vec<String>,
    /// Whether exponentials and inverses of the result stay in range.
    pub stability: Vec<StabilityRow>,
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisRow {
    /// Its number.
    pub axis: String,
    /// Its name.
    pub name: String,
    /// Its extent.
    pub extent: String,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafRow {
    /// Its number.
    pub value: String,
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// What its elements are taken to be.
    pub assumption: String,
}

/// A node: an operation, what it is of (a literal, a function, axes, a tensor), and its operands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRow {
    /// The operation.
    pub op: String,
    /// What it is of; empty for sums, products, extremes and choices.
    pub of: String,
    /// The operands, by number; those of sums, products and extremes are sorted.
    pub args: Vec<u32>,
}

/// An equality between two terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "by", rename_all = "lowercase")]
pub enum Step {
    /// An instance of a law, modulo earlier equalities.
    Law {
        /// The first law of the checker's table of which it is one.
        law: String,
        /// One side.
        lhs: u32,
        /// The other.
        rhs: u32,
        /// Earlier equalities that it needs.
        premises: Vec<u32>,
    },
    /// The same operation on equal operands.
    Congruence {
        /// One side.
        lhs: u32,
        /// The other.
        rhs: u32,
        /// The equalities of the operands that differ, in order.
        children: Vec<u32>,
    },
    /// One after the other.
    Chain {
        /// One side.
        lhs: u32,
        /// The other.
        rhs: u32,
        /// Earlier equalities, each starting where the one before ends.
        steps: Vec<u32>,
    },
}

impl Step {
    /// Both sides.
    pub fn sides(&self) -> (u32, u32) {
        match self {
            Step::Law { lhs, rhs, .. } | Step::Congruence { lhs, rhs, .. } | Step::Chain { lhs, rhs, .. } => {
                (*lhs, *rhs)
            }
        }
    }

    /// The equalities that it refers to.
    pub fn uses(&self) -> &[u32] {
        match self {
            Step::Law { premises: u, .. }
            | Step::Congruence { children: u, .. }
            | Step::Chain { steps: u, .. } => u,
        }
    }
}

/// A value that another kernel stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRow {
    /// The tensor.
    pub value: String,
    /// `source` or `result`: which term of its own certificate stands for it.
    pub form: String,
}

/// A fold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldRow {
    /// The node.
    pub node: u32,
    /// What its sum starts from.
    pub identity: String,
    /// How many maxima it tracks.
    pub tracks: u32,
    /// What was decided over fresh elements.
    pub cocycle: String,
}

/// An exponential or inverse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StabilityRow {
    /// The node.
    pub node: u32,
    /// The judgement.
    pub judgement: String,
}

fn piece(p: Piece) -> String {
    match p.part {
        Part::Whole => p.axis.to_string(),
        Part::Outer => format!("{}.o", p.axis),
        Part::Inner => format!("{}.i", p.axis),
    }
}

fn number(text: &str, prefix: &str) -> Option<u32> {
    text.strip_prefix(prefix)?.parse().ok()
}

fn parse_axis(text: &str) -> Option<Axis> {
    number(text, "ax").map(Axis::from_u32)
}

fn parse_piece(text: &str) -> Option<Piece> {
    let (axis, part) = match text.split_once('.') {
        None => (text, Part::Whole),
        Some((axis, "o")) => (axis, Part::Outer),
        Some((axis, "i")) => (axis, Part::Inner),
        Some(_) => return None,
    };
    Some(Piece { axis: parse_axis(axis)?, part })
}

/// The spelling of an extent.
pub fn extent(e: Extent) -> String {
    match e {
        Extent::Const(n) => n.to_string(),
        Extent::Sym(s) => s.to_string(),
    }
}

/// A node whose operands are rows, as a row.
pub fn row(node: &Node) -> NodeRow {
    let (op, of) = match node {
        Node::Num(n) => ("num", format!("{:?}", n.0)),
        Node::Pos(a) => ("pos", a.to_string()),
        Node::CutPos(a) => ("cutpos", a.to_string()),
        Node::Size(e) => ("size", extent(*e)),
        Node::Read(v, _) => ("read", v.to_string()),
        Node::Add(_) => ("add", String::new()),
        Node::Mul(_) => ("mul", String::new()),
        Node::Max(_) => ("max", String::new()),
        Node::Min(_) => ("min", String::new()),
        Node::Unary(f, _) => ("unary", f.name().to_owned()),
        Node::Binary(f, _) => ("binary", f.name().to_owned()),
        Node::Select(_) => ("where", String::new()),
        Node::Cast(d, _) => ("cast", d.to_string()),
        Node::Reduce(op, pieces, _) => {
            let pieces: Vec<String> = pieces.iter().map(|&p| piece(p)).collect();
            ("reduce", format!("{} {}", op.name(), pieces.join(" ")))
        }
        Node::Part(a, _) => ("part", a.to_string()),
        Node::Hole => ("hole", String::new()),
        Node::Fold(a, op, _) => ("fold", format!("{} {a}", op.name())),
    };
    NodeRow { op: op.to_owned(), of, args: node.children().to_vec() }
}

/// The node of a row; none if the row is not spelled as [`row`] spells it.
pub fn node(r: &NodeRow) -> Option<Node> {
    let args = r.args.clone();
    let one = || args.first().copied();
    let out = match r.op.as_str() {
        "num" => Node::Num(Num(r.of.parse().ok()?)),
        "pos" => Node::Pos(parse_axis(&r.of)?),
        "cutpos" => Node::CutPos(parse_axis(&r.of)?),
        "size" => Node::Size(match number(&r.of, "s") {
            Some(s) => Extent::Sym(Sym::from_u32(s)),
            None => Extent::Const(r.of.parse().ok()?),
        }),
        "read" => Node::Read(Value::from_u32(number(&r.of, "v")?), args),
        "add" => Node::Add(args),
        "mul" => Node::Mul(args),
        "max" => Node::Max(args),
        "min" => Node::Min(args),
        "unary" => Node::Unary(UNARY.iter().find(|(_, name)| *name == r.of)?.0, one()?),
        "binary" => Node::Binary(BINARY.iter().find(|(_, name)| *name == r.of)?.0, args.try_into().ok()?),
        "where" => Node::Select(args.try_into().ok()?),
        "cast" => Node::Cast(r.of.parse().ok()?, one()?),
        "reduce" => {
            let mut words = r.of.split(' ');
            let name = words.next()?;
            let op = REDUCTION.iter().find(|(_, n)| *n == name)?.0;
            let pieces: Vec<Piece> = words.map(parse_piece).collect::<Option<_>>()?;
            if pieces.is_empty() || !pieces.is_sorted_by(|a, b| a < b) {
                return None;
            }
            Node::Reduce(op, pieces, one()?)
        }
        "part" => Node::Part(parse_axis(&r.of)?, one()?),
        "hole" => Node::Hole,
        "fold" => {
            let (name, axis) = r.of.split_once(' ')?;
            let op = REDUCTION.iter().find(|(_, n)| *n == name)?.0;
            Node::Fold(parse_axis(axis)?, op, args)
        }
        _ => return None,
    };
    let sorted = match &out {
        Node::Add(c) | Node::Mul(c) => c.len() > 1 && c.is_sorted(),
        Node::Max(c) | Node::Min(c) => c.len() > 1 && c.is_sorted_by(|a, b| a < b),
        Node::Fold(_, _, c) => c.len() > 3 && c.len() % 2 == 0,
        _ => true,
    };
    (sorted && row(&out) == *r).then_some(out)
}
