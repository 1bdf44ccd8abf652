//! What: where the external pieces are looked for: NVRTC, Python, the cache directory.
//! Why here: libraries never read the environment themselves; the program reads it once and hands over this record.
//! Pre: a lookup of environment variables, or values set by hand.
//! Post: every search of this crate is a function of a [`Toolchain`] and the file system.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where to look for external pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The path of `libnvrtc` that the user insists on; nothing else is tried when it is set.
    pub nvrtc: Option<PathBuf>,
    /// Roots of CUDA toolkits, in order of preference.
    pub cuda_roots: Vec<PathBuf>,
    /// Commands that start Python, in order of preference.
    pub pythons: Vec<PathBuf>,
    /// The directory of everything that Tilewright keeps between runs.
    pub cache: PathBuf,
}

impl Toolchain {
    /// A toolchain that keeps its files in `cache` and looks for everything in the usual places.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Toolchain {
            nvrtc: None,
            cuda_roots: Vec::new(),
            pythons: vec!["python3".into(), "python".into()],
            cache: cache.into(),
        }
    }

    /// The toolchain that a set of environment variables describes: `TILEWRIGHT_NVRTC`, `TILEWRIGHT_CACHE`,
    /// `CUDA_HOME`, `CUDA_PATH`, and the variables that locate the platform's cache directory. Empty values count as
    /// unset.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| var(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let platform_cache = || {
            if cfg!(windows) {
                path("LOCALAPPDATA")
            } else if cfg!(target_os = "macos") {
                path("HOME").map(|home| home.join("Library/Caches"))
            } else {
                path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")))
            }
        };
        let cache = path("TILEWRIGHT_CACHE")
            .unwrap_or_else(|| platform_cache().unwrap_or_else(std::env::temp_dir).join("tilewright"));
        Toolchain {
            nvrtc: path("TILEWRIGHT_NVRTC"),
            cuda_roots: ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(path).collect(),
            ..Toolchain::new(cache)
        }
    }

    /// Where fetched NVRTC libraries live.
    pub fn nvrtc_store(&self) -> PathBuf {
        self.cache.join("nvrtc")
    }

    /// Where weights are kept in the order in which kernels read them.
    pub fn packed_store(&self) -> PathBuf {
        self.cache.join("packed")
    }

    /// Where compiled kernels are kept.
    pub fn kernel_store(&self) -> PathBuf {
        self.cache.join("kernels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Toolchain {
        Toolchain::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn variables_win_over_defaults() {
        let t = from(&[
            ("TILEWRIGHT_NVRTC", "/a/libnvrtc.so"),
            ("TILEWRIGHT_CACHE", "/c"),
            ("CUDA_PATH", "/p"),
            ("CUDA_HOME", "/h"),
            ("HOME", "/u"),
        ]);
        assert_eq!(t.nvrtc.as_deref(), Some("/a/libnvrtc.so".as_ref()));
        assert_eq!(t.cache, PathBuf::from("/c"));
        assert_eq!(t.cuda_roots, [PathBuf::from("/h"), PathBuf::from("/p")]);
    }

    #[test]
    fn empty_means_unset() {
        let t = from(&[("TILEWRIGHT_NVRTC", ""), ("TILEWRIGHT_CACHE", ""), ("CUDA_HOME", "")]);
        assert_eq!(t.nvrtc, None);
        assert!(t.cuda_roots.is_empty());
        assert!(t.cache.ends_with("tilewright"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_platform_cache_is_the_default() {
        assert_eq!(from(&[("HOME", "/u")]).cache, PathBuf::from("/u/.cache/tilewright"));
        assert_eq!(from(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")]).cache, PathBuf::from("/x/tilewright"));
    }
}
