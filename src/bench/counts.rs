//! What: what the emulator counted, in the few figures that predict time.
//! Why here: a slowdown that shows in traffic must show on any machine.
//! Pre: launches with counters.
//! Post: sums over launches; the same for every number of host threads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tilewright_emulator::Counters;
use tilewright_ir::step::Step;
use tilewright_runtime::exec::LaunchRecord;

use crate::report::Traffic;

/// From this size on, a buffer's sectors are held against the ideal ones on their own.
pub const LARGE_BUFFER: u64 = 64 << 10;

/// Bytes of a sector.
const SECTOR: u64 = 32;

/// What launches did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Launches.
    pub launches: u64,
    /// Warp instructions.
    pub instructions: u64,
    /// Different 32-byte sectors of each buffer in each launch, in bytes.
    pub hbm_bytes: u64,
    /// What cannot be avoided: inputs, weights, states and outputs, once.
    pub floor_bytes: u64,
    /// Sectors of warp accesses to global memory.
    pub sectors: u64,
    /// Sectors, had the bytes of each access been packed.
    pub sectors_ideal: u64,
    /// The same for buffers of 64 KiB and more.
    pub large_sectors: u64,
    /// The same for buffers of 64 KiB and more.
    pub large_sectors_ideal: u64,
    /// Passes over the banks of shared memory.
    pub wavefronts: u64,
    /// Passes, had there been no bank conflicts.
    pub wavefronts_ideal: u64,
    /// Passes beyond the ideal ones by instructions in loops.
    pub loop_conflicts: u64,
    /// Bytes of local memory: spills, and arrays that are indexed at run time.
    pub local_bytes: u64,
    /// Operations of tensor cores, by operand type.
    pub tensor_flops: BTreeMap<String, u64>,
    /// Single-precision operations.
    pub flops_f32: u64,
    /// Warp instructions by opcode.
    pub mix: BTreeMap<String, u64>,
}

impl Counts {
    /// Of the launches of one run of a step; nothing when a launch had no counters.
    pub fn of_run(step: &Step, launches: &[LaunchRecord]) -> Option<Counts> {
        let mut traffic = Traffic::default();
        traffic.add_run(step, launches);
        let mut counts = Counts::default();
        for launch in launches {
            counts.add(launch.counters.as_ref()?);
        }
        counts.hbm_bytes = traffic.hbm_bytes;
        counts.floor_bytes = traffic.floor_bytes;
        Some(counts)
    }

    /// Adds one launch. (Bytes above are those of the caller: they need to know which buffers are temporary.)
    pub fn add(&mut self, c: &Counters) {
        self.launches += 1;
        self.instructions += c.instructions;
        self.sectors += c.global_read_sectors + c.global_write_sectors;
        self.sectors_ideal += c.global_read_sectors_ideal + c.global_write_sectors_ideal;
        for b in c.buffers.values().filter(|b| b.bytes >= LARGE_BUFFER) {
            self.large_sectors += b.read_sectors + b.written_sectors;
            self.large_sectors_ideal += b.read_sectors_ideal + b.written_sectors_ideal;
        }
        self.wavefronts += c.shared_wavefronts;
        self.wavefronts_ideal += c.shared_wavefronts_ideal;
        for m in c.memory.iter().filter(|m| m.loops > 0) {
            self.loop_conflicts += m.shared.wavefronts - m.shared.wavefronts_ideal;
        }
        self.local_bytes += c.local_bytes;
        self.flops_f32 += c.flops_f32;
        for (kind, n) in &c.tensor_flops {
            *self.tensor_flops.entry(kind.clone()).or_default() += n;
        }
        for (opcode, n) in &c.mix {
            *self.mix.entry(opcode.clone()).or_default() += n;
        }
    }

    /// Bytes over the floor.
    pub fn bytes_over_floor(&self) -> f64 {
        ratio(self.hbm_bytes, self.floor_bytes)
    }

    /// How often, on average, a sector that moves is asked for: what caches must give.
    pub fn rereads(&self) -> f64 {
        ratio(self.sectors * SECTOR, self.hbm_bytes)
    }

    /// Sectors over ideal ones.
    pub fn sectors_over_ideal(&self) -> f64 {
        ratio(self.sectors, self.sectors_ideal)
    }

    /// Sectors over ideal ones, for buffers of 64 KiB and more.
    pub fn large_sectors_over_ideal(&self) -> f64 {
        ratio(self.large_sectors, self.large_sectors_ideal)
    }

    /// Wavefronts beyond the ideal ones, as a share of the ideal ones.
    pub fn conflicts(&self) -> f64 {
        ratio(self.wavefronts, self.wavefronts_ideal) - 1.0
    }

    /// All operations of tensor cores.
    pub fn tensor_flops_total(&self) -> u64 {
        self.tensor_flops.values().sum()
    }
}

/// A ratio; 1 of nothing over nothing.
fn ratio(a: u64, b: u64) -> f64 {
    match (a, b) {
        (0, 0) => 1.0,
        _ => a as f64 / b as f64,
    }
}
