//! Arithmetic on layouts: slices, extensions, compatibility, and index maps as C expressions.
//!
//! Why here: both halves of the crate ask the same questions about who owns which bit of a position.
//! Pre: layouts have five lane bits and one warp bit per doubling of the warps.

use tilewright_ir::Axis;
use tilewright_ir::tile::{AxisBit, Layout, TileProgram};

/// Lane bits of a warp.
pub(crate) const LANE_BITS: usize = 5;

/// The number of bits of positions in the block of an axis.
pub(crate) fn axis_bits(program: &TileProgram, axis: Axis) -> u8 {
    program.axes[axis].block.trailing_zeros() as u8
}

/// The number of warp bits of a program.
pub(crate) fn warp_bits(program: &TileProgram) -> usize {
    program.warps.trailing_zeros() as usize
}

/// The bits of the positions along a group of axes, lowest first; the last listed axis is the lowest.
pub(crate) fn group_bits(program: &TileProgram, axes: &[Axis]) -> Vec<AxisBit> {
    let bits = |&axis: &Axis| (0..axis_bits(program, axis)).map(move |bit| AxisBit { axis, bit });
    axes.iter().rev().flat_map(bits).collect()
}

/// The layout restricted to some axes: the bits of the others become replicated.
pub(crate) fn slice(layout: &Layout, axes: &[Axis]) -> Layout {
    let keep = |b: &Option<AxisBit>| b.filter(|b| axes.contains(&b.axis));
    Layout {
        regs: layout.regs.iter().copied().filter(|b| axes.contains(&b.axis)).collect(),
        lanes: layout.lanes.iter().map(keep).collect(),
        warps: layout.warps.iter().map(keep).collect(),
    }
}

/// Adds the bits of the given axes that the layout lacks: to replicated lanes and warps first, then to registers.
pub(crate) fn extend(program: &TileProgram, layout: &Layout, axes: &[Axis]) -> Layout {
    let mut out = layout.clone();
    for bit in group_bits(program, axes) {
        if owns(&out, bit) {
            continue;
        }
        let free = out.lanes.iter_mut().chain(out.warps.iter_mut()).find(|slot| slot.is_none());
        match free {
            Some(slot) => *slot = Some(bit),
            None => out.regs.push(bit),
        }
    }
    out
}

/// Whether some register, lane or warp bit owns the bit.
pub(crate) fn owns(layout: &Layout, bit: AxisBit) -> bool {
    layout.regs.contains(&bit) || layout.lanes.contains(&Some(bit)) || layout.warps.contains(&Some(bit))
}

/// The register bit that owns a bit of a position.
pub(crate) fn reg_of(layout: &Layout, bit: AxisBit) -> Option<usize> {
    layout.regs.iter().position(|&b| b == bit)
}

/// The layout of a reduction's result: the slice of its source, in which each thread of those that combined their
/// values holds all results.
pub(crate) fn reduced(source: &Layout, axes: &[Axis]) -> Layout {
    slice(source, axes)
}

/// Another layout of the result: lanes that were combined share the results among them, instead of each having all.
pub(crate) fn scattered(source: &Layout, axes: &[Axis]) -> Layout {
    let mut out = slice(source, axes);
    for (n, slot) in out.lanes.iter_mut().enumerate() {
        if source.lanes[n].is_some() && slot.is_none() && !out.regs.is_empty() {
            *slot = out.regs.pop();
        }
    }
    out
}

/// Whether a tile in `operand` can be read, register by register, by an operation whose elements are distributed
/// like `domain`: each thread holds what it needs. The order of registers does not matter.
pub(crate) fn compatible(operand: &Layout, axes: &[Axis], domain: &Layout) -> bool {
    let sliced = slice(domain, axes);
    sliced.lanes == operand.lanes && sliced.warps == operand.warps
}

/// Whether each thread holds, in `src`, every element that it needs in `dst`.
pub(crate) fn local(src: &Layout, dst: &Layout) -> bool {
    let ok = |(s, d): (&Option<AxisBit>, &Option<AxisBit>)| s.is_none() || s == d;
    src.lanes.iter().zip(&dst.lanes).all(ok) && src.warps.iter().zip(&dst.warps).all(ok)
}

