//! What: counters against counts worked out by hand and against a slow oracle that knows only lists of addresses.
//! Why here: counters are assertions in other tests, so they must be exact.
//! Pre: none.
//! Post: one kernel per access width and direction, whose addresses come from a table.

use crate::common::{Arg, Machine, Rng};
use std::collections::{BTreeMap, BTreeSet};
use tilewright_emulator::{Counters, Sanitize};

/// A lane that does not take part.
const OFF: u32 = u32::MAX;
const BUFFER: usize = 1 << 16;
const SHARED: usize = 1 << 14;

/// A kernel that runs `op` with the lane's offset (`%r5`) in a buffer (address `%rd3`) or in shared memory (`%r6`).
fn kernel(op: &str) -> String {
    format!(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 idx, .param .u64 buf)\n{{
         .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .b64 %rd<20>;
         .shared .align 128 .b8 s[{SHARED}];
         ld.param.u64 %rd1, [idx];
         ld.param.u64 %rd2, [buf];
         mov.u32 %r1, %tid.x;
         mov.u32 %r2, %ctaid.x;
         mov.u32 %r3, %ntid.x;
         mad.lo.u32 %r4, %r2, %r3, %r1;
         mul.wide.u32 %rd4, %r4, 4;
         add.u64 %rd5, %rd1, %rd4;
         ld.global.u32 %r5, [%rd5];
         setp.eq.u32 %p1, %r5, {OFF};
         @%p1 bra DONE;
         cvt.u64.u32 %rd6, %r5;
         add.u64 %rd3, %rd2, %rd6;
         mov.u32 %r7, s;
         add.u32 %r6, %r7, %r5;
         {op}
         DONE: ret;\n}}\n"
    )
}

fn run(op: &str, table: &[u32], block: u32) -> Counters {
    let mut m = Machine::new(&kernel(op));
    m.options.sanitize = Sanitize::default();
    let idx = m.put("idx", table);
    let buf = m.zeros::<u8>("buf", BUFFER);
    let c = m.run("k", table.len() as u32 / block, block, &[Arg::Ptr(idx), Arg::Ptr(buf)]);
    for threads in [1, 3] {
        m.options.threads = threads;
        let again = m.run("k", table.len() as u32 / block, block, &[Arg::Ptr(idx), Arg::Ptr(buf)]);
        assert_eq!(c, again, "{op} with {threads} host threads");
    }
    c
}

/// The record of the instruction under test, which comes last in the text.
fn last(c: &Counters) -> &tilewright_emulator::MemoryCount {
    c.memory.last().unwrap()
}

/// What a warp access costs, by definition: (bytes, sectors, ideal sectors).
fn sectors_of(lanes: &[u32], bytes: u32) -> [u64; 3] {
    let on: Vec<u32> = lanes.iter().copied().filter(|o| *o != OFF).collect();
    let all: BTreeSet<u32> = on.iter().flat_map(|o| *o..*o + bytes).collect();
    let sectors: BTreeSet<u32> = all.iter().map(|b| b / 32).collect();
    let ideal = (all.len() as u64).div_ceil(32);
    [on.len() as u64 * u64::from(bytes), sectors.len() as u64, ideal]
}

/// (wavefronts, ideal wavefronts): lanes in groups that ask for 128 bytes together; in each, the bank with most words.
fn wavefronts_of(lanes: &[u32], bytes: u32) -> [u64; 2] {
    let group = (128 / bytes.max(4)).min(32) as usize;
    let mut n = [0, 0];
    for part in lanes.chunks(group) {
        let mut banks: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for b in part.iter().filter(|o| **o != OFF).flat_map(|o| *o..*o + bytes) {
            banks.entry(b / 4 % 32).or_default().insert(b / 4);
        }
        if !banks.is_empty() {
            n[0] += banks.values().map(BTreeSet::len).max().unwrap() as u64;
            n[1] += 1;
        }
    }
    n
}

