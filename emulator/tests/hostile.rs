//! What: PTX that is wrong: by hand, and by thousands of mutations of good PTX.
//! Why here: text comes from outside; the parser and the decoder must answer with an error, never a panic.
//! Pre: tests/ptx.
//! Post: errors name line and instruction; whatever decodes also runs without a panic.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
use common::Rng;
use tilewright_emulator::{Launch, Memory, Options, Profile, Program, launch};

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

const GOOD: [&str; 5] = [
    include_str!("ptx/simple.ptx"),
    include_str!("ptx/tensor.ptx"),
    include_str!("ptx/ints.ptx"),
    include_str!("ptx/matmul.ptx"),
    include_str!("ptx/libm.ptx"),
];

/// One function of a module, so that a mutation costs little.
fn pieces() -> Vec<String> {
    let mut out = vec![];
    for text in GOOD {
        let head = ".version 8.0\n.target sm_80\n.address_size 64\n.extern .shared .align 16 .b8 sh[];\n";
        let mut rest = text;
        while let Some(at) = rest.find(".visible .entry") {
            let end = rest[at + 1..].find(".visible .entry").map_or(rest.len(), |e| at + 1 + e);
            let piece = &rest[at..end];
            if piece.len() < 6000 {
                out.push(format!("{head}{piece}"));
            }
            rest = &rest[end..];
        }
    }
    out
}

fn mutate(g: &mut Rng, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    for _ in 0..1 + g.below(3) {
        let i = g.below(lines.len() as u64) as usize;
        let j = g.below(lines.len() as u64) as usize;
        match g.below(8) {
            0 => {
                lines.remove(i);
            }
            1 => lines.swap(i, j),
            2 => {
                let l = lines[j].clone();
                lines.insert(i, l);
            }
            3 => {
                // Exchange one word for one of another line.
                let other = lines[j].split_whitespace().last().unwrap_or(";").to_owned();
                let words: Vec<&str> = lines[i].split_whitespace().collect();
                if let Some(w) = words.first() {
                    lines[i] = lines[i].replacen(w, &other, 1);
                }
            }
            4 => {
                let n = lines[i].chars().count() as u64;
                if n > 0 {
                    let at = g.below(n) as usize;
                    let c =
                        *b"0123456789.,;[]{}()%@!+-|_xfb\"<>:=".get(g.below(34) as usize).unwrap_or(&b'.');
                    lines[i] = lines[i]
                        .chars()
                        .enumerate()
                        .map(|(k, x)| if k == at { c as char } else { x })
                        .collect();
                }
            }
            5 => {
                let n = lines[i].chars().count() as u64 + 1;
                lines[i] = lines[i].chars().take(g.below(n) as usize).collect();
            }
            6 => {
                let number =
                    ["0", "1", "31", "32", "64", "4294967295", "-1", "18446744073709551615", "0x7fffffff"];
                let digits = |c: char| c.is_ascii_digit();
                if let Some(at) = lines[i].rfind(digits) {
                    let start = lines[i][..at].rfind(|c: char| !digits(c)).map_or(0, |s| s + 1);
                    lines[i].replace_range(start..=at, number[g.below(9) as usize]);
                }
            }
            _ => {
                for (a, b) in [
                    (".f32", ".f64"),
                    (".u32", ".u64"),
                    (".b32", ".b16"),
                    ("global", "shared"),
                    ("%r", "%rd"),
                ] {
                    if lines[i].contains(a) && g.below(2) == 0 {
                        lines[i] = lines[i].replacen(a, b, 1);
                        break;
                    }
                }
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join("\n")
}

#[test]
fn ten_thousand_mutations() {
    let pieces = pieces();
    let mut g = Rng::new(2024);
    let mut memory = Memory::new(1 << 20);
    let a = memory.alloc("a", 4096).unwrap();
    let options = Options { instruction_budget: 3000, threads: 1, counters: true, ..Options::default() };
    let (mut parsed, mut ran) = (0, 0);
    for i in 0..10_000 {
        let text = mutate(&mut g, &pieces[i % pieces.len()]);
        let Ok(program) = Program::parse(&text) else { continue };
        parsed += 1;
        for entry in program.entries() {
            let size = program.params(entry).unwrap().last().map_or(0, |p| p.offset + p.size);
            let mut params: Vec<u8> = a.to_le_bytes().iter().copied().cycle().take(size as usize).collect();
            if params.len() > 65_536 {
                params.clear();
            }
            let l = Launch {
                entry,
                grid: [1, 1, 1],
                block: [40, 1, 1],
                shared_bytes: 64,
                cluster: [1; 3],
                params: &params,
            };
            ran += usize::from(launch(&program, &memory, &Profile::default(), &l, &options).is_ok());
        }
    }
    assert!(parsed > 1000 && ran > 100, "{parsed} parsed, {ran} ran");
}

#[test]
fn truncations_and_noise() {
    let mut g = Rng::new(5);
    for text in GOOD {
        for _ in 0..30 {
            let cut = g.below(text.len() as u64) as usize;
            let _ = Program::parse(&text[..cut]);
        }
    }
    for _ in 0..2000 {
        let n = g.below(200);
        let s: String = (0..n).map(|_| char::from_u32(g.below(128) as u32).unwrap_or(' ')).collect();
        let _ = Program::parse(&s);
    }
}
