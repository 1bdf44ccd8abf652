//! Which packed weights a step reads more than once.
//!
//! What: a product of a weight that is computed in place is computed by every block of the kernel that does not share its
//! position on the grid, and by every kernel that needs it; each of them reads the weight.
//! Why here: weights are what a step of few sequences moves. They are packed to be streamed, and a plan that reads them again
//! is told from one that does not, however fast the cache is.
//! Pre: how often kernels compute the products of weights, and what they touch. Post: nothing about weights that blocks of
//! rows share: these are read again in any case.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::plan::{KernelPlan, Plan};
use tilewright_ir::{Axis, Local, Value};

use super::figures::{Again, KernelCount};
use super::footprint::Touched;
use super::value_name;

/// The axes that each local is computed along because it binds them, or a local that needs it does: a reduction may go along
/// an axis that is also one of the grid.
pub(super) fn bound(kernel: &KernelPlan) -> BTreeMap<Local, BTreeSet<Axis>> {
    let mut out: BTreeMap<Local, BTreeSet<Axis>> = BTreeMap::new();
    let locals: Vec<Local> = kernel.locals.keys().collect();
    for l in locals.into_iter().rev() {
        let def = &kernel.locals[l].def;
        let mut within = out.remove(&l).unwrap_or_default();
        within.extend(def.bound());
        for n in def.needs() {
            let own = kernel.locals[n].axes.iter().filter(|a| within.contains(a));
            out.entry(n).or_default().extend(own);
        }
        out.insert(l, within);
    }
    out
}

/// The packed weights that kernels read more than once, where each touches this much and all together that much: two that
/// contract different rows read nothing again.
pub(super) fn again<'a>(
    plan: &Plan,
    kernels: impl Iterator<Item = (&'a KernelCount, &'a Touched)>,
    bytes: impl Fn(Value, &Touched) -> u64,
    all: &Touched,
) -> Vec<Again> {
    let mut read: BTreeMap<Value, f64> = BTreeMap::new();
    for (kernel, touched) in kernels {
        for &(v, times) in &kernel.contracts {
            *read.entry(v).or_default() += bytes(v, touched) as f64 * times;
        }
    }
    let times = read.into_iter().map(|(v, read)| (v, read / bytes(v, all) as f64));
    let more = times.filter(|(_, times)| *times > 1.0);
    more.map(|(weight, times)| Again { name: value_name(plan, weight), weight, times }).collect()
}
