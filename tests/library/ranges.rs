//! Streams that end where a mask ends, by the counters of the emulator: what a mask leaves out is neither computed nor
//! read.

use tilewright::explain::functions;
use tilewright::ir::text::print_tile;
use tilewright::runtime::exec::LaunchRecord;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Array, Compiler, DType, DeviceSpec, Phase};

/// Inputs of attention of some rows over some keys: one head of 64.
fn attention(mask: &str, rows: usize, keys: usize, lengths: &[f64]) -> (String, Vec<(String, Array)>) {
    let batch = lengths.len();
    let text = format!(
        "Q: bf16[b={batch}, i=seq, d=64]; K: bf16[b, j=kv, d]; V: bf16[b, j, e=64]; n: i32[b]; O: bf16; seq in 1..8192; kv in 1..8192
         s[b,i,j] = where({mask}, sum[d](Q[b,i,d] * K[b,j,d]) * 0.125, -inf)
         O[b,i,e] = sum[j](softmax[j](s[b,i,j]) * V[b,j,e])"
    );
    let mut state = 7u64;
    let mut array = |dims: &[usize]| {
        let count: usize = dims.iter().product();
        let values: Vec<f64> = (0..count)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                DType::Bf16.round((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
            })
            .collect();
        let dims: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
        Array::new(DType::Bf16, &dims, &values).expect("elements")
    };
    let inputs = vec![
        ("Q".to_owned(), array(&[batch, rows, 64])),
        ("K".to_owned(), array(&[batch, keys, 64])),
        ("V".to_owned(), array(&[batch, keys, 64])),
        ("n".to_owned(), Array::new(DType::I32, &[batch as u64], lengths).expect("lengths")),
    ];
    (text, inputs)
}

/// Tensor operations of each product, and different bytes of keys and values that were read.
fn counted(mask: &str, rows: usize, keys: usize, lengths: &[f64], target: &str) -> (u64, u64, Vec<f64>) {
    nvrtc();
    let (text, inputs) = attention(mask, rows, keys, lengths);
    let module = Compiler::equations(text)
        .device("emulator".parse::<DeviceSpec>().expect("a device"))
        .target(Some(target.to_owned()))
        .compile()
        .expect("attention compiles");
    let known = &module.phases()[0].planned.graph.globals;
    let inputs: Vec<(&str, &Array)> = inputs
        .iter()
        .filter(|(name, _)| known.values().any(|g| g.name == *name))
        .map(|(name, a)| (name.as_str(), a))
        .collect();
    let result = module.run(&inputs).expect("attention runs");
    let (flops, bytes) = totals(&result.launches, &["K", "V"]);
    if lengths.len() == 1 && lengths[0] == 0.0 {
        // Nothing here depends on data: what the plan is said to read is what it reads.
        let sizes = [("seq".to_owned(), rows as u64), ("kv".to_owned(), keys as u64)];
        let known = &module.phases()[0].planned.graph.symbols;
        let sizes: Vec<_> = sizes.into_iter().filter(|(n, _)| known.values().any(|s| s.name == *n)).collect();
        let said: u64 = functions(&module.phases()[0].planned, &sizes)
            .expect("figures")
            .iter()
            .flat_map(|f| f.after.kernels.iter().flat_map(|k| k.reads.iter()))
            .filter(|o| ["K", "V"].contains(&o.name.as_str()))
            .map(|o| o.bytes)
            .sum();
        assert_eq!(said, bytes, "{target}: {mask}, {rows} rows, {keys} keys");
    }
    // A plan may compute the products again in each of several passes.
    let planned = &module.phases()[0].planned;
    let programs = planned.compiled.programs.iter().map(|p| print_tile(p, &planned.graph.symbols));
    let products = programs.map(|p| p.matches("dot mma").count() as u64).sum::<u64>().max(1);
    (flops / products, bytes, result.output("O").expect("an output").values())
}

fn totals(launches: &[LaunchRecord], labels: &[&str]) -> (u64, u64) {
    let (mut flops, mut bytes) = (0, 0);
    for counters in launches.iter().filter_map(|l| l.counters.as_ref()) {
        flops += counters.tensor_flops.values().sum::<u64>();
        bytes += labels.iter().map(|l| counters.unique_bytes_read(l)).sum::<u64>();
    }
    (flops, bytes)
}

