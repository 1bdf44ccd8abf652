//! `tilewright emulate`: one launch of any PTX kernel, described by a JSON file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use tilewright::Error;
use tilewright_emulator::{
    Launch, LaunchError, LaunchReport, Memory, Options, Profile, Program, Sanitize, launch,
};

use crate::cli::args::EmulateArgs;
use crate::cli::ui::Ui;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    ptx: PathBuf,
    entry: String,
    grid: [u32; 3],
    block: [u32; 3],
    #[serde(default = "one")]
    cluster: [u32; 3],
    #[serde(default)]
    shared_bytes: u32,
    args: Vec<Arg>,
    #[serde(default)]
    registers_per_thread: u32,
    #[serde(default)]
    cooperative: bool,
    profile: Option<String>,
}

/// An argument of the kernel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Arg {
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
    F32(f32),
    F64(f64),
}

fn one() -> [u32; 3] {
    [1; 3]
}

/// An array file that is written back.
struct Array {
    name: PathBuf,
    /// The bytes before the data, kept as they are.
    header: Vec<u8>,
    address: u64,
    bytes: usize,
}

/// As much as the largest GPU of today.
const CAPACITY: u64 = 192 << 30;

/// Runs the launch; the exit code is 1 when there are findings.
pub(crate) fn run(args: &EmulateArgs, ui: &Ui) -> Result<u8, Error> {
    let sanitize = Sanitize::parse(&args.sanitize).map_err(|unknown| {
        let known = Sanitize::NAMES.join(", ");
        Error::Usage(format!("there is no check `{unknown}`; the checks are all, none, {known}"))
    })?;
    let d = describe(&args.launch)?;
    let name = args.profile.as_deref().or(d.profile.as_deref());
    let profile = match name {
        None => Profile::default(),
        Some(name) => Profile::named(name).ok_or_else(|| {
            Error::Usage(format!("there is no profile `{name}`; one is h100, another tiny4"))
        })?,
    };
    let base = args.launch.parent().unwrap_or(Path::new(""));
    let ptx = base.join(&d.ptx);
    let text = std::fs::read_to_string(&ptx).map_err(|e| Error::io(&ptx, e))?;
    let program = Program::parse(&text).map_err(|e| Error::input(format!("`{}`: {e}", ptx.display())))?;
    let mut memory = Memory::new(CAPACITY);
    let (params, arrays) = arguments(&d, base, &program, &mut memory)?;
    let options = Options {
        counters: true,
        sanitize,
        registers_per_thread: d.registers_per_thread,
        cooperative: d.cooperative,
        ..Options::default()
    };
    let (grid, block) = (d.grid, d.block);
    let l = Launch {
        entry: &d.entry,
        grid,
        block,
        shared_bytes: d.shared_bytes,
        cluster: d.cluster,
        params: &params,
    };
    let report = launch(&program, &memory, &profile, &l, &options).map_err(|e| match e {
        LaunchError::Fault(f) => Error::Check(f.to_string()),
        other => Error::input(other.to_string()),
    })?;
    let written = match &args.out {
        None => vec![],
        Some(dir) => write_arrays(dir, &arrays, &memory)?,
    };
    if let Some(path) = &args.counters {
        let text = serde_json::to_string_pretty(&report.counters).map_err(|e| Error::Bug(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|e| Error::io(path, e))?;
    }
    let value = json!({
        "blocks": report.blocks,
        "findings": report.findings,
        "counters": report.counters,
        "written": written,
    });
    ui.result(&value, || summary(&report));
    Ok(u8::from(!report.findings.is_empty()))
}

fn summary(report: &LaunchReport) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let c = &report.counters;
    lines.push(format!(
        "{} blocks, {} warp instructions, {} bytes read and {} written in global memory, {} findings",
        report.blocks,
        c.instructions,
        c.global_read_bytes,
        c.global_write_bytes,
        report.findings.len()
    ));
    lines.join("\n")
}

fn describe(path: &Path) -> Result<Description, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let d: Description = serde_json::from_str(&text)
        .map_err(|e| Error::input(format!("`{}` is no launch description: {e}", path.display())))?;
    if d.cluster != [1; 3] {
        return Err(Error::Unsupported {
            message: format!("clusters of {:?} blocks: the emulator runs clusters of one block", d.cluster),
            help: Some("compile the kernel without clusters and leave `cluster` out".into()),
        });
    }
    Ok(d)
}

