//! What: every error this crate returns.
//! Why here: one place shows all that can go wrong and what to do about it.
//! Pre: none.
//! Post: each message names the thing (instruction, buffer, thread) and, where there is one, the remedy.

use crate::sanitize::{Finding, FindingKind, Site};
use thiserror::Error;

/// PTX that cannot be parsed or decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("PTX line {line}, column {column}: {message} (in `{instruction}`)")]
pub struct PtxError {
    /// 1-based line of the PTX text.
    pub line: u32,
    /// 1-based column of the PTX text.
    pub column: u32,
    /// The instruction or directive at fault, as written.
    pub instruction: String,
    /// What is wrong and, where there is one, the remedy.
    pub message: String,
}

/// A request on device memory that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The device is full.
    #[error(
        "`{label}` wants {bytes} bytes and {free} of {capacity} are free: free buffers or make the memory larger"
    )]
    Full {
        /// The label of the allocation.
        label: String,
        /// The bytes asked for.
        bytes: u64,
        /// The bytes still free.
        free: u64,
        /// The capacity of the device.
        capacity: u64,
    },
    /// The host has no memory for the allocation.
    #[error("the host cannot provide {bytes} bytes for `{label}`")]
    HostFull {
        /// The label of the allocation.
        label: String,
        /// The bytes asked for.
        bytes: u64,
    },
    /// An access that no single allocation holds.
    #[error("{bytes} bytes at {address:#x} lie in no buffer; {nearest}")]
    Unmapped {
        /// The first address.
        address: u64,
        /// The bytes wanted.
        bytes: u64,
        /// The nearest buffer, in words.
        nearest: String,
    },
    /// A store into a read-only mapping.
    #[error("`{label}` is mapped read-only; copy it into an allocated buffer to write it")]
    ReadOnly {
        /// The label of the mapping.
        label: String,
    },
    /// `free` of something that is not the start of a live allocation.
    #[error("{address:#x} is not the start of a live allocation")]
    NotAllocated {
        /// The address given.
        address: u64,
    },
}

/// Why a launch did not start or did not finish.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LaunchError {
    /// The program has no such entry.
    #[error("no entry `{entry}`; the program has {known}")]
    UnknownEntry {
        /// The entry asked for.
        entry: String,
        /// The entries there are.
        known: String,
    },
    /// The launch breaks a limit of the kernel or of the device.
    #[error("launch of `{entry}`: {message}")]
    Config {
        /// The entry.
        entry: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A thread did what the machine does not allow.
    #[error(transparent)]
    Fault(Box<Fault>),
}

/// Where and how a thread of a kernel failed.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "kernel `{kernel}`, block ({},{},{}), thread ({},{},{}), PTX line {ptx_line}{}: {kind} (in `{instruction}`)",
    block[0], block[1], block[2], thread[0], thread[1], thread[2],
    source_line.as_ref().map(|(f, l)| format!(", source {f}:{l}")).unwrap_or_default()
)]
pub struct Fault {
    /// The entry.
    pub kernel: String,
    /// The block index.
    pub block: [u32; 3],
    /// The index of the (first) thread at fault.
    pub thread: [u32; 3],
    /// The 1-based line of the PTX text.
    pub ptx_line: u32,
    /// The CUDA source file and line, when the PTX carries `.loc`.
    pub source_line: Option<(String, u32)>,
    /// The instruction, as written.
    pub instruction: String,
    /// What went wrong.
    pub kind: FaultKind,
    /// What the checks had found until then.
    pub findings: Vec<Finding>,
}

impl Fault {
    /// The fault as a finding, where it is of a kind that has a check.
    pub fn finding(&self) -> Option<Finding> {
        let site = Site {
            block: self.block,
            thread: Some(self.thread),
            ptx_line: self.ptx_line,
            source_line: self.source_line.clone(),
            instruction: self.instruction.clone(),
        };
        self.kind.finding().map(|kind| Finding {
            kind,
            kernel: self.kernel.clone(),
            block: self.block,
            at: site,
            other: None,
            message: self.kind.to_string(),
        })
    }
}

