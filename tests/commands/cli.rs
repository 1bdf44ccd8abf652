//! The command line as scripts see it: exit codes, streams, JSON, files.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tilewright::DType;
use tilewright::runtime::npy;
use tilewright::runtime::testing::nvrtc;
use tilewright::runtime::values::{decode, encode};

/// Runs the program away from the user's device and configuration.
fn tilewright(args: &[&str]) -> Output {
    tilewright_with(args, &[])
}

fn tilewright_with(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright"));
    command.args(args).env_remove("TILEWRIGHT_LOG").current_dir(env!("CARGO_MANIFEST_DIR"));
    for (name, value) in env {
        command.env(name, value);
    }
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Stdout as exactly one JSON value.
fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output))
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", stdout(output), stderr(output)))
}

/// The error of a failed call with `--format json`, after the contract was checked.
fn error(args: &[&str]) -> (i32, Value) {
    error_with(args, &[])
}

fn error_with(args: &[&str], env: &[(&str, &str)]) -> (i32, Value) {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    let output = tilewright_with(&args, env);
    let value = json(&output);
    let error = value["error"].clone();
    assert_eq!(error["code"], code(&output), "{args:?}");
    assert!(error["kind"].is_string() && !error["message"].as_str().unwrap().is_empty());
    assert!(error.as_object().unwrap().contains_key("help"));
    assert!(!stderr(&output).is_empty(), "people see it too");
    (code(&output), error)
}

