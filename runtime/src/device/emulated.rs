//! What: the emulator as a device.
//! Why here: with the CUDA device, one of the two machines behind [`Device`]; it runs the PTX of the same binaries.
//! Pre: PTX that the emulator understands; kernels that take only pointers.
//! Post: a launch has finished when it returns, whatever the stream. Memory is changed by one caller at a time;
//! launches may overlap, as they may on a GPU.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tilewright_emulator as emulator;
use tilewright_emulator::{Counters, Memory, Profile, Program, Sanitize};
use tilewright_ir::artifact::KernelBinary;

use super::{Device, DeviceError, DeviceKind, DevicePtr, Kernel, Residency, SharedBytes, Stream};

/// As much as the largest GPU of today; nothing is taken from the host before it is written.
const CAPACITY: u64 = 192 << 30;

/// How the emulator runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmulatorOptions {
    /// Whether launches return counters.
    pub counters: bool,
    /// Host threads of a launch; 0 is one per core.
    pub threads: usize,
    /// What is checked beside bounds, alignment and deadlock; a launch with findings fails. With the check of
    /// undefined data, allocations are undefined until they are written.
    pub sanitize: Sanitize,
    /// The seed of an adversarial schedule; none runs the fast one.
    pub seed: Option<u64>,
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        EmulatorOptions { counters: true, threads: 0, sanitize: Sanitize::default(), seed: None }
    }
}

/// The emulator.
pub struct EmulatedDevice {
    name: String,
    profile: Profile,
    options: emulator::Options,
    memory: RwLock<Memory>,
    kernels: Mutex<HashMap<u64, Arc<Loaded>>>,
    next: AtomicU64,
}

struct Loaded {
    program: Program,
    entry: String,
    threads: u32,
    shared_bytes: u32,
    registers: u32,
    static_shared_bytes: u32,
    /// The offset of each parameter in the parameter buffer.
    offsets: Vec<usize>,
}

impl EmulatedDevice {
    /// The default profile, or a named one.
    pub fn open(profile: Option<&str>) -> Result<EmulatedDevice, DeviceError> {
        EmulatedDevice::open_with(profile, &EmulatorOptions::default())
    }

    /// The default profile, or a named one, with these options.
    pub fn open_with(
        profile: Option<&str>,
        options: &EmulatorOptions,
    ) -> Result<EmulatedDevice, DeviceError> {
        let profile = match profile {
            None => Profile::default(),
            Some(name) => Profile::named(name).ok_or_else(|| DeviceError::Profile {
                profile: name.to_owned(),
                known: Profile::names().collect::<Vec<_>>().join(", "),
            })?,
        };
        Ok(EmulatedDevice::new(profile, options))
    }

    /// A machine with these limits.
    pub fn new(profile: Profile, options: &EmulatorOptions) -> EmulatedDevice {
        EmulatedDevice {
            name: format!("emulator ({})", profile.name),
            profile,
            options: emulator::Options {
                counters: options.counters,
                threads: options.threads,
                sanitize: options.sanitize,
                seed: options.seed,
                ..emulator::Options::default()
            },
            memory: RwLock::new(Memory::new(CAPACITY)),
            kernels: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// The limits of the machine.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    // A panic elsewhere leaves memory and table as valid as a fault of a kernel does.
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn kernels(&self) -> MutexGuard<'_, HashMap<u64, Arc<Loaded>>> {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        cooperative: bool,
    ) -> Result<Option<Counters>, DeviceError> {
        if blocks == 0 {
            return Ok(None);
        }
        let loaded = self.kernels().get(&kernel.0).cloned().ok_or(DeviceError::UnknownKernel(kernel.0))?;
        if args.len() != loaded.offsets.len() {
            return Err(DeviceError::Load {
                kernel: loaded.entry.clone(),
                device: self.name.clone(),
                reason: format!("it takes {} pointers and was given {}", loaded.offsets.len(), args.len()),
            });
        }
        let mut params = vec![0; loaded.offsets.iter().map(|o| o + 8).max().unwrap_or(0)];
        for (&offset, arg) in loaded.offsets.iter().zip(args) {
            params[offset..offset + 8].copy_from_slice(&arg.0.to_le_bytes());
        }
        let launch = emulator::Launch {
            entry: &loaded.entry,
            grid: [blocks, 1, 1],
            block: [loaded.threads, 1, 1],
            shared_bytes: loaded.shared_bytes,
            cluster: [1; 3],
            params: &params,
        };
        let options =
            emulator::Options { registers_per_thread: loaded.registers, cooperative, ..self.options.clone() };
        let report = emulator::launch(&loaded.program, &self.read(), &self.profile, &launch, &options)?;
        if !report.findings.is_empty() {
            return Err(DeviceError::Findings(report.findings));
        }
        Ok(self.options.counters.then_some(report.counters))
    }
}

impl Device for EmulatedDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Emulator
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn arch(&self) -> Option<&str> {
        None
    }

