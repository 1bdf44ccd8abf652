//! What: everything that can go wrong, with the exit code, the kind and the remedy of each.
//! Why here: the crates below name what failed; only the program knows what that means for its user.
//! Pre: none.
//! Post: [`Error::exit_code`] and [`Error::kind`] are stable: scripts rely on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tilewright_codegen::CodegenError;
use tilewright_ir::diag::Diagnostic;
use tilewright_ir::eval::EvalError;
use tilewright_megakernel::MegaError;
use tilewright_passes::PassError;
use tilewright_runtime::device::{DeviceError, SpecError};
use tilewright_runtime::exec::ExecError;
use tilewright_runtime::npy::NpyError;
use tilewright_runtime::nvrtc::{NvrtcError, SetupError};

/// A failure of the compiler, of what it was given, or of the machine.
#[derive(Debug, Error)]
pub enum Error {
    /// The call itself is wrong.
    #[error("{0}")]
    Usage(String),
    /// A text (equations, textual IR) is wrong at a place.
    #[error("{name}: {diagnostic}")]
    Text {
        /// The name of the text: a file, or `equations`.
        name: String,
        /// The text.
        text: Arc<str>,
        /// What is wrong, and where.
        diagnostic: Box<Diagnostic>,
    },
    /// Some other input is wrong: a file, token ids, arrays.
    #[error("{message}")]
    Input {
        /// What is wrong; names the thing.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// A model's configuration or weights are wrong.
    #[error(transparent)]
    Model(#[from] tilewright_frontend::hf::ModelError),
    /// An array file is wrong.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A file cannot be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Something that is not built (yet), or a combination that is not supported.
    #[error("{message}")]
    Unsupported {
        /// What.
        message: String,
        /// What to do instead.
        help: Option<String>,
    },
    /// A comparison with the reference failed.
    #[error("check failed: {0}")]
    Check(String),
    /// A pass.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Code generation.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// A persistent kernel.
    #[error(transparent)]
    Mega(MegaError),
    /// The reference evaluator.
    #[error("the evaluator: {0}")]
    Eval(#[from] EvalError),
    /// NVRTC.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
    /// Fetching NVRTC.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Naming a device.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Running.
    #[error(transparent)]
    Exec(ExecError),
    /// A defect of ours.
    #[error("bug in tilewright: {0}; please report it with the input")]
    Bug(String),
}

impl From<MegaError> for Error {
    fn from(error: MegaError) -> Error {
        match error {
            MegaError::Codegen(error) => Error::Codegen(error),
            other => Error::Mega(other),
        }
    }
}

impl From<ExecError> for Error {
    fn from(error: ExecError) -> Error {
        match error {
            ExecError::Device(error) => Error::Device(error),
            other => Error::Exec(other),
        }
    }
}

/// Which of the stable exit codes an error has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Check,
    Usage,
    Input,
    Environment,
    Limit,
    Bug,
}

impl Error {
    /// Bad input without a remedy beyond its message.
    pub fn input(message: impl Into<String>) -> Error {
        Error::Input { message: message.into(), help: None }
    }

    /// A file that cannot be read or written.
    pub fn io(path: &Path, source: std::io::Error) -> Error {
        Error::Io { path: path.to_owned(), source }
    }

    /// A diagnostic of a text.
    pub fn text(name: &str, text: &str, diagnostic: Diagnostic) -> Error {
        Error::Text { name: name.to_owned(), text: text.into(), diagnostic: Box::new(diagnostic) }
    }

    /// The exit code of the process: 1 a check failed, 2 usage, 3 bad input, 4 environment, 5 a named limit, 70 a bug
    /// of ours.
    pub fn exit_code(&self) -> u8 {
        match self.classify().0 {
            Class::Check => 1,
            Class::Usage => 2,
            Class::Input => 3,
            Class::Environment => 4,
            Class::Limit => 5,
            Class::Bug => 70,
        }
    }

    /// A stable word for the kind of failure.
    pub fn kind(&self) -> &'static str {
        self.classify().1
    }

    /// Whether it is a mistake of this program.
    pub fn is_bug(&self) -> bool {
        matches!(self.classify().0, Class::Bug)
    }

    /// What to do about it, where the message does not say so itself.
    pub fn help(&self) -> Option<String> {
        match self {
            Error::Text { diagnostic, .. } => diagnostic.help.clone(),
            Error::Input { help, .. } | Error::Unsupported { help, .. } => help.clone(),
            Error::Nvrtc(NvrtcError::NotFound { .. }) => Some(
                "`tilewright setup` fetches it; `tilewright doctor` shows where it was looked for".into(),
            ),
            Error::Device(DeviceError::NoDriver | DeviceError::NoDevice { .. }) => {
                Some("`--device emulator` runs everything without a GPU".into())
            }
            Error::Device(DeviceError::Driver { name, .. })
                if name.contains("COOPERATIVE_LAUNCH_TOO_LARGE") =>
            {
                Some(
                    "others hold some of the device's SMs (MPS, MIG, green contexts): use `--mode graph`"
                        .into(),
                )
            }
            Error::Exec(ExecError::SymbolRange { .. }) => {
                Some("compile with a larger `--max-context`, or give less".into())
            }
            _ => None,
        }
    }

    fn classify(&self) -> (Class, &'static str) {
        match self {
            Error::Usage(_) | Error::Spec(_) => (Class::Usage, "usage"),
            Error::Text { .. } => (Class::Input, "syntax"),
            Error::Input { .. } => (Class::Input, "input"),
            Error::Model(_) => (Class::Input, "model"),
            Error::Npy(_) => (Class::Input, "array"),
            Error::Io { .. } => (Class::Input, "file"),
            Error::Unsupported { .. } => (Class::Limit, "unsupported"),
            Error::Check(_) => (Class::Check, "check"),
            Error::Pass(PassError::Limit(_)) => (Class::Limit, "limit"),
            Error::Pass(PassError::Candidate(_)) => (Class::Usage, "usage"),
            Error::Pass(_) => (Class::Bug, "bug"),
            Error::Codegen(CodegenError::SharedMemory { .. } | CodegenError::RegisterTile { .. }) => {
                (Class::Limit, "limit")
            }
            Error::Codegen(_) => (Class::Bug, "bug"),
            Error::Mega(MegaError::TooManyTasks { .. } | MegaError::NoSms) => (Class::Limit, "limit"),
            Error::Mega(_) => (Class::Bug, "bug"),
            Error::Eval(EvalError::TooLarge { .. } | EvalError::Extent { .. }) => (Class::Limit, "limit"),
            Error::Eval(
                EvalError::Source { .. } | EvalError::NoSymbol { .. } | EvalError::SymbolRange { .. },
            ) => (Class::Input, "input"),
            Error::Eval(_) => (Class::Bug, "bug"),
            Error::Nvrtc(error) => match error {
                NvrtcError::NotFound { .. } | NvrtcError::Explicit { .. } | NvrtcError::Load { .. } => {
                    (Class::Environment, "nvrtc")
                }
                NvrtcError::Arch { .. } => (Class::Limit, "target"),
                NvrtcError::Compilation { .. } | NvrtcError::Call { .. } | NvrtcError::ZeroByte { .. } => {
                    (Class::Bug, "bug")
                }
            },
            Error::Setup(SetupError::Nvrtc(_)) | Error::Setup(_) => (Class::Environment, "setup"),
            Error::Device(error) => classify_device(error),
            Error::Exec(error) => match error {
                ExecError::BadStep(_) => (Class::Bug, "bug"),
                ExecError::NotResident { .. }
                | ExecError::Stopped { .. }
                | ExecError::StoppedBetween { .. }
                | ExecError::Late { .. } => (Class::Limit, "limit"),
                ExecError::Lost { .. } => (Class::Bug, "bug"),
                ExecError::Device(error) => classify_device(error),
                ExecError::MissingTensor { .. }
                | ExecError::TensorShape { .. }
                | ExecError::TensorType { .. }
                | ExecError::Tensor { .. } => (Class::Input, "model"),
                _ => (Class::Input, "input"),
            },
            Error::Bug(_) => (Class::Bug, "bug"),
        }
    }
}

fn classify_device(error: &DeviceError) -> (Class, &'static str) {
    match error {
        DeviceError::NoDriver
        | DeviceError::NoDevice { .. }
        | DeviceError::Load { .. }
        | DeviceError::Missing { .. } => (Class::Environment, "device"),
        DeviceError::Profile { .. } => (Class::Usage, "usage"),
        DeviceError::OutOfMemory { .. }
        | DeviceError::Grid { .. }
        | DeviceError::Memory(
            tilewright_emulator::MemoryError::Full { .. } | tilewright_emulator::MemoryError::HostFull { .. },
        ) => (Class::Limit, "memory"),
        // The emulator tells which instruction it does not know.
        DeviceError::Ptx { .. } => (Class::Limit, "ptx"),
        // A kernel that we generated went wrong.
        DeviceError::Launch(_)
        | DeviceError::Findings(_)
        | DeviceError::Memory(_)
        | DeviceError::UnknownKernel(_)
        | DeviceError::UnknownGraph(_) => (Class::Bug, "bug"),
        DeviceError::NoGraphs { .. } | DeviceError::TooFewSms { .. } => (Class::Limit, "unsupported"),
        DeviceError::OldDriver { .. } => (Class::Environment, "device"),
        DeviceError::Driver { name, .. }
            if ["ILLEGAL", "MISALIGNED", "LAUNCH_FAILED", "HARDWARE_STACK", "INVALID_PC", "ASSERT"]
                .iter()
                .any(|word| name.contains(word)) =>
        {
            (Class::Bug, "bug")
        }
        DeviceError::Driver { .. } => (Class::Environment, "device"),
    }
}