fn write(dir: &Path, name: &str, dtype: DType, dims: &[u64], values: &[f64]) -> String {
    let path = dir.join(name);
    npy::write(&path, dtype, dims, &encode(dtype, values.iter().copied())).unwrap();
    path.display().to_string()
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in [&["--help"][..], &["--version"], &["jit", "--help"], &["help", "compile"]] {
        let output = tilewright(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(!stdout(&output).is_empty() && stderr(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn wrong_calls_have_code_2() {
    for args in [
        &[][..],
        &["no-such-command"],
        &["jit"],
        &["jit", "y: f32[i=3]; y[i] = i", "--device", "gpu"],
        &["jit", "y: f32[i=3]; y[i] = i", "--device", "emulator:no-such-profile"],
        &["jit", "y: f32[i=3]; y[i] = i", "--target", "sm80"],
        &["jit", "y: f32[i=3]; y[i] = i", "--in", "nothing"],
        &["jit", "y: f32[i=3]; y[i] = i", "--emit", "poetry"],
        &["jit", "x: f32[i=n]; n in 1..9; y[i] = 2 * x[i]", "--set", "n=-3"],
        &["compile", "--phase", "decode"],
        &["compile", "-e", "y: f32[i=3]; y[i] = i", "--phase", "decode"],
        &["compile", "-e", "y: f32[i=3]; y[i] = i", "--batch", "0"],
        &["explain", "-e", "y: f32[i=3]; y[i] = i", "--max-context", "7"],
        &["verify", "-e", "y: f32[i=3]; y[i] = i", "--phase", "prefill"],
        &["check", "x.tw", "--batch", "2"],
        &["explain", "-e", "x: f32[i=n]; n in 1..9; y[i] = 2 * x[i]", "--set", "n=3", "--set", "n=4"],
        &["compile", "x", "--phase", "dessert"],
        &["opt", "x.tw", "--passes", "no-such-pass"],
        &["selftest", "--filter", "no such case", "--device", "emulator"],
    ] {
        let output = tilewright(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{args:?}");
    }
    assert_eq!(error(&["jit"]).1["kind"], "usage");
    assert_eq!(error(&["jit", "y: f32[i=3]; y[i] = i", "--device", "gpu"]).1["kind"], "usage");
}

/// What took long to find is not lost to a path that was wrong from the start.
#[test]
fn places_of_results_are_looked_at_first_and_replaced_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, page) = (dir.path().join("no/such/file"), dir.path().join("page.html"));
    let equations = "x: f32[i=n]; n in 1..9; y[i] = 2 * x[i]";
    // What is wrong with the equations would be found later.
    for args in [["verify", "-e", "y[", "--out"], ["explain", "-e", "y[", "-o"]] {
        let html = ["--format", "html"].map(str::to_owned);
        let (path, more) =
            (missing.display().to_string(), if args[0] == "explain" { &html[..] } else { &[] });
        let all: Vec<&str> = args.into_iter().chain([&path[..]]).chain(more.iter().map(|s| &s[..])).collect();
        let output = tilewright(&all);
        assert!(code(&output) == 3 && stderr(&output).contains("no/such"), "{}", stderr(&output));
    }
    std::fs::write(&page, "old").unwrap();
    let path = page.display().to_string();
    let failed = tilewright(&["explain", "-e", "y[", "--format", "html", "-o", &path]);
    assert_eq!((code(&failed), std::fs::read_to_string(&page).unwrap().as_str()), (3, "old"));
    assert_eq!(code(&tilewright(&["explain", "-e", equations, "--format", "html", "-o", &path])), 0);
    assert!(std::fs::read_to_string(&page).unwrap().ends_with("</html>\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn bad_equations_are_pointed_at() {
    let (code, error) = error(&["jit", "x: f32[i=3]\ny[i] = x[i] +* 2"]);
    assert_eq!((code, error["kind"].as_str()), (3, Some("syntax")));
    assert_eq!((error["where"]["line"].as_u64(), error["where"]["column"].as_u64()), (Some(2), Some(14)));
    let output = tilewright(&["jit", "x: f32[i=3]\ny[i] = x[i] +* 2"]);
    assert!(stderr(&output).contains("y[i] = x[i] +* 2"), "{}", stderr(&output));
}

#[test]
fn bad_files_have_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let folder = dir.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let model = folder.display().to_string();
    let config = |text: &str| std::fs::write(folder.join("config.json"), text).unwrap();

    let missing = dir.path().join("missing").display().to_string();
    assert_eq!(error(&["compile", &missing]).0, 3);
    assert_eq!(error(&["compile", &model]).0, 3, "a folder without a configuration");
    config("{\"architectures\": [\"NoSuchForCausalLM\"], \"model_type\": \"no_such\"}");
    let (code, e) = error(&["compile", &model, "--random-weights", "1"]);
    assert_eq!((code, e["kind"].as_str()), (3, Some("model")));
    assert!(e["message"].as_str().unwrap().contains("NoSuchForCausalLM"), "{e}");
    config("{ not json");
    assert_eq!(error(&["compile", &model, "--random-weights", "1"]).0, 3);

    let ir = at("bad.tw", "graph @f(x: f32[i=3] input) {\n    y[i]: f32 = x[i] +\n    return y\n}\n");
    let (code, e) = error(&["compile", &ir]);
    assert_eq!((code, e["kind"].as_str()), (3, Some("syntax")));
    assert_eq!(e["where"]["line"], 3, "{e}");
    assert_eq!(error(&["opt", &ir]).0, 3);
    assert_eq!(error(&["opt", &missing]).0, 3);

    let text = at("array.npy", "this is no array");
    let (code, e) = error(&["jit", "y[i] = x[i]", "--in", &format!("x={text}")]);
    assert_eq!((code, e["kind"].as_str()), (3, Some("array")));
    let words = dir.path().join("words.npy");
    npy::write(&words, DType::Bf16, &[3], &[0; 6]).unwrap();
    let words = format!("x={}", words.display());
    assert_eq!(error(&["jit", "y[i] = x[i]", "--in", &words]).0, 3, "16-bit words without a declaration");
    assert_eq!(error(&["jit", "x: f16[i]; y[i] = x[i]", "--in", &words]).0, 3);
    assert_eq!(error(&["jit", "y[i] = x[i]", "--out", "z"]).0, 3, "an output that is not defined");
}

#[test]
fn a_missing_environment_has_code_4() {
    let wrong = [("TILEWRIGHT_NVRTC", "/no/such/libnvrtc.so")];
    let (found, e) = error_with(&["jit", "y: f32[i=3]; y[i] = i", "--device", "emulator"], &wrong);
    assert_eq!((found, e["kind"].as_str()), (4, Some("nvrtc")));
    assert!(e["message"].as_str().unwrap().contains("TILEWRIGHT_NVRTC"));

    // Nothing to find: no Python, an empty cache, no toolkit.
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().display().to_string();
    let nothing =
        [("PATH", empty.as_str()), ("TILEWRIGHT_CACHE", &empty), ("CUDA_HOME", ""), ("CUDA_PATH", "")];
    let output = tilewright_with(&["doctor", "--format", "json"], &nothing);
    let report = json(&output);
    if report["nvrtc"]["found"] == false {
        // The platform's loader may still know one.
        assert_eq!(code(&output), 4);
        let (found, e) = error_with(&["jit", "y: f32[i=3]; y[i] = i", "--device", "emulator"], &nothing);
        assert_eq!(found, 4);
        assert!(e["message"].as_str().unwrap().contains("tilewright setup"), "{e}");
        let (found, e) = error_with(&["setup"], &nothing);
        assert_eq!((found, e["kind"].as_str()), (4, Some("setup")));
    }
    let (found, e) = error(&["jit", "y: f32[i=3]; y[i] = i", "--device", "cuda:4095"]);
    assert_eq!((found, e["kind"].as_str()), (4, Some("device")));
}

#[test]
fn only_persistent_kernels_have_schedules() {
    for command in ["check", "profile"] {
        let (code, e) =
            error(&[command, "tests/models/SmolLM2-135M", "--random-weights", "1", "--mode", "graph"]);
        assert_eq!((code, e["kind"].as_str()), (5, Some("unsupported")), "{command}");
    }
    let model = "tests/models/SmolLM2-135M";
    let (code, _) = error(&["run", model, "--random-weights", "1", "--ids", "1", "--tokens-per-launch", "4"]);
    assert_eq!(code, 2, "launches do not go on by themselves");
}

#[test]
fn schedules_of_several_sequences_are_checked() {
    nvrtc();
    let blocks = |batch: &str| {
        let args =
            ["check", "tests/goldens/qwen3_norm", "--mode", "megakernel", "--device", "emulator:tiny3"];
        let args: Vec<&str> = args.into_iter().chain(["--batch", batch, "--format", "json"]).collect();
        let report = json(&tilewright(&args));
        assert_eq!(report["ok"], true, "{report}");
        report["phases"][0]["certificate"]["launch_blocks"].as_u64().expect("a certificate")
    };
    // Attention has blocks for each sequence.
    assert!(blocks("3") > blocks("1"));
}

#[test]
fn modes_and_targets_that_are_not_there_have_code_5() {
    let model = "tests/models/SmolLM2-135M";
    for (mode, expected) in [("all", (5, "unsupported")), ("no-such-mode", (2, "usage"))] {
        let (code, e) = error(&["compile", model, "--random-weights", "1", "--mode", mode]);
        assert_eq!((code, e["kind"].as_str().unwrap()), expected, "{mode}");
    }
    nvrtc();
    let (code, e) = error(&["jit", "y: f32[i=3]; y[i] = i", "--target", "sm_12", "--device", "emulator"]);
    assert_eq!((code, e["kind"].as_str()), (5, Some("target")));
    assert!(e["message"].as_str().unwrap().contains("sm_80"));
}

#[test]
fn doctor_tells_what_there_is() {
    nvrtc();
    let report = json(&tilewright(&["doctor", "--format", "json"]));
    assert_eq!(report["nvrtc"]["found"], true);
    assert!(report["nvrtc"]["targets"].as_array().unwrap().iter().any(|t| t == "sm_90"));
    assert!(report["cache"]["directory"].is_string() && report["driver"]["gpus"].is_array());
    let text = stdout(&tilewright(&["doctor"]));
    for word in ["nvrtc", "driver", "cache"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn jit_runs_on_arrays_and_writes_arrays() {
    nvrtc();
    let dir = tempfile::tempdir().unwrap();
    let a: Vec<f64> = (0..15).map(|i| f64::from(i) * 0.25 - 1.0).collect();
    let a_file = write(dir.path(), "a.npy", DType::F32, &[3, 5], &a);
    let b_file = write(dir.path(), "b.npy", DType::Bf16, &[5], &[1.0, -2.0, 0.5, 4.0, 1.0]);
    let out = dir.path().join("c.npy");
    let output = tilewright(&[
        "jit",
        "b: bf16[j]; c[i] = sum[j](a[i,j] * b[j]); d = sum[i](c[i])",
        "--in",
        &format!("a={a_file}"),
        "--in",
        &format!("b={b_file}"),
        "--out",
        &format!("c={}", out.display()),
        "--out",
        "d",
        "--device",
        "emulator",
        "--check",
        "--format",
        "json",
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let value = json(&output);
    assert_eq!(value["outputs"][0]["shape"], serde_json::json!([3]));
    assert_eq!(value["outputs"][1]["shape"], serde_json::json!([]));
    assert_eq!(value["device"], "emulator");
    assert!(value["kernels"].as_u64().unwrap() >= 1 && value["launches"].as_u64().unwrap() >= 1);
    assert!(value["hbm_bytes_over_floor"].as_f64().unwrap() >= 1.0);

    let c = npy::read(&out).unwrap();
    assert_eq!(c.dims, [3]);
    let expected: Vec<f64> =
        (0..3).map(|i| (0..5).map(|j| a[i * 5 + j] * [1.0, -2.0, 0.5, 4.0, 1.0][j]).sum()).collect();
    let found = decode(DType::F32, &c.data);
    assert!(found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-5), "{found:?}");
}

#[test]
fn jit_without_inputs_reports_and_missing_inputs_are_named() {
    nvrtc();
    let value = json(&tilewright(&[
        "jit",
        "n in 1..99; x: f32[i=n, j=7]; y[i] = sum[j](x[i,j])",
        "--device",
        "emulator",
        "--format",
        "json",
    ]));
    assert_eq!(value["outputs"][0]["shape"], serde_json::json!(["n"]));
    assert_eq!(value["hbm_bytes_over_floor"], Value::Null);
    // Nothing is needed, so it runs.
    let text = stdout(&tilewright(&["jit", "y: f32[i=3]; y[i] = i * 2 + 1", "--device", "emulator"]));
    assert!(text.contains("[1.000000, 3.000000, 5.000000]"), "{text}");

    let dir = tempfile::tempdir().unwrap();
    let x = write(dir.path(), "x.npy", DType::F32, &[3], &[1.0, 2.0, 3.0]);
    let out = dir.path().join("z.npy");
    let (code, e) = error(&[
        "jit",
        "x: f32[i=3]; y: f32[i]; z[i] = x[i] + y[i]",
        "--in",
        &format!("x={x}"),
        "--out",
        &format!("z={}", out.display()),
        "--device",
        "emulator",
    ]);
    assert_eq!(code, 3);
    assert!(e["message"].as_str().unwrap().contains("`y`"), "{e}");
    assert!(!out.exists(), "no partial output");
    let (code, _) =
        error(&["jit", "x: f32[i=4]; y[i] = x[i]", "--in", &format!("x={x}"), "--device", "emulator"]);
    assert_eq!(code, 3, "extents that disagree");

    let (input, on) = (format!("x={x}"), ["--device", "emulator"]);
    let two = "x: f32[i=3]; y[i] = x[i] + 1; z[i] = x[i] * 2";
    let (y, nowhere) = (format!("y={}", out.display()), format!("z={}/no/z.npy", dir.path().display()));
    let (code, _) = error(&["jit", two, "--in", &input, "--out", &y, "--out", &nowhere, on[0], on[1]]);
    assert_eq!(code, 3);
    assert!(!out.exists(), "one output of two");
    let twice = ["jit", two, "--in", &input, "--in", &input, on[0], on[1]];
    assert_eq!(error(&twice).0, 2, "an input given twice");
    let equations = "x: f32[i=2]; y[i] = x[i]; z[i] = x[i]";
    let one_file = ["jit", equations, "--out", "y=o.npy", "--out", "z=o.npy"];
    assert_eq!(error(&one_file).0, 2, "a file for two outputs");
    assert_eq!(
        error(&["explain", "-e", equations, "--candidate", "best"]).0,
        2,
        "a candidate that is not there"
    );
    assert_eq!(error(&["jit", "x: f32[i=3000000000]; y[i] = x[i]", on[0], on[1]]).0, 5, "a huge axis");
}

#[test]
fn compile_writes_a_whole_directory_or_nothing() {
    nvrtc();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = "x: f32[i=30, j=17]; y[i,j] = softmax[j](x[i,j])";
    let output = tilewright(&["compile", "-e", text, "-o", out.to_str().unwrap(), "--format", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for file in ["graph.tw", "plan.tw", "tile.tw", "step.tw", "laws.txt", "report.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    let kernel = report["phases"][0]["kernels"][0]["name"].as_str().unwrap().to_owned();
    for ending in ["cu", "ptx", "cubin"] {
        assert!(out.join(format!("{kernel}.{ending}")).is_file(), "{kernel}.{ending}");
    }
    // Every level parses again.
    for file in ["graph.tw", "plan.tw", "tile.tw", "step.tw"] {
        let path = out.join(file);
        let again = tilewright(&["opt", path.to_str().unwrap()]);
        assert_eq!(code(&again), 0, "{file}: {}", stderr(&again));
        assert_eq!(stdout(&again), std::fs::read_to_string(&path).unwrap(), "{file}");
    }
    // The graph compiles again, to the same programs.
    let graph = out.join("graph.tw");
    let again = tilewright(&["compile", graph.to_str().unwrap(), "--emit", "tile"]);
    assert_eq!(stdout(&again), std::fs::read_to_string(out.join("tile.tw")).unwrap());
    let lowered = tilewright(&["opt", graph.to_str().unwrap(), "--passes", "lower,layout"]);
    assert_eq!(stdout(&lowered), std::fs::read_to_string(out.join("tile.tw")).unwrap());

    // Only what was asked for replaces what was there.
    let args = ["compile", "-e", text, "-o", out.to_str().unwrap(), "--emit", "plan,cuda"];
    assert_eq!(code(&tilewright(&args)), 0);
    let mut names: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [format!("{kernel}.cu"), "plan.tw".to_owned()]);
    // A failure leaves everything as it was.
    let bad = ["compile", "-e", "y[i] = ", "-o", out.to_str().unwrap()];
    assert_eq!(code(&tilewright(&bad)), 3);
    assert!(out.join("plan.tw").exists());
}

#[test]
fn explain_prints_each_law_and_needs_no_nvrtc() {
    let nowhere = [("TILEWRIGHT_NVRTC", "/no/such/libnvrtc.so")];
    let text = "x: f32[i=8, c=750]; w: f32[o=37, c]
                y[i,o] = sum[c](w[o,c] * x[i,c] * rsqrt(mean[c](x[i,c] * x[i,c]) + 0.00001))";
    let output = tilewright_with(&["explain", "-e", text, "--format", "json"], &nowhere);
    let value = json(&output);
    let kernel = &value["phases"][0]["kernels"][0];
    let laws = kernel["derivation"].as_array().unwrap();
    assert!(!laws.is_empty());
    assert!(laws.iter().all(|l| l["law"].is_string() && l["before"].is_string() && l["after"].is_string()));
    let name = kernel["name"].as_str().unwrap();
    let text_output = tilewright_with(&["explain", "-e", text, "--kernel", name], &nowhere);
    let shown = stdout(&text_output);
    assert!(shown.contains(name) && shown.contains(laws[0]["law"].as_str().unwrap()), "{shown}");
    let (code, e) = error(&["explain", "-e", text, "--kernel", "no_such"]);
    assert_eq!(code, 3);
    assert!(e["help"].as_str().unwrap().contains(name));
}

#[test]
fn a_broken_cache_is_no_failure() {
    nvrtc();
    let found = nvrtc().path().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let env = [("TILEWRIGHT_CACHE", file.to_str().unwrap()), ("TILEWRIGHT_NVRTC", found.as_str())];
    if nvrtc().path().is_absolute() {
        let output = tilewright_with(&["jit", "y: f32[i=3]; y[i] = i", "--device", "emulator"], &env);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("TILEWRIGHT_CACHE"), "a warning is due: {}", stderr(&output));
    }
}

#[test]
fn a_published_model_is_verified_scaled_down() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/Qwen3-0.6B");
    let args = ["verify", model, "--random-weights", "1", "--phase", "decode", "--format", "json"];
    let output = tilewright_with(&args, &[("TILEWRIGHT_NVRTC", nvrtc().path().to_str().unwrap())]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    let tests = report["phases"][0]["tests"].as_array().unwrap();
    let (small, own): (Vec<&Value>, Vec<&Value>) = tests.iter().partition(|t| t["of"] != "");
    assert!(!own.is_empty() && own.iter().all(|t| t["status"].as_str().unwrap().starts_with("not tested")));
    for what in [
        "tile programs against source",
        "all kernels against source",
        "all kernels beside those without fusion",
    ] {
        let found = small.iter().find(|t| t["what"] == what && t["inputs"].as_str().unwrap().contains("NaN"));
        assert_eq!(found.unwrap()["status"], "passed", "{what}");
    }
}

#[test]
fn verify_keeps_apart_what_is_proved_and_what_is_tested() {
    let nowhere = [("TILEWRIGHT_NVRTC", "/no/such/library")];
    let text = "S: f32[i=3, j=50]; O[i] = logsumexp[j](S[i,j])";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let out = path.to_str().unwrap();
    let args = ["verify", "-e", text, "--without-kernels", "--format", "json", "--out", out];
    let output = tilewright_with(&args, &nowhere);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["unproved"], 0);
    assert_eq!(report["phases"][0]["proofs"][0]["status"], "proved");
    let laws = &report["phases"][0]["proofs"][0]["certificate"]["steps"];
    assert!(laws.as_array().unwrap().iter().any(|s| s["law"] == "loc"));
    let tests = report["phases"][0]["tests"].as_array().unwrap();
    assert!(tests.iter().any(|t| t["same"].as_u64() > Some(0) && t["status"] == "passed"));
    let kernels = tests.iter().find(|t| t["what"] == "kernels").unwrap();
    assert!(kernels["status"].as_str().unwrap().starts_with("not tested"));
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(written, report);
    let (code, e) = error_with(&["verify", "-e", text], &nowhere);
    assert_eq!((code, &e["kind"]), (4, &Value::from("nvrtc")));
}

/// An axis that may have no positions is tried with none, kernels too.
#[test]
fn verify_tries_what_may_be_empty() {
    nvrtc();
    let text = "n in 0..300; X: f32[i=3, j=n]; W: f32[j]; \
        Y[i] = sum[j](layer_norm[j](X[i,j]) * W[j]); P[i] = argmax[j](X[i,j])";
    let output = tilewright(&["verify", "-e", text, "--device", "emulator", "--format", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["unproved"], 0);
    let tests = report["phases"][0]["tests"].as_array().unwrap();
    let none: Vec<&Value> =
        tests.iter().filter(|t| t["inputs"].as_str().unwrap().contains("n = 0")).collect();
    let kernels = "all kernels against source";
    assert!(none.iter().any(|t| t["what"] == kernels), "{none:?}");
    assert!(none.iter().all(|t| t["status"] == "passed"), "{none:?}");
}

#[test]
fn a_prompt_is_a_text_and_so_is_what_follows() {
    nvrtc();
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
        "tie_word_embeddings": false, "hidden_act": "silu"}"#;
    std::fs::write(dir.path().join("config.json"), config.replace("VOCAB", "261")).unwrap();
    let folder = dir.path().display().to_string();
    let prompt = [
        "run",
        &folder,
        "--random-weights",
        "5",
        "--device",
        "emulator",
        "--tokens",
        "6",
        "--ignore-eos",
        "--prompt",
        " the th\u{e9}",
    ];
    let (found, e) = error(&prompt);
    assert_eq!(found, 3);
    assert!(e["message"].as_str().unwrap().contains("tokenizer.json"), "{e}");
    std::fs::copy("tests/tokenizer/tokenizer.json", dir.path().join("tokenizer.json")).unwrap();

    let output = tilewright(&[&prompt[..], &["--format", "json"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let value = json(&output);
    // The start, ` the`, ` `, `th` and the two bytes of the last letter.
    let ids: Vec<u64> =
        value["prompt_tokens"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert_eq!(value["tokens"].as_array().unwrap().len(), 6);
    assert!(value["tpot_ms"].is_null() && value["tokens_per_second"].is_null(), "the emulator has no time");
    let text = tilewright(&prompt);
    assert_eq!(code(&text), 0, "{}", stderr(&text));
    assert_eq!(stdout(&text), format!("{}\n", value["text"].as_str().unwrap()));
    // The same as with the tokens.
    let listed: Vec<String> = ids.iter().map(u64::to_string).collect();
    let listed = listed.join(",");
    let by_ids = [&prompt[..9], &["--ids", &listed, "--format", "json"]].concat();
    assert_eq!(json(&tilewright(&by_ids))["tokens"], value["tokens"]);

    let both = [&prompt[..], &["--ids", "1"]].concat();
    assert_eq!((code(&tilewright(&both)), code(&tilewright(&prompt[..9]))), (2, 2), "one of both");
    std::fs::write(dir.path().join("config.json"), config.replace("VOCAB", "100")).unwrap();
    let (found, e) = error(&prompt);
    assert_eq!(found, 3);
    assert!(e["message"].as_str().unwrap().contains("vocabulary of 100"), "{e}");
}
