//! Invariants of plans.
//!
//! * `P1` axes and the values of the function satisfy `G1`-`G7`; the values of the partition come after them; results
//!   exist.
//! * `P2` kernels have unique names that are identifiers.
//! * `P3` the grid of a kernel is the union of the axes of its stores, without repetition.
//! * `P4` a local uses earlier locals only; its axes are different, hold all axes that are free in it, and none that it
//!   binds or streams.
//! * `P5` a value of each block is used where there is a block: not in stores, nor in reductions over the whole axis; what
//!   runs or folds over an axis does not vary along it otherwise.
//! * `P6` a fold tracks pairs of a value of each block and what runs along of it over the same axis; its action mentions them
//!   only, and parts of it that have names and mention no more.
//! * `P7` a store writes a definition of the function or a value of the partition, with one integer index per axis;
//!   what is free in it is among its axes.
//! * `P8` what a kernel reads is a parameter or stored by earlier kernels, is not written by itself, and was not
//!   overwritten; results and updates are stored.
//! * `P9` expressions satisfy the invariants of expressions.
//! * `P10` the axis that is cut into runs is not in the grid; the axis that numbers them is of constant extent, is an axis
//!   of every store, and no local mentions it.
//! * `P11` the first kernel is beside none; kernels of one launch do not touch what another of them writes. Earlier ones may
//!   read of a state what its update in a later one leaves as it was.
//! * `P12` what runs once, when weights are loaded, reads weights and what such kernels store, depends on no symbol, and
//!   shares a launch with nothing.
//! * `P13` the first kernel continues none; what continues a kernel is neither beside it nor of the prologue. What the
//!   kernels of a chain pass on, the block keeps: nobody else reads it, and it leaves the function nowhere.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;

use crate::chain::{chains, kept};
use crate::eval::Sort;
use crate::graph::Def;
use crate::plan::{KernelPlan, LocalDef, Plan, Store, locals_of, parts_of_action};
use crate::verify::expr::{self, Info, Leaf, Scope, no_leaf};
use crate::verify::graph::{body, reads, value_at};
use crate::verify::{Report, Violation, distinct};
use crate::written::keeps_off;
use crate::{Axis, Ex, Expr, Extent, Local, Sym, SymData, Value};

/// Verifies a plan of a module with the given symbols.
pub fn verify_plan(plan: &Plan, symbols: &PrimaryMap<Sym, SymData>) -> Result<(), Vec<Violation>> {
    let mut r = Report::default();
    let at = format!("plan @{}", plan.name);
    let own = plan.first_temp as usize;
    r.check(own <= plan.values.len(), "P1", &at, || {
        format!("temporaries begin at {own} of {} values", plan.values.len())
    });
    body(&mut r, &at, &plan.axes, &plan.values, own, symbols);
    for (v, data) in plan.values.iter().skip(own) {
        let at = value_at(&at, v, data);
        let exist = data.axes.iter().all(|&a| plan.axes.is_valid(a));
        r.check(exist && distinct(&data.axes), "P1", &at, || "its axes do not exist or repeat".to_owned());
    }
    let mut names = BTreeSet::new();
    for k in &plan.kernels {
        r.check(identifier(&k.name), "P2", &at, || format!("the kernel name `{}` is no identifier", k.name));
        r.check(names.insert(&k.name), "P2", &at, || format!("two kernels are called `{}`", k.name));
    }
    // Which values hold something, and which states were overwritten by which update.
    let mut ready: BTreeSet<Value> = plan
        .values
        .iter()
        .take(own)
        .filter(|(_, d)| matches!(d.def, Def::Param(_)))
        .map(|(v, _)| v)
        .collect();
    let mut overwritten: BTreeMap<Value, Value> = BTreeMap::new();
    for k in &plan.kernels {
        KernelCheck {
            plan,
            k,
            symbols,
            at: format!("kernel @{}", k.name),
            blocked: BTreeMap::new(),
            sorts: BTreeMap::new(),
        }
        .run(&mut r, &mut ready, &mut overwritten);
    }
    r.check(plan.kernels.first().is_none_or(|k| !k.beside), "P11", &at, || {
        "there is no kernel before the first one".to_owned()
    });
    r.check(plan.kernels.first().is_none_or(|k| !k.continues), "P13", &at, || {
        "there is no kernel before the first one".to_owned()
    });
    for k in plan.kernels.iter().filter(|k| k.continues) {
        r.check(!k.beside && !k.prologue, "P13", &format!("kernel @{}", k.name), || {
            "it continues a kernel that it is beside, or runs once".to_owned()
        });
    }
    let kept = kept(plan);
    let chains = chains(plan);
    let together = |a: usize, b: usize| chains.iter().any(|c| c.contains(&a) && c.contains(&b));
    for launch in plan.launches().into_iter().filter(|l| l.len() > 1) {
        r.check(plan.kernels[launch.clone()].iter().all(|k| !k.prologue), "P12", &at, || {
            "a kernel of every run shares a launch with one of the prologue".to_owned()
        });
        let mut touches: Vec<_> = plan.kernels[launch.clone()].iter().map(|k| plan.touches(k)).collect();
        for (reads, writes) in &mut touches {
            reads.retain(|v| !kept.contains(v));
            writes.retain(|v| !kept.contains(v));
        }
        for (n, (_, writes)) in touches.iter().enumerate() {
            for (m, (reads, others)) in touches.iter().enumerate().filter(|&(m, _)| m != n) {
                let (writer, reader) = (&plan.kernels[launch.start + n], &plan.kernels[launch.start + m]);
                let kept = |s: &Store| {
                    !reads.contains(&plan.storage(s.value)) || m < n && keeps_off(plan, reader, s.value)
                };
                let rule = if together(launch.start + n, launch.start + m) { "P13" } else { "P11" };
                let apart = writer.stores.iter().all(kept) && writes.is_disjoint(others);
                r.check(apart, rule, &format!("kernel @{}", plan.kernels[launch.start + m].name), || {
                    format!(
                        "it shares a launch with {}, and touches what that writes",
                        plan.kernels[launch.start + n].name
                    )
                });
            }
        }
    }
    for &v in &plan.results {
        if r.check(plan.values.is_valid(v), "P1", &at, || format!("there is no value {v} to return")) {
            r.check(ready.contains(&v), "P8", &at, || format!("the result {v} is never stored"));
        }
    }
    for (v, data) in plan.values.iter().take(own) {
        if matches!(data.def, Def::Update { .. }) {
            r.check(ready.contains(&v), "P8", &value_at(&at, v, data), || {
                "the update is never stored".to_owned()
            });
        }
    }
    r.finish()
}

