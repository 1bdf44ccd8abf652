//! Configurations: the published ones, their many forms, and what is refused.

use std::path::Path;

use crate::common::{self, goldens};
use serde_json::{Value, json};
use tilewright_frontend::hf::config::Activation;
use tilewright_frontend::hf::{
    BuildOptions, Config, ConfigError, Phase, build_module, expected_tensors, load_config, open_random,
    parse_config,
};
use tilewright_ir::graph::{Arg, GlobalKind};
use tilewright_ir::{DType, Extent};

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models").join(name)
}

fn parse(json: &Value) -> Result<Config, ConfigError> {
    parse_config(&json.to_string())
}

fn base(architecture: &str) -> Value {
    json!({"architectures": [architecture], "vocab_size": 101, "hidden_size": 24, "intermediate_size": 31,
           "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2})
}

fn with(mut json: Value, key: &str, value: Value) -> Value {
    json[key] = value;
    json
}

/// The published numbers of parameters know nothing of our code.
#[test]
fn published_models_have_the_published_numbers_of_parameters() {
    for (name, layers, parameters) in [
        ("Llama-3.2-1B", 16, 1_235_814_400u64),
        ("Llama-3.1-8B", 32, 8_030_261_248),
        ("Qwen3-0.6B", 28, 596_049_920),
        ("Qwen3-1.7B", 28, 1_720_574_976),
        ("Qwen3-8B", 36, 8_190_735_360),
        ("Mistral-7B-v0.3", 32, 7_248_023_552),
        ("SmolLM2-135M", 30, 134_515_008),
    ] {
        let (config, _) = open_random(&shipped(name), 1).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(config.layers(), layers, "{name}");
        let total: u64 = expected_tensors(&config).values().map(|d| d.iter().product::<u64>()).sum();
        assert_eq!(total, parameters, "{name}");
        assert!(config.windows.iter().all(Option::is_none), "{name}");
        for phase in [Phase::Decode, Phase::Prefill] {
            let options = BuildOptions { phase, batch: 1, max_context: 4096, activations: DType::Bf16 };
            let m = build_module(&config, &options).expect("builds");
            common::consistent(&m);
            // Repeated layers stay rolled: one function for all of them.
            assert_eq!((m.functions.len(), m.program.len()), (3, 3), "{name}");
            assert_eq!(m.program[1].count as usize, layers);
            let weights = m.globals.values().filter(|g| matches!(g.kind, GlobalKind::Weight(_)));
            let elements: u64 = weights
                .map(|g| g.dims.iter().map(|d| d.as_const().expect("constant")).product::<u64>())
                .sum();
            assert_eq!(elements, parameters, "{name}: split axes keep every element");
        }
    }
}

#[test]
fn modules_are_consistent_and_have_one_function_per_kind_of_layer() {
    for folder in goldens() {
        let config = load_config(&folder).expect("loads");
        let options =
            BuildOptions { phase: Phase::Prefill, batch: 3, max_context: 31, activations: DType::F32 };
        let m = build_module(&config, &options).expect("builds");
        let mut kinds = config.windows.clone();
        kinds.sort();
        kinds.dedup();
        assert_eq!(m.functions.len(), 2 + kinds.len(), "{}", folder.display());
        for call in &m.program {
            let f = &m.functions[call.func];
            for (arg, param) in call.args.iter().zip(f.params()) {
                let globals = match arg {
                    Arg::Shared(g) | Arg::Carried(g, _) => vec![*g],
                    Arg::PerIteration(all) => all.clone(),
                };
                assert!(globals.len() == 1 || globals.len() == call.count as usize);
                for g in globals {
                    assert_eq!(m.globals[g].dims, f.dims(param), "{}", m.globals[g].name);
                    assert_eq!(m.globals[g].dtype, f.values[param].dtype, "{}", m.globals[g].name);
                }
            }
            assert_eq!(call.args.len(), f.params().count());
        }
        let logits = &m.globals[m.outputs[0]];
        assert_eq!(logits.dims[2], Extent::Const(config.vocab));
    }
}

#[test]
fn missing_keys_mean_what_the_reference_implementation_means() {
    let llama = parse(&base("LlamaForCausalLM")).expect("parses");
    assert_eq!((llama.head_dim, llama.norm_eps, llama.tied, &llama.eos[..]), (6, 1e-6, false, &[2][..]));
    assert_eq!((llama.frequencies[1], llama.dtype), (10_000f64.powf(-2.0 / 6.0), DType::Bf16));
    let mistral = parse(&base("MistralForCausalLM")).expect("parses");
    assert_eq!(mistral.windows, [Some(4096); 3]);
    let none = parse(&with(base("MistralForCausalLM"), "sliding_window", Value::Null)).expect("parses");
    assert_eq!(none.windows, [None; 3]);
    let qwen2 = parse(&base("Qwen2ForCausalLM")).expect("parses");
    assert_eq!((qwen2.qkv_bias, qwen2.out_bias, &qwen2.windows[..]), (true, false, &[None; 3][..]));
    let qwen3 = parse(&base("Qwen3ForCausalLM")).expect("parses");
    assert_eq!((qwen3.head_dim, qwen3.qk_norm, qwen3.qkv_bias), (128, true, false));
    let mut windowed = with(base("Qwen2ForCausalLM"), "use_sliding_window", json!(true));
    windowed["max_window_layers"] = json!(1);
    windowed["sliding_window"] = json!(5);
    assert_eq!(parse(&windowed).expect("parses").windows, [None, Some(5), Some(5)]);
    windowed["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention"]);
    assert_eq!(parse(&windowed).expect("parses").windows, [Some(5), None, None]);
    let gelu =
        parse(&with(base("LlamaForCausalLM"), "hidden_act", json!("gelu_pytorch_tanh"))).expect("parses");
    assert_eq!(gelu.activation, Activation::GeluTanh);
    let mut by_type = base("LlamaForCausalLM");
    by_type.as_object_mut().expect("object").remove("architectures");
    by_type["model_type"] = json!("mistral");
    assert_eq!(parse(&by_type).expect("parses").architecture, "MistralForCausalLM");
    let mut mha = base("LlamaForCausalLM");
    mha.as_object_mut().expect("object").remove("num_key_value_heads");
    assert_eq!(parse(&mha).expect("parses").kv_heads, 4);
}

#[test]
fn both_forms_of_rotation_parameters_mean_the_same() {
    let scaling = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64});
    let mut old = with(base("LlamaForCausalLM"), "rope_theta", json!(500.0));
    old["rope_scaling"] = scaling.clone();
    old["rope_scaling"]["type"] = json!("llama3");
    let mut new = base("LlamaForCausalLM");
    new["rope_parameters"] = scaling;
    new["rope_parameters"]["rope_type"] = json!("llama3");
    new["rope_parameters"]["rope_theta"] = json!(500.0);
    assert_eq!(parse(&old).expect("old"), parse(&new).expect("new"));
    let plain = parse(&with(base("LlamaForCausalLM"), "rope_theta", json!(500.0))).expect("plain");
    assert_ne!(plain.frequencies, parse(&new).expect("new").frequencies);
}

