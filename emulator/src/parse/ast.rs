//! What: the syntax tree of a PTX module.
//! Why here: parser and decoder share it.
//! Pre: none.
//! Post: all names borrow from the PTX text.

use crate::types::Ty;

/// A place in the PTX text, 1-based.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pos {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// State spaces as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VarSpace {
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// One item of an initialiser.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Init<'a> {
    Int(u64),
    F32(u32),
    F64(u64),
    Symbol { name: &'a str, offset: i64 },
}

/// A variable declaration in some state space.
#[derive(Debug, Clone)]
pub(crate) struct Var<'a> {
    pub(crate) name: &'a str,
    pub(crate) space: VarSpace,
    pub(crate) ty: Ty,
    pub(crate) align: u32,
    /// Total bytes; 0 for an unsized `extern` array.
    pub(crate) bytes: u64,
    pub(crate) init: Vec<Init<'a>>,
    pub(crate) pos: Pos,
}

/// An operand of an instruction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand<'a> {
    /// A register, special register, symbol or label; `_` too.
    Word(&'a str),
    Int(i128),
    F32(u32),
    F64(u64),
    Not(Box<Operand<'a>>),
    /// `a|b`.
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    Vec(Vec<Operand<'a>>),
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
    /// `[base + offset]`, and further items after a comma for tensor coordinates.
    Addr {
        base: Option<&'a str>,
        offset: i64,
        rest: Vec<Operand<'a>>,
    },
    /// `symbol + offset` outside brackets.
    SymbolOffset(&'a str, i64),
}

/// An instruction as written.
#[derive(Debug, Clone)]
pub(crate) struct RawInst<'a> {
    /// The guard predicate and whether it is negated.
    pub(crate) guard: Option<(&'a str, bool)>,
    pub(crate) op: &'a str,
    pub(crate) operands: Vec<Operand<'a>>,
    pub(crate) pos: Pos,
    /// The text, for messages.
    pub(crate) text: &'a str,
}

/// A statement of a body.
#[derive(Debug, Clone)]
pub(crate) enum Stmt<'a> {
    Regs {
        ty: Ty,
        name: &'a str,
        count: Option<u32>,
        pos: Pos,
    },
    Var(Var<'a>),
    Label(&'a str, Pos),
    Inst(RawInst<'a>),
    Loc {
        file: u32,
        line: u32,
    },
    Open,
    Close,
    /// `.branchtargets` or `.calltargets` under the label before it.
    Targets(Vec<&'a str>),
    /// `.callprototype` under the label before it.
    Prototype {
        rets: Vec<Var<'a>>,
        params: Vec<Var<'a>>,
    },
}

/// A function or entry.
#[derive(Debug, Clone)]
pub(crate) struct Func<'a> {
    pub(crate) entry: bool,
    pub(crate) name: &'a str,
    pub(crate) rets: Vec<Var<'a>>,
    pub(crate) params: Vec<Var<'a>>,
    pub(crate) body: Option<Vec<Stmt<'a>>>,
    /// `.reqntid`, where given.
    pub(crate) reqntid: Option<[u32; 3]>,
    /// `.maxntid`, where given.
    pub(crate) maxntid: Option<[u32; 3]>,
    /// `.reqnctapercluster`, where given.
    pub(crate) cluster: Option<[u32; 3]>,
    /// `.maxnreg`, where given.
    pub(crate) maxnreg: Option<u32>,
    pub(crate) pos: Pos,
}

/// A module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Module<'a> {
    pub(crate) vars: Vec<Var<'a>>,
    pub(crate) funcs: Vec<Func<'a>>,
    pub(crate) files: Vec<(u32, String)>,
}
