//! Parsing expressions by binding strength.
//!
//! Nesting is bounded, and so is the height of what is built (a chain of operators is as high as it is long), so that no
//! text overflows the stack here or in what walks the expression later.

use std::collections::HashSet;
use std::sync::Arc;

use cranelift_entity::EntityRef;

use crate::diag::{Diagnostic, Span};
use crate::expr::{BINARY, REDUCTION, UNARY, build};
use crate::text::cursor::{Cursor, Declared, Parsed};
use crate::text::lexer::Kind;
use crate::text::names::{entity, reserved};
use crate::text::print_expr::{infix, prec};
use crate::{Axis, Binary, DType, Ex, Expr, Local, Tile, Unary, Value};

/// How deep expressions may be nested.
const DEPTH: usize = 120;

/// How high expressions may be.
const HEIGHT: usize = 512;

/// What an expression may mention.
pub(crate) struct Names<'a> {
    pub(crate) axes: &'a Declared<Axis>,
    pub(crate) values: Option<&'a Declared<Value>>,
    /// How many locals there are so far, in plans.
    pub(crate) locals: Option<usize>,
    /// The tiles that are declared, in tile programs.
    pub(crate) tiles: Option<usize>,
}

/// An infix operator at the cursor.
fn operator(c: &Cursor) -> Option<(Binary, u8)> {
    let text = match c.peek() {
        Kind::Mark(m) => *m,
        Kind::Word(w) => w.as_str(),
        _ => return None,
    };
    let (op, _) = BINARY.iter().find(|(_, name)| *name == text)?;
    Some((*op, infix(*op)?))
}

pub(crate) fn expr(c: &mut Cursor, names: &Names<'_>) -> Parsed<Ex> {
    binary(c, names, 0)
}

/// Indices in brackets, after the opening one was seen but not taken.
pub(crate) fn indices(c: &mut Cursor, names: &Names<'_>) -> Parsed<Vec<Ex>> {
    operands(c, names, "[", "]")
}

/// Expressions between marks; leaves the height of an expression that has them as operands.
fn operands(c: &mut Cursor, names: &Names<'_>, open: &str, close: &str) -> Parsed<Vec<Ex>> {
    let mut height = 0;
    let out = c.list(open, close, |c| {
        let e = expr(c, names)?;
        height = height.max(c.height);
        Ok(e)
    })?;
    raise(c, height + 1)?;
    Ok(out)
}

/// Notes the height of the expression that ends here.
fn raise(c: &mut Cursor, height: usize) -> Parsed<()> {
    c.height = height;
    if height > HEIGHT {
        let message = format!("the expression has more than {HEIGHT} operations within each other");
        return Err(Diagnostic::new(c.last_span(), message).with_help("give parts of it names of their own"));
    }
    Ok(())
}

fn binary(c: &mut Cursor, names: &Names<'_>, min: u8) -> Parsed<Ex> {
    c.depth += 1;
    if c.depth > DEPTH {
        return Err(Diagnostic::new(c.span(), format!("the expression is nested more than {DEPTH} deep"))
            .with_help("give parts of it names of their own"));
    }
    let mut left = prefix(c, names)?;
    let mut height = c.height;
    // The weakest operator that may still follow: comparisons do not chain.
    let mut most = u8::MAX;
    while let Some((op, p)) = operator(c) {
        if p < min {
            break;
        }
        if p > most {
            return Err(Diagnostic::new(c.span(), "comparisons do not chain")
                .with_help("write `a < b and b < c`, or put one of them in parentheses"));
        }
        c.next();
        let right = binary(c, names, p + 1)?;
        height = height.max(c.height) + 1;
        raise(c, height)?;
        left = build::binary(op, left, right);
        most = if p == prec::COMPARE { p - 1 } else { p };
    }
    c.depth -= 1;
    c.height = height;
    Ok(left)
}

fn prefix(c: &mut Cursor, names: &Names<'_>) -> Parsed<Ex> {
    // Signs are counted, not nested.
    let mut signs = 0usize;
    while c.take_mark("-") {
        signs += 1;
    }
    let literal = match c.peek() {
        Kind::Number(_) => true,
        Kind::Word(w) => w == "inf" || w == "nan",
        _ => false,
    };
    let mut x = if literal {
        let x = c.number()?;
        c.height = 1;
        if signs > 0 {
            signs -= 1;
            build::num(-x)
        } else {
            build::num(x)
        }
    } else {
        primary(c, names)?
    };
    raise(c, c.height + signs)?;
    for _ in 0..signs {
        x = build::unary(Unary::Neg, x);
    }
    Ok(x)
}

