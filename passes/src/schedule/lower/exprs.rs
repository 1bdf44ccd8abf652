//! Expressions over tiles: what they span, what they vary with, where they are computed.

use super::*;

impl Lower<'_> {
    /// The axes of blocks above 1 that an expression over tiles spans.
    pub(super) fn axes(&self, e: &Ex) -> BTreeSet<Axis> {
        typing::axes(&self.p, e).into_iter().filter(|&a| self.p.axes[a].block > 1).collect()
    }

    /// The loops that an expression over tiles varies with.
    pub(super) fn variance(&self, e: &Ex) -> BTreeSet<Axis> {
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
    pub(super) fn scope_of(&self, varies: &BTreeSet<Axis>) -> usize {
        self.scopes.iter().rposition(|s| s.axis.is_some_and(|a| varies.contains(&a))).unwrap_or(0)
    }

    pub(super) fn open(&self, id: u32) -> bool {
        self.scopes.iter().any(|s| s.id == id)
    }

    pub(super) fn tile(&mut self, dtype: DType, axes: &BTreeSet<Axis>, varies: BTreeSet<Axis>) -> Tile {
        let axes = axes.iter().copied().collect();
        let t = self.p.tiles.push(TileData { dtype, axes, place: Place::Unassigned, ring: None });
        self.varies[t] = varies;
        t
    }

    pub(super) fn emit(&mut self, op: Op, varies: &BTreeSet<Axis>) -> u32 {
        let n = self.scope_of(varies);
        self.scopes[n].ops.push(op);
        self.scopes[n].id
    }

    pub(super) fn lower_ex(&mut self, e: &Ex, env: &Env) -> Result<Ex, PassError> {
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
            // What an update overwrites may be written while this runs: it is not read where something else is taken.
            Expr::Select(c, new, old) if matches!(&**old, Expr::Read(v, _) if self.plan.is_taken_over(*v)) => {
                let Expr::Read(v, index) = &**old else {
                    return Err(PassError::Bug("a read is no read".into()));
                };
                let (c, new) = (self.lower_ex(c, env)?, self.lower_ex(new, env)?);
                let index = index.iter().map(|i| self.lower_ex(i, env)).collect::<Result<Vec<_>, _>>()?;
                let kept = ex::unary(Unary::Not, c.clone());
                let old = self.load_where(*v, index, Some(kept))?;
                ex::select(c, new, ex::tile(old))
            }
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
    pub(super) fn hoist(&mut self, e: &Ex) -> Ex {
        let (axes, varies) = (self.axes(e), self.variance(e));
        let mapped = e.map_children(|c| {
            let c = self.hoist(c);
            let smaller = self.axes(&c) != axes || self.variance(&c) != varies;
            if smaller && expense(&c) >= 4 { ex::tile(self.map(&c, None)) } else { c }
        });
        std::sync::Arc::new(mapped)
    }

    /// A tile that holds the expression, over the given axes or its own.
    pub(super) fn map(&mut self, e: &Ex, axes: Option<&BTreeSet<Axis>>) -> Tile {
        self.map_as(e, axes, None)
    }

    pub(super) fn map_as(&mut self, e: &Ex, axes: Option<&BTreeSet<Axis>>, dtype: Option<DType>) -> Tile {
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
}

/// Rough cost of computing an expression once per element.
pub(super) fn expense(e: &Ex) -> u32 {
    let own = match &**e {
        Expr::Unary(Unary::Neg | Unary::Abs | Unary::Not, _) => 1,
        Expr::Unary(..) | Expr::Binary(Binary::Div | Binary::FloorDiv | Binary::Mod, ..) => 8,
        Expr::Binary(Binary::Random, ..) => 60,
        Expr::Binary(..) | Expr::Select(..) | Expr::Cast(..) => 1,
        _ => 0,
    };
    own + e.children().into_iter().map(expense).sum::<u32>()
}
