//! `tilewright compile`: a model, a graph or equations to kernels and everything on the way.

use serde_json::{Map, Value, json};
use tilewright::artifacts::{self, STAGES, Stage};
use tilewright::{Error, Module, Toolchain, report};

use crate::cli::args::{CompileArgs, Emit};
use crate::cli::ui::Ui;

/// Compiles and writes or prints what was asked for.
pub(crate) fn run(args: &CompileArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    if args.out.is_none() && args.emit.contains(&Emit::Cubin) {
        return Err(Error::Usage("`--emit cubin` needs a directory: add `-o DIR`".into()));
    }
    super::only_of_models(
        args.source.model.as_deref(),
        &[("--phase", args.phase.is_some()), ("--batch", args.batch.is_some())],
    )?;
    let (bar, listener) = super::progress(ui);
    let mut compiler = super::compiler(
        args.source.model.as_deref(),
        args.source.equations.as_deref(),
        &args.common,
        toolchain,
        listener,
    )?
    .batch(args.batch.unwrap_or(1));
    if let Some(phase) = args.phase {
        compiler = compiler.phases(&[phase.into()]);
    }
    if args.emit.contains(&Emit::EgraphDot) {
        compiler = compiler.egraphs(Some(usize::try_from(args.egraph_nodes).unwrap_or(usize::MAX)));
    }
    let module = compiler.compile()?;
    drop(bar);
    super::tell_notes(ui, &module);

    let mut stages: Vec<Stage> = args.emit.iter().map(|&e| e.into()).collect();
    if stages.is_empty() && args.out.is_some() {
        stages = STAGES.to_vec();
    }
    let written = match &args.out {
        Some(dir) => artifacts::write(&module, &stages, dir)?,
        None => Vec::new(),
    };
    if args.time_passes {
        for phase in module.phases() {
            for (pass, seconds) in report::timings(phase) {
                ui.note(&format!("{:>9.1} ms  {} {pass}", seconds * 1e3, phase.planned.name));
            }
        }
    }
    let printed = if args.out.is_none() { print(&module, &stages)? } else { Vec::new() };
    let mut value = report::module(&module);
    value["files"] = json!(written);
    if !printed.is_empty() {
        let texts = printed.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
        value["emitted"] = Value::Object(texts.collect::<Map<_, _>>());
    }
    ui.result(&value, || match &printed[..] {
        [] => summary(&module, written.len(), args),
        // One stage alone is printed bare, ready for other tools.
        [(_, text)] => text.clone(),
        several => several
            .iter()
            .map(|(name, text)| format!("; ---- {name}\n{}", text.trim_end()))
            .collect::<Vec<_>>()
            .join("\n\n"),
    });
    Ok(())
}

/// The texts of stages, for stdout.
pub(super) fn print(module: &Module, stages: &[Stage]) -> Result<Vec<(String, String)>, Error> {
    let mut out = Vec::new();
    for (n, phase) in module.phases().iter().enumerate() {
        let folder = if n == 0 { String::new() } else { format!("{}/", phase.planned.name) };
        for (name, bytes) in artifacts::files(phase, stages)? {
            out.push((format!("{folder}{name}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    if stages.contains(&Stage::Report) {
        out.push(("report.json".into(), format!("{:#}", report::module(module))));
    }
    Ok(out)
}

fn summary(module: &Module, files: usize, args: &CompileArgs) -> String {
    let mut lines = vec![
        format!(
            "target {} (compiled for {}, NVRTC {})",
            module.target(),
            module.arch(),
            module.nvrtc_version()
        ),
        super::kernel_table(module),
    ];
    for phase in module.phases() {
        lines.push(format!(
            "{}: {} kernels, {} launches, at most {} per layer; {} from the cache; {:.1} MiB of temporaries",
            phase.planned.name,
            phase.kernels.len(),
            phase.planned.compiled.step.groups().len(),
            report::launches_per_layer(&phase.planned),
            phase.tally.cached,
            phase.planned.compiled.step.arena_bytes as f64 / f64::from(1 << 20),
        ));
    }
    // All phases share one copy of the weights.
    let steps = module.phases().iter().map(|p| &p.planned.compiled.step);
    if let Some(over) = steps.filter_map(report::packed_over_logical).reduce(f64::max) {
        lines.push(format!("weights are packed, with padding, into {over:.4} of their bytes"));
    }
    lines.extend(module.phases().iter().flat_map(|p| report::search_notes(&p.planned)));
    if let Some(dir) = &args.out {
        lines.push(format!("{files} files in {}", dir.display()));
    }
    lines.join("\n")
}
