//! What: feeding tokens to a compiled model: scoring a text, generating one or several at once.
//! Why here: the loop over tokens is the same for every model, device and caller.
//! Pre: a module compiled from a model; as many sequences as its batch.
//! Post: row `t` of the logits is what the model says after token `t`, whatever the other sequences of the batch are. Ids
//! and lengths are checked before anything runs.

use std::time::{Duration, Instant};

use tilewright_frontend::hf::{Phase, lengths};
use tilewright_ir::eval::{Evaluator, F64, Tensor, bind_symbols};
use tilewright_runtime::device::DeviceKind;
use tilewright_runtime::exec::{Executable, RunResult, TensorSource};
use tilewright_runtime::values::decode;

use crate::check::relative_error;
use crate::compiler::named;
use crate::report::{Traffic, launches_per_layer};
use crate::sample::{Sampling, next_name};
use crate::{DType, Error, ModelInfo, Module};

/// A conversation with a model: tokens go in, logits come out, the state remembers. A module that was compiled for a batch
/// has that many conversations at once, which know nothing of each other and may have any lengths.
pub struct Conversation<'m> {
    module: &'m Module,
    info: &'m ModelInfo,
    past: Vec<u64>,
    /// What the runs did.
    pub traffic: Traffic,
}

impl<'m> Conversation<'m> {
    /// Starts with an empty state. Two conversations on one module disturb each other: the state is the module's.
    pub fn new(module: &'m Module) -> Result<Conversation<'m>, Error> {
        let info =
            module.model().ok_or_else(|| Error::input("this is no language model: it takes no tokens"))?;
        module.session().reset_states()?;
        let batch = usize::try_from(info.batch).unwrap_or(usize::MAX);
        Ok(Conversation { module, info, past: vec![0; batch], traffic: Traffic::default() })
    }

    /// How many tokens are in the state, of the longest sequence.
    pub fn past(&self) -> u64 {
        self.past.iter().copied().max().unwrap_or(0)
    }

    /// How many tokens of each sequence are in the state.
    pub fn lengths(&self) -> &[u64] {
        &self.past
    }

    /// Feeds tokens in one of the phases; returns one row of logits per token, row-major, or one per run where the module
    /// has no others ([`Compiler::last_logits`](crate::Compiler::last_logits)). For a batch of 1.
    pub fn feed(&mut self, ids: &[u64], phase: Phase) -> Result<Vec<f32>, Error> {
        check_ids(ids, self.info.vocab)?;
        Ok(self.feed_all(&[ids], phase)?.swap_remove(0))
    }

    /// Feeds tokens to each sequence, as many as each gets; a sequence that gets none is left as it is. Returns for each what
    /// [`Conversation::feed`] does.
    pub fn feed_all(&mut self, rows: &[&[u64]], phase: Phase) -> Result<Vec<Vec<f32>>, Error> {
        self.check_rows(rows, 0)?;
        let mut logits = vec![Vec::new(); rows.len()];
        let longest = rows.iter().map(|r| r.len()).max().unwrap_or(0);
        let pieces = if phase == Phase::Decode { longest } else { longest.min(1) };
        for n in 0..pieces {
            let rows: Vec<&[u64]> = match phase {
                Phase::Decode => rows.iter().map(|r| r.get(n..=n).unwrap_or_default()).collect(),
                Phase::Prefill => rows.to_vec(),
            };
            for (all, some) in logits.iter_mut().zip(self.step(&rows, phase)?) {
                all.extend(some);
            }
        }
        Ok(logits)
    }

    /// That there is a row for each sequence, and room for it and more tokens.
    fn check_rows(&self, rows: &[&[u64]], more: u64) -> Result<(), Error> {
        check_batch(self.info, rows.len())?;
        for (n, (row, past)) in rows.iter().zip(&self.past).enumerate().filter(|(_, (r, _))| !r.is_empty()) {
            let of = |e| of_sequence(e, n, rows.len());
            check_ids(row, self.info.vocab).map_err(of)?;
            let tokens = past.saturating_add(row.len() as u64).saturating_add(more);
            check_room(self.info, tokens).map_err(of)?;
        }
        Ok(())
    }

    fn step(&mut self, rows: &[&[u64]], phase: Phase) -> Result<Vec<Vec<f32>>, Error> {
        let mode = self.module.mode(phase.name()).exec();
        self.feed_rows(rows, phase, |executable, symbols, inputs| {
            Ok(executable.run_for(mode, symbols, inputs, &["logits"])?)
        })
    }

    /// Feeds tokens in one run, which the caller makes, and takes the logits. For a batch of 1.
    pub(crate) fn feed_with(
        &mut self,
        ids: &[u64],
        phase: Phase,
        run: impl FnOnce(&Executable, &[(&str, i64)], &[(&str, &[u8])]) -> Result<RunResult, Error>,
    ) -> Result<Vec<f32>, Error> {
        self.check_rows(&[ids], 0)?;
        Ok(self.feed_rows(&[ids], phase, run)?.swap_remove(0))
    }

    fn feed_rows(
        &mut self,
        rows: &[&[u64]],
        phase: Phase,
        run: impl FnOnce(&Executable, &[(&str, i64)], &[(&str, &[u8])]) -> Result<RunResult, Error>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let result = self.run_with(rows, phase, None, run)?;
        let logits = result.output("logits").ok_or_else(|| Error::Bug("a model without logits".into()))?;
        let all: Vec<f32> = match logits.dtype {
            DType::F32 => logits.data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            _ => logits.values().into_iter().map(|x| x as f32).collect(),
        };
        let vocab = size(self.info.vocab).max(1);
        let each = all.len() / rows.len().max(1);
        let mut out = Vec::with_capacity(rows.len());
        for (n, (row, all)) in rows.iter().zip(all.chunks(each.max(1))).enumerate() {
            // Behind a sequence's own tokens there is padding. Where there is one row of logits, it is that of the last.
            let own = &all[..(row.len() * vocab).min(all.len())];
            if let Some(at) = own.iter().position(|x| x.is_nan()) {
                return Err(of_sequence(not_a_number(&format!("logit {at}"), self.past[n]), n, rows.len()));
            }
            out.push(own.to_vec());
        }
        Ok(out)
    }

    /// Feeds tokens in one run, which the caller makes.
    fn run_with(
        &mut self,
        rows: &[&[u64]],
        phase: Phase,
        sampling: Option<&Sampling>,
        run: impl FnOnce(&Executable, &[(&str, i64)], &[(&str, &[u8])]) -> Result<RunResult, Error>,
    ) -> Result<RunResult, Error> {
        check_batch(self.info, rows.len())?;
        let executable = self.module.executable(phase.name())?;
        let graph = &self.phase(phase)?.graph;
        let sequences: Vec<(u64, u64)> =
            self.past.iter().zip(rows).map(|(&past, row)| (past, row.len() as u64)).collect();
        let known = lengths(graph, &sequences);
        let symbols = named(graph, &known.symbols);
        let symbols: Vec<(&str, i64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        // Ids were checked against the vocabulary, and lengths against the context, which are below 2^31.
        let ids = padded(rows).into_iter().flat_map(|id| (id as i32).to_le_bytes()).collect();
        let mut all: Vec<(String, Vec<u8>)> = vec![("ids".to_owned(), ids)];
        all.extend(known.inputs.into_iter().map(|(name, values)| {
            (name.to_owned(), values.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect())
        }));
        all.extend(sampling.map(Sampling::inputs).unwrap_or_default());
        let inputs: Vec<(&str, &[u8])> =
            all.iter().map(|(n, bytes)| (n.as_str(), bytes.as_slice())).collect();
        let result = run(&executable, &symbols, &inputs)?;
        self.traffic.add_run(executable.step(), &result.launches);
        self.past.iter_mut().zip(rows).for_each(|(past, row)| *past += row.len() as u64);
        Ok(result)
    }

    /// Feeds a token to each sequence that has one, and lets the device choose what follows.
    fn choose(
        &mut self,
        ids: &[Option<u64>],
        sampling: Option<&Sampling>,
    ) -> Result<Vec<Option<u64>>, Error> {
        let mode = self.module.mode(Phase::Decode.name()).exec();
        let name = next_name();
        let rows: Vec<&[u64]> = ids.iter().map(Option::as_slice).collect();
        let result = self.run_with(&rows, Phase::Decode, sampling, |executable, symbols, inputs| {
            Ok(executable.run_for(mode, symbols, inputs, &[&name])?)
        })?;
        let next = result.output(&name).map(tilewright_runtime::exec::Array::values);
        let next = next.filter(|n| n.len() == ids.len());
        let next = next.ok_or_else(|| Error::Bug("a choice without a result".into()))?;
        // Integers that are not negative.
        let next: Vec<Option<u64>> = ids.iter().zip(&next).map(|(id, &n)| id.map(|_| n as u64)).collect();
        for (n, chosen) in next.iter().enumerate() {
            self.check_chosen(n, chosen.as_slice())?;
        }
        Ok(next)
    }

    /// That what a sequence's logits led to are tokens.
    fn check_chosen(&self, n: usize, chosen: &[u64]) -> Result<(), Error> {
        match chosen.iter().all(|&id| id < self.info.vocab) {
            true => Ok(()),
            false => Err(of_sequence(not_a_number("a logit", self.past[n]), n, self.past.len())),
        }
    }

    /// Feeds a token and lets the device choose what follows, up to `count` tokens in one launch or until one of `stops`.
    /// For a batch of 1.
    pub fn go_on(
        &mut self,
        id: u64,
        count: u64,
        stops: &[u64],
        sampling: Option<&Sampling>,
    ) -> Result<Vec<u64>, Error> {
        Ok(self.go_on_all(&[Some(id)], count, stops, sampling)?.swap_remove(0))
    }

    /// The same for each sequence that has a token; the others stay as they are. A sequence that has come to one of `stops`
    /// stays as it then is while others go on.
    pub fn go_on_all(
        &mut self,
        ids: &[Option<u64>],
        count: u64,
        stops: &[u64],
        sampling: Option<&Sampling>,
    ) -> Result<Vec<Vec<u64>>, Error> {
        let rows: Vec<&[u64]> = ids.iter().map(Option::as_slice).collect();
        self.check_rows(&rows, count.saturating_sub(1))?;
        // Ids were checked against the vocabulary, which has fewer than 2^31 entries; so were counts against the context.
        let last: Vec<i32> = stops.iter().map(|&s| s as i32).collect();
        let result = self.run_with(&rows, Phase::Decode, sampling, |executable, symbols, inputs| {
            Ok(executable.run_repeated(symbols, inputs, count as u32, &last)?)
        })?;
        let mut out = vec![Vec::new(); ids.len()];
        for (n, mine) in out.iter_mut().enumerate().filter(|(n, _)| ids[*n].is_some()) {
            let all = result.tokens.iter().skip(n).step_by(ids.len());
            let all = all.map(|&t| u64::from(t.unsigned_abs()));
            for token in all {
                mine.push(token);
                if stops.contains(&token) {
                    break;
                }
            }
            self.past[n] += (mine.len() as u64).saturating_sub(1);
            self.check_chosen(n, mine)?;
        }
        Ok(out)
    }

    fn phase(&self, phase: Phase) -> Result<&'m crate::Planned, Error> {
        self.module
            .phase(phase.name())
            .map(|p| &p.planned)
            .ok_or_else(|| Error::input(format!("the {} phase was not compiled", phase.name())))
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Rows as one array: shorter ones are filled up with token 0, and there is one column at least.
fn padded(rows: &[&[u64]]) -> Vec<u64> {
    let wide = rows.iter().map(|r| r.len()).max().unwrap_or(0).max(1);
    rows.iter().flat_map(|r| (0..wide).map(|n| r.get(n).copied().unwrap_or(0))).collect()
}

/// That a model was compiled for so many sequences.
fn check_batch(info: &ModelInfo, sequences: usize) -> Result<(), Error> {
    if sequences as u64 == info.batch {
        return Ok(());
    }
    Err(Error::Unsupported {
        message: format!("a model compiled for a batch of {} cannot take {sequences} sequences", info.batch),
        help: Some(format!("compile with a batch of {sequences}")),
    })
}

/// What is wrong with one of several sequences says with which.
fn of_sequence(error: Error, n: usize, of: usize) -> Error {
    match error {
        Error::Input { message, help } if of > 1 => {
            Error::Input { message: format!("sequence {}: {message}", n + 1), help }
        }
        other => other,
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

/// What to generate in several sequences at once, which may have different lengths.
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a> {
    /// The prompts, one for each sequence of the module's batch.
    pub prompts: &'a [&'a [u64]],
    /// How many tokens to generate in each.
    pub tokens: u64,
    /// Whether sequences go on after an end-of-sequence token.
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

/// What was generated in several sequences at once.
#[derive(Clone, Debug)]
pub struct AllGenerated {
    /// The new tokens of each sequence.
    pub tokens: Vec<Vec<u64>>,
    /// The time to the first new token of all sequences; nothing on the emulator, whose time means nothing.
    pub first: Option<Duration>,
    /// The mean time of each further step, which gives a token to each sequence that goes on.
    pub each: Option<Duration>,
    /// Tokens of all sequences in a second, after the first of each.
    pub rate: Option<f64>,
    /// The largest relative error of the logits of a sequence in a step, when that was asked for.
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
    let Request { prompt, tokens, ignore_eos, check, sampling } = *request;
    let requests = Requests { prompts: &[prompt], tokens, ignore_eos, check, sampling };
    let mut all = generate_all(module, &requests, |_, id| each(id))?;
    let tokens = all.tokens.swap_remove(0);
    Ok(Generated { tokens, first: all.first, each: all.each, error: all.error, traffic: all.traffic })
}

/// Generates tokens in all sequences of a batch. A sequence that came to an end-of-sequence token stays as it is while
/// others go on. `each` gets the number of the sequence and the token.
pub fn generate_all(
    module: &Module,
    request: &Requests<'_>,
    each: impl FnMut(usize, u64),
) -> Result<AllGenerated, Error> {
    let conversation = Conversation::new(module)?;
    let count = request.prompts.len();
    check_batch(conversation.info, count)?;
    for (n, prompt) in request.prompts.iter().enumerate() {
        check_ids(prompt, conversation.info.vocab).map_err(|e| of_sequence(e, n, count))?;
        // The last token that is generated is not fed back.
        let tokens = (prompt.len() as u64).saturating_add(request.tokens.saturating_sub(1));
        check_room(conversation.info, tokens).map_err(|e| of_sequence(e, n, count))?;
    }
    let choice = module.phase(Phase::Decode.name()).and_then(|p| p.choice);
    if let Some(s) = &request.sampling {
        s.check()?;
        if choice != Some(s.choice()) || request.check {
            return Err(Error::Usage(
                "tokens are chosen by chance on the device only: compile the decode phase for it, and without a check \
                 of the logits"
                    .into(),
            ));
        }
    }
    let reference = if request.check { Some(Reference::new(module)?) } else { None };
    let tokens = vec![Vec::new(); count];
    let mut writer = Writer { module, request, conversation, tokens, reference, error: None };
    let (times, spent) = writer.all(choice.is_some(), each)?;

    let timed = module.device().kind() != DeviceKind::Emulator;
    let further = times.get(1..).filter(|t| !t.is_empty() && timed);
    // What the first step gave took its own time.
    let more = writer.tokens.iter().map(|t| t.len().saturating_sub(1)).sum::<usize>();
    Ok(AllGenerated {
        first: times.first().copied().filter(|_| timed),
        each: further.map(|t| t.iter().sum::<Duration>() / t.len() as u32),
        rate: further.map(|_| more as f64 / spent.as_secs_f64()),
        tokens: writer.tokens,
        error: writer.error,
        traffic: writer.conversation.traffic,
    })
}

/// Sequences that are being generated.
struct Writer<'m, 'r> {
    module: &'m Module,
    request: &'r Requests<'r>,
    conversation: Conversation<'m>,
    /// The new tokens of each.
    tokens: Vec<Vec<u64>>,
    reference: Option<Reference<'m>>,
    error: Option<f64>,
}

impl Writer<'_, '_> {
    /// Whether a sequence goes on.
    fn goes_on(&self, n: usize) -> bool {
        let last = self.tokens[n].last();
        let ended = !self.request.ignore_eos && last.is_some_and(|t| self.conversation.info.eos.contains(t));
        (self.tokens[n].len() as u64) < self.request.tokens && !ended
    }

    /// Generates everything; gives the times of the steps, and that of all but the first.
    fn all(
        &mut self,
        on_device: bool,
        mut each: impl FnMut(usize, u64),
    ) -> Result<(Vec<Duration>, Duration), Error> {
        let sampling = self.request.sampling.as_ref();
        let count = self.tokens.len();
        let (mut times, mut spent) = (Vec::new(), Duration::ZERO);
        while (0..count).any(|n| self.goes_on(n)) {
            let start = Instant::now();
            let last: Vec<Option<u64>> =
                (0..count).map(|n| self.tokens[n].last().copied().filter(|_| self.goes_on(n))).collect();
            let begun = !times.is_empty();
            if let (Some(n), true, false) = (self.module.tokens_per_launch(), begun, self.request.check) {
                // All that go on have as many tokens.
                let made = (0..count).filter(|&n| self.goes_on(n)).map(|n| self.tokens[n].len() as u64).max();
                let wanted = u64::from(n).min(self.request.tokens - made.unwrap_or(0));
                let stops: &[u64] = if self.request.ignore_eos { &[] } else { &self.conversation.info.eos };
                let chosen = self.conversation.go_on_all(&last, wanted, stops, sampling)?;
                let steps = chosen.iter().map(Vec::len).max().unwrap_or(0);
                let elapsed = start.elapsed();
                spent += elapsed;
                times.extend(std::iter::repeat_n(elapsed / steps.max(1) as u32, steps));
                for step in 0..steps {
                    for (n, chosen) in chosen.iter().enumerate() {
                        if let Some(&next) = chosen.get(step) {
                            self.tokens[n].push(next);
                            each(n, next);
                        }
                    }
                }
                if steps == 0 {
                    return Err(Error::Bug("a launch without a token".into()));
                }
                continue;
            }
            let rows: Vec<&[u64]> = match begun {
                true => last.iter().map(Option::as_slice).collect(),
                false => self.request.prompts.to_vec(),
            };
            let next = self.step(&rows, on_device)?;
            let elapsed = start.elapsed();
            spent += if begun { elapsed } else { Duration::ZERO };
            times.push(elapsed);
            for (n, next) in next.into_iter().enumerate() {
                if let Some(next) = next {
                    self.tokens[n].push(next);
                    each(n, next);
                }
            }
        }
        Ok((times, spent))
    }

    /// Feeds tokens, and says what follows in each sequence that got some.
    fn step(&mut self, rows: &[&[u64]], on_device: bool) -> Result<Vec<Option<u64>>, Error> {
        let (check, sampling) = (self.request.check, self.request.sampling.as_ref());
        // Only the decode phase chooses by chance, so it gets the last token of each prompt.
        let single = rows.iter().all(|r| r.len() < 2);
        let by_device = on_device && !check && (single || sampling.is_some());
        let cut = |r: &&[u64]| if by_device { r.len().saturating_sub(1) } else { r.len() };
        let before: Vec<&[u64]> = rows.iter().map(|r| &r[..cut(r)]).collect();
        let mut next = vec![None; rows.len()];
        if before.iter().any(|r| !r.is_empty()) {
            let several = before.iter().any(|r| r.len() > 1);
            let several = several && self.module.phase(Phase::Prefill.name()).is_some();
            let phase = if several { Phase::Prefill } else { Phase::Decode };
            let logits = self.conversation.feed_all(&before, phase)?;
            let vocab = size(self.conversation.info.vocab).max(1);
            let ends: Vec<&[f32]> = logits.iter().map(|l| &l[l.len() - vocab.min(l.len())..]).collect();
            if let Some(reference) = &mut self.reference {
                for (row, expected) in ends.iter().zip(reference.feed(&before)?) {
                    let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                    self.error = Some(self.error.unwrap_or(0.0).max(relative_error(&row, &expected)));
                }
            }
            next = ends.iter().map(|row| (!row.is_empty()).then(|| argmax(row))).collect();
        }
        if by_device {
            let last: Vec<Option<u64>> = rows.iter().map(|r| r.last().copied()).collect();
            next = self.conversation.choose(&last, sampling)?;
        }
        Ok(next)
    }
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
    past: Vec<u64>,
}

impl<'m> Reference<'m> {
    /// The model of a module that has a decode phase.
    fn new(module: &'m Module) -> Result<Reference<'m>, Error> {
        let phase = module
            .phase(Phase::Decode.name())
            .ok_or_else(|| Error::input("the decode phase was not compiled, and it is the reference"))?;
        let batch = module.model().map_or(1, |m| size(m.batch));
        Ok(Reference::of(&phase.planned.graph, module.weights().as_ref(), batch))
    }

    /// The model of a decode graph for so many sequences.
    pub(crate) fn of(
        graph: &'m tilewright_ir::graph::Module,
        weights: &'m dyn TensorSource,
        batch: usize,
    ) -> Reference<'m> {
        let evaluator = Evaluator::new(F64, graph, move |name| {
            let (dtype, _) = weights.info(name).ok_or_else(|| "it is missing".to_owned())?;
            let bytes = weights.bytes(name).map_err(|e| e.to_string())?;
            Ok(decode(dtype, (*bytes).as_ref()))
        });
        Reference { graph, evaluator, past: vec![0; batch] }
    }

    /// The logits of each sequence after the last of its tokens; none without tokens.
    pub(crate) fn feed(&mut self, rows: &[&[u64]]) -> Result<Vec<Vec<f64>>, Error> {
        let mut out = vec![Vec::new(); rows.len()];
        for step in 0..rows.iter().map(|r| r.len()).max().unwrap_or(0) {
            let now: Vec<&[u64]> = rows.iter().map(|r| r.get(step..=step).unwrap_or_default()).collect();
            let sequences: Vec<(u64, u64)> =
                self.past.iter().zip(&now).map(|(&past, row)| (past, row.len() as u64)).collect();
            let known = lengths(self.graph, &sequences);
            let symbols: Vec<(&str, u64)> =
                known.symbols.iter().map(|&(s, v)| (self.graph.symbols[s].name.as_str(), v)).collect();
            let symbols = bind_symbols(&self.graph.symbols, &symbols)?;
            let ids = padded(&now).into_iter().map(|id| id as f64).collect();
            let mut inputs = vec![("ids", Tensor::new(&[now.len(), 1], ids)?)];
            for (name, values) in &known.inputs {
                let values = values.iter().map(|&n| n as f64).collect();
                inputs.push((name, Tensor::new(&[now.len()], values)?));
            }
            let outputs = self.evaluator.run(&symbols, &inputs)?;
            let logits = outputs.into_iter().next().map(|t| t.data).unwrap_or_default();
            let each = logits.len() / now.len().max(1);
            for (n, mine) in logits.chunks(each.max(1)).enumerate().filter(|(n, _)| !now[*n].is_empty()) {
                out[n] = mine.to_vec();
                self.past[n] += 1;
            }
        }
        Ok(out)
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
