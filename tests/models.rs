//! The golden models on the emulator, through the whole compiler: decode and prefill, f32 and bf16 activations, against
//! float64 logits of an independent implementation. (That the goldens notice a broken model is tested where they are
//! made.) Besides: what the emulator's counters say of a model whose weights dominate.

mod common;

use std::path::Path;

use common::{goldens, ids};
use tilewright::generate::{Request, generate, score, tolerance};
use tilewright::runtime::npy;
use tilewright::runtime::testing::nvrtc;
use tilewright::runtime::values::decode;
use tilewright::{Compiler, DType, DeviceSpec, Error, Phase, check};

fn reference(folder: &Path) -> Vec<f64> {
    let file = npy::read(&folder.join("logits.npy")).expect("reference logits");
    assert_eq!(file.dtype, npy::NpyType::Is(DType::F64), "the reference is float64");
    decode(DType::F64, &file.data)
}

/// The relative error of the logits of a golden.
fn error(folder: &Path, phase: Phase, activations: DType, device: &str, target: &str) -> Result<f64, Error> {
    let module = Compiler::model(folder)
        .target(Some(target.to_owned()))
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .phases(&[phase])
        .activations(activations)
        .compile()?;
    let scored = score(&module, &ids(folder), phase)?;
    let logits: Vec<f64> = scored.logits.iter().map(|&x| f64::from(x)).collect();
    assert!(
        phase == Phase::Prefill || scored.launches_per_layer <= 6,
        "{} launches",
        scored.launches_per_layer
    );
    Ok(check::relative_error(&logits, &reference(folder)))
}

fn all(phase: Phase, activations: DType) {
    all_on(phase, activations, "emulator");
}

fn all_on(phase: Phase, activations: DType, device: &str) {
    all_for(phase, activations, device, "sm_80");
}

fn all_for(phase: Phase, activations: DType, device: &str, target: &str) {
    nvrtc();
    let mut failures = Vec::new();
    for folder in goldens() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match error(&folder, phase, activations, device, target) {
            Ok(e) if e <= tolerance(activations) => {}
            Ok(e) => failures.push(format!("{name}: relative error {e:.2e}")),
            Err(e) => failures.push(format!("{name}: {e}")),
        }
    }
    assert!(failures.is_empty(), "{} {activations}:\n{}", phase.name(), failures.join("\n"));
}

/// No kernel of a model has a finding: races, undefined data, proxies and all the others, in the fast schedule and in
/// adversarial ones.
#[test]
fn goldens_run_clean_under_all_checks() {
    for phase in [Phase::Decode, Phase::Prefill] {
        for activations in [DType::F32, DType::Bf16] {
            all_on(phase, activations, "emulator:sanitize=all");
        }
        all_for(phase, DType::Bf16, "emulator:sanitize=all,seed=1", "sm_90a");
    }
}

#[test]
fn decode_in_f32() {
    all(Phase::Decode, DType::F32);
}

#[test]
fn decode_in_bf16() {
    all(Phase::Decode, DType::Bf16);
}

#[test]
fn prefill_in_f32() {
    all(Phase::Prefill, DType::F32);
}

#[test]
fn prefill_in_bf16() {
    all(Phase::Prefill, DType::Bf16);
}

#[test]
fn prefill_in_bf16_contracts_on_tensor_cores() {
    nvrtc();
    let folder = &goldens()[0];
    let module = Compiler::model(folder)
        .device(DeviceSpec::Emulator(None))
        .phases(&[Phase::Prefill])
        .compile()
        .expect("a golden compiles");
    let scored = score(&module, &ids(folder), Phase::Prefill).expect("a golden runs");
    assert!(
        scored.traffic.tensor_flops.get("bf16 x bf16 -> f32").copied().unwrap_or(0) > 0,
        "{:?}",
        scored.traffic
    );
}

#[test]
fn generation_agrees_with_the_evaluator_and_with_itself() {
    nvrtc();
    let folder = &goldens()[0];
    let compiler = || Compiler::model(folder).device(DeviceSpec::Emulator(None)).activations(DType::F32);
    let prompt = &ids(folder)[..5];
    let request = Request { prompt, tokens: 6, ignore_eos: true, check: true, sampling: None };
    let both = compiler().compile().expect("a golden compiles");
    let first = generate(&both, &request, |_| ()).expect("a golden runs");
    assert!(first.error.expect("it was checked") <= tolerance(DType::F32), "{:?}", first.error);
    assert_eq!(first.tokens.len(), 6);
    // A second run starts from an empty state; without prefill the prompt goes in token by token.
    assert_eq!(generate(&both, &request, |_| ()).expect("again").tokens, first.tokens);
    let alone = compiler().phases(&[Phase::Decode]).compile().expect("decode compiles");
    assert_eq!(generate(&alone, &request, |_| ()).expect("decode runs").tokens, first.tokens);
}

#[test]
fn texts_that_do_not_fit_are_refused() {
    nvrtc();
    let folder = &goldens()[0];
    let module = Compiler::model(folder)
        .device(DeviceSpec::Emulator(None))
        .phases(&[Phase::Decode])
        .max_context(Some(7))
        .compile()
        .expect("a golden compiles");
    let vocab = module.model().expect("a model").vocab;
    let message = |ids: &[u64]| {
        let error = score(&module, ids, Phase::Decode).expect_err("this does not fit");
        assert_eq!(error.exit_code(), 3, "{error}");
        error.to_string()
    };
    assert!(message(&[]).contains("no token ids"));
    assert!(message(&[0, vocab]).contains("position 1"));
    assert!(message(&[0; 8]).contains("context of 7"));
    assert!(score(&module, &[0; 7], Phase::Decode).is_ok());
    let request = Request { prompt: &[1, 2, 3], tokens: 6, ignore_eos: true, check: false, sampling: None };
    assert!(generate(&module, &request, |_| ()).is_err(), "the last token would need an eighth position");
    let request = Request { tokens: 5, ..request };
    assert!(generate(&module, &request, |_| ()).is_ok());
    let single = score(&module, &[1], Phase::Decode).expect("one token is a text");
    assert_eq!((single.cross_entropy, single.perplexity), (None, None));
}

#[test]
fn a_model_whose_weights_dominate_moves_little_else() {
    nvrtc();
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 264,
        "intermediate_size": 720, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
        "vocab_size": 1031, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
        "tie_word_embeddings": false, "hidden_act": "silu"}"#;
    let module = Compiler::config(config, 3)
        .device(DeviceSpec::Emulator(None))
        .phases(&[Phase::Decode])
        .compile()
        .expect("it compiles");
    let scored = score(&module, &[5, 700, 31], Phase::Decode).expect("it runs");
    let over = scored.traffic.over_floor().expect("the emulator counts");
    assert!((1.0..=1.10).contains(&over), "{over}");
    assert!(scored.launches_per_layer <= 6, "{}", scored.launches_per_layer);
}
