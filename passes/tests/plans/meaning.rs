//! Plans and tile programs mean what their equations mean: source, plan (with several block sizes) and lowered programs
//! are evaluated in f64 on random inputs and compared.

use std::sync::Arc;

use crate::steps::{launch, poisoned};
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::eval::{
    Domain, F64, Rounded, Symbols, Tensor, bind_symbols, eval_function, eval_plan, sizes,
};
use tilewright_ir::graph::{GlobalKind, Module};
use tilewright_ir::plan::LocalDef;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::tile::{Op, TileProgram};
use tilewright_ir::verify::{describe, verify_plan, verify_tile};
use tilewright_ir::{Axis, DType, splitmix};
use tilewright_passes::partition::CostModel;
use tilewright_passes::{Compiled, Options, compile_module};

/// A small generator with a printed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    }
}

fn tensor(r: &mut Random, dtype: DType, dims: &[usize]) -> Tensor<f64> {
    Tensor::from_fn(dims, |_| match dtype {
        d if d.is_int() => (r.next() % 5) as f64,
        d => d.round(r.uniform() * 2.0),
    })
}

fn distance(a: &Tensor<f64>, b: &Tensor<f64>) -> f64 {
    assert_eq!(a.dims, b.dims);
    let mut diff = 0.0;
    let mut norm = 0.0;
    for (x, y) in a.data.iter().zip(&b.data) {
        if x == y {
            norm += if x.is_finite() { x * x } else { 0.0 };
            continue;
        }
        diff += (x - y) * (x - y);
        norm += y * y;
    }
    if diff == 0.0 { 0.0 } else { (diff / norm.max(1e-300)).sqrt() }
}

fn run_step<D: Domain<T = f64>>(
    domain: &D,
    step: &Step,
    programs: &[TileProgram],
    symbols: &Symbols,
    inputs: &[(String, Tensor<f64>)],
) -> Vec<(String, Tensor<f64>)> {
    let mut buffers = poisoned(step, symbols, inputs);
    launch(domain, step, programs, symbols, &mut buffers).unwrap_or_else(|(name, e)| panic!("{name}: {e}"));
    step.buffers
        .iter()
        .filter(|(_, d)| d.kind == BufferKind::Output)
        .map(|(b, d)| (d.name.clone(), buffers[&b].clone()))
        .collect()
}

fn compile(text: &str, options: &Options) -> (Module, Compiled) {
    let module = parse_equations(text, &Given::default(), &[]).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let compiled = compile_module(&module, options).unwrap_or_else(|e| panic!("{text}: {e}"));
    (module, compiled)
}

/// Each pass in one kernel.
fn whole() -> Options {
    Options { whole_passes: true, ..Options::default() }
}

/// A machine that is never full and launches at once: whatever can be cut into runs is.
fn idle() -> Options {
    Options { cost: CostModel { launch: 0.0, processors: 1e9, ..CostModel::default() }, ..Options::default() }
}

/// Compares the three levels; returns the number of kernels that whole passes need.
pub(crate) fn check(text: &str, symbols: &[(&str, u64)]) -> usize {
    compare(text, symbols, &idle());
    compare(text, symbols, &whole()).plans[0].1.kernels.len()
}

