//! What a target can do, as far as generated code depends on it.
//!
//! Why here: the instruction subset is a choice of code generation; nothing above knows instructions.

use crate::{CodegenError, SHARED_LIMIT};

/// An instruction subset: `sm_80`, `sm_90a`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    number: u32,
}

impl Target {
    /// The instructions that every supported GPU has.
    pub const BASE: Target = Target { number: 80 };

    /// The target that a text such as `sm_90a` names.
    pub fn parse(text: &str) -> Result<Target, CodegenError> {
        let digits = text.strip_prefix("sm_").map(|t| t.trim_end_matches(|c: char| c.is_ascii_lowercase()));
        match digits.and_then(|d| d.parse().ok()) {
            Some(number) => Ok(Target { number }),
            None => Err(CodegenError::Target { text: text.to_owned() }),
        }
    }

    /// Whether one thread can copy many bytes from global to shared memory, which a barrier counts.
    pub fn bulk_copies(self) -> bool {
        self.number >= 90
    }

    /// The most shared memory that one block may have, in bytes.
    pub fn shared_limit(self) -> u32 {
        match self.number {
            80 | 87 => 163 << 10,
            90..=110 => 227 << 10,
            _ => 99 << 10,
        }
    }

    /// Shared memory of a block for what is on its way: so much that two or three blocks fit an SM, and that an SM keeps
    /// more bytes in flight than its share of the bandwidth takes during one access to memory.
    pub fn ring_budget(self) -> u64 {
        if self.bulk_copies() { 72 << 10 } else { 46 << 10 }
    }

    /// The most that two stages may take where large copies need it: two blocks still fit an SM.
    pub fn ring_limit(self) -> u64 {
        let two = u64::from(self.shared_limit()) / 2 - (2 << 10);
        two.max(self.ring_budget())
    }

    /// The most that one program may take with its rings: what every target grants to a block, and more where two blocks
    /// of it still fit an SM.
    pub fn program_limit(self) -> u64 {
        self.ring_limit().max(SHARED_LIMIT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, bulk) in
            [("sm_80", false), ("sm_89", false), ("sm_90", true), ("sm_90a", true), ("sm_120", true)]
        {
            assert_eq!(Target::parse(text).map(Target::bulk_copies), Ok(bulk), "{text}");
        }
        assert!(Target::parse("compute_80").is_err() && Target::parse("sm_").is_err());
    }
}
