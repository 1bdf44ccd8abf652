//! What: logic, bit fields, shifts, packing, carry chains and the rarer integer forms.
//! Why here: one family.
//! Pre: none.
//! Post: bit-exact.

use crate::harness::*;

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
fn tested_tables_and_searches() {
    for (op, f) in [("or", (|a, b| a || b) as fn(bool, bool) -> bool), ("and", |a, b| a && b)] {
        check32(
            &format!(
                "setp.lt.s32 %p3, %rc, 0; lop3.{op}.b32 %r4|%p2, %ra, %rb, %rc, 0x96, !%p3;
                 selp.u32 %r5, 1, 0, %p2; shl.b32 %r4, %r4, 1; or.b32 %ro, %r4, %r5;"
            ),
            1,
            |a, b, c| {
                let x = a ^ b ^ c;
                x << 1 | u32::from(f(x != 0, c as i32 >= 0))
            },
        );
    }
    check32("lop3.and.b32 _|%p2, %ra, %rb, %rc, 0x80, %p3; selp.u32 %ro, 1, 0, %p2;", 2, |_, _, _| 0);
    // The n-th set bit, by walking.
    check32("and.b32 %r4, %rb, 31; shr.s32 %r5, %rc, 27; fns.b32 %ro, %ra, %r4, %r5;", 3, |a, b, c| {
        let (base, n) = ((b & 31) as i32, c as i32 >> 27);
        let places: Vec<i32> = (0..32).filter(|i| a >> i & 1 != 0).collect();
        let hit = match n {
            0 => places.iter().find(|p| **p == base),
            1.. => places.iter().filter(|p| **p >= base).nth(n as usize - 1),
            _ => places.iter().rev().filter(|p| **p <= base).nth(-n as usize - 1),
        };
        hit.map_or(u32::MAX, |p| *p as u32)
    });
    for (mode, f) in [("clamp", (|v| v.min(32)) as fn(u32) -> u32), ("wrap", |v| v & 31)] {
        check32(&format!("bmsk.{mode}.b32 %ro, %ra, %rb;"), 4, |a, b, _| {
            let (at, n) = (f(a), f(b));
            (0..32).filter(|i| *i >= at && *i < at + n).fold(0, |m, i| m | 1 << i)
        });
        check32(&format!("szext.{mode}.u32 %ro, %ra, %rb;"), 5, |a, b, _| {
            (0..f(b)).fold(0, |v, i| v | a & 1 << i)
        });
        check32(&format!("szext.{mode}.s32 %ro, %ra, %rb;"), 6, |a, b, _| {
            let n = f(b);
            let sign = n > 0 && a >> (n - 1) & 1 != 0;
            (0..32).fold(0, |v, i| v | u32::from(if i < n { a >> i & 1 != 0 } else { sign }) << i)
        });
    }
    check32("bfind.shiftamt.u32 %ro, %ra;", 7, |a, _, _| if a == 0 { u32::MAX } else { a.leading_zeros() });
    check64("bfind.shiftamt.s64 %ro, %rda; cvt.u64.u32 %rdo, %ro;", 8, |a, _, _| {
        let v = if (a as i64) < 0 { !a } else { a };
        u64::from(if v == 0 { u32::MAX } else { v.leading_zeros() })
    });
    check32("shf.l.wrap.b32 %ro, %ra, %rb, %rc;", 9, |a, b, c| match c & 31 {
        0 => b,
        n => b << n | a >> (32 - n),
    });
    check32("shf.l.clamp.b32 %ro, %ra, %rb, %rc;", 10, |a, b, c| match c.min(32) {
        0 => b,
        32 => a,
        n => b << n | a >> (32 - n),
    });
    check32("shf.r.wrap.b32 %ro, %ra, %rb, %rc;", 11, |a, b, c| match c & 31 {
        0 => a,
        n => a >> n | b << (32 - n),
    });
}
