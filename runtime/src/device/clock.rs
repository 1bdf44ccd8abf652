//! What: measuring time on a device, and the launches that only measurements make.
//! Why here: times come from the device's own events; the emulator has none, and says so by having no clock.
//! Pre: work that is put on the device's own stream.
//! Post: microseconds between events on that stream. Whatever was made for a measurement is gone after it.

use super::{DeviceError, DevicePtr, Kernel};

/// What a GPU says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of the L2 cache.
    pub l2_bytes: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of memory that are free now.
    pub free_bytes: u64,
    /// The newest CUDA version that the driver supports.
    pub driver: String,
}

/// Work that is put on the device's own stream.
pub type Work<'a> = &'a mut dyn FnMut() -> Result<(), DeviceError>;

/// A device that can tell time.
pub trait Clock {
    /// What the device says of itself.
    fn facts(&self) -> Result<DeviceFacts, DeviceError>;

    /// Does the work so often, with an event before, between and after; microseconds of each.
    fn time(&self, count: usize, work: Work<'_>) -> Result<Vec<f64>, DeviceError>;

    /// Launches a kernel that may begin before the one ahead of it has ended (it waits for its results by itself).
    fn launch_early(&self, kernel: Kernel, blocks: u32, args: &[DevicePtr]) -> Result<(), DeviceError>;

    /// The vendor's library for products of matrices.
    fn vendor_matmul(&self) -> Result<Box<dyn VendorMatmul + '_>, DeviceError>;
}

/// The vendor's library for products of matrices.
pub trait VendorMatmul {
    /// Its name and version.
    fn version(&self) -> &str;

    /// `y[m,n] = sum[k](x[m,k] * w[n,k])` of bf16 arrays, on the device's own stream.
    fn run(&self, shape: [u32; 3], x: DevicePtr, w: DevicePtr, y: DevicePtr) -> Result<(), DeviceError>;
}
