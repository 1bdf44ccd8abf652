//! What: one step of a model with made-up weights: decode, verify or prefill.
//! Why here: decisions are made on whole steps, not on one kernel.
//! Pre: a shipped configuration.
//! Post: a row. Logits were compared with float64 on a state of random numbers, those of a large step as a part of it; a
//! wrong result has no time. While time is taken on a GPU, the state holds what a prompt of random tokens left there, and ids
//! and logits stay on the device.

use std::time::Instant;

use serde_json::Value;
use tilewright_frontend::hf::{self, Phase, lengths, symbol_values};
use tilewright_ir::DType;
use tilewright_ir::step::BufferKind;
use tilewright_runtime::exec::RunResult;

use super::counts::Counts;
use super::kernels::{compile_of, kernels_of, only};
use super::record::{Chosen, Fraction, Kernels, Row, Status, Suite};
use super::suite::{Size, StepCase, StepKind};
use super::{Context, exact, inputs, timing};
use crate::compiler::named;
use crate::report::launches_per_layer;
use crate::spec::Mode;
use crate::{Compiler, Error, Module};

/// The shipped configurations.
const CONFIGS: &[(&str, &str)] = &[
    ("SmolLM2-135M", include_str!("../../tests/models/SmolLM2-135M/config.json")),
    ("Qwen3-0.6B", include_str!("../../tests/models/Qwen3-0.6B/config.json")),
    ("Qwen3-1.7B", include_str!("../../tests/models/Qwen3-1.7B/config.json")),
    ("Qwen3-8B", include_str!("../../tests/models/Qwen3-8B/config.json")),
    ("Llama-3.2-1B", include_str!("../../tests/models/Llama-3.2-1B/config.json")),
    ("Llama-3.1-8B", include_str!("../../tests/models/Llama-3.1-8B/config.json")),
    ("Mistral-7B-v0.3", include_str!("../../tests/models/Mistral-7B-v0.3/config.json")),
];

/// The most tokens of a prompt that are brought into the state at once.
const PIECE: u64 = 512;

/// The configuration of a model.
pub(super) fn config_of(model: &str) -> Result<&'static str, Error> {
    let found = CONFIGS.iter().find(|(name, _)| *name == model);
    found.map(|(_, text)| *text).ok_or_else(|| Error::Bug(format!("there is no configuration `{model}`")))
}

/// The row of a step in a mode, with nothing in it yet.
pub(super) fn row(case: &StepCase, mode: &str) -> Row {
    let size: Size = [("batch", case.batch), ("context", case.context), ("new", case.new)]
        .into_iter()
        .map(|(n, v)| (n.to_owned(), Value::from(v)))
        .collect();
    Row::new(Suite::Steps, case.kind.name(), &case.name, size, mode)
}

/// Runs a step in a mode.
pub(super) fn run(context: &Context<'_>, case: &StepCase, mode: &str) -> Row {
    let row = row(case, mode);
    match measure(context, case, mode, row.clone()) {
        Ok(row) => row,
        Err(error) => row.with_error(&error),
    }
}

fn measure(context: &Context<'_>, case: &StepCase, mode: &str, mut row: Row) -> Result<Row, Error> {
    let mode = Mode::parse(mode)?;
    let settings = context.settings;
    let text = replaced(case)?;
    let phase = phase_of(case);
    // The context is brought in by prefill, whose results only a GPU computes fast enough.
    let fill = context.device.clock().is_some() && case.context > 0;
    let mut phases = vec![phase];
    if fill && phase == Phase::Decode {
        phases.push(Phase::Prefill);
    }
    let start = Instant::now();
    let module = compiler(context, case, mode, &phases)?.compile()?;
    let total = start.elapsed().as_secs_f64();
    let compiled = module.phases().iter().collect::<Vec<_>>();
    only(mode, compiled[0])?;
    row.chosen = Chosen::of(&module, mode, phase.name());
    row.compile = Some(compile_of(&compiled, total));
    row.kernels = Some(Kernels {
        // A persistent kernel is one launch, with as many tasks as there were launches.
        launches_per_layer: (!compiled[0].persistent).then(|| launches_per_layer(&compiled[0].planned)),
        ..kernels_of(compiled[0])
    });
    let (bytes, flops) = floor(&text, case)?;
    row.floor_bytes = Some(bytes);
    row.flops = Some(flops);
    match module.device().clock() {
        None => {
            let (result, error) = exactly(context, &module, case)?;
            row.error = Some(error).filter(|e| e.is_finite());
            exact::judged(error)?;
            row.counts = Counts::of_run(&compiled[0].planned.compiled.step, &result.launches);
        }
        Some(clock) => {
            let (part, what) = exact::part(case, flops);
            let small = compiler(context, &part, mode, &[phase])?.compile()?;
            let (_, error) = exactly(context, &small, &part)?;
            row.error = Some(error).filter(|e| e.is_finite());
            row.error_of = what;
            exact::judged(error)?;
            drop(small);
            module.session().reset_states()?;
            let mut past = 0;
            while fill && past < case.context {
                let new = PIECE.min(case.context - past);
                feed(&module, Phase::Prefill, case, settings.seed, past, new)?;
                past += new;
            }
            let symbols = symbols(&module, phase, case.context, case.new)?;
            let given = given(&module, phase, case, settings.seed, case.context, case.new)?;
            let (finite, time) = timing::step(context, clock, &module, phase.name(), &symbols, &given)?;
            if !finite {
                row.status = Status::Failed;
                row.reason = Some("logits are not finite numbers, or were not written".into());
                return Ok(row);
            }
            row.fraction = time.map(|t| Fraction::of(&t, bytes, flops, &context.ceilings));
            row.time = time;
        }
    }
    Ok(row)
}

