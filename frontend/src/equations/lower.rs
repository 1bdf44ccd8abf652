//! Statements to a module.
//!
//! Why here: arrays, symbols and extents belong to the whole text. It is lowered twice by the same code: the first time
//! to collect which inputs are used and which extents must agree, the second time with all extents known, the inputs
//! as parameters in front, and only the statements that the outputs need.
//!
//! Post: a module with one function and one call. Everything that is wrong with names, axes and types is a diagnostic.

use std::collections::{BTreeMap, HashMap, HashSet};

use cranelift_entity::PrimaryMap;
use indexmap::{IndexMap, IndexSet};
use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::graph::{Arg, Call, Function, GlobalData, GlobalKind, Module, ParamKind};
use tilewright_ir::{Axis, DType, Extent, Sym, SymData, Value};

use super::Given;
use super::ast::{AxisDecl, Definition, FnDef, Kind, Name, Node, Size, Slot, Stmt};
use super::dims::{Dims, Var};
use super::expr::{Frame, Ty};
use super::library::{PRIMITIVES, library};

/// The largest value of a symbol that has no declared range.
const DEFAULT_MAX: u64 = 4096;

/// An array of the text: an input, or what a statement defines.
#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    /// How many axes, once known.
    rank: Option<usize>,
    /// The names of its axes, where they have one.
    axes: Vec<Option<String>>,
    dtype: Option<DType>,
    /// The value that holds it, once there is one.
    value: Option<Value>,
    /// Whether a statement defines it.
    defined: bool,
    /// Whether its axes were declared, so that their names are binding.
    declared: bool,
    span: Span,
}

/// What the first pass found out.
pub(super) struct Survey {
    pub(super) dims: Dims,
    symbols: IndexMap<String, (Sym, SymData)>,
    /// The inputs in use, with the names of their axes.
    inputs: Vec<(String, Vec<Option<String>>)>,
    arithmetic: DType,
    integer: DType,
    widest: DType,
}

/// The state of one pass.
pub(super) struct Lowerer<'a> {
    given: &'a Given,
    pub(super) solved: Option<&'a Survey>,
    pub(super) arrays: IndexMap<String, Array>,
    pub(super) functions: HashMap<&'a str, &'a FnDef>,
    pub(super) dims: Dims,
    pub(super) func: Function,
    pub(super) frames: Vec<Frame>,
    pub(super) axis_names: HashMap<String, Axis>,
    /// The dtype of values that are not declared: reals and integers.
    pub(super) arithmetic: DType,
    pub(super) integer: DType,
    axis_spans: Vec<(String, Span)>,
    ranges: IndexMap<String, (u64, u64)>,
    symbols: IndexSet<String>,
    used_symbols: IndexSet<String>,
    used_axes: IndexSet<String>,
    used_inputs: IndexSet<String>,
    value_names: HashSet<String>,
    declared_dtypes: HashMap<String, DType>,
    counting_inputs: bool,
}

/// A finished module with the values of symbols that the given arrays imply.
pub(super) struct Lowered {
    pub(super) module: Module,
    pub(super) symbol_values: Vec<(Sym, u64)>,
}

/// Lowers statements to a module.
pub(super) fn lower(stmts: &[Stmt], given: &Given, outputs: &[String]) -> Result<Lowered, Diagnostic> {
    let outputs = chosen_outputs(stmts, outputs)?;
    let needed = needed(stmts, &outputs);
    let mut first = Lowerer::new(stmts, given, None)?;
    first.statements(stmts, &needed, false)?;
    let survey = first.survey()?;
    let mut second = Lowerer::new(stmts, given, Some(&survey))?;
    second.parameters(&survey.inputs);
    second.statements(stmts, &needed, true)?;
    second.finish(&outputs)
}

