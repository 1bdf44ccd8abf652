//! What: `wmma` of every shape, type and layout against plain matrix products.
//! Why here: its fragments are the machine's own choice, so only whole products can be checked; these go through
//! memory with lines longer than the tile, in every space, together and apart.
//! Pre: tests/ptx/wmma.ptx for what NVRTC makes of nvcuda::wmma.
//! Post: small integers exact, random values within bounds; a wrong layout, order of registers, pointer or stride shows.

mod checks;
mod form;

use crate::common::{Arg, Machine, Rng};
use form::{Form, SPACES, bound, decode, encode, kinds, layouts, size, values};
use half::f16;

#[test]
fn products() {
    let mut runs = 0;
    for (i, kind) in kinds().iter().enumerate() {
        for (j, f) in layouts(kind).iter().enumerate() {
            for (s, space) in SPACES.iter().enumerate() {
                // Lines that follow each other (without a stride in the text), and lines apart.
                for pad in [0, 16] {
                    let seed = (10_000 * i + 100 * j + 10 * s + pad / 16) as u64;
                    let f = Form { space, pad, ..f.clone() };
                    let mut g = Rng::new(seed);
                    let small = values(&f, &mut g, true);
                    let schedule = [None, Some(seed)][(j + s) % 2];
                    let (d, counters) = f.run(&small, schedule).unwrap_or_else(|e| panic!("{f:?}: {e}"));
                    assert_eq!(f.wrong(&small, &d, 0.0), 0, "{f:?} with seed {seed}");
                    let (m, n, k) = f.shape;
                    assert_eq!(counters.tensor_flops.values().sum::<u64>(), (2 * m * n * k) as u64, "{f:?}");
                    assert_eq!(counters.mix.iter().filter(|(k, _)| k.starts_with("wmma.mma")).count(), 1);
                    if s == 0 {
                        let moved = |i: usize| (f.dims(i).0 * f.dims(i).1 * size(f.types[i])) as u64;
                        assert_eq!(counters.global_read_bytes, moved(0) + moved(1) + moved(2), "{f:?}");
                        assert_eq!(counters.global_write_bytes, moved(3), "{f:?}");
                        assert!(counters.mix.values().all(|v| *v < 100));
                    }
                    let any = values(&f, &mut g, false);
                    let (d, _) = f.run(&any, [None, Some(seed)][(j + s + 1) % 2]).unwrap();
                    assert_eq!(f.wrong(&any, &d, bound(&f)), 0, "{f:?} with seed {seed}, any values");
                    runs += 2;
                }
            }
        }
    }
    println!("{runs} products");
}

/// The test would notice: each of these says something that is not so.
#[test]
fn wrong_forms_show() {
    let flip = |l: &'static str| if l == "row" { "col" } else { "row" };
    let (mut lies, mut silent) = (0, vec![]);
    for (i, kind) in kinds().iter().enumerate() {
        for f in layouts(kind).into_iter().step_by(5) {
            let f = Form { pad: 32, ..f };
            let mut g = Rng::new(i as u64);
            let x = values(&f, &mut g, true);
            let shows = |bad: &Form| match bad.run(&x, None) {
                Ok((d, _)) => bad.wrong(&x, &d, 0.0) > 0,
                Err(_) => true,
            };
            for op in 0..4 {
                let mut bad = f.clone();
                bad.said[op] = flip(f.said[op]);
                if op < 2 {
                    // Consistently, so that only the place in memory is wrong.
                    bad.product[op] = bad.said[op];
                }
                assert!(shows(&bad), "{bad:?} is right all the same");
                lies += 1;
            }
            for op in 0..2 {
                let mut bad = f.clone();
                bad.product[op] = flip(f.product[op]);
                // A single register has no order.
                if f.registers(op) == 1 {
                    silent.push(format!("{} {}", f.name(), f.types[op]));
                } else {
                    assert!(shows(&bad), "{bad:?} is right all the same");
                }
                lies += 1;
            }
            for op in 0..4 {
                let n = f.registers(op);
                // The factors' f16 registers repeat; exchanging the first two always matters.
                if n > 1 {
                    let bad = Form { exchange: Some((op, 0, 1)), ..f.clone() };
                    assert!(shows(&bad), "{bad:?} is right all the same");
                    lies += 1;
                }
            }
        }
    }
    silent.sort();
    silent.dedup();
    println!("{lies} wrong forms; layouts that a product cannot tell: {silent:?}");
}

const CUDA: &str = include_str!("../ptx/wmma.ptx");

