//! What a program with places must satisfy before it is emitted.
//!
//! Why here: emission indexes registers by constants and trusts places blindly; a place that does not fit (from a text
//! file, or by a defect of the passes before) must become an error, never wrong code.

use tilewright_ir::tile::{AxisBit, DotKind, Layout, Op, Pad, Place, TileProgram};
use tilewright_ir::{Axis, Ex, Tile};

use super::dot::Dot;
use super::visit;
use crate::CodegenError;
use crate::access::tiles_of;
use crate::bits::{LANE_BITS, compatible, group_bits, reduced, scattered, warp_bits};

/// Refuses places that do not fit their tiles or their operations.
pub(super) fn check(program: &TileProgram) -> Result<(), CodegenError> {
    let p = Placed { program };
    for tile in program.tiles.keys() {
        p.complete(tile)?;
    }
    let mut result = Ok(());
    visit(&program.body, &mut |op| {
        if result.is_ok() {
            result = p.op(op);
        }
    });
    result
}

/// Gaps of one place.
const MOST_GAPS: usize = 8;

struct Placed<'a> {
    program: &'a TileProgram,
}

impl<'a> Placed<'a> {
    fn malformed<T>(&self, what: String) -> Result<T, CodegenError> {
        Err(CodegenError::Malformed { program: self.program.name.clone(), what })
    }

    fn axes(&self, tile: Tile) -> &'a [Axis] {
        &self.program.tiles[tile].axes
    }

    fn complete(&self, tile: Tile) -> Result<(), CodegenError> {
        let mut want = group_bits(self.program, self.axes(tile));
        want.sort_unstable();
        match &self.program.tiles[tile].place {
            Place::Unassigned => self.malformed(format!("{tile} has no place")),
            Place::Registers(l) => {
                let mut have: Vec<AxisBit> = l.lanes.iter().chain(&l.warps).flatten().copied().collect();
                have.extend(&l.regs);
                have.sort_unstable();
                let sized = l.lanes.len() == LANE_BITS && l.warps.len() == warp_bits(self.program);
                if sized && have == want {
                    Ok(())
                } else {
                    self.malformed(format!("the layout of {tile} is incomplete"))
                }
            }
            Place::Shared { order, pads } => {
                let (mut have, mut axes) = (order.clone(), self.axes(tile).to_vec());
                have.sort_unstable();
                axes.sort_unstable();
                if have != axes {
                    return self.malformed(format!("the place of {tile} does not order just its axes"));
                }
                let fit = |p: &Pad| p.every.is_power_of_two() && p.by <= 1 << 16;
                if pads.len() > MOST_GAPS || !pads.iter().all(fit) {
                    return self
                        .malformed(format!("the gaps in the place of {tile} do not fit its positions"));
                }
                Ok(())
            }
        }
    }

    fn layout(&self, tile: Tile) -> Result<&'a Layout, CodegenError> {
        match &self.program.tiles[tile].place {
            Place::Registers(layout) => Ok(layout),
            _ => self.malformed(format!("{tile} must be in registers")),
        }
    }

    fn reads<'e>(&self, exprs: impl IntoIterator<Item = &'e Ex>, domain: Tile) -> Result<(), CodegenError> {
        let layout = self.layout(domain)?;
        for tile in exprs.into_iter().flat_map(tiles_of) {
            if !compatible(self.layout(tile)?, self.axes(tile), layout) {
                return self.malformed(format!("{tile} is not where the operation around {domain} reads it"));
            }
        }
        Ok(())
    }

    fn op(&self, op: &Op) -> Result<(), CodegenError> {
        match op {
            Op::Load { out, index, mask, .. } => self.reads(index.iter().chain(mask), *out),
            Op::Store { value, index, mask, .. } => self.reads(index.iter().chain(mask), *value),
            Op::Map { out, expr } => self.reads([expr], *out),
            Op::Reduce { out, src, .. } => {
                let (from, to, axes) = (self.layout(*src)?, self.layout(*out)?, self.axes(*out));
                if *to == reduced(from, axes) || *to == scattered(from, axes) {
                    return Ok(());
                }
                self.malformed(format!("the layout of {out} does not follow from that of {src}"))
            }
            Op::Dot { out, a, b, acc, over, kind } => {
                let dot = Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind };
                let layout = self.layout(*out)?;
                if acc.is_some_and(|t| self.program.tiles[t].place != self.program.tiles[*out].place) {
                    return self.malformed(format!("the accumulator of {out} is elsewhere"));
                }
                if !dot.accepts(self.program, layout) {
                    return self
                        .malformed(format!("the layout of {out} is not one that its contraction makes"));
                }
                for tile in [*a, *b] {
                    let shared = matches!(self.program.tiles[tile].place, Place::Shared { .. });
                    if *kind == DotKind::Fma && !shared {
                        return self
                            .malformed(format!("{tile} must be in shared memory for its contraction"));
                    }
                    if dot.vectors() && shared {
                        return self.malformed(format!("{tile} must be in registers for its contraction"));
                    }
                }
                Ok(())
            }
            Op::Convert { out, src } => {
                let shared = |t: Tile| matches!(self.program.tiles[t].place, Place::Shared { .. });
                if shared(*out) && shared(*src) {
                    return self.malformed(format!("{out} is converted within shared memory"));
                }
                Ok(())
            }
            Op::Loop { carried, .. } => {
                for c in carried {
                    let place = &self.program.tiles[c.inside].place;
                    if [c.initial, c.next, c.after].iter().any(|t| self.program.tiles[*t].place != *place) {
                        return self.malformed(format!("{} is carried between different places", c.inside));
                    }
                    self.layout(c.inside)?;
                }
                Ok(())
            }
        }
    }
}
