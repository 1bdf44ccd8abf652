//! Summed products as contractions of operand tiles.

use super::*;
use crate::schedule::blocks::worth;
use crate::schedule::contract::nearness;

/// The operands of a contraction, ready as tiles.
pub(super) struct Operands {
    pub(super) a: Tile,
    pub(super) b: Tile,
    pub(super) over: Vec<Axis>,
    pub(super) kind: DotKind,
}

impl Lower<'_> {
    /// Tries to read a summed body as a contraction worth operand tiles.
    pub(super) fn contraction(
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
        let near = nearness(fs.iter());
        let lowered = fs.iter().map(|f| self.lower_ex(f, env)).collect::<Result<Vec<_>, _>>()?;
        let Some(s) = split(&lowered, &summed, &|e| self.axes(e), &|e| self.is_weight(e)) else {
            return Ok(None);
        };
        let side = |es: &[Ex]| -> u64 {
            let axes: BTreeSet<Axis> = es.iter().flat_map(|e| self.axes(e)).collect();
            axes.difference(&summed).map(|&a| u64::from(self.p.axes[a].block)).product()
        };
        let k: u64 = summed.iter().map(|&a| u64::from(self.p.axes[a].block)).product();
        let (m, n) = (side(&s.a), side(&s.b));
        let kind = self.dot_kind(&s.a, &s.b);
        let columns = if kind == DotKind::Fma { 16 } else { self.columns };
        if !worth(m, n, k, columns) {
            return Ok(None);
        }
        // Rows are at least 16 and columns at least 8: where one side is shorter than rows are, it is the columns.
        let (rows, columns) = if m < 16 { (&s.b, &s.a) } else { (&s.a, &s.b) };
        // What is contiguous in memory comes last.
        let place = |t: Axis| near.iter().filter(|(a, _)| env.get(a) == Some(&t)).map(|(_, &k)| k).min();
        let mut over: Vec<Axis> = summed.iter().copied().collect();
        over.sort_by_key(|&t| std::cmp::Reverse(place(t).unwrap_or(usize::MAX)));
        let a = self.operand(rows, &summed, kind);
        let b = self.operand(columns, &summed, kind);
        let outside = self.outside(s.outside, bound);
        Ok(Some((Operands { a, b, over, kind }, outside)))
    }

    /// Factors that a sum over the axes is scaled by. A sum of nothing is 0, whatever they are.
    fn outside(&self, factors: Vec<Ex>, bound: &BTreeSet<Axis>) -> Vec<Ex> {
        let some =
            bound.iter().filter_map(|&a| self.inhabited(a)).reduce(|x, y| ex::binary(Binary::And, x, y));
        match some {
            Some(some) => factors.into_iter().map(|f| ex::select(some.clone(), f, ex::num(0.0))).collect(),
            None => factors,
        }
    }

    /// Whether an expression is a weight as it was loaded.
    fn is_weight(&self, e: &Ex) -> bool {
        let Expr::Tile(tile) = &**e else { return false };
        let load = self.loads.iter().find(|(_, (t, _))| t == tile);
        let value = load.and_then(|((param, ..), _)| self.params.iter().find(|(_, p)| *p == param));
        value.is_some_and(|(&v, _)| self.plan.is_constant(v))
    }

    pub(super) fn load_dtype(&self, e: &[Ex]) -> Option<DType> {
        match e {
            [one] if self.is_load(one) => match &**one {
                Expr::Tile(t) => Some(self.p.tiles[*t].dtype),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn dot_kind(&self, a: &[Ex], b: &[Ex]) -> DotKind {
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

    pub(super) fn operand(&mut self, fs: &[Ex], summed: &BTreeSet<Axis>, kind: DotKind) -> Tile {
        let mut product: Option<Ex> = None;
        for f in fs {
            product = Some(match product {
                None => f.clone(),
                Some(p) => ex::mul(p, f.clone()),
            });
        }
        let e = product.unwrap_or_else(|| ex::num(1.0));
        let e = self.masked(&e, summed, Reduction::Sum);
        let dtype = kind.matrix().unwrap_or(self.real);
        if let Some(d) = kind.matrix()
            && !self.is_load(&e)
        {
            let names: Vec<&str> = summed.iter().map(|&a| self.p.axes[a].name.as_str()).collect();
            self.refinements
                .insert(format!("an operand of the contraction over {} is rounded to {d}", names.join(",")));
        }
        self.map_as(&e, None, Some(dtype))
    }

    /// The axes of the result.
    pub(super) fn spans(&self, d: &Operands) -> BTreeSet<Axis> {
        let (a, b) = (&self.p.tiles[d.a].axes, &self.p.tiles[d.b].axes);
        a.iter().chain(b).copied().filter(|a| !d.over.contains(a)).collect()
    }

    pub(super) fn dot(&mut self, d: &Operands, acc: Option<Tile>) -> Tile {
        let axes = self.spans(d);
        let mut varies: BTreeSet<Axis> = self.varies[d.a].union(&self.varies[d.b]).copied().collect();
        if let Some(acc) = acc {
            varies.extend(self.varies[acc].iter().copied());
        }
        let out = self.tile(self.real, &axes, varies.clone());
        let op = Op::Dot { out, a: d.a, b: d.b, acc, over: d.over.clone(), kind: d.kind };
        self.emit(op, &varies);
        out
    }

    pub(super) fn scale(&mut self, t: Tile, by: &[Ex]) -> Tile {
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
}
