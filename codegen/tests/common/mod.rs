//! What tests share: building tile programs, running them on the emulator, and a plain interpreter as the oracle.
//!
//! The interpreter works on one number at a time in f64 and rounds where a tile says so; it shares nothing with the
//! code under test but the data structures.

#![allow(dead_code, unreachable_pub, unused_imports, clippy::print_stdout)]

use std::collections::HashMap;

use cranelift_entity::PrimaryMap;
use tilewright_emulator as emu;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{
    BufferParam, Carried, DotKind, Op, Place, Range, Role, TileAxis, TileData, TileProgram,
};
use tilewright_ir::{
    Axis, Binary, DType, Ex, Expr, Extent, Packing, Param, Reduction, Sym, SymData, Tile, Unary, splitmix,
};

/// A small counter-based generator: reproducible, no dependency.
pub struct Rng(pub u64);

impl Rng {
    /// A fresh seed that the test prints.
    pub fn fresh(test: &str) -> Rng {
        let seed = splitmix::fresh_seed();
        println!("{test}: SEED={seed}");
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// A program under construction: a stack of bodies.
pub struct Builder {
    pub p: TileProgram,
    pub symbols: PrimaryMap<Sym, SymData>,
    /// Of the next loop.
    pub range: Range,
    bodies: Vec<Vec<Op>>,
}

impl Builder {
    pub fn new(name: &str, warps: u32) -> Builder {
        let p = TileProgram { name: name.to_owned(), warps, ..TileProgram::default() };
        Builder { p, symbols: PrimaryMap::new(), range: Range::default(), bodies: vec![vec![]] }
    }

    pub fn sym(&mut self, name: &str, min: u64, max: u64) -> Sym {
        self.symbols.push(SymData { name: name.to_owned(), min, max })
    }

    pub fn axis(&mut self, name: &str, extent: Extent, block: u32, role: Role) -> Axis {
        self.p.axes.push(TileAxis { name: name.to_owned(), extent, block, role, runs: None })
    }

    pub fn grid(&mut self, name: &str, extent: u64, block: u32) -> Axis {
        self.axis(name, Const(extent), block, Role::Grid)
    }

    pub fn looped(&mut self, name: &str, extent: u64, block: u32) -> Axis {
        self.axis(name, Const(extent), block, Role::Loop)
    }

    pub fn resident(&mut self, name: &str, extent: u64) -> Axis {
        self.axis(name, Const(extent), extent.next_power_of_two() as u32, Role::Resident)
    }

    pub fn param(&mut self, name: &str, dtype: DType, dims: &[Extent], written: bool) -> Param {
        // Both kinds of loads are met.
        let constant = !written && self.p.params.len().is_multiple_of(2);
        self.p.params.push(BufferParam {
            name: name.to_owned(),
            dtype,
            dims: dims.to_vec(),
            written,
            constant,
            packing: None,
            area: None,
        })
    }

    /// Packs a buffer that is not written, if its extents are constant, in blocks that divide its last extent.
    pub fn pack(&mut self, param: Param, rng: &mut Rng) {
        let data = &mut self.p.params[param];
        let dims: Option<Vec<u64>> = data.dims.iter().map(|d| d.as_const()).collect();
        let Some([outer @ .., last]) = dims.as_deref() else { return };
        if data.written || *last == 0 || outer.contains(&0) {
            return;
        }
        // A matrix may have some of the axes as columns.
        let (rows, columns) = match outer {
            [most @ .., some] if rng.below(2) == 0 => (most.iter().product(), some * last),
            _ => (outer.iter().product(), *last),
        };
        let widths: Vec<u64> = [1, 2, 4, 8, 16, 32, 3, 5].into_iter().filter(|&n| columns % n == 0).collect();
        let (width, height) = (*rng.pick(&widths), *rng.pick(&[1, 2, 8, 16, 5]));
        data.constant = true;
        data.packing = Packing::blocks(rows, columns, height, width);
    }

    /// A buffer with the extents of axes.
    pub fn buffer(&mut self, name: &str, dtype: DType, axes: &[Axis], written: bool) -> Param {
        let dims: Vec<Extent> = axes.iter().map(|&a| self.p.axes[a].extent).collect();
        self.param(name, dtype, &dims, written)
    }

    pub fn tile(&mut self, dtype: DType, axes: &[Axis]) -> Tile {
        self.p.tiles.push(TileData { dtype, axes: axes.to_vec(), place: Place::Unassigned, ring: None })
    }

    pub fn push(&mut self, op: Op) {
        self.bodies.last_mut().unwrap().push(op);
    }

    /// `Pos(a) < extent` for all given axes.
    pub fn inside(&self, axes: &[Axis]) -> Option<Ex> {
        axes.iter()
            .map(|&a| ex::binary(Binary::Lt, ex::pos(a), ex::size(self.p.axes[a].extent)))
            .reduce(|a, b| ex::binary(Binary::And, a, b))
    }

    pub fn load(&mut self, param: Param, axes: &[Axis]) -> Tile {
        let index = axes.iter().map(|&a| ex::pos(a)).collect();
        let mask = self.inside(axes);
        self.load_at(param, axes, index, mask, 0.0)
    }

    pub fn load_at(
        &mut self,
        param: Param,
        axes: &[Axis],
        index: Vec<Ex>,
        mask: Option<Ex>,
        fill: f64,
    ) -> Tile {
        let dtype = self.p.params[param].dtype;
        let out = self.tile(dtype, axes);
        self.push(Op::Load { out, param, index, mask, fill });
        out
    }

    pub fn store(&mut self, param: Param, axes: &[Axis], value: Tile) {
        let index = axes.iter().map(|&a| ex::pos(a)).collect();
        let mask = self.inside(axes);
        self.push(Op::Store { param, index, mask, value });
    }

    pub fn map(&mut self, dtype: DType, axes: &[Axis], expr: Ex) -> Tile {
        let out = self.tile(dtype, axes);
        self.push(Op::Map { out, expr });
        out
    }

    pub fn reduce(&mut self, op: Reduction, over: &[Axis], src: Tile) -> Tile {
        let data = self.p.tiles[src].clone();
        let axes: Vec<Axis> = data.axes.iter().copied().filter(|a| !over.contains(a)).collect();
        let out = self.tile(data.dtype, &axes);
        self.push(Op::Reduce { out, op, axes: over.to_vec(), src });
        out
    }

    pub fn dot(&mut self, a: Tile, b: Tile, acc: Option<Tile>, over: &[Axis], kind: DotKind) -> Tile {
        let free =
            |t: Tile| self.p.tiles[t].axes.iter().copied().filter(|x| !over.contains(x)).collect::<Vec<_>>();
        let mut axes = free(a);
        axes.extend(free(b));
        let out = self.tile(DType::F32, &axes);
        self.push(Op::Dot { out, a, b, acc, over: over.to_vec(), kind });
        out
    }

    /// A loop; the closure gets the tiles inside and returns the next ones. Returns the tiles after.
    pub fn over(
        &mut self,
        axis: Axis,
        initial: &[Tile],
        body: impl FnOnce(&mut Builder, &[Tile]) -> Vec<Tile>,
    ) -> Vec<Tile> {
        let like = |b: &mut Builder, t: Tile| {
            let data = b.p.tiles[t].clone();
            b.p.tiles.push(data)
        };
        let inside: Vec<Tile> = initial.iter().map(|&t| like(self, t)).collect();
        let range = std::mem::take(&mut self.range);
        self.bodies.push(vec![]);
        let next = body(self, &inside);
        let body = self.bodies.pop().unwrap();
        let after: Vec<Tile> = initial.iter().map(|&t| like(self, t)).collect();
        let carried = (0..initial.len())
            .map(|n| Carried { initial: initial[n], inside: inside[n], next: next[n], after: after[n] })
            .collect();
        self.push(Op::Loop { axis, range, carried, body });
        after
    }

    /// Stores `o[j] = sum[q] x[q] * w[j, q]`, with a loop along `q`: products are added up element by element, and rows are
    /// summed after it.
    pub fn matvec(&mut self, [j, q]: [Axis; 2], [x, w, o]: [Param; 3]) {
        let zero = self.map(DType::F32, &[j, q], ex::num(0.0));
        let after = self.over(q, &[zero], |b, inside| {
            let (tx, tw) = (b.load(x, &[q]), b.load(w, &[j, q]));
            vec![b.map(DType::F32, &[j, q], ex::add(t(inside[0]), ex::mul(t(tx), t(tw))))]
        });
        let sum = self.reduce(Reduction::Sum, &[q], after[0]);
        self.store(o, &[j], sum);
    }

    /// Stores `o[i, j] = sum[q] x[i, q] * w[j, q]`, with a loop along `q`, on tensor cores.
    pub fn matmul(&mut self, [i, j, q]: [Axis; 3], [x, w, o]: [Param; 3]) {
        let zero = self.map(DType::F32, &[i, j], ex::num(0.0));
        let after = self.over(q, &[zero], |b, inside| {
            let (tx, tw) = (b.load(x, &[i, q]), b.load(w, &[j, q]));
            let narrow = b.map(DType::Bf16, &[i, q], t(tx));
            vec![b.dot(narrow, tw, Some(inside[0]), &[q], DotKind::Mma(DType::Bf16))]
        });
        self.store(o, &[i, j], after[0]);
    }

    pub fn finish(mut self) -> (TileProgram, PrimaryMap<Sym, SymData>) {
        self.p.body = self.bodies.pop().unwrap();
        (self.p, self.symbols)
    }
}

pub use Extent::Const;

pub fn t(tile: Tile) -> Ex {
    ex::tile(tile)
}

/// Values of the symbols of a run, by number.
pub type Sizes = Vec<i64>;

pub fn extent(e: Extent, sizes: &Sizes) -> usize {
    match e {
        Const(n) => n as usize,
        Extent::Sym(s) => sizes[s.as_u32() as usize] as usize,
    }
}

pub fn numel(p: &TileProgram, param: Param, sizes: &Sizes) -> usize {
    p.params[param].dims.iter().map(|&d| extent(d, sizes)).product()
}

// ---- the oracle ----

struct Machine<'a> {
    p: &'a TileProgram,
    sizes: &'a Sizes,
    buffers: Vec<Vec<f64>>,
    tiles: HashMap<Tile, Vec<f64>>,
    offsets: HashMap<Axis, i64>,
}

type Point = HashMap<Axis, i64>;

impl Machine<'_> {
    fn points(&self, axes: &[Axis]) -> Vec<Vec<i64>> {
        let mut out = vec![vec![]];
        for &a in axes {
            let block = i64::from(self.p.axes[a].block);
            out = out
                .into_iter()
                .flat_map(|p| {
                    (0..block).map(move |x| {
                        let mut p = p.clone();
                        p.push(x);
                        p
                    })
                })
                .collect();
        }
        out
    }

