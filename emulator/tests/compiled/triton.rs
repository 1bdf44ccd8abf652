//! What: kernels that Triton compiled, run from their launch descriptions and compared with numpy.
//! Why here: PTX of another compiler shows what our own generator would never write.
//! Pre: tests/triton (see generate.py there).
//! Post: outputs within the stated tolerance of f64, no finding; and the comparison notices a kernel that lost
//! one of its instructions.

use crate::common::Rng;
use crate::npy;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tilewright_emulator::{Launch, Memory, Options, Profile, Program, Sanitize, launch};

/// One kernel for one target, loaded.
struct Case {
    name: String,
    dir: PathBuf,
    ptx: String,
    launch: Value,
    check: Value,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/triton");
    let mut dirs: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    dirs.sort();
    let json = |p: PathBuf| serde_json::from_str::<Value>(&std::fs::read_to_string(p).unwrap()).unwrap();
    let mut out = vec![];
    for dir in dirs {
        for target in ["sm_80", "sm_89", "sm_90"] {
            if !dir.join(format!("{target}.json")).exists() {
                continue;
            }
            let launch = json(dir.join(format!("{target}.json")));
            let ptx = std::fs::read_to_string(dir.join(launch["ptx"].as_str().unwrap())).unwrap();
            let name = format!("{} {target}", dir.file_name().unwrap().to_string_lossy());
            out.push(Case { name, ptx, launch, check: json(dir.join("check.json")), dir: dir.clone() });
        }
    }
    out
}

/// What a run gave.
enum Outcome {
    Good,
    /// The first thing that was wrong.
    Bad(String),
}

fn extents(v: &Value) -> [u32; 3] {
    std::array::from_fn(|i| v[i].as_u64().unwrap() as u32)
}

/// Runs `ptx` as the case describes and compares every output.
fn run(case: &Case, ptx: &str, options: &Options) -> Outcome {
    let program = match Program::parse(ptx) {
        Ok(p) => p,
        Err(e) => return Outcome::Bad(e.to_string()),
    };
    let mut memory = Memory::new(1 << 26);
    let (mut params, mut outputs) = (vec![], vec![]);
    let mut put = |b: &[u8]| {
        params.resize(params.len().next_multiple_of(b.len()), 0u8);
        params.extend(b);
    };
    for a in case.launch["args"].as_array().unwrap() {
        let (kind, v) = a.as_object().unwrap().iter().next().unwrap();
        match kind.as_str() {
            "in" | "inout" => {
                let file = v.as_str().unwrap();
                let array = npy::read(&case.dir.join(file));
                let at = memory.alloc(file, array.bytes.len() as u64).unwrap();
                memory.write(at, &array.bytes).unwrap();
                put(&at.to_le_bytes());
                if kind == "inout" {
                    outputs.push((file.trim_end_matches(".npy").to_owned(), at, array));
                }
            }
            "i32" => put(&(v.as_i64().unwrap() as i32).to_le_bytes()),
            "u64" => put(&v.as_u64().unwrap().to_le_bytes()),
            "f32" => put(&(v.as_f64().unwrap() as f32).to_le_bytes()),
            other => panic!("{}: argument kind {other}", case.name),
        }
    }
    let l = Launch {
        entry: case.launch["entry"].as_str().unwrap(),
        grid: extents(&case.launch["grid"]),
        block: extents(&case.launch["block"]),
        cluster: [1; 3],
        shared_bytes: case.launch["shared_bytes"].as_u64().unwrap() as u32,
        params: &params,
    };
    match launch(&program, &memory, &Profile::default(), &l, options) {
        Err(e) => return Outcome::Bad(e.to_string()),
        Ok(r) => {
            if let Some(f) = r.findings.first() {
                return Outcome::Bad(f.to_string());
            }
        }
    }
    for (name, at, array) in outputs {
        let mut bytes = vec![0u8; array.bytes.len()];
        memory.read(at, &mut bytes).unwrap();
        let check = &case.check[&name];
        let want = npy::read(&case.dir.join(check["want"].as_str().unwrap())).values();
        let got = npy::values(check["as"].as_str().unwrap_or(&array.dtype), &bytes);
        let (atol, rtol) = (check["atol"].as_f64().unwrap(), check["rtol"].as_f64().unwrap());
        assert_eq!(got.len(), want.len(), "{} {name}", case.name);
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let good = g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= atol + rtol * w.abs();
            if !good {
                return Outcome::Bad(format!("{name}[{i}] is {g:e}, not {w:e}"));
            }
        }
    }
    Outcome::Good
}

fn options() -> Options {
    Options { instruction_budget: 5_000_000, sanitize: Sanitize::ALL, threads: 2, ..Options::default() }
}

/// Runs every kernel under some options; the number that were wrong.
fn all(options: &Options) -> usize {
    let cases = cases();
    assert!(cases.len() >= 30, "{} kernels", cases.len());
    let wrong = |case: &&Case| match run(case, &case.ptx, options) {
        Outcome::Good => false,
        Outcome::Bad(why) => {
            println!("{} with seed {:?}: {why}", case.name, options.seed);
            true
        }
    };
    cases.iter().filter(wrong).count()
}

#[test]
fn kernels_match_numpy() {
    assert_eq!(all(&options()), 0);
}

#[test]
fn kernels_match_numpy_in_adversarial_schedules() {
    let bad: usize = (0..6).map(|seed| all(&Options { seed: Some(seed), ..options() })).sum();
    assert_eq!(bad, 0);
}

/// Whether a kernel is likely to need the instruction on a line.
fn vital(line: &str) -> bool {
    let ops = [
        "mma.",
        "fma.",
        "add.f32",
        "st.global",
        "cp.async.",
        "shfl.sync",
        "atom.",
        "ldmatrix",
        "ex2.",
        "bar.sync",
    ];
    let body = line.trim_start().trim_start_matches(['@', '!']);
    ops.iter().any(|o| body.starts_with(o) || body.starts_with('%') && body.contains(&format!(" {o}")))
}

#[test]
fn a_lost_instruction_is_noticed() {
    let mut g = Rng::new(31);
    let (mut tried, mut caught) = (0, 0);
    for case in cases() {
        let lines: Vec<&str> = case.ptx.lines().collect();
        let places: Vec<usize> = (0..lines.len()).filter(|i| vital(lines[*i])).collect();
        for _ in 0..4 {
            let gone = places[g.below(places.len() as u64) as usize];
            let ptx: String =
                lines.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, l)| format!("{l}\n")).collect();
            tried += 1;
            let seeds = [None, Some(1), Some(2), Some(3)];
            let bad = |seed: &Option<u64>| {
                matches!(run(&case, &ptx, &Options { seed: *seed, ..options() }), Outcome::Bad(_))
            };
            if seeds.iter().any(bad) {
                caught += 1;
            } else {
                println!(
                    "{}: nothing noticed without `{}` on line {}",
                    case.name,
                    lines[gone].trim(),
                    gone + 1
                );
            }
        }
    }
    println!("{caught} of {tried}");
    // Some instructions serve no element of the small inputs, and some threads do again what others did.
    assert!(caught * 100 >= tried * 85, "{caught} of {tried}");
}
