//! `tilewright bench`: times on a GPU, counts on the emulator.

use std::path::Path;

use serde_json::{Value, json};
use tilewright::bench::profile::DeviceProfile;
use tilewright::bench::record::{Results, Suite};
use tilewright::bench::{self, AUTO, MODES, Settings, baseline, plot, table};
use tilewright::{Error, Toolchain, files};

use crate::cli::args::{BenchArgs, SuiteArg};
use crate::cli::ui::Ui;

/// Runs the suites; 1 when a case failed or something became worse than the baseline.
pub(crate) fn run(args: &BenchArgs, ui: &Ui, toolchain: &Toolchain) -> Result<u8, Error> {
    let modes = match args.mode.as_str() {
        "all" => MODES.map(str::to_owned).to_vec(),
        one if MODES.contains(&one) || one == AUTO => vec![one.to_owned()],
        other => {
            return Err(Error::Usage(format!(
                "there is no mode `{other}`: choose among {}, {AUTO}, all",
                MODES.join(", ")
            )));
        }
    };
    // What cannot be written is said before anything is measured.
    if let Some(path) = &args.json {
        files::check_write(path)?;
    }
    if let Some(directory) = &args.plot {
        std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
    }
    let before = args.baseline.as_deref().map(read).transpose()?;
    let profile = args.device_profile.as_deref().map(DeviceProfile::load).transpose()?;
    let device = super::device(&args.device)?;
    let device = profile.as_ref().map_or(Ok(device.clone()), |p| p.emulated_on(device))?;
    let (bar, listener) = super::progress(ui);
    let settings = Settings {
        toolchain: toolchain.clone(),
        device,
        target: args.target.clone(),
        suites: suites(args.suite),
        modes,
        filter: args.filter.clone(),
        quick: args.quick,
        seconds: args.seconds,
        seed: args.seed,
        session: args.session.clone(),
        profile,
        timer: None,
        listener,
    };
    let results = bench::run(&settings, |_| ())?;
    drop(bar);
    let value =
        serde_json::to_value(&results).map_err(|e| Error::Bug(format!("results do not become JSON: {e}")))?;
    if let Some(path) = &args.json {
        files::write(path, &format!("{value:#}\n"))?;
    }
    let pictures = match &args.plot {
        Some(directory) => plot::draw(&results, directory)?,
        None => Vec::new(),
    };
    let changes = before.map(|b| baseline::compare(&b, &results));
    let worse = changes.iter().flatten().filter(|c| c.is_worse()).count();
    let nothing = changes.as_ref().is_some_and(Vec::is_empty);
    if nothing {
        ui.note("the baseline has no figure of any of these rows: nothing was compared");
    }

    let mut shown = json!({ "results": value });
    if let Some(changes) = &changes {
        let list = changes.iter().map(|c| {
            json!({ "case": c.case, "what": c.what, "before": c.before, "after": c.after, "worse": c.is_worse() })
        });
        shown["changes"] = Value::Array(list.collect());
    }
    if !pictures.is_empty() {
        shown["pictures"] = pictures.iter().map(|p| p.display().to_string()).collect();
    }
    ui.result(&shown, || text(&results, changes.as_deref(), worse));
    Ok(u8::from(!bench::passes(&results) || worse > 0 || nothing))
}

fn suites(arg: SuiteArg) -> Vec<Suite> {
    match arg {
        SuiteArg::Kernels => vec![Suite::Kernels],
        SuiteArg::Steps => vec![Suite::Steps],
        SuiteArg::Compile => vec![Suite::Compile],
        SuiteArg::All => vec![Suite::Kernels, Suite::Steps, Suite::Compile],
    }
}

fn read(path: &Path) -> Result<Results, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    Results::parse(&path.display().to_string(), &text)
}

fn text(results: &Results, changes: Option<&[baseline::Change]>, worse: usize) -> String {
    let mut parts = Vec::new();
    let versions: Vec<String> = results.versions.iter().map(|(n, v)| format!("{n} {v}")).collect();
    parts.push(format!("{} on {}; {}", results.date, results.device.name, versions.join(", ")));
    let c = &results.ceilings;
    if results.rows.iter().any(|r| r.time.is_some()) {
        let show = |x: Option<f64>| x.map_or_else(|| "not measured".to_owned(), |x| format!("{x:.0}"));
        parts.push(format!(
            "ceilings: read {} GB/s, copy {} GB/s, bf16 product {} TF",
            show(c.read_gb_s),
            show(c.copy_gb_s),
            show(c.matmul_tflops)
        ));
    }
    for suite in [Suite::Kernels, Suite::Steps, Suite::Compile] {
        if let Some(t) = table::table(results, suite) {
            parts.push(super::table(&t.header, &t.rows));
        }
    }
    if let Some(changes) = changes {
        let different: Vec<Vec<String>> = changes
            .iter()
            .filter(|c| c.before != c.after)
            .map(|c| {
                let mark = if c.is_worse() { "worse" } else { "" };
                vec![
                    c.case.clone(),
                    c.what.to_owned(),
                    format!("{}", c.before),
                    format!("{}", c.after),
                    format!("{:.3}", c.ratio()),
                    mark.to_owned(),
                ]
            })
            .collect();
        parts.push(format!("{} figures compared with the baseline, {worse} worse", changes.len()));
        if !different.is_empty() {
            parts.push(super::table(&["case", "what", "before", "after", "ratio", ""], &different));
        }
    }
    parts.join("\n\n")
}
