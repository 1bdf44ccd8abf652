//! Candidates and the choice between them: each candidate means what its equations mean, the choice is the cheapest, and
//! counts are those of plans that can be counted by hand.

use std::path::Path;
use std::sync::Arc;

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_frontend::hf::{BuildOptions, Phase, build_module, load_config, parse_config};
use tilewright_ir::eval::{F64, Symbols, Tensor, eval_function, eval_plan};
use tilewright_ir::graph::{GlobalKind, Module};
use tilewright_ir::{DType, splitmix};
use tilewright_passes::algebra::laws::LAWS;
use tilewright_passes::algebra::saturate::{Budget, Stop};
use tilewright_passes::candidates::{GUARDS, UNFUSED};
use tilewright_passes::report::{self, PlanCount};
use tilewright_passes::{Compiled, Objective, Options, compile_module};

const ATTENTION: &str = "Q: f32[g=2, i=7, d=4]; K: f32[g, j=300, d]; V: f32[g, j, e=5]; \
    O[g,i,e] = sum[j](softmax[j](where(j <= i + 2, sum[d](Q[g,i,d] * K[g,j,d]), -inf)) * V[g,j,e])";
const NORM: &str = "X: f32[i=6, c=300]; G: f32[c]; W: f32[n=40, c]; \
    Y[i,n] = sum[c](rms_norm[c](X[i,c]) * G[c] * W[n,c])";
const MLP: &str = "X: f32[i=3, c=20]; W: f32[f=30, c]; U: f32[f, c]; D: f32[c, f]; \
    H[i,f] = silu(sum[c](X[i,c] * W[f,c])) * sum[c](X[i,c] * U[f,c]); Y[i,c] = X[i,c] + sum[f](H[i,f] * D[c,f])";

fn compile(text: &str, options: &Options) -> (Module, Compiled) {
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    let compiled = compile_module(&module, options).expect("compiles");
    (module, compiled)
}

/// Small random numbers for all inputs.
fn inputs(module: &Module) -> Vec<Arc<Tensor<f64>>> {
    let seed = splitmix::fresh_seed();
    println!("SEED={seed}");
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    };
    let given = module.globals.values().filter(|g| g.kind == GlobalKind::Input);
    given
        .map(|g| {
            let dims: Vec<usize> = g.dims.iter().map(|d| d.as_const().expect("constant") as usize).collect();
            Arc::new(Tensor::from_fn(&dims, |_| next()))
        })
        .collect()
}

fn close(got: &Tensor<f64>, want: &Tensor<f64>) -> bool {
    let scale = want.data.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    got.dims == want.dims && got.data.iter().zip(&want.data).all(|(g, w)| (g - w).abs() <= 1e-11 * scale)
}

#[test]
fn guards_are_laws() {
    for name in GUARDS {
        assert!(LAWS.iter().any(|l| l.name == name), "{name}");
    }
}

#[test]
fn every_candidate_means_what_the_equations_mean() {
    for text in [ATTENTION, NORM, MLP] {
        let (module, compiled) = compile(text, &Options::default());
        let params = inputs(&module);
        let function = module.functions.values().next().expect("a function");
        let want = eval_function(&F64, function, &Symbols::new(), params.clone()).expect("source");
        let choice = &compiled.choices[0].1;
        assert!(choice.candidates.len() >= 2, "{text}");
        for c in &choice.candidates {
            let got = eval_plan(&F64, &c.plan, &Symbols::new(), params.clone(), 16).expect("plan");
            assert!(close(&got.results[0], &want.results[0]), "{:?}: {text}", c.names);
        }
    }
}

#[test]
fn a_candidate_can_be_asked_for_by_name() {
    let asked = |name: &str| Options { candidate: Some(name.to_owned()), ..Options::default() };
    let (_, compiled) = compile(ATTENTION, &asked(UNFUSED));
    let choice = &compiled.choices[0].1;
    assert!(choice.candidates[choice.chosen].names.contains(&UNFUSED));
    let (_, usual) = compile(ATTENTION, &Options::default());
    assert!(compiled.plans[0].1.kernels.len() > usual.plans[0].1.kernels.len());
    let module = parse_equations(ATTENTION, &Given::default(), &[]).expect("parses");
    let e = compile_module(&module, &asked("fastest")).expect_err("there is none").to_string();
    assert!(e.contains("`fastest`") && e.contains(UNFUSED), "{e}");
}

