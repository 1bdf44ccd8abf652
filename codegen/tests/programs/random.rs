//! Random tile programs against the plain interpreter, compared exactly.
//!
//! All values are small multiples of 1/4, so that every sum and product is exact in every type and order. A fresh seed
//! is printed; `SEED` repeats a run and `TILEWRIGHT_PROGRAMS` sets how many programs are tried.

use crate::common::*;
use cranelift_entity::PrimaryMap;
use tilewright_codegen::CodegenError;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{DotKind, Op, Range, Role, TileProgram};
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Reduction, Sym, SymData, Tile, Unary};

struct Generator {
    b: Builder,
    rng: Rng,
    sizes: Sizes,
    grid: Vec<Axis>,
    loops: Vec<Axis>,
    resident: Vec<Axis>,
    open: Vec<Axis>,
    buffers: usize,
}

const LIMIT: u64 = 4096;

impl Generator {
    fn new(seed: u64) -> Generator {
        let mut rng = Rng(seed);
        let warps = *rng.pick(&[1, 2, 4, 8]);
        let mut g = Generator {
            b: Builder::new("random_program", warps),
            rng,
            sizes: vec![],
            grid: vec![],
            loops: vec![],
            resident: vec![],
            open: vec![],
            buffers: 0,
        };
        for n in 0..1 + g.rng.below(2) {
            let extent = g.extent(40);
            let block = *g.rng.pick(&[1, 2, 16, 32]);
            let axis = g.b.axis(&format!("g{n}"), extent, block, Role::Grid);
            g.grid.push(axis);
        }
        for n in 0..g.rng.below(3) {
            let mut extent = g.extent(70);
            if let Extent::Sym(s) = extent
                && g.rng.below(4) == 0
            {
                // A loop that does not run at all.
                g.sizes[s.as_u32() as usize] = 0;
                extent = Extent::Sym(s);
            }
            let block = *g.rng.pick(&[1, 4, 16, 32]);
            let axis = g.b.axis(&format!("l{n}"), extent, block, Role::Loop);
            g.loops.push(axis);
        }
        for n in 0..1 + g.rng.below(3) {
            let most = if g.rng.below(3) == 0 { 64 } else { 20 };
            let extent = 1 + g.rng.below(most);
            let axis = g.b.resident(&format!("r{n}"), extent);
            g.resident.push(axis);
        }
        g
    }

    fn extent(&mut self, most: u64) -> Extent {
        let n = 1 + self.rng.below(most);
        if self.rng.below(3) == 0 {
            let s = self.b.sym(&format!("n{}", self.sizes.len()), 0, 200);
            self.sizes.push(n as i64);
            Extent::Sym(s)
        } else {
            Const(if self.rng.below(2) == 0 { n.next_multiple_of(8) } else { n })
        }
    }

    fn elements(&self, axes: &[Axis]) -> u64 {
        axes.iter().map(|&a| u64::from(self.b.p.axes[a].block)).product()
    }

    /// A random set of axes within the limit; what spans several positions in the grid is always part of it.
    fn axes(&mut self, fixed: &[Axis]) -> Vec<Axis> {
        let mut out = fixed.to_vec();
        let all: Vec<Axis> = self.grid.iter().chain(&self.loops).chain(&self.resident).copied().collect();
        for _ in 0..self.rng.below(4) {
            let axis = *self.rng.pick(&all);
            let mut with = out.clone();
            with.push(axis);
            if !out.contains(&axis) && self.elements(&with) <= LIMIT {
                out = with;
            }
        }
        for n in (1..out.len()).rev() {
            let m = self.rng.below(n as u64 + 1) as usize;
            out.swap(n, m);
        }
        out
    }

    fn dtype(&mut self) -> DType {
        *self.rng.pick(&[DType::F32, DType::F32, DType::Bf16, DType::F16, DType::I32, DType::F64, DType::I8])
    }

    /// Brings a value back to small multiples of 1/4.
    fn tame(e: Ex) -> Ex {
        let low = ex::binary(Binary::Max, e, ex::num(-8.0));
        let both = ex::binary(Binary::Min, low, ex::num(8.0));
        ex::mul(ex::unary(Unary::Floor, ex::mul(both, ex::num(4.0))), ex::num(0.25))
    }

