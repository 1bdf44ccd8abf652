//! What: everything that can go wrong between a kernel's source and its binary.
//! Why here: finding, fetching and calling NVRTC share one vocabulary of failures, so that a program can tell a
//! missing piece of the environment from a defect of generated code.
//! Pre: none.
//! Post: each message names the thing and says what to do.

use std::path::PathBuf;

use thiserror::Error;

/// A failure of NVRTC or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NvrtcError {
    /// NVRTC is nowhere.
    #[error(
        "NVRTC was not found: run `tilewright setup` to fetch it, or set TILEWRIGHT_NVRTC to the path of libnvrtc"
    )]
    NotFound {
        /// What was tried and why it did not do.
        tried: Vec<String>,
    },
    /// The library that the user named cannot be used.
    #[error(
        "NVRTC at `{path}`, as set by TILEWRIGHT_NVRTC, cannot be used: {reason}; correct the path or unset it"
    )]
    Explicit {
        /// The path.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A library was found but does not load or lacks a function.
    #[error("`{path}` cannot be used as NVRTC: {reason}")]
    Load {
        /// The path.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// NVRTC does not know the target.
    #[error("NVRTC {version} does not compile for `{arch}`: choose a target among {known}")]
    Arch {
        /// The version of NVRTC.
        version: String,
        /// The target asked for.
        arch: String,
        /// The targets that it knows.
        known: String,
    },
    /// The source does not compile.
    #[error("kernel `{kernel}` does not compile for {arch}; this is a defect of the code generator:\n{log}")]
    Compilation {
        /// The kernel.
        kernel: String,
        /// The target.
        arch: String,
        /// The compiler's log.
        log: String,
    },
    /// NVRTC failed in another way.
    #[error("NVRTC: {call} failed for kernel `{kernel}`: {reason}")]
    Call {
        /// The function of NVRTC.
        call: &'static str,
        /// The kernel.
        kernel: String,
        /// NVRTC's words.
        reason: String,
    },
    /// Text that is handed to NVRTC contains a zero byte.
    #[error("{what} of kernel `{kernel}` contains a zero byte")]
    ZeroByte {
        /// Which text.
        what: &'static str,
        /// The kernel.
        kernel: String,
    },
}

/// Why NVRTC could not be fetched.
#[derive(Debug, Error)]
pub enum SetupError {
    /// No Python.
    #[error(
        "no Python was found (tried {tried}): install Python 3 with pip, or install NVRTC yourself and set TILEWRIGHT_NVRTC"
    )]
    NoPython {
        /// The commands that were tried.
        tried: String,
    },
    /// Python without pip.
    #[error(
        "`{python} -m pip` does not work: install pip (for example `{python} -m ensurepip --user`, or your system's python3-pip)\n{output}"
    )]
    NoPip {
        /// The Python.
        python: String,
        /// What it said.
        output: String,
    },
    /// pip failed.
    #[error("pip could not fetch `{requirement}`: check the network and pip's index settings\n{output}")]
    Pip {
        /// What was asked for.
        requirement: String,
        /// The end of pip's output.
        output: String,
    },
    /// The package did not hold what it should.
    #[error("the fetched package `{requirement}` holds no libnvrtc; please report this")]
    Package {
        /// What was asked for.
        requirement: String,
    },
    /// The directory cannot be written.
    #[error("cannot write `{path}`: {source}; set TILEWRIGHT_CACHE to a directory that can be written")]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// What was fetched does not work.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
}
