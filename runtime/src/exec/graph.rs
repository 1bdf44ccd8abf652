//! What: a step as a graph of launches that is prepared once and replayed for every run.
//! Why here: a step whose host work is one call per run; launches in it may overlap.
//! Pre: kernels whose blocks beyond the current extents do nothing.
//! Post: the same results as launching one by one. The grids are those of the largest values of all symbols that may
//! change between runs; symbols that size inputs or outputs keep their values. A graph is prepared again only when such
//! a value, or the address of a buffer, is another one.

use std::sync::Arc;

use cranelift_entity::PrimaryMap;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::{Buffer, Extent};

use super::executable::Scratch;
use super::group::blocks;
use super::{ExecError, Executable, LaunchRecord, bind};
use crate::device::{Device, DevicePtr, Graph, Node, Stream};

/// How the launches of a step are put on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One after the other.
    #[default]
    Launch,
    /// All at once, as a graph.
    Graph,
}

/// A graph with what it was prepared for.
pub(super) struct Prepared {
    device: Arc<dyn Device>,
    graph: Graph,
    pointers: PrimaryMap<Buffer, DevicePtr>,
    /// The values that the grids were made from.
    values: Vec<i32>,
    /// The launch behind each node, and its blocks.
    nodes: Vec<(usize, u32)>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // A device that fails to forget cannot be helped from here.
        let _ = self.device.free_graph(self.graph);
    }
}

/// Values for grids that hold for all runs with inputs and outputs of the same sizes.
fn fixed(step: &Step, values: &[i32]) -> Result<Vec<i32>, ExecError> {
    let mut out = bind::maxima(&step.symbols)?;
    let outside = |kind: &BufferKind| matches!(kind, BufferKind::Input | BufferKind::Output);
    for buffer in step.buffers.values().filter(|b| outside(&b.kind)) {
        for extent in &buffer.dims {
            if let Extent::Sym(s) = extent {
                let n = s.as_u32() as usize;
                if let (Some(to), Some(&from)) = (out.get_mut(n), values.get(n)) {
                    *to = from;
                }
            }
        }
    }
    Ok(out)
}

impl Executable {
    /// Runs all launches as a graph.
    pub(super) fn replay(
        &self,
        scratch: &mut Scratch,
        values: &[i32],
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        stream: Stream,
    ) -> Result<Vec<LaunchRecord>, ExecError> {
        let device = self.session().device();
        let grids = fixed(self.step(), values)?;
        let fits = |p: &Prepared| p.values == grids && p.pointers == *pointers;
        let params = scratch.params_at();
        let prepared = match scratch.graph.take() {
            Some(prepared) if fits(&prepared) => scratch.graph.insert(prepared),
            old => {
                // What is replaced may still run.
                device.synchronize(stream)?;
                drop(old);
                scratch.graph.insert(self.prepare_graph(grids, pointers, params)?)
            }
        };
        device.upload_params(params, values, stream)?;
        let counters = device.replay(prepared.graph, stream)?;
        let mut counters = counters.map(Vec::into_iter);
        Ok(prepared
            .nodes
            .iter()
            .map(|&(index, blocks)| {
                self.record(&self.groups()[index], blocks, counters.as_mut().and_then(Iterator::next))
            })
            .collect())
    }

    fn prepare_graph(
        &self,
        values: Vec<i32>,
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        params: DevicePtr,
    ) -> Result<Prepared, ExecError> {
        let mut nodes = Vec::new();
        let mut places = Vec::new();
        for (index, launch) in self.groups().iter().enumerate() {
            let blocks = blocks(self.step(), launch.entries.clone(), &values)?;
            if blocks > 0 {
                let args = launch.args(self.step(), pointers, params);
                nodes.push(Node { kernel: launch.kernel.kernel, blocks, args });
                places.push((index, blocks));
            }
        }
        let device = Arc::clone(self.session().device());
        let graph = device.graph(&nodes)?;
        Ok(Prepared { device, graph, pointers: pointers.clone(), values, nodes: places })
    }
}
