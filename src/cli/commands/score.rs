//! `tilewright score`: cross-entropy and perplexity of a list of tokens.

use std::path::Path;

use serde_json::json;
use tilewright::generate::score;
use tilewright::{DType, Error, Phase, Toolchain};
use tilewright_runtime::npy;

use crate::cli::args::ScoreArgs;
use crate::cli::ui::Ui;

/// Scores and prints.
pub(crate) fn run(args: &ScoreArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let ids = read_ids(&args.ids_file)?;
    let phase: Phase = args.path.into();
    let (bar, listener) = super::progress(ui);
    let compiler =
        super::compiler(Some(&args.model), None, &args.common, toolchain, listener.clone())?.phases(&[phase]);
    let model = super::check_tokens(&compiler, &ids, 0)?;
    let module = compiler.compile()?;
    super::tell_notes(ui, &module);
    listener.tell(tilewright::Event::stage("scoring"));
    let scored = score(&module, &ids, phase)?;
    drop(bar);
    if let Some(path) = &args.logits_out {
        let data: Vec<u8> = scored.logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        npy::write(path, DType::F32, &[ids.len() as u64, model.vocab], &data)?;
    }
    let value = json!({
        "cross_entropy": scored.cross_entropy,
        "perplexity": scored.perplexity,
        "tokens": ids.len(),
        "path": phase.name(),
        "device": module.device().kind().to_string(),
        "kernels": scored.kernels,
        "launches": scored.traffic.launches,
        "search_complete": module.phases().iter().all(|p| tilewright::report::search_complete(&p.planned)),
        "launches_per_layer": scored.launches_per_layer,
        "tensor_flops": scored.traffic.tensor_flops_total(),
        "hbm_bytes": scored.traffic.over_floor().map(|_| scored.traffic.hbm_bytes),
        "hbm_bytes_over_floor": scored.traffic.over_floor(),
    });
    ui.result(&value, || {
        let rows = [
            ("cross-entropy", super::or_dash(scored.cross_entropy.map(|x| format!("{x:.6} nats")))),
            ("perplexity", super::or_dash(scored.perplexity.map(|x| format!("{x:.4}")))),
            ("tokens", ids.len().to_string()),
            ("device", module.device().name().to_owned()),
            (
                "kernels",
                format!("{}, at most {} launches per layer", scored.kernels, scored.launches_per_layer),
            ),
            ("tensor flops", super::or_dash(scored.traffic.tensor_flops_total())),
            ("bytes / floor", super::or_dash(scored.traffic.over_floor().map(|x| format!("{x:.3}")))),
        ];
        rows.map(|(name, what)| format!("{name:<14} {what}")).join("\n")
    });
    Ok(())
}

/// A flat JSON array of integers.
fn read_ids(path: &Path) -> Result<Vec<u64>, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let bad = |message: String| Error::Input {
        message: format!("`{}`: {message}", path.display()),
        help: Some("the file holds a flat JSON array of token ids, e.g. [1, 2, 3]".into()),
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let array = value.as_array().ok_or_else(|| bad("this is no array".into()))?;
    array.iter().map(|v| v.as_u64().ok_or_else(|| bad(format!("`{v}` is no token id")))).collect()
}
