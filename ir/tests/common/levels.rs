//! Random documents of all levels: structurally sound (every reference is declared before it is used), otherwise
//! arbitrary, with awkward names and numbers. For tests of the text form.

use tilewright_ir::expr::build::*;
use tilewright_ir::expr::{BINARY, REDUCTION, UNARY};
use tilewright_ir::graph::{Arg, Call, Def, GlobalData, GlobalKind, Module, ParamKind, Table, ValueData};
use tilewright_ir::packing::Digit;
use tilewright_ir::plan::{KernelPlan, LawStep, LocalData, LocalDef, Plan, Runs, Store};
use tilewright_ir::step::{BufferData, BufferKind, GridAxis, Launch, Step};
use tilewright_ir::text::{Document, PlanFile, TileFile};
use tilewright_ir::tile::{
    AxisBit, BufferParam, Carried, Copier, DotKind, Layout, Op, Pad, Place, Range, Ring, Role, TileAxis,
    TileData, TileProgram,
};
use tilewright_ir::*;

use super::Rng;
use super::random::Generator;
use cranelift_entity::{EntityRef, PrimaryMap};

const NAMES: [&str; 24] = [
    "x",
    "y",
    "seq",
    "model.layers.0.w",
    "a_b",
    "sum",
    "where",
    "v3",
    "t1",
    "tile0",
    "ax2",
    "s0",
    "g1",
    "",
    "with space",
    "quote\"d",
    "back\\slash",
    "line\nbreak",
    "é",
    "\u{1}",
    "axes",
    "bf16",
    "inf",
    "_",
];

pub fn name(rng: &mut Rng) -> String {
    if rng.chance(3) { (*rng.pick(&NAMES)).to_owned() } else { format!("n{}", rng.below(1000)) }
}

pub fn number(rng: &mut Rng) -> f64 {
    match rng.below(8) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        3 => f64::from_bits(rng.next()),
        4 => -(rng.below(1000) as f64),
        5 => [1e15, 1e-320, f64::MAX, 1e22, f64::NAN, -0.1, 1e300][rng.below(7)],
        _ => rng.below(100) as f64 / 8.0,
    }
}

/// A number that equals itself.
fn equal_number(rng: &mut Rng) -> f64 {
    let x = number(rng);
    if x.is_nan() { 1.5 } else { x }
}

fn extent(rng: &mut Rng, symbols: usize) -> Extent {
    if symbols > 0 && rng.chance(3) {
        Extent::Sym(Sym::new(rng.below(symbols)))
    } else {
        Extent::Const(rng.below(300) as u64 * rng.below(2000) as u64)
    }
}

fn dtype(rng: &mut Rng) -> DType {
    *rng.pick(&dtype::ALL_DTYPES)
}

fn some<K: EntityRef>(rng: &mut Rng, n: usize, most: usize) -> Vec<K> {
    if n == 0 {
        return Vec::new();
    }
    let mut out: Vec<usize> = Vec::new();
    for _ in 0..rng.below(most + 1) {
        let k = rng.below(n);
        if !out.contains(&k) {
            out.push(k);
        }
    }
    out.into_iter().map(K::new).collect()
}

/// How many of each thing an expression may mention.
#[derive(Clone, Copy, Default)]
pub struct Reach {
    pub axes: usize,
    pub values: usize,
    pub symbols: usize,
    pub locals: usize,
    pub tiles: usize,
}

pub fn expr(rng: &mut Rng, r: Reach, depth: usize) -> Ex {
    if depth > 0 && rng.below(8) > 1 {
        let d = depth - 1;
        return match rng.below(8) {
            0 => unary(UNARY[rng.below(UNARY.len())].0, expr(rng, r, d)),
            1..=4 => binary(BINARY[rng.below(BINARY.len())].0, expr(rng, r, d), expr(rng, r, d)),
            5 => select(expr(rng, r, d), expr(rng, r, d), expr(rng, r, d)),
            6 => cast(dtype(rng), expr(rng, r, d)),
            _ => {
                let axes = some(rng, r.axes, 3);
                let body = expr(rng, r, d);
                if axes.is_empty() { body } else { reduce(REDUCTION[rng.below(3)].0, axes, body) }
            }
        };
    }
    match rng.below(6) {
        0 if r.axes > 0 => pos(Axis::new(rng.below(r.axes))),
        1 => size(extent(rng, r.symbols)),
        2 if r.values > 0 => {
            let v = Value::new(rng.below(r.values));
            read(v, (0..rng.below(3)).map(|_| expr(rng, r, depth.min(1))).collect())
        }
        3 if r.locals > 0 => local(Local::new(rng.below(r.locals))),
        4 if r.tiles > 0 => tile(Tile::new(rng.below(r.tiles))),
        _ => num(number(rng)),
    }
}

