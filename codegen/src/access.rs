//! How a load or store walks through memory: the element offset as a sum of monomials, and how wide an access may be.
//!
//! Why here: the layout pass chooses distributions by it, and emission splits addresses by it; both must agree.
//! Pre: the base address of each buffer is a multiple of 16 bytes.
//! Post: a vector width is proved, never assumed: every access of that width is aligned, in bounds of its mask, and
//! contiguous.

mod packed;

use tilewright_ir::tile::TileProgram;
use tilewright_ir::{Axis, Binary, Ex, Expr, Extent, Param, Sym, Unary};

/// A factor of a monomial that is known only at run time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Atom {
    /// Nothing: the monomial is uniform.
    One,
    /// Some bits of the position along an axis, as a number.
    Pos(Axis, Field),
    /// Any other integer expression.
    Other(Ex),
}

/// Bits of a number: those from `from` on and below `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// The lowest.
    pub(crate) from: u8,
    /// One more than the highest.
    pub(crate) to: u8,
}

impl Field {
    /// All bits.
    pub(crate) const ALL: Field = Field { from: 0, to: 63 };

    /// The bits of `x / q % m`, if they are bits of `x`.
    fn of(q: u64, m: Option<u64>) -> Option<Field> {
        let log = |n: u64| n.is_power_of_two().then(|| n.trailing_zeros() as u8);
        let from = log(q)?;
        let to = m.map_or(Some(Field::ALL.to), |m| Some(from + log(m)?))?;
        Some(Field { from, to: to.min(Field::ALL.to) })
    }

    /// What a bit of the number counts for in the field.
    pub(crate) fn weight(self, bit: u8) -> i64 {
        if (self.from..self.to).contains(&bit) { 1 << (bit - self.from) } else { 0 }
    }
}

/// `coef * product of symbols * atom`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// The constant factor.
    pub(crate) coef: i64,
    /// Symbols, sorted.
    pub(crate) syms: Vec<Sym>,
    /// The rest.
    pub(crate) atom: Atom,
}

/// The element offset of an access.
pub(crate) fn offset(program: &TileProgram, param: Param, index: &[Ex]) -> Vec<Term> {
    let rows = row_major(program, param, index);
    match &program.params[param].packing {
        Some(packing) => packed::offset(program, param, index, packing, &rows),
        None => rows,
    }
}

/// The element offset of an access in a buffer that is not packed.
fn row_major(program: &TileProgram, param: Param, index: &[Ex]) -> Vec<Term> {
    let dims = &program.params[param].dims;
    let mut out: Vec<Term> = Vec::new();
    for (d, e) in index.iter().enumerate() {
        let (stride, syms) = stride(dims, d);
        for term in linear(e) {
            push(&mut out, scale(&term, stride, &syms));
        }
    }
    recombine(&mut out);
    out
}

/// The stride of a dimension: a constant and symbols.
pub(crate) fn stride(dims: &[Extent], d: usize) -> (i64, Vec<Sym>) {
    let (mut coef, mut syms) = (1i64, Vec::new());
    for extent in &dims[d + 1..] {
        match extent {
            Extent::Const(n) => coef = coef.saturating_mul(*n as i64),
            Extent::Sym(s) => syms.push(*s),
        }
    }
    syms.sort_unstable();
    (coef, syms)
}

fn scale(term: &Term, coef: i64, syms: &[Sym]) -> Term {
    let mut all = term.syms.clone();
    all.extend_from_slice(syms);
    all.sort_unstable();
    Term { coef: term.coef.saturating_mul(coef), syms: all, atom: term.atom.clone() }
}

fn push(terms: &mut Vec<Term>, term: Term) {
    match terms.iter_mut().find(|t| t.syms == term.syms && t.atom == term.atom) {
        Some(t) => t.coef = t.coef.saturating_add(term.coef),
        None => terms.push(term),
    }
    terms.retain(|t| t.coef != 0);
}

fn uniform(coef: i64, syms: Vec<Sym>) -> Term {
    Term { coef, syms, atom: Atom::One }
}

