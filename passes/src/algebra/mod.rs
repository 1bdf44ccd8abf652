//! The algebra: equations in an e-graph, general laws, extraction.
//!
//! Why here: fusions are consequences of laws about sums, maxima and functions; finding them is a search over equal
//! expressions, before any decision about kernels or tiles.
//!
//! Pre: a verified graph function. Post: a [`dag::Dag`] whose roots equal the function's equations, with the law
//! chain of each root.

pub mod axes;
pub mod costs;
pub mod dag;
pub mod dot;
pub mod extract;
pub mod facts;
pub mod ingest;
pub mod laws;
pub mod saturate;
pub mod stable;
pub mod term;

pub use axes::{AxisSet, Part, SubAxis};

pub use dag::{Dag, Node, NodeId};
pub use facts::{Facts, Kind};
pub use term::Term;

/// The e-graph of this crate.
pub type Graph = egg::EGraph<Term, Facts>;
