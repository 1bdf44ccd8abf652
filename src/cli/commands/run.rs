//! `tilewright run`: generate tokens.

use serde_json::json;
use tilewright::generate::{Requests, generate_all, tolerance};
use tilewright::sample::{Choice, Sampling};
use tilewright::spec::Mode;
use tilewright::tokenizer::{Pieces, Tokenizer};
use tilewright::{Error, Phase, Toolchain};

use crate::cli::args::RunArgs;
use crate::cli::ui::Ui;

/// Generates and prints. Text is printed as it comes, so an error may follow a part of it; with `--format json` nothing
/// is printed before the end.
pub(crate) fn run(args: &RunArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let (tokenizer, prompts) = match &args.prompt[..] {
        [] => (None, args.ids.iter().map(|ids| parse_ids(ids)).collect::<Result<Vec<_>, _>>()?),
        texts => {
            let tokenizer = Tokenizer::open(&args.model)?;
            let ids = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>, _>>()?;
            (Some(tokenizer), ids)
        }
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
        .batch(prompts.len() as u64)
        .tokens_per_launch(args.tokens_per_launch)
        .choice(choice)
        .last_logits(true);
    for prompt in &prompts {
        // The last token that is generated is not fed back.
        super::check_tokens(&compiler, prompt, args.tokens.saturating_sub(1))?;
    }
    let module = compiler.compile()?;
    super::tell_notes(ui, &module);
    let rows: Vec<&[u64]> = prompts.iter().map(Vec::as_slice).collect();
    let request = Requests {
        prompts: &rows,
        tokens: args.tokens,
        ignore_eos: args.ignore_eos,
        check: args.check,
        sampling,
    };
    let mut texts = tokenizer.as_ref().map(|t| Texts::new(t, prompts.len(), ui));
    let mut failure = None;
    let mut done = 0;
    // A bar and text would write over each other.
    let bar = if texts.is_some() { None } else { Some(bar) };
    let generated = generate_all(&module, &request, |sequence, id| {
        done += 1;
        match &mut texts {
            Some(texts) => {
                if let Err(error) = texts.push(sequence, id) {
                    failure = failure.take().or(Some(error));
                }
            }
            None => {
                let all = args.tokens * prompts.len() as u64;
                listener.tell(tilewright::Event::count("generating", done, all));
            }
        }
    })?;
    drop(bar);
    let texts = texts.map(Texts::finish).transpose()?;
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
    let mut value = json!({
        "tokens": each_or_all(&generated.tokens),
        "device": module.device().kind().to_string(),
        "device_name": module.device().name(),
        "mode": module.mode(Phase::Decode.name()).name(),
        "ttft_ms": generated.first.map(ms),
        "tpot_ms": generated.each.map(ms),
        "tokens_per_second": generated.rate,
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
    if let (Some(first), Some(each), Some(rate)) = (generated.first, generated.each, generated.rate) {
        let (first, each) = (ms(first), ms(each));
        let what = if prompts.len() > 1 { "step" } else { "token" };
        notes.push(format!("first token {first:.2} ms, then {each:.3} ms per {what} ({rate:.1} tokens/s)"));
    }
    if let Some(texts) = texts {
        value["prompt_tokens"] = each_or_all(&prompts);
        value["text"] = each_or_all(&texts);
        if ui.json() {
            ui.print_json(&value);
        } else {
            notes.iter().for_each(|note| ui.note(note));
        }
        return Ok(());
    }
    ui.result(&value, || {
        let line = |ids: &Vec<u64>| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        generated.tokens.iter().map(line).chain(notes).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// What there is one of for each sequence: of a single sequence itself, of several a list.
fn each_or_all<T: serde::Serialize>(all: &[T]) -> serde_json::Value {
    match all {
        [one] => json!(one),
        all => json!(all),
    }
}

/// The texts of sequences as they come. They cannot all be written at once: the first is, and each of the others from where
/// the one before it has ended.
struct Texts<'a> {
    pieces: Vec<Pieces<'a>>,
    texts: Vec<String>,
    /// The sequence that is being written.
    now: usize,
    ui: &'a Ui,
}

impl<'a> Texts<'a> {
    fn new(tokenizer: &'a Tokenizer, sequences: usize, ui: &'a Ui) -> Texts<'a> {
        let pieces = (0..sequences).map(|_| tokenizer.pieces()).collect();
        let texts = Texts { pieces, texts: vec![String::new(); sequences], now: 0, ui };
        texts.head();
        texts
    }

    fn print(&self, text: &str) {
        if !self.ui.json() {
            self.ui.piece(text);
        }
    }

    /// What stands before a text, where there are several.
    fn head(&self) {
        if self.texts.len() > 1 {
            self.print(&format!("[{}] ", self.now + 1));
        }
    }

    fn push(&mut self, sequence: usize, id: u64) -> Result<(), Error> {
        let piece = self.pieces[sequence].push(id)?;
        if sequence == self.now {
            self.print(&piece);
        }
        self.texts[sequence] += &piece;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<String>, Error> {
        for (n, pieces) in std::mem::take(&mut self.pieces).into_iter().enumerate() {
            let rest = pieces.finish()?;
            self.texts[n] += &rest;
            if n > self.now {
                self.now = n;
                self.head();
                self.print(&self.texts[n]);
            } else {
                self.print(&rest);
            }
            self.print("\n");
        }
        Ok(self.texts)
    }
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
