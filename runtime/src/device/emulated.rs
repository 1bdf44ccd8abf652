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

use super::{
    Device, DeviceError, DeviceKind, DevicePtr, Graph, Kernel, Node, Residency, SharedBytes, Stream, waits,
};

/// As much as the largest GPU of today; nothing is taken from the host before it is written.
const CAPACITY: u64 = 192 << 30;

/// How the emulator runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmulatorOptions {
    /// Whether launches return counters.
    pub counters: bool,
    /// Host threads of a launch; 0 is one per core, and one for cooperative launches.
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
    graphs: Mutex<HashMap<u64, Arc<Vec<Prepared>>>>,
    next: AtomicU64,
}

/// A launch with its parameters.
struct Prepared {
    loaded: Arc<Loaded>,
    blocks: u32,
    params: Vec<u8>,
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
    /// Whether it waits for the launches before it.
    waits: bool,
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
        let profile = profile.map_or_else(|| Ok(Profile::default()), EmulatedDevice::limits)?;
        Ok(EmulatedDevice::new(profile, options))
    }

    /// The limits of a named machine.
    pub fn limits(name: &str) -> Result<Profile, DeviceError> {
        Profile::named(name).ok_or_else(|| DeviceError::Profile {
            profile: name.to_owned(),
            known: Profile::names().collect::<Vec<_>>().join(", "),
        })
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
            graphs: Mutex::default(),
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

    fn graphs(&self) -> MutexGuard<'_, HashMap<u64, Arc<Vec<Prepared>>>> {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self, kernel: Kernel, blocks: u32, args: &[DevicePtr]) -> Result<Prepared, DeviceError> {
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
        Ok(Prepared { loaded, blocks, params })
    }

    /// Runs launches in order; those that wait by themselves may overlap with what is before them.
    fn run(&self, launches: &[Prepared], cooperative: bool) -> Result<Vec<Counters>, DeviceError> {
        let steps: Vec<emulator::Step<'_>> = launches
            .iter()
            .map(|l| emulator::Step {
                program: &l.loaded.program,
                launch: emulator::Launch {
                    entry: &l.loaded.entry,
                    grid: [l.blocks, 1, 1],
                    block: [l.loaded.threads, 1, 1],
                    shared_bytes: l.loaded.shared_bytes,
                    cluster: [1; 3],
                    params: &l.params,
                },
                pdl: l.loaded.waits,
            })
            .collect();
        // One number for all: as many registers as any of them takes, and no more than all of them could have.
        let threads = launches.iter().map(|l| l.loaded.threads).max().unwrap_or(0).max(1);
        let most = self.profile.registers_per_sm / threads.next_multiple_of(32) / 8 * 8;
        let registers_per_thread = match launches {
            [one] => one.loaded.registers,
            all => all.iter().map(|l| l.loaded.registers).max().unwrap_or(0).min(most),
        };
        // Blocks of a cooperative launch wait for one another, and how often they look depends on who is ahead: on one
        // host thread, counters are the same every time.
        let threads = if cooperative && self.options.threads == 0 { 1 } else { self.options.threads };
        let options =
            emulator::Options { registers_per_thread, cooperative, threads, ..self.options.clone() };
        let reports = emulator::launch_sequence(&steps, &self.read(), &self.profile, &options)?;
        let mut findings = Vec::new();
        let mut counters = Vec::new();
        for report in reports {
            findings.extend(report.findings);
            counters.push(report.counters);
        }
        if findings.is_empty() { Ok(counters) } else { Err(DeviceError::Findings(findings)) }
    }

    fn kernels(&self) -> MutexGuard<'_, HashMap<u64, Arc<Loaded>>> {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_one(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        cooperative: bool,
    ) -> Result<Option<Counters>, DeviceError> {
        if blocks == 0 {
            return Ok(None);
        }
        let counters = self.run(&[self.prepare(kernel, blocks, args)?], cooperative)?;
        Ok(counters.into_iter().next().filter(|_| self.options.counters))
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

    fn poke(&self, at: DevicePtr, word: u32) -> Result<(), DeviceError> {
        // A launch that is under way holds the lock for reading, too.
        Ok(self.read().poke(at.0, word)?)
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
            waits: waits(binary),
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
        self.run_one(kernel, blocks, args, false)
    }

    fn launch_cooperative(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        _: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        self.run_one(kernel, blocks, args, true)
    }

    fn graph(&self, nodes: &[Node]) -> Result<Graph, DeviceError> {
        let launches = nodes
            .iter()
            .filter(|n| n.blocks > 0)
            .map(|n| self.prepare(n.kernel, n.blocks, &n.args))
            .collect::<Result<Vec<_>, _>>()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.graphs().insert(id, Arc::new(launches));
        Ok(Graph(id))
    }

    fn replay(&self, graph: Graph, _: Stream) -> Result<Option<Vec<Counters>>, DeviceError> {
        let launches = self.graphs().get(&graph.0).cloned().ok_or(DeviceError::UnknownGraph(graph.0))?;
        let counters = self.run(&launches, false)?;
        Ok(self.options.counters.then_some(counters))
    }

    fn free_graph(&self, graph: Graph) -> Result<(), DeviceError> {
        self.graphs().remove(&graph.0).map(|_| ()).ok_or(DeviceError::UnknownGraph(graph.0))
    }

    fn synchronize(&self, _: Stream) -> Result<(), DeviceError> {
        Ok(())
    }
}
