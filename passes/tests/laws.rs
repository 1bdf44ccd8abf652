//! Each law earns its place: a derivation names it, and without it the same equations need more passes over their data, or
//! more arithmetic.

#![allow(clippy::print_stdout)]

#[path = "common/families.rs"]
mod families;

use std::collections::{BTreeMap, BTreeSet};

use families::families;
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::Extent;
use tilewright_ir::plan::LocalDef;
use tilewright_ir::tile::Op;
use tilewright_passes::algebra::laws::LAWS;
use tilewright_passes::algebra::saturate::Stop;
use tilewright_passes::{Compiled, Options, compile_module};

const ATTENTION: &str = "Q: f32[i=33, d=20]; K: f32[j=500, d]; V: f32[j, e=20]; \
    O[i,e] = sum[j](softmax[j](sum[d](Q[i,d] * K[j,d])) * V[j,e])";
/// A mask without a guard: the maximum of a block may be -inf.
const MASKED: &str = "S: f32[i=33, j=500]; V: f32[j, e=20]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); \
    O[i,e] = sum[j](exp(T[i,j] - M[i]) * V[j,e]) / sum[j](exp(T[i,j] - M[i]))";
/// Another base and a temperature, distributed over the difference.
const OTHER_BASE: &str =
    "S: f32[i=33, j=500]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp2(0.5 * (S[i,j] - M[i])))";
const NORM: &str = "X: f32[i=5, j=300]; M[i] = max[j](abs(X[i,j])); \
    N[i] = M[i] * sqrt(sum[j]((X[i,j] / M[i]) * (X[i,j] / M[i])))";
const NORM_INTO_MATMUL: &str =
    "X: f32[i=33, c=300]; W: f32[n=70, c]; Y[i,n] = sum[c](rms_norm[c](X[i,c]) * W[n,c])";
/// A product of products under a rescale.
const SCALED: &str = "S: f32[i=33, j=500]; C: f32[]; M[i] = max[j](S[i,j]); \
    O[i] = sum[j](exp2(0.5 * (S[i,j] - M[i])) * (C * (S[i,j] * S[i,j])))";

const VARIANCE: &str = "X: f32[i=33, j=500]; O[i] = var[j](X[i,j])";
/// Two softmaxes in one sum.
const DIFFERENCE: &str = "S: f32[i=33, j=5000]; T: f32[i, j]; V: f32[j, e=32]; C: f32[i]; \
    O[i,e] = sum[j]((softmax[j](S[i,j]) - C[i] * softmax[j](T[i,j])) * V[j,e])";
/// A norm with a scale and a bias, and what follows it.
const LAYER_NORM: &str = "X: f32[i=33, c=300]; G: f32[c]; B: f32[c]; W: f32[n=70, c]; \
    Y[i,n] = sum[c]((layer_norm[c](X[i,c]) * G[c] + B[c]) * W[n,c])";
/// What is added to a weight is made of weights.
const LOW_RANK: &str = "X: f32[i=16, c=2048]; W: const f32[n=512, c]; A: const f32[r=16, c]; B: const f32[n, r]; \
    Y[i,n] = sum[c](X[i,c] * W[n,c]) + 0.5 * sum[r](B[n,r] * sum[c](A[r,c] * X[i,c]))";
/// Sums that move with one another.
const ENTROPY: &str =
    "X: f32[i=33, j=500]; P[i,j] = softmax[j](X[i,j]); H[i] = -sum[j](P[i,j] * log(P[i,j]))";
/// What stands beside the smallest.
const SMALLEST: &str =
    "X: f32[i=33, j=5000]; W: f32[j]; Y[i] = sum[j](where(X[i,j] == min[j](X[i,j]), W[j], 0))";
const LARGEST: &str = "X: f32[i=33, j=500]; Y[i] = argmax[j](X[i,j])";
/// The second largest, equal ones counted.
const SECOND: &str = "X: f32[i=33, j=500]; Y[i] = max[j](where(j != argmax[j](X[i,j]), X[i,j], -inf))";

/// Two products in a row: the second one first is less work.
const REASSOCIATED: &str = "Q: f32[i=1000, d=32]; K: f32[j=1000, d]; V: f32[j, e=32]; \
    O[i,e] = sum[j](sum[d](Q[i,d] * K[j,d]) * V[j,e])";

