//! What: feeding tokens to a compiled model: scoring a text, generating one.
//! Why here: the loop over tokens is the same for every model, device and caller.
//! Pre: a module compiled from a model, with a batch of 1.
//! Post: row `t` of the logits is what the model says after token `t`. Ids and lengths are checked before anything runs.

use std::time::{Duration, Instant};

use tilewright_frontend::hf::{Phase, symbol_values};
use tilewright_ir::eval::{Evaluator, F64, Tensor, bind_symbols};
use tilewright_runtime::device::DeviceKind;
use tilewright_runtime::exec::{Executable, RunResult, TensorSource};
use tilewright_runtime::values::decode;

use crate::check::relative_error;
use crate::compiler::named;
use crate::report::{Traffic, launches_per_layer};
use crate::sample::{Sampling, next_name};
use crate::{DType, Error, ModelInfo, Module};

/// A conversation with a model: tokens go in, logits come out, the state remembers.
pub struct Conversation<'m> {
    module: &'m Module,
    info: &'m ModelInfo,
    past: u64,
    /// What the runs did.
    pub traffic: Traffic,
}

impl<'m> Conversation<'m> {
    /// Starts with an empty state. Two conversations on one module disturb each other: the state is the module's.
    pub fn new(module: &'m Module) -> Result<Conversation<'m>, Error> {
        let info =
            module.model().ok_or_else(|| Error::input("this is no language model: it takes no tokens"))?;
        if info.batch != 1 {
            return Err(Error::Unsupported {
                message: format!(
                    "a model compiled for a batch of {} cannot take a single sequence",
                    info.batch
                ),
                help: Some("compile with a batch of 1".into()),
            });
        }
        module.session().reset_states()?;
        Ok(Conversation { module, info, past: 0, traffic: Traffic::default() })
    }

    /// How many tokens are in the state.
    pub fn past(&self) -> u64 {
        self.past
    }

    /// Feeds tokens in one of the phases; returns one row of logits per token, row-major, or one per run where the module
    /// has no others ([`Compiler::last_logits`](crate::Compiler::last_logits)).
    pub fn feed(&mut self, ids: &[u64], phase: Phase) -> Result<Vec<f32>, Error> {
        check_ids(ids, self.info.vocab)?;
        check_room(self.info, self.past + ids.len() as u64)?;
        let mut logits = Vec::new();
        match phase {
            Phase::Decode => {
                for &id in ids {
                    logits.extend(self.step(&[id], phase)?);
                }
            }
            Phase::Prefill => logits = self.step(ids, phase)?,
        }
        Ok(logits)
    }

    fn step(&mut self, ids: &[u64], phase: Phase) -> Result<Vec<f32>, Error> {
        let mode = self.module.mode(phase.name()).exec();
        self.feed_with(ids, phase, |executable, symbols, inputs| {
            Ok(executable.run_for(mode, symbols, inputs, &["logits"])?)
        })
    }

    /// Feeds tokens in one run, which the caller makes, and takes the logits.
    pub(crate) fn feed_with(
        &mut self,
        ids: &[u64],
        phase: Phase,
        run: impl FnOnce(&Executable, &[(&str, i64)], &[(&str, &[u8])]) -> Result<RunResult, Error>,
    ) -> Result<Vec<f32>, Error> {
        let result = self.run_with(ids, phase, None, run)?;
        let logits = result.output("logits").ok_or_else(|| Error::Bug("a model without logits".into()))?;
        let row: Vec<f32> = match logits.dtype {
            DType::F32 => logits.data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            _ => logits.values().into_iter().map(|x| x as f32).collect(),
        };
        if let Some(at) = row.iter().position(|x| x.is_nan()) {
            return Err(not_a_number(&format!("logit {at}"), self.past));
        }
        Ok(row)
    }

    /// Feeds tokens in one run, which the caller makes.
    fn run_with(
        &mut self,
        ids: &[u64],
        phase: Phase,
        sampling: Option<&Sampling>,
        run: impl FnOnce(&Executable, &[(&str, i64)], &[(&str, &[u8])]) -> Result<RunResult, Error>,
    ) -> Result<RunResult, Error> {
        let new = ids.len() as u64;
        let executable = self.module.executable(phase.name())?;
        let graph = &self.phase(phase)?.graph;
        let symbols = named(graph, &symbol_values(graph, self.past, new));
        let symbols: Vec<(&str, i64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        // Ids were checked against the vocabulary, which has fewer than 2^31 entries.
        let data: Vec<u8> = ids.iter().flat_map(|&id| (id as i32).to_le_bytes()).collect();
        let chance = sampling.map(Sampling::inputs).unwrap_or_default();
        let mut inputs: Vec<(&str, &[u8])> = vec![("ids", &data)];
        inputs.extend(chance.iter().map(|(n, bytes)| (n.as_str(), bytes.as_slice())));
        let result = run(&executable, &symbols, &inputs)?;
        self.traffic.add_run(executable.step(), &result.launches);
        self.past += new;
        Ok(result)
    }

    /// Feeds a token and lets the device choose what follows.
    fn choose(&mut self, id: u64, sampling: Option<&Sampling>) -> Result<u64, Error> {
        let mode = self.module.mode(Phase::Decode.name()).exec();
        let name = next_name();
        let result = self.run_with(&[id], Phase::Decode, sampling, |executable, symbols, inputs| {
            Ok(executable.run_for(mode, symbols, inputs, &[&name])?)
        })?;
        let next = result.output(&name).and_then(|a| a.values().first().copied());
        let next = next.ok_or_else(|| Error::Bug("a choice without a result".into()))?;
        // An integer that is not negative.
        let next = next as u64;
        check_ids(&[next], self.info.vocab).map_err(|_| not_a_number("a logit", self.past))?;
        Ok(next)
    }

    /// Feeds a token and lets the device choose what follows, up to `count` tokens in one launch or until one of `stops`.
    pub fn go_on(
        &mut self,
        id: u64,
        count: u64,
        stops: &[u64],
        sampling: Option<&Sampling>,
    ) -> Result<Vec<u64>, Error> {
        check_ids(&[id], self.info.vocab)?;
        check_room(self.info, self.past.saturating_add(count))?;
        // Ids were checked against the vocabulary, which has fewer than 2^31 entries; so were counts against the context.
        let stops: Vec<i32> = stops.iter().map(|&s| s as i32).collect();
        let result = self.run_with(&[id], Phase::Decode, sampling, |executable, symbols, inputs| {
            Ok(executable.run_repeated(symbols, inputs, count as u32, &stops)?)
        })?;
        let chosen: Vec<u64> = result.tokens.iter().map(|&t| u64::from(t.unsigned_abs())).collect();
        self.past += (chosen.len() as u64).saturating_sub(1);
        check_ids(&chosen, self.info.vocab).map_err(|_| not_a_number("a logit", self.past))?;
        Ok(chosen)
    }

    fn phase(&self, phase: Phase) -> Result<&'m crate::Planned, Error> {
        self.module
            .phase(phase.name())
            .map(|p| &p.planned)
            .ok_or_else(|| Error::input(format!("the {} phase was not compiled", phase.name())))
    }
}

/// A logit that says nothing.
fn not_a_number(what: &str, past: u64) -> Error {
    Error::Input {
        message: format!("{what} after token {past} is not a number"),
        help: Some(
            "look for weights that are infinite, not numbers, or too large for the type of the activations"
                .into(),
        ),
    }
}

/// That there are tokens, all in the vocabulary.
pub fn check_ids(ids: &[u64], vocab: u64) -> Result<(), Error> {
    if ids.is_empty() {
        return Err(Error::input("no token ids were given: at least one is needed"));
    }
    match ids.iter().position(|&id| id >= vocab) {
        Some(at) => Err(Error::input(format!(
            "token id {} at position {at} is outside the vocabulary of {vocab} (0 to {})",
            ids[at],
            vocab.saturating_sub(1)
        ))),
        None => Ok(()),
    }
}

/// That so many tokens fit the context.
pub fn check_room(info: &ModelInfo, tokens: u64) -> Result<(), Error> {
    if tokens <= info.max_context {
        return Ok(());
    }
    Err(Error::Input {
        message: format!(
            "{tokens} tokens do not fit the context of {} that the model is compiled for",
            info.max_context
        ),
        help: Some("use a larger `--max-context`, if the model has one, or fewer tokens".into()),
    })
}

/// The score of a text.
#[derive(Clone, Debug)]
pub struct Score {
    /// Mean negative log-likelihood of each token after the first, in nats; nothing for a single token.
    pub cross_entropy: Option<f64>,
    /// Its exponential.
    pub perplexity: Option<f64>,
    /// Logits, [tokens, vocabulary].
    pub logits: Vec<f32>,
    /// Kernels that were launched at least once.
    pub kernels: usize,
    /// The most launches that one layer takes.
    pub launches_per_layer: u64,
    /// What the runs did.
    pub traffic: Traffic,
}

/// Scores a text, token by token or all at once.
pub fn score(module: &Module, ids: &[u64], phase: Phase) -> Result<Score, Error> {
    let mut conversation = Conversation::new(module)?;
    let logits = conversation.feed(ids, phase)?;
    let vocab = usize::try_from(conversation.info.vocab).unwrap_or(usize::MAX);
    if logits.len() / vocab.max(1) != ids.len() {
        return Err(Error::input("a module with the logits after the last token only cannot score a text"));
    }
    let losses: Vec<f64> = logits
        .chunks(vocab.max(1))
        .zip(&ids[1..])
        // Ids were checked against the vocabulary.
        .map(|(row, &next)| -log_softmax(row, next as usize))
        .collect();
    let cross_entropy = (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
    let planned = conversation.phase(phase)?;
    Ok(Score {
        cross_entropy,
        perplexity: cross_entropy.map(f64::exp),
        kernels: planned.compiled.programs.len(),
        launches_per_layer: launches_per_layer(planned),
        logits,
        traffic: conversation.traffic,
    })
}

/// The logarithm of the probability of an entry of a row of logits.
fn log_softmax(row: &[f32], entry: usize) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    f64::from(row[entry]) - max - sum.ln()
}

/// The most likely token; of equals the lowest.
pub fn argmax(row: &[f32]) -> u64 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = i;
        }
    }
    best as u64
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The prompt.
    pub prompt: &'a [u64],
    /// How many tokens to generate.
    pub tokens: u64,
    /// Whether to go on after an end-of-sequence token.
    pub ignore_eos: bool,
    /// Whether to compare the logits of each step with the evaluator's.
    pub check: bool,
    /// By which chance tokens are chosen; else it is always the most likely. The module must be compiled for it.
    pub sampling: Option<Sampling>,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The new tokens.
    pub tokens: Vec<u64>,
    /// The time to the first new token; nothing on the emulator, whose time means nothing.
    pub first: Option<Duration>,
    /// The mean time of each further token.
    pub each: Option<Duration>,
    /// The largest relative error of the logits of a step, when that was asked for.
    pub error: Option<f64>,
    /// What the runs did.
    pub traffic: Traffic,
}