/// The phase that does a step.
fn phase_of(case: &StepCase) -> Phase {
    if case.kind == StepKind::Decode { Phase::Decode } else { Phase::Prefill }
}

/// The compilation of a case.
fn compiler(context: &Context<'_>, case: &StepCase, mode: Mode, phases: &[Phase]) -> Result<Compiler, Error> {
    let base = Compiler::config(replaced(case)?, u64::from(context.settings.seed));
    Ok(context
        .compiler(base)
        .phases(phases)
        .mode(mode)
        .batch(case.batch)
        .max_context(Some(case.context + case.new)))
}

/// Runs a step once on a state of random numbers; what came of it, and its error.
fn exactly(context: &Context<'_>, module: &Module, case: &StepCase) -> Result<(RunResult, f64), Error> {
    let (phase, seed) = (phase_of(case), context.settings.seed);
    exact::fill(module, phase, seed)?;
    let result = feed(module, phase, case, seed, case.context, case.new)?;
    let given = given(module, phase, case, seed, case.context, case.new)?;
    let error = context.references.error(module, phase, case, seed, &given, &result)?;
    Ok((result, error))
}

/// The configuration with what the case replaces.
fn replaced(case: &StepCase) -> Result<String, Error> {
    let bad = |e: serde_json::Error| Error::Bug(format!("the configuration of `{}`: {e}", case.model));
    let mut config: Value = serde_json::from_str(config_of(&case.model)?).map_err(bad)?;
    for (key, value) in &case.replaced {
        config[key] = value.clone();
    }
    Ok(config.to_string())
}

/// Values of the symbols of a phase.
fn symbols(module: &Module, phase: Phase, past: u64, new: u64) -> Result<Vec<(String, i64)>, Error> {
    let compiled = module
        .phase(phase.name())
        .ok_or_else(|| Error::Bug(format!("the {} phase was not compiled", phase.name())))?;
    let graph = &compiled.planned.graph;
    Ok(named(graph, &symbol_values(graph, past, new)))
}

