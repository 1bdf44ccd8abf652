//! `tilewright run`: generate tokens.

use serde_json::json;
use tilewright::generate::{Request, generate, tolerance};
use tilewright::spec::Mode;
use tilewright::{Error, Phase, Toolchain};

use crate::cli::args::RunArgs;
use crate::cli::ui::Ui;

/// Generates and prints.
pub(crate) fn run(args: &RunArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let prompt = parse_ids(&args.ids)?;
    let (bar, listener) = super::progress(ui);
    if args.tokens_per_launch > 1 && Mode::parse(&args.common.mode)? != Mode::Megakernel {
        return Err(Error::Usage("`--tokens-per-launch` needs `--mode megakernel`".into()));
    }
    if args.tokens_per_launch > 1 && args.check {
        return Err(Error::Usage(
            "`--check` looks at the logits of each step: use it with `--tokens-per-launch 1`".into(),
        ));
    }
    let compiler = super::compiler(Some(&args.model), None, &args.common, toolchain, listener.clone())?
        .tokens_per_launch(args.tokens_per_launch);
    // The last token that is generated is not fed back.
    super::check_tokens(&compiler, &prompt, args.tokens.saturating_sub(1))?;
    let module = compiler.compile()?;
    super::tell_notes(ui, &module);
    let request =
        Request { prompt: &prompt, tokens: args.tokens, ignore_eos: args.ignore_eos, check: args.check };
    let mut done = 0;
    let generated = generate(&module, &request, |_| {
        done += 1;
        listener.tell(tilewright::Event::count("generating", done, args.tokens));
    })?;
    drop(bar);

    let limit = module.model().map_or(0.0, |m| tolerance(m.activations));
    if let Some(error) = generated.error
        // A comparison with NaN fails too.
        && !matches!(error.partial_cmp(&limit), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal))
    {
        return Err(Error::Check(format!(
            "the logits differ from the evaluator's by {error:.2e} (relative), and {limit:.0e} is allowed"
        )));
    }
    let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
    let mut value = json!({
        "tokens": generated.tokens,
        "device": module.device().kind().to_string(),
        "device_name": module.device().name(),
        "mode": module.mode(Phase::Decode.name()).name(),
        "ttft_ms": generated.first.map(ms),
        "tpot_ms": generated.each.map(ms),
        "launches": generated.traffic.launches,
        "search_complete": module.phases().iter().all(|p| tilewright::report::search_complete(&p.planned)),
    });
    if let Some(error) = generated.error {
        value["check"] = json!({ "relative_error": error, "allowed": limit });
    }
    ui.result(&value, || {
        let ids: Vec<String> = generated.tokens.iter().map(u64::to_string).collect();
        let mut text = ids.join(",");
        if let Some(error) = generated.error {
            text += &format!("\nchecked against the evaluator: relative error at most {error:.2e}");
        }
        if let (Some(first), Some(each)) = (generated.first, generated.each) {
            text += &format!("\nfirst token {:.2} ms, then {:.3} ms per token", ms(first), ms(each));
        }
        text
    });
    Ok(())
}

/// Ids as users write them: separated by commas, spaces allowed.
pub(super) fn parse_ids(text: &str) -> Result<Vec<u64>, Error> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse().map_err(|_| Error::Input {
                message: format!("`{part}` is no token id"),
                help: Some("ids are numbers from 0, separated by commas".into()),
            })
        })
        .collect()
}
