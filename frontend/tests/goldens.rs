//! Models of every family against logits that an independent implementation computed in true float64.

#![allow(clippy::print_stdout)]

mod common;

use std::path::Path;

use common::{Rng, golden_ids, goldens, npy, relative};
use tilewright_frontend::hf::{BuildOptions, Config, Phase, build_module, open_model, symbol_values};
use tilewright_frontend::weights::{Weights, elements};
use tilewright_ir::DType;
use tilewright_ir::eval::{Evaluator, F64, Rounded, Symbols, Tensor, bind_symbols};
use tilewright_ir::graph::Module;

/// Room for states: more than any golden has tokens, and no multiple of anything.
const CONTEXT: u64 = 29;

fn module(config: &Config, phase: Phase, batch: u64, activations: DType) -> Module {
    let options = BuildOptions { phase, batch, max_context: CONTEXT, activations };
    let module = build_module(config, &options).expect("builds");
    common::consistent(&module);
    module
}

fn symbols(module: &Module, past: usize, new: usize) -> Symbols {
    let values = symbol_values(module, past as u64, new as u64);
    let named: Vec<(&str, u64)> =
        values.iter().map(|(s, v)| (module.symbols[*s].name.as_str(), *v)).collect();
    bind_symbols(&module.symbols, &named).expect("in range")
}

fn source(weights: &dyn Weights) -> impl Fn(&str) -> Result<Vec<f64>, String> + '_ {
    |name| elements(weights, name).map_err(|e| e.to_string())
}

fn ids(rows: &[&[u64]]) -> Tensor<f64> {
    let data = rows.iter().flat_map(|r| r.iter().map(|&t| t as f64)).collect();
    Tensor::new(&[rows.len(), rows[0].len()], data).expect("a rectangle")
}

fn name(folder: &Path) -> &str {
    folder.file_name().and_then(|n| n.to_str()).expect("a name")
}

#[test]
fn prefill_agrees_with_the_reference() {
    for folder in goldens() {
        let (config, weights) = open_model(&folder).expect("opens");
        let (tokens, (_, want)) = (golden_ids(&folder), npy(&folder.join("logits.npy")));
        let m = module(&config, Phase::Prefill, 1, DType::F64);
        let mut e = Evaluator::new(F64, &m, source(&*weights));
        let got = e.run(&symbols(&m, 0, tokens.len()), &[("ids", ids(&[&tokens]))]).expect("runs");
        let error = relative(&got[0].data, &want);
        println!("{}: {error:.1e}", name(&folder));
        assert!(error < 1e-12, "{}: {error}", name(&folder));
    }
}

#[test]
fn decode_agrees_with_the_reference_token_by_token() {
    for folder in goldens() {
        let (config, weights) = open_model(&folder).expect("opens");
        let (tokens, (dims, want)) = (golden_ids(&folder), npy(&folder.join("logits.npy")));
        let m = module(&config, Phase::Decode, 1, DType::F64);
        let mut e = Evaluator::new(F64, &m, source(&*weights));
        let mut got = Vec::new();
        for (past, token) in tokens.iter().enumerate() {
            let out = e.run(&symbols(&m, past, 1), &[("ids", ids(&[&[*token]]))]).expect("runs");
            got.extend_from_slice(&out[0].data);
        }
        assert_eq!(got.len(), dims[0] * dims[1]);
        let error = relative(&got, &want);
        assert!(error < 1e-12, "{}: {error}", name(&folder));
    }
}

/// Two sequences at once, the second one shifted; and prefill in two pieces of random length.
#[test]
fn batches_and_continued_prefill_agree_with_the_reference() {
    let mut rng = Rng::fresh("pieces");
    for folder in goldens() {
        let (config, weights) = open_model(&folder).expect("opens");
        let (tokens, (dims, want)) = (golden_ids(&folder), npy(&folder.join("logits.npy")));
        let (n, vocab) = (tokens.len(), dims[1]);
        let m = module(&config, Phase::Prefill, 2, DType::F64);
        let mut e = Evaluator::new(F64, &m, source(&*weights));
        let other: Vec<u64> = tokens.iter().map(|t| (t + 1) % config.vocab).collect();
        let cut = 1 + rng.below(n - 1);
        let mut got = Vec::new();
        for range in [0..cut, cut..n] {
            let (past, new) = (range.start, range.len());
            let rows = ids(&[&other[range.clone()], &tokens[range]]);
            let out = e.run(&symbols(&m, past, new), &[("ids", rows)]).expect("runs");
            got.extend_from_slice(&out[0].data[new * vocab..]);
        }
        let error = relative(&got, &want);
        assert!(error < 1e-12, "{} cut at {cut}: {error}", name(&folder));
    }
}

/// The types in which values are declared to be stored cost no more than bf16 and f32 may.
#[test]
fn rounded_activations_stay_within_tolerance() {
    for folder in goldens() {
        let (config, weights) = open_model(&folder).expect("opens");
        let (tokens, (_, want)) = (golden_ids(&folder), npy(&folder.join("logits.npy")));
        for (activations, tolerance) in [(DType::F32, 1e-5), (DType::Bf16, 3e-2)] {
            let m = module(&config, Phase::Prefill, 1, activations);
            let mut e = Evaluator::new(Rounded, &m, source(&*weights));
            let got = e.run(&symbols(&m, 0, tokens.len()), &[("ids", ids(&[&tokens]))]).expect("runs");
            let error = relative(&got[0].data, &want);
            println!("{} {activations}: {error:.1e}", name(&folder));
            assert!(error < tolerance, "{} {activations}: {error}", name(&folder));
        }
    }
}

/// Without this, agreement would say little: each breakage moves the logits by ten times the tolerance.
#[test]
fn goldens_notice_breakages() {
    for folder in goldens() {
        let (_, want) = npy(&folder.join("logits.npy"));
        for (breakage, least) in [
            ("no_rope", 0.3),
            ("wrong_pairing", 0.3),
            ("uniform_softmax", 0.3),
            ("wrong_group", 0.3),
            ("mask_future", 1e-4),
            ("mask_window", 1e-4),
        ] {
            let file = folder.join(format!("broken_{breakage}.npy"));
            if breakage == "mask_window" && !file.is_file() {
                continue;
            }
            let moved = relative(&npy(&file).1, &want);
            assert!(moved >= least, "{}: {breakage} moves the logits by {moved} only", name(&folder));
        }
    }
}
