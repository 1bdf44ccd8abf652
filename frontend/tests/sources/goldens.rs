//! Models of every family against logits that an independent implementation computed in true float64.

use std::path::Path;

use crate::common::{self, Rng, golden_ids, goldens, npy, relative};
use tilewright_frontend::hf::{BuildOptions, Config, Phase, build_module, lengths, open_model};
use tilewright_frontend::weights::{Weights, elements};
use tilewright_ir::eval::{Domain, Evaluator, F64, Rounded, Symbols, Tensor, bind_symbols};
use tilewright_ir::expr::Num;
use tilewright_ir::graph::{Def, Module};
use tilewright_ir::{Binary, DType, Ex, Expr, Sym};

/// Room for states: more than any golden has tokens, and no multiple of anything.
const CONTEXT: u64 = 29;

fn module(config: &Config, phase: Phase, batch: u64, activations: DType) -> Module {
    let options = BuildOptions { phase, batch, max_context: CONTEXT, activations };
    let module = build_module(config, &options).expect("builds");
    common::consistent(&module);
    module
}

/// Runs once, on sequences that have so many tokens; gives the logits.
fn run<D: Domain<T = f64>>(
    e: &mut Evaluator<'_, D>,
    m: &Module,
    past: &[usize],
    rows: &[&[u64]],
) -> Vec<f64> {
    let both: Vec<(u64, u64)> =
        past.iter().zip(rows).map(|(&past, row)| (past as u64, row.len() as u64)).collect();
    let known = lengths(m, &both);
    let mut inputs = vec![("ids", ids(rows))];
    inputs.extend(known.inputs.iter().map(|(name, values)| {
        let data = values.iter().map(|&n| n as f64).collect();
        (*name, Tensor::new(&[values.len()], data).expect("one per sequence"))
    }));
    e.run(&bound(m, &known.symbols), &inputs).expect("runs").remove(0).data
}

fn bound(module: &Module, values: &[(Sym, u64)]) -> Symbols {
    let named: Vec<(&str, u64)> =
        values.iter().map(|(s, v)| (module.symbols[*s].name.as_str(), *v)).collect();
    bind_symbols(&module.symbols, &named).expect("in range")
}

fn source(weights: &dyn Weights) -> impl Fn(&str) -> Result<Vec<f64>, String> + '_ {
    |name| elements(weights, name).map_err(|e| e.to_string())
}

/// Rows are padded to the longest.
fn ids(rows: &[&[u64]]) -> Tensor<f64> {
    let wide = rows.iter().map(|r| r.len()).max().unwrap_or(0).max(1);
    let padded = |r: &&[u64]| (0..wide).map(|n| r.get(n).map_or(1.0, |&t| t as f64)).collect::<Vec<_>>();
    Tensor::new(&[rows.len(), wide], rows.iter().flat_map(padded).collect()).expect("a rectangle")
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
        let error = relative(&run(&mut e, &m, &[0], &[&tokens]), &want);
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
            got.extend(run(&mut e, &m, &[past], &[&[*token]]));
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
            let out = run(&mut e, &m, &[past, past], &[&other[range.clone()], &tokens[range]]);
            got.extend_from_slice(&out[new * vocab..]);
        }
        let error = relative(&got, &want);
        assert!(error < 1e-12, "{} cut at {cut}: {error}", name(&folder));
    }
}

/// Sequences of different lengths in one batch, each in pieces of its own: after every run the logits of each are those
/// of the reference, whatever the others are. One has no token at first, one goes to the end of the context.
#[test]
fn sequences_of_different_lengths_agree_with_the_reference() {
    let mut rng = Rng::fresh("lengths");
    for folder in goldens() {
        let (config, weights) = open_model(&folder).expect("opens");
        let (tokens, (dims, want)) = (golden_ids(&folder), npy(&folder.join("logits.npy")));
        let (n, vocab, batch) = (tokens.len(), dims[1], 4);
        let other: Vec<u64> = tokens.iter().map(|t| (t + 1) % config.vocab).collect();
        // What the reference says of the second text comes from the model itself, alone.
        let m = module(&config, Phase::Prefill, 1, DType::F64);
        let mut e = Evaluator::new(F64, &m, source(&*weights));
        let alone = run(&mut e, &m, &[0], &[&other]);
        let texts = [(&tokens, &want), (&other, &alone), (&tokens, &want), (&other, &alone)];

        // The context ends where the texts end.
        let options = |phase| BuildOptions { phase, batch, max_context: n as u64, activations: DType::F64 };
        let prefill = build_module(&config, &options(Phase::Prefill)).expect("builds");
        common::consistent(&prefill);
        let mut e = Evaluator::new(F64, &prefill, source(&*weights));
        let mut past = vec![0; texts.len()];
        let mut any: Vec<usize> = (0..3).map(|_| rng.below(n + 1)).collect();
        any.sort_unstable();
        let rounds = [[0, 1, n, any[0]], [n - 1, 3, n, any[1]], [n, n / 2, n, any[2]]];
        for ends in rounds {
            let rows: Vec<&[u64]> = texts.iter().enumerate().map(|(s, t)| &t.0[past[s]..ends[s]]).collect();
            let wide = rows.iter().map(|r| r.len()).max().unwrap_or(0);
            if wide == 0 {
                continue;
            }
            let got = run(&mut e, &prefill, &past, &rows);
            for (s, row) in rows.iter().enumerate() {
                let mine = &got[s * wide * vocab..][..row.len() * vocab];
                let theirs = &texts[s].1[past[s] * vocab..][..row.len() * vocab];
                let error = if row.is_empty() { 0.0 } else { relative(mine, theirs) };
                assert!(error < 1e-12, "{} sequence {s} of {past:?}: {error}", name(&folder));
                past[s] = ends[s];
            }
        }

        // Token by token, from different lengths.
        let decode = build_module(&config, &options(Phase::Decode)).expect("builds");
        common::consistent(&decode);
        let mut e = Evaluator::new(F64, &decode, source(&*weights));
        let mut past = vec![0; texts.len()];
        let late: Vec<usize> = (0..texts.len()).map(|s| s * n / 7).collect();
        for step in 0..n + late[3] {
            // Who has not begun, or is done, sits this out.
            let at = |s: usize| step.checked_sub(late[s]).filter(|&at| at < n);
            let rows: Vec<&[u64]> =
                texts.iter().enumerate().map(|(s, t)| at(s).map_or(&[][..], |at| &t.0[at..=at])).collect();
            past.iter_mut().enumerate().for_each(|(s, past)| *past = at(s).unwrap_or(0));
            let got = run(&mut e, &decode, &past, &rows);
            for (s, text) in texts.iter().enumerate() {
                let Some(at) = at(s) else { continue };
                let error = relative(&got[s * vocab..][..vocab], &text.1[at * vocab..][..vocab]);
                assert!(error < 1e-12, "{} sequence {s} at {at}: {error}", name(&folder));
            }
        }
    }
}

