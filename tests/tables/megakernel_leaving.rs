//! Leaving a persistent kernel before its work is done: told to, or because somebody did not come. It ends within a limit, says
//! where it was, and the next run is as if nothing had been.

use std::time::{Duration, Instant};

use tilewright::codegen::Target;
use tilewright::generate::Conversation;
use tilewright::ir::artifact::{KernelBinary, Persistent};
use tilewright::megakernel::{Record, WORDS};
use tilewright::persistent::{plan, scheduled};
use tilewright::runtime::exec::{ExecError, Executable, Patience};
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::{Compiler, DeviceSpec, Module, Phase};

const TARGETS: [&str; 2] = ["sm_80", "sm_90a"];

/// Of which weights are copied ahead where the target can do that.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 272,
    "intermediate_size": 520, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 64, "vocab_size": 203, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
    "tie_word_embeddings": false, "hidden_act": "silu"}"#;

fn module(device: &str, target: &str, per_launch: u32) -> Module {
    nvrtc();
    Compiler::config(CONFIG, 5)
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .target(Some(target.into()))
        .phases(&[Phase::Decode])
        .mode(Mode::Megakernel)
        .tokens_per_launch(per_launch)
        .compile()
        .expect("it compiles")
}

fn step(executable: &Executable, past: i64) -> Result<Vec<u8>, ExecError> {
    let ids = 3i32.to_le_bytes();
    let result = executable.run(&[("past", past), ("kv", past + 1)], &[("ids", &ids)])?;
    Ok(result.output("logits").expect("logits").data.clone())
}

#[test]
fn who_is_told_to_stop_does() {
    for target in TARGETS {
        let module = module("emulator:tiny3,sanitize=all", target, 1);
        let executable = module.executable("decode").expect("it loads");
        let expected = step(&executable, 0).expect("it runs");
        executable.stop().expect("it can be told");
        let error = step(&executable, 0).expect_err("it stops");
        assert!(matches!(error, ExecError::Stopped { .. }), "{error}");
        assert!(error.to_string().contains("was told to stop"), "{error}");
        for _ in 0..2 {
            assert_eq!(step(&executable, 0).expect("it runs again"), expected);
        }
    }
}

/// Tables in which a signal is missing: the block, its record and the counter.
fn silenced(good: &Persistent, nth: usize) -> Option<(Persistent, usize, u32)> {
    let mut all = Vec::new();
    for (block, &(start, count)) in good.queues.iter().enumerate() {
        for n in start..start + count {
            let record = Record::read(&good.records[n as usize * WORDS..][..WORDS]).expect("a record");
            all.extend((0..record.signals.len()).map(|s| (block, n as usize, s, record.clone())));
        }
    }
    let (block, n, s, mut record) = all.into_iter().nth(nth)?;
    let counter = record.signals.remove(s);
    let mut tables = good.clone();
    tables.records[n * WORDS..][..WORDS].copy_from_slice(&record.words().expect("it fits"));
    Some((tables, block, counter))
}

#[test]
fn an_sm_that_never_signals_is_waited_for_up_to_a_limit() {
    for (on, target) in
        [("tiny3,sanitize=all", TARGETS[0]), ("tiny3,sanitize=all,seed=3", TARGETS[1]), ("tiny8", TARGETS[1])]
    {
        let module = module(&format!("emulator:{on}"), target, 1);
        let phase = module.phase("decode").expect("a phase");
        let c = &phase.planned.compiled;
        let good = scheduled(&module, "decode").expect("a schedule").tables;
        let prepare = |tables: &Persistent| {
            module.session().prepare_persistent(&c.step, tables, &phase.kernels[0]).expect("it loads")
        };
        // States are those of the session, so all of these see the same.
        let sound = prepare(&good);
        let first = step(&sound, 0).expect("it runs");
        let second = step(&sound, 1).expect("it runs");
        for nth in [0, 5, 11] {
            let (tables, _, counter) = silenced(&good, nth).expect("a signal");
            let executable = prepare(&tables);
            executable.wait_for(Patience { others: Duration::from_millis(2), ..Patience::default() });
            // It is the state of the second step that is half written.
            let error = step(&executable, 1).expect_err("nobody comes");
            let ExecError::Late { limit, blocks, .. } = &error else { panic!("{on}: {error}") };
            assert_eq!(*limit, Duration::from_millis(2));
            assert!(blocks.contains(&format!("counter {counter} is ")), "{on}: {blocks}");
            assert!(blocks.contains("`") && blocks.contains("record"), "the record and its kernel: {blocks}");
            // Again, with the usual limits, and with counters that begin at zero.
            executable.wait_for(Patience::default());
            assert!(matches!(step(&executable, 1), Err(ExecError::Late { .. })), "{on}");
            assert_eq!(step(&sound, 1).expect("it runs"), second, "{on}: what the first step left is there");
        }
        assert_eq!(step(&sound, 0).expect("it runs"), first);
    }
}

