//! Element types and axes of tile expressions.

use std::collections::BTreeSet;

use tilewright_ir::expr::build;
use tilewright_ir::tile::TileProgram;
use tilewright_ir::{Axis, DType, Ex, Expr, Reduction, Unary};

/// The largest number below 2^63 that a literal can be.
const WHOLE: f64 = 9_223_372_036_854_774_784.0;

/// A literal that no position is multiplied with.
const LARGE: f64 = 1_048_576.0;

/// What leaves a reduction of this type unchanged. Integers have no infinities: theirs is the outermost one of the type, or the
/// outermost literal. A literal alone has the type that it fits.
pub fn identity(op: Reduction, dtype: DType) -> Ex {
    let x = op.identity();
    let (least, most) = match dtype {
        d if d.is_float() => return build::num(x),
        DType::I64 => (i64::MIN as f64, WHOLE),
        _ => (f64::from(i32::MIN), f64::from(i32::MAX)),
    };
    if x == 0.0 {
        return build::num(x);
    }
    let of = if dtype == DType::I64 { dtype } else { DType::I32 };
    build::cast(of, build::num(x.clamp(least, most)))
}

/// The axes that an expression over tiles spans.
pub fn axes(p: &TileProgram, e: &Ex) -> BTreeSet<Axis> {
    e.free_axes_with(&|leaf| match leaf {
        Expr::Tile(t) => p.tiles[*t].axes.clone(),
        _ => Vec::new(),
    })
}

/// The type in which an expression over tiles is computed: `real` for numbers, `i32` or `i64`, or `bool`.
pub fn dtype(p: &TileProgram, e: &Ex, real: DType) -> DType {
    let widest = |a: DType, b: DType| match (a, b) {
        (x, y) if x.is_float() || y.is_float() => real,
        (DType::I64, _) | (_, DType::I64) => DType::I64,
        (DType::Bool, DType::Bool) => DType::Bool,
        _ => DType::I32,
    };
    match &**e {
        // A whole literal takes the type of its surroundings.
        Expr::Num(n) => {
            if n.0.fract() == 0.0 && n.0.abs() < 2_147_483_648.0 {
                DType::I32
            } else if n.0.fract() == 0.0 && n.0.abs() < 9e15 {
                DType::I64
            } else {
                real
            }
        }
        Expr::Pos(_) | Expr::Size(_) => DType::I32,
        Expr::Tile(t) => match p.tiles[*t].dtype {
            d if d.is_float() => real,
            DType::I64 => DType::I64,
            DType::Bool => DType::Bool,
            _ => DType::I32,
        },
        Expr::Unary(Unary::Not, _) => DType::Bool,
        Expr::Unary(Unary::Neg | Unary::Abs, x) => match dtype(p, x, real) {
            DType::Bool => DType::I32,
            d => d,
        },
        Expr::Unary(..) => real,
        Expr::Binary(op, a, b) => {
            use tilewright_ir::Binary::{Div, Mul, Random};
            if op.is_predicate() {
                DType::Bool
            } else if matches!(op, Div | Random) {
                real
            } else {
                let mut tiles = false;
                e.visit(&mut |e| tiles |= matches!(e, Expr::Tile(_)));
                // A product with a large literal is no position.
                let large = |e: &Ex| matches!(**e, Expr::Num(n) if n.0.abs() >= LARGE);
                match widest(dtype(p, a, real), dtype(p, b, real)) {
                    DType::I32 if *op == Mul && (large(a) || large(b)) => DType::I64,
                    // Positions fit 32 bits, and so does what is computed of them; numbers that were read may be any.
                    DType::Bool | DType::I32 if tiles => DType::I64,
                    DType::Bool => DType::I32,
                    d => d,
                }
            }
        }
        Expr::Select(_, a, b) => widest(dtype(p, a, real), dtype(p, b, real)),
        Expr::Cast(d, _) => match d {
            d if d.is_float() => real,
            DType::Bool => DType::Bool,
            DType::I64 => DType::I64,
            _ => DType::I32,
        },
        Expr::Read(..) | Expr::Local(_) | Expr::Reduce(..) => real,
    }
}
