//! The tasks of a step as code will have them: what each needs of shared memory, and the ring of pages that they share.
//!
//! What: [`Bodies::new`] turns the programs of a step into task bodies, lays out the block's shared memory (what tasks use
//! while they run, barriers, pages) and chooses the size of a page; [`Bodies::stages`] says which pages a block of a launch
//! takes. [`Cursor`] is a place in the ring of pages.
//! Why here: the kernel's text, the records and the checker must agree about pages, and pages follow from the programs and
//! from what a target grants.
//! Post: a lap of the ring uses every page once: a stage that does not fit before the end of the ring begins a lap, and the
//! pages left out count as used.

use std::collections::BTreeMap;

use tilewright_codegen::{PagePlan, Target, TaskBody};
use tilewright_ir::Extent;
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;

use crate::MegaError;
use crate::graph::kinds;
use crate::page_size::{Uses, choose};
use crate::region::constant;

/// Shared memory of a task's own rings where others copy its weights. What is left are activations, which are few.
const OWN_RINGS: u64 = 24 << 10;
/// A stage takes at most such a part of a block's memory: with what is lost to whole pages, and beside what tasks use, the
/// fewest stages fit.
const MOST_OF_LIMIT: u64 = 6;
/// Bytes that say how long waits for copies may take, behind the barriers of rings.
const PATIENCE: u64 = 16;

/// Stages in a row that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// How many there are.
    pub count: u64,
    /// Pages of one.
    pub pages: u64,
    /// Bytes that are copied to one.
    pub bytes: u64,
}

/// Something that tasks load themselves though it could be copied ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfed {
    /// The kernel.
    pub kernel: String,
    /// Its buffer in the first launch.
    pub buffer: String,
    /// Bytes of a step.
    pub bytes: u64,
}

/// The tasks of a step, and what they share.
#[derive(Debug)]
pub struct Bodies {
    /// By program; none for programs that are never launched.
    pub(crate) bodies: Vec<Option<TaskBody>>,
    /// For each program, which of its buffers nothing writes in any of its launches.
    pub(crate) constants: Vec<Vec<bool>>,
    /// Threads that compute.
    pub(crate) threads: u32,
    /// The first byte of the barriers of tasks' own rings, and how many there are.
    pub(crate) bars: (u32, u32),
    /// The ring of pages, if anything is fed.
    pub(crate) pages: Option<PagePlan>,
    /// Shared memory in all.
    pub(crate) shared: u32,
}

/// For each program, which of its buffers nothing writes in any of its launches.
fn constants(step: &Step, programs: &[TileProgram], kinds: &[u32]) -> Vec<Vec<bool>> {
    let mut out: Vec<Vec<bool>> = programs.iter().map(|p| vec![true; p.params.len()]).collect();
    for (launch, &kind) in step.launches.iter().zip(kinds) {
        for (n, &b) in launch.args.iter().enumerate() {
            if let Some(known) = out[kind as usize].get_mut(n) {
                *known &= constant(&step.buffers[b].kind);
            }
        }
    }
    out
}

