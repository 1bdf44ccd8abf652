//! What: running steps on a device.
//! Why here: the last level of the compiler's IR, buffers and launches, means nothing without this.
//! Pre: a [`Step`](tilewright_ir::step::Step), its compiled kernels, an open device, and the weights.
//! Post: outputs, or an error that tells bad input, a defective step and a failing device apart. Everything is
//! `Send + Sync`; runs of one [`Executable`] take turns.

mod bind;
mod error;
mod executable;
mod graph;
mod group;
mod launch;
mod leaving;
mod packed;
mod persistent;
mod result;
mod session;
mod source;
mod tables;
mod validate;

pub use error::ExecError;
pub use executable::{Executable, Moment, Observer};
pub use graph::Mode;
pub use launch::{Alias, Binding};
pub use persistent::Patience;
pub use result::{Array, LaunchRecord, RunResult};
pub use session::{Session, SessionOptions};
pub use source::{MemoryTensors, NoTensors, TensorSource};
