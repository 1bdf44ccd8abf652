//! Numerical legality: what is cheaper and may overflow, be undefined or lose its digits never comes out of a source that
//! does not have it; a source that asks for it compiles, and is marked.

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::graph::Module;
use tilewright_passes::algebra::Term;
use tilewright_passes::algebra::costs::Sizes;
use tilewright_passes::algebra::extract::{extract, risks};
use tilewright_passes::algebra::ingest::{Ingested, ingest};
use tilewright_passes::algebra::saturate::{Budget, saturate};
use tilewright_passes::algebra::stable::Legal;
use tilewright_passes::{Options, compile_module};

fn parse(text: &str, outputs: &[&str]) -> Module {
    let outputs: Vec<String> = outputs.iter().map(|o| (*o).to_owned()).collect();
    parse_equations(text, &Given::default(), &outputs).expect("parses")
}

fn ingested(module: &Module) -> Ingested {
    let function = module.functions.values().next().expect("a function");
    ingest(function, &module.symbols).expect("terms")
}

/// The terms of `A`, in a graph that also knows that `B` is equal to it; whether `B` counts as what the source says.
fn with_equal(text: &str, both_are_source: bool) -> (Module, Ingested) {
    let alone = ingested(&parse(text, &["A"]));
    let module = parse(text, &["A", "B"]);
    let mut both = ingested(&module);
    if !both_are_source {
        both.source_terms = alone.source_terms;
    }
    let roots: Vec<_> = both.roots.iter().map(|r| r.class).collect();
    both.graph.union(roots[0], roots[1]);
    both.graph.rebuild();
    both.roots.truncate(1);
    saturate(&mut both, Budget::default(), &[]);
    (module, both)
}

/// How many risks the extracted term takes.
fn taken((module, ingested): &(Module, Ingested)) -> usize {
    let dag = extract(ingested, &Sizes::new(&ingested.axes, &module.symbols)).expect("a term");
    risks(ingested, &dag).len()
}

const VARIANCE: &str = "X: f32[i=3, j=4000]; M[i] = sum[j](X[i,j]) / 4000; \
    A[i] = sum[j]((X[i,j] - M[i]) * (X[i,j] - M[i])); \
    B[i] = sum[j](X[i,j] * X[i,j]) - 4000 * M[i] * M[i]";
const EXPONENTIALS: &str = "X: f32[i=3, j=4000]; M[i] = max[j](X[i,j]); \
    A[i] = sum[j](exp(X[i,j] - M[i])); \
    B[i] = sum[j](exp(X[i,j])) * exp(0 - M[i])";
const QUOTIENTS: &str = "X: f32[i=3, j=4000]; Z: f32[i]; \
    A[i] = sum[j](X[i,j]) + 1; \
    B[i] = sum[j](X[i,j] * Z[i]) / Z[i] + 1";

#[test]
fn a_cheaper_form_that_is_a_risk_is_not_taken() {
    for text in [VARIANCE, EXPONENTIALS, QUOTIENTS] {
        assert_eq!(taken(&with_equal(text, false)), 0, "{text}");
    }
}

#[test]
fn a_source_that_is_a_risk_keeps_a_term() {
    for (text, output, said) in [
        (VARIANCE, "B", "-"),
        (EXPONENTIALS, "B", "exp(X[i,j])"),
        (QUOTIENTS, "B", "inv(Z[i])"),
        ("X: f32[i=3, j=4000]; B[i] = sum[j](exp2(X[i,j] * 3))", "B", "exp2(3 * X[i,j])"),
        // In what a mean is taken of, and in what it is subtracted from: a block of it is asked for as well.
        ("X: f32[i=3, j=4000]; B[i] = sum[j](layer_norm[j](silu(X[i,j])))", "B", "exp(-X[i,j])"),
    ] {
        let module = parse(text, &[output]);
        let compiled = compile_module(&module, &Options::default()).expect("compiles");
        let (_, choice) = &compiled.choices[0];
        let risks = &choice.candidates[choice.chosen].risks;
        assert!(!risks.is_empty() && risks.iter().any(|r| r.contains(said)), "{text}: {risks:?}");
        // Within a block the same is asked for: it still fuses.
        assert!(compiled.plans[0].1.kernels.len() <= 2, "{text}");
    }
}

#[test]
fn sources_in_range_are_not_marked() {
    for text in [
        "Q: f32[i=7, d=4]; K: f32[j=300, d]; V: f32[j, e=5]; \
         O[i,e] = sum[j](softmax[j](where(j <= i, sum[d](Q[i,d] * K[j,d]) * 0.5, -inf)) * V[j,e])",
        "X: f32[i=6, c=300]; W: f32[n=40, c]; Y[i,n] = sum[c](rms_norm[c](X[i,c]) * W[n,c])",
        "X: f32[i=5, j=3000]; Y[i] = mean[j](X[i,j]) + sqrt(var[j](X[i,j]))",
        "X: f32[i=5, j=3000]; m[i] = max[j](X[i,j]); L[i] = m[i] + log(sum[j](exp(X[i,j] - m[i])))",
        "X: f32[i=5, j=3000]; m[i] = max[j](3 * X[i,j]); L[i] = sum[j](exp2(3 * X[i,j] - m[i]))",
    ] {
        let compiled = compile_module(&parse(text, &[]), &Options::default()).expect("compiles");
        let (_, choice) = &compiled.choices[0];
        let risks = &choice.candidates[choice.chosen].risks;
        assert!(risks.is_empty(), "{text}: {risks:?}");
    }
}

/// The rescale of a softmax's sum is an exponential. Were that not allowed, no pass would be a fold by it.
#[test]
fn a_fold_may_be_taken_where_its_action_may() {
    let module = parse("X: f32[i=3, j=4000]; L[i] = logsumexp[j](X[i,j])", &["L"]);
    let mut ingested = ingested(&module);
    saturate(&mut ingested, Budget::default(), &[]);
    let mut legal = Legal::of(&ingested);
    let folds = |legal: &Legal| {
        let all = legal.nodes.values().flatten();
        all.filter(|(n, _)| matches!(n, Term::Fold(..))).count()
    };
    assert!(folds(&legal) > 0);
    for own in legal.nodes.values_mut() {
        own.retain(|(n, _)| !matches!(n, Term::Unary(tilewright_ir::Unary::Exp, _)));
    }
    legal.drop_idle(&ingested.graph);
    assert_eq!(folds(&legal), 0);
}