    fn predicate(&mut self, axes: &[Axis]) -> Ex {
        let op = *self.rng.pick(&[Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge, Binary::Eq, Binary::Ne]);
        let x = self.integer(axes);
        let y = self.integer(axes);
        ex::binary(op, x, y)
    }

    fn integer(&mut self, axes: &[Axis]) -> Ex {
        if axes.is_empty() || self.rng.below(4) == 0 {
            return ex::num(self.rng.below(20) as f64);
        }
        let p = ex::pos(*self.rng.pick(axes));
        let n = ex::num((1 + self.rng.below(9)) as f64);
        match self.rng.below(5) {
            0 => ex::binary(Binary::Mod, p, n),
            1 => ex::binary(Binary::FloorDiv, p, n),
            2 => ex::binary(Binary::Mod, ex::sub(p, n.clone()), n),
            3 => ex::add(ex::mul(p, ex::num(2.0)), n),
            _ => p,
        }
    }

    fn expr(&mut self, pool: &[Tile], axes: &[Axis], depth: u32) -> Ex {
        let fits = |g: &Self, t: &Tile| g.b.p.tiles[*t].axes.iter().all(|a| axes.contains(a));
        let usable: Vec<Tile> = pool.iter().copied().filter(|t| fits(self, t)).collect();
        if depth == 0 || self.rng.below(6) == 0 {
            return match self.rng.below(8) {
                0 => ex::num(self.rng.below(16) as f64 / 4.0 - 2.0),
                1 if !axes.is_empty() => Self::tame(self.integer(axes)),
                _ if !usable.is_empty() => t(*self.rng.pick(&usable)),
                _ => ex::num(1.25),
            };
        }
        let a = self.expr(pool, axes, depth - 1);
        let b = self.expr(pool, axes, depth - 1);
        match self.rng.below(12) {
            0 | 1 => ex::add(a, b),
            2 => ex::sub(a, b),
            3 => Self::tame(ex::mul(a, b)),
            4 => Self::tame(ex::add(ex::mul(a, b), ex::num(0.5))),
            5 => ex::binary(Binary::Max, a, b),
            6 => ex::binary(Binary::Min, a, b),
            7 => ex::select(self.predicate(axes), a, ex::add(b, ex::num(f64::NAN))),
            8 => ex::select(ex::binary(Binary::Lt, a.clone(), b.clone()), a, b),
            9 => ex::unary(Unary::Abs, a),
            10 => ex::cast(DType::I32, a),
            _ => ex::div(a, ex::num(4.0)),
        }
    }

    fn map(&mut self, pool: &[Tile], fixed: &[Axis]) -> Tile {
        let axes = self.axes(fixed);
        let depth = 1 + self.rng.below(3) as u32;
        let e = self.expr(pool, &axes, depth);
        // The taken side of selections may be NaN by design; it becomes 0.
        let e = ex::select(ex::binary(Binary::Eq, e.clone(), e.clone()), e, ex::num(0.0));
        let dtype = self.dtype();
        self.b.map(dtype, &axes, Self::tame(e))
    }

