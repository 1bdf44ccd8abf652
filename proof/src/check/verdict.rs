//! What the checker says of a certificate: what was proved, or why it is refused.
//!
//! Why here: whoever shows a refusal reads what is wrong and where; only the checker says so.

use std::collections::BTreeMap;
use std::fmt;

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field is not what it must be.
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A node is malformed.
    Node {
        /// Its number.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A step does not follow.
    Step {
        /// Its number.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A law that the checker does not know.
    UnknownLaw {
        /// The step.
        at: usize,
        /// The law.
        law: String,
    },
    /// The source is not what the graph says.
    Source,
    /// The result is not what the kernel computes.
    Result(String),
    /// There is no certificate, for a reason that the writer gives.
    Absent(String),
    /// The kernel reads a value whose own certificate was refused.
    Rests {
        /// The value.
        on: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Field { field, reason } => write!(f, "field `{field}`: {reason}"),
            Refusal::Node { at, reason } => write!(f, "node {at}: {reason}"),
            Refusal::Step { at, reason } => write!(f, "step {at}: {reason}"),
            Refusal::UnknownLaw { at, law } => {
                write!(f, "step {at}: the checker knows no law `{law}`; it must be added to its table")
            }
            Refusal::Source => f.write_str("the source term is not what the graph says"),
            Refusal::Result(reason) => write!(f, "the result is not what the kernel computes: {reason}"),
            Refusal::Absent(reason) => write!(f, "no certificate: {reason}"),
            Refusal::Rests { on } => write!(f, "reads {on}, whose own certificate was refused"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What was proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The laws that the proof uses, with the number of steps of each.
    pub laws: BTreeMap<String, usize>,
    /// What is taken for granted.
    pub assumptions: Vec<String>,
    /// The number of steps.
    pub steps: usize,
    /// The number of terms.
    pub nodes: usize,
}
