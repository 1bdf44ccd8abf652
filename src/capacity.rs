//! What: plans whose kernels fit the machine.
//! Why here: how much of a multiprocessor a kernel takes is known when its tiles have layouts, which the passes do not
//! give; where a candidate has a kernel that is too large, the search's next best is taken.
//! Pre: a verified graph. Post: every kernel of the plans fits, or the error tells what the best plan would have needed.

use tilewright_codegen::{CodegenError, Target, emit};
use tilewright_ir::graph;
use tilewright_passes::{Compiled, Options, Refused, compile_module};

use crate::Error;

/// Compiles a graph to plans that fit the target. A candidate that is asked for by name is taken as it is.
pub(crate) fn compile_fitting(
    graph: &graph::Module,
    options: &Options,
    target: Target,
) -> Result<Compiled, Error> {
    let mut options = options.clone();
    let mut first: Option<CodegenError> = None;
    loop {
        let compiled = match compile_module(graph, &options) {
            Ok(compiled) => compiled,
            // No other candidate is left, if some were too large.
            Err(e) => return Err(first.map_or_else(|| e.into(), Error::from)),
        };
        let too_large = if options.candidate.is_none() { too_large(&compiled, target) } else { Vec::new() };
        if too_large.is_empty() {
            return Ok(compiled);
        }
        for (refused, error) in too_large {
            options.refused.push(refused);
            first.get_or_insert(error);
        }
    }
}

/// The candidates that were taken and have a kernel that does not fit.
fn too_large(compiled: &Compiled, target: Target) -> Vec<(Refused, CodegenError)> {
    let mut out: Vec<(Refused, CodegenError)> = Vec::new();
    for ((_, plan), (function, choice)) in compiled.plans.iter().zip(&compiled.choices) {
        let of_plan = |name: &str| plan.kernels.iter().any(|k| k.name == name);
        let found = compiled
            .programs
            .iter()
            .filter(|p| of_plan(&p.name))
            .find_map(|p| emit(p, &compiled.step.symbols, target).err().filter(is_capacity));
        if let (Some(error), Some(taken)) = (found, choice.candidates.get(choice.chosen)) {
            let candidate = taken.names.first().copied().unwrap_or_default().to_owned();
            let refused = Refused { function: function.clone(), candidate, why: error.to_string() };
            out.push((refused, error));
        }
    }
    out
}

fn is_capacity(error: &CodegenError) -> bool {
    matches!(error, CodegenError::SharedMemory { .. } | CodegenError::RegisterTile { .. })
}
