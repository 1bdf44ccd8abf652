//! What: the scalar arithmetic that Rust has no operator for.
//! Why here: the machine computes what the ISA says, bit for bit where the ISA is exact.
//! Pre: none.
//! Post: branch-free where it matters, so that the lane loops vectorise.

pub(crate) mod approx;
pub(crate) mod half;
pub(crate) mod round;

/// The NaN that f32 instructions return.
pub(crate) const NAN32: u32 = 0x7fff_ffff;

/// Replaces any NaN by the canonical one, as f32 hardware does.
#[inline(always)]
pub(crate) fn canon(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(NAN32) } else { x }
}

/// Flushes a subnormal to a zero of the same sign.
#[inline(always)]
pub(crate) fn ftz(x: f32) -> f32 {
    let b = x.to_bits();
    if b & 0x7f80_0000 == 0 { f32::from_bits(b & 0x8000_0000) } else { x }
}

/// Clamps to [0, 1]; NaN becomes +0.
#[inline(always)]
pub(crate) fn sat(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// As `sat`, for f64.
#[inline(always)]
pub(crate) fn sat64(x: f64) -> f64 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}