fn compare(text: &str, symbols: &[(&str, u64)], options: &Options) -> Compiled {
    let (module, compiled) = compile(text, options);
    let symbols = bind_symbols(&module.symbols, symbols).expect("symbols");
    let seed = 0x5eed ^ text.len() as u64;
    println!("seed {seed}: {text}");
    let mut r = Random(seed);
    let mut inputs = Vec::new();
    for data in module.globals.values().filter(|g| g.kind == GlobalKind::Input) {
        inputs.push((data.name.clone(), tensor(&mut r, data.dtype, &sizes(&data.dims, &symbols))));
    }
    let params: Vec<Arc<Tensor<f64>>> = inputs.iter().map(|(_, t)| Arc::new(t.clone())).collect();
    let function = module.functions.values().next().expect("a function");
    let want = eval_function(&F64, function, &symbols, params.clone()).expect("source");
    // Of nothing some equations have no value, such as a mean, and then nothing is claimed; of anything else all have one.
    let nothing = symbols.values().any(|&n| n == 0);
    let off = |found: &Tensor<f64>, source: &Tensor<f64>| {
        let claimed = |n: usize| !(nothing && source.data[n].is_nan());
        let claims = |t: &Tensor<f64>| {
            let data = t.data.iter().enumerate().map(|(n, &x)| if claimed(n) { x } else { 0.0 });
            Tensor { dims: t.dims.clone(), data: data.collect() }
        };
        distance(&claims(found), &claims(source))
    };
    let plan = &compiled.plans[0].1;
    for block in [1, 7, 64, 4096] {
        let got =
            eval_plan(&F64, plan, &symbols, params.clone(), block).unwrap_or_else(|e| panic!("{text}: {e}"));
        for (g, w) in got.results.iter().zip(&want.results) {
            let d = off(g, w);
            assert!(d < 1e-12, "plan with block {block} is off by {d}: {text}");
        }
    }
    let got = run_step(&F64, &compiled.step, &compiled.programs, &symbols, &inputs);
    assert!(!got.is_empty());
    for (name, g) in &got {
        let at = function.results.iter().position(|&v| function.values[v].name == *name).expect("a result");
        let d = off(g, &want.results[at]);
        assert!(d < 1e-6, "programs are off by {d} in {name}: {text}");
    }
    compiled.programs.iter().for_each(|p| loops_have_axes_of_their_own(&p.body, &mut Vec::new()));
    for p in &compiled.programs {
        verify_tile(p, &compiled.step.symbols).unwrap_or_else(|v| panic!("{text}: {}", describe(&v)));
    }
    verify_plan(plan, &module.symbols).unwrap_or_else(|v| panic!("{text}: {}", describe(&v)));
    compiled
}

/// No loop runs along an axis within a loop over the same one.
fn loops_have_axes_of_their_own(body: &[Op], open: &mut Vec<Axis>) {
    for op in body {
        if let Op::Loop { axis, body, .. } = op {
            assert!(!open.contains(axis), "{axis} is looped over within a loop over it");
            open.push(*axis);
            loops_have_axes_of_their_own(body, open);
            open.pop();
        }
    }
}

#[test]
fn plain_attention() {
    let text = "Q: f32[i=33, d=20]; K: f32[j=50, d]; V: f32[j, e=20]; O[i,e] = sum[j](softmax[j](sum[d](Q[i,d] * K[j,d])) * V[j,e])";
    assert_eq!(check(text, &[]), 1);
}

#[test]
fn a_difference_of_two_attentions() {
    let text = "Q: f32[i=13, d=10]; K: f32[j=50, d]; R: f32[i, d]; L: f32[j, d]; V: f32[j, e=20]; C: f32[i]; \
        O[i,e] = sum[j]((softmax[j](where(j <= 2*i, sum[d](Q[i,d] * K[j,d]), -inf)) - C[i] * softmax[j](sum[d](R[i,d] * L[j,d])) \
                         + 0.5 * softmax[j](Q[i,0] * K[j,1])) * V[j,e])";
    assert_eq!(check(text, &[]), 1);
}

#[test]
fn grouped_causal_windowed_attention() {
    let text = "Q: f32[g=2, r=3, i=seq, d=18]; K: f32[g, j=kv, d]; V: f32[g, j, e=18]; seq in 1..64; kv in 1..64; \
        O[g,r,i,e] = sum[j](softmax[j](where(j <= i and i - j < 5, 0.125*sum[d](Q[g,r,i,d] * K[g,j,d]), -inf)) * V[g,j,e])";
    assert_eq!(check(text, &[("seq", 13), ("kv", 13)]), 1);
    check(text, &[("seq", 1), ("kv", 1)]);
    check(text, &[("seq", 64), ("kv", 64)]);
    // Rows that are masked everywhere give 0.
    check(text, &[("seq", 64), ("kv", 20)]);
}

#[test]
fn softmax_of_another_base() {
    let text = "S: f32[i=33, j=500]; V: f32[j, e=32]; M[i] = max[j](S[i,j]); P[i,j] = exp2(0.5*(S[i,j] - M[i])); \
        L[i] = sum[j](P[i,j]); O[i,e] = sum[j](P[i,j] * V[j,e]) / L[i]";
    assert_eq!(check(text, &[]), 1);
}

#[test]
fn log_sum_exp() {
    assert_eq!(check("X: f32[i=3, j=501]; L[i] = logsumexp[j](X[i,j])", &[]), 1);
}

#[test]
fn safe_two_norm() {
    let text = "X: f32[i=5, j=300]; M[i] = max[j](abs(X[i,j])); \
        N[i] = M[i] * sqrt(sum[j]((X[i,j] / M[i]) * (X[i,j] / M[i])))";
    assert_eq!(check(text, &[]), 1);
}

