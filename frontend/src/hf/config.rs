//! `config.json` to a description of the model.
//!
//! Why here: families of decoders differ in a few optional parts, so one [`Config`] describes them all and nothing
//! after this module knows a family by name. Keys are read through a ledger that remembers which were used: a key
//! that is left over and set to something might change what the model computes, so it is refused by name.
//!
//! Defaults for missing keys are those of the reference implementation of the family.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};
use tilewright_ir::DType;

use super::rope::{Scaling, frequencies};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a JSON object.
    #[error("config.json is not a JSON object: {0}")]
    Json(String),
    /// A key that is needed is not there.
    #[error("config.json has no `{0}`")]
    Missing(&'static str),
    /// A value has the wrong type or range.
    #[error("config.json: `{key}` is {value}, but must be {expected}")]
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A value that we do not support.
    #[error("config.json: `{key}` = {value} is not supported: {reason}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Why, or what is.
        reason: String,
    },
    /// A key that we do not know and that is set to something.
    #[error("config.json: unknown key `{key}` = {value} may change the model; remove it if it does not")]
    UnknownKey {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// An architecture that we do not know.
    #[error("unknown architecture `{0}`: supported are {SUPPORTED}")]
    Architecture(String),
}

const SUPPORTED: &str = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM";

/// The function between the two matrices of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The form of GELU with tanh.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// A decoder-only transformer: sizes, and which optional parts it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The architecture, as the configuration names it.
    pub architecture: String,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the feed-forward layers.
    pub intermediate: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u64,
    /// Width of a head; even.
    pub head_dim: u64,
    /// Added to mean squares before the root.
    pub norm_eps: f64,
    /// Rotation frequency of each pair of a head.
    pub frequencies: Vec<f64>,
    /// For each layer, how many positions a query sees, itself included; `None` is all.
    pub windows: Vec<Option<u64>>,
    /// Biases of the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias of the output projection of the heads.
    pub out_bias: bool,
    /// Biases of the feed-forward layers.
    pub mlp_bias: bool,
    /// Norms of each query and key head.
    pub qk_norm: bool,
    /// The output matrix is the embedding.
    pub tied: bool,
    /// The function of the feed-forward layers.
    pub activation: Activation,
    /// The longest context that the model was made for.
    pub max_positions: u64,
    /// Tokens that end a sequence.
    pub eos: Vec<u64>,
    /// The type of the weights.
    pub dtype: DType,
    /// Tensors that are stored in another type than `dtype`.
    pub dtypes: IndexMap<String, DType>,
}

impl Config {
    /// Layers.
    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// The type in which a tensor of the weights is stored.
    pub fn dtype_of(&self, tensor: &str) -> DType {
        self.dtypes.get(tensor).copied().unwrap_or(self.dtype)
    }
}

/// Reads the `config.json` of a folder, or the file itself.
pub fn load_config(path: &Path) -> Result<Config, ConfigError> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let text =
        std::fs::read_to_string(&file).map_err(|source| ConfigError::Io { file: file.clone(), source })?;
    parse_config(&text)
}

/// A family: what differs where the configuration does not say.
struct Family {
    architecture: &'static str,
    model_type: &'static str,
    kv_heads: Option<u64>,
    head_dim: Option<u64>,
    max_positions: u64,
    /// Whether windows come with `use_sliding_window`, `max_window_layers` and `layer_types`.
    optional_windows: bool,
    /// The window of every layer, where the key is not there.
    window: Option<u64>,
    /// Biases of query, key and value projections that no key says.
    qkv_bias: bool,
    /// Whether `attention_bias` and `mlp_bias` exist.
    bias_keys: (bool, bool),
    qk_norm: bool,
    eos: Option<u64>,
}

