//! Equations against plain loops, on fresh random inputs whose seed is printed.

use std::collections::HashMap;

use crate::common::{self, Rng};
use tilewright_frontend::equations::{Given, parse_equations, parse_equations_checked};
use tilewright_ir::eval::{self, Evaluator, F64, Tensor};
use tilewright_ir::graph::Module;
use tilewright_ir::{DType, Extent};

fn tensor(rng: &mut Rng, dims: &[usize]) -> Tensor<f64> {
    Tensor::from_fn(dims, |_| rng.real())
}

fn run(module: &Module, inputs: &[(&str, &Tensor<f64>)]) -> HashMap<String, Tensor<f64>> {
    common::consistent(module);
    let mut values: Vec<(String, u64)> = Vec::new();
    for (name, tensor) in inputs {
        let global = module.globals.values().find(|g| g.name == *name).expect("an input of this name");
        for (dim, &n) in global.dims.iter().zip(&tensor.dims) {
            if let Extent::Sym(s) = dim {
                values.push((module.symbols[*s].name.clone(), n as u64));
            }
        }
    }
    let values: Vec<(&str, u64)> = values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let symbols = eval::bind_symbols(&module.symbols, &values).expect("symbols");
    let mut evaluator = Evaluator::new(F64, module, |n| Err(format!("no weight {n}")));
    let inputs: Vec<(&str, Tensor<f64>)> = inputs.iter().map(|(n, t)| (*n, (*t).clone())).collect();
    let out = evaluator.run(&symbols, &inputs).expect("evaluates");
    let names = module.outputs.iter().map(|g| module.globals[*g].name.clone());
    names.zip(out).collect()
}

fn module(text: &str) -> Module {
    parse_equations(text, &Given::default(), &[]).unwrap_or_else(|d| panic!("{}", d.render("text", text)))
}

fn close(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (k, (g, w)) in got.iter().zip(want).enumerate() {
        let same = g == w || (g - w).abs() <= 1e-11 * (1.0 + w.abs());
        assert!(same, "{name}[{k}]: {g} is not {w}");
    }
}

#[test]
fn scaled_dot_products_with_a_mask_and_fully_masked_rows() {
    let mut rng = Rng::fresh("masked softmax");
    for (ni, nj, d, e) in [(1, 1, 1, 1), (7, 13, 5, 3), (17, 17, 33, 1), (3, 0, 2, 2)] {
        let text = format!(
            "Q: f32[i={ni}, d={d}]; K: f32[j={nj}, d]; V: f32[j, e={e}]
             S[i,j] = sum[d](Q[i,d] * K[j,d]) * 0.3
             O[i,e] = sum[j](softmax[j](where(j + 2 <= i, S[i,j], -inf)) * V[j,e])"
        );
        let (q, k, v) = (tensor(&mut rng, &[ni, d]), tensor(&mut rng, &[nj, d]), tensor(&mut rng, &[nj, e]));
        let got = run(&module(&text), &[("Q", &q), ("K", &k), ("V", &v)]);
        let mut want = vec![0.0; ni * e];
        for i in 0..ni {
            let score = |j: usize| (0..d).map(|x| q.data[i * d + x] * k.data[j * d + x]).sum::<f64>() * 0.3;
            let keys: Vec<usize> = (0..nj).filter(|j| j + 2 <= i).collect();
            let total: f64 = keys.iter().map(|&j| score(j).exp()).sum();
            for x in 0..e {
                let sum: f64 = keys.iter().map(|&j| score(j).exp() * v.data[j * e + x]).sum();
                want[i * e + x] = if keys.is_empty() { 0.0 } else { sum / total };
            }
        }
        close("O", &got["O"].data, &want);
    }
}