/// Generates tokens. Where the module chooses them on the device, only ids come to the host.
pub fn generate(
    module: &Module,
    request: &Request<'_>,
    mut each: impl FnMut(u64),
) -> Result<Generated, Error> {
    let mut conversation = Conversation::new(module)?;
    check_ids(request.prompt, conversation.info.vocab)?;
    // The last token that is generated is not fed back.
    check_room(
        conversation.info,
        (request.prompt.len() as u64).saturating_add(request.tokens.saturating_sub(1)),
    )?;
    let sampling = request.sampling.as_ref();
    let choice = module.phase(Phase::Decode.name()).and_then(|p| p.choice);
    if let Some(s) = sampling {
        s.check()?;
        if choice != Some(s.choice()) || request.check {
            return Err(Error::Usage(
                "tokens are chosen by chance on the device only: compile the decode phase for it, and without a check \
                 of the logits"
                    .into(),
            ));
        }
    }
    let vocab = usize::try_from(conversation.info.vocab).unwrap_or(usize::MAX).max(1);
    let mut reference = if request.check { Some(Reference::new(module)?) } else { None };

    let mut tokens = Vec::new();
    let mut times = Vec::new();
    let mut error: Option<f64> = None;
    let mut input = request.prompt.to_vec();
    while (tokens.len() as u64) < request.tokens {
        let start = Instant::now();
        if let (Some(n), Some(&last), false) = (module.tokens_per_launch(), tokens.last(), request.check) {
            let wanted = u64::from(n).min(request.tokens - tokens.len() as u64);
            let stops: &[u64] = if request.ignore_eos { &[] } else { &conversation.info.eos };
            let chosen = conversation.go_on(last, wanted, stops, sampling)?;
            let each_time = start.elapsed() / chosen.len().max(1) as u32;
            for &next in &chosen {
                times.push(each_time);
                tokens.push(next);
                each(next);
            }
            if (chosen.len() as u64) < wanted || chosen.last().is_none_or(|t| stops.contains(t)) {
                break;
            }
            continue;
        }
        // Only the decode phase chooses by chance, so it gets the last token of the prompt.
        let on_device = choice.is_some() && !request.check && (input.len() == 1 || sampling.is_some());
        let (before, last) = if on_device { input.split_at(input.len() - 1) } else { (&input[..], &[][..]) };
        let mut next = None;
        if !before.is_empty() {
            let several = before.len() > 1 && module.phase(Phase::Prefill.name()).is_some();
            let phase = if several { Phase::Prefill } else { Phase::Decode };
            let logits = conversation.feed(before, phase)?;
            let row = &logits[logits.len() - vocab.min(logits.len())..];
            if let Some(reference) = &mut reference {
                let expected = reference.feed(before)?;
                let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                error = Some(error.unwrap_or(0.0).max(relative_error(&row, &expected)));
            }
            next = Some(argmax(row));
        }
        if let &[id] = last {
            next = Some(conversation.choose(id, sampling)?);
        }
        let Some(next) = next else { break };
        times.push(start.elapsed());
        tokens.push(next);
        each(next);
        if !request.ignore_eos && conversation.info.eos.contains(&next) {
            break;
        }
        input = vec![next];
    }
    let timed = module.device().kind() != DeviceKind::Emulator;
    let further = times.get(1..).filter(|t| !t.is_empty());
    Ok(Generated {
        tokens,
        first: times.first().copied().filter(|_| timed),
        each: further.filter(|_| timed).map(|t| t.iter().sum::<Duration>() / t.len() as u32),
        error,
        traffic: conversation.traffic,
    })
}

