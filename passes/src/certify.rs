//! Certificates: the e-graph's proof of each stored value, written down for the checker of `tilewright-proof`.
//!
//! Why here: only the search knows why two terms are equal. Its proof is a chain of unions, each with the name of its law;
//! here each union becomes a step between two whole terms, operands that changed become congruence, and what a law did not
//! say but used (that an operand equals a product, and so was flattened) becomes a premise with a proof of its own.
//!
//! Post: what is written is checked by the checker as anybody's would be; a step that is no instance of its law, or that
//! the checker does not know, leaves the store without a certificate and says why.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use egg::{Id, Language, TreeTerm};
use tilewright_ir::graph::{Def, Function};
use tilewright_ir::plan::Plan;
use tilewright_ir::{EntityRef, PrimaryMap, Reduction, Sym, SymData, Value};
use tilewright_proof::build::{Builder, Proof};
use tilewright_proof::cert::StoredRow;
use tilewright_proof::check::{Checker, Context, Refusal, stores};
use tilewright_proof::rename::uncut;
use tilewright_proof::term::{Node, Part as Piecewise, Piece};
use tilewright_proof::{Certificate, term};

use crate::algebra::dag::NO_CLASS;
use crate::algebra::ingest::Ingested;
use crate::algebra::{Dag, Graph, NodeId, Part, SubAxis, Term};
use crate::partition::canon::{Canons, Form};
use crate::partition::group::heavy;

type Chain = [Rc<TreeTerm<Term>>];

/// E-nodes above which proofs are taken as they are found: to look for shorter ones each time would go through all of them.
pub(crate) const LARGE: usize = 500;

/// In how many ways operands are ungrouped.
const FORMS: usize = 64;

/// A certificate for each store of a plan, or why there is none. `stored` gives the extracted node behind each value.
pub fn certify(
    function: &Function,
    ingested: &mut Ingested,
    dag: &Dag,
    plan: &Plan,
    stored: &BTreeMap<Value, NodeId>,
    symbols: &PrimaryMap<Sym, SymData>,
) -> Vec<Result<Certificate, String>> {
    if ingested.graph.total_size() > LARGE {
        ingested.graph = std::mem::take(&mut ingested.graph).without_explanation_length_optimization();
    }
    let context = Context { symbols, function, plan };
    let mut checker = Checker::new(context);
    let canons = Canons::new(dag, &plan.axes);
    let keys = stored
        .iter()
        .filter(|(v, _)| v.as_u32() >= plan.first_temp || matches!(plan.values[**v].def, Def::Equation(_)))
        .map(|(&v, &n)| (canons.form(n), v))
        .collect();
    let mut source: BTreeMap<Id, Id> = BTreeMap::new();
    for n in (0..ingested.source_terms).rev() {
        source.insert(ingested.graph.find(Id::from(n)), Id::from(n));
    }
    let plan = Planned { context, dag, stored, canons, keys, heavy: heavy(dag), source };
    stores(context.plan).into_iter().map(|at| plan.store(at, ingested, &mut checker)).collect()
}

/// What is known of a plan and the terms behind it.
struct Planned<'a> {
    context: Context<'a>,
    dag: &'a Dag,
    stored: &'a BTreeMap<Value, NodeId>,
    canons: Canons,
    /// The value that holds a subterm, by its form.
    keys: HashMap<Form, Value>,
    heavy: Vec<bool>,
    /// The first term of the source in each class that the source has.
    source: BTreeMap<Id, Id>,
}

