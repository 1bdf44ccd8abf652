//! `test print`: the output is the file in its canonical form.

use tilewright::ir::text;

use super::Head;

pub(crate) fn run(name: &str, _: &Head, source: &str) -> Result<String, String> {
    let document = text::parse(source).map_err(|e| e.render(name, source))?;
    Ok(text::print(&document))
}
