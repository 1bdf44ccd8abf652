//! Proving that tables are right, from the tables alone.
//!
//! What: the records are replayed with one clock per block; then every pair of accesses that must be in order is held
//! against the clocks. [`loads`] does the same for what only code shows: which loads may be stale.
//! Why here: a schedule is a few thousand numbers that no test sees all of. Shares with the scheduler the regions that
//! programs touch and the format of records, and nothing that it concluded.
//! Post: a certificate that says what was proved, or the first violation, with the two tasks and the edge that is missing.

mod loads;
mod order;
mod pages;
mod replay;

use std::fmt;

use thiserror::Error;
use tilewright_ir::artifact::Persistent;
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;

use crate::MegaError;
use crate::graph::kinds;
use crate::pages::Bodies;

pub use loads::loads;

/// What was proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Blocks, one for each SM.
    pub blocks: usize,
    /// Records.
    pub records: usize,
    /// Those that do work.
    pub tasks: usize,
    /// Blocks of launches that they do, each once.
    pub launch_blocks: u64,
    /// Counters.
    pub counters: usize,
    /// Waits, each of which ends.
    pub waits: usize,
    /// Pairs of launches that touch the same bytes: the later reads what the earlier writes.
    pub read_after_write: u64,
    /// The later writes what the earlier reads.
    pub write_after_read: u64,
    /// Both write.
    pub write_after_write: u64,
    /// Pairs of tasks that were looked at one by one, because not all of one launch is before all of the other.
    pub pairs: u64,
    /// Whether several steps may follow each other in one launch.
    pub repeats: bool,
    /// Stages that are copied ahead of a step's tasks.
    pub stages: u64,
    /// Pages of the ring that they claim, each released once before it is claimed again.
    pub pages: u64,
    /// Bytes that are copied so.
    pub bytes: u64,
    /// Those of them whose copies wait for nothing of their own task, and so are issued before its waits end.
    pub bytes_ahead: u64,
    /// What is not ahead, by kernel: a task that needs more than the ring holds gets the rest while it runs.
    pub late: Vec<(String, u64)>,
    /// Loads past the coherent caches that were followed to their buffers; nothing when no code was looked at.
    pub loads: Option<usize>,
}

/// A task, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskName {
    /// The block that does it.
    pub block: u32,
    /// Its place in the block's queue.
    pub record: u32,
    /// The kernel.
    pub kernel: String,
    /// The part of the program.
    pub region: String,
    /// The first block of the launch, and the one after the last.
    pub blocks: (u32, u32),
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskName { block, record, kernel, region, blocks: (from, to) } = self;
        write!(f, "`{kernel}` of {region}, blocks {from}..{to} (SM {block}, record {record})")
    }
}

/// What is wrong with tables or code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The tables are no tables.
    #[error("SM {block}, record {record}: {what}")]
    Malformed {
        /// The block.
        block: u32,
        /// Its record.
        record: u32,
        /// What is wrong.
        what: String,
    },
    /// Work that nobody does, or that is done twice.
    #[error("block {block} of `{kernel}` in {region} is done {times} times")]
    Coverage {
        /// The kernel.
        kernel: String,
        /// The part of the program.
        region: String,
        /// The block of the launch.
        block: u64,
        /// How often it is done.
        times: u32,
    },
    /// A wait for more than there is.
    #[error("{task} waits for {amount} signals of counter {counter} in a step, and there are {signals}")]
    Unreachable {
        /// Who waits.
        task: Box<TaskName>,
        /// The counter.
        counter: u32,
        /// What it waits for.
        amount: u32,
        /// What comes.
        signals: u32,
    },
    /// Queues that wait for each other.
    #[error("nothing goes on: {0}")]
    Stuck(String),
    /// Steps that run into each other.
    #[error("steps that follow each other: {0}")]
    Repeat(String),
    /// Two accesses without an order.
    #[error("{kind} of `{buffer}`: {later} does not wait for {earlier}; missing: {missing}")]
    Unordered {
        /// What would go wrong.
        kind: Hazard,
        /// The buffer.
        buffer: String,
        /// Who must be first.
        earlier: Box<TaskName>,
        /// Who must be second.
        later: Box<TaskName>,
        /// The edge that is missing.
        missing: String,
    },
    /// Pages that are overwritten before they are released, or never.
    #[error("pages: {task}: {what}")]
    Pages {
        /// Whose pages.
        task: Box<TaskName>,
        /// What is wrong.
        what: String,
    },
    /// A load that may give what was there before.
    #[error(
        "`{function}` loads its buffer {param} past the coherent caches, and `{writer}` writes `{buffer}` there"
    )]
    Stale {
        /// The device function.
        function: String,
        /// Its parameter.
        param: usize,
        /// The buffer.
        buffer: String,
        /// The kernel that writes it.
        writer: String,
    },
    /// Code that was not understood.
    #[error("the code: {0}")]
    Code(String),
}

/// What goes wrong without an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hazard {
    /// A read may come before the write that it is for.
    ReadAfterWrite,
    /// A write may come before a read of what was there.
    WriteAfterRead,
    /// The earlier write may come last.
    WriteAfterWrite,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hazard::ReadAfterWrite => "read after write",
            Hazard::WriteAfterRead => "write after read",
            Hazard::WriteAfterWrite => "write after write",
        })
    }
}

/// Checks tables against the step that they are for. The outer error is a step that cannot be understood.
pub fn check(
    step: &Step,
    programs: &[TileProgram],
    bodies: &Bodies,
    tables: &Persistent,
) -> Result<Result<Certificate, Violation>, MegaError> {
    let kinds = kinds(step, programs)?;
    let mut replayed = match replay::replay(step, &kinds, tables) {
        Ok(replayed) => replayed,
        Err(violation) => return Ok(Err(violation)),
    };
    if let Err(violation) = pages::pages(step, bodies, tables, &mut replayed.certificate) {
        return Ok(Err(violation));
    }
    order::order(step, programs, &kinds, &replayed)
}
