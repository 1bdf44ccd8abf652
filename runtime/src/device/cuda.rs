//! What: a GPU through the CUDA driver.
//! Why here: with the emulator, one of the two machines behind [`Device`]; the only place that calls the driver.
//! Pre: the driver is loaded at run time, and its presence is checked before any call, because the bindings panic
//! without it.
//! Post: every call is made with the device's primary context current on the calling thread, and the caller's context
//! is put back. Work goes to one own stream, which does not wait for the legacy default stream, or to the caller's.
//! There is no event tracking, so that streams can be captured.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use tilewright_emulator::Counters;
use tilewright_ir::artifact::KernelBinary;

use super::{
    Clock, Device, DeviceError, DeviceKind, DevicePtr, Graph, Kernel, Node, RawStream, Residency,
    SharedBytes, Stream, waits,
};

mod clock;
mod cublas;
mod graph;
mod sms;

/// What the driver says of itself and of its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInfo {
    /// The newest CUDA version that the driver supports.
    pub cuda_version: (u32, u32),
    /// The GPUs: name, architecture, bytes of memory.
    pub gpus: Vec<(String, String, u64)>,
}

/// Asks the driver; an error says why there is none to ask.
pub fn driver_info() -> Result<DriverInfo, DeviceError> {
    init()?;
    let mut version = 0;
    // SAFETY: a valid pointer to an integer, after a successful initialisation.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|e| failed("cuDriverGetVersion", e))?;
    let version = version.unsigned_abs();
    let count = result::device::get_count().map_err(|e| failed("cuDeviceGetCount", e))?;
    let gpus = (0..count)
        .map(|i| {
            let device = result::device::get(i).map_err(|e| failed("cuDeviceGet", e))?;
            let name = result::device::get_name(device).map_err(|e| failed("cuDeviceGetName", e))?;
            // SAFETY: a device that the driver returned.
            let memory =
                unsafe { result::device::total_mem(device) }.map_err(|e| failed("cuDeviceTotalMem", e))?;
            Ok((name, arch_of(device)?, memory as u64))
        })
        .collect::<Result<_, DeviceError>>()?;
    Ok(DriverInfo { cuda_version: (version / 1000, version % 1000 / 10), gpus })
}

/// Loads and initialises the driver once.
fn init() -> Result<(), DeviceError> {
    static STATE: OnceLock<Result<(), DeviceError>> = OnceLock::new();
    STATE
        .get_or_init(|| {
            // SAFETY: opens and closes the driver's library; its initialisers have no preconditions.
            if !unsafe { sys::is_culib_present() } {
                return Err(DeviceError::NoDriver);
            }
            result::init().map_err(|e| failed("cuInit", e))
        })
        .clone()
}

fn failed(call: &str, error: DriverError) -> DeviceError {
    let text = |t: Result<&std::ffi::CStr, DriverError>| {
        t.map_or_else(|_| "unknown".to_owned(), |t| t.to_string_lossy().into_owned())
    };
    DeviceError::Driver {
        call: call.to_owned(),
        name: text(error.error_name()),
        text: text(error.error_string()),
    }
}

fn arch_of(device: sys::CUdevice) -> Result<String, DeviceError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let get = |attribute| {
        // SAFETY: a device that the driver returned.
        unsafe { result::device::get_attribute(device, attribute) }
            .map_err(|e| failed("cuDeviceGetAttribute", e))
    };
    let major = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // From Hopper on, code for exactly this architecture may use features that others lack.
    let suffix = if major >= 9 { "a" } else { "" };
    Ok(format!("sm_{major}{minor}{suffix}"))
}

/// A GPU.
pub struct CudaDevice {
    ordinal: u32,
    name: String,
    arch: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    kernels: Mutex<HashMap<u64, Loaded>>,
    graphs: Mutex<HashMap<u64, graph::Captured>>,
    /// Memory of the host that kernels see: where it is for them, and for us.
    visible: Mutex<BTreeMap<u64, (usize, usize)>>,
    next: AtomicU64,
}

#[derive(Clone)]
struct Loaded {
    name: String,
    module: sys::CUmodule,
    function: sys::CUfunction,
    threads: u32,
    shared_bytes: u32,
    /// Whether it waits for the launches before it.
    waits: bool,
}

// SAFETY: the handles are names of objects inside the driver, which is thread-safe; each call makes the context
// current on its own thread.
unsafe impl Send for CudaDevice {}
// SAFETY: as above; the table of kernels is behind a mutex.
unsafe impl Sync for CudaDevice {}

