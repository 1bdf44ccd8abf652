//! `tilewright emulate` as scripts see it: results, findings, counters, and clear errors.

mod folder;
pub(crate) mod schema;

use folder::{Folder, data, f32s, npy};
use schema::validate;
use serde_json::{Value, json};

const PTX: &str = include_str!("../../emulator/tests/ptx/matmul.ptx");
const KERNELS: &str = include_str!("emulate/kernels.ptx");

/// A matmul of 33 x 20 by 20 x 17, and the description of its launch.
fn matmul() -> (Folder, Value, Vec<f32>) {
    let folder = Folder::new();
    let (r, n, k) = (33usize, 17usize, 20usize);
    let a: Vec<f32> = (0..r * k).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i * 5 % 11) as f32 - 5.0).collect();
    folder.put("a.npy", npy("'<f4'", false, "(33, 20)", &f32s(&a)));
    folder.put("b.npy", npy("'<f4'", false, "(20, 17)", &f32s(&b)));
    folder.put("c.npy", npy("'<f4'", false, "(33, 17)", &f32s(&vec![f32::NAN; r * n])));
    let want = (0..r * n).map(|i| (0..k).map(|q| a[i / n * k + q] * b[q * n + i % n]).sum()).collect();
    folder.put("k.ptx", PTX);
    let launch = json!({
        "ptx": "k.ptx", "entry": "matmul_tiled", "grid": [1, 1, 1], "block": [256, 1, 1],
        "args": [{"in": "a.npy"}, {"in": "b.npy"}, {"inout": "c.npy"}, {"i32": r}, {"i32": n}, {"i32": k}],
    });
    (folder, launch, want)
}

/// The kernels of `kernels.ptx`, on one array of 64 words.
fn words(entry: &str, threads: u32) -> (Folder, Value) {
    let folder = Folder::new();
    folder.put("k.ptx", KERNELS);
    folder.put("o.npy", npy("'<u4'", false, "(64,)", &[0; 256]));
    let launch = json!({
        "ptx": "k.ptx", "entry": entry, "grid": [1, 1, 1], "block": [threads, 1, 1], "args": [{"inout": "o.npy"}],
    });
    (folder, launch)
}

#[test]
fn a_clean_kernel_and_one_without_barriers() {
    let (folder, launch, want) = matmul();
    let v = folder.run(&launch, &["--out", "o/p", "--counters", "counters.json"]).json;
    assert_eq!(v["findings"], json!([]));
    assert_eq!(v["written"], json!(["o/p/c.npy"]));
    assert_eq!((&v["profile"], &v["seed"], &v["blocks"]), (&json!("tiny4"), &Value::Null, &json!(1)));
    assert_eq!(folder.get("o/p/c.npy"), npy("'<f4'", false, "(33, 17)", &f32s(&want)));
    let counters: Value = serde_json::from_slice(&folder.get("counters.json")).unwrap();
    assert_eq!(validate("counters.json", &counters), Ok(()));
    assert_eq!(counters, v["counters"]);
    let a = &counters["buffers"]["a.npy"];
    assert_eq!((&a["unique_read_bytes"], &a["bytes"]), (&json!(33 * 20 * 4), &json!(33 * 20 * 4)));
    assert_eq!(counters["buffers"]["c.npy"]["unique_written_bytes"], json!(33 * 17 * 4));

    folder.put("k.ptx", PTX.replace("bar.sync", "// bar.sync"));
    let v = folder.run(&launch, &[]).json;
    let race = v["findings"].as_array().unwrap().iter().find(|f| f["kind"] == "race").unwrap();
    assert!(race["other"]["ptx_line"].as_u64().unwrap() > 0);
    let (code, text) = folder.run_plain(&launch, &[]);
    assert_eq!(code, 1);
    assert!(text.contains("race: kernel `matmul_tiled`") && text.contains("findings"), "{text}");
    assert_eq!(folder.run(&launch, &["--sanitize", "none"]).code, 0);
    assert_eq!(folder.run(&launch, &["--sanitize", "nc,barrier"]).code, 0);
    assert_eq!(folder.run(&launch, &["--sanitize", "nc, race"]).code, 1);
}

