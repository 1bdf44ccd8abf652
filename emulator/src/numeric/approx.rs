//! What: the approximate functions of the ISA (ex2, lg2, sin, cos, tanh, rcp, rsqrt).
//! Why here: computed in f64 by short polynomials without branches, which vectorises and lies well within the
//! errors that the ISA states.
//! Pre: none.
//! Post: special values as the ISA tabulates them.

use super::NAN32;

/// Adding and subtracting this rounds an f64 of magnitude below 2^51 to an integer, which then stands in the
/// low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// 2^x in f64 for |x| below 1000; relative error about 1e-11.
#[inline(always)]
fn exp2_core(x: f64) -> f64 {
    let t = x + MAGIC;
    let f = (x - (t - MAGIC)) * std::f64::consts::LN_2;
    let n = (t.to_bits() as u32 as i32 as i64 + 1023) as u64;
    let mut p = 1.0 / 362_880.0;
    p = p * f + 1.0 / 40_320.0;
    p = p * f + 1.0 / 5_040.0;
    p = p * f + 1.0 / 720.0;
    p = p * f + 1.0 / 120.0;
    p = p * f + 1.0 / 24.0;
    p = p * f + 1.0 / 6.0;
    p = p * f + 0.5;
    p = p * f + 1.0;
    p = p * f + 1.0;
    p * f64::from_bits(n << 52)
}

#[inline(always)]
pub(crate) fn ex2(x: f32) -> f32 {
    let v = f64::from(x);
    let v = if v > 200.0 { 200.0 } else { v };
    let v = if v < -200.0 { -200.0 } else { v };
    let r = exp2_core(v) as f32;
    if x.is_nan() { f32::from_bits(NAN32) } else { r }
}

#[inline(always)]
pub(crate) fn lg2(x: f32) -> f32 {
    let v = f64::from(x);
    let b = v.to_bits();
    // Shift the binades so that the mantissa lies in [sqrt(1/2), sqrt(2)).
    let shifted = b.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    // A biased 12-bit exponent, kept positive so that the shift vectorises as unsigned.
    let e = (shifted.wrapping_add(1024 << 52) >> 52) as u32 as i32 - 1024;
    let m = f64::from_bits(b.wrapping_sub((e as i64 as u64) << 52));
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let mut p = 1.0 / 13.0;
    p = p * q + 1.0 / 11.0;
    p = p * q + 1.0 / 9.0;
    p = p * q + 1.0 / 7.0;
    p = p * q + 1.0 / 5.0;
    p = p * q + 1.0 / 3.0;
    p = p * q + 1.0;
    let r = (f64::from(e) + p * s * (2.0 * std::f64::consts::LOG2_E)) as f32;
    let r = if x == 0.0 { f32::NEG_INFINITY } else { r };
    let r = if x == f32::INFINITY { x } else { r };
    if x < 0.0 || x.is_nan() { f32::from_bits(NAN32) } else { r }
}

/// Sine of x + quarter * pi/2.
#[inline(always)]
fn sine(x: f32, quarter: u32) -> f32 {
    let v = f64::from(x);
    let t = v * std::f64::consts::FRAC_2_PI + MAGIC;
    let k = t - MAGIC;
    let r = k.mul_add(-std::f64::consts::FRAC_PI_2, v);
    let r = k.mul_add(-6.123_233_995_736_766e-17, r);
    let q = r * r;
    let mut s = 1.0 / 362_880.0;
    s = s * q - 1.0 / 5_040.0;
    s = s * q + 1.0 / 120.0;
    s = s * q - 1.0 / 6.0;
    s = s * q + 1.0;
    s *= r;
    let mut c = -1.0 / 3_628_800.0;
    c = c * q + 1.0 / 40_320.0;
    c = c * q - 1.0 / 720.0;
    c = c * q + 1.0 / 24.0;
    c = c * q - 0.5;
    c = c * q + 1.0;
    let n = (t.to_bits() as u32).wrapping_add(quarter);
    let r = if n & 1 == 0 { s } else { c };
    let r = if n & 2 == 0 { r } else { -r };
    if x.is_finite() { r as f32 } else { f32::from_bits(NAN32) }
}

#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    let r = sine(x, 0);
    if x == 0.0 { x } else { r }
}

#[inline(always)]
pub(crate) fn cos(x: f32) -> f32 {
    sine(x, 1)
}

#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let v = f64::from(x);
    let c = if v > 20.0 { 20.0 } else { v };
    let c = if c < -20.0 { -20.0 } else { c };
    let e = exp2_core(c * (2.0 * std::f64::consts::LOG2_E));
    let big = (e - 1.0) / (e + 1.0);
    let small = v - v * v * v * (1.0 / 3.0);
    let r = if v.abs() < 1e-3 { small } else { big } as f32;
    let r = if x == 0.0 { x } else { r };
    if x.is_nan() { f32::from_bits(NAN32) } else { r }
}

#[inline(always)]
pub(crate) fn rsqrt(x: f32) -> f32 {
    super::canon((1.0 / f64::from(x).sqrt()) as f32)
}

/// Keeps the upper word, as the f64 approximations do.
#[inline(always)]
fn upper(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & 0xffff_ffff_0000_0000)
}

#[inline(always)]
fn ftz64(x: f64) -> f64 {
    if x.abs() < f64::MIN_POSITIVE { 0.0f64.copysign(x) } else { x }
}

#[inline(always)]
pub(crate) fn rcp64(x: f64) -> f64 {
    let r = 1.0 / ftz64(x);
    ftz64(if r.is_nan() { r } else { upper(r) })
}

#[inline(always)]
pub(crate) fn rsqrt64_ftz(x: f64) -> f64 {
    let r = 1.0 / ftz64(x).sqrt();
    ftz64(if r.is_nan() { r } else { upper(r) })
}
