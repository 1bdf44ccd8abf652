//! What: what the checks say of `wmma`: pointers, strides, lanes, undefined data, races, and text that is wrong.
//! Why here: they need kernels of one fragment rather than products.
//! Pre: none.
//! Post: each fault beside a neighbour that runs clean.

use super::form::{Form, SPACES, kinds, layouts};
use crate::common::{Arg, Machine, Rng};
use tilewright_emulator::{FindingKind, LaunchError, Program};

fn fault(e: &LaunchError) -> (Option<FindingKind>, String) {
    match e {
        LaunchError::Fault(f) => (f.kind.finding(), f.to_string()),
        e => (None, e.to_string()),
    }
}

/// A kernel that loads, or stores, one fragment.
fn one(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u32 s)\n{{\n\
         .reg .pred %p<4>;\n.reg .b32 %r<40>;\n.reg .b64 %rd<9>;\n.reg .f64 %fd<9>;\n\
         .shared .align 32 .b8 sh[4096];\nld.param.u64 %rd1, [a];\nld.param.u32 %r20, [s];\nmov.u32 %r30, %tid.x;\n\
         mov.u32 %r0, 0;\nmov.u32 %r1, 0;\nmov.u32 %r2, 0;\nmov.u32 %r3, 0;\nmov.u32 %r4, 0;\nmov.u32 %r5, 0;\n\
         mov.u32 %r6, 0;\nmov.u32 %r7, 0;\nmov.f64 %fd1, 0d0000000000000000;\nmov.f64 %fd2, %fd1;\n{body}\nret;\n}}\n"
    )
}

const R8: &str = "{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}";

#[test]
fn bad_pointers_are_faults() {
    use FindingKind::{Align, Bounds};
    let a16 = format!("wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {R8}, [%rd1], %r20;");
    let d32 = format!("wmma.store.d.sync.aligned.row.m16n16k16.f32 [%rd1], {R8}, %r20;");
    let b8 = "wmma.load.b.sync.aligned.col.m16n16k16.global.s8 {%r0, %r1}, [%rd1], %r20;";
    let f64s = "wmma.load.a.sync.aligned.col.m8n8k4.f64 {%fd1}, [%rd1], %r20;";
    // (what, offset, stride, bytes of the buffer, outcome)
    for (body, offset, stride, bytes, want) in [
        (a16.as_str(), 0, 16, 512, Ok(())),
        (&a16, 16, 16, 1024, Err((Some(Align), "32"))),
        (&a16, 2, 16, 1024, Err((Some(Align), "32"))),
        (&a16, 0, 20, 1024, Err((Some(Align), "16"))),
        (&a16, 0, 24, 1024, Ok(())),
        (&a16, 0, 16, 511, Err((Some(Bounds), "a"))),
        (&a16, 32, 16, 512, Err((Some(Bounds), "a"))),
        (&a16, 0, 24, 15 * 48 + 32, Ok(())),
        (&a16, 0, 24, 15 * 48 + 31, Err((Some(Bounds), "a"))),
        (&a16, 0, 15, 512, Err((None, "stride of 15"))),
        (&a16, 0, 0, 512, Err((None, "stride of 0"))),
        (&a16, 0, -16, 512, Err((None, "stride of -16"))),
        (&a16, 0, 1 << 30, 512, Err((Some(Bounds), "a"))),
        (&d32, 0, 16, 1024, Ok(())),
        (&d32, 16, 16, 2048, Err((Some(Align), "32"))),
        (&d32, 0, 18, 2048, Err((Some(Align), "16"))),
        (&d32, 0, 16, 1023, Err((Some(Bounds), "store"))),
        (b8, 8, 16, 264, Ok(())),
        (b8, 4, 16, 264, Err((Some(Align), "8"))),
        (b8, 0, 17, 512, Err((Some(Align), "8"))),
        (b8, 8, 16, 263, Err((Some(Bounds), "load"))),
        (f64s, 8, 9, 8 + 8 * (3 * 9 + 8), Ok(())),
        (f64s, 4, 9, 512, Err((Some(Align), "8"))),
        (f64s, 8, 9, 7 + 8 * (3 * 9 + 8), Err((Some(Bounds), "load"))),
    ] {
        for seed in [None, Some(1), Some(2)] {
            let mut m = Machine::new(&one(body));
            m.options.seed = seed;
            let p = m.put("a", &vec![0u8; bytes]);
            let got = m.try_run("k", 1, 32, &[Arg::Ptr(p + offset), Arg::I32(stride)]);
            match (got, want) {
                (Ok(_), Ok(())) => {}
                (Err(e), Err((kind, word))) => {
                    let (k, text) = fault(&e);
                    assert!(
                        k == kind && text.contains(word) && text.contains("wmma."),
                        "{body} {offset} {stride}: {text}"
                    );
                }
                (got, want) => {
                    panic!("{body} at {offset} with stride {stride} of {bytes}: {got:?}, not {want:?}")
                }
            }
        }
    }
}