const LOADS: [(&str, u32); 6] = [
    ("ld.global.u8 %h1, [%rd3];", 1),
    ("ld.global.u16 %h1, [%rd3];", 2),
    ("ld.global.u32 %r8, [%rd3];", 4),
    ("ld.global.u64 %rd8, [%rd3];", 8),
    ("ld.global.v2.u32 {%r8, %r9}, [%rd3];", 8),
    ("ld.global.nc.v4.u32 {%r8, %r9, %r10, %r11}, [%rd3];", 16),
];
const STORES: [(&str, u32); 5] = [
    ("st.global.u8 [%rd3], %h1;", 1),
    ("st.global.u16 [%rd3], %h1;", 2),
    ("st.global.u32 [%rd3], %r8;", 4),
    ("st.global.u64 [%rd3], %rd8;", 8),
    ("st.global.v4.u32 [%rd3], {%r8, %r9, %r10, %r11};", 16),
];
const SHARED_LOADS: [(&str, u32); 5] = [
    ("ld.shared.u8 %h1, [%r6];", 1),
    ("ld.shared.u16 %h1, [%r6];", 2),
    ("ld.shared.u32 %r8, [%r6];", 4),
    ("ld.shared.u64 %rd8, [%r6];", 8),
    ("ld.shared.v4.u32 {%r8, %r9, %r10, %r11}, [%r6];", 16),
];
const SHARED_STORES: [(&str, u32); 4] = [
    ("st.shared.u8 [%r6], %h1;", 1),
    ("st.shared.u32 [%r6], %r8;", 4),
    ("st.shared.v2.u32 [%r6], {%r8, %r9};", 8),
    ("st.shared.v4.u32 [%r6], {%r8, %r9, %r10, %r11};", 16),
];

/// Offsets of a warp: one of many shapes, from orderly to wild.
fn shape(g: &mut Rng, bytes: u32, room: u32) -> Vec<u32> {
    let slots = u64::from(room / bytes);
    let slot = |g: &mut Rng| g.below(slots) as u32;
    let (base, stride) = (slot(g), [0, 1, 1, 2, 3, 8, 32, 33, 127][g.below(9) as usize]);
    let kind = g.below(6);
    let mut v: Vec<u32> = (0..32u32)
        .map(|l| match kind {
            0 | 1 => (base + l * stride) % slots as u32,
            2 => (base + (31 - l) * stride) % slots as u32,
            3 => slot(g),
            4 => (base + l / 4 * stride + l % 4) % slots as u32,
            _ => (base + g.below(40) as u32) % slots as u32,
        })
        .map(|s| s * bytes)
        .collect();
    match g.below(4) {
        0 => v[g.below(32) as usize..].fill(OFF),
        1 => (0..32).for_each(|l| {
            if g.below(3) == 0 {
                v[l] = OFF
            }
        }),
        _ => {}
    }
    v
}

#[test]
fn global_accesses_match_the_oracle() {
    let mut g = Rng::new(11);
    for (i, (op, bytes)) in LOADS.iter().chain(&STORES).enumerate() {
        let warps: Vec<Vec<u32>> = (0..96).map(|_| shape(&mut g, *bytes, BUFFER as u32)).collect();
        // Warps that repeat a shape elsewhere, as loops do.
        let moved = warps.iter().map(|w| w.iter().map(|o| if *o == OFF { OFF } else { o ^ 512 }).collect());
        let warps: Vec<Vec<u32>> = warps.iter().cloned().chain(moved).collect();
        let c = run(op, &warps.concat(), 96);
        let mut want = [0; 3];
        let mut bytes_touched = BTreeSet::new();
        for w in &warps {
            let one = sectors_of(w, *bytes);
            (0..3).for_each(|k| want[k] += one[k]);
            bytes_touched.extend(w.iter().filter(|o| **o != OFF).flat_map(|o| *o..*o + bytes));
        }
        let sectors: BTreeSet<u32> = bytes_touched.iter().map(|b| b / 32).collect();
        let (m, b) = (last(&c), &c.buffers["buf"]);
        let stores = i >= LOADS.len();
        let (t, other) =
            if stores { (m.global_write, m.global_read) } else { (m.global_read, m.global_write) };
        assert_eq!([t.bytes, t.sectors, t.sectors_ideal], want, "{op}");
        assert_eq!((other.bytes, m.shared.wavefronts), (0, 0));
        assert_eq!(b.bytes, BUFFER as u64);
        let unique = [bytes_touched.len() as u64, sectors.len() as u64];
        if stores {
            assert_eq!([b.written_bytes, b.written_sectors, b.written_sectors_ideal], want);
            assert_eq!([b.unique_written_bytes, b.unique_written_sectors], unique, "{op}");
            assert_eq!((b.read_bytes, c.unique_bytes_written("buf")), (0, unique[0]));
        } else {
            assert_eq!([b.read_bytes, b.read_sectors, b.read_sectors_ideal], want);
            assert_eq!([b.unique_read_bytes, b.unique_read_sectors], unique, "{op}");
            assert_eq!((b.written_bytes, c.unique_bytes_read("buf")), (0, unique[0]));
        }
        assert_eq!(m.lanes, warps.iter().flatten().filter(|o| **o != OFF).count() as u64);
    }
}

