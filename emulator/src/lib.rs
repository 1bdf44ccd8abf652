//! What: a PTX parser and a SIMT machine that runs the PTX which NVRTC emits, on any x86-64 host.
//! Why here: generated kernels must run, be checked and be counted where no GPU is at hand; the crate stands
//! alone so that anyone with a PTX file can use it.
//! Pre: PTX text and a launch description.
//! Post: the device memory as the kernel leaves it, exact counters, or one typed error that names the place.

// Lane loops index several rows by one lane number, and shifts of masks read best bare.
#![allow(clippy::needless_range_loop, clippy::precedence)]

pub mod counters;
mod decode;
pub mod error;
mod inst;
mod lanes;
pub mod launch;
mod machine;
pub mod memory;
mod numeric;
mod parse;
mod printf;
pub mod profile;
pub mod program;
mod regalloc;
pub mod sanitize;
mod schedule;
mod types;
mod watch;

pub use counters::{BufferCount, Counters, GlobalCount, MemoryCount, SharedCount};
pub use error::{Fault, FaultKind, LaunchError, MemoryError, PtxError};
pub use launch::{Launch, LaunchReport, Options, Step, launch, launch_sequence};
pub use memory::Memory;
pub use printf::Printed;
pub use profile::Profile;
pub use program::{ParamInfo, Program};
pub use sanitize::{Finding, FindingKind, Sanitize, Site};

/// The example of the README, compiled and run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
