//! What a task may have copied before it begins: loads of memory that nothing writes, with addresses that only the number
//! of the block says.
//!
//! What: the loads of a program's loops that another warp can issue at any time, in pieces of one iteration each.
//! Why here: a persistent kernel copies weights while it still waits for what a task computes with; what can be copied so
//! is a question of rows, as in the stream pass, and of what is known long before.
//! Pre: a program whose tiles have places.
//! Post: only loops that every block runs exactly once, with numbers of iterations that no symbol changes.

use tilewright_ir::tile::{Layout, Op, Place, Role, TileProgram};
use tilewright_ir::{Axis, Ex, Expr, Extent, Param, Tile};

use crate::access::{Access, mentions, offset, tiles_of};
use crate::emit::vector_bytes;
use crate::rows::Rows;
use crate::stream::LEAST_ROW;

/// The most rows of a load: who copies does nothing else, so that many small ones are better than a wait.
const MOST_ROWS: u64 = 256;
/// Stages start at multiples of it.
const ALIGN: u64 = 128;

/// A load whose rows another warp copies.
#[derive(Clone, Debug)]
pub(crate) struct FeedLoad {
    pub(crate) tile: Tile,
    pub(crate) param: Param,
    pub(crate) index: Vec<Ex>,
    pub(crate) layout: Layout,
    pub(crate) rows: Rows,
    /// Bytes behind each row.
    pub(crate) pad: u32,
    /// The first byte within the stage.
    pub(crate) at: u64,
}

/// A loop with such loads.
#[derive(Clone, Debug)]
pub(crate) struct FeedLoop {
    pub(crate) axis: Axis,
    /// The loop's loads, in order.
    pub(crate) loads: Vec<FeedLoad>,
    /// Bytes of shared memory for one iteration.
    pub(crate) stage: u64,
    /// Bytes that are copied for one iteration, masked ones included.
    pub(crate) bytes: u64,
}

/// The loops of a program that can be fed with stages of at most so many bytes. `constant` says for each buffer whether
/// nothing writes it.
pub(crate) fn feeds(program: &TileProgram, constant: &[bool], most: u64) -> Vec<FeedLoop> {
    if program.grid().any(|(_, a)| a.extent.as_const().is_none()) {
        return Vec::new();
    }
    program.body.iter().filter_map(|op| feed(program, op, constant, most)).collect()
}

fn feed(program: &TileProgram, op: &Op, constant: &[bool], most: u64) -> Option<FeedLoop> {
    let Op::Loop { axis, range, body, .. } = op else { return None };
    // Whoever copies knows no more than the number of the block.
    if !range.is_whole() {
        return None;
    }
    let data = &program.axes[*axis];
    let runs = data
        .runs
        .map_or(Some(1), |r| program.axes[r].extent.as_const().filter(|_| program.axes[r].block == 1));
    let (Some(1..), Some(1..), Role::Loop) = (data.extent.as_const(), runs, data.role) else { return None };
    let mut out = FeedLoop { axis: *axis, loads: Vec::new(), stage: 0, bytes: 0 };
    for op in body {
        let Some(mut load) = candidate(program, op, *axis, constant) else { continue };
        let end = out.stage + load.rows.stage(load.pad).next_multiple_of(ALIGN);
        if end > most {
            continue;
        }
        load.at = out.stage;
        out.stage = end;
        out.bytes += load.rows.count() * load.rows.bytes();
        out.loads.push(load);
    }
    (!out.loads.is_empty()).then_some(out)
}

fn candidate(program: &TileProgram, op: &Op, axis: Axis, constant: &[bool]) -> Option<FeedLoad> {
    let Op::Load { out, param, index, mask, .. } = op else { return None };
    let Place::Registers(layout) = &program.tiles[*out].place else { return None };
    let fixed = |e: &Ex| {
        let mut fixed = true;
        e.visit(&mut |node| fixed &= !matches!(node, Expr::Size(Extent::Sym(_))));
        fixed && tiles_of(e).is_empty()
    };
    let wanted = constant.get(param.as_u32() as usize).is_some_and(|&c| c)
        && index.iter().chain(mask).all(fixed)
        && index.iter().any(|e| mentions(program, e, axis))
        && offset(program, *param, index).iter().all(|t| t.syms.is_empty());
    if !wanted {
        return None;
    }
    let access = Access { param: *param, index, mask: mask.as_ref() };
    let rows = Rows::of(program, *out, access)?;
    if rows.count() > MOST_ROWS || rows.bytes() < LEAST_ROW {
        return None;
    }
    let pad = rows.pad(layout, vector_bytes(program, access, *out, layout));
    Some(FeedLoad {
        tile: *out,
        param: *param,
        index: index.clone(),
        layout: layout.clone(),
        rows,
        pad,
        at: 0,
    })
}

impl FeedLoop {
    /// How many iterations a block does.
    pub(crate) fn trips(&self, program: &TileProgram, block: u64) -> u64 {
        let data = &program.axes[self.axis];
        // Selected for it.
        let count = data.extent.as_const().unwrap_or(0).div_ceil(u64::from(data.block.max(1)));
        let Some(number) = data.runs else { return count };
        let runs = program.axes[number].extent.as_const().unwrap_or(1).max(1);
        // The last axis of the grid is the fastest.
        let mut rest = block;
        let mut at = 0;
        let axes: Vec<_> = program.grid().collect();
        for (axis, a) in axes.into_iter().rev() {
            let blocks = a.extent.as_const().unwrap_or(1).div_ceil(u64::from(a.block.max(1))).max(1);
            if axis == number {
                at = rest % blocks;
            }
            rest /= blocks;
        }
        let each = count.div_ceil(runs);
        count.min((at + 1) * each).saturating_sub(at * each)
    }
}
