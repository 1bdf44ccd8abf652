//! `test pass NAME...`: the output is the document after these passes, one after the other.

use tilewright::ir::text;
use tilewright::opt;

use super::Head;

pub(crate) fn run(name: &str, head: &Head, source: &str) -> Result<String, String> {
    let mut document = text::parse(source).map_err(|e| e.render(name, source))?;
    if head.command.len() < 2 {
        return Err("no pass is named".to_owned());
    }
    for pass in &head.command[1..] {
        document = opt::apply(pass, document).map_err(|e| e.to_string())?;
    }
    opt::apply("verify", document.clone()).map_err(|e| e.to_string())?;
    Ok(text::print(&document))
}
