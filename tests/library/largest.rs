//! The largest values of rows and where they are, in one pass on the emulator, against loops of this file: ties, rows that
//! are masked or infinite, rows that are shorter than what is asked for, blocks that end early, passes that are cut into runs.

use tilewright::ir::splitmix;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Array, Compiler, DType, DeviceSpec};

/// The `count` largest of a row and their positions, by looking for each; of equal ones the first. Where there is none: -inf,
/// at the end.
fn largest(row: &[f64], count: usize) -> (Vec<f64>, Vec<f64>) {
    let mut left: Vec<usize> = (0..row.len()).collect();
    let (mut values, mut places) = (vec![f64::NEG_INFINITY; count], vec![row.len() as f64; count]);
    for n in 0..count.min(row.len()) {
        let mut best = 0;
        for at in 1..left.len() {
            if row[left[at]] > row[left[best]] {
                best = at;
            }
        }
        let j = left.remove(best);
        (values[n], places[n]) = (row[j], j as f64);
    }
    (values, places)
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn seed() -> u64 {
    let seed = splitmix::fresh_seed();
    println!("SEED={seed}");
    seed
}

/// Runs equations with outputs `V` and `P`.
fn run(text: &str, inputs: &[(&str, &Array)], target: &str) -> (Vec<f64>, Vec<f64>) {
    nvrtc();
    let module = Compiler::equations(text)
        .outputs(["V", "P"])
        .device("emulator".parse::<DeviceSpec>().expect("a device"))
        .target(Some(target.to_owned()))
        .compile()
        .expect("it compiles");
    let result = module.run(inputs).expect("it runs");
    let of = |name: &str| result.output(name).expect("an output").values();
    (of("V"), of("P"))
}

fn agree(what: &str, count: usize, rows: &[Vec<f64>], (values, places): (Vec<f64>, Vec<f64>)) {
    for (i, row) in rows.iter().enumerate() {
        let (v, p) = largest(row, count);
        let own = count * i..count * (i + 1);
        assert_eq!(values[own.clone()], v, "{what}: values of row {i}: {row:?}");
        assert_eq!(places[own], p, "{what}: positions of row {i}: {row:?}");
    }
}

const TOP: &str = "V[i,k] = topk[j](X[i,j], k); P[i,k] = argtopk[j](X[i,j], k)";

#[test]
fn the_largest_of_rows() {
    let mut numbers = Numbers(seed());
    // Primes, one position, two, few, many; powers of two; more than a block. Fewer positions than ranks.
    for (target, count, rows, width) in [
        ("sm_80", 2, 7, 1),
        ("sm_80", 2, 5, 2),
        ("sm_90a", 2, 3, 31),
        ("sm_80", 2, 11, 257),
        ("sm_90a", 2, 2, 1009),
        ("sm_80", 2, 1, 4096),
        ("sm_80", 1, 3, 257),
        ("sm_90a", 3, 4, 257),
        ("sm_80", 3, 5, 2),
        ("sm_80", 3, 1, 9001),
        ("sm_90a", 4, 3, 5),
        ("sm_80", 5, 4, 3),
        ("sm_80", 5, 3, 1009),
        ("sm_80", 8, 2, 509),
        ("sm_90a", 4, 1, 70001),
        ("sm_90a", 8, 3, 1),
        ("sm_80", 8, 1, 9001),
        ("sm_90a", 16, 2, 257),
        ("sm_80", 20, 2, 7),
        ("sm_90a", 32, 1, 1009),
    ] {
        // Few different values: ties within a block and between blocks. Some rows are masked, in part or whole; some values
        // are infinite.
        let many = [1, 3, 50, 1 << 20][numbers.below(4) as usize];
        let masked: Vec<u64> = (0..rows).map(|i| [0, 1, 2, 10][i % 4]).collect();
        let data: Vec<Vec<f64>> = masked
            .iter()
            .map(|&m| {
                let mut one = |_| match (m > 0 && numbers.below(m.max(1)) == 0, numbers.below(20)) {
                    (true, _) => f64::NEG_INFINITY,
                    (_, 0) if m > 1 => f64::INFINITY,
                    _ => numbers.below(many) as f64 - (many / 2) as f64,
                };
                (0..width).map(&mut one).collect()
            })
            .collect();
        // Inputs are finite: what is masked is a choice.
        let flat: Vec<f64> = data.iter().flatten().map(|&x| if x.is_finite() { x } else { 1e6 }).collect();
        let kind = |&x: &f64| if x.is_finite() { 0.0 } else { x.signum() };
        let hidden: Vec<f64> = data.iter().flatten().map(kind).collect();
        let dims = [rows as u64, width as u64];
        let x = Array::new(DType::F32, &dims, &flat).expect("elements");
        let m = Array::new(DType::I32, &dims, &hidden).expect("elements");
        let text = format!(
            "Z: f32[i={rows}, j={width}]; M: i32[i, j]; axis k={count}; \
             X[i,j] = where(M[i,j] < 0, -inf, where(M[i,j] > 0, inf, Z[i,j])); {TOP}"
        );
        let what = format!("{count} of {rows} x {width} of {many} values on {target}");
        agree(&what, count, &data, run(&text, &[("Z", &x), ("M", &m)], target));
    }
}

#[test]
fn the_largest_logits() {
    let mut numbers = Numbers(seed());
    for (count, rows, width, inner) in [(2, 3, 131, 16), (2, 64, 509, 32), (2, 1, 2048, 64), (8, 1, 2039, 64)]
    {
        let mut matrix = |n: usize| -> Vec<f64> { (0..n).map(|_| numbers.below(5) as f64 - 2.0).collect() };
        // Small whole numbers: logits are exact, and many are equal.
        let (h, w) = (matrix(rows * inner), matrix(width * inner));
        let data: Vec<Vec<f64>> = (0..rows)
            .map(|i| {
                let one = |j: usize| (0..inner).map(|c| h[i * inner + c] * w[j * inner + c]).sum();
                (0..width).map(one).collect()
            })
            .collect();
        let h = Array::new(DType::Bf16, &[rows as u64, inner as u64], &h).expect("elements");
        let w = Array::new(DType::Bf16, &[width as u64, inner as u64], &w).expect("elements");
        let text = format!(
            "H: bf16[i={rows}, c={inner}]; W: bf16[j={width}, c]; axis k={count}; V: f32; X[i,j] = sum[c](H[i,c] * W[j,c]); {TOP}"
        );
        agree(
            &format!("{count} of {rows} x {width}"),
            count,
            &data,
            run(&text, &[("H", &h), ("W", &w)], "sm_90a"),
        );
    }
}