/// An integer expression as a sum of monomials.
fn linear(e: &Ex) -> Vec<Term> {
    let other = || vec![Term { coef: 1, syms: vec![], atom: Atom::Other(e.clone()) }];
    match &**e {
        Expr::Num(n) => match integer(n.0) {
            Some(0) => vec![],
            Some(n) => vec![uniform(n, vec![])],
            None => other(),
        },
        Expr::Pos(a) => vec![Term { coef: 1, syms: vec![], atom: Atom::Pos(*a, Field::ALL) }],
        Expr::Size(Extent::Const(n)) => vec![uniform(*n as i64, vec![])],
        Expr::Size(Extent::Sym(s)) => vec![uniform(1, vec![*s])],
        Expr::Unary(Unary::Neg, x) => linear(x).iter().map(|t| scale(t, -1, &[])).collect(),
        Expr::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
            let sign = if *op == Binary::Add { 1 } else { -1 };
            let mut out = linear(a);
            for term in linear(b) {
                push(&mut out, scale(&term, sign, &[]));
            }
            out
        }
        Expr::Binary(Binary::Mul, a, b) => {
            let (a, b) = (linear(a), linear(b));
            let (many, one) = if b.len() == 1 && b[0].atom == Atom::One { (a, b) } else { (b, a) };
            match one.as_slice() {
                [] => vec![],
                [f] if f.atom == Atom::One => many.iter().map(|t| scale(t, f.coef, &f.syms)).collect(),
                _ => other(),
            }
        }
        _ => other(),
    }
}

/// Puts back together what a view took apart: `n*c * (x // n) + c * (x % n) = c * x`.
fn recombine(terms: &mut Vec<Term>) {
    loop {
        let found = terms.iter().enumerate().find_map(|(i, quotient)| {
            let (x, n) = divided(quotient, Binary::FloorDiv)?;
            let matches = |t: &Term| {
                divided(t, Binary::Mod) == Some((x, n))
                    && t.syms == quotient.syms
                    && t.coef.checked_mul(n) == Some(quotient.coef)
            };
            let j = terms.iter().position(matches)?;
            let (coef, syms) = (terms[j].coef, terms[j].syms.clone());
            Some((i, j, linear(x).iter().map(|t| scale(t, coef, &syms)).collect::<Vec<_>>()))
        });
        let Some((i, j, whole)) = found else { return };
        terms.remove(i.max(j));
        terms.remove(i.min(j));
        for term in whole {
            push(terms, term);
        }
    }
}

/// The dividend and the constant divisor, if the atom is such a division.
fn divided(term: &Term, op: Binary) -> Option<(&Ex, i64)> {
    let Atom::Other(e) = &term.atom else { return None };
    match &**e {
        Expr::Binary(f, x, n) if *f == op => Some((x, integer(n.as_num()?).filter(|&n| n > 0)?)),
        _ => None,
    }
}

/// The integer that a literal is.
pub(crate) fn integer(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() < 9e15).then_some(x as i64)
}

/// How an expression behaves in a group of `v` neighbouring positions along an axis whose first is a multiple of `v`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Vary {
    /// The same everywhere.
    Constant,
    /// Counts up by one from the first position.
    Counts,
}

/// The greatest common divisor; 0 is divisible by everything.
fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What decides how expressions vary: the program (for the axes of tiles), the axis and the group's size.
struct Group<'a> {
    program: &'a TileProgram,
    axis: Axis,
    size: u64,
}