#[test]
fn reductions_gathers_and_positions() {
    let mut rng = Rng::fresh("reductions");
    let (n, d, t) = (5, 7, 11);
    let text = "E: f32[t=11, d=7]; ids: i64[n=5]
                G[n,d] = E[t := ids[n], d] * (1 + d // 2) - n % 3
                M[d] = mean[n](G[n,d])
                A[n] = argmax[d](floor(G[n,d] * 2))
                C = count[n,d](G[n,d] > 0 and not (d == 3) or n == 4)
                X = max[n,d] G[n,d] * min(1, size(n))
                P[n,d] = (G[n,d] - M[d]) ** 3
                L[n] = logsumexp[d](G[n,d])";
    let outputs: Vec<String> = ["G", "M", "A", "C", "X", "P", "L"].map(String::from).to_vec();
    let module = parse_equations(text, &Given::default(), &outputs).expect("parses");
    let e = tensor(&mut rng, &[t, d]);
    // One index is outside the table: it reads 0.
    let ids = Tensor::from_fn(&[n], |k| if k[0] == 2 { 99.0 } else { (rng.next() % t as u64) as f64 });
    let got = run(&module, &[("E", &e), ("ids", &ids)]);
    let g = |a: usize, b: usize| {
        let row = ids.data[a] as usize;
        let x = if row < t { e.data[row * d + b] } else { 0.0 };
        x * (1 + b / 2) as f64 - (a % 3) as f64
    };
    let all: Vec<f64> = (0..n * d).map(|k| g(k / d, k % d)).collect();
    close("G", &got["G"].data, &all);
    let mean: Vec<f64> = (0..d).map(|b| (0..n).map(|a| g(a, b)).sum::<f64>() / n as f64).collect();
    close("M", &got["M"].data, &mean);
    let argmax: Vec<f64> = (0..n)
        .map(|a| {
            let keys: Vec<f64> = (0..d).map(|b| (g(a, b) * 2.0).floor()).collect();
            let best = keys.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
            keys.iter().position(|x| *x == best).expect("one attains it") as f64
        })
        .collect();
    close("A", &got["A"].data, &argmax);
    let count = (0..n * d).filter(|k| (g(k / d, k % d) > 0.0 && k % d != 3) || k / d == 4).count();
    close("C", &got["C"].data, &[count as f64]);
    close("X", &got["X"].data, &[all.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x))]);
    let cubes: Vec<f64> = (0..n * d).map(|k| (g(k / d, k % d) - mean[k % d]).powi(3)).collect();
    close("P", &got["P"].data, &cubes);
    let lse: Vec<f64> = (0..n).map(|a| (0..d).map(|b| g(a, b).exp()).sum::<f64>().ln()).collect();
    close("L", &got["L"].data, &lse);
    let dtype = |n: &str| module.globals.values().find(|g| g.name == n).expect("exists").dtype;
    assert_eq!((dtype("A"), dtype("C"), dtype("G")), (DType::I64, DType::I64, DType::F32));
}

#[test]
fn an_inner_reduction_may_reuse_the_name_of_an_outer_axis() {
    let mut rng = Rng::fresh("shadowing");
    let x = tensor(&mut rng, &[6]);
    let m = module("X: f32[j=6]\nS = sum[j](X[j] * max[j](X[j]) + j)\nO[j] = S + min[j] X[j] + j");
    let got = run(&m, &[("X", &x)]);
    let max = x.data.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
    let min = x.data.iter().fold(f64::INFINITY, |m, x| m.min(*x));
    let s: f64 = x.data.iter().enumerate().map(|(j, v)| v * max + j as f64).sum();
    let want: Vec<f64> = (0..6).map(|j| s + min + j as f64).collect();
    close("O", &got["O"].data, &want);
}

