//! Tests of what the Rust API makes of models and equations.

#![allow(clippy::print_stdout)]

mod api;
mod auto;
#[path = "../common/mod.rs"]
mod common;
mod digits;
mod graph;
mod largest;
mod prologue;
mod ranges;
mod relative;
mod sampling;
mod traffic;
