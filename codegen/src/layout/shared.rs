//! Addresses in shared memory.
//!
//! What: a tile in shared memory is row-major with gaps, so that its address is a sum over the bits of positions. Every
//! bit has a weight of its own; gaps make that weight more than the bit's distance.
//! Why here: the choice of a place and the code that accesses it must agree on addresses.
//! Post: weights are functions of the place; every vector access that is reported is aligned.

use tilewright_ir::tile::{AxisBit, Layout, Pad, Place, TileProgram};
use tilewright_ir::{Axis, DType};

use crate::bits::axis_bits;

/// Addresses of a tile in shared memory: linear in the bits of positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SharedMap {
    /// Without gaps.
    strides: Vec<(Axis, i64)>,
    pads: Vec<Pad>,
    /// Bytes of one element.
    pub(crate) element: usize,
    /// Elements, gaps between them included.
    pub(crate) elements: u64,
}

impl SharedMap {
    /// The map of a row-major order with gaps.
    pub(crate) fn new(program: &TileProgram, order: &[Axis], pads: &[Pad], dtype: DType) -> SharedMap {
        let mut strides = Vec::new();
        let mut stride = 1i64;
        for &axis in order.iter().rev() {
            strides.push((axis, stride));
            stride *= i64::from(program.axes[axis].block);
        }
        let mut map = SharedMap { strides, pads: pads.to_vec(), element: dtype.bytes(), elements: 0 };
        // The last element is where all bits are set.
        map.elements = 1 + map.padded(stride - 1) as u64;
        map
    }

    /// The map of a tile's place.
    pub(crate) fn of(program: &TileProgram, place: &Place, dtype: DType) -> Option<SharedMap> {
        match place {
            Place::Shared { order, pads } => Some(SharedMap::new(program, order, pads, dtype)),
            _ => None,
        }
    }

    /// Where an element is that has so many before it.
    fn padded(&self, at: i64) -> i64 {
        at + self.pads.iter().map(|p| i64::from(p.by) * (at / i64::from(p.every))).sum::<i64>()
    }

    /// The distance in elements that a bit of a position makes. Gaps follow powers of two of elements, and extents are powers of
    /// two, so that what bits add to an address is independent of one another.
    pub(crate) fn weight(&self, bit: AxisBit) -> i64 {
        self.strides.iter().find(|(a, _)| *a == bit.axis).map_or(0, |(_, s)| self.padded(s << bit.bit))
    }

    /// Whether positions along an axis are equally far apart, and how far.
    pub(crate) fn even(&self, program: &TileProgram, axis: Axis) -> Option<i64> {
        let step = self.weight(AxisBit { axis, bit: 0 });
        (0..axis_bits(program, axis))
            .all(|bit| self.weight(AxisBit { axis, bit }) == step << bit)
            .then_some(step)
    }

    /// Bytes, gaps included.
    pub(crate) fn bytes(&self) -> u64 {
        self.elements * self.element as u64
    }

    /// The register bits of a layout that are neighbours in memory, lowest first: as many as one aligned access of at
    /// most 16 bytes can cover. Elements of 1 and 8 bytes move one by one.
    pub(crate) fn vector(&self, layout: &Layout) -> Vec<usize> {
        let mut out = Vec::new();
        if !matches!(self.element, 2 | 4) {
            return out;
        }
        while self.element << (out.len() + 1) <= 16 {
            let Some(at) = layout.regs.iter().position(|&b| self.weight(b) == 1 << out.len()) else { break };
            out.push(at);
        }
        // Everything else that moves the address must keep it aligned.
        let others = || {
            let owned = layout.lanes.iter().chain(&layout.warps).flatten();
            owned.chain(&layout.regs).map(|&b| self.weight(b))
        };
        while !out.is_empty() {
            let size = 1i64 << out.len();
            if others().all(|w| w < size || w % size == 0)
                && others().filter(|&w| w < size).count() == out.len()
            {
                break;
            }
            out.pop();
        }
        out
    }
}

/// Which index is contiguous in the rows of 8x8 matrices in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatrixRows {
    /// The contracted one.
    Contracted,
    /// The free one.
    Free,
    /// Neither: elements are gathered one by one.
    Neither,
}

impl SharedMap {
    /// How the rows of 8x8 matrices lie.
    pub(crate) fn matrix_rows(&self, free: &[AxisBit], contracted: &[AxisBit]) -> MatrixRows {
        let contiguous =
            |bits: &[AxisBit]| (0..3).all(|n| bits.get(n).is_some_and(|&b| self.weight(b) == 1 << n));
        let all = || free.iter().chain(contracted).map(|&b| self.weight(b));
        let aligned = all().all(|w| w < 8 || w % 8 == 0) && all().filter(|&w| w < 8).count() == 3;
        match (aligned, contiguous(contracted), contiguous(free)) {
            (true, true, _) => MatrixRows::Contracted,
            (true, _, true) => MatrixRows::Free,
            _ => MatrixRows::Neither,
        }
    }
}
