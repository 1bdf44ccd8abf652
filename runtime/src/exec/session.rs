//! What: what the steps of one module share on a device: weights, tables and states.
//! Why here: a decode step and a prefill step work on the same weights and the same state, which must exist once.
//! Pre: an open device and a source of tensors.
//! Post: each weight is on the device once for each type it is wanted in, mapped without a copy where the device can;
//! states are zero until a step writes them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tilewright_ir::artifact::{KernelBinary, Persistent};
use tilewright_ir::graph::Table;
use tilewright_ir::step::{BufferData, BufferKind, Step};
use tilewright_ir::{DType, Packing};

use super::executable::LoadedKernel;
use super::{ExecError, Executable, TensorSource, bind, packed, source, tables};
use crate::device::{Device, DeviceError, DevicePtr, Residency, SharedBytes, Stream};

/// Memory on a device that is freed when its last owner goes.
pub(super) struct Allocation {
    device: Arc<dyn Device>,
    pub(super) at: DevicePtr,
    pub(super) bytes: u64,
}

impl Allocation {
    pub(super) fn new(device: &Arc<dyn Device>, label: &str, bytes: u64) -> Result<Allocation, DeviceError> {
        Ok(Allocation { device: Arc::clone(device), at: device.alloc(label, bytes)?, bytes })
    }

    /// Memory that the host sees while kernels run.
    pub(super) fn visible(
        device: &Arc<dyn Device>,
        label: &str,
        bytes: u64,
    ) -> Result<Allocation, DeviceError> {
        Ok(Allocation { device: Arc::clone(device), at: device.alloc_visible(label, bytes)?, bytes })
    }

    fn mapped(device: &Arc<dyn Device>, label: &str, data: SharedBytes) -> Result<Allocation, DeviceError> {
        let bytes = (*data).as_ref().len() as u64;
        Ok(Allocation { device: Arc::clone(device), at: device.map_read_only(label, data)?, bytes })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // A device that fails to free memory cannot be helped from here.
        let _ = self.device.free(self.at);
    }
}

/// How a session behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Gives every temporary buffer memory of its own instead of a place in the arena. On the emulator this makes an
    /// access beyond the end of one an error.
    pub separate_buffers: bool,
}

/// What steps share.
pub struct Session {
    device: Arc<dyn Device>,
    source: Arc<dyn TensorSource>,
    options: SessionOptions,
    /// Where packed weights are kept.
    packed: Option<PathBuf>,
    shared: Mutex<Vec<Shared>>,
}

struct Shared {
    what: What,
    dtype: DType,
    dims: Vec<u64>,
    packing: Option<Packing>,
    memory: Arc<Allocation>,
}

#[derive(PartialEq)]
enum What {
    Weight(String),
    Table(Table),
    State(String),
}

impl Session {
    /// A session on a device.
    pub fn new(
        device: Arc<dyn Device>,
        source: Arc<dyn TensorSource>,
        options: SessionOptions,
    ) -> Arc<Session> {
        Session::keeping(device, source, options, None)
    }

