//! What: comparisons and selections.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::halves::words;
use crate::harness::*;
use half::{bf16, f16};

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

/// Both halves of a word as numbers.
fn pair(ty: &str, v: u64) -> [f32; 2] {
    [v as u16, (v >> 16) as u16]
        .map(|h| if ty == "f16" { f16::from_bits(h).to_f32() } else { bf16::from_bits(h).to_f32() })
}

#[test]
fn packed_comparisons() {
    for ty in ["f16", "bf16"] {
        let one = if ty == "f16" { 0x3c00 } else { 0x3f80 };
        for (op, f) in [
            ("eq", (|a, b| a == b) as fn(f32, f32) -> bool),
            ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
            ("lt", |a, b| a < b),
            ("ge", |a, b| a >= b),
            ("neu", |a, b| a != b),
            ("gtu", |a, b| a > b || a.is_nan() || b.is_nan()),
            ("num", |a, b| !a.is_nan() && !b.is_nan()),
            ("nan", |a, b| a.is_nan() || b.is_nan()),
        ] {
            let rows = words(3);
            let ask = |body: String| run(&format!("{body} cvt.u64.u32 %rdo, %ro;"), &rows);
            let mask = ask(format!("set.{op}.u32.{ty}x2 %ro, %ra, %rb;"));
            let ones = ask(format!("set.{op}.{ty}x2.{ty}x2 %ro, %ra, %rb;"));
            let scalar = ask(format!("set.{op}.{ty}.{ty} %ho, %ha, %hb; cvt.u32.u16 %ro, %ho;"));
            let preds = ask(format!(
                "setp.lt.u32 %p3, %rc, 0x80000000; setp.{op}.and.{ty}x2 %p2|%p3, %ra, %rb, %p3;
                 selp.u32 %ro, 1, 0, %p2; @%p3 add.u32 %ro, %ro, 2;"
            ));
            for (i, r) in rows.iter().enumerate() {
                let (a, b) = (pair(ty, r[0]), pair(ty, r[1]));
                let [lo, hi] = [f(a[0], b[0]), f(a[1], b[1])].map(u64::from);
                let what = format!("{op}.{ty} of {:#x} {:#x}", r[0] as u32, r[1] as u32);
                assert_eq!(mask[i], lo * 0xffff | hi * 0xffff_0000, "mask {what}");
                assert_eq!(ones[i], lo * one | hi * one << 16, "ones {what}");
                assert_eq!(scalar[i], lo * one, "scalar {what}");
                let c = u64::from((r[2] as u32) < 1 << 31);
                assert_eq!(preds[i], (lo | hi << 1) * c, "predicates {what}");
            }
        }
    }
    check32("set.lt.and.f32.s32 %f1, %ra, %rb, !%p2; mov.b32 %ro, %f1;", 4, |a, b, _| {
        if (a as i32) < b as i32 { 0x3f80_0000 } else { 0 }
    });
    check32("set.gt.s16.f16 %ho, %ha, %hb; cvt.u32.u16 %ro, %ho;", 5, |a, b, _| {
        if pair("f16", a.into())[0] > pair("f16", b.into())[0] { 0xffff } else { 0 }
    });
}
