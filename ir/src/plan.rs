//! The plan level: the extracted algebra of one function, partitioned into kernels.
//!
//! A [`KernelPlan`] computes its stores for every position of its grid axes. Its locals are scalar expressions over
//! the axes in scope; a local that reduces over an axis streams that axis (or holds it resident when it is short).
//! `Block`, `Running` and `Fold` locals belong together: they describe one pass over an axis in blocks of any size,
//! and their meaning does not depend on the block size.
//!
//! Fold semantics, for an axis cut into blocks `o = 0, 1, ...`: with `y` the running locals before a block and `y'`
//! after it, `E' = a(E)[t := y, y := y'] + a(q)[t := t, y := y']`, where `a` is the action, `q` the block's value, `t` the
//! block values of what is tracked, and `+` the operation of the fold. `E` and running locals start at their identity;
//! a sum of nothing yet is 0 wherever it moves (see [`nothing_yet`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use cranelift_entity::PrimaryMap;

use crate::graph::{Def, ParamKind, ValueData};
use crate::{Axis, AxisData, Binary, Ex, Expr, Local, Reduction, Value};

/// The plan of one function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The name of the function.
    pub name: String,
    /// Axes: those of the function.
    pub axes: PrimaryMap<Axis, AxisData>,
    /// Values: those of the function (same numbers), then the values that pass between kernels.
    pub values: PrimaryMap<Value, ValueData>,
    /// Values from this number on were introduced by the partition.
    pub first_temp: u32,
    /// The results of the function.
    pub results: Vec<Value>,
    /// Kernels in an order that respects their dependencies.
    pub kernels: Vec<KernelPlan>,
}

/// One kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelPlan {
    /// Its name, unique in the plan; an identifier.
    pub name: String,
    /// The axes over which instances of the kernel run independently: the union of the axes of its stores.
    pub grid: Vec<Axis>,
    /// Whether it shares a launch with the kernel before it: their blocks run side by side, and neither depends on the
    /// other. The grid of the launch is the direct sum of theirs.
    pub beside: bool,
    /// Whether its blocks are those of the kernel before it, which go on with it when they are done (see
    /// [`chain`](crate::chain)).
    pub continues: bool,
    /// Whether it depends on weights alone: it runs once, when they are loaded, and what it stores is a weight to the
    /// kernels of every run.
    pub prologue: bool,
    /// A streamed axis that is cut into runs, if one is.
    pub runs: Option<Runs>,
    /// Locals, each using only earlier ones.
    pub locals: PrimaryMap<Local, LocalData>,
    /// What it writes.
    pub stores: Vec<Store>,
    /// The laws that led from the source to this kernel, in order.
    pub derivation: Vec<LawStep>,
    /// Narrowings that were placed, e.g. `operand of contraction over d: bf16`.
    pub refinements: Vec<String>,
    /// Why its neighbours are not part of it.
    pub boundaries: Vec<String>,
}

/// A streamed axis cut into consecutive runs that are computed independently. In each instance of the kernel `axis` holds
/// only the positions of the run that the position along `number` says: of `n` positions and `r` runs, `ceil(n / r)` each,
/// what is left in the last. Reductions over `axis` cover the run; over no positions they are their identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The streamed axis.
    pub axis: Axis,
    /// The grid axis of constant extent that numbers the runs.
    pub number: Axis,
}

/// A local of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalData {
    /// The axes that are free in it.
    pub axes: Vec<Axis>,
    /// What it is.
    pub def: LocalDef,
}

