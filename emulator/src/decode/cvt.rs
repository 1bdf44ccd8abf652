//! What: `cvt` between scalars.
//! Why here: conversions go through a 64-bit integer, f32 or f64 where no direct function exists, so that the
//! table of pairs stays small.
//! Pre: a conversion as the ISA allows it.
//! Post: exact or correctly rounded results; out-of-range values clamp; NaN to integer as the ISA tabulates.

use super::build::Build;
use super::halves;
use super::mods::Mods;
use crate::error::PtxError;
use crate::lanes::{AluFn, un};
use crate::numeric::half::*;
use crate::numeric::round::{self, Rm};
use crate::numeric::{canon, ftz, sat, sat64};
use crate::parse::ast::Operand;
use crate::types::Ty;

fn is_int(t: Ty) -> bool {
    matches!(t, Ty::U8 | Ty::U16 | Ty::U32 | Ty::U64 | Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
}

/// The function for each rounding mode.
macro_rules! modes {
    ($rm:expr, $t:ty, $a:ident, $r:ident, $e:expr) => {
        match $rm {
            Rm::N => un(|$a: $t| {
                let $r = Rm::N;
                $e
            }),
            Rm::Z => un(|$a: $t| {
                let $r = Rm::Z;
                $e
            }),
            Rm::M => un(|$a: $t| {
                let $r = Rm::M;
                $e
            }),
            Rm::P => un(|$a: $t| {
                let $r = Rm::P;
                $e
            }),
        }
    };
}

/// An integer of a narrow type, extended to 64 bits; `u64` travels as its bits.
fn widen(ty: Ty, row: u32) -> Option<AluFn> {
    Some(match (ty, row) {
        (Ty::S8, 16) => un(|a: u16| i64::from(a as i8)),
        (Ty::U8, 16) => un(|a: u16| i64::from(a as u8)),
        (Ty::S16, 16) => un(|a: u16| i64::from(a as i16)),
        (Ty::U16, 16) => un(|a: u16| i64::from(a)),
        (Ty::S8, 32) => un(|a: u32| i64::from(a as i8)),
        (Ty::U8, 32) => un(|a: u32| i64::from(a as u8)),
        (Ty::S16, 32) => un(|a: u32| i64::from(a as i16)),
        (Ty::U16, 32) => un(|a: u32| i64::from(a as u16)),
        (Ty::S32, 32) => un(|a: u32| i64::from(a as i32)),
        (Ty::U32, 32) => un(|a: u32| i64::from(a)),
        (Ty::S8, 64) => un(|a: u64| i64::from(a as i8)),
        (Ty::U8, 64) => un(|a: u64| i64::from(a as u8)),
        (Ty::S16, 64) => un(|a: u64| i64::from(a as i16)),
        (Ty::U16, 64) => un(|a: u64| i64::from(a as u16)),
        (Ty::S32, 64) => un(|a: u64| i64::from(a as i32)),
        (Ty::U32, 64) => un(|a: u64| i64::from(a as u32)),
        (Ty::S64 | Ty::U64, 64) => un(|a: u64| a as i64),
        _ => return None,
    })
}

/// A 64-bit integer truncated to a type, as a row of some width.
fn narrow(ty: Ty, row: u32) -> Option<AluFn> {
    Some(match (ty, row) {
        (Ty::S8, 16) => un(|a: i64| a as i8 as i16),
        (Ty::U8, 16) => un(|a: i64| u16::from(a as u8)),
        (Ty::S16 | Ty::U16, 16) => un(|a: i64| a as u16),
        (Ty::S8, 32) => un(|a: i64| i32::from(a as i8)),
        (Ty::U8, 32) => un(|a: i64| u32::from(a as u8)),
        (Ty::S16, 32) => un(|a: i64| i32::from(a as i16)),
        (Ty::U16, 32) => un(|a: i64| u32::from(a as u16)),
        (Ty::S32 | Ty::U32, 32) => un(|a: i64| a as u32),
        (Ty::S8, 64) => un(|a: i64| i64::from(a as i8)),
        (Ty::U8, 64) => un(|a: i64| u64::from(a as u8)),
        (Ty::S16, 64) => un(|a: i64| i64::from(a as i16)),
        (Ty::U16, 64) => un(|a: i64| u64::from(a as u16)),
        (Ty::S32, 64) => un(|a: i64| i64::from(a as i32)),
        (Ty::U32, 64) => un(|a: i64| u64::from(a as u32)),
        (Ty::S64 | Ty::U64, 64) => un(|a: i64| a),
        _ => return None,
    })
}

/// Clamps a signed 64-bit value to a type; `None` where nothing can be out of range.
fn clamp(from_unsigned: bool, ty: Ty) -> Option<AluFn> {
    macro_rules! limits {
        ($t:ty) => {
            if from_unsigned {
                un(|a: u64| a.min(<$t>::MAX as u64) as i64)
            } else {
                un(|a: i64| i128::from(a).clamp(<$t>::MIN as i128, <$t>::MAX as i128) as i64)
            }
        };
    }
    Some(match ty {
        Ty::S8 => limits!(i8),
        Ty::U8 => limits!(u8),
        Ty::S16 => limits!(i16),
        Ty::U16 => limits!(u16),
        Ty::S32 => limits!(i32),
        Ty::U32 => limits!(u32),
        Ty::S64 => limits!(i64),
        _ => limits!(u64),
    })
}

/// f64 to a 64-bit integer that holds the value clamped to `ty`.
fn to_int(ty: Ty, rm: Rm, from64: bool) -> AluFn {
    // NaN is zero unless one side is 64 bits wide; then it is the most negative value.
    macro_rules! one {
        ($t:ty, $wide:expr) => {
            if from64 || $wide {
                modes!(rm, f64, a, r, {
                    let nan = (1u64 << (size_of::<$t>() * 8 - 1)) as $t;
                    (if a.is_nan() { nan } else { round::integral(a, r) as $t }) as i64
                })
            } else {
                modes!(rm, f64, a, r, round::integral(a, r) as $t as i64)
            }
        };
    }
    match ty {
        Ty::S8 => one!(i8, false),
        Ty::U8 => one!(u8, false),
        Ty::S16 => one!(i16, false),
        Ty::U16 => one!(u16, false),
        Ty::S32 => one!(i32, false),
        Ty::U32 => one!(u32, false),
        Ty::S64 => one!(i64, true),
        _ => one!(u64, true),
    }
}

impl<'a> Build<'_, 'a> {
    pub(super) fn cvt(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if m.has("pack") {
            return self.cvt_pack(m, o);
        }
        let mut integral = m.one_of(&["rni", "rzi", "rmi", "rpi"]).map(|i| [Rm::N, Rm::Z, Rm::M, Rm::P][i]);
        let rna = m.has("rna");
        let rm = self.rounding(m);
        let (flush, saturate, finite, relu) = (m.has("ftz"), m.has("sat"), m.has("satfinite"), m.has("relu"));
        let types = m.types();
        let [to, from] = types[..] else { return self.fail("cvt has two types") };
        if matches!(to, Ty::F16x2 | Ty::Bf16x2 | Ty::E4m3x2 | Ty::E5m2x2) {
            self.cvt_packed(o, to, from, rm.unwrap_or(Rm::N))?;
            return self.limits(o, to, finite, relu);
        }
        self.need(o, 2)?;
        if (relu || finite) && (from != Ty::F32 || !matches!(to, Ty::F16 | Ty::Bf16 | Ty::Tf32)) {
            return self.fail("`.relu` and `.satfinite` want a narrow type made of .f32");
        }
        if is_int(to) && is_int(from) {
            return self.cvt_int(o, to, from, saturate);
        }
        if to == Ty::Tf32 {
            let f = if rna {
                un(tf32_rna)
            } else {
                match rm {
                    Some(Rm::N) => un(tf32_rn),
                    Some(Rm::Z) => un(tf32_rz),
                    _ => return self.fail("cvt to .tf32 wants .rna, .rn or .rz"),
                }
            };
            let (d, a) = (self.dst(&o[0], Ty::B32)?, self.src(&o[1], Ty::F32)?);
            self.alu1(f, d, a);
            if relu {
                self.alu1(un(|a: f32| if a <= 0.0 { 0.0 } else { a }), d, d);
            }
            if finite {
                self.alu1(un(|a: u32| if a << 1 == 0xff00_0000 { a - 0x2000 } else { a }), d, d);
            }
            return Ok(());
        }
        if rna {
            return self.fail("`.rna` wants .tf32");
        }
        if is_int(from) {
            return self.int_to_float(o, to, from, rm.unwrap_or(Rm::N), saturate);
        }
        // Floats: `.rni` and so on may be written for float results too.
        if is_int(to) {
            let Some(r) = integral.take() else {
                return self.fail("`.rni`, `.rzi`, `.rmi` or `.rpi` is missing");
            };
            return self.float_to_int(o, to, from, r, flush);
        }
        self.float_to_float(o, to, from, rm, integral, flush, saturate)?;
        self.limits(o, to, finite, relu)
    }

    /// `.satfinite` and `.relu`, on the result of a conversion to halves.
    fn limits(&mut self, o: &[Operand<'a>], to: Ty, finite: bool, relu: bool) -> Result<(), PtxError> {
        // 8-bit formats saturate by themselves.
        let fp8 = matches!(to, Ty::E4m3x2 | Ty::E5m2x2);
        if !(finite && !fp8 || relu) {
            return Ok(());
        }
        let d = self.dst(&o[0], to)?;
        if finite && !fp8 {
            self.alu1(halves::finite(to), d, d);
        }
        if relu && fp8 {
            // A NaN of these formats has no sign here.
            self.alu1(un(|a: u16| a & !(a >> 7 & 0x0101).wrapping_mul(0xff)), d, d);
        } else if relu {
            self.alu1(halves::relu(to), d, d);
        }
        Ok(())
    }

    fn cvt_int(&mut self, o: &[Operand<'a>], to: Ty, from: Ty, saturate: bool) -> Result<(), PtxError> {
        let (d, dr) = self.dst_any(&o[0], to)?;
        let (a, ar) = self.src_any(&o[1], from)?;
        if !saturate {
            let direct = match (to, dr, from, ar) {
                (Ty::S64 | Ty::U64, 64, Ty::S32, 32) => Some(un(|a: i32| i64::from(a))),
                (Ty::S64 | Ty::U64, 64, Ty::U32, 32) => Some(un(|a: u32| u64::from(a))),
                (Ty::S32 | Ty::U32, 32, Ty::S64 | Ty::U64, 64) => Some(un(|a: u64| a as u32)),
                (Ty::S32 | Ty::U32, 32, Ty::U16, 16) => Some(un(|a: u16| u32::from(a))),
                (Ty::S32 | Ty::U32, 32, Ty::S16, 16) => Some(un(|a: i16| i32::from(a))),
                (Ty::S16 | Ty::U16, 16, Ty::S32 | Ty::U32, 32) => Some(un(|a: u32| a as u16)),
                _ => None,
            };
            if let Some(f) = direct {
                self.alu1(f, d, a);
                return Ok(());
            }
        }
        let t = self.temp(64);
        let Some(f) = widen(from, ar) else { return self.fail("this conversion is not supported") };
        self.alu1(f, t, a);
        if saturate && let Some(f) = clamp(from == Ty::U64, to) {
            self.alu1(f, t, t);
        }
        let Some(f) = narrow(to, dr) else { return self.fail("this conversion is not supported") };
        self.alu1(f, d, t);
        Ok(())
    }

    fn int_to_float(
        &mut self,
        o: &[Operand<'a>],
        to: Ty,
        from: Ty,
        rm: Rm,
        saturate: bool,
    ) -> Result<(), PtxError> {
        let d = self.dst(&o[0], to)?;
        let (a, ar) = self.src_any(&o[1], from)?;
        if rm == Rm::N && !saturate {
            let direct = match (to, from, ar) {
                (Ty::F32, Ty::S32, 32) => Some(un(|a: i32| a as f32)),
                (Ty::F32, Ty::U32, 32) => Some(un(|a: u32| a as f32)),
                (Ty::F64, Ty::S32, 32) => Some(un(|a: i32| f64::from(a))),
                (Ty::F64, Ty::U32, 32) => Some(un(|a: u32| f64::from(a))),
                _ => None,
            };
            if let Some(f) = direct {
                self.alu1(f, d, a);
                return Ok(());
            }
        }
        let t = self.temp(64);
        let Some(f) = widen(from, ar) else { return self.fail("this conversion is not supported") };
        self.alu1(f, t, a);
        let unsigned = from == Ty::U64;
        match to {
            Ty::F64 => {
                let f = if unsigned {
                    modes!(rm, u64, a, r, round::int_to_f64(i128::from(a), r))
                } else {
                    modes!(rm, i64, a, r, round::int_to_f64(i128::from(a), r))
                };
                self.alu1(f, d, t);
                if saturate {
                    self.alu1(un(sat64), d, d);
                }
            }
            Ty::F32 => {
                let f = if unsigned {
                    modes!(rm, u64, a, r, round::int_to_f32(i128::from(a), r))
                } else {
                    modes!(rm, i64, a, r, round::int_to_f32(i128::from(a), r))
                };
                self.alu1(f, d, t);
                if saturate {
                    self.alu1(un(sat), d, d);
                }
            }
            Ty::F16 => {
                // An f32 rounded to zero keeps a sticky direction only for values that overflow f16 anyway.
                let f = if unsigned {
                    modes!(rm, u64, a, r, f32_to_f16_mode(round::int_to_f32(i128::from(a), Rm::N), r))
                } else {
                    modes!(rm, i64, a, r, f32_to_f16_mode(round::int_to_f32(i128::from(a), Rm::N), r))
                };
                self.alu1(f, d, t);
            }
            Ty::Bf16 => {
                let f = if unsigned {
                    modes!(rm, u64, a, r, f32_to_bf16_mode(int_odd(i128::from(a)), r))
                } else {
                    modes!(rm, i64, a, r, f32_to_bf16_mode(int_odd(i128::from(a)), r))
                };
                self.alu1(f, d, t);
            }
            _ => return self.fail("this conversion is not supported"),
        }
        if saturate && matches!(to, Ty::F16 | Ty::Bf16) {
            self.alu1(halves::unit(to), d, d);
        }
        Ok(())
    }

    fn float_to_int(
        &mut self,
        o: &[Operand<'a>],
        to: Ty,
        from: Ty,
        rm: Rm,
        flush: bool,
    ) -> Result<(), PtxError> {
        let (d, dr) = self.dst_any(&o[0], to)?;
        let a = self.src(&o[1], from)?;
        if from == Ty::F32 && !flush && to == Ty::S32 && dr == 32 {
            match rm {
                Rm::Z => self.alu1(un(|a: f32| a as i32), d, a),
                Rm::N => self.alu1(un(|a: f32| a.round_ties_even() as i32), d, a),
                Rm::M => self.alu1(un(|a: f32| a.floor() as i32), d, a),
                Rm::P => self.alu1(un(|a: f32| a.ceil() as i32), d, a),
            }
            return Ok(());
        }
        let x = self.as_f64(a, from, flush)?;
        let t = self.temp(64);
        self.alu1(to_int(to, rm, from == Ty::F64), t, x);
        let Some(f) = narrow(to, dr) else { return self.fail("this conversion is not supported") };
        self.alu1(f, d, t);
        Ok(())
    }

    fn as_f64(&mut self, a: u32, from: Ty, flush: bool) -> Result<u32, PtxError> {
        if from == Ty::F64 {
            return Ok(a);
        }
        let t = self.temp(64);
        let f = match from {
            Ty::F32 if flush => un(|a: f32| f64::from(ftz(a))),
            Ty::F32 => un(|a: f32| f64::from(a)),
            Ty::F16 => un(|a: u16| f64::from(f16_to_f32(a))),
            Ty::Bf16 => un(|a: u16| f64::from(bf16_to_f32(a))),
            _ => return self.fail("this conversion is not supported"),
        };
        self.alu1(f, t, a);
        Ok(t)
    }

    #[allow(clippy::too_many_arguments)] // The modifiers of one instruction.
    fn float_to_float(
        &mut self,
        o: &[Operand<'a>],
        to: Ty,
        from: Ty,
        rm: Option<Rm>,
        integral: Option<Rm>,
        flush: bool,
        saturate: bool,
    ) -> Result<(), PtxError> {
        let d = self.dst(&o[0], to)?;
        let a = self.src(&o[1], from)?;
        let r = rm.unwrap_or(Rm::N);
        if matches!((to, from), (Ty::F32, Ty::F64) | (Ty::F16 | Ty::Bf16, Ty::F32 | Ty::F64)) && rm.is_none()
        {
            return self.fail("a rounding mode is missing");
        }
        if let Some(i) = integral {
            match (to, from, flush, saturate) {
                (Ty::F32, Ty::F32, false, false) => {
                    let f = match i {
                        Rm::N => un(|a: f32| canon(a.round_ties_even())),
                        Rm::Z => un(|a: f32| canon(a.trunc())),
                        Rm::M => un(|a: f32| canon(a.floor())),
                        Rm::P => un(|a: f32| canon(a.ceil())),
                    };
                    self.alu1(f, d, a);
                    return Ok(());
                }
                (Ty::F64, Ty::F64, _, false) => {
                    self.alu1(modes!(i, f64, a, r, round::integral(a, r)), d, a);
                    return Ok(());
                }
                _ => {}
            }
        }
        match (to, from) {
            (Ty::F32, Ty::F16) if !saturate && integral.is_none() => {
                self.alu1(un(|a: u16| canon(f16_to_f32(a))), d, a);
            }
            (Ty::F32, Ty::Bf16) if !saturate && integral.is_none() => {
                self.alu1(un(|a: u16| canon(bf16_to_f32(a))), d, a)
            }
            (Ty::F16, Ty::F32) if r == Rm::N && !saturate && !flush => self.alu1(un(f32_to_f16), d, a),
            (Ty::Bf16, Ty::F32) if r == Rm::N && !saturate && !flush => self.alu1(un(f32_to_bf16), d, a),
            (Ty::F64, Ty::F32) if !saturate && !flush && integral.is_none() => {
                self.alu1(un(|a: f32| f64::from(a)), d, a);
            }
            (Ty::F32, Ty::F64) if r == Rm::N && !saturate && !flush && integral.is_none() => {
                self.alu1(un(|a: f64| canon(a as f32)), d, a);
            }
            _ => {
                let t = self.as_f64(a, from, flush)?;
                let w = self.temp(64);
                self.copy(64, w, t);
                if let Some(i) = integral {
                    self.alu1(modes!(i, f64, a, r, round::integral(a, r)), w, w);
                }
                if saturate {
                    self.alu1(un(sat64), w, w);
                }
                let f = match to {
                    Ty::F64 => un(|a: f64| a),
                    Ty::F32 if flush => modes!(r, f64, a, r, ftz(canon(round::to_f32(a, r)))),
                    Ty::F32 => modes!(r, f64, a, r, canon(round::to_f32(a, r))),
                    // Rounding to odd on the way keeps the last rounding the only one.
                    Ty::F16 => modes!(r, f64, a, r, f32_to_f16_mode(round::odd32(a), r)),
                    Ty::Bf16 => modes!(r, f64, a, r, f32_to_bf16_mode(round::odd32(a), r)),
                    _ => return self.fail("this conversion is not supported"),
                };
                self.alu1(f, d, w);
            }
        }
        Ok(())
    }
}

/// An integer to f32, rounded to odd.
fn int_odd(v: i128) -> f32 {
    let r = round::int_to_f32(v, Rm::Z);
    if r as i128 == v { r } else { f32::from_bits(r.to_bits() | 1) }
}
