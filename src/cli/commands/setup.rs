//! `tilewright setup`: fetch NVRTC.

use serde_json::json;
use tilewright::{Error, Event, Toolchain};
use tilewright_runtime::nvrtc::{self, Nvrtc, Progress};

use crate::cli::args::SetupArgs;
use crate::cli::ui::Ui;

/// Finds or fetches NVRTC and says where it is.
pub(crate) fn run(args: &SetupArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let nvrtc = fetch(args.force, ui, toolchain)?;
    let value = json!({
        "nvrtc": {
            "path": nvrtc.path(),
            "version": nvrtc.version_text(),
            "origin": nvrtc.origin().describe(),
        },
        "cache": toolchain.cache,
    });
    ui.result(&value, || {
        format!(
            "NVRTC {} at {} ({})",
            nvrtc.version_text(),
            nvrtc.path().display(),
            nvrtc.origin().describe()
        )
    });
    Ok(())
}

/// Finds or fetches NVRTC, with progress.
pub(crate) fn fetch(force: bool, ui: &Ui, toolchain: &Toolchain) -> Result<Nvrtc, Error> {
    let bar = ui.progress();
    let mut said = false;
    let mut show = |p: &Progress| {
        if !std::mem::replace(&mut said, true) {
            ui.note(&format!("fetching {} into {}", nvrtc::REQUIREMENT, toolchain.nvrtc_store().display()));
        }
        bar.show(&Event { stage: p.phase.clone(), done: p.done, total: p.total, bytes: true });
    };
    let found =
        if force { nvrtc::fetch(toolchain, &mut show) } else { nvrtc::find_or_fetch(toolchain, &mut show) };
    Ok(found?)
}
