//! Anchors: the distributions that contractions prescribe.
//!
//! Why here: the instruction fixes who holds which element of its accumulator and operands; everything around a
//! contraction follows from that. It has 16 rows; of operands in vectors there may be fewer: threads then hold nothing of
//! the upper 8, and where there are fewer than 8, lanes do the same as others.
//! Pre: blocks are powers of two.
//! Post: [`check`] has refused operands that the instruction cannot take.

use tilewright_ir::tile::{AxisBit, DotKind, Layout, TileProgram};
use tilewright_ir::{Axis, Tile};

use crate::CodegenError;
use crate::bits::{LANE_BITS, group_bits, warp_bits};

/// Bits of the contracted positions that operands in vectors share out among registers and lanes.
pub(crate) const VECTOR_BITS: usize = 5;

/// The bits of the groups of a contraction, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// Rows of the result.
    pub(crate) m: Vec<AxisBit>,
    /// Columns of the result.
    pub(crate) n: Vec<AxisBit>,
    /// Contracted.
    pub(crate) k: Vec<AxisBit>,
    /// The axes of the rows.
    pub(crate) m_axes: Vec<Axis>,
    /// The axes of the columns.
    pub(crate) n_axes: Vec<Axis>,
}

impl Groups {
    /// The bits of rows that lanes hold, as far as there are so many rows.
    fn lane_rows(&self) -> [Option<AxisBit>; 3] {
        [0, 1, 2].map(|n| self.m.get(n).copied())
    }

    /// The bit of rows that registers hold in a fragment; none where there are no more rows than lanes hold.
    pub(crate) fn upper(&self) -> Option<AxisBit> {
        self.m.get(3).copied()
    }

    /// The register bits of the result that belong to one instruction.
    pub(crate) fn own(&self) -> Vec<AxisBit> {
        [self.n[0]].into_iter().chain(self.upper()).collect()
    }
}

/// A contraction, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dot<'a> {
    /// The result.
    pub(crate) out: Tile,
    /// Left operand.
    pub(crate) a: Tile,
    /// Right operand.
    pub(crate) b: Tile,
    /// What is added to.
    pub(crate) acc: Option<Tile>,
    /// The contracted axes.
    pub(crate) over: &'a [Axis],
    /// How.
    pub(crate) kind: DotKind,
}

