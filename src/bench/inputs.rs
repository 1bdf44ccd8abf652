//! What: the inputs of benchmarks: normally distributed numbers that every program can make for itself.
//! Why here: competitors must compute on the same numbers, and a GPU must not be fed zeros, which it multiplies faster.
//! Pre: none.
//! Post: element `i` of an array is an entry of one table, chosen by a hash of `i` and the array's seed. The table is a
//! normal distribution by Box and Muller over a grid of 256 by 256 points.

use std::sync::OnceLock;

use tilewright_runtime::values::encode;

use crate::{Array, DType};

/// Entries of the table.
const ENTRIES: usize = 1 << 16;

/// The numbers that inputs are made of.
fn table() -> &'static [f64] {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let point = |k: usize| {
            let (u, v) = ((k >> 8) as f64 + 0.5, (k & 255) as f64 + 0.5);
            (-2.0 * (u / 256.0).ln()).sqrt() * (std::f64::consts::TAU * v / 256.0).cos()
        };
        (0..ENTRIES).map(point).collect()
    })
}

/// A hash of 32 bits.
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The seed of an array: FNV-1a over `CASE/ARRAY`, starting from the seed of the run.
pub fn seed_of(run: u32, case: &str, array: &str) -> u32 {
    let text = format!("{case}/{array}");
    text.bytes().fold(0x811c_9dc5 ^ run, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// An array of normally distributed numbers.
pub fn normal(dtype: DType, dims: &[u64], seed: u32) -> Array {
    let width = dtype.bytes();
    let encoded = encode(dtype, table().iter().copied());
    let count = usize::try_from(dims.iter().product::<u64>()).unwrap_or(usize::MAX);
    let mut data = vec![0; count * width];
    // Weights have hundreds of millions of elements.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let piece = count.div_ceil(threads).max(1 << 16);
    std::thread::scope(|scope| {
        for (at, part) in data.chunks_mut(piece * width).enumerate() {
            let encoded = &encoded;
            scope.spawn(move || {
                for (i, element) in part.chunks_exact_mut(width).enumerate() {
                    let k = (mix((at * piece + i) as u32 ^ seed) >> 16) as usize;
                    element.copy_from_slice(&encoded[k * width..(k + 1) * width]);
                }
            });
        }
    });
    Array { dtype, dims: dims.to_vec(), data }
}

/// An array of integers below `below`; different ones as far as there are enough.
pub fn integers(dims: &[u64], below: u64, distinct: bool, seed: u32) -> Array {
    let below = below.max(1);
    let count = dims.iter().product::<u64>();
    // Steps of a length that shares no factor with `below` meet every number.
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let start = u64::from(mix(seed)) % below;
    let mut stride = u64::from(mix(seed ^ 1)) % below;
    while gcd(stride, below) != 1 {
        stride += 1;
    }
    let value = |i: u64| match distinct {
        true => (start + (i % below) * stride) % below,
        false => u64::from(mix(i as u32 ^ seed)) % below,
    };
    let data = (0..count).flat_map(|i| (value(i) as i32).to_le_bytes()).collect();
    Array { dtype: DType::I32, dims: dims.to_vec(), data }
}

/// The last part of an array: `dims` of the array's extents, counted from the end of each.
pub fn last_part(array: &Array, dims: &[u64]) -> Array {
    let width = array.dtype.bytes();
    let mut data = Vec::new();
    let count = dims.iter().product::<u64>();
    for i in 0..count {
        let (mut rest, mut at, mut stride) = (i, 0, 1);
        for (&full, &part) in array.dims.iter().zip(dims).rev() {
            at += (full - part + rest % part) * stride;
            rest /= part;
            stride *= full;
        }
        let at = at as usize * width;
        data.extend_from_slice(&array.data[at..at + width]);
    }
    Array { dtype: array.dtype, dims: dims.to_vec(), data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_normally_distributed() {
        let a = normal(DType::F64, &[1000, 100], 7).values();
        let n = a.len() as f64;
        let mean = a.iter().sum::<f64>() / n;
        let moment = |p: i32| a.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03, "{mean} {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.15, "{}", moment(4));
        // Rows are not repetitions of each other, and other seeds are other numbers.
        assert_ne!(a[..100], a[100..200]);
        assert_ne!(a, normal(DType::F64, &[1000, 100], 8).values());
    }

    #[test]
    fn the_numbers_are_those_that_are_written_down() {
        // What peers.py makes of the same seeds.
        assert_eq!(seed_of(1, "linear", "X"), 0x08df_9a32);
        let a = normal(DType::F32, &[4], 5).values();
        let shown: Vec<String> = a.iter().map(|x| format!("{x:.6}")).collect();
        assert_eq!(shown, ["-0.192028", "-0.570540", "-1.002344", "0.704780"]);
    }

    #[test]
    fn distinct_integers_are_distinct() {
        for below in [1, 2, 32, 81, 128] {
            let mut all: Vec<f64> = integers(&[below], below, true, 3).values();
            all.sort_by(f64::total_cmp);
            assert_eq!(all, (0..below).map(|x| x as f64).collect::<Vec<_>>());
            assert!(integers(&[100], below, false, 3).values().iter().all(|&x| x < below as f64));
        }
    }

    #[test]
    fn parts_are_the_last_ones() {
        let a = Array::new(DType::I32, &[3, 4], &(0..12).map(f64::from).collect::<Vec<_>>()).unwrap();
        assert_eq!(last_part(&a, &[2, 2]).values(), [6., 7., 10., 11.]);
        assert_eq!(last_part(&a, &[3, 4]), a);
    }
}
