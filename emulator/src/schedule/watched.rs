//! What: the watched schedule: all grids of a sequence on one host thread, in one order.
//! Why here: happens-before needs one order of events, and a seed must be one execution.
//! Pre: checked launches.
//! Post: without a seed, blocks take turns and copies land at once; with one, everything that the memory model
//! and the programming model leave open is chosen at random, and equal seeds choose equally.

use super::{Grid, deadlock, has, needs, resident};
use crate::counters::{Tally, Touched};
use crate::error::Fault;
use crate::launch::Options;
use crate::machine::block::Progress;
use crate::machine::chaos::{Chaos, push};
use crate::machine::context::{Context, LEAPS, RawFault};
use crate::machine::gang::Gang;
use crate::memory::Region;
use crate::profile::Profile;
use crate::sanitize::Finding;
use crate::watch::Watch;

/// Warp instructions of a slice.
const SLICE: u64 = 1 << 14;

/// A grid in the sequence.
#[derive(Default)]
struct State {
    /// Clusters in the order in which they start, where it is not the natural one.
    order: Vec<u64>,
    started: u64,
    ended: u64,
    /// Everything up to here happens before it.
    base: u32,
    begun: bool,
    /// When it ended.
    over: Option<u32>,
    idle: Vec<Gang>,
}

/// What a sequence gives.
pub(crate) struct Outcome<'a> {
    pub(crate) tallies: Vec<Tally<'a>>,
    pub(crate) findings: Vec<Vec<Finding>>,
    /// The grid that failed, and how.
    pub(crate) fault: Option<(usize, Fault)>,
}

struct Run<'a> {
    grids: &'a [Grid<'a>],
    profile: &'a Profile,
    options: &'a Options,
    states: Vec<State>,
    /// Free resources per SM.
    sms: Vec<[u64; 4]>,
    flying: Vec<Gang>,
    /// Slots of the checks that are free.
    slots: Vec<usize>,
    used: usize,
    current: usize,
}

/// Orders of at most this many clusters are shuffled.
const SHUFFLED: u64 = 1 << 20;

/// Runs all grids to their end.
pub(crate) fn run<'a>(
    grids: &'a [Grid<'a>],
    regions: &'a [Region],
    touched: &'a [Vec<Touched>],
    profile: &'a Profile,
    options: &'a Options,
) -> Outcome<'a> {
    let Some(first) = grids.first() else {
        return Outcome { tallies: vec![], findings: vec![], fault: None };
    };
    let tally = |g: usize| {
        let counting = if options.counters { grids[g].kernel.code.len() } else { 0 };
        Tally::new(counting, regions, &touched[g])
    };
    let mut tallies: Vec<Tally<'a>> = (0..grids.len()).map(tally).collect();
    let mut cx = first.context(regions, tally(0), options);
    cx.chaos = options.seed.map(|s| Box::new(Chaos::new(s)));
    cx.watch = options.sanitize.shadows().then(|| Box::new(Watch::new(options.sanitize)));
    if let (Some(_), Some(w)) = (&cx.chaos, &mut cx.watch) {
        w.keep_older();
    }
    cx.rehook();
    let mut run = Run {
        grids,
        profile,
        options,
        states: grids.iter().map(|_| State::default()).collect(),
        sms: vec![has(profile); profile.sms.max(1) as usize],
        flying: vec![],
        slots: vec![],
        used: 0,
        current: 0,
    };
    std::mem::swap(&mut cx.tally, &mut tallies[0]);
    let fault = run.all(&mut cx, &mut tallies);
    std::mem::swap(&mut cx.tally, &mut tallies[run.current]);
    let findings = findings(grids, cx.watch.as_deref_mut());
    Outcome { tallies, findings, fault }
}

