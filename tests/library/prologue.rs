//! Work on weights alone is done once, when they are loaded: what runs then, what runs never reads again, and that results
//! are those of the equations. Oracles are loops on the host.

use tilewright::ir::splitmix;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Array, Compiler, DType, DeviceSpec, Module};

const ROWS: usize = 5;
const WIDTH: usize = 67;
const COLUMNS: usize = 41;
const RANK: usize = 3;

struct Numbers(u64);

impl Numbers {
    fn fresh(what: &str) -> Numbers {
        let seed = splitmix::fresh_seed();
        println!("{what}: SEED={seed}");
        Numbers(seed)
    }

    fn many(&mut self, n: usize) -> Vec<f64> {
        (0..n)
            .map(|_| {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                f64::from(((self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32)
            })
            .collect()
    }
}

/// Elements of the weights and of an input.
struct Case {
    w: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Case {
    fn new(rng: &mut Numbers) -> Case {
        Case { w: rng.many(COLUMNS * WIDTH), a: rng.many(RANK * WIDTH), b: rng.many(COLUMNS * RANK) }
    }

    fn compile(&self, text: &str) -> Module {
        nvrtc();
        let (c, n, r) = (WIDTH as u64, COLUMNS as u64, RANK as u64);
        Compiler::equations(text)
            .device(DeviceSpec::Emulator(None))
            .weight("W", array(&[n, c], &self.w))
            .weight("A", array(&[r, c], &self.a))
            .weight("B", array(&[n, r], &self.b))
            .compile()
            .expect("compiles")
    }

    /// `X (W + B A / 2)`, the weight put through `round` first.
    fn expected(&self, x: &[f64], round: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut out = Vec::new();
        for i in 0..ROWS {
            for n in 0..COLUMNS {
                let weight = |c: usize| {
                    let low: f64 = (0..RANK).map(|r| self.b[n * RANK + r] * self.a[r * WIDTH + c]).sum();
                    round(self.w[n * WIDTH + c] + 0.5 * low)
                };
                out.push((0..WIDTH).map(|c| x[i * WIDTH + c] * weight(c)).sum());
            }
        }
        out
    }
}

fn array(dims: &[u64], values: &[f64]) -> Array {
    Array::new(DType::F32, dims, values).expect("elements")
}

fn run(module: &Module, x: &[f64]) -> tilewright::RunResult {
    module.run(&[("X", &array(&[ROWS as u64, WIDTH as u64], x))]).expect("runs")
}

fn distance(got: &[f64], want: &[f64]) -> f64 {
    let most = want.iter().fold(1e-30, |m: f64, w| m.max(w.abs()));
    got.iter().zip(want).map(|(g, w)| (g - w).abs() / most).fold(0.0, f64::max)
}

/// Inputs and what is computed of them in the order in which one trains it: the weight and the addition apart.
const APART: &str = "Y[i,n] = sum[c](X[i,c] * W[n,c]) + 0.5 * sum[r](B[n,r] * sum[c](A[r,c] * X[i,c]))";

fn declared(body: &str) -> String {
    format!(
        "X: f32[i={ROWS}, c={WIDTH}]; W: const f32[n={COLUMNS}, c]; A: const f32[r={RANK}, c]; B: const f32[n, r]; {body}"
    )
}

#[test]
fn a_low_rank_addition_is_merged_when_weights_are_loaded() {
    let mut rng = Numbers::fresh("merged");
    let case = Case::new(&mut rng);
    let module = case.compile(&declared(APART));
    let phase = &module.phases()[0];
    assert_eq!(phase.prologue.len(), 1, "one kernel runs at load");
    for _ in 0..3 {
        let x = rng.many(ROWS * WIDTH);
        let result = run(&module, &x);
        assert_eq!(result.launches.len(), 1, "one kernel in each run");
        let read: Vec<&str> = result.launches[0]
            .counters
            .iter()
            .flat_map(|c| &c.buffers)
            .filter(|(_, b)| b.unique_read_sectors > 0)
            .map(|(name, _)| name.as_str())
            .collect();
        assert!(!read.iter().any(|name| ["W", "A", "B"].contains(name)), "{read:?}");
        let error = distance(&result.output("Y").expect("Y").values(), &case.expected(&x, |w| w));
        assert!(error < 1e-6, "{error:e}");
    }
    // The same without the declarations: nothing is known to be constant.
    let text = declared(APART).replace("const ", "");
    let free = Compiler::equations(text).device(DeviceSpec::Emulator(None)).compile().expect("compiles");
    assert!(free.phases()[0].prologue.is_empty());
}

/// What the source rounds is rounded as it says, and nothing else is.
#[test]
fn a_weight_is_rounded_where_the_source_says_so() {
    let mut rng = Numbers::fresh("rounded");
    // Sums of 32 bits may lie on the other side of what is halfway between two numbers of 16: no weight is to be near.
    let near = std::cell::Cell::new(true);
    let (mut case, mut x) = (Case::new(&mut rng), rng.many(ROWS * WIDTH));
    while near.replace(false) {
        (case, x) = (Case::new(&mut rng), rng.many(ROWS * WIDTH));
        case.expected(&x, |w| {
            let by = 2e-7 * (1.0 + w.abs());
            near.set(near.get() || DType::Bf16.round(w - by) != DType::Bf16.round(w + by));
            w
        });
    }
    let body = "M: bf16[n, c]; M[n,c] = W[n,c] + 0.5 * sum[r](B[n,r] * A[r,c]); Y: f32[i, n]; Y[i,n] = sum[c](X[i,c] * M[n,c])";
    let module = case.compile(&declared(body));
    assert_eq!(module.phases()[0].prologue.len(), 1);
    let got = run(&module, &x).output("Y").expect("Y").values();
    let (narrow, wide) = (case.expected(&x, |w| DType::Bf16.round(w)), case.expected(&x, |w| w));
    assert!(distance(&got, &narrow) < 1e-6, "{:e}", distance(&got, &narrow));
    assert!(distance(&got, &wide) > 1e-5, "the reference does not tell them apart");
}

/// Products of weights alone, one of the other.
#[test]
fn prologues_may_have_several_kernels() {
    let mut rng = Numbers::fresh("chained");
    let case = Case::new(&mut rng);
    let x = rng.many(ROWS * WIDTH);
    let body = "G[r,s] = sum[c](A[r,c] * A[r:=s,c]); H[n,c] = sum[r](B[n,r] * tanh(sum[s](G[r,s] * A[r:=s,c]))); \
        Y[i,n] = sum[c](X[i,c] * H[n,c])";
    let text = declared(body).replace("W: const", "axis s=3; W: const");
    let module = Compiler::equations(&text)
        .device(DeviceSpec::Emulator(None))
        .weight("A", array(&[RANK as u64, WIDTH as u64], &case.a))
        .weight("B", array(&[COLUMNS as u64, RANK as u64], &case.b))
        .compile()
        .expect("compiles");
    assert_eq!(run(&module, &x).launches.len(), 1, "all of it is done at load");
    let g = |r: usize, s: usize| -> f64 {
        (0..WIDTH).map(|c| case.a[r * WIDTH + c] * case.a[s * WIDTH + c]).sum()
    };
    let inner = |r: usize, c: usize| (0..RANK).map(|s| g(r, s) * case.a[s * WIDTH + c]).sum::<f64>().tanh();
    let h = |n: usize, c: usize| (0..RANK).map(|r| case.b[n * RANK + r] * inner(r, c)).sum::<f64>();
    let mut want = Vec::new();
    for i in 0..ROWS {
        for n in 0..COLUMNS {
            want.push((0..WIDTH).map(|c| x[i * WIDTH + c] * h(n, c)).sum::<f64>());
        }
    }
    let error = distance(&run(&module, &x).output("Y").expect("Y").values(), &want);
    assert!(error < 1e-5, "{error:e}");
}

#[test]
fn wrong_weights_are_named() {
    nvrtc();
    let compiler = || Compiler::equations(declared(APART)).device(DeviceSpec::Emulator(None));
    let message = |c: Compiler| c.compile().map(|_| ()).expect_err("refused").to_string();
    let short = array(&[2, 2], &[0.0; 4]);
    assert!(message(compiler().weight("W", short.clone())).contains("declared"));
    assert!(message(compiler().weight("V", short)).contains("`V`"));
    let given = compiler().compile().expect("weights are needed when it runs");
    let x = array(&[ROWS as u64, WIDTH as u64], &[0.0; ROWS * WIDTH]);
    let error = given.run(&[("X", &x)]).map(|_| ()).expect_err("there are no weights");
    assert!(error.to_string().contains("no tensor"), "{error}");
    let sized = "X: f32[i=4, c=seq]; W: const f32[c]; seq in 1..9; Y[i] = sum[c](X[i,c] * W[c])";
    assert!(message(Compiler::equations(sized)).contains("must be numbers"));
    let defined = "X: f32[i=4]; W: const f32[i]; W[i] = X[i] * 2; Y[i] = W[i]";
    assert!(message(Compiler::equations(defined)).contains("const"));
}
