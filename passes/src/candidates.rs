//! Several plans of one function, each costed by the one cost model, and the choice between them.
//!
//! Why here: cuts are decided one by one by local estimates, and the laws offer what is best for one kernel; whether a whole
//! plan is better than another shows only when both are counted. The plan without fusion is always among them, so that
//! a derivation that does not pay is not taken, and so that reports can say what fusion brought.
//!
//! A candidate is a search (with all laws, or only with those that keep numbers in range) and a policy for cuts. Pre: a
//! verified function. Post: at least one candidate, in a fixed order, costed as its kernels will be launched; the chosen
//! one is the cheapest by the objective;
//! an earlier one keeps its place where estimates are too close to tell.

use std::collections::BTreeMap;

use cranelift_entity::PrimaryMap;
use tilewright_ir::graph::Function;
use tilewright_ir::plan::Plan;
use tilewright_ir::{DType, Sym, SymData, Value};

use crate::PassError;
use crate::algebra::costs::Sizes;
use crate::algebra::extract::{extract, risks};
use crate::algebra::ingest::{Ingested, ingest, ingest_forwarded};
use crate::algebra::laws::LAWS;
use crate::algebra::saturate::{Budget, Stop, Summary, saturate};
use crate::algebra::{Dag, NodeId, SubAxis};
use crate::partition::cost::Cost;
use crate::partition::cuts::{Cutter, Policy};
use crate::partition::{Objective, build, group, join, link};
use crate::pipeline::{Lap, Options};
use crate::report::{self, Again, PlanCount};
use crate::schedule::{inline, runs};
use crate::step::narrow;

/// Laws that only keep numbers in range. Every search has them.
pub const GUARDS: [&str; 2] = ["guard", "guard-scale"];

/// Which laws a search may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Laws {
    /// All.
    All,
    /// Only [`GUARDS`].
    Guards,
    /// All, and what an update writes is read as it was computed.
    Forwarded,
    /// The same, and all where nothing is updated.
    Most,
}

/// A way to make a candidate.
struct Variant {
    name: &'static str,
    about: &'static str,
    laws: Laws,
    policy: Policy,
}

/// The ways to make candidates, the usual winner first.
const VARIANTS: [Variant; 8] = [
    Variant {
        name: "derived",
        about: "all laws; each reduction is stored or computed in place, whichever is estimated to cost less",
        laws: Laws::All,
        policy: Policy::Objective,
    },
    Variant {
        name: "fewest-kernels",
        about: "all laws; stored is only what has to be",
        laws: Laws::All,
        policy: Policy::Needed,
    },
    Variant {
        name: "least-time",
        about: "all laws; stored is what is estimated to take less time that way",
        laws: Laws::All,
        policy: Policy::Cost(Objective::Latency),
    },
    Variant {
        name: "most-blocks",
        about: "all laws; stored is besides what streams an axis while its consumer reduces over its result",
        laws: Laws::All,
        policy: Policy::Spread,
    },
    Variant {
        name: "as-written",
        about: "no law but those that keep numbers in range; stored is what is estimated to cost less that way",
        laws: Laws::Guards,
        policy: Policy::Objective,
    },
    Variant {
        name: UNFUSED,
        about: "no law but those that keep numbers in range; each reduction is a kernel",
        laws: Laws::Guards,
        policy: Policy::Every,
    },
    Variant {
        name: "forwarded",
        about: "all laws; what an update writes is computed where it is read, besides being stored",
        laws: Laws::Forwarded,
        policy: Policy::Objective,
    },
    Variant {
        name: "by-rows",
        about: "all laws; what an update writes is computed where it is read, and a block keeps what it computes for its own rows",
        laws: Laws::Most,
        policy: Policy::Rows,
    },
];

/// The candidate that is always there.
pub const UNFUSED: &str = "unfused";

/// A plan that could be taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What it is called; further names are those of variants that gave the same plan.
    pub names: Vec<&'static str>,
    /// How it came to be.
    pub about: &'static str,
    /// The plan, without derivations.
    pub plan: Plan,
    /// What its kernels move once passes are cut into runs, at typical sizes.
    pub count: PlanCount,
    /// What it is estimated to cost.
    pub cost: Cost,
    /// Why it cannot be taken, if so.
    pub refused: Option<String>,
    /// Why it is taken only where no other can be, if so.
    pub last: Option<String>,
    /// Of the chosen one: what is computed as the source asks although numbers may overflow, be undefined or lose digits.
    pub risks: Vec<String>,
}

/// The candidates of a function and the one that was taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// In a fixed order.
    pub candidates: Vec<Candidate>,
    /// The index of the one that was taken.
    pub chosen: usize,
}

impl Choice {
    /// The plan with one kernel per reduction.
    pub fn unfused(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.names.contains(&UNFUSED))
    }
}

/// What belongs to a candidate while one is being chosen.
pub(crate) struct Origin {
    /// Which of the searches it came from.
    pub(crate) search: usize,
    /// The extracted node behind each value that a kernel stores.
    pub(crate) stored: BTreeMap<Value, NodeId>,
}

