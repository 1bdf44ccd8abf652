//! Invariants of expressions at every level.
//!
//! * `E1` leaves are of the level: tensors in graphs and plans, locals in plans, tiles in tile programs, reductions in
//!   graphs only; what they name exists and is visible.
//! * `E2` a read has one index per axis of the tensor, and indices are integers (cast what is not).
//! * `E3` conditions and the operands of `and`, `or`, `not` are truth values.
//! * `E4` a reduction binds one or more different axes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cranelift_entity::PrimaryMap;

use crate::eval::Sort;
use crate::verify::{Report, distinct, extent_exists};
use crate::{Axis, Binary, Ex, Expr, Local, Reduction, Sym, SymData, Tile, Unary, Value};

/// What a leaf is, as far as expressions care.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// For tensors, how many indices they take; for locals and tiles, the axes that are free in them.
    pub(crate) axes: Vec<Axis>,
    pub(crate) sort: Sort,
}

/// What expressions may mention. The functions say why something may not be mentioned.
pub(crate) struct Scope<'a> {
    pub(crate) symbols: &'a PrimaryMap<Sym, SymData>,
    pub(crate) axis_exists: &'a dyn Fn(Axis) -> bool,
    pub(crate) value: &'a dyn Fn(Value) -> Result<Leaf, String>,
    pub(crate) local: &'a dyn Fn(Local) -> Result<Leaf, String>,
    pub(crate) tile: &'a dyn Fn(Tile) -> Result<Leaf, String>,
    pub(crate) reductions: bool,
}

/// What is known of a checked expression.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) free: BTreeSet<Axis>,
    pub(crate) sort: Sort,
}

impl Info {
    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.sort, Sort::Int | Sort::Literal)
    }

    pub(crate) fn is_truth(&self) -> bool {
        matches!(self.sort, Sort::Bool | Sort::Literal)
    }
}

/// A leaf of another level.
pub(crate) fn no_leaf<K: std::fmt::Display>(what: &str, level: &str) -> impl Fn(K) -> Result<Leaf, String> {
    move |k| Err(format!("{k}: {what} do not occur in {level}"))
}

/// Checks an expression and tells what is known of it.
pub(crate) fn check(report: &mut Report, at: &str, ex: &Ex, scope: &Scope<'_>) -> Info {
    Checker { report, at, scope, seen: HashMap::new() }.visit(ex)
}

struct Checker<'a, 'r> {
    report: &'r mut Report,
    at: &'a str,
    scope: &'a Scope<'a>,
    /// Shared parts are visited once.
    seen: HashMap<*const Expr, Info>,
}

impl Checker<'_, '_> {
    fn visit(&mut self, ex: &Ex) -> Info {
        if let Some(info) = self.seen.get(&Arc::as_ptr(ex)) {
            return info.clone();
        }
        let info = self.node(ex);
        self.seen.insert(Arc::as_ptr(ex), info.clone());
        info
    }

    fn leaf(&mut self, leaf: Result<Leaf, String>) -> Info {
        match leaf {
            Ok(leaf) => Info { free: leaf.axes.into_iter().collect(), sort: leaf.sort },
            Err(message) => {
                self.report.add("E1", self.at, message);
                Info { free: BTreeSet::new(), sort: Sort::F32 }
            }
        }
    }

    fn axis(&mut self, a: Axis) {
        let exists = (self.scope.axis_exists)(a);
        self.report.check(exists, "E1", self.at, || format!("there is no axis {a}"));
    }

    fn truth(&mut self, what: &str, info: &Info) {
        self.report.check(info.is_truth(), "E3", self.at, || format!("{what} is no truth value"));
    }

    fn node(&mut self, ex: &Ex) -> Info {
        let constant = |sort| Info { free: BTreeSet::new(), sort };
        let both = |a: Info, b: Info, sort| {
            let mut free = a.free;
            free.extend(b.free);
            Info { free, sort }
        };
        match &**ex {
            Expr::Num(n) => constant(Sort::of_literal(n.0)),
            Expr::Pos(a) => {
                self.axis(*a);
                Info { free: BTreeSet::from([*a]), sort: Sort::Int }
            }
            Expr::Size(e) => {
                let exists = extent_exists(*e, self.scope.symbols);
                self.report.check(exists, "E1", self.at, || format!("there is no symbol {e:?}"));
                constant(Sort::Int)
            }
            Expr::Read(v, index) => {
                let leaf = (self.scope.value)(*v);
                if let Ok(leaf) = &leaf {
                    let (expected, found) = (leaf.axes.len(), index.len());
                    self.report.check(expected == found, "E2", self.at, || {
                        format!("{v} has {expected} axes and is read with {found} indices")
                    });
                }
                let sort = self.leaf(leaf).sort;
                let mut free = BTreeSet::new();
                for (n, i) in index.iter().enumerate() {
                    let info = self.visit(i);
                    self.report.check(info.is_integer(), "E2", self.at, || {
                        format!("index {n} of {v} is no integer expression")
                    });
                    free.extend(info.free);
                }
                Info { free, sort }
            }
            Expr::Local(l) => {
                let leaf = (self.scope.local)(*l);
                self.leaf(leaf)
            }
            Expr::Tile(t) => {
                let leaf = (self.scope.tile)(*t);
                self.leaf(leaf)
            }
            Expr::Unary(op, x) => {
                let info = self.visit(x);
                if *op == Unary::Not {
                    self.truth("the operand of `not`", &info);
                }
                Info { sort: Sort::unary(*op, info.sort), ..info }
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.visit(a), self.visit(b));
                if matches!(op, Binary::And | Binary::Or) {
                    let what = format!("an operand of `{}`", op.name());
                    self.truth(&what, &a);
                    self.truth(&what, &b);
                }
                self.report.check(
                    *op != Binary::Random || (a.is_integer() && b.is_integer()),
                    "E3",
                    self.at,
                    || "the key and the counter of `random` are integers".to_owned(),
                );
                let sort = Sort::binary(*op, a.sort, b.sort).1;
                both(a, b, sort)
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.visit(c), self.visit(a), self.visit(b));
                self.truth("the condition of `where`", &c);
                let sort = a.sort.join(b.sort);
                let ab = both(a, b, sort);
                both(c, ab, sort)
            }
            Expr::Cast(to, x) => Info { sort: Sort::of(*to), ..self.visit(x) },
            Expr::Reduce(op, axes, x) => {
                self.report.check(self.scope.reductions, "E1", self.at, || {
                    "a reduction inside of an expression occurs in graphs only".to_owned()
                });
                self.report.check(!axes.is_empty() && distinct(axes), "E4", self.at, || {
                    format!("a `{}` binds no axis, or one twice", op.name())
                });
                axes.iter().for_each(|&a| self.axis(a));
                let mut info = self.visit(x);
                info.free.retain(|a| !axes.contains(a));
                if *op == Reduction::Sum && info.sort == Sort::Bool {
                    info.sort = Sort::Int;
                }
                info
            }
        }
    }
}
