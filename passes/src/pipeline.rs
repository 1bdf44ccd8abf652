//! The pipeline: one function, from a module to a step.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tilewright_ir::graph::Module;
use tilewright_ir::plan::Plan;
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;
use tilewright_ir::{DType, Func};
use tilewright_proof::Certificate;

use crate::PassError;
use crate::algebra::extract::{Sizes, extract};
use crate::algebra::ingest::ingest;
use crate::algebra::saturate::{Budget, Summary, saturate};
use crate::certify::certify;
use crate::explain::explain;
use crate::partition::{CostModel, Objective, build, cuts, group};
use crate::schedule::{blocks, lower};
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
    /// Laws that may not be used, by name.
    pub disabled_laws: Vec<String>,
    /// Whether certificates are written.
    pub certify: bool,
}

/// A compiled module.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The plan of each function.
    pub plans: Vec<(Func, Plan)>,
    /// The programs, in the order of plans and kernels; names are unique.
    pub programs: Vec<TileProgram>,
    /// The step.
    pub step: Step,
    /// The certificates of each function, one per store of its plan in the plan's order, or why there is none; empty
    /// unless they were asked for.
    pub certificates: Vec<(Func, Vec<Result<Certificate, String>>)>,
    /// What the search of each function did.
    pub searches: Vec<(String, Summary)>,
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
        let mut ingested = ingest(function, &module.symbols)?;
        clock.lap("ingest");
        let summary = saturate(&mut ingested, options.budget, &options.disabled_laws);
        clock.lap("saturate");
        let sizes = Sizes::new(&ingested.axes, &module.symbols);
        let dag = extract(&ingested, &sizes)?;
        clock.lap("extract");
        let dag = group::group(&dag, &ingested.graph, &sizes);
        let roots: Vec<_> = dag
            .roots
            .iter()
            .zip(&ingested.roots)
            .map(|(&n, r)| (n, r.axes.iter().map(|&a| crate::algebra::SubAxis::whole(a)).collect()))
            .collect();
        let cuts =
            cuts::Cutter::new(&dag, &ingested.axes, &sizes, options.cost, options.objective).decide(&roots);
        let narrow = narrow(&function.options);
        let storage = narrow.unwrap_or_else(|| widest(function));
        let (mut plan, stored) = build::build(function, &ingested, &dag, &sizes, &cuts, storage)?;
        clock.lap("partition");
        explain(&mut ingested, &dag, &mut plan, &stored, &module.symbols);
        clock.lap("explain");
        let mut lowered = Vec::new();
        for kernel in &mut plan.kernels {
            let n = names.entry(kernel.name.clone()).or_default();
            *n += 1;
            if *n > 1 {
                kernel.name = format!("{}_{n}", kernel.name);
            }
        }
        for k in 0..plan.kernels.len() {
            let kernel = &plan.kernels[k];
            let blocks = blocks::choose(&plan, kernel, &module.symbols, narrow.is_some());
            let (program, params, refinements) = lower(&plan, kernel, &module.symbols, &blocks, narrow)?;
            plan.kernels[k].refinements = refinements;
            lowered.push(Kernel { program: program.clone(), params });
            out.programs.push(program);
        }
        clock.lap("lower");
        if options.certify {
            let all = certify(function, &mut ingested, &dag, &plan, &stored, &module.symbols);
            out.certificates.push((func, all));
            clock.lap("certify");
        }
        out.searches.push((function.name.clone(), summary));
        out.plans.push((func, plan.clone()));
        plans.insert(func, plan);
        kernels.insert(func, lowered);
    }
    let start = Instant::now();
    out.step = step::build(module, &plans, &kernels)?;
    out.timings.push(("step".into(), start.elapsed()));
    Ok(out)
}

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
