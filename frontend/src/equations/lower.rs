//! Statements to a module.
//!
//! Why here: arrays, symbols and extents belong to the whole text. It is lowered twice by the same code: the first time
//! to collect which inputs are used and which extents must agree, the second time with all extents known, the inputs
//! as parameters in front, and only the statements that the outputs need.
//!
//! Post: a module with one function and one call. Everything that is wrong with names, axes and types is a diagnostic.

use std::collections::{BTreeMap, HashMap, HashSet};

use cranelift_entity::PrimaryMap;
use indexmap::IndexMap;
use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::graph::{Arg, Call, Def, GlobalData, GlobalKind, Module, ParamKind};
use tilewright_ir::{DType, Sym, SymData, Value};

use super::Given;
use super::ast::{Definition, Kind, Name, Node, Size, Stmt};
use super::dims::{Dims, Var};
use super::expr::{Frame, Ty};
use super::scope::{Array, Lowerer};

/// The largest value of a symbol that has no declared range.
const DEFAULT_MAX: u64 = 4096;

/// What the first pass found out.
pub(super) struct Survey {
    pub(super) dims: Dims,
    pub(super) symbols: IndexMap<String, (Sym, SymData)>,
    /// The inputs in use, with the names of their axes.
    pub(super) inputs: Vec<(String, Vec<Option<String>>)>,
    pub(super) arithmetic: DType,
    pub(super) integer: DType,
    pub(super) widest: DType,
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

pub(super) fn definitions(stmts: &[Stmt]) -> impl Iterator<Item = &Definition> {
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
    fn statements(
        &mut self,
        stmts: &'a [Stmt],
        needed: &HashSet<String>,
        only_needed: bool,
    ) -> Result<(), Diagnostic> {
        for d in definitions(stmts) {
            let is_needed = needed.contains(&d.name.text);
            if only_needed && !is_needed {
                continue;
            }
            self.counting_inputs = is_needed;
            self.define(d)?;
        }
        Ok(())
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
            constant: false,
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
            let kind = match data.def {
                Def::Param(ParamKind::Weight) => GlobalKind::Weight(data.name.clone()),
                _ => GlobalKind::Input,
            };
            if kind != GlobalKind::Input && func.dims(p).iter().any(|d| d.as_const().is_none()) {
                let span = self.arrays.get(&data.name).map_or_else(Span::default, |a| a.span);
                let message = format!("`{}` is `const`, so its extents must be numbers", data.name);
                return Err(Diagnostic::new(span, message));
            }
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