impl Planned<'_> {
    /// The certificate of a store. What other kernels store stands in it as the source has it; where that is not what the
    /// kernel's expressions amount to, as the kernels compute it.
    fn store(
        &self,
        at: (usize, usize),
        ingested: &mut Ingested,
        checker: &mut Checker<'_>,
    ) -> Result<Certificate, String> {
        let mut reason = String::new();
        for form in ["source", "result"] {
            let c = self.write(at, ingested, form)?;
            match checker.seal(at, &c) {
                Ok(sealed) => return Ok(sealed),
                Err(e @ Refusal::Result(_)) => reason = e.to_string(),
                Err(e) => return Err(e.to_string()),
            }
        }
        Err(reason)
    }

    fn write(
        &self,
        at: (usize, usize),
        ingested: &mut Ingested,
        form: &'static str,
    ) -> Result<Certificate, String> {
        let forwarded = ingested.forwarded;
        let kernel = &self.context.plan.kernels[at.0];
        let value = kernel.stores[at.1].value;
        let &root = self.stored.get(&value).ok_or("the partition did not say what it stores")?;
        let class = self.dag.nodes[root].class;
        let declared = ingested.roots.iter().find(|r| r.value == value).map(|r| r.class);
        // What the graph does not name is taken from the source where the source has it.
        let from = declared.or_else(|| ingested.values.get(&value).copied()).or_else(|| {
            known(class).then(|| self.source.get(&ingested.graph.find(class)).copied()).flatten()
        });
        let mut w = Writer {
            plan: self,
            roots: kernel.stores.iter().filter_map(|s| self.stored.get(&s.value).copied()).collect(),
            as_source: form == "source",
            builder: Builder::new(self.context),
            graph: &mut ingested.graph,
            terms: HashMap::new(),
            exact: HashMap::new(),
            done: HashMap::new(),
            held: Vec::new(),
            extracted: HashMap::new(),
            open: HashSet::new(),
        };
        let end = w.node(root)?;
        let (source, proof) = match (from, end.exact) {
            (Some(from), Some(to)) => {
                let derived = w.equal(from, to)?;
                (w.term(from), w.builder.chain(&[derived, end.proof]))
            }
            (Some(_), None) => return Err("its term is not in the e-graph".into()),
            // What the graph holds of it may be along an axis that is cut into blocks; it is stored whole.
            (None, _) => {
                let mut whole = end.computed;
                for axis in self.context.plan.axes.keys() {
                    whole = uncut(&mut w.builder.terms, whole, axis).unwrap_or(whole);
                }
                (whole, None)
            }
        };
        let stored = self.stored.keys().map(|v| StoredRow { value: v.to_string(), form: form.to_owned() });
        let result = if from.is_some() { end.computed } else { source };
        let certificate = w.builder.finish(source, result, proof, stored.collect());
        Ok(Certificate { forwarded, ..certificate })
    }
}

/// Whether the number is that of a class: what was made after the search has none.
fn known(class: Id) -> bool {
    class != Id::from(NO_CLASS as usize)
}

/// An extracted node.
#[derive(Clone, Copy)]
struct Extracted {
    /// The term that the e-graph holds, where it does.
    exact: Option<Id>,
    /// The same as a term.
    found: term::Id,
    /// What the kernel computes: grouped as the partition has it, with what others store as they define it.
    computed: term::Id,
    /// That the two are equal.
    proof: Proof,
}

struct Writer<'a> {
    plan: &'a Planned<'a>,
    /// What the kernel itself stores.
    roots: Vec<NodeId>,
    as_source: bool,
    builder: Builder,
    graph: &'a mut Graph,
    /// The term behind a number of the e-graph.
    terms: HashMap<Id, term::Id>,
    /// A number of the e-graph that names exactly this term.
    exact: HashMap<term::Id, Id>,
    /// Proofs of the e-graph that were written, by their address; the first and last term of each.
    done: HashMap<*const TreeTerm<Term>, (term::Id, term::Id, Proof)>,
    /// The e-graph's proofs that were written.
    held: Vec<Vec<Rc<TreeTerm<Term>>>>,
    /// Extracted nodes that were written.
    extracted: HashMap<NodeId, Extracted>,
    /// Steps that are being written.
    open: HashSet<(term::Id, term::Id)>,
}

