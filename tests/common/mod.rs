//! The golden models that several tests run.

// Each test uses some of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tilewright::Module;
use tilewright::ir::artifact::{KernelBinary, Persistent};

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

/// Does something for all numbers below `count`, on all cores: what is watched runs on one thread each.
pub(crate) fn for_all(count: u64, each: impl Fn(u64) + Sync) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    each(n);
                }
            });
        }
    });
}

/// The text of a golden model.
pub(crate) fn ids(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("golden.json")).expect("a description");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["ids"].as_array().expect("ids").iter().map(|v| v.as_u64().expect("an id")).collect()
}

/// One decode step of a module with these tables and this kernel: the logits, or what the device has to say against it.
pub(crate) fn run_tables(
    module: &Module,
    tables: &Persistent,
    kernel: &KernelBinary,
) -> Result<Vec<u8>, String> {
    let step = &module.phase("decode").expect("a phase").planned.compiled.step;
    let executable = module.session().prepare_persistent(step, tables, kernel).map_err(|e| e.to_string())?;
    let ids = 3i32.to_le_bytes();
    let result = executable.run(&[("past", 5), ("kv", 6)], &[("ids", &ids)]).map_err(|e| e.to_string())?;
    Ok(result.output("logits").expect("logits").data.clone())
}
