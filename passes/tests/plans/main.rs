//! Plans and tile programs: what they mean, move and choose.

#![allow(clippy::print_stdout)]

mod choice;
#[path = "../../../frontend/tests/common/mod.rs"]
mod common;
mod constants;
mod contract;
mod deep;
mod empty;
#[path = "../common/families.rs"]
mod families;
mod field;
mod meaning;
mod merge;
mod models;
mod pack;
mod random;
mod ranges;
mod stability;
#[path = "../common/steps.rs"]
mod steps;
mod traffic;
