//! Steps on a device whose kernels are functions of this file: what is tested is everything around the kernels.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tilewright_emulator::Counters;
use tilewright_ir::artifact::{KernelBinary, Resources};
use tilewright_ir::graph::Table;
use tilewright_ir::step::{BufferData, BufferKind, GridAxis, Launch, Step};
use tilewright_ir::{Buffer, DType, Extent, Sym, SymData};
use tilewright_runtime::device::{
    Device, DeviceError, DeviceKind, DevicePtr, Graph, Kernel, Node, Residency, SharedBytes, Stream,
};
use tilewright_runtime::exec::{
    Alias, Binding, ExecError, MemoryTensors, Mode, NoTensors, Session, SessionOptions, TensorSource,
};
use tilewright_runtime::values::{decode, encode};

/// A kernel: the number of blocks, the arguments, and the memory.
type Body = fn(u32, &[u64], &mut Memory);

#[derive(Default)]
struct Memory {
    blocks: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Memory {
    fn alloc(&mut self, bytes: Vec<u8>) -> u64 {
        self.next += 1 << 32;
        self.blocks.insert(self.next, bytes);
        self.next
    }

    fn at(&mut self, address: u64, length: usize) -> &mut [u8] {
        let (&start, block) = self.blocks.range_mut(..=address).next_back().expect("unmapped");
        let from = (address - start) as usize;
        &mut block[from..from + length]
    }

    fn f32(&mut self, address: u64, i: usize) -> f32 {
        f32::from_le_bytes(self.at(address + 4 * i as u64, 4).try_into().unwrap())
    }

    fn i32(&mut self, address: u64, i: usize) -> i32 {
        i32::from_le_bytes(self.at(address + 4 * i as u64, 4).try_into().unwrap())
    }

    fn set(&mut self, address: u64, i: usize, x: f32) {
        self.at(address + 4 * i as u64, 4).copy_from_slice(&x.to_le_bytes());
    }
}

/// `a, b, out, sy`: out[i] = 2 a[i] + b[i] for i below the first symbol.
fn axpy(_: u32, args: &[u64], m: &mut Memory) {
    for i in 0..m.i32(args[3], 0) as usize {
        let x = 2.0 * m.f32(args[0], i) + m.f32(args[1], i);
        m.set(args[2], i, x);
    }
}

/// `a, out, sy`: out[i] = a[n - 1 - i], which does not work in place.
fn reverse(_: u32, args: &[u64], m: &mut Memory) {
    let n = m.i32(args[2], 0) as usize;
    for i in 0..n {
        let x = m.f32(args[0], n - 1 - i);
        m.set(args[1], i, x);
    }
}

/// `state, x, sy`: state[i] += x[i].
fn add(_: u32, args: &[u64], m: &mut Memory) {
    for i in 0..m.i32(args[2], 0) as usize {
        let x = m.f32(args[0], i) + m.f32(args[1], i);
        m.set(args[0], i, x);
    }
}

#[derive(Default)]
struct HostDevice {
    memory: Mutex<Memory>,
    loaded: Mutex<HashMap<u64, Body>>,
    handles: Mutex<Vec<Kernel>>,
    uploads: Mutex<Vec<String>>,
    /// Graphs that were made, and those of them that are left.
    graphs: Mutex<(u64, HashMap<u64, Vec<Node>>)>,
}

impl HostDevice {
    fn live(&self) -> usize {
        self.memory.lock().unwrap().blocks.len()
    }
}

impl Device for HostDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Emulator
    }
    fn name(&self) -> &str {
        "host"
    }
    fn arch(&self) -> Option<&str> {
        None
    }
    fn alloc(&self, _: &str, bytes: u64) -> Result<DevicePtr, DeviceError> {
        // Poisoned, so that nobody relies on zeros.
        let at = self.memory.lock().unwrap().alloc(vec![0xff; bytes as usize]);
        Ok(pointer(at))
    }
    fn map_read_only(&self, label: &str, data: SharedBytes) -> Result<DevicePtr, DeviceError> {
        self.uploads.lock().unwrap().push(label.to_owned());
        let at = self.memory.lock().unwrap().alloc((*data).as_ref().to_vec());
        Ok(pointer(at))
    }
    fn upload(&self, to: DevicePtr, data: &[u8], _: Stream) -> Result<(), DeviceError> {
        self.memory.lock().unwrap().at(to.raw(), data.len()).copy_from_slice(data);
        Ok(())
    }
    fn upload_params(&self, to: DevicePtr, data: &[i32], stream: Stream) -> Result<(), DeviceError> {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.upload(to, &bytes, stream)
    }
    fn download(&self, from: DevicePtr, data: &mut [u8], _: Stream) -> Result<(), DeviceError> {
        let length = data.len();
        data.copy_from_slice(self.memory.lock().unwrap().at(from.raw(), length));
        Ok(())
    }
    fn zero(&self, to: DevicePtr, bytes: u64, _: Stream) -> Result<(), DeviceError> {
        self.memory.lock().unwrap().at(to.raw(), bytes as usize).fill(0);
        Ok(())
    }
    fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: u64, _: Stream) -> Result<(), DeviceError> {
        let mut memory = self.memory.lock().unwrap();
        let data = memory.at(from.raw(), bytes as usize).to_vec();
        memory.at(to.raw(), bytes as usize).copy_from_slice(&data);
        Ok(())
    }
    fn free(&self, at: DevicePtr) -> Result<(), DeviceError> {
        self.memory.lock().unwrap().blocks.remove(&at.raw()).expect("freed twice");
        Ok(())
    }
    fn load_kernel(&self, binary: &KernelBinary) -> Result<Kernel, DeviceError> {
        let body: Body = match binary.ptx.as_str() {
            "axpy" => axpy,
            "reverse" => reverse,
            "add" => add,
            other => panic!("no kernel {other}"),
        };
        let mut loaded = self.loaded.lock().unwrap();
        let id = loaded.len() as u64;
        loaded.insert(id, body);
        let kernel = Kernel::from_raw(id);
        self.handles.lock().unwrap().push(kernel);
        Ok(kernel)
    }
    fn unload_kernel(&self, kernel: Kernel) -> Result<(), DeviceError> {
        self.handles.lock().unwrap().retain(|&k| k != kernel);
        Ok(())
    }
    fn launch(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        _: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        let body = self.loaded.lock().unwrap()[&kernel.raw()];
        let args: Vec<u64> = args.iter().map(|a| a.raw()).collect();
        body(blocks, &args, &mut self.memory.lock().unwrap());
        Ok(None)
    }
    fn residency(&self, _: Kernel) -> Result<Residency, DeviceError> {
        Ok(Residency { sms: 1, blocks_per_sm: 1 })
    }

    fn launch_cooperative(
        &self,
        kernel: Kernel,
        blocks: u32,
        args: &[DevicePtr],
        stream: Stream,
    ) -> Result<Option<Counters>, DeviceError> {
        self.launch(kernel, blocks, args, stream)
    }

    fn graph(&self, nodes: &[Node]) -> Result<Graph, DeviceError> {
        let mut graphs = self.graphs.lock().unwrap();
        graphs.0 += 1;
        let id = graphs.0;
        graphs.1.insert(id, nodes.to_vec());
        Ok(Graph::from_raw(id))
    }
    fn replay(&self, graph: Graph, stream: Stream) -> Result<Option<Vec<Counters>>, DeviceError> {
        let nodes = self.graphs.lock().unwrap().1[&graph.raw()].clone();
        for node in nodes {
            self.launch(node.kernel, node.blocks, &node.args, stream)?;
        }
        Ok(None)
    }
    fn free_graph(&self, graph: Graph) -> Result<(), DeviceError> {
        self.graphs.lock().unwrap().1.remove(&graph.raw()).expect("freed twice");
        Ok(())
    }
    fn synchronize(&self, _: Stream) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[allow(unsafe_code)]
