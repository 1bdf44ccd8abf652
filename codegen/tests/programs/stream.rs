//! Loads that run ahead of their loops: what the pass chooses, that results stay the same to the bit in every schedule,
//! and that each wait and fence of the generated code is needed.

use crate::common::*;
use tilewright_codegen::{Target, assign_layouts, emit, nvrtc_options, stream_loads};
use tilewright_emulator as emu;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{Copier, Op, Ring, Role, TileProgram};
use tilewright_ir::{DType, Extent, Packing, Param, Reduction, Sym, SymData, Tile};

type Symbols = cranelift_entity::PrimaryMap<Sym, SymData>;

/// `o[j] = sum[k] x[k] * w[j, k]`, with these extents.
fn matvec(rows: u64, columns: u64, block: u32) -> Builder {
    let mut b = Builder::new("matvec", 4);
    let (j, q) = (b.grid("j", rows, 16), b.looped("k", columns, block));
    let (w, x) = (b.buffer("w", DType::Bf16, &[j, q], false), b.buffer("x", DType::Bf16, &[q], false));
    let o = b.buffer("o", DType::F32, &[j], true);
    b.matvec([j, q], [x, w, o]);
    b
}

/// The rings of a program on a target, by buffer: how many stages, and whether rows are copied in bulk.
fn rings(p: &TileProgram, target: &str) -> Vec<(String, u32, bool)> {
    let placed = assign_layouts(p).unwrap();
    let streamed = stream_loads(&placed, Target::parse(target).unwrap()).unwrap();
    assert_eq!(stream_loads(&streamed, Target::BASE).unwrap(), streamed, "a second time changes nothing");
    let mut without = streamed.clone();
    without.tiles.values_mut().for_each(|t| t.ring = None);
    assert_eq!(without, placed, "only rings are added");
    let mut out = Vec::new();
    loads(&streamed, &streamed.body, &mut out);
    out
}

fn loads(p: &TileProgram, body: &[Op], out: &mut Vec<(String, u32, bool)>) {
    for op in body {
        match op {
            Op::Load { out: tile, param, .. } => {
                if let Some(Ring { stages, copier, .. }) = p.tiles[*tile].ring {
                    out.push((p.params[*param].name.clone(), stages, copier != Copier::Threads));
                }
            }
            Op::Loop { body, .. } => loads(p, body, out),
            _ => {}
        }
    }
}

#[test]
fn what_is_contiguous_is_copied_in_bulk_where_the_target_can() {
    let (p, _) = matvec(64, 2048, 256).finish();
    let found = |target| rings(&p, target);
    // Each thread copies for itself, and what all warps hold would be copied by each of them.
    assert_eq!(found("sm_80"), [("w".into(), 4, false)]);
    assert_eq!(found("sm_90a"), [("x".into(), 8, true), ("w".into(), 8, true)]);
    // No more stages than iterations.
    let (p, _) = matvec(64, 600, 256).finish();
    assert_eq!(rings(&p, "sm_90a"), [("x".into(), 4, true), ("w".into(), 4, true)]);
    let (p, _) = matvec(64, 200, 256).finish();
    assert_eq!(rings(&p, "sm_90a"), [("x".into(), 1, true), ("w".into(), 1, true)]);
    // Rows that do not start at multiples of 16 bytes have no vectors either.
    let (p, _) = matvec(64, 2044, 256).finish();
    for target in ["sm_80", "sm_90a"] {
        assert!(rings(&p, target).iter().all(|(name, ..)| name == "x"), "{:?}", rings(&p, target));
    }
}

#[test]
fn ragged_rows_and_columns() {
    let mut rng = Rng::fresh("ragged streams");
    for (rows, columns, block) in [
        (61, 2048, 256),
        (16, 1000, 128),
        (17, 776, 256),
        (33, 264, 64),
        (5, 72, 32),
        (3, 8, 64),
        (40, 1021, 128),
    ] {
        let b = matvec(rows, columns, block);
        let (p, symbols) = b.finish();
        let buffers = random_buffers(&p, &vec![], &mut rng);
        check_on(&p, &symbols, &vec![], &buffers, 1e-4, columns as f64 / 8.0);
        assert_eq!(streams(&p, "sm_90a"), columns.is_multiple_of(8) || streams(&p, "sm_80"));
    }
}

