//! What: the kernels whose blocks do not wait for each other, with the host's results.
//! Why here: every specimen is a kernel, a launch that shows each of its bugs, and an independent oracle.
//! Pre: none.
//! Post: sizes are small, so that hundreds of mutants run in seconds, and odd, so that tails are there.

use crate::common::Rng;
use crate::host::{Arg, Buf, Case, Go};

/// A buffer that the host fills.
pub(crate) fn given(name: &'static str, v: Vec<u32>) -> Buf {
    Buf { name, words: v.len(), init: Some(v), want: None, any_order: false }
}

/// A buffer that the kernel fills.
pub(crate) fn made(name: &'static str, want: Vec<u32>) -> Buf {
    Buf { name, words: want.len(), init: None, want: Some(want), any_order: false }
}

/// A buffer between threads, whose end does not matter.
pub(crate) fn scratch(name: &'static str, words: usize) -> Buf {
    Buf { name, words, init: None, want: None, any_order: false }
}

pub(crate) fn random(rng: &mut Rng, n: usize) -> Vec<u32> {
    (0..n).map(|_| rng.u32()).collect()
}

pub(crate) fn go(entry: &'static str, grid: u32, block: u32, args: &[Arg]) -> Go {
    Go {
        entry,
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        cluster: 1,
        shared: 0,
        pdl: false,
        args: args.to_vec(),
    }
}

pub(crate) fn case(bufs: Vec<Buf>, gos: Vec<Go>) -> Case {
    Case { bufs, gos, cooperative: false, registers: 0, profile: "tiny4" }
}

/// `a * 3 + b`, the running mix of several kernels.
pub(crate) fn mix(a: u32, b: u32) -> u32 {
    a.wrapping_mul(3).wrapping_add(b)
}

use Arg::{At, U32};

pub(crate) fn matmul(rng: &mut Rng) -> Case {
    let (m, n, k) = (13usize, 11usize, 19usize);
    let mut ints = |len: usize| -> Vec<i32> { (0..len).map(|_| rng.below(33) as i32 - 16).collect() };
    let (a, b) = (ints(m * k), ints(k * n));
    let mut c = vec![0u32; m * n];
    for i in 0..m {
        for j in 0..n {
            let s: i32 = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            c[i * n + j] = (s as f32).to_bits();
        }
    }
    let bits = |v: &[i32]| v.iter().map(|x| (*x as f32).to_bits()).collect();
    let sizes = [U32(m as u32), U32(n as u32), U32(k as u32)];
    let args = [At(0), At(1), At(2), sizes[0], sizes[1], sizes[2]];
    let mut g = go("matmul", 2, 8, &args);
    (g.grid[1], g.block[1]) = (2, 8);
    case(vec![given("a", bits(&a)), given("b", bits(&b)), made("c", c)], vec![g])
}

