//! What: the arguments of the command line.
//! Why here: one place shows the whole surface; commands get typed values.
//! Pre: none.
//! Post: what can be checked without touching a file has been checked.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use tilewright::spec::{Assignment, SymbolValue};

/// Compiles transformer models into fused CUDA kernels that it derives, and runs them on a GPU or on a built-in
/// emulator.
#[derive(Debug, Parser)]
#[command(name = "tilewright", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How results are printed on stdout; progress and logs go to stderr.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object on stdout; errors too.
    Json,
    /// One self-contained page on stdout (`explain` only).
    Html,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set up what is missing, then compile, check and run a small model.
    Demo(DemoArgs),
    /// Fetch NVRTC into the cache directory, if it is not found elsewhere.
    Setup(SetupArgs),
    /// Say what was found: NVRTC, driver, GPUs, Python, cache.
    Doctor,
    /// Compile a model, a textual IR file or equations, and write what was asked for.
    Compile(CompileArgs),
    /// Generate tokens, always taking the most likely one.
    Run(RunArgs),
    /// Cross-entropy and perplexity of a list of tokens.
    Score(ScoreArgs),
    /// Show how each kernel was derived: each law, before and after.
    Explain(ExplainArgs),
    /// Check certificates, exact identities, hard inputs and kernels of a model or of equations.
    Verify(VerifyArgs),
    /// Write down when each SM did what in one step of a persistent kernel.
    Profile(ProfileArgs),
    /// Prove that the schedule of a persistent kernel orders what must be ordered and cannot hang.
    Check(CheckArgs),
    /// Compile equations and run them on arrays; without inputs, compile and report.
    Jit(JitArgs),
    /// List the laws that derivations are made of: name, equation, conditions.
    Laws,
    /// Run passes on textual IR.
    Opt(OptArgs),
    /// Run a PTX kernel on the built-in emulator, with checks.
    Emulate(EmulateArgs),
    /// Check every kernel of the test models and of a set of equations on a device.
    Selftest(SelftestArgs),
    /// Time kernels, whole steps and compilations on a GPU, or count what they do on the emulator.
    Bench(BenchArgs),
    /// Measure what a device does (streams, boundaries of launches, flags, barriers, rings of bulk copies) as a profile.
    Calibrate(CalibrateArgs),
}

/// What is compiled and how; shared by the commands that take a model.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelArgs {
    /// Make the weights up from this seed instead of reading them.
    #[arg(long, value_name = "SEED")]
    pub(crate) random_weights: Option<u64>,
    /// The target, e.g. sm_80 or sm_90a. Default: the device's, else sm_80.
    #[arg(long, value_name = "ARCH")]
    pub(crate) target: Option<String>,
    /// auto, cuda:N, emulator or emulator:PROFILE, a machine by its name or a file that `calibrate` wrote. auto is cuda:0
    /// if it works, else the emulator.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
    /// The type of activations, the KV cache and intermediate results.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) activations: Activations,
    /// The longest context. Default: 4096, or the model's maximum if that is smaller.
    #[arg(long, value_name = "N")]
    pub(crate) max_context: Option<u64>,
    /// launch, graph, megakernel or auto.
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub(crate) mode: String,
    /// The most e-nodes that the search of one function may make. Where they do not suffice, the best plan so far is
    /// taken, and the output says so. Default: 60000.
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) search_budget: Option<u64>,
    /// What kernels are chosen for.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) objective: ObjectiveArg,
    /// Take this candidate instead of the cheapest, e.g. unfused; `explain --candidates` lists them.
    #[arg(long, value_name = "NAME")]
    pub(crate) candidate: Option<String>,
    /// Estimate costs for the machine that this profile describes, and schedule persistent kernels for it; `--device
    /// emulator` is then that machine. `calibrate` writes profiles.
    #[arg(long, value_name = "FILE")]
    pub(crate) device_profile: Option<PathBuf>,
}

/// What kernels are chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectiveArg {
    /// The least estimated time: launches, memory, arithmetic.
    #[default]
    Latency,
    /// The fewest bytes from and to global memory, then the least arithmetic.
    Traffic,
}

/// The type of activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Activations {
    /// bfloat16.
    #[default]
    Bf16,
    /// IEEE half precision.
    F16,
    /// IEEE single precision, also inside kernels.
    F32,
}

/// A phase of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PhaseArg {
    /// One token at a time.
    Decode,
    /// Many tokens at once.
    Prefill,
}

/// What `compile` and `jit` write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Emit {
    /// The graph: `graph.tw`.
    Graph,
    /// The plan: `plan.tw`.
    Plan,
    /// The derivations: `laws.txt`.
    Laws,
    /// The tile programs: `tile.tw`.
    Tile,
    /// The launches: `step.tw`.
    Step,
    /// The source of each kernel: `NAME.cu`.
    Cuda,
    /// The PTX of each kernel: `NAME.ptx`.
    Ptx,
    /// The CUBIN of each kernel: `NAME.cubin`.
    Cubin,
    /// Resources, timings and sizes: `report.json`.
    Report,
    /// The e-graph of each function for Graphviz: `egraph.dot`; only when it is asked for.
    EgraphDot,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// auto, cuda:N, emulator or emulator:PROFILE.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
}