impl Bodies {
    /// Decides for a step and a target.
    pub fn new(step: &Step, programs: &[TileProgram], target: Target) -> Result<Bodies, MegaError> {
        let kinds = kinds(step, programs)?;
        let constants = constants(step, programs, &kinds);
        let limit = u64::from(target.shared_limit());
        let used = |n: usize| kinds.contains(&(n as u32));
        let body =
            |n: usize, stage: u64| TaskBody::new(&programs[n], target, &constants[n], stage, OWN_RINGS);
        let mut bodies = Vec::new();
        for n in 0..programs.len() {
            bodies.push(if used(n) { Some(body(n, limit / MOST_OF_LIMIT)?) } else { None });
        }
        // Whoever waits for a page must see each of its phases, so only tasks of as many warps as most are fed.
        let fed = readers(step, &kinds, &bodies);
        for (n, own) in bodies.iter_mut().enumerate() {
            if own.as_ref().is_some_and(|b| b.threads() != fed && !b.stages(0).is_empty()) {
                *own = Some(body(n, 0)?);
            }
        }
        let used = || bodies.iter().flatten();
        let threads = used().map(TaskBody::threads).max().unwrap_or(32);
        let scratch = used().map(TaskBody::shared_bytes).max().unwrap_or(0).next_multiple_of(128);
        let count = places_of_bars(&bodies).values().map(|b| b.1).sum::<u32>();
        let bars = (scratch as u32, count);
        let free = scratch + 8 * u64::from(count) + PATIENCE;
        let mut stages: Vec<Uses> = Vec::new();
        for (launch, &kind) in step.launches.iter().zip(&kinds) {
            let Some(body) = &bodies[kind as usize] else { continue };
            // Grids of what can be fed do not change.
            let blocks = launch
                .grid
                .iter()
                .map(|g| g.extent.as_const().unwrap_or(1).div_ceil(u64::from(g.block.max(1))));
            let blocks = blocks.fold(1, u64::saturating_mul);
            let own = body.stages(0);
            match stages.iter_mut().find(|s| s.stages == own) {
                Some(known) => known.blocks = known.blocks.saturating_add(blocks),
                None if own.is_empty() => {}
                None => stages.push(Uses { blocks, stages: own }),
            }
        }
        let pages = choose(&stages, free, limit, fed / 32, target.bulk_copies());
        let shared = pages.map_or(free, |p| u64::from(p.at) + u64::from(p.size) * u64::from(p.count));
        if pages.is_none() && !stages.is_empty() {
            // Not enough memory is left for stages of this size: tasks copy for themselves.
            for (n, program) in programs.iter().enumerate().filter(|(n, _)| kinds.contains(&(*n as u32))) {
                bodies[n] = Some(TaskBody::new(program, target, &constants[n], 0, target.ring_budget())?);
            }
            return Ok(Bodies::without_pages(bodies, constants));
        }
        Ok(Bodies { bodies, constants, threads, bars, pages, shared: shared as u32 })
    }

    fn without_pages(bodies: Vec<Option<TaskBody>>, constants: Vec<Vec<bool>>) -> Bodies {
        let used = || bodies.iter().flatten();
        let threads = used().map(TaskBody::threads).max().unwrap_or(32);
        let scratch = used().map(TaskBody::shared_bytes).max().unwrap_or(0).next_multiple_of(128) as u32;
        let count = places_of_bars(&bodies).values().map(|b| b.1).sum::<u32>();
        let shared = scratch + 8 * count + PATIENCE as u32;
        Bodies { bodies, constants, threads, bars: (scratch, count), pages: None, shared }
    }

    /// The first byte of the barriers of a kind's own rings.
    pub(crate) fn bars_of(&self, kind: usize) -> u32 {
        let threads = self.bodies.get(kind).and_then(Option::as_ref).map_or(0, TaskBody::threads);
        self.bars.0 + 8 * places_of_bars(&self.bodies).get(&threads).map_or(0, |b| b.0)
    }

    /// How many pages the ring has, and their size in bytes.
    pub fn pages(&self) -> Option<(u32, u32)> {
        self.pages.map(|p| (p.count, p.size))
    }

    /// The stages that a block of a kind of task takes from the ring, in order.
    pub fn stages(&self, kind: u32, block: u64) -> Vec<Stages> {
        let (Some(plan), Some(Some(body))) = (self.pages, self.bodies.get(kind as usize)) else {
            return Vec::new();
        };
        let stages = body.stages(block).into_iter().filter(|s| s.0 > 0);
        stages.map(|(count, stage, bytes)| Stages { count, pages: plan.pages(stage), bytes }).collect()
    }

    /// What tasks load themselves of weights and tables, though nothing writes it: by kernel and buffer (that of the first
    /// launch), the bytes of a step at its largest. What is looked up by what a step computes is among it.
    pub fn unfed(&self, step: &Step, kinds: &[u32]) -> Vec<Unfed> {
        let size = |e: Extent| match e {
            Extent::Const(n) => n,
            Extent::Sym(s) => step.symbols[s].max,
        };
        let mut out: Vec<(u32, u32, Unfed)> = Vec::new();
        for (launch, &kind) in step.launches.iter().zip(kinds) {
            let Some(Some(body)) = self.bodies.get(kind as usize) else { continue };
            let blocks: u64 = launch
                .grid
                .iter()
                .map(|g| size(g.extent).div_ceil(u64::from(g.block.max(1))))
                .fold(1, u64::saturating_mul);
            for (param, bytes) in body.unfed(&self.constants[kind as usize], &size) {
                let Some(&buffer) = launch.args.get(param.as_u32() as usize) else { continue };
                let bytes = bytes.saturating_mul(blocks);
                match out.iter_mut().find(|o| (o.0, o.1) == (kind, param.as_u32())) {
                    Some((_, _, known)) => known.bytes = known.bytes.saturating_add(bytes),
                    None => {
                        let (kernel, buffer) = (launch.kernel.clone(), step.buffers[buffer].name.clone());
                        out.push((kind, param.as_u32(), Unfed { kernel, buffer, bytes }));
                    }
                }
            }
        }
        let mut out: Vec<Unfed> = out.into_iter().map(|o| o.2).collect();
        out.sort_by_key(|o| std::cmp::Reverse(o.bytes));
        out
    }

