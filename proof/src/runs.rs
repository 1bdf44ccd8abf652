//! That a pass which was cut into runs, and the kernel that merges them, are the whole pass.
//!
//! Why here: certificates are about plans whose passes are whole; which passes are cut is decided after them. The cut is
//! small enough to be compared: the first kernel holds what the whole one does, over the positions of a run, and stores what
//! its pass leaves behind; the second has in place of each of these a reduction over the runs, and else what the whole has. The
//! second may be missing if each kernel that reads what it would store has that in place of the read (see `in_place`).
//!
//! Why that is right: a sum or an extreme over all positions is that over runs of those within a run, for any cut of the
//! positions (empty runs leave the identity behind). What a fold leaves behind for a run is relative to what the run's own
//! tracked values are, as a block's is; the law by which its action was accepted says that moving in two steps is moving in
//! one, so runs are merged by the action. And nothing else of the first kernel may reduce over the axis.
//!
//! Pre: the whole plan is certified, and the cut one verified: what a kernel reads was stored before. Post: the number of cut passes, or what is not as it must be.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::expr::build as ex;
use tilewright_ir::plan::{
    KernelPlan, LocalData, LocalDef, Plan, Runs, Store, locals_of, nothing_yet, parts_of_action,
    replace_locals,
};
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Local, Reduction, Value};

use crate::in_place::{in_place, is};

/// Compares a plan with the one whose passes are whole; how many passes are cut.
pub fn check(whole: &Plan, cut: &Plan) -> Result<usize, String> {
    if !whole.axes.iter().all(|(a, d)| cut.axes.get(a) == Some(d)) {
        return Err("axes of the whole plan are not those of the cut one".into());
    }
    if !whole.values.iter().all(|(v, d)| cut.values.get(v) == Some(d)) {
        return Err("values of the whole plan are not those of the cut one".into());
    }
    if whole.results != cut.results {
        return Err("the results differ".into());
    }
    let values = |k: &KernelPlan| -> Vec<Value> { k.stores.iter().map(|s| s.value).collect() };
    let mut used = BTreeSet::new();
    let mut found = 0;
    // What merges runs and is left to those who read the result.
    let mut gone: Vec<KernelPlan> = Vec::new();
    for k in &whole.kernels {
        let k = &gone.iter().try_fold(k.clone(), |k, gone| in_place(whole, &k, gone))?;
        let Some(at) = cut.kernels.iter().position(|c| values(c) == values(k)) else {
            let of = |f: &KernelPlan| f.runs.and_then(|_| Cut::new(whole, cut, k, f).ok());
            let first = (0..cut.kernels.len()).filter(|n| !used.contains(n));
            let (n, pass) = first
                .filter_map(|n| Some((n, of(&cut.kernels[n])?)))
                .next()
                .ok_or_else(|| format!("`{}` is missing", k.name))?;
            used.insert(n);
            gone.push(pass.merging().ok_or_else(|| format!("what merges `{}` is missing", k.name))?);
            found += 1;
            continue;
        };
        used.insert(at).then_some(()).ok_or_else(|| format!("`{}` is missing", k.name))?;
        let second = &cut.kernels[at];
        if is(second, k) {
            continue;
        }
        let reads = cut.touches(second).0;
        let first = cut.kernels[..at]
            .iter()
            .position(|f| f.runs.is_some() && values(f).iter().any(|v| reads.contains(v)))
            .filter(|&first| used.insert(first))
            .ok_or_else(|| format!("`{}` is another kernel", k.name))?;
        let first = &cut.kernels[first];
        Cut::new(whole, cut, k, first)?.merged(second).map_err(|e| format!("`{}`: {e}", k.name))?;
        found += 1;
    }
    match (0..cut.kernels.len()).find(|n| !used.contains(n)) {
        Some(n) => Err(format!("`{}` is one kernel too many", cut.kernels[n].name)),
        None => Ok(found),
    }
}

/// A pass in runs.
struct Cut<'a> {
    k: &'a KernelPlan,
    runs: Runs,
    /// What each local of the whole kernel that the pass leaves behind is stored as.
    parts: BTreeMap<Local, Ex>,
}

