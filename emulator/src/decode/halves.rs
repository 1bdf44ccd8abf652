//! What: f16 and bf16 arithmetic, packed and not.
//! Why here: halves compute exactly and round once. Flushing, clamping and signs are steps before and after,
//! so that modifiers add functions instead of multiplying them.
//! Pre: an instruction of a half type.
//! Post: correctly rounded results; canonical NaNs.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::Flops;
use crate::lanes::{AluFn, bin, ter, un};
use crate::numeric::approx;
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::numeric::round::sum_odd;
use crate::parse::ast::Operand;
use crate::types::Ty;

/// Applies a 16-bit function to both halves of a word.
macro_rules! both {
    ($f:expr, $($a:ident),*) => {
        u32::from($f($($a as u16),*)) | u32::from($f($(($a >> 16) as u16),*)) << 16
    };
}

/// A function over f32 values, for each of the four half types.
macro_rules! halves {
    ($ty:expr, $ctor:ident, ($($a:ident),*), $e:expr) => {
        match $ty {
            Ty::F16 => $ctor(|$($a: u16),*| { $(let $a = f16_to_f32($a);)* f32_to_f16($e) }),
            Ty::Bf16 => $ctor(|$($a: u16),*| { $(let $a = bf16_to_f32($a);)* f32_to_bf16($e) }),
            Ty::F16x2 => $ctor(|$($a: u32),*| {
                #[inline(always)]
                fn one($($a: u16),*) -> u16 { $(let $a = f16_to_f32($a);)* f32_to_f16($e) }
                both!(one, $($a),*)
            }),
            _ => $ctor(|$($a: u32),*| {
                #[inline(always)]
                fn one($($a: u16),*) -> u16 { $(let $a = bf16_to_f32($a);)* f32_to_bf16($e) }
                both!(one, $($a),*)
            }),
        }
    };
}

/// a * b + c, rounded to odd in f32, so that the rounding to a half is the only one that shows.
#[inline(always)]
fn fma_odd(a: f32, b: f32, c: f32) -> f32 {
    // The product of two halves is exact in f64.
    sum_odd(f64::from(a) * f64::from(b), f64::from(c))
}

/// The lesser operand: a NaN loses, -0 is below +0.
#[inline(always)]
fn fmin(a: f32, b: f32) -> f32 {
    if a == b {
        f32::from_bits(a.to_bits() | b.to_bits())
    } else if a < b || b.is_nan() {
        a
    } else {
        b
    }
}
#[inline(always)]
fn fmax(a: f32, b: f32) -> f32 {
    if a == b {
        f32::from_bits(a.to_bits() & b.to_bits())
    } else if a > b || b.is_nan() {
        a
    } else {
        b
    }
}
#[inline(always)]
fn nan2(a: f32, b: f32, r: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { r }
}

/// A function of the bits of a half, for a half type; `$exp` is the exponent's mask, `$one` the bits of 1.
macro_rules! bits {
    ($ty:expr, $ctor:ident, ($($a:ident),*), $exp:ident, $one:ident, $e:expr) => {
        match $ty {
            Ty::F16 => $ctor(|$($a: u16),*| { let ($exp, $one) = (0x7c00u16, 0x3c00u16); let _ = ($exp, $one); $e }),
            Ty::Bf16 => $ctor(|$($a: u16),*| { let ($exp, $one) = (0x7f80u16, 0x3f80u16); let _ = ($exp, $one); $e }),
            Ty::F16x2 => $ctor(|$($a: u32),*| {
                #[inline(always)]
                fn one($($a: u16),*) -> u16 { let ($exp, $one) = (0x7c00u16, 0x3c00u16); let _ = ($exp, $one); $e }
                both!(one, $($a),*)
            }),
            _ => $ctor(|$($a: u32),*| {
                #[inline(always)]
                fn one($($a: u16),*) -> u16 { let ($exp, $one) = (0x7f80u16, 0x3f80u16); let _ = ($exp, $one); $e }
                both!(one, $($a),*)
            }),
        }
    };
}

/// Subnormals to zeros of their sign.
fn flush(ty: Ty) -> AluFn {
    bits!(ty, un, (a), exp, one, if a & exp == 0 { a & 0x8000 } else { a })
}
/// Clamps to [0, 1]; NaN becomes +0.
pub(super) fn unit(ty: Ty) -> AluFn {
    bits!(
        ty,
        un,
        (a),
        exp,
        one,
        if a & 0x8000 != 0 || a > exp {
            0
        } else if a > one {
            one
        } else {
            a
        }
    )
}
/// Negative values to +0; NaN stays.
pub(super) fn relu(ty: Ty) -> AluFn {
    bits!(ty, un, (a), exp, one, if a & 0x8000 != 0 && a & 0x7fff <= exp { 0 } else { a })
}
/// Infinities to the largest finite value of their sign.
pub(super) fn finite(ty: Ty) -> AluFn {
    bits!(ty, un, (a), exp, one, if a & 0x7fff == exp { a - 1 } else { a })
}
fn magnitude(ty: Ty) -> AluFn {
    bits!(ty, un, (a), exp, one, a & 0x7fff)
}
/// r with the sign of a times b, unless it is NaN.
fn signed(ty: Ty) -> AluFn {
    bits!(ty, ter, (r, a, b), exp, one, if r & 0x7fff > exp { r } else { r & 0x7fff | (a ^ b) & 0x8000 })
}

