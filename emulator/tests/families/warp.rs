//! What: operations at which the lanes of a warp meet.
//! Why here: one family.
//! Pre: none.
//! Post: exact.

use crate::common::{Arg, Machine};

const WARP: &str = r#"
.version 8.0
.target sm_80
.address_size 64
.visible .entry meet(.param .u64 o) {
  .reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %rd<9>;
  .shared .align 16 .b8 buf[2048];
  ld.param.u64 %rd1, [o];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  and.b32 %r2, %r1, 1;
  setp.eq.u32 %p1, %r2, 0;
  // The halves of each warp shuffle apart, each under its own mask.
  mov.u32 %r9, 0;
  @%p1 bra EVEN;
  shfl.sync.bfly.b32 %r3|%p2, %r1, 2, 31, 0xaaaaaaaa;
  bra JOIN;
EVEN:
  shfl.sync.bfly.b32 %r3|%p2, %r1, 4, 31, 0x55555555;
JOIN:
  bar.warp.sync 0xffffffff;
  st.global.u32 [%rd1], %r3;
  bar.red.popc.u32 %r4, 0, %p1;
  st.global.u32 [%rd1+256], %r4;
  setp.lt.u32 %p3, %r1, 64;
  bar.red.and.pred %p4, 1, %p3;
  bar.red.or.pred %p5, 2, !%p3;
  selp.u32 %r5, 1, 0, %p4;
  selp.u32 %r6, 2, 0, %p5;
  or.b32 %r5, %r5, %r6;
  vote.sync.uni.pred %p6, %p1, 0xffffffff;
  selp.u32 %r6, 4, 0, %p6;
  or.b32 %r5, %r5, %r6;
  elect.sync %r7|%p7, 0xffffffff;
  selp.u32 %r6, 8, 0, %p7;
  or.b32 %r5, %r5, %r6;
  st.global.u32 [%rd1+512], %r5;
  // Threads that leave do not hold up a barrier.
  setp.gt.u32 %p8, %r1, 50;
  @%p8 exit;
  bar.sync 3;
  st.global.u32 [%rd1+768], %r1;
  ret;
}
.visible .entry matrices(.param .u64 o) {
  .reg .b32 %r<20>; .reg .b64 %rd<9>;
  .shared .align 16 .b8 buf[512];
  ld.param.u64 %rd1, [o];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, buf;
  shl.b32 %r3, %r1, 4;
  add.u32 %r3, %r3, %r2;
  add.u32 %r4, %r1, 1000;
  stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r3], {%r1, %r4};
  stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r3], {%r1};
  bar.sync 0;
  shl.b32 %r5, %r1, 2;
  add.u32 %r5, %r5, %r2;
  ld.shared.u32 %r6, [%r5];
  ld.shared.u32 %r7, [%r5+128];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r6;
  st.global.u32 [%rd1+128], %r7;
  ret;
}
"#;

#[test]
fn meetings() {
    let mut m = Machine::new(WARP);
    let o = m.zeros::<u32>("o", 256);
    m.run("meet", 1, 64, &[Arg::Ptr(o)]);
    let v: Vec<u32> = m.get(o, 256);
    for t in 0..64u32 {
        assert_eq!(v[t as usize], if t % 2 == 0 { t ^ 4 } else { t ^ 2 }, "thread {t}");
        assert_eq!(v[64 + t as usize], 32);
        assert_eq!(v[128 + t as usize], 1 + if t % 32 == 0 { 8 } else { 0 });
        assert_eq!(v[192 + t as usize], if t <= 50 { t } else { 0 });
    }
}

#[test]
fn stored_matrices() {
    let mut m = Machine::new(WARP);
    let o = m.zeros::<u32>("o", 64);
    m.run("matrices", 1, 32, &[Arg::Ptr(o)]);
    let v: Vec<u32> = m.get(o, 64);
    let word = |l: u32| [l & 0xffff, l >> 16];
    for l in 0..32u32 {
        // Element (row, col) of the transposed matrix is element (col, row) of the fragment.
        let (g, t) = (l / 4, 2 * (l % 4));
        let e = |r: u32, c: u32| word(c * 4 + r / 2)[(r & 1) as usize];
        assert_eq!(v[l as usize], e(g, t) | e(g, t + 1) << 16);
        assert_eq!(v[32 + l as usize], l + 1000);
    }
}
