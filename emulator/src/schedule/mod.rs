//! What: running the blocks of grids: which run when, on how many host threads.
//! Why here: the fast schedule spreads blocks over host threads and keeps no shadow state; the watched one runs
//! everything on one host thread in one order, for checks and for adversarial seeds.
//! Pre: launches that were checked against their kernels and the device.
//! Post: memory as the kernels leave it, or the fault of the first block that failed.

pub(crate) mod fast;
pub(crate) mod watched;

use crate::counters::Tally;
use crate::error::{Fault, FaultKind};
use crate::launch::{Launch, Options};
use crate::machine::cluster::ClusterBarrier;
use crate::machine::context::{Context, RawFault};
use crate::memory::Region;
use crate::profile::Profile;
use crate::program::{Kernel, Program};
use crate::sanitize::Site;

/// One launch, with what follows from it.
#[derive(Clone, Copy)]
pub(crate) struct Grid<'a> {
    /// Number in the sequence.
    pub(crate) number: usize,
    pub(crate) program: &'a Program,
    pub(crate) kernel: &'a Kernel,
    pub(crate) launch: &'a Launch<'a>,
    /// Blocks of a cluster.
    pub(crate) cluster: [u32; 3],
    /// Shared memory of a block.
    pub(crate) shared_bytes: u64,
    pub(crate) blocks: u64,
    /// Clusters.
    pub(crate) gangs: u64,
    /// Number in the sequence of its first block.
    pub(crate) first: u32,
    /// Whether it may overlap the grid before.
    pub(crate) pdl: bool,
    /// Whether all its blocks are on the device at once.
    pub(crate) cooperative: bool,
}

impl Grid<'_> {
    /// The block of that rank in a cluster: its number and its index.
    pub(crate) fn block(&self, gang: u64, rank: u32) -> (u64, [u32; 3]) {
        let (g, c) = (self.launch.grid, self.cluster);
        let n = [g[0] / c[0], g[1] / c[1]].map(u64::from);
        let at = [gang % n[0], gang / n[0] % n[1], gang / n[0] / n[1]].map(|v| v as u32);
        let within = [rank % c[0], rank / c[0] % c[1], rank / c[0] / c[1]];
        let id: [u32; 3] = std::array::from_fn(|i| at[i] * c[i] + within[i]);
        let [x, y, z] = id.map(u64::from);
        (x + u64::from(g[0]) * (y + u64::from(g[1]) * z), id)
    }

    /// The index of a block by its number.
    pub(crate) fn index(&self, number: u64) -> [u32; 3] {
        let (gx, gy) = (u64::from(self.launch.grid[0]), u64::from(self.launch.grid[1]));
        [(number % gx) as u32, (number / gx % gy) as u32, (number / gx / gy) as u32]
    }

    /// Names a thread and an instruction.
    pub(crate) fn site(&self, block: [u32; 3], thread: Option<u32>, pc: u32) -> Site {
        let b = self.launch.block;
        let meta = self.kernel.meta.get(pc as usize);
        let source_line = meta.and_then(|m| {
            if m.line == 0 {
                return None;
            }
            let files = &self.program.inner.files;
            let file = files.get(&m.file).cloned().unwrap_or_else(|| format!("file {}", m.file));
            Some((file, m.line))
        });
        Site {
            block,
            thread: thread.map(|t| [t % b[0], t / b[0] % b[1], t / b[0] / b[1]]),
            ptx_line: meta.map_or(0, |m| m.ptx_line),
            source_line,
            instruction: meta
                .and_then(|m| self.kernel.texts.get(m.text as usize))
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Gives a fault its place.
    pub(crate) fn fault(&self, block: [u32; 3], warp: usize, raw: RawFault) -> Fault {
        let t = warp as u32 * 32 + raw.lane.min(31);
        let at = self.site(block, Some(t), raw.pc);
        Fault {
            kernel: self.kernel.name.clone(),
            block,
            thread: at.thread.unwrap_or_default(),
            ptx_line: at.ptx_line,
            source_line: at.source_line,
            instruction: at.instruction,
            kind: raw.kind,
            findings: vec![],
        }
    }

    /// A context for its blocks.
    pub(crate) fn context<'c>(&self, regions: &'c [Region], tally: Tally<'c>, o: &Options) -> Context<'c>
    where
        Self: 'c,
    {
        Context {
            kernel: self.kernel,
            program: self.program,
            regions,
            hints: vec![0; self.kernel.code.len()],
            shared: std::ptr::null_mut(),
            shared_bytes: self.shared_bytes,
            peers: vec![],
            uid: 0,
            rank: 0,
            cluster: ClusterBarrier::default(),
            params: self.launch.params,
            local_bytes: u64::from(self.kernel.local_bytes),
            tally,
            clock: 0,
            leaps: 0,
            leapt: 0,
            budget: o.instruction_budget,
            pool: 0,
            phases: 0,
            now: 0,
            effects: 0,
            arrivals: 0,
            grid_before: Some(0),
            released: false,
            hooked: false,
            storing: None,
            trace: None,
            watch: None,
            broken: None,
            chaos: None,
        }
    }
}

/// What one block takes of an SM: warps, shared memory, registers, blocks.
pub(crate) fn needs(g: &Grid<'_>, p: &Profile, registers: u32) -> [u64; 4] {
    let warps = u64::from(g.launch.block.iter().product::<u32>().div_ceil(32));
    let unit = u64::from(p.shared_unit.max(1));
    let shared = (g.shared_bytes + u64::from(p.shared_reserved_per_block)).next_multiple_of(unit);
    [warps, shared, warps * u64::from(if registers == 0 { 0 } else { p.registers_of_warp(registers) }), 1]
}

/// What an SM has.
pub(crate) fn has(p: &Profile) -> [u64; 4] {
    [p.warps_per_sm, p.shared_per_sm, p.registers_per_sm, p.blocks_per_sm].map(u64::from)
}

/// Blocks that are on the device at once.
pub(crate) fn resident(g: &Grid<'_>, p: &Profile, registers: u32) -> u64 {
    let per_sm = p.resident_per_sm(g.launch.block.iter().product(), registers, g.shared_bytes);
    u64::from(per_sm.max(1)) * u64::from(p.sms.max(1))
}

/// At most this many waiting threads are listed.
const LISTED: usize = 64;

/// A deadlock, in words: blocks that wait, those that have not started, and how many fit at once.
pub(crate) fn deadlock(
    mut waiting: Vec<([u32; 3], Vec<String>)>,
    not_started: u64,
    at_once: u64,
) -> FaultKind {
    waiting.sort_by_key(|(b, _)| [b[2], b[1], b[0]]);
    let alone = waiting.len() == 1 && not_started == 0;
    let mut lines = vec![];
    let mut more = 0;
    for ([x, y, z], list) in waiting {
        for what in list {
            if lines.len() == LISTED {
                more += 1;
            } else if alone {
                lines.push(what);
            } else {
                lines.push(format!("block ({x},{y},{z}) {what}"));
            }
        }
    }
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if not_started > 0 {
        lines.push(format!("{not_started} blocks cannot start: the device holds {at_once} at once"));
    }
    FaultKind::Deadlock { waiting: lines.join("; ") }
}
