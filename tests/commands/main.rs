//! Tests of the command line, by running it.

#![allow(clippy::print_stdout)]

mod bench;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod emulate;
mod profile;
mod seeing;
mod selftest;
