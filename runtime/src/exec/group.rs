//! What: the launches of the device that a step asks for.
//! Why here: entries of a step may share a launch, and every way to put a step on a device must see them in the same way.
//! Pre: a step that the verifier accepts.
//! Post: one launch per group, whose kernel takes the buffers of its entries one after the other and then the parameter
//! block, and whose blocks are those of its entries together.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use cranelift_entity::PrimaryMap;
use tilewright_ir::Buffer;
use tilewright_ir::artifact::KernelBinary;
use tilewright_ir::step::Step;

use super::executable::LoadedKernel;
use super::{ExecError, bind};
use crate::device::{Device, DeviceError, DevicePtr};

/// The most blocks of a launch.
const MAX_BLOCKS: u64 = i32::MAX as u64;

/// One launch of the device.
pub(super) struct Group {
    /// The entries of the step.
    pub(super) entries: Range<usize>,
    /// The name of the kernel.
    pub(super) name: String,
    /// The kernel.
    pub(super) kernel: Arc<LoadedKernel>,
}

impl Group {
    /// The launches of a step; each kernel is loaded once.
    pub(super) fn load(
        device: &Arc<dyn Device>,
        step: &Step,
        kernels: &[KernelBinary],
    ) -> Result<Vec<Group>, ExecError> {
        let mut loaded: HashMap<String, Arc<LoadedKernel>> = HashMap::new();
        let mut out = Vec::new();
        for entries in step.groups() {
            let name = step.kernel_of(entries.clone());
            let kernel = match loaded.get(&name) {
                Some(kernel) => Arc::clone(kernel),
                None => {
                    let missing = || ExecError::BadStep(format!("kernel `{name}` was not compiled"));
                    let binary = kernels.iter().find(|k| k.name == name).ok_or_else(missing)?;
                    let kernel = Arc::new(LoadedKernel::new(device, binary)?);
                    loaded.insert(name.clone(), Arc::clone(&kernel));
                    kernel
                }
            };
            out.push(Group { entries, name, kernel });
        }
        Ok(out)
    }

    /// Its arguments.
    pub(super) fn args(
        &self,
        step: &Step,
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        params: DevicePtr,
    ) -> Vec<DevicePtr> {
        let entries = step.launches[self.entries.clone()].iter();
        entries.flat_map(|l| &l.args).map(|&b| pointers[b]).chain([params]).collect()
    }
}

/// The number of blocks of the launch of these entries.
pub(super) fn blocks(step: &Step, entries: Range<usize>, values: &[i32]) -> Result<u32, ExecError> {
    let name = || step.kernel_of(entries.clone());
    let mut sum = 0u64;
    for launch in &step.launches[entries.clone()] {
        sum = sum.saturating_add(bind::blocks(&launch.kernel, &launch.grid, values)?);
    }
    let fits = u32::try_from(sum).ok().filter(|_| sum <= MAX_BLOCKS);
    Ok(fits.ok_or_else(|| DeviceError::Grid { kernel: name(), blocks: sum })?)
}
