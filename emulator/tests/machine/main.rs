//! What a machine counts, orders, finds and refuses.

#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod counters;
mod hostile;
mod litmus;
mod mbarrier;
mod sanitize;
mod time;
mod twins;
