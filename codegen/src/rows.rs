//! Tiles as rows: what of a tile lies in one piece in memory, so that it can be copied as a whole.
//!
//! Why here: the stream pass chooses who copies a tile by it, and emission copies by it; both must agree.
//! Pre: an access whose index and mask do not depend on tiles; buffers start at multiples of 16 bytes.
//! Post: every row starts at a multiple of 16 bytes, and so many bytes of it as the mask allows are a multiple of 16.

use tilewright_ir::tile::{AxisBit, Layout, TileProgram};
use tilewright_ir::{Axis, Binary, Ex, Expr, Tile};

use crate::access::{Access, Atom, Term, constant, offset, uniform_along};
use crate::bits::{LANE_BITS, axis_bits, group_bits, warp_bits};
use crate::layout::banks::bank_wavefronts;

/// What a copy of a row must be a multiple of, in bytes; rows start at multiples of it.
pub(crate) const UNIT: u64 = 16;

/// The rows of a tile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    /// The bits of positions within a row: bit `n` is `1 << n` elements away.
    pub(crate) run: Vec<AxisBit>,
    /// The other bits: bit `n` of the number of a row.
    pub(crate) rows: Vec<AxisBit>,
    /// Bytes of an element in memory.
    pub(crate) element: u64,
    /// Conditions that hold for whole rows, or do not.
    pub(crate) masks: Vec<Ex>,
    /// Rows end before some position along an axis.
    pub(crate) limit: Option<Limit>,
}

/// Where rows end: the highest bits of a row are those of an axis from some bit on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The axis.
    pub(crate) axis: Axis,
    /// The first position that is not there.
    pub(crate) end: u64,
    /// The lowest of those bits; `end` is a multiple of what it counts.
    pub(crate) low: u8,
    /// Bytes between neighbours in that bit.
    pub(crate) step: u64,
}

impl Rows {
    /// The rows of a loaded tile, if it has any that can be copied.
    pub(crate) fn of(program: &TileProgram, tile: Tile, access: Access<'_>) -> Option<Rows> {
        let element = program.params[access.param].dtype.bytes() as u64;
        let terms = offset(program, access.param, access.index);
        if terms.iter().any(|t| matches!(t.atom, Atom::Other(_))) {
            return None;
        }
        let bits = group_bits(program, &program.tiles[tile].axes);
        let weight = |b: AxisBit| distance(&terms, b);
        let mut run: Vec<AxisBit> = Vec::new();
        while let Some(&next) = bits.iter().find(|b| !run.contains(b) && weight(**b) == Some(1 << run.len()))
        {
            run.push(next);
        }
        // Where a condition changes within a row, rows are shorter.
        while let Some(&AxisBit { axis: last, .. }) = run.last() {
            let rows: Vec<AxisBit> = bits.iter().copied().filter(|b| !run.contains(b)).collect();
            let out = Rows { run: run.clone(), rows, element, masks: Vec::new(), limit: None };
            let aligned = terms.iter().all(|t| {
                let step = match t.atom {
                    // From one block to the next, and between the rows of a block.
                    Atom::Pos(axis, field) => {
                        let bits = out.rows.iter().filter(|b| b.axis == axis).map(|b| b.bit);
                        let lowest =
                            bits.chain([axis_bits(program, axis)]).filter(|&b| b >= field.from).min();
                        lowest.map_or(0, |b| field.weight(b).unsigned_abs())
                    }
                    _ => 1,
                };
                t.coef.unsigned_abs().wrapping_mul(step).wrapping_mul(element).is_multiple_of(UNIT)
            });
            if aligned
                && out.bytes() >= UNIT
                && let Some(found) = out.masked(program, access.mask)
            {
                return Some(found);
            }
            while run.last().is_some_and(|b| b.axis == last) {
                run.pop();
            }
        }
        None
    }

    /// The same with a mask, if it allows whole units.
    fn masked(mut self, program: &TileProgram, mask: Option<&Ex>) -> Option<Rows> {
        let mut conditions = Vec::new();
        if let Some(mask) = mask {
            conjuncts(mask, &mut conditions);
        }
        for e in conditions {
            let mut axes: Vec<Axis> = self.run.iter().map(|b| b.axis).collect();
            axes.dedup();
            let positions = |axis: Axis| 1u64 << self.run.iter().filter(|b| b.axis == axis).count();
            let always = bound(e).is_some_and(|(axis, end)| {
                let data = &program.axes[axis];
                data.extent.as_const().is_some_and(|n| n.next_multiple_of(u64::from(data.block)) <= end)
            });
            if always {
                continue;
            }
            if axes.iter().all(|&a| uniform_along(program, e, a, positions(a))) {
                self.masks.push(e.clone());
                continue;
            }
            // A bound on the axis whose positions are farthest apart cuts the row short.
            let (axis, end) = bound(e)?;
            let first = self.run.len() - self.run.iter().rev().take_while(|b| b.axis == axis).count();
            let own = &self.run[first..];
            let low = own.first()?.bit;
            let whole = own.iter().map(|b| b.bit).eq(low..axis_bits(program, axis));
            let step = self.element << first;
            let seam = end.is_multiple_of(1 << low) && (end >> low).checked_mul(step)?.is_multiple_of(UNIT);
            if !whole || !seam || self.limit.is_some() || end > 1 << 30 {
                return None;
            }
            self.limit = Some(Limit { axis, end, low, step });
        }
        Some(self)
    }

