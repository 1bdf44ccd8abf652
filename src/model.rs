//! What: models as the runtime and the text generation see them.
//! Why here: the frontend knows file formats, the runtime knows devices; neither knows the other.
//! Pre: an open model.
//! Post: tensors by name for the runtime.

use tilewright_frontend::weights::Weights;
use tilewright_ir::DType;
use tilewright_runtime::device::SharedBytes;
use tilewright_runtime::exec::TensorSource;

/// What is known of a compiled model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The size of the vocabulary.
    pub vocab: u64,
    /// Layers.
    pub layers: u64,
    /// Tokens that end a sequence.
    pub eos: Vec<u64>,
    /// Positions that the state has room for.
    pub max_context: u64,
    /// Sequences at once.
    pub batch: u64,
    /// The type of activations and state.
    pub activations: DType,
}

/// The weights of a model as a source of tensors.
pub(crate) struct ModelWeights {
    pub(crate) weights: Box<dyn Weights>,
    /// Whether they come from files, so that what is made of them is worth keeping.
    pub(crate) files: bool,
}

impl TensorSource for ModelWeights {
    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)> {
        self.weights.info(name)
    }

    fn bytes(&self, name: &str) -> Result<SharedBytes, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.weights.bytes(name)?)
    }

    fn fingerprint(&self, _: &str) -> Option<String> {
        self.files.then(|| self.weights.fingerprint())
    }
}