/// Keeps the device's context current on this thread, and puts the caller's back.
struct Current {
    before: Option<sys::CUcontext>,
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: the context that was current when the guard was made. A failure would leave our own current,
            // which only concerns callers that destroyed theirs meanwhile.
            let _ = unsafe { result::ctx::set_current(before) };
        }
    }
}

/// A call of the driver that starts a kernel: function, grid, block, shared memory, stream, arguments.
type Put = unsafe fn(
    sys::CUfunction,
    (u32, u32, u32),
    (u32, u32, u32),
    u32,
    sys::CUstream,
    &mut [*mut c_void],
) -> Result<(), DriverError>;

impl CudaDevice {
    /// Puts a kernel on a stream; a cooperative one only if all its blocks are resident at once.
    fn start(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        stream: Stream,
        cooperative: bool,
    ) -> Result<Option<Counters>, DeviceError> {
        if blocks == 0 {
            return Ok(None);
        }
        let loaded = self.kernels().get(&kernel.0).cloned().ok_or(DeviceError::UnknownKernel(kernel.0))?;
        let _current = self.current()?;
        // The device's own stream has the SMs of its context, which was asked when the kernel was prepared.
        let part =
            if cooperative && stream != Stream::Own { sms::of_stream(self.stream(stream)) } else { None };
        if let Some(sms) = part {
            let most = u64::from(sms) * u64::from(self.blocks_per_sm(&loaded)?);
            if u64::from(blocks) > most {
                return Err(DeviceError::TooFewSms { kernel: loaded.name, blocks, sms, most });
            }
        }
        let mut values: Vec<u64> = args.iter().map(|a| a.0).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| ptr::from_mut(v).cast()).collect();
        let (call, put) = if cooperative {
            ("cuLaunchCooperativeKernel", result::launch_cooperative_kernel as Put)
        } else {
            ("cuLaunchKernel", result::launch_kernel as Put)
        };
        let (grid, block, shared) = ((blocks, 1, 1), (loaded.threads, 1, 1), loaded.shared_bytes);
        // SAFETY: a loaded function; the arguments are copied by the call, and their number and kind are those of the
        // generated kernel, which takes only pointers.
        unsafe { put(loaded.function, grid, block, shared, self.stream(stream), &mut pointers) }
            .map_err(|e| failed(&format!("{call}(`{}`, {blocks} blocks)", loaded.name), e))?;
        Ok(None)
    }

    /// How many blocks of a kernel fit an SM at once. The context is current.
    fn blocks_per_sm(&self, loaded: &Loaded) -> Result<u32, DeviceError> {
        let mut blocks = 0;
        // SAFETY: a loaded function and a valid pointer to an integer.
        unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &mut blocks,
                loaded.function,
                i32::try_from(loaded.threads).unwrap_or(i32::MAX),
                loaded.shared_bytes as usize,
            )
        }
        .result()
        .map_err(|e| failed("cuOccupancyMaxActiveBlocksPerMultiprocessor", e))?;
        Ok(blocks.unsigned_abs())
    }

    /// Opens a GPU by its number.
    pub fn open(ordinal: u32) -> Result<CudaDevice, DeviceError> {
        let count = match init() {
            Ok(()) => result::device::get_count().map_err(|e| failed("cuDeviceGetCount", e))?,
            // A driver on a machine without a GPU says so when it is initialised.
            Err(DeviceError::Driver { name, .. }) if name == "CUDA_ERROR_NO_DEVICE" => 0,
            Err(error) => return Err(error),
        };
        let number = i32::try_from(ordinal).unwrap_or(i32::MAX);
        if number >= count {
            return Err(DeviceError::NoDevice { ordinal, count: count.unsigned_abs() });
        }
        let device = result::device::get(number).map_err(|e| failed("cuDeviceGet", e))?;
        let name = result::device::get_name(device).map_err(|e| failed("cuDeviceGetName", e))?;
        let arch = arch_of(device)?;
        // SAFETY: a device that the driver returned; released when the device is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(|e| failed("cuDevicePrimaryCtxRetain", e))?;
        let mut gpu = CudaDevice {
            ordinal,
            name,
            arch,
            device,
            context,
            stream: ptr::null_mut(),
            kernels: Mutex::default(),
            graphs: Mutex::default(),
            visible: Mutex::default(),
            next: AtomicU64::new(1),
        };
        let current = gpu.current()?;
        gpu.stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|e| failed("cuStreamCreate", e))?;
        drop(current);
        Ok(gpu)
    }

    fn current(&self) -> Result<Current, DeviceError> {
        let before = result::ctx::get_current().map_err(|e| failed("cuCtxGetCurrent", e))?;
        if before == Some(self.context) {
            return Ok(Current { before: None });
        }
        // SAFETY: a retained primary context.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| failed("cuCtxSetCurrent", e))?;
        Ok(Current { before })
    }

    fn stream(&self, stream: Stream) -> sys::CUstream {
        match stream {
            Stream::Own => self.stream,
            Stream::Raw(RawStream(raw)) => raw as sys::CUstream,
        }
    }

    fn visible(&self) -> MutexGuard<'_, BTreeMap<u64, (usize, usize)>> {
        // As for kernels.
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the host has some words of memory that kernels see. The lock is held as long as they are used.
    fn words<T>(
        &self,
        at: DevicePtr,
        count: usize,
        then: impl FnOnce(*const AtomicU32) -> T,
    ) -> Result<T, DeviceError> {
        let visible = self.visible();
        let found = visible.range(..=at.0).next_back().and_then(|(&start, &(host, bytes))| {
            let offset = usize::try_from(at.0 - start).ok()?;
            (offset % 4 == 0 && offset + 4 * count <= bytes).then_some(host + offset)
        });
        let host = found.ok_or_else(|| DeviceError::Driver {
            call: "a look at memory of the host".to_owned(),
            name: format!("{at:?}"),
            text: "it is not shared with kernels".to_owned(),
        })?;
        Ok(then(ptr::with_exposed_provenance(host)))
    }

    fn kernels(&self) -> MutexGuard<'_, HashMap<u64, Loaded>> {
        // The table is valid after every statement, so a panic elsewhere does not spoil it.
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the CUBIN, or the PTX where the CUBIN is absent or was made for another GPU.
    fn load_module(&self, binary: &KernelBinary) -> Result<sys::CUmodule, DeviceError> {
        let mut reasons = Vec::new();
        if !binary.cubin.is_empty() {
            match load_image(&binary.cubin) {
                Ok(module) => return Ok(module),
                Err(reason) => reasons.push(format!("CUBIN: {reason}")),
            }
        }
        if !binary.ptx.is_empty() {
            let mut text = binary.ptx.clone().into_bytes();
            text.push(0);
            match load_image(&text) {
                Ok(module) => return Ok(module),
                Err(reason) => reasons.push(format!("PTX: {reason}")),
            }
        }
        let reason = if reasons.is_empty() { "it is empty".to_owned() } else { reasons.join("; ") };
        Err(DeviceError::Load {
            kernel: binary.name.clone(),
            device: format!("{} ({})", self.name, self.arch),
            reason,
        })
    }
}