/// Whether a local is complete only after a pass over the axis.
fn ends(def: &LocalDef, axis: Axis) -> bool {
    match def {
        LocalDef::Reduce { axes, .. } => axes.contains(&axis),
        LocalDef::Running { axis: a, .. } | LocalDef::Fold { axis: a, .. } => *a == axis,
        LocalDef::Map(_) | LocalDef::Block { .. } => false,
    }
}

/// A definition with its locals replaced; what must stay a local is one.
pub(crate) fn renamed(def: &LocalDef, by: &BTreeMap<Local, Ex>) -> Option<LocalDef> {
    let e = |e: &Ex| replace_locals(e, by);
    Some(match def {
        LocalDef::Map(x) => LocalDef::Map(e(x)),
        LocalDef::Reduce { op, axes, body } => {
            LocalDef::Reduce { op: *op, axes: axes.clone(), body: e(body) }
        }
        LocalDef::Block { op, axis, body } => LocalDef::Block { op: *op, axis: *axis, body: e(body) },
        LocalDef::Running { op, axis, block } => LocalDef::Running { op: *op, axis: *axis, block: e(block) },
        LocalDef::Fold { op, axis, block, action, tracks } => {
            let local = |l: &Local| match by.get(l).map(|e| &**e) {
                Some(Expr::Local(n)) => Some(*n),
                _ => None,
            };
            let tracks = tracks.iter().map(|(t, y)| Some((local(t)?, local(y)?))).collect::<Option<_>>()?;
            LocalDef::Fold { op: *op, axis: *axis, block: e(block), action: e(action), tracks }
        }
    })
}

/// The definition of a local over the names `by`, standing at `own`.
pub(crate) fn over(data: &LocalData, l: Local, own: Local, by: &BTreeMap<Local, Ex>) -> Option<LocalData> {
    let mut by = by.clone();
    // The action of a fold mentions the fold.
    by.insert(l, ex::local(own));
    data.def.exprs().flat_map(locals_of).all(|n| by.contains_key(&n)).then_some(())?;
    Some(LocalData { axes: data.axes.clone(), def: renamed(&data.def, &by)? })
}

