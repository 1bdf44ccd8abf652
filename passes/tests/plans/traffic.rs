//! Plans for the fewest bytes: what a whole layer of a prefill moves, and that it is right however much is computed again.

use std::path::Path;
use std::sync::Arc;

use crate::common;
use crate::steps::{Runner, given};
use tilewright_frontend::hf::{
    BuildOptions, Config, Phase, build_module, expected_tensors, load_config, parse_config,
};
use tilewright_frontend::weights::{RandomWeights, elements};
use tilewright_ir::eval::{Evaluator, F64, Tensor, bind_symbols, eval_function, eval_plan, eval_tile, sizes};
use tilewright_ir::graph::{Arg, Call, Def, GlobalData, GlobalKind, Module, ParamKind};
use tilewright_ir::text::parse_module;
use tilewright_ir::verify::{verify_plan, verify_step};
use tilewright_ir::{DType, Value};
use tilewright_passes::algebra::ingest::ingest_forwarded;
use tilewright_passes::partition::Objective;
use tilewright_passes::report::{self, PlanCount};
use tilewright_passes::{Compiled, Options, compile_module};
use tilewright_proof::check::{Context, check_plan};

/// Room for states: no multiple of anything.
const CONTEXT: u64 = 2011;

fn options(objective: Objective) -> Options {
    Options { objective, certify: true, ..Options::default() }
}

fn compiled(config: &Config, options: &BuildOptions, objective: Objective) -> (Module, Compiled) {
    let mut module = build_module(config, options).expect("builds");
    if options.activations != DType::F32 {
        for f in module.functions.values_mut() {
            f.options.insert("activations".into(), options.activations.name().into());
        }
    }
    let compiled = compile_module(&module, &self::options(objective)).expect("compiles");
    for (func, plan) in &compiled.plans {
        verify_plan(plan, &module.symbols).unwrap_or_else(|e| panic!("{e:?}"));
        let (_, whole) = compiled.certified.iter().find(|(f, _)| f == func).expect("certified");
        let (_, certificates) = compiled.certificates.iter().find(|(f, _)| f == func).expect("certified");
        let function = &module.functions[*func];
        let context = Context { symbols: &module.symbols, function, plan: whole };
        for (n, verdict) in check_plan(context, certificates).into_iter().enumerate() {
            verdict.unwrap_or_else(|e| panic!("@{} store {n}: {e}", plan.name));
        }
    }
    verify_step(&compiled.step).unwrap_or_else(|e| panic!("{e:?}"));
    (module, compiled)
}

/// The plan of a layer, counted.
fn layer(module: &Module, compiled: &Compiled, sizes: &[(&str, u64)]) -> (PlanCount, PlanCount) {
    let sizes: Vec<(String, u64)> = sizes.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    let sizes = report::bind(&module.symbols, &sizes);
    let at = compiled.choices.iter().position(|(name, _)| name == "layer").expect("a layer");
    let count = |plan| report::count(plan, &module.symbols, &sizes, Some(DType::Bf16));
    (count(&compiled.plans[at].1), count(&compiled.choices[at].1.unfused().expect("always there").plan))
}

#[test]
fn a_prefill_layer_moves_what_it_must() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/Llama-3.1-8B");
    let config = load_config(&root).expect("config");
    let build = |phase| BuildOptions { phase, batch: 1, max_context: 8192, activations: DType::Bf16 };
    let (module, fewest) = compiled(&config, &build(Phase::Prefill), Objective::Traffic);
    // From the configuration: weights, input, output, rotations, and keys and values once.
    let (c, f, kv) = (4096u64, 14336u64, 1024u64);
    let weights = 2 * (c * c * 2 + c * kv * 2 + 3 * c * f + 2 * c);
    for (past, seq) in [(0u64, 4096u64), (3000, 4096), (0, 4001)] {
        let sizes = [("past", past), ("seq", seq), ("kv", past + seq)];
        let (count, source) = layer(&module, &fewest, &sizes);
        let rows = past + seq;
        let floor = weights + 2 * (2 * seq * c + 2 * rows * kv) + rows * 64 * 4 * 4;
        let over = count.bytes as f64 / floor as f64;
        let again = count.over_source(&source).expect("a layer has sums");
        println!("past {past}, {seq} new: {over:.4} of the floor, {again:.2e} times the multiply-adds");
        assert!((1.0..=1.05).contains(&over), "{over}: {count:?}");
        assert_eq!(count.launches().count(), 1);
        // Keys and values are computed again for every few rows, all else once.
        assert!((1.0..=100.0).contains(&again), "{again}");
        assert!((source.multiply_adds() / (weights as f64 / 2.0 * seq as f64) - 1.0).abs() < 0.5);
    }
    // The least time is another plan, which computes next to nothing again.
    let (module, fast) = compiled(&config, &build(Phase::Prefill), Objective::Latency);
    let (count, source) = layer(&module, &fast, &[("past", 0), ("seq", 4096), ("kv", 4096)]);
    assert!(count.over_source(&source).expect("sums") < 1.1 && count.launches().count() > 1);
    assert!(fast.choices.iter().all(|(_, c)| c.candidates.iter().all(|c| !c.names.contains(&"forwarded"))));
}

