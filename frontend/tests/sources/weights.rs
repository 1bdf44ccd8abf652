//! safetensors files: real ones, hand-made ones, broken ones.

use std::fs;
use std::path::Path;

use crate::common::{self, goldens};
use serde_json::json;
use tilewright_frontend::hf::{expected_tensors, load_config, open_model};
use tilewright_frontend::weights::{SafeTensors, Weights, elements, require};
use tilewright_ir::DType;

/// A file with these tensors: name, type, shape, bytes.
fn file(path: &Path, tensors: &[(&str, &str, &[u64], &[u8])]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    fs::write(path, out).expect("writes");
}

#[test]
fn elements_of_all_supported_types() {
    let dir = tempfile::tempdir().expect("a folder");
    let values = [1.0f32, -0.5, 3.25];
    let f32s: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let bf16s: Vec<u8> = values.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
    // 1, -0.5, 3.25 in half precision.
    let f16s: Vec<u8> = [0x3c00u16, 0xb800, 0x4280].iter().flat_map(|x| x.to_le_bytes()).collect();
    // An odd number of bytes in front: data need not be aligned.
    let path = dir.path().join("model.safetensors");
    file(
        &path,
        &[
            ("x", "U8", &[1], &[7]),
            ("a", "F32", &[3], &f32s),
            ("b", "BF16", &[3, 1], &bf16s),
            ("c", "F16", &[1, 3], &f16s),
            ("q", "F8_E4M3", &[2], &[1, 2]),
            ("empty", "F32", &[0, 5], &[]),
        ],
    );
    let w = SafeTensors::open(dir.path()).expect("opens");
    for (name, dims, dtype) in
        [("a", vec![3], DType::F32), ("b", vec![3, 1], DType::Bf16), ("c", vec![1, 3], DType::F16)]
    {
        assert_eq!(elements(&w, name).expect("there"), [1.0, -0.5, 3.25]);
        assert_eq!(w.info(name), Some((dtype, dims.clone())));
        assert_eq!(require(&w, name, &dims).expect("fits"), dtype);
    }
    assert!(elements(&w, "empty").expect("there").is_empty());
    let e = require(&w, "q", &[2]).expect_err("not supported").to_string();
    assert!(e.contains("`q`") && e.contains("F8_E4M3") && e.contains("model.safetensors"), "{e}");
    assert!(elements(&w, "q").is_err() && elements(&w, "x").is_err());
    let e = require(&w, "a", &[1, 3]).expect_err("wrong shape").to_string();
    assert!(
        e.contains("`a`") && e.contains("[3]") && e.contains("[1, 3]") && e.contains("model.safetensors"),
        "{e}"
    );
    let e = require(&w, "absent", &[1]).expect_err("missing").to_string();
    assert!(e.contains("`absent`") && e.contains(&dir.path().display().to_string()), "{e}");
}

#[test]
fn models_open_and_their_tensors_are_those_expected() {
    for folder in goldens() {
        let (config, weights) = open_model(&folder).expect("opens");
        for (name, dims) in expected_tensors(&config) {
            let bytes = weights.bytes(&name).expect("there");
            let size = config.dtype_of(&name).bytes() as u64 * dims.iter().product::<u64>();
            assert_eq!((*bytes).as_ref().len() as u64, size, "{name}");
        }
        if !folder.join("model.safetensors").is_file() {
            let all = SafeTensors::open(&folder).expect("opens");
            let used: std::collections::BTreeSet<String> = all.names().map(|n| all.origin(n)).collect();
            assert!(used.len() > 3, "the sharded golden has several shards");
        }
    }
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(from).expect("a golden") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, dir.path().join(path.file_name().expect("a name"))).expect("copies");
    }
    dir
}

fn golden(name: &str) -> tempfile::TempDir {
    copy(goldens().iter().find(|g| g.ends_with(name)).expect("a golden of this name"))
}