/// How many selections each element takes when it comes from a lane of the same warp; `None` if some elements are only
/// in other warps.
pub(crate) fn within_warp(src: &Layout, dst: &Layout) -> Option<usize> {
    let stays = src.warps.iter().zip(&dst.warps).all(|(s, d)| s.is_none() || s == d);
    stays.then(|| src.regs.iter().filter(|&&b| reg_of(dst, b).is_none()).count())
}

/// Whether a conversion is better done by exchanging registers between lanes than through shared memory: few enough
/// exchanges that two barriers cost more.
pub(crate) fn by_lanes(src: &Layout, dst: &Layout) -> bool {
    within_warp(src, dst).is_some_and(|select| (1usize << dst.regs.len()) << select <= MOST_EXCHANGES)
}

/// See [`by_lanes`].
const MOST_EXCHANGES: usize = 16;

/// A sum `bit(var, from) * weight` over pairs, as a C expression; `None` if it is always 0. Runs of consecutive bits
/// with doubling weights become one masked term.
pub(crate) fn weighted(var: &str, pairs: &[(usize, i64)]) -> Option<String> {
    let mut pairs: Vec<(usize, i64)> = pairs.iter().copied().filter(|&(_, w)| w != 0).collect();
    pairs.sort_unstable();
    let mut terms = Vec::new();
    let mut at = 0;
    while at < pairs.len() {
        let (from, weight) = pairs[at];
        let mut len = 1;
        while at + len < pairs.len() && pairs[at + len] == (from + len, weight << len) {
            len += 1;
        }
        let shifted = if from == 0 { var.to_owned() } else { format!("({var} >> {from})") };
        let mask = (1u64 << len) - 1;
        let run = format!("({shifted} & {mask})");
        terms.push(if weight == 1 { run } else { format!("{run} * {weight}") });
        at += len;
    }
    match terms.len() {
        0 => None,
        1 => terms.pop(),
        _ => Some(terms.join(" + ")),
    }
}

/// The register number in `to` of the element that has register number `var` in `from`, for the bits that both hold
/// in registers.
pub(crate) fn reg_map(var: &str, from: &Layout, to: &Layout) -> String {
    let pairs: Vec<(usize, i64)> = to
        .regs
        .iter()
        .enumerate()
        .filter_map(|(q, &bit)| reg_of(from, bit).map(|p| (p, 1i64 << q)))
        .collect();
    let whole = pairs.len() == from.regs.len() && pairs.iter().all(|&(p, w)| w == 1i64 << p);
    if whole && !pairs.is_empty() {
        return var.to_owned();
    }
    weighted(var, &pairs).unwrap_or_else(|| "0".to_owned())
}

/// The pairs (register, lane or warp bit; weight) by which a bit field contributes to a linear function of positions.
pub(crate) fn field_weights<'a>(
    field: impl Iterator<Item = Option<AxisBit>> + 'a,
    weight: impl Fn(AxisBit) -> i64 + 'a,
) -> Vec<(usize, i64)> {
    field.enumerate().filter_map(|(at, bit)| bit.map(|b| (at, weight(b)))).filter(|&(_, w)| w != 0).collect()
}

/// The sum over `layout` of the thread's part of a linear function of positions, in terms of `lane` and `warp`.
pub(crate) fn thread_part(layout: &Layout, weight: impl Fn(AxisBit) -> i64 + Copy) -> Option<String> {
    let lanes = weighted("lane", &field_weights(layout.lanes.iter().copied(), weight));
    let warps = weighted("warp", &field_weights(layout.warps.iter().copied(), weight));
    match (lanes, warps) {
        (Some(l), Some(w)) => Some(format!("{l} + {w}")),
        (l, w) => l.or(w),
    }
}

/// The register part of a linear function of positions.
pub(crate) fn reg_part(layout: &Layout, var: &str, weight: impl Fn(AxisBit) -> i64 + Copy) -> Option<String> {
    weighted(var, &field_weights(layout.regs.iter().map(|&b| Some(b)), weight))
}