/// Both kernels that copy 256 words per tile with cp.async and read others' words.
fn copied(entry: &'static str, tiles: usize, rng: &mut Rng) -> Case {
    let input = random(rng, 2 * tiles * 256);
    let mut out = vec![0u32; 2 * 64];
    for b in 0..2 {
        for tid in 0..64 {
            for t in 0..tiles {
                for i in 0..4 {
                    let v = input[(b * tiles + t) * 256 + ((tid * 5 + 64 * i + 37) & 255)];
                    out[b * 64 + tid] = mix(out[b * 64 + tid], v);
                }
            }
        }
    }
    let g = go(entry, 2, 64, &[At(0), At(1), U32(tiles as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn cp_pipe(rng: &mut Rng) -> Case {
    copied("cp_pipe", 7, rng)
}

pub(crate) fn cp_mbar(rng: &mut Rng) -> Case {
    copied("cp_mbar", 7, rng)
}

pub(crate) fn bulk_ring(rng: &mut Rng) -> Case {
    let tiles = 8;
    let input = random(rng, 2 * tiles * 64);
    let mut out = vec![0u32; 2 * 64];
    for b in 0..2 {
        for u in 0..64 {
            for t in 0..tiles {
                let tile = &input[(b * tiles + t) * 64..][..64];
                let o = &mut out[b * 64 + u];
                *o = mix(*o, tile[u % 32]).wrapping_add(tile[63 - u % 32]);
            }
        }
    }
    let g = go("bulk_ring", 2, 96, &[At(0), At(1), U32(tiles as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn bulk_store(rng: &mut Rng) -> Case {
    let tiles = 5;
    let input = random(rng, 2 * 64);
    let mut out = vec![0u32; 2 * tiles * 64];
    for b in 0..2 {
        for tid in 0..64 {
            let mut v = input[b * 64 + tid];
            for t in 0..tiles {
                v = v.wrapping_mul(5).wrapping_add(t as u32);
                out[(b * tiles + t) * 64 + (tid ^ 1)] = v;
            }
        }
    }
    let g = go("bulk_store", 2, 64, &[At(0), At(1), U32(tiles as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn named_bars(rng: &mut Rng) -> Case {
    let rounds = 7;
    let input = random(rng, 2 * rounds * 32);
    let mut out = vec![0u32; 64];
    for b in 0..2 {
        for lane in 0..32 {
            for t in 0..rounds {
                let v = input[(b * rounds + t) * 32 + 31 - lane].wrapping_mul(7);
                out[b * 32 + lane] = mix(out[b * 32 + lane], v);
            }
        }
    }
    let g = go("named_bars", 2, 64, &[At(0), At(1), U32(rounds as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn warp_tree(rng: &mut Rng) -> Case {
    let input = random(rng, 128);
    let out = (0..128).map(|i| {
        let sum = input[i / 32 * 32..][..32].iter().fold(0u32, |s, v| s.wrapping_add(*v));
        sum.wrapping_add(i as u32 % 32)
    });
    let out = out.collect();
    case(vec![given("in", input), made("out", out)], vec![go("warp_tree", 2, 64, &[At(0), At(1)])])
}

pub(crate) fn elected(rng: &mut Rng) -> Case {
    let rounds = 5;
    let input = random(rng, 4 * rounds);
    let out = (0..128).map(|i| {
        let acc = input[i / 32 * rounds..][..rounds].iter().fold(0, |a, v| mix(a, *v));
        acc.wrapping_add(i as u32 % 64)
    });
    let out = out.collect();
    let g = go("elected", 2, 64, &[At(0), At(1), U32(rounds as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn block_reduce(rng: &mut Rng) -> Case {
    let (rows, n) = (3, 149);
    let input = random(rng, rows * n);
    let out = input.chunks(n).map(|r| r.iter().fold(0u32, |s, v| s.wrapping_add(*v))).collect();
    let g = go("block_reduce", 1, 128, &[At(0), At(1), U32(rows as u32), U32(n as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn histogram(rng: &mut Rng) -> Case {
    let n = 199;
    let input = random(rng, n);
    let mut out = vec![0u32; 16];
    input.iter().for_each(|v| out[*v as usize % 16] += 1);
    let mut merged = made("out", out);
    merged.init = Some(vec![0; 16]);
    case(vec![given("in", input), merged], vec![go("histogram", 2, 64, &[At(0), At(1), U32(n as u32)])])
}

pub(crate) fn transpose(rng: &mut Rng) -> Case {
    let (rows, cols) = (19, 29);
    let input = random(rng, rows * cols);
    let out = (0..rows * cols).map(|i| input[i % rows * cols + i / rows]).collect();
    let mut g = go("transpose", 2, 16, &[At(0), At(1), U32(rows as u32), U32(cols as u32)]);
    (g.grid[1], g.block[1]) = (2, 4);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn stencil(rng: &mut Rng) -> Case {
    let n = 151usize;
    let input = random(rng, n);
    let at = |i: Option<usize>| i.and_then(|i| input.get(i)).copied().unwrap_or(0);
    let out = (0..n).map(|i| {
        let (l, r) = (at(i.checked_sub(1)), at(Some(i + 1)));
        l.wrapping_add(input[i].wrapping_mul(2)).wrapping_add(r.wrapping_mul(4))
    });
    let out = out.collect();
    case(
        vec![given("in", input), made("out", out)],
        vec![go("stencil", 3, 64, &[At(0), At(1), U32(n as u32)])],
    )
}

pub(crate) fn roles(rng: &mut Rng) -> Case {
    let tiles = 5;
    let input = random(rng, tiles * 128);
    let mut out = vec![0u32; 128];
    for (tid, o) in out.iter_mut().enumerate() {
        for t in 0..tiles {
            *o = mix(*o, input[t * 128 + (tid ^ 33)].wrapping_mul(3));
        }
    }
    let g = go("roles", 1, 256, &[At(0), At(1), U32(tiles as u32)]);
    let mut c = case(vec![given("in", input), made("out", out)], vec![g]);
    // 256 threads of 152 registers are enough for 128 of 40 and 128 of 232.
    c.registers = 152;
    c
}

pub(crate) fn gemm_mma(rng: &mut Rng) -> Case {
    let (m, n, k) = (32usize, 32usize, 48usize);
    let mut ints = |len: usize| -> Vec<i32> { (0..len).map(|_| rng.below(17) as i32 - 8).collect() };
    let (a, b) = (ints(m * k), ints(k * n));
    // bf16 is the upper half of f32, and these integers fit it. `a` lies by tiles of 32 x 16, one after the other.
    let bits = |v: i32| (v as f32).to_bits() >> 16;
    let words = |v: &[i32]| v.chunks(2).map(|c| bits(c[0]) | bits(c[1]) << 16).collect::<Vec<_>>();
    let by_tiles: Vec<i32> = (0..m * k).map(|i| a[i / 16 % m * k + i / 16 / m * 16 + i % 16]).collect();
    let mut c = vec![0u32; m * n];
    for i in 0..m {
        for j in 0..n {
            let s: i32 = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            c[i * n + j] = (s as f32).to_bits();
        }
    }
    let args = [At(0), At(1), At(2), U32(n as u32), U32(k as u32)];
    case(
        vec![given("a", words(&by_tiles)), given("b", words(&b)), made("c", c)],
        vec![go("gemm_mma", 2, 128, &args)],
    )
}

pub(crate) fn bulk_reduce(rng: &mut Rng) -> Case {
    let rows = 7;
    let (input, start) = (random(rng, rows * 64), random(rng, 64));
    let mut out = made("out", start.clone());
    out.init = Some(start.clone());
    out.want = Some(
        (0..64).map(|t| (0..rows).fold(start[t], |s, r| s.wrapping_add(input[r * 64 + (t ^ 33)]))).collect(),
    );
    case(vec![given("in", input), out], vec![go("bulk_reduce", 3, 64, &[At(0), At(1), U32(rows as u32)])])
}

pub(crate) fn settle(rng: &mut Rng) -> Case {
    let input = random(rng, 128);
    let (mut out, mut steps) = (vec![], vec![]);
    for ring in input.chunks(64) {
        let best = *ring.iter().max().unwrap();
        out.extend([best; 64]);
        // The largest value travels one place per step; the last step only finds that nothing changes.
        let far = (0..64).map(|t| (0..64).find(|d| ring[(t + 64 - d) % 64] == best).unwrap()).max();
        steps.push(far.unwrap() as u32 + 1);
    }
    let bufs = vec![given("in", input), made("out", out), made("steps", steps)];
    case(bufs, vec![go("settle", 2, 64, &[At(0), At(1), At(2)])])
}
