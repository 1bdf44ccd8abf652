//! Runs: a pass over an axis, cut into parts that are computed side by side and merged by the kernel that follows.
//!
//! Why here: how many blocks a kernel has is known once their sizes are chosen, and a decode step has few. A sum or a maximum
//! over an axis is that over its runs (`split`); a fold merges with its own rescale, because the cocycle law
//! `h(a,b) h(b,c) = h(a,c)` that `fold` demands makes its merge associative: the run's maxima take the place of a block's.
//! Nothing is asked of the kernel but that one pass over the axis is enough.
//!
//! Pre: a verified plan. Post: a verified plan that means the same; a kernel that was cut is two, the first of which stores
//! what each run holds after its pass.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::{PrimaryMap, SecondaryMap};
use tilewright_ir::expr::build as ex;
use tilewright_ir::graph::{Def, ParamKind, ValueData};
use tilewright_ir::plan::{
    KernelPlan, LawStep, LocalData, LocalDef, Plan, Runs, Store, locals_of, nothing_yet, parts_of_action,
    replace_locals,
};
use tilewright_ir::tile::Role;
use tilewright_ir::{
    Axis, AxisData, Binary, DType, Ex, Expr, Extent, Local, Reduction, Sym, SymData, Unary, Value,
};

use super::blocks::{self, Blocks};
use crate::algebra::SubAxis;
use crate::algebra::costs::Sizes;
use crate::partition::CostModel;
use crate::partition::cost::DRAW;

/// The fewest blocks of an axis in a run.
const FEWEST: f64 = 2.0;
/// The most runs of an axis.
const MOST: u64 = 64;
/// How much faster a kernel must become.
const GAIN: f64 = 1.25;

/// Cuts the kernels of a plan where that pays. `narrow` is the 16-bit type that operands of contractions may be
/// rounded to.
pub fn cut(plan: &mut Plan, symbols: &PrimaryMap<Sym, SymData>, cost: CostModel, narrow: Option<DType>) {
    let sizes = &Sizes::new(&plan.axes, symbols);
    for kernel in std::mem::take(&mut plan.kernels) {
        let blocks = blocks::choose(plan, &kernel, symbols, narrow);
        let c = Cutter { plan, kernel: &kernel, sizes, cost, narrow };
        match c.choose(&blocks).and_then(|(axis, runs)| Some((c.pass(axis)?, axis, runs))) {
            Some((finals, axis, runs)) => {
                let (first, second) = cut_in_two(plan, &kernel, axis, runs, &finals);
                plan.kernels.extend([first, second]);
            }
            None => plan.kernels.push(kernel),
        }
    }
}

struct Cutter<'a> {
    plan: &'a Plan,
    kernel: &'a KernelPlan,
    sizes: &'a Sizes,
    cost: CostModel,
    narrow: Option<DType>,
}

/// Gives kernels the derivations of a plan whose passes are whole. Those of a kernel that was cut are its runs'.
pub fn note(plan: &mut Plan, whole: &Plan) {
    for from in &whole.kernels {
        let stores = |k: &KernelPlan| k.stores.iter().any(|s| from.stores.iter().any(|f| f.value == s.value));
        let before = |at: usize| at.checked_sub(1).filter(|_| !plan.kernels[at].derivation.is_empty());
        let at = plan.kernels.iter().position(stores).map(|at| before(at).unwrap_or(at));
        // What merges runs may be left to those who read it.
        let of_runs = || plan.kernels.iter().position(|k| k.name == run_name(&from.name));
        let Some(at) = at.or_else(of_runs) else { continue };
        plan.kernels[at].derivation.clone_from(&from.derivation);
    }
}

/// The name of the kernel that computes the runs of another.
fn run_name(name: &str) -> String {
    format!("{name}_runs")
}

/// What a pass leaves behind, in order.
type Finals = Vec<Local>;

