//! `tilewright verify`: what is proved, what is tested, and what is neither.

use serde_json::{Value, json};
use tilewright::verify::{self, Outcome, PRIMES, Phase, Proved, Report, Settings, TESTED, Tested};
use tilewright::{Error, Toolchain, files};

use crate::cli::args::VerifyArgs;
use crate::cli::ui::Ui;

/// Runs all checks; fails when one failed or a kernel is not proved.
pub(crate) fn run(args: &VerifyArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    if let Some(path) = &args.out {
        files::check_write(path)?;
    }
    super::only_of_models(args.source.model.as_deref(), &[("--phase", args.phase.is_some())])?;
    let (bar, listener) = super::progress(ui);
    let mut compiler = super::compiler(
        args.source.model.as_deref(),
        args.source.equations.as_deref(),
        &args.common,
        toolchain,
        listener.clone(),
    )?;
    if let Some(phase) = args.phase {
        compiler = compiler.phases(&[phase.into()]);
    }
    let settings = Settings { seed: args.seed, kernels: !args.without_kernels };
    let report = verify::run(&compiler, &settings, &listener)?;
    drop(bar);
    let value = as_json(&report, &settings);
    if let Some(path) = &args.out {
        let text = format!("{value:#}\n");
        files::write(path, &text)?;
    }
    let (unproved, failed) = (report.unproved(), report.failed());
    if unproved + failed == 0 {
        ui.result(&value, || text(&report));
        return Ok(());
    }
    // The object of the error takes the place of the result.
    if ui.json() {
        ui.note(&format!("{value:#}"));
    } else {
        ui.note(&text(&report));
    }
    Err(Error::Check(format!("{unproved} stored values are not proved, {failed} tests failed")))
}

fn as_json(report: &Report, settings: &Settings) -> Value {
    let phases: Vec<Value> = report
        .phases
        .iter()
        .map(|p| {
            json!({
                "name": p.name,
                "proofs": p.proofs.iter().map(proof).collect::<Vec<_>>(),
                "cut_passes": { "proved": p.cuts, "not_proved": p.wrong_cuts },
                "tests": p.tests.iter().map(test).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "schema": tilewright::proof::cert::SCHEMA,
        "laws": tilewright::proof::laws::table_hash(),
        "primes": PRIMES,
        "seed": settings.seed,
        "assumptions": report.assumptions,
        "proved": "the algebra: that each kernel's plan equals its equation, by the certificates below",
        "tested_not_proved": TESTED,
        "unproved": report.unproved(),
        "failed": report.failed(),
        "phases": phases,
    })
}

fn proof(p: &Proved) -> Value {
    let (status, laws) = match &p.outcome {
        Ok(laws) => ("proved".to_owned(), json!(laws)),
        Err(reason) => (format!("not proved: {reason}"), json!({})),
    };
    json!({
        "kernel": p.kernel,
        "value": p.value,
        "status": status,
        "laws": laws,
        "checked_ms": p.time.as_secs_f64() * 1e3,
        "certificate": p.certificate,
    })
}

fn test(t: &Tested) -> Value {
    let mut out = json!({ "of": t.of, "what": t.what, "inputs": t.inputs, "status": status(t) });
    let more = match &t.outcome {
        Outcome::Exact(n) => json!({ "same": n.same, "differ": n.differ, "untold": n.untold }),
        // JSON has no infinity.
        Outcome::Error { error, allowed } => {
            json!({ "error": error.is_finite().then_some(*error), "allowed": allowed })
        }
        Outcome::Untested(_) => json!({}),
        Outcome::Failed(why) => json!({ "why": why }),
    };
    if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
        out.extend(more);
    }
    out
}

fn status(t: &Tested) -> String {
    match &t.outcome {
        Outcome::Untested(why) => format!("not tested: {why}"),
        Outcome::Exact(n) if n.same == 0 && n.differ == 0 => "told nothing".into(),
        o if o.passes() => "passed".into(),
        _ => "failed".into(),
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for phase in &report.phases {
        out += &of_phase(phase);
    }
    out += "taken for granted\n";
    for a in &report.assumptions {
        out += &format!("  {a}\n");
    }
    out += "tested and not proved\n";
    for t in TESTED {
        out += &format!("  {t}\n");
    }
    out.trim_end().to_owned()
}

fn of_phase(phase: &Phase) -> String {
    let mut out = format!("phase {}\n\n", phase.name);
    let rows: Vec<Vec<String>> = phase
        .proofs
        .iter()
        .map(|p| {
            let (status, laws) = match &p.outcome {
                Ok(laws) => {
                    let laws: Vec<String> = laws.iter().map(|(l, n)| format!("{l} x{n}")).collect();
                    ("proved".to_owned(), laws.join(", "))
                }
                Err(reason) => (format!("not proved: {reason}"), String::new()),
            };
            let steps = p.certificate.as_ref().map_or(0, |c| c.steps.len());
            let time = format!("{:.2} ms", p.time.as_secs_f64() * 1e3);
            vec![p.kernel.clone(), p.value.clone(), status, steps.to_string(), time, laws]
        })
        .collect();
    out += &super::table(&["kernel", "value", "status", "steps", "checked", "laws"], &rows);
    out.push_str("\n\n");
    if phase.cuts > 0 {
        out += &format!("passes in runs that, merged, are the whole pass: {}\n", phase.cuts);
    }
    for why in &phase.wrong_cuts {
        out += &format!("a pass in runs is not the whole pass: {why}\n");
    }
    for tests in phase.tests.chunk_by(|a, b| a.of == b.of) {
        out += &of_tests(tests);
    }
    out
}

/// The tests of one subject.
fn of_tests(tests: &[Tested]) -> String {
    let rows: Vec<Vec<String>> = tests
        .iter()
        .map(|t| {
            let figure = match &t.outcome {
                Outcome::Exact(n) => format!("{} same, {} differ, {} untold", n.same, n.differ, n.untold),
                Outcome::Error { error, allowed } => format!("{error:.1e} of {allowed:.0e}"),
                Outcome::Untested(why) | Outcome::Failed(why) => why.clone(),
            };
            let status = match t.outcome {
                Outcome::Untested(_) => "not tested".to_owned(),
                _ => status(t),
            };
            vec![t.what.clone(), t.inputs.clone(), status, figure]
        })
        .collect();
    let of = tests.first().map_or("", |t| &t.of);
    let head = if of.is_empty() { String::new() } else { format!("{of}\n\n") };
    format!("{head}{}\n\n", super::table(&["test", "inputs", "status", "figure"], &rows))
}
