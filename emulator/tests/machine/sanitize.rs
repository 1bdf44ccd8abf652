//! What: planted bugs beside their clean twins.
//! Why here: a check is worth what it catches and what it lets pass.
//! Pre: none.
//! Post: each bug is found at its lines; no clean kernel has a finding.

use crate::common::{Arg, Machine};
use tilewright_emulator::{Finding, FindingKind, Sanitize};

const HEAD: &str = ".version 8.6\n.target sm_90a\n.address_size 64\n";

fn findings(threads: u32, body: &str) -> Vec<Finding> {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 a, .param .u64 b) {{
.reg .pred %p<9>; .reg .b32 %r<40>; .reg .b64 %rd<40>;
.shared .align 16 .b8 data[4096]; .shared .align 8 .b64 bar[4];
ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 0;
mov.u32 %r2, data; mov.u32 %r3, bar; shl.b32 %r4, %r1, 2; add.u32 %r5, %r2, %r4; xor.b32 %r6, %r4, 4;
add.u32 %r6, %r6, %r2; xor.b32 %r7, %r4, 128; add.u32 %r7, %r7, %r2;
cvt.u64.u32 %rd3, %r4; add.u64 %rd4, %rd1, %rd3; add.u64 %rd5, %rd2, %rd3;
{body}
ret; }}"
    );
    let mut m = Machine::new(&ptx);
    let (a, b) = (m.zeros::<u32>("a", 256), m.zeros::<u32>("b", 256));
    m.report("k", 1, threads, &[Arg::Ptr(a), Arg::Ptr(b)]).unwrap().findings
}

