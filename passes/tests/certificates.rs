//! Every kernel of every derivation and of every model has a certificate that the checker accepts, in little time.

#![allow(clippy::print_stdout)]

#[path = "common/families.rs"]
mod families;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_frontend::hf::{BuildOptions, Phase, build_module, load_config};
use tilewright_ir::expr::build as ex;
use tilewright_ir::graph::Module;
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan, parts_of_action};
use tilewright_ir::{Binary, DType, Ex, Expr, Local, Reduction};
use tilewright_passes::algebra::saturate::Budget;
use tilewright_passes::partition::CostModel;
use tilewright_passes::{Options, compile_module};
use tilewright_proof::normal::Normal;
use tilewright_proof::term::{self, Terms};
use tilewright_proof::{Certificate, Checker, Context, check_plan};

/// Compiles and checks; what is not proved, and the longest time per store.
fn check(what: &str, module: &Module) -> (Vec<String>, Duration) {
    let compiled =
        compile_module(module, &Options { certify: true, ..Options::default() }).expect("compiles");
    let (mut failures, mut longest) = (Vec::new(), Duration::ZERO);
    for ((func, plan), (of, certificates)) in compiled.certified.iter().zip(&compiled.certificates) {
        assert_eq!(func, of);
        let context = Context { symbols: &module.symbols, function: &module.functions[*func], plan };
        let start = Instant::now();
        let verdicts = check_plan(context, certificates);
        longest = longest.max(start.elapsed() / verdicts.len().max(1) as u32);
        assert_eq!(verdicts.len(), plan.kernels.iter().map(|k| k.stores.len()).sum::<usize>());
        let values = plan.kernels.iter().flat_map(|k| &k.stores).map(|s| s.value);
        for (v, verdict) in values.zip(verdicts) {
            if let Err(e) = verdict {
                failures.push(format!("{what} @{} {v} ({}): {e}", plan.name, plan.values[v].name));
            }
        }
    }
    for (pass, time) in compiled.timings.iter().filter(|(p, _)| p.starts_with("certify")) {
        println!("{what}: {pass} {time:?}, checked in {longest:?} per store");
    }
    (failures, longest)
}

fn all_proved(found: Vec<(Vec<String>, Duration)>) {
    let failures: Vec<String> = found.iter().flat_map(|f| f.0.clone()).collect();
    assert!(failures.is_empty(), "not proved:\n{}", failures.join("\n"));
}

