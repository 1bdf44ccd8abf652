//! What: instruction families in hand-written PTX against host oracles, over random and edge operands.
//! Why here: NVRTC emits only part of the ISA for any one source; inline PTX may use all of it.
//! Pre: none.
//! Post: bit-exact, but for approximate functions, which keep to the ISA's bounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::precedence, missing_docs)]

mod bits;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod control;
mod convert;
mod exact;
mod float;
mod halves;
mod harness;
mod integer;
mod matrices;
mod memory;
mod mma;
mod moves;
mod narrow;
mod warp;
