//! What: how fast the machine decodes and runs.
//! Why here: speed is a requirement: lane instructions per second with and without checks, multiply-adds per second of
//! `mma.sync`, and what a second host thread adds.
//! Pre: release build, an idle machine. `cargo bench -p tilewright-emulator`.
//! Post: throughput in bytes of PTX, lane instructions or multiply-adds per second, as the name of the group says.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tilewright_emulator::{Launch, Memory, Options, Profile, Program, Sanitize, launch};

const MATMUL: &str = include_str!("../tests/ptx/matmul.ptx");
const TENSOR: &str = include_str!("../tests/ptx/tensor.ptx");
const LIBM: &str = include_str!("../tests/ptx/libm.ptx");

/// A program, its memory and the parameters of one launch.
struct Case {
    program: Program,
    memory: Memory,
    entry: &'static str,
    grid: [u32; 3],
    block: [u32; 3],
    params: Vec<u8>,
}

impl Case {
    /// A product of square f32 matrices, 64 x 64 of it for each block.
    fn matmul(n: u32) -> Case {
        let mut memory = Memory::new(1 << 30);
        let mut params = vec![];
        for label in ["a", "b", "c"] {
            let address = memory.alloc(label, u64::from(n * n * 4)).unwrap();
            memory.write(address, &vec![0; (n * n * 4) as usize]).unwrap();
            params.extend(address.to_le_bytes());
        }
        params.extend([n; 3].iter().flat_map(|n| n.to_le_bytes()));
        let program = Program::parse(MATMUL).unwrap();
        Case { program, memory, entry: "matmul_tiled", grid: [n / 64, n / 64, 1], block: [256, 1, 1], params }
    }

    /// Warps that do nothing but m16n8k16 on bf16, `times` each.
    fn mma(times: u32, blocks: u32) -> Case {
        let mut memory = Memory::new(1 << 30);
        let x = memory.alloc("x", 1 << 20).unwrap();
        memory.write(x, &vec![0; 1 << 20]).unwrap();
        let mut params: Vec<u8> = [x, x, x + (1 << 16)].iter().flat_map(|p| p.to_le_bytes()).collect();
        params.extend(times.to_le_bytes());
        let program = Program::parse(TENSOR).unwrap();
        Case { program, memory, entry: "mma_loop", grid: [blocks, 1, 1], block: [128, 1, 1], params }
    }

    fn run(&self, options: &Options) -> tilewright_emulator::LaunchReport {
        let l = Launch {
            entry: self.entry,
            grid: self.grid,
            block: self.block,
            shared_bytes: 0,
            cluster: [1; 3],
            params: &self.params,
        };
        let report = launch(&self.program, &self.memory, &Profile::default(), &l, options).unwrap();
        assert!(report.findings.is_empty(), "{}", report.findings[0]);
        report
    }

    fn lane_instructions(&self) -> u64 {
        self.run(&Options { counters: true, ..Options::default() }).counters.lane_instructions
    }
}

fn one(sanitize: Sanitize, counters: bool) -> Options {
    Options { threads: 1, sanitize, counters, ..Options::default() }
}

fn decode(c: &mut Criterion) {
    let mut g = c.benchmark_group("decode (bytes of PTX)");
    for (name, text) in [("matmul", MATMUL), ("libm", LIBM)] {
        g.throughput(Throughput::Bytes(text.len() as u64));
        g.bench_function(name, |b| b.iter(|| Program::parse(black_box(text)).unwrap()));
    }
    g.finish();
}

fn tiled_matmul(c: &mut Criterion) {
    let mut g = c.benchmark_group("tiled f32 matmul (lane instructions)");
    g.sample_size(10).measurement_time(Duration::from_secs(4));
    let case = Case::matmul(256);
    g.throughput(Throughput::Elements(case.lane_instructions()));
    let none = Sanitize::default();
    let race = Sanitize { race: true, ..none };
    let modes = [
        ("no checks", one(none, false)),
        ("counters", one(none, true)),
        ("races", one(race, false)),
        ("all checks", one(Sanitize::ALL, false)),
        ("all checks and counters", one(Sanitize::ALL, true)),
        ("all checks, seed 1", Options { seed: Some(1), ..one(Sanitize::ALL, false) }),
    ];
    for (name, options) in modes {
        g.bench_function(name, |b| b.iter(|| case.run(&options)));
    }
    g.finish();
}

fn tensor_cores(c: &mut Criterion) {
    let mut g = c.benchmark_group("mma.sync bf16 (multiply-adds)");
    g.sample_size(10).measurement_time(Duration::from_secs(4));
    let (times, blocks) = (2_000, 8);
    let case = Case::mma(times, blocks);
    g.throughput(Throughput::Elements(u64::from(blocks * 4 * times) * 16 * 8 * 16));
    for (name, options) in [
        ("no checks", one(Sanitize::default(), false)),
        ("counters", one(Sanitize::default(), true)),
        ("all checks", one(Sanitize::ALL, false)),
    ] {
        g.bench_function(name, |b| b.iter(|| case.run(&options)));
    }
    g.finish();
}

fn host_threads(c: &mut Criterion) {
    let mut g = c.benchmark_group("host threads (lane instructions)");
    g.sample_size(10).measurement_time(Duration::from_secs(4));
    let case = Case::matmul(512);
    g.throughput(Throughput::Elements(case.lane_instructions()));
    for threads in [1, 2] {
        for counters in [false, true] {
            let options = Options { threads, counters, ..Options::default() };
            let name = format!("{threads}{}", if counters { ", counters" } else { "" });
            g.bench_function(name, |b| b.iter(|| case.run(&options)));
        }
    }
    g.finish();
}

criterion_group!(benches, decode, tiled_matmul, tensor_cores, host_threads);
criterion_main!(benches);
