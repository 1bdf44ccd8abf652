//! What users see of the search, and what they may ask of it: laws, budgets, objectives, reports.

use std::process::{Command, Output};

use serde_json::Value;
use tilewright::explain::functions;
use tilewright::generate::score;
use tilewright::ir::splitmix;
use tilewright::passes::algebra::laws::LAWS;
use tilewright::passes::algebra::saturate::Budget;
use tilewright::passes::{Objective, Options};
use tilewright::report::Traffic;
use tilewright::runtime::testing::nvrtc;
use tilewright::runtime::values::encode;
use tilewright::{Array, Compiler, DType, DeviceSpec, Module, Phase};

/// Numbers that look random, from a seed that failures print.
struct Random(u64);

impl Random {
    fn fresh() -> Random {
        let seed = splitmix::fresh_seed();
        println!("SEED={seed}");
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

/// The last query sees all keys: what a plan is counted to read does not know where a mask ends.
const ATTENTION: &str = "Q: f32[i=40, d=16]; K: f32[j=300, d]; V: f32[j, e=16]; \
    O[i,e] = sum[j](softmax[j](where(j <= i + 264, sum[d](Q[i,d] * K[j,d]), -inf)) * V[j,e])";

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
    assert!(latency.launches > 1 && traffic.launches == 1, "{latency:?} {traffic:?}");
    assert!(traffic.hbm_bytes < latency.hbm_bytes, "{traffic:?} {latency:?}");
    assert_eq!(traffic.hbm_bytes, traffic.floor_bytes);
    let scale = fast.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (a, b) in lean.iter().zip(&fast) {
        assert!((a - b).abs() <= 2e-2 * scale, "{a} and {b}");
    }
}

/// What the plan says is moved, and what the emulator counts, for a module of one phase.
fn compared(module: &Module, sizes: &[(String, u64)], traffic: &Traffic) -> (u64, u64) {
    let all = functions(&module.phases()[0].planned, sizes).unwrap();
    let counted = all.iter().map(|f| f.calls * f.after.bytes).sum();
    assert!(!traffic.incomplete);
    (counted, traffic.hbm_bytes)
}

/// Counts and counters differ by no more than the edges of sectors.
fn agree((counted, measured): (u64, u64), what: &str) {
    println!("{what}: {counted} bytes counted, {measured} measured");
    assert!(counted.abs_diff(measured) * 500 <= measured, "{what}: {counted} counted, {measured} measured");
}

#[test]
fn the_plan_counts_the_bytes_that_the_emulator_counts() {
    let mut random = Random::fresh();
    for (text, arrays) in [
        (ATTENTION, vec![("Q", vec![40, 16]), ("K", vec![300, 16]), ("V", vec![300, 16])]),
        (
            "X: f32[i=24, c=320]; G: f32[c]; W: f32[n=64, c]; Y[i,n] = sum[c](rms_norm[c](X[i,c]) * G[c] * W[n,c])",
            vec![("X", vec![24, 320]), ("G", vec![320]), ("W", vec![64, 320])],
        ),
    ] {
        let module = module(text, Options::default());
        let inputs: Vec<_> = arrays.iter().map(|(n, d)| (*n, random.array(DType::F32, d))).collect();
        let given: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (*n, a)).collect();
        let result = module.run(&given).unwrap();
        let mut traffic = Traffic::default();
        traffic.add_run(&module.phases()[0].planned.compiled.step, &result.launches);
        agree(compared(&module, &[], &traffic), text);
    }
    // One layer of a published shape, scaled down: a sixteenth of the widths, grouped queries, rotary positions.
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 1, "num_attention_heads": 8,
        "num_key_value_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": 512,
        "max_position_embeddings": 128, "tie_word_embeddings": false}"#;
    nvrtc();
    let ids: Vec<u64> = (0..64).map(|n| n * 7 % 512).collect();
    let sizes = [("seq", 64), ("kv", 64), ("past", 0)].map(|(n, v)| (n.to_owned(), v));
    let mut moved = Vec::new();
    for objective in [Objective::Latency, Objective::Traffic] {
        let module = Compiler::config(config, 7)
            .phases(&[Phase::Prefill])
            .device("emulator".parse::<DeviceSpec>().unwrap())
            .pass_options(Options { objective, ..Options::default() })
            .compile()
            .unwrap();
        let scored = score(&module, &ids, Phase::Prefill).unwrap();
        let what = format!("a layer with its embedding and head, for {}", objective.name());
        agree(compared(&module, &sizes, &scored.traffic), &what);
        moved.push((scored.traffic.hbm_bytes, scored.cross_entropy.unwrap()));
    }
    assert!(moved[1].0 < moved[0].0, "{moved:?}");
    assert!((moved[0].1 - moved[1].1).abs() < 2e-2 * moved[0].1, "{moved:?}");
}

