//! Weights that a warp of its own copies through a ring of pages, while the others wait for what they compute with: results
//! are those of separate launches to the bit, nearly all copies are issued before the waits of their tasks end, and what is
//! wrong with pages is caught.

// The table of verdicts is for readers.
#![allow(clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{for_all, goldens};
use tilewright::codegen::{Target, halve, nvrtc_options, read_log};
use tilewright::generate::{Conversation, Request, generate, score};
use tilewright::ir::step::{BufferData, BufferKind, Step};
use tilewright::megakernel::{
    Bodies, Certificate, Costs, LAP, Options, Record, TURNS, TaskGraph, Violation, WORDS, check, schedule,
    source, tables,
};
use tilewright::persistent::{certify, narrowed, plan, scheduled};
use tilewright::report::launches_per_layer;
use tilewright::runtime::exec::{self, Executable};
use tilewright::runtime::kernels::KernelCompiler;
use tilewright::runtime::nvrtc::Nvrtc;
use tilewright::runtime::testing::{nvrtc, toolchain};
use tilewright::spec::Mode;
use tilewright::timeline::timeline;
use tilewright::{Compiler, DeviceSpec, Module, Phase};

/// One that copies in bulk, and one whose warps copy vector by vector.
const TARGET: &str = "sm_90a";
const BASE: &str = "sm_80";

/// Loops of two and three iterations, with ragged ends, and a ring that goes around several times a step.
const SMALL: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 272,
    "intermediate_size": 520, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 64, "vocab_size": 203, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
    "tie_word_embeddings": false, "hidden_act": "silu"}"#;

fn device(text: &str) -> DeviceSpec {
    text.parse().expect("a device")
}

fn compiled(compiler: Compiler, on: &str, mode: Mode, per_launch: u32) -> Module {
    compiled_for(TARGET, compiler, on, mode, per_launch)
}

fn compiled_for(target: &str, compiler: Compiler, on: &str, mode: Mode, per_launch: u32) -> Module {
    nvrtc();
    compiler
        .device(device(on))
        .target(Some(target.into()))
        .phases(&[Phase::Decode])
        .mode(mode)
        .tokens_per_launch(per_launch)
        .compile()
        .expect("it compiles")
}

fn small(on: &str, mode: Mode, per_launch: u32) -> Module {
    compiled(Compiler::config(SMALL, 5), on, mode, per_launch)
}

