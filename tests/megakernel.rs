//! The persistent kernel on the emulator: equal to separate launches bit for bit, on any number of SMs, under all checks.

// What was found is for readers.
#![allow(clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{for_all, goldens};
use tilewright::codegen::Target;
use tilewright::generate::{Conversation, Request, generate, score};
use tilewright::ir::artifact::Persistent;
use tilewright::megakernel::{ADVANCE, Costs, Event, NO_KIND, Record, Violation, WORDS, check};
use tilewright::persistent::{certify, narrowed, plan, scheduled};
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::timeline::timeline;
use tilewright::{Compiler, DType, DeviceSpec, Phase};

/// The logits of three steps, as bits.
fn bits(folder: &Path, activations: DType, device: &str, mode: Mode) -> Result<Vec<u32>, String> {
    let module = Compiler::model(folder)
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .activations(activations)
        .mode(mode)
        .compile()
        .map_err(|e| e.to_string())?;
    let scored = score(&module, &[3, 9, 4], Phase::Decode).map_err(|e| e.to_string())?;
    Ok(scored.logits.iter().map(|x| x.to_bits()).collect())
}

/// Compares all goldens on a device with a graph of launches.
fn equal(activations: DType, device: &str) {
    nvrtc();
    let mut failures = Vec::new();
    for folder in goldens() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = bits(&folder, activations, "emulator", Mode::Graph).expect("a golden runs");
        match bits(&folder, activations, device, Mode::Megakernel) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                let n = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                failures.push(format!("{name}: {n} of {} logits differ", expected.len()));
            }
            Err(e) => failures.push(format!("{name}: {e}")),
        }
    }
    assert!(failures.is_empty(), "{device} {activations}:\n{}", failures.join("\n"));
}

#[test]
fn goldens_on_one_sm() {
    equal(DType::Bf16, "emulator:tiny1,sanitize=all");
}

#[test]
fn goldens_on_three_sms() {
    equal(DType::Bf16, "emulator:tiny3,sanitize=all");
}

#[test]
fn goldens_on_eight_sms_in_f32() {
    equal(DType::F32, "emulator:tiny8,sanitize=all");
}

#[test]
fn goldens_on_132_sms() {
    equal(DType::Bf16, "emulator:h100");
}

#[test]
fn goldens_in_an_adversarial_schedule() {
    equal(DType::Bf16, "emulator:tiny3,sanitize=all,seed=1");
}

/// What a model says after a prompt.
fn generated(folder: &Path, device: &str, mode: Mode, per_launch: u32, eos: bool) -> (Vec<u64>, u64) {
    let module = Compiler::model(folder)
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .mode(mode)
        .tokens_per_launch(per_launch)
        .compile()
        .expect("a golden compiles");
    let request = Request { prompt: &[3, 9, 4], tokens: 17, ignore_eos: !eos, check: false, sampling: None };
    let first = generate(&module, &request, |_| ()).expect("a golden runs");
    // The second time counters go on from where they are.
    let again = generate(&module, &request, |_| ()).expect("a golden runs again");
    assert_eq!(first.tokens, again.tokens, "{}", folder.display());
    (first.tokens, first.traffic.launches)
}

#[test]
fn many_tokens_in_one_launch_are_those_of_many_launches() {
    nvrtc();
    for folder in goldens().iter().step_by(4) {
        let (expected, _) = generated(folder, "emulator", Mode::Launch, 1, false);
        assert_eq!(expected.len(), 17);
        let (found, one_by_one) = generated(folder, "emulator:tiny8", Mode::Megakernel, 1, false);
        assert_eq!(found, expected, "{}", folder.display());
        // One token comes from the prompt.
        let prefill = one_by_one - 16;
        let (found, launches) = generated(folder, "emulator:tiny3,sanitize=all", Mode::Megakernel, 16, false);
        assert_eq!(found, expected, "{}", folder.display());
        assert_eq!(launches, prefill + 1, "sixteen tokens are one launch");
        let (found, launches) = generated(folder, "emulator:tiny8", Mode::Megakernel, 5, false);
        assert_eq!(found, expected, "{}", folder.display());
        assert_eq!(launches, prefill + 4, "five, five, five and one");
    }
}

