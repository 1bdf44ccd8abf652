//! What: from raw counts to `Counters`.
//! Why here: names, lines and kinds come from the decoded kernel once, at the end.
//! Pre: the merged counts of all host threads.
//! Post: one entry per PTX instruction that touched memory, in the order of the text.

use super::{Counters, MemoryCount, Tally};
use crate::inst::{Mma, MmaAcc, MmaTy, NONE, Op};
use crate::program::Kernel;
use std::collections::BTreeMap;

fn tensor_kind(m: &Mma) -> String {
    let name = |t: MmaTy| match t {
        MmaTy::Bf16 => "bf16",
        MmaTy::F16 => "f16",
        MmaTy::Tf32 => "tf32",
        MmaTy::S8 => "s8",
        MmaTy::U8 => "u8",
        MmaTy::E4m3 => "e4m3",
        MmaTy::E5m2 => "e5m2",
        MmaTy::F64 => "f64",
    };
    let acc = match m.acc {
        MmaAcc::F32 => "f32",
        MmaAcc::F16 => "f16",
        MmaAcc::S32 => "s32",
        MmaAcc::F64 => "f64",
    };
    format!("{} x {} -> {acc}", name(m.a_ty), name(m.b_ty))
}

/// What an instruction waits for, if it is one that waits.
fn wait_kind(opcode: &str) -> Option<&'static str> {
    let parts: Vec<&str> = opcode.split('.').collect();
    let has = |p: &str| parts.contains(&p);
    match parts[0] {
        "bar" | "barrier" if has("warp") => Some("warp"),
        "barrier" if has("cluster") => has("wait").then_some("cluster"),
        "bar" | "barrier" => (!has("arrive")).then_some("barrier"),
        "mbarrier" => (has("try_wait") || has("test_wait")).then_some("mbarrier"),
        "cp" => (has("wait_group") || has("wait_all")).then_some("copies"),
        "griddepcontrol" => has("wait").then_some("grid"),
        "nanosleep" => Some("sleep"),
        _ => None,
    }
}

/// Whether a load is meant to see what others write at the same time.
fn strong_load(opcode: &str) -> bool {
    opcode.starts_with("ld.") && opcode.split('.').any(|p| matches!(p, "volatile" | "relaxed" | "acquire"))
}

/// How many branches back enclose each instruction, that is, lie behind it with their targets before it.
fn looping(kernel: &Kernel) -> Vec<u32> {
    let mut depth = vec![0i32; kernel.code.len() + 1];
    for (pc, inst) in kernel.code.iter().enumerate() {
        if let Op::Bra(to) = inst.op
            && to as usize <= pc
        {
            depth[to as usize] += 1;
            depth[pc + 1] -= 1;
        }
    }
    let mut now = 0;
    depth[..kernel.code.len()]
        .iter()
        .map(|d| {
            now += d;
            now.unsigned_abs()
        })
        .collect()
}

/// Whether an instruction hands over arguments or results of a call.
fn hands_over(instruction: &str) -> bool {
    let opcode = match instruction.strip_prefix('@') {
        Some(guarded) => guarded.split_once(' ').map_or("", |(_, rest)| rest.trim_start()),
        None => instruction,
    };
    ["ld.param", "st.param", "call", "ret"].iter().any(|p| opcode.starts_with(p))
}

