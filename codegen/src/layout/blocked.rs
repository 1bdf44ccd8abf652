//! Distributions for memory: neighbouring lanes on neighbouring vectors.
//!
//! Why here: loads choose their own distribution when no neighbour prescribes one, and one that a neighbour proposes
//! is accepted only if it does not waste memory transactions.

use tilewright_ir::tile::{AxisBit, Layout, TileProgram};
use tilewright_ir::{Axis, DType, Ex, Param};

use crate::access::{self, Access, Atom, Term};
use crate::bits::{LANE_BITS, axis_bits, group_bits, warp_bits};

/// The blocked layout over axes given from the fastest to the slowest, with `vector` low bits of the first in
/// registers. Warps avoid the axes that are `reduced` soon, so that reductions stay within a warp.
pub(super) fn blocked(
    program: &TileProgram,
    fastest_first: &[Axis],
    vector: u32,
    reduced: &[Axis],
) -> Layout {
    let bits = |axis: Axis| (0..axis_bits(program, axis)).map(move |bit| AxisBit { axis, bit });
    let mut rest: Vec<AxisBit> = fastest_first.iter().flat_map(|&a| bits(a)).collect();
    let first = fastest_first.first().copied();
    let vector = (vector as usize).min(first.map_or(0, |a| usize::from(axis_bits(program, a))));
    let mut regs: Vec<AxisBit> = rest.drain(..vector).collect();
    let near = |b: &AxisBit| Some(b.axis) == first;
    // A row that is split over warps still fills whole sectors: a few lanes stay on it.
    let spare = rest.iter().filter(|b| near(b)).count().saturating_sub(ROW_LANES);
    // Lanes keep rows that follow one another: those meet different banks of shared memory.
    let mut candidates: Vec<AxisBit> =
        rest.iter().rev().copied().filter(|b| !near(b) && !reduced.contains(&b.axis)).collect();
    let kept = |b: &&AxisBit| near(b) && !reduced.contains(&b.axis);
    candidates.extend(rest.iter().rev().filter(kept).take(spare));
    candidates.extend(rest.iter().rev().filter(|b| !near(b) && reduced.contains(&b.axis)));
    candidates.extend(rest.iter().rev().filter(|b| near(b)));
    let total = warp_bits(program);
    // What lanes would leave idle is better spread over lanes than over warps.
    let room = rest.len().saturating_sub(LANE_BITS).min(total);
    let mut taken: Vec<AxisBit> = Vec::new();
    for bit in candidates {
        if taken.len() < room && !taken.contains(&bit) {
            taken.push(bit);
        }
    }
    // In the order of memory, whichever was taken first.
    let taken: Vec<AxisBit> = rest.iter().copied().filter(|b| taken.contains(b)).collect();
    rest.retain(|b| !taken.contains(b));
    let lane_count = LANE_BITS.min(rest.len());
    let mut lanes: Vec<Option<AxisBit>> = rest.drain(..lane_count).map(Some).collect();
    lanes.resize(LANE_BITS, None);
    let mut warps: Vec<Option<AxisBit>> = taken.into_iter().map(Some).collect();
    warps.resize(total, None);
    regs.extend(rest);
    Layout { regs, lanes, warps }
}

/// Lane bits that stay on the fastest axis when warps take some of it: with vectors of 16 bytes, rows of 64 bytes.
const ROW_LANES: usize = 2;

/// The layout that suits a load or store of a tile with the given axes.
pub(super) fn for_access(
    program: &TileProgram,
    access: Access<'_>,
    axes: &[Axis],
    reduced: &[Axis],
) -> Layout {
    if program.params[access.param].packing.is_some() {
        return in_order(program, access, axes, reduced);
    }
    let order = access.by_stride(program, axes);
    let vector = order.first().map_or(0, |&a| access.vector_bits(program, a));
    blocked(program, &order, vector, reduced)
}

