//! What: running a kernel over a grid.
//! Why here: the one entry point: checks of the launch, the choice of a schedule, reports.
//! Pre: a decoded program and a memory.
//! Post: the memory as the kernel leaves it, or the error of the first block (in grid order) that failed.

use crate::counters::{Counters, Tally, Touched};
use crate::error::LaunchError;
use crate::memory::{Memory, Region};
use crate::printf::{Line, Printed};
use crate::profile::Profile;
use crate::program::{Kernel, Program};
use crate::sanitize::{Finding, Sanitize};
use crate::schedule::{Grid, fast, watched};
use serde::Serialize;

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
    /// What the kernel printed, block by block in grid order. Text beyond 16 MiB per host thread is dropped.
    pub printed: Vec<Printed>,
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
    let cluster = cluster(k, l)?;
    let ranks = cluster.iter().map(|d| u64::from(*d)).product::<u64>();
    if ranks > u64::from(profile.cluster_max_nonportable.max(1)) {
        return Err(format!(
            "clusters of {ranks} blocks; `{}` allows {}",
            profile.name,
            profile.cluster_max_nonportable.max(1)
        ));
    }
    if (0..3).any(|i| !l.grid[i].is_multiple_of(cluster[i])) {
        return Err(format!("grid {:?} is no multiple of the cluster {cluster:?}", l.grid));
    }
    let blocks = l.grid.iter().map(|d| u64::from(*d)).product::<u64>();
    let per_sm = profile.resident_per_sm(threads as u32, o.registers_per_thread, shared);
    let most = u64::from(per_sm) * u64::from(profile.sms);
    if ranks > most {
        return Err(format!("a cluster of {ranks} blocks; `{}` holds {most} of them at once", profile.name));
    }
    if o.cooperative && blocks > most {
        return Err(format!(
            "a cooperative grid of {blocks} blocks; `{}` holds {most} of them at once",
            profile.name
        ));
    }
    Ok(())
}

