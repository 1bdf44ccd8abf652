//! What: a block: its warps, its shared memory, and the order in which warps run.
//! Why here: a block is resumable: it runs for a slice and can then make room for another one, so that blocks
//! that wait for each other make progress. The fast schedule takes warps in turn; an adversarial one shuffles
//! them and cuts their turns short.
//! Pre: warps made for the kernel.
//! Post: all threads have exited, or the slice is over, or nothing moves, or a fault with the index of its warp.

use super::barrier::Barriers;
use super::chaos;
use super::context::{Context, RawFault};
use super::mbarrier;
use super::poll::{self, Calm};
use super::run::{Event, run};
use super::warp::{Wait, Warp};
use crate::error::FaultKind;
use crate::inst::Op;
use crate::program::Kernel;

/// Instructions that a warp runs before others get a turn.
const QUANTUM: u32 = 4096;
/// Instructions without effect after which the loops of a warp may be polls.
const IDLE: u64 = 2048;

/// A block in flight.
pub(crate) struct Block {
    /// Number in the grid.
    pub(crate) index: u64,
    /// Number in the sequence of launches.
    pub(crate) uid: u32,
    pub(crate) ctaid: [u32; 3],
    /// Rank in its cluster.
    pub(crate) rank: u32,
    pub(crate) warps: Vec<Warp>,
    barriers: Barriers,
    done: Vec<bool>,
    ended: bool,
    /// Shared memory, 16-byte aligned.
    shared: Vec<u128>,
    /// The slot by which the checks know it.
    pub(crate) slot: usize,
    /// The SM that it runs on.
    pub(crate) sm: usize,
    /// Warp instructions so far; the block's clock.
    clock: u64,
    /// Registers per thread that its warps have given up.
    pool: u32,
    /// Whether it let the next grid start.
    pub(crate) released: bool,
    /// Per warp, instructions since something that others can see.
    quiet: Vec<u64>,
    /// Whether all its threads poll together.
    calm: Calm,
}

/// What a slice of a block came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Ended,
    Moved,
    /// All threads wait.
    Stuck,
}

/// A fault and the index of its warp.
pub(crate) type BlockFault = (usize, Box<RawFault>);

impl Block {
    pub(crate) fn new(warps: Vec<Warp>, shared_bytes: u64) -> Block {
        Block {
            index: 0,
            uid: 0,
            ctaid: [0; 3],
            rank: 0,
            barriers: Barriers::new(warps.len()),
            done: vec![false; warps.len()],
            ended: false,
            shared: vec![0; shared_bytes.div_ceil(16) as usize + 4],
            slot: 0,
            sm: 0,
            clock: 0,
            pool: 0,
            released: false,
            quiet: vec![0; warps.len()],
            calm: Calm::default(),
            warps,
        }
    }

    /// Makes the block ready to run as block `index` of the grid.
    pub(crate) fn reset(
        &mut self,
        kernel: &Kernel,
        (index, uid): (u64, u32),
        ctaid: [u32; 3],
        cluster: [u32; 3],
    ) {
        (self.index, self.uid, self.ctaid) = (index, uid, ctaid);
        let within = |i: usize| ctaid[i] % cluster[i];
        self.rank = within(0) + cluster[0] * (within(1) + cluster[1] * within(2));
        (self.clock, self.ended, self.released, self.pool) = (0, false, false, 0);
        self.barriers = Barriers::new(self.warps.len());
        self.done.fill(false);
        self.quiet.fill(0);
        self.calm = Calm::default();
        self.shared.fill(0);
        let sm = self.sm as u32;
        for w in &mut self.warps {
            w.reset(kernel, ctaid, cluster, sm);
        }
    }

