//! Counter-based random numbers: `random(key, counter)` is the same number wherever and whenever it is computed.
//!
//! What: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011). The 64 bits of
//! `key` are its key, those of `counter` the low half of its 128-bit counter, the high half is 0; of the four words of the
//! result the first is taken.
//! Why here: evaluation and generated code must agree on it bit for bit; this is the definition.
//! Post: numbers in (0, 1], `(word + 1/2) / 2^32` rounded to f32: the smallest is 2^-33, and 1 only by rounding.

const ROUNDS: u32 = 10;
const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The four words for a key and a counter, low words first.
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let (mut k, mut c) = (key, counter);
    for round in 0..ROUNDS {
        if round > 0 {
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        let a = MULTIPLIERS[0] * u64::from(c[0]);
        let b = MULTIPLIERS[1] * u64::from(c[2]);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
    }
    c
}

/// `random(key, counter)` of two integers.
pub fn uniform(key: i64, counter: i64) -> f32 {
    let halves = |x: i64| [x as u32, (x >> 32) as u32];
    let ([k0, k1], [c0, c1]) = (halves(key), halves(counter));
    let word = philox([k0, k1], [c0, c1, 0, 0])[0];
    ((f64::from(word) + 0.5) / 4_294_967_296.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that are published with the generator.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 2], [ones; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox([0xa409_3822, 0x299f_31d0], pi), answer);
    }

    #[test]
    fn numbers_are_spread_over_the_unit_interval() {
        let n = 100_000;
        let all: Vec<f64> = (0..n).map(|i| f64::from(uniform(7, i))).collect();
        assert!(all.iter().all(|&x| x > 0.0 && x <= 1.0));
        let mean = all.iter().sum::<f64>() / n as f64;
        let square = all.iter().map(|x| x * x).sum::<f64>() / n as f64;
        // Five standard deviations of the means.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0f64 / n as f64).sqrt(), "{mean}");
        assert!((square - 1.0 / 3.0).abs() < 5.0 * (4.0 / 45.0f64 / n as f64).sqrt(), "{square}");
        assert_ne!(uniform(7, 1), uniform(8, 1));
        assert_ne!(uniform(7, 1), uniform(7, 1 << 32));
        assert_ne!(uniform(1 << 32, 1), uniform(0, 1));
    }
}