/// An expression with parts replaced, from the inside out.
fn replaced(e: &Ex, with: &dyn Fn(&Expr) -> Option<Ex>) -> Ex {
    let inner = e.map_children(|c| replaced(c, with));
    with(&inner).unwrap_or_else(|| Ex::new(inner))
}

/// Different lengths go wrong in other ways than a single sequence does, and each of them shows.
#[test]
fn wrong_lengths_are_noticed() {
    let folder = &goldens()[0];
    let (config, weights) = open_model(folder).expect("opens");
    let (tokens, (_, want)) = (golden_ids(folder), npy(&folder.join("logits.npy")));
    let n = tokens.len();
    let vocab = want.len() / n;
    let error_of = |m: &Module| {
        let mut e = Evaluator::new(F64, m, source(&*weights));
        let mut past = vec![0; 3];
        let mut worst = 0.0_f64;
        for ends in [[n / 2, 1, 3], [n, n / 3, 5]] {
            let rows: Vec<&[u64]> = (0..3).map(|s| &tokens[past[s]..ends[s]]).collect();
            let wide = rows.iter().map(|r| r.len()).max().unwrap_or(0);
            let got = run(&mut e, m, &past, &rows);
            for (s, row) in rows.iter().enumerate() {
                let mine = &got[s * wide * vocab..][..row.len() * vocab];
                worst = worst.max(relative(mine, &want[past[s] * vocab..][..row.len() * vocab]));
                past[s] = ends[s];
            }
        }
        worst
    };
    let good = module(&config, Phase::Prefill, 3, DType::F64);
    assert!(error_of(&good) < 1e-12);
    let number = |x: f64| Ex::new(Expr::Num(Num(x)));
    let binary = |op, a: &Ex, b: Ex| Ex::new(Expr::Binary(op, a.clone(), b));
    type Change<'a> = (&'a str, bool, Box<dyn Fn(&Expr) -> Option<Ex> + 'a>);
    let lengths_of_layer = |name: &str, m: &Module| {
        let f = m.functions.values().find(|f| f.values.values().any(|v| v.name == "keys")).expect("a layer");
        f.values.iter().find(|(_, d)| d.name == name).map(|(v, _)| v).expect("a length")
    };
    let (past, new) = (lengths_of_layer("past", &good), lengths_of_layer("new", &good));
    let another = |which| {
        move |e: &Expr| match e {
            Expr::Read(v, index) if *v == which => {
                let next = binary(Binary::Mod, &binary(Binary::Add, &index[0], number(1.0)), number(3.0));
                Some(Ex::new(Expr::Read(*v, vec![next])))
            }
            _ => None,
        }
    };
    let changes: Vec<Change<'_>> = vec![
        (
            "a mask that leaves out the token itself",
            false,
            Box::new(|e| match e {
                Expr::Binary(Binary::Le, a, b) => Some(binary(Binary::Lt, a, b.clone())),
                _ => None,
            }),
        ),
        (
            "a mask that looks one ahead",
            false,
            Box::new(|e| match e {
                Expr::Binary(Binary::Le, a, b) => {
                    Some(binary(Binary::Le, a, binary(Binary::Add, b, number(1.0))))
                }
                _ => None,
            }),
        ),
        ("the position of another sequence", false, Box::new(another(past))),
        ("the new tokens of another sequence", false, Box::new(another(new))),
        (
            "a cache that is written one place further",
            true,
            Box::new(|e| match e {
                Expr::Select(c, a, b) => {
                    let next = binary(Binary::Add, a, number(1.0));
                    Some(Ex::new(Expr::Select(c.clone(), next, b.clone())))
                }
                _ => None,
            }),
        ),
        (
            "padding that is written over tokens",
            true,
            Box::new(|e| match e {
                Expr::Select(_, a, _) => Some(binary(Binary::Min, a, number(2.0))),
                _ => None,
            }),
        ),
    ];
    for (what, updates, change) in changes {
        let mut bad = good.clone();
        for f in bad.functions.values_mut().filter(|f| f.values.values().any(|v| v.name == "keys")) {
            for data in f.values.values_mut() {
                match &mut data.def {
                    Def::Update { index, .. } => {
                        index.iter_mut().for_each(|i| *i = replaced(i, &*change));
                    }
                    Def::Equation(e) if !updates => *e = replaced(e, &*change),
                    _ => {}
                }
            }
        }
        let error = error_of(&bad);
        assert!(error > 1e-4, "{what}: {error}");
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
            let error = relative(&run(&mut e, &m, &[0], &[&tokens]), &want);
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
