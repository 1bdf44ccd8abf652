//! What: CUDA C++ to PTX and CUBIN with NVRTC, the compiler as a library: finding it, fetching it, calling it.
//! Why here: it is a foreign shared library that may be missing, in several versions, in many places.
//! Pre: a [`Toolchain`](crate::Toolchain) that says where to look; sources without includes.
//! Post: binaries with the compiler's log, or an error that says what to run. Nothing here panics on a missing or
//! broken library, and every function may be called from several threads.

mod error;
mod find;
mod library;
mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tilewright_ir::artifact::KernelSource;

pub use error::{NvrtcError, SetupError};
pub use find::{Candidate, Origin, Search, search};
pub use library::Compilation;
use library::{CompileFailure, Functions};
pub use setup::{Progress, REQUIREMENT, fetch, find_or_fetch};

/// The first version of which it is known that it writes what its parts take.
const TELLS_TIMES: u32 = 13;

/// The parts of a table of times: lines of a file, a part, a number and its unit.
fn parts_of(table: &str) -> Vec<(String, u64)> {
    let of_line = |line: &str| {
        let mut fields = line.rsplitn(3, ',').map(str::trim);
        let (unit, number, rest) = (fields.next()?, fields.next()?, fields.next()?);
        let part = rest.split_once(',')?.1.trim();
        Some((part.to_owned(), number.parse().ok().filter(|_| unit == "ms")?))
    };
    table.lines().filter_map(of_line).collect()
}

/// A usable NVRTC. Clones share the loaded library.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    functions: Functions,
    info: Arc<Info>,
}

#[derive(Debug)]
struct Info {
    path: PathBuf,
    origin: Origin,
    version: (u32, u32),
    archs: Vec<u32>,
}

impl Nvrtc {
    /// Opens a library and asks for its version.
    pub fn open(candidate: &Candidate) -> Result<Nvrtc, NvrtcError> {
        let path = candidate.path.clone();
        let functions = Functions::open(&path)?;
        let load = |reason: String| NvrtcError::Load { path: path.clone(), reason };
        let version = functions.version().ok_or_else(|| load("it does not tell its version".into()))?;
        if version.0 < 12 {
            return Err(load(format!("version {}.{} is older than 12.0", version.0, version.1)));
        }
        let archs = functions.archs();
        Ok(Nvrtc { functions, info: Arc::new(Info { path, origin: candidate.origin, version, archs }) })
    }

    /// Finds NVRTC, see [`search`].
    pub fn find(toolchain: &crate::Toolchain) -> Result<Nvrtc, NvrtcError> {
        search(toolchain).nvrtc
    }

    /// Where it was loaded from; a bare name when the platform's loader found it.
    pub fn path(&self) -> &Path {
        &self.info.path
    }

    /// Which rule of the search found it.
    pub fn origin(&self) -> Origin {
        self.info.origin
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        self.info.version
    }

    /// The version as text, e.g. `13.5`.
    pub fn version_text(&self) -> String {
        format!("{}.{}", self.info.version.0, self.info.version.1)
    }

    /// The real architectures that it compiles for, without the feature suffixes that some have: `[75, 80, ...]`.
    pub fn archs(&self) -> &[u32] {
        &self.info.archs
    }

    /// Whether the target, e.g. `sm_90a`, may be known: its number is.
    pub fn knows(&self, arch: &str) -> bool {
        let digits = arch
            .strip_prefix("sm_")
            .or_else(|| arch.strip_prefix("compute_"))
            .map(|rest| rest.trim_end_matches(['a', 'f']));
        digits.and_then(|d| d.parse().ok()).is_some_and(|n: u32| self.info.archs.contains(&n))
    }

    /// Compiles one kernel for `arch`, e.g. `sm_80`: one run gives PTX and, for a real architecture, the CUBIN. The
    /// option that names the architecture is added to `options`, any that is there already is replaced.
    pub fn compile(
        &self,
        source: &KernelSource,
        arch: &str,
        options: &[String],
    ) -> Result<Compilation, NvrtcError> {
        let unknown = || NvrtcError::Arch {
            version: self.version_text(),
            arch: arch.to_owned(),
            known: self.archs().iter().map(|n| format!("sm_{n}")).collect::<Vec<_>>().join(", "),
        };
        if !self.knows(arch) {
            return Err(unknown());
        }
        let names_arch = |o: &String| o.starts_with("--gpu-architecture=") || o.starts_with("-arch=");
        let mut all = vec![format!("--gpu-architecture={arch}")];
        all.extend(options.iter().filter(|o| !names_arch(o)).cloned());
        // Without the file, nothing is known of parts, and that is all.
        let table = tempfile::NamedTempFile::new().ok().filter(|_| self.info.version.0 >= TELLS_TIMES);
        all.extend(table.iter().map(|t| format!("--time={}", t.path().display())));
        let result = self.functions.compile(&source.name, &source.cuda, &all);
        let parts = table.and_then(|t| std::fs::read_to_string(t.path()).ok()).unwrap_or_default();
        let result = result.map(|c| Compilation { parts: parts_of(&parts), ..c });
        result.map_err(|failure| match failure {
            // A number that is known may have a suffix that is not; the two parts of the compiler say so differently.
            CompileFailure::Option(log) | CompileFailure::Source(log)
                if log.contains("gpu-architecture") || log.contains("nv_arch") =>
            {
                unknown()
            }
            CompileFailure::Option(log) | CompileFailure::Source(log) => {
                NvrtcError::Compilation { kernel: source.name.clone(), arch: arch.to_owned(), log }
            }
            CompileFailure::Other(error) => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_times_are_read() {
        let table = "File name, phase name, metric, unit\nk.cu, CUDA C++ Frontend, 170, ms\nk.cu, NVVM Optimizer, 2070, ms\n";
        let expected = [("CUDA C++ Frontend", 170), ("NVVM Optimizer", 2070)].map(|(n, t)| (n.to_owned(), t));
        assert_eq!(parts_of(table), expected);
        for odd in ["", "k.cu", "k.cu, x, y, ms", "k.cu, x, 3, s", ",,,"] {
            assert_eq!(parts_of(odd), [], "{odd}");
        }
    }
}
