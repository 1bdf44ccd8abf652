//! Equations whose derivations are pinned by `derivations.rs`, at the sizes of that file, by the names of its tests.

// Shared by several tests, each of which uses a part.
#![allow(dead_code)]

const HEADS: &str =
    "Q: bf16[h=2, i=seq, d=64]; K: bf16[h, j=kv, d]; V: bf16[h, j, e=64]; seq in 1..512; kv in 1..1024;";

/// Attention over scores: more inputs, the scores.
const ATTENTION: &[(&str, &str, &str)] = &[
    ("plain_attention", "", "0.125*sum[d](Q[h,i,d] * K[h,j,d])"),
    (
        "attention_with_capped_logits",
        "",
        "where(j <= i, 30*tanh(sum[d](Q[h,i,d] * K[h,j,d]) * 0.125/30), -inf)",
    ),
    (
        "attention_with_a_bias_of_distance",
        "B: f32[h];",
        "where(j <= i, 0.125*sum[d](Q[h,i,d] * K[h,j,d]) + B[h]*(j - i), -inf)",
    ),
    ("attention_with_padding", "len: i32[h];", "where(j < len[h], 0.125*sum[d](Q[h,i,d] * K[h,j,d]), -inf)"),
    (
        "attention_with_normalised_queries_and_keys",
        "G: bf16[d]; H: bf16[d];",
        "0.125*sum[d](rms_norm[d](Q[h,i,d])*G[d] * rms_norm[d](K[h,j,d])*H[d])",
    ),
];

