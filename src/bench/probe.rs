//! What: small kernels of ours that measure a device: compiled, loaded, launched.
//! Why here: ceilings, calibration and timing need kernels whose every instruction is known, apart from what the
//! compiler derives.
//! Pre: NVRTC. Kernels take pointers only; the last one is to their parameters.
//! Post: memory and kernels are given back when their owner goes.

use std::sync::Arc;

use tilewright_codegen::{nvrtc_options, read_log};
use tilewright_emulator::Counters;
use tilewright_ir::artifact::KernelSource;
use tilewright_runtime::cache::Store;
use tilewright_runtime::device::{Device, DeviceError, DevicePtr, Kernel, Stream};
use tilewright_runtime::kernels::KernelCompiler;
use tilewright_runtime::nvrtc::Nvrtc;

use crate::{Error, Toolchain};

/// The source of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The entry.
    pub name: &'static str,
    /// CUDA C++.
    pub cuda: &'static str,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory in bytes.
    pub shared_bytes: u32,
    /// The first architecture that has its instructions.
    pub arch: u32,
}

/// Keeps the device busy.
pub const HOLD: Source =
    Source { name: "hold", cuda: include_str!("probes/hold.cu"), threads: 1, shared_bytes: 0, arch: 80 };

/// Reads a long array.
pub const READ: Source = Source {
    name: "read_stream",
    cuda: include_str!("probes/read_stream.cu"),
    threads: 256,
    shared_bytes: 0,
    arch: 80,
};

/// Copies a long array.
pub const COPY: Source = Source {
    name: "copy_stream",
    cuda: include_str!("probes/copy_stream.cu"),
    threads: 256,
    shared_bytes: 0,
    arch: 80,
};

/// Makes kernels for a device.
pub struct Maker {
    device: Arc<dyn Device>,
    nvrtc: Nvrtc,
    store: Store,
    arch: String,
}

/// A loaded kernel.
pub struct Probe {
    device: Arc<dyn Device>,
    kernel: Kernel,
}

/// Memory of a device.
pub struct Memory {
    device: Arc<dyn Device>,
    at: DevicePtr,
    bytes: u64,
}

/// The number of an architecture: 90 of `sm_90a`.
fn number(arch: &str) -> u32 {
    arch.trim_start_matches("sm_").trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().unwrap_or(0)
}

impl Maker {
    /// For a device; on the emulator, for the target.
    pub fn new(
        toolchain: &Toolchain,
        device: &Arc<dyn Device>,
        target: Option<&str>,
    ) -> Result<Maker, Error> {
        let nvrtc = Nvrtc::find(toolchain)?;
        let arch = device.arch().or(target).unwrap_or(crate::compiler::DEFAULT_TARGET).to_owned();
        let store = Store::new(toolchain.kernel_store());
        Ok(Maker { device: Arc::clone(device), nvrtc, store, arch })
    }

    /// The architecture that is compiled for.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The version of NVRTC.
    pub fn nvrtc_version(&self) -> String {
        self.nvrtc.version_text()
    }

    /// Compiles and loads a kernel.
    pub fn make(&self, source: &Source) -> Result<Probe, Error> {
        if number(&self.arch) < source.arch {
            return Err(Error::Unsupported {
                message: format!("`{}` needs sm_{}, and this is {}", source.name, source.arch, self.arch),
                help: None,
            });
        }
        let options = nvrtc_options(&self.arch);
        let compiler = KernelCompiler {
            nvrtc: &self.nvrtc,
            store: Some(&self.store),
            arch: &self.arch,
            options: &options,
            read_log,
        };
        let source = KernelSource {
            name: source.name.to_owned(),
            cuda: source.cuda.to_owned(),
            threads: source.threads,
            shared_bytes: source.shared_bytes,
        };
        let (mut binaries, _) = compiler.compile_all(&[source], &|_, _| ())?;
        let binary = binaries.pop().ok_or_else(|| Error::Bug("a compiler without a result".into()))?;
        Ok(Probe { device: Arc::clone(&self.device), kernel: self.device.load_kernel(&binary)? })
    }

    /// Memory that holds these words.
    pub fn words(&self, label: &str, words: &[i32]) -> Result<Memory, Error> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.bytes(label, &bytes)
    }

    /// Memory that holds these bytes.
    pub fn bytes(&self, label: &str, bytes: &[u8]) -> Result<Memory, Error> {
        let memory = Memory::new(&self.device, label, bytes.len() as u64)?;
        self.device.upload(memory.at, bytes, Stream::Own)?;
        Ok(memory)
    }

    /// Memory that holds zeros.
    pub fn zeros(&self, label: &str, bytes: u64) -> Result<Memory, Error> {
        let memory = Memory::new(&self.device, label, bytes)?;
        self.device.zero(memory.at, bytes, Stream::Own)?;
        Ok(memory)
    }
}

impl Probe {
    /// Launches on so many blocks.
    pub fn launch(&self, blocks: u32, args: &[&Memory]) -> Result<(), DeviceError> {
        self.launch_counted(blocks, args).map(|_| ())
    }

    /// The same, with what the emulator counted.
    pub fn launch_counted(&self, blocks: u32, args: &[&Memory]) -> Result<Option<Counters>, DeviceError> {
        let args: Vec<DevicePtr> = args.iter().map(|m| m.at).collect();
        self.device.launch(self.kernel, blocks, &args, Stream::Own)
    }

    /// The kernel, for launches of another kind.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // A device that fails to unload cannot be helped from here.
        let _ = self.device.unload_kernel(self.kernel);
    }
}

impl Memory {
    /// Undefined memory.
    pub fn new(device: &Arc<dyn Device>, label: &str, bytes: u64) -> Result<Memory, Error> {
        let at = device.alloc(label, bytes)?;
        Ok(Memory { device: Arc::clone(device), at, bytes })
    }

    /// Its address.
    pub fn at(&self) -> DevicePtr {
        self.at
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What it holds.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let mut data = vec![0; usize::try_from(self.bytes).unwrap_or(usize::MAX)];
        self.device.download(self.at, &mut data, Stream::Own)?;
        Ok(data)
    }

    /// What it holds, as words.
    pub fn read_words(&self) -> Result<Vec<u32>, Error> {
        Ok(self.read()?.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.device.free(self.at);
    }
}
