//! `test source TARGET`: the output is the CUDA C++ of the kernels, without what stands in front of all of them.

use tilewright::codegen::{Target, emit};
use tilewright::ir::text::{Document, parse};

use super::Head;

pub(crate) fn run(name: &str, head: &Head, source: &str) -> Result<String, String> {
    let Document::Tile(file) = parse(source).map_err(|e| e.render(name, source))? else {
        return Err("sources are made of tile programs".to_owned());
    };
    let [_, target] = &head.command[..] else { return Err("one target".to_owned()) };
    let target = Target::parse(target).map_err(|e| e.to_string())?;
    let mut out = String::new();
    for program in &file.programs {
        let made = emit(program, &file.symbols, target).map_err(|e| e.to_string())?;
        let own = made.cuda.find("extern \"C\"").ok_or("there is no kernel")?;
        out.push_str(&made.cuda[own..]);
    }
    Ok(out)
}
