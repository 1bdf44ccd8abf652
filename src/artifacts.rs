//! What: the stages of a compilation as text and files.
//! Why here: `compile -o`, `--emit` and tests show the same texts under the same names.
//! Pre: a compiled module.
//! Post: a directory appears complete or not at all; one that holds other things than our files is left alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tilewright_codegen::assign_layouts;
use tilewright_ir::text::{self, Document, PlanFile, TileFile};

use crate::explain::marks::{Marks, changed};
use crate::{CompiledPhase, Error, Module, Planned, report};

/// A stage of the compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The graph.
    Graph,
    /// The plan.
    Plan,
    /// The derivations.
    Laws,
    /// The tile programs.
    Tile,
    /// The launches.
    Step,
    /// The source of each kernel.
    Cuda,
    /// The PTX of each kernel.
    Ptx,
    /// The CUBIN of each kernel.
    Cubin,
    /// Resources, timings and sizes.
    Report,
    /// The e-graphs, drawn; only where they were asked for.
    EgraphDot,
}

/// All stages that are written unless others are asked for, in order.
pub const STAGES: [Stage; 9] = [
    Stage::Graph,
    Stage::Plan,
    Stage::Laws,
    Stage::Tile,
    Stage::Step,
    Stage::Cuda,
    Stage::Ptx,
    Stage::Cubin,
    Stage::Report,
];

/// How the source of every generated kernel starts.
const GENERATED_CUDA: &str = "// Most kernels use a part of what follows.\n";

/// A file: its name and its content.
pub type File = (String, Vec<u8>);

/// The files of the stages of one phase; the report belongs to the module and is not among them.
pub fn files(phase: &CompiledPhase, stages: &[Stage]) -> Result<Vec<File>, Error> {
    let mut out = Vec::new();
    let c = &phase.planned.compiled;
    for stage in stages {
        match stage {
            Stage::Graph => out.push(("graph.tw".into(), text::print_module(&phase.planned.graph).into())),
            Stage::Plan => {
                let symbols = phase.planned.graph.symbols.clone();
                let plans = c.plans.iter().map(|(_, p)| p.clone()).collect();
                let document = Document::Plan(PlanFile { symbols, plans });
                out.push(("plan.tw".into(), text::print(&document).into()));
            }
            Stage::Laws => {
                out.push(("laws.txt".into(), laws(&phase.planned, None, Marks::Arrows, None).0.into()))
            }
            Stage::Tile => {
                let symbols = phase.planned.graph.symbols.clone();
                // With the places that code generation chooses, which is what the kernels were made from.
                let programs = c.programs.iter().map(assign_layouts).collect::<Result<_, _>>()?;
                let document = Document::Tile(TileFile { symbols, programs });
                out.push(("tile.tw".into(), text::print(&document).into()));
            }
            Stage::Step => {
                out.push(("step.tw".into(), text::print_step(&c.step).into()));
                let prologue = c.prologue.iter();
                out.extend(prologue.map(|p| ("prologue.tw".to_owned(), text::print_step(p).into())));
            }
            Stage::Cuda => {
                let sources = phase.sources.iter();
                out.extend(sources.map(|s| (format!("{}.cu", s.name), s.cuda.clone().into())));
            }
            Stage::Ptx => {
                let kernels = phase.kernels.iter().chain(&phase.prologue);
                out.extend(kernels.map(|k| (format!("{}.ptx", k.name), k.ptx.clone().into())));
            }
            Stage::Cubin => {
                let kernels = phase.kernels.iter().chain(&phase.prologue).filter(|k| !k.cubin.is_empty());
                out.extend(kernels.map(|k| (format!("{}.cubin", k.name), k.cubin.clone())));
            }
            Stage::Report => {}
            Stage::EgraphDot => {
                let all: Vec<&str> = c.egraphs.iter().map(|(_, dot)| dot.as_str()).collect();
                out.push(("egraph.dot".into(), all.join("\n").into()));
            }
        }
    }
    Ok(out)
}

/// The derivation of each kernel of a phase, or of the one of that name: each law, before and after, with what it changed
/// marked. Sides are shortened to `width` if there is one; how many steps were is the second result.
pub fn laws(planned: &Planned, kernel: Option<&str>, marks: Marks, width: Option<usize>) -> (String, usize) {
    let mut out = String::new();
    let mut shortened = 0;
    for (func, plan) in &planned.compiled.plans {
        let function = &planned.graph.functions[*func].name;
        for k in plan.kernels.iter().filter(|k| kernel.is_none_or(|name| name == k.name)) {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "kernel {} (of @{function})", k.name);
            if k.derivation.is_empty() {
                let _ = writeln!(out, "  as written: no law was needed");
            }
            for (n, step) in k.derivation.iter().enumerate() {
                let _ = writeln!(out, "  {}. {}", n + 1, step.law);
                let [(before, cut), (after, cut_too)] =
                    changed(&step.before, &step.after).map(|side| marks.show(&side, width));
                shortened += usize::from(cut || cut_too);
                let _ = writeln!(out, "       {}", indent(&before));
                let _ = writeln!(out, "    => {}", indent(&after));
            }
            for r in &k.refinements {
                let _ = writeln!(out, "  refined: {r}");
            }
            for b in &k.boundaries {
                let _ = writeln!(out, "  boundary: {b}");
            }
            out.push('\n');
        }
    }
    (out, shortened)
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n       ")
}

