//! What: how fast the machine runs, on one host thread.
//! Why here: speed is a requirement; this prints it without a benchmark harness.
//! Pre: release build.
//! Post: lane instructions and multiply-adds per second on standard output.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;
use tilewright_emulator::{Launch, Memory, Options, Profile, Program, Sanitize, launch};

fn pack(words: &[u64], ints: &[i32]) -> Vec<u8> {
    let mut v: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    v.extend(ints.iter().flat_map(|i| i.to_le_bytes()));
    v
}

fn main() {
    let threads: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let profile = Profile::default();
    let t = Instant::now();
    let program = Program::parse(include_str!("../tests/ptx/matmul.ptx")).unwrap();
    println!("parse and decode: {:?}", t.elapsed());
    println!("live registers: {:?}", program.register_pressure("matmul_tiled"));
    let n = 512u32;
    let mut memory = Memory::new(1 << 30);
    let bytes = u64::from(n * n * 4);
    let (a, b, c) = (
        memory.alloc("a", bytes).unwrap(),
        memory.alloc("b", bytes).unwrap(),
        memory.alloc("c", bytes).unwrap(),
    );
    let params = pack(&[a, b, c], &[n as i32; 3]);
    let l = Launch {
        entry: "matmul_tiled",
        grid: [n / 64, n / 64, 1],
        block: [256, 1, 1],
        shared_bytes: 0,
        cluster: [1; 3],
        params: &params,
    };
    let counted =
        launch(&program, &memory, &profile, &l, &Options { counters: true, threads, ..Options::default() })
            .unwrap();
    for (counters, sanitize) in
        [(false, Sanitize::default()), (true, Sanitize::default()), (false, Sanitize::ALL)]
    {
        let options = Options { counters, threads, sanitize, ..Options::default() };
        let mut best = f64::MAX;
        for _ in 0..3 {
            let t = Instant::now();
            launch(&program, &memory, &profile, &l, &options).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
        }
        let lanes = counted.counters.lane_instructions as f64;
        println!(
            "tiled f32 matmul, counters {counters}, all checks {}: {:.0} M lane instructions/s, {:.2} GMAC/s ({:.1} ms)",
            sanitize == Sanitize::ALL,
            lanes / best / 1e6,
            f64::from(n).powi(3) / best / 1e9,
            best * 1e3
        );
    }
    let program = Program::parse(include_str!("../tests/ptx/tensor.ptx")).unwrap();
    let x = memory.alloc("x", 1 << 20).unwrap();
    let params = pack(&[x, x, x + (1 << 16)], &[10_000]);
    let l = Launch {
        entry: "mma_loop",
        grid: [8, 1, 1],
        block: [128, 1, 1],
        shared_bytes: 0,
        cluster: [1; 3],
        params: &params,
    };
    for counters in [false, true] {
        let options = Options { counters, threads, ..Options::default() };
        let t = Instant::now();
        launch(&program, &memory, &profile, &l, &options).unwrap();
        let s = t.elapsed().as_secs_f64();
        let macs = 8.0 * 4.0 * 10_000.0 * 16.0 * 8.0 * 16.0;
        println!("mma.sync bf16, counters {counters}: {:.1} GMAC/s", macs / s / 1e9);
    }
}