const OTHERS: &[(&str, &str)] = &[
    (
        "attention_of_groups_with_a_causal_window",
        "Q: bf16[g=2, r=3, i=seq, d=64]; K: bf16[g, j=kv, d]; V: bf16[g, j, e=64]; seq in 1..512; kv in 1..1024; \
        O[g,r,i,e] = sum[j](softmax[j](where(j <= i and i - j < 128, 0.125*sum[d](Q[g,r,i,d] * K[g,j,d]), -inf)) * V[g,j,e])",
    ),
    ("log_sum_exp", "X: f32[i=33, j=5000]; L[i] = logsumexp[j](X[i,j])"),
    (
        "norm_into_the_matmul_that_follows",
        "X: bf16[i=16, c=2048]; G: bf16[c]; W: bf16[n=512, c]; Y[i,n] = sum[c](rms_norm[c](X[i,c]) * G[c] * W[n,c])",
    ),
    (
        "a_layer_norm_into_the_matmul_that_follows",
        "X: bf16[i=16, c=2048]; G: bf16[c]; B: bf16[c]; W: bf16[n=512, c]; \
        Y[i,n] = sum[c]((layer_norm[c](X[i,c]) * G[c] + B[c]) * W[n,c])",
    ),
    ("mean_and_variance", "X: f32[i=5, j=3000]; Y[i] = mean[j](X[i,j]) + sqrt(var[j](X[i,j]))"),
    (
        "gate_and_up_in_one_pass_with_their_epilogue",
        "X: bf16[i=1, c=2048]; W: bf16[f=512, c]; U: bf16[f, c]; \
        A[i,f] = silu(sum[c](X[i,c] * W[f,c])) * sum[c](X[i,c] * U[f,c])",
    ),
    (
        "residual_as_an_epilogue",
        "X: bf16[i=1, c=512]; A: bf16[i, f=2048]; D: bf16[c, f]; B: bf16[c]; \
        Y[i,c] = X[i,c] + (sum[f](A[i,f] * D[c,f]) + B[c])",
    ),
    (
        "a_softmax_that_the_user_wrote_in_another_base",
        "S: f32[i=33, j=5000]; V: f32[j, e=32]; M[i] = max[j](S[i,j]); P[i,j] = exp2(0.5*(S[i,j] - M[i])); \
        L[i] = sum[j](P[i,j]); O[i,e] = sum[j](P[i,j] * V[j,e]) / L[i]",
    ),
    (
        "safe_two_norm",
        "X: f32[i=5, j=3000]; M[i] = max[j](abs(X[i,j])); \
        N[i] = M[i] * sqrt(sum[j]((X[i,j] / M[i]) * (X[i,j] / M[i])))",
    ),
    (
        "rows_that_attend_to_a_sink",
        "S: f32[h=8, i=33, j=700]; Z: f32[h]; V: f32[j, e=32]; M[h,i] = max(max[j](S[h,i,j]), Z[h]); \
        L[h,i] = sum[j](exp(S[h,i,j] - M[h,i])) + exp(Z[h] - M[h,i]); \
        O[h,i,e] = sum[j](exp(S[h,i,j] - M[h,i]) * V[j,e]) / L[h,i]",
    ),
    (
        "attention_over_a_latent_cache",
        "Q: bf16[h=8, i=4, a=64]; U: bf16[h, a, r=128]; C: bf16[j=kv, r]; P: bf16[h, e=64, r]; kv in 1..4096; \
        O[h,i,e] = sum[j](softmax[j](sum[a](Q[h,i,a] * sum[r](U[h,a,r] * C[j,r]))) * sum[r](P[h,e,r] * C[j,r]))",
    ),
    (
        "products_in_the_cheaper_order",
        "Q: f32[i=1000, d=32]; K: f32[j=1000, d]; V: f32[j, e=32]; O[i,e] = sum[j](sum[d](Q[i,d] * K[j,d]) * V[j,e])",
    ),
    (
        "the_second_largest_of_distinct_ones",
        "X: f32[i=33, j=5000]; M[i] = max[j](X[i,j]); Y[i] = max[j](where(X[i,j] < M[i], X[i,j], -inf))",
    ),
    (
        "the_two_largest",
        "X: f32[i=33, j=5000]; axis k=2; T1[i] = max[j](X[i,j]); S1[i] = argmax[j](X[i,j]); \
        R[i,j] = where(j != S1[i], X[i,j], -inf); T2[i] = max[j](R[i,j]); \
        S2[i] = min[j](where(j != S1[i], where(R[i,j] == T2[i], j, size[j]()), size[j]())); \
        V[i,k] = where(k == 0, T1[i], T2[i]); S[i,k] = where(k == 0, S1[i], S2[i]); Y[i,k] = V[i,k] * (1 + S[i,k])",
    ),
    (
        "cross_entropy_without_logits_in_memory",
        "X: bf16[i=4096, c=512]; W: bf16[v=32000, c]; t: i32[i]; Z[i,v] = sum[c](X[i,c] * W[v,c]); \
        L[i] = logsumexp[v](Z[i,v]) - sum[v](where(v == t[i], Z[i,v], 0))",
    ),
    (
        "the_largest_without_logits_in_memory",
        "X: bf16[i=4096, c=512]; W: bf16[v=32000, c]; \
        Z[i,v] = sum[c](X[i,c] * W[v,c]); Y[i] = argmax[v](Z[i,v])",
    ),
    (
        "values_beside_the_largest",
        "S: f32[i=5, j=3000]; V: f32[j, e=7]; M[i] = max[j](S[i,j]); \
        O[i,e] = sum[j](where(S[i,j] == M[i], V[j,e], 0)); N[i] = sum[j](where(S[i,j] == M[i], 1, 0)); Y[i,e] = O[i,e] / N[i]",
    ),
    (
        "a_scale_that_follows_the_data",
        "X: f32[i=64, c=5000]; W: f32[n=32, c]; A[i] = max[c](abs(X[i,c])); Y[i,n] = A[i] * sum[c](X[i,c] / A[i] * W[n,c])",
    ),
    (
        "a_norm_of_norms",
        "X: f32[i=5, g=40, c=300]; A[i,g] = max[c](abs(X[i,g,c])); M[i] = max[g](A[i,g]); \
        N[i] = M[i] * sqrt(sum[g](sum[c]((X[i,g,c] / M[i])**2)))",
    ),
    (
        "a_function_of_the_users_own",
        "fn f(x) = exp2(x*0.5) where f(a+b) = f(a)*f(b); S: f32[i=33, j=5000]; V: f32[j, e=32]; \
        M[i] = max[j](S[i,j]); O[i,e] = sum[j](f(S[i,j] - M[i]) * V[j,e]) / sum[j](f(S[i,j] - M[i]))",
    ),
    (
        "weights_in_groups_with_scales_and_zero_points",
        "X: bf16[i=16, c=2048]; W: i8[n=512, c]; S: f32[n, g=16]; Z: f32[n, g]; \
        Y[i,n] = sum[c](X[i,c] * (W[n,c] - Z[n, c//128]) * S[n, c//128])",
    ),
    (
        "a_low_rank_addition",
        "X: bf16[i=16, c=2048]; W: bf16[n=512, c]; A: bf16[r=16, c]; B: bf16[n, r]; \
        Y[i,n] = sum[c](X[i,c] * W[n,c]) + 0.5 * sum[r](B[n,r] * sum[c](A[r,c] * X[i,c]))",
    ),
    (
        "the_entropy_of_a_softmax",
        "X: f32[i=33, j=5000]; P[i,j] = softmax[j](X[i,j]); H[i] = -sum[j](P[i,j] * log(P[i,j]))",
    ),
    (
        "the_entropy_relative_to_the_largest",
        "X: f32[i=33, j=5000]; M[i] = max[j](X[i,j]); E[i,j] = exp(X[i,j] - M[i]); L[i] = sum[j](E[i,j]); \
        H[i] = log(L[i]) - sum[j](E[i,j] / L[i] * (X[i,j] - M[i]))",
    ),
    (
        "the_entropy_of_logarithms",
        "X: f32[i=33, j=5000]; L[i,j] = log_softmax[j](X[i,j]); H[i] = -sum[j](exp(L[i,j]) * L[i,j])",
    ),
    (
        "a_loss_of_smoothed_labels",
        "X: f32[i=33, j=5000]; t: i32[i]; L[i,j] = log_softmax[j](X[i,j]); \
        Y[i] = -sum[j](where(j == t[i], 0.9, 0.00002) * L[i,j])",
    ),
    (
        "a_loss_of_labels_and_of_all",
        "X: f32[i=33, j=5000]; t: i32[i]; L[i,j] = log_softmax[j](X[i,j]); Y[i] = -0.9 * L[i, t[i]] - 0.1 * mean[j](L[i,j])",
    ),
    (
        "the_divergence_of_two_softmaxes",
        "X: f32[i=33, j=5000]; Z: f32[i, j]; \
        Y[i] = sum[j](softmax[j](X[i,j]) * (log_softmax[j](X[i,j]) - log_softmax[j](Z[i,j])))",
    ),
    (
        "the_divergence_as_a_logarithm_of_a_quotient",
        "X: f32[i=33, j=5000]; Z: f32[i, j]; P[i,j] = softmax[j](X[i,j]); \
        Y[i] = sum[j](P[i,j] * log(P[i,j] / softmax[j](Z[i,j])))",
    ),
];

/// The same equations with an axis that may have no positions, for each of their axes.
pub(crate) fn maybe_empty(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, _) in text.match_indices(" in 1..") {
        out.push(format!("{} in 0..{}", &text[..at], &text[at + " in 1..".len()..]));
    }
    for (at, _) in text.match_indices('=') {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let declares = before.ends_with(|c: char| c.is_ascii_lowercase())
            && after[digits..].starts_with([',', ']', ';'])
            && digits > 0;
        if declares {
            out.push(format!("none in 0..{}; {before}=none{}", &after[..digits], &after[digits..]));
        }
    }
    out
}

/// Names and equations.
pub(crate) fn families() -> Vec<(&'static str, String)> {
    let attention = ATTENTION.iter().map(|(name, inputs, s)| {
        (*name, format!("{HEADS} {inputs} O[h,i,e] = sum[j](softmax[j]({s}) * V[h,j,e])"))
    });
    attention.chain(OTHERS.iter().map(|(name, text)| (*name, (*text).to_owned()))).collect()
}