#[test]
fn seeds_replay_and_exploring_merges() {
    let (folder, launch, want) = matmul();
    let one = folder.run(&launch, &["--seed", "7", "--out", "o"]);
    assert_eq!((&one.json["seed"], one.code), (&json!(7), 0));
    assert_eq!(one.json, folder.run(&launch, &["--seed", "7", "--out", "o"]).json);
    let many = folder.run(&launch, &["--explore", "3", "--out", "many"]);
    assert_eq!((&many.json["seeds"], many.code), (&json!(3), 0));
    assert_eq!(many.json["differing_outputs"], json!([]));
    assert_eq!(data(&folder.get("many/c.npy")), f32s(&want));

    folder.put("k.ptx", PTX.replace("bar.sync", "// bar.sync"));
    let v = folder.run(&launch, &["--explore", "3"]).json;
    let findings = v["findings"].as_array().unwrap();
    assert_eq!(findings[0]["seed"], json!(0), "the first seed shows a race without any barrier");
    let mut keys: Vec<String> = findings
        .iter()
        .map(|f| format!("{} {} {}", f["kind"], f["at"]["ptx_line"], f["other"]["ptx_line"]))
        .collect();
    let n = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), n, "each finding once");
    assert_eq!(folder.run(&launch, &["--seed", "2"]).json["findings"][0]["seed"], json!(2));
}

/// What ends a launch is a finding; there are no results and no counters then, and no file.
#[test]
fn faults_are_findings() {
    for (entry, threads, kind, sanitize) in [
        ("beyond", 32, "bounds", "all"),
        ("beyond", 32, "bounds", "none"),
        ("odd", 32, "align", "all"),
        ("stuck", 64, "deadlock", "all"),
        ("stuck", 64, "deadlock", "race"),
        ("trapped", 32, "trap", "none"),
    ] {
        let (folder, launch) = words(entry, threads);
        let more = ["--sanitize", sanitize, "--counters", "c.json", "--out", "o"];
        let ran = folder.run(&launch, &more);
        let f = &ran.json["findings"][0];
        assert_eq!((ran.code, &f["kind"], &f["kernel"]), (1, &json!(kind), &json!(entry)), "{f}");
        assert!(f["at"]["ptx_line"].as_u64().unwrap() > 1 && f["launch"] == json!(0));
        assert_eq!((&ran.json["counters"], &ran.json["written"]), (&Value::Null, &json!([])));
        assert_eq!(folder.files(), Vec::<std::path::PathBuf>::new(), "{entry}");
        let (code, text) = folder.run_plain(&launch, &more);
        assert!(code == 1 && text.contains("broke off; 1 finding"), "{text}");
    }
}

/// What kernels print comes out, and an assertion that fails is a finding.
#[test]
fn prints_and_assertions() {
    let folder = Folder::new();
    folder.put("k.ptx", include_str!("../../emulator/tests/ptx/host.ptx"));
    let x: Vec<u8> = (0..8i32).flat_map(|i| i.to_le_bytes()).collect();
    folder.put("x.npy", npy("'<i4'", false, "(8,)", &x));
    folder.put("n.npy", npy("'<i4'", false, "(8,)", &[0; 32]));
    let mut launch = json!({
        "ptx": "k.ptx", "entry": "prints", "grid": [1, 1, 1], "block": [8, 1, 1],
        "args": [{"in": "x.npy"}, {"inout": "n.npy"}],
    });
    let v = folder.run(&launch, &[]).json;
    let printed = v["printed"].as_array().unwrap();
    assert_eq!(printed.len(), 4);
    let three = printed.iter().find(|p| p["thread"] == json!([3, 0, 0])).unwrap();
    assert_eq!(three["text"], "block 0 thread  3: +1.50 odd 8%\n");
    let (_, text) = folder.run_plain(&launch, &[]);
    assert!(text.contains("\nblock 0 thread  3: +1.50 odd 8%\n") && text.contains("four\n"), "{text}");
    launch["entry"] = json!("asserts");
    launch["args"] = json!([{"in": "x.npy"}]);
    assert_eq!(folder.run(&launch, &[]).code, 0);
    folder.put("x.npy", npy("'<i4'", false, "(8,)", &[0xff; 32]));
    let v = folder.run(&launch, &[]).json;
    assert_eq!(v["findings"][0]["kind"], "assert");
    assert!(v["findings"][0]["message"].as_str().unwrap().contains("x[t] >= 0"), "{v}");
}

