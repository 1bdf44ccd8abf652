//! Expressions of the language to expressions of the IR.
//!
//! Why here: names, axes in scope and kinds (truth, integer, real) are decided on the way down one expression;
//! [`super::call`] handles calls, [`super::lower`] the statements around.
//!
//! Pre: trees within [`super::ast::MAX_DEPTH`]. Post: the expression uses only axes, values and sizes; or a diagnostic
//! at the part that is wrong. Arguments that a function uses several times become values of their own, so that
//! nesting functions never multiplies the text.

use std::collections::HashMap;

use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::expr::build;
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Unary, expr};

use super::ast::{Kind, Name, Node, Size, Slot};
use super::dims::Var;
use super::library::closest;
use super::scope::Lowerer;

/// What kind of number an expression denotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ty {
    Bool,
    Int,
    Real,
}

impl Ty {
    pub(super) fn of(dtype: DType) -> Ty {
        match dtype {
            DType::Bool => Ty::Bool,
            d if d.is_int() => Ty::Int,
            _ => Ty::Real,
        }
    }
}

/// A lowered expression.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) ex: Ex,
    pub(super) ty: Ty,
}

impl Term {
    pub(super) fn int(ex: Ex) -> Term {
        Term { ex, ty: Ty::Int }
    }

    pub(super) fn real(ex: Ex) -> Term {
        Term { ex, ty: Ty::Real }
    }

    pub(super) fn truth(ex: Ex) -> Term {
        Term { ex, ty: Ty::Bool }
    }

    /// As a number: truth is 1.
    pub(super) fn number(self) -> Term {
        match self.ty {
            Ty::Bool => Term::int(build::select(self.ex, build::num(1.0), build::num(0.0))),
            _ => self,
        }
    }

    /// As a condition: everything but 0 is true.
    pub(super) fn condition(self) -> Ex {
        match self.ty {
            Ty::Bool => self.ex,
            _ => build::binary(Binary::Ne, self.ex, build::num(0.0)),
        }
    }
}

/// A name that is local to a function body or block.
#[derive(Clone, Debug)]
pub(super) enum Local {
    Term(Term),
    Axes(Vec<Axis>),
}

/// The names in scope of one statement or function body.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The function, empty for a statement.
    pub(super) function: String,
    pub(super) locals: HashMap<String, Local>,
    /// Axes in scope, innermost last.
    pub(super) binders: Vec<(String, Axis)>,
}

pub(super) type Lower<T> = Result<T, Diagnostic>;

