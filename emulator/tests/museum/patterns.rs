//! What: kernels of patterns that a check may take for bugs: causality through third parties, volatile flags, masks of
//! lanes, memory that is used again, launches that follow each other.
//! Why here: beside `within` and `between`; these are there for what must not be found.
//! Pre: none.
//! Post: results do not depend on the order of blocks, or are compared without it.

use crate::common::Rng;
use crate::host::{Arg, Buf, Case};
use crate::within::{case, given, go, made, mix, random, scratch};
use Arg::{At, U32};

/// Flags and counters start at zero.
fn zeros(name: &'static str, n: usize) -> Buf {
    given(name, vec![0; n])
}

pub(crate) fn ticket_lock(rng: &mut Rng) -> Case {
    let (blocks, rounds) = (3, 2);
    let input = random(rng, blocks * rounds * 64);
    let sums = (0..64).map(|t| (0..blocks * rounds).fold(0, |s, k| mix(s, input[k * 64 + t]))).collect();
    let mut total = zeros("sums", 64);
    total.want = Some(sums);
    let g = go("ticket_lock", blocks as u32, 64, &[At(0), At(1), At(2), At(3), U32(rounds as u32)]);
    case(vec![given("in", input), zeros("next", 1), zeros("turn", 1), total], vec![g])
}

/// The kernels in which block 0's values reach the last block through others.
fn passed_on(entry: &'static str, blocks: u32, rng: &mut Rng) -> Case {
    let input = random(rng, 64);
    let out = (0..64).map(|t| input[t ^ 43].wrapping_mul(7)).collect();
    let bufs = vec![given("in", input), scratch("data", 64), zeros("flag", 2), made("out", out)];
    case(bufs, vec![go(entry, blocks, 64, &[At(0), At(1), At(2), At(3)])])
}

pub(crate) fn relay(rng: &mut Rng) -> Case {
    passed_on("relay", 4, rng)
}

pub(crate) fn handover(rng: &mut Rng) -> Case {
    passed_on("handover", 3, rng)
}

pub(crate) fn semaphore(rng: &mut Rng) -> Case {
    let blocks = 3;
    let (input, start) = (random(rng, blocks * 64), random(rng, 64));
    let mut tile = given("tile", start.clone());
    tile.want = Some((0..64).map(|t| (0..blocks).fold(start[t], |s, b| mix(s, input[b * 64 + t]))).collect());
    let g = go("semaphore", blocks as u32, 64, &[At(0), At(1), At(2)]);
    case(vec![given("in", input), tile, zeros("state", 1)], vec![g])
}

pub(crate) fn packed_scan(rng: &mut Rng) -> Case {
    let (n, blocks) = (149usize, 5);
    let input = random(rng, n);
    let mut s = 0u32;
    let out = input.iter().map(|v| {
        s = s.wrapping_add(*v);
        s
    });
    let out = out.collect();
    let bufs = vec![given("in", input), made("out", out), zeros("state", 2 * blocks), zeros("ticket", 1)];
    case(bufs, vec![go("packed_scan", blocks as u32, 32, &[At(0), At(1), At(2), At(3), U32(n as u32)])])
}

