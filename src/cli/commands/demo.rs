//! `tilewright demo`: the main job on a small model, from setting up to checking.

use serde_json::json;
use tilewright::explain::Marks;
use tilewright::generate::{Request, generate, score, tolerance};
use tilewright::{Compiler, Error, Phase, Toolchain, artifacts, report};
use tilewright_ir::text::print_kernel;

use crate::cli::args::DemoArgs;
use crate::cli::ui::Ui;

/// Large enough that nothing fits a block as a whole, so that kernels have to be derived.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 330,
    "intermediate_size": 870, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 54, "vocab_size": 1013, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "max_position_embeddings": 1024, "tie_word_embeddings": false, "hidden_act": "silu"}"#;
const SEED: u64 = 7;
const PROMPT: [u64; 5] = [3, 141, 59, 26, 53];
const TOKENS: u64 = 6;

/// Sets up, compiles, explains, runs, checks.
pub(crate) fn run(args: &DemoArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    let nvrtc = super::setup::fetch(false, ui, toolchain)?;
    let (bar, listener) = super::progress(ui);
    let module = Compiler::config(CONFIG, SEED)
        .toolchain(toolchain.clone())
        .device(super::device(&args.device)?)
        .listener(listener.clone())
        .compile()?;
    super::tell_notes(ui, &module);
    let request = Request { prompt: &PROMPT, tokens: TOKENS, ignore_eos: true, check: true, sampling: None };
    listener.tell(tilewright::Event::stage("generating, and checking against the evaluator"));
    let generated = generate(&module, &request, |_| ())?;
    let scored = score(&module, &PROMPT, Phase::Decode)?;
    drop(bar);

    let allowed = module.model().map_or(0.0, |m| tolerance(m.activations));
    let error = generated.error.unwrap_or(f64::INFINITY);
    let decode = &module.phases()[0];
    // The kernel with the longest derivation has the most to tell.
    let plans = decode.planned.compiled.plans.iter();
    let kernels = plans.flat_map(|(_, plan)| plan.kernels.iter().map(move |k| (plan, k)));
    let longest = kernels.max_by_key(|(_, k)| k.derivation.len());
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
            "A small Llama with made-up weights, on {}, with NVRTC {}.\n\n",
            module.device().name(),
            nvrtc.version_text()
        );
        text += "1. Kernels of the decode and prefill phases, derived and compiled:\n\n";
        text += &super::kernel_table(&module);
        if let Some((plan, kernel)) = longest {
            text += &format!("\n\n2. How `{}` was derived, and its plan:\n\n", kernel.name);
            let (laws, _) = artifacts::laws(&decode.planned, Some(&kernel.name), Marks::Arrows, Some(super::explain::WIDTH));
            text += shorten(&laws).trim_end();
            text += "\n\n";
            let printed = print_kernel(plan, kernel, &decode.planned.graph.symbols);
            // The laws were just shown.
            let own = |line: &&str| !line.trim_start().starts_with("law ");
            let plan: Vec<&str> = printed.lines().filter(own).collect();
            text += shorten(&plan.join("\n")).trim_end();
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

/// Lines cut to a width that people read.
fn shorten(text: &str) -> String {
    const WIDTH: usize = 150;
    let cut = |line: &str| match line.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{} ...", &line[..at]),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}