impl Dot<'_> {
    /// The groups.
    pub(crate) fn groups(&self, program: &TileProgram) -> Groups {
        let free = |t: Tile| -> Vec<Axis> {
            program.tiles[t].axes.iter().copied().filter(|a| !self.over.contains(a)).collect()
        };
        // The lowest bits of a group should be those of one axis, because rows of eight are fetched at once. Any order
        // will do as long as both operands and the result agree on it.
        let order = |mut axes: Vec<Axis>| {
            if axes.last().is_some_and(|&a| program.axes[a].block < 8) {
                axes.sort_by_key(|&a| program.axes[a].block);
            }
            axes
        };
        let (m_axes, n_axes, k_axes) = (order(free(self.a)), order(free(self.b)), order(self.over.to_vec()));
        let mut k = group_bits(program, &k_axes);
        if self.vectors() && k.len() >= VECTOR_BITS {
            // The instruction has bits 0 and 3 in registers and bits 1 and 2 in lanes.
            k[1..VECTOR_BITS].rotate_left(2);
        }
        Groups { m: group_bits(program, &m_axes), n: group_bits(program, &n_axes), k, m_axes, n_axes }
    }

    /// Whether a lane's contracted positions are neighbours.
    pub(crate) fn vectors(&self) -> bool {
        matches!(self.kind, DotKind::Vectors(_))
    }

    /// Refuses what cannot be carried out.
    pub(crate) fn check(&self, program: &TileProgram) -> Result<(), CodegenError> {
        let groups = self.groups(program);
        let malformed = |what: String| Err(CodegenError::Malformed { program: program.name.clone(), what });
        if groups.m.iter().any(|b| groups.n.contains(b)) {
            return malformed(format!("the operands of the contraction into {} share a free axis", self.out));
        }
        let mut have = group_bits(program, &program.tiles[self.out].axes);
        let mut want: Vec<AxisBit> = groups.m.iter().chain(&groups.n).copied().collect();
        have.sort_unstable();
        want.sort_unstable();
        if have != want {
            return malformed(format!(
                "the axes of {} are not the free axes of {} and {}",
                self.out, self.a, self.b
            ));
        }
        for operand in [self.a, self.b] {
            if self.over.iter().any(|a| !program.tiles[operand].axes.contains(a)) {
                return malformed(format!(
                    "{operand} lacks a contracted axis of the contraction into {}",
                    self.out
                ));
            }
        }
        let Some(dtype) = self.kind.matrix() else { return Ok(()) };
        let (rows, least) = if self.vectors() { (0, VECTOR_BITS) } else { (4, 4) };
        for (group, bits, need) in [("m", &groups.m, rows), ("n", &groups.n, 3), ("k", &groups.k, least)] {
            if bits.len() < need {
                return Err(CodegenError::ContractionTooSmall {
                    program: program.name.clone(),
                    out: self.out,
                    group,
                    got: 1 << bits.len(),
                    need: 1 << need,
                });
            }
        }
        let types = [(self.a, dtype), (self.b, dtype)].into_iter();
        let results = [self.out].into_iter().chain(self.acc).map(|t| (t, tilewright_ir::DType::F32));
        for (tile, need) in types.chain(results) {
            let got = program.tiles[tile].dtype;
            if got != need {
                return Err(CodegenError::OperandType {
                    program: program.name.clone(),
                    out: self.out,
                    tile,
                    got,
                    need,
                });
            }
        }
        if !matches!(dtype, tilewright_ir::DType::Bf16 | tilewright_ir::DType::F16) {
            return malformed(format!("no tensor-core contraction of {dtype} operands (into {})", self.out));
        }
        Ok(())
    }

    /// Whether a layout of the result is one that the contraction can produce.
    pub(crate) fn accepts(&self, program: &TileProgram, layout: &Layout) -> bool {
        let g = self.groups(program);
        match self.kind {
            DotKind::Fma => true,
            DotKind::Mma(_) | DotKind::Vectors(_) => {
                let lanes = [Some(g.n[1]), Some(g.n[2])].into_iter().chain(g.lane_rows());
                layout.lanes.iter().copied().eq(lanes) && layout.regs.starts_with(&g.own())
            }
        }
    }

    /// The layout of the result with the warps split over rows and columns: `columns` warp bits on columns if there
    /// are as many, the others on rows.
    pub(crate) fn result(&self, program: &TileProgram, columns: usize) -> Layout {
        let g = self.groups(program);
        match self.kind {
            DotKind::Mma(_) | DotKind::Vectors(_) => {
                let lanes = [Some(g.n[1]), Some(g.n[2])].into_iter().chain(g.lane_rows()).collect();
                let (warps, mut rest) =
                    split_warps(program, g.m.get(4..).unwrap_or_default(), &g.n[3..], columns);
                let mut regs = g.own();
                regs.append(&mut rest);
                Layout { regs, lanes, warps }
            }
            DotKind::Fma => fma_result(program, &g, columns),
        }
    }

    /// The register layouts of the operands that go with a layout of the result.
    pub(crate) fn fragments(&self, program: &TileProgram, result: &Layout) -> (Layout, Layout) {
        let g = self.groups(program);
        let warps_of = |bits: &[AxisBit]| {
            result.warps.iter().map(|b| b.filter(|b| bits.contains(b))).collect::<Vec<_>>()
        };
        // Free bits that lanes do not hold: those of the fragment itself, then those that the result has in registers.
        let regs_of = |free: &[AxisBit], own: &[AxisBit]| {
            let above = free.get(3..).unwrap_or_default();
            let others = result.regs.iter().filter(|b| above.contains(b) && !own.contains(b));
            own.iter().chain(&g.k[4..]).chain(others).copied().collect::<Vec<_>>()
        };
        let lanes = |free: [Option<AxisBit>; 3]| {
            [Some(g.k[1]), Some(g.k[2])].into_iter().chain(free).collect::<Vec<_>>()
        };
        let own: Vec<AxisBit> = [g.k[0]].into_iter().chain(g.upper()).chain([g.k[3]]).collect();
        let (mut a, b) = (regs_of(&g.m, &own), regs_of(&g.n, &[g.k[0], g.k[3]]));
        if self.vectors() && g.upper().is_some() {
            // What is contiguous comes first: bits 0, 1 and 2 of the positions.
            a[1..4].rotate_left(1);
        }
        let columns = [g.n[0], g.n[1], g.n[2]].map(Some);
        (
            Layout { regs: a, lanes: lanes(g.lane_rows()), warps: warps_of(&g.m) },
            Layout { regs: b, lanes: lanes(columns), warps: warps_of(&g.n) },
        )
    }
}

/// Gives warp bits to the highest of the column bits and of the row bits; what remains goes to registers, columns
/// first.
fn split_warps(
    program: &TileProgram,
    m: &[AxisBit],
    n: &[AxisBit],
    columns: usize,
) -> (Vec<Option<AxisBit>>, Vec<AxisBit>) {
    let total = warp_bits(program);
    let on_n = columns.min(n.len()).min(total);
    let on_m = (total - on_n).min(m.len());
    let (n_regs, n_warps) = n.split_at(n.len() - on_n);
    let (m_regs, m_warps) = m.split_at(m.len() - on_m);
    let mut warps: Vec<Option<AxisBit>> = m_warps.iter().chain(n_warps).map(|&b| Some(b)).collect();
    warps.resize(total, None);
    (warps, n_regs.iter().chain(m_regs).copied().collect())
}

/// The result of fused multiply-adds: a rectangle of registers per thread, neighbouring lanes on neighbouring rows of
/// the operands so that their reads fall into different banks.
fn fma_result(program: &TileProgram, g: &Groups, columns: usize) -> Layout {
    let total = warp_bits(program);
    let on_n = columns.min(g.n.len()).min(total);
    let on_m = (total - on_n).min(g.m.len());
    let (n, n_warps) = g.n.split_at(g.n.len() - on_n);
    let (m, m_warps) = g.m.split_at(g.m.len() - on_m);
    let lane_bits = LANE_BITS.min(n.len() + m.len());
    let mut n_lanes = lane_bits.div_ceil(2).min(n.len());
    let m_lanes = (lane_bits - n_lanes).min(m.len());
    n_lanes = (lane_bits - m_lanes).min(n.len());
    let mut lanes: Vec<Option<AxisBit>> =
        n[..n_lanes].iter().chain(&m[..m_lanes]).map(|&b| Some(b)).collect();
    lanes.resize(LANE_BITS, None);
    let mut warps: Vec<Option<AxisBit>> = m_warps.iter().chain(n_warps).map(|&b| Some(b)).collect();
    warps.resize(total, None);
    Layout { regs: n[n_lanes..].iter().chain(&m[m_lanes..]).copied().collect(), lanes, warps }
}