/// `setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Fetch into the cache directory even if NVRTC is found elsewhere.
    #[arg(long)]
    pub(crate) force: bool,
}

/// `compile`.
#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// Only one phase. Default: both.
    #[arg(long, value_enum)]
    pub(crate) phase: Option<PhaseArg>,
    /// Sequences of a model at once. Default: 1.
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<u64>,
    /// What to write, separated by commas. Default: everything, when there is a directory.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(crate) emit: Vec<Emit>,
    /// The directory; it appears complete or not at all. Without it, what --emit asks for goes to stdout.
    #[arg(short = 'o', long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// The largest e-graph that `--emit egraph-dot` draws.
    #[arg(long, value_name = "NODES", default_value_t = 1000)]
    pub(crate) egraph_nodes: u64,
    /// Print how long each pass took, on stderr.
    #[arg(long)]
    pub(crate) time_passes: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A Hugging Face folder.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// The tokens of the prompt, separated by commas. Several prompts are a batch; they may have different lengths.
    #[arg(long, value_name = "IDS", allow_hyphen_values = true, required_unless_present = "prompt")]
    pub(crate) ids: Vec<String>,
    /// The prompt as text, which the folder's tokenizer.json turns into tokens; the text that follows is printed as it
    /// comes. Several prompts are a batch.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "ids")]
    pub(crate) prompt: Vec<String>,
    /// How many tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) tokens: u64,
    /// Compare the logits of each step with the evaluator's.
    #[arg(long)]
    pub(crate) check: bool,
    /// Go on after an end-of-sequence token.
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Choose tokens by chance: logits are divided by this. 0 is always the most likely token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Choose among the K most likely tokens (and those as likely as the last). Needs a temperature.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<u32>,
    /// Choose among the most likely tokens that make up a share of P. Needs a temperature.
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Where chance comes from: the same seed gives the same tokens in every mode.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Tokens of one launch: with more than one, the kernel chooses them and goes on by itself. Needs --mode megakernel.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub(crate) tokens_per_launch: u32,
}

/// `score`.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// A Hugging Face folder.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// A JSON array of token ids.
    #[arg(long, value_name = "FILE")]
    pub(crate) ids_file: PathBuf,
    /// Token by token, or all at once.
    #[arg(long, value_enum, default_value = "decode")]
    pub(crate) path: PhaseArg,
    /// Write the logits as float32 .npy, [tokens, vocabulary].
    #[arg(long, value_name = "FILE")]
    pub(crate) logits_out: Option<PathBuf>,
}

/// What is compiled: a model, or equations.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// A Hugging Face folder or a textual IR file (.tw).
    #[arg(required_unless_present = "equations", conflicts_with = "equations")]
    pub(crate) model: Option<PathBuf>,
    /// Equations instead of a model.
    #[arg(short = 'e', long, value_name = "EQUATIONS")]
    pub(crate) equations: Option<String>,
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// Only one phase. Default: both.
    #[arg(long, value_enum)]
    pub(crate) phase: Option<PhaseArg>,
    /// Only this kernel.
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Write the page of `--format html` to this file instead of stdout.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// List the plans that there were to choose from, with their costs.
    #[arg(long, conflicts_with = "kernel")]
    pub(crate) candidates: bool,
    /// Count bytes at this value of a symbol: NAME=VALUE; repeatable. Others take typical values.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) symbols: Vec<SymbolValue>,
    /// Print each step in full; without it, long ones are shortened where they did not change. JSON and the page always
    /// have all of them.
    #[arg(long)]
    pub(crate) whole: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// Only one phase. Default: both.
    #[arg(long, value_enum)]
    pub(crate) phase: Option<PhaseArg>,
    /// The seed of inputs and oracles.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Do not compile and run kernels: needs neither NVRTC nor a device, and says that they are not tested.
    #[arg(long)]
    pub(crate) without_kernels: bool,
    /// Write the report with all certificates to this JSON file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A Hugging Face folder or a textual IR file (.tw).
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// Sequences of a model at once. Default: 1.
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<u64>,
}

/// `profile`.
#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// A Hugging Face folder.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) common: ModelArgs,
    /// The tokens that are fed, separated by commas; the step of the last one is looked at.
    #[arg(long, value_name = "IDS", default_value = "1")]
    pub(crate) ids: String,
    /// Write a trace for Perfetto or Chrome.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Write a page with a row for each SM.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// `jit`.
