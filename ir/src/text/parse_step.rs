//! Parsing steps.

use crate::Buffer;
use crate::diag::Diagnostic;
use crate::step::{BufferData, BufferKind, GridAxis, Launch, Step};
use crate::text::cursor::{Cursor, Declared, Parsed};

/// A step, after its keyword.
pub(crate) fn step(c: &mut Cursor) -> Parsed<Step> {
    c.expect_word("arena")?;
    let mut s = Step { arena_bytes: c.integer("the bytes of the arena")?, ..Step::default() };
    let mut buffers: Declared<Buffer> = Declared::new("buffer", "b");
    c.expect("{")?;
    while !c.take_mark("}") {
        if c.take_word("buffer") {
            let name = c.name("the name of a buffer")?;
            c.expect(":")?;
            let dtype = c.dtype()?;
            let dims = c.dims()?;
            let (w, span) = c.word("what backs the buffer")?;
            let kind = match w.as_str() {
                "input" => BufferKind::Input,
                "output" => BufferKind::Output,
                "weight" => BufferKind::Weight(c.text("the name of a tensor")?),
                "table" => BufferKind::Table(c.table()?),
                "state" => BufferKind::State,
                "arena" => BufferKind::Arena(c.integer("an offset in bytes")?),
                _ => {
                    return Err(Diagnostic::new(span, format!("`{w}` is no kind of buffer")).with_help(
                        "a buffer is input, output, weight \"name\", table …, state or arena offset",
                    ));
                }
            };
            buffers.declare(&name)?;
            let packing = c.packing()?;
            s.buffers.push(BufferData { name: name.text, dtype, dims, kind, packing });
        } else if c.take_word("launch") {
            let kernel = c.text("the name of a kernel")?;
            c.expect_word("in")?;
            let region = c.text("the name of a region")?;
            let args = c.list("(", ")", |c| {
                let (w, span) = c.word("a buffer")?;
                Ok((buffers.resolve(&w, span)?, c.take_word("written")))
            })?;
            let (args, writes) = args.into_iter().unzip();
            c.expect_word("over")?;
            let grid = c.list("[", "]", |c| {
                let extent = c.extent()?;
                c.expect("/")?;
                Ok(GridAxis { extent, block: c.integer("the positions of a block")? })
            })?;
            let beside = c.take_word("beside");
            s.launches.push(Launch { kernel, region, args, writes, grid, beside });
        } else {
            return Err(c.unexpected("`buffer`, `launch` or `}`"));
        }
    }
    s.symbols = c.symbols.clone();
    Ok(s)
}
