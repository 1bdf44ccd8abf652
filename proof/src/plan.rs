//! What a kernel of a plan computes, as a term.
//!
//! Why here: a derivation ends in a term, and what runs is made from the plan; they must be the same. Locals are inlined,
//! a block local is a reduction within a block, a running local one over blocks, a fold is checked to be one (its action
//! depends on nothing but what it tracks, and moving twice is moving once). What other kernels store is replaced by what they store.
//!
//! Pre: the terms of stored values are canonical, so that nothing is captured.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan};
use tilewright_ir::{Axis, Ex, Expr, Extent, Local, Reduction, Value};

use crate::fold::{self, Tracked, check_node};
use crate::order;
use crate::rename::substitute;
use crate::source::{binary, cast, reduce, unary};
use crate::term::{Id, Node, Piece, Terms};

/// Converts expressions of one kernel.
pub struct Kernel<'a> {
    plan: &'a Plan,
    kernel: &'a KernelPlan,
    /// The canonical term of each value that another kernel stores, over the value's axes.
    stored: &'a BTreeMap<Value, Id>,
    memo: HashMap<(Local, BTreeSet<Axis>), Id>,
    /// Locals that stand for fresh elements, or for what moves, while an action is looked at.
    fresh: HashMap<Local, Id>,
    /// Whether folds that choose are looked at elsewhere.
    judged: bool,
}

/// Why a kernel has no term.
pub type Failure = String;

impl<'a> Kernel<'a> {
    /// Of this kernel.
    pub fn new(plan: &'a Plan, kernel: &'a KernelPlan, stored: &'a BTreeMap<Value, Id>) -> Kernel<'a> {
        Kernel { plan, kernel, stored, memo: HashMap::default(), fresh: HashMap::default(), judged: false }
    }

    /// Where what comes of it is compared with a term all of whose folds that choose are known to be folds.
    pub fn judged(self) -> Kernel<'a> {
        Kernel { judged: true, ..self }
    }

    /// The term of an expression outside of all passes.
    pub fn expr(&mut self, t: &mut Terms, e: &Ex) -> Result<Id, Failure> {
        self.at(t, e, &BTreeSet::new())
    }

