//! Derivations: which laws led from the source of a kernel to its plan.
//!
//! The e-graph keeps, for each union, the law that made it. The proof that a kernel's extracted term equals its source is a
//! chain of such unions; here it is written down, law by law, with the part that changed before and after. Subterms that
//! other kernels store are left as they stand in the source.
//!
//! * `words`: terms as text;
//! * here: proofs, step by step. Steps are whole; whoever shows them decides how much of them there is room for.

mod words;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use cranelift_entity::PrimaryMap;
use egg::{Id, Language, RecExpr, TreeTerm};
use tilewright_ir::plan::{LawStep, Plan};
use tilewright_ir::{Sym, SymData, Value};

use crate::algebra::dag::{NO_CLASS, child};
use crate::algebra::ingest::Ingested;
use crate::algebra::stable::{cancels, images, risky};
use crate::algebra::{Dag, NodeId, Term};
use crate::certify::LARGE;
use crate::partition::canon::{Canons, Form};
use words::{Names, Said};

/// Terms within terms that a step shows; deeper ones are left out.
const DEPTH: usize = 64;

/// Fills the derivations of a plan. `stored` gives the extracted node behind each value that a kernel stores.
pub fn explain(
    ingested: &mut Ingested,
    dag: &Dag,
    plan: &mut Plan,
    stored: &BTreeMap<Value, NodeId>,
    symbols: &PrimaryMap<Sym, SymData>,
) {
    // Shorter chains: a law that a derivation names should be one that it needs.
    if ingested.graph.total_size() <= LARGE {
        ingested.graph = std::mem::take(&mut ingested.graph).with_explanation_length_optimization();
    }
    let names = Names::new(ingested, plan, symbols);
    let mut source: HashMap<Id, Id> = HashMap::new();
    for n in 0..ingested.source_terms {
        source.entry(ingested.graph.find(Id::from(n))).or_insert(Id::from(n));
    }
    let canons = Canons::new(dag, &plan.axes);
    let keys: HashSet<Form> = stored.values().map(|&n| canons.form(n)).collect();
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
                canons: &canons,
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
            let mut steps =
                Steps { names: &names, seen: HashSet::new(), said: HashMap::new(), out: Vec::new() };
            steps.chain(&proof.explanation_trees);
            for step in steps.out {
                if !kernel.derivation.contains(&step) {
                    kernel.derivation.push(step);
                }
            }
        }
    }
}

/// What the source asks for and nodes of the extracted term take, in words of the source. Within a block it is the same.
pub fn tell_risks(
    ingested: &Ingested,
    dag: &Dag,
    risks: &[NodeId],
    plan: &Plan,
    symbols: &PrimaryMap<Sym, SymData>,
) -> Vec<String> {
    let g = &ingested.graph;
    let mut classes: Vec<Id> = risks.iter().map(|&n| g.find(dag.nodes[n].class)).collect();
    let mut at = 0;
    while at < classes.len() {
        for node in &g[classes[at]].nodes {
            if let Term::Part(_, [whole]) = node
                && !classes.contains(&g.find(*whole))
            {
                classes.push(g.find(*whole));
            }
        }
        at += 1;
    }
    if classes.is_empty() {
        return Vec::new();
    }
    let whole =
        images(ingested).into_iter().filter(|(_, block, _)| block.is_some_and(|b| classes.contains(&b)));
    let whole: Vec<Id> = whole.map(|(id, ..)| g.find(id)).collect();
    classes.extend(whole);
    let names = Names::new(ingested, plan, symbols);
    let mut out: Vec<String> = Vec::new();
    for id in (0..ingested.source_terms).map(Id::from) {
        let (class, node) = (g.find(id), g.id_to_node(id));
        if !classes.contains(&class) || !(risky(g, class, node) || cancels(g, node)) {
            continue;
        }
        let operands: Vec<Said> = node.children().iter().map(|&c| names.of(&g.id_to_expr(c))).collect();
        let text = names.spelled(node, &operands).text;
        if !out.contains(&text) {
            out.push(text);
        }
    }
    out
}

struct Builder<'a> {
    ingested: &'a Ingested,
    dag: &'a Dag,
    canons: &'a Canons,
    keys: &'a HashSet<Form>,
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
        let stored =
            n != self.root && !self.dag.nodes[n].term.is_leaf() && self.keys.contains(&self.canons.form(n));
        let id = if stored
            && class != Id::from(NO_CLASS as usize)
            && let Some(&from) = self.source.get(&self.ingested.graph.find(class))
        {
            let term = self.ingested.graph.id_to_expr(from);
            self.paste(&term)
        } else {
            let mut term = self.dag.nodes[n].term.clone();
            if let Term::Mul(children) | Term::Add(children) = &term {
                // Gathered operands are flat again, in the order in which the e-graph has them: those that have no class, and
                // the others where it has them so.
                let flat = |all: bool| -> Vec<Id> {
                    let same = |t: &Term| std::mem::discriminant(t) == std::mem::discriminant(&term);
                    let (mut flat, mut todo) = (Vec::new(), children.to_vec());
                    todo.reverse();
                    while let Some(c) = todo.pop() {
                        let inner = &self.dag.nodes[child(c)];
                        if same(&inner.term) && (all || inner.class == Id::from(NO_CLASS as usize)) {
                            todo.extend(inner.term.children().iter().rev());
                        } else {
                            flat.push(c);
                        }
                    }
                    flat
                };
                let known = self.as_known(class, &term, flat(false));
                let known = known.or_else(|| self.as_known(class, &term, flat(true)));
                let flat = known.unwrap_or_else(|| flat(false));
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
    fn as_known(&self, class: Id, term: &Term, operands: Vec<Id>) -> Option<Vec<Id>> {
        let g = &self.ingested.graph;
        let class_of = |c: Id| g.find(self.dag.nodes[child(c)].class);
        if class == Id::from(NO_CLASS as usize) {
            return None;
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
            if ordered.is_some() {
                return ordered;
            }
        }
        None
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

struct Steps<'a> {
    names: &'a Names,
    seen: HashSet<*const TreeTerm<Term>>,
    /// Terms that have been put into words, before or after the proofs of their children.
    said: HashMap<(*const TreeTerm<Term>, bool), Said>,
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

    /// The operands of a term before (or after) their proofs.
    fn operands(&mut self, t: &TreeTerm<Term>, last: bool, depth: usize) -> Vec<Said> {
        let one = |p: &Vec<Rc<TreeTerm<Term>>>| {
            let inner = if last { p.last() } else { p.first() };
            inner.map_or_else(Said::left_out, |inner| self.say(inner, last, depth + 1))
        };
        t.child_proofs.iter().map(one).collect()
    }

    fn say(&mut self, t: &Rc<TreeTerm<Term>>, last: bool, depth: usize) -> Said {
        if depth > DEPTH {
            return Said::left_out();
        }
        let at = (Rc::as_ptr(t), last);
        if let Some(known) = self.said.get(&at) {
            return known.clone();
        }
        let operands = self.operands(t, last, depth);
        let said = self.names.named(&t.node, &operands);
        self.said.insert(at, said.clone());
        said
    }

    /// The term with what the source names abbreviated, but not the term itself: it is what the step is about.
    fn text(&mut self, t: &TreeTerm<Term>, last: bool) -> String {
        let operands = self.operands(t, last, 0);
        self.names.spelled(&t.node, &operands).text
    }
}