    fn at(&self, axes: &[Axis], point: &[i64]) -> Point {
        axes.iter().copied().zip(point.iter().copied()).collect()
    }

    fn slot(&self, tile: Tile, point: &Point) -> usize {
        self.p.tiles[tile]
            .axes
            .iter()
            .fold(0, |n, a| n * self.p.axes[*a].block as usize + point.get(a).copied().unwrap_or(0) as usize)
    }

    fn eval(&self, e: &Ex, point: &Point) -> f64 {
        match &**e {
            Expr::Num(n) => n.0,
            Expr::Pos(a) => {
                (self.offsets.get(a).copied().unwrap_or(0) + point.get(a).copied().unwrap_or(0)) as f64
            }
            Expr::Size(x) => extent(*x, self.sizes) as f64,
            Expr::Tile(t) => self.tiles[t][self.slot(*t, point)],
            Expr::Unary(f, x) => {
                let x = self.eval(x, point);
                match f {
                    Unary::Neg => -x,
                    Unary::Not => f64::from(u8::from(x == 0.0)),
                    Unary::Abs => x.abs(),
                    Unary::Inv => 1.0 / x,
                    Unary::Exp => x.exp(),
                    Unary::Exp2 => x.exp2(),
                    Unary::Log => x.ln(),
                    Unary::Sqrt => x.sqrt(),
                    Unary::Rsqrt => 1.0 / x.sqrt(),
                    Unary::Tanh => x.tanh(),
                    Unary::Sin => x.sin(),
                    Unary::Cos => x.cos(),
                    Unary::Floor => x.floor(),
                }
            }
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.eval(a, point), self.eval(b, point));
                let is = |x: bool| f64::from(u8::from(x));
                match f {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                    Binary::FloorDiv => (a / b).floor(),
                    Binary::Mod => a - b * (a / b).floor(),
                    Binary::Max => a.max(b),
                    Binary::Min => a.min(b),
                    Binary::Lt => is(a < b),
                    Binary::Le => is(a <= b),
                    Binary::Gt => is(a > b),
                    Binary::Ge => is(a >= b),
                    Binary::Eq => is(a == b),
                    Binary::Ne => is(a != b),
                    Binary::And => is(a != 0.0 && b != 0.0),
                    Binary::Or => is(a != 0.0 || b != 0.0),
                    // Its definition has known answers of its own.
                    Binary::Random => f64::from(tilewright_ir::random::uniform(a as i64, b as i64)),
                }
            }
            Expr::Select(c, a, b) => {
                if self.eval(c, point) != 0.0 {
                    self.eval(a, point)
                } else {
                    self.eval(b, point)
                }
            }
            Expr::Cast(d, x) => d.round(self.eval(x, point)),
            _ => panic!("not in tile programs"),
        }
    }

    fn address(&self, param: Param, index: &[Ex], point: &Point) -> usize {
        let mut at = 0i64;
        for (e, d) in index.iter().zip(&self.p.params[param].dims) {
            let n = extent(*d, self.sizes) as i64;
            let x = self.eval(e, point) as i64;
            assert!((0..n).contains(&x), "the program itself reads outside of {param}: {x} of {n}");
            at = at * n + x;
        }
        at as usize
    }

    fn run(&mut self, body: &[Op]) {
        for op in body {
            match op {
                Op::Load { out, param, index, mask, fill } => {
                    let data = self.p.tiles[*out].clone();
                    let values = self
                        .points(&data.axes)
                        .iter()
                        .map(|x| {
                            let point = self.at(&data.axes, x);
                            let ok = mask.as_ref().is_none_or(|m| self.eval(m, &point) != 0.0);
                            let v = if ok {
                                self.buffers[param.as_u32() as usize][self.address(*param, index, &point)]
                            } else {
                                *fill
                            };
                            data.dtype.round(v)
                        })
                        .collect();
                    self.tiles.insert(*out, values);
                }
                Op::Store { param, index, mask, value } => {
                    let data = self.p.tiles[*value].clone();
                    for x in self.points(&data.axes) {
                        let point = self.at(&data.axes, &x);
                        if mask.as_ref().is_none_or(|m| self.eval(m, &point) != 0.0) {
                            let at = self.address(*param, index, &point);
                            let v = self.tiles[value][self.slot(*value, &point)];
                            self.buffers[param.as_u32() as usize][at] = self.p.params[*param].dtype.round(v);
                        }
                    }
                }
                Op::Map { out, expr } => {
                    let data = self.p.tiles[*out].clone();
                    let values = self
                        .points(&data.axes)
                        .iter()
                        .map(|x| data.dtype.round(self.eval(expr, &self.at(&data.axes, x))))
                        .collect();
                    self.tiles.insert(*out, values);
                }
                Op::Reduce { out, op, axes, src } => {
                    let (from, to) = (self.p.tiles[*src].clone(), self.p.tiles[*out].clone());
                    let mut values = vec![op.identity(); self.points(&to.axes).len()];
                    for x in self.points(&from.axes) {
                        let point = self.at(&from.axes, &x);
                        let v = self.tiles[src][self.slot(*src, &point)];
                        let slot = self.slot(*out, &point);
                        values[slot] = match op {
                            Reduction::Sum => values[slot] + v,
                            Reduction::Max => values[slot].max(v),
                            Reduction::Min => values[slot].min(v),
                        };
                    }
                    let _ = axes;
                    self.tiles.insert(*out, values.into_iter().map(|v| to.dtype.round(v)).collect());
                }
                Op::Dot { out, a, b, acc, over, .. } => {
                    let data = self.p.tiles[*out].clone();
                    let ks = self.points(over);
                    let values = self
                        .points(&data.axes)
                        .iter()
                        .map(|x| {
                            let mut point = self.at(&data.axes, x);
                            let mut sum = acc.map_or(0.0, |t| self.tiles[&t][self.slot(t, &point)]);
                            for k in &ks {
                                point.extend(over.iter().copied().zip(k.iter().copied()));
                                sum += self.tiles[a][self.slot(*a, &point)]
                                    * self.tiles[b][self.slot(*b, &point)];
                            }
                            data.dtype.round(sum)
                        })
                        .collect();
                    self.tiles.insert(*out, values);
                }
                Op::Convert { .. } => panic!("not before layouts"),
                Op::Loop { axis, range, carried, body } => {
                    for c in carried {
                        let v = self.permuted(c.initial, c.inside);
                        self.tiles.insert(c.inside, v);
                    }
                    let data = self.p.axes[*axis].clone();
                    let (all, block) = (extent(data.extent, self.sizes) as i64, i64::from(data.block));
                    let n = (all + block - 1) / block;
                    let from = range.from.as_ref().map_or(0, |e| self.bound(e, false));
                    let to = range.to.as_ref().map_or(all, |e| self.bound(e, true));
                    // Blocks with a position within the range; where there is none, the one where it would begin.
                    let mut visited: Vec<i64> =
                        (0..n).filter(|i| (i + 1) * block > from && i * block < to).collect();
                    if visited.is_empty() && n > 0 {
                        visited.push((from.clamp(0, all) / block).min(n - 1));
                    }
                    for i in visited {
                        self.offsets.insert(*axis, i * block);
                        self.run(body);
                        let next: Vec<_> = carried.iter().map(|c| self.permuted(c.next, c.inside)).collect();
                        for (c, v) in carried.iter().zip(next) {
                            self.tiles.insert(c.inside, v);
                        }
                    }
                    self.offsets.remove(axis);
                    for c in carried {
                        let v = self.permuted(c.inside, c.after);
                        self.tiles.insert(c.after, v);
                    }
                }
            }
        }
    }

    /// The least or the greatest value of a bound.
    fn bound(&self, e: &Ex, high: bool) -> i64 {
        match &**e {
            Expr::Num(n) => n.0 as i64,
            Expr::Size(size) => extent(*size, self.sizes) as i64,
            Expr::Tile(t) => self.tiles[t][0] as i64,
            Expr::Pos(a) => {
                let (data, first) = (&self.p.axes[*a], self.offsets.get(a).copied().unwrap_or(0));
                let end = (first + i64::from(data.block)).min(extent(data.extent, self.sizes) as i64);
                if high { end - 1 } else { first }
            }
            Expr::Binary(Binary::Sub, a, b) => self.bound(a, high) - self.bound(b, !high),
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.bound(a, high), self.bound(b, high));
                match op {
                    Binary::Add => a + b,
                    Binary::Max => a.max(b),
                    Binary::Min => a.min(b),
                    other => panic!("a bound with {other:?}"),
                }
            }
            other => panic!("a bound of {other:?}"),
        }
    }

    fn permuted(&self, from: Tile, to: Tile) -> Vec<f64> {
        let axes = self.p.tiles[to].axes.clone();
        self.points(&axes).iter().map(|x| self.tiles[&from][self.slot(from, &self.at(&axes, x))]).collect()
    }
}

