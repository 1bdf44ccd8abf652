//! What: narrow and wide accesses, vectors, and generic windows.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::harness::*;

#[test]
fn narrow_memory_and_windows() {
    let body = |st: &str, ld: &str| format!("{{ .local .align 8 .b8 l[16]; {st} {ld} }}");
    check64(&body("st.local.u64 [l], %rda;", "ld.local.s8 %rdo, [l+1];"), 1, |a, _, _| {
        (a >> 8) as i8 as i64 as u64
    });
    check64(
        &body("st.local.u64 [l+8], %rda;", "ld.local.u16 %r4, [l+10]; cvt.u64.u32 %rdo, %r4;"),
        2,
        |a, _, _| a >> 16 & 0xffff,
    );
    check64(&body("st.local.v2.b32 [l], {%ra, %rb};", "ld.local.b64 %rdo, [l];"), 3, |a, b, _| {
        a & 0xffff_ffff | b << 32
    });
    check64(
        &body("st.local.b64 [l], %rdb; st.local.b8 [l+3], %rda;", "ld.local.b64 %rdo, [l];"),
        4,
        |a, b, _| b & !0xff00_0000 | (a & 255) << 24,
    );
    check64(&body("st.local.v4.u16 [l], {%ha, %hb, %hc, %ha};", "ld.local.b64 %rdo, [l];"), 5, |a, b, c| {
        a & 0xffff | (b & 0xffff) << 16 | (c & 0xffff) << 32 | a << 48
    });
    check64(
        &body(
            "mov.u64 %rd4, l; cvta.local.u64 %rd5, %rd4; st.u64 [%rd5+8], %rda;",
            "ld.local.u64 %rdo, [l+8]; isspacep.local %p2, %rd5; @!%p2 mov.u64 %rdo, 0;",
        ),
        6,
        |a, _, _| a,
    );
    check64("isspacep.global %p2, %rd1; selp.u64 %rdo, 1, 2, %p2;", 7, |_, _, _| 1);
    check64("isspacep.shared %p2, %rd1; selp.u64 %rdo, 1, 2, %p2;", 8, |_, _, _| 2);
}
