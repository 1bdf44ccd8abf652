//! What the shipped configurations stream: weights of contractions are copied in bulk and counted by barriers where the
//! target can, by threads where it cannot, in PTX and in machine code, and no kernel spills or gets an advisory. Steps of up to
//! 64 sequences take few launches, and read each weight once.

#![allow(clippy::print_stdout)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::for_all;
use tilewright::check::{check_outputs, worst};
use tilewright::codegen::{Streamed, Target, assign_layouts, stream_loads, streamed};
use tilewright::generate::{Requests, generate_all, tolerance};
use tilewright::ir::artifact::KernelBinary;
use tilewright::ir::graph::GlobalKind;
use tilewright::ir::step::{BufferKind, Step};
use tilewright::ir::tile::{Op, TileProgram};
use tilewright::ir::{Expr, Extent, Param};
use tilewright::report::{launches_per_layer, moved, packed_over_logical};
use tilewright::runtime::exec::{LaunchRecord, Mode};
use tilewright::runtime::testing::{disassembled, nvrtc};
use tilewright::{Array, Compiler, DType, DeviceSpec, Module, Phase};

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("a folder of configurations")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.join("config.json").is_file())
        .collect();
    folders.sort();
    assert!(folders.len() >= 7);
    folders
}

/// Whether a loop of the program reads a constant of more than 64 KiB at addresses that nothing computes.
fn streams_weights(program: &TileProgram, body: &[Op], inside: bool) -> bool {
    streams_weights_of(program, body, inside, None)
}

/// The same of one buffer.
fn streams_weights_of(program: &TileProgram, body: &[Op], inside: bool, only: Option<Param>) -> bool {
    body.iter().any(|op| match op {
        Op::Loop { body, .. } => streams_weights_of(program, body, true, only),
        Op::Load { param, index, .. } if inside && only.is_none_or(|only| only == *param) => {
            let data = &program.params[*param];
            let bytes =
                data.dims.iter().filter_map(|d| d.as_const()).product::<u64>() * data.dtype.bytes() as u64;
            let mut gathers = false;
            for e in index {
                e.visit(&mut |e| gathers |= matches!(e, Expr::Tile(_)));
            }
            data.constant && !gathers && bytes > 64 << 10
        }
        _ => false,
    })
}

/// Bytes of a copy that are worth asking for.
const LARGE: u64 = 16 << 10;
/// What an SM of an H100 has to have on its way for its share of the bandwidth: 3.35 TB/s and 132 SMs, and about 1.3 us from
/// asking to having, with a little to spare.
const ON_THE_WAY: u64 = 40 << 10;

/// How the weights that a program's loops read are copied.
fn copies_of_weights(program: &TileProgram, target: &str) -> Vec<Streamed> {
    let placed = assign_layouts(program).expect("places");
    let ahead = stream_loads(&placed, Target::parse(target).expect("a target")).expect("rings");
    let weights = |s: &Streamed| streams_weights_of(program, &program.body, false, Some(s.param));
    streamed(&ahead).into_iter().filter(weights).collect()
}

/// The constants of more than 64 KiB that loops read at addresses that nothing computes.
fn weights_in_loops(program: &TileProgram) -> BTreeSet<Param> {
    program.params.keys().filter(|&p| streams_weights_of(program, &program.body, false, Some(p))).collect()
}

/// What keeps a copy from being large, if something does.
fn why_small(s: &Streamed) -> Option<String> {
    let room = Target::parse("sm_90a").expect("a target").ring_limit();
    if s.row <= 2 * s.copy {
        Some(format!("a block reads {} bytes in a row, in two copies", s.row))
    } else {
        (s.double > room)
            .then(|| format!("two stages of twice the size would take {} of {room} bytes", s.double))
    }
}

/// How many blocks of a kernel an SM of an H100 has room for.
fn blocks_of_an_sm(kernel: &KernelBinary, threads: u64) -> u64 {
    let shared = (227 << 10) / (u64::from(kernel.shared_bytes) + 1024);
    let registers = 65536 / (u64::from(kernel.resources.registers).next_multiple_of(8) * threads);
    shared.min(registers).min(2048 / threads)
}

/// How often each of some instructions is in machine code: bulk copies, and waits for the barriers that count them.
fn in_machine_code(cubin: &[u8]) -> [usize; 2] {
    let code = disassembled(cubin);
    ["UBLKCP", "SYNCS.PHASECHK"].map(|opcode| code.matches(opcode).count())
}

