//! The accuracy of the scalar functions in f32 and f64, on the emulator.

use crate::common::*;
use tilewright_ir::expr::build as ex;
use tilewright_ir::{Binary, DType, Ex, Unary};

/// Evaluates an expression of one input on many values; returns what the kernel gives.
fn sample(dtype: DType, values: &[f64], e: impl Fn(Ex) -> Ex) -> Vec<f64> {
    let mut b = Builder::new("sampled", 4);
    let n = b.grid("n", values.len() as u64, 512);
    let (x, o) = (b.buffer("x", dtype, &[n], false), b.buffer("o", dtype, &[n], true));
    let tx = b.load(x, &[n]);
    let y = b.map(dtype, &[n], e(t(tx)));
    b.store(o, &[n], y);
    let (p, symbols) = b.finish();
    run(&p, &symbols, &vec![], &[values.to_vec(), vec![0.0; values.len()]]).buffers.remove(1)
}

fn range(rng: &mut Rng, lo: f64, hi: f64, count: usize) -> Vec<f64> {
    (0..count).map(|_| lo + (hi - lo) * rng.unit()).collect()
}

#[test]
fn functions_are_accurate() {
    let mut rng = Rng::fresh("functions");
    type Function = fn(f64) -> f64;
    let table: [(Unary, Function, f64, f64, f64); 14] = [
        (Unary::Exp, f64::exp, -87.0, 88.0, 3e-7),
        (Unary::Exp, f64::exp, -1e-3, 1e-3, 3e-7),
        (Unary::Exp2, f64::exp2, -126.0, 127.0, 3e-7),
        (Unary::Log, f64::ln, 1e-30, 1e30, 3e-7),
        (Unary::Log, f64::ln, 0.5, 2.0, 3e-7),
        (Unary::Sqrt, f64::sqrt, 0.0, 1e20, 1e-7),
        (Unary::Rsqrt, |x| 1.0 / x.sqrt(), 1e-20, 1e20, 3e-7),
        (Unary::Tanh, f64::tanh, -12.0, 12.0, 3e-7),
        (Unary::Tanh, f64::tanh, -0.1, 0.1, 3e-7),
        (Unary::Sin, f64::sin, -10.0, 10.0, 3e-7),
        (Unary::Sin, f64::sin, -1e6, 1e6, 3e-7),
        (Unary::Cos, f64::cos, -1e5, 1e5, 3e-7),
        (Unary::Inv, |x| 1.0 / x, 1e-3, 1e3, 1e-7),
        (Unary::Floor, f64::floor, -1e3, 1e3, 0.0),
    ];
    for (dtype, scale) in [(DType::F32, 1.0), (DType::F64, 1e-8)] {
        for (f, reference, lo, hi, tolerance) in table {
            let x: Vec<f64> = range(&mut rng, lo, hi, 4096).into_iter().map(|x| dtype.round(x)).collect();
            let got = sample(dtype, &x, |e| ex::unary(f, e));
            for (g, &x) in got.iter().zip(&x) {
                let want = reference(x);
                // Sines are judged by their amplitude near zeros.
                let size =
                    if matches!(f, Unary::Sin | Unary::Cos) { want.abs().max(0.1) } else { want.abs() };
                let error = (g - want).abs();
                assert!(
                    error <= tolerance * scale * size + 1e-37,
                    "{f:?}({x:e}) in {dtype} is {g:e}, not {want:e}"
                );
            }
        }
    }
}

#[test]
fn special_values() {
    let inf = f64::INFINITY;
    for dtype in [DType::F32, DType::F64] {
        let one = |x: f64, e: &dyn Fn(Ex) -> Ex| sample(dtype, &[x], e)[0];
        assert_eq!(one(-inf, &|x| ex::unary(Unary::Exp, x)), 0.0);
        assert_eq!(one(-inf, &|x| ex::unary(Unary::Exp2, x)), 0.0);
        assert_eq!(one(-1e4, &|x| ex::unary(Unary::Exp, x)), 0.0);
        assert_eq!(one(1e4, &|x| ex::unary(Unary::Exp, x)), inf);
        assert_eq!(one(0.0, &|x| ex::unary(Unary::Log, x)), -inf);
        assert_eq!(one(1e30, &|x| ex::unary(Unary::Tanh, x)), 1.0);
        assert_eq!(one(-inf, &|x| ex::binary(Binary::Max, x, ex::num(-2.5))), -2.5);
        assert!(one(f64::NAN, &|x| ex::add(x, ex::num(1.0))).is_nan());
        // The side that is not taken has no effect.
        let guarded = |x: Ex| {
            let positive = ex::binary(Binary::Gt, x.clone(), ex::num(0.0));
            ex::select(positive, ex::unary(Unary::Log, x), ex::num(7.0))
        };
        assert_eq!(one(-3.0, &guarded), 7.0);
    }
}

/// NVRTC folds constants that are not finite: `0 + nan` has been taken for a number that equals itself. Whether it does
/// so depends on what else is in the source, so each case is a kernel of its own.
#[test]
fn constants_that_are_not_finite_are_not_folded_into_numbers() {
    let nothing = |x: &Ex| ex::sub(x.clone(), x.clone());
    let inf = || ex::num(f64::INFINITY);
    type Make<'a> = &'a dyn Fn(Ex) -> Ex;
    let table: [(&str, Make); 5] = [
        ("0 + nan", &|z| ex::add(z, ex::num(f64::NAN))),
        ("0 * nan", &|z| ex::mul(z, ex::num(f64::NAN))),
        ("0 * inf", &|z| ex::mul(z, inf())),
        ("inf - inf + 0", &|z| ex::add(ex::sub(inf(), inf()), z)),
        ("0 + 1 + nan", &|z| ex::add(ex::add(z, ex::num(1.0)), ex::num(f64::NAN))),
    ];
    for result in [DType::F32, DType::F64] {
        for (name, make) in table {
            let mut b = Builder::new("folded", 1);
            let n = b.grid("n", 32, 32);
            let (x, o) = (b.buffer("x", DType::I64, &[n], false), b.buffer("o", result, &[n], true));
            let tx = b.load(x, &[n]);
            let odd = || make(nothing(&t(tx)));
            let same = ex::binary(Binary::Eq, odd(), odd());
            let number = ex::select(same, odd(), ex::num(0.0));
            let y = b.map(result, &[n], ex::binary(Binary::Max, number, ex::num(-8.0)));
            b.store(o, &[n], y);
            let (p, symbols) = b.finish();
            let out = run(&p, &symbols, &vec![], &[vec![3.0; 32], vec![7.0; 32]]).buffers.remove(1);
            assert_eq!(out, [0.0; 32], "{name} equals itself in {result}");
        }
    }
}

/// Products that are added are fused: the rounding error of a square is recovered exactly.
#[test]
fn contraction_is_explicit() {
    let x = f64::from(1.0f32 + f32::EPSILON * 1025.0);
    let error = sample(DType::F32, &[x], |x| {
        let rounded = ex::cast(DType::F32, ex::mul(x.clone(), x.clone()));
        ex::sub(ex::mul(x.clone(), x), rounded)
    })[0];
    assert_eq!(error, x * x - f64::from((x * x) as f32));
    assert_ne!(error, 0.0);
}
