//! What: `cvt`.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::harness::*;
use half::f16;

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