    fn load(&mut self, pool: &[Tile]) -> Tile {
        let axes = self.axes(&[]);
        let dtype = *self.rng.pick(&[
            DType::F32,
            DType::Bf16,
            DType::F16,
            DType::I32,
            DType::U8,
            DType::I64,
            DType::F64,
            DType::Bool,
        ]);
        let mut dims: Vec<Extent> = axes.iter().map(|&a| self.b.p.axes[a].extent).collect();
        let mut index: Vec<Ex> = axes.iter().map(|&a| ex::pos(a)).collect();
        let mut mask = self.b.inside(&axes);
        let and = |m: Option<Ex>, e: Ex| Some(m.map_or(e.clone(), |m| ex::binary(Binary::And, m, e)));
        match self.rng.below(7) {
            0 => {
                // A dimension of its own, indexed by a table or a constant.
                let whole = |g: &Self, t: &Tile| {
                    let d = &g.b.p.tiles[*t];
                    d.dtype == DType::I32 && d.axes.iter().all(|a| axes.contains(a))
                };
                let tables: Vec<Tile> = pool.iter().copied().filter(|t| whole(self, t)).collect();
                let at = if tables.is_empty() { ex::num(2.0) } else { t(*self.rng.pick(&tables)) };
                mask = and(mask, ex::binary(Binary::Ge, at.clone(), ex::num(0.0)));
                mask = and(mask, ex::binary(Binary::Lt, at.clone(), ex::num(5.0)));
                let n = self.rng.below(dims.len() as u64 + 1) as usize;
                dims.insert(n, Const(5));
                index.insert(n, at);
            }
            1 if !axes.is_empty() => {
                // Shifted by one, with what falls outside masked.
                let n = self.rng.below(dims.len() as u64) as usize;
                index[n] = ex::sub(ex::pos(axes[n]), ex::num(1.0));
                mask = and(mask, ex::binary(Binary::Ge, index[n].clone(), ex::num(0.0)));
            }
            2 if !axes.is_empty() => {
                // Two positions share an element, or a dimension is split in two.
                let n = self.rng.below(dims.len() as u64) as usize;
                let split = *self.rng.pick(&[2.0, 4.0, 8.0, 3.0]);
                if let Some(e) = dims[n].as_const() {
                    dims[n] = Const(e.div_ceil(split as u64));
                    index[n] = ex::binary(Binary::FloorDiv, ex::pos(axes[n]), ex::num(split));
                    if self.rng.below(2) == 0 {
                        dims.insert(n + 1, Const(split as u64));
                        index.insert(n + 1, ex::binary(Binary::Mod, ex::pos(axes[n]), ex::num(split)));
                    }
                }
            }
            3 if axes.len() > 1 => {
                dims.rotate_left(1);
                index.rotate_left(1);
            }
            4 => mask = and(mask, self.predicate(&axes)),
            _ => {}
        }
        self.buffers += 1;
        let param = self.b.param(&format!("in{}", self.buffers), dtype, &dims, false);
        if self.rng.below(3) == 0 {
            self.b.pack(param, &mut self.rng);
        }
        let fill = if self.rng.below(2) == 0 { 0.0 } else { 3.0 };
        self.b.load_at(param, &axes, index, mask, fill)
    }

    fn store(&mut self, pool: &[Tile]) {
        let fixed: Vec<Axis> = self.grid.iter().copied().filter(|&a| self.b.p.axes[a].block > 1).collect();
        let value = self.map(pool, &fixed);
        let dtype = *self.rng.pick(&[DType::F32, DType::Bf16, DType::F16, DType::F64, DType::F32]);
        let some = self.rng.below(3) == 0;
        self.write(dtype, value, some);
    }

    /// Stores a tile to a buffer of its own, all of it or some.
    fn write(&mut self, dtype: DType, value: Tile, some: bool) {
        let mut axes = self.b.p.tiles[value].axes.clone();
        axes.extend(self.grid.iter().copied().filter(|a| !self.b.p.tiles[value].axes.contains(a)));
        self.buffers += 1;
        let param = self.b.buffer(&format!("out{}", self.buffers), dtype, &axes, true);
        let index = axes.iter().map(|&a| ex::pos(a)).collect();
        let mut mask = self.b.inside(&axes);
        if some {
            let more = self.predicate(&axes);
            mask = mask.map(|m| ex::binary(Binary::And, m, more));
        }
        self.b.push(Op::Store { param, index, mask, value });
    }