/// Something like the keys and values of one query: a loop of a length that is known at run time, in runs.
#[test]
fn lengths_of_run_time_in_runs() {
    let mut rng = Rng::fresh("runs of streams");
    for length in [0u64, 1, 31, 33, 64, 500] {
        let mut b = Builder::new("keys", 4);
        let s = b.sym("kv", 0, 500);
        let run = b.grid("run", 3, 1);
        let e = b.resident("e", 64);
        let j = b.axis("j", Extent::Sym(s), 32, Role::Loop);
        b.p.axes[j].runs = Some(run);
        let (k, o) = (
            b.param("k", DType::Bf16, &[Const(500), Const(64)], false),
            b.buffer("o", DType::F32, &[run, e], true),
        );
        let zero = b.map(DType::F32, &[e], ex::num(0.0));
        let after = b.over(j, &[zero], |b, inside| {
            let tk = b.load(k, &[j, e]);
            let part = b.map(DType::F32, &[j, e], t(tk));
            let sum = b.reduce(Reduction::Sum, &[j], part);
            vec![b.map(DType::F32, &[e], ex::add(t(inside[0]), t(sum)))]
        });
        b.store(o, &[run, e], after[0]);
        let (p, symbols) = b.finish();
        assert_eq!(rings(&p, "sm_90a").len(), 1);
        let sizes = vec![length as i64];
        let buffers = random_buffers(&p, &sizes, &mut rng);
        // Each run is what its blocks of 32 keys give.
        let each = length.div_ceil(32).div_ceil(3) * 32;
        let mut want = vec![0.0; 3 * 64];
        for key in 0..length {
            for e in 0..64 {
                want[(key / each) as usize * 64 + e] += DType::Bf16.round(buffers[0][key as usize * 64 + e]);
            }
        }
        for (target, seed) in [("sm_80", Some(3)), ("sm_90a", None), ("sm_90a", Some(4))] {
            let options = emu::Options { sanitize: emu::Sanitize::ALL, seed, ..emu::Options::default() };
            let ran = run_for(&p, &symbols, &sizes, &buffers, target, &options);
            assert!(worst(&ran.buffers[1], &want, 8.0).0 < 1e-4, "{length} keys for {target}");
        }
    }
}

/// A loop within a loop is begun again and again, and its barriers go on counting.
#[test]
fn a_loop_within_a_loop() {
    let mut rng = Rng::fresh("nested streams");
    for (outer, inner) in [(3u64, 512u64), (1, 256), (5, 136), (4, 64)] {
        let mut b = Builder::new("nested", 2);
        let (i, q) = (b.looped("i", outer * 8, 8), b.looped("k", inner, 64));
        let w = b.buffer("w", DType::F32, &[i, q], false);
        let o = b.param("o", DType::F32, &[], true);
        let zero = b.map(DType::F32, &[], ex::num(0.0));
        let after = b.over(i, &[zero], |b, total| {
            let zero = b.map(DType::F32, &[i, q], ex::num(0.0));
            let sums = b.over(q, &[zero], |b, inside| {
                let tw = b.load(w, &[i, q]);
                vec![b.map(DType::F32, &[i, q], ex::add(t(inside[0]), ex::mul(t(tw), t(tw))))]
            });
            let sum = b.reduce(Reduction::Sum, &[i, q], sums[0]);
            vec![b.map(DType::F32, &[], ex::add(t(total[0]), t(sum)))]
        });
        b.store(o, &[], after[0]);
        let (p, symbols) = b.finish();
        assert_eq!(rings(&p, "sm_90a").len(), 1);
        let buffers = random_buffers(&p, &vec![], &mut rng);
        check_on(&p, &symbols, &vec![], &buffers, 1e-4, 100.0);
    }
}