    /// Whether all is one row, and what the loop over `axis` loads next lies right behind it: then so does what it loads
    /// after that, and one copy will do for several iterations. Where the loop ends the row may.
    pub(crate) fn go_on(&self, program: &TileProgram, access: Access<'_>, axis: Axis) -> bool {
        let Some(extent) = program.axes[axis].extent.as_const() else { return false };
        let ends = self.limit.is_none_or(|l| l.axis == axis);
        let whole = self.rows.is_empty() && self.masks.is_empty() && ends;
        let terms = offset(program, access.param, access.index);
        let own = axis_bits(program, axis);
        let bits = extent.max(1).next_power_of_two().trailing_zeros() as u8;
        whole
            && (own..bits).all(|bit| {
                let far = distance(&terms, AxisBit { axis, bit });
                far == 1i64.checked_shl((self.run.len() + usize::from(bit - own)) as u32)
            })
    }

    /// Bytes of a row.
    pub(crate) fn bytes(&self) -> u64 {
        self.element << self.run.len()
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> u64 {
        1 << self.rows.len()
    }

    /// Bytes of all rows in shared memory, each followed by `pad`.
    pub(crate) fn stage(&self, pad: u32) -> u64 {
        self.count() * (self.bytes() + u64::from(pad))
    }

    /// The distance in bytes that a bit of a position makes in shared memory.
    pub(crate) fn weight(&self, bit: AxisBit, pad: u32) -> i64 {
        if let Some(n) = self.run.iter().position(|&b| b == bit) {
            return (self.element << n) as i64;
        }
        let row = self.bytes() + u64::from(pad);
        self.rows.iter().position(|&b| b == bit).map_or(0, |n| (row << n) as i64)
    }

    /// Rows over the lanes of one warp, and over its registers when there are more.
    pub(crate) fn layout(&self, program: &TileProgram) -> Layout {
        let (lanes, regs) = self.rows.split_at(LANE_BITS.min(self.rows.len()));
        let mut lanes: Vec<Option<AxisBit>> = lanes.iter().copied().map(Some).collect();
        lanes.resize(LANE_BITS, None);
        Layout { regs: regs.to_vec(), lanes, warps: vec![None; warp_bits(program)] }
    }

    /// The padding with the fewest bank conflicts for vectors of so many bytes that are read in this layout.
    pub(crate) fn pad(&self, layout: &Layout, vector: usize) -> u32 {
        let wavefronts = |pad: u32| {
            let address = |lane: usize| -> u64 {
                let owned = |n: usize| layout.lanes[n].map_or(0, |b| self.weight(b, pad) as u64);
                (0..LANE_BITS).filter(|n| lane >> n & 1 == 1).map(owned).sum()
            };
            bank_wavefronts(&(0..32).map(|lane| Some(address(lane))).collect::<Vec<_>>(), vector)
        };
        [0, 16, 32, 64].into_iter().min_by_key(|&pad| (wavefronts(pad), pad)).unwrap_or(0)
    }
}

/// How many elements apart positions are that differ in one bit, if that is one number.
fn distance(terms: &[Term], b: AxisBit) -> Option<i64> {
    let mut of = terms.iter().filter_map(|t| match t.atom {
        Atom::Pos(axis, field) if axis == b.axis && field.weight(b.bit) != 0 => {
            Some((t, field.weight(b.bit)))
        }
        _ => None,
    });
    let first =
        of.next().map_or(Some(0), |(t, weight)| t.syms.is_empty().then(|| t.coef.checked_mul(weight))?)?;
    of.next().is_none().then_some(first)
}

/// The conditions that hold together.
fn conjuncts<'e>(e: &'e Ex, out: &mut Vec<&'e Ex>) {
    match &**e {
        Expr::Binary(Binary::And, a, b) => {
            conjuncts(a, out);
            conjuncts(b, out);
        }
        _ => out.push(e),
    }
}