    fn dot(&mut self, pool: &[Tile]) -> Option<Tile> {
        let all: Vec<Axis> = self.grid.iter().chain(&self.loops).chain(&self.resident).copied().collect();
        let (mut m, mut n, mut k) = (vec![], vec![], vec![]);
        for axis in all {
            let side = match self.rng.below(4) {
                0 => &mut m,
                1 => &mut n,
                2 => &mut k,
                _ => continue,
            };
            side.push(axis);
        }
        let join = |x: &[Axis], y: &[Axis]| x.iter().chain(y).copied().collect::<Vec<_>>();
        let (am, bn, mn) = (join(&m, &k), join(&k, &n), join(&m, &n));
        if k.is_empty()
            || [&am, &bn, &mn].iter().any(|a| self.elements(a) > LIMIT)
            || self.elements(&mn) * self.elements(&k) > 1 << 18
        {
            return None;
        }
        let tensor = self.elements(&m) >= 16
            && self.elements(&n) >= 8
            && self.elements(&k) >= 16
            && self.rng.below(3) > 0;
        let dtype = match tensor {
            true => *self.rng.pick(&[DType::Bf16, DType::F16]),
            false => *self.rng.pick(&[DType::F32, DType::Bf16, DType::F16]),
        };
        let kind = if tensor { DotKind::Mma(dtype) } else { DotKind::Fma };
        let (a, b) = (operand_of(self, pool, &am, dtype), operand_of(self, pool, &bn, dtype));
        let acc = (self.rng.below(2) == 0).then(|| {
            let e = self.expr(pool, &mn, 1);
            let e = ex::select(ex::binary(Binary::Eq, e.clone(), e.clone()), e, ex::num(0.0));
            self.b.map(DType::F32, &mn, Self::tame(e))
        });
        let out = self.b.dot(a, b, acc, &k, kind);
        let out = self.b.map(DType::F32, &mn, Self::tame(t(out)));
        // The result as an operand of another contraction, on either side, over its rows or its columns.
        let (over, kept) = if self.rng.below(2) == 0 { (n, m) } else { (m, n) };
        let e: Vec<Axis> = self.resident.iter().copied().filter(|a| !mn.contains(a)).collect();
        let wide = join(&over, &e);
        let fits =
            !over.is_empty() && self.elements(&wide) <= LIMIT && self.elements(&join(&kept, &e)) <= LIMIT;
        let tensor = self.elements(&over) >= 16
            && self.elements(&kept) >= 16
            && self.elements(&e) >= 16
            && self.rng.below(4) > 0;
        if self.rng.below(2) == 0 || !fits {
            return Some(out);
        }
        let dtype = if tensor { DType::Bf16 } else { DType::F32 };
        let kind = if tensor { DotKind::Mma(dtype) } else { DotKind::Fma };
        let left = self.b.map(dtype, &mn, t(out));
        let right = operand_of(self, pool, &wide, dtype);
        let second = if self.rng.below(2) == 0 {
            self.b.dot(left, right, None, &over, kind)
        } else {
            self.b.dot(right, left, None, &over, kind)
        };
        let axes = self.b.p.tiles[second].axes.clone();
        Some(self.b.map(DType::F32, &axes, Self::tame(t(second))))
    }

    fn body(&mut self, pool: &mut Vec<Tile>, steps: u64) {
        for _ in 0..steps {
            match self.rng.below(10) {
                0..3 => {
                    let t = self.load(pool);
                    // What is loaded is tamed by what reads it, as masks compare it.
                    pool.push(t);
                }
                3 | 4 => {
                    let t = self.map(pool, &[]);
                    pool.push(t);
                }
                5 if !pool.is_empty() => {
                    let src = *self.rng.pick(pool);
                    let data = self.b.p.tiles[src].clone();
                    if data.axes.is_empty() || data.dtype == DType::Bool {
                        continue;
                    }
                    let from: Vec<Axis> =
                        data.axes.iter().copied().filter(|_| self.rng.below(2) == 0).collect();
                    let from = if from.is_empty() { data.axes.clone() } else { from };
                    let op = *self.rng.pick(&[Reduction::Sum, Reduction::Max, Reduction::Min]);
                    // Sums need room: they happen in f32.
                    let axes = data.axes.clone();
                    let wide = self.b.map(DType::F32, &axes, Self::tame(t(src)));
                    let r = self.b.reduce(op, &from, wide);
                    let axes = self.b.p.tiles[r].axes.clone();
                    let tamed = self.b.map(DType::F32, &axes, Self::tame(t(r)));
                    pool.push(tamed);
                }
                6 | 7 => {
                    if let Some(t) = self.dot(pool) {
                        pool.push(t);
                    }
                }
                8 => {
                    let free: Vec<Axis> =
                        self.loops.iter().copied().filter(|a| !self.open.contains(a)).collect();
                    if free.is_empty() || pool.is_empty() {
                        continue;
                    }
                    let axis = *self.rng.pick(&free);
                    self.looped(axis, pool);
                }
                _ => self.store(pool),
            }
        }
    }