/// A mask without a guard, a product of products under a rescale, and what is stored whole and read in blocks.
const MORE: [(&str, &str); 12] = [
    // One maximum is tracked along either axis.
    (
        "the overlap of a softmax over two axes and one over one",
        "X: f32[n=3, c=20, h=300]; Y[n] = sum[c,h](softmax[c,h](X[n,c,h]) * softmax[h](X[n,c,h]))",
    ),
    (
        "moments over two axes",
        "X: f32[n=5, c=6, h=300]; M[n] = sum[c,h](X[n,c,h]) / 1800; \
         V[n] = sum[c,h]((X[n,c,h] - M[n])**2) / 1800; Y[n] = M[n] * rsqrt(V[n] + 1e-5)",
    ),
    (
        "moments over two axes of which one is not known",
        "X: f32[n=5, c=k, h=300]; k in 1..9; M[n] = sum[c,h](X[n,c,h]) / (300*size[c]()); \
         V[n] = sum[c,h]((X[n,c,h] - M[n])**2) / (size[c]()*size[h]()); Y[n] = M[n] * rsqrt(V[n] + 1e-5)",
    ),
    // Two sums have the predicate by which they move in common.
    (
        "two sums of what stands beside the largest",
        "X: f32[i=9, j=300]; W: f32[j]; U: f32[j]; S[i] = argmax[j](X[i,j]); M[i] = max[j](X[i,j]); \
         A[i] = sum[j](where(X[i,j] == M[i], W[j], 0)); B[i] = sum[j](where(X[i,j] == M[i], U[j], 0)); \
         Q[i] = max[j](where(j != S[i], X[i,j], -inf)); Y[i] = A[i] + B[i] + S[i] + Q[i]",
    ),
    // Two maxima move what one sum holds, and the product of what they move it by is used by itself.
    (
        "the overlap of two softmaxes",
        "X: f32[i=9, j=203]; Y: f32[i, j]; O[i] = sum[j](softmax[j](X[i,j]) * softmax[j](Y[i,j])); \
         S[i] = sum[j](softmax[j](X[i,j])**2); R[i] = O[i] / sqrt(S[i])",
    ),
    // Sums of which several terms are subtracted, and none is added.
    ("a softmax of -x", "X: f32[i=5, j=1009]; V: f32[j, e=4]; O[i,e] = sum[j](softmax[j](-X[i,j]) * V[j,e])"),
    (
        "the divergence of two rows of logits",
        "A: f32[n=7, v=1003]; B: f32[n, v]; \
         L[n] = sum[v](softmax[v](A[n,v]) * (log_softmax[v](A[n,v]) - log_softmax[v](B[n,v])))",
    ),
    // One of the axes is streamed.
    (
        "a softmax over two axes",
        "S: f32[b=3, y=67, x=19]; P[b,y,x] = softmax[y,x](S[b,y,x]); \
         O[b] = sum[y,x](P[b,y,x] * x) + sum[y,x](P[b,y,x] * y)",
    ),
    (
        "the two largest, of logits that are not stored",
        "H: bf16[i=4096, c=512]; W: bf16[j=32000, c]; axis k=2; X[i,j] = sum[c](H[i,c] * W[j,c]); T1[i] = max[j](X[i,j]); S1[i] = argmax[j](X[i,j]); \
        R[i,j] = where(j != S1[i], X[i,j], -inf); T2[i] = max[j](R[i,j]); \
        S2[i] = min[j](where(j != S1[i], where(R[i,j] == T2[i], j, size[j]()), size[j]())); \
        V[i,k] = where(k == 0, T1[i], T2[i]); S[i,k] = where(k == 0, S1[i], S2[i]); Y[i,k] = V[i,k] * (1 + S[i,k])",
    ),
    (
        "stored logits",
        "X: bf16[i=16, c=512]; W: bf16[v=32000, c]; Z[i,v] = sum[c](X[i,c] * W[v,c]); Y[i] = argmax[v](Z[i,v])",
    ),
    (
        "a mask",
        "S: f32[i=33, j=500]; V: f32[j, e=20]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); \
         O[i,e] = sum[j](exp(T[i,j] - M[i]) * V[j,e]) / sum[j](exp(T[i,j] - M[i]))",
    ),
    (
        "squares",
        "S: f32[i=33, j=500]; C: f32[]; M[i] = max[j](S[i,j]); \
         O[i] = sum[j](exp2(0.5 * (S[i,j] - M[i])) * (C * (S[i,j] * S[i,j])))",
    ),
];

fn all() -> impl Iterator<Item = (&'static str, String)> {
    let more = MORE.iter().map(|(n, t)| (*n, (*t).to_owned()));
    families::families().into_iter().chain(more)
}

/// Too much to be mutated.
const LONG: (&str, &str) = (
    "the three largest",
    "X: f32[i=5, j=300]; T[i] = max[j](X[i,j]); S[i] = argmax[j](X[i,j]); R[i,j] = where(j != S[i], X[i,j], -inf); \
        U[i] = max[j](R[i,j]); P[i] = min[j](where(j != S[i], where(R[i,j] == U[i], j, 300), 300)); \
        Q[i,j] = where(j != P[i], R[i,j], -inf); V[i] = max[j](Q[i,j]); \
        L[i] = min[j](where(j != P[i], where(j != S[i], where(Q[i,j] == V[i], j, 300), 300), 300)); \
        Y[i] = T[i] + U[i] + V[i] + S[i] + P[i] + L[i]",
);

/// As the library has them.
const EIGHT: &str = "X: f32[i=5, j=300]; axis k=8; Y[i,k] = topk[j](X[i,j], k) + argtopk[j](X[i,j], k)";

#[test]
fn equations() {
    let long = [(LONG.0, LONG.1.to_owned()), ("the eight largest", EIGHT.to_owned())];
    let found = all().chain(long).map(|(name, text)| {
        let module = parse_equations(&text, &Given::default(), &[]).expect("parses");
        check(name, &module)
    });
    all_proved(found.collect());
}