/// The relative error that `run --check` allows.
pub fn tolerance(activations: DType) -> f64 {
    match activations {
        DType::F32 | DType::F64 => 1e-5,
        _ => 3e-2,
    }
}

/// The same model in the evaluator, in f64, token by token.
pub(crate) struct Reference<'m> {
    graph: &'m tilewright_ir::graph::Module,
    evaluator: Evaluator<'m, F64>,
    past: u64,
}

impl<'m> Reference<'m> {
    /// The model of a module that has a decode phase.
    fn new(module: &'m Module) -> Result<Reference<'m>, Error> {
        let phase = module
            .phase(Phase::Decode.name())
            .ok_or_else(|| Error::input("the decode phase was not compiled, and it is the reference"))?;
        Ok(Reference::of(&phase.planned.graph, module.weights().as_ref()))
    }

    /// The model of a decode graph.
    pub(crate) fn of(
        graph: &'m tilewright_ir::graph::Module,
        weights: &'m dyn TensorSource,
    ) -> Reference<'m> {
        let evaluator = Evaluator::new(F64, graph, move |name| {
            let (dtype, _) = weights.info(name).ok_or_else(|| "it is missing".to_owned())?;
            let bytes = weights.bytes(name).map_err(|e| e.to_string())?;
            Ok(decode(dtype, (*bytes).as_ref()))
        });
        Reference { graph, evaluator, past: 0 }
    }

