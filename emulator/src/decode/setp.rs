//! What: comparisons, selections and moves.
//! Why here: they share the types and the predicates.
//! Pre: an instruction of this family.
//! Post: ordered comparisons are false and unordered ones true when an operand is NaN.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{NONE, Op, PredOp, Slot};
use crate::lanes::{AluFn, bin, cmp, select, ter, un};
use crate::numeric::ftz;
use crate::numeric::half::{bf16_to_f32, f16_to_f32};
use crate::parse::ast::Operand;
use crate::types::Ty;

const OPS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
    "num", "nan",
];

/// A comparison of floats under a conversion of the operands.
macro_rules! floats {
    ($op:expr, $t:ty, $conv:expr) => {
        match $op {
            "eq" => cmp(|a: $t, b: $t| $conv(a) == $conv(b)),
            "ne" => cmp(|a: $t, b: $t| ($conv(a) < $conv(b)) | ($conv(a) > $conv(b))),
            "lt" => cmp(|a: $t, b: $t| $conv(a) < $conv(b)),
            "le" => cmp(|a: $t, b: $t| $conv(a) <= $conv(b)),
            "gt" => cmp(|a: $t, b: $t| $conv(a) > $conv(b)),
            "ge" => cmp(|a: $t, b: $t| $conv(a) >= $conv(b)),
            "equ" => cmp(|a: $t, b: $t| !(($conv(a) < $conv(b)) | ($conv(a) > $conv(b)))),
            "neu" => cmp(|a: $t, b: $t| $conv(a) != $conv(b)),
            "ltu" => cmp(|a: $t, b: $t| !($conv(a) >= $conv(b))),
            "leu" => cmp(|a: $t, b: $t| !($conv(a) > $conv(b))),
            "gtu" => cmp(|a: $t, b: $t| !($conv(a) <= $conv(b))),
            "geu" => cmp(|a: $t, b: $t| !($conv(a) < $conv(b))),
            "num" => cmp(|a: $t, b: $t| !$conv(a).is_nan() & !$conv(b).is_nan()),
            "nan" => cmp(|a: $t, b: $t| $conv(a).is_nan() | $conv(b).is_nan()),
            _ => return None,
        }
    };
}

macro_rules! order {
    ($op:expr, $t:ty, $u:ty) => {
        match $op {
            "eq" => cmp(|a: $t, b: $t| a == b),
            "ne" => cmp(|a: $t, b: $t| a != b),
            "lt" => cmp(|a: $t, b: $t| a < b),
            "le" => cmp(|a: $t, b: $t| a <= b),
            "gt" => cmp(|a: $t, b: $t| a > b),
            "ge" => cmp(|a: $t, b: $t| a >= b),
            "lo" => cmp(|a: $u, b: $u| a < b),
            "ls" => cmp(|a: $u, b: $u| a <= b),
            "hi" => cmp(|a: $u, b: $u| a > b),
            "hs" => cmp(|a: $u, b: $u| a >= b),
            _ => return None,
        }
    };
}

#[allow(clippy::neg_cmp_op_on_partial_ord)] // "Unordered or less" is exactly "not greater or equal".
fn comparison(op: &str, ty: Ty, flush: bool) -> Option<AluFn> {
    Some(match ty {
        Ty::F32 if flush => floats!(op, f32, ftz),
        Ty::F32 => floats!(op, f32, std::convert::identity),
        Ty::F64 => floats!(op, f64, std::convert::identity),
        Ty::F16 => floats!(op, u16, f16_to_f32),
        Ty::Bf16 => floats!(op, u16, bf16_to_f32),
        Ty::S16 => order!(op, i16, u16),
        Ty::U16 | Ty::B16 => order!(op, u16, u16),
        Ty::S32 => order!(op, i32, u32),
        Ty::U32 | Ty::B32 => order!(op, u32, u32),
        Ty::S64 => order!(op, i64, u64),
        Ty::U64 | Ty::B64 => order!(op, u64, u64),
        _ => return None,
    })
}

