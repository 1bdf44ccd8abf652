//! What: a calibrated profile of a device, and who reads it: the cost model, the scheduler of persistent kernels, the
//! emulator.
//! Why here: one file describes one machine to all of them, and each is a part of its own.
//! Pre: NVRTC.
//! Post: a figure that changes in the file changes what each of them does; a file that cannot be one is an error by name.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::goldens;
use serde_json::{Value, json};
use tilewright::bench::profile::{BarrierCost, DeviceProfile};
use tilewright::bench::record::DeviceInfo;
use tilewright::generate::score;
use tilewright::persistent::scheduled;
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::{Compiler, DeviceSpec, Module, Phase};

/// A machine that was measured as far as others need it; the figures are made up.
fn profile() -> DeviceProfile {
    let device = DeviceInfo { kind: "cuda:0".into(), name: "made up".into(), arch: Some("sm_90a".into()) };
    DeviceProfile {
        multiprocessors: Some(6),
        read_gb_s: Some(120.0),
        flag_near_ns: Some(300.0),
        flag_median_ns: Some(400.0),
        flag_far_ns: Some(600.0),
        barriers: vec![BarrierCost { threads: 256, cycles: Some(30.0), ns: Some(20.0) }],
        ..DeviceProfile::unmeasured(device, "2026-01-31T12:00:00Z".into())
    }
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright"));
    command.args(["--format", "json"]).args(args).output().expect("the program")
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

fn write(path: &Path, profile: &DeviceProfile) {
    std::fs::write(path, serde_json::to_string(profile).expect("JSON")).expect("a file");
}

/// A small model as a persistent kernel, scheduled for the machine of a profile.
fn module(profile: Option<&DeviceProfile>) -> Module {
    let compiler = Compiler::model(&goldens()[0])
        .device("emulator:tiny8".parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .mode(Mode::Megakernel);
    let compiler = match profile {
        Some(p) => compiler.device_profile(p),
        None => compiler,
    };
    compiler.compile().expect("a golden compiles")
}

#[test]
fn queues_follow_what_waiting_costs() {
    nvrtc();
    let report = |p: &DeviceProfile| scheduled(&module(Some(p)), "decode").expect("a schedule").schedule;
    let usual = report(&profile());
    assert!(usual.report.measured && usual.report.makespan > 0);
    assert!(!scheduled(&module(None), "decode").expect("a schedule").schedule.report.measured);
    // Slower memory, and slower signals, end later.
    let slow = report(&DeviceProfile { read_gb_s: Some(60.0), ..profile() });
    assert!(slow.report.makespan > usual.report.makespan, "{:?}", slow.report);
    let near = report(&DeviceProfile { flag_median_ns: Some(500.0), ..profile() });
    assert!(near.report.makespan > usual.report.makespan, "{:?}", near.report);
    let far = report(&DeviceProfile { flag_far_ns: Some(2000.0), ..profile() });
    assert!(far.report.makespan > usual.report.makespan, "{:?}", far.report);
    let barrier = vec![BarrierCost { threads: 512, cycles: None, ns: Some(90.0) }];
    let same = report(&DeviceProfile { barriers: barrier, ..profile() });
    assert!(same.report.critical_path > usual.report.critical_path, "{:?}", same.report);
    // Where signals take longer than all of the work, everything stays in one place, and nothing waits.
    let lonely = report(&DeviceProfile { flag_median_ns: Some(1e9), flag_far_ns: Some(2e9), ..profile() });
    assert!(usual.queues.iter().all(|q| !q.is_empty()));
    assert!(lonely.report.waits < usual.report.waits / 4, "{:?} {:?}", lonely.report, usual.report);
    // What is computed does not depend on it.
    let logits = |p| score(&module(p), &[3, 9, 4], Phase::Decode).expect("it runs").logits;
    let extreme = DeviceProfile { flag_median_ns: Some(1e9), flag_far_ns: Some(2e9), ..profile() };
    assert_eq!(logits(None), logits(Some(&extreme)));
}

#[test]
fn one_file_is_read_by_all() {
    nvrtc();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("profile.json");
    let name = file.to_str().expect("a name");
    let model = goldens()[0].clone();
    let model = model.to_str().expect("a name");
    let check = |p: &DeviceProfile, device: &str| {
        write(&file, p);
        let output = run(&["check", model, "--device", device, "--device-profile", name]);
        let value = json_of(&output);
        assert_eq!(output.status.code(), Some(0), "{value}");
        value["phases"][0].clone()
    };
    // The emulated machine has as many SMs as the file says, and the scheduler its costs.
    let six = check(&profile(), "emulator");
    assert_eq!((&six["certificate"]["blocks"], &six["schedule"]["unit"]), (&json!(6), &json!("ns")));
    let five = check(&DeviceProfile { multiprocessors: Some(5), ..profile() }, "emulator:sanitize=race");
    assert_eq!(five["certificate"]["blocks"], 5);
    let slow = check(&DeviceProfile { flag_far_ns: Some(5000.0), ..profile() }, "emulator");
    assert!(slow["schedule"]["makespan"].as_u64() > six["schedule"]["makespan"].as_u64());
    // A machine that is named stays.
    assert_eq!(check(&profile(), "emulator:tiny3")["certificate"]["blocks"], 3);
    // Without a profile, figures are said to be assumed.
    let none = json_of(&run(&["check", model, "--device", "emulator"]));
    assert_eq!(none["phases"][0]["schedule"]["unit"], "ns, assumed");

    // As a machine of the emulator by itself, for every command with a device.
    let text = "x: f32[i=64]; y[i] = x[i] * 2";
    write(&file, &profile());
    for command in [
        vec!["check", model, "--device", &format!("emulator:{name}")],
        vec![
            "bench",
            "kernels",
            "--filter",
            "linear m1 ",
            "--device",
            &format!("emulator:{name},sanitize=race"),
        ],
        vec!["compile", "-e", text, "-o", "x", "--emit", "step", "--device", &format!("emulator:{name}")],
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tilewright"));
        program.args(["--format", "json"]).args(&command).current_dir(dir.path());
        let output = program.output().expect("the program");
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", String::from_utf8_lossy(&output.stdout));
        if command[0] == "check" {
            assert_eq!(json_of(&output)["phases"][0]["certificate"]["blocks"], 6);
        }
        if command[0] == "bench" {
            assert_eq!(json_of(&output)["results"]["device"]["name"], "emulator (made up)");
        }
    }
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { ret; }\n";
    std::fs::write(dir.path().join("k.ptx"), ptx).expect("a file");
    let launch = json!({ "ptx": "k.ptx", "entry": "k", "grid": [1, 1, 1], "block": [1, 1, 1], "args": [] });
    let launch_file = dir.path().join("launch.json");
    std::fs::write(&launch_file, launch.to_string()).expect("a file");
    let emulate =
        |machine: &str| run(&["emulate", launch_file.to_str().expect("a name"), "--profile", machine]);
    assert_eq!(json_of(&emulate(name))["profile"], "made up");
    assert_eq!(emulate(name).status.code(), Some(0));
    assert_eq!(emulate("tiny5").status.code(), Some(2));
    assert_eq!(emulate("nowhere.json").status.code(), Some(3));
}

#[test]
fn bad_files_are_named() {
    nvrtc();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bad.json");
    let name = file.to_str().expect("a name");
    let text = "x: f32[i=64]; y[i] = x[i] * 2";
    let good = serde_json::to_value(profile()).expect("JSON");
    let with = |path: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).expect("a figure") = value;
        bad.to_string()
    };
    for (content, code) in [
        (String::new(), 3),
        ("{}".to_owned(), 3),
        ("[1".to_owned(), 3),
        (with("/version", json!(2)), 3),
        (with("/format", json!("tilewright-bench")), 3),
        (with("/read_gb_s", json!("fast")), 3),
        (with("/multiprocessors", json!(-3)), 3),
        (with("/barriers", json!({})), 3),
        // A machine that the emulator does not know.
        (with("/device/arch", json!("sm_31")), 5),
        (with("/device/arch", Value::Null), 5),
    ] {
        std::fs::write(&file, &content).expect("a file");
        for args in [
            vec!["explain", "-e", text, "--device", "emulator", "--device-profile", name],
            vec!["explain", "-e", text, "--device", &format!("emulator:{name}")],
            vec![
                "bench",
                "kernels",
                "--filter",
                "linear m1 ",
                "--device",
                "emulator",
                "--device-profile",
                name,
            ],
        ] {
            let output = run(&args);
            let error = json_of(&output)["error"].clone();
            assert_eq!(output.status.code(), Some(code), "{content} {args:?}: {error}");
            let message = error["message"].as_str().unwrap_or("");
            assert!(code == 5 || message.contains("bad.json"), "{message}");
            assert!(error["help"].is_string(), "{error}");
        }
    }
    let gone = run(&["explain", "-e", text, "--device-profile", "nowhere.json"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(json_of(&gone)["error"]["message"].as_str().is_some_and(|m| m.contains("nowhere.json")));
    // Figures that make no sense are as good as none.
    for bad in [0.0, -1.0] {
        let p = DeviceProfile {
            read_gb_s: Some(bad),
            flag_median_ns: Some(bad),
            flag_near_ns: Some(bad),
            flag_far_ns: Some(bad),
            barriers: vec![BarrierCost { threads: 1024, cycles: None, ns: Some(bad) }],
            ..profile()
        };
        assert_eq!(p.task_costs(), Default::default());
    }
}