/// Runs a program in the oracle; buffers in, buffers out.
pub fn interpret(p: &TileProgram, sizes: &Sizes, buffers: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut m =
        Machine { p, sizes, buffers: buffers.to_vec(), tiles: HashMap::new(), offsets: HashMap::new() };
    let grid: Vec<(Axis, usize, u32)> =
        p.grid().map(|(a, d)| (a, extent(d.extent, sizes).div_ceil(d.block as usize), d.block)).collect();
    let total: usize = grid.iter().map(|g| g.1).product();
    for n in 0..total {
        let mut rest = n;
        for &(axis, count, block) in grid.iter().rev() {
            m.offsets.insert(axis, (rest % count) as i64 * i64::from(block));
            rest /= count;
        }
        m.run(&p.body);
    }
    m.buffers
}

// ---- the code under test ----

pub fn to_bytes(dtype: DType, values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&x| match dtype {
            DType::Bool => vec![u8::from(x != 0.0)],
            DType::I8 => (x as i8).to_le_bytes().to_vec(),
            DType::U8 => vec![x as u8],
            DType::I32 => (x as i32).to_le_bytes().to_vec(),
            DType::I64 => (x as i64).to_le_bytes().to_vec(),
            DType::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
            DType::Bf16 => half::bf16::from_f64(x).to_le_bytes().to_vec(),
            DType::F32 => (x as f32).to_le_bytes().to_vec(),
            DType::F64 => x.to_le_bytes().to_vec(),
        })
        .collect()
}

pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    bytes
        .chunks_exact(dtype.bytes())
        .map(|b| match dtype {
            DType::Bool | DType::U8 => f64::from(b[0]),
            DType::I8 => f64::from(b[0] as i8),
            DType::I32 => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
            DType::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            DType::F16 => half::f16::from_le_bytes(b.try_into().unwrap()).to_f64(),
            DType::Bf16 => half::bf16::from_le_bytes(b.try_into().unwrap()).to_f64(),
            DType::F32 => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            DType::F64 => f64::from_le_bytes(b.try_into().unwrap()),
        })
        .collect()
}

/// What a run on the emulator gives.
pub struct Ran {
    pub buffers: Vec<Vec<f64>>,
    pub counters: emu::Counters,
    pub resources: tilewright_codegen::Resources,
    pub cuda: String,
}

/// Emits, compiles and runs a program on the emulator.
pub fn run(p: &TileProgram, symbols: &PrimaryMap<Sym, SymData>, sizes: &Sizes, buffers: &[Vec<f64>]) -> Ran {
    run_for(p, symbols, sizes, buffers, "sm_80", &emu::Options::default())
}

/// Whether loads of a program run ahead on a target.
pub fn streams(p: &TileProgram, target: &str) -> bool {
    let target = tilewright_codegen::Target::parse(target).unwrap();
    let placed = tilewright_codegen::assign_layouts(p).unwrap();
    let streamed = tilewright_codegen::stream_loads(&placed, target).unwrap();
    streamed.tiles.values().any(|t| t.ring.is_some())
}

