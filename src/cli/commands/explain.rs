//! `tilewright explain`: the derivation of each kernel.

use serde_json::json;
use tilewright::explain::{self, FunctionReport};
use tilewright::{Error, Planned, Toolchain, artifacts, files, report};

use crate::cli::args::ExplainArgs;
use crate::cli::ui::Ui;

/// Characters of a side of a step that are printed unless all of it is asked for.
pub(super) const WIDTH: usize = 400;

/// Derives and prints; needs neither NVRTC nor a device.
pub(crate) fn run(args: &ExplainArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    if args.out.is_some() && !ui.html() {
        return Err(Error::Usage("`-o` is for the page: add `--format html`".into()));
    }
    if let Some(path) = &args.out {
        files::check_write(path)?;
    }
    super::distinct("--set", args.symbols.iter().map(|s| s.name.as_str()))?;
    super::only_of_models(args.source.model.as_deref(), &[("--phase", args.phase.is_some())])?;
    let (bar, listener) = super::progress(ui);
    let mut compiler = super::compiler(
        args.source.model.as_deref(),
        args.source.equations.as_deref(),
        &args.common,
        toolchain,
        listener,
    )?;
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
    let sizes = symbols(args, &planned)?;
    let mut phases = Vec::new();
    let mut text = String::new();
    let mut shortened = 0;
    for p in &planned {
        let functions = explain::functions(p, &sizes)?;
        phases.push(as_json(p, kernel, &functions));
        let width = if args.whole { None } else { Some(WIDTH) };
        let (laws, cut) = artifacts::laws(p, kernel, ui.marks(), width);
        shortened += cut;
        if laws.is_empty() {
            continue;
        }
        text += &format!("phase {}\n\n", p.name);
        for note in report::search_notes(p) {
            text += &format!("note: {note}\n\n");
        }
        if kernel.is_none() {
            for f in &functions {
                text += &explain::function_text(f);
                text.push('\n');
            }
        }
        if args.candidates {
            for (name, choice) in &p.compiled.choices {
                text += &explain::candidates_text(name, choice);
                text.push('\n');
            }
        } else {
            text += &laws;
        }
    }
    if ui.html() {
        let name = match (&args.source.model, &args.source.equations) {
            (Some(path), _) => path.display().to_string(),
            _ => "equations".to_owned(),
        };
        let page = explain::page::page(&name, &planned, &sizes)?;
        match &args.out {
            Some(path) => files::write(path, &page)?,
            None => ui.print(&page),
        }
        return Ok(());
    }
    if shortened > 0 && !args.candidates {
        let steps =
            if shortened == 1 { "1 long step is".into() } else { format!("{shortened} long steps are") };
        text += &format!("note: {steps} shortened; --whole shows all of them\n");
    }
    ui.result(&json!({ "phases": phases }), || text.trim_end().to_owned());
    Ok(())
}

/// The values of symbols that were given, each of which some phase must have.
fn symbols(args: &ExplainArgs, planned: &[Planned]) -> Result<Vec<(String, u64)>, Error> {
    let mut known: Vec<&str> =
        planned.iter().flat_map(|p| p.graph.symbols.values()).map(|s| s.name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    args.symbols
        .iter()
        .map(|s| {
            if !known.contains(&s.name.as_str()) {
                return Err(Error::Input {
                    message: format!("there is no symbol `{}`", s.name),
                    help: Some(match &known[..] {
                        [] => "all extents are constant".into(),
                        names => format!("the symbols are: {}", names.join(", ")),
                    }),
                });
            }
            let value = u64::try_from(s.value).map_err(|_| {
                Error::input(format!("`{}` is {}, and extents are not negative", s.name, s.value))
            })?;
            Ok((s.name.clone(), value))
        })
        .collect()
}

fn kernels(p: &Planned) -> impl Iterator<Item = &str> {
    p.compiled.plans.iter().flat_map(|(_, plan)| plan.kernels.iter().map(|k| k.name.as_str()))
}

fn as_json(p: &Planned, kernel: Option<&str>, functions: &[FunctionReport<'_>]) -> serde_json::Value {
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
        "functions": functions.iter().map(explain::function_json).collect::<Vec<_>>(),
        "candidates": functions.iter().map(|f| explain::candidates_json(f.name, f.choice)).collect::<Vec<_>>(),
        "search_complete": report::search_complete(p),
        "notes": report::search_notes(p),
    })
}
