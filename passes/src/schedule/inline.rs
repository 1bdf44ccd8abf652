//! Runs that are merged where what they amount to is read.
//!
//! What: the kernel that merges the runs of a pass is left out, and each kernel that reads its result merges them itself.
//! Why here: which passes are cut into runs is known now. To merge is little work, done for little data, but a launch of its
//! own, after which the result is read once more. Readers of few blocks do it again in each of them in less time than that;
//! readers of many ask the cache for too much. Which it is the model of costs decides. Blocks of readers stay what they are,
//! since smaller ones would read again what else they read, weights above all; nor are their sums padded, which happens where
//! axes were one that what is merged does not have side by side.
//!
//! Pre: a verified plan in which passes are cut. Post: a verified plan that means the same; kernels share launches anew. What is
//! no longer stored was read by kernels of this plan alone.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::expr::build as ex;
use tilewright_ir::graph::Def;
use tilewright_ir::plan::{KernelPlan, LocalData, LocalDef, Plan, Store, locals_of, replace_locals};
use tilewright_ir::{Axis, DType, Ex, Expr, Local, Sym, SymData, Value};

use super::blocks::{self, Blocks};
use super::merge;
use super::runs::rename;
use crate::partition::cost::{CLEARLY, seconds};
use crate::partition::{CostModel, join};
use crate::report;

/// Merges runs where that is clearly faster than a kernel that does. `narrow` is the 16-bit type that operands of
/// contractions may be rounded to.
pub fn inline(plan: &mut Plan, symbols: &PrimaryMap<Sym, SymData>, cost: CostModel, narrow: Option<DType>) {
    let sizes = report::bind(symbols, &[]);
    let count = |plan: &Plan| report::count(plan, symbols, &sizes, narrow);
    // Launches of the kernels that differ.
    let time = |count: &report::PlanCount, of: &BTreeSet<String>| -> f64 {
        let ours = |kernels: &&[report::KernelCount]| kernels.iter().any(|k| of.contains(&k.name));
        count.launches().filter(ours).map(|kernels| seconds(kernels, &cost)).sum()
    };
    let same = |plan: &Plan, other: &Plan, of: &BTreeSet<String>| {
        let blocks = |plan: &Plan, k: &KernelPlan| {
            let merged = merge(plan, k);
            let (view, kernel) = merged.as_ref().map_or((plan, k), |(p, k)| (p, k));
            let blocks = blocks::choose(view, kernel, symbols, narrow);
            let padded = padding(view, &blocks);
            ((blocks.grid, blocks.warps, blocks.columns), padded)
        };
        other.kernels.iter().filter(|k| of.contains(&k.name)).all(|k| {
            let was = plan.kernels.iter().find(|o| o.name == k.name).map(|o| blocks(plan, o));
            let (now, padded) = blocks(other, k);
            was.is_some_and(|(was, before)| now == was && padded <= before)
        })
    };
    let mut now = None;
    loop {
        let (mut at, mut changed) = (0, false);
        while at < plan.kernels.len() {
            if let Some((other, of)) = without(plan, at)
                && same(plan, &other, &of)
            {
                let counted = count(&other);
                let before = now.get_or_insert_with(|| count(plan));
                if time(&counted, &of) < CLEARLY * time(before, &of) {
                    (*plan, now, changed) = (other, Some(counted), true);
                    continue;
                }
            }
            at += 1;
        }
        if !changed {
            return;
        }
    }
}

/// How many positions there are, with those that fill blocks up, for each one that is reduced over.
fn padding(plan: &Plan, blocks: &Blocks) -> f64 {
    let of = |(&a, &(block, _)): (&Axis, &(u32, _))| {
        let n = plan.axes[a].extent.as_const().filter(|&n| n > 0)?;
        Some(n.next_multiple_of(block.into()) as f64 / n as f64)
    };
    blocks.bound.iter().filter_map(of).product()
}

/// The plan without a kernel that merges runs, and the names of the kernels that differ, if all that it stores is only read
/// by kernels that can merge.
fn without(plan: &Plan, at: usize) -> Option<(Plan, BTreeSet<String>)> {
    let merging = &plan.kernels[at];
    let values = |k: &KernelPlan| k.stores.iter().map(|s| s.value).collect::<BTreeSet<Value>>();
    let parts: BTreeSet<Value> = plan.kernels.iter().filter(|k| k.runs.is_some()).flat_map(values).collect();
    let stored = values(merging);
    let reads = |k: &KernelPlan| plan.touches(k).0;
    let leaves = |v: &Value| {
        plan.results.contains(v)
            || matches!(plan.values[*v].def, Def::Update { .. })
            || plan.is_taken_over(*v)
    };
    let chained = plan.kernels.iter().any(|k| k.continues);
    if chained || merging.runs.is_some() || reads(merging).is_disjoint(&parts) || stored.iter().any(leaves) {
        return None;
    }
    let mut of = BTreeSet::from([merging.name.clone()]);
    let mut other = plan.clone();
    other.kernels.clear();
    for (n, k) in plan.kernels.iter().enumerate().filter(|(n, _)| *n != at) {
        if reads(k).is_disjoint(&stored) {
            other.kernels.push(k.clone());
            continue;
        }
        if n < at || k.prologue != merging.prologue {
            return None;
        }
        of.insert(k.name.clone());
        other.kernels.push(within(plan, k, merging)?);
    }
    join(&mut other);
    (of.len() > 1).then_some((other, of))
}

