//! What: the counts of one host thread.
//! Why here: the machine calls it once per instruction and once per access, so both are short.
//! Pre: `instruction` is called before the accesses of that instruction.
//! Post: sums that can be merged with those of other host threads, in any order.

use super::pattern::Pattern;
use super::touched::Touched;
use super::{GlobalCount, SharedCount};
use crate::inst::Space;
use crate::machine::place::Place;
use crate::memory::Region;
use crate::printf::Line;

/// What an instruction did to memory, and its last patterns.
pub(super) struct Record {
    pub(super) global_read: GlobalCount,
    pub(super) global_write: GlobalCount,
    pub(super) shared: SharedCount,
    pub(super) local_bytes: u64,
    pub(super) atomics: u64,
    global: Pattern,
    banks: Pattern,
}

impl Record {
    fn new() -> Record {
        Record {
            global_read: GlobalCount::default(),
            global_write: GlobalCount::default(),
            shared: SharedCount::default(),
            local_bytes: 0,
            atomics: 0,
            global: Pattern::new(),
            banks: Pattern::new(),
        }
    }
}

/// What lanes asked of a region, and the sectors of their warps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    /// Read, written.
    pub(super) bytes: [u64; 2],
    /// Read, written.
    pub(super) sectors: [u64; 2],
    /// Read, written: had the bytes of each access been packed.
    pub(super) ideal: [u64; 2],
}

const NO_RECORD: u32 = u32::MAX;

/// The counts of one host thread.
pub(crate) struct Tally<'a> {
    /// Per instruction: warp executions, lane executions.
    pub(super) per: Vec<[u64; 2]>,
    /// The instruction at hand.
    pc: u32,
    /// Per instruction: its record, once it has one.
    pub(super) slots: Vec<u32>,
    pub(super) records: Vec<Record>,
    pub(super) traffic: Vec<Traffic>,
    pub(super) regions: &'a [Region],
    pub(super) touched: &'a [Touched],
    /// What kernels printed, and its bytes.
    pub(crate) printed: Vec<Line>,
    pub(crate) printed_bytes: usize,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(instructions: usize, regions: &'a [Region], touched: &'a [Touched]) -> Tally<'a> {
        Tally {
            per: vec![[0; 2]; instructions],
            pc: 0,
            slots: vec![NO_RECORD; instructions],
            records: vec![],
            traffic: vec![Traffic::default(); regions.len()],
            regions,
            touched,
            printed: vec![],
            printed_bytes: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn instruction(&mut self, pc: u32, exec: u32) {
        if let Some(p) = self.per.get_mut(pc as usize) {
            p[0] += 1;
            p[1] += u64::from(exec.count_ones());
        }
        self.pc = pc;
    }

    /// Takes back lanes that will execute the instruction again, because they must wait first; with `whole`, no lane
    /// has gone on.
    #[inline]
    pub(crate) fn again(&mut self, pc: u32, lanes: u32, whole: bool) {
        if let Some(p) = self.per.get_mut(pc as usize) {
            p[0] -= u64::from(whole);
            p[1] -= u64::from(lanes.count_ones());
        }
    }

    /// The record of the instruction at hand.
    #[inline(always)]
    fn record(&mut self) -> Option<(&mut Record, &mut [Traffic])> {
        let slot = self.slots.get_mut(self.pc as usize)?;
        if *slot == NO_RECORD {
            *slot = self.records.len() as u32;
            self.records.push(Record::new());
        }
        let record = self.records.get_mut(*slot as usize)?;
        Some((record, &mut self.traffic))
    }

    /// Counts a load or store of the lanes of `exec`, `bytes` each.
    #[inline(always)]
    pub(crate) fn access(&mut self, p: &Place, bytes: u64, exec: u32, write: bool) {
        // Parameters and constants come from caches of their own and cost no traffic that is counted.
        if matches!(p.space, Space::Param | Space::Const) {
            return;
        }
        let asked = u64::from(exec.count_ones()) * bytes;
        let (touched, regions) = (self.touched, self.regions);
        let Some((r, traffic)) = self.record() else { return };
        match p.space {
            Space::Global => {
                let i = p.region as usize;
                let (Some(t), Some(touched), Some(region)) =
                    (traffic.get_mut(i), touched.get(i), regions.get(i))
                else {
                    return;
                };
                r.global.global(&p.off, bytes, exec);
                let (mut sectors, mut last) = (0, u64::MAX);
                for (a, b) in &r.global.runs {
                    let (start, end) = (p.off[0].wrapping_add(*a), p.off[0].wrapping_add(*b));
                    touched.mark(write, region.bytes, start, end);
                    // Runs may share a sector with the one before.
                    sectors += (end - 1) / 32 - start / 32 + u64::from(start / 32 != last);
                    last = (end - 1) / 32;
                }
                let g = if write { &mut r.global_write } else { &mut r.global_read };
                g.bytes += asked;
                g.sectors += sectors;
                let ideal = r.global.unique.div_ceil(32);
                g.sectors_ideal += ideal;
                t.bytes[usize::from(write)] += asked;
                t.sectors[usize::from(write)] += sectors;
                t.ideal[usize::from(write)] += ideal;
            }
            Space::Shared => {
                r.banks.shared(&p.off, bytes, exec);
                r.shared.wavefronts += r.banks.wavefronts[0];
                r.shared.wavefronts_ideal += r.banks.wavefronts[1];
                let n = if write { &mut r.shared.written_bytes } else { &mut r.shared.read_bytes };
                *n += asked;
            }
            Space::Local => r.local_bytes += asked,
            _ => {}
        }
    }

    /// Counts atomics: a read and a write of their sectors.
    #[inline(always)]
    pub(crate) fn atomic(&mut self, p: &Place, bytes: u64, exec: u32) {
        if p.space == Space::Global {
            if let Some((r, _)) = self.record() {
                r.atomics += u64::from(exec.count_ones());
            }
            self.access(p, bytes, exec, false);
        }
        self.access(p, bytes, exec, true);
    }

    /// Adds the counts of another host thread.
    pub(crate) fn merge(&mut self, o: &Tally<'_>) {
        self.printed.extend(o.printed.iter().cloned());
        for (a, b) in self.per.iter_mut().zip(&o.per) {
            a[0] += b[0];
            a[1] += b[1];
        }
        for (a, b) in self.traffic.iter_mut().zip(&o.traffic) {
            for i in 0..2 {
                a.bytes[i] += b.bytes[i];
                a.sectors[i] += b.sectors[i];
                a.ideal[i] += b.ideal[i];
            }
        }
        for (pc, slot) in o.slots.iter().enumerate() {
            let Some(from) = o.records.get(*slot as usize) else { continue };
            self.pc = pc as u32;
            if let Some((to, _)) = self.record() {
                to.global_read += from.global_read;
                to.global_write += from.global_write;
                to.shared += from.shared;
                to.local_bytes += from.local_bytes;
                to.atomics += from.atomics;
            }
        }
    }
}
