//! What: the builder of a compilation, and the pipeline from a graph to binaries.
//! Why here: this is where the crates meet: frontend, passes, code generation, NVRTC, device.
//! Pre: a model folder, a graph or equations.
//! Post: a [`Module`] whose kernels are compiled for the device that it will run on, or one typed error.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tilewright_codegen::{Target, emit, emit_together, nvrtc_options, read_log};
use tilewright_frontend::equations::{Given, parse_equations_checked};
use tilewright_frontend::hf::{self, BuildOptions, Phase};
use tilewright_frontend::weights::{RandomWeights, Weights};
use tilewright_ir::artifact::{KernelBinary, KernelSource, Repeat};
use tilewright_ir::graph;
use tilewright_ir::step::Step;
use tilewright_ir::text::{Document, PlanFile, TileFile, parse, print};
use tilewright_ir::tile::TileProgram;
use tilewright_ir::verify::{describe, verify};
use tilewright_ir::{DType, Sym};
use tilewright_megakernel::Costs;
use tilewright_passes::constants::mark;
use tilewright_passes::pack::pack;
use tilewright_passes::{Compiled, Options as PassOptions};
use tilewright_runtime::cache::Store;
use tilewright_runtime::device::{DeviceSpec, Opened};
use tilewright_runtime::exec::{SessionOptions, TensorSource};
use tilewright_runtime::kernels::{KernelCompiler, Tally};
use tilewright_runtime::nvrtc::{Nvrtc, find_or_fetch};

use crate::auto::{StepTimer, settle};
use crate::bench::profile::DeviceProfile;
use crate::capacity::compile_fitting;
use crate::event::{Event, Listener};
use crate::model::{ModelInfo, ModelWeights};
use crate::module::Module;
use crate::opt::check;
use crate::persistent::{fits, kernel_source, narrowed, repeat};
use crate::sample::{Choice, chosen};
use crate::spec::{Mode, is_target};
use crate::toolchain::{Toolchain, from_env};
use crate::weights::{given as given_weights, name_apart};
use crate::{Array, Error};

/// The target when neither the user nor a device says one.
pub const DEFAULT_TARGET: &str = "sm_80";

/// The longest context when the user does not say one.
pub const DEFAULT_CONTEXT: u64 = 4096;

/// What is compiled.
#[derive(Clone, Debug)]
enum Input {
    Equations { text: String, given: Given, outputs: Vec<String> },
    Graph { name: String, graph: Box<graph::Module> },
    Model(PathBuf),
    Config { text: String, seed: u64 },
    Described { config: Box<hf::Config>, seed: u64 },
}

/// A compilation in the making.
///
/// ```
/// use tilewright::{Array, Compiler, DType};
///
/// # fn main() -> Result<(), tilewright::Error> {
/// # tilewright::runtime::testing::nvrtc();
/// let module = Compiler::equations("A: f32[i=2, j=3]; B[i] = sum[j](A[i,j])").compile()?;
/// let a = Array::new(DType::F32, &[2, 3], &[1., 2., 3., 4., 5., 6.]).expect("six elements");
/// let result = module.run(&[("A", &a)])?;
/// assert_eq!(result.output("B").expect("an output").values(), [6., 15.]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `compile`"]
pub struct Compiler {
    input: Input,
    toolchain: Toolchain,
    device: DeviceSpec,
    target: Option<String>,
    phases: Vec<Phase>,
    batch: u64,
    max_context: Option<u64>,
    activations: DType,
    random_weights: Option<u64>,
    weights: Vec<(String, Array)>,
    passes: PassOptions,
    cache: bool,
    session: SessionOptions,
    mode: Mode,
    per_launch: u32,
    choice: Option<Choice>,
    last_logits: bool,
    costs: Costs,
    timer: Option<StepTimer>,
    listener: Listener,
}

impl Compiler {
    fn new(input: Input) -> Compiler {
        Compiler {
            input,
            toolchain: from_env().toolchain,
            device: DeviceSpec::Auto,
            target: None,
            phases: vec![Phase::Decode, Phase::Prefill],
            batch: 1,
            max_context: None,
            activations: DType::Bf16,
            random_weights: None,
            weights: Vec::new(),
            passes: PassOptions::default(),
            cache: true,
            session: SessionOptions::default(),
            mode: Mode::default(),
            per_launch: 1,
            choice: None,
            last_logits: false,
            costs: Costs::default(),
            timer: None,
            listener: Listener::default(),
        }
    }