impl<'a> Run<'a> {
    fn all(&mut self, cx: &mut Context<'a>, tallies: &mut [Tally<'a>]) -> Option<(usize, Fault)> {
        let mut turn = 0usize;
        loop {
            let started = self.start(cx);
            if self.flying.is_empty() {
                if !started && self.states.iter().all(|s| s.over.is_some()) {
                    return None;
                }
                continue;
            }
            let i = match &mut cx.chaos {
                Some(c) => c.below(self.flying.len() as u64) as usize,
                None => turn % self.flying.len(),
            };
            turn = turn.wrapping_add(1);
            self.surround(cx, tallies, self.flying[i].grid);
            let effects = cx.effects;
            let slice = match &mut cx.chaos {
                Some(c) => 1 << c.below(11),
                None => SLICE,
            };
            let grid = self.flying[i].grid;
            match self.flying[i].run(cx, slice, self.options.counters) {
                Ok(Progress::Ended) => {
                    self.end(cx, i);
                    self.flying.iter_mut().for_each(|g| g.stuck = false);
                }
                Ok(Progress::Moved) => self.flying.iter_mut().for_each(|g| g.stuck = false),
                // What one gang did, or a copy that landed meanwhile, may help others.
                Ok(Progress::Stuck) if cx.effects != effects => {
                    self.flying.iter_mut().for_each(|g| g.stuck = false);
                }
                Ok(Progress::Stuck) => {
                    let nothing = |cx: &Context<'_>| cx.chaos.as_ref().is_none_or(|c| c.idle());
                    let all = self.flying.iter().all(|g| g.stuck);
                    // Where a wait may end by itself, time goes on once nothing else does.
                    let patient = cx.leaps < LEAPS && cx.timed();
                    if all && push(cx) {
                        self.flying.iter_mut().for_each(|g| g.stuck = false);
                    } else if all && patient {
                        cx.leap(cx.leaps + 1);
                        self.flying.iter_mut().for_each(|g| g.stuck = false);
                    } else if patient {
                        // Somebody else still moves.
                    } else if all || self.flying[i].alone() && nothing(cx) {
                        let g = &self.grids[grid];
                        let at = self.flying[i].first();
                        let (block, (warp, lane, pc)) = {
                            let b = &self.flying[i].blocks[at];
                            (b.ctaid, b.first())
                        };
                        let mut waiting = vec![];
                        let (mut left, mut hold) = (0, 0);
                        if all {
                            for k in 0..self.flying.len() {
                                self.surround(cx, tallies, self.flying[k].grid);
                                waiting.extend(self.flying[k].waiting(cx));
                            }
                            let ranks = u64::from(g.cluster.iter().product::<u32>());
                            left = (g.gangs - self.states[grid].started) * ranks;
                            hold = resident(g, self.profile, self.options.registers_per_thread);
                        } else {
                            waiting.extend(self.flying[i].waiting(cx));
                        }
                        let kind = deadlock(waiting, left, hold);
                        return Some((grid, g.fault(block, warp, RawFault { kind, lane, pc })));
                    }
                }
                Err((block, (warp, raw))) => {
                    let ctaid = self.flying[i].blocks[block].ctaid;
                    return Some((grid, self.grids[grid].fault(ctaid, warp, *raw)));
                }
            }
        }
    }

    /// Lends the surroundings of a grid to the context.
    fn surround(&mut self, cx: &mut Context<'a>, tallies: &mut [Tally<'a>], grid: usize) {
        let g = &self.grids[grid];
        let before = match grid.checked_sub(1) {
            Some(b) if g.pdl => self.states[b].over,
            _ => Some(self.states[grid].base),
        };
        cx.grid_before = before;
        if grid == self.current {
            return;
        }
        std::mem::swap(&mut cx.tally, &mut tallies[self.current]);
        std::mem::swap(&mut cx.tally, &mut tallies[grid]);
        self.current = grid;
        (cx.kernel, cx.program) = (g.kernel, g.program);
        cx.params = g.launch.params;
        cx.shared_bytes = g.shared_bytes;
        cx.local_bytes = u64::from(g.kernel.local_bytes);
        cx.hints.clear();
        cx.hints.resize(g.kernel.code.len(), 0);
    }

    /// Whether clusters of a grid may start.
    fn may_start(&self, cx: &Context<'_>, grid: usize) -> bool {
        let Some(b) = grid.checked_sub(1) else { return true };
        if self.states[b].over.is_some() {
            return true;
        }
        // Only an adversarial schedule really overlaps grids; to the checks they always do.
        cx.chaos.is_some()
            && self.grids[grid].pdl
            && self.states[b].started == self.grids[b].gangs
            && b.checked_sub(1).is_none_or(|a| self.states[a].over.is_some())
            && self.flying.iter().filter(|g| g.grid == b).all(Gang::released)
    }

    /// Starts what fits; says whether anything did.
    fn start(&mut self, cx: &mut Context<'a>) -> bool {
        let mut any = false;
        for grid in 0..self.grids.len() {
            if self.states[grid].over.is_some() {
                continue;
            }
            if !self.may_start(cx, grid) {
                break;
            }
            if !self.states[grid].begun {
                self.begin(cx, grid);
                any = true;
            }
            while self.states[grid].started < self.grids[grid].gangs {
                let Some(sms) = self.room(cx, grid) else { return any };
                self.launch(cx, grid, &sms);
                any = true;
            }
        }
        any
    }

    fn begin(&mut self, cx: &mut Context<'a>, grid: usize) {
        let g = &self.grids[grid];
        cx.now += 1;
        let base = match grid.checked_sub(1) {
            Some(b) if g.pdl => self.states[b].base,
            _ => cx.now,
        };
        let order = match &mut cx.chaos {
            Some(c) if g.gangs <= SHUFFLED => {
                let mut v: Vec<u64> = (0..g.gangs).collect();
                for i in (1..v.len()).rev() {
                    v.swap(i, c.below(i as u64 + 1) as usize);
                }
                v
            }
            _ => vec![],
        };
        let s = &mut self.states[grid];
        (s.begun, s.base, s.order) = (true, base, order);
    }

    /// SMs for the blocks of one more cluster, if there is room.
    fn room(&mut self, cx: &mut Context<'a>, grid: usize) -> Option<Vec<usize>> {
        let g = &self.grids[grid];
        let need = needs(g, self.profile, self.options.registers_per_thread);
        let n = self.sms.len();
        let mut at = match &mut cx.chaos {
            Some(c) => c.below(n as u64) as usize,
            None => self.states[grid].started as usize % n,
        };
        let mut taken: Vec<usize> = vec![];
        for _ in 0..g.cluster.iter().product::<u32>() {
            let fits = |i: usize| {
                let already = taken.iter().filter(|t| **t == i).count() as u64;
                self.sms[i].iter().zip(need).all(|(free, n)| *free >= n * (already + 1))
            };
            let found = (0..n).map(|k| (at + k) % n).find(|&i| fits(i))?;
            taken.push(found);
            at = found + 1;
        }
        for &i in &taken {
            for (free, n) in self.sms[i].iter_mut().zip(need) {
                *free -= n;
            }
        }
        Some(taken)
    }

    fn launch(&mut self, cx: &mut Context<'a>, grid: usize, sms: &[usize]) {
        let g = &self.grids[grid];
        let s = &mut self.states[grid];
        let index = s.order.get(s.started as usize).copied().unwrap_or(s.started);
        s.started += 1;
        let base = s.base;
        let taint = self.options.sanitize.uninit;
        let mut gang = s.idle.pop().unwrap_or_else(|| Gang::new(g, self.profile.sms, taint));
        gang.reset(g, index, sms, self.options.registers_per_thread);
        let cluster = gang.blocks[0].uid;
        for b in &mut gang.blocks {
            b.slot = self.slots.pop().unwrap_or_else(|| {
                self.used += 1;
                self.used - 1
            });
            if let Some(w) = &mut cx.watch {
                let threads = g.launch.block.iter().product::<u32>();
                w.begin_block(b.slot, (b.uid, cluster, grid as u32), threads, g.shared_bytes, base);
            }
        }
        self.flying.push(gang);
    }

    fn end(&mut self, cx: &mut Context<'a>, i: usize) {
        let gang = self.flying.swap_remove(i);
        let grid = gang.grid;
        let need = needs(&self.grids[grid], self.profile, self.options.registers_per_thread);
        for b in &gang.blocks {
            for (free, n) in self.sms[b.sm].iter_mut().zip(need) {
                *free += n;
            }
            self.slots.push(b.slot);
        }
        if let Some(w) = &mut cx.watch {
            w.end_cluster(gang.blocks[0].uid);
        }
        let s = &mut self.states[grid];
        s.idle.push(gang);
        s.ended += 1;
        if s.ended == self.grids[grid].gangs {
            cx.now += 1;
            s.over = Some(cx.now);
        }
    }
}

/// Names what the checks found, per grid.
fn findings(grids: &[Grid<'_>], watch: Option<&mut Watch>) -> Vec<Vec<Finding>> {
    let mut all: Vec<Vec<Finding>> = grids.iter().map(|_| vec![]).collect();
    let Some(w) = watch else { return all };
    let place = |uid: u32| {
        let g = grids.iter().rposition(|g| g.first <= uid).unwrap_or(0);
        (g, grids[g].index(u64::from(uid - grids[g].first)))
    };
    w.settle();
    for ((kind, grid, _, _), raw) in std::mem::take(&mut w.found) {
        let (at, block) = place(raw.block);
        let other = raw.other.map(|(uid, thread, pc)| {
            let (g, b) = place(uid);
            grids[g].site(b, thread, pc)
        });
        all[grid as usize].push(Finding {
            kind,
            kernel: grids[at].kernel.name.clone(),
            block,
            at: grids[at].site(block, raw.thread, raw.pc),
            other,
            message: raw.message,
        });
    }
    all
}
