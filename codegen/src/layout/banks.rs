//! Places in shared memory with the fewest bank conflicts.
//!
//! What: the order of axes and the gaps are chosen by counting, for everything that accesses a tile (stores from registers,
//! vectors, rows of matrices), the wavefronts that one warp takes.
//! Why here: tiles in shared memory get a place from the layout pass, and conversions between register layouts pass
//! through a scratch area that is planned the same way when they are emitted.
//! Post: a place is a deterministic function of the tile and its accesses; of equals the smallest.

use tilewright_ir::tile::{AxisBit, Layout, Pad, Place, TileProgram};
use tilewright_ir::{Axis, DType};

use super::shared::{MatrixRows, SharedMap};
use crate::bits::axis_bits;

/// How shared memory is accessed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Use {
    /// By the threads of a register layout, in vectors of at most so many bytes.
    Layout(Layout, usize),
    /// As 8x8 matrices of 16-bit elements: the bits of rows (the free group) and of columns (the contracted group).
    Matrix {
        /// The bits of the free group.
        free: Vec<AxisBit>,
        /// The bits of the contracted group.
        contracted: Vec<AxisBit>,
    },
}

/// What a warp pays for all its accesses to a tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traffic {
    instructions: u64,
    wavefronts: u64,
    /// Wavefronts, if no two lanes met in a bank.
    ideal: u64,
}

impl Traffic {
    fn cost(self) -> u64 {
        self.instructions + self.wavefronts
    }
}

impl SharedMap {
    fn traffic(&self, access: &Use) -> Traffic {
        match access {
            Use::Layout(layout, most) => {
                let mut vector = self.vector(layout).len();
                while self.element << vector > *most && vector > 0 {
                    vector -= 1;
                }
                let at = |lane: usize| {
                    let owned = |n: usize| layout.lanes[n].map_or(0, |b| self.weight(b) as u64);
                    (0..5).filter(|n| lane >> n & 1 == 1).map(owned).sum::<u64>() * self.element as u64
                };
                let addresses: Vec<Option<u64>> = (0..32).map(|lane| Some(at(lane))).collect();
                let (wavefronts, ideal) = wavefronts(&addresses, self.element << vector);
                let times = 1u64 << (layout.regs.len() - vector);
                Traffic { instructions: times, wavefronts: times * wavefronts, ideal: times * ideal }
            }
            Use::Matrix { free, contracted } => {
                let rows = match self.matrix_rows(free, contracted) {
                    MatrixRows::Contracted => free,
                    MatrixRows::Free => contracted,
                    // Elements one by one: whatever else is better.
                    MatrixRows::Neither => {
                        return Traffic { instructions: 1 << 20, ..Traffic::default() };
                    }
                };
                let row = |r: usize| {
                    (0..3).filter(|n| r >> n & 1 == 1).map(|n| self.weight(rows[n]) as u64).sum::<u64>()
                };
                let addresses: Vec<Option<u64>> =
                    (0..8).map(|r| Some(row(r) * self.element as u64)).collect();
                let (wavefronts, ideal) = wavefronts(&addresses, 16);
                let matrices = 1u64 << (free.len() + contracted.len()).saturating_sub(6);
                Traffic { instructions: 0, wavefronts: matrices * wavefronts, ideal: matrices * ideal }
            }
        }
    }
}