#[test]
fn shared_accesses_match_the_oracle() {
    let mut g = Rng::new(12);
    for (i, (op, bytes)) in SHARED_LOADS.iter().chain(&SHARED_STORES).enumerate() {
        let warps: Vec<Vec<u32>> = (0..128).map(|_| shape(&mut g, *bytes, SHARED as u32)).collect();
        let c = run(op, &warps.concat(), 128);
        let want =
            warps.iter().map(|w| wavefronts_of(w, *bytes)).fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
        let lanes = warps.iter().flatten().filter(|o| **o != OFF).count() as u64;
        let s = last(&c).shared;
        assert_eq!([s.wavefronts, s.wavefronts_ideal], want, "{op}");
        let moved = if i < SHARED_LOADS.len() { s.read_bytes } else { s.written_bytes };
        assert_eq!((moved, s.read_bytes + s.written_bytes), (lanes * u64::from(*bytes), moved));
        assert_eq!(c.bank_conflicts(), want[0] - want[1]);
    }
}

/// Counts worked out by hand for one warp of 32 lanes at `base + lane * stride`.
#[test]
fn by_hand() {
    let at = |base: u32, stride: u32| -> Vec<u32> { (0..32).map(|l| base + l * stride).collect() };
    // (instruction, offsets, bytes, sectors, ideal)
    let global = [
        (2, at(0, 4), 128, 4, 4),      // coalesced
        (2, at(16, 4), 128, 5, 4),     // a row that starts in the middle of a sector
        (2, at(4, 4), 128, 5, 4),      // ... and at its second word
        (2, at(64, 0), 128, 1, 1),     // broadcast: 4 bytes are asked for 32 times
        (2, at(0, 8), 128, 8, 4),      // every other word
        (2, at(0, 32), 128, 32, 4),    // a sector for each word
        (2, at(0, 508), 128, 32, 4),   // a prime number of words apart
        (0, at(7, 1), 32, 2, 1),       // bytes across a sector's edge
        (0, at(0, 1), 32, 1, 1),       // bytes that fill one
        (3, at(8, 8), 256, 9, 8),      // 8 bytes each, from the second place of a sector
        (5, at(0, 16), 512, 16, 16),   // 16 bytes each
        (5, at(16, 16), 512, 17, 16),  // ... half a sector off
        (5, at(0, 1008), 512, 32, 16), // ... apart
    ];
    for (i, offsets, bytes, sectors, ideal) in global {
        let c = run(LOADS[i].0, &offsets, 32);
        let r = last(&c).global_read;
        assert_eq!(
            [r.bytes, r.sectors, r.sectors_ideal],
            [bytes, sectors, ideal],
            "{} {offsets:?}",
            LOADS[i].0
        );
    }
    // The same pattern two bytes on has no conflict: the second half then lies in the next bank.
    let halves = |base: u32| (0..32).map(|l| if l < 2 { base + l * 130 } else { OFF }).collect::<Vec<_>>();
    for (first, second) in [(0, 2), (2, 0)] {
        let c = run(SHARED_LOADS[1].0, &[halves(first), halves(second)].concat(), 64);
        let s = last(&c).shared;
        assert_eq!([s.wavefronts, s.wavefronts_ideal], [3, 2]);
    }
    // (instruction, offsets, wavefronts, ideal)
    let shared = [
        (2, at(0, 4), 1, 1),    // one bank each
        (2, at(20, 4), 1, 1),   // ... turned
        (2, at(256, 0), 1, 1),  // broadcast
        (2, at(0, 8), 2, 1),    // two-way conflict
        (2, at(0, 16), 4, 1),   // four-way
        (2, at(0, 128), 32, 1), // one bank
        (2, at(0, 132), 1, 1),  // padded rows
        (2, at(0, 12), 1, 1),   // three words apart: 3 and 32 share no factor
        (0, at(0, 1), 1, 1),    // four lanes share a word
        (1, at(0, 2), 1, 1),    // two lanes share a word
        (1, at(2, 128), 32, 1), // halves in one bank
        (3, at(0, 8), 2, 2),    // 256 bytes
        (3, at(0, 16), 4, 2),   // each half: two-way
        (4, at(0, 16), 4, 4),   // 512 bytes
        (4, at(0, 128), 32, 4), // rows of 128 bytes: eight lanes in the same four banks
        (4, at(0, 144), 4, 4),  // rows padded by 16 bytes
        (4, at(0, 0), 4, 4),    // broadcast; each quarter of the warp asks on its own
    ];
    for (i, offsets, need, ideal) in shared {
        let c = run(SHARED_LOADS[i].0, &offsets, 32);
        let s = last(&c).shared;
        assert_eq!([s.wavefronts, s.wavefronts_ideal], [need, ideal], "{} {offsets:?}", SHARED_LOADS[i].0);
    }
}