impl Cutter<'_> {
    fn size(&self, a: Axis) -> f64 {
        self.sizes.of(SubAxis::whole(a))
    }

    fn product(&self, axes: impl IntoIterator<Item = Axis>) -> f64 {
        axes.into_iter().map(|a| self.size(a)).product()
    }

    /// The axis to cut and the number of runs, if that pays.
    fn choose(&self, blocks: &Blocks) -> Option<(Axis, u64)> {
        if self.kernel.runs.is_some() || self.kernel.prologue {
            return None;
        }
        let have: f64 = blocks
            .grid
            .iter()
            .filter(|(_, (_, role))| *role == Role::Grid)
            .map(|(&a, &(b, _))| (self.size(a) / f64::from(b)).ceil())
            .product();
        let (work, bytes) = self.effort();
        let flops = if self.narrow.is_some() { self.cost.tensor_flops } else { self.cost.flops };
        // Of a weight beside all columns a multiprocessor has more on its way than its share of the bandwidth takes.
        let draw = if blocks.beside { DRAW } else { 1.0 };
        let time = |blocks: f64| {
            let share = |of: f64| (of * blocks / self.cost.processors).min(1.0);
            (work / flops / share(1.0)).max(bytes / self.cost.bandwidth / share(draw))
        };
        let loops = blocks.bound.iter().filter(|(_, (_, role))| *role == Role::Loop);
        let mut best: Option<(f64, Axis, u64)> = None;
        for (&axis, &(block, _)) in loops {
            let room = (self.size(axis) / (FEWEST * f64::from(block))).min(self.cost.processors / have);
            let runs = (room.max(1.0) as u64).min(MOST);
            let runs = 1 << runs.ilog2();
            let Some(finals) = self.pass(axis).filter(|_| runs > 1) else { continue };
            let left: f64 = finals
                .iter()
                .map(|&l| 8.0 * runs as f64 * self.product(self.kernel.locals[l].axes.iter().copied()))
                .sum();
            let then = time(have * runs as f64) + self.cost.launch + left / self.cost.bandwidth;
            if time(have) > GAIN * then && best.is_none_or(|(t, ..)| then < t) {
                best = Some((then, axis, runs));
            }
        }
        best.map(|(_, axis, runs)| (axis, runs))
    }

    /// Operations, and bytes of what is read.
    fn effort(&self) -> (f64, f64) {
        let mut work = 0.0;
        let mut read: BTreeMap<Value, f64> = BTreeMap::new();
        for e in self.kernel.exprs() {
            e.visit(&mut |e| {
                if let Expr::Read(v, _) = e {
                    let data = &self.plan.values[*v];
                    read.insert(*v, data.dtype.bytes() as f64 * self.product(data.axes.iter().copied()));
                }
            });
        }
        for data in self.kernel.locals.values() {
            let own = self.product(data.axes.iter().copied());
            match &data.def {
                LocalDef::Reduce { axes, .. } => work += 2.0 * own * self.product(axes.iter().copied()),
                LocalDef::Block { axis, .. } => work += 2.0 * own * self.size(*axis),
                _ => {}
            }
        }
        (work, read.values().sum())
    }

    /// What one pass over the axis leaves behind, if one is enough, and all of it are numbers over grid axes.
    fn pass(&self, axis: Axis) -> Option<Finals> {
        let k = self.kernel;
        // Locals that need what a whole pass leaves behind.
        let mut after: BTreeSet<Local> = BTreeSet::new();
        let mut over: BTreeSet<Local> = BTreeSet::new();
        let mut blocky: BTreeSet<Local> = BTreeSet::new();
        // What an action is made of runs in step with its fold.
        let parts: BTreeSet<Local> = k.locals.keys().flat_map(|l| parts_of_action(&k.locals, l)).collect();
        for (l, data) in k.locals.iter().filter(|(l, _)| !parts.contains(l)) {
            let ends = ends_pass(&data.def, axis);
            let needs = data.def.needs();
            let waits = needs.iter().any(|n| after.contains(n) || over.contains(n));
            let of_block = matches!(&data.def, LocalDef::Block { axis: a, .. } if *a == axis)
                || (!ends && needs.iter().any(|n| blocky.contains(n)));
            if of_block {
                blocky.insert(l);
            }
            match (ends, waits) {
                (true, true) => return None,
                (true, false) => {
                    over.insert(l);
                }
                (false, true) if of_block || data.axes.contains(&axis) => return None,
                (false, true) => {
                    after.insert(l);
                }
                (false, false) => {}
            }
        }
        // A loop around the pass would need all runs in every round.
        let in_grid = |l: &Local| k.locals[*l].axes.iter().all(|a| k.grid.contains(a));
        let kinds = kinds(self.plan, k);
        let number = |l: &Local| kinds[*l].is_some();
        let finals: Finals = over.into_iter().collect();
        (!finals.is_empty() && finals.iter().all(in_grid) && finals.iter().all(number)).then_some(finals)
    }
}

/// What a local surely holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Real,
    Integer,
}