impl Lowerer<'_> {
    pub(super) fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Lowers an expression.
    pub(super) fn expr(&mut self, node: &Node) -> Lower<Term> {
        match &node.kind {
            Kind::Num(x, int) => Ok(Term { ex: build::num(*x), ty: if *int { Ty::Int } else { Ty::Real } }),
            Kind::Name(n) => self.bare_name(n, node.span),
            Kind::Index(array, slots) => self.access(array, slots, node.span),
            Kind::Call(call) => self.call(call, node.span),
            Kind::Neg(x) => {
                let x = self.expr(x)?.number();
                Ok(match x.ex.as_num() {
                    Some(n) => Term { ex: build::num(-n), ty: x.ty },
                    None => Term { ex: build::unary(Unary::Neg, x.ex), ty: x.ty },
                })
            }
            Kind::Not(x) => Ok(Term::truth(build::unary(Unary::Not, self.expr(x)?.condition()))),
            Kind::Binary(op, a, b) => {
                let (a, b) = (self.expr(a)?, self.expr(b)?);
                binary(*op, a, b, node.span)
            }
            Kind::Power(base, exponent) => {
                let (x, n) = (self.expr(base)?.number(), self.expr(exponent)?.number());
                self.power(x, n)
            }
            Kind::Block(lets, result) => self.block(lets, result),
        }
    }

    fn bare_name(&mut self, name: &str, span: Span) -> Lower<Term> {
        match self.frame().locals.get(name).cloned() {
            Some(Local::Term(t)) => return Ok(t),
            Some(Local::Axes(axes)) => {
                return match axes[..] {
                    [a] => Ok(Term::int(build::pos(a))),
                    _ => Err(Diagnostic::new(span, format!("`{name}` stands for {} axes here", axes.len()))
                        .with_help("a position is along one axis")),
                };
            }
            None => {}
        }
        if let Some(axis) = self.axis_in_scope(name) {
            return Ok(Term::int(build::pos(axis)));
        }
        let named = Name { text: name.to_owned(), span };
        if let Some(rank) = self.rank(name) {
            if rank == 0 {
                return self.access(&named, &[], span);
            }
            return Err(Diagnostic::new(span, format!("`{name}` has {rank} axes, but is used without any"))
                .with_help(format!("write `{name}[...]` with one index per axis")));
        }
        if self.is_symbol(name) {
            let extent = self.resolve(Some(Size::Sym(name.to_owned())));
            return Ok(Term::int(build::size(extent)));
        }
        if self.axis_names.contains_key(name) || self.dims.get(&Var::Axis(name.to_owned())).is_some() {
            return Err(Diagnostic::new(span, format!("axis `{name}` is free here"))
                .with_help("put it on the left-hand side, or reduce over it"));
        }
        self.check_order(&named)?;
        let d = Diagnostic::new(span, format!("unknown name `{name}`"));
        Err(match closest(name, self.known_names().iter().map(String::as_str)) {
            Some(best) => d.with_help(format!("did you mean `{best}`?")),
            None => d.with_help(
                "axes are in scope on the left-hand side and inside the reductions that bind them",
            ),
        })
    }

    /// The axis that a name means here, if it is bound.
    fn axis_in_scope(&mut self, name: &str) -> Option<Axis> {
        let hit = |f: &Frame| f.binders.iter().rev().find(|(n, _)| n == name).map(|(_, a)| *a);
        // A function body sees its own binders, then those around the statement that calls it.
        let own = hit(self.frame());
        own.or_else(|| self.frames.first().and_then(hit))
    }

    /// The axis whose position a bare name is, if it is one.
    pub(super) fn position_of(&mut self, name: &str) -> Option<Axis> {
        match self.frame().locals.get(name) {
            Some(Local::Axes(axes)) if axes.len() == 1 => Some(axes[0]),
            Some(_) => None,
            None => self.axis_in_scope(name),
        }
    }

    fn access(&mut self, array: &Name, slots: &[Slot], span: Span) -> Lower<Term> {
        if let Some(local) = self.frame().locals.get(&array.text) {
            return match (local, slots) {
                (Local::Term(t), []) => Ok(t.clone()),
                _ => Err(Diagnostic::new(
                    span,
                    format!("`{}` is a local value and takes no index", array.text),
                )
                .with_help("use its bare name")),
            };
        }
        let (value, dtype) = self.array(array, slots)?;
        let mut index = Vec::with_capacity(slots.len());
        for (k, slot) in slots.iter().enumerate() {
            let term = self.expr(&slot.index)?;
            if term.ty == Ty::Real {
                return Err(Diagnostic::new(slot.index.span, "an index must be an integer")
                    .with_help("use floor(x) or an integer array"));
            }
            let term = term.number();
            let dim = Var::Slot(array.text.clone(), k);
            if let Some(name) = &slot.axis {
                self.named_slot(array, k, name)?;
            } else if slot.plain().is_some()
                && let Expr::Pos(axis) = &*term.ex
            {
                let along = Var::Axis(self.func.axes[*axis].name.clone());
                self.dims.equal(&along, &dim, slot.index.span)?;
            }
            index.push(term.ex);
        }
        Ok(Term { ex: build::read(value, index), ty: Ty::of(dtype) })
    }

    fn block(&mut self, lets: &[(Name, Node)], result: &Node) -> Lower<Term> {
        let outer = self.frame().locals.clone();
        for (name, node) in lets {
            let term = self.expr(node)?;
            let rest = lets.iter().map(|(_, n)| n).chain([result]);
            let uses: usize = rest.map(|n| uses(n, &name.text)).sum();
            let term = if uses > 1 && heavy(&term.ex) || has_reduction(&term.ex) {
                self.bind(term, &name.text)
            } else {
                term
            };
            self.frame().locals.insert(name.text.clone(), Local::Term(term));
        }
        let term = self.expr(result)?;
        self.frame().locals = outer;
        Ok(term)
    }

    /// Makes a value of a term, over the axes that are free in it.
    pub(super) fn bind(&mut self, term: Term, hint: &str) -> Term {
        let axes: Vec<Axis> = term.ex.free_axes().into_iter().collect();
        let function = self.frame().function.clone();
        let hint = if function.is_empty() { hint.to_owned() } else { format!("{function}_{hint}") };
        let name = self.fresh_value_name(&hint);
        let dtype = match term.ty {
            Ty::Bool => DType::Bool,
            Ty::Int => self.integer,
            Ty::Real => self.arithmetic,
        };
        let value = self.func.define(&name, dtype, &axes, term.ex);
        Term { ex: build::at(value, &axes), ty: term.ty }
    }

    pub(super) fn power(&mut self, x: Term, n: Term) -> Lower<Term> {
        let Some(e) = n.ex.as_num() else {
            return Ok(general_power(x, n));
        };
        if e == 0.5 {
            return Ok(Term::real(build::unary(Unary::Sqrt, x.ex)));
        }
        if e == -0.5 {
            return Ok(Term::real(build::unary(Unary::Rsqrt, x.ex)));
        }
        if e.fract() != 0.0 || e.abs() > 64.0 {
            return Ok(general_power(x, n));
        }
        let mut base = if heavy(&x.ex) && e.abs() > 1.0 { self.bind(x, "base") } else { x };
        if e < 0.0 {
            base = Term::real(base.ex);
        }
        let ty = base.ty;
        // Square and multiply keeps the product short; the tree stays small because the base is a leaf or nearly one.
        let (mut k, mut square, mut product) = (e.abs() as u32, base.ex, None::<Ex>);
        while k > 0 {
            if k & 1 == 1 {
                product = Some(match product {
                    None => square.clone(),
                    Some(p) => build::mul(p, square.clone()),
                });
            }
            k >>= 1;
            if k > 0 {
                square = build::mul(square.clone(), square);
            }
        }
        let product = product.unwrap_or_else(|| build::num(1.0));
        let ex = if e < 0.0 { build::unary(Unary::Inv, product) } else { product };
        Ok(Term { ex, ty })
    }
}

