//! What: `mma.sync` of all shapes and types against plain matrix products.
//! Why here: fragment layouts are tables in the ISA that are easy to get wrong; here they are written as the ISA
//! has them, element by element.
//! Pre: none.
//! Post: exact, since all values are small integers; a pair of swapped registers would be noticed.

use crate::common::{Arg, Machine, Rng};
use half::{bf16, f16};

/// How elements of a type are written into registers.
#[derive(Clone, Copy)]
struct Coding {
    name: &'static str,
    bits: usize,
    encode: fn(i32) -> u64,
    lowest: i32,
}

/// A small integer in an 8-bit float.
fn fp8(v: i32, mant: u32, bias: i32) -> u64 {
    if v == 0 {
        return 0;
    }
    let e = v.unsigned_abs().ilog2();
    let frac = (v.unsigned_abs() << mant >> e) & ((1 << mant) - 1);
    u64::from((u32::from(v < 0) << 7) | ((e as i32 + bias) as u32) << mant | frac)
}

const fn coding(name: &'static str, bits: usize, encode: fn(i32) -> u64) -> Coding {
    Coding { name, bits, encode, lowest: -4 }
}
const F16: Coding = coding("f16", 16, |v| f16::from_f32(v as f32).to_bits().into());
const BF16: Coding = coding("bf16", 16, |v| bf16::from_f32(v as f32).to_bits().into());
const TF32: Coding = coding("tf32", 32, |v| (v as f32).to_bits().into());
const F32: Coding = coding("f32", 32, |v| (v as f32).to_bits().into());
const F64: Coding = coding("f64", 64, |v| f64::from(v).to_bits());
const S32: Coding = coding("s32", 32, |v| u64::from(v as u32));
const S8: Coding = coding("s8", 8, |v| u64::from(v as u8));
const U8: Coding = Coding { lowest: 0, ..coding("u8", 8, |v| u64::from(v as u8)) };
const E4M3: Coding = coding("e4m3", 8, |v| fp8(v, 3, 7));
const E5M2: Coding = coding("e5m2", 8, |v| fp8(v, 2, 15));