#[test]
fn causal_attention_computes_what_the_formula_counts() {
    let n = 1024;
    for target in ["sm_80", "sm_90a"] {
        let (whole, ..) = counted("j < 100000", n, n, &[0.0], target);
        let (causal, ..) = counted("j <= i", n, n, &[0.0], target);
        let formula = whole as f64 * (n + 1) as f64 / (2 * n) as f64;
        assert!(causal as f64 <= 1.1 * formula, "{target}: {causal} of {whole}");
        assert!(causal as f64 >= formula, "{target}: something was left out");
        // A window of 128 in 1024.
        let (window, ..) = counted("j <= i and j > i - 128", n, n, &[0.0], target);
        assert!((window as f64) < 0.3 * whole as f64, "{target}: {window} of {whole}");
    }
}

#[test]
fn one_query_reads_its_window_and_its_length() {
    let keys = 2000;
    let row = 2 * 2 * 64;
    for target in ["sm_80", "sm_90a"] {
        let (_, whole, _) = counted("j < 100000", 1, keys, &[0.0], target);
        assert_eq!(whole, keys as u64 * row, "{target}");
        // At most a block of keys more at each end.
        let (_, known, _) = counted("j >= 1700", 1, keys, &[0.0], target);
        assert!((300 * row..=364 * row).contains(&known), "{target}: {known}");
        let (_, window, _) = counted("j >= n[b]", 1, keys, &[1700.0], target);
        assert!((300 * row..=364 * row).contains(&window), "{target}: {window}");
        let lengths = [2000.0, 3.0, 700.0, 0.0];
        let (_, read, out) = counted("j < n[b]", 1, keys, &lengths, target);
        let wanted: u64 = lengths.iter().map(|&n| (n as u64).min(keys as u64) * row).sum();
        assert!((wanted..=wanted + 4 * 64 * row).contains(&read), "{target}: {read}, not {wanted}");
        // No keys: a block is looked at, and nothing comes of it.
        assert!(out[3 * 64..].iter().all(|&x| x == 0.0));
        assert!(out[..3 * 64].iter().all(|x| x.is_finite()) && out[64] != 0.0);
    }
}

/// A decode step of sequences of different lengths reads the keys and values of each, not those of the longest for all.
#[test]
fn a_step_reads_the_cache_of_each_sequence() {
    // A block has room for all sequences of the smallest one.
    for (hidden, heads, kv, head_dim) in [(256, 4, 2, 64), (64, 2, 1, 16), (32, 4, 4, 8), (48, 3, 1, 16)] {
        reads_the_cache_of_each_sequence(hidden, heads, kv, head_dim);
    }
}

fn reads_the_cache_of_each_sequence(hidden: u64, heads: u64, kv: u64, head_dim: u64) {
    nvrtc();
    let config = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {hidden}, "head_dim": {head_dim},
        "intermediate_size": 320, "num_hidden_layers": 2, "num_attention_heads": {heads}, "num_key_value_heads": {kv},
        "vocab_size": 131, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
        "tie_word_embeddings": true, "hidden_act": "silu"}}"#
    );
    let module = Compiler::config(config, 3)
        .device("emulator".parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .batch(4)
        .compile()
        .expect("it compiles");
    // What is in the cache does not matter here.
    module.session().reset_states().expect("an empty cache");
    let executable = module.executable("decode").expect("it loads");
    let ids: Vec<u8> = [3i32; 4].into_iter().flat_map(i32::to_le_bytes).collect();
    let past: Vec<u8> = [2000i32, 9, -1, 700].into_iter().flat_map(i32::to_le_bytes).collect();
    let result = executable.run(&[("kv", 2001)], &[("ids", &ids), ("past", &past)]).expect("it runs");
    let states: Vec<&str> = executable
        .step()
        .buffers
        .values()
        .filter(|b| b.kind == tilewright::ir::step::BufferKind::State)
        .map(|b| b.name.as_str())
        .collect();
    let (_, read) = totals(&result.launches, &states);
    let state = executable.step().buffers.values().find(|b| b.name == states[0]).expect("a state");
    let elements: u64 = state.dims.iter().map(|d| d.as_const().expect("a number")).product();
    let row = 2 * elements / (4 * 4096) * states.len() as u64;
    let wanted = (2001 + 10 + 701) * row;
    assert!(
        read >= wanted && read <= wanted + 4 * if head_dim < 64 { 256 } else { 64 } * row,
        "hidden {hidden}, {heads} heads: {read}, not {wanted}; for the longest {}",
        4 * 2001 * row
    );
}
