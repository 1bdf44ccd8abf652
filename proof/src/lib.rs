//! Certificates: proofs that a kernel computes what its equation says, and a checker that shares no code with the search.
//!
//! * [`term`], [`facts`], [`normal`], [`rename`]: terms, what is known of them, normal forms, binders;
//! * [`laws`]: what each law of the table means; [`fold`] and [`order`]: when a reduction may be computed in one
//!   pass (with `fraction`);
//! * [`source`] and [`plan`]: the terms of a graph's equation and of a kernel, derived here;
//! * [`cert`]: what is written down; [`check`]: the checker; [`build`]: writing;
//! * [`runs`]: that passes cut into runs, and their merge, are the whole ones.
//!
//! **Architecture invariant:** depends on `ir` alone, and knows nothing of an e-graph. A proof is about the algebra: that
//! a kernel's code computes its plan is a matter of tests.

pub mod build;
mod cases;
pub mod cert;
pub mod check;
pub mod facts;
pub mod fold;
mod fraction;
pub mod hash;
mod in_place;
pub mod laws;
pub mod linear;
pub mod normal;
pub mod order;
pub mod plan;
pub mod rename;
pub mod runs;
pub mod source;
pub mod stable;
pub mod term;
mod together;

pub use cert::Certificate;
pub use check::{Checker, Context, Refusal, Verdict, check_plan};