fn bits(module: &Module, ids: &[u64]) -> Vec<u32> {
    let scored = score(module, ids, Phase::Decode).expect("it runs");
    scored.logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn pages_change_no_bit() {
    let expected = bits(&small("emulator", Mode::Launch, 1), &[3, 9]);
    let all = [
        (TARGET, "tiny1,sanitize=all"),
        (TARGET, "tiny3,sanitize=all,seed=1"),
        (TARGET, "tiny8,sanitize=all,seed=2"),
        (TARGET, "h100"),
        (BASE, "tiny1,sanitize=all"),
        (BASE, "tiny3,sanitize=all,seed=3"),
        (BASE, "tiny8,sanitize=all,seed=4"),
    ];
    for (target, on) in all {
        let on = format!("emulator:{on}");
        let module = compiled_for(target, Compiler::config(SMALL, 5), &on, Mode::Megakernel, 1);
        let (_, certificate) = certify(&module, "decode").expect("a schedule").expect("it is right");
        assert!(
            certificate.stages > 100 && certificate.bytes_ahead == certificate.bytes,
            "{on}: {certificate:?}"
        );
        assert!(bits(&module, &[3, 9]) == expected, "{on}");
    }
}

/// Products of several columns have blocks of one warp, and other tasks of the step more.
#[test]
fn pages_of_tasks_with_fewer_warps_change_no_bit() {
    let config = SMALL.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    let texts: [&[u64]; 8] = [&[3], &[5], &[], &[7], &[1], &[2], &[6], &[8]];
    let run = |module: &Module, batch: usize| {
        let mut conversation = Conversation::new(module).expect("a model");
        let mut logits = conversation.feed_all(&texts[..batch], Phase::Decode).expect("it runs");
        // Lengths of their own from here on.
        if batch < 8 {
            logits.extend(conversation.feed_all(&texts[5 - batch..5], Phase::Decode).expect("it runs"));
        }
        logits.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect::<Vec<Vec<u32>>>()
    };
    let cases = [(3, TARGET, "tiny3,sanitize=all,seed=1"), (8, BASE, "tiny8,sanitize=all,seed=2")];
    for (batch, target, on) in cases {
        let compiler = || Compiler::config(config.as_str(), 5).batch(batch as u64);
        let module = compiled_for(target, compiler(), &format!("emulator:{on}"), Mode::Megakernel, 1);
        let programs = &module.phase("decode").expect("a phase").planned.compiled.programs;
        let (found, c) = certify(&module, "decode").expect("a schedule").expect("it is right");
        let fed = |kind: usize| !found.bodies.stages(kind as u32, 0).is_empty();
        let most = programs.iter().map(|p| p.warps).max().expect("programs");
        let fewer = (0..programs.len()).filter(|&kind| fed(kind) && programs[kind].warps < most).count();
        println!(
            "{batch} columns for {target}: {fewer} kinds of fewer than {most} warps; {} stages",
            c.stages
        );
        assert!(fewer >= 4 && c.bytes_ahead == c.bytes, "{c:?}");
        let launched = compiled_for(target, compiler(), "emulator", Mode::Launch, 1);
        assert!(run(&module, batch) == run(&launched, batch), "{batch} {target} {on}");
    }
}

/// How many seeds a longer exploration asks for.
fn seeds() -> Option<u64> {
    std::env::var("MEGAKERNEL_PAGE_SEEDS").ok().and_then(|s| s.parse().ok())
}

/// One layer is enough for most: under all checks, the time of a step is that of its weights.
#[test]
fn orders_of_many_seeds_give_the_same() {
    let configs = [SMALL.to_owned(), SMALL.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1")];
    let expected = configs.each_ref().map(|c| {
        let compiler = Compiler::config(c.as_str(), 5);
        bits(&compiled(compiler, "emulator", Mode::Launch, 1), &[9])
    });
    assert!(expected[0] != expected[1]);
    for_all(seeds().unwrap_or(8), |seed| {
        let on = format!("emulator:tiny{},sanitize=all,seed={seed}", [1, 3, 8][seed as usize % 3]);
        let (target, which) = (if seed % 2 == 0 { TARGET } else { BASE }, usize::from(seed % 8 < 6));
        let compiler = Compiler::config(configs[which].as_str(), 5);
        let module = compiled_for(target, compiler, &on, Mode::Megakernel, 1);
        assert!(bits(&module, &[9]) == expected[which], "seed {seed}");
    });
}

/// One step of the shapes of Llama-3.2-1B; only where a long exploration is asked for.
#[test]
fn a_whole_step_of_a_billion_weights() {
    if seeds().is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/Llama-3.2-1B");
    let run = |mode: Mode| {
        let compiler = Compiler::model(&folder).random_weights(Some(1));
        bits(&compiled(compiler, "emulator:h100", mode, 1), &[3])
    };
    assert!(run(Mode::Launch) == run(Mode::Megakernel));
}

#[test]
fn goldens_with_bulk_copies() {
    for (n, folder) in goldens().iter().enumerate() {
        let expected = bits(&compiled(Compiler::model(folder), "emulator", Mode::Launch, 1), &[3, 9]);
        let on = format!("emulator:tiny3,sanitize=all,seed={n}");
        assert!(
            bits(&compiled(Compiler::model(folder), &on, Mode::Megakernel, 1), &[3, 9]) == expected,
            "{}",
            folder.display()
        );
    }
}

#[test]
fn the_ring_goes_on_from_step_to_step() {
    let tokens = |on: &str, mode: Mode, per_launch: u32| {
        let module = small(on, mode, per_launch);
        let request = Request { prompt: &[100], tokens: 7, ignore_eos: true, check: false, sampling: None };
        generate(&module, &request, |_| ()).expect("it runs").tokens
    };
    let expected = tokens("emulator", Mode::Launch, 1);
    assert_eq!(tokens("emulator:tiny3,sanitize=all,seed=6", Mode::Megakernel, 3), expected);
    assert_eq!(tokens("emulator:tiny8", Mode::Megakernel, 6), expected);
}

/// When the kernel leaves early, the copying warp is far ahead. It must wait for what is on its way, and the next launch
/// begins with an empty ring.
#[test]
fn who_leaves_early_leaves_no_copy_behind() {
    let module = small("emulator:tiny3,sanitize=all", Mode::Megakernel, 4);
    let mut conversation = Conversation::new(&module).expect("a model");
    let all = conversation.go_on(7, 4, &[], None).expect("it goes on");
    let mut conversation = Conversation::new(&module).expect("a model");
    let some = conversation.go_on(7, 4, &[all[0]], None).expect("it stops");
    assert_eq!(some, all[..1]);
    assert_eq!(conversation.go_on(all[0], 3, &[], None).expect("it goes on"), all[1..]);
}

/// What the counters say that a step reads of each matrix: its bytes, and those that are read.
fn reads(module: &Module) -> BTreeMap<String, (u64, u64)> {
    let executable = module.executable("decode").expect("it loads");
    let ids = 3i32.to_le_bytes();
    let result = executable.run(&[("past", 0), ("kv", 1)], &[("ids", &ids)]).expect("it runs");
    let mut out: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for launch in &result.launches {
        for (name, count) in &launch.counters.as_ref().expect("counters").buffers {
            if name.contains("proj") || name.contains("lm_head") {
                out.entry(name.clone()).or_insert((count.bytes, 0)).1 += count.read_bytes;
            }
        }
    }
    out
}

/// By the counters: layers of the shapes of real models, each byte of every matrix once, whoever copies it.
#[test]
fn matrices_of_a_layer_are_read_once() {
    for (name, target) in [
        ("Llama-3.2-1B", TARGET),
        ("Llama-3.2-1B", BASE),
        ("Qwen3-0.6B", TARGET),
        ("Qwen3-1.7B", TARGET),
        ("SmolLM2-135M", BASE),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name).join("config.json");
        let text = std::fs::read_to_string(path).expect("a configuration");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["num_hidden_layers"] = 1.into();
        config["vocab_size"] = 512.into();
        let run = |mode: Mode| {
            let compiler = Compiler::config(config.to_string(), 5);
            let module = compiled_for(target, compiler, "emulator:h100", mode, 1);
            (reads(&module), bits(&module, &[3]), last_blocks(&module))
        };
        let (found, result, blocks) = run(Mode::Megakernel);
        // The matrix of the logits is that of the embedding, of which one row is read besides.
        assert_eq!(found.len(), 7, "{name}");
        let more: Vec<_> = found.iter().filter(|(_, (bytes, read))| bytes != read).collect();
        assert!(more.is_empty(), "{name} {target}: {more:?}");
        let (launched, expected, whole) = run(Mode::Launch);
        // Where the ring does not hold the weights of whole blocks, tasks have halves.
        let halved = name == "Llama-3.2-1B" && target == BASE;
        assert_eq!(blocks, if halved { vec![8] } else { whole.clone() }, "{name} {target}");
        assert!(!halved || whole == [16]);
        assert_eq!(found, launched, "{name}: the launches of the plan read as much");
        assert!(result == expected, "{name} {target}");
    }
}

/// Blocks of tensor cores with fewer rows than the instruction has, where the ring does not hold the weights of whole ones: the
/// same bits as launches of whole ones.
#[test]
fn halves_for_several_columns_change_no_bit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/Llama-3.2-1B/config.json");
    let text = std::fs::read_to_string(path).expect("a configuration");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["num_hidden_layers"] = 1.into();
    config["vocab_size"] = 512.into();
    let texts: [&[u64]; 3] = [&[3, 4], &[5], &[7, 8, 9]];
    let run = |mode: Mode| {
        let compiler = Compiler::config(config.to_string(), 5).batch(texts.len() as u64);
        let module = compiled_for(BASE, compiler, "emulator:h100", mode, 1);
        let mut conversation = Conversation::new(&module).expect("a model");
        let logits = conversation.feed_all(&texts, Phase::Decode).expect("it runs");
        let bits = logits.iter().map(|row| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        (bits.collect::<Vec<_>>(), last_blocks(&module))
    };
    let ((expected, whole), (result, halves)) = (run(Mode::Launch), run(Mode::Megakernel));
    assert_eq!((whole, halves), (vec![16], vec![8]));
    assert!(result == expected);
}

/// Small models, by family, widths of the model and of its inner layer, heads of keys, queries for each, positions of a head,
/// sequences and target. What such a size takes to compute is less than a launch, and less to read again from the cache:
/// o_proj by each block of the inner layer, the inner layer by each block of the outer, projections by blocks of a head
/// whose norm needs all of it.
const SMALLER: [(&str, [u64; 6], &str); 6] = [
    ("Llama", [512, 2048, 1, 4, 64, 1], BASE),
    ("Llama", [256, 1024, 4, 1, 64, 8], TARGET),
    ("Mistral", [768, 768, 1, 4, 96, 5], TARGET),
    ("Qwen2", [512, 512, 2, 2, 64, 2], TARGET),
    ("Qwen3", [256, 1024, 2, 4, 128, 5], BASE),
    ("Qwen3", [768, 768, 1, 1, 64, 8], BASE),
];

/// By the counters: each byte of every packed matrix once, however small the model, in a graph of launches and in a persistent
/// kernel, with the same bits, and a layer takes six launches or fewer.
#[test]
fn packed_matrices_of_small_models_are_read_once() {
    for_all(SMALLER.len() as u64, |n| {
        let (family, sizes, target) = SMALLER[n as usize];
        let [hidden, inner, keys, ratio, dim, batch] = sizes;
        let at = format!("{family} {sizes:?} {target}");
        let mut config: serde_json::Value = serde_json::from_str(SMALL).expect("JSON");
        config["architectures"] = vec![format!("{family}ForCausalLM")].into();
        config["model_type"] = family.to_lowercase().into();
        config["torch_dtype"] = "bfloat16".into();
        for (key, size) in [
            ("hidden_size", hidden),
            ("intermediate_size", inner),
            ("num_hidden_layers", 1),
            ("num_attention_heads", keys * ratio),
            ("num_key_value_heads", keys),
            ("head_dim", dim),
            ("vocab_size", 256),
        ] {
            config[key] = size.into();
        }
        let run = |mode: Mode| {
            let compiler = Compiler::config(config.to_string(), 5).batch(batch);
            let module = compiled_for(target, compiler, "emulator:tiny8", mode, 1);
            let launches = launches_per_layer(&module.phase("decode").expect("a phase").planned);
            assert!(launches <= 6, "{at}: {launches} launches for a layer");
            let executable = module.executable("decode").expect("it loads");
            let (symbols, buffers) = (&executable.step().symbols, &executable.step().buffers);
            let symbols: Vec<_> =
                symbols.values().map(|s| (s.name.as_str(), i64::from(s.name == "kv"))).collect();
            let ids: Vec<u8> = (0..batch as i32).flat_map(|b| (3 + b).to_le_bytes()).collect();
            let past: Vec<u8> = (0..batch).flat_map(|_| 0i32.to_le_bytes()).collect();
            let mut inputs: Vec<(&str, &[u8])> = vec![("ids", &ids)];
            inputs.extend((batch > 1).then_some(("past", &past[..])));
            let how = if mode == Mode::Graph { exec::Mode::Graph } else { exec::Mode::Launch };
            let result = executable.run_as(how, &symbols, &inputs).expect("it runs");
            let mut matrices = 0;
            for buffer in buffers.values().filter(|b| b.packing.is_some()) {
                let BufferKind::Weight(name) = &buffer.kind else {
                    panic!("{at}: `{}` is packed", buffer.name)
                };
                let counts = result.launches.iter().map(|l| &l.counters.as_ref().expect("counters").buffers);
                let bytes = buffer.dims.iter().filter_map(|d| d.as_const()).product::<u64>() * 2;
                let read: u64 = counts.filter_map(|c| c.get(name)).map(|c| c.read_bytes).sum();
                assert_eq!(read, bytes, "{at}, {mode:?}: bytes that are read of `{name}`");
                matrices += 1;
            }
            // Keys and values of few heads are not packed, they are too small.
            assert!(matrices >= 6, "{at}: {matrices} packed matrices");
            let bits =
                result.outputs.iter().map(|(name, a)| (name.clone(), a.data.clone())).collect::<Vec<_>>();
            (bits, matrices)
        };
        assert!(run(Mode::Graph) == run(Mode::Megakernel), "{at}");
    });
}

/// The claim of the certificate is about orders that are possible; this is what happens in one.
#[test]
fn copies_are_on_their_way_before_waits_end() {
    for (target, on) in [(TARGET, "tiny3"), (TARGET, "tiny8"), (BASE, "tiny3"), (BASE, "tiny8")] {
        let on = format!("emulator:{on}");
        let module = compiled_for(target, Compiler::config(SMALL, 5), &on, Mode::Megakernel, 1);
        let found = timeline(&module, &[3, 4]).expect("it runs");
        let ahead = found.ahead().expect("something is copied ahead");
        println!("{target} {on}: {ahead:.3}");
        assert!(ahead >= 0.9, "{target} {on}: {ahead}");
    }
}

/// The shapes of Llama-3.2-1B on 132 SMs: what the design promises of its schedule.
#[test]
fn a_model_of_a_billion_weights() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/Llama-3.2-1B");
    let start = Instant::now();
    let compiler = Compiler::model(folder).random_weights(Some(1)).cache(false);
    let module = compiled(compiler, "emulator:h100", Mode::Megakernel, 1);
    let compiling = start.elapsed();
    let phase = module.phase("decode").expect("a phase");
    let kernel = &phase.kernels[0];
    println!(
        "compiled in {compiling:?}: passes {:?}, text {:?}, NVRTC {:?}; {} threads of {} registers, {} bytes of shared memory",
        phase.planned.elapsed,
        phase.emitting,
        phase.compiling,
        kernel.threads,
        kernel.resources.registers,
        kernel.shared_bytes
    );
    // Without optimisation nothing takes the time that it takes.
    let timed = !cfg!(debug_assertions);
    assert!(!timed || compiling < Duration::from_secs(30), "{compiling:?}");
    assert_eq!(kernel.resources.spill_bytes, 0);
    assert!(kernel.resources.advisories.is_empty(), "{:?}", kernel.resources.advisories);
    let start = Instant::now();
    let (scheduled, c) = certify(&module, "decode").expect("a schedule").expect("it is right");
    let checking = start.elapsed();
    println!("{} tasks, {} records, checked in {checking:?}", c.tasks, c.records);
    assert!(!timed || checking < Duration::from_secs(5), "{checking:?}");
    println!("{} of {} bytes ahead; the others: {:?}", c.bytes_ahead, c.bytes, c.late);
    assert_eq!(c.late.iter().map(|(_, bytes)| bytes).sum::<u64>(), c.bytes - c.bytes_ahead);
    // All matrices go through the ring: 16 layers, and the logits.
    let layer = 2048 * (2048 + 2 * 512 + 2048 + 3 * 8192);
    assert!(c.bytes >= 2 * (16 * layer + 128_256 * 2048), "{}", c.bytes);
    assert!(c.tasks > 20_000 && scheduled.tables.blocks == 132);
    // Every row of a product needs all of what the launch before computed; nothing else makes all wait for all.
    let r = &scheduled.schedule.report;
    println!("{} events of all SMs, {} of them not demanded", r.global, r.undemanded);
    println!("{} waits, {} signals, {} phases", r.waits, r.signals, r.phases);
    // Above, what is not ahead is what tasks copy themselves.
    for u in &scheduled.unfed {
        println!("{} loads {} bytes of {} itself", u.kernel, u.bytes, u.buffer);
    }
    // Tables may be as long as the context; of weights this is what norms scale by, and a row of the embedding.
    let weights = scheduled.unfed.iter().filter(|u| u.buffer.contains("weight")).map(|u| u.bytes);
    let own: u64 = weights.sum();
    assert!(10 * own < c.bytes, "{own} bytes of weights are not fed");
    assert_eq!(r.undemanded, 0);
}

