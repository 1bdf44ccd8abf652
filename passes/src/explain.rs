//! Derivations: which laws led from the source of a kernel to its plan.
//!
//! The e-graph keeps, for each union, the law that made it. The proof that a kernel's extracted term equals its source is a
//! chain of such unions; here it is written down, law by law, with the part that changed before and after. Subterms that
//! other kernels store are left as they stand in the source.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use cranelift_entity::PrimaryMap;
use egg::{Id, Language, RecExpr, TreeTerm};
use tilewright_ir::plan::{LawStep, Plan};
use tilewright_ir::{Axis, AxisData, Value};

use crate::algebra::dag::{NO_CLASS, child};
use crate::algebra::ingest::Ingested;
use crate::algebra::{Dag, NodeId, Part, Term};
use crate::partition::canon::canon;

/// Longest rendering of a term in a step.
const WIDTH: usize = 240;

/// Fills the derivations of a plan. `stored` gives the extracted node behind each value that a kernel stores.
pub fn explain(ingested: &mut Ingested, dag: &Dag, plan: &mut Plan, stored: &BTreeMap<Value, NodeId>) {
    let names = Names {
        axes: plan.axes.clone(),
        values: plan.values.iter().map(|(v, d)| (v, d.name.clone())).collect(),
    };
    let mut source: HashMap<Id, Id> = HashMap::new();
    for n in 0..ingested.source_terms {
        source.entry(ingested.graph.find(Id::from(n))).or_insert(Id::from(n));
    }
    let keys: HashMap<String, NodeId> =
        stored.values().map(|&n| (canon(dag, &plan.axes, n).key, n)).collect();
    for kernel in &mut plan.kernels {
        let Some(&root) = kernel.stores.first().and_then(|s| stored.get(&s.value)) else { continue };
        // A product that was gathered after the search has no class: its factors have.
        let tops = if dag.nodes[root].class == Id::from(NO_CLASS as usize) {
            dag.children(root).collect()
        } else {
            vec![root]
        };
        for top in tops {
            let class = ingested.graph.find(dag.nodes[top].class);
            let Some(&from) = source.get(&class) else { continue };
            let mut builder = Builder {
                ingested,
                dag,
                axes: &plan.axes,
                keys: &keys,
                source: &source,
                root: top,
                out: RecExpr::default(),
                memo: HashMap::new(),
            };
            if builder.add(top).is_none() {
                continue;
            }
            let expr = builder.out;
            let to = ingested.graph.add_expr_uncanonical(&expr);
            ingested.graph.rebuild();
            if ingested.graph.find(to) != ingested.graph.find(from) || to == from {
                continue;
            }
            let proof = ingested.graph.explain_id_equivalence(from, to);
            let mut steps = Steps { names: &names, seen: HashSet::new(), out: Vec::new() };
            steps.chain(&proof.explanation_trees);
            for step in steps.out {
                if !kernel.derivation.contains(&step) {
                    kernel.derivation.push(step);
                }
            }
        }
    }
}

struct Builder<'a> {
    ingested: &'a Ingested,
    dag: &'a Dag,
    axes: &'a PrimaryMap<Axis, AxisData>,
    keys: &'a HashMap<String, NodeId>,
    source: &'a HashMap<Id, Id>,
    root: NodeId,
    out: RecExpr<Term>,
    memo: HashMap<NodeId, Id>,
}

impl Builder<'_> {
    /// Adds the extracted term, with what other kernels store as the source has it.
    fn add(&mut self, n: NodeId) -> Option<Id> {
        if let Some(&id) = self.memo.get(&n) {
            return Some(id);
        }
        let class = self.dag.nodes[n].class;
        let stored = n != self.root
            && !self.dag.nodes[n].term.is_leaf()
            && self.keys.contains_key(&canon(self.dag, self.axes, n).key);
        let id = if stored
            && class != Id::from(NO_CLASS as usize)
            && let Some(&from) = self.source.get(&self.ingested.graph.find(class))
        {
            let term = self.ingested.graph.id_to_expr(from);
            self.paste(&term)
        } else {
            let mut term = self.dag.nodes[n].term.clone();
            if let Term::Mul(children) = &term {
                // Gathered factors are flat again.
                let mut flat = Vec::new();
                for &c in children.iter() {
                    match &self.dag.nodes[child(c)] {
                        inner if inner.class == Id::from(NO_CLASS as usize) => {
                            flat.extend(inner.term.children().iter().copied());
                        }
                        _ => flat.push(c),
                    }
                }
                // Operands stand in the order of their classes, as in the e-graph.
                flat.sort_by_key(|&c| self.ingested.graph.find(self.dag.nodes[child(c)].class));
                term = Term::Mul(flat.into());
            }
            let children: Option<Vec<Id>> = term.children().iter().map(|&c| self.add(child(c))).collect();
            let mut children = children?.into_iter();
            let term = term.map_children(|c| children.next().unwrap_or(c));
            self.out.add(term)
        };
        self.memo.insert(n, id);
        Some(id)
    }

    fn paste(&mut self, term: &RecExpr<Term>) -> Id {
        let mut ids = Vec::new();
        for node in term {
            let node = node.clone().map_children(|c| ids[usize::from(c)]);
            ids.push(self.out.add(node));
        }
        ids.last().copied().unwrap_or(Id::from(0))
    }
}

