//! What: conversions to and from narrow formats, in every rounding mode and with every limit.
//! Why here: the kernels of neural networks live on them; the oracle rounds by integers.
//! Pre: none.
//! Post: bit-exact.

use crate::common::Rng;
use crate::exact::{BF16, Exact, F16, F32, F64, Format, Mode, TF32, convert};
use crate::harness::*;

const MODES: [(&str, Mode); 4] =
    [("rn", Mode::Near), ("rz", Mode::Zero), ("rm", Mode::Down), ("rp", Mode::Up)];

/// Rows of f32 bits: edges, values around every binade of the narrow formats, their ties, and random ones.
fn floats(seed: u64) -> Vec<[u64; 3]> {
    let mut g = Rng::new(seed);
    let mut v: Vec<u32> = crate::common::EDGES32.to_vec();
    for e in (0..255).step_by(3).chain(100..145) {
        for cut in [13, 16, 20, 21] {
            // A tie at that place, and its neighbours.
            let tie = e << 23 | (g.u32() & 0x7f_ffff) >> cut << cut | 1 << (cut - 1);
            v.extend([tie, tie - 1, tie + 1, tie | 1 << 31]);
        }
    }
    v.extend((0..2000).map(|_| g.u32()));
    (0..v.len())
        .map(|i| {
            [v[i], v[(i + 7) % v.len()], v[(i + 13) % v.len()]].map(|x| u64::from(x) | u64::from(!x) << 32)
        })
        .collect()
}

/// `.satfinite` and `.relu` of the ISA.
fn limits(f: Format, v: u64, finite: bool, relu: bool) -> u64 {
    let v = if finite && f.is_inf(v) { v - 1 } else { v };
    if relu && f.negative(v) && !f.is_nan(v) { 0 } else { v }
}

const LIMITS: [(&str, bool, bool); 4] = [
    ("", false, false),
    (".satfinite", true, false),
    (".relu", false, true),
    (".relu.satfinite", true, true),
];

#[test]
fn to_halves() {
    let rows = floats(1);
    for (ty, f) in [("f16", F16), ("bf16", BF16)] {
        for (m, mode) in &MODES[..2] {
            for (text, finite, relu) in LIMITS {
                let one = |v: u64| limits(f, convert(F32, f, v & 0xffff_ffff, *mode), finite, relu);
                let name = format!("cvt.{m}{text}.{ty}");
                let scalar = run(&format!("{name}.f32 %ho, %fa; cvt.u64.u16 %rdo, %ho;"), &rows);
                let pair = run(&format!("{name}x2.f32 %ro, %fa, %fb; cvt.u64.u32 %rdo, %ro;"), &rows);
                for (i, r) in rows.iter().enumerate() {
                    assert_eq!(scalar[i], one(r[0]), "{name}.f32 of {:#x}", r[0] as u32);
                    assert_eq!(
                        pair[i],
                        one(r[0]) << 16 | one(r[1]),
                        "{name}x2.f32 of {:#x} {:#x}",
                        r[0],
                        r[1]
                    );
                }
            }
        }
        for (m, mode) in MODES {
            check64(&format!("cvt.{m}.{ty}.f64 %ho, %fda; cvt.u64.u16 %rdo, %ho;"), 2, |a, _, _| {
                convert(F64, f, a, mode)
            });
            check64(&format!("cvt.{m}.{ty}.s64 %ho, %rda; cvt.u64.u16 %rdo, %ho;"), 3, |a, _, _| {
                f.round(Exact { m: i128::from(a as i64), e: 0 }, mode, false)
            });
            check32(&format!("cvt.{m}.{ty}.u32 %ho, %ra; cvt.u32.u16 %ro, %ho;"), 4, |a, _, _| {
                f.round(Exact { m: i128::from(a), e: 0 }, mode, false) as u32
            });
            check32(&format!("cvt.{m}.{ty}.s8 %ho, %ha; cvt.u32.u16 %ro, %ho;"), 5, |a, _, _| {
                f.round(Exact { m: i128::from(a as i8), e: 0 }, mode, false) as u32
            });
        }
        check64(&format!("cvt.f32.{ty} %f1, %ha; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"), 6, |a, _, _| {
            convert(f, F32, a & 0xffff, Mode::Near)
        });
        check64(
            &format!(
                "cvt.f64.{ty} %fd1, %ha; mov.b64 %rdo, %fd1;
                 testp.notanumber.f64 %p2, %fd1; @%p2 mov.u64 %rdo, 0x7fffffffffffffff;"
            ),
            7,
            |a, _, _| convert(f, F64, a & 0xffff, Mode::Near),
        );
        check32(&format!("cvt.rzi.s32.{ty} %ro, %ha;"), 8, |a, _, _| {
            f32::from_bits(convert(f, F32, u64::from(a & 0xffff), Mode::Near) as u32) as i32 as u32
        });
    }
    for (m, mode) in MODES {
        check64(
            &format!("cvt.{m}.f32.f64 %f1, %fda; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"),
            9,
            |a, _, _| convert(F64, F32, a, mode),
        );
        check64(
            &format!("cvt.{m}.f32.s64 %f1, %rda; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"),
            10,
            |a, _, _| F32.round(Exact { m: i128::from(a as i64), e: 0 }, mode, false),
        );
        check64(&format!("cvt.{m}.f64.u64 %fd1, %rda; mov.b64 %rdo, %fd1;"), 11, |a, _, _| {
            F64.round(Exact { m: i128::from(a), e: 0 }, mode, false)
        });
    }
}

