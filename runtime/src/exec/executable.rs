//! What: one step, loaded on a device and ready to run.
//! Why here: preparing (loading kernels, placing buffers) happens once, running many times.
//! Pre: a step that the verifier accepts, and one binary for each kernel that it launches.
//! Post: runs with the same symbols and inputs do the same launches in the same order.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cranelift_entity::{PrimaryMap, SecondaryMap};
use tilewright_emulator::Counters;
use tilewright_ir::artifact::{KernelBinary, Persistent};
use tilewright_ir::step::{BufferData, BufferKind, Step};
use tilewright_ir::{Buffer, Packing};

use super::graph::{Mode, Prepared};
use super::group::{self, Group};
use super::persistent::{ONE, Patience, Resident, Steps};
use super::session::Allocation;
use super::validate::check;
use super::{Array, ExecError, LaunchRecord, RunResult, Session, bind};
use crate::device::{Device, DeviceError, DevicePtr, Kernel, Stream};

/// A step, ready to run.
pub struct Executable {
    session: Arc<Session>,
    step: Step,
    /// What is launched, in order.
    launches: Vec<Group>,
    /// The persistent kernel that takes their place, if it does.
    resident: Option<Resident>,
    /// Weights, tables and states.
    fixed: PrimaryMap<Buffer, Option<Arc<Allocation>>>,
    pub(super) scratch: Mutex<Scratch>,
}

/// What belongs to a run and is kept for the next.
pub(super) struct Scratch {
    arena: Allocation,
    params: Allocation,
    /// Memory of inputs and outputs, and of temporaries that are not in the arena.
    own: SecondaryMap<Buffer, Option<Arc<Allocation>>>,
    /// The stream of the last run.
    last: Stream,
    /// The launches as a graph, with the memory that they were prepared for.
    pub(super) graph: Option<Prepared>,
}

impl Scratch {
    /// The address of the parameter block.
    pub(super) fn params_at(&self) -> DevicePtr {
        self.params.at
    }
}

/// A kernel that is unloaded when its last user goes.
pub(super) struct LoadedKernel {
    device: Arc<dyn Device>,
    pub(super) kernel: Kernel,
}

impl LoadedKernel {
    pub(super) fn new(device: &Arc<dyn Device>, binary: &KernelBinary) -> Result<LoadedKernel, DeviceError> {
        Ok(LoadedKernel { device: Arc::clone(device), kernel: device.load_kernel(binary)? })
    }
}

impl Drop for LoadedKernel {
    fn drop(&mut self) {
        // A device that fails to unload cannot be helped from here.
        let _ = self.device.unload_kernel(self.kernel);
    }
}

/// How a run is put on the device.
#[derive(Clone, Copy)]
enum How<'a> {
    Once(Mode),
    Repeated(Steps<'a>),
}

/// A point of an observed run: before or after a launch.
pub struct Moment<'a> {
    /// The entries of the step that share the launch.
    pub entries: Range<usize>,
    /// Whether the launch has run.
    pub done: bool,
    executable: &'a Executable,
    values: &'a [i32],
    pointers: &'a PrimaryMap<Buffer, DevicePtr>,
}

impl Moment<'_> {
    /// The contents of a buffer of the step, whatever backs it.
    pub fn read(&self, buffer: Buffer) -> Result<Array, ExecError> {
        let data = &self.executable.step.buffers[buffer];
        let elements = bind::bytes(data, self.values)? / data.dtype.bytes() as u64;
        let stored = data.packing.as_ref().map_or(Some(elements), Packing::elements).unwrap_or(elements);
        let mut bytes = vec![0; host_size(stored * data.dtype.bytes() as u64, data)?];
        self.executable.session.device().download(self.pointers[buffer], &mut bytes, Stream::Own)?;
        if let Some(packing) = &data.packing {
            bytes = packing.unpack(&bytes, data.dtype.bytes(), elements);
        }
        Ok(Array { dtype: data.dtype, dims: bind::dims(data, self.values)?, data: bytes })
    }
}

