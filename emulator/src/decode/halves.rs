//! What: f16 and bf16 arithmetic, packed and not.
//! Why here: halves compute in f32 (or f64 where two roundings would show) and round once.
//! Pre: an instruction of a half type.
//! Post: correctly rounded results; canonical NaNs.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::Flops;
use crate::lanes::{AluFn, bin, ter, un};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::numeric::{approx, sat};
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

/// a*b + c rounded to odd in f32, so that the rounding to a half is the only one that shows.
#[inline(always)]
fn fma_odd(a: f32, b: f32, c: f32) -> f32 {
    // Products of halves are exact in f64, and so is the sum but for extreme exponents, where the lost part is
    // far below half a unit.
    let exact = f64::from(a).mul_add(f64::from(b), f64::from(c));
    let r = exact as f32;
    let back = f64::from(r);
    if back == exact || !r.is_finite() || r.to_bits() & 1 == 1 {
        return r;
    }
    // The nearest f32 is even and inexact: its odd neighbour on the side of the exact value.
    let away = (exact > back) == (exact > 0.0);
    f32::from_bits(if away { r.to_bits() + 1 } else { r.to_bits().wrapping_sub(1) })
}

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
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x > 0.0 || x.is_nan() { x } else { 0.0 }
}
/// Flushes what is subnormal as an f16.
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < 6.103_515_6e-5 { 0.0f32.copysign(x) } else { x }
}

impl<'a> Build<'_, 'a> {
    pub(super) fn half_arith(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let _ = m.has("rn");
        let ftz = m.has("ftz") && matches!(ty, Ty::F16 | Ty::F16x2);
        let saturate = m.has("sat");
        let packed = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
        let lanes = if packed { 2 } else { 1 };
        let f: AluFn = match m.name {
            "add" if saturate => halves!(ty, bin, (a, b), sat(a + b)),
            "add" if ftz => halves!(ty, bin, (a, b), flush(flush(a) + flush(b))),
            "add" => halves!(ty, bin, (a, b), fma_odd(a, 1.0, b)),
            "sub" if saturate => halves!(ty, bin, (a, b), sat(a - b)),
            "sub" if ftz => halves!(ty, bin, (a, b), flush(flush(a) - flush(b))),
            "sub" => halves!(ty, bin, (a, b), fma_odd(b, -1.0, a)),
            "mul" if saturate => halves!(ty, bin, (a, b), sat(a * b)),
            "mul" if ftz => halves!(ty, bin, (a, b), flush(flush(a) * flush(b))),
            "mul" => halves!(ty, bin, (a, b), a * b),
            "fma" => {
                self.flops = Flops { f16: 2 * lanes, ..Flops::default() };
                let f = if m.has("relu") {
                    halves!(ty, ter, (a, b, c), relu(fma_odd(a, b, c)))
                } else if saturate {
                    halves!(ty, ter, (a, b, c), sat(fma_odd(a, b, c)))
                } else if ftz {
                    halves!(ty, ter, (a, b, c), flush(fma_odd(flush(a), flush(b), flush(c))))
                } else {
                    halves!(ty, ter, (a, b, c), fma_odd(a, b, c))
                };
                return self.three(f, o, ty, ty);
            }
            "min" if m.has("NaN") => halves!(ty, bin, (a, b), nan2(a, b, fmin(a, b))),
            "max" if m.has("NaN") => halves!(ty, bin, (a, b), nan2(a, b, fmax(a, b))),
            "min" => halves!(ty, bin, (a, b), fmin(a, b)),
            "max" => halves!(ty, bin, (a, b), fmax(a, b)),
            "abs" | "neg" => {
                let f = match (m.name, packed) {
                    ("abs", false) => un(|a: u16| a & 0x7fff),
                    ("abs", true) => un(|a: u32| a & 0x7fff_7fff),
                    (_, false) => un(|a: u16| a ^ 0x8000),
                    (_, true) => un(|a: u32| a ^ 0x8000_8000),
                };
                return self.two(f, o, ty);
            }
            _ => return self.fail("this type has no such instruction"),
        };
        if matches!(m.name, "add" | "sub" | "mul") {
            self.flops = Flops { f16: lanes, ..Flops::default() };
        }
        self.need(o, 3)?;
        let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
        self.alu2(f, d, a, b);
        Ok(())
    }

    pub(super) fn half_function(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let _ = m.has("ftz");
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
        self.two(f, o, ty)
    }
}
