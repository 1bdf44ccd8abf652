//! Snapshots of the dumps of each level, built by hand from the data structures: what readers of `--emit` see.

use tilewright_ir::expr::build::*;
use tilewright_ir::graph::{Arg, Call, Function, GlobalData, GlobalKind, Module, ParamKind, Table};
use tilewright_ir::plan::{KernelPlan, LawStep, LocalData, LocalDef, Plan, Store};
use tilewright_ir::step::{BufferData, BufferKind, GridAxis, Launch, Step};
use tilewright_ir::text::{Document, PlanFile, TileFile, parse, print};
use tilewright_ir::tile::{
    AxisBit, BufferParam, Carried, DotKind, Layout, Op, Pad, Place, Role, TileAxis, TileData, TileProgram,
};
use tilewright_ir::verify::{describe, verify};
use tilewright_ir::*;

/// A verified document that survives its text.
fn dump(document: &Document) -> String {
    verify(document).unwrap_or_else(|v| panic!("{}", describe(&v)));
    let text = print(document);
    assert_eq!(parse(&text).as_ref(), Ok(document), "{text}");
    text
}

fn symbols() -> PrimaryMap<Sym, SymData> {
    [SymData { name: "past".to_owned(), min: 0, max: 7 }, SymData { name: "kv".to_owned(), min: 1, max: 8 }]
        .into_iter()
        .collect()
}

fn function() -> Function {
    let (past, kv) = (Extent::Sym(Sym::new(0)), Extent::Sym(Sym::new(1)));
    let mut f = Function { name: "layer".to_owned(), ..Function::default() };
    let (i, c, p, j) = (
        f.axis("i", Extent::Const(1)),
        f.axis("c", Extent::Const(4)),
        f.axis("p", Extent::Const(8)),
        f.axis("j", kv),
    );
    let x = f.param("x", ParamKind::Input, DType::Bf16, &[i, c]);
    let w = f.param("w", ParamKind::Weight, DType::Bf16, &[c]);
    let k = f.param("keys", ParamKind::State, DType::Bf16, &[p, c]);
    let new =
        f.update("", k, &[i, c], vec![add(size(past), pos(i)), pos(c)], mul(at(x, &[i, c]), at(w, &[c])));
    let s = mul(sum(&[c], mul(at(x, &[i, c]), at(new, &[j, c]))), num(0.5));
    let visible = binary(Binary::Le, pos(j), add(size(past), pos(i)));
    let s = f.define("s", DType::F32, &[i, j], select(visible, s, num(f64::NEG_INFINITY)));
    let m = reduce(Reduction::Max, vec![j], at(s, &[i, j]));
    let y = sum(&[j], mul(unary(Unary::Exp, sub(at(s, &[i, j]), m)), at(new, &[j, c])));
    let y = f.define("y", DType::Bf16, &[i, c], y);
    f.results = vec![y];
    f.options.insert("storage".to_owned(), "bf16".to_owned());
    f
}

#[test]
fn graph() {
    let mut m = Module { symbols: symbols(), ..Module::default() };
    let func = m.functions.push(function());
    let mut global = |name: &str, kind, dims: &[u64]| {
        let dims = dims.iter().map(|&n| Extent::Const(n)).collect();
        m.globals.push(GlobalData { name: name.to_owned(), dtype: DType::Bf16, dims, kind })
    };
    let x = global("x", GlobalKind::Input, &[1, 4]);
    let w0 = global("layers.0.w", GlobalKind::Weight("model.layers.0.w".to_owned()), &[4]);
    let w1 = global("layers.1.w", GlobalKind::Table(Table::Values(vec![1.0, 0.5, -2.0, 0.1])), &[4]);
    let k0 = global("keys.0", GlobalKind::State, &[8, 4]);
    let k1 = global("keys.1", GlobalKind::State, &[8, 4]);
    let y = global("y", GlobalKind::Temp, &[1, 4]);
    m.program.push(Call {
        func,
        count: 2,
        args: vec![Arg::Carried(x, 0), Arg::PerIteration(vec![w0, w1]), Arg::PerIteration(vec![k0, k1])],
        results: vec![y],
    });
    m.outputs = vec![y];
    insta::assert_snapshot!(dump(&Document::Graph(m)));
}

