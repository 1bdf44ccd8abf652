//! What: running a kernel over a grid.
//! Why here: the one entry point: checks, host threads, faults with their place, counters.
//! Pre: a decoded program and a memory.
//! Post: the memory as the kernel leaves it, or the error of the first block (in grid order) that failed.

use crate::counters::{Counters, Tally, Touched};
use crate::error::{Fault, LaunchError};
use crate::machine::block::Block;
use crate::machine::context::{Context, RawFault};
use crate::machine::warp::Warp;
use crate::machine::watch::{Watch, Written};
use crate::memory::{Memory, Region};
use crate::profile::Profile;
use crate::program::{Kernel, Program};
use crate::sanitize::{Finding, FindingKind, Sanitize, Site};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What to launch.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The entry.
    pub entry: &'a str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// Blocks of a cluster in x, y, z; all ones where there are no clusters.
    pub cluster: [u32; 3],
    /// The parameter buffer, laid out as `Program::params` says.
    pub params: &'a [u8],
}

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether to count.
    pub counters: bool,
    /// Host threads over which blocks are spread; 0 means one per available core.
    pub threads: usize,
    /// Warp instructions that one block may run before the launch is taken for an endless loop.
    pub instruction_budget: u64,
    /// What to check beside bounds, alignment and deadlock.
    pub sanitize: Sanitize,
    /// Registers of a thread, as the CUBIN's report gives them; they decide how many blocks an SM holds. 0 if
    /// they are not known.
    pub registers_per_thread: u32,
    /// Whether all blocks must be on the device at once.
    pub cooperative: bool,
    /// `None` runs the fast schedule. A seed picks one adversarial schedule: threads run apart and in any order,
    /// asynchronous copies land late and in pieces, waits fail spuriously. Equal seeds replay exactly.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            counters: false,
            threads: 0,
            instruction_budget: 1 << 40,
            sanitize: Sanitize::default(),
            registers_per_thread: 0,
            cooperative: false,
            seed: None,
        }
    }
}

/// What a launch gives back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LaunchReport {
    /// What was counted; all zero unless `Options::counters`.
    pub counters: Counters,
    /// Blocks that ran.
    pub blocks: u64,
    /// What the checks of `Options::sanitize` found; empty for a clean kernel.
    pub findings: Vec<Finding>,
}

fn check(k: &Kernel, profile: &Profile, l: &Launch<'_>, o: &Options) -> Result<(), String> {
    let threads = l.block.iter().map(|d| u64::from(*d)).product::<u64>();
    if threads == 0 || l.grid.contains(&0) {
        return Err(format!("grid {:?} of blocks {:?}: every extent must be at least 1", l.grid, l.block));
    }
    if threads > u64::from(profile.threads_per_block_max) || l.block[2] > 64 {
        return Err(format!(
            "blocks of {threads} threads {:?}; `{}` allows {} (64 in z)",
            l.block, profile.name, profile.threads_per_block_max
        ));
    }
    if l.grid[0] > i32::MAX as u32 || l.grid[1] > 65_535 || l.grid[2] > 65_535 {
        return Err(format!("grid {:?}: at most 2147483647 x 65535 x 65535 blocks", l.grid));
    }
    if let Some(r) = k.reqntid
        && r != l.block
    {
        return Err(format!("block {:?}, but the kernel requires {r:?}", l.block));
    }
    if let Some(m) = k.maxntid {
        let most = m.iter().map(|d| u64::from(*d)).product::<u64>();
        if threads > most {
            return Err(format!(
                "blocks of {threads} threads, but the kernel was compiled for at most {most}"
            ));
        }
    }
    let shared = u64::from(k.dyn_offset) + u64::from(l.shared_bytes);
    if shared > u64::from(profile.shared_per_block_max) {
        return Err(format!(
            "{shared} bytes of shared memory ({} static, {} dynamic); `{}` allows {}",
            k.static_shared, l.shared_bytes, profile.name, profile.shared_per_block_max
        ));
    }
    if l.params.len() != k.param_bytes as usize {
        return Err(format!(
            "{} bytes of parameters where the entry takes {}",
            l.params.len(),
            k.param_bytes
        ));
    }
    let registers = u64::from(o.registers_per_thread.checked_next_multiple_of(8).unwrap_or(u32::MAX));
    let warps = threads.div_ceil(32);
    if o.registers_per_thread > 255 || registers * warps * 32 > u64::from(profile.registers_per_sm) {
        return Err(format!(
            "{threads} threads of {} registers; a thread has up to 255 and an SM of `{}` {}",
            o.registers_per_thread, profile.name, profile.registers_per_sm
        ));
    }
    if l.cluster != [1; 3] {
        return Err(format!("clusters of {:?} blocks are not supported", l.cluster));
    }
    let blocks = l.grid.iter().map(|d| u64::from(*d)).product::<u64>();
    let most = resident(k, profile, l, o);
    if o.cooperative && blocks > most {
        return Err(format!(
            "a cooperative grid of {blocks} blocks; `{}` holds {most} of them at once",
            profile.name
        ));
    }
    Ok(())
}

