//! Tile programs to CUDA C++.
//!
//! What: [`assign_layouts`] decides where the elements of every tile live and inserts the conversions that operations
//! need; [`emit`] does that and writes the kernel's source. The crate also knows the compiler's options and reads its
//! log, because both belong to the text that it writes.
//! Why here: nothing above this crate knows lanes, warps or banks, and nothing below it knows tiles.
//! Pre: a valid tile program; the base address of each buffer is a multiple of 16 bytes; values of symbols are within
//! their ranges.
//! Post: header-free source of one kernel, or one typed error that names the tile and the remedy. Equal programs give
//! equal text.
//!
//! **Architecture invariant:** operations are treated one by one. Nothing here looks for a shape of a whole program.

mod access;
mod bits;
mod emit;
mod error;
mod feed;
mod layout;
mod log;
mod narrow;
mod rows;
mod stream;
mod target;

pub use emit::{BodyOptions, BodySource, KernelSource, PagePlan, TaskBody, emit, emit_together, prelude};
pub use error::CodegenError;
pub use layout::assign_layouts;
pub use log::{Resources, nvrtc_options, read_log};
pub use narrow::halve;
pub use stream::{Streamed, stream_loads, streamed};
pub use target::Target;

/// The most shared memory that a kernel may use besides its rings, and with them where [`Target::program_limit`] is no more: what
/// every target from sm_80 on grants to one block.
pub const SHARED_LIMIT: u32 = 99 * 1024;

/// The most 32-bit registers that one tile may take per thread.
pub const REGISTER_TILE_LIMIT: u32 = 255;
