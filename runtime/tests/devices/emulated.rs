//! From source to numbers: NVRTC, the emulator, and a step with weights that are mapped in place.

use std::sync::Arc;

use tilewright_ir::artifact::{KernelBinary, KernelSource, Resources};
use tilewright_ir::step::{BufferData, BufferKind, GridAxis, Launch, Step};
use tilewright_ir::{DType, Extent, Sym, SymData};
use tilewright_runtime::device::{Device, DeviceError, DeviceSpec, EmulatedDevice, EmulatorOptions, Stream};
use tilewright_runtime::exec::{Array, ExecError, MemoryTensors, NoTensors, Session, SessionOptions};
use tilewright_runtime::kernels::KernelCompiler;
use tilewright_runtime::testing::nvrtc;
use tilewright_runtime::values::encode;

const BLOCK: u32 = 64;

fn compile(name: &str, params: &str, body: &str) -> KernelBinary {
    let source = KernelSource {
        name: name.into(),
        cuda: format!("extern \"C\" __global__ void {name}({params}, const int* sy) {{ {body} }}"),
        threads: BLOCK,
        shared_bytes: 0,
    };
    let compiler = KernelCompiler {
        nvrtc: nvrtc(),
        store: None,
        arch: "sm_80",
        options: &["--fmad=false".into()],
        read_log: |_, _| Resources::default(),
    };
    compiler.compile(&source).unwrap().0
}

/// y[i, c] = x[i, c] * w[c] for i below a symbol and three columns.
fn scaled_rows() -> (Step, KernelBinary) {
    let kernel = compile(
        "scaled_rows",
        "const float* __restrict__ x, const float* __restrict__ w, float* y",
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < sy[1] * 3) y[i] = x[i] * w[i % 3];",
    );
    let mut step = Step::default();
    step.symbols.push(SymData { name: "unused".into(), min: 0, max: 5 });
    let rows = step.symbols.push(SymData { name: "rows".into(), min: 0, max: 1000 });
    let mut buffer = |name: &str, dims: Vec<Extent>, kind| {
        step.buffers.push(BufferData { name: name.into(), dtype: DType::F32, dims, kind, packing: None })
    };
    let matrix = vec![Extent::Sym(rows), Extent::Const(3)];
    let x = buffer("x", matrix.clone(), BufferKind::Input);
    let w = buffer("w", vec![Extent::Const(3)], BufferKind::Weight("w".into()));
    let y = buffer("y", matrix, BufferKind::Output);
    step.launches.push(Launch {
        kernel: kernel.name.clone(),
        region: "all".into(),
        args: vec![x, w, y],
        writes: vec![false, false, true],
        // Three positions in the last axis, all in one block of four.
        grid: vec![
            GridAxis { extent: Extent::Sym(rows), block: BLOCK / 4 },
            GridAxis { extent: Extent::Const(3), block: 4 },
        ],
        beside: false,
    });
    (step, kernel)
}

fn tensors() -> MemoryTensors {
    let mut tensors = MemoryTensors::default();
    tensors.insert("w", DType::F32, &[3], encode(DType::F32, [0.5, -2.0, 3.0]));
    tensors
}

#[test]
fn a_step_runs_on_the_emulator_and_is_counted() {
    let (step, kernel) = scaled_rows();
    let device = Arc::new(EmulatedDevice::open(None).unwrap());
    let session = Session::new(device, Arc::new(tensors()), SessionOptions::default());
    let exe = session.prepare(&step, &[kernel]).unwrap();
    for rows in [1u64, 31, 1000, 0, 7] {
        let x: Vec<f64> = (0..rows * 3).map(|i| i as f64 - 10.0).collect();
        let x = Array::new(DType::F32, &[rows, 3], &x).unwrap();
        let symbols = [("rows", rows as i64), ("unused", 0)];
        let result = exe.run(&symbols, &[("x", &x.data)]).unwrap();
        let y = result.output("y").unwrap();
        assert_eq!(y.dims, [rows, 3]);
        let expected: Vec<f64> =
            x.values().iter().enumerate().map(|(i, v)| v * [0.5, -2.0, 3.0][i % 3]).collect();
        assert_eq!(y.values(), expected);
        if rows == 0 {
            assert!(result.launches.is_empty());
            continue;
        }
        let counters = result.launches[0].counters.as_ref().unwrap();
        assert_eq!(counters.buffers["y"].unique_written_sectors, (rows * 12).div_ceil(32));
        assert_eq!(counters.buffers["w"].unique_read_sectors, 1);
        assert_eq!(counters.flops_f32, rows * 3);
    }
}

