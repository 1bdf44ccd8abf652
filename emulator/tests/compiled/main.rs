//! Kernels that a compiler made.

#![allow(clippy::print_stdout)]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod host;
mod ints;
mod kernels;
mod libm;
#[path = "../common/npy.rs"]
mod npy;
mod tensor;
mod triton;
mod wmma;