/// Inputs of a step, by name.
pub(super) type Given = Vec<(&'static str, Vec<u8>)>;

/// Random tokens at these positions, and what says where they are.
fn given(
    module: &Module,
    phase: Phase,
    case: &StepCase,
    seed: u32,
    past: u64,
    new: u64,
) -> Result<Given, Error> {
    let info = module.model().ok_or_else(|| Error::Bug("a model without its description".into()))?;
    let seed = inputs::seed_of(seed, &case.model, &format!("ids {past}"));
    let mut out = vec![("ids", inputs::integers(&[case.batch, new], info.vocab, false, seed).data)];
    let compiled = module.phase(phase.name()).map(|p| &p.planned.graph);
    let graph = compiled.ok_or_else(|| Error::Bug(format!("the {} phase was not compiled", phase.name())))?;
    let sequences = vec![(past, new); usize::try_from(case.batch).unwrap_or(usize::MAX)];
    // Lengths are at most 2^31.
    let bytes = |values: Vec<i64>| values.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect();
    out.extend(lengths(graph, &sequences).inputs.into_iter().map(|(name, values)| (name, bytes(values))));
    Ok(out)
}

/// Runs a phase on random tokens.
fn feed(
    module: &Module,
    phase: Phase,
    case: &StepCase,
    seed: u32,
    past: u64,
    new: u64,
) -> Result<RunResult, Error> {
    let symbols = symbols(module, phase, past, new)?;
    let symbols: Vec<(&str, i64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let given = given(module, phase, case, seed, past, new)?;
    let given: Vec<(&str, &[u8])> = given.iter().map(|(n, bytes)| (*n, bytes.as_slice())).collect();
    let mode = module.mode(phase.name()).exec();
    Ok(module.executable(phase.name())?.run_as(mode, &symbols, &given)?)
}

/// The bytes that a step must move and the operations that it must do: weights once (of an embedding that is not the
/// last projection too, only the rows of the tokens), the state before once, the new part of it, the logits.
fn floor(config: &str, case: &StepCase) -> Result<(u64, u64), Error> {
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let config = hf::parse_config(config).map_err(hf::ModelError::from)?;
    let tokens = case.batch * case.new;
    let wide = DType::Bf16.bytes() as u64;
    let (mut bytes, mut flops) = (0, 0);
    for (name, dims) in hf::expected_tensors(&config) {
        let count: u64 = dims.iter().product();
        let width = config.dtype_of(&name).bytes() as u64;
        if name == EMBEDDING && !config.tied {
            bytes += tokens * config.hidden * width;
            continue;
        }
        bytes += count * width;
        if dims.len() == 2 {
            flops += 2 * count * tokens;
        }
    }
    for window in &config.windows {
        let seen = window.map_or(case.context, |w| w.min(case.context));
        bytes += case.batch * (seen + case.new) * 2 * config.kv_heads * config.head_dim * wide;
        // Each new token sees the context and, on average, half of the new ones.
        let pairs = tokens * seen + case.batch * case.new * (case.new + 1) / 2;
        flops += 4 * pairs * config.heads * config.head_dim;
    }
    bytes += tokens * config.vocab * DType::F32.bytes() as u64;
    Ok((bytes, flops))
}

/// The buffers of a step that its user gives and gets.
pub(super) fn is_outside(kind: &BufferKind) -> bool {
    matches!(kind, BufferKind::Input | BufferKind::Output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::{Extent, Suites};

    #[test]
    fn floors_are_those_of_published_arithmetic() {
        // Gigabytes of a decode step without a context, and KiB per token of the state.
        for (model, gb, kib) in [
            ("Llama-3.2-1B", 2.47, 32),
            ("Llama-3.1-8B", 15.01, 128),
            ("Qwen3-0.6B", 1.19, 112),
            ("Qwen3-1.7B", 3.44, 112),
            ("Qwen3-8B", 15.14, 144),
        ] {
            let case = |context| StepCase {
                name: model.into(),
                model: model.into(),
                replaced: serde_json::Map::new(),
                kind: StepKind::Decode,
                batch: 1,
                context,
                new: 1,
            };
            let at = |context| floor(config_of(model).unwrap(), &case(context)).unwrap().0;
            assert!((at(0) as f64 / 1e9 - gb).abs() < 0.006, "{model}: {}", at(0));
            assert_eq!(at(1000) - at(0), 1000 * kib * 1024, "{model}");
        }
    }

    #[test]
    fn what_is_compared_is_this_step() {
        tilewright_runtime::testing::nvrtc();
        let settings = crate::bench::Settings::for_tests();
        let device = settings.device.open().unwrap().device;
        let context = Context::for_tests(&settings, device.as_ref());
        let all = Suites::load().unwrap().steps(Extent::Full);
        let case = all.iter().find(|c| c.name == "Qwen3-0.6B decode b32 c4096").unwrap();
        let flops = floor(&replaced(case).unwrap(), case).unwrap().1;
        let (part, what) = exact::part(case, flops);
        assert!(what.unwrap().starts_with("one layer, "));
        let config = |case| hf::parse_config(&replaced(case).unwrap()).unwrap();
        let (whole, cut) = (config(case), config(&part));
        assert_eq!(
            (whole.hidden, whole.intermediate, whole.heads),
            (cut.hidden, cut.intermediate, cut.heads)
        );
        assert_eq!((part.batch, part.context, part.new, cut.layers()), (2, 64, 1, 1));
        let module = compiler(&context, &part, Mode::Launch, &[Phase::Decode]).unwrap().compile().unwrap();
        let (result, error) = exactly(&context, &module, &part).unwrap();
        assert!(error > 0.0 && exact::judged(error).is_ok(), "{error}");
        // Another state, other tokens, and a result that is not a number, are found.
        exact::fill(&module, Phase::Decode, settings.seed + 1).unwrap();
        let other = feed(&module, Phase::Decode, &part, settings.seed, part.context, part.new).unwrap();
        let given = given(&module, Phase::Decode, &part, settings.seed, part.context, part.new).unwrap();
        let error_of = |result: &RunResult| {
            context.references.error(&module, Phase::Decode, &part, settings.seed, &given, result).unwrap()
        };
        assert_eq!(error_of(&result), error);
        assert_eq!(exact::judged(error_of(&other)).unwrap_err().exit_code(), 1, "{}", error_of(&other));
        let mut bad = result.clone();
        bad.outputs[0].1.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(exact::judged(error_of(&bad)).is_err());
        // Steps that are the same as parts share their reference.
        let twin = all.iter().find(|c| c.name == "Qwen3-0.6B decode b8 c16384").unwrap();
        assert_eq!(exact::part(twin, flops).0.name, part.name);
    }

    #[test]
    fn every_model_has_its_configuration() {
        let suites = Suites::load().unwrap();
        for extent in [Extent::Full, Extent::Quick, Extent::Small] {
            for case in suites.steps(extent) {
                hf::parse_config(&replaced(&case).unwrap()).unwrap();
            }
            assert!(suites.compile(extent).iter().all(|m| config_of(m).is_ok()));
        }
    }
}
