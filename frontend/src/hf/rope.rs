//! Rotation frequencies of position embeddings.
//!
//! Why here: the scalings differ only in how they change the frequencies, so the graph needs to know the frequencies
//! alone. Everything is in f64; the table that they make is rounded once, where it is stored.

use std::f64::consts::TAU;

/// How the frequencies are changed for contexts longer than those of training.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All positions are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Long waves are slowed down by a factor, short ones kept, and those between are blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Waves longer than the original context over this are slowed down.
        low_freq_factor: f64,
        /// Waves shorter than the original context over this are kept.
        high_freq_factor: f64,
        /// The context of training.
        original_context: f64,
    },
}

/// The frequency of each pair of a head, in radians per position.
pub fn frequencies(head_dim: u64, theta: f64, scaling: &Scaling) -> Vec<f64> {
    (0..head_dim / 2)
        .map(|k| {
            let plain = theta.powf(-2.0 * k as f64 / head_dim as f64);
            match *scaling {
                Scaling::None => plain,
                Scaling::Linear { factor } => plain / factor,
                Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                    // How many waves fit into the original context decides.
                    let waves = original_context * plain / TAU;
                    if waves > high_freq_factor {
                        plain
                    } else if waves < low_freq_factor {
                        plain / factor
                    } else {
                        let keep = (waves - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        plain * (keep + (1.0 - keep) / factor)
                    }
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_frequencies_fall_from_one_by_a_constant_ratio() {
        let f = frequencies(10, 10_000.0, &Scaling::None);
        assert_eq!(f.len(), 5);
        assert_eq!(f[0], 1.0);
        for w in f.windows(2) {
            assert!((w[1] / w[0] - 10_000f64.powf(-0.2)).abs() < 1e-15);
        }
    }

    #[test]
    fn blended_scaling_is_continuous_and_meets_its_ends() {
        let plain = frequencies(128, 500_000.0, &Scaling::None);
        let scaling = Scaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let scaled = frequencies(128, 500_000.0, &scaling);
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[63] - plain[63] / 32.0).abs() < 1e-20);
        for (s, p) in scaled.iter().zip(&plain) {
            assert!(*s <= *p && *s >= *p / 32.0);
        }
        assert!(scaled.windows(2).all(|w| w[1] < w[0]));
        let half = frequencies(128, 500_000.0, &Scaling::Linear { factor: 2.0 });
        assert!(half.iter().zip(&plain).all(|(h, p)| *h == p / 2.0));
    }
}
