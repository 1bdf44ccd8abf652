//! Programs that cannot be emitted: each gives one typed error that names the thing.

use crate::common::*;
use tilewright_codegen::CodegenError;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{DotKind, Op, Place, Role, TileProgram};
use tilewright_ir::{DType, Reduction};

/// A small valid program: rows of sums.
fn valid() -> Builder {
    let mut b = Builder::new("valid_program", 4);
    let (i, n) = (b.grid("i", 10, 4), b.resident("n", 50));
    let (x, o) = (b.buffer("x", DType::F32, &[i, n], false), b.buffer("o", DType::F32, &[i], true));
    let tx = b.load(x, &[i, n]);
    let sum = b.reduce(Reduction::Sum, &[n], tx);
    b.store(o, &[i], sum);
    b
}

fn refused(change: impl FnOnce(&mut TileProgram)) -> CodegenError {
    let (mut p, symbols) = valid().finish();
    assert!(tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).is_ok());
    change(&mut p);
    tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).unwrap_err()
}

fn malformed(change: impl FnOnce(&mut TileProgram), words: &str) {
    let e = refused(change);
    assert!(matches!(e, CodegenError::Malformed { .. }), "{e}");
    assert!(e.to_string().contains(words), "{e}");
}

#[test]
fn malformed_programs() {
    malformed(|p| p.name = "fma".into(), "fma");
    malformed(|p| p.name = "1x".into(), "identifier");
    malformed(|p| p.name = String::new(), "identifier");
    malformed(|p| p.warps = 3, "3 warps");
    malformed(|p| p.warps = 64, "64 warps");
    malformed(|p| p.axes.values_mut().for_each(|a| a.block = 3), "power of two");
    malformed(
        |p| p.axes.values_mut().for_each(|a| (a.role, a.block) = (Role::Resident, 8)),
        "exceeds its block",
    );
    malformed(|p| p.axes.values_mut().for_each(|a| a.extent = Const(1 << 40)), "positions");
    malformed(|p| p.body.swap(0, 1), "before it is defined");
    malformed(|p| p.body.push(p.body[0].clone()), "twice");
    malformed(|p| p.params.values_mut().for_each(|b| b.written = false), "not marked as written");
    malformed(|p| p.params.values_mut().for_each(|b| b.written = true), "which the program writes");
    malformed(|p| p.params.values_mut().for_each(|b| b.dims.push(Const(1))), "indices");
    malformed(
        |p| {
            if let Op::Reduce { axes, .. } = &mut p.body[1] {
                axes.clear();
            }
        },
        "keeps",
    );
}

#[test]
fn places_that_do_not_fit() {
    let place = |change: &dyn Fn(&mut TileProgram)| {
        let (p, symbols) = valid().finish();
        let mut p = tilewright_codegen::assign_layouts(&p).unwrap();
        change(&mut p);
        let e = tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).unwrap_err();
        assert!(matches!(e, CodegenError::Malformed { .. }), "{e}");
    };
    let first = |p: &mut TileProgram, f: &dyn Fn(&mut tilewright_ir::tile::Layout)| {
        if let Place::Registers(l) = &mut p.tiles.values_mut().next().unwrap().place {
            f(l);
        }
    };
    place(&|p| first(p, &|l| l.regs.clear()));
    place(&|p| first(p, &|l| l.lanes.clear()));
    place(&|p| first(p, &|l| l.lanes.push(None)));
    place(&|p| first(p, &|l| l.warps.push(None)));
    place(&|p| first(p, &|l| l.lanes[0] = None));
    place(&|p| p.tiles.values_mut().next().unwrap().place = Place::Unassigned);
    place(&|p| {
        let tile = p.tiles.values_mut().next().unwrap();
        tile.place = Place::Shared { order: tile.axes.clone(), pads: vec![] };
    });
}

#[test]
fn named_limits() {
    // A tile that no thread block can hold.
    let mut b = Builder::new("wide_tile", 1);
    let n = b.resident("n", 1 << 14);
    let o = b.buffer("o", DType::F32, &[n], true);
    let m = b.map(DType::F32, &[n], ex::pos(n));
    b.store(o, &[n], m);
    let (p, symbols) = b.finish();
    let e = tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).unwrap_err();
    assert!(matches!(e, CodegenError::RegisterTile { limit: 255, words: 512, .. }), "{e}");

    // A transposition that needs more shared memory than there is.
    let mut b = Builder::new("wide_exchange", 32);
    let (i, j) = (b.resident("i", 64), b.resident("j", 1024));
    let (x, y) = (b.buffer("x", DType::F32, &[i, j], false), b.buffer("y", DType::F32, &[j, i], false));
    let o = b.buffer("o", DType::F32, &[i, j], true);
    let (tx, ty) = (b.load(x, &[i, j]), b.load(y, &[j, i]));
    let s = b.map(DType::F32, &[i, j], ex::add(t(tx), t(ty)));
    b.store(o, &[i, j], s);
    let (p, symbols) = b.finish();
    let e = tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).unwrap_err();
    assert!(matches!(e, CodegenError::SharedMemory { .. }), "{e}");
}

#[test]
fn operands_of_contractions() {
    let attempt = |m: u64, n: u64, k: u64, operand: DType, kind: DotKind| {
        let mut b = Builder::new("contraction", 4);
        let (i, j, q) = (b.resident("i", m), b.resident("j", n), b.resident("k", k));
        let one = b.map(operand, &[i, q], ex::num(1.0));
        let two = b.map(operand, &[j, q], ex::num(1.0));
        let out = b.dot(one, two, None, &[q], kind);
        let o = b.buffer("o", DType::F32, &[i, j], true);
        b.store(o, &[i, j], out);
        let (p, symbols) = b.finish();
        tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE)
    };
    let bf16 = DotKind::Mma(DType::Bf16);
    assert!(attempt(16, 8, 16, DType::Bf16, bf16).is_ok());
    for (m, n, k, name) in [(8, 8, 16, "m"), (16, 4, 16, "n"), (16, 8, 8, "k")] {
        let e = attempt(m, n, k, DType::Bf16, bf16).unwrap_err();
        assert!(matches!(e, CodegenError::ContractionTooSmall { group, .. } if group == name), "{e}");
    }
    let e = attempt(16, 8, 16, DType::F16, bf16).unwrap_err();
    assert!(matches!(e, CodegenError::OperandType { got: DType::F16, need: DType::Bf16, .. }), "{e}");
    assert!(attempt(1, 1, 1, DType::F32, DotKind::Fma).is_ok());
}

#[test]
fn an_axis_that_the_tile_lacks() {
    let mut b = Builder::new("free_axis", 4);
    let (i, n) = (b.grid("i", 10, 4), b.grid("n", 8, 8));
    let x = b.buffer("x", DType::F32, &[i, n], false);
    let o = b.buffer("o", DType::F32, &[i], true);
    let wrong = b.load_at(x, &[i], vec![ex::pos(i), ex::pos(n)], None, 0.0);
    b.store(o, &[i], wrong);
    let (p, symbols) = b.finish();
    let e = tilewright_codegen::emit(&p, &symbols, tilewright_codegen::Target::BASE).unwrap_err();
    assert!(matches!(e, CodegenError::FreeAxis { axis, .. } if axis == n), "{e}");
}