    /// Compiles equations in index notation.
    pub fn equations(text: impl Into<String>) -> Compiler {
        Compiler::new(Input::Equations { text: text.into(), given: Given::default(), outputs: Vec::new() })
    }

    /// Compiles a graph.
    pub fn graph(name: impl Into<String>, graph: graph::Module) -> Compiler {
        Compiler::new(Input::Graph { name: name.into(), graph: Box::new(graph) })
    }

    /// Compiles a Hugging Face folder.
    pub fn model(folder: impl Into<PathBuf>) -> Compiler {
        Compiler::new(Input::Model(folder.into()))
    }

    /// Compiles the model that a `config.json` describes, with weights made up from a seed.
    pub fn config(text: impl Into<String>, seed: u64) -> Compiler {
        Compiler::new(Input::Config { text: text.into(), seed })
    }

    /// The type and extents of an array, where the equations do not declare them.
    pub fn given(mut self, name: &str, dtype: DType, dims: &[u64]) -> Compiler {
        if let Input::Equations { given, .. } = &mut self.input {
            given.arrays.insert(name.to_owned(), (dtype, dims.to_vec()));
        }
        self
    }

    /// Which definitions of the equations are outputs. Default: the last one.
    pub fn outputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Compiler {
        if let Input::Equations { outputs, .. } = &mut self.input {
            *outputs = names.into_iter().map(Into::into).collect();
        }
        self
    }

    /// Where external pieces are; default: as the environment says.
    pub fn toolchain(mut self, toolchain: Toolchain) -> Compiler {
        self.toolchain = toolchain;
        self
    }

    /// The device; default: the first GPU if it works, else the emulator.
    pub fn device(mut self, device: DeviceSpec) -> Compiler {
        self.device = device;
        self
    }

    /// The instruction subset, e.g. `sm_80`; default: the device's.
    pub fn target(mut self, target: Option<String>) -> Compiler {
        self.target = target;
        self
    }

    /// The phases of a model; default: decode and prefill.
    pub fn phases(mut self, phases: &[Phase]) -> Compiler {
        self.phases = phases.to_vec();
        self
    }

    /// Sequences at once.
    pub fn batch(mut self, batch: u64) -> Compiler {
        self.batch = batch;
        self
    }

    /// The longest context; default: 4096, or the model's maximum if that is smaller.
    pub fn max_context(mut self, positions: Option<u64>) -> Compiler {
        self.max_context = positions;
        self
    }

    /// The type of activations of a model; default: bf16.
    pub fn activations(mut self, dtype: DType) -> Compiler {
        self.activations = dtype;
        self
    }

