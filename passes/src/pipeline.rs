//! The pipeline: one function, from a module to a step.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cranelift_entity::PrimaryMap;
use tilewright_ir::chain as ir_chain;
use tilewright_ir::graph::Module;
use tilewright_ir::plan::Plan;
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;
use tilewright_ir::verify::{describe, verify_plan};
use tilewright_ir::{DType, Func, Sym, SymData};
use tilewright_proof::Certificate;

use crate::PassError;
use crate::algebra::dot;
use crate::algebra::saturate::{Budget, Summary};
use crate::candidates::{Candidates, Choice, Searched, candidates, cheapest, launched};
use crate::certify::certify;
use crate::constants;
use crate::explain::{explain, tell_risks};
use crate::partition::{CostModel, Objective};
use crate::schedule::chain::Part;
use crate::schedule::{blocks, chain, lower, merge, rows, runs};
use crate::step::{self, Kernel, narrow};

/// What the passes may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The budget of the search.
    pub budget: Budget,
    /// The machine that costs are estimated for.
    pub cost: CostModel,
    /// What plans are chosen for.
    pub objective: Objective,
    /// The candidate to take, by name, instead of the cheapest.
    pub candidate: Option<String>,
    /// Candidates that may not be taken.
    pub refused: Vec<Refused>,
    /// Laws that may not be used, by name.
    pub disabled_laws: Vec<String>,
    /// Whether certificates are written.
    pub certify: bool,
    /// Whether each pass over an axis stays in one kernel, however few blocks that has.
    pub whole_passes: bool,
    /// Draw e-graphs of up to so many nodes; larger ones are refused.
    pub egraph_dot: Option<usize>,
}

/// A candidate that may not be taken, because of what was found out about it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The function.
    pub function: String,
    /// A name of the candidate.
    pub candidate: String,
    /// Why.
    pub why: String,
}

/// A compiled module.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The plan of each function.
    pub plans: Vec<(Func, Plan)>,
    /// The plans that the certificates are about, whose passes are whole; passes in runs are compared with them.
    pub certified: Vec<(Func, Plan)>,
    /// The programs, in the order of plans and kernels; names are unique.
    pub programs: Vec<TileProgram>,
    /// The step.
    pub step: Step,
    /// What runs once, when weights are loaded, before the step runs for the first time; its kernels are among `programs`.
    pub prologue: Option<Step>,
    /// The certificates of each function, one per store of its plan in the plan's order, or why there is none; empty
    /// unless they were asked for.
    pub certificates: Vec<(Func, Vec<Result<Certificate, String>>)>,
    /// What the search of each function did.
    pub searches: Vec<(String, Summary)>,
    /// The e-graph of each function in the language of Graphviz; empty unless it was asked for.
    pub egraphs: Vec<(String, String)>,
    /// The candidates of each function, in the order of `plans`.
    pub choices: Vec<(String, Choice)>,
    /// Where the time went, by pass.
    pub timings: Vec<(String, Duration)>,
}

