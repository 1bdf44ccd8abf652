//! Sums of what is relative to a maximum, which move with one another where the maximum does: entropies, divergences and losses
//! in one pass on the emulator, against loops of this file in f64. Offsets that leave few digits, values that are far apart or
//! all equal, one position, primes, passes that are cut into runs of which some are empty, masks.

use tilewright::runtime::testing::nvrtc;
use tilewright::{Array, Compiler, DType, DeviceSpec};

/// What an element is relative to the largest of its row: itself, and its exponential in the sum of all.
struct Softmax {
    near: Vec<f64>,
    sum: f64,
}

impl Softmax {
    fn of(row: &[f64]) -> Softmax {
        let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let near: Vec<f64> = row.iter().map(|x| x - m).collect();
        let sum = near.iter().map(|d| d.exp()).sum();
        Softmax { near, sum }
    }
    fn weight(&self, j: usize) -> f64 {
        self.near[j].exp() / self.sum
    }
    fn log(&self, j: usize) -> f64 {
        self.near[j] - self.sum.ln()
    }
    /// What a position adds where its weight may be 0.
    fn weighed(&self, j: usize, x: f64) -> f64 {
        if self.weight(j) == 0.0 { 0.0 } else { self.weight(j) * x }
    }
}

type Row<'a> = &'a [f64];
/// Equations, and the same of a row as a loop.
type Form = (&'static str, fn(Row<'_>, Row<'_>) -> f64);
/// The element of a row at a position, of how many, from noise.
type Kind = (&'static str, fn(usize, usize, f64) -> f64);

const FORMS: [Form; 7] = [
    ("-sum[j](exp(log_softmax[j](X[i,j])) * log_softmax[j](X[i,j]))", entropy),
    ("-sum[j](softmax[j](X[i,j]) * log(softmax[j](X[i,j])))", entropy),
    (
        "log(sum[j](exp(X[i,j] - max[j](X[i,j])))) - sum[j](softmax[j](X[i,j]) * (X[i,j] - max[j](X[i,j])))",
        entropy,
    ),
    ("-sum[j](Z[i,j] * log_softmax[j](X[i,j]))", |x, z| {
        let s = Softmax::of(x);
        -(0..x.len()).map(|j| z[j] * s.log(j)).sum::<f64>()
    }),
    ("mean[j](log_softmax[j](X[i,j]))", |x, _| {
        let s = Softmax::of(x);
        (0..x.len()).map(|j| s.log(j)).sum::<f64>() / x.len() as f64
    }),
    ("sum[j](softmax[j](X[i,j]) * (log_softmax[j](X[i,j]) - log_softmax[j](Z[i,j])))", divergence),
    ("sum[j](softmax[j](X[i,j]) * log(softmax[j](X[i,j]) / softmax[j](Z[i,j])))", divergence),
];

fn entropy(x: Row<'_>, _: Row<'_>) -> f64 {
    let s = Softmax::of(x);
    -(0..x.len()).map(|j| s.weighed(j, s.log(j))).sum::<f64>()
}

fn divergence(x: Row<'_>, z: Row<'_>) -> f64 {
    let (s, t) = (Softmax::of(x), Softmax::of(z));
    (0..x.len()).map(|j| s.weighed(j, s.log(j) - t.log(j))).sum()
}

/// A number from 0 to 1 for each number.
fn noise(n: usize) -> f64 {
    let mut z = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

const KINDS: [Kind; 8] = [
    ("small", |_, _, r| 4.0 * r - 2.0),
    ("far from 0", |_, _, r| 1e4 + 8.0 * r),
    ("far below 0", |_, _, r| -1e4 - 8.0 * r),
    ("far apart", |_, _, r| 1e4 * (r - 0.5)),
    ("rising", |j, n, _| -50.0 + 100.0 * j as f64 / n as f64),
    ("falling", |j, n, _| 1e4 - 100.0 * j as f64 / n as f64),
    ("huge", |j, _, r| if j % 7 == 3 { 1e30 } else { -1e30 * r }),
    ("equal", |_, _, _| 12345.678),
];

fn run(text: &str, inputs: &[(&str, &Array)], target: &str) -> Vec<f64> {
    nvrtc();
    let module = Compiler::equations(text)
        .outputs(["Y"])
        .device("emulator".parse::<DeviceSpec>().expect("a device"))
        .target(Some(target.to_owned()))
        .compile()
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    module.run(inputs).expect("it runs").output("Y").expect("an output").values()
}

/// One row of each kind.
fn rows(width: usize, kinds: &[Kind], seed: usize) -> Vec<Vec<f64>> {
    let element = |i: usize, j: usize| kinds[i].1(j, width, noise(seed + i * width + j));
    (0..kinds.len()).map(|i| (0..width).map(|j| f64::from(element(i, j) as f32)).collect()).collect()
}

fn array(rows: &[Vec<f64>]) -> Array {
    let flat: Vec<f64> = rows.iter().flatten().copied().collect();
    Array::new(DType::F32, &[rows.len() as u64, rows[0].len() as u64], &flat).expect("elements")
}

#[test]
fn sums_relative_to_the_largest_of_rows() {
    for (n, width) in [1, 2, 31, 257, 1009, 4096].into_iter().enumerate() {
        let target = ["sm_80", "sm_90a"][n % 2];
        for (text, loops) in FORMS {
            // What would be infinite times what is 0 as it is written.
            let wide = |kind: &str| ["far apart", "huge"].contains(&kind);
            let kinds: Vec<_> =
                KINDS.iter().copied().filter(|(k, _)| !wide(k) || !text.contains("log(softmax")).collect();
            let (x, mut z) = (rows(width, &kinds, 7), rows(width, &kinds, 1_000_003));
            // Another order of kinds, so that offsets differ.
            z.rotate_left(3);
            let text = format!("n in 1..5000; X: f32[i={}, j=n]; Z: f32[i, j]; Y[i] = {text}", kinds.len());
            let (x_all, z_all) = (array(&x), array(&z));
            let mut inputs = vec![("X", &x_all)];
            inputs.extend(text.contains("Z[").then_some(("Z", &z_all)));
            let found = run(&text, &inputs, target);
            for (i, (kind, _)) in kinds.iter().enumerate() {
                let want = loops(&x[i], &z[i]);
                // Of what is summed, as large as it is.
                let scale: f64 = (0..width)
                    .map(|j| {
                        let (s, t) = (Softmax::of(&x[i]), Softmax::of(&z[i]));
                        match text.contains("Z[i,j] * log") {
                            true => (z[i][j] * s.log(j)).abs(),
                            false if text.contains("mean") => s.log(j).abs() / width as f64,
                            false => s.weight(j) * (s.log(j).abs() + t.log(j).abs()),
                        }
                    })
                    .sum();
                let error = (found[i] - want).abs();
                assert!(
                    error <= 1e-5 * scale.max(1.0),
                    "{kind}, {width}: {} for {want}, off by {error} of {scale}: {text}",
                    found[i]
                );
            }
        }
    }
}

/// What a mask leaves out is -inf, and counts for nothing where the source says so.
#[test]
fn sums_relative_to_the_largest_of_what_a_mask_leaves() {
    let text = "n in 1..5000; X: f32[i=6, j=n]; M: i32[i, j]; S[i,j] = where(M[i,j] > 0, X[i,j], -inf); \
        P[i,j] = softmax[j](S[i,j]); Y[i] = -sum[j](where(M[i,j] > 0, P[i,j] * log(P[i,j]), 0))";
    for (width, target) in [(1, "sm_80"), (257, "sm_90a"), (1009, "sm_80")] {
        let x = rows(width, &KINDS[..6], 77);
        // One of each, of several, and all but one.
        let there = |i: usize, j: usize| match i % 3 {
            0 => true,
            1 => j.is_multiple_of(5),
            _ => j == width - 1,
        };
        let mask: Vec<Vec<f64>> =
            (0..6).map(|i| (0..width).map(|j| f64::from(u8::from(there(i, j)))).collect()).collect();
        let flat: Vec<f64> = mask.iter().flatten().copied().collect();
        let m = Array::new(DType::I32, &[6, width as u64], &flat).expect("elements");
        let x_near: Vec<Vec<f64>> = x
            .iter()
            .map(|row| {
                // Near enough for the logarithm of a weight.
                let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter().map(|v| f64::from((v.max(m - 60.0)) as f32)).collect()
            })
            .collect();
        let found = run(text, &[("X", &array(&x_near)), ("M", &m)], target);
        for i in 0..6 {
            let row: Vec<f64> = (0..width).filter(|&j| there(i, j)).map(|j| x_near[i][j]).collect();
            let want = entropy(&row, &row);
            assert!(
                (found[i] - want).abs() <= 1e-5 * want.abs().max(1.0),
                "{width}: {} for {want}",
                found[i]
            );
        }
    }
}
