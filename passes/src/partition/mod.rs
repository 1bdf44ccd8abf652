//! From one extracted term to kernels.
//!
//! * [`group`]: factors of a summed product that belong together become one subterm, a place where the term can be cut;
//! * [`cuts`]: which subterms are stored, by the cost of recomputing them where they are used;
//! * [`cost`]: what a whole plan costs, for the choice between several;
//! * [`canon`]: subterms that are equal up to the names of axes are one tensor;
//! * [`association`]: in which order terms are added;
//! * [`build`]: kernels with locals and stores;
//! * [`mod@link`]: kernels that run one after the other in the same blocks;
//! * [`mod@join`]: kernels that share a launch.
//!
//! Pre: an extracted term. Post: a plan whose kernels are in dependency order; each reduction is computed in the kernel
//! that needs it or read from the kernel that stores it.

pub mod association;
pub mod build;
pub mod canon;
pub mod cost;
pub mod cuts;
pub mod group;
pub mod join;
pub mod link;

pub use join::join;
pub use link::link;

/// What a plan is chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// The least estimated time: launches, memory, arithmetic, processors that stay idle.
    #[default]
    Latency,
    /// The fewest bytes from and to global memory, each operand of a kernel counted once; among plans of about as many, the
    /// least arithmetic: a thousandth of the bytes is worth half of it. Among equals, the fewest launches.
    Traffic,
}

impl Objective {
    /// The name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Objective::Latency => "latency",
            Objective::Traffic => "traffic",
        }
    }
}

/// The machine that costs are estimated for. The root package may inject measured figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Seconds from one dependent kernel to the next.
    pub launch: f64,
    /// Bytes per second from global memory, all multiprocessors together.
    pub bandwidth: f64,
    /// Operations per second, all multiprocessors together.
    pub flops: f64,
    /// Operations per second in contractions, all multiprocessors together.
    pub tensor_flops: f64,
    /// Seconds from one pass over data to the next in a kernel, however little data there is.
    pub pass: f64,
    /// Multiprocessors.
    pub processors: f64,
    /// Positions of a grid axis that one block covers, for estimates.
    pub block: f64,
    /// The longest axis that one block may hold resident.
    pub resident: f64,
}

impl Default for CostModel {
    fn default() -> Self {
        // Orders of magnitude of a data-centre GPU of 2022; only ratios matter here.
        CostModel {
            launch: 2.0e-6,
            bandwidth: 3.0e12,
            flops: 6.0e13,
            tensor_flops: 4.0e14,
            pass: 1.0e-6,
            processors: 132.0,
            block: 32.0,
            resident: 256.0,
        }
    }
}
