//! Evaluating a plan kernel by kernel, with its passes cut into blocks as the caller says.
//!
//! A local that depends on a `Block` local is one number per block; it is computed for each block with the axis
//! narrowed to the block's positions. `Running` and `Fold` locals walk over the blocks; read from anywhere but a fold's
//! rescale they have their final value. The meaning must not depend on the size of the blocks: that is what tests of
//! folds check by choosing it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::eval::domain::{Domain, Sort};
use crate::eval::exec::Array;
use crate::eval::function::{Outcome, Scope, scatter};
use crate::eval::nodes::{Leaf, Src};
use crate::eval::tensor::{Tensor, elements};
use crate::eval::{EvalError, Symbols};
use crate::expr::build::{binary, local, num, select};
use crate::graph::{Def, ParamKind};
use crate::plan::{KernelPlan, LocalDef, Plan, Runs, nothing_yet};
use crate::{Axis, DType, Ex, Expr, Local, Reduction, Value};

/// Evaluates a plan on one tensor per parameter of its function, with passes cut into blocks of `block` positions.
pub fn eval_plan<D: Domain>(
    d: &D,
    plan: &Plan,
    symbols: &Symbols,
    params: Vec<Arc<Tensor<D::T>>>,
    block: usize,
) -> Result<Outcome<D::T>, EvalError> {
    let own = || plan.values.iter().filter(|(v, _)| v.as_u32() < plan.first_temp);
    let param_values: Vec<Value> =
        own().filter(|(_, data)| matches!(data.def, Def::Param(_))).map(|(v, _)| v).collect();
    if param_values.len() != params.len() {
        let what = format!("@{}", plan.name);
        return Err(EvalError::Arguments { what, expected: param_values.len(), found: params.len() });
    }
    let mut scope = Scope::new(d, symbols, |a| plan.axes.get(a).map(|data| data.extent));
    for (v, data) in plan.values.iter() {
        scope.declare(Src::Value(v), Leaf::Array(Vec::new(), Sort::of(data.dtype)));
    }
    for (&v, tensor) in param_values.iter().zip(params) {
        let dims = scope.dims(&plan.values[v].axes)?;
        if tensor.dims != dims || tensor.data.len() != elements("parameter", &dims)? {
            let what = format!("@{}: {v}", plan.name);
            return Err(EvalError::Dims { what, expected: dims, found: tensor.dims.clone() });
        }
        scope.arrays.insert(Src::Value(v), Array::new(tensor));
    }
    for kernel in &plan.kernels {
        run_kernel(&mut scope, plan, kernel, block.max(1))?;
    }
    let get = |v: Value| {
        let array = scope.arrays.get(&Src::Value(v)).ok_or_else(|| EvalError::missing(Src::Value(v)))?;
        Ok(array.tensor.clone())
    };
    let results = plan.results.iter().map(|&v| get(v)).collect::<Result<Vec<_>, EvalError>>()?;
    let mut states = Vec::new();
    for (p, data) in own() {
        if data.def == Def::Param(ParamKind::State) {
            let mut newest = p;
            for (v, data) in own() {
                if matches!(data.def, Def::Update { of, .. } if of == newest) {
                    newest = v;
                }
            }
            states.push((p, get(newest)?));
        }
    }
    Ok(Outcome { results, states })
}

/// Which block of each axis is meant.
type At = BTreeMap<Axis, usize>;

/// A local and the blocks that it belongs to, in the order of their axes.
type Key = (Local, Vec<usize>);

/// A local that walks over blocks: what it is in messages, the other axes' blocks, and the locals that it needs.
struct Pass<'a> {
    local: Local,
    what: &'a str,
    at: &'a At,
    needs: &'a BTreeSet<Local>,
}

#[derive(Clone, Copy)]
struct Run {
    axis: Axis,
    start: usize,
    len: usize,
    number: Axis,
    at: usize,
}

/// The runs of a kernel; one that is everything where it has none.
fn runs_of<D: Domain>(scope: &Scope<'_, D>, kernel: &KernelPlan) -> Result<Vec<Option<Run>>, EvalError> {
    let Some(Runs { axis, number }) = kernel.runs else { return Ok(vec![None]) };
    let (n, runs) = (scope.len(axis)?, scope.len(number)?);
    let each = n.div_ceil(runs.max(1));
    let run = |at: usize| {
        let start = (at * each).min(n);
        Some(Run { axis, start, len: each.min(n - start), number, at })
    };
    Ok((0..runs).map(run).collect())
}

