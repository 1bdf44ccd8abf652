//! What: `cargo xtask report FILES...`: results of benchmarks as BENCHMARKS.md.
//! Why here: what the document says is a function of result files; nobody writes a figure by hand.
//! Pre: files as benches/schema.json describes them.
//! Post: only figures of the files appear, each below the device, the versions and the date of its run. Ratios are within
//! one run: one file, or files of one session on one device. What no file has is "not measured".

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// How the chore is called.
pub(crate) const HELP: &str = "usage: cargo xtask report [-o FILE] [--pictures DIR] FILES...

Turns results of `tilewright bench --json` and of benches/peers.py into BENCHMARKS.md (or FILE). Pictures of DIR are shown.";

const FORMAT: &str = "tilewright-bench";
const VERSION: u64 = 1;
const ABSENT: &str = "not measured";
const OURS: &str = "tilewright";

struct Asked {
    out: PathBuf,
    pictures: Option<PathBuf>,
    files: Vec<PathBuf>,
}

fn parse(args: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { out: "BENCHMARKS.md".into(), pictures: None, files: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().map(PathBuf::from).ok_or(format!("`{arg}` needs a path"));
        match arg.as_str() {
            "-o" => asked.out = value()?,
            "--pictures" => asked.pictures = Some(value()?),
            other if other.starts_with('-') => return Err(format!("unknown option `{other}`")),
            file => asked.files.push(file.into()),
        }
    }
    if asked.files.is_empty() {
        return Err("no files were given".into());
    }
    Ok(asked)
}

/// Runs the chore.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let asked = match parse(args) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match write(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn write(asked: &Asked) -> Result<(), String> {
    let mut files = Vec::new();
    for path in &asked.files {
        let text = std::fs::read_to_string(path).map_err(|e| format!("`{}`: {e}", path.display()))?;
        files.push(read(&path.display().to_string(), &text)?);
    }
    let pictures = match &asked.pictures {
        Some(folder) => pictures(folder)?,
        None => Vec::new(),
    };
    let text = render(&files, &pictures);
    std::fs::write(&asked.out, text).map_err(|e| format!("`{}`: {e}", asked.out.display()))
}

/// The pictures of a folder, by name.
fn pictures(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("`{}`: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "svg"))
        .map(|p| p.display().to_string())
        .collect();
    names.sort();
    Ok(names)
}

/// A file of results; what else it may be is refused.
fn read(name: &str, text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("`{name}`: {e}"))?;
    if value["format"] != FORMAT || value["version"] != VERSION || !value["rows"].is_array() {
        return Err(format!("`{name}`: these are no results of version {VERSION} of `{FORMAT}`"));
    }
    Ok(value)
}

/// Files of one run.
struct Run<'a> {
    files: Vec<&'a Value>,
}

/// Files of one session on one device are one run; every other file is one of its own.
fn runs(files: &[Value]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for file in files {
        let same = |run: &&mut Run<'_>| {
            let other = run.files[0];
            file["session"].is_string()
                && file["session"] == other["session"]
                && file["device"]["name"] == other["device"]["name"]
        };
        match runs.iter_mut().find(same) {
            Some(run) => run.files.push(file),
            None => runs.push(Run { files: vec![file] }),
        }
    }
    runs
}

impl Run<'_> {
    fn rows(&self, suite: &str) -> Vec<&Value> {
        let all = self.files.iter().flat_map(|f| f["rows"].as_array().into_iter().flatten());
        all.filter(|r| r["suite"] == suite).collect()
    }
}

