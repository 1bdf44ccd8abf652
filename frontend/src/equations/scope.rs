//! The names of one pass over the statements: arrays, symbols, axes, functions.
//!
//! Why here: declarations, given arrays and uses all add to the same tables, and both passes of [`super::lower`] and
//! the lowering of expressions ask them.
//!
//! Post: a name is one thing; what contradicts an earlier declaration is a diagnostic at the later place.

use std::collections::{HashMap, HashSet};

use indexmap::{IndexMap, IndexSet};
use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::graph::{Function, ParamKind};
use tilewright_ir::{Axis, DType, Extent, Value};

use super::Given;
use super::ast::{AxisDecl, Decl, FnDef, Name, Size, Slot, Stmt};
use super::dims::{Dims, Var};
use super::expr::Frame;
use super::library::{PRIMITIVES, closest, library};
use super::lower::{Survey, definitions};

/// An array of the text: an input, or what a statement defines.
#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    /// How many axes, once known.
    pub(super) rank: Option<usize>,
    /// The names of its axes, where they have one.
    pub(super) axes: Vec<Option<String>>,
    pub(super) dtype: Option<DType>,
    /// The value that holds it, once there is one.
    pub(super) value: Option<Value>,
    /// Whether a statement defines it.
    pub(super) defined: bool,
    /// Whether it is an input that is the same in every run.
    pub(super) constant: bool,
    /// Whether its axes were declared, so that their names are binding.
    pub(super) declared: bool,
    pub(super) span: Span,
}

/// The state of one pass.
pub(super) struct Lowerer<'a> {
    pub(super) given: &'a Given,
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
    pub(super) axis_spans: Vec<(String, Span)>,
    pub(super) ranges: IndexMap<String, (u64, u64)>,
    pub(super) symbols: IndexSet<String>,
    pub(super) used_symbols: IndexSet<String>,
    pub(super) used_axes: IndexSet<String>,
    pub(super) used_inputs: IndexSet<String>,
    pub(super) value_names: HashSet<String>,
    pub(super) declared_dtypes: HashMap<String, DType>,
    pub(super) counting_inputs: bool,
    /// Where each array is defined, by any statement.
    definitions: HashMap<String, Span>,
}

impl<'a> Lowerer<'a> {
    pub(super) fn new(
        stmts: &'a [Stmt],
        given: &'a Given,
        solved: Option<&'a Survey>,
    ) -> Result<Self, Diagnostic> {
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
            definitions: definitions(stmts).map(|d| (d.name.text.clone(), d.name.span)).collect(),
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
    pub(super) fn declare_axis(&mut self, axis: &AxisDecl, with: &str) -> Result<(), Diagnostic> {
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

    fn declare(&mut self, d: &Decl, stmts: &[Stmt]) -> Result<(), Diagnostic> {
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
        if d.constant && defined {
            let message = format!("`{name}` is `const`, which inputs can be, and is defined");
            return Err(Diagnostic::new(d.name.span, message));
        }
        let mut array = Array {
            constant: d.constant,
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

    /// A size as an extent; 0 during the first walk, which only collects extents.
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
        self.check_order(name)?;
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

    /// Arrays are defined before they are used; without this check an early use would become an input.
    pub(super) fn check_order(&self, name: &Name) -> Result<(), Diagnostic> {
        let Some(at) = self.definitions.get(&name.text) else { return Ok(()) };
        if self.arrays.get(&name.text).is_some_and(|a| a.defined) {
            return Ok(());
        }
        Err(Diagnostic::new(name.span, format!("`{}` is used before it is defined", name.text))
            .with_label(*at, "defined here"))
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
        match closest(&name.text, names.iter().map(String::as_str)) {
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
        let kind = if array.constant { ParamKind::Weight } else { ParamKind::Input };
        let value = self.func.param(name, kind, array.dtype.unwrap_or(DType::F32), &axes);
        if let Some(array) = self.arrays.get_mut(name) {
            array.value = Some(value);
        }
        value
    }

    pub(super) fn parameters(&mut self, inputs: &[(String, Vec<Option<String>>)]) {
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

    /// The extent of a dimension; 0 during the first walk, which only collects extents.
    pub(super) fn extent_of(&self, var: &Var) -> Extent {
        self.resolve(self.solved.and_then(|s| s.dims.get(var)))
    }
}
