//! The Rust API: one module used from several threads, with symbols, on the caller's memory.

use tilewright::ir::step::BufferKind;
use tilewright::passes::Options;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Alias, Array, Binding, Compiler, DType, DeviceSpec, Error, Module, Stream, jit};

fn compile(text: &str) -> Result<Module, Error> {
    nvrtc();
    Compiler::equations(text).device(DeviceSpec::Emulator(None)).compile()
}

fn array(dims: &[u64], values: &[f64]) -> Array {
    Array::new(DType::F32, dims, values).unwrap()
}

#[test]
fn everything_may_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Module>();
    check::<Compiler>();
    check::<Error>();
}

#[test]
fn one_module_serves_all_sizes_and_threads() {
    let module = compile("n in 0..300; x: f32[i=n, j=3]; y[i] = sum[j](x[i,j] * (j + 1))").unwrap();
    std::thread::scope(|scope| {
        for t in 0..4u64 {
            let module = &module;
            scope.spawn(move || {
                for n in [1, 0, 33, 128 + t, 257] {
                    let values: Vec<f64> = (0..n * 3).map(|i| (i * (t + 1) % 17) as f64).collect();
                    let result = module.run(&[("x", &array(&[n, 3], &values))]).unwrap();
                    let y = result.output("y").unwrap();
                    let expected: Vec<f64> =
                        values.chunks(3).map(|r| r[0] + 2.0 * r[1] + 3.0 * r[2]).collect();
                    assert_eq!((y.dims.clone(), y.values()), (vec![n], expected));
                }
            });
        }
    });
}

#[test]
fn inputs_are_checked_by_name_type_and_extent() {
    let module = compile("n in 1..9; x: f32[i=n]; z: f32[i]; y[i] = x[i] - z[i]").unwrap();
    let (a, b) = (array(&[3], &[1.0; 3]), array(&[4], &[1.0; 4]));
    let message = |inputs: &[(&str, &Array)]| {
        let error = module.run(inputs).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        error.to_string()
    };
    assert!(message(&[("x", &a)]).contains("`z`"));
    assert!(message(&[("x", &a), ("z", &b)]).contains("`z`"));
    assert!(message(&[("x", &a), ("z", &a), ("w", &a)]).contains("`w`"));
    let half = Array::new(DType::F16, &[3], &[1.0; 3]).unwrap();
    assert!(message(&[("x", &half), ("z", &a)]).contains("f16"));
    let long = array(&[10], &[1.0; 10]);
    assert!(message(&[("x", &long), ("z", &long)]).contains("1..=9"));
    let flat = array(&[3, 1], &[1.0; 3]);
    assert!(message(&[("x", &flat), ("z", &a)]).contains("axes"));
}

#[test]
fn errors_are_typed() {
    assert!(matches!(compile("y[i] = x[i"), Err(Error::Text { .. })));
    let target = Compiler::equations("y: f32[i=3]; y[i] = i").target(Some("gfx90a".into())).compile();
    assert!(matches!(target, Err(Error::Usage(_))));
    let device = Compiler::equations("y: f32[i=3]; y[i] = i").device(DeviceSpec::Cuda(4095)).compile();
    assert_eq!(device.err().map(|e| e.exit_code()), Some(4));
    let folder = Compiler::model("/no/such/folder").compile();
    assert_eq!(folder.err().map(|e| e.exit_code()), Some(3));
}

#[test]
fn several_outputs_come_in_order() {
    nvrtc();
    let module = Compiler::equations("x: f32[i=5, j=6]; m[i] = max[j](x[i,j]); s[j] = sum[i](x[i,j])")
        .outputs(["s", "m"])
        .device(DeviceSpec::Emulator(None))
        .compile()
        .unwrap();
    let x: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 11)).collect();
    let result = module.run(&[("x", &array(&[5, 6], &x))]).unwrap();
    let m: Vec<f64> = x.chunks(6).map(|r| r.iter().copied().fold(f64::MIN, f64::max)).collect();
    let s: Vec<f64> = (0..6).map(|j| (0..5).map(|i| x[i * 6 + j]).sum()).collect();
    assert_eq!(result.output("m").unwrap().values(), m);
    assert_eq!(result.output("s").unwrap().values(), s);
}

#[test]
fn jit_takes_types_and_extents_from_the_arrays() {
    nvrtc();
    let x = Array::new(DType::F64, &[4], &[1.0, 2.0, 4.0, 8.0]).unwrap();
    let result = jit("y[i] = x[i] / 3", &[("x", &x)]).unwrap();
    let y = result.output("y").unwrap();
    assert_eq!(y.dtype, DType::F64);
    assert!(y.values().iter().zip(x.values()).all(|(y, x)| (y - x / 3.0).abs() < 1e-15));
}

