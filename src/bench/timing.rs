//! What: taking times on a device that has a clock.
//! Why here: one method for every case: inputs that pass by the cache, outputs that were poisoned, work that is in the
//! queue before it begins, events between runs.
//! Pre: a compiled module and its inputs on the host.
//! Post: times of runs that were checked to write every element and to give the same twice.

use std::sync::Arc;

use tilewright_ir::step::{BufferKind, Step};
use tilewright_runtime::device::{Clock, Device, DeviceError, Stream, VendorMatmul};
use tilewright_runtime::exec::{Array, Binding, ExecError, RunResult};
use tilewright_runtime::values::decode;

use super::Context;
use super::probe::{HOLD, Maker, Memory, Probe};
use super::record::Time;
use super::steps::{Given, is_outside};
use crate::{Error, Module};

/// How times are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Runs before the first one that counts.
    pub(crate) warmup: usize,
    /// Runs that count, at most.
    pub(crate) samples: usize,
    /// Fewest runs that count.
    pub(crate) least: usize,
    /// Microseconds that the runs of one case may take together.
    pub(crate) budget_us: f64,
    /// Inputs and outputs are used in turn until so many bytes have passed.
    pub(crate) rotated_bytes: u64,
}

/// Runs that are put into the queue at once.
const ROUND: usize = 50;

/// The most copies of inputs and outputs.
const MOST_SETS: u64 = 256;

impl Plan {
    /// For a device.
    pub(crate) fn new(device: &dyn Device, quick: bool) -> Result<Plan, Error> {
        let l2 = match device.clock() {
            Some(clock) => clock.facts()?.l2_bytes,
            None => 0,
        };
        Ok(Plan {
            warmup: 10,
            samples: if quick { 50 } else { 200 },
            least: 10,
            budget_us: if quick { 100e3 } else { 400e3 },
            rotated_bytes: 4 * l2,
        })
    }

    /// How many copies of so many bytes are used in turn.
    fn sets(&self, bytes: u64, free: u64) -> u64 {
        let wanted = self.rotated_bytes.div_ceil(bytes.max(1)) + 1;
        let room = free / 4 * 3 / bytes.max(1);
        wanted.min(MOST_SETS).min(room).max(1)
    }
}

/// Inputs and outputs of one run.
struct Set {
    buffers: Vec<(String, Memory)>,
}

impl Set {
    fn bindings(&self) -> Vec<Binding<'_>> {
        self.buffers.iter().map(|(name, m)| Binding { name, at: m.at(), bytes: m.len() }).collect()
    }
}

/// A kernel that keeps the device busy, and for how long.
pub(crate) struct Hold {
    probe: Probe,
    micros: Memory,
}

impl Hold {
    /// Busy for so many microseconds.
    pub(crate) fn new(maker: &Maker, micros: i32) -> Result<Hold, Error> {
        Ok(Hold { probe: maker.make(&HOLD)?, micros: maker.words("microseconds", &[micros])? })
    }

    /// Puts it on the stream.
    pub(crate) fn launch(&self) -> Result<(), DeviceError> {
        self.probe.launch(1, &[&self.micros])
    }
}

/// How long putting one run into the queue may take the host, in microseconds, generously.
const QUEUEING_US: i32 = 30;

/// Times a module of equations on these inputs; returns what it computed as well.
pub(super) fn kernels(
    context: &Context<'_>,
    clock: &dyn Clock,
    module: &Module,
    given: &[(&str, &Array)],
) -> Result<(RunResult, Option<Time>), Error> {
    let [phase] = module.phases() else { return Err(Error::Bug("equations of several phases".into())) };
    let step = &phase.planned.compiled.step;
    let bytes: u64 = sizes(step, &[])?.iter().map(|(_, n)| n).sum();
    let count = context.timing.sets(bytes, clock.facts()?.free_bytes);
    // One executable each: a graph knows its memory.
    let mut sets =
        vec![(module.executable(&phase.planned.name)?, make_set(module.device(), step, &[], given)?)];
    for _ in 1..count {
        let set = copy_set(module.device(), step, &sets[0].1)?;
        sets.push((Arc::new(module.session().prepare(step, &phase.kernels)?), set));
    }
    let mode = module.mode(&phase.planned.name).exec();
    let run = |i: usize| {
        let (executable, set) = &sets[i % sets.len()];
        executable.launch_as(mode, &[], &set.bindings(), &[], Stream::Own).map(|_| ())
    };
    for i in 0..sets.len().max(context.timing.warmup) {
        run(i)?;
    }
    module.device().synchronize(Stream::Own)?;
    let result = read_outputs(step, &sets[0].1)?;
    let again = read_outputs(step, &sets[sets.len() - 1].1)?;
    for ((name, a), (_, b)) in result.outputs.iter().zip(&again.outputs) {
        if let Some(at) = unwritten(a) {
            return Err(Error::Check(format!("element {at} of `{name}` was not written")));
        }
        if a != b {
            return Err(Error::Check(format!("two runs on equal inputs gave different `{name}`")));
        }
    }
    let hold = hold(context, module)?;
    let time = sample(&context.timing, clock, hold.as_ref(), &mut |i| run(i))?;
    Ok((result, time))
}