/// Who observes a run.
pub type Observer<'a> = &'a mut dyn FnMut(&Moment<'_>) -> Result<(), ExecError>;

impl Executable {
    pub(super) fn new(
        session: Arc<Session>,
        step: &Step,
        kernels: &[KernelBinary],
    ) -> Result<Executable, ExecError> {
        let launches = Group::load(session.device(), step, kernels)?;
        Executable::place(session, step, launches, None)
    }

    /// A step whose launches are one persistent kernel.
    pub(super) fn new_persistent(
        session: Arc<Session>,
        step: &Step,
        tables: &Persistent,
        kernel: &KernelBinary,
    ) -> Result<Executable, ExecError> {
        let resident = Resident::new(session.device(), tables, kernel)?;
        Executable::place(session, step, Vec::new(), Some(resident))
    }

    /// Brings what a step needs to the device.
    fn place(
        session: Arc<Session>,
        step: &Step,
        launches: Vec<Group>,
        resident: Option<Resident>,
    ) -> Result<Executable, ExecError> {
        let maxima = bind::maxima(&step.symbols)?;
        check(step, &maxima)?;
        let device = session.device();
        let mut fixed = PrimaryMap::with_capacity(step.buffers.len());
        for buffer in step.buffers.values() {
            fixed.push(session.memory(buffer, &maxima)?);
        }
        let mut own = SecondaryMap::new();
        let mut arena_bytes = step.arena_bytes;
        if session.options().separate_buffers {
            arena_bytes = 0;
            for (b, buffer) in &step.buffers {
                if matches!(buffer.kind, BufferKind::Arena(_)) {
                    let bytes = bind::bytes(buffer, &maxima)?;
                    own[b] = Some(Arc::new(Allocation::new(device, &buffer.name, bytes)?));
                }
            }
        }
        let scratch = Scratch {
            arena: Allocation::new(device, "arena", arena_bytes)?,
            params: Allocation::new(device, "parameters", 4 * step.symbols.len().max(1) as u64)?,
            own,
            last: Stream::Own,
            graph: None,
        };
        Ok(Executable {
            session,
            step: step.clone(),
            launches,
            resident,
            fixed,
            scratch: Mutex::new(scratch),
        })
    }

    /// The step.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// The session that it belongs to.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Runs the step once with inputs from the host, and brings the outputs to the host.
    pub fn run(&self, symbols: &[(&str, i64)], inputs: &[(&str, &[u8])]) -> Result<RunResult, ExecError> {
        self.run_inner(How::Once(Mode::Launch), symbols, inputs, None, None)
    }

    /// Runs up to so many steps in one launch of a persistent kernel that goes on by itself, until all tokens of a step
    /// are in `stops`. No outputs are brought to the host but the tokens.
    /// Symbols are those of the first step; that those of the last are within their ranges is checked too.
    pub fn run_repeated(
        &self,
        symbols: &[(&str, i64)],
        inputs: &[(&str, &[u8])],
        count: u32,
        stops: &[i32],
    ) -> Result<RunResult, ExecError> {
        let steps = Steps { count, stops, timed: false };
        let Some(resident) = &self.resident else {
            return Err(ExecError::BadStep("separate launches do one step only".to_owned()));
        };
        let going = resident.check_repeat(&steps)?;
        let last: Vec<(&str, i64)> = symbols
            .iter()
            .map(|&(name, v)| {
                let goes = self.step.symbols.iter().any(|(s, d)| d.name == name && going.contains(&s));
                (name, if goes { v.saturating_add(i64::from(count.max(1)) - 1) } else { v })
            })
            .collect();
        bind::bind(&self.step.symbols, &last)?;
        self.run_inner(How::Repeated(steps), symbols, inputs, Some(&[]), None)
    }

    /// Runs one step of a persistent kernel that writes down, for each of its records, when a block came to it, when its
    /// waits were over and when it was done, in nanoseconds on a GPU and on the emulator in its own time; and how many
    /// stages of pages had been copied when its waits were over.
    pub fn run_timed(
        &self,
        symbols: &[(&str, i64)],
        inputs: &[(&str, &[u8])],
    ) -> Result<(RunResult, Vec<[u64; 4]>), ExecError> {
        let Some(resident) = &self.resident else {
            return Err(ExecError::BadStep("separate launches have no timeline".to_owned()));
        };
        let result =
            self.run_inner(How::Repeated(Steps { timed: true, ..ONE }), symbols, inputs, None, None)?;
        Ok((result, resident.times(self.session.device())?))
    }

    /// The same, with the launches put on the device as the mode says.
    pub fn run_as(
        &self,
        mode: Mode,
        symbols: &[(&str, i64)],
        inputs: &[(&str, &[u8])],
    ) -> Result<RunResult, ExecError> {
        self.run_inner(How::Once(mode), symbols, inputs, None, None)
    }

    /// The same, and of the outputs only the named ones are brought to the host.
    pub fn run_for(
        &self,
        mode: Mode,
        symbols: &[(&str, i64)],
        inputs: &[(&str, &[u8])],
        wanted: &[&str],
    ) -> Result<RunResult, ExecError> {
        self.run_inner(How::Once(mode), symbols, inputs, Some(wanted), None)
    }

    /// The same, with somebody who looks at the buffers before and after each launch. Between launches everything is
    /// waited for.
    pub fn run_observed(
        &self,
        symbols: &[(&str, i64)],
        inputs: &[(&str, &[u8])],
        observer: Observer<'_>,
    ) -> Result<RunResult, ExecError> {
        if self.resident.is_some() {
            return Err(ExecError::BadStep("a persistent kernel has no launches to be observed".to_owned()));
        }
        self.run_inner(How::Once(Mode::Launch), symbols, inputs, None, Some(observer))
    }

    fn run_inner(
        &self,
        how: How<'_>,
        symbols: &[(&str, i64)],
        inputs: &[(&str, &[u8])],
        wanted: Option<&[&str]>,
        observer: Option<Observer<'_>>,
    ) -> Result<RunResult, ExecError> {
        let values = bind::bind(&self.step.symbols, symbols)?;
        let known = |what: fn(&BufferKind) -> bool| {
            let names = self.step.buffers.values().filter(|b| what(&b.kind)).map(|b| b.name.as_str());
            names.collect::<Vec<_>>()
        };
        let names = known(|k| matches!(k, BufferKind::Input));
        if let Some((name, _)) = inputs.iter().find(|(name, _)| !names.contains(name)) {
            return Err(ExecError::UnknownBuffer {
                what: "input",
                name: (*name).to_owned(),
                known: names.join(", "),
            });
        }
        // Everything is checked before the first byte moves.
        let mut sources = Vec::new();
        for (b, buffer) in &self.step.buffers {
            if matches!(buffer.kind, BufferKind::Input) {
                let missing = || ExecError::MissingBuffer { what: "input", name: buffer.name.clone() };
                let (_, data) = inputs.iter().rev().find(|(n, _)| *n == buffer.name).ok_or_else(missing)?;
                check_size(buffer, data.len() as u64, &values)?;
                sources.push((b, *data));
            }
        }

        let steps = if let How::Repeated(steps) = how { steps.count } else { 1 };
        let found = self.run_checked(how, &values, &sources, wanted, observer);
        match &self.resident {
            // What the kernel itself says says more than that something failed.
            Some(resident) => match resident.verdict(self.session.device(), &self.step, steps) {
                Ok(Some(why)) => Err(why),
                Ok(None) => found,
                Err(error) => found.and(Err(error)),
            },
            None => found,
        }
    }

    /// A run whose arguments were looked at.
    fn run_checked(
        &self,
        how: How<'_>,
        values: &[i32],
        sources: &[(Buffer, &[u8])],
        wanted: Option<&[&str]>,
        observer: Option<Observer<'_>>,
    ) -> Result<RunResult, ExecError> {
        let device = self.session.device();
        let mut scratch = self.lock();
        let pointers = self.pointers(&mut scratch, values, |_| None)?;
        self.turn_to(&mut scratch, Stream::Own)?;
        for &(b, data) in sources {
            device.upload(pointers[b], data, Stream::Own)?;
        }
        let (launches, tokens) = match (how, &self.resident) {
            (How::Repeated(steps), Some(resident)) => {
                device.upload_params(scratch.params.at, values, Stream::Own)?;
                let records = self.execute_resident(resident, &scratch, &pointers, &steps, Stream::Own)?;
                (records, resident.tokens(device)?)
            }
            (How::Repeated(_), None) => (Vec::new(), Vec::new()),
            (How::Once(mode), _) => {
                (self.put(mode, &mut scratch, values, &pointers, Stream::Own, observer)?, Vec::new())
            }
        };
        let mut outputs = Vec::new();
        for (b, buffer) in &self.step.buffers {
            let asked = wanted.is_none_or(|w| w.contains(&buffer.name.as_str()));
            if matches!(buffer.kind, BufferKind::Output) && asked {
                let mut data = vec![0; host_size(bind::bytes(buffer, values)?, buffer)?];
                device.download(pointers[b], &mut data, Stream::Own)?;
                let dims = bind::dims(buffer, values)?;
                outputs.push((buffer.name.clone(), Array { dtype: buffer.dtype, dims, data }));
            }
        }
        device.synchronize(Stream::Own)?;
        Ok(RunResult { outputs, launches, tokens })
    }

    /// Makes the run of a persistent kernel that is under way stop, or the next if there is none. It ends between two steps
    /// with [`ExecError::StoppedBetween`], or where it waits with [`ExecError::Stopped`]; a run that was nearly done may end
    /// as if nothing had been, and then the next one stops. The run after that is as usual. Without effect on separate
    /// launches.
    pub fn stop(&self) -> Result<(), ExecError> {
        self.resident.as_ref().map_or(Ok(()), |r| r.stop(self.session.device()))
    }

    /// Why the run before ended early, if it was one that nobody waited for.
    pub(super) fn earlier(&self) -> Result<(), ExecError> {
        let verdict = self.resident.as_ref().map(|r| r.verdict(self.session.device(), &self.step, 1));
        verdict.transpose()?.flatten().map_or(Ok(()), Err)
    }

    /// Says how long waits of a persistent kernel may take from the next run on.
    pub fn wait_for(&self, patience: Patience) {
        if let Some(resident) = &self.resident {
            resident.wait_for(patience);
        }
    }

    /// The contents of a state.
    pub fn read_state(&self, name: &str) -> Result<Array, ExecError> {
        let missing = || ExecError::MissingBuffer { what: "state", name: name.to_owned() };
        let state = |b: &BufferData| b.name == name && matches!(b.kind, BufferKind::State);
        let (b, buffer) = self.step.buffers.iter().find(|(_, d)| state(d)).ok_or_else(missing)?;
        let memory = self.fixed[b].as_ref().ok_or_else(missing)?;
        let scratch = self.lock();
        self.session.device().synchronize(scratch.last)?;
        let mut data = vec![0; host_size(memory.bytes, buffer)?];
        self.session.device().download(memory.at, &mut data, Stream::Own)?;
        let dims = bind::dims(buffer, &bind::maxima(&self.step.symbols)?)?;
        Ok(Array { dtype: buffer.dtype, dims, data })
    }

    /// What is launched.
    pub(super) fn groups(&self) -> &[Group] {
        &self.launches
    }

    /// The address of every buffer; `given` may say where an input, output or state is.
    pub(super) fn pointers(
        &self,
        scratch: &mut Scratch,
        values: &[i32],
        given: impl Fn(Buffer) -> Option<DevicePtr>,
    ) -> Result<PrimaryMap<Buffer, DevicePtr>, ExecError> {
        let mut pointers = PrimaryMap::with_capacity(self.step.buffers.len());
        for (b, buffer) in &self.step.buffers {
            let at = if let Some(at) = given(b) {
                at
            } else if let Some(memory) = &self.fixed[b] {
                memory.at
            } else if let (BufferKind::Arena(offset), None) = (&buffer.kind, &scratch.own[b]) {
                scratch.arena.at.offset(*offset)
            } else if matches!(buffer.kind, BufferKind::Arena(_)) {
                // Just seen not to be `None`.
                scratch.own[b].as_ref().map_or(DevicePtr::NULL, |m| m.at)
            } else {
                let bytes = bind::bytes(buffer, values)?;
                let slot = &mut scratch.own[b];
                // Exactly as large as it is, so that the emulator notices accesses beyond the end.
                match slot {
                    Some(memory) if memory.bytes == bytes => memory.at,
                    _ => {
                        // A graph knows the old address.
                        scratch.graph = None;
                        // The old one first: there may be no room for both.
                        *slot = None;
                        let memory = Allocation::new(self.session.device(), &buffer.name, bytes)?;
                        slot.insert(Arc::new(memory)).at
                    }
                }
            };
            pointers.push(at);
        }
        Ok(pointers)
    }

    /// Waits for the run before when that was on another stream: runs share temporary memory.
    pub(super) fn turn_to(&self, scratch: &mut Scratch, stream: Stream) -> Result<(), ExecError> {
        if scratch.last != stream {
            self.session.device().synchronize(scratch.last)?;
            scratch.last = stream;
        }
        Ok(())
    }

    /// Puts the step on the stream as the mode says.
    pub(super) fn put(
        &self,
        mode: Mode,
        scratch: &mut Scratch,
        values: &[i32],
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        stream: Stream,
        observer: Option<Observer<'_>>,
    ) -> Result<Vec<LaunchRecord>, ExecError> {
        match mode {
            // A persistent kernel is one launch in any mode.
            Mode::Graph if self.resident.is_none() => self.replay(scratch, values, pointers, stream),
            _ => self.execute(scratch, values, pointers, stream, observer),
        }
    }

    /// Puts all launches on the stream.
    pub(super) fn execute(
        &self,
        scratch: &Scratch,
        values: &[i32],
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        stream: Stream,
        mut observer: Option<Observer<'_>>,
    ) -> Result<Vec<LaunchRecord>, ExecError> {
        let device = self.session.device();
        let mut tell = |entries: &Range<usize>, done| match &mut observer {
            Some(observe) => {
                device.synchronize(stream)?;
                observe(&Moment { entries: entries.clone(), done, executable: self, values, pointers })
            }
            None => Ok(()),
        };
        let mut grids = Vec::with_capacity(self.step.launches.len());
        for entries in self.step.groups() {
            grids.push(group::blocks(&self.step, entries, values)?);
        }
        device.upload_params(scratch.params.at, values, stream)?;
        if let Some(resident) = &self.resident {
            return self.execute_resident(resident, scratch, pointers, &ONE, stream);
        }
        let mut records = Vec::with_capacity(grids.len());
        for (launch, blocks) in self.launches.iter().zip(grids) {
            if blocks == 0 {
                continue;
            }
            let args = launch.args(&self.step, pointers, scratch.params.at);
            tell(&launch.entries, false)?;
            let counters = device.launch(launch.kernel.kernel, blocks, &args, stream)?;
            tell(&launch.entries, true)?;
            records.push(self.record(launch, blocks, counters));
        }
        Ok(records)
    }

    /// What is told of a launch.
    pub(super) fn record(&self, launch: &Group, blocks: u32, counters: Option<Counters>) -> LaunchRecord {
        let first = launch.entries.start;
        LaunchRecord {
            index: first,
            kernel: launch.name.clone(),
            region: self.step.launches[first].region.clone(),
            blocks,
            counters,
        }
    }

    /// Puts the persistent kernel on the stream; parameters are there.
    fn execute_resident(
        &self,
        resident: &Resident,
        scratch: &Scratch,
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        steps: &Steps<'_>,
        stream: Stream,
    ) -> Result<Vec<LaunchRecord>, ExecError> {
        let device = self.session.device();
        let counters = resident.execute(device, pointers, scratch.params.at, steps, stream)?;
        let (kernel, blocks) = resident.launch();
        let (kernel, region) = (kernel.to_owned(), "step".to_owned());
        Ok(vec![LaunchRecord { index: 0, kernel, region, blocks, counters }])
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Scratch> {
        // Temporary memory means nothing after a run, so a panic elsewhere does not spoil it.
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That `found` bytes are what a buffer has with these symbols.
pub(super) fn check_size(buffer: &BufferData, found: u64, values: &[i32]) -> Result<(), ExecError> {
    let wanted = bind::bytes(buffer, values)?;
    if found == wanted {
        return Ok(());
    }
    let dims = bind::dims(buffer, values)?;
    Err(ExecError::BufferSize { name: buffer.name.clone(), found, wanted, dtype: buffer.dtype, dims })
}

fn host_size(bytes: u64, buffer: &BufferData) -> Result<usize, ExecError> {
    usize::try_from(bytes)
        .map_err(|_| ExecError::BadStep(format!("`{}` does not fit the host's memory", buffer.name)))
}
