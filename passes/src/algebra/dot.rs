//! An e-graph as a drawing for Graphviz.
//!
//! One cluster per class, one node per term; edges lead from a term to the classes of its operands. Classes are numbered in
//! order, so that equal searches give equal texts. What the source says has a bold border.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cranelift_entity::PrimaryMap;
use egg::{Id, Language};
use tilewright_ir::graph::ValueData;
use tilewright_ir::{Axis, Extent, Sym, SymData, Value};

use super::ingest::Ingested;
use super::{Part, Term};

/// What things are called.
pub struct Labels<'a> {
    /// The values of the function.
    pub values: &'a PrimaryMap<Value, ValueData>,
    /// The symbols of the module.
    pub symbols: &'a PrimaryMap<Sym, SymData>,
}

/// The number of terms in an e-graph.
pub fn size(ingested: &Ingested) -> usize {
    ingested.graph.total_size()
}

/// The drawing.
pub fn dot(name: &str, ingested: &Ingested, labels: &Labels) -> String {
    let g = &ingested.graph;
    let mut source: BTreeSet<(Id, Term)> = BTreeSet::new();
    for n in 0..ingested.source_terms {
        let id = Id::from(n);
        let node = g.id_to_node(id).clone().map_children(|c| g.find(c));
        source.insert((g.find(id), node));
    }
    let mut classes: Vec<(Id, Vec<Term>)> = g.classes().map(|c| (c.id, c.nodes.clone())).collect();
    classes.sort_unstable_by_key(|(id, _)| *id);
    let number: BTreeMap<Id, usize> = classes.iter().enumerate().map(|(n, (id, _))| (*id, n)).collect();
    let roots: BTreeSet<Id> = ingested.roots.iter().map(|r| g.find(r.class)).collect();
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "digraph {} {{", quoted(name));
    out.push_str("    graph [compound=true, rankdir=TB, fontname=\"monospace\"]\n");
    out.push_str("    node [shape=box, fontname=\"monospace\", fontsize=10]\n    edge [arrowsize=0.6]\n");
    let mut edges = String::new();
    for (c, (id, nodes)) in classes.iter().enumerate() {
        let _ = writeln!(out, "    subgraph cluster_{c} {{");
        let style = if roots.contains(id) { "bold" } else { "dotted" };
        let _ = writeln!(out, "        label=\"c{c}\"; style={style};");
        let mut nodes: Vec<&Term> = nodes.iter().collect();
        nodes.sort_unstable();
        for (n, node) in nodes.into_iter().enumerate() {
            let here = node.clone().map_children(|c| g.find(c));
            let bold = if source.contains(&(*id, here)) { ", penwidth=2" } else { "" };
            let _ =
                writeln!(out, "        n{c}_{n} [label={}{bold}]", quoted(&label(node, ingested, labels)));
            for (k, child) in node.children().iter().enumerate() {
                let Some(to) = number.get(&g.find(*child)) else { continue };
                let order = if node.len() > 1 { format!(", taillabel=\"{k}\"") } else { String::new() };
                let _ = writeln!(edges, "    n{c}_{n} -> n{to}_0 [lhead=cluster_{to}{order}]");
            }
        }
        out.push_str("    }\n");
    }
    out.push_str(&edges);
    out.push_str("}\n");
    out
}

/// A term without its operands.
fn label(node: &Term, ingested: &Ingested, labels: &Labels) -> String {
    let axis = |a: Axis| ingested.axes.get(a).map_or("?", |d| d.name.as_str()).to_owned();
    match node {
        Term::Num(n) => tilewright_ir::text::number(n.0),
        Term::Pos(a) => axis(*a),
        Term::CutPos(a) => format!("{}'", axis(*a)),
        Term::Size(Extent::Sym(s)) => {
            labels.symbols.get(*s).map_or_else(|| s.to_string(), |d| d.name.clone())
        }
        Term::Size(Extent::Const(n)) => n.to_string(),
        Term::Read(v, _) => match labels.values.get(*v) {
            Some(d) if !d.name.is_empty() => format!("{}[]", d.name),
            _ => format!("{v}[]"),
        },
        Term::Reduce(op, parts, _) => {
            let axes = parts.iter().map(|p| match p.part {
                Part::Whole => axis(p.axis),
                Part::Outer => format!("{}.o", axis(p.axis)),
                Part::Inner => format!("{}.i", axis(p.axis)),
            });
            format!("{}[{}]", op.name(), axes.collect::<Vec<_>>().join(","))
        }
        Term::Part(a, _) => format!("part[{}]", axis(*a)),
        Term::Fold(a, op, _) => format!("fold {}[{}]", op.name(), axis(*a)),
        other => other.to_string(),
    }
}

/// A name or label in the syntax of Graphviz.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