impl<'a> Build<'_, 'a> {
    pub(super) fn compare(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        match m.name {
            "setp" | "set" => self.setp(m, o),
            "selp" => {
                let types = m.types();
                let [ty] = types[..] else { return self.fail("selp has one type") };
                let f = match ty.bits() {
                    16 => select(|a: u16, b: u16, p: bool| if p { a } else { b }),
                    32 => select(|a: u32, b: u32, p: bool| if p { a } else { b }),
                    64 => select(|a: u64, b: u64, p: bool| if p { a } else { b }),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.need(o, 4)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
                let (c, neg) = self.pred(&o[3])?;
                let (a, b) = if neg { (b, a) } else { (a, b) };
                self.push(Op::Alu(f), [d, a, b, c], [Slot::Row, Slot::Row, Slot::Row, Slot::Pred]);
                Ok(())
            }
            _ => {
                let flush = m.has("ftz");
                let types = m.types();
                let [ty, ct] = types[..] else { return self.fail("slct has two types") };
                let f = match (ty.bits(), ct) {
                    (32, Ty::S32) => ter(|a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
                    (64, Ty::S32) => ter(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
                    (16, Ty::S32) => ter(|a: u16, b: u16, c: i32| if c >= 0 { a } else { b }),
                    (32, Ty::F32) if flush => ter(|a: u32, b: u32, c: f32| if ftz(c) >= 0.0 { a } else { b }),
                    (32, Ty::F32) => ter(|a: u32, b: u32, c: f32| if c >= 0.0 { a } else { b }),
                    (64, Ty::F32) => ter(|a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b }),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.need(o, 4)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
                let c = self.src(&o[3], ct)?;
                self.alu3(f, d, a, b, c);
                Ok(())
            }
        }
    }

    fn setp(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let Some(op) = m.one_of(&OPS).map(|i| OPS[i]) else { return self.fail("a comparison is missing") };
        let boolean = m.one_of(&["and", "or", "xor"]);
        let flush = m.has("ftz");
        let types = m.types();
        let set = m.name == "set";
        let ty = match (set, &types[..]) {
            (false, [t]) | (true, [_, t]) => *t,
            _ => return self.fail("a comparison of one type is wanted"),
        };
        self.need(o, if boolean.is_some() { 4 } else { 3 })?;
        let (a, b) = (self.src(&o[1], ty)?, self.src(&o[2], ty)?);
        let extra = match boolean {
            Some(i) => Some(([PredOp::And, PredOp::Or, PredOp::Xor][i], self.pred(&o[3])?)),
            None => None,
        };
        if matches!(ty, Ty::F16x2 | Ty::Bf16x2) {
            return self.fail("packed comparisons are not supported");
        }
        let Some(f) = comparison(op, ty, flush) else {
            return self.fail(format!("`.{op}` does not compare this type"));
        };
        if set {
            let p = self.temp_pred();
            self.alu_pred2(f, p, a, b);
            if let Some((op, c)) = extra {
                self.pred_op(op, p, (p, false), c);
            }
            let to = types[0];
            let (yes, no) = match to {
                Ty::F32 => (self.imm(32, u64::from(1.0f32.to_bits())), self.imm(32, 0)),
                Ty::U32 | Ty::S32 | Ty::B32 => (self.imm(32, 0xffff_ffff), self.imm(32, 0)),
                _ => return self.fail("set gives .u32, .s32 or .f32"),
            };
            let d = self.dst(&o[0], to)?;
            let s = select(|a: u32, b: u32, p: bool| if p { a } else { b });
            self.push(Op::Alu(s), [d, yes, no, p], [Slot::Row, Slot::Row, Slot::Row, Slot::Pred]);
            return Ok(());
        }
        let (p, q) = match &o[0] {
            Operand::Pair(p, q) => (self.pred_dst(p)?, self.pred_dst(q)?),
            p => (self.pred_dst(p)?, NONE),
        };
        if extra.is_none() && q == NONE {
            self.alu_pred2(f, p, a, b);
            return Ok(());
        }
        // The second predicate takes the complement of the comparison; compute it once.
        let t = self.temp_pred();
        self.alu_pred2(f, t, a, b);
        match extra {
            None => {
                self.pred_op(PredOp::Mov, p, (t, false), (t, false));
                self.pred_op(PredOp::Mov, q, (t, true), (t, false));
            }
            Some((op, c)) => {
                // c may be one of the destinations.
                let keep = self.temp_pred();
                self.pred_op(PredOp::Mov, keep, c, c);
                self.pred_op(op, p, (t, false), (keep, false));
                self.pred_op(op, q, (t, true), (keep, false));
            }
        }
        Ok(())
    }

    pub(super) fn mov(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let types = m.types();
        let [ty] = types[..] else { return self.fail("mov has one type") };
        self.need(o, 2)?;
        if ty == Ty::Pred {
            let (d, a) = (self.pred_dst(&o[0])?, self.pred(&o[1])?);
            self.pred_op(PredOp::Mov, d, a, a);
            return Ok(());
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

    fn pack(&mut self, ty: Ty, d: u32, v: &[Operand<'a>]) -> Result<(), PtxError> {
        match (ty.bits(), v) {
            (32, [a, b]) => {
                let (a, b) = (self.src(a, Ty::B16)?, self.src(b, Ty::B16)?);
                self.alu2(bin(|a: u16, b: u16| u32::from(a) | u32::from(b) << 16), d, a, b);
            }
            (64, [a, b]) => {
                let (a, b) = (self.src(a, Ty::B32)?, self.src(b, Ty::B32)?);
                self.alu2(bin(|a: u32, b: u32| u64::from(a) | u64::from(b) << 32), d, a, b);
            }
            (64, [a, b, x, y]) => {
                let (lo, hi) = (self.temp(32), self.temp(32));
                self.pack(Ty::B32, lo, &[a.clone(), b.clone()])?;
                self.pack(Ty::B32, hi, &[x.clone(), y.clone()])?;
                self.alu2(bin(|a: u32, b: u32| u64::from(a) | u64::from(b) << 32), d, lo, hi);
            }
            _ => return self.fail("a vector of this shape does not pack into this type"),
        }
        Ok(())
    }

    fn unpack(&mut self, ty: Ty, ds: &[Operand<'a>], a: &Operand<'a>) -> Result<(), PtxError> {
        let a = self.src(a, ty)?;
        match (ty.bits(), ds) {
            (32, [x, y]) => {
                let (x, y) = (self.dst(x, Ty::B16)?, self.dst(y, Ty::B16)?);
                self.alu1(un(|a: u32| a as u16), x, a);
                self.alu1(un(|a: u32| (a >> 16) as u16), y, a);
            }
            (64, [x, y]) => {
                let (x, y) = (self.dst(x, Ty::B32)?, self.dst(y, Ty::B32)?);
                self.alu1(un(|a: u64| a as u32), x, a);
                self.alu1(un(|a: u64| (a >> 32) as u32), y, a);
            }
            (64, [w, x, y, z]) => {
                let (w, x) = (self.dst(w, Ty::B16)?, self.dst(x, Ty::B16)?);
                let (y, z) = (self.dst(y, Ty::B16)?, self.dst(z, Ty::B16)?);
                self.alu1(un(|a: u64| a as u16), w, a);
                self.alu1(un(|a: u64| (a >> 16) as u16), x, a);
                self.alu1(un(|a: u64| (a >> 32) as u16), y, a);
                self.alu1(un(|a: u64| (a >> 48) as u16), z, a);
            }
            _ => return self.fail("this type does not unpack into a vector of this shape"),
        }
        Ok(())
    }
}
