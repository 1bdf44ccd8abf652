//! Expressions of the language to expressions of the IR.
//!
//! Why here: names, axes in scope, kinds (truth, integer, real) and the expansion of functions are all decided on the
//! way down one expression; [`super::lower`] handles what surrounds it.
//!
//! Pre: trees within [`super::ast::MAX_DEPTH`]. Post: the expression uses only axes, values and sizes; or a diagnostic
//! at the part that is wrong. Arguments that a function uses several times become values of their own, so that
//! nesting functions never multiplies the text.

use std::collections::{BTreeSet, HashMap};

use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::expr::build;
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Reduction, Unary, expr};

use super::ast::{Call, FnDef, Kind, Name, Node, Size, Slot};
use super::dims::Var;
use super::library::{PRIMITIVES, closest};
use super::lower::Lowerer;

/// Deepest stack of expansions; functions may call functions, but not endlessly.
const MAX_CALLS: usize = 24;

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
    fn int(ex: Ex) -> Term {
        Term { ex, ty: Ty::Int }
    }

    fn real(ex: Ex) -> Term {
        Term { ex, ty: Ty::Real }
    }

    fn truth(ex: Ex) -> Term {
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

type Lower<T> = Result<T, Diagnostic>;

/// Axis parameters with the axes they stand for, and the axes in scope of the arguments.
type AxisArguments = (Vec<(String, Vec<Axis>)>, Vec<(String, Axis)>);

impl Lowerer<'_> {
    fn frame(&mut self) -> &mut Frame {
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
        if let Some(rank) = self.rank(name) {
            if rank == 0 {
                return self.access(&Name { text: name.to_owned(), span }, &[], span);
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
    fn bind(&mut self, term: Term, hint: &str) -> Term {
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

    fn power(&mut self, x: Term, n: Term) -> Lower<Term> {
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

    // Calls.

    fn call(&mut self, call: &Call, span: Span) -> Lower<Term> {
        let name = call.callee.text.as_str();
        if let Some(def) = self.functions.get(name).copied() {
            return self.expand(def, call, span);
        }
        if let Some((_, first)) = call.named.first().map(|n| (&n.0, &n.0)) {
            return Err(Diagnostic::new(first.span, format!("`{name}` has no parameter `{}`", first.text)));
        }
        if let (Some(op), Some(axes)) = (reduction(name), &call.axes) {
            let [arg] = &call.args[..] else {
                return Err(arity(call, 1, span));
            };
            return self.reduce(op, axes, arg, span);
        }
        if name == "size" {
            return self.size_of(call, span);
        }
        if let Some(axes) = &call.axes
            && PRIMITIVES.contains(&name)
        {
            let at = axes.first().map_or(span, |a| a.span);
            return Err(Diagnostic::new(at, format!("`{name}` takes no axes")));
        }
        if let Some(op) = reduction(name).filter(|op| *op != Reduction::Sum) {
            return self.extremum(op, call, span);
        }
        if let Some(op) = unary(name) {
            let [arg] = &call.args[..] else {
                return Err(arity(call, 1, span));
            };
            let x = self.expr(arg)?;
            return Ok(apply_unary(op, x));
        }
        if let Ok(dtype) = name.parse::<DType>() {
            let [arg] = &call.args[..] else {
                return Err(arity(call, 1, span));
            };
            let x = self.expr(arg)?;
            return Ok(match dtype {
                DType::Bool => Term::truth(x.condition()),
                _ => Term { ex: build::cast(dtype, x.number().ex), ty: Ty::of(dtype) },
            });
        }
        match (name, &call.args[..]) {
            ("where", [c, a, b]) => {
                let (c, a, b) = (self.expr(c)?.condition(), self.expr(a)?, self.expr(b)?);
                let (a, b) = if a.ty == b.ty { (a, b) } else { (a.number(), b.number()) };
                let ty = if a.ty == b.ty { a.ty } else { Ty::Real };
                Ok(Term { ex: build::select(c, a.ex, b.ex), ty })
            }
            ("where", _) => Err(arity(call, 3, span)),
            ("pow", [x, n]) => {
                let (x, n) = (self.expr(x)?.number(), self.expr(n)?.number());
                self.power(x, n)
            }
            ("pow", _) => Err(arity(call, 2, span)),
            ("sum", _) => Err(Diagnostic::new(call.callee.span, "`sum` needs the axes that it runs over")
                .with_help("write `sum[j](...)`")),
            _ => Err(self.unknown_function(call)),
        }
    }

    fn unknown_function(&self, call: &Call) -> Diagnostic {
        let name = &call.callee.text;
        let d = Diagnostic::new(call.callee.span, format!("unknown function `{name}`"));
        if self.arrays.contains_key(name) {
            return d.with_help(format!("`{name}` is an array; indices are written in brackets"));
        }
        let known = self.functions.keys().copied().chain(PRIMITIVES);
        match closest(name, known) {
            Some(best) => d.with_help(format!("did you mean `{best}`?")),
            None => d.with_help(format!("define it: `fn {name}(x) = ...`")),
        }
    }

    fn extremum(&mut self, op: Reduction, call: &Call, span: Span) -> Lower<Term> {
        if call.args.len() < 2 {
            return Err(Diagnostic::new(span, format!("`{0}` needs axes, or two arguments", op.name()))
                .with_help(format!("write `{0}[j](x)` or `{0}(a, b)`", op.name())));
        }
        let mut terms = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            terms.push(self.expr(arg)?.number());
        }
        let ty = if terms.iter().all(|t| t.ty == Ty::Int) { Ty::Int } else { Ty::Real };
        let ex = terms.into_iter().map(|t| t.ex).reduce(|a, b| build::binary(op.combine(), a, b));
        Ok(Term { ex: ex.unwrap_or_else(|| build::num(op.identity())), ty })
    }

    fn size_of(&mut self, call: &Call, span: Span) -> Lower<Term> {
        let mut names = call.axes.clone().unwrap_or_default();
        for arg in &call.args {
            match &arg.kind {
                Kind::Name(n) => names.push(Name { text: n.clone(), span: arg.span }),
                _ => return Err(Diagnostic::new(arg.span, "`size` takes names of axes")),
            }
        }
        if names.is_empty() {
            return Err(Diagnostic::new(span, "`size` needs an axis").with_help("write `size[j]()`"));
        }
        let mut product: Option<Ex> = None;
        for axis in names.iter().map(|n| self.binder(n)).collect::<Lower<Vec<_>>>()?.concat() {
            let name = self.func.axes[axis].name.clone();
            let size = build::size(self.extent_of(&Var::Axis(name)));
            product = Some(match product {
                None => size,
                Some(p) => build::mul(p, size),
            });
        }
        Ok(Term::int(product.unwrap_or_else(|| build::num(1.0))))
    }

    /// The axes that a name in binding position stands for: axis parameters of the function, or the axis of that name.
    fn binder(&mut self, name: &Name) -> Lower<Vec<Axis>> {
        match self.frame().locals.get(&name.text) {
            Some(Local::Axes(axes)) => return Ok(axes.clone()),
            Some(Local::Term(_)) => {
                return Err(Diagnostic::new(
                    name.span,
                    format!("`{}` is a local value, not an axis", name.text),
                ));
            }
            None => {}
        }
        Ok(vec![self.axis(&name.text, name.span)])
    }

    fn binders(&mut self, names: &[Name], span: Span) -> Lower<Vec<(String, Axis)>> {
        let mut out: Vec<(String, Axis)> = Vec::new();
        for name in names {
            for axis in self.binder(name)? {
                if out.iter().any(|(_, a)| *a == axis) {
                    return Err(Diagnostic::new(name.span, format!("axis `{}` is named twice", name.text)));
                }
                out.push((name.text.clone(), axis));
            }
        }
        if out.is_empty() {
            return Err(Diagnostic::new(span, "the brackets name no axis"));
        }
        Ok(out)
    }

    fn reduce(&mut self, op: Reduction, names: &[Name], arg: &Node, span: Span) -> Lower<Term> {
        let mut bound = self.binders(names, span)?;
        self.rename_captured(&mut bound, names);
        let before = self.frame().binders.len();
        let scope = bound.clone();
        self.frame().binders.extend(scope);
        let body = self.expr(arg)?.number();
        self.frame().binders.truncate(before);
        let axes: Vec<Axis> = bound.into_iter().map(|(_, a)| a).collect();
        Ok(Term { ex: build::reduce(op, axes, body.ex), ty: body.ty })
    }

    /// Inside a function, an axis that the function binds itself must not capture an axis of the arguments.
    fn rename_captured(&mut self, bound: &mut [(String, Axis)], names: &[Name]) {
        if self.frame().function.is_empty() {
            return;
        }
        let frame = self.frame().clone();
        let mut free = BTreeSet::new();
        for (_, local) in sorted(&frame.locals) {
            if let Local::Term(t) = local {
                free.extend(t.ex.free_axes());
            }
        }
        for (name, axis) in bound {
            let is_param = matches!(frame.locals.get(name.as_str()), Some(Local::Axes(_)));
            if !is_param && free.contains(axis) {
                let span = names.iter().find(|n| n.text == *name).map_or(Span::default(), |n| n.span);
                *axis = self.renamed_axis(name, span);
            }
        }
    }

    /// Expands a function: arguments are lowered here, the body in a frame of its own.
    fn expand(&mut self, def: &FnDef, call: &Call, span: Span) -> Lower<Term> {
        if self.frames.iter().any(|f| f.function == def.name.text) {
            return Err(Diagnostic::new(span, format!("function `{}` calls itself", def.name.text)));
        }
        if self.frames.len() > MAX_CALLS {
            return Err(Diagnostic::new(span, format!("functions are nested deeper than {MAX_CALLS} calls")));
        }
        let mut frame = Frame { function: def.name.text.clone(), ..Frame::default() };
        let (bound, scope) = self.axis_arguments(def, call, span)?;
        for (param, axes) in bound {
            frame.locals.insert(param, Local::Axes(axes));
        }
        // The axes are in scope in the arguments: that is what the function binds them for.
        let before = self.frame().binders.len();
        self.frame().binders.extend(scope);
        let args = self.arguments(def, call, span)?;
        self.frame().binders.truncate(before);
        for ((param, _), term) in def.params.iter().zip(args) {
            let term = if uses(&def.body, &param.text) > 1 && heavy(&term.ex) {
                let hint = format!("{}_{}", def.name.text, param.text);
                self.bind(term, &hint)
            } else {
                term
            };
            frame.locals.insert(param.text.clone(), Local::Term(term));
        }
        self.frames.push(frame);
        let result = self.expr(&def.body);
        self.frames.pop();
        result.map_err(|d| in_call(d, def, span))
    }

    /// What each axis parameter stands for, and the names that the call brings into scope. A single axis parameter
    /// takes all axes of the call.
    fn axis_arguments(&mut self, def: &FnDef, call: &Call, span: Span) -> Lower<AxisArguments> {
        let name = &def.name.text;
        let names = call.axes.as_deref().unwrap_or_default();
        if def.axes.is_empty() && !names.is_empty() {
            return Err(Diagnostic::new(names[0].span, format!("function `{name}` takes no axes")));
        }
        if !def.axes.is_empty() && names.is_empty() {
            return Err(Diagnostic::new(span, format!("function `{name}` needs an axis"))
                .with_help(format!("write `{name}[{}](...)`", def.axes[0].text)));
        }
        if def.axes.len() > 1 && def.axes.len() != names.len() {
            let message = format!("function `{name}` takes {} axes, not {}", def.axes.len(), names.len());
            return Err(Diagnostic::new(span, message));
        }
        let (mut groups, mut scope, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for name in names {
            let axes = self.binder(name)?;
            if !axes.iter().all(|a| seen.insert(*a)) {
                return Err(Diagnostic::new(name.span, format!("axis `{}` is named twice", name.text)));
            }
            if !self.frame().locals.contains_key(&name.text) {
                scope.extend(axes.iter().map(|&a| (name.text.clone(), a)));
            }
            groups.push(axes);
        }
        if def.axes.len() == 1 {
            groups = vec![groups.concat()];
        }
        Ok((def.axes.iter().map(|a| a.text.clone()).zip(groups).collect(), scope))
    }

    fn arguments(&mut self, def: &FnDef, call: &Call, span: Span) -> Lower<Vec<Term>> {
        let name = &def.name.text;
        if call.args.len() > def.params.len() {
            let message =
                format!("function `{name}` takes {} arguments, not {}", def.params.len(), call.args.len());
            return Err(Diagnostic::new(call.args[def.params.len()].span, message));
        }
        for (k, (named, _)) in call.named.iter().enumerate() {
            let at = def.params.iter().position(|(p, _)| p.text == named.text);
            let again = call.named[..k].iter().any(|(n, _)| n.text == named.text);
            match at {
                None => {
                    let message = format!("function `{name}` has no parameter `{}`", named.text);
                    return Err(Diagnostic::new(named.span, message));
                }
                Some(p) if p < call.args.len() || again => {
                    return Err(Diagnostic::new(named.span, format!("`{}` is given twice", named.text)));
                }
                Some(_) => {}
            }
        }
        let mut out = Vec::with_capacity(def.params.len());
        for (k, (param, default)) in def.params.iter().enumerate() {
            let named = call.named.iter().find(|(n, _)| n.text == param.text).map(|(_, node)| node);
            out.push(match (call.args.get(k).or(named), default) {
                (Some(node), _) => self.expr(node)?,
                (None, Some(node)) => {
                    self.frames.push(Frame { function: def.name.text.clone(), ..Frame::default() });
                    let term = self.expr(node);
                    self.frames.pop();
                    term?
                }
                (None, None) => {
                    let message = format!("function `{name}` needs an argument for `{}`", param.text);
                    return Err(Diagnostic::new(span, message));
                }
            });
        }
        Ok(out)
    }

    /// The extent of a dimension, a placeholder while extents are still being collected.
    pub(super) fn extent_of(&self, var: &Var) -> Extent {
        self.resolve(self.solved.and_then(|s| s.dims.get(var)))
    }
}

/// Diagnostics inside a function body are shown at the call: library bodies are not in the user's text.
fn in_call(mut d: Diagnostic, def: &FnDef, span: Span) -> Diagnostic {
    if !d.message.starts_with("in `") {
        d.message = format!("in `{}`: {}", def.name.text, d.message);
    }
    d.span = Some(span);
    d.labels.clear();
    d
}

fn sorted<V>(map: &HashMap<String, V>) -> Vec<(&String, &V)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_by_key(|e| e.0);
    all
}

fn arity(call: &Call, wanted: usize, span: Span) -> Diagnostic {
    let (name, given) = (&call.callee.text, call.args.len());
    Diagnostic::new(
        span,
        format!("`{name}` takes {wanted} argument{}, not {given}", if wanted == 1 { "" } else { "s" }),
    )
}

fn reduction(name: &str) -> Option<Reduction> {
    expr::REDUCTION.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
}

/// The primitive of this name with one argument.
pub(super) fn unary(name: &str) -> Option<Unary> {
    match name {
        "recip" => Some(Unary::Inv),
        _ => expr::UNARY.iter().find(|(_, n)| *n == name).map(|(op, _)| *op),
    }
}

fn apply_unary(op: Unary, x: Term) -> Term {
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
fn heavy(ex: &Ex) -> bool {
    fn count(ex: &Ex, left: &mut usize) -> bool {
        if *left == 0 || matches!(**ex, Expr::Reduce(..)) {
            return true;
        }
        *left -= 1;
        ex.children().into_iter().any(|c| count(c, left))
    }
    count(ex, &mut 8)
}
