//! What: decode steps and prompts of every supported shape on the emulator, under all checks in adversarial schedules, against
//! the evaluator in f64.
//! Why here: kernels are made for sizes, and each combination of sizes is other code.
//! Pre: NVRTC. `SHAPES=N` takes N random combinations besides, `SHAPES=triples` so many that any three values are together
//! somewhere, `SHAPES=all` every one, and `SHAPES=7/100` a part of these, from 0 on; `SEED` repeats a choice.
//! Post: any two values of two properties were together in some case. Sequences have different lengths: one starts
//! empty, one ends where the context does, and what would go beyond it is refused before anything runs.

#![allow(clippy::print_stdout)]

use std::sync::Mutex;

use tilewright::generate::{Requests, generate_all, tolerance};
use tilewright::ir::splitmix;
use tilewright::runtime::testing::nvrtc;
use tilewright::{Compiler, DType, DeviceSpec, Phase};

/// What a family says besides sizes.
const FAMILIES: [(&str, &str); 5] = [
    ("Llama", r#""model_type": "llama", "attention_bias": false"#),
    ("Mistral", r#""model_type": "mistral", "sliding_window": 3"#),
    ("Qwen2", r#""model_type": "qwen2", "use_sliding_window": false"#),
    ("Qwen3", r#""model_type": "qwen3", "attention_bias": false"#),
    ("Llama", r#""model_type": "llama", "attention_bias": true, "tie_word_embeddings": true"#),
];
/// Sequences: one, those on few columns of tensor cores, a tile and one more, and the most.
const BATCHES: [u64; 6] = [1, 3, 8, 16, 17, 64];
/// Heads of queries for each of keys.
const RATIOS: [u64; 5] = [1, 2, 3, 8, 16];
/// Heads of keys.
const HEADS: [u64; 2] = [1, 3];
const HEAD_DIMS: [u64; 6] = [64, 80, 96, 112, 128, 256];
/// Widths of the model and its inner layer: primes, a tile, and a tile and one more.
const WIDTHS: [(u64, u64); 4] = [(67, 71), (64, 128), (65, 129), (128, 257)];
const TYPES: [(DType, &str); 3] =
    [(DType::Bf16, "bfloat16"), (DType::F16, "float16"), (DType::F32, "bfloat16")];
const TARGETS: [&str; 2] = ["sm_80", "sm_90a"];
/// Whether prompts go in at once.
const PREFILL: [bool; 2] = [false, true];

/// How many values each property has.
const PROPERTIES: [usize; 9] = [
    FAMILIES.len(),
    BATCHES.len(),
    RATIOS.len(),
    HEADS.len(),
    HEAD_DIMS.len(),
    WIDTHS.len(),
    TYPES.len(),
    TARGETS.len(),
    PREFILL.len(),
];

/// The number of a value of each property.
type Case = [usize; PROPERTIES.len()];

/// Values of some properties, each with the number of its property.
type Values = Vec<(usize, usize)>;

/// The sets of so many properties.
fn sets(size: usize) -> Vec<Vec<usize>> {
    let mut out = vec![vec![]];
    for _ in 0..size {
        let longer = |s: Vec<usize>| {
            let next = s.last().map_or(0, |l| l + 1);
            (next..PROPERTIES.len()).map(move |p| s.iter().copied().chain([p]).collect::<Vec<_>>())
        };
        out = out.into_iter().flat_map(longer).collect();
    }
    out
}

/// What a case has of so many properties at a time.
fn together(case: &Case, size: usize) -> impl Iterator<Item = Values> + '_ {
    sets(size).into_iter().map(|set| set.into_iter().map(|p| (p, case[p])).collect())
}

/// All values of so many properties at a time.
fn all_together(size: usize) -> Vec<Values> {
    let mut out = Vec::new();
    for set in sets(size) {
        let mut some: Vec<Values> = vec![vec![]];
        for p in set {
            let with =
                |s: Values| (0..PROPERTIES[p]).map(move |v| s.iter().copied().chain([(p, v)]).collect());
            some = some.into_iter().flat_map(with).collect();
        }
        out.extend(some);
    }
    out
}

/// Few cases that have all pairs, or all values of so many properties: each takes what is left, and for the other
/// properties what covers most.
fn covering(size: usize) -> Vec<Case> {
    let mut left = all_together(size);
    let mut cases: Vec<Case> = Vec::new();
    while let Some(first) = left.first() {
        let mut case: [Option<usize>; PROPERTIES.len()] = Default::default();
        first.iter().for_each(|&(p, v)| case[p] = Some(v));
        for p in 0..PROPERTIES.len() {
            if case[p].is_none() {
                let gain = |v: usize| {
                    let has = |&(q, w): &(usize, usize)| if q == p { w == v } else { case[q] == Some(w) };
                    left.iter().filter(|some| some.iter().all(has)).count()
                };
                // Of equals the smallest.
                case[p] = (0..PROPERTIES[p]).max_by_key(|&v| (gain(v), std::cmp::Reverse(v)));
            }
        }
        let case: Case = case.map(|v| v.expect("every property has a value"));
        left.retain(|some| some.iter().any(|&(p, v)| case[p] != v));
        cases.push(case);
    }
    cases
}

/// One of so many parts of all cases, each with cases from everywhere.
fn part(number: usize, parts: usize) -> Vec<Case> {
    let all = PROPERTIES.iter().product::<usize>();
    // A number that has no factor with the number of cases in common visits each of them once.
    let scattered = |n: usize| n * 7919 % all;
    let case = |mut n: usize| {
        PROPERTIES.map(|p| {
            let v = n % p;
            n /= p;
            v
        })
    };
    (number * all / parts..(number + 1) * all / parts).map(|n| case(scattered(n))).collect()
}

/// The longest texts: of up to eight sequences whose prompts go in at once, and of others. Those have a step for each token,
/// or rows for the tokens of many sequences, and all of them are watched: longer texts would take most of the time and meet
/// the same code.
const CONTEXTS: [u64; 2] = [19, 4];

/// Runs a case; what is wrong with it.
fn wrong(case: &Case, seed: u64) -> Option<String> {
    let [family, batch, ratio, heads, head_dim, width, dtype, target, prefill] = *case;
    let (architecture, family) = FAMILIES[family];
    let (batch, kv, head_dim) = (BATCHES[batch], HEADS[heads], HEAD_DIMS[head_dim]);
    let ((hidden, inner), (activations, weights)) = (WIDTHS[width], TYPES[dtype]);
    let context = CONTEXTS[usize::from(!PREFILL[prefill] || batch > 8)];
    let config = format!(
        r#"{{"architectures": ["{architecture}ForCausalLM"], {family}, "hidden_size": {hidden}, "intermediate_size": {inner},
            "num_hidden_layers": 1, "num_attention_heads": {}, "num_key_value_heads": {kv}, "head_dim": {head_dim},
            "vocab_size": 53, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": {context},
            "hidden_act": "silu", "torch_dtype": "{weights}"}}"#,
        kv * RATIOS[ratio]
    );
    let at = format!(
        "{} on {}, {activations}, batch {batch}, prompts at once: {}, seed {seed}: {config}",
        FAMILIES[case[0]].0, TARGETS[target], PREFILL[prefill]
    );
    let device = format!("emulator:sanitize=all,seed={seed}").parse::<DeviceSpec>().expect("a device");
    let phases: &[Phase] = if PREFILL[prefill] { &[Phase::Prefill, Phase::Decode] } else { &[Phase::Decode] };
    let compiled = Compiler::config(config, seed)
        .batch(batch)
        .activations(activations)
        .device(device)
        .target(Some(TARGETS[target].to_owned()))
        .phases(phases)
        .compile();
    let module = match compiled {
        Ok(module) => module,
        Err(e) => return Some(format!("{at}: {e}")),
    };
    // With two tokens after it the longest prompt ends where the context does.
    let longest = context - 1;
    let text: Vec<u64> = (0..context + 1).map(|n| (7 * n + seed) % 53).collect();
    let lengths: Vec<usize> = (0..batch).map(|s| ((s * 5 + longest - 1) % longest + 1) as usize).collect();
    let prompts: Vec<&[u64]> = lengths.iter().map(|&n| &text[..n]).collect();
    let request = Requests { prompts: &prompts, tokens: 2, ignore_eos: true, check: true, sampling: None };
    let error = match generate_all(&module, &request, |_, _| ()) {
        Ok(all) => all.error.unwrap_or(f64::NAN),
        Err(e) => return Some(format!("{at}: {e}")),
    };
    if error.is_nan() || error > tolerance(activations) {
        return Some(format!("{at}: a relative error of {error:.2e}"));
    }
    // One token more than there is room for.
    let mut beyond = prompts.clone();
    beyond[0] = &text[..context as usize];
    match generate_all(&module, &Requests { prompts: &beyond, ..request }, |_, _| ()) {
        Err(e) if e.exit_code() == 3 => None,
        other => Some(format!("{at}: beyond the context: {:?}", other.map(|all| all.tokens))),
    }
}

#[test]
fn shapes_agree_with_the_evaluator_under_all_checks() {
    nvrtc();
    let mut cases = covering(2);
    let asked = std::env::var("SHAPES").unwrap_or_default();
    let seed = splitmix::fresh_seed();
    println!("SEED={seed}");
    let mut state = seed;
    let mut below = |n: usize| -> usize { (splitmix::next(&mut state) % n as u64) as usize };
    match asked.split_once('/').map(|(n, parts)| (n.parse(), parts.parse())) {
        Some((Ok(n), Ok(parts))) if n < parts => cases = part(n, parts),
        Some(_) => panic!("SHAPES={asked} is no part: 0/100 is the first of a hundred"),
        None if asked == "all" => cases = part(0, 1),
        None if asked == "triples" => cases = covering(3),
        None => {
            let more = asked.parse().unwrap_or(0);
            cases.extend((0..more).map(|_| PROPERTIES.map(&mut below)));
        }
    }
    println!("{} cases", cases.len());
    let next =
        Mutex::new(cases.iter().map(|case| (case, below(1 << 16) as u64)).collect::<Vec<_>>().into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // What is watched runs on one thread.
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(|| {
                while let Some((case, seed)) = { next.lock().expect("no thread panics").next() } {
                    if let Some(why) = wrong(case, seed) {
                        // Long explorations may be stopped before they end.
                        println!("{why}");
                        failures.lock().expect("no thread panics").push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    assert!(
        failures.is_empty(),
        "SEED={seed}, {} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn pairs_and_triples_are_complete() {
    for (size, most) in [(2, 60), (3, 420)] {
        let cases = covering(size);
        let covered: std::collections::BTreeSet<_> = cases.iter().flat_map(|c| together(c, size)).collect();
        assert_eq!(covered.len(), all_together(size).len());
        // Not many more than the longest properties need.
        assert!(cases.len() <= most, "{} cases", cases.len());
    }
    // Parts are all cases, each once.
    let all: std::collections::BTreeSet<Case> = (0..7).flat_map(|n| part(n, 7)).collect();
    assert_eq!(all.len(), PROPERTIES.iter().product::<usize>());
}
