//! Tokens that the device chooses: the same in every mode, and those that the logits on the host lead to.

use std::path::Path;

use crate::common::goldens;
use tilewright::generate::{Conversation, Generated, Request, generate, score};
use tilewright::ir::random::uniform;
use tilewright::runtime::testing::nvrtc;
use tilewright::sample::{Choice, Sampling};
use tilewright::spec::Mode;
use tilewright::{Compiler, DeviceSpec, Module, Phase};

const PROMPT: [u64; 3] = [3, 9, 4];
const TOKENS: u64 = 9;

fn module(folder: &Path, choice: Option<Choice>, device: &str, mode: Mode, per_launch: u32) -> Module {
    Compiler::model(folder)
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .mode(mode)
        .tokens_per_launch(per_launch)
        .choice(choice)
        .last_logits(true)
        .compile()
        .expect("a golden compiles")
}

fn tokens(module: &Module, sampling: Option<Sampling>, check: bool) -> Generated {
    let request = Request { prompt: &PROMPT, tokens: TOKENS, ignore_eos: true, check, sampling };
    generate(module, &request, |_| ()).expect("it generates")
}

/// All ways to put a step on the device.
const WAYS: [(&str, Mode, u32); 4] = [
    ("emulator:tiny3,sanitize=all", Mode::Launch, 1),
    ("emulator:tiny3,sanitize=all", Mode::Graph, 1),
    ("emulator:tiny3,sanitize=all", Mode::Megakernel, 1),
    ("emulator:tiny8,sanitize=all,seed=3", Mode::Megakernel, 4),
];

#[test]
fn the_most_likely_token_is_that_of_the_host() {
    nvrtc();
    for folder in goldens().iter().step_by(3) {
        // With a check the host chooses, and the logits of each step are compared with the evaluator's.
        let checked = tokens(&module(folder, None, "emulator", Mode::Launch, 1), None, true);
        assert!(checked.error.is_some_and(|e| e < 3e-2), "{}: {:?}", folder.display(), checked.error);
        let host = checked.tokens;
        for (device, mode, per_launch) in WAYS {
            let m = module(folder, Some(Choice::Greedy), device, mode, per_launch);
            assert_eq!(tokens(&m, None, false).tokens, host, "{} {mode:?} {per_launch}", folder.display());
        }
    }
}

/// How far the score of a token is below the best, of logits at a position; infinite for one that is filtered.
fn regret(row: &[f32], s: &Sampling, position: u64, token: u64) -> f64 {
    let z: Vec<f64> = row.iter().map(|&x| f64::from(x) / f64::from(s.temperature)).collect();
    let mut order: Vec<usize> = (0..z.len()).collect();
    order.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
    // A little more than what is kept: thresholds are not exact.
    let slack = 1e-4;
    if let Some(k) = s.top_k {
        let least = z[order[(k as usize).min(z.len()) - 1]] - slack;
        order.retain(|&t| z[t] >= least);
    }
    if let Some(p) = s.top_p {
        let weight = |t: usize| (z[t] - z[order[0]]).exp();
        let all: f64 = order.iter().map(|&t| weight(t)).sum();
        let mut sum = 0.0;
        let last = order.iter().position(|&t| {
            sum += weight(t);
            sum >= (f64::from(p) + slack) * all
        });
        let least = z[order[last.unwrap_or(order.len() - 1)]] - slack;
        order.retain(|&t| z[t] >= least);
    }
    let score = |t: usize| {
        let counter = (position << 20) as i64 + t as i64;
        let u = f64::from(uniform(s.seed as i64, counter));
        z[t] - (-(-u).ln_1p()).ln()
    };
    let best = order.iter().map(|&t| score(t)).fold(f64::NEG_INFINITY, f64::max);
    if order.contains(&(token as usize)) { best - score(token as usize) } else { f64::INFINITY }
}

