//! Locals of the plan as tiles, and reductions within one tile.

use super::memory::and;
use super::*;

/// The plan axes that each local depends on, the streamed axis of block values included.
pub(super) fn depends(locals: &PrimaryMap<Local, LocalData>) -> SecondaryMap<Local, BTreeSet<Axis>> {
    let mut known = SecondaryMap::new();
    let mut done = BTreeSet::new();
    locals.keys().for_each(|l| depend(locals, l, &mut known, &mut done));
    known
}

fn depend(
    locals: &PrimaryMap<Local, LocalData>,
    l: Local,
    known: &mut SecondaryMap<Local, BTreeSet<Axis>>,
    done: &mut BTreeSet<Local>,
) {
    if !done.insert(l) {
        return;
    }
    let def = &locals[l].def;
    let tracks: &[(Local, Local)] = if let LocalDef::Fold { tracks, .. } = def { tracks } else { &[] };
    let mut out = def.value().free_axes();
    for m in def.needs().into_iter().chain(tracks.iter().map(|&(t, _)| t)) {
        depend(locals, m, known, done);
        out.extend(known[m].iter().copied());
    }
    match def {
        LocalDef::Map(_) => {}
        LocalDef::Reduce { axes, .. } => out.retain(|a| !axes.contains(a)),
        LocalDef::Block { axis, .. } => {
            out.insert(*axis);
        }
        LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => {
            out.remove(axis);
        }
    }
    known[l] = out;
}

impl Lower<'_> {
    pub(super) fn key(&self, l: Local, env: &Env) -> Instance {
        let d = &self.depends[l];
        (l, env.iter().filter(|(a, _)| d.contains(a)).map(|(&a, &t)| (a, t)).collect())
    }

    pub(super) fn finished(&self, l: Local, env: &Env) -> Option<Tile> {
        self.done.get(&self.key(l, env)).filter(|(_, s)| self.open(*s)).map(|(t, _)| *t)
    }

    pub(super) fn local(&mut self, l: Local, env: &Env) -> Result<Tile, PassError> {
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

    pub(super) fn bind(&self, axes: &[Axis], env: &Env) -> (Env, BTreeSet<Axis>) {
        let mut inner = env.clone();
        let mut bound = BTreeSet::new();
        for a in axes {
            inner.insert(*a, self.bound[a]);
            bound.insert(self.bound[a]);
        }
        (inner, bound)
    }

    /// A reduction whose axes are all within one tile.
    pub(super) fn reduce_tile(
        &mut self,
        op: Reduction,
        axes: &[Axis],
        body: &Ex,
        env: &Env,
    ) -> Result<Tile, PassError> {
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

    pub(super) fn reduce_src(&mut self, op: Reduction, bound: &BTreeSet<Axis>, src: Tile) -> Tile {
        // Sums of integers are wider than what they add up.
        let narrow = !matches!(self.p.tiles[src].dtype, DType::I64 | DType::F32 | DType::F64);
        let src = if op == Reduction::Sum && narrow && !self.p.tiles[src].dtype.is_float() {
            self.map_as(&ex::tile(src), None, Some(DType::I64))
        } else {
            src
        };
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
                    e = ex::select(v, e, typing::identity(op, dtype));
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
    pub(super) fn masked(&self, e: &Ex, bound: &BTreeSet<Axis>, op: Reduction) -> Ex {
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
            Some(m) => {
                let dtype = typing::dtype(&self.p, e, self.real);
                ex::select(m, e.clone(), typing::identity(op, dtype))
            }
            None => e.clone(),
        }
    }

    /// Whether a product is 0 beyond the extents by itself: for each ragged axis a factor is a plain load, which reads 0
    /// there, and everything else along that axis is a plain load, too.
    pub(super) fn zero_beyond(&self, e: &Ex, ragged: &[(Axis, Ex)]) -> bool {
        let fs = factors(e);
        ragged.iter().all(|(a, _)| {
            let along: Vec<&Ex> = fs.iter().filter(|f| self.axes(f).contains(a)).collect();
            !along.is_empty() && along.iter().all(|f| self.is_load(f))
        })
    }

    pub(super) fn is_load(&self, e: &Ex) -> bool {
        matches!(&**e, Expr::Tile(t) if self.loads.values().any(|(l, _)| l == t))
    }
}