    /// The term of an expression where the given axes are cut into blocks.
    fn at(&mut self, t: &mut Terms, e: &Ex, cut: &BTreeSet<Axis>) -> Result<Id, Failure> {
        Ok(match &**e {
            Expr::Num(n) => t.add(Node::Num(*n)),
            Expr::Pos(a) if cut.contains(a) => t.add(Node::CutPos(*a)),
            Expr::Pos(a) => t.add(Node::Pos(*a)),
            Expr::Size(Extent::Const(n)) => t.num(*n as f64),
            Expr::Size(s) => t.add(Node::Size(*s)),
            Expr::Read(v, index) => {
                let index = index.iter().map(|i| self.at(t, i, cut)).collect::<Result<Vec<_>, _>>()?;
                match self.stored.get(v) {
                    None => t.add(Node::Read(*v, index)),
                    Some(&term) => {
                        let axes = &self.plan.values[*v].axes;
                        let by = axes.iter().copied().zip(index).collect();
                        substitute(t, term, &by)
                    }
                }
            }
            Expr::Local(l) => match self.fresh.get(l) {
                Some(&id) => id,
                None => self.local(t, *l, cut)?,
            },
            Expr::Unary(f, x) => {
                let x = self.at(t, x, cut)?;
                unary(t, *f, x)
            }
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.at(t, a, cut)?, self.at(t, b, cut)?);
                binary(t, *f, a, b)
            }
            Expr::Select(c, a, b) => {
                let c = self.at(t, c, cut)?;
                let (a, b) = (self.at(t, a, cut)?, self.at(t, b, cut)?);
                t.add(Node::Select([c, a, b]))
            }
            Expr::Cast(d, x) => {
                let x = self.at(t, x, cut)?;
                cast(t, *d, x)
            }
            Expr::Reduce(..) | Expr::Tile(_) => {
                return Err("an expression of the plan holds what belongs to another level".into());
            }
        })
    }

    fn local(&mut self, t: &mut Terms, l: Local, cut: &BTreeSet<Axis>) -> Result<Id, Failure> {
        let key = (l, cut.clone());
        if let Some(&id) = self.memo.get(&key) {
            return Ok(id);
        }
        let data = self.kernel.locals.get(l).ok_or_else(|| format!("there is no local {l}"))?;
        let with = |a: Axis| {
            let mut cut = cut.clone();
            cut.insert(a);
            cut
        };
        let id = match &data.def {
            LocalDef::Map(e) => self.at(t, e, cut)?,
            LocalDef::Reduce { op, axes, body } => {
                let cut = cut.iter().copied().filter(|a| !axes.contains(a)).collect();
                let body = self.at(t, body, &cut)?;
                reduce(t, *op, axes.iter().map(|&a| Piece::whole(a)).collect(), body)
            }
            LocalDef::Block { op, axis, body } => {
                let body = self.at(t, body, &with(*axis))?;
                reduce(t, *op, vec![Piece::inner(*axis)], body)
            }
            LocalDef::Running { op, axis, block } => {
                let block = self.at(t, block, &with(*axis))?;
                reduce(t, *op, vec![Piece::outer(*axis)], block)
            }
            LocalDef::Fold { op, axis, block, action, tracks } => {
                let inside = with(*axis);
                self.fresh.insert(l, t.add(Node::Hole));
                let action_term = self.at(t, action, &inside);
                self.fresh.remove(&l);
                let mut children = vec![self.at(t, block, &inside)?, action_term?];
                for &(block, running) in tracks {
                    match self.kernel.locals.get(running).map(|d| &d.def) {
                        Some(
                            LocalDef::Running { axis: a, block: b, .. }
                            | LocalDef::Fold { axis: a, block: b, .. },
                        ) if a == axis && **b == Expr::Local(block) => {}
                        _ => {
                            return Err(format!(
                                "fold {l} tracks {running}, which is no running value of {block}"
                            ));
                        }
                    }
                    children.push(self.local(t, block, &inside)?);
                    children.push(self.local(t, running, cut)?);
                }
                let node = Node::Fold(*axis, *op, children);
                match op {
                    Reduction::Sum if self.beside(tracks) => {
                        check_node(t, &node).map_err(|e| format!("fold {l}: {e}"))?;
                    }
                    Reduction::Sum => self.action(t, l, action, tracks)?,
                    _ if self.judged => {}
                    _ => order::check(t, &node).map_err(|e| format!("fold {l}: {e}"))?,
                }
                t.add(node)
            }
        };
        self.memo.insert(key, id);
        Ok(id)
    }

    /// Whether a fold of a sum tracks sums beside something else, or sums that are folds.
    fn beside(&self, tracks: &[(Local, Local)]) -> bool {
        let runs = |&(_, y): &(Local, Local)| self.kernel.locals.get(y).map(|d| &d.def);
        let sum = |def: Option<&LocalDef>| matches!(def, Some(def) if def.runs() == Some(Reduction::Sum));
        let plain =
            |def: Option<&LocalDef>| matches!(def, Some(LocalDef::Running { op: Reduction::Sum, .. }));
        tracks.iter().any(|p| sum(runs(p))) && !tracks.iter().all(|p| plain(runs(p)))
    }

    /// That the action of a fold may move what blocks contribute to a sum.
    fn action(&mut self, t: &mut Terms, l: Local, e: &Ex, tracks: &[(Local, Local)]) -> Result<(), Failure> {
        let held = std::mem::take(&mut self.fresh);
        let mut fresh = Vec::new();
        let mut tracked = None;
        for &(block, running) in tracks {
            let kind = match self.kernel.locals.get(running).map(|d| &d.def) {
                Some(LocalDef::Running { op: Reduction::Max, .. }) => Tracked::Maxima,
                Some(LocalDef::Running { op: Reduction::Min, .. }) => Tracked::Minima,
                Some(LocalDef::Running { op: Reduction::Sum, .. }) => Tracked::Sums,
                _ => return Err(format!("fold {l} tracks {running}, which is neither extreme nor sum")),
            };
            if *tracked.get_or_insert(kind) != kind {
                return Err(format!("fold {l} tracks several of maxima, minima and sums"));
            }
            let (a, b) = (fold::element(t), fold::element(t));
            fresh.push((a, b));
            self.fresh.insert(block, a);
            self.fresh.insert(running, b);
        }
        self.fresh.insert(l, t.add(Node::Hole));
        // What parts of it are depends on what the elements stand for.
        let memo = std::mem::take(&mut self.memo);
        let action = self.at(t, e, &BTreeSet::new());
        self.memo = memo;
        self.fresh = held;
        fold::check(t, action?, &fresh, tracked.unwrap_or(Tracked::Maxima))
            .map(drop)
            .map_err(|e| format!("fold {l}: {e}"))
    }
}