/// The parameter buffer, and the arrays that are written back.
fn arguments(
    d: &Description,
    base: &Path,
    program: &Program,
    memory: &mut Memory,
) -> Result<(Vec<u8>, Vec<Array>), Error> {
    let Some(params) = program.params(&d.entry) else {
        let known: Vec<&str> = program.entries().collect();
        return Err(Error::input(format!("no entry `{}`; the PTX has {}", d.entry, known.join(", "))));
    };
    if params.len() != d.args.len() {
        return Err(Error::input(format!(
            "{} arguments where `{}` takes {}",
            d.args.len(),
            d.entry,
            params.len()
        )));
    }
    let (mut buffer, mut arrays, mut names) = (vec![], vec![], BTreeSet::new());
    for (i, (arg, p)) in d.args.iter().zip(&params).enumerate() {
        let bytes = match arg {
            Arg::In(file) | Arg::Inout(file) => {
                let path = base.join(file);
                let (header, data) = read_array(&path)?;
                let label = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                let full = |e: tilewright_emulator::MemoryError| Error::input(e.to_string());
                let address = memory.alloc(&label, data.len() as u64).map_err(full)?;
                memory.write(address, &data).map_err(full)?;
                if matches!(arg, Arg::Inout(_)) {
                    if !names.insert(label.clone()) {
                        return Err(Error::input(format!("two `inout` arrays are named `{label}`")));
                    }
                    arrays.push(Array { name: label.into(), header, address, bytes: data.len() });
                }
                address.to_le_bytes().to_vec()
            }
            Arg::I8(v) => v.to_le_bytes().to_vec(),
            Arg::U8(v) => v.to_le_bytes().to_vec(),
            Arg::I16(v) => v.to_le_bytes().to_vec(),
            Arg::U16(v) => v.to_le_bytes().to_vec(),
            Arg::I32(v) => v.to_le_bytes().to_vec(),
            Arg::U32(v) => v.to_le_bytes().to_vec(),
            Arg::I64(v) => v.to_le_bytes().to_vec(),
            Arg::U64(v) => v.to_le_bytes().to_vec(),
            Arg::F32(v) => v.to_le_bytes().to_vec(),
            Arg::F64(v) => v.to_le_bytes().to_vec(),
        };
        if bytes.len() != p.size as usize {
            return Err(Error::input(format!(
                "argument {i} has {} bytes where parameter `{}` has {}",
                bytes.len(),
                p.name,
                p.size
            )));
        }
        buffer.resize(p.offset as usize, 0);
        buffer.extend(bytes);
    }
    Ok((buffer, arrays))
}

/// The header and the data of an array file; the bytes of the data are taken as they are, whatever their type.
fn read_array(path: &Path) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let wrong = |reason: &str| Error::input(format!("`{}` is no usable .npy file: {reason}", path.display()));
    let start = match bytes.get(..10) {
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b]) => {
            10 + usize::from(u16::from_le_bytes([*a, *b]))
        }
        Some([0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, ..]) => match bytes.get(8..12) {
            Some([a, b, c, d]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize).saturating_add(12),
            _ => return Err(wrong("it is truncated")),
        },
        _ => return Err(wrong("it does not start like one")),
    };
    if start > bytes.len() {
        return Err(wrong("it is truncated"));
    }
    let data = bytes.split_off(start);
    let header = String::from_utf8_lossy(&bytes[10..]).into_owned();
    if header.contains("'|O'") || header.contains("\"|O\"") {
        return Err(wrong("its elements have no fixed size"));
    }
    match expected_bytes(&header) {
        Some(n) if n != data.len() as u64 => {
            Err(wrong(&format!("its extents ask for {n} bytes, and there are {}", data.len())))
        }
        _ => Ok((bytes, data)),
    }
}

/// The bytes that a header asks for, when its type is a simple one.
fn expected_bytes(header: &str) -> Option<u64> {
    let after = |key: &str| header.find(key).map(|i| header[i + key.len()..].trim_start_matches([':', ' ']));
    let descr = after("'descr'")?.strip_prefix('\'')?.split('\'').next()?;
    let size: u64 = descr.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    // A character of text has four bytes.
    let size = if descr.contains('U') { size.checked_mul(4)? } else { size };
    let shape = after("'shape'")?.strip_prefix('(')?.split(')').next()?;
    let mut dims = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
    dims.try_fold(size, |n, d| n.checked_mul(d.parse().ok()?))
}

fn write_arrays(dir: &Path, arrays: &[Array], memory: &Memory) -> Result<Vec<PathBuf>, Error> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let mut written = vec![];
    for a in arrays {
        let mut content = a.header.clone();
        content.resize(a.header.len() + a.bytes, 0);
        memory.read(a.address, &mut content[a.header.len()..]).map_err(|e| Error::Bug(e.to_string()))?;
        let path = dir.join(&a.name);
        std::fs::write(&path, content).map_err(|e| Error::io(&path, e))?;
        written.push(path);
    }
    Ok(written)
}
