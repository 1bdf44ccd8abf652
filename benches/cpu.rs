//! What: how fast the compiler and the emulator are on this machine.
//! Why here: these need no GPU; `cargo bench --bench cpu` runs them.
//! Pre: NVRTC.
//! Post: times by criterion: search and extraction, code generation, NVRTC, the emulator, and compilations of the shipped
//! configurations with an empty cache and with a full one.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tilewright::bench::inputs::normal;
use tilewright::codegen::{Target, emit, nvrtc_options, read_log};
use tilewright::{Array, Compiler, DType, Phase, Planned, Toolchain};
use tilewright_runtime::kernels::KernelCompiler;
use tilewright_runtime::testing::{nvrtc, toolchain};

const CONFIGS: [&str; 7] = [
    "SmolLM2-135M",
    "Qwen3-0.6B",
    "Llama-3.2-1B",
    "Qwen3-1.7B",
    "Mistral-7B-v0.3",
    "Llama-3.1-8B",
    "Qwen3-8B",
];

const ATTENTION: &str =
    "Q: bf16[h=4, i=128, d=64]; K: bf16[h, j=512, d]; V: bf16[h, j, e=64]; O: bf16[h, i, e];
    O[h,i,e] = sum[j](softmax[j](sum[d](Q[h,i,d] * K[h,j,d]) * 0.125) * V[h,j,e])";

fn config(model: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("config.json");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn model(name: &str, phase: Phase) -> Compiler {
    Compiler::config(config(name), 1)
        .toolchain(toolchain())
        .device("emulator".parse().expect("a device"))
        .phases(&[phase])
}

fn decode(name: &str) -> Planned {
    model(name, Phase::Decode).plan().expect("a plan").remove(0)
}

/// The passes, from equations or a configuration to tile programs; most of it is the search and the extraction.
fn passes(c: &mut Criterion) {
    let mut group = c.benchmark_group("passes");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("attention", |b| {
        b.iter(|| Compiler::equations(black_box(ATTENTION)).plan().expect("a plan"))
    });
    for name in ["Llama-3.2-1B", "Qwen3-8B"] {
        group.bench_function(BenchmarkId::new("decode", name), |b| b.iter(|| decode(black_box(name))));
    }
    // The search alone, as the passes time it.
    for stage in ["saturate", "extract"] {
        let planned = decode("Llama-3.2-1B");
        let found =
            planned.compiled.timings.iter().filter(|(n, _)| n.contains(stage)).map(|(n, _)| n.clone());
        let names: Vec<String> = found.collect();
        group.bench_function(BenchmarkId::new(stage, "Llama-3.2-1B"), |b| {
            b.iter_custom(|times| {
                let one = || {
                    let planned = decode("Llama-3.2-1B");
                    let parts = planned.compiled.timings.iter().filter(|(n, _)| names.contains(n));
                    parts.map(|(_, d)| *d).sum::<Duration>()
                };
                (0..times).map(|_| one()).sum()
            });
        });
    }
    group.finish();
}

/// Sources from tile programs.
fn codegen(c: &mut Criterion) {
    let planned = decode("Llama-3.2-1B");
    let compiled = &planned.compiled;
    let mut group = c.benchmark_group("codegen");
    group.throughput(Throughput::Elements(compiled.programs.len() as u64));
    group.bench_function("Llama-3.2-1B decode", |b| {
        b.iter(|| {
            for program in &compiled.programs {
                black_box(emit(program, &compiled.step.symbols, Target::BASE).expect("a source"));
            }
        });
    });
    group.finish();
}

/// The vendor's compiler, kernels of one layer.
fn compiler(c: &mut Criterion) {
    let planned = decode("Llama-3.2-1B");
    let compiled = &planned.compiled;
    let sources: Vec<_> = compiled
        .programs
        .iter()
        .map(|p| emit(p, &compiled.step.symbols, Target::BASE).expect("a source"))
        .collect();
    let options = nvrtc_options("sm_80");
    let mut group = c.benchmark_group("nvrtc");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(sources.len() as u64));
    group.bench_function("Llama-3.2-1B decode", |b| {
        let compiler =
            KernelCompiler { nvrtc: nvrtc(), store: None, arch: "sm_80", options: &options, read_log };
        b.iter(|| compiler.compile_all(black_box(&sources), &|_, _| ()).expect("kernels"));
    });
    group.finish();
}

/// Kernels on the emulator, with counters; throughput in lane instructions.
fn emulator(c: &mut Criterion) {
    let mut group = c.benchmark_group("emulator");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, equations) in [
        ("attention", ATTENTION),
        (
            "product",
            "X: bf16[m=256, k=512]; W: bf16[n=256, k]; Y: bf16[m, n]; Y[m,n] = sum[k](X[m,k] * W[n,k])",
        ),
        ("norm", "X: bf16[r=64, c=4096]; Y: bf16[r, c]; Y[r,c] = rms_norm[c](X[r,c])"),
    ] {
        let module = Compiler::equations(equations)
            .toolchain(toolchain())
            .device("emulator".parse().expect("a device"))
            .compile()
            .expect("a module");
        let step = &module.phases()[0].planned.compiled.step;
        let inputs: Vec<(String, Array)> = step
            .buffers
            .values()
            .filter(|b| b.kind == tilewright::ir::step::BufferKind::Input)
            .map(|b| {
                let dims: Vec<u64> = b.dims.iter().map(|d| d.as_const().expect("a number")).collect();
                (b.name.clone(), normal(DType::Bf16, &dims, 1))
            })
            .collect();
        let given: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let once = module.run(&given).expect("a run");
        let counters = once.launches.iter().filter_map(|l| l.counters.as_ref());
        group.throughput(Throughput::Elements(counters.map(|c| c.lane_instructions).sum()));
        group.bench_function(name, |b| b.iter(|| module.run(black_box(&given)).expect("a run")));
    }
    group.finish();
}

/// Whole compilations of the shipped configurations, both phases.
fn compile(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let library = nvrtc().path().to_owned();
    let keep = |cache: PathBuf| Toolchain { nvrtc: Some(library.clone()), ..Toolchain::new(cache) };
    let once = |name: &str, toolchain: Toolchain| {
        Compiler::config(config(name), 1)
            .toolchain(toolchain)
            .device("emulator".parse().expect("a device"))
            .compile()
            .expect("a module")
    };
    let mut group = c.benchmark_group("compile");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for name in CONFIGS {
        group.bench_function(BenchmarkId::new("cold", name), |b| {
            b.iter_with_setup(
                || tempfile::tempdir().expect("a directory"),
                |empty| {
                    once(name, keep(empty.path().to_owned()));
                    empty
                },
            );
        });
        let full = dir.path().join(name);
        once(name, keep(full.clone()));
        group.bench_function(BenchmarkId::new("cached", name), |b| b.iter(|| once(name, keep(full.clone()))));
    }
    group.finish();
}

criterion_group!(all, passes, codegen, compiler, emulator, compile);
criterion_main!(all);