fn chosen_outputs(stmts: &[Stmt], outputs: &[String]) -> Result<Vec<String>, Diagnostic> {
    let defined: Vec<&Name> = definitions(stmts).map(|d| &d.name).collect();
    let Some(last) = defined.last() else {
        return Err(Diagnostic::general("the text defines nothing").with_help("write at least `O[i] = ...`"));
    };
    if outputs.is_empty() {
        return Ok(vec![last.text.clone()]);
    }
    let mut chosen: Vec<String> = Vec::new();
    for name in outputs {
        if !defined.iter().any(|d| d.text == *name) {
            let names: Vec<String> = defined.iter().map(|d| format!("`{}`", d.text)).collect();
            return Err(Diagnostic::general(format!("no statement defines the output `{name}`"))
                .with_help(format!("defined are {}", names.join(", "))));
        }
        if !chosen.contains(name) {
            chosen.push(name.clone());
        }
    }
    Ok(chosen)
}

fn definitions(stmts: &[Stmt]) -> impl Iterator<Item = &Definition> {
    stmts.iter().filter_map(|s| match s {
        Stmt::Define(d) => Some(d),
        _ => None,
    })
}

/// The definitions that the outputs depend on, by name.
fn needed(stmts: &[Stmt], outputs: &[String]) -> HashSet<String> {
    let mut bodies: HashMap<&str, Vec<&Node>> = HashMap::new();
    for s in stmts {
        match s {
            Stmt::Define(d) => bodies.entry(&d.name.text).or_default().push(&d.body),
            Stmt::Fn(f) => {
                let defaults = f.params.iter().filter_map(|(_, d)| d.as_ref());
                bodies.entry(&f.name.text).or_default().extend(defaults.chain([&f.body]));
            }
            _ => {}
        }
    }
    let mut seen: HashSet<String> = outputs.iter().cloned().collect();
    let mut todo: Vec<String> = outputs.to_vec();
    while let Some(name) = todo.pop() {
        for body in bodies.get(name.as_str()).into_iter().flatten() {
            mentioned(body, &mut |n| {
                if seen.insert(n.to_owned()) {
                    todo.push(n.to_owned());
                }
            });
        }
    }
    seen
}

fn mentioned(node: &Node, f: &mut impl FnMut(&str)) {
    match &node.kind {
        Kind::Num(..) => {}
        Kind::Name(n) => f(n),
        Kind::Index(n, slots) => {
            f(&n.text);
            slots.iter().for_each(|s| mentioned(&s.index, f));
        }
        Kind::Call(c) => {
            f(&c.callee.text);
            c.args.iter().chain(c.named.iter().map(|(_, n)| n)).for_each(|n| mentioned(n, f));
        }
        Kind::Neg(x) | Kind::Not(x) => mentioned(x, f),
        Kind::Binary(_, a, b) | Kind::Power(a, b) => {
            mentioned(a, f);
            mentioned(b, f);
        }
        Kind::Block(lets, x) => {
            lets.iter().for_each(|(_, n)| mentioned(n, f));
            mentioned(x, f);
        }
    }
}

/// The wider of two dtypes of one family; half precisions of different kinds meet in f32.
fn wider(a: DType, b: DType) -> DType {
    if a == b {
        return a;
    }
    let rank = |d: DType| if d.is_float() { 16 + d.bytes() } else { d.bytes() };
    match (a, b) {
        (DType::F16, DType::Bf16) | (DType::Bf16, DType::F16) => DType::F32,
        _ if rank(a) >= rank(b) => a,
        _ => b,
    }
}

