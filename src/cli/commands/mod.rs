//! What: the commands, one module each, and what they share.
//! Why here: a command turns arguments into calls of the library and results into text or JSON, nothing more.
//! Pre: parsed arguments.
//! Post: an error has printed nothing on stdout.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod check;
pub(crate) mod compile;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod emulate;
pub(crate) mod explain;
pub(crate) mod jit;
pub(crate) mod laws;
pub(crate) mod opt;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod selftest;
pub(crate) mod setup;
pub(crate) mod verify;

use std::path::Path;
use std::sync::Arc;

use tilewright::artifacts::Stage;
use tilewright::bench::profile::{DeviceProfile, resolved};
use tilewright::generate::{check_ids, check_room};
use tilewright::opt::check_text;
use tilewright::passes::Objective;
use tilewright::spec::Mode;
use tilewright::{Compiler, DType, DeviceSpec, Error, Listener, ModelInfo, Module, Phase, Toolchain};
use tilewright_ir::text::{Document, parse};

use super::args::{Activations, Emit, ModelArgs, ObjectiveArg, PhaseArg};
use super::ui::{Bar, Ui};

impl From<Activations> for DType {
    fn from(a: Activations) -> DType {
        match a {
            Activations::Bf16 => DType::Bf16,
            Activations::F16 => DType::F16,
            Activations::F32 => DType::F32,
        }
    }
}

impl From<PhaseArg> for Phase {
    fn from(p: PhaseArg) -> Phase {
        match p {
            PhaseArg::Decode => Phase::Decode,
            PhaseArg::Prefill => Phase::Prefill,
        }
    }
}

impl From<ObjectiveArg> for Objective {
    fn from(o: ObjectiveArg) -> Objective {
        match o {
            ObjectiveArg::Latency => Objective::Latency,
            ObjectiveArg::Traffic => Objective::Traffic,
        }
    }
}

impl From<Emit> for Stage {
    fn from(e: Emit) -> Stage {
        match e {
            Emit::Graph => Stage::Graph,
            Emit::Plan => Stage::Plan,
            Emit::Laws => Stage::Laws,
            Emit::Tile => Stage::Tile,
            Emit::Step => Stage::Step,
            Emit::Cuda => Stage::Cuda,
            Emit::Ptx => Stage::Ptx,
            Emit::Cubin => Stage::Cubin,
            Emit::Report => Stage::Report,
            Emit::EgraphDot => Stage::EgraphDot,
        }
    }
}

/// A bar and a listener that moves it.
fn progress(ui: &Ui) -> (Arc<Bar>, Listener) {
    let bar = Arc::new(ui.progress());
    let shown = Arc::clone(&bar);
    (bar, Listener::new(move |event| shown.show(event)))
}

/// The device that a text names; a machine of the emulator may be the file of a profile.
fn device(text: &str) -> Result<DeviceSpec, Error> {
    resolved(text.parse::<DeviceSpec>()?)
}

/// That a command which is about persistent kernels is not asked for another mode.
fn only_megakernel(mode: &str, what: &str) -> Result<(), Error> {
    match Mode::parse(mode)? {
        Mode::Auto | Mode::Megakernel => Ok(()),
        _ => Err(Error::Unsupported {
            message: format!("mode `{mode}` {what}"),
            help: Some("use `--mode megakernel`".into()),
        }),
    }
}

/// The compilation of a model folder or of a textual graph, or of equations.
fn compiler(
    model: Option<&Path>,
    equations: Option<&str>,
    args: &ModelArgs,
    toolchain: &Toolchain,
    listener: Listener,
) -> Result<Compiler, Error> {
    only_of_models(model, &[("--max-context", args.max_context.is_some())])?;
    let mode = Mode::parse(&args.mode)?;
    let base = match (model, equations) {
        (_, Some(text)) => Compiler::equations(text),
        (Some(path), None) if is_graph(path) => graph_file(path)?,
        (Some(path), None) => Compiler::model(path),
        (None, None) => return Err(Error::Usage("a model or equations are needed".into())),
    };
    let mut options = tilewright::passes::Options {
        objective: args.objective.into(),
        candidate: args.candidate.clone(),
        ..Default::default()
    };
    if let Some(nodes) = args.search_budget {
        options.budget.nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
    }
    let (base, device) =
        profiled(base.pass_options(options), device(&args.device)?, args.device_profile.as_deref())?;
    Ok(base
        .toolchain(toolchain.clone())
        .device(device)
        .target(args.target.clone())
        .activations(args.activations.into())
        .max_context(args.max_context)
        .random_weights(args.random_weights)
        .mode(mode)
        .listener(listener))
}