/// The part of the weights that loops read which is on its way before a task begins, by the certificate, and what there is of
/// it, for a model on so many SMs. Needs no code.
fn ahead(target: &str, sms: u32, compiler: Compiler) -> (f64, Certificate, Step) {
    let compiler = compiler.target(Some(target.into())).phases(&[Phase::Decode]);
    let target = Target::parse(target).expect("a target");
    let planned = narrowed(compiler.plan().expect("a plan").remove(0), target).expect("tasks");
    let found = plan(&planned, None, sms, &Costs::default(), target).expect("a schedule");
    let start = Instant::now();
    let (step, programs) = (planned.compiled.step, &planned.compiled.programs);
    let c = check(&step, programs, &found.bodies, &found.tables).expect("a step").expect("it is right");
    let checking = start.elapsed();
    println!("{} tasks checked in {checking:?}", c.tasks);
    assert!(cfg!(debug_assertions) || checking < Duration::from_secs(5), "{checking:?}");
    (c.bytes_ahead as f64 / c.bytes as f64, c, step)
}

/// Goldens are so narrow that a block reads its rows at once, without a loop. So these are their families, wider.
#[test]
fn nine_tenths_of_the_weights_of_all_families_are_ahead() {
    for folder in goldens() {
        let text = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for (key, size) in [("hidden_size", 1040), ("intermediate_size", 2080), ("head_dim", 64)] {
            config[key] = size.into();
        }
        for (target, sms) in [(TARGET, 132), (BASE, 8)] {
            let (part, c, _) = ahead(target, sms, Compiler::config(config.to_string(), 1));
            println!("{} for {target}: {part:.4} of {}", folder.display(), c.bytes);
            assert!(part >= 0.9, "{} for {target}: {part}", folder.display());
        }
    }
}

