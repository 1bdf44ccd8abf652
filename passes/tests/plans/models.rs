//! Compiled models against logits that an independent implementation computed in true float64: the tile programs of the
//! whole step are interpreted in f64, so that what is left of a difference is a mistake of the passes.

use std::path::{Path, PathBuf};

use crate::steps::{Runner, given};
use tilewright_frontend::hf::{BuildOptions, Phase, build_module, open_model};
use tilewright_frontend::weights::elements;
use tilewright_ir::eval::{Evaluator, F64, Tensor};
use tilewright_ir::plan::LocalDef;
use tilewright_ir::{DType, Extent};
use tilewright_passes::{Options, compile_module};

/// Room for states: no multiple of anything.
const CONTEXT: u64 = 29;

fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens");
    let mut all: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("goldens")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.join("golden.json").exists())
        .collect();
    all.sort();
    all
}

/// A float64 or float32 .npy file.
fn npy(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).expect("npy");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).to_string();
    let data = &bytes[header..];
    if text.contains("<f8") {
        data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().expect("eight"))).collect()
    } else {
        assert!(text.contains("<f4"), "{text}");
        data.chunks_exact(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().expect("four")))).collect()
    }
}

fn check(folder: &Path, phase: Phase, batch: u64) {
    let (config, weights) = open_model(folder).expect("opens");
    let golden: String = std::fs::read_to_string(folder.join("golden.json")).expect("golden");
    let from = golden.find("\"ids\"").expect("ids");
    let list = &golden[from..];
    let list = &list[list.find('[').expect("a list") + 1..list.find(']').expect("an end")];
    let tokens: Vec<u64> = list.split(',').map(|t| t.trim().parse().expect("an id")).collect();
    let want = npy(&folder.join("logits.npy"));
    let options = BuildOptions { phase, batch, max_context: CONTEXT, activations: DType::F32 };
    let module = build_module(&config, &options).expect("builds");
    let compiled = compile_module(&module, &Options::default()).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let vocab = want.len() / tokens.len();
    // The sequence under test is the last of its batch; the others hold other tokens, more and fewer of them.
    let other: Vec<u64> = tokens.iter().map(|t| (t + 1) % config.vocab).collect();
    let pieces: Vec<&[u64]> =
        if phase == Phase::Prefill { vec![&tokens[..]] } else { tokens.chunks(1).collect() };
    let mut past = vec![0; batch as usize];
    let first = given(&module, &past, &vec![&other[..1]; past.len()]);
    let mut runner = Runner::new(&compiled, &*weights, &first.0);
    // The others come first, and further.
    let (room, others) = (CONTEXT as usize - tokens.len(), batch as usize - 1);
    for n in (0..others).filter(|_| phase == Phase::Decode) {
        for _ in 0..(n * 5).min(room) {
            let mut rows: Vec<&[u64]> = vec![&[]; batch as usize];
            rows[n] = &other[..1];
            let (symbols, inputs) = given(&module, &past, &rows);
            runner.run(&symbols, &inputs);
            past[n] += 1;
        }
    }
    let mut got = Vec::new();
    for piece in pieces {
        let fewer = piece.len().div_ceil(2);
        let mut rows: Vec<&[u64]> =
            (0..others).map(|n| &other[..if n == 0 { fewer } else { piece.len() }]).collect();
        rows.push(piece);
        let (symbols, inputs) = given(&module, &past, &rows);
        let out = runner.run(&symbols, &inputs);
        past.iter_mut().zip(&rows).for_each(|(past, row)| *past += row.len());
        got.extend_from_slice(&out[out.len() - piece.len() * vocab..]);
    }
    let diff: f64 = got.iter().zip(&want).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = want.iter().map(|b| b * b).sum();
    let error = (diff / norm).sqrt();
    println!("{}: {error:.1e}, {} launches", folder.display(), compiled.step.launches.len());
    assert!(error < 1e-9, "{}: {error}", folder.display());
}

