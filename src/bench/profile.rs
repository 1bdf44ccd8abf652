//! What: what was measured of a device: the results of a calibration.
//! Why here: the cost model of the passes, schedules of persistent kernels and profiles of the emulator speak of the same
//! machine; a file says what that machine does.
//! Pre: measurements; what was not measured is absent.
//! Post: figures that others need are derived here, and fall back to their usual values where there is no measurement.
//! A file is read here, whoever needs it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tilewright_emulator::Profile as Limits;
use tilewright_megakernel::Costs;
use tilewright_passes::partition::CostModel;
use tilewright_runtime::device::{DeviceSpec, EmulatedDevice, Machine};

use super::record::DeviceInfo;
use crate::Error;

/// The name of the format.
pub const FORMAT: &str = "tilewright-device-profile";

/// The version of the format.
pub const VERSION: u32 = 1;

/// What was measured of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When.
    pub date: String,
    /// Versions of everything that took part.
    pub versions: BTreeMap<String, String>,
    /// The device.
    pub device: DeviceInfo,
    /// Multiprocessors.
    pub multiprocessors: Option<u32>,
    /// Bytes of the L2 cache.
    pub l2_bytes: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Reading a long array, in GB/s.
    pub read_gb_s: Option<f64>,
    /// Copying a long array, in GB/s, read and written.
    pub copy_gb_s: Option<f64>,
    /// The vendor's product of bf16 matrices, in teraflops.
    pub matmul_tflops: Option<f64>,
    /// From one dependent launch on a stream to the next, in microseconds.
    pub launch_us: Option<f64>,
    /// The same where a kernel may begin before the one ahead of it has ended.
    pub launch_early_us: Option<f64>,
    /// From one node of a graph to the next, in microseconds.
    pub graph_node_us: Option<f64>,
    /// The same where a kernel may begin before the one ahead of it has ended.
    pub graph_node_early_us: Option<f64>,
    /// From a release to the acquire that sees it, in nanoseconds: the nearest pair of multiprocessors.
    pub flag_near_ns: Option<f64>,
    /// The same for the pair that is farthest.
    pub flag_far_ns: Option<f64>,
    /// The same for the middle one of all pairs that were tried.
    pub flag_median_ns: Option<f64>,
    /// Clock cycles of a barrier of so many threads.
    pub barriers: Vec<BarrierCost>,
    /// A barrier of one block on each multiprocessor, in microseconds.
    pub grid_barrier_us: Option<f64>,
    /// Reading through a ring of bulk copies.
    pub ring: Vec<RingRate>,
    /// Kernels whose results were compared with what they must be.
    pub checked: Vec<String>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

/// A barrier of a block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarrierCost {
    /// Threads.
    pub threads: u32,
    /// Clock cycles.
    pub cycles: Option<f64>,
    /// Nanoseconds.
    #[serde(default)]
    pub ns: Option<f64>,
}

/// A ring of bulk copies, one block on each multiprocessor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingRate {
    /// Bytes of a piece.
    pub piece_bytes: u32,
    /// Pieces that are on their way at once.
    pub depth: u32,
    /// All blocks together.
    pub gb_s: Option<f64>,
}