#[test]
fn a_stop_token_ends_a_launch_and_nothing_else() {
    nvrtc();
    let folder = &goldens()[3];
    let module = |device: &str| {
        Compiler::model(folder)
            .device(device.parse::<DeviceSpec>().expect("a device"))
            .phases(&[Phase::Decode])
            .mode(Mode::Megakernel)
            .tokens_per_launch(8)
            .compile()
            .expect("a golden compiles")
    };
    for device in ["emulator:tiny3,sanitize=all", "emulator:tiny3,sanitize=all,seed=4", "emulator:tiny1"] {
        let module = module(device);
        let from = |id: u64| {
            let mut conversation = Conversation::new(&module).expect("a model");
            let all = conversation.go_on(id, 8, &[], None).expect("it goes on");
            assert_eq!((all.len(), conversation.past()), (8, 8));
            // A token that did not come before.
            let at = (1..7).find(|&n| !all[..n].contains(&all[n]))?;
            Some((id, all, at))
        };
        let (id, all, at) = (0..40).find_map(from).expect("a model that says more than one thing");
        let mut conversation = Conversation::new(&module).expect("a model");
        let some = conversation.go_on(id, 8, &[all[at]], None).expect("it stops");
        assert_eq!(some, all[..=at], "{device}");
        assert_eq!(conversation.past(), at as u64 + 1);
        // What follows is what would have followed.
        let rest = conversation.go_on(some[at], 7 - at as u64, &[], None).expect("it goes on");
        assert_eq!(rest, all[at + 1..], "{device}");
        // There is no room for more than the context.
        assert!(conversation.go_on(3, 100_000, &[], None).is_err());
    }
}

#[test]
fn schedules_of_all_goldens_are_proved() {
    nvrtc();
    for folder in goldens() {
        let module = Compiler::model(&folder)
            .device("emulator:h100".parse::<DeviceSpec>().expect("a device"))
            .phases(&[Phase::Decode])
            .mode(Mode::Megakernel)
            .tokens_per_launch(4)
            .compile()
            .expect("a golden compiles");
        let (scheduled, certificate) = certify(&module, "decode").expect("a schedule").expect("it is right");
        assert!(certificate.repeats && certificate.loads.is_some());
        assert_eq!((certificate.blocks, scheduled.tables.blocks), (132, 132));
        assert_eq!(certificate.tasks, scheduled.graph.tasks.len() - 1, "and the end of the step");
    }
}

/// Waits of all for all are for data: memory that is used again is no reason, on any number of SMs.
#[test]
fn no_wait_of_all_for_all_is_for_memory_alone() {
    nvrtc();
    for folder in goldens() {
        let module = Compiler::model(&folder)
            .device("emulator:tiny1".parse::<DeviceSpec>().expect("a device"))
            .phases(&[Phase::Decode])
            .mode(Mode::Megakernel)
            .tokens_per_launch(4)
            .compile()
            .expect("a golden compiles");
        let phase = module.phase("decode").expect("a phase");
        let c = &phase.planned.compiled;
        // As separate launches have it, memory is used again, and that shows.
        assert!(c.step.arena_bytes > 0);
        for sms in [1, 3, 8, 132] {
            let target = Target::parse("sm_90a").expect("a target");
            let plan = plan(&phase.planned, phase.repeat.as_ref(), sms, module.task_costs(), target);
            let plan = plan.expect("a schedule");
            let report = &plan.schedule.report;
            assert_eq!(report.undemanded, 0, "{} on {sms} SMs: {report:?}", folder.display());
            let verdict = check(&c.step, &c.programs, &plan.bodies, &plan.tables).expect("a step");
            assert!(verdict.is_ok(), "{} on {sms} SMs", folder.display());
        }
    }
}

/// No wait of a task follows from its other waits, by a closure over single tasks that is made here.
#[test]
fn waits_are_those_that_no_others_imply() {
    for (n, folder) in goldens().iter().enumerate() {
        let compiler = Compiler::model(folder).phases(&[Phase::Decode]).batch(1 + n as u64 % 2);
        let target = Target::parse("sm_90a").expect("a target");
        let planned = narrowed(compiler.plan().expect("a plan").remove(0), target).expect("tasks");
        for sms in [1, 3, 132] {
            let graph = plan(&planned, None, sms, &Costs::default(), target).expect("a schedule").graph;
            let words = graph.tasks.len().div_ceil(64);
            let mut before: Vec<Vec<u64>> = Vec::new();
            let (mut waits, mut more) = (0, Vec::new());
            for (task, data) in &graph.tasks {
                // What is done once an event is there.
                let after = |e: Event| {
                    let mut all = vec![0u64; words];
                    for p in graph.events[e].producers.iter().map(|p| p.as_u32() as usize) {
                        all.iter_mut().zip(&before[p]).for_each(|(a, b)| *a |= b);
                        all[p / 64] |= 1 << (p % 64);
                    }
                    all
                };
                let known: Vec<Vec<u64>> = data.waits.iter().map(|&e| after(e)).collect();
                for (n, &e) in data.waits.iter().enumerate() {
                    let has = |p: usize| {
                        known.iter().enumerate().any(|(m, k)| m != n && k[p / 64] >> (p % 64) & 1 != 0)
                    };
                    if graph.events[e].producers.iter().all(|p| has(p.as_u32() as usize)) {
                        more.push((task, e));
                    }
                }
                waits += data.waits.len();
                let mut mine = vec![0u64; words];
                known.iter().for_each(|k| mine.iter_mut().zip(k).for_each(|(a, b)| *a |= b));
                before.push(mine);
            }
            let name = folder.display();
            println!(
                "{name} on {sms} SMs: {waits} waits, {} left out, {} too many",
                graph.implied,
                more.len()
            );
            assert!(graph.implied > 0 && more.is_empty(), "{name} on {sms} SMs: {more:?}");
        }
    }
}

