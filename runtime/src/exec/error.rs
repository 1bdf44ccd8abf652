//! What: everything that can stop the execution of a step.
//! Why here: input that does not fit, a defective step, and a failing device are told apart, because they are the
//! concern of different people.
//! Pre: none.
//! Post: each message names the buffer, symbol or tensor and says what was expected.

use std::time::Duration;

use thiserror::Error;
use tilewright_ir::DType;

use crate::device::DeviceError;

/// Why a step cannot be prepared or run.
#[derive(Debug, Error)]
pub enum ExecError {
    /// A symbol was not given.
    #[error("no value for the symbol `{name}`: give it one in {min}..={max}")]
    MissingSymbol {
        /// The symbol.
        name: String,
        /// Its smallest value.
        min: u64,
        /// Its largest value.
        max: u64,
    },
    /// A symbol was given that the step does not have.
    #[error("there is no symbol `{name}`; {known}")]
    UnknownSymbol {
        /// The name given.
        name: String,
        /// The names there are, in words.
        known: String,
    },
    /// A symbol is out of its range.
    #[error("`{name}` is {value}, and this was compiled for {min}..={max}: compile with a larger range")]
    SymbolRange {
        /// The symbol.
        name: String,
        /// The value given.
        value: i64,
        /// Its smallest value.
        min: u64,
        /// Its largest value.
        max: u64,
    },
    /// A buffer was not given.
    #[error("no {what} `{name}` was given")]
    MissingBuffer {
        /// `input` or `output`.
        what: &'static str,
        /// The buffer.
        name: String,
    },
    /// A buffer was given that the step does not have.
    #[error("there is no {what} `{name}`; there are: {known}")]
    UnknownBuffer {
        /// `input`, or `input, output or state`.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A buffer has the wrong size.
    #[error("`{name}` has {found} bytes; {dtype}{dims:?} has {wanted}")]
    BufferSize {
        /// The buffer.
        name: String,
        /// The bytes given.
        found: u64,
        /// The bytes wanted.
        wanted: u64,
        /// Its type.
        dtype: DType,
        /// Its extents.
        dims: Vec<u64>,
    },
    /// Two buffers of a launch overlap, and one of them is written.
    #[error(
        "`{written}` is written and overlaps `{other}`: declare the alias, or give them memory of their own"
    )]
    Overlap {
        /// The buffer that is written.
        written: String,
        /// The other.
        other: String,
    },
    /// A declared alias that is not one.
    #[error("`{output}` cannot take the place of `{input}`: {reason}")]
    Alias {
        /// The output.
        output: String,
        /// The input.
        input: String,
        /// Why not.
        reason: String,
    },
    /// A tensor of the weights is not there.
    #[error("the weights hold no tensor `{name}`")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor of the weights has another number of elements.
    #[error("tensor `{name}` has {found} elements in {shape:?}, and the model wants {wanted}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its elements.
        found: u64,
        /// Its extents.
        shape: Vec<u64>,
        /// The elements wanted.
        wanted: u64,
    },
    /// A tensor has a type that does not become the wanted one.
    #[error("tensor `{name}` is {found}, which cannot be used as {wanted}")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: DType,
        /// The type wanted.
        wanted: DType,
    },
    /// A tensor cannot be read.
    #[error("tensor `{name}` cannot be read: {source}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The step contradicts itself, its kernels, or another step of the session.
    #[error("the step is defective, which is a bug of the compiler: {0}")]
    BadStep(String),
    /// A persistent kernel needs more blocks at once than there is room for.
    #[error(
        "`{kernel}` needs {blocks} blocks on the device at once, and there is room for {most}: compile for this device, \
         or use `--mode launch`"
    )]
    NotResident {
        /// The kernel.
        kernel: String,
        /// The blocks it has.
        blocks: u32,
        /// The blocks that fit.
        most: u64,
    },
    /// A persistent kernel was told to stop, and did.
    #[error("`{kernel}` was told to stop: {blocks}")]
    Stopped {
        /// The kernel.
        kernel: String,
        /// Where its blocks were.
        blocks: String,
    },
    /// A persistent kernel was told to stop between two steps, and did; the state holds the steps that are done.
    #[error("`{kernel}` was told to stop, and did after {steps} steps of {asked}")]
    StoppedBetween {
        /// The kernel.
        kernel: String,
        /// Steps that are done.
        steps: u32,
        /// Steps that it was to do.
        asked: u32,
    },
    /// A block of a persistent kernel waited for others for too long; all blocks left.
    #[error(
        "`{kernel}` waited for longer than {limit:?} and was left: {blocks}; the run did not end, the state holds the runs \
         before it. On a device that others use as well (MPS, MIG, time slices) waits may be long: raise the limit, or use \
         `--mode launch`"
    )]
    Late {
        /// The kernel.
        kernel: String,
        /// How long a wait may take.
        limit: Duration,
        /// Who waited for what, and who should have come.
        blocks: String,
    },
    /// A copy within a block of a persistent kernel did not arrive; the kernel was ended by force, and with it everything on
    /// the device.
    #[error(
        "`{kernel}` waited for longer than {limit:?} for a copy of its own and was ended by force: {blocks}"
    )]
    Lost {
        /// The kernel.
        kernel: String,
        /// How long such a wait may take.
        limit: Duration,
        /// Whose copy.
        blocks: String,
    },
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
