//! What: the checks of a launch: who knows what, the last accesses to each word, defined bytes, mbarriers.
//! Why here: the machine tells of events; what they mean for a check is decided in this folder only.
//! Pre: one host thread runs the whole launch, so events come in one order, and stamps rise along it.
//! Post: findings, at most one per kind and pair of instructions; no effect on what a kernel computes.

pub(crate) mod cell;
pub(crate) mod clock;
pub(crate) mod defined;
mod mbarriers;
mod race;
mod stale;
mod sync;
pub(crate) mod taint;
pub(crate) mod threads;

pub(crate) use race::seen;

use crate::inst::Space;
use crate::machine::context::Context;
use crate::machine::place::Place;
use crate::program::variable;
use crate::sanitize::{FindingKind, Sanitize};
use cell::Cell;
use defined::Bits;
use mbarriers::Mbarriers;
use std::collections::{BTreeMap, HashMap, HashSet};
use sync::{Meeting, Variable};
use threads::{Known, Thread};

/// A finding before its places are named.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) block: u32,
    pub(crate) pc: u32,
    pub(crate) thread: Option<u32>,
    /// Block, thread, pc.
    pub(crate) other: Option<(u32, Option<u32>, u32)>,
    pub(crate) message: String,
}

/// Findings by kind and instructions (of a grid).
pub(crate) type Found = BTreeMap<(FindingKind, u32, u32, u32), Raw>;

/// Words of a page of global cells.
const PAGE: u64 = 256;

/// What is kept of a block in flight.
#[derive(Default)]
pub(crate) struct BlockState {
    /// Number of the block in the sequence of launches.
    pub(crate) uid: u32,
    /// First block of its cluster.
    pub(crate) cluster: u32,
    grid: u32,
    pub(crate) threads: Vec<Thread>,
    /// Whatever threads of the block did up to this stamp, all its threads know.
    floor: u32,
    shared: Vec<Cell>,
    defined: Bits,
    meetings: Vec<Meeting>,
    mbarriers: Mbarriers,
    /// Whether it issued copies of which mbarriers are told.
    pub(crate) copies: bool,
}

/// A copy whose completion an mbarrier tells.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// Block, mbarrier and the number of phases that must be complete; none while the copy is under way.
    done: Option<(u32, u32, u32)>,
    warp: u32,
    lane: u32,
}

/// The shadow state of a sequence of launches.
pub(crate) struct Watch {
    pub(crate) checks: Sanitize,
    /// Slots of the blocks in flight.
    pub(crate) blocks: Vec<BlockState>,
    /// The slot of the block that runs.
    pub(crate) cur: usize,
    /// Slots of the blocks of its cluster, by rank.
    pub(crate) peers: Vec<usize>,
    /// Cells of global memory: region, page.
    pages: HashMap<(u32, u64), Box<[Cell]>>,
    variables: HashMap<(u32, u64), Variable>,
    /// What they were before their last write; kept where reads may return older values.
    before: Option<HashMap<(u32, u64), Variable>>,
    /// Meetings at cluster barriers, by cluster.
    clusters: HashMap<u32, Meeting>,
    told: Vec<Told>,
    /// The copy at hand: its agent and issuing lane.
    pub(crate) issuing: Option<Issue>,
    recents: stale::Recents,
    /// Lanes of the load at hand that read older values, and those values.
    pub(crate) stale: (u32, [u64; 32]),
    pub(crate) found: Found,
    /// Per block, instruction and warp, the last barrier before the warp stored one word.
    began: HashMap<(u32, u32, u32), u32>,
    /// Per block and instruction, that barrier and the first word of the last warp that did so.
    single: HashMap<(u32, u32), (u32, u64)>,
    /// Per grid, instructions by which each warp stores an element of an array.
    arrays: HashSet<(u32, u32)>,
    /// Per grid and instruction, warps that stored the same bytes to one word.
    doubtful: BTreeMap<(u32, u32), Raw>,
}

/// A copy that is being issued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issue {
    pub(crate) lane: u32,
    /// The number of the copy when an mbarrier tells of its completion.
    pub(crate) told: Option<u32>,
}

impl Watch {
    pub(crate) fn new(checks: Sanitize) -> Watch {
        Watch {
            checks,
            blocks: vec![],
            cur: 0,
            peers: vec![],
            pages: HashMap::new(),
            variables: HashMap::new(),
            before: None,
            clusters: HashMap::new(),
            told: vec![],
            issuing: None,
            recents: stale::Recents::default(),
            stale: (0, [0; 32]),
            found: Found::new(),
            began: HashMap::new(),
            single: HashMap::new(),
            arrays: HashSet::new(),
            doubtful: BTreeMap::new(),
        }
    }

