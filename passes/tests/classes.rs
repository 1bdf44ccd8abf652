//! After saturation every class has one value: each term of the e-graph is evaluated by itself, on random inputs and with
//! random block sizes, and equal terms must agree. So each union that any law makes is checked, whether or not a plan uses
//! it. What the analysis knows of a class is held against the same values.
//!
//! The check is itself checked: laws that are wrong on purpose must be noticed.

#![allow(clippy::print_stdout)]

#[path = "../../frontend/tests/common/mod.rs"]
mod common;
#[path = "common/families.rs"]
mod families;
mod terms;

use std::cell::RefCell;
use std::collections::BTreeMap;

use common::Rng;
use common::grammar::case;
use egg::Id;
use families::families;
use terms::{Count, Verdict, World, judge};
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::graph::Module;
use tilewright_ir::{DType, Reduction};
use tilewright_passes::PassError;
use tilewright_passes::algebra::ingest::{Ingested, ingest};
use tilewright_passes::algebra::laws::LAWS;
use tilewright_passes::algebra::saturate::{Budget, saturate};
use tilewright_passes::algebra::{SubAxis, Term};

/// Masks without guards, rescales of quotients, products of products: what no derivation of a model has.
const MORE: &[(&str, &str)] = &[
    (
        "a mask without a guard",
        "S: f32[i=33, j=500]; V: f32[j, e=20]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); \
        O[i,e] = sum[j](exp(T[i,j] - M[i]) * V[j,e]) / sum[j](exp(T[i,j] - M[i]))",
    ),
    (
        "weights that share an input",
        "X: f32[i=5, j=300]; A: const f32[j]; B: const f32[k=7]; C: const f32[j, k]; \
        O[i,k] = B[k] * sum[j](X[i,j] * A[j]) - 0.5 * sum[j](X[i,j] * C[j,k]) + sum[j](X[i,j] * A[j] * B[k]) + X[i,j := k]",
    ),
    (
        "a temperature",
        "S: f32[i=33, j=500]; C: f32[]; M[i] = max[j](S[i,j]); \
        O[i] = sum[j](exp2(0.5 * (S[i,j] - M[i])) * (C * (S[i,j] * S[i,j])))",
    ),
    (
        "two axes in one softmax",
        "S: f32[i=5, j=40, k=300]; M[i] = max[j,k](S[i,j,k]); O[i] = sum[j,k](exp(S[i,j,k] - M[i]) * k)",
    ),
    (
        "a sum of constants along what is cut",
        "S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(S[i,j] - M[i])) * sum[j](M[i] + 0.5)",
    ),
    (
        "a mean beside a maximum",
        "S: f32[i=5, j=300]; O[i] = sum[j](exp(S[i,j] - max[j](S[i,j]))) * mean[j](S[i,j])",
    ),
    (
        "the smallest",
        "S: f32[i=5, j=300]; M[i] = min[j](S[i,j]); N[i] = max[j](S[i,j] - M[i]); O[i] = sum[j](exp(S[i,j] - M[i] - N[i]))",
    ),
    (
        "a choice by a maximum",
        "S: f32[i=5, j=300]; W: f32[j]; M[i] = max[j](S[i,j]); O[i] = max[j](where(S[i,j] == M[i], W[j], 7)); \
        P[i] = sum[j](where(M[i] == S[i,j], W[j], 0)); Y[i] = argmax[j](S[i,j]) + O[i] + P[i]",
    ),
    (
        "a choice by a smallest, with a bound that is one of the values",
        "S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); P[i] = max[j](where(S[i,j] == M[i], j, -1)); \
        O[i] = max[j](where(M[i] > S[i,j], S[i,j], 0.5)) + min[j](where(P[i] == j, 7, j)) + sum[j](where(j == P[i], S[i,j], 0))",
    ),
    (
        "the three largest",
        "X: f32[i=5, j=300]; T[i] = max[j](X[i,j]); S[i] = argmax[j](X[i,j]); R[i,j] = where(j != S[i], X[i,j], -inf); U[i] = max[j](R[i,j]); \
        P[i] = min[j](where(j != S[i], where(R[i,j] == U[i], j, 300), 300)); Q[i,j] = where(j != P[i], R[i,j], -inf); V[i] = max[j](Q[i,j]); \
        L[i] = min[j](where(j != P[i], where(j != S[i], where(Q[i,j] == V[i], j, 300), 300), 300)); Y[i] = T[i] + U[i] + V[i] + S[i] + P[i] + L[i]",
    ),
    (
        "reductions of the largest along an axis, the last along the same axis",
        "A: i32[j=8, e=8]; axis d=13; O[e,j] = max[d](silu(gelu(A[j,e] % 3) - sigmoid(d * 0.125))); \
        Y = sum[d](min[j](logsumexp[e](O[e,j])))",
    ),
    (
        "a softmax of softmaxes",
        "S: f32[i=5, j=300]; V: f32[j, e=7]; O[i,e] = sum[j](softmax[j](softmax[j](S[i,j])) * V[j,e])",
    ),
];

