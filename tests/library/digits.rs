//! Digits that a fusion may not cost: exponentials of multiples of differences, of numbers that have most digits in common,
//! against loops of this file in f64.

use tilewright::ir::plan::LocalDef;
use tilewright::ir::splitmix;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Array, Compiler, DType, DeviceSpec};

const ROWS: usize = 3;
const COLUMNS: usize = 4001;
/// What numbers have in common.
const OFFSET: f64 = 1e4;

/// Numbers within 8 of the offset, each an f32.
fn numbers(seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    (0..ROWS * COLUMNS).map(|_| f64::from((OFFSET - 8.0 * next()) as f32)).collect()
}

/// Exponents as the source says them; how far a sum of their exponentials, each times its number less the offset, is off.
fn error(text: &str, x: &[f64], exponent: impl Fn(usize, f64, f64) -> f64) -> f64 {
    let text = format!(
        "X: f32[i={ROWS}, j={COLUMNS}]; {text}; O[i] = sum[j](E[i,j] * (X[i,j] - {OFFSET})) / sum[j](E[i,j])"
    );
    let module = Compiler::equations(&text)
        .device("emulator".parse::<DeviceSpec>().expect("a device"))
        .target(Some("sm_80".to_owned()))
        .compile()
        .expect("it compiles");
    // One pass: what blocks have is moved to the maximum of all.
    let plan = &module.phases()[0].planned.compiled.plans[0].1;
    let folds = plan.kernels.iter().flat_map(|k| k.locals.values());
    let folds = folds.filter(|l| matches!(l.def, LocalDef::Fold { .. })).count();
    assert_eq!((plan.kernels.len(), folds), (1, 2), "{text}");
    let input = Array::new(DType::F32, &[ROWS as u64, COLUMNS as u64], x).expect("elements");
    let got = module.run(&[("X", &input)]).expect("it runs").output("O").expect("an output").values();
    let mut worst: f64 = 0.0;
    for (row, got) in x.chunks(COLUMNS).zip(got) {
        let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = row.iter().enumerate().map(|(j, &x)| exponent(j, x, m).exp()).collect();
        let sum: f64 = e.iter().zip(row).map(|(e, x)| e * (x - OFFSET)).sum();
        let right = sum / e.iter().sum::<f64>();
        worst = worst.max(((got - right) / right).abs());
    }
    println!("{worst:.1e} {text}");
    worst
}

#[test]
fn multiples_of_differences_keep_their_digits() {
    nvrtc();
    let seed = splitmix::fresh_seed();
    println!("SEED={seed}");
    let x = numbers(seed);
    let maximum = "M[i] = max[j](X[i,j])";
    let errors = [
        error(&format!("{maximum}; E[i,j] = exp((X[i,j] - M[i]) * 2.302585092994046)"), &x, |_, x, m| {
            std::f64::consts::LN_10 * (x - m)
        }),
        error(&format!("{maximum}; E[i,j] = exp((X[i,j] - M[i]) / 0.7)"), &x, |_, x, m| (x - m) / 0.7),
        error(&format!("{maximum}; E[i,j] = exp2(-1.3 * (M[i] - X[i,j]))"), &x, |_, x, m| {
            std::f64::consts::LN_2 * 1.3 * (x - m)
        }),
        error(
            &format!("{maximum}; E[i,j] = exp(0.3 * (X[i,j] - M[i]) + where(j < 7, -1, 0))"),
            &x,
            |j, x, m| 0.3 * (x - m) - f64::from(u8::from(j < 7)),
        ),
        error(
            "T[i,j] = where(j < 3999, X[i,j], -inf); M[i] = max[j](T[i,j]); E[i,j] = exp(2.302585092994046 * (T[i,j] - M[i]))",
            &x,
            |j, x, m| if j < 3999 { std::f64::consts::LN_10 * (x - m) } else { f64::NEG_INFINITY },
        ),
    ];
    // Differences of numbers so near are exact in f32. Of multiples of ten thousand three digits are left.
    assert!(errors.iter().all(|&e| e < 1e-5), "{errors:?}");
}
