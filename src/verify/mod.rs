//! What: checking what was compiled: certificates, exact identities, hard inputs, kernels.
//! Why here: this is where source, plan, tile programs and a device meet; each is held against the one before it.
//! Pre: a compilation.
//! Post: a report that keeps apart what was proved, what was tested, and what was neither and why.

mod inputs;
mod levels;
mod literals;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tilewright_ir::eval::{Domain, Evaluator, F64, Field, Symbols, Tensor, bind_symbols};
use tilewright_ir::{DType, graph};
use tilewright_passes::Options as PassOptions;
use tilewright_passes::candidates::{Choice, UNFUSED};
use tilewright_proof::check::{Checker, Context, STANDING, stores};
use tilewright_proof::{Certificate, Refusal, runs};
use tilewright_runtime::exec::{Array, TensorSource};
use tilewright_runtime::values::decode;

use crate::check::{allowed, narrowest, relative_error, rounding};
use crate::compiler::{Graphs, Planned};
use crate::event::Event;
use crate::{Compiler, Error, Listener, Module};
pub(crate) use inputs::made_up;
use inputs::{Inputs, Variant, rounds};
use levels::{Programs, Tally};
use literals::{Meant, meanings};

/// The moduli of the exact arithmetic: of values, and of exponents.
pub const PRIMES: [&str; 2] = ["2^61 - 2373", "2^60 - 1187"];
/// The sizes of blocks at which plans are evaluated: of one, of a few, of more than everything.
pub const BLOCKS: [usize; 3] = [1, 3, 1 << 20];
/// What proofs do not cover.
pub const TESTED: [&str; 4] = [
    "that tile programs compute their plans (lowering)",
    "that CUDA kernels compute their tile programs (code generation, NVRTC)",
    "rounding: narrowings, the order of sums, approximations of functions",
    "that the parts of a step are called on the right buffers",
];
/// The most elementary operations of one evaluation.
const MOST_WORK: f64 = 4e7;
/// The most of one run of kernels on the emulator.
const MOST_ON_DEVICE: f64 = 4e7;
/// How much larger the error of fused kernels may be than that of the plan without fusion, or than one rounding.
const ALIKE: f64 = 4.0;
/// The relative error at which two evaluations in f64 are one.
const SAME: f64 = 1e-4;

/// What to check.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed of inputs and oracles.
    pub seed: u64,
    /// Whether kernels are compiled and run on the device.
    pub kernels: bool,
}

/// The proof of one stored value.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The kernel.
    pub kernel: String,
    /// The value that it stores.
    pub value: String,
    /// The laws with the number of steps of each, or why it is not proved.
    pub outcome: Result<BTreeMap<String, usize>, Refusal>,
    /// The certificate, if there is one.
    pub certificate: Option<Certificate>,
    /// How long the checker took.
    pub time: Duration,
}

/// A test.
#[derive(Clone, Debug)]
pub struct Tested {
    /// What was tested in place of what is verified; empty where it is that itself.
    pub of: String,
    /// What was compared, e.g. `plan in blocks of 3`.
    pub what: String,
    /// The inputs, e.g. `uniform, seq = 7`.
    pub inputs: String,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a test.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Exact comparisons.
    Exact(Tally),
    /// The largest relative error, and what is allowed.
    Error {
        /// The error.
        error: f64,
        /// What is allowed.
        allowed: f64,
    },
    /// It was not made, for a reason that says nothing about what was to be tested.
    Untested(String),
    /// It could not be made because something is malformed.
    Failed(String),
}

impl Outcome {
    /// Whether it shows no mistake. (What was not tested shows none.)
    pub fn passes(&self) -> bool {
        match self {
            Outcome::Exact(t) => t.differ == 0,
            Outcome::Error { error, allowed } => error <= allowed,
            Outcome::Untested(_) => true,
            Outcome::Failed(_) => false,
        }
    }
}

/// The report of a phase.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// The name.
    pub name: String,
    /// What was proved.
    pub proofs: Vec<Proved>,
    /// How many passes are cut into runs that, with their merge, are the whole pass of a certificate.
    pub cuts: usize,
    /// Functions with a cut pass that is not, and why.
    pub wrong_cuts: Vec<String>,
    /// What was tested.
    pub tests: Vec<Tested>,
}

