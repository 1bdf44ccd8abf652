//! Printing graph modules.

use std::fmt::Write;

use cranelift_entity::PrimaryMap;

use crate::graph::{Arg, Def, Function, GlobalKind, Module, Table, ValueData};
use crate::text::names::{self, Names, declared, quoted, refs};
use crate::text::print_expr::{expr, indices, number};
use crate::{Axis, AxisData, Extent, Sym, SymData, Value};

// Writing to a `String` does not fail, so the results of `write!` are not looked at in the printers.

pub(crate) fn symbols(symbols: &PrimaryMap<Sym, SymData>) -> String {
    let refs = names::symbol_refs(symbols);
    let mut out = String::new();
    for (s, data) in symbols.iter() {
        let name = declared(&data.name, &refs[s.as_u32() as usize], "s");
        let _ = writeln!(out, "symbol {name}: {}..={}", data.min, data.max);
    }
    out
}

pub(crate) fn dims(symbols: &[String], dims: &[Extent]) -> String {
    dims.iter().map(|&e| names::extent(symbols, e)).collect::<Vec<_>>().join(", ")
}

pub(crate) fn table(table: &Table) -> String {
    let list = |xs: &[f64]| xs.iter().map(|&x| number(x)).collect::<Vec<_>>().join(", ");
    match table {
        Table::Rotation { frequencies, scale } => {
            format!("table rotation({}) [{}]", number(*scale), list(frequencies))
        }
        Table::Values(values) => format!("table values [{}]", list(values)),
    }
}

pub(crate) fn module(module: &Module) -> String {
    let syms = names::symbol_refs(&module.symbols);
    let mut out = symbols(&module.symbols);
    let globals = refs(module.globals.values().map(|g| g.name.as_str()), "g");
    let global =
        |g: crate::Global| globals.get(g.as_u32() as usize).cloned().unwrap_or_else(|| g.to_string());
    if !out.is_empty() && !module.globals.is_empty() {
        out.push('\n');
    }
    for (g, data) in module.globals.iter() {
        let kind = match &data.kind {
            GlobalKind::Input => "input".to_owned(),
            GlobalKind::Weight(name) => format!("weight {}", quoted(name)),
            GlobalKind::Table(t) => table(t),
            GlobalKind::State => "state".to_owned(),
            GlobalKind::Temp => "temp".to_owned(),
        };
        let name = declared(&data.name, &global(g), "g");
        let _ = writeln!(out, "global {name}: {}[{}] {kind}", data.dtype, dims(&syms, &data.dims));
    }
    let functions = refs(module.functions.values().map(|f| f.name.as_str()), "fn");
    for (f, data) in module.functions.iter() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&function(data, &syms, Some(&functions[f.as_u32() as usize])));
    }
    let ends = module.program.is_empty() && module.outputs.is_empty();
    if !out.is_empty() && !ends {
        out.push('\n');
    }
    for call in &module.program {
        let f = call.func.as_u32() as usize;
        let name = match functions.get(f) {
            Some(name) if *name == module.functions[call.func].name => format!("@{name}"),
            _ => call.func.to_string(),
        };
        let args: Vec<String> = call
            .args
            .iter()
            .map(|arg| match arg {
                Arg::Shared(g) => global(*g),
                Arg::PerIteration(gs) => {
                    format!("[{}]", gs.iter().map(|&g| global(g)).collect::<Vec<_>>().join(", "))
                }
                Arg::Carried(g, r) => format!("carry({}, {r})", global(*g)),
            })
            .collect();
        let results: Vec<String> = call.results.iter().map(|&g| global(g)).collect();
        let times = if call.count == 1 { String::new() } else { format!(" times {}", call.count) };
        let _ = writeln!(out, "call {name}({}){times} -> ({})", args.join(", "), results.join(", "));
    }
    for &g in &module.outputs {
        let _ = writeln!(out, "output {}", global(g));
    }
    out
}