const FAMILIES: [Family; 4] = [
    Family {
        architecture: "LlamaForCausalLM",
        model_type: "llama",
        kv_heads: None,
        head_dim: None,
        max_positions: 2048,
        optional_windows: false,
        window: None,
        qkv_bias: false,
        bias_keys: (true, true),
        qk_norm: false,
        eos: Some(2),
    },
    Family {
        architecture: "MistralForCausalLM",
        model_type: "mistral",
        kv_heads: Some(8),
        head_dim: None,
        max_positions: 131_072,
        optional_windows: false,
        window: Some(4096),
        qkv_bias: false,
        bias_keys: (false, false),
        qk_norm: false,
        eos: Some(2),
    },
    Family {
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        kv_heads: Some(32),
        head_dim: None,
        max_positions: 32_768,
        optional_windows: true,
        window: Some(4096),
        qkv_bias: true,
        bias_keys: (false, false),
        qk_norm: false,
        eos: None,
    },
    Family {
        architecture: "Qwen3ForCausalLM",
        model_type: "qwen3",
        kv_heads: Some(32),
        head_dim: Some(128),
        max_positions: 32_768,
        optional_windows: true,
        window: Some(4096),
        qkv_bias: false,
        bias_keys: (true, false),
        qk_norm: true,
        eos: None,
    },
];

/// Keys that say nothing about what the model computes: training, generation, bookkeeping.
const WITHOUT_MEANING: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_window_layers",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// The keys of an object, with a note of which were read.
struct Ledger<'a> {
    object: &'a Map<String, Value>,
    prefix: &'static str,
    used: BTreeSet<&'a str>,
}

impl<'a> Ledger<'a> {
    fn new(object: &'a Map<String, Value>, prefix: &'static str) -> Ledger<'a> {
        Ledger { object, prefix, used: BTreeSet::new() }
    }

    /// The value of a key; `null` is the same as no value.
    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.used.insert(key);
        self.object.get(key).filter(|v| !v.is_null())
    }

    fn bad(&self, key: &str, value: &Value, expected: &str) -> ConfigError {
        let key = format!("{}{key}", self.prefix);
        ConfigError::Value { key, value: value.to_string(), expected: expected.to_owned() }
    }

    fn unsupported(&self, key: &str, value: &Value, reason: &str) -> ConfigError {
        let key = format!("{}{key}", self.prefix);
        ConfigError::Unsupported { key, value: value.to_string(), reason: reason.to_owned() }
    }

    fn count(&mut self, key: &'static str, max: u64) -> Result<Option<u64>, ConfigError> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_u64().filter(|n| (1..=max).contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(self.bad(key, v, &format!("a whole number from 1 to {max}"))),
        }
    }

    fn real(&mut self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad(key, v, "a positive number")),
        }
    }

    fn flag(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(v) = self.get(key) else { return Ok(None) };
        v.as_bool().map(Some).ok_or_else(|| self.bad(key, v, "true or false"))
    }

    fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        let Some(v) = self.get(key) else { return Ok(None) };
        v.as_str().map(Some).ok_or_else(|| self.bad(key, v, "a string"))
    }

    /// Refuses keys that were not read and are set to something.
    fn finish(&self, without_meaning: &[&str]) -> Result<(), ConfigError> {
        for (key, value) in self.object {
            let empty = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(a) => a.is_empty(),
                Value::Object(o) => o.is_empty(),
                _ => false,
            };
            if !empty && !self.used.contains(key.as_str()) && !without_meaning.contains(&key.as_str()) {
                let key = format!("{}{key}", self.prefix);
                return Err(ConfigError::UnknownKey { key, value: shorten(value) });
            }
        }
        Ok(())
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// Largest size of anything in a configuration that is believed.
const MAX_SIZE: u64 = 1 << 24;