fn pointer(at: u64) -> DevicePtr {
    // SAFETY: an address of this file's own memory, which checks every access.
    unsafe { DevicePtr::from_raw(at) }
}

fn binary(name: &str) -> KernelBinary {
    KernelBinary {
        name: name.into(),
        ptx: name.into(),
        cubin: vec![],
        threads: 32,
        shared_bytes: 0,
        resources: Resources::default(),
    }
}

fn kernels() -> Vec<KernelBinary> {
    ["axpy", "reverse", "add"].map(binary).to_vec()
}

/// A step over vectors of length `n`, a symbol in 0..=8.
struct Builder(Step);

impl Builder {
    fn new() -> Builder {
        let mut step = Step::default();
        step.symbols.push(SymData { name: "n".into(), min: 0, max: 8 });
        Builder(step)
    }
    fn buffer(&mut self, name: &str, kind: BufferKind) -> Buffer {
        let dims = vec![Extent::Sym(Sym::from_u32(0))];
        if matches!(kind, BufferKind::Arena(_)) {
            self.0.arena_bytes += 32;
        }
        self.0.buffers.push(BufferData { name: name.into(), dtype: DType::F32, dims, kind, packing: None })
    }
    fn launch(&mut self, kernel: &str, args: &[(Buffer, bool)]) {
        self.0.launches.push(Launch {
            kernel: kernel.into(),
            region: "r".into(),
            args: args.iter().map(|a| a.0).collect(),
            writes: args.iter().map(|a| a.1).collect(),
            grid: vec![GridAxis { extent: Extent::Sym(Sym::from_u32(0)), block: 4 }],
            beside: false,
        });
    }
}

