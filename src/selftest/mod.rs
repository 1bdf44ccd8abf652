//! What: checking a device: single instructions against what a GPU gave for them; test models and equations, compiled
//! and compared with the evaluator.
//! Why here: a machine with a GPU and a binary must be able to tell whether everything works there, without the
//! repository and without a toolchain.
//! Pre: NVRTC and a device.
//! Post: one row per case and kernel or output; a case that fails or is refused does not stop the others.

mod cases;
pub mod conformance;
mod kernels;
pub mod pins;

use tilewright_frontend::hf::Phase;
use tilewright_ir::step::BufferKind;
use tilewright_ir::{DType, Extent, splitmix};
use tilewright_runtime::device::{Device, DeviceKind, EmulatedDevice};
use tilewright_runtime::exec::Array;

pub use cases::{EQUATIONS, EquationCase, MODELS, ModelCase};
pub use conformance::Case;
pub use pins::{Pinned, Pins};

use crate::check::{Check, check_outputs, narrowest, relative_error};
use crate::generate::{Conversation, Reference, tolerance};
use crate::{Compiler, DeviceSpec, Error, Toolchain};

/// How the test runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where external pieces are.
    pub toolchain: Toolchain,
    /// The device.
    pub device: DeviceSpec,
    /// The instruction subset.
    pub target: Option<String>,
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// The seed of inputs and weights.
    pub seed: u64,
    /// What GPUs gave for the conformance kernels.
    pub pins: Vec<Pins>,
}

/// The outcome of one comparison.
#[derive(Debug)]
pub struct Row {
    /// The case, e.g. `softmax` or `llama decode bf16`.
    pub case: String,
    /// What was compared (a kernel, an output), or why nothing could be.
    pub outcome: Result<Check, Error>,
}

impl Row {
    /// Whether it agrees.
    pub fn passes(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Check::passes)
    }
}

/// All rows, and the results of the conformance kernels.
#[derive(Debug, Default)]
pub struct Report {
    /// The comparisons.
    pub rows: Vec<Row>,
    /// What the conformance kernels gave.
    pub results: Vec<(Case, Vec<u32>)>,
    /// Kernels that were compared with a pin.
    pub pinned: usize,
    /// Kernels whose pins are of another version of the kernel.
    pub stale: Vec<&'static str>,
}

pub(crate) use kernels::run as compare_kernels;

/// Runs all cases; `each` sees every row as it comes.
pub fn run(settings: &Settings, mut each: impl FnMut(&Row)) -> Result<Report, Error> {
    let mut report = Report::default();
    let wanted = |name: &str| settings.filter.as_deref().is_none_or(|f| name.contains(f));
    let opened = settings.device.open()?;
    for case in conformance::cases().filter(|c| wanted(&format!("conformance {}", c.name()))) {
        if !case.runs_on(opened.device.arch()) {
            continue;
        }
        let before = report.rows.len();
        conformance_case(settings, case, opened.device.as_ref(), &mut report);
        report.rows[before..].iter().for_each(&mut each);
    }
    let mut add = |new: Vec<Row>| {
        new.iter().for_each(&mut each);
        report.rows.extend(new);
    };
    for case in EQUATIONS.iter().filter(|c| wanted(c.name)) {
        add(equations(settings, case));
    }
    for case in MODELS {
        for phase in [Phase::Decode, Phase::Prefill] {
            for activations in [DType::F32, DType::Bf16] {
                let name = format!("{} {} {activations}", case.name, phase.name());
                if wanted(&name) {
                    add(model(settings, case, phase, activations, &name));
                }
            }
        }
    }
    Ok(report)
}

/// Runs a conformance kernel. A GPU is held against the emulator, and every device against what GPUs gave.
fn conformance_case(settings: &Settings, case: Case, device: &dyn Device, report: &mut Report) {
    let name = format!("conformance {}", case.name());
    let row = |outcome| Row { case: name.clone(), outcome };
    let found = match case.run(device) {
        Ok(found) => found,
        Err(error) => return report.rows.push(row(Err(error))),
    };
    let against = |name: &str, expected: &[u32]| {
        let d = case.compare(&found, expected);
        row(Ok(Check { name: format!("against {name}"), error: d.error, allowed: d.allowed }))
    };
    if device.kind() != DeviceKind::Emulator {
        let emulated = EmulatedDevice::open(None).map_err(Error::from).and_then(|e| case.run(&e));
        report.rows.push(match emulated {
            Ok(expected) => against("the emulator", &expected),
            Err(error) => row(Err(error)),
        });
    }
    for pins in &settings.pins {
        match pins.of(case) {
            Pinned::Words(expected) => {
                report.rows.push(against(&pins.gpu, &expected));
                report.pinned += 1;
            }
            Pinned::Stale => report.stale.push(case.name()),
            Pinned::Missing => {}
        }
    }
    report.results.push((case, found));
}

