//! What: the integer forms that CUDA source rarely makes: packed, 24-bit, saturating, dot products, carry chains.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::harness::*;

fn halves(v: u32) -> [i64; 2] {
    [v as i16, (v >> 16) as i16].map(i64::from)
}
fn unsigned(v: u32) -> [i64; 2] {
    [v & 0xffff, v >> 16].map(i64::from)
}
fn join(f: impl Fn(usize) -> i64) -> u32 {
    f(0) as u32 & 0xffff | (f(1) as u32 & 0xffff) << 16
}

#[test]
fn packed_words() {
    check32("add.u16x2 %ro, %ra, %rb;", 1, |a, b, _| join(|i| unsigned(a)[i] + unsigned(b)[i]));
    check32("add.s16x2 %ro, %ra, %rb;", 2, |a, b, _| join(|i| halves(a)[i] + halves(b)[i]));
    check32("min.u16x2 %ro, %ra, %rb;", 3, |a, b, _| join(|i| unsigned(a)[i].min(unsigned(b)[i])));
    check32("max.u16x2 %ro, %ra, %rb;", 4, |a, b, _| join(|i| unsigned(a)[i].max(unsigned(b)[i])));
    check32("min.s16x2 %ro, %ra, %rb;", 5, |a, b, _| join(|i| halves(a)[i].min(halves(b)[i])));
    check32("max.s16x2 %ro, %ra, %rb;", 6, |a, b, _| join(|i| halves(a)[i].max(halves(b)[i])));
    check32("min.s16x2.relu %ro, %ra, %rb;", 7, |a, b, _| join(|i| halves(a)[i].min(halves(b)[i]).max(0)));
    check32("max.relu.s16x2 %ro, %ra, %rb;", 8, |a, b, _| join(|i| halves(a)[i].max(halves(b)[i]).max(0)));
    check32("min.relu.s32 %ro, %ra, %rb;", 9, |a, b, _| (a as i32).min(b as i32).max(0) as u32);
    check32("max.s32.relu %ro, %ra, %rb;", 10, |a, b, _| (a as i32).max(b as i32).max(0) as u32);
}

#[test]
fn products_of_24_bits() {
    let s = |v: u32| i64::from((v << 8) as i32 >> 8);
    let u = |v: u32| i64::from(v & 0xff_ffff);
    let clamp = |v: i64| v.clamp(i32::MIN.into(), i32::MAX.into()) as u32;
    check32("mul24.hi.s32 %ro, %ra, %rb;", 1, |a, b, _| (s(a) * s(b) >> 16) as u32);
    check32("mul24.lo.u32 %ro, %ra, %rb;", 2, |a, b, _| (u(a) * u(b)) as u32);
    check32("mul24.hi.u32 %ro, %ra, %rb;", 3, |a, b, _| (u(a) * u(b) >> 16) as u32);
    check32("mad24.lo.u32 %ro, %ra, %rb, %rc;", 4, |a, b, c| ((u(a) * u(b)) as u32).wrapping_add(c));
    check32("mad24.hi.u32 %ro, %ra, %rb, %rc;", 5, |a, b, c| ((u(a) * u(b) >> 16) as u32).wrapping_add(c));
    check32("mad24.lo.s32 %ro, %ra, %rb, %rc;", 6, |a, b, c| ((s(a) * s(b)) as u32).wrapping_add(c));
    check32("mad24.hi.s32 %ro, %ra, %rb, %rc;", 7, |a, b, c| ((s(a) * s(b) >> 16) as u32).wrapping_add(c));
    check32("mad24.hi.sat.s32 %ro, %ra, %rb, %rc;", 8, |a, b, c| {
        clamp((s(a) * s(b) >> 16) + i64::from(c as i32))
    });
    let w = |v: u32| i64::from(v as i32);
    check32("mad.hi.sat.s32 %ro, %ra, %rb, %rc;", 9, |a, b, c| clamp((w(a) * w(b) >> 32) + w(c)));
    check32("add.sat.s32 %ro, %ra, %rb;", 10, |a, b, _| clamp(w(a) + w(b)));
    check32("sub.sat.s32 %ro, %ra, %rb;", 11, |a, b, _| clamp(w(a) - w(b)));
    check32("mad.hi.u32 %ro, %ra, %rb, %rc;", 12, |a, b, c| {
        ((u64::from(a) * u64::from(b) >> 32) as u32).wrapping_add(c)
    });
}

