//! What: weights that come from no folder: given as arrays, made up, or made of other weights by a prologue.
//! Why here: the runtime reads tensors by name and does not ask where they are from.
//! Pre: prologues run before a step that reads what they make is prepared.
//! Post: tensors by name for the runtime.

use std::sync::{Arc, PoisonError, RwLock};

use tilewright_ir::DType;
use tilewright_ir::graph::{GlobalKind, Module as Graph};
use tilewright_ir::step::{BufferKind, Step};
use tilewright_passes::step::MADE;
use tilewright_runtime::device::SharedBytes;
use tilewright_runtime::exec::{Array, MemoryTensors, RunResult, TensorSource};

use crate::Error;
use crate::verify::made_up;

/// The weights of a module that has no folder: given arrays and, from a seed, the others.
pub(crate) fn given(
    arrays: &[(String, Array)],
    seed: Option<u64>,
    graph: &Graph,
) -> Result<MemoryTensors, Error> {
    let mut out = MemoryTensors::default();
    let mut declared = Vec::new();
    for data in graph.globals.values() {
        let GlobalKind::Weight(name) = &data.kind else { continue };
        declared.push(name.as_str());
        let dims: Vec<u64> = data.dims.iter().filter_map(|d| d.as_const()).collect();
        match (arrays.iter().find(|(n, _)| n == name), seed) {
            (Some((_, array)), _) if array.dtype != data.dtype || array.dims != dims => {
                return Err(Error::input(format!(
                    "`{name}` is {}{:?}, and {}{dims:?} is declared",
                    array.dtype, array.dims, data.dtype
                )));
            }
            (Some((_, array)), _) => out.insert(name, array.dtype, &array.dims, array.data.clone()),
            (None, Some(seed)) if dims.len() == data.dims.len() => {
                let array = made_up(seed, name, data.dtype, &dims)?;
                out.insert(name, array.dtype, &array.dims, array.data);
            }
            (None, _) => {}
        }
    }
    match arrays.iter().find(|(n, _)| !declared.contains(&n.as_str())) {
        Some((name, _)) => Err(Error::input(format!(
            "`{name}` is given as a weight, and nothing that is computed reads such a one"
        ))),
        None => Ok(out),
    }
}

/// The weights of a module, and those that its prologues made of them.
pub(crate) struct Layered {
    base: Arc<dyn TensorSource>,
    made: RwLock<MemoryTensors>,
}

impl Layered {
    pub(crate) fn new(base: Arc<dyn TensorSource>) -> Layered {
        Layered { base, made: RwLock::default() }
    }

    /// Takes what a prologue made.
    pub(crate) fn add(&self, made: RunResult) {
        let mut all = self.made.write().unwrap_or_else(PoisonError::into_inner);
        for (name, array) in made.outputs {
            all.insert(&format!("{MADE}{name}"), array.dtype, &array.dims, array.data);
        }
    }
}

impl TensorSource for Layered {
    fn info(&self, name: &str) -> Option<(DType, Vec<u64>)> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.info(name).or_else(|| self.base.info(name))
    }

    fn bytes(&self, name: &str) -> Result<SharedBytes, Box<dyn std::error::Error + Send + Sync>> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if made.info(name).is_some() { made.bytes(name) } else { self.base.bytes(name) }
    }

    fn fingerprint(&self, name: &str) -> Option<String> {
        // What is made depends on the plan, too.
        if name.starts_with(MADE) { None } else { self.base.fingerprint(name) }
    }
}

/// Gives what the prologue of a phase makes names that no other phase has.
pub(crate) fn name_apart(phase: &str, step: &mut Step, prologue: &mut Step) {
    for data in prologue.buffers.values_mut().filter(|b| b.kind == BufferKind::Output) {
        data.name = format!("{phase}/{}", data.name);
    }
    for data in step.buffers.values_mut() {
        if let BufferKind::Weight(name) = &mut data.kind
            && let Some(made) = name.strip_prefix(MADE)
        {
            *name = format!("{MADE}{phase}/{made}");
        }
    }
}