/// What is wrong between steps does not show within one.
#[test]
fn steps_that_run_into_each_other_are_caught() {
    nvrtc();
    let module = Compiler::model(&goldens()[0])
        .device("emulator:tiny3".parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .mode(Mode::Megakernel)
        .tokens_per_launch(4)
        .compile()
        .expect("a golden compiles");
    let compiled = &module.phase("decode").expect("a phase").planned.compiled;
    let plan = scheduled(&module, "decode").expect("a schedule");
    let good = &plan.tables;
    let verdict = |tables: &Persistent| {
        check(&compiled.step, &compiled.programs, &plan.bodies, tables).expect("a step")
    };
    assert!(verdict(good).is_ok());
    let (mut tried, mut named) = (0, 0);
    for n in 0..good.records.len() / WORDS {
        let record = Record::read(&good.records[n * WORDS..][..WORDS]).expect("a record");
        let before = record.clone();
        let mut spoil = |change: &dyn Fn(&mut Record)| {
            let mut record = before.clone();
            change(&mut record);
            if record == before {
                return;
            }
            let mut tables = good.clone();
            tables.records[n * WORDS..][..WORDS].copy_from_slice(&record.words().expect("it fits"));
            tried += 1;
            let violation = verdict(&tables).expect_err("a step that runs into the next");
            named += usize::from(matches!(violation, Violation::Repeat(_)));
        };
        if record.waits.iter().any(|w| w.2) {
            spoil(&|r| r.waits.retain(|w| !w.2));
            spoil(&|r| r.waits.reverse());
        }
        if record.kind == ADVANCE {
            spoil(&|r| r.waits.clear());
            spoil(&|r| r.signals.clear());
            spoil(&|r| r.kind = NO_KIND);
        }
    }
    assert!(tried >= 6 && named + 1 >= tried, "{named} of {tried}");
}

/// A vocabulary that is cut into parts when tokens are chosen, on more SMs than there is work for.
#[test]
fn a_long_row_of_logits_is_looked_at_in_parts() {
    nvrtc();
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 72,
        "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
        "vocab_size": 1031, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
        "tie_word_embeddings": false, "hidden_act": "silu"}"#;
    let tokens = |device: &str, mode: Mode, per_launch: u32| {
        let module = Compiler::config(config, 5)
            .device(device.parse::<DeviceSpec>().expect("a device"))
            .phases(&[Phase::Decode])
            .mode(mode)
            .tokens_per_launch(per_launch)
            .compile()
            .expect("it compiles");
        let request = Request { prompt: &[1000], tokens: 12, ignore_eos: true, check: false, sampling: None };
        generate(&module, &request, |_| ()).expect("it runs").tokens
    };
    let expected = tokens("emulator", Mode::Launch, 1);
    assert!(expected.iter().any(|&t| t > 512), "{expected:?}");
    assert_eq!(tokens("emulator:tiny3,sanitize=all", Mode::Megakernel, 11), expected);
    assert_eq!(tokens("emulator:h100", Mode::Megakernel, 4), expected);
}

