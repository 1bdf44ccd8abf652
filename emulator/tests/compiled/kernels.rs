//! What: whole kernels that NVRTC compiled, against host oracles.
//! Why here: the machine as its users see it.
//! Pre: tests/ptx.
//! Post: results and counters are exact.

use crate::common::{self, Arg, Machine, Rng};

const SIMPLE: &str = include_str!("../ptx/simple.ptx");

#[test]
fn axpy_with_a_tail() {
    let mut m = Machine::new(SIMPLE);
    let n = 1000;
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let (a, b) = (m.put("x", &x), m.put("y", &vec![1.0f32; n]));
    let c = m.run("axpy", 4, 256, &[Arg::Ptr(a), Arg::Ptr(b), Arg::F32(2.0), Arg::I32(n as i32)]);
    let y: Vec<f32> = m.get(b, n);
    assert!((0..n).all(|i| y[i] == 2.0 * i as f32 + 1.0));
    assert_eq!(c.flops_f32, 2 * n as u64);
    assert_eq!(c.global_read_bytes, 8 * n as u64);
    assert_eq!(c.global_write_bytes, 4 * n as u64);
    assert_eq!(c.buffers["x"].unique_read_sectors, 125);
    assert_eq!(c.buffers["y"].unique_written_sectors, 125);
    assert_eq!(c.global_read_sectors, c.global_read_sectors_ideal);
}

#[test]
fn tiled_matmul_and_counters_do_not_depend_on_threads() {
    let mut m = Machine::new(include_str!("../ptx/matmul.ptx"));
    let (r, n, k) = (100usize, 70usize, 45usize);
    let mut g = Rng::new(7);
    let a: Vec<f32> = (0..r * k).map(|_| g.f64(-1.0, 1.0) as f32).collect();
    let b: Vec<f32> = (0..k * n).map(|_| g.f64(-1.0, 1.0) as f32).collect();
    let (pa, pb, pc) = (m.put("a", &a), m.put("b", &b), m.zeros::<f32>("c", r * n));
    m.options.instruction_budget = 1 << 40;
    let mut all = vec![];
    for threads in [1, 2, 5] {
        m.options.threads = threads;
        all.push(m.matmul([pa, pb, pc], [r, n, k]));
        let c: Vec<f32> = m.get(pc, r * n);
        for i in 0..r {
            for j in 0..n {
                let want = (0..k).fold(0f32, |s, q| a[i * k + q].mul_add(b[q * n + j], s));
                assert_eq!(c[i * n + j], want, "({i},{j})");
            }
        }
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    assert_eq!(all[0].buffers["c"].unique_written_sectors, (r * n * 4 / 32) as u64);
}

#[test]
fn struct_parameters() {
    let mut m = Machine::new(SIMPLE);
    let o = m.zeros::<i64>("o", 32);
    let mut s = 5i32.to_le_bytes().to_vec();
    s.extend([1.0f32, 20.0, 300.0].iter().flat_map(|v| v.to_le_bytes()));
    m.run("by_struct", 1, 32, &[Arg::Raw(s, 4), Arg::Ptr(o)]);
    let got: Vec<i64> = m.get(o, 32);
    for (t, g) in got.iter().enumerate() {
        assert_eq!(*g, 5 * t as i64 + [1, 20, 300][t % 3]);
    }
    assert_eq!(m.program.params("by_struct").unwrap()[1].offset, 16);
}

#[test]
fn reduction_by_shuffles() {
    let mut m = Machine::new(SIMPLE);
    let x: Vec<f32> = (0..777).map(|i| (i % 13) as f32).collect();
    let (a, o) = (m.put("x", &x), m.zeros::<f32>("o", 1));
    m.run("warp_sum", 1, 256, &[Arg::Ptr(a), Arg::Ptr(o), Arg::I32(777)]);
    assert_eq!(m.get::<f32>(o, 1)[0], x.iter().sum::<f32>());
}

#[test]
fn shuffles_votes_matches_reductions() {
    let mut m = Machine::new(SIMPLE);
    let mut g = Rng::new(3);
    let x: Vec<i32> = (0..32).map(|_| g.u32() as i32 % 150).collect();
    let (a, o) = (m.put("x", &x), m.zeros::<i32>("o", 12 * 32));
    m.run("shuffles", 1, 32, &[Arg::Ptr(a), Arg::Ptr(o)]);
    let got: Vec<i32> = m.get(o, 12 * 32);
    let ballot = x.iter().enumerate().fold(0u32, |b, (l, v)| b | u32::from(*v > 0) << l) as i32;
    for l in 0..32usize {
        let same = (0..32).fold(0u32, |b, k| b | u32::from(x[k] & 3 == x[l] & 3) << k) as i32;
        let want = [
            x[l * 7 % 32],
            if l >= 3 { x[l - 3] } else { x[l] },
            if l % 16 + 5 < 16 { x[l + 5] } else { x[l] },
            x[l ^ 9],
            ballot,
            x.iter().any(|v| *v > 100) as i32,
            1,
            -1,
            same,
            x.iter().sum(),
            *x.iter().max().unwrap(),
            x.iter().fold(0, |a, b| a ^ b),
        ];
        for (row, w) in want.iter().enumerate() {
            assert_eq!(got[32 * row + l], *w, "row {row} lane {l}");
        }
    }
}

#[test]
fn divergent_loops_and_switches() {
    let mut m = Machine::new(SIMPLE);
    let x: Vec<i32> = (0..300).map(|i| i * 37 % 1000 + 1).collect();
    let (a, o) = (m.put("x", &x), m.zeros::<i32>("o", 300));
    m.run("collatz", 3, 128, &[Arg::Ptr(a), Arg::Ptr(o), Arg::I32(300)]);
    for (x, g) in x.iter().zip(m.get::<i32>(o, 300)) {
        let (mut v, mut s) = (*x as u64, 0);
        while v != 1 {
            v = if v & 1 == 1 { 3 * v + 1 } else { v / 2 };
            s += 1;
        }
        assert_eq!(g, s);
    }
    m.run("switched", 1, 256, &[Arg::Ptr(a), Arg::Ptr(o), Arg::I32(300)]);
    for (x, g) in x.iter().zip(m.get::<i32>(o, 256)) {
        let (v, mut r) = (*x, 0i32);
        'out: for k in 0..5 {
            match (v + k) & 7 {
                0 => r += 3,
                c @ (1 | 2) => {
                    if c == 1 {
                        r ^= v;
                    }
                    r = r.wrapping_mul(5);
                }
                3 => {
                    if v > 50 {
                        break 'out;
                    }
                    r -= k;
                }
                5 => r = r.wrapping_mul(7).wrapping_add(k),
                _ => r += 1,
            }
        }
        assert_eq!(g, r);
    }
}