    /// The same, with a directory in which packed weights are kept for the next session.
    pub fn keeping(
        device: Arc<dyn Device>,
        source: Arc<dyn TensorSource>,
        options: SessionOptions,
        packed: Option<PathBuf>,
    ) -> Arc<Session> {
        Arc::new(Session { device, source, options, packed, shared: Mutex::default() })
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// How it behaves.
    pub fn options(&self) -> SessionOptions {
        self.options
    }

    /// Loads the kernels of a step and brings what it needs to the device.
    pub fn prepare(self: &Arc<Self>, step: &Step, kernels: &[KernelBinary]) -> Result<Executable, ExecError> {
        Executable::new(Arc::clone(self), step, kernels)
    }

    /// Loads the persistent kernel of a step and brings what it needs to the device.
    pub fn prepare_persistent(
        self: &Arc<Self>,
        step: &Step,
        tables: &Persistent,
        kernel: &KernelBinary,
    ) -> Result<Executable, ExecError> {
        Executable::new_persistent(Arc::clone(self), step, tables, kernel)
    }

    /// How many blocks of a kernel the device holds at once.
    pub fn residency(&self, kernel: &KernelBinary) -> Result<Residency, ExecError> {
        let loaded = LoadedKernel::new(&self.device, kernel)?;
        Ok(self.device.residency(loaded.kernel)?)
    }

    /// Sets all states to zero, in the order of the device's own stream.
    pub fn reset_states(&self) -> Result<(), ExecError> {
        for shared in self.lock().iter() {
            if matches!(shared.what, What::State(_)) {
                self.device.zero(shared.memory.at, shared.memory.bytes, Stream::Own)?;
            }
        }
        Ok(self.device.synchronize(Stream::Own)?)
    }

    /// Sets the contents of a state that an executable of this session has.
    pub fn write_state(&self, name: &str, contents: &[u8]) -> Result<(), ExecError> {
        let shared = self.lock();
        let found = shared.iter().find(|s| matches!(&s.what, What::State(n) if n == name));
        let state = found.ok_or_else(|| ExecError::MissingBuffer { what: "state", name: name.to_owned() })?;
        if contents.len() as u64 != state.memory.bytes {
            return Err(ExecError::BufferSize {
                name: name.to_owned(),
                found: contents.len() as u64,
                wanted: state.memory.bytes,
                dtype: state.dtype,
                dims: state.dims.clone(),
            });
        }
        self.device.upload(state.memory.at, contents, Stream::Own)?;
        Ok(self.device.synchronize(Stream::Own)?)
    }

    /// Fills all states with ones, which no floating-point type reads as a number: who depends on what no run wrote shows it.
    pub fn spoil_states(&self) -> Result<(), ExecError> {
        let ones = vec![0xff; 1 << 20];
        for shared in self.lock().iter().filter(|s| matches!(s.what, What::State(_))) {
            let mut at = 0;
            while at < shared.memory.bytes {
                let some = (shared.memory.bytes - at).min(ones.len() as u64);
                self.device.upload(shared.memory.at.offset(at), &ones[..some as usize], Stream::Own)?;
                at += some;
            }
        }
        Ok(self.device.synchronize(Stream::Own)?)
    }

    /// The memory of a weight, table or state; `None` for other buffers.
    pub(super) fn memory(
        &self,
        buffer: &BufferData,
        maxima: &[i32],
    ) -> Result<Option<Arc<Allocation>>, ExecError> {
        let what = match &buffer.kind {
            BufferKind::Weight(name) => What::Weight(name.clone()),
            BufferKind::Table(table) => What::Table(table.clone()),
            BufferKind::State => What::State(buffer.name.clone()),
            BufferKind::Input | BufferKind::Output | BufferKind::Arena(_) => return Ok(None),
        };
        // Row-major strides depend on all extents but the first, so only that one may vary between runs.
        if buffer.dims.iter().skip(1).any(|e| e.as_const().is_none()) {
            return Err(ExecError::BadStep(format!(
                "`{}` is kept between runs, and an extent of it other than the first is symbolic",
                buffer.name
            )));
        }
        let dims = bind::dims(buffer, maxima)?;
        let bytes = bind::bytes(buffer, maxima)?;
        let elements = bytes / buffer.dtype.bytes() as u64;
        let mut shared = self.lock();
        // Weights are split into axes in different ways; only the elements count.
        let weight = matches!(what, What::Weight(_));
        let same = |s: &Shared| {
            s.dtype == buffer.dtype
                && s.packing == buffer.packing
                && (s.dims == dims || weight && s.dims.iter().product::<u64>() == elements)
        };
        if let Some(known) = shared.iter().find(|s| s.what == what && same(s)) {
            return Ok(Some(Arc::clone(&known.memory)));
        }
        if let What::State(name) = &what
            && let Some(known) = shared.iter().find(|s| s.what == what)
        {
            return Err(ExecError::BadStep(format!(
                "the steps of a session disagree on state `{name}`: {}{:?} and {}{dims:?}",
                known.dtype, known.dims, buffer.dtype
            )));
        }
        let memory = match &what {
            What::Weight(name) => {
                let data = match &buffer.packing {
                    None => source::read(&*self.source, name, buffer.dtype, elements)?,
                    Some(packing) => {
                        let dir = self.packed.as_deref();
                        packed::read(&*self.source, name, buffer.dtype, elements, packing, dir)?
                    }
                };
                Allocation::mapped(&self.device, name, data)?
            }
            What::Table(table) => {
                let data = tables::compute(&buffer.name, table, buffer.dtype, &dims)?;
                Allocation::mapped(&self.device, &buffer.name, Arc::new(data))?
            }
            What::State(name) => {
                let memory = Allocation::new(&self.device, name, bytes)?;
                self.device.zero(memory.at, bytes, Stream::Own)?;
                self.device.synchronize(Stream::Own)?;
                memory
            }
        };
        let memory = Arc::new(memory);
        let packing = buffer.packing.clone();
        shared.push(Shared { what, dtype: buffer.dtype, dims, packing, memory: Arc::clone(&memory) });
        Ok(Some(memory))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Shared>> {
        // Entries are pushed whole, so a panic elsewhere does not spoil the list.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
