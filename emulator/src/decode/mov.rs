//! What: moves, packing and unpacking of vectors, transposition across a warp, and cache policies.
//! Why here: instructions that only carry bits from one place to another.
//! Pre: an instruction of this family.
//! Post: bits arrive unchanged; a 128-bit register is a pair of 64-bit rows, low part first.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{NONE, Op, PredOp, ShflMode, Slot, WarpOp};
use crate::lanes::{bin, ter, un};
use crate::parse::ast::Operand;
use crate::program::{RowValue, Special};
use crate::types::Ty;

/// The 8-bit lane `i` of a word, as the row of an 8-bit register holds it.
macro_rules! byte {
    ($i:expr) => {
        un(|a: u32| (a >> (8 * $i)) as u8 as u16)
    };
}

impl<'a> Build<'_, 'a> {
    pub(super) fn mov(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let types = m.types();
        let [ty] = types[..] else { return self.fail("mov has one type") };
        self.need(o, 2)?;
        if ty == Ty::Pred {
            let (d, a) = (self.pred_dst(&o[0])?, self.pred(&o[1])?);
            self.pred_op(PredOp::Mov, d, a, a);
            return Ok(());
        }
        if ty == Ty::B128 {
            return self.mov_wide(o);
        }
        match (&o[0], &o[1]) {
            (Operand::Vec(ds), a) => self.unpack(ty, ds, a),
            (_, Operand::Vec(v)) => {
                let d = self.dst(&o[0], ty)?;
                self.pack(ty, d, v)
            }
            _ => {
                let (d, a) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?);
                self.copy(ty.bits(), d, a);
                Ok(())
            }
        }
    }

    fn mov_wide(&mut self, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let from = match &o[1] {
            Operand::Vec(v) if v.len() == 2 => [self.src(&v[0], Ty::B64)?, self.src(&v[1], Ty::B64)?],
            one => self.wide(one)?,
        };
        let to = match &o[0] {
            Operand::Vec(v) if v.len() == 2 => [self.dst(&v[0], Ty::B64)?, self.dst(&v[1], Ty::B64)?],
            one => self.wide(one)?,
        };
        // Both parts are read before one is written: they may change places.
        let keep = [self.temp(64), self.temp(64)];
        for (d, a) in keep.into_iter().zip(from).chain(to.into_iter().zip(keep)) {
            self.copy(64, d, a);
        }
        Ok(())
    }

    fn pack(&mut self, ty: Ty, d: u32, v: &[Operand<'a>]) -> Result<(), PtxError> {
        let join16 = || bin(|a: u16, b: u16| u32::from(a) | u32::from(b) << 16);
        let join8 = || bin(|a: u16, b: u16| a & 0xff | b << 8);
        let join32 = || bin(|a: u32, b: u32| u64::from(a) | u64::from(b) << 32);
        match (ty.bits(), v) {
            (16, [a, b]) => {
                let (a, b) = (self.src(a, Ty::B8)?, self.src(b, Ty::B8)?);
                self.alu2(join8(), d, a, b);
            }
            (32, [a, b]) => {
                let (a, b) = (self.src(a, Ty::B16)?, self.src(b, Ty::B16)?);
                self.alu2(join16(), d, a, b);
            }
            (32, [a, b, x, y]) => {
                let (lo, hi) = (self.temp(16), self.temp(16));
                self.pack(Ty::B16, lo, &[a.clone(), b.clone()])?;
                self.pack(Ty::B16, hi, &[x.clone(), y.clone()])?;
                self.alu2(join16(), d, lo, hi);
            }
            (64, [a, b]) => {
                let (a, b) = (self.src(a, Ty::B32)?, self.src(b, Ty::B32)?);
                self.alu2(join32(), d, a, b);
            }
            (64, [a, b, x, y]) => {
                let (lo, hi) = (self.temp(32), self.temp(32));
                self.pack(Ty::B32, lo, &[a.clone(), b.clone()])?;
                self.pack(Ty::B32, hi, &[x.clone(), y.clone()])?;
                self.alu2(join32(), d, lo, hi);
            }
            _ => return self.fail("a vector of this shape does not pack into this type"),
        }
        Ok(())
    }

    fn unpack(&mut self, ty: Ty, ds: &[Operand<'a>], a: &Operand<'a>) -> Result<(), PtxError> {
        let a = self.src(a, ty)?;
        let (part, parts) = match (ty.bits(), ds.len()) {
            (16, 2) => (Ty::B8, vec![un(|a: u16| a & 0xff), un(|a: u16| a >> 8)]),
            (32, 2) => (Ty::B16, vec![un(|a: u32| a as u16), un(|a: u32| (a >> 16) as u16)]),
            (32, 4) => (Ty::B8, vec![byte!(0), byte!(1), byte!(2), byte!(3)]),
            (64, 2) => (Ty::B32, vec![un(|a: u64| a as u32), un(|a: u64| (a >> 32) as u32)]),
            (64, 4) => (
                Ty::B16,
                vec![
                    un(|a: u64| a as u16),
                    un(|a: u64| (a >> 16) as u16),
                    un(|a: u64| (a >> 32) as u16),
                    un(|a: u64| (a >> 48) as u16),
                ],
            ),
            _ => return self.fail("this type does not unpack into a vector of this shape"),
        };
        for (d, f) in ds.iter().zip(parts) {
            let d = self.dst(d, part)?;
            self.alu1(f, d, a);
        }
        Ok(())
    }

    /// `movmatrix`: lane 4 g + t gets elements (2 t, g) and (2 t + 1, g), which two shuffles bring.
    pub(super) fn movmatrix(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let all = m.has("sync") && m.has("aligned") && m.has("m8n8") && m.has("trans");
        if !all || m.types() != [Ty::B16] {
            return self.fail("only movmatrix.sync.aligned.m8n8.trans.b16 exists");
        }
        self.need(o, 2)?;
        let (d, a) = (self.dst(&o[0], Ty::B32)?, self.src(&o[1], Ty::B32)?);
        let lane = self.constant(32, RowValue::Special(Special::Lane));
        let (clamp, mask) = (self.imm(32, 31), self.imm(32, 0xffff_ffff));
        let mut got = [NONE; 2];
        for (row, got) in got.iter_mut().enumerate() {
            let from = self.temp(32);
            *got = self.temp(32);
            let place = if row == 0 {
                un(|l: u32| (l & 3) * 8 + l / 8)
            } else {
                un(|l: u32| (l & 3) * 8 + 4 + l / 8)
            };
            self.alu1(place, from, lane);
            let op = WarpOp::Shfl { mode: ShflMode::Idx, pred: NONE };
            self.push(Op::Warp { op, mask }, [*got, a, from, clamp], [Slot::Row; 4]);
        }
        let join = ter(|x: u32, y: u32, l: u32| {
            let s = (l >> 2 & 1) * 16;
            x >> s & 0xffff | (y >> s & 0xffff) << 16
        });
        self.alu3(join, d, got[0], got[1], lane);
        Ok(())
    }

    /// `createpolicy`: an opaque value, since caches change no result.
    pub(super) fn policy(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let form = m.one_of(&["fractional", "range", "cvt"]);
        let _ = (m.has("global"), m.take_if(|p| p == "L2" || p.starts_with("L2::evict_")));
        let wanted = match form {
            Some(0) => 1..=2,
            Some(1) => 4..=4,
            Some(_) => 2..=2,
            None => return self.fail("createpolicy wants `.fractional`, `.range` or `.cvt`"),
        };
        if m.types() != [Ty::B64] || !wanted.contains(&o.len()) {
            return self.fail("a cache policy is a .b64 of a priority and its share");
        }
        let d = self.dst(&o[0], Ty::B64)?;
        let zero = self.imm(64, 0);
        self.copy(64, d, zero);
        Ok(())
    }
}
