//! Batches of sequences with different lengths: each gets what it gets alone, in every mode, under all checks.

mod common;

use std::path::Path;

use common::{goldens, ids};
use tilewright::generate::{Conversation, Request, Requests, generate, generate_all, tolerance};
use tilewright::runtime::npy;
use tilewright::runtime::testing::nvrtc;
use tilewright::runtime::values::decode;
use tilewright::sample::{Choice, Sampling};
use tilewright::spec::Mode;
use tilewright::{Compiler, DType, DeviceSpec, Module, Phase, check};

fn compiler(folder: &Path, device: &str, batch: usize) -> Compiler {
    Compiler::model(folder).device(device.parse::<DeviceSpec>().expect("a device")).batch(batch as u64)
}

/// The reference's logits after each token of the golden text.
fn reference(folder: &Path) -> Vec<f64> {
    decode(DType::F64, &npy::read(&folder.join("logits.npy")).expect("reference logits").data)
}

/// The error of rows of logits of a sequence, which follow token `from`.
fn error(found: &[f32], expected: &[f64], from: usize) -> f64 {
    let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
    check::relative_error(&found, &expected[from..from + found.len()])
}

/// Pieces of the golden text of different lengths in one batch, and after those other pieces: a sequence without tokens at
/// first, one that ends where the context does, and others between them.
fn pieces(folder: &Path, phases: &[Phase], device: &str, activations: DType, target: &str) {
    let (text, expected) = (ids(folder), reference(folder));
    let n = text.len();
    let vocab = expected.len() / n;
    let module = compiler(folder, device, 4)
        .phases(phases)
        .activations(activations)
        .target(Some(target.to_owned()))
        .max_context(Some(n as u64))
        .compile()
        .expect("a golden compiles");
    let mut conversation = Conversation::new(&module).expect("a model");
    let ends = [[0, n - 2, n - 1], [1, 2, n], [n / 2, n / 2, n / 2 + 1], [n - 1, n, n]];
    for round in 0..3 {
        let past: Vec<usize> = conversation.lengths().iter().map(|&p| p as usize).collect();
        let rows: Vec<&[u64]> = past.iter().zip(ends).map(|(&p, ends)| &text[p..ends[round]]).collect();
        let longest = rows.iter().map(|r| r.len()).max().unwrap_or(0);
        let phase = if phases.len() > 1 && longest < 3 { Phase::Decode } else { phases[0] };
        let logits = conversation.feed_all(&rows, phase).expect("it runs");
        for (s, (found, row)) in logits.iter().zip(&rows).enumerate() {
            assert_eq!(found.len(), row.len() * vocab);
            let error = if row.is_empty() { 0.0 } else { error(found, &expected, past[s] * vocab) };
            assert!(
                error <= tolerance(activations),
                "{} {activations}: {} tokens of sequence {s} after {past:?}: {error:.2e}",
                folder.display(),
                row.len()
            );
        }
    }
    let full = conversation.lengths().to_vec();
    assert_eq!(full, [n as u64 - 1, n as u64, n as u64 / 2 + 1, n as u64]);
    // Beyond the context is an error before anything runs, and leaves everything as it is.
    let launches = conversation.traffic.launches;
    for phase in phases {
        let refused = conversation.feed_all(&[&text[..1], &[], &text[..1], &text[..1]], *phase);
        let refused = refused.expect_err("there is no room");
        assert_eq!(refused.exit_code(), 3);
        assert!(
            refused.to_string().contains("sequence 4") && refused.to_string().contains("context"),
            "{refused}"
        );
    }
    assert_eq!((conversation.traffic.launches, conversation.lengths()), (launches, &full[..]));
}

#[test]
fn goldens_of_different_lengths_agree_with_the_reference() {
    nvrtc();
    for (n, folder) in goldens().iter().enumerate() {
        let (activations, target) =
            [(DType::F32, "sm_80"), (DType::Bf16, "sm_80"), (DType::Bf16, "sm_90a")][n % 3];
        pieces(folder, &[Phase::Prefill, Phase::Decode], "emulator", activations, target);
    }
}