/// What is reduced over may be nothing.
#[test]
fn equations_over_what_may_be_empty() {
    let texts =
        all().flat_map(|(name, text)| families::maybe_empty(&text).into_iter().map(move |t| (name, t)));
    let found: Vec<_> = texts
        .map(|(name, text)| check(name, &parse_equations(&text, &Given::default(), &[]).expect("parses")))
        .collect();
    assert!(found.len() > 100, "{}", found.len());
    all_proved(found);
}

/// What a search that was ended has found is proved as well.
#[test]
fn of_searches_that_end_early() {
    let text = "X: f32[i=9, j=203]; Y: f32[i, j]; \
        K[i] = sum[j](softmax[j](X[i,j]) * (log_softmax[j](X[i,j]) - log_softmax[j](Y[i,j])))";
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    for nodes in (10..200).step_by(10) {
        let budget = Budget { nodes, ..Budget::default() };
        let options = Options { certify: true, budget, ..Options::default() };
        let compiled = compile_module(&module, &options).expect("compiles");
        let all: Vec<_> = compiled.certificates.iter().flat_map(|(_, all)| all).collect();
        assert!(!all.is_empty(), "{nodes} e-nodes");
        for one in all {
            assert!(one.is_ok(), "{nodes} e-nodes: {one:?}");
        }
    }
}

/// What the action of a fold, or a part of it, may be mistaken for: without what it chooses, and the other way round.
fn mistaken(e: &Ex) -> Vec<Ex> {
    match &**e {
        Expr::Select(p, c, d) => vec![c.clone(), d.clone(), ex::select(p.clone(), d.clone(), c.clone())],
        Expr::Binary(f, a, b) => {
            let other = if *f == Binary::Eq { Binary::Le } else { Binary::Eq };
            vec![ex::binary(other, a.clone(), b.clone()), ex::binary(*f, a.clone(), a.clone())]
        }
        _ => Vec::new(),
    }
}

/// The same of what is calculated, anywhere in it: an operand alone, or what is subtracted added.
fn miscalculated(e: &Ex) -> Vec<Ex> {
    let mut out = match &**e {
        Expr::Binary(Binary::Add, a, b) => vec![a.clone(), b.clone(), ex::sub(a.clone(), b.clone())],
        Expr::Binary(Binary::Sub, a, b) => {
            vec![a.clone(), b.clone(), ex::add(a.clone(), b.clone()), ex::sub(b.clone(), a.clone())]
        }
        Expr::Binary(Binary::Mul, a, b) => vec![a.clone(), b.clone(), ex::mul(e.clone(), b.clone())],
        Expr::Unary(_, x) => vec![x.clone(), ex::num(1.0)],
        _ => Vec::new(),
    };
    let mut children = Vec::new();
    e.map_children(|c| {
        children.push(c.clone());
        c.clone()
    });
    for (n, c) in children.iter().enumerate() {
        for new in miscalculated(c) {
            let mut at = 0;
            out.push(std::sync::Arc::new(e.map_children(|c| {
                at += 1;
                if at == n + 1 { new.clone() } else { c.clone() }
            })));
        }
    }
    out
}

/// Merges that drop a rank, prefer the later of equal ones, or compare the wrong ones.
#[test]
fn wrong_merges_are_refused() {
    let text = "X: f32[i=5, j=300]; axis k=5; Y[i,k] = topk[j](X[i,j], k) + argtopk[j](X[i,j], k)";
    assert!(mistakes(text, mistaken) > 50);
}

/// Sums that are moved without what another adds to them, by the wrong multiple of it, or the wrong way.
#[test]
fn wrong_multiples_of_other_sums_are_refused() {
    for y in [
        "-sum[j](softmax[j](X[i,j]) * log(softmax[j](X[i,j])))",
        "-sum[j](Z[i,j] * log_softmax[j](X[i,j]))",
        "sum[j](softmax[j](X[i,j]) * (log_softmax[j](X[i,j]) - log_softmax[j](Z[i,j])))",
    ] {
        let count = mistakes(&format!("X: f32[i=5, j=300]; Z: f32[i, j]; Y[i] = {y}"), miscalculated);
        assert!(count > 15, "{y}: {count}");
    }
}

