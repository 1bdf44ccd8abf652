//! The evaluator: what programs of each level mean, executed directly and generic over the numbers.
//!
//! * [`eval_function`] and [`Evaluator`] run graphs (one function; a module with its rolled calls and states).
//! * [`eval_plan`] runs the kernels of a plan, with passes cut into blocks of a size that the caller chooses.
//! * [`eval_tile`] runs a tile program block by block over plain buffers.
//!
//! The [`Domain`] says what numbers are: [`F64`] (the reference), [`Rounded`] (rounded as a device rounds), [`Field`]
//! (exact identities), [`Interval`] (ranges).
//!
//! Meaning: the extended reals; the maximum over nothing is -inf and a sum over nothing 0; the side of a `where` that
//! is not taken has no effect; reads outside a tensor give 0 and writes outside are dropped (in graphs and plans; in
//! tile programs both are errors unless masked); positions and extents are exact integers.
//!
//! How: each reduction is computed once over its free axes, by a loop nest with a vector loop innermost (see `nest`);
//! the body of a contraction is never an array.

mod domain;
mod error;
mod exec;
mod field;
mod function;
mod interval;
mod module;
mod nest;
mod nodes;
mod plan;
mod real;
mod table;
mod tensor;
mod tile;

use cranelift_entity::PrimaryMap;

pub use domain::{Arg, Domain, Sort};
pub use error::EvalError;
pub use field::{Field, FieldValue};
pub use function::{Outcome, eval_function};
pub use interval::{Interval, Range};
pub use module::{Evaluator, WeightSource};
pub use plan::eval_plan;
pub use real::{F64, Rounded};
pub use table::table_values;
pub use tensor::{Tensor, strides};
pub use tile::eval_tile;

use crate::{Extent, Sym, SymData};

/// The values of all symbols of a module, by number.
pub type Symbols = PrimaryMap<Sym, u64>;

/// The values of symbols from values by name. Symbols whose range is a single value need not be named.
pub fn bind_symbols(
    symbols: &PrimaryMap<Sym, SymData>,
    values: &[(&str, u64)],
) -> Result<Symbols, EvalError> {
    for (name, _) in values {
        if !symbols.values().any(|s| s.name == *name) {
            return Err(EvalError::UnknownSymbol { name: (*name).to_owned() });
        }
    }
    let mut out = PrimaryMap::new();
    for data in symbols.values() {
        let SymData { name, min, max } = data.clone();
        let value = match values.iter().find(|(n, _)| *n == name) {
            Some(&(_, value)) => value,
            None if min == max => min,
            None => return Err(EvalError::NoSymbol { name, min, max }),
        };
        if value < min || value > max {
            return Err(EvalError::SymbolRange { name, value, min, max });
        }
        out.push(value);
    }
    Ok(out)
}

/// How many positions an extent stands for. Pre: `symbols` are those of its module.
pub fn size(extent: Extent, symbols: &Symbols) -> usize {
    match extent {
        Extent::Const(n) => n as usize,
        Extent::Sym(s) => symbols[s] as usize,
    }
}

/// The same for each dimension of a tensor.
pub fn sizes(extents: &[Extent], symbols: &Symbols) -> Vec<usize> {
    extents.iter().map(|&e| size(e, symbols)).collect()
}