#[test]
fn every_kind_of_argument() {
    let folder = Folder::new();
    folder.put("k.ptx", KERNELS);
    folder.put("o.npy", npy("'|u1'", false, "(64,)", &[0xee; 64]));
    let launch = json!({
        "ptx": "k.ptx", "entry": "arguments", "grid": [1, 1, 1], "block": [1, 1, 1],
        "args": [
            {"inout": "o.npy"}, {"i32": -2}, {"u32": u32::MAX}, {"i64": i64::MIN}, {"u64": u64::MAX}, {"f32": 0.1},
            {"f64": -1e300}, {"bytes": "000102030405060708090a0B"}, {"i8": -3}, {"u8": 200}, {"i16": -4}, {"u16": 65535},
        ],
    });
    assert_eq!(folder.run(&launch, &["--out", "o"]).code, 0);
    let mut want = [
        (-2i32).to_le_bytes().to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        i64::MIN.to_le_bytes().to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
        0.1f32.to_le_bytes().to_vec(),
    ]
    .concat();
    want.extend([0, 1, 2, 3]);
    want.extend((-1e300f64).to_le_bytes());
    want.extend([4, 5, 6, 7, 8, 9, 10, 11]);
    want.extend([(-3i8) as u8, 200]);
    want.extend((-4i16).to_le_bytes());
    want.extend(u16::MAX.to_le_bytes());
    want.resize(64, 0xee);
    assert_eq!(data(&folder.get("o/o.npy")), want);
}

/// Bytes go in and out as they are, whatever their type, and so do headers.
#[test]
fn arrays_of_any_type() {
    for (descr, fortran, shape) in [
        ("'<f8'", true, "(4, 8)"),
        ("'>i4'", false, "(64,)"),
        ("'|V2'", false, "(2, 64)"),
        ("[('x', '<f4'), ('y', '<i2', (2,))]", false, "(32,)"),
        ("'|S16'", false, "(16,)"),
        ("'<U1'", false, "(8, 8)"),
    ] {
        let (folder, launch) = words("count_up", 64);
        let bytes: Vec<u8> = (0..=255).collect();
        folder.put("o.npy", npy(descr, fortran, shape, &bytes));
        assert_eq!(folder.run(&launch, &["--out", "o"]).code, 0, "{descr}");
        let word = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap());
        let want: Vec<u8> = (0..64).flat_map(|i| (word(i) + i as u32).to_le_bytes()).collect();
        assert_eq!(folder.get("o/o.npy"), npy(descr, fortran, shape, &want), "{descr}");
    }
    // An array without elements has an address too.
    let (folder, mut launch) = words("nothing", 1);
    folder.put("o.npy", npy("'<f4'", false, "(3, 0)", &[]));
    launch["args"] = json!([{"in": "o.npy"}]);
    assert_eq!(folder.run(&launch, &[]).code, 0);
}

