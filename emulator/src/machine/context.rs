//! What: what a warp needs beside its own state: the block's shared memory, the launch's regions, counters.
//! Why here: one structure that is lent to whichever warp runs.
//! Pre: built per host thread and reset per block.
//! Post: counters of the blocks that ran on it.

use super::watch::{Watch, Written};
use crate::counters::Tally;
use crate::error::FaultKind;
use crate::memory::Region;
use crate::program::{Kernel, Program};

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
    pub(crate) shared: Vec<u128>,
    pub(crate) shared_bytes: u64,
    pub(crate) params: &'a [u8],
    /// Local memory per thread.
    pub(crate) local_bytes: u64,
    pub(crate) tally: Tally<'a>,
    /// Warp instructions of this block so far; the clock of the block.
    pub(crate) clock: u64,
    pub(crate) budget: u64,
    /// Phases of mbarriers that completed on this host thread; a change wakes those that wait for one.
    pub(crate) phases: u32,
    /// The checks of the block that runs, when there are any.
    pub(crate) watch: Option<Box<Watch>>,
    /// Per region what was written; empty unless non-coherent loads are checked.
    pub(crate) written: &'a Written,
}
