//! What: limits of what kernels do to memory, counted on the emulator.
//! Why here: a slowdown that shows in traffic fails on any machine.
//! Pre: NVRTC. Limits are in `tests/counts`, one table per case; `usual.toml` holds for all. A table `CASE (MODE)` says
//! what is other in that mode. `LIMITS=write` takes the present counts as limits; what is looser than usual then wants a
//! reason.
//! Post: every case of the benchmarks for the emulator was counted in every mode and held to its limits, and kernels that
//! are worse on purpose were caught.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use tilewright::bench::bars::Bars;
use tilewright::bench::counts::Counts;
use tilewright::bench::probe::{Maker, Memory, Source};
use tilewright::bench::record::{Row, Status, Suite};
use tilewright::bench::{self, MODES, Settings};
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

/// All cases for the emulator, in all modes; the suites beside each other.
fn counted() -> Vec<Row> {
    nvrtc();
    std::thread::scope(|scope| {
        let suites = [Suite::Kernels, Suite::Steps].map(|suite| scope.spawn(move || counted_of(suite)));
        suites.into_iter().flat_map(|suite| suite.join().unwrap()).collect()
    })
}

fn counted_of(suite: Suite) -> Vec<Row> {
    let settings = Settings {
        toolchain: toolchain(),
        device: "emulator".parse().unwrap(),
        target: None,
        suites: vec![suite],
        modes: MODES.map(str::to_owned).to_vec(),
        filter: None,
        quick: false,
        seconds: None,
        seed: 1,
        session: None,
        profile: None,
        timer: None,
        listener: Default::default(),
    };
    bench::run(&settings, |_| ()).unwrap().rows
}

/// The name of the limits of a row that hold in its mode only.
fn name_of(row: &Row) -> String {
    format!("{} ({})", row.case, row.mode)
}

fn layers(row: &Row) -> Option<u64> {
    row.kernels.and_then(|k| k.launches_per_layer)
}

#[test]
fn every_case_keeps_its_limits() {
    let rows = counted();
    if std::env::var("LIMITS").is_ok_and(|v| v == "write") {
        write_limits(&rows);
    }
    let (usual, own) = (usual(), own());
    let mut left: Vec<&String> = own.keys().collect();
    let mut broken = Vec::new();
    for row in &rows {
        // What grows with the text is no persistent kernel, and no other case is left out.
        if row.mode == "megakernel" && matches!(row.family.as_str(), "prefill" | "verify") {
            assert_eq!(row.status, Status::NotAvailable, "{}: {:?}", name_of(row), row.reason);
            continue;
        }
        assert_eq!(row.status, Status::Ok, "{}: {:?}", name_of(row), row.reason);
        assert!(row.error.is_some_and(|e| e > 0.0), "{}: no error against float64", name_of(row));
        let counts = row.counts.as_ref().expect("counts of the emulator");
        let name = name_of(row);
        left.retain(|n| **n != row.case && **n != name);
        let of = |name: &String| own.get(name).cloned().unwrap_or_default();
        let bars = of(&name).or(&of(&row.case).or(&usual));
        for what in bars.broken(counts, row.flops.unwrap_or(0), layers(row)) {
            broken.push(format!("{name}: {what}"));
        }
        // A graph is the same launches.
        if row.mode == "graph" {
            let launched = rows.iter().find(|r| r.case == row.case && r.mode == "launch").unwrap();
            assert_eq!(row.counts, launched.counts, "{name}");
        }
    }
    assert!(
        broken.is_empty(),
        "limits of tests/counts are broken (LIMITS=write takes the counts as limits, where that is meant):\n{}",
        broken.join("\n")
    );
    assert!(left.is_empty(), "limits of cases that are not there: {left:?}");
}

/// Limits as tight as these rows allow, in the files where they were, with their reasons.
fn write_limits(rows: &[Row]) {
    let (usual, known) = (usual(), own());
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if stem == "usual" {
            continue;
        }
        let mut text = String::new();
        for row in rows.iter().filter(|r| file_of(r) == stem) {
            let Some(counts) = &row.counts else { continue };
            let flops = row.flops.unwrap_or(0);
            let launch = rows.iter().find(|r| r.case == row.case && r.mode == "launch").unwrap();
            let base = |c| Bars::around(c, flops, layers(launch), &usual);
            let (name, bars) = match row.mode.as_str() {
                "launch" => (row.case.clone(), base(counts)),
                "graph" => continue,
                _ => {
                    let of_launches = base(launch.counts.as_ref().unwrap());
                    (name_of(row), Bars::around(counts, flops, layers(row), &of_launches.or(&usual)))
                }
            };
            let reason = known.get(&name).and_then(|b| b.reason.clone());
            text.push_str(&table(&name, &Bars { reason, ..bars }));
        }
        std::fs::write(&path, text.trim_start()).unwrap();
    }
}

/// The file in which the limits of a row are.
fn file_of(row: &Row) -> &str {
    match (row.suite, row.family.as_str()) {
        (Suite::Kernels, "norm" | "swiglu" | "softmax") => "rows",
        (Suite::Kernels, "square") => "linear",
        (Suite::Kernels, family) => match family.split(' ').next() {
            Some("mirage") => "fused",
            Some(first) => first,
            None => family,
        },
        _ => "steps",
    }
}

/// A table of limits as a text.
fn table(name: &str, bars: &Bars) -> String {
    let loose = looser(bars, &usual());
    let mut text = format!("\n[\"{name}\"]\n");
    if let (Some(reason), true) = (&bars.reason, loose) {
        writeln!(text, "reason = \"\"\"\n{reason}\"\"\"").unwrap();
    }
    let value = serde_json::to_value(bars).unwrap();
    for (key, value) in value.as_object().unwrap() {
        if value.is_number() {
            writeln!(text, "{key} = {value}").unwrap();
        }
    }
    text
}

/// Whether one of these limits is looser than usual.
fn looser(bars: &Bars, usual: &Bars) -> bool {
    let whole = |n: Option<u64>| n.map(|n| n as f64);
    [
        (bars.bytes_over_floor, usual.bytes_over_floor),
        (bars.rereads, usual.rereads),
        (bars.large_sectors_over_ideal, usual.large_sectors_over_ideal),
        (bars.conflicts, usual.conflicts),
        (whole(bars.loop_conflicts), whole(usual.loop_conflicts)),
        (whole(bars.local_bytes), whole(usual.local_bytes)),
    ]
    .into_iter()
    .any(|(own, usual)| own > usual && own.is_some())
}

#[test]
fn what_is_looser_than_usual_has_a_reason() {
    let (usual, own) = (usual(), own());
    for (case, bars) in &own {
        // A mode is as loose as its case, whose reason holds for it, or has a reason of its own.
        let known = match case.strip_suffix(')').and_then(|c| c.rsplit_once(" (")) {
            Some((base, _)) => own.get(base).cloned().unwrap_or_default().or(&usual),
            None => usual.clone(),
        };
        let reason = bars.reason.as_deref().unwrap_or("");
        assert!(
            !looser(bars, &known) || reason.len() > 20,
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
