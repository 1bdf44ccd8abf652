//! Holding the ring of pages against what its barriers count.
//!
//! What: both sides of the ring, the warp that copies and those that compute, go through the records of a queue in the same
//! order and take the pages that records name. A page may be overwritten when its empty barrier has ended as many phases
//! as the page had uses; but a wait sees a parity only. So for every use of every page the parity that a record names must
//! be that of the number of uses before. Then the wait ends exactly when the use before is released; that use belongs to an
//! earlier stage of the same queue, so that waits for pages, counters and queues have no cycle.
//! Why here: places of records are numbers in a table like all else.
//! Post: each page of each stage is claimed and released once, and never claimed before it was released.

use tilewright_ir::artifact::Persistent;
use tilewright_ir::step::Step;

use super::replay::name;
use super::{Certificate, Violation};
use crate::pages::{Bodies, Cursor};
use crate::record::{ADVANCE, LAP, NO_KIND, Record, TURNS, WORDS};

/// Steps that are gone through: parities repeat after two.
const STEPS: u32 = 4;

/// Checks the pages of all queues.
pub(super) fn pages(
    step: &Step,
    bodies: &Bodies,
    tables: &Persistent,
    certificate: &mut Certificate,
) -> Result<(), Violation> {
    let steps = if tables.repeat.is_some() { STEPS } else { 1 };
    for (block, &(start, count)) in tables.queues.iter().enumerate() {
        let records: Vec<Record> = (start..start + count)
            .filter_map(|n| {
                tables.records.get(n as usize * WORDS..(n as usize + 1) * WORDS).and_then(Record::read)
            })
            .collect();
        queue(step, bodies, block as u32, &records, steps, certificate)?;
    }
    Ok(())
}

fn queue(
    step: &Step,
    bodies: &Bodies,
    block: u32,
    records: &[Record],
    steps: u32,
    certificate: &mut Certificate,
) -> Result<(), Violation> {
    let all = bodies.pages().map_or(0, |p| u64::from(p.0));
    let mut uses = vec![0u64; all as usize];
    for turn in 0..steps {
        for (at, record) in records.iter().enumerate() {
            let wrong = |what: String| Violation::Pages {
                task: Box::new(name(step, block, at as u32, record)),
                what,
            };
            let fed = record.kind < ADVANCE && record.kind != NO_KIND && bodies.fed(record.kind);
            if fed && record.count != 1 {
                return Err(wrong(format!("its {} blocks begin at one page", record.count)));
            }
            let first = u64::from(record.place & (LAP - 1));
            let lap = u64::from((record.place & LAP != 0) ^ (record.place & TURNS != 0 && turn & 1 == 1));
            if first > all {
                return Err(wrong(format!("it begins at page {first} of {all}")));
            }
            let mut cursor = Cursor { page: first, laps: lap };
            let mut claim = |from: u64, count: u64, lap: u64| -> Result<(), Violation> {
                for page in from..from + count {
                    let uses = &mut uses[page as usize];
                    if *uses & 1 != lap & 1 {
                        return Err(wrong(format!(
                            "page {page} was used {uses} times, and the wait for its release is that of another use"
                        )));
                    }
                    *uses += 1;
                }
                Ok(())
            };
            let stages = if fed { bodies.stages(record.kind, u64::from(record.first)) } else { Vec::new() };
            // What can be copied before anything of the task itself is released.
            let mut room = all;
            for stages in stages {
                if stages.pages > all {
                    return Err(wrong(format!("a stage has {} pages of {all}", stages.pages)));
                }
                for _ in 0..stages.count {
                    let before = cursor;
                    let (left_out, page) = cursor.take(stages.pages, all);
                    claim(before.page, left_out, before.laps)?;
                    claim(page, stages.pages, cursor.laps)?;
                    if turn == 0 {
                        certificate.stages += 1;
                        certificate.pages += left_out + stages.pages;
                        certificate.bytes += stages.bytes;
                        let fits = room.checked_sub(left_out + stages.pages);
                        certificate.bytes_ahead += fits.map_or(0, |_| stages.bytes);
                        if fits.is_none() {
                            let kernel = step.launches.get(record.launch as usize).map_or("", |l| &l.kernel);
                            match certificate.late.iter_mut().find(|(known, _)| known == kernel) {
                                Some((_, bytes)) => *bytes += stages.bytes,
                                None => certificate.late.push((kernel.to_owned(), stages.bytes)),
                            }
                        }
                        room = fits.unwrap_or(0);
                    }
                }
            }
            if record.tail > 0 {
                let tail = u64::from(record.tail);
                if fed || cursor.page + tail != all {
                    return Err(wrong(format!("it leaves out {tail} pages, behind page {}", cursor.page)));
                }
                claim(all - tail, tail, cursor.laps)?;
            }
        }
    }
    Ok(())
}
