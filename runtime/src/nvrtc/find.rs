//! What: the search for NVRTC.
//! Why here: the order of places is a promise to users, and `doctor` prints it; so it is a list that can be shown,
//! apart from loading.
//! Pre: a [`Toolchain`].
//! Post: the first library that loads, and for every place that was tried what became of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::library::loader_names;
use super::{Nvrtc, NvrtcError};
use crate::Toolchain;

/// A place where NVRTC may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The path, or a bare name for the platform's loader.
    pub path: PathBuf,
    /// Which rule of the search led here.
    pub origin: Origin,
}

/// The rules of the search, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `TILEWRIGHT_NVRTC`.
    Explicit,
    /// A CUDA toolkit named by `CUDA_HOME` or `CUDA_PATH`.
    CudaHome,
    /// A wheel in Python's site-packages.
    Python,
    /// The platform's loader.
    Loader,
    /// What `tilewright setup` fetched.
    Store,
}

impl Origin {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Origin::Explicit => "TILEWRIGHT_NVRTC",
            Origin::CudaHome => "CUDA_HOME or CUDA_PATH",
            Origin::Python => "Python's site-packages",
            Origin::Loader => "the system's library path",
            Origin::Store => "tilewright setup",
        }
    }
}

/// The outcome of the search.
#[derive(Debug)]
pub struct Search {
    /// What was found.
    pub nvrtc: Result<Nvrtc, NvrtcError>,
    /// What was tried, in order, with the reason where it did not do.
    pub tried: Vec<String>,
}

/// Looks for NVRTC: the explicit path alone when there is one; else the toolkits, Python's site-packages, the loader,
/// and what `setup` fetched, in that order.
pub fn search(toolchain: &Toolchain) -> Search {
    let mut tried = Vec::new();
    if let Some(path) = &toolchain.nvrtc {
        let candidate = Candidate { path: path.clone(), origin: Origin::Explicit };
        let nvrtc = Nvrtc::open(&candidate).map_err(|e| NvrtcError::Explicit {
            path: path.clone(),
            reason: match e {
                NvrtcError::Load { reason, .. } => reason,
                other => other.to_string(),
            },
        });
        tried.push(line(&candidate, nvrtc.as_ref().err()));
        return Search { nvrtc, tried };
    }
    // Each rule is asked only when those before it found nothing: asking Python costs a process.
    let rules: [(Origin, &dyn Fn() -> Vec<PathBuf>); 4] = [
        (Origin::CudaHome, &|| toolchain.cuda_roots.iter().flat_map(|r| in_toolkit(r)).collect()),
        (Origin::Python, &|| site_packages(toolchain).iter().flat_map(|d| in_site(d)).collect()),
        (Origin::Loader, &loader_names),
        (Origin::Store, &|| in_store(&toolchain.nvrtc_store())),
    ];
    for (origin, rule) in rules {
        let paths = rule();
        if paths.is_empty() {
            tried.push(format!("{}: no libnvrtc there", origin.describe()));
        }
        for path in paths {
            let candidate = Candidate { path, origin };
            let opened = Nvrtc::open(&candidate);
            tried.push(line(&candidate, opened.as_ref().err()));
            if opened.is_ok() {
                return Search { nvrtc: opened, tried };
            }
        }
    }
    Search { nvrtc: Err(NvrtcError::NotFound { tried: tried.clone() }), tried }
}

/// Looks in what `setup` fetched only.
pub(super) fn search_store(store: &Path) -> Option<Nvrtc> {
    in_store(store).into_iter().find_map(|path| Nvrtc::open(&Candidate { path, origin: Origin::Store }).ok())
}

fn line(candidate: &Candidate, error: Option<&NvrtcError>) -> String {
    let place = format!("{}: {}", candidate.origin.describe(), candidate.path.display());
    match error {
        None => place,
        Some(NvrtcError::Load { reason, .. }) => format!("{place}: {reason}"),
        Some(other) => format!("{place}: {other}"),
    }
}

