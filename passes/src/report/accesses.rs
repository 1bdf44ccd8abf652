//! What a kernel reads and writes.
//!
//! Why here: bytes that are counted, once for a kernel or for each block that asks for them, are of the same accesses.
//!
//! Pre: the kernel's blocks, from which follows what it looks at. Post: nothing of what never leaves a block.

use std::collections::BTreeMap;

use tilewright_ir::plan::{KernelPlan, LocalDef};
use tilewright_ir::tile::Role;
use tilewright_ir::written::Within;
use tilewright_ir::{Axis, Ex, Expr, Local, Value};

use super::footprint::{Scope, Touched};
use super::seen::{self, Seen};
use super::{Counter, footprint, kept};
use crate::schedule::blocks::Blocks;

/// The axes that are free in a local of the kernel.
pub(super) fn axes_of(kernel: &KernelPlan) -> impl Fn(&Expr) -> Vec<Axis> + '_ {
    |e| match e {
        Expr::Local(l) => kernel.locals[*l].axes.clone(),
        _ => Vec::new(),
    }
}

/// What a local of the kernel is, if it is an expression.
fn value_of(kernel: &KernelPlan) -> impl Fn(Local) -> Option<Ex> + '_ {
    |l| match &kernel.locals[l].def {
        LocalDef::Map(e) => Some(e.clone()),
        _ => None,
    }
}

impl Counter<'_> {
    /// Which positions of the axes that it streams a kernel looks at.
    pub(super) fn seen(&self, kernel: &KernelPlan, blocks: &Blocks) -> BTreeMap<Axis, Seen> {
        let size = |a: Axis| self.extent(self.plan.axes[a].extent);
        let axes_of = axes_of(kernel);
        let value_of = value_of(kernel);
        let scope = Scope {
            size: &size,
            seen: &|a| (0, size(a)),
            extent: &|e| self.extent(e),
            axes_of: &axes_of,
            value_of: &value_of,
        };
        let one = |a: Axis| size(a).min(blocks.grid.get(&a).map_or(1, |b| u64::from(b.0)));
        let within = Scope { seen: &|a| (0, one(a)), ..scope };
        let loops = blocks.bound.iter().filter(|(_, (_, role))| *role == Role::Loop);
        seen::seen(kernel, loops.map(|(&a, &(block, _))| (a, u64::from(block))), &scope, &within)
    }

    /// What a kernel reads and writes.
    pub(super) fn touched(&self, kernel: &KernelPlan, seen: &BTreeMap<Axis, Seen>) -> (Touched, Touched) {
        let mut reads = Touched::default();
        let mut writes = Touched::default();
        let mut note = |e: &Ex| self.note(e, kernel, seen, &mut reads);
        for local in kernel.locals.values() {
            local.def.exprs().for_each(&mut note);
        }
        for s in &kernel.stores {
            s.index.iter().for_each(&mut note);
            note(&s.expr);
        }
        for s in kernel.stores.iter().filter(|s| !self.kept.contains(&s.value)) {
            writes.add(self.plan.storage(s.value), self.access(s.value, &s.index, kernel, seen));
        }
        (reads, writes)
    }

    /// Notes what an expression reads.
    fn note(&self, e: &Ex, kernel: &KernelPlan, seen: &BTreeMap<Axis, Seen>, reads: &mut Touched) {
        match &**e {
            Expr::Read(v, index) => {
                if !self.kept.contains(v) {
                    reads.add(self.plan.storage(*v), self.access(*v, index, kernel, seen));
                }
                index.iter().for_each(|i| self.note(i, kernel, seen, reads));
            }
            Expr::Select(c, new, old) => {
                self.note(c, kernel, seen, reads);
                self.note(new, kernel, seen, reads);
                let positions = |a: Axis| {
                    let all = (0, self.extent(self.plan.axes[a].extent));
                    seen.get(&a).map_or(all, |s| (s.from, s.to))
                };
                let taken = matches!(&**old, Expr::Read(v, _) if self.plan.is_taken_over(*v));
                let within = Within { plan: self.plan, kernel };
                match taken.then(|| kept::left(c, within, &|e| self.extent(e), &positions)).flatten() {
                    Some((_, from, to)) if from >= to => {}
                    Some((a, from, to)) => {
                        let mut seen = seen.clone();
                        seen.insert(a, Seen { from, to, mean: (to - from) as f64 });
                        self.note(old, kernel, &seen, reads);
                    }
                    None => self.note(old, kernel, seen, reads),
                }
            }
            other => other.children().into_iter().for_each(|c| self.note(c, kernel, seen, reads)),
        }
    }

    pub(super) fn access(
        &self,
        v: Value,
        index: &[Ex],
        kernel: &KernelPlan,
        seen: &BTreeMap<Axis, Seen>,
    ) -> footprint::Region {
        let dims = self.plan.values[v].axes.iter().map(|&a| self.extent(self.plan.axes[a].extent));
        let size = |a: Axis| self.extent(self.plan.axes[a].extent);
        let axes_of = axes_of(kernel);
        let value_of = value_of(kernel);
        footprint::region(
            index,
            &dims.collect::<Vec<_>>(),
            &Scope {
                size: &size,
                seen: &|a| seen.get(&a).map_or_else(|| (0, size(a)), |s| (s.from, s.to)),
                extent: &|e| self.extent(e),
                axes_of: &axes_of,
                value_of: &value_of,
            },
        )
    }

    pub(super) fn bytes(&self, v: Value, touched: &Touched) -> u64 {
        let data = &self.plan.values[v];
        let all: u64 = data.axes.iter().map(|&a| self.extent(self.plan.axes[a].extent)).product();
        touched.elements(v).min(all) * data.dtype.bytes() as u64
    }
}
