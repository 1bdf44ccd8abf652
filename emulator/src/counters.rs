//! What: what a launch did, counted.
//! Why here: counters predict cost on hardware and are assertable in tests; they do not depend on the number
//! of host threads, since all of them are sums or unions over blocks.
//! Pre: `Options::counters`.
//! Post: exact counts.

use crate::inst::{MmaTy, NONE, Op, Space};
use crate::machine::place::Place;
use crate::memory::Region;
use crate::program::Kernel;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Traffic of one buffer, in 32-byte sectors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BufferCount {
    /// Sectors read, summed over warp accesses.
    pub read_sectors: u64,
    /// Sectors written, summed over warp accesses.
    pub written_sectors: u64,
    /// Different sectors read.
    pub unique_read_sectors: u64,
    /// Different sectors written.
    pub unique_written_sectors: u64,
}

/// What a launch did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Warp instructions.
    pub instructions: u64,
    /// Lane instructions: each warp instruction counts its active lanes.
    pub lane_instructions: u64,
    /// Warp instructions by opcode.
    pub mix: BTreeMap<String, u64>,
    /// Bytes that lanes asked to read from global memory.
    pub global_read_bytes: u64,
    /// Bytes that lanes asked to write to global memory.
    pub global_write_bytes: u64,
    /// 32-byte sectors of warp reads, summed.
    pub global_read_sectors: u64,
    /// 32-byte sectors of warp writes, summed.
    pub global_write_sectors: u64,
    /// Sectors of warp reads had their bytes been packed.
    pub global_read_sectors_ideal: u64,
    /// Sectors of warp writes had their bytes been packed.
    pub global_write_sectors_ideal: u64,
    /// Atomic operations of lanes on global memory.
    pub global_atomics: u64,
    /// Traffic by buffer label.
    pub buffers: BTreeMap<String, BufferCount>,
    /// Shared-memory wavefronts.
    pub shared_wavefronts: u64,
    /// Shared-memory wavefronts without bank conflicts.
    pub shared_wavefronts_ideal: u64,
    /// Bytes that lanes asked to read from shared memory.
    pub shared_read_bytes: u64,
    /// Bytes that lanes asked to write to shared memory.
    pub shared_write_bytes: u64,
    /// f32 operations (a fused multiply-add is two).
    pub flops_f32: u64,
    /// f64 operations.
    pub flops_f64: u64,
    /// f16 and bf16 operations.
    pub flops_f16: u64,
    /// Tensor-core operations by the type of A: 2 m n k per instruction.
    pub tensor_flops: BTreeMap<String, u64>,
}

/// Bitmaps of the sectors of one buffer that the launch touched, shared by all host threads.
#[derive(Default)]
pub(crate) struct Touched {
    read: OnceLock<Vec<AtomicU64>>,
    written: OnceLock<Vec<AtomicU64>>,
}

impl Touched {
    fn mark(&self, write: bool, sectors: u64, sector: u64) {
        let map = if write { &self.written } else { &self.read };
        let map = map.get_or_init(|| (0..sectors.div_ceil(64)).map(|_| AtomicU64::new(0)).collect());
        if let Some(w) = map.get(sector as usize / 64) {
            let bit = 1 << (sector % 64);
            if w.load(Relaxed) & bit == 0 {
                w.fetch_or(bit, Relaxed);
            }
        }
    }
    fn count(&self, write: bool) -> u64 {
        let map = if write { &self.written } else { &self.read };
        map.get().map_or(0, |m| m.iter().map(|w| u64::from(w.load(Relaxed).count_ones())).sum())
    }
}

/// The counts of one host thread.
pub(crate) struct Tally<'a> {
    /// Per instruction: warp executions, lane executions.
    per: Vec<[u64; 2]>,
    sums: Counters,
    /// Per region: sectors read and written.
    sectors: Vec<[u64; 2]>,
    regions: &'a [Region],
    touched: &'a [Touched],
}

