//! What: instruction families in hand-written PTX against host oracles, over random and edge operands.
//! Why here: NVRTC emits only part of the ISA for any one source; inline PTX may use all of it.
//! Pre: none.
//! Post: bit-exact, but for approximate functions, which keep to the ISA's bounds.
#![allow(clippy::unwrap_used, clippy::precedence, missing_docs)]

mod common;
use common::{Arg, EDGES32, Machine, Rng};
use half::{bf16, f16};

/// Runs `body` over rows of inputs `a`, `b`, `c` (as %rda, %rdb, %rdc; %ra, %fa, %ha, %fda hold the same bits)
/// and returns %rdo of each row.
fn run(body: &str, rows: &[[u64; 3]]) -> Vec<u64> {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 o, .param .u32 n)\n\
         {{\n.reg .pred %p<9>;\n.reg .pred %q<9>;\n.reg .b16 %h<9>;\n.reg .b16 %ha;\n.reg .b16 %hb;\n.reg .b16 %hc;\n\
         .reg .b32 %r<9>;\n.reg .b32 %ra;\n.reg .b32 %rb;\n.reg .b32 %rc;\n.reg .b32 %ro;\n.reg .b64 %rd<9>;\n\
         .reg .b64 %rda;\n.reg .b64 %rdb;\n.reg .b64 %rdc;\n.reg .b64 %rdo;\n.reg .f32 %f<9>;\n.reg .f64 %fd<9>;\n\
         .reg .f32 %fa;\n.reg .f32 %fb;\n.reg .f32 %fc;\n.reg .f64 %fda;\n.reg .f64 %fdb;\n.reg .f64 %fdc;\n\
         .reg .b16 %ho;\n\
         ld.param.u64 %rd1, [x];\nld.param.u64 %rd2, [o];\nld.param.u32 %r3, [n];\n\
         mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r0, %tid.x;\nmad.lo.u32 %r1, %r1, %r2, %r0;\n\
         setp.ge.u32 %p1, %r1, %r3;\n@%p1 bra END;\n\
         mul.wide.u32 %rd3, %r1, 24;\nadd.u64 %rd1, %rd1, %rd3;\n\
         ld.global.u64 %rda, [%rd1];\nld.global.u64 %rdb, [%rd1+8];\nld.global.u64 %rdc, [%rd1+16];\n\
         cvt.u32.u64 %ra, %rda;\ncvt.u32.u64 %rb, %rdb;\ncvt.u32.u64 %rc, %rdc;\n\
         cvt.u16.u64 %ha, %rda;\ncvt.u16.u64 %hb, %rdb;\ncvt.u16.u64 %hc, %rdc;\n\
         mov.b32 %fa, %ra;\nmov.b32 %fb, %rb;\nmov.b32 %fc, %rc;\nmov.b64 %fda, %rda;\nmov.b64 %fdb, %rdb;\n\
         mov.b64 %fdc, %rdc;\nmov.u64 %rdo, 0;\nmov.u32 %ro, 0;\nmov.u16 %ho, 0;\n\
         {{\n{body}\n}}\n\
         mul.wide.u32 %rd3, %r1, 8;\nadd.u64 %rd2, %rd2, %rd3;\nst.global.u64 [%rd2], %rdo;\nEND:\nret;\n}}\n"
    );
    let mut m = Machine::new(&ptx);
    let flat: Vec<u64> = rows.iter().flatten().copied().collect();
    let (x, o) = (m.put("x", &flat), m.zeros::<u64>("o", rows.len()));
    m.run("k", rows.len().div_ceil(96) as u32, 96, &[Arg::Ptr(x), Arg::Ptr(o), Arg::I32(rows.len() as i32)]);
    m.get(o, rows.len())
}

/// Edge and random operands; the upper words of 64-bit inputs are random or sign extensions.
fn rows(seed: u64) -> Vec<[u64; 3]> {
    let mut g = Rng::new(seed);
    let mut v = vec![];
    for a in EDGES32 {
        for b in EDGES32 {
            let wide = |x: u32, k: u64| {
                if k & 1 == 0 { x as i32 as i64 as u64 } else { u64::from(x) << 32 | u64::from(x) }
            };
            v.push([wide(a, g.next()), wide(b, g.next()), wide(EDGES32[g.below(24) as usize], g.next())]);
        }
    }
    v.extend((0..1500).map(|_| [g.next(), g.next(), g.next()]));
    // Floats of moderate size.
    v.extend((0..1500).map(|_| {
        let mut f = || u64::from((g.f64(-100.0, 100.0) as f32).to_bits());
        [f(), f(), f()]
    }));
    v
}

