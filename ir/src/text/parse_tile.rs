//! Parsing tile programs.

use cranelift_entity::EntityRef;

use crate::diag::{Diagnostic, Span};
use crate::text::cursor::{Cursor, Declared, Parsed};
use crate::text::lexer::Kind;
use crate::text::names::entity;
use crate::text::parse_expr::{self, Names};
use crate::text::parse_graph::at_name;
use crate::text::parse_plan::reduction;
use crate::tile::{
    AxisBit, BufferParam, Carried, Copier, DotKind, Layout, Op, Pad, Place, Range, Ring, Role, TileAxis,
    TileData, TileProgram,
};
use crate::{Axis, Param, Tile};

struct Reader {
    program: TileProgram,
    axes: Declared<Axis>,
}

/// How deep loops may be nested.
const DEPTH: usize = 64;

/// A tile program, after its keyword.
pub(crate) fn program(c: &mut Cursor) -> Parsed<TileProgram> {
    let name = at_name(c, "the name of a program")?;
    c.expect_word("warps")?;
    let warps = c.integer("how many warps")?;
    c.expect("{")?;
    let mut r = Reader {
        program: TileProgram { name: name.text, warps, ..TileProgram::default() },
        axes: Declared::new("axis", "ax"),
    };
    r.program.body = r.ops(c, 0)?;
    Ok(r.program)
}

/// A numbered thing of a program.
fn numbered(c: &mut Cursor, what: &str, prefix: &str) -> Parsed<(usize, Span)> {
    let (w, span) = c.word(&format!("a {what}"))?;
    match entity(&w, prefix) {
        Some(n) => Ok((n as usize, span)),
        None => Err(Diagnostic::new(span, format!("expected a {what} such as `{prefix}0`, found `{w}`"))),
    }
}