#[test]
fn lanes_agree() {
    let load = format!("wmma.load.c.sync.aligned.col.m32n8k16.shared.s32 {R8}, [%rd2], %r21;");
    let init = "mov.u64 %rd2, sh;\nmov.u32 %r21, 32;\n";
    let write = "mul.wide.u32 %rd4, %r30, 32;\nadd.u64 %rd4, %rd4, %rd2;\nst.shared.v4.b32 [%rd4], {%r0, %r0, %r0, %r0};\n\
                 st.shared.v4.b32 [%rd4+16], {%r0, %r0, %r0, %r0};\nbar.sync 0;\n";
    for (change, want) in [
        ("", None),
        ("setp.eq.u32 %p1, %r30, 7;\n@%p1 add.u64 %rd2, %rd2, 32;\n", Some("lanes 0 and 7")),
        ("setp.ge.u32 %p1, %r30, 30;\n@%p1 add.u32 %r21, %r21, 4;\n", Some("lanes 0 and 30")),
        ("setp.lt.u32 %p1, %r30, 16;\n@%p1 ", Some("wmma.load executed by lanes 0x0000ffff")),
        ("setp.lt.u32 %p1, %r30, 32;\n@%p1 ", None),
        // No lane executes it.
        ("setp.lt.u32 %p1, %r30, 0;\n@%p1 ", None),
        ("setp.lt.u32 %p1, %r30, 5;\n@%p1 exit;\n", Some("executed by lanes 0xffffffe0")),
        // The lanes part and meet again.
        ("setp.lt.u32 %p1, %r30, 5;\n@%p1 bra A;\nmov.u32 %r9, 1;\nA:\n", None),
    ] {
        for seed in [None, Some(3), Some(4), Some(5)] {
            let mut m = Machine::new(&one(&format!("{init}{write}{change}{load}")));
            m.options.seed = seed;
            match (m.try_run("k", 1, 32, &[Arg::Ptr(0), Arg::I32(0)]), want) {
                (Ok(_), None) => {}
                (Err(e), Some(w)) => assert!(fault(&e).1.contains(w), "{change}: {e}"),
                (got, want) => panic!("{change} under {seed:?}: {got:?}, not {want:?}"),
            }
        }
    }
}

/// Kinds that the checks find.
fn findings(ptx: &str, block: u32, bytes: usize, seed: Option<u64>) -> Vec<FindingKind> {
    let mut m = Machine::new(ptx);
    m.options.seed = seed;
    let p = m.put("a", &vec![0u8; bytes]);
    let r = m.report("k", 1, block, &[Arg::Ptr(p), Arg::I32(16)]).unwrap();
    let mut k: Vec<FindingKind> = r.findings.iter().map(|f| f.kind).collect();
    k.sort_by_key(|k| format!("{k:?}"));
    k.dedup();
    k
}

