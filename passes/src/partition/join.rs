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
use tilewright_ir::plan::{Plan, Store};
use tilewright_ir::step::TOGETHER;
use tilewright_ir::written::keeps_off;

/// Decides anew which kernels share a launch.
pub fn join(plan: &mut Plan) {
    let touches: Vec<(BTreeSet<Value>, BTreeSet<Value>)> =
        plan.kernels.iter().map(|k| plan.touches(k)).collect();
    let waits = |late: usize, early: usize| {
        if plan.kernels[early].prologue && !plan.kernels[late].prologue {
            // It is done before the first run.
            return false;
        }
        let ((reads, writes), (read, written)) = (&touches[late], &touches[early]);
        // What an update leaves as it was may be read while it is made.
        let taken = |s: &Store| {
            read.contains(&plan.storage(s.value)) && !keeps_off(plan, &plan.kernels[early], s.value)
        };
        !written.is_disjoint(reads)
            || !written.is_disjoint(writes)
            || plan.kernels[late].stores.iter().any(taken)
    };
    let mut phases: Vec<usize> = Vec::new();
    for n in 0..plan.kernels.len() {
        phases.push((0..n).filter(|&m| waits(n, m)).map(|m| phases[m] + 1).max().unwrap_or(0));
    }
    let last = phases.iter().copied().max().unwrap_or(0);
    let mut launches: Vec<Vec<usize>> = Vec::new();
    for phase in 0..=last {
        let begin = launches.len();
        for n in (0..plan.kernels.len()).filter(|&n| phases[n] == phase) {
            let alone = |m: usize| plan.kernels[m].prologue || plan.kernels[m].name.contains(TOGETHER);
            let fits = |l: &&mut Vec<usize>| {
                l.iter().all(|&m| !alone(m)) && l.iter().any(|&m| !touches[m].0.is_disjoint(&touches[n].0))
            };
            match launches[begin..].iter_mut().find(fits) {
                Some(launch) if !alone(n) => launch.push(n),
                _ => launches.push(vec![n]),
            }
        }
    }
    let first = |l: &Vec<usize>| !l.iter().any(|&n| plan.kernels[n].prologue);
    launches.sort_by_key(first);
    let mut kernels: Vec<_> = std::mem::take(&mut plan.kernels).into_iter().map(Some).collect();
    for launch in launches {
        for (at, n) in launch.into_iter().enumerate() {
            // Each number is in one launch.
            if let Some(mut kernel) = kernels[n].take() {
                kernel.beside = at > 0;
                plan.kernels.push(kernel);
            }
        }
    }
}
