//! What is dear to compute, and where it would be computed again.
//!
//! Why here: a block that has some positions of an axis computes all that does not vary along it once more.
//!
//! Post: of the kernel as it is; blocks chosen so far have no say.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::plan::LocalDef;
use tilewright_ir::{Axis, Binary, Ex, Expr, Local, Reduction};

use super::products::Contraction;
use super::{Chooser, RESIDENT, ROWS};
use crate::schedule::contract::packed;

impl Chooser<'_> {
    /// Axes of the grid along which the length of a pass varies, because it is compared with something in memory that they
    /// index: several of their positions in a block would all be as long as the longest.
    pub(super) fn ragged(&self) -> BTreeSet<Axis> {
        let mut out = BTreeSet::new();
        for e in self.exprs() {
            e.visit(&mut |e| {
                let Expr::Binary(Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge, x, y) = e else { return };
                for (position, bound) in [(x, y), (y, x)] {
                    if matches!(&**position, Expr::Pos(a) if self.streamed.contains(a)) {
                        self.indices(bound, &mut out);
                    }
                }
            });
        }
        out.retain(|&a| self.is_grid(a));
        out
    }

    /// The axes that index what an expression reads, through locals that only name something.
    fn indices(&self, e: &Ex, out: &mut BTreeSet<Axis>) {
        let mut seen = BTreeSet::new();
        let mut todo = vec![e];
        while let Some(e) = todo.pop() {
            let mut named = Vec::new();
            e.visit(&mut |e| match e {
                Expr::Read(_, index) => out.extend(index.iter().flat_map(|i| self.axes(i))),
                Expr::Local(l) => named.push(*l),
                _ => {}
            });
            for l in named.into_iter().filter(|l| seen.insert(*l)) {
                if let LocalDef::Map(e) = &self.kernel.locals[l].def {
                    todo.push(e);
                }
            }
        }
    }

    /// Axes over which something is reduced that is itself reduced over a long axis, a product of matrices, or one with a
    /// packed weight.
    pub(super) fn of_passes(&self) -> BTreeSet<Axis> {
        // The axes along which each local varies and took a pass to compute.
        let mut dear: BTreeMap<Local, BTreeSet<Axis>> = BTreeMap::new();
        // What is made of a fold takes the pass again wherever it is computed.
        let mut folded: BTreeSet<Local> = BTreeSet::new();
        let mut out = BTreeSet::new();
        let wide = |c: &Contraction| self.total(&c.a).min(self.total(&c.b)) >= ROWS;
        let products: BTreeSet<Local> = self.contractions().into_iter().filter(wide).map(|c| c.of).collect();
        for (l, data) in self.kernel.locals.iter() {
            let needs = data.def.needs();
            let mut of: BTreeSet<Axis> =
                needs.iter().flat_map(|n| dear.get(n).into_iter().flatten().copied()).collect();
            if matches!(data.def, LocalDef::Fold { .. }) || !needs.is_disjoint(&folded) {
                folded.insert(l);
            }
            if let LocalDef::Reduce { axes, body, .. } = &data.def {
                out.extend(axes.iter().copied().filter(|a| of.contains(a)));
                of.retain(|a| !axes.contains(a));
                let long = axes.iter().any(|&a| self.most(a) > RESIDENT);
                let weighs = || !packed(self.plan, self.kernel, body, &data.axes).is_empty();
                if long || folded.contains(&l) || products.contains(&l) || weighs() {
                    of.extend(data.axes.iter().copied());
                }
            }
            dear.insert(l, of);
        }
        out
    }

    /// Whether a reduction over `a` happens inside a streamed axis: then a loop of its own would be nested.
    pub(super) fn inner_to_stream(&self, a: Axis) -> bool {
        self.kernel.locals.values().any(|l| match &l.def {
            LocalDef::Reduce { axes, .. } => {
                axes.contains(&a) && l.axes.iter().any(|x| self.streamed.contains(x) || !self.is_grid(*x))
            }
            _ => false,
        })
    }

    /// Whether much of the kernel's work does not depend on the grid axis.
    pub(super) fn repeated(&self, axis: Axis) -> bool {
        let work = self.work();
        let total: f64 = work.iter().map(|w| w.2).sum();
        let without: f64 = work.iter().filter(|(_, span, _)| !span.contains(&axis)).map(|w| w.2).sum();
        without > 0.1 * total && without > 0.0
    }

    /// The reductions with the axes that they span and how many terms they have.
    pub(super) fn work(&self) -> Vec<(Local, BTreeSet<Axis>, f64)> {
        let one = |(l, _, axes, body): (Local, Reduction, Vec<Axis>, Ex)| {
            let span: BTreeSet<Axis> = self.axes(&body).into_iter().chain(axes).collect();
            let terms = span.iter().map(|&a| self.most(a) as f64).product();
            (l, span, terms)
        };
        self.reductions().into_iter().map(one).collect()
    }
}