    /// Whether another warp copies for a kind of task.
    pub(crate) fn fed(&self, kind: u32) -> bool {
        self.pages.is_some()
            && self
                .bodies
                .get(kind as usize)
                .and_then(Option::as_ref)
                .is_some_and(|b| !b.stages(0).is_empty())
    }
}

/// The threads of the tasks for which most bytes of a step can be copied ahead.
fn readers(step: &Step, kinds: &[u32], bodies: &[Option<TaskBody>]) -> u32 {
    let mut by_threads: BTreeMap<u32, u64> = BTreeMap::new();
    for (launch, &kind) in step.launches.iter().zip(kinds) {
        let Some(body) = &bodies[kind as usize] else { continue };
        // Grids of what can be fed do not change.
        let blocks =
            launch.grid.iter().map(|g| g.extent.as_const().unwrap_or(1).div_ceil(u64::from(g.block.max(1))));
        let bytes = body.stages(0).iter().map(|&(trips, _, bytes)| trips * bytes).sum::<u64>();
        *by_threads.entry(body.threads()).or_default() += bytes * blocks.product::<u64>();
    }
    by_threads.into_iter().max_by_key(|&(threads, bytes)| (bytes, threads)).map_or(32, |(threads, _)| threads)
}

/// By threads of a task: the first of the barriers of its own rings, and how many there are. Tasks of as many threads share
/// them, so that whoever waits at one saw each of its phases.
fn places_of_bars(bodies: &[Option<TaskBody>]) -> BTreeMap<u32, (u32, u32)> {
    let mut out: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for body in bodies.iter().flatten() {
        let (_, count) = out.entry(body.threads()).or_default();
        *count = body.bars().max(*count);
    }
    let mut first = 0;
    for place in out.values_mut() {
        place.0 = first;
        first += place.1;
    }
    out
}

/// A place in the ring of pages, counted from the start of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The next page; the number of pages at the end of a lap.
    pub(crate) page: u64,
    /// Laps that are over.
    pub(crate) laps: u64,
}

impl Cursor {
    /// Goes on by one stage; gives the pages left out, and the first page of the stage.
    pub(crate) fn take(&mut self, pages: u64, count: u64) -> (u64, u64) {
        let mut left_out = 0;
        if self.page + pages > count {
            left_out = count - self.page;
            *self = Cursor { page: 0, laps: self.laps + 1 };
        }
        let first = self.page;
        self.page += pages;
        (left_out, first)
    }

    /// Goes on to the start of a lap; gives the pages left out.
    pub(crate) fn finish(&mut self, count: u64) -> u64 {
        if self.page == 0 {
            return 0;
        }
        let left_out = count - self.page;
        *self = Cursor { page: 0, laps: self.laps + 1 };
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lap_uses_every_page_once() {
        for count in [4u64, 7, 26] {
            let mut cursor = Cursor::default();
            let mut uses = vec![0u64; count as usize];
            for n in 0..200u64 {
                let pages = 1 + n * n % 4;
                let before = cursor;
                let (left_out, first) = cursor.take(pages, count);
                let skipped = before.page..before.page + left_out;
                assert!(left_out == 0 || skipped.end == count);
                for page in skipped {
                    assert_eq!(uses[page as usize], before.laps);
                    uses[page as usize] += 1;
                }
                for page in first..first + pages {
                    assert_eq!(uses[page as usize], cursor.laps, "page {page} of {count}");
                    uses[page as usize] += 1;
                }
            }
            let before = cursor;
            let left_out = cursor.finish(count);
            (before.page..before.page + left_out).for_each(|p| uses[p as usize] += 1);
            assert!(uses.iter().all(|&u| u == cursor.laps));
        }
    }
}