struct Search {
    module: Module,
    ingested: Ingested,
}

fn search(text: &str, given: &Given, outputs: &[String]) -> Result<Search, PassError> {
    let module = parse_equations(text, given, outputs).expect("parses");
    let function = module.functions.values().next().expect("a function");
    let mut ingested = ingest(function, &module.symbols)?;
    saturate(&mut ingested, Budget::default(), &[]);
    Ok(Search { module, ingested })
}

/// Elements: reals of order one with zeros among them, small integers.
fn element(rng: &mut Rng, dtype: DType) -> f64 {
    match dtype {
        DType::Bool => rng.below(2) as f64,
        d if d.is_int() => rng.below(5) as f64,
        _ if rng.below(10) == 0 => 0.0,
        d => d.round(2.0 * rng.real()),
    }
}

impl Search {
    /// Evaluates everything. Blocks: one position, a ragged last block, all, and more than all.
    fn judged(&mut self, rng: &mut Rng) -> Verdict {
        let function = self.module.functions.values().next().expect("a function");
        let rng = RefCell::new(rng);
        let world = World::new(
            &self.module,
            function,
            &self.ingested,
            &mut |n| [1, 2, 3, 3, n, n + 1][rng.borrow_mut().below(6)],
            &mut |d| element(&mut rng.borrow_mut(), d),
        );
        judge(&mut self.ingested, &world)
    }
}

#[derive(Default)]
struct Tally {
    laws: BTreeMap<String, Count>,
    classes: Count,
}

impl Tally {
    fn add(&mut self, what: &str, v: Verdict) {
        for f in v.faults.iter().take(5) {
            println!("{what}: {f}");
        }
        assert!(v.faults.is_empty(), "{what}: {} faults, of laws {:?}", v.faults.len(), v.guilty);
        for (law, c) in v.laws.into_iter().chain([("".to_owned(), v.classes)]) {
            let to = if law.is_empty() { &mut self.classes } else { self.laws.entry(law).or_default() };
            to.unions += c.unions;
            to.compared += c.compared;
            to.skipped += c.skipped;
        }
    }

    /// Nearly all positions say something, and so do `share` times as many of each law as do not.
    fn telling(&self, share: usize) {
        for (law, c) in &self.laws {
            println!("{law}: {c:?}");
            assert!(c.compared >= share * c.skipped, "`{law}` is mostly undefined: {c:?}");
        }
        println!("classes: {:?}", self.classes);
        assert!(self.classes.compared > 10 * self.classes.skipped, "{:?}", self.classes);
    }
}

