//! What: mbarriers, bulk copies and asynchronous stores against what PTX says of them.
//! Why here: these decide when data may be used, so phases and counts must be exact.
//! Pre: none.
//! Post: results are exact; misuse is a fault that names the mbarrier.

use crate::common::{Arg, Machine, Rng};

const HEAD: &str = ".version 8.6\n.target sm_90a\n.address_size 64\n";

/// A kernel `k` of two pointers, which arrive in %rd1 and %rd2; %r1 is the thread.
fn kernel(body: &str) -> Machine {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 a, .param .u64 b) {{
.reg .pred %p<9>; .reg .b32 %r<40>; .reg .b64 %rd<40>; .reg .f32 %f<9>;
.shared .align 16 .b8 data[8192]; .shared .align 8 .b64 bar[4];
ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 0;
mov.u32 %r2, data; mov.u32 %r3, bar;
{body}
ret; }}"
    );
    Machine::new(&ptx)
}

#[test]
fn states_counts_and_parities() {
    let mut m = kernel(
        "mbarrier.init.shared.b64 [bar], 3;
fence.mbarrier_init.release.cluster;
mbarrier.arrive.shared::cta.b64 %rd3, [%r3];
mbarrier.pending_count.b64 %r4, %rd3;
mbarrier.arrive.noComplete.release.cta.shared.b64 %rd4, [%r3], 1;
mbarrier.pending_count.b64 %r5, %rd4;
mbarrier.test_wait.shared.b64 %p2, [%r3], %rd3;
mbarrier.test_wait.parity.acquire.cta.shared.b64 %p3, [%r3], 1;
mbarrier.expect_tx.relaxed.cta.shared.b64 [%r3], 100;
mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3], 1;
mbarrier.test_wait.shared.b64 %p4, [%r3], %rd3;
mbarrier.complete_tx.relaxed.cta.shared.b64 [%r3], 100;
mbarrier.test_wait.shared.b64 %p5, [%r3], %rd3;
mbarrier.test_wait.parity.shared.b64 %p6, [%r3], 0;
mbarrier.complete_tx.relaxed.cta.shared.b64 [%r3], 64;
mbarrier.arrive_drop.shared.b64 %rd5, [%r3];
mbarrier.arrive.expect_tx.shared.b64 %rd6, [%r3], 64;
mbarrier.arrive.shared.b64 %rd7, [%r3];
mbarrier.test_wait.shared.b64 %p7, [%r3], %rd7;
mbarrier.arrive.shared.b64 %rd8, [%r3];
mbarrier.pending_count.b64 %r6, %rd8;
mbarrier.inval.shared.b64 [%r3];
selp.u32 %r10, 1, 0, %p2; selp.u32 %r11, 1, 0, %p3; selp.u32 %r12, 1, 0, %p4; selp.u32 %r13, 1, 0, %p5;
selp.u32 %r14, 1, 0, %p6; selp.u32 %r15, 1, 0, %p7;
st.global.v4.u32 [%rd1], {%r4, %r5, %r6, %r10}; st.global.v4.u32 [%rd1+16], {%r11, %r12, %r13, %r14};
st.global.u32 [%rd1+32], %r15;",
    );
    let o = m.zeros::<u32>("o", 9);
    m.run("k", 1, 1, &[Arg::Ptr(o), Arg::Ptr(o)]);
    // Before any phase is over, the one before it (odd parity) counts as over.
    assert_eq!(m.get::<u32>(o, 9), [3, 2, 2, 0, 1, 0, 1, 1, 1]);
}

