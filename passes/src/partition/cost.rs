//! What a plan costs: one model for every candidate.
//!
//! A launch takes its own time and the longer of moving its bytes and computing, on as many processors as it has blocks for,
//! but no less than the passes of a kernel, which wait for one another. Launches run one after the other. Estimates: only their order matters.

use super::{CostModel, Objective};
use crate::report::{KernelCount, PlanCount};

/// How much faster than global memory the cache is.
pub(crate) const CACHE: f64 = 3.0;

/// What estimated times must differ by before one is taken for less: a fifth.
pub(crate) const CLEARLY: f64 = 0.8;

/// What twice the arithmetic counts as where bytes are counted, in parts of the bytes: a plan that moves next to nothing more
/// and can be run is better than one that moves the least and cannot.
const DOUBLING: f64 = 1.0 / 1024.0;

/// How many times its share of the bandwidth one multiprocessor can draw.
pub(crate) const DRAW: f64 = 4.0;

/// The cost of a plan by each measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Estimated seconds.
    pub seconds: f64,
    /// Bytes from and to global memory.
    pub bytes: u64,
    /// Terms of sums, more of them where a kernel has fewer blocks than there are processors: as many as if none was idle.
    pub multiply_adds: f64,
    /// Launches.
    pub launches: usize,
}

impl Cost {
    /// The cost of a plan that was counted.
    pub fn of(plan: &PlanCount, model: &CostModel) -> Cost {
        Cost {
            seconds: plan.launches().map(|kernels| seconds(kernels, model)).sum(),
            bytes: plan.bytes,
            multiply_adds: plan
                .launches()
                .flatten()
                .map(|k| k.multiply_adds / (k.blocks / model.processors).min(1.0))
                .filter(|n| n.is_finite())
                .sum(),
            launches: plan.launches().count(),
        }
    }

    /// Bytes, and a part of them for each doubling of the arithmetic. Sums that differ by less than a doubling count the same.
    fn weighed(&self) -> f64 {
        self.bytes as f64 * (1.0 + DOUBLING * self.multiply_adds.max(1.0).log2().floor())
    }

    /// Whether this is less than the other by more than estimates are worth. Bytes are counted, not estimated.
    pub fn clearly_less(&self, other: &Cost, objective: Objective) -> bool {
        match objective {
            Objective::Latency => self.seconds < other.seconds * CLEARLY,
            Objective::Traffic => {
                let order = self.weighed().total_cmp(&other.weighed());
                order.then(self.launches.cmp(&other.launches)).is_lt()
            }
        }
    }
}

/// Estimated seconds of the kernels of one launch: those of all their work on all their blocks, and no less than the one
/// with the fewest blocks for its work takes.
pub fn seconds(kernels: &[KernelCount], model: &CostModel) -> f64 {
    let slowest = kernels.iter().map(|k| busy(std::slice::from_ref(k), model)).fold(0.0, f64::max);
    model.launch + busy(kernels, model).max(slowest)
}

/// Seconds of work that is spread over the blocks of all these kernels.
fn busy(kernels: &[KernelCount], model: &CostModel) -> f64 {
    let all = |f: fn(&KernelCount) -> f64| kernels.iter().map(f).sum::<f64>();
    let bytes = all(|k| (k.read_bytes() + k.written_bytes()) as f64);
    // Blocks that read the same again read it from the cache.
    let cached = all(|k| (k.asked - k.read_bytes() as f64).max(0.0)) / CACHE;
    let blocks = all(|k| k.blocks);
    let share = |of: f64| (of * blocks / model.processors).min(1.0);
    let arithmetic =
        (all(|k| k.operations) / model.flops + all(|k| k.contracted) / model.tensor_flops) / share(1.0);
    let memory = (bytes + cached) / model.bandwidth / share(DRAW);
    let chain = kernels.iter().map(|k| k.chain).fold(0.0, f64::max);
    memory.max(arithmetic).max(chain * model.pass)
}
