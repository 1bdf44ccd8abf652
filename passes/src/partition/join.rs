//! Kernels that share a launch.
//!
//! Why here: which kernels there are is settled, and what a plan costs depends on how many launches they take. Kernels that
//! do not wait for one another and read something in common (the projections of one input, say) run side by side: the
//! grid of their launch is the direct sum of their grids. It saves launches, fills processors that each of them alone
//! would leave idle, and the common operand comes from memory once.
//!
//! Pre: a verified plan. Post: the same kernels, those of one launch next to each other, in an order that respects
//! dependencies; kernels keep their order where nothing is joined within a phase.

use std::collections::BTreeSet;

use tilewright_ir::Value;
use tilewright_ir::chain::{chains, kept};
use tilewright_ir::plan::{Plan, Store};
use tilewright_ir::step::TOGETHER;
use tilewright_ir::written::keeps_off;

/// Decides anew which kernels share a launch. Kernels of a chain stay together.
pub fn join(plan: &mut Plan) {
    let units = chains(plan);
    let kept = kept(plan);
    let touches: Vec<(BTreeSet<Value>, BTreeSet<Value>)> = units
        .iter()
        .map(|unit| {
            let mut all = (BTreeSet::new(), BTreeSet::new());
            for k in &plan.kernels[unit.clone()] {
                let (reads, writes) = plan.touches(k);
                all.0.extend(reads.into_iter().filter(|v| !kept.contains(v)));
                all.1.extend(writes.into_iter().filter(|v| !kept.contains(v)));
            }
            all
        })
        .collect();
    let of = |unit: usize| &plan.kernels[units[unit].clone()];
    let prologue = |unit: usize| of(unit).iter().any(|k| k.prologue);
    let waits = |late: usize, early: usize| {
        if prologue(early) && !prologue(late) {
            // It is done before the first run.
            return false;
        }
        let ((reads, writes), (read, written)) = (&touches[late], &touches[early]);
        // What an update leaves as it was may be read while it is made.
        let taken = |s: &Store| {
            read.contains(&plan.storage(s.value)) && !of(early).iter().all(|k| keeps_off(plan, k, s.value))
        };
        !written.is_disjoint(reads)
            || !written.is_disjoint(writes)
            || of(late).iter().flat_map(|k| &k.stores).any(taken)
    };
    let mut phases: Vec<usize> = Vec::new();
    for n in 0..units.len() {
        phases.push((0..n).filter(|&m| waits(n, m)).map(|m| phases[m] + 1).max().unwrap_or(0));
    }
    let last = phases.iter().copied().max().unwrap_or(0);
    let mut launches: Vec<Vec<usize>> = Vec::new();
    for phase in 0..=last {
        let begin = launches.len();
        for n in (0..units.len()).filter(|&n| phases[n] == phase) {
            let alone = |m: usize| of(m).iter().any(|k| k.prologue || k.name.contains(TOGETHER));
            let fits = |l: &&mut Vec<usize>| {
                l.iter().all(|&m| !alone(m)) && l.iter().any(|&m| !touches[m].0.is_disjoint(&touches[n].0))
            };
            match launches[begin..].iter_mut().find(fits) {
                Some(launch) if !alone(n) => launch.push(n),
                _ => launches.push(vec![n]),
            }
        }
    }
    let first = |l: &Vec<usize>| !l.iter().any(|&n| prologue(n));
    launches.sort_by_key(first);
    let mut kernels: Vec<_> = std::mem::take(&mut plan.kernels).into_iter().map(Some).collect();
    for launch in launches {
        for (at, n) in launch.into_iter().enumerate() {
            for member in units[n].clone() {
                // Each number is in one unit, and each unit in one launch.
                if let Some(mut kernel) = kernels[member].take() {
                    kernel.beside = at > 0 && !kernel.continues;
                    plan.kernels.push(kernel);
                }
            }
        }
    }
}
