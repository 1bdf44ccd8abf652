//! Tilewright compiles transformer models into fused CUDA kernels that it derives.
//!
//! A Hugging Face folder or a few equations become a graph of index-notation equations; an e-graph search derives fused
//! kernels from general algebraic laws; one code generator writes CUDA C++, NVRTC compiles it, and the result runs on a
//! GPU or on a built-in emulator of the GPU.
//!
//! ```
//! use tilewright::{Array, DType, jit};
//!
//! # fn main() -> Result<(), tilewright::Error> {
//! # tilewright::runtime::testing::nvrtc();
//! let a = Array::new(DType::F32, &[2, 2], &[1., 2., 3., 4.]).expect("four elements");
//! let result = jit("B[i,k] = sum[j](A[i,j] * A[j,k])", &[("A", &a)])?;
//! assert_eq!(result.output("B").expect("an output").values(), [7., 10., 15., 22.]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Compiler`] is the builder of a compilation, [`Module`] its result. The crates below, each with its own
//! documentation, are re-exported: [`ir`], [`frontend`], [`passes`], [`proof`], [`codegen`], [`runtime`],
//! [`megakernel`], [`emulator`].

pub mod artifacts;
pub mod auto;
pub mod bench;
mod capacity;
pub mod check;
pub mod compiler;
pub mod error;
pub mod event;
pub mod explain;
pub mod files;
pub mod generate;
pub mod model;
pub mod module;
pub mod opt;
pub mod persistent;
pub mod report;
pub mod sample;
pub mod selftest;
pub mod spec;
pub mod timeline;
pub mod tokenizer;
pub mod toolchain;
pub mod verify;
mod weights;

pub use tilewright_codegen as codegen;
pub use tilewright_emulator as emulator;
pub use tilewright_frontend as frontend;
pub use tilewright_ir as ir;
pub use tilewright_megakernel as megakernel;
pub use tilewright_passes as passes;
pub use tilewright_proof as proof;
pub use tilewright_runtime as runtime;

pub use compiler::{CompiledPhase, Compiler, Planned, jit};
pub use error::Error;
pub use event::{Event, Listener};
pub use model::ModelInfo;
pub use module::Module;
pub use tilewright_frontend::hf::Phase;
pub use tilewright_ir::DType;
pub use tilewright_runtime::device::{DevicePtr, DeviceSpec, Stream};
pub use tilewright_runtime::exec::{Alias, Array, Binding, RunResult};
pub use toolchain::Toolchain;
