//! What: a compiled phase as one persistent kernel.
//! Why here: tasks come from tile programs and steps, residency from the device; they meet here.
//! Pre: a phase that is compiled for [`Mode::Megakernel`](crate::spec::Mode).
//! Post: tables for the device that the kernel runs on; the same device gives the same tables.

use tilewright_codegen::Target;
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_frontend::hf::symbol_values;
use tilewright_ir::DType;
use tilewright_ir::artifact::{KernelSource, Persistent, Repeat};
use tilewright_megakernel::check::loads;
use tilewright_megakernel::{
    Bodies, Certificate, Costs, MegaError, Options, Schedule, TaskGraph, Violation, check, join, schedule,
    source, tables,
};
use tilewright_passes::{Options as PassOptions, compile_module};

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

/// Where a model expects the tokens of a step, and where it leaves its logits.
const IDS: &str = "ids";
const LOGITS: &str = "logits";
/// The region of what chooses tokens, and its result.
const SAMPLE: &str = "sample";
const NEXT: &str = "next";

/// The best logit of each part of a row, and where it is.
const BEST: &str = "best";
const PLACE: &str = "place";
/// Positions of a part. A row that is not longer than some parts is not cut.
const PART: u64 = 128;
const WHOLE: u64 = 4 * PART;

/// Equations, with their results, that choose the position of the largest of `v` logits, the lowest of equals; `v` where
/// none is a number. A long row is cut into parts that many blocks look at, and a second text compares those: as two
/// steps, because as one the search would rather look at everything in one place.
fn choice(dtype: DType, b: u64, v: u64) -> Vec<(String, &'static [&'static str])> {
    if v <= WHOLE {
        let text = format!("{LOGITS}: {dtype}[b={b}, i=1, v={v}]; {NEXT}[b,i] = argmax[v]({LOGITS}[b,i,v])");
        return vec![(text, &[NEXT])];
    }
    let parts = v.div_ceil(PART);
    let at = format!("o * {PART} + k");
    let within = format!(
        "{LOGITS}: {dtype}[b={b}, i=1, v={v}]; axis o={parts}, k={PART}
         {BEST}: {dtype}[b,i,o] = max[k](where({at} < {v}, {LOGITS}[b,i,{at}], -inf))
         {PLACE}: i32[b,i,o] = min[k](where({at} < {v} and {LOGITS}[b,i,{at}] == {BEST}[b,i,o], {at}, {v}))"
    );
    let between = format!(
        "{BEST}: {dtype}[b={b}, i=1, o={parts}]; {PLACE}: i32[b,i,o]; most[b,i] = max[o]({BEST}[b,i,o])
         {NEXT}: i32[b,i] = min[o](where({BEST}[b,i,o] == most[b,i], {PLACE}[b,i,o], {v}))"
    );
    vec![(within, &[BEST, PLACE]), (between, &[NEXT])]
}

/// A decode step that also chooses the most likely tokens, and how it goes on with them. The choice is made from equations
/// like everything else; of equals the lowest wins.
pub(crate) fn repeated(mut planned: Planned, passes: &PassOptions) -> Result<(Planned, Repeat), Error> {
    let step = &planned.compiled.step;
    let find = |name: &str| step.buffers.iter().find(|(_, d)| d.name == name);
    let (Some((_, logits)), Some((ids, _))) = (find(LOGITS), find(IDS)) else {
        return Err(Error::input("only a language model chooses tokens"));
    };
    let dims: Option<Vec<u64>> = logits.dims.iter().map(|d| d.as_const()).collect();
    let Some([b, 1, v]) = dims.as_deref() else {
        return Err(Error::Bug("the logits of a decode step are not those of one token each".into()));
    };
    let mut joined = step.clone();
    let mut programs = Vec::new();
    for (nth, (text, results)) in choice(logits.dtype, *b, *v).into_iter().enumerate() {
        let results: Vec<String> = results.iter().map(|&r| r.to_owned()).collect();
        let parsed = parse_equations(&text, &Given::default(), &results)
            .map_err(|d| Error::text("the choice of tokens", &text, d))?;
        let mut part = compile_module(&parsed, passes)?;
        let own = parsed.functions.values().next().map_or("", |f| f.name.as_str());
        let rename = |name: &str| match name.strip_prefix(own) {
            Some(rest) => format!("{SAMPLE}{nth}{rest}"),
            None => format!("{SAMPLE}.{name}"),
        };
        for program in &mut part.programs {
            program.name = rename(&program.name);
        }
        let partial = [BEST, PLACE].map(|name| (name, format!("{SAMPLE}.{name}")));
        let mut wires = vec![(LOGITS, LOGITS)];
        wires.extend(partial.iter().map(|(name, full)| (*name, full.as_str())));
        joined = join(&joined, &part.step, &wires, &rename)?;
        programs.extend(part.programs);
    }
    let wanted = format!("{SAMPLE}.{NEXT}");
    let next = joined.buffers.iter().find(|(_, d)| d.name == wanted).map(|(b, _)| b);
    let next = next.ok_or_else(|| Error::Bug("the chosen tokens went away".into()))?;
    // What is another value with one more token in the state goes on.
    let (now, then) = (symbol_values(&planned.graph, 1, 1), symbol_values(&planned.graph, 2, 1));
    let symbols = now.iter().zip(&then).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect();
    let sequences = u32::try_from(*b).unwrap_or(u32::MAX);
    planned.compiled.step = joined;
    planned.compiled.programs.extend(programs);
    Ok((planned, Repeat { next, ids, sequences, symbols }))
}

/// Tasks, queues and tables for a device with so many SMs, on which tasks cost this much. Needs no device and no NVRTC.
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
    Ok(Scheduled { graph, bodies, schedule, tables })
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