/// What each local surely is, if that is a number.
fn kinds(plan: &Plan, k: &KernelPlan) -> SecondaryMap<Local, Option<Number>> {
    let mut out = SecondaryMap::new();
    for (l, data) in &k.locals {
        // Locals are made of those before them.
        out[l] = kind_of(plan, &out, data.def.value());
    }
    out
}

/// What an expression surely is, if that is a number.
fn kind_of(plan: &Plan, known: &SecondaryMap<Local, Option<Number>>, e: &Ex) -> Option<Number> {
    let of = |e: &Ex| kind_of(plan, known, e);
    let integral = |x: f64| x.fract() == 0.0 && x.abs() < f64::from(i32::MAX);
    match &**e {
        Expr::Read(v, _) => match plan.values[*v].dtype {
            d if d.is_float() => Some(Number::Real),
            d if d.is_int() => Some(Number::Integer),
            _ => None,
        },
        Expr::Pos(_) | Expr::Size(_) => Some(Number::Integer),
        Expr::Num(x) if integral(x.0) => Some(Number::Integer),
        Expr::Local(l) => known[*l],
        Expr::Unary(Unary::Not, _) => None,
        Expr::Unary(Unary::Abs | Unary::Neg, x) => of(x),
        Expr::Unary(..) | Expr::Binary(Binary::Div | Binary::Random, ..) | Expr::Num(_) => Some(Number::Real),
        Expr::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Max | Binary::Min, a, b)
        | Expr::Select(_, a, b) => match (of(a), of(b)) {
            (Some(Number::Integer), Some(Number::Integer)) => Some(Number::Integer),
            (Some(Number::Real), _) | (_, Some(Number::Real)) => Some(Number::Real),
            _ => None,
        },
        Expr::Cast(d, _) if d.is_float() => Some(Number::Real),
        Expr::Cast(d, _) if d.is_int() => Some(Number::Integer),
        _ => None,
    }
}

/// Whether a local is what a pass over the axis leaves behind.
fn ends_pass(def: &LocalDef, axis: Axis) -> bool {
    match def {
        LocalDef::Reduce { axes, .. } => axes.contains(&axis),
        LocalDef::Running { axis: a, .. } | LocalDef::Fold { axis: a, .. } => *a == axis,
        LocalDef::Map(_) | LocalDef::Block { .. } => false,
    }
}

/// A definition over other names.
pub(super) fn rename(def: &LocalDef, names: &BTreeMap<Local, Ex>) -> LocalDef {
    let mut def = def.clone();
    def.exprs_mut().for_each(|e| *e = replace_locals(e, names));
    if let LocalDef::Fold { tracks, .. } = &mut def {
        for l in tracks.iter_mut().flat_map(|(t, y)| [t, y]) {
            if let Some(Expr::Local(n)) = names.get(l).map(|e| &**e) {
                *l = *n;
            }
        }
    }
    def
}

/// Copies the locals that are wanted, and what they need, except those that `known` already names.
fn copy(k: &KernelPlan, wanted: BTreeSet<Local>, into: &mut KernelPlan, known: &mut BTreeMap<Local, Ex>) {
    let mut all = BTreeSet::new();
    let mut todo: Vec<Local> = wanted.into_iter().collect();
    while let Some(l) = todo.pop() {
        if known.contains_key(&l) || !all.insert(l) {
            continue;
        }
        let def = &k.locals[l].def;
        todo.extend(def.needs());
        if let LocalDef::Fold { tracks, .. } = def {
            todo.extend(tracks.iter().flat_map(|&(t, y)| [t, y]));
            todo.extend(parts_of_action(&k.locals, l));
        }
    }
    for l in all {
        let LocalData { axes, def } = &k.locals[l];
        // The action of a fold mentions the fold.
        known.insert(l, ex::local(into.locals.next_key()));
        let def = rename(def, known);
        into.locals.push(LocalData { axes: axes.clone(), def });
    }
}