#[test]
fn explain_reports_what_is_moved_before_and_after_and_why_kernels_are_apart() {
    let value = json(&["explain", "-e", CHAIN]);
    let f = &value["phases"][0]["functions"][0];
    let (before, after) = (&f["before"], &f["after"]);
    // One more where a pass is cut into runs.
    let kernels = after["kernels"].as_array().unwrap();
    assert!(kernels.len() >= 2, "{kernels:?}");
    assert_eq!(after["phases"].as_u64(), Some(kernels.len() as u64));
    let boundaries = after["boundaries"].as_array().unwrap();
    let boundary = boundaries.iter().find(|b| b["tensor"] == "H").expect("H is stored");
    assert_eq!((boundary["tensor"].as_str(), boundary["from"].as_str()), (Some("H"), Some("equations_H")));
    assert!(boundary["why_not_fused"].as_str().unwrap().contains("computing it in place"), "{boundary}");
    let moved: u64 =
        after["above_floor"].as_array().unwrap().iter().map(|e| e["bytes"].as_u64().unwrap()).sum();
    assert_eq!(moved, after["hbm_bytes"].as_u64().unwrap() - after["floor_bytes"].as_u64().unwrap());
    // What runs leave to be merged comes on top.
    let runs: u64 = boundaries
        .iter()
        .filter(|b| b["from"].as_str().unwrap().ends_with("_runs"))
        .map(|b| 2 * b["bytes"].as_u64().unwrap())
        .sum();
    assert!(before["hbm_bytes"].as_u64().unwrap() + runs >= after["hbm_bytes"].as_u64().unwrap());
    let candidates = value["phases"][0]["candidates"][0]["candidates"].as_array().unwrap();
    assert_eq!(candidates.iter().filter(|c| c["chosen"] == true).count(), 1);
    assert!(candidates.iter().any(|c| c["names"].as_array().unwrap().contains(&"unfused".into())));

    let shown = text(&["explain", "-e", CHAIN]);
    // Two products of matrices, one after the other.
    let once = before["multiply_adds"].as_f64().unwrap();
    assert_eq!(once, f64::from(512 * 64 * 1024 + 512 * 2048 * 64));
    assert_eq!(f["multiply_adds_over_source"], after["multiply_adds"].as_f64().unwrap() / once);
    for part in
        ["over source", "without fusion", "above the floor", "why not fused", "equations_H -> equations_Y (H"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = text(&["explain", "-e", CHAIN, "--candidates"]);
    assert!(listed.contains("unfused") && listed.contains("\n  * "), "{listed}");

    let sized = "x: f32[i=n, c=64]; n in 1..5000; y[i] = sum[c](x[i,c])";
    let value = json(&["explain", "-e", sized, "--set", "n=3000"]);
    assert_eq!(value["phases"][0]["functions"][0]["after"]["hbm_bytes"], 3000 * 65 * 4);
    for bad in ["n=5001", "m=1", "n=-1"] {
        assert_eq!(tilewright(&["explain", "-e", sized, "--set", bad]).status.code(), Some(3), "{bad}");
    }
    assert_eq!(tilewright(&["explain", "-e", sized, "--set", "n"]).status.code(), Some(2));
}

/// That a page is well-formed: tags match, attributes are quoted, nothing is left open, no character is loose. Returns all
/// attributes and the text.
fn parse_page(page: &str) -> (Vec<(String, String)>, String) {
    const EMPTY: [&str; 2] = ["meta", "br"];
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (mut open, mut attributes, mut text) = (Vec::<String>::new(), Vec::new(), String::new());
    while !rest.is_empty() {
        let Some(at) = rest.find('<') else {
            text += rest;
            break;
        };
        let (before, tag) = rest.split_at(at);
        text += before;
        if open.last().is_some_and(|o| o == "style") {
            let end = rest.find("</style>").expect("a style ends");
            text += &rest[at..end];
            open.pop();
            rest = &rest[end + "</style>".len()..];
            continue;
        }
        let end = tag.find('>').expect("a tag ends");
        let inside = &tag[1..end];
        rest = &tag[end + 1..];
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {:.60}", rest);
            continue;
        }
        let closed = inside.ends_with('/');
        let inside = inside.trim_end_matches('/');
        let (name, mut list) = inside.split_once(' ').unwrap_or((inside, ""));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "<{inside}>");
        while !list.trim().is_empty() {
            let (key, value) = list.trim_start().split_once("=\"").unwrap_or_else(|| panic!("<{inside}>"));
            let (value, more) = value.split_once('"').unwrap_or_else(|| panic!("<{inside}>"));
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{key} in <{inside}>");
            attributes.push((key.to_owned(), value.to_owned()));
            list = more;
        }
        if !closed && !EMPTY.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, Vec::<String>::new(), "left open");
    for piece in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|e| piece.starts_with(e));
        assert!(known, "a loose & before {piece:.40}");
    }
    (attributes, text)
}