pub fn symbols(rng: &mut Rng) -> PrimaryMap<Sym, SymData> {
    (0..rng.below(4))
        .map(|_| {
            let min = rng.below(10) as u64;
            SymData { name: name(rng), min, max: min + rng.below(5000) as u64 }
        })
        .collect()
}

fn table(rng: &mut Rng) -> Table {
    let list = |rng: &mut Rng| (0..rng.below(4)).map(|_| equal_number(rng)).collect();
    if rng.chance(2) {
        Table::Rotation { frequencies: list(rng), scale: equal_number(rng) }
    } else {
        Table::Values(list(rng))
    }
}

fn axes_table(rng: &mut Rng, symbols: usize) -> PrimaryMap<Axis, AxisData> {
    (0..1 + rng.below(5)).map(|_| AxisData { name: name(rng), extent: extent(rng, symbols) }).collect()
}

fn values(rng: &mut Rng, axes: usize, symbols: usize) -> PrimaryMap<Value, ValueData> {
    let mut out: PrimaryMap<Value, ValueData> = PrimaryMap::new();
    let params = rng.below(4);
    for n in 0..params + rng.below(5) {
        let reach = Reach { axes, symbols, values: out.len(), ..Reach::default() };
        let def = match rng.below(6) {
            _ if n < params => {
                Def::Param(*rng.pick(&[ParamKind::Input, ParamKind::Weight, ParamKind::State]))
            }
            0 => Def::Param(ParamKind::Input),
            1 if !out.is_empty() => Def::Update {
                of: Value::new(rng.below(out.len())),
                domain: some(rng, axes, 3),
                index: (0..rng.below(3)).map(|_| expr(rng, reach, 2)).collect(),
                value: expr(rng, reach, 3),
            },
            _ => Def::Equation(expr(rng, reach, 5)),
        };
        out.push(ValueData { name: name(rng), dtype: dtype(rng), axes: some(rng, axes, 3), def });
    }
    out
}

pub fn module(rng: &mut Rng) -> Module {
    let mut m = Module { symbols: symbols(rng), ..Module::default() };
    for _ in 0..rng.below(5) {
        let kind = match rng.below(5) {
            0 => GlobalKind::Input,
            1 => GlobalKind::Weight(name(rng)),
            2 => GlobalKind::Table(table(rng)),
            3 => GlobalKind::State,
            _ => GlobalKind::Temp,
        };
        let dims = (0..rng.below(4)).map(|_| extent(rng, m.symbols.len())).collect();
        m.globals.push(GlobalData { name: name(rng), dtype: dtype(rng), dims, kind });
    }
    for _ in 0..rng.below(3) {
        if m.symbols.len() >= super::random::SYMBOLS && rng.chance(2) {
            let name = name(rng);
            m.functions.push(Generator::function(rng, &name));
            continue;
        }
        let axes = axes_table(rng, m.symbols.len());
        let values = values(rng, axes.len(), m.symbols.len());
        let results = some(rng, values.len(), 3);
        let options = (0..rng.below(3)).map(|_| (name(rng), name(rng))).collect();
        m.functions.push(graph::Function { name: name(rng), axes, values, results, options });
    }
    let globals = m.globals.len();
    if globals > 0 && !m.functions.is_empty() {
        for _ in 0..rng.below(4) {
            let args = (0..rng.below(4))
                .map(|_| match rng.below(3) {
                    0 => Arg::Shared(Global::new(rng.below(globals))),
                    1 => Arg::PerIteration(some(rng, globals, 3)),
                    _ => Arg::Carried(Global::new(rng.below(globals)), rng.below(3)),
                })
                .collect();
            m.program.push(Call {
                func: Func::new(rng.below(m.functions.len())),
                count: rng.below(4) as u32,
                args,
                results: some(rng, globals, 2),
            });
        }
    }
    m.outputs = some(rng, globals, 2);
    m
}