#[test]
fn atomics_read_and_write() {
    let offsets: Vec<u32> = (0..64).map(|l| l % 7 * 4).collect();
    for op in ["red.global.add.u32 [%rd3], 1;", "atom.global.add.u32 %r8, [%rd3], 1;"] {
        let c = run(op, &offsets, 64);
        let m = last(&c);
        assert_eq!(c.global_atomics, 64);
        assert_eq!([m.global_read.bytes, m.global_read.sectors, m.global_read.sectors_ideal], [256, 2, 2]);
        assert_eq!(m.global_read, m.global_write);
        assert_eq!((c.unique_bytes_read("buf"), c.unique_bytes_written("buf")), (28, 28));
    }
    let c = run("red.shared.add.u32 [%r6], 1;", &offsets, 64);
    assert_eq!((c.global_atomics, last(&c).shared.written_bytes), (0, 256));
    assert_eq!(last(&c).shared.wavefronts, 2);
}

#[test]
fn copies() {
    // cp.async reads global memory and writes shared memory.
    for (bytes, cache) in [(4u32, "ca"), (8, "ca"), (16, "cg")] {
        let offsets: Vec<u32> = (0..32).map(|l| if l == 5 { OFF } else { l * bytes }).collect();
        let op = format!("cp.async.{cache}.shared.global [%r6], [%rd3], {bytes}; cp.async.wait_all;");
        let c = run(&op, &offsets, 32);
        let m = last(&c);
        let [asked, sectors, ideal] = sectors_of(&offsets, bytes);
        let [need, least] = wavefronts_of(&offsets, bytes);
        assert_eq!(
            [m.global_read.bytes, m.global_read.sectors, m.global_read.sectors_ideal],
            [asked, sectors, ideal]
        );
        assert_eq!(
            [m.shared.written_bytes, m.shared.wavefronts, m.shared.wavefronts_ideal],
            [asked, need, least]
        );
        assert_eq!(c.waits["copies"], 1);
        assert_eq!(c.unique_bytes_read("buf"), u64::from(31 * bytes));
    }
    // ldmatrix x4 reads 32 rows of 16 bytes, whose addresses the lanes hold.
    for stride in [16u32, 128, 144, 32] {
        let offsets: Vec<u32> = (0..32).map(|l| l * stride).collect();
        let op = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r8, %r9, %r10, %r11}, [%r6];";
        let c = run(op, &offsets, 32);
        let s = last(&c).shared;
        assert_eq!([s.wavefronts, s.wavefronts_ideal], wavefronts_of(&offsets, 16), "{stride}");
        assert_eq!(s.read_bytes, 512);
    }
}

