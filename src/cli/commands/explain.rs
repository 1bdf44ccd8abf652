//! `tilewright explain`: the derivation of each kernel.

use serde_json::json;
use tilewright::{Error, Planned, Toolchain, artifacts, report};

use crate::cli::args::ExplainArgs;
use crate::cli::ui::Ui;

/// Derives and prints; needs neither NVRTC nor a device.
pub(crate) fn run(args: &ExplainArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let (bar, listener) = super::progress(ui);
    let mut compiler =
        super::compiler(args.model.as_deref(), args.equations.as_deref(), &args.common, toolchain, listener)?;
    if let Some(phase) = args.phase {
        compiler = compiler.phases(&[phase.into()]);
    }
    let planned = compiler.plan()?;
    drop(bar);
    let kernel = args.kernel.as_deref();
    // Phases share names.
    let mut names: Vec<&str> = Vec::new();
    for name in planned.iter().flat_map(kernels) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if let Some(wanted) = kernel
        && !names.contains(&wanted)
    {
        return Err(Error::Input {
            message: format!("there is no kernel `{wanted}`"),
            help: Some(format!("the kernels are: {}", names.join(", "))),
        });
    }
    let phases: Vec<_> = planned.iter().map(|p| as_json(p, kernel)).collect();
    ui.result(&json!({ "phases": phases }), || {
        let mut text = String::new();
        for p in &planned {
            let laws = artifacts::laws(p, kernel);
            if !laws.is_empty() {
                text += &format!("phase {}\n\n", p.name);
                for note in report::search_notes(p) {
                    text += &format!("note: {note}\n\n");
                }
                text += &laws;
            }
        }
        text.trim_end().to_owned()
    });
    Ok(())
}

fn kernels(p: &Planned) -> impl Iterator<Item = &str> {
    p.compiled.plans.iter().flat_map(|(_, plan)| plan.kernels.iter().map(|k| k.name.as_str()))
}

fn as_json(p: &Planned, kernel: Option<&str>) -> serde_json::Value {
    let mut kernels = Vec::new();
    for (func, plan) in &p.compiled.plans {
        for k in plan.kernels.iter().filter(|k| kernel.is_none_or(|name| name == k.name)) {
            let steps: Vec<_> = k
                .derivation
                .iter()
                .map(|s| json!({ "law": s.law, "before": s.before, "after": s.after }))
                .collect();
            kernels.push(json!({
                "name": k.name,
                "function": p.graph.functions[*func].name,
                "derivation": steps,
                "refinements": k.refinements,
                "boundaries": k.boundaries,
            }));
        }
    }
    json!({
        "name": p.name,
        "kernels": kernels,
        "search_complete": report::search_complete(p),
        "notes": report::search_notes(p),
    })
}
