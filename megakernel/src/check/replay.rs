//! Running the records without their work: who goes on when, and what each then knows of the others.
//!
//! Post: every record ran, so nothing waits forever; each has the clock of its start. Clocks count the records of each
//! block that are known to be done. Progress is monotone: whatever order blocks run in, the same records become ready.

use tilewright_ir::artifact::{Persistent, Repeat};
use tilewright_ir::step::Step;

use super::{Certificate, TaskName, Violation};
use crate::record::{ADVANCE, NO_KIND, Record, WORDS};

/// A task at its place.
pub(super) struct Placed {
    pub(super) block: u32,
    /// Its place in the queue.
    pub(super) at: u32,
    pub(super) record: Record,
    /// For each block, how many of its records are done when this one starts.
    pub(super) clock: Vec<u32>,
}

/// A replay that came to its end.
pub(super) struct Replayed {
    /// Tasks by launch.
    pub(super) launches: Vec<Vec<Placed>>,
    pub(super) certificate: Certificate,
}

/// The name of a record.
pub(super) fn name(step: &Step, block: u32, at: u32, record: &Record) -> TaskName {
    let launch = step.launches.get(record.launch as usize).filter(|_| record.kind != NO_KIND);
    TaskName {
        block,
        record: at,
        kernel: launch.map_or_else(|| "no work".to_owned(), |l| l.kernel.clone()),
        region: launch.map_or_else(String::new, |l| l.region.clone()),
        blocks: (record.first, record.first.saturating_add(record.count)),
    }
}

/// The queues as records; everything in them exists.
fn read(step: &Step, kinds: &[u32], tables: &Persistent) -> Result<Vec<Vec<Record>>, Violation> {
    let bad = |block: usize, record: u32, what: String| {
        Err(Violation::Malformed { block: block as u32, record, what })
    };
    if tables.queues.len() != tables.blocks as usize {
        return bad(0, 0, format!("{} queues for {} blocks", tables.queues.len(), tables.blocks));
    }
    let mut used = vec![false; tables.records.len() / WORDS];
    let mut out = Vec::with_capacity(tables.queues.len());
    for (block, &(start, count)) in tables.queues.iter().enumerate() {
        let mut queue = Vec::with_capacity(count as usize);
        for at in 0..count {
            let n = start as usize + at as usize;
            let words = tables.records.get(n * WORDS..(n + 1) * WORDS);
            let Some(record) = words.and_then(Record::read) else {
                return bad(block, at, "this is no record".to_owned());
            };
            if std::mem::replace(&mut used[n], true) {
                return bad(block, at, "another queue has the same record".to_owned());
            }
            let counters = record.waits.iter().map(|w| w.0).chain(record.signals.iter().copied());
            if let Some(c) = counters.into_iter().find(|&c| c >= tables.counters) {
                return bad(block, at, format!("there is no counter {c}"));
            }
            if record.kind == ADVANCE {
                let own = tables.repeat.as_ref().map(Repeat::args);
                if record.launch as usize != step.launches.len()
                    || own.is_none()
                    || own.as_ref() != tables.args.last()
                {
                    return bad(block, at, "the end of the step has other arguments".to_owned());
                }
                queue.push(record);
                continue;
            }
            if record.kind != NO_KIND && kinds.get(record.launch as usize) != Some(&record.kind) {
                return bad(block, at, format!("launch {} is not of kind {}", record.launch, record.kind));
            }
            if record.kind != NO_KIND
                && step.launches.get(record.launch as usize).map(|l| &l.args)
                    != tables.args.get(record.launch as usize)
            {
                return bad(block, at, format!("launch {} has other arguments", record.launch));
            }
            queue.push(record);
        }
        out.push(queue);
    }
    if let Some(n) = used.iter().position(|&u| !u) {
        return bad(0, n as u32, "no queue has this record".to_owned());
    }
    Ok(out)
}

/// What is known of a counter.
#[derive(Clone, Default)]
struct Counter {
    /// Signals in a step.
    total: u32,
    /// Those so far.
    now: u32,
    /// What their senders knew.
    clock: Vec<u32>,
}