    /// A range of a loop: by numbers, sizes, positions and what a tile holds; now and then empty, or beyond both ends.
    fn range(&mut self) -> Range {
        let held = self.rng.below(120) as f64 - 10.0;
        let tile = t(self.b.map(DType::I32, &[], ex::num(held)));
        let bound = |g: &mut Self| {
            let known: Vec<Axis> = g.grid.iter().chain(&g.open).copied().collect();
            let term = |g: &mut Self| match g.rng.below(4) {
                0 if !known.is_empty() => ex::pos(*g.rng.pick(&known)),
                1 => tile.clone(),
                2 if !g.sizes.is_empty() => {
                    ex::size(Extent::Sym(Sym::from_u32(g.rng.below(g.sizes.len() as u64) as u32)))
                }
                _ => ex::num(g.rng.below(150) as f64 - 20.0),
            };
            let (a, b) = (term(g), term(g));
            match g.rng.below(5) {
                0 => ex::add(a, b),
                1 => ex::sub(a, b),
                2 => ex::binary(Binary::Max, a, b),
                3 => ex::binary(Binary::Min, a, b),
                _ => a,
            }
        };
        let from = (self.rng.below(3) == 0).then(|| bound(self));
        let to = (self.rng.below(3) == 0).then(|| bound(self));
        Range { from, to }
    }

    /// A loop with an end of its own, and mostly a start, that adds up what it visits: each block that is left out or visited
    /// too often shows, because nothing of what is carried is cut off.
    fn counted(&mut self) {
        let extent = self.extent(70);
        let most = match extent {
            Const(n) => n,
            Extent::Sym(s) => self.sizes[s.as_u32() as usize] as u64,
        };
        let block = *self.rng.pick(&[2, 4, 16, 32]);
        let axis = self.b.axis("counted", extent, block, Role::Loop);
        let mut range = self.range();
        if range.to.is_none() || self.rng.below(2) == 0 {
            range.to = Some(ex::num(self.rng.below(most + 2) as f64));
        }
        let dtype = *self.rng.pick(&[DType::F32, DType::Bf16, DType::F16]);
        self.buffers += 1;
        let param = self.b.param(&format!("in{}", self.buffers), dtype, &[extent], false);
        let mut mask = self.b.inside(&[axis]);
        if let Some(Expr::Num(end)) = range.to.as_deref()
            && self.rng.below(2) == 0
        {
            // As an end mostly comes about: from a mask.
            let ends = ex::binary(Binary::Lt, ex::pos(axis), ex::num(end.0));
            mask = mask.map(|m| ex::binary(Binary::And, m, ends));
        }
        let zeros = [0, 1].map(|_| self.b.map(DType::F32, &[], ex::num(0.0)));
        self.b.range = range;
        let after = self.b.over(axis, &zeros, |b, inside| {
            let x = b.load_at(param, &[axis], vec![ex::pos(axis)], mask, 0.0);
            let wide = b.map(DType::F32, &[axis], t(x));
            let sum = b.reduce(Reduction::Sum, &[axis], wide);
            let blocks = b.map(DType::F32, &[], ex::add(t(inside[0]), ex::num(1.0)));
            vec![blocks, b.map(DType::F32, &[], ex::add(t(inside[1]), t(sum)))]
        });
        for tile in after {
            let fixed: Vec<Axis> =
                self.grid.iter().copied().filter(|&a| self.b.p.axes[a].block > 1).collect();
            let value = self.b.map(DType::F32, &fixed, t(tile));
            self.write(DType::F32, value, false);
        }
    }

