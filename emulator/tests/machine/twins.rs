//! What: several threads that store to one place, and values of which half is defined.
//! Why here: compilers let warps that hold the same value all store it, and leave halves of words undefined; both
//! are fine, and everything near them is not.
//! Pre: none.
//! Post: only equal bytes by one instruction of one block are let through.

use crate::common::{Arg, Machine};
use tilewright_emulator::{FindingKind, Options};

/// Warps; `%r1` is the thread, `%r2` its lane, `%r3` its warp, `%r9` the shared address of its lane.
fn findings(body: &str, blocks: u32) -> Vec<FindingKind> {
    of_warps(body, blocks, 2)
}

fn of_warps(body: &str, blocks: u32, warps: u32) -> Vec<FindingKind> {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o) {{ .reg .pred %p<4>;
         .reg .b32 %r<12>; .reg .b16 %h<3>; .reg .b64 %rd<9>; .shared .align 16 .b8 s[1024]; ld.param.u64 %rd1, [o];
         mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 31; shr.u32 %r3, %r1, 5; mov.u32 %r8, s; shl.b32 %r9, %r2, 4;
         add.u32 %r9, %r9, %r8; setp.eq.u32 %p1, %r3, 1;
         {body}
         bar.sync 0; ld.shared.u32 %r7, [%r9]; mul.wide.u32 %rd2, %r1, 4; mov.u32 %r6, %ctaid.x;
         mul.wide.u32 %rd3, %r6, 1024; add.u64 %rd4, %rd1, %rd2; add.u64 %rd4, %rd4, %rd3;
         st.global.u32 [%rd4+64], %r7; ret; }}"
    );
    let mut m = Machine::new(&ptx);
    let o = m.zeros::<u32>("o", 2048);
    let mut all = vec![];
    for seed in [None, Some(1), Some(2), Some(3)] {
        m.options = Options { seed, ..m.options };
        all.extend(
            m.report("k", blocks, 32 * warps, &[Arg::Ptr(o)]).unwrap().findings.iter().map(|f| f.kind),
        );
    }
    all.dedup();
    all
}

#[test]
fn the_same_bytes_by_one_instruction_are_fine() {
    assert_eq!(findings("add.u32 %r4, %r2, 7; st.shared.u32 [%r9], %r4;", 1), []);
    assert_eq!(findings("mov.u32 %r4, 9; st.shared.v4.u32 [%r9], {%r4, %r2, %r4, %r2};", 1), []);
    assert_eq!(
        findings("cvt.u16.u32 %h1, %r2; st.shared.u32 [%r9], %r2; bar.sync 0; st.shared.u8 [%r9+1], %h1;", 1),
        []
    );
    // An element per warp, of an array that has half as many.
    let sums = "st.shared.u32 [%r9], %r2; and.b32 %r4, %r3, 1; shl.b32 %r5, %r4, 2; add.u32 %r5, %r5, %r8;
                st.shared.u32 [%r5+600], %r4;";
    assert_eq!(of_warps(sums, 1, 4), []);
    // The two warps of a block to global memory, each address by two lanes.
    let global = "and.b32 %r4, %r2, 3; mul.wide.u32 %rd5, %r4, 4; add.u64 %rd5, %rd1, %rd5; st.global.u32 [%rd5], %r4;";
    assert_eq!(findings(&format!("st.shared.u32 [%r9], %r2; {global}"), 1), []);
}

#[test]
fn everything_near_it_is_a_race() {
    for (body, blocks) in [
        // Other bytes.
        ("st.shared.u32 [%r9], %r1;", 1),
        // One part of a vector differs.
        ("mov.u32 %r4, 9; st.shared.v4.u32 [%r9], {%r4, %r4, %r4, %r3};", 1),
        // The same bytes by two instructions.
        ("@%p1 st.shared.u32 [%r9], %r2; @!%p1 st.shared.u32 [%r9], %r2;", 1),
        // All lanes at one word: a guard is missing.
        ("st.shared.u32 [%r9], %r2; mov.u32 %r4, 5; st.global.u32 [%rd1], %r4;", 1),
        ("st.shared.u32 [%r9], %r2; mov.u32 %r4, 5; st.shared.u32 [%r8+600], %r4;", 1),
        // A reader that no barrier holds back.
        ("st.shared.u32 [%r9], %r2; ld.shared.u32 %r5, [%r9];", 1),
        // Two blocks.
        (
            "st.shared.u32 [%r9], %r2; mov.u32 %r4, 5; setp.eq.u32 %p2, %r1, 0; @%p2 st.global.u32 [%rd1], %r4;",
            2,
        ),
    ] {
        assert_eq!(findings(body, blocks), [FindingKind::Race], "{body}");
    }
}

#[test]
fn halves_keep_what_is_known_of_them() {
    // One half of a word is nobody's, and only the other one is stored.
    let half = "{ .reg .b16 %u; .reg .f32 %f<3>; mov.b32 %f1, %r2; cvt.rn.satfinite.e4m3x2.f32 %h1, %f2, %f1;
                st.global.u8 [%rd1], %h1; mov.b32 %r5, {%h1, %u}; st.shared.u32 [%r9+8], %r5; }";
    assert_eq!(
        findings(&format!("st.shared.u32 [%r9], %r2; setp.eq.u32 %p2, %r1, 0; @!%p2 bra L; {half} L:"), 1),
        []
    );
    let none = "{ .reg .f32 %f<3>; cvt.rn.satfinite.e4m3x2.f32 %h1, %f2, %f1; st.global.u8 [%rd1], %h1; }";
    let body = format!("st.shared.u32 [%r9], %r2; setp.eq.u32 %p2, %r1, 0; @!%p2 bra L; {none} L:");
    assert_eq!(findings(&body, 1), [FindingKind::Uninit]);
}

#[test]
fn bytes_keep_what_is_known_of_them() {
    let store = |selector: &str| {
        let bytes =
            format!("{{ .reg .b32 %u; prmt.b32 %r5, %u, 7, {selector}; @%p2 st.global.u32 [%rd1], %r5; }}");
        findings(&format!("setp.eq.u32 %p2, %r1, 0; {bytes} @%p1 st.shared.u32 [%r9], %r2;"), 1)
    };
    // As long as one byte is defined, so is the word.
    for selector in ["0x7654", "0x4444", "0x3214", "0x7210"] {
        assert_eq!(store(selector), [], "{selector}");
    }
    for selector in ["0x3210", "0x0000", "%u"] {
        assert_eq!(store(selector), [FindingKind::Uninit], "{selector}");
    }
}
