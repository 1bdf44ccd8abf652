//! Offsets in packed buffers: the digits of a row-major number, each as a sum of bits of positions.
//!
//! What: the row-major offset of an access is a sum of pieces, `step * x` with `x` below some count, that do not run into
//! each other. Then a digit is made of those pieces that lie within it: whole ones, or some bits of one that is cut in
//! two. What is no such sum, or is cut where no bit ends, is computed by divisions.
//! Pre: values are in bounds where the mask holds; elsewhere any offset will do, because nothing is touched there.

use tilewright_ir::expr::build as ex;
use tilewright_ir::packing::{Digit, Packing};
use tilewright_ir::tile::TileProgram;
use tilewright_ir::{Binary, Ex, Expr, Extent, Param};

use super::{Atom, Field, Term, integer, push};

/// `step * x`, for `x` of `0..count`.
struct Piece {
    step: u64,
    count: u64,
    x: Ex,
}

/// The offset in elements.
pub(super) fn offset(
    program: &TileProgram,
    param: Param,
    index: &[Ex],
    packing: &Packing,
    rows: &[Term],
) -> Vec<Term> {
    let pieces = of_rows(program, rows).or_else(|| of_dims(program, param, index));
    let mut out = Vec::new();
    let mut weight = 1u64;
    let top = packing.digits.iter().map(|d| d.step).max();
    for digit in packing.digits.iter().rev() {
        let whole_rest = Some(digit.step) == top;
        let parts =
            |p: &Vec<Piece>| p.iter().map(|p| part(p, *digit, whole_rest)).collect::<Option<Vec<_>>>();
        let parts = pieces.as_ref().and_then(parts);
        let terms = match parts {
            Some(parts) => parts.into_iter().flatten().collect(),
            None => vec![term(1, divided(&whole(program, param, index), digit.step, Some(digit.count)))],
        };
        for t in terms {
            push(&mut out, Term { coef: t.coef.saturating_mul(weight as i64), ..t });
        }
        weight = weight.saturating_mul(digit.count);
    }
    out
}

/// Pieces from the terms of a row-major offset, if they are positions that do not run into each other.
fn of_rows(program: &TileProgram, rows: &[Term]) -> Option<Vec<Piece>> {
    let mut out = Vec::new();
    for t in rows {
        let (x, count) = match t.atom {
            Atom::Pos(axis, Field::ALL) => {
                let data = &program.axes[axis];
                (ex::pos(axis), data.extent.as_const()?.next_multiple_of(data.block.into()))
            }
            _ => return None,
        };
        if !t.syms.is_empty() || t.coef < 0 {
            return None;
        }
        out.push(Piece { step: t.coef.unsigned_abs(), count, x });
    }
    out.sort_by_key(|p| p.step);
    let apart = out.windows(2).all(|w| {
        let end = w[0].step.checked_mul(w[0].count);
        end.is_some_and(|end| end <= w[1].step) && w[1].step.is_multiple_of(w[0].step)
    });
    apart.then_some(out)
}

/// Pieces from the indices: each is below the extent of its dimension.
fn of_dims(program: &TileProgram, param: Param, index: &[Ex]) -> Option<Vec<Piece>> {
    let mut step = 1u64;
    let mut out = Vec::new();
    for (x, dim) in index.iter().zip(&program.params[param].dims).rev() {
        let Extent::Const(count) = *dim else { return None };
        out.push(Piece { step, count, x: x.clone() });
        step = step.checked_mul(count)?;
    }
    Some(out)
}

/// What a piece adds to a digit; `None` if the digit cuts it where it has no seam. Nothing in bounds is above the topmost
/// digit.
fn part(piece: &Piece, digit: Digit, top: bool) -> Option<Vec<Term>> {
    let end = digit.step.checked_mul(digit.count)?;
    let Piece { step, count, ref x } = *piece;
    let above = !top && step.is_multiple_of(end);
    if count <= 1 || digit.count <= 1 || step.checked_mul(count)? <= digit.step || above {
        return Some(Vec::new());
    }
    let (coef, q, room) = if step.is_multiple_of(digit.step) {
        let coef = step / digit.step;
        (coef, 1, digit.count.is_multiple_of(coef).then(|| digit.count / coef))
    } else if digit.step.is_multiple_of(step) {
        (1, digit.step / step, Some(digit.count))
    } else {
        return None;
    };
    // What is above the digit is cut off, unless nothing is.
    let fits = top || count.div_ceil(q).checked_mul(coef)? <= digit.count;
    let m = if fits { None } else { Some(room?) };
    let coef = i64::try_from(coef).ok()?;
    Some(match &**x {
        Expr::Num(n) => {
            let value = u64::try_from(integer(n.0)?).ok()? / q;
            let value = m.map_or(value, |m| value % m);
            vec![Term { coef: coef.checked_mul(i64::try_from(value).ok()?)?, syms: vec![], atom: Atom::One }]
        }
        Expr::Pos(axis) => match Field::of(q, m) {
            Some(field) => vec![Term { coef, syms: vec![], atom: Atom::Pos(*axis, field) }],
            None => vec![term(coef, divided(x, q, m))],
        },
        _ => vec![term(coef, divided(x, q, m))],
    })
}

fn term(coef: i64, x: Ex) -> Term {
    Term { coef, syms: vec![], atom: Atom::Other(x) }
}

/// `x / q % m`.
fn divided(x: &Ex, q: u64, m: Option<u64>) -> Ex {
    let n = |n: u64| ex::num(n as f64);
    let x = if q == 1 { x.clone() } else { ex::binary(Binary::FloorDiv, x.clone(), n(q)) };
    match m {
        None => x,
        Some(m) => ex::binary(Binary::Mod, x, n(m)),
    }
}

/// The row-major offset as one expression.
fn whole(program: &TileProgram, param: Param, index: &[Ex]) -> Ex {
    let dims = &program.params[param].dims;
    index.iter().zip(dims).fold(ex::num(0.0), |at, (x, &dim)| {
        ex::binary(Binary::Add, ex::binary(Binary::Mul, at, ex::size(dim)), x.clone())
    })
}