/// Makes each mistake in each action of a fold; how many there are, all of which must be refused.
fn mistakes(text: &str, of: fn(&Ex) -> Vec<Ex>) -> usize {
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    let options = Options { certify: true, whole_passes: true, ..Options::default() };
    let compiled = compile_module(&module, &options).expect("compiles");
    let ((func, plan), (_, certificates)) = (&compiled.certified[0], &compiled.certificates[0]);
    let refused = |plan: &Plan| {
        let context = Context { symbols: &module.symbols, function: &module.functions[*func], plan };
        let mut checker = Checker::new(context);
        let all = tilewright_proof::check::stores(plan).into_iter().zip(certificates);
        all.map(|(at, c)| checker.seal(at, c.as_ref().expect("a certificate"))).any(|sealed| sealed.is_err())
    };
    assert!(!refused(plan), "the right one");
    let mut count = 0;
    for (k, kernel) in plan.kernels.iter().enumerate() {
        let folds = kernel.locals.keys();
        let parts: BTreeSet<_> = folds.flat_map(|l| parts_of_action(&kernel.locals, l)).collect();
        for (l, data) in &kernel.locals {
            let wrong = match &data.def {
                LocalDef::Fold { action, .. } => of(action),
                LocalDef::Map(e) if parts.contains(&l) => of(e),
                _ => continue,
            };
            for e in wrong {
                let mut wrong = plan.clone();
                match &mut wrong.kernels[k].locals[l].def {
                    LocalDef::Fold { action, .. } => *action = e,
                    LocalDef::Map(part) => *part = e,
                    _ => {}
                }
                assert!(refused(&wrong), "{l} of {}: {text}", kernel.name);
                count += 1;
            }
        }
    }
    count
}

fn models(folder: &str, max_context: u64, activations: DType) -> Vec<(Vec<String>, Duration)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut all: Vec<_> =
        std::fs::read_dir(root).expect("models").map(|e| e.expect("an entry").path()).collect();
    all.sort();
    let mut out = Vec::new();
    for path in all.iter().filter(|p| p.join("config.json").exists()) {
        let config = load_config(path).expect("config");
        for phase in [Phase::Decode, Phase::Prefill] {
            let options = BuildOptions { phase, batch: 1, max_context, activations };
            let module = build_module(&config, &options).expect("builds");
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            out.push(check(&format!("{name} {phase:?}"), &module));
        }
    }
    out
}

#[test]
fn golden_models() {
    all_proved(models("../tests/goldens", 29, DType::F32));
}

#[test]
fn published_models() {
    all_proved(models("../tests/models", 4096, DType::Bf16));
}

/// What else a number or a text may be: for a text, those that stand in the same place elsewhere in the certificate.
fn others(field: &str, old: &Json, kinds: &[(String, Json)]) -> Vec<Json> {
    match old {
        Json::Number(n) => {
            let n = n.as_u64().expect("no other numbers");
            let near = [n.wrapping_sub(1), n + 1, n + 7, n / 2, 0];
            near.iter().filter(|m| **m != n && **m < u64::from(u32::MAX)).map(|m| Json::from(*m)).collect()
        }
        Json::String(s) => {
            let mut out: Vec<Json> =
                kinds.iter().filter(|(f, v)| f == field && v != old).map(|(_, v)| v.clone()).collect();
            out.dedup();
            out.push(Json::from(format!("{s}x")));
            if !s.is_empty() {
                out.push(Json::from(""));
            }
            out
        }
        _ => Vec::new(),
    }
}

/// All fields of a kind, with their values.
fn kinds(field: &str, v: &Json, out: &mut Vec<(String, Json)>) {
    match v {
        Json::Array(a) => a.iter().for_each(|x| kinds(field, x, out)),
        Json::Object(o) => o.iter().for_each(|(k, x)| kinds(k, x, out)),
        Json::String(_) if !out.contains(&(field.to_owned(), v.clone())) => {
            out.push((field.to_owned(), v.clone()))
        }
        _ => {}
    }
}

