//! Arithmetic: the C of functions of one and two arguments, and the ranges of integer results.
//!
//! Why here: apart from the walk over expressions, because ranges decide widths, folding and the form of divisions.

use tilewright_ir::{Binary, Unary};

use super::expr::{ExprGen, I32, I64, Ty, Val, within};
use crate::CodegenError;
use crate::access::integer;

impl ExprGen<'_, '_> {
    /// An integer result with the given range, by the given C of two operands of one type.
    fn whole(
        &mut self,
        a: &Val,
        b: &Val,
        range: (i128, i128),
        code: impl Fn(String, String) -> String,
    ) -> Val {
        let narrow = within(range, I32) && a.ty <= Ty::I32 && b.ty <= Ty::I32;
        let ty = if narrow { Ty::I32 } else { Ty::I64 };
        let range = if within(range, I64) { range } else { I64 };
        self.named(ty, code(a.to(ty), b.to(ty)), Some(range))
    }

    pub(super) fn binary(&mut self, f: Binary, a: &Val, b: &Val) -> Val {
        use Binary::{Add, And, Div, FloorDiv, Max, Min, Mod, Mul, Or, Random, Sub};
        if f.is_comparison() {
            return self.compare(f, a, b);
        }
        match f {
            And | Or => {
                let stop = f == Or;
                match (a.always(), b.always()) {
                    (Some(x), _) if x == stop => return self.truth(stop),
                    (_, Some(x)) if x == stop => return self.truth(stop),
                    (Some(_), _) if b.ty == Ty::Bool => return b.clone(),
                    (_, Some(_)) if a.ty == Ty::Bool => return a.clone(),
                    _ => {}
                }
                let sign = if stop { "|" } else { "&" };
                self.named(Ty::Bool, format!("{} {sign} {}", a.to(Ty::Bool), b.to(Ty::Bool)), Some((0, 1)))
            }
            Random => {
                let code = format!("tw_random({}, {})", a.to(Ty::I64), b.to(Ty::I64));
                self.named(self.real, code, None)
            }
            Div => {
                let real = self.real;
                self.named(real, format!("tw_div({}, {})", a.operand(real), b.operand(real)), None)
            }
            _ if self.join(a, b).real() => {
                let real = self.real;
                let extreme = matches!(f, Max | Min);
                let of = |v: &Val| if extreme { v.to(real) } else { v.operand(real) };
                let (x, y) = (of(a), of(b));
                let code = match f {
                    Add => format!("{x} + {y}"),
                    Sub => format!("{x} - {y}"),
                    Mul => format!("{x} * {y}"),
                    Max => format!("tw_max({x}, {y})"),
                    Min => format!("tw_min({x}, {y})"),
                    FloorDiv => format!("tw_floor(tw_div({x}, {y}))"),
                    _ => format!("tw_mod({x}, {y})"),
                };
                self.named(real, code, None)
            }
            _ => {
                let (x, y) = (a.range.unwrap_or(I64), b.range.unwrap_or(I64));
                match f {
                    Add => self.whole(a, b, (x.0 + y.0, x.1 + y.1), |a, b| format!("{a} + {b}")),
                    Sub => self.whole(a, b, (x.0 - y.1, x.1 - y.0), |a, b| format!("{a} - {b}")),
                    Mul => {
                        let all = [x.0 * y.0, x.0 * y.1, x.1 * y.0, x.1 * y.1];
                        let lo = all.iter().copied().min().unwrap_or(0);
                        let hi = all.iter().copied().max().unwrap_or(0);
                        self.whole(a, b, (lo, hi), |a, b| format!("{a} * {b}"))
                    }
                    Max => self.whole(a, b, (x.0.max(y.0), x.1.max(y.1)), |a, b| format!("tw_max({a}, {b})")),
                    Min => self.whole(a, b, (x.0.min(y.0), x.1.min(y.1)), |a, b| format!("tw_min({a}, {b})")),
                    _ => self.divide(f == Mod, a, b, x, y),
                }
            }
        }
    }

