//! What a kernel asks of its blocks.
//!
//! Why here: the heaviest has the first say. What comes later takes what is left, or overrules what would repeat work.
//!
//! Post: a block for each axis of the grid and each that a reduction binds, whether or not the tiles fit.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::{Axis, Extent};

use super::deal::nearness_of_sum;
use super::products::COLUMNS;
use super::{Chooser, LONG_SUM, RESIDENT, TILE_ELEMENTS, WIDE};
use crate::schedule::contract::nearness;

/// A product with fewer terms than one of so many of another reduction's has no say in blocks.
const LIGHT: f64 = 64.0;

impl Chooser<'_> {
    pub(super) fn wish(&mut self) {
        let exprs = self.exprs();
        let near = nearness(exprs.iter());
        let mut store_near = BTreeMap::new();
        for s in &self.kernel.stores {
            for (k, i) in s.index.iter().rev().enumerate() {
                for a in i.free_axes() {
                    store_near.entry(a).or_insert(k);
                }
            }
        }
        let mut contractions = self.contractions();
        contractions.sort_by(|x, y| y.work.total_cmp(&x.work));
        // What is far lighter than something else of the kernel, such as a rotation of what is projected, has no say.
        let heaviest = self.work().iter().map(|w| w.2).fold(0.0, f64::max);
        contractions.retain(|c| c.work * LIGHT >= heaviest);
        for c in &contractions {
            let near = nearness_of_sum(&exprs, &c.summed, &near);
            let (m, n) = (self.total(&c.a), self.total(&c.b));
            if m.min(n) >= 16 || self.padded {
                // Both sides are wide: a tile of each, contracted in short steps.
                let k = if self.narrow.is_some() { 32 } else { 16 };
                let inner: BTreeSet<Axis> = c.summed.clone();
                self.deal(&inner, k, &near);
                for (side, other) in [(&c.a, &c.b), (&c.b, &c.a)] {
                    // In a chain others' stores are made in place: what is reduced further lies as what it is made of.
                    let stored = self.rows.is_none() || side.iter().all(|&a| self.is_grid(a));
                    let few = if c.packed { self.rows_beside(side, other) } else { None };
                    self.beside |= few.is_some();
                    self.deal(side, few.unwrap_or(WIDE), if stored { &store_near } else { &near });
                    self.pad(side, COLUMNS);
                }
            } else if self.on_columns(c) {
                // The side with few positions is columns, padded to whole instructions; one warp streams the other.
                self.skinny = true;
                let (few, many) = if m < n { (&c.a, &c.b) } else { (&c.b, &c.a) };
                let columns = self.total(few).next_power_of_two().max(COLUMNS);
                self.deal(few, columns, &store_near);
                self.pad(few, columns);
                self.deal(&c.summed, 1024 / columns, &near);
                self.deal_rows(many, &store_near);
            } else {
                // One side is narrow: stream the other, reading long contiguous runs.
                let (few, many) = if m < n { (&c.a, &c.b) } else { (&c.b, &c.a) };
                let few_total = self.total(few).min(16);
                self.deal(few, few_total.next_power_of_two(), &store_near);
                let run = (512 / few_total.next_power_of_two()).max(64);
                self.deal(&c.summed, run, &near);
                self.deal_rows(many, &store_near);
            }
        }
        // What no contraction asked for.
        for (_, _, axes, _) in self.reductions() {
            let set: BTreeSet<Axis> = axes.iter().copied().filter(|a| !self.blocks.contains_key(a)).collect();
            let passes = set.iter().any(|a| self.streamed.contains(a));
            let near = nearness_of_sum(&exprs, &set, &near);
            self.deal(&set, if passes { 64 } else { LONG_SUM }, &near);
            if !passes {
                self.one_loop(&set, 2 * LONG_SUM, &near);
            }
        }
        let rest: BTreeSet<Axis> =
            self.kernel.grid.iter().copied().filter(|a| !self.blocks.contains_key(a)).collect();
        match (contractions.is_empty(), self.reductions().is_empty()) {
            (true, true) => self.deal(&rest, 512, &store_near),
            (true, false) => self.deal_rows(&rest, &store_near),
            (false, _) => self.deal(&rest, 1, &store_near),
        }
        // Short axes that reductions bind are resident: all of them in one tile.
        let bound: BTreeSet<Axis> = self.reductions().into_iter().flat_map(|(_, _, a, _)| a).collect();
        let of_passes = self.of_passes();
        for a in bound {
            let b = self.blocks.get(&a).copied().unwrap_or(1);
            let whole = self.most(a).next_power_of_two();
            // A loop over what took a pass would be a pass in each iteration.
            let inner = self.inner_to_stream(a) || (self.skinny || self.beside) && of_passes.contains(&a);
            if matches!(self.plan.axes[a].extent, Extent::Const(_))
                && !self.streamed.contains(&a)
                && inner
                && whole <= RESIDENT
            {
                self.blocks.insert(a, whole as u32);
            } else {
                self.blocks.insert(a, b);
            }
        }
        // Operands that share an axis are multiplied one position of it at a time.
        for c in &contractions {
            if self.total(&c.a).min(self.total(&c.b)) >= 16 {
                for &a in &c.shared {
                    if self.is_grid(a) {
                        self.blocks.insert(a, 1);
                    }
                }
            }
        }
        // An output axis that heavy work does not depend on is resident, or that work would be repeated.
        for a in self.kernel.grid.clone() {
            let whole = self.most(a).next_power_of_two();
            if !matches!(self.plan.axes[a].extent, Extent::Const(_)) || whole > RESIDENT {
                continue;
            }
            if self.repeated(a) {
                self.blocks.insert(a, whole as u32);
            }
        }
        if contractions.is_empty() {
            self.repeat_less();
        }
        self.hold_whole();
        for a in self.ragged() {
            self.blocks.insert(a, 1);
        }
    }

    /// Where an output axis that the work does not depend on is too long to be resident, each of its blocks repeats that work:
    /// there are few of them, and the other axes make blocks.
    fn repeat_less(&mut self) {
        // Also what is reduced over the very axis: its result is the same in each block.
        let work = self.work();
        let total: f64 = work.iter().map(|w| w.2).sum();
        let again = |a: Axis| -> f64 {
            work.iter().filter(|(l, ..)| !self.kernel.locals[*l].axes.contains(&a)).map(|w| w.2).sum()
        };
        let heavy: Vec<Axis> = self.kernel.grid.iter().copied().filter(|&a| again(a) > 0.1 * total).collect();
        let [wide] = heavy[..] else { return };
        if self.most(wide) <= RESIDENT {
            return;
        }
        for a in self.kernel.grid.clone() {
            if a != wide {
                self.blocks.insert(a, 1);
            }
        }
        let wanted = self.cover(wide, TILE_ELEMENTS / 8);
        self.blocks.insert(wide, wanted);
    }

    /// Axes of the grid over which something is reduced that is itself dear to compute: a block that held only
    /// some of their positions would compute that for all of them, again in every block.
    fn hold_whole(&mut self) {
        self.whole = self.of_passes().into_iter().filter(|&a| self.is_grid(a)).collect();
        let whole = |a: Axis| self.most(a).next_power_of_two();
        let fit = self.whole.iter().map(|&a| whole(a)).fold(1, u64::saturating_mul) <= RESIDENT
            && self.whole.iter().all(|&a| matches!(self.plan.axes[a].extent, Extent::Const(_)));
        if !fit {
            self.whole.clear();
        }
        for a in self.whole.clone() {
            self.blocks.insert(a, self.most(a).next_power_of_two() as u32);
        }
        // The other axes of the same operand make blocks: the tile is wide enough without them.
        let sides = self.contractions().into_iter().flat_map(|c| [c.a, c.b]);
        let mut same: BTreeSet<Axis> = sides.filter(|s| !s.is_disjoint(&self.whole)).flatten().collect();
        if same.is_empty() && !self.whole.is_empty() {
            same.extend(self.kernel.grid.iter().copied().filter(|&a| !self.repeated(a)));
        }
        for a in same {
            if self.is_grid(a) && !self.whole.contains(&a) {
                self.blocks.insert(a, 1);
            }
        }
    }
}