/// Different values among the active lanes, found cheaply when they come in order.
fn distinct(v: &[u64; 32], exec: u32, mut f: impl FnMut(u64)) -> u64 {
    let (mut n, mut last, mut ordered) = (0u64, 0u64, true);
    for (l, x) in v.iter().enumerate() {
        if exec >> l & 1 != 0 {
            if n > 0 && *x < last {
                ordered = false;
                break;
            }
            n += u64::from(n == 0 || *x != last);
            last = *x;
        }
    }
    let mut keep = [0u64; 32];
    let mut k = 0;
    for (l, x) in v.iter().enumerate() {
        if exec >> l & 1 != 0 {
            keep[k] = *x;
            k += 1;
        }
    }
    let keep = &mut keep[..k];
    if !ordered {
        keep.sort_unstable();
    }
    let mut n = 0;
    for i in 0..keep.len() {
        if i == 0 || keep[i] != keep[i - 1] {
            n += 1;
            f(keep[i]);
        }
    }
    n
}

/// Wavefronts of a shared-memory access: (needed, without conflicts).
fn wavefronts(off: &[u64; 32], bytes: u64, exec: u32) -> (u64, u64) {
    // Wide accesses are served in groups whose lanes together ask for 128 bytes.
    let words = (bytes / 4).max(1) as usize;
    let group = 32 / words.min(8);
    let (mut need, mut ideal) = (0, 0);
    for start in (0..32).step_by(group) {
        let lanes = (exec >> start) as u64 & ((1u64 << group) - 1);
        if lanes == 0 {
            continue;
        }
        ideal += 1;
        let mut first = [u64::MAX; 32];
        let mut depth = [0u32; 32];
        let mut extra: Vec<u64> = vec![];
        for l in 0..group {
            if lanes >> l & 1 == 0 {
                continue;
            }
            for k in 0..words as u64 {
                let word = off[start + l] / 4 + k;
                let bank = (word % 32) as usize;
                if first[bank] == u64::MAX {
                    first[bank] = word;
                    depth[bank] = 1;
                } else if first[bank] != word && !extra.contains(&word) {
                    extra.push(word);
                    depth[bank] += 1;
                }
            }
        }
        need += u64::from(depth.iter().copied().max().unwrap_or(1));
    }
    (need, ideal)
}