impl Reader {
    fn names(&self) -> Names<'_> {
        Names { axes: &self.axes, values: None, locals: None, tiles: Some(self.program.tiles.len()) }
    }

    fn tile(&self, c: &mut Cursor) -> Parsed<Tile> {
        let (n, span) = numbered(c, "tile", "tile")?;
        if n >= self.program.tiles.len() {
            return Err(Diagnostic::new(span, format!("there is no tile `tile{n}`"))
                .with_help("tiles are declared before the operations: `tile0[i,j]: f32`"));
        }
        Ok(Tile::new(n))
    }

    fn param(&self, c: &mut Cursor) -> Parsed<Param> {
        let (n, span) = numbered(c, "buffer", "p")?;
        if n >= self.program.params.len() {
            return Err(Diagnostic::new(span, format!("there is no buffer `p{n}`")));
        }
        Ok(Param::new(n))
    }

    /// Declarations (at depth 0) and operations up to the closing brace.
    fn ops(&mut self, c: &mut Cursor, depth: usize) -> Parsed<Vec<Op>> {
        if depth > DEPTH {
            return Err(Diagnostic::new(c.span(), format!("loops are nested more than {DEPTH} deep")));
        }
        let mut out = Vec::new();
        while !c.take_mark("}") {
            if depth == 0 && c.take_word("axis") {
                self.axis(c)?;
            } else if depth == 0 && c.take_word("buffer") {
                self.buffer(c)?;
            } else if depth == 0 && matches!(c.peek_at(1), Kind::Mark("[")) && !c.is_word("store") {
                self.declaration(c)?;
            } else if c.take_word("loop") {
                out.push(self.loop_(c, depth)?);
            } else if c.take_word("store") {
                let param = self.param(c)?;
                let index = parse_expr::indices(c, &self.names())?;
                c.expect("=")?;
                let value = self.tile(c)?;
                let mask = self.mask(c)?;
                out.push(Op::Store { param, index, mask, value });
            } else if matches!(c.peek(), Kind::Word(_)) {
                let tile = self.tile(c)?;
                c.expect("=")?;
                out.push(self.operation(c, tile)?);
            } else {
                return Err(c.unexpected("an operation or `}`"));
            }
        }
        Ok(out)
    }

    fn axis(&mut self, c: &mut Cursor) -> Parsed<()> {
        let name = c.name("the name of an axis")?;
        c.expect("=")?;
        let extent = c.extent()?;
        c.expect_word("block")?;
        let block = c.integer("the positions of a block")?;
        let (w, span) = c.word("`grid`, `loop` or `resident`")?;
        let role = match w.as_str() {
            "grid" => Role::Grid,
            "loop" => Role::Loop,
            "resident" => Role::Resident,
            _ => {
                let message = format!("expected `grid`, `loop` or `resident`, found `{w}`");
                return Err(Diagnostic::new(span, message));
            }
        };
        // The axis that numbers the runs is declared before.
        let runs = if c.take_word("runs") { Some(c.axis_ref(&self.axes)?) } else { None };
        self.axes.declare(&name)?;
        self.program.axes.push(TileAxis { name: name.text, extent, block, role, runs });
        Ok(())
    }

    fn buffer(&mut self, c: &mut Cursor) -> Parsed<()> {
        let (n, span) = numbered(c, "buffer", "p")?;
        if n != self.program.params.len() {
            let message = format!("the next buffer is p{}, found `p{n}`", self.program.params.len());
            return Err(Diagnostic::new(span, message).with_help("buffers are numbered in order"));
        }
        let name = c.name("the name of a buffer")?;
        c.expect(":")?;
        let dtype = c.dtype()?;
        let dims = c.dims()?;
        let written = c.take_word("written");
        let constant = !written && c.take_word("constant");
        let packing = c.packing()?;
        let area = if c.take_word("area") { Some(c.integer("the number of an area")?) } else { None };
        let name = name.text;
        self.program.params.push(BufferParam { name, dtype, dims, written, constant, packing, area });
        Ok(())
    }

    /// `tile0[axes]: dtype in …`.
    fn declaration(&mut self, c: &mut Cursor) -> Parsed<()> {
        let (n, span) = numbered(c, "tile", "tile")?;
        if n != self.program.tiles.len() {
            let message = format!("the next tile is tile{}, found `tile{n}`", self.program.tiles.len());
            return Err(Diagnostic::new(span, message).with_help("tiles are numbered in order"));
        }
        let axes = c.axis_list(&self.axes)?;
        c.expect(":")?;
        let dtype = c.dtype()?;
        let mut place = Place::Unassigned;
        if c.take_word("in") {
            let (w, span) = c.word("`registers` or `shared`")?;
            place = match w.as_str() {
                "registers" => Place::Registers(Layout {
                    regs: self.bits(c)?.into_iter().flatten().collect(),
                    lanes: self.bits(c)?,
                    warps: self.bits(c)?,
                }),
                "shared" => {
                    let order = c.axis_list(&self.axes)?;
                    let mut pads = Vec::new();
                    while c.take_word("pad") {
                        let by = c.integer("elements of padding")?;
                        c.expect_word("every")?;
                        pads.push(Pad { every: c.integer("elements between paddings")?, by });
                    }
                    Place::Shared { order, pads }
                }
                _ => {
                    let message = format!("expected `registers` or `shared`, found `{w}`");
                    return Err(Diagnostic::new(span, message));
                }
            };
        }
        let ring = if c.take_word("through") { Some(self.ring(c)?) } else { None };
        self.program.tiles.push(TileData { dtype, axes, place, ring });
        Ok(())
    }

    /// `4 stages by threads`, `4 stages of 2 in bulk pad 0`, after `through`.
    fn ring(&self, c: &mut Cursor) -> Parsed<Ring> {
        let stages = c.integer("how many stages")?;
        c.expect_word("stages")?;
        let span = if c.take_word("of") { c.integer("iterations of a stage")? } else { 1 };
        let copier = if c.take_word("by") {
            c.expect_word("threads")?;
            Copier::Threads
        } else {
            c.expect_word("in")?;
            c.expect_word("bulk")?;
            c.expect_word("pad")?;
            Copier::Bulk { pad: c.integer("bytes of padding")? }
        };
        Ok(Ring { stages, span, copier })
    }

    /// `[i:0 _ j:2]`: bits of positions, or nothing.
    fn bits(&self, c: &mut Cursor) -> Parsed<Vec<Option<AxisBit>>> {
        c.expect("[")?;
        let mut out = Vec::new();
        while !c.take_mark("]") {
            if c.take_word("_") {
                out.push(None);
                continue;
            }
            let axis = c.axis_ref(&self.axes)?;
            c.expect(":")?;
            out.push(Some(AxisBit { axis, bit: c.integer("a bit")? }));
        }
        Ok(out)
    }

    fn mask(&self, c: &mut Cursor) -> Parsed<Option<crate::Ex>> {
        if c.take_word("if") { Ok(Some(parse_expr::expr(c, &self.names())?)) } else { Ok(None) }
    }

    fn operation(&self, c: &mut Cursor, out: Tile) -> Parsed<Op> {
        if c.take_word("load") {
            let param = self.param(c)?;
            let index = parse_expr::indices(c, &self.names())?;
            let mask = self.mask(c)?;
            let fill = if c.take_word("else") { c.signed_number()? } else { 0.0 };
            return Ok(Op::Load { out, param, index, mask, fill });
        }
        if c.take_word("reduce") {
            let op = reduction(c)?;
            let axes = c.axis_list(&self.axes)?;
            return Ok(Op::Reduce { out, op, axes, src: self.tile(c)? });
        }
        if c.take_word("convert") {
            return Ok(Op::Convert { out, src: self.tile(c)? });
        }
        if c.take_word("dot") {
            let (w, span) = c.word("`mma` or `fma`")?;
            let kind = match w.as_str() {
                "mma" => {
                    c.expect("(")?;
                    let dtype = c.dtype()?;
                    c.expect(")")?;
                    if c.take_word("vectors") { DotKind::Vectors(dtype) } else { DotKind::Mma(dtype) }
                }
                "fma" => DotKind::Fma,
                _ => return Err(Diagnostic::new(span, format!("expected `mma` or `fma`, found `{w}`"))),
            };
            let (a, b) = (self.tile(c)?, self.tile(c)?);
            c.expect_word("over")?;
            let over = c.axis_list(&self.axes)?;
            let acc = if c.take_mark("+") { Some(self.tile(c)?) } else { None };
            return Ok(Op::Dot { out, a, b, acc, over, kind });
        }
        Ok(Op::Map { out, expr: parse_expr::expr(c, &self.names())? })
    }

    fn loop_(&mut self, c: &mut Cursor, depth: usize) -> Parsed<Op> {
        let axis = c.axis_ref(&self.axes)?;
        let mut range = Range::default();
        if c.take_word("from") {
            range.from = Some(parse_expr::expr(c, &self.names())?);
        }
        if c.take_word("to") {
            range.to = Some(parse_expr::expr(c, &self.names())?);
        }
        let mut carried = Vec::new();
        if c.take_word("carry") {
            carried = c.list("[", "]", |c| {
                let initial = self.tile(c)?;
                c.expect("->")?;
                let inside = self.tile(c)?;
                c.expect("->")?;
                let next = self.tile(c)?;
                c.expect("->")?;
                Ok(Carried { initial, inside, next, after: self.tile(c)? })
            })?;
        }
        c.expect("{")?;
        Ok(Op::Loop { axis, range, carried, body: self.ops(c, depth + 1)? })
    }
}
