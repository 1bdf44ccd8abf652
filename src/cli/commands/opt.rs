//! `tilewright opt`: passes on textual IR.

use std::io::Read;
use std::path::Path;

use serde_json::json;
use tilewright::Error;
use tilewright::opt::{PASSES, apply, check_text};
use tilewright_ir::text::{parse, print};

use crate::cli::args::OptArgs;
use crate::cli::ui::Ui;

/// Reads, applies passes in order, prints. Without passes: the canonical form of the input.
pub(crate) fn run(args: &OptArgs, ui: &Ui) -> Result<(), Error> {
    if let Some(unknown) = args.passes.iter().find(|p| PASSES.iter().all(|(name, _)| name != p)) {
        let known: Vec<&str> = PASSES.iter().map(|(name, _)| *name).collect();
        return Err(Error::Usage(format!(
            "there is no pass `{unknown}`; the passes are {}",
            known.join(", ")
        )));
    }
    let (name, text) = read(&args.file)?;
    let mut document = parse(&text).map_err(|d| Error::text(&name, &text, d))?;
    check_text(&name, &text, &document)?;
    for pass in &args.passes {
        document = apply(pass, document)?;
    }
    let printed = print(&document);
    ui.result(&json!({ "level": document.level(), "text": printed }), || printed.clone());
    Ok(())
}

fn read(path: &Path) -> Result<(String, String), Error> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| Error::io(path, e))?;
        return Ok(("stdin".into(), text));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    Ok((path.display().to_string(), text))
}