/// Of all published shapes nine tenths are ahead, with one to eight sequences, on targets with much and with less shared
/// memory and as many SMs as the largest device of each has.
#[test]
fn nine_tenths_of_the_weights_of_published_shapes_are_ahead() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let folders = std::fs::read_dir(models).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<_> = folders.filter(|f| f.join("config.json").exists()).collect();
    folders.sort();
    assert!(folders.len() >= 7);
    for_all(8 * folders.len() as u64, |n| {
        let n = n as usize;
        let (target, sms) = [(TARGET, 132), (BASE, 108)][n % 2];
        let (folder, batch) = (&folders[n / 8], [1, 2, 4, 8][n / 2 % 4]);
        let compiler = Compiler::model(folder).random_weights(Some(1)).batch(batch);
        let (part, c, step) = ahead(target, sms, compiler);
        println!("{} x {batch} on {sms} SMs: {part:.4}; the others: {:?}", folder.display(), c.late);
        assert!(part >= 0.9, "{} x {batch} on {sms} SMs: {part}", folder.display());
        // What goes through the ring are the matrices: all that have rows and are no table to look up.
        let weights =
            step.buffers.values().filter(|b| matches!(b.kind, BufferKind::Weight(_)) && b.dims.len() > 1);
        let bytes = |b: &BufferData| {
            b.dims.iter().filter_map(|d| d.as_const()).product::<u64>() * b.dtype.bytes() as u64
        };
        let least: u64 = weights.filter(|b| !b.name.contains("embed_tokens")).map(bytes).sum();
        assert!(c.bytes >= least, "{}: {} of {least} bytes", folder.display(), c.bytes);
    });
}

