//! What: a block: its warps, its shared memory, and the order in which warps run.
//! Why here: a block is resumable too: it runs for a slice and can then make room for another one, so that
//! blocks that wait for each other make progress. The round-robin here is one schedule among many.
//! Pre: warps made for the kernel.
//! Post: all threads have exited, or the slice is over, or a fault with the index of its warp.

use super::barrier::Barriers;
use super::context::{Context, RawFault};
use super::mbarrier;
use super::run::{Event, run};
use super::warp::{Wait, Warp};
use super::watch::Watch;
use crate::error::FaultKind;
use crate::program::Kernel;

/// Instructions that a warp runs before others get a turn.
const QUANTUM: u32 = 4096;

/// A block in flight.
pub(crate) struct Block {
    pub(crate) index: u64,
    pub(crate) ctaid: [u32; 3],
    pub(crate) warps: Vec<Warp>,
    barriers: Barriers,
    done: Vec<bool>,
    /// Shared memory, 16-byte aligned; lent to the context while the block runs.
    shared: Vec<u128>,
    /// Shadow state, when something is checked; lent to the context too.
    pub(crate) watch: Option<Box<Watch>>,
    /// Warp instructions so far; the block's clock.
    clock: u64,
}

/// A fault and the index of its warp.
pub(crate) type BlockFault = (usize, Box<RawFault>);

impl Block {
    pub(crate) fn new(warps: Vec<Warp>, shared_bytes: u64, watch: Option<Box<Watch>>) -> Block {
        Block {
            index: 0,
            ctaid: [0; 3],
            barriers: Barriers::new(warps.len()),
            done: vec![false; warps.len()],
            shared: vec![0; shared_bytes.div_ceil(16) as usize + 4],
            watch,
            clock: 0,
            warps,
        }
    }

    /// Makes the block ready to run as block `index` of the grid.
    pub(crate) fn reset(&mut self, kernel: &Kernel, index: u64, ctaid: [u32; 3], sm: u32) {
        (self.index, self.ctaid, self.clock) = (index, ctaid, 0);
        self.barriers = Barriers::new(self.warps.len());
        self.done.fill(false);
        self.shared.fill(0);
        if let Some(w) = &mut self.watch {
            w.reset();
        }
        for w in &mut self.warps {
            w.reset(kernel, ctaid, sm);
        }
    }

    /// Runs for about `slice` warp instructions; true when the block has ended.
    pub(crate) fn run(&mut self, cx: &mut Context<'_>, slice: u64, count: bool) -> Result<bool, BlockFault> {
        std::mem::swap(&mut cx.shared, &mut self.shared);
        std::mem::swap(&mut cx.watch, &mut self.watch);
        cx.clock = self.clock;
        let r = self.slice(cx, self.clock.saturating_add(slice), count);
        self.clock = cx.clock;
        std::mem::swap(&mut cx.shared, &mut self.shared);
        std::mem::swap(&mut cx.watch, &mut self.watch);
        r
    }

    fn slice(&mut self, cx: &mut Context<'_>, until: u64, count: bool) -> Result<bool, BlockFault> {
        while cx.clock < until {
            let mut moved = false;
            for i in 0..self.warps.len() {
                if !self.done[i] {
                    moved |= self.turn(i, cx, count)?;
                    if cx.clock > cx.budget {
                        let (pc, lane) =
                            self.warps[i].splits.first().map_or((0, 0), |s| (s.pc, s.mask.trailing_zeros()));
                        let kind = FaultKind::Budget { budget: cx.budget };
                        return Err((i, Box::new(RawFault { kind, lane, pc })));
                    }
                }
            }
            if self.done.iter().all(|d| *d) {
                return Ok(true);
            }
            if !moved {
                return Err(self.deadlock(cx));
            }
        }
        Ok(false)
    }

    /// One warp's turn; says whether anything moved.
    fn turn(&mut self, i: usize, cx: &mut Context<'_>, count: bool) -> Result<bool, BlockFault> {
        let mut moved = false;
        let phases = cx.phases;
        loop {
            let w = &mut self.warps[i];
            w.wake_phases(cx.phases);
            let before = w.steps;
            let event = if count { run::<true>(w, cx, QUANTUM) } else { run::<false>(w, cx, QUANTUM) };
            let event = event.map_err(|f| (i, f))?;
            cx.clock += self.warps[i].steps - before;
            match event {
                Event::Done => {
                    self.done[i] = true;
                    // A barrier may have waited for the lanes that left.
                    self.barriers.complete_all(&mut self.warps, cx);
                    return Ok(true);
                }
                Event::Yield => return Ok(true),
                Event::Arrived { id, mask, count } => {
                    moved = true;
                    let renewed =
                        self.barriers.arrive(&self.warps, i, id, mask, count).map_err(|f| (i, f))?;
                    if let Some(w) = &mut cx.watch {
                        if renewed {
                            w.renew(id);
                        }
                        w.arrive(id, i as u32, mask);
                    }
                    self.barriers.complete(&mut self.warps, id, cx);
                    if !self.warps[i].splits.iter().any(|s| s.wait == Wait::Ready) {
                        return Ok(true);
                    }
                }
                // Lanes that exited may have been all that a barrier lacked.
                Event::Stuck => {
                    return Ok(moved
                        | self.barriers.complete_all(&mut self.warps, cx)
                        | (cx.phases != phases));
                }
            }
        }
    }

    fn deadlock(&self, cx: &Context<'_>) -> BlockFault {
        let mut waiting = vec![];
        let mut first = None;
        for (i, w) in self.warps.iter().enumerate().filter(|(i, _)| !self.done[*i]) {
            for s in &w.splits {
                first.get_or_insert((i, s.mask.trailing_zeros(), s.pc));
                let line = cx.kernel.meta[s.pc as usize].ptx_line;
                let what = match s.wait {
                    Wait::Barrier(id) => self.barriers.describe(&self.warps, id),
                    Wait::Members(need) => {
                        format!("for lanes {:#010x} at a warp-wide instruction", need & !s.mask)
                    }
                    Wait::Mbarrier { at, .. } => mbarrier::describe(cx, at),
                    Wait::Ready => "for its turn".to_owned(),
                };
                waiting.push(format!("warp {i} lanes {:#010x} wait {what}, PTX line {line}", s.mask));
            }
        }
        let (warp, lane, pc) = first.unwrap_or((0, 0, 0));
        let kind = FaultKind::Deadlock { waiting: waiting.join("; ") };
        (warp, Box::new(RawFault { kind, lane, pc }))
    }
}