/// Whether a name can name a kernel.
pub(crate) fn identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct KernelCheck<'a> {
    plan: &'a Plan,
    k: &'a KernelPlan,
    symbols: &'a PrimaryMap<Sym, SymData>,
    at: String,
    /// The axes by whose blocks a local varies.
    blocked: BTreeMap<Local, BTreeSet<Axis>>,
    sorts: BTreeMap<Local, Sort>,
}

impl KernelCheck<'_> {
    fn run(mut self, r: &mut Report, ready: &mut BTreeSet<Value>, overwritten: &mut BTreeMap<Value, Value>) {
        let mut used = BTreeSet::new();
        let k = self.k;
        for (l, data) in k.locals.iter() {
            let at = format!("{} {l}", self.at);
            for &a in &data.axes {
                r.check(self.plan.axes.is_valid(a), "P4", &at, || format!("there is no axis {a}"));
            }
            r.check(distinct(&data.axes), "P4", &at, || "an axis occurs twice".to_owned());
            self.local(r, &at, l, &mut used);
        }
        let mut union = BTreeSet::new();
        for s in &k.stores {
            let at = format!("{} store of {}", self.at, s.value);
            union.extend(s.axes.iter().copied());
            r.check(distinct(&s.axes), "P7", &at, || "an axis occurs twice".to_owned());
            let Some(data) = self.plan.values.get(s.value) else {
                r.add("P7", &at, "there is no such value");
                continue;
            };
            let own = s.value.as_u32() < self.plan.first_temp;
            r.check(!own || !matches!(data.def, Def::Param(_)), "P7", &at, || {
                "a parameter is written".to_owned()
            });
            r.check(s.index.len() == data.axes.len(), "P7", &at, || {
                format!("{} indices for {} axes", s.index.len(), data.axes.len())
            });
            for (n, e) in s.index.iter().chain([&s.expr]).enumerate() {
                reads(e, &mut used);
                let info = self.expr(r, &at, e, k.locals.len());
                let inside = info.free.iter().all(|a| s.axes.contains(a));
                r.check(inside, "P7", &at, || "an axis that is free is not among its axes".to_owned());
                r.check(n == s.index.len() || info.is_integer(), "P7", &at, || {
                    format!("index {n} is no integer expression")
                });
                r.check(self.blocks(e).is_empty(), "P5", &at, || "a value of one block is stored".to_owned());
            }
        }
        let grid: BTreeSet<Axis> = k.grid.iter().copied().collect();
        if let Some(runs) = k.runs {
            let at = format!("{} runs", self.at);
            let number = self.plan.axes.get(runs.number).map(|d| d.extent);
            r.check(matches!(number, Some(Extent::Const(n)) if n > 0), "P10", &at, || {
                "the axis that numbers the runs has no constant extent".to_owned()
            });
            r.check(self.plan.axes.is_valid(runs.axis) && !grid.contains(&runs.axis), "P10", &at, || {
                "what is cut into runs is an axis of the grid, or none".to_owned()
            });
            r.check(k.stores.iter().all(|s| s.axes.contains(&runs.number)), "P10", &at, || {
                "a store does not say which run it is of".to_owned()
            });
            r.check(k.locals.values().all(|l| !l.axes.contains(&runs.number)), "P10", &at, || {
                "a local mentions the axis that numbers the runs".to_owned()
            });
        }
        r.check(distinct(&k.grid) && grid == union, "P3", &self.at, || {
            "the grid is not the union of the axes of the stores".to_owned()
        });
        if k.prologue {
            self.prologue(r, &used);
        }
        for &v in &used {
            r.check(ready.contains(&v) || !self.plan.values.is_valid(v), "P8", &self.at, || {
                format!("{v} is read before it is stored")
            });
            if let Some(by) = overwritten.get(&v) {
                r.add("P8", &self.at, format!("{v} is read after {by} took it over"));
            }
        }
        for s in &k.stores {
            let mut aliases = vec![s.value];
            if let Some(Def::Update { of, .. }) = self.plan.values.get(s.value).map(|d| &d.def) {
                aliases.push(*of);
                overwritten.insert(*of, s.value);
            }
            for v in aliases {
                r.check(!used.contains(&v), "P8", &self.at, || format!("{v} is read and written"));
            }
            ready.insert(s.value);
        }
    }

    fn expr(&self, r: &mut Report, at: &str, e: &Ex, before: usize) -> Info {
        let (plan, k) = (self.plan, self.k);
        let value = |v: Value| match plan.values.get(v) {
            Some(d) => Ok(Leaf { axes: d.axes.clone(), sort: Sort::of(d.dtype) }),
            None => Err(format!("there is no value {v}")),
        };
        let local = |l: Local| match k.locals.get(l) {
            Some(d) if (l.as_u32() as usize) < before => {
                let sort = self.sorts.get(&l).copied().unwrap_or(Sort::F32);
                Ok(Leaf { axes: d.axes.clone(), sort })
            }
            Some(_) => Err(format!("{l} is used before it is defined")),
            None => Err(format!("there is no local {l}")),
        };
        let scope = Scope {
            symbols: self.symbols,
            axis_exists: &|a| plan.axes.is_valid(a),
            value: &value,
            local: &local,
            tile: &no_leaf("tiles", "plans"),
            reductions: false,
        };
        expr::check(r, at, e, &scope)
    }

    /// That a kernel may run once, before there are inputs and sizes.
    fn prologue(&self, r: &mut Report, used: &BTreeSet<Value>) {
        let plan = self.plan;
        for &v in used.iter().filter(|&&v| plan.values.is_valid(v)) {
            r.check(plan.is_constant(v), "P12", &self.at, || format!("{v} changes from run to run"));
        }
        let mut axes: BTreeSet<Axis> = self.k.grid.iter().copied().collect();
        for l in self.k.locals.values() {
            axes.extend(&l.axes);
            match &l.def {
                LocalDef::Map(_) => {}
                LocalDef::Reduce { axes: own, .. } => axes.extend(own),
                LocalDef::Block { axis, .. }
                | LocalDef::Running { axis, .. }
                | LocalDef::Fold { axis, .. } => {
                    axes.insert(*axis);
                }
            }
        }
        for a in axes {
            let varies = plan.axes.get(a).is_some_and(|d| matches!(d.extent, Extent::Sym(_)));
            r.check(!varies, "P12", &self.at, || format!("`{}` has no constant extent", self.axis_name(a)));
        }
        for e in self.k.exprs() {
            e.visit(&mut |e| {
                let sized = matches!(e, Expr::Size(Extent::Sym(_)));
                r.check(!sized, "P12", &self.at, || {
                    "it mentions a size that is known at run time".to_owned()
                });
            });
        }
        r.check(!self.k.beside, "P12", &self.at, || "it shares a launch".to_owned());
    }

    /// The axes by whose blocks an expression varies.
    fn blocks(&self, e: &Ex) -> BTreeSet<Axis> {
        let mut out = BTreeSet::new();
        e.visit(&mut |e| {
            if let Expr::Local(l) = e {
                out.extend(self.blocked.get(l).into_iter().flatten().copied());
            }
        });
        out
    }

    fn local(&mut self, r: &mut Report, at: &str, l: Local, used: &mut BTreeSet<Value>) {
        let k = self.k;
        let data = &k.locals[l];
        let before = l.as_u32() as usize;
        let (main, bound): (&Ex, Vec<Axis>) = match &data.def {
            LocalDef::Map(e) => (e, Vec::new()),
            LocalDef::Reduce { axes, body, .. } => (body, axes.clone()),
            LocalDef::Block { axis, body, .. } => (body, vec![*axis]),
            LocalDef::Running { axis, block, .. } | LocalDef::Fold { axis, block, .. } => {
                (block, vec![*axis])
            }
        };
        reads(main, used);
        let info = self.expr(r, at, main, before);
        let blocks = self.blocks(main);
        let mut blocked = blocks.clone();
        for &a in &bound {
            r.check(self.plan.axes.is_valid(a), "P4", at, || format!("there is no axis {a}"));
            r.check(!data.axes.contains(&a), "P4", at, || format!("{a} is bound and free"));
        }
        let mut free = info.free.clone();
        match &data.def {
            LocalDef::Map(_) => {}
            LocalDef::Reduce { axes, .. } => {
                r.check(!axes.is_empty() && distinct(axes), "P4", at, || {
                    "a reduction binds no axis, or one twice".to_owned()
                });
                free.retain(|a| !axes.contains(a));
                r.check(!axes.iter().any(|a| blocks.contains(a)), "P5", at, || {
                    "a value of each block is reduced over the whole axis".to_owned()
                });
            }
            LocalDef::Block { axis, .. } => {
                free.remove(axis);
                blocked.insert(*axis);
            }
            LocalDef::Running { axis, .. } => {
                r.check(!free.contains(axis), "P5", at, || format!("the block's value varies along {axis}"));
                blocked.remove(axis);
            }
            LocalDef::Fold { axis, action, tracks, .. } => {
                r.check(!free.contains(axis), "P5", at, || format!("the block's value varies along {axis}"));
                blocked.remove(axis);
                reads(action, used);
                // In its action the fold stands for the value that is moved.
                self.sorts.insert(l, info.sort);
                let h = self.expr(r, at, action, before + 1);
                free.extend(h.free.iter().filter(|a| *a != axis));
                let mut tracked = BTreeSet::from([l]);
                for &(t, y) in tracks {
                    tracked.extend([t, y]);
                    let of_block = self.blocked.get(&t).is_some_and(|b| b.contains(axis));
                    r.check(of_block, "P6", at, || format!("{t} is not a value of each block of {axis}"));
                    let of = k.locals.get(y).filter(|_| y < l).and_then(|d| match &d.def {
                        LocalDef::Running { axis: a, block, .. } | LocalDef::Fold { axis: a, block, .. }
                            if a == axis =>
                        {
                            Some(&**block)
                        }
                        _ => None,
                    });
                    r.check(of.is_some(), "P6", at, || format!("{y} does not run over {axis}"));
                    let same = of.is_none_or(|block| *block == Expr::Local(t));
                    r.check(same, "P6", at, || format!("{y} is of other blocks than {t}"));
                    if let Some(d) = k.locals.get(t) {
                        free.extend(d.axes.iter().copied());
                    }
                }
                let parts = parts_of_action(&k.locals, l);
                let named = parts.iter().flat_map(|&p| locals_of(k.locals[p].def.value()));
                for m in named.chain(locals_of(action)) {
                    let known = tracked.contains(&m) || parts.contains(&m);
                    r.check(known, "P6", at, || format!("the action mentions {m}, which is not tracked"));
                }
            }
        }
        let missing: Vec<String> = free
            .iter()
            .filter(|a| !data.axes.contains(a))
            .map(|a| format!("`{}`", self.axis_name(*a)))
            .collect();
        r.check(missing.is_empty(), "P4", at, || {
            format!("{} is free in it and not among its axes", missing.join(", "))
        });
        self.blocked.insert(l, blocked);
        self.sorts.insert(l, info.sort);
    }

    fn axis_name(&self, a: Axis) -> String {
        self.plan.axes.get(a).map_or_else(|| a.to_string(), |d| d.name.clone())
    }
}
