//! Steps as graphs of launches that overlap: the same results as one launch after the other, bit for bit, without a
//! finding in any schedule; and what happens when a kernel does not wait.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::ids;
use tilewright::generate::score;
use tilewright::runtime::exec::{Mode as Exec, Session, SessionOptions};
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::{Compiler, DType, DeviceSpec, Phase};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn compiler(name: &str, device: &str, target: &str, mode: Mode) -> Compiler {
    nvrtc();
    Compiler::model(golden(name))
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .target(Some(target.to_owned()))
        .mode(mode)
}

/// The bits of all logits.
fn logits(name: &str, phase: Phase, activations: DType, device: &str, target: &str, mode: Mode) -> Vec<u32> {
    let module = compiler(name, device, target, mode)
        .phases(&[phase])
        .activations(activations)
        .compile()
        .expect("a golden compiles");
    let scored =
        score(&module, &ids(&golden(name)), phase).unwrap_or_else(|e| panic!("{name} {target}: {e}"));
    scored.logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn graphs_give_what_launches_give_and_nothing_races() {
    for (name, target, activations) in [
        ("llama_llama3", "sm_90a", DType::Bf16),
        ("llama_llama3", "sm_80", DType::F32),
        ("mistral_window", "sm_90a", DType::F32),
        ("qwen3_alternating", "sm_90a", DType::Bf16),
        ("qwen2_bias", "sm_80", DType::Bf16),
    ] {
        let expected = logits(name, Phase::Decode, activations, "emulator", target, Mode::Launch);
        for device in ["emulator", "emulator:sanitize=all", "emulator:sanitize=all,seed=5"] {
            let found = logits(name, Phase::Decode, activations, device, target, Mode::Graph);
            assert_eq!(found, expected, "{name} {target} {activations} {device}");
        }
    }
    let prefill = |mode| {
        logits("qwen3_norm", Phase::Prefill, DType::Bf16, "emulator:sanitize=all,seed=2", "sm_90a", mode)
    };
    assert_eq!(prefill(Mode::Graph), prefill(Mode::Launch));
}

#[test]
fn a_kernel_that_does_not_wait_is_found_out() {
    let device = "emulator:sanitize=all,seed=1";
    let module = compiler("llama_llama3", device, "sm_90a", Mode::Graph)
        .phases(&[Phase::Decode])
        .compile()
        .expect("a golden compiles");
    let phase = &module.phases()[0];
    let step = &phase.planned.compiled.step;
    let mut symbols: Vec<(&str, i64)> =
        step.symbols.values().map(|s| (s.name.as_str(), s.min as i64)).collect();
    for (name, value) in &mut symbols {
        *value = if *name == "kv" { 1 } else { *value };
    }
    let run = |kernels: &[_]| {
        let weights = Arc::clone(module.weights());
        let session = Session::new(Arc::clone(module.device()), weights, SessionOptions::default());
        let executable = session.prepare(step, kernels).expect("a step");
        executable.run_as(Exec::Graph, &symbols, &[("ids", &1i32.to_le_bytes())]).map(|_| ())
    };
    run(&phase.kernels).expect("kernels that wait are clean");
    // The embedding is first and has nothing to wait for; whoever reads what another launch wrote must.
    let mut found = 0;
    for n in 1..phase.kernels.len() {
        let mut kernels = phase.kernels.clone();
        let broken = kernels[n].ptx.replace("griddepcontrol.wait;", "// griddepcontrol.wait");
        assert_ne!(broken, kernels[n].ptx, "`{}` waits", kernels[n].name);
        kernels[n].ptx = broken;
        let error = run(&kernels).expect_err("a kernel that reads too early").to_string();
        assert!(error.contains("race"), "`{}`: {error}", kernels[n].name);
        found += 1;
    }
    assert!(found > 2);
}
