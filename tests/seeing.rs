//! What users see of the search, and what they may ask of it: laws, budgets, objectives, reports.

#![allow(clippy::print_stdout, reason = "seeds are printed")]

use std::process::{Command, Output};

use serde_json::Value;
use tilewright::passes::algebra::laws::LAWS;
use tilewright::passes::algebra::saturate::Budget;
use tilewright::passes::{Objective, Options};
use tilewright::report::Traffic;
use tilewright::runtime::testing::nvrtc;
use tilewright::runtime::values::encode;
use tilewright::{Array, Compiler, DType, DeviceSpec, Module};

/// Numbers that look random, from a seed that failures print.
struct Random(u64);

impl Random {
    fn fresh() -> Random {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64 | 1);
        println!("seed {seed}");
        Random(seed)
    }

    fn number(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    fn array(&mut self, dtype: DType, dims: &[u64]) -> Array {
        let data = encode(dtype, (0..dims.iter().product()).map(|_| self.number()));
        Array { dtype, dims: dims.to_vec(), data }
    }
}

fn tilewright(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewright"));
    command.args(args).env_remove("TILEWRIGHT_LOG").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().unwrap()
}

fn text(args: &[&str]) -> String {
    let output = tilewright(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&text(&args)).unwrap()
}

/// A product of three matrices with a narrow middle: what the first two make is cheap to store and cheap to compute
/// again, by different measures.
const CHAIN: &str = "A: bf16[i=512, k=1024]; B: bf16[k, f=64]; C: bf16[f, n=2048]; \
    H[i,f] = sum[k](A[i,k]*B[k,f]); Y[i,n] = sum[f](H[i,f]*C[f,n])";

const ATTENTION: &str = "Q: f32[i=40, d=16]; K: f32[j=300, d]; V: f32[j, e=16]; \
    O[i,e] = sum[j](softmax[j](where(j <= i + 3, sum[d](Q[i,d] * K[j,d]), -inf)) * V[j,e])";

fn module(equations: &str, options: Options) -> Module {
    nvrtc();
    Compiler::equations(equations)
        .device("emulator".parse::<DeviceSpec>().unwrap())
        .pass_options(options)
        .compile()
        .unwrap()
}

#[test]
fn the_law_table_is_listed() {
    let value = json(&["laws"]);
    let names: Vec<&str> =
        value["laws"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, LAWS.iter().map(|l| l.name).collect::<Vec<_>>());
    let shown = text(&["laws"]);
    for law in LAWS {
        assert!(shown.lines().any(|l| l == law.name), "{}", law.name);
        let words = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert!(
            words(&shown).contains(&words(law.statement)) && words(&shown).contains(&words(law.conditions))
        );
    }
}

#[test]
fn a_budget_that_is_too_small_is_said_and_gives_no_wrong_plan() {
    let whole = json(&["explain", "-e", ATTENTION]);
    assert_eq!(whole["phases"][0]["search_complete"], true);
    assert_eq!(whole["phases"][0]["notes"], Value::Array(vec![]));
    let early = json(&["explain", "-e", ATTENTION, "--search-budget", "20"]);
    assert_eq!(early["phases"][0]["search_complete"], false);
    assert!(early["phases"][0]["notes"][0].as_str().unwrap().contains("--search-budget"), "{early}");
    assert!(text(&["explain", "-e", ATTENTION, "--search-budget", "20"]).contains("best so far"));
    assert_eq!(tilewright(&["explain", "-e", ATTENTION, "--search-budget", "0"]).status.code(), Some(2));

    let mut random = Random::fresh();
    let inputs =
        [("Q", [40, 16]), ("K", [300, 16]), ("V", [300, 16])].map(|(n, d)| (n, random.array(DType::F32, &d)));
    let given: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (*n, a)).collect();
    let run = |nodes| {
        let budget = Budget { nodes, ..Budget::default() };
        module(ATTENTION, Options { budget, ..Options::default() }).run(&given).unwrap().outputs[0].1.values()
    };
    let expected = run(Budget::default().nodes);
    for nodes in [1, 40, 70, 100, 150, 300, 600] {
        let got = run(nodes);
        for (a, b) in got.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{nodes} e-nodes: {a} and {b}");
        }
    }
}

#[test]
fn objectives_differ_where_storing_costs_bytes_and_computing_again_costs_time() {
    let mut random = Random::fresh();
    let inputs = [("A", [512, 1024]), ("B", [1024, 64]), ("C", [64, 2048])]
        .map(|(n, d)| (n, random.array(DType::Bf16, &d)));
    let given: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (*n, a)).collect();
    let measured = |objective| {
        let module = module(CHAIN, Options { objective, ..Options::default() });
        let result = module.run(&given).unwrap();
        let mut traffic = Traffic::default();
        traffic.add_run(&module.phases()[0].planned.compiled.step, &result.launches);
        assert!(!traffic.incomplete);
        (traffic, result.outputs[0].1.values())
    };
    let (latency, fast) = measured(Objective::Latency);
    let (traffic, lean) = measured(Objective::Traffic);
    assert_eq!((latency.launches, traffic.launches), (2, 1));
    assert!(traffic.hbm_bytes < latency.hbm_bytes, "{traffic:?} {latency:?}");
    assert_eq!(traffic.hbm_bytes, traffic.floor_bytes);
    let scale = fast.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (a, b) in lean.iter().zip(&fast) {
        assert!((a - b).abs() <= 2e-2 * scale, "{a} and {b}");
    }
}