#[test]
fn absolute_differences() {
    let bytes = |v: u32| v.to_le_bytes();
    let diff =
        |a: u32, b: u32| -> [u32; 4] { std::array::from_fn(|i| bytes(a)[i].abs_diff(bytes(b)[i]).into()) };
    check32("vabsdiff4.u32.u32.u32 %ro, %ra, %rb, %rc;", 1, |a, b, _| {
        u32::from_le_bytes(diff(a, b).map(|v| v as u8))
    });
    check32("vabsdiff4.u32.u32.u32.add %ro, %ra, %rb, %rc;", 2, |a, b, c| {
        diff(a, b).iter().fold(c, |s, v| s.wrapping_add(*v))
    });
    let signed = |a: u32, b: u32| -> [u32; 4] {
        std::array::from_fn(|i| (bytes(a)[i] as i8).abs_diff(bytes(b)[i] as i8).into())
    };
    check32("vabsdiff4.s32.s32.s32.sat %ro, %ra, %rb, %rc;", 3, |a, b, _| {
        u32::from_le_bytes(signed(a, b).map(|v| v.min(127) as u8))
    });
    check32("vabsdiff4.u32.s32.s32.add %ro, %ra, %rb, %rc;", 4, |a, b, c| {
        signed(a, b).iter().fold(c, |s, v| s.wrapping_add(*v))
    });
    check32("vabsdiff2.u32.u32.u32.add %ro, %ra, %rb, %rc;", 5, |a, b, c| {
        (0..2).fold(c, |s, i| s.wrapping_add((unsigned(a)[i] - unsigned(b)[i]).unsigned_abs() as u32))
    });
    check32("vabsdiff2.s32.s32.s32 %ro, %ra, %rb, %rc;", 6, |a, b, _| {
        join(|i| (halves(a)[i] - halves(b)[i]).abs())
    });
    check32("sad.s32 %ro, %ra, %rb, %rc;", 7, |a, b, c| (a as i32).abs_diff(b as i32).wrapping_add(c));
    check32("sad.u16 %ho, %ha, %hb, %hc; cvt.u32.u16 %ro, %ho;", 8, |a, b, c| {
        u32::from((a as u16).abs_diff(b as u16).wrapping_add(c as u16))
    });
}

#[test]
fn dot_products() {
    for (ta, sa) in [("s32", true), ("u32", false)] {
        for (tb, sb) in [("s32", true), ("u32", false)] {
            let byte = |v: u32, i: u32, s: bool| {
                let x = (v >> (8 * i)) as u8;
                if s { i64::from(x as i8) } else { i64::from(x) }
            };
            let word = |v: u32, i: u32, s: bool| {
                let x = (v >> (16 * i)) as u16;
                if s { i64::from(x as i16) } else { i64::from(x) }
            };
            let sum = |c: u32, terms: i64| (i64::from(c as i32) + terms) as u32;
            check32(&format!("dp4a.{ta}.{tb} %ro, %ra, %rb, %rc;"), 1, |a, b, c| {
                sum(c, (0..4).map(|i| byte(a, i, sa) * byte(b, i, sb)).sum())
            });
            for (half, shift) in [("lo", 0), ("hi", 2)] {
                check32(&format!("dp2a.{half}.{ta}.{tb} %ro, %ra, %rb, %rc;"), 2, |a, b, c| {
                    sum(c, (0..2).map(|i| word(a, i, sa) * byte(b, i + shift, sb)).sum())
                });
            }
        }
    }
}

#[test]
fn carry_chains() {
    let join = " mov.b64 %rdo, {%r4, %r5};";
    let u = |v: u64| u64::from(v as u32);
    check64(&format!("add.cc.u32 %r4, %ra, %rb; addc.u32 %r5, %rc, 0;{join}"), 1, |a, b, c| {
        (u(c) << 32).wrapping_add(u(a)).wrapping_add(u(b))
    });
    check64(&format!("sub.cc.u32 %r4, %ra, %rb; subc.u32 %r5, %rc, %ra;{join}"), 2, |a, b, c| {
        (u(c) << 32 | u(a)).wrapping_sub(u(a) << 32 | u(b))
    });
    // 96 bits: the carry passes through the middle.
    check64(
        &format!("add.cc.u32 %r3, %ra, %rb; addc.cc.u32 %r4, %rb, %rc; addc.u32 %r5, %rc, %ra;{join}"),
        3,
        |a, b, c| {
            let wide = |lo: u64, mid: u64, hi: u64| {
                u128::from(u(lo)) | u128::from(u(mid)) << 32 | u128::from(u(hi)) << 64
            };
            ((wide(a, b, c) + wide(b, c, a)) >> 32) as u64
        },
    );
    check64("mad.lo.cc.s64 %rd4, %rda, %rdb, %rdc; madc.hi.s64 %rdo, %rda, %rdb, %rdc;", 4, |a, b, c| {
        let p = i128::from(a as i64) * i128::from(b as i64);
        let carry = (p as u64).overflowing_add(c).1;
        ((p >> 64) as u64).wrapping_add(c).wrapping_add(u64::from(carry))
    });
    check32("mad.hi.cc.s32 %r4, %ra, %rb, %rc; madc.lo.u32 %ro, %ra, %rb, %rc;", 5, |a, b, c| {
        let high = (i64::from(a as i32) * i64::from(b as i32) >> 32) as u32;
        let carry = u32::from(high.overflowing_add(c).1);
        a.wrapping_mul(b).wrapping_add(c).wrapping_add(carry)
    });
}