fn small(more: &str, kind: &str) -> Config {
    let text = format!(
        r#"{{{kind}, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 6, "num_key_value_heads": 3,
        "head_dim": 8, "num_hidden_layers": 2, "vocab_size": 67, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu"{more}}}"#
    );
    parse_config(&text).expect("config")
}

/// Pieces of sequences one after the other, of lengths that are no multiples of anything, against the graph in f64.
fn agrees(config: &Config, what: &str) {
    let weights = RandomWeights::new(7, expected_tensors(config));
    for (batch, pieces) in [
        (1, vec![vec![17], vec![1], vec![33], vec![5]]),
        (2, vec![vec![13, 7], vec![1, 19], vec![0, 5], vec![33, 1]]),
    ] {
        let build = BuildOptions {
            phase: Phase::Prefill,
            batch: batch as u64,
            max_context: CONTEXT,
            activations: DType::F32,
        };
        let (module, compiled) = compiled(config, &build, Objective::Traffic);
        let at = compiled.choices.iter().position(|(name, _)| name == "layer").expect("a layer");
        let choice = &compiled.choices[at].1;
        assert!(choice.candidates[choice.chosen].names.contains(&"by-rows"), "{what}");
        assert_eq!(compiled.plans[at].1.launches().len(), 1, "{what}");
        let mut graph =
            Evaluator::new(F64, &module, |name: &str| elements(&weights, name).map_err(|e| e.to_string()));
        let mut past = vec![0usize; batch];
        let mut runner: Option<Runner<'_>> = None;
        for (n, piece) in pieces.iter().enumerate() {
            let tokens: Vec<Vec<u64>> = piece
                .iter()
                .enumerate()
                .map(|(b, &len)| (0..len).map(|k| ((k + 11 * b + 5 * n) * 7919 % 67) as u64).collect())
                .collect();
            let rows: Vec<&[u64]> = tokens.iter().map(Vec::as_slice).collect();
            let (symbols, inputs) = given(&module, &past, &rows);
            let tensor = |name: &str, values: &[i64]| {
                let dims = if name == "ids" { vec![batch, values.len() / batch] } else { vec![batch] };
                Tensor::new(&dims, values.iter().map(|&x| x as f64).collect()).expect("dims")
            };
            let tensors: Vec<_> = inputs.iter().map(|(n, v)| (*n, tensor(n, v))).collect();
            let want = graph.run(&symbols, &tensors).expect("runs");
            let runner = runner.get_or_insert_with(|| Runner::new(&compiled, &weights, &symbols));
            let got = runner.run(&symbols, &inputs);
            let wide = piece.iter().copied().max().unwrap_or(0).max(1);
            let vocab = want[0].data.len() / (batch * wide);
            for (b, &len) in piece.iter().enumerate() {
                // Rows of padding say nothing.
                let own = b * wide * vocab..(b * wide + len) * vocab;
                let (got, want) = (&got[own.clone()], &want[0].data[own]);
                let diff: f64 = got.iter().zip(want).map(|(a, b)| (a - b) * (a - b)).sum();
                let norm: f64 = want.iter().map(|b| b * b).sum();
                let error = if len == 0 { 0.0 } else { (diff / norm).sqrt() };
                assert!(error < 1e-9, "{what}, sequence {b} of {batch}, {len} after {}: {error}", past[b]);
            }
            past.iter_mut().zip(piece).for_each(|(past, len)| *past += len);
        }
    }
}

#[test]
fn one_launch_gives_what_the_graph_gives() {
    let llama = r#""architectures": ["LlamaForCausalLM"], "model_type": "llama""#;
    agrees(&small("", llama), "grouped queries");
}

#[test]
fn one_launch_with_norms_of_heads() {
    let qwen = r#""architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false"#;
    agrees(&small("", qwen), "norms of heads");
}