/// All ways to change one place of a document, each with its path.
fn mutants(v: &Json) -> Vec<(String, Json)> {
    fn go(
        path: &str,
        field: &str,
        v: &Json,
        k: &[(String, Json)],
        put: &dyn Fn(Json) -> Json,
        out: &mut Vec<(String, Json)>,
    ) {
        for other in others(field, v, k) {
            out.push((format!("{path}: {v} -> {other}"), put(other)));
        }
        match v {
            Json::Array(a) => {
                for n in 0..a.len() {
                    let with = |x: Option<Json>| {
                        let mut a = a.clone();
                        match x {
                            Some(x) => a[n] = x,
                            None => drop(a.remove(n)),
                        }
                        put(Json::Array(a))
                    };
                    out.push((format!("{path}[{n}] dropped"), with(None)));
                    let mut twice = a.clone();
                    twice.insert(n, a[n].clone());
                    out.push((format!("{path}[{n}] twice"), put(Json::Array(twice))));
                    if n + 1 < a.len() && a[n] != a[n + 1] {
                        let mut swapped = a.clone();
                        swapped.swap(n, n + 1);
                        out.push((format!("{path}[{n}] swapped with the next"), put(Json::Array(swapped))));
                    }
                    go(&format!("{path}[{n}]"), field, &a[n], k, &|x| with(Some(x)), out);
                }
            }
            Json::Object(o) => {
                for (key, x) in o {
                    let with = |x: Option<Json>| {
                        let mut o = o.clone();
                        match x {
                            Some(x) => o.insert(key.clone(), x),
                            None => o.remove(key),
                        };
                        put(Json::Object(o))
                    };
                    out.push((format!("{path}.{key} dropped"), with(None)));
                    go(&format!("{path}.{key}"), key, x, k, &|x| with(Some(x)), out);
                }
            }
            _ => {}
        }
    }
    let mut k = Vec::new();
    kinds("", v, &mut k);
    let mut out = Vec::new();
    go("", "", v, &k, &|x| x, &mut out);
    out
}

/// The plain normal forms of all terms of a certificate.
fn normal_forms(context: Context<'_>, c: &Certificate, terms: &mut Terms) -> Vec<term::Id> {
    let Context { symbols, plan, .. } = context;
    tilewright_proof::source::declare(terms, &plan.axes, &plan.values, symbols);
    let mut normal = Normal::new(tilewright_proof::laws::law("assoc").expect("the plain law").rules);
    let mut ids: Vec<term::Id> = Vec::new();
    for row in &c.nodes {
        let node = tilewright_proof::cert::node(row).expect("a node").map(|n| ids[n as usize]);
        ids.push(terms.add(node));
    }
    ids.into_iter().map(|id| normal.of(terms, id)).collect()
}

/// What became of mutants.
#[derive(Default)]
struct Mutated {
    count: u32,
    /// They were the same in other words.
    respelled: u32,
    accepted: Vec<String>,
}

/// All mutants of the certificates of some equations.
fn mutated(name: &str, text: &str) -> Mutated {
    let mut out = Mutated::default();
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    let compiled =
        compile_module(&module, &Options { certify: true, ..Options::default() }).expect("compiles");
    for ((func, plan), (_, certificates)) in compiled.certified.iter().zip(&compiled.certificates) {
        let context = Context { symbols: &module.symbols, function: &module.functions[*func], plan };
        let mut before = Checker::new(context);
        for (at, c) in tilewright_proof::check::stores(plan).into_iter().zip(certificates) {
            let c = c.as_ref().expect("a certificate");
            let json = serde_json::to_value(c).expect("a document");
            assert_eq!(serde_json::from_value::<Certificate>(json.clone()).expect("reads back"), *c);
            for (what, mutant) in mutants(&json) {
                out.count += 1;
                let Ok(mutant) = serde_json::from_value::<Certificate>(mutant) else { continue };
                if before.clone().check(at, &mutant).is_ok() {
                    let mut terms = Terms::default();
                    let same = normal_forms(context, c, &mut terms);
                    if same == normal_forms(context, &mutant, &mut terms) && mutant.steps == c.steps {
                        out.respelled += 1;
                        continue;
                    }
                    out.accepted.push(format!("{name} {}: {what}", c.kernel));
                }
            }
            before.check(at, c).expect("it is valid");
        }
    }
    out
}

