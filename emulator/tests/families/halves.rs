//! What: f16 and bf16 arithmetic, scalar and packed, with every modifier.
//! Why here: halves round once from exact values, which only integers can check.
//! Pre: none.
//! Post: bit-exact; approximate functions within the error of the ISA.

use crate::common::Rng;
use crate::exact::{BF16, F16, Format, Mode, fma};
use crate::harness::*;
use half::{bf16, f16};

/// Words whose halves are edges of both formats or random.
pub(crate) fn words(seed: u64) -> Vec<[u64; 3]> {
    const EDGES: [u16; 22] = [
        0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x7f, 0x80, 0x3c00, 0xbc00, 0x3f80, 0xbf80, 0x7bff, 0xfbff,
        0x7c00, 0xfc00, 0x7f80, 0xff80, 0x7fff, 0xfe01, 0x7f7f, 0x3bff,
    ];
    let mut g = Rng::new(seed);
    let mut v = vec![];
    for a in EDGES {
        for b in EDGES {
            let mut w = |x: u16| u64::from(x) | u64::from(EDGES[g.below(22) as usize]) << 16;
            v.push([w(a), w(b), w(EDGES[(usize::from(a) + usize::from(b)) % 22])]);
        }
    }
    v.extend((0..3000).map(|_| [g.next(), g.next(), g.next()]));
    // Values whose sums and products meet: exponents near that of 1, and products near the third operand.
    v.extend((0..3000).map(|_| {
        let mut near =
            |e: u64| (0..2).fold(0, |w, i| w | (g.next() & 0x83ff | (e + g.below(6)) << 10) << (16 * i));
        [near(13), near(13), near(11)]
    }));
    v.extend((0..3000).map(|_| {
        let mut near =
            |e: u64| (0..2).fold(0, |w, i| w | (g.next() & 0x807f | (e + g.below(9)) << 7) << (16 * i));
        [near(123), near(123), near(60)]
    }));
    v
}

type Half = fn(Format, u64, u64, u64) -> u64;

/// Checks an instruction of both formats, scalar and packed.
fn all(name: &str, modifiers: &str, operands: usize, formats: &[&str], f: Half) {
    for &ty in formats {
        let form = if ty == "f16" { F16 } else { BF16 };
        let rows = words(operands as u64 + name.len() as u64);
        let list =
            |p: &str| ["a", "b", "c"][..operands].iter().map(|x| format!(", %{p}{x}")).collect::<String>();
        let one = run(&format!("{name}{modifiers}.{ty} %ho{}; cvt.u64.u16 %rdo, %ho;", list("h")), &rows);
        let two = run(&format!("{name}{modifiers}.{ty}x2 %ro{}; cvt.u64.u32 %rdo, %ro;", list("r")), &rows);
        for ((r, one), two) in rows.iter().zip(one).zip(two) {
            let at = |i: u32| f(form, r[0] >> i & 0xffff, r[1] >> i & 0xffff, r[2] >> i & 0xffff);
            let [a, b, c] = r.map(|v| v as u32);
            assert_eq!(one, at(0), "{name}{modifiers}.{ty} of {a:#x} {b:#x} {c:#x}");
            assert_eq!(two, at(0) | at(16) << 16, "{name}{modifiers}.{ty}x2 of {a:#x} {b:#x} {c:#x}");
        }
    }
}

const BOTH: &[&str] = &["f16", "bf16"];
const ONE16: u64 = 0x3c00;

fn flush(v: u64) -> u64 {
    if v & 0x7c00 == 0 { v & 0x8000 } else { v }
}
fn negate(v: u64) -> u64 {
    v ^ 0x8000
}
fn unit(v: u64) -> u64 {
    if F16.is_nan(v) || F16.negative(v) { 0 } else { v.min(ONE16) }
}
fn one(f: Format) -> u64 {
    (f.bias as u64) << f.mant
}
fn add(f: Format, a: u64, b: u64) -> u64 {
    fma(f, a, one(f), b, Mode::Near)
}
fn mul(f: Format, a: u64, b: u64) -> u64 {
    let negative_zero = 0x8000;
    fma(f, a, b, negative_zero, Mode::Near)
}