/// One launch of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The module.
    pub program: &'a Program,
    /// What to launch.
    pub launch: Launch<'a>,
    /// Whether it may start before the step before it has ended (programmatic dependent launch).
    pub pdl: bool,
}

/// Runs launches one after the other; the reports are in the order of the steps. Ends at the first fault.
pub fn launch_sequence(
    steps: &[Step<'_>],
    memory: &Memory,
    profile: &Profile,
    options: &Options,
) -> Result<Vec<LaunchReport>, LaunchError> {
    steps.iter().map(|s| launch(s.program, memory, profile, &s.launch, options)).collect()
}

/// Findings by kind and instructions, of the earliest block that had them.
type Earliest = BTreeMap<(FindingKind, u32, u32), (u64, Finding)>;

/// The state that host threads share.
struct Shared<'a> {
    program: &'a Program,
    kernel: &'a Kernel,
    launch: &'a Launch<'a>,
    options: &'a Options,
    profile: &'a Profile,
    regions: &'a [Region],
    touched: &'a [Touched],
    blocks: u64,
    next: AtomicU64,
    /// Blocks from here on need not run, because an earlier one failed.
    stop: AtomicU64,
    first_fault: Mutex<Option<(u64, LaunchError)>>,
    written: &'a Written,
    findings: Mutex<Earliest>,
}

/// Runs a kernel to its end.
pub fn launch(
    program: &Program,
    memory: &Memory,
    profile: &Profile,
    launch: &Launch<'_>,
    options: &Options,
) -> Result<LaunchReport, LaunchError> {
    let Some(kernel) = program.inner.kernels.get(launch.entry) else {
        let known = program.entries().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ");
        return Err(LaunchError::UnknownEntry { entry: launch.entry.into(), known });
    };
    check(kernel, profile, launch, options)
        .map_err(|message| LaunchError::Config { entry: launch.entry.into(), message })?;
    let image = &program.inner.image;
    let mut regions = vec![];
    if image.globals.len() > 0 {
        regions.push(Region {
            base: image.base,
            bytes: image.globals.len(),
            ptr: image.globals.ptr(),
            writable: true,
            label: "(module variables)".into(),
        });
    }
    regions.extend(memory.regions());
    let touched: Vec<Touched> = regions.iter().map(|_| Touched::default()).collect();
    let table = |r: &Region| -> Vec<AtomicU32> {
        if r.writable { (0..r.bytes).map(|_| AtomicU32::new(0)).collect() } else { vec![] }
    };
    let written: Written = if options.sanitize.nc { regions.iter().map(table).collect() } else { vec![] };
    let blocks = launch.grid.iter().map(|d| u64::from(*d)).product::<u64>();
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = if options.threads == 0 { available() } else { options.threads };
    let threads = (threads as u64).min(blocks).max(1);
    let shared = Shared {
        program,
        kernel,
        launch,
        options,
        profile,
        regions: &regions,
        touched: &touched,
        blocks,
        next: AtomicU64::new(0),
        stop: AtomicU64::new(u64::MAX),
        first_fault: Mutex::new(None),
        written: &written,
        findings: Mutex::default(),
    };
    let mut total = if threads == 1 {
        worker(&shared, threads)
    } else {
        std::thread::scope(|s| {
            let handles: Vec<_> = (1..threads).map(|_| s.spawn(|| worker(&shared, threads))).collect();
            let mut total = worker(&shared, threads);
            for h in handles {
                match h.join() {
                    Ok(t) => total.merge(&t),
                    Err(e) => std::panic::resume_unwind(e),
                }
            }
            total
        })
    };
    let fault = shared.first_fault.lock().map(|mut f| f.take()).unwrap_or(None);
    if let Some((_, e)) = fault {
        return Err(e);
    }
    let counters = if options.counters {
        let empty = Tally::new(0, &regions, &touched);
        std::mem::replace(&mut total, empty).finish(kernel, &program.inner.files)
    } else {
        Counters::default()
    };
    let findings = shared.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(LaunchReport { counters, blocks, findings: findings.into_values().map(|(_, f)| f).collect() })
}

/// Warp instructions that a block runs before another one gets a turn: long enough that blocks which do not
/// wait for others nearly always run to their end at once.
const SLICE: u64 = 1 << 17;
/// Slices that unfinished blocks still get after a fault: one of them may wait for the block that failed.
const GRACE: u32 = 256;

/// Blocks that are on the device at once.
fn resident(k: &Kernel, p: &Profile, l: &Launch<'_>, o: &Options) -> u64 {
    let shared = u64::from(k.dyn_offset) + u64::from(l.shared_bytes);
    let per_sm = p.resident_per_sm(l.block.iter().product(), o.registers_per_thread, shared);
    u64::from(per_sm.max(1)) * u64::from(p.sms.max(1))
}

