//! The checker.
//!
//! A certificate is accepted if the source term is what the graph says, every step follows by a law of the table (or by
//! congruence or transitivity) from earlier ones, the last step is between source and result, and the result is what the
//! kernel of the plan computes. Everything else in a certificate (axes, tensors, assumptions, folds, stability, hashes) is
//! derived here again and must be the same. Nothing may be left over: a step or a term that nothing refers to is refused.
//!
//! Pre: a verified function and its plan. Post: a verdict per certificate; a kernel that reads what a refused kernel
//! stores is refused too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rustc_hash::FxHashSet as HashSet;
use tilewright_ir::graph::{Def, Function};
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan, Store};
use tilewright_ir::text::{print_function, print_kernel};
use tilewright_ir::{Axis, DType, Ex, Expr, PrimaryMap, Sym, SymData, Value};

use crate::cert::{
    AxisRow, Certificate, FoldRow, LeafRow, NodeRow, SCHEMA, StabilityRow, Step, StoredRow, extent, node,
};
use crate::fold::check_node;
use crate::hash::sha256;
use crate::laws::{self, LAWS, PLAIN, law};
use crate::normal::Normal;
use crate::plan::Kernel;
use crate::rename::{Canonical, restrictable};
use crate::source::{Source, declare};
use crate::stable::judge;
use crate::term::{Id, Node, Terms};
use crate::{order, together};