#[test]
fn sums_and_products() {
    all("add", "", 2, BOTH, |f, a, b, _| add(f, a, b));
    all("add", ".rn", 2, BOTH, |f, a, b, _| add(f, a, b));
    all("sub", "", 2, BOTH, |f, a, b, _| add(f, a, negate(b)));
    all("mul", "", 2, BOTH, |f, a, b, _| mul(f, a, b));
    all("fma.rn", "", 3, BOTH, |f, a, b, c| fma(f, a, b, c, Mode::Near));
    all("fma.rn", ".relu", 3, BOTH, |f, a, b, c| match fma(f, a, b, c, Mode::Near) {
        r if f.negative(r) => 0,
        r => r,
    });
    let f16 = &["f16"];
    all("add", ".sat", 2, f16, |f, a, b, _| unit(add(f, a, b)));
    all("mul", ".rn.sat", 2, f16, |f, a, b, _| unit(mul(f, a, b)));
    all("fma.rn", ".sat", 3, f16, |f, a, b, c| unit(fma(f, a, b, c, Mode::Near)));
    all("add", ".ftz", 2, f16, |f, a, b, _| flush(add(f, flush(a), flush(b))));
    all("sub", ".ftz.sat", 2, f16, |f, a, b, _| unit(flush(add(f, flush(a), flush(negate(b))))));
    all("fma.rn", ".ftz", 3, f16, |f, a, b, c| flush(fma(f, flush(a), flush(b), flush(c), Mode::Near)));
    all("neg", "", 1, BOTH, |_, a, _, _| negate(a));
    all("abs", "", 1, BOTH, |_, a, _, _| a & 0x7fff);
    all("neg", ".ftz", 1, f16, |_, a, _, _| flush(negate(a)));
}

/// The extreme of two operands as the ISA's pseudocode has it.
fn extreme(f: Format, a: u64, b: u64, least: bool, nan: bool, xor: bool) -> u64 {
    let sign = (a ^ b) & 0x8000;
    let (a, b) = if xor { (a & 0x7fff, b & 0x7fff) } else { (a, b) };
    let (na, nb) = (f.is_nan(a), f.is_nan(b));
    let r = if na && nb || nan && (na || nb) {
        return 0x7fff;
    } else if na {
        b
    } else if nb {
        a
    } else {
        // As integers in order; -0 lies below +0.
        let key = |v: u64| if v & 0x8000 != 0 { -((v & 0x7fff) as i64) - 1 } else { v as i64 };
        if (key(a) < key(b)) == least { a } else { b }
    };
    if xor { r & 0x7fff | sign } else { r }
}

#[test]
fn extremes() {
    all("min", "", 2, BOTH, |f, a, b, _| extreme(f, a, b, true, false, false));
    all("max", "", 2, BOTH, |f, a, b, _| extreme(f, a, b, false, false, false));
    all("min", ".NaN", 2, BOTH, |f, a, b, _| extreme(f, a, b, true, true, false));
    all("max", ".NaN", 2, BOTH, |f, a, b, _| extreme(f, a, b, false, true, false));
    all("min", ".xorsign.abs", 2, BOTH, |f, a, b, _| extreme(f, a, b, true, false, true));
    all("max", ".NaN.xorsign.abs", 2, BOTH, |f, a, b, _| extreme(f, a, b, false, true, true));
    all("max", ".ftz", 2, &["f16"], |f, a, b, _| extreme(f, flush(a), flush(b), false, false, false));
}

#[test]
fn functions() {
    let rows = words(9);
    for (name, ty, f, bound) in [
        ("ex2.approx", "f16", f64::exp2 as fn(f64) -> f64, 2f64.powi(-9)),
        ("tanh.approx", "f16", f64::tanh, 2f64.powi(-9)),
        ("ex2.approx.ftz", "bf16", f64::exp2, 2f64.powi(-7)),
        ("tanh.approx", "bf16", f64::tanh, 2f64.powi(-7)),
    ] {
        let got = run(&format!("{name}.{ty}x2 %ro, %ra; cvt.u64.u32 %rdo, %ro;"), &rows);
        for (r, g) in rows.iter().zip(got) {
            for s in [0, 16] {
                let (x, y) = ((r[0] >> s) as u16, (g >> s) as u16);
                let (x, y) = if ty == "f16" {
                    (f16::from_bits(x).to_f64(), f16::from_bits(y).to_f64())
                } else {
                    (bf16::from_bits(x).to_f64(), bf16::from_bits(y).to_f64())
                };
                let w = f(x);
                let (largest, least) = if ty == "f16" { (65504.0, 6e-8) } else { (3.39e38, 1.18e-38) };
                let good = y == w
                    || y.is_nan() && w.is_nan()
                    || (y - w).abs() <= bound * w.abs() + least
                    || w > largest && y.is_infinite();
                assert!(good, "{name}.{ty} of {x:e} is {y:e}, not {w:e}");
            }
        }
    }
}
