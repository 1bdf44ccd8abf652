//! What a plan moves, counted from the plan itself.
//!
//! Why here: the choice between plans, `explain` and the reports of a compilation must speak of the same numbers. Nothing is
//! lowered for it: an operand of a kernel counts once, however many blocks read it, which is what counters of unique
//! bytes see on a device; passes are nested reductions over an axis; phases are the longest chain of kernels.
//!
//! * [`footprint`]: how many elements of a tensor the accesses of a kernel touch;
//! * [`passes`]: how often a kernel goes over an axis;
//! * [`seen`]: which positions of an axis a kernel looks at;
//! * `again`: which packed weights are read more than once;
//! * `kept`: which of them it looks at of a state that is updated beside it;
//! * `figures`: what is counted;
//! * `accesses`, `kernel`: the operands of a kernel, and its work;
//! * `between`: what passes between kernels, and what is above the floor;
//! * here: plans, and the floor.
//!
//! Pre: a verified plan; a value for each symbol. Post: exact for accesses whose positions are affine or whole axes; an
//! access by gathered positions counts each of its positions once, and masks make an axis smaller that is streamed, where
//! their bounds follow from positions and extents.

mod accesses;
mod again;
mod between;
mod figures;
pub mod footprint;
mod kept;
mod kernel;
mod nests;
pub mod passes;
pub mod seen;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::chain;
use tilewright_ir::graph::{Def, ParamKind};
use tilewright_ir::plan::Plan;
use tilewright_ir::{Axis, DType, Extent, Sym, SymData, Value};

use crate::algebra::costs::typical;
use crate::schedule::{blocks, rows};
pub use figures::{Again, Boundary, Excess, KernelCount, Operand, PlanCount};
use footprint::Touched;

/// Values for all symbols: the given ones, and typical ones for the rest.
pub fn bind(symbols: &PrimaryMap<Sym, SymData>, given: &[(String, u64)]) -> PrimaryMap<Sym, u64> {
    let value =
        |s: &SymData| given.iter().find(|(n, _)| *n == s.name).map_or_else(|| typical(s), |(_, v)| *v);
    symbols.values().map(value).collect()
}

/// The name of a value in plans.
pub fn value_name(plan: &Plan, value: Value) -> String {
    let name = &plan.values[value].name;
    if name.is_empty() { value.to_string() } else { name.clone() }
}

/// Counts a plan at the given values of symbols. `narrow` is the 16-bit type that operands of contractions may
/// be rounded to, which decides what blocks are chosen.
pub fn count(
    plan: &Plan,
    symbols: &PrimaryMap<Sym, SymData>,
    sizes: &PrimaryMap<Sym, u64>,
    narrow: Option<DType>,
) -> PlanCount {
    let counter = Counter { plan, sizes, kept: chain::kept(plan) };
    let mut touched: Vec<(Touched, Touched)> = Vec::new();
    let mut out = PlanCount::default();
    let chains = chain::chains(plan);
    for (n, kernel) in plan.kernels.iter().enumerate() {
        let of = chains.iter().find(|c| c.contains(&n)).cloned().unwrap_or(n..n + 1);
        // A chain for which there is no room is refused when it is lowered.
        let rows = rows::of(plan, of).ok().flatten();
        let blocks = blocks::choose_within(plan, kernel, symbols, narrow, rows.as_ref());
        let seen = counter.seen(kernel, &blocks);
        let (reads, writes) = counter.touched(kernel, &seen);
        out.kernels.push(counter.kernel(kernel, &reads, &writes, &blocks, &seen));
        touched.push((reads, writes));
    }
    let of_each_run =
        plan.launches().into_iter().filter(|l| plan.kernels[l.clone()].iter().all(|k| !k.prologue));
    for (launch, kernels) in (1..).zip(of_each_run) {
        let mut before = Touched::default();
        for n in kernels {
            out.kernels[n].launch = launch;
            let mut with = before.clone();
            with.merge(&touched[n].0);
            for o in &mut out.kernels[n].reads {
                o.bytes = counter.bytes(o.storage, &with) - counter.bytes(o.storage, &before);
            }
            before = with;
        }
    }
    counter.phases(&mut out);
    out.bytes = out.kernels.iter().filter(|k| !k.prologue).map(|k| k.read_bytes() + k.written_bytes()).sum();

    // The floor of each storage: what all kernels together read of a parameter, and write of what leaves the function.
    let mut floors: BTreeMap<Value, u64> = BTreeMap::new();
    let mut all_reads = Touched::default();
    let mut all_writes = Touched::default();
    for ((reads, writes), _) in touched.iter().zip(&plan.kernels).filter(|(_, k)| !k.prologue) {
        all_reads.merge(reads);
        all_writes.merge(writes);
    }
    let reads = out.kernels.iter().zip(touched.iter().map(|(reads, _)| reads)).filter(|(k, _)| !k.prologue);
    out.again = again::again(plan, reads, |v, touched| counter.bytes(v, touched), &all_reads);
    for v in all_reads.values().filter(|&v| {
        plan.is_constant(v) || matches!(plan.values[v].def, Def::Param(_)) && v.as_u32() < plan.first_temp
    }) {
        *floors.entry(v).or_default() += counter.bytes(v, &all_reads);
    }
    for v in all_writes.values() {
        let leaves = plan.results.iter().any(|&r| plan.storage(r) == v)
            || matches!(plan.values[v].def, Def::Param(ParamKind::State));
        if leaves {
            *floors.entry(v).or_default() += counter.bytes(v, &all_writes);
        }
    }
    out.floor = floors.values().sum();
    counter.excess(&mut out, &floors);
    counter.boundaries(&mut out);
    out
}

struct Counter<'a> {
    plan: &'a Plan,
    sizes: &'a PrimaryMap<Sym, u64>,
    /// What never leaves a block and so is in no memory that is counted.
    kept: BTreeSet<Value>,
}

impl Counter<'_> {
    fn extent(&self, e: Extent) -> u64 {
        match e {
            Extent::Const(n) => n,
            Extent::Sym(s) => self.sizes[s],
        }
    }

    fn positions(&self, axes: impl IntoIterator<Item = Axis>) -> f64 {
        axes.into_iter().map(|a| self.extent(self.plan.axes[a].extent) as f64).product()
    }
}
