//! The records that the kernel reads: 32 words for each task, those of one SM in a row.
//!
//! Why here: the format is an agreement between the schedule, the kernel's text and the checker.
//!
//! Words: the kind (or [`NO_KIND`]), the launch, the first block, how many blocks; waits in the lower and signals in the
//! upper half; the task; two unused; six waits (a counter, and a step's worth of it, with the top bit set where the
//! step before is meant); twelve signals. A task with more waits or signals is surrounded by records without a kind.

use tilewright_ir::artifact::{Persistent, Repeat};
use tilewright_ir::step::Step;

use crate::emit::KERNEL;
use crate::graph::TaskGraph;
use crate::schedule::Schedule;

/// Words of a record.
pub const WORDS: usize = 32;

/// The kind of a record that only waits or signals.
pub const NO_KIND: u32 = u32::MAX;

/// The kind of the record that ends a step: it hands over to the next.
pub const ADVANCE: u32 = u32::MAX - 1;

const WAITS: usize = 6;
const SIGNALS: usize = 12;
const FIRST_WAIT: usize = 8;
const FIRST_SIGNAL: usize = FIRST_WAIT + 2 * WAITS;
const LAG: u32 = 1 << 31;

/// A record, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind, or [`NO_KIND`].
    pub kind: u32,
    /// The launch whose arguments it takes.
    pub launch: u32,
    /// The first block.
    pub first: u32,
    /// How many blocks.
    pub count: u32,
    /// The task, for people.
    pub task: u32,
    /// Counter, a step's worth of it, and whether that of the step before is meant.
    pub waits: Vec<(u32, u32, bool)>,
    /// Counters.
    pub signals: Vec<u32>,
}

impl Record {
    /// A record that does nothing yet.
    pub fn empty(task: u32) -> Record {
        Record { kind: NO_KIND, launch: 0, first: 0, count: 0, task, waits: vec![], signals: vec![] }
    }

    /// The record in words; nothing when it has too many waits or signals.
    pub fn words(&self) -> Option<[u32; WORDS]> {
        if self.waits.len() > WAITS || self.signals.len() > SIGNALS {
            return None;
        }
        let mut w = [0; WORDS];
        let sizes = self.waits.len() as u32 | (self.signals.len() as u32) << 16;
        w[..6].copy_from_slice(&[self.kind, self.launch, self.first, self.count, sizes, self.task]);
        for (n, &(counter, amount, lag)) in self.waits.iter().enumerate() {
            w[FIRST_WAIT + 2 * n] = counter;
            w[FIRST_WAIT + 2 * n + 1] = amount | if lag { LAG } else { 0 };
        }
        w[FIRST_SIGNAL..FIRST_SIGNAL + self.signals.len()].copy_from_slice(&self.signals);
        Some(w)
    }

    /// The record that words are; nothing when they are none.
    pub fn read(w: &[u32]) -> Option<Record> {
        let (waits, signals) = ((w.get(4)? & 0xffff) as usize, (w[4] >> 16) as usize);
        if w.len() != WORDS || waits > WAITS || signals > SIGNALS {
            return None;
        }
        let wait = |n: usize| {
            let amount = w[FIRST_WAIT + 2 * n + 1];
            (w[FIRST_WAIT + 2 * n], amount & !LAG, amount & LAG != 0)
        };
        Some(Record {
            kind: w[0],
            launch: w[1],
            first: w[2],
            count: w[3],
            task: w[5],
            waits: (0..waits).map(wait).collect(),
            signals: w[FIRST_SIGNAL..FIRST_SIGNAL + signals].to_vec(),
        })
    }
}

/// The tables of a schedule.
pub fn tables(step: &Step, graph: &TaskGraph, schedule: &Schedule, repeat: Option<&Repeat>) -> Persistent {
    let own = repeat.map(|r| vec![r.next, r.ids]);
    let args = step.launches.iter().map(|l| l.args.clone()).chain(own).collect();
    let mut records: Vec<u32> = Vec::new();
    let mut queues = Vec::new();
    let mut put = |r: &Record| {
        // Never longer than fits: see the pieces below.
        if let Some(words) = r.words() {
            records.extend(words);
        }
    };
    let mut at = 0;
    for queue in &schedule.queues {
        let start = at;
        for item in queue {
            let t = &graph.tasks[item.task];
            let number = item.task.as_u32();
            let waits = &item.waits;
            let (early, own) = waits.split_at(waits.len().saturating_sub(WAITS));
            for piece in early.chunks(WAITS) {
                put(&Record { waits: piece.to_vec(), ..Record::empty(number) });
                at += 1;
            }
            let (own_signals, late) = item.signals.split_at(item.signals.len().min(SIGNALS));
            put(&Record {
                kind: graph.kinds[t.launch as usize],
                launch: t.launch,
                first: t.first,
                count: t.count,
                task: number,
                waits: own.to_vec(),
                signals: own_signals.to_vec(),
            });
            at += 1;
            for piece in late.chunks(SIGNALS) {
                put(&Record { signals: piece.to_vec(), ..Record::empty(number) });
                at += 1;
            }
        }
        queues.push((start, at - start));
    }
    Persistent {
        kernel: KERNEL.to_owned(),
        blocks: schedule.queues.len() as u32,
        records,
        queues,
        counters: schedule.counters,
        args,
        repeat: repeat.cloned(),
    }
}
