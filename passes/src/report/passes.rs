//! How often a kernel goes over an axis.
//!
//! A reduction over an axis is one pass; one whose body holds another over the same axis must wait for it, and so must an
//! output over the axis that depends on such a reduction. The parts of a fold share one pass. Axes that were renamed to
//! keep binders apart are the axis that they came from.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan, locals_of};
use tilewright_ir::{Axis, Local};

/// Passes by the name of the axis.
type Depth = BTreeMap<String, u32>;

/// The name that an axis had before binders were renamed.
pub(crate) fn root(plan: &Plan, a: Axis) -> String {
    plan.axes[a].name.trim_end_matches('_').to_owned()
}

fn join(into: &mut Depth, other: &Depth) {
    for (a, &d) in other {
        let e = into.entry(a.clone()).or_default();
        *e = (*e).max(d);
    }
}

/// Passes over each axis that the kernel reduces over, in order of names, and the longest chain of passes over any axes
/// that wait for one another.
pub fn passes(plan: &Plan, kernel: &KernelPlan) -> (Vec<(String, u32)>, u32) {
    let mut chain: SecondaryMap<Local, u32> = SecondaryMap::new();
    let mut depth: SecondaryMap<Local, Depth> = SecondaryMap::new();
    // Axes of which a local is the value of one block.
    let mut within: SecondaryMap<Local, BTreeSet<Axis>> = SecondaryMap::new();
    let mut all = Depth::new();
    for (l, data) in &kernel.locals {
        let mut d = Depth::new();
        let mut inside = BTreeSet::new();
        // What the action of a fold mentions runs in step with it.
        let inputs = data.def.needs();
        for &input in &inputs {
            join(&mut d, &depth[input]);
            inside.extend(within[input].iter().copied());
        }
        match &data.def {
            LocalDef::Map(_) => {}
            LocalDef::Reduce { axes, .. } => {
                for &a in axes {
                    *d.entry(root(plan, a)).or_default() += 1;
                }
            }
            LocalDef::Block { axis, .. } => {
                let name = root(plan, *axis);
                let same = inputs.iter().filter(|&&i| within[i].contains(axis));
                let before = inputs.iter().filter(|&&i| !within[i].contains(axis));
                let at = |i: &Local| depth[*i].get(&name).copied().unwrap_or(0);
                let own = same.map(at).max().unwrap_or(0).max(before.map(at).max().unwrap_or(0) + 1);
                d.insert(name, own);
                inside.insert(*axis);
            }
            LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => {
                if !inside.remove(axis) {
                    *d.entry(root(plan, *axis)).or_default() += 1;
                }
            }
        }
        let before = inputs.iter().map(|&i| chain[i]).max().unwrap_or(0);
        chain[l] = match &data.def {
            LocalDef::Reduce { .. } => before + 1,
            // A block of what is in the same pass adds none.
            LocalDef::Block { axis, .. } if !inputs.iter().any(|&i| within[i].contains(axis)) => before + 1,
            _ => before,
        };
        join(&mut all, &d);
        depth[l] = d;
        within[l] = inside;
    }
    for s in &kernel.stores {
        let mut d = Depth::new();
        for l in locals_of(&s.expr) {
            join(&mut d, &depth[l]);
        }
        let own = |a: Axis| root(plan, a);
        for &a in &s.axes {
            if let Some(before) = d.get(&own(a)) {
                let after = before + 1;
                let e = all.entry(own(a)).or_default();
                *e = (*e).max(after);
            }
        }
    }
    (all.into_iter().collect(), kernel.locals.keys().map(|l| chain[l]).max().unwrap_or(0))
}