/// Launches pass results on through arrays that both name, under any spelling of the path.
#[test]
fn several_launches_share_arrays() {
    let (folder, _) = words("", 1);
    folder.put("p.npy", npy("'<u4'", false, "(64,)", &[0; 256]));
    let part = |entry: &str, args: Value| json!({ "entry": entry, "grid": [1, 1, 1], "block": [64, 1, 1], "args": args });
    let mut launch = json!({ "ptx": "k.ptx", "profile": "tiny1", "launches": [
        part("count_up", json!([{"inout": "o.npy"}])),
        part("count_up", json!([{"in": "./o.npy"}])),
        part("copy", json!([{"in": "../sub/o.npy"}, {"inout": "p.npy"}])),
    ]});
    let v = folder.run(&launch, &["--out", "o"]).json;
    let expect = |factor: u32| (0..64u32).flat_map(|i| (factor * i).to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(data(&folder.get("o/p.npy")), expect(2));
    assert_eq!(data(&folder.get("o/o.npy")), expect(2), "written once, as the last launch left it");
    assert_eq!((&v["profile"], &v["blocks"]), (&json!("tiny1"), &json!(3)));
    let launches = v["launches"].as_array().unwrap();
    assert_eq!(launches.len(), 3);
    let instructions = |v: &Value| v["instructions"].as_u64().unwrap();
    let sum: u64 = launches.iter().map(|l| instructions(&l["counters"])).sum();
    assert_eq!(instructions(&v["counters"]), sum);
    let o = &v["counters"]["buffers"]["o.npy"];
    assert_eq!((&o["unique_read_bytes"], &o["unique_written_bytes"]), (&json!(3 * 256), &json!(2 * 256)));
    // A launch may have its own PTX, and wait for the one before it or not.
    folder.put("other.ptx", KERNELS);
    launch["launches"][1]["ptx"] = json!("other.ptx");
    launch["launches"][1]["pdl"] = json!(false);
    assert_eq!(folder.run(&launch, &["--explore", "2"]).code, 0);
    // All blocks of a cooperative launch are there at once; tiny1 holds 16 blocks of 64 threads with 64 registers.
    let mut mixed = launch.clone();
    mixed["launches"][1]["grid"] = json!([17, 1, 1]);
    mixed["launches"][1]["args"] = json!([{"in": "p.npy"}]);
    assert_eq!(folder.run(&mixed, &["--sanitize", "none"]).code, 0);
    mixed["launches"][1]["cooperative"] = json!(true);
    let ran = folder.run_text(&mixed.to_string(), &[]);
    assert!(ran.code == 3 && ran.json.to_string().contains("holds 16"), "{}", ran.json);
    mixed["launches"][1]["grid"] = json!([16, 1, 1]);
    assert_eq!(folder.run(&mixed, &["--sanitize", "none"]).code, 0);
    // A finding says in which launch it was.
    launch["launches"][2] = part("race", json!([{"inout": "o.npy"}]));
    assert_eq!(folder.run(&launch, &[]).json["findings"][0]["launch"], json!(2));
    // Module variables live as long as their module: both launches of one file count in one counter.
    let two = |second: &str| {
        let mut l = json!({ "launches": [part("bump", json!([{"inout": "o.npy"}])), part("bump", json!([{"inout": "o.npy"}]))] });
        l["launches"][0]["ptx"] = json!("k.ptx");
        l["launches"][1]["ptx"] = json!(second);
        folder.run(&l, &["--sanitize", "none", "--out", "o"]);
        u32::from_le_bytes(data(&folder.get("o/o.npy"))[..4].try_into().unwrap())
    };
    assert_eq!((two("k.ptx"), two("other.ptx")), (128, 64));
}

/// Each mistake is one error with its exit code, and leaves no file behind.
#[test]
fn mistakes_are_one_clear_error() {
    let (folder, launch, _) = matmul();
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
    let data = f32s(&[1.0; 660]);
    let good = npy("'<f4'", false, "(33, 20)", &data);
    std::fs::create_dir(folder.path().join("sub/dir.npy")).unwrap();
    std::fs::create_dir(folder.path().join("sub/more")).unwrap();
    for (name, content) in [
        ("empty.npy", vec![]),
        ("head.npy", good[..40].to_vec()),
        ("short.npy", good[..good.len() - 1].to_vec()),
        ("long.npy", [good.clone(), vec![0]].concat()),
        ("object.npy", npy("'|O'", false, "(330,)", &data)),
        ("inside.npy", npy("[('x', '|O')]", false, "(330,)", &data)),
        ("strange.npy", npy("'<q4'", false, "(660,)", &data)),
        ("huge.npy", npy("'<f4'", false, "(4294967296, 4294967296, 4294967296)", &data)),
        ("version.npy", [&good[..6], &[9], &good[7..]].concat()),
        ("more/c.npy", good.clone()),
        ("bin.ptx", vec![0xff, 0xfe, 0]),
        (
            "bad.ptx",
            b".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { frobnicate.u32 %r1; }".to_vec(),
        ),
    ] {
        folder.put(name, content);
    }
    let cases = [
        (change("grid", json!([1, 1])), 3, "launch description"),
        (change("grid", json!([1, 1, 1, 1])), 3, "launch description"),
        (change("grid", json!([1, 1, -1])), 3, "launch description"),
        (change("grid", json!([1, 1, 4294967296u64])), 3, "launch description"),
        (change("block", json!([1.5, 1, 1])), 3, "launch description"),
        (change("size", json!(1)), 3, "unknown field"),
        (change("pdl", json!(true)), 3, "unknown field"),
        (change("ptx", json!("none.ptx")), 3, "none.ptx"),
        (change("ptx", json!("a.npy")), 3, "a.npy"),
        (change("ptx", json!("bin.ptx")), 3, "bin.ptx"),
        (change("ptx", json!("bad.ptx")), 3, "frobnicate"),
        (change("ptx", json!("")), 3, "sub"),
        (change("entry", json!("matmul")), 3, "no entry `matmul`"),
        (change("args", fewer), 3, "5 arguments"),
        (change("args", json!({})), 3, "launch description"),
        (change("launches", json!([])), 3, "launch description"),
        (argument(0, json!({"in": "d.npy"})), 3, "d.npy"),
        (argument(0, json!({"in": "k.ptx"})), 3, "no usable .npy"),
        (argument(0, json!({"in": "dir.npy"})), 3, "dir.npy"),
        (argument(0, json!({"in": "empty.npy"})), 3, "no usable .npy"),
        (argument(0, json!({"in": "head.npy"})), 3, "truncated"),
        (argument(0, json!({"in": "short.npy"})), 3, "2640 bytes, and there are 2639"),
        (argument(0, json!({"in": "long.npy"})), 3, "2640 bytes, and there are 2641"),
        (argument(0, json!({"in": "object.npy"})), 3, "Python objects"),
        (argument(0, json!({"in": "inside.npy"})), 3, "Python objects"),
        (argument(0, json!({"in": "strange.npy"})), 3, "`<q4`"),
        (argument(0, json!({"in": "huge.npy"})), 3, "extents"),
        (argument(0, json!({"in": "version.npy"})), 3, "version 9"),
        (argument(0, json!({"inout": "more/c.npy"})), 3, "named `c.npy`"),
        (argument(0, json!({"in": "a.npy", "i32": 3})), 3, "launch description"),
        (argument(0, json!({"out": "a.npy"})), 3, "unknown variant `out`"),
        (argument(0, json!(3)), 3, "launch description"),
        (argument(3, json!({"u64": 3})), 3, "argument 3 has 8 bytes"),
        (argument(3, json!({"bytes": "0000"})), 3, "has 2 bytes"),
        (argument(3, json!({"bytes": "000"})), 3, "hexadecimal"),
        (argument(3, json!({"f32": 1e39})), 3, "too large for f32"),
        (argument(3, json!({"i32": 1u64 << 40})), 3, "launch description"),
        (argument(3, json!({"i32": "3"})), 3, "launch description"),
        (argument(3, json!({"i32": 3.5})), 3, "launch description"),
        (change("block", json!([2048, 1, 1])), 3, "2048 threads"),
        (change("block", json!([1, 1, 65])), 3, "64 in z"),
        (change("block", json!([4294967295u32, 4294967295u32, 4294967295u32])), 3, "threads"),
        (change("grid", json!([1, 65536, 1])), 3, "65535"),
        (change("grid", json!([0, 1, 1])), 3, "at least 1"),
        (change("block", json!([256, 0, 1])), 3, "at least 1"),
        (change("shared_bytes", json!(1 << 20)), 3, "shared memory"),
        (change("shared_bytes", json!(u32::MAX)), 3, "shared memory"),
        (change("shared_bytes", json!(-1)), 3, "launch description"),
        (change("cluster", json!([2, 1, 1])), 3, "cluster"),
        (change("cluster", json!([0, 1, 1])), 3, "cluster"),
        (change("profile", json!("h1000")), 2, "rtx4090"),
        (change("registers_per_thread", json!(300)), 3, "300 registers"),
        (change("registers_per_thread", json!(u32::MAX)), 3, "registers"),
        (change("cooperative", json!(1)), 3, "launch description"),
    ];
    for (l, code, want) in cases {
        refused(&folder, &l.to_string(), &[], code, want);
    }
    for text in [
        "",
        "{",
        "[]",
        "3",
        "null",
        "\u{0}",
        "{\"ptx\": \"k.ptx\"}",
        "{\"ptx\": 1e999}",
        &"[".repeat(100_000),
    ] {
        refused(&folder, text, &[], 3, "launch description");
    }
    let text = launch.to_string();
    refused(&folder, &text.replacen('{', "{\"entry\": \"k\", ", 1), &[], 3, "duplicate field");
    refused(&folder, &text, &["--sanitize", "rice"], 2, "race, nc, proxy");
    refused(&folder, &text, &["--sanitize", ""], 2, "checks");
    refused(&folder, &text, &["--profile", "h1000"], 2, "rtx5090");
    refused(&folder, &text, &["--explore", "0"], 2, "explore");
    refused(&folder, &text, &["--explore", "2", "--seed", "1"], 2, "seed");
    refused(&folder, &text, &["--seed=-1"], 2, "seed");
    refused(&folder, &text, &["--counters", "no/such/c.json"], 3, "no/such");
    refused(&folder, &text, &["--counters", "sub"], 3, "sub");
    refused(&folder, &text, &["--out", "sub/k.ptx"], 3, "sub/k.ptx");
    refused(&folder, &text, &["--out", "sub/k.ptx/deeper"], 3, "sub/k.ptx");
}

fn refused(folder: &Folder, launch: &str, more: &[&str], code: i32, want: &str) {
    let files = if more.iter().any(|m| m.starts_with("--out") || m.starts_with("--counters")) {
        more.to_vec()
    } else {
        [more, &["--out", "o", "--counters", "c.json"]].concat()
    };
    let ran = folder.run_text(launch, &files);
    let shown = &launch[..launch.len().min(300)];
    let e = &ran.json["error"];
    assert_eq!((ran.code, &e["code"]), (code, &json!(code)), "{shown} {files:?} {}", ran.json);
    assert!(e["message"].as_str().unwrap().contains(want), "`{want}` in {e} for {shown}");
    assert!(!ran.text.is_empty() && !ran.text.contains("panick"), "{}", ran.text);
    assert_eq!(folder.files(), Vec::<std::path::PathBuf>::new(), "{shown}");
}

/// Damaged descriptions and arrays are errors or run; nothing panics, and stdout is one JSON object. Digits stay as they
/// are, so that no grid grows beyond what a test can run.
#[test]
fn damage_is_no_bug() {
    let (folder, launch, _) = matmul();
    let text = launch.to_string();
    let mut state = 0x5eed_u64;
    println!("seed {state:#x}");
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut codes = std::collections::BTreeMap::new();
    for _ in 0..150 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + random(2) {
            let at = random(bytes.len());
            match random(3) {
                _ if bytes[at].is_ascii_digit() => {}
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = b"{}[],:\"x \\\n-e."[random(14)],
                _ => bytes.truncate(at),
            }
        }
        let ran = folder.run_text(&String::from_utf8_lossy(&bytes), &[]);
        assert!([0, 1, 3].contains(&ran.code), "{} {}", String::from_utf8_lossy(&bytes), ran.json);
        *codes.entry(ran.code).or_insert(0) += 1;
    }
    let good = folder.get("sub/a.npy");
    for _ in 0..150 {
        let mut bytes = good.clone();
        let at = random(128);
        match random(3) {
            0 => drop(bytes.remove(at)),
            1 => bytes[at] = random(256) as u8,
            _ => bytes.truncate(random(good.len())),
        }
        folder.put("a.npy", &bytes);
        let ran = folder.run_text(&text, &[]);
        assert!([0, 1, 3].contains(&ran.code), "{:?} {}", String::from_utf8_lossy(&bytes), ran.json);
        *codes.entry(ran.code).or_insert(0) += 1;
    }
    assert!(codes[&3] > 100 && codes[&0] > 10, "{codes:?}");
}