#[test]
fn plan() {
    let f = function();
    let [i, c, _, j] = [0, 1, 2, 3].map(Axis::new);
    let [x, w, new, y] = [0, 1, 3, 5].map(Value::new);
    let past = Extent::Sym(Sym::new(0));
    let mut plan = Plan {
        name: f.name.clone(),
        first_temp: f.values.len() as u32,
        axes: f.axes,
        values: f.values,
        results: f.results,
        kernels: Vec::new(),
    };
    plan.kernels.push(KernelPlan {
        name: "layer_keys".to_owned(),
        grid: vec![i, c],
        stores: vec![Store {
            value: new,
            axes: vec![i, c],
            index: vec![add(size(past), pos(i)), pos(c)],
            expr: mul(at(x, &[i, c]), at(w, &[c])),
        }],
        boundaries: vec!["a state is written before it is read".to_owned()],
        ..KernelPlan::default()
    });
    let mut k = KernelPlan { name: "layer_y".to_owned(), grid: vec![i, c], ..KernelPlan::default() };
    let mut push = |axes: &[Axis], def| k.locals.push(LocalData { axes: axes.to_vec(), def });
    let d = c;
    let body = mul(at(x, &[i, d]), at(new, &[j, d]));
    let dot = push(&[i, j], LocalDef::Reduce { op: Reduction::Sum, axes: vec![d], body });
    let visible = binary(Binary::Le, pos(j), add(size(past), pos(i)));
    let masked = select(visible, mul(local(dot), num(0.5)), num(f64::NEG_INFINITY));
    let masked = push(&[i, j], LocalDef::Map(masked));
    let t = push(&[i], LocalDef::Block { op: Reduction::Max, axis: j, body: local(masked) });
    let run = push(&[i], LocalDef::Running { op: Reduction::Max, axis: j, block: local(t) });
    let p = mul(unary(Unary::Exp, sub(local(masked), local(t))), at(new, &[j, c]));
    let q = push(&[i, c], LocalDef::Block { op: Reduction::Sum, axis: j, body: p });
    let rescale = unary(Unary::Exp, sub(local(t), local(run)));
    let own = Local::new(q.as_u32() as usize + 1);
    let action = mul(local(own), rescale);
    let fold =
        LocalDef::Fold { op: Reduction::Sum, axis: j, block: local(q), action, tracks: vec![(t, run)] };
    let out = push(&[i, c], fold);
    k.stores.push(Store { value: y, axes: vec![i, c], index: vec![pos(i), pos(c)], expr: local(out) });
    k.derivation.push(LawStep {
        law: "fold".to_owned(),
        before: "sum[j](exp(s - max[j](s)) * v)".to_owned(),
        after: "sum[j.o](h * sum[j.i](q))".to_owned(),
    });
    k.refinements.push("operand of the contraction over j: bf16".to_owned());
    plan.kernels.push(k);
    insta::assert_snapshot!(dump(&Document::Plan(PlanFile { symbols: symbols(), plans: vec![plan] })));
}