    /// A weight of equations (an input that is declared `const`) or of a graph. Its type and extents fill in what the
    /// equations do not declare.
    ///
    /// ```
    /// use tilewright::{Array, Compiler, DType};
    ///
    /// # fn main() -> Result<(), tilewright::Error> {
    /// # tilewright::runtime::testing::nvrtc();
    /// let w = Array::new(DType::F32, &[2, 2], &[1., 0., 0., 2.]).expect("four elements");
    /// let module = Compiler::equations("X: f32[i=1, k=2]; W: const f32[j=2, k]; Y[i,j] = sum[k](X[i,k] * W[j,k])")
    ///     .weight("W", w)
    ///     .compile()?;
    /// let x = Array::new(DType::F32, &[1, 2], &[3., 4.]).expect("two elements");
    /// assert_eq!(module.run(&[("X", &x)])?.output("Y").expect("an output").values(), [3., 8.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn weight(self, name: &str, array: Array) -> Compiler {
        let mut with = self.given(name, array.dtype, &array.dims);
        with.weights.push((name.to_owned(), array));
        with
    }

    /// Makes the weights of a model up from a seed, or those of equations that are not given.
    pub fn random_weights(mut self, seed: Option<u64>) -> Compiler {
        self.random_weights = seed;
        self
    }

    /// How launches are put on the device; default: as suits each phase.
    pub fn mode(mut self, mode: Mode) -> Compiler {
        self.mode = mode;
        self
    }

    /// Where times come from by which the mode `auto` chooses between a graph and a persistent kernel; default: the clock on
    /// the wall on a device that has a clock, and else nowhere: then it is a graph.
    pub fn step_timer(mut self, timer: StepTimer) -> Compiler {
        self.timer = Some(timer);
        self
    }

    /// How many tokens one launch of a persistent kernel gives, at most; with more than one it chooses them itself.
    pub fn tokens_per_launch(mut self, tokens: u32) -> Compiler {
        self.per_launch = tokens;
        self
    }

    /// How the device chooses the next token of a model; default: it does not, unless it goes on with what it chose.
    pub fn choice(mut self, choice: Option<Choice>) -> Compiler {
        self.choice = choice;
        self
    }

    /// Whether a run of a model gives the logits after its last token only, which is all that generation needs; default:
    /// those after each token.
    pub fn last_logits(mut self, last: bool) -> Compiler {
        self.last_logits = last;
        self
    }

    /// What the passes may do.
    pub fn pass_options(mut self, options: PassOptions) -> Compiler {
        self.passes = options;
        self
    }

    /// The machine that costs are estimated for: by the passes, for whole kernels, and by the scheduler of persistent
    /// kernels, for tasks.
    pub fn device_profile(mut self, profile: &DeviceProfile) -> Compiler {
        self.passes.cost = profile.cost_model();
        self.costs = profile.task_costs();
        self
    }

    /// Whether e-graphs of up to so many nodes are drawn; default: none is.
    pub fn egraphs(mut self, most: Option<usize>) -> Compiler {
        self.passes.egraph_dot = most;
        self
    }

    /// What the passes may do, as it is set.
    pub(crate) fn options(&self) -> &PassOptions {
        &self.passes
    }

    /// Whether compiled kernels are kept on disk; default: they are.
    pub fn cache(mut self, cache: bool) -> Compiler {
        self.cache = cache;
        self
    }

    /// How the module runs.
    pub fn session_options(mut self, options: SessionOptions) -> Compiler {
        self.session = options;
        self
    }

    /// Who is told about progress.
    pub fn listener(mut self, listener: Listener) -> Compiler {
        self.listener = listener;
        self
    }

    /// The graphs that will be compiled, with what belongs to them. Needs no device and no NVRTC.
    pub(crate) fn graphs(&self) -> Result<Graphs, Error> {
        match &self.input {
            Input::Equations { text, given, outputs } => {
                let parsed = parse_equations_checked(text, given, outputs)
                    .map_err(|d| Error::text("equations", text, d))?;
                let symbols = parsed
                    .symbol_values
                    .iter()
                    .map(|&(s, v)| (parsed.module.symbols[s].name.clone(), v))
                    .collect();
                let weights = given_weights(&self.weights, self.random_weights, &parsed.module)?;
                Ok(Graphs {
                    phases: vec![("main".to_owned(), parsed.module)],
                    weights: Arc::new(weights),
                    model: None,
                    symbols,
                    notes: Vec::new(),
                })
            }
            Input::Graph { name, graph } => {
                check(&Document::Graph((**graph).clone()))?;
                Ok(Graphs {
                    phases: vec![(name.clone(), (**graph).clone())],
                    weights: Arc::new(given_weights(&self.weights, self.random_weights, graph)?),
                    model: None,
                    symbols: Vec::new(),
                    notes: Vec::new(),
                })
            }
            Input::Model(folder) => {
                self.listener.tell(Event::stage("reading the model"));
                let (config, weights) = match self.random_weights {
                    Some(seed) => hf::open_random(folder, seed)?,
                    None => hf::open_model(folder)?,
                };
                self.model_graphs(&config, weights, self.random_weights.is_none())
            }
            Input::Config { text, seed } => {
                let config = hf::parse_config(text).map_err(hf::ModelError::from)?;
                self.described(config, *seed)
            }
            Input::Described { config, seed } => self.described((**config).clone(), *seed),
        }
    }

    /// Whether it is a model that is compiled.
    pub(crate) fn is_model(&self) -> bool {
        !matches!(self.input, Input::Equations { .. } | Input::Graph { .. })
    }

    /// A model with made-up weights.
    fn described(&self, mut config: hf::Config, seed: u64) -> Result<Graphs, Error> {
        let weights = RandomWeights::new(seed, hf::expected_tensors(&config)).like(config.dtype);
        hf::check_weights(&mut config, &weights).map_err(hf::ModelError::from)?;
        self.model_graphs(&config, Box::new(weights), false)
    }

    /// The same for a small model of the same structure, with made-up weights, and what it is; nothing for what is no
    /// model.
    pub(crate) fn scaled_down(&self, seed: u64) -> Result<Option<(Compiler, String)>, Error> {
        let config = match &self.input {
            Input::Model(folder) => hf::load_config(folder).map_err(hf::ModelError::from)?,
            Input::Config { text, .. } => hf::parse_config(text).map_err(hf::ModelError::from)?,
            Input::Described { config, .. } => (**config).clone(),
            Input::Equations { .. } | Input::Graph { .. } => return Ok(None),
        };
        let small = config.scaled_down();
        let what = format!(
            "scaled down to {} layers of width {}, {} and {} heads of {}",
            small.layers(),
            small.hidden,
            small.heads,
            small.kv_heads,
            small.head_dim
        );
        let max_context = self.max_context.map(|n| n.min(small.max_positions));
        let input = Input::Described { config: Box::new(small), seed };
        Ok(Some((Compiler { input, max_context, ..self.clone() }, what)))
    }

    fn model_graphs(
        &self,
        config: &hf::Config,
        weights: Box<dyn Weights>,
        files: bool,
    ) -> Result<Graphs, Error> {
        let max_context = self.context(config.max_positions)?;
        let mut phases = Vec::new();
        for &phase in &self.phases {
            let options =
                BuildOptions { phase, batch: self.batch, max_context, activations: self.activations };
            let build = if self.last_logits { hf::build_last } else { hf::build_module };
            let mut graph = build(config, &options).map_err(|e| Error::input(e.to_string()))?;
            // The passes may keep operands of contractions in this type.
            for function in graph.functions.values_mut() {
                let dtype = self.activations.name().to_owned();
                function.options.entry("activations".to_owned()).or_insert(dtype);
            }
            phases.push((phase.name().to_owned(), graph));
        }
        let model = ModelInfo {
            vocab: config.vocab,
            layers: config.layers() as u64,
            eos: config.eos.clone(),
            max_context,
            batch: self.batch,
            activations: self.activations,
        };
        let notes = unused(config, &*weights).into_iter().collect();
        Ok(Graphs {
            phases,
            weights: Arc::new(ModelWeights { weights, files }),
            model: Some(model),
            symbols: Vec::new(),
            notes,
        })
    }

    fn context(&self, max_positions: u64) -> Result<u64, Error> {
        match self.max_context {
            Some(0) => Err(Error::input("--max-context is 0: at least 1 position is needed")),
            Some(n) if n > max_positions => Err(Error::Input {
                message: format!("a context of {n} is longer than the model's maximum of {max_positions}"),
                help: Some(format!("use `--max-context {max_positions}` or less")),
            }),
            Some(n) => Ok(n),
            None => Ok(DEFAULT_CONTEXT.min(max_positions)),
        }
    }

    /// What is known of the model before anything is compiled; nothing for equations and graphs.
    pub fn model_info(&self) -> Result<Option<ModelInfo>, Error> {
        Ok(self.graphs()?.model)
    }

    /// Runs the passes only: what `explain` needs.
    pub fn plan(&self) -> Result<Vec<Planned>, Error> {
        self.plan_all(self.graphs()?.phases)
    }

    /// All phases; they share weights.
    fn plan_all(&self, phases: Vec<(String, graph::Module)>) -> Result<Vec<Planned>, Error> {
        let planned = phases.into_iter().map(|(name, graph)| self.plan_one(name, graph));
        let mut planned = planned.collect::<Result<Vec<Planned>, Error>>()?;
        let compiled = planned.iter_mut().map(|p| &mut p.compiled);
        pack(&mut compiled.map(|c| (&mut c.step, &mut c.programs[..])).collect::<Vec<_>>());
        if cfg!(debug_assertions) {
            planned.iter().try_for_each(|p| verify_all(&p.graph, &p.compiled))?;
        }
        Ok(planned)
    }

    fn plan_one(&self, name: String, graph: graph::Module) -> Result<Planned, Error> {
        small_enough(&graph)?;
        self.listener.tell(Event::stage(format!("deriving kernels ({name})")));
        let start = Instant::now();
        let target = self.target.as_deref().map(Target::parse).transpose()?.unwrap_or(Target::BASE);
        let mut compiled = compile_fitting(&graph, &self.passes, target)?;
        if let Some(prologue) = &mut compiled.prologue {
            name_apart(&name, &mut compiled.step, prologue);
        }
        tracing::info!(phase = name, elapsed = ?start.elapsed(), "passes");
        Ok(Planned { name, graph, compiled, elapsed: start.elapsed() })
    }

    /// Compiles everything.
    pub fn compile(self) -> Result<Module, Error> {
        if let Some(target) = &self.target
            && !is_target(target)
        {
            return Err(Error::Usage(format!("`{target}` is no target: expected sm_80, sm_90a, ...")));
        }
        let graphs = self.graphs()?;
        let Opened { device, note } = self.device.open()?;
        let target = self
            .target
            .clone()
            .or_else(|| device.arch().map(str::to_owned))
            .unwrap_or_else(|| DEFAULT_TARGET.to_owned());
        let instructions = Target::parse(&target)?;
        let arch = device.arch().unwrap_or(&target).to_owned();

        let planned = self.plan_all(graphs.phases)?;
        let nvrtc = self.nvrtc()?;
        let store = Store::new(self.toolchain.kernel_store());
        // Where time can be measured, both back ends of the step that runs again and again are made.
        let wall = || device.clock().map(|_| StepTimer::wall());
        let timer = if self.mode == Mode::Auto { self.timer.clone().or_else(wall) } else { None };
        let again = |p: &&Planned| graphs.model.is_some() && p.name == Phase::Decode.name();
        let rival = planned.iter().find(again).filter(|_| timer.is_some()).cloned();
        let mut phases = Vec::new();
        for p in planned {
            let persistent = self.mode == Mode::Megakernel && fits(&p.name);
            phases.push(self.build(p, persistent, &nvrtc, &store, &arch, instructions)?);
        }
        let rival = rival.map(|p| self.build(p, true, &nvrtc, &store, &arch, instructions));
        let searches = phases.iter().flat_map(|p: &CompiledPhase| crate::report::search_notes(&p.planned));
        let notes =
            graphs.notes.into_iter().chain(note).chain(searches).chain(store.take_warnings()).collect();
        let mut module = Module::new(
            phases,
            crate::module::Context {
                device,
                notes,
                target,
                arch,
                nvrtc_version: nvrtc.version_text(),
                weights: graphs.weights,
                model: graphs.model,
                symbols: graphs.symbols,
                session: self.session,
                packed: self.toolchain.packed_store(),
                mode: self.mode,
                per_launch: self.per_launch,
                costs: self.costs,
            },
        );
        if let (Some(rival), Some(timer)) = (rival, &timer) {
            self.listener.tell(Event::stage("choosing between graph and megakernel"));
            let verdict = settle(&mut module, rival, timer)?;
            module.decided(verdict);
        }
        Ok(module)
    }

    fn nvrtc(&self) -> Result<Nvrtc, Error> {
        Ok(Nvrtc::find(&self.toolchain)?)
    }

    /// From tile programs to binaries.
    fn build(
        &self,
        planned: Planned,
        persistent: bool,
        nvrtc: &Nvrtc,
        store: &Store,
        arch: &str,
        target: Target,
    ) -> Result<CompiledPhase, Error> {
        let start = Instant::now();
        let going_on = persistent && self.per_launch > 1;
        let mut planned = planned;
        let choice = self.choice.or(going_on.then_some(Choice::Greedy)).filter(|_| fits(&planned.name));
        let next = match choice {
            Some(choice) => {
                let (step, programs, next) = chosen(&planned.compiled.step, choice, &self.passes)?;
                planned.compiled.step = step;
                planned.compiled.programs.extend(programs);
                mark(&mut planned.compiled.programs, &planned.compiled.step);
                Some(next)
            }
            None => None,
        };
        let repeat = next.filter(|_| going_on).map(|next| repeat(&planned, next)).transpose()?;
        if persistent {
            planned = narrowed(planned, target)?;
        }
        let sources = if persistent {
            vec![kernel_source(&planned, repeat.as_ref(), target)?]
        } else {
            launched(&planned.compiled.step, &planned.compiled.programs, target)?
        };
        let once = match &planned.compiled.prologue {
            Some(step) => launched(step, &planned.compiled.programs, target)?,
            None => Vec::new(),
        };
        let emitting = start.elapsed();
        let start = Instant::now();
        let options = nvrtc_options(arch);
        let compiler =
            KernelCompiler { nvrtc, store: self.cache.then_some(store), arch, options: &options, read_log };
        let stage = format!("compiling kernels ({})", planned.name);
        let (kernels, tally) = compiler.compile_all(&sources, &|done, total| {
            self.listener.tell(Event::count(stage.as_str(), done as u64, total as u64));
        })?;
        let (prologue, _) = compiler.compile_all(&once, &|_, _| {})?;
        let compiling = start.elapsed();
        Ok(CompiledPhase {
            planned,
            sources: sources.into_iter().chain(once).collect(),
            kernels,
            prologue,
            persistent,
            repeat,
            choice,
            tally,
            emitting,
            compiling,
        })
    }

    /// Fetches NVRTC first where there is none.
    pub fn ensure_nvrtc(&self) -> Result<(), Error> {
        find_or_fetch(&self.toolchain, &mut |p| {
            self.listener.tell(Event { stage: p.phase.clone(), done: p.done, total: p.total, bytes: true });
        })?;
        Ok(())
    }
}