fn session(device: &Arc<HostDevice>, source: impl TensorSource + 'static, separate: bool) -> Arc<Session> {
    let device: Arc<dyn Device> = device.clone();
    Session::new(device, Arc::new(source), SessionOptions { separate_buffers: separate })
}

fn floats(values: &[f32]) -> Vec<u8> {
    encode(DType::F32, values.iter().map(|&v| f64::from(v)))
}

/// y = reverse(2 a + b) through a temporary, with b a weight of another type.
fn two_launches() -> (Step, MemoryTensors) {
    let mut s = Builder::new();
    // A pad before the temporary gives it an offset.
    s.buffer("pad", BufferKind::Arena(0));
    let a = s.buffer("a", BufferKind::Input);
    let b = s.buffer("b", BufferKind::Weight("w".into()));
    let t = s.buffer("t", BufferKind::Arena(32));
    let y = s.buffer("y", BufferKind::Output);
    s.launch("axpy", &[(a, false), (b, false), (t, true)]);
    s.launch("reverse", &[(t, false), (y, true)]);
    let mut tensors = MemoryTensors::default();
    tensors.insert("w", DType::Bf16, &[2, 4], encode(DType::Bf16, (0..8).map(|i| f64::from(i) * 100.0)));
    (s.0, tensors)
}

#[test]
fn a_step_runs_with_any_value_of_its_symbols() {
    for separate in [false, true] {
        let device = Arc::new(HostDevice::default());
        {
            let (step, tensors) = two_launches();
            let session = session(&device, tensors, separate);
            let exe = session.prepare(&step, &kernels()).unwrap();
            for n in [3i64, 8, 1, 0, 3] {
                let a: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
                let result = exe.run(&[("n", n)], &[("a", &floats(&a))]).unwrap();
                let y = result.output("y").unwrap();
                assert_eq!(y.dims, [n as u64]);
                let expected: Vec<f64> =
                    (0..n).rev().map(|i| 2.0 * f64::from(a[i as usize]) + i as f64 * 100.0).collect();
                assert_eq!(decode(DType::F32, &y.data), expected);
                let blocks: Vec<u32> = result.launches.iter().map(|l| l.blocks).collect();
                assert_eq!(blocks, if n == 0 { vec![] } else { vec![(n as u32).div_ceil(4); 2] });
            }
        }
        assert_eq!(device.live(), 0, "everything was freed");
        assert!(device.handles.lock().unwrap().is_empty(), "everything was unloaded");
    }
}