/// Undefined elements go where the product takes them, and no further.
#[test]
fn undefined_data() {
    // A is written; of B (columns of 16 halves), column 5 is not. D is copied out of shared memory by columns.
    let body = |skip: u32, copied: u32, layout: &str| {
        let mut t = String::from("mov.u64 %rd2, sh;\nadd.u64 %rd3, %rd2, 512;\nadd.u64 %rd4, %rd2, 1024;\n");
        for turn in 0..32 {
            let at = if turn < 16 { 32 * turn } else { 512 + 32 * (turn - 16) };
            if turn != 16 + skip {
                t += &format!(
                    "mul.wide.u32 %rd5, %r30, 2;\nadd.u64 %rd5, %rd5, %rd2;\nsetp.lt.u32 %p1, %r30, 16;\n@%p1 st.shared.u16 [%rd5+{at}], 0;\n"
                );
            }
        }
        t += &format!(
            "bar.sync 0;\nwmma.load.a.sync.aligned.row.m16n16k16.shared.bf16 {{%r10, %r11, %r12, %r13}}, [%rd2], 16;\n\
             wmma.load.b.sync.aligned.col.m16n16k16.shared.bf16 {{%r14, %r15, %r16, %r17}}, [%rd3], 16;\n\
             wmma.mma.sync.aligned.row.col.m16n16k16.f32.bf16.bf16.f32 {R8}, {{%r10, %r11, %r12, %r13}}, {{%r14, %r15, %r16, %r17}}, {R8};\n\
             wmma.store.d.sync.aligned.{layout}.m16n16k16.shared.f32 [%rd4], {R8}, 16;\nbar.sync 0;\n\
             mul.wide.u32 %rd5, %r30, {};\nadd.u64 %rd5, %rd5, %rd4;\nsetp.lt.u32 %p1, %r30, 16;\n\
             @%p1 ld.shared.u32 %r20, [%rd5+{}];\n@%p1 st.global.u32 [%rd1], %r20;\n",
            if layout == "row" { 64 } else { 4 },
            copied * if layout == "row" { 4 } else { 64 }
        );
        one(&t)
    };
    for seed in [None, Some(1)] {
        for layout in ["row", "col"] {
            for skip in [0, 5, 15] {
                for copied in [0, 5, 8, 15] {
                    let uninit =
                        findings(&body(skip, copied, layout), 32, 64, seed).contains(&FindingKind::Uninit);
                    assert_eq!(uninit, skip == copied, "column {skip} undefined, {copied} used, {layout}");
                }
            }
        }
    }
    // An accumulator that nobody wrote, straight to global memory.
    let straight = one(&format!(
        "mov.u64 %rd2, sh;\nwmma.load.c.sync.aligned.row.m16n16k16.shared.f32 {R8}, [%rd2], %r20;\n\
         wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [%rd1], {R8}, %r20;"
    ));
    assert_eq!(findings(&straight, 32, 1024, None), [FindingKind::Uninit]);
    // The same in f64, with a product between; C lives on, so that D has registers of its own.
    let doubles = one(
        "mov.u64 %rd2, sh;\nwmma.load.c.sync.aligned.row.m8n8k4.shared.f64 {%fd3, %fd4}, [%rd2], %r20;\n\
         wmma.mma.sync.aligned.row.col.m8n8k4.f64.f64.f64.f64 {%fd5, %fd6}, {%fd1}, {%fd2}, {%fd3, %fd4};\n\
         wmma.store.d.sync.aligned.row.m8n8k4.global.f64 [%rd1], {%fd5, %fd6}, %r20;\n\
         wmma.store.d.sync.aligned.row.m8n8k4.shared.f64 [%rd2], {%fd3, %fd4}, %r20;",
    );
    assert_eq!(findings(&doubles, 32, 1024, None), [FindingKind::Uninit]);
    let zero = one(&format!("wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [%rd1], {R8}, %r20;"));
    assert_eq!(findings(&zero, 32, 1024, None), []);
}