/// Lanes whose source is cut read only what is left of it; those that copy nothing read nothing.
#[test]
fn copies_with_cut_sources() {
    // Sizes 0, 4, 8, 12, 16, 0, ... by lane; the rest of each 16 bytes is filled with zeros.
    let op = "rem.u32 %r20, %r1, 5;
        mul.lo.u32 %r20, %r20, 4;
        cp.async.cg.shared.global [%r6], [%rd3], 16, %r20;
        cp.async.wait_all;";
    let offsets: Vec<u32> = (0..32).map(|l| l * 16).collect();
    let c = run(op, &offsets, 32);
    let m = c.memory.iter().find(|m| m.instruction.starts_with("cp.async.cg")).unwrap();
    let asked: u64 = (0..32).map(|l| l % 5 * 4).sum();
    assert_eq!(m.global_read.bytes, asked);
    assert_eq!(c.unique_bytes_read("buf"), asked);
    assert_eq!(m.shared.written_bytes, 512);
}

/// Traffic, lanes and results of a kernel that does not depend on timing are the same in every schedule.
#[test]
fn schedules_do_not_change_traffic() {
    let mut m = Machine::new(include_str!("../ptx/matmul.ptx"));
    let (r, n, k) = (70usize, 67usize, 33usize);
    let buffers = [m.zeros::<f32>("a", r * k), m.zeros::<f32>("b", k * n), m.zeros::<f32>("c", r * n)];
    let count = |m: &Machine| m.matmul(buffers, [r, n, k]);
    m.options.sanitize = Sanitize::default();
    let fast = count(&m);
    m.options.sanitize = Sanitize::ALL;
    assert_eq!(count(&m), fast, "checks do not count");
    for seed in 0..4 {
        m.options.seed = Some(seed);
        let c = count(&m);
        assert_eq!(c, count(&m), "seed {seed} replays");
        let lanes =
            |c: &Counters| (c.lane_instructions, c.flops_f32, c.global_read_bytes, c.shared_read_bytes);
        assert_eq!(lanes(&c), lanes(&fast), "seed {seed}");
        let unique =
            |c: &Counters| ["a", "b", "c"].map(|l| (c.unique_bytes_read(l), c.unique_bytes_written(l)));
        assert_eq!(unique(&c), unique(&fast));
        assert!(c.instructions >= fast.instructions, "parts of warps count each");
    }
    assert_eq!(fast.unique_bytes_read("a"), (r * k * 4) as u64);
    assert_eq!(fast.unique_bytes_written("c"), (r * n * 4) as u64);
}

/// A bulk copy of 1040 bytes from the 16th byte on: 65 pieces; whole sectors but for the first and the last.
#[test]
fn bulk_copies() {
    let op = "setp.ne.u32 %p2, %r1, 0;
        @%p2 bra DONE;
        add.u32 %r20, %r7, 8192;
        mbarrier.init.shared.b64 [%r20], 1;
        fence.proxy.async;
        mbarrier.arrive.expect_tx.shared.b64 %rd9, [%r20], 1040;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r7], [%rd3], 1040, [%r20];
        WAIT: mbarrier.try_wait.shared.b64 %p3, [%r20], %rd9;
        @!%p3 bra WAIT;";
    let c = run(op, &[16, OFF], 2);
    let m = c.memory.iter().find(|m| m.instruction.contains("cp.async.bulk")).unwrap();
    assert_eq!(m.global_read.bytes, 1040);
    assert_eq!(c.unique_bytes_read("buf"), 1040);
    assert_eq!(c.buffers["buf"].unique_read_sectors, 33);
    assert_eq!(m.shared.written_bytes, 1040);
    assert_eq!(m.executions, 1);
    assert_eq!(c.waits["mbarrier"], 1);
}