impl<'a> Lowerer<'a> {
    fn new(stmts: &'a [Stmt], given: &'a Given, solved: Option<&'a Survey>) -> Result<Self, Diagnostic> {
        let mut l = Lowerer {
            given,
            solved,
            arrays: IndexMap::new(),
            functions: library().iter().map(|f| (f.name.text.as_str(), f)).collect(),
            dims: Dims::default(),
            func: Function { name: "equations".to_owned(), ..Function::default() },
            frames: Vec::new(),
            axis_names: HashMap::new(),
            arithmetic: solved.map_or(DType::F32, |s| s.arithmetic),
            integer: solved.map_or(DType::I32, |s| s.integer),
            axis_spans: Vec::new(),
            ranges: IndexMap::new(),
            symbols: IndexSet::new(),
            used_symbols: IndexSet::new(),
            used_axes: IndexSet::new(),
            used_inputs: IndexSet::new(),
            value_names: HashSet::new(),
            declared_dtypes: HashMap::new(),
            counting_inputs: true,
        };
        let mut own = HashSet::new();
        for s in stmts {
            match s {
                Stmt::Range(name, min, max) => {
                    if l.ranges.insert(name.text.clone(), (*min, *max)).is_some() {
                        return Err(Diagnostic::new(
                            name.span,
                            format!("symbol `{}` has two ranges", name.text),
                        ));
                    }
                    l.symbols.insert(name.text.clone());
                }
                Stmt::Decl(d) => l.note_symbols(d.axes.iter().flatten()),
                Stmt::Axes(axes) => l.note_symbols(axes.iter()),
                Stmt::Fn(f) => {
                    l.check_function(f, &mut own)?;
                    l.functions.insert(&f.name.text, f);
                }
                Stmt::Define(d) => l.check_callable_name(&d.name)?,
            }
        }
        l.value_names.extend(given.arrays.keys().cloned());
        l.value_names.extend(definitions(stmts).map(|d| d.name.text.clone()));
        for s in stmts {
            match s {
                Stmt::Decl(d) => {
                    l.value_names.insert(d.name.text.clone());
                    l.declare(d, stmts)?;
                }
                Stmt::Axes(axes) => {
                    for a in axes {
                        l.declare_axis(a, "")?;
                    }
                }
                _ => {}
            }
        }
        Ok(l)
    }

