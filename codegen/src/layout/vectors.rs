//! Which contractions take their operands in vectors.
//!
//! What: a contraction on tensor cores one of whose operands is a constant of 16-bit elements, loaded as it is and
//! contiguous along the contracted positions, takes operands in vectors, if it is packed or read by one warp alone. Then it goes from memory, or from a ring, to the
//! registers that the instruction reads, without a detour through another distribution; that is what weights are packed
//! for. The other operand is brought to the same distribution wherever it comes from.
//! Why here: only this pass knows lanes. Everything after it reads the kind of the contraction.
//! Post: kinds of contractions have changed, and nothing else.

use tilewright_ir::tile::{DotKind, Op, TileProgram};
use tilewright_ir::{Axis, Tile};

use super::visit;
use crate::access::Access;
use crate::bits::axis_bits;
use crate::layout::dot::VECTOR_BITS;

/// The program with contractions in vectors where they gain.
pub(super) fn choose(program: &TileProgram) -> TileProgram {
    let mut streamed: Vec<(Tile, Axis)> = Vec::new();
    visit(&program.body, &mut |op| {
        let Op::Load { out, param, index, mask, .. } = op else { return };
        let data = &program.params[*param];
        // Where several warps read the same rows, they share them through shared memory unless a ring is made of them.
        if !data.constant
            || data.packing.is_none() && program.warps > 1
            || data.dtype != program.tiles[*out].dtype
            || data.dtype.bytes() != 2
        {
            return;
        }
        let access = Access { param: *param, index, mask: mask.as_ref() };
        let near = program.tiles[*out].axes.iter().find(|&&axis| {
            usize::from(axis_bits(program, axis)) >= VECTOR_BITS && access.vector_bits(program, axis) == 3
        });
        streamed.extend(near.map(|&axis| (*out, axis)));
    });
    let mut out = program.clone();
    turn(program, &mut out.body, &streamed);
    out
}

fn turn(program: &TileProgram, body: &mut [Op], streamed: &[(Tile, Axis)]) {
    for op in body {
        match op {
            Op::Dot { a, b, over, kind: kind @ DotKind::Mma(_), .. } => {
                // The contracted positions that are lowest in the instruction's order are those of the last axis.
                let lowest = over.iter().rev().find(|&&axis| program.axes[axis].block > 1);
                let operand = |t: Tile| lowest.is_some_and(|&axis| streamed.contains(&(t, axis)));
                if let (true, DotKind::Mma(dtype)) = (operand(*a) || operand(*b), *kind) {
                    *kind = DotKind::Vectors(dtype);
                }
            }
            Op::Loop { body, .. } => turn(program, body, streamed),
            _ => {}
        }
    }
}