#[test]
fn norm_into_matmul() {
    let text = "X: bf16[i=33, c=300]; G: bf16[c]; W: bf16[n=70, c]; Y[i,n] = sum[c](rms_norm[c](X[i,c]) * G[c] * W[n,c])";
    assert_eq!(check(text, &[]), 1);
}

#[test]
fn two_level_norm() {
    let text = "X: f32[i=7, j=19, k=33]; A[i,j] = sqrt(sum[k](X[i,j,k] * X[i,j,k])); \
        B[i] = max[j](A[i,j]); N[i] = B[i] * sqrt(sum[j]((A[i,j] / B[i]) * (A[i,j] / B[i])))";
    check(text, &[]);
}

#[test]
fn gate_and_up() {
    let text = "X: f32[i=17, c=100]; W: f32[f=50, c]; U: f32[f, c]; \
        A[i,f] = silu(sum[c](X[i,c]*W[f,c])) * sum[c](X[i,c]*U[f,c])";
    assert_eq!(check(text, &[]), 1);
}

/// The statistics of a norm are of what a product leaves in the block that computed it.
#[test]
fn a_norm_of_what_a_product_adds() {
    for (n, c) in [(1, 5), (50, 100), (256, 40), (257, 33)] {
        let text = format!(
            "X: f32[i=37, c={c}]; W: f32[n={n}, c]; B: f32[n]; R: f32[i, n]; \
            H[i,n] = R[i,n] + silu(B[n] + sum[c](X[i,c] * W[n,c])); M[i] = sum[n](H[i,n]) / {n}; \
            V[i] = sum[n]((H[i,n] - M[i])**2) / {n}; N[i,n] = (H[i,n] - M[i]) / sqrt(V[i] + 1e-5)"
        );
        let kernels = check(&text, &[]);
        assert!(kernels == 1 || n > 256, "{n}: {kernels}");
    }
}

/// Folds along different axes may track one maximum: each what runs along with it.
#[test]
fn a_maximum_that_two_axes_track() {
    for (c, h) in [(20, 300), (300, 20), (2, 1009), (1, 7)] {
        let text = format!(
            "X: f32[n=3, c={c}, h={h}]; Y[n] = sum[c,h](softmax[c,h](X[n,c,h]) * softmax[h](X[n,c,h])); \
            Z[n] = Y[n] + sum[c,h](softmax[c,h](X[n,c,h]) * softmax[c](X[n,c,h]))"
        );
        check(&text, &[]);
    }
}

/// A pass over a long axis for few rows is cut into runs; what each run holds is merged.
#[test]
fn a_pass_in_runs() {
    let attention = "Q: f32[i=3, d=8]; K: f32[j=kv, d]; V: f32[j, e=8]; kv in 1..2000; \
        O[i,e] = sum[j](softmax[j](where(j != 5, sum[d](Q[i,d] * K[j,d]), -inf)) * V[j,e])";
    for kv in [1, 2, 31, 32, 33, 63, 65, 1000, 1999, 2000] {
        let compiled = compare(attention, &[("kv", kv)], &idle());
        let runs = compiled.plans[0].1.kernels.iter().filter(|k| k.runs.is_some()).count();
        assert_eq!(runs, 1);
    }
    for text in [
        "X: f32[i=3, j=5000]; O[i] = sum[j](X[i,j] * X[i,j])",
        "X: f32[i=3, j=5000]; O[i] = max[j](X[i,j]) + sum[j](X[i,j])",
        "X: f32[i=3, j=5000]; O[i] = logsumexp[j](X[i,j])",
        "X: f32[i=3, j=5000]; W: f32[n=5, j]; Y[i,n] = sum[j](rms_norm[j](X[i,j]) * W[n,j])",
        "X: f32[i=3, j=5000]; M[i] = max[j](abs(X[i,j])); \
         N[i] = M[i] * sqrt(sum[j]((X[i,j] / M[i]) * (X[i,j] / M[i])))",
        "X: f32[i=3, j=5000]; O[i] = var[j](X[i,j])",
        "X: f32[i=3, c=5, j=2003]; M[i] = sum[c,j](X[i,c,j]) / 10015; O[i] = M[i] + sum[c,j]((X[i,c,j] - M[i])**2) / 10015",
        "X: f32[i=3, j=2003, c=5]; M[i] = max[c,j](X[i,j,c]); O[i] = M[i] + log(sum[c,j](exp(X[i,j,c] - M[i])))",
        "X: f32[i=3, j=5000]; W: f32[n=5, j]; Y[i,n] = sum[j](layer_norm[j](X[i,j]) * W[n,j])",
    ] {
        let compiled = compare(text, &[], &idle());
        assert!(compiled.plans[0].1.kernels.iter().any(|k| k.runs.is_some()), "{text}");
    }
    // A second pass needs what the first left behind: in one kernel neither is cut. Where runs pay, several kernels
    // are taken, and each is.
    let text = "X: f32[i=3, j=5000]; O[i] = sum[j](abs(X[i,j] - mean[j](X[i,j])))";
    let runs = |options: &Options| {
        compare(text, &[], options).plans[0].1.kernels.iter().filter(|k| k.runs.is_some()).count()
    };
    assert_eq!(runs(&Options { candidate: Some("fewest-kernels".into()), ..idle() }), 0);
    assert!(runs(&idle()) >= 2);
}