#[test]
fn calls_in_divergent_code() {
    let mut m = Machine::new(SIMPLE);
    let (o, f) = (m.zeros::<i32>("o", 64), m.zeros::<f32>("f", 64));
    m.run("calls", 1, 64, &[Arg::Ptr(o), Arg::Ptr(f)]);
    let helper = |a: i32, b: i64, i: i32| a * 3 + (b >> 2) as i32 + i * 2 + if a & 1 == 1 { 2 } else { i };
    let (got, gf): (Vec<i32>, Vec<f32>) = (m.get(o, 64), m.get(f, 64));
    for i in 0..64i32 {
        let want = if i % 3 != 0 { helper(i, i64::from(i) << 20, i) } else { helper(i + 1, 5, i) };
        assert_eq!(got[i as usize], want, "thread {i}");
        let x = i as f32 * 0.25;
        assert_eq!(gf[i as usize], (0..4).fold(0.0, |s, k| s * x + k as f32));
    }
}

#[test]
fn module_variables_persist() {
    let mut m = Machine::new(SIMPLE);
    let o = m.zeros::<f32>("o", 4);
    m.run("globals", 1, 4, &[Arg::Ptr(o)]);
    let text = [97.0, 98.0, 99.0, 0.0];
    let table = [1.0, 2.5, -3.0, 0.125];
    let want: Vec<f32> = (0..4).map(|i| table[i] + 7.0 + text[i]).collect();
    assert_eq!(m.get::<f32>(o, 4), want);
    m.run("bump", 2, 32, &[]);
    m.run("globals", 1, 4, &[Arg::Ptr(o)]);
    assert_eq!(m.get::<f32>(o, 4)[0], 1.0 + 71.0 + 97.0);
}