/// Two warps: one stores a tile that the other loads.
#[test]
fn races() {
    let body = |barrier: &str| {
        one(&format!(
            "mov.u64 %rd2, sh;\nsetp.lt.u32 %p1, %r30, 32;\n@!%p1 bra L;\n\
             wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [%rd2], {R8}, 16;\nL:\n{barrier}\n@%p1 bra M;\n\
             wmma.load.c.sync.aligned.col.m16n16k16.shared.f32 {R8}, [%rd2], 16;\nM:\n"
        ))
    };
    for seed in [None, Some(1), Some(2), Some(3)] {
        assert_eq!(findings(&body("bar.sync 0;"), 64, 64, seed), []);
        assert!(findings(&body(""), 64, 64, seed).contains(&FindingKind::Race), "{seed:?}");
    }
}

/// Results may go to the registers that operands come from, in any order.
#[test]
fn registers_overlap() {
    let text = |d: &str, c: &str, a: &str, store: &str| {
        one(&format!(
            "wmma.load.a.sync.aligned.row.m16n16k16.s8 {a}, [%rd1];\nwmma.load.c.sync.aligned.row.m16n16k16.s32 {c}, [%rd1+256];\n\
             wmma.load.b.sync.aligned.col.m16n16k16.s8 {{%r20, %r21}}, [%rd1];\n\
             wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.s8.s32 {d}, {a}, {{%r20, %r21}}, {c};\n\
             wmma.store.d.sync.aligned.row.m16n16k16.s32 [%rd1+1280], {store};"
        ))
    };
    let c = "{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}";
    let turned = "{%r4, %r5, %r6, %r7, %r0, %r1, %r2, %r3}";
    let other = "{%r10, %r11, %r12, %r13, %r14, %r15, %r16, %r17}";
    let mut g = Rng::new(77);
    let a: Vec<i8> = (0..256).map(|_| g.u32() as i8).collect();
    let c0: Vec<i32> = (0..256).map(|_| g.u32() as i32).collect();
    for (name, d, a_regs) in [
        ("apart", other, "{%r30, %r31}"),
        ("c in another order", turned, "{%r30, %r31}"),
        ("c itself", c, "{%r30, %r31}"),
        ("a in the low half", other, "{%r10, %r11}"),
        ("a in the high half", other, "{%r17, %r14}"),
    ] {
        let mut m = Machine::new(&text(d, c, a_regs, d));
        let mut bytes: Vec<u8> = a.iter().map(|v| *v as u8).collect();
        bytes.extend(c0.iter().flat_map(|v| v.to_le_bytes()));
        bytes.resize(1280 + 1024, 0);
        let p = m.put("a", &bytes);
        m.run("k", 1, 32, &[Arg::Ptr(p), Arg::I32(0)]);
        let d: Vec<i32> = m.get(p + 1280, 256);
        for (i, v) in d.iter().enumerate() {
            let (r, q) = (i / 16, i % 16);
            let want = (0..16)
                .fold(c0[i], |s, k| s.wrapping_add(i32::from(a[16 * r + k]) * i32::from(a[16 * q + k])));
            assert_eq!(*v, want, "{name}: D[{r}][{q}]");
        }
    }
}

