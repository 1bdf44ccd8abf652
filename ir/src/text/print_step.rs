//! Printing steps.

use std::fmt::Write;

use crate::step::{BufferKind, Step};
use crate::text::names::{self, declared, packed, quoted, refs};
use crate::text::print_graph::{dims, symbols, table};

pub(crate) fn step(s: &Step) -> String {
    let syms = names::symbol_refs(&s.symbols);
    let buffers = refs(s.buffers.values().map(|b| b.name.as_str()), "b");
    let buffer =
        |b: crate::Buffer| buffers.get(b.as_u32() as usize).cloned().unwrap_or_else(|| b.to_string());
    let mut out = symbols(&s.symbols);
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "step arena {} {{", s.arena_bytes);
    for (b, data) in s.buffers.iter() {
        let kind = match &data.kind {
            BufferKind::Input => "input".to_owned(),
            BufferKind::Output => "output".to_owned(),
            BufferKind::Weight(name) => format!("weight {}", quoted(name)),
            BufferKind::Table(t) => table(t),
            BufferKind::State => "state".to_owned(),
            BufferKind::Arena(at) => format!("arena {at}"),
        };
        let name = declared(&data.name, &buffer(b), "b");
        let packing = packed(data.packing.as_ref());
        let _ =
            writeln!(out, "    buffer {name}: {}[{}] {kind}{packing}", data.dtype, dims(&syms, &data.dims));
    }
    for launch in &s.launches {
        let args: Vec<String> = launch
            .args
            .iter()
            .enumerate()
            .map(|(i, &b)| {
                let written = launch.writes.get(i).copied().unwrap_or(false);
                format!("{}{}", buffer(b), if written { " written" } else { "" })
            })
            .collect();
        let grid: Vec<String> =
            launch.grid.iter().map(|g| format!("{}/{}", names::extent(&syms, g.extent), g.block)).collect();
        let _ = writeln!(
            out,
            "    launch {} in {} ({}) over [{}]{}",
            quoted(&launch.kernel),
            quoted(&launch.region),
            args.join(", "),
            grid.join(", "),
            if launch.beside { " beside" } else { "" }
        );
    }
    out.push_str("}\n");
    out
}