/// NVRTC libraries in a directory, the newest major version first.
fn libraries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((library_version(&name)?, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The major version in a library's file name (0 when it has none), or nothing when the file is not NVRTC.
fn library_version(name: &str) -> Option<u64> {
    if let Some(rest) = name.strip_prefix("libnvrtc.so") {
        if rest.is_empty() {
            return Some(0);
        }
        // `.alt` files are a second build of the library without some features.
        return rest.strip_prefix('.')?.split('.').next()?.parse().ok();
    }
    if cfg!(windows) && name.starts_with("nvrtc64_") && name.ends_with("_0.dll") {
        return name["nvrtc64_".len()..].split('_').next()?.parse::<u64>().ok().map(|v| v / 10);
    }
    // PyTorch used to ship the library under a name with a hash.
    (name.starts_with("libnvrtc-") && !name.contains("builtins") && name.contains(".so")).then_some(0)
}

fn in_toolkit(root: &Path) -> Vec<PathBuf> {
    ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib", "bin", "bin/x64"]
        .iter()
        .flat_map(|sub| libraries(&root.join(sub)))
        .collect()
}

/// NVRTC in one site-packages directory: NVIDIA's wheels (`nvidia/cu13`, `nvidia/cuda_nvrtc`), then PyTorch's own.
fn in_site(site: &Path) -> Vec<PathBuf> {
    let mut packages: Vec<PathBuf> = std::fs::read_dir(site.join("nvidia"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    // `cu13` before `cu12` before `cuda_nvrtc`, which is CUDA 12 or older.
    packages.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let toolkit = name.strip_prefix("cu").and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        (u64::MAX - toolkit, name)
    });
    packages
        .iter()
        .flat_map(|package| ["lib", "bin"].map(|sub| package.join(sub)))
        .chain([site.join("torch/lib")])
        .flat_map(|dir| libraries(&dir))
        .collect()
}

fn in_store(store: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir(store)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        // Directories whose names start with a dot are being written.
        .filter(|p| p.is_dir() && !p.file_name().unwrap_or_default().to_string_lossy().starts_with('.'))
        .collect();
    versions.sort();
    versions.reverse();
    versions.iter().flat_map(|v| in_site(v)).collect()
}

/// The directories from which the first working Python imports packages.
fn site_packages(toolchain: &Toolchain) -> Vec<PathBuf> {
    const ASK: &str = "import sys, site\n\
        dirs = list(sys.path)\n\
        dirs += site.getsitepackages() if hasattr(site, 'getsitepackages') else []\n\
        dirs += [site.getusersitepackages()] if hasattr(site, 'getusersitepackages') else []\n\
        print('\\n'.join(dict.fromkeys(d for d in dirs if d)))";
    for python in &toolchain.pythons {
        let output = Command::new(python)
            .args(["-c", ASK])
            // Otherwise the current directory would be searched for packages.
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        if let Ok(output) = output
            && output.status.success()
        {
            return String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(library_version("libnvrtc.so"), Some(0));
        assert_eq!(library_version("libnvrtc.so.13"), Some(13));
        assert_eq!(library_version("libnvrtc.so.12.8.93"), Some(12));
        assert_eq!(library_version("libnvrtc-672ee683.so.11.2"), Some(0));
        for other in [
            "libnvrtc.alt.so.13",
            "libnvrtc-builtins.so.13.5",
            "libnvrtc-builtins.alt.so.13.5",
            "libnvrtc_static.a",
            "libcuda.so.1",
        ] {
            assert_eq!(library_version(other), None, "{other}");
        }
    }

    #[test]
    fn newer_wheels_come_first() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "nvidia/cu13/lib/libnvrtc.so.13",
            "nvidia/cu13/lib/libnvrtc-builtins.so.13.5",
            "nvidia/cublas/lib/libcublas.so.12",
            "torch/lib/libnvrtc.so.11.2",
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let found: Vec<_> = in_site(dir.path())
            .iter()
            .map(|p| p.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            found,
            [
                "nvidia/cu13/lib/libnvrtc.so.13",
                "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
                "torch/lib/libnvrtc.so.11.2"
            ]
        );
    }

    #[test]
    fn an_explicit_path_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("libnvrtc.so.13");
        for exists in [false, true] {
            if exists {
                std::fs::write(&bad, b"not a library").unwrap();
            }
            let toolchain = Toolchain { nvrtc: Some(bad.clone()), ..Toolchain::new(dir.path()) };
            let result = search(&toolchain);
            assert_eq!(result.tried.len(), 1);
            match result.nvrtc {
                Err(NvrtcError::Explicit { path, .. }) => assert_eq!(path, bad),
                other => panic!("{other:?}"),
            }
        }
    }
}