fn kernel(rng: &mut Rng, axes: usize, values: usize, symbols: usize) -> KernelPlan {
    let mut locals: PrimaryMap<Local, LocalData> = PrimaryMap::new();
    for _ in 0..rng.below(6) {
        let r = Reach { axes, values, symbols, locals: locals.len(), tiles: 0 };
        let op = REDUCTION[rng.below(3)].0;
        let axis = Axis::new(rng.below(axes));
        let def = match rng.below(5) {
            0 => LocalDef::Map(expr(rng, r, 3)),
            1 => LocalDef::Reduce { op, axes: some(rng, axes, 3), body: expr(rng, r, 3) },
            2 => LocalDef::Block { op, axis, body: expr(rng, r, 3) },
            3 => LocalDef::Running { op, axis, block: expr(rng, r, 2) },
            _ => {
                let pick = |rng: &mut Rng| Local::new(rng.below(r.locals));
                let tracks =
                    (0..rng.below(if r.locals == 0 { 1 } else { 3 })).map(|_| (pick(rng), pick(rng)));
                let tracks = tracks.collect();
                let own = Reach { locals: r.locals + 1, ..r };
                LocalDef::Fold { op, axis, block: expr(rng, r, 2), action: expr(rng, own, 3), tracks }
            }
        };
        locals.push(LocalData { axes: some(rng, axes, 3), def });
    }
    let r = Reach { axes, values, symbols, locals: locals.len(), tiles: 0 };
    let stores = (0..rng.below(if values == 0 { 1 } else { 3 }))
        .map(|_| Store {
            value: Value::new(rng.below(values)),
            axes: some(rng, axes, 3),
            index: (0..rng.below(3)).map(|_| expr(rng, r, 1)).collect(),
            expr: expr(rng, r, 3),
        })
        .collect();
    let words = |rng: &mut Rng| (0..rng.below(3)).map(|_| name(rng)).collect();
    KernelPlan {
        name: name(rng),
        grid: some(rng, axes, 3),
        beside: rng.chance(3),
        continues: rng.chance(3),
        prologue: rng.chance(3),
        runs: rng
            .chance(3)
            .then(|| Runs { axis: Axis::new(rng.below(axes)), number: Axis::new(rng.below(axes)) }),
        locals,
        stores,
        derivation: (0..rng.below(3))
            .map(|_| LawStep { law: name(rng), before: name(rng), after: name(rng) })
            .collect(),
        refinements: words(rng),
        boundaries: words(rng),
    }
}

pub fn plans(rng: &mut Rng) -> PlanFile {
    let symbols = symbols(rng);
    let plans = (0..1 + rng.below(2))
        .map(|_| {
            let axes = axes_table(rng, symbols.len());
            let values = values(rng, axes.len(), symbols.len());
            let kernels =
                (0..rng.below(3)).map(|_| kernel(rng, axes.len(), values.len(), symbols.len())).collect();
            let results = some(rng, values.len(), 3);
            Plan { name: name(rng), first_temp: rng.below(9) as u32, results, kernels, axes, values }
        })
        .collect();
    PlanFile { symbols, plans }
}

fn ops(rng: &mut Rng, p: &TileProgram, symbols: usize, depth: usize) -> Vec<Op> {
    let tiles = p.tiles.len();
    let r = Reach { axes: p.axes.len(), tiles, symbols, ..Reach::default() };
    (0..rng.below(5))
        .map(|_| {
            let any = |rng: &mut Rng| Tile::new(rng.below(tiles));
            let param = Param::new(rng.below(p.params.len()));
            let index: Vec<Ex> = (0..rng.below(3)).map(|_| expr(rng, r, 2)).collect();
            let mask = rng.chance(2).then(|| expr(rng, r, 3));
            match rng.below(if depth == 0 { 6 } else { 7 }) {
                0 => Op::Load { out: any(rng), param, index, mask, fill: equal_number(rng) },
                1 => Op::Store { param, index, mask, value: any(rng) },
                2 => Op::Map { out: any(rng), expr: expr(rng, r, 4) },
                3 => Op::Reduce {
                    out: any(rng),
                    op: REDUCTION[rng.below(3)].0,
                    axes: some(rng, r.axes, 2),
                    src: any(rng),
                },
                4 => Op::Dot {
                    out: any(rng),
                    a: any(rng),
                    b: any(rng),
                    acc: rng.chance(2).then(|| any(rng)),
                    over: some(rng, r.axes, 2),
                    kind: match rng.below(3) {
                        0 => DotKind::Fma,
                        1 => DotKind::Mma(dtype(rng)),
                        _ => DotKind::Vectors(dtype(rng)),
                    },
                },
                5 => Op::Convert { out: any(rng), src: any(rng) },
                _ => Op::Loop {
                    range: Range {
                        from: rng.chance(3).then(|| expr(rng, r, 2)),
                        to: rng.chance(3).then(|| expr(rng, r, 2)),
                    },
                    axis: Axis::new(rng.below(r.axes)),
                    carried: (0..rng.below(3))
                        .map(|_| Carried {
                            initial: any(rng),
                            inside: any(rng),
                            next: any(rng),
                            after: any(rng),
                        })
                        .collect(),
                    body: ops(rng, p, symbols, depth - 1),
                },
            }
        })
        .collect()
}

