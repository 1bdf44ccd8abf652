//! Holding every pair of accesses that must be in order against the clocks.
//!
//! What: launches say the order. For two launches that touch the same bytes, one of them writing, every task of the later
//! must know that the tasks of the earlier whose regions meet its own are done. Mostly all of a launch knows all of
//! another, which is one comparison of clocks; the rest is looked at pair by pair.

use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;

use super::replay::{Placed, Replayed, name};
use super::{Certificate, Hazard, Violation};
use crate::MegaError;
use crate::access::Accesses;
use crate::region::{Box_, meet, places};

/// Which blocks of each launch are done: each exactly once.
fn coverage(
    step: &Step,
    programs: &[TileProgram],
    kinds: &[u32],
    replayed: &Replayed,
) -> Result<Result<u64, Violation>, MegaError> {
    let mut all = 0;
    for (l, launch) in step.launches.iter().enumerate() {
        let blocks = Accesses::new(step, launch, &programs[kinds[l] as usize])?.blocks();
        let wrong = |block: u64, times: u32| {
            let (kernel, region) = (launch.kernel.clone(), launch.region.clone());
            Ok(Err(Violation::Coverage { kernel, region, block, times }))
        };
        let mut runs: Vec<(u64, u64)> = replayed.launches[l]
            .iter()
            .map(|p| (u64::from(p.record.first), u64::from(p.record.first) + u64::from(p.record.count)))
            .collect();
        runs.sort_unstable();
        let mut at = 0;
        for (from, to) in runs {
            match from.cmp(&at) {
                std::cmp::Ordering::Greater => return wrong(at, 0),
                std::cmp::Ordering::Less => return wrong(from, 2),
                std::cmp::Ordering::Equal => at = to,
            }
        }
        if at != blocks {
            return wrong(at.min(blocks), u32::from(at > blocks));
        }
        all += blocks;
    }
    Ok(Ok(all))
}

/// Whether the later task knows that the earlier is done.
fn knows(later: &Placed, earlier: &Placed) -> bool {
    later.clock[earlier.block as usize] > earlier.at
}

/// Checks coverage and order.
pub(super) fn order(
    step: &Step,
    programs: &[TileProgram],
    kinds: &[u32],
    replayed: &Replayed,
) -> Result<Result<Certificate, Violation>, MegaError> {
    let launch_blocks = match coverage(step, programs, kinds, replayed)? {
        Ok(blocks) => blocks,
        Err(violation) => return Ok(Err(violation)),
    };
    let mut certificate = Certificate { launch_blocks, ..replayed.certificate.clone() };
    let places = places(step);
    let blocks = certificate.blocks;
    // What all tasks of a launch know, and what has to be known to know all of it.
    let least: Vec<Vec<u32>> = replayed
        .launches
        .iter()
        .map(|tasks| {
            let mut low = vec![u32::MAX; blocks];
            for t in tasks {
                low.iter_mut().zip(&t.clock).for_each(|(a, &b)| *a = (*a).min(b));
            }
            low
        })
        .collect();
    let last: Vec<Vec<u32>> = replayed
        .launches
        .iter()
        .map(|tasks| {
            let mut high = vec![0; blocks];
            for t in tasks {
                let h: &mut u32 = &mut high[t.block as usize];
                *h = (*h).max(t.at + 1);
            }
            high
        })
        .collect();
    for (later, known) in least.iter().enumerate() {
        for (earlier, needed) in last.iter().enumerate().take(later) {
            let whole = known.iter().zip(needed).all(|(know, need)| know >= need);
            let (a, b) = (&step.launches[earlier], &step.launches[later]);
            for (n, (&x, &x_written)) in a.args.iter().zip(&a.writes).enumerate() {
                for (m, (&y, &y_written)) in b.args.iter().zip(&b.writes).enumerate() {
                    let kind = match (x_written, y_written) {
                        (false, false) => continue,
                        (true, false) => Hazard::ReadAfterWrite,
                        (false, true) => Hazard::WriteAfterRead,
                        (true, true) => Hazard::WriteAfterWrite,
                    };
                    if !places[x.as_u32() as usize].meets(places[y.as_u32() as usize]) {
                        continue;
                    }
                    match kind {
                        Hazard::ReadAfterWrite => certificate.read_after_write += 1,
                        Hazard::WriteAfterRead => certificate.write_after_read += 1,
                        Hazard::WriteAfterWrite => certificate.write_after_write += 1,
                    }
                    if whole {
                        continue;
                    }
                    let boxes = |l: usize, arg: usize| -> Result<Vec<Option<Box_>>, MegaError> {
                        let accesses = Accesses::new(step, &step.launches[l], &programs[kinds[l] as usize])?;
                        let of = |p: &Placed| {
                            accesses
                                .boxes(u64::from(p.record.first), u64::from(p.record.count))
                                .swap_remove(arg)
                        };
                        Ok(replayed.launches[l].iter().map(of).collect())
                    };
                    let (first, second) = (boxes(earlier, n)?, boxes(later, m)?);
                    for (t, mine) in replayed.launches[later].iter().zip(&second) {
                        for (p, theirs) in replayed.launches[earlier].iter().zip(&first) {
                            let (Some(mine), Some(theirs)) = (mine, theirs) else { continue };
                            certificate.pairs += 1;
                            if knows(t, p) || x == y && !meet(mine, theirs) {
                                continue;
                            }
                            return Ok(Err(Violation::Unordered {
                                kind,
                                buffer: step.buffers[y].name.clone(),
                                earlier: Box::new(name(step, p.block, p.at, &p.record)),
                                later: Box::new(name(step, t.block, t.at, &t.record)),
                                missing: missing(p, t),
                            }));
                        }
                    }
                }
            }
        }
    }
    Ok(Ok(certificate))
}

/// The edge that would put two tasks in order.
fn missing(earlier: &Placed, later: &Placed) -> String {
    if earlier.block == later.block {
        format!(
            "record {} must come before record {} in the queue of SM {}",
            earlier.at, later.at, later.block
        )
    } else {
        format!(
            "a signal of SM {} at or after its record {}, and a wait for it of SM {} at or before its record {}",
            earlier.block, earlier.at, later.block, later.at
        )
    }
}
