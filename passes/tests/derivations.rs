//! What is derived, pinned: for each family of equations the plan, the chain of laws, and the number of passes over data.
//!
//! The snapshots pin form; that plans mean their equations is tested elsewhere.

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::tile::Op;
use tilewright_passes::{Compiled, Options, compile_module};

fn compile(text: &str) -> (tilewright_ir::graph::Module, Compiled) {
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    let compiled = compile_module(&module, &Options::default()).expect("compiles");
    (module, compiled)
}

fn loops(body: &[Op]) -> usize {
    body.iter().map(|op| if let Op::Loop { body, .. } = op { 1 + loops(body) } else { 0 }).sum()
}

/// The kernels with the names of the laws that led to them, and the search.
fn derived(text: &str) -> String {
    let (module, compiled) = compile(text);
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

#[test]
fn norm_into_the_matmul_that_follows() {
    let text = "X: bf16[i=16, c=2048]; G: bf16[c]; W: bf16[n=512, c]; \
        Y[i,n] = sum[c](rms_norm[c](X[i,c]) * G[c] * W[n,c])";
    insta::assert_snapshot!(derived(text));
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
