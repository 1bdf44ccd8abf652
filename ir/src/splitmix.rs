//! Numbers that look random, by a seed and their place.
//!
//! What: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014): a counter, and a
//! function that mixes its bits.
//! Why here: made-up weights, inputs of checks and tests take numbers from seeds that are printed; one generator keeps what a
//! seed stands for the same in all of them.
//! Post: the same numbers of a seed on every machine and in every version.

/// What the counter goes on by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `n`-th number of a seed. The first is number 1.
pub fn at(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(STEP));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The next number of a generator, whose state is a seed at first.
pub fn next(state: &mut u64) -> u64 {
    let out = at(*state, 1);
    *state = state.wrapping_add(STEP);
    out
}

/// A seed for one run of a test: the number in the environment's `SEED`, or one that differs from run to run. Whoever draws
/// it prints it as `SEED=number`, so that a run can be repeated.
pub fn fresh_seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |d| d.as_nanos() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers for a seed of 1234567.
    #[test]
    fn known_answers() {
        let known = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        let mut state = 1_234_567;
        assert_eq!(known.map(|_| next(&mut state)), known);
        assert_eq!([1, 2, 3, 4, 5].map(|n| at(1_234_567, n)), known);
    }
}
