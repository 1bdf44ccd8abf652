//! The one lowering: kernel plans to tile programs.
//!
//! Expressions are lowered on demand. Each tile knows the loops that it varies with and is computed in the outermost scope
//! where it can be, so what a loop does not change is hoisted by construction. A demand for a reduction that streams an axis
//! opens one loop over that axis for *all* reductions over it that are ready: that is how a plan's shared passes become
//! shared loops.
//!
//! Pre: a verified kernel plan and blocks. Post: a program without places; tiles span only axes with blocks above 1
//! (the position along an axis of block 1 is one number per thread block and iteration).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cranelift_entity::{PrimaryMap, SecondaryMap};
use indexmap::IndexMap;
use tilewright_ir::expr::build as ex;
use tilewright_ir::plan::{
    KernelPlan, LocalData, LocalDef, Plan, Store, nothing_yet, parts_of_action, replace_locals,
};
use tilewright_ir::tile::{
    BufferParam, Carried, DotKind, Op, Place, Range, Role, TileAxis, TileData, TileProgram,
};
use tilewright_ir::{
    Axis, Binary, DType, Ex, Expr, Extent, Local, Param, Reduction, Sym, SymData, Tile, Unary, Value,
};

use super::blocks::Blocks;
use super::contract::{factors, split};
use super::typing;
use crate::PassError;

mod contractions;
mod exprs;
mod locals;
mod loops;
mod memory;
mod passes;
mod ranges;

/// The most elements of an accumulator that is reduced only after its loop.
const DEFER: u64 = 4096;

type Env = BTreeMap<Axis, Axis>;

/// A local at the axes that stand for the plan's.
type Instance = (Local, Vec<(Axis, Axis)>);

/// What is loaded: the buffer, the indices, and a condition besides that they are within it.
type Access = (Param, Vec<Ex>, Option<Ex>);

struct Scope {
    id: u32,
    axis: Option<Axis>,
    ops: Vec<Op>,
}

struct Lower<'a> {
    plan: &'a Plan,
    symbols: &'a PrimaryMap<Sym, SymData>,
    locals: PrimaryMap<Local, LocalData>,
    narrow: Option<DType>,
    columns: u64,
    real: DType,
    p: TileProgram,
    bound: BTreeMap<Axis, Axis>,
    /// More axes for the plan's, for loops within loops.
    again: Vec<(Axis, Axis)>,
    params: IndexMap<Value, Param>,
    scopes: Vec<Scope>,
    next_scope: u32,
    /// The axes that each local depends on.
    depends: SecondaryMap<Local, BTreeSet<Axis>>,
    varies: SecondaryMap<Tile, BTreeSet<Axis>>,
    done: HashMap<Instance, (Tile, u32)>,
    maps: HashMap<(Ex, Vec<Axis>), (Tile, u32)>,
    loads: HashMap<Access, (Tile, u32)>,
    refinements: BTreeSet<String>,
    /// Reductions whose loops are being built.
    building: Vec<Local>,
}

