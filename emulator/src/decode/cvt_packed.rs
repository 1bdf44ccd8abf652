//! What: `cvt` of pairs, `cvta` and `isspacep`.
//! Why here: conversions whose operands are not one number each.
//! Pre: a conversion as the ISA allows it.
//! Post: as `cvt`; generic addresses by the windows of the machine.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::lanes::{bin, test, un};
use crate::machine::space;
use crate::numeric::half::*;
use crate::numeric::round::Rm;
use crate::parse::ast::Operand;
use crate::types::Ty;

impl<'a> Build<'_, 'a> {
    pub(super) fn cvt_packed(
        &mut self,
        o: &[Operand<'a>],
        to: Ty,
        from: Ty,
        rm: Rm,
        relu: bool,
    ) -> Result<(), PtxError> {
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
                fn re(x: f32) -> f32 {
                    if x > 0.0 || x.is_nan() { x } else { 0.0 }
                }
                let f = match (to, rm, relu) {
                    (Ty::F16x2, Rm::N, false) => two!(f32_to_f16),
                    (Ty::F16x2, Rm::N, true) => two!(|x| f32_to_f16(re(x))),
                    (Ty::F16x2, Rm::Z, false) => two!(|x| f32_to_f16_mode(x, Rm::Z)),
                    (Ty::F16x2, Rm::Z, true) => two!(|x| f32_to_f16_mode(re(x), Rm::Z)),
                    (_, Rm::N, false) => two!(f32_to_bf16),
                    (_, Rm::N, true) => two!(|x| f32_to_bf16(re(x))),
                    (_, Rm::Z, false) => two!(|x| f32_to_bf16_mode(x, Rm::Z)),
                    (_, Rm::Z, true) => two!(|x| f32_to_bf16_mode(re(x), Rm::Z)),
                    _ => return self.fail("packed conversions round by .rn or .rz"),
                };
                self.alu2(f, d, hi, lo);
            }
            (Ty::E4m3x2 | Ty::E5m2x2, Ty::F32) => {
                self.need(o, 3)?;
                let (hi, lo) = (self.src(&o[1], Ty::F32)?, self.src(&o[2], Ty::F32)?);
                let f = match (to, relu) {
                    (Ty::E4m3x2, false) => bin(|h: f32, l: f32| {
                        u16::from(f32_to_fp8(h, true)) << 8 | u16::from(f32_to_fp8(l, true))
                    }),
                    (_, false) => bin(|h: f32, l: f32| {
                        u16::from(f32_to_fp8(h, false)) << 8 | u16::from(f32_to_fp8(l, false))
                    }),
                    _ => return self.fail("`.relu` is not supported for fp8"),
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

    pub(super) fn cvta(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let to = m.has("to");
        let Some(which) = m.one_of(&["global", "shared", "shared::cta", "local", "const", "param"]) else {
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
