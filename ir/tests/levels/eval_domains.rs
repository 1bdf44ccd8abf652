//! The exact-identity and the range domains.

use std::sync::Arc;

use crate::common::random::{Generator, SYMBOLS, params};
use crate::common::{Rng, seed};
use tilewright_ir::eval::{
    Domain, F64, Field, FieldValue, Interval, Range, Sort, Symbols, Tensor, eval_function, eval_plan,
};
use tilewright_ir::text::{parse_module, parse_plans};
use tilewright_ir::{Binary, Unary};

const SOURCE: &str = "
graph @f(s: f32[i=3, j=13] input, v: f32[j, e=2] input) {
    m[i]: f32 = max[j](s[i,j] * 0.125)
    o[i,e]: f32 = sum[j](exp(s[i,j] * 0.125 - m[i]) * v[j,e]) * inv(sum[j](exp(s[i,j] * 0.125 - m[i])))
    return o
}";

/// One pass, with the scale taken out of the maximum, and the division left to the end.
const FUSED: &str = "
plan @f(s: f32[i=3, j=13] input, v: f32[j, e=2] input) {
    o[i,e]: f32 = 0
    temps 3
    return o
    kernel @o over [i,e] {
        t0[i] = block max[j] s[i,j]
        t1[i] = running max[j] t0
        t2[i,j] = exp(0.125 * (s[i,j] - t0))
        t3[i] = block sum[j] t2
        t4[i,e] = block sum[j] t2 * v[j,e]
        t5[i] = fold sum[j] t3 moves t5 * exp(0.125 * t0) / exp(t1 * 0.125) tracks [t0 -> t1]
        t6[i,e] = fold sum[j] t4 moves t6 * exp(0.125 * (t0 - t1)) tracks [t0 -> t1]
        store o[i,e] over [i,e] = t6 / t5
    }
}";

fn inputs(rng: &mut Rng, field: &Field) -> Vec<Arc<Tensor<FieldValue>>> {
    [vec![3, 13], vec![13, 2]]
        .iter()
        .map(|d| Arc::new(Tensor::from_fn(d, |_| field.num(rng.real() * 5.0 + 1e-9 * rng.real()))))
        .collect()
}

fn same(a: &Tensor<FieldValue>, b: &Tensor<FieldValue>) -> bool {
    a.data.iter().zip(&b.data).all(|(x, y)| x.same(y))
}

#[test]
fn identities_hold_exactly_and_errors_show() {
    let module = parse_module(SOURCE).unwrap_or_else(|e| panic!("{}", e.render("f", SOURCE)));
    let f = module.functions.values().next().unwrap();
    let seed = seed();
    let mut rng = Rng(seed);
    let field = Field { key: rng.next() };
    let xs = inputs(&mut rng, &field);
    let none = Symbols::new();
    let want = eval_function(&field, f, &none, xs.clone()).unwrap().results[0].clone();
    assert!(want.data.iter().all(|x| !x.is_outside()));
    // The shadow is the real result.
    let reals: Vec<_> = xs.iter().map(|t| Arc::new(t.map(FieldValue::shadow))).collect();
    let real = eval_function(&F64, f, &none, reals).unwrap().results[0].clone();
    assert!(want.data.iter().zip(&real.data).all(|(x, y)| (x.shadow() - y).abs() < 1e-9));
    for block in [1, 2, 4, 5, 13, 64] {
        let plans = parse_plans(FUSED).unwrap_or_else(|e| panic!("{}", e.render("f", FUSED)));
        let got = eval_plan(&field, &plans.plans[0], &none, xs.clone(), block).unwrap();
        assert!(same(&got.results[0], &want), "block {block}");
    }
    // Mistakes that real arithmetic with a tolerance could miss on tame inputs.
    for (right, wrong) in [
        ("moves t6 * exp(0.125 * (t0 - t1))", "moves t6"),
        ("t6 * exp(0.125 * (t0 - t1))", "t6 * exp(0.1250000001 * (t0 - t1))"),
        ("exp(0.125 * (s[i,j] - t0))", "exp2(0.125 * (s[i,j] - t0))"),
        ("= t6 / t5", "= t6 / (t5 + 1e-12)"),
    ] {
        assert!(FUSED.contains(right));
        let plans = parse_plans(&FUSED.replace(right, wrong)).unwrap();
        let got = eval_plan(&field, &plans.plans[0], &none, xs.clone(), 4).unwrap();
        assert!(!same(&got.results[0], &want), "{wrong} was not noticed");
    }
}

