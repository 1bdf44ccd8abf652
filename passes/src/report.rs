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
//! * here: kernels, plans, the floor, and what is above it.
//!
//! Pre: a verified plan; a value for each symbol. Post: exact for accesses whose positions are affine or whole axes; an
//! access by gathered positions counts each of its positions once, and masks make an axis smaller that is streamed, where
//! their bounds follow from positions and extents.

mod again;
pub mod footprint;
mod kept;
mod nests;
pub mod passes;
pub mod seen;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::chain;
use tilewright_ir::graph::{Def, ParamKind};
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan};
use tilewright_ir::tile::Role;
use tilewright_ir::written::Within;
use tilewright_ir::{Axis, DType, Ex, Expr, Extent, Local, Reduction, Sym, SymData, Value};

use crate::algebra::costs::typical;
use crate::schedule::blocks::{self, Blocks, WIDE};
use crate::schedule::contract::{factors, packed};
use crate::schedule::rows;
pub use again::Again;
use footprint::{Scope, Touched};
use seen::Seen;

/// Values for all symbols: the given ones, and typical ones for the rest.
pub fn bind(symbols: &PrimaryMap<Sym, SymData>, given: &[(String, u64)]) -> PrimaryMap<Sym, u64> {
    let value =
        |s: &SymData| given.iter().find(|(n, _)| *n == s.name).map_or_else(|| typical(s), |(_, v)| *v);
    symbols.values().map(value).collect()
}

/// A tensor that a kernel touches.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Its name in the plan.
    pub name: String,
    /// The storage: an updated state is where the state is.
    pub storage: Value,
    /// Distinct bytes that are touched.
    pub bytes: u64,
}

/// A kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelCount {
    /// Its name.
    pub name: String,
    /// The launch that it is part of, from 1.
    pub launch: u32,
    /// What it reads, in order of first occurrence. What an earlier kernel of the same launch reads counts there.
    pub reads: Vec<Operand>,
    /// What it writes.
    pub writes: Vec<Operand>,
    /// How often it goes over each axis that it reduces over or that it goes over more than once.
    pub passes: Vec<(String, u32)>,
    /// Whether it runs once, when weights are loaded. Then it is in no launch and no phase, and nothing that it moves is
    /// counted for the plan.
    pub prologue: bool,
    /// The dependent phase in which it runs, from 1.
    pub phase: u32,
    /// Products of contractions, with what several blocks compute again.
    pub contracted: f64,
    /// Other arithmetic, with what several blocks compute again.
    pub operations: f64,
    /// Terms of sums, with what several blocks compute again: a term is a multiplication and an addition.
    pub multiply_adds: f64,
    /// Bytes that blocks ask the memory system for: an operand once for each block that needs it.
    pub asked: f64,
    /// Blocks that can run at once.
    pub blocks: f64,
    /// Passes that wait for one another within a block.
    pub chain: f64,
    /// Packed weights that it contracts in one block of rows, and how often: more than once where others compute the same.
    pub contracts: Vec<(Value, f64)>,
}

impl KernelCount {
    /// Bytes read from global memory.
    pub fn read_bytes(&self) -> u64 {
        self.reads.iter().map(|o| o.bytes).sum()
    }

    /// Bytes written to global memory.
    pub fn written_bytes(&self) -> u64 {
        self.writes.iter().map(|o| o.bytes).sum()
    }
}

/// What a tensor costs beyond what is unavoidable.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    /// The tensor.
    pub name: String,
    /// Bytes above the floor.
    pub bytes: u64,
    /// The kernels that write it.
    pub writers: Vec<String>,
    /// The kernels that read it.
    pub readers: Vec<String>,
}

/// What passes from kernel to kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Boundary {
    /// The tensor that is stored and read back.
    pub name: String,
    /// The kernel that writes it.
    pub from: String,
    /// The kernels that read it.
    pub to: Vec<String>,
    /// Bytes that are written and read for it.
    pub bytes: u64,
    /// Why the kernels are not one.
    pub reason: String,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanCount {
    /// Kernels, in order.
    pub kernels: Vec<KernelCount>,
    /// The longest chain of kernels that wait for one another.
    pub phases: u32,
    /// Bytes from and to global memory.
    pub bytes: u64,
    /// What cannot be avoided: parameters that are read and results that are written, once.
    pub floor: u64,
    /// What is above the floor, by tensor, most first.
    pub excess: Vec<Excess>,
    /// What passes from kernel to kernel.
    pub boundaries: Vec<Boundary>,
    /// Packed weights that are read more than once in a run, because what they are contracted to is computed by several
    /// blocks or kernels. Those that blocks of rows share are not among them.
    pub again: Vec<Again>,
}

impl PlanCount {
    /// The kernels of each launch of a run, in order.
    pub fn launches(&self) -> impl Iterator<Item = &[KernelCount]> {
        // Those of the prologue come first.
        let first = self.kernels.iter().position(|k| !k.prologue).unwrap_or(self.kernels.len());
        self.kernels[first..].chunk_by(|a, b| a.launch == b.launch)
    }

