//! What: the kernels whose blocks or launches wait for each other, with the host's results.
//! Why here: beside `within`, which has those whose blocks go their own ways.
//! Pre: none.
//! Post: all blocks of a launch fit the device at once.

use crate::common::Rng;
use crate::host::{Arg, Case};
use crate::within::{case, given, go, made, mix, random, scratch};
use Arg::{At, U32};

/// Flags and counters start at zero.
fn zeros(name: &'static str, n: usize) -> crate::host::Buf {
    given(name, vec![0; n])
}

pub(crate) fn split_k(rng: &mut Rng) -> Case {
    let (rows, splits, tiles) = (11, 3, 2);
    let input = random(rng, tiles * rows * 64);
    let mut out = vec![0u32; tiles * 64];
    for tile in 0..tiles {
        for tid in 0..64 {
            let mut s = 0u32;
            for split in 0..splits {
                let mut part = 0u32;
                for r in (split..rows).step_by(splits) {
                    let v = input[(tile * rows + r) * 64 + (tid ^ 33)];
                    part = part.wrapping_add(v.wrapping_mul(r as u32 + 1));
                }
                s = s.wrapping_mul(5).wrapping_add(part);
            }
            out[tile * 64 + tid] = s;
        }
    }
    let mut g = go("split_k", splits as u32, 64, &[At(0), At(1), At(2), At(3), U32(rows as u32)]);
    g.grid[1] = tiles as u32;
    let part = scratch("part", tiles * splits * 64);
    case(vec![given("in", input), part, zeros("ticket", tiles), made("out", out)], vec![g])
}

fn chained(entry: &'static str, rng: &mut Rng) -> Case {
    let (rounds, blocks) = (3, 3);
    let input = random(rng, rounds * 64);
    let mut out = vec![0u32; rounds * 64];
    for r in 0..rounds {
        let row = &input[r * 64..][..64];
        let mut v = row.to_vec();
        for _ in 1..blocks {
            v = (0..64).map(|t| row[t].wrapping_add(v[t ^ 40].wrapping_mul(3))).collect();
        }
        out[r * 64..][..64].copy_from_slice(&v);
    }
    let g = go(entry, blocks as u32, 64, &[At(0), At(1), At(2), At(3), U32(rounds as u32)]);
    let data = scratch("data", blocks * rounds * 64);
    case(vec![given("in", input), data, zeros("flag", blocks), made("out", out)], vec![g])
}

pub(crate) fn chain(rng: &mut Rng) -> Case {
    chained("chain", rng)
}

pub(crate) fn chain_fence(rng: &mut Rng) -> Case {
    chained("chain_fence", rng)
}

pub(crate) fn grid_sync(rng: &mut Rng) -> Case {
    let (n, steps) = (151usize, 4);
    let input = random(rng, n);
    let mut x = input.clone();
    let mut before = vec![];
    for _ in 0..steps {
        let next = (0..n).map(|i| mix(x[i], x[if i + 1 < n { i + 1 } else { 0 }])).collect();
        before = std::mem::replace(&mut x, next);
    }
    let (mut a, b) = (given("x", input), made("y", before));
    a.want = Some(x);
    let g = go("steps", 3, 64, &[At(0), At(1), At(2), U32(n as u32), U32(steps)]);
    let mut c = case(vec![a, b, zeros("count", 1)], vec![g]);
    c.cooperative = true;
    c
}

pub(crate) fn lookback(rng: &mut Rng) -> Case {
    let (n, blocks) = (307usize, 5);
    let input = random(rng, n);
    let mut s = 0u32;
    let out = input.iter().map(|v| {
        s = s.wrapping_add(*v);
        s
    });
    let out = out.collect();
    let bufs = vec![
        given("in", input),
        made("out", out),
        zeros("state", blocks),
        scratch("sum", blocks),
        scratch("prefix", blocks),
        zeros("ticket", 1),
    ];
    let args = [At(0), At(1), At(2), At(3), At(4), At(5), U32(n as u32)];
    case(bufs, vec![go("lookback", blocks as u32, 64, &args)])
}

pub(crate) fn mailbox(rng: &mut Rng) -> Case {
    let (messages, blocks) = (3, 3);
    let input = random(rng, messages * 64);
    let mut out = vec![0u32; (blocks - 1) * 64];
    for (i, o) in out.iter_mut().enumerate() {
        for m in 0..messages {
            *o = mix(*o, input[m * 64 + ((i % 64) ^ 37)]);
        }
    }
    let bufs =
        vec![given("in", input), scratch("box", 64), zeros("posted", 1), zeros("taken", 1), made("out", out)];
    let args = [At(0), At(1), At(2), At(3), At(4), U32(messages as u32)];
    case(bufs, vec![go("mailbox", blocks as u32, 64, &args)])
}

pub(crate) fn queue(rng: &mut Rng) -> Case {
    let items = 7;
    let input = random(rng, items * 64);
    let out = (0..items * 64).map(|k| {
        let v = input[k ^ 1];
        v.wrapping_mul(v).wrapping_add((k / 64) as u32)
    });
    let out = out.collect();
    let g = go("queue", 2, 64, &[At(0), At(1), At(2), U32(items as u32)]);
    case(vec![given("in", input), made("out", out), zeros("head", 1)], vec![g])
}

