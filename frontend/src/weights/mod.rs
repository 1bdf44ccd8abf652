//! Tensors of a model by name: mapped from safetensors files, or made up from a seed.
//!
//! Why here: compilation needs names, types and shapes; execution needs bytes, one tensor at a time and never a copy of
//! the whole. [`Weights`] is what both see, whatever is behind it.
//!
//! Post: whatever is wrong with a file is a [`WeightError`] that names the file and the tensor.

mod map;
mod random;
mod safetensors;

use std::path::PathBuf;
use std::sync::Arc;

use tilewright_ir::DType;

pub use random::RandomWeights;
pub use safetensors::SafeTensors;

/// The bytes of a tensor, row-major and little-endian, for as long as somebody holds them.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A source of tensors.
pub trait Weights: Send + Sync {
    /// The type and shape of a tensor, if there is one of this name.
    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)>;

    /// The bytes of a tensor.
    fn bytes(&self, name: &str) -> Result<Bytes, WeightError>;

    /// The type of a tensor as its source calls it, for messages.
    fn type_name(&self, name: &str) -> String {
        self.info(name).map_or_else(|| "unknown".to_owned(), |(d, _)| d.name().to_uppercase())
    }

    /// Where a tensor comes from, for messages.
    fn origin(&self, name: &str) -> String;

    /// The names of all tensors, where they are known beforehand.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// A text that changes whenever the contents may have changed, for caches of derived data.
    fn fingerprint(&self) -> String;
}

/// What is wrong with a source of tensors.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// A file cannot be opened or mapped.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder holds no weights.
    #[error("{} holds neither model.safetensors nor model.safetensors.index.json; download the model's safetensors files, or use random weights", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not what its name says.
    #[error("{} is not a valid safetensors file: {what}; download it again", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file ends before a tensor does.
    #[error("{} is truncated: tensor `{tensor}` ends at byte {end}, the file has {len}; download it again", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where the tensor should end.
        end: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// The index file is malformed.
    #[error("{} is not a valid index: {what}", file.display())]
    Index {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor that is needed is not there.
    #[error("tensor `{tensor}` is missing in {origin}")]
    Missing {
        /// The tensor.
        tensor: String,
        /// Where it was looked for.
        origin: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{tensor}` of {origin} has shape {found:?}, but the configuration needs {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Where it is.
        origin: String,
        /// The shape that is needed.
        expected: Vec<u64>,
        /// The shape that is there.
        found: Vec<u64>,
    },
    /// A tensor has a type that is not supported.
    #[error("tensor `{tensor}` of {origin} is {found}; supported are bf16, f16 and f32")]
    DType {
        /// The tensor.
        tensor: String,
        /// Where it is.
        origin: String,
        /// Its type as the file calls it.
        found: String,
    },
}

/// Checks that a tensor is there with a shape and a usable type, and gives the type.
pub fn require(weights: &dyn Weights, name: &str, dims: &[u64]) -> Result<DType, WeightError> {
    let tensor = name.to_owned();
    let Some((dtype, found)) = weights.info(name) else {
        return Err(WeightError::Missing { tensor, origin: weights.origin(name) });
    };
    if found != dims {
        let origin = weights.origin(name);
        return Err(WeightError::Shape { tensor, origin, expected: dims.to_vec(), found });
    }
    if !matches!(dtype, DType::Bf16 | DType::F16 | DType::F32) {
        let origin = weights.origin(name);
        return Err(WeightError::DType { tensor, origin, found: weights.type_name(name) });
    }
    Ok(dtype)
}

/// The elements of a tensor as f64; for references, since it makes a copy eight bytes wide.
pub fn elements(weights: &dyn Weights, name: &str) -> Result<Vec<f64>, WeightError> {
    let Some((dtype, _)) = weights.info(name) else {
        return Err(WeightError::Missing { tensor: name.to_owned(), origin: weights.origin(name) });
    };
    let bytes = weights.bytes(name)?;
    let bytes: &[u8] = (*bytes).as_ref();
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    let quad = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    Ok(match dtype {
        DType::Bf16 => bytes.chunks_exact(2).map(|b| half::bf16::from_bits(pair(b)).to_f64()).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_bits(pair(b)).to_f64()).collect(),
        DType::F32 => bytes.chunks_exact(4).map(|b| f64::from(quad(b))).collect(),
        _ => {
            let (tensor, origin) = (name.to_owned(), weights.origin(name));
            return Err(WeightError::DType { tensor, origin, found: weights.type_name(name) });
        }
    })
}
