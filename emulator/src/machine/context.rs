//! What: what a warp needs beside its own state: the block's shared memory, the launch's regions, counters.
//! Why here: one structure that is lent to whichever warp runs.
//! Pre: built per host thread; `Gang` sets what belongs to the block that runs.
//! Post: counters of the blocks that ran on it.

use super::chaos::{Chaos, Owner};
use super::cluster::ClusterBarrier;
use super::memory_ops::Storing;
use super::poll::Trace;
use crate::counters::Tally;
use crate::error::FaultKind;
use crate::inst::{Dynamic, Op};
use crate::memory::Region;
use crate::program::{Kernel, Program};
use crate::watch::Watch;

/// A fault and the lane that caused it; the block adds the place.
#[derive(Debug)]
pub(crate) struct RawFault {
    pub(crate) kind: FaultKind,
    pub(crate) lane: u32,
    pub(crate) pc: u32,
}

/// The result of a step that can fault. Boxed, since faults are rare and large.
pub(crate) type Step<T> = Result<T, Box<RawFault>>;

/// The surroundings of a running warp.
pub(crate) struct Context<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) program: &'a Program,
    /// Sorted by address.
    pub(crate) regions: &'a [Region],
    /// Per instruction, the region of its last access.
    pub(crate) hints: Vec<u32>,
    /// Shared memory of the block that runs, 16-byte aligned.
    pub(crate) shared: *mut u8,
    pub(crate) shared_bytes: u64,
    /// Shared memory of the blocks of its cluster, by rank.
    pub(crate) peers: Vec<*mut u8>,
    /// Its number in the sequence of launches.
    pub(crate) uid: u32,
    /// Its rank in the cluster.
    pub(crate) rank: u32,
    pub(crate) cluster: ClusterBarrier,
    pub(crate) params: &'a [u8],
    /// Local memory per thread.
    pub(crate) local_bytes: u64,
    pub(crate) tally: Tally<'a>,
    /// Warp instructions of this block so far; the clock of the block.
    pub(crate) clock: u64,
    pub(crate) budget: u64,
    /// How often time went on because nothing else did, and how much of it that was, see [`Context::leap`].
    pub(crate) leaps: u32,
    pub(crate) leapt: u64,
    /// Registers per thread that warps of the block have given up.
    pub(crate) pool: u32,
    /// Phases of mbarriers that completed on this host thread; a change wakes those that wait for one.
    pub(crate) phases: u32,
    /// Rises with every access and synchronisation while something is watched.
    pub(crate) now: u32,
    /// Rises with everything that may matter to a thread that polls.
    pub(crate) effects: u64,
    /// How many of them were arrivals at barriers.
    pub(crate) arrivals: u64,
    /// Whether the grid before has ended, and the stamp at which it did.
    pub(crate) grid_before: Option<u32>,
    /// Whether the block that runs let the next grid start.
    pub(crate) released: bool,
    /// Whether accesses are watched or traced.
    pub(crate) hooked: bool,
    /// What a weak store is about to write.
    pub(crate) storing: Option<Storing>,
    /// The loads of a loop that may be a poll.
    pub(crate) trace: Option<Box<Trace>>,
    /// The checks of the launch, when there are any.
    pub(crate) watch: Option<Box<Watch>>,
    /// What went wrong when a copy landed: the reason, who issued it, and where.
    pub(crate) broken: Option<(String, Owner, u32)>,
    /// The adversarial schedule, when there is one.
    pub(crate) chaos: Option<Box<Chaos>>,
}

/// At most so often time goes on by itself: in all more than a year.
pub(crate) const LEAPS: u32 = 256;

impl Context<'_> {
    /// Whether the kernel asks what time it is, so that its waits may end by themselves.
    pub(crate) fn timed(&self) -> bool {
        self.kernel.code.iter().any(|i| matches!(i.op, Op::Read(Dynamic::GlobalTimer)))
    }

    /// Lets time go on up to the leap of that number, each longer than all before it by an eighth. Waits that look at
    /// the time do so again, and those of mbarriers that give up after a while may.
    pub(crate) fn leap(&mut self, number: u32) {
        while self.leaps < number {
            self.leaps += 1;
            self.leapt += (self.leapt / 8).max(1000);
            self.phases = self.phases.wrapping_add(1);
        }
    }

    /// Whether lanes pass aligned barriers together: what looks on wants to know when they cannot.
    pub(crate) fn orderly(&self) -> bool {
        self.watch.is_some() || self.chaos.is_some()
    }

    /// Whether accesses must be told of.
    pub(crate) fn rehook(&mut self) {
        self.hooked = self.watch.is_some() || self.trace.is_some();
    }
}