pub fn run_for(
    p: &TileProgram,
    symbols: &PrimaryMap<Sym, SymData>,
    sizes: &Sizes,
    buffers: &[Vec<f64>],
    arch: &str,
    options: &emu::Options,
) -> Ran {
    let source = tilewright_codegen::emit(p, symbols, tilewright_codegen::Target::parse(arch).unwrap())
        .unwrap_or_else(|e| panic!("{e}\n{p:#?}"));
    if let Ok(dir) = std::env::var("TILEWRIGHT_DUMP") {
        std::fs::write(format!("{dir}/{}.cu", p.name), &source.cuda).unwrap();
    }
    let nvrtc = tilewright_runtime::testing::nvrtc();
    let compiled = nvrtc
        .compile(&source, arch, &tilewright_codegen::nvrtc_options(arch))
        .unwrap_or_else(|e| panic!("{e}\n{}", source.cuda));
    if let Ok(dir) = std::env::var("TILEWRIGHT_DUMP") {
        std::fs::write(format!("{dir}/{}.ptx", p.name), &compiled.ptx).unwrap();
    }
    let program = emu::Program::parse(&compiled.ptx).unwrap_or_else(|e| panic!("{e:?}\n{}", compiled.ptx));
    let mut memory = emu::Memory::new(1 << 30);
    let mut params: Vec<u8> = Vec::new();
    let mut addresses = Vec::new();
    for (param, data) in p.params.iter() {
        let bytes = in_memory(data, to_bytes(data.dtype, &buffers[param.as_u32() as usize]));
        let address = memory.alloc(&data.name, bytes.len() as u64).unwrap();
        memory.write(address, &bytes).unwrap();
        params.extend(address.to_le_bytes());
        addresses.push((address, bytes.len(), data));
    }
    let block: Vec<u8> = sizes.iter().flat_map(|&s| (s as i32).to_le_bytes()).collect();
    let sy = memory.alloc("sizes", block.len().max(4) as u64).unwrap();
    memory.write(sy, &block).unwrap();
    params.extend(sy.to_le_bytes());
    let grid: usize = p.grid().map(|(_, d)| extent(d.extent, sizes).div_ceil(d.block as usize)).product();
    let mut counters = emu::Counters::default();
    if grid > 0 {
        let launch = emu::Launch {
            entry: &p.name,
            grid: [grid as u32, 1, 1],
            block: [source.threads, 1, 1],
            shared_bytes: source.shared_bytes,
            cluster: [1; 3],
            params: &params,
        };
        let options = emu::Options { counters: true, ..options.clone() };
        let profile = emu::Profile::named("h100").unwrap();
        let report = emu::launch(&program, &memory, &profile, &launch, &options)
            .unwrap_or_else(|e| panic!("{e:?}\n{}\n{p:?}", source.cuda));
        assert!(
            report.findings.is_empty(),
            "{}: {:#?}\n{}",
            p.name,
            report.findings,
            kernel_text(&source.cuda)
        );
        counters = report.counters;
    }
    let buffers = addresses
        .iter()
        .map(|&(address, len, data)| {
            let mut bytes = vec![0; len];
            memory.read(address, &mut bytes).unwrap();
            from_bytes(data.dtype, &from_memory(data, sizes, bytes))
        })
        .collect();
    let resources = tilewright_codegen::read_log(&compiled.log, &p.name);
    Ran { buffers, counters, resources, cuda: source.cuda }
}

