//! What: `tilewright bench` as its users see it, on the emulator: tables, JSON, comparisons, pictures.
//! Why here: the published schema, the files and the exit codes are a contract.
//! Pre: NVRTC.
//! Post: nothing here is timed.

use std::path::Path;
use std::process::{Command, Output};

use crate::emulate::schema;
use serde_json::Value;
use tilewright::bench::record::Results;

const SCHEMA: &str = "../../benches/schema.json";

fn bench(args: &[&str]) -> Output {
    tilewright_runtime::testing::nvrtc();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright"));
    command.args(["--format", "json", "bench"]).args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn results_fit_their_schema_and_are_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("results.json");
    let file_name = file.to_str().unwrap();
    let first = bench(&[
        "kernels",
        "--device",
        "emulator",
        "--filter",
        "linear m8",
        "--mode",
        "all",
        "--json",
        file_name,
    ]);
    assert_eq!(first.status.code(), Some(0));
    let value = read(&file);
    assert_eq!(schema::validate(SCHEMA, &value), Ok(()));
    assert_eq!(json(&first)["results"], value);
    let rows = value["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "one per mode");
    assert_eq!(rows[0]["status"], "ok");
    // All modes move the same bytes of inputs and outputs.
    for row in rows {
        assert_eq!(row["status"], "ok", "{row}");
        assert!(row["counts"]["hbm_bytes"].as_u64() >= row["floor_bytes"].as_u64());
    }
    assert!(rows.iter().all(|r| r["time"].is_null()), "the emulator has no times");
    let counts = &rows[0]["counts"];
    assert_eq!(counts["launches"], rows[0]["kernels"]["launches"]);
    // 8 x 1024 and 512 x 1024 numbers of two bytes in, 8 x 512 out.
    assert_eq!(rows[0]["floor_bytes"], 2 * (8 * 1024 + 512 * 1024 + 8 * 512));
    assert_eq!(counts["floor_bytes"], rows[0]["floor_bytes"]);

    // The same again: equal counts, nothing became worse, pictures of what was counted.
    let pictures = dir.path().join("pictures");
    let again = bench(&[
        "kernels",
        "--device",
        "emulator",
        "--filter",
        "linear m8",
        "--baseline",
        file_name,
        "--plot",
        pictures.to_str().unwrap(),
    ]);
    assert_eq!(again.status.code(), Some(0));
    let again = json(&again);
    assert_eq!(again["results"]["rows"][0]["counts"], *counts);
    let changes = again["changes"].as_array().unwrap();
    assert!(changes.iter().any(|c| c["what"] == "sectors"));
    assert!(changes.iter().all(|c| c["worse"] == false && c["before"] == c["after"]));
    let picture = std::fs::read_to_string(pictures.join("kernels-linear.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("bytes over the floor"));

    // Against better results of before, it fails.
    let mut better = value.clone();
    better["rows"][0]["counts"]["sectors"] = (counts["sectors"].as_u64().unwrap() - 1).into();
    std::fs::write(&file, better.to_string()).unwrap();
    let worse = bench(&["kernels", "--device", "emulator", "--filter", "linear m8", "--baseline", file_name]);
    assert_eq!(worse.status.code(), Some(1));
    let changes = json(&worse)["changes"].clone();
    let changes = changes.as_array().unwrap();
    assert_eq!(changes.iter().filter(|c| c["worse"] == true).count(), 1);
}

#[test]
fn the_schema_refuses() {
    let file = json(&bench(&["kernels", "--device", "emulator", "--filter", "linear m1"]));
    let good = &file["results"];
    assert_eq!(schema::validate(SCHEMA, good), Ok(()));
    Results::parse("good", &good.to_string()).unwrap();
    for (path, bad) in [
        ("/version", serde_json::json!(2)),
        ("/format", serde_json::json!("other")),
        ("/rows/0/status", serde_json::json!("fine")),
        ("/rows/0/time", serde_json::json!({ "median_us": 1.0 })),
        ("/rows/0/time", serde_json::json!(3.5)),
        ("/rows/0/counts/sectors", serde_json::json!(-1)),
        ("/rows/0/counts", serde_json::json!({})),
        ("/ceilings", serde_json::json!({})),
        ("/method/clock", serde_json::json!("sundial")),
        ("/rows/0", serde_json::json!({ "more": 1 })),
    ] {
        let mut value = good.clone();
        *value.pointer_mut(path).unwrap() = bad;
        assert!(schema::validate(SCHEMA, &value).is_err(), "the schema takes {path}");
        // The reader is no validator of words, and what may be null may be left out.
        if !["/method/clock", "/ceilings"].contains(&path) {
            assert!(Results::parse("bad", &value.to_string()).is_err(), "the reader takes {path}");
        }
    }
}

#[test]
fn whole_steps_are_counted() {
    let output = json(&bench(&["steps", "--device", "emulator", "--filter", "Llama-3.2-1B small"]));
    let results = &output["results"];
    assert_eq!(schema::validate(SCHEMA, results), Ok(()));
    let rows = results["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "two batches, verify, prefill");
    for row in rows {
        assert_eq!(row["status"], "ok", "{row}");
        assert!(row["kernels"]["launches_per_layer"].as_u64().unwrap() > 0);
        // The floor by arithmetic and the bytes that the emulator saw are two ways to one figure.
        let (floor, touched) =
            (row["floor_bytes"].as_f64().unwrap(), row["counts"]["floor_bytes"].as_f64().unwrap());
        assert!((touched / floor - 1.0).abs() < 0.1, "{}: {floor} and {touched}", row["case"]);
    }
}

#[test]
fn wrong_calls_are_said_so() {
    let usage = bench(&["--mode", "steam", "--device", "emulator"]);
    assert_eq!(usage.status.code(), Some(2));
    let usage = bench(&["kernels", "--device", "emulator", "--filter", "no such case"]);
    assert_eq!(usage.status.code(), Some(2));
    let message = json(&usage)["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("linear m1 n512 k1024"), "{message}");
    let none = bench(&["kernels", "--device", "cuda:99"]);
    assert_eq!(none.status.code(), Some(4));
    let target = bench(&["kernels", "--device", "emulator", "--target", "sm_9"]);
    assert_eq!(target.status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.json");
    // Before anything is measured: with no time left, every row would say so and the exit code would be 0.
    for (option, path) in [("--json", "nowhere/x.json"), ("--json", "."), ("--plot", "Cargo.toml")] {
        let unwritable = bench(&["kernels", "--device", "emulator", "--filter", "linear m1 ", option, path]);
        assert_eq!(unwritable.status.code(), Some(3), "{option} {path}");
        assert!(json(&unwritable)["error"].is_object());
    }
    // A baseline of which nothing can be compared is no comparison that went well.
    let linear =
        ["kernels", "--device", "emulator", "--filter", "linear m1 ", "--json", file.to_str().unwrap()];
    assert_eq!(bench(&linear).status.code(), Some(0));
    let other = bench(&[
        "kernels",
        "--device",
        "emulator",
        "--filter",
        "norm r64",
        "--baseline",
        file.to_str().unwrap(),
    ]);
    assert_eq!((other.status.code(), &json(&other)["changes"]), (Some(1), &serde_json::json!([])));
    std::fs::write(&file, "{}").unwrap();
    let bad = bench(&["kernels", "--device", "emulator", "--baseline", file.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(3));
}

#[test]
fn calibration_kernels_are_right_and_not_timed() {
    tilewright_runtime::testing::nvrtc();
    let calibrate = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright"));
        command.args(["--format", "json", "calibrate"]).args(args).output().unwrap()
    };
    let all = ["read_stream", "copy_stream", "tick", "tick_early", "flag", "barrier", "ring"];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("profile.json");
    // Races, proxies and misused barriers in these kernels would make their times mean something else.
    for device in ["emulator", "emulator:sanitize=race+proxy+mbarrier+barrier"] {
        let output = calibrate(&["--device", device, "--target", "sm_90a", "-o", file.to_str().unwrap()]);
        let profile = json(&output);
        assert_eq!(output.status.code(), Some(0), "{device}: {profile}");
        assert_eq!(profile["checked"], serde_json::json!(all), "{device}: {profile}");
        assert_eq!(profile["missing"], serde_json::json!([]));
        for time in ["read_gb_s", "launch_us", "graph_node_early_us", "flag_near_ns", "grid_barrier_us"] {
            assert!(profile[time].is_null(), "{time}");
        }
        assert!(profile["ring"].as_array().unwrap().iter().all(|r| r["gb_s"].is_null()));
        assert_eq!(profile["barriers"].as_array().unwrap().len(), 4);
        assert_eq!(read(&file), profile);
        tilewright::bench::profile::DeviceProfile::parse("p", &profile.to_string()).unwrap();
    }
    // Costs are estimated for the machine of a profile: on one whose launches take a second, nothing else counts.
    let explain = |profile: &Value| {
        std::fs::write(&file, profile.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright"));
        command.args(["--format", "json", "explain", "--candidates", "--device-profile"]).arg(&file);
        command.args(["-e", "x: f32[i=64, c=4096]; y[i,c] = x[i,c] * rsqrt(mean[c](x[i,c] * x[i,c]))"]);
        command.output().unwrap()
    };
    let mut profile = read(&file);
    let usual = explain(&profile);
    assert_eq!(usual.status.code(), Some(0), "{}", String::from_utf8_lossy(&usual.stderr));
    profile["launch_us"] = serde_json::json!(1e6);
    let slow = explain(&profile);
    assert_eq!(slow.status.code(), Some(0));
    assert_ne!(usual.stdout, slow.stdout, "estimated costs follow the profile");
    profile["format"] = serde_json::json!("other");
    assert_eq!(explain(&profile).status.code(), Some(3));
    // What an architecture lacks is missing, and no failure.
    let old = json(&calibrate(&["--device", "emulator", "--target", "sm_80"]));
    assert_eq!(old["checked"], serde_json::json!(["read_stream", "copy_stream", "tick", "flag", "barrier"]));
    assert!(old["missing"][1].as_str().unwrap().contains("sm_90"));
}

/// The first Python there is.
fn python() -> Command {
    let found = ["python3", "python"]
        .into_iter()
        .find(|p| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success()));
    let mut command = Command::new(found.expect("Python"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn peers_make_the_same_inputs() {
    use tilewright::bench::inputs::{integers, normal, seed_of};
    let program = "import peers
for name in ('X', 'W'):
    s = peers.seed_of(7, 'a case', name)
    print(*['%.9f' % peers.point(peers.mix(i ^ s) >> 16) for i in range(50)])
class T:
    int32 = None
    def tensor(self, values, dtype, device): self.values = values; return self
    def reshape(self, dims): return self.values
t = T()
for below in (1, 7, 128):
    x = peers.Inputs.__new__(peers.Inputs)
    x.torch, x.device, x.seed = t, None, 7
    print(*x.integers('a case', 'ids', (20,), below, True), *x.integers('a case', 'ids', (20,), below, False))
";
    let output = python().args(["-c", program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    for name in ["X", "W"] {
        let ours = normal(tilewright::DType::F64, &[50], seed_of(7, "a case", name)).values();
        let ours: Vec<String> = ours.iter().map(|x| format!("{x:.9}")).collect();
        assert_eq!(lines.next().unwrap(), ours.join(" "));
    }
    for below in [1, 7, 128] {
        let seed = seed_of(7, "a case", "ids");
        let of = |distinct| integers(&[20], below, distinct, seed).values();
        let ours: Vec<String> = of(true).iter().chain(&of(false)).map(|x| x.to_string()).collect();
        assert_eq!(lines.next().unwrap(), ours.join(" "), "{below}");
    }
}

#[test]
fn peers_that_are_given_by_path_are_found_or_named() {
    let dir = tempfile::tempdir().unwrap();
    // Neither needs torch: what is checked comes before anything is computed.
    let program = r#"
import os, sys, zipfile, given
root = sys.argv[1]
def put(at, text):
    at = os.path.join(root, at)
    os.makedirs(os.path.dirname(at), exist_ok=True)
    open(at, 'w').write(text)
    return at
def why(call):
    try: call()
    except (given.Absent, given.Incompatible) as e: return type(e).__name__ + ': ' + str(e)
    return 'found'
case = {'family': 'norm', 'size': {}}
norm = lambda path: given.flashinfer(None, path, case, [], 'cpu')
forget = lambda: [sys.modules.pop(n) for n in list(sys.modules) if n.split('.')[0] in ('flashinfer', 'megakernels')]
print(why(lambda: norm(os.path.join(root, 'nowhere'))))
os.makedirs(os.path.join(root, 'empty'))
print(why(lambda: norm(os.path.join(root, 'empty'))))
print(why(lambda: norm(put('text.whl', 'no zip'))))
put('old/flashinfer/__init__.py', 'def rms_norm(): pass')
print(why(lambda: norm(os.path.join(root, 'old'))))
put('new/flashinfer/__init__.py', 'def rmsnorm(x, w, eps): return x + w + eps')
print(why(lambda: norm(os.path.join(root, 'new'))))
forget()
put('broken/flashinfer/__init__.py', 'raise RuntimeError("a library is too old")')
print(why(lambda: norm(os.path.join(root, 'broken'))))
wheel = os.path.join(root, 'flashinfer.whl')
with zipfile.ZipFile(wheel, 'w') as z: z.writestr('flashinfer/__init__.py', 'def rmsnorm(x, w, eps): return x * w')
arrange, run = norm(wheel)
print(run(6, 7))
forget()
put('changed/flashinfer/__init__.py', 'def rmsnorm(x): return x')
arrange, run = norm(os.path.join(root, 'changed'))
print(why(lambda: run(6, 7)))
print(why(lambda: given.hazy(None, None, '', 8, 'cpu')))
print(why(lambda: given.hazy(None, os.path.join(root, 'empty'), '', 8, 'cpu')))
parts = {'dispatch': 'def make_schedule_builder(): pass\ndef make_mk_interpreter(mode, at): import mk_llama',
         'generators': 'MK_Generator = 1', 'llama': 'LlamaForCausalLM = 1', 'model_types': 'BatchState = ExtraModelConfig = 1',
         'scheduler': 'assign_to_sms = tensorize_instructions = 1'}
put('hazy/megakernels/__init__.py', '')
for name, text in parts.items(): put('hazy/megakernels/%s.py' % name, text)
print(why(lambda: given.hazy(None, os.path.join(root, 'hazy'), '', 8, 'cpu')))
forget()
put('hazy/megakernels/scheduler.py', 'assign_to_sms = 1')
print(why(lambda: given.hazy(None, os.path.join(root, 'hazy'), '', 8, 'cpu')))
forget()
put('hazy/megakernels/llama.py', 'import a_module_that_nobody_has')
print(why(lambda: given.hazy(None, os.path.join(root, 'hazy'), '', 8, 'cpu')))
"#;
    let output = python().args(["-c", program]).arg(dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let expected = [
        ("Absent", "nowhere"),
        ("Absent", "holds no package `flashinfer`"),
        ("Incompatible", "is no wheel"),
        ("Incompatible", "has no `rmsnorm`"),
        // A module of the same name was imported before, from another place.
        ("Incompatible", "not from the path that was given"),
        ("Incompatible", "a library is too old"),
        ("42", ""),
        ("Incompatible", "`rmsnorm`: "),
        ("Absent", "--hazy PATH"),
        ("Absent", "holds no package `megakernels`"),
        ("Absent", "run `make` in"),
        ("Incompatible", "has no `tensorize_instructions`"),
        ("Absent", "a_module_that_nobody_has"),
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (kind, what)) in lines.iter().zip(expected) {
        assert!(line.starts_with(kind) && line.contains(what), "{line}: {kind} {what}");
    }
}

#[test]
fn the_script_for_peers_writes_the_same_format() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("peers.json");
    // With PyTorch installed this runs one small case; without, each case is a row that says so.
    let output = python()
        .args(["peers.py", "kernels", "--smoke", "--no-compile", "--filter", "linear m1 ", "--json"])
        .arg(&file)
        .args(["--flashinfer", "../tests/peers", "--hazy", "../tests/peers"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value = read(&file);
    assert_eq!(schema::validate(SCHEMA, &value), Ok(()));
    let results = Results::parse("peers", &value.to_string()).unwrap();
    // The names of cases are what rows are compared by.
    assert_eq!(results.rows[0].case, "linear m1 n512 k1024");
    assert_eq!(results.rows[0].flops, Some(2 * 512 * 1024));
}

#[test]
fn the_visit_to_a_gpu_ends_early_without_one() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/device.sh");
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new("bash");
        command.arg(script).args(args).env("TILEWRIGHT_BIN", env!("CARGO_BIN_EXE_tilewright"));
        // A driver that cannot be found, also where there is one.
        command.env("TILEWRIGHT_DEVICE", "cuda:99").output().unwrap()
    };
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["x", "--fast"]).status.code(), Some(2));
    let output = run(&[dir.path().join("out").to_str().unwrap(), "--quick"]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dir.path().join("out/summary.txt").exists());
}
