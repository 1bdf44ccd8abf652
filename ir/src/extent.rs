//! Extents of axes: constants, or symbols whose value is known only at run time.

use cranelift_entity::PrimaryMap;
use serde::{Deserialize, Serialize};

use crate::Sym;

/// How many positions an axis has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Extent {
    /// A compile-time constant; 0 is legal (sums over it give 0, maxima give -inf).
    Const(u64),
    /// The value of a symbol of the module.
    Sym(Sym),
}

impl Extent {
    /// The constant, if it is one.
    pub fn as_const(self) -> Option<u64> {
        match self {
            Extent::Const(n) => Some(n),
            Extent::Sym(_) => None,
        }
    }

    /// The least that it is. Pre: the symbols are those of its module.
    pub fn least(self, symbols: &PrimaryMap<Sym, SymData>) -> u64 {
        match self {
            Extent::Const(n) => n,
            Extent::Sym(s) => symbols[s].min,
        }
    }
}

/// A symbol: an integer scalar given at run time, within a range that is checked before a launch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SymData {
    /// Its name, unique in the module.
    pub name: String,
    /// The smallest legal value.
    pub min: u64,
    /// The largest legal value.
    pub max: u64,
}

/// An axis of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AxisData {
    /// Its name, unique in the function.
    pub name: String,
    /// Its extent.
    pub extent: Extent,
}
