//! Plans against their graphs in a finite field: there are no rounding errors, so equal means equal. Maxima are decided by
//! a real shadow, with a fresh element for each distinct maximum; a plan that forgot a rescale is noticed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tilewright_frontend::hf::{BuildOptions, Phase, build_module, load_config, symbol_values};
use tilewright_ir::eval::{Domain, Field, Symbols, Tensor, bind_symbols, eval_function, eval_plan, sizes};
use tilewright_ir::graph::{Function, Module};
use tilewright_ir::plan::{LocalDef, Plan};
use tilewright_ir::{Binary, DType, Expr};
use tilewright_passes::{Options, compile_module};

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 / (1u64 << 53) as f64) * 2.0 - 1.0
    }
}

fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens");
    let all = std::fs::read_dir(root).expect("goldens").map(|e| e.expect("an entry").path());
    let mut all: Vec<PathBuf> = all.filter(|p| p.join("golden.json").exists()).collect();
    all.sort();
    all
}

fn bind(module: &Module, past: u64, new: u64) -> Symbols {
    let values = symbol_values(module, past, new);
    let named: Vec<(&str, u64)> =
        values.iter().map(|(s, v)| (module.symbols[*s].name.as_str(), *v)).collect();
    bind_symbols(&module.symbols, &named).expect("in range")
}

/// How many elements are the same, and how many differ or cannot be told.
fn compare(
    field: &Field,
    function: &Function,
    plan: &Plan,
    s: &Symbols,
    block: usize,
    seed: u64,
) -> (usize, usize) {
    let mut r = Random(seed);
    let params: Vec<_> = function
        .params()
        .map(|v| {
            let dims = sizes(&function.dims(v), s);
            let int = function.values[v].dtype.is_int();
            Arc::new(Tensor::from_fn(&dims, |_| {
                let x = r.next();
                field.num(if int { (x * 3.0).abs().floor() } else { x })
            }))
        })
        .collect();
    let want = eval_function(field, function, s, params.clone()).expect("the graph");
    let got = eval_plan(field, plan, s, params, block).expect("the plan");
    let pairs = |o: &tilewright_ir::eval::Outcome<_>| -> Vec<_> {
        o.results.iter().cloned().chain(o.states.iter().map(|(_, t)| t.clone())).collect()
    };
    let (mut same, mut other) = (0, 0);
    for (g, w) in pairs(&got).iter().zip(&pairs(&want)) {
        for (a, b) in g.data.iter().zip(&w.data) {
            if a.same(b) { same += 1 } else { other += 1 }
        }
    }
    (same, other)
}

#[test]
fn plans_of_models_are_exactly_their_graphs() {
    let field = Field { key: 77 };
    for folder in goldens() {
        let config = load_config(&folder).expect("config");
        for phase in [Phase::Decode, Phase::Prefill] {
            let options = BuildOptions { phase, batch: 1, max_context: 16, activations: DType::F32 };
            let module = build_module(&config, &options).expect("builds");
            let compiled = compile_module(&module, &Options::default()).expect("compiles");
            let s = if phase == Phase::Decode { bind(&module, 5, 1) } else { bind(&module, 0, 6) };
            for (f, plan) in &compiled.plans {
                for block in [1, 4] {
                    let (same, other) = compare(&field, &module.functions[*f], plan, &s, block, 5);
                    assert!(same > 0);
                    assert_eq!(other, 0, "{folder:?} {phase:?} @{} block {block}", plan.name);
                }
            }
        }
    }
}

#[test]
fn a_dropped_rescale_is_noticed() {
    let field = Field { key: 78 };
    let config = load_config(&goldens()[0]).expect("config");
    let options = BuildOptions { phase: Phase::Prefill, batch: 1, max_context: 16, activations: DType::F32 };
    let module = build_module(&config, &options).expect("builds");
    let compiled = compile_module(&module, &Options::default()).expect("compiles");
    let s = bind(&module, 0, 9);
    let mut mutants = 0;
    for (f, plan) in &compiled.plans {
        let mut broken = plan.clone();
        let locals = broken.kernels.iter_mut().flat_map(|k| k.locals.values_mut());
        let folds: Vec<_> = locals.filter(|l| matches!(l.def, LocalDef::Fold { .. })).collect();
        if folds.is_empty() {
            continue;
        }
        for l in folds {
            // The moved value alone.
            if let LocalDef::Fold { action, .. } = &mut l.def
                && let Expr::Binary(Binary::Mul, v, _) = &**action
            {
                *action = v.clone();
            }
        }
        mutants += 1;
        let (_, other) = compare(&field, &module.functions[*f], &broken, &s, 2, 6);
        assert!(other > 0, "a fold without its rescale passes in @{}", plan.name);
    }
    assert!(mutants > 0, "no plan has a fold");
}