/// Changing any one place of a valid certificate makes it invalid: nothing in it is decoration. The one exception is a
/// change that is none: an operand of an intermediate term that becomes another with the same normal form (the same
/// sum, say, with its parts grouped in another way).
#[test]
fn mutants_are_refused() {
    let todo: Vec<(&str, String)> = all().step_by(2).chain(all().last()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let taken = std::iter::repeat_with(|| todo.get(next.fetch_add(1, Ordering::Relaxed)));
        taken.map_while(|one| one.map(|(name, text)| mutated(name, text))).collect::<Vec<_>>()
    };
    let found: Vec<Mutated> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|t| t.join().expect("it ends")).collect()
    });
    assert_eq!(found.len(), todo.len());
    let count: u32 = found.iter().map(|m| m.count).sum();
    let respelled: u32 = found.iter().map(|m| m.respelled).sum();
    let accepted: Vec<&String> = found.iter().flat_map(|m| &m.accepted).collect();
    println!("{count} mutants, {respelled} of them the same in other words");
    assert!(count > 10_000 && respelled * 10_000 < count);
    let shown: Vec<&str> = accepted.iter().take(60).map(|s| s.as_str()).collect();
    assert!(accepted.is_empty(), "accepted {} of {count}:\n{}", accepted.len(), shown.join("\n"));
}

/// Every way to change one thing in an expression.
fn changed(e: &Ex, locals: u32) -> Vec<Ex> {
    let mut out: Vec<Expr> = Vec::new();
    match &**e {
        Expr::Num(x) => out.push(Expr::Num(tilewright_ir::expr::Num(x.0 + 1.0))),
        Expr::Local(l) => {
            out.extend((0..locals).map(Local::from_u32).filter(|m| m != l).take(4).map(Expr::Local));
        }
        Expr::Binary(op, a, b) => {
            let other = if *op == Binary::Add { Binary::Mul } else { Binary::Add };
            out.push(Expr::Binary(other, a.clone(), b.clone()));
        }
        Expr::Select(c, a, b) => {
            out.push(Expr::Select(c.clone(), b.clone(), a.clone()));
            out.push((**b).clone());
        }
        _ => {}
    }
    let mut out: Vec<Ex> = out.into_iter().map(std::sync::Arc::new).collect();
    let mut children = Vec::new();
    e.map_children(|c| {
        children.push(c.clone());
        c.clone()
    });
    for (n, c) in children.iter().enumerate() {
        for new in changed(c, locals) {
            let mut at = 0;
            out.push(std::sync::Arc::new(e.map_children(|c| {
                at += 1;
                if at == n + 1 { new.clone() } else { c.clone() }
            })));
        }
    }
    out
}

/// Every way to change one thing in a kernel.
fn wrong(k: &KernelPlan) -> Vec<KernelPlan> {
    let mut out = Vec::new();
    let count = k.locals.len() as u32;
    let mut with = |f: &dyn Fn(&mut KernelPlan)| {
        let mut other = k.clone();
        f(&mut other);
        if other != *k {
            out.push(other);
        }
    };
    let turned = |op: Reduction| if op == Reduction::Sum { Reduction::Max } else { Reduction::Sum };
    for (l, data) in &k.locals {
        for e in changed(data.def.value(), count) {
            with(&|k| match &mut k.locals[l].def {
                LocalDef::Map(x) => *x = e.clone(),
                LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. } => *body = e.clone(),
                LocalDef::Running { block, .. } | LocalDef::Fold { block, .. } => *block = e.clone(),
            });
        }
        if let LocalDef::Fold { action, .. } = &data.def {
            for e in changed(action, count) {
                with(&|k| {
                    if let LocalDef::Fold { action, .. } = &mut k.locals[l].def {
                        *action = e.clone();
                    }
                });
            }
        }
        with(&|k| match &mut k.locals[l].def {
            LocalDef::Map(_) => {}
            LocalDef::Reduce { op, .. }
            | LocalDef::Block { op, .. }
            | LocalDef::Running { op, .. }
            | LocalDef::Fold { op, .. } => *op = turned(*op),
        });
        with(&|k| {
            if let LocalDef::Fold { tracks, .. } = &mut k.locals[l].def {
                tracks.pop();
            }
        });
    }
    for n in 0..k.stores.len() {
        for e in changed(&k.stores[n].expr, count) {
            with(&|k| k.stores[n].expr = e.clone());
        }
        with(&|k| drop(k.stores.remove(n)));
        with(&|k| k.stores[n].axes.reverse());
        with(&|k| k.stores[n].index.reverse());
    }
    with(&|k| k.grid.reverse());
    with(&|k| k.grid.truncate(1));
    with(&|k| k.runs = None);
    with(&|k| {
        if let Some(runs) = &mut k.runs {
            runs.axis = runs.number;
        }
    });
    with(&|k| {
        if let Some(runs) = &mut k.runs {
            runs.number = runs.axis;
        }
    });
    out
}

