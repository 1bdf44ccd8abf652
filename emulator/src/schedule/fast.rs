//! What: the fast schedule: blocks spread over host threads, without checks.
//! Why here: most launches only want results and counts.
//! Pre: one grid; a grid that depends on another one runs after it.
//! Post: results and counters do not depend on the number of host threads, but for kernels that race.

use super::{Grid, deadlock, resident};
use crate::counters::{Tally, Touched};
use crate::error::Fault;
use crate::launch::Options;
use crate::machine::block::Progress;
use crate::machine::context::{Context, LEAPS, RawFault};
use crate::machine::gang::Gang;
use crate::memory::Region;
use crate::profile::Profile;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

/// Warp instructions that a block runs before another one gets a turn: long enough that blocks which do not
/// wait for others nearly always run to their end at once.
const SLICE: u64 = 1 << 17;

/// The state that host threads share.
struct Shared<'a> {
    grid: &'a Grid<'a>,
    regions: &'a [Region],
    touched: &'a [Touched],
    profile: &'a Profile,
    options: &'a Options,
    /// Clusters that are on the device at once, and those that are.
    most: u64,
    flying: AtomicU64,
    next: AtomicU64,
    /// Clusters from here on need not run, because an earlier one failed.
    stop: AtomicU64,
    fault: Mutex<Option<(u64, Fault)>>,
    /// Rises whenever something moved.
    progress: AtomicU64,
    /// Per host thread, the progress at which it found that nothing moves; the maximum when it has ended.
    still: Vec<AtomicU64>,
    dead: AtomicBool,
    /// How often time went on by itself.
    leaps: AtomicU32,
    waiting: Mutex<Vec<([u32; 3], Vec<String>)>>,
}

/// Runs a grid to its end.
pub(crate) fn run<'a>(
    grid: &'a Grid<'a>,
    regions: &'a [Region],
    touched: &'a [Touched],
    profile: &'a Profile,
    options: &'a Options,
) -> (Tally<'a>, Option<Fault>) {
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = if options.threads == 0 { available() } else { options.threads };
    let threads = (threads as u64).min(grid.gangs).max(1) as usize;
    let ranks = grid.cluster.iter().product::<u32>();
    let shared = Shared {
        grid,
        regions,
        touched,
        profile,
        options,
        most: (resident(grid, profile, options.registers_per_thread) / u64::from(ranks)).max(1),
        flying: AtomicU64::new(0),
        next: AtomicU64::new(0),
        stop: AtomicU64::new(u64::MAX),
        fault: Mutex::new(None),
        progress: AtomicU64::new(1),
        still: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        dead: AtomicBool::new(false),
        leaps: AtomicU32::new(0),
        waiting: Mutex::default(),
    };
    let total = if threads == 1 {
        worker(&shared, 0)
    } else {
        std::thread::scope(|s| {
            let handles: Vec<_> = (1..threads)
                .map(|i| {
                    s.spawn({
                        let x = &shared;
                        move || worker(x, i)
                    })
                })
                .collect();
            let mut total = worker(&shared, 0);
            for h in handles {
                match h.join() {
                    Ok(t) => total.merge(&t),
                    Err(e) => std::panic::resume_unwind(e),
                }
            }
            total
        })
    };
    let mut fault = shared.fault.lock().map(|mut f| f.take()).unwrap_or(None).map(|f| f.1);
    if fault.is_none() && shared.dead.load(SeqCst) {
        let waiting = shared.waiting.lock().map(|mut w| std::mem::take(&mut *w)).unwrap_or_default();
        let first = waiting.iter().map(|(b, _)| *b).min_by_key(|b| [b[2], b[1], b[0]]).unwrap_or_default();
        let left = grid.gangs.saturating_sub(shared.next.load(SeqCst)) * u64::from(ranks);
        let kind = deadlock(waiting, left, shared.most * u64::from(ranks));
        let (warp, lane, pc) = (0, 0, 0);
        fault = Some(grid.fault(first, warp, RawFault { kind, lane, pc }));
    }
    (total, fault)
}

/// The next cluster of the grid, if the device has room for it and no earlier one has failed.
fn claim(s: &Shared<'_>) -> Option<u64> {
    if s.flying.fetch_add(1, SeqCst) < s.most {
        let next = s
            .next
            .fetch_update(SeqCst, SeqCst, |n| (n < s.grid.gangs && n < s.stop.load(SeqCst)).then_some(n + 1));
        if let Ok(i) = next {
            return Some(i);
        }
    }
    s.flying.fetch_sub(1, SeqCst);
    None
}