impl Group<'_> {
    /// How an integer expression varies, and a divisor of its value at the first position.
    fn integer(&self, e: &Ex) -> Option<(Vary, u64)> {
        use Vary::{Constant, Counts};
        match &**e {
            Expr::Num(n) => Some((Constant, integer(n.0)?.unsigned_abs())),
            Expr::Size(Extent::Const(n)) => Some((Constant, *n)),
            Expr::Size(Extent::Sym(_)) => Some((Constant, 1)),
            Expr::Pos(a) if *a == self.axis => Some((Counts, self.size)),
            Expr::Pos(_) => Some((Constant, 1)),
            Expr::Tile(t) => (!self.program.tiles[*t].axes.contains(&self.axis)).then_some((Constant, 1)),
            Expr::Unary(Unary::Neg | Unary::Abs, x) => self.integer(x).filter(|(v, _)| *v == Constant),
            Expr::Cast(d, x) if d.is_int() => {
                self.integer(x).filter(|(v, _)| *v == Constant).map(|_| (Constant, 1))
            }
            Expr::Binary(op, a, b) => {
                let ((va, da), (vb, db)) = (self.integer(a)?, self.integer(b)?);
                match (op, va, vb) {
                    (Binary::Add, Constant, v) | (Binary::Add | Binary::Sub, v, Constant) => {
                        Some((v, gcd(da, db)))
                    }
                    (Binary::Mul, Constant, Constant) => Some((Constant, da.saturating_mul(db))),
                    (Binary::FloorDiv, Counts, Constant) => {
                        let n = positive(b)?;
                        (da % self.size == 0 && n % self.size == 0).then_some((Constant, 1))
                    }
                    (Binary::Mod, Counts, Constant) => {
                        let n = positive(b)?;
                        (da % self.size == 0 && n % self.size == 0).then_some((Counts, gcd(da, n)))
                    }
                    (Binary::FloorDiv | Binary::Max | Binary::Min, Constant, Constant) => Some((Constant, 1)),
                    (Binary::Mod, Constant, Constant) => Some((Constant, gcd(da, db).max(1))),
                    _ => None,
                }
            }
            Expr::Select(c, a, b) => {
                let ((va, da), (vb, db)) = (self.integer(a)?, self.integer(b)?);
                (va == vb && self.predicate(c)).then_some((va, gcd(da, db)))
            }
            _ => None,
        }
    }

    /// Whether a predicate has one value in the group.
    fn predicate(&self, e: &Ex) -> bool {
        match &**e {
            Expr::Num(_) => true,
            Expr::Tile(t) => !self.program.tiles[*t].axes.contains(&self.axis),
            Expr::Unary(Unary::Not, x) => self.predicate(x),
            Expr::Binary(Binary::And | Binary::Or, a, b) => self.predicate(a) && self.predicate(b),
            Expr::Binary(op, a, b) if op.is_comparison() => {
                let (Some((va, da)), Some((vb, db))) = (self.integer(a), self.integer(b)) else {
                    return false;
                };
                let aligned = da % self.size == 0 && db % self.size == 0;
                match (op, va, vb) {
                    (_, Vary::Constant, Vary::Constant) => true,
                    // x < y over a whole group, from a multiple of the size, iff it holds at its first position.
                    (Binary::Lt | Binary::Ge, Vary::Counts, Vary::Constant) => aligned,
                    (Binary::Gt | Binary::Le, Vary::Constant, Vary::Counts) => aligned,
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

/// Whether a condition has one value for so many neighbouring positions along an axis, the first of which is a multiple of
/// their number.
pub(crate) fn uniform_along(program: &TileProgram, e: &Ex, axis: Axis, positions: u64) -> bool {
    Group { program, axis, size: positions }.predicate(e)
}

/// The value of a constant that is not negative.
pub(crate) fn constant(e: &Ex) -> Option<u64> {
    match &**e {
        Expr::Num(n) => integer(n.0).and_then(|n| u64::try_from(n).ok()),
        Expr::Size(Extent::Const(n)) => Some(*n),
        _ => None,
    }
}

fn positive(e: &Ex) -> Option<u64> {
    let n = match &**e {
        Expr::Num(n) => integer(n.0)?,
        Expr::Size(Extent::Const(n)) => *n as i64,
        _ => return None,
    };
    (n > 0).then_some(n as u64)
}

/// An access to a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    /// The buffer.
    pub(crate) param: Param,
    /// The index.
    pub(crate) index: &'a [Ex],
    /// The mask.
    pub(crate) mask: Option<&'a Ex>,
}

impl Access<'_> {
    /// The number of bits of the widest vector along `axis` that can be proved aligned, contiguous and masked as one.
    pub(crate) fn vector_bits(self, program: &TileProgram, axis: Axis) -> u32 {
        let bytes = program.params[self.param].dtype.bytes() as u64;
        let block = u64::from(program.axes[axis].block);
        (1..=4u32)
            .rev()
            .filter(|&bits| (bytes << bits) <= 16 && (1u64 << bits) <= block)
            .find(|&bits| self.vectorises(program, axis, 1 << bits))
            .unwrap_or(0)
    }

    fn vectorises(self, program: &TileProgram, axis: Axis, size: u64) -> bool {
        let group = Group { program, axis, size };
        if !self.mask.is_none_or(|m| group.predicate(m)) {
            return false;
        }
        // Neighbours in row-major order are neighbours in runs, whose first is a multiple of their length.
        let packing = program.params[self.param].packing.as_ref();
        if packing.is_some_and(|p| !p.run().is_multiple_of(size)) {
            return false;
        }
        let mut counts = 0;
        for Term { coef, syms, atom } in row_major(program, self.param, self.index) {
            let (vary, divisor) = match atom {
                Atom::One => (Vary::Constant, 1),
                Atom::Pos(a, _) if a == axis => (Vary::Counts, size),
                Atom::Pos(..) => (Vary::Constant, 1),
                Atom::Other(e) => match group.integer(&e) {
                    Some(known) => known,
                    None => return false,
                },
            };
            match vary {
                Vary::Constant if coef.unsigned_abs().saturating_mul(divisor) % size == 0 => {}
                Vary::Counts if coef == 1 && syms.is_empty() && divisor % size == 0 => counts += 1,
                _ => return false,
            }
        }
        counts == 1
    }

    /// The given axes from the fastest to the slowest in memory. Axes that do not move the address come last.
    pub(crate) fn by_stride(self, program: &TileProgram, axes: &[Axis]) -> Vec<Axis> {
        let mut keyed: Vec<(u64, usize, Axis)> = Vec::new();
        for (n, &axis) in axes.iter().enumerate() {
            let step = self.step(program, axis);
            keyed.push((if step == 0 { u64::MAX } else { step }, axes.len() - n, axis));
        }
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, _, axis)| axis).collect()
    }

    /// A typical distance in elements between neighbouring positions along an axis; 0 if the axis does not matter.
    pub(crate) fn step(self, program: &TileProgram, axis: Axis) -> u64 {
        let steps = offset(program, self.param, self.index).into_iter().filter_map(|t| {
            let scale = TYPICAL_SIZE.saturating_pow(t.syms.len() as u32);
            match t.atom {
                Atom::Pos(a, _) if a == axis => Some(t.coef.unsigned_abs().saturating_mul(scale)),
                Atom::Other(e) => mentions(program, &e, axis).then(|| match inner_step(&e, axis) {
                    Some(s) => t.coef.unsigned_abs().saturating_mul(scale).saturating_mul(s),
                    None => t.coef.unsigned_abs().saturating_mul(scale).max(64),
                }),
                _ => None,
            }
        });
        steps.min().unwrap_or(0)
    }
}