#[test]
fn the_page_is_well_formed_escaped_and_complete_in_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("<script>alert('1')<b>&amp;\".tw");
    let graph = "graph @f(x: f32[i=64, c=4096] input) {\n    y[i]: f32 = sum[c](where(c < i and c > 2, x[i,c], 0))\n    return y\n}\n";
    std::fs::write(&file, graph).unwrap();
    let odd = text(&["explain", file.to_str().unwrap(), "--format", "html"]);
    let model_args =
        "explain tests/models/SmolLM2-135M --random-weights 1 --phase prefill --set seq=512 --format html";
    // Steps are whole on the page, however long they are.
    let model_args: Vec<&str> = model_args.split(' ').collect();
    let model = text(&model_args);
    assert!(!odd.contains("<script") && !odd.contains("<b>"), "what the user names is text");
    assert!(odd.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;b&gt;&amp;amp;&quot;"));
    let derivation = json(&model_args[..model_args.len() - 2])["phases"][0]["kernels"].clone();
    let kernels = derivation.as_array().unwrap();
    let sides = kernels
        .iter()
        .flat_map(|k| k["derivation"].as_array().unwrap())
        .map(|s| s["after"].as_str().unwrap());
    let longest = sides.max_by_key(|s| s.chars().count()).unwrap();
    assert!(longest.chars().count() > 400, "{longest}");
    let plain = model.replace("<mark>", "").replace("</mark>", "");
    assert!(
        plain.contains(&longest.replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")),
        "{longest}"
    );
    for page in [&odd, &model] {
        let (attributes, style) = parse_page(page);
        let ids: Vec<&str> = attributes.iter().filter(|(k, _)| k == "id").map(|(_, v)| v.as_str()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "names of places are unique");
        for (key, value) in &attributes {
            assert!(!matches!(key.as_str(), "src" | "srcset" | "action") && !key.starts_with("on"), "{key}");
            if key == "href" {
                let place =
                    value.strip_prefix('#').unwrap_or_else(|| panic!("{value} leads out of the page"));
                assert!(ids.contains(&place), "{value} leads nowhere");
            }
            assert!(key == "style" || !value.contains("url("), "{value}");
        }
        let css = style.split("</style>").next().unwrap();
        assert!(!css.contains("@import") && !css.contains("url("));
        assert!(css.contains("prefers-color-scheme: dark") && css.contains(":focus-visible"));
        for part in [
            "<mark>",
            "CUDA source",
            "Tile program",
            "Why these are not fused",
            "without fusion",
            "__global__",
        ] {
            assert!(page == &odd || page.contains(part), "{part}");
        }
    }
    assert_eq!(model, text(&model_args));
    assert_eq!(tilewright(&["laws", "--format", "html"]).status.code(), Some(2));
    let path = dir.path().join("page.html").display().to_string();
    assert_eq!(text(&["explain", file.to_str().unwrap(), "--format", "html", "-o", &path]), "");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), odd);
    assert_eq!(tilewright(&["explain", "-e", ATTENTION, "-o", &path]).status.code(), Some(2));
}

