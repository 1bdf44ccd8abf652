//! The golden models that several tests run.

// Each test uses some of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// The folders of the golden models, in order.
pub(crate) fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .expect("a folder of goldens")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.join("config.json").is_file())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

/// The text of a golden model.
pub(crate) fn ids(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("golden.json")).expect("a description");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["ids"].as_array().expect("ids").iter().map(|v| v.as_u64().expect("an id")).collect()
}
