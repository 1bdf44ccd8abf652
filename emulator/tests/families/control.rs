//! What: predication, scopes, labels and indexed branches.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::harness::*;

#[test]
fn predicated_code_and_scopes() {
    // A label and a register that two nested scopes both declare.
    check32(
        "{ .reg .u32 t; mov.u32 t, 5; setp.gt.s32 %p2, %ra, 0; @%p2 bra L; add.u32 t, t, 1; L: mov.u32 %ro, t; }
         { .reg .u32 t; mov.u32 t, 100; @!%p2 bra L; add.u32 t, t, 10; L: add.u32 %ro, %ro, t; }",
        1,
        |a, _, _| if a as i32 > 0 { 115 } else { 106 },
    );
    check32(
        "mov.u32 %ro, 7; setp.eq.u32 %p2, %ra, 0; @%p2 mov.u32 %ro, 9;",
        2,
        |a, _, _| if a == 0 { 9 } else { 7 },
    );
    check32(
        "and.b32 %r4, %ra, 3; TS: .branchtargets A, B, C, D; brx.idx %r4, TS; A: mov.u32 %ro, 10; bra E;
         B: mov.u32 %ro, 20; bra E; C: mov.u32 %ro, 30; bra E; D: mov.u32 %ro, 40; E:",
        3,
        |a, _, _| 10 * (1 + (a & 3)),
    );
    check32(
        "not.pred %p2, %p2; xor.pred %p3, %p2, %p2; mov.pred %p4, %p2; and.pred %p5, %p4, !%p3; selp.u32 %ro, 3, 4, %p5;",
        4,
        |_, _, _| 3,
    );
}
