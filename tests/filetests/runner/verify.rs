//! `test verify`: the verifier of the level finds nothing (the output is `ok`), or fails with one violation per line.

use tilewright::ir::{text, verify};

use super::Head;

pub(crate) fn run(name: &str, _: &Head, source: &str) -> Result<String, String> {
    let document = text::parse(source).map_err(|e| e.render(name, source))?;
    verify::verify(&document).map_err(|v| verify::describe(&v))?;
    Ok("ok".to_owned())
}