/// The whole report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The phases.
    pub phases: Vec<Phase>,
    /// What every proof takes for granted.
    pub assumptions: Vec<String>,
}

impl Report {
    /// Stores without a proof, and functions with a cut pass that is not the whole one.
    pub fn unproved(&self) -> usize {
        let stores = self.phases.iter().flat_map(|p| &p.proofs).filter(|p| p.outcome.is_err()).count();
        stores + self.phases.iter().map(|p| p.wrong_cuts.len()).sum::<usize>()
    }

    /// Tests that failed.
    pub fn failed(&self) -> usize {
        self.phases.iter().flat_map(|p| &p.tests).filter(|t| !t.outcome.passes()).count()
    }
}

/// Runs all checks. What is too large to be evaluated is tested on a small model of the same structure.
pub fn run(compiler: &Compiler, settings: &Settings, listener: &Listener) -> Result<Report, Error> {
    let mut options = compiler.options().clone();
    options.certify = true;
    let mut compiler = compiler.clone().pass_options(options);
    if !compiler.is_model() {
        compiler = compiler.random_weights(Some(settings.seed));
    }
    let graphs = compiler.graphs()?;
    let planned = compiler.plan()?;
    let mut report = Report { phases: Vec::new(), assumptions: Vec::new() };
    report.assumptions.extend(STANDING.iter().map(|s| (*s).to_owned()));
    for p in &planned {
        listener.tell(Event::stage(format!("checking certificates ({})", p.name)));
        let mut phase = Phase { name: p.name.clone(), proofs: proofs(p), ..Phase::default() };
        for ((_, whole), (_, plan)) in p.compiled.certified.iter().zip(&p.compiled.plans) {
            match runs::check(whole, plan) {
                Ok(cuts) => phase.cuts += cuts,
                Err(why) => phase.wrong_cuts.push(format!("@{}: {why}", plan.name)),
            }
        }
        for c in phase.proofs.iter().filter_map(|p| p.certificate.as_ref()) {
            for a in &c.assumptions {
                if !report.assumptions.contains(a) {
                    report.assumptions.push(a.clone());
                }
            }
        }
        report.phases.push(phase);
    }
    let too_large = tests(&compiler, &graphs, &planned, settings, listener, &mut report, "")?;
    if too_large && let Some((small, what)) = compiler.scaled_down(settings.seed)? {
        let (graphs, planned) = (small.graphs()?, small.plan()?);
        tests(&small, &graphs, &planned, settings, listener, &mut report, &what)?;
    }
    Ok(report)
}

/// Adds the tests of each phase. Whether some were left out because they would take too long.
fn tests(
    compiler: &Compiler,
    graphs: &Graphs,
    planned: &[Planned],
    settings: &Settings,
    listener: &Listener,
    report: &mut Report,
    about: &str,
) -> Result<bool, Error> {
    let before: Vec<usize> = report.phases.iter().map(|p| p.tests.len()).collect();
    let model = graphs.model.is_some();
    let mut too_large = false;
    for (p, phase) in planned.iter().zip(&mut report.phases) {
        listener.tell(Event::stage(format!("comparing source, plan and programs ({})", p.name)));
        for round in rounds(p, model, &graphs.symbols) {
            let at = evaluations(p, graphs.weights.as_ref(), &round, settings, &mut phase.tests);
            match at {
                Ok(done) => too_large |= !done,
                Err(e) => {
                    let mut test = untested("evaluation", &round, e.to_string());
                    if e.is_bug() {
                        test.outcome = Outcome::Failed(e.to_string());
                    }
                    phase.tests.push(test);
                }
            }
        }
    }
    if settings.kernels {
        too_large |= !kernels(compiler, model, &graphs.symbols, settings, listener, report)?;
    } else if about.is_empty() {
        for phase in &mut report.phases {
            let outcome = Outcome::Untested("they were left out on request".into());
            phase.tests.push(Tested {
                of: String::new(),
                what: "kernels".into(),
                inputs: "-".into(),
                outcome,
            });
        }
    }
    for (phase, before) in report.phases.iter_mut().zip(before) {
        for t in &mut phase.tests[before..] {
            about.clone_into(&mut t.of);
        }
    }
    Ok(too_large)
}

