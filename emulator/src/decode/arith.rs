//! What: integer arithmetic.
//! Why here: one family; floating-point types of the same names go on to `float` and `halves`.
//! Pre: an instruction of this family.
//! Post: lane functions that never panic, whatever the operands (division by zero gives all ones, as on hardware).

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{NONE, Op, Slot};
use crate::lanes::{AluFn, bin, carry, carry3, ter, un};
use crate::parse::ast::Operand;
use crate::types::Ty;

/// One closure over each integer type.
macro_rules! ints {
    ($ty:expr, $ctor:ident, ($($a:ident),*), $e:expr) => {
        match $ty {
            Ty::S16 => Some($ctor(|$($a: i16),*| $e)),
            Ty::U16 | Ty::B16 => Some($ctor(|$($a: u16),*| $e)),
            Ty::S32 => Some($ctor(|$($a: i32),*| $e)),
            Ty::U32 | Ty::B32 => Some($ctor(|$($a: u32),*| $e)),
            Ty::S64 => Some($ctor(|$($a: i64),*| $e)),
            Ty::U64 | Ty::B64 => Some($ctor(|$($a: u64),*| $e)),
            _ => None,
        }
    };
}

/// The upper half of a product.
macro_rules! hi {
    ($t:ty, $w:ty, $a:expr, $b:expr) => {
        (($a as $w).wrapping_mul($b as $w) >> (size_of::<$t>() * 8)) as $t
    };
}

fn mul_hi(ty: Ty) -> Option<AluFn> {
    Some(match ty {
        Ty::S16 => bin(|a: i16, b: i16| hi!(i16, i32, a, b)),
        Ty::U16 => bin(|a: u16, b: u16| hi!(u16, u32, a, b)),
        Ty::S32 => bin(|a: i32, b: i32| hi!(i32, i64, a, b)),
        Ty::U32 => bin(|a: u32, b: u32| hi!(u32, u64, a, b)),
        Ty::S64 => bin(|a: i64, b: i64| hi!(i64, i128, a, b)),
        Ty::U64 => bin(|a: u64, b: u64| hi!(u64, u128, a, b)),
        _ => return None,
    })
}

fn mad_hi(ty: Ty) -> Option<AluFn> {
    Some(match ty {
        Ty::S16 => ter(|a: i16, b: i16, c: i16| hi!(i16, i32, a, b).wrapping_add(c)),
        Ty::U16 => ter(|a: u16, b: u16, c: u16| hi!(u16, u32, a, b).wrapping_add(c)),
        Ty::S32 => ter(|a: i32, b: i32, c: i32| hi!(i32, i64, a, b).wrapping_add(c)),
        Ty::U32 => ter(|a: u32, b: u32, c: u32| hi!(u32, u64, a, b).wrapping_add(c)),
        Ty::S64 => ter(|a: i64, b: i64, c: i64| hi!(i64, i128, a, b).wrapping_add(c)),
        Ty::U64 => ter(|a: u64, b: u64, c: u64| hi!(u64, u128, a, b).wrapping_add(c)),
        _ => return None,
    })
}

/// Wide products; the result type.
fn wide(ty: Ty) -> Option<(AluFn, AluFn, Ty)> {
    Some(match ty {
        Ty::S16 => (
            bin(|a: i16, b: i16| i32::from(a).wrapping_mul(i32::from(b))),
            ter(|a: i16, b: i16, c: i32| i32::from(a).wrapping_mul(i32::from(b)).wrapping_add(c)),
            Ty::S32,
        ),
        Ty::U16 => (
            bin(|a: u16, b: u16| u32::from(a).wrapping_mul(u32::from(b))),
            ter(|a: u16, b: u16, c: u32| u32::from(a).wrapping_mul(u32::from(b)).wrapping_add(c)),
            Ty::U32,
        ),
        Ty::S32 => (
            bin(|a: i32, b: i32| i64::from(a).wrapping_mul(i64::from(b))),
            ter(|a: i32, b: i32, c: i64| i64::from(a).wrapping_mul(i64::from(b)).wrapping_add(c)),
            Ty::S64,
        ),
        Ty::U32 => (
            bin(|a: u32, b: u32| u64::from(a).wrapping_mul(u64::from(b))),
            ter(|a: u32, b: u32, c: u64| u64::from(a).wrapping_mul(u64::from(b)).wrapping_add(c)),
            Ty::U64,
        ),
        _ => return None,
    })
}

