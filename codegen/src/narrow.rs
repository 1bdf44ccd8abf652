//! Blocks of half the size whose results are the same to the bit.
//!
//! What: [`halve`] takes one bit of the positions along a grid axis out of a program with places. Where it is a register's, a
//! thread then does for half of the positions what it did for all of them; where it is a lane's, half of the lanes do what
//! the others do. Lanes and warps hold of every position that is left what they held of it before, so sums are added up in
//! the same order. Tensor cores add up each row by itself, with whatever others.
//! Why here: places say in which order a block adds, and only this crate knows them. With blocks that were chosen anew each
//! sum could come out another way, and a step as launches would no longer be the step as a persistent kernel.
//! Pre: a valid program. Post: a program with places that computes the same bits with twice the blocks, or nothing.

use tilewright_ir::Axis;
use tilewright_ir::tile::{AxisBit, Layout, Op, Place, Role, TileProgram};

use crate::CodegenError;
use crate::bits::axis_bits;
use crate::layout::{assign_layouts, visit};

/// The program with blocks of half the size along an axis of the grid, if there is one with the same results. A block
/// keeps two positions, because tiles do not list axes of one.
pub fn halve(program: &TileProgram, axis: Axis) -> Result<Option<TileProgram>, CodegenError> {
    let data = &program.axes[axis];
    if data.role != Role::Grid || data.block < 4 {
        return Ok(None);
    }
    let placed = assign_layouts(program)?;
    // From above: what lies side by side in memory stays together.
    let bits = (0..axis_bits(&placed, axis)).rev().map(|bit| AxisBit { axis, bit });
    let bits: Vec<AxisBit> = bits.collect();
    let halved = |held| bits.iter().find_map(|&bit| without(&placed, bit, held));
    // Two lanes that do the same take as long as one of them; what is left of a block takes no less time, then.
    Ok(halved(Held::Registers).or_else(|| halved(Held::Lanes)))
}

/// What holds the bit of what loops load: each thread does half of what it did, or half of the lanes do what others do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Registers,
    Lanes,
}

/// The program without a bit that registers or lanes hold of all that loops load; nothing if they do not, or if places would
/// not follow from one another any more. Where lanes shared results among them by that bit, each has them all.
fn without(placed: &TileProgram, gone: AxisBit, by: Held) -> Option<TileProgram> {
    let mut inner = Vec::new();
    let mut refused = false;
    visit(&placed.body, &mut |op| {
        let Op::Loop { range, body, .. } = op else { return };
        // Where it begins and ends may depend on the positions of a block.
        refused |= !range.is_whole();
        visit(body, &mut |op| {
            if let Op::Load { out, .. } = op {
                inner.push(*out);
            }
        });
    });
    if refused {
        return None;
    }
    let mut out = placed.clone();
    for (tile, data) in out.tiles.iter_mut().filter(|(_, t)| t.axes.contains(&gone.axis)) {
        let Place::Registers(layout) = &mut data.place else { return None };
        let held = match by {
            Held::Registers => layout.regs.contains(&gone),
            Held::Lanes => layout.lanes.contains(&Some(gone)),
        };
        if layout.warps.contains(&Some(gone)) || !held && inner.contains(&tile) {
            return None;
        }
        *layout = drop_bit(layout, gone);
    }
    out.axes[gone.axis].block /= 2;
    // Checks places, and changes nothing.
    assign_layouts(&out).ok()
}

fn drop_bit(layout: &Layout, gone: AxisBit) -> Layout {
    let lower = |b: AxisBit| {
        let above = b.axis == gone.axis && b.bit > gone.bit;
        AxisBit { bit: b.bit - u8::from(above), ..b }
    };
    let keep = |slot: &Option<AxisBit>| slot.filter(|b| *b != gone).map(lower);
    Layout {
        regs: layout.regs.iter().copied().filter(|b| *b != gone).map(lower).collect(),
        lanes: layout.lanes.iter().map(keep).collect(),
        warps: layout.warps.iter().map(keep).collect(),
    }
}

#[cfg(test)]
mod tests {
    use tilewright_ir::text::{Document, parse};

    use super::*;