#[test]
fn what_is_not_supported_is_named() {
    let llama = || base("LlamaForCausalLM");
    let cases = [
        (
            with(llama(), "architectures", json!(["GPT2LMHeadModel"])),
            "unknown architecture `GPT2LMHeadModel`",
        ),
        (with(llama(), "architectures", json!("LlamaForCausalLM")), "`architectures`"),
        (with(llama(), "model_type", json!("qwen2")), "`model_type` is \"qwen2\""),
        (with(llama(), "hidden_size", json!(-5)), "`hidden_size` is -5"),
        (with(llama(), "hidden_size", json!("big")), "`hidden_size` is \"big\""),
        (with(llama(), "hidden_size", json!(23)), "`num_attention_heads` is 4"),
        (with(llama(), "head_dim", json!(7)), "`head_dim` is 7"),
        (with(llama(), "num_key_value_heads", json!(3)), "`num_key_value_heads` is 3"),
        (with(llama(), "num_hidden_layers", json!(0)), "`num_hidden_layers` is 0"),
        (with(llama(), "vocab_size", Value::Null), "no `vocab_size`"),
        (with(llama(), "hidden_act", json!("gelu")), "`hidden_act` = \"gelu\""),
        (with(llama(), "rms_norm_eps", json!(0)), "`rms_norm_eps` is 0"),
        (
            with(llama(), "rope_scaling", json!({"type": "yarn", "factor": 2.0})),
            "`rope_scaling.rope_type` = \"yarn\"",
        ),
        (with(llama(), "rope_scaling", json!({"type": "dynamic", "factor": 2.0})), "= \"dynamic\""),
        (with(llama(), "rope_scaling", json!({"type": "linear"})), "no `rope_scaling.factor`"),
        (
            with(llama(), "rope_scaling", json!({"type": "linear", "factor": 2, "extra": 1})),
            "`rope_scaling.extra` = 1",
        ),
        (
            with(llama(), "rope_parameters", json!({"full_attention": {"rope_theta": 1.0}})),
            "`rope_parameters.full_attention`",
        ),
        (with(llama(), "rope_parameters", json!(3)), "`rope_parameters` is 3"),
        (with(llama(), "partial_rotary_factor", json!(0.5)), "`partial_rotary_factor` = 0.5"),
        (with(llama(), "sliding_window", json!(8)), "`sliding_window` = 8"),
        (with(llama(), "quantization_config", json!({"bits": 4})), "`quantization_config`"),
        (with(llama(), "attn_logit_softcapping", json!(30.0)), "unknown key `attn_logit_softcapping` = 30.0"),
        (with(llama(), "torch_dtype", json!("float8_e4m3fn")), "`torch_dtype` = \"float8_e4m3fn\""),
        (with(llama(), "eos_token_id", json!("end")), "`eos_token_id` is \"end\""),
        (with(llama(), "attention_bias", json!("yes")), "`attention_bias` is \"yes\""),
        (with(base("MistralForCausalLM"), "sliding_window", json!(0)), "`sliding_window` is 0"),
        (
            with(base("MistralForCausalLM"), "attention_bias", json!(true)),
            "unknown key `attention_bias` = true",
        ),
        (
            with(
                base("MistralForCausalLM"),
                "layer_types",
                json!(["full_attention", "full_attention", "full_attention"]),
            ),
            "`layer_types`",
        ),
        (with(base("Qwen3ForCausalLM"), "layer_types", json!(["full_attention"])), "a list of 3 names"),
        (
            with(
                base("Qwen3ForCausalLM"),
                "layer_types",
                json!(["sliding_attention", "sliding_attention", "sliding_attention"]),
            ),
            "`layer_types`",
        ),
        (
            with(
                base("Qwen3ForCausalLM"),
                "layer_types",
                json!(["linear_attention", "linear_attention", "linear_attention"]),
            ),
            "\"linear_attention\"",
        ),
    ];
    for (json, message) in cases {
        let e = parse(&json).expect_err(&format!("{message}: {json}")).to_string();
        assert!(e.contains(message), "{e}\nwanted {message}");
    }
    for text in ["", "[]", "{", "3", "{\"architectures\": []}"] {
        assert!(parse_config(text).is_err(), "{text}");
    }
    assert!(
        load_config(Path::new("/nowhere/at/all"))
            .expect_err("absent")
            .to_string()
            .contains("/nowhere/at/all")
    );
    // What is empty or known to have no meaning is fine.
    let mut fine = with(llama(), "some_future_switch", json!(false));
    fine["another"] = json!([]);
    fine["transformers_version"] = json!("9.9");
    fine["sliding_window"] = Value::Null;
    parse(&fine).expect("parses");
}