#[test]
fn norms_and_activations() {
    let mut rng = Rng::fresh("norms");
    let (n, d) = (3, 13);
    let x = tensor(&mut rng, &[n, d]);
    let text = "X: f32[n=3, d=13]
        R[n,d] = rms_norm[d](X[n,d], 1e-3); L[n,d] = layer_norm[d](X[n,d] * 2 + 1, eps = 1e-2)
        A[n,d] = silu(X[n,d]) + gelu(X[n,d]) * relu(X[n,d]) - softplus(X[n,d]) + sigmoid(X[n,d])
        V[n] = std[d](X[n,d]) + var[d](X[n,d])
        Z[n,d] = log_softmax[d](X[n,d] * 30)";
    let outputs: Vec<String> = ["R", "L", "A", "V", "Z"].map(String::from).to_vec();
    let m = parse_equations(text, &Given::default(), &outputs).expect("parses");
    let got = run(&m, &[("X", &x)]);
    let row = |k: usize| &x.data[k * d..(k + 1) * d];
    let mean = |f: &dyn Fn(f64) -> f64, k: usize| row(k).iter().map(|&v| f(v)).sum::<f64>() / d as f64;
    let mut want = HashMap::<&str, Vec<f64>>::new();
    for k in 0..n {
        let (mu, ms) = (mean(&|v| v, k), mean(&|v| v * v, k));
        let var = mean(&|v| (v - mu) * (v - mu), k);
        want.entry("V").or_default().push(var.sqrt() + var);
        let total: f64 = row(k).iter().map(|v| (v * 30.0).exp()).sum();
        for &v in row(k) {
            want.entry("R").or_default().push(v / (ms + 1e-3).sqrt());
            want.entry("L").or_default().push(2.0 * (v - mu) / (4.0 * var + 1e-2).sqrt());
            let sigmoid = 1.0 / (1.0 + (-v).exp());
            let gelu =
                0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh());
            let softplus = (1.0 + v.exp()).ln();
            want.entry("A").or_default().push(v * sigmoid + gelu * v.max(0.0) - softplus + sigmoid);
            want.entry("Z").or_default().push(v * 30.0 - total.ln());
        }
    }
    for name in ["R", "L", "A", "V", "Z"] {
        close(name, &got[name].data, &want[name]);
    }
}

