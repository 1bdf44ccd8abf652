//! Kernels that compute in place what another stored.
//!
//! Why here: where runs are merged by those who read the result, a kernel of the whole plan is not in the cut one. What its
//! readers must be is made here from both, and compared without regard to the order and the names of locals.
//!
//! Why that is right: what a kernel stores at the position of each of its axes is an expression over them. A reader by
//! positions of other axes reads the expression over those, cast to the type of what was stored; nothing is captured where
//! reductions bind none of either.
//!
//! Pre: verified plans. Post: a kernel that means the same, or why there is none.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::expr::build as ex;
use tilewright_ir::plan::{KernelPlan, LocalData, LocalDef, Plan, locals_of, replace_locals};
use tilewright_ir::{Axis, Ex, Expr, Local, Value};

use crate::runs::{over, renamed};

/// A read of a value at positions.
type Access = (Value, Vec<Axis>);

/// The reader of a plan with what `gone` stores computed where it is read. All locals of it are there, needed or not.
pub(crate) fn in_place(plan: &Plan, reader: &KernelPlan, gone: &KernelPlan) -> Result<KernelPlan, String> {
    let reads = accesses(reader, gone)?;
    if reads.is_empty() {
        return Ok(reader.clone());
    }
    let mut out = reader.clone();
    out.locals.clear();
    let bound: BTreeSet<Axis> = gone.locals.values().flat_map(|l| l.def.bound().iter().copied()).collect();
    let mut values: BTreeMap<Access, Ex> = BTreeMap::new();
    for (value, index) in reads {
        let store = gone.stores.iter().find(|s| s.value == value).ok_or("a store is missing")?;
        let own = positions(&store.index).filter(|own| store.axes.iter().all(|a| own.contains(a)));
        let own = own.ok_or_else(|| format!("`{}` does not store by position", gone.name))?;
        if own.iter().chain(&index).any(|a| bound.contains(a)) {
            return Err(format!("`{}` binds an axis by which `{}` reads it", gone.name, reader.name));
        }
        let to: BTreeMap<Axis, Axis> = own.into_iter().zip(index.iter().copied()).collect();
        let mut names: BTreeMap<Local, Ex> = BTreeMap::new();
        for (l, data) in &gone.locals {
            let LocalData { axes, def } = data;
            let def = match def {
                LocalDef::Map(e) => LocalDef::Map(moved(e, &to)),
                LocalDef::Reduce { op, axes, body } => {
                    LocalDef::Reduce { op: *op, axes: axes.clone(), body: moved(body, &to) }
                }
                _ => return Err(format!("`{}` goes over an axis in blocks", gone.name)),
            };
            let def = renamed(&def, &names).ok_or("a name is missing")?;
            let axes = axes.iter().map(|a| to.get(a).copied().unwrap_or(*a)).collect();
            names.insert(l, ex::local(out.locals.push(LocalData { axes, def })));
        }
        let stored = replace_locals(&moved(&store.expr, &to), &names);
        let dtype = plan.values.get(value).ok_or("a value is missing")?.dtype;
        values.insert((value, index), ex::cast(dtype, stored));
    }
    let mut names: BTreeMap<Local, Ex> = BTreeMap::new();
    for (l, LocalData { axes, def }) in &reader.locals {
        names.insert(l, ex::local(out.locals.next_key()));
        let mut def = renamed(def, &names).ok_or("a name is missing")?;
        def.exprs_mut().for_each(|e| *e = filled(e, &values));
        out.locals.push(LocalData { axes: axes.clone(), def });
    }
    for s in &mut out.stores {
        for e in s.index.iter_mut().chain([&mut s.expr]) {
            *e = filled(&replace_locals(e, &names), &values);
        }
    }
    Ok(out)
}

/// Whether a kernel is the expected one, but for locals that it does not need, their order and their names.
pub(crate) fn is(found: &KernelPlan, expected: &KernelPlan) -> bool {
    let mut by: BTreeMap<Local, Ex> = BTreeMap::new();
    for (l, data) in &found.locals {
        let same =
            |m: &Local| !by.contains_key(m) && over(&expected.locals[*m], *m, l, &by).as_ref() == Some(data);
        let Some(m) = expected.locals.keys().find(same) else { return false };
        by.insert(m, ex::local(l));
    }
    let mut stores = expected.stores.clone();
    for e in stores.iter_mut().flat_map(|s| s.index.iter_mut().chain([&mut s.expr])) {
        if !locals_of(e).iter().all(|l| by.contains_key(l)) {
            return false;
        }
        *e = replace_locals(e, &by);
    }
    (&found.grid, found.runs, &found.stores) == (&expected.grid, expected.runs, &stores)
}

/// Where a kernel reads what the other stores.
fn accesses(reader: &KernelPlan, gone: &KernelPlan) -> Result<BTreeSet<Access>, String> {
    let mut out = BTreeSet::new();
    let mut other = false;
    for e in reader.exprs() {
        e.visit(&mut |e| {
            if let Expr::Read(v, index) = e
                && gone.stores.iter().any(|s| s.value == *v)
            {
                match positions(index) {
                    Some(index) => drop(out.insert((*v, index))),
                    None => other = true,
                }
            }
        });
    }
    if other {
        return Err(format!(
            "`{}` reads what `{}` would store by other than positions",
            reader.name, gone.name
        ));
    }
    Ok(out)
}

/// The axes of an index that is positions of different ones.
fn positions(index: &[Ex]) -> Option<Vec<Axis>> {
    let mut out = Vec::new();
    for e in index {
        match **e {
            Expr::Pos(a) if !out.contains(&a) => out.push(a),
            _ => return None,
        }
    }
    Some(out)
}

fn moved(e: &Ex, to: &BTreeMap<Axis, Axis>) -> Ex {
    match &**e {
        Expr::Pos(a) => ex::pos(to.get(a).copied().unwrap_or(*a)),
        other => Ex::new(other.map_children(|c| moved(c, to))),
    }
}

fn filled(e: &Ex, values: &BTreeMap<Access, Ex>) -> Ex {
    let known = match &**e {
        Expr::Read(v, index) => positions(index).and_then(|index| values.get(&(*v, index))),
        _ => None,
    };
    known.cloned().unwrap_or_else(|| Ex::new(e.map_children(|c| filled(c, values))))
}
