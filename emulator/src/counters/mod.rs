//! What: what a launch did, counted.
//! Why here: counters predict cost on hardware and are assertable in tests; they do not depend on the number
//! of host threads, since all of them are sums or unions over blocks.
//! Pre: `Options::counters`.
//! Post: exact counts. Where control flow does not depend on timing (a poll, a race for a lock, the clock), counts do not
//! depend on host threads, and lanes, bytes, unique bytes and operations not on the schedule either. What is counted per
//! warp (instructions, sectors, wavefronts) is that of whole warps in the fast schedule; an adversarial one runs
//! parts of warps, each of which counts.

mod pattern;
mod report;
mod tally;
mod touched;

pub(crate) use tally::Tally;
pub(crate) use touched::Touched;

use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Traffic of one buffer of global memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BufferCount {
    /// The size of the buffer.
    pub bytes: u64,
    /// Bytes that lanes asked to read.
    pub read_bytes: u64,
    /// Bytes that lanes asked to write.
    pub written_bytes: u64,
    /// 32-byte sectors read, summed over warp accesses.
    pub read_sectors: u64,
    /// Sectors written, summed over warp accesses.
    pub written_sectors: u64,
    /// Sectors of the reads had the bytes of each warp access been packed.
    pub read_sectors_ideal: u64,
    /// Sectors of the writes had the bytes of each warp access been packed.
    pub written_sectors_ideal: u64,
    /// Different bytes read.
    pub unique_read_bytes: u64,
    /// Different bytes written.
    pub unique_written_bytes: u64,
    /// Different sectors read.
    pub unique_read_sectors: u64,
    /// Different sectors written.
    pub unique_written_sectors: u64,
}

/// What one memory instruction asked of global memory in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GlobalCount {
    /// Bytes that lanes asked for.
    pub bytes: u64,
    /// 32-byte sectors of each warp access, summed.
    pub sectors: u64,
    /// Sectors that the different bytes of each warp access would fill if they were packed, summed.
    pub sectors_ideal: u64,
}

/// What one memory instruction asked of shared memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SharedCount {
    /// Bytes that lanes asked to read.
    pub read_bytes: u64,
    /// Bytes that lanes asked to write.
    pub written_bytes: u64,
    /// Wavefronts: passes over the 32 banks.
    pub wavefronts: u64,
    /// Wavefronts that the access width needs without bank conflicts.
    pub wavefronts_ideal: u64,
}

/// One memory instruction. Atomics read and write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryCount {
    /// The entry.
    pub kernel: String,
    /// The 1-based line of the PTX text.
    pub ptx_line: u32,
    /// The CUDA source file and line, when the PTX carries `.loc`.
    pub source_line: Option<(String, u32)>,
    /// The instruction, as written.
    pub instruction: String,
    /// Warps that executed it.
    pub executions: u64,
    /// Lanes that executed it.
    pub lanes: u64,
    /// Branches back that enclose it in the text: 0 outside of loops.
    pub loops: u32,
    /// Reads of global memory.
    pub global_read: GlobalCount,
    /// Writes to global memory.
    pub global_write: GlobalCount,
    /// Shared memory.
    pub shared: SharedCount,
    /// Bytes of local memory, which is where spilled registers and indexed arrays live; arguments of calls do not count.
    pub local_bytes: u64,
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
    /// Bytes that lanes asked to read from or write to local memory.
    pub local_bytes: u64,
    /// f32 operations (a fused multiply-add is two).
    pub flops_f32: u64,
    /// f64 operations.
    pub flops_f64: u64,
    /// f16 and bf16 operations.
    pub flops_f16: u64,
    /// Tensor-core operations by kind, e.g. `bf16 x bf16 -> f32`: 2 m n k per instruction.
    pub tensor_flops: BTreeMap<String, u64>,
    /// Warp instructions that wait, by what they wait for: `barrier`, `warp`, `cluster`, `mbarrier`, `copies`,
    /// `grid` (the launch before), `sleep`; `poll` counts strong loads in loops, which depends on the schedule.
    pub waits: BTreeMap<String, u64>,
    /// The most 32-bit registers that are live at once in the PTX: a lower bound of what a device needs.
    pub live_registers: u32,
    /// The memory instructions that were executed, in the order of the text.
    pub memory: Vec<MemoryCount>,
}