/// What a local is.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalDef {
    /// An expression without reductions.
    Map(Ex),
    /// A reduction over whole axes.
    Reduce {
        /// The operation.
        op: Reduction,
        /// The axes, bound in the body.
        axes: Vec<Axis>,
        /// What is reduced.
        body: Ex,
    },
    /// A reduction over the positions of one block of `axis`.
    Block {
        /// The operation.
        op: Reduction,
        /// The streamed axis.
        axis: Axis,
        /// What is reduced.
        body: Ex,
    },
    /// The reduction of a block local over all blocks of `axis` so far; after the pass, over all.
    Running {
        /// The operation.
        op: Reduction,
        /// The streamed axis.
        axis: Axis,
        /// The value of each block: an expression over block locals.
        block: Ex,
    },
    /// A reduction over `axis` whose accumulator moves along when the tracked running values do.
    Fold {
        /// The operation that joins blocks.
        op: Reduction,
        /// The streamed axis.
        axis: Axis,
        /// The contribution of one block, relative to the block's own tracked values: an expression over block locals.
        block: Ex,
        /// What becomes of a value that is relative to `t` when it is made relative to `y`: an expression over `tracks` and
        /// over this local itself, which stands for the value; parts of it may have names ([`parts_of_action`]).
        action: Ex,
        /// Pairs of the block value `t` (a `Map` or `Block` local) and its running value `y` (a `Running` local, or an
        /// earlier `Fold`).
        tracks: Vec<(Local, Local)>,
    },
}

impl LocalDef {
    /// How blocks are joined, of what runs along with a pass.
    pub fn runs(&self) -> Option<Reduction> {
        match self {
            LocalDef::Running { op, .. } | LocalDef::Fold { op, .. } => Some(*op),
            _ => None,
        }
    }

    /// The axes that it reduces over, in blocks or whole.
    pub fn bound(&self) -> &[Axis] {
        match self {
            LocalDef::Map(_) => &[],
            LocalDef::Reduce { axes, .. } => axes,
            LocalDef::Block { axis, .. } | LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => {
                std::slice::from_ref(axis)
            }
        }
    }

    /// What it maps, reduces or adds up.
    pub fn value(&self) -> &Ex {
        match self {
            LocalDef::Map(e) => e,
            LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. } => body,
            LocalDef::Running { block, .. } | LocalDef::Fold { block, .. } => block,
        }
    }

    /// Its expressions: the value, then the action of a fold.
    pub fn exprs(&self) -> impl Iterator<Item = &Ex> {
        let action = match self {
            LocalDef::Fold { action, .. } => Some(action),
            _ => None,
        };
        std::iter::once(self.value()).chain(action)
    }

    /// The same, to be changed.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Ex> {
        let (value, action) = match self {
            LocalDef::Map(e) => (e, None),
            LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. } => (body, None),
            LocalDef::Running { block, .. } => (block, None),
            LocalDef::Fold { block, action, .. } => (block, Some(action)),
        };
        std::iter::once(value).chain(action)
    }

    /// The locals that its value needs. What a fold tracks runs in step with it and is not among them.
    pub fn needs(&self) -> BTreeSet<Local> {
        locals_of(self.value())
    }
}

/// The locals that an expression mentions.
pub fn locals_of(e: &Ex) -> BTreeSet<Local> {
    let mut out = BTreeSet::new();
    e.visit(&mut |e| {
        if let Expr::Local(l) = e {
            out.insert(*l);
        }
    });
    out
}

/// The parts of a fold's action that have names: `Map` locals over what the fold tracks, each after those that it mentions.
/// They are evaluated wherever the action is, at the same pairs of values.
pub fn parts_of_action(locals: &PrimaryMap<Local, LocalData>, fold: Local) -> Vec<Local> {
    let Some(LocalDef::Fold { action, tracks, .. }) = locals.get(fold).map(|l| &l.def) else {
        return Vec::new();
    };
    let known = |l: &Local| *l == fold || tracks.iter().any(|(t, y)| t == l || y == l);
    let mut out = BTreeSet::new();
    let mut todo: Vec<Local> = locals_of(action).into_iter().filter(|l| !known(l)).collect();
    while let Some(l) = todo.pop() {
        if let Some(LocalDef::Map(e)) = locals.get(l).map(|l| &l.def)
            && out.insert(l)
        {
            todo.extend(locals_of(e).into_iter().filter(|l| !known(l)));
        }
    }
    out.into_iter().collect()
}