/// What NVRTC makes of nvcuda::wmma.
#[test]
fn kernels_of_nvrtc() {
    // (entry, type of A and B, type of C, whether A is of rows and B of columns, tile)
    for (entry, ty, sum, a_rows, b_cols, (tm, tn)) in [
        ("direct_f16", "f16", "f32", true, true, (16, 16)),
        ("direct_f16_tall", "f16", "f16", true, true, (32, 8)),
        ("direct_bf16_wide", "bf16", "f32", true, false, (8, 32)),
        ("direct_tf32", "f32", "f32", false, false, (16, 16)),
        ("direct_s8", "s8", "s32", true, true, (16, 16)),
        ("direct_u8_tall", "u8", "s32", true, true, (32, 8)),
        ("direct_f64", "f64", "f64", true, true, (8, 8)),
    ] {
        let (m, n, k) = (64usize, 96usize, 80usize);
        for seed in [None, Some(1), Some(2)] {
            let mut g = Rng::new(seed.unwrap_or(0) + 5);
            let lowest = if ty == "u8" { 0.0 } else { -3.0 };
            let mut make = |n: usize| -> Vec<f64> { (0..n).map(|_| g.below(7) as f64 + lowest).collect() };
            let (a, b) = (make(m * k), make(k * n));
            let bytes = |v: &dyn Fn(usize) -> f64, n: usize| -> Vec<u8> {
                (0..n).flat_map(|i| encode(ty, v(i))).collect()
            };
            let mem_a = bytes(&|i| if a_rows { a[i] } else { a[i % m * k + i / m] }, m * k);
            let mem_b = bytes(&|i| if b_cols { b[i % k * n + i / k] } else { b[i] }, k * n);
            let mut x = Machine::new(CUDA);
            x.options.seed = seed;
            let (pa, pb) = (x.put("a", &mem_a), x.put("b", &mem_b));
            let w = size(sum);
            let pc = x.zeros::<u8>("c", m * n * w);
            let tiles = (m / tm) * (n / tn);
            let sizes = [m, n, k].map(|v| Arg::I32(v as i32));
            let args =
                [Arg::Ptr(pa), Arg::Ptr(pb), Arg::Ptr(pc)].into_iter().chain(sizes).collect::<Vec<_>>();
            let counters = x.run(entry, tiles.div_ceil(4) as u32, 128, &args);
            assert_eq!(counters.tensor_flops.values().sum::<u64>(), (2 * m * n * k) as u64);
            let c: Vec<u8> = x.get(pc, m * n * w);
            for (i, v) in c.chunks(w).enumerate() {
                let want: f64 = (0..k).map(|q| a[i / n * k + q] * b[q * n + i % n]).sum();
                assert_eq!(decode(sum, v), want, "{entry} C[{}][{}] under {seed:?}", i / n, i % n);
            }
        }
    }
}

/// Shared memory with padded lines, several warps, and fragments that are scaled, added and narrowed by element.
#[test]
fn blocked_product() {
    let (m, n, k) = (128usize, 64usize, 96usize);
    for seed in [None, Some(1), Some(2), Some(3)] {
        let mut g = Rng::new(seed.unwrap_or(0) + 9);
        let halves =
            |g: &mut Rng, n: usize| -> Vec<f16> { (0..n).map(|_| f16::from_f64(g.f64(-1.0, 1.0))).collect() };
        let (a, b) = (halves(&mut g, m * k), halves(&mut g, n * k));
        let c: Vec<f32> = (0..m * n).map(|_| g.f64(-1.0, 1.0) as f32).collect();
        let mut x = Machine::new(CUDA);
        x.options.seed = seed;
        let bits = |v: &[f16]| -> Vec<u16> { v.iter().map(|h| h.to_bits()).collect() };
        let (pa, pb) = (x.put("a", &bits(&a)), x.put("b", &bits(&b)));
        let (pc, ph) = (x.put("c", &c), x.zeros::<u16>("h", m * n));
        let (alpha, beta) = (0.75f32, -1.5f32);
        let numbers = [Arg::I32(n as i32), Arg::I32(k as i32), Arg::F32(alpha), Arg::F32(beta)];
        let args: Vec<Arg> = [pa, pb, pc, ph].map(Arg::Ptr).into_iter().chain(numbers).collect();
        let r = x.launched("blocked", [(n / 64) as u32, (m / 64) as u32, 1], 128, &args).unwrap();
        assert!(r.findings.is_empty(), "{:?}", r.findings.first());
        let h: Vec<u16> = x.get(ph, m * n);
        for (i, v) in h.into_iter().enumerate() {
            let sum: f64 = (0..k).map(|q| a[i / n * k + q].to_f64() * b[i % n * k + q].to_f64()).sum();
            let want = f64::from(alpha) * sum + f64::from(beta) * f64::from(c[i]);
            let got = f16::from_bits(v).to_f64();
            assert!(
                (got - want).abs() <= want.abs() * 2f64.powi(-10) + 1e-5,
                "C[{}][{}]: {got}, not {want}",
                i / n,
                i % n
            );
        }
    }
}
