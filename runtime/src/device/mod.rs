//! What: the machine that runs kernels: a GPU through the CUDA driver, or the emulator.
//! Why here: everything above this trait, from step execution to the command line, is the same for both.
//! Pre: compiled kernels.
//! Post: typed errors for everything that a missing or failing device can do; nothing panics without a driver.

mod clock;
mod cuda;
mod emulated;
mod error;
mod spec;

use std::fmt;
use std::sync::Arc;

use tilewright_emulator::Counters;
use tilewright_ir::artifact::KernelBinary;

pub use clock::{Clock, DeviceFacts, VendorMatmul, Work};
pub use cuda::{CudaDevice, DriverInfo, driver_info};
pub use emulated::{EmulatedDevice, EmulatorOptions};
pub use error::DeviceError;
pub use spec::{DeviceSpec, Machine, Opened, SpecError};

/// Bytes that several owners share: a mapped file, or a vector.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// An address in a device's memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevicePtr(u64);

impl DevicePtr {
    /// The null address.
    pub const NULL: DevicePtr = DevicePtr(0);

    /// An address that came from elsewhere, for example from another library that uses the same GPU.
    ///
    /// # Safety
    /// The address must be valid, on the device that it is used with, for as many bytes as the kernels that get it
    /// read or write, for as long as they run.
    #[allow(unsafe_code)]
    pub unsafe fn from_raw(address: u64) -> DevicePtr {
        DevicePtr(address)
    }

    /// The address as a number.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The address some bytes further.
    pub(crate) fn offset(self, bytes: u64) -> DevicePtr {
        DevicePtr(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for DevicePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Where launches are put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// The device's own stream.
    #[default]
    Own,
    /// A stream of the caller, see [`Stream::from_raw`].
    Raw(RawStream),
}

/// A `CUstream` of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawStream(usize);

impl Stream {
    /// The caller's own `CUstream` (or `cudaStream_t`); 0 is the legacy default stream.
    ///
    /// # Safety
    /// The stream must belong to the primary context of the device that it is used with, and live until the work that
    /// is put on it has finished.
    #[allow(unsafe_code)]
    pub unsafe fn from_raw(stream: usize) -> Stream {
        Stream::Raw(RawStream(stream))
    }
}

/// A kernel that a device has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kernel(u64);

impl Kernel {
    /// A handle that the implementer of a device made up; it means something to that device only.
    pub fn from_raw(id: u64) -> Kernel {
        Kernel(id)
    }

    /// The number that [`Kernel::from_raw`] was given.
    pub fn raw(self) -> u64 {
        self.0
    }
}

/// One launch of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kernel.
    pub kernel: Kernel,
    /// Its blocks; not 0.
    pub blocks: u32,
    /// Its arguments.
    pub args: Vec<DevicePtr>,
}

/// A sequence of launches that a device has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Graph(u64);

impl Graph {
    /// A handle that the implementer of a device made up; it means something to that device only.
    pub fn from_raw(id: u64) -> Graph {
        Graph(id)
    }

    /// The number that [`Graph::from_raw`] was given.
    pub fn raw(self) -> u64 {
        self.0
    }
}

/// Whether a kernel waits for the launches before it by itself, so that it may start before they are done.
pub(crate) fn waits(binary: &KernelBinary) -> bool {
    binary.ptx.contains("griddepcontrol.wait")
}

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The emulator.
    Emulator,
    /// A GPU, by its number.
    Cuda(u32),
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceKind::Emulator => f.write_str("emulator"),
            DeviceKind::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// How many blocks of a kernel a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residency {
    /// SMs.
    pub sms: u32,
    /// Blocks that one SM holds at once.
    pub blocks_per_sm: u32,
}

/// A device. Memory is freed and kernels are unloaded by who allocated and loaded them; all of it goes when the
/// device goes.
pub trait Device: Send + Sync {
    /// What kind it is.
    fn kind(&self) -> DeviceKind;

    /// For people, e.g. `NVIDIA H100 PCIe`.
    fn name(&self) -> &str;

    /// The architecture of the hardware, e.g. `sm_90a`; `None` when it runs kernels of any.
    fn arch(&self) -> Option<&str>;

    /// Allocates memory, aligned to 256 bytes, contents undefined. An allocation of 0 bytes is legal.
    fn alloc(&self, label: &str, bytes: u64) -> Result<DevicePtr, DeviceError>;

