//! Hand-written tile programs on the emulator, against the plain interpreter.

use crate::common::*;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{DotKind, Op};
use tilewright_ir::{Binary, DType, Extent, Reduction, Unary};

#[test]
fn elementwise_with_ragged_blocks() {
    let mut rng = Rng::fresh("elementwise");
    for (rows, columns, block) in [(1, 1, 1), (3, 7, 4), (17, 129, 128), (5, 256, 64), (2, 1000, 512)] {
        for (from, to) in [
            (DType::F32, DType::F32),
            (DType::Bf16, DType::Bf16),
            (DType::F16, DType::F32),
            (DType::F32, DType::F16),
        ] {
            let mut b = Builder::new("elementwise", 4);
            let (i, n) = (b.grid("i", rows, 2), b.grid("n", columns, block));
            let (x, y) = (b.buffer("x", from, &[i, n], false), b.buffer("y", DType::F32, &[n], false));
            let o = b.buffer("o", to, &[i, n], true);
            let (tx, ty) = (b.load(x, &[i, n]), b.load(y, &[n]));
            let m = b.map(to, &[i, n], ex::add(ex::mul(t(tx), t(ty)), ex::unary(Unary::Exp, t(ty))));
            b.store(o, &[i, n], m);
            let tolerance = if to == DType::F32 {
                2e-6
            } else if to == DType::F16 {
                1e-3
            } else {
                8e-3
            };
            check(b.finish(), &vec![], &mut rng, tolerance);
        }
    }
}

#[test]
fn prefill_matmul() {
    let mut rng = Rng::fresh("matmul");
    for (m, n, k) in [(64, 64, 64), (1, 1, 1), (37, 101, 67), (128, 72, 96), (65, 33, 200)] {
        let mut b = Builder::new("matmul", 4);
        let (i, j, q) = (b.grid("i", m, 64), b.grid("j", n, 64), b.looped("k", k, 32));
        let (x, w) = (b.buffer("x", DType::F32, &[i, q], false), b.buffer("w", DType::Bf16, &[j, q], false));
        let s = b.buffer("s", DType::F32, &[q], false);
        let o = b.buffer("o", DType::F32, &[i, j], true);
        let zero = b.map(DType::F32, &[i, j], ex::num(0.0));
        let after = b.over(q, &[zero], |b, inside| {
            let (tx, ts, tw) = (b.load(x, &[i, q]), b.load(s, &[q]), b.load(w, &[j, q]));
            let scaled = b.map(DType::Bf16, &[i, q], ex::mul(t(tx), t(ts)));
            vec![b.dot(scaled, tw, Some(inside[0]), &[q], DotKind::Mma(DType::Bf16))]
        });
        b.store(o, &[i, j], after[0]);
        let (p, symbols) = b.finish();
        let buffers = random_buffers(&p, &vec![], &mut rng);
        check_on(&p, &symbols, &vec![], &buffers, 1e-2, k as f64 / 4.0 + 1.0);
    }
}

#[test]
fn decode_matvec() {
    let mut rng = Rng::fresh("matvec");
    for (n, k) in [(64u64, 1024u64), (13, 77), (40, 640), (1, 1)] {
        let mut b = Builder::new("matvec", 4);
        let (j, q) = (b.grid("j", n, 16), b.looped("k", k, 512));
        let (x, w) = (b.buffer("x", DType::F32, &[q], false), b.buffer("w", DType::Bf16, &[j, q], false));
        let o = b.buffer("o", DType::F32, &[j], true);
        b.matvec([j, q], [x, w, o]);
        let (p, symbols) = b.finish();
        let buffers = random_buffers(&p, &vec![], &mut rng);
        let ran = check_on(&p, &symbols, &vec![], &buffers, 1e-5, (k as f64).sqrt());
        assert!(!ran.cuda.contains("__syncthreads"), "rows stay within warps:\n{}", kernel_text(&ran.cuda));
    }
}

