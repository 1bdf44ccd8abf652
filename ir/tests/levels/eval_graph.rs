//! The evaluator on graphs, against an oracle that walks expressions element by element, and its speed.

use std::sync::Arc;
use std::time::Instant;

use crate::common::random::{Generator, SYMBOLS, params};
use crate::common::{Rng, naive, seed};
use tilewright_ir::eval::{EvalError, Evaluator, F64, Rounded, Symbols, Tensor, bind_symbols, eval_function};
use tilewright_ir::expr::build::*;
use tilewright_ir::graph::{Arg, Call, Function, GlobalData, GlobalKind, Module, ParamKind, Table};
use tilewright_ir::{Binary, DType, Extent, Reduction, SymData, Unary};

fn close(what: &str, got: &Tensor<f64>, want: &Tensor<f64>, tolerance: f64) {
    assert_eq!(got.dims, want.dims, "{what}");
    let scale = want.data.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (g, w)) in got.data.iter().zip(&want.data).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= tolerance * scale;
        assert!(same, "{what}: element {i} is {g}, should be {w}");
    }
}

#[test]
fn random_functions_agree_with_the_oracle() {
    let seed = seed();
    for n in 0..1500 {
        let mut rng = Rng(seed.wrapping_add(n));
        let f = Generator::function(&mut rng, "f");
        let symbols: Vec<u64> = (0..SYMBOLS).map(|_| rng.below(6) as u64).collect();
        let inputs = params(&mut rng, &f, &symbols);
        let (results, states) = naive::eval(&f, &symbols, &inputs);
        let table: Symbols = symbols.iter().copied().collect();
        let outcome = eval_function(&F64, &f, &table, inputs.into_iter().map(Arc::new).collect())
            .unwrap_or_else(|e| panic!("program {n}: {e}\n{f:#?}"));
        for (i, (got, want)) in outcome.results.iter().zip(&results).enumerate() {
            close(&format!("program {n} result {i}"), got, want, 1e-8);
        }
        assert_eq!(outcome.states.len(), states.len());
        for ((v, got), want) in outcome.states.iter().zip(&states) {
            close(&format!("program {n} state {v}"), got, want, 1e-8);
        }
    }
}

fn one(f: Function, inputs: Vec<Tensor<f64>>) -> Tensor<f64> {
    let out = eval_function(&F64, &f, &Symbols::new(), inputs.into_iter().map(Arc::new).collect());
    (*out.expect("a valid function").results[0]).clone()
}

#[test]
fn corners_of_the_meaning() {
    // Reductions over nothing, indices outside, sides not taken, long vectors that are no multiple of anything.
    let mut f = Function::default();
    let (i, z, n) =
        (f.axis("i", Extent::Const(3)), f.axis("z", Extent::Const(0)), f.axis("n", Extent::Const(1031)));
    let x = f.param("x", ParamKind::Input, DType::F64, &[n]);
    let e = f.param("e", ParamKind::Input, DType::F64, &[z]);
    let max = f.define("", DType::F64, &[i], reduce(Reduction::Max, vec![z], at(e, &[z])));
    let sum = f.define("", DType::F64, &[i], sum(&[z], at(e, &[z])));
    let shifted = read(x, vec![add(pos(n), num(1000.0))]);
    let s = f.define("", DType::F64, &[], tilewright_ir::expr::build::sum(&[n], shifted));
    let log = unary(Unary::Log, sub(pos(n), num(5.0)));
    let guarded = f.define("", DType::F64, &[n], select(binary(Binary::Gt, pos(n), num(5.0)), log, num(0.0)));
    f.results = vec![max, sum, s, guarded];
    let data: Vec<f64> = (0..1031).map(f64::from).collect();
    let inputs =
        vec![Arc::new(Tensor::new(&[1031], data).unwrap()), Arc::new(Tensor::new(&[0], vec![]).unwrap())];
    let out = eval_function(&F64, &f, &Symbols::new(), inputs).unwrap();
    assert_eq!(out.results[0].data, vec![f64::NEG_INFINITY; 3]);
    assert_eq!(out.results[1].data, vec![0.0; 3]);
    assert_eq!(out.results[2].data, vec![(1000..1031).map(f64::from).sum::<f64>()]);
    assert!(out.results[3].data.iter().all(|x| !x.is_nan()));
}