#[test]
fn atomics_of_every_kind() {
    let mut m = Machine::new(SIMPLE);
    let i = m.put("i", &{
        let mut v = vec![0i32; 8 + 96];
        v[5] = -1;
        v
    });
    let (u, f, l, d) =
        (m.zeros::<u32>("u", 8), m.zeros::<f32>("f", 1), m.zeros::<u64>("l", 2), m.zeros::<f64>("d", 1));
    m.run("atomics", 1, 96, &[Arg::Ptr(i), Arg::Ptr(u), Arg::Ptr(f), Arg::Ptr(l), Arg::Ptr(d)]);
    let g: Vec<i32> = m.get(i, 104);
    assert_eq!(g[0], (0..96).sum::<i32>());
    assert_eq!((g[1], g[2]), (90, -5));
    assert_eq!(g[3], (0..96).fold(0, |a, t| a ^ (t * 77)));
    assert_eq!((g[4], g[5], g[6], g[7]), (-1, 0, 96, 9));
    let mut tickets = g[8..].to_vec();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..96).collect::<Vec<_>>());
    let gu: Vec<u32> = m.get(u, 4);
    assert_eq!(gu[0], 96 % 11);
    assert_eq!((gu[2], gu[3]), (5, 192));
    assert_eq!(m.get::<f32>(f, 1)[0], 144.0);
    assert_eq!(m.get::<u64>(l, 2), vec![96 * (3 << 33), 95 << 40]);
    assert_eq!(m.get::<f64>(d, 1)[0], 48.0);
}

#[test]
fn dynamic_shared_local_arrays_and_generic_pointers() {
    let mut m = Machine::new(SIMPLE);
    m.shared = 64 * 4;
    let o = m.zeros::<f32>("o", 64);
    m.run("dynamic_shared", 1, 64, &[Arg::Ptr(o)]);
    assert_eq!(m.get::<f32>(o, 64), (0..64).rev().map(|i| i as f32).collect::<Vec<_>>());
    m.shared = 0;
    let idx: Vec<i32> = (0..64).map(|i| i * 11 % 40).collect();
    let (a, o) = (m.put("idx", &idx), m.zeros::<i32>("o", 64));
    m.run("local_array", 1, 64, &[Arg::Ptr(a), Arg::Ptr(o)]);
    for (t, g) in m.get::<i32>(o, 64).into_iter().enumerate() {
        let mut v: Vec<i32> = (0..40).map(|i| i * i + t as i32).collect();
        v[idx[t] as usize] += 1000;
        let want =
            (0..40).fold(0i32, |s, i| s.wrapping_mul(3).wrapping_add(v[((i * 7 + idx[t]) % 40) as usize]));
        assert_eq!(g, want);
    }
    for which in 0..3 {
        m.run("generic_ptr", 1, 64, &[Arg::Ptr(a), Arg::Ptr(o), Arg::I32(which)]);
        for (t, g) in m.get::<i32>(o, 64).into_iter().enumerate() {
            let t = t as i32;
            assert_eq!(g, [idx[t as usize], 2 * t, if t & 1 == 1 { 5 } else { t }][which as usize]);
        }
    }
}

#[test]
fn a_lock_between_lanes_makes_progress() {
    let mut m = Machine::new(SIMPLE);
    let (l, o) = (m.zeros::<i32>("lock", 1), m.zeros::<i32>("o", 1));
    // The kernel takes its lock without an acquire, which is what the race check says of it.
    let found = m.report("lock", 2, 64, &[Arg::Ptr(l), Arg::Ptr(o)]).unwrap().findings;
    assert!(!found.is_empty() && found.iter().all(|f| f.kind == tilewright_emulator::FindingKind::Race));
    assert_eq!(m.get::<i32>(o, 1)[0], 128);
}

fn fault(e: tilewright_emulator::LaunchError) -> tilewright_emulator::Fault {
    match e {
        tilewright_emulator::LaunchError::Fault(f) => *f,
        e => panic!("not a fault: {e}"),
    }
}

#[test]
fn faults_name_their_place() {
    use tilewright_emulator::FaultKind;
    let mut m = Machine::new(SIMPLE);
    let o = m.zeros::<i32>("out", 64);
    let f = fault(m.try_run("out_of_bounds", 1, 64, &[Arg::Ptr(o)]).unwrap_err());
    assert_eq!((f.kernel.as_str(), f.thread, f.block), ("out_of_bounds", [63, 0, 0], [0, 0, 0]));
    assert!(f.source_line.is_some() && f.ptx_line > 0, "{f}");
    assert!(f.to_string().contains("buffer `out`"), "{f}");
    assert!(matches!(f.kind, FaultKind::OutOfBounds { address, .. } if address == o + 256));
    let f = fault(m.try_run("misaligned", 1, 32, &[Arg::Ptr(o)]).unwrap_err());
    assert!(matches!(f.kind, FaultKind::Misaligned { bytes: 4, .. }), "{f}");
    let f = fault(m.try_run("shared_oob", 1, 32, &[Arg::Ptr(o), Arg::I32(8)]).unwrap_err());
    assert!(matches!(f.kind, FaultKind::OutOfBounds { space: "shared", address: 32, .. }), "{f}");
    let f = fault(m.try_run("trap_it", 1, 32, &[Arg::Ptr(o)]).unwrap_err());
    assert_eq!((f.kind, f.thread[0]), (FaultKind::Trap, 5));
    m.options.instruction_budget = 10_000;
    let z = m.zeros::<i32>("zero", 1);
    let f = fault(m.try_run("spin", 1, 32, &[Arg::Ptr(z)]).unwrap_err());
    assert!(
        matches!(&f.kind, FaultKind::Deadlock { waiting } if waiting.contains("poll byte 0 of buffer `zero`")),
        "{f}"
    );
    let f = fault(m.try_run("half_barrier", 1, 32, &[Arg::Ptr(o)]).unwrap_err());
    assert!(matches!(f.kind, FaultKind::Deadlock { .. }), "{f}");
}