/// The machine code of kernels, two at a time, because disassembling takes long.
fn all_in_machine_code(cubins: &[(String, usize, Vec<u8>)]) {
    std::thread::scope(|scope| {
        for half in cubins.chunks(cubins.len().div_ceil(2).max(1)) {
            scope.spawn(move || {
                for (at, streaming, cubin) in half {
                    let [copies, waits] = in_machine_code(cubin);
                    assert!(
                        copies >= *streaming && waits > 0,
                        "{at} has {copies} bulk copies and {waits} waits for them, for {streaming} programs"
                    );
                }
            });
        }
    });
}

/// The shipped configurations, and one layer each of heads with a length that is no power of two.
fn of_full_size() -> Vec<(String, Compiler)> {
    let shipped = |folder: PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, Compiler::model(&folder).random_weights(Some(1)))
    };
    let uneven = |dim: u64| {
        let config =
            of_heads(8, 4, dim).replace(": 512", &format!(": {}", 32 * dim)).replace(": 2048", ": 8192");
        let config = config.replacen('{', r#"{"torch_dtype": "bfloat16", "#, 1);
        (format!("heads by {dim}"), Compiler::config(config, 1))
    };
    models().into_iter().map(shipped).chain(UNEVEN.map(uneven)).collect()
}

/// Lengths of heads that are no powers of two; halves of the first and the last are no whole number of 16 rows.
const UNEVEN: [u64; 3] = [80, 96, 112];

#[test]
fn weights_of_contractions_are_streamed() {
    nvrtc();
    let cubins = Mutex::new(Vec::new());
    let (bulk, by_threads) = ("cp.async.bulk.shared::cluster.global.mbarrier", "cp.async.cg");
    // Steps of more sequences are dealt out to the models: one of so many, from which one on. Plans of all are looked at where
    // they are chosen.
    for (target, batch, copies, (nth, from)) in [
        ("sm_90a", 1, bulk, (1, 0)),
        ("sm_80", 1, by_threads, (1, 0)),
        ("sm_90a", 8, bulk, (1, 0)),
        ("sm_90a", 16, bulk, (3, 0)),
        ("sm_90a", 33, bulk, (3, 1)),
        ("sm_90a", 64, bulk, (3, 2)),
        ("sm_80", 16, by_threads, (2, 0)),
        ("sm_80", 63, by_threads, (2, 1)),
    ] {
        // What several warps hold threads do not copy ahead: each would for itself.
        let ahead = copies == bulk || batch <= 8;
        let all: Vec<_> = of_full_size().into_iter().skip(from).step_by(nth).collect();
        let seen = AtomicUsize::new(0);
        for_all(all.len() as u64, |n| {
            let (name, compiler) = all[n as usize].clone();
            let module = compiler
                .device(DeviceSpec::Emulator(None))
                .target(Some(target.to_owned()))
                .phases(&[Phase::Decode])
                .batch(batch)
                .compile()
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let phase = &module.phases()[0];
            let compiled = &phase.planned.compiled;
            packed_with_little_padding(&name, &compiled.step);
            let launches = launches_per_layer(&phase.planned);
            println!("{name} {target}, batch {batch}: {launches} launches for a layer");
            assert!(launches <= LAUNCHES, "{name}, batch {batch}: {launches} launches for a layer");
            for kernel in &phase.kernels {
                let at = format!("{name} {target}, batch {batch}, `{}`", kernel.name);
                assert_eq!(kernel.resources.spill_bytes, 0, "{at} spills");
                assert!(kernel.resources.advisories.is_empty(), "{at}: {:?}", kernel.resources.advisories);
                let group = compiled
                    .step
                    .groups()
                    .into_iter()
                    .find(|g| compiled.step.kernel_of(g.clone()) == kernel.name);
                let launches = &compiled.step.launches[group.expect("it is launched")];
                let programs =
                    launches.iter().filter_map(|l| compiled.programs.iter().find(|p| p.name == l.kernel));
                let programs: Vec<_> = programs.filter(|p| streams_weights(p, &p.body, false)).collect();
                let streaming = programs.len();
                if streaming == 0 || !ahead {
                    continue;
                }
                let first = seen.fetch_add(streaming, Ordering::Relaxed) == 0;
                let found = kernel.ptx.matches(copies).count();
                assert!(found >= streaming, "{at} has {found} times {copies}, for {streaming} programs");
                assert!(target == "sm_80" || kernel.ptx.contains("mbarrier.try_wait"), "{at} waits");
                for program in programs {
                    let threads = u64::from(program.threads());
                    let mut left = weights_in_loops(program);
                    for s in copies_of_weights(program, target) {
                        left.remove(&s.param);
                        let on_its_way = s.behind * blocks_of_an_sm(kernel, threads);
                        let what = format!("{at}: `{}`", program.params[s.param].name);
                        println!("{what}: copies of {}, {on_its_way} bytes on their way", s.copy);
                        assert_eq!(s.bulk, target == "sm_90a", "{what}");
                        if s.bulk && s.copy < LARGE {
                            let why = why_small(&s).unwrap_or_else(|| panic!("{what}: copies of {}", s.copy));
                            println!("{what}: {why}");
                        }
                        if s.bulk {
                            assert!(on_its_way >= ON_THE_WAY, "{what}: {on_its_way} bytes on their way");
                        }
                    }
                    let left: Vec<&str> = left.iter().map(|&p| program.params[p].name.as_str()).collect();
                    assert!(left.is_empty(), "{at}: {left:?} are not streamed");
                }
                match target {
                    "sm_90a" => {
                        cubins.lock().expect("no thread panics").push((at, streaming, kernel.cubin.clone()))
                    }
                    // What has none of it is told apart.
                    "sm_80" if first => {
                        assert_eq!(in_machine_code(&kernel.cubin), [0, 0], "{at}")
                    }
                    _ => {}
                }
            }
        });
        let seen = seen.into_inner();
        assert!(seen >= all.len() * 5 || !ahead, "{seen} kernels for {target}");
    }
    let cubins = cubins.into_inner().expect("no thread panics");
    assert!(cubins.len() >= 3 * 10 * 4, "{} kernels", cubins.len());
    all_in_machine_code(&cubins);
}

