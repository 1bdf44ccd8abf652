//! What: which checks watch a launch, and what they report.
//! Why here: findings are data beside the result of a launch, since most kernels could go on.
//! Pre: none.
//! Post: without a check that needs shadow state, a launch keeps none.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The checks. Accesses out of bounds, misaligned accesses and deadlocks always end a launch, as they do on a
/// device; their switches are there for lists that name what is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sanitize {
    /// Accesses outside every buffer or beyond the end of a state space.
    pub bounds: bool,
    /// Accesses whose address is no multiple of their width.
    pub align: bool,
    /// Data that nobody wrote and that decides a branch, an address or a store to global memory.
    pub uninit: bool,
    /// Two accesses of different threads to one byte, one of them a write, not both morally strong, with
    /// nothing that orders them. Lanes are threads, asynchronous copies are agents of their own, and scopes count.
    pub race: bool,
    /// Non-coherent loads of memory that the launch writes.
    pub nc: bool,
    /// Accesses through the asynchronous proxy of what the generic proxy wrote, without a proxy fence between.
    pub proxy: bool,
    /// Waits two phases behind, barriers used before their initialisation is visible or initialised twice.
    pub mbarrier: bool,
    /// Aligned barriers that a warp does not execute as a whole.
    pub barrier: bool,
    /// Threads that wait for what nobody will do, parked or polling.
    pub deadlock: bool,
}

/// The kinds of finding, one per check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An access outside every buffer.
    Bounds,
    /// A misaligned access.
    Align,
    /// Undefined data that decides something.
    Uninit,
    /// Accesses that nothing orders.
    Race,
    /// A non-coherent load of memory that the launch writes.
    #[serde(rename = "nc")]
    NonCoherent,
    /// Proxies without a fence between them.
    Proxy,
    /// An mbarrier used wrongly.
    Mbarrier,
    /// A barrier that only some lanes of a warp execute, or executed for different numbers of threads.
    Barrier,
    /// Threads that wait for ever.
    Deadlock,
}

impl FindingKind {
    /// The name of the check that finds it.
    pub fn name(self) -> &'static str {
        Sanitize::NAMES[self as usize]
    }
}

impl Sanitize {
    /// Every check.
    pub const ALL: Sanitize = Sanitize {
        bounds: true,
        align: true,
        uninit: true,
        race: true,
        nc: true,
        proxy: true,
        mbarrier: true,
        barrier: true,
        deadlock: true,
    };

    /// The names that `parse` knows beside `all` and `none`, in the order of `FindingKind`.
    pub const NAMES: [&'static str; 9] =
        ["bounds", "align", "uninit", "race", "nc", "proxy", "mbarrier", "barrier", "deadlock"];

    /// `all`, `none`, or names separated by commas; an unknown name is handed back.
    pub fn parse(list: &str) -> Result<Sanitize, String> {
        match list {
            "all" => return Ok(Sanitize::ALL),
            "none" => return Ok(Sanitize::default()),
            _ => {}
        }
        let mut s = Sanitize::default();
        for name in list.split(',') {
            let switch = match name.trim() {
                "bounds" => &mut s.bounds,
                "align" => &mut s.align,
                "uninit" => &mut s.uninit,
                "race" => &mut s.race,
                "nc" => &mut s.nc,
                "proxy" => &mut s.proxy,
                "mbarrier" => &mut s.mbarrier,
                "barrier" => &mut s.barrier,
                "deadlock" => &mut s.deadlock,
                other => return Err(other.to_owned()),
            };
            *switch = true;
        }
        Ok(s)
    }

    /// The names of the checks that are on.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const KINDS: [FindingKind; 9] = [
            FindingKind::Bounds,
            FindingKind::Align,
            FindingKind::Uninit,
            FindingKind::Race,
            FindingKind::NonCoherent,
            FindingKind::Proxy,
            FindingKind::Mbarrier,
            FindingKind::Barrier,
            FindingKind::Deadlock,
        ];
        KINDS.into_iter().filter(move |k| self.wants(*k)).map(FindingKind::name)
    }

    /// Whether a kind of finding is asked for.
    pub fn wants(self, kind: FindingKind) -> bool {
        match kind {
            FindingKind::Bounds => self.bounds,
            FindingKind::Align => self.align,
            FindingKind::Uninit => self.uninit,
            FindingKind::Race => self.race,
            FindingKind::NonCoherent => self.nc,
            FindingKind::Proxy => self.proxy,
            FindingKind::Mbarrier => self.mbarrier,
            FindingKind::Barrier => self.barrier,
            FindingKind::Deadlock => self.deadlock,
        }
    }

    /// Whether a check needs shadow state. What ends a launch anyway needs none.
    pub(crate) fn shadows(self) -> bool {
        self.uninit || self.race || self.nc || self.proxy || self.mbarrier || self.barrier
    }
}

/// A thread at an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The block.
    pub block: [u32; 3],
    /// The index of the thread in its block, where it is known.
    pub thread: Option<[u32; 3]>,
    /// The 1-based line of the PTX text.
    pub ptx_line: u32,
    /// The CUDA source file and line, when the PTX carries `.loc`.
    pub source_line: Option<(String, u32)>,
    /// The instruction, as written.
    pub instruction: String,
}

/// What a check found. One per kind and pair of instructions: that of the first block in grid order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The entry.
    pub kernel: String,
    /// The block index.
    pub block: [u32; 3],
    /// The access that showed it.
    pub at: Site,
    /// The access with which it does not go together.
    pub other: Option<Site>,
    /// What is wrong, where, and which edge is missing.
    pub message: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some([x, y, z]) = self.thread {
            write!(f, "thread ({x},{y},{z}), ")?;
        }
        write!(f, "PTX line {}", self.ptx_line)?;
        if let Some((file, line)) = &self.source_line {
            write!(f, ", source {file}:{line}")?;
        }
        write!(f, " (`{}`)", self.instruction)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        let name = self.kind.name();
        write!(f, "{name}: kernel `{}`, block ({x},{y},{z}), {}: {}", self.kernel, self.at, self.message)?;
        let Some(o) = &self.other else { return Ok(()) };
        write!(f, "; the other is ")?;
        if o.block != self.block {
            let [x, y, z] = o.block;
            write!(f, "block ({x},{y},{z}), ")?;
        }
        write!(f, "{o}")
    }
}
