//! What: bit logic, shifts, bit fields and byte permutation; logic on predicates.
//! Why here: one family.
//! Pre: an instruction of this family.
//! Post: shift amounts clamp or wrap as the ISA says.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{NONE, Op, PredOp, Slot};
use crate::lanes::{AluFn, bin, quad, ter, test, un};
use crate::parse::ast::Operand;
use crate::types::Ty;

/// Selects bytes as `prmt` in its default mode.
#[inline(always)]
fn prmt(a: u32, b: u32, sel: u32) -> u32 {
    let v = u64::from(a) | u64::from(b) << 32;
    let mut r = 0;
    for i in 0..4 {
        let s = sel >> (4 * i);
        let byte = (v >> (8 * (s & 7))) as u32 & 0xff;
        let byte = if s & 8 != 0 { (byte >> 7) * 0xff } else { byte };
        r |= byte << (8 * i);
    }
    r
}

/// A selector for the special modes of `prmt`.
#[inline(always)]
fn prmt_mode(a: u32, b: u32, c: u32, table: [u32; 4]) -> u32 {
    prmt(a, b, table[(c & 3) as usize])
}

/// `bfe` of either width, computed in 64 bits.
#[inline(always)]
fn bfe(a: u64, pos: u32, len: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let msb = bits - 1;
    if len == 0 {
        return 0;
    }
    let top = (pos + len - 1).min(msb);
    let sign = if signed && a >> top & 1 != 0 { u64::MAX } else { 0 };
    if pos > msb {
        return sign;
    }
    let v = a >> pos;
    let mask = if len >= 64 { u64::MAX } else { (1u64 << len) - 1 };
    // Bits above the register repeat the sign.
    let v = if pos > 0 { v | sign << (64 - pos) | sign << (bits - pos).min(63) } else { v };
    v & mask | sign & !mask
}

#[inline(always)]
fn bfi(a: u64, b: u64, pos: u32, len: u32, bits: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= bits || len == 0 {
        return b;
    }
    let len = len.min(bits - pos);
    let ones = if len == 64 { u64::MAX } else { (1u64 << len) - 1 };
    let mask = ones << pos;
    b & !mask | a << pos & mask
}

/// The place of the n-th set bit at or above (n > 0) or at or below (n < 0) a base.
fn find_nth(mask: u32, base: u32, n: i32) -> u32 {
    let base = base & 31;
    let mut left = n.unsigned_abs().max(1);
    let mut at = base as i32;
    while (0..32).contains(&at) {
        if mask >> at & 1 != 0 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        match n.signum() {
            0 => break,
            s => at += s,
        }
    }
    u32::MAX
}

/// Every 3-input function by its table.
#[inline(always)]
fn lop3(a: u32, b: u32, c: u32, t: u32) -> u32 {
    let mut r = 0;
    for i in 0..8u32 {
        let on = 0u32.wrapping_sub(t >> i & 1);
        let x = if i & 4 != 0 { a } else { !a };
        let y = if i & 2 != 0 { b } else { !b };
        let z = if i & 1 != 0 { c } else { !c };
        r |= on & x & y & z;
    }
    r
}