#[test]
fn errors_name_the_place() {
    for (body, want) in [
        ("wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1}, [%rd1];", "1 registers where mma wants 8"),
        ("wmma.load.a.sync.aligned.row.m16n16k8.f16 {%r1}, [%rd1];", "does not exist"),
        ("wmma.load.c.sync.aligned.row.m16n16k16.bf16 {%r1}, [%rd1];", "does not exist"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.f32 {%r1}, [%rd1];", "does not exist"),
        ("wmma.load.a.sync.aligned.m16n16k16.f16 {%r1}, [%rd1];", "layout"),
        ("wmma.load.d.sync.aligned.row.m16n16k16.f16 {%r1}, [%rd1];", "wmma.load wants"),
        ("wmma.load.a.sync.aligned.row.m16n16k16.local.f16 {%r1}, [%rd1];", "global or shared"),
        ("wmma.load.a.sync.aligned.row.m8n8k32.s4 {%r1}, [%rd1];", "4-bit"),
        ("wmma.load.a.aligned.row.m16n16k16.f16 {%r1}, [%rd1];", ".sync.aligned"),
        ("wmma.store.d.sync.aligned.row.m8n8k4.f64 [%rd1], {%fd1};", "1 registers where mma wants 2"),
        ("wmma.fill.sync.aligned.row.m8n8k4.f64 [%rd1], {%fd1};", "loads, stores or multiplies"),
        (
            "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32.satfinite {%r1}, {%r1}, {%r1}, {%r1};",
            "satfinite",
        ),
        (
            "wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.bf16.s32 {%r1}, {%r1}, {%r1}, {%r1};",
            "does not exist",
        ),
        (
            "wmma.mma.sync.aligned.row.col.m8n8k4.rz.f64.f64.f64.f64 {%fd1}, {%fd1}, {%fd1}, {%fd1};",
            "rounding",
        ),
        ("wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%r1}, {%r1}, {%r1};", "operands"),
        ("wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32.odd {%r1}, {%r1}, {%r1}, {%r1};", ""),
        ("alloca.u64 %rd2, 16;", "`alloca` is not supported"),
        ("stacksave.u64 %rd2;", "`stacksave` is not supported"),
        ("stackrestore.u64 %rd2;", "constant size"),
        ("vadd.s32.s32.s32 %r1, %r2.b0, %r3.b1;", "`vadd`"),
        ("vmad.s32.s32.u32 %r1, %r2.b0, %r3.b1, %r4;", "`vmad`"),
        ("vset4.u32.u32.lt %r1, %r2, %r3, %r4;", "`vset4`"),
        ("vsub2.s32.s32.s32.sat %r1, %r2, %r3, %r4;", "vabsdiff2"),
    ] {
        let e = Program::parse(&one(body)).unwrap_err();
        assert!(e.to_string().contains(want), "{body}: {e}");
        assert_eq!(e.line, 24, "{body}: {e}");
        let name = body.split(['.', ' ']).next().unwrap();
        assert!(e.instruction.contains(name), "{body}: {e}");
    }
}

/// Text that is nearly right either is an error or runs to some end.
#[test]
fn mutations_never_panic() {
    let mut g = Rng::new(0x3a3a);
    let kinds = kinds();
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..3000 {
        let all = layouts(&kinds[g.below(kinds.len() as u64) as usize]);
        let f = Form { pad: 16, space: SPACES[g.below(4) as usize], ..all[g.below(16) as usize].clone() };
        let text = f.ptx();
        // The words of the wmma instructions, between their dots, commas and brackets.
        let at = text.find("wmma").unwrap();
        let (head, tail) = text.split_at(at);
        let mut words: Vec<String> =
            tail.split_inclusive([' ', '.', ',', '{', '}']).map(String::from).collect();
        for _ in 0..1 + g.below(3) {
            let n = words.len() as u64;
            let (i, j) = (g.below(n) as usize, g.below(n) as usize);
            match g.below(3) {
                0 => words.swap(i, j),
                1 => words[i] = words[j].clone(),
                _ => drop(words.remove(i)),
            }
        }
        let Ok(program) = Program::parse(&format!("{head}{}", words.concat())) else {
            refused += 1;
            continue;
        };
        let mut m = Machine::new(&text);
        m.program = program;
        m.options.instruction_budget = 100_000;
        let p = m.put("a", &vec![0u8; 1 << 14]);
        let _ = m.report("k", 1, 32, &[0, 2048, 4096, 8192].map(|o| Arg::Ptr(p + o)));
        ran += 1;
    }
    println!("{ran} ran, {refused} were refused");
    assert!(ran > 100 && refused > 100);
}
