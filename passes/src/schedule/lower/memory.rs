//! Loads and stores, with the masks that keep them inside of their buffers.

use super::*;

pub(super) fn and(mask: Option<Ex>, e: Ex) -> Option<Ex> {
    Some(match mask {
        None => e,
        Some(m) if m == e => m,
        Some(m) => ex::binary(Binary::And, m, e),
    })
}

impl Lower<'_> {
    /// The condition that the position along an axis exists, if it is not always true.
    pub(super) fn valid(&self, a: Axis) -> Option<Ex> {
        let axis = &self.p.axes[a];
        let exact = match axis.extent {
            Extent::Const(n) => n % u64::from(axis.block) == 0,
            Extent::Sym(_) => axis.block == 1,
        };
        (!exact).then(|| ex::binary(Binary::Lt, ex::pos(a), ex::size(axis.extent)))
    }

    /// That an axis has positions, if it may have none.
    pub(super) fn inhabited(&self, a: Axis) -> Option<Ex> {
        let extent = self.p.axes[a].extent;
        (extent.least(self.symbols) == 0).then(|| ex::binary(Binary::Lt, ex::num(0.0), ex::size(extent)))
    }

    pub(super) fn at_most(&self, e: Extent) -> u64 {
        match e {
            Extent::Const(n) => n,
            Extent::Sym(s) => self.symbols[s].max,
        }
    }

    /// Where the indices are inside the buffer and the positions exist.
    pub(super) fn mask(&self, dims: &[Extent], index: &[Ex]) -> Option<Ex> {
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
                    extent == dim || self.at_most(extent) <= dim.least(self.symbols)
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

    pub(super) fn load(&mut self, v: Value, index: Vec<Ex>) -> Result<Tile, PassError> {
        self.load_where(v, index, None)
    }

    /// What is read where a condition holds, and 0 elsewhere.
    pub(super) fn load_where(
        &mut self,
        v: Value,
        index: Vec<Ex>,
        only: Option<Ex>,
    ) -> Result<Tile, PassError> {
        let param = self.param(v, false);
        // Indices that are more than a position are computed as tiles of their own when they are not cheap.
        let index: Vec<Ex> = index.iter().map(|i| self.hoist(i)).collect();
        let key = (param, index.clone(), only.clone());
        if let Some(&(t, scope)) = self.loads.get(&key)
            && self.open(scope)
        {
            return Ok(t);
        }
        let dims = self.p.params[param].dims.clone();
        let mask = self.mask(&dims, &index);
        let mask = only.iter().fold(mask, |m, e| and(m, e.clone()));
        let mut axes = BTreeSet::new();
        let mut varies = BTreeSet::new();
        for i in index.iter().chain(&only) {
            axes.extend(self.axes(i));
            varies.extend(self.variance(i));
        }
        let out = self.tile(self.p.params[param].dtype, &axes, varies.clone());
        let scope = self.emit(Op::Load { out, param, index, mask, fill: 0.0 }, &varies);
        self.loads.insert(key, (out, scope));
        Ok(out)
    }

    pub(super) fn store(&mut self, s: &Store, env: &Env) -> Result<(), PassError> {
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
        let mut axes: BTreeSet<Axis> =
            s.axes.iter().filter_map(|a| env.get(a).copied()).filter(|&a| self.p.axes[a].block > 1).collect();
        // Of the blocks along an axis that only other stores have, the first stores.
        let others: Vec<Axis> = env
            .iter()
            .filter(|(a, t)| !s.axes.contains(a) && self.p.axes[**t].role != Role::Resident)
            .map(|(_, &t)| t)
            .collect();
        axes.extend(others.iter().copied().filter(|&a| self.p.axes[a].block > 1));
        let value = self.map(&e, Some(&axes));
        let dims = self.p.params[param].dims.clone();
        let mut mask = self.mask(&dims, &index);
        for &a in &others {
            mask = and(mask, ex::binary(Binary::Eq, ex::pos(a), ex::num(0.0)));
        }
        for &a in &axes {
            // An axis that no index mentions would store the same element many times; the last is as good.
            if let Some(v) = self.valid(a)
                && !index.iter().any(|i| typing::axes(&self.p, i).contains(&a))
            {
                mask = and(mask, v);
            }
        }
        let loops = self.scopes.iter().filter_map(|s| s.axis).collect();
        self.emit(Op::Store { param, index, mask, value }, &loops);
        Ok(())
    }
}

/// Whether an index expression cannot be negative.
pub(super) fn never_negative(e: &Ex) -> bool {
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