#[test]
fn one_launch_with_a_window() {
    let mistral = r#""architectures": ["MistralForCausalLM"], "model_type": "mistral""#;
    agrees(&small(r#", "sliding_window": 9"#, mistral), "a window");
}

/// A module of one function that is called once: its states are states, its other parameters inputs, its results outputs.
fn called(mut module: Module) -> Module {
    let (func, function) = module.functions.iter().next().expect("a function");
    let function = function.clone();
    let mut global = |v: Value, kind: GlobalKind| {
        let data = &function.values[v];
        let (name, dtype, dims) = (data.name.clone(), data.dtype, function.dims(v));
        module.globals.push(GlobalData { name, dtype, dims, kind })
    };
    let args = function.params().map(|v| match function.values[v].def {
        Def::Param(ParamKind::State) => Arg::Shared(global(v, GlobalKind::State)),
        _ => Arg::Shared(global(v, GlobalKind::Input)),
    });
    let args = args.collect();
    let results: Vec<_> = function.results.iter().map(|&v| global(v, GlobalKind::Temp)).collect();
    module.outputs.clone_from(&results);
    module.program.push(Call { func, count: 1, args, results });
    module
}

/// Every candidate of a module of one function, at all values of its symbols, with numbers from a seed.
fn every_candidate_agrees(module: Module, what: &str) {
    let module = called(module);
    let (_, function) = module.functions.iter().next().expect("a function");
    let function = function.clone();
    let compiled = compile_module(&module, &options(Objective::Traffic)).expect("compiles");
    let choice = &compiled.choices[0].1;
    assert!(choice.candidates.iter().any(|c| c.names.contains(&"forwarded")), "{what}");
    let mut rng = common::Rng::fresh(what);
    for (past, kv) in (0..=3).flat_map(|past| (1..=5).map(move |kv| (past, kv))) {
        let symbols = bind_symbols(&module.symbols, &[("past", past), ("kv", kv)]).expect("in range");
        let tensor = |v: Value| {
            let dims = sizes(&function.dims(v), &symbols);
            let integers = function.values[v].dtype.is_int();
            let mut number = || if integers { rng.below(4) as f64 } else { rng.real() };
            Arc::new(Tensor::from_fn(&dims, |_| number()))
        };
        let params: Vec<_> = function.params().map(tensor).collect();
        let want = eval_function(&F64, &function, &symbols, params.clone()).expect("source");
        for c in &choice.candidates {
            verify_plan(&c.plan, &module.symbols).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            let got = eval_plan(&F64, &c.plan, &symbols, params.clone(), 2).expect("plan");
            let states = got.states.iter().zip(&want.states).map(|(g, w)| (&g.1, &w.1));
            for (got, want) in got.results.iter().zip(&want.results).chain(states) {
                let near = got.data.iter().zip(&want.data).all(|(a, b)| (a - b).abs() < 1e-12);
                assert!(near, "{what}, {:?} at past {past}, kv {kv}", c.names);
            }
        }
    }
}

/// Functions whose update may be read as what it writes, and each condition broken.
#[test]
fn what_an_update_writes_is_read_where_it_is_known() {
    let text = |axes: &str, index: &str, at: &str| {
        format!(
            "symbol past: 0..=3\nsymbol kv: 1..=5\ngraph @f(x: f32[i=2, k=3] input, n: i32[i] input, s: f32[p=5, q=3] state, \
             r: f32[a=kv, d=3] input) {{\n    new[p,q]: f32 = update s over [{axes}] at [{index}] with x[i,k] * 2\n    \
             y[a,d]: f32 = new[{at}] * r[a,d]\n    return y\n}}\n"
        )
    };
    let forwarded = |axes: &str, index: &str, at: &str| {
        let text = text(axes, index, at);
        let module = parse_module(&text).unwrap_or_else(|e| panic!("{}", e.render("graph", &text)));
        let function = module.functions.values().next().expect("a function");
        (ingest_forwarded(function, &module.symbols).expect("small").forwarded, module)
    };
    for (index, at) in [
        ("size(past) + i, k", "a, d"),
        ("i + size(past), k", "a, 1"),
        ("i, k", "a, d"),
        ("n[k] + i, k", "a, d"),
        ("where(i < n[k], size(past) + i, 5), k", "a, d"),
    ] {
        let (known, module) = forwarded("i,k", index, at);
        assert!(known, "[{index}] at [{at}]");
        every_candidate_agrees(module, &format!("[{index}] at [{at}]"));
    }
    for (axes, index, at, why) in [
        ("i,k", "2 * i, k", "a, d", "a multiple of a position"),
        ("i,k", "i + i, k", "a, d", "an offset that moves with the position"),
        ("i,k", "i, i", "a, d", "an axis in two dimensions, and one in none"),
        ("i,k", "n[i] + i, k", "a, d", "an offset that moves with the position through a tensor"),
        ("i,k", "n[k] + i, n[i] + k", "a, d", "offsets that need one another"),
        ("i,k", "where(i < n[k], size(past) + i, 4), k", "a, d", "a place within the state for the others"),
        ("i,k", "size(past) + i, k", "a + 1, d", "a read that may be outside"),
    ] {
        assert!(!forwarded(axes, index, at).0, "{why}");
    }
}

/// The module of a text, as it is called once.
fn alone(text: &str) -> Module {
    called(parse_module(text).unwrap_or_else(|e| panic!("{}", e.render("graph", text))))
}

/// What stands between sums over the features of a row stays in blocks, whatever the graph is.
#[test]
fn what_is_of_a_row_stays_in_its_block() {
    let module = alone(
        "symbol n: 0..=5000\ngraph @f(x: f32[i=n, c=270] input, w: f32[f=310, c] input, u: f32[d=290, f] input, \
         g: f32[d] input) {\n    h[i,f]: f32 = max(sum[c](x[i,c] * w[f,c]), 0)\n    a[i,d]: f32 = \
         sum[f](h[i,f] * u[d,f])\n    s[i]: f32 = sum[d](a[i,d] * a[i,d])\n    y[i,d]: f32 = a[i,d] * rsqrt(s[i] + 1) * \
         g[d]\n    return y\n}\n",
    );
    let compiled = compile_module(&module, &options(Objective::Traffic)).expect("compiles");
    let choice = &compiled.choices[0].1;
    let chosen = &choice.candidates[choice.chosen];
    assert!(chosen.names.contains(&"by-rows"), "{:?}", chosen.names);
    let plan = &compiled.plans[0].1;
    assert!(plan.kernels.len() > 1 && plan.kernels[1..].iter().all(|k| k.continues));
    // Each of x, w, u, g and y once, and each sum once.
    let count =
        report::count(plan, &module.symbols, &report::bind(&module.symbols, &[("n".into(), 1000)]), None);
    assert_eq!(count.bytes, 4 * (1000 * 270 + 310 * 270 + 290 * 310 + 290 + 1000 * 290));
    let once = 1000.0 * (270.0 * 310.0 + 310.0 * 290.0 + 290.0);
    assert!((1.0..1.1).contains(&(count.multiply_adds() / once)), "{}", count.multiply_adds() / once);
    let [launch] = &compiled.step.launches[..] else { panic!("{} launches", compiled.step.launches.len()) };
    let (function, program) = (module.functions.values().next().expect("a function"), &compiled.programs[0]);
    let mut rng = common::Rng::fresh("rows");
    for n in [0u64, 1, 15, 16, 17, 53] {
        let symbols = bind_symbols(&module.symbols, &[("n", n)]).expect("in range");
        let given: Vec<_> = function
            .params()
            .map(|v| {
                let dims = function.dims(v).into_iter().map(|e| e.as_const().unwrap_or(n) as usize);
                (function.values[v].name.clone(), Tensor::from_fn(&dims.collect::<Vec<_>>(), |_| rng.real()))
            })
            .collect();
        let params = given.iter().map(|(_, t)| Arc::new(t.clone())).collect();
        let want = eval_function(&F64, function, &symbols, params).expect("source");
        let args = launch.args.iter().map(|&b| {
            let name = &compiled.step.buffers[b].name;
            let known = given.iter().find(|(g, _)| g == name).map(|(_, t)| t.clone());
            known.unwrap_or_else(|| Tensor::from_fn(&[n as usize, 290], |_| f64::NAN))
        });
        let got = eval_tile(&F64, program, &symbols, args.collect()).expect("runs");
        let at = launch.writes.iter().position(|&w| w).expect("an output");
        let near = got[at].data.iter().zip(&want.results[0].data).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near && got[at].data.len() == want.results[0].data.len(), "{n} rows");
    }
}

/// What other rows are compared with is in memory.
#[test]
fn what_other_rows_read_stays_in_no_block() {
    let module = alone(
        "symbol n: 0..=5000\ngraph @f(x: f32[i=n, c=270] input, w: f32[f=310, c] input, v: f32[j=n] input) {\n    h[i,f]: f32 = \
         max(sum[c](x[i,c] * w[f,c]), 0)\n    y[i,j]: f32 = sum[f](h[i,f] * h[j,f]) * v[j]\n    return y\n}\n",
    );
    let compiled = compile_module(&module, &options(Objective::Traffic)).expect("compiles");
    for c in &compiled.choices[0].1.candidates {
        assert!(c.plan.kernels.iter().all(|k| !k.continues), "{:?}", c.names);
    }
}
