//! What: operands of the conformance kernels.
//! Why here: the same words on every machine, edge cases first.
//! Pre: none.
//! Post: depends on nothing but the name of the kernel.

use super::super::{Random, hash};
use super::table::Input;

const WORDS: [u32; 14] = [
    0,
    1,
    2,
    31,
    32,
    33,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0xffff_fffe,
    0x0000_ffff,
    0x00ff_00ff,
    0x1234_5678,
];

/// Zero, one, infinity, NaN, the largest, the smallest normal, subnormals, halves between numbers.
const SINGLES: [u32; 14] = [
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7f7f_ffff,
    0x0080_0000,
    0x007f_ffff,
    0x0000_0001,
    0x477f_e000,
    0x3f00_0000,
    0x3300_0001,
];

const DOUBLES: [u64; 10] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    1,
];

const HALVES: [u16; 10] = [0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x7bff, 0x0400, 0x0001];

const BRAINS: [u16; 10] = [0, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0x7f7f, 0x0080, 0x0001];

/// The words of all threads.
pub(super) fn words(input: Input, name: &str, threads: usize, each: usize) -> Vec<u32> {
    let mut g = Random(hash(name));
    let mut out = Vec::with_capacity(threads * each);
    for t in 0..threads {
        match input {
            Input::F64 => {
                for pair in 0..each / 2 {
                    let v = double(&mut g, t, pair);
                    out.extend([v as u32, (v >> 32) as u32]);
                }
            }
            _ => out.extend((0..each).map(|i| word(input, &mut g, t, i))),
        }
    }
    out
}

/// From 0 to below 1.
fn unit(g: &mut Random) -> f64 {
    (g.next() >> 11) as f64 / (1u64 << 53) as f64
}

/// The edge case of a thread, if this operand of it is one: the first two operands go through all pairs.
fn edge<T: Copy>(list: &[T], t: usize, operand: usize) -> Option<T> {
    let n = list.len();
    (t < n * n).then(|| {
        list[match operand {
            0 => t % n,
            1 => t / n,
            o => (t + o) % n,
        }]
    })
}

fn word(input: Input, g: &mut Random, t: usize, i: usize) -> u32 {
    let random = g.next();
    let float = |v: f64| (v as f32).to_bits();
    let small = |k: u32| (random >> (8 * k) & 0xff) as i64 % 9 - 4;
    match input {
        // Operands are every second word.
        Input::Bits if i.is_multiple_of(2) => edge(&WORDS, t, i / 2).unwrap_or(random as u32),
        Input::Bits => random as u32,
        Input::F32 => match (edge(&SINGLES, t, i / 2), random & 1) {
            (Some(v), _) => v,
            (None, 0) => (random >> 32) as u32,
            _ => float(unit(g) * 200.0 - 100.0),
        },
        Input::Range(low, high) => {
            let (low, high) = (f64::from(low), f64::from(high));
            // Ranges over many magnitudes are walked by magnitude.
            if low > 0.0 && high / low > 1e3 {
                float(low * (high / low).powf(unit(g)))
            } else {
                float(low + (high - low) * unit(g))
            }
        }
        Input::F16 | Input::Bf16 => {
            let list = if input == Input::F16 { &HALVES } else { &BRAINS };
            let moderate = |v: f64| if input == Input::F16 { f16(v) } else { (float(v) >> 16) as u16 };
            let mut half = |k: usize| match (edge(list, t, i / 2 + k), random >> 40 & 1) {
                (Some(v), _) => v,
                (None, 0) => (random >> (16 * k)) as u16,
                _ => moderate(unit(g) * 8.0 - 4.0),
            };
            u32::from(half(0)) | u32::from(half(1)) << 16
        }
        Input::F64 => 0,
        Input::WholeF16 => {
            if i < 6 {
                u32::from(f16(small(0) as f64)) | u32::from(f16(small(1) as f64)) << 16
            } else {
                float(small(2) as f64)
            }
        }
        Input::WholeBf16 => {
            if i < 6 {
                float(small(0) as f64) >> 16 | float(small(1) as f64) & 0xffff_0000
            } else {
                float(small(2) as f64)
            }
        }
        Input::WholeF32 => float(small(0) as f64),
        Input::UnitBf16 => {
            let mut v = || float(unit(g) * 2.0 - 1.0);
            if i < 6 { v() >> 16 | v() & 0xffff_0000 } else { v() }
        }
        Input::WholeE4m3 => {
            if i < 6 {
                // -4 to 4 in e4m3.
                const CODES: [u8; 9] = [0xc8, 0xc4, 0xc0, 0xb8, 0x00, 0x38, 0x40, 0x44, 0x48];
                u32::from_le_bytes(std::array::from_fn(|k| CODES[(small(k as u32) + 4) as usize]))
            } else {
                float(small(5) as f64)
            }
        }
    }
}

fn double(g: &mut Random, t: usize, operand: usize) -> u64 {
    let random = g.next();
    match (edge(&DOUBLES, t, operand), random & 1) {
        (Some(v), _) => v,
        (None, 0) => g.next(),
        _ => (unit(g) * 200.0 - 100.0).to_bits(),
    }
}

/// To f16, cutting what does not fit: operands need no rounding of their own.
fn f16(v: f64) -> u16 {
    let bits = (v as f32).to_bits();
    let exponent = (bits >> 23 & 255) as i32 - 112;
    if exponent <= 0 {
        return (bits >> 16 & 0x8000) as u16;
    }
    ((bits >> 16 & 0x8000) | (exponent as u32) << 10 | bits >> 13 & 0x3ff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_in_narrow_types() {
        for (v, want) in
            [(0.0, 0), (1.0, 0x3c00), (-2.0, 0xc000), (4.0, 0x4400), (-3.0, 0xc200), (0.5, 0x3800)]
        {
            assert_eq!(f16(v), want);
        }
        for w in words(Input::Range(1e-30, 1e30), "x", 256, 12) {
            assert!((1e-30..=1e30).contains(&f32::from_bits(w)));
        }
        let whole = words(Input::WholeF32, "x", 256, 12);
        let values: std::collections::BTreeSet<i32> =
            whole.iter().map(|w| f32::from_bits(*w) as i32).collect();
        assert_eq!(values, (-4..=4).collect());
    }
}