#[test]
fn a_timeline_has_each_task_once_and_in_order() {
    nvrtc();
    let module = Compiler::model(&goldens()[0])
        .device("emulator:tiny3,sanitize=all".parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .mode(Mode::Megakernel)
        .compile()
        .expect("a golden compiles");
    let found = timeline(&module, &[3, 4]).expect("it runs");
    let tables = scheduled(&module, "decode").expect("a schedule").tables;
    assert_eq!(found.spans.len(), tables.records.len() / WORDS);
    assert_eq!(found.sms, 3);
    for pair in found.spans.windows(2).filter(|p| p[0].sm == p[1].sm) {
        assert!(pair[0].came <= pair[0].started && pair[0].started <= pair[0].done, "{pair:?}");
        assert!(pair[0].done <= pair[1].came, "{pair:?}");
    }
    assert!(found.length() > 0 && found.busy() > 0.0 && found.busy() <= 1.0);
    let trace = found.trace();
    let events = trace["traceEvents"].as_array().expect("events");
    assert!(events.len() > found.spans.len());
    // What a viewer of such traces asks for: complete events with times, and on one track none over another.
    let mut tracks: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    for e in events {
        let number = |key: &str| e[key].as_u64().unwrap_or_else(|| panic!("{key} of {e}"));
        assert!(e["name"].is_string(), "{e}");
        match e["ph"].as_str() {
            Some("M") => assert!(e["args"]["name"].is_string(), "{e}"),
            Some("X") => {
                let (from, long) = (e["ts"].as_f64().expect("ts"), e["dur"].as_f64().expect("dur"));
                assert!(from >= 0.0 && long >= 0.0, "{e}");
                tracks.entry((number("pid"), number("tid"))).or_default().push((from, from + long));
            }
            other => panic!("{other:?} in {e}"),
        }
    }
    assert!(tracks.len() > 3);
    for spans in tracks.values_mut() {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(spans.windows(2).all(|p| p[0].1 <= p[1].0 + 1e-6), "{spans:?}");
    }
    let host: Vec<_> = events.iter().filter(|e| e["cat"] == "host").collect();
    assert!(host.len() >= 3 && host.iter().all(|e| e["dur"].as_f64().is_some_and(|d| d >= 0.0)), "{host:?}");
    let svg = found.svg();
    assert!(
        svg.starts_with("<svg")
            && svg.ends_with("</svg>\n")
            && svg.matches("<title>").count() >= found.spans.len()
    );
}

/// One model of each family with eight seeds; a longer exploration goes through all goldens.
#[test]
fn orders_of_many_seeds_give_the_same() {
    nvrtc();
    let all = goldens();
    let of = |seed: u64| {
        ["llama_llama3", "mistral_window", "qwen2_bias", "qwen3_norm"].map(|family| {
            let found = all.iter().position(|f| f.ends_with(family));
            (found.expect("a golden of each family"), seed)
        })
    };
    let more: Option<u64> = std::env::var("MEGAKERNEL_SEEDS").ok().and_then(|s| s.parse().ok());
    let cases: Vec<(usize, u64)> = match more {
        Some(n) => (0..n).map(|seed| (seed as usize % all.len(), seed)).collect(),
        None => (0..8).flat_map(of).collect(),
    };
    let launched =
        |folder: &PathBuf| bits(folder, DType::Bf16, "emulator", Mode::Launch).expect("a golden runs");
    let expected: Vec<_> = all.iter().map(launched).collect();
    for_all(cases.len() as u64, |n| {
        let (golden, seed) = cases[n as usize];
        let device = format!("emulator:tiny3,sanitize=all,seed={seed}");
        let found = bits(&all[golden], DType::Bf16, &device, Mode::Megakernel);
        let name = all[golden].display();
        assert!(found.as_ref() == Ok(&expected[golden]), "{name} with seed {seed}: {:?}", found.err());
    });
}

#[test]
fn several_sequences_in_one_step() {
    nvrtc();
    let run = |mode: Mode, device: &str| {
        let module = Compiler::model(&goldens()[0])
            .device(device.parse::<DeviceSpec>().expect("a device"))
            .phases(&[Phase::Decode])
            .batch(3)
            .mode(mode)
            .compile()
            .expect("a golden compiles");
        let executable = module.executable("decode").expect("it loads");
        let mut out = Vec::new();
        for past in 0..3i64 {
            let ids: Vec<u8> = [3, 9, 4 + past as i32].into_iter().flat_map(i32::to_le_bytes).collect();
            // Lengths of their own.
            let lengths: Vec<u8> =
                [past as i32, 0, 2 * past as i32].into_iter().flat_map(i32::to_le_bytes).collect();
            let inputs: [(&str, &[u8]); 2] = [("ids", &ids), ("past", &lengths)];
            let result = executable.run(&[("kv", 2 * past + 1)], &inputs);
            out.push(result.expect("it runs").output("logits").expect("logits").clone());
        }
        out
    };
    assert!(run(Mode::Megakernel, "emulator:tiny3,sanitize=all") == run(Mode::Launch, "emulator"));
}