/// Equations whose runs are merged by those who read the result: attention before a product, and a product before a norm
/// and a sum.
const MERGED_BY_READERS: [&str; 2] = [
    "Q: f32[g=2, r=2, d=64]; K: f32[g, j=kv, d]; V: f32[g, j, e=64]; W: f32[c=96, g, r, e]; kv in 1..2000; \
        O[g,r,e] = sum[j](softmax[j](0.125*sum[d](Q[g,r,d] * K[g,j,d])) * V[g,j,e]); Y[c] = sum[g,r,e](O[g,r,e] * W[c,g,r,e])",
    "X: f32[b=2, c=256]; A: f32[b, k=8192]; W: f32[c, k]; V: f32[f=512, c]; U: f32[h=512, c]; \
        H[b,c] = X[b,c] + sum[k](A[b,k] * W[c,k]); Y[b,f] = sum[c](rms_norm[c](H[b,c]) * V[f,c]); \
        Z[b,h] = sum[c](H[b,c] * U[h,c])",
];

#[test]
fn passes_in_runs_and_their_merge_are_the_whole_pass_and_nothing_else_is() {
    let idle = CostModel { launch: 0.0, processors: 1e9, ..CostModel::default() };
    let (mut cuts, mut inline, mut refused) = (0, 0, 0);
    let of_families = families::families().into_iter().map(|(name, text)| (name.to_owned(), text, idle));
    let read =
        MERGED_BY_READERS.map(|text| ("merged by readers".to_owned(), text.to_owned(), CostModel::default()));
    for (name, text, cost) in of_families.chain(read) {
        let options = Options { certify: true, cost, ..Options::default() };
        let module = parse_equations(&text, &Given::default(), &[]).expect("parses");
        let compiled = compile_module(&module, &options).expect("compiles");
        for ((_, whole), (_, plan)) in compiled.certified.iter().zip(&compiled.plans) {
            let found = tilewright_proof::runs::check(whole, plan).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(found, plan.kernels.iter().filter(|k| k.runs.is_some()).count(), "{name}");
            cuts += found;
            let values = |k: &KernelPlan| k.stores.iter().map(|s| s.value).collect::<Vec<_>>();
            let parts: Vec<_> = plan.kernels.iter().filter(|k| k.runs.is_some()).flat_map(values).collect();
            let stored: Vec<_> = plan.kernels.iter().flat_map(values).collect();
            inline += whole.kernels.iter().filter(|k| !values(k).iter().any(|v| stored.contains(v))).count();
            for (n, k) in plan.kernels.iter().enumerate() {
                if k.runs.is_none() && !plan.touches(k).0.iter().any(|v| parts.contains(v)) {
                    continue;
                }
                for other in wrong(k) {
                    // The order of a grid's axes is no matter of meaning for runs.
                    let mut axes = (other.grid.clone(), k.grid.clone());
                    axes.0.sort_unstable();
                    axes.1.sort_unstable();
                    let same = other.runs.is_some() && axes.0 == axes.1 && other.locals == k.locals;
                    if same && (other.runs, &other.stores) == (k.runs, &k.stores) {
                        continue;
                    }
                    let mut mutant: Plan = plan.clone();
                    mutant.kernels[n] = other;
                    let verdict = tilewright_proof::runs::check(whole, &mutant);
                    assert!(verdict.is_err(), "{name}: accepted\n{:?}\nfor\n{k:?}", mutant.kernels[n]);
                    refused += 1;
                }
            }
        }
    }
    println!("{cuts} cuts accepted, {inline} merged by readers, {refused} changes of one thing refused");
    assert!(cuts >= 10 && inline == 2 && refused > 500, "{cuts} cuts, {inline} merged, {refused} changes");
}
