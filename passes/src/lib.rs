//! From a graph to tile programs: search, extraction, partition, scheduling.
//!
//! [`pipeline::compile_module`] reads from top to bottom: for each function, `ingest -> saturate -> extract ->
//! partition -> lower`, then one step for the whole program.
//!
//! **Architecture invariant:** nothing here knows a model or an operator by name; laws speak of sums, maxima and
//! functions, the lowering of tile operations.

pub mod algebra;
pub mod candidates;
pub mod certify;
pub mod constants;
pub mod explain;
pub mod pack;
pub mod partition;
pub mod pipeline;
pub mod report;
pub mod schedule;
pub mod step;

pub use partition::Objective;
pub use pipeline::{Compiled, Options, Refused, compile_module};

/// Why a pass did not deliver.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PassError {
    /// A named limit of this compiler.
    #[error("limit: {0}")]
    Limit(String),
    /// A candidate that was asked for by name and is not there.
    #[error("{0}")]
    Candidate(String),
    /// A defect of this compiler.
    #[error("bug in tilewright: {0}; please report it with the input")]
    Bug(String),
}
