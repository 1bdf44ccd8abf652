//! Contractions on tensor cores: m16n8k16 with 16-bit operands and an f32 accumulator.
//!
//! What: one instruction per 16 rows, 8 columns and 16 contracted positions that the warp owns. Operands in shared
//! memory are fetched as 8x8 matrices right before they are used (transposed where the free index is contiguous);
//! operands in registers already are fragments. Where threads hold one row only, the instruction's other 8 are zeros, whose
//! results nobody reads.
//! Pre: the result's layout is one that [`Dot::accepts`].

use tilewright_ir::tile::{AxisBit, DotKind, Layout, Place};
use tilewright_ir::{DType, Tile};

use super::tiles::name;
use super::{Emitter, sum};
use crate::CodegenError;
use crate::bits::{LANE_BITS, reg_of, thread_part, weighted};
use crate::layout::dot::{Dot, Groups};
use crate::layout::shared::{MatrixRows, SharedMap};

/// One operand: where it is and how its fragments are indexed.
struct Operand<'a> {
    tile: Tile,
    /// The free bits, lowest first.
    free: &'a [AxisBit],
    /// The register bits of the result that choose a fragment: (bit of the loop variable, free bit).
    steps: Vec<(usize, AxisBit)>,
    /// The register layout that the instruction reads.
    fragment: Layout,
    /// The bits of free and contracted positions that lanes 3 and 4 address in a fetch of four matrices.
    matrices: [Option<AxisBit>; 2],
}