#[test]
fn rows_without_keys_never_make_nan() {
    let x = Tensor::new(
        &[2, 3],
        vec![f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY, 1e4, -1e4, f64::NEG_INFINITY],
    );
    let text = "X: f32[i=2, j=3]; S[i,j] = softmax[j](X[i,j]); L[i] = logsumexp[j](X[i,j]); Z[i,j] = log_softmax[j](X[i,j])";
    let outputs: Vec<String> = ["S", "L", "Z"].map(String::from).to_vec();
    let m = parse_equations(text, &Given::default(), &outputs).expect("parses");
    let got = run(&m, &[("X", &x.expect("tensor"))]);
    close("S", &got["S"].data, &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    close("L", &got["L"].data, &[f64::NEG_INFINITY, 1e4]);
    let none = f64::NEG_INFINITY;
    close("Z", &got["Z"].data, &[none, none, none, 0.0, -2e4, none]);
}

#[test]
fn user_functions_blocks_and_hygiene() {
    let mut rng = Rng::fresh("functions");
    let (x, a) = (tensor(&mut rng, &[4]), tensor(&mut rng, &[5]));
    // `total` binds k itself: the k of its argument must survive.
    let text = "X: f32[k=4]; A: f32[j=5]
        fn total(x) = sum[k](x * X[k])
        fn scaled[j](x, by = 2) = { m = max[j](x); (x - m) * by }
        O[k, j] = total(X[k]) + scaled[j](A[j], by = 3) + total(k)";
    let got = run(&module(text), &[("X", &x), ("A", &a)]);
    let sum: f64 = x.data.iter().sum();
    let max = a.data.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
    let want: Vec<f64> = (0..20)
        .map(|n| (n / 5, n % 5))
        .map(|(k, j)| x.data[k] * sum + (a.data[j] - max) * 3.0 + k as f64 * sum)
        .collect();
    close("O", &got["O"].data, &want);
}

#[test]
fn nested_functions_do_not_multiply() {
    let mut text = String::from("X: f32[i=3]\nO[i] = ");
    text.push_str(&"silu(".repeat(20));
    text.push_str("X[i]");
    text.push_str(&")".repeat(20));
    let m = module(&text);
    let mut nodes = 0;
    for data in m.functions.values().flat_map(|f| f.values.values()) {
        if let tilewright_ir::graph::Def::Equation(ex) = &data.def {
            ex.visit(&mut |_| nodes += 1);
        }
    }
    assert!(nodes < 1000, "{nodes} nodes");
}

#[test]
fn extents_and_dtypes_come_from_given_arrays() {
    let given = Given::default().with("Q", DType::F16, &[3, 4]).with("W", DType::F16, &[5, 4]).with(
        "unused",
        DType::F64,
        &[9],
    );
    let text = "O[n, i] = sum[d](Q[i, d] * W[n, d]); P[n] = O[n, 1] * 2";
    let m = parse_equations(text, &given, &["O".into(), "P".into()]).expect("parses");
    let o = m.globals.values().find(|g| g.name == "O").expect("O");
    assert_eq!(o.dims, [Extent::Const(5), Extent::Const(3)]);
    assert_eq!(o.dtype, DType::F16);
    assert!(!m.globals.values().any(|g| g.name == "unused"));
    let only = parse_equations(text, &given, &["O".into()]).expect("parses");
    assert_eq!(only.functions.values().next().expect("one").values.len(), 3);
}

#[test]
fn symbols_have_ranges_and_take_values_from_arrays() {
    let text = "seq in 1..100; X: f32[i=seq, d=4]; Y: bf16[seq, d]\nO[i] = sum[d](X[i,d]) * seq";
    let given = Given::default().with("X", DType::F32, &[7, 4]);
    let e = parse_equations_checked(text, &given, &[]).expect("parses");
    assert_eq!(e.symbol_values.iter().map(|v| v.1).collect::<Vec<_>>(), [7]);
    let s = e.module.symbols.values().next().expect("one symbol");
    assert_eq!((s.name.as_str(), s.min, s.max), ("seq", 1, 100));
    let mut rng = Rng::fresh("symbols");
    let x = tensor(&mut rng, &[7, 4]);
    let want: Vec<f64> = x.data.chunks(4).map(|r| r.iter().sum::<f64>() * 7.0).collect();
    close("O", &run(&e.module, &[("X", &x)])["O"].data, &want);
    let too_long = Given::default().with("X", DType::F32, &[101, 4]);
    let e = parse_equations(text, &too_long, &[]).expect_err("out of range");
    assert!(e.message.contains("outside its range 1..100"), "{e}");
}

#[test]
fn what_is_wrong_is_said_where() {
    let cases = [
        ("Q: f32[i=3, d=4]; K: f32[j=5, d=6]; O[i,j] = sum[d](Q[i,d]*K[j,d])", "axes do not agree"),
        ("Q: f32[i=3, d=4]; O[d,i] = Q[d,i]", "axes do not agree"),
        ("Q: f32[i=3, d=4]; O[i] = Q[i,d]", "axis `d` is free"),
        ("Q: f32[i=3]; O[i] = sum[d](Q[d])", ""),
        ("Q: f32[i=3]; O[i] = Q[i] + Z[i]", "unknown array `Z`"),
        ("Q: f32[i=3]; O[i] = Q", "has 1 axes"),
        ("Q: f32[i=3]; O[i] = Q[i, i]", "has 1 axis"),
        ("Q: f32[i]; O[i] = Q[i]", "extent of axis `i` is not known"),
        ("Q: [i=3]; O[i] = Q[i]", "the dtype of `Q` is not known"),
        ("Q: f32[i=3]; O[i] = sofmax[i](Q[i])", "unknown function `sofmax`"),
        ("Q: f32[i=3]; O[i] = softmax(Q[i])", "needs an axis"),
        ("Q: f32[i=3]; O[i] = sum(Q[i])", "needs the axes"),
        ("Q: f32[i=3]; O[i] = exp(Q[i], 2)", "takes 1 argument"),
        ("Q: f32[i=3]; O[i] = Q[Q[i]]", "an index must be an integer"),
        ("Q: f32[i=3]; O[i] = P[i]; P[i] = Q[i]", "used before it is defined"),
        ("Q: f32[i=3]; O[i] = O[i]", "used before it is defined"),
        (
            "Q: f32[i=3]; fn f(x) = x + P[0]; O[i] = f(Q[i]); P: f32[i]; P[i] = Q[i]",
            "`P` is used before it is defined",
        ),
        ("O = P + 1; P = 2", "`P` is used before it is defined"),
        ("Q: f32[i=3]; O[i] = Q[i]; O[i] = Q[i]", "defined twice"),
        ("Q: f32[i=3]; Q: f32[i=3]; O[i] = Q[i]", "declared twice"),
        ("Q: f32[i=3]; O[i,i] = Q[i]", "named twice"),
        ("Q: f32[i=3]; O[i] = sum[i,i](Q[i])", "named twice"),
        ("Q: f32[i=3]; sum[i] = Q[i]", "primitive"),
        ("fn f(x) = g(x)\nfn g(x) = f(x)\nO = f(1)", "calls itself"),
        ("fn f(x) = x\nO = f()", "needs an argument for `x`"),
        ("fn f(x) = x\nO = f(1, 2)", "takes 1 arguments"),
        ("fn f(x, x) = x\nO = f(1, 2)", "named twice"),
        ("E: f32[t=4]; O = E[u := 1]", "not `u`"),
        ("O = 1 / 0", "division by zero"),
        ("i = 3", ""),
        ("", "defines nothing"),
        ("seq in 1..4\nseq in 1..5\nO=1", "two ranges"),
    ];
    for (text, message) in cases {
        match parse_equations(text, &Given::default(), &[]) {
            Ok(_) => assert_eq!(message, "", "{text} was accepted"),
            Err(d) => {
                assert!(!message.is_empty() && d.message.contains(message), "{text}: {d}");
                drop(d.render("text", text));
            }
        }
    }
    let given = Given::default().with("Q", DType::F16, &[3, 4]);
    for (text, message) in [
        ("Q: f32[i=3, d=4]; O[i,d] = Q[i,d]", "declared as f32, but the given array is f16"),
        ("Q: f16[i=3]; O[i] = Q[i]", "declared with 1 axes, but the given array has 2"),
        ("Q: f16[i=3, d=5]; O[i,d] = Q[i,d]", "axes do not agree"),
    ] {
        let d = parse_equations(text, &given, &[]).expect_err(text);
        assert!(d.message.contains(message), "{text}: {d}");
    }
    assert!(parse_equations("O = 1", &Given::default(), &["P".into()]).is_err());
}

/// No text may panic: valid texts with random damage.
#[test]
fn damaged_texts_are_refused_or_accepted_but_never_panic() {
    let mut rng = Rng::fresh("damage");
    let texts = [
        "Q: bf16[i=33, d=64]; K: bf16[j=20, d]\nO[i,j] = softmax[j](sum[d](Q[i,d]*K[j,d])) # x",
        "fn f(x, k=2) = { y = x*k; y+1 } where f(a)=f(a)\nX: f32[i=seq]; seq in 1..9\nO[i] = f(X[i])**2",
        "E: f32[t=11, d=7]; ids: i64[n=5]; G[n,d] = where(d <= n and not (n==2), E[t := ids[n], d], -inf)",
    ];
    let pool: Vec<char> = "()[]{};:=,.+-*/<>!&|#\n abijQKX0159e\u{e9}".chars().collect();
    for _ in 0..20_000 {
        let mut text: Vec<char> = texts[(rng.next() % 3) as usize].chars().collect();
        for _ in 0..1 + rng.next() % 4 {
            let at = (rng.next() % text.len() as u64) as usize;
            let c = pool[(rng.next() % pool.len() as u64) as usize];
            match rng.next() % 3 {
                0 => text[at] = c,
                1 => text.insert(at, c),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        match parse_equations(&text, &Given::default(), &[]) {
            Ok(m) => common::consistent(&m),
            Err(d) => drop(d.render("text", &text)),
        }
    }
}

#[test]
fn declarations_are_those_of_arrays() {
    use tilewright_frontend::equations::declarations;
    let text =
        "# Q: f16[i]\nQ: const bf16[i=3, d]; axis d=4; R: [i]; AQ: f32[d]; n in 1..3; O[i] = sum[d](Q[i,d])";
    let all = declarations(text).expect("parses");
    let all: Vec<_> = all.iter().map(|d| (d.name.as_str(), d.dtype, d.constant)).collect();
    assert_eq!(all, [("Q", Some(DType::Bf16), true), ("R", None, false), ("AQ", Some(DType::F32), false)]);
    assert!(declarations("Q: bf16[").is_err());
}

/// Every example of the grammar's text does what it says.
#[test]
fn examples_of_the_grammar() {
    let text = "Q: bf16[i=seq, d=64]; K: bf16[j=kv, d]; V: bf16[j, e=64]
        seq in 1..4096; kv in 1..4096
        S[i,j] = sum[d](Q[i,d] * K[j,d]) * 0.125
        O[i,e] = sum[j](softmax[j](where(j <= i, S[i,j], -inf)) * V[j,e])";
    let m = module(text);
    assert_eq!(m.symbols.len(), 2);
    assert_eq!(m.globals[m.outputs[0]].dtype, DType::Bf16);
    // A symbol that nothing uses need not be given a value.
    let m = module("a in 1..9; b in 1..9; X: f32[i=a]; Y: f32[k=b]; O[i] = X[i]");
    assert_eq!(m.symbols.values().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a"]);
    // Names of the library are free for arrays.
    let x = Tensor::new(&[3], vec![1.0, 2.0, 6.0]).expect("a tensor");
    let m =
        module("X: f32[i=3]; mean = mean[i](X[i]); var[i] = X[i] - mean; O[i] = var[i] * 2 + min[i] var[i]");
    close("O", &run(&m, &[("X", &x)])["O"].data, &[-6.0, -4.0, 4.0]);
    let m = module("axis k=5, n=s; O[n] = sum[k](k) * n");
    assert_eq!(m.symbols.values().map(|s| (s.min, s.max)).collect::<Vec<_>>(), [(1, 4096)]);
}

/// Random equations against their direct meaning.
#[test]
fn random_equations_mean_what_they_say() {
    let mut rng = Rng::fresh("random equations");
    for n in 0..400 {
        let case = common::grammar::case(&mut rng);
        let outputs: Vec<String> = case.outputs.iter().map(|o| o.0.clone()).collect();
        let m = parse_equations(&case.text, &Given::default(), &outputs)
            .unwrap_or_else(|d| panic!("case {n}: {}", d.render("text", &case.text)));
        let tensors: Vec<(&str, Tensor<f64>)> = case
            .inputs
            .iter()
            .filter(|i| m.globals.values().any(|g| g.name == i.0))
            .map(|(name, _, dims, data)| (name.as_str(), Tensor::new(dims, data.clone()).expect("a tensor")))
            .collect();
        let refs: Vec<(&str, &Tensor<f64>)> = tensors.iter().map(|(n, t)| (*n, t)).collect();
        let got = run(&m, &refs);
        for (name, dims, want) in &case.outputs {
            assert_eq!(got[name].dims, *dims);
            for (g, w) in got[name].data.iter().zip(want) {
                let same = g == w || (g - w).abs() <= 1e-9 * (1.0 + w.abs());
                assert!(same, "case {n}: {name} is {g}, not {w}\n{}", case.text);
            }
        }
    }
}
