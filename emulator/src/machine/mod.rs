//! What: the SIMT machine: warps as resumable state, blocks that schedule them, and their memory.
//! Why here: a warp runs until an event (barrier, wait, exit, end of its quantum), so any scheduler can
//! interleave warps and blocks.
//! Pre: a decoded kernel whose rows and slots lie in the register files made for it.
//! Post: the effects of the kernel, or a fault with the lane that caused it.

pub(crate) mod atom;
pub(crate) mod barrier;
pub(crate) mod block;
pub(crate) mod bulk;
pub(crate) mod chaos;
pub(crate) mod cluster;
pub(crate) mod context;
pub(crate) mod copies;
pub(crate) mod gang;
mod host;
pub(crate) mod mbarrier;
pub(crate) mod memory_ops;
pub(crate) mod place;
pub(crate) mod poll;
pub(crate) mod run;
pub(crate) mod space;
pub(crate) mod tensor;
#[cfg(target_arch = "x86_64")]
mod tensor512;
pub(crate) mod warp;
pub(crate) mod warp_ops;
mod wmma;
