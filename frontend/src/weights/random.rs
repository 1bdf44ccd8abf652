//! Made-up weights: a function of seed, name and position.
//!
//! Why here: compiling and benchmarking need models without their files, and runs on different machines must agree. Each
//! element is computed from a counter by integer arithmetic, so a tensor is made without the others, in parallel, and
//! is the same everywhere.
//!
//! Scales: what keeps activations of a deep residual network of order one, so that logits depend on every part: norms
//! near 1, matrices 1/sqrt(columns), small biases, embeddings of standard deviation 0.5 (1/sqrt(columns) where the
//! embedding is also the output matrix).

use std::sync::Arc;

use indexmap::IndexMap;
use tilewright_ir::{DType, splitmix};

use super::{Bytes, WeightError, Weights};

/// Weights made from a seed, in bf16 unless it is said otherwise.
#[derive(Clone, Debug)]
pub struct RandomWeights {
    seed: u64,
    shapes: IndexMap<String, Vec<u64>>,
    dtype: DType,
}

/// How the elements of a tensor are distributed.
#[derive(Clone, Copy, Debug)]
enum Distribution {
    /// Uniform in a range.
    Uniform(f32, f32),
    /// Bell-shaped around 0 with a standard deviation.
    Normal(f32),
}

/// Elements that one thread makes at a time.
const CHUNK: usize = 1 << 20;

impl RandomWeights {
    /// Weights for tensors of these names and shapes.
    pub fn new(seed: u64, shapes: IndexMap<String, Vec<u64>>) -> RandomWeights {
        RandomWeights { seed, shapes, dtype: DType::Bf16 }
    }

    /// The same in another type of 16 bits; what a configuration says of wider ones is for files.
    #[must_use]
    pub fn like(mut self, dtype: DType) -> RandomWeights {
        if dtype == DType::F16 {
            self.dtype = dtype;
        }
        self
    }

    fn distribution(&self, name: &str, dims: &[u64]) -> Distribution {
        let columns = dims.last().copied().unwrap_or(1).max(1) as f32;
        let tied = !self.shapes.contains_key("lm_head.weight");
        match dims.len() {
            1 if name.contains("norm") => Distribution::Uniform(0.5, 1.5),
            0 | 1 => Distribution::Normal(0.1),
            _ if name.contains("embed") && !tied => Distribution::Normal(0.5),
            _ => Distribution::Normal(columns.sqrt().recip()),
        }
    }
}

/// Mixes a counter into 64 independent-looking bits.
fn mix(x: u64) -> u64 {
    splitmix::at(0, x)
}

fn element(bits: u64, distribution: Distribution) -> f32 {
    match distribution {
        Distribution::Uniform(low, high) => low + (high - low) * ((bits >> 40) as f32 / (1u32 << 24) as f32),
        Distribution::Normal(deviation) => {
            // The sum of four 16-bit uniforms: exact in integers, variance 4/12, bell-shaped enough.
            let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
            let centred = (sum as f32 - 131_070.0) / 65_536.0;
            centred * 1.732_050_8 * deviation
        }
    }
}

impl Weights for RandomWeights {
    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)> {
        self.shapes.get(name).map(|dims| (self.dtype, dims.clone()))
    }

    fn bytes(&self, name: &str) -> Result<Bytes, WeightError> {
        let Some(dims) = self.shapes.get(name) else {
            return Err(WeightError::Missing { tensor: name.to_owned(), origin: self.origin(name) });
        };
        let distribution = self.distribution(name, dims);
        let key = name.bytes().fold(mix(self.seed), |k, b| mix(k ^ u64::from(b)));
        let count = dims.iter().product::<u64>() as usize;
        let mut bytes = vec![0u8; 2 * count];
        let threads =
            std::thread::available_parallelism().map_or(1, usize::from).min(count.div_ceil(CHUNK).max(1));
        let share = count.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (t, part) in bytes.chunks_mut(2 * share).enumerate() {
                scope.spawn(move || {
                    for (k, out) in part.chunks_exact_mut(2).enumerate() {
                        let position = (t * share + k) as u64;
                        let x = element(mix(key.wrapping_add(position)), distribution);
                        out.copy_from_slice(&match self.dtype {
                            DType::F16 => half::f16::from_f32(x).to_le_bytes(),
                            _ => half::bf16::from_f32(x).to_le_bytes(),
                        });
                    }
                });
            }
        });
        Ok(Arc::new(bytes))
    }

    fn origin(&self, _: &str) -> String {
        format!("the random weights of seed {}", self.seed)
    }

    fn fingerprint(&self) -> String {
        format!("random {} {}", self.seed, self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::super::elements;
    use super::*;

    fn weights(seed: u64) -> RandomWeights {
        let shapes = [
            ("lm_head.weight", vec![301, 64]),
            ("model.embed_tokens.weight", vec![301, 64]),
            ("model.norm.weight", vec![64]),
            ("model.layers.0.self_attn.q_proj.bias", vec![37]),
            ("none", vec![0, 4]),
        ];
        RandomWeights::new(seed, shapes.into_iter().map(|(n, d)| (n.to_owned(), d)).collect())
    }

    #[test]
    fn values_depend_on_seed_and_name_only_and_have_the_right_scale() {
        let of = |seed, name| elements(&weights(seed), name).expect("there");
        assert_eq!(of(1, "lm_head.weight"), of(1, "lm_head.weight"));
        assert_ne!(of(1, "lm_head.weight"), of(2, "lm_head.weight"));
        assert_ne!(of(1, "lm_head.weight"), of(1, "model.embed_tokens.weight"));
        let deviation = |v: Vec<f64>| (v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64).sqrt();
        assert!((deviation(of(7, "lm_head.weight")) - 0.125).abs() < 0.01);
        assert!((deviation(of(7, "model.embed_tokens.weight")) - 0.5).abs() < 0.02);
        assert!(of(7, "model.norm.weight").iter().all(|x| (0.5..=1.5).contains(x)));
        assert!(of(7, "none").is_empty());
        assert!(elements(&weights(7), "absent").is_err());
    }

    #[test]
    fn large_tensors_do_not_depend_on_the_number_of_threads() {
        let shapes = [("big".to_owned(), vec![3, CHUNK as u64 + 17])].into_iter().collect();
        let w = RandomWeights::new(3, shapes);
        let all = elements(&w, "big").expect("there");
        let key = "big".bytes().fold(mix(3), |k, b| mix(k ^ u64::from(b)));
        for position in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 5, all.len() - 1] {
            let scale = 1.0 / ((CHUNK + 17) as f32).sqrt();
            let want = element(mix(key.wrapping_add(position as u64)), Distribution::Normal(scale));
            assert_eq!(all[position], half::bf16::from_f32(want).to_f64());
        }
    }
}