    fn looped(&mut self, axis: Axis, pool: &mut Vec<Tile>) {
        let count = 1 + self.rng.below(2);
        let initial: Vec<Tile> = (0..count).map(|_| *self.rng.pick(pool)).collect();
        self.b.range = self.range();
        self.open.push(axis);
        // The builder's closure needs the builder; the generator is moved around it.
        let outer = pool.clone();
        let b = std::mem::replace(&mut self.b, Builder::new("moved", 1));
        let mut b = b;
        let after = b.over(axis, &initial, |b, inside| {
            std::mem::swap(&mut self.b, b);
            let mut inner = outer.clone();
            inner.extend_from_slice(inside);
            let steps = 1 + self.rng.below(5);
            self.body(&mut inner, steps);
            let next = (0..inside.len())
                .map(|n| {
                    let data = self.b.p.tiles[inside[n]].clone();
                    let same: Vec<Tile> = inside
                        .iter()
                        .copied()
                        .filter(|&t| {
                            let d = &self.b.p.tiles[t];
                            d.axes == data.axes && d.dtype == data.dtype
                        })
                        .collect();
                    if self.rng.below(4) == 0 {
                        // Carried tiles may change places.
                        return *self.rng.pick(&same);
                    }
                    let e = self.expr(&inner, &data.axes, 2);
                    let e = ex::add(e, t(inside[n]));
                    let e = ex::select(ex::binary(Binary::Eq, e.clone(), e.clone()), e, ex::num(0.0));
                    self.b.map(data.dtype, &data.axes, Self::tame(e))
                })
                .collect();
            std::mem::swap(&mut self.b, b);
            next
        });
        self.b = b;
        self.open.pop();
        pool.extend(after);
    }
}

/// A tile of the given type and axes for a contraction.
fn operand_of(g: &mut Generator, pool: &[Tile], axes: &[Axis], dtype: DType) -> Tile {
    let e = g.expr(pool, axes, 2);
    let e = ex::select(ex::binary(Binary::Eq, e.clone(), e.clone()), e, ex::num(0.0));
    g.b.map(dtype, axes, Generator::tame(e))
}

/// The placed program satisfies the verifier of the IR and survives printing and parsing.
fn well_formed(p: &TileProgram, symbols: &PrimaryMap<Sym, SymData>) {
    let placed = tilewright_codegen::assign_layouts(p).unwrap();
    let text = tilewright_ir::text::print_tile(&placed, symbols);
    if let Err(violations) = tilewright_ir::verify::verify_tile(&placed, symbols) {
        // Generated expressions mention positions outside of loops and compare without types; the rest must hold.
        let bad: Vec<_> = violations
            .iter()
            .map(ToString::to_string)
            .filter(|v| !v.contains("T6") && !v.contains("T13"))
            .collect();
        assert!(bad.is_empty(), "{bad:#?}\n{text}");
    }
    assert_eq!(tilewright_codegen::assign_layouts(&placed).unwrap(), placed);
}

#[test]
fn random_programs_agree_with_the_interpreter() {
    let count: u64 = std::env::var("TILEWRIGHT_PROGRAMS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    let mut seeds = Rng::fresh("random programs");
    let only = std::env::var("TILEWRIGHT_ONE").ok().and_then(|s| s.parse::<u64>().ok());
    let (mut refused, mut spilled) = (0, 0);
    for n in 0..count {
        let seed = only.unwrap_or_else(|| seeds.next());
        println!("program {n}: TILEWRIGHT_ONE={seed}");
        let mut g = Generator::new(seed);
        let mut pool = vec![];
        let steps = 3 + g.rng.below(10);
        g.body(&mut pool, steps);
        for _ in 0..2 {
            g.store(&pool.clone());
        }
        g.counted();
        let (mut rng, sizes) = (g.rng, g.sizes);
        let (p, symbols) = g.b.finish();
        match tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE) {
            Err(CodegenError::RegisterTile { .. } | CodegenError::SharedMemory { .. }) => {
                refused += 1;
                continue;
            }
            Err(e) => panic!("{e}\n{p:#?}"),
            Ok(_) => {}
        }
        well_formed(&p, &symbols);
        let buffers: Vec<Vec<f64>> = p
            .params
            .iter()
            .map(|(param, data)| {
                let one = |rng: &mut Rng| match data.dtype {
                    DType::Bool => rng.below(2) as f64,
                    DType::U8 => rng.below(8) as f64,
                    d if d.is_int() => rng.below(16) as f64 - 8.0,
                    _ => rng.below(64) as f64 / 4.0 - 8.0,
                };
                (0..numel(&p, param, &sizes)).map(|_| one(&mut rng)).collect()
            })
            .collect();
        let ran = check_on(&p, &symbols, &sizes, &buffers, 0.0, 1.0);
        spilled += u64::from(ran.resources.spill_bytes > 0);
        if only.is_some() {
            break;
        }
    }
    println!("{count} programs, {refused} refused for a limit, {spilled} with spills");
}