struct Names {
    axes: PrimaryMap<Axis, AxisData>,
    values: HashMap<Value, String>,
}

struct Steps<'a> {
    names: &'a Names,
    seen: HashSet<*const TreeTerm<Term>>,
    out: Vec<LawStep>,
}

impl Steps<'_> {
    fn chain(&mut self, terms: &[Rc<TreeTerm<Term>>]) {
        for (n, term) in terms.iter().enumerate() {
            if n > 0 {
                let law = term.forward_rule.or(term.backward_rule);
                if let Some(law) = law {
                    let before = self.render(&terms[n - 1], true, 0);
                    let after = self.render(term, false, 0);
                    let step = LawStep { law: law.to_string(), before: clip(before), after: clip(after) };
                    if !self.out.contains(&step) {
                        self.out.push(step);
                    }
                }
            }
            if self.seen.insert(Rc::as_ptr(term)) {
                for child in &term.child_proofs {
                    self.chain(child);
                }
            }
        }
    }

    fn axis(&self, a: Axis) -> &str {
        self.names.axes.get(a).map_or("?", |d| d.name.as_str())
    }

    /// The term before (or after) the proofs of its children.
    fn render(&self, t: &TreeTerm<Term>, last: bool, depth: usize) -> String {
        if depth > 24 {
            return "...".into();
        }
        let children: Vec<String> = t
            .child_proofs
            .iter()
            .map(|p| {
                let term = if last { p.last() } else { p.first() };
                term.map_or_else(|| "...".into(), |t| self.render(t, last, depth + 1))
            })
            .collect();
        let list = |sep: &str| children.join(sep);
        match &t.node {
            Term::Num(n) => tilewright_ir::text::number(n.0),
            Term::Pos(a) => self.axis(*a).to_owned(),
            Term::CutPos(a) => format!("{}'", self.axis(*a)),
            Term::Size(e) => format!("{e:?}"),
            Term::Read(v, _) => {
                let name = self.names.values.get(v).filter(|n| !n.is_empty()).cloned();
                format!("{}[{}]", name.unwrap_or_else(|| v.to_string()), list(","))
            }
            Term::Add(_) => format!("({})", list(" + ")),
            Term::Mul(_) => list(" * "),
            Term::Max(_) => format!("max({})", list(", ")),
            Term::Min(_) => format!("min({})", list(", ")),
            Term::Unary(f, _) => format!("{}({})", f.name(), list(", ")),
            Term::Binary(f, _) => format!("({})", list(&format!(" {} ", f.name()))),
            Term::Select(_) => format!("where({})", list(", ")),
            Term::Cast(d, _) => format!("{d}({})", list("")),
            Term::Reduce(op, parts, _) => {
                let axes: Vec<String> = parts
                    .iter()
                    .map(|p| match p.part {
                        Part::Whole => self.axis(p.axis).to_owned(),
                        Part::Outer => format!("{}.o", self.axis(p.axis)),
                        Part::Inner => format!("{}.i", self.axis(p.axis)),
                    })
                    .collect();
                format!("{}[{}]({})", op.name(), axes.join(","), list(""))
            }
            Term::Part(a, _) => format!("part[{}]({})", self.axis(*a), list("")),
            Term::Fold(a, _) => format!("fold[{}]({})", self.axis(*a), list("; ")),
        }
    }
}

fn clip(s: String) -> String {
    if s.chars().count() <= WIDTH {
        return s;
    }
    let mut out: String = s.chars().take(WIDTH - 3).collect();
    out.push_str("...");
    out
}