/// The most positions of an axis: kernels count them in 32 bits, with room for a block beyond the end.
const MOST_POSITIONS: u64 = 1 << 30;

/// That kernels can count the positions of all axes. (Values of symbols are checked when they are given.)
fn small_enough(graph: &graph::Module) -> Result<(), Error> {
    for function in graph.functions.values() {
        for axis in function.axes.values() {
            if let Some(n) = axis.extent.as_const().filter(|&n| n > MOST_POSITIONS) {
                return Err(Error::Unsupported {
                    message: format!(
                        "axis `{}` has {n} positions, and at most {MOST_POSITIONS} are possible",
                        axis.name
                    ),
                    help: Some("split the axis in two".into()),
                });
            }
        }
    }
    Ok(())
}

/// The sources of the kernels that a step launches, each once.
fn launched(step: &Step, programs: &[TileProgram], target: Target) -> Result<Vec<KernelSource>, Error> {
    let program = |kernel: &str| {
        let found = programs.iter().find(|p| p.name == kernel);
        found.ok_or_else(|| Error::Bug(format!("kernel `{kernel}` has no program")))
    };
    let mut out: Vec<KernelSource> = Vec::new();
    for group in step.groups() {
        let name = step.kernel_of(group.clone());
        if out.iter().any(|k| k.name == name) {
            continue;
        }
        let programs =
            step.launches[group].iter().map(|l| program(&l.kernel)).collect::<Result<Vec<_>, _>>()?;
        out.push(match programs[..] {
            [one] => emit(one, &step.symbols, target)?,
            _ => emit_together(&name, &programs, &step.symbols, target)?,
        });
    }
    Ok(out)
}

