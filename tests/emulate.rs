//! `tilewright emulate` as scripts see it: results, findings, counters, and clear errors.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tilewright::DType;
use tilewright::runtime::npy;

const PTX: &str = include_str!("../emulator/tests/ptx/matmul.ptx");

fn emulate(dir: &Path, more: &[&str]) -> Output {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tilewright"));
    c.current_dir(dir).env_remove("TILEWRIGHT_LOG").args(["emulate", "sub/launch.json"]).args(more);
    c.output().unwrap()
}

fn json_of(o: &Output) -> Value {
    serde_json::from_slice(&o.stdout).unwrap_or_else(|e| {
        panic!("{e}: {} {}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
    })
}

fn array(path: &Path, dims: &[u64], values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    npy::write(path, DType::F32, dims, &bytes).unwrap();
}

/// A folder with a matmul of 33 x 20 by 20 x 17, and the description of its launch.
fn folder() -> (tempfile::TempDir, Value, Vec<f32>) {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let (r, n, k) = (33usize, 17usize, 20usize);
    let a: Vec<f32> = (0..r * k).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i * 5 % 11) as f32 - 5.0).collect();
    array(&sub.join("a.npy"), &[r as u64, k as u64], &a);
    array(&sub.join("b.npy"), &[k as u64, n as u64], &b);
    array(&sub.join("c.npy"), &[r as u64, n as u64], &vec![f32::NAN; r * n]);
    let want = (0..r * n).map(|i| (0..k).map(|q| a[i / n * k + q] * b[q * n + i % n]).sum()).collect();
    std::fs::write(sub.join("k.ptx"), PTX).unwrap();
    let launch = json!({
        "ptx": "k.ptx", "entry": "matmul_tiled", "grid": [1, 1, 1], "block": [256, 1, 1],
        "args": [{"in": "a.npy"}, {"in": "b.npy"}, {"inout": "c.npy"}, {"i32": r}, {"i32": n}, {"i32": k}],
    });
    (dir, launch, want)
}

fn write(dir: &Path, launch: &Value) {
    std::fs::write(dir.join("sub/launch.json"), launch.to_string()).unwrap();
}

#[test]
fn a_clean_kernel_and_one_without_barriers() {
    let (dir, launch, want) = folder();
    write(dir.path(), &launch);
    let o = emulate(dir.path(), &["--out", "o", "--counters", "counters.json", "--format", "json"]);
    let v = json_of(&o);
    assert_eq!(o.status.code(), Some(0), "{v}");
    assert_eq!(v["findings"], json!([]));
    let c = npy::read(&dir.path().join("o/c.npy")).unwrap();
    assert_eq!(c.dims, [33, 17]);
    let got: Vec<f32> = c.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(got, want);
    let counters: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("counters.json")).unwrap()).unwrap();
    assert_eq!(counters, v["counters"]);
    assert!(counters["buffers"]["c.npy"].is_object());

    std::fs::write(dir.path().join("sub/k.ptx"), PTX.replace("bar.sync", "// bar.sync")).unwrap();
    let o = emulate(dir.path(), &["--format", "json"]);
    let v = json_of(&o);
    assert_eq!(o.status.code(), Some(1));
    assert_eq!(v["findings"][0]["kind"], "race");
    assert!(v["findings"][0]["other"]["ptx_line"].as_u64().unwrap() > 0);
    let text = emulate(dir.path(), &[]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("races with"));
    assert_eq!(emulate(dir.path(), &["--sanitize", "none"]).status.code(), Some(0));
    assert_eq!(emulate(dir.path(), &["--sanitize", "nc,barrier"]).status.code(), Some(0));
}

#[test]
fn mistakes_are_one_clear_error() {
    let (dir, launch, _) = folder();
    let change = |key: &str, value: Value| {
        let mut l = launch.clone();
        l[key] = value;
        l
    };
    let fewer = Value::Array(launch["args"].as_array().unwrap()[1..].to_vec());
    let argument = |i: usize, value: Value| {
        let mut l = launch.clone();
        l["args"][i] = value;
        l
    };
    let cases = [
        (change("grid", json!([1, 1])), 3, "launch description"),
        (change("size", json!(1)), 3, "unknown field"),
        (change("ptx", json!("none.ptx")), 3, "none.ptx"),
        (change("ptx", json!("a.npy")), 3, "a.npy"),
        (change("entry", json!("matmul")), 3, "no entry `matmul`"),
        (change("args", fewer), 3, "5 arguments"),
        (argument(0, json!({"in": "d.npy"})), 3, "d.npy"),
        (argument(0, json!({"in": "k.ptx"})), 3, "no usable .npy"),
        (argument(3, json!({"u64": 3})), 3, "argument 3 has 8 bytes"),
        (argument(3, json!({"i32": 1u64 << 40})), 3, "launch description"),
        (change("block", json!([2048, 1, 1])), 3, "2048 threads"),
        (change("grid", json!([0, 1, 1])), 3, "at least 1"),
        (change("shared_bytes", json!(1 << 20)), 3, "shared memory"),
        (change("cluster", json!([2, 1, 1])), 5, "clusters"),
        (change("profile", json!("h1000")), 2, "h1000"),
        (change("registers_per_thread", json!(300)), 3, "300 registers"),
        (argument(3, json!({"i32": 100})), 1, "out of bounds"),
    ];
    for (l, code, want) in cases {
        write(dir.path(), &l);
        let o = emulate(dir.path(), &["--format", "json"]);
        let v = json_of(&o);
        assert_eq!(o.status.code(), Some(code), "{l} {v}");
        assert!(v["error"]["message"].as_str().unwrap().contains(want), "{want}: {v}");
    }
    write(dir.path(), &launch);
    let o = emulate(dir.path(), &["--sanitize", "rice", "--format", "json"]);
    assert_eq!(o.status.code(), Some(2));
    assert!(json_of(&o)["error"]["message"].as_str().unwrap().contains("race, nc, proxy"));
}