#[test]
fn different_lengths_run_clean_under_all_checks() {
    nvrtc();
    for (n, folder) in goldens().iter().enumerate().skip(1).step_by(3) {
        let device = format!("emulator:sanitize=all,seed={n}");
        let (activations, target) = [(DType::Bf16, "sm_90a"), (DType::F32, "sm_80")][n % 2];
        pieces(folder, &[Phase::Prefill, Phase::Decode], &device, activations, target);
        pieces(folder, &[Phase::Decode], "emulator:sanitize=all", activations, target);
    }
}

const PROMPTS: [&[u64]; 3] = [&[3, 9, 4, 1, 7], &[5], &[8, 2, 6]];
const TOKENS: u64 = 9;

/// All ways to put a step on the device.
const WAYS: [(&str, Mode, u32); 5] = [
    ("emulator:tiny3,sanitize=all", Mode::Launch, 1),
    ("emulator:tiny3,sanitize=all", Mode::Graph, 1),
    ("emulator:tiny3,sanitize=all", Mode::Megakernel, 1),
    ("emulator:tiny8,sanitize=all,seed=3", Mode::Megakernel, 4),
    ("emulator:tiny1,sanitize=all", Mode::Megakernel, 16),
];

fn module(folder: &Path, way: (&str, Mode, u32), choice: Choice, batch: usize) -> Module {
    compiler(folder, way.0, batch)
        .mode(way.1)
        .tokens_per_launch(way.2)
        .choice(Some(choice))
        .last_logits(true)
        .compile()
        .expect("a golden compiles")
}

fn all(module: &Module, ignore_eos: bool, sampling: Option<Sampling>) -> Vec<Vec<u64>> {
    let request = Requests { prompts: &PROMPTS, tokens: TOKENS, ignore_eos, check: false, sampling };
    let mut told = vec![Vec::new(); PROMPTS.len()];
    let made = generate_all(module, &request, |n, id| told[n].push(id)).expect("it generates");
    assert_eq!(made.tokens, told);
    made.tokens
}

#[test]
fn each_sequence_says_what_it_says_alone() {
    nvrtc();
    for folder in goldens().iter().step_by(5) {
        let alone = module(folder, ("emulator", Mode::Launch, 1), Choice::Greedy, 1);
        let expected = PROMPTS.map(|prompt| {
            let request = Request { prompt, tokens: TOKENS, ignore_eos: true, check: false, sampling: None };
            generate(&alone, &request, |_| ()).expect("it generates").tokens
        });
        for way in WAYS {
            let found = all(&module(folder, way, Choice::Greedy, PROMPTS.len()), true, None);
            assert_eq!(found, expected, "{} {way:?}", folder.display());
        }
    }
}

#[test]
fn chance_is_the_same_in_every_mode() {
    nvrtc();
    let sampling = Sampling { temperature: 1.5, top_k: Some(9), top_p: None, seed: 11 };
    let folder = &goldens()[1];
    let found =
        WAYS.map(|way| all(&module(folder, way, sampling.choice(), PROMPTS.len()), true, Some(sampling)));
    for (tokens, way) in found.iter().zip(WAYS) {
        assert_eq!(*tokens, found[0], "{way:?}");
    }
    // The first sequence is that of a batch of one, with the same chance; another one has its own.
    let alone = module(folder, ("emulator", Mode::Launch, 1), sampling.choice(), 1);
    let says = |prompt| {
        let request =
            Request { prompt, tokens: TOKENS, ignore_eos: true, check: false, sampling: Some(sampling) };
        generate(&alone, &request, |_| ()).expect("it generates").tokens
    };
    assert_eq!(says(PROMPTS[0]), found[0][0]);
    assert_ne!(says(PROMPTS[2]), found[0][2], "two sequences have the same chance");
}

/// A copy of a model that ends its texts with a token.
fn ending_with(folder: &Path, token: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(folder).expect("a golden") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, dir.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    let file = dir.path().join("config.json");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["eos_token_id"] = token.into();
    std::fs::write(&file, config.to_string()).expect("writes");
    let _ = std::fs::remove_file(dir.path().join("generation_config.json"));
    dir
}

