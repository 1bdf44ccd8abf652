//! The levels of the IR: text, verifiers and meaning.

mod chain;
#[path = "../common/mod.rs"]
mod common;
mod dumps;
mod eval_domains;
mod eval_graph;
mod eval_plan;
mod text;