impl Writer<'_> {
    /// What a node of the extracted term is to the e-graph and to the kernel.
    fn node(&mut self, n: NodeId) -> Result<Extracted, String> {
        if let Some(&done) = self.extracted.get(&n) {
            return Ok(done);
        }
        let dag = self.plan.dag;
        let node = &dag.nodes[n];
        let children: Vec<Extracted> = dag.children(n).map(|c| self.node(c)).collect::<Result<_, _>>()?;
        let ids = |c: &[Extracted]| -> Vec<term::Id> { c.iter().map(|c| c.found).collect() };
        let together = self.builder.node(converted(&node.term, &ids(&children)));
        let mut out = Extracted { exact: None, found: together, computed: together, proof: None };
        if known(node.class) {
            let id = self.held(&node.term, node.class, &children).or_else(|| {
                // The partition has grouped operands of a sum or product that the e-graph has in one.
                let flat = self.flat(n)?;
                self.held(&node.term, node.class, &flat).or_else(|| self.ungrouped(n))
            });
            let id = id.ok_or("a subterm as the partition has it is not in the e-graph")?;
            out.exact = Some(id);
            out.found = self.term(id);
        }
        let from_others = self.as_source
            && !self.roots.contains(&n)
            && self.plan.heavy[n.index()]
            && self
                .plan
                .keys
                .get(&self.plan.canons.form(n))
                .is_some_and(|v| !self.roots.contains(&self.plan.stored[v]));
        let source = known(node.class).then(|| self.plan.source.get(&self.graph.find(node.class)).copied());
        if from_others && let (Some(Some(source)), Some(id)) = (source, out.exact) {
            out.computed = self.term(source);
            out.proof = self.equal(id, source)?;
        } else {
            let computed: Vec<term::Id> = children.iter().map(|c| c.computed).collect();
            let proofs: Vec<Proof> = children.iter().map(|c| c.proof).collect();
            out.computed = self.builder.node(converted(&node.term, &computed));
            let regrouped = self
                .builder
                .law("assoc", out.found, together, &[])
                .ok_or("grouping operands has changed a term")?;
            let inside = match together == out.computed {
                true => None,
                false => self.builder.congruence(together, out.computed, &proofs),
            };
            out.proof = self.builder.chain(&[regrouped, inside]);
        }
        self.extracted.insert(n, out);
        Ok(out)
    }

    /// The operands of a sum or product, with those that are the same operation replaced by theirs.
    fn flat(&mut self, n: NodeId) -> Option<Vec<Extracted>> {
        let dag = self.plan.dag;
        let term = &dag.nodes[n].term;
        if !matches!(term, Term::Add(_) | Term::Mul(_)) {
            return None;
        }
        let mut out = Vec::new();
        for c in dag.children(n) {
            if std::mem::discriminant(&dag.nodes[c].term) == std::mem::discriminant(term) {
                let inner: Vec<NodeId> = dag.children(c).collect();
                out.extend(match self.flat(c) {
                    Some(deeper) => deeper,
                    None => inner.iter().map(|&i| self.node(i).ok()).collect::<Option<_>>()?,
                });
            } else {
                out.push(self.node(c).ok()?);
            }
        }
        Some(out)
    }

    /// The number of a sum or product of which some operands are the same operation in the e-graph too, as in one that was searched
    /// in part: each is replaced by its operands or not.
    fn ungrouped(&mut self, n: NodeId) -> Option<Id> {
        let dag = self.plan.dag;
        let node = &dag.nodes[n];
        let mut todo: Vec<Vec<NodeId>> = vec![dag.children(n).collect()];
        let mut at = 0;
        while at < todo.len().min(FORMS) {
            let operands = todo[at].clone();
            at += 1;
            let written: Option<Vec<Extracted>> = operands.iter().map(|&c| self.node(c).ok()).collect();
            if let Some(id) = written.and_then(|w| self.held(&node.term, node.class, &w)) {
                return Some(id);
            }
            for (place, &c) in operands.iter().enumerate() {
                if std::mem::discriminant(&dag.nodes[c].term) == std::mem::discriminant(&node.term) {
                    let mut other = operands.clone();
                    other.splice(place..=place, dag.children(c));
                    if !todo.contains(&other) {
                        todo.push(other);
                    }
                }
            }
        }
        None
    }

    /// The number of a node over operands, if the class holds it.
    fn held(&mut self, term: &Term, class: Id, operands: &[Extracted]) -> Option<Id> {
        let class = self.graph.find(class);
        let ids: Vec<Id> = operands.iter().map(|o| o.exact).collect::<Option<_>>()?;
        let commutes = matches!(term, Term::Add(_) | Term::Mul(_) | Term::Max(_) | Term::Min(_));
        for node in self.graph[class].nodes.clone() {
            let same = match commutes {
                true => std::mem::discriminant(&node) == std::mem::discriminant(term),
                false => node.matches(term),
            };
            if !same || node.children().len() != ids.len() {
                continue;
            }
            let mut rest = ids.clone();
            let ordered: Option<Vec<Id>> = node
                .children()
                .iter()
                .enumerate()
                .map(|(n, &want)| {
                    let fits = |c: &Id| self.graph.find(*c) == self.graph.find(want);
                    match commutes {
                        true => rest.iter().position(fits).map(|at| rest.remove(at)),
                        false => ids.get(n).copied().filter(fits),
                    }
                })
                .collect();
            if let Some(ordered) = ordered {
                let mut ordered = ordered.into_iter();
                let node = node.map_children(|c| ordered.next().unwrap_or(c));
                return Some(self.graph.add_uncanonical(node));
            }
        }
        None
    }

    /// The very term that a number of the e-graph names.
    fn term(&mut self, id: Id) -> term::Id {
        if let Some(&done) = self.terms.get(&id) {
            return done;
        }
        let node = self.graph.id_to_node(id).clone();
        let children: Vec<term::Id> = node.children().iter().map(|&c| self.term(c)).collect();
        let t = self.builder.node(converted(&node, &children));
        self.terms.insert(id, t);
        self.exact.entry(t).or_insert(id);
        t
    }

    /// A node over terms, known to the e-graph as well.
    fn over(&mut self, node: &Term, children: &[term::Id]) -> term::Id {
        let t = self.builder.node(converted(node, children));
        if !self.exact.contains_key(&t) {
            let ids: Option<Vec<Id>> = children.iter().map(|c| self.exact.get(c).copied()).collect();
            if let Some(ids) = ids {
                let mut ids = ids.into_iter();
                let id = self.graph.add_uncanonical(node.clone().map_children(|c| ids.next().unwrap_or(c)));
                self.exact.insert(t, id);
                self.terms.insert(id, t);
            }
        }
        t
    }

    /// The proof that two terms of one class are equal.
    fn equal(&mut self, from: Id, to: Id) -> Result<Proof, String> {
        let (a, b) = (self.term(from), self.term(to));
        if let Some(known) = self.builder.known(a, b) {
            return Ok(known);
        }
        if self.graph.find(from) != self.graph.find(to) {
            return Err("the e-graph does not hold that they are equal".into());
        }
        let explanation = self.graph.explain_id_equivalence(from, to);
        let trees = explanation.explanation_trees;
        let (_, _, proof) = self.chain(&trees)?;
        // Proofs are remembered by address, and addresses are used again once a proof is gone.
        self.held.push(trees);
        Ok(proof)
    }

    /// A chain of terms, each from the one before by a rule: its first and last term, and the proof that they are equal.
    fn chain(&mut self, terms: &Chain) -> Result<(term::Id, term::Id, Proof), String> {
        let mut proofs = Vec::new();
        let mut ends: Option<(term::Id, term::Id)> = None;
        for t in terms {
            let (first, last, inside) = self.tree(t)?;
            if let Some((_, before)) = ends {
                let law = t.forward_rule.or(t.backward_rule).map(|s| s.to_string()).unwrap_or_default();
                proofs.push(self.step(&law, before, first)?);
            }
            proofs.push(inside);
            ends = Some((ends.map_or(first, |(f, _)| f), last));
        }
        let (first, last) = ends.ok_or("an empty proof")?;
        Ok((first, last, self.builder.chain(&proofs)))
    }

    /// One term whose operands change: the term before and after, and the proof by congruence.
    fn tree(&mut self, t: &Rc<TreeTerm<Term>>) -> Result<(term::Id, term::Id, Proof), String> {
        let key = Rc::as_ptr(t);
        if let Some(&done) = self.done.get(&key) {
            return Ok(done);
        }
        let (mut first, mut last, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        for c in &t.child_proofs {
            let (a, b, p) = self.chain(c)?;
            first.push(a);
            last.push(b);
            proofs.push(p);
        }
        let (a, b) = (self.over(&t.node, &first), self.over(&t.node, &last));
        let proof = if a == b { None } else { self.builder.congruence(a, b, &proofs) };
        self.done.insert(key, (a, b, proof));
        Ok((a, b, proof))
    }

    /// A step by a law.
    fn step(&mut self, law: &str, l: term::Id, r: term::Id) -> Result<Proof, String> {
        if let Some(known) = self.builder.known(l, r) {
            return Ok(known);
        }
        if let Some(folded) = self.folded(l, r) {
            return Ok(folded);
        }
        if let Some(known) = self.builder.law(law, l, r, &[]) {
            return Ok(known);
        }
        if !self.open.insert((l, r)) {
            return Err(format!("a step of `{law}` rests on itself"));
        }
        let out = self.modulo(law, l, r);
        self.open.remove(&(l, r));
        out
    }

    /// A step to or from a fold that chooses, with the proof that the other side is what its block value is a part of.
    fn folded(&mut self, l: term::Id, r: term::Id) -> Option<Proof> {
        let part = |t: term::Id| match self.builder.terms.node(t) {
            Node::Fold(_, op, c) if *op != Reduction::Sum => match self.builder.terms.node(c[0]) {
                Node::Part(_, of) => Some(*of),
                _ => None,
            },
            _ => None,
        };
        let (of, whole) = match (part(l), part(r)) {
            (Some(of), None) => (of, r),
            (None, Some(of)) => (of, l),
            _ => return None,
        };
        let (from, to) = (self.exact.get(&of).copied()?, self.exact.get(&whole).copied()?);
        if !self.open.insert((of, whole)) {
            return None;
        }
        let proof = self.equal(from, to);
        self.open.remove(&(of, whole));
        self.builder.fold(l, r, proof.ok()??)
    }

    /// A step by a law that used that operands are equal to what they are not written as.
    fn modulo(&mut self, law: &str, l: term::Id, r: term::Id) -> Result<Proof, String> {
        let mut pairs = self.twins(l, r);
        pairs.extend(self.flattened(l, r));
        let mut proofs = Vec::new();
        for (from, to) in pairs {
            if let Ok(Some(proof)) = self.equal(from, to) {
                proofs.push(proof);
                if let Some(step) = self.builder.law(law, l, r, &proofs) {
                    return Ok(step);
                }
            }
        }
        Err(format!("a step of `{law}` is no instance of it: {} and {}", self.show(l, 0), self.show(r, 0)))
    }

    /// The terms within both sides, without the sides themselves, in order.
    fn within(&self, l: term::Id, r: term::Id) -> BTreeSet<term::Id> {
        let mut out = BTreeSet::new();
        let mut todo = vec![l, r];
        while let Some(t) = todo.pop() {
            for &c in self.builder.terms.node(t).children() {
                if out.insert(c) {
                    todo.push(c);
                }
            }
        }
        out.remove(&l);
        out.remove(&r);
        out
    }

    /// Terms within the two sides that are written differently and are of one class, each with the first of its class.
    fn twins(&self, l: term::Id, r: term::Id) -> Vec<(Id, Id)> {
        let mut first: BTreeMap<Id, Id> = BTreeMap::new();
        let mut out = Vec::new();
        for t in self.within(l, r) {
            let Some(&id) = self.exact.get(&t) else { continue };
            match first.get(&self.graph.find(id)) {
                Some(&other) => out.push((id, other)),
                None => {
                    first.insert(self.graph.find(id), id);
                }
            }
        }
        out
    }

    /// Operands that are written as something else than the sum, product or literal that their class holds as its
    /// smallest term, each with that.
    fn flattened(&mut self, l: term::Id, r: term::Id) -> Vec<(Id, Id)> {
        let mut out = Vec::new();
        for t in self.within(l, r) {
            let Some(&id) = self.exact.get(&t) else { continue };
            let class = self.graph.find(id);
            let smallest = self.graph[class].data.smallest.clone();
            if !matches!(smallest, Term::Add(_) | Term::Mul(_) | Term::Max(_) | Term::Min(_) | Term::Num(_)) {
                continue;
            }
            let plain = self.graph.add_uncanonical(smallest);
            if self.term(plain) != t {
                out.push((id, plain));
            }
        }
        out
    }

    /// A term for people, to some depth.
    fn show(&self, t: term::Id, depth: usize) -> String {
        let n = self.builder.terms.node(t);
        let row = tilewright_proof::cert::row(n);
        if n.children().is_empty() {
            return row.of;
        }
        if depth > 5 {
            return "...".into();
        }
        let c: Vec<String> = n.children().iter().map(|&c| self.show(c, depth + 1)).collect();
        format!("{}{}{}({})", row.op, if row.of.is_empty() { "" } else { ":" }, row.of, c.join(", "))
    }
}