impl<'a> Build<'_, 'a> {
    pub(super) fn logic(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let types = m.types();
        let [ty] = types[..] else { return self.fail("this instruction has one type") };
        if ty == Ty::Pred {
            return self.pred_logic(m, o);
        }
        let bits = ty.bits();
        macro_rules! by_bits {
            ($ctor:ident, ($($a:ident),*), $e:expr) => {
                match bits {
                    16 => $ctor(|$($a: u16),*| $e),
                    32 => $ctor(|$($a: u32),*| $e),
                    64 => $ctor(|$($a: u64),*| $e),
                    _ => return self.fail("this type has no such instruction"),
                }
            };
        }
        match m.name {
            "and" | "or" | "xor" => {
                let f = match m.name {
                    "and" => by_bits!(bin, (a, b), a & b),
                    "or" => by_bits!(bin, (a, b), a | b),
                    _ => by_bits!(bin, (a, b), a ^ b),
                };
                self.need(o, 3)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
                self.alu2(f, d, a, b);
                Ok(())
            }
            "not" => {
                let f = by_bits!(un, (a), !a);
                self.two(f, o, ty)
            }
            "cnot" => {
                let f = by_bits!(un, (a), if a == 0 { 1 } else { 0 });
                self.two(f, o, ty)
            }
            "brev" => {
                let f = by_bits!(un, (a), a.reverse_bits());
                self.two(f, o, ty)
            }
            "shl" | "shr" => {
                let f = match (m.name, ty) {
                    ("shl", Ty::B16 | Ty::U16 | Ty::S16) => {
                        bin(|a: u16, b: u32| if b > 15 { 0 } else { a << b })
                    }
                    ("shl", Ty::B32 | Ty::U32 | Ty::S32) => {
                        bin(|a: u32, b: u32| if b > 31 { 0 } else { a << b })
                    }
                    ("shl", Ty::B64 | Ty::U64 | Ty::S64) => {
                        bin(|a: u64, b: u32| if b > 63 { 0 } else { a << b })
                    }
                    ("shr", Ty::S16) => bin(|a: i16, b: u32| a >> b.min(15)),
                    ("shr", Ty::S32) => bin(|a: i32, b: u32| a >> b.min(31)),
                    ("shr", Ty::S64) => bin(|a: i64, b: u32| a >> b.min(63)),
                    ("shr", Ty::B16 | Ty::U16) => bin(|a: u16, b: u32| if b > 15 { 0 } else { a >> b }),
                    ("shr", Ty::B32 | Ty::U32) => bin(|a: u32, b: u32| if b > 31 { 0 } else { a >> b }),
                    ("shr", Ty::B64 | Ty::U64) => bin(|a: u64, b: u32| if b > 63 { 0 } else { a >> b }),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.need(o, 3)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], Ty::U32)?);
                self.alu2(f, d, a, b);
                Ok(())
            }
            "shf" => {
                let left = m.one_of(&["r", "l"]);
                let clamp = m.one_of(&["wrap", "clamp"]);
                if bits != 32 {
                    return self.fail("shf wants .b32");
                }
                let f: AluFn = match (left, clamp) {
                    (Some(1), Some(0)) => ter(|a: u32, b: u32, c: u32| {
                        ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32
                    }),
                    (Some(1), Some(1)) => ter(|a: u32, b: u32, c: u32| {
                        ((u64::from(b) << 32 | u64::from(a)) << c.min(32) >> 32) as u32
                    }),
                    (Some(0), Some(0)) => {
                        ter(|a: u32, b: u32, c: u32| ((u64::from(b) << 32 | u64::from(a)) >> (c & 31)) as u32)
                    }
                    (Some(0), Some(1)) => ter(|a: u32, b: u32, c: u32| {
                        ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32
                    }),
                    _ => return self.fail("shf wants `.l` or `.r` and `.wrap` or `.clamp`"),
                };
                self.three(f, o, ty, ty)
            }
            "lop3" => {
                if bits != 32 {
                    return self.fail("lop3 wants .b32");
                }
                // With an operation the result is also tested: p = (d != 0) op q.
                let test_op = m.one_of(&["or", "and"]);
                self.need(o, if test_op.is_some() { 6 } else { 5 })?;
                let (d, test_dst) = match (&o[0], test_op) {
                    (Operand::Pair(d, p), Some(_)) => (self.dst(d, ty)?, self.pred_dst(p)?),
                    (d, None) => (self.dst(d, ty)?, NONE),
                    _ => return self.fail("lop3 with an operation wants `d|p`"),
                };
                let (a, b, c) = (self.src(&o[1], ty)?, self.src(&o[2], ty)?, self.src(&o[3], ty)?);
                let Operand::Int(t) = o[4] else { return self.fail("the table of lop3 must be a constant") };
                // The table travels in a temporary that becomes the result.
                let t = self.imm(32, t as u64 & 0xff);
                let r = self.temp(32);
                self.copy(32, r, t);
                self.alu3(quad(lop3), r, a, b, c);
                self.reads_d();
                self.copy(32, d, r);
                if let Some(i) = test_op {
                    let (q, t) = (self.pred(&o[5])?, self.temp_pred());
                    self.alu_pred1(test(|a: u32| a != 0), t, r);
                    self.pred_op([PredOp::Or, PredOp::And][i], test_dst, (t, false), q);
                }
                Ok(())
            }
            "prmt" => {
                let f = match m.one_of(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]) {
                    None => ter(prmt),
                    Some(0) => ter(|a, b, c: u32| prmt_mode(a, b, c, [0x3210, 0x4321, 0x5432, 0x6543])),
                    Some(1) => ter(|a, b, c: u32| prmt_mode(a, b, c, [0x5670, 0x6701, 0x7012, 0x0123])),
                    Some(2) => ter(|a, b, c: u32| prmt_mode(a, b, c, [0x0000, 0x1111, 0x2222, 0x3333])),
                    Some(3) => ter(|a, b, c: u32| prmt_mode(a, b, c, [0x3210, 0x3211, 0x3222, 0x3333])),
                    Some(4) => ter(|a, b, c: u32| prmt_mode(a, b, c, [0x0000, 0x1110, 0x2210, 0x3210])),
                    _ => ter(|a, b, c: u32| prmt_mode(a, b, c, [0x1010, 0x3232, 0x1010, 0x3232])),
                };
                if bits != 32 {
                    return self.fail("prmt wants .b32");
                }
                self.three(f, o, ty, ty)
            }
            "bfe" => {
                let f = match ty {
                    Ty::U32 => ter(|a: u32, p: u32, l: u32| bfe(u64::from(a), p, l, 32, false) as u32),
                    Ty::S32 => ter(|a: u32, p: u32, l: u32| bfe(u64::from(a), p, l, 32, true) as u32),
                    Ty::U64 => ter(|a: u64, p: u32, l: u32| bfe(a, p, l, 64, false)),
                    Ty::S64 => ter(|a: u64, p: u32, l: u32| bfe(a, p, l, 64, true)),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.need(o, 4)?;
                let (d, a) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?);
                let (b, c) = (self.src(&o[2], Ty::U32)?, self.src(&o[3], Ty::U32)?);
                self.alu3(f, d, a, b, c);
                Ok(())
            }
            "bfi" => {
                let f = match bits {
                    32 => quad(|a: u32, p: u32, l: u32, b: u32| {
                        bfi(u64::from(a), u64::from(b), p, l, 32) as u32
                    }),
                    64 => quad(|a: u64, p: u32, l: u32, b: u64| bfi(a, b, p, l, 64)),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.need(o, 5)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
                let (p, l) = (self.src(&o[3], Ty::U32)?, self.src(&o[4], Ty::U32)?);
                let r = self.temp(bits);
                self.copy(bits, r, b);
                self.alu3(f, r, a, p, l);
                self.reads_d();
                self.copy(bits, d, r);
                Ok(())
            }
            "bfind" => {
                let shift = m.has("shiftamt");
                macro_rules! find {
                    ($t:ty, $u:ty, $neg:expr) => {
                        if shift {
                            un(|a: $t| {
                                let v = if $neg && (a as i64) < 0 { !a } else { a } as $u;
                                if v == 0 { u32::MAX } else { v.leading_zeros() }
                            })
                        } else {
                            un(|a: $t| {
                                let v = if $neg && (a as i64) < 0 { !a } else { a } as $u;
                                if v == 0 { u32::MAX } else { <$u>::BITS - 1 - v.leading_zeros() }
                            })
                        }
                    };
                }
                let f = match ty {
                    Ty::U32 => find!(u32, u32, false),
                    Ty::S32 => find!(i32, u32, true),
                    Ty::U64 => find!(u64, u64, false),
                    Ty::S64 => find!(i64, u64, true),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.narrow(f, o, ty)
            }
            "popc" | "clz" => {
                let f = match (m.name, bits) {
                    ("popc", 32) => un(|a: u32| a.count_ones()),
                    ("popc", 64) => un(|a: u64| a.count_ones()),
                    ("clz", 32) => un(|a: u32| a.leading_zeros()),
                    ("clz", 64) => un(|a: u64| a.leading_zeros()),
                    _ => return self.fail("this type has no such instruction"),
                };
                self.narrow(f, o, ty)
            }
            "fns" => {
                if bits != 32 {
                    return self.fail("fns wants .b32");
                }
                self.need(o, 4)?;
                let (d, a) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?);
                let (b, c) = (self.src(&o[2], Ty::U32)?, self.src(&o[3], Ty::S32)?);
                self.alu3(ter(find_nth), d, a, b, c);
                Ok(())
            }
            "bmsk" => {
                let f: AluFn = match m.one_of(&["clamp", "wrap"]) {
                    Some(0) => bin(|a: u32, b: u32| bfi(u64::MAX, 0, a.min(255), b.min(32), 32) as u32),
                    Some(1) => bin(|a: u32, b: u32| bfi(u64::MAX, 0, a & 31, b & 31, 32) as u32),
                    _ => return self.fail("bmsk wants `.clamp` or `.wrap`"),
                };
                self.need(o, 3)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
                self.alu2(f, d, a, b);
                Ok(())
            }
            "szext" => {
                let wrap = match m.one_of(&["clamp", "wrap"]) {
                    Some(i) => i == 1,
                    None => return self.fail("szext wants `.clamp` or `.wrap`"),
                };
                let f = match (ty, wrap) {
                    (Ty::U32, true) => bin(|a: u32, b: u32| bfe(u64::from(a), 0, b & 31, 32, false) as u32),
                    (Ty::S32, true) => bin(|a: u32, b: u32| bfe(u64::from(a), 0, b & 31, 32, true) as u32),
                    (Ty::U32, false) => {
                        bin(|a: u32, b: u32| bfe(u64::from(a), 0, b.min(32), 32, false) as u32)
                    }
                    (Ty::S32, false) => {
                        bin(|a: u32, b: u32| bfe(u64::from(a), 0, b.min(32), 32, true) as u32)
                    }
                    _ => return self.fail("szext wants .u32 or .s32"),
                };
                self.need(o, 3)?;
                let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], Ty::U32)?);
                self.alu2(f, d, a, b);
                Ok(())
            }
            _ => self.fail("unknown instruction"),
        }
    }

    /// A 32-bit result of one operand of a type.
    fn narrow(&mut self, f: AluFn, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        self.need(o, 2)?;
        let (d, a) = (self.dst(&o[0], Ty::U32)?, self.src(&o[1], ty)?);
        self.alu1(f, d, a);
        Ok(())
    }

    fn pred_logic(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if m.name == "not" {
            self.need(o, 2)?;
            let (d, (a, na)) = (self.pred_dst(&o[0])?, self.pred(&o[1])?);
            self.pred_op(PredOp::Mov, d, (a, !na), (a, false));
            return Ok(());
        }
        let op = match m.name {
            "and" => PredOp::And,
            "or" => PredOp::Or,
            "xor" => PredOp::Xor,
            _ => return self.fail("predicates have no such instruction"),
        };
        self.need(o, 3)?;
        let (d, a, b) = (self.pred_dst(&o[0])?, self.pred(&o[1])?, self.pred(&o[2])?);
        self.pred_op(op, d, a, b);
        Ok(())
    }

    pub(super) fn pred_op(&mut self, op: PredOp, d: u32, a: (u32, bool), b: (u32, bool)) {
        self.push(
            Op::Pred { op, neg_a: a.1, neg_b: b.1, neg_d: false },
            [d, a.0, b.0, NONE],
            [Slot::Pred, Slot::Pred, Slot::Pred, Slot::No],
        );
    }
    /// A predicate of one row.
    pub(super) fn alu_pred1(&mut self, f: AluFn, d: u32, a: u32) {
        self.push(Op::Alu(f), [d, a, NONE, NONE], [Slot::Pred, Slot::Row, Slot::No, Slot::No]);
    }
    /// A predicate of two rows.
    pub(super) fn alu_pred2(&mut self, f: AluFn, d: u32, a: u32, b: u32) {
        self.push(Op::Alu(f), [d, a, b, NONE], [Slot::Pred, Slot::Row, Slot::Row, Slot::No]);
    }
}