/// Runs are merged where what they amount to is read, by one reader or by several, unless sums would be padded
/// for it.
#[test]
fn runs_merged_where_they_are_read() {
    // Whether some kernel stores what the runs amount to.
    let stored = |name: &str, text: &str, symbols: &[(&str, u64)]| {
        let compiled = compare(text, symbols, &Options::default());
        let plan = &compiled.plans[0].1;
        assert!(plan.kernels.iter().any(|k| k.runs.is_some()), "{text}");
        let value = |s: &tilewright_ir::plan::Store| plan.values[s.value].name == name;
        plan.kernels.iter().any(|k| k.stores.iter().any(value))
    };
    let attention = |c: u32, e: u32| {
        format!(
            "Q: f32[g=2, r=4, d=64]; K: f32[g, j=kv, d]; V: f32[g, j, e={e}]; W: f32[c={c}, g, r, e]; kv in 1..2000; \
             O[g,r,e] = sum[j](softmax[j](where(j != 5, 0.125*sum[d](Q[g,r,d] * K[g,j,d]), -inf)) * V[g,j,e]); Y[c] = sum[g,r,e](O[g,r,e] * W[c,g,r,e])"
        )
    };
    for kv in [1, 2, 31, 33, 1000, 2000] {
        assert!(!stored("O", &attention(1024, 64), &[("kv", kv)]));
    }
    // A sum over eight times 96 is one over 768 positions, and by heads of 96 it would be padded.
    assert!(stored("O", &attention(1024, 96), &[("kv", 100)]));
    let norm = "X: f32[b=2, c=256]; A: f32[b, k=8192]; W: f32[c, k]; V: f32[f=512, c]; U: f32[h=512, c]; \
        H[b,c] = X[b,c] + sum[k](A[b,k] * W[c,k]); Y[b,f] = sum[c](rms_norm[c](H[b,c]) * V[f,c]); ";
    assert!(!stored("H", &format!("{norm} Z[b,h] = sum[c](H[b,c] * U[h,c])"), &[]));
}

