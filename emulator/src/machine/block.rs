//! What: a block: its warps, its barriers, and the order in which warps run.
//! Why here: barriers are met across warps; the round-robin here is one schedule among many.
//! Pre: warps made for the kernel.
//! Post: all threads have exited, or a fault.

use super::context::{Context, RawFault, Step};
use super::run::{Event, run};
use super::warp::{Wait, Warp};
use crate::error::FaultKind;
use crate::inst::{BarKind, Op};

/// A barrier of a block.
#[derive(Debug, Clone, Default)]
struct Barrier {
    /// Lanes that arrived, per warp.
    arrived: Vec<u32>,
    /// Threads expected, 0 for all of the block.
    count: u32,
    active: bool,
}

/// Instructions that a warp runs before others get a turn.
const QUANTUM: u32 = 4096;

/// Runs a block to its end. A fault comes with the index of its warp.
pub(crate) fn run_block(
    warps: &mut [Warp],
    cx: &mut Context<'_>,
    count: bool,
) -> Result<(), (usize, Box<RawFault>)> {
    let mut barriers: [Barrier; 16] = Default::default();
    let mut done = vec![false; warps.len()];
    loop {
        let mut moved = false;
        for i in 0..warps.len() {
            if done[i] {
                continue;
            }
            loop {
                let w = &mut warps[i];
                let before = w.clock_base;
                let event = if count { run::<true>(w, cx, QUANTUM) } else { run::<false>(w, cx, QUANTUM) };
                let event = event.map_err(|f| (i, f))?;
                cx.clock += warps[i].clock_base - before;
                match event {
                    Event::Done => {
                        done[i] = true;
                        moved = true;
                        // A barrier may have waited for the lanes that left.
                        for (id, b) in barriers.iter_mut().enumerate() {
                            complete(warps, b, id as u32, cx);
                        }
                    }
                    Event::Yield => moved = true,
                    Event::Arrived { id, mask, count } => {
                        moved = true;
                        arrive(warps, &mut barriers[id as usize % 16], i, mask, count).map_err(|f| (i, f))?;
                        complete(warps, &mut barriers[id as usize % 16], id, cx);
                        if warps[i].splits.iter().any(|s| s.wait == Wait::Ready) {
                            continue;
                        }
                    }
                    Event::Stuck => {
                        // Lanes that exited may have been all that a barrier lacked.
                        for (id, b) in barriers.iter_mut().enumerate() {
                            if complete(warps, b, id as u32, cx) {
                                moved = true;
                            }
                        }
                    }
                }
                break;
            }
            if cx.clock > cx.budget {
                let pc = warps[i].splits.first().map_or(0, |s| s.pc);
                let lane = warps[i].splits.first().map_or(0, |s| s.mask.trailing_zeros());
                let kind = FaultKind::Budget { budget: cx.budget };
                return Err((i, Box::new(RawFault { kind, lane, pc })));
            }
        }
        if done.iter().all(|d| *d) {
            return Ok(());
        }
        if !moved {
            return Err(deadlock(warps, &barriers, &done, cx));
        }
    }
}

fn arrive(warps: &[Warp], b: &mut Barrier, warp: usize, mask: u32, count: u32) -> Step<()> {
    if !b.active {
        *b = Barrier { arrived: vec![0; warps.len()], count, active: true };
    }
    if b.count != count {
        let (old, lane) = (b.count, mask.trailing_zeros());
        let pc = warps[warp].splits.iter().find(|s| s.mask & mask != 0).map_or(0, |s| s.pc);
        let what = format!(
            "a barrier for {count} threads that others entered for {old} threads (0 is the whole block)"
        );
        return Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane, pc }));
    }
    b.arrived[warp] |= mask;
    Ok(())
}

/// Releases a barrier if all have arrived.
fn complete(warps: &mut [Warp], b: &mut Barrier, id: u32, cx: &Context<'_>) -> bool {
    if !b.active {
        return false;
    }
    let met = if b.count == 0 {
        warps.iter().zip(&b.arrived).all(|(w, a)| w.live() & !a == 0)
    } else {
        // Hardware counts whole warps.
        let n: u32 =
            warps.iter().zip(&b.arrived).filter(|(w, a)| **a != 0 && w.live() & !**a == 0).map(|_| 32).sum();
        n >= b.count
    };
    if !met {
        return false;
    }
    b.active = false;
    // Reductions see the predicates of all lanes that wait.
    let (mut votes, mut waiting) = (0u32, 0u32);
    for w in warps.iter() {
        for s in w.splits.iter().filter(|s| s.wait == Wait::Barrier(id)) {
            let inst = &cx.kernel.code[s.pc as usize];
            if let Op::Bar { kind, neg } = inst.op
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
            w.splits[i].wait = Wait::Ready;
            w.splits[i].pc += 1;
        }
    }
    true
}

fn deadlock(
    warps: &[Warp],
    barriers: &[Barrier; 16],
    done: &[bool],
    cx: &Context<'_>,
) -> (usize, Box<RawFault>) {
    let mut waiting = vec![];
    let mut first = None;
    for (i, w) in warps.iter().enumerate().filter(|(i, _)| !done[*i]) {
        for s in &w.splits {
            first.get_or_insert((i, s.mask.trailing_zeros(), s.pc));
            let line = cx.kernel.meta[s.pc as usize].ptx_line;
            let what = match s.wait {
                Wait::Barrier(id) => {
                    let b = &barriers[id as usize % 16];
                    let n: u32 = b.arrived.iter().map(|m| m.count_ones()).sum();
                    let of = match b.count {
                        0 => warps.iter().map(|w| w.live().count_ones()).sum(),
                        c => c,
                    };
                    format!("at barrier {id} ({n} of {of} threads arrived)")
                }
                Wait::Members(need) => {
                    format!("for lanes {:#010x} at a warp-wide instruction", need & !s.mask)
                }
                Wait::Ready => "for its turn".to_owned(),
            };
            waiting.push(format!("warp {i} lanes {:#010x} wait {what}, PTX line {line}", s.mask));
        }
    }
    let (warp, lane, pc) = first.unwrap_or((0, 0, 0));
    let kind = FaultKind::Deadlock { waiting: waiting.join("; ") };
    (warp, Box::new(RawFault { kind, lane, pc }))
}