/// Blocks along the rows of the last product of a layer.
fn last_blocks(module: &Module) -> Vec<u32> {
    let step = &module.phase("decode").expect("a phase").planned.compiled.step;
    let launch = step.launches.iter().find(|l| l.kernel.ends_with("x_new")).expect("the end of a layer");
    launch.grid.iter().map(|g| g.block).collect()
}

/// Every kernel that allows it with blocks of half the size, and as often as that goes, under all checks: the same bits as
/// launches of whole ones. (Of a model as small as this none is halved otherwise.)
#[test]
fn halves_of_blocks_under_all_checks() {
    let config = SMALL.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    // Several sequences have lengths in memory, and go through tensor cores.
    let run = |executable: &Executable, batch: usize| {
        let ids: Vec<u8> = (9i32..).take(batch).flat_map(i32::to_le_bytes).collect();
        let past = vec![0u8; 4 * batch];
        let (one, several) = ([("ids", &ids[..])], [("ids", &ids[..]), ("past", &past)]);
        let result = match batch {
            1 => executable.run(&[("past", 0), ("kv", 1)], &one),
            _ => executable.run(&[("kv", 1)], &several),
        };
        result.expect("it runs").output("logits").expect("logits").data.clone()
    };
    for (batch, target, on, sms) in [
        (1, BASE, "tiny3,sanitize=all,seed=2", 3),
        (1, TARGET, "tiny8,sanitize=all", 8),
        (5, BASE, "tiny8,sanitize=all,seed=3", 8),
        (5, TARGET, "tiny3,sanitize=all", 3),
    ] {
        let compiler = || Compiler::config(config.as_str(), 5).batch(batch as u64);
        let launched = compiled(compiler(), "emulator", Mode::Launch, 1);
        let expected = run(&launched.executable("decode").expect("it loads"), batch);
        let compiler = compiler();
        let module = compiled_for(target, compiler, &format!("emulator:{on}"), Mode::Megakernel, 1);
        let whole = &module.phase("decode").expect("a phase").planned.compiled;
        let (mut step, mut programs) = (whole.step.clone(), whole.programs.clone());
        let (mut halves, mut again) = (0, 0);
        for program in &mut programs {
            let axes: Vec<_> = program.grid().map(|(axis, _)| axis).collect();
            for turn in 0.. {
                let half = |(n, &a)| Some((n, a, halve(program, a).expect("places")?));
                let Some((n, axis, half)) = axes.iter().enumerate().find_map(half) else { break };
                for launch in step.launches.iter_mut().filter(|l| l.kernel == half.name) {
                    assert_eq!(launch.grid[n].block, 2 * half.axes[axis].block);
                    launch.grid[n].block = half.axes[axis].block;
                }
                *program = half;
                halves += usize::from(turn == 0);
                again += usize::from(turn > 0);
            }
        }
        println!("{batch} on {target}: {halves} of {} kernels, and {again} times more", programs.len());
        assert!(halves >= 4 && again >= 5);
        let target = Target::parse(target).expect("a target");
        let bodies = Bodies::new(&step, &programs, target).expect("bodies");
        let text = source(&step, &programs, &bodies, &step.symbols, None).expect("a kernel");
        let nvrtc = Nvrtc::find(&toolchain()).expect("NVRTC");
        let options = nvrtc_options(module.arch());
        let compiler =
            KernelCompiler { nvrtc: &nvrtc, store: None, arch: module.arch(), options: &options, read_log };
        let (kernel, _) = compiler.compile(&text).expect("it compiles");
        let options = Options { sms, tasks_per_sm: 4, repeat: false };
        let graph = TaskGraph::build(&step, &programs, options).expect("tasks");
        let queues = schedule(&step, &graph, sms, module.task_costs()).expect("a schedule");
        let tables = tables(&step, &graph, &bodies, &queues, None);
        assert!(check(&step, &programs, &bodies, &tables).expect("a step").is_ok());
        let executable = module.session().prepare_persistent(&step, &tables, &kernel).expect("it loads");
        assert!(run(&executable, batch) == expected, "{batch} {on}");
    }
}