/// That the matrices of a step are packed, and what that costs.
fn packed_with_little_padding(name: &str, step: &Step) {
    let over = packed_over_logical(step).expect("weights are packed");
    assert!((1.0..=1.02).contains(&over), "{name}: packed weights take {over} of their bytes");
    for buffer in step.buffers.values().filter(|b| matches!(b.kind, BufferKind::Weight(_))) {
        let bytes = buffer.dims.iter().filter_map(|d| d.as_const()).product::<u64>() * 2;
        // A table that is only read by rows stays as it is.
        let table = buffer.name.contains("embed_tokens");
        let packed = buffer.packing.is_some();
        assert!(packed || bytes < 64 << 10 || table, "{name}: `{}` is not packed", buffer.name);
    }
}

/// A layer with the proportions of a published model, scaled down.
const SCALED: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512,
    "intermediate_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
    "vocab_size": 2048, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 256,
    "tie_word_embeddings": false, "hidden_act": "silu"}"#;

/// One layer of Llama 3.2 1B, with a short vocabulary.
const FULL: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "vocab_size": 2048, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 256,
    "tie_word_embeddings": true, "hidden_act": "silu"}"#;

/// A decode step whose traffic is counted.
struct Case {
    config: String,
    activations: DType,
    target: &'static str,
    batch: u64,
}

/// One layer with so many heads of keys, so many of queries for each, and so many positions of a head.
fn of_heads(keys: u64, ratio: u64, dim: u64) -> String {
    format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "intermediate_size": 2048,
        "num_hidden_layers": 1, "num_attention_heads": {}, "num_key_value_heads": {keys}, "head_dim": {dim},
        "vocab_size": 512, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 256,
        "tie_word_embeddings": false, "hidden_act": "silu"}}"#,
        keys * ratio
    )
}

/// What the launches of a step read of a buffer: bytes, sectors, and how few sectors would do.
type Read = (u64, u64, u64);

