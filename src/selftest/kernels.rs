//! What: each kernel of a step against the evaluator of tile programs, on the very inputs that it had.
//! Why here: an error in one kernel must not be blamed on another, nor hidden by one that follows.
//! Pre: a prepared step and the programs of its kernels.
//! Post: for each kernel the largest error of all its launches and outputs.

use tilewright_ir::eval::{F64, Tensor, bind_symbols, eval_tile};
use tilewright_runtime::exec::{Array, ExecError, Executable, Moment, RunResult};

use crate::check::{Check, allowed, relative_error};
use crate::{DType, Error, Planned};

/// Runs a step once and compares each launch. `narrow` is the narrowest type that values may be kept in on the way.
pub(crate) fn run(
    executable: &Executable,
    planned: &Planned,
    symbols: &[(&str, i64)],
    inputs: &[(&str, &[u8])],
    narrow: DType,
) -> Result<(RunResult, Vec<Check>), Error> {
    let step = executable.step();
    let values: Vec<(&str, u64)> =
        symbols.iter().map(|(n, v)| (*n, u64::try_from(*v).unwrap_or(u64::MAX))).collect();
    let bound = bind_symbols(&step.symbols, &values)?;
    let mut checks: Vec<Check> = Vec::new();
    // Of each entry of the launch.
    let mut expected: Vec<Vec<Tensor<f64>>> = Vec::new();
    // The observer may only return errors of the execution; others wait here.
    let mut failure: Option<Error> = None;
    let result = executable.run_observed(symbols, inputs, &mut |moment| {
        if failure.is_some() {
            return Ok(());
        }
        if !moment.done {
            expected.clear();
        }
        for (n, launch) in step.launches[moment.entries.clone()].iter().enumerate() {
            if !moment.done {
                let program = planned.compiled.programs.iter().find(|p| p.name == launch.kernel);
                let Some(program) = program else {
                    failure = Some(Error::Bug(format!("kernel `{}` has no program", launch.kernel)));
                    return Ok(());
                };
                let arguments = arguments(moment, launch)?;
                match arguments.and_then(|a| eval_tile(&F64, program, &bound, a)) {
                    Ok(tensors) => expected.push(tensors),
                    Err(e) => {
                        failure = Some(e.into());
                        return Ok(());
                    }
                }
                continue;
            }
            for ((&buffer, &written), reference) in launch.args.iter().zip(&launch.writes).zip(&expected[n]) {
                if written {
                    let found = moment.read(buffer)?;
                    let dtype = found.dtype;
                    let reference: Vec<f64> = reference.data.iter().map(|&x| dtype.round(x)).collect();
                    let error = relative_error(&found.values(), &reference);
                    let allowed = allowed(dtype, if dtype.is_float() { narrow } else { dtype });
                    add(&mut checks, Check { name: launch.kernel.clone(), error, allowed });
                }
            }
        }
        Ok(())
    })?;
    match failure {
        None => Ok((result, checks)),
        Some(error) => Err(error),
    }
}

/// The arguments of a launch as tensors.
#[allow(clippy::type_complexity)] // two kinds of failure, kept apart
fn arguments(
    moment: &Moment<'_>,
    launch: &tilewright_ir::step::Launch,
) -> Result<Result<Vec<Tensor<f64>>, tilewright_ir::eval::EvalError>, ExecError> {
    let arrays = launch.args.iter().map(|&b| moment.read(b)).collect::<Result<Vec<Array>, _>>()?;
    let tensor = |a: &Array| {
        let dims: Vec<usize> = a.dims.iter().map(|&d| d as usize).collect();
        Tensor::new(&dims, a.values())
    };
    Ok(arrays.iter().map(tensor).collect())
}

/// Keeps the worst of each kernel.
fn add(checks: &mut Vec<Check>, new: Check) {
    match checks.iter_mut().find(|c| c.name == new.name) {
        None => checks.push(new),
        Some(old) => {
            let worse = new.error.is_nan()
                || new.error / new.allowed.max(1e-300) > old.error / old.allowed.max(1e-300);
            if worse {
                *old = new;
            }
        }
    }
}