/// Three loops, one in the other, over the axes of one buffer: names of positions must not be mixed up.
#[test]
fn loops_within_loops_over_one_buffer() {
    let mut rng = Rng::fresh("loops of streams");
    for shift in 0..4 {
        let mut b = Builder::new("three", 4);
        // So many axes before, that numbers of axes and of names may meet.
        for n in 0..shift {
            b.resident(&format!("unused{n}"), 1);
        }
        let (c, g, r, e) =
            (b.grid("c", 32, 16), b.looped("g", 3, 1), b.looped("r", 2, 1), b.looped("e", 256, 64));
        let w = b.buffer("w", DType::Bf16, &[c, g, r, e], false);
        let x = b.buffer("x", DType::Bf16, &[g, r, e], false);
        let o = b.buffer("o", DType::F32, &[c], true);
        let zero = b.map(DType::F32, &[c, e], ex::num(0.0));
        let after = b.over(g, &[zero], |b, outer| {
            b.over(r, &[outer[0]], |b, middle| {
                b.over(e, &[middle[0]], |b, inside| {
                    let (tx, tw) = (b.load(x, &[g, r, e]), b.load(w, &[c, g, r, e]));
                    vec![b.map(DType::F32, &[c, e], ex::add(t(inside[0]), ex::mul(t(tx), t(tw))))]
                })
            })
        });
        let sum = b.reduce(Reduction::Sum, &[e], after[0]);
        b.store(o, &[c], sum);
        let (p, symbols) = b.finish();
        assert_eq!(rings(&p, "sm_90a").len(), 2);
        let buffers = random_buffers(&p, &vec![], &mut rng);
        check_on(&p, &symbols, &vec![], &buffers, 1e-4, 100.0);
    }
}

/// A packed matrix and some rows of the other operand, `block` columns at a time, in so many runs, and another matrix for
/// each position of an outer loop.
fn packed_product(batch: u64, columns: u64, block: u32, runs: u64, again: u64) -> Builder {
    let mut b = Builder::new("packed", 1);
    let (j, n) = (b.grid("j", 64, 16), b.resident("n", batch));
    let run = b.grid("run", runs, 1);
    let a = b.looped("a", again, 1);
    let k = b.axis("k", Const(columns), block, Role::Loop);
    b.p.axes[k].runs = (runs > 1).then_some(run);
    let w = b.param("w", DType::Bf16, &[Const(again), Const(64), Const(columns)], false);
    b.p.params[w].constant = true;
    b.p.params[w].packing = Packing::blocks(64 * again, columns, 16, 32);
    let x = b.buffer("x", DType::Bf16, &[n, k], false);
    let o = b.buffer("o", DType::F32, &[run, n, j], true);
    let zero = b.map(DType::F32, &[n, j], ex::num(0.0));
    let after = b.over(a, &[zero], |b, outer| {
        b.over(k, &[outer[0]], |b, inside| {
            let (tx, tw) = (b.load(x, &[n, k]), b.load(w, &[a, j, k]));
            let product = b.map(DType::F32, &[n, j, k], ex::mul(t(tx), t(tw)));
            let sum = b.reduce(Reduction::Sum, &[k], product);
            vec![b.map(DType::F32, &[n, j], ex::add(t(inside[0]), t(sum)))]
        })
    });
    b.store(o, &[run, n, j], after[0]);
    b
}

/// The stages of the ring of a buffer, and how many iterations one is for.
fn stages(p: &TileProgram, buffer: &str) -> (u32, u32) {
    let placed = assign_layouts(p).unwrap();
    let streamed = stream_loads(&placed, Target::parse("sm_90a").unwrap()).unwrap();
    let mut out = None;
    visit_loads(&streamed.body, &mut |tile, param| {
        if streamed.params[param].name == buffer {
            out = streamed.tiles[tile].ring.map(|r| (r.stages, r.span));
        }
    });
    out.unwrap_or_else(|| panic!("no ring for {buffer}"))
}

fn visit_loads(body: &[Op], f: &mut impl FnMut(Tile, Param)) {
    for op in body {
        match op {
            Op::Load { out, param, .. } => f(*out, *param),
            Op::Loop { body, .. } => visit_loads(body, f),
            _ => {}
        }
    }
}