/// Checks the certificate of every store.
fn proofs(p: &Planned) -> Vec<Proved> {
    let mut out = Vec::new();
    for ((func, plan), (_, certificates)) in p.compiled.certified.iter().zip(&p.compiled.certificates) {
        let function = &p.graph.functions[*func];
        let mut checker = Checker::new(Context { symbols: &p.graph.symbols, function, plan });
        for (at, c) in stores(plan).into_iter().zip(certificates) {
            let start = Instant::now();
            let outcome = match c {
                Ok(c) => checker.check(at, c).map(|v| v.laws),
                Err(reason) => Err(checker.absent(at, reason)),
            };
            let kernel = &plan.kernels[at.0];
            let value = kernel.stores[at.1].value;
            let name = &plan.values[value].name;
            out.push(Proved {
                kernel: kernel.name.clone(),
                value: if name.is_empty() { value.to_string() } else { name.clone() },
                outcome,
                certificate: c.as_ref().ok().cloned(),
                time: start.elapsed(),
            });
        }
    }
    out
}

fn untested(what: &str, round: &inputs::Round, why: String) -> Tested {
    Tested {
        of: String::new(),
        what: what.to_owned(),
        inputs: round.to_string(),
        outcome: Outcome::Untested(why),
    }
}

/// The elements of a tensor of the weights.
fn elements(weights: &dyn TensorSource, name: &str) -> Result<Vec<f64>, String> {
    let (dtype, _) = weights.info(name).ok_or_else(|| "it is missing".to_owned())?;
    let bytes = weights.bytes(name).map_err(|e| e.to_string())?;
    Ok(decode(dtype, (*bytes).as_ref()))
}

/// Source against plans and tile programs, exactly and in f64; false where that would take too long.
fn evaluations(
    p: &Planned,
    weights: &dyn TensorSource,
    round: &inputs::Round,
    settings: &Settings,
    out: &mut Vec<Tested>,
) -> Result<bool, Error> {
    let last = bind(&p.graph, round.symbols.last().map_or(&[][..], |s| &s[..]))?;
    let work = inputs::work(&p.graph, &last) * round.symbols.len() as f64;
    if work > MOST_WORK {
        let why = format!(
            "one evaluation would take some {work:.1e} operations, and {MOST_WORK:.0e} are the most: a model is \
             tested scaled down, and equations can be verified at smaller extents"
        );
        out.push(untested("evaluation", round, why));
        return Ok(false);
    }
    let plans = || p.compiled.plans.iter().map(|(f, plan)| (*f, plan));
    let source = |name: &str| elements(weights, name);
    // Exactly.
    let field = Field { key: settings.seed };
    let literals = meanings(&field, &p.graph, &p.compiled);
    let field = Meant { field, literals: &literals };
    let inputs = Inputs { seed: settings.seed, variant: Variant::Uniform };
    let mut reference = Evaluator::new(field, &p.graph, source);
    let mut planned: Vec<(usize, Evaluator<'_, Meant<'_>>, Tally)> = BLOCKS
        .iter()
        .map(|&b| (b, Evaluator::new(field, &p.graph, source).with_plans(plans(), b), Tally::default()))
        .collect();
    let mut programs = Programs::new(field, &p.compiled, field.num(0.0));
    let mut of_programs = Tally::default();
    for symbols in &round.symbols {
        let bound = bind(&p.graph, symbols)?;
        let given = inputs.tensors(&p.graph, &bound);
        let given: Vec<(&str, Tensor<f64>)> = given.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let want = reference.run(&bound, &given)?;
        for (_, evaluator, tally) in &mut planned {
            tally.compare(&evaluator.run(&bound, &given)?, &want);
        }
        let got = programs.run(&bound, &given, &source)?;
        of_programs.compare(&levels::ordered(&p.graph, &got)?, &want);
    }
    let exactly = |what: String, tally| Tested {
        of: String::new(),
        what,
        inputs: format!("{round}, in a finite field"),
        outcome: Outcome::Exact(tally),
    };
    for (block, _, tally) in planned {
        out.push(exactly(format!("plan in {} against source", blocks(block)), tally));
    }
    out.push(exactly("tile programs against source".into(), of_programs));
    for block in [BLOCKS[0], BLOCKS[1]] {
        let element = |dtype, name: &str, at| inputs.element(dtype, name, at);
        for (name, tally) in levels::functions(&field, &p.graph, &p.compiled, &last, &element, block)? {
            out.push(exactly(format!("plan of @{name} in {} against its equations", blocks(block)), tally));
        }
    }
    // In f64, on inputs that are hard.
    for variant in Variant::ALL {
        hard(p, &source, round, settings, variant, out)?;
    }
    Ok(true)
}

