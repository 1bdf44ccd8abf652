//! Subterms up to the names of their axes.
//!
//! `h[i, c]` and `h[i, n]` over axes of one extent are the same tensor read twice. The canonical form numbers free axes
//! in order of first occurrence and bound axes by depth; equal forms are equal tensors.

use std::fmt::Write;

use cranelift_entity::PrimaryMap;
use egg::Language;
use tilewright_ir::{Axis, AxisData};

use crate::algebra::dag::child;
use crate::algebra::{Dag, NodeId, Part, Term};

/// A canonical form: the text, and the free axes in order of first occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canon {
    /// Equal for equal tensors.
    pub key: String,
    /// The free axes; axis `n` of one term corresponds to axis `n` of an equal one.
    pub free: Vec<Axis>,
}

/// The canonical form of a subterm.
pub fn canon(dag: &Dag, axes: &PrimaryMap<Axis, AxisData>, node: NodeId) -> Canon {
    let mut c = Canon { key: String::new(), free: Vec::new() };
    let mut bound = Vec::new();
    write_node(dag, axes, node, &mut bound, &mut c);
    c
}

fn write_axis(axes: &PrimaryMap<Axis, AxisData>, a: Axis, bound: &[Axis], c: &mut Canon) {
    // Writing to a string cannot fail.
    if let Some(depth) = bound.iter().rposition(|&b| b == a) {
        let _ = write!(c.key, "^{depth}");
        return;
    }
    let n = c.free.iter().position(|&f| f == a).unwrap_or_else(|| {
        c.free.push(a);
        c.free.len() - 1
    });
    let _ = write!(c.key, "${n}:{:?}", axes[a].extent);
}

fn write_node(
    dag: &Dag,
    axes: &PrimaryMap<Axis, AxisData>,
    node: NodeId,
    bound: &mut Vec<Axis>,
    c: &mut Canon,
) {
    let term = &dag.nodes[node].term;
    let mut pushed = 0;
    match term {
        Term::Pos(a) | Term::CutPos(a) => {
            c.key.push('p');
            write_axis(axes, *a, bound, c);
        }
        Term::Reduce(op, parts, _) => {
            let _ = write!(c.key, "{}[", op.name());
            for p in parts.iter() {
                if p.part == Part::Inner {
                    c.key.push('i');
                    write_axis(axes, p.axis, bound, c);
                } else {
                    bound.push(p.axis);
                    pushed += 1;
                    let _ = write!(c.key, "{:?}{:?},", p.part, axes[p.axis].extent);
                }
            }
            c.key.push(']');
        }
        Term::Fold(a, op, _) => {
            bound.push(*a);
            pushed += 1;
            let _ = write!(c.key, "fold{}{:?}", op.name(), axes[*a].extent);
        }
        _ => {
            let _ = write!(c.key, "{term}");
        }
    }
    c.key.push('(');
    for &x in term.children() {
        write_node(dag, axes, child(x), bound, c);
        c.key.push(',');
    }
    c.key.push(')');
    bound.truncate(bound.len() - pushed);
}
