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

impl<'a> Build<'_, 'a> {
    pub(super) fn mma(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if !m.has("sync") || !m.has("aligned") || !m.has("row") || !m.has("col") {
            return self.fail("only mma.sync.aligned with .row.col is supported");
        }
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
        let (acc, counts) = match (dt, ct) {
            (Ty::F32, Ty::F32) => (MmaAcc::F32, rows / 4),
            (Ty::F16, Ty::F16) => (MmaAcc::F16, rows / 8),
            (Ty::S32, Ty::S32) => (MmaAcc::S32, rows / 4),
            (Ty::F64, Ty::F64) => (MmaAcc::F64, rows / 4),
            _ => return self.fail("mma with these accumulators is not supported"),
        };
        let per_reg = match a_ty {
            MmaTy::Bf16 | MmaTy::F16 => 2u8,
            MmaTy::Tf32 | MmaTy::F64 => 1,
            _ => 4,
        };
        let blocks = k / (4 * per_reg);
        let ok = match a_ty {
            MmaTy::F64 => acc == MmaAcc::F64 && b_ty == MmaTy::F64 && rows == 8 && k == 4,
            MmaTy::S8 | MmaTy::U8 => {
                acc == MmaAcc::S32
                    && matches!(b_ty, MmaTy::S8 | MmaTy::U8)
                    && matches!((rows, k), (16, 16 | 32) | (8, 16))
            }
            MmaTy::Tf32 => acc == MmaAcc::F32 && a_ty == b_ty && matches!((rows, k), (16, 4 | 8)),
            MmaTy::Bf16 => acc == MmaAcc::F32 && a_ty == b_ty && matches!((rows, k), (16, 8 | 16)),
            MmaTy::F16 => {
                matches!(acc, MmaAcc::F32 | MmaAcc::F16) && a_ty == b_ty && matches!((rows, k), (16, 8 | 16))
            }
            MmaTy::E4m3 | MmaTy::E5m2 => {
                matches!(acc, MmaAcc::F32)
                    && matches!(b_ty, MmaTy::E4m3 | MmaTy::E5m2)
                    && matches!((rows, k), (16, 16 | 32))
            }
        };
        if !ok {
            return self.fail("this combination of shape and types is not supported");
        }
        self.need(o, 4)?;
        let counts = [blocks * (rows / 8), blocks, counts];
        let mut v: [Vec<u32>; 4] = Default::default();
        let wide_in = a_ty == MmaTy::F64;
        let operand_ty = if wide_in { Ty::B64 } else { Ty::B32 };
        let acc_ty = if acc == MmaAcc::F64 { Ty::B64 } else { Ty::B32 };
        for (i, (op, n, t)) in [
            (&o[0], counts[2], acc_ty),
            (&o[1], counts[0], operand_ty),
            (&o[2], counts[1], operand_ty),
            (&o[3], counts[2], acc_ty),
        ]
        .into_iter()
        .enumerate()
        {
            let list = match op {
                Operand::Vec(l) => l.as_slice(),
                one => std::slice::from_ref(one),
            };
            if list.len() != n as usize {
                return self.fail(format!("{} registers where mma wants {n}", list.len()));
            }
            for r in list {
                let row = if i == 0 { self.dst(r, t)? } else { self.src(r, t)? };
                v[i].push(row);
            }
        }
        fn fill<const N: usize>(v: &[u32]) -> [u32; N] {
            let mut out = [NONE; N];
            out.iter_mut().zip(v).for_each(|(o, v)| *o = *v);
            out
        }
        let mma = Box::new(Mma {
            a_ty,
            b_ty,
            acc,
            m: rows,
            k,
            saturate,
            counts,
            d: fill(&v[0]),
            a: fill(&v[1]),
            b: fill(&v[2]),
            c: fill(&v[3]),
        });
        self.push(Op::Mma(mma), [NONE; 4], [NO; 4]);
        Ok(())
    }
}
