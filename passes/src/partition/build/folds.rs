//! Folds and what they track as locals.
//!
//! Why here: what a fold tracks must run in step with it, and its action must stand by itself.
//!
//! Post: an action is over the moved value and what is tracked alone.

use std::collections::{BTreeMap, HashMap};

use cranelift_entity::EntityRef;
use tilewright_ir::expr::build as ex;
use tilewright_ir::plan::{LocalDef, replace_locals};
use tilewright_ir::{Axis, Binary, Ex, Expr, Local};

use super::kernel::{HOLE, Kernel};
use crate::PassError;
use crate::algebra::dag::child;
use crate::algebra::{NodeId, Term};

impl Kernel<'_> {
    /// A fold, whether or not its final value is stored elsewhere.
    pub(super) fn fold(&mut self, n: NodeId) -> Result<Ex, PassError> {
        let Term::Fold(axis, op, c) = &self.b.dag.nodes[n].term else {
            return Err(PassError::Bug("a fold is no fold".into()));
        };
        let mut tracks = Vec::new();
        for pair in c[2..].chunks(2) {
            let (t, y) = (child(pair[0]), child(pair[1]));
            let t = self.local(t)?;
            tracks.push((t, self.running(y, t, *axis)?));
        }
        let block = self.convert(child(c[0]))?;
        let action = self.action(child(c[1]), &c[2..])?;
        let own = BTreeMap::from([(Local::from_u32(HOLE), ex::local(Local::new(self.locals.len())))]);
        let action = replace_locals(&moved_first(&action), &own);
        Ok(self.define(n, LocalDef::Fold { op: *op, axis: *axis, block, action, tracks }))
    }

    /// What a fold tracks, of all blocks: computed in step even where its final value is stored elsewhere.
    fn running(&mut self, y: NodeId, t: Local, axis: Axis) -> Result<Local, PassError> {
        if let Some(Expr::Local(l)) = self.memo.get(&y).map(|e| (**e).clone())
            && matches!(self.locals[l].def, LocalDef::Running { .. } | LocalDef::Fold { .. })
        {
            return Ok(l);
        }
        let e = match self.b.dag.nodes[y].term {
            Term::Reduce(op, ..) => self.define(y, LocalDef::Running { op, axis, block: ex::local(t) }),
            Term::Fold(..) => self.fold(y)?,
            _ => return Err(PassError::Bug("a fold tracks what does not run".into())),
        };
        self.memo.insert(y, e.clone());
        match &*e {
            Expr::Local(l) => Ok(*l),
            _ => Err(PassError::Bug("a local is not a local".into())),
        }
    }

    /// An action as an expression over the moved value and what is tracked alone, so that it can be evaluated at other pairs of values.
    /// What compares and chooses more than once has a name.
    fn action(&mut self, n: NodeId, tracked: &[egg::Id]) -> Result<Ex, PassError> {
        let only: HashMap<NodeId, Ex> =
            tracked.iter().filter_map(|&t| Some((child(t), self.memo.get(&child(t))?.clone()))).collect();
        let memo = std::mem::replace(&mut self.memo, only);
        let mut named = HashMap::new();
        self.named(n, &mut named, &mut HashMap::new());
        let uses = std::mem::replace(&mut self.uses, named);
        let e = self.convert(n);
        self.memo = memo;
        self.uses = uses;
        e
    }

    /// How often what compares and chooses is used, of the parts of an action that do not hold what it moves; whether it holds that.
    fn named(&self, n: NodeId, out: &mut HashMap<NodeId, u32>, seen: &mut HashMap<NodeId, bool>) -> bool {
        if let Some(&holds) = seen.get(&n) {
            return holds;
        }
        let term = &self.b.dag.nodes[n].term;
        let mut holds = matches!(term, Term::Hole);
        if !self.memo.contains_key(&n) {
            for c in self.b.dag.children(n) {
                holds |= self.named(c, out, seen);
            }
        }
        if !holds && matches!(term, Term::Select(_) | Term::Binary(..) | Term::Max(_) | Term::Min(_)) {
            out.extend(self.uses.get(&n).map(|&u| (n, u)));
        }
        seen.insert(n, holds);
        holds
    }
}

/// A product with the moved value as its first factor and all others as its second.
fn moved_first(e: &Ex) -> Ex {
    fn factors(e: &Ex, out: &mut Vec<Ex>) {
        match &**e {
            Expr::Binary(Binary::Mul, a, b) => [a, b].into_iter().for_each(|x| factors(x, out)),
            _ => out.push(e.clone()),
        }
    }
    let mut all = Vec::new();
    factors(e, &mut all);
    let hole = |e: &Ex| matches!(**e, Expr::Local(l) if l.as_u32() == HOLE);
    let Some(at) = all.iter().position(hole) else { return e.clone() };
    let v = all.remove(at);
    match all.into_iter().reduce(ex::mul) {
        Some(rest) => ex::mul(v, rest),
        None => v,
    }
}