/// Parses the text of a `config.json`.
pub fn parse_config(text: &str) -> Result<Config, ConfigError> {
    let json: Value = serde_json::from_str(text).map_err(|e| ConfigError::Json(e.to_string()))?;
    let object =
        json.as_object().ok_or_else(|| ConfigError::Json("it is another kind of value".to_owned()))?;
    let mut l = Ledger::new(object, "");
    let family = family(&mut l)?;

    let size = |l: &mut Ledger, key: &'static str| l.count(key, MAX_SIZE)?.ok_or(ConfigError::Missing(key));
    let vocab = size(&mut l, "vocab_size")?;
    let hidden = size(&mut l, "hidden_size")?;
    let intermediate = size(&mut l, "intermediate_size")?;
    let layers = l.count("num_hidden_layers", 4096)?.ok_or(ConfigError::Missing("num_hidden_layers"))?;
    let heads = size(&mut l, "num_attention_heads")?;
    let kv_heads = match (l.count("num_key_value_heads", MAX_SIZE)?, object.get("num_key_value_heads")) {
        (Some(n), _) => n,
        // An explicit null means one per query head, whatever the family's default is.
        (None, Some(_)) => heads,
        (None, None) => family.kv_heads.unwrap_or(heads),
    };
    if !heads.is_multiple_of(kv_heads) {
        let value = Value::from(kv_heads);
        return Err(l.bad(
            "num_key_value_heads",
            &value,
            &format!("a divisor of num_attention_heads = {heads}"),
        ));
    }
    let head_dim = head_dim(&mut l, family, hidden, heads)?;
    let activation = activation(&mut l)?;
    let max_positions = l.count("max_position_embeddings", 1 << 40)?.unwrap_or(family.max_positions);
    let frequencies = rotation(&mut l, head_dim, max_positions)?;
    let windows = windows(&mut l, family, layers as usize)?;
    let attention_bias = family.bias_keys.0 && l.flag("attention_bias")?.unwrap_or(false);
    let mlp_bias = family.bias_keys.1 && l.flag("mlp_bias")?.unwrap_or(false);
    let config = Config {
        architecture: family.architecture.to_owned(),
        vocab,
        hidden,
        intermediate,
        heads,
        kv_heads,
        head_dim,
        norm_eps: l.real("rms_norm_eps")?.unwrap_or(1e-6),
        frequencies,
        windows,
        qkv_bias: family.qkv_bias || attention_bias,
        out_bias: attention_bias,
        mlp_bias,
        qk_norm: family.qk_norm,
        tied: l.flag("tie_word_embeddings")?.unwrap_or(false),
        activation,
        max_positions,
        eos: eos(&mut l, family)?,
        dtype: dtype(&mut l)?,
        dtypes: IndexMap::new(),
    };
    if let Some(v) = l.get("quantization_config") {
        return Err(l.unsupported("quantization_config", v, "weights must be bf16, f16 or f32"));
    }
    l.finish(WITHOUT_MEANING)?;
    Ok(config)
}

fn family(l: &mut Ledger) -> Result<&'static Family, ConfigError> {
    let model_type = l.text("model_type")?;
    let architecture = match l.get("architectures") {
        None => None,
        Some(v) => match v.as_array().map(Vec::as_slice) {
            Some([]) => None,
            Some([one]) if one.is_string() => one.as_str(),
            _ => return Err(l.bad("architectures", v, "a list with one name")),
        },
    };
    let found = match (architecture, model_type) {
        (Some(a), _) => {
            FAMILIES.iter().find(|f| f.architecture == a).ok_or(ConfigError::Architecture(a.to_owned()))?
        }
        (None, Some(t)) => {
            FAMILIES.iter().find(|f| f.model_type == t).ok_or(ConfigError::Architecture(t.to_owned()))?
        }
        (None, None) => return Err(ConfigError::Missing("architectures")),
    };
    match model_type {
        Some(t) if t != found.model_type => {
            let expected = format!("\"{}\", as `architectures` says", found.model_type);
            Err(l.bad("model_type", &Value::from(t), &expected))
        }
        _ => Ok(found),
    }
}

