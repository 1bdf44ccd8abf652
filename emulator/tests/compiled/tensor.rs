//! What: tensor-core instructions, matrix loads, asynchronous copies and conversions.
//! Why here: fragment layouts are checked against plain matrix products.
//! Pre: tests/ptx/tensor.ptx.
//! Post: exact for small integers, bit-exact for data movement and conversions.

use crate::common::{Arg, EDGES32, Machine, Rng};
use half::{bf16, f16};

const PTX: &str = include_str!("../ptx/tensor.ptx");

/// Runs an mma of m16n8kK with `e` elements per register over small integers and compares with a plain product.
fn product(entry: &str, k: usize, e: usize, bits: impl Fn(f32) -> u32) {
    let mut m = Machine::new(PTX);
    let mut g = Rng::new(k as u64 + e as u64);
    let mut small = |n: usize| -> Vec<f32> { (0..n).map(|_| g.below(17) as f32 - 8.0).collect() };
    let (a, b, c) = (small(16 * k), small(k * 8), small(16 * 8));
    let pack = |v: &dyn Fn(usize) -> f32| (0..e).fold(0u32, |w, j| w | bits(v(j)) << (32 / e * j));
    let (mut fa, mut fb, mut fc) = (vec![], vec![], vec![]);
    for l in 0..32 {
        let (row, t) = (l / 4, l % 4);
        for i in 0..4 {
            fa.push(pack(&|j| a[(row + 8 * (i & 1)) * k + (i >> 1) * 4 * e + t * e + j]));
        }
        for i in 0..2 {
            fb.push(pack(&|j| b[(i * 4 * e + t * e + j) * 8 + row]));
        }
        for i in 0..4 {
            fc.push(c[(row + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)]);
        }
    }
    let (pa, pb, pc, pd) = (m.put("a", &fa), m.put("b", &fb), m.put("c", &fc), m.zeros::<f32>("d", 128));
    let counters = m.run(entry, 1, 32, &[Arg::Ptr(pa), Arg::Ptr(pb), Arg::Ptr(pc), Arg::Ptr(pd)]);
    let d: Vec<f32> = m.get(pd, 128);
    for l in 0..32 {
        for i in 0..4 {
            let (r, q) = (l / 4 + 8 * (i >> 1), 2 * (l % 4) + (i & 1));
            let want = c[r * 8 + q] + (0..k).map(|x| a[r * k + x] * b[x * 8 + q]).sum::<f32>();
            assert_eq!(d[l * 4 + i], want, "{entry} D[{r}][{q}]");
        }
    }
    assert_eq!(counters.tensor_flops.values().sum::<u64>(), 2 * 16 * 8 * k as u64);
}

#[test]
fn mma_fragments() {
    product("mma_bf16", 16, 2, |v| u32::from(bf16::from_f32(v).to_bits()));
    product("mma_f16", 16, 2, |v| u32::from(f16::from_f32(v).to_bits()));
    product("mma_tf32", 8, 1, |v| v.to_bits());
}

#[test]
fn ldmatrix() {
    let mut m = Machine::new(PTX);
    let x: Vec<u16> = (0..256).map(|i| i * 257).collect();
    let (px, po) = (m.put("x", &x), m.zeros::<u32>("o", 352));
    m.run("ldmatrices", 1, 32, &[Arg::Ptr(px), Arg::Ptr(po)]);
    let o: Vec<u32> = m.get(po, 352);
    let at = |i: usize, r: usize, c: usize| u32::from(x[i * 64 + r * 8 + c]);
    for l in 0..32 {
        let (g, t) = (l / 4, 2 * (l % 4));
        for i in 0..4 {
            assert_eq!(o[4 * l + i], at(i, g, t) | at(i, g, t + 1) << 16);
            assert_eq!(o[128 + 4 * l + i], at(i, t, g) | at(i, t + 1, g) << 16);
        }
        for i in 0..2 {
            assert_eq!(o[256 + 2 * l + i], at(i, g, t) | at(i, g, t + 1) << 16);
        }
        assert_eq!(o[320 + l], at(0, t, g) | at(0, t + 1, g) << 16);
    }
}

#[test]
fn cp_async() {
    let mut m = Machine::new(PTX);
    let x: Vec<f32> = (0..224).map(|i| i as f32).collect();
    let (px, po) = (m.put("x", &x), m.zeros::<f32>("o", 224));
    for bytes in [0, 4, 12, 16] {
        m.run("cp_asyncs", 1, 32, &[Arg::Ptr(px), Arg::Ptr(po), Arg::I32(bytes)]);
        for (i, v) in m.get::<f32>(po, 224).into_iter().enumerate() {
            let zero = i < 128 && i % 4 * 4 >= bytes as usize;
            assert_eq!(v, if zero { 0.0 } else { i as f32 });
        }
    }
    assert!(m.try_run("cp_asyncs", 1, 32, &[Arg::Ptr(px), Arg::Ptr(po), Arg::I32(17)]).is_err());
}

