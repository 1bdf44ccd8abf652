//! The rules of the tile level that code generation relies on.
//!
//! Why here: the verifier of the IR runs in debug builds; wrong code must not come out of a release build either, and
//! these checks are cheap.

use std::collections::HashSet;

use tilewright_ir::tile::{Op, Role, TileProgram};
use tilewright_ir::{Axis, Ex, Expr, Param, Tile};

use super::dot::Dot;
use crate::CodegenError;
use crate::access::free_axes;

/// Refuses a program that breaks a rule.
pub(super) fn check(program: &TileProgram) -> Result<(), CodegenError> {
    let c = Check { program };
    if !program.warps.is_power_of_two() || program.warps > 32 {
        return c.malformed(format!("{} warps: must be a power of two of at most 32", program.warps));
    }
    let identifier = |s: &str| {
        !s.is_empty()
            && !s.starts_with(|c: char| c.is_ascii_digit())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !identifier(&program.name) {
        return c.malformed(format!("`{}` is not an identifier", program.name));
    }
    if RESERVED.split_ascii_whitespace().any(|word| word == program.name) {
        return c
            .malformed(format!("`{}` means something else in CUDA C++: rename the program", program.name));
    }
    for (axis, data) in program.axes.iter() {
        if data.extent.as_const().is_some_and(|n| n > MOST_POSITIONS) {
            return c.malformed(format!("{axis} has more than {MOST_POSITIONS} positions"));
        }
        if !data.block.is_power_of_two() || data.block > 1 << 20 {
            return c.malformed(format!("the block of {axis} is {}: must be a power of two", data.block));
        }
        if let (Role::Resident, Some(n)) = (data.role, data.extent.as_const())
            && n > u64::from(data.block)
        {
            return c.malformed(format!(
                "{axis} is resident but its extent {n} exceeds its block {}",
                data.block
            ));
        }
    }
    for (tile, data) in program.tiles.iter() {
        let mut seen = HashSet::new();
        if !data.axes.iter().all(|a| program.axes.is_valid(*a) && seen.insert(*a)) {
            return c.malformed(format!("{tile} has an unknown or repeated axis"));
        }
        let bits: u32 = data.axes.iter().map(|&a| program.axes[a].block.trailing_zeros()).sum();
        if bits > 24 {
            return c.malformed(format!("{tile} has 2^{bits} elements"));
        }
    }
    c.body(&program.body, &mut HashSet::new(), &mut HashSet::new())
}

/// Positions are computed in 32 bits; what a ragged last block adds must fit as well.
const MOST_POSITIONS: u64 = 1 << 30;

/// Words that cannot name a kernel: of the language, of the compiler's built-in functions, of the prelude.
const RESERVED: &str = "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const \
    const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern false \
    float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private \
    protected public register reinterpret_cast return short signed sizeof static static_assert static_cast struct switch \
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t \
    while xor xor_eq main u16 u32 u64 i64 abs labs llabs fabs fabsf max min fmax fmaxf fmin fminf floor floorf ceil ceilf \
    trunc truncf round roundf rint rintf nearbyint lrint llrint lround llround fmod fmodf remainder remquo modf frexp \
    ldexp scalbn scalbln logb ilogb fma fmaf exp expf exp2 exp2f exp10 expm1 log logf log2 log10 log1p sqrt sqrtf rsqrt \
    rsqrtf cbrt rcbrt pow powf powi hypot rhypot norm rnorm norm3d norm4d sin sinf cos cosf tan tanf sinpi cospi sincos \
    sincospi asin acos atan atan2 sinh cosh tanh tanhf asinh acosh atanh erf erfc erfinv erfcinv erfcx normcdf normcdfinv \
    tgamma lgamma j0 j1 jn y0 y1 yn fdim copysign nextafter signbit isfinite isinf isnan clock clock64 memcpy memset \
    printf malloc free assert saturate";

struct Check<'a> {
    program: &'a TileProgram,
}