/// A decode step with as much behind it, and the values of symbols for it. What is behind it was never computed: counts do
/// not depend on it.
fn one_step(module: &Module, batch: u64) -> (Vec<LaunchRecord>, Vec<(String, u64)>) {
    let executable = module.executable("decode").expect("it loads");
    let symbols: Vec<(&str, i64)> = executable
        .step()
        .symbols
        .values()
        .map(|s| (s.name.as_str(), if s.name == "kv" { TOKENS } else { TOKENS - 1 }))
        .collect();
    let ids: Vec<u8> = (0..batch as i32).flat_map(|b| (17 + 31 * b).to_le_bytes()).collect();
    // Of several sequences each has a length of its own, here the same.
    let lengths: Vec<u8> = (0..batch).flat_map(|_| (TOKENS as i32 - 1).to_le_bytes()).collect();
    let mut inputs: Vec<(&str, &[u8])> = vec![("ids", &ids)];
    if executable.step().buffers.values().any(|b| b.kind == BufferKind::Input && b.name == "past") {
        inputs.push(("past", &lengths));
    }
    let launches = executable.run_as(Mode::Graph, &symbols, &inputs).expect("it runs").launches;
    (launches, symbols.iter().map(|&(n, v)| (n.to_owned(), v as u64)).collect())
}