    /// The host address of its shared memory.
    pub(crate) fn memory(&mut self) -> *mut u8 {
        self.shared.as_mut_ptr().cast()
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Runs for about `slice` warp instructions.
    pub(crate) fn run(
        &mut self,
        cx: &mut Context<'_>,
        slice: u64,
        count: bool,
    ) -> Result<Progress, BlockFault> {
        if self.ended {
            return Ok(Progress::Ended);
        }
        cx.clock = self.clock;
        (cx.released, cx.pool) = (self.released, self.pool);
        if let Some(t) = self.calm.trace.take() {
            cx.trace = Some(t);
            cx.rehook();
        }
        let r = self.slice(cx, self.clock.saturating_add(slice), count);
        if self.calm.looks() {
            self.calm.trace = cx.trace.take();
            cx.rehook();
        }
        self.clock = cx.clock;
        (self.released, self.pool) = (cx.released, cx.pool);
        if matches!(r, Ok(Progress::Ended)) {
            self.ended = true;
            let at = self.memory() as usize;
            chaos::drain(cx, self.uid, (at, at + 16 * self.shared.len()));
        }
        r
    }

    fn slice(&mut self, cx: &mut Context<'_>, until: u64, count: bool) -> Result<Progress, BlockFault> {
        let mut progress = Progress::Stuck;
        let n = self.warps.len();
        while cx.clock < until {
            let mut moved = false;
            let first = cx.chaos.as_mut().map_or(0, |c| c.below(n as u64) as usize);
            let picky = cx.chaos.as_mut().is_some_and(|c| c.one_in(2));
            for k in 0..n {
                let i = (first + k) % n;
                if self.done[i] {
                    continue;
                }
                if picky && cx.chaos.as_mut().is_some_and(|c| c.one_in(3)) {
                    // Who is passed over may move next time.
                    moved = true;
                    continue;
                }
                moved |= self.turn(i, cx, count)?;
                if cx.chaos.is_some() {
                    let effects = cx.effects;
                    chaos::tick(cx);
                    // What has landed may be what a warp waits for.
                    moved |= cx.effects != effects;
                }
                if let Some((what, owner, pc)) = cx.broken.take() {
                    let kind = FaultKind::Mbarrier { what };
                    return Err((owner.1 as usize % n, Box::new(RawFault { kind, lane: owner.2, pc })));
                }
                if cx.clock > cx.budget {
                    let (pc, lane) =
                        self.warps[i].splits.first().map_or((0, 0), |s| (s.pc, s.mask.trailing_zeros()));
                    let kind = FaultKind::Budget { budget: cx.budget };
                    return Err((i, Box::new(RawFault { kind, lane, pc })));
                }
            }
            if self.done.iter().all(|d| *d) {
                return Ok(Progress::Ended);
            }
            if !moved {
                // Where somebody looks on, lanes wait to pass aligned barriers together.
                if !self.force(cx) {
                    return Ok(progress);
                }
            }
            progress = Progress::Moved;
            if cx.chaos.is_some() {
                // The clock moves on even when nobody was chosen.
                cx.clock += 1;
            }
        }
        Ok(progress)
    }

    /// Lets lanes pass an aligned barrier to which the rest of their warp does not come.
    fn force(&mut self, cx: &mut Context<'_>) -> bool {
        if !cx.orderly() {
            return false;
        }
        let mut any = false;
        for w in &mut self.warps {
            // Lanes that others may yet help can still come.
            let helped = |s: &super::warp::Split| {
                matches!(s.wait, Wait::Poll | Wait::Grid | Wait::Cluster(_) | Wait::Mbarrier { .. })
            };
            if w.splits.iter().any(helped) {
                continue;
            }
            let (id, live) = (w.id, w.live());
            for s in &mut w.splits {
                let barrier = matches!(cx.kernel.code[s.pc as usize].op, Op::Bar { .. } | Op::Cluster(_));
                if barrier && matches!(s.wait, Wait::Members(_)) {
                    if let Some(x) = &mut cx.watch {
                        x.parted(s.pc, id, s.mask, live);
                    }
                    (s.wait, s.forced, any) = (Wait::Ready, true, true);
                }
            }
        }
        any
    }

    /// One warp's turn; says whether anything moved.
    fn turn(&mut self, i: usize, cx: &mut Context<'_>, count: bool) -> Result<bool, BlockFault> {
        let mut moved = false;
        let start = cx.clock;
        let (phases, effects) = (cx.phases, cx.effects);
        let quantum = match &mut cx.chaos {
            Some(_) if self.warps[i].idle => QUANTUM / 8,
            Some(c) => 1 << c.below(7),
            None => QUANTUM,
        };
        let r = loop {
            let w = &mut self.warps[i];
            w.wake(cx);
            let before = w.steps;
            let event = if count { run::<true>(w, cx, quantum) } else { run::<false>(w, cx, quantum) };
            let event = event.map_err(|f| (i, f))?;
            let w = &mut self.warps[i];
            let ran = w.steps - before;
            cx.clock += ran;
            self.quiet[i] = if cx.effects == effects { self.quiet[i] + ran } else { 0 };
            w.idle = self.quiet[i] >= IDLE;
            match event {
                Event::Done => {
                    self.done[i] = true;
                    // A barrier may have waited for the lanes that left.
                    self.barriers.complete_all(&mut self.warps, cx);
                    break true;
                }
                Event::Yield => break true,
                Event::Arrived { id, mask, count } => {
                    moved = true;
                    cx.effects += 1;
                    cx.arrivals += 1;
                    let renewed =
                        self.barriers.arrive(&self.warps, i, id, mask, count).map_err(|f| (i, f))?;
                    cx.now += 1;
                    if let Some(x) = &mut cx.watch {
                        let waits =
                            |s: &super::warp::Split| s.mask & mask != 0 && s.wait == Wait::Barrier(id);
                        let waits = self.warps[i].splits.iter().any(waits);
                        x.arrive(id, i as u32, mask, (renewed, waits), cx.now);
                    }
                    let met = self.barriers.complete(&mut self.warps, id, cx);
                    if met && count == 0 && !self.done.contains(&true) {
                        self.calm.meet(&mut self.warps, cx);
                    }
                    // Who passes every barrier at once must still let others run, and the budget be checked.
                    let over = cx.clock - start >= u64::from(quantum);
                    if over || !self.warps[i].splits.iter().any(|s| s.wait == Wait::Ready) {
                        break true;
                    }
                }
                // Lanes that exited may have been all that a barrier lacked.
                Event::Stuck => {
                    let freed = self.barriers.complete_all(&mut self.warps, cx);
                    break moved | freed | (cx.phases != phases) | (cx.effects != effects);
                }
            }
        };
        if !self.calm.looks() {
            poll::pause(cx);
        }
        Ok(r)
    }

    /// Whether only threads of this block can help those that wait.
    pub(crate) fn alone(&self) -> bool {
        let outside = |s: &super::warp::Split| matches!(s.wait, Wait::Poll | Wait::Grid | Wait::Cluster(_));
        !self.warps.iter().any(|w| w.splits.iter().any(outside))
    }

    /// Where the first thread waits: warp, lane, pc.
    pub(crate) fn first(&self) -> (usize, u32, u32) {
        let waiting = self.warps.iter().enumerate().filter(|(i, _)| !self.done[*i]);
        let mut all =
            waiting.flat_map(|(i, w)| w.splits.iter().map(move |s| (i, s.mask.trailing_zeros(), s.pc)));
        all.next().unwrap_or((0, 0, 0))
    }

    /// Who waits for what, in words.
    pub(crate) fn waiting(&mut self, cx: &Context<'_>) -> Vec<String> {
        let shared = self.memory().cast_const();
        let mut waiting = vec![];
        for (i, w) in self.warps.iter().enumerate().filter(|(i, _)| !self.done[*i]) {
            for s in &w.splits {
                let line = cx.kernel.meta[s.pc as usize].ptx_line;
                let what = match s.wait {
                    Wait::Barrier(id) => format!("wait {}", self.barriers.describe(&self.warps, id)),
                    Wait::Members(need) => {
                        format!("wait for lanes {:#010x} at a warp-wide instruction", need & !s.mask)
                    }
                    Wait::Mbarrier { at, .. } => format!("wait {}", mbarrier::describe(cx, shared, at)),
                    Wait::Ready => "wait for their turn".to_owned(),
                    Wait::Poll => poll::describe(w, cx),
                    Wait::Cluster(_) => {
                        format!(
                            "wait at the barrier of their cluster, which lacks {} threads",
                            cx.cluster.lacks()
                        )
                    }
                    Wait::Grid => "wait for the grid before to end".to_owned(),
                    Wait::Registers(n) => format!("wait for {n} more registers per thread (setmaxnreg)"),
                };
                waiting.push(format!("warp {i} lanes {:#010x} {what}, PTX line {line}", s.mask));
            }
        }
        waiting
    }
}
