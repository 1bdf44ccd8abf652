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
use tilewright_ir::plan::{KernelPlan, LocalData, LocalDef, Plan, Store};
use tilewright_ir::tile::{BufferParam, Carried, DotKind, Op, Place, Role, TileAxis, TileData, TileProgram};
use tilewright_ir::{
    Axis, Binary, DType, Ex, Expr, Extent, Local, Param, Reduction, Sym, SymData, Tile, Unary, Value,
};

use super::blocks::{Blocks, worth};
use super::contract::{factors, split};
use super::typing;
use crate::PassError;

/// The most elements of an accumulator that is reduced only after its loop.
const DEFER: u64 = 4096;

type Env = BTreeMap<Axis, Axis>;

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
    real: DType,
    p: TileProgram,
    bound: BTreeMap<Axis, Axis>,
    params: IndexMap<Value, Param>,
    scopes: Vec<Scope>,
    next_scope: u32,
    varies: SecondaryMap<Tile, BTreeSet<Axis>>,
    done: HashMap<(Local, Vec<(Axis, Axis)>), (Tile, u32)>,
    maps: HashMap<(Ex, Vec<Axis>), (Tile, u32)>,
    loads: HashMap<(Param, Vec<Ex>), (Tile, u32)>,
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
        real: DType::F32,
        p: TileProgram { name: kernel.name.clone(), warps: blocks.warps, ..TileProgram::default() },
        bound: BTreeMap::new(),
        params: IndexMap::new(),
        scopes: vec![Scope { id: 0, axis: None, ops: Vec::new() }],
        next_scope: 1,
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
        let suffix = if kernel.grid.contains(&a) { "_" } else { "" };
        let t = l.axis(a, block, role, suffix);
        l.bound.insert(a, t);
    }
    for v in crate::partition::build::reads(kernel) {
        l.param(v, false);
    }
    let touched = l.params.keys().copied().chain(kernel.stores.iter().map(|s| s.value));
    if touched.into_iter().any(|v| plan.values[v].dtype == DType::F64) {
        l.real = DType::F64;
    }
    l.one_loop_each();
    for s in &kernel.stores {
        l.store(s, &env)?;
    }
    let scope = l.scopes.pop().ok_or_else(|| PassError::Bug("the outermost scope is gone".into()))?;
    l.p.body = scope.ops;
    Ok((l.p, l.params.keys().copied().collect(), l.refinements.into_iter().collect()))
}

fn and(mask: Option<Ex>, e: Ex) -> Option<Ex> {
    Some(match mask {
        None => e,
        Some(m) if m == e => m,
        Some(m) => ex::binary(Binary::And, m, e),
    })
}