/// A model that is too wide for resident rows, against the evaluator of its graph.
#[test]
fn wide_model_agrees_with_its_graph() {
    let text = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":288,"intermediate_size":331,
        "num_attention_heads":6,"num_key_value_heads":3,"head_dim":48,"num_hidden_layers":1,"vocab_size":601,
        "max_position_embeddings":256,"rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,
        "hidden_act":"silu"}"#;
    let config = tilewright_frontend::hf::parse_config(text).expect("config");
    let weights = tilewright_frontend::weights::RandomWeights::new(
        7,
        tilewright_frontend::hf::expected_tensors(&config),
    );
    let tokens: Vec<u64> = (0..24).map(|n| (n * 7919) % 601).collect();
    for phase in [Phase::Prefill, Phase::Decode] {
        let options = BuildOptions { phase, batch: 1, max_context: CONTEXT, activations: DType::F32 };
        let module = build_module(&config, &options).expect("builds");
        let compiled = compile_module(&module, &Options::default()).expect("compiles");
        let mut graph =
            Evaluator::new(F64, &module, |name: &str| elements(&weights, name).map_err(|e| e.to_string()));
        let pieces: Vec<&[u64]> =
            if phase == Phase::Prefill { vec![&tokens[..]] } else { tokens.chunks(1).collect() };
        let mut runner = Runner::new(&compiled, &weights, &given(&module, &[0], &pieces[..1]).0);
        let mut past = 0;
        for piece in pieces {
            let (s, inputs) = given(&module, &[past], &[piece]);
            let ids = Tensor::new(&[1, piece.len()], piece.iter().map(|&t| t as f64).collect()).expect("ids");
            let want = graph.run(&s, &[("ids", ids)]).expect("runs");
            let got = runner.run(&s, &inputs);
            let diff: f64 = got.iter().zip(&want[0].data).map(|(a, b)| (a - b) * (a - b)).sum();
            let norm: f64 = want[0].data.iter().map(|b| b * b).sum();
            let error = (diff / norm).sqrt();
            assert!(error < 1e-9, "{phase:?} after {past}: {error}");
            past += piece.len();
        }
    }
}

#[test]
fn prefill() {
    goldens().iter().for_each(|g| check(g, Phase::Prefill, 1));
}

#[test]
fn decode() {
    goldens().iter().for_each(|g| check(g, Phase::Decode, 1));
}

#[test]
fn batches() {
    for (g, batch) in goldens().iter().step_by(3).zip([2, 3, 2, 5]) {
        check(g, Phase::Prefill, batch);
        check(g, Phase::Decode, batch);
    }
}

/// Plans of published configurations: nothing that spans the context is stored but the states, and a layer is few kernels.
#[test]
fn published_models_store_no_scores() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    let mut seen = 0;
    for entry in std::fs::read_dir(root).expect("models") {
        let config = tilewright_frontend::hf::load_config(&entry.expect("an entry").path()).expect("config");
        seen += 1;
        for phase in [Phase::Decode, Phase::Prefill] {
            let options = BuildOptions { phase, batch: 1, max_context: 4096, activations: DType::Bf16 };
            let mut module = build_module(&config, &options).expect("builds");
            for f in module.functions.values_mut() {
                f.options.insert("activations".into(), "bf16".into());
            }
            let compiled = compile_module(&module, &Options::default()).expect("compiles");
            let spans_context = |e: Extent| matches!(e, Extent::Sym(s) if module.symbols[s].name == "kv");
            for (_, plan) in &compiled.plans {
                for store in plan.kernels.iter().flat_map(|k| &k.stores) {
                    let axes = &plan.values[store.value].axes;
                    assert!(
                        !axes.iter().any(|&a| spans_context(plan.axes[a].extent)),
                        "@{} stores a value over the context",
                        plan.name
                    );
                }
                let names: Vec<&str> = plan.kernels.iter().map(|k| k.name.as_str()).collect();
                let cut = plan.kernels.iter().filter(|k| k.runs.is_some()).count();
                assert!(names.len() - cut <= 8, "{phase:?}: {names:?}");
                // One query attends by one pass over the context, cut into runs.
                let runs = plan
                    .kernels
                    .iter()
                    .filter(|k| k.runs.is_some_and(|r| spans_context(plan.axes[r.axis].extent)))
                    .count();
                let attends = plan.kernels.iter().flat_map(|k| k.locals.values()).any(
                    |l| matches!(l.def, LocalDef::Fold { axis, .. } if spans_context(plan.axes[axis].extent)),
                );
                assert!(
                    phase == Phase::Prefill || !attends || runs == 1,
                    "@{}: {runs} passes in runs",
                    plan.name
                );
            }
            for (name, summary) in &compiled.searches {
                assert!(summary.nodes <= 5000, "{name}: {summary:?}");
            }
        }
    }
    assert_eq!(seen, 7);
}