/// The step of `x % n` and the like: that of `x`.
fn inner_step(e: &Ex, axis: Axis) -> Option<u64> {
    let (op, x, n) = match &**e {
        Expr::Binary(op @ (Binary::Mod | Binary::FloorDiv), x, n) => (*op, x, positive(n)?),
        _ => return None,
    };
    let step = linear(x).into_iter().find(|t| t.atom == Atom::Pos(axis, Field::ALL))?.coef.unsigned_abs();
    Some(if op == Binary::Mod { step.min(n) } else { step.div_ceil(n).max(1) })
}

/// What a symbol counts for where only orders of magnitude matter.
const TYPICAL_SIZE: u64 = 1000;

/// Whether an expression depends on the position along an axis.
pub(crate) fn mentions(program: &TileProgram, e: &Ex, axis: Axis) -> bool {
    free_axes(program, e).contains(&axis)
}

/// The axes that an expression depends on, through positions and tiles.
pub(crate) fn free_axes(program: &TileProgram, e: &Ex) -> std::collections::BTreeSet<Axis> {
    e.free_axes_with(&|leaf| match leaf {
        Expr::Tile(t) => program.tiles[*t].axes.clone(),
        _ => vec![],
    })
}

/// The tiles that an expression reads, in order of first appearance.
pub(crate) fn tiles_of(e: &Ex) -> Vec<tilewright_ir::Tile> {
    let mut out = Vec::new();
    e.visit(&mut |node| {
        if let Expr::Tile(t) = node
            && !out.contains(t)
        {
            out.push(*t);
        }
    });
    out
}