#[test]
fn the_plan_without_fusion_has_a_kernel_per_reduction_and_is_always_there() {
    for (text, reductions) in [(ATTENTION, 4), (NORM, 2), (MLP, 3)] {
        let (_, compiled) = compile(text, &Options::default());
        let choice = &compiled.choices[0].1;
        let unfused = choice.unfused().expect("always there");
        assert!(unfused.names.contains(&UNFUSED));
        let kernels = unfused.plan.kernels.iter().filter(|k| !k.locals.is_empty()).count();
        assert_eq!(kernels, reductions, "{text}");
        assert!(choice.candidates[choice.chosen].cost.launches <= unfused.cost.launches);
    }
}

#[test]
fn the_choice_is_the_cheapest_by_the_objective() {
    for text in [ATTENTION, NORM, MLP] {
        for objective in [Objective::Latency, Objective::Traffic] {
            let (_, compiled) = compile(text, &Options { objective, ..Options::default() });
            let choice = &compiled.choices[0].1;
            let chosen = &choice.candidates[choice.chosen];
            for c in choice.candidates.iter().filter(|c| c.refused.is_none()) {
                assert!(!c.cost.clearly_less(&chosen.cost, objective), "{:?} {:?}", c.names, chosen.names);
            }
        }
    }
    let (_, compiled) = compile(ATTENTION, &Options::default());
    assert!(compiled.choices[0].1.candidates[0].names.contains(&"derived"));
    assert_eq!(compiled.choices[0].1.chosen, 0, "attention is one derived kernel");
}

#[test]
fn a_search_that_ends_early_yields_a_plan_that_is_right() {
    for nodes in [1, 30, 45, 60, 75, 90, 120] {
        let budget = Budget { nodes, ..Budget::default() };
        let (module, compiled) = compile(ATTENTION, &Options { budget, ..Options::default() });
        let choice = &compiled.choices[0].1;
        let early = compiled.searches[0].1.stop != Stop::Saturated;
        // Rows whose every key is masked, or far below 0, have a defined result in every plan that may be taken.
        let mut params = inputs(&module);
        params[0] = Arc::new(params[0].map(|x| x * 1e4));
        let function = module.functions.values().next().expect("a function");
        let want = eval_function(&F64, function, &Symbols::new(), params.clone()).expect("source");
        let plan = &choice.candidates[choice.chosen].plan;
        let got = eval_plan(&F64, plan, &Symbols::new(), params, 8).expect("plan");
        assert!(close(&got.results[0], &want.results[0]), "{nodes} e-nodes, early: {early}");
    }
}

/// The plan that was chosen, its passes whole, and the unfused one, counted.
fn counted(text: &str) -> (PlanCount, PlanCount) {
    let (module, compiled) = compile(text, &Options { whole_passes: true, ..Options::default() });
    let sizes = report::bind(&module.symbols, &[]);
    let choice = &compiled.choices[0].1;
    let count = |plan| report::count(plan, &module.symbols, &sizes, None);
    (count(&compiled.plans[0].1), count(&choice.unfused().expect("always there").plan))
}

#[test]
fn bytes_passes_and_phases_by_hand() {
    let (fused, unfused) =
        counted("x: f32[i=64, c=4096]; m[i] = max[c](x[i,c]); l[i] = sum[c](exp(x[i,c] - m[i]))");
    let x = 64 * 4096 * 4;
    assert_eq!((fused.bytes, fused.floor, fused.phases), (x + 64 * 4, x + 64 * 4, 1));
    assert_eq!(fused.kernels[0].passes, [("c".to_owned(), 1)]);
    // One sum, computed once in both.
    assert_eq!((fused.multiply_adds(), unfused.multiply_adds()), (64.0 * 4096.0, 64.0 * 4096.0));
    assert_eq!(fused.over_source(&unfused), Some(1.0));
    // The maximum is written and read back, and x is read twice.
    assert_eq!((unfused.bytes, unfused.phases, unfused.kernels.len()), (2 * x + 3 * 64 * 4, 2, 2));
    assert_eq!(unfused.boundaries.len(), 1);
    assert_eq!(unfused.excess.iter().map(|e| e.bytes).sum::<u64>(), unfused.bytes - unfused.floor);
    assert_eq!(unfused.excess[0].name, "x");

    // Over two axes the longer one is gone over once: of the other one, a block holds all that it needs.
    for (axes, passes) in [("c=16, h=10000", [("c", 2), ("h", 1)]), ("c=10000, h=16", [("c", 1), ("h", 2)])] {
        let text = format!(
            "x: f32[i=64, {axes}]; m[i] = max[c,h](x[i,c,h]); l[i] = sum[c,h](exp(x[i,c,h] - m[i])); y[i] = m[i] + log(l[i])"
        );
        let (fused, _) = counted(&text);
        assert_eq!(fused.kernels.len(), 1);
        assert_eq!(fused.kernels[0].passes, passes.map(|(axis, n)| (axis.to_owned(), n)));
    }

    // Softmax itself: the weights are an output over the axis that was reduced, so x is gone over twice at least.
    let (fused, _) = counted("x: f32[i=64, c=4096]; y[i,c] = softmax[c](x[i,c])");
    let all: u32 = fused.kernels.iter().flat_map(|k| &k.passes).filter(|(a, _)| a == "c").map(|p| p.1).sum();
    assert!(all >= 2, "{:?}", fused.kernels);

    // Gathered rows count once each, and a window of consecutive positions by its width.
    let (gathered, _) = counted("ids: i32[n=10]; E: f32[t=1000, d=8]; y[n,d] = E[t := ids[n], d]");
    assert_eq!(gathered.bytes, 10 * 4 + 10 * 8 * 4 + 10 * 8 * 4);
    let (window, _) =
        counted("x: f32[p=100]; k: f32[w=3]; y: f32[i=40]; y[i] = sum[w](x[p := i + w] * k[w])");
    assert_eq!(window.bytes, (42 + 3 + 40) * 4);
    // What lies within another access of the same tensor adds nothing.
    let (both, _) =
        counted("x: f32[p=100]; k: f32[w=3]; y: f32[i=40]; y[i] = x[p := i] * sum[w](x[p := i + w] * k[w])");
    assert_eq!(both.bytes, (42 + 3 + 40) * 4);
}

