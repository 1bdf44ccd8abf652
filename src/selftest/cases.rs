//! What: the cases of the self-test.
//! Why here: data, apart from how it is run.
//! Pre: none.
//! Post: sizes are small and multiples of nothing, so that ragged edges are part of every case.

/// Equations with the values of their symbols.
#[derive(Clone, Copy, Debug)]
pub struct EquationCase {
    /// The name.
    pub name: &'static str,
    /// The equations, with all declarations.
    pub text: &'static str,
    /// The outputs; empty for the last definition.
    pub outputs: &'static [&'static str],
    /// Values of symbols.
    pub symbols: &'static [(&'static str, i64)],
}

/// A model with made-up weights.
#[derive(Clone, Copy, Debug)]
pub struct ModelCase {
    /// The name.
    pub name: &'static str,
    /// Its `config.json`.
    pub config: &'static str,
    /// Tokens that are scored.
    pub tokens: u64,
    /// The context that it is compiled for.
    pub context: u64,
}

const fn case(name: &'static str, text: &'static str) -> EquationCase {
    EquationCase { name, text, outputs: &[], symbols: &[] }
}

/// All equations.
pub const EQUATIONS: &[EquationCase] = &[
    case("map", "x: f32[i=37, j=5]; y[i,j] = exp(x[i,j]) * 0.5 + tanh(x[i,j])"),
    case("transpose", "x: f32[i=37, j=5]; y[j,i] = x[i,j]"),
    case("broadcast", "x: f32[i=7]; z: f32[j=33]; y[i,j] = x[i] - z[j]"),
    case("sum", "x: f32[i=13, j=301]; y[i] = sum[j](x[i,j])"),
    case("max over rows", "x: f32[i=301, j=13]; y[j] = max[i](x[i,j])"),
    case("sum of all", "x: f32[i=17, j=19, k=5]; y = sum[i,j,k](x[i,j,k])"),
    case("matmul f32", "a: f32[i=33, k=47]; b: f32[k, j=21]; c[i,j] = sum[k](a[i,k] * b[k,j])"),
    case(
        "matmul bf16",
        "a: bf16[i=33, k=47]; b: bf16[j=21, k]; c: f32[i, j]; c[i,j] = sum[k](a[i,k] * b[j,k])",
    ),
    case(
        "matmul f16",
        "a: f16[i=65, k=129]; b: f16[j=70, k]; c: f32[i, j]; c[i,j] = sum[k](a[i,k] * b[j,k])",
    ),
    case("matvec bf16", "w: bf16[n=131, k=515]; x: bf16[k]; y: f32[n]; y[n] = sum[k](w[n,k] * x[k])"),
    case("matmul f64", "a: f64[i=9, k=31]; b: f64[k, j=7]; c[i,j] = sum[k](a[i,k] * b[k,j])"),
    case("softmax", "x: f32[i=11, j=203]; y[i,j] = softmax[j](x[i,j])"),
    case("log-sum-exp", "x: f32[i=11, j=203]; y[i] = logsumexp[j](x[i,j])"),
    case(
        "safe softmax in base 2",
        "x: f32[i=5, j=99]; m[i] = max[j](x[i,j]); y[i,j] = exp2(x[i,j] - m[i]) / sum[j](exp2(x[i,j] - m[i]))",
    ),
    case(
        "normalise and project",
        "x: f32[i=6, c=75]; w: f32[o=37, c]; y[i,o] = sum[c](w[o,c] * x[i,c] * rsqrt(mean[c](x[i,c] * x[i,c]) + 0.00001))",
    ),
    case(
        "attend",
        "Q: f32[i=21, d=16]; K: f32[j=53, d]; V: f32[j, e=24]; O[i,e] = sum[j](softmax[j](sum[d](Q[i,d] * K[j,d])) * V[j,e])",
    ),
    case(
        "attend bf16",
        "Q: bf16[h=3, i=21, d=32]; K: bf16[h, j=53, d]; V: bf16[h, j, e=32]; O[h,i,e] = sum[j](softmax[j](sum[d](Q[h,i,d] * K[h,j,d]) * 0.17) * V[h,j,e])",
    ),
    case(
        "attend causally",
        "Q: f32[i=45, d=16]; K: f32[j=45, d]; V: f32[j, e=16]; O[i,e] = sum[j](softmax[j](where(j <= i, sum[d](Q[i,d] * K[j,d]), -inf)) * V[j,e])",
    ),
    case("gather", "E: f32[t=50, d=12]; ids: i32[n=7]; y[n,d] = E[t := ids[n], d]"),
    case("arg max", "x: f32[i=9, j=130]; y[i] = argmax[j](x[i,j])"),
    case("integers", "x: i32[i=40]; y: i32[j=3]; z[i,j] = where(x[i] % 3 == j, x[i] * y[j], 0 - 1)"),
    case(
        "window",
        "x: f32[i=64]; axis k=5; y[i] = sum[k](where(i + k >= 2 and i + k < 66, x[i + k - 2], 0))",
    ),
    EquationCase {
        name: "two outputs",
        text: "x: f32[i=23, j=41]; m[i] = max[j](x[i,j]); s[i] = sum[j](exp(x[i,j] - m[i]))",
        outputs: &["m", "s"],
        symbols: &[],
    },
    EquationCase {
        name: "symbolic rows",
        text: "n in 1..100; x: f32[i=n, j=31]; y[i,j] = softmax[j](x[i,j])",
        outputs: &[],
        symbols: &[("n", 37)],
    },
    EquationCase {
        name: "symbolic reduction",
        text: "n in 1..500; x: bf16[i=7, j=n]; w: bf16[j, o=19]; y: f32[i, o]; y[i,o] = sum[j](x[i,j] * w[j,o])",
        outputs: &[],
        symbols: &[("n", 333)],
    },
];

/// All models: one per family, with sizes that are multiples of nothing.
pub const MODELS: &[ModelCase] = &[
    ModelCase {
        name: "llama",
        config: r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 75,
            "intermediate_size": 131, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
            "head_dim": 18, "vocab_size": 203, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "max_position_embeddings": 64, "tie_word_embeddings": false, "hidden_act": "silu"}"#,
        tokens: 13,
        context: 29,
    },
    ModelCase {
        name: "qwen2",
        config: r#"{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 60,
            "intermediate_size": 97, "num_hidden_layers": 1, "num_attention_heads": 6, "num_key_value_heads": 2,
            "vocab_size": 151, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 64,
            "tie_word_embeddings": true, "hidden_act": "silu"}"#,
        tokens: 9,
        context: 21,
    },
    ModelCase {
        name: "qwen3",
        config: r#"{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 52,
            "intermediate_size": 101, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1,
            "head_dim": 20, "vocab_size": 177, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "max_position_embeddings": 64, "tie_word_embeddings": true, "hidden_act": "silu"}"#,
        tokens: 11,
        context: 23,
    },
    ModelCase {
        name: "mistral",
        config: r#"{"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 66,
            "intermediate_size": 119, "num_hidden_layers": 1, "num_attention_heads": 6, "num_key_value_heads": 2,
            "head_dim": 14, "vocab_size": 187, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 5,
            "max_position_embeddings": 64, "tie_word_embeddings": false, "hidden_act": "silu"}"#,
        tokens: 17,
        context: 31,
    },
];