/// That what the passes made keeps the invariants of its levels, and prints to a text that means the same.
fn verify_all(graph: &graph::Module, compiled: &Compiled) -> Result<(), Error> {
    let symbols = graph.symbols.clone();
    let plans = compiled.plans.iter().map(|(_, plan)| plan.clone()).collect();
    for document in [
        Document::Graph(graph.clone()),
        Document::Plan(PlanFile { symbols: symbols.clone(), plans }),
        Document::Tile(TileFile { symbols, programs: compiled.programs.clone() }),
    ]
    .into_iter()
    .chain(compiled.prologue.iter().chain([&compiled.step]).cloned().map(Document::Step))
    {
        let level = document.level();
        verify(&document).map_err(|v| Error::Bug(format!("the {level} breaks {}", describe(&v))))?;
        match parse(&print(&document)) {
            Ok(again) if again == document => {}
            Ok(_) => return Err(Error::Bug(format!("the {level} is another after printing and parsing"))),
            Err(e) => return Err(Error::Bug(format!("the printed {level} does not parse: {e}"))),
        }
    }
    Ok(())
}

/// Graphs by phase, and what belongs to them.
pub(crate) struct Graphs {
    pub(crate) phases: Vec<(String, graph::Module)>,
    pub(crate) weights: Arc<dyn TensorSource>,
    pub(crate) model: Option<ModelInfo>,
    /// The values of symbols that given arrays imply.
    pub(crate) symbols: Vec<(String, u64)>,
    /// What is worth knowing about the input.
    pub(crate) notes: Vec<String>,
}

