//! Halving blocks until all tiles fit.
//!
//! Why here: wishes are about one thing at a time; what a thread block can hold is about all of them.
//!
//! Post: no tile has more elements than a thread block can hold, unless no block of it may give way.

use std::collections::BTreeSet;

use tilewright_ir::plan::LocalDef;
use tilewright_ir::{Axis, Expr, Reduction};

use super::{Chooser, TILE_ELEMENTS};

/// A tile that the lowering makes: the axes it spans.
struct Demand {
    axes: BTreeSet<Axis>,
    limit: u64,
}

impl Chooser<'_> {
    fn demands(&self) -> Vec<Demand> {
        let mut out = Vec::new();
        let contractions = self.contractions();
        for (l, op, axes, body) in self.reductions() {
            let span: BTreeSet<Axis> = self.axes(&body).into_iter().chain(axes.iter().copied()).collect();
            let dot = (op == Reduction::Sum)
                .then(|| contractions.iter().find(|c| c.of == l && self.dots(c)))
                .flatten();
            let result: BTreeSet<Axis> = self.kernel.locals[l].axes.iter().copied().collect();
            out.push(Demand { axes: result, limit: self.most_elements() });
            match dot {
                Some(c) => {
                    for side in [&c.a, &c.b] {
                        let operand = side.union(&c.summed).copied().collect();
                        out.push(Demand { axes: operand, limit: self.most_elements() * 2 });
                    }
                }
                None => out.push(Demand { axes: span, limit: self.most_elements() }),
            }
        }
        for s in &self.kernel.stores {
            out.push(Demand { axes: s.axes.iter().copied().collect(), limit: self.most_elements() });
        }
        for l in self.kernel.locals.values() {
            if matches!(l.def, LocalDef::Map(_) | LocalDef::Fold { .. } | LocalDef::Running { .. }) {
                out.push(Demand { axes: l.axes.iter().copied().collect(), limit: self.most_elements() });
            }
        }
        for e in self.exprs() {
            e.visit(&mut |e| {
                if let Expr::Read(v, index) = e {
                    let axes = index.iter().flat_map(|i| self.axes(i)).collect();
                    // What a warp streams alone may be twice as many, of 16 bits.
                    let half = self.skinny && self.plan.values[*v].dtype.bytes() == 2;
                    let limit = self.most_elements() * if half { 2 } else { 1 };
                    out.push(Demand { axes, limit });
                }
            });
        }
        out
    }

    /// Elements of the largest tile: as many for each thread, whatever their number.
    fn most_elements(&self) -> u64 {
        if self.skinny { TILE_ELEMENTS / 4 } else { TILE_ELEMENTS }
    }

    pub(super) fn shrink(&mut self) {
        // What is cut of a pass that folds is dear. Blocks along an output axis that something read by the pass does not vary
        // along would each read it again; and a loop within the pass computes again what does not vary along the pass.
        let mut dear: BTreeSet<Axis> = BTreeSet::new();
        if self.kernel.locals.values().any(|l| matches!(l.def, LocalDef::Fold { .. })) {
            for e in self.exprs() {
                e.visit(&mut |e| {
                    let Expr::Read(_, index) = e else { return };
                    let own: BTreeSet<Axis> = index.iter().flat_map(|i| self.axes(i)).collect();
                    if !own.is_disjoint(&self.streamed) {
                        dear.extend(self.kernel.grid.iter().filter(|a| !own.contains(a)));
                    }
                });
            }
            dear.extend(self.blocks.keys().copied().filter(|&a| self.covers(a) && self.inner_to_stream(a)));
        }
        loop {
            let too_large = self.demands().into_iter().find(|d| self.product(&d.axes) > d.limit);
            let Some(d) = too_large else { break };
            // Streamed axes give way first, as long as a tile of them is worth a pass; then the largest block, and of
            // equals one that a reduction binds, so that output tiles stay wide.
            let Some(&a) =
                d.axes.iter().filter(|&&a| self.block(a) > 1 && !self.is_row(a)).max_by_key(|&&a| {
                    let block = self.block(a);
                    // Nor is a pass to have short steps.
                    let short = !dear.is_empty() && self.streamed.contains(&a) && block <= 16;
                    let gives = (!self.whole.contains(&a), !dear.contains(&a) && !short);
                    // Of a product with few columns, sums over several axes stay in one loop.
                    let loops = self.skinny && !self.covers(a);
                    let pass = if self.skinny { 32 } else { 16 };
                    (gives, self.streamed.contains(&a) && block > pass, loops, block, !self.is_grid(a), a)
                })
            else {
                break;
            };
            self.cut |= dear.contains(&a);
            let b = self.blocks[&a] / 2;
            self.blocks.insert(a, b);
        }
    }
}
