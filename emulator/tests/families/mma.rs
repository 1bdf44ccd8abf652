//! What: `mma.sync` of all shapes and types against plain matrix products.
//! Why here: fragment layouts are a table in the ISA that is easy to get wrong.
//! Pre: none.
//! Post: exact, for small integers.

use crate::common::{Arg, Machine, Rng};
use half::{bf16, f16};

/// An mma of any shape over small integers: `e` elements per register, accumulators of `acc`.
fn mma(shape: &str, types: [&str; 3], m: usize, k: usize, e: usize, enc: &dyn Fn(i32) -> u32, acc: &str) {
    let (na, nb) = (k / (4 * e) * (m / 8), k / (4 * e));
    let nc = if acc == "f16" { m / 8 } else { m / 4 };
    let list = |p: &str, n: usize| (0..n).map(|i| format!("{p}{i}")).collect::<Vec<_>>().join(", ");
    let load = |p: &str, at: usize, n: usize| {
        (0..n).map(|i| format!("ld.global.b32 {p}{i}, [%rd1+{}];\n", 4 * (at + i))).collect::<String>()
    };
    let ptx = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x) {{ .reg .b32 %a<4>; .reg .b32 %b<2>;\n\
         .reg .b32 %c<4>; .reg .b32 %r<4>; .reg .b64 %rd<4>; ld.param.u64 %rd1, [x]; mov.u32 %r1, %tid.x;\n\
         mul.wide.u32 %rd2, %r1, 64; add.u64 %rd1, %rd1, %rd2;\n{}{}{}\n\
         mma.sync.aligned.{shape}.row.col.{acc}.{}.{}.{acc} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n{} ret; }}\n",
        load("%a", 0, na),
        load("%b", 4, nb),
        load("%c", 6, nc),
        types[0],
        types[1],
        list("%c", nc),
        list("%a", na),
        list("%b", nb),
        list("%c", nc),
        (0..nc).map(|i| format!("st.global.b32 [%rd1+{}], %c{i};\n", 40 + 4 * i)).collect::<String>(),
    );
    let mut g = Rng::new((m * k + e) as u64);
    let lo = if types[2] == "unsigned" { 0 } else { -4 };
    let mut small = |n: usize| -> Vec<i32> { (0..n).map(|_| g.below(8) as i32 + lo).collect() };
    let (a, b, c) = (small(m * k), small(k * 8), small(m * 8));
    let pack = |v: &dyn Fn(usize) -> i32| {
        (0..e).fold(0u32, |w, j| w | (enc(v(j)) & (u64::MAX >> (64 - 32 / e)) as u32) << (32 / e * j))
    };
    let encode = |v: i32| if acc == "s32" { v as u32 } else { (v as f32).to_bits() };
    let mut x = vec![0u32; 32 * 16];
    for l in 0..32 {
        let (r, t) = (l / 4, l % 4);
        for i in 0..na {
            let (row, kk) = (r + 8 * (i % (m / 8)), i / (m / 8) * 4 * e + t * e);
            x[16 * l + i] = pack(&|j| a[row * k + kk + j]);
        }
        for i in 0..nb {
            x[16 * l + 4 + i] = pack(&|j| b[(i * 4 * e + t * e + j) * 8 + r]);
        }
        for i in 0..nc {
            x[16 * l + 6 + i] = if acc == "f16" {
                let h = |j: usize| u32::from(f16::from_f32(c[(r + 8 * i) * 8 + 2 * t + j] as f32).to_bits());
                h(0) | h(1) << 16
            } else {
                encode(c[(r + 8 * (i / 2)) * 8 + 2 * t + i % 2])
            };
        }
    }
    let mut mach = Machine::new(&ptx);
    let px = mach.put("x", &x);
    mach.run("k", 1, 32, &[Arg::Ptr(px)]);
    let out: Vec<u32> = mach.get(px, 512);
    let want = |r: usize, q: usize| c[r * 8 + q] + (0..k).map(|i| a[r * k + i] * b[i * 8 + q]).sum::<i32>();
    for l in 0..32 {
        let (r, t) = (l / 4, l % 4);
        for i in 0..nc {
            let got = out[16 * l + 10 + i];
            if acc == "f16" {
                for j in 0..2 {
                    let w = u32::from(f16::from_f32(want(r + 8 * i, 2 * t + j) as f32).to_bits());
                    assert_eq!(got >> (16 * j) & 0xffff, w, "{shape} {types:?} {acc}");
                }
            } else {
                assert_eq!(
                    got,
                    encode(want(r + 8 * (i / 2), 2 * t + i % 2)),
                    "{shape} {types:?} {acc} lane {l} register {i}"
                );
            }
        }
    }
}

#[test]
fn mma_shapes() {
    let bf = |v: i32| u32::from(bf16::from_f32(v as f32).to_bits());
    let h = |v: i32| u32::from(f16::from_f32(v as f32).to_bits());
    let f = |v: i32| (v as f32).to_bits();
    for (shape, k) in [("m16n8k8", 8), ("m16n8k16", 16)] {
        mma(shape, ["bf16", "bf16", ""], 16, k, 2, &bf, "f32");
        mma(shape, ["f16", "f16", ""], 16, k, 2, &h, "f32");
        mma(shape, ["f16", "f16", ""], 16, k, 2, &h, "f16");
    }
    mma("m16n8k4", ["tf32", "tf32", ""], 16, 4, 1, &f, "f32");
    mma("m16n8k8", ["tf32", "tf32", ""], 16, 8, 1, &f, "f32");
    let s = |v: i32| v as u32 & 255;
    for (shape, m, k) in [("m8n8k16", 8, 16), ("m16n8k16", 16, 16), ("m16n8k32", 16, 32)] {
        mma(shape, ["s8", "s8", ""], m, k, 4, &s, "s32");
        mma(shape, ["u8", "u8", "unsigned"], m, k, 4, &s, "s32");
    }
    // Small integers in e4m3 (exponent bias 7) and e5m2 (bias 15).
    let fp8 = |mant: u32, bias: i32| {
        move |v: i32| {
            if v == 0 {
                return 0;
            }
            let e = v.unsigned_abs().ilog2();
            let frac = (v.unsigned_abs() << mant >> e) & ((1 << mant) - 1);
            (u32::from(v < 0) << 7) | ((e as i32 + bias) as u32) << mant | frac
        }
    };
    mma("m16n8k32", ["e4m3", "e4m3", ""], 16, 32, 4, &fp8(3, 7), "f32");
    mma("m16n8k32", ["e5m2", "e5m2", ""], 16, 32, 4, &fp8(2, 15), "f32");
}