/// A device with less than was planned for, and requests for more than was compiled: each is refused by name, and what was
/// there goes on.
#[test]
fn what_is_too_little_or_too_much_is_refused() {
    let m = module("emulator:tiny3,sanitize=all", TARGETS[1], 4);
    let phase = m.phase("decode").expect("a phase");
    let target = Target::parse(TARGETS[1]).expect("a target");
    let tables =
        plan(&phase.planned, phase.repeat.as_ref(), 8, m.task_costs(), target).expect("a schedule").tables;
    let prepared = m.session().prepare_persistent(&phase.planned.compiled.step, &tables, &phase.kernels[0]);
    let error = tilewright::Error::from(prepared.map(|_| ()).expect_err("eight blocks on three SMs"));
    let text = error.to_string();
    assert_eq!(error.exit_code(), 5, "{text}");
    assert!(text.contains("needs 8 blocks") && text.contains("room for 3"), "{text}");
    // A kernel for the shared memory of another kind of device.
    let small = module("emulator:rtx4090", TARGETS[1], 1);
    let error = small.executable("decode").map(|_| ()).expect_err("99 KiB instead of 227");
    assert_eq!(error.exit_code(), 5, "{error}");
    assert!(error.to_string().contains("bytes of shared memory"), "{error}");

    let mut conversation = Conversation::new(&m).expect("a model");
    let all = conversation.go_on(7, 4, &[], None).expect("it goes on");
    let mut conversation = Conversation::new(&m).expect("a model");
    let some = conversation.go_on(7, 2, &[], None).expect("it goes on");
    let error = conversation.go_on(some[1], 100_000, &[], None).expect_err("64 positions");
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("context of 64"), "{error}");
    let error = conversation.go_on_all(&[Some(some[1]), Some(3)], 1, &[], None).expect_err("a batch of 1");
    assert!(error.to_string().contains("batch of 1"), "{error}");
    assert_eq!(conversation.go_on(some[1], 2, &[], None).expect("it goes on"), all[2..]);
}

/// A copy of the block itself cannot be left behind, so the kernel is ended by force.
#[test]
fn a_copy_that_never_arrives_ends_the_kernel_by_force() {
    let module = module("emulator:tiny3,sanitize=all", TARGETS[1], 1);
    let phase = module.phase("decode").expect("a phase");
    let c = &phase.planned.compiled;
    let tables = scheduled(&module, "decode").expect("a schedule").tables;
    let kernel = &phase.kernels[0];
    // Whoever copies does not say that pages are full.
    let pieces = kernel.ptx.split_inclusive("\n}\n").map(|piece| {
        let at = piece.rfind("mbarrier.arrive.shared.b64");
        match at.filter(|_| piece.contains(".func") && piece.contains("_feed(")) {
            Some(at) => {
                let end = at + piece[at..].find(';').expect("its end") + 1;
                format!("{}{}", &piece[..at], &piece[end..])
            }
            None => piece.to_owned(),
        }
    });
    let ptx: String = pieces.collect();
    assert_ne!(ptx, kernel.ptx, "something is copied ahead");
    let spoiled = KernelBinary { ptx, ..kernel.clone() };
    let executable = module.session().prepare_persistent(&c.step, &tables, &spoiled).expect("it loads");
    let error = step(&executable, 0).expect_err("it waits forever");
    assert!(matches!(error, ExecError::Lost { .. }), "{error}");
    let sound = module.executable("decode").expect("it loads");
    let expected = step(&sound, 0).expect("it runs");
    assert_eq!(step(&sound, 0).expect("it runs"), expected);
}

/// On one SM nobody waits for others, so the request is seen where a step ends; on several perhaps before.
#[test]
fn a_stop_that_is_asked_for_in_the_middle_ends_the_launch() {
    for (on, target) in
        [("tiny1", TARGETS[0]), ("tiny1", TARGETS[1]), ("tiny3", TARGETS[0]), ("tiny3", TARGETS[1])]
    {
        let module = module(&format!("emulator:{on}"), target, 12);
        let mut conversation = Conversation::new(&module).expect("a model");
        let start = Instant::now();
        let all = conversation.go_on(7, 12, &[], None).expect("it goes on");
        let whole = start.elapsed();
        assert_eq!(all.len(), 12);
        let executable = module.executable("decode").expect("it loads");
        // Where the request comes does not matter: this launch or the next ends early.
        let (mut between, mut tries) = (false, 0);
        while tries < 3 || on == "tiny1" && !between && tries < 20 {
            tries += 1;
            let mut conversation = Conversation::new(&module).expect("a model");
            let (first, other) = std::thread::scope(|s| {
                let asked = s.spawn(|| {
                    std::thread::sleep(whole * (1 + tries % 4) / 5);
                    executable.stop().expect("it can be told");
                });
                let first = conversation.go_on(7, 12, &[], None);
                asked.join().expect("it asks");
                let other = if first.is_ok() { Some(conversation.go_on(7, 1, &[], None)) } else { None };
                (first, other)
            });
            match (first, other) {
                (Err(error), None) => {
                    let text = error.to_string();
                    assert!(text.contains("was told to stop"), "{text}");
                    assert_eq!(error.exit_code(), 5);
                    between |= text.contains("steps of 12");
                }
                (Ok(_), Some(Err(error))) => assert!(error.to_string().contains("was told to stop")),
                (first, other) => panic!("{first:?} {other:?}"),
            }
            let mut conversation = Conversation::new(&module).expect("a model");
            assert_eq!(conversation.go_on(7, 12, &[], None).expect("it goes on"), all, "{on} {target}");
        }
        assert!(between || on != "tiny1", "{target}: some request came between two steps");
    }
}