/// Every byte once, and the same with a byte left out and with a byte read twice.
#[test]
fn reads_of_weights_are_their_size() {
    let n = 1021usize; // a prime: the last warp is ragged
    let table: Vec<u32> = (0..1024).map(|i| if i < n as u32 { 4 * i } else { OFF }).collect();
    let run = |table: &[u32]| {
        let mut m = Machine::new(&kernel(LOADS[2].0));
        let idx = m.put("idx", table);
        let buf = m.zeros::<f32>("weights", n);
        m.run("k", 8, 128, &[Arg::Ptr(idx), Arg::Ptr(buf)])
    };
    let c = run(&table);
    assert_eq!(c.unique_bytes_read("weights"), 4 * n as u64);
    assert_eq!(c.buffers["weights"].bytes, 4 * n as u64);
    assert!(c.reads_once("weights"));
    assert_eq!(c.unique_bytes_written("weights"), 0);
    assert_eq!((c.unique_bytes_read("none"), c.reads_once("none")), (0, false));
    let mut less = table.clone();
    less[77] = OFF;
    assert!(!run(&less).reads_once("weights"));
    assert_eq!(run(&less).unique_bytes_read("weights"), 4 * n as u64 - 4);
    let mut twice = table.clone();
    twice[1023] = 400;
    assert_eq!(run(&twice).unique_bytes_read("weights"), 4 * n as u64);
    assert!(!run(&twice).reads_once("weights"));
}

/// Lanes that wait for others have not executed the instruction yet: it counts when they do.
#[test]
fn waiting_is_not_executing() {
    let op = "setp.lt.u32 %p2, %r1, 16;
        @%p2 bra LOW;
        add.u32 %r20, %r1, 1;
        bra.uni MEET;
        LOW: add.u32 %r20, %r1, 2;
        add.u32 %r20, %r20, 3;
        MEET: bar.warp.sync -1;
        bar.sync 0;";
    let c = run(op, &[0; 64], 64);
    assert_eq!(c.mix["bar.warp.sync"], 2);
    assert_eq!((c.waits["warp"], c.waits["barrier"]), (2, 2));
    // 17 instructions lead to the branch. Warp 0 parts there and runs two instructions on each side; warp 1 stays whole
    // and runs two. Both run two barriers and `ret`.
    assert_eq!(c.instructions, (17 + 2 + 2 + 3) + (17 + 2 + 3));
    // Branches count the lanes that take them: none of the first, 16 of the second.
    assert_eq!(c.lane_instructions, 2 * 32 * (15 + 2 + 3) + 16);
    // mbarrier: warp 1 waits for warp 0, which arrives late.
    let op = "mov.u32 %r20, s;
        setp.ne.u32 %p2, %r1, 0;
        @!%p2 mbarrier.init.shared.b64 [%r20], 1;
        bar.sync 0;
        setp.lt.u32 %p3, %r1, 32;
        @%p3 bra LATE;
        WAIT: mbarrier.try_wait.parity.shared.b64 %p4, [%r20], 0;
        @!%p4 bra WAIT;
        bra.uni DONE;
        LATE: mov.u32 %r21, 0;
        LOOP: add.u32 %r21, %r21, 1;
        setp.lt.u32 %p5, %r21, 10000;
        @%p5 bra LOOP;
        @!%p2 mbarrier.arrive.shared.b64 %rd9, [%r20];";
    let c = run(op, &[0; 64], 64);
    assert_eq!(c.waits["mbarrier"], 1);
    assert_eq!(c.mix["mbarrier.try_wait.parity.shared.b64"], 1);
}

