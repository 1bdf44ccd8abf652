//! What: comparisons and selections.
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

/// An f16 with subnormals flushed.
#[inline(always)]
fn ftz16(h: u16) -> f32 {
    f16_to_f32(if h & 0x7c00 == 0 { h & 0x8000 } else { h })
}

#[allow(clippy::neg_cmp_op_on_partial_ord)] // "Unordered or less" is exactly "not greater or equal".
fn comparison(op: &str, ty: Ty, flush: bool) -> Option<AluFn> {
    Some(match ty {
        Ty::F32 if flush => floats!(op, f32, ftz),
        Ty::F32 => floats!(op, f32, std::convert::identity),
        Ty::F64 => floats!(op, f64, std::convert::identity),
        Ty::F16 if flush => floats!(op, u16, ftz16),
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

/// What `set` writes for true: one for floats, all ones for integers.
fn truth(ty: Ty) -> Option<u64> {
    Some(match ty {
        Ty::U16 | Ty::S16 | Ty::B16 => 0xffff,
        Ty::U32 | Ty::S32 | Ty::B32 => 0xffff_ffff,
        Ty::F32 => 0x3f80_0000,
        Ty::F16 => 0x3c00,
        Ty::Bf16 => 0x3f80,
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
            Some(i) => {
                // A copy: the predicate may be one of the destinations.
                let (c, keep) = (self.pred(&o[3])?, self.temp_pred());
                self.pred_op(PredOp::Mov, keep, c, c);
                Some(([PredOp::And, PredOp::Or, PredOp::Xor][i], keep))
            }
            None => None,
        };
        let one = match ty {
            Ty::F16x2 => Ty::F16,
            Ty::Bf16x2 => Ty::Bf16,
            t => t,
        };
        let Some(f) = comparison(op, one, flush) else {
            return self.fail(format!("`.{op}` does not compare this type"));
        };
        if one != ty {
            return self.packed(o, set.then_some(types[0]), f, [a, b], extra);
        }
        if !set && extra.is_none() && !matches!(o[0], Operand::Pair(..)) {
            let p = self.pred_dst(&o[0])?;
            self.alu_pred2(f, p, a, b);
            return Ok(());
        }
        let t = self.temp_pred();
        self.alu_pred2(f, t, a, b);
        if set {
            if let Some((op, c)) = extra {
                self.pred_op(op, t, (t, false), (c, false));
            }
            let to = types[0];
            let Some(yes) = truth(to) else {
                return self.fail("set gives .u16, .s16, .u32, .s32, .f16, .bf16 or .f32");
            };
            let d = self.dst(&o[0], to)?;
            self.choose(to.bits(), d, yes, t);
            return Ok(());
        }
        let (p, q) = match &o[0] {
            Operand::Pair(p, q) => (self.pred_dst(p)?, self.pred_dst(q)?),
            p => (self.pred_dst(p)?, NONE),
        };
        // The second predicate takes the complement of the comparison.
        for (d, complement) in [(p, false), (q, true)] {
            if d == NONE {
                continue;
            }
            match extra {
                None => self.pred_op(PredOp::Mov, d, (t, complement), (t, false)),
                Some((op, c)) => self.pred_op(op, d, (t, complement), (c, false)),
            }
        }
        Ok(())
    }

    /// Comparisons of two halves: `setp` gives a predicate each, `set` two halves of a word.
    fn packed(
        &mut self,
        o: &[Operand<'a>],
        set: Option<Ty>,
        f: AluFn,
        [a, b]: [u32; 2],
        extra: Option<(PredOp, u32)>,
    ) -> Result<(), PtxError> {
        let mut result = [NONE; 2];
        for (half, r) in result.iter_mut().enumerate() {
            let (x, y) = (self.temp(16), self.temp(16));
            for (t, v) in [(x, a), (y, b)] {
                let pick = if half == 0 { un(|a: u32| a as u16) } else { un(|a: u32| (a >> 16) as u16) };
                self.alu1(pick, t, v);
            }
            *r = self.temp_pred();
            self.alu_pred2(f, *r, x, y);
            if let Some((op, c)) = extra {
                self.pred_op(op, *r, (*r, false), (c, false));
            }
        }
        let Some(to) = set else {
            let Operand::Pair(p, q) = &o[0] else { return self.fail("a packed setp wants `p|q`") };
            for (d, r) in [(p, result[0]), (q, result[1])] {
                let d = self.pred_dst(d)?;
                self.pred_op(PredOp::Mov, d, (r, false), (r, false));
            }
            return Ok(());
        };
        let yes = match to {
            Ty::F16x2 => truth(Ty::F16),
            Ty::Bf16x2 => truth(Ty::Bf16),
            Ty::U32 | Ty::S32 => Some(0xffff),
            _ => None,
        };
        let Some(yes) = yes else {
            return self.fail("a packed set gives .f16x2, .bf16x2, .u32 or .s32");
        };
        let d = self.dst(&o[0], to)?;
        let (lo, hi) = (self.temp(32), self.temp(32));
        self.choose(32, lo, yes, result[0]);
        self.choose(32, hi, yes << 16, result[1]);
        self.alu2(bin(|a: u32, b: u32| a | b), d, lo, hi);
        Ok(())
    }

    /// d = p ? yes : 0.
    fn choose(&mut self, bits: u32, d: u32, yes: u64, p: u32) {
        let (yes, no) = (self.imm(bits, yes), self.imm(bits, 0));
        let f = if bits == 16 {
            select(|a: u16, b: u16, p: bool| if p { a } else { b })
        } else {
            select(|a: u32, b: u32, p: bool| if p { a } else { b })
        };
        self.push(Op::Alu(f), [d, yes, no, p], [Slot::Row, Slot::Row, Slot::Row, Slot::Pred]);
    }
}
