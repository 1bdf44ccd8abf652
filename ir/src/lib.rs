//! The four levels of Tilewright's IR and everything that knows only about them.
//!
//! * [`graph`]: equations in index notation; what frontends produce.
//! * [`plan`]: the extracted algebra, partitioned into kernels.
//! * [`tile`]: block programs over register and shared-memory tiles.
//! * [`step`]: buffers and launches.
//!
//! Every level has a text form that parses back to the identical module, a verifier, and entity references
//! whose `Display` is their syntax. Expressions ([`expr`]) are shared by graph, plan and tile; which leaves are
//! allowed where is a verifier invariant.
//!
//! **Architecture invariant:** this crate depends on no other crate of the workspace and does no I/O.

pub mod artifact;
pub mod chain;
pub mod diag;
pub mod dtype;
pub mod entities;
pub mod eval;
pub mod expr;
pub mod extent;
pub mod graph;
pub mod packing;
pub mod plan;
pub mod random;
pub mod splitmix;
pub mod step;
pub mod text;
pub mod tile;
pub mod verify;
pub mod written;

pub use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap};
pub use dtype::DType;
pub use entities::{Axis, Buffer, Func, Global, Local, Param, Sym, Tile, Value};
pub use expr::{Binary, Ex, Expr, Reduction, Unary};
pub use extent::{AxisData, Extent, SymData};
pub use packing::Packing;
