//! Prefill for the fewest bytes: a layer is one launch that computes keys and values again instead of waiting for them. What
//! it gives is what an independent implementation gives, and the emulator counts what had to move.

use std::path::Path;

use crate::common::{goldens, ids};
use tilewright::frontend::hf::lengths;
use tilewright::generate::{Conversation, tolerance};
use tilewright::passes::{Objective, Options};
use tilewright::runtime::npy;
use tilewright::runtime::testing::nvrtc;
use tilewright::runtime::values::decode;
use tilewright::{Compiler, DType, DeviceSpec, Module, Phase, check};

fn compiled(compiler: Compiler, device: &str) -> Module {
    compiler
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Prefill])
        .pass_options(Options { objective: Objective::Traffic, ..Options::default() })
        .compile()
        .expect("compiles")
}

/// The launches of the layers, and how many layers there are.
fn launches(module: &Module) -> usize {
    let step = &module.phases()[0].planned.compiled.step;
    let of_layers = |g: &std::ops::Range<usize>| step.launches[g.start].kernel.starts_with("layer");
    step.groups().iter().filter(|g| of_layers(g)).count()
}

/// The golden text in pieces, one after the other, in a batch of so many sequences that are cut at different places.
fn pieces(folder: &Path, activations: DType, batch: usize, device: &str, target: &str) {
    let text = ids(folder);
    let reference = npy::read(&folder.join("logits.npy")).expect("reference logits");
    let expected = decode(DType::F64, &reference.data);
    let (n, vocab) = (text.len(), expected.len() / text.len());
    let compiler = Compiler::model(folder)
        .activations(activations)
        .target(Some(target.to_owned()))
        .batch(batch as u64)
        .max_context(Some(n as u64));
    let module = compiled(compiler, device);
    let layers = module.model().expect("a model").layers as usize;
    assert_eq!(launches(&module), layers, "{}", folder.display());
    let mut conversation = Conversation::new(&module).expect("a model");
    let ends = [[n / 2, n / 2 + 1, n], [1, n - 2, n]];
    for round in 0..3 {
        let past: Vec<usize> = conversation.lengths().iter().map(|&p| p as usize).collect();
        let rows: Vec<&[u64]> = past.iter().zip(&ends).map(|(&p, ends)| &text[p..ends[round]]).collect();
        let logits = conversation.feed_all(&rows, Phase::Prefill).expect("runs");
        for ((found, row), from) in logits.iter().zip(&rows).zip(past) {
            let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
            let error = check::relative_error(&found, &expected[from * vocab..(from + row.len()) * vocab]);
            let what = format!("{} in {activations}, {} after {from}", folder.display(), row.len());
            assert!(error <= tolerance(activations), "{what}: {error:.2e}");
        }
    }
}

#[test]
fn goldens_in_one_launch_a_layer() {
    nvrtc();
    for (n, folder) in goldens().iter().enumerate() {
        let (activations, batch) = if n % 2 == 0 { (DType::F32, 1) } else { (DType::Bf16, 2) };
        pieces(folder, activations, batch, "emulator", "sm_80");
    }
}

/// Nothing is read while it is written, whatever comes first.
#[test]
fn one_launch_a_layer_runs_clean_under_all_checks() {
    nvrtc();
    for (n, folder) in goldens().iter().step_by(5).enumerate() {
        match n % 2 {
            0 => pieces(folder, DType::Bf16, 2, "emulator:sanitize=all", "sm_80"),
            _ => pieces(folder, DType::F32, 1, "emulator:sanitize=all,seed=1", "sm_90a"),
        }
    }
}

/// Two layers of the proportions of Llama-3.1-8B at 4,096 tokens, all of them 32 times smaller.
#[test]
fn the_emulator_counts_what_a_layer_must_move() {
    nvrtc();
    let (c, f, kv, seq, vocab) = (128u64, 448u64, 32u64, 128u64, 32u64);
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 128, "intermediate_size": 448, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": 32,
        "max_position_embeddings": 256, "tie_word_embeddings": false}"#;
    let module = compiled(Compiler::config(config, 7).max_context(Some(256)), "emulator");
    let executable = module.executable("prefill").expect("prefill");
    let graph = &module.phases()[0].planned.graph;
    for past in [0, seq] {
        let known = lengths(graph, &[(past, seq)]);
        let symbols: Vec<(&str, i64)> =
            known.symbols.iter().map(|&(s, v)| (graph.symbols[s].name.as_str(), v as i64)).collect();
        let tokens: Vec<u8> = (0..seq).flat_map(|n| ((n * 7 % vocab) as i32).to_le_bytes()).collect();
        let result = executable.run(&symbols, &[("ids", &tokens[..])]).expect("runs");
        let weights = 2 * (2 * c * c + 2 * c * kv + 3 * c * f + 2 * c);
        // What is kept is written, and what was kept before is read.
        let floor = weights + 2 * (2 * seq * c + 2 * (past + seq) * kv) + (past + seq) * 8 * 4 * 4;
        let mut layers = 0;
        for launch in result.launches.iter().filter(|l| l.kernel.starts_with("layer")) {
            let counters = launch.counters.as_ref().expect("the emulator counts");
            let sectors: u64 =
                counters.buffers.values().map(|b| b.unique_read_sectors + b.unique_written_sectors).sum();
            let over = (32 * sectors) as f64 / floor as f64;
            assert!((1.0..=1.05).contains(&over), "after {past}: {over}");
            layers += 1;
        }
        assert_eq!(layers, 2);
    }
}
