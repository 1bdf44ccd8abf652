//! What: directed rounding of add, mul, fma, div and sqrt, and of conversions.
//! Why here: device libm and inline PTX use .rz, .rm and .rp; the host's rounding mode must not be touched.
//! Pre: none.
//! Post: correctly rounded; errors are recovered exactly by error-free transformations.

/// Rounding modes of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rm {
    N,
    Z,
    M,
    P,
}

/// How to move `r`, a value near `exact`, for the mode: -1 down, 0 stay, 1 up.
#[inline(always)]
pub(crate) fn step(r: f64, exact: f64, rm: Rm) -> i32 {
    match rm {
        Rm::N => 0,
        Rm::Z if r > exact && exact >= 0.0 => -1,
        Rm::Z if r < exact && exact <= 0.0 => 1,
        Rm::M if r > exact => -1,
        Rm::P if r < exact => 1,
        _ => 0,
    }
}

/// Sum and its rounding error.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let bb = s - a;
    let e = (a - (s - bb)) + (b - bb);
    (s, if e.is_nan() { 0.0 } else { e })
}

/// Makes an inexact f64 odd, so that a second rounding to f32 is a single rounding.
#[inline(always)]
fn odd(s: f64, e: f64) -> f64 {
    if e == 0.0 || s.to_bits() & 1 == 1 || !s.is_finite() {
        return s;
    }
    let b = s.to_bits();
    if s == 0.0 {
        return s;
    }
    f64::from_bits(if (e > 0.0) == (s > 0.0) { b + 1 } else { b - 1 })
}

/// a + b rounded to odd in f32: any narrower rounding of it is a rounding of the exact sum.
#[inline(always)]
pub(crate) fn sum_odd(a: f64, b: f64) -> f32 {
    let (s, e) = two_sum(a, b);
    odd32(odd(s, e))
}

/// An f64 to f32, rounded to odd.
#[inline(always)]
pub(crate) fn odd32(s: f64) -> f32 {
    let r = s as f32;
    let back = f64::from(r);
    // Towards zero first, and then inexact values become odd.
    let b = r.to_bits().wrapping_sub(u32::from(back.abs() > s.abs())) | 1;
    if back == s || s.is_nan() { r } else { f32::from_bits(b) }
}

/// f64 to f32 in a rounding mode.
#[inline(always)]
pub(crate) fn to_f32(x: f64, rm: Rm) -> f32 {
    let r = x as f32;
    match step(f64::from(r), x, rm) {
        0 => r,
        1 => r.next_up(),
        _ => r.next_down(),
    }
}

/// The sign of an exact zero sum.
#[inline(always)]
fn zero_sum(r: f32, a: f64, b: f64, rm: Rm) -> f32 {
    if r == 0.0 && rm == Rm::M && a == -b && a.is_sign_negative() != b.is_sign_negative() { -0.0 } else { r }
}

pub(crate) fn add32(a: f32, b: f32, rm: Rm) -> f32 {
    if rm == Rm::N {
        return a + b;
    }
    let (a, b) = (f64::from(a), f64::from(b));
    let (s, e) = two_sum(a, b);
    zero_sum(to_f32(odd(s, e), rm), a, b, rm)
}

pub(crate) fn mul32(a: f32, b: f32, rm: Rm) -> f32 {
    if rm == Rm::N { a * b } else { to_f32(f64::from(a) * f64::from(b), rm) }
}

pub(crate) fn fma32(a: f32, b: f32, c: f32, rm: Rm) -> f32 {
    if rm == Rm::N {
        return a.mul_add(b, c);
    }
    let p = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let (s, e) = two_sum(p, c);
    zero_sum(to_f32(odd(s, e), rm), p, c, rm)
}

pub(crate) fn div32(a: f32, b: f32, rm: Rm) -> f32 {
    if rm == Rm::N {
        return a / b;
    }
    let (x, y) = (f64::from(a), f64::from(b));
    let q = x / y;
    let r = (-q).mul_add(y, x);
    to_f32(odd(q, if r.is_finite() { r * y.signum() } else { 0.0 }), rm)
}

pub(crate) fn sqrt32(a: f32, rm: Rm) -> f32 {
    if rm == Rm::N {
        return a.sqrt();
    }
    let q = f64::from(a).sqrt();
    let r = (-q).mul_add(q, f64::from(a));
    to_f32(odd(q, if r.is_finite() { r } else { 0.0 }), rm)
}