impl<'a> Build<'_, 'a> {
    pub(super) fn half_arith(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let _ = m.has("rn");
        let ftz = m.has("ftz");
        if ftz && !matches!(ty, Ty::F16 | Ty::F16x2) {
            return self.fail("`.ftz` wants .f16 or .f16x2");
        }
        let wide = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
        let lanes = if wide { 2 } else { 1 };
        let (saturate, clamp, nan) = (m.has("sat"), m.has("relu"), m.has("NaN"));
        let (xor, abs) = (m.has("xorsign"), m.has("abs"));
        let choice = matches!(m.name, "min" | "max");
        if saturate && (choice || matches!(ty, Ty::Bf16 | Ty::Bf16x2)) || clamp && m.name != "fma" {
            return self.fail("`.sat` wants f16 arithmetic and `.relu` wants fma");
        }
        if (nan || xor) && !choice || xor != abs {
            return self.fail("`.NaN` and `.xorsign.abs` want min or max");
        }
        let (n, f): (usize, AluFn) = match m.name {
            "add" => (2, halves!(ty, bin, (a, b), sum_odd(f64::from(a), f64::from(b)))),
            "sub" => (2, halves!(ty, bin, (a, b), sum_odd(f64::from(a), f64::from(-b)))),
            // Adding -0 changes no product, not even its sign.
            "mul" => (2, halves!(ty, bin, (a, b), fma_odd(a, b, -0.0))),
            "fma" => (3, halves!(ty, ter, (a, b, c), fma_odd(a, b, c))),
            "min" if nan => (2, halves!(ty, bin, (a, b), nan2(a, b, fmin(a, b)))),
            "max" if nan => (2, halves!(ty, bin, (a, b), nan2(a, b, fmax(a, b)))),
            "min" => (2, halves!(ty, bin, (a, b), fmin(a, b))),
            "max" => (2, halves!(ty, bin, (a, b), fmax(a, b))),
            "abs" => (1, magnitude(ty)),
            "neg" if wide => (1, un(|a: u32| a ^ 0x8000_8000)),
            "neg" => (1, un(|a: u16| a ^ 0x8000)),
            _ => return self.fail("this type has no such instruction"),
        };
        self.flops = match m.name {
            "fma" => Flops { f16: 2 * lanes, ..Flops::default() },
            "add" | "sub" | "mul" => Flops { f16: lanes, ..Flops::default() },
            _ => Flops::default(),
        };
        self.need(o, n + 1)?;
        let d = self.dst(&o[0], ty)?;
        let mut v = [0; 3];
        for (slot, op) in v.iter_mut().zip(&o[1..]) {
            *slot = self.src(op, ty)?;
        }
        let given = v;
        let bits = ty.bits();
        for slot in v.iter_mut().take(n) {
            for step in [ftz.then(|| flush(ty)), xor.then(|| magnitude(ty))].into_iter().flatten() {
                let t = self.temp(bits);
                self.alu1(step, t, *slot);
                *slot = t;
            }
        }
        // The destination may be a source that a later step still needs.
        let r = if xor { self.temp(bits) } else { d };
        match n {
            1 => self.alu1(f, r, v[0]),
            2 => self.alu2(f, r, v[0], v[1]),
            _ => self.alu3(f, r, v[0], v[1], v[2]),
        }
        if xor {
            self.alu3(signed(ty), d, r, given[0], given[1]);
        }
        let after = [ftz.then(|| flush(ty)), saturate.then(|| unit(ty)), clamp.then(|| relu(ty))];
        for step in after.into_iter().flatten() {
            self.alu1(step, d, d);
        }
        Ok(())
    }

    pub(super) fn half_function(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let ftz = m.has("ftz");
        if !m.has("approx") {
            return self.fail("`.approx` is missing");
        }
        let f = match m.name {
            "ex2" => halves!(ty, un, (a), approx::ex2(a)),
            "tanh" => halves!(ty, un, (a), approx::tanh(a)),
            _ => return self.fail("this type has no such instruction"),
        };
        let lanes = if matches!(ty, Ty::F16x2 | Ty::Bf16x2) { 2 } else { 1 };
        self.flops = Flops { f16: lanes, ..Flops::default() };
        self.need(o, 2)?;
        let (d, mut a) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?);
        if ftz {
            let t = self.temp(ty.bits());
            self.alu1(flush(ty), t, a);
            a = t;
        }
        self.alu1(f, d, a);
        if ftz {
            self.alu1(flush(ty), d, d);
        }
        Ok(())
    }
}
