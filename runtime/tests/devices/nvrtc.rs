//! Compiling real sources with a real NVRTC.

use tilewright_ir::artifact::KernelSource;
use tilewright_runtime::nvrtc::{Nvrtc, NvrtcError};
use tilewright_runtime::testing::{nvrtc, toolchain};

fn kernel(name: &str, body: &str) -> KernelSource {
    KernelSource {
        name: name.to_owned(),
        cuda: format!("extern \"C\" __global__ void {name}(float* p, const int* sy) {{ {body} }}"),
        threads: 32,
        shared_bytes: 0,
    }
}

#[test]
fn one_run_gives_ptx_cubin_and_log() {
    let source = kernel("twice", "p[threadIdx.x] = 2.0f * p[threadIdx.x];");
    let options = ["--ptxas-options=-v".to_owned(), "--fmad=false".to_owned()];
    for (arch, target) in [("sm_80", ".target sm_80"), ("sm_90a", ".target sm_90a")] {
        let done = nvrtc().compile(&source, arch, &options).unwrap();
        assert!(done.ptx.contains(target) && done.ptx.contains(".entry twice"), "{}", done.ptx);
        assert!(done.cubin.starts_with(b"\x7fELF"));
        assert!(done.log.contains("registers"), "{}", done.log);
    }
}

#[test]
fn a_virtual_architecture_has_no_cubin() {
    let done = nvrtc().compile(&kernel("k", "p[0] = 1;"), "compute_80", &[]).unwrap();
    assert!(done.cubin.is_empty() && done.ptx.contains(".entry k"));
}

#[test]
fn an_architecture_among_the_options_does_not_count() {
    let done =
        nvrtc().compile(&kernel("k", "p[0] = 1;"), "sm_80", &["--gpu-architecture=sm_90".into()]).unwrap();
    assert!(done.ptx.contains(".target sm_80"));
}

#[test]
fn unknown_targets_are_named() {
    for arch in ["sm_12", "sm_80z", "sm_80a", "gfx90a", "", "sm_"] {
        match nvrtc().compile(&kernel("k", ""), arch, &[]) {
            Err(NvrtcError::Arch { arch: named, known, .. }) => {
                assert_eq!(named, arch);
                assert!(known.contains("sm_80"));
            }
            other => panic!("{arch}: {other:?}"),
        }
    }
}

#[test]
fn errors_of_the_compiler_carry_its_log() {
    match nvrtc().compile(&kernel("bad", "no_such_function();"), "sm_80", &[]) {
        Err(NvrtcError::Compilation { kernel, log, .. }) => {
            assert_eq!(kernel, "bad");
            assert!(log.contains("no_such_function"), "{log}");
        }
        other => panic!("{other:?}"),
    }
    match nvrtc().compile(&kernel("k", ""), "sm_80", &["--no-such-option".into()]) {
        Err(NvrtcError::Compilation { log, .. }) => assert!(log.contains("no-such-option"), "{log}"),
        other => panic!("{other:?}"),
    }
    let mut zero = kernel("k", "");
    zero.cuda.push('\0');
    assert!(matches!(nvrtc().compile(&zero, "sm_80", &[]), Err(NvrtcError::ZeroByte { .. })));
}

#[test]
fn many_threads_compile_at_once() {
    std::thread::scope(|scope| {
        for t in 0..4 {
            scope.spawn(move || {
                for i in 0..4 {
                    let name = format!("k{t}_{i}");
                    let done =
                        nvrtc().compile(&kernel(&name, &format!("p[0] = {i}.5f;")), "sm_80", &[]).unwrap();
                    assert!(done.ptx.contains(&name));
                }
            });
        }
    });
}

#[test]
fn the_path_that_was_found_works_as_the_explicit_one() {
    let found = nvrtc();
    if found.path().is_absolute() {
        let mut explicit = toolchain();
        explicit.nvrtc = Some(found.path().to_owned());
        assert_eq!(Nvrtc::find(&explicit).unwrap().version(), found.version());
    }
}
