//! Expressions: typed, with the ranges of integers known.
//!
//! What: an expression becomes a chain of constants in C, one per node, evaluated for the element with a given register
//! number. Integers are computed in 32 bits where their range allows, else in 64; reals in f32, or f64 where a tile of
//! the operation is f64. A product that is added becomes one fused multiply-add. Comparisons that the ranges decide
//! are folded, which removes the masks of blocks that are always full.
//! Pre: tiles are compatible with the domain. Post: no branch, so the side of a selection that is not taken has no effect.

use std::collections::HashMap;
use std::sync::Arc;

use tilewright_ir::tile::{Layout, Role};
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Tile};

use super::tiles::{packed, value_type};
use super::{Emitter, sum};
use crate::CodegenError;
use crate::access::integer;
use crate::bits::{reg_map, reg_part};

/// The type of a value in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ty {
    Bool,
    I32,
    I64,
    F32,
    F64,
}

impl Ty {
    pub(super) fn c(self) -> &'static str {
        match self {
            Ty::Bool => "bool",
            Ty::I32 => "int",
            Ty::I64 => "i64",
            Ty::F32 => "float",
            Ty::F64 => "double",
        }
    }

    pub(super) fn real(self) -> bool {
        matches!(self, Ty::F32 | Ty::F64)
    }
}

/// A value: an atom of C with its type.
#[derive(Clone, Debug)]
pub(super) struct Val {
    code: String,
    pub(super) ty: Ty,
    /// The value, if it is a literal; then `code` is empty.
    pub(super) lit: Option<f64>,
    /// What an integer lies between.
    pub(super) range: Option<(i128, i128)>,
}

impl Val {
    /// The truth value that the expression always has.
    pub(super) fn always(&self) -> Option<bool> {
        self.lit.map(|x| x != 0.0)
    }

    /// The value as C of the given type, by an ordinary conversion.
    pub(super) fn to(&self, ty: Ty) -> String {
        if let Some(x) = self.lit {
            return literal(x, ty);
        }
        match (self.ty, ty) {
            (a, b) if a == b => self.code.clone(),
            (_, Ty::Bool) => format!("({} != 0)", self.code),
            _ => format!("({}){}", ty.c(), self.code),
        }
    }
}

impl Val {
    /// The value as an operand of arithmetic of reals: a literal that is not finite is hidden from the optimizer.
    pub(super) fn operand(&self, real: Ty) -> String {
        let code = self.to(real);
        if self.lit.is_some_and(|x| !x.is_finite()) { format!("tw_hidden({code})") } else { code }
    }
}

/// A literal of C.
pub(super) fn literal(x: f64, ty: Ty) -> String {
    let special = |inf: &str, nan: &str| match x {
        _ if x.is_nan() => nan.to_owned(),
        _ if x > 0.0 => inf.to_owned(),
        _ => format!("(-{inf})"),
    };
    let signed = |s: String| if s.starts_with('-') { format!("({s})") } else { s };
    match ty {
        Ty::Bool => (x != 0.0).to_string(),
        Ty::I32 if x as i32 == i32::MIN => "(-2147483647 - 1)".to_owned(),
        Ty::I32 => signed((x as i32).to_string()),
        Ty::I64 if x as i64 == i64::MIN => "(-9223372036854775807ll - 1)".to_owned(),
        Ty::I64 => signed(format!("{}ll", x as i64)),
        Ty::F32 if (x as f32).is_finite() => signed(format!("{:?}f", x as f32)),
        Ty::F32 => special("TW_INF", "TW_NAN"),
        Ty::F64 if x.is_finite() => signed(format!("{x:?}")),
        Ty::F64 => special("TW_INF64", "TW_NAN64"),
    }
}

/// Emits expressions for one element of a domain.
pub(super) struct ExprGen<'g, 'a> {
    e: &'g mut Emitter<'a>,
    domain: &'g Layout,
    reg: &'g str,
    pub(super) real: Ty,
    memo: HashMap<*const Expr, Val>,
    positions: HashMap<Axis, Val>,
}

pub(super) const I32: (i128, i128) = (i32::MIN as i128, i32::MAX as i128);
pub(super) const I64: (i128, i128) = (i64::MIN as i128, i64::MAX as i128);

pub(super) fn within(range: (i128, i128), limits: (i128, i128)) -> bool {
    limits.0 <= range.0 && range.1 <= limits.1
}

fn integers(dtype: DType) -> (i128, i128) {
    match dtype {
        DType::Bool => (0, 1),
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I64 => I64,
        _ => I32,
    }
}

impl<'g, 'a> ExprGen<'g, 'a> {
    /// For the element with register number `reg` of `domain`, with reals of type `real`.
    pub(super) fn new(e: &'g mut Emitter<'a>, domain: &'g Layout, reg: &'g str, real: Ty) -> Self {
        ExprGen { e, domain, reg, real, memo: HashMap::new(), positions: HashMap::new() }
    }

