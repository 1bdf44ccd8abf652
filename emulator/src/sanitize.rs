//! What: which checks watch a launch, and what they report.
//! Why here: findings are data beside the result of a launch, since the kernel could go on.
//! Pre: none.
//! Post: without a check switched on, a launch keeps no shadow state.

use serde::Serialize;
use std::fmt;

/// The checks; bounds, alignment and deadlock are always watched and are faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sanitize {
    /// Two accesses of different threads of a block to one byte, one of them a write, with nothing that orders
    /// them. Lanes are threads. Atomics and strong accesses order whoever meets at their address; copies are
    /// taken for accesses of the thread that issued them.
    pub race: bool,
    /// Non-coherent loads of memory that the launch writes.
    pub nc: bool,
    /// Aligned barriers that a warp does not execute as a whole.
    pub divergence: bool,
}

impl Sanitize {
    /// Every check.
    pub const ALL: Sanitize = Sanitize { race: true, nc: true, divergence: true };

    /// The names that `parse` knows beside `all` and `none`.
    pub const NAMES: [&'static str; 3] = ["race", "nc", "divergence"];

    /// `all`, `none`, or names separated by commas; an unknown name is handed back.
    pub fn parse(list: &str) -> Result<Sanitize, String> {
        match list {
            "all" => return Ok(Sanitize::ALL),
            "none" => return Ok(Sanitize::default()),
            _ => {}
        }
        let mut s = Sanitize::default();
        for name in list.split(',') {
            match name.trim() {
                "race" => s.race = true,
                "nc" => s.nc = true,
                "divergence" => s.divergence = true,
                other => return Err(other.to_owned()),
            }
        }
        Ok(s)
    }

    pub(crate) fn any(self) -> bool {
        self != Sanitize::default()
    }
}

/// The kinds of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Accesses that nothing orders.
    Race,
    /// A non-coherent load of memory that the launch writes.
    NonCoherent,
    /// A barrier that only some lanes of a warp execute.
    Divergence,
}

/// A thread at an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The index of the thread in its block, where it is known.
    pub thread: Option<[u32; 3]>,
    /// The 1-based line of the PTX text.
    pub ptx_line: u32,
    /// The CUDA source file and line, when the PTX carries `.loc`.
    pub source_line: Option<(String, u32)>,
    /// The instruction, as written.
    pub instruction: String,
}

/// What a check found. One per pair of instructions: that of the first block in grid order.
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
    /// What is wrong, where, and what would order it.
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
        write!(f, "kernel `{}`, block ({x},{y},{z}), {}: {}", self.kernel, self.at, self.message)?;
        match &self.other {
            None => Ok(()),
            Some(o) => write!(f, "; the other is {o}"),
        }
    }
}
