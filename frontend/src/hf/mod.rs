//! Hugging Face folders of decoder-only transformers: configuration, weights, and the model as a graph.
//!
//! * [`config`]: `config.json` to a [`Config`], one description for all families; what it cannot express is refused.
//! * [`rope`]: rotation frequencies and their scalings.
//! * `scale`: a small model with the structure of a large one.
//! * [`model`]: a [`Config`] to a module for one phase.
//!
//! Pre: a folder, or a `config.json` alone. Post: an unsupported key or value, an unknown architecture and a tensor
//! that does not fit are errors that name what is wrong; nothing is guessed.

pub mod config;
pub mod model;
pub mod rope;
mod scale;

use std::path::Path;

use indexmap::IndexMap;

pub use config::{Config, ConfigError, load_config, parse_config};
pub use model::{
    BuildError, BuildOptions, IDLE, Lengths, PAST, Phase, build_last, build_module, lengths, symbol_values,
};

use crate::weights::{RandomWeights, SafeTensors, WeightError, Weights, require};

/// What is wrong with a model folder.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightError),
}

/// The names and shapes of all tensors that a model needs.
pub fn expected_tensors(config: &Config) -> IndexMap<String, Vec<u64>> {
    model::tensors(config).into_iter().map(|t| (t.name, t.dims)).collect()
}

/// The tensors that are there and that the model has no use for, in order of names.
pub fn unused_tensors(config: &Config, weights: &dyn Weights) -> Vec<String> {
    let expected = expected_tensors(config);
    let mut unused: Vec<String> = weights.names().into_iter().filter(|n| !expected.contains_key(n)).collect();
    unused.sort_unstable();
    unused
}

/// Opens a folder: its configuration and its weights, each tensor checked against the configuration.
pub fn open_model(folder: &Path) -> Result<(Config, Box<dyn Weights>), ModelError> {
    let mut config = load_config(folder)?;
    let weights = SafeTensors::open(folder)?;
    check_weights(&mut config, &weights)?;
    Ok((config, Box::new(weights)))
}

/// The configuration of a folder (or of a `config.json`) with made-up weights.
pub fn open_random(path: &Path, seed: u64) -> Result<(Config, Box<dyn Weights>), ModelError> {
    let mut config = load_config(path)?;
    let weights = RandomWeights::new(seed, expected_tensors(&config)).like(config.dtype);
    check_weights(&mut config, &weights)?;
    Ok((config, Box::new(weights)))
}

/// Checks that every tensor is there in the right shape, and notes the types that the files have.
pub fn check_weights(config: &mut Config, weights: &dyn Weights) -> Result<(), WeightError> {
    let mut dtypes = IndexMap::new();
    for (name, dims) in expected_tensors(config) {
        let dtype = require(weights, &name, &dims)?;
        if dtype != config.dtype {
            dtypes.insert(name, dtype);
        }
    }
    config.dtypes = dtypes;
    Ok(())
}