fn packing(rng: &mut Rng) -> Option<Packing> {
    let digit = |rng: &mut Rng| Digit { step: rng.next() >> rng.below(64), count: rng.below(99) as u64 };
    rng.chance(3).then(|| Packing { digits: (0..rng.below(4)).map(|_| digit(rng)).collect() })
}

pub fn tiles(rng: &mut Rng) -> TileFile {
    let symbols = symbols(rng);
    let programs = (0..1 + rng.below(2))
        .map(|_| {
            let mut p = TileProgram { name: name(rng), warps: rng.below(9) as u32, ..TileProgram::default() };
            for _ in 0..1 + rng.below(4) {
                let role = *rng.pick(&[Role::Grid, Role::Loop, Role::Resident]);
                let extent = extent(rng, symbols.len());
                let before = p.axes.len();
                let runs = (before > 0 && rng.chance(3)).then(|| Axis::new(rng.below(before)));
                p.axes.push(TileAxis { name: name(rng), extent, block: 1 << rng.below(8), role, runs });
            }
            let axes = p.axes.len();
            for _ in 0..1 + rng.below(3) {
                let dims = (0..rng.below(3)).map(|_| extent(rng, symbols.len())).collect();
                let written = rng.chance(2);
                p.params.push(BufferParam {
                    name: name(rng),
                    dtype: dtype(rng),
                    dims,
                    written,
                    constant: !written && rng.chance(2),
                    packing: packing(rng),
                    area: rng.chance(3).then(|| rng.below(3) as u32),
                });
            }
            for _ in 0..1 + rng.below(5) {
                let bit =
                    |rng: &mut Rng| AxisBit { axis: Axis::new(rng.below(axes)), bit: rng.below(7) as u8 };
                let maybe = |rng: &mut Rng| if rng.chance(3) { None } else { Some(bit(rng)) };
                let place = match rng.below(3) {
                    0 => Place::Unassigned,
                    1 => Place::Registers(Layout {
                        regs: (0..rng.below(4)).map(|_| bit(rng)).collect(),
                        lanes: (0..5).map(|_| maybe(rng)).collect(),
                        warps: (0..rng.below(3)).map(|_| maybe(rng)).collect(),
                    }),
                    _ => Place::Shared {
                        order: some(rng, axes, 2),
                        pads: (0..rng.below(3))
                            .map(|_| Pad { every: 1 << rng.below(9), by: rng.below(9) as u32 })
                            .collect(),
                    },
                };
                let ring = rng.chance(3).then(|| Ring {
                    stages: 1 << rng.below(5),
                    span: 1 << rng.below(3),
                    copier: match rng.below(2) {
                        0 => Copier::Threads,
                        _ => Copier::Bulk { pad: 16 * rng.below(5) as u32 },
                    },
                });
                p.tiles.push(TileData { dtype: dtype(rng), axes: some(rng, axes, 3), place, ring });
            }
            p.body = ops(rng, &p, symbols.len(), 3);
            p
        })
        .collect();
    TileFile { symbols, programs }
}

pub fn step(rng: &mut Rng) -> Step {
    let mut s = Step { symbols: symbols(rng), arena_bytes: rng.next() >> rng.below(64), ..Step::default() };
    for _ in 0..rng.below(5) {
        let kind = match rng.below(6) {
            0 => BufferKind::Input,
            1 => BufferKind::Output,
            2 => BufferKind::Weight(name(rng)),
            3 => BufferKind::Table(table(rng)),
            4 => BufferKind::State,
            _ => BufferKind::Arena(rng.below(1 << 20) as u64),
        };
        let dims = (0..rng.below(3)).map(|_| extent(rng, s.symbols.len())).collect();
        let packing = packing(rng);
        s.buffers.push(BufferData { name: name(rng), dtype: dtype(rng), dims, kind, packing });
    }
    for _ in 0..rng.below(4) {
        let args: Vec<Buffer> = some(rng, s.buffers.len(), 4);
        let writes = args.iter().map(|_| rng.chance(2)).collect();
        let grid = (0..rng.below(3))
            .map(|_| GridAxis { extent: extent(rng, s.symbols.len()), block: rng.below(99) as u32 })
            .collect();
        let beside = rng.chance(3);
        s.launches.push(Launch { kernel: name(rng), region: name(rng), args, writes, grid, beside });
    }
    s
}

pub fn document(rng: &mut Rng) -> Document {
    match rng.below(4) {
        0 => Document::Graph(module(rng)),
        1 => Document::Plan(plans(rng)),
        2 => Document::Tile(tiles(rng)),
        _ => Document::Step(step(rng)),
    }
}