/// The layout that suits a load of a packed buffer: bits of positions in the order of memory, whatever axis they are of,
/// the lowest in a vector, the next in lanes, so that a warp reads one piece of memory at a time.
fn in_order(program: &TileProgram, access: Access<'_>, axes: &[Axis], reduced: &[Axis]) -> Layout {
    let terms = access::offset(program, access.param, access.index);
    let mut rest = group_bits(program, axes);
    rest.sort_by_key(|&b| (step(program, &terms, b), b));
    let vector = rest.first().map_or(0, |b| access.vector_bits(program, b.axis)) as usize;
    let mut regs: Vec<AxisBit> = rest.drain(..vector.min(rest.len())).collect();
    let total = warp_bits(program);
    let room = rest.len().saturating_sub(LANE_BITS).min(total);
    // Warps take what is farthest apart, and rather not what is reduced soon.
    let far = |gone: bool| {
        let some = rest.iter().rev().filter(move |b| reduced.contains(&b.axis) == gone);
        some.copied().collect::<Vec<AxisBit>>()
    };
    let taken: Vec<AxisBit> = far(false).into_iter().chain(far(true)).take(room).collect();
    rest.retain(|b| !taken.contains(b));
    // 8 lanes read all banks of shared memory, or whole lines. The others are rather on what is reduced: what is read
    // beside has fewer axes, and is then held by fewer threads.
    let near: Vec<AxisBit> = rest.drain(..QUARTER.min(rest.len())).collect();
    rest.sort_by_key(|b| !reduced.contains(&b.axis));
    let more = rest.drain(..(LANE_BITS - QUARTER).min(rest.len()));
    let mut lanes: Vec<Option<AxisBit>> = near.into_iter().chain(more).map(Some).collect();
    lanes.resize(LANE_BITS, None);
    let mut warps: Vec<Option<AxisBit>> = taken.into_iter().map(Some).collect();
    warps.resize(total, None);
    regs.extend(rest);
    Layout { regs, lanes, warps }
}

/// Bits of the lanes whose vectors of 16 bytes are read at once.
const QUARTER: usize = 3;

/// The layout for a tile that touches no memory: the last axis is taken for the fastest.
pub(super) fn for_tile(program: &TileProgram, axes: &[Axis], dtype: DType, reduced: &[Axis]) -> Layout {
    let order: Vec<Axis> = axes.iter().rev().copied().collect();
    blocked(program, &order, (16 / dtype.bytes() as u32).trailing_zeros().min(2), reduced)
}

/// Whether an access with the proposed layout touches at most twice the sectors that its elements fill, in each
/// access of a warp, or is small enough not to matter.
pub(super) fn coalesces(
    program: &TileProgram,
    param: Param,
    index: &[Ex],
    axes: &[Axis],
    layout: &Layout,
) -> bool {
    let bytes = program.params[param].dtype.bytes() as u64;
    let elements: u64 = axes.iter().map(|&a| u64::from(program.axes[a].block)).product();
    if elements * bytes <= SMALL {
        return true;
    }
    let terms = access::offset(program, param, index);
    // A vector of registers along the fastest axis is one access.
    let width = (0..4)
        .take_while(|&n| {
            bytes << (n + 1) <= 16 && layout.regs.iter().any(|&b| step(program, &terms, b) == 1 << n)
        })
        .count();
    let (mut starts, mut sectors) = (Vec::new(), Vec::new());
    for lane in 0..32usize {
        let owned = |n: &usize| lane >> n & 1 == 1;
        let at: u64 = (0..LANE_BITS)
            .filter(owned)
            .map(|n| layout.lanes[n].map_or(0, |b| step(program, &terms, b)))
            .sum();
        let from = at * bytes;
        if !starts.contains(&from) {
            starts.push(from);
            for sector in from / 32..(from + (bytes << width)).div_ceil(32) {
                if !sectors.contains(&sector) {
                    sectors.push(sector);
                }
            }
        }
    }
    let ideal = (starts.len() as u64 * (bytes << width)).div_ceil(32);
    sectors.len() as u64 <= 2 * ideal
}

/// Tiles of at most this many bytes are read with any layout: the cache serves the repetitions.
const SMALL: u64 = 2048;

/// A typical distance in elements that a bit of a position makes.
fn step(program: &TileProgram, terms: &[Term], bit: AxisBit) -> u64 {
    let mut total = 0u64;
    for t in terms {
        let scale = 1009u64.saturating_pow(t.syms.len() as u32).min(1 << 30);
        let coef = t.coef.unsigned_abs().min(1 << 30) * scale;
        match &t.atom {
            Atom::Pos(a, field) if *a == bit.axis => {
                total += coef.min(1 << 40).saturating_mul(field.weight(bit.bit).unsigned_abs());
            }
            // What a table points to is anywhere.
            Atom::Other(e) if access::mentions(program, e, bit.axis) => total += coef.max(1 << 10) << bit.bit,
            _ => {}
        }
    }
    total
}
