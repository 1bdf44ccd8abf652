//! What comes from outside, as graphs.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod config;
mod equations;
mod goldens;
mod weights;
