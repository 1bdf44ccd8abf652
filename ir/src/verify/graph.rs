//! Invariants of graph modules.
//!
//! * `G1` symbols, globals and functions have names that are unique in the module, axes in their function; values have
//!   unique names or none. Ranges of symbols are not empty.
//! * `G2` everything that is referred to exists.
//! * `G3` parameters come first; definitions use earlier values only.
//! * `G4` the axes of a value are different, and the free axes of its equation are among them.
//! * `G5` the expressions satisfy the invariants of expressions.
//! * `G6` states are linear: an update consumes a state or an update, each is consumed at most once, and nothing uses it
//!   afterwards.
//! * `G7` an update has the type and axes of its state, one integer index per axis, and its expressions run over its
//!   domain.
//! * `G8` a call runs at least once, has one argument per parameter and one destination per result; lists have one
//!   entry per iteration; what is carried is a result.
//! * `G9` types and extents of arguments and destinations are those of the function.
//! * `G10` constants go to weight parameters, states to state parameters (and no state to two of them); destinations are
//!   temporaries.
//! * `G11` temporaries are made before they are used; outputs are made.
//! * `G12` tables have as many elements as their extents say.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;

use crate::eval::Sort;
use crate::graph::{Arg, Call, Def, Function, GlobalData, GlobalKind, Module, ParamKind, Table, ValueData};
use crate::verify::expr::{self, Leaf, Scope, no_leaf};
use crate::verify::{Report, Violation, distinct, extent_exists, symbols, unique};
use crate::{Axis, AxisData, DType, Ex, Expr, Extent, Global, Sym, SymData, Value};

type Symbols = PrimaryMap<Sym, SymData>;

/// Verifies a module.
pub fn verify_module(m: &Module) -> Result<(), Vec<Violation>> {
    let mut r = Report::default();
    symbols(&mut r, "G1", &m.symbols);
    unique(&mut r, "G1", "globals", "the globals", m.globals.values().map(|g| g.name.as_str()));
    unique(&mut r, "G1", "functions", "the functions", m.functions.values().map(|f| f.name.as_str()));
    for g in m.globals.values() {
        for &e in &g.dims {
            r.check(extent_exists(e, &m.symbols), "G2", &g.name, || format!("there is no symbol {e:?}"));
        }
        if let GlobalKind::Table(t) = &g.kind {
            table(&mut r, "G12", &g.name, t, &g.dims);
        }
    }
    for f in m.functions.values() {
        function(&mut r, f, &m.symbols);
    }
    let mut made: BTreeSet<Global> =
        m.globals.iter().filter(|(_, g)| g.kind != GlobalKind::Temp).map(|(g, _)| g).collect();
    for (n, c) in m.program.iter().enumerate() {
        call(&mut r, m, n, c, &mut made);
    }
    for &g in &m.outputs {
        if r.check(m.globals.is_valid(g), "G2", "outputs", || format!("there is no global {g}")) {
            let name = &m.globals[g].name;
            r.check(made.contains(&g), "G11", "outputs", || format!("`{name}` is never made"));
        }
    }
    r.finish()
}

/// Verifies a function of a module with the given symbols.
pub fn verify_function(f: &Function, symbols: &Symbols) -> Result<(), Vec<Violation>> {
    let mut r = Report::default();
    function(&mut r, f, symbols);
    r.finish()
}

/// Whether a table has the elements that its extents say.
pub(crate) fn table(r: &mut Report, rule: &'static str, at: &str, t: &Table, dims: &[Extent]) {
    match t {
        Table::Values(values) => {
            let count = dims.iter().try_fold(1u64, |n, e| n.checked_mul(e.as_const()?));
            r.check(count == Some(values.len() as u64), rule, at, || {
                format!("a table of {} values does not fill its extents", values.len())
            });
        }
        Table::Rotation { frequencies, .. } => {
            let pairs = Extent::Const(frequencies.len() as u64);
            let two = Extent::Const(2);
            r.check(matches!(dims, [_, p, a, b] if *p == pairs && *a == two && *b == two), rule, at, || {
                format!("a rotation table has the extents [positions, {}, 2, 2]", frequencies.len())
            });
        }
    }
}

fn function(r: &mut Report, f: &Function, symbols: &Symbols) {
    let at = format!("@{}", f.name);
    body(r, &at, &f.axes, &f.values, f.values.len(), symbols);
    for &v in &f.results {
        r.check(f.values.is_valid(v), "G2", &at, || format!("there is no value {v} to return"));
        let consumed = f.values.values().any(|d| matches!(d.def, Def::Update { of, .. } if of == v));
        r.check(!consumed, "G6", &at, || format!("{v} is returned after an update took it over"));
    }
}

