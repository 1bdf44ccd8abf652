//! What: conversions between f32 and the narrow formats: f16, bf16, tf32, e4m3, e5m2.
//! Why here: one set of branch-free conversions for arithmetic, `cvt`, atomics and tensor instructions.
//! Pre: none.
//! Post: correctly rounded; NaN becomes the format's canonical NaN.

use super::round::{Rm, step};

/// f16 bits to f32.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u16) -> f32 {
    let h = u32::from(h);
    let sign = (h & 0x8000) << 16;
    let o = (h & 0x7fff) << 13;
    let exp = o & 0x0f80_0000;
    let normal = o.wrapping_add(112 << 23);
    let special = o.wrapping_add(224 << 23);
    let sub = (f32::from_bits(o.wrapping_add(113 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let r = if exp == 0x0f80_0000 {
        special
    } else if exp == 0 {
        sub
    } else {
        normal
    };
    f32::from_bits(r | sign)
}

/// f32 to f16 bits, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_f16(x: f32) -> u16 {
    let b = x.to_bits();
    let sign = (b >> 16) & 0x8000;
    let a = b & 0x7fff_ffff;
    let magic = 126u32 << 23;
    let sub = (f32::from_bits(a) + f32::from_bits(magic)).to_bits().wrapping_sub(magic);
    let normal = (a.wrapping_add(0xfff).wrapping_add((a >> 13) & 1)).wrapping_sub(112 << 23) >> 13;
    let r = if a > 0x7f80_0000 {
        return 0x7fff;
    } else if a >= 0x477f_f000 {
        0x7c00
    } else if a < 0x3880_0000 {
        sub
    } else {
        normal
    };
    (r | sign) as u16
}

/// bf16 bits to f32.
#[inline(always)]
pub(crate) fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// f32 to bf16 bits, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: f32) -> u16 {
    let b = x.to_bits();
    let r = b.wrapping_add(0x7fff).wrapping_add((b >> 16) & 1) >> 16;
    if b & 0x7fff_ffff > 0x7f80_0000 { 0x7fff } else { r as u16 }
}

/// f32 to f16 bits in any rounding mode.
pub(crate) fn f32_to_f16_mode(x: f32, rm: Rm) -> u16 {
    let near = f32_to_f16(x);
    if rm == Rm::N || x.is_nan() || x.is_infinite() {
        return near;
    }
    directed(x, near, rm, f16_to_f32)
}

/// f32 to bf16 bits in any rounding mode.
pub(crate) fn f32_to_bf16_mode(x: f32, rm: Rm) -> u16 {
    let near = f32_to_bf16(x);
    if rm == Rm::N || x.is_nan() || x.is_infinite() {
        return near;
    }
    directed(x, near, rm, bf16_to_f32)
}

/// Corrects a nearest result to a directed mode: sign-magnitude formats step by one in their bits.
fn directed(x: f32, near: u16, rm: Rm, back: impl Fn(u16) -> f32) -> u16 {
    let v = back(near);
    match step(f64::from(v), f64::from(x), rm) {
        0 => near,
        // Towards +inf: away from zero for positive values.
        1 if near == 0x8000 => 0x0001,
        1 => {
            if near & 0x8000 == 0 {
                near + 1
            } else {
                near - 1
            }
        }
        _ if near == 0 => 0x8001,
        _ => {
            if near & 0x8000 == 0 {
                near - 1
            } else {
                near + 1
            }
        }
    }
}

/// f32 to tf32, nearest with ties away from zero.
#[inline(always)]
pub(crate) fn tf32_rna(x: u32) -> u32 {
    let a = x & 0x7fff_ffff;
    if a > 0x7f80_0000 {
        super::NAN32
    } else if a == 0x7f80_0000 {
        x
    } else {
        x.wrapping_add(0x1000) & !0x1fff
    }
}

/// f32 to tf32, nearest even.
#[inline(always)]
pub(crate) fn tf32_rn(x: u32) -> u32 {
    let a = x & 0x7fff_ffff;
    if a > 0x7f80_0000 {
        super::NAN32
    } else if a == 0x7f80_0000 {
        x
    } else {
        x.wrapping_add(0xfff).wrapping_add((x >> 13) & 1) & !0x1fff
    }
}

/// f32 to tf32, towards zero.
#[inline(always)]
pub(crate) fn tf32_rz(x: u32) -> u32 {
    if x & 0x7fff_ffff > 0x7f80_0000 { super::NAN32 } else { x & !0x1fff }
}

/// e4m3 bits to f32.
#[inline(always)]
pub(crate) fn e4m3_to_f32(v: u8) -> f32 {
    let (s, e, m) = (u32::from(v >> 7), u32::from(v >> 3 & 15), u32::from(v & 7));
    if e == 15 && m == 7 {
        return f32::from_bits(super::NAN32);
    }
    let mag = if e == 0 { m as f32 / 512.0 } else { f32::from_bits((e + 120) << 23 | m << 20) };
    f32::from_bits(mag.to_bits() | s << 31)
}

/// e5m2 bits to f32: e5m2 is the upper byte of f16.
#[inline(always)]
pub(crate) fn e5m2_to_f32(v: u8) -> f32 {
    f16_to_f32(u16::from(v) << 8)
}

/// f32 to e4m3 or e5m2, to nearest even, saturating to the largest finite value.
pub(crate) fn f32_to_fp8(x: f32, e4m3: bool) -> u8 {
    let (mant, bias, max_bits) = if e4m3 { (3i32, 7i32, 0x7eu8) } else { (2, 15, 0x7b) };
    let sign = if x.is_sign_negative() { 0x80u8 } else { 0 };
    if x.is_nan() {
        return 0x7f;
    }
    let a = f64::from(x.abs());
    let max = f64::from(if e4m3 { e4m3_to_f32(max_bits) } else { e5m2_to_f32(max_bits) });
    if a >= max {
        return sign | max_bits;
    }
    // The unit of the last place of a's binade, not below the subnormal unit.
    let exp = ((a.to_bits() >> 52) as i32 - 1023).max(1 - bias);
    let unit = f64::from_bits(((exp - mant + 1023) as u64) << 52);
    let q = (a / unit).round_ties_even() as u32;
    // q counts units: the encoding is linear in q within a binade and carries into the exponent.
    let base = ((exp + bias - 1) as u32) << mant;
    let enc = base + q;
    sign | (enc as u8).min(max_bits)
}