/// The example of emulator/README.md does what is said there.
#[test]
fn the_example_of_the_readme() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("emulator/README.md")).unwrap();
    let launch = std::fs::read_to_string(root.join("emulator/examples/reduce/launch.json")).unwrap();
    assert!(readme.contains(&launch), "the description is the one of the example");
    let out = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut c = std::process::Command::new(env!("CARGO_BIN_EXE_tilewright"));
        let o = c.current_dir(root.join("emulator")).arg("emulate").args(more).output().unwrap();
        (o.status.code().unwrap(), String::from_utf8(o.stdout).unwrap())
    };
    let dir = out.path().to_str().unwrap();
    let unwrapped: String = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    let (code, clean) = run(&["examples/reduce/launch.json", "--out", dir]);
    assert!(code == 0 && unwrapped.contains(clean.trim()), "{clean}");
    let (code, broken) = run(&["examples/reduce/broken.json"]);
    assert_eq!(code, 1);
    // The place of the first finding; how it is worded is for its own tests.
    let (place, _) = broken.split_once("): ").unwrap();
    for line in [place, broken.lines().last().unwrap()] {
        assert!(unwrapped.contains(line), "{line}");
    }
    let (_, explored) = run(&["examples/reduce/broken.json", "--explore", "4", "--sanitize", "deadlock"]);
    assert!(explored.contains("`sums.npy` differs between seed 0 and seed"), "{explored}");
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let x = words(data(&std::fs::read(root.join("emulator/examples/reduce/x.npy")).unwrap()));
    let sums = words(data(&std::fs::read(out.path().join("sums.npy")).unwrap()));
    assert_eq!(sums, x.chunks(100).map(|row| row.iter().sum()).collect::<Vec<u32>>());
}

