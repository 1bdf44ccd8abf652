//! Tests of persistent kernels with other tables or other code than the scheduler and the emission make.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod megakernel_leaving;
mod megakernel_mutants;
mod megakernel_page_mutants;