#[test]
fn one_graph_serves_all_runs_with_inputs_of_one_size() {
    let device = Arc::new(HostDevice::default());
    {
        // The second symbol sizes a grid and no input; the kernel itself asks for its value.
        let (mut step, tensors) = two_launches();
        let m = step.symbols.push(SymData { name: "m".into(), min: 0, max: 40 });
        step.launches[0].grid = vec![GridAxis { extent: Extent::Sym(m), block: 4 }];
        let exe = session(&device, tensors, false).prepare(&step, &kernels()).unwrap();
        let made = || device.graphs.lock().unwrap().0;
        let mut results = Vec::new();
        for mode in [Mode::Launch, Mode::Graph] {
            for (n, m) in [(3i64, 1i64), (3, 40), (3, 7), (2, 7), (3, 1)] {
                let a = floats(&[1.5, -2.0, 4.0][..n as usize]);
                let result = exe.run_as(mode, &[("n", n), ("m", m)], &[("a", &a)]).unwrap();
                let blocks = result.launches[0].blocks;
                assert_eq!(blocks, if mode == Mode::Graph { 10 } else { (m as u32).div_ceil(4) });
                results.push((mode, result.outputs));
            }
        }
        for (launched, replayed) in results[..5].iter().zip(&results[5..]) {
            assert_eq!((launched.0, replayed.0), (Mode::Launch, Mode::Graph));
            assert_eq!(launched.1, replayed.1);
        }
        assert_eq!(made(), 3, "one for three runs of 3, one for 2, one for 3 again");
        assert_eq!(device.graphs.lock().unwrap().1.len(), 1);
        assert!(exe.run_as(Mode::Graph, &[("n", 3), ("m", 41)], &[("a", &floats(&[0.0; 3]))]).is_err());
    }
    assert_eq!(device.live(), 0, "everything was freed");
    assert!(device.graphs.lock().unwrap().1.is_empty());
}

