//! What the shipped configurations stream: weights of contractions are copied in bulk and counted by barriers where the
//! target can, by threads where it cannot, and no kernel spills or gets an advisory.

use std::path::{Path, PathBuf};

use tilewright::ir::Expr;
use tilewright::ir::tile::{Op, TileProgram};
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
    for (target, copies) in
        [("sm_90a", "cp.async.bulk.shared::cluster.global.mbarrier"), ("sm_80", "cp.async.cg")]
    {
        let mut seen = 0;
        for folder in models() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let module = Compiler::model(&folder)
                .random_weights(Some(1))
                .device(DeviceSpec::Emulator(None))
                .target(Some(target.to_owned()))
                .phases(&[Phase::Decode])
                .compile()
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let phase = &module.phases()[0];
            for (program, kernel) in phase.planned.compiled.programs.iter().zip(&phase.kernels) {
                let at = format!("{name} {target} `{}`", kernel.name);
                assert_eq!(kernel.resources.spill_bytes, 0, "{at} spills");
                assert!(kernel.resources.advisories.is_empty(), "{at}: {:?}", kernel.resources.advisories);
                if !streams_weights(program, &program.body, false) {
                    continue;
                }
                seen += 1;
                let short = SHORT_ROWS.contains(&(name.as_str(), kernel.name.as_str()));
                let copies = if short { "cp.async.cg" } else { copies };
                assert!(kernel.ptx.contains(copies), "{at} has no {copies}");
                assert!(short || target == "sm_80" || kernel.ptx.contains("mbarrier.try_wait"), "{at} waits");
            }
        }
        assert!(seen >= 7 * 6, "{seen} kernels for {target}");
    }
}