/// That an option names nothing twice: either one could be meant.
fn distinct<'a>(option: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    match names.into_iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::Usage(format!("`{option} {name}` is given twice"))),
        None => Ok(()),
    }
}

/// That what only models have is asked of models alone.
fn only_of_models(model: Option<&Path>, options: &[(&str, bool)]) -> Result<(), Error> {
    if model.is_some_and(|path| !is_graph(path)) {
        return Ok(());
    }
    match options.iter().find(|(_, given)| *given) {
        Some((name, _)) => {
            Err(Error::Usage(format!("`{name}` is for models: equations and graphs say it themselves")))
        }
        None => Ok(()),
    }
}

/// Whether a path is that of a textual IR file.
fn is_graph(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "tw")
}

/// A compilation for the machine of a profile, if there is one, and the device, which an emulator makes that machine.
fn profiled(
    compiler: Compiler,
    device: DeviceSpec,
    profile: Option<&Path>,
) -> Result<(Compiler, DeviceSpec), Error> {
    let Some(path) = profile else { return Ok((compiler, device)) };
    let profile = DeviceProfile::load(path)?;
    let device = profile.emulated_on(device)?;
    Ok((compiler.device_profile(&profile), device))
}

/// A textual IR file that holds a graph.
fn graph_file(path: &Path) -> Result<Compiler, Error> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let document = parse(&text).map_err(|d| Error::text(&name, &text, d))?;
    check_text(&name, &text, &document)?;
    match document {
        Document::Graph(graph) => {
            let stem =
                path.file_stem().map_or_else(|| "main".to_owned(), |s| s.to_string_lossy().into_owned());
            Ok(Compiler::graph(stem, graph))
        }
        other => Err(Error::Input {
            message: format!("`{name}` holds a {}, and a graph is needed", other.level()),
            help: Some("`tilewright opt` works on the other levels".into()),
        }),
    }
}

/// That tokens are in the vocabulary and that they, and so many more, fit the context. Before anything is compiled.
fn check_tokens(compiler: &Compiler, ids: &[u64], more: u64) -> Result<ModelInfo, Error> {
    let info = compiler
        .model_info()?
        .ok_or_else(|| Error::input("this is no language model: it takes no tokens"))?;
    check_ids(ids, info.vocab)?;
    check_room(&info, (ids.len() as u64).saturating_add(more))?;
    Ok(info)
}

/// Says on stderr what the user should know.
fn tell_notes(ui: &Ui, module: &Module) {
    for note in module.notes() {
        ui.note(note);
    }
}

/// A table with columns as wide as they need to be.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}", w = *w)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    std::iter::once(line(header.to_vec()))
        .chain(rows.iter().map(|r| line(r.iter().map(String::as_str).collect())))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The table of the kernels of a module.
fn kernel_table(module: &Module) -> String {
    let several = module.phases().len() > 1;
    let mut rows = Vec::new();
    for phase in module.phases() {
        for k in &phase.kernels {
            let r = &k.resources;
            let name = if several { format!("{}/{}", phase.planned.name, k.name) } else { k.name.clone() };
            let launches = tilewright::report::launches_of(phase, &k.name);
            rows.push(vec![
                name,
                launches.to_string(),
                k.threads.to_string(),
                r.registers.to_string(),
                r.spill_bytes.to_string(),
                (u64::from(r.static_shared_bytes) + u64::from(k.shared_bytes)).to_string(),
            ]);
        }
    }
    table(&["kernel", "launches", "threads", "registers", "spills", "shared"], &rows)
}

/// A number for people, or a dash.
fn or_dash<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}