impl Check<'_> {
    fn malformed<T>(&self, what: String) -> Result<T, CodegenError> {
        Err(CodegenError::Malformed { program: self.program.name.clone(), what })
    }

    fn axes(&self, tile: Tile) -> &[Axis] {
        &self.program.tiles[tile].axes
    }

    fn spans(&self, axis: Axis) -> bool {
        self.program.axes[axis].block > 1
    }

    fn define(&self, tile: Tile, defined: &mut HashSet<Tile>) -> Result<(), CodegenError> {
        if !self.program.tiles.is_valid(tile) {
            return self.malformed(format!("{tile} does not exist"));
        }
        if !defined.insert(tile) {
            return self.malformed(format!("{tile} is defined twice"));
        }
        Ok(())
    }

    fn used(&self, tile: Tile, defined: &HashSet<Tile>) -> Result<(), CodegenError> {
        if defined.contains(&tile) {
            Ok(())
        } else {
            self.malformed(format!("{tile} is used before it is defined"))
        }
    }

    /// Leaves that may appear, and tiles that are defined.
    fn expr(&self, e: &Ex, defined: &HashSet<Tile>) -> Result<(), CodegenError> {
        match &**e {
            Expr::Tile(t) => self.used(*t, defined)?,
            Expr::Pos(a) if !self.program.axes.is_valid(*a) => {
                return self.malformed(format!("{a} does not exist"));
            }
            Expr::Read(..) | Expr::Local(_) | Expr::Reduce(..) => {
                return self.malformed("an expression of a tile program reads a value or reduces".to_owned());
            }
            _ => {}
        }
        e.children().into_iter().try_for_each(|c| self.expr(c, defined))
    }

    fn access(
        &self,
        param: Param,
        index: &[Ex],
        mask: Option<&Ex>,
        tile: Tile,
        defined: &HashSet<Tile>,
    ) -> Result<(), CodegenError> {
        let Some(buffer) = self.program.params.get(param) else {
            return self.malformed(format!("{param} does not exist"));
        };
        if buffer.dims.len() != index.len() {
            return self.malformed(format!(
                "{} indices for {param}, which has {}",
                index.len(),
                buffer.dims.len()
            ));
        }
        for e in index.iter().chain(mask) {
            self.expr(e, defined)?;
            let missing = |a: &Axis| self.spans(*a) && !self.axes(tile).contains(a);
            if let Some(axis) = free_axes(self.program, e).into_iter().find(missing) {
                return Err(CodegenError::FreeAxis { program: self.program.name.clone(), param, axis, tile });
            }
        }
        Ok(())
    }

    fn body(
        &self,
        body: &[Op],
        defined: &mut HashSet<Tile>,
        loops: &mut HashSet<Axis>,
    ) -> Result<(), CodegenError> {
        for op in body {
            match op {
                Op::Load { out, param, index, mask, .. } => {
                    self.access(*param, index, mask.as_ref(), *out, defined)?;
                    if self.program.params[*param].written && self.program.params[*param].area.is_none() {
                        return self
                            .malformed(format!("{out} is loaded from {param}, which the program writes"));
                    }
                    self.define(*out, defined)?;
                }
                Op::Store { param, index, mask, value } => {
                    self.used(*value, defined)?;
                    self.access(*param, index, mask.as_ref(), *value, defined)?;
                    if !self.program.params[*param].written && self.program.params[*param].area.is_none() {
                        return self.malformed(format!(
                            "{value} is stored to {param}, which is not marked as written"
                        ));
                    }
                }
                Op::Map { out, expr } => {
                    self.expr(expr, defined)?;
                    self.define(*out, defined)?;
                    let missing = |a: &Axis| self.spans(*a) && !self.axes(*out).contains(a);
                    if let Some(axis) = free_axes(self.program, expr).into_iter().find(missing) {
                        return self
                            .malformed(format!("the map into {out} depends on {axis}, which {out} lacks"));
                    }
                }
                Op::Reduce { out, axes, src, .. } => {
                    self.used(*src, defined)?;
                    self.define(*out, defined)?;
                    let kept = self.axes(*src).iter().filter(|a| !axes.contains(a));
                    let mut kept: Vec<Axis> = kept.copied().filter(|&a| self.spans(a)).collect();
                    let mut have: Vec<Axis> =
                        self.axes(*out).iter().copied().filter(|&a| self.spans(a)).collect();
                    kept.sort_unstable();
                    have.sort_unstable();
                    if kept != have {
                        return self.malformed(format!("the axes of {out} are not those that {src} keeps"));
                    }
                }
                Op::Dot { out, a, b, acc, over, kind } => {
                    for t in [*a, *b].into_iter().chain(*acc) {
                        self.used(t, defined)?;
                    }
                    self.define(*out, defined)?;
                    let dot = Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind };
                    dot.check(self.program)?;
                    if let Some(acc) = acc {
                        self.same(*acc, *out)?;
                    }
                }
                Op::Convert { out, src } => {
                    self.used(*src, defined)?;
                    self.same(*src, *out)?;
                    self.define(*out, defined)?;
                }
                Op::Loop { axis, carried, body, .. } => {
                    if !self.program.axes.is_valid(*axis) || !loops.insert(*axis) {
                        return self.malformed(format!(
                            "{axis} is looped over inside a loop over it, or does not exist"
                        ));
                    }
                    for c in carried {
                        self.used(c.initial, defined)?;
                    }
                    let mut inner = defined.clone();
                    for c in carried {
                        self.define(c.inside, &mut inner)?;
                        self.same(c.initial, c.inside)?;
                    }
                    self.body(body, &mut inner, loops)?;
                    for c in carried {
                        self.used(c.next, &inner)?;
                        self.same(c.next, c.inside)?;
                        self.same(c.after, c.inside)?;
                        self.define(c.after, defined)?;
                    }
                    loops.remove(axis);
                }
            }
        }
        Ok(())
    }

    /// Tiles that share a place must have the same axes and type.
    fn same(&self, a: Tile, b: Tile) -> Result<(), CodegenError> {
        let bits = |t: Tile| {
            let mut axes: Vec<Axis> = self.axes(t).iter().copied().filter(|&a| self.spans(a)).collect();
            axes.sort_unstable();
            (axes, self.program.tiles[t].dtype)
        };
        if bits(a) == bits(b) {
            Ok(())
        } else {
            self.malformed(format!("{a} and {b} differ in axes or type"))
        }
    }
}
