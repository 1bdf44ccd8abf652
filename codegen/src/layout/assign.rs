//! Which distribution each tile gets.
//!
//! What: tiles that a loop carries, and a contraction's result with its accumulator, form classes with one layout.
//! Contractions anchor their class in program order. Layouts spread forward (maps take that of an operand with all
//! their axes, reductions the slice of their source) and backward (loads and maps that nothing else decides take the
//! slice of their reader). When nothing moves, the largest undecided load takes a coalesced layout and spreading goes on.
//! Post: every tile has a layout; whether operands agree with it is left to the conversion pass.

use std::collections::HashMap;

use tilewright_ir::tile::{DotKind, Layout, Op, TileProgram};
use tilewright_ir::{Axis, Ex, Tile};

use super::blocked;
use super::dot::Dot;
use super::visit;
use crate::access::{Access, tiles_of};
use crate::bits::{extend, local, reduced, scattered, slice, warp_bits};

/// The decision for a program.
pub(super) struct Assignment {
    /// One layout per tile.
    pub(super) layouts: HashMap<Tile, Layout>,
    /// Layouts of contraction results, by result, where they differ from that of the tile.
    pub(super) results: HashMap<Tile, Layout>,
}

impl Assignment {
    /// The layout of a tile.
    pub(super) fn of(&self, tile: Tile) -> &Layout {
        &self.layouts[&tile]
    }

    /// The layout in which a contraction makes its result.
    pub(super) fn result(&self, out: Tile) -> &Layout {
        self.results.get(&out).unwrap_or_else(|| self.of(out))
    }
}

struct Assigner<'a> {
    program: &'a TileProgram,
    ops: Vec<&'a Op>,
    parent: HashMap<Tile, Tile>,
    layouts: HashMap<Tile, Layout>,
    results: HashMap<Tile, Layout>,
}

/// Decides the layouts of a program.
pub(super) fn assign(program: &TileProgram) -> Assignment {
    let mut ops = Vec::new();
    visit(&program.body, &mut |op| ops.push(op));
    let mut a =
        Assigner { program, ops, parent: HashMap::new(), layouts: HashMap::new(), results: HashMap::new() };
    a.unite_classes();
    loop {
        while a.forward() | a.backward() {}
        if !a.decide_one() {
            break;
        }
    }
    let layouts = program.tiles.keys().filter_map(|t| Some((t, a.get(t)?.clone()))).collect();
    Assignment { layouts, results: a.results }
}

impl<'a> Assigner<'a> {
    fn unite_classes(&mut self) {
        for op in self.ops.clone() {
            match op {
                Op::Loop { carried, .. } => {
                    for c in carried {
                        self.unite(c.initial, c.inside);
                        self.unite(c.next, c.inside);
                        self.unite(c.after, c.inside);
                    }
                }
                Op::Dot { out, acc: Some(acc), .. } => self.unite(*out, *acc),
                _ => {}
            }
        }
    }

    fn root(&self, tile: Tile) -> Tile {
        let mut at = tile;
        while let Some(&up) = self.parent.get(&at) {
            at = up;
        }
        at
    }