/// Of large numbers that are nearly equal the difference is taken before anything is added to it: where the source does so,
/// at the positions of blocks and with the other sign.
#[test]
fn terms_are_added_in_the_order_of_the_source() {
    let (rows, columns) = (3, 300);
    let mut r = Random(0x5eed);
    let mut near =
        |offset: f64| Tensor::from_fn(&[rows, columns], |_| DType::F32.round(offset + 3.0 * r.uniform()));
    let (x, z, w) = (near(1e5), near(1e5), near(0.0));
    let log_softmax = |t: &Tensor<f64>, i: usize, j: usize| {
        let row = &t.data[i * columns..(i + 1) * columns];
        let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row[j] - m - row.iter().map(|v| (v - m).exp()).sum::<f64>().ln()
    };
    let each = |f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..rows * columns).map(|n| f(n / columns, n % columns)).collect()
    };
    let at = |t: &Tensor<f64>, i: usize, j: usize| t.data[i * columns + j];
    let shifted = |i: usize, j: usize| at(&x, i, j) - at(&z, i, j) + at(&w, i, j);
    let added = each(&|i, j| (0..columns).map(|k| shifted(i, k).exp()).sum::<f64>().ln() - shifted(i, j));
    let inputs = "X: f32[i=3, j=300]; Z: f32[i, j]; W: f32[i, j];";
    for (text, want) in [
        ("Y[i,j] = W[i,j] + (X[i,j] - Z[i,j])", each(&shifted)),
        ("Y[i,j] = W[i,j] - (Z[i,j] - X[i,j])", each(&shifted)),
        ("Y[i,j] = logsumexp[j](X[i,j] - Z[i,j] + W[i,j]) - (X[i,j] - Z[i,j] + W[i,j])", added),
        (
            "Y[i,j] = log_softmax[j](X[i,j]) - log_softmax[j](Z[i,j])",
            each(&|i, j| log_softmax(&x, i, j) - log_softmax(&z, i, j)),
        ),
    ] {
        let (module, compiled) = compile(&format!("{inputs} {text}"), &whole());
        let function = module.functions.values().next().expect("a function");
        let params: Vec<Arc<Tensor<f64>>> = function
            .values
            .values()
            .filter_map(|v| {
                [("X", &x), ("Z", &z), ("W", &w)].iter().find(|(n, _)| *n == v.name).map(|(_, t)| *t)
            })
            .map(|t| Arc::new(t.clone()))
            .collect();
        let symbols = bind_symbols(&module.symbols, &[]).expect("symbols");
        for block in [7, 4096] {
            let got =
                eval_plan(&Rounded, &compiled.plans[0].1, &symbols, params.clone(), block).expect("a plan");
            let worst = got.results[0].data.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5, "{text} is off by {worst:.1e} in blocks of {block}");
        }
    }
}

/// There is no integer below the least: where a row holds nothing else, that is its maximum, and it is at the first position.
#[test]
fn the_least_integer_of_a_type_is_a_maximum() {
    let least = f64::from(i32::MIN);
    for (columns, of) in [(1, least), (300, least), (300, f64::from(i32::MAX))] {
        let text = format!(
            "X: i32[i=3, j={columns}]; A[i] = max[j](X[i,j]); B[i] = min[j](X[i,j]); C[i] = argmax[j](X[i,j]); D[i] = argmin[j](X[i,j])"
        );
        for options in [whole(), idle()] {
            let outputs = ["A", "B", "C", "D"].map(str::to_owned);
            let module = parse_equations(&text, &Given::default(), &outputs).expect("parses");
            let compiled = compile_module(&module, &options).expect("compiles");
            let symbols = bind_symbols(&module.symbols, &[]).expect("symbols");
            let inputs = [("X".to_owned(), Tensor::from_fn(&[3, columns], |_| of))];
            let got = run_step(&Rounded, &compiled.step, &compiled.programs, &symbols, &inputs);
            for (name, want) in [("A", of), ("B", of), ("C", 0.0), ("D", 0.0)] {
                let (_, found) = got.iter().find(|(n, _)| n == name).expect("an output");
                assert_eq!(found.data, [want; 3], "{name} of {columns}");
            }
        }
    }
}

/// A sum over an axis inside of a sum over the same one, in a factor of a sum that could change places with it.
#[test]
fn a_sum_does_not_capture_a_part_of_its_axis() {
    let text = "A: f32[i=3]; B: f32[e=8, d=7]; axis j=4; \
        Z[j] = sum[d](sum[j](softmax[j](0.5) * A[d % 3]) * B[j + 2, d]); \
        O[] = sum[j](layer_norm[j](Z[j]) * B[j % 8, j % 7])";
    compare(text, &[], &Options::default());
}

/// Small enough to be computed again in each block: one launch, a loop within a loop.
#[test]
fn two_layers_of_contraction_with_residual() {
    let text = "X: f32[i=9, c=300]; W: f32[f=900, c]; D: f32[c, f]; \
        A[i,f] = silu(sum[c](X[i,c]*W[f,c])); Y[i,c] = X[i,c] + sum[f](A[i,f] * D[c,f])";
    assert_eq!(check(text, &[]), 1);
}

/// Logits are used where they are computed: the loss of a row needs no memory for them.
#[test]
fn cross_entropy_without_logits_in_memory() {
    let text = "X: f32[i=257, c=40]; W: f32[v=300, c]; t: i32[i]; Z[i,v] = sum[c](X[i,c]*W[v,c]); \
        L[i] = logsumexp[v](Z[i,v]) - sum[v](where(v == t[i], Z[i,v], 0))";
    assert_eq!(check(text, &[]), 1);
}