    /// Memory that the host reads and writes while kernels run, see [`Device::peek`] and [`Device::poke`]; it is zero at
    /// first. It is small: for kernels it may be far away.
    fn alloc_visible(&self, label: &str, bytes: u64) -> Result<DevicePtr, DeviceError> {
        let at = self.alloc(label, bytes)?;
        self.zero(at, bytes, Stream::Own)?;
        Ok(at)
    }

    /// Reads words of such memory, as they are at this moment, also after a kernel that failed.
    fn peek(&self, at: DevicePtr, words: &mut [u32]) -> Result<(), DeviceError> {
        let mut data = vec![0; 4 * words.len()];
        self.download(at, &mut data, Stream::Own)?;
        words.iter_mut().zip(data.as_chunks::<4>().0).for_each(|(w, &b)| *w = u32::from_le_bytes(b));
        Ok(())
    }

    /// Writes a word of such memory at once.
    fn poke(&self, at: DevicePtr, word: u32) -> Result<(), DeviceError> {
        self.upload(at, &word.to_le_bytes(), Stream::Own)
    }

    /// Memory that kernels only read: used in place where the device can, copied where it cannot.
    fn map_read_only(&self, label: &str, data: SharedBytes) -> Result<DevicePtr, DeviceError>;

    /// Copies to the device and waits until `data` may be changed.
    fn upload(&self, to: DevicePtr, data: &[u8], stream: Stream) -> Result<(), DeviceError>;

    /// Copies a short parameter block to the device in the order of the stream, without waiting for what is before.
    fn upload_params(&self, to: DevicePtr, data: &[i32], stream: Stream) -> Result<(), DeviceError>;

    /// Copies from the device and waits for it.
    fn download(&self, from: DevicePtr, data: &mut [u8], stream: Stream) -> Result<(), DeviceError>;

    /// Sets bytes to zero, in the order of the stream.
    fn zero(&self, to: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DeviceError>;

    /// Copies within the device, in the order of the stream.
    fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DeviceError>;

    /// Frees what [`Device::alloc`], [`Device::alloc_visible`] or [`Device::map_read_only`] returned.
    fn free(&self, at: DevicePtr) -> Result<(), DeviceError>;

    /// Loads a kernel.
    fn load_kernel(&self, binary: &KernelBinary) -> Result<Kernel, DeviceError>;

    /// Unloads a kernel.
    fn unload_kernel(&self, kernel: Kernel) -> Result<(), DeviceError>;

    /// Runs a kernel on `blocks` blocks with these pointers as its arguments. A GPU returns at once, without
    /// counters; the emulator returns when it is done, with them.
    fn launch(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        stream: Stream,
    ) -> Result<Option<Counters>, DeviceError>;

    /// How many blocks of a kernel the device holds at once, of what this context sees of it, and how many of its SMs
    /// that are: what a cooperative launch may have.
    fn residency(&self, kernel: Kernel) -> Result<Residency, DeviceError>;

    /// The same as [`Device::launch`], with all blocks on the device at once; more than fit are refused.
    fn launch_cooperative(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        stream: Stream,
    ) -> Result<Option<Counters>, DeviceError>;

    /// Prepares launches that run in this order as often as they are replayed. A kernel that waits for what is before it
    /// may start while that still runs.
    fn graph(&self, nodes: &[Node]) -> Result<Graph, DeviceError> {
        let _ = nodes;
        Err(DeviceError::NoGraphs { device: self.name().to_owned() })
    }

    /// Runs all launches of a graph. A GPU returns at once, without counters; the emulator returns when they are done,
    /// with those of each launch if it counts.
    fn replay(&self, graph: Graph, stream: Stream) -> Result<Option<Vec<Counters>>, DeviceError> {
        let _ = stream;
        Err(DeviceError::UnknownGraph(graph.raw()))
    }

    /// Forgets a graph.
    fn free_graph(&self, graph: Graph) -> Result<(), DeviceError> {
        Err(DeviceError::UnknownGraph(graph.raw()))
    }

    /// Waits for everything on the stream.
    fn synchronize(&self, stream: Stream) -> Result<(), DeviceError>;

    /// The device's clock, if it has one whose times mean something.
    fn clock(&self) -> Option<&dyn Clock> {
        None
    }
}
