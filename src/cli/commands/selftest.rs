//! `tilewright selftest`: check a device.

use serde_json::{Value, json};
use tilewright::runtime::device::DeviceKind;
use tilewright::selftest::{self, Pins, Report, Row, Settings};
use tilewright::{Error, Event, Toolchain, files};

use crate::cli::args::SelftestArgs;
use crate::cli::ui::Ui;

/// The seed of the test: the same on all machines, so that tables can be compared.
const SEED: u64 = 20_260_101;

/// Runs all cases and prints a table of errors.
pub(crate) fn run(args: &SelftestArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let device = super::device(&args.device)?;
    let opened = device.open()?;
    let gpu = opened.device.kind() != DeviceKind::Emulator;
    if args.write_pins.is_some() && !gpu {
        return Err(Error::Unsupported {
            message: "pins say what a GPU does, and the device is the emulator".into(),
            help: Some("run this where there is a GPU, with `--device cuda:0`".into()),
        });
    }
    let pins = match &args.pins {
        Some(path) => vec![Pins::read(path)?],
        None if args.write_pins.is_some() => vec![],
        None => Pins::committed()?,
    };
    // Only equations and models must be compiled.
    let compiles = args.filter.as_deref().is_none_or(|f| !f.starts_with("conformance"));
    if compiles {
        super::setup::fetch(false, ui, toolchain)?;
    }
    if let Some(note) = &opened.note {
        ui.note(note);
    }
    let settings = Settings {
        toolchain: toolchain.clone(),
        device,
        target: args.target.clone(),
        filter: args.filter.clone(),
        seed: SEED,
        pins,
    };
    let (bar, listener) = super::progress(ui);
    let report =
        selftest::run(&settings, |row| listener.tell(Event::stage(format!("checked {}", row.case))))?;
    drop(bar);
    let rows = &report.rows;
    if rows.is_empty() && report.results.is_empty() {
        return Err(Error::Usage(format!("no case contains `{}`", args.filter.as_deref().unwrap_or(""))));
    }
    let name = opened.device.name().to_owned();
    if let Some(path) = &args.write_pins {
        let arch = opened.device.arch().unwrap_or("unknown");
        let text = Pins::new(&name, arch, &report.results).text()?;
        files::write(path, &text)?;
    }
    let conformance = say(&report, &settings.pins);
    let failed = rows.iter().filter(|r| !r.passes()).count();
    let value = json!({
        "device": opened.device.kind().to_string(),
        "device_name": name,
        "seed": SEED,
        "conformance": {
            "kernels": report.results.len(),
            "pins": settings.pins.iter().map(|p| &p.gpu).collect::<Vec<_>>(),
            "compared": report.pinned,
            "stale": report.stale,
            "note": conformance,
            "written": args.write_pins,
        },
        "cases": rows.iter().map(as_json).collect::<Vec<_>>(),
        "failed": failed,
    });
    let shown = format!("{}\n{conformance}", text(rows, &name));
    if failed > 0 && ui.json() {
        // The object of the error takes the place of the result, so the table goes with it.
        ui.note(&format!("{value:#}"));
    } else if failed > 0 {
        ui.print(&shown);
    } else {
        ui.result(&value, || shown);
        return Ok(());
    }
    let mut names: Vec<&str> = rows.iter().filter(|r| !r.passes()).map(|r| r.case.as_str()).collect();
    names.dedup();
    Err(Error::Check(format!(
        "{failed} of {} comparisons failed on {name}: {}",
        rows.len(),
        names.join(", ")
    )))
}

/// What became of the conformance kernels, in a sentence.
fn say(report: &Report, pins: &[Pins]) -> String {
    let ran = format!("{} conformance kernels ran", report.results.len());
    let compared = match pins {
        [] => "there are no pins of a GPU to compare them with".to_owned(),
        _ => {
            let gpus: Vec<&str> = pins.iter().map(|p| p.gpu.as_str()).collect();
            format!("{} comparisons with what {} gave", report.pinned, gpus.join(", "))
        }
    };
    let stale = match report.stale.len() {
        0 => String::new(),
        n => format!("; {n} pins are of older kernels and do not count: {}", report.stale.join(", ")),
    };
    format!("{ran}; {compared}{stale}")
}

fn as_json(row: &Row) -> Value {
    match &row.outcome {
        Ok(c) => json!({
            "case": row.case, "compared": c.name, "relative_error": c.error, "allowed": c.allowed, "passes": row.passes(),
        }),
        Err(e) => {
            json!({ "case": row.case, "error": e.to_string(), "passes": false })
        }
    }
}

fn text(rows: &[Row], device: &str) -> String {
    let cells = rows
        .iter()
        .map(|row| {
            let (output, error, allowed) = match &row.outcome {
                Ok(c) => (c.name.clone(), format!("{:.2e}", c.error), format!("{:.0e}", c.allowed)),
                Err(e) => (String::new(), format!("{}: {e}", e.kind()), String::new()),
            };
            let verdict = if row.passes() { "ok" } else { "FAILED" };
            vec![row.case.clone(), output, verdict.into(), allowed, error]
        })
        .collect::<Vec<_>>();
    let passed = rows.iter().filter(|r| r.passes()).count();
    format!(
        "{}\n{passed} of {} comparisons agree on {device}",
        super::table(&["case", "kernel or output", "", "allowed", "error"], &cells),
        rows.len()
    )
}
