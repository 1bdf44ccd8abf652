//! `tilewright check`: prove the schedule of a persistent kernel.

use serde_json::{Value, json};
use tilewright::megakernel::{Certificate, Violation};
use tilewright::persistent::{Scheduled, certify};
use tilewright::spec::Mode;
use tilewright::{Error, Phase, Toolchain};

use crate::cli::args::{CheckArgs, ModelArgs};
use crate::cli::ui::Ui;

/// Checks and prints; the exit code is 1 where something is wrong.
pub(crate) fn run(args: &CheckArgs, ui: &Ui, toolchain: &Toolchain) -> Result<u8, Error> {
    super::only_megakernel(&args.common.mode, "has no schedule to be checked")?;
    let common = ModelArgs { mode: Mode::Megakernel.name().into(), ..args.common.clone() };
    super::only_of_models(Some(&args.model), &[("--batch", args.batch.is_some())])?;
    let (bar, listener) = super::progress(ui);
    let module = super::compiler(Some(&args.model), None, &common, toolchain, listener)?
        .phases(&[Phase::Decode])
        .batch(args.batch.unwrap_or(1))
        .compile()?;
    super::tell_notes(ui, &module);
    let mut failed = false;
    let mut values = Vec::new();
    let mut texts = Vec::new();
    for phase in module.phases() {
        let name = &phase.planned.name;
        let start = std::time::Instant::now();
        let result = certify(&module, name)?;
        let seconds = start.elapsed().as_secs_f64();
        failed |= result.is_err();
        let mut value = result_json(&result);
        value["phase"] = json!(name);
        value["seconds"] = json!(seconds);
        values.push(value);
        texts.push(format!("{name}: {}\nchecked in {seconds:.2} s", result_text(&result)));
    }
    drop(bar);
    ui.result(&json!({ "ok": !failed, "mode": Mode::Megakernel.name(), "phases": values }), || {
        texts.join("\n\n")
    });
    Ok(u8::from(failed))
}

fn result_json(result: &Result<(Scheduled, Certificate), Violation>) -> Value {
    match result {
        Ok((scheduled, c)) => {
            let r = &scheduled.schedule.report;
            json!({
                "certificate": {
                    "blocks": c.blocks, "records": c.records, "tasks": c.tasks, "launch_blocks": c.launch_blocks,
                    "counters": c.counters, "waits": c.waits, "read_after_write": c.read_after_write,
                    "write_after_read": c.write_after_read, "write_after_write": c.write_after_write,
                    "pairs": c.pairs, "repeats": c.repeats, "stages": c.stages, "pages": c.pages, "bytes": c.bytes,
                    "bytes_ahead": c.bytes_ahead,
                    "late": c.late.iter().map(|(kernel, bytes)| json!({ "kernel": kernel, "bytes": bytes })).collect::<Vec<_>>(), "noncoherent_loads": c.loads,
                },
                "schedule": {
                    "signals": r.signals, "implied": r.implied, "phases": r.phases, "critical_path": r.critical_path,
                    "makespan": r.makespan, "busy": r.busy, "global_events": r.global,
                    "undemanded_events": r.undemanded,
                    "unfed": scheduled.unfed.iter().map(|u| json!({
                        "kernel": u.kernel, "buffer": u.buffer, "bytes": u.bytes,
                    })).collect::<Vec<_>>(),
                    "unit": if r.measured { "ns" } else { "ns, assumed" },
                },
            })
        }
        Err(violation) => {
            let mut value = json!({ "violation": violation.to_string() });
            if let Violation::Unordered { kind, buffer, earlier, later, missing } = violation {
                value["hazard"] = json!(kind.to_string());
                value["buffer"] = json!(buffer);
                value["earlier"] = json!(earlier.to_string());
                value["later"] = json!(later.to_string());
                value["missing"] = json!(missing);
            }
            value
        }
    }
}

/// Constants that are named, at most.
const LISTED: usize = 4;

fn pages_text(scheduled: &Scheduled, c: &Certificate) -> String {
    let own = scheduled.unfed.iter().take(LISTED);
    let own: Vec<String> = own.map(|u| format!("{} of `{}` in `{}`", u.bytes, u.buffer, u.kernel)).collect();
    let more = scheduled.unfed.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let own = if own.is_empty() {
        String::new()
    } else {
        format!("  bytes of constants that tasks load themselves: {}{more}\n", own.join(", "))
    };
    let Some((count, size)) = scheduled.bodies.pages() else { return own };
    let late: Vec<String> = c.late.iter().map(|(kernel, bytes)| format!("{bytes} of `{kernel}`")).collect();
    let late = if late.is_empty() {
        String::new()
    } else {
        format!(", the others are more than the ring holds: {}", late.join(", "))
    };
    format!(
        "  {} stages are copied ahead through {count} pages of {size} bytes: {} pages claimed, each released before it is claimed \
         again\n  {} of {} bytes ({:.1}%) wait for nothing of their own task{late}\n{own}",
        c.stages,
        c.pages,
        c.bytes_ahead,
        c.bytes,
        100.0 * c.bytes_ahead as f64 / c.bytes.max(1) as f64,
    )
}

fn result_text(result: &Result<(Scheduled, Certificate), Violation>) -> String {
    match result {
        Ok((scheduled, c)) => {
            let r = &scheduled.schedule.report;
            format!(
                "proved for {} SMs\n  {} tasks in {} records do {} blocks of launches, each once\n  {} waits on {} counters, \
                 all of which end\n  in order: {} reads after writes, {} writes after reads, {} writes after writes \
                 between launches\n{}  {} loads past the coherent caches and copies ahead, all of memory that nothing writes\n  {} phases, {} events of which all SMs are on both sides, {} of these not demanded by data; \
                 critical path {} ns and makespan {} ns, from {}; SMs busy {:.0}%",
                c.blocks,
                c.tasks,
                c.records,
                c.launch_blocks,
                c.waits,
                c.counters,
                c.read_after_write,
                c.write_after_read,
                c.write_after_write,
                pages_text(scheduled, c),
                super::or_dash(c.loads),
                r.phases,
                r.global,
                r.undemanded,
                r.critical_path,
                r.makespan,
                if r.measured {
                    "measurements of the device"
                } else {
                    "assumptions (`--device-profile` gives measurements)"
                },
                100.0 * r.busy,
            )
        }
        Err(violation) => format!("not proved\n  {violation}"),
    }
}
