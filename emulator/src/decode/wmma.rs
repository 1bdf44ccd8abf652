//! What: `wmma.load`, `wmma.mma` and `wmma.store`.
//! Why here: the ISA leaves open where a fragment keeps its elements; the choice is made here, once, and is that of
//! `mma.sync`, so that a `wmma.mma` is one or two of those and tables place what loads and stores move.
//! Pre: a shape, types and layouts of the ISA.
//! Post: accumulators of a shape keep the same elements in the same order whatever their type. A of columns and B of
//! rows keep their registers in another order than A of rows and B of columns, so that a fragment that is loaded
//! with one layout and multiplied as the other gives a wrong product where it has more than one register.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{Mma, MmaAcc, MmaTy, NONE, Op, Slot, Space, Tile};
use crate::lanes::{bin, un};
use crate::numeric::half::{f16_to_f32, f32_to_f16};
use crate::parse::ast::Operand;
use crate::types::Ty;

const SHAPES: [&str; 5] = ["m16n16k16", "m32n8k16", "m8n32k16", "m16n16k8", "m8n8k4"];

/// Rows of A, columns of B, and what is between.
#[derive(Clone, Copy)]
struct Shape {
    index: usize,
    m: u8,
    n: u8,
    k: u8,
}

impl Shape {
    /// Whether the product is computed transposed, because only the first factor can have many rows.
    fn swapped(self) -> bool {
        self.m < self.n
    }
    fn holds(self, ty: Ty) -> bool {
        match ty {
            Ty::F16 | Ty::Bf16 | Ty::S8 | Ty::U8 | Ty::S32 => self.index < 3,
            Ty::F32 => self.index < 4,
            Ty::Tf32 => self.index == 3,
            _ => self.index == 4,
        }
    }
}

/// Which matrix a fragment is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    A,
    B,
    Acc,
}

/// How a fragment keeps its matrix: in tiles of eight lines of `outer` and four lanes' elements of `inner`.
struct Layout {
    ty: Ty,
    /// Elements of a lane in a tile, and in a register.
    each: u8,
    per_reg: u8,
    outer: u8,
    inner: u8,
    /// Tiles pair along `outer` first, as in the first factor of `mma.sync`.
    paired: bool,
    /// Whether elements of `inner` are neighbours in memory.
    runs_inner: bool,
    rotated: bool,
    /// Registers that differ, and registers of the fragment.
    distinct: u8,
    regs: u8,
}

impl Layout {
    fn new(part: Part, shape: Shape, ty: Ty, columns: bool) -> Layout {
        let Shape { m, n, k, .. } = shape;
        let swapped = shape.swapped();
        let per_reg = (4 / (ty.bits() / 8)).max(1) as u8;
        let each = if part == Part::Acc { 2 } else { per_reg };
        let (outer, inner, runs_inner) = match part {
            Part::A => (m, k, !columns),
            Part::B => (n, k, columns),
            Part::Acc if swapped => (n, m, columns),
            Part::Acc => (m, n, !columns),
        };
        let distinct = (outer / 8) * (inner / (4 * each)) * each / per_reg;
        let double = ty == Ty::F16 && part != Part::Acc;
        Layout {
            ty,
            each,
            per_reg,
            outer,
            inner,
            paired: part == Part::Acc || (part == Part::B) == swapped,
            runs_inner,
            rotated: part != Part::Acc && !runs_inner,
            distinct,
            regs: if double { 8 } else { distinct },
        }
    }

    /// The type of the registers.
    fn reg_ty(&self) -> Ty {
        if self.ty == Ty::F64 { Ty::B64 } else { Ty::B32 }
    }

    /// The register that holds what is the i-th in the order of `mma.sync`.
    fn register(&self, i: u8) -> u8 {
        if self.rotated { (i + 1) % self.distinct } else { i }
    }

