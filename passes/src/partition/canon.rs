//! Subterms up to the names of their axes.
//!
//! `h[i, c]` and `h[i, n]` over axes of one extent are the same tensor read twice. A form is made of the term's head, the
//! forms of its children, and which axis of each child is which: bound here, or free and numbered in order of first
//! occurrence. Equal forms are equal tensors. Each node is looked at once, however often it is used.

use std::collections::HashMap;
use std::fmt::Write;

use cranelift_entity::PrimaryMap;
use egg::Language;
use tilewright_ir::{Axis, AxisData};

use crate::algebra::dag::child;
use crate::algebra::{Dag, NodeId, Part, Term};

/// The form of a subterm; equal for equal tensors of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Form(u32);

/// A subterm up to the names of its axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canon {
    /// Its form.
    pub form: Form,
    /// The free axes in order of first occurrence; axis `n` of one term corresponds to axis `n` of one of equal form.
    pub free: Vec<Axis>,
}

/// The forms of all nodes of a term.
#[derive(Debug)]
pub struct Canons(Vec<Canon>);

impl Canons {
    /// Looks at each node once, children first.
    pub fn new(dag: &Dag, axes: &PrimaryMap<Axis, AxisData>) -> Canons {
        let mut forms: HashMap<String, Form> = HashMap::new();
        let mut out = Canons(Vec::with_capacity(dag.nodes.len()));
        for n in dag.nodes.keys() {
            let (text, free) = out.describe(dag, axes, n);
            // Fewer nodes than numbers of nodes.
            let next = Form(forms.len() as u32);
            out.0.push(Canon { form: *forms.entry(text).or_insert(next), free });
        }
        out
    }

    /// What is known of a node.
    pub fn of(&self, n: NodeId) -> &Canon {
        &self.0[n.as_u32() as usize]
    }

    /// The form of a node.
    pub fn form(&self, n: NodeId) -> Form {
        self.of(n).form
    }

    fn describe(&self, dag: &Dag, axes: &PrimaryMap<Axis, AxisData>, n: NodeId) -> (String, Vec<Axis>) {
        let term = &dag.nodes[n].term;
        let mut w = Writer { axes, text: String::new(), bound: Vec::new(), free: Vec::new() };
        // Writing to a string cannot fail.
        match term {
            Term::Pos(a) | Term::CutPos(a) => {
                w.text.push('p');
                w.axis(*a);
            }
            Term::Reduce(op, parts, _) => {
                let _ = write!(w.text, "{}[", op.name());
                for p in parts.iter() {
                    if p.part == Part::Inner {
                        w.text.push('i');
                        w.axis(p.axis);
                    } else {
                        w.bound.push(p.axis);
                        let _ = write!(w.text, "{:?}{:?},", p.part, axes[p.axis].extent);
                    }
                }
                w.text.push(']');
            }
            Term::Fold(a, op, _) => {
                w.bound.push(*a);
                let _ = write!(w.text, "fold{}{:?}", op.name(), axes[*a].extent);
            }
            _ => {
                let _ = write!(w.text, "{term}");
            }
        }
        for &c in term.children() {
            let of = self.of(child(c));
            let _ = write!(w.text, "({}", of.form.0);
            for &a in &of.free {
                w.text.push(' ');
                w.axis(a);
            }
            w.text.push(')');
        }
        (w.text, w.free)
    }
}

struct Writer<'a> {
    axes: &'a PrimaryMap<Axis, AxisData>,
    text: String,
    bound: Vec<Axis>,
    free: Vec<Axis>,
}

impl Writer<'_> {
    fn axis(&mut self, a: Axis) {
        if let Some(at) = self.bound.iter().position(|&b| b == a) {
            let _ = write!(self.text, "^{at}");
            return;
        }
        let n = self.free.iter().position(|&f| f == a).unwrap_or_else(|| {
            self.free.push(a);
            self.free.len() - 1
        });
        let _ = write!(self.text, "${n}:{:?}", self.axes[a].extent);
    }
}
