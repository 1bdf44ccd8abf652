//! What: measuring what a device does, kernel by kernel: streams, boundaries, flags, barriers, rings.
//! Why here: the same kernels run on the emulator, where their results are checked and nothing is timed.
//! Pre: NVRTC and a device.
//! Post: every kernel's result was compared with what it must be before its time is taken. What the device lacks, or has
//! no clock for, is absent and named.

use std::collections::BTreeMap;
use std::sync::Arc;

use tilewright_runtime::device::{Clock, Device, DeviceError, Node, Stream};

use super::ceilings::{self, blocks_of};
use super::probe::{COPY, Maker, READ, Source};
use super::profile::{BarrierCost, DeviceProfile, RingRate};
use super::record::{DeviceInfo, Time, now};
use super::timing::{Hold, Plan};
use super::{inputs, record};
use crate::{DType, DeviceSpec, Error, Toolchain};

const fn source(name: &'static str, cuda: &'static str, threads: u32, arch: u32) -> Source {
    Source { name, cuda, threads, shared_bytes: 0, arch }
}

const TICK: Source = source("tick", include_str!("probes/tick.cu"), 1, 80);
const TICK_EARLY: Source = source("tick_early", include_str!("probes/tick_early.cu"), 1, 90);
const FLAG: Source = source("flag", include_str!("probes/flag.cu"), 32, 80);
const BARRIER: Source = source("barrier", include_str!("probes/barrier.cu"), 1024, 80);
const GRID_BARRIER: Source = source("grid_barrier", include_str!("probes/grid_barrier.cu"), 32, 80);

/// Shared memory of a ring.
const RING_BYTES: u32 = 192 << 10;

/// Pieces of a ring, in bytes, and how many are on their way.
const PIECES: [u32; 4] = [2 << 10, 8 << 10, 16 << 10, 32 << 10];
const DEPTHS: [u32; 6] = [1, 2, 3, 4, 6, 8];

/// Threads of barriers.
const THREADS: [u32; 4] = [128, 256, 512, 1024];

/// What to calibrate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where external pieces are.
    pub toolchain: Toolchain,
    /// The device.
    pub device: DeviceSpec,
    /// The instruction subset, where there is no GPU that has one.
    pub target: Option<String>,
}

/// How much is done: enough for a time, or enough for a result.
struct Amounts {
    launches: u32,
    rounds: u32,
    bytes: u64,
    partners: Vec<u32>,
}

struct Run<'a> {
    maker: Maker,
    device: &'a Arc<dyn Device>,
    clock: Option<&'a dyn Clock>,
    amounts: Amounts,
    multiprocessors: u32,
    profile: DeviceProfile,
}