    fn alloc(&self, label: &str, bytes: u64) -> Result<DevicePtr, DeviceError> {
        let mut memory = self.write();
        let at = if self.options.sanitize.uninit {
            memory.alloc_undefined(label, bytes)?
        } else {
            memory.alloc(label, bytes)?
        };
        Ok(DevicePtr(at))
    }

    fn map_read_only(&self, label: &str, data: SharedBytes) -> Result<DevicePtr, DeviceError> {
        Ok(DevicePtr(self.write().map_read_only(label, data)?))
    }

    fn upload(&self, to: DevicePtr, data: &[u8], _: Stream) -> Result<(), DeviceError> {
        Ok(self.write().write(to.0, data)?)
    }

    fn upload_params(&self, to: DevicePtr, data: &[i32], stream: Stream) -> Result<(), DeviceError> {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.upload(to, &bytes, stream)
    }

    fn download(&self, from: DevicePtr, data: &mut [u8], _: Stream) -> Result<(), DeviceError> {
        Ok(self.read().read(from.0, data)?)
    }

    fn zero(&self, to: DevicePtr, bytes: u64, _: Stream) -> Result<(), DeviceError> {
        const PIECE: u64 = 1 << 20;
        let zeros = vec![0; bytes.min(PIECE) as usize];
        let memory = self.write();
        let mut at = 0;
        while at < bytes {
            let piece = (bytes - at).min(PIECE);
            memory.write(to.offset(at).0, &zeros[..piece as usize])?;
            at += piece;
        }
        Ok(())
    }

    fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: u64, _: Stream) -> Result<(), DeviceError> {
        Ok(self.write().copy(to.0, from.0, bytes)?)
    }

    fn free(&self, at: DevicePtr) -> Result<(), DeviceError> {
        Ok(self.write().free(at.0)?)
    }

    fn load_kernel(&self, binary: &KernelBinary) -> Result<Kernel, DeviceError> {
        let load = |reason: String| DeviceError::Load {
            kernel: binary.name.clone(),
            device: self.name.clone(),
            reason,
        };
        let program = Program::parse(&binary.ptx)
            .map_err(|source| DeviceError::Ptx { kernel: binary.name.clone(), source })?;
        let params = program
            .params(&binary.name)
            .ok_or_else(|| load(format!("its PTX has no entry `{}`", binary.name)))?;
        if let Some(other) = params.iter().find(|p| p.size != 8) {
            return Err(load(format!("its parameter `{}` is no pointer", other.name)));
        }
        let loaded = Loaded {
            program,
            entry: binary.name.clone(),
            threads: binary.threads,
            shared_bytes: binary.shared_bytes,
            registers: binary.resources.registers,
            static_shared_bytes: binary.resources.static_shared_bytes,
            offsets: params.iter().map(|p| p.offset as usize).collect(),
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.kernels().insert(id, Arc::new(loaded));
        Ok(Kernel(id))
    }

    fn unload_kernel(&self, kernel: Kernel) -> Result<(), DeviceError> {
        self.kernels().remove(&kernel.0).map(|_| ()).ok_or(DeviceError::UnknownKernel(kernel.0))
    }

    fn residency(&self, kernel: Kernel) -> Result<Residency, DeviceError> {
        let loaded = self.kernels().get(&kernel.0).cloned().ok_or(DeviceError::UnknownKernel(kernel.0))?;
        let shared = u64::from(loaded.static_shared_bytes) + u64::from(loaded.shared_bytes);
        let blocks_per_sm = self.profile.resident_per_sm(loaded.threads, loaded.registers, shared);
        Ok(Residency { sms: self.profile.sms, blocks_per_sm })
    }

    fn launch(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        _: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        self.run(kernel, blocks, args, false)
    }

    fn launch_cooperative(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        _: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        self.run(kernel, blocks, args, true)
    }

    fn synchronize(&self, _: Stream) -> Result<(), DeviceError> {
        Ok(())
    }
}
