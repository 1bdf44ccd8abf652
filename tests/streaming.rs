//! What the shipped configurations stream: weights of contractions are copied in bulk and counted by barriers where the
//! target can, by threads where it cannot, and no kernel spills or gets an advisory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tilewright::ir::Expr;
use tilewright::ir::step::{BufferKind, Step};
use tilewright::ir::tile::{Op, TileProgram};
use tilewright::report::packed_over_logical;
use tilewright::runtime::exec::Mode;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Compiler, DeviceSpec, Phase};

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
    body.iter().any(|op| match op {
        Op::Loop { body, .. } => streams_weights(program, body, true),
        Op::Load { param, index, .. } if inside => {
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

/// Kernels whose tiles have rows that are too short to be copied one by one: there threads copy.
const SHORT_ROWS: [(&str, &str); 2] = [("Qwen3-0.6B", "layer_keys_new"), ("Qwen3-0.6B", "layer_q_turned")];

#[test]
fn weights_of_contractions_are_streamed() {
    nvrtc();
    let (bulk, by_threads) = ("cp.async.bulk.shared::cluster.global.mbarrier", "cp.async.cg");
    for (target, batch, copies) in [("sm_90a", 1, bulk), ("sm_80", 1, by_threads), ("sm_90a", 8, bulk)] {
        let mut seen = 0;
        for folder in models() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let module = Compiler::model(&folder)
                .random_weights(Some(1))
                .device(DeviceSpec::Emulator(None))
                .target(Some(target.to_owned()))
                .phases(&[Phase::Decode])
                .batch(batch)
                .compile()
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let phase = &module.phases()[0];
            let compiled = &phase.planned.compiled;
            packed_with_little_padding(&name, &compiled.step);
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
                let streaming = programs.filter(|p| streams_weights(p, &p.body, false)).count();
                if streaming == 0 {
                    continue;
                }
                seen += streaming;
                let short = batch == 1 && SHORT_ROWS.contains(&(name.as_str(), kernel.name.as_str()));
                let copies = if short { "cp.async.cg" } else { copies };
                let found = kernel.ptx.matches(copies).count();
                assert!(found >= streaming, "{at} has {found} times {copies}, for {streaming} programs");
                assert!(short || target == "sm_80" || kernel.ptx.contains("mbarrier.try_wait"), "{at} waits");
            }
        }
        assert!(seen >= 7 * 6, "{seen} kernels for {target}");
    }
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

#[test]
fn a_step_reads_each_weight_once_in_whole_sectors_and_without_bank_conflicts() {
    nvrtc();
    for (config, target, batch) in [(SCALED, "sm_90a", 1), (SCALED, "sm_80", 1), (FULL, "sm_90a", 1)] {
        let module = Compiler::config(config, 7)
            .batch(batch)
            .device(DeviceSpec::Emulator(None))
            .target(Some(target.to_owned()))
            .phases(&[Phase::Decode])
            .compile()
            .expect("it compiles");
        let executable = module.executable("decode").expect("it loads");
        let step = executable.step();
        let mut last = Vec::new();
        // What a sequence has behind it does not matter to the weights.
        let whole = config == SCALED && batch == 1;
        for past in if whole { 0..70i64 } else { 69..70 } {
            let symbols: Vec<(&str, i64)> = step
                .symbols
                .values()
                .map(|s| (s.name.as_str(), if s.name == "kv" { past + 1 } else { past }))
                .collect();
            let ids: Vec<u8> =
                (0..batch as i32).flat_map(|b| ((past as i32 + 31 * b) % 2048).to_le_bytes()).collect();
            last = executable.run_as(Mode::Graph, &symbols, &[("ids", &ids)]).expect("it runs").launches;
        }
        // What one step reads of each buffer, over all launches.
        let mut read: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
        let (mut wavefronts, mut ideal) = (0, 0);
        for launch in &last {
            let counters = launch.counters.as_ref().expect("the emulator counts");
            for (label, count) in &counters.buffers {
                let sum = read.entry(label).or_default();
                sum.0 += count.read_bytes;
                sum.1 += count.read_sectors;
                sum.2 += count.read_sectors_ideal;
            }
            wavefronts += counters.shared_wavefronts;
            ideal += counters.shared_wavefronts_ideal;
            for m in counters.memory.iter().filter(|m| m.loops > 0) {
                assert_eq!(
                    m.shared.wavefronts, m.shared.wavefronts_ideal,
                    "{target}, batch {batch}, `{}`: {} in a loop",
                    launch.kernel, m.instruction
                );
            }
        }
        let (mut weights, mut states) = (0, 0);
        for buffer in step.buffers.values() {
            let bytes = buffer.dims.iter().filter_map(|d| d.as_const()).product::<u64>()
                * buffer.dtype.bytes() as u64;
            match &buffer.kind {
                // A table that is read by rows, unless it is the last product's matrix as well.
                BufferKind::Weight(name)
                    if bytes >= 64 << 10 && (config == FULL || !name.contains("embed_tokens")) =>
                {
                    let &(once, sectors, best) = read.get(name.as_str()).expect("it is read");
                    // Its rows are few, and may be read by two kernels.
                    let rows = if name.contains("embed_tokens") { 2 * batch * 2048 * 2 } else { 0 };
                    assert!(
                        (bytes..=bytes + rows).contains(&once),
                        "{target}, batch {batch}: {once} of the {bytes} bytes of `{name}` are read"
                    );
                    assert!(
                        sectors * 100 <= best * 102,
                        "{target}, batch {batch}: `{name}` in {sectors} sectors, {best} would do"
                    );
                    weights += 1;
                }
                BufferKind::State => {
                    let &(once, ..) = read.get(buffer.name.as_str()).expect("it is read");
                    if !whole {
                        // Sequences of several rows are read by several blocks.
                        continue;
                    }
                    // Two heads of 64 positions of 2 bytes for each of 70 tokens.
                    assert_eq!(
                        once,
                        batch * 2 * 64 * 2 * 70,
                        "{target}, batch {batch}: `{}` is read once",
                        buffer.name
                    );
                    states += 1;
                }
                _ => {}
            }
        }
        assert_eq!(
            (weights, states),
            (if config == FULL { 7 + 1 } else { 2 * 7 + 1 }, if whole { 2 * 2 } else { 0 }),
            "{target}, batch {batch}"
        );
        assert!(
            wavefronts * 100 <= ideal * 101,
            "{target}, batch {batch}: {wavefronts} wavefronts, {ideal} would do"
        );
    }
}
