//! Calls: reductions, primitives, and functions that expand.
//!
//! Why here: everything that binds axes or opens a frame is a call; the rest of an expression does neither.
//!
//! Post: arguments that a function uses several times are values of their own; an axis that a function binds itself
//! never catches an axis of an argument; diagnostics point at the call in the user's text.

use std::collections::{BTreeSet, HashMap};

use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::expr::build;
use tilewright_ir::{Axis, Binary, DType, Ex, Reduction, expr};

use super::ast::{Call, FnDef, Kind, Name, Node};
use super::dims::Var;
use super::expr::{Frame, Local, Lower, Term, Ty, apply_unary, heavy, unary, uses};
use super::library::{MOST_RANKS, PRIMITIVES, RANKED, closest, ranked};
use super::scope::Lowerer;

/// Deepest stack of expansions; functions may call functions, but not endlessly.
const MAX_CALLS: usize = 24;

/// Axis parameters with the axes they stand for, and the axes in scope of the arguments.
type AxisArguments = (Vec<(String, Vec<Axis>)>, Vec<(String, Axis)>);

impl Lowerer<'_> {
    pub(super) fn call(&mut self, call: &Call, span: Span) -> Lower<Term> {
        let name = call.callee.text.as_str();
        if let Some(def) = self.functions.get(name).copied() {
            return self.expand(def, call, span);
        }
        if RANKED.contains(&name) {
            let def = self.ranked(call, span)?;
            return self.expand(&def, call, span);
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
            ("random", [key, counter]) => {
                let (key, counter) = (self.expr(key)?.number(), self.expr(counter)?.number());
                if key.ty != Ty::Int || counter.ty != Ty::Int {
                    return Err(Diagnostic::new(span, "the key and the counter of `random` are integers")
                        .with_help("convert them: `random(i64(key), i64(counter))`"));
                }
                Ok(Term::real(build::binary(Binary::Random, key.ex, counter.ex)))
            }
            ("random", _) => Err(arity(call, 2, span)),
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

    /// The function of as many ranks as the last argument has positions.
    fn ranked(&mut self, call: &Call, span: Span) -> Lower<FnDef> {
        let name = call.callee.text.as_str();
        let [_, rank] = &call.args[..] else {
            return Err(arity(call, 2, span));
        };
        let count = match &rank.kind {
            Kind::Num(n, true) => Some(*n as u64 + 1),
            Kind::Name(n) => {
                let axes = self.binder(&Name { text: n.clone(), span: rank.span })?;
                match axes[..] {
                    // The first walk finds out how long axes are.
                    [_] if self.solved.is_none() => Some(1),
                    [axis] => {
                        let name = self.func.axes[axis].name.clone();
                        self.extent_of(&Var::Axis(name)).as_const()
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let count = count.ok_or_else(|| {
            Diagnostic::new(rank.span, format!("`{name}` needs to know how many ranks there are")).with_help(
                format!(
                    "give an axis of constant extent, `axis k=2; V[i,k] = {name}[j](X[i,j], k)`, or a number"
                ),
            )
        })?;
        ranked(name, count).ok_or_else(|| {
            Diagnostic::new(
                rank.span,
                format!("`{name}` has {count} ranks, and 1 to {MOST_RANKS} are possible"),
            )
        })
    }

    fn unknown_function(&self, call: &Call) -> Diagnostic {
        let name = &call.callee.text;
        let d = Diagnostic::new(call.callee.span, format!("unknown function `{name}`"));
        if self.arrays.contains_key(name) {
            return d.with_help(format!("`{name}` is an array; indices are written in brackets"));
        }
        let known = self.functions.keys().copied().chain(PRIMITIVES).chain(RANKED);
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
