//! The step level: buffers and launches, what a device executes.
//!
//! Buffers live in one arena except weights and states; temporaries whose lifetimes do not overlap share storage.
//! Kernels take their buffers in order and then a pointer to the parameter block: one i32 per symbol of the module.

use std::ops::Range;

use cranelift_entity::PrimaryMap;
use serde::{Deserialize, Serialize};

use crate::graph::Table;
use crate::plan::groups;
use crate::{Buffer, DType, Extent, Packing, Sym, SymData};

/// A step: everything that runs for one call of a compiled module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Symbols, in the order of the parameter block.
    pub symbols: PrimaryMap<Sym, SymData>,
    /// Buffers.
    pub buffers: PrimaryMap<Buffer, BufferData>,
    /// Launches, in order.
    pub launches: Vec<Launch>,
    /// Bytes of the arena.
    pub arena_bytes: u64,
}

/// A buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferData {
    /// Its name, unique in the step.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its extents.
    pub dims: Vec<Extent>,
    /// What backs it.
    pub kind: BufferKind,
    /// The order of its elements in memory; `None` is row-major. Only weights are packed.
    pub packing: Option<Packing>,
}

/// What backs a buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum BufferKind {
    /// Given by the caller for each run.
    Input,
    /// Read by the caller after each run.
    Output,
    /// The named tensor of the weights.
    Weight(String),
    /// A computed constant.
    Table(Table),
    /// Kept between runs.
    State,
    /// In the arena at a byte offset, sized for the symbols' maxima.
    Arena(u64),
}

/// One kernel launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: String,
    /// Which part of the program it belongs to, e.g. `layer.3`.
    pub region: String,
    /// Its buffers, in the order of the kernel's parameters.
    pub args: Vec<Buffer>,
    /// Which of `args` are written.
    pub writes: Vec<bool>,
    /// Grid axes: extent and block, last fastest. The grid is the product of the ceilings.
    pub grid: Vec<GridAxis>,
    /// Whether it is part of one launch of the device with the entry before it. Their blocks run side by side, those of
    /// earlier entries first; neither depends on the other.
    pub beside: bool,
}

impl Step {
    /// The entries of each launch of the device, by their numbers, in order.
    pub fn groups(&self) -> Vec<Range<usize>> {
        groups(self.launches.iter().map(|l| l.beside))
    }

    /// The kernel of a group of entries: an entry's own, or one that holds those of all of them.
    pub fn kernel_of(&self, group: Range<usize>) -> String {
        let names: Vec<&str> = self.launches[group].iter().map(|l| l.kernel.as_str()).collect();
        names.join(TOGETHER)
    }
}

/// What stands between the names of kernels in the name of one that holds them all. No kernel's own name has it.
pub const TOGETHER: &str = "__";

/// A grid axis of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridAxis {
    /// The extent of the axis.
    pub extent: Extent,
    /// Positions per block.
    pub block: u32,
}