#[test]
fn rounding_happens_where_types_say() {
    let mut f = Function::default();
    let i = f.axis("i", Extent::Const(1));
    let x = f.param("x", ParamKind::Input, DType::F32, &[i]);
    let third = f.define("", DType::F32, &[i], binary(Binary::Div, at(x, &[i]), num(3.0)));
    let narrow = f.define("", DType::Bf16, &[i], at(third, &[i]));
    let big = f.define("", DType::I64, &[i], add(num(16_777_216.0), add(pos(i), num(1.0))));
    f.results = vec![third, narrow, big];
    let input = || vec![Arc::new(Tensor::new(&[1], vec![1.0]).unwrap())];
    let exact = eval_function(&F64, &f, &Symbols::new(), input()).unwrap().results;
    let rounded = eval_function(&Rounded, &f, &Symbols::new(), input()).unwrap().results;
    assert_eq!(exact[0].data[0], 1.0 / 3.0);
    assert_eq!(rounded[0].data[0], f64::from(1.0f32 / 3.0));
    assert_eq!(rounded[1].data[0], DType::Bf16.round(f64::from(1.0f32 / 3.0)));
    // Integers stay exact where single precision would not be.
    assert_eq!(rounded[2].data[0], 16_777_217.0);
}

/// A rolled accumulator with a state, as a decode step has.
#[test]
fn modules_roll_calls_and_keep_states() {
    let mut m = Module::default();
    let past = m.symbols.push(SymData { name: "past".to_owned(), min: 0, max: 3 });
    let kv = m.symbols.push(SymData { name: "kv".to_owned(), min: 1, max: 4 });
    let mut f = Function { name: "layer".to_owned(), ..Function::default() };
    let (i, c, j) =
        (f.axis("i", Extent::Const(1)), f.axis("c", Extent::Const(4)), f.axis("j", Extent::Sym(kv)));
    let h = f.param("h", ParamKind::Input, DType::F64, &[i]);
    let w = f.param("w", ParamKind::Weight, DType::F64, &[i]);
    let cache = f.param("cache", ParamKind::State, DType::F64, &[c]);
    let new = f.update(
        "new",
        cache,
        &[i],
        vec![add(size(Extent::Sym(past)), pos(i))],
        mul(at(h, &[i]), at(w, &[i])),
    );
    let out = f.define("out", DType::F64, &[i], sum(&[j], read(new, vec![pos(j)])));
    f.results = vec![out];
    let func = m.functions.push(f);
    let global = |m: &mut Module, name: &str, kind, dims: &[u64]| {
        m.globals.push(GlobalData {
            name: name.to_owned(),
            dtype: DType::F64,
            dims: dims.iter().map(|&n| Extent::Const(n)).collect(),
            kind,
        })
    };
    let x = global(&mut m, "x", GlobalKind::Input, &[1]);
    let w0 = global(&mut m, "w0", GlobalKind::Weight("w.0".to_owned()), &[1]);
    let w1 = global(&mut m, "w1", GlobalKind::Table(Table::Values(vec![3.0])), &[1]);
    let (c0, c1) =
        (global(&mut m, "c0", GlobalKind::State, &[4]), global(&mut m, "c1", GlobalKind::State, &[4]));
    let y = global(&mut m, "y", GlobalKind::Temp, &[1]);
    m.program.push(Call {
        func,
        count: 2,
        args: vec![Arg::Carried(x, 0), Arg::PerIteration(vec![w0, w1]), Arg::PerIteration(vec![c0, c1])],
        results: vec![y],
    });
    m.outputs = vec![y];
    let mut e = Evaluator::new(F64, &m, |name| {
        if name == "w.0" { Ok(vec![2.0]) } else { Err("there is no such tensor".to_owned()) }
    });
    // By hand: cache0 gets 2 x, its sum so far goes on; cache1 gets 3 times that.
    let (mut sum0, mut sum1) = (0.0, 0.0);
    for (t, x) in [5.0, 7.0, -1.0].into_iter().enumerate() {
        let symbols = bind_symbols(&m.symbols, &[("past", t as u64), ("kv", t as u64 + 1)]).unwrap();
        let got = e.run(&symbols, &[("x", Tensor::new(&[1], vec![x]).unwrap())]).unwrap();
        sum0 += 2.0 * x;
        sum1 += 3.0 * sum0;
        assert_eq!(got[0].data, vec![sum1]);
    }
    assert_eq!(e.state("c0").unwrap().data, vec![10.0, 14.0, -2.0, 0.0]);
    e.reset();
    let symbols = bind_symbols(&m.symbols, &[("past", 0), ("kv", 1)]).unwrap();
    assert_eq!(e.run(&symbols, &[("x", Tensor::new(&[1], vec![1.0]).unwrap())]).unwrap()[0].data, vec![6.0]);
    assert!(matches!(e.run(&symbols, &[]), Err(EvalError::Missing { what }) if what == "x"));
    assert!(matches!(
        e.run(&symbols, &[("x", Tensor::new(&[2], vec![1.0, 2.0]).unwrap())]),
        Err(EvalError::Dims { .. })
    ));
    assert!(matches!(
        bind_symbols(&m.symbols, &[("past", 0), ("kv", 9)]),
        Err(EvalError::SymbolRange { .. })
    ));
    assert!(matches!(bind_symbols(&m.symbols, &[("kv", 2)]), Err(EvalError::NoSymbol { .. })));
    assert!(matches!(bind_symbols(&m.symbols, &[("q", 2)]), Err(EvalError::UnknownSymbol { .. })));
}

