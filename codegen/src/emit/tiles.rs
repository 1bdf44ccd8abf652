//! Tiles as C arrays: declaration, element access, staging of 16-bit elements.
//!
//! Why here: only this module knows that two 16-bit elements share a word and that 8-bit ones do not.

use tilewright_ir::{DType, Tile};

use super::Emitter;
use super::expr::Ty;
use crate::{CodegenError, REGISTER_TILE_LIMIT};

/// Whether two elements share a word.
pub(super) fn packed(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Bf16)
}

/// The C type of an element in a register array (of the word, for packed types).
pub(super) fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::I8 | DType::U8 | DType::I32 => "int",
        DType::I64 => "i64",
        DType::F16 | DType::Bf16 => "u32",
        DType::F32 => "float",
        DType::F64 => "double",
    }
}

/// The type in which elements take part in expressions.
pub(super) fn value_type(dtype: DType) -> Ty {
    match dtype {
        DType::Bool => Ty::Bool,
        DType::I8 | DType::U8 | DType::I32 => Ty::I32,
        DType::I64 => Ty::I64,
        DType::F16 | DType::Bf16 | DType::F32 => Ty::F32,
        DType::F64 => Ty::F64,
    }
}

/// The name of the array of a tile.
pub(super) fn name(tile: Tile) -> String {
    format!("t{}", tile.as_u32())
}

/// The suffix of the prelude's functions for a packed type.
pub(super) fn suffix(dtype: DType) -> &'static str {
    if dtype == DType::F16 { "f16" } else { "bf16" }
}

/// Where the elements of a tile are written one by one.
pub(super) struct Staging {
    /// The array that is indexed by register number.
    pub(super) array: String,
    kind: StagingKind,
}

enum StagingKind {
    Direct,
    Values,
    Halves,
}

impl Emitter<'_> {
    /// Elements per thread.
    pub(super) fn count(&self, tile: Tile) -> Result<usize, CodegenError> {
        Ok(1 << self.layout(tile)?.regs.len())
    }

    /// Array length: elements, or words of packed ones.
    pub(super) fn array_len(&self, tile: Tile) -> Result<usize, CodegenError> {
        let count = self.count(tile)?;
        Ok(if packed(self.p.tiles[tile].dtype) { count.div_ceil(2) } else { count })
    }

    /// Declares the array of a tile in registers.
    pub(super) fn declare(&mut self, tile: Tile) -> Result<(), CodegenError> {
        let dtype = self.p.tiles[tile].dtype;
        let len = self.array_len(tile)?;
        let words = len as u64 * if dtype.bytes() == 8 { 2 } else { 1 };
        if words > u64::from(REGISTER_TILE_LIMIT) {
            return Err(CodegenError::RegisterTile {
                program: self.p.name.clone(),
                tile,
                words,
                limit: u64::from(REGISTER_TILE_LIMIT),
            });
        }
        let axes: Vec<&str> = self.p.tiles[tile].axes.iter().map(|&a| self.p.axes[a].name.as_str()).collect();
        let readable: String =
            axes.join(",").chars().filter(|c| c.is_ascii_graphic() && *c != '\\').collect();
        self.line(format!("{} {}[{len}]; // {dtype}[{readable}]", c_type(dtype), name(tile)));
        Ok(())
    }

    /// The element of a tile with a register number, as a value of [`value_type`].
    pub(super) fn element(&self, tile: Tile, reg: &str) -> Result<String, CodegenError> {
        let dtype = self.p.tiles[tile].dtype;
        let t = name(tile);
        if !packed(dtype) {
            return Ok(format!("{t}[{reg}]"));
        }
        let suffix = suffix(dtype);
        Ok(match (self.count(tile)?, reg) {
            (1, _) | (_, "0") => format!("tw_{suffix}({t}[0], 0)"),
            _ => format!("tw_{suffix}({t}[({reg}) >> 1], ({reg}) & 1)"),
        })
    }

    /// The bits of an element of at most 32 bits, as a `u32`; only for what goes to memory as it is.
    pub(super) fn element_bits(&self, tile: Tile, reg: &str) -> Result<String, CodegenError> {
        let t = name(tile);
        Ok(match self.p.tiles[tile].dtype {
            DType::F16 | DType::Bf16 if self.count(tile)? == 1 => format!("{t}[0]"),
            DType::F16 | DType::Bf16 => format!("tw_half({t}[({reg}) >> 1], ({reg}) & 1)"),
            DType::F32 | DType::I32 => format!("tw_bits({t}[{reg}])"),
            _ => format!("(u32){t}[{reg}]"),
        })
    }

    /// Begins writing values of [`value_type`] element by element.
    pub(super) fn stage_values(&mut self, tile: Tile) -> Result<Staging, CodegenError> {
        self.stage(tile, StagingKind::Values, "float")
    }

    /// Begins writing raw elements: bits as `u32` for packed types, else the array's own type.
    pub(super) fn stage_bits(&mut self, tile: Tile) -> Result<Staging, CodegenError> {
        self.stage(tile, StagingKind::Halves, "u32")
    }

    fn stage(&mut self, tile: Tile, kind: StagingKind, c: &str) -> Result<Staging, CodegenError> {
        if !packed(self.p.tiles[tile].dtype) {
            return Ok(Staging { array: name(tile), kind: StagingKind::Direct });
        }
        let array = self.fresh("v");
        let count = self.count(tile)?;
        self.line(format!("{c} {array}[{count}];"));
        Ok(Staging { array, kind })
    }

    /// Ends writing: packs what was staged.
    pub(super) fn unstage(&mut self, tile: Tile, staging: &Staging) -> Result<(), CodegenError> {
        let v = &staging.array;
        let t = name(tile);
        let count = self.count(tile)?;
        let suffix = suffix(self.p.tiles[tile].dtype);
        let (function, zero) = match staging.kind {
            StagingKind::Direct => return Ok(()),
            StagingKind::Values => (format!("tw_pack_{suffix}"), "0.0f"),
            StagingKind::Halves => ("tw_pair".to_owned(), "0u"),
        };
        if count == 1 {
            self.line(format!("{t}[0] = {function}({v}[0], {zero});"));
        } else {
            self.open_unrolled("w", count / 2);
            self.line(format!("{t}[w] = {function}({v}[2 * w], {v}[2 * w + 1]);"));
            self.close();
        }
        Ok(())
    }
}
