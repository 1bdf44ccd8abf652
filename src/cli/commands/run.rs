//! `tilewright run`: generate tokens.

use serde_json::json;
use tilewright::generate::{Request, generate, tolerance};
use tilewright::sample::{Choice, Sampling};
use tilewright::spec::Mode;
use tilewright::tokenizer::Tokenizer;
use tilewright::{Error, Phase, Toolchain};

use crate::cli::args::RunArgs;
use crate::cli::ui::Ui;

/// Generates and prints. Text is printed as it comes, so an error may follow a part of it; with `--format json` nothing
/// is printed before the end.
pub(crate) fn run(args: &RunArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let (tokenizer, prompt) = match (&args.prompt, &args.ids) {
        (Some(text), _) => {
            let tokenizer = Tokenizer::open(&args.model)?;
            let ids = tokenizer.encode(text)?;
            (Some(tokenizer), ids)
        }
        (None, ids) => (None, parse_ids(ids.as_deref().unwrap_or_default())?),
    };
    let (bar, listener) = super::progress(ui);
    if args.tokens_per_launch > 1 && Mode::parse(&args.common.mode)? != Mode::Megakernel {
        return Err(Error::Usage("`--tokens-per-launch` needs `--mode megakernel`".into()));
    }
    if args.tokens_per_launch > 1 && args.check {
        return Err(Error::Usage(
            "`--check` looks at the logits of each step: use it with `--tokens-per-launch 1`".into(),
        ));
    }
    let sampling = sampling(args)?;
    // A check looks at the logits of each step; else the device chooses, and they stay there.
    let choice = match &sampling {
        Some(s) => Some(s.choice()),
        None => (!args.check).then_some(Choice::Greedy),
    };
    let compiler = super::compiler(Some(&args.model), None, &args.common, toolchain, listener.clone())?
        .tokens_per_launch(args.tokens_per_launch)
        .choice(choice)
        .last_logits(true);
    // The last token that is generated is not fed back.
    super::check_tokens(&compiler, &prompt, args.tokens.saturating_sub(1))?;
    let module = compiler.compile()?;
    super::tell_notes(ui, &module);
    let request = Request {
        prompt: &prompt,
        tokens: args.tokens,
        ignore_eos: args.ignore_eos,
        check: args.check,
        sampling,
    };
    let mut pieces = tokenizer.as_ref().map(Tokenizer::pieces);
    let mut text = String::new();
    let mut failure = None;
    let mut done = 0;
    // A bar and text would write over each other.
    let bar = if pieces.is_some() { None } else { Some(bar) };
    let generated = generate(&module, &request, |id| {
        done += 1;
        match &mut pieces {
            Some(pieces) => match pieces.push(id) {
                Ok(piece) => {
                    if !ui.json() {
                        ui.piece(&piece);
                    }
                    text += &piece;
                }
                Err(error) => failure = failure.take().or(Some(error)),
            },
            None => listener.tell(tilewright::Event::count("generating", done, args.tokens)),
        }
    })?;
    drop(bar);
    if let Some(pieces) = pieces {
        let rest = pieces.finish()?;
        if !ui.json() {
            ui.piece(&rest);
            ui.piece("\n");
        }
        text += &rest;
    }
    if let Some(error) = failure {
        return Err(error);
    }

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
    let rate = generated.each.map(|each| 1.0 / each.as_secs_f64());
    let mut value = json!({
        "tokens": generated.tokens,
        "device": module.device().kind().to_string(),
        "device_name": module.device().name(),
        "mode": module.mode(Phase::Decode.name()).name(),
        "ttft_ms": generated.first.map(ms),
        "tpot_ms": generated.each.map(ms),
        "tokens_per_second": rate,
        "launches": generated.traffic.launches,
        "search_complete": module.phases().iter().all(|p| tilewright::report::search_complete(&p.planned)),
    });
    if let Some(error) = generated.error {
        value["check"] = json!({ "relative_error": error, "allowed": limit });
    }
    let mut notes = Vec::new();
    if let Some(error) = generated.error {
        notes.push(format!("checked against the evaluator: relative error at most {error:.2e}"));
    }
    if let (Some(first), Some(each), Some(rate)) = (generated.first, generated.each, rate) {
        let (first, each) = (ms(first), ms(each));
        notes.push(format!("first token {first:.2} ms, then {each:.3} ms per token ({rate:.1} tokens/s)"));
    }
    if tokenizer.is_some() {
        value["prompt_tokens"] = json!(prompt);
        value["text"] = json!(text);
        if ui.json() {
            ui.print_json(&value);
        } else {
            notes.iter().for_each(|note| ui.note(note));
        }
        return Ok(());
    }
    ui.result(&value, || {
        let ids: Vec<String> = generated.tokens.iter().map(u64::to_string).collect();
        std::iter::once(ids.join(",")).chain(notes).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// What the options say about chance, if they do.
fn sampling(args: &RunArgs) -> Result<Option<Sampling>, Error> {
    if args.temperature == 0.0 {
        if args.top_k.is_some() || args.top_p.is_some() {
            return Err(Error::Usage(
                "`--top-k` and `--top-p` choose among tokens by chance: give a `--temperature` above 0"
                    .into(),
            ));
        }
        return Ok(None);
    }
    let (temperature, top_k, top_p, seed) = (args.temperature, args.top_k, args.top_p, args.seed);
    let sampling = Sampling { temperature, top_k, top_p, seed };
    sampling.check()?;
    if args.check {
        return Err(Error::Usage(
            "`--check` compares logits, and tokens that are chosen by chance leave none on the host: use it without a \
             temperature"
                .into(),
        ));
    }
    Ok(Some(sampling))
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