impl Emitter<'_> {
    /// Emits a contraction.
    pub(super) fn dot(&mut self, at: usize, dot: Dot<'_>) -> Result<(), CodegenError> {
        let shared =
            [dot.a, dot.b].into_iter().filter(|&t| matches!(self.p.tiles[t].place, Place::Shared { .. }));
        for access in 0..shared.count() {
            self.synchronise(at, access);
        }
        self.declare(dot.out)?;
        let len = self.array_len(dot.out)?;
        match dot.acc {
            Some(acc) => {
                if self.layout(acc)? != self.layout(dot.out)? {
                    return self.malformed(format!("{acc} and {} have different layouts", dot.out));
                }
                self.copy(&name(dot.out), &name(acc), len);
            }
            None => {
                self.open_unrolled("r", len);
                self.line(format!("{}[r] = 0;", name(dot.out)));
                self.close();
            }
        }
        match dot.kind {
            DotKind::Mma(dtype) | DotKind::Vectors(dtype) => self.matrix_dot(dot, dtype),
            DotKind::Fma => self.rows_dot(dot),
        }
    }

    fn matrix_dot(&mut self, dot: Dot<'_>, dtype: DType) -> Result<(), CodegenError> {
        let g = dot.groups(self.p);
        let layout = self.layout(dot.out)?;
        if !dot.accepts(self.p, &layout) {
            return self.malformed(format!("the layout of {} is not an accumulator's", dot.out));
        }
        let steps = |bits: &[AxisBit]| -> Vec<AxisBit> {
            layout.regs[g.own().len()..].iter().copied().filter(|b| bits.contains(b)).collect()
        };
        let (m_steps, n_steps) = (steps(&g.m), steps(&g.n));
        let (fa, fb) = dot.fragments(self.p, &layout);
        let number = |s: &[AxisBit]| s.iter().copied().enumerate().collect::<Vec<_>>();
        let a = Operand {
            tile: dot.a,
            free: &g.m,
            steps: number(&m_steps),
            fragment: fa,
            matrices: g.upper().map_or([Some(g.k[3]), None], |upper| [Some(upper), Some(g.k[3])]),
        };
        let b = Operand {
            tile: dot.b,
            free: &g.n,
            steps: number(&n_steps),
            fragment: fb,
            matrices: [Some(g.k[3]), n_steps.first().copied()],
        };
        self.open("{");
        let a_code = self.prepare(&a, &layout, &g)?;
        let b_code = self.prepare(&b, &layout, &g)?;
        let t = name(dot.out);
        let (words, rows, upper) = match g.upper() {
            Some(_) => (4, "a[m][0], a[m][1], a[m][2], a[m][3]", format!("{t}[c + 2], {t}[c + 3]")),
            None => {
                self.line("float rest[2] = {0.0f, 0.0f};");
                (2, "a[m][0], 0u, a[m][1], 0u", "rest[0], rest[1]".to_owned())
            }
        };
        self.open_unrolled("k", 1 << (g.k.len() - 4));
        self.line(format!("u32 a[{}][{words}];", 1 << m_steps.len()));
        self.open_unrolled("m", 1 << m_steps.len());
        self.fetch(&a, &a_code, "m", "a[m]", words, &g)?;
        self.close();
        // Columns go in pairs where there are two, because four matrices are fetched at once.
        let pair = usize::from(!n_steps.is_empty());
        self.open_unrolled("j", 1 << (n_steps.len() - pair));
        self.line(format!("u32 b[{}];", 2 << pair));
        self.line(format!("const int n = j * {};", 1 << pair));
        self.fetch(&b, &b_code, "n", "b", 2 << pair, &g)?;
        self.open_unrolled("i", 1 << pair);
        self.open_unrolled("m", 1 << m_steps.len());
        let place = |bit: AxisBit| reg_of(&layout, bit).map_or(0, |q| 1i64 << q);
        let m_at: Vec<(usize, i64)> = m_steps.iter().enumerate().map(|(n, &b)| (n, place(b))).collect();
        let n_at: Vec<(usize, i64)> = n_steps.iter().enumerate().map(|(n, &b)| (n, place(b))).collect();
        let c = sum([weighted("m", &m_at), weighted("(n + i)", &n_at)]);
        self.line(format!("const int c = {c};"));
        let suffix = super::tiles::suffix(dtype);
        self.line(format!("tw_mma_{suffix}({t}[c], {t}[c + 1], {upper}, {rows}, b[2 * i], b[2 * i + 1]);"));
        for _ in 0..5 {
            self.close();
        }
        Ok(())
    }

    /// Emits what all fragments of an operand share and returns the name of its address (or array).
    fn prepare(&mut self, o: &Operand<'_>, result: &Layout, g: &Groups) -> Result<String, CodegenError> {
        if matches!(self.p.tiles[o.tile].place, Place::Registers(_)) {
            let have = self.layout(o.tile)?;
            if have.lanes != o.fragment.lanes
                || have.warps != o.fragment.warps
                || have.regs.first() != g.k.first()
            {
                return self.malformed(format!("{} is not a fragment of its contraction", o.tile));
            }
            return Ok(name(o.tile));
        }
        let (map, offset) = self.shared(o.tile)?;
        let rows = map.matrix_rows(o.free, &g.k);
        let bytes = |bit: AxisBit| map.weight(bit) * map.element as i64;
        let thread = match rows {
            MatrixRows::Neither => thread_part(&o.fragment, bytes),
            _ => {
                let along = if rows == MatrixRows::Contracted { o.free } else { &g.k };
                let mut lanes: Vec<Option<AxisBit>> = along[..3].iter().map(|&b| Some(b)).collect();
                lanes.extend(o.matrices);
                lanes.resize(LANE_BITS, None);
                let warps = result.warps.iter().map(|b| b.filter(|b| o.free.contains(b))).collect();
                thread_part(&Layout { regs: vec![], lanes, warps }, bytes)
            }
        };
        let thread = thread.map(|code| self.per_thread(code));
        let s = self.fresh("s");
        match rows {
            MatrixRows::Neither => {
                let address = sum([Some(format!("smem + {offset}")), thread]);
                self.line(format!("const unsigned char* {s} = {address};"));
            }
            _ => {
                let base = format!("(u32)__cvta_generic_to_shared(smem) + {offset}");
                let address = sum([Some(base), thread.map(|t| format!("(u32){t}"))]);
                self.line(format!("const u32 {s} = {address};"));
            }
        }
        Ok(s)
    }

    /// Emits the fetch of one fragment (of `count` words) into `to`.
    fn fetch(
        &mut self,
        o: &Operand<'_>,
        code: &str,
        var: &str,
        to: &str,
        count: usize,
        g: &Groups,
    ) -> Result<(), CodegenError> {
        let k_steps: Vec<(usize, AxisBit)> = g.k[4..].iter().copied().enumerate().collect();
        let at = |weight: &dyn Fn(AxisBit) -> i64| {
            let pairs =
                |steps: &[(usize, AxisBit)]| steps.iter().map(|&(n, b)| (n, weight(b))).collect::<Vec<_>>();
            [weighted(var, &pairs(&o.steps)), weighted("k", &pairs(&k_steps))]
        };
        // The words of a fragment: bit 0 and bit 1 of the word number.
        let second = o.steps.first().map(|s| s.1);
        let word_bits =
            if count == 4 && o.matrices[0] == Some(g.k[3]) { [Some(g.k[3]), second] } else { o.matrices };
        if matches!(self.p.tiles[o.tile].place, Place::Registers(_)) {
            let layout = self.layout(o.tile)?;
            let word = |bit: AxisBit| reg_of(&layout, bit).map_or(0, |q| (1i64 << q) >> 1);
            let [step, k] = at(&word);
            let inner: Vec<(usize, i64)> =
                word_bits.iter().enumerate().filter_map(|(n, b)| Some((n, word((*b)?)))).collect();
            self.open_unrolled("w", count);
            self.line(format!("{to}[w] = {code}[{}];", sum([step, k, weighted("w", &inner)])));
            self.close();
            return Ok(());
        }
        let (map, _) = self.shared(o.tile)?;
        let bytes = |bit: AxisBit| map.weight(bit) * map.element as i64;
        let [step, k] = at(&bytes);
        match map.matrix_rows(o.free, &g.k) {
            MatrixRows::Neither => self.gather(&map, code, to, count, [step, k], word_bits, g),
            rows => {
                let transposed = if rows == MatrixRows::Free { "t" } else { "" };
                let address = sum([Some(code.to_owned()), step, k]);
                self.line(format!("tw_matrix{count}{transposed}({to}, {address});"));
                Ok(())
            }
        }
    }

    /// Builds the words of a fragment from single elements.
    #[allow(clippy::too_many_arguments)]
    fn gather(
        &mut self,
        map: &SharedMap,
        code: &str,
        to: &str,
        count: usize,
        parts: [Option<String>; 2],
        word_bits: [Option<AxisBit>; 2],
        g: &Groups,
    ) -> Result<(), CodegenError> {
        let bytes = |bit: AxisBit| map.weight(bit) * map.element as i64;
        let inner: Vec<(usize, i64)> =
            word_bits.iter().enumerate().filter_map(|(n, b)| Some((n, bytes((*b)?)))).collect();
        self.open_unrolled("w", count);
        let [step, k] = parts;
        let address = sum([Some(code.to_owned()), step, k, weighted("w", &inner)]);
        let pair = bytes(g.k[0]);
        self.line(format!("{to}[w] = tw_pair(*(const u16*)({address}), *(const u16*)({address} + {pair}));"));
        self.close();
        Ok(())
    }
}
