//! What: f32 and f64 arithmetic and the approximate functions.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact; approximate functions keep to the bounds of the ISA.

use crate::exact::{F32, Mode, fma};
use crate::harness::*;

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
}

/// Rows whose exact sums fit the oracle: exponents not too far apart.
fn near(seed: u64) -> Vec<[u64; 3]> {
    let mut g = crate::common::Rng::new(seed);
    let mut v: Vec<[u64; 3]> = rows(seed);
    for r in &mut v {
        for x in r.iter_mut() {
            // Half of the operands lie near 1; zeros, subnormals, infinities and NaN stay as they are.
            let e = *x >> 23 & 255;
            if g.next() & 1 == 0 && e != 0 && e != 255 {
                *x = *x & !(255 << 23) | (120 + g.below(14)) << 23;
            }
        }
    }
    v
}

#[test]
fn directed_rounding() {
    let (one, neg) = (0x3f80_0000u64, 1u64 << 31);
    let z = |v: u64| if v & 0x7f80_0000 == 0 { v & neg } else { v };
    let sat = |v: u64| if F32.is_nan(v) || F32.negative(v) { 0 } else { v.min(one) };
    for (name, mode) in [("rn", Mode::Near), ("rz", Mode::Zero), ("rm", Mode::Down), ("rp", Mode::Up)] {
        let check = |inst: String, f: &dyn Fn(u64, u64, u64) -> u64| {
            let rows = near(16);
            let got = run(&format!("{inst} mov.b32 %ro, %f1; cvt.u64.u32 %rdo, %ro;"), &rows);
            for (r, g) in rows.iter().zip(got) {
                let [a, b, c] = r.map(|v| v & 0xffff_ffff);
                assert_eq!(g, f(a, b, c), "{inst} of {a:#x} {b:#x} {c:#x}");
            }
        };
        let add = |a: u64, b: u64| fma(F32, a, one, b, mode);
        // A zero of the product's sign changes nothing.
        let mul = |a: u64, b: u64| fma(F32, a, b, (a ^ b) & neg, mode);
        check(format!("add.{name}.f32 %f1, %fa, %fb;"), &|a, b, _| add(a, b));
        check(format!("sub.{name}.f32 %f1, %fa, %fb;"), &|a, b, _| add(a, b ^ neg));
        check(format!("mul.{name}.f32 %f1, %fa, %fb;"), &|a, b, _| mul(a, b));
        check(format!("fma.{name}.f32 %f1, %fa, %fb, %fc;"), &|a, b, c| fma(F32, a, b, c, mode));
        check(format!("add.{name}.ftz.f32 %f1, %fa, %fb;"), &|a, b, _| z(add(z(a), z(b))));
        check(format!("mul.{name}.ftz.sat.f32 %f1, %fa, %fb;"), &|a, b, _| sat(z(mul(z(a), z(b)))));
        check(format!("fma.{name}.ftz.f32 %f1, %fa, %fb, %fc;"), &|a, b, c| {
            z(fma(F32, z(a), z(b), z(c), mode))
        });
        check(format!("fma.{name}.sat.f32 %f1, %fa, %fb, %fc;"), &|a, b, c| sat(fma(F32, a, b, c, mode)));
    }
}

#[test]
fn signs_of_extremes() {
    let f = |a: u32, b: u32, least: bool, nan: bool| {
        let sign = (a ^ b) & 1 << 31;
        let (a, b) = (a & 0x7fff_ffff, b & 0x7fff_ffff);
        let (na, nb) = (a > 0x7f80_0000, b > 0x7f80_0000);
        let r = match (na, nb) {
            (true, true) => return 0x7fff_ffff,
            (true, _) | (_, true) if nan => return 0x7fff_ffff,
            (true, false) => b,
            (false, true) => a,
            _ if least => a.min(b),
            _ => a.max(b),
        };
        r | sign
    };
    check32("min.xorsign.abs.f32 %ro, %fa, %fb;", 1, |a, b, _| f(a, b, true, false));
    check32("max.xorsign.abs.f32 %ro, %fa, %fb;", 2, |a, b, _| f(a, b, false, false));
    check32("max.NaN.xorsign.abs.f32 %ro, %fa, %fb;", 3, |a, b, _| f(a, b, false, true));
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