    pub(super) fn named(&mut self, ty: Ty, code: String, range: Option<(i128, i128)>) -> Val {
        if let Some((lo, hi)) = range
            && lo == hi
            && lo.abs() < 1 << 53
        {
            return self.lit(lo as f64);
        }
        let name = self.e.fresh("e");
        self.e.line(format!("const {} {name} = {code};", ty.c()));
        Val { code: name, ty, lit: None, range }
    }

    pub(super) fn lit(&self, x: f64) -> Val {
        let whole = integer(x).filter(|_| x != 0.0 || x.is_sign_positive());
        let (ty, range) = match whole {
            Some(n) if i32::try_from(n).is_ok() => (Ty::I32, Some((i128::from(n), i128::from(n)))),
            Some(n) => (Ty::I64, Some((i128::from(n), i128::from(n)))),
            None => (self.real, None),
        };
        Val { code: String::new(), ty, lit: Some(x), range }
    }

    pub(super) fn truth(&self, x: bool) -> Val {
        let n = i128::from(x);
        Val { code: String::new(), ty: Ty::Bool, lit: Some(f64::from(u8::from(x))), range: Some((n, n)) }
    }

    /// The value of an expression.
    pub(super) fn value(&mut self, e: &Ex) -> Result<Val, CodegenError> {
        let key = Arc::as_ptr(e);
        if let Some(v) = self.memo.get(&key) {
            return Ok(v.clone());
        }
        let v = self.node(e)?;
        self.memo.insert(key, v.clone());
        Ok(v)
    }