/// One copy for several iterations, also where the last ones are fewer, where runs begin anywhere, where the other operand
/// has rows of its own with a ragged end, and where the loop begins again.
#[test]
fn stages_of_several_iterations() {
    let mut rng = Rng::fresh("stages of iterations");
    for (batch, columns, block, runs, again, want) in [
        (1, 2048, 128, 1, 1, (4, 4)),
        (1, 9 * 128, 128, 1, 1, (4, 4)),
        (2, 2048, 128, 3, 1, (2, 4)),
        (3, 11 * 64, 64, 1, 3, (2, 8)),
        (3, 5 * 64, 64, 1, 2, (2, 4)),
        // Columns that end within a block, in the first and in the second stage.
        (2, 576, 128, 1, 1, (2, 4)),
        (3, 160, 64, 1, 2, (2, 2)),
        (2, 2080, 128, 3, 1, (2, 4)),
        (1, 256, 256, 1, 3, (1, 1)),
        (2, 2048, 128, 2, 2, (2, 4)),
    ] {
        let (p, symbols) = packed_product(batch, columns, block, runs, again).finish();
        assert_eq!(stages(&p, "w"), want, "batch {batch}, {columns} by {block}, {runs} runs");
        let buffers = random_buffers(&p, &vec![], &mut rng);
        if runs == 1 {
            check_on(&p, &symbols, &vec![], &buffers, 1e-4, (again * columns) as f64 / 8.0);
        }
        let ran = run_for(&p, &symbols, &vec![], &buffers, "sm_90a", &emu::Options::default());
        // All runs together are the product.
        for (n, j) in (0..batch).flat_map(|n| (0..64).map(move |j| (n, j))) {
            let got: f64 = (0..runs).map(|r| ran.buffers[2][((r * batch + n) * 64 + j) as usize]).sum();
            let term = |a: u64, k: u64| {
                let w = buffers[0][((a * 64 + j) * columns + k) as usize];
                DType::Bf16.round(w) * DType::Bf16.round(buffers[1][(n * columns + k) as usize])
            };
            let want: f64 = (0..again).map(|a| (0..columns).map(|k| term(a, k)).sum::<f64>()).sum();
            assert!(
                (got - want).abs() < 1e-4 * (again * columns) as f64 / 8.0,
                "{got}, not {want}: {n}, {j}"
            );
        }
        assert_eq!(ran.counters.buffers["w"].read_bytes, 2 * 64 * columns * again, "each weight once");
    }
    // Also where most of what is copied is the other operand.
    assert_eq!(stages(&packed_product(32, 4096, 64, 1, 1).finish().0, "w"), (2, 8));
}

/// Runs a source under all checks; whether it was clean.
fn clean(p: &TileProgram, symbols: &Symbols, cuda: &str, target: &str, seed: u64) -> bool {
    let mut source = emit(p, symbols, Target::parse(target).unwrap()).unwrap();
    source.cuda = cuda.to_owned();
    let nvrtc = tilewright_runtime::testing::nvrtc();
    let compiled = nvrtc.compile(&source, target, &nvrtc_options(target)).unwrap();
    let program = emu::Program::parse(&compiled.ptx).unwrap();
    let mut memory = emu::Memory::new(1 << 30);
    let mut params: Vec<u8> = Vec::new();
    for (param, data) in p.params.iter() {
        let bytes = vec![0u8; numel(p, param, &vec![]) * data.dtype.bytes()];
        let at = memory.alloc(&data.name, bytes.len() as u64).unwrap();
        memory.write(at, &bytes).unwrap();
        params.extend(at.to_le_bytes());
    }
    params.extend(memory.alloc("sizes", 4).unwrap().to_le_bytes());
    let launch = emu::Launch {
        entry: &p.name,
        grid: [4, 1, 1],
        block: [source.threads, 1, 1],
        shared_bytes: source.shared_bytes,
        cluster: [1; 3],
        params: &params,
    };
    let options = emu::Options {
        sanitize: emu::Sanitize::ALL,
        seed: Some(seed),
        instruction_budget: 1 << 22,
        ..emu::Options::default()
    };
    let profile = emu::Profile::named("h100").unwrap();
    emu::launch(&program, &memory, &profile, &launch, &options).is_ok_and(|r| r.findings.is_empty())
}

