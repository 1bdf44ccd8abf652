//! What: events and early launches of a GPU.
//! Why here: the calls of the driver that only measurements make.
//! Pre: the device's context, which each call makes current.
//! Post: events are destroyed whatever happens.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::result;
use cudarc::driver::sys;

use super::{CudaDevice, failed};
use crate::device::clock::{Clock, DeviceFacts, VendorMatmul, Work};
use crate::device::{DeviceError, DevicePtr, Kernel};

/// An event.
struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Event, DeviceError> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        event.map(Event).map_err(|e| failed("cuEventCreate", e))
    }

    fn record(&self, stream: sys::CUstream) -> Result<(), DeviceError> {
        // SAFETY: an event that was created, and a stream of the current context.
        unsafe { result::event::record(self.0, stream) }.map_err(|e| failed("cuEventRecord", e))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once; the driver keeps it until it is no longer in use.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

impl CudaDevice {
    fn driver_version() -> Result<i32, DeviceError> {
        let mut version = 0;
        // SAFETY: a valid pointer to an integer; the driver is initialised, for there is a device.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(|e| failed("cuDriverGetVersion", e))?;
        Ok(version)
    }

    /// The context must be current.
    fn between_events(&self, count: usize, work: Work<'_>) -> Result<Vec<f64>, DeviceError> {
        let events = (0..=count).map(|_| Event::new()).collect::<Result<Vec<_>, _>>()?;
        let (first, later) = events.split_at(1);
        first.iter().try_for_each(|e| e.record(self.stream))?;
        for event in later {
            work()?;
            event.record(self.stream)?;
        }
        // SAFETY: our own stream.
        unsafe { result::stream::synchronize(self.stream) }.map_err(|e| failed("cuStreamSynchronize", e))?;
        let elapsed = |pair: &[Event]| {
            // SAFETY: both are recorded on one stream, and the stream is done.
            let ms = unsafe { result::event::elapsed(pair[0].0, pair[1].0) };
            ms.map(|ms| f64::from(ms) * 1e3).map_err(|e| failed("cuEventElapsedTime", e))
        };
        events.windows(2).map(elapsed).collect()
    }
}

impl Clock for CudaDevice {
    fn facts(&self) -> Result<DeviceFacts, DeviceError> {
        use sys::CUdevice_attribute_enum as Attribute;
        let _current = self.current()?;
        let get = |attribute| {
            // SAFETY: a device that the driver returned.
            unsafe { result::device::get_attribute(self.device, attribute) }
                .map(i32::unsigned_abs)
                .map_err(|e| failed("cuDeviceGetAttribute", e))
        };
        let version = CudaDevice::driver_version()?;
        let (free, total) = result::mem_get_info().map_err(|e| failed("cuMemGetInfo", e))?;
        Ok(DeviceFacts {
            multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            l2_bytes: get(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
            memory_bytes: total as u64,
            free_bytes: free as u64,
            driver: format!("{}.{}", version / 1000, version % 1000 / 10),
        })
    }

    fn time(&self, count: usize, work: Work<'_>) -> Result<Vec<f64>, DeviceError> {
        let _current = self.current()?;
        self.between_events(count, work)
    }

    fn launch_early(&self, kernel: Kernel, blocks: u32, args: &[DevicePtr]) -> Result<(), DeviceError> {
        super::graph::supported()?;
        let loaded =
            self.kernels().get(&kernel.raw()).cloned().ok_or(DeviceError::UnknownKernel(kernel.raw()))?;
        let _current = self.current()?;
        let mut values: Vec<u64> = args.iter().map(|a| a.raw()).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| ptr::from_mut(v).cast()).collect();
        let mut early = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: loaded.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: loaded.shared_bytes,
            hStream: self.stream,
            attrs: &mut early,
            numAttrs: 1,
        };
        // SAFETY: a loaded function that takes only pointers; configuration and arguments are copied by the call.
        unsafe { sys::cuLaunchKernelEx(&config, loaded.function, pointers.as_mut_ptr(), ptr::null_mut()) }
            .result()
            .map_err(|e| failed(&format!("cuLaunchKernelEx(`{}`, {blocks} blocks)", loaded.name), e))
    }

    fn vendor_matmul(&self) -> Result<Box<dyn VendorMatmul + '_>, DeviceError> {
        Ok(Box::new(super::cublas::Cublas::open(self)?))
    }
}
