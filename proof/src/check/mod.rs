//! The checker.
//!
//! A certificate is accepted if the source term is what the graph says, every step follows by a law of the table (or by
//! congruence or transitivity) from earlier ones (`steps`), the last step is between source and result, and the result is
//! what the kernel of the plan computes (`result`). Everything else in a certificate (axes, tensors, assumptions, folds,
//! stability, hashes) is derived here again and must be the same (`derived`). Nothing may be left over: a step or a term that
//! nothing refers to is refused.
//!
//! Pre: a verified function and its plan. Post: a verdict per certificate; a kernel that reads what a refused kernel
//! stores is refused too.

mod derived;
mod instance;
mod nodes;
mod result;
mod steps;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::graph::{Def, Function};
use tilewright_ir::plan::Plan;
use tilewright_ir::text::{print_function, print_kernel};
use tilewright_ir::{PrimaryMap, Sym, SymData, Value};

pub(crate) use instance::{equal, instance};
pub use verdict::{Refusal, Verdict};

use crate::cert::{Certificate, SCHEMA, Step};
use crate::hash::sha256;
use crate::laws::{self, LAWS};
use crate::normal::Normal;
use crate::rename::Canonical;
use crate::source::{Source, declare};
use crate::term::{Id, Terms};

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

    fn canonical(&mut self, id: Id) -> Id {
        self.canonical.of(&mut self.terms, id)
    }
}

/// Whether the value of a tensor is what its kernel stores: updates of states are tensors of their own.
fn readable(plan: &Plan, v: Value) -> bool {
    v.as_u32() >= plan.first_temp || plan.values.get(v).is_some_and(|d| matches!(d.def, Def::Equation(_)))
}