/// Wavefronts of one access of a warp, and how few they could be: the hardware serves 128 bytes of distinct banks at a
/// time.
fn wavefronts(addresses: &[Option<u64>], width: usize) -> (u64, u64) {
    let group = (128 / width.max(4)).min(32);
    let (mut total, mut ideal) = (0, 0);
    for lanes in addresses.chunks(group) {
        let mut words: Vec<u64> = Vec::new();
        for at in lanes.iter().flatten() {
            for word in at / 4..(at + width as u64).div_ceil(4) {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        let mut banks = [0u64; 32];
        for word in &words {
            banks[(word % 32) as usize] += 1;
        }
        total += banks.iter().copied().max().unwrap_or(0);
        ideal += words.len().div_ceil(32) as u64;
    }
    (total, ideal)
}

/// Wavefronts of one access of a warp.
pub(crate) fn bank_wavefronts(addresses: &[Option<u64>], width: usize) -> u32 {
    wavefronts(addresses, width).0 as u32
}

/// Gaps that are tried, in bytes.
const GAPS: [usize; 5] = [4, 8, 16, 32, 64];

/// How many places with one gap are tried with another one, where each alone leaves conflicts.
const TRIED_FURTHER: usize = 8;

/// A place with what is known of it; better ones compare as less.
struct Tried {
    cost: u64,
    conflicts: u64,
    bytes: u64,
    order: Vec<Axis>,
    pads: Vec<Pad>,
}

/// Chooses the order and the gaps of a tile from all its accesses.
pub(crate) fn choose(program: &TileProgram, axes: &[Axis], dtype: DType, uses: &[Use]) -> Place {
    let (unit, wide): (Vec<Axis>, Vec<Axis>) =
        axes.iter().copied().partition(|&a| axis_bits(program, a) == 0);
    let size: u64 = wide.iter().map(|&a| u64::from(program.axes[a].block)).product();
    let element = dtype.bytes();
    let attempt = |order: &[Axis], pads: Vec<Pad>| {
        let map = SharedMap::new(program, order, &pads, dtype);
        let all: Vec<Traffic> = uses.iter().map(|u| map.traffic(u)).collect();
        Tried {
            cost: all.iter().map(|t| t.cost()).sum(),
            conflicts: all.iter().map(|t| t.wavefronts - t.ideal).sum(),
            bytes: map.bytes(),
            order: order.to_vec(),
            pads,
        }
    };
    let gaps = |after: u64| {
        let every = (0..24).map(|n| 1u64 << n).filter(move |&n| n > after && n < size);
        let every = every.filter(|n| n * element as u64 >= 16);
        every.flat_map(move |every| {
            let by = GAPS.into_iter().filter(move |b| b % element == 0);
            by.map(move |b| Pad { every: every as u32, by: (b / element) as u32 })
        })
    };
    let mut tried: Vec<Tried> = Vec::new();
    let orders: Vec<Vec<Axis>> =
        orders(&wide).into_iter().map(|tail| unit.iter().copied().chain(tail).collect()).collect();
    tried.extend(orders.iter().map(|order| attempt(order, vec![])));
    for depth in 1..=2 {
        tried.sort_by_key(|t| (t.cost, t.bytes));
        if tried.first().is_none_or(|t| t.conflicts == 0) {
            break;
        }
        let most = if depth == 1 { tried.len() } else { TRIED_FURTHER };
        let start: Vec<(Vec<Axis>, Vec<Pad>)> =
            tried.iter().take(most).map(|t| (t.order.clone(), t.pads.clone())).collect();
        for (order, pads) in start {
            let after = pads.last().map_or(0, |p| u64::from(p.every));
            for gap in gaps(after) {
                tried.push(attempt(&order, pads.iter().copied().chain([gap]).collect()));
            }
        }
    }
    let best = tried.into_iter().min_by_key(|t| (t.cost, t.bytes));
    best.map_or(Place::Shared { order: axes.to_vec(), pads: vec![] }, |t| Place::Shared {
        order: t.order,
        pads: t.pads,
    })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tilewright_ir::Extent;
    use tilewright_ir::tile::{Role, TileAxis};

    use super::*;
    use crate::bits::group_bits;

    /// A program with axes of these blocks.
    fn program(blocks: &[u32]) -> (TileProgram, Vec<Axis>) {
        let mut p = TileProgram { warps: 1, ..TileProgram::default() };
        let axes = blocks
            .iter()
            .enumerate()
            .map(|(n, &block)| {
                let extent = Extent::Const(u64::from(block));
                p.axes.push(TileAxis {
                    name: format!("a{n}"),
                    extent,
                    block,
                    role: Role::Resident,
                    runs: None,
                })
            })
            .collect();
        (p, axes)
    }

    /// Vectors of 8 elements along the columns, then lanes along columns and rows.
    fn stored(p: &TileProgram, rows: Axis, columns: Axis) -> Use {
        let mut bits = group_bits(p, &[rows, columns]);
        let regs: Vec<AxisBit> = bits.drain(..3).collect();
        let lanes: Vec<Option<AxisBit>> = bits.drain(..5).map(Some).collect();
        Use::Layout(Layout { regs: regs.into_iter().chain(bits).collect(), lanes, warps: vec![] }, 16)
    }

    #[test]
    fn rows_of_any_length_are_stored_and_read_as_matrices_without_conflicts() {
        for columns in [16, 32, 64, 128, 256] {
            let (p, axes) = program(&[64, columns]);
            let [i, k] = axes[..] else { unreachable!("two axes") };
            let matrix = Use::Matrix { free: group_bits(&p, &[i]), contracted: group_bits(&p, &[k]) };
            let uses = [stored(&p, i, k), matrix];
            let conflicts = |place: &Place| -> u64 {
                let map = SharedMap::of(&p, place, DType::Bf16).expect("it is in shared memory");
                uses.iter().map(|u| map.traffic(u)).map(|t| t.wavefronts - t.ideal).sum()
            };
            let place = choose(&p, &axes, DType::Bf16, &uses);
            assert_eq!(conflicts(&place), 0, "rows of {columns}: {place:?}");
            // It is the gaps that do it.
            assert!(conflicts(&Place::Shared { order: axes.clone(), pads: vec![] }) > 0, "rows of {columns}");
        }
    }

    #[test]
    fn every_element_has_an_address_of_its_own() {
        let (p, axes) = program(&[16, 4, 32]);
        let pad = |every, by| Pad { every, by };
        for pads in
            [vec![], vec![pad(8, 4)], vec![pad(32, 8), pad(64, 2)], vec![pad(4, 1), pad(16, 3), pad(512, 5)]]
        {
            let map = SharedMap::new(&p, &[axes[1], axes[2], axes[0]], &pads, DType::F32);
            let bits = group_bits(&p, &axes);
            let at = |n: u64| -> i64 {
                (0..bits.len()).filter(|b| n >> b & 1 == 1).map(|b| map.weight(bits[b])).sum()
            };
            let all: BTreeSet<i64> = (0..1 << bits.len()).map(at).collect();
            assert_eq!(all.len(), 1 << bits.len(), "{pads:?}");
            assert_eq!(all.last().copied(), Some(map.elements as i64 - 1), "{pads:?}");
        }
    }
}
