//! What: a compiled phase as one persistent kernel.
//! Why here: tasks come from tile programs and steps, residency from the device; they meet here.
//! Pre: a phase that is compiled for [`Mode::Megakernel`](crate::spec::Mode).
//! Post: tables for the device that the kernel runs on; the same device gives the same tables.

use tilewright_codegen::Target;
use tilewright_frontend::hf::{PAST, symbol_values};
use tilewright_ir::Buffer;
use tilewright_ir::artifact::{KernelSource, Persistent, Repeat};
use tilewright_ir::step::BufferKind;
use tilewright_megakernel::check::loads;
use tilewright_megakernel::{
    Bodies, Certificate, Costs, MegaError, Options, Schedule, TaskGraph, Unfed, Violation, check, narrow,
    schedule, source, spread, tables,
};

use crate::compiler::CompiledPhase;
use crate::sample::IDS;
use crate::{Error, Module, Planned};

/// Tasks of one launch per SM, at most. More even out the work, and cost a record each.
const TASKS_PER_SM: u32 = 4;

/// Phases that become a persistent kernel. The number of tasks is fixed when it is made, so phases whose grids grow with
/// the text stay separate launches.
pub fn fits(phase: &str) -> bool {
    phase != "prefill"
}

/// A phase, cut into tasks and put into queues.
#[derive(Debug)]
pub struct Scheduled {
    /// Tasks and events.
    pub graph: TaskGraph,
    /// Tasks as code has them, and their pages.
    pub bodies: Bodies,
    /// Queues.
    pub schedule: Schedule,
    /// The tables of the kernel.
    pub tables: Persistent,
    /// What tasks load themselves though nothing writes it.
    pub unfed: Vec<Unfed>,
}

/// A phase with tasks as a persistent kernel has them: temporaries that share no memory, and blocks whose copies are on their
/// way before a task begins.
pub fn narrowed(mut planned: Planned, target: Target) -> Result<Planned, Error> {
    let c = &mut planned.compiled;
    (c.step, c.programs) = narrow(&spread(&c.step), &c.programs, target)?;
    Ok(planned)
}

/// The text of the kernel.
pub(crate) fn kernel_source(
    planned: &Planned,
    repeat: Option<&Repeat>,
    target: Target,
) -> Result<KernelSource, MegaError> {
    let c = &planned.compiled;
    let bodies = Bodies::new(&c.step, &c.programs, target)?;
    source(&c.step, &c.programs, &bodies, &c.step.symbols, repeat)
}

/// How a step that chooses tokens goes on with them.
pub(crate) fn repeat(planned: &Planned, next: Buffer) -> Result<Repeat, Error> {
    let step = &planned.compiled.step;
    let ids = step.buffers.iter().find(|(_, d)| d.name == IDS).map(|(b, _)| b);
    let ids =
        ids.ok_or_else(|| Error::input("only a language model goes on with the tokens that it chooses"))?;
    let sequences = step.buffers[next].dims.iter().map(|d| d.as_const().unwrap_or(1)).product::<u64>();
    // What is another value with one more token in the state goes on.
    let (now, then) = (symbol_values(&planned.graph, 1, 1), symbol_values(&planned.graph, 2, 1));
    let symbols = now.iter().zip(&then).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect();
    let positions = step.buffers.iter().find(|(_, d)| d.name == PAST && d.kind == BufferKind::Input);
    let positions = positions.map(|(b, _)| b);
    Ok(Repeat { next, ids, sequences: u32::try_from(sequences).unwrap_or(u32::MAX), positions, symbols })
}

/// Tasks, queues and tables for a device with so many SMs, on which tasks cost this much, of a phase that [`narrowed`] gave.
/// Needs no device and no NVRTC.
pub fn plan(
    planned: &Planned,
    repeat: Option<&Repeat>,
    sms: u32,
    costs: &Costs,
    target: Target,
) -> Result<Scheduled, Error> {
    let c = &planned.compiled;
    let bodies = Bodies::new(&c.step, &c.programs, target)?;
    let options = Options { sms, tasks_per_sm: TASKS_PER_SM, repeat: repeat.is_some() };
    let graph = TaskGraph::build(&c.step, &c.programs, options)?;
    let schedule = schedule(&c.step, &graph, sms, costs)?;
    let tables = tables(&c.step, &graph, &bodies, &schedule, repeat);
    let unfed = bodies.unfed(&c.step, &graph.kinds);
    Ok(Scheduled { graph, bodies, schedule, tables, unfed })
}

/// The same for the device of a module: one block for each SM that this process sees.
pub fn scheduled(module: &Module, phase: &str) -> Result<Scheduled, Error> {
    let p = module.phase(phase).filter(|p| p.persistent);
    let p =
        p.ok_or_else(|| Error::input(format!("phase `{phase}` is not compiled as a persistent kernel")))?;
    scheduled_for(module, p)
}

/// The same for a phase that the module does not have yet.
pub(crate) fn scheduled_for(module: &Module, p: &CompiledPhase) -> Result<Scheduled, Error> {
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
    plan(&p.planned, p.repeat.as_ref(), residency.sms, module.task_costs(), Target::parse(module.target())?)
}

/// Checks the tables and the code of a phase of a module.
pub fn certify(module: &Module, phase: &str) -> Result<Result<(Scheduled, Certificate), Violation>, Error> {
    let scheduled = scheduled(module, phase)?;
    // It was found a line ago.
    let p = module.phase(phase).ok_or_else(|| Error::Bug("a phase that went away".into()))?;
    let c = &p.planned.compiled;
    let certificate = match check(&c.step, &c.programs, &scheduled.bodies, &scheduled.tables)? {
        Ok(certificate) => certificate,
        Err(violation) => return Ok(Err(violation)),
    };
    let ptx = p.kernels.first().map_or("", |k| k.ptx.as_str());
    Ok(loads(&c.step, &c.programs, p.repeat.as_ref(), ptx)
        .map(|count| (scheduled, Certificate { loads: Some(count), ..certificate })))
}
