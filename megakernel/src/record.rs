//! The records that the kernel reads: 32 words for each task, those of one SM in a row.
//!
//! Why here: the format is an agreement between the schedule, the kernel's text and the checker.
//!
//! Words: the kind (or [`NO_KIND`]), the launch, the first block, how many blocks; waits in the lower and signals in the
//! upper half; the task; where its stages begin in the ring of pages (the page, in bit 16 the parity of its lap in the first
//! step of a launch, in bit 17 whether that changes from step to step); pages to leave out behind it; six waits (a counter, and a step's worth of it, with the top bit set where the
//! step before is meant); twelve signals. A task with more waits or signals is surrounded by records without a kind.

use tilewright_ir::artifact::{Persistent, Repeat};
use tilewright_ir::step::Step;

use crate::emit::KERNEL;
use crate::graph::TaskGraph;
use crate::pages::{Bodies, Cursor};
use crate::schedule::{Item, Schedule};

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
    /// Where its stages begin in the ring of pages: the page, the parity of its lap and whether steps change that.
    pub place: u32,
    /// Pages left out behind it.
    pub tail: u32,
    /// Counter, a step's worth of it, and whether that of the step before is meant.
    pub waits: Vec<(u32, u32, bool)>,
    /// Counters.
    pub signals: Vec<u32>,
}

impl Record {
    /// A record that does nothing yet.
    pub fn empty(task: u32) -> Record {
        Record {
            kind: NO_KIND,
            launch: 0,
            first: 0,
            count: 0,
            task,
            place: 0,
            tail: 0,
            waits: vec![],
            signals: vec![],
        }
    }

    /// The record in words; nothing when it has too many waits or signals.
    pub fn words(&self) -> Option<[u32; WORDS]> {
        if self.waits.len() > WAITS || self.signals.len() > SIGNALS {
            return None;
        }
        let mut w = [0; WORDS];
        let sizes = self.waits.len() as u32 | (self.signals.len() as u32) << 16;
        w[..8].copy_from_slice(&[
            self.kind,
            self.launch,
            self.first,
            self.count,
            sizes,
            self.task,
            self.place,
            self.tail,
        ]);
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
            place: w[6],
            tail: w[7],
            waits: (0..waits).map(wait).collect(),
            signals: w[FIRST_SIGNAL..FIRST_SIGNAL + signals].to_vec(),
        })
    }
}

/// In [`Record::place`]: the parity of the lap.
pub const LAP: u32 = 1 << 16;
/// In [`Record::place`]: whether the parity changes from step to step.
pub const TURNS: u32 = 1 << 17;

/// The records of one queue, before pages.
fn queue(graph: &TaskGraph, bodies: &Bodies, items: &[Item]) -> Vec<Record> {
    let mut out = Vec::new();
    for item in items {
        let t = &graph.tasks[item.task];
        let number = item.task.as_u32();
        let kind = graph.kinds[t.launch as usize];
        let (early, own) = item.waits.split_at(item.waits.len().saturating_sub(WAITS));
        for piece in early.chunks(WAITS) {
            out.push(Record { waits: piece.to_vec(), ..Record::empty(number) });
        }
        let (own_signals, late) = item.signals.split_at(item.signals.len().min(SIGNALS));
        // What is copied ahead is copied block by block.
        let pieces = if bodies.fed(kind) { t.count.max(1) } else { 1 };
        for n in 0..pieces {
            out.push(Record {
                kind,
                launch: t.launch,
                first: t.first + n,
                count: if pieces == 1 { t.count } else { 1 },
                waits: if n == 0 { own.to_vec() } else { vec![] },
                signals: if n + 1 == pieces { own_signals.to_vec() } else { vec![] },
                ..Record::empty(number)
            });
        }
        for piece in late.chunks(SIGNALS) {
            out.push(Record { signals: piece.to_vec(), ..Record::empty(number) });
        }
    }
    out
}

/// Says where the stages of each record of a queue begin in the ring of pages. A step ends with a lap; a record that takes
/// no pages itself leaves out the last ones.
fn place(bodies: &Bodies, queue: &mut Vec<Record>) {
    let Some((count, _)) = bodies.pages() else { return };
    let count = u64::from(count);
    let mut cursor = Cursor::default();
    for record in queue.iter_mut().filter(|r| bodies.fed(r.kind)) {
        record.place = cursor.page as u32 | if cursor.laps & 1 == 1 { LAP } else { 0 };
        for stages in bodies.stages(record.kind, u64::from(record.first)) {
            for _ in 0..stages.count {
                cursor.take(stages.pages, count);
            }
        }
    }
    let last = cursor;
    let tail = cursor.finish(count) as u32;
    if tail > 0 {
        let task = queue.last().map_or(0, |r| r.task);
        if queue.last().is_none_or(|r| bodies.fed(r.kind)) {
            queue.push(Record::empty(task));
        }
        // There is one.
        if let Some(record) = queue.last_mut() {
            record.place = last.page as u32 | if last.laps & 1 == 1 { LAP } else { 0 };
            record.tail = tail;
        }
    }
    if cursor.laps & 1 == 1 {
        queue.iter_mut().for_each(|r| r.place |= TURNS);
    }
}

/// The tables of a schedule.
pub fn tables(
    step: &Step,
    graph: &TaskGraph,
    bodies: &Bodies,
    schedule: &Schedule,
    repeat: Option<&Repeat>,
) -> Persistent {
    let own = repeat.map(Repeat::args);
    let args = step.launches.iter().map(|l| l.args.clone()).chain(own).collect();
    let mut records: Vec<u32> = Vec::new();
    let mut queues = Vec::new();
    for items in &schedule.queues {
        let mut all = queue(graph, bodies, items);
        place(bodies, &mut all);
        queues.push(((records.len() / WORDS) as u32, all.len() as u32));
        // Waits and signals were cut into pieces that fit.
        records.extend(all.iter().filter_map(Record::words).flatten());
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
