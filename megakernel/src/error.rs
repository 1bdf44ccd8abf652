//! What can be wrong with a step, or with what a device allows.

use thiserror::Error;

/// A failure to make a persistent kernel.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum MegaError {
    /// A launch has no program.
    #[error("kernel `{0}` is launched, and there is no tile program of that name")]
    MissingProgram(String),
    /// Launches and programs disagree.
    #[error("launch of `{kernel}`: {what}")]
    Mismatch {
        /// The kernel.
        kernel: String,
        /// What does not fit.
        what: String,
    },
    /// More tasks than a schedule may have.
    #[error("the step has {tasks} tasks, and at most {limit} are supported; use `--mode launch`")]
    TooManyTasks {
        /// How many there are.
        tasks: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A device without an SM.
    #[error("a persistent kernel needs at least one SM")]
    NoSms,
    /// Dependencies that no order satisfies.
    #[error("the tasks of `{0}` and later ones wait for each other")]
    Cyclic(String),
    /// Code generation.
    #[error(transparent)]
    Codegen(#[from] tilewright_codegen::CodegenError),
}
