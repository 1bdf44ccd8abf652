//! What: moves, packing, 128-bit registers, transposition across a warp, and constants by name.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::common::{Arg, Machine};
use crate::harness::*;

#[test]
fn vectors_of_bytes() {
    check32(
        "{ .reg .b8 w<4>; mov.b32 {w0, w1, w2, w3}, %ra; mov.b32 %ro, {w3, w2, w1, w0}; }",
        1,
        |a, _, _| a.swap_bytes(),
    );
    check32(
        "{ .reg.b8 w<2>; mov.b16 {w0, w1}, %ha; mov.b16 %ho, {w1, w0}; cvt.u32.u16 %ro, %ho; }",
        2,
        |a, _, _| u32::from((a as u16).swap_bytes()),
    );
    check32("mov.b32 {_, %h1}, %ra; mov.b32 %ro, {%h1, %h1};", 3, |a, _, _| (a >> 16) * 0x10001);
}

#[test]
fn wide_registers() {
    let body = |b: &str| format!("{{ .reg .b128 w, v<3>; .local .align 16 .b8 l[48]; {b} }}");
    check64(
        &body("mov.b128 w, {%rda, %rdb}; mov.b128 {%rd4, %rd5}, w; sub.u64 %rdo, %rd5, %rd4;"),
        1,
        |a, b, _| b.wrapping_sub(a),
    );
    // The parts change places in one move.
    check64(
        &body(
            "mov.u64 %rd4, %rda; mov.u64 %rd5, %rdb; mov.b128 v1, {%rd4, %rd5}; mov.b128 {%rd5, %rd4}, v1;
               mov.b128 v2, {%rd4, %rd5}; mov.b128 {%rd5, %rd4}, v2; sub.u64 %rdo, %rd4, %rd5;",
        ),
        2,
        |a, b, _| a.wrapping_sub(b),
    );
    check64(
        &body("mov.b128 v0, {%rda, %rdb}; st.local.b128 [l+16], v0; ld.local.b64 %rdo, [l+24];"),
        3,
        |_, b, _| b,
    );
    check64(
        &body(
            "st.local.v2.b64 [l], {%rda, %rdb}; ld.local.b128 w, [l]; mov.b128 v1, w; mov.b128 {_, %rdo}, v1;",
        ),
        4,
        |_, b, _| b,
    );
}

#[test]
fn names_with_values() {
    check32("mov.u32 %ro, WARP_SZ;", 1, |_, _, _| 32);
    check32("mov.u32 %ro, %envreg3; mov.u32 %r4, %pm5; add.u32 %ro, %ro, %r4;", 2, |_, _, _| 0);
    check64("createpolicy.fractional.L2::evict_first.b64 %rd4, 0.5; mov.u64 %rdo, %rda;", 3, |a, _, _| a);
}

#[test]
fn transposition() {
    let ptx =
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o) { .reg .b32 %r<9>;
        .reg .b64 %rd<4>; ld.param.u64 %rd1, [o]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4;
        add.u64 %rd1, %rd1, %rd2; mad.lo.u32 %r2, %r1, 0x20002, 0x10000;
        movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r2; st.global.u32 [%rd1], %r3; ret; }";
    let mut m = Machine::new(ptx);
    let o = m.zeros::<u32>("o", 32);
    m.run("k", 1, 32, &[Arg::Ptr(o)]);
    // Element (r, c) of the source is its index 8 r + c.
    for (l, v) in m.get::<u32>(o, 32).into_iter().enumerate() {
        let (row, col) = (l / 4, 2 * (l % 4));
        assert_eq!([v & 0xffff, v >> 16], [8 * col + row, 8 * (col + 1) + row].map(|e| e as u32), "lane {l}");
    }
}