struct KernelRun<'a, 's, D: Domain> {
    scope: &'a mut Scope<'s, D>,
    kernel: &'a KernelPlan,
    what: String,
    block: usize,
    /// The run that is evaluated: its axis and positions, and the axis that numbers it with its number.
    run: Option<Run>,
    /// The axes by whose blocks each local varies.
    blocked: HashMap<Local, BTreeSet<Axis>>,
    /// The locals that are arrays, by the blocks they belong to.
    values: HashMap<Key, Arc<Tensor<D::T>>>,
    /// Running values after each block.
    traces: HashMap<Key, Vec<Tensor<D::T>>>,
    sorts: HashMap<Local, Sort>,
    /// The locals that are arrays and that each local needs: itself, or those that its map reads.
    needed: HashMap<Local, BTreeSet<Local>>,
    /// The locals that are bound.
    bound: Vec<Local>,
}

fn run_kernel<D: Domain>(
    scope: &mut Scope<'_, D>,
    plan: &Plan,
    kernel: &KernelPlan,
    block: usize,
) -> Result<(), EvalError> {
    // All reads come before all writes.
    let mut writes = Vec::new();
    for window in runs_of(scope, kernel)? {
        let mut run = KernelRun {
            scope,
            kernel,
            what: format!("kernel {}", kernel.name),
            block,
            run: window,
            blocked: HashMap::new(),
            values: HashMap::new(),
            traces: HashMap::new(),
            sorts: HashMap::new(),
            needed: HashMap::new(),
            bound: Vec::new(),
        };
        for l in kernel.locals.keys() {
            run.local(l)?;
        }
        let needs = run.needs(kernel.stores.iter().flat_map(|s| s.index.iter().chain([&s.expr])));
        run.bind(&At::new(), &needs)?;
        for store in &kernel.stores {
            let data =
                plan.values.get(store.value).ok_or_else(|| EvalError::missing(Src::Value(store.value)))?;
            if run.blocks_of(&store.expr).iter().next().is_some() {
                return Err(run.malformed(format!("{} is stored from one block of a pass", store.value)));
            }
            let values = run.scope.value(&run.what, &store.expr, &store.axes, data.dtype)?;
            let index = store
                .index
                .iter()
                .map(|i| run.scope.value(&run.what, i, &store.axes, DType::I64))
                .collect::<Result<Vec<_>, _>>()?;
            writes.push((store.value, index, values));
        }
        run.unbind();
    }
    for (v, index, values) in writes {
        let src = Src::Value(v);
        let mut tensor = match scope.arrays.remove(&src) {
            Some(array) => array.tensor,
            None => match &plan.values[v].def {
                Def::Update { of, .. } => {
                    let old = scope.arrays.get(&Src::Value(*of));
                    old.ok_or_else(|| EvalError::missing(Src::Value(*of)))?.tensor.clone()
                }
                _ => {
                    let dims = scope.dims(&plan.values[v].axes)?;
                    let count = elements(&v.to_string(), &dims)?;
                    Arc::new(Tensor { dims, data: vec![scope.d.undefined(); count] })
                }
            },
        };
        scatter(scope.d, &v.to_string(), Arc::make_mut(&mut tensor), &index, &values)?;
        scope.arrays.insert(src, Array::new(tensor));
    }
    Ok(())
}

impl<D: Domain> KernelRun<'_, '_, D> {
    fn malformed(&self, message: String) -> EvalError {
        EvalError::Malformed { what: self.what.clone(), message }
    }

    /// The axes by whose blocks an expression varies.
    fn blocks_of(&self, ex: &Ex) -> BTreeSet<Axis> {
        let mut out = BTreeSet::new();
        ex.visit(&mut |e| {
            if let Expr::Local(l) = e {
                out.extend(self.blocked.get(l).into_iter().flatten().copied());
            }
        });
        out
    }

    fn count(&mut self, axis: Axis) -> Result<usize, EvalError> {
        Ok(self.extent(axis)?.1.div_ceil(self.block))
    }

    /// The first position of an axis and how many there are, in this run.
    fn extent(&mut self, axis: Axis) -> Result<(usize, usize), EvalError> {
        match self.run {
            Some(r) if r.axis == axis => Ok((r.start, r.len)),
            _ => {
                self.scope.windows.remove(&axis);
                Ok((0, self.scope.len(axis)?))
            }
        }
    }

