//! What: PTX that is wrong: by hand, and by thousands of mutations of good PTX.
//! Why here: text comes from outside; the parser and the decoder must answer with an error, never a panic.
//! Pre: the PTX of the tests.
//! Post: errors name line and instruction; whatever decodes also runs without a panic.

#[path = "../../fuzz/entry.rs"]
mod entry;
use crate::common::Rng;
use entry::{Reached, any_bytes};
use std::path::{Path, PathBuf};
use tilewright_emulator::Program;

fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n.reg .pred %p<4>;\n\
         .reg .b16 %h<4>;\n.reg .b32 %r<9>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<9>;\n.reg .f64 %fd<4>;\n{body}\nret;\n}}\n"
    )
}

#[test]
fn errors_name_the_place() {
    for (body, want) in [
        ("frobnicate.f32 %f1, %f2;", "unknown instruction `frobnicate`"),
        ("add.f32.wobbly %f1, %f2, %f3;", "unknown modifier `.wobbly`"),
        ("add.f32 %f1, %f2;", "operands"),
        ("add.f32 %f1, %rd2, %f3;", "`%rd2` has 64 bits"),
        ("add.s32 %r1, %r2, %r77;", "`%r77`"),
        ("mov.u32 %r1, %nonsense;", "`%nonsense`"),
        ("bra NOWHERE;", "no label `NOWHERE`"),
        ("ld.global.f32 %f1, %rd1;", "brackets"),
        ("ld.global.f32 %f1, [nothing];", "`nothing` is not declared"),
        ("setp.lt.f32 %r1, %f1, %f2;", "predicate"),
        ("add.f32 %f1, %f2, %p1;", "predicate"),
        ("@%r1 bra L; L:", "predicate"),
        ("L: L: ret;", "twice"),
        ("cvt.f16.f32 %h1, %f1;", "rounding mode"),
        ("mma.sync.aligned.m16n8k7.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r1}, {%f1};", "shape"),
        ("call (%r1), missing, (%r2);", "missing"),
        ("st.const.f32 [%rd1], %f1;", "read-only"),
        ("wgmma.fence.sync.aligned;", "unknown instruction `wgmma`"),
        ("ex2.f32 %f1, %f2;", "`.approx` is missing"),
        (".reg .b32 %big<99999999>;", "too many"),
        (".local .b8 huge[999999999];", "local memory"),
    ] {
        let e = Program::parse(&kernel(body)).unwrap_err();
        assert!(e.to_string().contains(want), "{body}: {e}");
        assert!(e.line == 12 || e.line == 4, "{body}: {e}");
    }
    let recursive = ".version 8.0\n.target sm_80\n.address_size 64\n.func f() { call f; ret; }\n\
                     .entry k() { call f; ret; }";
    assert!(Program::parse(recursive).unwrap_err().message.contains("recursion"));
    assert!(Program::parse(".address_size 32").unwrap_err().message.contains("64-bit"));
    assert!(Program::parse("").unwrap().entries().next().is_none());
}

/// The PTX of the tests, one text per entry, so that a mutation costs little.
fn pieces() -> Vec<String> {
    fn files(dir: &Path, out: &mut Vec<PathBuf>) {
        for e in std::fs::read_dir(dir).unwrap() {
            let p = e.unwrap().path();
            if p.is_dir() {
                files(&p, out);
            } else if p.extension().is_some_and(|e| e == "ptx") {
                out.push(p);
            }
        }
    }
    let mut all = vec![];
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut all);
    all.sort();
    let mut out = vec![];
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let starts: Vec<usize> = text.match_indices(".visible .entry").map(|(i, _)| i).collect();
        let Some(&first) = starts.first() else { continue };
        // Variables and functions stand before the entries.
        let head =
            if first < 9000 { &text[..first] } else { ".version 8.0\n.target sm_80\n.address_size 64\n" };
        for (i, start) in starts.iter().enumerate() {
            let piece = &text[*start..starts.get(i + 1).copied().unwrap_or(text.len())];
            let piece = format!("{head}{piece}");
            if piece.len() < 11_000 && Program::parse(&piece).is_ok() {
                out.push(piece);
            }
        }
    }
    out
}

/// Changes a few bytes: others, gone, doubled, or exchanged with a run from elsewhere.
fn mutate_bytes(g: &mut Rng, text: &str) -> Vec<u8> {
    let mut b = text.as_bytes().to_vec();
    for _ in 0..1 + g.below(4) {
        if b.is_empty() {
            break;
        }
        let (i, j) = (g.below(b.len() as u64) as usize, g.below(b.len() as u64) as usize);
        let n = 1 + g.below(8) as usize;
        match g.below(5) {
            0 => b[i] = g.next() as u8,
            1 => b[i] ^= 1 << g.below(8),
            2 => drop(b.drain(i..(i + n).min(b.len()))),
            3 => {
                let run = b[j..(j + n).min(b.len())].to_vec();
                b.splice(i..i, run);
            }
            _ => {
                b[i] = *b"0123456789.,;[]{}()%@!+-|_xfb\"<>:=/*\n".get(g.below(38) as usize).unwrap_or(&b'.')
            }
        }
    }
    b
}