    /// The logits after the last of these tokens.
    pub(crate) fn feed(&mut self, ids: &[u64]) -> Result<Vec<f64>, Error> {
        let mut last = Vec::new();
        for &id in ids {
            let symbols: Vec<(&str, u64)> = symbol_values(self.graph, self.past, 1)
                .into_iter()
                .map(|(s, v)| (self.graph.symbols[s].name.as_str(), v))
                .collect();
            let symbols = bind_symbols(&self.graph.symbols, &symbols)?;
            let outputs = self.evaluator.run(&symbols, &[("ids", Tensor::new(&[1, 1], vec![id as f64])?)])?;
            last = outputs.into_iter().next().map(|t| t.data).unwrap_or_default();
            self.past += 1;
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_equals_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), 0);
    }

    #[test]
    fn probabilities_sum_to_one() {
        let row = [1000.0f32, 999.0, -1000.0, f32::NEG_INFINITY];
        let sum: f64 = (0..4).map(|i| log_softmax(&row, i).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert!((log_softmax(&[0.0; 8], 3) + 8f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn ids_are_checked() {
        assert!(check_ids(&[0, 9], 10).is_ok());
        assert!(check_ids(&[], 10).unwrap_err().to_string().contains("no token ids"));
        assert!(check_ids(&[0, 10], 10).unwrap_err().to_string().contains("position 1"));
    }
}