/// A streamed fold over keys: scores, running maximum, rescaled sums; with symbolic extents and causal masking.
#[test]
fn streamed_fold() {
    let mut rng = Rng::fresh("fold");
    for (queries, keys) in [(64i64, 64i64), (1, 1), (33, 77), (70, 130)] {
        let mut b = Builder::new("fold", 4);
        let (sq, sk) = (b.sym("q", 1, 4096), b.sym("k", 1, 4096));
        let i = b.axis("i", Extent::Sym(sq), 64, tilewright_ir::tile::Role::Grid);
        let j = b.axis("j", Extent::Sym(sk), 64, tilewright_ir::tile::Role::Loop);
        let (d, e) = (b.resident("d", 40), b.resident("e", 64));
        let q = b.buffer("q", DType::Bf16, &[i, d], false);
        let (k, v) = (b.buffer("k", DType::Bf16, &[j, d], false), b.buffer("v", DType::Bf16, &[j, e], false));
        let o = b.buffer("o", DType::F32, &[i, e], true);
        let tq = b.load(q, &[i, d]);
        let lowest = b.map(DType::F32, &[i], ex::num(f64::NEG_INFINITY));
        let none = b.map(DType::F32, &[i], ex::num(0.0));
        let zero = b.map(DType::F32, &[i, e], ex::num(0.0));
        let after = b.over(j, &[lowest, none, zero], |b, inside| {
            let tk = b.load(k, &[j, d]);
            let s = b.dot(tq, tk, None, &[d], DotKind::Mma(DType::Bf16));
            let shift = ex::sub(ex::size(Extent::Sym(sk)), ex::size(Extent::Sym(sq)));
            let causal = ex::binary(Binary::Le, ex::pos(j), ex::add(ex::pos(i), shift));
            let seen = ex::binary(Binary::And, causal, b.inside(&[j]).unwrap());
            let masked = b.map(
                DType::F32,
                &[i, j],
                ex::select(seen, ex::mul(t(s), ex::num(0.125)), ex::num(f64::NEG_INFINITY)),
            );
            let top = b.reduce(Reduction::Max, &[j], masked);
            let y = b.map(DType::F32, &[i], ex::binary(Binary::Max, t(inside[0]), t(top)));
            let safe = b.map(
                DType::F32,
                &[i],
                ex::select(ex::binary(Binary::Eq, t(y), ex::num(f64::NEG_INFINITY)), ex::num(0.0), t(y)),
            );
            let p = b.map(DType::F32, &[i, j], ex::unary(Unary::Exp, ex::sub(t(masked), t(safe))));
            let total = b.reduce(Reduction::Sum, &[j], p);
            let p16 = b.map(DType::Bf16, &[i, j], t(p));
            let tv = b.load(v, &[j, e]);
            let part = b.dot(p16, tv, None, &[j], DotKind::Mma(DType::Bf16));
            let h = b.map(DType::F32, &[i], ex::unary(Unary::Exp, ex::sub(t(inside[0]), t(safe))));
            let sums = b.map(DType::F32, &[i], ex::add(ex::mul(t(inside[1]), t(h)), t(total)));
            let out = b.map(DType::F32, &[i, e], ex::add(ex::mul(t(inside[2]), t(h)), t(part)));
            vec![y, sums, out]
        });
        let r = b.map(DType::F32, &[i, e], ex::div(t(after[2]), t(after[1])));
        b.store(o, &[i, e], r);
        let (p, symbols) = b.finish();
        let sizes = vec![queries, keys.max(queries)];
        let buffers = random_buffers(&p, &sizes, &mut rng);
        let ran = check_on(&p, &symbols, &sizes, &buffers, 1e-2, 1.0);
        assert_eq!(ran.resources.spill_bytes, 0);
    }
}

/// Results of one contraction are operands of the next without leaving their registers, on either side.
#[test]
fn chained_contractions() {
    let mut rng = Rng::fresh("chain");
    for (warps, side) in [(1, 0), (4, 0), (1, 1), (4, 1), (2, 1)] {
        for (m, n, k, e) in [(64, 32, 16, 32), (16, 64, 32, 16), (33, 17, 21, 40)] {
            let mut b = Builder::new("chained", warps);
            let (i, j) = (b.resident("i", m), b.resident("j", n));
            let (q, x) = (b.resident("k", k), b.resident("e", e));
            let (p0, p1) =
                (b.buffer("a", DType::Bf16, &[i, q], false), b.buffer("b", DType::Bf16, &[j, q], false));
            let p2 = b.buffer("c", DType::Bf16, &[j, x], false);
            let o = b.buffer("o", DType::F32, &[i, x], true);
            let (ta, tb) = (b.load(p0, &[i, q]), b.load(p1, &[j, q]));
            let s = b.dot(ta, tb, None, &[q], DotKind::Mma(DType::Bf16));
            let s16 = b.map(DType::Bf16, &[i, j], t(s));
            let tc = b.load(p2, &[j, x]);
            let kind = DotKind::Mma(DType::Bf16);
            let out =
                if side == 0 { b.dot(s16, tc, None, &[j], kind) } else { b.dot(tc, s16, None, &[j], kind) };
            b.store(o, &[i, x], out);
            let (p, symbols) = b.finish();
            let buffers = random_buffers(&p, &vec![], &mut rng);
            let ran = check_on(&p, &symbols, &vec![], &buffers, 2e-2, (n * k) as f64 / 8.0);
            assert_eq!(ran.resources.spill_bytes, 0);
        }
    }
}