/// Tensors that are named before the rest is only counted.
const NAMED: usize = 8;

/// Tells of tensors that a model has no use for: a folder that holds more than its configuration describes may be another
/// model than it says.
fn unused(config: &hf::Config, weights: &dyn Weights) -> Option<String> {
    let unused = hf::unused_tensors(config, weights);
    let named = unused.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match unused.len() {
        0 => None,
        1 => Some(format!("one tensor of the folder is not used: {named}")),
        n if n <= NAMED => Some(format!("{n} tensors of the folder are not used: {named}")),
        n => Some(format!("{n} tensors of the folder are not used: {named} and {} more", n - NAMED)),
    }
}

/// A phase after the passes.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The name: `decode`, `prefill`, or `main` for equations.
    pub name: String,
    /// The graph.
    pub graph: graph::Module,
    /// Plans, tile programs and the step.
    pub compiled: Compiled,
    /// How long the passes took.
    pub elapsed: Duration,
}

/// A phase after code generation.
#[derive(Clone, Debug)]
pub struct CompiledPhase {
    /// What was generated from.
    pub planned: Planned,
    /// The source of each kernel, those of the prologue last.
    pub sources: Vec<KernelSource>,
    /// The binary of each kernel of the step.
    pub kernels: Vec<KernelBinary>,
    /// The binary of each kernel that runs once, when weights are loaded.
    pub prologue: Vec<KernelBinary>,
    /// Whether they are one persistent kernel.
    pub persistent: bool,
    /// How that goes on to the next step by itself, if it does.
    pub repeat: Option<Repeat>,
    /// How the device chooses the next token, if it does.
    pub choice: Option<Choice>,
    /// How many kernels came from the cache.
    pub tally: Tally,
    /// How long the generation of sources took.
    pub emitting: Duration,
    /// How long NVRTC took.
    pub compiling: Duration,
}

