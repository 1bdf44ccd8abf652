//! Litmus tests of the memory model in adversarial schedules: which outcomes some seed shows, and which none may show.

use crate::common::{Arg, Machine};
use std::collections::BTreeSet;

/// Store buffering: each of two threads of two blocks sets its word, and then reads the other's.
fn store_buffering(fence: &str) -> BTreeSet<(u32, u32)> {
    let half = |mine: u32, other: u32, out: u32| {
        format!(
            "st.relaxed.gpu.global.u32 [%rd1+{mine}], 1; {fence} ld.relaxed.gpu.global.u32 %r3, [%rd1+{other}];
             st.global.u32 [%rd2+{out}], %r3; ret;"
        )
    };
    // The outcome lies in the first two words of the output, so the common tail is never reached.
    outcomes(&half(0, 128, 0), &half(128, 0, 4))
}

#[test]
fn both_may_miss_each_other_unless_their_fences_are_in_one_order() {
    let all: BTreeSet<_> = [(0, 0), (0, 1), (1, 0), (1, 1)].into();
    let some: BTreeSet<_> = [(0, 1), (1, 0), (1, 1)].into();
    assert_eq!(store_buffering(""), all);
    assert_eq!(store_buffering("fence.acq_rel.gpu;"), all);
    assert_eq!(store_buffering("fence.sc.gpu;"), some);
    assert_eq!(store_buffering("membar.gl;"), some);
}

/// Two blocks of one thread: `writer` runs in the first, `reader` in the second, whose %r1 and %r2 are the outcome. The
/// words x and y lie at [%rd1] and [%rd1+128].
fn outcomes(writer: &str, reader: &str) -> BTreeSet<(u32, u32)> {
    let ptx = format!(
        ".version 8.6\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 o) {{\n\
         .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<4>;\n\
         ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [o]; mov.u32 %r5, %ctaid.x; setp.eq.u32 %p1, %r5, 0;\n\
         @!%p1 bra READ;\n{writer}\nret;\nREAD:\n{reader}\nst.global.v2.u32 [%rd2], {{%r1, %r2}};\nret;\n}}"
    );
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut m = Machine::new(&ptx);
        m.options.seed = Some(seed);
        let (a, o) = (m.zeros::<u32>("a", 64), m.zeros::<u32>("o", 2));
        m.run("k", 2, 1, &[Arg::Ptr(a), Arg::Ptr(o)]);
        let v = m.get::<u32>(o, 2);
        seen.insert((v[0], v[1]));
    }
    println!("{seen:?}");
    seen
}

fn message_passing(store: &str, between: &str, load: &str, after: &str) -> BTreeSet<(u32, u32)> {
    outcomes(
        &format!("st.relaxed.gpu.global.u32 [%rd1], 1; {between} {store}.global.u32 [%rd1+128], 1;"),
        &format!("{load}.global.u32 %r1, [%rd1+128]; {after} ld.relaxed.gpu.global.u32 %r2, [%rd1];"),
    )
}

#[test]
fn relaxed_messages_may_arrive_out_of_order() {
    let all: BTreeSet<_> = [(0, 0), (0, 1), (1, 0), (1, 1)].into();
    assert_eq!(message_passing("st.relaxed.gpu", "", "ld.relaxed.gpu", ""), all);
    // One half of the pattern is not enough.
    assert_eq!(message_passing("st.release.gpu", "", "ld.relaxed.gpu", ""), all);
    assert_eq!(message_passing("st.relaxed.gpu", "", "ld.acquire.gpu", ""), all);
}

#[test]
fn released_messages_arrive_in_order() {
    let ordered: BTreeSet<_> = [(0, 0), (0, 1), (1, 1)].into();
    assert_eq!(message_passing("st.release.gpu", "", "ld.acquire.gpu", ""), ordered);
    let fence = "fence.acq_rel.gpu;";
    assert_eq!(message_passing("st.relaxed.gpu", fence, "ld.relaxed.gpu", fence), ordered);
    assert_eq!(message_passing("st.volatile", "membar.gl;", "ld.volatile", "membar.gl;"), ordered);
}

#[test]
fn reads_of_one_place_never_go_back() {
    let seen = outcomes(
        "st.relaxed.gpu.global.u32 [%rd1], 1; st.relaxed.gpu.global.u32 [%rd1], 2;",
        "ld.relaxed.gpu.global.u32 %r1, [%rd1]; ld.relaxed.gpu.global.u32 %r2, [%rd1];",
    );
    assert!(seen.iter().all(|(a, b)| a <= b), "{seen:?}");
    assert!(seen.len() >= 4, "{seen:?}");
}