/// The bytes of a buffer in the order of its packing: each element where its address is.
fn in_memory(data: &BufferParam, bytes: Vec<u8>) -> Vec<u8> {
    let Some(packing) = &data.packing else { return bytes };
    let size = data.dtype.bytes();
    let mut out = vec![0x55; packing.elements().unwrap() as usize * size];
    for (n, element) in bytes.chunks(size).enumerate() {
        let at = packing.address(n as u64) as usize * size;
        out[at..at + size].copy_from_slice(element);
    }
    out
}

fn from_memory(data: &BufferParam, sizes: &Sizes, bytes: Vec<u8>) -> Vec<u8> {
    let count: usize = data.dims.iter().map(|&d| extent(d, sizes)).product();
    data.packing.as_ref().map_or(bytes.clone(), |p| p.unpack(&bytes, data.dtype.bytes(), count as u64))
}

/// The worst error of `got`, relative to the larger of the value and `scale`.
pub fn worst(got: &[f64], want: &[f64], scale: f64) -> (f64, usize) {
    assert_eq!(got.len(), want.len());
    let mut worst = (0.0, 0);
    for (n, (&g, &w)) in got.iter().zip(want).enumerate() {
        let e = if g == w || (g.is_nan() && w.is_nan()) {
            0.0
        } else if !g.is_finite() || !w.is_finite() {
            f64::INFINITY
        } else {
            (g - w).abs() / w.abs().max(scale)
        };
        if e > worst.0 {
            worst = (e, n);
        }
    }
    worst
}

