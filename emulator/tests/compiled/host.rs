//! What: `printf` and assertions of kernels.
//! Why here: they are the only way in which a kernel speaks.
//! Pre: tests/ptx/host.ptx.
//! Post: the text that C would print, by block and in order; a failed assertion names its place.

use crate::common::{Arg, Machine};
use tilewright_emulator::{FaultKind, LaunchError, Options};

const PTX: &str = include_str!("../ptx/host.ptx");

#[test]
fn text_comes_in_grid_order() {
    for seed in [None, Some(3)] {
        let mut m = Machine::new(PTX);
        m.options = Options { seed, ..m.options };
        let x: Vec<i32> = (0..10).map(|i| 3 * i - 7).collect();
        let (px, pc) = (m.put("x", &x), m.zeros::<i32>("counts", 30));
        let report = m.report("prints", 3, 10, &[Arg::Ptr(px), Arg::Ptr(pc)]).unwrap();
        for block in 0..3u32 {
            let lines: Vec<_> = report.printed.iter().filter(|p| p.block == [block, 0, 0]).collect();
            assert_eq!(lines.len(), 5);
            for p in lines {
                let t = p.thread[0];
                let want = if t == 4 {
                    "four\n".to_owned()
                } else {
                    let parity = if t & 1 == 1 { "odd" } else { "even" };
                    let half = f64::from(x[t as usize]) * 0.5;
                    format!("block {block} thread {t:2}: {half:+.2} {parity} {}%\n", 1u64 << t)
                };
                assert_eq!(p.text, want);
            }
        }
        let blocks: Vec<u32> = report.printed.iter().map(|p| p.block[0]).collect();
        assert!(blocks.is_sorted(), "{blocks:?}");
        let want = |i: usize| if (i % 10).is_multiple_of(3) { 5 } else { 0 };
        assert!(m.get::<i32>(pc, 30).into_iter().enumerate().all(|(i, v)| v == want(i)));
    }
}

#[test]
fn assertions_name_their_place() {
    let mut m = Machine::new(PTX);
    let x = m.put("x", &[1, 2, 3, 4, 5, -6, 7, -8]);
    let e = m.report("asserts", 1, 8, &[Arg::Ptr(x)]).unwrap_err();
    let LaunchError::Fault(f) = &e else { panic!("{e}") };
    assert_eq!(f.thread, [5, 0, 0]);
    let (expression, file, function) = ("x[t] >= 0".into(), "dir/file.cu".into(), "asserts".into());
    assert_eq!(f.kind, FaultKind::Assert { expression, file, line: 42, function });
    assert!(e.to_string().contains("dir/file.cu:42: assertion `x[t] >= 0` failed in `asserts`"), "{e}");
    let x = m.put("fine", &[0; 8]);
    m.run("asserts", 1, 8, &[Arg::Ptr(x)]);
}

#[test]
fn a_format_outside_memory_is_a_fault() {
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n\
        .extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n\
        .visible .entry k(.param .u64 p) { .reg .b32 %r; .reg .b64 %f, %a; .param .b32 r;\n\
        ld.param.u64 %f, [p]; mov.u64 %a, 0;\n\
        call (r), vprintf, (%f, %a);\n ret; }";
    let mut m = Machine::new(ptx);
    let e = m.report("k", 1, 1, &[Arg::Ptr(0x99)]).unwrap_err().to_string();
    assert!(e.contains("out of bounds") && e.contains("vprintf"), "{e}");
    // A conversion without an argument reads where there is nothing; without conversions all is well.
    let text = m.put("text", b"%d\0");
    assert!(m.report("k", 1, 1, &[Arg::Ptr(text)]).unwrap_err().to_string().contains("out of bounds"));
    let text = m.put("text", b"no arguments\0");
    assert_eq!(m.report("k", 1, 2, &[Arg::Ptr(text)]).unwrap().printed.len(), 2);
}

/// Blocks that meet at the counter of a cooperative launch: each adds one and polls until all have.
const MEET: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .visible .entry meet(.param .u64 x) { .reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<9>;\n\
    ld.param.u64 %rd1, [x]; mov.u32 %r1, %envreg1; mov.u32 %r2, %envreg2; mov.b64 %rd2, {%r2, %r1};\n\
    setp.ne.s64 %p1, %rd2, 0; @%p1 bra GO; trap;\n\
    GO: mov.u32 %r3, %ctaid.x; mov.u32 %r4, %nctaid.x; mul.wide.u32 %rd3, %r3, 4; add.u64 %rd3, %rd1, %rd3;\n\
    mul.lo.u32 %r5, %r3, %r3; st.global.u32 [%rd3], %r5;\n\
    atom.add.release.gpu.u32 %r6, [%rd2+4], 1;\n\
    WAIT: ld.acquire.gpu.u32 %r6, [%rd2+4]; setp.lt.u32 %p2, %r6, %r4; @%p2 bra WAIT;\n\
    add.u32 %r7, %r3, 1; rem.u32 %r7, %r7, %r4; mul.wide.u32 %rd4, %r7, 4; add.u64 %rd4, %rd1, %rd4;\n\
    ld.global.u32 %r8, [%rd4]; mul.wide.u32 %rd5, %r4, 4; add.u64 %rd3, %rd3, %rd5; st.global.u32 [%rd3], %r8; ret; }";

#[test]
fn cooperative_launches_have_a_workspace() {
    for seed in [None, Some(1), Some(2)] {
        let mut m = Machine::new(MEET);
        m.options = Options { seed, cooperative: true, ..m.options };
        let x = m.zeros::<u32>("x", 10);
        m.run("meet", 5, 1, &[Arg::Ptr(x)]);
        let got: Vec<u32> = m.get(x, 10);
        assert_eq!(got, [0, 1, 4, 9, 16, 1, 4, 9, 16, 0]);
        // Launched as any other, the grid has none, as on a device.
        m.options.cooperative = false;
        assert!(m.try_run("meet", 5, 1, &[Arg::Ptr(x)]).unwrap_err().to_string().contains("trapped"));
    }
}