#[test]
fn what_is_outside_says_so() {
    let field = Field { key: seed() };
    let e = |x| field.unary(Unary::Exp, Sort::F32, x);
    let (a, b) = (field.num(0.3), field.num(-1.7));
    let add = |x, y| field.binary(Binary::Add, Sort::F32, x, y);
    let mul = |x, y| field.binary(Binary::Mul, Sort::F32, x, y);
    assert!(e(add(a, b)).same(&mul(e(a), e(b))));
    // Exponentials of exponentials: equal for equal arguments, and no law but that of the sign.
    let neg = |x| field.unary(Unary::Neg, Sort::F32, x);
    let inv = |x| field.unary(Unary::Inv, Sort::F32, x);
    assert!(e(e(a)).is_loose() && !e(a).is_loose());
    assert!(e(e(a)).same(&e(mul(e(add(a, b)), e(neg(b))))));
    assert!(e(neg(e(a))).same(&inv(e(e(a)))));
    assert!(!e(add(e(a), e(b))).same(&mul(e(e(a)), e(e(b)))) && e(add(e(a), e(b))).is_loose());
    // Logarithms of products with exponentials and of quotients, and exponentials of sums with logarithms.
    let log = |x| field.unary(Unary::Log, Sort::F32, x);
    let c = field.num(2.3);
    assert!(log(add(e(a), c)).same(&log(add(c, e(a)))) && !log(add(e(a), c)).is_loose());
    assert!(!log(mul(e(a), c)).same(&add(a, log(c))) && log(mul(e(a), c)).is_loose());
    assert!(!log(inv(c)).same(&neg(log(c))) && log(inv(c)).is_loose());
    assert!(!e(add(a, log(c))).same(&mul(e(a), c)) && e(add(a, log(c))).is_loose());
    let infinite = field.num(f64::INFINITY);
    assert!(add(infinite, neg(infinite)).is_outside());
    assert!(!add(infinite, neg(infinite)).same(&add(infinite, neg(infinite))));
    assert!(e(field.num(f64::NEG_INFINITY)).same(&field.num(0.0)));
    assert!(field.unary(Unary::Inv, Sort::F32, field.num(0.0)).is_outside());
    assert!(mul(field.num(0.0), field.num(f64::INFINITY)).is_outside());
    // Literals are the fractions that they were meant to be.
    assert!(mul(field.num(0.1), field.num(8.0)).same(&field.num(0.8)));
    assert!(mul(field.num(1e-300), field.num(2f64.powi(60))).same(&field.num(1e-300 * 2f64.powi(60))));
    let third = field.binary(Binary::Div, Sort::F32, field.num(1.0), field.num(3.0));
    assert!(add(add(third, third), third).same(&field.num(1.0)));
    assert!(third.same(&field.num(1.0 / 3.0)));
    // Functions without a law are fixed, and differ.
    let tanh = |x| field.unary(Unary::Tanh, Sort::F32, x);
    assert!(tanh(a).same(&tanh(add(add(a, b), field.unary(Unary::Neg, Sort::F32, b)))));
    assert!(!tanh(a).same(&tanh(b)));
}