    fn note_symbols<'d>(&mut self, axes: impl Iterator<Item = &'d AxisDecl>) {
        for a in axes {
            if let Some((Size::Sym(s), _)) = &a.size {
                self.symbols.insert(s.clone());
            }
        }
    }

    /// Takes the declared extent of an axis into account.
    fn declare_axis(&mut self, axis: &AxisDecl, with: &str) -> Result<(), Diagnostic> {
        let size = match &axis.size {
            Some((size, _)) => Some(size.clone()),
            None if self.ranges.contains_key(&axis.name.text) => Some(Size::Sym(axis.name.text.clone())),
            None => None,
        };
        if let Some(size) = size {
            let span = axis.size.as_ref().map_or(axis.name.span, |s| axis.name.span.to(s.1));
            let what = format!("`{}` (declared{with})", axis.name.text);
            self.dims.declare(&Var::Axis(axis.name.text.clone()), size, what, span)?;
        }
        Ok(())
    }

    fn check_callable_name(&self, name: &Name) -> Result<(), Diagnostic> {
        if PRIMITIVES.contains(&name.text.as_str()) {
            let message = format!("`{}` is a primitive of the language and cannot be redefined", name.text);
            return Err(Diagnostic::new(name.span, message));
        }
        Ok(())
    }

    fn check_function<'f>(&self, f: &'f FnDef, own: &mut HashSet<&'f str>) -> Result<(), Diagnostic> {
        self.check_callable_name(&f.name)?;
        if !own.insert(&f.name.text) {
            return Err(Diagnostic::new(f.name.span, format!("function `{}` is defined twice", f.name.text)));
        }
        let mut seen = HashSet::new();
        for p in f.axes.iter().chain(f.params.iter().map(|(p, _)| p)) {
            if !seen.insert(&p.text) {
                return Err(Diagnostic::new(p.span, format!("parameter `{}` is named twice", p.text)));
            }
        }
        Ok(())
    }

    fn declare(&mut self, d: &super::ast::Decl, stmts: &[Stmt]) -> Result<(), Diagnostic> {
        let name = &d.name.text;
        self.check_callable_name(&d.name)?;
        if let Some(before) = self.arrays.get(name) {
            return Err(Diagnostic::new(d.name.span, format!("`{name}` is declared twice"))
                .with_label(before.span, "first here"));
        }
        self.declared_dtypes.extend(d.dtype.map(|t| (name.clone(), t)));
        let defined = definitions(stmts).any(|s| s.name.text == *name);
        let given = self.given.arrays.get(name).filter(|_| !defined);
        if let (Some(declared), Some((dtype, _))) = (d.dtype, given)
            && declared != *dtype
        {
            let message = format!("`{name}` is declared as {declared}, but the given array is {dtype}");
            return Err(Diagnostic::new(d.name.span, message));
        }
        let mut array = Array {
            rank: d.axes.as_ref().map(Vec::len),
            dtype: d.dtype.or(given.map(|g| g.0)),
            declared: d.axes.is_some(),
            span: d.name.span,
            ..Array::default()
        };
        for (k, axis) in d.axes.iter().flatten().enumerate() {
            let (axis_var, slot) = (Var::Axis(axis.name.text.clone()), Var::Slot(name.clone(), k));
            self.declare_axis(axis, &format!(" with {name}"))?;
            self.dims.equal(&axis_var, &slot, axis.name.span)?;
            array.axes.push(Some(axis.name.text.clone()));
        }
        self.arrays.insert(name.clone(), array);
        if given.is_some() {
            self.give_dims(name, d.name.span)?;
        }
        Ok(())
    }

    /// Takes the extents of a given array into account.
    fn give_dims(&mut self, name: &str, span: Span) -> Result<(), Diagnostic> {
        let (Some((dtype, dims)), Some(array)) = (self.given.arrays.get(name), self.arrays.get_mut(name))
        else {
            return Ok(());
        };
        array.dtype.get_or_insert(*dtype);
        match array.rank {
            Some(rank) if rank != dims.len() => {
                let message =
                    format!("`{name}` is declared with {rank} axes, but the given array has {}", dims.len());
                return Err(Diagnostic::new(span, message));
            }
            _ => array.rank = Some(dims.len()),
        }
        array.axes.resize(dims.len(), None);
        for (k, &n) in dims.iter().enumerate() {
            self.dims.give(
                &Var::Slot(name.to_owned(), k),
                n,
                format!("dimension {k} of the given {name}"),
                span,
            )?;
        }
        Ok(())
    }

    // Names, asked by expression lowering.

    /// The axis of this name, made on first use.
    pub(super) fn axis(&mut self, name: &str, span: Span) -> Axis {
        if self.counting_inputs {
            self.used_axes.insert(name.to_owned());
        }
        if let Some(&axis) = self.axis_names.get(name) {
            return axis;
        }
        let extent = self.extent_of(&Var::Axis(name.to_owned()));
        let axis = self.func.axis(name, extent);
        self.axis_names.insert(name.to_owned(), axis);
        self.axis_spans.push((name.to_owned(), span));
        axis
    }

    /// Another axis with the extent of the named one.
    pub(super) fn renamed_axis(&mut self, name: &str, span: Span) -> Axis {
        self.axis(name, span);
        let fresh = (1..).map(|n| format!("{name}_{n}")).find(|n| !self.axis_names.contains_key(n));
        // The range above has no end, so there is always a name.
        let fresh = fresh.unwrap_or_default();
        let axis = self.axis(&fresh, span);
        let both = (Var::Axis(name.to_owned()), Var::Axis(fresh));
        // Neither side of a new variable can disagree.
        drop(self.dims.equal(&both.0, &both.1, span));
        axis
    }

    /// A value name that is not taken yet.
    pub(super) fn fresh_value_name(&mut self, hint: &str) -> String {
        let mut name = hint.to_owned();
        let mut n = 1;
        while !self.value_names.insert(name.clone()) {
            n += 1;
            name = format!("{hint}_{n}");
        }
        name
    }

    pub(super) fn is_symbol(&mut self, name: &str) -> bool {
        let hit = self.symbols.contains(name);
        if hit && self.counting_inputs {
            self.used_symbols.insert(name.to_owned());
        }
        hit
    }

    pub(super) fn known_names(&self) -> Vec<String> {
        self.arrays.keys().chain(self.given.arrays.keys()).chain(&self.symbols).cloned().collect()
    }

    /// The rank of an array, if the name is one.
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        match self.arrays.get(name) {
            Some(a) => Some(a.rank.unwrap_or(0)),
            None => self.given.arrays.get(name).map(|g| g.1.len()),
        }
    }

    /// A size as an extent; a placeholder while extents are still being collected.
    pub(super) fn resolve(&self, size: Option<Size>) -> Extent {
        match (size, self.solved) {
            (Some(Size::Const(n)), _) => Extent::Const(n),
            (Some(Size::Sym(s)), Some(survey)) => {
                survey.symbols.get(&s).map_or(Extent::Const(0), |(sym, _)| Extent::Sym(*sym))
            }
            _ => Extent::Const(0),
        }
    }

    /// The value and dtype of an array that is read with these indices.
    pub(super) fn array(&mut self, name: &Name, slots: &[Slot]) -> Result<(Value, DType), Diagnostic> {
        let key = &name.text;
        if !self.arrays.contains_key(key) {
            if !self.given.arrays.contains_key(key) {
                return Err(self.unknown_array(name));
            }
            self.arrays.insert(key.clone(), Array { span: name.span, ..Array::default() });
            self.give_dims(key, name.span)?;
        }
        let used: Vec<Option<String>> = slots.iter().map(|s| self.slot_axis(s)).collect();
        // Present: inserted above at the latest.
        let Some(array) = self.arrays.get_mut(key) else {
            return Err(Diagnostic::new(name.span, "unknown array"));
        };
        let rank = *array.rank.get_or_insert(slots.len());
        if rank != slots.len() {
            let (s, message) = (if rank == 1 { "axis" } else { "axes" }, slots.len());
            let message = format!("`{key}` has {rank} {s}, but is used with {message}");
            return Err(Diagnostic::new(name.span, message).with_label(array.span, "this array"));
        }
        array.axes.resize(rank, None);
        if array.value.is_none() && !array.defined {
            for (known, used) in array.axes.iter_mut().zip(used) {
                *known = known.take().or(used);
            }
        }
        let Some(dtype) = array.dtype else {
            return Err(Diagnostic::new(name.span, format!("the dtype of `{key}` is not known"))
                .with_help(format!("declare it, e.g. `{key}: f32[...]`, or give the array")));
        };
        if let Some(value) = array.value {
            if self.counting_inputs && !array.defined {
                self.used_inputs.insert(key.clone());
            }
            return Ok((value, dtype));
        }
        if self.counting_inputs {
            self.used_inputs.insert(key.clone());
        }
        Ok((self.parameter(key), dtype))
    }

    /// The axis that a slot names, if it names one.
    fn slot_axis(&mut self, slot: &Slot) -> Option<String> {
        match &slot.axis {
            Some(name) => Some(name.text.clone()),
            None => {
                slot.plain().and_then(|n| self.position_of(&n.text)).map(|a| self.func.axes[a].name.clone())
            }
        }
    }

    fn unknown_array(&self, name: &Name) -> Diagnostic {
        let d = Diagnostic::new(name.span, format!("unknown array `{}`", name.text));
        let names = self.known_names();
        match super::library::closest(&name.text, names.iter().map(String::as_str)) {
            Some(best) => d.with_help(format!("did you mean `{best}`?")),
            None => d.with_help(format!(
                "declare it, e.g. `{}: f32[i=8]`, give the array, or define it in an earlier statement",
                name.text
            )),
        }
    }

    /// `X[t := e]` says that dimension `k` of `X` is called `t`.
    pub(super) fn named_slot(&mut self, array: &Name, k: usize, axis: &Name) -> Result<(), Diagnostic> {
        let declared = self.arrays.get(&array.text).filter(|a| a.declared);
        let known = declared.and_then(|a| a.axes.get(k).cloned()).flatten();
        if let Some(known) = known.filter(|n| *n != axis.text) {
            let message = format!("dimension {k} of `{}` is `{known}`, not `{}`", array.text, axis.text);
            return Err(Diagnostic::new(axis.span, message));
        }
        self.dims.equal(&Var::Axis(axis.text.clone()), &Var::Slot(array.text.clone(), k), axis.span)
    }

    /// Makes a parameter for an input. Its axes must be different, so dimensions without a name of their own get one.
    fn parameter(&mut self, name: &str) -> Value {
        let array = self.arrays.get(name).cloned().unwrap_or_default();
        let mut axes: Vec<Axis> = Vec::new();
        for k in 0..array.rank.unwrap_or(0) {
            let slot = Var::Slot(name.to_owned(), k);
            let own = array.axes.get(k).cloned().flatten();
            let axis = own.map(|n| self.axis(&n, array.span)).filter(|a| !axes.contains(a));
            // A name from the first use may belong to another extent: `x[i := ...]` and `x[j]` are both legal.
            let fits =
                axis.filter(|&a| self.solved.is_none() || self.func.axes[a].extent == self.extent_of(&slot));
            axes.push(match fits {
                Some(axis) => axis,
                None => {
                    let fresh = (k..)
                        .map(|n| format!("{name}_{n}"))
                        .find(|n| !self.axis_names.contains_key(n))
                        .unwrap_or_default();
                    let axis = self.axis(&fresh, array.span);
                    drop(self.dims.equal(&Var::Axis(fresh), &slot, array.span));
                    self.func.axes[axis].extent = self.extent_of(&slot);
                    axis
                }
            });
        }
        let value = self.func.param(name, ParamKind::Input, array.dtype.unwrap_or(DType::F32), &axes);
        if let Some(array) = self.arrays.get_mut(name) {
            array.value = Some(value);
        }
        value
    }

    fn parameters(&mut self, inputs: &[(String, Vec<Option<String>>)]) {
        for (name, axes) in inputs {
            if !self.arrays.contains_key(name) {
                self.arrays.insert(name.clone(), Array::default());
                // Extents were checked in the first pass.
                drop(self.give_dims(name, Span::default()));
            }
            if let Some(array) = self.arrays.get_mut(name) {
                array.axes = axes.clone();
                array.rank = Some(axes.len());
            }
            self.parameter(name);
        }
    }

    // Statements.

    fn statements(
        &mut self,
        stmts: &'a [Stmt],
        needed: &HashSet<String>,
        only_needed: bool,
    ) -> Result<(), Diagnostic> {
        let later: HashMap<&str, Span> =
            definitions(stmts).map(|d| (d.name.text.as_str(), d.name.span)).collect();
        for d in definitions(stmts) {
            let is_needed = needed.contains(&d.name.text);
            if only_needed && !is_needed {
                continue;
            }
            self.counting_inputs = is_needed;
            self.check_order(d, &later)?;
            self.define(d)?;
        }
        Ok(())
    }

    /// Arrays are defined before they are used; without this check a use would silently become an input.
    fn check_order(&self, d: &Definition, later: &HashMap<&str, Span>) -> Result<(), Diagnostic> {
        let mut early: Option<String> = None;
        mentioned(&d.body, &mut |n| {
            let known = self.arrays.get(n).is_some_and(|a| a.defined);
            let axis = d.axes.iter().any(|a| a.text == n) || self.axis_names.contains_key(n);
            if later.contains_key(n) && !known && !axis && !self.functions.contains_key(n) {
                early.get_or_insert_with(|| n.to_owned());
            }
        });
        match early {
            None => Ok(()),
            Some(n) if n == d.name.text => {
                Err(Diagnostic::new(d.name.span, format!("`{n}` is defined by itself")))
            }
            Some(n) => Err(Diagnostic::new(d.name.span, format!("`{n}` is used before it is defined"))
                .with_label(later.get(n.as_str()).copied().unwrap_or_default(), "defined here")),
        }
    }

    fn define(&mut self, d: &Definition) -> Result<(), Diagnostic> {
        let name = &d.name.text;
        let before = self.arrays.get(name).cloned();
        if let Some(a) = &before {
            if a.defined {
                return Err(Diagnostic::new(d.name.span, format!("`{name}` is defined twice"))
                    .with_label(a.span, "first here"));
            }
            if let Some(rank) = a.rank.filter(|&r| r != d.axes.len()) {
                let message =
                    format!("`{name}` is declared with {rank} axes, but defined with {}", d.axes.len());
                return Err(Diagnostic::new(d.name.span, message).with_label(a.span, "declared here"));
            }
        }
        let mut frame = Frame::default();
        let mut axes = Vec::with_capacity(d.axes.len());
        for (k, a) in d.axes.iter().enumerate() {
            let axis = self.axis(&a.text, a.span);
            if axes.contains(&axis) {
                return Err(Diagnostic::new(a.span, format!("axis `{}` is named twice", a.text)));
            }
            axes.push(axis);
            frame.binders.push((a.text.clone(), axis));
            self.dims.equal(&Var::Axis(a.text.clone()), &Var::Slot(name.clone(), k), a.span)?;
        }
        self.frames = vec![frame];
        let term = self.expr(&d.body)?;
        self.frames.clear();
        if let Some(&free) = term.ex.free_axes().iter().find(|a| !axes.contains(a)) {
            let free = &self.func.axes[free].name;
            let message = format!("axis `{free}` is free on the right of `{name}`, but not on its left");
            return Err(Diagnostic::new(d.body.span, message)
                .with_help(format!("add it to the left-hand side, or reduce over it: `sum[{free}](...)`")));
        }
        let declared = before.as_ref().and_then(|a| a.dtype);
        let dtype = declared.unwrap_or(match term.ty {
            Ty::Bool => DType::Bool,
            Ty::Int => self.integer,
            Ty::Real => self.arithmetic,
        });
        let ex = match (Ty::of(dtype), term.ty) {
            (Ty::Bool, Ty::Int | Ty::Real) => term.condition(),
            (Ty::Int | Ty::Real, Ty::Bool) => term.number().ex,
            _ => term.ex,
        };
        let value = self.func.define(name, dtype, &axes, ex);
        let array = Array {
            rank: Some(axes.len()),
            axes: d.axes.iter().map(|a| Some(a.text.clone())).collect(),
            dtype: Some(dtype),
            value: Some(value),
            defined: true,
            declared: true,
            span: d.name.span,
        };
        self.arrays.insert(name.clone(), array);
        Ok(())
    }

    /// Closes the first pass: all extents are known and agree.
    fn survey(self) -> Result<Survey, Diagnostic> {
        for (name, span) in &self.axis_spans {
            if self.dims.get(&Var::Axis(name.clone())).is_none() {
                return Err(Diagnostic::new(*span, format!("the extent of axis `{name}` is not known"))
                    .with_help(format!(
                        "declare an array with it, e.g. `X: f32[{name}=8]`, or give the array"
                    )));
            }
        }
        let mut values: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for (symbol, value, what) in self.dims.symbol_values() {
            match values.get(&symbol) {
                Some((other, from)) if *other != value => {
                    let message = format!(
                        "axes do not agree: symbol `{symbol}` is {other} by {from}, but {value} by {what}"
                    );
                    return Err(Diagnostic::general(message));
                }
                _ => drop(values.insert(symbol, (value, what))),
            }
        }
        let mut symbols = IndexMap::new();
        let mut numbering: PrimaryMap<Sym, ()> = PrimaryMap::new();
        let of_axis = |a: &String| match self.dims.get(&Var::Axis(a.clone())) {
            Some(Size::Sym(s)) => Some(s),
            _ => None,
        };
        let of_axes: HashSet<String> = self.used_axes.iter().filter_map(of_axis).collect();
        let used = |s: &&String| self.used_symbols.contains(*s) || of_axes.contains(*s);
        for name in self.symbols.iter().filter(used) {
            let value = values.get(name).map(|v| v.0);
            let default = (1.min(value.unwrap_or(1)), DEFAULT_MAX.max(value.unwrap_or(0)));
            let (min, max) = self.ranges.get(name).copied().unwrap_or(default);
            if let Some(v) = value.filter(|v| !(min..=max).contains(v)) {
                let what = values.get(name).map_or("", |v| v.1.as_str());
                let message = format!("symbol `{name}` is {v} by {what}, outside its range {min}..{max}");
                return Err(Diagnostic::general(message));
            }
            symbols.insert(name.clone(), (numbering.push(()), SymData { name: name.clone(), min, max }));
        }
        let used = |n: &String| self.arrays.get(n).and_then(|a| a.dtype);
        let dtypes: Vec<DType> = self.used_inputs.iter().filter_map(used).collect();
        let declared = self.arrays.values().filter(|a| a.defined).filter_map(|a| a.dtype);
        let all: Vec<DType> = dtypes.iter().copied().chain(declared).collect();
        Ok(Survey {
            arithmetic: if all.contains(&DType::F64) { DType::F64 } else { DType::F32 },
            integer: if all.contains(&DType::I64) { DType::I64 } else { DType::I32 },
            widest: dtypes.iter().copied().filter(|d| d.is_float()).reduce(wider).unwrap_or(DType::F32),
            inputs: self
                .used_inputs
                .iter()
                .map(|n| (n.clone(), self.arrays.get(n).map_or(Vec::new(), |a| a.axes.clone())))
                .collect(),
            dims: self.dims,
            symbols,
        })
    }

    /// Closes the second pass: the module around the function.
    fn finish(self, outputs: &[String]) -> Result<Lowered, Diagnostic> {
        // The second pass always has a survey; without one there is nothing to finish.
        let Some(survey) = self.solved else { return Err(Diagnostic::general("lowering was not prepared")) };
        let mut module = Module::default();
        for (_, data) in survey.symbols.values() {
            module.symbols.push(data.clone());
        }
        let mut func = self.func;
        let mut call = Call { func: module.functions.next_key(), count: 1, args: vec![], results: vec![] };
        let params: Vec<Value> = func.params().collect();
        for p in params {
            let data = &func.values[p];
            let kind = GlobalKind::Input;
            let global = GlobalData { name: data.name.clone(), dtype: data.dtype, dims: func.dims(p), kind };
            call.args.push(Arg::Shared(module.globals.push(global)));
        }
        for name in outputs {
            let Some(value) = self.arrays.get(name).and_then(|a| a.value) else { continue };
            func.results.push(value);
            let dims = func.dims(value);
            let declared = self.declared_dtypes.get(name);
            let data = &mut func.values[value];
            // An output that was not declared is as wide as the inputs, not as wide as the arithmetic.
            if data.dtype.is_float() && declared.is_none() {
                data.dtype = survey.widest;
            }
            let global = GlobalData { name: name.clone(), dtype: data.dtype, dims, kind: GlobalKind::Temp };
            let global = module.globals.push(global);
            call.results.push(global);
            module.outputs.push(global);
        }
        module.functions.push(func);
        module.program.push(call);
        let values = survey.dims.symbol_values();
        let symbol_values = survey
            .symbols
            .iter()
            .filter_map(|(name, (sym, _))| values.iter().find(|v| v.0 == *name).map(|v| (*sym, v.1)))
            .collect();
        Ok(Lowered { module, symbol_values })
    }
}
