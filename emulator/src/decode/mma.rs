//! What: `mma.sync`.
//! Why here: shapes and types are checked once, so that the machine only computes.
//! Pre: a shape and types of the ISA.
//! Post: fragment registers in the order of the ISA.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{Mma, MmaAcc, MmaTy, NONE, Op, Slot};
use crate::parse::ast::Operand;
use crate::types::Ty;

const NO: Slot = Slot::No;

/// Forms of the ISA that this machine does not run.
fn foreign(m: &Mods<'_>) -> Option<&'static str> {
    let found = m.take_if(|p| {
        matches!(p, "sp" | "sp::ordered_metadata" | "s4" | "u4" | "b1" | "block_scale")
            || p.starts_with("kind::")
            || matches!(p, "e3m2" | "e2m3" | "e2m1")
    });
    Some(match *found.first()? {
        "sp" | "sp::ordered_metadata" => "sparse mma is not supported: use the dense form",
        "s4" | "u4" => "4-bit mma is not supported: widen to .s8 or .u8",
        "b1" => "single-bit mma is not supported",
        _ => "mma of fp4, fp6 and scaled types is not supported",
    })
}

impl<'a> Build<'_, 'a> {
    pub(super) fn mma(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if let Some(what) = foreign(m) {
            return self.fail(what);
        }
        if !m.has("sync") || !m.has("aligned") {
            return self.fail("only mma.sync.aligned exists");
        }
        let (Some(a_major), Some(b_major)) = (m.one_of(&["row", "col"]), m.one_of(&["row", "col"])) else {
            return self.fail("the layouts of A and B are missing");
        };
        let shapes = ["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m8n8k4", "m8n8k16"];
        let Some(shape) = m.one_of(&shapes) else { return self.fail("this shape of mma is not supported") };
        let (rows, k) = [(16u8, 4u8), (16, 8), (16, 16), (16, 32), (8, 4), (8, 16)][shape];
        let saturate = m.has("satfinite");
        let types = m.types();
        let [dt, at, bt, ct] = types[..] else { return self.fail("mma has four types") };
        let ty = |t: Ty| {
            Some(match t {
                Ty::Bf16 => MmaTy::Bf16,
                Ty::F16 => MmaTy::F16,
                Ty::Tf32 => MmaTy::Tf32,
                Ty::S8 => MmaTy::S8,
                Ty::U8 => MmaTy::U8,
                Ty::E4m3 => MmaTy::E4m3,
                Ty::E5m2 => MmaTy::E5m2,
                Ty::F64 => MmaTy::F64,
                _ => return None,
            })
        };
        let (Some(a_ty), Some(b_ty)) = (ty(at), ty(bt)) else {
            return self.fail("mma of these types is not supported");
        };
        let quads = a_ty == MmaTy::F16 && (rows, k) == (8, 4);
        if !quads && (a_major, b_major) != (0, 1) {
            return self.fail("this mma wants .row.col");
        }
        let acc = match (dt, ct) {
            (Ty::F32, Ty::F32) => MmaAcc::F32,
            (Ty::F32, Ty::F16) if quads => MmaAcc::F32,
            (Ty::F16, Ty::F16) => MmaAcc::F16,
            (Ty::S32, Ty::S32) => MmaAcc::S32,
            (Ty::F64, Ty::F64) => MmaAcc::F64,
            _ => return self.fail("mma with these accumulators does not exist"),
        };
        if saturate && acc != MmaAcc::S32 {
            return self.fail("`.satfinite` wants integers");
        }
        let per_reg = match a_ty {
            MmaTy::Bf16 | MmaTy::F16 => 2u8,
            MmaTy::Tf32 | MmaTy::F64 => 1,
            _ => 4,
        };
        let floats = matches!(acc, MmaAcc::F32 | MmaAcc::F16);
        let ok = match a_ty {
            MmaTy::F64 => {
                acc == MmaAcc::F64 && b_ty == a_ty && matches!((rows, k), (8, 4) | (16, 4 | 8 | 16))
            }
            MmaTy::S8 | MmaTy::U8 => {
                acc == MmaAcc::S32
                    && matches!(b_ty, MmaTy::S8 | MmaTy::U8)
                    && matches!((rows, k), (16, 16 | 32) | (8, 16))
            }
            MmaTy::Tf32 => acc == MmaAcc::F32 && a_ty == b_ty && matches!((rows, k), (16, 4 | 8)),
            MmaTy::Bf16 => acc == MmaAcc::F32 && a_ty == b_ty && matches!((rows, k), (16, 8 | 16)),
            MmaTy::F16 => floats && a_ty == b_ty && matches!((rows, k), (16, 8 | 16) | (8, 4)),
            MmaTy::E4m3 | MmaTy::E5m2 => {
                floats && matches!(b_ty, MmaTy::E4m3 | MmaTy::E5m2) && matches!((rows, k), (16, 16 | 32))
            }
        };
        if !ok {
            return self.fail("this combination of shape and types does not exist");
        }
        self.need(o, 4)?;
        let counts = if quads {
            [2, 2, if acc == MmaAcc::F16 { 4 } else { 8 }]
        } else {
            let blocks = k / (4 * per_reg);
            [blocks * (rows / 8), blocks, if acc == MmaAcc::F16 { rows / 8 } else { rows / 4 }]
        };
        let operand_ty = if a_ty == MmaTy::F64 { Ty::B64 } else { Ty::B32 };
        let acc_ty = if acc == MmaAcc::F64 { Ty::B64 } else { Ty::B32 };
        let c_half = quads && dt != ct;
        let mut c = self.fragment(&o[3], if c_half { 4 } else { counts[2] }, acc_ty, false)?;
        if c_half {
            c.copy_within(0..4, 4);
        }
        let mma = Box::new(Mma {
            a_ty,
            b_ty,
            acc,
            m: rows,
            k,
            saturate,
            counts,
            d: self.fragment(&o[0], counts[2], acc_ty, true)?,
            a: self.fragment(&o[1], counts[0], operand_ty, false)?,
            b: self.fragment(&o[2], counts[1], operand_ty, false)?,
            c,
            c_half,
            quads: quads.then_some([a_major == 1, b_major == 1]),
        });
        self.push(Op::Mma(mma), [NONE; 4], [NO; 4]);
        Ok(())
    }

    /// The rows of a fragment.
    pub(super) fn fragment<const N: usize>(
        &mut self,
        op: &Operand<'a>,
        n: u8,
        ty: Ty,
        written: bool,
    ) -> Result<[u32; N], PtxError> {
        let list = match op {
            Operand::Vec(l) => l.as_slice(),
            one => std::slice::from_ref(one),
        };
        if list.len() != usize::from(n) {
            return self.fail(format!("{} registers where mma wants {n}", list.len()));
        }
        let mut rows = [NONE; N];
        for (slot, r) in rows.iter_mut().zip(list) {
            *slot = if written { self.dst(r, ty)? } else { self.src(r, ty)? };
        }
        Ok(rows)
    }
}