/// Places in the ring that are wrong on purpose. Whether a place is harmful says a replay of both sides with explicit
/// barriers, written down here; the checker must agree on every one.
#[test]
fn wrong_places_are_found() {
    for per_launch in [1, 4] {
        let module = small("emulator:tiny3", Mode::Megakernel, per_launch);
        let compiled = &module.phase("decode").expect("a phase").planned.compiled;
        let plan = scheduled(&module, "decode").expect("a schedule");
        let pages = plan.bodies.pages().expect("pages").0;
        let record = |n: usize| Record::read(&plan.tables.records[n * WORDS..][..WORDS]).expect("a record");
        let all: Vec<Record> = (0..plan.tables.records.len() / WORDS).map(record).collect();
        let fed: Vec<usize> = (0..all.len())
            .filter(|&n| all[n].kind < 1000 && !plan.bodies.stages(all[n].kind, 0).is_empty())
            .collect();
        let mut mutants: Vec<(&str, Vec<(usize, Record)>)> = Vec::new();
        let mut one = |class, n: usize, change: &dyn Fn(&mut Record)| {
            let mut record = all[n].clone();
            change(&mut record);
            mutants.push((class, vec![(n, record)]));
        };
        for &n in fed.iter().step_by(7) {
            one("another lap", n, &|r| r.place ^= LAP);
            one("a page further", n, &|r| r.place += 1);
            one("a page before", n, &|r| r.place -= u32::from(r.place & (LAP - 1) > 0));
            one("no page", n, &|r| r.place = r.place & !(LAP - 1) | (pages + 1));
            one("other steps", n, &|r| r.place ^= TURNS);
            one("pages left out", n, &|r| r.tail = 1);
        }
        for n in (0..all.len()).filter(|&n| all[n].tail > 0) {
            one("one page less at the end", n, &|r| r.tail -= 1);
            one("nothing left out", n, &|r| r.tail = 0);
        }
        for pair in fed.windows(2).step_by(5) {
            let (mut a, mut b) = (all[pair[0]].clone(), all[pair[1]].clone());
            std::mem::swap(&mut a.place, &mut b.place);
            mutants.push(("swapped pages", vec![(pair[0], a), (pair[1], b)]));
        }
        let mut rows: BTreeMap<&str, (usize, usize, usize)> = Default::default();
        let steps = if per_launch > 1 { 6 } else { 1 };
        let sound = |records: &[Record]| {
            plan.tables.queues.iter().all(|&(start, count)| {
                let queue = &records[start as usize..(start + count) as usize];
                Replay::new(pages).run(queue, steps, &|r| {
                    if r.kind >= 1000 {
                        return Vec::new();
                    }
                    let stages = plan.bodies.stages(r.kind, u64::from(r.first));
                    stages.iter().flat_map(|s| (0..s.count).map(|_| s.pages as u32)).collect()
                })
            })
        };
        assert!(sound(&all), "the schedule itself is sound");
        check(&compiled.step, &compiled.programs, &plan.bodies, &plan.tables)
            .expect("a step")
            .expect("it is right");
        for (class, changes) in mutants {
            let (mut records, mut tables) = (all.clone(), plan.tables.clone());
            for (n, record) in changes {
                tables.records[n * WORDS..][..WORDS].copy_from_slice(&record.words().expect("it fits"));
                records[n] = record;
            }
            if records == all {
                continue;
            }
            let harmful = !sound(&records);
            let verdict = check(&compiled.step, &compiled.programs, &plan.bodies, &tables).expect("a step");
            let row = rows.entry(class).or_default();
            row.0 += 1;
            row.1 += usize::from(harmful);
            let found = matches!(verdict, Err(Violation::Pages { .. }));
            row.2 += usize::from(found);
            assert!(!harmful || found, "{class} is harmful and was not found: {verdict:?}");
        }
        println!("{:<28}{:>6}{:>9}{:>9}", "", "all", "harmful", "checker");
        for (class, (all, harmful, found)) in &rows {
            println!("{class:<28}{all:>6}{harmful:>9}{found:>9}");
        }
        let harmful: usize = rows.values().map(|r| r.1).sum();
        assert!(harmful >= 60, "{harmful}");
    }
}

