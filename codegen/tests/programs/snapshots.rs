//! The text of a few kernels and the placed programs behind them.

use crate::common::*;
use tilewright_codegen::{Target, assign_layouts, emit, stream_loads};
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::Role;
use tilewright_ir::{DType, Extent, Reduction, Unary};

fn show(name: &str, b: Builder, target: &str) {
    let (p, symbols) = b.finish();
    let target = Target::parse(target).unwrap();
    let placed = stream_loads(&assign_layouts(&p).unwrap(), target).unwrap();
    let source = emit(&p, &symbols, target).unwrap();
    assert_eq!(source, emit(&p, &symbols, target).unwrap(), "equal programs give equal text");
    let text =
        format!("{}\n{}", tilewright_ir::text::print_tile(&placed, &symbols), kernel_text(&source.cuda));
    insta::assert_snapshot!(name, text);
}

#[test]
fn tensor_core_matmul() {
    let mut b = Builder::new("matmul", 4);
    let s = b.sym("rows", 1, 4096);
    let i = b.axis("i", Extent::Sym(s), 64, Role::Grid);
    let (j, q) = (b.grid("j", 256, 64), b.looped("k", 512, 32));
    let (x, w) = (b.buffer("x", DType::F32, &[i, q], false), b.buffer("w", DType::Bf16, &[j, q], false));
    let o = b.buffer("o", DType::Bf16, &[i, j], true);
    b.matmul([i, j, q], [x, w, o]);
    show("tensor_core_matmul", b, "sm_80");
}

#[test]
fn streamed_matvec() {
    let mut b = Builder::new("matvec", 4);
    let (j, q) = (b.grid("j", 1000, 16), b.looped("k", 2048, 256));
    let (x, w) = (b.buffer("x", DType::F32, &[q], false), b.buffer("w", DType::Bf16, &[j, q], false));
    let o = b.buffer("o", DType::F32, &[j], true);
    b.matvec([j, q], [x, w, o]);
    show("streamed_matvec", b, "sm_90a");
}

#[test]
fn row_statistics() {
    let mut b = Builder::new("rows", 2);
    let (i, n) = (b.grid("i", 77, 4), b.resident("n", 200));
    let x = b.buffer("x", DType::F32, &[i, n], false);
    let o = b.buffer("o", DType::F16, &[i, n], true);
    let tx = b.load(x, &[i, n]);
    let inside = b.inside(&[n]).unwrap();
    let masked = b.map(DType::F32, &[i, n], ex::select(inside, t(tx), ex::num(f64::NEG_INFINITY)));
    let top = b.reduce(Reduction::Max, &[n], masked);
    let e = b.map(DType::F32, &[i, n], ex::unary(Unary::Exp, ex::sub(t(masked), t(top))));
    let sum = b.reduce(Reduction::Sum, &[n], e);
    let y = b.map(DType::F16, &[i, n], ex::mul(t(e), ex::unary(Unary::Inv, t(sum))));
    b.store(o, &[i, n], y);
    show("row_statistics", b, "sm_80");
}
