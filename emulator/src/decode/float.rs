//! What: f32 and f64 arithmetic and the approximate functions.
//! Why here: rounding mode, .ftz and .sat multiply every instruction; macros keep that in one place.
//! Pre: an instruction of this family.
//! Post: lane functions with the ISA's rounding; NaN results of f32 are canonical.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::Flops;
use crate::lanes::{AluFn, bin, ter, test, un};
use crate::numeric::round::{self, Rm};
use crate::numeric::{approx, canon, ftz, sat};
use crate::parse::ast::Operand;
use crate::types::Ty;

/// An f32 function in its four flavours of flushing and saturation.
macro_rules! f32s {
    ($ftz:expr, $sat:expr, $ctor:ident, ($($a:ident),*), $e:expr) => {
        match ($ftz, $sat) {
            (false, false) => $ctor(|$($a: f32),*| canon($e)),
            (true, false) => $ctor(|$($a: f32),*| { $(let $a = ftz($a);)* ftz(canon($e)) }),
            (false, true) => $ctor(|$($a: f32),*| sat($e)),
            (true, true) => $ctor(|$($a: f32),*| { $(let $a = ftz($a);)* ftz(sat($e)) }),
        }
    };
}

/// As `f32s`, in the rounding mode `$rm`; to nearest by `$near`.
macro_rules! rounded32 {
    ($rm:expr, $ftz:expr, $sat:expr, $ctor:ident, ($($a:ident),*), $near:expr, $f:path) => {
        match $rm {
            Rm::N => f32s!($ftz, $sat, $ctor, ($($a),*), $near),
            Rm::Z => f32s!($ftz, $sat, $ctor, ($($a),*), $f($($a,)* Rm::Z)),
            Rm::M => f32s!($ftz, $sat, $ctor, ($($a),*), $f($($a,)* Rm::M)),
            Rm::P => f32s!($ftz, $sat, $ctor, ($($a),*), $f($($a,)* Rm::P)),
        }
    };
}

macro_rules! rounded64 {
    ($rm:expr, $ctor:ident, ($($a:ident),*), $near:expr, $f:path) => {
        match $rm {
            Rm::N => $ctor(|$($a: f64),*| $near),
            Rm::Z => $ctor(|$($a: f64),*| $f($($a,)* Rm::Z)),
            Rm::M => $ctor(|$($a: f64),*| $f($($a,)* Rm::M)),
            Rm::P => $ctor(|$($a: f64),*| $f($($a,)* Rm::P)),
        }
    };
}

/// min of IEEE 754-2008: a NaN loses, -0 is below +0.
#[inline(always)]
fn min32(a: f32, b: f32) -> f32 {
    let zero = f32::from_bits(a.to_bits() | b.to_bits());
    let r = if a < b {
        a
    } else if a == b {
        if a == 0.0 { zero } else { a }
    } else {
        b
    };
    let r = if b.is_nan() { a } else { r };
    canon(r)
}
#[inline(always)]
fn max32(a: f32, b: f32) -> f32 {
    let zero = f32::from_bits(a.to_bits() & b.to_bits());
    let r = if a > b {
        a
    } else if a == b {
        if a == 0.0 { zero } else { a }
    } else {
        b
    };
    let r = if b.is_nan() { a } else { r };
    canon(r)
}
#[inline(always)]
fn nan_or(a: f32, b: f32, r: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::from_bits(crate::numeric::NAN32) } else { r }
}
#[inline(always)]
fn min64(a: f64, b: f64) -> f64 {
    if a == b {
        f64::from_bits(a.to_bits() | b.to_bits())
    } else if a < b || b.is_nan() {
        a
    } else {
        b
    }
}
#[inline(always)]
fn max64(a: f64, b: f64) -> f64 {
    if a == b {
        f64::from_bits(a.to_bits() & b.to_bits())
    } else if a > b || b.is_nan() {
        a
    } else {
        b
    }
}

/// The fast division: tiny for huge divisors, as the ISA says.
#[inline(always)]
fn div_approx(a: f32, b: f32) -> f32 {
    let big = b.abs() > 8.507_059e37 && b.is_finite();
    if big { if a.is_infinite() { f32::NAN } else { 0.0 * a.signum() * b.signum() } } else { a / b }
}