/// Sign-extends the low 24 bits.
fn s24(v: i32) -> i64 {
    i64::from(v << 8 >> 8)
}

/// A function of both halves of a word.
#[inline(always)]
fn lanes16(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}
#[inline(always)]
fn signed16(a: u32, b: u32, f: impl Fn(i16, i16) -> i16) -> u32 {
    lanes16(a, b, |a, b| f(a as i16, b as i16) as u16)
}

/// The product of the low 24 bits.
#[inline(always)]
fn u24(a: u32, b: u32) -> u64 {
    u64::from(a << 8 >> 8) * u64::from(b << 8 >> 8)
}

/// Clamps to 32 bits.
#[inline(always)]
fn clamp32(v: i64) -> i32 {
    v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// A carry chain step of width A: the sum and whether it carries.
macro_rules! chain {
    ($name:expr, $cc:expr, $t:ty) => {
        match ($name, $cc) {
            ("add", _) => carry(|a: $t, b: $t, _c: bool| a.overflowing_add(b)),
            ("addc", true) => carry(|a: $t, b: $t, c: bool| {
                let (s, x) = a.overflowing_add(b);
                let (s, y) = s.overflowing_add(<$t>::from(c));
                (s, x | y)
            }),
            ("addc", false) => {
                carry(|a: $t, b: $t, c: bool| (a.wrapping_add(b).wrapping_add(<$t>::from(c)), c))
            }
            // Subtraction carries a borrow, inverted as in hardware: the flag means "no carry into the next".
            ("sub", _) => carry(|a: $t, b: $t, _c: bool| a.overflowing_sub(b)),
            ("subc", true) => carry(|a: $t, b: $t, c: bool| {
                let (s, x) = a.overflowing_sub(b);
                let (s, y) = s.overflowing_sub(<$t>::from(c));
                (s, x | y)
            }),
            _ => carry(|a: $t, b: $t, c: bool| (a.wrapping_sub(b).wrapping_sub(<$t>::from(c)), c)),
        }
    };
}

macro_rules! mad_chain {
    ($hi:expr, $cin:expr, $cout:expr, $t:ty, $w:ty, $s:ty) => {{
        fn step(p: $t, c: $t, cin: bool) -> ($t, bool) {
            let (s, x) = p.overflowing_add(c);
            let (s, y) = s.overflowing_add(<$t>::from(cin));
            (s, x | y)
        }
        match ($hi, $cin, $cout) {
            (false, false, _) => carry3(|a: $t, b: $t, c: $t, _f: bool| step(a.wrapping_mul(b), c, false)),
            (true, false, _) => {
                carry3(|a: $t, b: $t, c: $t, _f: bool| step(hi!($t, $w, a as $s, b as $s), c, false))
            }
            (false, true, true) => carry3(|a: $t, b: $t, c: $t, f: bool| step(a.wrapping_mul(b), c, f)),
            (true, true, true) => {
                carry3(|a: $t, b: $t, c: $t, f: bool| step(hi!($t, $w, a as $s, b as $s), c, f))
            }
            (false, true, false) => {
                carry3(|a: $t, b: $t, c: $t, f: bool| (step(a.wrapping_mul(b), c, f).0, f))
            }
            (true, true, false) => {
                carry3(|a: $t, b: $t, c: $t, f: bool| (step(hi!($t, $w, a as $s, b as $s), c, f).0, f))
            }
        }
    }};
}

impl<'a> Build<'_, 'a> {
    pub(super) fn arith(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if matches!(m.name, "dp4a" | "dp2a") {
            return self.dot(m, o);
        }
        let types = m.types();
        let Some(&ty) = types.first() else {
            return self.fail("an instruction without a type");
        };
        match ty {
            Ty::F32 | Ty::F64 => return self.float_arith(m, o, ty),
            Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 => return self.half_arith(m, o, ty),
            _ => {}
        }
        if types.len() != 1 {
            return self.fail("integer arithmetic has one type");
        }
        let cc = m.has("cc");
        if cc || matches!(m.name, "addc" | "subc" | "madc") {
            return self.chain(m, o, ty, cc);
        }
        let f = match m.name {
            "add" if m.has("sat") => match ty {
                Ty::S32 => Some(bin(|a: i32, b: i32| a.saturating_add(b))),
                _ => return self.fail("`.sat` wants .s32"),
            },
            "sub" if m.has("sat") => match ty {
                Ty::S32 => Some(bin(|a: i32, b: i32| a.saturating_sub(b))),
                _ => return self.fail("`.sat` wants .s32"),
            },
            "add" if ty == Ty::U16x2 || ty == Ty::S16x2 => Some(bin(|a: u32, b: u32| {
                (a & 0xffff0000).wrapping_add(b & 0xffff0000) | a.wrapping_add(b) & 0xffff
            })),
            "add" => ints!(ty, bin, (a, b), a.wrapping_add(b)),
            "sub" => ints!(ty, bin, (a, b), a.wrapping_sub(b)),
            "mul" | "mad" | "mul24" | "mad24" => return self.product(m, o, ty),
            "div" => ints!(ty, bin, (a, b), if b == 0 { !0 } else { a.wrapping_div(b) }),
            "rem" => ints!(ty, bin, (a, b), if b == 0 { a } else { a.wrapping_rem(b) }),
            "min" | "max" if matches!(ty, Ty::U16x2 | Ty::S16x2) => {
                let f = match (m.name, ty, m.has("relu")) {
                    ("min", Ty::U16x2, false) => bin(|a: u32, b: u32| lanes16(a, b, u16::min)),
                    ("max", Ty::U16x2, false) => bin(|a: u32, b: u32| lanes16(a, b, u16::max)),
                    ("min", Ty::S16x2, false) => bin(|a: u32, b: u32| signed16(a, b, i16::min)),
                    ("max", Ty::S16x2, false) => bin(|a: u32, b: u32| signed16(a, b, i16::max)),
                    ("min", Ty::S16x2, true) => {
                        bin(|a: u32, b: u32| signed16(a, b, |a: i16, b: i16| a.min(b).max(0)))
                    }
                    ("max", Ty::S16x2, true) => {
                        bin(|a: u32, b: u32| signed16(a, b, |a: i16, b: i16| a.max(b).max(0)))
                    }
                    _ => return self.fail("`.relu` wants a signed type"),
                };
                Some(f)
            }
            "min" if m.has("relu") => match ty {
                Ty::S32 => Some(bin(|a: i32, b: i32| a.min(b).max(0))),
                _ => return self.fail("`.relu` wants .s32 or .s16x2"),
            },
            "max" if m.has("relu") => match ty {
                Ty::S32 => Some(bin(|a: i32, b: i32| a.max(b).max(0))),
                _ => return self.fail("`.relu` wants .s32 or .s16x2"),
            },
            "min" => ints!(ty, bin, (a, b), a.min(b)),
            "max" => ints!(ty, bin, (a, b), a.max(b)),
            "abs" | "neg" => {
                let f = match (m.name, ty) {
                    ("abs", Ty::S16) => un(|a: i16| a.wrapping_abs()),
                    ("abs", Ty::S32) => un(|a: i32| a.wrapping_abs()),
                    ("abs", Ty::S64) => un(|a: i64| a.wrapping_abs()),
                    ("neg", Ty::S16) => un(|a: i16| a.wrapping_neg()),
                    ("neg", Ty::S32) => un(|a: i32| a.wrapping_neg()),
                    ("neg", Ty::S64) => un(|a: i64| a.wrapping_neg()),
                    _ => return self.fail("this instruction wants a signed type"),
                };
                self.need(o, 2)?;
                let (d, a) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?);
                self.alu1(f, d, a);
                return Ok(());
            }
            "sad" => {
                let f = match ty {
                    Ty::S16 => ter(|a: i16, b: i16, c: i16| c.wrapping_add(a.wrapping_sub(b).wrapping_abs())),
                    Ty::U16 => ter(|a: u16, b: u16, c: u16| c.wrapping_add(a.abs_diff(b))),
                    Ty::S32 => ter(|a: i32, b: i32, c: i32| c.wrapping_add(a.abs_diff(b) as i32)),
                    Ty::U32 => ter(|a: u32, b: u32, c: u32| c.wrapping_add(a.abs_diff(b))),
                    Ty::S64 => ter(|a: i64, b: i64, c: i64| c.wrapping_add(a.abs_diff(b) as i64)),
                    Ty::U64 => ter(|a: u64, b: u64, c: u64| c.wrapping_add(a.abs_diff(b))),
                    _ => return self.fail("this type has no such instruction"),
                };
                return self.three(f, o, ty, ty);
            }
            _ => None,
        };
        let Some(f) = f else { return self.fail("this type has no such instruction") };
        self.need(o, 3)?;
        let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
        self.alu2(f, d, a, b);
        Ok(())
    }

    /// d and c of type `to`, a and b of type `ty`.
    pub(super) fn three(&mut self, f: AluFn, o: &[Operand<'a>], ty: Ty, to: Ty) -> Result<(), PtxError> {
        self.need(o, 4)?;
        let d = self.dst(&o[0], to)?;
        let (a, b, c) = (self.src(&o[1], ty)?, self.src(&o[2], ty)?, self.src(&o[3], to)?);
        self.alu3(f, d, a, b, c);
        Ok(())
    }

    fn product(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty) -> Result<(), PtxError> {
        let mad = m.name.starts_with("mad");
        let (f, to) = if m.name.ends_with("24") {
            let hi = m.has("hi");
            if !hi && !m.has("lo") {
                return self.fail("`.hi` or `.lo` is missing");
            }
            let saturate = mad && m.has("sat");
            let f = match (mad, hi, ty) {
                (true, true, Ty::S32) if saturate => {
                    ter(|a: i32, b: i32, c: i32| clamp32((s24(a) * s24(b) >> 16) + i64::from(c)))
                }
                _ if saturate => return self.fail("`.sat` wants mad24.hi.sat.s32"),
                (false, false, Ty::S32) => bin(|a: i32, b: i32| (s24(a) * s24(b)) as i32),
                (false, true, Ty::S32) => bin(|a: i32, b: i32| (s24(a) * s24(b) >> 16) as i32),
                (false, false, Ty::U32) => bin(|a: u32, b: u32| u24(a, b) as u32),
                (false, true, Ty::U32) => bin(|a: u32, b: u32| (u24(a, b) >> 16) as u32),
                (true, false, Ty::S32) => {
                    ter(|a: i32, b: i32, c: i32| ((s24(a) * s24(b)) as i32).wrapping_add(c))
                }
                (true, true, Ty::S32) => {
                    ter(|a: i32, b: i32, c: i32| ((s24(a) * s24(b) >> 16) as i32).wrapping_add(c))
                }
                (true, false, Ty::U32) => ter(|a: u32, b: u32, c: u32| (u24(a, b) as u32).wrapping_add(c)),
                (true, true, Ty::U32) => {
                    ter(|a: u32, b: u32, c: u32| ((u24(a, b) >> 16) as u32).wrapping_add(c))
                }
                _ => return self.fail("24-bit products are .u32 or .s32"),
            };
            (Some(f), ty)
        } else if m.has("wide") {
            match wide(ty) {
                Some((mul, fma, to)) => (Some(if mad { fma } else { mul }), to),
                None => (None, ty),
            }
        } else if m.has("hi") {
            if mad && m.has("sat") {
                if ty != Ty::S32 {
                    return self.fail("`.sat` wants .s32");
                }
                let f =
                    ter(|a: i32, b: i32, c: i32| clamp32((i64::from(a) * i64::from(b) >> 32) + i64::from(c)));
                return self.three(f, o, ty, ty);
            }
            (if mad { mad_hi(ty) } else { mul_hi(ty) }, ty)
        } else {
            if !m.has("lo") {
                return self.fail("`.hi`, `.lo` or `.wide` is missing");
            }
            let f = if mad {
                ints!(ty, ter, (a, b, c), a.wrapping_mul(b).wrapping_add(c))
            } else {
                ints!(ty, bin, (a, b), a.wrapping_mul(b))
            };
            (f, ty)
        };
        let Some(f) = f else { return self.fail("this type has no such instruction") };
        if mad {
            return self.three(f, o, ty, to);
        }
        self.need(o, 3)?;
        let (d, a, b) = (self.dst(&o[0], to)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
        self.alu2(f, d, a, b);
        Ok(())
    }

    fn chain(&mut self, m: &Mods<'a>, o: &[Operand<'a>], ty: Ty, cc: bool) -> Result<(), PtxError> {
        let wide = match ty.bits() {
            32 => false,
            64 => true,
            _ => return self.fail("carry chains are 32 or 64 bits wide"),
        };
        if m.name.starts_with("mad") {
            let hi = m.has("hi");
            if !hi && !m.has("lo") {
                return self.fail("`.hi` or `.lo` is missing");
            }
            let cin = m.name == "madc";
            let f = match (wide, ty.signed() && hi) {
                (false, false) => mad_chain!(hi, cin, cc, u32, u64, u32),
                (true, false) => mad_chain!(hi, cin, cc, u64, u128, u64),
                (false, true) => mad_chain!(true, cin, cc, u32, i64, i32),
                (true, true) => mad_chain!(true, cin, cc, u64, i128, i64),
            };
            self.need(o, 4)?;
            let d = self.dst(&o[0], ty)?;
            let (a, b, c) = (self.src(&o[1], ty)?, self.src(&o[2], ty)?, self.src(&o[3], ty)?);
            self.push(Op::Alu(f), [d, a, b, c], [Slot::Row; 4]);
            return Ok(());
        }
        let f = if wide { chain!(m.name, cc, u64) } else { chain!(m.name, cc, u32) };
        self.need(o, 3)?;
        let (d, a, b) = (self.dst(&o[0], ty)?, self.src(&o[1], ty)?, self.src(&o[2], ty)?);
        self.push(Op::Alu(f), [d, a, b, NONE], [Slot::Row, Slot::Row, Slot::Row, Slot::No]);
        Ok(())
    }

    fn dot(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let types = m.types();
        let [at, bt] = types[..] else { return self.fail("dot products have two types") };
        macro_rules! dp4 {
            ($a:ty, $b:ty) => {
                ter(|a: u32, b: u32, c: u32| {
                    let mut s = c as i32;
                    for i in 0..4 {
                        s = s.wrapping_add(i32::from((a >> (8 * i)) as $a) * i32::from((b >> (8 * i)) as $b));
                    }
                    s as u32
                })
            };
        }
        macro_rules! dp2 {
            ($a:ty, $b:ty, $sh:expr) => {
                ter(|a: u32, b: u32, c: u32| {
                    let mut s = c as i32;
                    for i in 0..2 {
                        let x = (a >> (16 * i)) as $a;
                        s = s.wrapping_add((x as i32).wrapping_mul(i32::from((b >> (8 * i + $sh)) as $b)));
                    }
                    s as u32
                })
            };
        }
        let (sa, sb) = (at.signed(), bt.signed());
        if at.bits() != 32 || bt.bits() != 32 {
            return self.fail("dot products want 32-bit types");
        }
        let f = if m.name == "dp4a" {
            match (sa, sb) {
                (true, true) => dp4!(i8, i8),
                (true, false) => dp4!(i8, u8),
                (false, true) => dp4!(u8, i8),
                (false, false) => dp4!(u8, u8),
            }
        } else {
            let hi = m.has("hi");
            if !hi && !m.has("lo") {
                return self.fail("`.hi` or `.lo` is missing");
            }
            match (sa, sb, hi) {
                (true, true, false) => dp2!(i16, i8, 0),
                (true, false, false) => dp2!(i16, u8, 0),
                (false, true, false) => dp2!(u16, i8, 0),
                (false, false, false) => dp2!(u16, u8, 0),
                (true, true, true) => dp2!(i16, i8, 16),
                (true, false, true) => dp2!(i16, u8, 16),
                (false, true, true) => dp2!(u16, i8, 16),
                (false, false, true) => dp2!(u16, u8, 16),
            }
        };
        self.three(f, o, Ty::B32, Ty::B32)
    }
}