/// The most operations that terms may nest in one another: what a thread with 2 MiB of stack is sure to walk.
const DEPTH: u32 = 1024;

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field is not what it must be.
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A node is malformed.
    Node {
        /// Its number.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A step does not follow.
    Step {
        /// Its number.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A law that the checker does not know.
    UnknownLaw {
        /// The step.
        at: usize,
        /// The law.
        law: String,
    },
    /// The source is not what the graph says.
    Source,
    /// The result is not what the kernel computes.
    Result(String),
    /// There is no certificate, for a reason that the writer gives.
    Absent(String),
    /// The kernel reads a value whose own certificate was refused.
    Rests {
        /// The value.
        on: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Field { field, reason } => write!(f, "field `{field}`: {reason}"),
            Refusal::Node { at, reason } => write!(f, "node {at}: {reason}"),
            Refusal::Step { at, reason } => write!(f, "step {at}: {reason}"),
            Refusal::UnknownLaw { at, law } => {
                write!(f, "step {at}: the checker knows no law `{law}`; it must be added to its table")
            }
            Refusal::Source => f.write_str("the source term is not what the graph says"),
            Refusal::Result(reason) => write!(f, "the result is not what the kernel computes: {reason}"),
            Refusal::Absent(reason) => write!(f, "no certificate: {reason}"),
            Refusal::Rests { on } => write!(f, "reads {on}, whose own certificate was refused"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a certificate is checked against.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The symbols of the module.
    pub symbols: &'a PrimaryMap<Sym, SymData>,
    /// The source function.
    pub function: &'a Function,
    /// Its plan.
    pub plan: &'a Plan,
}

/// What was proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The laws that the proof uses, with the number of steps of each.
    pub laws: BTreeMap<String, usize>,
    /// What is taken for granted.
    pub assumptions: Vec<String>,
    /// The number of steps.
    pub steps: usize,
    /// The number of terms.
    pub nodes: usize,
}

/// What was taken for granted of every kernel.
pub const STANDING: [&str; 3] = [
    "inputs, weights and states hold finite numbers",
    "values are extended reals: rounding is not part of the proof",
    "where the source is undefined (an infinity minus itself, a division by 0) nothing is claimed",
];

/// A store of a plan: the number of its kernel, and its own within the kernel.
pub type At = (usize, usize);

/// All stores of a plan, in its order.
pub fn stores(plan: &Plan) -> Vec<At> {
    plan.kernels
        .iter()
        .enumerate()
        .flat_map(|(k, kernel)| (0..kernel.stores.len()).map(move |s| (k, s)))
        .collect()
}

/// Checks the certificates of a plan, one per store in the order of [`stores`].
pub fn check_plan(
    context: Context<'_>,
    certificates: &[Result<Certificate, String>],
) -> Vec<Result<Verdict, Refusal>> {
    let mut checker = Checker::new(context);
    let missing = Err("there is none".to_owned());
    stores(context.plan)
        .into_iter()
        .enumerate()
        .map(|(n, at)| match certificates.get(n).unwrap_or(&missing) {
            Ok(c) => checker.check(at, c),
            Err(reason) => {
                checker.refused(at);
                Err(Refusal::Absent(reason.clone()))
            }
        })
        .collect()
}

/// A checker of the certificates of one plan, kernel by kernel in the plan's order.
#[derive(Clone)]
pub struct Checker<'a> {
    context: Context<'a>,
    terms: Terms,
    /// A normaliser per law, since most steps have no premises.
    normals: Vec<Normal>,
    canonical: Canonical,
    graph: String,
    /// What other kernels store: the canonical source and result, or nothing if that was refused.
    stored: BTreeMap<Value, Option<(Id, Id)>>,
    stores: BTreeSet<Value>,
    /// Folds of the certificate at hand of which its steps say that they are folds.
    folds: BTreeSet<Id>,
    /// The same of certificates whose values other kernels read, in canonical form.
    proved: BTreeSet<Id>,
}

/// What the checker derives from the terms and the plan.
struct Derived {
    verdict: Verdict,
    certificate: Certificate,
}

impl<'a> Checker<'a> {
    /// For a plan.
    pub fn new(context: Context<'a>) -> Checker<'a> {
        let mut terms = Terms::default();
        declare(&mut terms, &context.plan.axes, &context.plan.values, context.symbols);
        let stores = context.plan.kernels.iter().flat_map(|k| &k.stores).map(|s| s.value);
        Checker {
            terms,
            normals: LAWS.iter().map(|l| Normal::new(l.rules)).collect(),
            canonical: Canonical::new(laws::PLAN),
            graph: sha256(print_function(context.function, context.symbols).as_bytes()),
            stored: BTreeMap::new(),
            stores: stores.filter(|&v| readable(context.plan, v)).collect(),
            folds: BTreeSet::new(),
            proved: BTreeSet::new(),
            context,
        }
    }

    fn refused(&mut self, (kernel, store): At) {
        self.stored.insert(self.context.plan.kernels[kernel].stores[store].value, None);
    }

    /// Notes that a store has no certificate, for a reason.
    pub fn absent(&mut self, at: At, reason: &str) -> Refusal {
        self.refused(at);
        Refusal::Absent(reason.to_owned())
    }

    /// Checks the certificate of a store. Kernels that its kernel reads from come first.
    pub fn check(&mut self, at: At, c: &Certificate) -> Result<Verdict, Refusal> {
        let outcome = self.examine(at, c).and_then(|derived| {
            let d = &derived.certificate;
            let fields: [(&'static str, bool); 15] = [
                ("schema", c.schema == d.schema),
                ("laws", c.laws == d.laws),
                ("graph", c.graph == d.graph),
                ("plan", c.plan == d.plan),
                ("function", c.function == d.function),
                ("kernel", c.kernel == d.kernel),
                ("value", c.value == d.value),
                ("forwarded", c.forwarded == d.forwarded),
                ("axes", c.axes == d.axes),
                ("leaves", c.leaves == d.leaves),
                ("assumptions", c.assumptions == d.assumptions),
                ("folds", c.folds == d.folds),
                ("refinements", c.refinements == d.refinements),
                ("stability", c.stability == d.stability),
                ("stored", c.stored == d.stored),
            ];
            match fields.iter().find(|(_, same)| !same) {
                Some((field, _)) => {
                    Err(Refusal::Field { field, reason: "is not what follows from the rest".into() })
                }
                None => Ok(derived.verdict),
            }
        });
        if outcome.is_err() {
            self.refused(at);
        }
        outcome
    }

    /// Fills in all that follows from the terms, the steps and the plan. For the writer, whose certificates are checked
    /// like any other.
    pub fn seal(&mut self, at: At, c: &Certificate) -> Result<Certificate, Refusal> {
        match self.examine(at, c) {
            Ok(derived) => Ok(derived.certificate),
            Err(e) => {
                self.refused(at);
                Err(e)
            }
        }
    }

    fn examine(&mut self, (kernel, store): At, c: &Certificate) -> Result<Derived, Refusal> {
        let Context { function, plan, symbols } = self.context;
        let kernel =
            plan.kernels.get(kernel).ok_or_else(|| Refusal::Result("there is no such kernel".into()))?;
        let store =
            kernel.stores.get(store).ok_or_else(|| Refusal::Result("there is no such store".into()))?;
        if kernel.runs.is_some() {
            return Err(Refusal::Result(
                "a pass that is cut into runs has no term; certify the whole pass".into(),
            ));
        }
        let ids = self.load(&c.nodes)?;
        let id = |row: u32, field| {
            ids.get(row as usize)
                .copied()
                .ok_or(Refusal::Field { field, reason: format!("there is no node {row}") })
        };
        let (source, result) = (id(c.source, "source")?, id(c.result, "result")?);
        let mut forwarded = false;
        if function.values.get(store.value).is_some() {
            let mut from = Source::new(function).forwarding(c.forwarded);
            let derived = from.root(&mut self.terms, store.value).ok_or(Refusal::Source)?;
            forwarded = from.forwarded;
            if self.canonical(derived) != self.canonical(source) {
                return Err(Refusal::Source);
            }
        }
        for n in self.normals.iter_mut() {
            n.assumptions.clear();
        }
        let laws = self.steps(c, &ids)?;
        let assumptions: BTreeSet<String> = c
            .steps
            .iter()
            .filter_map(|s| {
                if let Step::Law { law, .. } = s { LAWS.iter().position(|l| l.name == law) } else { None }
            })
            .flat_map(|n| self.normals[n].assumptions.iter().cloned())
            .collect();
        match c.steps.last() {
            None if c.source == c.result => {}
            Some(last) if last.sides() == (c.source, c.result) => {}
            _ => {
                return Err(Refusal::Field {
                    field: "steps",
                    reason: "do not lead from source to result".into(),
                });
            }
        }
        self.all_used(c)?;
        let stored = self.result(kernel, store, c, result)?;
        let (source, result) = (self.canonical(source), self.canonical(result));
        if readable(plan, store.value) {
            self.stored.insert(store.value, Some((source, result)));
        }
        let mut bare = kernel.clone();
        bare.derivation.clear();
        bare.boundaries.clear();
        let mut assumptions: Vec<String> = assumptions.into_iter().map(|a| self.with_names(&a)).collect();
        assumptions.extend(STANDING.iter().map(|s| (*s).to_owned()));
        let verdict =
            Verdict { laws, assumptions: assumptions.clone(), steps: c.steps.len(), nodes: c.nodes.len() };
        let (folds, stability) = self.judge(c, &ids)?;
        if plan.kernels.iter().any(|k| plan.touches(k).0.contains(&store.value)) {
            for fold in std::mem::take(&mut self.folds) {
                let form = self.canonical(fold);
                self.proved.insert(form);
            }
        }
        let certificate = Certificate {
            schema: SCHEMA,
            laws: laws::table_hash(),
            graph: self.graph.clone(),
            plan: sha256(print_kernel(plan, &bare, symbols).as_bytes()),
            function: function.name.clone(),
            kernel: kernel.name.clone(),
            value: store.value.to_string(),
            forwarded,
            axes: self.axes(&ids),
            leaves: self.leaves(&ids),
            assumptions,
            stored,
            folds,
            refinements: kernel.refinements.clone(),
            stability,
            ..c.clone()
        };
        Ok(Derived { verdict, certificate })
    }

    /// Whether a kernel that came before stores what was made by this fold.
    fn was_proved(&mut self, fold: Id) -> bool {
        if self.proved.is_empty() {
            return false;
        }
        let form = self.canonical(fold);
        self.proved.contains(&form)
    }

    fn canonical(&mut self, id: Id) -> Id {
        self.canonical.of(&mut self.terms, id)
    }

    /// Assumptions name axes as the function does.
    fn with_names(&self, text: &str) -> String {
        let words: Vec<String> = text
            .split(' ')
            .map(|w| {
                let axis = w.strip_prefix("ax").and_then(|n| n.parse().ok()).map(Axis::from_u32);
                axis.and_then(|a| self.context.plan.axes.get(a))
                    .map_or_else(|| w.to_owned(), |d| d.name.clone())
            })
            .collect();
        words.join(" ")
    }

    fn load(&mut self, rows: &[NodeRow]) -> Result<Vec<Id>, Refusal> {
        let mut ids: Vec<Id> = Vec::new();
        let mut seen = HashSet::default();
        let mut depths: Vec<u32> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let bad = |reason: &str| Refusal::Node { at, reason: reason.to_owned() };
            let parsed = node(row).ok_or_else(|| bad("is not a node"))?;
            if parsed.children().iter().any(|&c| c as usize >= at) {
                return Err(bad("refers to what does not come before it"));
            }
            let depth = parsed.children().iter().map(|&c| depths[c as usize] + 1).max().unwrap_or(0);
            if at > 0 && (depths[at - 1], &rows[at - 1]) >= (depth, row) {
                return Err(bad("is out of order"));
            }
            if depth > DEPTH {
                return Err(bad("nests too many operations"));
            }
            depths.push(depth);
            self.known(&parsed).map_err(|e| bad(&e))?;
            let mut parsed = parsed.map(|c| ids[c as usize]);
            if let Node::Add(c) | Node::Mul(c) | Node::Max(c) | Node::Min(c) = &mut parsed {
                c.sort_unstable();
            }
            let id = self.terms.add(parsed);
            if !seen.insert(id) {
                return Err(bad("is there twice"));
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// That a node names only axes, tensors and symbols that exist, and tensors with all their indices.
    fn known(&self, n: &Node) -> Result<(), String> {
        let plan = self.context.plan;
        let axis = |a: Axis| plan.axes.get(a).map(|_| ()).ok_or_else(|| format!("there is no axis {a}"));
        match n {
            Node::Pos(a) | Node::CutPos(a) | Node::Part(a, _) | Node::Fold(a, ..) => axis(*a),
            Node::Reduce(_, pieces, _) => pieces.iter().try_for_each(|p| axis(p.axis)),
            Node::Size(tilewright_ir::Extent::Sym(s)) => {
                self.context.symbols.get(*s).map(|_| ()).ok_or_else(|| format!("there is no symbol {s}"))
            }
            Node::Read(v, index) => match self.context.function.values.get(*v) {
                Some(data) if data.axes.len() == index.len() => Ok(()),
                Some(_) => Err(format!("{v} is read with the wrong number of indices")),
                None => Err(format!("there is no tensor {v} in the graph")),
            },
            _ => Ok(()),
        }
    }

    /// Checks the steps; the laws with the number of steps of each.
    fn steps(&mut self, c: &Certificate, ids: &[Id]) -> Result<BTreeMap<String, usize>, Refusal> {
        let mut laws = BTreeMap::new();
        let mut pairs = HashSet::default();
        let mut derived = Vec::new();
        let mut scope = Scope::default();
        for (at, step) in c.steps.iter().enumerate() {
            let bad = |reason: &str| Refusal::Step { at, reason: reason.to_owned() };
            let (lhs, rhs) = step.sides();
            let (Some(&l), Some(&r)) = (ids.get(lhs as usize), ids.get(rhs as usize)) else {
                return Err(bad("is about nodes that do not exist"));
            };
            if lhs == rhs || !pairs.insert((lhs, rhs)) {
                return Err(bad("says nothing new"));
            }
            if step.uses().iter().any(|&u| u as usize >= at) {
                return Err(bad("refers to what does not come before it"));
            }
            let earlier = |n: &u32| c.steps[*n as usize].sides();
            match step {
                Step::Law { law: name, premises, .. } => {
                    let Some(position) = LAWS.iter().position(|l| l.name == name) else {
                        return Err(Refusal::UnknownLaw { at, law: name.clone() });
                    };
                    if !premises.is_sorted_by(|a, b| a < b) {
                        return Err(bad("has premises out of order"));
                    }
                    let mut equal: Vec<(Id, Id)> = premises
                        .iter()
                        .map(earlier)
                        .map(|(a, b)| (ids[a as usize], ids[b as usize]))
                        .collect();
                    if let ("fold", [premise]) = (name.as_str(), &premises[..]) {
                        let fold = together::premise(&mut self.terms, equal[0], (l, r))
                            .and_then(|fold| match fold {
                                Some(_) if !scope.everywhere[*premise as usize] => {
                                    Err("its premise does not hold for all blocks".into())
                                }
                                _ => Ok(fold),
                            })
                            .map_err(|e| bad(&format!("`{name}`: {e}")))?;
                        if let Some(fold) = fold {
                            derived.push(fold);
                            equal.clear();
                        }
                    }
                    instance(&mut self.terms, &mut self.normals, position, l, r, &equal)
                        .map_err(|e| bad(&format!("`{name}`: {e}")))?;
                    *laws.entry(name.clone()).or_default() += 1;
                }
                Step::Congruence { children, .. } => {
                    let equal: Vec<(Id, Id)> = children
                        .iter()
                        .map(earlier)
                        .map(|(a, b)| (ids[a as usize], ids[b as usize]))
                        .collect();
                    if equal.is_empty() || !congruent(&self.terms, l, r, &equal) {
                        return Err(bad("the two sides do not differ by the given equalities"));
                    }
                    let sorted = children.iter().map(earlier).collect::<Vec<_>>();
                    let commutes = matches!(
                        self.terms.node(l),
                        Node::Add(_) | Node::Mul(_) | Node::Max(_) | Node::Min(_)
                    );
                    if commutes && !sorted.is_sorted() {
                        return Err(bad("its equalities are out of order"));
                    }
                    if let Node::Part(j, a) = *self.terms.node(l) {
                        let Node::Part(_, b) = *self.terms.node(r) else {
                            return Err(bad("a part is no part"));
                        };
                        let uniform = children.iter().all(|&u| scope.uniform[u as usize]);
                        let restricted = [a, b].iter().all(|&x| restrictable(&self.terms, x, j));
                        if !uniform || !restricted {
                            return Err(bad(
                                "equal terms have equal parts only if no law looks at the extent",
                            ));
                        }
                    }
                }
                Step::Chain { steps, .. } => {
                    let mut here = lhs;
                    for (n, s) in steps.iter().enumerate() {
                        if matches!(c.steps[*s as usize], Step::Chain { .. }) {
                            return Err(bad("a chain within a chain"));
                        }
                        let (from, to) = earlier(s);
                        let again = steps[..n].iter().any(|e| earlier(e).0 == to);
                        if from != here || again {
                            return Err(bad("is broken"));
                        }
                        here = to;
                    }
                    if here != rhs || steps.len() < 2 {
                        return Err(bad("does not end where it says"));
                    }
                }
            }
            scope.add(step);
        }
        let sides = c.steps.iter().map(Step::sides);
        let equal = sides.zip(scope.everywhere).filter(|(_, holds)| *holds);
        let equal = equal.map(|((l, r), _)| (ids[l as usize], ids[r as usize]));
        self.folds = together::folds(&mut self.terms, ids, &derived, equal).into_iter().collect();
        Ok(laws)
    }

    /// That every step and every node is referred to.
    fn all_used(&self, c: &Certificate) -> Result<(), Refusal> {
        // Whatever is referred to is there: that was checked.
        let mut steps = vec![false; c.steps.len()];
        c.steps.iter().flat_map(Step::uses).for_each(|&n| steps[n as usize] = true);
        if let Some(last) = steps.last_mut() {
            *last = true;
        }
        if let Some(at) = steps.iter().position(|used| !used) {
            return Err(Refusal::Step { at, reason: "nothing refers to it".into() });
        }
        let mut nodes = vec![false; c.nodes.len()];
        let sides = c.steps.iter().flat_map(|s| <[u32; 2]>::from(s.sides()));
        let rows = c.nodes.iter().flat_map(|n| n.args.iter().copied());
        rows.chain(sides).chain([c.source, c.result]).for_each(|n| nodes[n as usize] = true);
        match nodes.iter().position(|used| !used) {
            Some(at) => Err(Refusal::Node { at, reason: "nothing refers to it".into() }),
            None => Ok(()),
        }
    }

    /// That the result is what the kernel computes; the values of other kernels that it reads.
    fn result(
        &mut self,
        kernel: &KernelPlan,
        store: &Store,
        c: &Certificate,
        result: Id,
    ) -> Result<Vec<StoredRow>, Refusal> {
        let Context { function, plan, .. } = self.context;
        let wrong = |reason: &str| Refusal::Result(reason.to_owned());
        let mut rows = Vec::new();
        let mut stored: BTreeMap<Value, Id> = BTreeMap::new();
        for v in reads(kernel, store).into_iter().filter(|v| self.stores.contains(v)) {
            let Some(&Some((source, result))) = self.stored.get(&v) else {
                return Err(Refusal::Rests { on: v.to_string() });
            };
            let name = v.to_string();
            let form = c.stored.iter().find(|r| r.value == name).map_or("source", |r| r.form.as_str());
            let term = match form {
                "result" if source != result => result,
                _ => source,
            };
            let form = if term == source { "source" } else { "result" };
            stored.insert(v, term);
            rows.push(StoredRow { value: name, form: form.to_owned() });
        }
        let mut k = Kernel::new(plan, kernel, &stored).judged();
        let term = k.expr(&mut self.terms, &store.expr).map_err(Refusal::Result)?;
        let index: Vec<Id> = store
            .index
            .iter()
            .map(|i| k.expr(&mut self.terms, i))
            .collect::<Result<_, _>>()
            .map_err(Refusal::Result)?;
        // Where it goes.
        let update = function.values.get(store.value).map(|d| &d.def);
        let (axes, places): (&[Axis], Vec<Id>) = match update {
            Some(Def::Update { domain, index, .. }) => {
                let mut k = Kernel::new(plan, kernel, &stored);
                let places = index.iter().map(|i| k.expr(&mut self.terms, i)).collect::<Result<_, _>>();
                (domain, places.map_err(Refusal::Result)?)
            }
            _ => {
                let axes = &plan.values[store.value].axes;
                (axes, axes.iter().map(|&a| self.terms.add(Node::Pos(a))).collect())
            }
        };
        let same_place = index.len() == places.len()
            && index.iter().zip(&places).all(|(&a, &b)| self.canonical(a) == self.canonical(b));
        if store.axes != axes || !same_place {
            return Err(wrong("it is stored somewhere else"));
        }
        let (a, b) = (self.canonical(term), self.canonical(result));
        if a != b {
            return Err(wrong("the terms differ"));
        }
        Ok(rows)
    }

    fn judge(&mut self, c: &Certificate, ids: &[Id]) -> Result<(Vec<FoldRow>, Vec<StabilityRow>), Refusal> {
        let mut within = BTreeSet::from([c.result]);
        for n in (0..c.nodes.len()).rev() {
            if within.contains(&(n as u32)) {
                within.extend(c.nodes[n].args.iter().copied());
            }
        }
        let (mut folds, mut stability) = (Vec::new(), Vec::new());
        for &row in &within {
            let id = ids[row as usize];
            let node = self.terms.node(id).clone();
            if let Node::Fold(_, op, children) = &node {
                let law = match self.folds.contains(&id) || self.was_proved(id) {
                    true => order::TOGETHER,
                    false => check_node(&mut self.terms, &node)
                        .map_err(|reason| Refusal::Node { at: row as usize, reason })?,
                };
                folds.push(FoldRow {
                    node: row,
                    identity: op.identity().to_string(),
                    tracks: (children.len() as u32 - 2) / 2,
                    cocycle: law.into(),
                });
            }
            if let Some(judgement) = judge(&mut self.terms, id) {
                stability.push(StabilityRow { node: row, judgement });
            }
        }
        Ok((folds, stability))
    }

    fn axes(&self, ids: &[Id]) -> Vec<AxisRow> {
        let mut out = BTreeSet::new();
        for &id in ids {
            match self.terms.node(id) {
                Node::Pos(a) | Node::CutPos(a) | Node::Part(a, _) | Node::Fold(a, ..) => {
                    out.insert(*a);
                }
                Node::Reduce(_, pieces, _) => out.extend(pieces.iter().map(|p| p.axis)),
                _ => {}
            }
        }
        out.into_iter()
            .map(|a| {
                let data = &self.context.plan.axes[a];
                AxisRow { axis: a.to_string(), name: data.name.clone(), extent: extent(data.extent) }
            })
            .collect()
    }

    fn leaves(&self, ids: &[Id]) -> Vec<LeafRow> {
        let mut out = BTreeSet::new();
        for &id in ids {
            if let Node::Read(v, _) = self.terms.node(id) {
                out.insert(*v);
            }
        }
        out.into_iter()
            .map(|v| {
                let data = &self.context.function.values[v];
                let assumption = match data.dtype {
                    DType::Bool => "truth values",
                    d if d.is_int() => "integers",
                    _ => "finite numbers",
                };
                LeafRow {
                    value: v.to_string(),
                    name: data.name.clone(),
                    dtype: data.dtype.to_string(),
                    assumption: assumption.into(),
                }
            })
            .collect()
    }
}

/// Whether the value of a tensor is what its kernel stores: updates of states are tensors of their own.
fn readable(plan: &Plan, v: Value) -> bool {
    v.as_u32() >= plan.first_temp || plan.values.get(v).is_some_and(|d| matches!(d.def, Def::Equation(_)))
}

/// Whether two terms are equal by a law modulo premises, and by no earlier law of the table, and not without one of the
/// premises.
pub(crate) fn instance(
    t: &mut Terms,
    normals: &mut [Normal],
    position: usize,
    l: Id,
    r: Id,
    premises: &[(Id, Id)],
) -> Result<(), String> {
    if !equal(t, normals, position, l, r, premises) {
        return Err("the two sides have different normal forms".into());
    }
    if let Some(n) = (0..position).find(|&n| equal(t, normals, n, l, r, premises)) {
        let what = if LAWS[n].name == PLAIN { "no law is needed" } else { LAWS[n].name };
        return Err(format!("follows from less: {what}"));
    }
    for n in 0..premises.len() {
        let mut fewer = premises.to_vec();
        fewer.remove(n);
        if equal(t, normals, position, l, r, &fewer) {
            return Err("a premise is not needed".into());
        }
    }
    Ok(())
}

/// Whether two terms have one normal form under the rules of a law.
pub(crate) fn equal(
    t: &mut Terms,
    normals: &mut [Normal],
    position: usize,
    l: Id,
    r: Id,
    premises: &[(Id, Id)],
) -> bool {
    if premises.is_empty() {
        let n = &mut normals[position];
        if n.apart(t, l, r) {
            return false;
        }
        return n.of(t, l) == n.of(t, r);
    }
    let mut n = Normal::modulo(LAWS[position].rules, premises);
    let same = n.of(t, l) == n.of(t, r);
    normals[position].assumptions.append(&mut n.assumptions);
    same
}

/// Whether two nodes are the same operation on operands that are equal by the given equalities, each used once.
fn congruent(t: &Terms, l: Id, r: Id, equal: &[(Id, Id)]) -> bool {
    let (a, b) = (t.node(l), t.node(r));
    if !a.same_head(b) {
        return false;
    }
    match a {
        Node::Add(_) | Node::Mul(_) | Node::Max(_) | Node::Min(_) => {
            let (mut left, mut right) = (a.children().to_vec(), b.children().to_vec());
            for (x, y) in equal {
                let (Some(m), Some(n)) =
                    (left.iter().position(|c| c == x), right.iter().position(|c| c == y))
                else {
                    return false;
                };
                left.remove(m);
                right.remove(n);
            }
            left.sort_unstable();
            right.sort_unstable();
            left == right
        }
        _ => {
            let mut given = equal.iter();
            let all =
                a.children().iter().zip(b.children()).all(|(x, y)| x == y || given.next() == Some(&(*x, *y)));
            all && given.next().is_none()
        }
    }
}

/// What is true of each equality because it is true of every law that it follows from.
#[derive(Default)]
struct Scope {
    /// No law looks at the extent of an axis.
    uniform: Vec<bool>,
    /// All laws hold for any consecutive positions of an axis, however they are cut.
    everywhere: Vec<bool>,
}

impl Scope {
    /// Adds the next step, which uses earlier ones.
    fn add(&mut self, step: &Step) {
        let of = match step {
            Step::Law { law: name, .. } => law(name),
            _ => law(PLAIN),
        };
        let all = |known: &[bool]| step.uses().iter().all(|&u| known[u as usize]);
        let uniform = of.is_some_and(|l| l.uniform) && all(&self.uniform);
        let everywhere = of.is_some_and(|l| l.everywhere) && all(&self.everywhere);
        self.uniform.push(uniform);
        self.everywhere.push(everywhere);
    }
}

/// The tensors that a store of a kernel needs, in order of first occurrence.
fn reads(kernel: &KernelPlan, store: &Store) -> Vec<Value> {
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    let mut todo: Vec<&Ex> = store.index.iter().chain([&store.expr]).collect();
    todo.reverse();
    while let Some(e) = todo.pop() {
        let mut locals = Vec::new();
        e.visit(&mut |e| match e {
            Expr::Read(v, _) if !out.contains(v) => out.push(*v),
            Expr::Local(l) => locals.push(*l),
            _ => {}
        });
        while let Some(l) = locals.pop() {
            if !seen.insert(l) {
                continue;
            }
            match kernel.locals.get(l).map(|l| &l.def) {
                Some(LocalDef::Map(e)) => todo.push(e),
                Some(LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. }) => todo.push(body),
                Some(LocalDef::Running { block, .. }) => todo.push(block),
                Some(LocalDef::Fold { block, action, tracks, .. }) => {
                    todo.extend([block, action]);
                    locals.extend(tracks.iter().flat_map(|&(t, y)| [t, y]));
                }
                None => {}
            }
        }
    }
    out
}