/// Checks one instruction that writes %ro.
fn check32(inst: &str, seed: u64, f: impl Fn(u32, u32, u32) -> u32) {
    let rows = rows(seed);
    let got = run(&format!("{inst}\ncvt.u64.u32 %rdo, %ro;"), &rows);
    for (r, g) in rows.iter().zip(got) {
        let [a, b, c] = r.map(|v| v as u32);
        assert_eq!(g as u32, f(a, b, c), "{inst} of {a:#x} {b:#x} {c:#x}");
    }
}

/// As `check32` for f32 results, where any NaN equals any other.
fn checkf(inst: &str, seed: u64, f: impl Fn(f32, f32, f32) -> f32) {
    let rows = rows(seed);
    let got = run(&format!("{inst}\ncvt.u64.u32 %rdo, %ro;"), &rows);
    for (r, g) in rows.iter().zip(got) {
        let [a, b, c] = r.map(|v| f32::from_bits(v as u32));
        let (g, w) = (f32::from_bits(g as u32), f(a, b, c));
        assert!(
            g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan(),
            "{inst} of {a:e} {b:e} {c:e} is {g:e}, not {w:e}"
        );
    }
}

fn check64(inst: &str, seed: u64, f: impl Fn(u64, u64, u64) -> u64) {
    let rows = rows(seed);
    let got = run(inst, &rows);
    for (r, g) in rows.iter().zip(got) {
        let [a, b, c] = *r;
        assert_eq!(g, f(a, b, c), "{inst} of {a:#x} {b:#x} {c:#x}");
    }
}

/// A predicate %p2 as a number.
fn checkp(inst: &str, seed: u64, f: impl Fn(u64, u64) -> bool) {
    check64(&format!("{inst}\nselp.u64 %rdo, 1, 0, %p2;"), seed, |a, b, _| u64::from(f(a, b)));
}

#[test]
fn comparisons() {
    use std::cmp::Ordering::*;
    for (op, want) in [
        ("eq", vec![Equal]),
        ("ne", vec![Less, Greater]),
        ("lt", vec![Less]),
        ("le", vec![Less, Equal]),
        ("gt", vec![Greater]),
        ("ge", vec![Greater, Equal]),
    ] {
        let has = |o: Option<std::cmp::Ordering>| o.is_some_and(|o| want.contains(&o));
        checkp(&format!("setp.{op}.s32 %p2, %ra, %rb;"), 1, |a, b| has(Some((a as i32).cmp(&(b as i32)))));
        checkp(&format!("setp.{op}.u32 %p2, %ra, %rb;"), 2, |a, b| has(Some((a as u32).cmp(&(b as u32)))));
        checkp(&format!("setp.{op}.s64 %p2, %rda, %rdb;"), 3, |a, b| has(Some((a as i64).cmp(&(b as i64)))));
        checkp(&format!("setp.{op}.u64 %p2, %rda, %rdb;"), 4, |a, b| has(Some(a.cmp(&b))));
        checkp(&format!("setp.{op}.s16 %p2, %ha, %hb;"), 5, |a, b| has(Some((a as i16).cmp(&(b as i16)))));
        checkp(&format!("setp.{op}.u16 %p2, %ha, %hb;"), 6, |a, b| has(Some((a as u16).cmp(&(b as u16)))));
        let f = |a: u64| f32::from_bits(a as u32);
        let d = f64::from_bits;
        checkp(&format!("setp.{op}.f32 %p2, %fa, %fb;"), 7, |a, b| has(f(a).partial_cmp(&f(b))));
        checkp(&format!("setp.{op}.f64 %p2, %fda, %fdb;"), 8, |a, b| has(d(a).partial_cmp(&d(b))));
        let un = |o: Option<std::cmp::Ordering>| o.is_none_or(|o| want.contains(&o));
        checkp(&format!("setp.{op}u.f32 %p2, %fa, %fb;"), 9, |a, b| un(f(a).partial_cmp(&f(b))));
        checkp(&format!("setp.{op}u.f64 %p2, %fda, %fdb;"), 10, |a, b| un(d(a).partial_cmp(&d(b))));
        let h = |a: u64| f16::from_bits(a as u16).to_f32();
        checkp(&format!("setp.{op}.f16 %p2, %ha, %hb;"), 11, |a, b| has(h(a).partial_cmp(&h(b))));
    }
    let f = |a: u64| f32::from_bits(a as u32);
    checkp("setp.num.f32 %p2, %fa, %fb;", 12, |a, b| !f(a).is_nan() && !f(b).is_nan());
    checkp("setp.nan.f32 %p2, %fa, %fb;", 13, |a, b| f(a).is_nan() || f(b).is_nan());
    checkp("setp.gt.s32 %p3, %rb, 5; setp.lt.and.s32 %p2|%p4, %ra, %rb, %p3;", 14, |a, b| {
        (a as i32) < b as i32 && b as i32 > 5
    });
    checkp("setp.gt.s32 %p3, %rb, 5; setp.lt.or.s32 %p4|%p2, %ra, %rb, !%p3;", 15, |a, b| {
        a as i32 >= b as i32 || b as i32 <= 5
    });
    check32("set.lt.u32.s32 %ro, %ra, %rb;", 16, |a, b, _| if (a as i32) < b as i32 { u32::MAX } else { 0 });
    check32("slct.b32.s32 %ro, %ra, %rb, %rc;", 17, |a, b, c| if c as i32 >= 0 { a } else { b });
}

