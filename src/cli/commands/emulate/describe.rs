//! What: the JSON file that describes launches.
//! Why here: every wrong field is found before anything runs, and named.
//! Pre: a path.
//! Post: one or more launches; paths are as written, relative to the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tilewright::Error;

/// One launch on its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Single {
    ptx: PathBuf,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    #[serde(default = "one")]
    cluster: [u32; 3],
    #[serde(default)]
    shared_bytes: u32,
    args: Vec<Arg>,
    registers_per_thread: Option<u32>,
    #[serde(default)]
    cooperative: bool,
    profile: Option<String>,
}

/// Several launches, one after the other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    ptx: Option<PathBuf>,
    profile: Option<String>,
    launches: Vec<Part>,
}

/// One of several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    ptx: Option<PathBuf>,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    #[serde(default = "one")]
    cluster: [u32; 3],
    #[serde(default)]
    shared_bytes: u32,
    args: Vec<Arg>,
    registers_per_thread: Option<u32>,
    #[serde(default)]
    cooperative: bool,
    #[serde(default)]
    pdl: bool,
}

/// An argument of a kernel.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arg {
    In(PathBuf),
    Inout(PathBuf),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F32(f64),
    F64(f64),
    /// Hexadecimal digits: a structure, or a value that JSON cannot hold.
    Bytes(String),
}

/// A launch.
#[derive(Debug)]
pub(super) struct One {
    pub(super) ptx: PathBuf,
    pub(super) entry: String,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) cluster: [u32; 3],
    pub(super) shared_bytes: u32,
    pub(super) args: Vec<Arg>,
    pub(super) registers_per_thread: Option<u32>,
    pub(super) cooperative: bool,
    pub(super) pdl: bool,
}

/// The file.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) profile: Option<String>,
    pub(super) launches: Vec<One>,
}

fn one() -> [u32; 3] {
    [1; 3]
}

/// Reads a description.
pub(super) fn read(path: &Path) -> Result<Description, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    parse(&text).map_err(|e| Error::Input {
        message: format!("`{}` is no launch description: {e}", path.display()),
        help: Some("its fields are listed in emulator/README.md and in emulator/schema/launch.json".into()),
    })
}

fn parse(text: &str) -> Result<Description, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let Some(object) = value.as_object() else { return Err("it is no JSON object".into()) };
    // From the text again, so that errors have a line.
    if !object.contains_key("launches") {
        let s: Single = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let launch = One {
            ptx: s.ptx,
            entry: s.entry,
            grid: s.grid,
            block: s.block,
            cluster: s.cluster,
            shared_bytes: s.shared_bytes,
            args: s.args,
            registers_per_thread: s.registers_per_thread,
            cooperative: s.cooperative,
            pdl: false,
        };
        return Ok(Description { profile: s.profile, launches: vec![launch] });
    }
    let s: Several = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if s.launches.is_empty() {
        return Err("`launches` is empty".into());
    }
    let build = |(i, p): (usize, Part)| -> Result<One, String> {
        if i == 0 && p.pdl {
            return Err("launch 0 has `pdl`, but there is no launch before it".into());
        }
        let ptx = p.ptx.or_else(|| s.ptx.clone());
        Ok(One {
            ptx: ptx.ok_or_else(|| format!("launch {i} has no `ptx`, and neither has the file"))?,
            entry: p.entry,
            grid: p.grid,
            block: p.block,
            cluster: p.cluster,
            shared_bytes: p.shared_bytes,
            args: p.args,
            registers_per_thread: p.registers_per_thread,
            cooperative: p.cooperative,
            pdl: p.pdl,
        })
    };
    let launches = s.launches.into_iter().enumerate().map(build).collect::<Result<_, _>>()?;
    Ok(Description { profile: s.profile, launches })
}

impl Arg {
    /// The bytes of a value; nothing for arrays.
    pub(super) fn value(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(match self {
            Arg::In(_) | Arg::Inout(_) => return Ok(None),
            Arg::I8(v) => v.to_le_bytes().to_vec(),
            Arg::U8(v) => v.to_le_bytes().to_vec(),
            Arg::I16(v) => v.to_le_bytes().to_vec(),
            Arg::U16(v) => v.to_le_bytes().to_vec(),
            Arg::I32(v) => v.to_le_bytes().to_vec(),
            Arg::U32(v) => v.to_le_bytes().to_vec(),
            Arg::I64(v) => v.to_le_bytes().to_vec(),
            Arg::U64(v) => v.to_le_bytes().to_vec(),
            Arg::F32(v) => {
                let single = *v as f32;
                if single.is_infinite() {
                    return Err(format!("{v} is too large for f32; `bytes` holds any bits"));
                }
                single.to_le_bytes().to_vec()
            }
            Arg::F64(v) => v.to_le_bytes().to_vec(),
            Arg::Bytes(text) => hex(text)?,
        }))
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{text}` are no bytes: write two hexadecimal digits for each");
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let bytes = |a: Arg| a.value().map(Option::unwrap);
        assert_eq!(bytes(Arg::I32(-2)), Ok(vec![0xfe, 0xff, 0xff, 0xff]));
        assert_eq!(bytes(Arg::F32(0.5)), Ok(vec![0, 0, 0, 0x3f]));
        assert_eq!(bytes(Arg::Bytes("00fF10".into())), Ok(vec![0, 255, 16]));
        assert_eq!(bytes(Arg::Bytes(String::new())), Ok(vec![]));
        for bad in ["0", "0g", "+1", "ää", "0x10"] {
            assert!(Arg::Bytes(bad.into()).value().is_err(), "{bad}");
        }
        assert!(Arg::F32(1e39).value().is_err());
        assert!(Arg::F32(f64::from(f32::MAX)).value().is_ok());
    }

    #[test]
    fn sequences() {
        let part = r#"{"entry": "k", "grid": [1,1,1], "block": [1,1,1], "args": [], "pdl": PDL}"#;
        let (first, later) = (part.replace("PDL", "false"), part.replace("PDL", "true"));
        let d = parse(&format!(r#"{{"ptx": "a", "launches": [{first}, {later}]}}"#)).unwrap();
        assert_eq!((d.launches.len(), d.launches[1].pdl), (2, true));
        for bad in [
            format!(r#"{{"ptx": "a", "launches": [{later}]}}"#),
            format!(r#"{{"launches": [{first}]}}"#),
            r#"{"ptx": "a", "launches": []}"#.into(),
            r#"{"ptx": "a", "launches": 3}"#.into(),
            format!(r#"{{"ptx": "a", "entry": "k", "launches": [{first}]}}"#),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