/// What follows a product of matrices along its rows is computed where the product is, and the product once.
#[test]
fn rows_of_a_product_that_fit_a_block_are_reduced_in_it() {
    for n in [16, 64, 96, 128, 200, 256] {
        let (chosen, unfused) = counted(&format!(
            "X: bf16[i=4096, c=256]; W: bf16[n={n}, c]; R: bf16[i, n]; G: bf16[n]; \
            H[i,n] = R[i,n] + sum[c](X[i,c] * W[n,c]); N[i,n] = H[i,n] / sqrt(sum[n](H[i,n]**2) / {n} + 1e-5) * G[n]"
        ));
        assert_eq!((chosen.kernels.len(), chosen.bytes), (1, chosen.floor), "{n}");
        let over = chosen.over_source(&unfused).expect("the source multiplies");
        assert!(over <= 1.0, "{n}: {over} times the source's multiply-adds");
    }
}

/// The figures of one layer of a published model: what its plan moves over what cannot be avoided.
fn compile_model(folder: &Path, phase: Phase) -> (Module, Compiled) {
    compile_batch(folder, phase, 1)
}

/// The same for so many sequences.
fn compile_batch(folder: &Path, phase: Phase, batch: u64) -> (Module, Compiled) {
    let config = load_config(folder).expect("config");
    let options = BuildOptions { phase, batch, max_context: 4096, activations: DType::Bf16 };
    let mut module = build_module(&config, &options).expect("builds");
    for f in module.functions.values_mut() {
        f.options.insert("activations".into(), "bf16".into());
    }
    let compiled = compile_module(&module, &Options::default()).expect("compiles");
    (module, compiled)
}

/// Projections of one input share a launch, norms of heads do not ask for launches of their own.
#[test]
fn what_a_mask_leaves_out_is_not_counted() {
    let attention = |mask: &str, rows: u32| {
        let text = format!(
            "Q: bf16[i={rows}, d=64]; K: bf16[j=1024, d]; V: bf16[j, e=64]; O: bf16; \
             O[i,e] = sum[j](softmax[j](where({mask}, sum[d](Q[i,d] * K[j,d]), -inf)) * V[j,e])"
        );
        counted(&text).0
    };
    let contracted = |p: &PlanCount| p.kernels.iter().map(|k| k.contracted).sum::<f64>();
    let (whole, causal) = (attention("j < 5000", 1024), attention("j <= i", 1024));
    // Half of it, and half a block more on average.
    let part = contracted(&causal) / contracted(&whole);
    assert!((0.5..=0.6).contains(&part), "{part}");
    assert!(causal.kernels[0].asked < 0.7 * whole.kernels[0].asked);
    // All blocks together read all of it: what is read once is as before.
    assert_eq!(causal.bytes, whole.bytes);
    let window = attention("j <= i and j > i - 128", 1024);
    let part = contracted(&window) / contracted(&whole);
    assert!((0.12..=0.3).contains(&part), "{part}");

    // One query: the window is all that is read, in whole blocks, and what is below the floor of nothing.
    let (whole, window) = (attention("j < 5000", 1), attention("j >= 800", 1));
    let row = 2 * 2 * 64;
    assert_eq!(whole.bytes - window.bytes, 768 * row, "{window:?}");
    assert_eq!(window.bytes, window.floor);
    // A window of nothing looks at a block.
    let none = attention("j >= 3000", 1);
    assert!(none.bytes < window.bytes && none.kernels[0].read_bytes() > row, "{none:?}");
    // What depends on data may be anything.
    let text = "n: i32[]; X: f32[j=1024]; S[] = sum[j](where(j < n, X[j], 0))";
    assert_eq!(counted(text).0.kernels[0].read_bytes(), 4 + 4096);
}

