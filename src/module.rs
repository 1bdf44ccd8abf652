//! What: a compiled module, on a device.
//! Why here: what a compilation gives back to its caller.
//! Pre: binaries for the device.
//! Post: weights reach the device when the first run needs them; runs of a module share weights and states.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tilewright_frontend::hf::Phase;
use tilewright_ir::Extent;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_megakernel::Costs;
use tilewright_runtime::device::{Device, Stream};
use tilewright_runtime::exec::{
    Alias, Array, Binding, Executable, LaunchRecord, RunResult, Session, SessionOptions, TensorSource,
};

use crate::Error;
use crate::auto::Verdict;
use crate::compiler::CompiledPhase;
use crate::model::ModelInfo;
use crate::persistent::scheduled;
use crate::spec::Mode;
use crate::weights::Layered;

/// What belongs to all phases.
pub(crate) struct Context {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) notes: Vec<String>,
    pub(crate) target: String,
    pub(crate) arch: String,
    pub(crate) nvrtc_version: String,
    pub(crate) weights: Arc<dyn TensorSource>,
    pub(crate) model: Option<ModelInfo>,
    pub(crate) symbols: Vec<(String, u64)>,
    pub(crate) session: SessionOptions,
    /// Where packed weights are kept.
    pub(crate) packed: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) per_launch: u32,
    pub(crate) costs: Costs,
}

/// A compiled module. It may be shared between threads; runs of the same phase take turns.
pub struct Module {
    phases: Vec<CompiledPhase>,
    context: Context,
    session: Arc<Session>,
    /// The weights and what prologues make of them.
    layered: Arc<Layered>,
    /// One per phase, made when it is first needed.
    executables: Mutex<Vec<Option<Arc<Executable>>>>,
    verdict: Option<Verdict>,
}

impl Module {
    pub(crate) fn new(phases: Vec<CompiledPhase>, context: Context) -> Module {
        let layered = Arc::new(Layered::new(Arc::clone(&context.weights)));
        let session = Session::keeping(
            Arc::clone(&context.device),
            Arc::clone(&layered) as Arc<dyn TensorSource>,
            context.session,
            Some(context.packed.clone()),
        );
        let executables = Mutex::new(vec![None; phases.len()]);
        Module { phases, context, session, layered, executables, verdict: None }
    }

    /// Takes another form of a phase, which is ready to run.
    pub(crate) fn replace(&mut self, phase: CompiledPhase, ready: Arc<Executable>) {
        let Some(n) = self.phases.iter().position(|p| p.planned.name == phase.planned.name) else { return };
        self.phases[n] = phase;
        self.executables.get_mut().unwrap_or_else(PoisonError::into_inner)[n] = Some(ready);
    }

    /// Keeps what the choice between back ends was made from, and says it.
    pub(crate) fn decided(&mut self, verdict: Verdict) {
        self.context.notes.push(verdict.to_string());
        self.verdict = Some(verdict);
    }

    /// What the choice between back ends was made from, where both were measured.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The phases, in order.
    pub fn phases(&self) -> &[CompiledPhase] {
        &self.phases
    }

    /// A phase by its name.
    pub fn phase(&self, name: &str) -> Option<&CompiledPhase> {
        self.phases.iter().find(|p| p.planned.name == name)
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.context.device
    }

    /// What the user should know: why `auto` chose the emulator, that a search ended early, that the cache cannot be
    /// written.
    pub fn notes(&self) -> &[String] {
        &self.context.notes
    }

    /// The instruction subset.
    pub fn target(&self) -> &str {
        &self.context.target
    }

    /// The architecture that the binaries are for.
    pub fn arch(&self) -> &str {
        &self.context.arch
    }

    /// The version of NVRTC.
    pub fn nvrtc_version(&self) -> &str {
        &self.context.nvrtc_version
    }

    /// What is known of the model, if it is one.
    pub fn model(&self) -> Option<&ModelInfo> {
        self.context.model.as_ref()
    }

    /// How the launches of a phase are put on the device.
    pub fn mode(&self, phase: &str) -> Mode {
        if self.phase(phase).is_some_and(|p| p.persistent) {
            return Mode::Megakernel;
        }
        self.context.mode.settle(phase == Phase::Decode.name())
    }

    /// What tasks of persistent kernels cost on the machine that they are scheduled for.
    pub fn task_costs(&self) -> &Costs {
        &self.context.costs
    }

    /// How many tokens one launch gives, where the decode step goes on by itself.
    pub fn tokens_per_launch(&self) -> Option<u32> {
        self.phase(Phase::Decode.name()).and_then(|p| p.repeat.as_ref()).map(|_| self.context.per_launch)
    }

    /// The weights.
    pub fn weights(&self) -> &Arc<dyn TensorSource> {
        &self.context.weights
    }

