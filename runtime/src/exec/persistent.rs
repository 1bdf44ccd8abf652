//! What: a step as one cooperative launch of a persistent kernel.
//! Why here: the same buffers, states and parameters as for separate launches; only what is put on the stream differs.
//! Pre: tables that were made for this step, and as many blocks as the device holds at once.
//! Post: counters go on from run to run and are set to zero only after a run that did not end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cranelift_entity::PrimaryMap;
use tilewright_ir::artifact::{Control, KernelBinary, Persistent};
use tilewright_ir::{Buffer, Sym};

use super::ExecError;
use super::executable::LoadedKernel;
use super::session::Allocation;
use crate::device::{Device, DevicePtr, Residency, Stream};

/// Words of a record.
const RECORD_WORDS: u64 = 32;
/// Words of memory between counters, so that each has a sector of its own.
const COUNTER_WORDS: u64 = 8;

/// How many steps a launch does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps<'a> {
    /// At most so many.
    pub(super) count: u32,
    /// Tokens after which it stops.
    pub(super) stops: &'a [i32],
    /// Whether times are written down.
    pub(super) timed: bool,
}

/// One step.
pub(super) const ONE: Steps<'static> = Steps { count: 1, stops: &[], timed: false };

/// A persistent kernel with its tables on the device.
pub(super) struct Resident {
    kernel: LoadedKernel,
    tables: Persistent,
    queues: Allocation,
    records: Allocation,
    args: Allocation,
    counters: Allocation,
    control: Allocation,
    timeline: Allocation,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// The addresses that the device has.
    addresses: Vec<u64>,
    /// Steps since the counters were zero.
    steps: u32,
    /// Whether the last run ended.
    clean: bool,
    /// Whether the next run is to stop where it would wait.
    stop: bool,
}