fn head_dim(l: &mut Ledger, family: &Family, hidden: u64, heads: u64) -> Result<u64, ConfigError> {
    let explicit = l.count("head_dim", 1 << 16)?.or(family.head_dim);
    let head_dim = match explicit {
        Some(n) => n,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of hidden_size = {hidden} where `head_dim` is not given");
            return Err(l.bad("num_attention_heads", &Value::from(heads), &expected));
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(l.bad("head_dim", &Value::from(head_dim), "even, since positions rotate pairs"));
    }
    Ok(head_dim)
}

fn activation(l: &mut Ledger) -> Result<Activation, ConfigError> {
    Ok(match l.text("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => Activation::Silu,
        "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        other => {
            let reason = "supported are silu, gelu_pytorch_tanh and relu";
            return Err(l.unsupported("hidden_act", &Value::from(other), reason));
        }
    })
}

/// Both forms: `rope_theta` with `rope_scaling`, and `rope_parameters` with everything inside.
fn rotation(l: &mut Ledger, head_dim: u64, max_positions: u64) -> Result<Vec<f64>, ConfigError> {
    let outer_theta = l.real("rope_theta")?;
    if let Some(v) = l.get("partial_rotary_factor").filter(|v| v.as_f64() != Some(1.0)) {
        return Err(l.unsupported("partial_rotary_factor", v, "all of a head is rotated"));
    }
    if let Some(v) = l.get("rope_interleaved").filter(|v| **v != Value::Bool(false)) {
        return Err(l.unsupported("rope_interleaved", v, "pairs are the two halves of a head"));
    }
    let (old, new) = (l.get("rope_scaling"), l.get("rope_parameters"));
    let (key, value) = match (old, new) {
        (Some(a), Some(b)) if a != b => {
            return Err(l.unsupported(
                "rope_scaling",
                a,
                "`rope_parameters` is there too and says otherwise",
            ));
        }
        (_, Some(v)) => ("rope_parameters.", v),
        (Some(v), None) => ("rope_scaling.", v),
        (None, None) => return Ok(frequencies(head_dim, outer_theta.unwrap_or(10_000.0), &Scaling::None)),
    };
    let Some(object) = value.as_object() else {
        return Err(l.bad(key.trim_end_matches('.'), value, "an object"));
    };
    let mut r = Ledger::new(object, key);
    let theta = r.real("rope_theta")?.or(outer_theta).unwrap_or(10_000.0);
    if let Some(v) = r.get("partial_rotary_factor").filter(|v| v.as_f64() != Some(1.0)) {
        return Err(r.unsupported("partial_rotary_factor", v, "all of a head is rotated"));
    }
    let (by_type, by_rope_type) = (r.text("type")?, r.text("rope_type")?);
    let kind = by_rope_type.or(by_type).unwrap_or("default");
    let old_form = new.is_none();
    let need = |r: &mut Ledger, key: &'static str, in_new: &'static str, in_old: &'static str| {
        r.real(key)?.ok_or(ConfigError::Missing(if old_form { in_old } else { in_new }))
    };
    let scaling = match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear {
            factor: need(&mut r, "factor", "rope_parameters.factor", "rope_scaling.factor")?,
        },
        "llama3" => {
            let s = Scaling::Llama3 {
                factor: need(&mut r, "factor", "rope_parameters.factor", "rope_scaling.factor")?,
                low_freq_factor: need(
                    &mut r,
                    "low_freq_factor",
                    "rope_parameters.low_freq_factor",
                    "rope_scaling.low_freq_factor",
                )?,
                high_freq_factor: need(
                    &mut r,
                    "high_freq_factor",
                    "rope_parameters.high_freq_factor",
                    "rope_scaling.high_freq_factor",
                )?,
                original_context: r.real("original_max_position_embeddings")?.unwrap_or(max_positions as f64),
            };
            if let Scaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } = s
                && high <= low
            {
                let expected = format!("above low_freq_factor = {low}");
                return Err(r.bad("high_freq_factor", &Value::from(high), &expected));
            }
            s
        }
        other => {
            let reason = "supported are default, linear and llama3";
            return Err(r.unsupported("rope_type", &Value::from(other), reason));
        }
    };
    r.finish(&[])?;
    Ok(frequencies(head_dim, theta, &scaling))
}