#[test]
fn candidates_are_costed_as_they_are_launched() {
    for phase in [Phase::Decode, Phase::Prefill] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/SmolLM2-135M");
        let (module, compiled) = compile_model(&folder, phase);
        let sizes = report::bind(&module.symbols, &[]);
        let mut cut = 0;
        for ((func, plan), (_, choice)) in compiled.plans.iter().zip(&compiled.choices) {
            let narrow = tilewright_passes::step::narrow(&module.functions[*func].options);
            let count = report::count(plan, &module.symbols, &sizes, narrow);
            let costed = &choice.candidates[choice.chosen];
            assert_eq!(costed.count.bytes, count.bytes);
            assert_eq!(costed.count.kernels.len(), count.kernels.len());
            assert_eq!(costed.cost.launches, count.launches().count());
            cut += plan.kernels.iter().filter(|k| k.runs.is_some()).count();
        }
        assert!(phase == Phase::Prefill || cut > 0, "a decode step has passes in runs");
    }
}

#[test]
fn a_layer_takes_six_launches_or_fewer() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    let mut folders: Vec<_> =
        std::fs::read_dir(models).expect("configurations").flatten().map(|e| e.path()).collect();
    folders.sort();
    assert!(folders.len() > 3);
    for folder in folders {
        let many = [16, 17, 32, 33, 48, 63, 64].map(|batch| (Phase::Decode, batch));
        for (phase, batch) in [(Phase::Decode, 1), (Phase::Prefill, 1)].into_iter().chain(many) {
            let (_, compiled) = compile_batch(&folder, phase, batch);
            let at = format!("{} {phase:?}, batch {batch}", folder.display());
            for (_, plan) in &compiled.plans {
                let launches = plan.launches().len();
                assert!(launches <= 6, "{at}: @{} takes {launches}", plan.name);
            }
            let step = &compiled.step;
            let joined = step.groups().into_iter().find(|g| g.len() > 1).expect("some share a launch");
            assert!(
                step.kernel_of(joined.clone()).contains("__") && step.launches[joined.start].writes.len() > 1
            );
        }
    }
}

/// A decode step of a small model of a family: widths of the model and of its inner layer, heads of keys, queries for each,
/// positions of a head, sequences.
fn small(family: &str, sizes: [u64; 6], objective: Objective) -> Compiled {
    let [hidden, inner, keys, ratio, dim, batch] = sizes;
    let text = format!(
        r#"{{"architectures": ["{family}ForCausalLM"], "model_type": "{}", "torch_dtype": "bfloat16",
            "hidden_size": {hidden}, "intermediate_size": {inner}, "num_hidden_layers": 1, "num_attention_heads": {},
            "num_key_value_heads": {keys}, "head_dim": {dim}, "vocab_size": 512, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "max_position_embeddings": 256, "tie_word_embeddings": false, "hidden_act": "silu"}}"#,
        family.to_lowercase(),
        keys * ratio
    );
    let options = BuildOptions { phase: Phase::Decode, batch, max_context: 256, activations: DType::Bf16 };
    let mut module = build_module(&parse_config(&text).expect("config"), &options).expect("builds");
    for f in module.functions.values_mut() {
        f.options.insert("activations".into(), "bf16".into());
    }
    let options = Options { objective, ..Options::default() };
    compile_module(&module, &options).unwrap_or_else(|e| panic!("{family} {sizes:?}: {e}"))
}