/// Applies a directed mode to a nearest f64 whose exact value is `r + e`.
#[inline(always)]
fn fix64(r: f64, e: f64, rm: Rm) -> f64 {
    if r.is_nan() {
        return r;
    }
    if r.is_infinite() {
        // An overflow in a directed mode may stop at the largest finite value; `e` tells it from a true infinity.
        return match rm {
            Rm::Z if e != 0.0 => f64::MAX.copysign(r),
            Rm::M if e != 0.0 && r > 0.0 => f64::MAX,
            Rm::P if e != 0.0 && r < 0.0 => f64::MIN,
            _ => r,
        };
    }
    match rm {
        Rm::Z if e < 0.0 && r > 0.0 => r.next_down(),
        Rm::Z if e > 0.0 && r < 0.0 => r.next_up(),
        Rm::M if e < 0.0 => r.next_down(),
        Rm::P if e > 0.0 => r.next_up(),
        _ => r,
    }
}

/// The error of a result that overflowed from finite operands: any nonzero value.
#[inline(always)]
fn err(r: f64, e: f64, finite: bool) -> f64 {
    if r.is_infinite() { if finite { -r.signum() } else { 0.0 } } else { e }
}

pub(crate) fn add64(a: f64, b: f64, rm: Rm) -> f64 {
    if rm == Rm::N {
        return a + b;
    }
    let (s, e) = two_sum(a, b);
    if s == 0.0 && rm == Rm::M && a == -b && a.is_sign_negative() != b.is_sign_negative() {
        return -0.0;
    }
    fix64(s, err(s, e, a.is_finite() && b.is_finite()), rm)
}

pub(crate) fn mul64(a: f64, b: f64, rm: Rm) -> f64 {
    let p = a * b;
    if rm == Rm::N {
        return p;
    }
    fix64(p, err(p, a.mul_add(b, -p), a.is_finite() && b.is_finite()), rm)
}

pub(crate) fn fma64(a: f64, b: f64, c: f64, rm: Rm) -> f64 {
    let r = a.mul_add(b, c);
    if rm == Rm::N {
        return r;
    }
    let p = a * b;
    let pe = a.mul_add(b, -p);
    let (u, ue) = two_sum(p, c);
    fix64(r, err(r, (u - r) + (ue + pe), a.is_finite() && b.is_finite() && c.is_finite()), rm)
}

pub(crate) fn div64(a: f64, b: f64, rm: Rm) -> f64 {
    let q = a / b;
    if rm == Rm::N {
        return q;
    }
    let r = (-q).mul_add(b, a) * b.signum();
    fix64(q, err(q, r, a.is_finite() && b != 0.0), rm)
}

pub(crate) fn sqrt64(a: f64, rm: Rm) -> f64 {
    let q = a.sqrt();
    if rm == Rm::N || !q.is_finite() {
        return q;
    }
    fix64(q, (-q).mul_add(q, a), rm)
}

/// Rounds to an integral value.
#[inline(always)]
pub(crate) fn integral(x: f64, rm: Rm) -> f64 {
    match rm {
        Rm::N => x.round_ties_even(),
        Rm::Z => x.trunc(),
        Rm::M => x.floor(),
        Rm::P => x.ceil(),
    }
}

/// An integer to f32 in a rounding mode.
pub(crate) fn int_to_f32(v: i128, rm: Rm) -> f32 {
    let r = v as f32;
    let back = r as i128;
    let up = back < v && (rm == Rm::P || rm == Rm::Z && v < 0);
    let down = back > v && (rm == Rm::M || rm == Rm::Z && v > 0);
    if up {
        r.next_up()
    } else if down {
        r.next_down()
    } else {
        r
    }
}

/// An integer to f64 in a rounding mode.
pub(crate) fn int_to_f64(v: i128, rm: Rm) -> f64 {
    let r = v as f64;
    let back = r as i128;
    let up = back < v && (rm == Rm::P || rm == Rm::Z && v < 0);
    let down = back > v && (rm == Rm::M || rm == Rm::Z && v > 0);
    if up {
        r.next_up()
    } else if down {
        r.next_down()
    } else {
        r
    }
}
