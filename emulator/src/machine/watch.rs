//! What: the shadow state of the checks: vector clocks of the threads of a block and the last accesses to each byte.
//! Why here: a block runs on one host thread, so its clocks need no locks; what blocks share is a table of
//! atomics.
//! Pre: one call per access and per synchronisation, in the order in which they happen.
//! Post: an access that is not ordered after the last conflicting one is recorded, once per pair of instructions.

use super::context::Context;
use super::place::{Access, Place};
use crate::inst::Space;
use crate::sanitize::{FindingKind, Sanitize};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A finding before its places are named.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) pc: u32,
    pub(crate) thread: Option<u32>,
    pub(crate) other: Option<(Option<u32>, u32)>,
    pub(crate) message: String,
}

/// Findings by kind and instructions.
pub(crate) type Found = BTreeMap<(FindingKind, u32, u32), Raw>;

#[derive(Debug, Clone, Copy, Default)]
struct Write {
    thread: u32,
    /// 0 for none.
    stamp: u32,
    pc: u32,
    strong: bool,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    warp: u32,
    lanes: u32,
    stamp: u32,
    pc: u32,
    strong: bool,
}

/// The last accesses to a byte.
#[derive(Debug, Clone, Default)]
struct Cell {
    write: Write,
    reads: Vec<Read>,
}

/// Reads remembered per byte; more are forgotten, the oldest first.
const READS: usize = 64;
/// Bytes whose cells are made together.
const PAGE: u64 = 1024;
/// Addresses with clocks of their own; all others share one, which orders more than there is.
const SYNCS: usize = 4096;

/// The shadow state of a block.
pub(crate) struct Watch {
    checks: Sanitize,
    threads: usize,
    /// Row `t` holds, per thread, the stamp up to which `t` knows it.
    clocks: Vec<u32>,
    /// Rises with every access of a warp.
    now: u32,
    barriers: Vec<Vec<u32>>,
    syncs: HashMap<(u32, u64), Vec<u32>>,
    pages: HashMap<(u32, u64), Vec<Cell>>,
    /// The lane that issued the copy at hand, whose pieces are no lanes.
    pub(crate) issuer: Option<u32>,
    pub(crate) found: Found,
}

fn join(into: &mut [u32], from: &[u32]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a = (*a).max(*b);
    }
}

impl Watch {
    pub(crate) fn new(checks: Sanitize, threads: u32) -> Watch {
        // Lanes beyond the block's threads never run, but whole warps are simpler.
        let threads = threads.div_ceil(32) as usize * 32;
        Watch {
            checks,
            threads,
            clocks: vec![0; if checks.race { threads * threads } else { 0 }],
            now: 0,
            barriers: vec![vec![]; 16],
            syncs: HashMap::new(),
            pages: HashMap::new(),
            issuer: None,
            found: Found::new(),
        }
    }

    /// Forgets a block.
    pub(crate) fn reset(&mut self) {
        self.clocks.fill(0);
        self.now = 0;
        self.barriers.iter_mut().for_each(Vec::clear);
        self.syncs.clear();
        self.pages.clear();
    }

    fn clock(&mut self, t: usize) -> &mut [u32] {
        &mut self.clocks[t * self.threads..(t + 1) * self.threads]
    }

    /// What a thread knows, with all that it did itself.
    fn publish(&mut self, t: usize) -> &[u32] {
        let now = self.now;
        let c = self.clock(t);
        c[t] = now;
        c
    }

    /// Lanes arrive at a barrier of the block.
    pub(crate) fn arrive(&mut self, id: u32, warp: u32, lanes: u32) {
        if !self.checks.race {
            return;
        }
        let mut acc = std::mem::take(&mut self.barriers[id as usize % 16]);
        acc.resize(self.threads, 0);
        for l in (0..32).filter(|l| lanes >> l & 1 != 0) {
            join(&mut acc, self.publish((32 * warp + l) as usize));
        }
        self.barriers[id as usize % 16] = acc;
        self.now += 1;
    }