/// How a value is spoken of.
pub(crate) fn value_at(at: &str, v: Value, data: &ValueData) -> String {
    if data.name.is_empty() { format!("{at}: {v}") } else { format!("{at}: {v} `{}`", data.name) }
}

/// Checks axes and the first `own` values, as functions and plans have them.
pub(crate) fn body(
    r: &mut Report,
    at: &str,
    axes: &PrimaryMap<Axis, AxisData>,
    values: &PrimaryMap<Value, ValueData>,
    own: usize,
    symbols: &Symbols,
) {
    unique(r, "G1", at, "the axes", axes.values().map(|a| a.name.as_str()));
    let names = values.values().map(|v| v.name.as_str()).filter(|n| !n.is_empty());
    unique(r, "G1", at, "the values", names);
    for a in axes.values() {
        let exists = extent_exists(a.extent, symbols);
        r.check(exists, "G2", at, || format!("axis `{}` has a symbol that does not exist", a.name));
    }
    let mut defined = false;
    // The values that an update took over, and by which.
    let mut consumed: BTreeMap<Value, Value> = BTreeMap::new();
    for (v, data) in values.iter().take(own) {
        let at = value_at(at, v, data);
        for &a in &data.axes {
            r.check(axes.is_valid(a), "G2", &at, || format!("there is no axis {a}"));
        }
        r.check(distinct(&data.axes), "G4", &at, || "an axis occurs twice".to_owned());
        let value = |u: Value| -> Result<Leaf, String> {
            match values.get(u) {
                Some(d) if u < v => Ok(Leaf { axes: d.axes.clone(), sort: Sort::of(d.dtype) }),
                Some(_) => Err(format!("{u} is used before it is defined")),
                None => Err(format!("there is no value {u}")),
            }
        };
        let scope = Scope {
            symbols,
            axis_exists: &|a| axes.is_valid(a),
            value: &value,
            local: &no_leaf("locals", "graphs"),
            tile: &no_leaf("tiles", "graphs"),
            reductions: true,
        };
        let mut used: BTreeSet<Value> = BTreeSet::new();
        match &data.def {
            Def::Param(_) => {
                r.check(!defined, "G3", &at, || "a parameter comes after a definition".to_owned());
            }
            Def::Equation(e) => {
                defined = true;
                reads(e, &mut used);
                let info = expr::check(r, &at, e, &scope);
                for a in info.free.iter().filter(|a| !data.axes.contains(a)) {
                    let name = axes.get(*a).map_or_else(|| a.to_string(), |d| d.name.clone());
                    r.add(
                        "G4",
                        &at,
                        format!("axis `{name}` is free in the equation and no axis of the value"),
                    );
                }
            }
            Def::Update { of, domain, index, value: written } => {
                defined = true;
                let old = values.get(*of).filter(|_| *of < v);
                let Some(old) = old else {
                    r.add("G3", &at, format!("the state {of} is not defined before its update"));
                    continue;
                };
                let state = matches!(old.def, Def::Param(ParamKind::State) | Def::Update { .. });
                r.check(state, "G6", &at, || format!("{of} is no state"));
                r.check(!consumed.contains_key(of), "G6", &at, || format!("{of} was taken over before"));
                r.check(old.dtype == data.dtype && old.axes == data.axes, "G7", &at, || {
                    format!("an update has the type and axes of its state {of}")
                });
                r.check(index.len() == data.axes.len(), "G7", &at, || {
                    format!("{} indices for {} axes", index.len(), data.axes.len())
                });
                for &a in domain {
                    r.check(axes.is_valid(a), "G2", &at, || format!("there is no axis {a}"));
                }
                r.check(distinct(domain), "G7", &at, || "an axis occurs twice in the domain".to_owned());
                for (n, e) in index.iter().chain([written]).enumerate() {
                    reads(e, &mut used);
                    let info = expr::check(r, &at, e, &scope);
                    r.check(info.free.iter().all(|a| domain.contains(a)), "G7", &at, || {
                        "an axis outside of the domain is free in an update".to_owned()
                    });
                    r.check(n == index.len() || info.is_integer(), "G7", &at, || {
                        format!("index {n} of an update is no integer expression")
                    });
                }
            }
        }
        for u in used {
            if let Some(by) = consumed.get(&u) {
                r.add("G6", &at, format!("{u} is used after its update {by} took it over"));
            }
        }
        if let Def::Update { of, .. } = data.def {
            consumed.insert(of, v);
        }
    }
}

