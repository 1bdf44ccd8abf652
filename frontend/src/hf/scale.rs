//! What: a small model with the structure of a large one.
//! Why here: a published configuration is too large to be evaluated in float64 beside its kernels, and what compiles
//! differently from family to family (norms of heads, biases, windows, groups of queries) does not depend on its sizes.
//! Pre: a configuration. Post: one that builds, with the same features, the same ratio of query to key heads, at most as
//! large in any extent, and extents that are multiples of little.

use indexmap::{IndexMap, IndexSet};

use super::Config;

/// The most heads of keys.
const KV_HEADS: u64 = 2;
/// The widest head.
const HEAD_DIM: u64 = 16;
/// The widest residual stream, the widest feed-forward layer, and the largest vocabulary.
const HIDDEN: u64 = 88;
const INTERMEDIATE: u64 = 152;
const VOCAB: u64 = 211;
/// The longest context, and the widest window, which must be passed by a few tokens.
const POSITIONS: u64 = 48;
const WINDOW: u64 = 3;

impl Config {
    /// A small model of the same structure. Layers are those that differ, and at least two.
    pub fn scaled_down(&self) -> Config {
        let kv_heads = self.kv_heads.min(KV_HEADS);
        let head_dim = self.head_dim.min(HEAD_DIM);
        let pairs = self.frequencies.len().max(1);
        let kept = (head_dim / 2) as usize;
        let windows: IndexSet<Option<u64>> = self.windows.iter().map(|w| w.map(|n| n.min(WINDOW))).collect();
        let mut windows: Vec<Option<u64>> = windows.into_iter().collect();
        if let ([only], true) = (&windows[..], self.windows.len() > 1) {
            windows = vec![*only; 2];
        }
        Config {
            vocab: self.vocab.min(VOCAB),
            hidden: self.hidden.min(HIDDEN),
            intermediate: self.intermediate.min(INTERMEDIATE),
            heads: kv_heads * (self.heads / self.kv_heads.max(1)),
            kv_heads,
            head_dim,
            // Of all speeds, from the fastest to the slowest.
            frequencies: (0..kept)
                .filter_map(|n| self.frequencies.get(n * pairs / kept.max(1)).copied())
                .collect(),
            windows,
            max_positions: self.max_positions.min(POSITIONS),
            eos: self.eos.iter().copied().filter(|&id| id < VOCAB).collect(),
            dtypes: IndexMap::new(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use tilewright_ir::DType;

    use super::super::{BuildOptions, Phase, build_module, load_config};

    #[test]
    fn every_published_configuration_has_a_small_relative_that_builds() {
        let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
        let mut count = 0;
        for folder in std::fs::read_dir(models).expect("configurations").flatten() {
            let config = load_config(&folder.path()).expect("a configuration");
            let small = config.scaled_down();
            assert_eq!(small.heads * config.kv_heads, config.heads * small.kv_heads, "groups of queries");
            assert_eq!(
                (small.qk_norm, small.qkv_bias, small.tied),
                (config.qk_norm, config.qkv_bias, config.tied)
            );
            assert_eq!(small.windows.iter().any(Option::is_some), config.windows.iter().any(Option::is_some));
            for phase in [Phase::Decode, Phase::Prefill] {
                let options = BuildOptions { phase, batch: 1, max_context: 16, activations: DType::F32 };
                build_module(&small, &options).expect("it builds");
            }
            count += 1;
        }
        assert!(count > 3, "{count} configurations");
    }
}