/// Writes the stages of a module to a directory: those of the first phase directly, those of further phases in a
/// folder of their own, the report of all.
pub fn write(module: &Module, stages: &[Stage], dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut all: Vec<File> = Vec::new();
    for (n, phase) in module.phases().iter().enumerate() {
        let folder = if n == 0 { String::new() } else { format!("{}/", phase.planned.name) };
        all.extend(files(phase, stages)?.into_iter().map(|(name, bytes)| (format!("{folder}{name}"), bytes)));
    }
    if stages.contains(&Stage::Report) {
        all.push(("report.json".into(), format!("{:#}\n", report::module(module)).into()));
    }
    write_directory(dir, &all)
}

/// Writes files to a directory in one step.
pub fn write_directory(dir: &Path, files: &[File]) -> Result<Vec<PathBuf>, Error> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |e| Error::io(&path, e)
    };
    check_replaceable(dir)?;
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io(parent))?;
    // Removed when this function returns early.
    let aside = tempfile::Builder::new().prefix(".tilewright-").tempdir_in(parent).map_err(io(parent))?;
    let (new, old) = (aside.path().join("new"), aside.path().join("old"));
    fs::create_dir(&new).map_err(io(&new))?;
    for (name, bytes) in files {
        let path = new.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io(folder))?;
        }
        fs::write(&path, bytes).map_err(io(&dir.join(name)))?;
    }
    let replaces = dir.exists();
    if replaces {
        fs::rename(dir, &old).map_err(io(dir))?;
    }
    if let Err(e) = fs::rename(&new, dir) {
        if replaces {
            // The first error is the one to report.
            let _ = fs::rename(&old, dir);
        }
        return Err(Error::io(dir, e));
    }
    Ok(files.iter().map(|(name, _)| dir.join(name)).collect())
}

/// Whether a file is one that we wrote: by its name, and for a kernel by its content, too, since anybody may have
/// sources there.
fn is_ours(path: &Path) -> std::io::Result<bool> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if matches!(
        name,
        "graph.tw"
            | "plan.tw"
            | "tile.tw"
            | "step.tw"
            | "prologue.tw"
            | "laws.txt"
            | "report.json"
            | "egraph.dot"
    ) {
        return Ok(path.is_file());
    }
    let (Some(stem), Some(kind)) =
        (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str()))
    else {
        return Ok(false);
    };
    // What a kernel of that name has in it.
    let trace = match kind {
        "cu" => format!("{stem}("),
        "ptx" => format!(".entry {stem}("),
        "cubin" => format!(".text.{stem}"),
        _ => return Ok(false),
    };
    if !path.is_file() {
        return Ok(false);
    }
    let content = fs::read(path)?;
    let generated = kind != "cu" || content.starts_with(GENERATED_CUDA.as_bytes());
    Ok(generated && content.windows(trace.len()).any(|w| w == trace.as_bytes()))
}

/// That a directory is absent, empty, or holds only what we wrote.
fn check_replaceable(dir: &Path) -> Result<(), Error> {
    if !dir.exists() {
        return Ok(());
    }
    if !dir.is_dir() {
        return Err(Error::input(format!("`{}` is a file, and a directory is needed", dir.display())));
    }
    fn foreign(dir: &Path, depth: u32) -> std::io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if is_ours(&path)? {
                continue;
            }
            let phase = matches!(path.file_name().and_then(|n| n.to_str()), Some("decode" | "prefill"));
            if !(depth == 0 && phase && path.is_dir()) {
                return Ok(Some(path));
            }
            if let Some(path) = foreign(&path, 1)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
    match foreign(dir, 0).map_err(|e| Error::io(dir, e))? {
        None => Ok(()),
        Some(path) => Err(Error::Input {
            message: format!(
                "`{}` would be replaced, and it holds `{}`, which is none of our files",
                dir.display(),
                path.display()
            ),
            help: Some("name a new or empty directory".into()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> File {
        (name.into(), text.into())
    }

    #[test]
    fn a_directory_is_replaced_as_a_whole() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a/out");
        write_directory(&dir, &[file("graph.tw", "1"), file("prefill/k.ptx", ".visible .entry k(")]).unwrap();
        write_directory(&dir, &[file("step.tw", "3")]).unwrap();
        assert!(!dir.join("graph.tw").exists() && !dir.join("prefill").exists());
        assert_eq!(fs::read_to_string(dir.join("step.tw")).unwrap(), "3");
        assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn other_peoples_files_are_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        for foreign in [
            "thesis.tex",
            "prefill/data.bin",
            "decode/decode/k.cu",
            "mine.tw",
            "kernel.cu",
            "kernel.ptx",
            "prefill/kernel.cubin",
        ] {
            let dir = tmp.path().join("out");
            let path = dir.join(foreign);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            assert!(write_directory(&dir, &[file("step.tw", "3")]).is_err(), "{foreign}");
            assert!(path.exists() && !dir.join("step.tw").exists());
            fs::remove_dir_all(&dir).unwrap();
        }
        let plain = tmp.path().join("file");
        fs::write(&plain, "x").unwrap();
        assert!(write_directory(&plain, &[]).is_err());
    }
}