fn windows(l: &mut Ledger, family: &Family, layers: usize) -> Result<Vec<Option<u64>>, ConfigError> {
    let explicit = l.count("sliding_window", 1 << 40)?;
    // A null means no window; only a missing key means the default.
    let window = if l.object.contains_key("sliding_window") { explicit } else { family.window };
    let types = match l.get("layer_types") {
        None => None,
        Some(v) => {
            let names = v.as_array().map(|a| a.iter().map(Value::as_str).collect::<Option<Vec<&str>>>());
            match names.flatten() {
                Some(names) if names.len() == layers => Some((v, names)),
                _ => return Err(l.bad("layer_types", v, &format!("a list of {layers} names"))),
            }
        }
    };
    let mut windows = vec![window; layers];
    if family.optional_windows {
        let on = l.flag("use_sliding_window")?.unwrap_or(false);
        let first = match l.get("max_window_layers") {
            None => 28,
            Some(v) => v.as_u64().ok_or_else(|| l.bad("max_window_layers", v, "a whole number"))?,
        };
        let window = window.filter(|_| on);
        windows = (0..layers).map(|k| window.filter(|_| k as u64 >= first)).collect();
        if let Some((v, names)) = types {
            for (k, name) in names.into_iter().enumerate() {
                windows[k] = match (name, window) {
                    ("full_attention", _) => None,
                    ("sliding_attention", Some(w)) => Some(w),
                    ("sliding_attention", None) => {
                        let expected = "without sliding_attention, since use_sliding_window is false";
                        return Err(l.bad("layer_types", v, expected));
                    }
                    (other, _) => {
                        let reason = "supported are full_attention and sliding_attention";
                        return Err(l.unsupported("layer_types", &Value::from(other), reason));
                    }
                };
            }
        }
        return Ok(windows);
    }
    if family.window.is_none()
        && let Some(w) = explicit
    {
        return Err(l.unsupported("sliding_window", &Value::from(w), "this architecture has none"));
    }
    if let Some((v, names)) = types {
        let wanted = if window.is_some() { "sliding_attention" } else { "full_attention" };
        if names.iter().any(|n| *n != wanted) {
            return Err(l.unsupported("layer_types", v, "layers of this architecture are all alike"));
        }
    }
    Ok(windows)
}

fn eos(l: &mut Ledger, family: &Family) -> Result<Vec<u64>, ConfigError> {
    let explicit = l.object.contains_key("eos_token_id");
    match l.get("eos_token_id") {
        None if explicit => Ok(Vec::new()),
        None => Ok(family.eos.into_iter().collect()),
        Some(v) => {
            let all = match v {
                Value::Array(a) => a.iter().map(Value::as_u64).collect(),
                other => other.as_u64().map(|n| vec![n]),
            };
            all.ok_or_else(|| l.bad("eos_token_id", v, "a token or a list of tokens"))
        }
    }
}

fn dtype(l: &mut Ledger) -> Result<DType, ConfigError> {
    let (new, old) = (l.text("dtype")?, l.text("torch_dtype")?);
    let (key, name) = match (new, old) {
        (Some(n), _) => ("dtype", n),
        (None, Some(n)) => ("torch_dtype", n),
        (None, None) => return Ok(DType::Bf16),
    };
    match name.trim_start_matches("torch.") {
        "bfloat16" | "auto" => Ok(DType::Bf16),
        "float16" | "half" => Ok(DType::F16),
        "float32" | "float" => Ok(DType::F32),
        _ => {
            let reason = "weights must be bfloat16, float16 or float32";
            Err(l.unsupported(key, &Value::from(name), reason))
        }
    }
}
