//! What the checker accepts, and what it does not.

#![allow(clippy::print_stdout)]

mod forward;
mod soundness;
mod world;
mod wrong;
