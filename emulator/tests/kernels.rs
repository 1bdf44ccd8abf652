//! What: whole kernels that NVRTC compiled, against host oracles.
//! Why here: the machine as its users see it.
//! Pre: tests/ptx.
//! Post: results and counters are exact.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
use common::{Arg, Machine, Rng};

const SIMPLE: &str = include_str!("ptx/simple.ptx");

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
    let mut m = Machine::new(include_str!("ptx/matmul.ptx"));
    let (r, n, k) = (100usize, 70usize, 45usize);
    let mut g = Rng::new(7);
    let a: Vec<f32> = (0..r * k).map(|_| g.f64(-1.0, 1.0) as f32).collect();
    let b: Vec<f32> = (0..k * n).map(|_| g.f64(-1.0, 1.0) as f32).collect();
    let (pa, pb, pc) = (m.put("a", &a), m.put("b", &b), m.zeros::<f32>("c", r * n));
    m.options.instruction_budget = 1 << 40;
    let mut all = vec![];
    for threads in [1, 2, 5] {
        m.options.threads = threads;
        let l = tilewright_emulator::Launch {
            entry: "matmul_tiled",
            grid: [2, 2, 1],
            block: [256, 1, 1],
            shared_bytes: 0,
            params: &[pa, pb, pc]
                .iter()
                .flat_map(|p| p.to_le_bytes())
                .chain([r, n, k].iter().flat_map(|v| (*v as i32).to_le_bytes()))
                .collect::<Vec<_>>(),
        };
        let rep =
            tilewright_emulator::launch(&m.program, &m.memory, &Default::default(), &l, &m.options).unwrap();
        all.push(rep.counters);
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