/// Runs a program both ways on the given inputs and compares everything that it writes.
pub fn check_on(
    p: &TileProgram,
    symbols: &PrimaryMap<Sym, SymData>,
    sizes: &Sizes,
    buffers: &[Vec<f64>],
    tolerance: f64,
    scale: f64,
) -> Ran {
    let rounded: Vec<Vec<f64>> = p
        .params
        .iter()
        .map(|(n, d)| buffers[n.as_u32() as usize].iter().map(|&x| d.dtype.round(x)).collect())
        .collect();
    let want = interpret(p, sizes, &rounded);
    let ran = run(p, symbols, sizes, &rounded);
    compare(p, symbols, sizes, &want, &ran, tolerance, scale);
    // Where loads run ahead, nothing but their time changes, in any schedule.
    for (target, seed) in [("sm_80", Some(1)), ("sm_90a", None), ("sm_90a", Some(2))] {
        if streams(p, target) {
            let options = emu::Options { sanitize: emu::Sanitize::ALL, seed, ..emu::Options::default() };
            let ahead = run_for(p, symbols, sizes, &rounded, target, &options);
            for (got, want) in ahead.buffers.iter().flatten().zip(ran.buffers.iter().flatten()) {
                assert_eq!(
                    got.to_bits(),
                    want.to_bits(),
                    "{} for {target}\n{}",
                    p.name,
                    kernel_text(&ahead.cuda)
                );
            }
        }
    }
    ran
}

