//! What: whole steps against float64: the logits of one step on a state of random numbers.
//! Why here: a time or a count of a step that computes something else is worth nothing.
//! Pre: a phase of a model that is compiled.
//! Post: the norm of the difference over that of the reference. Steps that are too large to be evaluated are compared as a
//! part: one layer of the same width, fewer tokens, and the row says so.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;
use tilewright_frontend::hf::{Phase, symbol_values};
use tilewright_ir::eval::{Evaluator, F64, Tensor, bind_symbols};
use tilewright_ir::step::BufferKind;
use tilewright_runtime::exec::RunResult;
use tilewright_runtime::values::decode;

use super::inputs;
use super::steps::Given;
use super::suite::StepCase;
use crate::check::relative_error;
use crate::generate::tolerance;
use crate::{Error, Module};

/// Steps of no more operations than this are compared as they are.
const WHOLE: u64 = 1 << 28;

/// What is left of a larger one: the vocabulary, sequences, tokens in the state, tokens of the step.
const VOCABULARY: u64 = 512;
const BATCH: u64 = 2;
const CONTEXT: u64 = 64;
const NEW: u64 = 4;

/// The exact results of steps, which are the same in every mode.
#[derive(Default)]
pub(super) struct References(RefCell<HashMap<String, Rc<Vec<f64>>>>);

/// What of a step of so many operations is compared, and what that is, where it is not all of it.
pub(super) fn part(case: &StepCase, flops: u64) -> (StepCase, Option<String>) {
    if flops <= WHOLE {
        return (case.clone(), None);
    }
    let mut small = case.clone();
    for (key, value) in [("num_hidden_layers", 1), ("vocab_size", VOCABULARY)] {
        small.replaced.insert(key.to_owned(), Value::from(value));
    }
    small.batch = case.batch.min(BATCH);
    small.context = case.context.min(CONTEXT);
    small.new = case.new.min(NEW);
    let (batch, new, context) = (small.batch, small.new, small.context);
    let what = format!(
        "one layer, {VOCABULARY} tokens of the vocabulary, a batch of {batch}, {new} new after {context}"
    );
    // By what it is, not by what it is a part of.
    small.name = format!("{} {} {what}", case.model, case.kind.name());
    (small, Some(what))
}

/// Fills the states of a phase with random numbers; the same for every module of equal states.
pub(super) fn fill(module: &Module, phase: Phase, seed: u32) -> Result<(), Error> {
    let executable = module.executable(phase.name())?;
    for (name, array) in states(executable.step(), seed) {
        module.session().write_state(&name, &array.data)?;
    }
    Ok(())
}

/// Random numbers for the states of a step.
fn states(step: &tilewright_ir::step::Step, seed: u32) -> Vec<(String, tilewright_runtime::exec::Array)> {
    let states = step.buffers.values().filter(|b| matches!(b.kind, BufferKind::State));
    states
        .map(|b| {
            // States have room for the longest context: their extents are numbers.
            let dims: Vec<u64> = b.dims.iter().map(|d| d.as_const().unwrap_or(1)).collect();
            let seed = inputs::seed_of(seed, "state", &b.name);
            (b.name.clone(), inputs::normal(b.dtype, &dims, seed))
        })
        .collect()
}

impl References {
    /// The error of the logits of one step on the states of [`fill`] and these tokens.
    pub(super) fn error(
        &self,
        module: &Module,
        phase: Phase,
        case: &StepCase,
        seed: u32,
        given: &Given,
        result: &RunResult,
    ) -> Result<f64, Error> {
        let found =
            result.output("logits").ok_or_else(|| Error::Bug("a model without logits".into()))?.values();
        let known = self.0.borrow().get(&case.name).cloned();
        let expected = match known {
            Some(expected) => expected,
            None => {
                let expected = Rc::new(exact(module, phase, case, seed, given)?);
                self.0.borrow_mut().insert(case.name.clone(), Rc::clone(&expected));
                expected
            }
        };
        Ok(relative_error(&found, &expected))
    }
}

/// The logits of a step, in float64.
fn exact(
    module: &Module,
    phase: Phase,
    case: &StepCase,
    seed: u32,
    given: &Given,
) -> Result<Vec<f64>, Error> {
    let missing = || Error::Bug(format!("the {} phase was not compiled", phase.name()));
    let planned = &module.phase(phase.name()).ok_or_else(missing)?.planned;
    let graph = &planned.graph;
    let weights = module.weights();
    let mut evaluator = Evaluator::new(F64, graph, |name| {
        let (dtype, _) = weights.info(name).ok_or_else(|| "it is missing".to_owned())?;
        let bytes = weights.bytes(name).map_err(|e| e.to_string())?;
        Ok(decode(dtype, (*bytes).as_ref()))
    });
    for (name, array) in states(&planned.compiled.step, seed) {
        let dims: Vec<usize> = array.dims.iter().map(|&d| d as usize).collect();
        evaluator.set_state(&name, Tensor::new(&dims, array.values())?)?;
    }
    let values = symbol_values(graph, case.context, case.new);
    let symbols: Vec<(&str, u64)> =
        values.iter().map(|&(s, v)| (graph.symbols[s].name.as_str(), v)).collect();
    let bound = bind_symbols(&graph.symbols, &symbols)?;
    let tensor = |name: &str, bytes: &[u8]| {
        let mut dims = vec![case.batch as usize];
        dims.extend((name == "ids").then_some(case.new as usize));
        Tensor::new(&dims, decode(tilewright_ir::DType::I32, bytes))
    };
    let inputs = given.iter().map(|(name, bytes)| Ok((*name, tensor(name, bytes)?)));
    let outputs = evaluator.run(&bound, &inputs.collect::<Result<Vec<_>, Error>>()?)?;
    let at = graph.outputs.iter().position(|&g| graph.globals[g].name == "logits");
    let logits = at.and_then(|at| outputs.into_iter().nth(at));
    logits.map(|t| t.data).ok_or_else(|| Error::Bug("a model without logits".into()))
}

/// That an error is no larger than the activations excuse.
pub(super) fn judged(error: f64) -> Result<(), Error> {
    let allowed = tolerance(tilewright_ir::DType::Bf16);
    if error <= allowed {
        return Ok(());
    }
    Err(Error::Check(format!("logits differ from float64 by {error:.2e}, and {allowed:.0e} is allowed")))
}