#[test]
fn polls_registers_and_local_memory() {
    let op = "LOOP: ld.relaxed.gpu.global.u32 %r8, [%rd3];
        setp.ne.u32 %p2, %r8, 0;
        @%p2 bra LOOP;
        ld.volatile.global.u32 %r9, [%rd3];";
    let c = run(op, &[0; 32], 32);
    assert_eq!(c.waits["poll"], 1, "the second load is in no loop");
    assert!(c.live_registers > 0);
    assert!(c.memory.iter().all(|m| !m.instruction.contains("ld.param")), "parameters are no traffic");
    let spill = kernel("st.local.u32 [%rd15], %r1; ld.local.u32 %r8, [%rd15];")
        .replace("ld.param.u64 %rd1", ".local .align 8 .b8 l[16]; mov.u64 %rd15, l; ld.param.u64 %rd1");
    let mut m = Machine::new(&spill);
    let idx = m.put("idx", &[0u32; 32]);
    let buf = m.zeros::<u8>("buf", BUFFER);
    let c = m.run("k", 1, 32, &[Arg::Ptr(idx), Arg::Ptr(buf)]);
    assert_eq!(c.local_bytes, 256);
}

#[test]
fn what_calls_hand_over_is_in_registers() {
    // Twice 32 lanes spill 4 bytes; arguments and results, by variable and by register, are no traffic.
    let text = ".version 8.5\n.target sm_90a\n.address_size 64\n
        .func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %r<3>; .local .align 4 .b8 l[4];
        ld.param.b32 %r1, [a]; st.local.u32 [l], %r1; ld.local.u32 %r2, [l]; add.u32 %r1, %r1, %r2;
        st.param.b32 [r], %r1; ret; }
        .visible .entry k(.param .u64 o) { .reg .pred %p; .reg .b32 %r<9>; .reg .b64 %rd<9>; .param .b32 a, r;
        ld.param.u64 %rd1, [o]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd1, %rd1, %rd2;
        setp.lt.u32 %p, %r1, 64; st.param.b32 [a], %r1;
        @%p call.uni (r), twice, (a); ld.param.b32 %r2, [r]; st.global.u32 [%rd1], %r2; ret; }";
    let mut m = Machine::new(text);
    let o = m.zeros::<u32>("o", 32);
    let c = m.run("k", 1, 32, &[Arg::Ptr(o)]);
    assert_eq!(m.get::<u32>(o, 32)[5], 10);
    assert_eq!(c.local_bytes, 256);
    let of = |name: &str| {
        c.memory.iter().filter(|m| m.instruction.contains(name)).map(|m| m.local_bytes).sum::<u64>()
    };
    assert_eq!((of("local"), of("param"), of("call")), (256, 0, 0));
}

/// Sums of launches add up, instruction by instruction.
#[test]
fn sums() {
    let offsets: Vec<u32> = (0..32).map(|l| l * 4).collect();
    let one = run(LOADS[2].0, &offsets, 32);
    let mut two = one.clone();
    two += &one;
    assert_eq!(two.memory.len(), one.memory.len());
    assert_eq!(last(&two).global_read.bytes, 256);
    assert_eq!(two.instructions, 2 * one.instructions);
    assert_eq!(two.unique_bytes_read("buf"), 256);
    assert_eq!(two.buffers["buf"].bytes, BUFFER as u64);
    assert_eq!(two.live_registers, one.live_registers);
    let mut sum = Counters::default();
    sum += &one;
    assert_eq!(sum, one);
}

#[test]
fn instructions_know_the_loops_around_them() {
    // Loads outside of loops, in one, in two, and after them.
    let body = "ld.global.u32 %r10, [%rd3];
         mov.u32 %r20, 0;
         OUTER: ld.global.u32 %r11, [%rd3];
         mov.u32 %r21, 0;
         INNER: ld.global.u32 %r12, [%rd3];
         add.u32 %r21, %r21, 1;
         setp.lt.u32 %p2, %r21, 3;
         @%p2 bra INNER;
         add.u32 %r20, %r20, 1;
         setp.lt.u32 %p3, %r20, 5;
         @%p3 bra OUTER;
         ld.global.u32 %r13, [%rd3];";
    let c = run(body, &(0..32).map(|l| 4 * l).collect::<Vec<u32>>(), 32);
    let loops: Vec<(u32, u64)> = c.memory[1..].iter().map(|m| (m.loops, m.executions)).collect();
    assert_eq!(loops, [(0, 1), (1, 5), (2, 15), (0, 1)]);
}