/// That what a run wrote is what is wanted.
fn compare(
    p: &TileProgram,
    symbols: &PrimaryMap<Sym, SymData>,
    sizes: &Sizes,
    want: &[Vec<f64>],
    ran: &Ran,
    tolerance: f64,
    scale: f64,
) {
    for (param, data) in p.params.iter() {
        let n = param.as_u32() as usize;
        let (error, at) = worst(&ran.buffers[n], &want[n], scale);
        if error > tolerance {
            let bad: Vec<usize> = (0..want[n].len())
                .filter(|&k| worst(&ran.buffers[n][k..=k], &want[n][k..=k], scale).0 > tolerance)
                .collect();
            println!(
                "sizes {sizes:?}: {} of {} elements are wrong, first {:?}",
                bad.len(),
                want[n].len(),
                &bad[..bad.len().min(12)]
            );
        }
        assert!(
            error <= tolerance,
            "{}: {}[{at}] is {} instead of {} (error {error:.3e})\n{}\n{}",
            p.name,
            data.name,
            ran.buffers[n][at],
            want[n][at],
            kernel_text(&ran.cuda),
            tilewright_ir::text::print_tile(&tilewright_codegen::assign_layouts(p).unwrap(), symbols)
        );
    }
}

/// The same with random inputs.
pub fn check(
    built: (TileProgram, PrimaryMap<Sym, SymData>),
    sizes: &Sizes,
    rng: &mut Rng,
    tolerance: f64,
) -> Ran {
    let (p, symbols) = built;
    let buffers = random_buffers(&p, sizes, rng);
    check_on(&p, &symbols, sizes, &buffers, tolerance, 1.0)
}

pub fn random_buffers(p: &TileProgram, sizes: &Sizes, rng: &mut Rng) -> Vec<Vec<f64>> {
    p.params
        .iter()
        .map(|(param, data)| {
            (0..numel(p, param, sizes))
                .map(|_| match data.dtype {
                    // What is written must be written by the kernel.
                    _ if data.written => 77.0,
                    DType::Bool => rng.below(2) as f64,
                    d if d.is_int() => rng.below(8) as f64,
                    _ => rng.normal(),
                })
                .collect()
        })
        .collect()
}

/// The text of the kernel without the prelude.
pub fn kernel_text(cuda: &str) -> &str {
    cuda.find("// p0").map_or(cuda, |at| &cuda[at..])
}
