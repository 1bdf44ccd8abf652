//! What can be wrong with a tile program, as far as code generation can tell.
//!
//! Why here: one type for both halves of the crate, so that callers match once.
//! Post: every message names the thing and what to do about it.

use tilewright_ir::{Axis, DType, Param, Tile};

/// A tile program that cannot be turned into a kernel.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodegenError {
    /// The program breaks a rule of the tile level.
    #[error("tile program `{program}` is malformed: {what}")]
    Malformed {
        /// The program.
        program: String,
        /// The rule and who breaks it.
        what: String,
    },
    /// A target that is none.
    #[error("`{text}` is no target: expected sm_80, sm_90a, ...")]
    Target {
        /// What was given.
        text: String,
    },
    /// An operand of a tensor-core contraction is smaller than the instruction.
    #[error(
        "`{program}`: the contraction into {out} has {got} positions in its {group} group, and the tensor-core \
         instruction needs {need}: use larger blocks, or a contraction by fused multiply-adds"
    )]
    ContractionTooSmall {
        /// The program.
        program: String,
        /// The result.
        out: Tile,
        /// `m`, `n` or `k`.
        group: &'static str,
        /// Positions present.
        got: u64,
        /// Positions needed.
        need: u64,
    },
    /// An operand of a contraction has a type that the contraction cannot read.
    #[error(
        "`{program}`: operand {tile} of the contraction into {out} is {got}, expected {need}: cast it before"
    )]
    OperandType {
        /// The program.
        program: String,
        /// The result.
        out: Tile,
        /// The operand.
        tile: Tile,
        /// Its type.
        got: DType,
        /// What is needed.
        need: DType,
    },
    /// The index or mask of an access mentions an axis that the tile lacks.
    #[error(
        "`{program}`: the access to {param} mentions {axis}, which spans several positions but is not an axis of \
         {tile}: add the axis to the tile"
    )]
    FreeAxis {
        /// The program.
        program: String,
        /// The buffer.
        param: Param,
        /// The axis.
        axis: Axis,
        /// The tile.
        tile: Tile,
    },
    /// A tile takes more registers than a thread has.
    #[error(
        "`{program}`: {tile} takes {words} registers per thread, and the limit is {limit}: use smaller blocks or \
         more warps"
    )]
    RegisterTile {
        /// The program.
        program: String,
        /// The tile.
        tile: Tile,
        /// 32-bit registers per thread.
        words: u64,
        /// The limit.
        limit: u64,
    },
    /// The tiles in shared memory do not fit.
    #[error("`{program}` needs {need} bytes of shared memory, and the limit is {limit}: use smaller blocks")]
    SharedMemory {
        /// The program.
        program: String,
        /// Bytes needed.
        need: u64,
        /// The limit.
        limit: u64,
    },
}