/// Loops in all programs: each is a pass.
fn passes(c: &Compiled) -> usize {
    fn loops(body: &[Op]) -> usize {
        body.iter().map(|op| if let Op::Loop { body, .. } = op { 1 + loops(body) } else { 0 }).sum()
    }
    c.programs.iter().map(|p| loops(&p.body)).sum()
}

/// Sums that move with one another where the largest does, along axes that are shorter than a block too.
#[test]
fn sums_that_move_together() {
    for y in [
        "-sum[j](softmax[j](S[i,j]) * log(softmax[j](S[i,j])))",
        "-sum[j](exp(log_softmax[j](S[i,j])) * log_softmax[j](S[i,j]))",
        "-sum[j](B[i,j] * log_softmax[j](S[i,j]))",
        "sum[j](softmax[j](S[i,j]) * (log_softmax[j](S[i,j]) - log_softmax[j](B[i,j])))",
        "sum[j](softmax[j](S[i,j]) * log(softmax[j](S[i,j]) / softmax[j](B[i,j])))",
        "sum[j](B[i,j] * (S[i,j] - max[j](S[i,j])))",
        // Weights that add up to 0 again and again: that is not nothing.
        "sum[j](where(j % 2 == 0, 1, -1) * (S[i,j] - max[j](S[i,j])))",
        "mean[j](log_softmax[j](S[i,j]))",
    ] {
        for row in ["X[i,j]", "100 * X[i,j]"] {
            let text = format!("n in 1..600; X: f32[i=9, j=n]; B: f32[i, j]; S[i,j] = {row}; Y[i] = {y}");
            for n in [1, 2, 61, 509] {
                let compiled = compare(&text, &[("n", n)], &whole());
                assert_eq!(passes(&compiled), 1, "{text}");
                compare(&text, &[("n", n)], &idle());
            }
        }
        // Of rows that are sums themselves.
        let text = format!(
            "X: f32[i=9, c=20]; W: f32[j=307, c]; B: f32[i, j]; S[i,j] = sum[c](X[i,c] * W[j,c]); Y[i] = {y}"
        );
        assert_eq!(check(&text, &[]), 1, "{text}");
    }
    for y in [
        "sum[k,j](B[i,k,j] * (X[i,k,j] - max[k,j](X[i,k,j])))",
        "-sum[k,j](softmax[k,j](X[i,k,j]) * log(softmax[k,j](X[i,k,j])))",
    ] {
        let two = format!("X: f32[i=5, k=9, j=61]; B: f32[i, k, j]; Y[i] = {y}");
        assert_eq!(passes(&compare(&two, &[], &whole())), 1, "{two}");
    }
}

/// One pass over logits that no memory holds, and ties go to the first.
#[test]
fn the_largest_without_logits_in_memory() {
    let text =
        "X: f32[i=9, c=40]; W: f32[v=300, c]; Z[i,v] = sum[c](X[i,c]*W[v,c]); Y[i] = argmax[v](Z[i,v])";
    assert_eq!(check(text, &[]), 1);
    assert_eq!(check("X: f32[i=9, v=300]; Y[i] = argmax[v](floor(X[i,v] * 2))", &[]), 1);
    let masked = "X: f32[i=9, v=300]; Y[i] = argmax[v](where(v < i * 40, X[i,v], -inf))";
    assert_eq!(check(masked, &[]), 1);
}

#[test]
fn the_smallest_and_what_follows_it() {
    for x in ["floor(X[i,j] * 3)", "where(j < i * 40, X[i,j], inf)", "-abs(X[i,j])"] {
        let text = format!(
            "X: f32[i=9, j=300]; W: f32[j]; Z[i,j] = {x}; S[i] = argmin[j](Z[i,j]); M[i] = min[j](Z[i,j]); \
             N[i] = sum[j](where(Z[i,j] <= M[i], W[j], 0)); L[i] = max[j](where(Z[i,j] == M[i], j, -1)); \
             U[i] = min[j](where(Z[i,j] > M[i], Z[i,j], inf)); V[i] = max[j](where(M[i] < Z[i,j], W[j], -inf)) "
        );
        assert_eq!(check(&text, &[]), 1);
    }
}