/// A contraction of 8 million weights with 24 rows, in both orders of the weight's axes.
#[test]
fn large_contractions_are_fast() {
    // Unoptimised code only checks the numbers.
    let (ks, ns) = if cfg!(debug_assertions) { (203, 401) } else { (2003, 4001) };
    for transposed in [false, true] {
        let mut f = Function::default();
        let (i, k, n) = (
            f.axis("i", Extent::Const(24)),
            f.axis("k", Extent::Const(ks as u64)),
            f.axis("n", Extent::Const(ns as u64)),
        );
        let x = f.param("x", ParamKind::Input, DType::F64, &[i, k]);
        let axes = if transposed { [k, n] } else { [n, k] };
        let w = f.param("w", ParamKind::Weight, DType::F64, &axes);
        let y = f.define("y", DType::F64, &[i, n], sum(&[k], mul(at(x, &[i, k]), at(w, &axes))));
        f.results = vec![y];
        let xs = Tensor::from_fn(&[24, ks], |at| ((at[0] * 31 + at[1] * 7) % 11) as f64 - 5.0);
        let wv = |n: usize, k: usize| ((n * 13 + k * 3) % 17) as f64 - 8.0;
        let ws = if transposed {
            Tensor::from_fn(&[ks, ns], |at| wv(at[1], at[0]))
        } else {
            Tensor::from_fn(&[ns, ks], |at| wv(at[0], at[1]))
        };
        let want: f64 = (0..ks).map(|k| xs.get(&[23, k]).unwrap() * wv(ns - 1, k)).sum();
        let start = Instant::now();
        let got = one(f, vec![xs, ws]);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(*got.get(&[23, ns - 1]).unwrap(), want);
        if !cfg!(debug_assertions) {
            assert!(seconds < 2.0, "took {seconds} s");
        }
        #[allow(clippy::print_stdout)]
        {
            println!("transposed {transposed}: {seconds:.3} s");
        }
    }
}
