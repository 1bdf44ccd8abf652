//! What: the interpreter loop: one warp until its next event.
//! Why here: the hot path. Lane work happens in per-tier functions; this loop only fetches, masks and branches.
//! Pre: a warp that was reset for a block of the context's kernel.
//! Post: an event that says why the warp stopped, with its state ready to resume.
#![allow(unsafe_code)] // Calls lane functions picked for this host, on rows that the allocator placed.

use super::context::{Context, RawFault, Step};
use super::warp::{Frame, Split, Wait, Warp};
use super::{atom, bulk, cluster, copies, host, mbarrier, memory_ops, poll, tensor, warp_ops, wmma};
use crate::error::FaultKind;
use crate::inst::{BarKind, Dynamic, GridDep, NONE, Op, Order, PredOp, WarpOp};
use crate::lanes::tier;
use crate::watch::taint;

/// Why a warp stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// All lanes have exited.
    Done,
    /// The quantum is spent.
    Yield,
    /// Some lanes arrived at a barrier; they may or may not wait there.
    Arrived { id: u32, mask: u32, count: u32 },
    /// All live lanes wait.
    Stuck,
}

/// Runs a warp until its next event.
pub(crate) fn run<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, quantum: u32) -> Step<Event> {
    #[cfg(target_arch = "x86_64")]
    match tier() {
        // SAFETY: the tier was detected on this host.
        2 => return unsafe { run_512::<COUNT>(w, cx, quantum) },
        // SAFETY: as above.
        1 => return unsafe { run_256::<COUNT>(w, cx, quantum) },
        _ => {}
    }
    body::<COUNT>(w, cx, quantum)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
unsafe fn run_256<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, quantum: u32) -> Step<Event> {
    body::<COUNT>(w, cx, quantum)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512cd")]
unsafe fn run_512<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, quantum: u32) -> Step<Event> {
    body::<COUNT>(w, cx, quantum)
}