/// The schema refuses what the program refuses for its form.
#[test]
fn the_schema_of_launches() {
    let (_, launch, _) = matmul();
    assert_eq!(validate("launch.json", &launch), Ok(()));
    for (path, bad) in [
        ("/grid", json!([1, 1])),
        ("/grid/0", json!(0)),
        ("/grid/0", json!(4294967296u64)),
        ("/block/1", json!(1.5)),
        ("/args/3", json!({"i32": 2147483648u64})),
        ("/args/3", json!({"int": 1})),
        ("/args/3", json!({"i32": 1, "u32": 1})),
        ("/args/3", json!({"bytes": "abc"})),
        ("/entry", json!(null)),
    ] {
        let mut l = launch.clone();
        *l.pointer_mut(path).unwrap() = bad;
        assert!(validate("launch.json", &l).is_err(), "{l}");
    }
    let mut more = launch.clone();
    more["pdl"] = json!(true);
    assert!(validate("launch.json", &more).is_err());
    assert!(validate("launch.json", &json!({ "launches": [] })).is_err());
}

/// Files that are there stay as they were until the new ones are complete.
#[test]
fn results_replace_files_in_one_step() {
    let (folder, launch, want) = matmul();
    std::fs::create_dir(folder.path().join("o")).unwrap();
    std::fs::write(folder.path().join("o/c.npy"), "old").unwrap();
    std::fs::write(folder.path().join("c.json"), "old").unwrap();
    let more = ["--out", "o", "--counters", "c.json"];
    folder.put("k.ptx", PTX.replace("ld.param.u32", "trap; ld.param.u32"));
    assert_eq!(folder.run(&launch, &more).code, 1);
    assert_eq!((folder.get("o/c.npy"), folder.get("c.json")), (b"old".to_vec(), b"old".to_vec()));
    folder.put("k.ptx", PTX);
    assert_eq!(folder.run(&launch, &more).code, 0);
    assert_eq!(data(&folder.get("o/c.npy")), f32s(&want));
    assert_eq!(folder.files().len(), 2, "nothing is left aside");
}