impl DeviceProfile {
    /// The profile of a device of which nothing was measured yet.
    pub fn unmeasured(device: DeviceInfo, date: String) -> DeviceProfile {
        DeviceProfile {
            format: FORMAT.into(),
            version: VERSION,
            date,
            versions: BTreeMap::new(),
            device,
            multiprocessors: None,
            l2_bytes: None,
            memory_bytes: None,
            read_gb_s: None,
            copy_gb_s: None,
            matmul_tflops: None,
            launch_us: None,
            launch_early_us: None,
            graph_node_us: None,
            graph_node_early_us: None,
            flag_near_ns: None,
            flag_far_ns: None,
            flag_median_ns: None,
            barriers: Vec::new(),
            grid_barrier_us: None,
            ring: Vec::new(),
            checked: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Reads the file of a profile.
    pub fn load(path: &Path) -> Result<DeviceProfile, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        DeviceProfile::parse(&path.display().to_string(), &text)
    }

    /// Reads a profile; what else the text may be is an error that names the file.
    pub fn parse(name: &str, text: &str) -> Result<DeviceProfile, Error> {
        let bad = |message: String| Error::Input {
            message: format!("`{name}`: {message}"),
            help: Some("profiles are written by `tilewright calibrate -o FILE`".into()),
        };
        let profile: DeviceProfile = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if (profile.format.as_str(), profile.version) != (FORMAT, VERSION) {
            return Err(bad(format!("this is no device profile of version {VERSION}")));
        }
        Ok(profile)
    }

    /// The machine that costs are estimated for.
    pub fn cost_model(&self) -> CostModel {
        let usual = CostModel::default();
        // Graphs are what steps run as.
        let launch = self.graph_node_us.or(self.launch_us).map(|us| us * 1e-6);
        CostModel {
            launch: positive(launch).unwrap_or(usual.launch),
            bandwidth: positive(self.read_gb_s.map(|x| x * 1e9)).unwrap_or(usual.bandwidth),
            tensor_flops: positive(self.matmul_tflops.map(|x| x * 1e12)).unwrap_or(usual.tensor_flops),
            processors: self.multiprocessors.filter(|&n| n > 0).map_or(usual.processors, f64::from),
            ..usual
        }
    }

    /// What tasks of persistent kernels cost, and waiting for them.
    pub fn task_costs(&self) -> Costs {
        let usual = Costs::default();
        let processors = self.multiprocessors.filter(|&n| n > 0);
        // Gigabytes a second are bytes a nanosecond.
        let rate = positive(self.read_gb_s).zip(processors).map(|(all, n)| all / f64::from(n));
        // A block is anywhere, so one other block is as far as the middle one of all pairs, and of several some are far.
        let near = positive(self.flag_median_ns).or(positive(self.flag_near_ns));
        let far = positive(self.flag_far_ns).or(near);
        let block = self.barriers.iter().filter(|b| b.threads >= TASK_THREADS).min_by_key(|b| b.threads);
        Costs {
            start: usual.start,
            bytes_per_ns: rate.unwrap_or(usual.bytes_per_ns),
            same: positive(block.and_then(|b| b.ns)).unwrap_or(usual.same),
            near: near.unwrap_or(usual.near),
            far: far.unwrap_or(usual.far),
            measured: rate.is_some() && far.is_some(),
        }
    }

    /// The device that is meant, where an emulator of no special machine is one of this profile's.
    pub fn emulated_on(&self, device: DeviceSpec) -> Result<DeviceSpec, Error> {
        if device.machine().is_some() || matches!(device, DeviceSpec::Auto | DeviceSpec::Cuda(_)) {
            return Ok(device);
        }
        Ok(device.with_machine(Machine::Limits(Box::new(self.machine()?))))
    }

    /// The limits of an emulated machine of this size.
    pub fn machine(&self) -> Result<Limits, Error> {
        self.limits().ok_or_else(|| Error::Unsupported {
            message: format!(
                "the emulator has no machine of the architecture of this profile, {}",
                self.device.arch.as_deref().unwrap_or("which it does not say")
            ),
            help: Some("name a machine: `--device emulator:h100`".into()),
        })
    }

    /// The limits of an emulated machine of this size; nothing for an architecture that no profile has.
    pub fn limits(&self) -> Option<Limits> {
        let digits = self.device.arch.as_deref()?.strip_prefix("sm_")?;
        let number: u32 = digits.trim_end_matches(|c: char| c.is_ascii_lowercase()).parse().ok()?;
        let capability = [number / 10, number % 10];
        let of_kind = |name: &str| Limits::named(name).filter(|p| p.compute_capability == capability);
        let mut limits = Limits::names().find_map(of_kind)?;
        limits.name.clone_from(&self.device.name);
        limits.sms = self.multiprocessors.filter(|&n| n > 0).unwrap_or(limits.sms);
        limits.l2_bytes = self.l2_bytes.unwrap_or(limits.l2_bytes);
        limits.memory_bytes = self.memory_bytes.unwrap_or(limits.memory_bytes);
        Some(limits)
    }

    /// The ring that reads fastest; of equals the one that takes least shared memory.
    pub fn best_ring(&self) -> Option<RingRate> {
        let measured = self.ring.iter().filter(|r| r.gb_s.is_some());
        measured
            .max_by(|a, b| {
                let size = |r: &RingRate| std::cmp::Reverse(u64::from(r.depth) * u64::from(r.piece_bytes));
                let rate = |r: &RingRate| r.gb_s.unwrap_or(0.0);
                rate(a).total_cmp(&rate(b)).then(size(a).cmp(&size(b)))
            })
            .copied()
    }
}

/// A machine of the emulator: one that it knows by name, or the file of a profile.
pub fn machine(name: &str) -> Result<Limits, Error> {
    if is_file(name) {
        DeviceProfile::load(Path::new(name))?.machine()
    } else {
        Ok(EmulatedDevice::limits(name)?)
    }
}

/// A device whose machine, if it is the file of a profile, was read from there.
pub fn resolved(device: DeviceSpec) -> Result<DeviceSpec, Error> {
    match device.machine() {
        Some(Machine::Named(name)) if is_file(name) => {
            let limits = machine(name)?;
            Ok(device.with_machine(Machine::Limits(Box::new(limits))))
        }
        _ => Ok(device),
    }
}

/// Whether a text is a path: names of machines have no such characters.
fn is_file(name: &str) -> bool {
    name.contains(['.', '/', '\\'])
}

/// Threads of a block of a persistent kernel.
const TASK_THREADS: u32 = 256;

/// A measurement that can be one.
fn positive(x: Option<f64>) -> Option<f64> {
    x.filter(|x| x.is_finite() && *x > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> DeviceProfile {
        let device =
            DeviceInfo { kind: "cuda:0".into(), name: "some GPU".into(), arch: Some("sm_90a".into()) };
        DeviceProfile {
            multiprocessors: Some(114),
            read_gb_s: Some(1800.0),
            launch_us: Some(4.0),
            ..DeviceProfile::unmeasured(device, String::new())
        }
    }

    #[test]
    fn what_was_measured_replaces_what_is_usual() {
        let mut p = profile();
        let (model, usual) = (p.cost_model(), CostModel::default());
        assert_eq!((model.launch, model.bandwidth, model.processors), (4.0e-6, 1.8e12, 114.0));
        assert_eq!((model.tensor_flops, model.pass), (usual.tensor_flops, usual.pass));
        p.graph_node_us = Some(1.5);
        p.read_gb_s = Some(f64::NAN);
        assert_eq!((p.cost_model().launch, p.cost_model().bandwidth), (1.5e-6, usual.bandwidth));
        let limits = p.limits().unwrap();
        assert_eq!((limits.sms, limits.compute_capability, limits.name.as_str()), (114, [9, 0], "some GPU"));
        p.device.arch = Some("sm_31".into());
        assert!(p.limits().is_none());
    }

    #[test]
    fn the_best_ring_is_fast_and_small() {
        let mut p = profile();
        let ring = |piece_bytes, depth, gb_s| RingRate { piece_bytes, depth, gb_s };
        p.ring = vec![
            ring(4096, 2, Some(1.0)),
            ring(8192, 8, Some(3.0)),
            ring(8192, 4, Some(3.0)),
            ring(1, 1, None),
        ];
        assert_eq!(p.best_ring(), Some(ring(8192, 4, Some(3.0))));
        let text = serde_json::to_string(&p).unwrap();
        assert_eq!(DeviceProfile::parse("p", &text).unwrap(), p);
        p.version = 2;
        assert!(DeviceProfile::parse("p", &serde_json::to_string(&p).unwrap()).is_err());
    }
}
