//! What: passes by name, from one textual level to the next.
//! Why here: `tilewright opt` and tests run single stages of the pipeline on text.
//! Pre: a parsed document; every pass verifies it first.
//! Post: a document of the level that the pass makes.

use tilewright_codegen::{Target, assign_layouts, stream_loads};
use tilewright_ir::text::{Document, PlanFile, TileFile, diagnose};
use tilewright_ir::verify::{describe, verify};
use tilewright_passes::{Compiled, Options, compile_module};

use crate::Error;

/// The passes: name, and what it does.
pub const PASSES: [(&str, &str); 8] = [
    ("verify", "any level: check the invariants"),
    ("plan", "graph to plan: search, extraction, partition"),
    ("lower", "graph to tile: the programs of all kernels, without places"),
    ("pack", "graph to tile: the same, with weights in the order in which they are streamed"),
    ("step", "graph to step: buffers and launches"),
    ("layout", "tile to tile: places for all tiles, and the conversions that they need"),
    ("stream", "tile to tile: loads of loops that run ahead, copied by threads (after layout)"),
    ("stream-bulk", "tile to tile: the same for targets that copy in bulk (after layout)"),
];

/// Applies a pass.
pub fn apply(pass: &str, document: Document) -> Result<Document, Error> {
    check(&document)?;
    match (pass, document) {
        ("verify", document) => Ok(document),
        ("plan", Document::Graph(graph)) => {
            let compiled = compile_module(&graph, &Options::default())?;
            let plans = compiled.plans.into_iter().map(|(_, plan)| plan).collect();
            Ok(Document::Plan(PlanFile { symbols: graph.symbols, plans }))
        }
        ("lower" | "pack", Document::Graph(graph)) => {
            let Compiled { mut step, mut programs, .. } = compile_module(&graph, &Options::default())?;
            if pass == "pack" {
                tilewright_passes::pack::pack(&mut [(&mut step, &mut programs)]);
            }
            Ok(Document::Tile(TileFile { symbols: graph.symbols, programs }))
        }
        ("step", Document::Graph(graph)) => {
            Ok(Document::Step(compile_module(&graph, &Options::default())?.step))
        }
        ("layout", Document::Tile(file)) => {
            let programs = file.programs.iter().map(assign_layouts).collect::<Result<_, _>>()?;
            Ok(Document::Tile(TileFile { programs, ..file }))
        }
        ("stream" | "stream-bulk", Document::Tile(file)) => {
            let target = if pass == "stream" { Target::BASE } else { Target::parse("sm_90a")? };
            let programs = file.programs.iter().map(|p| stream_loads(p, target)).collect::<Result<_, _>>()?;
            Ok(Document::Tile(TileFile { programs, ..file }))
        }
        (pass, document) if PASSES.iter().any(|(name, _)| *name == pass) => {
            Err(Error::Usage(format!("pass `{pass}` does not take a {}", document.level())))
        }
        (pass, _) => Err(Error::Usage(format!("there is no pass `{pass}`"))),
    }
}

/// The same for a document that is a text: what is broken is shown where it stands.
pub fn check_text(name: &str, text: &str, document: &Document) -> Result<(), Error> {
    verify(document).map_err(|violations| {
        let diagnostic = diagnose(text, document.level(), &violations).with_help(INVARIANTS);
        Error::text(name, text, diagnostic)
    })
}

/// Where to read on.
const INVARIANTS: &str = "the invariants are listed in the documentation of `tilewright_ir::verify`";

/// That a document which somebody made keeps the invariants of its level.
pub fn check(document: &Document) -> Result<(), Error> {
    verify(document).map_err(|violations| Error::Input {
        message: format!("this {} breaks {}", document.level(), describe(&violations)),
        help: Some(INVARIANTS.into()),
    })
}