/// For each law: equations whose derivation names it and that need it.
const NEEDED: &[(&str, &str)] = &[
    ("assoc", SCALED),
    ("fact", NORM_INTO_MATMUL),
    ("swap", REASSOCIATED),
    ("dist", OTHER_BASE),
    ("max-scale", OTHER_BASE),
    ("max-binary", ATTENTION),
    ("split", ATTENTION),
    ("part", ATTENTION),
    ("guard", MASKED),
    ("guard-scale", NORM),
    ("loc", ATTENTION),
    ("loc-scale", NORM),
    ("fact-where", LARGEST),
    ("cases", SECOND),
    ("loc-eq", LARGEST),
    ("loc-eq", SMALLEST),
    ("loc-at", SECOND),
    ("lin", LAYER_NORM),
    ("lin", DIFFERENCE),
    ("collect", LOW_RANK),
    ("log", ENTROPY),
    ("lin", ENTROPY),
    ("loc-sum", ENTROPY),
    ("fold", ENTROPY),
    ("loc-sum", VARIANCE),
    ("centre", VARIANCE),
    ("fold", ATTENTION),
];

fn compile(text: &str, disabled: &[&str]) -> Compiled {
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    let disabled_laws = disabled.iter().map(|d| (*d).to_owned()).collect();
    compile_module(&module, &Options { disabled_laws, whole_passes: true, ..Options::default() })
        .expect("compiles")
}

/// Loops over streamed axes in all kernels: each is a pass over data.
fn passes(c: &Compiled) -> usize {
    fn count(body: &[Op]) -> usize {
        body.iter().map(|op| if let Op::Loop { body, .. } = op { 1 + count(body) } else { 0 }).sum()
    }
    c.programs.iter().map(|p| count(&p.body)).sum()
}

/// Passes, and terms of all sums.
fn cost(c: &Compiled) -> (usize, u64) {
    let mut terms = 0;
    for (_, plan) in &c.plans {
        for local in plan.kernels.iter().flat_map(|k| k.locals.values()) {
            if let LocalDef::Reduce { axes, .. } = &local.def {
                let extents = local.axes.iter().chain(axes).map(|&a| match plan.axes[a].extent {
                    Extent::Const(n) => n,
                    Extent::Sym(_) => 1,
                });
                terms += extents.product::<u64>();
            }
        }
    }
    (passes(c), terms)
}

#[test]
fn every_law_is_needed_by_a_derivation_that_names_it() {
    for law in LAWS {
        let cases: Vec<_> = NEEDED.iter().filter(|(name, _)| *name == law.name).collect();
        assert!(!cases.is_empty(), "law `{}` has no equations that need it", law.name);
        for (name, text) in cases {
            let with = compile(text, &[]);
            let without = compile(text, &[name]);
            let named = with
                .plans
                .iter()
                .any(|(_, p)| p.kernels.iter().any(|k| k.derivation.iter().any(|s| s.law == *name)));
            println!("{name}: {:?} passes and products, {:?} without it", cost(&with), cost(&without));
            assert!(named, "the derivation does not name `{name}`: {text}");
            assert!(cost(&without) > cost(&with), "`{name}` is not needed: {text}");
        }
    }
}

#[test]
fn derivations_name_only_laws_of_the_table() {
    for (_, text) in NEEDED {
        let c = compile(text, &[]);
        for (_, plan) in &c.plans {
            for step in plan.kernels.iter().flat_map(|k| &k.derivation) {
                assert!(LAWS.iter().any(|l| l.name == step.law), "`{}` is not in the table", step.law);
                assert_ne!(step.before, step.after, "a step of `{}` changes nothing", step.law);
            }
        }
    }
}

#[test]
fn searches_are_small_and_repeat_exactly() {
    for (_, text) in NEEDED {
        let (a, b) = (compile(text, &[]), compile(text, &[]));
        assert_eq!(a.plans, b.plans);
        assert_eq!(a.programs, b.programs);
        for (name, summary) in &a.searches {
            assert!(summary.nodes < 5000, "{name}: {summary:?}");
        }
    }
}

/// The kernels, without how they came to be.
fn bare(c: &Compiled) -> String {
    let mut out = String::new();
    for (_, plan) in &c.plans {
        for k in &plan.kernels {
            let mut k = k.clone();
            k.derivation.clear();
            k.boundaries.clear();
            out += &format!("{k:?}\n");
        }
    }
    out
}

fn named(c: &Compiled) -> BTreeSet<&str> {
    let kernels = c.plans.iter().flat_map(|(_, p)| &p.kernels);
    kernels.flat_map(|k| k.derivation.iter().map(|s| s.law.as_str())).collect()
}