impl<'a> Tally<'a> {
    pub(crate) fn new(instructions: usize, regions: &'a [Region], touched: &'a [Touched]) -> Tally<'a> {
        Tally {
            per: vec![[0; 2]; instructions],
            sums: Counters::default(),
            sectors: vec![[0; 2]; regions.len()],
            regions,
            touched,
        }
    }

    #[inline(always)]
    pub(crate) fn instruction(&mut self, pc: u32, exec: u32) {
        if let Some(p) = self.per.get_mut(pc as usize) {
            p[0] += 1;
            p[1] += u64::from(exec.count_ones());
        }
    }

    /// Counts a load or store of the lanes of `exec`, `bytes` each.
    pub(crate) fn access(&mut self, p: &Place, bytes: u64, exec: u32, write: bool) {
        let lanes = u64::from(exec.count_ones());
        match p.space {
            Space::Global => {
                let requested = lanes * bytes;
                let n = self.sectors(p, exec, write);
                let ideal = n.min(requested.div_ceil(32));
                let s = &mut self.sums;
                if write {
                    s.global_write_bytes += requested;
                    s.global_write_sectors += n;
                    s.global_write_sectors_ideal += ideal;
                } else {
                    s.global_read_bytes += requested;
                    s.global_read_sectors += n;
                    s.global_read_sectors_ideal += ideal;
                }
            }
            Space::Shared => {
                let (need, ideal) = wavefronts(&p.off, bytes, exec);
                let s = &mut self.sums;
                s.shared_wavefronts += need;
                s.shared_wavefronts_ideal += ideal;
                if write {
                    s.shared_write_bytes += lanes * bytes;
                } else {
                    s.shared_read_bytes += lanes * bytes;
                }
            }
            _ => {}
        }
    }

    /// Counts atomics: a read and a write of their sectors.
    pub(crate) fn atomic(&mut self, p: &Place, bytes: u64, exec: u32) {
        if p.space == Space::Global {
            self.sums.global_atomics += u64::from(exec.count_ones());
            self.access(p, bytes, exec, false);
            self.access(p, bytes, exec, true);
        } else {
            self.access(p, bytes, exec, true);
        }
    }

    fn sectors(&mut self, p: &Place, exec: u32, write: bool) -> u64 {
        let i = p.region as usize;
        let (Some(touched), Some(region)) = (self.touched.get(i), self.regions.get(i)) else { return 0 };
        // Accesses are at most 32 bytes and aligned, so each lane touches one sector.
        let ids = p.off.map(|o| o / 32);
        let all = region.bytes.div_ceil(32);
        let n = distinct(&ids, exec, |s| touched.mark(write, all, s));
        self.sectors[i][usize::from(write)] += n;
        n
    }

    /// Adds the counts of another host thread.
    pub(crate) fn merge(&mut self, o: &Tally<'_>) {
        for (a, b) in self.per.iter_mut().zip(&o.per) {
            a[0] += b[0];
            a[1] += b[1];
        }
        for (a, b) in self.sectors.iter_mut().zip(&o.sectors) {
            a[0] += b[0];
            a[1] += b[1];
        }
        let (s, t) = (&mut self.sums, &o.sums);
        s.global_read_bytes += t.global_read_bytes;
        s.global_write_bytes += t.global_write_bytes;
        s.global_read_sectors += t.global_read_sectors;
        s.global_write_sectors += t.global_write_sectors;
        s.global_read_sectors_ideal += t.global_read_sectors_ideal;
        s.global_write_sectors_ideal += t.global_write_sectors_ideal;
        s.global_atomics += t.global_atomics;
        s.shared_wavefronts += t.shared_wavefronts;
        s.shared_wavefronts_ideal += t.shared_wavefronts_ideal;
        s.shared_read_bytes += t.shared_read_bytes;
        s.shared_write_bytes += t.shared_write_bytes;
    }

    /// The final counters.
    pub(crate) fn finish(self, kernel: &Kernel) -> Counters {
        let mut c = self.sums;
        for ((inst, meta), [warps, lanes]) in kernel.code.iter().zip(&kernel.meta).zip(&self.per) {
            if *warps == 0 || meta.mix == NONE {
                continue;
            }
            c.instructions += warps;
            c.lane_instructions += lanes;
            if let Some(name) = kernel.mix.get(meta.mix as usize) {
                *c.mix.entry(name.clone()).or_default() += warps;
            }
            c.flops_f32 += lanes * u64::from(meta.flops.f32);
            c.flops_f64 += lanes * u64::from(meta.flops.f64);
            c.flops_f16 += lanes * u64::from(meta.flops.f16);
            if let Op::Mma(m) = &inst.op {
                let name = match m.a_ty {
                    MmaTy::Bf16 => "bf16",
                    MmaTy::F16 => "f16",
                    MmaTy::Tf32 => "tf32",
                    MmaTy::S8 => "s8",
                    MmaTy::U8 => "u8",
                    MmaTy::E4m3 => "e4m3",
                    MmaTy::E5m2 => "e5m2",
                    MmaTy::F64 => "f64",
                };
                // Lanes, not warps: a guard may hold the whole warp back.
                *c.tensor_flops.entry(name.into()).or_default() +=
                    lanes / 32 * 2 * u64::from(m.m) * 8 * u64::from(m.k);
            }
        }
        for (i, r) in self.regions.iter().enumerate() {
            let [read, written] = self.sectors[i];
            if read + written == 0 {
                continue;
            }
            let b = c.buffers.entry(r.label.clone()).or_default();
            b.read_sectors += read;
            b.written_sectors += written;
            b.unique_read_sectors += self.touched[i].count(false);
            b.unique_written_sectors += self.touched[i].count(true);
        }
        c
    }
}