/// The primitive of this name with one argument.
pub(super) fn unary(name: &str) -> Option<Unary> {
    match name {
        "recip" => Some(Unary::Inv),
        _ => expr::UNARY.iter().find(|(_, n)| *n == name).map(|(op, _)| *op),
    }
}

pub(super) fn apply_unary(op: Unary, x: Term) -> Term {
    if op == Unary::Not {
        return Term::truth(build::unary(op, x.condition()));
    }
    let x = x.number();
    let ty = match op {
        Unary::Neg | Unary::Abs => x.ty,
        Unary::Floor => Ty::Int,
        _ => Ty::Real,
    };
    if op == Unary::Floor && x.ty == Ty::Int {
        return x;
    }
    Term { ex: build::unary(op, x.ex), ty }
}

fn general_power(x: Term, n: Term) -> Term {
    let log = build::unary(Unary::Log, x.ex);
    Term::real(build::unary(Unary::Exp, build::mul(n.ex, log)))
}

fn binary(op: Binary, a: Term, b: Term, span: Span) -> Lower<Term> {
    if matches!(op, Binary::And | Binary::Or) {
        return Ok(Term::truth(build::binary(op, a.condition(), b.condition())));
    }
    let (a, b) = (a.number(), b.number());
    if op.is_comparison() {
        return Ok(Term::truth(build::binary(op, a.ex, b.ex)));
    }
    let ints = a.ty == Ty::Int && b.ty == Ty::Int;
    if matches!(op, Binary::Div | Binary::FloorDiv | Binary::Mod) && b.ex.as_num() == Some(0.0) {
        return Err(Diagnostic::new(span, "division by zero"));
    }
    Ok(match op {
        Binary::Div => Term::real(build::div(a.ex, b.ex)),
        // On reals these are defined through floor; the primitives are for integers.
        Binary::FloorDiv if !ints => Term::int(build::unary(Unary::Floor, build::div(a.ex, b.ex))),
        Binary::Mod if !ints => {
            let whole = build::unary(Unary::Floor, build::div(a.ex.clone(), b.ex.clone()));
            Term::real(build::sub(a.ex, build::mul(b.ex, whole)))
        }
        _ => Term { ex: build::binary(op, a.ex, b.ex), ty: if ints { Ty::Int } else { Ty::Real } },
    })
}

/// How often a name occurs in an expression.
pub(super) fn uses(node: &Node, name: &str) -> usize {
    match &node.kind {
        Kind::Num(..) => 0,
        Kind::Name(n) => usize::from(n == name),
        Kind::Index(_, slots) => slots.iter().map(|s| uses(&s.index, name)).sum(),
        Kind::Call(c) => {
            let named = c.named.iter().map(|(_, n)| n);
            c.args.iter().chain(named).map(|n| uses(n, name)).sum()
        }
        Kind::Neg(x) | Kind::Not(x) => uses(x, name),
        Kind::Binary(_, a, b) => uses(a, name) + uses(b, name),
        // The base of a power is multiplied with itself.
        Kind::Power(a, b) => 2 * uses(a, name) + uses(b, name),
        Kind::Block(lets, x) => lets.iter().map(|(_, n)| uses(n, name)).sum::<usize>() + uses(x, name),
    }
}

fn has_reduction(ex: &Ex) -> bool {
    matches!(**ex, Expr::Reduce(..)) || ex.children().into_iter().any(has_reduction)
}

/// Whether writing an expression twice is worse than naming it.
pub(super) fn heavy(ex: &Ex) -> bool {
    fn count(ex: &Ex, left: &mut usize) -> bool {
        if *left == 0 || matches!(**ex, Expr::Reduce(..)) {
            return true;
        }
        *left -= 1;
        ex.children().into_iter().any(|c| count(c, left))
    }
    count(ex, &mut 8)
}
