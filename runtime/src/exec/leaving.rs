//! What: why a persistent kernel ended before its work was done, in words.
//! Why here: the kernel writes numbers where the host sees them; what these are, tables and step know.
//! Pre: a run that is over, or failed. Post: a typed error that names records, counters and who should have raised them; the
//! next run begins with counters that are zero.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tilewright_ir::artifact::Visible;
use tilewright_ir::step::Step;

use super::ExecError;
use super::persistent::{RECORD_WORDS, Resident};
use crate::device::{Device, Stream};

/// In a record: the kind, the launch, how many waits and signals, and where signals are.
const KIND: usize = 0;
const LAUNCH: usize = 1;
const SIZES: usize = 4;
const SIGNALS: usize = 20;
/// Blocks that a message lists, at most.
const LISTED: usize = 16;

impl Resident {
    /// Once a run is over, or failed: why it ended before its work was done, if it did.
    pub(super) fn verdict(
        &self,
        device: &Arc<dyn Device>,
        step: &Step,
        asked: u32,
    ) -> Result<Option<ExecError>, ExecError> {
        let mut words = vec![0u32; (self.visible.bytes / 4) as usize];
        device.peek(self.visible.at, &mut words)?;
        let blocks: Vec<(usize, &[u32])> = words[Visible::BLOCKS as usize..]
            .chunks(Visible::BLOCK as usize)
            .enumerate()
            .filter(|(_, w)| w[0] != 0)
            .collect();
        let kernel = self.tables.kernel.clone();
        let mut progress = self.progress();
        let patience = progress.patience;
        let why = |reason: u32| blocks.iter().any(|(_, w)| w[0] == reason);
        if blocks.is_empty() {
            if asked <= 1 || self.word(device, 7, Stream::Own)? == 0 {
                return Ok(None);
            }
            self.stop.store(false, Ordering::SeqCst);
            let steps = self.word(device, 4, Stream::Own)?;
            return Ok(Some(ExecError::StoppedBetween { kernel, steps, asked }));
        }
        progress.clean = false;
        for n in 0..self.visible.bytes / 4 {
            device.poke(self.visible.at.offset(4 * n), 0)?;
        }
        let first = [Visible::LOST, Visible::LATE, Visible::TOLD].into_iter().find(|&r| why(r));
        // Those who left first, and then those who left because of them: one of these may be the one to look at.
        let mut texts: Vec<String> = Vec::new();
        for reason in [true, false] {
            let some = blocks.iter().filter(|(_, w)| (Some(w[0]) == first) == reason);
            texts.extend(some.map(|&(n, w)| self.place(step, n, w)));
        }
        let more = texts.len().saturating_sub(LISTED);
        texts.truncate(LISTED);
        let mut blocks = texts.join("; ");
        if more > 0 {
            blocks.push_str(&format!("; and {more} more"));
        }
        Ok(Some(match first {
            Some(Visible::LOST) => ExecError::Lost { kernel, limit: patience.copies, blocks },
            Some(Visible::LATE) => ExecError::Late { kernel, limit: patience.others, blocks },
            _ => {
                self.stop.store(false, Ordering::SeqCst);
                ExecError::Stopped { kernel, blocks }
            }
        }))
    }

    /// The kernel of a record.
    fn name<'a>(&self, step: &'a Step, record: &[u32]) -> &'a str {
        let work = record[KIND] < u32::MAX - 1;
        let launch = step.launches.get(record[LAUNCH] as usize).filter(|_| work);
        launch.map_or("the end of the step", |l| l.kernel.as_str())
    }

    /// Where a block was, and who should have come.
    fn place(&self, step: &Step, block: usize, words: &[u32]) -> String {
        let records: Vec<&[u32]> = self.tables.records.chunks(RECORD_WORDS as usize).collect();
        let [why, epoch, at, counter, target, found, ..] = *words else { return String::new() };
        if why == Visible::LOST {
            return format!("block {block}");
        }
        let queue = self.tables.queues.get(block).copied().unwrap_or_default();
        let own = records.get((queue.0 + at) as usize).map_or("nothing", |r| self.name(step, r));
        let mut sources = Vec::new();
        for (n, &(start, count)) in self.tables.queues.iter().enumerate() {
            for record in start..start + count {
                let Some(r) = records.get(record as usize) else { continue };
                let signals = (r[SIZES] >> 16) as usize;
                if r[SIGNALS..].iter().take(signals).any(|&s| s == counter) {
                    sources.push(format!(
                        "record {} of block {n} (`{}`)",
                        record - start,
                        self.name(step, r)
                    ));
                }
            }
        }
        let all = sources.len();
        sources.truncate(4);
        let more = if all > 4 { format!(" and {} more", all - 4) } else { String::new() };
        let from = if all == 0 { "nobody".to_owned() } else { sources.join(", ") + &more };
        format!(
            "block {block} in step {epoch}, record {at} (`{own}`): counter {counter} is {found}, waited for {target}, from {from}"
        )
    }
}
