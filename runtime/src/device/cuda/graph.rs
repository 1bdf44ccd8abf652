//! What: sequences of launches as CUDA graphs.
//! Why here: replaying a graph costs the host one call, and the kernels in it may overlap.
//! Pre: kernels of this device.
//! Post: a kernel that waits for the launches before it (`griddepcontrol.wait`) is launched programmatically, so that it
//! starts when the launch before lets it; every other one starts when that is done. A driver without graphs is a typed
//! error.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use cudarc::driver::result::stream;
use cudarc::driver::sys;

use super::{CudaDevice, DeviceError, Graph, Loaded, Node, Stream, failed};

/// A captured graph.
#[derive(Clone, Copy)]
pub(super) struct Captured {
    graph: sys::CUgraph,
    ready: sys::CUgraphExec,
}

/// The functions of the driver that graphs need, beyond those that every driver has.
const NEEDED: [&str; 5] = [
    "cuLaunchKernelEx",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
];

/// That the driver has all of them: the bindings end the program where one is missing.
pub(super) fn supported() -> Result<(), DeviceError> {
    // SAFETY: the library was found when the device was opened; looking up a name calls nothing.
    let library = unsafe { sys::culib() };
    for function in NEEDED {
        // SAFETY: as above.
        if unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err() {
            return Err(DeviceError::OldDriver { function });
        }
    }
    Ok(())
}

impl CudaDevice {
    fn graphs(&self) -> MutexGuard<'_, std::collections::HashMap<u64, Captured>> {
        // The table is valid after every statement, so a panic elsewhere does not spoil it.
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records launches on the device's own stream.
    pub(super) fn capture(&self, nodes: &[Node]) -> Result<Graph, DeviceError> {
        supported()?;
        let kernels = {
            let known = self.kernels();
            let find = |n: &Node| known.get(&n.kernel.raw()).cloned();
            nodes
                .iter()
                .map(|n| find(n).ok_or(DeviceError::UnknownKernel(n.kernel.raw())))
                .collect::<Result<Vec<Loaded>, _>>()?
        };
        let _current = self.current()?;
        // A stream of its own: on the others, other threads may be launching.
        let stream =
            stream::create(stream::StreamKind::NonBlocking).map_err(|e| failed("cuStreamCreate", e))?;
        let mut graph = ptr::null_mut();
        let recorded = self.record_all(stream, nodes, &kernels, &mut graph);
        // SAFETY: created above, and nothing but the recording was put on it.
        let _ = unsafe { stream::destroy(stream) };
        let mut ready = ptr::null_mut();
        let made = recorded.and_then(|()| {
            // SAFETY: a graph that was just recorded.
            unsafe { sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0) }
                .result()
                .map_err(|e| failed("cuGraphInstantiate", e))
        });
        if let Err(error) = made {
            if !graph.is_null() {
                // SAFETY: the graph is ours; the first error is the one to report.
                let _ = unsafe { sys::cuGraphDestroy(graph) };
            }
            return Err(error);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.graphs().insert(id, Captured { graph, ready });
        Ok(Graph(id))
    }

    /// Records the launches on a stream.
    fn record_all(
        &self,
        stream: sys::CUstream,
        nodes: &[Node],
        kernels: &[Loaded],
        graph: &mut sys::CUgraph,
    ) -> Result<(), DeviceError> {
        // SAFETY: a stream on which nothing is being recorded. Recording concerns this thread only.
        unsafe {
            sys::cuStreamBeginCapture_v2(
                stream,
                sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
            )
        }
        .result()
        .map_err(|e| failed("cuStreamBeginCapture", e))?;
        let mut recorded = Ok(());
        let mut first = true;
        for (node, kernel) in nodes.iter().zip(kernels).filter(|(n, _)| n.blocks > 0) {
            recorded = record(stream, node, kernel, !first);
            first = false;
            if recorded.is_err() {
                break;
            }
        }
        // SAFETY: ends what was begun above, also after a failure; the graph is the caller's from here on.
        let ended = unsafe { sys::cuStreamEndCapture(stream, graph) }.result();
        recorded.and_then(|()| ended.map_err(|e| failed("cuStreamEndCapture", e)))
    }

    pub(super) fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<(), DeviceError> {
        let captured =
            self.graphs().get(&graph.raw()).copied().ok_or(DeviceError::UnknownGraph(graph.raw()))?;
        let _current = self.current()?;
        // SAFETY: a graph of the table; a stream of ours or of the caller by the contract of `Stream`.
        unsafe { sys::cuGraphLaunch(captured.ready, self.stream(stream)) }
            .result()
            .map_err(|e| failed("cuGraphLaunch", e))
    }

    pub(super) fn drop_graph(&self, graph: Graph) -> Result<(), DeviceError> {
        let captured = self.graphs().remove(&graph.raw()).ok_or(DeviceError::UnknownGraph(graph.raw()))?;
        let _current = self.current()?;
        destroy(captured);
        Ok(())
    }

    /// Destroys all graphs; the context is current.
    pub(super) fn drop_graphs(&self) {
        let all = mem::take(&mut *self.graphs());
        #[allow(clippy::iter_over_hash_type)] // the order does not matter
        for (_, captured) in all {
            destroy(captured);
        }
    }
}

/// Destroys a graph that was removed from the table; the driver waits for replays that still run.
fn destroy(captured: Captured) {
    // SAFETY: removed from the table, so both are destroyed once. A failure cannot be helped from here.
    unsafe {
        let _ = sys::cuGraphExecDestroy(captured.ready);
        let _ = sys::cuGraphDestroy(captured.graph);
    }
}

/// Puts one launch on the stream that is being recorded.
fn record(stream: sys::CUstream, node: &Node, kernel: &Loaded, follows: bool) -> Result<(), DeviceError> {
    let mut values: Vec<u64> = node.args.iter().map(|a| a.raw()).collect();
    let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| ptr::from_mut(v).cast()).collect();
    // SAFETY: a structure of integers, for which zeros are values.
    let mut attribute: sys::CUlaunchAttribute = unsafe { mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    let overlaps = kernel.waits && follows;
    let config = sys::CUlaunchConfig {
        gridDimX: node.blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: kernel.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: kernel.shared_bytes,
        hStream: stream,
        attrs: &mut attribute,
        numAttrs: u32::from(overlaps),
    };
    // SAFETY: a loaded function; attributes and arguments are copied by the call, and the arguments are those of the
    // generated kernel, which takes only pointers.
    unsafe { sys::cuLaunchKernelEx(&config, kernel.function, pointers.as_mut_ptr(), ptr::null_mut()) }
        .result()
        .map_err(|e| failed(&format!("cuLaunchKernelEx(`{}`, {} blocks)", kernel.name, node.blocks), e))
}