impl Tally<'_> {
    /// The final counters; `files` names the CUDA sources.
    pub(crate) fn finish(self, kernel: &Kernel, files: &BTreeMap<u32, String>) -> Counters {
        let mut c = Counters { live_registers: kernel.max_live, ..Counters::default() };
        let looping = looping(kernel);
        // By text: an instruction may have been decoded into several.
        let mut memory: BTreeMap<u32, MemoryCount> = BTreeMap::new();
        for (pc, (inst, meta)) in kernel.code.iter().zip(&kernel.meta).enumerate() {
            let Some(&[warps, lanes]) = self.per.get(pc).filter(|p| p[0] != 0) else { continue };
            if let Some(r) = self.slots.get(pc).and_then(|s| self.records.get(*s as usize)) {
                let source =
                    || files.get(&meta.file).cloned().unwrap_or_else(|| format!("file {}", meta.file));
                let m = memory.entry(meta.text).or_insert_with(|| MemoryCount {
                    kernel: kernel.name.clone(),
                    ptx_line: meta.ptx_line,
                    source_line: (meta.line != 0).then(|| (source(), meta.line)),
                    loops: looping[pc],
                    instruction: kernel.texts.get(meta.text as usize).cloned().unwrap_or_default(),
                    ..MemoryCount::default()
                });
                m.executions = m.executions.max(warps);
                m.lanes = m.lanes.max(lanes);
                m.global_read += r.global_read;
                m.global_write += r.global_write;
                m.shared += r.shared;
                // What calls hand over lies in local memory here, and in registers on a device.
                if !hands_over(&m.instruction) {
                    m.local_bytes += r.local_bytes;
                }
                c.global_atomics += r.atomics;
            }
            if let Op::Mma(m) = &inst.op {
                // A wmma.mma may be several of them. Lanes, not warps: a guard may hold the whole warp back.
                let products = if m.quads.is_some() { 4 } else { 1 };
                *c.tensor_flops.entry(tensor_kind(m)).or_default() +=
                    lanes / 32 * products * 2 * u64::from(m.m) * 8 * u64::from(m.k);
            }
            if meta.mix == NONE {
                continue;
            }
            c.instructions += warps;
            c.lane_instructions += lanes;
            if let Some(name) = kernel.mix.get(meta.mix as usize) {
                *c.mix.entry(name.clone()).or_default() += warps;
                let kind =
                    wait_kind(name).or_else(|| (looping[pc] > 0 && strong_load(name)).then_some("poll"));
                if let Some(kind) = kind {
                    *c.waits.entry(kind.into()).or_default() += warps;
                }
            }
            c.flops_f32 += lanes * u64::from(meta.flops.f32);
            c.flops_f64 += lanes * u64::from(meta.flops.f64);
            c.flops_f16 += lanes * u64::from(meta.flops.f16);
        }
        c.memory = memory.into_values().collect();
        for m in &c.memory {
            c.global_read_bytes += m.global_read.bytes;
            c.global_read_sectors += m.global_read.sectors;
            c.global_read_sectors_ideal += m.global_read.sectors_ideal;
            c.global_write_bytes += m.global_write.bytes;
            c.global_write_sectors += m.global_write.sectors;
            c.global_write_sectors_ideal += m.global_write.sectors_ideal;
            c.shared_read_bytes += m.shared.read_bytes;
            c.shared_write_bytes += m.shared.written_bytes;
            c.shared_wavefronts += m.shared.wavefronts;
            c.shared_wavefronts_ideal += m.shared.wavefronts_ideal;
            c.local_bytes += m.local_bytes;
        }
        self.count_buffers(&mut c);
        c
    }

    fn count_buffers(&self, c: &mut Counters) {
        for ((region, t), touched) in self.regions.iter().zip(&self.traffic).zip(self.touched) {
            if t.sectors == [0; 2] {
                continue;
            }
            let b = c.buffers.entry(region.label.clone()).or_default();
            let (read, written) = (touched.count(false), touched.count(true));
            b.bytes += region.bytes;
            b.read_bytes += t.bytes[0];
            b.written_bytes += t.bytes[1];
            b.read_sectors += t.sectors[0];
            b.written_sectors += t.sectors[1];
            b.read_sectors_ideal += t.ideal[0];
            b.written_sectors_ideal += t.ideal[1];
            b.unique_read_bytes += read[0];
            b.unique_read_sectors += read[1];
            b.unique_written_bytes += written[0];
            b.unique_written_sectors += written[1];
        }
    }
}