fn blocks(n: usize) -> String {
    if n > 1 << 16 { "one block".into() } else { format!("blocks of {n}") }
}

/// Source, plan and tile programs in f64.
fn hard(
    p: &Planned,
    source: &dyn Fn(&str) -> Result<Vec<f64>, String>,
    round: &inputs::Round,
    settings: &Settings,
    variant: Variant,
    out: &mut Vec<Tested>,
) -> Result<(), Error> {
    let inputs = Inputs { seed: settings.seed, variant };
    let mut reference = Evaluator::new(F64, &p.graph, source);
    let plans = p.compiled.plans.iter().map(|(f, plan)| (*f, plan));
    let mut planned = Evaluator::new(F64, &p.graph, source).with_plans(plans, 3);
    let mut programs = Programs::new(F64, &p.compiled, if round.fresh { f64::NAN } else { 0.0 });
    let (mut of_plan, mut of_programs) = (0.0f64, 0.0f64);
    for symbols in &round.symbols {
        let bound = bind(&p.graph, symbols)?;
        let given = inputs.tensors(&p.graph, &bound);
        let given: Vec<(&str, Tensor<f64>)> = given.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let want = reference.run(&bound, &given)?;
        of_plan = of_plan.max(levels::distance(&planned.run(&bound, &given)?, &want));
        let got = programs.run(&bound, &given, source)?;
        of_programs = of_programs.max(levels::distance(&levels::ordered(&p.graph, &got)?, &want));
    }
    for (what, error) in
        [("plan in blocks of 3 against source", of_plan), ("tile programs against source", of_programs)]
    {
        out.push(Tested {
            of: String::new(),
            what: what.into(),
            inputs: format!("{round}, {variant}{}, in f64", round.states()),
            outcome: Outcome::Error { error, allowed: SAME },
        });
    }
    Ok(())
}

