//! The products of a kernel, and which of them go to tensor cores.
//!
//! Why here: what a product is worth depends on the blocks chosen so far; the lowering asks the same of the blocks that came out.
//!
//! Post: a summed product has two operands, with the axes of each that are not summed; axes of one position are none.

use std::collections::BTreeSet;

use tilewright_ir::plan::LocalDef;
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Local, Reduction};

use super::{Chooser, LONG_SUM};
use crate::schedule::contract::{factors, packed, split};

/// Columns of one instruction of tensor cores.
pub(super) const COLUMNS: u64 = 8;

/// A summed product.
pub(super) struct Contraction {
    /// The reduction.
    pub(super) of: Local,
    pub(super) summed: BTreeSet<Axis>,
    pub(super) a: BTreeSet<Axis>,
    pub(super) b: BTreeSet<Axis>,
    /// Axes that both operands have.
    pub(super) shared: BTreeSet<Axis>,
    /// Whether both operands have one type of 16 bits, or may be rounded to it.
    pub(super) half: bool,
    /// Whether an operand is a packed weight.
    pub(super) packed: bool,
    pub(super) work: f64,
}

impl Chooser<'_> {
    /// Factors of a body, looking through locals that only name a product.
    fn factors(&self, e: &Ex) -> Vec<Ex> {
        factors(e)
            .into_iter()
            .flat_map(|f| match &*f {
                Expr::Local(l) => match &self.kernel.locals[*l].def {
                    LocalDef::Map(m) if matches!(&**m, Expr::Binary(Binary::Mul, ..)) => factors(m),
                    _ => vec![f],
                },
                _ => vec![f],
            })
            .collect()
    }

    pub(super) fn contractions(&self) -> Vec<Contraction> {
        let mut out = Vec::new();
        for (of, op, summed, body) in self.reductions() {
            if op != Reduction::Sum {
                continue;
            }
            let summed: BTreeSet<Axis> = summed.into_iter().collect();
            // Axes of one position do not keep operands apart.
            let wide = |e: &Ex| -> BTreeSet<Axis> {
                self.axes(e).into_iter().filter(|&a| self.most(a) > 1).collect()
            };
            let fs = self.factors(&body);
            let real: BTreeSet<Axis> = summed.iter().copied().filter(|&a| self.most(a) > 1).collect();
            // Axes that both operands have are batched: they do not keep the product from being a contraction.
            let sets: Vec<BTreeSet<Axis>> = fs.iter().map(&wide).collect();
            let all: BTreeSet<Axis> = sets.iter().flatten().copied().collect();
            let with_sum: Vec<&BTreeSet<Axis>> = sets.iter().filter(|s| !s.is_disjoint(&real)).collect();
            let shared: BTreeSet<Axis> = all
                .iter()
                .copied()
                .filter(|a| {
                    !real.contains(a)
                        && with_sum.len() > 1
                        && with_sum.iter().filter(|s| s.contains(a)).count() > 1
                })
                .collect();
            let unshared = |e: &Ex| wide(e).difference(&shared).copied().collect::<BTreeSet<Axis>>();
            let weight = |e: &Ex| matches!(&**e, Expr::Read(v, _) if self.plan.is_constant(*v));
            if let Some(s) = split(&fs, &real, &unshared, &weight) {
                let span = |es: &[Ex]| -> BTreeSet<Axis> {
                    es.iter().flat_map(&unshared).filter(|a| !real.contains(a)).collect()
                };
                let work = all.iter().map(|&a| self.most(a) as f64).product();
                let (a, b) = (span(&s.a), span(&s.b));
                let half = self.half(&s.a, &s.b);
                let packed = !packed(self.plan, self.kernel, &body, &self.kernel.locals[of].axes).is_empty();
                out.push(Contraction { of, summed: real, a, b, shared: shared.clone(), half, packed, work });
            }
        }
        out
    }

    /// Whether two operands have one type of 16 bits, those that are read as they are, or may be rounded to it, those that are
    /// computed. The lowering decides the same.
    fn half(&self, a: &[Ex], b: &[Ex]) -> bool {
        let read = |factors: &[Ex]| match factors {
            [one] => match &**one {
                Expr::Read(v, _) => Some(self.plan.values[*v].dtype),
                _ => None,
            },
            _ => None,
        };
        let half = |d: DType| matches!(d, DType::Bf16 | DType::F16);
        match (read(a), read(b)) {
            (Some(x), Some(y)) => x == y && half(x),
            (Some(x), None) | (None, Some(x)) => half(x) && self.narrow == Some(x),
            (None, None) => self.narrow.is_some(),
        }
    }

    /// Whether a product with few positions on one side goes to tensor cores: a long sum of known length, outside of what
    /// is folded.
    pub(super) fn on_columns(&self, c: &Contraction) -> bool {
        let few = self.total(&c.a).min(self.total(&c.b));
        let known =
            |&a: &Axis| matches!(self.plan.axes[a].extent, Extent::Const(_)) && !self.streamed.contains(&a);
        self.few_columns
            && c.half
            && (2..16).contains(&few)
            && self.total(&c.a).max(self.total(&c.b)) >= 16
            && c.shared.is_empty()
            && c.a.union(&c.b).all(|a| !self.streamed.contains(a))
            && c.summed.iter().all(known)
            && self.total(&c.summed) >= LONG_SUM
    }

    /// Whether the lowering will contract operand tiles rather than multiply elementwise.
    pub(super) fn dots(&self, c: &Contraction) -> bool {
        self.product(&c.shared) == 1
            && worth(self.product(&c.a), self.product(&c.b), self.product(&c.summed), self.columns())
    }

    /// Whether the products with few columns are those of whole tiles: not where the sizes that fit leave too little of
    /// them, or several loops that each sum a part.
    pub(super) fn columns_fit(&self) -> bool {
        let parts =
            |c: &Contraction| c.summed.iter().filter(|&&a| self.block(a) > 1 && !self.covers(a)).count();
        self.contractions().iter().filter(|c| self.on_columns(c)).all(|c| self.dots(c) && parts(c) <= 1)
    }

    /// Whether all products within a pass are those of operand tiles.
    pub(super) fn passes_dot(&self) -> bool {
        let within = |c: &Contraction| [&c.a, &c.b, &c.summed].iter().any(|s| !s.is_disjoint(&self.streamed));
        self.contractions().iter().filter(|c| within(c)).all(|c| c.half && self.dots(c))
    }

    /// With fewer columns than this, several warps would do the same.
    pub(super) fn columns(&self) -> u64 {
        if self.skinny || self.padded { COLUMNS } else { 2 * COLUMNS }
    }
}

/// Whether a contraction of tiles of these sizes is worth operand tiles: all three sides fill a fragment, columns with at
/// least so many positions.
pub fn worth(m: u64, n: u64, k: u64, columns: u64) -> bool {
    m.max(n) >= 16 && m.min(n) >= columns && k >= 16
}
