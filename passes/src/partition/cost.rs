//! What a plan costs: one model for every candidate.
//!
//! A kernel takes a launch and the longer of moving its bytes and computing, on as many processors as it has blocks for,
//! but no less than its passes, which wait for one another. Kernels run one after the other. Estimates: only their order matters.

use super::{CostModel, Objective};
use crate::report::{KernelCount, PlanCount};

/// How much faster than global memory the cache is.
pub(crate) const CACHE: f64 = 3.0;

/// What estimated times must differ by before one is taken for less: a fifth.
const CLEARLY: f64 = 0.8;

/// How many times its share of the bandwidth one multiprocessor can draw.
const DRAW: f64 = 4.0;

/// The cost of a plan by each measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Estimated seconds.
    pub seconds: f64,
    /// Bytes from and to global memory.
    pub bytes: u64,
    /// Kernels.
    pub launches: usize,
}

impl Cost {
    /// The cost of a plan that was counted.
    pub fn of(plan: &PlanCount, model: &CostModel) -> Cost {
        Cost {
            seconds: plan.kernels.iter().map(|k| seconds(k, model)).sum(),
            bytes: plan.bytes,
            launches: plan.kernels.len(),
        }
    }

    /// Whether this is less than the other by more than estimates are worth. Bytes are counted, not estimated.
    pub fn clearly_less(&self, other: &Cost, objective: Objective) -> bool {
        match objective {
            Objective::Latency => self.seconds < other.seconds * CLEARLY,
            Objective::Traffic => (self.bytes, self.launches) < (other.bytes, other.launches),
        }
    }
}

/// Estimated seconds of a kernel.
pub fn seconds(k: &KernelCount, model: &CostModel) -> f64 {
    let bytes = (k.read_bytes() + k.written_bytes()) as f64;
    // Blocks that read the same again read it from the cache.
    let cached = (k.asked - k.read_bytes() as f64).max(0.0) / CACHE;
    let busy = |share: f64| (share * k.blocks / model.processors).min(1.0);
    let arithmetic = (k.operations / model.flops + k.contracted / model.tensor_flops) / busy(1.0);
    let memory = (bytes + cached) / model.bandwidth / busy(DRAW);
    let busy = memory.max(arithmetic);
    model.launch + busy.max(k.chain * model.pass)
}