/// Whether what was accumulated so far is that of no blocks, given whether each tracked running value is the identity of
/// its operation: a maximum that is -inf says so by itself, sums only together and where nothing else does, since a sum may
/// be 0 by chance.
pub fn nothing_yet(tracks: &[(Reduction, Ex)]) -> Option<Ex> {
    let of = |sums: bool| -> Vec<Ex> {
        tracks.iter().filter(|(op, _)| (*op == Reduction::Sum) == sums).map(|(_, e)| e.clone()).collect()
    };
    let (extremes, sums) = (of(false), of(true));
    let (by, all) = if extremes.is_empty() { (Binary::And, sums) } else { (Binary::Or, extremes) };
    all.into_iter().reduce(|a, b| Arc::new(Expr::Binary(by, a, b)))
}

/// The expression with locals replaced.
pub fn replace_locals(e: &Ex, with: &BTreeMap<Local, Ex>) -> Ex {
    match &**e {
        Expr::Local(l) => with.get(l).cloned().unwrap_or_else(|| e.clone()),
        other => Arc::new(other.map_children(|c| replace_locals(c, with))),
    }
}

impl KernelPlan {
    /// All expressions: of locals, then of stores with their indices.
    pub fn exprs(&self) -> impl Iterator<Item = &Ex> {
        let locals = self.locals.values().flat_map(|l| l.def.exprs());
        locals.chain(self.stores.iter().flat_map(|s| s.index.iter().chain([&s.expr])))
    }
}

impl Plan {
    /// The storage of a value: an update takes over that of its state.
    pub fn storage(&self, value: Value) -> Value {
        let mut at = value;
        // As many steps as there are values: a plan that was not verified may go round in circles.
        for _ in 0..self.values.len() {
            match self.values.get(at).map(|d| &d.def) {
                Some(Def::Update { of, .. }) => at = *of,
                _ => break,
            }
        }
        at
    }

    /// Whether a value is a state that an update takes over.
    pub fn is_taken_over(&self, value: Value) -> bool {
        self.values.values().any(|d| matches!(d.def, Def::Update { of, .. } if of == value))
    }

    /// The storages that a kernel reads, and those that it writes.
    pub fn touches(&self, k: &KernelPlan) -> (BTreeSet<Value>, BTreeSet<Value>) {
        let mut reads = BTreeSet::new();
        for e in k.exprs() {
            e.visit(&mut |e| {
                if let Expr::Read(v, _) = e {
                    reads.insert(self.storage(*v));
                }
            });
        }
        (reads, k.stores.iter().map(|s| self.storage(s.value)).collect())
    }

    /// Whether a value is the same in every run: a weight, or made of weights.
    pub fn is_constant(&self, value: Value) -> bool {
        self.values[value].def == Def::Param(ParamKind::Weight)
            || self.kernels.iter().any(|k| k.prologue && k.stores.iter().any(|s| s.value == value))
    }

    /// The kernels of each launch, by their numbers, in order.
    pub fn launches(&self) -> Vec<Range<usize>> {
        groups(self.kernels.iter().map(|k| k.beside || k.continues))
    }
}

/// Consecutive members: each begins a new group unless it belongs to the one before it.
pub(crate) fn groups(belongs: impl Iterator<Item = bool>) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for (n, belongs) in belongs.enumerate() {
        match out.last_mut() {
            Some(last) if belongs => last.end = n + 1,
            _ => out.push(n..n + 1),
        }
    }
    out
}

/// A store.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// The tensor that is written.
    pub value: Value,
    /// The axes over which the store runs.
    pub axes: Vec<Axis>,
    /// One index per axis of the tensor.
    pub index: Vec<Ex>,
    /// What is written.
    pub expr: Ex,
}

/// One step of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LawStep {
    /// The law.
    pub law: String,
    /// The readable form of the part that changed, before.
    pub before: String,
    /// The same after.
    pub after: String,
}
