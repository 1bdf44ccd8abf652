//! Placement in shared memory: the order of axes and the padding with the fewest bank conflicts.
//!
//! Why here: tiles in shared memory get a place from the layout pass, and conversions between register layouts pass
//! through a scratch area that is planned the same way when they are emitted.
//! Post: strides are deterministic functions of the program; every vector access that is reported is aligned.

use tilewright_ir::tile::{AxisBit, Layout, Place, TileProgram};
use tilewright_ir::{Axis, DType};

use crate::bits::axis_bits;

/// Addresses of a tile in shared memory: linear in the positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SharedMap {
    strides: Vec<(Axis, i64)>,
    /// Bytes of one element.
    pub(crate) element: usize,
    /// Elements, padding included.
    pub(crate) elements: u64,
}

impl SharedMap {
    /// The map of a row-major order with padded rows.
    pub(crate) fn new(program: &TileProgram, order: &[Axis], pad: u32, dtype: DType) -> SharedMap {
        let mut strides = Vec::new();
        let mut stride = 1i64;
        for (n, &axis) in order.iter().rev().enumerate() {
            strides.push((axis, stride));
            stride *= i64::from(program.axes[axis].block);
            if n == 0 && order.len() > 1 {
                stride += i64::from(pad);
            }
        }
        SharedMap { strides, element: dtype.bytes(), elements: stride as u64 }
    }

    /// The map of a tile's place.
    pub(crate) fn of(program: &TileProgram, place: &Place, dtype: DType) -> Option<SharedMap> {
        match place {
            Place::Shared { order, pad } => Some(SharedMap::new(program, order, *pad, dtype)),
            _ => None,
        }
    }

    /// The distance in elements that a bit of a position makes.
    pub(crate) fn weight(&self, bit: AxisBit) -> i64 {
        self.strides.iter().find(|(a, _)| *a == bit.axis).map_or(0, |(_, s)| s << bit.bit)
    }

    /// Bytes, padding included.
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

    /// The cost for one warp of accessing everything that a layout holds: wavefronts and instructions.
    fn traffic(&self, layout: &Layout) -> u64 {
        let vector = self.vector(layout).len();
        let width = self.element << vector;
        let mut addresses: Vec<Option<u64>> = vec![None; 32];
        for (lane, address) in addresses.iter_mut().enumerate() {
            let owned = |n: usize| layout.lanes[n].map_or(0, |b| self.weight(b) as u64);
            let at: u64 = (0..5).filter(|n| lane >> n & 1 == 1).map(owned).sum();
            *address = Some(at * self.element as u64);
        }
        // Each access also takes a place in the instruction stream.
        let accesses = 1u64 << (layout.regs.len() - vector);
        accesses * (1 + u64::from(bank_wavefronts(&addresses, width)))
    }
}

/// Wavefronts of one access of a warp: the hardware serves 128 bytes of distinct banks at a time.
pub(crate) fn bank_wavefronts(addresses: &[Option<u64>], width: usize) -> u32 {
    let group = (128 / width.max(4)).min(32);
    let mut total = 0;
    for lanes in addresses.chunks(group) {
        let mut words: Vec<u64> = Vec::new();
        for at in lanes.iter().flatten() {
            for word in at / 4..(at + width as u64).div_ceil(4) {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        let mut banks = [0u32; 32];
        for word in words {
            banks[(word % 32) as usize] += 1;
        }
        total += banks.iter().copied().max().unwrap_or(0);
    }
    total
}

/// How shared memory is read.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// By the threads of a register layout.
    Layout(Layout),
    /// As 8x8 matrices of 16-bit elements: the bits of rows (the free group) and of columns (the contracted group).
    Matrix {
        /// The bits of the free group.
        free: Vec<AxisBit>,
        /// The bits of the contracted group.
        contracted: Vec<AxisBit>,
    },
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

    fn cost(&self, reader: &Reader) -> u64 {
        match reader {
            Reader::Layout(layout) => self.traffic(layout),
            Reader::Matrix { free, contracted } => {
                let rows = match self.matrix_rows(free, contracted) {
                    MatrixRows::Contracted => free,
                    MatrixRows::Free => contracted,
                    MatrixRows::Neither => return 1 << 20,
                };
                let row = |r: usize| {
                    (0..3).filter(|n| r >> n & 1 == 1).map(|n| self.weight(rows[n]) as u64).sum::<u64>()
                };
                let addresses: Vec<Option<u64>> =
                    (0..8).map(|r| Some(row(r) * self.element as u64)).collect();
                let matrices = 1u64 << (free.len() + contracted.len()).saturating_sub(6);
                matrices * u64::from(bank_wavefronts(&addresses, 16))
            }
        }
    }
}

/// Padding that is tried, in bytes.
const PADS: [usize; 6] = [0, 4, 8, 16, 32, 64];

/// Chooses the order and the padding for a tile that is written from `writer` and read by `reader`.
pub(crate) fn choose(
    program: &TileProgram,
    axes: &[Axis],
    dtype: DType,
    writer: &Layout,
    reader: &Reader,
) -> Place {
    let (unit, wide): (Vec<Axis>, Vec<Axis>) =
        axes.iter().copied().partition(|&a| axis_bits(program, a) == 0);
    let mut best: Option<(u64, u64, Place)> = None;
    for tail in orders(&wide) {
        for bytes in PADS {
            if bytes % dtype.bytes() != 0 || (bytes > 0 && tail.len() < 2) {
                continue;
            }
            let pad = (bytes / dtype.bytes()) as u32;
            let order: Vec<Axis> = unit.iter().chain(&tail).copied().collect();
            let map = SharedMap::new(program, &order, pad, dtype);
            let cost = map.traffic(writer) + map.cost(reader);
            if best.as_ref().is_none_or(|(c, b, _)| (cost, map.bytes()) < (*c, *b)) {
                best = Some((cost, map.bytes(), Place::Shared { order, pad }));
            }
        }
    }
    best.map_or(Place::Shared { order: axes.to_vec(), pad: 0 }, |(_, _, place)| place)
}

/// The orders that are tried: all of up to four axes, else each axis last.
fn orders(axes: &[Axis]) -> Vec<Vec<Axis>> {
    if axes.len() <= 1 {
        return vec![axes.to_vec()];
    }
    let mut out = Vec::new();
    for (n, &last) in axes.iter().enumerate() {
        let rest: Vec<Axis> = axes.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, &a)| a).collect();
        let heads = if axes.len() <= 4 { orders(&rest) } else { vec![rest] };
        out.extend(heads.into_iter().map(|mut head| {
            head.push(last);
            head
        }));
    }
    out.reverse();
    out
}