#[test]
fn every_class_of_every_derivation_has_one_value() {
    let mut rng = Rng::fresh("classes of derivations");
    let rounds: usize = std::env::var("CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(1000) / 200;
    let mut tally = Tally::default();
    let more = MORE.iter().map(|(name, text)| (*name, (*text).to_owned()));
    for (name, text) in families().into_iter().chain(more) {
        let mut s = search(&text, &Given::default(), &[]).expect("ingests");
        for _ in 0..rounds.max(1) {
            let v = s.judged(&mut rng);
            tally.add(&format!("{name}: {text}"), v);
        }
    }
    tally.telling(4);
    for law in LAWS {
        assert!(tally.laws.contains_key(law.name), "no equations use `{}`", law.name);
    }
}

#[test]
fn every_class_of_random_equations_has_one_value() {
    let mut rng = Rng::fresh("classes of random equations");
    let count: usize = std::env::var("CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(1000);
    let mut tally = Tally::default();
    for n in 0..count {
        let c = case(&mut rng);
        let mut given = Given::default();
        for (name, dtype, dims, _) in &c.inputs {
            let dims: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
            given = given.with(name, *dtype, &dims);
        }
        let outputs: Vec<String> = c.outputs.iter().map(|o| o.0.clone()).collect();
        let mut s = match search(&c.text, &given, &outputs) {
            Ok(s) => s,
            Err(PassError::Limit(_)) => continue,
            Err(e) => panic!("case {n}: {e}\n{}", c.text),
        };
        let v = s.judged(&mut rng);
        tally.add(&format!("case {n}:\n{}", c.text), v);
    }
    // Conditions at random mask whole rows more often than people do.
    tally.telling(1);
}

/// A law that does not hold: for a term, the two sides that it joins.
type Wrong = fn(&mut Ingested, &Term) -> Option<(Id, Id)>;

fn product(s: &mut Ingested, factors: &[Id]) -> Id {
    s.graph.add_uncanonical(Term::Mul(factors.into()))
}

/// The factors of a body, if it is a product.
fn factors(s: &Ingested, body: Id) -> Option<Vec<Id>> {
    s.graph[body].nodes.iter().find_map(|n| if let Term::Mul(c) = n { Some(c.to_vec()) } else { None })
}

/// Takes a factor out of a sum that depends on what is summed over.
fn dependent_factor(s: &mut Ingested, t: &Term) -> Option<(Id, Id)> {
    let Term::Reduce(Reduction::Sum, axes, [body]) = t else { return None };
    let mut inside = factors(s, *body)?;
    let at = inside.iter().position(|&f| axes.iter().any(|a| s.graph[f].data.free.contains(*a)))?;
    let out = inside.remove(at);
    let rest = product(s, &inside);
    let sum = s.graph.add_uncanonical(Term::Reduce(Reduction::Sum, axes.clone(), [rest]));
    let same = s.graph.add_uncanonical(t.clone());
    Some((same, product(s, &[out, sum])))
}

/// Adds up the blocks of a fold without the factor between their reference points.
fn dropped_rescale(s: &mut Ingested, t: &Term) -> Option<(Id, Id)> {
    let Term::Fold(j, Reduction::Sum, children) = t else { return None };
    let sum = Term::Reduce(Reduction::Sum, [SubAxis::outer(*j)].into(), [children[0]]);
    Some((s.graph.add_uncanonical(t.clone()), s.graph.add_uncanonical(sum)))
}

/// Takes the last block for the whole axis.
fn one_block(s: &mut Ingested, t: &Term) -> Option<(Id, Id)> {
    let Term::Reduce(op, axes, [body]) = t else { return None };
    let [outer] = axes[..] else { return None };
    let inner = s.graph[*body]
        .nodes
        .iter()
        .any(|n| matches!(n, Term::Reduce(o, a, _) if o == op && a[..] == [SubAxis::inner(outer.axis)]));
    (inner && outer == SubAxis::outer(outer.axis)).then(|| (s.graph.add_uncanonical(t.clone()), *body))
}

/// A negative factor moves into a maximum.
fn negative_scale(s: &mut Ingested, t: &Term) -> Option<(Id, Id)> {
    let Term::Reduce(Reduction::Max, axes, [body]) = t else { return None };
    let minus = s.graph.add(Term::Num(tilewright_ir::expr::Num(-1.0)));
    let whole = s.graph.add_uncanonical(t.clone());
    let near = product(s, &[minus, *body]);
    let far = s.graph.add_uncanonical(Term::Reduce(Reduction::Max, axes.clone(), [near]));
    Some((product(s, &[minus, whole]), far))
}

/// Sums where the law of a homomorphism multiplies.
fn sum_of_exponentials(s: &mut Ingested, t: &Term) -> Option<(Id, Id)> {
    let Term::Unary(f @ tilewright_ir::Unary::Exp, [x]) = t else { return None };
    let terms =
        s.graph[*x].nodes.iter().find_map(|n| if let Term::Add(c) = n { Some(c.to_vec()) } else { None })?;
    let each: Vec<Id> = terms.iter().map(|&x| s.graph.add_uncanonical(Term::Unary(*f, [x]))).collect();
    Some((s.graph.add_uncanonical(t.clone()), s.graph.add_uncanonical(Term::Add(each.into()))))
}

const WRONG: &[(&str, Wrong)] = &[
    ("a factor that depends on what is summed over", dependent_factor),
    ("a dropped rescale", dropped_rescale),
    ("one block for all", one_block),
    ("a negative factor in a maximum", negative_scale),
    ("a sum of exponentials", sum_of_exponentials),
];

#[test]
fn a_wrong_law_is_noticed() {
    let mut rng = Rng::fresh("wrong laws");
    let attention = families().into_iter().find(|(name, _)| *name == "plain_attention").expect("there").1;
    for (name, wrong) in WRONG {
        let mut s = search(&attention, &Given::default(), &[]).expect("ingests");
        let nodes: Vec<Term> = s.ingested.graph.nodes().to_vec();
        let found = nodes.iter().find_map(|t| wrong(&mut s.ingested, t));
        let (a, b) = found.unwrap_or_else(|| panic!("{name}: no term for it"));
        s.ingested.graph.union_trusted(a, b, "wrong");
        s.ingested.graph.rebuild();
        // One block that holds the whole axis hides some of these.
        let verdicts: Vec<Verdict> = (0..16).map(|_| s.judged(&mut rng)).collect();
        assert!(verdicts.iter().any(|v| v.guilty.contains("wrong")), "{name}: not noticed");
        assert!(verdicts.iter().all(|v| v.guilty.iter().all(|l| l == "wrong")), "{name}: others are blamed");
        let of_class =
            |v: &Verdict| v.faults.iter().any(|f| f.contains("has two values") && f.contains("wrong"));
        assert!(verdicts.iter().any(of_class), "{name}: classes do not show it");
    }
}

/// Something that is not so about a class.
type Claim = fn(&mut tilewright_passes::algebra::facts::Known);

#[test]
fn a_wrong_fact_is_noticed() {
    let mut rng = Rng::fresh("wrong facts");
    let claims: [(&str, Claim); 5] = [
        ("lower bound", |k| k.lo = k.lo.max(1.0)),
        ("upper bound", |k| k.hi = k.hi.min(-1.0)),
        ("free axes", |k| k.free = tilewright_passes::algebra::AxisSet::default()),
        ("the same in every run", |k| k.depends = tilewright_passes::algebra::facts::Depends::Weights),
        ("kind", |k| k.kind = tilewright_passes::algebra::facts::Kind::Bool),
    ];
    for (name, claim) in claims {
        let text = "S: f32[i=5, j=300]; O[i] = sum[j](S[i,j] * S[i,j])";
        let mut s = search(text, &Given::default(), &[]).expect("ingests");
        let read = s.ingested.graph.nodes().iter().position(|t| matches!(t, Term::Read(..))).expect("a read");
        let class = s.ingested.graph.find(Id::from(read));
        let mut known = s.ingested.graph[class].data.clone();
        claim(&mut known);
        s.ingested.graph.set_analysis_data(class, known);
        assert!(!s.judged(&mut rng).faults.is_empty(), "{name}: not noticed");
    }
}

/// What is 0 because a mean is subtracted, times something: its class depends on no position, that term mentions one, and it stands
/// in sums over blocks of which the last has fewer positions.
#[test]
fn a_term_that_is_0_may_mention_what_0_does_not() {
    let text = "A: i32[j=13]; axis d=2; S[j,d] = sum[d](layer_norm[d](d * 0.125) * (A[j] % 3)); \
                P[d] = sum[j](softmax[j](S[j,d]) * (A[j] % 3)); Y[] = sum[d](softmax[d](P[d]) * (A[d + 2] % 3))";
    let mut rng = Rng::fresh("terms that are 0");
    let mut tally = Tally::default();
    for _ in 0..100 {
        let mut s = search(text, &Given::default(), &[]).expect("searches");
        tally.add(text, s.judged(&mut rng));
    }
    tally.telling(1);
}