#[test]
fn contraction_by_fused_multiply_adds() {
    let mut rng = Rng::fresh("fma");
    for (m, n, k) in [(64, 64, 64), (3, 5, 2), (37, 101, 67), (1, 200, 33)] {
        for (mb, nb, kb) in [(64, 64, 16), (16, 32, 8), (1, 128, 32), (2, 2, 1)] {
            let mut b = Builder::new("rows", 4);
            let (i, j, q) = (b.grid("i", m, mb), b.grid("j", n, nb), b.looped("k", k, kb));
            // The second operand is transposed in memory.
            let (x, w) =
                (b.buffer("x", DType::F32, &[i, q], false), b.buffer("w", DType::F32, &[q, j], false));
            let o = b.buffer("o", DType::F32, &[i, j], true);
            let zero = b.map(DType::F32, &[i, j], ex::num(0.0));
            let after = b.over(q, &[zero], |b, inside| {
                let tx = b.load(x, &[i, q]);
                let mask = b.inside(&[j, q]);
                let tw = b.load_at(w, &[j, q], vec![ex::pos(q), ex::pos(j)], mask, 0.0);
                vec![b.dot(tx, tw, Some(inside[0]), &[q], DotKind::Fma)]
            });
            b.store(o, &[i, j], after[0]);
            check(b.finish(), &vec![], &mut rng, 1e-5 * k as f64);
        }
    }
}

#[test]
fn gather_and_integers() {
    let mut rng = Rng::fresh("gather");
    for (rows, columns) in [(5u64, 64u64), (1, 1), (9, 100), (4, 37)] {
        let mut b = Builder::new("gather", 2);
        let (i, n) = (b.grid("i", rows, 4), b.grid("n", columns, 32));
        let ids = b.buffer("ids", DType::I32, &[i], false);
        let table = b.param("table", DType::Bf16, &[Const(8), Const(columns)], false);
        let o = b.buffer("o", DType::F32, &[i, n], true);
        let sums = b.param("sums", DType::I64, &[Const(rows)], true);
        let id = b.load(ids, &[i]);
        let mask = b.inside(&[i, n]);
        let row = b.load_at(table, &[i, n], vec![t(id), ex::pos(n)], mask, 0.0);
        let odd = ex::binary(Binary::Mod, ex::pos(n), ex::num(3.0));
        let m = b.map(
            DType::F32,
            &[i, n],
            ex::add(t(row), ex::binary(Binary::FloorDiv, ex::mul(odd, t(id)), ex::num(2.0))),
        );
        b.store(o, &[i, n], m);
        let parity = b.map(DType::I64, &[i], ex::mul(t(id), t(id)));
        b.store(sums, &[i], parity);
        check(b.finish(), &vec![], &mut rng, 1e-6);
    }
}

#[test]
fn reductions_of_all_kinds() {
    let mut rng = Rng::fresh("reductions");
    for (dtype, op) in [
        (DType::F32, Reduction::Sum),
        (DType::F32, Reduction::Max),
        (DType::Bf16, Reduction::Min),
        (DType::I32, Reduction::Sum),
        (DType::I64, Reduction::Max),
        (DType::F64, Reduction::Sum),
        (DType::U8, Reduction::Max),
        (DType::I8, Reduction::Min),
    ] {
        for (warps, rows, columns) in [(1, 4, 64), (4, 1, 512), (8, 2, 16), (4, 8, 1)] {
            let mut b = Builder::new("reductions", warps);
            let (i, n) = (b.resident("i", rows), b.resident("n", columns));
            let x = b.buffer("x", dtype, &[i, n], false);
            let (over_n, over_i) = (b.buffer("a", dtype, &[i], true), b.buffer("c", dtype, &[n], true));
            let all = b.param("all", dtype, &[], true);
            let tx = b.load(x, &[i, n]);
            let rn = b.reduce(op, &[n], tx);
            b.store(over_n, &[i], rn);
            let ri = b.reduce(op, &[i], tx);
            b.store(over_i, &[n], ri);
            let both = b.reduce(op, &[n], ri);
            b.push(Op::Store { param: all, index: vec![], mask: None, value: both });
            let tolerance = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
            check(b.finish(), &vec![], &mut rng, tolerance);
        }
    }
}