#[derive(Debug, Args)]
pub(crate) struct JitArgs {
    /// Equations, e.g. "O[i] = sum[j](A[i,j] * x[j])".
    pub(crate) equations: String,
    /// An input array: NAME=FILE.npy; repeatable.
    #[arg(long = "in", value_name = "NAME=FILE")]
    pub(crate) inputs: Vec<Assignment>,
    /// An output array: NAME=FILE.npy, or just NAME; repeatable. Default: the last definition.
    #[arg(long = "out", value_name = "NAME[=FILE]")]
    pub(crate) outputs: Vec<String>,
    /// The value of a symbolic extent that no input has: NAME=VALUE; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) symbols: Vec<SymbolValue>,
    /// The target, e.g. sm_80 or sm_90a. Default: the device's, else sm_80.
    #[arg(long, value_name = "ARCH")]
    pub(crate) target: Option<String>,
    /// auto, cuda:N, emulator or emulator:PROFILE.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
    /// Compare the outputs with the evaluator's.
    #[arg(long)]
    pub(crate) check: bool,
    /// What to print besides, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(crate) emit: Vec<Emit>,
}

/// `opt`.
#[derive(Debug, Args)]
pub(crate) struct OptArgs {
    /// A textual IR file, or - for stdin.
    pub(crate) file: PathBuf,
    /// Passes in order, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "PASSES")]
    pub(crate) passes: Vec<String>,
}

/// `emulate`.
#[derive(Debug, Args)]
pub(crate) struct EmulateArgs {
    /// A JSON file: ptx, entry, grid, block, args and more, or several launches; paths are relative to it.
    pub(crate) launch: PathBuf,
    /// Run this adversarial schedule instead of the fast one. Equal seeds replay exactly.
    #[arg(long, value_name = "N", conflicts_with = "explore")]
    pub(crate) seed: Option<u64>,
    /// Run the schedules of seeds 0 to N-1, each on fresh arrays; results are those of seed 0.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) explore: Option<u64>,
    /// Checks: all, none, or of bounds, align, uninit, race, nc, proxy, mbarrier, barrier, deadlock, separated by
    /// commas. What ends a launch on a device is reported in any case.
    #[arg(long, default_value = "all", value_name = "CHECKS")]
    pub(crate) sanitize: String,
    /// The machine: its name, or a file that `calibrate` wrote. Default: the file's `profile`, else tiny4.
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) profile: Option<String>,
    /// Write the counters to this JSON file.
    #[arg(long, value_name = "FILE")]
    pub(crate) counters: Option<PathBuf>,
    /// Write every `inout` array into this directory, under its own file name.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// `selftest`.
#[derive(Debug, Args)]
pub(crate) struct SelftestArgs {
    /// auto, cuda:N, emulator or emulator:PROFILE.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
    /// The target, e.g. sm_80 or sm_90a. Default: the device's, else sm_80.
    #[arg(long, value_name = "ARCH")]
    pub(crate) target: Option<String>,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Write down what the conformance kernels gave on this GPU, to be compared with on other machines.
    #[arg(long, value_name = "FILE", conflicts_with = "pins")]
    pub(crate) write_pins: Option<PathBuf>,
    /// Compare with the pins of this file instead of those that come with the program.
    #[arg(long, value_name = "FILE")]
    pub(crate) pins: Option<PathBuf>,
}

/// What `bench` runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteArg {
    /// Single equations: products, attention, norms, mixtures of experts.
    Kernels,
    /// Whole steps of models with made-up weights.
    Steps,
    /// Compilations of the shipped configurations, with an empty cache and with a full one.
    Compile,
    /// All of them.
    #[default]
    All,
}

/// `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to run.
    #[arg(value_enum, default_value_t)]
    pub(crate) suite: SuiteArg,
    /// launch, graph, megakernel, auto or all. A mode that is not there is a row that says so; auto is one row, of the mode
    /// that it takes.
    #[arg(long, default_value = "launch", value_name = "MODE")]
    pub(crate) mode: String,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// auto, cuda:N, emulator or emulator:PROFILE. The emulator takes smaller sizes, and counts.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
    /// The target, e.g. sm_80 or sm_90a. Default: the device's, else sm_80.
    #[arg(long, value_name = "ARCH")]
    pub(crate) target: Option<String>,
    /// Only the essentials, with fewer samples.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Begin no further case after so many seconds.
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// The seed of inputs and weights.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u32,
    /// A name that runs in the same place at the same time share, so that the report compares them.
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// Estimate costs for the machine that this profile describes, and schedule persistent kernels for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) device_profile: Option<PathBuf>,
    /// Write the results to this JSON file; benches/schema.json describes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw a picture per family (SVG) into this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
    /// Compare with earlier results; what became worse fails.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
}

/// `calibrate`.
#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// auto, cuda:N, emulator or emulator:PROFILE. On the emulator results are checked, and nothing is timed.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: String,
    /// The target, e.g. sm_80 or sm_90a. Default: the device's, else sm_80, which has no bulk copies.
    #[arg(long, value_name = "ARCH")]
    pub(crate) target: Option<String>,
    /// Write the profile to this JSON file.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