    /// Lanes that waited at a barrier go on.
    pub(crate) fn leave(&mut self, id: u32, warp: u32, lanes: u32) {
        if !self.checks.race {
            return;
        }
        let acc = std::mem::take(&mut self.barriers[id as usize % 16]);
        for l in (0..32).filter(|l| lanes >> l & 1 != 0) {
            join(self.clock((32 * warp + l) as usize), &acc);
        }
        self.barriers[id as usize % 16] = acc;
    }

    /// A barrier begins anew.
    pub(crate) fn renew(&mut self, id: u32) {
        self.barriers[id as usize % 16].clear();
    }

    /// Lanes of a warp synchronise.
    pub(crate) fn together(&mut self, warp: u32, lanes: u32) {
        if !self.checks.race {
            return;
        }
        let mut acc = vec![0; self.threads];
        let each = || (0..32).filter(|l| lanes >> l & 1 != 0).map(|l| (32 * warp + l) as usize);
        for t in each() {
            join(&mut acc, self.publish(t));
        }
        for t in each() {
            self.clock(t).copy_from_slice(&acc);
        }
        self.now += 1;
    }

    /// A barrier that a warp must execute as a whole meets some of its lanes.
    pub(crate) fn parted(&mut self, pc: u32, warp: u32, exec: u32, live: u32) {
        if self.checks.barrier && exec != live {
            let thread = Some(32 * warp + exec.trailing_zeros());
            let message = format!(
                "an aligned barrier executed by lanes {exec:#010x} of a warp whose live lanes are {live:#010x}: \
                 make the branch uniform, or use barrier without .aligned"
            );
            let raw = Raw { pc, thread, other: None, message };
            self.found.entry((FindingKind::Barrier, pc, 0)).or_insert(raw);
        }
    }

    /// Whoever meets at an address is ordered.
    fn sync(&mut self, key: (u32, u64), t: usize, acquires: bool, releases: bool) {
        let key = if self.syncs.len() < SYNCS || self.syncs.contains_key(&key) { key } else { (u32::MAX, 0) };
        let mut s = self.syncs.remove(&key).unwrap_or_else(|| vec![0; self.threads]);
        if acquires {
            join(self.clock(t), &s);
        }
        if releases {
            join(&mut s, self.publish(t));
        }
        self.syncs.insert(key, s);
    }

    /// An access of a thread to bytes of a region; gives back conflicting accesses: thread, pc, byte.
    fn access(
        &mut self,
        (region, off, bytes): (u32, u64, u64),
        t: u32,
        pc: u32,
        access: Access,
    ) -> Option<(u32, u32, u64)> {
        let (strong, writes, now) = (access.strong(), access.writes(), self.now);
        let row = t as usize * self.threads;
        let (warp, lane) = (t / 32, t % 32);
        let mut conflict = None;
        for at in off..off + bytes {
            let page =
                self.pages.entry((region, at / PAGE)).or_insert_with(|| vec![Cell::default(); PAGE as usize]);
            let cell = &mut page[(at % PAGE) as usize];
            let knows = |u: u32| self.clocks[row + u as usize];
            let w = cell.write;
            // Lanes of one instruction may write the same byte: one of them wins.
            if w.stamp != 0
                && w.thread != t
                && !(w.strong && strong)
                && w.stamp != now
                && knows(w.thread) < w.stamp
            {
                conflict.get_or_insert((w.thread, w.pc, at));
            }
            if writes {
                for r in cell.reads.iter().filter(|r| !(r.strong && strong)) {
                    let missing = (0..32).find(|l| {
                        r.lanes >> l & 1 != 0 && 32 * r.warp + l != t && knows(32 * r.warp + l) < r.stamp
                    });
                    if let Some(l) = missing {
                        conflict.get_or_insert((32 * r.warp + l, r.pc, at));
                    }
                }
                cell.reads.clear();
                cell.write = Write { thread: t, stamp: now, pc, strong };
                continue;
            }
            match cell.reads.iter_mut().find(|r| r.warp == warp && r.strong == strong) {
                Some(r) if r.stamp == now => r.lanes |= 1 << lane,
                // A later read of the same lane stands for the earlier one.
                Some(r) if r.lanes == 1 << lane => (r.stamp, r.pc) = (now, pc),
                _ => {
                    cell.reads.retain(|r| r.warp != warp || r.lanes != 1 << lane || r.strong != strong);
                    if cell.reads.len() >= READS {
                        cell.reads.remove(0);
                    }
                    cell.reads.push(Read { warp, lanes: 1 << lane, stamp: now, pc, strong });
                }
            }
        }
        conflict
    }
}

