//! What: device libm, compiled by NVRTC with its slow paths, against f64 on the host.
//! Why here: it exercises thousands of instructions whose every bit matters.
//! Pre: tests/ptx/libm.ptx.
//! Post: within the error bounds that the CUDA programming guide states (plus the host's own half unit).

use crate::common::{Arg, Machine, Rng};

/// Units in the last place of f32 between a result and an exact value.
fn ulp32(got: f32, want: f64) -> f64 {
    let w = want as f32;
    if got.is_nan() && want.is_nan() || got == w {
        return 0.0;
    }
    if !got.is_finite() || !w.is_finite() {
        return f64::INFINITY;
    }
    let e = (w.abs().max(f32::MIN_POSITIVE).log2().floor() as i32).max(-126);
    (f64::from(got) - want).abs() / 2f64.powi(e - 23)
}

fn ulp64(got: f64, want: f64) -> f64 {
    if got.is_nan() && want.is_nan() || got == want {
        return 0.0;
    }
    if !got.is_finite() || !want.is_finite() {
        return f64::INFINITY;
    }
    let key = |x: f64| if x < 0.0 { -((x.to_bits() & (u64::MAX >> 1)) as i64) } else { x.to_bits() as i64 };
    key(got).abs_diff(key(want)) as f64
}