/// One block's ring with its barriers. Of an mbarrier: phases that ended, and arrivals at the present one; a wait for a
/// parity is over when the present phase has the other one. Whoever copies runs as far ahead as it can. A page that is
/// overwritten before all of its readers are through, a second copy to a page that nobody waited for, and a state in which
/// nobody goes on are harm.
struct Replay {
    pages: u32,
    full: Vec<u32>,
    empty: Vec<u32>,
    /// The copy that a page holds, until it is released.
    holds: Vec<Option<u64>>,
}

impl Replay {
    fn new(pages: u32) -> Replay {
        let n = pages as usize;
        Replay { pages, full: vec![0; n], empty: vec![0; n], holds: vec![None; n] }
    }

    /// Pages of one side, in order: the page, the parity of the lap, and the stage.
    fn uses(
        &self,
        queue: &[Record],
        steps: u32,
        stages: &dyn Fn(&Record) -> Vec<u32>,
    ) -> Option<Vec<(u32, u32, u64)>> {
        let mut out = Vec::new();
        let mut stage = 0;
        for step in 0..steps {
            for r in queue {
                let (mut page, turns) = (r.place % LAP, u32::from(r.place & TURNS != 0));
                let mut lap = u32::from(r.place & LAP != 0) ^ turns & step & 1;
                let mine = stages(r);
                if page > self.pages {
                    return None;
                }
                for &count in &mine {
                    stage += 1;
                    if page + count > self.pages {
                        (page..self.pages).for_each(|p| out.push((p, lap, stage)));
                        (page, lap) = (0, lap ^ 1);
                        stage += 1;
                    }
                    (page..page + count).for_each(|p| out.push((p, lap, stage)));
                    page += count;
                }
                stage += 1;
                if r.tail > 0 {
                    (self.pages.checked_sub(r.tail)?..self.pages).for_each(|p| out.push((p, lap, stage)));
                }
            }
        }
        Some(out)
    }

    fn run(mut self, queue: &[Record], steps: u32, stages: &dyn Fn(&Record) -> Vec<u32>) -> bool {
        let Some(uses) = self.uses(queue, steps, stages) else { return false };
        let (mut copied, mut read) = (0, 0);
        while read < uses.len() {
            let mut moved = false;
            // Ahead as far as waits let it.
            while let Some(&(page, lap, stage)) = uses.get(copied) {
                let p = page as usize;
                if self.empty[p] & 1 == lap ^ 1 {
                    break;
                }
                if self.holds[p].replace(stage).is_some() {
                    return false;
                }
                self.full[p] += 1;
                copied += 1;
                moved = true;
            }
            // Readers one use at a time.
            let (page, lap, stage) = uses[read];
            let p = page as usize;
            if self.full[p] & 1 != lap {
                if self.holds[p].take() != Some(stage) {
                    return false;
                }
                self.empty[p] += 1;
                read += 1;
                moved = true;
            }
            if !moved {
                return false;
            }
        }
        true
    }
}
