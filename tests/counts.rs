//! What: limits of what kernels do to memory, counted on the emulator.
//! Why here: a slowdown that shows in traffic fails on any machine.
//! Pre: NVRTC. Limits are in `tests/counts`, one table per case; `usual.toml` holds for all.
//! Post: every case of the benchmarks for the emulator was counted and held to its limits, and kernels that are worse on
//! purpose were caught.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tilewright::bench::bars::Bars;
use tilewright::bench::counts::Counts;
use tilewright::bench::probe::{Maker, Memory, Source};
use tilewright::bench::record::{Status, Suite};
use tilewright::bench::{self, Settings};
use tilewright_runtime::testing::{nvrtc, toolchain};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/counts")
}

fn usual() -> Bars {
    toml::from_str(&std::fs::read_to_string(folder().join("usual.toml")).unwrap()).unwrap()
}

/// The own limits of all cases.
fn own() -> BTreeMap<String, Bars> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|n| n == "usual.toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let table: BTreeMap<String, Bars> =
            toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for (case, bars) in table {
            assert!(all.insert(case.clone(), bars).is_none(), "`{case}` has limits twice");
        }
    }
    all
}

#[test]
fn every_case_keeps_its_limits() {
    nvrtc();
    let settings = Settings {
        toolchain: toolchain(),
        device: "emulator".parse().unwrap(),
        target: None,
        suites: vec![Suite::Kernels, Suite::Steps],
        modes: vec!["launch".into()],
        filter: None,
        quick: false,
        seconds: None,
        seed: 1,
        session: None,
        profile: None,
        listener: Default::default(),
    };
    let results = bench::run(&settings, |_| ()).unwrap();
    let (usual, mut own) = (usual(), own());
    let mut broken = Vec::new();
    for row in &results.rows {
        assert_eq!(row.status, Status::Ok, "{}: {:?}", row.case, row.reason);
        let counts = row.counts.as_ref().expect("counts of the emulator");
        let bars = own.remove(&row.case).unwrap_or_default().or(&usual);
        let layers = row.kernels.and_then(|k| k.launches_per_layer);
        for what in bars.broken(counts, row.flops.unwrap_or(0), layers) {
            broken.push(format!("{}: {what}", row.case));
        }
    }
    assert!(broken.is_empty(), "limits of tests/counts are broken:\n{}", broken.join("\n"));
    assert!(own.is_empty(), "limits of cases that are not there: {:?}", own.keys());
}

#[test]
fn what_is_looser_than_usual_has_a_reason() {
    let usual = usual();
    for (case, bars) in own() {
        let looser = [
            (bars.bytes_over_floor, usual.bytes_over_floor),
            (bars.rereads, usual.rereads),
            (bars.large_sectors_over_ideal, usual.large_sectors_over_ideal),
            (bars.conflicts, usual.conflicts),
            (bars.loop_conflicts.map(|n| n as f64), usual.loop_conflicts.map(|n| n as f64)),
            (bars.local_bytes.map(|n| n as f64), usual.local_bytes.map(|n| n as f64)),
        ]
        .into_iter()
        .any(|(own, usual)| own > usual && own.is_some());
        let reason = bars.reason.as_deref().unwrap_or("");
        assert!(
            !looser || reason.len() > 20,
            "`{case}` has limits that are looser than usual, and no reason"
        );
    }
}

/// Copies rows; `at` says which element a thread takes.
fn copy(at: &str) -> String {
    format!(
        "extern \"C\" __global__ void k(const float* x, float* y, const int* p) {{
             const int i = blockIdx.x * 256 + threadIdx.x;
             const int at = {at};
             y[at] = x[at];
         }}"
    )
}

/// Turns tiles of 32 x 32 around in shared memory, whose rows are `row` words long.
fn turn(row: u32) -> String {
    format!(
        "extern \"C\" __global__ void k(const float* x, float* y, const int* p) {{
             __shared__ float s[32 * {row}];
             for (int round = 0; round < p[0]; ++round) {{
                 const int tile = (blockIdx.x * p[0] + round) * 1024;
                 for (int i = threadIdx.x; i < 1024; i += 256) s[i / 32 * {row} + i % 32] = x[tile + i];
                 __syncthreads();
                 for (int i = threadIdx.x; i < 1024; i += 256) y[tile + i] = s[i % 32 * {row} + i / 32];
                 __syncthreads();
             }}
         }}"
    )
}

/// What a kernel does to 128 KiB of input and as much output, and whether the output is what `expected` says.
fn count(cuda: &str, blocks: u32, expected: impl Fn(usize) -> usize) -> Counts {
    nvrtc();
    let device = "emulator".parse::<tilewright::DeviceSpec>().unwrap().open().unwrap().device;
    let maker = Maker::new(&toolchain(), &device, None).unwrap();
    // Sources of tests live as long as the process.
    let cuda: &'static str = Box::leak(cuda.to_owned().into_boxed_str());
    let kernel = maker.make(&Source { name: "k", cuda, threads: 256, shared_bytes: 0, arch: 80 }).unwrap();
    let words: Vec<i32> = (0..1 << 15).map(|i: i32| i.wrapping_mul(0x9e37)).collect();
    let x = maker.words("x", &words).unwrap();
    let y: Memory = maker.zeros("y", x.len()).unwrap();
    let p = maker.words("p", &[4, 0]).unwrap();
    let counters = kernel.launch_counted(blocks, &[&x, &y, &p]).unwrap().unwrap();
    for (i, found) in y.read_words().unwrap().into_iter().enumerate() {
        assert_eq!(found, words[expected(i)].cast_unsigned(), "element {i}");
    }
    let mut counts = Counts::default();
    counts.add(&counters);
    let buffers = counters.buffers.values();
    counts.hbm_bytes = buffers.map(|b| 32 * (b.unique_read_sectors + b.unique_written_sectors)).sum();
    counts.floor_bytes = x.len() + y.len() + 32;
    counts
}

#[test]
fn worse_kernels_break_the_usual_limits() {
    let broken = |counts: &Counts| usual().broken(counts, 1, None).join("; ");
    // Neighbours in memory by neighbouring threads, and a column of 256 rows by a block.
    let good = count(&copy("i"), 128, |i| i);
    assert_eq!(broken(&good), "");
    let worse = count(&copy("i / 256 + i % 256 * 128"), 128, |i| i);
    assert!(broken(&worse).contains("sectors over ideal ones in large buffers: 8,"), "{}", broken(&worse));
    // The same tile with rows of 33 words, and of 32, all of a column in one bank.
    let turned = |i: usize| i / 1024 * 1024 + i % 32 * 32 + i / 32 % 32;
    let good = count(&turn(33), 8, turned);
    assert_eq!(broken(&good), "");
    let worse = count(&turn(32), 8, turned);
    assert!(broken(&worse).contains("bank conflicts in loops"), "{}", broken(&worse));
    assert!(broken(&worse).contains("share of wavefronts"), "{}", broken(&worse));
    assert_eq!(worse.large_sectors, good.large_sectors, "only the banks differ");
    // Reading everything twice.
    let twice = "extern \"C\" __global__ void k(const int* x, int* y, const int* p) {
        const int i = blockIdx.x * 256 + threadIdx.x;
        int s = 0;
        for (int j = 0; j < 8; ++j) s += x[(i + 4096 * j) & 32767];
        y[i] = x[i] + s * p[1];
    }";
    let worse = count(twice, 128, |i| i);
    assert!(broken(&worse).contains("sectors asked for over different ones"), "{}", broken(&worse));
}