#[test]
fn an_access_beyond_a_buffer_is_a_fault_that_names_the_kernel() {
    let kernel = compile("beyond", "float* y", "y[threadIdx.x] = 1.0f;");
    let mut step = Step::default();
    let n = step.symbols.push(SymData { name: "n".into(), min: 1, max: 64 });
    let dims = vec![Extent::Sym(n)];
    let y = step.buffers.push(BufferData {
        name: "y".into(),
        dtype: DType::F32,
        dims,
        kind: BufferKind::Output,
        packing: None,
    });
    step.launches.push(Launch {
        kernel: "beyond".into(),
        region: "all".into(),
        args: vec![y],
        writes: vec![true],
        grid: vec![],
        beside: false,
    });
    let device = Arc::new(EmulatedDevice::open(Some("tiny1")).unwrap());
    let session = Session::new(device, Arc::new(NoTensors), SessionOptions::default());
    let exe = session.prepare(&step, &[kernel]).unwrap();
    assert_eq!(exe.run(&[("n", 64)], &[]).unwrap().outputs[0].1.values(), [1.0; 64]);
    match exe.run(&[("n", 63)], &[]) {
        Err(ExecError::Device(DeviceError::Launch(fault))) => {
            assert!(fault.to_string().contains("beyond"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    let _: Sym = n;
}

#[test]
fn a_launch_with_findings_fails_when_checks_are_on() {
    use tilewright_emulator::{FindingKind, Profile, Sanitize};
    let body = |sync: &str| {
        format!(
            "__shared__ float s[64]; s[threadIdx.x] = y[threadIdx.x]; {sync} y[threadIdx.x] = s[63 - threadIdx.x];"
        )
    };
    for sanitize in [Sanitize::default(), Sanitize::ALL] {
        let options = EmulatorOptions { sanitize, ..EmulatorOptions::default() };
        let device = EmulatedDevice::new(Profile::default(), &options);
        let at = device.alloc("y", 256).unwrap();
        device.upload(at, &[0; 256], Stream::Own).unwrap();
        for (name, sync) in [("ordered", "__syncthreads();"), ("racing", "")] {
            let kernel = device.load_kernel(&compile(name, "float* y", &body(sync))).unwrap();
            let ran = device.launch(kernel, 1, &[at, at], Stream::Own);
            if sync.is_empty() && sanitize == Sanitize::ALL {
                let Err(DeviceError::Findings(f)) = ran else { panic!("{ran:?}") };
                // Without the barrier the first warp also reads what the second has not written yet.
                let expected = |k| matches!(k, FindingKind::Race | FindingKind::Uninit);
                assert!(f.iter().all(|f| expected(f.kind) && f.kernel == "racing"), "{f:?}");
                assert!(f.iter().any(|f| f.kind == FindingKind::Race), "{f:?}");
            } else {
                ran.unwrap();
            }
        }
    }
}

#[test]
fn kernels_that_do_not_fit_the_device_are_named_errors() {
    let device = EmulatedDevice::open(None).unwrap();
    let mut kernel = compile("k", "float* y", "y[0] = 1.0f;");
    let good = device.load_kernel(&kernel).unwrap();
    let at = device.alloc("y", 4).unwrap();
    assert!(matches!(device.launch(good, 1, &[at], Stream::Own), Err(DeviceError::Load { .. })));
    device.unload_kernel(good).unwrap();
    assert!(matches!(device.launch(good, 1, &[at, at], Stream::Own), Err(DeviceError::UnknownKernel(_))));
    kernel.name = "other".into();
    assert!(matches!(device.load_kernel(&kernel), Err(DeviceError::Load { .. })));
    kernel.ptx = "no ptx".into();
    assert!(matches!(device.load_kernel(&kernel), Err(DeviceError::Ptx { .. })));
    device.free(at).unwrap();
    assert!(matches!(device.free(at), Err(DeviceError::Memory(_))));
    assert!(matches!(EmulatedDevice::open(Some("h900")), Err(DeviceError::Profile { .. })));
}

#[test]
fn devices_open_by_name_and_auto_always_works() {
    let auto = DeviceSpec::Auto.open().unwrap();
    assert_eq!(auto.note.is_some(), auto.device.arch().is_none());
    assert!(DeviceSpec::Emulator(Some("a100".into())).open().is_ok());
    match DeviceSpec::Cuda(4096).open() {
        Err(DeviceError::NoDriver | DeviceError::NoDevice { .. } | DeviceError::Driver { .. }) => {}
        other => panic!("{:?}", other.map(|o| o.device.name().to_owned())),
    }
}