/// The kinds of fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultKind {
    /// An access outside what the state space holds.
    #[error("{access} of {bytes} bytes at {space} address {address:#x} is out of bounds; {nearest}")]
    OutOfBounds {
        /// "load", "store" or "atomic".
        access: &'static str,
        /// The state space.
        space: &'static str,
        /// The address.
        address: u64,
        /// The width of the access.
        bytes: u32,
        /// The nearest buffer, in words.
        nearest: String,
    },
    /// An access whose address is no multiple of its width.
    #[error("{access} of {bytes} bytes at {space} address {address:#x} is misaligned; {nearest}")]
    Misaligned {
        /// "load", "store" or "atomic".
        access: &'static str,
        /// The state space.
        space: &'static str,
        /// The address.
        address: u64,
        /// The width of the access.
        bytes: u32,
        /// The nearest buffer, in words.
        nearest: String,
    },
    /// A store into memory that cannot be written.
    #[error("{access} at {space} address {address:#x}: `{label}` is read-only")]
    ReadOnly {
        /// "store" or "atomic".
        access: &'static str,
        /// The state space.
        space: &'static str,
        /// The address.
        address: u64,
        /// The buffer.
        label: String,
    },
    /// An address is mapped to a block that the cluster does not have.
    #[error("mapa to rank {rank} in a cluster of {blocks} blocks")]
    NoRank {
        /// The rank.
        rank: u32,
        /// The blocks of the cluster.
        blocks: u32,
    },
    /// The shared memory of a block that has exited.
    #[error(
        "{access} in the shared memory of the block of rank {rank}, which has exited: let it wait at a cluster \
         barrier before it exits"
    )]
    Gone {
        /// "load", "store" or "atomic".
        access: &'static str,
        /// The rank of the block in its cluster.
        rank: u32,
    },
    /// `trap` or `brkpt` was executed.
    #[error("the kernel trapped")]
    Trap,
    /// An `assert` of the source failed.
    #[error("{file}:{line}: assertion `{expression}` failed in `{function}`")]
    Assert {
        /// The expression.
        expression: String,
        /// The source file.
        file: String,
        /// The line.
        line: u32,
        /// The function.
        function: String,
    },
    /// No warp of the block can go on.
    #[error("deadlock: {waiting}")]
    Deadlock {
        /// Every waiting warp and what it waits for.
        waiting: String,
    },
    /// The instruction budget is spent.
    #[error(
        "more than {budget} warp instructions in one block: an endless loop, or raise Options::instruction_budget"
    )]
    Budget {
        /// The budget of one block.
        budget: u64,
    },
    /// An mbarrier is used in a way that it does not allow.
    #[error("{what}")]
    Mbarrier {
        /// What is wrong.
        what: String,
    },
    /// A barrier is used in a way that it does not allow.
    #[error("{what}")]
    Barrier {
        /// What is wrong.
        what: String,
    },
    /// An operand has a value that the instruction does not define.
    #[error("{what}")]
    BadOperand {
        /// What is wrong.
        what: String,
    },
}

impl FaultKind {
    /// The check that this fault belongs to; none for traps, budgets and undefined operands.
    pub fn finding(&self) -> Option<FindingKind> {
        match self {
            FaultKind::OutOfBounds { .. }
            | FaultKind::ReadOnly { .. }
            | FaultKind::NoRank { .. }
            | FaultKind::Gone { .. } => Some(FindingKind::Bounds),
            FaultKind::Misaligned { .. } => Some(FindingKind::Align),
            FaultKind::Deadlock { .. } => Some(FindingKind::Deadlock),
            FaultKind::Mbarrier { .. } => Some(FindingKind::Mbarrier),
            FaultKind::Barrier { .. } => Some(FindingKind::Barrier),
            FaultKind::Trap
            | FaultKind::Assert { .. }
            | FaultKind::Budget { .. }
            | FaultKind::BadOperand { .. } => None,
        }
    }
}