#[test]
#[allow(unsafe_code)]
fn the_callers_memory_is_used_in_place() {
    let module = compile("n in 1..500; x: f32[i=n]; y[i] = x[i] * x[i] + 1").unwrap();
    let device = module.device().clone();
    let n = 300u64;
    let values: Vec<f64> = (0..n).map(|i| i as f64 / 10.0).collect();
    let x = array(&[n], &values);
    let memory = device.alloc("mine", 4 * n).unwrap();
    device.upload(memory, &x.data, Stream::Own).unwrap();
    let symbols = [("n", n as i64)];
    let [phase] = module.phases() else { panic!("one phase") };
    assert!(phase.planned.compiled.step.buffers.values().any(|b| b.kind == BufferKind::Output));
    let both =
        [Binding { name: "x", at: memory, bytes: 4 * n }, Binding { name: "y", at: memory, bytes: 4 * n }];

    // The same memory twice is a mistake unless it is declared.
    let name = phase.planned.name.clone();
    let undeclared = module.launch(&name, &symbols, &both, &[], Stream::Own);
    assert!(undeclared.is_err_and(|e| e.to_string().contains("overlaps")));
    let alias = [Alias { output: "y", input: "x" }];
    module.launch(&name, &symbols, &both, &alias, Stream::Own).unwrap();
    device.synchronize(Stream::Own).unwrap();
    let mut out = vec![0; 4 * n as usize];
    device.download(memory, &mut out, Stream::Own).unwrap();
    let found = Array { dtype: DType::F32, dims: vec![n], data: out }.values();
    for (v, f) in values.iter().zip(found) {
        assert!((f - (v * v + 1.0)).abs() < 1e-3 * (v * v + 1.0), "{v}: {f}");
    }
    device.free(memory).unwrap();
}

/// For few rows a long pass is cut into runs that are merged: at every length, also where most runs are empty, the result is
/// the softmax that a host loop gives, and no check of the emulator has a finding.
#[test]
fn a_pass_in_runs_serves_all_lengths() {
    nvrtc();
    let text = "kv in 1..100000; q: f32[h=4, d=64]; k: f32[h, j=kv, d]; v: f32[h, j, e=64]; \
        o[h,e] = sum[j](softmax[j](sum[d](q[h,d] * k[h,j,d])) * v[h,j,e])";
    let sanitize = tilewright::emulator::Sanitize::ALL;
    let device = DeviceSpec::Checked { machine: None, sanitize, seed: None };
    let module = Compiler::equations(text).device(device).compile().unwrap();
    let launches = &module.phases()[0].planned.compiled.step.launches;
    assert!(launches.iter().any(|l| l.kernel.ends_with("_runs")), "{launches:?}");
    let mut state = 1u64;
    let mut random = |n: u64| -> Vec<f64> {
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                f64::from((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
            })
            .collect()
    };
    for kv in [1, 2, 63, 64, 65, 1000, 2049] {
        let (q, k, v) = (random(4 * 64), random(4 * kv * 64), random(4 * kv * 64));
        let (a, b, c) = (array(&[4, 64], &q), array(&[4, kv, 64], &k), array(&[4, kv, 64], &v));
        let result = module.run(&[("q", &a), ("k", &b), ("v", &c)]).unwrap();
        let found = result.output("o").unwrap().values();
        let head = kv as usize * 64;
        for h in 0..4 {
            let scores: Vec<f64> = k[h * head..][..head]
                .chunks(64)
                .map(|r| r.iter().zip(&q[h * 64..]).map(|(x, y)| x * y).sum())
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
            for e in 0..64 {
                let rows = v[h * head..].chunks(64);
                let want: f64 = scores.iter().zip(rows).map(|(s, r)| (s - most).exp() / total * r[e]).sum();
                let got = found[h * 64 + e];
                assert!((got - want).abs() < 1e-5, "length {kv}: o[{h},{e}] is {got}, not {want}");
            }
        }
    }
}

/// Ten layers, each beside what it skips: as one kernel they are more than a multiprocessor holds.
#[test]
fn what_does_not_fit_gives_way_to_the_next_best_plan() {
    const LAYERS: usize = 10;
    let (rows, wide) = (33, 64);
    let mut text = format!("X: f32[i={rows}, d={wide}]; W: f32[d, e={wide}]; A0[i,d] = X[i,d]");
    for n in 1..LAYERS {
        let m = n - 1;
        text += &format!(
            "; B{n}[i,e] = tanh(sum[d](A{m}[i,d] * W[d,e])); A{n}[i,d] = A{m}[i,d] + B{n}[i,e := d]"
        );
    }
    text += &format!("; Y[i,d] = A{}[i,d]", LAYERS - 1);
    let derived = Options { candidate: Some("derived".into()), ..Options::default() };
    nvrtc();
    let compiler = || Compiler::equations(text.as_str()).device(DeviceSpec::Emulator(None));
    let alone = compiler().pass_options(derived).compile().err().expect("the best plan is too large");
    assert!(alone.to_string().contains("shared memory"), "{alone}");
    let module = compiler().compile().unwrap();
    let (_, choice) = &module.phases()[0].planned.compiled.choices[0];
    assert_eq!(choice.candidates[0].refused.as_deref(), Some(alone.to_string().as_str()));

    let element = |n: usize| ((n * 37 + 11) % 101) as f64 / 101.0 - 0.5;
    let x: Vec<f64> = (0..rows * wide).map(element).collect();
    let w: Vec<f64> = (0..wide * wide).map(|n| element(n + 5) * 0.25).collect();
    let mut expected = x.clone();
    for _ in 1..LAYERS {
        expected = (0..rows * wide)
            .map(|at| {
                let (i, e) = (at / wide, at % wide);
                expected[at] + (0..wide).map(|d| expected[i * wide + d] * w[d * wide + e]).sum::<f64>().tanh()
            })
            .collect();
    }
    let dims = [rows as u64, wide as u64];
    let result =
        module.run(&[("X", &array(&dims, &x)), ("W", &array(&[wide as u64, wide as u64], &w))]).unwrap();
    for (got, expected) in result.output("Y").unwrap().values().iter().zip(&expected) {
        assert!((got - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{got} and {expected}");
    }
}