    fn unite(&mut self, a: Tile, b: Tile) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent.insert(b, a);
        }
    }

    fn get(&self, tile: Tile) -> Option<&Layout> {
        self.layouts.get(&self.root(tile))
    }

    fn set(&mut self, tile: Tile, layout: Layout) -> bool {
        let root = self.root(tile);
        self.layouts.insert(root, layout).is_none()
    }

    fn elements(&self, tile: Tile) -> u64 {
        self.program.elements(tile)
    }

    fn spanning(&self, tile: Tile) -> usize {
        self.program.tiles[tile].axes.iter().filter(|&&a| self.program.axes[a].block > 1).count()
    }

    /// One sweep in program order; whether anything was decided.
    fn forward(&mut self) -> bool {
        let mut moved = false;
        for op in self.ops.clone() {
            match op {
                Op::Map { out, expr } if self.get(*out).is_none() => {
                    let full =
                        tiles_of(expr).into_iter().filter(|&t| self.elements(t) == self.elements(*out));
                    let found = full.filter_map(|t| self.get(t)).max_by_key(|l| l.regs.len());
                    if let Some(layout) = found.cloned() {
                        moved |= self.set(*out, layout);
                    }
                }
                Op::Reduce { out, src, .. } if self.get(*out).is_none() => {
                    if let Some(layout) = self.get(*src) {
                        let axes = &self.program.tiles[*out].axes;
                        let all = reduced(layout, axes);
                        let layout = if self.read_beside(*out, &all) { all } else { scattered(layout, axes) };
                        moved |= self.set(*out, layout);
                    }
                }
                Op::Dot { out, a, b, acc, over, kind } => {
                    let dot = Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind };
                    moved |= self.anchor(dot);
                }
                _ => {}
            }
        }
        moved
    }

    /// Whether a tile that is at hand in `layout` is read, by itself or through maps of its size, next to a larger
    /// tile that is distributed accordingly.
    fn read_beside(&self, tile: Tile, layout: &Layout) -> bool {
        let axes = &self.program.tiles[tile].axes;
        let mut reach = vec![self.root(tile)];
        loop {
            let before = reach.len();
            for op in &self.ops {
                let Op::Map { out, expr } = op else { continue };
                let read = tiles_of(expr);
                if !read.iter().any(|t| reach.contains(&self.root(*t))) {
                    continue;
                }
                if self.elements(*out) <= self.elements(tile) {
                    let out = self.root(*out);
                    if !reach.contains(&out) {
                        reach.push(out);
                    }
                    continue;
                }
                let larger = read.iter().chain([out]).filter(|t| self.elements(**t) > self.elements(tile));
                if larger.filter_map(|&t| self.get(t)).any(|l| slice(l, axes) == *layout) {
                    return true;
                }
            }
            if reach.len() == before {
                return false;
            }
        }
    }

    /// Decides the layout of a contraction's result.
    fn anchor(&mut self, dot: Dot<'_>) -> bool {
        match self.get(dot.out) {
            Some(have) if dot.accepts(self.program, have) => false,
            Some(_) if self.results.contains_key(&dot.out) => false,
            Some(_) => {
                let best = self.best_result(dot);
                self.results.insert(dot.out, best);
                true
            }
            None => {
                let best = self.best_result(dot);
                self.set(dot.out, best)
            }
        }
    }

    /// The split of warps over rows and columns with the least traffic for operands, conversions and reductions.
    fn best_result(&self, dot: Dot<'_>) -> Layout {
        let groups = dot.groups(self.program);
        let size = |bits: usize| 1u64 << bits;
        let (m, n, k) = (size(groups.m.len()), size(groups.n.len()), size(groups.k.len()));
        let reduced = self.reduced_from(dot.out);
        let by_row = groups.n_axes.iter().any(|a| reduced.contains(a));
        let by_column = groups.m_axes.iter().any(|a| reduced.contains(a));
        let mut best: Option<(u64, Layout)> = None;
        for columns in 0..=warp_bits(self.program) {
            let layout = dot.result(self.program, columns);
            let owned =
                |axes: &[Axis]| layout.warps.iter().flatten().filter(|b| axes.contains(&b.axis)).count();
            let (on_m, on_n) = (owned(&groups.m_axes), owned(&groups.n_axes));
            let idle = warp_bits(self.program) - on_m - on_n;
            // An operand that is a fragment already need not be moved.
            let (mut a_moves, mut b_moves) = (1, 1);
            if dot.kind.matrix().is_some() {
                let (fa, fb) = dot.fragments(self.program, &layout);
                a_moves = u64::from(!self.get(dot.a).is_some_and(|have| local(have, &fa)));
                b_moves = u64::from(!self.get(dot.b).is_some_and(|have| local(have, &fb)));
            }
            let mut cost = a_moves * m * k * size(on_n) + b_moves * n * k * size(on_m);
            // Reductions that cross warps cost a round through shared memory and a barrier.
            cost += if by_row { m * n * on_n as u64 } else { 0 }
                + if by_column { m * n * on_m as u64 } else { 0 };
            cost += m * n * k * (size(idle) - 1);
            if best.as_ref().is_none_or(|(c, _)| cost < *c) {
                best = Some((cost, layout));
            }
        }
        best.map(|(_, layout)| layout).unwrap_or_default()
    }

    /// The axes over which a tile, or what is computed from it, is reduced or contracted as a left operand.
    fn reduced_from(&self, tile: Tile) -> Vec<Axis> {
        let mut reach = vec![self.root(tile)];
        let mut axes: Vec<Axis> = Vec::new();
        loop {
            let before = reach.len();
            for op in &self.ops {
                let reached = |t: &Tile| reach.contains(&self.root(*t));
                let out = match op {
                    Op::Map { out, expr } if tiles_of(expr).iter().any(reached) => *out,
                    Op::Reduce { out, src, axes: gone, .. } if reached(src) => {
                        axes.extend(gone);
                        *out
                    }
                    Op::Dot { out, a, over, .. } if reached(a) => {
                        axes.extend(over);
                        *out
                    }
                    _ => continue,
                };
                let out = self.root(out);
                if !reach.contains(&out) {
                    reach.push(out);
                }
            }
            if reach.len() == before {
                break;
            }
        }
        axes.sort_unstable();
        axes.dedup();
        axes
    }

    /// One sweep against program order: readers with a layout propose slices to undecided loads and maps.
    fn backward(&mut self) -> bool {
        let mut moved = false;
        for at in (0..self.ops.len()).rev() {
            match self.ops[at] {
                Op::Map { out, expr } => moved |= self.propose(*out, &[expr]),
                Op::Load { out, index, mask, .. } => {
                    moved |= self.propose(*out, &index.iter().chain(mask).collect::<Vec<_>>());
                }
                Op::Dot { out, a, b, acc, over, kind: kind @ DotKind::Vectors(_) } => {
                    let dot = Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind };
                    moved |= self.operands(dot);
                }
                Op::Store { index, mask, value, .. } => {
                    moved |= self.propose(*value, &index.iter().chain(mask).collect::<Vec<_>>());
                }
                _ => {}
            }
        }
        moved
    }

    /// Proposes to the tiles of some expressions the slices of the layout of `reader`.
    fn propose(&mut self, reader: Tile, exprs: &[&Ex]) -> bool {
        let Some(layout) = self.get(reader).cloned() else { return false };
        let mut moved = false;
        for tile in exprs.iter().flat_map(|e| tiles_of(e)) {
            let wish = slice(&layout, &self.program.tiles[tile].axes);
            moved |= self.wish(tile, wish);
        }
        moved
    }

    /// Proposes a layout to a tile; whether it was decided by that.
    fn wish(&mut self, tile: Tile, wish: Layout) -> bool {
        if self.get(tile).is_some() || self.parent_or_child(tile) {
            return false;
        }
        match self.definition(tile) {
            Some(Op::Map { .. }) => self.set(tile, wish),
            Some(Op::Load { param, index, mask, .. }) => {
                let axes = &self.program.tiles[tile].axes;
                let fits = blocked::coalesces(self.program, *param, index, axes, &wish);
                let access = Access { param: *param, index, mask: mask.as_ref() };
                let layout = if fits { wish } else { self.for_load(tile, access) };
                self.set(tile, layout)
            }
            _ => false,
        }
    }

    /// Proposes to the operands of a contraction that they come as its fragments: what is loaded, and what is computed
    /// unless several warps would compute the same.
    fn operands(&mut self, dot: Dot<'_>) -> bool {
        let Some(result) = self.results.get(&dot.out).or_else(|| self.get(dot.out)).cloned() else {
            return false;
        };
        let (fa, fb) = dot.fragments(self.program, &result);
        let mut moved = false;
        for (tile, fragment) in [(dot.a, fa), (dot.b, fb)] {
            let loaded = matches!(self.definition(tile), Some(Op::Load { .. }));
            if loaded || fragment.warps.iter().all(Option::is_some) {
                moved |= self.wish(tile, fragment);
            }
        }
        moved
    }

    /// Whether the tile shares its layout with others: then one reader is not enough to decide it.
    fn parent_or_child(&self, tile: Tile) -> bool {
        self.parent.contains_key(&tile) || self.parent.values().any(|&p| p == tile)
    }

    fn definition(&self, tile: Tile) -> Option<&'a Op> {
        self.ops.iter().copied().find(|op| match op {
            Op::Load { out, .. } | Op::Map { out, .. } | Op::Reduce { out, .. } | Op::Dot { out, .. } => {
                *out == tile
            }
            _ => false,
        })
    }

    /// Decides the largest undecided tile by itself, loads before maps; whether there was one.
    fn decide_one(&mut self) -> bool {
        let undecided = self.program.tiles.keys().filter(|&t| self.get(t).is_none());
        let rank = |t: Tile| match self.definition(t) {
            Some(Op::Load { .. }) => 2,
            Some(Op::Map { .. }) => 1,
            _ => 0,
        };
        let best = undecided.map(|t| (self.spanning(t).min(1), rank(t).min(1), self.elements(t), rank(t), t));
        let Some((.., tile)) =
            best.max_by(|x, y| (x.0, x.1, x.2, x.3).cmp(&(y.0, y.1, y.2, y.3)).then(y.4.cmp(&x.4)))
        else {
            return false;
        };
        let layout = match self.definition(tile) {
            Some(Op::Load { param, index, mask, .. }) => {
                self.for_load(tile, Access { param: *param, index, mask: mask.as_ref() })
            }
            Some(Op::Map { expr, .. }) => self.for_map(tile, expr),
            _ => self.plain(tile),
        };
        self.set(tile, layout)
    }

    /// The layout that suits a load.
    fn for_load(&self, tile: Tile, access: Access<'_>) -> Layout {
        blocked::for_access(self.program, access, &self.program.tiles[tile].axes, &self.reduced_from(tile))
    }

    fn plain(&self, tile: Tile) -> Layout {
        let data = &self.program.tiles[tile];
        blocked::for_tile(self.program, &data.axes, data.dtype, &self.reduced_from(tile))
    }

    /// The layout of a map none of whose operands has all its axes: that of the largest operand that is decided or can
    /// be loaded as it likes, extended; else that of a store of the result; else a plain one.
    fn for_map(&self, tile: Tile, expr: &Ex) -> Layout {
        let axes = &self.program.tiles[tile].axes;
        let mut best: Option<(u64, bool, Layout)> = None;
        let mut consider = |n: u64, decided: bool, layout: Layout| {
            if n > 1 && best.as_ref().is_none_or(|(m, d, _)| (*m, *d) < (n, decided)) {
                best = Some((n, decided, layout));
            }
        };
        let mut open: Vec<Tile> = tiles_of(expr);
        let mut seen: Vec<Tile> = Vec::new();
        while let Some(t) = open.pop() {
            if seen.contains(&t) {
                continue;
            }
            seen.push(t);
            if let Some(layout) = self.get(t) {
                consider(self.elements(t), true, layout.clone());
                continue;
            }
            match self.definition(t) {
                Some(Op::Map { expr, .. }) => open.extend(tiles_of(expr)),
                Some(Op::Load { param, index, mask, .. }) => {
                    let access = Access { param: *param, index, mask: mask.as_ref() };
                    let reduced = self.reduced_from(tile);
                    let axes = &self.program.tiles[t].axes;
                    consider(
                        self.elements(t),
                        false,
                        blocked::for_access(self.program, access, axes, &reduced),
                    );
                }
                _ => {}
            }
        }
        if let Some((_, _, layout)) = best {
            return extend(self.program, &layout, axes);
        }
        let store = self.ops.iter().find_map(|op| match op {
            Op::Store { param, index, mask, value } if *value == tile => {
                Some(Access { param: *param, index, mask: mask.as_ref() })
            }
            _ => None,
        });
        match store {
            Some(access) => self.for_load(tile, access),
            None => self.plain(tile),
        }
    }
}