fn worker<'a>(s: &Shared<'a>, me: usize) -> Tally<'a> {
    let counting = if s.options.counters { s.grid.kernel.code.len() } else { 0 };
    let tally = Tally::new(counting, s.regions, s.touched);
    let mut cx = s.grid.context(s.regions, tally, s.options);
    let mut flying: VecDeque<Gang> = VecDeque::new();
    let mut idle: Vec<Gang> = vec![];
    let timed = cx.timed();
    loop {
        let before = s.progress.load(SeqCst);
        let leaps = s.leaps.load(SeqCst);
        cx.leap(leaps);
        let moved = pass(s, &mut cx, &mut flying, &mut idle);
        let over = s.next.load(SeqCst) >= s.grid.gangs.min(s.stop.load(SeqCst));
        if moved {
            s.progress.fetch_add(1, SeqCst);
        }
        if flying.is_empty() && over {
            s.still[me].store(u64::MAX, SeqCst);
            return cx.tally;
        }
        if moved {
            continue;
        }
        s.still[me].store(before, SeqCst);
        let now = s.progress.load(SeqCst);
        if s.still.iter().all(|t| matches!(t.load(SeqCst), v if v == now || v == u64::MAX)) {
            if timed && leaps < LEAPS {
                // Where a wait may end by itself, time goes on once nothing else does. One thread says so.
                if s.leaps.compare_exchange(leaps, leaps + 1, SeqCst, SeqCst).is_ok() {
                    s.progress.fetch_add(1, SeqCst);
                }
                continue;
            }
            s.dead.store(true, SeqCst);
        }
        if s.dead.load(SeqCst) {
            let mine: Vec<_> = flying.iter_mut().flat_map(|g| g.waiting(&mut cx)).collect();
            if let Ok(mut w) = s.waiting.lock() {
                w.extend(mine);
            }
            return cx.tally;
        }
        std::thread::yield_now();
    }
}

/// Starts one cluster if there is room, and gives each one in flight a slice; says whether anything moved.
fn pass(s: &Shared<'_>, cx: &mut Context<'_>, flying: &mut VecDeque<Gang>, idle: &mut Vec<Gang>) -> bool {
    let mut moved = false;
    // A block that is still in flight after its slice may wait for one that has not started.
    if let Some(i) = claim(s) {
        let mut g = idle.pop().unwrap_or_else(|| Gang::new(s.grid, s.profile.sms, false));
        let ranks = g.blocks.len() as u64;
        let sms: Vec<usize> =
            (0..ranks).map(|r| ((i * ranks + r) % u64::from(s.profile.sms.max(1))) as usize).collect();
        g.reset(s.grid, i, &sms, s.options.registers_per_thread);
        flying.push_front(g);
        moved = true;
    }
    for _ in 0..flying.len() {
        let Some(mut g) = flying.pop_front() else { break };
        if g.index >= s.stop.load(SeqCst) {
            s.flying.fetch_sub(1, SeqCst);
            moved = true;
            continue;
        }
        let mut failed = None;
        match g.run(cx, SLICE, s.options.counters) {
            Ok(Progress::Ended) => {
                idle.push(g);
                s.flying.fetch_sub(1, SeqCst);
                moved = true;
                continue;
            }
            Ok(Progress::Moved) => moved = true,
            Ok(Progress::Stuck) if g.alone() && (cx.leaps == LEAPS || !cx.timed()) => {
                let (warp, lane, pc) = g.blocks[0].first();
                let kind = deadlock(g.waiting(cx), 0, 0);
                failed = Some((0, (warp, Box::new(RawFault { kind, lane, pc }))));
            }
            Ok(Progress::Stuck) => {}
            Err(f) => failed = Some(f),
        }
        let Some((block, (warp, raw))) = failed else {
            flying.push_back(g);
            continue;
        };
        moved = true;
        s.flying.fetch_sub(1, SeqCst);
        s.stop.fetch_min(g.index, SeqCst);
        let fault = s.grid.fault(g.blocks[block].ctaid, warp, *raw);
        if let Ok(mut f) = s.fault.lock()
            && f.as_ref().is_none_or(|(old, _)| g.index < *old)
        {
            *f = Some((g.index, fault));
        }
    }
    moved
}
