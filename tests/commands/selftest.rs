//! `tilewright selftest` and its pins. The pins here are made up from the emulator's own results: they say nothing about
//! any GPU and only show that a difference is found.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tilewright::runtime::device::EmulatedDevice;
use tilewright::selftest::{Case, Pins, conformance};

fn selftest(more: &[&str]) -> Output {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tilewright"));
    c.args(["selftest", "--device", "emulator", "--filter", "conformance", "--format", "json"]).args(more);
    c.output().unwrap()
}

fn json_of(o: &Output) -> Value {
    serde_json::from_slice(&o.stdout).unwrap_or_else(|e| {
        panic!("{e}: {} {}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
    })
}

fn results() -> Vec<(Case, Vec<u32>)> {
    let device = EmulatedDevice::open(None).unwrap();
    conformance::cases().map(|c| (c, c.run(&device).unwrap())).collect()
}

fn with_pins(path: &Path, pins: &str) -> Output {
    std::fs::write(path, pins).unwrap();
    selftest(&["--pins", path.to_str().unwrap()])
}

#[test]
fn differences_from_pins_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pins.json");
    let results = results();
    let n = results.len();
    let pins = Pins::new("made up", "sm_90", &results);
    let o = with_pins(&file, &pins.text().unwrap());
    let v = json_of(&o);
    assert_eq!(o.status.code(), Some(0), "{v}");
    assert_eq!((&v["conformance"]["kernels"], &v["conformance"]["compared"]), (&json!(n), &json!(n)));
    assert_eq!(v["conformance"]["pins"], json!(["made up"]));
    assert!(v["cases"].as_array().unwrap().iter().all(|c| c["compared"] == "against made up"));

    // One bit of one kernel, in the last place of an approximation and of an exact one.
    for (name, fails) in [("ex2.approx.f32", false), ("fma.rn.f32", true), ("red.global.max.s32", true)] {
        let mut changed = results.clone();
        let i = changed.iter().position(|(c, _)| c.name() == name).unwrap();
        let at = changed[i].1.len() - 10;
        changed[i].1[at] ^= 1;
        let o = with_pins(&file, &Pins::new("made up", "sm_90", &changed).text().unwrap());
        assert_eq!(o.status.code(), Some(i32::from(fails)), "{name}");
        if fails {
            let message = json_of(&o)["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&format!("conformance {name}")), "{message}");
        }
    }

    // Pins of a kernel that has changed do not count, and that is said; neither do those of kernels that are gone.
    let text = pins.text().unwrap();
    let version = format!("{:016x}", results[0].0.version());
    let o = with_pins(&file, &text.replace(&version, "0000000000000001"));
    let v = json_of(&o);
    assert_eq!((o.status.code(), &v["conformance"]["compared"]), (Some(0), &json!(n - 1)));
    assert_eq!(v["conformance"]["stale"], json!([results[0].0.name()]));
    let other = text.replace("\"fma.rn.f32\"", "\"gone\"");
    assert_eq!(Pins::parse("x", &other).unwrap().unknown(), ["gone"]);
    assert_eq!(json_of(&with_pins(&file, &other))["conformance"]["compared"], json!(n - 1));

    for bad in ["", "[]", &text[..1000], &text.replace("\"format\": 1", "\"format\": 7")] {
        let o = with_pins(&file, bad);
        assert_eq!((o.status.code(), &json_of(&o)["error"]["code"]), (Some(3), &json!(3)));
    }
}

#[test]
fn the_emulator_pins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pins.json");
    let o = selftest(&["--write-pins", file.to_str().unwrap()]);
    assert_eq!((o.status.code(), &json_of(&o)["error"]["kind"]), (Some(5), &json!("unsupported")));
    assert!(!file.exists());
    assert_eq!(selftest(&["--write-pins", "a", "--pins", "b"]).status.code(), Some(2));
    assert_eq!(selftest(&["--pins", "no/such/file"]).status.code(), Some(3));
    // The pins that come with the program hold on this machine.
    let o = selftest(&[]);
    assert_eq!(o.status.code(), Some(0));
    if Pins::committed().unwrap().is_empty() {
        let v = json_of(&o);
        assert_eq!(v["conformance"]["compared"], json!(0));
        assert!(v["conformance"]["note"].as_str().unwrap().contains("no pins of a GPU"), "{v}");
    }
}
