//! The blocks that a loop visits: its range as numbers of blocks.
//!
//! Why here: bounds are texts of integers of 64 bits, since what was read from memory may be any number.
//! Pre: bounds satisfy `T18`. Post: as the evaluator has it: one block at least wherever the axis has a position.

use tilewright_ir::tile::{Bounds, Range, extreme};
use tilewright_ir::{Axis, Binary, Ex, Extent, Tile};

use super::Emitter;
use crate::CodegenError;

/// Bounds as text.
struct Text<'e, 'a>(&'e mut Emitter<'a>);

impl Bounds for Text<'_, '_> {
    type T = String;
    type E = CodegenError;

    fn literal(&mut self, x: i64) -> Result<String, CodegenError> {
        Ok(format!("(i64){x}"))
    }

    fn position(&mut self, axis: Axis, high: bool) -> Result<String, CodegenError> {
        let data = self.0.p.axes[axis].clone();
        let base = self.0.base(axis).unwrap_or_else(|| "0".to_owned());
        Ok(if high && data.block > 1 {
            let end = self.0.blocks(data.extent, 1);
            format!("(i64)(tw_min({base} + {}, {end}) - 1)", data.block)
        } else {
            format!("(i64){base}")
        })
    }

    fn size(&mut self, extent: Extent) -> Result<String, CodegenError> {
        Ok(format!("(i64){}", self.0.blocks(extent, 1)))
    }

    fn tile(&mut self, tile: Tile) -> Result<String, CodegenError> {
        Ok(format!("(i64){}", self.0.element(tile, "0")?))
    }

    fn join(&mut self, op: Binary, a: String, b: String) -> Result<String, CodegenError> {
        Ok(match op {
            Binary::Max => format!("tw_max({a}, {b})"),
            Binary::Min => format!("tw_min({a}, {b})"),
            Binary::Add => format!("({a} + {b})"),
            Binary::Sub => format!("({a} - {b})"),
            _ => format!("({a} * {b})"),
        })
    }

    fn other(&mut self, _: &Ex) -> Result<String, CodegenError> {
        self.0.malformed("interval arithmetic does not know a bound of a loop".to_owned())
    }
}

impl Emitter<'_> {
    /// The first block within a range, and the one behind the last.
    pub(super) fn within(&mut self, axis: Axis, range: &Range) -> Result<(String, String), CodegenError> {
        let data = self.p.axes[axis].clone();
        let count = self.blocks(data.extent, data.block);
        let log = data.block.trailing_zeros();
        let mut position = |e: &Ex, high: bool, more: u32| -> Result<String, CodegenError> {
            let found = extreme(&mut Text(self), e, high)?;
            let size = self.blocks(data.extent, 1);
            Ok(format!("((int)tw_min(tw_max({found}, (i64)0), (i64){size}) + {more}) >> {log}"))
        };
        let from = range.from.as_ref().map(|e| position(e, false, 0)).transpose()?;
        let to = range.to.as_ref().map(|e| position(e, true, data.block - 1)).transpose()?;
        let start = match from {
            None => "0".to_owned(),
            Some(from) => {
                let name = self.fresh("start");
                self.line(format!("const int {name} = tw_max(tw_min({from}, {count} - 1), 0);"));
                name
            }
        };
        let end = match to {
            None => count,
            Some(to) => {
                let name = self.fresh("end");
                self.line(format!("const int {name} = tw_min(tw_max({to}, {start} + 1), {count});"));
                name
            }
        };
        Ok((start, end))
    }
}