/// The values that an expression reads.
pub(crate) fn reads(e: &Ex, out: &mut BTreeSet<Value>) {
    let mut seen: BTreeSet<*const Expr> = BTreeSet::new();
    let mut stack = vec![e];
    while let Some(e) = stack.pop() {
        if seen.insert(std::sync::Arc::as_ptr(e)) {
            if let Expr::Read(v, _) = &**e {
                out.insert(*v);
            }
            stack.extend(e.children());
        }
    }
}

fn call(r: &mut Report, m: &Module, n: usize, c: &Call, made: &mut BTreeSet<Global>) {
    let Some(f) = m.functions.get(c.func) else {
        r.add("G2", &format!("call {n}"), format!("there is no function {}", c.func));
        return;
    };
    let at = format!("call {n} of @{}", f.name);
    r.check(c.count > 0, "G8", &at, || "it runs no times".to_owned());
    let params: Vec<Value> = f.params().collect();
    r.check(params.len() == c.args.len(), "G8", &at, || {
        format!("{} arguments for {} parameters", c.args.len(), params.len())
    });
    r.check(f.results.len() == c.results.len(), "G8", &at, || {
        format!("{} destinations for {} results", c.results.len(), f.results.len())
    });
    let shape = |v: Value| (f.values[v].dtype, f.dims(v));
    let mut states: BTreeSet<Global> = BTreeSet::new();
    for (&p, arg) in params.iter().zip(&c.args) {
        let Def::Param(kind) = f.values[p].def else { continue };
        let at = value_at(&at, p, &f.values[p]);
        let globals: Vec<Global> = match arg {
            Arg::Shared(g) => vec![*g],
            Arg::PerIteration(gs) => {
                r.check(gs.len() == c.count as usize, "G8", &at, || {
                    format!("{} tensors for {} iterations", gs.len(), c.count)
                });
                gs.clone()
            }
            Arg::Carried(g, result) => {
                match f.results.get(*result) {
                    Some(&v) if f.values.is_valid(v) => {
                        r.check(shape(v) == shape(p), "G9", &at, || {
                            format!("the carried result {result} has another type or other extents")
                        });
                    }
                    _ => r.add("G8", &at, format!("there is no result {result} to carry")),
                }
                r.check(kind == ParamKind::Input, "G10", &at, || {
                    "what is carried changes, and goes to an input".to_owned()
                });
                vec![*g]
            }
        };
        let mut seen_here = BTreeSet::new();
        for g in globals {
            let Some(data) = m.globals.get(g) else {
                r.add("G2", &at, format!("there is no global {g}"));
                continue;
            };
            same_shape(r, &at, data, shape(p));
            r.check(made.contains(&g), "G11", &at, || format!("`{}` is used before it is made", data.name));
            let constant = matches!(data.kind, GlobalKind::Weight(_) | GlobalKind::Table(_));
            match kind {
                ParamKind::Weight => {
                    r.check(constant, "G10", &at, || format!("`{}` is no constant", data.name));
                }
                ParamKind::State => {
                    r.check(data.kind == GlobalKind::State, "G10", &at, || {
                        format!("`{}` is no state", data.name)
                    });
                }
                ParamKind::Input => {}
            }
            if data.kind == GlobalKind::State && seen_here.insert(g) {
                r.check(states.insert(g), "G10", &at, || {
                    format!("the state `{}` is passed to two parameters", data.name)
                });
            }
        }
    }
    for (&v, &g) in f.results.iter().zip(&c.results) {
        let Some(data) = m.globals.get(g) else {
            r.add("G2", &at, format!("there is no global {g}"));
            continue;
        };
        if f.values.is_valid(v) {
            same_shape(r, &at, data, shape(v));
        }
        r.check(data.kind == GlobalKind::Temp, "G10", &at, || {
            format!("`{}` is written and no temporary", data.name)
        });
        made.insert(g);
    }
    r.check(distinct(&c.results), "G10", &at, || "two results go to one global".to_owned());
}

fn same_shape(r: &mut Report, at: &str, g: &GlobalData, (dtype, dims): (DType, Vec<Extent>)) {
    r.check(g.dtype == dtype, "G9", at, || {
        format!("`{}` is {} where the function has {dtype}", g.name, g.dtype)
    });
    r.check(g.dims == dims, "G9", at, || {
        let (found, wanted) = (extents(&g.dims), extents(&dims));
        format!("`{}` has the extents {found} where the function has {wanted}", g.name)
    });
}

/// Extents as a text has them; symbols by number, since a function does not know their names.
fn extents(dims: &[Extent]) -> String {
    let one = |e: &Extent| match e {
        Extent::Const(n) => n.to_string(),
        Extent::Sym(s) => s.to_string(),
    };
    format!("[{}]", dims.iter().map(one).collect::<Vec<_>>().join(", "))
}