#[test]
fn bugs_are_caught_and_their_twins_are_clean() {
    use FindingKind::{Barrier, NonCoherent, Race};
    let exchange = |sync: &str, other: &str| {
        format!(
            "st.shared.u32 [%r5], %r1;\n{sync}\nld.shared.u32 %r8, [{other}];\nst.global.u32 [%rd4], %r8;"
        )
    };
    let flag = |sync: &str| {
        format!(
            "setp.lt.u32 %p2, %r1, 32; @!%p2 bra TAKE; st.global.u32 [%rd4], 7; {sync} @!%p1 bra END;
st.release.cta.global.u32 [%rd2], 1; bra END;
TAKE: ld.acquire.cta.global.u32 %r8, [%rd2]; setp.eq.u32 %p3, %r8, 0; @%p3 bra TAKE;
ld.global.u32 %r9, [%rd1+4]; st.global.u32 [%rd4+256], %r9; END:"
        )
    };
    let ring = |init: &str, arrive: &str, parity: u32| {
        format!(
            "@%p1 mbarrier.init.shared.b64 [%r3], 64; {init} st.shared.u32 [%r5], %r1; {arrive}
W: mbarrier.test_wait.parity.shared.b64 %p2, [%r3], {parity}; @!%p2 bra W;
ld.shared.u32 %r8, [%r7]; st.global.u32 [%rd4], %r8;"
        )
    };
    let arrive = "mbarrier.arrive.shared.b64 _, [%r3];";
    let copy = |wait: &str| {
        format!(
            "@%p1 mbarrier.init.shared.b64 [%r3], 1; fence.mbarrier_init.release.cluster; bar.sync 0; @!%p1 bra W;
mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 256;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 256, [%r3];
W: {wait} ld.shared.u32 %r8, [%r5]; st.global.u32 [%rd5], %r8;"
        )
    };
    let full = "V: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra V;";
    let cases: Vec<(&str, u32, String, Option<FindingKind>)> = vec![
        ("across warps, barrier", 64, exchange("bar.sync 0;", "%r7"), None),
        ("across warps, dropped barrier", 64, exchange("", "%r7"), Some(Race)),
        ("across warps, warp barrier", 64, exchange("bar.warp.sync -1;", "%r7"), Some(Race)),
        ("across lanes, warp barrier", 64, exchange("bar.warp.sync -1;", "%r6"), None),
        ("across lanes, nothing", 64, exchange("", "%r6"), Some(Race)),
        ("across lanes, shuffle", 64, exchange("shfl.sync.idx.b32 %r9, %r1, 0, 31, -1;", "%r6"), Some(Race)),
        (
            "across lanes, half a warp",
            32,
            exchange("bar.warp.sync 0x55555555;", "%r6")
                .replace("bar.warp", "and.b32 %r9, %r1, 1; setp.eq.u32 %p4, %r9, 0; @%p4 bar.warp"),
            Some(Race),
        ),
        ("own data", 64, exchange("", "%r5"), None),
        ("named barrier", 64, exchange("bar.sync 1, 64;", "%r7"), None),
        (
            "barriers of two ids",
            64,
            "setp.lt.u32 %p2, %r1, 32; st.shared.u32 [%r5], %r1;
@%p2 bar.sync 1, 32; @!%p2 bar.sync 2, 32; ld.shared.u32 %r8, [%r7]; st.global.u32 [%rd4], %r8;"
                .into(),
            Some(Race),
        ),
        (
            "overwritten after a read",
            64,
            exchange("bar.sync 0;", "%r7") + "st.shared.u32 [%r5], 0;",
            Some(Race),
        ),
        (
            "overwritten after a barrier",
            64,
            exchange("bar.sync 0;", "%r7") + "bar.sync 0; st.shared.u32 [%r5], 0;",
            None,
        ),
        (
            "producer arrives",
            64,
            "setp.lt.u32 %p2, %r1, 32; @!%p2 bra TAKE; st.shared.u32 [%r5], %r1;
bar.arrive 1, 64; bra END; TAKE: bar.sync 1, 64; ld.shared.u32 %r8, [%r7]; st.global.u32 [%rd4], %r8; END:"
                .into(),
            None,
        ),
        (
            "producer arrives too early",
            64,
            "setp.lt.u32 %p2, %r1, 32; @!%p2 bra TAKE;
bar.arrive 1, 64; st.shared.u32 [%r5], %r1; bra END;
TAKE: bar.sync 1, 64; ld.shared.u32 %r8, [%r7]; st.global.u32 [%rd4], %r8; END:"
                .into(),
            Some(Race),
        ),
        ("flag after a warp barrier", 64, flag("bar.warp.sync -1;"), None),
        ("flag without the warp barrier", 64, flag(""), Some(Race)),
        ("mbarrier", 64, ring("bar.sync 0;", arrive, 0), None),
        (
            "mbarrier of the wrong parity",
            64,
            ring("bar.sync 0;", arrive, 1).replace("@!%p2 bra W;", ""),
            Some(Race),
        ),
        ("bulk copy", 64, copy(full), None),
        ("bulk copy without a wait", 64, copy(""), Some(Race)),
        ("atomics", 64, "@%p1 st.shared.u32 [%r2], 0; bar.sync 0; atom.shared.add.u32 %r8, [%r2], 1; red.global.add.u32 [%rd1], 1;".into(), None),
        (
            "atomic and plain store",
            64,
            "@!%p1 bra A; st.shared.u32 [%r2], 5;
A: @%p1 bra END; red.shared.add.u32 [%r2], 1; END:"
                .into(),
            Some(Race),
        ),
        ("bytes beside each other", 64, "add.u32 %r8, %r2, %r1; st.shared.u8 [%r8], 1;".into(), None),
        (
            "global, barrier",
            64,
            "st.global.u32 [%rd4], %r1; bar.sync 0; ld.global.u32 %r8, [%rd1+8]; st.global.u32 [%rd5], %r8;"
                .into(),
            None,
        ),
        (
            "global, nothing",
            64,
            "st.global.u32 [%rd4], %r1; ld.global.u32 %r8, [%rd1+8]; st.global.u32 [%rd5], %r8;".into(),
            Some(Race),
        ),
        (
            "nc of what is only read",
            64,
            "ld.global.nc.u32 %r8, [%rd4]; st.global.u32 [%rd5], %r8;".into(),
            None,
        ),
        (
            "nc of what was written",
            64,
            "st.global.u32 [%rd4], %r1; ld.global.nc.u32 %r8, [%rd4];".into(),
            Some(NonCoherent),
        ),
        (
            "nc of what will be written",
            64,
            "ld.global.nc.u32 %r8, [%rd4]; st.global.u32 [%rd4], %r1;".into(),
            Some(NonCoherent),
        ),
        (
            "divergent barrier",
            32,
            "setp.lt.u32 %p2, %r1, 16; @%p2 bar.sync 0; @!%p2 bar.sync 0;".into(),
            Some(Barrier),
        ),
        (
            "barrier after divergence",
            32,
            "setp.lt.u32 %p2, %r1, 16; @%p2 bra A; mov.u32 %r8, 1; A: bar.sync 0;".into(),
            None,
        ),
        (
            "unaligned barrier",
            32,
            "setp.lt.u32 %p2, %r1, 16; @%p2 barrier.sync 0; @!%p2 barrier.sync 0;".into(),
            None,
        ),
        ("barrier after lanes left", 32, "setp.lt.u32 %p2, %r1, 16; @%p2 exit; bar.sync 0;".into(), None),
    ];
    let mut wrong = vec![];
    for (name, threads, body, want) in &cases {
        let found = findings(*threads, body);
        for f in &found {
            println!("{name}: {f}");
        }
        let kinds: Vec<_> = found.iter().map(|f| f.kind).collect();
        // Who reads too early may read what nobody has written yet.
        let real: Vec<_> = kinds.iter().filter(|k| **k != FindingKind::Uninit).copied().collect();
        let stray = want.is_some_and(|w| real.iter().any(|k| *k != w));
        if real.first().copied() != *want || stray || want.is_none() && !kinds.is_empty() {
            wrong.push((*name, *want, kinds));
        }
    }
    println!("{} cases", cases.len());
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_dropped_barrier_of_a_matmul_is_a_race() {
    let ptx = include_str!("../ptx/matmul.ptx");
    let entry = ptx.find(".entry matmul_tiled").unwrap();
    let places: Vec<usize> = ptx.match_indices("bar.sync").map(|(i, _)| i).filter(|i| *i > entry).collect();
    let end = ptx[entry..].find("\n}").unwrap() + entry;
    let places: Vec<usize> = places.into_iter().filter(|i| *i < end).collect();
    assert!(!places.is_empty());
    for drop in [None].into_iter().chain(places.iter().copied().map(Some)) {
        let mut text = ptx.to_owned();
        if let Some(i) = drop {
            text.replace_range(i..i + 2, "//");
        }
        let mut m = Machine::new(&text);
        let n = 64usize;
        let (a, b, c) = (m.zeros::<f32>("a", n * n), m.zeros::<f32>("b", n * n), m.zeros::<f32>("c", n * n));
        let size = || Arg::I32(n as i32);
        let args = [Arg::Ptr(a), Arg::Ptr(b), Arg::Ptr(c), size(), size(), size()];
        let found = m.report("matmul_tiled", 1, 256, &args).unwrap().findings;
        assert_eq!(found.is_empty(), drop.is_none(), "{drop:?} {found:?}");
        assert!(
            found
                .iter()
                .filter(|f| f.kind != FindingKind::Uninit)
                .all(|f| f.kind == FindingKind::Race && f.at.ptx_line > 0 && f.other.is_some())
        );
    }
}

#[test]
fn a_finding_names_both_sides_and_switches_work() {
    let body = "st.shared.u32 [%r5], %r1;\nld.shared.u32 %r8, [%r7];";
    let f = findings(64, body).remove(0);
    assert_eq!(f.kernel, "k");
    // Warp 0 loads before warp 1 stores, so the store shows it.
    let other = f.other.clone().unwrap();
    assert_eq!(f.at.instruction, "st.shared.u32 [%r5], %r1");
    assert_eq!(other.instruction, "ld.shared.u32 %r8, [%r7]");
    assert_eq!(f.at.ptx_line + 1, other.ptx_line);
    let (t, u) = (f.at.thread.unwrap()[0], other.thread.unwrap()[0]);
    assert_eq!(t ^ 32, u);
    assert!(f.to_string().contains("shared `data`+128"), "{f}");
    assert_eq!(Sanitize::parse("all"), Ok(Sanitize::ALL));
    assert_eq!(Sanitize::parse("none"), Ok(Sanitize::default()));
    assert_eq!(Sanitize::parse("nc, race"), Ok(Sanitize { nc: true, race: true, ..Sanitize::default() }));
    assert_eq!(Sanitize::parse("nc,rice"), Err("rice".into()));
}

#[test]
fn registers_and_cooperation_limit_a_launch() {
    let ptx = format!("{HEAD}.visible .entry k() {{ ret; }}");
    let mut m = Machine::new(&ptx);
    m.options.registers_per_thread = 128;
    m.options.cooperative = true;
    // An SM has 65536 registers: two blocks of 256 threads; the default profile has four SMs.
    assert!(m.report("k", 8, 256, &[]).is_ok());
    let e = m.report("k", 9, 256, &[]).unwrap_err().to_string();
    assert!(e.contains("9 blocks") && e.contains("holds 8"), "{e}");
    let e = m.report("k", 1, 1024, &[]).unwrap_err().to_string();
    assert!(e.contains("128 registers"), "{e}");
    m.options.registers_per_thread = u32::MAX;
    assert!(m.report("k", 1, 32, &[]).is_err());
}
