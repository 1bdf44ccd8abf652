//! Why something could not be evaluated.

use crate::Axis;
use crate::eval::nodes::Src;

/// Why something could not be evaluated. Each names the thing; none is reachable from a verified program with
/// arguments of the right shapes, but for the limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum EvalError {
    #[error("{what}: {found} elements where the extents need {expected}")]
    Elements { what: String, expected: usize, found: usize },
    #[error("{what}: extents {found:?} where {expected:?} are declared")]
    Dims { what: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("{what}: extents {dims:?} hold more than {limit} elements, the limit of the evaluator")]
    TooLarge { what: String, dims: Vec<usize>, limit: usize },
    #[error("axis {axis} has extent {extent}: more than 2^31 positions are not evaluated")]
    Extent { axis: Axis, extent: u64 },
    #[error("axis {axis} is neither bound nor an axis of the value that is computed")]
    Unbound { axis: Axis },
    #[error("`{what}` has no contents yet where it is read")]
    Missing { what: String },
    #[error("`{what}` has {expected} axes and is read with {found} indices")]
    Rank { what: String, expected: usize, found: usize },
    #[error("no symbol is named `{name}`")]
    UnknownSymbol { name: String },
    #[error("symbol `{name}` has no value: give one in {min}..={max}")]
    NoSymbol { name: String, min: u64, max: u64 },
    #[error("symbol `{name}` is {value}, outside of {min}..={max}")]
    SymbolRange { name: String, value: u64, min: u64, max: u64 },
    #[error("`{what}` takes {expected} arguments and was given {found}")]
    Arguments { what: String, expected: usize, found: usize },
    #[error("tensor `{name}`: {message}")]
    Source { name: String, message: String },
    #[error("{program}: {operation}: index {index} of dimension {dim} is outside of its extent {extent}")]
    OutOfBounds { program: String, operation: String, dim: usize, index: String, extent: usize },
    #[error("{what}: {message}")]
    Malformed { what: String, message: String },
    #[error("a defect of the evaluator: {0}")]
    Internal(&'static str),
}

impl EvalError {
    pub(crate) fn missing(src: Src) -> EvalError {
        EvalError::Missing { what: name(src) }
    }

    pub(crate) fn rank(src: Src, expected: usize, found: usize) -> EvalError {
        EvalError::Rank { what: name(src), expected, found }
    }
}

fn name(src: Src) -> String {
    match src {
        Src::Value(v) => v.to_string(),
        Src::Local(l) => l.to_string(),
        Src::Tile(t) => t.to_string(),
        Src::Param(p) => p.to_string(),
        Src::Reduction(_) => "a reduction".to_owned(),
    }
}
