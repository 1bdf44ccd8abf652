//! What: fetching NVRTC with pip into the cache directory.
//! Why here: a machine without CUDA has everything else that Tilewright needs; this brings the one missing piece.
//! Pre: Python with pip, an index that pip can reach, a directory that can be written.
//! Post: a complete copy in the store or nothing: the package is unpacked aside and renamed; concurrent calls wait
//! for each other.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::find::search_store;
use super::{Nvrtc, SetupError, search};
use crate::Toolchain;

/// The package and the versions of it that are asked for.
pub const REQUIREMENT: &str = "nvidia-cuda-nvrtc>=13,<14";

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is happening, in a few words.
    pub phase: String,
    /// Bytes so far.
    pub done: u64,
    /// Bytes altogether, once they are known.
    pub total: Option<u64>,
}

/// Finds NVRTC, and fetches it when it is not there.
pub fn find_or_fetch(
    toolchain: &Toolchain,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Nvrtc, SetupError> {
    match search(toolchain).nvrtc {
        Err(super::NvrtcError::NotFound { .. }) => fetch(toolchain, progress),
        found => Ok(found?),
    }
}

/// Fetches NVRTC into the store, unless a working copy is there already.
pub fn fetch(toolchain: &Toolchain, progress: &mut dyn FnMut(&Progress)) -> Result<Nvrtc, SetupError> {
    let store = toolchain.nvrtc_store();
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SetupError::Io { path, source }
    };
    fs::create_dir_all(&store).map_err(io(&store))?;
    let lock_path = store.join(".lock");
    let lock = File::create(&lock_path).map_err(io(&lock_path))?;
    // Held until the file is closed at the end of this function.
    lock.lock().map_err(io(&lock_path))?;
    if let Some(nvrtc) = search_store(&store) {
        return Ok(nvrtc);
    }

    let python = python_with_pip(toolchain)?;
    let aside = tempfile::Builder::new().prefix(".setup-").tempdir_in(&store).map_err(io(&store))?;
    let (target, downloads) = (aside.path().join("package"), aside.path().join("tmp"));
    fs::create_dir(&downloads).map_err(io(&downloads))?;
    run_pip(&python, &target, &downloads, progress)?;

    let version = package_version(&target)
        .ok_or_else(|| SetupError::Package { requirement: REQUIREMENT.to_owned() })?;
    let place = store.join(format!("v{version}"));
    if place.exists() {
        // It did not load (see above), so it is damaged.
        fs::remove_dir_all(&place).map_err(io(&place))?;
    }
    fs::rename(&target, &place).map_err(io(&place))?;
    search_store(&store).ok_or_else(|| match search(toolchain).nvrtc {
        Err(error) => SetupError::Nvrtc(error),
        Ok(_) => SetupError::Package { requirement: REQUIREMENT.to_owned() },
    })
}

/// The first Python that has pip.
fn python_with_pip(toolchain: &Toolchain) -> Result<PathBuf, SetupError> {
    let mut without = None;
    for python in &toolchain.pythons {
        let Ok(output) = Command::new(python).args(["-m", "pip", "--version"]).stdin(Stdio::null()).output()
        else {
            continue;
        };
        if output.status.success() {
            return Ok(python.clone());
        }
        without.get_or_insert((python.display().to_string(), tail(&output.stderr)));
    }
    Err(match without {
        Some((python, output)) => SetupError::NoPip { python, output },
        None => SetupError::NoPython {
            tried: toolchain.pythons.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
        },
    })
}