/// Exchanges, drops and repeats tokens, and puts numbers at their limits.
fn mutate_tokens(g: &mut Rng, text: &str) -> String {
    // Words with their dots, single marks, and blanks.
    let mut tokens: Vec<String> = vec![];
    for c in text.chars() {
        let word = |c: char| c.is_ascii_alphanumeric() || "_$%.".contains(c);
        match tokens.last_mut() {
            Some(t) if t.chars().all(word) && word(c) => t.push(c),
            Some(t) if t.trim().is_empty() && c.is_whitespace() => t.push(c),
            _ => tokens.push(c.to_string()),
        }
    }
    let numbers = [
        "0",
        "1",
        "31",
        "32",
        "64",
        "255",
        "4294967295",
        "-1",
        "18446744073709551615",
        "0x7fffffff",
        "0f7FC00000",
    ];
    let types = [
        "b8", "b16", "b32", "b64", "b128", "u16", "s32", "u64", "f16", "bf16x2", "f32", "f64", "pred",
        "e4m3x2", "tf32",
    ];
    for _ in 0..1 + g.below(3) {
        let i = g.below(tokens.len() as u64) as usize;
        let j = g.below(tokens.len() as u64) as usize;
        match g.below(6) {
            0 => tokens.swap(i, j),
            1 => tokens[i] = tokens[j].clone(),
            2 => tokens[i].clear(),
            3 => {
                let t = tokens[j].clone();
                tokens.insert(i, t);
            }
            4 => {
                // A number near the place.
                if let Some(k) =
                    (i..tokens.len()).find(|k| tokens[*k].starts_with(|c: char| c.is_ascii_digit()))
                {
                    tokens[k] = numbers[g.below(numbers.len() as u64) as usize].into();
                }
            }
            _ => {
                // A part of an opcode near the place.
                if let Some(k) = (i..tokens.len()).find(|k| tokens[*k].matches('.').count() > 1) {
                    let mut parts: Vec<&str> = tokens[k].split('.').collect();
                    let at = 1 + g.below(parts.len() as u64 - 1) as usize;
                    match g.below(3) {
                        0 => drop(parts.remove(at)),
                        1 => parts[at] = types[g.below(types.len() as u64) as usize],
                        _ => parts.insert(at, types[g.below(types.len() as u64) as usize]),
                    }
                    tokens[k] = parts.join(".");
                }
            }
        }
    }
    tokens.concat()
}

/// Drops, exchanges, repeats and cuts lines, or takes one of another kernel.
fn mutate_lines(g: &mut Rng, text: &str, other: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let others: Vec<&str> = other.lines().collect();
    for _ in 0..1 + g.below(3) {
        if lines.is_empty() {
            break;
        }
        let i = g.below(lines.len() as u64) as usize;
        let j = g.below(lines.len() as u64) as usize;
        match g.below(5) {
            0 => drop(lines.remove(i)),
            1 => lines.swap(i, j),
            2 => lines.insert(i, lines[j]),
            3 => lines.insert(i, others[g.below(others.len() as u64) as usize]),
            _ => {
                let at = g.below(lines[i].len() as u64 + 1) as usize;
                lines[i] = lines[i].get(..at).unwrap_or("");
            }
        }
    }
    lines.join("\n")
}

/// Runs an input; a panic names what it takes to repeat it.
fn survive(data: &[u8], what: &str) -> Reached {
    std::panic::catch_unwind(|| any_bytes(data)).unwrap_or_else(|_| {
        panic!("{what} panicked on:\n{}", String::from_utf8_lossy(data));
    })
}

#[test]
fn ten_thousand_mutations() {
    let pieces = pieces();
    assert!(pieces.len() > 100, "{} kernels", pieces.len());
    let halves: Vec<[usize; 4]> = std::thread::scope(|s| {
        let run = |part: u64| {
            let pieces = &pieces;
            move || {
                let mut counts = [0; 4];
                for i in (part..10_000).step_by(2) {
                    let mut g = Rng(0x9e37_79b9_7f4a_7c15 ^ (i + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
                    let text = &pieces[g.below(pieces.len() as u64) as usize];
                    let data = match i % 3 {
                        0 => mutate_bytes(&mut g, text),
                        1 => mutate_tokens(&mut g, text).into_bytes(),
                        _ => {
                            let other = &pieces[g.below(pieces.len() as u64) as usize];
                            mutate_lines(&mut g, text, other).into_bytes()
                        }
                    };
                    counts[survive(&data, &format!("mutation {i}")) as usize] += 1;
                }
                counts
            }
        };
        let handles = [s.spawn(run(0)), s.spawn(run(1))];
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    let [refused, parsed, faulted, ran]: [usize; 4] =
        std::array::from_fn(|i| halves.iter().map(|h| h[i]).sum());
    println!("{refused} refused, {parsed} without an entry, {faulted} faulted, {ran} ran");
    assert_eq!(refused + parsed + faulted + ran, 10_000);
    // Both the parser and the machine must have had their share.
    assert!(refused > 2000 && faulted > 500 && ran > 500);
}

#[test]
fn truncations_and_noise() {
    let mut g = Rng::new(5);
    for text in pieces() {
        for _ in 0..3 {
            let cut = g.below(text.len() as u64) as usize;
            survive(text.as_bytes().get(..cut).unwrap(), "a cut");
        }
    }
    for _ in 0..2000 {
        let noise: Vec<u8> = (0..g.below(200)).map(|_| g.next() as u8).collect();
        survive(&noise, "noise");
        let text: Vec<u8> = noise.iter().map(|b| b & 127).collect();
        survive(&text, "noise");
    }
}