/// A search and the term that was taken from it.
pub(crate) struct Searched {
    pub(crate) ingested: Ingested,
    pub(crate) dag: Dag,
    /// The term as it was taken, before factors were gathered.
    pub(crate) taken: Dag,
    /// Where it is computed as the source asks although numbers may leave their range.
    pub(crate) risks: Vec<NodeId>,
}

/// All candidates of a function.
pub(crate) struct Candidates {
    pub(crate) choice: Choice,
    /// One per candidate.
    pub(crate) origins: Vec<Origin>,
    pub(crate) searches: Vec<Searched>,
    /// What the search with all laws did.
    pub(crate) summary: Summary,
}

/// Makes the candidates of a function. See the module.
pub(crate) fn candidates(
    function: &Function,
    symbols: &PrimaryMap<Sym, SymData>,
    options: &Options,
    storage: DType,
    lap: &mut Lap,
) -> Result<Candidates, PassError> {
    let mut kinds = vec![Laws::All, Laws::Guards];
    let mut graphs = Vec::new();
    for _ in &kinds {
        graphs.push(ingest(function, symbols)?);
    }
    // What is stored anyway takes less time to read than to compute again.
    if options.objective == Objective::Traffic {
        let forwarded = ingest_forwarded(function, symbols)?;
        if forwarded.forwarded {
            kinds.push(Laws::Forwarded);
            graphs.push(forwarded);
        }
    }
    lap("ingest");
    let mut summaries = Vec::new();
    for (ingested, &laws) in graphs.iter_mut().zip(&kinds) {
        let mut disabled = options.disabled_laws.clone();
        let mut budget = options.budget;
        if laws == Laws::Guards {
            disabled.extend(LAWS.iter().map(|l| l.name.to_owned()).filter(|n| !GUARDS.contains(&n.as_str())));
            // These laws add a few nodes per maximum; without them a plan may be wrong where numbers are large.
            budget = Budget::default();
        }
        summaries.push(saturate(ingested, budget, &disabled));
    }
    lap("saturate");
    let sizes = Sizes::new(&graphs[0].axes, symbols);
    let mut searches = Vec::new();
    for ingested in graphs {
        let taken = extract(&ingested, &sizes)?;
        let risks = risks(&ingested, &taken);
        let dag = group::group(&taken, &ingested.graph, &sizes);
        searches.push(Searched { ingested, dag, taken, risks });
    }
    lap("extract");
    let mut choice = Choice::default();
    let mut origins = Vec::new();
    let mut limit = None;
    for v in &VARIANTS {
        // Only what counts bytes gains by what blocks keep.
        let most = match kinds.last() {
            Some(&last) if options.objective == Objective::Traffic && last == Laws::Forwarded => last,
            _ if options.objective == Objective::Traffic => Laws::All,
            _ => Laws::Most,
        };
        let laws = if v.laws == Laws::Most { most } else { v.laws };
        let Some(search) = kinds.iter().position(|k| *k == laws) else { continue };
        let (plan, stored, count) =
            match planned(&searches[search], v.policy, function, symbols, options, storage) {
                Ok(planned) => planned,
                // Another candidate may have no such limit.
                Err(e @ PassError::Limit(_)) => {
                    limit.get_or_insert(e);
                    continue;
                }
                Err(e) => return Err(e),
            };
        let same = |c: &Candidate| kernels_equal(&c.plan, &plan);
        if let Some(known) = choice.candidates.iter_mut().find(|c| same(c)) {
            known.names.push(v.name);
            continue;
        }
        let cost = Cost::of(&count, &options.cost);
        // Where the search ended before the laws that keep numbers in range were tried.
        let early = summaries[search].stop != Stop::Saturated
            && searches[search].risks.len() > searches[1].risks.len();
        let refused =
            early.then(|| "the search ended before it could show that its numbers stay in range".to_owned());
        choice.candidates.push(Candidate {
            names: vec![v.name],
            about: v.about,
            plan,
            count,
            cost,
            refused,
            last: None,
            risks: Vec::new(),
        });
        origins.push(Origin { search, stored });
    }
    if options.objective == Objective::Latency {
        read_once(&mut choice.candidates);
    }
    for r in options.refused.iter().filter(|r| r.function == function.name) {
        if let Some(n) = named(&choice.candidates, &r.candidate) {
            choice.candidates[n].refused = Some(r.why.clone());
        }
    }
    choice.chosen = match &options.candidate {
        Some(name) => named(&choice.candidates, name).ok_or_else(|| {
            let names: Vec<&str> = choice.candidates.iter().flat_map(|c| c.names.iter().copied()).collect();
            PassError::Candidate(format!(
                "`{}` has no candidate `{name}`; there are {}",
                function.name,
                names.join(", ")
            ))
        })?,
        None => match cheapest(&choice.candidates, options.objective) {
            Some(chosen) => chosen,
            None => {
                let refused = choice.candidates.iter().find_map(|c| c.refused.clone().map(PassError::Limit));
                let none = || PassError::Limit(format!("`{}` has no plan", function.name));
                return Err(refused.or(limit).unwrap_or_else(none));
            }
        },
    };
    lap("partition");
    let summary = summaries.swap_remove(0);
    Ok(Candidates { choice, origins, searches, summary })
}