/// Runs pip and reports how much it has downloaded: pip says the size of the file, and the growth of its temporary
/// directory says how far it is.
fn run_pip(
    python: &Path,
    target: &Path,
    downloads: &Path,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), SetupError> {
    let failed = |output: String| SetupError::Pip { requirement: REQUIREMENT.to_owned(), output };
    let mut child = Command::new(python)
        .args(["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-input"])
        .args(["--disable-pip-version-check", "--progress-bar", "off", "--no-cache-dir", "--target"])
        .arg(target)
        .arg(REQUIREMENT)
        .env("TMPDIR", downloads)
        .env("TEMP", downloads)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    // Both pipes were asked for above.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in out.into_iter().flat_map(|o| BufReader::new(o).lines().map_while(Result::ok)) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut err) = err {
            // What could not be read is only missing from a message.
            let _ = err.read_to_end(&mut text);
        }
        text
    });
    let mut state = Progress { phase: "asking the package index".into(), done: 0, total: None };
    let mut output = String::new();
    progress(&state);
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                if let Some(total) = announced_size(&line) {
                    state.phase = "downloading NVRTC".into();
                    state.total = Some(total);
                } else if line.starts_with("Installing") {
                    state.phase = "unpacking".into();
                    state.done = state.total.unwrap_or(state.done);
                }
                output.push_str(&line);
                output.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if state.total.is_some() && state.phase.starts_with("downloading") {
            state.done = size_of(downloads).min(state.total.unwrap_or(u64::MAX));
        }
        progress(&state);
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    // Neither thread can panic: they only read.
    let _ = reader.join();
    let errors = errors.join().unwrap_or_default();
    if status.success() {
        Ok(())
    } else {
        Err(failed(format!("{}{}", tail(output.as_bytes()), tail(&errors))))
    }
}

/// The size in a line such as `Downloading name.whl (90.2 MB)`.
fn announced_size(line: &str) -> Option<u64> {
    if !line.trim_start().starts_with("Downloading") || line.contains(".metadata") {
        return None;
    }
    let (number, unit) = line.rsplit_once('(')?.1.split_once(')')?.0.split_once(' ')?;
    let scale = match unit {
        "MB" => 1e6,
        "kB" => 1e3,
        "bytes" => 1.0,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * scale) as u64)
}

/// Bytes of all files below a directory.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => size_of(&entry.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The version of the package that pip unpacked.
fn package_version(target: &Path) -> Option<String> {
    fs::read_dir(target).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("nvidia_cuda_nvrtc-")?.strip_suffix(".dist-info")?.to_owned())
    })
}

/// The last lines of a program's output.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].iter().map(|l| format!("  {l}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_the_output_of_pip() {
        let line = "  Downloading nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux_2_27_x86_64.whl (90.2 MB)";
        assert_eq!(announced_size(line), Some(90_200_000));
        assert_eq!(announced_size("Downloading a.whl (812 bytes)"), Some(812));
        assert_eq!(announced_size("Downloading a.whl.metadata (1.7 kB)"), None);
        assert_eq!(announced_size("Collecting a (from b)"), None);
        assert_eq!(announced_size("Downloading a"), None);
    }

    #[test]
    fn no_python_is_an_error_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let toolchain =
            Toolchain { pythons: vec!["no-such-python-here".into()], ..Toolchain::new(dir.path()) };
        let error = fetch(&toolchain, &mut |_| ()).unwrap_err();
        assert!(matches!(error, SetupError::NoPython { .. }), "{error}");
        assert!(error.to_string().contains("TILEWRIGHT_NVRTC"));
    }

    #[cfg(unix)]
    #[test]
    fn a_failing_pip_leaves_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let python = dir.path().join("python");
        let script = "#!/bin/sh\ncase \"$*\" in *--version*) exit 0;; esac\necho no network >&2\nexit 1\n";
        fs::write(&python, script).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        let toolchain = Toolchain { pythons: vec![python], ..Toolchain::new(dir.path().join("cache")) };
        let error = fetch(&toolchain, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("no network"), "{error}");
        let left: Vec<_> = fs::read_dir(toolchain.nvrtc_store()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the lock file: {left:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = fetch(&Toolchain::new(&file), &mut |_| ()).unwrap_err();
        assert!(matches!(error, SetupError::Io { .. }), "{error}");
        assert!(error.to_string().contains("TILEWRIGHT_CACHE"));
    }
}