impl Counters {
    /// Different bytes that were read of the buffers with that label.
    pub fn unique_bytes_read(&self, label: &str) -> u64 {
        self.buffers.get(label).map_or(0, |b| b.unique_read_bytes)
    }

    /// Different bytes that were written of the buffers with that label.
    pub fn unique_bytes_written(&self, label: &str) -> u64 {
        self.buffers.get(label).map_or(0, |b| b.unique_written_bytes)
    }

    /// Whether every byte of the buffers with that label was read, and asked for just once.
    pub fn reads_once(&self, label: &str) -> bool {
        self.buffers.get(label).is_some_and(|b| b.unique_read_bytes == b.bytes && b.read_bytes == b.bytes)
    }

    /// Wavefronts of shared memory beyond those that the access widths need.
    pub fn bank_conflicts(&self) -> u64 {
        self.shared_wavefronts - self.shared_wavefronts_ideal
    }

    /// All tensor-core operations.
    pub fn tensor_flops_total(&self) -> u64 {
        self.tensor_flops.values().sum()
    }
}

impl AddAssign for GlobalCount {
    fn add_assign(&mut self, o: GlobalCount) {
        self.bytes += o.bytes;
        self.sectors += o.sectors;
        self.sectors_ideal += o.sectors_ideal;
    }
}

impl AddAssign for SharedCount {
    fn add_assign(&mut self, o: SharedCount) {
        self.read_bytes += o.read_bytes;
        self.written_bytes += o.written_bytes;
        self.wavefronts += o.wavefronts;
        self.wavefronts_ideal += o.wavefronts_ideal;
    }
}

fn add_maps(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, n) in from {
        *to.entry(name.clone()).or_default() += n;
    }
}

/// Sums of several launches. Unique bytes and sectors are unique within each launch; sizes and registers are the
/// largest.
impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, o: &Counters) {
        self.instructions += o.instructions;
        self.lane_instructions += o.lane_instructions;
        add_maps(&mut self.mix, &o.mix);
        self.global_read_bytes += o.global_read_bytes;
        self.global_write_bytes += o.global_write_bytes;
        self.global_read_sectors += o.global_read_sectors;
        self.global_write_sectors += o.global_write_sectors;
        self.global_read_sectors_ideal += o.global_read_sectors_ideal;
        self.global_write_sectors_ideal += o.global_write_sectors_ideal;
        self.global_atomics += o.global_atomics;
        for (label, b) in &o.buffers {
            let a = self.buffers.entry(label.clone()).or_default();
            a.bytes = a.bytes.max(b.bytes);
            a.read_bytes += b.read_bytes;
            a.written_bytes += b.written_bytes;
            a.read_sectors += b.read_sectors;
            a.written_sectors += b.written_sectors;
            a.read_sectors_ideal += b.read_sectors_ideal;
            a.written_sectors_ideal += b.written_sectors_ideal;
            a.unique_read_bytes += b.unique_read_bytes;
            a.unique_written_bytes += b.unique_written_bytes;
            a.unique_read_sectors += b.unique_read_sectors;
            a.unique_written_sectors += b.unique_written_sectors;
        }
        self.shared_wavefronts += o.shared_wavefronts;
        self.shared_wavefronts_ideal += o.shared_wavefronts_ideal;
        self.shared_read_bytes += o.shared_read_bytes;
        self.shared_write_bytes += o.shared_write_bytes;
        self.local_bytes += o.local_bytes;
        self.flops_f32 += o.flops_f32;
        self.flops_f64 += o.flops_f64;
        self.flops_f16 += o.flops_f16;
        add_maps(&mut self.tensor_flops, &o.tensor_flops);
        add_maps(&mut self.waits, &o.waits);
        self.live_registers = self.live_registers.max(o.live_registers);
        for m in &o.memory {
            let same = |x: &&mut MemoryCount| {
                (x.ptx_line, &x.kernel, &x.instruction) == (m.ptx_line, &m.kernel, &m.instruction)
            };
            match self.memory.iter_mut().find(same) {
                None => self.memory.push(m.clone()),
                Some(x) => {
                    x.executions += m.executions;
                    x.lanes += m.lanes;
                    x.global_read += m.global_read;
                    x.global_write += m.global_write;
                    x.shared += m.shared;
                    x.local_bytes += m.local_bytes;
                }
            }
        }
    }
}