impl Lower<'_> {
    fn axis(&mut self, a: Axis, block: u32, role: Role, suffix: &str) -> Axis {
        let data = &self.plan.axes[a];
        let name = format!("{}{suffix}", data.name);
        self.p.axes.push(TileAxis { name, extent: data.extent, block, role })
    }

    fn param(&mut self, v: Value, written: bool) -> Param {
        if let Some(&p) = self.params.get(&v) {
            return p;
        }
        let data = &self.plan.values[v];
        let name = if data.name.is_empty() { v.to_string() } else { data.name.clone() };
        let dims = data.axes.iter().map(|&a| self.plan.axes[a].extent).collect();
        let p = self.p.params.push(BufferParam { name, dtype: data.dtype, dims, written });
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

    // ---- expressions -------------------------------------------------------------------------------------------

    /// The axes of blocks above 1 that an expression over tiles spans.
    fn axes(&self, e: &Ex) -> BTreeSet<Axis> {
        typing::axes(&self.p, e).into_iter().filter(|&a| self.p.axes[a].block > 1).collect()
    }

    /// The loops that an expression over tiles varies with.
    fn variance(&self, e: &Ex) -> BTreeSet<Axis> {
        let mut out = BTreeSet::new();
        e.visit(&mut |e| match e {
            Expr::Tile(t) => out.extend(self.varies[*t].iter().copied()),
            Expr::Pos(a) if self.p.axes[*a].role == Role::Loop => {
                out.insert(*a);
            }
            _ => {}
        });
        out
    }

    /// The scope in which something with this variance is computed.
    fn scope_of(&self, varies: &BTreeSet<Axis>) -> usize {
        self.scopes.iter().rposition(|s| s.axis.is_some_and(|a| varies.contains(&a))).unwrap_or(0)
    }

    fn open(&self, id: u32) -> bool {
        self.scopes.iter().any(|s| s.id == id)
    }

    fn tile(&mut self, dtype: DType, axes: &BTreeSet<Axis>, varies: BTreeSet<Axis>) -> Tile {
        let axes = axes.iter().copied().collect();
        let t = self.p.tiles.push(TileData { dtype, axes, place: Place::Unassigned });
        self.varies[t] = varies;
        t
    }

    fn emit(&mut self, op: Op, varies: &BTreeSet<Axis>) -> u32 {
        let n = self.scope_of(varies);
        self.scopes[n].ops.push(op);
        self.scopes[n].id
    }

    fn lower_ex(&mut self, e: &Ex, env: &Env) -> Result<Ex, PassError> {
        Ok(match &**e {
            Expr::Num(_) | Expr::Size(_) | Expr::Tile(_) => e.clone(),
            Expr::Pos(a) => match env.get(a) {
                Some(&t) => ex::pos(t),
                None => {
                    let name = &self.plan.axes[*a].name;
                    return Err(PassError::Bug(format!(
                        "axis `{name}` is not in scope in kernel `{}`",
                        self.p.name
                    )));
                }
            },
            Expr::Read(v, index) => {
                let index = index.iter().map(|i| self.lower_ex(i, env)).collect::<Result<Vec<_>, _>>()?;
                ex::tile(self.load(*v, index)?)
            }
            Expr::Local(l) => ex::tile(self.local(*l, env)?),
            Expr::Reduce(..) => return Err(PassError::Bug("a plan holds a nested reduction".into())),
            other => {
                let mut failed = None;
                let mapped = other.map_children(|c| match self.lower_ex(c, env) {
                    Ok(c) => c,
                    Err(e) => {
                        failed.get_or_insert(e);
                        c.clone()
                    }
                });
                if let Some(e) = failed {
                    return Err(e);
                }
                std::sync::Arc::new(mapped)
            }
        })
    }

    /// Computes parts of an expression that span fewer axes, or vary with fewer loops, once.
    fn hoist(&mut self, e: &Ex) -> Ex {
        let (axes, varies) = (self.axes(e), self.variance(e));
        let mapped = e.map_children(|c| {
            let c = self.hoist(c);
            let smaller = self.axes(&c) != axes || self.variance(&c) != varies;
            if smaller && expense(&c) >= 4 { ex::tile(self.map(&c, None)) } else { c }
        });
        std::sync::Arc::new(mapped)
    }

    /// A tile that holds the expression, over the given axes or its own.
    fn map(&mut self, e: &Ex, axes: Option<&BTreeSet<Axis>>) -> Tile {
        self.map_as(e, axes, None)
    }

    fn map_as(&mut self, e: &Ex, axes: Option<&BTreeSet<Axis>>, dtype: Option<DType>) -> Tile {
        let own = self.axes(e);
        let axes = axes.cloned().unwrap_or_else(|| own.clone());
        let dtype = dtype.unwrap_or_else(|| typing::dtype(&self.p, e, self.real));
        if let Expr::Tile(t) = &**e
            && own == axes
            && self.p.tiles[*t].dtype == dtype
        {
            return *t;
        }
        let e = self.hoist(e);
        let cast = ex::cast(dtype, e.clone());
        let key = (cast, axes.iter().copied().collect::<Vec<_>>());
        if let Some(&(t, scope)) = self.maps.get(&key)
            && self.open(scope)
        {
            return t;
        }
        let varies = self.variance(&e);
        let out = self.tile(dtype, &axes, varies.clone());
        let scope = self.emit(Op::Map { out, expr: e }, &varies);
        self.maps.insert(key, (out, scope));
        out
    }

    // ---- memory ------------------------------------------------------------------------------------------------

    /// The condition that the position along an axis exists, if it is not always true.
    fn valid(&self, a: Axis) -> Option<Ex> {
        let axis = &self.p.axes[a];
        let exact = match axis.extent {
            Extent::Const(n) => n % u64::from(axis.block) == 0,
            Extent::Sym(_) => axis.block == 1,
        };
        (!exact).then(|| ex::binary(Binary::Lt, ex::pos(a), ex::size(axis.extent)))
    }

    fn at_most(&self, e: Extent) -> u64 {
        match e {
            Extent::Const(n) => n,
            Extent::Sym(s) => self.symbols[s].max,
        }
    }

    /// Where the indices are inside the buffer and the positions exist.
    fn mask(&self, dims: &[Extent], index: &[Ex]) -> Option<Ex> {
        let mut mask = None;
        for (i, &dim) in index.iter().zip(dims) {
            for a in typing::axes(&self.p, i) {
                if let Some(v) = self.valid(a) {
                    mask = and(mask, v);
                }
            }
            let inside = match &**i {
                Expr::Pos(a) => {
                    let extent = self.p.axes[*a].extent;
                    let least = match dim {
                        Extent::Const(n) => n,
                        Extent::Sym(s) => self.symbols[s].min,
                    };
                    extent == dim || self.at_most(extent) <= least
                }
                Expr::Num(n) => matches!(dim, Extent::Const(d) if n.0 >= 0.0 && n.0 < d as f64),
                _ => false,
            };
            if !inside {
                if !never_negative(i) {
                    mask = and(mask, ex::binary(Binary::Ge, i.clone(), ex::num(0.0)));
                }
                mask = and(mask, ex::binary(Binary::Lt, i.clone(), ex::size(dim)));
            }
        }
        mask
    }

    fn load(&mut self, v: Value, index: Vec<Ex>) -> Result<Tile, PassError> {
        let param = self.param(v, false);
        // Indices that are more than a position are computed as tiles of their own when they are not cheap.
        let index: Vec<Ex> = index.iter().map(|i| self.hoist(i)).collect();
        let key = (param, index.clone());
        if let Some(&(t, scope)) = self.loads.get(&key)
            && self.open(scope)
        {
            return Ok(t);
        }
        let dims = self.p.params[param].dims.clone();
        let mask = self.mask(&dims, &index);
        let mut axes = BTreeSet::new();
        let mut varies = BTreeSet::new();
        for i in &index {
            axes.extend(self.axes(i));
            varies.extend(self.variance(i));
        }
        let out = self.tile(self.p.params[param].dtype, &axes, varies.clone());
        let scope = self.emit(Op::Load { out, param, index, mask, fill: 0.0 }, &varies);
        self.loads.insert(key, (out, scope));
        Ok(out)
    }

    fn store(&mut self, s: &Store, env: &Env) -> Result<(), PassError> {
        let e = self.lower_ex(&s.expr, env)?;
        let index = s.index.iter().map(|i| self.lower_ex(i, env)).collect::<Result<Vec<_>, _>>()?;
        if self.params.contains_key(&s.value) {
            let name = &self.plan.values[s.value].name;
            return Err(PassError::Limit(format!(
                "kernel `{}` would read `{name}` while writing it",
                self.p.name
            )));
        }
        let param = self.param(s.value, true);
        let axes: BTreeSet<Axis> =
            s.axes.iter().filter_map(|a| env.get(a).copied()).filter(|&a| self.p.axes[a].block > 1).collect();
        let value = self.map(&e, Some(&axes));
        let dims = self.p.params[param].dims.clone();
        let mut mask = self.mask(&dims, &index);
        for &a in &axes {
            // An axis that no index mentions would store the same element many times; the last is as good.
            if let Some(v) = self.valid(a)
                && !index.iter().any(|i| typing::axes(&self.p, i).contains(&a))
            {
                mask = and(mask, v);
            }
        }
        self.emit(Op::Store { param, index, mask, value }, &BTreeSet::new());
        Ok(())
    }

    // ---- locals ------------------------------------------------------------------------------------------------

    /// The plan axes that a local depends on, the streamed axis of block values included.
    fn depends(&self, l: Local) -> BTreeSet<Axis> {
        let of = |e: &Ex| {
            let mut out = e.free_axes();
            e.visit(&mut |e| {
                if let Expr::Local(l) = e {
                    out.extend(self.depends(*l));
                }
            });
            out
        };
        match &self.locals[l].def {
            LocalDef::Map(e) => of(e),
            LocalDef::Reduce { axes, body, .. } => {
                let mut s = of(body);
                axes.iter().for_each(|a| {
                    s.remove(a);
                });
                s
            }
            LocalDef::Block { axis, body, .. } => {
                let mut s = of(body);
                s.insert(*axis);
                s
            }
            LocalDef::Running { axis, block, .. } | LocalDef::Fold { axis, block, .. } => {
                let mut s = of(block);
                s.remove(axis);
                s
            }
        }
    }

    fn key(&self, l: Local, env: &Env) -> (Local, Vec<(Axis, Axis)>) {
        let d = self.depends(l);
        (l, env.iter().filter(|(a, _)| d.contains(a)).map(|(&a, &t)| (a, t)).collect())
    }

    fn finished(&self, l: Local, env: &Env) -> Option<Tile> {
        self.done.get(&self.key(l, env)).filter(|(_, s)| self.open(*s)).map(|(t, _)| *t)
    }

    fn local(&mut self, l: Local, env: &Env) -> Result<Tile, PassError> {
        if let Some(t) = self.finished(l, env) {
            return Ok(t);
        }
        let tile = match self.locals[l].def.clone() {
            LocalDef::Map(e) => {
                let e = self.lower_ex(&e, env)?;
                self.map(&e, None)
            }
            LocalDef::Reduce { op, axes, body } => match axes.iter().find(|&&a| self.loops(a)) {
                None => self.reduce_tile(op, &axes, &body, env)?,
                Some(&a) => return self.stream(l, a, env),
            },
            LocalDef::Block { op, axis, body } => self.reduce_tile(op, &[axis], &body, env)?,
            LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => return self.stream(l, axis, env),
        };
        let scope = self.scopes[self.scope_of(&self.varies[tile])].id;
        let key = self.key(l, env);
        self.done.insert(key, (tile, scope));
        Ok(tile)
    }

    fn bind(&self, axes: &[Axis], env: &Env) -> (Env, BTreeSet<Axis>) {
        let mut inner = env.clone();
        let mut bound = BTreeSet::new();
        for a in axes {
            inner.insert(*a, self.bound[a]);
            bound.insert(self.bound[a]);
        }
        (inner, bound)
    }

    /// A reduction whose axes are all within one tile.
    fn reduce_tile(&mut self, op: Reduction, axes: &[Axis], body: &Ex, env: &Env) -> Result<Tile, PassError> {
        let (env, bound) = self.bind(axes, env);
        if op == Reduction::Sum
            && let Some((dot, outside)) = self.contraction(body, &bound, &env)?
        {
            let out = self.dot(&dot, None);
            return Ok(self.scale(out, &outside));
        }
        let e = self.lower_ex(body, &env)?;
        let masked = self.masked(&e, &bound, op);
        let src = self.map(&masked, None);
        Ok(self.reduce_src(op, &bound, src))
    }

    fn reduce_src(&mut self, op: Reduction, bound: &BTreeSet<Axis>, src: Tile) -> Tile {
        let spanned: BTreeSet<Axis> = self.p.tiles[src].axes.iter().copied().collect();
        let over: Vec<Axis> = bound.iter().copied().filter(|a| spanned.contains(a)).collect();
        // A body that does not depend on an axis counts once per position.
        let missing: Vec<Axis> =
            bound.iter().copied().filter(|a| !spanned.contains(a) && self.p.axes[*a].block > 1).collect();
        let dtype = match self.p.tiles[src].dtype {
            d @ (DType::F32 | DType::F64 | DType::I64 | DType::I32) => d,
            d if d.is_float() => self.real,
            _ => DType::I32,
        };
        let src = if missing.is_empty() {
            src
        } else {
            let axes: BTreeSet<Axis> = spanned.iter().copied().chain(missing.iter().copied()).collect();
            let mut e = ex::tile(src);
            for &a in &missing {
                if let Some(v) = self.valid(a) {
                    e = ex::select(v, e, ex::num(op.identity()));
                }
            }
            self.map_as(&e, Some(&axes), Some(dtype))
        };
        let over: Vec<Axis> = over.into_iter().chain(missing).collect();
        if over.is_empty() {
            return src;
        }
        let axes: BTreeSet<Axis> =
            self.p.tiles[src].axes.iter().copied().filter(|a| !over.contains(a)).collect();
        let varies = self.varies[src].clone();
        let out = self.tile(dtype, &axes, varies.clone());
        self.emit(Op::Reduce { out, op, axes: over, src }, &varies);
        out
    }

    /// The expression with positions beyond the extents of `bound` replaced by the identity.
    fn masked(&self, e: &Ex, bound: &BTreeSet<Axis>, op: Reduction) -> Ex {
        let spanned = self.axes(e);
        let ragged: Vec<(Axis, Ex)> =
            bound.iter().filter(|a| spanned.contains(a)).filter_map(|&a| Some((a, self.valid(a)?))).collect();
        if ragged.is_empty() || (op == Reduction::Sum && self.zero_beyond(e, &ragged)) {
            return e.clone();
        }
        let mut mask = None;
        for (_, v) in ragged {
            mask = and(mask, v);
        }
        match mask {
            Some(m) => ex::select(m, e.clone(), ex::num(op.identity())),
            None => e.clone(),
        }
    }

    /// Whether a product is 0 beyond the extents by itself: for each ragged axis a factor is a plain load, which reads 0
    /// there, and everything else along that axis is a plain load, too.
    fn zero_beyond(&self, e: &Ex, ragged: &[(Axis, Ex)]) -> bool {
        let fs = factors(e);
        ragged.iter().all(|(a, _)| {
            let along: Vec<&Ex> = fs.iter().filter(|f| self.axes(f).contains(a)).collect();
            !along.is_empty() && along.iter().all(|f| self.is_load(f))
        })
    }

    fn is_load(&self, e: &Ex) -> bool {
        matches!(&**e, Expr::Tile(t) if self.loads.values().any(|(l, _)| l == t))
    }

    // ---- contractions ------------------------------------------------------------------------------------------

    /// Tries to read a summed body as a contraction worth operand tiles.
    fn contraction(
        &mut self,
        body: &Ex,
        bound: &BTreeSet<Axis>,
        env: &Env,
    ) -> Result<Option<(Operands, Vec<Ex>)>, PassError> {
        let mut fs = Vec::new();
        for f in factors(body) {
            match &*f {
                Expr::Local(l) => match &self.locals[*l].def {
                    LocalDef::Map(m) if matches!(&**m, Expr::Binary(Binary::Mul, ..)) => {
                        fs.extend(factors(m))
                    }
                    _ => fs.push(f),
                },
                _ => fs.push(f),
            }
        }
        let summed: BTreeSet<Axis> = bound.iter().copied().filter(|&a| self.p.axes[a].block > 1).collect();
        if summed.is_empty() || fs.len() < 2 {
            return Ok(None);
        }
        let lowered = fs.iter().map(|f| self.lower_ex(f, env)).collect::<Result<Vec<_>, _>>()?;
        let Some(s) = split(&lowered, &summed, &|e| self.axes(e)) else { return Ok(None) };
        let side = |es: &[Ex]| -> u64 {
            let axes: BTreeSet<Axis> = es.iter().flat_map(|e| self.axes(e)).collect();
            axes.difference(&summed).map(|&a| u64::from(self.p.axes[a].block)).product()
        };
        let k: u64 = summed.iter().map(|&a| u64::from(self.p.axes[a].block)).product();
        if !worth(side(&s.a), side(&s.b), k) {
            return Ok(None);
        }
        let kind = self.dot_kind(&s.a, &s.b);
        let over: Vec<Axis> = summed.iter().copied().collect();
        let a = self.operand(&s.a, &summed, kind);
        let b = self.operand(&s.b, &summed, kind);
        Ok(Some((Operands { a, b, over, kind }, s.outside)))
    }

    fn load_dtype(&self, e: &[Ex]) -> Option<DType> {
        match e {
            [one] if self.is_load(one) => match &**one {
                Expr::Tile(t) => Some(self.p.tiles[*t].dtype),
                _ => None,
            },
            _ => None,
        }
    }

    fn dot_kind(&self, a: &[Ex], b: &[Ex]) -> DotKind {
        let half = |d: DType| matches!(d, DType::Bf16 | DType::F16);
        match (self.load_dtype(a), self.load_dtype(b)) {
            (Some(x), Some(y)) if x == y && half(x) => DotKind::Mma(x),
            (Some(x), None) | (None, Some(x)) if half(x) && self.narrow == Some(x) => DotKind::Mma(x),
            (None, None) if self.real == DType::F32 => match self.narrow {
                Some(x) if half(x) => DotKind::Mma(x),
                _ => DotKind::Fma,
            },
            _ => DotKind::Fma,
        }
    }

    fn operand(&mut self, fs: &[Ex], summed: &BTreeSet<Axis>, kind: DotKind) -> Tile {
        let mut product: Option<Ex> = None;
        for f in fs {
            product = Some(match product {
                None => f.clone(),
                Some(p) => ex::mul(p, f.clone()),
            });
        }
        let e = product.unwrap_or_else(|| ex::num(1.0));
        let e = self.masked(&e, summed, Reduction::Sum);
        let dtype = match kind {
            DotKind::Mma(d) => d,
            DotKind::Fma => self.real,
        };
        if let DotKind::Mma(d) = kind
            && !self.is_load(&e)
        {
            let names: Vec<&str> = summed.iter().map(|&a| self.p.axes[a].name.as_str()).collect();
            self.refinements
                .insert(format!("an operand of the contraction over {} is rounded to {d}", names.join(",")));
        }
        self.map_as(&e, None, Some(dtype))
    }

    fn dot(&mut self, d: &Operands, acc: Option<Tile>) -> Tile {
        let axes: BTreeSet<Axis> = self.p.tiles[d.a]
            .axes
            .iter()
            .chain(&self.p.tiles[d.b].axes)
            .copied()
            .filter(|a| !d.over.contains(a))
            .collect();
        let mut varies: BTreeSet<Axis> = self.varies[d.a].union(&self.varies[d.b]).copied().collect();
        if let Some(acc) = acc {
            varies.extend(self.varies[acc].iter().copied());
        }
        let out = self.tile(self.real, &axes, varies.clone());
        let op = Op::Dot { out, a: d.a, b: d.b, acc, over: d.over.clone(), kind: d.kind };
        self.emit(op, &varies);
        out
    }

    fn scale(&mut self, t: Tile, by: &[Ex]) -> Tile {
        if by.is_empty() {
            return t;
        }
        let mut e: Option<Ex> = None;
        for f in by {
            e = Some(match e {
                None => f.clone(),
                Some(x) => ex::mul(x, f.clone()),
            });
        }
        match e {
            Some(x) => self.map(&ex::mul(ex::tile(t), x), None),
            None => t,
        }
    }

    // ---- loops -------------------------------------------------------------------------------------------------

    /// The axis that a local streams, if it does.
    fn streams(&self, l: Local) -> Option<Axis> {
        match &self.locals[l].def {
            LocalDef::Reduce { axes, .. } => axes.iter().copied().find(|&a| self.loops(a)),
            LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => Some(*axis),
            LocalDef::Map(_) | LocalDef::Block { .. } => None,
        }
    }

    /// The locals that a local's value needs. A fold needs what it tracks in step with it, not before it.
    fn needs(&self, l: Local) -> Vec<Local> {
        let mut out = Vec::new();
        let mut note = |e: &Ex| {
            e.visit(&mut |e| {
                if let Expr::Local(l) = e {
                    out.push(*l);
                }
            });
        };
        match &self.locals[l].def {
            LocalDef::Map(e) => note(e),
            LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. } => note(body),
            LocalDef::Running { block, .. } | LocalDef::Fold { block, .. } => note(block),
        }
        out
    }

    fn reaches(&self, from: Local, to: &BTreeSet<Local>, seen: &mut BTreeSet<Local>) -> bool {
        self.needs(from).into_iter().any(|n| to.contains(&n) || (seen.insert(n) && self.reaches(n, to, seen)))
    }

    /// Runs loops over `axis` until `wanted` is finished. Every reduction that is ready shares the loop.
    fn stream(&mut self, wanted: Local, axis: Axis, env: &Env) -> Result<Tile, PassError> {
        let outer = |s: &Self, l: Local| -> BTreeSet<Axis> {
            s.depends(l)
                .into_iter()
                .filter_map(|a| env.get(&a).copied())
                .filter(|&t| s.p.axes[t].role == Role::Loop)
                .collect()
        };
        let level = outer(self, wanted);
        let home = self.scope_of(&level);
        // Loops that are open inside of the home scope wait while this one is built before them.
        let waiting = self.scopes.split_off(home + 1);
        for _ in 0..=self.locals.len() {
            let unfinished: BTreeSet<Local> = self
                .locals
                .keys()
                .filter(|&l| self.streams(l) == Some(axis))
                .filter(|&l| self.depends(l).iter().all(|a| env.contains_key(a)) && outer(self, l) == level)
                .filter(|&l| self.finished(l, env).is_none())
                .collect();
            if !unfinished.contains(&wanted) {
                break;
            }
            let ready: Vec<Local> = unfinished
                .iter()
                .copied()
                .filter(|&l| !self.reaches(l, &unfinished, &mut BTreeSet::new()))
                .collect();
            // Loops that are being built wait for this one: what needs them cannot be part of it.
            let building: BTreeSet<Local> = self.building.iter().copied().collect();
            let ready: Vec<Local> = ready
                .into_iter()
                .filter(|l| !building.contains(l) && !self.reaches(*l, &building, &mut BTreeSet::new()))
                .collect();
            // What a fold tracks runs in the same loop.
            let ready: Vec<Local> = ready
                .iter()
                .copied()
                .filter(|&l| match &self.locals[l].def {
                    LocalDef::Fold { tracks, .. } => {
                        tracks.iter().all(|(_, y)| ready.contains(y) || self.finished(*y, env).is_some())
                    }
                    _ => true,
                })
                .collect();
            if ready.is_empty() {
                return Err(PassError::Limit(format!(
                    "kernel `{}` nests several reductions over one axis in an order that one loop nest cannot have; name their axes apart",
                    self.p.name
                )));
            }
            let outer = self.building.len();
            self.building.extend(&ready);
            self.run(&ready, axis, env)?;
            self.building.truncate(outer);
        }
        self.scopes.extend(waiting);
        self.finished(wanted, env).ok_or_else(|| {
            PassError::Bug(format!("a reduction of kernel `{}` was never computed", self.p.name))
        })
    }

    /// One loop over `axis` that computes all `members`.
    fn run(&mut self, ready: &[Local], axis: Axis, env: &Env) -> Result<(), PassError> {
        // A fold that varies with more loops than what it tracks follows that again, in step.
        let mut members = ready.to_vec();
        for &l in ready {
            if let LocalDef::Fold { tracks, .. } = &self.locals[l].def {
                members.extend(tracks.iter().map(|&(_, y)| y));
            }
        }
        members.sort_unstable();
        members.dedup();
        let t_axis = self.bound[&axis];
        let home = self.scopes.len() - 1;
        let id = self.next_scope;
        self.next_scope += 1;
        self.scopes.push(Scope { id, axis: Some(t_axis), ops: Vec::new() });
        let mut carried: Vec<Carried> = Vec::new();
        let mut results: Vec<(Local, Tile, Option<(Reduction, BTreeSet<Axis>)>, Vec<Ex>)> = Vec::new();
        // For each running local of this loop: its value before and after the block.
        let mut running: BTreeMap<Local, (Tile, Tile)> = BTreeMap::new();
        for &l in &members {
            match self.locals[l].def.clone() {
                LocalDef::Reduce { op, axes, body } => {
                    let (inner, bound) = self.bind(&axes, env);
                    if op == Reduction::Sum
                        && let Some((dot, outside)) = self.contraction(&body, &bound, &inner)?
                    {
                        let axes: BTreeSet<Axis> = self.p.tiles[dot.a]
                            .axes
                            .iter()
                            .chain(&self.p.tiles[dot.b].axes)
                            .copied()
                            .filter(|a| !dot.over.contains(a))
                            .collect();
                        if outside.iter().all(|e| !self.variance(e).contains(&t_axis)) {
                            let c = self.carry(op.identity(), self.real, &axes, home, t_axis);
                            let next = self.dot(&dot, Some(c.inside));
                            let after = self.finish_carry(&mut carried, c, next);
                            results.push((l, after, None, outside));
                        } else {
                            let part = self.dot(&dot, None);
                            let part = self.scale(part, &outside);
                            let axes = self.p.tiles[part].axes.iter().copied().collect();
                            let c = self.carry(op.identity(), self.real, &axes, home, t_axis);
                            let sum = ex::add(ex::tile(c.inside), ex::tile(part));
                            let next = self.map(&sum, None);
                            let after = self.finish_carry(&mut carried, c, next);
                            results.push((l, after, None, Vec::new()));
                        }
                        continue;
                    }
                    let e = self.lower_ex(&body, &inner)?;
                    let e = self.masked(&e, &bound, op);
                    let e = self.hoist(&e);
                    let mut spans = self.axes(&e);
                    // A body that does not vary along a bound axis counts once per position.
                    let missing: Vec<Axis> = bound
                        .iter()
                        .copied()
                        .filter(|a| !spans.contains(a) && self.p.axes[*a].block > 1)
                        .collect();
                    let mut e = e;
                    for &a in &missing {
                        if let Some(v) = self.valid(a) {
                            e = ex::select(v, e, ex::num(op.identity()));
                        }
                        spans.insert(a);
                    }
                    let dtype = match typing::dtype(&self.p, &e, self.real) {
                        DType::Bool => DType::I32,
                        d => d,
                    };
                    let elements: u64 = spans.iter().map(|&a| u64::from(self.p.axes[a].block)).product();
                    let (part, spans, rest) = if elements <= DEFER {
                        let over: BTreeSet<Axis> = bound.intersection(&spans).copied().collect();
                        (e, spans, (!over.is_empty()).then_some((op, over)))
                    } else {
                        let src = self.map_as(&e, Some(&spans), Some(dtype));
                        let t = self.reduce_src(op, &bound, src);
                        (ex::tile(t), self.p.tiles[t].axes.iter().copied().collect(), None)
                    };
                    let c = self.carry(op.identity(), dtype, &spans, home, t_axis);
                    let combined = ex::binary(op.combine(), ex::tile(c.inside), part);
                    let next = self.map_as(&combined, Some(&spans), Some(dtype));
                    let after = self.finish_carry(&mut carried, c, next);
                    results.push((l, after, rest, Vec::new()));
                }
                LocalDef::Running { op, block, .. } => {
                    let (inner, _) = self.bind(&[axis], env);
                    let e = self.lower_ex(&block, &inner)?;
                    let t = self.map(&e, None);
                    let (dtype, axes) =
                        (self.p.tiles[t].dtype, self.p.tiles[t].axes.iter().copied().collect());
                    let c = self.carry(op.identity(), dtype, &axes, home, t_axis);
                    let next = self.map_as(
                        &ex::binary(op.combine(), ex::tile(c.inside), ex::tile(t)),
                        Some(&axes),
                        Some(dtype),
                    );
                    running.insert(l, (c.inside, next));
                    let after = self.finish_carry(&mut carried, c, next);
                    results.push((l, after, None, Vec::new()));
                }
                LocalDef::Fold { .. } | LocalDef::Map(_) | LocalDef::Block { .. } => {}
            }
        }
        for &l in &members {
            let LocalDef::Fold { block, rescale, tracks, .. } = self.locals[l].def.clone() else { continue };
            let (inner, _) = self.bind(&[axis], env);
            let q = self.lower_ex(&block, &inner)?;
            let q = self.map(&q, None);
            let axes: BTreeSet<Axis> = self.p.tiles[q].axes.iter().copied().collect();
            let c = self.carry(0.0, self.real, &axes, home, t_axis);
            let mut old: BTreeMap<Local, Ex> = BTreeMap::new();
            let mut new: BTreeMap<Local, Ex> = BTreeMap::new();
            let mut fresh: Option<Ex> = None;
            for &(t, y) in &tracks {
                let Some(&(before, now)) = running.get(&y) else {
                    return Err(PassError::Bug("a fold tracks a value that does not run with it".into()));
                };
                let t_tile = self.local(t, &inner)?;
                old.extend([(t, ex::tile(before)), (y, ex::tile(now))]);
                new.extend([(t, ex::tile(t_tile)), (y, ex::tile(now))]);
                let first = ex::binary(Binary::Eq, ex::tile(before), ex::num(f64::NEG_INFINITY));
                fresh = Some(match fresh {
                    None => first,
                    Some(f) => ex::binary(Binary::Or, f, first),
                });
            }
            let mut h_old = self.lower_ex(&substitute(&rescale, &old), &inner)?;
            let h_new = self.lower_ex(&substitute(&rescale, &new), &inner)?;
            if let Some(first) = fresh {
                h_old = ex::select(first, ex::num(0.0), h_old);
            }
            let h_old = self.map_as(&h_old, None, Some(self.real));
            let h_new = self.map_as(&h_new, None, Some(self.real));
            let next =
                ex::add(ex::mul(ex::tile(c.inside), ex::tile(h_old)), ex::mul(ex::tile(q), ex::tile(h_new)));
            let next = self.map_as(&next, Some(&axes), Some(self.real));
            let after = self.finish_carry(&mut carried, c, next);
            results.push((l, after, None, Vec::new()));
        }
        let Some(scope) = self.scopes.pop() else {
            return Err(PassError::Bug("a loop lost its scope".into()));
        };
        self.scopes[home].ops.push(Op::Loop { axis: t_axis, carried, body: scope.ops });
        let home_id = self.scopes[home].id;
        for (l, after, rest, outside) in results {
            let mut t = after;
            if let Some((op, over)) = rest {
                t = self.reduce_src(op, &over, t);
            }
            t = self.scale(t, &outside);
            let key = self.key(l, env);
            self.done.insert(key, (t, home_id));
        }
        Ok(())
    }

    /// A carried tile whose `next` is not known yet; its initial value is emitted before the loop.
    fn carry(
        &mut self,
        initial: f64,
        dtype: DType,
        axes: &BTreeSet<Axis>,
        home: usize,
        axis: Axis,
    ) -> Carried {
        let outer: BTreeSet<Axis> = self.scopes[..=home].iter().filter_map(|s| s.axis).collect();
        let initial_tile = self.tile(dtype, axes, outer.clone());
        self.scopes[home].ops.push(Op::Map { out: initial_tile, expr: ex::num(initial) });
        let mut inner = outer.clone();
        inner.insert(axis);
        let inside = self.tile(dtype, axes, inner);
        let after = self.tile(dtype, axes, outer);
        Carried { initial: initial_tile, inside, next: inside, after }
    }

    fn finish_carry(&mut self, carried: &mut Vec<Carried>, mut c: Carried, next: Tile) -> Tile {
        c.next = next;
        carried.push(c);
        c.after
    }
}