/// Replays one step.
pub(super) fn replay(step: &Step, kinds: &[u32], tables: &Persistent) -> Result<Replayed, Violation> {
    let queues = read(step, kinds, tables)?;
    let blocks = queues.len();
    let mut counters =
        vec![Counter { clock: vec![0; blocks], ..Counter::default() }; tables.counters as usize];
    for &c in queues.iter().flatten().flat_map(|r| &r.signals) {
        counters[c as usize].total += 1;
    }
    let mut certificate = Certificate { blocks, counters: counters.len(), ..Certificate::default() };
    for (block, queue) in queues.iter().enumerate() {
        certificate.records += queue.len();
        for (at, record) in queue.iter().enumerate() {
            certificate.waits += record.waits.len();
            for &(counter, amount, _) in &record.waits {
                let signals = counters[counter as usize].total;
                if amount > signals {
                    let task = Box::new(name(step, block as u32, at as u32, record));
                    return Err(Violation::Unreachable { task, counter, amount, signals });
                }
            }
        }
    }
    let mut clocks: Vec<Vec<u32>> = vec![vec![0; blocks]; blocks];
    let mut next = vec![0usize; blocks];
    let mut ends: Vec<(usize, usize, Vec<u32>)> = Vec::new();
    let mut launches: Vec<Vec<Placed>> = step.launches.iter().map(|_| Vec::new()).collect();
    loop {
        let mut moved = false;
        for block in 0..blocks {
            while let Some(record) = queues[block].get(next[block]) {
                // Signals of the step before are there when a step begins.
                let waits = || record.waits.iter().filter(|w| !w.2);
                if waits().any(|&(c, amount, _)| counters[c as usize].now < amount) {
                    break;
                }
                for &(c, amount, _) in waits() {
                    let counter = &counters[c as usize];
                    // Less than all signals of a step may be those of steps before: that tells nothing.
                    if amount == counter.total {
                        clocks[block].iter_mut().zip(&counter.clock).for_each(|(a, &b)| *a = (*a).max(b));
                    }
                }
                if record.kind == ADVANCE {
                    ends.push((block, next[block], clocks[block].clone()));
                } else if record.kind != NO_KIND {
                    let (block, at) = (block as u32, next[block] as u32);
                    let clock = clocks[block as usize].clone();
                    launches[record.launch as usize].push(Placed {
                        block,
                        at,
                        record: record.clone(),
                        clock,
                    });
                    certificate.tasks += 1;
                }
                next[block] += 1;
                clocks[block][block] = next[block] as u32;
                for &c in &record.signals {
                    let counter = &mut counters[c as usize];
                    counter.now += 1;
                    counter.clock.iter_mut().zip(&clocks[block]).for_each(|(a, &b)| *a = (*a).max(b));
                }
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let stuck: Vec<String> = (0..blocks)
        .filter_map(|block| {
            let record = queues[block].get(next[block])?;
            let open = record.waits.iter().find(|w| !w.2 && counters[w.0 as usize].now < w.1)?;
            let task = name(step, block as u32, next[block] as u32, record);
            let counter = &counters[open.0 as usize];
            Some(format!("{task} waits for counter {}, which has {} of {}", open.0, counter.now, open.1))
        })
        .collect();
    if !stuck.is_empty() {
        return Err(Violation::Stuck(stuck.join("; ")));
    }
    if tables.repeat.is_some() {
        repeats(step, &queues, &ends)?;
        certificate.repeats = true;
    }
    Ok(Replayed { launches, certificate })
}

/// That steps may follow each other in one launch: the end of a step knows of all of it, and nothing of the next step
/// starts before it.
fn repeats(step: &Step, queues: &[Vec<Record>], ends: &[(usize, usize, Vec<u32>)]) -> Result<(), Violation> {
    let [(block, at, clock)] = ends else {
        return Err(Violation::Repeat(format!("a step has {} ends", ends.len())));
    };
    for (b, queue) in queues.iter().enumerate() {
        let known = if b == *block { *at + 1 } else { clock[b] as usize };
        // Behind the last that is known nothing may happen.
        let happens = |r: &&Record| r.kind != NO_KIND || !r.waits.is_empty() || !r.signals.is_empty();
        if let Some(open) = queue.get(known..).and_then(|rest| rest.iter().find(happens)) {
            let task = name(step, b as u32, known as u32, open);
            return Err(Violation::Repeat(format!("the end of the step does not wait for {task}")));
        }
    }
    let signals = |c: u32| queues.iter().flatten().flat_map(|r| &r.signals).filter(|&&s| s == c).count();
    let end = &queues[*block][*at];
    for (b, queue) in queues.iter().enumerate() {
        let Some(first) = queue.first() else { continue };
        // Before any other wait: where the step before was the last, nobody signals what others wait for.
        let waits = first.waits.first().is_some_and(|&(c, n, lag)| {
            lag && end.signals.contains(&c) && n as usize == signals(c) && n == 1
        });
        if !waits {
            let task = name(step, b as u32, 0, first);
            return Err(Violation::Repeat(format!(
                "{task} does not first wait for the end of the step before"
            )));
        }
    }
    Ok(())
}