#[test]
fn sizes_that_cannot_be_built_are_refused() {
    let config = parse(&base("LlamaForCausalLM")).expect("parses");
    let good = BuildOptions { phase: Phase::Decode, batch: 1, max_context: 1, activations: DType::Bf16 };
    assert!(build_module(&config, &good).is_ok());
    for bad in [
        BuildOptions { batch: 0, ..good },
        BuildOptions { max_context: 0, ..good },
        BuildOptions { max_context: u64::MAX, ..good },
        BuildOptions { activations: DType::I32, ..good },
    ] {
        assert!(build_module(&config, &bad).is_err(), "{bad:?}");
    }
}

/// No text may panic: a valid configuration with random damage.
#[test]
fn damaged_configurations_are_refused_or_accepted_but_never_panic() {
    let mut rng = common::Rng::fresh("damage");
    let text = std::fs::read_to_string(shipped("Llama-3.2-1B").join("config.json")).expect("shipped");
    let pool: Vec<char> = "{}[]\",:0129.-eEtn u\u{e9}".chars().collect();
    for _ in 0..5000 {
        let mut text: Vec<char> = text.chars().collect();
        for _ in 0..1 + rng.below(3) {
            let (at, c) = (rng.below(text.len()), pool[rng.below(pool.len())]);
            match rng.below(3) {
                0 => text[at] = c,
                1 => text.insert(at, c),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(config) = parse_config(&text) {
            let options =
                BuildOptions { phase: Phase::Decode, batch: 1, max_context: 16, activations: DType::Bf16 };
            drop(build_module(&config, &options));
        }
    }
}
