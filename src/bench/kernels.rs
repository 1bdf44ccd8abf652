//! What: one case of equations: compiled, compared with float64, and timed or counted.
//! Why here: the same for every family, so that no family can have a method of its own.
//! Pre: a case with all its numbers.
//! Post: a row. A result that is wrong is a failure, and its time is not reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tilewright_ir::graph::Module as Graph;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::{DType, Extent};
use tilewright_runtime::device::{Clock, Device};
use tilewright_runtime::exec::{Array, RunResult};

use super::counts::Counts;
use super::record::{Chosen, Compile, Fraction, Kernels, Row, Status, Suite};
use super::suite::KernelCase;
use super::{Context, inputs, timing};
use crate::check::{Check, check_outputs, worst};
use crate::spec::Mode;
use crate::{CompiledPhase, Compiler, Error};

/// The row of a case in a mode, with nothing in it yet.
pub(super) fn row(case: &KernelCase, mode: &str) -> Row {
    Row::new(Suite::Kernels, &case.family, &case.name, case.size.clone(), mode)
}

/// Runs a case in a mode.
pub(super) fn run(context: &Context<'_>, case: &KernelCase, mode: &str) -> Row {
    let row = row(case, mode);
    match measure(context, case, mode, row.clone()) {
        Ok(row) => row,
        Err(error) => row.with_error(&error),
    }
}

fn measure(context: &Context<'_>, case: &KernelCase, mode: &str, mut row: Row) -> Result<Row, Error> {
    let mode = Mode::parse(mode)?;
    let settings = context.settings;
    let start = Instant::now();
    let module = context.compiler(Compiler::equations(&case.equations)).mode(mode).compile()?;
    let [phase] = module.phases() else { return Err(Error::Bug("equations of several phases".into())) };
    only(mode, phase)?;
    row.chosen = Chosen::of(&module, mode, &phase.planned.name);
    row.compile = Some(compile_of(&[phase], start.elapsed().as_secs_f64()));
    row.kernels = Some(kernels_of(phase));
    row.flops = Some(case.flops);

    let step = &phase.planned.compiled.step;
    let arrays = make_inputs(case, step, settings.seed)?;
    row.floor_bytes = Some(case.bytes.unwrap_or_else(|| constant_bytes(step)));
    let given: Vec<(&str, &Array)> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();

    let result = match module.device().clock() {
        None => {
            let result = module.run(&given)?;
            row.counts = Counts::of_run(step, &result.launches);
            result
        }
        Some(clock) => {
            let (result, time) = timing::kernels(context, clock, &module, &given)?;
            row.fraction =
                time.map(|t| Fraction::of(&t, row.floor_bytes.unwrap_or(0), case.flops, &context.ceilings));
            row.time = time;
            result
        }
    };
    let checks = compare(case, &phase.planned.graph, &given, &result)?;
    row.error = checks.iter().map(|c| c.error).reduce(f64::max);
    row.error_of = part_of(case);
    if let Some(bad) = worst(&checks) {
        row.status = Status::Failed;
        row.reason = Some(format!(
            "`{}` differs from float64 by {:.2e}, and {:.0e} is allowed",
            bad.name, bad.error, bad.allowed
        ));
        (row.time, row.fraction, row.counts) = (None, None, None);
        // JSON knows no infinity.
        row.error = row.error.filter(|e| e.is_finite());
    }
    Ok(row)
}

/// The vendor's library on the same inputs, where it can do the case and is there.
pub(super) fn vendor(context: &Context<'_>, case: &KernelCase) -> Option<Row> {
    let shape = case.product?;
    let opened = context.settings.device.open().ok()?;
    let clock = opened.device.clock()?;
    let mut row = Row { implementation: "cublas".into(), ..row(case, "") };
    row.flops = Some(case.flops);
    match vendor_measure(context, clock, &opened.device, case, shape, &mut row) {
        Ok(()) => Some(row),
        Err(error) => Some(row.with_error(&error)),
    }
}