#[test]
fn tile() {
    let mut p = TileProgram { name: "matmul".to_owned(), warps: 1, ..TileProgram::default() };
    let mut axis = |name: &str, extent, block, role| {
        p.axes.push(TileAxis { name: name.to_owned(), extent, block, role, runs: None })
    };
    let m = axis("m", Extent::Sym(Sym::new(1)), 16, Role::Grid);
    let n = axis("n", Extent::Const(8), 8, Role::Resident);
    let k = axis("k", Extent::Const(37), 16, Role::Loop);
    let mut buffer = |name: &str, dtype, dims: &[Extent], written| {
        p.params.push(BufferParam {
            name: name.to_owned(),
            dtype,
            dims: dims.to_vec(),
            written,
            constant: false,
            packing: None,
            area: None,
        })
    };
    let kv = Extent::Sym(Sym::new(1));
    let x = buffer("x", DType::Bf16, &[kv, Extent::Const(37)], false);
    let w = buffer("w", DType::Bf16, &[Extent::Const(8), Extent::Const(37)], false);
    let y = buffer("y", DType::F32, &[kv, Extent::Const(8)], true);
    let bit = |axis, bit| AxisBit { axis, bit };
    let acc = Place::Registers(Layout {
        regs: vec![bit(n, 0), bit(m, 3)],
        lanes: [bit(n, 1), bit(n, 2), bit(m, 0), bit(m, 1), bit(m, 2)].map(Some).to_vec(),
        warps: vec![],
    });
    let a = Place::Registers(Layout {
        regs: vec![bit(k, 0), bit(m, 3), bit(k, 3)],
        lanes: [bit(k, 1), bit(k, 2), bit(m, 0), bit(m, 1), bit(m, 2)].map(Some).to_vec(),
        warps: vec![],
    });
    let mut tile_of = |dtype, axes: &[Axis], place| {
        p.tiles.push(TileData { dtype, axes: axes.to_vec(), place, ring: None })
    };
    let zero = tile_of(DType::F32, &[m, n], acc.clone());
    let inside = tile_of(DType::F32, &[m, n], acc.clone());
    let next = tile_of(DType::F32, &[m, n], acc.clone());
    let after = tile_of(DType::F32, &[m, n], acc);
    let xt = tile_of(DType::Bf16, &[m, k], a);
    let wt = tile_of(
        DType::Bf16,
        &[n, k],
        Place::Shared { order: vec![n, k], pads: vec![Pad { every: 64, by: 8 }] },
    );
    let in_k = binary(Binary::Lt, pos(k), num(37.0));
    let in_m = binary(Binary::Lt, pos(m), size(kv));
    p.body = vec![
        Op::Map { out: zero, expr: num(0.0) },
        Op::Loop {
            range: Default::default(),
            axis: k,
            carried: vec![Carried { initial: zero, inside, next, after }],
            body: vec![
                Op::Load {
                    out: xt,
                    param: x,
                    index: vec![pos(m), pos(k)],
                    mask: Some(binary(Binary::And, in_m.clone(), in_k.clone())),
                    fill: 0.0,
                },
                Op::Load { out: wt, param: w, index: vec![pos(n), pos(k)], mask: Some(in_k), fill: 0.0 },
                Op::Dot {
                    out: next,
                    a: xt,
                    b: wt,
                    acc: Some(inside),
                    over: vec![k],
                    kind: DotKind::Mma(DType::Bf16),
                },
            ],
        },
        Op::Store { param: y, index: vec![pos(m), pos(n)], mask: Some(in_m), value: after },
    ];
    insta::assert_snapshot!(dump(&Document::Tile(TileFile { symbols: symbols(), programs: vec![p] })));
}

#[test]
fn step() {
    let kv = Extent::Sym(Sym::new(1));
    let mut s = Step { symbols: symbols(), arena_bytes: 512, ..Step::default() };
    let mut buffer = |name: &str, dims: &[Extent], kind| {
        s.buffers.push(BufferData {
            name: name.to_owned(),
            dtype: DType::F32,
            dims: dims.to_vec(),
            kind,
            packing: None,
        })
    };
    let x = buffer("x", &[kv, Extent::Const(2)], BufferKind::Input);
    let w = buffer("w", &[Extent::Const(2)], BufferKind::Weight("model.w".to_owned()));
    let rotation = Table::Rotation { frequencies: vec![1.0, 0.01], scale: 1.0 };
    let dims = [Extent::Const(8), Extent::Const(2), Extent::Const(2), Extent::Const(2)];
    let r = buffer("rotation", &dims, BufferKind::Table(rotation));
    let state = buffer("keys", &[Extent::Const(8), Extent::Const(2)], BufferKind::State);
    let temp = buffer("layer.0 h", &[kv, Extent::Const(2)], BufferKind::Arena(256));
    let y = buffer("y", &[kv, Extent::Const(2)], BufferKind::Output);
    let grid = vec![GridAxis { extent: kv, block: 16 }, GridAxis { extent: Extent::Const(2), block: 2 }];
    let mut launch = |kernel: &str, args: &[(Buffer, bool)]| {
        s.launches.push(Launch {
            kernel: kernel.to_owned(),
            region: "layer.0".to_owned(),
            args: args.iter().map(|a| a.0).collect(),
            writes: args.iter().map(|a| a.1).collect(),
            grid: grid.clone(),
            beside: false,
        });
    };
    launch("a", &[(x, false), (w, false), (r, false), (state, true), (temp, true)]);
    launch("b", &[(temp, false), (y, true)]);
    insta::assert_snapshot!(dump(&Document::Step(s)));
}
