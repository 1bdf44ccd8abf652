//! What: the results of a benchmark run, as they are written down: the types behind `benches/schema.json`.
//! Why here: our program, the script for competitors and the report share one format; a comparison is between files.
//! Pre: none.
//! Post: what was not measured is `null`, never a number. Readers refuse other versions of the format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::suite::Size;
use crate::spec::Mode;
use crate::{Error, Module};

/// The version of the format.
pub const VERSION: u32 = 1;

/// The name of the format.
pub const FORMAT: &str = "tilewright-bench";

/// The results of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Who made it: `tilewright` or `peers`.
    pub producer: String,
    /// When the run began, e.g. `2026-01-31T12:00:00Z`.
    pub date: String,
    /// Names of runs in the same place at the same time, if they belong together.
    pub session: Option<String>,
    /// Versions of everything that took part.
    pub versions: BTreeMap<String, String>,
    /// The device.
    pub device: DeviceInfo,
    /// How times were taken.
    pub method: Method,
    /// What the device can do, measured in the same run.
    pub ceilings: Ceilings,
    /// The results.
    pub rows: Vec<Row>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceInfo {
    /// `emulator`, `cpu`, or `cuda:N`.
    pub kind: String,
    /// For people.
    pub name: String,
    /// The architecture that kernels were compiled for, if that is known.
    pub arch: Option<String>,
}

/// How times were taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// `events`, `graph`, `host` or `none`.
    pub clock: String,
    /// Runs before the first one that counts.
    pub warmup: u64,
    /// Runs that count.
    pub samples: u64,
    /// Different inputs are used in turn until so many bytes have passed through the cache.
    pub rotated_bytes: u64,
    /// Whether outputs held something else before.
    pub poisoned: bool,
    /// How inputs are distributed.
    pub inputs: String,
    /// The seed of the inputs.
    pub seed: u32,
}

/// What a device can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    /// Reading a long array, in GB/s.
    pub read_gb_s: Option<f64>,
    /// Copying a long array, in GB/s, read and written.
    pub copy_gb_s: Option<f64>,
    /// The vendor's product of bf16 matrices, in teraflops.
    pub matmul_tflops: Option<f64>,
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// Single kernels, or a few that belong together.
    Kernels,
    /// Whole steps of models.
    Steps,
    /// Compilations.
    Compile,
}

impl Suite {
    /// For people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Kernels => "kernels",
            Suite::Steps => "steps",
            Suite::Compile => "compile",
        }
    }
}

/// How a row came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It ran, and what was compared agrees.
    Ok,
    /// The implementation, the mode or the machine for it is not there.
    NotAvailable,
    /// It failed, or the result is wrong.
    Failed,
}

/// One case, by one implementation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The suite.
    pub suite: Suite,
    /// The family of cases.
    pub family: String,
    /// The case.
    pub case: String,
    /// Its sizes.
    pub size: Size,
    /// Who computed it.
    pub implementation: String,
    /// How launches were made: `launch`, `graph`, `megakernel`, or a word of the implementation.
    pub mode: String,
    /// What `auto` took, and why; absent in rows of other modes.
    #[serde(default)]
    pub chosen: Option<Chosen>,
    /// How it came out.
    pub status: Status,
    /// Why it is not `ok`.
    pub reason: Option<String>,
    /// Bytes that must move at least.
    pub floor_bytes: Option<u64>,
    /// Operations, counted from the formula.
    pub flops: Option<u64>,
    /// How long it took.
    pub time: Option<Time>,
    /// What that is of the ceilings.
    pub fraction: Option<Fraction>,
    /// The difference from float64: its norm over that of the reference.
    pub error: Option<f64>,
    /// What was compared, where that is not all of the case.
    #[serde(default)]
    pub error_of: Option<String>,
    /// The kernels.
    pub kernels: Option<Kernels>,
    /// How long the compilation took.
    pub compile: Option<Compile>,
    /// What an emulator counted.
    pub counts: Option<Counts>,
}

/// What the mode `auto` took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// The mode.
    pub mode: String,
    /// Microseconds of a step as a graph, if both were measured.
    pub graph_us: Option<f64>,
    /// The same as a persistent kernel.
    pub megakernel_us: Option<f64>,
    /// Why, where times do not say it.
    pub reason: Option<String>,
}

impl Chosen {
    /// What a module took for a phase; nothing if its mode was given.
    pub(super) fn of(module: &Module, asked: Mode, phase: &str) -> Option<Chosen> {
        if asked != Mode::Auto {
            return None;
        }
        let mode = module.mode(phase);
        let verdict = module.verdict().filter(|_| mode != Mode::Launch);
        let none = match mode {
            Mode::Launch => "only decode steps have other forms that pay",
            _ => "the device has no clock",
        };
        Some(Chosen {
            mode: mode.name().to_owned(),
            graph_us: verdict.map(|v| v.graph),
            megakernel_us: verdict.and_then(|v| v.megakernel),
            reason: match verdict {
                Some(v) => v.reason.clone(),
                None => Some(none.to_owned()),
            },
        })
    }
}

/// Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// The median.
    pub median_us: f64,
    /// 99 of 100 runs took no longer.
    pub p99_us: f64,
    /// Runs.
    pub samples: u64,
}

/// Shares of ceilings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// Floor bytes per time, of reading.
    pub of_read: Option<f64>,
    /// Floor bytes per time, of copying.
    pub of_copy: Option<f64>,
    /// Operations per time, of the product of matrices.
    pub of_matmul: Option<f64>,
}

