//! What code generation hands to the runtime, and what the compiler hands back.

use serde::{Deserialize, Serialize};

use crate::{Buffer, Sym};

/// Source of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSource {
    /// The entry point.
    pub name: String,
    /// CUDA C++ without includes.
    pub cuda: String,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
}

/// A compiled kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBinary {
    /// The entry point.
    pub name: String,
    /// PTX.
    pub ptx: String,
    /// The CUBIN for a real architecture; empty when there is none.
    pub cubin: Vec<u8>,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// What the compiler reported.
    pub resources: Resources,
}

/// Resources of a compiled kernel, read from the compiler's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of spill stores and loads.
    pub spill_bytes: u32,
    /// Static shared memory in bytes.
    pub static_shared_bytes: u32,
    /// Stack frame in bytes.
    pub stack_bytes: u32,
    /// Compiler advisories (performance warnings), verbatim.
    pub advisories: Vec<String>,
}

/// What a persistent kernel reads: one kernel, launched once, does a whole step.
///
/// The kernel takes eight pointers: queues, records, the addresses of arguments, counters, control words, the parameter
/// block, where it writes three times for each record when it is asked to (when a block came to it, when its waits
/// were over, and when it was done), and words that the host sees while it runs, see [`Visible`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistent {
    /// The entry point.
    pub kernel: String,
    /// Blocks: one for each SM.
    pub blocks: u32,
    /// Records of tasks, those of one block in a row.
    pub records: Vec<u32>,
    /// The first record of each block, and how many it has.
    pub queues: Vec<(u32, u32)>,
    /// Counters; they lie 32 bytes apart.
    pub counters: u32,
    /// The buffers of each launch; in memory each launch has as many slots as the longest.
    pub args: Vec<Vec<Buffer>>,
    /// How the kernel goes on to the next step by itself, if it does.
    pub repeat: Option<Repeat>,
}

/// What happens between two steps of one launch.
///
/// Control words of a persistent kernel: 0 whether to stop; 1 steps before this launch; 2 steps of this launch; 3 whether
/// no step follows; 4 steps that are done; 5 how many stop tokens there are; 6 whether to write down times; 7 whether no
/// step follows because the host asked for it; 8 and 9 how many nanoseconds a wait for others may take, 10 and 11 the same
/// for a wait that cannot be left; from [`Control::HEAD`] on [`Control::STOPS`] stop tokens, then [`Control::TOKENS`] tokens
/// of one sequence after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// The tokens that were chosen, i32.
    pub next: Buffer,
    /// Where the next step expects them.
    pub ids: Buffer,
    /// How many there are.
    pub sequences: u32,
    /// Where the next step expects how many tokens each sequence has, i32, where sequences differ: one more than now; and
    /// below 0 after a stop token, so that the sequence sits out what is left of the launch.
    pub positions: Option<Buffer>,
    /// Symbols that are one more in the next step.
    pub symbols: Vec<Sym>,
}

impl Repeat {
    /// The arguments of the end of a step.
    pub fn args(&self) -> Vec<Buffer> {
        [self.next, self.ids].into_iter().chain(self.positions).collect()
    }
}

/// Where control words are.
pub struct Control;

impl Control {
    /// The first stop token.
    pub const HEAD: u64 = 16;
    /// The most stop tokens.
    pub const STOPS: u64 = 64;
    /// The most tokens of one launch, all sequences together.
    pub const TOKENS: u64 = 8192;

    /// The first token.
    pub const FIRST_TOKEN: u64 = Control::HEAD + Control::STOPS;
    /// All words.
    pub const WORDS: u64 = Control::FIRST_TOKEN + Control::TOKENS;
}

/// Words that the host reads and writes while a persistent kernel runs: 0 whether it asks to stop; from
/// [`Visible::BLOCKS`] on 8 words for each block: why it left before its work was done (see the constants), the step, the
/// record, and of a counter that it waited for the number, the value that was waited for, and the value found.
pub struct Visible;

impl Visible {
    /// The first word of the first block.
    pub const BLOCKS: u64 = 16;
    /// Words of a block.
    pub const BLOCK: u64 = 8;
    /// A block left because it was told to.
    pub const TOLD: u32 = 1;
    /// A block waited for longer than it may, and told the others to leave.
    pub const LATE: u32 = 2;
    /// A copy within a block did not arrive; the kernel was ended by force.
    pub const LOST: u32 = 3;

    /// All words.
    pub fn words(blocks: u32) -> u64 {
        Visible::BLOCKS + Visible::BLOCK * u64::from(blocks)
    }
}

impl Persistent {
    /// Slots for the arguments of a launch.
    pub fn slots(&self) -> usize {
        self.args.iter().map(Vec::len).max().unwrap_or(0).max(1)
    }
}
