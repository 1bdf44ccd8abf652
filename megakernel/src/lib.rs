//! One persistent kernel for a whole step.
//!
//! What: [`TaskGraph::build`] cuts the launches of a step into tasks and finds which must wait for which;
//! [`schedule()`] puts them into one queue per SM; [`source`] writes the kernel that works the queues off, and
//! [`tables`] the records that it reads. [`check()`] proves for concrete tables that they are right.
//! Why here: a second back end of the step level. Kernels and tasks come from the same tile programs.
//! Pre: a step that the verifier accepts and its tile programs.
//! Post: results equal those of the launches bit for bit, on any number of SMs, or one typed error.
//!
//! **Architecture invariant:** [`mod@check`] shares with the scheduler only the regions that programs touch and the format
//! of records. What the scheduler concludes, it concludes again.

mod access;
mod arena;
pub mod check;
mod costs;
mod cut;
mod emit;
mod error;
mod graph;
mod join;
mod narrow;
mod page_size;
mod pages;
mod record;
mod region;
mod roles;
mod schedule;

pub use arena::spread;
pub use check::{Certificate, Hazard, TaskName, Violation, check};
pub use costs::Costs;
pub use emit::{KERNEL, source};
pub use error::MegaError;
pub use graph::{Event, EventData, Options, Task, TaskData, TaskGraph};
pub use join::join;
pub use narrow::narrow;
pub use pages::{Bodies, Stages, Unfed};
pub use record::{ADVANCE, LAP, NO_KIND, Record, TURNS, WORDS, tables};
pub use schedule::{Item, Report, Schedule, schedule};