/// The kernels of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernels {
    /// Different kernels.
    pub kernels: u64,
    /// Launches.
    pub launches: u64,
    /// Launches of a layer, for models.
    pub launches_per_layer: Option<u64>,
    /// Registers of the thread that has most.
    pub registers: u64,
    /// Bytes that are spilled by the kernel that spills most.
    pub spill_bytes: u64,
}

/// Seconds of a compilation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compile {
    /// From equations or a configuration to tile programs.
    pub passes_s: f64,
    /// Writing sources.
    pub emit_s: f64,
    /// The vendor's compiler.
    pub nvrtc_s: f64,
    /// Everything, as its user waits for it.
    pub total_s: f64,
    /// Kernels that were compiled.
    pub compiled: u64,
    /// Kernels that came from the cache.
    pub cached: u64,
}

impl Results {
    /// Reads results; what else the text may be is an error that names the file.
    pub fn parse(name: &str, text: &str) -> Result<Results, Error> {
        let bad = |message: String| Error::Input {
            message: format!("`{name}`: {message}"),
            help: Some(
                "results are written by `tilewright bench --json FILE` and described in benches/schema.json"
                    .into(),
            ),
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        match (value["format"].as_str(), value["version"].as_u64()) {
            (Some(FORMAT), Some(v)) if v == u64::from(VERSION) => {}
            (Some(FORMAT), Some(v)) => {
                return Err(bad(format!("this is version {v} of the format, and {VERSION} is understood")));
            }
            _ => return Err(bad("these are no results of a benchmark".into())),
        }
        serde_json::from_value(value).map_err(|e| bad(e.to_string()))
    }

    /// The row of a case, by one implementation in one mode.
    pub fn row(&self, like: &Row) -> Option<&Row> {
        self.rows.iter().find(|r| {
            (r.suite, &r.case, &r.implementation, &r.mode)
                == (like.suite, &like.case, &like.implementation, &like.mode)
        })
    }
}

impl Row {
    /// A row of ours, with nothing in it yet.
    pub fn new(suite: Suite, family: &str, case: &str, size: Size, mode: &str) -> Row {
        Row {
            suite,
            family: family.to_owned(),
            case: case.to_owned(),
            size,
            implementation: "tilewright".into(),
            mode: mode.to_owned(),
            chosen: None,
            status: Status::Ok,
            reason: None,
            floor_bytes: None,
            flops: None,
            time: None,
            fraction: None,
            error: None,
            error_of: None,
            kernels: None,
            compile: None,
            counts: None,
        }
    }

    /// The same row with an error in place of results: a mode or machine that is not there is no failure.
    pub fn with_error(mut self, error: &Error) -> Row {
        let absent = matches!(error.exit_code(), 4 | 5);
        self.status = if absent { Status::NotAvailable } else { Status::Failed };
        self.reason = Some(error.to_string());
        self
    }
}

impl Fraction {
    /// What a time is of the ceilings.
    pub fn of(time: &Time, floor_bytes: u64, flops: u64, ceilings: &Ceilings) -> Fraction {
        let per_second = |n: u64| n as f64 / (time.median_us * 1e-6);
        let share = |n: u64, unit: f64, ceiling: Option<f64>| ceiling.map(|c| per_second(n) / unit / c);
        Fraction {
            of_read: share(floor_bytes, 1e9, ceilings.read_gb_s),
            of_copy: share(floor_bytes, 1e9, ceilings.copy_gb_s),
            of_matmul: share(flops, 1e12, ceilings.matmul_tflops),
        }
    }
}

impl Time {
    /// Of microseconds of single runs; nothing of none.
    pub fn of(mut samples: Vec<f64>) -> Option<Time> {
        samples.retain(|t| t.is_finite());
        samples.sort_by(f64::total_cmp);
        let last = samples.len().checked_sub(1)?;
        let middle = |i: usize| samples[i];
        let median = (middle(last / 2) + middle(last.div_ceil(2))) / 2.0;
        // The smallest one that 99 of 100 do not exceed.
        let p99 = samples[(samples.len() * 99).div_ceil(100) - 1];
        Some(Time { median_us: median, p99_us: p99, samples: samples.len() as u64 })
    }
}

/// The time now, in UTC, as results carry it.
pub fn now() -> String {
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date(seconds)
}

/// Seconds since 1970 as a date: days are counted from March, so that leap days come last.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (d, m) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let y = year + era * 400 + u64::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn the_middle_and_the_tail() {
        let t = Time::of((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!((t.median_us, t.p99_us, t.samples), (100.5, 198.0, 200));
        assert_eq!(Time::of(vec![3.0]).map(|t| (t.median_us, t.p99_us)), Some((3.0, 3.0)));
        assert_eq!(Time::of(vec![]), None);
    }

    #[test]
    fn fractions_of_what_was_measured() {
        let time = Time { median_us: 10.0, p99_us: 11.0, samples: 5 };
        let ceilings = Ceilings { read_gb_s: Some(3000.0), copy_gb_s: None, matmul_tflops: Some(800.0) };
        let f = Fraction::of(&time, 15_000_000, 4_000_000_000, &ceilings);
        let half = |x: Option<f64>| x.is_some_and(|x| (x - 0.5).abs() < 1e-12);
        assert!(half(f.of_read) && f.of_copy.is_none() && half(f.of_matmul), "{f:?}");
    }
}