#[test]
fn read_only_mappings_are_shared_and_protected() {
    let mut m = Machine::new(SIMPLE);
    let x: std::sync::Arc<Vec<u8>> = std::sync::Arc::new(common::bytes_of(&[3.0f32; 40]));
    let a = m.memory.map_read_only("weights", x).unwrap();
    let y = m.put("y", &[1.0f32; 40]);
    m.run("axpy", 1, 64, &[Arg::Ptr(a), Arg::Ptr(y), Arg::F32(2.0), Arg::I32(40)]);
    assert_eq!(m.get::<f32>(y, 40), vec![7.0; 40]);
    let f = fault(
        m.try_run("axpy", 1, 64, &[Arg::Ptr(y), Arg::Ptr(a), Arg::F32(2.0), Arg::I32(40)]).unwrap_err(),
    );
    assert!(f.to_string().contains("`weights` is read-only"), "{f}");
    assert!(m.memory.write(a, &[0]).is_err());
    assert!(m.memory.read(a + 158, &mut [0; 4]).is_err());
    m.memory.free(a).unwrap();
    assert!(m.memory.free(a).is_err());
}

#[test]
fn launches_are_checked() {
    let mut m = Machine::new(SIMPLE);
    let e = m.try_run("nothing", 1, 1, &[]).unwrap_err().to_string();
    assert!(e.contains("`axpy`"), "{e}");
    assert!(m.try_run("axpy", 1, 1025, &[]).unwrap_err().to_string().contains("1024"));
    assert!(m.try_run("axpy", 1, 32, &[]).unwrap_err().to_string().contains("24"));
    m.shared = 228 << 10;
    let o = m.zeros::<f32>("o", 64);
    assert!(
        m.try_run("dynamic_shared", 1, 64, &[Arg::Ptr(o)]).unwrap_err().to_string().contains("shared memory")
    );
}

const WIDE: &str = include_str!("../ptx/wide.ptx");

#[test]
fn blocks_that_wait_for_each_other_interleave() {
    for threads in [1, 2] {
        let mut m = Machine::new(WIDE);
        m.options.threads = threads;
        m.options.instruction_budget = 1 << 30;
        m.options.sanitize = tilewright_emulator::Sanitize::default();
        let (f, o) = (m.zeros::<i32>("flags", 6), m.zeros::<i32>("o", 6));
        m.run("relay", 6, 32, &[Arg::Ptr(f), Arg::Ptr(o)]);
        assert_eq!(m.get::<i32>(o, 6), vec![6, 5, 4, 3, 2, 1]);
    }
}

#[test]
fn structures_returned_and_chars_passed() {
    let mut m = Machine::new(WIDE);
    let o = m.zeros::<f32>("o", 128);
    m.run("a5", 1, 32, &[Arg::Ptr(o), Arg::Raw(vec![0xfd], 1)]);
    for (t, v) in m.get::<f32>(o, 128).chunks(4).enumerate() {
        assert_eq!(v, [t as f32, -3.0, 2.0 * t as f32, 1.0]);
    }
}

#[test]
fn scopes_fences_and_strong_accesses() {
    let mut m = Machine::new(WIDE);
    let o = m.put(
        "o",
        &[1.0f32, f32::from_bits(0x3c00_3c00), 0.0, 0.0, 1.0, f32::from_bits(1), 0.0, 0.0, 0.0, 0.0],
    );
    m.run("a3", 1, 1, &[Arg::Ptr(o)]);
    let v: Vec<u32> = m.get(o, 10);
    assert_eq!(v[0], 2.0f32.to_bits());
    assert_eq!((v[1], v[3]), (0x4000_4000, 0x3c00_3c00));
    assert_eq!((v[4], v[5], v[7], v[8], v[9]), (3.0f32.to_bits(), 2, 1, 1, 4));
}

#[test]
fn programs_and_memories_are_shared_between_threads() {
    fn both<T: Send + Sync>() {}
    both::<tilewright_emulator::Program>();
    both::<tilewright_emulator::Memory>();
}
