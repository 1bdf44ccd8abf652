//! What is derived, pinned: for each family of equations the plan, the chain of laws, and the number of passes over data.
//!
//! The snapshots pin form; that plans mean their equations is tested elsewhere.

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::tile::Op;
use tilewright_passes::algebra::saturate::Stop;
use tilewright_passes::{Compiled, Options, compile_module};

/// Each pass in one kernel, as it is derived; how it is cut into runs is a matter of sizes.
fn compile(text: &str, outputs: &[&str]) -> (tilewright_ir::graph::Module, Compiled) {
    compile_with(text, outputs, &Options { whole_passes: true, ..Options::default() })
}

fn compile_with(text: &str, outputs: &[&str], options: &Options) -> (tilewright_ir::graph::Module, Compiled) {
    let outputs: Vec<String> = outputs.iter().map(|&n| n.to_owned()).collect();
    let module = parse_equations(text, &Given::default(), &outputs).expect("parses");
    let compiled = compile_module(&module, options).expect("compiles");
    (module, compiled)
}

fn loops(body: &[Op]) -> usize {
    body.iter().map(|op| if let Op::Loop { body, .. } = op { 1 + loops(body) } else { 0 }).sum()
}

/// The kernels with the names of the laws that led to them, and the search.
fn derived(text: &str) -> String {
    derived_all(text, &[])
}

fn derived_all(text: &str, outputs: &[&str]) -> String {
    let (module, compiled) = compile(text, outputs);
    show(&module, &compiled)
}

/// The same as it is launched at typical sizes: long passes of few blocks are cut into runs, and these are merged.
fn launched(text: &str) -> String {
    let (module, compiled) = compile_with(text, &[], &Options::default());
    show(&module, &compiled)
}

fn show(module: &tilewright_ir::graph::Module, compiled: &Compiled) -> String {
    let mut out = String::new();
    for (_, plan) in &compiled.plans {
        for (k, p) in plan.kernels.iter().zip(&compiled.programs) {
            let laws: Vec<&str> = k.derivation.iter().map(|s| s.law.as_str()).collect();
            let mut bare = k.clone();
            bare.derivation.clear();
            bare.boundaries.clear();
            out += &tilewright_ir::text::print_kernel(plan, &bare, &module.symbols);
            out += &format!("laws: {}\npasses: {}\n", laws.join(", "), loops(&p.body));
        }
    }
    for (_, s) in &compiled.searches {
        out += &format!("e-nodes: {}, iterations: {}\n", s.nodes, s.iterations);
    }
    out
}

#[test]
fn attention_of_groups_with_a_causal_window() {
    let text = "Q: bf16[g=2, r=3, i=seq, d=64]; K: bf16[g, j=kv, d]; V: bf16[g, j, e=64]; seq in 1..512; kv in 1..1024; \
        O[g,r,i,e] = sum[j](softmax[j](where(j <= i and i - j < 128, 0.125*sum[d](Q[g,r,i,d] * K[g,j,d]), -inf)) * V[g,j,e])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn log_sum_exp() {
    insta::assert_snapshot!(derived("X: f32[i=33, j=5000]; L[i] = logsumexp[j](X[i,j])"));
}

