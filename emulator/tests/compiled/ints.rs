//! What: integer instructions against Rust's integers, over random and edge operands.
//! Why here: one conformance test per family.
//! Pre: tests/ptx/ints.ptx.
//! Post: bit-exact.

use crate::common::{Arg, EDGES32, Machine, Rng};

fn bfe(a: u32, pos: u32, len: u32, signed: bool) -> u32 {
    let sbit = if signed && len > 0 { a >> (pos + len - 1).min(31) & 1 } else { 0 };
    (0..32).fold(0, |r, i| r | (if i < len && pos + i < 32 { a >> (pos + i) & 1 } else { sbit }) << i)
}

fn bfi(a: u32, b: u32, pos: u32, len: u32) -> u32 {
    (0..len).fold(b, |r, i| if pos + i < 32 { r & !(1 << (pos + i)) | (a >> i & 1) << (pos + i) } else { r })
}

fn prmt(a: u32, b: u32, s: u32) -> u32 {
    let v = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
    u32::from_le_bytes(std::array::from_fn(|i| {
        let n = s >> (4 * i) & 15;
        let byte = v[n as usize & 7];
        if n & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte }
    }))
}

fn want32(a: i32, b: i32) -> Vec<u64> {
    let (ua, ub) = (a as u32, b as u32);
    let wide = i64::from(a) * i64::from(b);
    let uwide = u64::from(ua) * u64::from(ub);
    let both = u64::from(ub) << 32 | u64::from(ua);
    let bad = b == 0;
    let over = a == i32::MIN && b == -1;
    let s = |v: i32| u64::from(v as u32);
    let u = u64::from;
    let (p, l) = (ub & 63, ub >> 8 & 63);
    let c3 = ua.wrapping_mul(3);
    let dot = (0..4)
        .fold(a, |x, i| x.wrapping_add(i32::from((ua >> (8 * i)) as i8) * i32::from((ub >> (8 * i)) as i8)));
    let (sum, carry) = ua.overflowing_add(ub);
    vec![
        u(ua.wrapping_add(ub)),
        u(ua.wrapping_sub(ub)),
        u(ua.wrapping_mul(ub)),
        u((wide >> 32) as u32),
        u((uwide >> 32) as u32),
        wide as u64,
        uwide,
        if bad {
            7
        } else if over {
            0
        } else {
            s(a.wrapping_div(b))
        },
        if bad {
            7
        } else if over {
            0
        } else {
            s(a.wrapping_rem(b))
        },
        if bad { 7 } else { u(ua / ub) },
        if bad { 7 } else { u(ua % ub) },
        u(ua & ub),
        u(ua | ub),
        u(ua ^ ub),
        u(!ua),
        u(ua << (ub & 31)),
        u(ua >> (ub & 31)),
        s(a >> (b & 31)),
        s(a.min(b)),
        s(a.max(b)),
        u(ua.min(ub)),
        u(ua.max(ub)),
        s(a.wrapping_abs()),
        s(a.wrapping_neg()),
        u(ua.count_ones()),
        u(ua.leading_zeros()),
        u(ua.reverse_bits()),
        u(if ua == 0 { 0 } else { ua.trailing_zeros() + 1 }),
        u(prmt(ua, ub, ub & 0x7777)),
        u((u64::from(ub) << 32 | u64::from(ua)).wrapping_shl(ub & 31).wrapping_shr(32) as u32),
        u((both >> (ub & 31)) as u32),
        u(if ub >= 32 { ua } else { (both << ub >> 32) as u32 }),
        wide.wrapping_add(i64::from(b)) as u64,
        u64::from(a < b),
        u64::from(ua < ub),
        u64::from(a == b),
        s(i32::from(a as i16)),
        u64::from(a as u8),
        s(i32::from(a as i8)),
        i64::from(a) as u64,
        s(((i64::from(a) + i64::from(b)) >> 1) as i32),
        u(a.abs_diff(b).wrapping_add(ub)),
        u(bfe(ua, p, l, false)),
        u(bfe(ua, p, l, true)),
        u(bfi(ua, ub, p, l)),
        u((0..32).fold(0, |r, i| {
            let k = (ua >> i & 1) << 2 | (ub >> i & 1) << 1 | (c3 >> i & 1);
            r | (0x6a >> k & 1) << i
        })),
        u(if ua == 0 { u32::MAX } else { 31 - ua.leading_zeros() }),
        u(((wide >> 32) as u32).wrapping_add(ua)),
        u(if ub & 127 > 31 { 0 } else { ua << (ub & 127) }),
        s(a >> (ub & 127).min(31)),
        u(ua.wrapping_add(sum).wrapping_add(u32::from(carry))),
        s(dot),
        s(a.saturating_add(b)),
    ]
}

