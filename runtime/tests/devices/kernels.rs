//! Compiling through the cache.

use tilewright_ir::artifact::{KernelSource, Resources};
use tilewright_runtime::cache::Store;
use tilewright_runtime::kernels::{KernelCompiler, Tally};
use tilewright_runtime::nvrtc::NvrtcError;
use tilewright_runtime::testing::nvrtc;

/// How many came from the cache, and from the compiler.
fn counts(tally: &Tally) -> (usize, usize) {
    (tally.cached, tally.compiled)
}

fn kernel(name: &str, body: &str) -> KernelSource {
    KernelSource {
        name: name.to_owned(),
        cuda: format!("extern \"C\" __global__ void {name}(float* p) {{ {body} }}"),
        threads: 64,
        shared_bytes: 8,
    }
}

fn read_log(log: &str, _: &str) -> Resources {
    // The log also says how long it took, so its length differs from time to time.
    Resources { registers: u32::from(!log.is_empty()), ..Resources::default() }
}

#[test]
fn a_second_time_comes_from_the_cache_and_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let options = ["--ptxas-options=-v".to_owned()];
    let compiler =
        KernelCompiler { nvrtc: nvrtc(), store: Some(&store), arch: "sm_80", options: &options, read_log };
    let sources: Vec<_> = (0..7).map(|i| kernel(&format!("k{i}"), &format!("p[{i}] = {i};"))).collect();
    let (first, tally) = compiler.compile_all(&sources, &|_, _| ()).unwrap();
    assert_eq!(counts(&tally), (0, 7));
    // Newer ones say what their parts took: the front end, the optimizer, the translation.
    assert!(nvrtc().version().0 < 13 || tally.parts.len() >= 3, "{:?}", tally.parts);
    assert!(
        first
            .iter()
            .zip(&sources)
            .all(|(b, s)| b.name == s.name && b.threads == 64 && b.resources.registers > 0)
    );
    let (second, tally) = compiler.compile_all(&sources, &|_, _| ()).unwrap();
    assert_eq!((counts(&tally), tally.parts.len()), ((7, 0), 0), "nothing was compiled");
    assert_eq!(first, second);

    // Whatever a binary depends on makes another entry.
    for other in [KernelCompiler { arch: "sm_90", ..compiler }, KernelCompiler { options: &[], ..compiler }] {
        assert_eq!(other.compile_all(&sources[..1], &|_, _| ()).map(|(_, t)| counts(&t)).unwrap(), (0, 1));
    }
    let mut wider = sources[0].clone();
    wider.threads = 128;
    assert_eq!(compiler.compile_all(&[wider], &|_, _| ()).map(|(_, t)| counts(&t)).unwrap(), (0, 1));

    // Damage is noticed and mended.
    for sub in std::fs::read_dir(dir.path()).unwrap().flatten() {
        for entry in std::fs::read_dir(sub.path()).unwrap().flatten() {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(entry.path(), bytes).unwrap();
        }
    }
    let (third, tally) = compiler.compile_all(&sources, &|_, _| ()).unwrap();
    assert_eq!((third, counts(&tally)), (first, (0, 7)));
    assert_eq!(store.take_warnings().len(), 7);
}

#[test]
fn the_first_bad_kernel_is_named_and_progress_is_complete() {
    let compiler = KernelCompiler { nvrtc: nvrtc(), store: None, arch: "sm_80", options: &[], read_log };
    let sources = [kernel("good", "p[0] = 0;"), kernel("bad", "oops;"), kernel("fine", "p[0] = 0;")];
    match compiler.compile_all(&sources, &|_, _| ()) {
        Err(NvrtcError::Compilation { kernel, .. }) => assert_eq!(kernel, "bad"),
        other => panic!("{other:?}"),
    }
    let most = std::sync::atomic::AtomicUsize::new(0);
    compiler
        .compile_all(&sources[..1], &|done, total| {
            assert_eq!(total, 1);
            most.fetch_max(done, std::sync::atomic::Ordering::Relaxed);
        })
        .unwrap();
    assert_eq!(most.into_inner(), 1);
    assert_eq!(compiler.compile_all(&[], &|_, _| ()).unwrap().0, []);
}