    /// All choices of a block for each of some axes.
    fn choices(&mut self, axes: &BTreeSet<Axis>) -> Result<Vec<At>, EvalError> {
        let mut out = vec![At::new()];
        for &axis in axes {
            let n = self.count(axis)?;
            out = out
                .into_iter()
                .flat_map(|at| {
                    (0..n).map(move |o| {
                        let mut at = at.clone();
                        at.insert(axis, o);
                        at
                    })
                })
                .collect();
        }
        Ok(out)
    }

    fn key(&self, l: Local, at: &At) -> Key {
        let blocks = self.blocked.get(&l).into_iter().flatten().map(|a| at.get(a).copied().unwrap_or(0));
        (l, blocks.collect())
    }

    /// The locals that are arrays and that some expressions need, through maps as well.
    fn needs<'e>(&self, of: impl IntoIterator<Item = &'e Ex>) -> BTreeSet<Local> {
        let mut out = BTreeSet::new();
        of.into_iter().for_each(|e| {
            e.visit(&mut |e| {
                if let Expr::Local(l) = e {
                    out.extend(self.needed.get(l).into_iter().flatten());
                }
            });
        });
        out
    }

    /// Narrows axes to the given blocks and binds the locals that are needed and are arrays there.
    fn bind(&mut self, at: &At, needs: &BTreeSet<Local>) -> Result<(), EvalError> {
        self.scope.windows.clear();
        if let Some(r) = self.run {
            self.scope.windows.insert(r.axis, (r.start as i64, r.len));
            self.scope.windows.insert(r.number, (r.at as i64, 1));
        }
        for (&axis, &o) in at {
            let (first, n) = self.extent(axis)?;
            let start = o * self.block;
            let window = ((first + start) as i64, self.block.min(n.saturating_sub(start)));
            self.scope.windows.insert(axis, window);
        }
        for l in std::mem::take(&mut self.bound) {
            self.scope.arrays.remove(&Src::Local(l));
        }
        for &l in needs {
            let here = self.blocked.get(&l).is_some_and(|b| b.iter().all(|a| at.contains_key(a)));
            let src = Src::Local(l);
            if here && let Some(t) = self.values.get(&self.key(l, at)) {
                let axes = &self.kernel.locals[l].axes;
                // Arrays of one block start with it; others start with the run, or with their axes.
                let start = |a: &Axis| match (self.scope.windows.get(a), self.run) {
                    (Some(&(start, _)), _) if self.blocked[&l].contains(a) => start,
                    (_, Some(r)) if r.axis == *a => r.start as i64,
                    _ => 0,
                };
                let origin = axes.iter().map(start).collect();
                self.scope.arrays.insert(src, Array { tensor: t.clone(), origin });
                self.bound.push(l);
            }
        }
        Ok(())
    }

    fn unbind(&mut self) {
        self.scope.windows.clear();
        for l in self.kernel.locals.keys() {
            self.scope.forget(Src::Local(l));
            self.scope.arrays.remove(&Src::Local(l));
        }
    }

    /// Makes a local known: maps by their expression, others by their arrays.
    fn local(&mut self, l: Local) -> Result<(), EvalError> {
        let data = &self.kernel.locals[l];
        let mut blocked = BTreeSet::new();
        match &data.def {
            LocalDef::Map(e) => {
                blocked.extend(self.blocks_of(e));
                self.blocked.insert(l, blocked);
                self.needed.insert(l, self.needs([e]));
                self.scope.declare(Src::Local(l), Leaf::Inline(e.clone()));
                return Ok(());
            }
            LocalDef::Reduce { axes, body, .. } => {
                blocked.extend(self.blocks_of(body));
                if axes.iter().any(|a| blocked.contains(a)) {
                    return Err(
                        self.malformed(format!("{l} reduces a whole axis over a value of its blocks"))
                    );
                }
            }
            LocalDef::Block { axis, body, .. } => {
                blocked.extend(self.blocks_of(body));
                blocked.insert(*axis);
            }
            LocalDef::Running { axis, block, .. } => {
                blocked.extend(self.blocks_of(block));
                blocked.remove(axis);
            }
            LocalDef::Fold { axis, block, tracks, .. } => {
                blocked.extend(self.blocks_of(block));
                for (t, y) in tracks {
                    blocked.extend(self.blocked.get(t).into_iter().flatten().copied());
                    blocked.extend(self.blocked.get(y).into_iter().flatten().copied());
                }
                blocked.remove(axis);
            }
        }
        self.blocked.insert(l, blocked.clone());
        self.needed.insert(l, BTreeSet::from([l]));
        let needs = match &data.def {
            LocalDef::Map(_) => BTreeSet::new(),
            LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. } => self.needs([body]),
            LocalDef::Running { block, .. } => self.needs([block]),
            LocalDef::Fold { block, action, tracks, .. } => {
                let tracked: Vec<Ex> = tracks.iter().map(|&(t, _)| local(t)).collect();
                self.needs(tracked.iter().chain([block, action]))
            }
        };
        let what = format!("{} {l}", self.what);
        for at in self.choices(&blocked)? {
            let tensor = match &data.def {
                LocalDef::Map(_) => continue,
                LocalDef::Reduce { op, axes, body } => {
                    self.bind(&at, &needs)?;
                    let (t, sort) = self.scope.reduced(&what, *op, body, &data.axes, axes)?;
                    self.sorts.insert(l, sort);
                    t
                }
                LocalDef::Block { op, axis, body } => {
                    self.bind(&at, &needs)?;
                    let (t, sort) = self.scope.reduced(&what, *op, body, &data.axes, &[*axis])?;
                    self.sorts.insert(l, sort);
                    t
                }
                LocalDef::Running { .. } => {
                    self.running(&Pass { local: l, what: &what, at: &at, needs: &needs })?
                }
                LocalDef::Fold { .. } => {
                    self.fold(&Pass { local: l, what: &what, at: &at, needs: &needs })?
                }
            };
            self.values.insert(self.key(l, &at), Arc::new(tensor));
        }
        let sort = self.sorts.get(&l).copied().unwrap_or(Sort::F32);
        self.scope.declare(Src::Local(l), Leaf::Array(data.axes.clone(), sort));
        Ok(())
    }

    fn constant(&mut self, axes: &[Axis], x: f64) -> Result<Tensor<D::T>, EvalError> {
        let dims = self.scope.dims(axes)?;
        let count = elements(&self.what, &dims)?;
        Ok(Tensor { dims, data: vec![self.scope.d.num(x); count] })
    }

    fn running(&mut self, pass: &Pass<'_>) -> Result<Tensor<D::T>, EvalError> {
        let &Pass { local: l, what, at, needs } = pass;
        let LocalDef::Running { op, axis, block } = &self.kernel.locals[l].def else {
            return Err(EvalError::Internal("a running value is none"));
        };
        let (op, axis, block) = (*op, *axis, block.clone());
        let axes = self.kernel.locals[l].axes.clone();
        self.bind(at, needs)?;
        let mut value = self.constant(&axes, op.identity())?;
        let mut trace = Vec::new();
        for o in 0..self.count(axis)? {
            let mut here = at.clone();
            here.insert(axis, o);
            self.bind(&here, needs)?;
            let (new, sort) = self.scope.exact(what, &block, &axes)?;
            self.sorts.insert(l, sort);
            for (a, b) in value.data.iter_mut().zip(new.data) {
                *a = self.scope.d.binary(op.combine(), sort, *a, b);
            }
            trace.push(value.clone());
        }
        self.traces.insert(self.key(l, at), trace);
        Ok(value)
    }

    /// A fold: after each block, what was accumulated and what the block adds are moved to the new tracked values.
    fn fold(&mut self, pass: &Pass<'_>) -> Result<Tensor<D::T>, EvalError> {
        let &Pass { local: l, what, at, needs } = pass;
        let LocalDef::Fold { op, axis, block, action, tracks } = &self.kernel.locals[l].def else {
            return Err(EvalError::Internal("a fold is no fold"));
        };
        let (op, axis, block, action, tracks) = (*op, *axis, block.clone(), action.clone(), tracks.clone());
        let axes = self.kernel.locals[l].axes.clone();
        self.bind(at, needs)?;
        let mut value = self.constant(&axes, op.identity())?;
        let mut sort = Sort::F32;
        let mut trace = Vec::new();
        for o in 0..self.count(axis)? {
            let mut here = at.clone();
            here.insert(axis, o);
            self.bind(&here, needs)?;
            let (of_block, s) = self.scope.exact(what, &block, &axes)?;
            sort = s;
            // The tracked values as they were, of the block, and as they are now.
            let (mut before, mut own, mut after) = (Vec::new(), Vec::new(), Vec::new());
            for &(t, y) in &tracks {
                let Some(op) = self.kernel.locals[y].def.runs() else {
                    return Err(self.malformed(format!("{l} tracks {y}, which is not a running value")));
                };
                let t_axes = self.kernel.locals[t].axes.clone();
                let y_axes = self.kernel.locals[y].axes.clone();
                let (value, sort) = self.scope.exact(what, &local(t), &t_axes)?;
                let missing =
                    |run: &Self| run.malformed(format!("{l} tracks {y}, which does not run over {axis}"));
                let trace = self.traces.get(&self.key(y, at)).ok_or_else(|| missing(self))?;
                let now = trace.get(o).cloned().ok_or_else(|| missing(self))?;
                let then = match o {
                    0 => self.constant(&y_axes, op.identity())?,
                    o => trace[o - 1].clone(),
                };
                before.push(Held { local: t, axes: y_axes.clone(), sort, tensor: then });
                own.push(Held { local: t, axes: t_axes, sort, tensor: value });
                after.push(Held { local: y, axes: y_axes, sort, tensor: now });
            }
            let old = Held { local: l, axes: axes.clone(), sort, tensor: value };
            let new = Held { local: l, axes: axes.clone(), sort, tensor: of_block };
            let moved = self.moved(what, &action, [&[old], &before[..], &after[..]], &axes)?;
            let joined = self.moved(what, &action, [&[new], &own[..], &after[..]], &axes)?;
            // A sum of nothing is nothing, wherever it is moved to.
            let d = self.scope.d;
            let mut fresh = (self.kernel.locals.len() as u32..).map(Local::from_u32);
            let mut held = Vec::new();
            let mut parts = Vec::new();
            for (tensor, of) in [(moved, &before), (joined, &own)] {
                let mut name = |axes: &[Axis], sort: Sort, tensor: Tensor<D::T>| {
                    let l = fresh.next().unwrap_or(l);
                    held.push(Held { local: l, axes: axes.to_vec(), sort, tensor });
                    local(l)
                };
                let part = name(&axes, sort, tensor);
                let mut nothing = Vec::new();
                for (h, &(_, y)) in of.iter().zip(&tracks).filter(|_| op == Reduction::Sum) {
                    let Some(op) = self.kernel.locals[y].def.runs() else { continue };
                    let none = h.tensor.map(|&x| d.num(f64::from(u8::from(d.is_identity(op, x)))));
                    nothing.push((op, name(&h.axes, Sort::Bool, none)));
                }
                parts.push(match nothing_yet(&nothing) {
                    None => part,
                    Some(nothing) => select(nothing, num(0.0), part),
                });
            }
            let both = parts.into_iter().reduce(|a, b| binary(op.combine(), a, b));
            let both = both.ok_or(EvalError::Internal("a fold has no parts"))?;
            value = self.moved(what, &both, [&held, &[], &[]], &axes)?;
            trace.push(value.clone());
        }
        self.traces.insert(self.key(l, at), trace);
        self.sorts.insert(l, sort);
        Ok(value)
    }

    /// The value of an expression while these locals have these values.
    fn moved(
        &mut self,
        what: &str,
        e: &Ex,
        held: [&[Held<D::T>]; 3],
        axes: &[Axis],
    ) -> Result<Tensor<D::T>, EvalError> {
        let mut kept = Vec::new();
        for h in held.into_iter().flatten() {
            let src = Src::Local(h.local);
            let array = self.scope.windowed(h.tensor.clone(), &h.axes);
            let leaf = self.scope.declare(src, Leaf::Array(h.axes.clone(), h.sort));
            kept.push((src, leaf, self.scope.arrays.insert(src, array)));
        }
        let out = self.scope.exact(what, e, axes);
        for (src, leaf, array) in kept.into_iter().rev() {
            match leaf {
                Some(leaf) => _ = self.scope.declare(src, leaf),
                None => self.scope.forget(src),
            }
            match array {
                Some(array) => self.scope.arrays.insert(src, array),
                None => self.scope.arrays.remove(&src),
            };
        }
        Ok(out?.0)
    }
}

/// A value that a local has for a while.
struct Held<T> {
    local: Local,
    axes: Vec<Axis>,
    sort: Sort,
    tensor: Tensor<T>,
}