    /// Terms of the sums of a run.
    pub fn multiply_adds(&self) -> f64 {
        self.kernels.iter().filter(|k| !k.prologue).map(|k| k.multiply_adds).sum()
    }

    /// The multiply-adds of this plan over those of one that computes each reduction of the source once, if it has any.
    pub fn over_source(&self, source: &PlanCount) -> Option<f64> {
        let once = source.multiply_adds();
        (once > 0.0).then(|| self.multiply_adds() / once)
    }

    /// Bytes over the floor.
    pub fn over_floor(&self) -> f64 {
        if self.bytes == self.floor {
            return 1.0;
        }
        self.bytes as f64 / self.floor.max(1) as f64
    }
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

/// The axes that are free in a local of the kernel.
fn axes_of(kernel: &KernelPlan) -> impl Fn(&Expr) -> Vec<Axis> + '_ {
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

    /// Which positions of the axes that it streams a kernel looks at.
    fn seen(&self, kernel: &KernelPlan, blocks: &Blocks) -> BTreeMap<Axis, Seen> {
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
    fn touched(&self, kernel: &KernelPlan, seen: &BTreeMap<Axis, Seen>) -> (Touched, Touched) {
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

    fn access(
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

    fn bytes(&self, v: Value, touched: &Touched) -> u64 {
        let data = &self.plan.values[v];
        let all: u64 = data.axes.iter().map(|&a| self.extent(self.plan.axes[a].extent)).product();
        touched.elements(v).min(all) * data.dtype.bytes() as u64
    }

    fn kernel(
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

    /// Kernels that read what another writes come a phase later.
    fn phases(&self, out: &mut PlanCount) {
        for n in (0..out.kernels.len()).filter(|&n| !self.plan.kernels[n].prologue) {
            let after = out.kernels[..n]
                .iter()
                .filter(|w| !w.prologue)
                .filter(|w| {
                    w.writes.iter().any(|o| out.kernels[n].reads.iter().any(|r| r.storage == o.storage))
                })
                .map(|w| w.phase)
                .max();
            out.kernels[n].phase = after.unwrap_or(0) + 1;
        }
        out.phases = out.kernels.iter().map(|k| k.phase).max().unwrap_or(0);
    }

    fn excess(&self, out: &mut PlanCount, floors: &BTreeMap<Value, u64>) {
        let mut moved: BTreeMap<Value, Excess> = BTreeMap::new();
        for k in out.kernels.iter().filter(|k| !k.prologue) {
            for (operands, written) in [(&k.reads, false), (&k.writes, true)] {
                for o in operands {
                    let e = moved.entry(o.storage).or_insert_with(|| Excess {
                        name: value_name(self.plan, o.storage),
                        bytes: 0,
                        writers: Vec::new(),
                        readers: Vec::new(),
                    });
                    e.bytes += o.bytes;
                    if written { &mut e.writers } else { &mut e.readers }.push(k.name.clone());
                }
            }
        }
        for (v, e) in &mut moved {
            e.bytes = e.bytes.saturating_sub(floors.get(v).copied().unwrap_or(0));
        }
        out.excess = moved.into_values().filter(|e| e.bytes > 0).collect();
        out.excess.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    }

    fn boundaries(&self, out: &mut PlanCount) {
        let mut all = Vec::new();
        for (writer, plan) in out.kernels.iter().zip(&self.plan.kernels) {
            let stored = plan.stores.iter().filter(|s| !self.kept.contains(&s.value));
            for (o, store) in writer.writes.iter().zip(stored) {
                let readers: Vec<&KernelCount> = out
                    .kernels
                    .iter()
                    .filter(|k| {
                        k.name != writer.name && (k.phase > writer.phase || k.prologue && writer.prologue)
                    })
                    .filter(|k| k.reads.iter().any(|r| r.storage == o.storage))
                    .collect();
                if readers.is_empty() {
                    continue;
                }
                let read: u64 = readers
                    .iter()
                    .flat_map(|k| k.reads.iter().filter(|r| r.storage == o.storage))
                    .map(|r| r.bytes)
                    .sum();
                let why = match &plan.boundaries[..] {
                    [] if matches!(self.plan.values[store.value].def, Def::Update { .. }) => {
                        "it is kept for later runs, and what is stored anyway is read back rather than computed again"
                            .to_owned()
                    }
                    [] => "it is a result of the function, and what is stored anyway is read back rather than computed again"
                        .to_owned(),
                    reasons => reasons.join("; "),
                };
                all.push(Boundary {
                    name: value_name(self.plan, store.value),
                    from: writer.name.clone(),
                    to: readers.iter().map(|k| k.name.clone()).collect(),
                    bytes: o.bytes + read,
                    reason: why,
                });
            }
        }
        out.boundaries = all;
    }
}

/// The most rows for which weights are what a product reads, where it is not known that one block has them all: columns of one
/// instruction of tensor cores.
const FEW: f64 = 8.0;

/// Operations of a function of one argument.
const FUNCTION: f64 = 8.0;