/// Equations, and a law that their derivation names although another leads to the same plan.
const REDUNDANT: &[(&str, &str, &str)] = &[
    // The rescale exp2(0.5 t - 0.5 y) tracks 0.5 y, for which -0.5 y is written as -1 * (0.5 y); without that it tracks y.
    ("dist", OTHER_BASE, "assoc"),
    ("max-scale", OTHER_BASE, "assoc"),
];

#[test]
fn deleting_a_law_breaks_the_derivations_that_name_it_and_no_others() {
    let needed = NEEDED.iter().map(|(name, text)| (*name, (*text).to_owned()));
    let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for (name, text) in families().into_iter().chain(needed) {
        let with = compile(&text, &[]);
        let named = named(&with);
        for law in LAWS {
            let changed = bare(&compile(&text, &[law.name])) != bare(&with);
            let known = REDUNDANT.iter().any(|(n, t, l)| *n == name && *t == text && *l == law.name);
            if known {
                assert!(!changed && named.contains(law.name), "{name}: `{}` is needed after all", law.name);
            } else if changed != named.contains(law.name) {
                let what = if changed {
                    "changes the plan and is not named"
                } else {
                    "is named and changes nothing"
                };
                faults.push(format!("{name}: `{}` {what}", law.name));
            }
            *broken.entry(law.name).or_default() += usize::from(changed);
        }
    }
    println!("derivations that break without a law: {broken:?}");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Terms that could be written out for ever, and long sums and products.
const GREEDY: &[(&str, &str)] = &[
    (
        "a maximum that is 0, and so any multiple of itself",
        "X: f32[]; axis i=5; O[] = gelu(max[i](X[] - X[]))",
    ),
    (
        "a product of sums of products",
        "A: f32[i=200]; B: f32[i]; O[] = sum[i]((2*(A[i] + 3*(B[i] + 5*(A[i] + 7*B[i])))) * (A[i]*B[i]) * (A[i]*(B[i]*A[i])) * 0.5)",
    ),
    (
        "three softmaxes of one another",
        "S: f32[i=5, j=300]; V: f32[j, e=7]; O[i,e] = sum[j](softmax[j](softmax[j](softmax[j](S[i,j]))) * V[j,e])",
    ),
];

/// The most e-nodes that each law may add to what a search has without it: a factor in percent for any of the equations.
const GROWTH: &[(&str, usize)] = &[
    ("assoc", 160),
    ("fact", 200),
    ("swap", 200),
    ("dist", 400),
    ("log", 200),
    ("max-scale", 160),
    ("max-binary", 160),
    // Without it there are no blocks, and hardly anything else finds anything.
    ("split", 450),
    ("part", 200),
    ("guard", 180),
    ("guard-scale", 180),
    ("loc", 150),
    ("loc-scale", 130),
    ("fact-where", 170),
    ("cases", 200),
    ("loc-eq", 200),
    ("loc-at", 200),
    ("lin", 200),
    ("collect", 160),
    ("loc-sum", 280),
    ("centre", 150),
    ("fold", 140),
];

#[test]
fn no_law_makes_the_graph_grow_beyond_its_cap() {
    let mut worst: BTreeMap<&str, (usize, usize, usize, &str)> = BTreeMap::new();
    let needed = NEEDED.iter().chain(GREEDY).map(|(name, text)| (*name, (*text).to_owned()));
    for (name, text) in families().into_iter().chain(needed) {
        let nodes = |c: &Compiled| c.searches.iter().map(|(_, s)| s.nodes).sum::<usize>();
        let with = compile(&text, &[]);
        assert!(with.searches.iter().all(|(_, s)| s.stop == Stop::Saturated), "{name}: {:?}", with.searches);
        for law in LAWS {
            let without = nodes(&compile(&text, &[law.name]));
            let percent = 100 * nodes(&with) / without.max(1);
            let seen = worst.entry(law.name).or_insert((0, 0, 0, name));
            *seen = (*seen).max((percent, nodes(&with), without, name));
        }
    }
    for law in LAWS {
        let (percent, with, without, name) = worst[law.name];
        println!("{}: {with} e-nodes, {without} without it ({percent} %): {name}", law.name);
        let cap = GROWTH
            .iter()
            .find(|(l, _)| *l == law.name)
            .unwrap_or_else(|| panic!("no cap for `{}`", law.name))
            .1;
        assert!(percent <= cap, "`{}` makes {with} e-nodes of {without}: {name}", law.name);
    }
}