fn vendor_measure(
    context: &Context<'_>,
    clock: &dyn Clock,
    device: &Arc<dyn Device>,
    case: &KernelCase,
    shape: [u32; 3],
    row: &mut Row,
) -> Result<(), Error> {
    let library = clock.vendor_matmul()?;
    let [m, n, k] = shape.map(u64::from);
    let arrays = [("X", [m, k]), ("W", [n, k])].map(|(name, dims)| {
        let seed = inputs::seed_of(context.settings.seed, &case.name, name);
        (name, inputs::normal(DType::Bf16, &dims, seed))
    });
    let bytes = 2 * (m * k + n * k + m * n);
    row.floor_bytes = Some(bytes);
    let (output, time) = timing::product(context, clock, device, library.as_ref(), shape, &arrays)?;
    let output = Array { dtype: DType::Bf16, dims: vec![m, n], data: output };
    let given: Vec<(&str, &Array)> = arrays.iter().map(|(n, a)| (*n, a)).collect();
    let result = RunResult { outputs: vec![("Y".to_owned(), output)], ..RunResult::default() };
    let graphs = Compiler::equations(&case.equations).graphs()?;
    let checks = compare(case, &graphs.phases[0].1, &given, &result)?;
    row.error = checks.iter().map(|c| c.error).reduce(f64::max).filter(|e| e.is_finite());
    row.error_of = part_of(case);
    if let Some(bad) = worst(&checks) {
        return Err(Error::Check(format!("`{}` differs from float64 by {:.2e}", bad.name, bad.error)));
    }
    row.fraction = time.map(|t| Fraction::of(&t, bytes, case.flops, &context.ceilings));
    row.time = time;
    Ok(())
}

/// What of a case is compared with float64, where that is not all of it.
fn part_of(case: &KernelCase) -> Option<String> {
    case.sample.is_some().then(|| "the last rows and columns".to_owned())
}

/// That a phase is what a mode says: a persistent kernel takes some phases only.
pub(super) fn only(mode: Mode, phase: &CompiledPhase) -> Result<(), Error> {
    if mode == Mode::Megakernel && !phase.persistent {
        return Err(Error::Unsupported {
            message: format!("`{}` has no persistent kernel: it runs as launches", phase.planned.name),
            help: None,
        });
    }
    Ok(())
}

/// What a compilation took.
pub(super) fn compile_of(phases: &[&CompiledPhase], total_s: f64) -> Compile {
    let mut all = Compile { total_s, ..Compile::default() };
    for p in phases {
        all.passes_s += p.planned.elapsed.as_secs_f64();
        all.emit_s += p.emitting.as_secs_f64();
        all.nvrtc_s += p.compiling.as_secs_f64();
        all.compiled += p.tally.compiled as u64;
        all.cached += p.tally.cached as u64;
    }
    all
}

/// The kernels of a phase.
pub(super) fn kernels_of(phase: &CompiledPhase) -> Kernels {
    let most = |of: fn(&tilewright_ir::artifact::Resources) -> u32| {
        phase.kernels.iter().map(|k| u64::from(of(&k.resources))).max().unwrap_or(0)
    };
    Kernels {
        kernels: phase.kernels.len() as u64,
        launches: if phase.persistent { 1 } else { phase.planned.compiled.step.groups().len() as u64 },
        launches_per_layer: None,
        registers: most(|r| r.registers),
        spill_bytes: most(|r| r.spill_bytes),
    }
}

/// The extents of a buffer, which equations of a benchmark give as numbers.
fn dims(buffer: &tilewright_ir::step::BufferData) -> Result<Vec<u64>, Error> {
    buffer
        .dims
        .iter()
        .map(|d| match d {
            Extent::Const(n) => Ok(*n),
            Extent::Sym(_) => Err(Error::Bug(format!("`{}` has an extent without a number", buffer.name))),
        })
        .collect()
}

