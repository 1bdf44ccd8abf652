//! Code around pages that is wrong on purpose. Which mutants are harmful is written down beforehand, from the rules of the
//! ring: a page is written when all have read it, read when it is full, and what one lane saw holds for others once they met.

use crate::common::run_tables;
use tilewright::ir::artifact::KernelBinary;
use tilewright::megakernel::check::loads;
use tilewright::persistent::scheduled;
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::{Compiler, DeviceSpec, Phase};

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 272,
    "intermediate_size": 520, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 64, "vocab_size": 203, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
    "tie_word_embeddings": false, "hidden_act": "silu"}"#;

/// The statements of a kind in a text, as ranges.
fn find(text: &str, what: &str) -> Vec<(usize, usize)> {
    let ends = |at: usize| at + text[at..].find(';').expect("the end of a statement") + 1;
    text.match_indices(what).map(|(at, _)| (at, ends(at))).collect()
}

/// One change of a function, by its text.
type Change = fn(&str) -> Option<String>;

fn replaced(text: &str, (from, to): (usize, usize), by: &str) -> Option<String> {
    Some(format!("{}{by}{}", &text[..from], &text[to..]))
}

const WAIT: &str = "mbarrier.try_wait.parity.shared.b64 q";
const ARRIVE: &str = "mbarrier.arrive.shared.b64";
const MEET: &str = "bar.warp.sync";

/// A wait of the others' parity.
fn other_phase(text: &str, nth: usize) -> Option<String> {
    let (from, to) = *find(text, WAIT).get(nth)?;
    let parity = text[from..to].rsplit(',').next()?.trim_end_matches(';').trim();
    let wait = text[from..to].replace(&format!(", {parity};"), ", w;");
    replaced(text, (from, to), &format!(".reg .b32 w; xor.b32 w, {parity}, 1; {wait}"))
}

/// A wait that is over at once.
fn no_wait(text: &str, nth: usize) -> Option<String> {
    let (from, to) = *find(text, WAIT).get(nth)?;
    replaced(text, (from, to), "setp.eq.u32 q, 0, 0;")
}

/// In a function that computes: the wait for a full page comes last.
fn full(text: &str) -> Option<usize> {
    find(text, WAIT).len().checked_sub(1)
}

/// In a function that computes: the release is the first arrival behind that wait.
fn release(text: &str) -> Option<(usize, usize)> {
    let wait = *find(text, WAIT).last()?;
    find(text, ARRIVE).into_iter().find(|a| a.0 > wait.1)
}

/// Changes of functions that copy (where waits for free pages left out, their copies, free pages and their copies follow
/// each other) and of those that compute.
const CHANGES: &[(&str, bool, bool, Change)] = &[
    ("copying: no wait for free pages", true, true, |t| no_wait(t, 2)),
    ("copying: free in another phase", true, true, |t| other_phase(t, 2)),
    ("copying: lanes do not meet", true, true, |t| {
        let wait = *find(t, WAIT).get(3)?;
        replaced(t, find(t, MEET).into_iter().find(|m| m.0 > wait.1)?, "")
    }),
    ("copying: fewer bytes are expected", true, true, |t| {
        let all = find(t, "mbarrier.expect_tx");
        replaced(t, *all.last()?, "")
    }),
    ("copying: pages are never full", true, true, |t| replaced(t, *find(t, ARRIVE).last()?, "")),
    ("computing: no wait for full pages", false, true, |t| no_wait(t, full(t)?)),
    ("computing: full in another phase", false, true, |t| other_phase(t, full(t)?)),
    ("computing: released before all lanes have read", false, true, |t| {
        let release = release(t)?;
        replaced(t, find(t, MEET).into_iter().rfind(|m| m.1 < release.0)?, "")
    }),
    ("computing: another page is released, too", false, true, |t| {
        let at = *find(t, WAIT).last()?;
        replaced(t, (at.0, at.0), &format!("mbarrier.arrive.shared.b64 _, [{}], 1; ", left_out(t)?))
    }),
    ("computing: pages are never released", false, true, |t| replaced(t, release(t)?, "")),
    ("computing: released twice", false, true, |t| {
        let (from, to) = release(t)?;
        let twice = format!("{0} {0}", &t[from..to]);
        replaced(t, (from, to), &twice)
    }),
    ("computing: no proxy fence before own copies", false, true, |t| {
        replaced(t, *find(t, "fence.proxy.async").first()?, "")
    }),
    ("computing: a stronger proxy fence", false, false, |t| {
        let (from, to) = *find(t, "fence.proxy.async").first()?;
        let twice = format!("{0} {0}", &t[from..to]);
        replaced(t, (from, to), &twice)
    }),
];

/// The register with the address at which pages left out are released, which is before the wait for full ones.
fn left_out(text: &str) -> Option<&str> {
    let wait = *find(text, WAIT).last()?;
    let (from, to) = find(text, ARRIVE).into_iter().rfind(|a| a.1 < wait.0)?;
    Some(text[from..to].split_once('[')?.1.split_once(']')?.0)
}

#[test]
fn every_harmful_change_around_pages_is_caught() {
    nvrtc();
    let module = Compiler::config(CONFIG, 5)
        .device("emulator:tiny1,sanitize=all".parse::<DeviceSpec>().expect("a device"))
        .target(Some("sm_90a".into()))
        .phases(&[Phase::Decode])
        .mode(Mode::Megakernel)
        .compile()
        .expect("it compiles");
    let phase = module.phase("decode").expect("a phase");
    let c = &phase.planned.compiled;
    let tables = scheduled(&module, "decode").expect("a schedule").tables;
    let kernel = &phase.kernels[0];
    let expected = run_tables(&module, &tables, kernel).expect("it runs");
    println!("{:<50}{:>8}{:>9}{:>10}", "", "harmful", "checker", "emulator");
    let mut wrong = Vec::new();
    let mut judge = |class: &str, ptx: String, harmful: bool| {
        assert_ne!(ptx, kernel.ptx, "{class} changes something");
        let checker = loads(&c.step, &c.programs, None, &ptx).is_err();
        let found = run_tables(&module, &tables, &KernelBinary { ptx, ..kernel.clone() });
        let emulator = found.as_ref() != Ok(&expected);
        println!("{class:<50}{harmful:>8}{checker:>9}{emulator:>10}");
        if harmful != (checker || emulator) {
            wrong
                .push(format!("{class}: {:?}", found.err().map(|e| e.chars().take(300).collect::<String>())));
        }
    };
    for &(class, copies, harmful, change) in CHANGES {
        // In all functions of that side.
        let mut out = String::new();
        for piece in kernel.ptx.split_inclusive("\n}\n") {
            let copying = piece.contains("_feed(") && piece.contains(".func");
            let computing = piece.contains(".func") && !copying;
            let changed = if copying && copies || computing && !copies { change(piece) } else { None };
            out.push_str(changed.as_deref().unwrap_or(piece));
        }
        judge(class, out, harmful);
    }
    // What is copied ahead must be what nothing writes: the address of a buffer that is written instead.
    let start = kernel.ptx.find("tw_task1_feed(").expect("who copies for the first matrix");
    let end = start + kernel.ptx[start..].find("\n}\n").expect("its end");
    let text = kernel.ptx[start..end].replace("tw_task1_feed_param_2]", "tw_task1_feed_param_0]");
    judge(
        "copying: what the step writes",
        format!("{}{text}{}", &kernel.ptx[..start], &kernel.ptx[end..]),
        true,
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}
