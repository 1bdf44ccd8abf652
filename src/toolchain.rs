//! What: the environment of the process, read once.
//! Why here: this is the only module of the workspace that reads environment variables; everything else is handed
//! what it needs, so that a program that embeds the compiler is in control.
//! Pre: none.
//! Post: `TILEWRIGHT_NVRTC`, `TILEWRIGHT_CACHE`, `CUDA_HOME`, `CUDA_PATH` as a [`Toolchain`]; `TILEWRIGHT_LOG` and
//! `NO_COLOR` for the command line.

pub use tilewright_runtime::Toolchain;

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Where external pieces are.
    pub toolchain: Toolchain,
    /// The filter of log messages, e.g. `debug` or `tilewright=trace`.
    pub log: Option<String>,
    /// Whether output must not be coloured.
    pub no_color: bool,
}

/// Reads the environment.
pub fn from_env() -> Environment {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    Environment {
        toolchain: Toolchain::from_vars(|name| std::env::var_os(name)),
        log: set("TILEWRIGHT_LOG").map(|v| v.to_string_lossy().into_owned()),
        no_color: set("NO_COLOR").is_some(),
    }
}