fn bind(graph: &graph::Module, symbols: &[(String, u64)]) -> Result<Symbols, Error> {
    let named: Vec<(&str, u64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    Ok(bind_symbols(&graph.symbols, &named)?)
}

/// Kernels on the device: each launch against the evaluated program on the very inputs that it had, and the outputs of the
/// whole against the source in f64, by themselves and beside those of the plan without fusion. False where one would take
/// too long.
fn kernels(
    compiler: &Compiler,
    model: bool,
    known: &[(String, u64)],
    settings: &Settings,
    listener: &Listener,
    report: &mut Report,
) -> Result<bool, Error> {
    let mut all = true;
    let module = compiler.clone().listener(listener.clone()).compile()?;
    let mut without_fusion: Option<Module> = None;
    let device = module.device().kind().to_string();
    for (compiled, phase) in module.phases().iter().zip(&mut report.phases) {
        let p = &compiled.planned;
        listener.tell(Event::stage(format!("running kernels ({})", p.name)));
        let fused = |c: &Choice| !c.candidates[c.chosen].names.contains(&UNFUSED);
        for round in rounds(p, model, known) {
            let last = bind(&p.graph, round.symbols.last().map_or(&[][..], |s| &s[..]))?;
            let work = inputs::work(&p.graph, &last);
            if work > MOST_ON_DEVICE {
                let why = format!(
                    "a run would take some {work:.1e} operations, and {MOST_ON_DEVICE:.0e} are the most"
                );
                phase.tests.push(untested("kernels", &round, why));
                all = false;
                continue;
            }
            let mut test = |what: String, error, allowed| {
                let inputs = format!("{round}, uniform{}, on the {device}", round.states());
                let outcome = Outcome::Error { error, allowed };
                phase.tests.push(Tested { of: String::new(), what, inputs, outcome });
            };
            let own = run_kernels(&module, p, &round, settings)?;
            test(format!("each kernel against its program ({})", own.narrow), own.each.0, own.each.1);
            test("all kernels against source".into(), own.whole.0, own.whole.1);
            if p.compiled.choices.iter().any(|(_, c)| fused(c)) {
                if without_fusion.is_none() {
                    let options =
                        PassOptions { candidate: Some(UNFUSED.into()), ..compiler.options().clone() };
                    let plain = compiler.clone().pass_options(options).listener(listener.clone());
                    without_fusion = Some(plain.compile()?);
                }
                if let Some(module) = &without_fusion
                    && let Some(plain) = module.phase(&p.name)
                {
                    let plain = run_kernels(module, &plain.planned, &round, settings)?;
                    let allowed = ALIKE * plain.whole.0.max(rounding(own.narrow));
                    test("all kernels beside those without fusion".into(), own.whole.0, allowed);
                }
            }
        }
    }
    Ok(all)
}

/// What kernels gave, with the errors that are allowed.
struct Errors {
    /// The narrowest type on the way.
    narrow: DType,
    /// The worst kernel.
    each: (f64, f64),
    /// The worst output.
    whole: (f64, f64),
}

fn run_kernels(
    module: &Module,
    p: &Planned,
    round: &inputs::Round,
    settings: &Settings,
) -> Result<Errors, Error> {
    let weights = module.weights().as_ref();
    let executable = module.executable(&p.name)?;
    if round.fresh {
        module.session().spoil_states()?;
    }
    let mut reference = Evaluator::new(F64, &p.graph, |name: &str| elements(weights, name));
    let inputs = Inputs { seed: settings.seed ^ 1, variant: Variant::Uniform };
    let mut out = Errors { narrow: DType::F64, each: (0.0, 1e-300), whole: (0.0, 1e-300) };
    for symbols in &round.symbols {
        let bound = bind(&p.graph, symbols)?;
        let arrays = inputs.arrays(&p.graph, &bound)?;
        let named: Vec<(&str, &Array)> = arrays.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let data: Vec<(&str, &[u8])> = named.iter().map(|(n, a)| (*n, a.data.as_slice())).collect();
        let narrow = module.model().map_or_else(|| narrowest(&named), |m| m.activations);
        out.narrow = narrow;
        let symbols: Vec<(&str, i64)> =
            symbols.iter().map(|(n, v)| (n.as_str(), i64::try_from(*v).unwrap_or(i64::MAX))).collect();
        let (result, checks) = crate::selftest::compare_kernels(&executable, p, &symbols, &data, narrow)?;
        for c in checks {
            out.each = worse(out.each, (c.error, c.allowed));
        }
        let given = named
            .iter()
            .map(|(n, a)| {
                let dims: Vec<usize> = a.dims.iter().map(|&d| d as usize).collect();
                Ok((*n, Tensor::new(&dims, a.values())?))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let want = reference.run(&bound, &given)?;
        for (&g, want) in p.graph.outputs.iter().zip(&want) {
            let data = &p.graph.globals[g];
            let found = result.output(&data.name).map(Array::values).unwrap_or_default();
            // What the source leaves undefined is not compared.
            let (found, want): (Vec<f64>, Vec<f64>) =
                found.iter().zip(&want.data).filter(|(_, w)| !w.is_nan()).unzip();
            let bound = allowed(data.dtype, if data.dtype.is_float() { narrow } else { data.dtype });
            out.whole = worse(out.whole, (relative_error(&found, &want), bound));
        }
    }
    Ok(out)
}

/// The worse of two errors, by what is allowed.
fn worse(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let ratio = |(e, a): (f64, f64)| if e.is_nan() { f64::INFINITY } else { e / a.max(1e-300) };
    if ratio(b) > ratio(a) || (a.0 == 0.0 && b.0 == 0.0) { b } else { a }
}
