//! Dealing out positions to blocks.
//!
//! Why here: what lies side by side in memory should be in one block; which axes a block has many positions of follows from
//! how near to contiguous each is.
//!
//! Pre: how near axes are: the smaller, the nearer. Post: blocks are powers of two, and no larger than what covers the axis unless
//! they are padded.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::{Axis, Ex, Expr, Extent};

use super::{Chooser, ROWS, WIDE};
use crate::schedule::contract::nearness;

/// Blocks that leave few multiprocessors of a large device idle, and blocks that draw its bandwidth all the same.
const BUSY: u64 = 96;
const ENOUGH: u64 = 48;

impl Chooser<'_> {
    /// Gives the axes blocks whose product is at most `budget`, the nearest to contiguous first.
    pub(super) fn deal(&mut self, axes: &BTreeSet<Axis>, budget: u64, near: &BTreeMap<Axis, usize>) {
        let mut left = budget;
        for a in Self::order(axes, near) {
            let b = self.cover(a, left);
            left /= u64::from(b);
            let e = self.blocks.entry(a).or_insert(1);
            *e = (*e).max(b);
        }
    }

    /// Gives axes of rows blocks of as many rows as an instruction of tensor cores has, the nearest to contiguous first. A
    /// block that ends within the last one of an axis would be padded for each head, and its rows be no whole piece of
    /// memory: where eights of rows divide the axis, a block takes rows of the next axes as well instead.
    pub(super) fn deal_rows(&mut self, axes: &BTreeSet<Axis>, near: &BTreeMap<Axis, usize>) {
        let before = self.blocks.clone();
        self.deal(axes, ROWS, near);
        let extent = |c: &Self, a: Axis| c.plan.axes[a].extent.as_const();
        let cut = |c: &Self, a: Axis, b: u64| extent(c, a).is_some_and(|n| n > b && !n.is_multiple_of(b));
        if !axes.iter().any(|&a| cut(self, a, self.block(a))) {
            return;
        }
        // What reductions bind of the rows, such as both halves of what is rotated, blocks hold whole.
        let (grid, bound): (Vec<Axis>, Vec<Axis>) =
            Self::order(axes, near).into_iter().partition(|&a| self.is_grid(a));
        let mut left = ROWS / self.total(&bound.into_iter().collect()).min(ROWS);
        let mut even = Vec::new();
        for a in grid {
            let mut b = u64::from(self.cover(a, left));
            if cut(self, a, b) {
                b = 1 << self.most(a).trailing_zeros();
                if b < ROWS / 2 {
                    return;
                }
            }
            left /= b;
            even.push((a, before.get(&a).copied().unwrap_or(1).max(b as u32)));
        }
        if left == 1 {
            self.blocks.extend(even);
        }
    }

    /// How many rows of a packed weight a block has beside these columns, if they are known to be few. Each block reads all columns, so the
    /// fewer its rows, the more is read of the cache; but cutting the sum into runs instead would take a launch to merge
    /// them. So blocks have fewer rows where they are too few: as many as columns, and half as many where that is not enough.
    pub(super) fn rows_beside(&self, rows: &BTreeSet<Axis>, columns: &BTreeSet<Axis>) -> Option<u64> {
        let known = |&a: &Axis| matches!(self.plan.axes[a].extent, Extent::Const(_));
        let known = columns.iter().all(known) && self.rows.is_none();
        let (all, columns) = (self.total(rows), self.total(columns).next_power_of_two());
        if !known || columns > WIDE || all <= columns {
            return None;
        }
        let few = |r: u64| r > columns && all / r < BUSY || 2 * r > columns && all / r < ENOUGH;
        let mut rows = WIDE;
        while rows > ROWS && few(rows) {
            rows /= 2;
        }
        Some(rows)
    }

    /// The nearest to contiguous first.
    fn order(axes: &BTreeSet<Axis>, near: &BTreeMap<Axis, usize>) -> Vec<Axis> {
        let mut order: Vec<Axis> = axes.iter().copied().collect();
        order.sort_by_key(|a| (near.get(a).copied().unwrap_or(usize::MAX), std::cmp::Reverse(*a)));
        order
    }

    /// Makes the block of the longest axis so long that all of them have so many positions.
    pub(super) fn pad(&mut self, axes: &BTreeSet<Axis>, positions: u64) {
        let more = positions / self.product(axes).max(1);
        if let Some(widest) = axes.iter().copied().max_by_key(|&a| (self.most(a), a)).filter(|_| more > 1) {
            *self.blocks.entry(widest).or_insert(1) *= more as u32;
        }
    }

    /// Makes one loop of a sum over several axes, if all but the farthest fit so many positions whole: a loop within a loop
    /// begins anew for each iteration of the outer one, and so does what is streamed.
    pub(super) fn one_loop(&mut self, summed: &BTreeSet<Axis>, most: u64, near: &BTreeMap<Axis, usize>) {
        let mut order = Self::order(summed, near);
        order.retain(|&a| self.most(a) > 1);
        let Some((&far, inner)) = order.split_last() else { return };
        let whole = |a: Axis| self.most(a).next_power_of_two();
        let run = inner.iter().map(|&a| whole(a)).fold(1, u64::saturating_mul);
        let constant = |a: &Axis| matches!(self.plan.axes[*a].extent, Extent::Const(_));
        if inner.iter().all(|&a| self.covers(a)) || run > most || !inner.iter().all(constant) {
            return;
        }
        let blocks: Vec<(Axis, u32)> = inner.iter().map(|&a| (a, whole(a) as u32)).collect();
        self.blocks.extend(blocks);
        self.blocks.insert(far, 1);
    }
}

/// How near to contiguous axes are, those of a sum as the operands have them that have all of these: what has some of them,
/// such as a scale of each head, does not say how they lie.
pub(super) fn nearness_of_sum(
    exprs: &[Ex],
    summed: &BTreeSet<Axis>,
    near: &BTreeMap<Axis, usize>,
) -> BTreeMap<Axis, usize> {
    let mut whole = Vec::new();
    for e in exprs {
        e.visit(&mut |e| {
            if let Expr::Read(_, index) = e
                && summed.iter().all(|&a| index.iter().any(|i| matches!(**i, Expr::Pos(p) if p == a)))
            {
                whole.push(Ex::new(e.clone()));
            }
        });
    }
    let mut out = near.clone();
    out.extend(nearness(whole.iter()).into_iter().filter(|(a, _)| summed.contains(a)));
    out
}