impl<'a> Cut<'a> {
    /// That the kernel computes over a run what the whole one does, and stores all that the pass leaves behind.
    fn new(whole: &Plan, cut: &Plan, k: &'a KernelPlan, first: &KernelPlan) -> Result<Cut<'a>, String> {
        let at = &first.name;
        let runs = first.runs.ok_or("it has no runs")?;
        let number = cut.axes.get(runs.number).filter(|_| !whole.axes.is_valid(runs.number));
        if !number.is_some_and(|d| matches!(d.extent, Extent::Const(1..))) {
            return Err(format!("`{at}` numbers its runs along an axis that is not its own"));
        }
        if !whole.axes.is_valid(runs.axis) || k.grid.contains(&runs.axis) {
            return Err(format!("`{at}` has runs of an axis that the whole kernel does not stream"));
        }
        let grid: BTreeSet<Axis> = first.grid.iter().copied().collect();
        let wanted: BTreeSet<Axis> = first.stores.iter().flat_map(|s| s.axes.iter().copied()).collect();
        if grid != wanted {
            return Err(format!("the grid of `{at}` is not what it stores"));
        }
        // Locals of the runs are locals of the whole, one for one.
        let mut by: BTreeMap<Local, Ex> = BTreeMap::new();
        let mut of: BTreeMap<Local, Local> = BTreeMap::new();
        for (l, data) in &first.locals {
            let same =
                |m: &Local| !by.contains_key(m) && over(&k.locals[*m], *m, l, &by).as_ref() == Some(data);
            let m = k.locals.keys().find(same);
            let m = m.ok_or_else(|| format!("{l} of `{at}` is not a local of the whole kernel"))?;
            by.insert(m, ex::local(l));
            of.insert(l, m);
        }
        let mut parts = BTreeMap::new();
        for Store { value, axes, index, expr } in &first.stores {
            let Expr::Local(l) = **expr else { return Err(format!("`{at}` stores what is no local")) };
            let m = *of.get(&l).ok_or_else(|| format!("`{at}` stores {l}, which is not there"))?;
            let places: Vec<Ex> = axes.iter().map(|&a| ex::pos(a)).collect();
            let own = [runs.number].into_iter().chain(k.locals[m].axes.iter().copied());
            if !axes.iter().copied().eq(own) || *index != places {
                return Err(format!("`{at}` stores {l} somewhere else"));
            }
            let data = cut.values.get(*value).filter(|_| !whole.values.is_valid(*value));
            if !data.is_some_and(|d| d.axes == *axes && exact(d.dtype)) {
                return Err(format!("`{at}` stores {l} in what is not its own"));
            }
            let written = |k: &KernelPlan| k.stores.iter().filter(|s| s.value == *value).count();
            if cut.kernels.iter().map(written).sum::<usize>() != 1 {
                return Err(format!("what `{at}` stores of {l} is written twice"));
            }
            if !ends(&k.locals[m].def, runs.axis) || !is_one_pass(k, m, runs.axis) {
                return Err(format!("{l} of `{at}` is not what one pass leaves behind"));
            }
            if parts.insert(m, ex::read(*value, places)).is_some() {
                return Err(format!("`{at}` stores {l} twice"));
            }
        }
        Ok(Cut { k, runs, parts })
    }

    /// That the kernel merges the runs, and is the whole one otherwise.
    fn merged(&self, second: &KernelPlan) -> Result<(), String> {
        if second.runs.is_some() || second.grid != self.k.grid {
            return Err("what merges its runs has another grid".into());
        }
        let mut by: BTreeMap<Local, Ex> = BTreeMap::new();
        for (l, data) in &second.locals {
            let fits = |m: &Local| {
                if by.contains_key(m) {
                    return false;
                }
                match self.parts.contains_key(m) {
                    true => self.merge(*m, &by).as_ref() == Some(data),
                    false => {
                        !reaches(self.k, *m, self.runs.axis)
                            && (over(&self.k.locals[*m], *m, l, &by).as_ref() == Some(data)
                                || self.named(*m, &by).as_ref() == Some(data))
                    }
                }
            };
            let m = self.k.locals.keys().find(fits);
            let m = m.ok_or_else(|| format!("{l} of what merges its runs is not in the whole kernel"))?;
            by.insert(m, ex::local(l));
        }
        if self.stores(&by).as_ref() != Some(&second.stores) {
            return Err("what merges its runs stores something else".into());
        }
        Ok(())
    }

    /// The kernel that merges the runs, with all locals of the whole one that it can have.
    fn merging(&self) -> Option<KernelPlan> {
        let mut out = KernelPlan { stores: Vec::new(), ..self.k.clone() };
        out.locals.clear();
        let mut by: BTreeMap<Local, Ex> = BTreeMap::new();
        for (m, data) in &self.k.locals {
            let l = out.locals.next_key();
            let own = match self.parts.contains_key(&m) {
                true => self.merge(m, &by),
                false if reaches(self.k, m, self.runs.axis) => None,
                false => over(data, m, l, &by),
            };
            if let Some(data) = own {
                out.locals.push(data);
                by.insert(m, ex::local(l));
            }
        }
        out.stores = self.stores(&by)?;
        Some(out)
    }

    /// What the whole kernel stores, over other names; nothing if one is missing.
    fn stores(&self, by: &BTreeMap<Local, Ex>) -> Option<Vec<Store>> {
        let over = |s: &Store| {
            let known = s.index.iter().chain([&s.expr]).flat_map(locals_of).all(|l| by.contains_key(&l));
            known.then(|| Store {
                value: s.value,
                axes: s.axes.clone(),
                index: s.index.iter().map(|i| replace_locals(i, by)).collect(),
                expr: replace_locals(&s.expr, by),
            })
        };
        self.k.stores.iter().map(over).collect()
    }

    /// What stands for tracked values where a run is merged: its own, and those of all runs.
    fn moves(&self, tracks: &[(Local, Local)], by: &BTreeMap<Local, Ex>) -> Option<BTreeMap<Local, Ex>> {
        let pairs =
            tracks.iter().map(|(t, y)| Some([(*t, self.parts.get(y)?.clone()), (*y, by.get(y)?.clone())]));
        Some(pairs.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// What a named part of an action must be where runs are merged.
    fn named(&self, m: Local, by: &BTreeMap<Local, Ex>) -> Option<LocalData> {
        let data = &self.k.locals[m];
        let LocalDef::Map(e) = &data.def else { return None };
        self.parts.keys().find_map(|&fold| {
            let LocalDef::Fold { tracks, .. } = &self.k.locals[fold].def else { return None };
            let parts = parts_of_action(&self.k.locals, fold);
            parts.contains(&m).then_some(())?;
            let mut with = self.moves(tracks, by)?;
            with.extend(parts.iter().filter_map(|p| Some((*p, by.get(p)?.clone()))));
            locals_of(e).iter().all(|n| with.contains_key(n)).then_some(())?;
            let axes = data.axes.iter().copied().chain([self.runs.number]).collect();
            Some(LocalData { axes, def: LocalDef::Map(replace_locals(e, &with)) })
        })
    }

    /// What a local must be as a merge of runs.
    fn merge(&self, m: Local, by: &BTreeMap<Local, Ex>) -> Option<LocalData> {
        let data = &self.k.locals[m];
        let part = self.parts.get(&m)?.clone();
        let (op, body) = match &data.def {
            LocalDef::Reduce { op, .. } | LocalDef::Running { op, .. } => (*op, part),
            LocalDef::Fold { op, action, tracks, .. } => {
                let mut with = self.moves(tracks, by)?;
                with.insert(m, part);
                for p in parts_of_action(&self.k.locals, m) {
                    with.insert(p, by.get(&p)?.clone());
                }
                let mut nothing = Vec::new();
                for (_, y) in tracks {
                    let own = self.parts.get(y)?;
                    let op = self.k.locals[*y].def.runs()?;
                    let identity = ex::num(op.identity());
                    nothing.push((op, ex::binary(Binary::Eq, own.clone(), identity)));
                }
                locals_of(action).iter().all(|n| with.contains_key(n)).then_some(())?;
                let moved = replace_locals(action, &with);
                // A sum of no positions is 0 wherever it moves.
                let body = match nothing_yet(&nothing) {
                    Some(none) if *op == Reduction::Sum => ex::select(none, ex::num(0.0), moved),
                    _ => moved,
                };
                (*op, body)
            }
            LocalDef::Map(_) | LocalDef::Block { .. } => return None,
        };
        let axes = vec![self.runs.number];
        Some(LocalData { axes: data.axes.clone(), def: LocalDef::Reduce { op, axes, body } })
    }
}

/// Whether what was accumulated in registers is stored as it is.
fn exact(d: DType) -> bool {
    matches!(d, DType::F32 | DType::F64 | DType::I64)
}

/// The locals that one is made from.
fn made_from(k: &KernelPlan, l: Local) -> BTreeSet<Local> {
    let mut out = BTreeSet::new();
    let mut todo: Vec<Local> = k.locals[l].def.needs().into_iter().collect();
    while let Some(l) = todo.pop() {
        if out.insert(l) {
            todo.extend(k.locals[l].def.needs());
        }
    }
    out
}

/// Whether nothing that the local is made from waits for a pass over the axis.
fn is_one_pass(k: &KernelPlan, l: Local, axis: Axis) -> bool {
    made_from(k, l).iter().all(|&m| !ends(&k.locals[m].def, axis))
}

/// Whether the local holds something of the streamed axis that is not merged: a pass over it, a block, a position.
fn reaches(k: &KernelPlan, l: Local, axis: Axis) -> bool {
    let data = &k.locals[l];
    let of_block = |l: Local| matches!(k.locals[l].def, LocalDef::Block { axis: a, .. } if a == axis);
    data.axes.contains(&axis) || ends(&data.def, axis) || of_block(l)
}