/// The cluster of a launch, which the kernel may fix.
fn cluster(k: &Kernel, l: &Launch<'_>) -> Result<[u32; 3], String> {
    if l.cluster.contains(&0) {
        return Err(format!("a cluster of {:?} blocks: every extent must be at least 1", l.cluster));
    }
    match k.cluster {
        Some(c) if l.cluster != [1; 3] && l.cluster != c => {
            Err(format!("clusters of {:?} blocks, but the kernel requires {c:?}", l.cluster))
        }
        Some(c) => Ok(c.map(|v| v.max(1))),
        None => Ok(l.cluster),
    }
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

/// Numbers of blocks that the checks can tell apart, in all launches of a sequence.
const WATCHED: u64 = 1 << 27;

/// Runs launches one after the other; the reports are in the order of the steps. Ends at the first fault.
pub fn launch_sequence(
    steps: &[Step<'_>],
    memory: &Memory,
    profile: &Profile,
    options: &Options,
) -> Result<Vec<LaunchReport>, LaunchError> {
    let mut grids: Vec<Grid<'_>> = vec![];
    let mut first = 0u64;
    for (number, s) in steps.iter().enumerate() {
        let g = grid(s, number, first, profile, options)?;
        first += g.blocks;
        grids.push(g);
    }
    let config = |message: String| LaunchError::Config {
        entry: steps.first().map_or_else(String::new, |s| s.launch.entry.into()),
        message,
    };
    let watched = options.seed.is_some() || options.sanitize.shadows();
    if watched && first > WATCHED {
        return Err(config(format!(
            "{first} blocks; the checks and the adversarial schedule tell {WATCHED} apart"
        )));
    }
    let mut regions: Vec<Region> = vec![];
    for g in &grids {
        let image = &g.program.inner.image;
        if image.globals.len() > 0 && regions.iter().all(|r| r.base != image.base) {
            regions.push(Region {
                base: image.base,
                bytes: image.globals.len(),
                ptr: image.globals.ptr(),
                writable: true,
                label: "(module variables)".into(),
                defined: None,
            });
        }
    }
    regions.sort_by_key(|r| r.base);
    regions.extend(memory.regions());
    let touched: Vec<Vec<Touched>> =
        grids.iter().map(|_| regions.iter().map(|_| Touched::default()).collect()).collect();
    let report = |g: &Grid<'_>, mut tally: Tally<'_>, findings: Vec<Finding>| LaunchReport {
        printed: printed(g, std::mem::take(&mut tally.printed)),
        counters: if options.counters {
            tally.finish(g.kernel, &g.program.inner.files)
        } else {
            Counters::default()
        },
        blocks: g.blocks,
        findings,
    };
    if watched {
        let out = watched::run(&grids, &regions, &touched, profile, options);
        if let Some((g, mut fault)) = out.fault {
            fault.findings = out.findings.into_iter().take(g + 1).flatten().collect();
            return Err(LaunchError::Fault(Box::new(fault)));
        }
        let each = grids.iter().zip(out.tallies).zip(out.findings);
        return Ok(each.map(|((g, t), f)| report(g, t, f)).collect());
    }
    let mut reports = vec![];
    for (g, touched) in grids.iter().zip(&touched) {
        let (tally, fault) = fast::run(g, &regions, touched, profile, options);
        if let Some(f) = fault {
            return Err(LaunchError::Fault(Box::new(f)));
        }
        reports.push(report(g, tally, vec![]));
    }
    // Nobody looked at what was written, so nothing counts as undefined any more.
    for r in &regions {
        if let Some(d) = &r.defined {
            d.set(0, r.bytes, true);
        }
    }
    Ok(reports)
}

/// Names who printed.
fn printed(g: &Grid<'_>, mut lines: Vec<Line>) -> Vec<Printed> {
    // Stable: a block's own lines stay in order.
    lines.sort_by_key(|l| l.block);
    let b = g.launch.block;
    let named = |l: Line| Printed {
        block: g.index(u64::from(l.block.wrapping_sub(g.first))),
        thread: [l.thread % b[0], l.thread / b[0] % b[1], l.thread / b[0] / b[1]],
        text: l.text,
    };
    lines.into_iter().map(named).collect()
}

/// Checks a step and settles what follows from it.
fn grid<'a>(
    s: &'a Step<'a>,
    number: usize,
    first: u64,
    profile: &Profile,
    options: &Options,
) -> Result<Grid<'a>, LaunchError> {
    let l = &s.launch;
    let Some(kernel) = s.program.inner.kernels.get(l.entry) else {
        let known = s.program.entries().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ");
        return Err(LaunchError::UnknownEntry { entry: l.entry.into(), known });
    };
    let config = |message| LaunchError::Config { entry: l.entry.into(), message };
    check(kernel, profile, l, options).map_err(config)?;
    let cluster = cluster(kernel, l).map_err(config)?;
    let blocks = l.grid.iter().map(|d| u64::from(*d)).product::<u64>();
    Ok(Grid {
        number,
        program: s.program,
        kernel,
        launch: l,
        cluster,
        shared_bytes: match l.shared_bytes {
            0 => u64::from(kernel.static_shared),
            n => u64::from(kernel.dyn_offset) + u64::from(n),
        },
        blocks,
        gangs: blocks / cluster.iter().map(|d| u64::from(*d)).product::<u64>(),
        first: first as u32,
        pdl: s.pdl && number > 0,
        cooperative: options.cooperative,
    })
}

/// Runs a kernel to its end.
pub fn launch(
    program: &Program,
    memory: &Memory,
    profile: &Profile,
    launch: &Launch<'_>,
    options: &Options,
) -> Result<LaunchReport, LaunchError> {
    let steps = [Step { program, launch: *launch, pdl: false }];
    Ok(launch_sequence(&steps, memory, profile, options)?.pop().unwrap_or_default())
}