fn inputs(g: &mut Rng, lo: f64, hi: f64, n: usize) -> Vec<f64> {
    let mut v = vec![0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    v.retain(|x| !x.is_finite() || (*x >= lo && *x <= hi));
    while v.len() < n {
        v.push(if v.len() % 3 == 0 { g.f64(lo, hi) / 1000.0 + lo.max(0.0) } else { g.f64(lo, hi) });
    }
    v
}

type F2 = fn(f64, f64) -> f64;

fn check32(name: &str, lo: f64, hi: f64, f: F2, bound: f64) {
    let mut m = Machine::new(include_str!("../ptx/libm.ptx"));
    let mut g = Rng::new(name.len() as u64 * 31 + 5);
    let n = 2000;
    let x: Vec<f32> = inputs(&mut g, lo, hi, n).into_iter().map(|v| v as f32).collect();
    let y: Vec<f32> = (0..n).map(|_| g.f64(-4.0, 4.0) as f32).collect();
    let (px, py, po) = (m.put("x", &x), m.put("y", &y), m.zeros::<f32>("o", n));
    m.run(name, n.div_ceil(128) as u32, 128, &[Arg::Ptr(px), Arg::Ptr(py), Arg::Ptr(po), Arg::I32(n as i32)]);
    for (i, got) in m.get::<f32>(po, n).into_iter().enumerate() {
        let want = f(f64::from(x[i]), f64::from(y[i]));
        let e = ulp32(got, want);
        assert!(e <= bound, "{name}({:e}, {:e}) = {got:e}, want {want:e}: {e} ulp", x[i], y[i]);
    }
}

fn check64(name: &str, lo: f64, hi: f64, f: F2, bound: f64) {
    let mut m = Machine::new(include_str!("../ptx/libm.ptx"));
    let mut g = Rng::new(name.len() as u64 * 37 + 5);
    let n = 1000;
    let x = inputs(&mut g, lo, hi, n);
    let y: Vec<f64> = (0..n).map(|_| g.f64(-4.0, 4.0)).collect();
    let (px, py, po) = (m.put("x", &x), m.put("y", &y), m.zeros::<f64>("o", n));
    m.run(name, n.div_ceil(128) as u32, 128, &[Arg::Ptr(px), Arg::Ptr(py), Arg::Ptr(po), Arg::I32(n as i32)]);
    for (i, got) in m.get::<f64>(po, n).into_iter().enumerate() {
        let want = f(x[i], y[i]);
        let e = ulp64(got, want);
        assert!(e <= bound, "{name}({:e}, {:e}) = {got:e}, want {want:e}: {e} ulp", x[i], y[i]);
    }
}

#[test]
fn single_precision() {
    check32("k_expf", -110.0, 90.0, |a, _| a.exp(), 2.5);
    check32("k_exp2f", -150.0, 129.0, |a, _| a.exp2(), 2.5);
    check32("k_logf", -2.0, 1e6, |a, _| a.ln(), 1.5);
    check32("k_log2f", -2.0, 1e6, |a, _| a.log2(), 1.5);
    check32("k_sqrtf", -1.0, 1e9, |a, _| a.sqrt(), 0.5001);
    check32("k_rsqrtf", 0.0, 1e9, |a, _| 1.0 / a.sqrt(), 2.0);
    check32("k_tanhf", -12.0, 12.0, |a, _| a.tanh(), 2.5);
    check32("k_sinf", -100.0, 100.0, |a, _| a.sin(), 2.5);
    check32("k_cosf", -100.0, 100.0, |a, _| a.cos(), 2.5);
    check32("k_sinf", -1e7, 1e7, |a, _| a.sin(), 2.5);
    check32("k_cosf", -1e30, 1e30, |a, _| a.cos(), 2.5);
    check32("k_powf", 0.0, 300.0, f64::powf, 5.0);
    check32("k_log1pf", -0.9, 100.0, |a, _| a.ln_1p(), 2.0);
    check32("k_expm1f", -20.0, 80.0, |a, _| a.exp_m1(), 2.0);
    check32("k_fmodf", -1e6, 1e6, |a, b| a % b, 0.0);
    check32("k_divf", -1e6, 1e6, |a, b| a / b, 0.5001);
    check32("k_atan2f", -10.0, 10.0, f64::atan2, 3.5);
    check32("k_cbrtf", -1e6, 1e6, |a, _| a.cbrt(), 1.5);
}

#[test]
fn exact_single_precision() {
    check32("k_floorf", -1e3, 1e3, |a, _| a.floor(), 0.0);
    check32("k_ceilf", -1e3, 1e3, |a, _| a.ceil(), 0.0);
    check32("k_truncf", -1e3, 1e3, |a, _| a.trunc(), 0.0);
    check32("k_roundf", -1e3, 1e3, |a, _| a.round(), 0.0);
    check32("k_rintf", -1e3, 1e3, |a, _| a.round_ties_even(), 0.0);
    check32("k_fminf", -10.0, 10.0, f64::min, 0.0);
    check32("k_fmaxf", -10.0, 10.0, f64::max, 0.0);
    check32("k_copysignf", -10.0, 10.0, f64::copysign, 0.0);
}

#[test]
fn double_precision() {
    check64("k_exp", -700.0, 700.0, |a, _| a.exp(), 2.0);
    check64("k_exp2", -1000.0, 1000.0, |a, _| a.exp2(), 2.0);
    check64("k_log", -1.0, 1e9, |a, _| a.ln(), 2.0);
    check64("k_log2", -1.0, 1e9, |a, _| a.log2(), 3.0);
    check64("k_sqrt", -1.0, 1e9, |a, _| a.sqrt(), 0.0);
    check64("k_rsqrt", 0.0, 1e9, |a, _| 1.0 / a.sqrt(), 2.0);
    check64("k_tanh", -20.0, 20.0, |a, _| a.tanh(), 3.0);
    check64("k_sin", -1e3, 1e3, |a, _| a.sin(), 3.0);
    check64("k_cos", -1e15, 1e15, |a, _| a.cos(), 3.0);
    check64("k_pow", 0.0, 300.0, f64::powf, 3.0);
    check64("k_div", -1e9, 1e9, |a, b| a / b, 0.0);
    check64("k_fmod", -1e9, 1e9, |a, b| a % b, 0.0);
}

/// The fast functions have absolute or relative bounds of their own.
#[test]
fn approximate() {
    check32("k_fast_expf", -20.0, 20.0, |a, _| a.exp(), 40.0);
    check32("k_fast_divf", -1e6, 1e6, |a, b| a / b, 2.0);
    check32("k_fast_sinf", 0.5, 2.5, |a, _| a.sin(), 8.0);
}

/// Directed rounding brackets the exact value.
#[test]
fn directed() {
    let mut m = Machine::new(include_str!("../ptx/libm.ptx"));
    let mut g = Rng::new(99);
    let n = 4096;
    let x: Vec<f32> = (0..n).map(|_| f32::from_bits(g.u32() & 0xbfff_ffff)).collect();
    let y: Vec<f32> = (0..n).map(|_| f32::from_bits(g.u32() & 0xbfff_ffff)).collect();
    let (px, py, po) = (m.put("x", &x), m.put("y", &y), m.zeros::<f32>("o", n));
    let run = |name: &str| -> Vec<f32> {
        m.run(name, 32, 128, &[Arg::Ptr(px), Arg::Ptr(py), Arg::Ptr(po), Arg::I32(n as i32)]);
        m.get(po, n)
    };
    let (mul, add, div) = (run("k_fmul_rd"), run("k_fadd_ru"), run("k_fdiv_rd"));
    for i in 0..n {
        let (a, b) = (f64::from(x[i]), f64::from(y[i]));
        if x[i].is_nan() || y[i].is_nan() {
            continue;
        }
        let exact = a * b;
        let r = f64::from(mul[i]);
        assert!(r <= exact && (f64::from(mul[i].next_up()) > exact || r == exact), "{a:e} * {b:e} = {r:e}");
        let r = f64::from(add[i]);
        assert!(r >= a + b || (a + b - r).abs() < 1e-14 * r.abs(), "{a:e} + {b:e} = {r:e}");
        assert!(f64::from(add[i].next_down()) <= a + b);
        let q = a / b;
        let r = f64::from(div[i]);
        assert!(q.is_nan() && r.is_nan() || r <= q, "{a:e} / {b:e} = {r:e}");
    }
}
