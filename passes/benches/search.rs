//! What: how long the search takes: attention, one layer, a whole model with its layers rolled; and how long the checker
//! takes for the certificates of some kernels.
//! Why here: a search of seconds is a promise, and so is a check of a kernel within a tenth of one; the budget is in e-nodes,
//! which are printed, as steps of certificates are, so that a slower machine can be told from a larger graph.
//! Pre: release build, an idle machine. `cargo bench -p tilewright-passes`.
//! Post: times of saturation, of everything up to tile programs, and of checks; e-nodes and steps; the most memory that the process had, where
//! the system tells.
#![allow(missing_docs, clippy::expect_used, clippy::print_stdout)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_frontend::hf::{BuildOptions, Phase, build_module, load_config};
use tilewright_ir::DType;
use tilewright_ir::graph::Module;
use tilewright_passes::algebra::ingest::ingest;
use tilewright_passes::algebra::saturate::{Budget, saturate};
use tilewright_passes::{Options, compile_module};
use tilewright_proof::{Context, check_plan};

const ATTENTION: &str = "Q: bf16[h=32, i=seq, d=128]; K: bf16[h, j=kv, d]; V: bf16[h, j, e=128]; seq in 1..4096; \
    kv in 1..4096; O[h,i,e] = sum[j](softmax[j](where(j <= i, 0.088*sum[d](Q[h,i,d] * K[h,j,d]), -inf)) * V[h,j,e])";

/// Kernels with the longest certificates: each of so many of the largest, and where it is.
fn largest(ranks: u32) -> String {
    format!(
        "X: f32[i=7, j=500]; axis r={ranks}; V[i,r] = topk[j](X[i,j], r); P[i,r] = argtopk[j](X[i,j], r); \
         Y[i,r] = V[i,r] + P[i,r]"
    )
}

fn model(name: &str, phase: Phase) -> Module {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models").join(name);
    let options = BuildOptions { phase, batch: 1, max_context: 4096, activations: DType::Bf16 };
    build_module(&load_config(&folder).expect("a configuration"), &options).expect("a model")
}

/// Ingestion and saturation of one function; its e-nodes.
fn search(module: &Module, function: &str) -> usize {
    let f = module.functions.values().find(|f| f.name == function).expect("the function");
    let mut ingested = ingest(f, &module.symbols).expect("ingests");
    saturate(&mut ingested, Budget::default(), &[]).nodes
}

/// All passes; the e-nodes of all functions.
fn compile(module: &Module) -> usize {
    let compiled = compile_module(module, &Options::default()).expect("compiles");
    compiled.searches.iter().map(|(_, s)| s.nodes).sum()
}

fn searches(c: &mut Criterion) {
    let attention = parse_equations(ATTENTION, &Given::default(), &[]).expect("parses");
    let name = attention.functions.values().next().expect("a function").name.clone();
    println!("attention: {} e-nodes", search(&attention, &name));
    c.bench_function("search/attention", |b| b.iter(|| search(black_box(&attention), &name)));
    c.bench_function("compile/attention", |b| b.iter(|| compile(black_box(&attention))));
    for model_name in ["Llama-3.1-8B", "Qwen3-8B"] {
        for phase in [Phase::Decode, Phase::Prefill] {
            let module = model(model_name, phase);
            let what = format!("{model_name} {phase:?}");
            println!("{what}: {} e-nodes in a layer, {} in all", search(&module, "layer"), compile(&module));
            c.bench_function(&format!("search/{what} layer"), |b| {
                b.iter(|| search(black_box(&module), "layer"))
            });
            c.bench_function(&format!("compile/{what}"), |b| b.iter(|| compile(black_box(&module))));
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|l| l.starts_with("VmHWM")) {
        println!("peak memory: {}", peak.trim_start_matches("VmHWM:").trim());
    }
}

fn checks(c: &mut Criterion) {
    let equations = [
        ("attention", ATTENTION.to_owned()),
        ("8 largest", largest(8)),
        ("12 largest", largest(12)),
        ("16 largest", largest(16)),
        ("32 largest", largest(32)),
    ];
    for (name, text) in equations {
        let module = parse_equations(&text, &Given::default(), &[]).expect("parses");
        let compiled =
            compile_module(&module, &Options { certify: true, ..Options::default() }).expect("compiles");
        for ((func, plan), (_, all)) in compiled.certified.iter().zip(&compiled.certificates) {
            let context = Context { function: &module.functions[*func], plan, symbols: &module.symbols };
            let steps: usize = all.iter().flatten().map(|c| c.steps.len()).sum();
            println!("{name}: {} kernels, {steps} steps", plan.kernels.len());
            c.bench_function(&format!("check/{name}"), |b| {
                b.iter(|| {
                    let verdicts = check_plan(black_box(context), black_box(all));
                    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
                })
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = searches, checks
}
criterion_main!(benches);