#[test]
fn ranges_hold_every_value() {
    let seed = seed();
    let mut narrow = 0;
    for n in 0..400 {
        let mut rng = Rng(seed.wrapping_add(n));
        let f = Generator::function(&mut rng, "f");
        let symbols: Vec<u64> = (0..SYMBOLS).map(|_| rng.below(6) as u64).collect();
        let table: Symbols = symbols.iter().copied().collect();
        let inputs = params(&mut rng, &f, &symbols);
        let exact = eval_function(&F64, &f, &table, inputs.iter().cloned().map(Arc::new).collect()).unwrap();
        let ranges: Vec<_> = inputs
            .iter()
            .zip(f.params())
            .map(|(t, v)| {
                let ints = f.values[v].dtype.is_int();
                Arc::new(t.map(|&x| {
                    let w = if ints { 0.0 } else { 0.01 };
                    Range::new(x - w, x + w)
                }))
            })
            .collect();
        let got = eval_function(&Interval, &f, &table, ranges).unwrap();
        for (t, r) in exact.results.iter().zip(&got.results) {
            for (x, r) in t.data.iter().zip(&r.data) {
                assert!(x.is_nan() || r.contains(*x), "program {n}: {x} is not in {r:?}");
                narrow += usize::from(r.high - r.low < 10.0);
            }
        }
    }
    assert!(narrow > 1000, "the ranges say nothing: {narrow}");
}

/// What overflows in f64 is finite: a range holds it, and what is computed of it.
#[test]
fn what_overflows_is_large() {
    let log_exp = |x: f64| {
        let e = Interval.unary(Unary::Exp, Sort::F64, Range::point(x));
        Interval.unary(Unary::Log, Sort::F64, e)
    };
    for x in [3.0, 709.0, 1000.0, 1e300] {
        assert!(log_exp(x).contains(x), "{x}: {:?}", log_exp(x));
    }
    assert!(log_exp(3.0).high < 3.001 && log_exp(1000.0).low > 709.0);
    let double = |x: f64| Interval.binary(Binary::Add, Sort::F64, Range::point(x), Range::point(x));
    assert_eq!(double(f64::MAX), Range::new(f64::MAX.next_down().next_down(), f64::INFINITY));
    assert_eq!(double(f64::INFINITY), Range::point(f64::INFINITY));
    let large = Interval.binary(Binary::Mul, Sort::F64, Range::point(1e200), Range::point(-1e200));
    assert!(large.low == f64::NEG_INFINITY && large.high.is_finite() && large.high < -1e308, "{large:?}");
}

/// What is read or written at an index of which only a range is known may be anything; at any other it is as it was.
#[test]
fn an_index_that_is_a_range_is_nowhere() {
    let text = "graph @f(k: i32[] input, x: f32[i=3] input, s: f32[p=3] state, o: f32[n=1] input) {
    y[]: f32 = x[k[]]
    z[i]: f32 = x[where(i == 0, k[], i)]
    t[p]: f32 = update s over [n] at [k[]] with o[n]
    return y, z, t
}";
    let module = parse_module(text).unwrap_or_else(|e| panic!("{}", e.render("f", text)));
    let f = module.functions.values().next().unwrap();
    let eight = Arc::new(Tensor { dims: vec![1], data: vec![Range::point(8.0)] });
    let run = |k: Range| {
        let row = |x: [f64; 3]| Arc::new(Tensor { dims: vec![3], data: x.map(Range::point).to_vec() });
        let one = |x: Range| Arc::new(Tensor { dims: vec![], data: vec![x] });
        let inputs = vec![one(k), row([2.0, 3.0, 4.0]), row([5.0, 6.0, 7.0]), eight.clone()];
        let out = eval_function(&Interval, f, &Symbols::default(), inputs).unwrap();
        out.results.iter().map(|t| t.data.clone()).collect::<Vec<_>>()
    };
    let p = Range::point;
    assert_eq!(run(p(1.0)), [vec![p(3.0)], vec![p(3.0), p(3.0), p(4.0)], vec![p(5.0), p(8.0), p(7.0)]]);
    assert_eq!(
        run(Range::new(0.0, 1.0)),
        [vec![Range::ALL], vec![Range::ALL, p(3.0), p(4.0)], vec![Range::ALL; 3]]
    );
}