/// `position < constant`, either way around.
fn bound(e: &Ex) -> Option<(Axis, u64)> {
    match &**e {
        Expr::Binary(Binary::Lt, x, n) | Expr::Binary(Binary::Gt, n, x) => match &**x {
            Expr::Pos(axis) => Some((*axis, constant(n)?)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::text::{Document, parse};
    use tilewright_ir::tile::Op;

    /// The rows of the first load in a loop.
    fn rows(axes: &str, buffer: &str, tile: &str, load: &str) -> Option<Rows> {
        let text = format!(
            "symbol kv: 1..=4096\ntile @t warps 4 {{\n{axes}\n buffer p0 v: {buffer}\n tile0[{tile}]: bf16\n loop j {{\n tile0 = load {load}\n }}\n}}\n"
        );
        let Document::Tile(file) = parse(&text).expect("a program") else { panic!("no program") };
        let program = &file.programs[0];
        let Op::Loop { body, .. } = &program.body[0] else { panic!("no loop") };
        let Op::Load { out, param, index, mask, .. } = &body[0] else { panic!("no load") };
        Rows::of(program, *out, Access { param: *param, index, mask: mask.as_ref() })
    }

    const AXES: &str = "axis e=64 block 64 resident\naxis j=kv block 32 loop";

    #[test]
    fn rows_are_what_is_contiguous() {
        let all = rows(AXES, "bf16[4096, 64]", "e,j", "p0[j,e]").expect("rows");
        assert_eq!((all.bytes(), all.count(), all.masks.len()), (64 * 2 * 32, 1, 0));
        let padded = rows(AXES, "bf16[4096, 72]", "e,j", "p0[j,e]").expect("rows");
        assert_eq!((padded.bytes(), padded.count()), (128, 32));
        // A row would start in the middle of 16 bytes.
        assert_eq!(rows(AXES, "bf16[4096, 68]", "e,j", "p0[j,e]"), None);
        // Columns are no rows.
        assert_eq!(rows(AXES, "bf16[64, 4096]", "e,j", "p0[e,j]").expect("rows").bytes(), 64);
    }

    /// A matrix of 128 columns in blocks of 16 rows and 32 columns.
    const PACKED: &str = "bf16[40, 128] constant packed [2048:3, 32:4, 128:16, 1:32]";

    #[test]
    fn blocks_of_a_packed_matrix_are_one_row() {
        let axes = |k: u32, n: u32| format!("axis k={k} block 128 resident\naxis j={n} block 32 loop");
        let all = rows(&axes(128, 40), PACKED, "j,k", "p0[j,k]").expect("rows");
        let run: Vec<u8> = all.run.iter().map(|b| b.bit).collect();
        // Columns within a block, its rows, blocks of a band, and bands.
        assert_eq!(run, [0, 1, 2, 3, 4, 0, 1, 2, 3, 5, 6, 4]);
        assert_eq!((all.bytes(), all.count()), (2 * 128 * 32, 1));
        // Some of the columns: whole blocks of each band are left out.
        let some = rows(&axes(96, 40), PACKED, "j,k", "p0[j,k] if k < 96 else 0").expect("rows");
        assert_eq!(
            (some.bytes(), some.count(), some.limit.map(|l| (l.low, l.step))),
            (4096, 2, Some((5, 1024)))
        );
        // Whole bands, and half of one, whose blocks are apart.
        let cut = rows(&axes(128, 48), PACKED, "j,k", "p0[j,k] if j < 48 else 0").expect("rows");
        assert_eq!(
            (cut.bytes(), cut.count(), cut.limit.map(|l| (l.low, l.step))),
            (8192, 1, Some((4, 4096)))
        );
        let half = rows(&axes(128, 40), PACKED, "j,k", "p0[j,k] if j < 40 else 0").expect("rows");
        assert_eq!((half.bytes(), half.count(), half.masks.len()), (64, 128, 1));
    }

    #[test]
    fn masks_hold_for_rows_or_cut_them_short() {
        let kv = rows(AXES, "bf16[4096, 72]", "e,j", "p0[j,e] if j < size(kv) else 0").expect("rows");
        assert_eq!((kv.bytes(), kv.count(), kv.masks.len(), kv.limit), (128, 32, 1, None));
        let cut =
            rows(AXES, "bf16[4096, 72]", "e,j", "p0[j,e] if j < size(kv) and e < 40 else 0").expect("rows");
        assert_eq!((cut.masks.len(), cut.limit.map(|l| (l.end, l.low, l.step))), (1, Some((40, 0, 2))));
        // Together contiguous, but the condition parts rows.
        let parted = rows(AXES, "bf16[4096, 64]", "e,j", "p0[j,e] if j < size(kv) else 0").expect("rows");
        assert_eq!((parted.bytes(), parted.count(), parted.masks.len()), (128, 32, 1));
        let always = rows(AXES, "bf16[4096, 72]", "e,j", "p0[j,e] if e < 64 else 0").expect("rows");
        assert_eq!((always.masks.len(), always.limit), (0, None));
        // Half a unit cannot be copied, and neither can what some other condition selects.
        for bad in ["e < 41", "e > 8", "e + j < 7"] {
            assert_eq!(
                rows(AXES, "bf16[4096, 72]", "e,j", &format!("p0[j,e] if {bad} else 0")),
                None,
                "{bad}"
            );
        }
    }
}
