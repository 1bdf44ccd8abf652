//! What: `ldmatrix`, `stmatrix` and `cp.async`.
//! Why here: copies between memories, or of whole 8x8 matrices, in which a lane's data is another lane's address.
//! Pre: the mask of lanes is not empty.
//! Post: in the fast schedule an asynchronous copy is complete when its instruction is, which is one of the orders
//! that are allowed; an adversarial one is given the pieces.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::chaos::{self, Done, Flight, PIECE};
use super::context::{Context, RawFault, Step};
use super::place::{Access, Ask, Place, addresses, each_place, fault};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{CpAsync, Group, Matrix, NONE, Space};
use crate::sanitize::FindingKind;
use crate::watch::cell::Agent;
use crate::watch::taint;

/// `ldmatrix` and `stmatrix`: lane 8 i + g holds the address of row g of matrix i.
#[inline(always)]
pub(crate) fn matrix<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, m: &Matrix, pc: u32) -> Step<()> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let lanes = if m.n == 4 { u32::MAX } else { (1u32 << (8 * m.n)) - 1 };
    let access = if m.store { Access::STORE } else { Access::LOAD };
    let mut together = true;
    each_place(
        w,
        cx,
        &addrs,
        Ask { space: m.space, bytes: 16, exec: lanes, pc, access },
        |w, cx, p, exec| {
            together &= exec == lanes;
            if COUNT {
                cx.tally.access(p, 16, exec, m.store);
            }
            if w.taint.is_some() && exec == lanes {
                taint::matrix(w, cx, p, (&m.regs[..usize::from(m.n)], pc), (m.store, m.trans));
            }
            for i in 0..usize::from(m.n) {
                let mut e = [0u16; 64];
                if m.store {
                    let row = *w.regs.row::<u32>(m.regs[i]);
                    for l in 0..32 {
                        (e[2 * l], e[2 * l + 1]) = (row[l] as u16, (row[l] >> 16) as u16);
                    }
                    if m.trans {
                        e = transpose(&e);
                    }
                }
                for g in 0..8 {
                    let lane = 8 * i + g;
                    if exec >> lane & 1 == 0 {
                        continue;
                    }
                    // SAFETY: `place` checked 16 bytes at the lane's address.
                    unsafe {
                        let at = p.ptr.add(p.off[lane] as usize).cast::<[u16; 8]>();
                        if m.store {
                            at.write_unaligned(std::array::from_fn(|k| e[8 * g + k]));
                        } else {
                            e[8 * g..8 * g + 8].copy_from_slice(&at.read_unaligned());
                        }
                    }
                }
                if !m.store {
                    if m.trans {
                        e = transpose(&e);
                    }
                    let mut row = [0u32; 32];
                    for l in 0..32 {
                        row[l] = u32::from(e[2 * l]) | u32::from(e[2 * l + 1]) << 16;
                    }
                    *w.regs.row::<u32>(m.regs[i]) = row;
                }
            }
        },
    )?;
    if together {
        return Ok(());
    }
    let what = "the rows of a matrix instruction must all lie in shared memory".to_owned();
    Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane: 0, pc }))
}

#[inline(always)]
fn transpose(e: &[u16; 64]) -> [u16; 64] {
    std::array::from_fn(|i| e[i % 8 * 8 + i / 8])
}

