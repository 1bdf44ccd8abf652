//! `tilewright demo`: the main job on a small model, from setting up to checking.

use serde_json::json;
use tilewright::generate::{Request, generate, score, tolerance};
use tilewright::selftest::MODELS;
use tilewright::{Compiler, Error, Phase, Toolchain, artifacts, report};

use crate::cli::args::DemoArgs;
use crate::cli::ui::Ui;

const SEED: u64 = 7;
const PROMPT: [u64; 5] = [3, 141, 59, 26, 53];
const TOKENS: u64 = 6;

/// Sets up, compiles, explains, runs, checks.
pub(crate) fn run(args: &DemoArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let nvrtc = super::setup::fetch(false, ui, toolchain)?;
    let (bar, listener) = super::progress(ui);
    let case = &MODELS[0];
    let module = Compiler::config(case.config, SEED)
        .toolchain(toolchain.clone())
        .device(super::device(&args.device)?)
        .max_context(Some(case.context))
        .listener(listener.clone())
        .compile()?;
    super::tell_notes(ui, &module);
    let request = Request { prompt: &PROMPT, tokens: TOKENS, ignore_eos: true, check: true };
    listener.tell(tilewright::Event::stage("generating, and checking against the evaluator"));
    let generated = generate(&module, &request, |_| ())?;
    let scored = score(&module, &PROMPT, Phase::Decode)?;
    drop(bar);

    let allowed = module.model().map_or(0.0, |m| tolerance(m.activations));
    let error = generated.error.unwrap_or(f64::INFINITY);
    let decode = &module.phases()[0];
    // The kernel with the longest derivation has the most to tell.
    let kernels = decode.planned.compiled.plans.iter().flat_map(|(_, p)| &p.kernels);
    let longest = kernels.max_by_key(|k| k.derivation.len()).map(|k| k.name.clone());
    let value = json!({
        "nvrtc": nvrtc.version_text(),
        "report": report::module(&module),
        "tokens": generated.tokens,
        "relative_error": error,
        "allowed": allowed,
        "hbm_bytes_over_floor": scored.traffic.over_floor(),
    });
    ui.result(&value, || {
        let mut text = format!(
            "A {} model with made-up weights, on {}, with NVRTC {}.\n\n",
            case.name,
            module.device().name(),
            nvrtc.version_text()
        );
        text += "1. Kernels of the decode and prefill phases, derived and compiled:\n\n";
        text += &super::kernel_table(&module);
        if let Some(kernel) = &longest {
            text += &format!("\n\n2. How `{kernel}` was derived:\n\n");
            text += artifacts::laws(&decode.planned, Some(kernel)).trim_end();
        }
        let ids: Vec<String> = generated.tokens.iter().map(u64::to_string).collect();
        text += &format!("\n\n3. After the tokens {PROMPT:?} the model says {}.\n", ids.join(", "));
        text += &format!(
            "   Each step was compared with the f64 evaluator: relative error {error:.1e}, allowed {allowed:.0e}.\n"
        );
        if let Some(over) = scored.traffic.over_floor() {
            text += &format!("   Memory traffic of decoding: {over:.2} x what is unavoidable.\n");
        }
        text
    });
    if error <= allowed {
        Ok(())
    } else {
        Err(Error::Check(format!("the relative error is {error:.2e}, and {allowed:.0e} is allowed")))
    }
}