#[test]
fn an_observer_sees_every_buffer_before_and_after_each_launch() {
    let device = Arc::new(HostDevice::default());
    let (step, tensors) = two_launches();
    let (t, y) = (Buffer::from_u32(3), Buffer::from_u32(4));
    let exe = session(&device, tensors, false).prepare(&step, &kernels()).unwrap();
    let mut seen = Vec::new();
    exe.run_observed(&[("n", 2)], &[("a", &floats(&[1.0, 2.0]))], &mut |moment| {
        let written = if moment.entries.start == 0 { t } else { y };
        let values = moment.read(written)?.values();
        seen.push((moment.entries.start, moment.done, moment.done.then_some(values)));
        Ok(())
    })
    .unwrap();
    let expected = [
        (0, false, None),
        (0, true, Some(vec![2.0, 104.0])),
        (1, false, None),
        (1, true, Some(vec![104.0, 2.0])),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn weights_and_states_are_shared_by_the_steps_of_a_session() {
    let device = Arc::new(HostDevice::default());
    let (first, tensors) = two_launches();
    let session = session(&device, tensors, false);
    let _one = session.prepare(&first, &kernels()).unwrap();
    let _two = session.prepare(&first, &kernels()).unwrap();
    assert_eq!(*device.uploads.lock().unwrap(), ["w"], "the weight is there once");

    let mut s = Builder::new();
    let state = s.buffer("s", BufferKind::State);
    let x = s.buffer("x", BufferKind::Input);
    s.launch("add", &[(state, true), (x, false)]);
    let (p, q) = (session.prepare(&s.0, &kernels()).unwrap(), session.prepare(&s.0, &kernels()).unwrap());
    p.run(&[("n", 2)], &[("x", &floats(&[1.0, 2.0]))]).unwrap();
    q.run(&[("n", 3)], &[("x", &floats(&[10.0, 20.0, 30.0]))]).unwrap();
    let read = || decode(DType::F32, &p.read_state("s").unwrap().data);
    assert_eq!(read(), [11.0, 22.0, 30.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    session.reset_states().unwrap();
    assert_eq!(read(), [0.0; 8]);
    session.spoil_states().unwrap();
    assert!(read().iter().all(|x| x.is_nan()));

    // Another step with another idea of the state.
    let mut other = s.0.clone();
    other.buffers[state].dtype = DType::F64;
    assert!(matches!(session.prepare(&other, &kernels()), Err(ExecError::BadStep(m)) if m.contains("`s`")));
}

#[test]
fn tables_are_computed() {
    let device = Arc::new(HostDevice::default());
    let mut s = Builder::new();
    let a = s.buffer("a", BufferKind::Input);
    let table = s.buffer("t", BufferKind::Table(Table::Values((0..8).map(f64::from).collect())));
    let y = s.buffer("y", BufferKind::Output);
    s.launch("axpy", &[(a, false), (table, false), (y, true)]);
    let exe = session(&device, NoTensors, false).prepare(&s.0, &kernels()).unwrap();
    let y = exe.run(&[("n", 3)], &[("a", &floats(&[0.0; 3]))]).unwrap();
    assert_eq!(y.outputs[0].1.values(), [0.0, 1.0, 2.0]);
}

#[test]
fn bad_calls_are_named_errors() {
    let device = Arc::new(HostDevice::default());
    let (step, tensors) = two_launches();
    let session = session(&device, tensors, false);
    let exe = session.prepare(&step, &kernels()).unwrap();
    let good = floats(&[1.0, 2.0]);
    let error = |symbols: &[(&str, i64)], inputs: &[(&str, &[u8])]| exe.run(symbols, inputs).unwrap_err();
    assert!(matches!(error(&[("n", 2)], &[]), ExecError::MissingBuffer { .. }));
    assert!(matches!(error(&[("n", 2)], &[("a", &good), ("z", &good)]), ExecError::UnknownBuffer { .. }));
    assert!(matches!(error(&[("n", 2)], &[("a", &good), ("y", &good)]), ExecError::UnknownBuffer { .. }));
    assert!(matches!(error(&[("n", 3)], &[("a", &good)]), ExecError::BufferSize { wanted: 12, .. }));
    assert!(matches!(error(&[("n", 9)], &[("a", &good)]), ExecError::SymbolRange { .. }));
    assert!(matches!(error(&[], &[("a", &good)]), ExecError::MissingSymbol { .. }));
}

#[test]
fn defective_steps_are_refused() {
    let device = Arc::new(HostDevice::default());
    let try_with = |change: &dyn Fn(&mut Step), kernels: &[KernelBinary]| {
        let (mut step, tensors) = two_launches();
        change(&mut step);
        session(&device, tensors, false).prepare(&step, kernels).map(|_| ()).unwrap_err().to_string()
    };
    assert!(try_with(&|_| (), &[binary("axpy")]).contains("`reverse` was not compiled"));
    assert!(try_with(&|s| s.arena_bytes = 63, &kernels()).contains("beyond the end"));
    assert!(try_with(&|s| s.launches[0].writes[0] = true, &kernels()).contains("constant"));
    assert!(try_with(&|s| s.launches[0].writes.truncate(2), &kernels()).contains("writes"));
    assert!(try_with(&|s| s.launches[0].args[0] = Buffer::from_u32(99), &kernels()).contains("b99"));
    assert!(try_with(&|s| s.buffers[Buffer::from_u32(0)].name = "t".into(), &kernels()).contains("`t`"));
    let weight = |name: &str| BufferKind::Weight(name.into());
    assert!(try_with(&|s| s.buffers[Buffer::from_u32(2)].kind = weight("v"), &kernels()).contains("`v`"));
    let wide = |s: &mut Step| s.buffers[Buffer::from_u32(2)].dims = vec![Extent::Const(9)];
    assert!(try_with(&wide, &kernels()).contains("8 elements"));
    let inner = |s: &mut Step| s.buffers[Buffer::from_u32(2)].dims.insert(0, Extent::Const(1));
    assert!(try_with(&inner, &kernels()).contains("symbolic"));
    assert_eq!(device.live(), 0);
}

#[test]
fn the_callers_memory_may_alias_where_it_is_declared() {
    let device = Arc::new(HostDevice::default());
    let mut s = Builder::new();
    let x = s.buffer("x", BufferKind::Input);
    let y = s.buffer("y", BufferKind::Output);
    s.launch("reverse", &[(x, false), (y, true)]);
    let (two, tensors) = two_launches();
    let session = session(&device, tensors, false);
    let one = session.prepare(&s.0, &kernels()).unwrap();
    let two = session.prepare(&two, &kernels()).unwrap();

    let memory = device.alloc("caller", 64).unwrap();
    let bind = |name, offset, n| Binding { name, at: pointer(memory.raw() + offset), bytes: n };
    let write = |values: &[f32]| device.upload(memory, &floats(values), Stream::Own).unwrap();
    let read = |n: usize| {
        let mut data = vec![0; 4 * n];
        device.download(memory, &mut data, Stream::Own).unwrap();
        decode(DType::F32, &data)
    };
    let n = [("n", 3)];

    // Apart.
    write(&[1.0, 2.0, 3.0]);
    one.launch(&n, &[bind("x", 0, 12), bind("y", 12, 12)], &[], Stream::Own).unwrap();
    assert_eq!(read(6), [1.0, 2.0, 3.0, 3.0, 2.0, 1.0]);

    // Overlapping, without and with a declaration; one kernel reads and writes, so it takes a detour.
    let alias = |output, input| Alias { output, input };
    for offset in [0, 4, 8] {
        let error = one.launch(&n, &[bind("x", 0, 12), bind("y", offset, 12)], &[], Stream::Own);
        assert!(matches!(error, Err(ExecError::Overlap { .. })), "{offset}");
    }
    let both = [bind("x", 0, 12), bind("y", 0, 12)];
    one.launch(&n, &both, &[alias("y", "x")], Stream::Own).unwrap();
    assert_eq!(read(3), [3.0, 2.0, 1.0]);

    // The last read comes before the first write: in place.
    write(&[1.0, 2.0, 3.0]);
    let live = device.live();
    two.launch(&n, &[bind("a", 0, 12), bind("y", 0, 12)], &[alias("y", "a")], Stream::Own).unwrap();
    assert_eq!(read(3), [206.0, 104.0, 2.0]);
    assert_eq!(device.live(), live, "no temporary memory was needed");

    // Declarations that are not true.
    let error =
        |aliases: &[Alias<'_>], y| one.launch(&n, &[bind("x", 0, 12), y], aliases, Stream::Own).unwrap_err();
    assert!(matches!(error(&[alias("y", "x")], bind("y", 16, 12)), ExecError::Alias { .. }));
    assert!(matches!(error(&[alias("x", "y")], bind("y", 0, 12)), ExecError::Alias { .. }));
    assert!(matches!(error(&[], bind("y", 16, 8)), ExecError::BufferSize { .. }));
    assert!(matches!(error(&[], bind("z", 16, 12)), ExecError::UnknownBuffer { .. }));
    let missing = one.launch(&n, &[bind("x", 0, 12)], &[], Stream::Own);
    assert!(matches!(missing, Err(ExecError::MissingBuffer { what: "output", .. })));
}

#[test]
fn the_api_may_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Session>();
    check::<tilewright_runtime::exec::Executable>();
    check::<tilewright_runtime::device::CudaDevice>();
    check::<tilewright_runtime::device::EmulatedDevice>();
    check::<ExecError>();
}