/// What happened to each byte of the writable regions, for all blocks: who loaded it through the non-coherent
/// path in the low half, who wrote it in the high half (pc + 1, 0 for nobody).
pub(crate) type Written = Vec<Vec<AtomicU32>>;

/// Where an offset lies, in words.
fn name(cx: &Context<'_>, p: &Place, at: u64) -> String {
    match cx.regions.get(p.region as usize) {
        Some(r) if p.space == Space::Global => format!("byte {at} of buffer `{}`", r.label),
        _ => format!("shared address {at:#x}"),
    }
}

/// A new access begins; its lanes share a stamp.
pub(crate) fn begin(cx: &mut Context<'_>) {
    if let Some(w) = &mut cx.watch {
        w.now += 1;
    }
}

/// Lanes of a warp access memory.
#[cold]
pub(crate) fn seen(
    cx: &mut Context<'_>,
    warp: u32,
    p: &Place,
    (bytes, exec, pc): (u64, u32, u32),
    access: Access,
) {
    if !matches!(p.space, Space::Shared | Space::Global) {
        return;
    }
    let Some(mut w) = cx.watch.take() else { return };
    for l in (0..32u32).filter(|l| exec >> l & 1 != 0) {
        let t = 32 * warp + w.issuer.unwrap_or(l);
        let off = p.off[l as usize];
        if w.checks.race {
            if access.strong() {
                w.sync((p.region, off), t as usize, access.acquires(), false);
            }
            if let Some((u, other, at)) = w.access((p.region, off, bytes), t, pc, access) {
                w.found.entry((FindingKind::Race, pc, other)).or_insert_with(|| Raw {
                    pc,
                    thread: Some(t),
                    other: Some((Some(u), other)),
                    message: format!(
                        "{} of {} races with an access of another thread of the block: put a barrier between them",
                        access.name(),
                        name(cx, p, at)
                    ),
                });
            }
            if access.strong() {
                w.sync((p.region, off), t as usize, false, access.writes());
            }
        }
        if p.space == Space::Global
            && let Some(table) = cx.written.get(p.region as usize)
            && (access.writes() || access == Access::NcLoad)
        {
            let me = (pc + 1).min(0xffff);
            for (k, byte) in table.iter().skip(off as usize).take(bytes as usize).enumerate() {
                let bits = if access.writes() { me << 16 } else { me };
                let fill = |old: u32| if access.writes() { old >> 16 == 0 } else { old & 0xffff == 0 };
                let old = byte
                    .fetch_update(Relaxed, Relaxed, |v| fill(v).then_some(v | bits))
                    .map_or_else(|v| v, |v| v | bits);
                let (load, write) = (old & 0xffff, old >> 16);
                if load != 0 && write != 0 {
                    let (load, write) = (load - 1, write - 1);
                    let at = name(cx, p, off + k as u64);
                    w.found.entry((FindingKind::NonCoherent, load, write)).or_insert_with(|| Raw {
                        pc: load,
                        thread: (load == pc).then_some(t),
                        other: Some(((load != pc).then_some(t), write)),
                        message: format!(
                            "non-coherent load of {at}, which the same launch writes: load it without .nc \
                             (drop `__restrict__` or `const`, or read through a volatile or atomic access)"
                        ),
                    });
                    break;
                }
            }
        }
    }
    cx.watch = Some(w);
}