/// The kernel of the runs, and the one that merges them.
fn cut_in_two(
    plan: &mut Plan,
    k: &KernelPlan,
    axis: Axis,
    runs: u64,
    finals: &Finals,
) -> (KernelPlan, KernelPlan) {
    let name = format!("{}_run", plan.axes[axis].name);
    let number = plan.axes.push(AxisData { name: fresh(plan, name), extent: Extent::Const(runs) });
    let wide = k.exprs().any(|e| {
        let mut found = false;
        e.visit(&mut |e| found |= matches!(e, Expr::Read(v, _) if plan.values[*v].dtype == DType::F64));
        found
    });
    let real = if wide { DType::F64 } else { DType::F32 };

    let mut first = KernelPlan {
        name: run_name(&k.name),
        runs: Some(Runs { axis, number }),
        derivation: k.derivation.clone(),
        ..KernelPlan::default()
    };
    first.boundaries.push(format!(
        "`{}` is cut into {runs} runs that are computed side by side: without them there are too few blocks",
        plan.axes[axis].name
    ));
    let mut names = BTreeMap::new();
    copy(k, finals.iter().copied().collect(), &mut first, &mut names);
    let mut parts: BTreeMap<Local, Ex> = BTreeMap::new();
    let mut grid = Vec::new();
    let kinds = kinds(plan, k);
    for l in finals {
        // Runs outside: what one block stores is contiguous.
        let mut axes = vec![number];
        axes.extend(&k.locals[*l].axes);
        let dtype = if kinds[*l] == Some(Number::Integer) { DType::I64 } else { real };
        let value = plan.values.push(ValueData {
            name: String::new(),
            dtype,
            axes: axes.clone(),
            def: Def::Param(ParamKind::Input),
        });
        let index: Vec<Ex> = axes.iter().map(|&a| ex::pos(a)).collect();
        parts.insert(*l, ex::read(value, index.clone()));
        grid.extend(axes.iter().copied().filter(|a| *a != number && !grid.contains(a)).collect::<Vec<_>>());
        let expr = names[l].clone();
        first.stores.push(Store { value, axes, index, expr });
    }
    grid.push(number);
    first.grid = grid;

    let mut second = KernelPlan {
        name: k.name.clone(),
        grid: k.grid.clone(),
        derivation: vec![LawStep {
            law: "split".into(),
            before: format!("a pass over {}", plan.axes[axis].name),
            after: format!("{runs} runs over {}, merged", plan.axes[axis].name),
        }],
        refinements: k.refinements.clone(),
        boundaries: k.boundaries.clone(),
        ..KernelPlan::default()
    };
    let mut merged: BTreeMap<Local, Ex> = BTreeMap::new();
    let mut actions: BTreeMap<Local, Ex> = BTreeMap::new();
    for &l in finals {
        let LocalData { axes, def } = &k.locals[l];
        let part = parts[&l].clone();
        let (op, body) = match def {
            LocalDef::Fold { op, action, tracks, .. } => {
                // Relative to what it tracks itself each run holds what a block would: nothing, where it has no positions.
                let mut with = BTreeMap::from([(l, part)]);
                let mut empty = Vec::new();
                for (t, y) in tracks {
                    with.extend([(*t, parts[y].clone()), (*y, merged[y].clone())]);
                    if let Some(op) = k.locals[*y].def.runs() {
                        let none = ex::binary(Binary::Eq, parts[y].clone(), ex::num(op.identity()));
                        empty.push((op, none));
                    }
                }
                for p in parts_of_action(&k.locals, l) {
                    let named = actions.entry(p).or_insert_with(|| {
                        let mut axes = k.locals[p].axes.clone();
                        axes.push(number);
                        let def = LocalDef::Map(replace_locals(k.locals[p].def.value(), &with));
                        ex::local(second.locals.push(LocalData { axes, def }))
                    });
                    with.insert(p, named.clone());
                }
                let moved = replace_locals(action, &with);
                let body = match nothing_yet(&empty) {
                    Some(empty) if *op == Reduction::Sum => ex::select(empty, ex::num(0.0), moved),
                    _ => moved,
                };
                (*op, body)
            }
            LocalDef::Running { op, .. } | LocalDef::Reduce { op, .. } => (*op, part),
            LocalDef::Map(_) | LocalDef::Block { .. } => continue,
        };
        let def = LocalDef::Reduce { op, axes: vec![number], body };
        merged.insert(l, ex::local(second.locals.push(LocalData { axes: axes.clone(), def })));
    }
    let wanted = k.stores.iter().flat_map(|s| s.index.iter().chain([&s.expr])).flat_map(locals_of).collect();
    copy(k, wanted, &mut second, &mut merged);
    for s in &k.stores {
        second.stores.push(Store {
            value: s.value,
            axes: s.axes.clone(),
            index: s.index.iter().map(|i| replace_locals(i, &merged)).collect(),
            expr: replace_locals(&s.expr, &merged),
        });
    }
    (first, second)
}

fn fresh(plan: &Plan, mut name: String) -> String {
    while plan.axes.values().any(|a| a.name == name) {
        name.push('_');
    }
    name
}
