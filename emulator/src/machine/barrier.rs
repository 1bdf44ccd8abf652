//! What: the sixteen barriers of a block.
//! Why here: arrival and release are separate events, so that warps can be scheduled in any order between them.
//! Pre: ids below 16 and counts that are multiples of 32, as the interpreter checks.
//! Post: a barrier is released when all that it waits for have arrived; lanes that exited are not waited for.

use super::context::{Context, RawFault, Step};
use super::warp::{Wait, Warp};
use crate::error::FaultKind;
use crate::inst::{BarKind, Op};

#[derive(Debug, Clone)]
struct Barrier {
    /// Lanes that arrived, per warp.
    arrived: Vec<u32>,
    /// Threads expected, 0 for all of the block.
    count: u32,
    active: bool,
}

/// The barriers of a block.
#[derive(Debug, Clone)]
pub(crate) struct Barriers(Vec<Barrier>);

impl Barriers {
    pub(crate) fn new(warps: usize) -> Barriers {
        Barriers(vec![Barrier { arrived: vec![0; warps], count: 0, active: false }; 16])
    }

    /// Records that lanes of a warp have arrived; says whether they are the first.
    pub(crate) fn arrive(
        &mut self,
        warps: &[Warp],
        warp: usize,
        id: u32,
        mask: u32,
        count: u32,
    ) -> Step<bool> {
        let b = &mut self.0[id as usize % 16];
        let first = !b.active;
        if first {
            b.arrived.fill(0);
            (b.count, b.active) = (count, true);
        }
        if b.count != count {
            let pc = warps[warp].splits.iter().find(|s| s.mask & mask != 0).map_or(0, |s| s.pc);
            let what = format!(
                "barrier {id} for {count} threads, which others entered for {} threads (0 is the whole block)",
                b.count
            );
            let kind = FaultKind::Barrier { what };
            return Err(Box::new(RawFault { kind, lane: mask.trailing_zeros(), pc }));
        }
        b.arrived[warp] |= mask;
        Ok(first)
    }

    /// Releases every barrier that lacks nobody; says whether there was one.
    pub(crate) fn complete_all(&mut self, warps: &mut [Warp], cx: &mut Context<'_>) -> bool {
        (0..16).fold(false, |any, id| any | self.complete(warps, id, cx))
    }

    /// Releases a barrier if all have arrived.
    pub(crate) fn complete(&mut self, warps: &mut [Warp], id: u32, cx: &mut Context<'_>) -> bool {
        let b = &mut self.0[id as usize % 16];
        if !b.active {
            return false;
        }
        let met = if b.count == 0 {
            warps.iter().zip(&b.arrived).all(|(w, a)| w.live() & !a == 0)
        } else {
            // Hardware counts whole warps.
            let whole =
                warps.iter().zip(&b.arrived).filter(|(w, a)| **a != 0 && w.live() & !**a == 0).count();
            32 * whole as u32 >= b.count
        };
        if !met {
            return false;
        }
        b.active = false;
        release(warps, id, cx);
        true
    }

    /// Who has arrived, in words.
    pub(crate) fn describe(&self, warps: &[Warp], id: u32) -> String {
        let b = &self.0[id as usize % 16];
        let n: u32 = b.arrived.iter().map(|m| m.count_ones()).sum();
        let of = if b.count == 0 { warps.iter().map(|w| w.live().count_ones()).sum() } else { b.count };
        format!("at barrier {id} ({n} of {of} threads arrived)")
    }
}

/// Lets go the lanes that wait, and gives them the result of a reduction.
fn release(warps: &mut [Warp], id: u32, cx: &mut Context<'_>) {
    let (mut votes, mut waiting) = (0u32, 0u32);
    cx.now += 1;
    if let Some(x) = &mut cx.watch {
        let all = warps.iter().map(|w| w.lanes.count_ones()).sum();
        x.complete(id, all, cx.now);
    }
    for w in warps.iter() {
        for s in w.splits.iter().filter(|s| s.wait == Wait::Barrier(id)) {
            let inst = &cx.kernel.code[s.pc as usize];
            if let Op::Bar { kind, neg, .. } = inst.op
                && !matches!(kind, BarKind::Sync | BarKind::Arrive)
            {
                let p = w.regs.pred(inst.c) ^ if neg { u32::MAX } else { 0 };
                votes += (p & s.mask).count_ones();
                waiting += s.mask.count_ones();
            }
        }
    }
    for w in warps.iter_mut() {
        for i in 0..w.splits.len() {
            let s = w.splits[i];
            if s.wait != Wait::Barrier(id) {
                continue;
            }
            let inst = &cx.kernel.code[s.pc as usize];
            if let Op::Bar { kind, .. } = inst.op {
                let all = |yes: bool| if yes { u32::MAX } else { 0 };
                match kind {
                    BarKind::RedPopc => w.regs.store::<u32>(inst.d, &[votes; 32], s.mask),
                    BarKind::RedAnd => w.regs.set_pred(inst.d, all(votes == waiting), s.mask),
                    BarKind::RedOr => w.regs.set_pred(inst.d, all(votes != 0), s.mask),
                    BarKind::Sync | BarKind::Arrive => {}
                }
            }
            if let Some(x) = &mut cx.watch {
                x.leave(id, w.id, s.mask);
            }
            w.splits[i].wait = Wait::Ready;
            w.splits[i].pc += 1;
        }
    }
}