/// The operands of a contraction, ready as tiles.
struct Operands {
    a: Tile,
    b: Tile,
    over: Vec<Axis>,
    kind: DotKind,
}

fn substitute(e: &Ex, with: &BTreeMap<Local, Ex>) -> Ex {
    match &**e {
        Expr::Local(l) => with.get(l).cloned().unwrap_or_else(|| e.clone()),
        other => std::sync::Arc::new(other.map_children(|c| substitute(c, with))),
    }
}

/// Rough cost of computing an expression once per element.
fn expense(e: &Ex) -> u32 {
    let own = match &**e {
        Expr::Unary(Unary::Neg | Unary::Abs | Unary::Not, _) => 1,
        Expr::Unary(..) | Expr::Binary(Binary::Div | Binary::FloorDiv | Binary::Mod, ..) => 8,
        Expr::Binary(..) | Expr::Select(..) | Expr::Cast(..) => 1,
        _ => 0,
    };
    own + e.children().into_iter().map(expense).sum::<u32>()
}

/// Whether an index expression cannot be negative.
fn never_negative(e: &Ex) -> bool {
    match &**e {
        Expr::Num(n) => n.0 >= 0.0,
        Expr::Pos(_) | Expr::Size(_) => true,
        Expr::Binary(Binary::Add | Binary::Mul | Binary::FloorDiv | Binary::Max | Binary::Min, a, b) => {
            never_negative(a) && never_negative(b)
        }
        Expr::Binary(Binary::Mod, _, b) => never_negative(b),
        _ => false,
    }
}