/// To compute something again takes a small model less time than a launch; but packed weights are read once.
#[test]
fn small_models_read_packed_weights_once_in_few_launches() {
    let heads =
        [[1, 1, 64], [1, 4, 64], [2, 2, 64], [4, 1, 64], [2, 4, 128], [1, 2, 128], [2, 2, 96], [1, 8, 80]];
    let mut last = 0;
    for (n, [keys, ratio, dim]) in (0..).zip(heads) {
        for family in ["Llama", "Qwen2", "Qwen3"] {
            for hidden in [256, 512, 768] {
                // Widths that are equal are told apart as well.
                for (inner, batch) in [(hidden, [1, 2, 5, 8][n % 4]), (4 * hidden, [5, 8, 1, 2][n % 4])] {
                    let sizes = [hidden, inner, keys, ratio, dim, batch];
                    for (name, choice) in small(family, sizes, Objective::Latency).choices {
                        let chosen = &choice.candidates[choice.chosen];
                        assert!(
                            chosen.count.again.is_empty(),
                            "{family} {sizes:?} @{name}: {:?}",
                            chosen.count.again
                        );
                        let launches = chosen.cost.launches;
                        // One more where a norm of heads waits for a product whose sum fits a block.
                        let most = 6 + usize::from(family == "Qwen3" && hidden == 256);
                        assert!(launches <= most, "{family} {sizes:?}: @{name} takes {launches}");
                        assert!(
                            choice.unfused().is_some_and(|c| c.last.is_none() && c.count.again.is_empty())
                        );
                        last += choice.candidates.iter().filter(|c| c.last.is_some()).count();
                    }
                }
            }
        }
    }
    assert!(last > 50, "{last} candidates read weights again");
}

/// The reason is one of those that reports show; where bytes alone count, what one kernel reads again is free.
#[test]
fn what_would_be_read_again_is_said() {
    let sizes = [512, 2048, 1, 4, 64, 1];
    let reasons = |objective| -> Vec<String> {
        let compiled = small("Llama", sizes, objective);
        let boundaries = compiled.plans.iter().flat_map(|(_, p)| &p.kernels).flat_map(|k| &k.boundaries);
        boundaries.filter(|why| why.contains("packed weights are read once")).cloned().collect()
    };
    let latency = reasons(Objective::Latency);
    assert!(latency.iter().any(|why| why.contains("`o_proj.weight`")), "{latency:?}");
    assert_eq!(reasons(Objective::Traffic), [""; 0]);
}

/// What a rotation asks for does not take a projection's rows apart: blocks take whole bands of packed rows.
#[test]
fn projections_take_bands_of_rows() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    for (model, want) in [("Llama-3.2-1B", [2, 16]), ("Llama-3.1-8B", [2, 16]), ("Qwen3-0.6B", [2, 64])] {
        let (_, compiled) = compile_model(&models.join(model), Phase::Decode);
        let mut seen = 0;
        for program in compiled.programs.iter().filter(|p| p.name.ends_with("turned")) {
            let block = |name: &str| {
                let (_, axis) = program.axes.iter().find(|(_, a)| a.name == name).expect("an axis");
                axis.block
            };
            assert_eq!([block("z"), block("p")], want, "{model}: @{}", program.name);
            assert_eq!(block("g") * block("r"), 1, "{model}: @{}", program.name);
            seen += 1;
        }
        assert!(seen > 0, "{model}");
    }
}

#[test]
fn a_layer_of_a_published_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/Llama-3.1-8B");
    let (module, compiled) = compile_model(&root, Phase::Prefill);
    let sizes =
        report::bind(&module.symbols, &[("seq".into(), 4096), ("kv".into(), 4096), ("past".into(), 0)]);
    let at = compiled.choices.iter().position(|(name, _)| name == "layer").expect("a layer");
    let fused = report::count(&compiled.plans[at].1, &module.symbols, &sizes, Some(DType::Bf16));
    let unfused = compiled.choices[at].1.unfused().expect("always there");
    let unfused = report::count(&unfused.plan, &module.symbols, &sizes, Some(DType::Bf16));
    println!("over the floor: {:.3} fused, {:.3} unfused", fused.over_floor(), unfused.over_floor());
    for e in &fused.excess {
        println!("{:>8.1} MB above the floor: {}", e.bytes as f64 / 1e6, e.name);
    }
    // Weights, the input, the output, keys and values, counted from the configuration.
    let (c, f, kv, i) = (4096u64, 14336u64, 1024u64, 4096u64);
    let weights = c * c * 2 + c * kv * 2 + 3 * c * f + 2 * c;
    let rotation = i * 64 * 4 * 4;
    assert_eq!(fused.floor, 2 * (weights + 2 * i * c + 2 * 2 * i * kv) + rotation);
    assert_eq!(fused.floor, unfused.floor);
    assert!(fused.over_floor() < 2.0 && unfused.over_floor() > 10.0);
    assert!(fused.phases < unfused.phases && fused.kernels.len() <= 8);
    let above: u64 = fused.excess.iter().map(|e| e.bytes).sum();
    assert_eq!(above, fused.bytes - fused.floor);
}