    /// Integer quotient or remainder, toward minus infinity.
    fn divide(&mut self, remainder: bool, a: &Val, b: &Val, x: (i128, i128), y: (i128, i128)) -> Val {
        let plain = x.0 >= 0 && y.0 > 0;
        let range = match (remainder, y.0 > 0) {
            (true, true) if plain => (0, (y.1 - 1).min(x.1)),
            (true, true) => (0, y.1 - 1),
            (false, true) => {
                let all =
                    [x.0.div_euclid(y.0), x.0.div_euclid(y.1), x.1.div_euclid(y.0), x.1.div_euclid(y.1)];
                (all.iter().copied().min().unwrap_or(0), all.iter().copied().max().unwrap_or(0))
            }
            _ => I64,
        };
        if remainder && plain && y.0 == y.1 && x.1 < y.0 {
            return a.clone();
        }
        // Division by a positive power of two of what is not negative is a shift or a mask.
        let power = b.lit.filter(|_| plain).and_then(integer).filter(|n| n.count_ones() == 1);
        self.whole(a, b, range, |a, b| match (power, remainder, plain) {
            (Some(n), true, _) => format!("{a} & {}", n - 1),
            (Some(n), false, _) => format!("{a} >> {}", n.trailing_zeros()),
            (None, true, true) => format!("{a} % {b}"),
            (None, false, true) => format!("{a} / {b}"),
            (None, true, false) => format!("tw_floormod({a}, {b})"),
            (None, false, false) => format!("tw_floordiv({a}, {b})"),
        })
    }

    fn compare(&mut self, f: Binary, a: &Val, b: &Val) -> Val {
        if let (Some(x), Some(y)) = (a.range, b.range) {
            let known = match f {
                Binary::Lt => decide(x.1 < y.0, x.0 >= y.1),
                Binary::Le => decide(x.1 <= y.0, x.0 > y.1),
                Binary::Gt => decide(x.0 > y.1, x.1 <= y.0),
                Binary::Ge => decide(x.0 >= y.1, x.1 < y.0),
                Binary::Eq => decide(x.0 == x.1 && x == y, x.1 < y.0 || y.1 < x.0),
                _ => decide(x.1 < y.0 || y.1 < x.0, x.0 == x.1 && x == y),
            };
            if let Some(known) = known {
                return self.truth(known);
            }
        }
        let ty = self.join(a, b).max(Ty::I32);
        self.named(Ty::Bool, format!("{} {} {}", a.to(ty), f.name(), b.to(ty)), Some((0, 1)))
    }

    pub(super) fn unary(&mut self, f: Unary, x: &Val) -> Result<Val, CodegenError> {
        let real = self.real;
        Ok(match f {
            Unary::Not => match x.always() {
                Some(known) => self.truth(!known),
                None => self.named(Ty::Bool, format!("!{}", x.to(Ty::Bool)), Some((0, 1))),
            },
            Unary::Neg | Unary::Abs | Unary::Floor if !x.ty.real() => {
                let (lo, hi) = x.range.unwrap_or(I64);
                match f {
                    Unary::Neg => {
                        let zero = self.lit(0.0);
                        self.binary(Binary::Sub, &zero, x)
                    }
                    Unary::Abs if lo >= 0 => x.clone(),
                    Unary::Abs => {
                        let range = (0, lo.abs().max(hi.abs()));
                        self.whole(&x.clone(), x, range, |a, _| format!("tw_abs({a})"))
                    }
                    _ => x.clone(),
                }
            }
            Unary::Neg => self.named(real, format!("-({})", x.to(real)), None),
            _ => self.named(real, format!("tw_{}({})", f.name(), x.to(real)), None),
        })
    }
}

fn decide(yes: bool, no: bool) -> Option<bool> {
    if yes {
        Some(true)
    } else if no {
        Some(false)
    } else {
        None
    }
}