fn bytes(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

impl Resident {
    /// Loads the kernel and its tables.
    pub(super) fn new(
        device: &Arc<dyn Device>,
        tables: &Persistent,
        binary: &KernelBinary,
    ) -> Result<Resident, ExecError> {
        let kernel = LoadedKernel::new(device, binary)?;
        let Residency { sms, blocks_per_sm } = device.residency(kernel.kernel)?;
        let most = u64::from(sms) * u64::from(blocks_per_sm);
        if u64::from(tables.blocks) > most {
            return Err(ExecError::NotResident {
                kernel: tables.kernel.clone(),
                blocks: tables.blocks,
                most,
            });
        }
        let filled = |label: &str, data: Vec<u8>| -> Result<Allocation, ExecError> {
            let memory = Allocation::new(device, label, data.len() as u64)?;
            device.upload(memory.at, &data, Stream::Own)?;
            Ok(memory)
        };
        let queues =
            filled("queues", bytes(tables.queues.iter().flat_map(|&(start, count)| [start, count])))?;
        let records = filled("records", bytes(tables.records.iter().copied()))?;
        let slots = (tables.args.len() * tables.slots()).max(1) as u64;
        let zeroed = |label: &str, bytes: u64| -> Result<Allocation, ExecError> {
            let memory = Allocation::new(device, label, bytes)?;
            device.zero(memory.at, bytes, Stream::Own)?;
            Ok(memory)
        };
        let args = zeroed("addresses", 8 * slots)?;
        let counters = zeroed("counters", 4 * COUNTER_WORDS * u64::from(tables.counters.max(1)))?;
        let control = zeroed("control", 4 * Control::words(tables.blocks))?;
        let timeline = zeroed("timeline", 8 * 4 * (tables.records.len() as u64 / RECORD_WORDS).max(1))?;
        let progress = Mutex::new(Progress { clean: true, ..Progress::default() });
        Ok(Resident {
            kernel,
            tables: tables.clone(),
            queues,
            records,
            args,
            counters,
            control,
            timeline,
            progress,
        })
    }

    /// The kernel's name and its blocks.
    pub(super) fn launch(&self) -> (&str, u32) {
        (&self.tables.kernel, self.tables.blocks)
    }

    /// Makes the next run stop where it would wait.
    pub(super) fn stop(&self) {
        self.progress().stop = true;
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A run that panicked has not set `clean`.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts so many steps on the stream as one launch.
    pub(super) fn execute(
        &self,
        device: &Arc<dyn Device>,
        pointers: &PrimaryMap<Buffer, DevicePtr>,
        params: DevicePtr,
        steps: &Steps<'_>,
        stream: Stream,
    ) -> Result<Option<tilewright_emulator::Counters>, ExecError> {
        let mut progress = self.progress();
        let slots = self.tables.slots();
        let mut addresses = vec![0u64; self.tables.args.len() * slots];
        for (launch, args) in self.tables.args.iter().enumerate() {
            for (n, &b) in args.iter().enumerate() {
                addresses[launch * slots + n] = pointers[b].raw();
            }
        }
        if addresses != progress.addresses {
            let data: Vec<u8> = addresses.iter().flat_map(|a| a.to_le_bytes()).collect();
            device.upload(self.args.at, &data, stream)?;
            progress.addresses = addresses;
        }
        if !progress.clean {
            device.synchronize(stream)?;
            device.zero(self.counters.at, self.counters.bytes, stream)?;
            progress.steps = 0;
        }
        let stop = std::mem::take(&mut progress.stop);
        // Bits, not numbers: counters and steps wrap around together.
        let words = [
            i32::from(stop),
            progress.steps.cast_signed(),
            steps.count.cast_signed(),
            0,
            0,
            // At most as many as there is room for, see `check_repeat`.
            steps.stops.len() as i32,
            i32::from(steps.timed),
        ];
        device.upload_params(self.control.at, &words, stream)?;
        let stops = self.control.at.offset(4 * Control::stops(self.tables.blocks));
        device.upload_params(stops, steps.stops, stream)?;
        progress.clean = false;
        let args =
            [&self.queues, &self.records, &self.args, &self.counters, &self.control].map(|memory| memory.at);
        let args: Vec<DevicePtr> = args.into_iter().chain([params, self.timeline.at]).collect();
        let counters = device.launch_cooperative(self.kernel.kernel, self.tables.blocks, &args, stream)?;
        if stop {
            return Err(self.stopped(device, stream)?);
        }
        // A stop token may have ended the launch early.
        let done = if steps.count > 1 { self.word(device, 4, stream)? } else { steps.count };
        progress.steps = progress.steps.wrapping_add(done);
        progress.clean = true;
        Ok(counters)
    }

    /// A control word.
    fn word(&self, device: &Arc<dyn Device>, n: u64, stream: Stream) -> Result<u32, ExecError> {
        let mut data = [0; 4];
        device.download(self.control.at.offset(4 * n), &mut data, stream)?;
        Ok(u32::from_le_bytes(data))
    }

    /// That the kernel can do so many steps in one launch; gives the symbols that go on.
    pub(super) fn check_repeat(&self, steps: &Steps<'_>) -> Result<&[Sym], ExecError> {
        let bad = |message: &str| Err(ExecError::BadStep(message.to_owned()));
        let Some(repeat) = &self.tables.repeat else {
            return bad("the kernel does one step only");
        };
        if u64::from(steps.count) * u64::from(repeat.sequences) > Control::TOKENS {
            return bad("more tokens than a launch has room for");
        }
        if steps.stops.len() as u64 > Control::STOPS {
            return bad("more stop tokens than there is room for");
        }
        Ok(&repeat.symbols)
    }

    /// The times of the last launch that wrote them down, by record.
    pub(super) fn times(&self, device: &Arc<dyn Device>) -> Result<Vec<[u64; 4]>, ExecError> {
        let mut data = vec![0; self.timeline.bytes as usize];
        device.download(self.timeline.at, &mut data, Stream::Own)?;
        let words: Vec<u64> = data.as_chunks::<8>().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
        Ok(words.as_chunks::<4>().0.to_vec())
    }

    /// The tokens of the last launch, step by step.
    pub(super) fn tokens(&self, device: &Arc<dyn Device>) -> Result<Vec<i32>, ExecError> {
        let sequences = self.tables.repeat.as_ref().map_or(0, |r| r.sequences);
        let done = self.word(device, 4, Stream::Own)?;
        let mut data = vec![0; 4 * done as usize * sequences as usize];
        let at = self.control.at.offset(4 * Control::tokens(self.tables.blocks));
        device.download(at, &mut data, Stream::Own)?;
        Ok(data.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b)).collect())
    }

    /// Where the blocks were when they were told to stop.
    fn stopped(&self, device: &Arc<dyn Device>, stream: Stream) -> Result<ExecError, ExecError> {
        let mut data = vec![0; self.control.bytes as usize];
        device.download(self.control.at, &mut data, stream)?;
        device.zero(self.control.at, self.control.bytes, stream)?;
        let words: Vec<u32> = data.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
        let blocks = words[Control::BLOCKS as usize..Control::stops(self.tables.blocks) as usize]
            .chunks(Control::BLOCK as usize)
            .enumerate()
            .filter(|(_, w)| w[0] != 0)
            .map(|(n, w)| {
                format!(
                    "block {n} in step {}, record {}: counter {} is {}, waited for {}",
                    w[1], w[2], w[3], w[5], w[4]
                )
            })
            .collect::<Vec<_>>()
            .join("; ");
        Ok(ExecError::Stopped { kernel: self.tables.kernel.clone(), blocks })
    }
}