/// Compiles equations and runs them once on arrays, whose types and extents fill in what the text does not declare.
///
/// ```
/// use tilewright::{Array, DType, jit};
///
/// # fn main() -> Result<(), tilewright::Error> {
/// # tilewright::runtime::testing::nvrtc();
/// let x = Array::new(DType::F32, &[3], &[3., -1., 2.]).expect("three elements");
/// let y = jit("y[i] = max(x[i], 0) / max[i](x[i])", &[("x", &x)])?;
/// assert_eq!(y.output("y").expect("an output").values(), [1., 0., 2.0 / 3.0].map(|v: f64| f64::from(v as f32)));
/// # Ok(())
/// # }
/// ```
pub fn jit(equations: &str, inputs: &[(&str, &Array)]) -> Result<tilewright_runtime::exec::RunResult, Error> {
    let compiler = inputs
        .iter()
        .fold(Compiler::equations(equations), |c, (name, array)| c.given(name, array.dtype, &array.dims));
    compiler.compile()?.run(inputs)
}

/// Symbols by number as symbols by name.
pub(crate) fn named(graph: &graph::Module, values: &[(Sym, u64)]) -> Vec<(String, i64)> {
    values
        .iter()
        .map(|&(s, v)| (graph.symbols[s].name.clone(), i64::try_from(v).unwrap_or(i64::MAX)))
        .collect()
}