/// One form of the instruction.
#[derive(Clone, Copy)]
struct Form {
    shape: &'static str,
    layouts: [&'static str; 2],
    m: usize,
    k: usize,
    types: [Coding; 4],
    more: &'static str,
}

/// Where element `i` of a lane's fragment lies: the matrix of its quad pair, row and column.
type Place = fn(&Form, usize, usize) -> (usize, usize, usize);

/// Elements of A, B and C that a lane holds.
fn counts(f: &Form) -> [usize; 3] {
    if f.shape == "m8n8k4" && f.types[1].name == "f16" {
        return [4, 4, 8];
    }
    [f.m * f.k / 32, 8 * f.k / 32, f.m * 8 / 32]
}

fn quads(f: &Form) -> bool {
    f.shape == "m8n8k4" && f.types[1].name == "f16"
}

fn place_a(f: &Form, lane: usize, i: usize) -> (usize, usize, usize) {
    if quads(f) {
        let (own, other) = (lane % 4 + 4 * (lane / 16), i);
        let quad = lane % 16 / 4;
        return if f.layouts[0] == "row" {
            (quad, own, other)
        } else {
            (quad, i + 4 * (lane / 16), lane % 4)
        };
    }
    let (group, thread) = (lane / 4, lane % 4);
    let per = (32 / f.types[1].bits).max(1);
    let register = i / per;
    let row = if f.m == 16 { group + 8 * (register % 2) } else { group };
    let column = thread * per + i % per + 4 * per * (register / (f.m / 8));
    (0, row, column)
}

fn place_b(f: &Form, lane: usize, i: usize) -> (usize, usize, usize) {
    if quads(f) {
        let quad = lane % 16 / 4;
        return if f.layouts[1] == "col" {
            (quad, i, lane % 4 + 4 * (lane / 16))
        } else {
            (quad, lane % 4, i + 4 * (lane / 16))
        };
    }
    let per = (32 / f.types[2].bits).max(1);
    (0, lane % 4 * per + i % per + 4 * per * (i / per), lane / 4)
}

fn place_c(f: &Form, half: bool, lane: usize, i: usize) -> (usize, usize, usize) {
    if quads(f) {
        let (quad, high) = (lane % 16 / 4, 4 * (lane / 16));
        return if half {
            (quad, lane % 4 + high, i)
        } else {
            (quad, (lane & 1) + (i & 2) + high, (i & 4) + (lane & 2) + (i & 1))
        };
    }
    (0, lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
}

/// Packs the fragment of each lane into 32-bit words.
fn pack(
    f: &Form,
    ty: Coding,
    n: usize,
    place: Place,
    at: &dyn Fn(usize, usize, usize) -> i32,
) -> Vec<Vec<u32>> {
    (0..32)
        .map(|lane| {
            let mut words = vec![0u32; (n * ty.bits).div_ceil(32)];
            for i in 0..n {
                let (q, r, c) = place(f, lane, i);
                let (bits, at) = ((ty.encode)(at(q, r, c)), i * ty.bits);
                words[at / 32] |= (bits << (at % 32)) as u32;
                if ty.bits == 64 {
                    words[at / 32 + 1] = (bits >> 32) as u32;
                }
            }
            words
        })
        .collect()
}

/// Runs a form over random integers; `swap` exchanges two registers of an operand (A, B, C or D). The answer is
/// the number of wrong elements.
fn wrong(f: &Form, seed: u64, swap: Option<(usize, usize, usize)>) -> usize {
    let mut g = Rng(seed * 77 + 13);
    let matrices = if quads(f) { 4 } else { 1 };
    let mut draw =
        |n: usize, lowest: i32| -> Vec<i32> { (0..n).map(|_| g.below(8) as i32 + lowest).collect() };
    let a = draw(matrices * f.m * f.k, f.types[1].lowest);
    let b = draw(matrices * f.k * 8, f.types[2].lowest);
    let c = draw(matrices * f.m * 8, -4);
    let [na, nb, nc] = counts(f);
    let (half_c, half_d) = (f.types[3].name == "f16", f.types[0].name == "f16");
    let at_c: Place =
        if half_c { |f, l, i| place_c(f, true, l, i) } else { |f, l, i| place_c(f, false, l, i) };
    let fragments = [
        pack(f, f.types[1], na, place_a, &|q, r, k| a[(q * f.m + r) * f.k + k]),
        pack(f, f.types[2], nb, place_b, &|q, k, n| b[(q * f.k + k) * 8 + n]),
        pack(f, f.types[3], nc, at_c, &|q, r, n| c[(q * f.m + r) * 8 + n]),
    ];
    // Each lane reads its fragments from memory, 32 words in all, and writes D behind them.
    let wide = f.types[1].bits == 64;
    let size = |i: usize| fragments[i][0].len() / if wide { 2 } else { 1 };
    let (reg, step) = if wide { (".b64", 8) } else { (".b32", 4) };
    let sizes = [size(0), size(1), size(2), (nc * f.types[0].bits).div_ceil(if wide { 64 } else { 32 })];
    let mut lists: Vec<Vec<String>> = ["%a", "%b", "%c", "%d"]
        .iter()
        .zip(sizes)
        .map(|(p, n)| (0..n).map(|i| format!("{p}{i}")).collect())
        .collect();
    let mut body = String::new();
    let mut offset = 0;
    for (list, n) in lists.iter().zip(sizes).take(3) {
        for r in list.iter().take(n) {
            body += &format!("ld.global{reg} {r}, [%rd1+{offset}];\n");
            offset += step;
        }
    }
    let stores: String = lists[3]
        .iter()
        .enumerate()
        .map(|(i, r)| format!("st.global{reg} [%rd1+{}], {r};\n", 256 + step * i))
        .collect();
    if let Some((operand, x, y)) = swap {
        lists[operand].swap(x, y);
    }
    let joined: Vec<String> = lists.iter().map(|l| format!("{{{}}}", l.join(", "))).collect();
    let ptx = format!(
        ".version 8.7\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x) {{ .reg {reg} %a<9>, %b<9>, %c<9>, %d<9>;\n\
         .reg .b32 %r<4>; .reg .b64 %rd<4>; ld.param.u64 %rd1, [x]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 512;\n\
         add.u64 %rd1, %rd1, %rd2;\n{body}\nmma.sync.aligned.{}.{}.{}{}.{}.{}.{}.{} {}, {}, {}, {};\n{stores} ret; }}\n",
        f.shape,
        f.layouts[0],
        f.layouts[1],
        f.more,
        f.types[0].name,
        f.types[1].name,
        f.types[2].name,
        f.types[3].name,
        joined[3],
        joined[0],
        joined[1],
        joined[2],
    );
    let mut memory = vec![0u32; 32 * 128];
    for lane in 0..32 {
        let all = fragments.iter().flat_map(|p| p[lane].iter().copied());
        for (slot, v) in memory[128 * lane..].iter_mut().zip(all) {
            *slot = v;
        }
    }
    let mut machine = Machine::new(&ptx);
    let x = machine.put("x", &memory);
    machine.run("k", 1, 32, &[Arg::Ptr(x)]);
    let out: Vec<u32> = machine.get(x, 32 * 128);
    let at_d: Place =
        if half_d { |f, l, i| place_c(f, true, l, i) } else { |f, l, i| place_c(f, false, l, i) };
    let want = pack(f, f.types[0], nc, at_d, &|q, r, n| {
        let dot = (0..f.k).map(|k| a[(q * f.m + r) * f.k + k] * b[(q * f.k + k) * 8 + n]).sum::<i32>();
        c[(q * f.m + r) * 8 + n] + dot
    });
    (0..32).map(|l| want[l].iter().zip(&out[128 * l + 64..]).filter(|(w, g)| w != g).count()).sum()
}

/// Every form that the machine knows.
fn forms() -> Vec<Form> {
    let mut all = vec![];
    let mut add = |shape: &'static str, m, k, types: [Coding; 4], more| {
        all.push(Form { shape, layouts: ["row", "col"], m, k, types, more });
    };
    for (shape, k) in [("m16n8k8", 8), ("m16n8k16", 16)] {
        add(shape, 16, k, [F32, BF16, BF16, F32], "");
        add(shape, 16, k, [F32, F16, F16, F32], "");
        add(shape, 16, k, [F16, F16, F16, F16], "");
    }
    add("m16n8k4", 16, 4, [F32, TF32, TF32, F32], "");
    add("m16n8k8", 16, 8, [F32, TF32, TF32, F32], "");
    for (shape, m, k) in [("m8n8k4", 8, 4), ("m16n8k4", 16, 4), ("m16n8k8", 16, 8), ("m16n8k16", 16, 16)] {
        add(shape, m, k, [F64, F64, F64, F64], "");
    }
    for (shape, m, k) in [("m8n8k16", 8, 16), ("m16n8k16", 16, 16), ("m16n8k32", 16, 32)] {
        for (a, b) in [(S8, S8), (S8, U8), (U8, S8), (U8, U8)] {
            add(shape, m, k, [S32, a, b, S32], "");
            add(shape, m, k, [S32, a, b, S32], ".satfinite");
        }
    }
    for (shape, k) in [("m16n8k16", 16), ("m16n8k32", 32)] {
        for (a, b) in [(E4M3, E4M3), (E4M3, E5M2), (E5M2, E4M3), (E5M2, E5M2)] {
            add(shape, 16, k, [F32, a, b, F32], "");
            add(shape, 16, k, [F16, a, b, F16], "");
        }
    }
    for a in ["row", "col"] {
        for b in ["row", "col"] {
            for (d, c) in [(F32, F32), (F16, F16), (F32, F16)] {
                all.push(Form {
                    shape: "m8n8k4",
                    layouts: [a, b],
                    m: 8,
                    k: 4,
                    types: [d, F16, F16, c],
                    more: "",
                });
            }
        }
    }
    all
}

fn name(f: &Form) -> String {
    let t = f.types.map(|t| t.name);
    format!("{}.{}.{}{}.{}", f.shape, f.layouts[0], f.layouts[1], f.more, t.join("."))
}

#[test]
fn products_of_all_forms() {
    let forms = forms();
    assert!(forms.len() > 50);
    for (i, f) in forms.iter().enumerate() {
        for seed in 0..3 {
            assert_eq!(wrong(f, seed + 10 * i as u64, None), 0, "mma.sync.{} with seed {seed}", name(f));
        }
    }
}

#[test]
fn swapped_registers_are_noticed() {
    let mut swaps = 0;
    for f in forms() {
        let [na, nb, nc] = counts(&f);
        for (operand, (n, ty)) in [(na, 1), (nb, 2), (nc, 3), (nc, 0)].into_iter().enumerate() {
            let registers = (n * f.types[ty].bits).div_ceil(f.types[1].bits.max(32));
            for x in 0..registers {
                for y in 0..x {
                    let noticed = wrong(&f, 5, Some((operand, x, y))) > 0;
                    // A product sums over k in any order: exchanging k in A alone must show, and it does.
                    assert!(
                        noticed,
                        "mma.sync.{} with registers {y} and {x} of operand {operand} exchanged",
                        name(&f)
                    );
                    swaps += 1;
                }
            }
        }
    }
    println!("{swaps} exchanges noticed");
    assert!(swaps > 300, "{swaps}");
}

#[test]
fn sums_of_integers_wrap_or_saturate() {
    for (more, want) in [("", i32::MAX.wrapping_add(32 * 127 * 127)), (".satfinite", i32::MAX)] {
        let ptx = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o) {{ .reg .b32 %r<9>; .reg .b64 %rd<4>;
             ld.param.u64 %rd1, [o]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 16; add.u64 %rd1, %rd1, %rd2;
             mov.u32 %r2, 0x7f7f7f7f; mov.u32 %r3, 0x7fffffff;
             mma.sync.aligned.m16n8k32.row.col{more}.s32.s8.s8.s32 {{%r4, %r5, %r6, %r7}}, {{%r2, %r2, %r2, %r2}}, {{%r2, %r2}}, {{%r3, %r3, %r3, %r3}};
             st.global.v4.u32 [%rd1], {{%r4, %r5, %r6, %r7}}; ret; }}"
        );
        let mut m = Machine::new(&ptx);
        let o = m.zeros::<i32>("o", 128);
        m.run("k", 1, 32, &[Arg::Ptr(o)]);
        assert!(m.get::<i32>(o, 128).iter().all(|v| *v == want), "{more}");
    }
}
