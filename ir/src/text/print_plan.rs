//! Printing plans.

use std::fmt::Write;

use cranelift_entity::PrimaryMap;

use crate::plan::{KernelPlan, LocalDef, Plan};
use crate::text::names::{self, Names, quoted};
use crate::text::print_expr::{expr, indices};
use crate::text::print_graph::{declared_name, definition, header, returns};
use crate::{Sym, SymData};

fn plan_names(plan: &Plan, symbols: &PrimaryMap<Sym, SymData>) -> Names {
    Names {
        axes: names::axis_refs(&plan.axes),
        values: names::value_refs(&plan.values),
        symbols: names::symbol_refs(symbols),
    }
}

pub(crate) fn plan(plan: &Plan, symbols: &PrimaryMap<Sym, SymData>) -> String {
    let names = plan_names(plan, symbols);
    let mut out = String::new();
    let leading =
        header(&mut out, "plan", &declared_name(&plan.name, None), &plan.axes, &plan.values, &names);
    for (v, data) in plan.values.iter().skip(leading) {
        definition(&mut out, v, data, &names);
    }
    let _ = writeln!(out, "    temps {}", plan.first_temp);
    returns(&mut out, &plan.results, &names);
    for k in &plan.kernels {
        out.push('\n');
        kernel(&mut out, k, &names);
    }
    out.push_str("}\n");
    out
}

pub(crate) fn one_kernel(plan: &Plan, k: &KernelPlan, symbols: &PrimaryMap<Sym, SymData>) -> String {
    let mut out = String::new();
    kernel(&mut out, k, &plan_names(plan, symbols));
    out
}

fn kernel(out: &mut String, k: &KernelPlan, names: &Names) {
    let beside = if k.beside { " beside" } else { "" };
    let continues = if k.continues { " continues" } else { "" };
    let prologue = if k.prologue { " prologue" } else { "" };
    let name = declared_name(&k.name, None);
    let _ =
        writeln!(out, "    kernel @{name} over [{}]{beside}{continues}{prologue} {{", names.axes(&k.grid));
    if let Some(r) = k.runs {
        let _ = writeln!(out, "        runs {} by {}", names.axis(r.axis), names.axis(r.number));
    }
    for (l, data) in k.locals.iter() {
        let _ = write!(out, "        {l}[{}] = ", names.axes(&data.axes));
        let _ = match &data.def {
            LocalDef::Map(e) => writeln!(out, "{}", expr(e, names)),
            LocalDef::Reduce { op, axes, body } => {
                writeln!(out, "reduce {}[{}] {}", op.name(), names.axes(axes), expr(body, names))
            }
            LocalDef::Block { op, axis, body } => {
                writeln!(out, "block {}[{}] {}", op.name(), names.axis(*axis), expr(body, names))
            }
            LocalDef::Running { op, axis, block } => {
                writeln!(out, "running {}[{}] {}", op.name(), names.axis(*axis), expr(block, names))
            }
            LocalDef::Fold { op, axis, block, action, tracks } => {
                let tracks: Vec<String> = tracks.iter().map(|(t, y)| format!("{t} -> {y}")).collect();
                writeln!(
                    out,
                    "fold {}[{}] {} moves {} tracks [{}]",
                    op.name(),
                    names.axis(*axis),
                    expr(block, names),
                    expr(action, names),
                    tracks.join(", ")
                )
            }
        };
    }
    for s in &k.stores {
        let _ = writeln!(
            out,
            "        store {}[{}] over [{}] = {}",
            names.value(s.value),
            indices(&s.index, names),
            names.axes(&s.axes),
            expr(&s.expr, names)
        );
    }
    for step in &k.derivation {
        let (law, before, after) = (quoted(&step.law), quoted(&step.before), quoted(&step.after));
        let _ = writeln!(out, "        law {law}: {before} => {after}");
    }
    for r in &k.refinements {
        let _ = writeln!(out, "        refine {}", quoted(r));
    }
    for b in &k.boundaries {
        let _ = writeln!(out, "        boundary {}", quoted(b));
    }
    out.push_str("    }\n");
}
