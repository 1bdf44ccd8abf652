//! What is counted of kernels and plans.
//!
//! Why here: who shows or compares figures needs to know what they mean, not how they are counted.

use tilewright_ir::Value;

/// A tensor that a kernel touches.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Its name in the plan.
    pub name: String,
    /// The storage: an updated state is where the state is.
    pub storage: Value,
    /// Distinct bytes that are touched.
    pub bytes: u64,
}

/// A kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelCount {
    /// Its name.
    pub name: String,
    /// The launch that it is part of, from 1.
    pub launch: u32,
    /// What it reads, in order of first occurrence. What an earlier kernel of the same launch reads counts there.
    pub reads: Vec<Operand>,
    /// What it writes.
    pub writes: Vec<Operand>,
    /// How often it goes over each axis that it reduces over or that it goes over more than once.
    pub passes: Vec<(String, u32)>,
    /// Whether it runs once, when weights are loaded. Then it is in no launch and no phase, and nothing that it moves is
    /// counted for the plan.
    pub prologue: bool,
    /// The dependent phase in which it runs, from 1.
    pub phase: u32,
    /// Products of contractions, with what several blocks compute again.
    pub contracted: f64,
    /// Other arithmetic, with what several blocks compute again.
    pub operations: f64,
    /// Terms of sums, with what several blocks compute again: a term is a multiplication and an addition.
    pub multiply_adds: f64,
    /// Bytes that blocks ask the memory system for: an operand once for each block that needs it.
    pub asked: f64,
    /// Blocks that can run at once.
    pub blocks: f64,
    /// Passes that wait for one another within a block.
    pub chain: f64,
    /// Packed weights that it contracts in one block of rows, and how often: more than once where others compute the same.
    pub contracts: Vec<(Value, f64)>,
}

impl KernelCount {
    /// Bytes read from global memory.
    pub fn read_bytes(&self) -> u64 {
        self.reads.iter().map(|o| o.bytes).sum()
    }

    /// Bytes written to global memory.
    pub fn written_bytes(&self) -> u64 {
        self.writes.iter().map(|o| o.bytes).sum()
    }
}

/// What a tensor costs beyond what is unavoidable.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    /// The tensor.
    pub name: String,
    /// Bytes above the floor.
    pub bytes: u64,
    /// The kernels that write it.
    pub writers: Vec<String>,
    /// The kernels that read it.
    pub readers: Vec<String>,
}

/// What passes from kernel to kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Boundary {
    /// The tensor that is stored and read back.
    pub name: String,
    /// The kernel that writes it.
    pub from: String,
    /// The kernels that read it.
    pub to: Vec<String>,
    /// Bytes that are written and read for it.
    pub bytes: u64,
    /// Why the kernels are not one.
    pub reason: String,
}

/// A packed weight that is read more than once.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// Its name in the plan.
    pub name: String,
    /// The weight.
    pub weight: Value,
    /// Bytes that are read of it over those that are touched.
    pub times: f64,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanCount {
    /// Kernels, in order.
    pub kernels: Vec<KernelCount>,
    /// The longest chain of kernels that wait for one another.
    pub phases: u32,
    /// Bytes from and to global memory.
    pub bytes: u64,
    /// What cannot be avoided: parameters that are read and results that are written, once.
    pub floor: u64,
    /// What is above the floor, by tensor, most first.
    pub excess: Vec<Excess>,
    /// What passes from kernel to kernel.
    pub boundaries: Vec<Boundary>,
    /// Packed weights that are read more than once in a run, because what they are contracted to is computed by several
    /// blocks or kernels. Those that blocks of rows share are not among them.
    pub again: Vec<Again>,
}

impl PlanCount {
    /// The kernels of each launch of a run, in order.
    pub fn launches(&self) -> impl Iterator<Item = &[KernelCount]> {
        // Those of the prologue come first.
        let first = self.kernels.iter().position(|k| !k.prologue).unwrap_or(self.kernels.len());
        self.kernels[first..].chunk_by(|a, b| a.launch == b.launch)
    }

    /// Terms of the sums of a run.
    pub fn multiply_adds(&self) -> f64 {
        self.kernels.iter().filter(|k| !k.prologue).map(|k| k.multiply_adds).sum()
    }

    /// The multiply-adds of this plan over those of one that computes each reduction of the source once, if it has any.
    pub fn over_source(&self, source: &PlanCount) -> Option<f64> {
        let once = source.multiply_adds();
        (once > 0.0).then(|| self.multiply_adds() / once)
    }

    /// Bytes over the floor.
    pub fn over_floor(&self) -> f64 {
        if self.bytes == self.floor {
            return 1.0;
        }
        self.bytes as f64 / self.floor.max(1) as f64
    }
}