    /// Register, lane and part of the register of an element.
    fn slot(&self, u: u8, v: u8) -> (u8, u8, u8) {
        let width = 4 * self.each;
        let across = self.inner / width;
        let (tu, tv) = (u / 8, v / width);
        let tile = match (self.paired, self.outer) {
            (false, _) => tu * across + tv,
            (true, 8) => tv,
            (true, _) => tu / 2 * 2 * across + 2 * tv + tu % 2,
        };
        let at = tile * self.each + v % self.each;
        (self.register(at / self.per_reg), u % 8 * 4 + v % width / self.each, at % self.per_reg)
    }

    /// Elements of a line of memory.
    fn line(&self) -> u8 {
        if self.runs_inner { self.inner } else { self.outer }
    }

    /// For each element in the order of memory, where it lies among the bytes of the distinct registers.
    fn map(&self) -> Box<[u16]> {
        let size = self.ty.bits() as u16 / 8;
        let line = u16::from(self.line());
        (0..u16::from(self.outer) * u16::from(self.inner))
            .map(|q| {
                let (l, i) = ((q / line) as u8, (q % line) as u8);
                let (u, v) = if self.runs_inner { (l, i) } else { (i, l) };
                let (reg, lane, part) = self.slot(u, v);
                let reg_bytes = size * u16::from(self.per_reg);
                (u16::from(reg) * 32 + u16::from(lane)) * reg_bytes + u16::from(part) * size
            })
            .collect()
    }
}

/// The registers of a factor for a block: either factor has two blocks, and the other serves both.
fn of_block(regs: &[u32; 8], distinct: u8, block: u8, count: u8) -> &[u32] {
    let from = if distinct > count { usize::from(block * count) } else { 0 };
    &regs[from..from + usize::from(count)]
}

