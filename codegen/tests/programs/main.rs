//! Tile programs as kernels.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod errors;
mod functions;
mod kernels;
mod random;
mod snapshots;
mod stream;
mod traffic;
mod vectors;