#[test]
fn chance_is_the_same_in_every_mode_and_follows_the_logits() {
    nvrtc();
    let folder = &goldens()[1];
    for (top_k, top_p) in [(None, None), (Some(4), Some(0.8))] {
        let sampling = Sampling { temperature: 1.5, top_k, top_p, seed: 11 };
        let choice = Some(sampling.choice());
        let mut all = Vec::new();
        for (device, mode, per_launch) in WAYS {
            let found =
                tokens(&module(folder, choice, device, mode, per_launch), Some(sampling), false).tokens;
            assert_eq!(found.len() as u64, TOKENS);
            all.push(found);
        }
        for (found, way) in all.iter().zip(WAYS) {
            assert_eq!(*found, all[0], "{way:?}");
        }
        let plain = module(folder, None, "emulator", Mode::Launch, 1);
        let mut conversation = Conversation::new(&plain).expect("a model");
        let mut text = PROMPT.to_vec();
        for &token in &all[0] {
            let fed = usize::try_from(conversation.past()).expect("a length");
            let logits = conversation.feed(&text[fed..], Phase::Decode).expect("it runs");
            let vocab = plain.model().expect("a model").vocab as usize;
            let below = regret(&logits[logits.len() - vocab..], &sampling, text.len() as u64, token);
            assert!(below < 0.01, "token {token} after {text:?} is {below} below the best");
            text.push(token);
        }
        // Another seed says something else.
        let other = Sampling { seed: 12, ..sampling };
        let m = module(folder, choice, "emulator", Mode::Graph, 1);
        let found = tokens(&m, Some(other), false).tokens;
        assert!(top_k.is_some() || found != all[0], "two seeds say the same");
        // The same module, the same seed, the same tokens.
        assert_eq!(tokens(&m, Some(sampling), false).tokens, all[0]);
    }
}

/// A copy of a model in which one weight of the output is no number: one logit is none, whatever the text.
fn spoiled(folder: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(folder).expect("a golden") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, dir.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let file = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&file).expect("weights");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let output = ["lm_head.weight", "model.embed_tokens.weight"].iter().find_map(|n| header.get(n));
    let output = output.expect("an output");
    let start = 8 + length + output["data_offsets"][0].as_u64().expect("a number") as usize;
    let row = output["shape"][1].as_u64().expect("a number") as usize;
    // The fourth row; token 3 is not in the prompt.
    match output["dtype"].as_str() {
        Some("F32") => bytes[start + 12 * row..][..4].copy_from_slice(&f32::NAN.to_le_bytes()),
        Some("BF16" | "F16") => bytes[start + 6 * row..][..2].copy_from_slice(&0x7fff_u16.to_le_bytes()),
        other => panic!("weights of {other:?}"),
    }
    std::fs::write(&file, bytes).expect("writes");
    dir
}

#[test]
fn one_logit_that_is_no_number_is_an_error() {
    nvrtc();
    let dir = spoiled(&goldens()[0]);
    let sampling = Sampling { temperature: 1.0, top_k: Some(3), top_p: None, seed: 1 };
    for (device, mode, per_launch) in WAYS {
        for sampling in [None, Some(sampling)] {
            let choice = Some(sampling.map_or(Choice::Greedy, |s| s.choice()));
            let m = Compiler::model(dir.path())
                .device(device.parse::<DeviceSpec>().expect("a device"))
                .phases(&[Phase::Decode])
                .mode(mode)
                .tokens_per_launch(per_launch)
                .choice(choice)
                .compile()
                .expect("it compiles");
            // One token: nothing is chosen on the host.
            let request = Request { prompt: &[9], tokens: 3, ignore_eos: true, check: false, sampling };
            let error = generate(&m, &request, |_| ()).expect_err("a logit is no number");
            assert!(error.to_string().contains("is not a number"), "{mode:?} {sampling:?}: {error}");
        }
    }
}

#[test]
fn a_text_is_not_scored_by_the_logits_of_its_end() {
    nvrtc();
    let m = module(&goldens()[0], None, "emulator", Mode::Launch, 1);
    let error = score(&m, &PROMPT, Phase::Prefill).expect_err("there is one row of logits");
    assert!(error.to_string().contains("cannot score"), "{error}");
}

#[test]
fn a_module_that_was_not_compiled_for_chance_says_so() {
    nvrtc();
    let sampling = Sampling { temperature: 1.0, top_k: None, top_p: None, seed: 0 };
    let m = module(&goldens()[0], Some(Choice::Greedy), "emulator", Mode::Launch, 1);
    let request =
        Request { prompt: &PROMPT, tokens: 2, ignore_eos: true, check: false, sampling: Some(sampling) };
    let error = generate(&m, &request, |_| ()).expect_err("it was compiled for something else");
    assert!(error.to_string().contains("compile the decode phase"), "{error}");
}
