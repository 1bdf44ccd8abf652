//! `tilewright profile`: when each SM did what, in one step of a persistent kernel.

use serde_json::json;
use tilewright::spec::Mode;
use tilewright::timeline::timeline;
use tilewright::{Error, Phase, Toolchain, files};

use crate::cli::args::{ModelArgs, ProfileArgs};
use crate::cli::ui::Ui;

/// Runs one step, and writes what was asked for.
pub(crate) fn run(args: &ProfileArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    super::only_megakernel(&args.common.mode, "has no timeline")?;
    let ids = super::run::parse_ids(&args.ids)?;
    let common = ModelArgs { mode: Mode::Megakernel.name().into(), ..args.common.clone() };
    let (bar, listener) = super::progress(ui);
    let compiler =
        super::compiler(Some(&args.model), None, &common, toolchain, listener)?.phases(&[Phase::Decode]);
    super::check_tokens(&compiler, &ids, 0)?;
    let module = compiler.compile()?;
    super::tell_notes(ui, &module);
    let found = timeline(&module, &ids)?;
    drop(bar);
    if let Some(path) = &args.trace {
        files::write(path, &format!("{}\n", found.trace()))?;
    }
    if let Some(path) = &args.svg {
        files::write(path, &found.svg())?;
    }
    let value = json!({
        "device": module.device().kind().to_string(),
        "sms": found.sms,
        "records": found.spans.len(),
        "length": found.length(),
        "unit": found.unit,
        "busy": found.busy(),
        "copied": found.copied.0,
        "copied_ahead": found.copied.1,
    });
    ui.result(&value, || {
        format!(
            "{} records on {} SMs, {} {}, SMs busy {:.0}%{}",
            found.spans.len(),
            found.sms,
            found.length(),
            found.unit,
            100.0 * found.busy(),
            found.ahead().map_or(String::new(), |part| {
                format!(
                    "; {:.1}% of the weights on their way before the waits of their task ended",
                    100.0 * part
                )
            })
        )
    });
    Ok(())
}
