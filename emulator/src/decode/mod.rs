//! What: the syntax tree of an entry to dense code.
//! Why here: every name, width, label and address is settled once, so the machine never looks anything up.
//! Pre: a parsed module and the addresses of its variables.
//! Post: a `Kernel`; anything unknown is a `PtxError` that names line and instruction.

mod arith;
mod build;
mod call;
mod cvt;
mod cvt_packed;
mod float;
mod halves;
mod indirect;
mod logic;
mod mbar;
mod mem;
mod mma;
mod mods;
mod mov;
mod names;
mod operand;
mod setp;
mod unsupported;
mod video;
mod warp;
mod wmma;

pub(crate) use build::{Symbol, VReg, decode_entry};
