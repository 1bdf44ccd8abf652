//! Everything that touches the outside world on the way from generated source to results: NVRTC, devices, caches,
//! and the execution of steps.
//!
//! * [`toolchain`]: where external pieces are looked for.
//! * [`nvrtc`]: source to PTX and CUBIN.
//! * [`cache`], [`kernels`]: binaries, kept on disk between runs.
//! * [`device`]: a GPU through the CUDA driver, or the emulator.
//! * [`exec`]: running steps.
//! * [`npy`], [`values`]: arrays in files and as numbers.

pub mod cache;
pub mod device;
pub mod exec;
pub mod kernels;
pub mod npy;
pub mod nvrtc;
#[doc(hidden)]
pub mod testing;
pub mod toolchain;
pub mod values;

pub use toolchain::Toolchain;