impl<'a> Build<'_, 'a> {
    pub(super) fn rounding(&self, m: &Mods<'a>) -> Option<Rm> {
        m.one_of(&["rn", "rz", "rm", "rp"]).map(|i| [Rm::N, Rm::Z, Rm::M, Rm::P][i])
    }

    pub(super) fn float_arith(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let single = ty == Ty::F32;
        let (ftz, sat) = (m.has("ftz"), m.has("sat"));
        if !single && (ftz || sat) {
            return self.fail("`.ftz` and `.sat` want .f32");
        }
        let rm = self.rounding(m);
        let r = rm.unwrap_or(Rm::N);
        let count = |n: u8| {
            if single { Flops { f32: n, ..Flops::default() } } else { Flops { f64: n, ..Flops::default() } }
        };
        let mut xor = false;
        let f = match (m.name, single) {
            ("add", true) => rounded32!(r, ftz, sat, bin, (a, b), a + b, round::add32),
            ("add", false) => rounded64!(r, bin, (a, b), a + b, round::add64),
            ("sub", true) => match r {
                Rm::N => f32s!(ftz, sat, bin, (a, b), a - b),
                Rm::Z => f32s!(ftz, sat, bin, (a, b), round::add32(a, -b, Rm::Z)),
                Rm::M => f32s!(ftz, sat, bin, (a, b), round::add32(a, -b, Rm::M)),
                Rm::P => f32s!(ftz, sat, bin, (a, b), round::add32(a, -b, Rm::P)),
            },
            ("sub", false) => match r {
                Rm::N => bin(|a: f64, b: f64| a - b),
                Rm::Z => bin(|a: f64, b: f64| round::add64(a, -b, Rm::Z)),
                Rm::M => bin(|a: f64, b: f64| round::add64(a, -b, Rm::M)),
                Rm::P => bin(|a: f64, b: f64| round::add64(a, -b, Rm::P)),
            },
            ("mul", true) => rounded32!(r, ftz, sat, bin, (a, b), a * b, round::mul32),
            ("mul", false) => rounded64!(r, bin, (a, b), a * b, round::mul64),
            ("fma" | "mad", true) => {
                self.flops = count(2);
                let f = rounded32!(r, ftz, sat, ter, (a, b, c), a.mul_add(b, c), round::fma32);
                return self.three(f, o, ty, ty);
            }
            ("fma" | "mad", false) => {
                self.flops = count(2);
                let f = rounded64!(r, ter, (a, b, c), a.mul_add(b, c), round::fma64);
                return self.three(f, o, ty, ty);
            }
            ("div", true) => {
                if m.has("full") {
                    f32s!(ftz, false, bin, (a, b), a / b)
                } else if m.has("approx") {
                    f32s!(ftz, false, bin, (a, b), div_approx(a, b))
                } else {
                    rounded32!(r, ftz, false, bin, (a, b), a / b, round::div32)
                }
            }
            ("div", false) => rounded64!(r, bin, (a, b), a / b, round::div64),
            ("min" | "max", _) => {
                let nan = m.has("NaN");
                xor = m.has("xorsign");
                if xor != m.has("abs") || xor && !single {
                    return self.fail("`.xorsign.abs` wants .f32 or a half type");
                }
                match (m.name, single, nan) {
                    ("min", true, false) => f32s!(ftz, false, bin, (a, b), min32(a, b)),
                    ("min", true, true) => f32s!(ftz, false, bin, (a, b), nan_or(a, b, min32(a, b))),
                    ("max", true, false) => f32s!(ftz, false, bin, (a, b), max32(a, b)),
                    ("max", true, true) => f32s!(ftz, false, bin, (a, b), nan_or(a, b, max32(a, b))),
                    ("min", false, false) => bin(min64),
                    ("max", false, false) => bin(max64),
                    _ => return self.fail("`.NaN` wants .f32 or a half type"),
                }
            }
            ("abs" | "neg", _) => {
                let f = match (m.name, single) {
                    // Sign operations keep NaN payloads: they touch one bit.
                    ("abs", true) if !ftz => un(|a: u32| a & 0x7fff_ffff),
                    ("neg", true) if !ftz => un(|a: u32| a ^ 0x8000_0000),
                    ("abs", true) => un(|a: f32| crate::numeric::ftz(a.abs())),
                    ("neg", true) => un(|a: f32| crate::numeric::ftz(-a)),
                    ("abs", false) => un(|a: u64| a & !(1 << 63)),
                    _ => un(|a: u64| a ^ 1 << 63),
                };
                return self.two(f, o, ty);
            }
            _ => return self.fail("this type has no such instruction"),
        };
        if matches!(m.name, "add" | "sub" | "mul" | "div") {
            self.flops = count(1);
        }
        self.need(o, 3)?;
        let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
        if !xor {
            self.alu2(f, d, a, b);
            return Ok(());
        }
        // Of the magnitudes, with the sign of the product.
        let (x, y, r) = (self.temp(32), self.temp(32), self.temp(32));
        self.alu1(un(|a: u32| a & 0x7fff_ffff), x, a);
        self.alu1(un(|a: u32| a & 0x7fff_ffff), y, b);
        self.alu2(f, r, x, y);
        let sign = ter(
            |r: u32, a: u32, b: u32| {
                if r & 0x7fff_ffff > 0x7f80_0000 { r } else { r & 0x7fff_ffff | (a ^ b) & 1 << 31 }
            },
        );
        self.alu3(sign, d, r, a, b);
        Ok(())
    }

    /// d and a of one type.
    pub(super) fn two(&mut self, f: AluFn, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        self.need(o, 2)?;
        let (d, a) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?);
        self.alu1(f, d, a);
        Ok(())
    }

    /// The one-operand functions, and copysign and testp.
    pub(super) fn float(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let types = m.types();
        let [ty] = types[..] else { return self.fail("this instruction has one type") };
        if m.name == "copysign" {
            let f = match ty {
                Ty::F32 => bin(|a: u32, b: u32| a & 1 << 31 | b & !(1 << 31)),
                Ty::F64 => bin(|a: u64, b: u64| a & 1 << 63 | b & !(1 << 63)),
                _ => return self.fail("copysign wants .f32 or .f64"),
            };
            self.need(o, 3)?;
            let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
            self.alu2(f, d, a, b);
            return Ok(());
        }
        if m.name == "testp" {
            return self.testp(m, o, ty);
        }
        if matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2) {
            return self.half_function(m, o, ty);
        }
        let (ftz, approx) = (m.has("ftz"), m.has("approx"));
        let rm = self.rounding(m);
        let r = rm.unwrap_or(Rm::N);
        let one = |m: &Mods<'a>| (m.name, ty);
        let f = match one(m) {
            ("rcp", Ty::F32) if approx => f32s!(ftz, false, un, (a), 1.0 / a),
            ("rcp", Ty::F32) => match r {
                Rm::N => f32s!(ftz, false, un, (a), 1.0 / a),
                Rm::Z => f32s!(ftz, false, un, (a), round::div32(1.0, a, Rm::Z)),
                Rm::M => f32s!(ftz, false, un, (a), round::div32(1.0, a, Rm::M)),
                Rm::P => f32s!(ftz, false, un, (a), round::div32(1.0, a, Rm::P)),
            },
            ("rcp", Ty::F64) if approx => un(approx::rcp64),
            ("rcp", Ty::F64) => match r {
                Rm::N => un(|a: f64| 1.0 / a),
                Rm::Z => un(|a: f64| round::div64(1.0, a, Rm::Z)),
                Rm::M => un(|a: f64| round::div64(1.0, a, Rm::M)),
                Rm::P => un(|a: f64| round::div64(1.0, a, Rm::P)),
            },
            ("sqrt", Ty::F32) => rounded32!(r, ftz, false, un, (a), a.sqrt(), round::sqrt32),
            ("sqrt", Ty::F64) => rounded64!(r, un, (a), a.sqrt(), round::sqrt64),
            ("rsqrt", Ty::F32) => f32s!(ftz, false, un, (a), approx::rsqrt(a)),
            ("rsqrt", Ty::F64) if ftz => un(approx::rsqrt64_ftz),
            ("rsqrt", Ty::F64) => un(|a: f64| 1.0 / a.sqrt()),
            ("ex2", Ty::F32) => f32s!(ftz, false, un, (a), approx::ex2(a)),
            ("lg2", Ty::F32) => f32s!(ftz, false, un, (a), approx::lg2(a)),
            ("sin", Ty::F32) => f32s!(ftz, false, un, (a), approx::sin(a)),
            ("cos", Ty::F32) => f32s!(ftz, false, un, (a), approx::cos(a)),
            ("tanh", Ty::F32) => un(approx::tanh),
            _ => return self.fail("this type has no such instruction"),
        };
        let precise = matches!(m.name, "rcp" | "sqrt");
        if !precise && !approx {
            return self.fail("`.approx` is missing");
        }
        if precise && !approx && rm.is_none() {
            return self.fail("a rounding mode or `.approx` is missing");
        }
        self.flops = if ty == Ty::F32 {
            Flops { f32: 1, ..Flops::default() }
        } else {
            Flops { f64: 1, ..Flops::default() }
        };
        self.two(f, o, ty)
    }

    fn testp(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let kinds = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        let Some(k) = m.one_of(&kinds) else { return self.fail("testp without a test") };
        let f = match (k, ty) {
            (0, Ty::F32) => test(|a: f32| a.is_finite()),
            (1, Ty::F32) => test(|a: f32| a.is_infinite()),
            (2, Ty::F32) => test(|a: f32| !a.is_nan()),
            (3, Ty::F32) => test(|a: f32| a.is_nan()),
            (4, Ty::F32) => test(|a: f32| a.is_normal()),
            (5, Ty::F32) => test(|a: f32| a.is_subnormal()),
            (0, Ty::F64) => test(|a: f64| a.is_finite()),
            (1, Ty::F64) => test(|a: f64| a.is_infinite()),
            (2, Ty::F64) => test(|a: f64| !a.is_nan()),
            (3, Ty::F64) => test(|a: f64| a.is_nan()),
            (4, Ty::F64) => test(|a: f64| a.is_normal()),
            (5, Ty::F64) => test(|a: f64| a.is_subnormal()),
            _ => return self.fail("testp wants .f32 or .f64"),
        };
        self.need(o, 2)?;
        let (d, a) = (self.pred_dst(&o[0])?, self.src(&o[1], ty)?);
        self.alu_pred1(f, d, a);
        Ok(())
    }
}