    /// What the phases share on the device.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// A phase that is ready to run; the first call loads kernels and brings weights to the device.
    pub fn executable(&self, phase: &str) -> Result<Arc<Executable>, Error> {
        let index = self
            .phases
            .iter()
            .position(|p| p.planned.name == phase)
            .ok_or_else(|| Error::input(format!("phase `{phase}` was not compiled")))?;
        // Entries are written whole, so a panic elsewhere does not spoil them.
        let mut executables = self.executables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = &executables[index] {
            return Ok(Arc::clone(ready));
        }
        let p = &self.phases[index];
        let step = &p.planned.compiled.step;
        if let Some(prologue) = &p.planned.compiled.prologue {
            // A session of its own: what is read here only is not kept on the device.
            let (device, weights) = (Arc::clone(&self.context.device), Arc::clone(&self.context.weights));
            let session = Session::keeping(device, weights, self.context.session, None);
            self.layered.add(session.prepare(prologue, &p.prologue)?.run(&[], &[])?);
        }
        let ready = Arc::new(match p.kernels.first() {
            Some(kernel) if p.persistent => {
                self.session.prepare_persistent(step, &scheduled(self, phase)?.tables, kernel)?
            }
            _ => self.session.prepare(step, &p.kernels)?,
        });
        executables[index] = Some(Arc::clone(&ready));
        Ok(ready)
    }

    /// Runs the only phase of a module of equations or of a graph. Symbols take their values from the extents of the
    /// inputs.
    pub fn run(&self, inputs: &[(&str, &Array)]) -> Result<RunResult, Error> {
        self.run_with(&[], inputs)
    }

    /// The same with values for symbols that no input has.
    pub fn run_with(&self, symbols: &[(&str, i64)], inputs: &[(&str, &Array)]) -> Result<RunResult, Error> {
        let [phase] = &self.phases[..] else {
            return Err(Error::Usage("a module of several phases is run phase by phase".into()));
        };
        let step = &phase.planned.compiled.step;
        check_types(step, inputs)?;
        let values = self.infer(step, symbols, inputs)?;
        let values: Vec<(&str, i64)> = values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let data: Vec<(&str, &[u8])> = inputs.iter().map(|(n, a)| (*n, a.data.as_slice())).collect();
        let mode = self.mode(&phase.planned.name).exec();
        Ok(self.executable(&phase.planned.name)?.run_as(mode, &values, &data)?)
    }

    /// Puts one run of a phase on the caller's stream, on the caller's device memory; nothing is waited for. See
    /// [`Executable::launch`].
    pub fn launch(
        &self,
        phase: &str,
        symbols: &[(&str, i64)],
        bindings: &[Binding<'_>],
        aliases: &[Alias<'_>],
        stream: Stream,
    ) -> Result<Vec<LaunchRecord>, Error> {
        Ok(self.executable(phase)?.launch(symbols, bindings, aliases, stream)?)
    }

    /// Values for the symbols of a step: from the caller, from the extents of inputs, from what was known when the
    /// module was compiled, and for a symbol with a single value that one.
    fn infer(
        &self,
        step: &Step,
        given: &[(&str, i64)],
        inputs: &[(&str, &Array)],
    ) -> Result<Vec<(String, i64)>, Error> {
        let mut values: Vec<(String, i64)> = given.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        for (name, array) in inputs {
            let Some(buffer) = step.buffers.values().find(|b| b.name == *name) else { continue };
            if buffer.dims.len() != array.dims.len() {
                return Err(Error::input(format!(
                    "`{name}` has {} axes, and {} are declared",
                    array.dims.len(),
                    buffer.dims.len()
                )));
            }
            for (axis, (&declared, &found)) in buffer.dims.iter().zip(&array.dims).enumerate() {
                let wanted = match declared {
                    Extent::Const(n) => n,
                    Extent::Sym(s) => {
                        let symbol = &step.symbols[s].name;
                        match values.iter().find(|(n, _)| n == symbol) {
                            Some((_, v)) => u64::try_from(*v).unwrap_or(u64::MAX),
                            None => {
                                values.push((symbol.clone(), i64::try_from(found).unwrap_or(i64::MAX)));
                                found
                            }
                        }
                    }
                };
                if wanted != found {
                    return Err(Error::input(format!(
                        "axis {axis} of `{name}` has extent {found}, and {wanted} is needed"
                    )));
                }
            }
        }
        for symbol in step.symbols.values() {
            if values.iter().any(|(n, _)| *n == symbol.name) {
                continue;
            }
            let known = self.context.symbols.iter().find(|(n, _)| *n == symbol.name).map(|(_, v)| *v);
            if let Some(value) = known.or((symbol.min == symbol.max).then_some(symbol.min)) {
                values.push((symbol.name.clone(), i64::try_from(value).unwrap_or(i64::MAX)));
            }
        }
        Ok(values)
    }
}

/// That arrays have the declared types. (Names and sizes are checked when the step runs.)
fn check_types(step: &Step, inputs: &[(&str, &Array)]) -> Result<(), Error> {
    for (name, array) in inputs {
        let declared =
            step.buffers.values().find(|b| b.name == *name && b.kind == BufferKind::Input).map(|b| b.dtype);
        if let Some(dtype) = declared
            && dtype != array.dtype
        {
            return Err(Error::input(format!("`{name}` is {}, and {dtype} is declared", array.dtype)));
        }
    }
    Ok(())
}