/// Lowers a kernel. `narrow` is the 16-bit type to which computed operands of contractions may be rounded; what was
/// rounded is returned beside the program.
pub fn lower(
    plan: &Plan,
    kernel: &KernelPlan,
    symbols: &PrimaryMap<Sym, SymData>,
    blocks: &Blocks,
    narrow: Option<DType>,
) -> Result<(TileProgram, Vec<Value>, Vec<String>), PassError> {
    let mut l = Lower {
        plan,
        symbols,
        locals: kernel.locals.clone(),
        narrow,
        columns: blocks.columns,
        real: DType::F32,
        p: TileProgram { name: kernel.name.clone(), warps: blocks.warps, ..TileProgram::default() },
        bound: BTreeMap::new(),
        again: Vec::new(),
        params: IndexMap::new(),
        scopes: vec![Scope { id: 0, axis: None, ops: Vec::new() }],
        next_scope: 1,
        depends: SecondaryMap::new(),
        varies: SecondaryMap::new(),
        done: HashMap::new(),
        maps: HashMap::new(),
        loads: HashMap::new(),
        refinements: BTreeSet::new(),
        building: Vec::new(),
    };
    let mut env = Env::new();
    for &a in &kernel.grid {
        let (block, role) = blocks.grid[&a];
        env.insert(a, l.axis(a, block, role, ""));
    }
    for (&a, &(block, role)) in &blocks.bound {
        // An axis that a block holds whole is one and the same in both: what is stored along it and what is reduced over it
        // is computed once.
        if let Some(&t) = env.get(&a).filter(|_| role == Role::Resident && blocks.grid[&a] == (block, role)) {
            l.bound.insert(a, t);
            continue;
        }
        let suffix = if kernel.grid.contains(&a) { "_" } else { "" };
        let t = l.axis(a, block, role, suffix);
        l.p.axes[t].runs = kernel.runs.filter(|r| r.axis == a).and_then(|r| env.get(&r.number).copied());
        l.bound.insert(a, t);
    }
    for v in crate::partition::build::reads(kernel) {
        l.param(v, false);
    }
    let touched = l.params.keys().copied().chain(kernel.stores.iter().map(|s| s.value));
    if touched.into_iter().any(|v| plan.values[v].dtype == DType::F64) {
        l.real = DType::F64;
    }
    // What a block goes through are loops around everything; what does not vary with one stands before it.
    let looped: Vec<Axis> =
        kernel.grid.iter().map(|a| env[a]).filter(|&t| l.p.axes[t].role == Role::Loop).collect();
    for &t in &looped {
        let id = l.next_scope;
        l.next_scope += 1;
        l.scopes.push(Scope { id, axis: Some(t), ops: Vec::new() });
    }
    l.one_loop_each();
    l.depends = locals::depends(&l.locals);
    for s in &kernel.stores {
        l.store(s, &env)?;
    }
    for axis in looped.into_iter().rev() {
        let body = l.scopes.pop().map(|s| s.ops).unwrap_or_default();
        let Some(around) = l.scopes.last_mut() else {
            return Err(PassError::Bug("a loop is around nothing".into()));
        };
        around.ops.push(Op::Loop { axis, range: Range::default(), carried: Vec::new(), body });
    }
    let scope = l.scopes.pop().ok_or_else(|| PassError::Bug("the outermost scope is gone".into()))?;
    l.p.body = scope.ops;
    Ok((l.p, l.params.keys().copied().collect(), l.refinements.into_iter().collect()))
}

impl Lower<'_> {
    fn axis(&mut self, a: Axis, block: u32, role: Role, suffix: &str) -> Axis {
        let data = &self.plan.axes[a];
        let name = format!("{}{suffix}", data.name);
        self.p.axes.push(TileAxis { name, extent: data.extent, block, role, runs: None })
    }

    fn param(&mut self, v: Value, written: bool) -> Param {
        if let Some(&p) = self.params.get(&v) {
            return p;
        }
        let data = &self.plan.values[v];
        let name = if data.name.is_empty() { v.to_string() } else { data.name.clone() };
        let dims = data.axes.iter().map(|&a| self.plan.axes[a].extent).collect();
        let p = self.p.params.push(BufferParam {
            name,
            dtype: data.dtype,
            dims,
            written,
            constant: false,
            packing: None,
            area: None,
        });
        self.params.insert(v, p);
        p
    }

    /// Splits reductions that would need several loops into nested ones.
    fn one_loop_each(&mut self) {
        let all: Vec<Local> = self.locals.keys().collect();
        for l in all {
            let data = self.locals[l].clone();
            let LocalDef::Reduce { op, axes, body } = data.def else { continue };
            let (loops, resident): (Vec<Axis>, Vec<Axis>) = axes.iter().partition(|a| self.loops(**a));
            if loops.len() < 2 {
                continue;
            }
            let mut body = body;
            let mut outer = loops.clone();
            while outer.len() > 1 {
                let Some(inner) = outer.pop() else { break };
                let mut bound = vec![inner];
                if outer.len() == loops.len() - 1 {
                    bound.extend(&resident);
                }
                let mut free = data.axes.clone();
                free.extend(&outer);
                let def = LocalDef::Reduce { op, axes: bound, body };
                body = ex::local(self.locals.push(LocalData { axes: free, def }));
            }
            self.locals[l].def = LocalDef::Reduce { op, axes: outer, body };
        }
    }

    fn loops(&self, a: Axis) -> bool {
        self.bound.get(&a).is_some_and(|&t| self.p.axes[t].role == Role::Loop)
    }
}