fn piece(a: SubAxis) -> Piece {
    let part = match a.part {
        Part::Whole => Piecewise::Whole,
        Part::Outer => Piecewise::Outer,
        Part::Inner => Piecewise::Inner,
    };
    Piece { axis: a.axis, part }
}

/// The checker's node for one of the search.
fn converted(node: &Term, c: &[term::Id]) -> Node {
    let all = c.to_vec();
    match node {
        Term::Num(n) => Node::Num(*n),
        Term::Pos(a) => Node::Pos(*a),
        Term::CutPos(a) => Node::CutPos(*a),
        Term::Size(e) => Node::Size(*e),
        Term::Read(v, _) => Node::Read(*v, all),
        Term::Add(_) => Node::Add(all),
        Term::Mul(_) => Node::Mul(all),
        Term::Max(_) => Node::Max(all),
        Term::Min(_) => Node::Min(all),
        Term::Unary(f, _) => Node::Unary(*f, c[0]),
        Term::Binary(f, _) => Node::Binary(*f, [c[0], c[1]]),
        Term::Select(_) => Node::Select([c[0], c[1], c[2]]),
        Term::Cast(d, _) => Node::Cast(*d, c[0]),
        Term::Reduce(op, pieces, _) => {
            let mut pieces: Vec<Piece> = pieces.iter().map(|&p| piece(p)).collect();
            pieces.sort_unstable();
            Node::Reduce(*op, pieces, c[0])
        }
        Term::Part(a, _) => Node::Part(*a, c[0]),
        Term::Hole => Node::Hole,
        Term::Fold(a, op, _) => Node::Fold(*a, *op, all),
    }
}