fn want64(a: i64, b: i64) -> Vec<u64> {
    let (ua, ub) = (a as u64, b as u64);
    let bad = b == 0 || b == -1;
    vec![
        ua.wrapping_add(ub),
        ua.wrapping_sub(ub),
        ua.wrapping_mul(ub),
        ((i128::from(a) * i128::from(b)) >> 64) as u64,
        ((u128::from(ua) * u128::from(ub)) >> 64) as u64,
        if bad { 7 } else { (a / b) as u64 },
        if bad { 7 } else { (a % b) as u64 },
        if bad { 7 } else { ua / ub },
        if bad { 7 } else { ua % ub },
        ua & ub,
        ua | ub,
        ua ^ ub,
        ua << (ub & 63),
        ua >> (ub & 63),
        (a >> (b & 63)) as u64,
        a.min(b) as u64,
        ua.max(ub),
        a.wrapping_abs() as u64,
        u64::from(ua.count_ones()),
        u64::from(ua.leading_zeros()),
        ua.reverse_bits(),
        if ua == 0 { 0 } else { u64::from(ua.trailing_zeros()) + 1 },
        u64::from(a < b),
        u64::from(ua <= ub),
    ]
}

#[test]
fn ints32() {
    let mut m = Machine::new(include_str!("../ptx/ints.ptx"));
    let mut g = Rng::new(11);
    let mut pairs: Vec<(i32, i32)> = vec![];
    for a in EDGES32 {
        for b in EDGES32 {
            pairs.push((a as i32, b as i32));
        }
    }
    pairs.extend((0..2000).map(|_| (g.u32() as i32, (g.u32() >> (g.u32() % 32)) as i32)));
    let n = pairs.len();
    let x: Vec<i32> = pairs.iter().map(|p| p.0).collect();
    let y: Vec<i32> = pairs.iter().map(|p| p.1).collect();
    let rows = want32(1, 1).len();
    let (px, py, po) = (m.put("x", &x), m.put("y", &y), m.zeros::<u64>("o", n * rows));
    m.run(
        "ints32",
        n.div_ceil(128) as u32,
        128,
        &[Arg::Ptr(px), Arg::Ptr(py), Arg::Ptr(po), Arg::I32(n as i32)],
    );
    let got: Vec<u64> = m.get(po, n * rows);
    for i in 0..n {
        for (r, w) in want32(x[i], y[i]).into_iter().enumerate() {
            assert_eq!(got[r * n + i], w, "operation {r} of {:#x} and {:#x}", x[i], y[i]);
        }
    }
}

#[test]
fn ints64() {
    let mut m = Machine::new(include_str!("../ptx/ints.ptx"));
    let mut g = Rng::new(12);
    let edges = [0i64, 1, -1, i64::MAX, i64::MIN, 1 << 32, -(1 << 32), 0xffff_ffff, 63, 64];
    let mut pairs: Vec<(i64, i64)> = edges.iter().flat_map(|a| edges.iter().map(move |b| (*a, *b))).collect();
    pairs.extend((0..2000).map(|_| (g.next() as i64, (g.next() >> g.below(64)) as i64)));
    let n = pairs.len();
    let x: Vec<i64> = pairs.iter().map(|p| p.0).collect();
    let y: Vec<i64> = pairs.iter().map(|p| p.1).collect();
    let rows = want64(1, 1).len();
    let (px, py, po) = (m.put("x", &x), m.put("y", &y), m.zeros::<u64>("o", n * rows));
    m.run(
        "ints64",
        n.div_ceil(128) as u32,
        128,
        &[Arg::Ptr(px), Arg::Ptr(py), Arg::Ptr(po), Arg::I32(n as i32)],
    );
    let got: Vec<u64> = m.get(po, n * rows);
    for i in 0..n {
        for (r, w) in want64(x[i], y[i]).into_iter().enumerate() {
            assert_eq!(got[r * n + i], w, "operation {r} of {:#x} and {:#x}", x[i], y[i]);
        }
    }
}