pub(crate) fn warp_flag(rng: &mut Rng) -> Case {
    let (blocks, rounds) = (2, 4);
    let input = random(rng, blocks * rounds * 32);
    let mut out = vec![0u32; blocks * 32];
    for (k, o) in out.iter_mut().enumerate() {
        let row = |t: usize| input[(k / 32 * rounds + t) * 32 + 31 - k % 32];
        *o = (0..rounds).fold(0, |a, t| mix(a, row(t)));
    }
    let g = go("warp_flag", blocks as u32, 64, &[At(0), At(1), U32(rounds as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn pingpong(rng: &mut Rng) -> Case {
    let (blocks, rounds) = (2, 3);
    let input = random(rng, blocks * 64);
    let mut out = input.clone();
    for block in out.chunks_mut(64) {
        let mut tile = block[..32].to_vec();
        for turn in 0..2 * rounds {
            let warp = &mut block[turn % 2 * 32..][..32];
            for (lane, v) in warp.iter_mut().enumerate() {
                *v = mix(*v, tile[31 - lane]);
            }
            tile.copy_from_slice(warp);
        }
    }
    let g = go("pingpong", blocks as u32, 64, &[At(0), At(1), U32(rounds as u32)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn recycled(rng: &mut Rng) -> Case {
    let (blocks, rounds) = (2, 3);
    let input = random(rng, blocks * 64);
    let mut out = input.clone();
    for block in out.chunks_mut(64) {
        for _ in 0..rounds {
            let data = block.to_vec();
            for (t, v) in block.iter_mut().enumerate() {
                *v = mix(*v, data[t ^ 33]);
            }
            let first = block[0];
            block.iter_mut().for_each(|v| *v = v.wrapping_add(first));
        }
    }
    let g = go("recycled", blocks as u32, 64, &[At(0), At(1), U32(rounds)]);
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn compact(rng: &mut Rng) -> Case {
    let n = 109usize;
    let input = random(rng, n);
    let kept: Vec<u32> = input.iter().copied().filter(|v| v % 3 == 0).collect();
    let mut count = zeros("count", 1);
    count.want = Some(vec![kept.len() as u32]);
    let mut out = made("out", kept);
    out.any_order = true;
    case(
        vec![given("in", input), out, count],
        vec![go("compact", 2, 64, &[At(0), At(1), At(2), U32(n as u32)])],
    )
}

pub(crate) fn groups(rng: &mut Rng) -> Case {
    let input = random(rng, 128);
    let mut out = vec![];
    for (g, eight) in input.chunks(8).enumerate() {
        let sum = eight.iter().fold(0u32, |s, v| s.wrapping_add(*v));
        out.extend([if g % 2 == 1 { eight[7].wrapping_mul(5) } else { sum }; 8]);
    }
    case(vec![given("in", input), made("out", out)], vec![go("groups", 2, 64, &[At(0), At(1)])])
}

pub(crate) fn zero_fill(rng: &mut Rng) -> Case {
    let n = 167usize;
    let input = random(rng, n);
    let mut out = vec![0u32; 64];
    for (k, o) in out.iter_mut().enumerate() {
        let at = |i: usize| input.get(k / 32 * 128 + i).copied().unwrap_or(0);
        *o = (k % 32..128).step_by(32).fold(0, |v, i| mix(v, at(127 - i)));
    }
    case(
        vec![given("in", input), made("out", out)],
        vec![go("zero_fill", 2, 32, &[At(0), At(1), U32(n as u32)])],
    )
}

pub(crate) fn two_passes(rng: &mut Rng) -> Case {
    let blocks = 3;
    let inputs = [random(rng, blocks * 64), random(rng, blocks * 64)];
    let mut bufs = vec![scratch("part", blocks), zeros("count", 1), scratch("total", 1)];
    let mut gos = vec![];
    for input in inputs {
        let part: Vec<u32> =
            input.chunks(64).map(|c| c.iter().fold(0u32, |s, v| s.wrapping_add(*v))).collect();
        let total = part.iter().fold(0, |t, p| mix(t, *p));
        let out = (0..64u32).map(|i| i.wrapping_mul(total).wrapping_add(part[i as usize % 3])).collect();
        let at = bufs.len();
        bufs.extend([given("in", input), made("out", out)]);
        gos.push(go("sum_parts", blocks as u32, 64, &[At(at), At(0), At(1), At(2)]));
        gos.push(go("scale", 2, 32, &[At(0), At(2), At(at + 1)]));
    }
    case(bufs, gos)
}

pub(crate) fn both_see(_: &mut Rng) -> Case {
    let bufs = vec![zeros("x", 1024), zeros("y", 1024), scratch("saw", 64), made("out", vec![1; 32])];
    case(bufs, vec![go("look", 2, 32, &[At(0), At(1), At(2)]), go("judge", 1, 32, &[At(2), At(3)])])
}

pub(crate) fn cluster_hist(rng: &mut Rng) -> Case {
    let (ranks, clusters, n) = (4usize, 2usize, 227usize);
    let input: Vec<u32> = random(rng, n).iter().map(|v| v >> 1).collect();
    let mut out = vec![0u32; ranks * clusters * 8];
    for (i, v) in input.iter().enumerate() {
        let first = i / 32 / ranks * ranks;
        out[(first + *v as usize / 8 % ranks) * 8 + *v as usize % 8] += 1;
    }
    let mut g = go("cluster_hist", (ranks * clusters) as u32, 32, &[At(0), At(1), U32(n as u32)]);
    g.cluster = ranks as u32;
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn persistent(rng: &mut Rng) -> Case {
    let (tiles, steps) = (7, 3);
    let input = random(rng, tiles * steps * 64);
    let out = (0..tiles * 64).map(|k| {
        let at = |s: usize| input[(k / 64 * steps + s) * 64 + ((k % 64) ^ 41)];
        (0..steps).fold(0, |a, s| mix(a, at(s)))
    });
    let out = out.collect();
    case(
        vec![given("in", input), made("out", out)],
        vec![go("persistent", 2, 96, &[At(0), At(1), U32(tiles as u32)])],
    )
}