/// The reader with what the other kernel stores computed in place.
fn within(plan: &Plan, reader: &KernelPlan, merging: &KernelPlan) -> Option<KernelPlan> {
    let mut out = KernelPlan { locals: PrimaryMap::new(), stores: Vec::new(), ..reader.clone() };
    let mut known: BTreeMap<(Value, Vec<Axis>), Ex> = BTreeMap::new();
    for e in reader.exprs() {
        let mut found = Vec::new();
        e.visit(&mut |e| {
            if let Expr::Read(v, index) = e
                && let Some(store) = merging.stores.iter().find(|s| s.value == *v)
            {
                found.push((store, positions(index)));
            }
        });
        for (store, index) in found {
            let index = index?;
            if !known.contains_key(&(store.value, index.clone())) {
                // What is read back was rounded.
                let value = copied(&mut out, merging, store, &index)?;
                let dtype = plan.values[store.value].dtype;
                known.insert((store.value, index), ex::cast(dtype, value));
            }
        }
    }
    let mut names: BTreeMap<Local, Ex> = BTreeMap::new();
    for (l, data) in &reader.locals {
        names.insert(l, ex::local(out.locals.next_key()));
        let def = map(&rename(&data.def, &names), &|e| replaced(e, &known));
        out.locals.push(LocalData { axes: data.axes.clone(), def });
    }
    for s in &reader.stores {
        let new = |e: &Ex| replaced(&replace_locals(e, &names), &known);
        let index = s.index.iter().map(new).collect();
        out.stores.push(Store { value: s.value, axes: s.axes.clone(), index, expr: new(&s.expr) });
    }
    Some(out)
}

/// The axes of an access by positions of different axes.
fn positions(index: &[Ex]) -> Option<Vec<Axis>> {
    let axes: Option<Vec<Axis>> =
        index.iter().map(|e| if let Expr::Pos(a) = **e { Some(a) } else { None }).collect();
    axes.filter(|axes| axes.iter().collect::<BTreeSet<_>>().len() == axes.len())
}

/// Adds the locals that a store needs, over other axes. What is stored, as an expression of them.
fn copied(into: &mut KernelPlan, from: &KernelPlan, store: &Store, index: &[Axis]) -> Option<Ex> {
    let own = positions(&store.index)?;
    let axes: BTreeMap<Axis, Axis> = own.into_iter().zip(index.iter().copied()).collect();
    let mut needed = BTreeSet::new();
    let mut todo: Vec<Local> = locals_of(&store.expr).into_iter().collect();
    while let Some(l) = todo.pop() {
        if needed.insert(l) {
            todo.extend(from.locals[l].def.needs());
        }
    }
    let mut names = BTreeMap::new();
    for l in needed {
        let LocalData { axes: free, def } = &from.locals[l];
        // A pass of its own would be made again in each block, and a name that is bound must stand for one axis.
        let whole = matches!(def, LocalDef::Map(_) | LocalDef::Reduce { .. });
        if !whole || def.bound().iter().any(|a| index.contains(a) || axes.contains_key(a)) {
            return None;
        }
        let free = free.iter().map(|a| axes.get(a).copied()).collect::<Option<Vec<Axis>>>()?;
        let def = rename(&map(def, &|e| moved(e, &axes)), &names);
        names.insert(l, ex::local(into.locals.push(LocalData { axes: free, def })));
    }
    Some(replace_locals(&moved(&store.expr, &axes), &names))
}

/// A definition with its expressions replaced.
fn map(def: &LocalDef, f: &dyn Fn(&Ex) -> Ex) -> LocalDef {
    let mut def = def.clone();
    def.exprs_mut().for_each(|e| *e = f(e));
    def
}

/// An expression over other axes.
fn moved(e: &Ex, axes: &BTreeMap<Axis, Axis>) -> Ex {
    match &**e {
        Expr::Pos(a) => ex::pos(axes.get(a).copied().unwrap_or(*a)),
        other => Ex::new(other.map_children(|c| moved(c, axes))),
    }
}

/// An expression with what is read replaced by what it is.
fn replaced(e: &Ex, known: &BTreeMap<(Value, Vec<Axis>), Ex>) -> Ex {
    match &**e {
        Expr::Read(v, index) => {
            let value = positions(index).and_then(|index| known.get(&(*v, index)));
            value.cloned().unwrap_or_else(|| Ex::new(e.map_children(|c| replaced(c, known))))
        }
        other => Ex::new(other.map_children(|c| replaced(c, known))),
    }
}