    /// A product of rows of 1024 with one column, blocks of so many rows.
    fn product(rows: u32, role: &str) -> TileProgram {
        parsed(&format!(
            "tile @p warps 4 {{
    axis m=512 block {rows} {role}
    axis k=1024 block 256 loop
    buffer p0 w: bf16[512, 1024] constant
    buffer p1 x: bf16[1024]
    buffer p2 y: f32[512] written
    tile0[m,k]: bf16
    tile1[k]: bf16
    tile2[m]: f32
    tile3[m]: f32
    tile4[m]: f32
    tile5[m]: f32
    tile6[m]: f32
    tile2 = 0
    loop k carry [tile2 -> tile3 -> tile5 -> tile4] {{
        tile0 = load p0[m,k]
        tile1 = load p1[k]
        tile6 = reduce sum[k] tile0
        tile5 = tile3 + tile6
    }}
    store p2[m] = tile4
}}
"
        ))
    }

    /// The same, where each thread adds up what it has before threads add up what they have.
    fn kept_apart() -> TileProgram {
        parsed(
            "tile @p warps 4 {
    axis m=512 block 16 grid
    axis k=1024 block 256 loop
    buffer p0 w: bf16[512, 1024] constant packed [16384:32, 32:32, 1024:16, 1:32]
    buffer p1 x: bf16[1024]
    buffer p2 y: f32[512] written
    tile0[m,k]: bf16
    tile1[k]: bf16
    tile2[m,k]: f32
    tile3[m,k]: f32
    tile4[m,k]: f32
    tile5[m,k]: f32
    tile6[m]: f32
    tile2 = 0
    loop k carry [tile2 -> tile3 -> tile5 -> tile4] {
        tile0 = load p0[m,k]
        tile1 = load p1[k]
        tile5 = tile3 + tile0 * tile1
    }
    tile6 = reduce sum[k] tile4
    store p2[m] = tile6
}
",
        )
    }

    fn parsed(text: &str) -> TileProgram {
        let Document::Tile(file) = parse(text).expect("a program") else { panic!("no program") };
        file.programs.into_iter().next().expect("one")
    }

    #[test]
    fn a_thread_does_for_half_of_the_rows_what_it_did_for_all() {
        let whole = product(16, "grid");
        let (m, placed) = (whole.grid().next().expect("an axis").0, assign_layouts(&whole).expect("places"));
        let half = halve(&whole, m).expect("a program").expect("registers hold a bit of rows");
        assert_eq!(half.axes[m].block, 8);
        let other = |l: &Layout| {
            let of = |b: &Option<AxisBit>| b.filter(|b| b.axis != m);
            (
                l.regs.iter().copied().filter(|b| b.axis != m).collect::<Vec<_>>(),
                l.lanes.iter().map(of).collect::<Vec<_>>(),
                l.warps.iter().map(of).collect::<Vec<_>>(),
            )
        };
        let mut fewer = 0;
        for (tile, before) in &placed.tiles {
            let (Place::Registers(a), Place::Registers(b)) = (&before.place, &half.tiles[tile].place) else {
                panic!("{tile} is not in registers");
            };
            assert_eq!(other(a), other(b), "{tile}: sums along other axes are added up as before");
            fewer += a.regs.len() - b.regs.len();
        }
        assert!(fewer > 0);
        // What is left of a block is in order: it can be halved again, as long as registers hold a bit.
        let again = halve(&half, m).expect("a program");
        assert!(again.is_none_or(|p| p.axes[m].block == 4));
    }

    #[test]
    fn lanes_that_do_the_same_where_registers_hold_one_row() {
        let mut program = kept_apart();
        let m = program.grid().next().expect("an axis").0;
        let bits = |p: &TileProgram| {
            let placed = assign_layouts(p).expect("places");
            let of = |l: &Layout| {
                let held = |b: &&AxisBit| b.axis == m;
                let lanes = l.lanes.iter().chain(&l.warps).flatten();
                (l.regs.iter().filter(held).count(), lanes.filter(held).count())
            };
            let (tile, _) = placed.tiles.iter().find(|(_, t)| t.axes.len() == 2).expect("rows");
            let Place::Registers(layout) = &placed.tiles[tile].place else { panic!("not in registers") };
            of(layout)
        };
        let (mut by_registers, mut by_lanes) = (0, 0);
        loop {
            let before = bits(&program);
            let Some(half) = halve(&program, m).expect("a program") else { break };
            let after = bits(&half);
            // What registers hold goes first.
            if before.0 > 0 {
                assert_eq!(after, (before.0 - 1, before.1));
                by_registers += 1;
            } else {
                assert_eq!(after, (0, before.1 - 1));
                by_lanes += 1;
            }
            program = half;
        }
        assert!(by_registers > 0 && by_lanes > 0, "{by_registers} {by_lanes}");
    }

    #[test]
    fn what_cannot_be_halved_stays() {
        let m = |p: &TileProgram| p.axes.keys().next().expect("an axis");
        let small = product(2, "grid");
        assert_eq!(halve(&small, m(&small)), Ok(None), "tiles list no axes of one position");
        let program = product(16, "grid");
        let k = program.axes.keys().nth(1).expect("an axis");
        assert_eq!(halve(&program, k), Ok(None), "no axis of the grid");
    }
}