/// Compiles a module: every function once, whatever the number of its calls.
pub fn compile_module(module: &Module, options: &Options) -> Result<Compiled, PassError> {
    let mut out = Compiled::default();
    let mut plans = HashMap::new();
    let mut kernels = HashMap::new();
    let mut names: HashMap<String, u32> = HashMap::new();
    for (func, function) in &module.functions {
        if !module.program.iter().any(|c| c.func == func) {
            continue;
        }
        let mut clock = Clock { at: Instant::now(), timings: &mut out.timings, of: function.name.clone() };
        let narrow = narrow(&function.options);
        let storage = narrow.unwrap_or_else(|| widest(function));
        let lap = &mut |pass: &str| clock.lap(pass);
        let Candidates { mut choice, origins, mut searches, summary } =
            candidates(function, &module.symbols, options, storage, lap)?;
        let (mut plan, lowered, taken) = loop {
            let mut plan =
                launched(&choice.candidates[choice.chosen].plan, &module.symbols, function, options);
            let mut taken = names.clone();
            unique(&mut plan, &mut taken);
            match lower_all(&mut plan, &module.symbols, narrow) {
                Ok(lowered) => break (plan, lowered, taken),
                // The next best may be below the limit.
                Err(PassError::Limit(why)) if options.candidate.is_none() => {
                    choice.candidates[choice.chosen].refused = Some(why.clone());
                    choice.chosen =
                        cheapest(&choice.candidates, options.objective).ok_or(PassError::Limit(why))?;
                }
                Err(e) => return Err(e),
            }
        };
        unique(&mut choice.candidates[choice.chosen].plan, &mut names);
        names = taken;
        lap("lower");
        verify_plan(&plan, &module.symbols).map_err(|all| {
            PassError::Bug(format!("the plan of `{}` breaks {}", function.name, describe(&all)))
        })?;
        lap("verify");
        if let Some(most) = options.egraph_dot {
            // The first search is the one with all laws.
            let Some(Searched { ingested, .. }) = searches.first() else {
                return Err(PassError::Bug("there was no search".into()));
            };
            let nodes = dot::size(ingested);
            if nodes > most {
                return Err(PassError::Limit(format!(
                    "the e-graph of `{}` has {nodes} nodes, and drawings have up to {most}; a larger --egraph-nodes allows it",
                    function.name
                )));
            }
            let labels = dot::Labels { values: &function.values, symbols: &module.symbols };
            out.egraphs.push((function.name.clone(), dot::dot(&function.name, ingested, &labels)));
        }
        let origin = &origins[choice.chosen];
        let Searched { ingested, dag, taken: term, risks } = &mut searches[origin.search];
        let mut whole = choice.candidates[choice.chosen].plan.clone();
        choice.candidates[choice.chosen].risks = tell_risks(ingested, term, risks, &whole, &module.symbols);
        explain(ingested, dag, &mut whole, &origin.stored, &module.symbols);
        runs::note(&mut plan, &whole);
        lap("explain");
        if options.certify {
            // Narrowings are placed when kernels are lowered.
            for k in &mut whole.kernels {
                if let Some(lowered) = plan.kernels.iter().find(|l| l.name == k.name) {
                    k.refinements.clone_from(&lowered.refinements);
                }
            }
            let all = certify(function, ingested, dag, &whole, &origin.stored, &module.symbols);
            out.certificates.push((func, all));
            out.certified.push((func, whole));
            lap("certify");
        }
        out.programs.extend(lowered.iter().map(|k| k.program.clone()));
        out.searches.push((function.name.clone(), summary));
        out.choices.push((function.name.clone(), choice));
        out.plans.push((func, plan.clone()));
        plans.insert(func, plan);
        kernels.insert(func, lowered);
    }
    let start = Instant::now();
    let built = step::build(module, &plans, &kernels)?;
    (out.step, out.prologue) = (built.step, built.prologue);
    for step in out.prologue.iter().chain([&out.step]) {
        constants::mark(&mut out.programs, step);
    }
    out.timings.push(("step".into(), start.elapsed()));
    Ok(out)
}

/// Numbers the kernels whose names are taken.
fn unique(plan: &mut Plan, names: &mut HashMap<String, u32>) {
    for kernel in &mut plan.kernels {
        let n = names.entry(kernel.name.clone()).or_default();
        *n += 1;
        if *n > 1 {
            kernel.name = format!("{}_{n}", kernel.name);
        }
    }
}

/// Lowers the kernels of a plan and notes where they narrow.
fn lower_all(
    plan: &mut Plan,
    symbols: &PrimaryMap<Sym, SymData>,
    narrow: Option<DType>,
) -> Result<Vec<Kernel>, PassError> {
    let mut out = Vec::new();
    for kernels in ir_chain::chains(plan) {
        let at = kernels.start;
        let rows = rows::of(plan, kernels.clone())?;
        let mut parts = Vec::new();
        for k in kernels.clone() {
            let kernel = &plan.kernels[k];
            let grid = kernel.grid.clone();
            let merged = merge(plan, kernel);
            let (view, kernel) = merged.as_ref().map_or((&*plan, kernel), |(p, k)| (p, k));
            let blocks = blocks::choose_within(view, kernel, symbols, narrow, rows.as_ref());
            let (program, params, refinements) = lower(view, kernel, symbols, &blocks, narrow)?;
            plan.kernels[k].refinements = refinements;
            parts.push(Part { grid, program, params });
        }
        let (program, params) = match (rows, parts.pop()) {
            (None, Some(one)) => (one.program, one.params),
            (Some(rows), Some(last)) => {
                parts.push(last);
                chain(parts, &ir_chain::chain(plan, &kernels.collect::<Vec<_>>()), &rows)?
            }
            (_, None) => return Err(PassError::Bug("a chain of no kernels".into())),
        };
        out.push(Kernel { at, program, params });
    }
    Ok(out)
}

/// What is told the name of each stage when it is over.
pub(crate) type Lap<'a> = dyn FnMut(&str) + 'a;

struct Clock<'a> {
    at: Instant,
    timings: &'a mut Vec<(String, Duration)>,
    of: String,
}

impl Clock<'_> {
    fn lap(&mut self, pass: &str) {
        self.timings.push((format!("{pass} {}", self.of), self.at.elapsed()));
        self.at = Instant::now();
    }
}

/// The type of intermediates where the function declares none: f64 if anything is, else f32.
fn widest(function: &tilewright_ir::graph::Function) -> DType {
    if function.values.values().any(|v| v.dtype == DType::F64) { DType::F64 } else { DType::F32 }
}