/// Of groups of channels of an image: the mean and what lies around it are of two axes at once.
#[test]
fn moments_over_two_axes() {
    let text = "X: f32[n=4, g=8, c=16, h=10000]; M[n,g] = sum[c,h](X[n,g,c,h]) / 160000; \
        V[n,g] = sum[c,h]((X[n,g,c,h] - M[n,g])**2) / 160000; Y[n,g] = M[n,g] * rsqrt(V[n,g] + 1e-5)";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn norm_into_the_matmul_that_follows() {
    let text = "X: bf16[i=16, c=2048]; G: bf16[c]; W: bf16[n=512, c]; \
        Y[i,n] = sum[c](rms_norm[c](X[i,c]) * G[c] * W[n,c])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn a_layer_norm_into_the_matmul_that_follows() {
    let text = "X: bf16[i=16, c=2048]; G: bf16[c]; B: bf16[c]; W: bf16[n=512, c]; \
        Y[i,n] = sum[c]((layer_norm[c](X[i,c]) * G[c] + B[c]) * W[n,c])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn mean_and_variance() {
    insta::assert_snapshot!(derived("X: f32[i=5, j=3000]; Y[i] = mean[j](X[i,j]) + sqrt(var[j](X[i,j]))"));
}

#[test]
fn projections_of_one_norm_in_one_launch() {
    let text = "X: bf16[i=16, c=2048]; G: bf16[c]; W: bf16[n=512, c]; U: bf16[m=128, c]; V: bf16[e=128, c]; \
        N[i,c] = rms_norm[c](X[i,c]) * G[c]; \
        Q[i,n] = sum[c](N[i,c] * W[n,c]); K[i,m] = sum[c](N[i,c] * U[m,c]); P[i,e] = sum[c](N[i,c] * V[e,c])";
    insta::assert_snapshot!(derived_all(text, &["Q", "K", "P"]));
}

#[test]
fn gate_and_up_in_one_pass_with_their_epilogue() {
    let text = "X: bf16[i=1, c=2048]; W: bf16[f=512, c]; U: bf16[f, c]; \
        A[i,f] = silu(sum[c](X[i,c] * W[f,c])) * sum[c](X[i,c] * U[f,c])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn residual_as_an_epilogue() {
    let text = "X: bf16[i=1, c=512]; A: bf16[i, f=2048]; D: bf16[c, f]; B: bf16[c]; \
        Y[i,c] = X[i,c] + (sum[f](A[i,f] * D[c,f]) + B[c])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn a_softmax_that_the_user_wrote_in_another_base() {
    let text = "S: f32[i=33, j=5000]; V: f32[j, e=32]; M[i] = max[j](S[i,j]); P[i,j] = exp2(0.5*(S[i,j] - M[i])); \
        L[i] = sum[j](P[i,j]); O[i,e] = sum[j](P[i,j] * V[j,e]) / L[i]";
    insta::assert_snapshot!(derived(text));
}

/// The factor is no power of two: it stays outside of differences, or digits would be lost.
#[test]
fn a_softmax_in_base_ten() {
    let text = "S: f32[i=33, j=5000]; V: f32[j, e=32]; M[i] = max[j](S[i,j]); P[i,j] = exp(2.302585092994046*(S[i,j] - M[i])); \
        L[i] = sum[j](P[i,j]); O[i,e] = sum[j](P[i,j] * V[j,e]) / L[i]";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn safe_two_norm() {
    let text = "X: f32[i=5, j=3000]; M[i] = max[j](abs(X[i,j])); \
        N[i] = M[i] * sqrt(sum[j]((X[i,j] / M[i]) * (X[i,j] / M[i])))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn rows_that_attend_to_a_sink() {
    let text = "S: f32[h=8, i=33, j=700]; Z: f32[h]; V: f32[j, e=32]; M[h,i] = max(max[j](S[h,i,j]), Z[h]); \
        L[h,i] = sum[j](exp(S[h,i,j] - M[h,i])) + exp(Z[h] - M[h,i]); \
        O[h,i,e] = sum[j](exp(S[h,i,j] - M[h,i]) * V[j,e]) / L[h,i]";
    insta::assert_snapshot!(derived(text));
}

const HEADS: &str =
    "Q: bf16[h=2, i=seq, d=64]; K: bf16[h, j=kv, d]; V: bf16[h, j, e=64]; seq in 1..512; kv in 1..1024;";

/// Attention over the scores `s`, with more inputs.
fn attention(inputs: &str, s: &str) -> String {
    derived(&format!("{HEADS} {inputs} O[h,i,e] = sum[j](softmax[j]({s}) * V[h,j,e])"))
}

#[test]
fn plain_attention() {
    insta::assert_snapshot!(attention("", "0.125*sum[d](Q[h,i,d] * K[h,j,d])"));
}

#[test]
fn attention_with_capped_logits() {
    let s = "where(j <= i, 30*tanh(sum[d](Q[h,i,d] * K[h,j,d]) * 0.125/30), -inf)";
    insta::assert_snapshot!(attention("", s));
}

#[test]
fn attention_with_a_bias_of_distance() {
    let s = "where(j <= i, 0.125*sum[d](Q[h,i,d] * K[h,j,d]) + B[h]*(j - i), -inf)";
    insta::assert_snapshot!(attention("B: f32[h];", s));
}

#[test]
fn attention_with_padding() {
    let s = "where(j < len[h], 0.125*sum[d](Q[h,i,d] * K[h,j,d]), -inf)";
    insta::assert_snapshot!(attention("len: i32[h];", s));
}

#[test]
fn attention_with_normalised_queries_and_keys() {
    let s = "0.125*sum[d](rms_norm[d](Q[h,i,d])*G[d] * rms_norm[d](K[h,j,d])*H[d])";
    insta::assert_snapshot!(attention("G: bf16[d]; H: bf16[d];", s));
}

/// Each of the two moves its own sum from block to block.
#[test]
fn a_difference_of_two_attentions() {
    let inputs = "P: bf16[h, i, d]; U: bf16[h, j, d]; C: f32[h];";
    let text = format!(
        "{HEADS} {inputs} A[h,i,j] = softmax[j](0.125*sum[d](Q[h,i,d] * K[h,j,d])); \
         B[h,i,j] = softmax[j](0.125*sum[d](P[h,i,d] * U[h,j,d])); O[h,i,e] = sum[j]((A[h,i,j] - C[h] * B[h,i,j]) * V[h,j,e])"
    );
    insta::assert_snapshot!(derived(&text));
}

/// The up-projection of keys moves to the queries and that of values behind the sum: one pass over the latent cache.
#[test]
fn attention_over_a_latent_cache() {
    let text = "Q: bf16[h=8, i=4, a=64]; U: bf16[h, a, r=128]; C: bf16[j=kv, r]; P: bf16[h, e=64, r]; kv in 1..4096; \
        O[h,i,e] = sum[j](softmax[j](sum[a](Q[h,i,a] * sum[r](U[h,a,r] * C[j,r]))) * sum[r](P[h,e,r] * C[j,r]))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn products_in_the_cheaper_order() {
    let text = "Q: f32[i=1000, d=32]; K: f32[j=1000, d]; V: f32[j, e=32]; \
        O[i,e] = sum[j](sum[d](Q[i,d] * K[j,d]) * V[j,e])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn cross_entropy_without_logits_in_memory() {
    let text = "X: bf16[i=4096, c=512]; W: bf16[v=32000, c]; t: i32[i]; Z[i,v] = sum[c](X[i,c] * W[v,c]); \
        L[i] = logsumexp[v](Z[i,v]) - sum[v](where(v == t[i], Z[i,v], 0))";
    insta::assert_snapshot!(derived(text));
}

/// Sums that are moved by multiples of one another are one pass, however they are written.
#[test]
fn the_entropy_of_a_softmax() {
    let text = "X: f32[i=33, j=5000]; P[i,j] = softmax[j](X[i,j]); H[i] = -sum[j](P[i,j] * log(P[i,j]))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn the_entropy_relative_to_the_largest() {
    let text = "X: f32[i=33, j=5000]; M[i] = max[j](X[i,j]); E[i,j] = exp(X[i,j] - M[i]); L[i] = sum[j](E[i,j]); \
        H[i] = log(L[i]) - sum[j](E[i,j] / L[i] * (X[i,j] - M[i]))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn the_entropy_of_logarithms() {
    let text = "X: f32[i=33, j=5000]; L[i,j] = log_softmax[j](X[i,j]); H[i] = -sum[j](exp(L[i,j]) * L[i,j])";
    insta::assert_snapshot!(derived(text));
}

/// What is summed with other weights than its own moves as these do.
#[test]
fn a_loss_of_smoothed_labels() {
    let text = "X: f32[i=33, j=5000]; t: i32[i]; L[i,j] = log_softmax[j](X[i,j]); \
        Y[i] = -sum[j](where(j == t[i], 0.9, 0.00002) * L[i,j])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn a_loss_of_labels_and_of_all() {
    let text = "X: f32[i=33, j=5000]; t: i32[i]; L[i,j] = log_softmax[j](X[i,j]); Y[i] = -0.9 * L[i, t[i]] - 0.1 * mean[j](L[i,j])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn the_divergence_of_two_softmaxes() {
    let text = "X: f32[i=33, j=5000]; Z: f32[i, j]; \
        Y[i] = sum[j](softmax[j](X[i,j]) * (log_softmax[j](X[i,j]) - log_softmax[j](Z[i,j])))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn the_divergence_as_a_logarithm_of_a_quotient() {
    let text = "X: f32[i=33, j=5000]; Z: f32[i, j]; P[i,j] = softmax[j](X[i,j]); \
        Y[i] = sum[j](P[i,j] * log(P[i,j] / softmax[j](Z[i,j])))";
    insta::assert_snapshot!(derived(text));
}

/// The token of the largest logit, of logits that are never stored.
#[test]
fn the_largest_without_logits_in_memory() {
    let text = "X: bf16[i=4096, c=512]; W: bf16[v=32000, c]; \
        Z[i,v] = sum[c](X[i,c] * W[v,c]); Y[i] = argmax[v](Z[i,v])";
    insta::assert_snapshot!(derived(text));
}

/// The largest of what is less than the largest.
#[test]
fn the_second_largest_of_distinct_ones() {
    let text =
        "X: f32[i=33, j=5000]; M[i] = max[j](X[i,j]); Y[i] = max[j](where(X[i,j] < M[i], X[i,j], -inf))";
    insta::assert_snapshot!(derived(text));
}

/// Of what is smallest the same follows as of what is largest: what stands beside it, where it is, and the next.
#[test]
fn the_smallest_and_what_follows_it() {
    let text = "X: f32[i=33, j=5000]; W: f32[j]; S[i] = argmin[j](X[i,j]); M[i] = min[j](X[i,j]); \
        N[i] = sum[j](where(X[i,j] <= M[i], W[j], 0)); U[i] = min[j](where(X[i,j] > M[i], X[i,j], inf))";
    insta::assert_snapshot!(derived_all(text, &["S", "M", "N", "U"]));
}

/// The two largest and where they are, of equal ones the first.
const TWO: &str = "T1[i] = max[j](X[i,j]); S1[i] = min[j](where(X[i,j] == T1[i], j, size[j]())); \
    R[i,j] = where(j != S1[i], X[i,j], -inf); T2[i] = max[j](R[i,j]); \
    S2[i] = min[j](where(j != S1[i], where(R[i,j] == T2[i], j, size[j]()), size[j]()))";

#[test]
fn the_two_largest() {
    let text = format!("X: f32[i=33, j=5000]; {TWO}");
    insta::assert_snapshot!(derived_all(&text, &["T1", "S1", "T2", "S2"]));
}

/// The same of logits that are never stored.
#[test]
fn the_two_largest_without_logits_in_memory() {
    let text =
        format!("H: bf16[i=4096, c=512]; W: bf16[j=32000, c]; X[i,j] = sum[c](H[i,c] * W[j,c]); {TWO}");
    insta::assert_snapshot!(derived_all(&text, &["T1", "S1", "T2", "S2"]));
}

/// As the library writes it: values and positions along an axis of their own.
#[test]
fn the_two_largest_along_an_axis() {
    let text = "H: bf16[i=4096, c=512]; W: bf16[j=32000, c]; axis k=2; X[i,j] = sum[c](H[i,c] * W[j,c]); \
        V[i,k] = topk[j](X[i,j], k); P[i,k] = argtopk[j](X[i,j], k)";
    insta::assert_snapshot!(derived_all(text, &["V", "P"]));
}

/// Three, of which each but the first is the largest of what is left.
#[test]
fn the_three_largest() {
    let text = "X: f32[i=33, j=5000]; T[i] = max[j](X[i,j]); S[i] = argmax[j](X[i,j]); R[i,j] = where(j != S[i], X[i,j], -inf); \
        U[i] = max[j](R[i,j]); P[i] = min[j](where(j != S[i], where(R[i,j] == U[i], j, size[j]()), size[j]())); \
        Q[i,j] = where(j != P[i], R[i,j], -inf); V[i] = max[j](Q[i,j]); \
        L[i] = min[j](where(j != P[i], where(j != S[i], where(Q[i,j] == V[i], j, size[j]()), size[j]()), size[j]()))";
    insta::assert_snapshot!(derived_all(text, &["T", "S", "U", "P", "V", "L"]));
}

/// One kernel, whose one loop over the axis has the sum that makes an element within it, and an e-graph that grows with the square of
/// the ranks.
#[test]
fn dozens_of_the_largest() {
    for count in [4_usize, 8, 12, 32] {
        let text = format!(
            "H: bf16[i=4096, c=512]; W: bf16[j=32000, c]; axis k={count}; X[i,j] = sum[c](H[i,c] * W[j,c]); \
             V[i,k] = topk[j](X[i,j], k); P[i,k] = argtopk[j](X[i,j], k)"
        );
        let (_, compiled) = compile(&text, &["V", "P"]);
        let kernels: Vec<_> = compiled.plans.iter().flat_map(|(_, p)| &p.kernels).collect();
        let stored: Vec<usize> = kernels.iter().map(|k| k.stores.len()).collect();
        assert_eq!(stored, [2], "{count}");
        assert_eq!(loops(&compiled.programs[0].body), 2, "{count}");
        let search = &compiled.searches[0].1;
        assert_eq!(search.stop, Stop::Saturated, "{count}");
        assert!(search.nodes < 100 + 8 * count * count + 20 * count, "{count}: {}", search.nodes);
    }
}

/// What stands beside the largest scores, ties averaged.
#[test]
fn values_beside_the_largest() {
    let text = "S: f32[i=5, j=3000]; V: f32[j, e=7]; M[i] = max[j](S[i,j]); \
        O[i,e] = sum[j](where(S[i,j] == M[i], V[j,e], 0)); N[i] = sum[j](where(S[i,j] == M[i], 1, 0)); Y[i,e] = O[i,e] / N[i]";
    insta::assert_snapshot!(derived_all(text, &["Y"]));
}

#[test]
fn a_scale_that_follows_the_data() {
    let text = "X: f32[i=64, c=5000]; W: f32[n=32, c]; A[i] = max[c](abs(X[i,c])); \
        Y[i,n] = A[i] * sum[c](X[i,c] / A[i] * W[n,c])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn a_norm_of_norms() {
    let text = "X: f32[i=5, g=40, c=300]; A[i,g] = max[c](abs(X[i,g,c])); M[i] = max[g](A[i,g]); \
        N[i] = M[i] * sqrt(sum[g](sum[c]((X[i,g,c] / M[i])**2)))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn a_function_of_the_users_own() {
    let text = "fn f(x) = exp2(x*0.5) where f(a+b) = f(a)*f(b); S: f32[i=33, j=5000]; V: f32[j, e=32]; \
        M[i] = max[j](S[i,j]); O[i,e] = sum[j](f(S[i,j] - M[i]) * V[j,e]) / sum[j](f(S[i,j] - M[i]))";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn weights_in_groups_with_scales_and_zero_points() {
    let text = "X: bf16[i=16, c=2048]; W: i8[n=512, c]; S: f32[n, g=16]; Z: f32[n, g]; \
        Y[i,n] = sum[c](X[i,c] * (W[n,c] - Z[n, c//128]) * S[n, c//128])";
    insta::assert_snapshot!(derived(text));
}

#[test]
fn a_low_rank_addition() {
    let text = "X: bf16[i=16, c=2048]; W: bf16[n=512, c]; A: bf16[r=16, c]; B: bf16[n, r]; \
        Y[i,n] = sum[c](X[i,c] * W[n,c]) + 0.5 * sum[r](B[n,r] * sum[c](A[r,c] * X[i,c]))";
    insta::assert_snapshot!(derived(text));
}

const LOW_RANK: &str = "X: f32[i=16, c=2048]; W: const f32[n=512, c]; A: const f32[r=16, c]; B: const f32[n, r]; \
    Y[i,n] = sum[c](X[i,c] * W[n,c]) + 0.5 * sum[r](B[n,r] * sum[c](A[r,c] * X[i,c]))";

/// Work on weights alone is done when they are loaded, and the laws find that there is such work.
#[test]
fn a_low_rank_addition_merged_into_the_weight() {
    insta::assert_snapshot!(derived(LOW_RANK));
}

const FEW_ROWS: &str = "Q: bf16[h=8, r=4, d=64]; K: bf16[h, j=kv, d]; V: bf16[h, j, e=64]; kv in 1..8192; \
    O[h,r,e] = sum[j](softmax[j](0.125*sum[d](Q[h,r,d] * K[h,j,d])) * V[h,j,e])";

/// A pass over keys for few queries: what runs hold is merged by the action with which blocks are.
#[test]
fn attention_of_few_queries_in_runs_and_their_merge() {
    insta::assert_snapshot!(launched(FEW_ROWS));
}

/// A long sum of few results.
#[test]
fn a_product_in_runs_of_its_sum() {
    let text = "X: bf16[i=8, c=14336]; W: bf16[n=256, c]; Y[i,n] = sum[c](X[i,c] * W[n,c])";
    insta::assert_snapshot!(launched(text));
}

#[test]
fn weights_in_blocks_with_scales_outside_of_the_cast() {
    let text = "X: bf16[i=16, g=16, c=128]; W: i8[n=512, g, c]; S: f32[n, g]; \
        Y[i,n] = sum[g](S[n,g] * sum[c](X[i,g,c] * bf16(W[n,g,c])))";
    insta::assert_snapshot!(derived(text));
}

/// Both halves of a pair are of one tile: nothing is projected twice.
#[test]
fn a_rotation_of_pairs_as_an_epilogue() {
    let text = "X: bf16[i=8, c=2048]; W: bf16[h=8, p=2, f=32, c]; C: f32[i, f]; S: f32[i, f]; \
        Q[i,h,p,f] = sum[c](X[i,c] * W[h,p,f,c]); \
        R[i,h,p,f] = Q[i,h,p,f] * C[i,f] + where(p == 0, -Q[i,h,1-p,f], Q[i,h,1-p,f]) * S[i,f]";
    insta::assert_snapshot!(launched(text));
}

/// Bias, activation, residual and the statistics of the norm that follows, of rows that a block holds.
#[test]
fn a_norm_of_what_a_product_adds_in_one_kernel() {
    let text = "X: bf16[i=4096, c=256]; W: bf16[n=128, c]; B: f32[n]; R: bf16[i, n]; G: bf16[n]; \
        H[i,n] = R[i,n] + silu(B[n] + sum[c](X[i,c] * W[n,c])); \
        N[i,n] = H[i,n] / sqrt(sum[n](H[i,n]**2) / 128 + 1e-5) * G[n]";
    insta::assert_snapshot!(launched(text));
}
