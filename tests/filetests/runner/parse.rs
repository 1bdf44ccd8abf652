//! `test parse`: the file parses, and what is printed of it parses to the same. The output says what level it is; the
//! message of a failure is the diagnostic with its place.

use tilewright::ir::text;

use super::Head;

pub(crate) fn run(name: &str, _: &Head, source: &str) -> Result<String, String> {
    let document = text::parse(source).map_err(|e| e.render(name, source))?;
    let printed = text::print(&document);
    let back = text::parse(&printed).map_err(|e| format!("printed: {}", e.render(name, &printed)))?;
    if back != document {
        return Err(format!("what is printed parses to something else:\n{printed}"));
    }
    Ok(document.level().to_owned())
}