#[test]
fn changes_are_marked_in_text_and_not_in_json() {
    let equations = "x: f32[i=64, c=4096]; m[i] = max[c](x[i,c]); l[i] = sum[c](exp(x[i,c] - m[i]))";
    let shown = text(&["explain", "-e", equations]);
    assert!(shown.contains("    => >>max[c.o](max[c.i](x[i,c']))<<"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours but on a terminal");
    let value = json(&["explain", "-e", equations]);
    for step in value["phases"][0]["kernels"][0]["derivation"].as_array().unwrap() {
        assert!(!step["after"].as_str().unwrap().contains(">>"));
    }
}

#[test]
fn long_steps_are_shortened_and_whole_when_asked_for() {
    let args = "explain tests/models/SmolLM2-135M --random-weights 1 --phase decode";
    let args: Vec<&str> = args.split(' ').collect();
    let sides = |shown: &str| -> Vec<String> {
        let step = |l: &str| l.starts_with("    => ") || l.starts_with("       ");
        shown.lines().filter(|l| step(l)).map(|l| l.trim_start_matches([' ', '=', '>']).to_owned()).collect()
    };
    let short = text(&args);
    assert!(short.contains(" ... ") && short.contains("--whole"), "{short}");
    // Marks come on top.
    assert!(sides(&short).iter().all(|s| s.chars().count() <= 440), "{short}");
    let whole = text(&[&args[..], &["--whole"]].concat());
    assert!(!whole.contains(" ... ") && !whole.contains("--whole"), "{whole}");
    assert_eq!(sides(&short).len(), sides(&whole).len());
    assert!(sides(&whole).iter().any(|s| s.chars().count() > 440), "{whole}");
}

#[test]
fn egraphs_are_drawn_when_asked_for_up_to_a_size() {
    nvrtc();
    let equations = "x: f32[i=64, c=4096]; m[i] = max[c](x[i,c]); l[i] = sum[c](exp(x[i,c] - m[i]))";
    let call = ["compile", "-e", equations, "--device", "emulator", "--emit", "egraph-dot"];
    let drawn = text(&call);
    assert_eq!(drawn, text(&call), "equal searches, equal drawings");
    let nodes: Vec<&str> =
        drawn.lines().filter(|l| l.contains(" [label=")).filter_map(|l| l.trim().split(' ').next()).collect();
    let clusters = drawn.lines().filter(|l| l.trim().starts_with("subgraph cluster_")).count();
    let value = json(&["explain", "-e", equations]);
    assert_eq!(value["phases"][0]["search_complete"], true);
    assert!(nodes.len() > clusters && clusters > 10, "{drawn}");
    for edge in drawn.lines().filter(|l| l.contains(" -> ")) {
        let words: Vec<&str> = edge.split_whitespace().collect();
        assert!(nodes.contains(&words[0]) && nodes.contains(&words[2]), "{edge}");
    }
    assert_eq!(drawn.matches('{').count(), drawn.matches('}').count());
    assert!(drawn.contains("fold sum[c]") && drawn.contains("max[c.i]"));
    let refused: Vec<&str> =
        call.iter().copied().chain(["--egraph-nodes", "10", "--format", "json"]).collect();
    let output = tilewright(&refused);
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("--egraph-nodes") && said.contains("10"), "{said}");
}

/// Everything that breaks an invariant in a text that somebody wrote is where they wrote it.
#[test]
fn broken_invariants_have_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for level in ["graph", "plan", "tile", "step"] {
        let folder = format!("{}/tests/filetests/{level}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if !path.file_name().unwrap().to_string_lossy().starts_with("verify_")
                || !text.contains("; error:")
            {
                continue;
            }
            let out = tilewright(&["opt", "--passes", "verify", path.to_str().unwrap(), "--format", "json"]);
            let error: Value = serde_json::from_slice(&out.stdout).unwrap();
            let error = &error["error"];
            assert_eq!(error["code"], 3, "{path:?}: {error}");
            let line = error["where"]["line"].as_u64().unwrap_or_else(|| panic!("{path:?}: {error}"));
            // Comments come first: a place in them is none.
            let row = text.lines().nth(line as usize - 1).unwrap();
            assert!(!row.trim().is_empty() && !row.starts_with(';'), "{path:?}: {error}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
    // The line and the column of what is wrong, and of the next thing.
    let file = dir.path().join("two.tw");
    let two = "global x: f32[5] input\nglobal y: f32[4] temp\ngraph @f(x: f32[i=4] input) {\n    \
        y[i]: f32 = x[i] + 1\n    z[i]: f32 = x[i, i]\n    return y\n}\ncall @f(x) -> (y)\n";
    std::fs::write(&file, two).unwrap();
    let out = tilewright(&["explain", file.to_str().unwrap()]);
    let shown = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(shown.contains("two.tw:5:5") && shown.contains("E2: @f: v2 `z`"), "{shown}");
    assert!(shown.contains("G9: call 0 of @f: v0 `x`: `x` has the extents [5]"), "{shown}");
}
