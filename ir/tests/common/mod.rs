//! What the tests share: a seeded generator of random programs, and an oracle that evaluates them by the book.

#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod levels;
pub mod naive;
pub mod random;

use tilewright_ir::splitmix;

/// A small counter-based generator.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    /// An integer in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A real in -1..1 with few bits, so that it survives narrow types and is often repeated.
    pub fn real(&mut self) -> f64 {
        (self.below(257) as f64 - 128.0) / 128.0
    }
}

/// A fresh seed, printed so that a failure can be repeated with `SEED=n`.
pub fn seed() -> u64 {
    let seed = splitmix::fresh_seed();
    #[allow(clippy::print_stdout)]
    {
        println!("SEED={seed}");
    }
    seed
}