    fn node(&mut self, e: &Ex) -> Result<Val, CodegenError> {
        match &**e {
            Expr::Num(n) => Ok(self.lit(n.0)),
            Expr::Pos(a) => Ok(self.position(*a)),
            Expr::Size(Extent::Const(n)) => Ok(self.lit(*n as f64)),
            Expr::Size(Extent::Sym(s)) => {
                let (range, code) = (self.e.sym_range(*s), self.e.sym(*s));
                Ok(Val { code, ty: Ty::I32, lit: None, range: Some(range) })
            }
            Expr::Tile(t) => self.tile(*t),
            Expr::Unary(f, x) => {
                let x = self.value(x)?;
                self.unary(*f, &x)
            }
            Expr::Binary(Binary::Add, a, b) => self.added(a, b, false),
            Expr::Binary(Binary::Sub, a, b) => self.added(a, b, true),
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                Ok(self.binary(*f, &a, &b))
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.value(c)?, self.value(a)?, self.value(b)?);
                if let Some(c) = c.always() {
                    return Ok(if c { a } else { b });
                }
                let ty = self.join(&a, &b);
                let range = a.range.zip(b.range).map(|(x, y)| (x.0.min(y.0), x.1.max(y.1)));
                let code = format!("{} ? {} : {}", c.to(Ty::Bool), a.to(ty), b.to(ty));
                Ok(self.named(ty, code, range.filter(|_| !ty.real())))
            }
            Expr::Cast(d, x) => {
                let v = self.value(x)?;
                if let Expr::Tile(t) = &**x
                    && self.e.p.tiles[*t].dtype == *d
                {
                    return Ok(v);
                }
                Ok(self.cast(*d, &v))
            }
            Expr::Read(..) | Expr::Local(_) | Expr::Reduce(..) => {
                self.e.malformed("an expression of a tile program reads a value or reduces".to_owned())
            }
        }
    }

    fn position(&mut self, axis: Axis) -> Val {
        if let Some(v) = self.positions.get(&axis) {
            return v.clone();
        }
        let weight = move |b: tilewright_ir::tile::AxisBit| if b.axis == axis { 1i64 << b.bit } else { 0 };
        let base = self.e.base(axis);
        let thread = self.e.thread(self.domain, weight);
        let reg = reg_part(self.domain, self.reg, weight);
        let range = self.e.position_range(axis);
        let v = match (base, thread, reg) {
            (None, None, None) => self.lit(0.0),
            (Some(one), None, None) | (None, Some(one), None) => {
                Val { code: one, ty: Ty::I32, lit: None, range: Some(range) }
            }
            (base, thread, reg) => self.named(Ty::I32, sum([base, thread, reg]), Some(range)),
        };
        self.positions.insert(axis, v.clone());
        v
    }

    fn tile(&mut self, tile: Tile) -> Result<Val, CodegenError> {
        let dtype = self.e.p.tiles[tile].dtype;
        let layout = self.e.layout(tile)?;
        let code = self.e.element(tile, &reg_map(self.reg, self.domain, &layout))?;
        let ty = value_type(dtype);
        let ty_here = if ty == Ty::F32 { self.real } else { ty };
        let code = if ty_here == ty { code } else { format!("(double){code}") };
        let range = (!ty.real()).then(|| integers(dtype));
        if packed(dtype) || ty_here != ty {
            return Ok(self.named(ty_here, code, range));
        }
        Ok(Val { code, ty, lit: None, range })
    }

    pub(super) fn join(&self, a: &Val, b: &Val) -> Ty {
        if a.ty.real() || b.ty.real() { self.real } else { a.ty.max(b.ty) }
    }

    /// `a + b` or `a - b`, fused with a product on either side.
    fn added(&mut self, a: &Ex, b: &Ex, minus: bool) -> Result<Val, CodegenError> {
        let product = |e: &Ex| match &**e {
            Expr::Binary(Binary::Mul, x, y) => Some((x.clone(), y.clone())),
            _ => None,
        };
        for (factors, other, flip) in [(product(b), a, false), (product(a), b, true)] {
            let Some((x, y)) = factors else { continue };
            let (x, y, z) = (self.value(&x)?, self.value(&y)?, self.value(other)?);
            let real = self.real;
            if !(x.ty.real() || y.ty.real()) {
                continue;
            }
            let negate = |s: String, yes: bool| if yes { format!("-({s})") } else { s };
            // b is subtracted: its factor changes sign, or the addend does when the product is a.
            let code = format!(
                "tw_fma({}, {}, {})",
                negate(x.operand(real), minus && !flip),
                y.operand(real),
                negate(z.operand(real), minus && flip)
            );
            return Ok(self.named(real, code, None));
        }
        let (a, b) = (self.value(a)?, self.value(b)?);
        Ok(self.binary(if minus { Binary::Sub } else { Binary::Add }, &a, &b))
    }

    /// A conversion with the rounding of a type.
    pub(super) fn cast(&mut self, d: DType, x: &Val) -> Val {
        let real = self.real;
        match d {
            DType::Bool => {
                if x.ty == Ty::Bool {
                    return x.clone();
                }
                if let Some(known) = x.always() {
                    return self.truth(known);
                }
                self.named(Ty::Bool, x.to(Ty::Bool), Some((0, 1)))
            }
            DType::F32 | DType::F64 => {
                let rounds = real == Ty::F64 && d == DType::F32;
                match (rounds, x.ty == real && x.lit.is_none()) {
                    (true, _) => self.named(real, format!("(double)(float){}", x.to(real)), None),
                    (false, true) => x.clone(),
                    (false, false) => self.named(real, x.to(real), None),
                }
            }
            DType::F16 | DType::Bf16 => {
                let narrow = if real == Ty::F64 { format!("(float){}", x.to(real)) } else { x.to(real) };
                let code = format!("tw_round_{}({narrow})", super::tiles::suffix(d));
                self.named(real, code, None)
            }
            _ => {
                let limits = integers(d);
                let ty = if d == DType::I64 { Ty::I64 } else { Ty::I32 };
                if x.ty.real() {
                    let function = if d == DType::I64 { "tw_to_long" } else { "tw_to_int" };
                    let whole = self.named(
                        ty,
                        format!("{function}({})", x.to(real)),
                        Some(integers(if ty == Ty::I64 { DType::I64 } else { DType::I32 })),
                    );
                    return self.clamp(&whole, limits);
                }
                let whole =
                    if x.ty == Ty::Bool { Val { range: Some((0, 1)), ..x.clone() } } else { x.clone() };
                let v = self.clamp(&whole, limits);
                if v.lit.is_some() || v.ty == ty {
                    return v;
                }
                let range = v.range;
                self.named(ty, v.to(ty), range)
            }
        }
    }

    fn clamp(&mut self, x: &Val, limits: (i128, i128)) -> Val {
        let range = x.range.unwrap_or(I64);
        if within(range, limits) {
            return x.clone();
        }
        let (lo, hi) = (limits.0 as f64, limits.1 as f64);
        let ty = x.ty.max(Ty::I32);
        let code = format!("tw_min(tw_max({}, {}), {})", x.to(ty), literal(lo, ty), literal(hi, ty));
        self.named(ty, code, Some((range.0.max(limits.0).min(limits.1), range.1.min(limits.1).max(limits.0))))
    }

    /// The value as an element of a tile of the given type: the C to store into its staging array.
    pub(super) fn stored(&mut self, d: DType, v: &Val) -> String {
        match d {
            // The packing function rounds; the array holds floats until then.
            DType::F16 | DType::Bf16 | DType::F32 if v.lit.is_none() && v.ty == Ty::F64 => {
                format!("(float){}", v.code)
            }
            DType::F16 | DType::Bf16 | DType::F32 => v.to(Ty::F32),
            DType::F64 => v.to(Ty::F64),
            _ => {
                let cast = self.cast(d, v);
                cast.to(value_type(d))
            }
        }
    }
}

impl Emitter<'_> {
    /// What the position along an axis lies between.
    fn position_range(&self, axis: Axis) -> (i128, i128) {
        let data = &self.p.axes[axis];
        let block = i128::from(data.block);
        if data.role == Role::Resident || (data.role == Role::Loop && !self.bases.contains_key(&axis)) {
            return (0, block - 1);
        }
        let extent = match data.extent {
            Extent::Const(n) => i128::from(n),
            Extent::Sym(s) => self.sym_range(s).1,
        };
        (0, (extent + block - 1).div_euclid(block).max(1) * block - 1)
    }

    fn sym_range(&self, sym: tilewright_ir::Sym) -> (i128, i128) {
        let known =
            self.symbols.get(sym).map(|s| (i128::from(s.min), i128::from(s.max.min(i32::MAX as u64))));
        known.unwrap_or((0, i128::from(i32::MAX)))
    }
}