fn equations(settings: &Settings, case: &EquationCase) -> Vec<Row> {
    let checks = (|| {
        let module = Compiler::equations(case.text)
            .outputs(case.outputs.iter().copied())
            .toolchain(settings.toolchain.clone())
            .device(settings.device.clone())
            .target(settings.target.clone())
            .compile()?;
        let planned = &module.phases()[0].planned;
        let step = &planned.compiled.step;
        let mut random = Random(settings.seed ^ hash(case.name));
        let mut inputs = Vec::new();
        for buffer in step.buffers.values().filter(|b| b.kind == BufferKind::Input) {
            let dims: Vec<u64> = buffer
                .dims
                .iter()
                .map(|d| match d {
                    Extent::Const(n) => *n,
                    Extent::Sym(s) => {
                        let name = &step.symbols[*s].name;
                        case.symbols.iter().find(|(n, _)| n == name).map_or(1, |(_, v)| v.unsigned_abs())
                    }
                })
                .collect();
            inputs.push((buffer.name.clone(), random.array(buffer.dtype, &dims)));
        }
        let inputs: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
        let data: Vec<(&str, &[u8])> = inputs.iter().map(|(n, a)| (*n, a.data.as_slice())).collect();
        let executable = module.executable(&planned.name)?;
        let narrow = narrowest(&inputs);
        let (result, mut checks) = kernels::run(&executable, planned, case.symbols, &data, narrow)?;
        checks.extend(check_outputs(&planned.graph, case.symbols, &inputs, &result)?);
        Ok(checks)
    })();
    rows(case.name, checks)
}

/// All tokens go in as the phase takes them; the kernels of the last run are compared one by one, the logits of all
/// tokens with the evaluated model.
fn model(settings: &Settings, case: &ModelCase, phase: Phase, activations: DType, name: &str) -> Vec<Row> {
    let checks = (|| {
        let compiler = |phases: &[Phase]| {
            Compiler::config(case.config, settings.seed)
                .toolchain(settings.toolchain.clone())
                .device(settings.device.clone())
                .target(settings.target.clone())
                .activations(activations)
                .max_context(Some(case.context))
                .phases(phases)
        };
        let module = compiler(&[phase]).compile()?;
        let info = module.model().ok_or_else(|| Error::Bug("a model without its description".into()))?;
        let mut random = Random(settings.seed ^ hash(case.name));
        let ids: Vec<u64> = (0..case.tokens).map(|_| random.next() % info.vocab).collect();
        let mut conversation = Conversation::new(&module)?;
        let first = match phase {
            Phase::Decode => ids.len() - 1,
            Phase::Prefill => 0,
        };
        let mut logits = if first > 0 { conversation.feed(&ids[..first], phase)? } else { Vec::new() };
        let mut checks = Vec::new();
        logits.extend(conversation.feed_with(&ids[first..], phase, |executable, symbols, inputs| {
            let planned = &module.phases()[0].planned;
            let (result, compared) = kernels::run(executable, planned, symbols, inputs, activations)?;
            checks = compared;
            Ok(result)
        })?);

        let reference = compiler(&[Phase::Decode]).graphs()?;
        let mut evaluator = Reference::of(&reference.phases[0].1, reference.weights.as_ref(), 1);
        let mut expected = Vec::new();
        for &id in &ids {
            expected.extend(evaluator.feed(&[&[id]])?.concat());
        }
        let found: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        checks.push(Check {
            name: "logits".into(),
            error: relative_error(&found, &expected),
            allowed: tolerance(activations),
        });
        Ok(checks)
    })();
    rows(name, checks)
}

fn rows(case: &str, checks: Result<Vec<Check>, Error>) -> Vec<Row> {
    let row = |outcome| Row { case: case.to_owned(), outcome };
    match checks {
        Ok(checks) => checks.into_iter().map(|c| row(Ok(c))).collect(),
        Err(error) => vec![row(Err(error))],
    }
}

/// A small generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    /// Reals in -2..2, integers in 0..7.
    fn array(&mut self, dtype: DType, dims: &[u64]) -> Array {
        let count: u64 = dims.iter().product();
        let values: Vec<f64> = (0..count)
            .map(|_| match dtype {
                d if d.is_float() => (self.next() >> 11) as f64 / (1u64 << 51) as f64 - 2.0,
                DType::Bool => (self.next() % 2) as f64,
                _ => (self.next() % 7) as f64,
            })
            .collect();
        // One value per element was made.
        Array::new(dtype, dims, &values).unwrap_or(Array { dtype, dims: dims.to_vec(), data: Vec::new() })
    }
}

/// A hash of a name, so that cases have inputs of their own (FNV-1a).
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}
