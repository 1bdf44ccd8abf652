//! Everything that touches the outside world on the way from generated source to results: NVRTC, devices, caches,
//! and the execution of steps.
//!
//! * [`toolchain`]: where external pieces are looked for.
//! * [`nvrtc`]: source to PTX and CUBIN.

pub mod nvrtc;
#[doc(hidden)]
pub mod testing;
pub mod toolchain;

pub use toolchain::Toolchain;