#[test]
fn a_ring_of_bulk_copies() {
    // Thread 0 fills two stages, all other threads use and release them.
    let body = "@!%p1 bra READY;
mbarrier.init.shared.b64 [%r3], 1; mbarrier.init.shared.b64 [%r3+8], 1;
mbarrier.init.shared.b64 [%r3+16], 64; mbarrier.init.shared.b64 [%r3+24], 64;
fence.proxy.async.shared::cta;
READY: bar.sync 0;
mov.u32 %r4, 0; mov.f32 %f1, 0f00000000;
setp.lt.u32 %p2, %r1, 64; @%p2 bra USE;
setp.ne.u32 %p3, %r1, 64; @%p3 bra END;
FILL: and.b32 %r5, %r4, 1; shl.b32 %r6, %r5, 3; add.u32 %r6, %r6, %r3;
shr.u32 %r7, %r4, 1; and.b32 %r7, %r7, 1; xor.b32 %r7, %r7, 1;
W1: mbarrier.try_wait.parity.shared::cta.b64 %p4, [%r6+16], %r7; @!%p4 bra W1;
mbarrier.arrive.expect_tx.shared.b64 _, [%r6], 256;
shl.b32 %r8, %r5, 8; add.u32 %r8, %r8, %r2; mul.wide.u32 %rd4, %r4, 256; add.u64 %rd4, %rd4, %rd1;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%rd4], 256, [%r6];
add.u32 %r4, %r4, 1; setp.lt.u32 %p5, %r4, 9; @%p5 bra FILL;
bra END;
USE: and.b32 %r5, %r4, 1; shl.b32 %r6, %r5, 3; add.u32 %r6, %r6, %r3;
shr.u32 %r7, %r4, 1; and.b32 %r7, %r7, 1;
W2: mbarrier.try_wait.parity.shared::cta.b64 %p4, [%r6], %r7, 1000; @!%p4 bra W2;
shl.b32 %r8, %r5, 8; add.u32 %r8, %r8, %r2; shl.b32 %r9, %r1, 2; add.u32 %r8, %r8, %r9;
ld.shared.f32 %f2, [%r8]; add.f32 %f1, %f1, %f2;
mbarrier.arrive.shared.b64 _, [%r6+16];
add.u32 %r4, %r4, 1; setp.lt.u32 %p5, %r4, 9; @%p5 bra USE;
mul.wide.u32 %rd5, %r1, 4; add.u64 %rd5, %rd5, %rd2; st.global.f32 [%rd5], %f1;
END:";
    let mut m = kernel(body);
    let mut g = Rng::new(11);
    let x: Vec<f32> = (0..64 * 9).map(|_| g.below(1000) as f32).collect();
    let (a, b) = (m.put("x", &x), m.zeros::<f32>("y", 64));
    let c = m.run("k", 1, 96, &[Arg::Ptr(a), Arg::Ptr(b)]);
    for (t, y) in m.get::<f32>(b, 64).iter().enumerate() {
        assert_eq!(*y, (0..9).map(|i| x[64 * i + t]).sum::<f32>(), "thread {t}");
    }
    assert_eq!(c.global_read_bytes, 64 * 9 * 4);
}

#[test]
fn bulk_stores_reductions_and_shared_copies() {
    let body = "mul.wide.u32 %rd3, %r1, 4; add.u64 %rd4, %rd1, %rd3; ld.global.u32 %r5, [%rd4];
shl.b32 %r6, %r1, 2; add.u32 %r7, %r2, %r6; st.shared.u32 [%r7], %r5;
fence.proxy.async; bar.sync 0;
@!%p1 bra END;
cp.async.bulk.prefetch.L2.global [%rd1], 512;
mbarrier.init.shared.b64 [%r3], 1; fence.mbarrier_init.release.cluster;
mbarrier.arrive.expect_tx.shared.b64 %rd9, [%r3], 512;
cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r2+1024], [%r2], 512, [%r3];
mbarrier.try_wait.shared.b64 %p2, [%r3], %rd9;
cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r2+1024], 512;
cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd2], [%r2], 256;
cp.reduce.async.bulk.global.shared::cta.bulk_group.max.s32 [%rd2+256], [%r2], 256;
cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; cp.async.bulk.wait_group 0;
END:";
    let mut m = kernel(body);
    let mut g = Rng::new(12);
    let x: Vec<u32> = (0..128).map(|_| g.u32()).collect();
    let (a, b) = (m.put("x", &x), m.zeros::<u32>("y", 128));
    m.run("k", 1, 128, &[Arg::Ptr(a), Arg::Ptr(b)]);
    for (i, y) in m.get::<u32>(b, 128).into_iter().enumerate() {
        let want = if i < 64 { x[i].wrapping_mul(2) } else { (x[i] as i32).max(x[i - 64] as i32) as u32 };
        assert_eq!(y, want, "element {i}");
    }
}