/// One pass finds many, however many are equal, masked or not there, and however it is cut.
#[test]
fn the_largest_of_many_ranks() {
    for (count, width) in [(4, 300), (5, 3), (8, 300), (13, 101)] {
        let of = |x: &str| {
            format!(
                "X: f32[i=3, j={width}]; axis k={count}; T[i,j] = {x}; V[i,k] = topk[j](T[i,j], k); \
                 P[i,k] = argtopk[j](T[i,j], k)"
            )
        };
        assert_eq!(check(&of("floor(X[i,j] * 3)"), &[]), 1);
        assert_eq!(check(&of("where(j < i * 4, X[i,j], -inf)"), &[]), 1);
    }
    let text = "X: f32[i=1, v=9000]; axis k=4; V[i,k] = topk[v](floor(X[i,v] * 9), k)";
    assert!(compare(text, &[], &idle()).plans[0].1.kernels.iter().any(|k| k.runs.is_some()));
}

/// Cut into runs, positions are merged as they are folded.
#[test]
fn the_largest_of_runs() {
    let compiled = compare("X: f32[i=3, v=50000]; Y[i] = argmax[v](floor(X[i,v] * 2))", &[], &idle());
    assert!(compiled.plans[0].1.kernels.iter().any(|k| k.runs.is_some()));
}

/// What stands beside the largest scores, ties averaged.
#[test]
fn values_beside_the_largest() {
    let text = "S: f32[i=5, j=300]; V: f32[j, e=7]; T[i,j] = floor(S[i,j]); M[i] = max[j](T[i,j]); \
        O[i,e] = sum[j](where(T[i,j] == M[i], V[j,e], 0)) / sum[j](where(T[i,j] == M[i], 1, 0))";
    assert_eq!(check(text, &[]), 1);
    // What is dropped to is no 0: no fold.
    check("S: f32[i=5, j=300]; O[i] = sum[j](where(S[i,j] == max[j](S[i,j]), S[i,j], 0.5))", &[]);
}

/// Without a function between two products the cheaper order wins, whatever was written.
#[test]
fn products_in_the_cheaper_order() {
    let text = "Q: f32[i=200, d=5]; K: f32[j=300, d]; V: f32[j, e=7]; \
        O[i,e] = sum[j](sum[d](Q[i,d] * K[j,d]) * V[j,e])";
    check(text, &[]);
}

/// For each position of the outer loop an inner one needs all positions again.
#[test]
fn a_loop_within_a_loop_over_its_axis() {
    let text = "A: f32[i=1]; B: f32[d=13, j=8, e=16]; axis k=2; \
                N[i, k] = sum[e, j](sum[d](rms_norm[d](-0.125) * B[d, j, e]) * A[i]) \
                  * (A[i] / (tanh(k * 0.125) + 2.5) * sum[k](rms_norm[k](A[i]) * A[i])) \
                  + logsumexp[i](where(i <= i, i * 0.125, 0)); \
                O[d, i, e] = sum[k](softmax[k](min( \
                  where(k >= k, sum[i](layer_norm[i](N[i, k]) * B[d, d % 8, e]), A[i] - A[i]), \
                  gelu(sum[k](rms_norm[k](0.625) * A[i])))) * N[i, k])";
    check(text, &[]);
}

#[test]
fn gathers_masks_and_shadowing() {
    check("E: f32[t=50, d=33]; ids: i32[n=7]; O[n,d] = E[t := ids[n], d]", &[]);
    check("X: f32[i=40]; O[i] = X[i] / sum[i](abs(X[i]))", &[]);
    check(
        "X: f32[i=7, j=9]; Y: f32[j, k=11]; O[i,k] = sum[j](where(j < i, X[i,j], 0) * Y[j,k]) + max[j](X[i,j])",
        &[],
    );
    check("X: f32[i=7, j=9]; O[i] = argmax[j](X[i,j])", &[]);
    check("X: f32[i=1, j=1]; O[i] = sum[j](X[i,j])", &[]);
    check("X: f32[i=300, j=5]; O[j] = sum[i](X[i,j])", &[]);
    check("X: f32[a=3, b=5, c=7, d=600]; O[a] = sum[b,c,d](X[a,b,c,d])", &[]);
    check("X: f32[a=300, b=500]; O[a] = sum[b](X[a,b] * X[a,b]) + sum[b](X[a,b])", &[]);
    check("X: f32[i=6]; O[i] = 2", &[]);
    check("X: f32[i=3, j=0]; O[i] = sum[j](X[i,j]) + 1", &[]);
    check("X: f32[i=3, j=0]; O[i] = max[j](X[i,j])", &[]);
    check("X: f32[i=0, j=5]; O[j] = max[i](X[i,j])", &[]);
    check("X: f32[i=0, j=5]; Y: f32[k=70, i]; O[k,j] = sum[i](X[i,j] * Y[k,i])", &[]);
    check("A: i32[i=6, j=900]; O: i64[i]; O[i] = sum[j](A[i,j] * 1000000)", &[]);
    check(
        "A: i32[i=6, j=9]; O: i64[i]; O[i] = sum[j](A[i,j] * 1000000) + sum[j](where(A[i,j] > 2, 1, 0))",
        &[],
    );
}

