//! From a kernel plan to a tile program.
//!
//! * [`blocks`]: how many positions of each axis a tile spans, and whether the axis is in the grid, streamed by a loop, or
//!   resident;
//! * [`mod@merge`]: summed axes that always stand together become one, for the lowering alone;
//! * [`rows`]: how many rows a block has that runs several kernels;
//! * [`runs`]: streamed axes cut into runs where there are too few blocks to fill the machine;
//! * [`mod@inline`]: runs that are merged where what they amount to is read;
//! * [`mod@lower`]: the program. Correctness does not depend on the blocks: any power of two for any axis gives the same
//!   numbers, up to the order of summation.
//! * [`mod@chain`]: kernels that run one after the other in a block become one program;
//! * `support`: which positions of an axis a pass is about;
//! * [`contract`]: when a summed product is a contraction of two tiles;
//! * [`typing`]: element types and axes of tile expressions.
//!
//! The lowering matches tile operations only: reductions, products, reads. It knows no kernel by its shape.

pub mod blocks;
pub mod chain;
pub mod contract;
pub mod inline;
pub mod lower;
pub mod merge;
pub mod rows;
pub mod runs;
pub(crate) mod support;
pub mod typing;

pub use blocks::Blocks;
pub use chain::chain;
pub use inline::inline;
pub use lower::lower;
pub use merge::merge;
