//! Frontends: what people bring, as graphs.
//!
//! * [`equations`]: a few lines of index notation, or the same through a builder.
//! * [`weights`]: tensors of a model, mapped from safetensors files or made up from a seed.
//! * [`hf`]: Hugging Face folders of decoder-only transformers.
//!
//! Composite operators are expanded here: what a pass cannot see inside, it cannot fuse.
//!
//! **Architecture invariant:** depends only on `tilewright-ir`; reads files, writes none.

pub mod equations;
pub mod hf;
pub mod weights;