/// Loads a CUBIN, or PTX that ends in a zero byte, into the current context.
fn load_image(image: &[u8]) -> Result<sys::CUmodule, String> {
    use sys::CUjit_option_enum as Jit;
    let mut log = vec![0u8; 4096];
    let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // By convention of the call, a size is passed in the bits of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len())];
    let mut module = ptr::null_mut();
    // SAFETY: a complete image, and two options whose values live until the call returns.
    let status = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            image.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    match status.result() {
        Ok(()) => Ok(module),
        Err(e) => {
            let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
            let log = String::from_utf8_lossy(&log[..end]).trim().to_owned();
            let DeviceError::Driver { name, text, .. } = failed("cuModuleLoadDataEx", e) else {
                return Err(log);
            };
            Err(if log.is_empty() { format!("{name}: {text}") } else { format!("{name}: {log}") })
        }
    }
}

impl Device for CudaDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda(self.ordinal)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn arch(&self) -> Option<&str> {
        Some(&self.arch)
    }

    fn alloc(&self, label: &str, bytes: u64) -> Result<DevicePtr, DeviceError> {
        let _current = self.current()?;
        // The driver refuses 0 bytes.
        let wanted = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
        // SAFETY: the context is current.
        match unsafe { result::malloc_sync(wanted) } {
            Ok(at) => Ok(DevicePtr(at)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let free = result::mem_get_info().map_or(0, |(free, _)| free as u64);
                Err(DeviceError::OutOfMemory { label: label.to_owned(), bytes, free })
            }
            Err(e) => Err(failed(&format!("cuMemAlloc for `{label}`"), e)),
        }
    }

    fn alloc_visible(&self, label: &str, bytes: u64) -> Result<DevicePtr, DeviceError> {
        let _current = self.current()?;
        let wanted = usize::try_from(bytes.max(4)).unwrap_or(usize::MAX);
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the context is current.
        let host = unsafe { result::malloc_host(wanted, flags) }
            .map_err(|e| failed(&format!("cuMemHostAlloc for `{label}`"), e))?;
        // SAFETY: memory that was just allocated, of that size.
        unsafe { ptr::write_bytes(host.cast::<u8>(), 0, wanted) };
        let mut at = 0;
        // SAFETY: memory that was just allocated and mapped for devices.
        if let Err(e) = unsafe { sys::cuMemHostGetDevicePointer_v2(&mut at, host, 0) }.result() {
            // SAFETY: as above; the first error is the one to report.
            let _ = unsafe { result::free_host(host) };
            return Err(failed("cuMemHostGetDevicePointer", e));
        }
        self.visible().insert(at, (host.expose_provenance(), wanted));
        Ok(DevicePtr(at))
    }

    fn peek(&self, at: DevicePtr, words: &mut [u32]) -> Result<(), DeviceError> {
        self.words(at, words.len(), |from| {
            for (n, word) in words.iter_mut().enumerate() {
                // SAFETY: within one allocation, aligned, and initialised when it was made.
                *word = unsafe { &*from.add(n) }.load(Ordering::Relaxed);
            }
        })
    }

    fn poke(&self, at: DevicePtr, word: u32) -> Result<(), DeviceError> {
        // SAFETY: as for reading.
        self.words(at, 1, |to| unsafe { &*to }.store(word, Ordering::Relaxed))
    }

    fn map_read_only(&self, label: &str, data: SharedBytes) -> Result<DevicePtr, DeviceError> {
        let bytes = (*data).as_ref();
        let at = self.alloc(label, bytes.len() as u64)?;
        match self.upload(at, bytes, Stream::Own) {
            Ok(()) => Ok(at),
            Err(error) => {
                // The first error is the one to report.
                let _ = self.free(at);
                Err(error)
            }
        }
    }

    fn upload(&self, to: DevicePtr, data: &[u8], stream: Stream) -> Result<(), DeviceError> {
        if data.is_empty() {
            return Ok(());
        }
        let _current = self.current()?;
        let stream = self.stream(stream);
        // SAFETY: the destination is device memory by the contract of `DevicePtr`; the source lives until the
        // synchronisation below.
        unsafe {
            result::memcpy_htod_async(to.0, data, stream).map_err(|e| failed("cuMemcpyHtoDAsync", e))?;
            result::stream::synchronize(stream).map_err(|e| failed("cuStreamSynchronize", e))
        }
    }

    fn upload_params(&self, to: DevicePtr, data: &[i32], stream: Stream) -> Result<(), DeviceError> {
        if data.is_empty() {
            return Ok(());
        }
        let _current = self.current()?;
        // The driver copies pageable memory aside before the call returns, so the source may be reused at once. It is
        // copied here because the caller's might be pinned, for which this does not hold.
        let pageable = data.to_vec();
        // SAFETY: the destination is device memory by the contract of `DevicePtr`; for the source see above.
        unsafe { result::memcpy_htod_async(to.0, &pageable, self.stream(stream)) }
            .map_err(|e| failed("cuMemcpyHtoDAsync", e))
    }

    fn download(&self, from: DevicePtr, data: &mut [u8], stream: Stream) -> Result<(), DeviceError> {
        if data.is_empty() {
            return Ok(());
        }
        let _current = self.current()?;
        let stream = self.stream(stream);
        // SAFETY: the source is device memory by the contract of `DevicePtr`; the destination is borrowed until the
        // synchronisation below.
        unsafe {
            result::memcpy_dtoh_async(data, from.0, stream).map_err(|e| failed("cuMemcpyDtoHAsync", e))?;
            result::stream::synchronize(stream).map_err(|e| failed("cuStreamSynchronize", e))
        }
    }

    fn zero(&self, to: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DeviceError> {
        let Ok(count) = usize::try_from(bytes) else { return Ok(()) };
        if count == 0 {
            return Ok(());
        }
        let _current = self.current()?;
        // SAFETY: device memory by the contract of `DevicePtr`.
        unsafe { result::memset_d8_async(to.0, 0, count, self.stream(stream)) }
            .map_err(|e| failed("cuMemsetD8Async", e))
    }

    fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: u64, stream: Stream) -> Result<(), DeviceError> {
        let Ok(count) = usize::try_from(bytes) else { return Ok(()) };
        if count == 0 {
            return Ok(());
        }
        let _current = self.current()?;
        // SAFETY: device memory on both sides by the contract of `DevicePtr`.
        unsafe { result::memcpy_dtod_async(to.0, from.0, count, self.stream(stream)) }
            .map_err(|e| failed("cuMemcpyDtoDAsync", e))
    }

    fn free(&self, at: DevicePtr) -> Result<(), DeviceError> {
        let _current = self.current()?;
        if let Some((host, _)) = self.visible().remove(&at.0) {
            // SAFETY: memory of `alloc_visible`, freed once.
            return unsafe { result::free_host(ptr::with_exposed_provenance_mut(host)) }
                .map_err(|e| failed("cuMemFreeHost", e));
        }
        // SAFETY: the driver refuses what is not an allocation; running kernels are waited for by the call.
        unsafe { result::free_sync(at.0) }.map_err(|e| failed("cuMemFree", e))
    }

    fn load_kernel(&self, binary: &KernelBinary) -> Result<Kernel, DeviceError> {
        let _current = self.current()?;
        let load = |reason: String| DeviceError::Load {
            kernel: binary.name.clone(),
            device: format!("{} ({})", self.name, self.arch),
            reason,
        };
        let name = CString::new(binary.name.as_str()).map_err(|e| load(e.to_string()))?;
        let module = self.load_module(binary)?;
        // SAFETY: a module that was just loaded.
        let function = unsafe { result::module::get_function(module, name) }
            .map_err(|e| failed(&format!("cuModuleGetFunction(`{}`)", binary.name), e));
        let ready = function.and_then(|function| {
            use sys::CUfunction_attribute_enum as Attribute;
            // Without this a kernel gets at most 48 KiB.
            if binary.shared_bytes + binary.resources.static_shared_bytes > 48 * 1024 {
                // SAFETY: a function that was just returned.
                unsafe {
                    result::function::set_function_attribute(
                        function,
                        Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                        i32::try_from(binary.shared_bytes).unwrap_or(i32::MAX),
                    )
                }
                .map_err(|e| failed(&format!("cuFuncSetAttribute(`{}`)", binary.name), e))?;
            }
            Ok(function)
        });
        let function = ready.inspect_err(|_| {
            // SAFETY: the module that was just loaded; the first error is the one to report.
            let _ = unsafe { result::module::unload(module) };
        })?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let loaded = Loaded {
            name: binary.name.clone(),
            module,
            function,
            threads: binary.threads,
            shared_bytes: binary.shared_bytes,
            waits: waits(binary),
        };
        self.kernels().insert(id, loaded);
        Ok(Kernel(id))
    }

    fn unload_kernel(&self, kernel: Kernel) -> Result<(), DeviceError> {
        let loaded = self.kernels().remove(&kernel.0).ok_or(DeviceError::UnknownKernel(kernel.0))?;
        let _current = self.current()?;
        // SAFETY: removed from the table, so it is unloaded once.
        unsafe { result::module::unload(loaded.module) }.map_err(|e| failed("cuModuleUnload", e))
    }

    fn launch(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        stream: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        self.start(kernel, blocks, args, stream, false)
    }

    fn residency(&self, kernel: Kernel) -> Result<Residency, DeviceError> {
        let loaded = self.kernels().get(&kernel.0).cloned().ok_or(DeviceError::UnknownKernel(kernel.0))?;
        let _current = self.current()?;
        let sms = sms::of(self.device, self.context)?;
        Ok(Residency { sms, blocks_per_sm: self.blocks_per_sm(&loaded)? })
    }

    fn launch_cooperative(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        stream: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        self.start(kernel, blocks, args, stream, true)
    }

    fn graph(&self, nodes: &[Node]) -> Result<Graph, DeviceError> {
        self.capture(nodes)
    }

    fn replay(&self, graph: Graph, stream: Stream) -> Result<Option<Vec<Counters>>, DeviceError> {
        self.launch_graph(graph, stream).map(|()| None)
    }

    fn free_graph(&self, graph: Graph) -> Result<(), DeviceError> {
        self.drop_graph(graph)
    }

    fn synchronize(&self, stream: Stream) -> Result<(), DeviceError> {
        let _current = self.current()?;
        // SAFETY: our own stream, or the caller's by the contract of `Stream`.
        unsafe { result::stream::synchronize(self.stream(stream)) }
            .map_err(|e| failed("cuStreamSynchronize", e))
    }

    fn clock(&self) -> Option<&dyn Clock> {
        Some(self)
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Errors while taking down cannot be reported and leave nothing for us to do.
        if let Ok(_current) = self.current() {
            self.drop_graphs();
            let kernels = std::mem::take(&mut *self.kernels());
            // SAFETY: our own stream and modules, destroyed once.
            unsafe {
                if !self.stream.is_null() {
                    let _ = result::stream::synchronize(self.stream);
                    let _ = result::stream::destroy(self.stream);
                }
                #[allow(clippy::iter_over_hash_type)] // the order of unloading does not matter
                for (_, loaded) in kernels {
                    let _ = result::module::unload(loaded.module);
                }
            }
        }
        // SAFETY: retained once in `open`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
