//! What: what runs give back.
//! Why here: arrays and records outlive the run that made them, and know nothing of devices.
//! Pre: none.
//! Post: elements are little-endian and row-major.

use tilewright_emulator::Counters;
use tilewright_ir::DType;

use crate::values::{decode, encode};

/// An array on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Its element type.
    pub dtype: DType,
    /// Its extents.
    pub dims: Vec<u64>,
    /// Its elements, little-endian and row-major.
    pub data: Vec<u8>,
}

impl Array {
    /// An array of these numbers, rounded to the type; `None` when their number is not that of the extents.
    pub fn new(dtype: DType, dims: &[u64], values: &[f64]) -> Option<Array> {
        let count = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
        let data = encode(dtype, values.iter().copied());
        (count == values.len() as u64).then(|| Array { dtype, dims: dims.to_vec(), data })
    }

    /// The elements as numbers.
    pub fn values(&self) -> Vec<f64> {
        decode(self.dtype, &self.data)
    }
}

/// What one launch did.
#[derive(Clone, Debug)]
pub struct LaunchRecord {
    /// The index of the launch in the step.
    pub index: usize,
    /// The kernel.
    pub kernel: String,
    /// The part of the program it belongs to.
    pub region: String,
    /// Its blocks.
    pub blocks: u32,
    /// What the emulator counted.
    pub counters: Option<Counters>,
}

/// What a run returns.
#[derive(Clone, Debug, Default)]
pub struct RunResult {
    /// The outputs with their names, in the order of the step.
    pub outputs: Vec<(String, Array)>,
    /// The launches; those with an empty grid are left out.
    pub launches: Vec<LaunchRecord>,
    /// The tokens of each step, where the kernel chose them.
    pub tokens: Vec<i32>,
}

impl RunResult {
    /// An output by its name.
    pub fn output(&self, name: &str) -> Option<&Array> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, array)| array)
    }
}