impl<'a> Build<'_, 'a> {
    pub(super) fn wmma(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let Some(what) = m.one_of(&["load", "store", "mma"]) else {
            return self.fail("wmma loads, stores or multiplies: `.load`, `.store` or `.mma` is missing");
        };
        if m.has("m8n8k32") || m.has("m8n8k128") {
            return self.fail("wmma of 4-bit and single-bit types is not supported: widen to .s8 or .u8");
        }
        if what == 2 {
            return self.wmma_product(m, o);
        }
        let store = what == 1;
        let part = match (store, m.one_of(&["a", "b", "c", "d"])) {
            (false, Some(0)) => Part::A,
            (false, Some(1)) => Part::B,
            (false, Some(2)) | (true, Some(3)) => Part::Acc,
            _ => return self.fail("wmma.load wants .a, .b or .c, and wmma.store .d"),
        };
        let (shape, columns) = (self.wmma_shape(m)?, self.wmma_major(m)?);
        let space = match self.space(m) {
            None => Space::Generic,
            Some(s @ (Space::Global | Space::Shared)) => s,
            Some(_) => return self.fail("wmma accesses global or shared memory"),
        };
        let types = m.types();
        let [ty] = types[..] else { return self.fail("wmma.load and wmma.store have one type") };
        let operand = matches!(ty, Ty::F16 | Ty::Bf16 | Ty::Tf32 | Ty::S8 | Ty::U8 | Ty::F64);
        let sum = matches!(ty, Ty::F16 | Ty::F32 | Ty::S32 | Ty::F64);
        if !(if part == Part::Acc { sum } else { operand }) || !shape.holds(ty) {
            return self.fail("this fragment does not exist with this shape and type");
        }
        if !matches!(o.len(), 2 | 3) {
            return self.fail(format!("{} operands where 2 or 3 are wanted", o.len()));
        }
        let l = Layout::new(part, shape, ty, columns);
        let (list, at) = if store { (&o[1], &o[0]) } else { (&o[0], &o[1]) };
        let (addr, _) = self.addr(at)?;
        let stride = match o.get(2) {
            Some(s) => self.src(s, Ty::U32)?,
            None => NONE,
        };
        let size = (ty.bits() / 8) as u8;
        let bytes = u32::from(l.outer) * u32::from(l.inner) * u32::from(size);
        let tile = Box::new(Tile {
            store,
            space,
            addr,
            stride,
            size,
            line: l.line(),
            // A lane moves one part, or several of 16 bytes.
            chunk: (bytes / 32).min(16) as u8,
            align: l.regs * (l.reg_ty().bits() / 8) as u8,
            distinct: l.distinct,
            n: l.regs,
            regs: self.fragment(list, l.regs, l.reg_ty(), !store)?,
            map: l.map(),
        });
        self.push(Op::Tile(tile), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    fn wmma_shape(&self, m: &Mods<'a>) -> Result<Shape, PtxError> {
        if !m.has("sync") || !m.has("aligned") {
            return self.fail("wmma is always .sync.aligned");
        }
        let Some(index) = m.one_of(&SHAPES) else { return self.fail("this shape of wmma is not supported") };
        let (m, n, k) = [(16, 16, 16), (32, 8, 16), (8, 32, 16), (16, 16, 8), (8, 8, 4)][index];
        Ok(Shape { index, m, n, k })
    }

    /// Whether the next layout is that of columns.
    fn wmma_major(&self, m: &Mods<'a>) -> Result<bool, PtxError> {
        match m.one_of(&["row", "col"]) {
            Some(i) => Ok(i == 1),
            None => self.fail("a layout is missing: .row or .col"),
        }
    }

    /// `wmma.mma` as products of `mma.sync`.
    fn wmma_product(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let shape = self.wmma_shape(m)?;
        let (a_columns, b_columns) = (self.wmma_major(m)?, self.wmma_major(m)?);
        let saturate = m.has("satfinite");
        if m.has("rn") && shape.index != 4 || m.one_of(&["rz", "rm", "rp"]).is_some() {
            return self.fail("of the rounding modes only .rn, and only for .f64, is supported");
        }
        let types = m.types();
        let (dt, at, bt, ct) = match types[..] {
            [d, c] => (d, Ty::F16, Ty::F16, c),
            [d, a, b, c] => (d, a, b, c),
            _ => return self.fail("wmma.mma has two or four types"),
        };
        let ty = |t: Ty| {
            Some(match t {
                Ty::F16 => MmaTy::F16,
                Ty::Bf16 => MmaTy::Bf16,
                Ty::Tf32 => MmaTy::Tf32,
                Ty::S8 => MmaTy::S8,
                Ty::U8 => MmaTy::U8,
                Ty::F64 => MmaTy::F64,
                _ => return None,
            })
        };
        let (Some(a_ty), Some(b_ty)) = (ty(at), ty(bt)) else {
            return self.fail("wmma.mma of these types is not supported");
        };
        let ok = match at {
            Ty::F16 => matches!((dt, ct), (Ty::F16 | Ty::F32, Ty::F16 | Ty::F32)) && bt == at,
            Ty::Bf16 | Ty::Tf32 => (dt, ct, bt) == (Ty::F32, Ty::F32, at),
            Ty::F64 => (dt, ct, bt) == (Ty::F64, Ty::F64, at),
            _ => (dt, ct) == (Ty::S32, Ty::S32) && matches!(bt, Ty::S8 | Ty::U8),
        };
        if !ok || !shape.holds(at) {
            return self.fail("this combination of shape and types does not exist");
        }
        if saturate && dt != Ty::S32 {
            return self.fail("`.satfinite` wants integers");
        }
        self.need(o, 4)?;
        let (la, lb) =
            (Layout::new(Part::A, shape, at, a_columns), Layout::new(Part::B, shape, bt, b_columns));
        let (ld, lc) = (Layout::new(Part::Acc, shape, dt, false), Layout::new(Part::Acc, shape, ct, false));
        let d: [u32; 8] = self.fragment(&o[0], ld.regs, ld.reg_ty(), true)?;
        let mut c: [u32; 8] = self.fragment(&o[3], lc.regs, lc.reg_ty(), false)?;
        let mut factor = |i: usize, l: &Layout| -> Result<[u32; 8], PtxError> {
            let regs: [u32; 8] = self.fragment(&o[i], l.regs, l.reg_ty(), false)?;
            Ok(std::array::from_fn(|i| {
                if i < usize::from(l.distinct) { regs[usize::from(l.register(i as u8))] } else { NONE }
            }))
        };
        let mut factors = [(factor(1, &la)?, la, a_ty), (factor(2, &lb)?, lb, b_ty)];
        if shape.swapped() {
            factors.reverse();
        }
        let [first, second] = factors;
        // What is summed in: f16 only where both sides are.
        let acc = match (dt, ct) {
            (Ty::F16, Ty::F16) => MmaAcc::F16,
            (Ty::S32, _) => MmaAcc::S32,
            (Ty::F64, _) => MmaAcc::F64,
            _ => MmaAcc::F32,
        };
        if ct == Ty::F16 && dt == Ty::F32 {
            c = self.halves_apart(&c);
        }
        let narrow = ct == Ty::F32 && dt == Ty::F16;
        let (rows, blocks) = if acc == MmaAcc::F64 { (8, 1) } else { (16, 2) };
        let sums = if acc == MmaAcc::F16 || acc == MmaAcc::F64 { 2u8 } else { 4 };
        let across = shape.k / (4 * first.1.each);
        let counts = [rows / 8 * across, across, sums];
        // The second product must not find the results of the first where it reads.
        let sources = || first.0.iter().chain(&second.0).chain(&c);
        let apart = narrow || blocks > 1 && d.iter().any(|r| *r != NONE && sources().any(|s| s == r));
        let to = if apart {
            let bits = ld.reg_ty().bits();
            std::array::from_fn(|_| self.temp(bits))
        } else {
            d
        };
        for block in 0..blocks {
            // Either factor has the two blocks; the other serves both.
            let part = usize::from(block * sums)..usize::from((block + 1) * sums);
            let mut mma = Mma {
                a_ty: first.2,
                b_ty: second.2,
                acc,
                m: rows,
                k: shape.k,
                saturate,
                counts,
                a: [NONE; 8],
                b: [NONE; 4],
                c: [NONE; 8],
                d: [NONE; 8],
                quads: None,
                c_half: false,
            };
            mma.a[..usize::from(counts[0])].copy_from_slice(of_block(
                &first.0,
                first.1.distinct,
                block,
                counts[0],
            ));
            mma.b[..usize::from(counts[1])].copy_from_slice(of_block(
                &second.0,
                second.1.distinct,
                block,
                counts[1],
            ));
            mma.c[..usize::from(sums)].copy_from_slice(&c[part.clone()]);
            mma.d[..usize::from(sums)].copy_from_slice(&to[part]);
            self.push(Op::Mma(Box::new(mma)), [NONE; 4], [Slot::No; 4]);
        }
        if narrow {
            let join = |low: f32, high: f32| u32::from(f32_to_f16(low)) | u32::from(f32_to_f16(high)) << 16;
            for (i, r) in d.iter().enumerate().take(4) {
                self.alu2(bin(join), *r, to[2 * i], to[2 * i + 1]);
            }
        } else if apart {
            for (r, t) in d.iter().zip(to).take(usize::from(ld.regs)) {
                self.copy(ld.reg_ty().bits(), *r, t);
            }
        }
        Ok(())
    }

    /// Four registers of f16 pairs as eight of f32.
    fn halves_apart(&mut self, c: &[u32; 8]) -> [u32; 8] {
        std::array::from_fn(|i| {
            let t = self.temp(32);
            let f = if i % 2 == 0 {
                un(|v: u32| f16_to_f32(v as u16))
            } else {
                un(|v: u32| f16_to_f32((v >> 16) as u16))
            };
            self.alu1(f, t, c[i / 2]);
            t
        })
    }
}
