//! `tilewright doctor`: what was found on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tilewright::{Error, Toolchain};
use tilewright_runtime::cache::Store;
use tilewright_runtime::device::{DeviceError, driver_info};
use tilewright_runtime::nvrtc::search;

use crate::cli::ui::Ui;

/// The exit code when the environment lacks something.
const MISSING: u8 = 4;

/// Looks for everything and prints it. Returns an exit code: without NVRTC nothing compiles.
pub(crate) fn run(ui: &Ui, toolchain: &Toolchain) -> Result<u8, Error> {
    let search = search(toolchain);
    let driver = driver_info();
    let store = Store::new(toolchain.kernel_store());
    let (entries, bytes) = store.usage();
    let writable = is_writable(&toolchain.cache);
    let tools = ["ptxas", "nvdisasm", "cuobjdump"].map(|name| (name, tool(name, toolchain)));
    let python = toolchain.pythons.iter().find_map(|p| version_of(p, "--version").map(|v| (p, v)));
    let pip = python.as_ref().and_then(|(p, _)| pip_version(p));

    let mut advice = Vec::new();
    if search.nvrtc.is_err() {
        advice.push("NVRTC is missing: run `tilewright setup`".to_owned());
    }
    if let (Ok(nvrtc), Ok(driver)) = (&search.nvrtc, &driver)
        && nvrtc.version().0 > driver.cuda_version.0
    {
        advice.push(format!(
            "NVRTC {} is of a newer major version than the driver's CUDA {}.{}: kernels may not load; update the \
             driver, or set TILEWRIGHT_NVRTC to an older library",
            nvrtc.version_text(),
            driver.cuda_version.0,
            driver.cuda_version.1
        ));
    }
    if !writable {
        advice.push(format!(
            "`{}` cannot be written: nothing is kept between runs; set TILEWRIGHT_CACHE",
            toolchain.cache.display()
        ));
    }
    if let Err(DeviceError::NoDriver) = &driver {
        advice.push("there is no CUDA driver: everything runs on the emulator".to_owned());
    }

    let nvrtc = match &search.nvrtc {
        Ok(n) => json!({
            "found": true,
            "version": n.version_text(),
            "path": n.path(),
            "origin": n.origin().describe(),
            "targets": n.archs().iter().map(|a| format!("sm_{a}")).collect::<Vec<_>>(),
        }),
        Err(_) => json!({ "found": false, "tried": search.tried }),
    };
    let cuda = match &driver {
        Ok(d) => json!({
            "found": true,
            "cuda_version": format!("{}.{}", d.cuda_version.0, d.cuda_version.1),
            "gpus": d.gpus.iter().map(|(name, arch, memory)| {
                json!({ "name": name, "arch": arch, "memory_bytes": memory })
            }).collect::<Vec<_>>(),
        }),
        Err(e) => json!({ "found": false, "reason": e.to_string(), "gpus": [] }),
    };
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "nvrtc": nvrtc,
        "driver": cuda,
        "python": python.as_ref().map(|(p, v)| json!({ "command": p, "version": v, "pip": pip })),
        "tools": tools.iter().map(|(n, p)| ((*n).to_owned(), json!(p))).collect::<serde_json::Map<_, _>>(),
        "cache": { "directory": toolchain.cache, "writable": writable, "kernels": entries, "bytes": bytes },
        "advice": advice,
    });
    ui.result(&value, || text(&value, &search.tried));
    // The report says it all; the exit code is for scripts.
    Ok(if search.nvrtc.is_ok() { 0 } else { MISSING })
}

/// The report for people.
fn text(v: &Value, tried: &[String]) -> String {
    let mut lines = Vec::new();
    let s = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let mut line = |name: &str, what: String| lines.push(format!("{name:<10} {what}"));
    line("tilewright", s(&v["version"]));
    if v["nvrtc"]["found"] == true {
        let n = &v["nvrtc"];
        line("nvrtc", format!("{} at {} ({})", s(&n["version"]), s(&n["path"]), s(&n["origin"])));
    } else {
        line("nvrtc", "not found; looked in:".into());
        for place in tried {
            line("", format!("  {place}"));
        }
    }
    if v["driver"]["found"] == true {
        line("driver", format!("CUDA {}", s(&v["driver"]["cuda_version"])));
    } else {
        line("driver", format!("none: {}", s(&v["driver"]["reason"])));
    }
    for (i, gpu) in v["driver"]["gpus"].as_array().into_iter().flatten().enumerate() {
        let gib = gpu["memory_bytes"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 30);
        line(&format!("cuda:{i}"), format!("{} ({}), {gib:.1} GiB", s(&gpu["name"]), s(&gpu["arch"])));
    }
    match &v["python"] {
        Value::Null => line("python", "not found: `tilewright setup` needs Python 3 with pip".into()),
        p => {
            let pip = p["pip"].as_str().map_or("without pip".to_owned(), |pip| format!("with pip {pip}"));
            line("python", format!("{} {pip}", s(&p["version"])));
        }
    }
    for (name, path) in v["tools"].as_object().into_iter().flatten() {
        line(name, path.as_str().unwrap_or("not found (optional)").to_owned());
    }
    let c = &v["cache"];
    let mib = c["bytes"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 20);
    line("cache", format!("{} ({} kernels, {mib:.1} MiB)", s(&c["directory"]), c["kernels"]));
    for advice in v["advice"].as_array().into_iter().flatten() {
        line("advice", s(advice));
    }
    lines.join("\n")
}

/// Whether a file can be made in a directory, or in the nearest directory above it that exists.
fn is_writable(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|d| d.is_dir());
    existing.is_some_and(|d| tempfile::Builder::new().prefix(".doctor-").tempfile_in(d).is_ok())
}

/// An optional tool of the CUDA toolkit.
fn tool(name: &str, toolchain: &Toolchain) -> Option<PathBuf> {
    let in_roots = toolchain.cuda_roots.iter().map(|root| root.join("bin").join(name)).find(|p| p.is_file());
    in_roots.or_else(|| version_of(Path::new(name), "--version").map(|_| PathBuf::from(name)))
}

/// The first line that a command prints when it is asked for its version.
fn version_of(command: &Path, flag: &str) -> Option<String> {
    let output = Command::new(command).arg(flag).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

fn pip_version(python: &Path) -> Option<String> {
    let output = Command::new(python)
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.split_whitespace().nth(1).unwrap_or_default().to_owned())
}