/// A function of a module; without a reference, it goes by its own name.
pub(crate) fn function(f: &Function, symbols: &[String], reference: Option<&str>) -> String {
    let names = Names {
        axes: names::axis_refs(&f.axes),
        values: names::value_refs(&f.values),
        symbols: symbols.to_vec(),
    };
    let name = declared_name(&f.name, reference);
    let mut out = String::new();
    let leading = header(&mut out, "graph", &name, &f.axes, &f.values, &names);
    for (key, value) in &f.options {
        let _ = writeln!(out, "    option {} = {}", quoted(key), quoted(value));
    }
    for (v, data) in f.values.iter().skip(leading) {
        definition(&mut out, v, data, &names);
    }
    returns(&mut out, &f.results, &names);
    out.push_str("}\n");
    out
}

/// The name of a function, plan or program after `@`.
pub(crate) fn declared_name(name: &str, reference: Option<&str>) -> String {
    let plain =
        names::simple(name) && !names::looks_numbered(name, "fn") && reference.is_none_or(|r| r == name);
    if plain { name.to_owned() } else { quoted(name) }
}

/// The opening of a function or plan up to the declaration of its axes; gives how many values are parameters there.
pub(crate) fn header(
    out: &mut String,
    keyword: &str,
    name: &str,
    axes: &PrimaryMap<Axis, AxisData>,
    values: &PrimaryMap<Value, ValueData>,
    names: &Names,
) -> usize {
    let leading = values.values().take_while(|d| matches!(d.def, Def::Param(_))).count();
    let declare = |a: Axis| {
        let data = &axes[a];
        format!("{}={}", declared(&data.name, &names.axis(a), "ax"), names.extent(data.extent))
    };
    // Axes are declared where they are first named if that gives them their numbers.
    let mut order: Vec<Axis> = Vec::new();
    for data in values.values().take(leading) {
        for &a in &data.axes {
            if !order.contains(&a) {
                order.push(a);
            }
        }
    }
    let inline = order.iter().enumerate().all(|(n, a)| a.as_u32() as usize == n && axes.is_valid(*a));
    let table: Vec<String> = axes.keys().filter(|a| !inline || !order.contains(a)).map(declare).collect();
    let _ = write!(out, "{keyword} @{name}");
    if !inline && !table.is_empty() {
        let _ = write!(out, " [{}]", table.join(", "));
    }
    out.push('(');
    let mut seen: Vec<Axis> = Vec::new();
    for (i, (v, data)) in values.iter().take(leading).enumerate() {
        let Def::Param(kind) = data.def else { continue };
        let list: Vec<String> = data
            .axes
            .iter()
            .map(|&a| {
                let first = inline && !seen.contains(&a);
                seen.push(a);
                if first { declare(a) } else { names.axis(a) }
            })
            .collect();
        out.push_str(if leading > 3 { "\n    " } else { "" });
        let _ = write!(
            out,
            "{}: {}[{}] {}",
            value_name(v, data, names),
            data.dtype,
            list.join(", "),
            kind.name()
        );
        out.push_str(match (i + 1 == leading, leading > 3) {
            (false, true) => ",",
            (false, false) => ", ",
            (true, true) => "\n",
            (true, false) => "",
        });
    }
    out.push_str(") {\n");
    if inline && !table.is_empty() {
        let _ = writeln!(out, "    axes {}", table.join(", "));
    }
    leading
}

fn value_name(v: Value, data: &ValueData, names: &Names) -> String {
    let reference = names.value(v);
    if data.name.is_empty() || (data.name == reference && !names::looks_numbered(&data.name, "v")) {
        reference
    } else {
        format!("{v} {}", quoted(&data.name))
    }
}

/// A value that is no leading parameter.
pub(crate) fn definition(out: &mut String, v: Value, data: &ValueData, names: &Names) {
    let _ = write!(out, "    {}[{}]: {} = ", value_name(v, data, names), names.axes(&data.axes), data.dtype);
    let _ = match &data.def {
        Def::Param(kind) => writeln!(out, "param {}", kind.name()),
        Def::Equation(e) => writeln!(out, "{}", expr(e, names)),
        Def::Update { of, domain, index, value } => writeln!(
            out,
            "update {} over [{}] at [{}] with {}",
            names.value(*of),
            names.axes(domain),
            indices(index, names),
            expr(value, names)
        ),
    };
}

pub(crate) fn returns(out: &mut String, results: &[Value], names: &Names) {
    if !results.is_empty() {
        let list: Vec<String> = results.iter().map(|&v| names.value(v)).collect();
        let _ = writeln!(out, "    return {}", list.join(", "));
    }
}