#[test]
fn every_wait_and_fence_is_needed() {
    // More iterations than stages, so that stages are used again.
    let (p, symbols) = matvec(64, 8192, 256).finish();
    for (target, broken) in [
        (
            "sm_90a",
            &[
                ("the wait for a stage", "        tw_await(", "        if (false) tw_await("),
                (
                    "the meeting before a stage is overwritten",
                    "        __syncthreads();\n        {\n            const int m",
                    "        {\n            const int m",
                ),
                (
                    "the initialisation of barriers",
                    "        for (int s = 0; s < 8; ++s) tw_barrier_init(",
                    "        for (int s = 0; s < 7; ++s) tw_barrier_init(",
                ),
                ("the fence of the initialisation", "        tw_barrier_fence();\n", ""),
                (
                    "the meeting after the initialisation",
                    "    }\n    __syncthreads();\n    unsigned",
                    "    }\n    unsigned",
                ),
                ("the bytes that are expected", "tw_expect(bar, 8192)", "tw_expect(bar, 8176)"),
            ][..],
        ),
        (
            "sm_80",
            &[
                ("the wait for a group", "tw_await_groups<3>();", "tw_await_groups<4>();"),
                (
                    "a group where nothing is copied",
                    "    }\n            tw_commit();\n",
                    "    tw_commit();\n }\n",
                ),
            ],
        ),
    ] {
        let source = emit(&p, &symbols, Target::parse(target).unwrap()).unwrap().cuda;
        assert!((0..3).all(|seed| clean(&p, &symbols, &source, target, seed)), "{target}");
        for (what, from, to) in broken {
            let mutant = source.replace(from, to);
            assert_ne!(mutant, source, "{target}: {what}\n{}", kernel_text(&source));
            assert!(
                (0..6).any(|seed| !clean(&p, &symbols, &mutant, target, seed)),
                "{target}: without {what}"
            );
        }
    }
}

#[test]
fn stages_of_several_iterations_need_each_of_their_conditions() {
    // More than four stages' worth of iterations, the last one short, begun three times.
    let (p, symbols) = packed_product(1, 21 * 128, 128, 1, 3).finish();
    assert_eq!(stages(&p, "w"), (4, 4));
    let source = emit(&p, &symbols, Target::parse("sm_90a").unwrap()).unwrap().cuda;
    assert!((0..3).all(|seed| clean(&p, &symbols, &source, "sm_90a", seed)));
    for (what, from, to) in [
        ("the wait at the first iteration of a stage", "& 3) == 0) tw_await(", "& 3) == 1) tw_await("),
        ("the fill after the last iteration of a stage", "& 3) == 3) {", "& 3) == 2) {"),
        ("the end of what is there", "tw_min(4, 21 - m)", "4"),
        ("a stage to begin with", "+ 3) & ~3u;", "+ 0) & ~0u;"),
        ("the bytes of all iterations", "const u32 all = (int)many * ", "const u32 all = 3 * "),
    ] {
        let mutant = source.replace(from, to);
        assert!(mutant != source, "{what}\n{}", kernel_text(&source));
        assert!((0..6).any(|seed| !clean(&p, &symbols, &mutant, "sm_90a", seed)), "without {what}");
    }
    // Columns that end within a block: no byte is expected that is not there, and none is copied beyond them.
    let (p, symbols) = packed_product(1, 576, 128, 1, 1).finish();
    let source = emit(&p, &symbols, Target::parse("sm_90a").unwrap()).unwrap().cuda;
    assert!((0..3).all(|seed| clean(&p, &symbols, &source, "sm_90a", seed)));
    for (from, to) in
        [("tw_min((576 - ", "tw_min((640 - "), ("tw_expect(bar, all)", "tw_expect(bar, all + 1024)")]
    {
        let mutant = source.replace(from, to);
        assert!(mutant != source, "{from}\n{}", kernel_text(&source));
        assert!((0..6).any(|seed| !clean(&p, &symbols, &mutant, "sm_90a", seed)), "with {to}");
    }
}