/// Times a phase of a model; whether all logits are finite numbers that were written.
pub(super) fn step(
    context: &Context<'_>,
    clock: &dyn Clock,
    module: &Module,
    phase: &str,
    symbols: &[(String, i64)],
    given: &Given,
) -> Result<(bool, Option<Time>), Error> {
    let executable = module.executable(phase)?;
    let array = |(name, bytes): &(&'static str, Vec<u8>)| {
        let buffer = executable.step().buffers.values().find(|b| b.name == *name);
        let buffer = buffer.ok_or_else(|| Error::Bug(format!("a model without `{name}`")))?;
        Ok((*name, Array { dtype: buffer.dtype, dims: Vec::new(), data: bytes.clone() }))
    };
    let arrays = given.iter().map(array).collect::<Result<Vec<_>, Error>>()?;
    let arrays: Vec<(&str, &Array)> = arrays.iter().map(|(name, a)| (*name, a)).collect();
    let set = make_set(module.device(), executable.step(), symbols, &arrays)?;
    let symbols: Vec<(&str, i64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let mode = module.mode(phase).exec();
    let run = |_| executable.launch_as(mode, &symbols, &set.bindings(), &[], Stream::Own).map(|_| ());
    for i in 0..context.timing.warmup {
        run(i)?;
    }
    module.device().synchronize(Stream::Own)?;
    let result = read_outputs(executable.step(), &set)?;
    let finite = result
        .outputs
        .iter()
        .all(|(_, a)| unwritten(a).is_none() && decode(a.dtype, &a.data).iter().all(|x| x.is_finite()));
    if !finite {
        return Ok((false, None));
    }
    let hold = hold(context, module)?;
    Ok((true, sample(&context.timing, clock, hold.as_ref(), &mut |i| run(i))?))
}

/// Times the vendor's product on these inputs, by the same rule; returns what it computed as well.
pub(super) fn product(
    context: &Context<'_>,
    clock: &dyn Clock,
    device: &Arc<dyn Device>,
    library: &dyn VendorMatmul,
    [m, n, k]: [u32; 3],
    arrays: &[(&str, Array); 2],
) -> Result<(Vec<u8>, Option<Time>), Error> {
    let [(_, x), (_, w)] = arrays;
    let out = 2 * u64::from(m) * u64::from(n);
    let poison = vec![POISON; usize::try_from(out).unwrap_or(usize::MAX)];
    let bytes = (x.data.len() + w.data.len()) as u64 + out;
    let count = context.timing.sets(bytes, clock.facts()?.free_bytes);
    let mut sets = Vec::new();
    for _ in 0..count {
        let set = [("X", &x.data), ("W", &w.data), ("Y", &poison)].map(|(name, data)| {
            let memory = Memory::new(device, name, data.len() as u64)?;
            device.upload(memory.at(), data, Stream::Own)?;
            Ok::<_, Error>(memory)
        });
        let [x, w, y] = set;
        sets.push((x?, w?, y?));
    }
    let run = |i: usize| {
        let (x, w, y) = &sets[i % sets.len()];
        Ok(library.run([m, n, k], x.at(), w.at(), y.at())?)
    };
    for i in 0..sets.len().max(context.timing.warmup) {
        run(i)?;
    }
    device.synchronize(Stream::Own)?;
    let output = sets[0].2.read()?;
    let settings = context.settings;
    let maker = Maker::new(&settings.toolchain, device, settings.target.as_deref())?;
    let hold = Hold::new(&maker, QUEUEING_US * i32::try_from(ROUND).unwrap_or(1))?;
    Ok((output, sample(&context.timing, clock, Some(&hold), &mut { run })?))
}

/// A kernel that holds a round back; none on a machine whose launches are done when they return.
fn hold(context: &Context<'_>, module: &Module) -> Result<Option<Hold>, Error> {
    if module.device().clock().is_none() {
        return Ok(None);
    }
    let settings = context.settings;
    let maker = Maker::new(&settings.toolchain, module.device(), settings.target.as_deref())?;
    let launches = module.phases().iter().map(|p| p.planned.compiled.step.launches.len()).max().unwrap_or(1);
    let runs = i32::try_from(ROUND.min(1000 / launches.max(1)).max(1)).unwrap_or(1);
    let each = QUEUEING_US * i32::try_from(launches.div_ceil(4)).unwrap_or(i32::MAX / 1000).min(1000);
    Ok(Some(Hold::new(&maker, (runs * each).min(50_000))?))
}

/// Times of runs, in rounds, until there are enough or the budget is spent.
fn sample(
    plan: &Plan,
    clock: &dyn Clock,
    hold: Option<&Hold>,
    run: &mut dyn FnMut(usize) -> Result<(), ExecError>,
) -> Result<Option<Time>, Error> {
    let (mut times, mut spent, mut next) = (Vec::new(), 0.0, 0);
    while times.len() < plan.samples && (times.len() < plan.least || spent < plan.budget_us) {
        let wanted = ROUND.min(plan.samples - times.len());
        // Few at first: a run may be long.
        let wanted = if times.is_empty() { wanted.min(plan.least) } else { wanted };
        if let Some(hold) = hold {
            hold.launch()?;
        }
        let mut failure = None;
        let round = clock.time(wanted, &mut || {
            let done = run(next);
            next += 1;
            done.map_err(|e| match e {
                ExecError::Device(e) => e,
                other => {
                    let text = other.to_string();
                    failure = Some(other);
                    DeviceError::Missing { what: "a run".into(), reason: text }
                }
            })
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        let round = round?;
        spent += round.iter().sum::<f64>();
        times.extend(round);
    }
    Ok(Time::of(times))
}

/// The buffers outside of a step with their bytes.
fn sizes(step: &Step, symbols: &[(String, i64)]) -> Result<Vec<(String, u64)>, Error> {
    let value = |d: &tilewright_ir::Extent| match *d {
        tilewright_ir::Extent::Const(n) => Ok(n),
        tilewright_ir::Extent::Sym(s) => {
            let name = &step.symbols[s].name;
            let found = symbols.iter().find(|(n, _)| n == name).and_then(|(_, v)| u64::try_from(*v).ok());
            found.ok_or_else(|| Error::Bug(format!("symbol `{name}` has no value")))
        }
    };
    let outside = step.buffers.values().filter(|b| is_outside(&b.kind));
    outside
        .map(|b| {
            let count = b.dims.iter().map(value).product::<Result<u64, Error>>()?;
            Ok((b.name.clone(), count * b.dtype.bytes() as u64))
        })
        .collect()
}

/// What memory holds before anything is written: not a number in every float type.
const POISON: u8 = 0xff;

fn make_set(
    device: &Arc<dyn Device>,
    step: &Step,
    symbols: &[(String, i64)],
    given: &[(&str, &Array)],
) -> Result<Set, Error> {
    let mut buffers = Vec::new();
    for (name, bytes) in sizes(step, symbols)? {
        let memory = Memory::new(device, &name, bytes)?;
        match given.iter().find(|(n, _)| *n == name) {
            Some((_, array)) => device.upload(memory.at(), &array.data, Stream::Own)?,
            None => {
                let poison = vec![POISON; usize::try_from(bytes).unwrap_or(usize::MAX)];
                device.upload(memory.at(), &poison, Stream::Own)?;
            }
        }
        buffers.push((name, memory));
    }
    Ok(Set { buffers })
}

/// The same inputs, and outputs that were poisoned, at another place.
fn copy_set(device: &Arc<dyn Device>, step: &Step, from: &Set) -> Result<Set, Error> {
    let mut buffers = Vec::new();
    for (name, source) in &from.buffers {
        let output = step.buffers.values().any(|b| b.name == *name && b.kind == BufferKind::Output);
        let memory = Memory::new(device, name, source.len())?;
        if output {
            let poison = vec![POISON; usize::try_from(source.len()).unwrap_or(usize::MAX)];
            device.upload(memory.at(), &poison, Stream::Own)?;
        } else {
            device.copy(memory.at(), source.at(), source.len(), Stream::Own)?;
        }
        buffers.push((name.clone(), memory));
    }
    Ok(Set { buffers })
}

fn read_outputs(step: &Step, set: &Set) -> Result<RunResult, Error> {
    let mut outputs = Vec::new();
    for buffer in step.buffers.values().filter(|b| b.kind == BufferKind::Output) {
        let Some((_, memory)) = set.buffers.iter().find(|(n, _)| *n == buffer.name) else { continue };
        // Extents that are symbols matter to nobody here.
        let dims = buffer.dims.iter().map(|d| d.as_const().unwrap_or(1)).collect();
        outputs.push((buffer.name.clone(), Array { dtype: buffer.dtype, dims, data: memory.read()? }));
    }
    Ok(RunResult { outputs, ..RunResult::default() })
}

/// The first element that still holds poison. (Results that are not numbers have other bits.)
fn unwritten(array: &Array) -> Option<usize> {
    if !array.dtype.is_float() {
        return None;
    }
    array.data.chunks(array.dtype.bytes()).position(|e| e.iter().all(|b| *b == POISON))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Settings;
    use crate::spec::Mode;
    use crate::{Compiler, DType};
    use std::cell::RefCell;
    use tilewright_runtime::device::{DeviceFacts, DevicePtr, Kernel, VendorMatmul, Work};

    /// A clock that gives runs the times 1, 2, 3, ... and counts what it was asked for.
    struct Counting(RefCell<u64>);

    impl Clock for Counting {
        fn facts(&self) -> Result<DeviceFacts, DeviceError> {
            Ok(DeviceFacts {
                multiprocessors: 4,
                l2_bytes: 1 << 14,
                memory_bytes: 1 << 30,
                free_bytes: 1 << 30,
                driver: "none".into(),
            })
        }

        fn time(&self, count: usize, work: Work<'_>) -> Result<Vec<f64>, DeviceError> {
            let one = |_| {
                work()?;
                *self.0.borrow_mut() += 1;
                Ok(*self.0.borrow() as f64)
            };
            (0..count).map(one).collect()
        }

        fn launch_early(&self, _: Kernel, _: u32, _: &[DevicePtr]) -> Result<(), DeviceError> {
            Err(DeviceError::NoDriver)
        }

        fn vendor_matmul(&self) -> Result<Box<dyn VendorMatmul + '_>, DeviceError> {
            Err(DeviceError::NoDriver)
        }
    }

    #[test]
    fn runs_are_timed_after_they_were_checked() {
        tilewright_runtime::testing::nvrtc();
        let settings = Settings::for_tests();
        let device = settings.device.open().unwrap().device;
        let context = Context::for_tests(&settings, device.as_ref());
        let x = crate::bench::inputs::normal(DType::F32, &[64, 16], 3);
        for mode in [Mode::Launch, Mode::Graph] {
            let module = Compiler::equations("x: f32[i=64, j=16]; y[i] = sum[j](x[i,j])")
                .toolchain(settings.toolchain.clone())
                .device(settings.device.clone())
                .mode(mode)
                .compile()
                .unwrap();
            let clock = Counting(RefCell::default());
            let (result, time) = kernels(&context, &clock, &module, &[("x", &x)]).unwrap();
            let rows = x.values();
            for (i, y) in result.output("y").unwrap().values().into_iter().enumerate() {
                let sum: f64 = rows[16 * i..16 * (i + 1)].iter().sum();
                assert!((y - sum).abs() < 1e-5, "{y} {sum}");
            }
            let time = time.unwrap();
            assert_eq!((time.samples, time.median_us, time.p99_us), (20, 10.5, 20.0));
            assert_eq!(*clock.0.borrow(), 20, "runs before the first that counts are not timed");
        }
    }

    #[test]
    fn enough_bytes_pass_before_memory_is_used_again() {
        let plan = Plan { warmup: 1, samples: 1, least: 1, budget_us: 1.0, rotated_bytes: 1000 };
        assert_eq!(plan.sets(100, 1 << 20), 11);
        assert_eq!(plan.sets(5000, 1 << 20), 2);
        assert_eq!(plan.sets(1, 1 << 20), MOST_SETS);
        // No more than there is room for, but one.
        assert_eq!((plan.sets(100, 400), plan.sets(100, 0)), (3, 1));
    }

    #[test]
    fn poison_is_found() {
        let mut array = crate::bench::inputs::normal(DType::Bf16, &[10], 1);
        assert_eq!(unwritten(&array), None);
        array.data[6..8].fill(POISON);
        assert_eq!(unwritten(&array), Some(3));
        // A result that is not a number is no poison.
        let nan = Array::new(DType::Bf16, &[1], &[f64::NAN]).unwrap();
        assert_eq!(unwritten(&nan), None);
    }
}