    /// All is known: warps that stored one word are reported where they were not storing an array.
    pub(crate) fn settle(&mut self) {
        for ((grid, pc), raw) in std::mem::take(&mut self.doubtful) {
            if self.checks.race && !self.arrays.contains(&(grid, pc)) {
                self.found.entry((FindingKind::Race, grid, pc, pc)).or_insert(raw);
            }
        }
    }

    /// Reads may return older values from now on.
    pub(crate) fn keep_older(&mut self) {
        self.before = Some(HashMap::new());
    }

    /// Whether accesses are remembered.
    fn remembers(&self) -> bool {
        self.checks.race || self.checks.proxy || self.checks.nc || self.checks.mbarrier
    }

    /// A block begins in a slot; everything up to stamp `base` happens before it.
    pub(crate) fn begin_block(
        &mut self,
        slot: usize,
        (uid, cluster, grid): (u32, u32, u32),
        threads: u32,
        shared_bytes: u64,
        base: u32,
    ) {
        while self.blocks.len() <= slot {
            self.blocks.push(BlockState::default());
        }
        let thread = Thread { base, ..Thread::default() };
        let words = if self.remembers() { shared_bytes.div_ceil(4) as usize + 8 } else { 0 };
        let b = &mut self.blocks[slot];
        b.shared.clear();
        b.shared.resize(words, Cell::default());
        *b = BlockState {
            uid,
            cluster,
            grid,
            // Lanes beyond the block's threads never run, but whole warps are simpler.
            threads: vec![thread; threads.next_multiple_of(32) as usize],
            floor: base,
            shared: std::mem::take(&mut b.shared),
            defined: if self.checks.uninit { Bits::new(shared_bytes) } else { Bits::default() },
            meetings: vec![Meeting::default(); 16],
            mbarriers: Mbarriers::default(),
            copies: false,
        };
    }

    /// What a thread releases when it synchronises: all it knows and all it did up to now.
    fn release(&self, (slot, t): (usize, u32), now: u32) -> Known {
        let b = &self.blocks[slot];
        let n = b.threads.len();
        let th = &b.threads[t as usize];
        let mut k = th.known.clone();
        k.clock.tell(b.uid, n, std::iter::once(t), now);
        k
    }

    pub(crate) fn report(&mut self, kind: FindingKind, raw: Raw) {
        if self.checks.wants(kind) {
            let other = raw.other.map_or(u32::MAX, |o| o.2);
            let grid = self.blocks[self.cur].grid;
            // Two instructions that race do so in either order.
            let (a, b) = if kind == FindingKind::Race {
                (raw.pc.min(other), raw.pc.max(other))
            } else {
                (raw.pc, other)
            };
            self.found.entry((kind, grid, a, b)).or_insert(raw);
        }
    }

    /// A finding about one instruction.
    pub(crate) fn note(&mut self, kind: FindingKind, pc: u32, thread: u32, message: String) {
        let block = self.blocks[self.cur].uid;
        self.report(kind, Raw { block, pc, thread: Some(thread), other: None, message });
    }

    /// The slot whose shared memory a place lies in.
    pub(crate) fn slot_of(&self, p: &Place) -> usize {
        self.peers.get(p.region as usize).copied().unwrap_or(self.cur)
    }
}

/// Where an offset lies, in words.
pub(crate) fn name(cx: &Context<'_>, p: &Place, at: u64) -> String {
    let image = &cx.program.inner.image;
    if p.space == Space::Global
        && cx.regions.get(p.region as usize).is_some_and(|r| r.base == image.base)
        && let Some(v) = variable(&image.names, at)
    {
        return v;
    }
    match cx.regions.get(p.region as usize) {
        Some(r) if p.space == Space::Global => format!("byte {at} of buffer `{}`", r.label),
        _ if cx.peers.len() > 1 && p.region != cx.rank => {
            format!("{} of the block of rank {}", shared_name(cx, at), p.region)
        }
        _ => shared_name(cx, at),
    }
}

/// An address in shared memory, in words.
pub(crate) fn shared_name(cx: &Context<'_>, at: u64) -> String {
    match variable(&cx.kernel.shared_names, at) {
        Some(v) => format!("shared {v} (address {at:#x})"),
        None => format!("shared address {at:#x}"),
    }
}