fn render(files: &[Value], pictures: &[String]) -> String {
    let mut out = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask report` from result files; see [benches/README.md](benches/README.md) for the \
         method and for how to repeat a run. Only measured figures appear. Ratios are within one run. Errors are relative, against float64; with a star, of a part \
         of the case, which the result file names.\n",
    );
    let runs = runs(files);
    let timed = |r: &&Value| r["time"].is_object();
    if !runs.iter().any(|r| ["kernels", "steps"].iter().any(|s| r.rows(s).iter().any(timed))) {
        let _ = write!(out, "\nTimes of kernels and of steps on a GPU: {ABSENT}.\n");
    }
    for run in &runs {
        out += &head(run);
        for suite in ["kernels", "steps", "compile"] {
            let rows = run.rows(suite);
            if rows.is_empty() {
                continue;
            }
            let _ = write!(out, "\n### {suite}\n\n");
            if rows.iter().any(timed) {
                out += &times(&rows);
            }
            if rows.iter().any(|r| r["counts"].is_object()) {
                out += &counts(&rows);
            }
            if suite == "compile" {
                out += &compile(&rows);
            }
            out += &absent(&rows);
        }
    }
    for picture in pictures {
        let _ = write!(out, "\n![{}]({picture})\n", picture.rsplit('/').next().unwrap_or(picture));
    }
    out
}

fn text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

/// Device, date, versions, method, ceilings.
fn head(run: &Run<'_>) -> String {
    let first = run.files[0];
    let device = &first["device"];
    let arch = device["arch"].as_str().map_or(String::new(), |a| format!(", {a}"));
    let mut out = format!("\n## {}{arch}\n", text(&device["name"]));
    for file in &run.files {
        let versions = file["versions"].as_object().into_iter().flatten();
        let versions: Vec<String> = versions.map(|(n, v)| format!("{n} {}", text(v))).collect();
        let m = &file["method"];
        let _ =
            write!(out, "\n{}, {}: {}.", text(&file["producer"]), text(&file["date"]), versions.join(", "));
        if m["clock"] == "none" {
            let _ = write!(out, " Counted, not timed; seed {}.", m["seed"]);
        } else {
            let _ = write!(
                out,
                " Clock: {}; {} runs before, up to {} that count; {} MB pass before memory is used again; {} inputs, seed {}.",
                text(&m["clock"]),
                m["warmup"],
                m["samples"],
                m["rotated_bytes"].as_u64().unwrap_or(0) / 1_000_000,
                text(&m["inputs"]),
                m["seed"],
            );
        }
        out.push('\n');
    }
    let c = &first["ceilings"];
    let show = |v: &Value, unit: &str| v.as_f64().map_or(ABSENT.to_owned(), |x| format!("{x:.0} {unit}"));
    let _ = write!(
        out,
        "\nCeilings of this run: read {}, copy {}, bf16 product {}.\n",
        show(&c["read_gb_s"], "GB/s"),
        show(&c["copy_gb_s"], "GB/s"),
        show(&c["matmul_tflops"], "TF")
    );
    out
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn header(names: &[String]) -> String {
    format!("{}|{}\n", row(names), " --- |".repeat(names.len()))
}

fn median(row: &Value) -> Option<f64> {
    row["time"]["median_us"].as_f64()
}

fn percent(v: &Value) -> String {
    v.as_f64().map_or("-".into(), |x| format!("{:.0}%", 100.0 * x))
}

fn number(v: &Value) -> String {
    if v.is_null() { "-".into() } else { v.to_string() }
}

/// The error against float64; a star where a part was compared.
fn error(r: &Value) -> String {
    let part = if r["error_of"].is_string() { "*" } else { "" };
    r["error"].as_f64().map_or("-".into(), |e| format!("{e:.1e}{part}"))
}

/// How long the compilation took; kernels that all came from a cache took no time that says anything.
fn seconds(r: &Value) -> String {
    let c = &r["compile"];
    if c["compiled"] == 0 && c["cached"].as_u64() > Some(0) {
        return "cached".into();
    }
    c["total_s"].as_f64().map_or("-".into(), |s| format!("{s:.2}"))
}

/// Ours with every peer beside it: the peer's time, and how many times ours that is.
fn times(rows: &[&Value]) -> String {
    let name = |r: &Value| {
        let (by, mode) = (text(&r["implementation"]), text(&r["mode"]));
        if mode.is_empty() { by } else { format!("{by} {mode}") }
    };
    let mut peers: Vec<String> = Vec::new();
    let mut others: BTreeMap<(String, String), f64> = BTreeMap::new();
    for r in rows.iter().filter(|r| r["implementation"] != OURS) {
        if let Some(us) = median(r) {
            if !peers.contains(&name(r)) {
                peers.push(name(r));
            }
            others.insert((text(&r["case"]), name(r)), us);
        }
    }
    let fixed = [
        "case",
        "mode",
        "median us",
        "p99 us",
        "of read",
        "of copy",
        "of matmul",
        "error",
        "registers",
        "spills",
        "launches",
        "compile s",
    ];
    let names: Vec<String> =
        fixed.iter().map(|n| (*n).to_owned()).chain(peers.iter().map(|p| format!("{p}, ratio"))).collect();
    let mut out = header(&names);
    let ours: Vec<&&Value> = rows.iter().filter(|r| r["implementation"] == OURS).collect();
    for r in &ours {
        let us = median(r);
        let figure = |x: Option<f64>| x.map_or(ABSENT.to_owned(), |x| format!("{x:.2}"));
        let mut cells = vec![
            text(&r["case"]),
            text(&r["mode"]),
            figure(us),
            figure(r["time"]["p99_us"].as_f64()),
            percent(&r["fraction"]["of_read"]),
            percent(&r["fraction"]["of_copy"]),
            percent(&r["fraction"]["of_matmul"]),
            error(r),
            number(&r["kernels"]["registers"]),
            number(&r["kernels"]["spill_bytes"]),
            number(&r["kernels"]["launches"]),
            seconds(r),
        ];
        for peer in &peers {
            let theirs = others.get(&(text(&r["case"]), peer.clone()));
            cells.push(match (theirs, us) {
                (Some(t), Some(us)) => format!("{t:.2}, {:.2}x", t / us),
                (Some(t), None) => format!("{t:.2}"),
                (None, _) => ABSENT.to_owned(),
            });
        }
        out += &row(&cells);
    }
    // What only peers measured is shown as well.
    for r in rows.iter().filter(|r| r["implementation"] != OURS && median(r).is_some()) {
        if ours.iter().any(|o| o["case"] == r["case"]) {
            continue;
        }
        let mut cells = vec![text(&r["case"]), "-".into()];
        cells.extend(fixed[2..].iter().map(|_| "-".to_owned()));
        cells.extend(
            peers
                .iter()
                .map(|p| if *p == name(r) { format!("{:.2}", median(r).unwrap_or(0.0)) } else { "-".into() }),
        );
        out += &row(&cells);
    }
    out
}

/// What an emulator counted.
fn counts(rows: &[&Value]) -> String {
    let names = [
        "case",
        "mode",
        "bytes / floor",
        "asked / moved",
        "sectors / ideal",
        "the same, buffers of 64 KiB",
        "bank conflicts",
        "in loops",
        "instructions",
        "tensor ops / formula",
        "error",
        "launches",
        "a layer",
        "registers",
        "spills",
        "compile s",
    ];
    let mut out = header(&names.map(str::to_owned));
    for r in rows.iter().filter(|r| r["counts"].is_object()) {
        let c = &r["counts"];
        let get = |name: &str| c[name].as_f64().unwrap_or(0.0);
        let ratio = |a: f64, b: f64| if a == b { 1.0 } else { a / b };
        let tensor: f64 =
            c["tensor_flops"].as_object().into_iter().flatten().filter_map(|(_, v)| v.as_f64()).sum::<f64>()
                + 0.0;
        out += &row(&[
            text(&r["case"]),
            text(&r["mode"]),
            format!("{:.3}", ratio(get("hbm_bytes"), get("floor_bytes"))),
            format!("{:.2}", ratio(32.0 * get("sectors"), get("hbm_bytes"))),
            format!("{:.3}", ratio(get("sectors"), get("sectors_ideal"))),
            format!("{:.3}", ratio(get("large_sectors"), get("large_sectors_ideal"))),
            format!("{:.1}%", 100.0 * (ratio(get("wavefronts"), get("wavefronts_ideal")) - 1.0)),
            number(&c["loop_conflicts"]),
            number(&c["instructions"]),
            r["flops"].as_f64().map_or("-".into(), |f| format!("{:.2}", tensor / f)),
            error(r),
            number(&c["launches"]),
            number(&r["kernels"]["launches_per_layer"]),
            number(&r["kernels"]["registers"]),
            number(&r["kernels"]["spill_bytes"]),
            seconds(r),
        ]);
    }
    out
}

fn compile(rows: &[&Value]) -> String {
    let names = ["case", "mode", "seconds", "passes", "sources", "NVRTC", "compiled", "cached"];
    let mut out = header(&names.map(str::to_owned));
    for r in rows.iter().filter(|r| r["compile"].is_object()) {
        let c = &r["compile"];
        let s = |name: &str| c[name].as_f64().map_or(ABSENT.to_owned(), |x| format!("{x:.2}"));
        out += &row(&[
            text(&r["case"]),
            text(&r["mode"]),
            s("total_s"),
            s("passes_s"),
            s("emit_s"),
            s("nvrtc_s"),
            number(&c["compiled"]),
            number(&c["cached"]),
        ]);
    }
    out
}

/// What was not there, or failed, by reason.
fn absent(rows: &[&Value]) -> String {
    let mut by: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for r in rows.iter().filter(|r| r["status"] != "ok") {
        let what = if r["status"] == "failed" { "failed" } else { "not available" };
        let who = format!("{} {}", text(&r["implementation"]), text(&r["mode"]));
        *by.entry((who, what.to_owned(), text(&r["reason"]))).or_default() += 1;
    }
    by.into_iter().fold(String::new(), |mut out, ((who, what, why), n)| {
        let _ = write!(out, "\n- {} {what} in {n} cases: {why}\n", who.trim());
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(by: &str, mode: &str, us: Option<f64>) -> Value {
        json!({
            "suite": "kernels", "family": "f", "case": "c1", "size": {}, "implementation": by, "mode": mode,
            "status": if us.is_some() { "ok" } else { "not_available" }, "reason": us.is_none().then_some("it is not installed"),
            "floor_bytes": 1, "flops": 1, "time": us.map(|t| json!({ "median_us": t, "p99_us": t, "samples": 3 })),
            "fraction": null, "error": null, "kernels": null, "compile": null, "counts": null,
        })
    }

    fn file(session: Option<&str>, gpu: &str, rows: Vec<Value>) -> Value {
        json!({
            "format": FORMAT, "version": VERSION, "producer": "p", "date": "d", "session": session, "versions": {},
            "device": { "kind": "cuda:0", "name": gpu, "arch": null },
            "method": { "clock": "events", "warmup": 1, "samples": 2, "rotated_bytes": 3, "poisoned": true, "inputs": "normal", "seed": 1 },
            "ceilings": { "read_gb_s": null, "copy_gb_s": null, "matmul_tflops": null }, "rows": rows,
        })
    }

    #[test]
    fn ratios_are_within_one_run() {
        let ours = || line(OURS, "launch", Some(10.0));
        let theirs = || line("torch", "eager", Some(25.0));
        let together =
            render(&[file(Some("s"), "A", vec![ours()]), file(Some("s"), "A", vec![theirs()])], &[]);
        assert!(together.contains("25.00, 2.50x"), "{together}");
        for apart in [
            [file(Some("s"), "A", vec![ours()]), file(Some("t"), "A", vec![theirs()])],
            [file(Some("s"), "A", vec![ours()]), file(Some("s"), "B", vec![theirs()])],
            [file(None, "A", vec![ours()]), file(None, "A", vec![theirs()])],
        ] {
            let text = render(&apart, &[]);
            assert!(!text.contains("2.50x") && text.contains("25.00"), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let text = render(&[file(None, "A", vec![line(OURS, "graph", None)])], &["x/y.svg".into()]);
        assert!(text.contains("on a GPU: not measured"), "{text}");
        assert!(text.contains("tilewright graph not available in 1 cases: it is not installed"), "{text}");
        assert!(text.contains("read not measured"));
        assert!(text.contains("![y.svg](x/y.svg)"));
        let timed =
            render(&[file(None, "A", vec![line(OURS, "launch", Some(1.5)), line("torch", "", None)])], &[]);
        assert!(
            !timed.contains("on a GPU: not measured") && timed.contains("| c1 | launch | 1.50 |"),
            "{timed}"
        );
    }

    #[test]
    fn other_files_are_refused() {
        assert!(read("f", "{}").is_err());
        assert!(read("f", "no JSON").is_err());
        let mut old = file(None, "A", vec![]);
        old["version"] = json!(0);
        assert!(read("f", &old.to_string()).is_err());
        assert!(parse(&["-o".into()]).is_err() && parse(&[]).is_err());
        assert!(parse(&["--no".into(), "f".into()]).is_err());
    }

    #[test]
    fn the_document_is_what_the_results_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(root.join("benches/results")).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        let files: Vec<Value> = paths
            .iter()
            .map(|p| read(&p.display().to_string(), &std::fs::read_to_string(p).unwrap()).unwrap())
            .collect();
        let document = std::fs::read_to_string(root.join("BENCHMARKS.md")).unwrap();
        assert!(
            document == render(&files, &[]),
            "`cargo xtask report benches/results/*` writes BENCHMARKS.md"
        );
    }
}