pub(crate) fn spin_lock(rng: &mut Rng) -> Case {
    let (blocks, rounds) = (3, 3);
    let input = random(rng, blocks * rounds * 32);
    let mut sums = vec![0u32; 32];
    for (i, v) in input.iter().enumerate() {
        sums[i % 32] = sums[i % 32].wrapping_add(*v);
    }
    let (mut count, mut total) = (zeros("count", 1), zeros("sums", 32));
    count.want = Some(vec![(blocks * rounds) as u32]);
    total.want = Some(sums);
    let g = go("spin_lock", blocks as u32, 32, &[At(0), At(1), At(2), At(3), U32(rounds as u32)]);
    case(vec![given("in", input), zeros("lock", 1), count, total], vec![g])
}

pub(crate) fn constants(rng: &mut Rng) -> Case {
    let (table, input) = (random(rng, 7), random(rng, 64));
    let x: Vec<u32> = (0..64).map(|t| input[t].wrapping_mul(table[t % 7])).collect();
    let out = (0..128).map(|k| x[(k % 64) ^ 5].wrapping_add(table[1 + k / 64])).collect();
    let bufs =
        vec![given("table", table), given("in", input), scratch("x", 64), zeros("flag", 1), made("out", out)];
    case(bufs, vec![go("constants", 3, 64, &[At(0), At(1), At(2), At(3), At(4)])])
}

pub(crate) fn coresident(rng: &mut Rng) -> Case {
    let blocks = 4;
    let input = random(rng, blocks * 64);
    let out = (0..blocks * 64).map(|k| {
        let next = (k / 64 + 1) % blocks;
        input[next * 64 + ((k % 64) ^ 35)].wrapping_mul(5)
    });
    let out = out.collect();
    let bufs =
        vec![given("in", input), scratch("data", blocks * 64), zeros("flag", blocks), made("out", out)];
    case(bufs, vec![go("coresident", blocks as u32, 64, &[At(0), At(1), At(2), At(3)])])
}

pub(crate) fn cluster_sum(rng: &mut Rng) -> Case {
    let (ranks, clusters, rounds) = (4, 2, 3);
    let input = random(rng, ranks * clusters * rounds * 32);
    let part = |block: usize, r: usize, tid: usize| input[(block * rounds + r) * 32 + tid];
    let mut out = vec![0u32; input.len()];
    for (k, o) in out.iter_mut().enumerate() {
        let (block, r, tid) = (k / 32 / rounds, k / 32 % rounds, k % 32);
        let first = block / ranks * ranks;
        *o = (0..ranks).fold(0, |s, q| mix(s, part(first + q, r, tid ^ 9)));
    }
    let mut g = go("cluster_sum", (ranks * clusters) as u32, 32, &[At(0), At(1), U32(rounds as u32)]);
    g.cluster = ranks as u32;
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn cluster_push(rng: &mut Rng) -> Case {
    let (ranks, clusters, rounds) = (2, 2, 5);
    let blocks = ranks * clusters;
    let input = random(rng, blocks * 32);
    let mut v = input.clone();
    for _ in 0..rounds {
        let sent = v.clone();
        for (k, x) in v.iter_mut().enumerate() {
            let (block, tid) = (k / 32, k % 32);
            let from = block / ranks * ranks + (block + ranks - 1) % ranks;
            *x = mix(*x, sent[from * 32 + (tid ^ 1)]);
        }
    }
    let mut g = go("cluster_push", blocks as u32, 32, &[At(0), At(1), U32(rounds)]);
    g.cluster = ranks as u32;
    case(vec![given("in", input), made("out", v)], vec![g])
}

pub(crate) fn cluster_bulk(rng: &mut Rng) -> Case {
    let (ranks, clusters) = (4, 2);
    let input = random(rng, clusters * 64);
    let mut out = vec![];
    for c in 0..clusters {
        for rank in 1..ranks {
            out.extend((0..64).map(|t| input[c * 64 + (t ^ 1)].wrapping_mul(3).wrapping_add(rank)));
        }
    }
    let mut g = go("cluster_bulk", ranks * clusters as u32, 64, &[At(0), At(1)]);
    g.cluster = ranks;
    case(vec![given("in", input), made("out", out)], vec![g])
}

pub(crate) fn pdl(rng: &mut Rng) -> Case {
    let n = 4 * 32usize;
    let (input, table) = (random(rng, n), random(rng, 32));
    let f = [rng.u32(), rng.u32()];
    let result = |f: u32| (0..n).map(|i| mix(input[(i + 37) % n].wrapping_mul(f), table[i % 32])).collect();
    let x = input.iter().map(|v| v.wrapping_mul(f[1])).collect();
    let bufs = vec![
        given("in", input.clone()),
        given("table", table.clone()),
        made("x", x),
        made("out0", result(f[0])),
        made("out1", result(f[1])),
    ];
    let mut gos = vec![];
    for (i, factor) in f.into_iter().enumerate() {
        gos.push(go("produce", 4, 32, &[At(0), At(2), U32(factor)]));
        gos.push(go("consume", 4, 32, &[At(1), At(2), At(3 + i), U32(n as u32)]));
    }
    gos.iter_mut().skip(1).for_each(|g| g.pdl = true);
    case(bufs, gos)
}
