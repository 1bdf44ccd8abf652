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
use tilewright_ir::{Axis, AxisData, Extent, Sym, SymData, Value};

use crate::algebra::dag::{NO_CLASS, child};
use crate::algebra::ingest::Ingested;
use crate::algebra::{Dag, NodeId, Part, Term};
use crate::partition::canon::canon;

/// Longest rendering of a term in a step.
const WIDTH: usize = 400;

/// Fills the derivations of a plan. `stored` gives the extracted node behind each value that a kernel stores.
pub fn explain(
    ingested: &mut Ingested,
    dag: &Dag,
    plan: &mut Plan,
    stored: &BTreeMap<Value, NodeId>,
    symbols: &PrimaryMap<Sym, SymData>,
) {
    // Shorter chains: a law that a derivation names should be one that it needs.
    ingested.graph = std::mem::take(&mut ingested.graph).with_explanation_length_optimization();
    let names = Names::new(ingested, plan, symbols);
    let mut source: HashMap<Id, Id> = HashMap::new();
    for n in 0..ingested.source_terms {
        source.entry(ingested.graph.find(Id::from(n))).or_insert(Id::from(n));
    }
    let keys: HashMap<String, NodeId> =
        stored.values().map(|&n| (canon(dag, &plan.axes, n).key, n)).collect();
    for kernel in &mut plan.kernels {
        let roots = kernel.stores.iter().filter_map(|s| stored.get(&s.value).copied());
        // A product that was gathered after the search has no class: its factors have.
        let tops: Vec<NodeId> = roots
            .flat_map(|root| match dag.nodes[root].class == Id::from(NO_CLASS as usize) {
                true => dag.children(root).collect(),
                false => vec![root],
            })
            .collect();
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
            for LawStep { law, before, after } in steps.out {
                let step = LawStep { law, before: clip(before), after: clip(after) };
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
            if let Term::Mul(children) | Term::Add(children) = &term {
                // Gathered operands are flat again, in the order in which the e-graph has them.
                let same = |inner: &Term| std::mem::discriminant(inner) == std::mem::discriminant(&term);
                let mut flat = Vec::new();
                for &c in children.iter() {
                    let inner = &self.dag.nodes[child(c)];
                    if inner.class == Id::from(NO_CLASS as usize) && same(&inner.term) {
                        flat.extend(inner.term.children().iter().copied());
                    } else {
                        flat.push(c);
                    }
                }
                let flat = self.as_known(class, &term, flat);
                term = if matches!(term, Term::Mul(_)) {
                    Term::Mul(flat.into())
                } else {
                    Term::Add(flat.into())
                };
            }
            let children: Option<Vec<Id>> = term.children().iter().map(|&c| self.add(child(c))).collect();
            let mut children = children?.into_iter();
            let term = term.map_children(|c| children.next().unwrap_or(c));
            self.out.add(term)
        };
        self.memo.insert(n, id);
        Some(id)
    }

    /// Operands in the order of a node of the class that has the same.
    fn as_known(&self, class: Id, term: &Term, operands: Vec<Id>) -> Vec<Id> {
        let g = &self.ingested.graph;
        let class_of = |c: Id| g.find(self.dag.nodes[child(c)].class);
        if class == Id::from(NO_CLASS as usize) {
            return operands;
        }
        for node in &g[class].nodes {
            if std::mem::discriminant(node) != std::mem::discriminant(term) || node.len() != operands.len() {
                continue;
            }
            let mut rest = operands.clone();
            let ordered: Option<Vec<Id>> = node
                .children()
                .iter()
                .map(|&want| {
                    let at = rest.iter().position(|&c| class_of(c) == g.find(want))?;
                    Some(rest.remove(at))
                })
                .collect();
            if let Some(ordered) = ordered {
                return ordered;
            }
        }
        operands
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
    symbols: PrimaryMap<Sym, SymData>,
    axes: PrimaryMap<Axis, AxisData>,
    values: HashMap<Value, String>,
    /// What the source names: its text and its name, longest text first.
    known: Vec<(String, String)>,
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
                    let before = self.text(&terms[n - 1], true);
                    let after = self.text(term, false);
                    let step = LawStep { law: law.to_string(), before, after };
                    // Operands that only changed places read the same.
                    if step.before != step.after && !self.out.contains(&step) {
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
                let Some(inner) = term else { return "...".into() };
                let text = self.render(inner, last, depth + 1);
                // A product within a product: flattening it is a step that must show.
                match (&t.node, &inner.node) {
                    (Term::Mul(_), Term::Mul(_)) => format!("({text})"),
                    _ => text,
                }
            })
            .collect();
        self.names.node(&t.node, &children, None)
    }

    /// The term with what the source names abbreviated.
    fn text(&self, t: &TreeTerm<Term>, last: bool) -> String {
        let mut out = self.render(t, last, 0);
        for (long, short) in &self.names.known {
            if out.len() > long.len() {
                out = out.replace(long.as_str(), short);
            }
        }
        clip(out)
    }
}

impl Names {
    fn new(ingested: &Ingested, plan: &Plan, symbols: &PrimaryMap<Sym, SymData>) -> Names {
        let mut names = Names {
            symbols: symbols.clone(),
            axes: plan.axes.clone(),
            values: plan.values.iter().map(|(v, d)| (v, d.name.clone())).collect(),
            known: Vec::new(),
        };
        let mut known = Vec::new();
        for (&v, &id) in &ingested.values {
            let data = &plan.values[v];
            if data.name.is_empty() {
                continue;
            }
            let term = ingested.graph.id_to_expr(id);
            for cut in std::iter::once(None).chain(ingested.cascades.iter().map(|&a| Some(a))) {
                let axis = |a: Axis| {
                    let mark = if cut == Some(a) { "'" } else { "" };
                    format!("{}{mark}", names.axis(a))
                };
                let axes: Vec<String> = data.axes.iter().map(|&a| axis(a)).collect();
                let mut texts: Vec<String> = Vec::new();
                for node in &term {
                    let children: Vec<String> =
                        node.children().iter().map(|&c| texts[usize::from(c)].clone()).collect();
                    texts.push(names.node(node, &children, cut));
                }
                let long = texts.pop().unwrap_or_default();
                let short = format!("{}[{}]", data.name, axes.join(","));
                if long.len() > short.len() && !known.contains(&(long.clone(), short.clone())) {
                    known.push((long, short));
                }
            }
        }
        known.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.cmp(b)));
        names.known = known;
        names
    }

    fn axis(&self, a: Axis) -> &str {
        self.axes.get(a).map_or("?", |d| d.name.as_str())
    }

    /// One node over the texts of its children; positions along `cut` are written as those of a cut axis.
    fn node(&self, node: &Term, children: &[String], cut: Option<Axis>) -> String {
        let list = |sep: &str| children.join(sep);
        match node {
            Term::Num(n) => tilewright_ir::text::number(n.0),
            Term::Pos(a) if cut == Some(*a) => format!("{}'", self.axis(*a)),
            Term::Pos(a) => self.axis(*a).to_owned(),
            Term::CutPos(a) => format!("{}'", self.axis(*a)),
            Term::Size(Extent::Const(n)) => n.to_string(),
            Term::Size(Extent::Sym(s)) => {
                self.symbols.get(*s).map_or_else(|| s.to_string(), |d| d.name.clone())
            }
            Term::Read(v, _) => {
                let name = self.values.get(v).filter(|n| !n.is_empty()).cloned();
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
            Term::Hole => "_".into(),
            Term::Fold(a, op, _) => format!("fold {}[{}]({})", op.name(), self.axis(*a), list("; ")),
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