#[test]
fn a_sequence_that_ends_stays_as_it_is_while_others_go_on() {
    nvrtc();
    let folder = &goldens()[3];
    let whole = all(&module(folder, WAYS[0], Choice::Greedy, PROMPTS.len()), true, None);
    // A token that ends some of them, at different places.
    let end = |t: u64| whole.iter().map(|all| all.iter().position(|&x| x == t)).collect::<Vec<_>>();
    let several = |t: &u64| {
        let ends = end(*t);
        ends.iter().any(|e| e.is_some_and(|at| at > 0 && at + 3 < TOKENS as usize))
            && ends.iter().any(|e| *e != ends[0])
    };
    let token = whole.iter().flatten().copied().find(several).expect("texts that differ");
    let expected: Vec<Vec<u64>> = whole
        .iter()
        .zip(end(token))
        .map(|(all, end)| all[..end.map_or(all.len(), |at| at + 1)].to_vec())
        .collect();
    let dir = ending_with(folder, token);
    for way in WAYS {
        let m = module(dir.path(), way, Choice::Greedy, PROMPTS.len());
        assert_eq!(all(&m, false, None), expected, "{way:?} with {token} at the end");
        assert_eq!(all(&m, true, None), whole, "{way:?}");
    }
}

#[test]
fn a_sequence_that_sits_out_changes_nothing() {
    nvrtc();
    for way in WAYS {
        let m = module(&goldens()[0], way, Choice::Greedy, PROMPTS.len());
        if m.tokens_per_launch().is_none() {
            continue;
        }
        let mut c = Conversation::new(&m).expect("a model");
        c.feed_all(&PROMPTS, Phase::Prefill).expect("it runs");
        let both = c.go_on_all(&[Some(1), None, Some(2)], 3, &[], None).expect("it goes on");
        assert_eq!((both[0].len(), both[1].len(), both[2].len()), (3, 0, 3), "{way:?}");
        assert_eq!(c.lengths(), [8, 1, 6]);
        let late = c.go_on_all(&[None, Some(4), None], 4, &[], None).expect("it goes on");
        let mut c = Conversation::new(&m).expect("a model");
        c.feed_all(&PROMPTS, Phase::Prefill).expect("it runs");
        let first = c.go_on_all(&[None, Some(4), None], 4, &[], None).expect("it goes on");
        assert_eq!(first, late, "{way:?}");
        let again = c.go_on_all(&[Some(1), None, Some(2)], 3, &[], None).expect("it goes on");
        assert_eq!(again, both, "{way:?}");
    }
}

#[test]
fn as_many_prompts_as_sequences() {
    nvrtc();
    let m = module(&goldens()[0], ("emulator", Mode::Launch, 1), Choice::Greedy, 2);
    let request = Requests { prompts: &PROMPTS, tokens: 2, ignore_eos: true, check: false, sampling: None };
    let error = generate_all(&m, &request, |_, _| ()).expect_err("one too many");
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("batch of 2"), "{error}");
    let request = Requests { prompts: &[&[1], &[1, 100_000]], ..request };
    let error = generate_all(&m, &request, |_, _| ()).expect_err("no such token");
    assert!(error.to_string().contains("sequence 2") && error.to_string().contains("position 1"), "{error}");
    let error = Conversation::new(&m).expect("a model").feed(&[1], Phase::Decode).expect_err("one of two");
    assert_eq!(error.exit_code(), 5);
}

/// The logits of a check are those of the evaluator, sequence by sequence.
#[test]
fn a_check_looks_at_every_sequence() {
    nvrtc();
    let m = compiler(&goldens()[2], "emulator", PROMPTS.len())
        .activations(DType::F32)
        .compile()
        .expect("compiles");
    let request = Requests { prompts: &PROMPTS, tokens: 4, ignore_eos: true, check: true, sampling: None };
    let found = generate_all(&m, &request, |_, _| ()).expect("it generates");
    assert!(found.error.is_some_and(|e| e <= tolerance(DType::F32)), "{:?}", found.error);
}