/// A plan that was made, with the node behind each value that a kernel stores, and its count.
type Planned = (Plan, BTreeMap<Value, NodeId>, PlanCount);

/// The plan of a term by a policy. Products of packed weights that blocks or kernels would compute again are stored; which
/// they are is known when kernels have blocks, so the plan is made again without them.
fn planned(
    searched: &Searched,
    policy: Policy,
    function: &Function,
    symbols: &PrimaryMap<Sym, SymData>,
    options: &Options,
    storage: DType,
) -> Result<Planned, PassError> {
    let Searched { ingested, dag, .. } = searched;
    let sizes = Sizes::new(&ingested.axes, symbols);
    let roots: Vec<_> = dag
        .roots
        .iter()
        .zip(&ingested.roots)
        .map(|(&n, r)| (n, r.axes.iter().map(|&a| SubAxis::whole(a)).collect()))
        .collect();
    let policy = match policy {
        Policy::Objective => Policy::Cost(options.objective),
        other => other,
    };
    // Where bytes alone count, what a kernel reads again is free.
    let once = options.objective == Objective::Latency && !matches!(policy, Policy::Needed | Policy::Every);
    let bound = report::bind(symbols, &[]);
    let mut apart = BTreeMap::new();
    loop {
        let cutter = Cutter::new(dag, function, ingested, &sizes, options.cost, policy, &apart);
        let (mut plan, stored) =
            build::build(function, ingested, dag, &sizes, &cutter.decide(&roots), storage)?;
        if policy == Policy::Rows {
            link(&mut plan);
        }
        join(&mut plan);
        let launched = launched(&plan, symbols, function, options);
        let count = report::count(&launched, symbols, &bound, narrow(&function.options));
        let known = apart.len();
        apart.extend(count.again.iter().filter(|_| once).map(|a| (a.weight, why_apart(a))));
        if apart.len() == known {
            return Ok((plan, stored, count));
        }
    }
}

/// Why the products of a weight are not computed in place.
fn why_apart(a: &Again) -> String {
    let Again { name, times, .. } = a;
    format!(
        "computing it in place would read `{name}` {times:.0} times over, and packed weights are read once"
    )
}

/// The plan whose kernels are launched: passes in runs where a whole one has too few blocks. Certificates are about the
/// plan before.
pub(crate) fn launched(
    plan: &Plan,
    symbols: &PrimaryMap<Sym, SymData>,
    function: &Function,
    options: &Options,
) -> Plan {
    let mut plan = plan.clone();
    // Runs move more bytes.
    if !options.whole_passes && options.objective == Objective::Latency {
        runs::cut(&mut plan, symbols, options.cost, narrow(&function.options));
        join(&mut plan);
        inline(&mut plan, symbols, options.cost, narrow(&function.options));
    }
    plan
}

/// Packed weights are read once: what reads one again that another candidate does not comes last.
fn read_once(candidates: &mut [Candidate]) {
    let again = |c: &Candidate, weight: Value| c.count.again.iter().any(|a| a.weight == weight);
    let more = |c: &Candidate| {
        let avoidable = |a: &&Again| candidates.iter().any(|other| !again(other, a.weight));
        c.count
            .again
            .iter()
            .find(avoidable)
            .map(|a| format!("it reads `{}` {:.0} times over", a.name, a.times))
    };
    let last: Vec<Option<String>> = candidates.iter().map(more).collect();
    for (c, why) in candidates.iter_mut().zip(last) {
        c.last = why;
    }
}

/// The cheapest candidate that can be taken: in order, one gives way to another that is clearly cheaper. What comes last
/// gives way to any other.
pub(crate) fn cheapest(candidates: &[Candidate], objective: Objective) -> Option<usize> {
    let usable = (0..candidates.len()).filter(|&n| candidates[n].refused.is_none());
    usable.reduce(|best, n| {
        let (had, other) = (&candidates[best], &candidates[n]);
        let better = match (&had.last, &other.last) {
            (Some(_), None) => true,
            (None, Some(_)) => false,
            _ => other.cost.clearly_less(&had.cost, objective),
        };
        if better { n } else { best }
    })
}

fn named(candidates: &[Candidate], name: &str) -> Option<usize> {
    candidates.iter().position(|c| c.names.contains(&name))
}

/// Whether two plans have the same kernels, whatever is said about them.
fn kernels_equal(a: &Plan, b: &Plan) -> bool {
    a.values == b.values
        && a.kernels.len() == b.kernels.len()
        && a.kernels.iter().zip(&b.kernels).all(|(x, y)| {
            x.grid == y.grid && x.locals == y.locals && x.stores == y.stores && x.continues == y.continues
        })
}