fn refused(dir: &Path) -> String {
    match open_model(dir) {
        Ok(_) => panic!("{} was opened", dir.display()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn truncated_and_missing_files_are_named() {
    let dir = golden("llama_llama3");
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).expect("reads");
    // The header stays whole, the last tensor does not.
    fs::write(&path, &whole[..whole.len() - 1]).expect("writes");
    let e = refused(dir.path());
    assert!(e.contains("model.safetensors is truncated: tensor `") && e.contains("download"), "{e}");
    let mut rng = common::Rng::fresh("truncation");
    for _ in 0..50 {
        fs::write(&path, &whole[..rng.below(whole.len())]).expect("writes");
        assert!(refused(dir.path()).contains("model.safetensors"));
    }
    fs::remove_file(&path).expect("removes");
    assert!(refused(dir.path()).contains("holds neither"));
    fs::remove_file(dir.path().join("config.json")).expect("removes");
    assert!(refused(dir.path()).contains("config.json"));

    let dir = golden("llama_sharded");
    let shard = fs::read_dir(dir.path())
        .expect("reads")
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.to_string_lossy().contains("00003-of"))
        .expect("a third shard");
    fs::remove_file(&shard).expect("removes");
    assert!(refused(dir.path()).contains("00003-of"));
}

#[test]
fn broken_headers_and_indices_are_refused() {
    let dir = golden("llama_sharded");
    let index = dir.path().join("model.safetensors.index.json");
    for (text, message) in [
        ("{", "index.json"),
        ("{}", "weight_map"),
        (r#"{"weight_map": {"a": 3}}"#, "not a string"),
        (r#"{"weight_map": {"a": "../x.safetensors"}}"#, "no file name"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "no file name"),
        (r#"{"weight_map": {"a": "absent.safetensors"}}"#, "absent.safetensors"),
        (r#"{"weight_map": {"a": "model-00001-of-00010.safetensors"}}"#, "`a` is missing in"),
        (r#"{"weight_map": {}}"#, "`model.embed_tokens.weight` is missing"),
    ] {
        fs::write(&index, text).expect("writes");
        let e = refused(dir.path());
        assert!(e.contains(message), "{text}: {e}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.safetensors");
    let with_header = |header: &str, len: u64| {
        let mut out = len.to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        fs::write(&path, out).expect("writes");
        SafeTensors::open(dir.path()).map(|_| ()).expect_err("refused").to_string()
    };
    for (header, message) in [
        ("[]", "not a JSON object"),
        ("{", "header"),
        (r#"{"a": {"shape": [1], "data_offsets": [0, 0]}}"#, "no dtype"),
        (r#"{"a": {"dtype": "F32", "data_offsets": [0, 0]}}"#, "no shape"),
        (r#"{"a": {"dtype": "F32", "shape": [0]}}"#, "no data_offsets"),
        (r#"{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0]}}"#, "two numbers"),
        (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 0]}}"#, "do not hold"),
        (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#, "do not hold"),
        (r#"{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}"#, "no shape"),
        (
            r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296, 4], "data_offsets": [0, 0]}}"#,
            "do not hold",
        ),
        (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}}"#, "truncated"),
    ] {
        let e = with_header(header, header.len() as u64);
        assert!(e.contains(message), "{header}: {e}");
    }
    let two = |a: [u64; 2], b: [u64; 2], rest: usize| {
        let f32s = |o| json!({"dtype": "F32", "shape": [1], "data_offsets": o});
        let mut header = serde_json::to_string(&json!({"a": f32s(a), "b": f32s(b)})).expect("JSON");
        let len = header.len() as u64;
        header.push_str(&"x".repeat(rest));
        fs::write(&path, [&len.to_le_bytes(), header.as_bytes()].concat()).expect("writes");
        SafeTensors::open(dir.path()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(two([4, 8], [0, 4], 8), Ok(()));
    for (a, b, rest, message) in [
        ([0, 4], [0, 4], 4, "overlaps"),
        ([0, 4], [2, 6], 6, "overlaps"),
        ([0, 4], [6, 10], 10, "no tensor owns the 2 bytes before `b`"),
        ([2, 6], [6, 10], 10, "no tensor owns the 2 bytes before `a`"),
        ([0, 4], [4, 8], 9, "no tensor owns the last 1 bytes"),
    ] {
        let e = two(a, b, rest).expect_err("refused");
        assert!(e.contains(message), "{a:?} {b:?} {rest}: {e}");
    }
    assert!(with_header("{}", u64::MAX).contains("its header is said to have"));
    assert!(with_header("{}", 3).contains("its header is said to have"));
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_named() {
    let dir = golden("llama_llama3");
    let config = dir.path().join("config.json");
    let text = fs::read_to_string(&config).expect("reads");
    fs::write(&config, text.replace("\"vocab_size\": 113", "\"vocab_size\": 114")).expect("writes");
    let e = refused(dir.path());
    assert!(
        e.contains("`model.embed_tokens.weight`") && e.contains("[114, 60]") && e.contains("[113, 60]"),
        "{e}"
    );
    fs::write(&config, text.replace("\"attention_bias\": false", "\"attention_bias\": true"))
        .expect("writes");
    let e = refused(dir.path());
    assert!(e.contains("self_attn.q_proj.bias` is missing"), "{e}");
}

#[test]
fn types_that_differ_from_the_configuration_are_taken_from_the_files() {
    let dir = golden("llama_llama3");
    let config = dir.path().join("config.json");
    let text = fs::read_to_string(&config).expect("reads");
    fs::write(&config, text.replace("bfloat16", "float32")).expect("writes");
    assert_eq!(load_config(dir.path()).expect("loads").dtype, DType::F32);
    let (config, weights) = open_model(dir.path()).expect("opens");
    assert_eq!(config.dtype_of("model.norm.weight"), DType::Bf16);
    assert!(weights.fingerprint().contains("model.safetensors"));
}
