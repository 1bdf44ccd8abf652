//! What: a compiled phase as one persistent kernel.
//! Why here: tasks come from tile programs and steps, residency from the device; they meet here.
//! Pre: a phase that is compiled for [`Mode::Megakernel`](crate::spec::Mode).
//! Post: tables for the device that the kernel runs on; the same device gives the same tables.

use tilewright_ir::artifact::{KernelSource, Persistent};
use tilewright_megakernel::check::loads;
use tilewright_megakernel::{
    Certificate, MegaError, Options, Schedule, TaskGraph, Violation, check, schedule, source, tables,
};

use crate::{Error, Module, Planned};

/// Tasks of one launch per SM, at most. More even out the work, and cost a record each.
const TASKS_PER_SM: u32 = 4;

/// Phases that become a persistent kernel. The number of tasks is fixed when it is made, so phases whose grids grow with
/// the text stay separate launches.
pub fn fits(phase: &str) -> bool {
    phase != "prefill"
}

/// A phase, cut into tasks and put into queues.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// Tasks and events.
    pub graph: TaskGraph,
    /// Queues.
    pub schedule: Schedule,
    /// The tables of the kernel.
    pub tables: Persistent,
}

/// The text of the kernel.
pub(crate) fn kernel_source(planned: &Planned) -> Result<KernelSource, MegaError> {
    let c = &planned.compiled;
    source(&c.step, &c.programs, &c.step.symbols)
}

/// Tasks, queues and tables for a device with so many SMs. Needs no device and no NVRTC.
pub fn plan(planned: &Planned, sms: u32) -> Result<Scheduled, Error> {
    let c = &planned.compiled;
    let graph = TaskGraph::build(&c.step, &c.programs, Options { sms, tasks_per_sm: TASKS_PER_SM })?;
    let schedule = schedule(&c.step, &graph, sms)?;
    let tables = tables(&c.step, &graph, &schedule);
    Ok(Scheduled { graph, schedule, tables })
}

/// The same for the device of a module: one block for each SM that this process sees.
pub fn scheduled(module: &Module, phase: &str) -> Result<Scheduled, Error> {
    let p = module.phase(phase).filter(|p| p.persistent);
    let p =
        p.ok_or_else(|| Error::input(format!("phase `{phase}` is not compiled as a persistent kernel")))?;
    let kernel = p.kernels.first().ok_or_else(|| Error::Bug("a phase without its kernel".into()))?;
    let residency = module.session().residency(kernel)?;
    if residency.blocks_per_sm == 0 {
        return Err(Error::Unsupported {
            message: format!(
                "the persistent kernel needs {} bytes of shared memory and {} registers for each of {} threads, which an \
                 SM of this device does not have",
                kernel.shared_bytes, kernel.resources.registers, kernel.threads
            ),
            help: Some("use `--mode launch`".into()),
        });
    }
    plan(&p.planned, residency.sms)
}

/// Checks the tables and the code of a phase of a module.
pub fn certify(module: &Module, phase: &str) -> Result<Result<(Scheduled, Certificate), Violation>, Error> {
    let scheduled = scheduled(module, phase)?;
    // It was found a line ago.
    let p = module.phase(phase).ok_or_else(|| Error::Bug("a phase that went away".into()))?;
    let c = &p.planned.compiled;
    let certificate = match check(&c.step, &c.programs, &scheduled.tables)? {
        Ok(certificate) => certificate,
        Err(violation) => return Ok(Err(violation)),
    };
    let ptx = p.kernels.first().map_or("", |k| k.ptx.as_str());
    Ok(loads(&c.step, &c.programs, ptx)
        .map(|count| (scheduled, Certificate { loads: Some(count), ..certificate })))
}
