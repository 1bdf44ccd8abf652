//! Certificates: the e-graph's proof of each stored value, written down for the checker of `tilewright-proof`.
//!
//! Why here: only the search knows why two terms are equal. Its proof is a chain of unions, each with the name of its law;
//! here each union becomes a step between two whole terms, operands that changed become congruence (`steps`), and what a law
//! did not say but used (that an operand equals a product, and so was flattened) becomes a premise with a proof of its own
//! (`premises`). It ends at what the kernel computes, as the partition has grouped it (`extracted`).
//!
//! Post: what is written is checked by the checker as anybody's would be; a step that is no instance of its law, or that
//! the checker does not know, leaves the store without a certificate and says why.

mod extracted;
mod premises;
mod steps;
mod terms;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use egg::{Id, TreeTerm};
use tilewright_ir::graph::{Def, Function};
use tilewright_ir::plan::Plan;
use tilewright_ir::{PrimaryMap, Sym, SymData, Value};
use tilewright_proof::build::{Builder, Proof};
use tilewright_proof::cert::StoredRow;
use tilewright_proof::check::{Checker, Context, Refusal, stores};
use tilewright_proof::rename::uncut;
use tilewright_proof::{Certificate, term};

use crate::algebra::dag::NO_CLASS;
use crate::algebra::ingest::Ingested;
use crate::algebra::{Dag, Graph, NodeId, Term};
use crate::partition::canon::{Canons, Form};
use crate::partition::group::heavy;
use extracted::Extracted;

/// E-nodes above which proofs are taken as they are found: to look for shorter ones each time would go through all of them.
pub(crate) const LARGE: usize = 500;

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