#[test]
fn float_arithmetic() {
    let z = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
    checkf("add.rn.f32 %ro, %fa, %fb;", 1, |a, b, _| a + b);
    checkf("sub.f32 %ro, %fa, %fb;", 2, |a, b, _| a - b);
    checkf("mul.rn.ftz.f32 %ro, %fa, %fb;", 3, |a, b, _| z(z(a) * z(b)));
    checkf("fma.rn.f32 %ro, %fa, %fb, %fc;", 4, f32::mul_add);
    checkf("fma.rn.sat.f32 %ro, %fa, %fb, %fc;", 5, |a, b, c| {
        let r = a.mul_add(b, c);
        if r.is_nan() || r <= 0.0 { 0.0 } else { r.min(1.0) }
    });
    checkf("div.rn.f32 %ro, %fa, %fb;", 6, |a, b, _| a / b);
    checkf("rcp.rn.f32 %ro, %fa;", 7, |a, _, _| 1.0 / a);
    checkf("sqrt.rn.f32 %ro, %fa;", 8, |a, _, _| a.sqrt());
    let lo =
        |a: f32, b: f32| if a == b && a == 0.0 { if a.is_sign_negative() { a } else { b } } else { a.min(b) };
    let hi =
        |a: f32, b: f32| if a == b && a == 0.0 { if a.is_sign_negative() { b } else { a } } else { a.max(b) };
    checkf("min.f32 %ro, %fa, %fb;", 9, |a, b, _| lo(a, b));
    checkf("max.f32 %ro, %fa, %fb;", 10, |a, b, _| hi(a, b));
    checkf(
        "max.NaN.f32 %ro, %fa, %fb;",
        11,
        |a, b, _| if a.is_nan() || b.is_nan() { f32::NAN } else { hi(a, b) },
    );
    check32("abs.f32 %ro, %fa;", 12, |a, _, _| a & 0x7fff_ffff);
    check32("neg.f32 %ro, %fa;", 13, |a, _, _| a ^ 0x8000_0000);
    check32("copysign.f32 %ro, %fa, %fb;", 14, |a, b, _| a & 0x8000_0000 | b & 0x7fff_ffff);
    for (name, f) in [
        ("finite", f32::is_finite as fn(f32) -> bool),
        ("infinite", f32::is_infinite),
        ("notanumber", f32::is_nan),
        ("normal", f32::is_normal),
        ("subnormal", f32::is_subnormal),
    ] {
        checkp(&format!("testp.{name}.f32 %p2, %fa;"), 15, |a, _| f(f32::from_bits(a as u32)));
    }
    // A directed fma against a wider sum, where that is exact.
    for (mode, up, down) in [("rm", false, true), ("rp", true, false), ("rz", false, false)] {
        let rows: Vec<[u64; 3]> = rows(16).into_iter().rev().take(1500).collect();
        let got = run(
            &format!("fma.{mode}.f32 %f1, %fa, %fb, %fc; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"),
            &rows,
        );
        for (r, g) in rows.iter().zip(got) {
            let [a, b, c] = r.map(|v| f64::from(f32::from_bits(v as u32)));
            let (exact, g) = (a * b + c, f32::from_bits(g as u32));
            let near = exact as f32;
            let want = match (up, down) {
                (true, _) if f64::from(near) < exact => near.next_up(),
                (_, true) if f64::from(near) > exact => near.next_down(),
                (false, false) if f64::from(near).abs() > exact.abs() => f32::from_bits(near.to_bits() - 1),
                _ => near,
            };
            assert_eq!(g, want, "fma.{mode} {a:e} {b:e} {c:e}");
        }
    }
}