#[test]
fn to_tf32() {
    let rows = floats(12);
    for (m, mode) in [("rna", Mode::Away), ("rn", Mode::Near), ("rz", Mode::Zero)] {
        for (text, finite, relu) in LIMITS {
            if m == "rna" && relu {
                continue;
            }
            let name = format!("cvt.{m}{text}.tf32.f32");
            let got = run(&format!("{name} %ro, %fa; cvt.u64.u32 %rdo, %ro;"), &rows);
            for (r, g) in rows.iter().zip(got) {
                let v = r[0] & 0xffff_ffff;
                let w = limits(TF32, convert(F32, TF32, v, mode), finite, relu) << 13;
                let w = if F32.is_nan(v) { 0x7fff_ffff } else { w };
                assert_eq!(g, w, "{name} of {v:#x}");
            }
        }
    }
}

/// The value of an 8-bit code, by its definition.
fn value8(e4m3: bool, v: u64) -> f64 {
    let (mant, bias) = if e4m3 { (3, 7) } else { (2, 15) };
    let (e, m) = (v >> mant & (0x7f >> mant), v & ((1 << mant) - 1));
    let x = if e == 0 {
        m as f64 * 2f64.powi(1 - bias - mant)
    } else if !e4m3 && e == 31 {
        if m == 0 { f64::INFINITY } else { f64::NAN }
    } else if e4m3 && e == 15 && m == 7 {
        f64::NAN
    } else {
        (1.0 + m as f64 / f64::from(1 << mant)) * 2f64.powi(e as i32 - bias)
    };
    if v & 0x80 != 0 { -x } else { x }
}

/// The nearest code (ties to even), saturating; by search.
fn code8(e4m3: bool, x: f64, relu: bool) -> u64 {
    if x.is_nan() {
        return 0x7f;
    }
    if relu && x.is_sign_negative() {
        return 0;
    }
    let top = if e4m3 { 0x7e } else { 0x7b };
    if x.abs() >= value8(e4m3, top) {
        return top | u64::from(x < 0.0) << 7;
    }
    let mut best = 0;
    for c in 1..=top {
        let (d, old) = ((value8(e4m3, c) - x.abs()).abs(), (value8(e4m3, best) - x.abs()).abs());
        if d < old || d == old && c % 2 == 0 {
            best = c;
        }
    }
    best | u64::from(x.is_sign_negative()) << 7
}

#[test]
fn eight_bit_floats() {
    let mut rows = floats(13);
    rows.truncate(1500);
    let f = |v: u64| f64::from(f32::from_bits(v as u32));
    let h = |v: u64| half::f16::from_bits(v as u16).to_f64();
    for (ty, e4m3) in [("e4m3x2", true), ("e5m2x2", false)] {
        for relu in [false, true] {
            let text = if relu { ".relu" } else { "" };
            let a =
                run(&format!("cvt.rn.satfinite{text}.{ty}.f32 %ho, %fa, %fb; cvt.u64.u16 %rdo, %ho;"), &rows);
            let b =
                run(&format!("cvt.rn.satfinite{text}.{ty}.f16x2 %ho, %ra; cvt.u64.u16 %rdo, %ho;"), &rows);
            let back = run(&format!("cvt.rn{text}.f16x2.{ty} %ro, %ha; cvt.u64.u32 %rdo, %ro;"), &rows);
            for (i, r) in rows.iter().enumerate() {
                let w = code8(e4m3, f(r[0]), relu) << 8 | code8(e4m3, f(r[1]), relu);
                assert_eq!(a[i], w, "{ty}{text} of {:e} {:e}", f(r[0]), f(r[1]));
                let w = code8(e4m3, h(r[0] >> 16), relu) << 8 | code8(e4m3, h(r[0]), relu);
                assert_eq!(b[i], w, "{ty}{text} of halves {:#x}", r[0] as u32);
                for s in [0, 8] {
                    let x = value8(e4m3, r[0] >> s & 255);
                    let x = if relu && x.is_sign_negative() && !x.is_nan() { 0.0 } else { x };
                    let g = h(back[i] >> (2 * s));
                    assert!(
                        g.to_bits() == x.to_bits() || g.is_nan() && x.is_nan(),
                        "f16x2.{ty}{text} of {:#x}: {g:e}, not {x:e}",
                        r[0] >> s & 255
                    );
                }
            }
        }
    }
}

#[test]
fn packed_integers() {
    let clamp = |v: u32, n: u32, signed: bool| {
        let (lo, hi) = if signed { (-(1i64 << (n - 1)), (1 << (n - 1)) - 1) } else { (0, (1i64 << n) - 1) };
        i64::from(v as i32).clamp(lo, hi) as u32 & ((1u64 << n) - 1) as u32
    };
    for (ty, n, signed) in [
        ("u8", 8, false),
        ("s8", 8, true),
        ("u4", 4, false),
        ("s4", 4, true),
        ("u2", 2, false),
        ("s2", 2, true),
    ] {
        check32(
            &format!("shr.s32 %r4, %ra, %rc; cvt.pack.sat.{ty}.s32.b32 %ro, %r4, %rb, %rc;"),
            1,
            |a, b, c| {
                let a = (a as i32 >> c.min(31)) as u32;
                (c << n << n) | clamp(a, n, signed) << n | clamp(b, n, signed)
            },
        );
    }
    for (ty, signed) in [("u16", false), ("s16", true)] {
        check32(&format!("cvt.pack.sat.{ty}.s32 %ro, %ra, %rb;"), 2, |a, b, _| {
            clamp(a, 16, signed) << 16 | clamp(b, 16, signed)
        });
    }
}