#[inline(always)]
fn body<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, quantum: u32) -> Step<Event> {
    let mut left = quantum;
    let kernel = cx.kernel;
    loop {
        let Some(cur) = w.pick(cx.chaos.as_deref_mut()) else {
            if w.splits.is_empty() {
                return Ok(Event::Done);
            }
            if w.meet(cx) {
                continue;
            }
            w.steps += u64::from(quantum - left);
            return Ok(Event::Stuck);
        };
        let stop = w.stop_pc(cur, cx.chaos.is_some());
        let Split { mut pc, mask, frame, depth, .. } = w.splits[cur];
        loop {
            let inst = &kernel.code[pc as usize];
            let exec = if inst.guard == NONE {
                mask
            } else {
                let p = w.regs.pred(inst.guard);
                mask & if inst.guard_neg { !p } else { p }
            };
            if COUNT {
                cx.tally.instruction(pc, exec);
            }
            left = left.wrapping_sub(1);
            if w.tainted {
                taint::step(w, cx, inst, (mask, exec, pc));
            }
            match &inst.op {
                Op::Alu(f) => {
                    if exec != 0 {
                        // SAFETY: the function was picked for this host's tier, its rows lie in this file.
                        unsafe { f(&mut w.regs, inst, exec) };
                    }
                    pc += 1;
                }
                Op::Ld(m) => {
                    if exec != 0 {
                        memory_ops::load::<COUNT>(w, cx, m, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::St(m) => {
                    if exec != 0 {
                        if m.order != Order::Weak && part(w, cx, cur, (pc, exec, mask)) {
                            again::<COUNT>(cx, pc, exec);
                            break;
                        }
                        memory_ops::store::<COUNT>(w, cx, m, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::Pred { op, neg_a, neg_b, neg_d } => {
                    let a = w.regs.pred(inst.a) ^ if *neg_a { u32::MAX } else { 0 };
                    let b = w.regs.pred(inst.b) ^ if *neg_b { u32::MAX } else { 0 };
                    let r = match op {
                        PredOp::And => a & b,
                        PredOp::Or => a | b,
                        PredOp::Xor => a ^ b,
                        PredOp::Mov => a,
                    };
                    w.regs.set_pred(inst.d, if *neg_d { !r } else { r }, exec);
                    pc += 1;
                }
                Op::Bra(target) => {
                    if exec == mask {
                        let back = *target <= pc;
                        pc = *target;
                        if back && w.idle && poll::visit(w, cx, pc, mask) {
                            w.splits[cur].pc = pc;
                            w.splits[cur].wait = Wait::Poll;
                            break;
                        }
                        if back && w.splits.len() > 1 {
                            // The way back may lead to where others wait.
                            w.splits[cur].pc = pc;
                            break;
                        }
                    } else if exec == 0 {
                        pc += 1;
                    } else {
                        let s = &mut w.splits[cur];
                        s.pc = pc + 1;
                        s.mask = mask & !exec;
                        let other = Split { pc: *target, mask: exec, ..*s };
                        w.splits.push(other);
                        break;
                    }
                }
                Op::Nop => pc += 1,
                Op::Mma(m) => {
                    if exec != 0 {
                        if exec != u32::MAX {
                            if cx.chaos.is_some() && w.live() == u32::MAX {
                                again::<COUNT>(cx, pc, exec);
                                park(w, cur, (pc, exec, mask), Wait::Members(u32::MAX));
                                break;
                            }
                            if exec == mask && w.let_others_catch_up(cur, pc) {
                                again::<COUNT>(cx, pc, exec);
                                break;
                            }
                            return Err(partial(exec, pc, "mma.sync"));
                        }
                        tensor::mma(&mut w.regs, m);
                    }
                    pc += 1;
                }
                Op::Warp { op, mask: members } => {
                    if exec != 0 {
                        let lane = exec.trailing_zeros();
                        let need = w.regs.row::<u32>(*members)[lane as usize] & w.live();
                        if need & !exec != 0 {
                            again::<COUNT>(cx, pc, exec);
                            park(w, cur, (pc, exec, mask), Wait::Members(need));
                            break;
                        }
                        if matches!(op, WarpOp::Sync) {
                            cx.now += 1;
                            if let Some(x) = &mut cx.watch {
                                x.together(w.id, exec, cx.now);
                            }
                        }
                        warp_ops::run(&mut w.regs, inst, op, exec);
                    }
                    pc += 1;
                }
                Op::Matrix(m) => {
                    if exec != 0 {
                        if exec != u32::MAX {
                            if cx.chaos.is_some() && w.live() == u32::MAX {
                                again::<COUNT>(cx, pc, exec);
                                park(w, cur, (pc, exec, mask), Wait::Members(u32::MAX));
                                break;
                            }
                            if exec == mask && w.let_others_catch_up(cur, pc) {
                                again::<COUNT>(cx, pc, exec);
                                break;
                            }
                            return Err(partial(exec, pc, "ldmatrix"));
                        }
                        copies::matrix::<COUNT>(w, cx, m, pc)?;
                    }
                    pc += 1;
                }
                Op::Tile(m) => {
                    if exec != 0 {
                        if exec != u32::MAX {
                            if cx.chaos.is_some() && w.live() == u32::MAX {
                                again::<COUNT>(cx, pc, exec);
                                park(w, cur, (pc, exec, mask), Wait::Members(u32::MAX));
                                break;
                            }
                            if exec == mask && w.let_others_catch_up(cur, pc) {
                                again::<COUNT>(cx, pc, exec);
                                break;
                            }
                            return Err(partial(exec, pc, if m.store { "wmma.store" } else { "wmma.load" }));
                        }
                        wmma::tile::<COUNT>(w, cx, m, pc)?;
                    }
                    pc += 1;
                }
                Op::CpAsync(m) => {
                    if exec != 0 {
                        copies::cp_async::<COUNT>(w, cx, m, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::Mbar(m) => {
                    if exec != 0
                        && let Some((lanes, at)) = mbarrier::run(w, cx, inst, m, exec, pc)?
                    {
                        if COUNT {
                            cx.tally.again(pc, lanes, lanes == exec);
                        }
                        park(w, cur, (pc, lanes, mask), Wait::Mbarrier { at, seen: cx.phases });
                        break;
                    }
                    pc += 1;
                }
                Op::Bulk(m) => {
                    if exec != 0 {
                        bulk::copy::<COUNT>(w, cx, m, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::AsyncStore(m) => {
                    if exec != 0 {
                        bulk::store::<COUNT>(w, cx, m, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::Atom(m) => {
                    if exec != 0 {
                        if part(w, cx, cur, (pc, exec, mask)) {
                            again::<COUNT>(cx, pc, exec);
                            break;
                        }
                        atom::atom::<COUNT>(w, cx, inst, m, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::ActiveMask => {
                    w.regs.store::<u32>(inst.d, &[exec; 32], exec);
                    pc += 1;
                }
                Op::Read(what) => {
                    let now = cx.clock + w.steps + u64::from(quantum - left);
                    match what {
                        Dynamic::Clock32 => w.regs.store::<u32>(inst.d, &[now as u32; 32], exec),
                        Dynamic::ClockHi => w.regs.store::<u32>(inst.d, &[(now >> 32) as u32; 32], exec),
                        Dynamic::Clock64 => w.regs.store::<u64>(inst.d, &[now; 32], exec),
                        Dynamic::GlobalTimer => {
                            let now = now + cx.leapt;
                            // Its resolution is open: while a loop is looked at, it stands still.
                            let now = cx.trace.as_mut().map_or(now, |t| t.time(now, cx.leaps));
                            w.regs.store::<u64>(inst.d, &[now; 32], exec)
                        }
                    }
                    pc += 1;
                }
                Op::Brx(targets) => {
                    // Lanes part by target; those that the guard holds back fall through.
                    let index = *w.regs.row::<u32>(inst.a);
                    let proto = w.splits[cur];
                    w.splits.swap_remove(cur);
                    if mask != exec {
                        w.splits.push(Split { pc: pc + 1, mask: mask & !exec, ..proto });
                    }
                    let mut rest = exec;
                    while rest != 0 {
                        let lane = rest.trailing_zeros();
                        let i = index[lane as usize];
                        let Some(&t) = targets.get(i as usize) else {
                            let what = format!("brx.idx by {i} into a list of {} targets", targets.len());
                            return Err(Box::new(RawFault {
                                kind: FaultKind::BadOperand { what },
                                lane,
                                pc,
                            }));
                        };
                        let same = (0..32)
                            .filter(|&l| rest >> l & 1 != 0 && index[l] == i)
                            .fold(0, |m, l| m | 1 << l);
                        w.splits.push(Split { pc: t, mask: same, ..proto });
                        rest &= !same;
                    }
                    break;
                }
                Op::Call(target) => {
                    if exec != 0 {
                        let id = w.intern(Frame { parent: frame, return_pc: pc + 1 });
                        let proto = w.splits[cur];
                        w.splits[cur] =
                            Split { pc: *target, mask: exec, frame: id, depth: depth + 1, ..proto };
                        if mask != exec {
                            w.splits.push(Split { pc: pc + 1, mask: mask & !exec, ..proto });
                        }
                        break;
                    }
                    pc += 1;
                }
                Op::Ret | Op::Exit => {
                    if exec != 0 {
                        let proto = w.splits[cur];
                        if mask != exec {
                            w.splits.push(Split { pc: pc + 1, mask: mask & !exec, ..proto });
                        }
                        if matches!(inst.op, Op::Ret) && frame != NONE {
                            let f = w.frames[frame as usize];
                            w.splits[cur] = Split {
                                pc: f.return_pc,
                                mask: exec,
                                frame: f.parent,
                                depth: depth - 1,
                                ..proto
                            };
                        } else {
                            copies::left_behind(w, cx, exec, pc);
                            w.exited |= exec;
                            w.splits.swap_remove(cur);
                            w.wake_members();
                            cluster::exit(cx, exec);
                        }
                        break;
                    }
                    pc += 1;
                }
                Op::Bar { kind, aligned, .. } => {
                    if exec != 0 {
                        let live = w.live();
                        if *aligned
                            && exec != mask
                            && let Some(x) = &mut cx.watch
                        {
                            x.parted(pc, w.id, exec, mask);
                        }
                        if *aligned && exec != live && cx.orderly() && !w.splits[cur].forced {
                            again::<COUNT>(cx, pc, exec);
                            park(w, cur, (pc, exec, mask), Wait::Members(live));
                            break;
                        }
                        w.splits[cur].forced = false;
                        let lane = exec.trailing_zeros();
                        let id = w.regs.row::<u32>(inst.a)[lane as usize];
                        let count = if inst.b == NONE { 0 } else { w.regs.row::<u32>(inst.b)[lane as usize] };
                        if id > 15 || inst.b != NONE && (count == 0 || !count.is_multiple_of(32)) {
                            let what = format!(
                                "barrier {id} for {count} threads: ids are 0 to 15, counts multiples of 32"
                            );
                            return Err(Box::new(RawFault {
                                kind: FaultKind::BadOperand { what },
                                lane,
                                pc,
                            }));
                        }
                        let proto = w.splits[cur];
                        if *kind == BarKind::Arrive {
                            w.splits[cur].pc = pc + 1;
                        } else {
                            w.splits[cur] = Split { pc, mask: exec, wait: Wait::Barrier(id), ..proto };
                            if mask != exec {
                                w.splits.push(Split { pc: pc + 1, mask: mask & !exec, ..proto });
                            }
                        }
                        w.steps += u64::from(quantum - left);
                        return Ok(Event::Arrived { id, mask: exec, count });
                    }
                    pc += 1;
                }
                Op::Fence(f) => {
                    if exec != 0 {
                        cx.now += 1;
                        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                        if let Some(x) = &mut cx.watch {
                            x.fence(*f, w.id, exec, cx.now);
                        }
                    }
                    pc += 1;
                }
                Op::Group(g) => {
                    if exec != 0 {
                        copies::group(w, cx, *g, exec);
                    }
                    pc += 1;
                }
                Op::Cluster(b) => {
                    if exec != 0 {
                        let live = w.live();
                        if b.aligned
                            && exec != mask
                            && let Some(x) = &mut cx.watch
                        {
                            x.parted(pc, w.id, exec, mask);
                        }
                        if b.aligned && exec != live && cx.orderly() && !w.splits[cur].forced {
                            again::<COUNT>(cx, pc, exec);
                            park(w, cur, (pc, exec, mask), Wait::Members(live));
                            break;
                        }
                        w.splits[cur].forced = false;
                        if b.arrive {
                            let twice = cluster::arrive(w, cx, exec, b.orders);
                            if twice != 0 {
                                let what = "a thread arrives twice at one phase of its cluster's barrier: wait between";
                                let kind = FaultKind::Barrier { what: what.into() };
                                return Err(Box::new(RawFault { kind, lane: twice.trailing_zeros(), pc }));
                            }
                        } else if let Some(lane) = cluster::uninvited(w, exec) {
                            let what = "a thread waits at its cluster's barrier without having arrived there";
                            let kind = FaultKind::Barrier { what: what.into() };
                            return Err(Box::new(RawFault { kind, lane, pc }));
                        } else if let Some(target) = cluster::wait(w, cx, exec) {
                            park(w, cur, (pc, exec, mask), Wait::Cluster(target));
                            break;
                        } else {
                            cx.now += 1;
                            cluster::waited(w, exec);
                            if let Some(x) = &mut cx.watch {
                                x.leave_cluster(w.id, exec);
                            }
                        }
                    }
                    pc += 1;
                }
                Op::GridDep(GridDep::Wait) => {
                    if exec != 0 {
                        let Some(stamp) = cx.grid_before else {
                            park(w, cur, (pc, exec, mask), Wait::Grid);
                            break;
                        };
                        if let Some(x) = &mut cx.watch {
                            x.after_grid(w.id, exec, stamp);
                        }
                    }
                    pc += 1;
                }
                Op::GridDep(GridDep::Launch) => {
                    if exec != 0 && !cx.released {
                        cx.released = true;
                    }
                    pc += 1;
                }
                Op::Mapa { wide, generic } => {
                    if exec != 0
                        && let Some(lane) = cluster::map(w, cx, inst, *wide, *generic, exec)
                    {
                        let rank = w.regs.row::<u32>(inst.b)[lane as usize];
                        let kind = FaultKind::NoRank { rank, blocks: cx.peers.len().max(1) as u32 };
                        return Err(Box::new(RawFault { kind, lane, pc }));
                    }
                    pc += 1;
                }
                Op::Rank { wide, generic } => {
                    if exec != 0 {
                        cluster::rank(w, cx, inst, *wide, *generic, exec);
                    }
                    pc += 1;
                }
                Op::Registers { inc, count } => {
                    if exec != 0 && w.registers != 0 {
                        let live = w.live();
                        if exec != live && cx.orderly() {
                            again::<COUNT>(cx, pc, exec);
                            park(w, cur, (pc, exec, mask), Wait::Members(live));
                            break;
                        }
                        let lane = exec.trailing_zeros();
                        if *inc == (*count < w.registers) && *count != w.registers {
                            let what =
                                format!("setmaxnreg to {count} from {}: the other way round", w.registers);
                            return Err(Box::new(RawFault {
                                kind: FaultKind::BadOperand { what },
                                lane,
                                pc,
                            }));
                        }
                        let need = count.saturating_sub(w.registers);
                        if need > cx.pool {
                            again::<COUNT>(cx, pc, exec);
                            park(w, cur, (pc, exec, mask), Wait::Registers(need));
                            break;
                        }
                        cx.pool = cx.pool + w.registers - count;
                        w.registers = *count;
                        cx.effects += 1;
                    }
                    pc += 1;
                }
                Op::Pause => {
                    pc += 1;
                    if exec != 0 && !w.idle {
                        w.splits[cur].pc = pc;
                        if w.splits.len() > 1 {
                            w.splits[cur].penalty += 1;
                        }
                        w.steps += u64::from(quantum - left);
                        return Ok(Event::Yield);
                    }
                }
                Op::Host(what) => {
                    if exec != 0 {
                        host::run(w, cx, inst, what, exec, pc)?;
                    }
                    pc += 1;
                }
                Op::Trap => {
                    if exec != 0 {
                        return Err(Box::new(RawFault {
                            kind: FaultKind::Trap,
                            lane: exec.trailing_zeros(),
                            pc,
                        }));
                    }
                    pc += 1;
                }
            }
            if pc >= stop {
                w.splits[cur].pc = pc;
                break;
            }
            if left == 0 {
                w.splits[cur].pc = pc;
                if w.splits.len() > 1 {
                    w.splits[cur].penalty += 1;
                }
                w.steps += u64::from(quantum);
                return Ok(Event::Yield);
            }
        }
        if left == 0 || left > quantum {
            w.steps += u64::from(quantum);
            return Ok(Event::Yield);
        }
    }
}

/// In an adversarial schedule, lanes that go together may part where others can see the difference; says whether
/// they did.
#[inline(always)]
fn part(w: &mut Warp, cx: &mut Context<'_>, cur: usize, at: (u32, u32, u32)) -> bool {
    cx.chaos.is_some() && part_now(w, cx, cur, at)
}

#[cold]
fn part_now(w: &mut Warp, cx: &mut Context<'_>, cur: usize, (pc, exec, mask): (u32, u32, u32)) -> bool {
    let Some(c) = &mut cx.chaos else { return false };
    if exec.is_power_of_two() || !c.one_in(8) {
        return false;
    }
    let first = exec & c.next() as u32;
    if first == 0 || first == exec {
        return false;
    }
    let s = &mut w.splits[cur];
    (s.pc, s.mask) = (pc, first);
    let other = Split { mask: mask & !first, ..*s };
    w.splits.push(other);
    true
}

/// Takes the count of an instruction back that will be executed later.
#[inline(always)]
fn again<const COUNT: bool>(cx: &mut Context<'_>, pc: u32, exec: u32) {
    if COUNT {
        cx.tally.again(pc, exec, true);
    }
}

/// Parks lanes at an instruction; the other lanes of the split, which its guard holds back or which are done with it,
/// go on.
#[cold]
fn park(w: &mut Warp, cur: usize, (pc, lanes, mask): (u32, u32, u32), wait: Wait) {
    let proto = w.splits[cur];
    w.splits[cur] = Split { pc, mask: lanes, wait, ..proto };
    if mask != lanes {
        w.splits.push(Split { pc: pc + 1, mask: mask & !lanes, ..proto });
    }
}

#[cold]
fn partial(exec: u32, pc: u32, what: &str) -> Box<RawFault> {
    let kind = FaultKind::BadOperand {
        what: format!(
            "{what} executed by lanes {exec:#010x}: all 32 lanes of the warp must execute it together"
        ),
    };
    Box::new(RawFault { kind, lane: exec.trailing_zeros(), pc })
}
