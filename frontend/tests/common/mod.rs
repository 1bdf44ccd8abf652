//! What several tests share: a generator, arrays in files, the golden models.
// Each test uses a part of this; seeds and errors are printed for whoever reads a failure.
#![allow(dead_code, unreachable_pub, clippy::print_stdout)]

pub mod grammar;

use std::path::{Path, PathBuf};

use tilewright_ir::graph::Module;
use tilewright_ir::verify::verify_module;
use tilewright_ir::{splitmix, text};

/// A small generator; a new seed for each run of the tests, printed.
pub struct Rng(u64);

impl Rng {
    pub fn fresh(what: &str) -> Rng {
        let seed = splitmix::fresh_seed();
        println!("{what}: SEED={seed}");
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    /// Uniform in -1..1.
    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A .npy file of float32 or float64 in C order: its dimensions and elements.
pub fn npy(path: &Path) -> (Vec<usize>, Vec<f64>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let len = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let header = std::str::from_utf8(&bytes[10..10 + len]).expect("header");
    let dims = header.split("'shape': (").nth(1).and_then(|s| s.split(')').next()).expect("shape");
    let dims = dims.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let data = &bytes[10 + len..];
    let values = if header.contains("'<f8'") {
        data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().expect("eight bytes"))).collect()
    } else {
        assert!(header.contains("'<f4'"), "{header}");
        data.chunks_exact(4)
            .map(|c| f64::from(f32::from_le_bytes(c.try_into().expect("four bytes"))))
            .collect()
    };
    (dims, values)
}

/// The folders of golden models.
pub fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens");
    let entries = std::fs::read_dir(&root).expect("the goldens are part of the repository");
    let mut out: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.join("golden.json").is_file()).collect();
    out.sort();
    assert!(out.len() >= 10, "goldens are missing in {}", root.display());
    out
}

/// The tokens of a golden.
pub fn golden_ids(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json["ids"].as_array().expect("ids").iter().map(|v| v.as_u64().expect("id")).collect()
}

/// The norm of the difference over the norm of the reference.
pub fn relative(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(g, w)| g - w)) / norm(&mut want.iter().copied())
}

/// What holds for every module that a frontend makes: it is valid, prints, and parses back to itself.
pub fn consistent(module: &Module) {
    if let Err(violations) = verify_module(module) {
        panic!("{violations:?}\n{}", text::print_module(module));
    }
    let printed = text::print_module(module);
    let parsed = text::parse_module(&printed).unwrap_or_else(|d| panic!("{}", d.render("printed", &printed)));
    assert!(parsed == *module, "a module changes when it is printed and parsed:\n{printed}");
}