#[test]
fn approximate_functions() {
    let ulp = |g: f32, w: f64, bound: f64| {
        let e = (w.abs().log2().floor() as i32).max(-126);
        g as f64 == w
            || g.is_nan() && w.is_nan()
            || (f64::from(g) - w).abs() <= bound * 2f64.powi(e - 23)
            || w.abs() > 3.4e38 && g.is_infinite()
            || w.abs() < 1.2e-38 && g.abs() < 1.2e-38
    };
    for (inst, f, bound) in [
        ("ex2.approx.ftz.f32", f64::exp2 as fn(f64) -> f64, 2.0),
        ("ex2.approx.f32", f64::exp2, 2.0),
        ("rcp.approx.ftz.f32", |x| 1.0 / x, 1.0),
        ("sqrt.approx.f32", f64::sqrt, 1.0),
        ("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), 1.0),
        ("tanh.approx.f32", f64::tanh, 4096.0),
    ] {
        let rows = rows(3);
        let got = run(&format!("{inst} %f1, %fa; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"), &rows);
        for (r, g) in rows.iter().zip(got) {
            let x = f32::from_bits(r[0] as u32);
            if x.is_subnormal() {
                continue;
            }
            let g = f32::from_bits(g as u32);
            assert!(ulp(g, f(f64::from(x)), bound), "{inst} {x:e} = {g:e}, not {:e}", f(f64::from(x)));
        }
    }
    for (inst, f, bound) in [
        ("lg2.approx.f32", f64::log2 as fn(f64) -> f64, 2f64.powi(-22)),
        ("sin.approx.f32", f64::sin, 2f64.powi(-20)),
        ("cos.approx.f32", f64::cos, 2f64.powi(-20)),
    ] {
        let rows = rows(4);
        let got = run(&format!("{inst} %f1, %fa; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"), &rows);
        for (r, g) in rows.iter().zip(got) {
            let x = f32::from_bits(r[0] as u32);
            let (g, w) = (f64::from(f32::from_bits(g as u32)), f(f64::from(x)));
            if inst.starts_with("lg2") {
                assert!(
                    g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= bound * w.abs().max(1.0),
                    "{inst} {x:e} = {g:e}"
                );
            } else if x.abs() < 100.0 {
                assert!((g - w).abs() <= bound, "{inst} {x:e} = {g:e}, not {w:e}");
            }
        }
    }
}

/// An f64 to f32, inexact values made odd, so that rounding to a half is the only rounding that shows.
fn odd(x: f64) -> f32 {
    let r = x as f32;
    let r = if f64::from(r).abs() > x.abs() { f32::from_bits(r.to_bits() - 1) } else { r };
    if f64::from(r) == x || x.is_nan() { r } else { f32::from_bits(r.to_bits() | 1) }
}

#[test]
fn half_arithmetic() {
    let h = |v: u32| f16::from_bits(v as u16);
    let b = |v: u32| bf16::from_bits(v as u16);
    let nan16 = |x: f16| if x.is_nan() { 0x7fff } else { u32::from(x.to_bits()) };
    let nanb = |x: bf16| if x.is_nan() { 0x7fff } else { u32::from(x.to_bits()) };
    let out = " cvt.u32.u16 %ro, %ho;";
    check32(&format!("add.f16 %ho, %ha, %hb;{out}"), 1, |x, y, _| {
        nan16(f16::from_f32(h(x).to_f32() + h(y).to_f32()))
    });
    check32(&format!("mul.f16 %ho, %ha, %hb;{out}"), 2, |x, y, _| {
        nan16(f16::from_f32(h(x).to_f32() * h(y).to_f32()))
    });
    check32(&format!("fma.rn.f16 %ho, %ha, %hb, %hc;{out}"), 3, |x, y, z| {
        nan16(f16::from_f32(odd(h(x).to_f64().mul_add(h(y).to_f64(), h(z).to_f64()))))
    });
    check32(&format!("fma.rn.bf16 %ho, %ha, %hb, %hc;{out}"), 4, |x, y, z| {
        let e = b(x).to_f64().mul_add(b(y).to_f64(), b(z).to_f64());
        nanb(bf16::from_f32(odd(e)))
    });
    check32(&format!("min.f16 %ho, %ha, %hb;{out}"), 5, |x, y, _| {
        let (p, q) = (h(x), h(y));
        if p == q && p.to_f32() == 0.0 {
            x as u16 as u32 | y as u16 as u32
        } else {
            nan16(f16::from_f32(p.to_f32().min(q.to_f32())))
        }
    });
    check32("add.f16x2 %ro, %ra, %rb;", 6, |x, y, _| {
        let f = |s: u32| nan16(f16::from_f32(h(x >> s).to_f32() + h(y >> s).to_f32()));
        f(0) | f(16) << 16
    });
    check32("fma.rn.bf16x2 %ro, %ra, %rb, %rc;", 7, |x, y, z| {
        let f = |s: u32| {
            nanb(bf16::from_f32(odd(b(x >> s).to_f64().mul_add(b(y >> s).to_f64(), b(z >> s).to_f64()))))
        };
        f(0) | f(16) << 16
    });
    check32("neg.bf16x2 %ro, %ra;", 8, |x, _, _| x ^ 0x8000_8000);
    check32("abs.f16x2 %ro, %ra;", 9, |x, _, _| x & 0x7fff_7fff);
}

#[test]
fn conversions() {
    let f = |v: u64| f32::from_bits(v as u32);
    let d = f64::from_bits;
    let nan_to = |x: f64, v: i64, n: i64| if x.is_nan() { n } else { v };
    for (m, r) in [
        ("rzi", f64::trunc as fn(f64) -> f64),
        ("rni", f64::round_ties_even),
        ("rmi", f64::floor),
        ("rpi", f64::ceil),
    ] {
        check32(&format!("cvt.{m}.s32.f32 %ro, %fa;"), 1, |a, _, _| {
            r(f64::from(f32::from_bits(a))) as i32 as u32
        });
        check32(&format!("cvt.{m}.u32.f32 %ro, %fa;"), 2, |a, _, _| r(f64::from(f32::from_bits(a))) as u32);
        check64(&format!("cvt.{m}.s64.f32 %rdo, %fa;"), 3, |a, _, _| {
            nan_to(f64::from(f(a)), r(f64::from(f(a))) as i64, i64::MIN) as u64
        });
        check64(&format!("cvt.{m}.u64.f64 %rdo, %fda;"), 4, |a, _, _| {
            if d(a).is_nan() { 1 << 63 } else { r(d(a)) as u64 }
        });
        let wide = " cvt.u64.u32 %rdo, %ro;";
        check64(&format!("cvt.{m}.s32.f64 %ro, %fda;{wide}"), 5, |a, _, _| {
            u64::from(if d(a).is_nan() { 1 << 31 } else { r(d(a)) as i32 as u32 })
        });
        checkf(&format!("cvt.{m}.f32.f32 %ro, %fa;"), 6, |a, _, _| r(f64::from(a)) as f32);
    }
    check32("cvt.rn.f32.s32 %f1, %ra; mov.b32 %ro, %f1;", 7, |a, _, _| (a as i32 as f32).to_bits());
    check32("cvt.rz.f32.u32 %f1, %ra; mov.b32 %ro, %f1;", 8, |a, _, _| {
        let n = a as f32;
        if f64::from(n) > f64::from(a) { n.next_down().to_bits() } else { n.to_bits() }
    });
    check64("cvt.rn.f64.u64 %fd1, %rda; mov.b64 %rdo, %fd1;", 9, |a, _, _| (a as f64).to_bits());
    check64("cvt.rn.f64.s64 %fd1, %rda; mov.b64 %rdo, %fd1;", 10, |a, _, _| (a as i64 as f64).to_bits());
    check64("cvt.rn.f32.u64 %f1, %rda; mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;", 11, |a, _, _| {
        u64::from((a as f32).to_bits())
    });
    check32("cvt.s32.s8 %ro, %ra;", 12, |a, _, _| a as i8 as i32 as u32);
    check32("cvt.u32.u8 %ro, %ha;", 13, |a, _, _| u32::from(a as u8));
    check64("cvt.s64.s16 %rdo, %ha;", 14, |a, _, _| a as i16 as i64 as u64);
    check32("cvt.sat.u8.s32 %ro, %ra;", 15, |a, _, _| (a as i32).clamp(0, 255) as u32);
    check32("cvt.sat.s16.s32 %ro, %ra;", 16, |a, _, _| (a as i32).clamp(-32768, 32767) as u32);
    check64("cvt.sat.s32.s64 %ro, %rda; cvt.u64.u32 %rdo, %ro;", 17, |a, _, _| {
        u64::from((a as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32 as u32)
    });
    checkf("cvt.sat.f32.f32 %ro, %fa;", 18, |a, _, _| if a.is_nan() || a <= 0.0 { 0.0 } else { a.min(1.0) });
    check64("cvt.f64.f32 %fd1, %fa; mov.b64 %rdo, %fd1;", 19, |a, _, _| f64::from(f(a)).to_bits());
    check32("cvt.rn.f16x2.e4m3x2 %ro, %ha;", 20, |a, _, _| {
        let one = |v: u32| {
            let (s, e, m) = (v >> 7 & 1, v >> 3 & 15, v & 7);
            if e == 15 && m == 7 {
                return 0x7fff;
            }
            let x = if e == 0 { m as f32 / 512.0 } else { (8 + m) as f32 * 2f32.powi(e as i32 - 10) };
            u32::from(f16::from_f32(x).to_bits()) | s << 15
        };
        one(a & 255) | one(a >> 8 & 255) << 16
    });
    // To e4m3: no other code is nearer.
    let rows = rows(21);
    let got = run("cvt.rn.satfinite.e4m3x2.f32 %ho, %fa, %fb; cvt.u64.u16 %rdo, %ho;", &rows);
    let value = |v: u64| {
        let (s, e, m) = (v >> 7 & 1, v >> 3 & 15, v & 7);
        let x = if e == 0 { m as f64 / 512.0 } else { (8 + m) as f64 * 2f64.powi(e as i32 - 10) };
        if s == 1 { -x } else { x }
    };
    for (r, g) in rows.iter().zip(got) {
        let x = f64::from(f(r[0]));
        if x.is_nan() {
            assert_eq!(g >> 8 & 0x7f, 0x7f);
            continue;
        }
        let e = (value(g >> 8) - x.clamp(-448.0, 448.0)).abs();
        let best = (0..256)
            .filter(|v| v & 0x7f != 0x7f)
            .map(|v| (value(v) - x.clamp(-448.0, 448.0)).abs())
            .fold(f64::MAX, f64::min);
        assert_eq!(e, best, "e4m3 of {x:e} is {:#x}", g >> 8);
    }
}

#[test]
fn bits() {
    check32("prmt.b32 %ro, %ra, %rb, %rc;", 1, |a, b, c| {
        let v = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        u32::from_le_bytes(std::array::from_fn(|i| {
            let n = c >> (4 * i) & 15;
            let x = v[n as usize & 7];
            if n & 8 != 0 { (x as i8 >> 7) as u8 } else { x }
        }))
    });
    check32("prmt.b32.f4e %ro, %ra, %rb, %rc;", 2, |a, b, c| {
        ((u64::from(b) << 32 | u64::from(a)) >> (8 * (c & 3))) as u32
    });
    check32("prmt.b32.rc8 %ro, %ra, %rb, %rc;", 3, |a, _, c| (a >> (8 * (c & 3)) & 255) * 0x0101_0101);
    check32("prmt.b32.rc16 %ro, %ra, %rb, %rc;", 4, |a, _, c| (a >> (16 * (c & 1)) & 0xffff) * 0x10001);
    for t in [0x6au32, 0x80, 0xfe, 0x96, 0x1b, 0xca] {
        check32(&format!("lop3.b32 %ro, %ra, %rb, %rc, {t};"), 5, |a, b, c| {
            (0..32).fold(0, |r, i| r | (t >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i)
        });
    }
    let field = |a: u64, p: u64, l: u64, bits: u64, signed: bool| {
        let s = if signed && l > 0 { a >> (p + l - 1).min(bits - 1) & 1 } else { 0 };
        (0..bits).fold(0u64, |r, i| r | if i < l && p + i < bits { a >> (p + i) & 1 } else { s } << i)
    };
    check64("bfe.u64 %rdo, %rda, %rb, %rc;", 6, |a, b, c| field(a, b & 255, c & 255, 64, false));
    check64("bfe.s64 %rdo, %rda, %rb, %rc;", 7, |a, b, c| field(a, b & 255, c & 255, 64, true));
    check32("bfe.s32 %ro, %ra, %rb, %rc;", 8, |a, b, c| {
        field(a.into(), (b & 255).into(), (c & 255).into(), 32, true) as u32
    });
    check64(
        "and.b32 %r4, %rb, 31; and.b32 %r5, %rc, 15; bfi.b64 %rdo, %rda, %rdb, %r4, %r5;",
        9,
        |a, b, c| {
            let (p, l) = (b & 31, c & 15);
            let m = ((1u64 << l) - 1) << p;
            b & !m | a << p & m
        },
    );
    check32("shf.r.clamp.b32 %ro, %ra, %rb, %rc;", 10, |a, b, c| {
        ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32
    });
    check32("shl.b16 %ho, %ha, %rb; cvt.u32.u16 %ro, %ho;", 11, |a, b, _| {
        if b > 15 { 0 } else { u32::from((a as u16) << b) }
    });
    check32("shr.s16 %ho, %ha, %rb; cvt.u32.u16 %ro, %ho;", 12, |a, b, _| {
        u32::from((a as i16 >> b.min(15)) as u16)
    });
    check32("cnot.b32 %ro, %ra;", 13, |a, _, _| u32::from(a == 0));
    check32("bfind.s32 %ro, %ra;", 14, |a, _, _| {
        let v = if (a as i32) < 0 { !a } else { a };
        if v == 0 { u32::MAX } else { 31 - v.leading_zeros() }
    });
    check32("mul24.lo.s32 %ro, %ra, %rb;", 15, |a, b, _| {
        let s = |v: u32| i64::from((v << 8) as i32 >> 8);
        (s(a) * s(b)) as u32
    });
    check32("mad.wide.s16 %ro, %ha, %hb, %rc;", 16, |a, b, c| {
        (i32::from(a as i16) * i32::from(b as i16)).wrapping_add(c as i32) as u32
    });
    check64("mov.b64 {%r4, %r5}, %rda; mov.b64 %rdo, {%r5, %r4};", 17, |a, _, _| a.rotate_left(32));
    check64("mov.b64 {%h1, %h2, %h3, %h4}, %rda; mov.b64 %rdo, {%h4, %h3, %h2, %h1};", 18, |a, _, _| {
        a >> 48 | (a >> 32 & 0xffff) << 16 | (a >> 16 & 0xffff) << 32 | a << 48
    });
    check64("sub.cc.u32 %r4, %ra, %rb; subc.u32 %r5, %rc, 0; mov.b64 %rdo, {%r4, %r5};", 19, |a, b, c| {
        (u64::from(c as u32) << 32 | u64::from(a as u32)).wrapping_sub(u64::from(b as u32))
    });
    check64("mad.lo.cc.u64 %rd4, %rda, %rdb, %rdc; madc.hi.u64 %rdo, %rda, %rdb, 0;", 20, |a, b, c| {
        ((u128::from(a) * u128::from(b) + u128::from(c)) >> 64) as u64
    });
    check32("min.s16 %ho, %ha, %hb; cvt.u32.u16 %ro, %ho;", 21, |a, b, _| {
        u32::from((a as i16).min(b as i16) as u16)
    });
    check32("div.s32 %ro, %ra, %rb;", 22, |a, b, _| {
        if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 }
    });
    check64("rem.s64 %rdo, %rda, %rdb;", 23, |a, b, _| {
        if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
    });
}

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
