//! What: everything that a device can refuse or fail to do.
//! Why here: one vocabulary for the GPU and the emulator, so that a program can tell a missing device from a defect of
//! a kernel.
//! Pre: none.
//! Post: each message names the thing and, where there is one, the remedy.

use thiserror::Error;
use tilewright_emulator::{LaunchError, MemoryError, PtxError};

/// A failure of a device.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DeviceError {
    /// There is no CUDA driver.
    #[error("no CUDA driver (libcuda) was found: install NVIDIA's driver, or use `--device emulator`")]
    NoDriver,
    /// There is no such GPU.
    #[error(
        "there is no device cuda:{ordinal}: the driver sees {count} GPU(s); `--device emulator` needs none"
    )]
    NoDevice {
        /// The number asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// A call of the driver failed.
    #[error("CUDA: {call} failed with {name}: {text}")]
    Driver {
        /// The function, with what it was about.
        call: String,
        /// The name of the error, e.g. `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// The driver's words.
        text: String,
    },
    /// The device has not enough memory.
    #[error(
        "`{label}` wants {bytes} bytes, and the device has {free} free: use a smaller context, batch or model, or another device"
    )]
    OutOfMemory {
        /// What the memory is for.
        label: String,
        /// How much.
        bytes: u64,
        /// How much there is.
        free: u64,
    },
    /// A kernel does not load.
    #[error("kernel `{kernel}` does not load on {device}: {reason}")]
    Load {
        /// The kernel.
        kernel: String,
        /// The device.
        device: String,
        /// The driver's words, for the CUBIN and the PTX.
        reason: String,
    },
    /// The emulator does not understand the PTX of a kernel.
    #[error("kernel `{kernel}`: {source}")]
    Ptx {
        /// The kernel.
        kernel: String,
        /// Where and what.
        source: PtxError,
    },
    /// An access to the emulator's memory from the host.
    #[error("emulator memory: {0}")]
    Memory(#[from] MemoryError),
    /// A launch on the emulator failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The emulator's checks found something.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Findings(Vec<tilewright_emulator::Finding>),
    /// Something that measurements use is not on this machine.
    #[error("{what} is not available: {reason}")]
    Missing {
        /// What.
        what: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A handle of another device, or one that was unloaded.
    #[error("kernel handle {0} is not loaded on this device")]
    UnknownKernel(u64),
    /// The device runs no graphs.
    #[error("{device} runs no graphs of launches: use `--mode launch`")]
    NoGraphs {
        /// The device.
        device: String,
    },
    /// A handle of a graph of another device, or one that was freed.
    #[error("graph handle {0} is not one of this device")]
    UnknownGraph(u64),
    /// The driver lacks a function.
    #[error(
        "the CUDA driver has no {function}, which graphs of launches need: update it, or use `--mode launch`"
    )]
    OldDriver {
        /// The function.
        function: &'static str,
    },
    /// The profile of the emulator is not known.
    #[error("unknown emulator profile `{profile}`: choose among {known}")]
    Profile {
        /// The name asked for.
        profile: String,
        /// The names there are.
        known: String,
    },
    /// The stream of the caller has a part of the SMs, which is too small.
    #[error(
        "`{kernel}` needs {blocks} blocks on the device at once, and the stream's context has {sms} SMs with room for {most}: \
         give it a stream of a context with more, or use `--mode launch`"
    )]
    TooFewSms {
        /// The kernel.
        kernel: String,
        /// The blocks it has.
        blocks: u32,
        /// The SMs of the context.
        sms: u32,
        /// The blocks that fit.
        most: u64,
    },
    /// Too many blocks for one launch.
    #[error(
        "kernel `{kernel}` would need {blocks} blocks, and a launch has at most 2147483647: reduce the batch or the context"
    )]
    Grid {
        /// The kernel.
        kernel: String,
        /// The blocks.
        blocks: u64,
    },
}

impl DeviceError {
    /// Whether the environment lacks something, as opposed to something having gone wrong.
    pub fn is_missing_environment(&self) -> bool {
        matches!(self, DeviceError::NoDriver | DeviceError::NoDevice { .. })
    }
}
