//! What: the NVRTC that tests use, and the disassembler of what it makes.
//! Why here: tests of several crates compile kernels, and a fresh machine must be able to run them all without a step
//! by hand.
//! Pre: called from tests only; may fetch NVRTC and nvdisasm with pip into the cache directory.
//! Post: one loaded NVRTC per process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::nvrtc::{Nvrtc, find_or_fetch};
use crate::{Toolchain, nvrtc};

/// The toolchain that the environment of the test run describes.
pub fn toolchain() -> Toolchain {
    Toolchain::from_vars(|name| std::env::var_os(name))
}

/// NVRTC, fetched first when this machine has none.
///
/// # Panics
/// When there is none and it cannot be fetched: a test that needs it cannot pass.
pub fn nvrtc() -> &'static Nvrtc {
    static NVRTC: OnceLock<Nvrtc> = OnceLock::new();
    NVRTC.get_or_init(|| match find_or_fetch(&toolchain(), &mut |_: &nvrtc::Progress| ()) {
        Ok(nvrtc) => nvrtc,
        Err(error) => panic!("this test needs NVRTC: {error}"),
    })
}

/// The package of the disassembler, and the versions of it that know what NVRTC makes.
const DISASSEMBLER: &str = "nvidia-cuda-nvdisasm>=13,<14";

/// The machine code of a CUBIN as text.
///
/// # Panics
/// When there is no nvdisasm and it cannot be fetched, or it cannot read the CUBIN: a test that needs it cannot pass.
pub fn disassembled(cubin: &[u8]) -> String {
    static NVDISASM: OnceLock<PathBuf> = OnceLock::new();
    let program = NVDISASM.get_or_init(|| {
        nvdisasm(&toolchain()).unwrap_or_else(|error| panic!("this test needs nvdisasm: {error}"))
    });
    let file = tempfile::NamedTempFile::new().and_then(|f| fs::write(f.path(), cubin).map(|()| f));
    let file = file.unwrap_or_else(|error| panic!("no file for a CUBIN: {error}"));
    let output = Command::new(program).arg("-c").arg(file.path()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{} failed: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The disassembler of a CUDA toolkit, or one that was or is fetched with pip.
fn nvdisasm(toolchain: &Toolchain) -> Result<PathBuf, String> {
    let store = toolchain.cache.join("nvdisasm");
    let fetched = store.join("package/nvidia/cu13/bin/nvdisasm");
    let installed = toolchain.cuda_roots.iter().map(|root| root.join("bin/nvdisasm"));
    if let Some(found) = installed.chain([fetched.clone()]).find(|p| p.is_file()) {
        return Ok(found);
    }
    let at = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(&store).map_err(|e| at(&store, e))?;
    let lock = File::create(store.join(".lock")).map_err(|e| at(&store, e))?;
    // Held until the file is closed at the end of this function.
    lock.lock().map_err(|e| at(&store, e))?;
    if fetched.is_file() {
        return Ok(fetched);
    }
    let aside = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&store).map_err(|e| at(&store, e))?;
    let target = aside.path().join("package");
    let mut said = Vec::new();
    for python in &toolchain.pythons {
        let done = Command::new(python)
            .args(["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-input", "-q"])
            .args(["--disable-pip-version-check", "--target"])
            .arg(&target)
            .arg(DISASSEMBLER)
            .stdin(Stdio::null())
            .output();
        match done {
            Ok(done) if done.status.success() => {
                let place = store.join("package");
                // What is there is no whole package (see above).
                let _ = fs::remove_dir_all(&place);
                fs::rename(&target, &place).map_err(|e| at(&place, e))?;
                if fetched.is_file() {
                    return Ok(fetched);
                }
                said.push(format!("`{DISASSEMBLER}` has no program for this machine"));
            }
            Ok(done) => said.push(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(error) => said.push(format!("{}: {error}", python.display())),
        }
    }
    Err(format!("pip could not fetch `{DISASSEMBLER}`: {}", said.join("; ")))
}
