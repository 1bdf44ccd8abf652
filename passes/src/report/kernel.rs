//! The work of a kernel, with what its blocks compute and ask for again.
//!
//! Why here: that is not in the plan but follows from blocks, loops and passes together.
//!
//! Pre: the kernel's blocks, and what it reads, writes and looks at. Post: all figures of the kernel but its launch and phase.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::plan::{KernelPlan, LocalDef};
use tilewright_ir::tile::Role;
use tilewright_ir::{Axis, Ex, Expr, Extent, Local, Reduction, Value};

use super::accesses::axes_of;
use super::footprint::Touched;
use super::seen::Seen;
use super::{Counter, KernelCount, Operand, again, nests, passes, value_name};
use crate::schedule::blocks::{Blocks, WIDE};
use crate::schedule::contract::{factors, packed};

/// The most rows for which weights are what a product reads, where it is not known that one block has them all: columns of one
/// instruction of tensor cores.
const FEW: f64 = 8.0;

/// Operations of a function of one argument.
const FUNCTION: f64 = 8.0;

impl Counter<'_> {
    pub(super) fn kernel(
        &self,
        kernel: &KernelPlan,
        reads: &Touched,
        writes: &Touched,
        blocks: &Blocks,
        seen: &BTreeMap<Axis, Seen>,
    ) -> KernelCount {
        let operand = |v: Value, t: &Touched| Operand {
            name: value_name(self.plan, v),
            storage: v,
            bytes: self.bytes(v, t),
        };
        let looked = |a: Axis| seen.get(&a).map_or_else(|| self.positions([a]), |s| s.mean);
        let pieces = |a: Axis, of: &BTreeMap<Axis, (u32, Role)>| -> f64 {
            (looked(a) / f64::from(of.get(&a).map_or(1, |b| b.0.max(1)))).ceil()
        };
        // Runs of an axis are positions along it.
        let is_run =
            |axes: &[Axis], a: Axis| kernel.runs.is_some_and(|r| r.number == a && axes.contains(&r.axis));
        // What a block goes through is a loop around all that it computes.
        let outer: Vec<Axis> = kernel
            .grid
            .iter()
            .copied()
            .filter(|a| blocks.grid.get(a).is_some_and(|b| b.1 == Role::Loop))
            .collect();
        let again = |axes: &[Axis]| -> f64 {
            let others =
                kernel.grid.iter().filter(|a| !axes.contains(a) && !is_run(axes, **a) && !outer.contains(a));
            others.map(|&a| pieces(a, &blocks.grid)).product()
        };
        let axes_of = axes_of(kernel);
        let (passes, chain) = passes::passes(self.plan, kernel);
        // What is needed in several passes over an axis is computed in each of them.
        let streamed = |a: Axis| blocks.bound.get(&a).is_some_and(|b| f64::from(b.0) < self.positions([a]));
        let rounds = |a: Axis| {
            let own = passes.iter().find(|(n, _)| *n == passes::root(self.plan, a));
            f64::from(own.map_or(1, |p| p.1.max(1)))
        };
        let repeated =
            |axes: &[Axis]| -> f64 { axes.iter().filter(|&&a| streamed(a)).map(|&a| rounds(a)).product() };
        let mut out = KernelCount {
            name: kernel.name.clone(),
            prologue: kernel.prologue,
            reads: reads.values().map(|v| operand(v, reads)).collect(),
            writes: writes.values().map(|v| operand(v, writes)).collect(),
            blocks: kernel
                .grid
                .iter()
                .filter(|a| !outer.contains(a))
                .map(|&a| pieces(a, &blocks.grid))
                .product(),
            ..KernelCount::default()
        };
        let loops = blocks.bound.keys().filter(|&&a| streamed(a)).map(|&a| (a, pieces(a, &blocks.bound)));
        let loops = loops.chain(outer.iter().map(|&a| (a, pieces(a, &blocks.grid))));
        let nests = nests::Nests::of(kernel, loops.collect(), &outer);
        let mut asked: BTreeMap<(Value, Vec<Axis>), f64> = BTreeMap::new();
        let mut contracts: BTreeMap<Value, f64> = BTreeMap::new();
        let within = again::bound(kernel);
        let mut expression = |e: &Ex, sum: bool, own: &[Axis], local: Option<Local>| {
            let axes: Vec<Axis> = e.free_axes_with(&axes_of).into_iter().collect();
            let nested = local.map_or(1.0, |l| nests.computed(l));
            let times = |axes: &[Axis]| {
                axes.iter().map(|&a| looked(a)).product::<f64>() * again(axes) * repeated(own) * nested
            };
            // Two operations for a step of a reduction, and more for a function, as often as its argument changes.
            let steps = 2.0 * times(&axes);
            let mut functions = 0.0;
            e.visit(&mut |e| {
                if let Expr::Unary(..) = e {
                    let own: Vec<Axis> = e.free_axes_with(&axes_of).into_iter().collect();
                    functions += FUNCTION * times(&own);
                }
            });
            out.operations += functions;
            if sum {
                out.multiply_adds += steps / 2.0;
                // What a reduction goes along is no axis of the grid to its body, although it may have that name.
                let inner = local.and_then(|l| within.get(&l)).cloned().unwrap_or_default();
                let cut = |a: Axis| kernel.runs.is_some_and(|r| r.axis == a);
                let outer = |axes: &[Axis]| -> Vec<Axis> {
                    axes.iter().copied().filter(|&a| !inner.contains(&a) || cut(a)).collect()
                };
                let looped = |axes: &[Axis]| -> Vec<Axis> {
                    axes.iter().copied().filter(|a| inner.contains(a) || !kernel.grid.contains(a)).collect()
                };
                let again = again(&outer(&axes)) * repeated(&looped(own)) * nested;
                for (v, indices) in packed(self.plan, kernel, e, own) {
                    // Where blocks of rows share a weight it is read again in any case, and of many rows it is not what
                    // takes time: what that costs decides.
                    let rows = own.iter().filter(|a| !inner.contains(a) && !indices.contains(a));
                    let split = |&&a: &&Axis| kernel.grid.contains(&a) && pieces(a, &blocks.grid) > 1.0;
                    let known = |&a: &Axis| matches!(self.plan.axes[a].extent, Extent::Const(_));
                    let most = if rows.clone().all(known) { WIDE as f64 } else { FEW };
                    if rows.clone().any(|a| split(&a)) || self.positions(rows.copied()) > most {
                        continue;
                    }
                    let most = contracts.entry(v).or_insert(again);
                    *most = most.max(again);
                }
            }
            let spans = |f: &Ex| f.free_axes_with(&axes_of).len() == axes.len();
            if sum && !factors(e).iter().any(spans) {
                out.contracted += steps;
            } else {
                out.operations += steps;
            }
            e.visit(&mut |e| {
                if let Expr::Read(v, index) = e
                    && !self.kept.contains(v)
                {
                    let own: BTreeSet<Axis> = index.iter().flat_map(|i| i.free_axes_with(&axes_of)).collect();
                    let own: Vec<Axis> = own.into_iter().collect();
                    let nested = local.map_or(1.0, |l| nests.evaluated(kernel, l, e));
                    // One block looks at less than all of them together.
                    let part: f64 = own
                        .iter()
                        .filter_map(|a| seen.get(a))
                        .map(|s| s.mean / (s.to - s.from) as f64)
                        .product();
                    let one = self.access(*v, index, kernel, seen).elements() as f64
                        * part
                        * again(&own)
                        * repeated(&own)
                        * nested;
                    let bytes = one * self.plan.values[*v].dtype.bytes() as f64;
                    let all = asked.entry((*v, own)).or_default();
                    *all = all.max(bytes);
                }
            });
        };
        for (l, data) in kernel.locals.iter() {
            let sum = matches!(
                data.def,
                LocalDef::Reduce { op: Reduction::Sum, .. } | LocalDef::Block { op: Reduction::Sum, .. }
            );
            data.def.exprs().for_each(|e| expression(e, sum, &data.axes, Some(l)));
        }
        for s in &kernel.stores {
            expression(&s.expr, false, &[], None);
        }
        out.asked = asked.values().sum();
        out.contracts = contracts.into_iter().collect();
        out.chain = f64::from(chain);
        out.passes = passes;
        out
    }
}
