//! Memory traffic of typical programs, held to the emulator's counters.

use crate::common::*;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{DotKind, TileProgram};
use tilewright_ir::{DType, Sym, SymData};

fn count(name: &str, built: (TileProgram, cranelift_entity::PrimaryMap<Sym, SymData>), rng: &mut Rng) -> Ran {
    let (p, symbols) = built;
    let buffers = random_buffers(&p, &vec![], rng);
    let ran = run(&p, &symbols, &vec![], &buffers);
    let c = &ran.counters;
    println!(
        "{name}: {} instructions, sectors {} of {} read, {} of {} written, wavefronts {} of {}, {} registers",
        c.instructions,
        c.global_read_sectors,
        c.global_read_sectors_ideal,
        c.global_write_sectors,
        c.global_write_sectors_ideal,
        c.shared_wavefronts,
        c.shared_wavefronts_ideal,
        ran.resources.registers,
    );
    for (name, b) in &c.buffers {
        println!("    {name}: {b:?}");
    }
    assert_eq!(ran.resources.spill_bytes, 0);
    ran
}

#[test]
fn tensor_core_matmul() {
    let mut rng = Rng::fresh("traffic");
    for from in [DType::Bf16, DType::F32] {
        let mut b = Builder::new("matmul_traffic", 4);
        let (i, j, q) = (b.grid("i", 128, 64), b.grid("j", 128, 64), b.looped("k", 256, 32));
        let (x, w) = (b.buffer("x", from, &[i, q], false), b.buffer("w", DType::Bf16, &[j, q], false));
        let o = b.buffer("o", DType::F32, &[i, j], true);
        b.matmul([i, j, q], [x, w, o]);
        let ran = count("matmul", b.finish(), &mut rng);
        assert_eq!(ran.counters.global_read_sectors, ran.counters.global_read_sectors_ideal);
        assert_eq!(ran.counters.shared_wavefronts, ran.counters.shared_wavefronts_ideal);
    }
}

#[test]
fn streamed_matvec() {
    let mut rng = Rng::fresh("traffic");
    let mut b = Builder::new("matvec_traffic", 4);
    let (j, q) = (b.grid("j", 64, 16), b.looped("k", 2048, 256));
    let (x, w) = (b.buffer("x", DType::Bf16, &[q], false), b.buffer("w", DType::Bf16, &[j, q], false));
    let o = b.buffer("o", DType::F32, &[j], true);
    b.matvec([j, q], [x, w, o]);
    let ran = count("matvec", b.finish(), &mut rng);
    let w = &ran.counters.buffers["w"];
    assert_eq!((w.read_sectors, w.unique_read_sectors), (64 * 2048 * 2 / 32, 64 * 2048 * 2 / 32));
    assert_eq!(ran.counters.global_read_sectors, ran.counters.global_read_sectors_ideal);
}

#[test]
fn transposition_goes_through_shared_memory() {
    let mut rng = Rng::fresh("traffic");
    for dtype in [DType::F32, DType::Bf16] {
        let mut b = Builder::new("transpose_traffic", 4);
        let (i, j) = (b.grid("i", 128, 64), b.grid("j", 128, 64));
        let (x, y) = (b.buffer("x", dtype, &[i, j], false), b.buffer("y", dtype, &[j, i], false));
        let o = b.buffer("o", dtype, &[i, j], true);
        let (tx, ty) = (b.load(x, &[i, j]), b.load(y, &[j, i]));
        let s = b.map(dtype, &[i, j], ex::add(t(tx), t(ty)));
        b.store(o, &[i, j], s);
        let ran = count("transpose", b.finish(), &mut rng);
        assert_eq!(ran.counters.global_read_sectors, ran.counters.global_read_sectors_ideal);
        assert_eq!(ran.counters.global_write_sectors, ran.counters.global_write_sectors_ideal);
    }
}

#[test]
fn contraction_by_rows() {
    let mut rng = Rng::fresh("traffic");
    let mut b = Builder::new("rows_traffic", 4);
    let (i, j, q) = (b.grid("i", 64, 64), b.grid("j", 64, 64), b.looped("k", 64, 16));
    let (x, w) = (b.buffer("x", DType::F32, &[i, q], false), b.buffer("w", DType::F32, &[j, q], false));
    let o = b.buffer("o", DType::F32, &[i, j], true);
    let zero = b.map(DType::F32, &[i, j], ex::num(0.0));
    let after = b.over(q, &[zero], |b, inside| {
        let (tx, tw) = (b.load(x, &[i, q]), b.load(w, &[j, q]));
        vec![b.dot(tx, tw, Some(inside[0]), &[q], DotKind::Fma)]
    });
    b.store(o, &[i, j], after[0]);
    count("rows", b.finish(), &mut rng);
}