/// `cp.async`.
#[inline(always)]
pub(crate) fn cp_async<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &CpAsync,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let src = addresses(&mut w.regs, &m.src);
    let dst = addresses(&mut w.regs, &m.dst);
    let bytes = u64::from(m.bytes);
    let mut size = [bytes; 32];
    if m.size != NONE {
        let s = *w.regs.row::<u32>(m.size);
        for l in 0..32 {
            size[l] = u64::from(s[l]);
        }
    }
    if m.ignore != NONE {
        let p = w.regs.pred(m.ignore) ^ if m.ignore_neg { u32::MAX } else { 0 };
        for (l, s) in size.iter_mut().enumerate() {
            if p >> l & 1 != 0 {
                *s = 0;
            }
        }
    }
    for l in 0..32u32 {
        if exec >> l & 1 != 0 && size[l as usize] > bytes {
            let what = format!("cp.async of {bytes} bytes with a source size of {}", size[l as usize]);
            return Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane: l, pc }));
        }
    }
    let mut from = [std::ptr::null::<u8>(); 32];
    let mut origin: [Option<(u32, u64)>; 32] = [None; 32];
    let load = Access { agent: Agent::Copy, ..Access::LOAD };
    // Lanes that copy all go together; those whose source is cut go one by one; the others do not touch it.
    let whole = (0..32).filter(|&l| exec >> l & 1 != 0 && size[l] == bytes).fold(0u32, |m, l| m | 1 << l);
    let mut fetch = |cx: &mut Context<'_>, p: &Place, exec: u32, n: u64| {
        if COUNT {
            cx.tally.access(p, n, exec, false);
        }
        for l in (0..32).filter(|l| exec >> l & 1 != 0) {
            // SAFETY: `place` checked the lane's range.
            from[l] = unsafe { p.ptr.add(p.off[l] as usize) };
            origin[l] = Some((p.region, p.off[l]));
        }
    };
    if whole != 0 {
        let ask = Ask { space: Space::Global, bytes, exec: whole, pc, access: load };
        each_place(w, cx, &src, ask, |_, cx, p, e| fetch(cx, p, e, bytes))?;
    }
    for l in (0..32).filter(|&l| (exec & !whole) >> l & 1 != 0 && size[l] > 0) {
        let one = Ask { space: Space::Global, bytes, exec: 1 << l, pc, access: load };
        if !src[l].is_multiple_of(bytes) {
            return Err(fault(cx, &src, one));
        }
        for i in 0..size[l] {
            let mut at = src;
            at[l] = src[l] + i;
            each_place(w, cx, &at, Ask { bytes: 1, ..one }, |_, cx, p, e| {
                if i == 0 {
                    fetch(cx, p, e, size[l]);
                }
            })?;
        }
    }
    let store = Access { agent: Agent::Copy, ..Access::STORE };
    let ask = Ask { space: Space::Shared, bytes, exec, pc, access: store };
    each_place(w, cx, &dst, ask, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, true);
        }
        for l in (0..32).filter(|l| exec >> l & 1 != 0) {
            if w.taint.is_some() {
                taint::defined(w, cx, p, bytes, 1 << l);
                if let Some((region, at)) = origin[l] {
                    let o = Place { ptr: std::ptr::null_mut(), off: [at; 32], space: Space::Global, region };
                    taint::copied(w, cx, (&o, at), (p, p.off[l]), (size[l], l as u32, pc));
                }
            }
            // SAFETY: `place` checked the lane's range.
            let to = unsafe { p.ptr.add(p.off[l] as usize) };
            let mut f = Flight {
                owner: (cx.uid, w.id, l as u32),
                issued: cx.now,
                done: Done::Copy,
                src: (size[l] > 0).then_some(from[l]),
                dst: to,
                bytes: m.bytes,
                taken: size[l] as u8,
                data: [0; PIECE],
                reduce: None,
            };
            match &mut cx.chaos {
                Some(c) => c.fly(f),
                None => {
                    f.read();
                    f.write();
                }
            }
        }
    })
}

/// Lanes exit: a bulk copy may still read the shared memory that goes with their block.
pub(crate) fn left_behind(w: &Warp, cx: &mut Context<'_>, exec: u32, pc: u32) {
    if w.bulk.is_empty() {
        return;
    }
    let late = |l: &u32| exec >> l & 1 != 0 && w.bulk.get(*l as usize).is_some_and(|b| b.0 > b.1);
    if let (Some(l), Some(x)) = ((0..32).find(late), &mut cx.watch) {
        let message = "the thread exits while a bulk copy that it issued may still read shared memory; missing: \
                       cp.async.bulk.wait_group.read before the exit";
        x.note(FindingKind::Race, pc, 32 * w.id + l, message.into());
    }
}

/// Commits of copies, and waits for them.
pub(crate) fn group(w: &mut Warp, cx: &mut Context<'_>, g: Group, exec: u32) {
    // Without anybody who looks, copies are complete when they are issued.
    if cx.watch.is_none() && cx.chaos.is_none() {
        return;
    }
    if w.groups.is_empty() {
        w.groups = vec![Default::default(); 32];
    }
    cx.now += 1;
    let now = cx.now;
    for l in (0..32usize).filter(|l| exec >> l & 1 != 0) {
        let (bulk, left, read) = match g {
            Group::Commit { bulk } => {
                w.groups[l][usize::from(bulk)].push_back(now);
                continue;
            }
            Group::Wait { bulk, left, read } => (bulk, left, read),
        };
        let list = &mut w.groups[l][usize::from(bulk)];
        let upto = match left {
            None => now,
            Some(n) => match list.len().checked_sub(n as usize + 1) {
                None => continue,
                Some(i) => list[i],
            },
        };
        if !read {
            list.retain(|c| *c > upto);
        }
        if bulk && let Some(b) = w.bulk.get_mut(l) {
            b.1 = b.1.max(upto);
        }
        let done = if bulk { Done::Bulk } else { Done::Copy };
        chaos::complete(cx, (cx.uid, w.id, l as u32), done, upto, read);
        if let Some(x) = &mut cx.watch {
            x.group_done(g, 32 * w.id + l as u32, upto);
        }
    }
}