#[test]
fn conversions() {
    let mut m = Machine::new(PTX);
    let mut g = Rng::new(21);
    let mut x: Vec<f32> = EDGES32.iter().map(|b| f32::from_bits(*b)).collect();
    x.extend((0..3000).map(|_| f32::from_bits(g.u32())));
    x.extend((0..3000).map(|_| g.f64(-70000.0, 70000.0) as f32));
    x.extend((0..3000).map(|_| g.f64(-1e-4, 1e-4) as f32));
    let n = x.len();
    let (px, po) = (m.put("x", &x), m.zeros::<u32>("o", 9 * n));
    m.run("converts", n.div_ceil(256) as u32, 256, &[Arg::Ptr(px), Arg::Ptr(po), Arg::I32(n as i32)]);
    let o: Vec<u32> = m.get(po, 9 * n);
    let b = |v: f32| if v.is_nan() { 0x7fff } else { u32::from(bf16::from_f32(v).to_bits()) };
    let h = |v: f32| if v.is_nan() { 0x7fff } else { u32::from(f16::from_f32(v).to_bits()) };
    for i in 0..n {
        let (v, w) = (x[i], x[(i + 1) % n]);
        assert_eq!(o[i], b(v), "bf16 of {v:e}");
        assert_eq!(o[n + i], b(v) << 16);
        assert_eq!(o[2 * n + i], b(v) << 16 | b(w));
        assert_eq!(o[3 * n + i], h(v), "f16 of {v:e}");
        let back = f16::from_bits(h(v) as u16).to_f32();
        assert!(back.is_nan() || o[4 * n + i] == back.to_bits(), "f32 of f16 {:#x}", h(v));
        assert_eq!(o[5 * n + i], h(v) << 16 | h(w));
        if !v.is_nan() {
            assert_eq!(o[6 * n + i], v.to_bits() >> 16, "bf16 to zero of {v:e}");
            let t = f32::from_bits(o[7 * n + i]);
            assert!(
                t.to_bits() & 0x1fff == 0
                    && (t == v || !t.is_finite() || (t / v - 1.0).abs() <= 2f32.powi(-11) || v.abs() < 1e-37)
            );
            let z = f16::from_bits(o[8 * n + i] as u16).to_f32();
            assert!(
                z.abs() <= v.abs() && (v.is_infinite() || z.is_finite()),
                "f16 to zero of {v:e} is {z:e}"
            );
        }
    }
}

#[test]
fn vectors() {
    let mut m = Machine::new(PTX);
    let x: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let h: Vec<u16> = (0..128).collect();
    let i2: Vec<i32> = (0..64).collect();
    let (px, po) = (m.put("x", &x), m.zeros::<f32>("o", 128));
    let (ph, pp) = (m.put("h", &h), m.zeros::<u16>("p", 128));
    let (pi, pj) = (m.put("i", &i2), m.zeros::<i32>("j", 64));
    m.run("vectors", 1, 32, &[px, po, ph, pp, pi, pj].map(Arg::Ptr));
    for (i, v) in m.get::<f32>(po, 128).into_iter().enumerate() {
        assert_eq!(v, [x[i] + 1.0, x[i], x[i], 2.0 * x[i]][i % 4]);
    }
    for (i, v) in m.get::<u16>(pp, 128).into_iter().enumerate() {
        assert_eq!(v, if i % 4 == 1 { h[i - 1] ^ 3 } else { h[i] });
    }
    for (i, v) in m.get::<i32>(pj, 64).into_iter().enumerate() {
        assert_eq!(v, if i % 2 == 0 { -1 } else { i as i32 });
    }
}

/// Lanes part before each product and meet at it, wherever the turn of the warp ends: the instructions of a round do not
/// divide those of a turn.
#[test]
fn lanes_meet_at_an_mma_however_long_they_run() {
    const ROUNDS: u32 = 20_000;
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .visible .entry often(.param .u64 o)\n{{\n\
         .reg .pred %p<3>; .reg .b32 %r<9>; .reg .f32 %f<5>; .reg .b64 %rd<4>;\n\
         ld.param.u64 %rd1, [o];\n mov.u32 %r1, %tid.x;\n setp.gt.u32 %p1, %r1, 7;\n\
         mov.u32 %r2, 0;\n mov.u32 %r3, 0;\n mov.u32 %r4, 0x3f803f80;\n\
         mov.f32 %f1, 0f00000000;\n mov.f32 %f2, %f1;\n mov.f32 %f3, %f1;\n mov.f32 %f4, %f1;\n\
         AGAIN:\n @%p1 bra MEET;\n add.s32 %r2, %r2, 1;\n add.s32 %r2, %r2, 1;\n add.s32 %r2, %r2, 1;\n add.s32 %r2, %r2, 1;\n\
         MEET:\n\
         mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{%f1, %f2, %f3, %f4}}, {{%r4, %r4, %r4, %r4}}, {{%r4, %r4}}, \
         {{%f1, %f2, %f3, %f4}};\n\
         add.s32 %r3, %r3, 1;\n setp.ne.s32 %p2, %r3, {ROUNDS};\n @%p2 bra AGAIN;\n\
         cvta.to.global.u64 %rd2, %rd1;\n mul.wide.u32 %rd3, %r1, 8;\n add.s64 %rd2, %rd2, %rd3;\n\
         cvt.rn.f32.u32 %f2, %r2;\n st.global.v2.f32 [%rd2], {{%f1, %f2}};\n ret;\n}}\n"
    );
    let mut m = Machine::new(&ptx);
    let o = m.zeros::<f32>("o", 64);
    m.run("often", 1, 32, &[Arg::Ptr(o)]);
    let got: Vec<f32> = m.get(o, 64);
    for (lane, pair) in got.chunks(2).enumerate() {
        let steps = if lane < 8 { 4 * ROUNDS } else { 0 };
        assert_eq!(pair, [16.0 * ROUNDS as f32, steps as f32], "lane {lane}");
    }
}