fn arguments<const N: usize>(c: &mut Cursor, names: &Names<'_>, f: &str, span: Span) -> Parsed<[Ex; N]> {
    if !c.is_mark("(") {
        return Err(c.unexpected(&format!("`(` after `{f}`")));
    }
    let args = operands(c, names, "(", ")")?;
    let found = args.len();
    args.try_into().map_err(|_| {
        let plural = if N == 1 { "" } else { "s" };
        Diagnostic::new(span.to(c.last_span()), format!("`{f}` takes {N} argument{plural}, found {found}"))
    })
}

fn primary(c: &mut Cursor, names: &Names<'_>) -> Parsed<Ex> {
    if c.take_mark("(") {
        let e = expr(c, names)?;
        c.expect(")")?;
        return Ok(e);
    }
    let (w, span) = c.word("an expression")?;
    c.height = 1;
    if let Some((op, _)) = REDUCTION.iter().find(|(_, n)| *n == w)
        && c.is_mark("[")
    {
        let start = c.span();
        let axes = c.axis_list(names.axes)?;
        let mut seen = HashSet::new();
        if axes.is_empty() || !axes.iter().all(|a| seen.insert(*a)) {
            let message = "a reduction binds one or more different axes";
            return Err(Diagnostic::new(start.to(c.last_span()), message));
        }
        let [body] = arguments(c, names, &w, span)?;
        return Ok(build::reduce(*op, axes, body));
    }
    if let Some((op, _)) = UNARY.iter().find(|(_, n)| *n == w) {
        let [x] = arguments(c, names, &w, span)?;
        return Ok(build::unary(*op, x));
    }
    if let Some((op, _)) = BINARY.iter().find(|(op, n)| *n == w && infix(*op).is_none()) {
        let [a, b] = arguments(c, names, &w, span)?;
        return Ok(build::binary(*op, a, b));
    }
    if w == "where" {
        let [p, a, b] = arguments(c, names, &w, span)?;
        return Ok(build::select(p, a, b));
    }
    if w == "size" {
        c.expect("(")?;
        let extent = c.extent()?;
        c.expect(")")?;
        return Ok(build::size(extent));
    }
    if let Ok(to) = w.parse::<DType>() {
        let [x] = arguments(c, names, &w, span)?;
        return Ok(build::cast(to, x));
    }
    if c.is_mark("[") {
        let Some(values) = names.values else {
            return Err(Diagnostic::new(span, format!("`{w}` is read, and tile programs read by `load`")));
        };
        let v = values.resolve(&w, span)?;
        return Ok(build::read(v, indices(c, names)?));
    }
    if let (Some(n), Some(count)) = (entity(&w, "t"), names.locals) {
        if n as usize >= count {
            return Err(Diagnostic::new(span, format!("there is no local `{w}` before this")));
        }
        return Ok(build::local(Local::new(n as usize)));
    }
    if let (Some(n), Some(count)) = (entity(&w, "tile"), names.tiles) {
        if n as usize >= count {
            return Err(Diagnostic::new(span, format!("there is no tile `{w}`")));
        }
        return Ok(Arc::new(Expr::Tile(Tile::new(n as usize))));
    }
    if c.is_mark("(") {
        return Err(Diagnostic::new(span, format!("there is no function `{w}`"))
            .with_help("functions of this level are primitives; others are expanded by frontends"));
    }
    if let Some(a) = names.axes.find(&w) {
        return Ok(build::pos(a));
    }
    if reserved(&w) {
        return Err(Diagnostic::new(span, format!("expected an expression, found `{w}`")));
    }
    if names.values.is_some_and(|v| v.find(&w).is_some()) {
        return Err(Diagnostic::new(span, format!("`{w}` is a tensor: say which element"))
            .with_help(format!("write `{w}[…]` with one index per axis; `{w}[]` if it has none")));
    }
    Err(names.axes.resolve(&w, span).err().unwrap_or_else(|| Diagnostic::new(span, "unknown name")))
}