/// What is not as promised of a step's traffic.
fn broken(case: &Case) -> Vec<String> {
    let &Case { ref config, activations, target, batch } = case;
    let given: serde_json::Value = serde_json::from_str(config).expect("JSON");
    let number = |key: &str| given[key].as_u64().expect("a number");
    let (heads, dim) = (number("num_key_value_heads"), number("head_dim"));
    let at = format!(
        "{target}, {activations}, batch {batch}, hidden {}, {} of {heads} heads by {dim}",
        number("hidden_size"),
        number("num_attention_heads")
    );
    let weights = if activations == DType::F16 { "float16" } else { "bfloat16" };
    let text = config.replacen('{', &format!(r#"{{"torch_dtype": "{weights}", "#), 1);
    let module = Compiler::config(text, 7)
        .batch(batch)
        .activations(activations)
        .device(DeviceSpec::Emulator(None))
        .target(Some(target.to_owned()))
        .phases(&[Phase::Decode])
        .compile()
        .unwrap_or_else(|e| panic!("{at}: {e}"));
    let (launches, symbols) = one_step(&module, batch);
    let mut broken = Vec::new();
    let mut read: BTreeMap<&str, Read> = BTreeMap::new();
    let (mut wavefronts, mut ideal, mut written) = (0, 0, 0);
    for launch in &launches {
        let counters = launch.counters.as_ref().expect("the emulator counts");
        for (label, count) in &counters.buffers {
            let sum = read.entry(label).or_default();
            sum.0 += count.read_bytes;
            sum.1 += count.read_sectors;
            sum.2 += count.read_sectors_ideal;
            written += count.written_bytes;
        }
        wavefronts += counters.shared_wavefronts;
        ideal += counters.shared_wavefronts_ideal;
        for m in counters.memory.iter().filter(|m| m.loops > 0) {
            let (took, least) = (m.shared.wavefronts, m.shared.wavefronts_ideal);
            if took > least {
                broken.push(format!(
                    "`{}`: {} takes {took} of {least} wavefronts",
                    launch.kernel, m.instruction
                ));
            }
        }
    }
    if wavefronts * 100 > ideal * 101 {
        broken.push(format!("{wavefronts} wavefronts, {ideal} would do"));
    }
    let declared = moved(&module.phases()[0].planned, &symbols).expect("it is counted").written;
    if written * 10 > declared * 11 {
        broken.push(format!("{written} bytes are written, and {declared} are declared"));
    }
    let (mut weights, mut states) = (0, 0);
    let tied = given["tie_word_embeddings"] == true;
    let executable = module.executable("decode").expect("it loads");
    for buffer in executable.step().buffers.values() {
        let bytes =
            buffer.dims.iter().filter_map(|d| d.as_const()).product::<u64>() * buffer.dtype.bytes() as u64;
        match &buffer.kind {
            // A table that is read by rows, unless it is the last product's matrix as well.
            BufferKind::Weight(name) if bytes >= 64 << 10 && (tied || !name.contains("embed_tokens")) => {
                let &(once, sectors, best) = read.get(name.as_str()).expect("it is read");
                // Its rows are few, and may be read by two kernels.
                let rows = if name.contains("embed_tokens") { 2 * batch * 2048 * 2 } else { 0 };
                if !(bytes..=bytes + rows).contains(&once) {
                    broken.push(format!("{once} of the {bytes} bytes of `{name}` are read"));
                }
                if sectors * 100 > best * 102 {
                    broken.push(format!("`{name}` is read in {sectors} sectors, {best} would do"));
                }
                weights += 1;
            }
            BufferKind::State => {
                let &(once, sectors, best) = read.get(buffer.name.as_str()).expect("it is read");
                let cache = batch * heads * dim * 2 * TOKENS as u64;
                if once != cache {
                    broken.push(format!("{once} of the {cache} bytes of `{}` are read", buffer.name));
                }
                if sectors * 100 > best * 102 {
                    broken.push(format!("`{}` is read in {sectors} sectors, {best} would do", buffer.name));
                }
                states += 1;
            }
            _ => {}
        }
    }
    // Projections of few heads are smaller than that.
    let layers = number("num_hidden_layers");
    assert_eq!(states, layers * 2, "{at}");
    let few = number("num_key_value_heads") == 1;
    assert!(weights == layers * 7 + 1 || few && weights > layers * 4, "{at}: {weights}");
    let launches = launches_per_layer(&module.phases()[0].planned);
    if launches > LAUNCHES {
        broken.push(format!("{launches} launches for a layer"));
    }
    broken.into_iter().map(|what| format!("{at}: {what}")).collect()
}

/// The most launches of a dense layer.
const LAUNCHES: u64 = 6;

/// How many tokens there are with the one of the step.
const TOKENS: i64 = 70;

#[test]
fn a_step_reads_each_weight_once_in_whole_sectors_and_without_bank_conflicts() {
    nvrtc();
    let mut cases = Vec::new();
    for activations in [DType::Bf16, DType::F16] {
        for batch in [1, 2, 3, 5, 8] {
            cases.push(Case { config: SCALED.into(), activations, target: "sm_90a", batch });
        }
        for batch in [1, 8] {
            cases.push(Case { config: FULL.into(), activations, target: "sm_90a", batch });
        }
    }
    for (batch, activations) in [(16, DType::Bf16), (17, DType::F16), (33, DType::F16), (64, DType::Bf16)] {
        cases.push(Case { config: SCALED.into(), activations, target: "sm_90a", batch });
    }
    cases.push(Case { config: FULL.into(), activations: DType::Bf16, target: "sm_90a", batch: 16 });
    cases.push(Case { config: FULL.into(), activations: DType::Bf16, target: "sm_90a", batch: 64 });
    cases.push(Case { config: SCALED.into(), activations: DType::Bf16, target: "sm_80", batch: 1 });
    // Ratios of heads and lengths of a head, each with one and with several sequences; rows of nine heads of 72 end within a
    // sector.
    for (keys, ratio, dim) in [(8, 1, 64), (3, 3, 64), (3, 3, 72), (2, 2, 128), (1, 16, 128), (1, 2, 256)] {
        for (activations, batch) in
            [(DType::Bf16, 1), (DType::Bf16, 3), (DType::F16, 8), (DType::Bf16, 16), (DType::F16, 64)]
        {
            cases.push(Case { config: of_heads(keys, ratio, dim), activations, target: "sm_90a", batch });
        }
    }
    // Heads that are no whole number of what blocks take, also with biases and with norms of their own.
    let llama = "LlamaForCausalLM";
    for (keys, ratio, dim, family) in UNEVEN
        .map(|dim| [(8, 1, dim, llama), (3, 3, dim, "Qwen2ForCausalLM"), (3, 3, dim, "Qwen3ForCausalLM")])
        .into_iter()
        .flatten()
        .chain([(1, 16, 112, llama)])
        // As many queries as fill the columns of an instruction, or nearly, and long heads.
        .chain([(2, 5, 80, llama), (1, 7, 112, llama), (2, 8, 96, llama), (2, 8, 128, llama)])
        .chain([(1, 4, 240, llama), (1, 8, 256, llama), (1, 16, 144, llama)])
    {
        let kind = family.trim_end_matches("ForCausalLM").to_lowercase();
        let config =
            of_heads(keys, ratio, dim).replace(llama, family).replace("\"llama\"", &format!("\"{kind}\""));
        for (activations, batch, target) in
            [(DType::Bf16, 1, "sm_90a"), (DType::Bf16, 3, "sm_80"), (DType::F16, 8, "sm_90a")]
        {
            cases.push(Case { config: config.clone(), activations, target, batch });
        }
    }
    // Products of few rows and long sums, whose runs are merged by those who read the result.
    for (keys, ratio) in [(1, 16), (8, 2)] {
        for (batch, target) in [(1, "sm_90a"), (3, "sm_80"), (8, "sm_90a")] {
            let config = of_heads(keys, ratio, 192);
            cases.push(Case { config, activations: DType::Bf16, target, batch });
        }
    }
    let broken: Vec<String> = cases.iter().flat_map(broken).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Attention in runs and the product that follows, and a product in runs whose result goes into a norm and a sum.
const MERGED: [&str; 2] = [
    "Q: bf16[b=3, g=3, r=3, d=64]; K: bf16[b, g, j=kv, d]; V: bf16[b, g, j, e=64]; W: bf16[c=576, g, r, e]; n: i32[b]; \
        kv in 1..1024; S[b,g,r,j] = where(j < n[b], 0.125*sum[d](Q[b,g,r,d] * K[b,g,j,d]), -inf); \
        O[b,g,r,e] = sum[j](softmax[j](S[b,g,r,j]) * V[b,g,j,e]); Y[b,c] = sum[g,r,e](O[b,g,r,e] * W[c,g,r,e])",
    "A: bf16[b=3, k=3072]; X: bf16[b, c=512]; W: bf16[c, k]; V: bf16[f=256, c]; D: bf16[c, f]; \
        H[b,c] = X[b,c] + sum[k](A[b,k] * W[c,k]); Y[b,f] = sum[c](rms_norm[c](H[b,c]) * V[f,c]); \
        Z[b,c] = H[b,c] + sum[f](Y[b,f] * D[c,f])",
];

/// What merges runs where it reads them gives what f64 does, and no check finds anything: several sequences or one, one of
/// them without any positions, and runs without any.
#[test]
fn runs_that_are_merged_where_they_are_read_give_what_they_should() {
    nvrtc();
    let values = |dims: &[u64], seed: u64| -> Array {
        let count: u64 = dims.iter().product();
        let of = |n: u64| {
            ((n.wrapping_mul(2654435761).wrapping_add(seed * 40503) >> 7) % 4093) as f64 / 2046.5 - 1.0
        };
        Array::new(DType::Bf16, dims, &(0..count).map(of).collect::<Vec<_>>()).expect("an array")
    };
    for (text, target, device, batch) in [
        (MERGED[0], "sm_90a", "emulator:sanitize=all", 3u64),
        (MERGED[0], "sm_80", "emulator:sanitize=all,seed=1", 1),
        (MERGED[1], "sm_80", "emulator:sanitize=all", 3),
        (MERGED[1], "sm_90a", "emulator:sanitize=all,seed=1", 1),
    ] {
        let text = text.replace("b=3", &format!("b={batch}"));
        let module = Compiler::equations(text.clone())
            .device(device.parse::<DeviceSpec>().expect("a device"))
            .target(Some(target.to_owned()))
            .compile()
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        let planned = &module.phases()[0].planned;
        let plan = &planned.compiled.plans[0].1;
        let mut stored =
            plan.kernels.iter().flat_map(|k| &k.stores).map(|s| plan.values[s.value].name.as_str());
        assert!(plan.kernels.iter().any(|k| k.runs.is_some()), "{text}");
        assert!(!stored.any(|name| ["O", "H"].contains(&name)), "{text}");
        let several = !planned.graph.symbols.is_empty();
        for kv in [1u64, 331].into_iter().take(1 + usize::from(several)) {
            let lengths: Vec<f64> = [kv as f64, 0.0, 33.0][..batch as usize].to_vec();
            let graph = &planned.graph;
            let inputs: Vec<(String, Array)> = graph
                .globals
                .values()
                .filter(|g| g.kind == GlobalKind::Input)
                .enumerate()
                .map(|(seed, g)| {
                    let of = |e: &Extent| e.as_const().unwrap_or(kv);
                    let dims: Vec<u64> = g.dims.iter().map(of).collect();
                    let array = match g.dtype {
                        DType::I32 => Array::new(DType::I32, &dims, &lengths).expect("lengths"),
                        _ => values(&dims, seed as u64),
                    };
                    (g.name.clone(), array)
                })
                .collect();
            let inputs: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
            let symbols: Vec<(&str, i64)> =
                graph.symbols.values().map(|s| (s.name.as_str(), kv as i64)).collect();
            let result = module.run_with(&symbols, &inputs).unwrap_or_else(|e| panic!("{text}: {e}"));
            let checks = check_outputs(graph, &symbols, &inputs, &result).expect("it is compared");
            assert!(!checks.is_empty() && worst(&checks).is_none(), "{text}, {kv}: {checks:?}");
        }
    }
}

/// Weights of another type cannot be operands of tensor cores beside activations: then products are those of few columns by
/// multiply-adds, and fit.
#[test]
fn activations_of_another_type_than_weights_compile() {
    nvrtc();
    for batch in [1, 2, 3, 8] {
        let module = Compiler::config(SCALED, 7)
            .batch(batch)
            .activations(DType::F16)
            .device(DeviceSpec::Emulator(None))
            .target(Some("sm_90a".to_owned()))
            .phases(&[Phase::Decode])
            .compile()
            .unwrap_or_else(|e| panic!("batch {batch}: {e}"));
        one_step(&module, batch);
    }
}

/// Steps of as many sequences as a block has rows or columns, and others: what they compute is right where blocks have 16, 32
/// and 64 rows of a weight, and heads are normalised and rotated in blocks of rows.
#[test]
fn steps_of_many_sequences_agree_with_the_evaluator() {
    nvrtc();
    let mut cases = Vec::new();
    for (n, family) in ["LlamaForCausalLM", "Qwen3ForCausalLM"].into_iter().enumerate() {
        for (m, batch) in [16, 33, 64].into_iter().enumerate() {
            cases.push((family, batch, ["sm_90a", "sm_80"][(n + m) % 2]));
        }
    }
    for_all(cases.len() as u64, |n| {
        let (family, batch, target) = cases[n as usize];
        let kind = family.trim_end_matches("ForCausalLM").to_lowercase();
        let config = of_heads(2, 2, 128)
            .replace(r#""vocab_size": 512"#, r#""vocab_size": 64"#)
            .replace("LlamaForCausalLM", family)
            .replace("\"llama\"", &format!("\"{kind}\""));
        let config = config.replacen('{', r#"{"torch_dtype": "bfloat16", "#, 1);
        let at = format!("{family}, batch {batch}, {target}");
        let module = Compiler::config(config, 7)
            .batch(batch)
            .device(DeviceSpec::Emulator(None))
            .target(Some(target.to_owned()))
            .phases(&[Phase::Decode])
            .max_context(Some(8))
            .compile()
            .unwrap_or_else(|e| panic!("{at}: {e}"));
        let text: Vec<u64> = (0..64).map(|n| (7 * n + 3) % 64).collect();
        let prompts: Vec<&[u64]> = (0..batch as usize).map(|s| &text[s % 50..s % 50 + 1 + s % 3]).collect();
        let request =
            Requests { prompts: &prompts, tokens: 2, ignore_eos: true, check: true, sampling: None };
        let error = generate_all(&module, &request, |_, _| ()).unwrap_or_else(|e| panic!("{at}: {e}")).error;
        let error = error.expect("it was compared");
        assert!(error <= tolerance(DType::Bf16), "{at}: a relative error of {error:.2e}");
        let launches = launches_per_layer(&module.phases()[0].planned);
        assert!(launches <= LAUNCHES, "{at}: {launches} launches for a layer");
    });
}

/// What other figures cannot show at a small size: what is neither a weight nor a cache is at most a hundredth of what is
/// read, at texts of typical length.
#[test]
fn steps_of_shipped_models_read_little_but_weights() {
    for folder in models() {
        for batch in [1, 8] {
            let planned = Compiler::model(&folder)
                .random_weights(Some(1))
                .device(DeviceSpec::Emulator(None))
                .phases(&[Phase::Decode])
                .batch(batch)
                .plan()
                .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
            let all = moved(&planned[0], &[]).expect("it is counted");
            let at = format!("{}, batch {batch}: {all:?}", folder.display());
            assert!(all.others > 0 && all.states > 0, "{at}");
            let read = all.constants + all.states + all.others;
            println!("{at}: {:.3} % are others", 100.0 * all.others as f64 / read as f64);
            assert!(all.others * 100 <= read, "{at}");
        }
    }
}
