//! Printing tile programs.

use std::fmt::Write;

use cranelift_entity::PrimaryMap;

use crate::text::names::{self, Names, declared, packed, quoted, refs};
use crate::text::print_expr::{expr, indices, number};
use crate::text::print_graph::{declared_name, dims};
use crate::tile::{AxisBit, Copier, DotKind, Op, Pad, Place, Ring, Role, TileProgram};
use crate::{Sym, SymData};

pub(crate) fn program(p: &TileProgram, symbols: &PrimaryMap<Sym, SymData>) -> String {
    let names = Names {
        axes: refs(p.axes.values().map(|a| a.name.as_str()), "ax"),
        values: Vec::new(),
        symbols: names::symbol_refs(symbols),
    };
    let mut out = format!("tile @{} warps {} {{\n", declared_name(&p.name, None), p.warps);
    for (a, data) in p.axes.iter() {
        let role = match data.role {
            Role::Grid => "grid",
            Role::Loop => "loop",
            Role::Resident => "resident",
        };
        let name = declared(&data.name, &names.axis(a), "ax");
        let runs = data.runs.map_or(String::new(), |a| format!(" runs {}", names.axis(a)));
        let _ =
            writeln!(out, "    axis {name}={} block {} {role}{runs}", names.extent(data.extent), data.block);
    }
    for (b, data) in p.params.iter() {
        let name = if names::simple(&data.name) { data.name.clone() } else { quoted(&data.name) };
        let area = data.area.map_or(String::new(), |n| format!(" area {n}"));
        let written = match (data.written, data.constant) {
            (true, _) => " written",
            (false, true) => " constant",
            (false, false) => "",
        };
        let _ = writeln!(
            out,
            "    buffer {b} {name}: {}[{}]{written}{}{area}",
            data.dtype,
            dims(&names.symbols, &data.dims),
            packed(data.packing.as_ref())
        );
    }
    for (t, data) in p.tiles.iter() {
        let _ = write!(out, "    {t}[{}]: {}", names.axes(&data.axes), data.dtype);
        let bit = |b: &AxisBit| format!("{}:{}", names.axis(b.axis), b.bit);
        let bits = |list: &[Option<AxisBit>]| {
            list.iter().map(|b| b.as_ref().map_or("_".to_owned(), bit)).collect::<Vec<_>>().join(" ")
        };
        match &data.place {
            Place::Unassigned => {}
            Place::Registers(l) => {
                let regs = l.regs.iter().map(bit).collect::<Vec<_>>().join(" ");
                let _ = write!(out, " in registers [{regs}] [{}] [{}]", bits(&l.lanes), bits(&l.warps));
            }
            Place::Shared { order, pads } => {
                let _ = write!(out, " in shared [{}]", names.axes(order));
                for Pad { every, by } in pads {
                    let _ = write!(out, " pad {by} every {every}");
                }
            }
        }
        if let Some(Ring { stages, span, copier }) = data.ring {
            let how = match copier {
                Copier::Threads => "by threads".to_owned(),
                Copier::Bulk { pad } => format!("in bulk pad {pad}"),
            };
            let of = if span == 1 { String::new() } else { format!("of {span} ") };
            let _ = write!(out, " through {stages} stages {of}{how}");
        }
        out.push('\n');
    }
    ops(&mut out, &p.body, &names, 1);
    out.push_str("}\n");
    out
}

fn ops(out: &mut String, body: &[Op], names: &Names, depth: usize) {
    for op in body {
        out.push_str(&"    ".repeat(depth));
        let masked = |mask: &Option<crate::Ex>| {
            mask.as_ref().map_or(String::new(), |m| format!(" if {}", expr(m, names)))
        };
        let _ = match op {
            Op::Load { out: o, param, index, mask, fill } => {
                let _ = write!(out, "{o} = load {param}[{}]{}", indices(index, names), masked(mask));
                if mask.is_some() || fill.to_bits() != 0 {
                    let _ = write!(out, " else {}", number(*fill));
                }
                writeln!(out)
            }
            Op::Store { param, index, mask, value } => {
                writeln!(out, "store {param}[{}] = {value}{}", indices(index, names), masked(mask))
            }
            Op::Map { out: o, expr: e } => writeln!(out, "{o} = {}", expr(e, names)),
            Op::Reduce { out: o, op, axes, src } => {
                writeln!(out, "{o} = reduce {}[{}] {src}", op.name(), names.axes(axes))
            }
            Op::Dot { out: o, a, b, acc, over, kind } => {
                let kind = match kind {
                    DotKind::Mma(t) => format!("mma({t})"),
                    DotKind::Vectors(t) => format!("mma({t}) vectors"),
                    DotKind::Fma => "fma".to_owned(),
                };
                let _ = write!(out, "{o} = dot {kind} {a} {b} over [{}]", names.axes(over));
                match acc {
                    Some(acc) => writeln!(out, " + {acc}"),
                    None => writeln!(out),
                }
            }
            Op::Convert { out: o, src } => writeln!(out, "{o} = convert {src}"),
            Op::Loop { axis, range, carried, body } => {
                let _ = write!(out, "loop {}", names.axis(*axis));
                for (word, bound) in [("from", &range.from), ("to", &range.to)] {
                    let _ = bound.as_ref().map_or(Ok(()), |e| write!(out, " {word} {}", expr(e, names)));
                }
                if !carried.is_empty() {
                    let list: Vec<String> = carried
                        .iter()
                        .map(|c| format!("{} -> {} -> {} -> {}", c.initial, c.inside, c.next, c.after))
                        .collect();
                    let _ = write!(out, " carry [{}]", list.join(", "));
                }
                out.push_str(" {\n");
                ops(out, body, names, depth + 1);
                out.push_str(&"    ".repeat(depth));
                writeln!(out, "}}")
            }
        };
    }
}