/// One kernel, or a few that belong together.
type Part = fn(&mut Run<'_>) -> Result<(), Error>;

/// Measures everything.
pub fn run(settings: &Settings) -> Result<DeviceProfile, Error> {
    super::known(settings.target.as_deref())?;
    let opened = settings.device.open()?;
    let device = &opened.device;
    let clock = device.clock();
    let facts = clock.map(|c| c.facts()).transpose()?;
    let maker = Maker::new(&settings.toolchain, device, settings.target.as_deref())?;
    let mut versions = BTreeMap::from([
        ("tilewright".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("nvrtc".to_owned(), maker.nvrtc_version()),
    ]);
    let mut ceilings = record::Ceilings::default();
    if let Some(facts) = &facts {
        versions.insert("driver".into(), facts.driver.clone());
        let settings = super::Settings::new(
            settings.toolchain.clone(),
            settings.device.clone(),
            settings.target.clone(),
        );
        let measured = ceilings::measure(&settings, &Plan::new(device.as_ref(), false)?)?;
        ceilings = measured.0;
        versions.extend(measured.1);
    }
    let multiprocessors = facts.as_ref().map_or(4, |f| f.multiprocessors);
    let timed = clock.is_some();
    let about = DeviceInfo {
        kind: device.kind().to_string(),
        name: device.name().to_owned(),
        arch: Some(maker.arch().to_owned()),
    };
    let profile = DeviceProfile {
        versions,
        multiprocessors: facts.as_ref().map(|f| f.multiprocessors),
        l2_bytes: facts.as_ref().map(|f| f.l2_bytes),
        memory_bytes: facts.as_ref().map(|f| f.memory_bytes),
        read_gb_s: ceilings.read_gb_s,
        copy_gb_s: ceilings.copy_gb_s,
        matmul_tflops: ceilings.matmul_tflops,
        ..DeviceProfile::unmeasured(about, now())
    };
    let amounts = Amounts {
        launches: if timed { 200 } else { 5 },
        rounds: if timed { 1000 } else { 10 },
        bytes: if timed { 1 << 30 } else { 1 << 20 },
        // All of a device's multiprocessors, from the first one.
        partners: (1..multiprocessors).step_by(if timed { 3 } else { 1 }).collect(),
    };
    let mut run = Run { maker, device, clock, amounts, multiprocessors, profile };
    let parts: [(&str, Part); 7] = [
        ("read_stream", |r| r.read()),
        ("copy_stream", |r| r.copy()),
        ("tick", |r| r.boundary(&TICK, false)),
        ("tick_early", |r| r.boundary(&TICK_EARLY, true)),
        ("flag", |r| r.flags()),
        ("barrier", |r| r.barriers()),
        ("ring", |r| r.ring()),
    ];
    for (name, part) in parts {
        match part(&mut run) {
            Ok(()) => run.profile.checked.push(name.to_owned()),
            // A kernel that is wrong is no missing one.
            Err(error @ Error::Check(_)) => return Err(error),
            Err(error) if matches!(error.exit_code(), 4 | 5) => {
                run.profile.missing.push(format!("{name}: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(run.profile)
}

/// That two results agree.
fn agree<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Check(format!("calibration kernel `{what}` gave {found:?}, and {expected:?} is right")))
}

impl Run<'_> {
    /// Random words, so many bytes of them, and their sum.
    fn words(&self, bytes: u64) -> (Vec<u8>, u32) {
        let data = inputs::normal(DType::F32, &[bytes.min(1 << 24) / 4], 5).data;
        let times = usize::try_from(bytes).unwrap_or(usize::MAX) / data.len();
        let once = data.as_chunks::<4>().0.iter().fold(0u32, |s, w| s.wrapping_add(u32::from_le_bytes(*w)));
        (data.repeat(times), once.wrapping_mul(times as u32))
    }

    fn blocks(&self) -> u32 {
        blocks_of(self.multiprocessors)
    }

    /// The streams that the ceilings are measured with read everything.
    fn read(&mut self) -> Result<(), Error> {
        let (data, sum) = self.words(1 << 20);
        let probe = self.maker.make(&READ)?;
        let x = self.maker.bytes("x", &data)?;
        let sums = self.maker.zeros("sums", u64::from(self.blocks()) * 256 * 4)?;
        let p = self.maker.words("p", &[data.len() as i32 / 16])?;
        probe.launch(self.blocks(), &[&x, &sums, &p])?;
        agree("read_stream", sums.read_words()?.into_iter().fold(0, u32::wrapping_add), sum)
    }

    fn copy(&mut self) -> Result<(), Error> {
        let (data, _) = self.words((1 << 20) + 48);
        let probe = self.maker.make(&COPY)?;
        let x = self.maker.bytes("x", &data)?;
        let y = self.maker.zeros("y", x.len())?;
        let p = self.maker.words("p", &[data.len() as i32 / 16])?;
        probe.launch(self.blocks(), &[&x, &y, &p])?;
        let copied = y.read()?;
        let whole = data.len() / 16 * 16;
        agree("copy_stream", copied[..whole] == data[..whole], true)
    }

    /// From one launch to the next, on a stream and in a graph.
    fn boundary(&mut self, source: &Source, early: bool) -> Result<(), Error> {
        let probe = self.maker.make(source)?;
        let count = self.amounts.launches;
        let n = self.maker.zeros("n", 4)?;
        let one = |clock: Option<&dyn Clock>| match clock.filter(|_| early) {
            Some(clock) => clock.launch_early(probe.kernel(), 1, &[n.at()]),
            None => probe.launch(1, &[&n]),
        };
        for _ in 0..count {
            one(self.clock)?;
        }
        agree(source.name, n.read_words()?, vec![count])?;
        let nodes = vec![Node { kernel: probe.kernel(), blocks: 1, args: vec![n.at()] }; count as usize];
        let graph = self.device.graph(&nodes)?;
        let replayed = self.device.replay(graph, Stream::Own).map(|_| ());
        let checked =
            replayed.map_err(Error::from).and_then(|()| agree(source.name, n.read_words()?, vec![2 * count]));
        let times = match (&checked, self.clock) {
            (Ok(()), Some(clock)) => {
                let hold = Hold::new(&self.maker, 20 * i32::try_from(count).unwrap_or(1))?;
                hold.launch()?;
                let stream = clock.time(1, &mut || (0..count).try_for_each(|_| one(Some(clock))));
                let graph = clock.time(20, &mut || self.device.replay(graph, Stream::Own).map(|_| ()));
                Some((stream, graph))
            }
            _ => None,
        };
        // The graph goes whatever came of it.
        self.device.free_graph(graph)?;
        checked?;
        let Some((stream, graph)) = times else { return Ok(()) };
        let each = |t: Result<Vec<f64>, DeviceError>| -> Result<Option<f64>, Error> {
            Ok(Time::of(t?).map(|t| t.median_us / f64::from(count)))
        };
        let (stream, graph) = (each(stream)?, each(graph)?);
        if early {
            (self.profile.launch_early_us, self.profile.graph_node_early_us) = (stream, graph);
        } else {
            (self.profile.launch_us, self.profile.graph_node_us) = (stream, graph);
        }
        Ok(())
    }

    /// From a release to the acquire that sees it, between many pairs of multiprocessors and at two addresses.
    fn flags(&mut self) -> Result<(), Error> {
        let probe = self.maker.make(&FLAG)?;
        let rounds = self.amounts.rounds;
        let mut nanoseconds = Vec::new();
        for &partner in &self.amounts.partners {
            for place in [0, 4096] {
                let flags = self.maker.zeros("flags", 4 * (4096 + 64))?;
                let out = self.maker.zeros("out", 20)?;
                let p = self.maker.words("p", &[rounds.cast_signed(), partner.cast_signed(), place])?;
                probe.launch(partner + 1, &[&flags, &out, &p])?;
                let out = out.read_words()?;
                agree("flag", &out[1..3], &[rounds; 2])?;
                // A round is there and back.
                nanoseconds.push(f64::from(out[0]) / f64::from(2 * rounds));
            }
        }
        let grid = self.maker.make(&GRID_BARRIER)?;
        let counter = self.maker.zeros("counter", 4)?;
        let out = self.maker.zeros("out", 4 * (1 + u64::from(self.multiprocessors)))?;
        let p = self.maker.words("p", &[rounds.cast_signed()])?;
        grid.launch(self.multiprocessors, &[&counter, &out, &p])?;
        let out = out.read_words()?;
        agree("grid_barrier", counter.read_words()?, vec![rounds * self.multiprocessors])?;
        agree("grid_barrier", out[1..].iter().all(|&r| r == rounds), true)?;
        if self.clock.is_some() {
            nanoseconds.sort_by(f64::total_cmp);
            self.profile.flag_near_ns = nanoseconds.first().copied();
            self.profile.flag_far_ns = nanoseconds.last().copied();
            self.profile.flag_median_ns = nanoseconds.get(nanoseconds.len() / 2).copied();
            self.profile.grid_barrier_us = Some(f64::from(out[0]) / f64::from(rounds) / 1e3);
        }
        Ok(())
    }

    fn barriers(&mut self) -> Result<(), Error> {
        let probe = self.maker.make(&BARRIER)?;
        let rounds = self.amounts.rounds;
        for threads in THREADS {
            let run = |check| -> Result<Vec<u32>, Error> {
                let out = self.maker.zeros("out", 12)?;
                let p = self.maker.words("p", &[rounds.cast_signed(), threads.cast_signed(), check])?;
                probe.launch(1, &[&out, &p])?;
                out.read_words()
            };
            agree("barrier", run(1)?[1], 0)?;
            let taken = match self.clock {
                Some(_) => Some(run(0)?),
                None => None,
            };
            let each = |at: usize| Some(f64::from(*taken.as_ref()?.get(at)?) / f64::from(rounds));
            self.profile.barriers.push(BarrierCost { threads, cycles: each(0), ns: each(2) });
        }
        Ok(())
    }

    /// How deep a ring of bulk copies must be to read at full speed.
    fn ring(&mut self) -> Result<(), Error> {
        const RING: Source = Source {
            name: "ring",
            cuda: include_str!("probes/ring.cu"),
            threads: 256,
            shared_bytes: RING_BYTES,
            arch: 90,
        };
        let probe = self.maker.make(&RING)?;
        let (data, sum) = self.words(self.amounts.bytes);
        let x = self.maker.bytes("x", &data)?;
        let sums = self.maker.zeros("sums", u64::from(self.multiprocessors) * 256 * 4)?;
        for piece_bytes in PIECES {
            for depth in DEPTHS.into_iter().filter(|d| d * piece_bytes <= RING_BYTES) {
                let pieces = data.len() as u64 / u64::from(piece_bytes);
                let p = self.maker.words(
                    "p",
                    &[
                        i32::try_from(pieces).unwrap_or(i32::MAX),
                        piece_bytes.cast_signed(),
                        depth.cast_signed(),
                    ],
                )?;
                let launch = || probe.launch(self.multiprocessors, &[&x, &sums, &p]);
                launch()?;
                agree("ring", sums.read_words()?.into_iter().fold(0, u32::wrapping_add), sum)?;
                let gb_s = match self.clock {
                    Some(clock) => {
                        let us = Time::of(clock.time(7, &mut { launch })?).map(|t| t.median_us);
                        us.map(|us| data.len() as f64 / us / 1e3)
                    }
                    None => None,
                };
                self.profile.ring.push(RingRate { piece_bytes, depth, gb_s });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_wrong_is_found() {
        tilewright_runtime::testing::nvrtc();
        let toolchain = tilewright_runtime::testing::toolchain();
        let device = "emulator".parse::<DeviceSpec>().unwrap().open().unwrap().device;
        let run = |part: &dyn Fn(&mut Run<'_>) -> Result<(), Error>| {
            let maker = Maker::new(&toolchain, &device, Some("sm_90a")).unwrap();
            let amounts = Amounts { launches: 3, rounds: 4, bytes: 1 << 18, partners: vec![1, 3] };
            let about = DeviceInfo { kind: "emulator".into(), name: String::new(), arch: None };
            let profile = DeviceProfile::unmeasured(about, now());
            part(&mut Run { maker, device: &device, clock: None, amounts, multiprocessors: 4, profile })
        };
        let wrong = |cuda: &'static str| Source { cuda, ..TICK };
        run(&|r| r.boundary(&TICK, false)).unwrap();
        for cuda in [
            "extern \"C\" __global__ void tick(unsigned* n) { n[0] += 2; }",
            "extern \"C\" __global__ void tick(unsigned* n) { n[0] = 1; }",
        ] {
            let error = run(&|r| r.boundary(&wrong(cuda), false)).unwrap_err();
            assert!(matches!(error, Error::Check(_)), "{error}");
        }
    }
}