/// Offsets beyond 32 bits: rows of a table of more than 4 GiB, of which only a few are ever touched.
#[test]
fn buffers_of_many_gigabytes() {
    let mut rng = Rng::fresh("large");
    let (rows, columns) = (70_000u64, 32_768u64);
    let mut b = Builder::new("large_table", 4);
    let (i, n) = (b.grid("i", 3, 2), b.grid("n", 96, 64));
    let ids = b.buffer("ids", DType::I32, &[i], false);
    let table = b.param("table", DType::Bf16, &[Const(rows), Const(columns)], false);
    let o = b.buffer("o", DType::F32, &[i, n], true);
    let id = b.load(ids, &[i]);
    let mask = b.inside(&[i, n]);
    let gathered = b.load_at(table, &[i, n], vec![t(id), ex::pos(n)], mask.clone(), 0.0);
    let last = ex::sub(ex::num(rows as f64 - 1.0), ex::pos(i));
    let direct = b.load_at(table, &[i, n], vec![last, ex::pos(n)], mask, 0.0);
    let sum = b.map(DType::F32, &[i, n], ex::add(t(gathered), ex::mul(t(direct), ex::num(64.0))));
    b.store(o, &[i, n], sum);
    let (p, symbols) = b.finish();
    let source = tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).unwrap();
    let compiled = tilewright_runtime::testing::nvrtc()
        .compile(&source, "sm_80", &tilewright_codegen::nvrtc_options("sm_80"))
        .unwrap();
    let program = tilewright_emulator::Program::parse(&compiled.ptx).unwrap();
    let mut memory = tilewright_emulator::Memory::new(8 << 30);
    let chosen = [rows - 4, 5, rng.below(rows - 10) + 2];
    let ids: Vec<f64> = chosen.iter().map(|&r| r as f64).collect();
    let a_ids = memory.alloc("ids", 12).unwrap();
    memory.write(a_ids, &to_bytes(DType::I32, &ids)).unwrap();
    let a_table = memory.alloc("table", rows * columns * 2).unwrap();
    let put = |row: u64, value: &dyn Fn(u64) -> f64| {
        let values: Vec<f64> = (0..96).map(value).collect();
        memory.write(a_table + row * columns * 2, &to_bytes(DType::Bf16, &values)).unwrap();
    };
    for (k, &row) in chosen.iter().enumerate() {
        put(row, &|n| ((n + k as u64) % 16) as f64);
    }
    for k in 0..3 {
        put(rows - 1 - k, &|n| ((n * 3 + k) % 16) as f64);
    }
    let a_o = memory.alloc("o", 3 * 96 * 4).unwrap();
    let sizes = memory.alloc("sizes", 4).unwrap();
    let params: Vec<u8> = [a_ids, a_table, a_o, sizes].iter().flat_map(|a| a.to_le_bytes()).collect();
    let launch = tilewright_emulator::Launch {
        entry: &p.name,
        grid: [4, 1, 1],
        block: [source.threads, 1, 1],
        shared_bytes: source.shared_bytes,
        cluster: [1; 3],
        params: &params,
    };
    let profile = tilewright_emulator::Profile::named("h100").unwrap();
    tilewright_emulator::launch(
        &program,
        &memory,
        &profile,
        &launch,
        &tilewright_emulator::Options::default(),
    )
    .unwrap();
    let mut out = vec![0; 3 * 96 * 4];
    memory.read(a_o, &mut out).unwrap();
    for (at, got) in from_bytes(DType::F32, &out).into_iter().enumerate() {
        let (k, n) = (at as u64 / 96, at as u64 % 96);
        let want = ((n + k) % 16) as f64 + 64.0 * ((n * 3 + k) % 16) as f64;
        assert_eq!(got, want, "row {k}, column {n}");
    }
}
