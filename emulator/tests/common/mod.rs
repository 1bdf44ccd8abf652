//! What: helpers of the tests: a machine with typed buffers, and a seeded generator.
//! Why here: every test launches small kernels.
//! Pre: none.
//! Post: panics name the failing launch.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout, clippy::should_implement_trait)]

use tilewright_emulator::{
    Counters, Launch, LaunchError, LaunchReport, Memory, Options, Profile, Program, Sanitize, launch,
};

/// A 64-bit xorshift generator.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// Prints its seed, so that a failure can be repeated.
    pub(crate) fn new(seed: u64) -> Rng {
        println!("seed {seed}");
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub(crate) fn u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// Uniform in [lo, hi).
    pub(crate) fn f64(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * ((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Values at which arithmetic goes wrong.
pub(crate) const EDGES32: [u32; 24] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0xffff_fffe,
    31,
    32,
    33,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x0080_0000,
    0x007f_ffff,
    0x8000_0000,
    0x7f7f_ffff,
    0x477f_e000,
    0x3f00_0000,
    0x3fc0_0000,
    0x0000_ffff,
];

pub(crate) fn bytes_of<T: ToBytes>(v: &[T]) -> Vec<u8> {
    v.iter().flat_map(|x| x.bytes()).collect()
}

pub(crate) trait ToBytes {
    fn bytes(&self) -> Vec<u8>;
    fn of(b: &[u8]) -> Self;
    const SIZE: usize;
}
macro_rules! to_bytes {
    ($($t:ty),*) => { $(impl ToBytes for $t {
        fn bytes(&self) -> Vec<u8> { self.to_le_bytes().to_vec() }
        fn of(b: &[u8]) -> Self { <$t>::from_le_bytes(b.try_into().unwrap()) }
        const SIZE: usize = size_of::<$t>();
    })* };
}
to_bytes!(u8, u16, u32, i32, u64, i64, f32, f64);

/// An argument of a kernel.
pub(crate) enum Arg {
    Ptr(u64),
    I32(i32),
    F32(f32),
    Raw(Vec<u8>, usize),
}

pub(crate) struct Machine {
    pub(crate) program: Program,
    pub(crate) memory: Memory,
    pub(crate) options: Options,
    pub(crate) shared: u32,
}

impl Machine {
    pub(crate) fn new(ptx: &str) -> Machine {
        Machine {
            program: Program::parse(ptx).unwrap(),
            memory: Memory::new(1 << 30),
            options: Options {
                counters: true,
                threads: 2,
                instruction_budget: 10_000_000,
                sanitize: Sanitize::ALL,
                ..Options::default()
            },
            shared: 0,
        }
    }
    pub(crate) fn put<T: ToBytes + Copy + 'static>(&mut self, label: &str, v: &[T]) -> u64 {
        let b = bytes_of(v);
        let a = self.memory.alloc(label, b.len() as u64).unwrap();
        self.memory.write(a, &b).unwrap();
        a
    }
    pub(crate) fn zeros<T: ToBytes>(&mut self, label: &str, n: usize) -> u64 {
        self.memory.alloc(label, (n * T::SIZE) as u64).unwrap()
    }
    pub(crate) fn get<T: ToBytes>(&self, a: u64, n: usize) -> Vec<T> {
        let mut b = vec![0u8; n * T::SIZE];
        self.memory.read(a, &mut b).unwrap();
        b.chunks(T::SIZE).map(T::of).collect()
    }
    pub(crate) fn try_run(
        &self,
        entry: &str,
        grid: u32,
        block: u32,
        args: &[Arg],
    ) -> Result<Counters, LaunchError> {
        self.report(entry, grid, block, args).map(|r| {
            for f in &r.findings {
                println!("{f}");
            }
            assert!(r.findings.is_empty(), "{entry} is not clean");
            r.counters
        })
    }
    pub(crate) fn report(
        &self,
        entry: &str,
        grid: u32,
        block: u32,
        args: &[Arg],
    ) -> Result<LaunchReport, LaunchError> {
        self.launched(entry, [grid, 1, 1], block, args)
    }
    pub(crate) fn launched(
        &self,
        entry: &str,
        grid: [u32; 3],
        block: u32,
        args: &[Arg],
    ) -> Result<LaunchReport, LaunchError> {
        let mut p = vec![];
        let align = |p: &mut Vec<u8>, n: usize| p.resize(p.len().div_ceil(n) * n, 0);
        for a in args {
            match a {
                Arg::Ptr(v) => {
                    align(&mut p, 8);
                    p.extend(v.to_le_bytes());
                }
                Arg::I32(v) => {
                    align(&mut p, 4);
                    p.extend(v.to_le_bytes());
                }
                Arg::F32(v) => {
                    align(&mut p, 4);
                    p.extend(v.to_le_bytes());
                }
                Arg::Raw(b, n) => {
                    align(&mut p, *n);
                    p.extend(b);
                }
            }
        }
        let l = Launch {
            entry,
            grid,
            block: [block, 1, 1],
            shared_bytes: self.shared,
            cluster: [1; 3],
            params: &p,
        };
        launch(&self.program, &self.memory, &Profile::default(), &l, &self.options)
    }
    /// Runs the product of `tests/ptx/matmul.ptx`: `c` of `r` rows and `n` columns is `a` times `b`, over `k`.
    pub(crate) fn matmul(&self, [a, b, c]: [u64; 3], [r, n, k]: [usize; 3]) -> Counters {
        let sizes = [r, n, k].map(|v| Arg::I32(v as i32));
        let args: Vec<Arg> = [a, b, c].map(Arg::Ptr).into_iter().chain(sizes).collect();
        self.launched("matmul_tiled", [2, 2, 1], 256, &args).unwrap().counters
    }
    pub(crate) fn run(&self, entry: &str, grid: u32, block: u32, args: &[Arg]) -> Counters {
        match self.try_run(entry, grid, block, args) {
            Ok(c) => c,
            Err(e) => panic!("{entry}: {e}"),
        }
    }
}