#[test]
fn asynchronous_stores_count_their_bytes() {
    let body = "@%p1 mbarrier.init.shared.b64 [%r3], 1; bar.sync 0;
@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 384;
and.b32 %r4, %r1, 3; shl.b32 %r4, %r4, 2; add.u32 %r4, %r4, %r2;
shl.b32 %r5, %r1, 3; add.u32 %r5, %r5, %r2; add.u32 %r6, %r1, 100;
red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r4], %r6, [%r3];
st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%r5+64], {%r1, %r6}, [%r3];
W: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra W;
ld.shared.u32 %r7, [%r4]; ld.shared.v2.u32 {%r8, %r9}, [%r5+64];
mul.wide.u32 %rd3, %r1, 12; add.u64 %rd3, %rd3, %rd1;
st.global.u32 [%rd3], %r7; st.global.u32 [%rd3+4], %r8; st.global.u32 [%rd3+8], %r9;";
    let mut m = kernel(body);
    let o = m.zeros::<u32>("o", 96);
    m.run("k", 1, 32, &[Arg::Ptr(o), Arg::Ptr(o)]);
    for (t, v) in m.get::<u32>(o, 96).chunks(3).enumerate() {
        let sum: u32 = (0..8).map(|i| 100 + t as u32 % 4 + 4 * i).sum();
        assert_eq!(v, [sum, t as u32, t as u32 + 100]);
    }
}

#[test]
fn copies_arrive_at_mbarriers() {
    let body = "@%p1 mbarrier.init.shared.b64 [%r3], 64; bar.sync 0;
shl.b32 %r4, %r1, 4; add.u32 %r5, %r2, %r4; cvt.u64.u32 %rd3, %r4; add.u64 %rd4, %rd1, %rd3;
cp.async.cg.shared.global [%r5], [%rd4], 16;
cp.async.mbarrier.arrive.shared.b64 [%r3];
cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r3];
W: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra W;
xor.b32 %r6, %r4, 1008; add.u32 %r6, %r6, %r2; ld.shared.v4.u32 {%r7, %r8, %r9, %r10}, [%r6];
add.u64 %rd5, %rd2, %rd3; st.global.v4.u32 [%rd5], {%r7, %r8, %r9, %r10};";
    let mut m = kernel(body);
    let x: Vec<u32> = (0..256).collect();
    let (a, b) = (m.put("x", &x), m.zeros::<u32>("y", 256));
    m.run("k", 1, 64, &[Arg::Ptr(a), Arg::Ptr(b)]);
    let y = m.get::<u32>(b, 256);
    assert!((0..256).all(|i| y[i] == x[4 * (63 - i / 4) + i % 4]));
}

#[test]
fn misuse_is_named() {
    let bad = [
        ("mbarrier.arrive.shared.b64 _, [%r3];", "no initialised mbarrier"),
        ("mbarrier.init.shared.b64 [%r3], 0;", "0 arrivals"),
        ("mbarrier.init.shared.b64 [%r3], 1; mbarrier.arrive.shared.b64 _, [%r3], 2;", "lacks 1"),
        ("mbarrier.init.shared.b64 [%r3+4], 1;", "misaligned"),
        ("mbarrier.init.b64 [%rd1], 1;", "must lie in shared memory"),
        (
            "mbarrier.init.shared.b64 [%r3], 1; mbarrier.arrive.noComplete.shared.b64 %rd3, [%r3], 1;",
            "noComplete",
        ),
        (
            "mbarrier.init.shared.b64 [%r3], 2; mbarrier.expect_tx.shared.b64 [%r3], 5;
             mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0;",
            "lacks 2 arrivals and 5 bytes",
        ),
        (
            "mbarrier.init.shared.b64 [%r3], 1; mbarrier.arrive.shared.b64 %rd3, [%r3];
             mbarrier.arrive.shared.b64 _, [%r3]; mbarrier.try_wait.shared.b64 %p2, [%r3], %rd3;",
            "2 phases old",
        ),
        (
            "mbarrier.init.shared.b64 [%r3], 1;
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 40, [%r3];",
            "multiples of 16",
        ),
        (
            "mbarrier.init.shared.b64 [%r3], 1;
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 80, [%r3];",
            "out of bounds",
        ),
    ];
    for (body, want) in bad {
        let mut m = kernel(body);
        let o = m.zeros::<u32>("o", 16);
        let e = m.try_run("k", 1, 1, &[Arg::Ptr(o), Arg::Ptr(o)]).unwrap_err().to_string();
        assert!(e.contains(want), "{body}: {e}");
    }
}
