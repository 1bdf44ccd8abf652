//! Printing expressions with as few parentheses as the grammar needs.

use crate::text::names::Names;
use crate::{Binary, Ex, Expr, Unary};

/// Binding strengths, loosest first.
pub(crate) mod prec {
    pub(crate) const OR: u8 = 1;
    pub(crate) const AND: u8 = 2;
    pub(crate) const COMPARE: u8 = 3;
    pub(crate) const SUM: u8 = 4;
    pub(crate) const PRODUCT: u8 = 5;
    pub(crate) const PREFIX: u8 = 6;
}

/// The binding strength of an infix operator; `None` for those written as calls.
pub(crate) fn infix(op: Binary) -> Option<u8> {
    Some(match op {
        Binary::Or => prec::OR,
        Binary::And => prec::AND,
        Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => prec::COMPARE,
        Binary::Add | Binary::Sub => prec::SUM,
        Binary::Mul | Binary::Div | Binary::FloorDiv | Binary::Mod => prec::PRODUCT,
        Binary::Max | Binary::Min | Binary::Random => return None,
    })
}

/// A literal that reads back to the same bits: integers plainly, others in the shortest form.
pub fn number(x: f64) -> String {
    if x.is_nan() {
        return if x.to_bits() == f64::NAN.to_bits() {
            "nan".to_owned()
        } else {
            format!("nan({:#x})", x.to_bits())
        };
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    if x.fract() == 0.0 && x.abs() < 1e15 && (x != 0.0 || x.is_sign_positive()) {
        return format!("{}", x as i64);
    }
    format!("{x:?}")
}

/// The text of an expression.
pub(crate) fn expr(e: &Expr, names: &Names) -> String {
    let mut out = String::new();
    write(&mut out, e, 0, names);
    out
}

/// The text of a list of indices.
pub(crate) fn indices(index: &[Ex], names: &Names) -> String {
    let plain = index.iter().all(|i| matches!(**i, Expr::Pos(_) | Expr::Num(_)));
    let parts: Vec<String> = index.iter().map(|i| expr(i, names)).collect();
    parts.join(if plain { "," } else { ", " })
}

fn call(out: &mut String, f: &str, args: &[&Ex], names: &Names) {
    out.push_str(f);
    out.push('(');
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(out, arg, 0, names);
    }
    out.push(')');
}

fn write(out: &mut String, e: &Expr, min: u8, names: &Names) {
    match e {
        Expr::Num(n) => out.push_str(&number(n.0)),
        Expr::Pos(a) => out.push_str(&names.axis(*a)),
        Expr::Size(e) => {
            out.push_str("size(");
            out.push_str(&names.extent(*e));
            out.push(')');
        }
        Expr::Read(v, index) => {
            out.push_str(&names.value(*v));
            out.push('[');
            out.push_str(&indices(index, names));
            out.push(']');
        }
        Expr::Local(l) => out.push_str(&l.to_string()),
        Expr::Tile(t) => out.push_str(&t.to_string()),
        // A minus before a literal would read as part of it.
        Expr::Unary(Unary::Neg, x) if x.as_num().is_none() => {
            out.push('-');
            write(out, x, prec::PREFIX, names);
        }
        Expr::Unary(op, x) => call(out, op.name(), &[x], names),
        Expr::Cast(to, x) => call(out, to.name(), &[x], names),
        Expr::Select(c, a, b) => call(out, "where", &[c, a, b], names),
        Expr::Reduce(op, axes, x) => call(out, &format!("{}[{}]", op.name(), names.axes(axes)), &[x], names),
        Expr::Binary(op, a, b) => {
            let Some(p) = infix(*op) else { return call(out, op.name(), &[a, b], names) };
            if p < min {
                out.push('(');
            }
            // Operators of one strength group to the left; comparisons do not chain.
            write(out, a, if p == prec::COMPARE { p + 1 } else { p }, names);
            out.push(' ');
            out.push_str(op.name());
            out.push(' ');
            write(out, b, p + 1, names);
            if p < min {
                out.push(')');
            }
        }
    }
}
