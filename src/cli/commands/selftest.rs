//! `tilewright selftest`: check a device.

use serde_json::{Value, json};
use tilewright::selftest::{self, Row, Settings};
use tilewright::{Error, Event, Toolchain};

use crate::cli::args::SelftestArgs;
use crate::cli::ui::Ui;

/// The seed of the test: the same on all machines, so that tables can be compared.
const SEED: u64 = 20_260_101;

/// Runs all cases and prints a table of errors.
pub(crate) fn run(args: &SelftestArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    super::setup::fetch(false, ui, toolchain)?;
    let device = super::device(&args.device)?;
    let opened = device.open()?;
    if let Some(note) = &opened.note {
        ui.note(note);
    }
    let settings = Settings {
        toolchain: toolchain.clone(),
        device,
        target: args.target.clone(),
        filter: args.filter.clone(),
        seed: SEED,
    };
    let (bar, listener) = super::progress(ui);
    let rows = selftest::run(&settings, |row| listener.tell(Event::stage(format!("checked {}", row.case))));
    drop(bar);
    if rows.is_empty() {
        return Err(Error::Usage(format!("no case contains `{}`", args.filter.as_deref().unwrap_or(""))));
    }
    let failed = rows.iter().filter(|r| !r.passes()).count();
    let name = opened.device.name().to_owned();
    let value = json!({
        "device": opened.device.kind().to_string(),
        "device_name": name,
        "seed": SEED,
        "cases": rows.iter().map(as_json).collect::<Vec<_>>(),
        "failed": failed,
    });
    if failed > 0 && ui.json() {
        // The object of the error takes the place of the result, so the table goes with it.
        ui.note(&format!("{value:#}"));
    } else if failed > 0 {
        ui.print(&text(&rows, &name));
    } else {
        ui.result(&value, || text(&rows, &name));
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
        "{}\n{passed} of {} comparisons agree with the evaluator on {device}",
        super::table(&["case", "kernel or output", "", "allowed", "error"], &cells),
        rows.len()
    )
}
