//! What: how long the compilation of a shipped configuration takes, with an empty cache and with a full one.
//! Why here: compile time is a promise too, and it needs no GPU.
//! Pre: NVRTC.
//! Post: two rows: `cold` and `cached`. Weights are made up, and never touched.

use std::time::Instant;

use super::Context;
use super::kernels::{compile_of, kernels_of};
use super::record::{Kernels, Row, Suite};
use super::steps::config_of;
use super::suite::Size;
use crate::{Compiler, Error};

/// The row of a model, with nothing in it yet.
pub(super) fn row(model: &str, mode: &str) -> Row {
    Row::new(Suite::Compile, "compile", &format!("compile {model}"), Size::new(), mode)
}

/// Compiles a model twice.
pub(super) fn run(context: &Context<'_>, model: &str) -> Vec<Row> {
    let row = |mode| row(model, mode);
    let dir = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(e) => return vec![row("cold").with_error(&Error::io(&std::env::temp_dir(), e))],
    };
    let once = |mode| -> Result<Row, Error> {
        let settings = context.settings;
        // NVRTC is where it was found; only kernels are kept elsewhere.
        let mut toolchain = settings.toolchain.clone();
        let nvrtc = tilewright_runtime::nvrtc::Nvrtc::find(&toolchain)?;
        toolchain.nvrtc = Some(nvrtc.path().to_owned());
        toolchain.cache = dir.path().to_owned();
        let start = Instant::now();
        let compiler = context.compiler(Compiler::config(config_of(model)?, u64::from(settings.seed)));
        let module = compiler.toolchain(toolchain).compile()?;
        let total = start.elapsed().as_secs_f64();
        let mut row = row(mode);
        let phases: Vec<_> = module.phases().iter().collect();
        row.compile = Some(compile_of(&phases, total));
        let all = phases.iter().map(|p| kernels_of(p)).reduce(|a, b| Kernels {
            kernels: a.kernels + b.kernels,
            launches: a.launches + b.launches,
            launches_per_layer: None,
            registers: a.registers.max(b.registers),
            spill_bytes: a.spill_bytes.max(b.spill_bytes),
        });
        row.kernels = all;
        Ok(row)
    };
    ["cold", "cached"].map(|mode| once(mode).unwrap_or_else(|e| row(mode).with_error(&e))).into()
}