fn make_inputs(case: &KernelCase, step: &Step, seed: u32) -> Result<Vec<(String, Array)>, Error> {
    let mut arrays = Vec::new();
    for buffer in step.buffers.values().filter(|b| b.kind == BufferKind::Input) {
        let dims = dims(buffer)?;
        let seed = inputs::seed_of(seed, &case.name, &buffer.name);
        let array = match (buffer.dtype.is_float(), case.integers.get(&buffer.name)) {
            (true, _) => inputs::normal(buffer.dtype, &dims, seed),
            (false, Some(&(below, distinct))) if buffer.dtype == DType::I32 => {
                inputs::integers(&dims, below, distinct, seed)
            }
            (false, _) => {
                return Err(Error::Bug(format!("nothing says what the integers of `{}` are", buffer.name)));
            }
        };
        arrays.push((buffer.name.clone(), array));
    }
    Ok(arrays)
}

/// The bytes of all inputs and outputs.
fn constant_bytes(step: &Step) -> u64 {
    let outside = step.buffers.values().filter(|b| matches!(b.kind, BufferKind::Input | BufferKind::Output));
    outside
        .map(|b| {
            let count: u64 = b.dims.iter().map(|d| d.as_const().unwrap_or(1)).product();
            count * b.dtype.bytes() as u64
        })
        .sum()
}

/// Compares a result with float64, as a whole or its last part.
fn compare(
    case: &KernelCase,
    whole: &Graph,
    given: &[(&str, &Array)],
    result: &RunResult,
) -> Result<Vec<Check>, Error> {
    let Some(sample) = &case.sample else {
        return check_outputs(whole, &[], given, result);
    };
    let graphs = Compiler::equations(sample).graphs()?;
    let (_, graph) = &graphs.phases[0];
    let extents: BTreeMap<&str, Vec<u64>> = graph
        .globals
        .values()
        .map(|g| (g.name.as_str(), g.dims.iter().map(|d| d.as_const().unwrap_or(1)).collect()))
        .collect();
    let part = |name: &str, array: &Array| {
        let dims = extents.get(name).filter(|d| d.len() == array.dims.len());
        dims.map(|d| inputs::last_part(array, d))
            .ok_or_else(|| Error::Bug(format!("the sampled equations have no `{name}`")))
    };
    let parts =
        given.iter().map(|(n, a)| Ok((*n, part(n, a)?))).collect::<Result<Vec<(&str, Array)>, Error>>()?;
    let outputs = result
        .outputs
        .iter()
        .map(|(n, a)| Ok((n.clone(), part(n, a)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let given: Vec<(&str, &Array)> = parts.iter().map(|(n, a)| (*n, a)).collect();
    check_outputs(graph, &[], &given, &RunResult { outputs, ..RunResult::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::{Extent as Much, Suites};

    #[test]
    fn a_part_agrees_with_the_whole() {
        let suites = Suites::load().unwrap();
        for family in ["attention causal", "linear"] {
            let all = suites.kernels(Much::Small).unwrap();
            let case = all.into_iter().find(|c| c.family == family).unwrap();
            // The part of a small case, as the table has it for large ones.
            let mut sampled = case.clone();
            sampled.sample = Some(match family {
                "linear" => case.equations.replace("n=512", "n=7"),
                _ => case.equations.replace("i=128", "i=3").replace("i + 0", "i + 125"),
            });
            assert_ne!(sampled.sample.as_ref(), Some(&case.equations));
            tilewright_runtime::testing::nvrtc();
            let module = Compiler::equations(&case.equations)
                .toolchain(tilewright_runtime::testing::toolchain())
                .device("emulator".parse().unwrap())
                .compile()
                .unwrap();
            let step = &module.phases()[0].planned.compiled.step;
            let arrays = make_inputs(&case, step, 1).unwrap();
            let given: Vec<(&str, &Array)> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
            let mut result = module.run(&given).unwrap();
            assert!(
                worst(&compare(&case, &module.phases()[0].planned.graph, &given, &result).unwrap()).is_none()
            );
            assert!(
                worst(&compare(&sampled, &module.phases()[0].planned.graph, &given, &result).unwrap())
                    .is_none()
            );
            // A wrong last element is in the part.
            let (_, output) = &mut result.outputs[0];
            let last = output.data.len() - 1;
            output.data[last] ^= 0x40;
            assert!(
                worst(&compare(&sampled, &module.phases()[0].planned.graph, &given, &result).unwrap())
                    .is_some(),
                "{family}"
            );
        }
    }
}
