//! What: comparisons and selections.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::harness::*;
use half::f16;

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
