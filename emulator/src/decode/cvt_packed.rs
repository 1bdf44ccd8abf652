//! What: `cvt` of pairs, `cvta` and `isspacep`.
//! Why here: conversions whose operands are not one number each.
//! Pre: a conversion as the ISA allows it.
//! Post: as `cvt`; generic addresses by the windows of the machine.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::lanes::{bin, ter, test, un};
use crate::machine::space;
use crate::numeric::half::*;
use crate::numeric::round::Rm;
use crate::parse::ast::Operand;
use crate::types::Ty;

/// a and b saturated to N bits, b lowest, c above both.
#[inline(always)]
fn join<const N: u32, const SIGNED: bool>(a: i32, b: i32, c: u32) -> u32 {
    let one = |v: i32| {
        let (lo, hi) = if SIGNED { (-(1 << (N - 1)), (1 << (N - 1)) - 1) } else { (0, (1 << N) - 1) };
        v.clamp(lo, hi) as u32 & ((1 << N) - 1)
    };
    let above = if N == 16 { 0 } else { c << ((2 * N) & 31) };
    one(b) | one(a) << N | above
}

impl<'a> Build<'_, 'a> {
    pub(super) fn cvt_packed(&mut self, o: &[Operand<'a>], to: Ty, from: Ty, rm: Rm) -> Result<(), PtxError> {
        let d = self.dst(&o[0], to)?;
        match (to, from) {
            (Ty::F16x2 | Ty::Bf16x2, Ty::F32) => {
                self.need(o, 3)?;
                let (hi, lo) = (self.src(&o[1], Ty::F32)?, self.src(&o[2], Ty::F32)?);
                macro_rules! two {
                    ($f:expr) => {
                        bin(|h: f32, l: f32| u32::from($f(h)) << 16 | u32::from($f(l)))
                    };
                }
                let f = match (to, rm) {
                    (Ty::F16x2, Rm::N) => two!(f32_to_f16),
                    (Ty::F16x2, Rm::Z) => two!(|x| f32_to_f16_mode(x, Rm::Z)),
                    (_, Rm::N) => two!(f32_to_bf16),
                    (_, Rm::Z) => two!(|x| f32_to_bf16_mode(x, Rm::Z)),
                    _ => return self.fail("packed conversions round by .rn or .rz"),
                };
                self.alu2(f, d, hi, lo);
            }
            (Ty::E4m3x2 | Ty::E5m2x2, Ty::F32) => {
                self.need(o, 3)?;
                let (hi, lo) = (self.src(&o[1], Ty::F32)?, self.src(&o[2], Ty::F32)?);
                let f = match to {
                    Ty::E4m3x2 => bin(|h: f32, l: f32| {
                        u16::from(f32_to_fp8(h, true)) << 8 | u16::from(f32_to_fp8(l, true))
                    }),
                    _ => bin(|h: f32, l: f32| {
                        u16::from(f32_to_fp8(h, false)) << 8 | u16::from(f32_to_fp8(l, false))
                    }),
                };
                self.alu2(f, d, hi, lo);
            }
            (Ty::E4m3x2 | Ty::E5m2x2, Ty::F16x2) => {
                self.need(o, 2)?;
                let a = self.src(&o[1], Ty::F16x2)?;
                macro_rules! down {
                    ($e4m3:expr) => {
                        un(|a: u32| {
                            let h = |s: u32| u16::from(f32_to_fp8(f16_to_f32((a >> s) as u16), $e4m3));
                            h(16) << 8 | h(0)
                        })
                    };
                }
                let f = if to == Ty::E4m3x2 { down!(true) } else { down!(false) };
                self.alu1(f, d, a);
            }
            (Ty::F16x2, Ty::E4m3x2 | Ty::E5m2x2) => {
                self.need(o, 2)?;
                let a = self.src(&o[1], from)?;
                let f = if from == Ty::E4m3x2 {
                    un(|a: u16| {
                        let h = |v: u8| u32::from(f32_to_f16(e4m3_to_f32(v)));
                        h(a as u8) | h((a >> 8) as u8) << 16
                    })
                } else {
                    un(|a: u16| {
                        let h = |v: u8| u32::from(f32_to_f16(e5m2_to_f32(v)));
                        h(a as u8) | h((a >> 8) as u8) << 16
                    })
                };
                self.alu1(f, d, a);
            }
            _ => return self.fail("this conversion is not supported"),
        }
        Ok(())
    }

    /// `cvt.pack`: two saturated integers, above them the low part of a third word.
    pub(super) fn cvt_pack(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let Some(to) = m.one_of(&["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"]) else {
            return self.fail("cvt.pack gives .u16, .s16, .u8, .s8, .u4, .s4, .u2 or .s2");
        };
        let types = m.types();
        if !m.has("sat") || types.first() != Some(&Ty::S32) {
            return self.fail("cvt.pack wants .sat and packs .s32");
        }
        let two = to < 2;
        if types.get(1..) != Some(if two { &[] } else { &[Ty::B32] }) {
            return self.fail("cvt.pack of less than 16 bits wants a third operand of .b32, and only then");
        }
        self.need(o, if two { 3 } else { 4 })?;
        let d = self.dst(&o[0], Ty::B32)?;
        let (a, b) = (self.src(&o[1], Ty::S32)?, self.src(&o[2], Ty::S32)?);
        let c = if two { self.imm(32, 0) } else { self.src(&o[3], Ty::B32)? };
        let f = match to {
            0 => ter(join::<16, false>),
            1 => ter(join::<16, true>),
            2 => ter(join::<8, false>),
            3 => ter(join::<8, true>),
            4 => ter(join::<4, false>),
            5 => ter(join::<4, true>),
            6 => ter(join::<2, false>),
            _ => ter(join::<2, true>),
        };
        self.alu3(f, d, a, b, c);
        Ok(())
    }

    pub(super) fn cvta(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let to = m.has("to");
        let Some(which) =
            m.one_of(&["global", "shared", "shared::cta", "local", "const", "param", "param::entry"])
        else {
            return self.fail("a state space is missing");
        };
        if m.name == "isspacep" {
            self.need(o, 2)?;
            let (d, a) = (self.pred_dst(&o[0])?, self.src(&o[1], Ty::U64)?);
            let f = match which {
                0 => test(|a: u64| space::window(a) == space::GLOBAL_WINDOW),
                1 | 2 => test(|a: u64| space::window(a) == space::SHARED_WINDOW),
                3 => test(|a: u64| space::window(a) == space::LOCAL_WINDOW),
                4 => test(|a: u64| space::window(a) == space::CONST_WINDOW),
                _ => test(|a: u64| space::window(a) == space::PARAM_WINDOW),
            };
            self.alu_pred1(f, d, a);
            return Ok(());
        }
        let types = m.types();
        if types != [Ty::U64] {
            return self.fail("cvta wants .u64");
        }
        self.need(o, 2)?;
        let (d, a) = (self.dst(&o[0], Ty::U64)?, self.src(&o[1], Ty::U64)?);
        let f = match (which, to) {
            (0, _) => un(|a: u64| a),
            (1 | 2, false) => un(|a: u64| a.wrapping_add(space::SHARED_BASE)),
            (1 | 2, true) => un(|a: u64| a.wrapping_sub(space::SHARED_BASE)),
            (3, false) => un(|a: u64| a.wrapping_add(space::LOCAL_BASE)),
            (3, true) => un(|a: u64| a.wrapping_sub(space::LOCAL_BASE)),
            (4, false) => un(|a: u64| a.wrapping_add(space::CONST_BASE)),
            (4, true) => un(|a: u64| a.wrapping_sub(space::CONST_BASE)),
            (_, false) => un(|a: u64| a.wrapping_add(space::PARAM_BASE)),
            (_, true) => un(|a: u64| a.wrapping_sub(space::PARAM_BASE)),
        };
        self.alu1(f, d, a);
        Ok(())
    }
}
