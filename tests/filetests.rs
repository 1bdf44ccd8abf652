//! Tests that are files: each `.tw` below `tests/filetests/` says in its head what to do with it and what must come out.
//!
//! The head is the leading lines that begin with `;`. A line `;; …` is a remark; every other one is a directive:
//!
//! * `; test COMMAND ARGUMENTS`: what to do, once per file. One module per command, see `runner`.
//! * `; check: TEXT`: the command succeeds, and its output has a line that contains the text, after the line of the check
//!   before.
//! * `; check-not: TEXT`: no line of the output contains the text.
//! * `; error: TEXT`: the command fails, and its message has a line that contains the text, in order as above.
//! * `; symbol: NAME = VALUE`, `; input: NAME = VALUES`, `; weight: NAME = VALUES`: for commands that run something.
//!
//! A file without a check or an error, or with an unknown directive or command, fails.

#[path = "filetests/runner/mod.rs"]
mod runner;

use std::path::{Path, PathBuf};

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("a folder of tests").map(|e| e.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "tw") {
            out.push(path);
        }
    }
}

#[test]
fn filetests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(!paths.is_empty(), "there are no file tests");
    let mut failures = Vec::new();
    for path in &paths {
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        let text = std::fs::read_to_string(path).expect("a readable file");
        if let Err(e) = runner::run(&name, &text) {
            failures.push(format!("{name}: {e}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} file tests failed\n{}",
        failures.len(),
        paths.len(),
        failures.join("\n")
    );
}

#[test]
fn files_that_test_nothing_fail() {
    for (text, message) in [
        ("graph @f() { }", "`; test`"),
        ("; test parse\n", "asserts nothing"),
        ("; test parse\n; chekc: x\n", "unknown directive"),
        ("; tests parse\n; check: x\n", "unknown directive"),
        ("; test fly\n; check: x\n", "unknown command `fly`"),
        ("; test parse\n; test print\n; check: x\n", "two `; test` lines"),
        ("; test parse\n; check: no such text\n", "does not have `no such text`"),
        ("; test parse\n; error: anything\n", "succeeded"),
        ("; test parse\n; check: graph\nnonsense", "failed"),
        ("; test parse\n; check: graph\n; error: x\n", "both"),
        (
            "; test print\n; check: second\n; check: first\nglobal first: f32[] temp\nglobal second: f32[] temp",
            "does not have `first`",
        ),
        ("; test print\n; check-not: first\nglobal first: f32[] temp", "has `first`"),
    ] {
        let e = runner::run("inline", text).expect_err(text);
        assert!(e.contains(message), "{text}\n{e}");
    }
}