fn worker<'a>(s: &Shared<'a>, host_threads: u64) -> Tally<'a> {
    let (k, l) = (s.kernel, s.launch);
    let threads = l.block.iter().product::<u32>();
    let shared_bytes = u64::from(k.dyn_offset) + u64::from(l.shared_bytes);
    let make = || {
        let mut warps: Vec<Warp> = (0..threads.div_ceil(32)).map(|i| Warp::new(k, i, threads)).collect();
        for w in &mut warps {
            w.init_constants(k, l.block, l.grid, s.profile.sms, l.shared_bytes);
        }
        let checks = s.options.sanitize;
        Block::new(warps, shared_bytes, checks.shadows().then(|| Box::new(Watch::new(checks, threads))))
    };
    let counting = if s.options.counters { k.code.len() } else { 0 };
    let mut cx = Context {
        kernel: k,
        program: s.program,
        regions: s.regions,
        hints: vec![0; k.code.len()],
        shared: vec![],
        shared_bytes,
        params: l.params,
        local_bytes: u64::from(k.local_bytes),
        tally: Tally::new(counting, s.regions, s.touched),
        clock: 0,
        budget: s.options.instruction_budget,
        phases: 0,
        watch: None,
        written: s.written,
    };
    let most = resident(k, s.profile, l, s.options).div_ceil(host_threads) as usize;
    let mut flying: VecDeque<Block> = VecDeque::new();
    let mut idle: Vec<Block> = vec![];
    let mut grace = 0;
    loop {
        // A block that is still in flight after its slice may wait for one that has not started.
        if flying.len() < most
            && let Some(b) = next_block(s)
        {
            let (gx, gy) = (u64::from(l.grid[0]), u64::from(l.grid[1]));
            let ctaid = [(b % gx) as u32, (b / gx % gy) as u32, (b / gx / gy) as u32];
            let mut block = idle.pop().unwrap_or_else(make);
            block.reset(k, b, ctaid, (b % u64::from(s.profile.sms.max(1))) as u32);
            flying.push_front(block);
        }
        let Some(mut block) = flying.pop_front() else { return cx.tally };
        if block.index >= s.stop.load(Relaxed) {
            continue;
        }
        let ran = block.run(&mut cx, SLICE, s.options.counters);
        collect(s, &mut block);
        match ran {
            Ok(true) => idle.push(block),
            Ok(false) => {
                grace += u32::from(s.stop.load(Relaxed) != u64::MAX);
                if grace <= GRACE {
                    flying.push_back(block);
                }
            }
            Err((warp, raw)) => {
                s.stop.fetch_min(block.index, Relaxed);
                let e = describe(s, block.ctaid, warp, *raw);
                if let Ok(mut f) = s.first_fault.lock()
                    && f.as_ref().is_none_or(|(old, _)| block.index < *old)
                {
                    *f = Some((block.index, e));
                }
            }
        }
    }
}

/// The next block of the grid, unless an earlier one has failed.
fn next_block(s: &Shared<'_>) -> Option<u64> {
    let b = s.next.fetch_add(1, Relaxed);
    (b < s.blocks && b < s.stop.load(Relaxed)).then_some(b)
}

/// Takes what the checks of a block have found.
fn collect(s: &Shared<'_>, block: &mut Block) {
    let Some(w) = block.watch.as_mut().filter(|w| !w.found.is_empty()) else { return };
    let Ok(mut all) = s.findings.lock() else { return };
    for (key, raw) in std::mem::take(&mut w.found) {
        if all.get(&key).is_none_or(|(old, _)| block.index < *old) {
            let finding = Finding {
                kind: key.0,
                kernel: s.kernel.name.clone(),
                block: block.ctaid,
                at: site(s, block.ctaid, raw.thread, raw.pc),
                other: raw.other.map(|(t, pc)| site(s, block.ctaid, t, pc)),
                message: raw.message,
            };
            all.insert(key, (block.index, finding));
        }
    }
}

/// Names a thread and an instruction.
fn site(s: &Shared<'_>, block: [u32; 3], thread: Option<u32>, pc: u32) -> Site {
    let b = s.launch.block;
    let meta = s.kernel.meta.get(pc as usize);
    let source_line = meta.and_then(|m| {
        if m.line == 0 {
            return None;
        }
        let file = s.program.inner.files.get(&m.file).cloned().unwrap_or_else(|| format!("file {}", m.file));
        Some((file, m.line))
    });
    Site {
        block,
        thread: thread.map(|t| [t % b[0], t / b[0] % b[1], t / b[0] / b[1]]),
        ptx_line: meta.map_or(0, |m| m.ptx_line),
        source_line,
        instruction: meta.and_then(|m| s.kernel.texts.get(m.text as usize)).cloned().unwrap_or_default(),
    }
}

fn describe(s: &Shared<'_>, ctaid: [u32; 3], warp: usize, raw: RawFault) -> LaunchError {
    let t = warp as u32 * 32 + raw.lane.min(31);
    let at = site(s, ctaid, Some(t), raw.pc);
    LaunchError::Fault(Box::new(Fault {
        kernel: s.kernel.name.clone(),
        block: ctaid,
        thread: at.thread.unwrap_or_default(),
        ptx_line: at.ptx_line,
        source_line: at.source_line,
        instruction: at.instruction,
        kind: raw.kind,
        findings: vec![],
    }))
}