/// Blocks of zeros, of huge and of tiny numbers: in single precision, with the norm computed in f64 as the judge.
#[test]
fn a_safe_norm_stays_safe_in_single_precision() {
    let text = "X: f32[i=4, j=1000]; M[i] = max[j](abs(X[i,j])); \
        N[i] = M[i] * sqrt(sum[j]((X[i,j] / M[i]) * (X[i,j] / M[i])))";
    let (module, compiled) = compile(text, &whole());
    let symbols = bind_symbols(&module.symbols, &[]).expect("symbols");
    let mut r = Random(11);
    // Row by row: zeros first; zeros last; near the largest float; near the smallest normal.
    let scale = [1.0, 1.0, 1e36, 1e-36];
    let x = Tensor::from_fn(&[4, 1000], |at| match (at[0], at[1]) {
        (0, j) if j < 700 => 0.0,
        (1, j) if j >= 300 => 0.0,
        (i, _) => DType::F32.round(r.uniform() * scale[i]),
    });
    let inputs = [("X".to_owned(), x.clone())];
    let got = run_step(&Rounded, &compiled.step, &compiled.programs, &symbols, &inputs);
    for (i, found) in got[0].1.data.iter().enumerate() {
        let want = x.data[i * 1000..][..1000].iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((found - want).abs() <= 1e-5 * want, "row {i}: {found}, not {want}");
    }
}

fn loops(body: &[Op]) -> usize {
    body.iter().map(|op| if let Op::Loop { body, .. } = op { 1 + loops(body) } else { 0 }).sum()
}

/// Where a condition of a law is not met, the equations keep their two passes, and their meaning.
#[test]
fn conditions_that_fail_keep_two_passes() {
    let unmet = [
        // A negative factor turns a maximum around.
        "S: f32[i=5, j=500]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp2(-0.5 * (S[i,j] - M[i])))",
        // The sign of a factor that is read is not known.
        "S: f32[i=5, j=500]; C: f32[]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(C * (S[i,j] - M[i])))",
        // No homomorphism.
        "S: f32[i=5, j=500]; M[i] = max[j](S[i,j]); O[i] = sum[j](tanh(S[i,j] - M[i]))",
        // A maximum that is not known to be non-negative divides.
        "S: f32[i=5, j=500]; M[i] = max[j](S[i,j]); O[i] = sum[j]((S[i,j] / M[i]) * (S[i,j] / M[i]))",
        // The other operand of the maximum depends on the axis of the sum.
        "S: f32[i=5, j=500]; T: f32[i, j]; O[i] = sum[j](exp(S[i,j] - max(T[i,j], max[j](S[i,j]))))",
        // A minimum is not tracked.
        "S: f32[i=5, j=500]; M[i] = min[j](S[i,j]); O[i] = sum[j](exp(M[i] - S[i,j]))",
        // Not a cocycle: the reference point enters twice.
        "S: f32[i=5, j=500]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(S[i,j] - M[i]) * tanh(S[i,j] - M[i]))",
    ];
    for text in unmet {
        check(text, &[]);
        let (_, compiled) = compile(text, &whole());
        let passes: usize = compiled.programs.iter().map(|p| loops(&p.body)).sum();
        assert!(passes >= 2, "{passes} passes: {text}");
        let folds = compiled.plans[0].1.kernels.iter().flat_map(|k| k.locals.values());
        assert!(!folds.into_iter().any(|l| matches!(l.def, LocalDef::Fold { .. })), "{text}");
    }
}

#[test]
fn a_reduction_over_several_axes_streams_one_of_them() {
    let text = "S: f32[b=64, y=67, x=19, z=3]; L[b] = logsumexp[y,x,z](S[b,y,x,z])";
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    let compiled = compile_module(&module, &Options::default()).expect("compiles");
    let [(_, plan)] = &compiled.plans[..] else { panic!("one function") };
    let [kernel] = &plan.kernels[..] else { panic!("one kernel") };
    assert!(kernel.locals.values().any(|l| matches!(l.def, LocalDef::Fold { .. })), "{kernel:#?}");
}
