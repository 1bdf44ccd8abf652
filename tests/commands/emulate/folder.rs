//! A folder with a launch description and its files, and the program run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::schema::validate;

/// What a run printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) text: String,
}

/// A temporary folder; the description lies in its subfolder `sub`, the program runs in the folder itself.
pub(crate) struct Folder(tempfile::TempDir);

/// A .npy file of version 1.
pub(crate) fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let dict = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
    let length = (10 + dict.len() + 1).next_multiple_of(64) - 10;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(format!("{dict:<width$}\n", width = length - 1).bytes());
    file.extend(data);
    file
}

pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The data of a file that `npy` made.
pub(crate) fn data(file: &[u8]) -> &[u8] {
    let length = usize::from(u16::from_le_bytes([file[8], file[9]]));
    &file[10 + length..]
}

impl Folder {
    pub(crate) fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        Folder(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join("sub").join(name), content).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }

    fn command(&self, more: &[&str]) -> Output {
        let mut c = Command::new(env!("CARGO_BIN_EXE_tilewright"));
        c.current_dir(self.path())
            .env_remove("TILEWRIGHT_LOG")
            .args(["emulate", "sub/launch.json"])
            .args(more);
        c.output().unwrap()
    }

    /// Runs on a description that must fit the schema; what is printed must too.
    pub(crate) fn run(&self, launch: &Value, more: &[&str]) -> Ran {
        assert_eq!(validate("launch.json", launch), Ok(()));
        let ran = self.run_text(&launch.to_string(), more);
        assert_eq!(validate("result.json", &ran.json), Ok(()));
        assert_eq!(ran.code, i32::from(ran.json["findings"] != json!([])), "{}", ran.json);
        ran
    }

    /// Runs on any text.
    pub(crate) fn run_text(&self, launch: &str, more: &[&str]) -> Ran {
        self.put("launch.json", launch);
        let o = self.command(&[more, &["--format", "json"]].concat());
        let json = serde_json::from_slice(&o.stdout).unwrap_or_else(|e| {
            panic!("{e}: {} {}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
        });
        let text = String::from_utf8_lossy(&o.stderr).into_owned();
        Ran { code: o.status.code().unwrap(), json, text }
    }

    /// As people see it.
    pub(crate) fn run_plain(&self, launch: &Value, more: &[&str]) -> (i32, String) {
        self.put("launch.json", launch.to_string());
        let o = self.command(more);
        (o.status.code().unwrap(), String::from_utf8_lossy(&o.stdout).into_owned())
    }

    /// All files below the folder but the descriptions and inputs.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut out = vec![];
        let mut left = vec![self.path().to_owned()];
        while let Some(dir) = left.pop() {
            for e in std::fs::read_dir(dir).unwrap() {
                let p = e.unwrap().path();
                if p.is_dir() && !p.ends_with("sub") {
                    left.push(p)
                } else if !p.is_dir() {
                    out.push(p)
                }
            }
        }
        out
    }
}
