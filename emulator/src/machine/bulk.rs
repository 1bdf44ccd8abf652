//! What: bulk copies and reductions, and the stores that count as transactions.
//! Why here: one lane moves many bytes, which are handled 32 pieces at a time.
//! Pre: `exec` is not empty.
//! Post: in the fast schedule bytes have arrived and mbarriers know it when the instruction is over, which is one of
//! the orders that are allowed; an adversarial one is given the pieces.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::atom::{apply, replace};
use super::chaos::{self, Done, Flight, Job};
use super::context::{Context, RawFault, Step};
use super::mbarrier;
use super::place::{Access, Ask, Kind, Place, addresses, each_place};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{AsyncStore, Bulk, Order, Rmw, Scope, Space};
use crate::watch::cell::Agent;
use crate::watch::{Issue, taint};

/// Bytes of a piece: what sizes and addresses are multiples of.
const PIECE: u64 = 16;

/// A value of up to 8 bytes.
fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b))
}

/// Blames the lane that issued a copy for what one of its pieces did.
fn blame<T>(r: Step<T>, lane: u32) -> Step<T> {
    r.map_err(|mut f| {
        f.lane = lane;
        f
    })
}

/// `cp.async.bulk` and `cp.reduce.async.bulk`.
pub(crate) fn copy<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &Bulk,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let (src, dst) = (addresses(&mut w.regs, &m.src), addresses(&mut w.regs, &m.dst));
    let size = *w.regs.row::<u32>(m.size);
    let mbar = m.mbar.as_ref().map(|a| addresses(&mut w.regs, a));
    for l in (0..32usize).filter(|l| exec >> l & 1 != 0) {
        let (lane, bytes) = (l as u32, u64::from(size[l]));
        if !bytes.is_multiple_of(PIECE) {
            let what = format!("a bulk copy of {bytes} bytes: sizes are multiples of {PIECE}");
            return Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane, pc }));
        }
        let r = one::<COUNT>(w, cx, m, (src[l], dst[l], bytes), mbar.as_ref(), lane, pc);
        if let Some(x) = &mut cx.watch {
            x.issuing = None;
        }
        r?;
    }
    Ok(())
}

fn one<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &Bulk,
    (src, dst, bytes): (u64, u64, u64),
    mbar: Option<&[u64; 32]>,
    lane: u32,
    pc: u32,
) -> Step<()> {
    let mut number = None;
    if let Some(x) = &mut cx.watch {
        number = mbar.map(|_| x.number_copy(w.id, lane));
        x.issuing = Some(Issue { lane, told: number });
    }
    let word = match mbar {
        None => None,
        Some(addrs) => Some(mbarrier::find(w, cx, addrs, (Agent::Told, lane, pc))?),
    };
    let (reads, writes) = match word {
        Some(_) => (Agent::Told, Agent::Told),
        None => (Agent::BulkSource, Agent::BulkTarget),
    };
    let owner = (cx.uid, w.id, lane);
    if word.is_none() && cx.orderly() {
        w.bulk.resize(32, (0, 0));
        w.bulk[lane as usize].0 = cx.now + 1;
    }
    let done = match (word, &mut cx.chaos) {
        (Some(word), Some(c)) => {
            let left = (bytes / PIECE) as usize;
            c.jobs.push(Job { left, word, bytes, number, owner, pc });
            Done::Told(c.jobs.len() - 1)
        }
        _ => Done::Bulk,
    };
    for at in (0..bytes).step_by(32 * PIECE as usize) {
        let pieces = ((bytes - at) / PIECE).min(32) as u32;
        let mask = u32::MAX >> (32 - pieces);
        let of = |base: u64| -> [u64; 32] {
            std::array::from_fn(|c| base.wrapping_add(at).wrapping_add(PIECE * c as u64))
        };
        let mut from = [std::ptr::null::<u8>(); 32];
        let mut origin = None;
        let access = Access { agent: reads, ..Access::LOAD };
        let ask = Ask { space: m.src_space, bytes: PIECE, exec: mask, pc, access };
        let read = each_place(w, cx, &of(src), ask, |_, cx, p, exec| {
            if COUNT {
                cx.tally.access(p, PIECE, exec, false);
            }
            for c in (0..32).filter(|c| exec >> c & 1 != 0) {
                // SAFETY: `place` checked the piece.
                from[c] = unsafe { p.ptr.add(p.off[c] as usize) };
            }
            origin = Some(Place { ptr: p.ptr, off: p.off, space: p.space, region: p.region });
        });
        blame(read, lane)?;
        let access = match m.reduce {
            None => Access { agent: writes, ..Access::STORE },
            Some(_) => Access {
                kind: Kind::Atomic,
                order: Order::Relaxed,
                scope: Scope::Gpu,
                agent: writes,
                ..Access::LOAD
            },
        };
        let ask = Ask { space: m.dst_space, exec: mask, access, ..ask };
        let write = each_place(w, cx, &of(dst), ask, |w, cx, p, exec| {
            if COUNT {
                cx.tally.access(p, PIECE, exec, true);
            }
            let reduce_as = m.reduce.map(|(op, n)| (op, n, p.space == Space::Global));
            for c in (0..32).filter(|c| exec >> c & 1 != 0) {
                if w.taint.is_some()
                    && let Some(o) = &origin
                {
                    taint::copied(w, cx, (o, o.off[c]), (p, p.off[c]), (PIECE, lane, pc));
                }
                // SAFETY: `place` checked the piece.
                let to = unsafe { p.ptr.add(p.off[c] as usize) };
                if let Some(x) = &mut cx.chaos {
                    x.fly(Flight {
                        owner,
                        issued: cx.now,
                        done,
                        src: Some(from[c]),
                        dst: to,
                        bytes: PIECE as u8,
                        taken: PIECE as u8,
                        data: [0; chaos::PIECE],
                        reduce: reduce_as,
                    });
                    continue;
                }
                // SAFETY: `place` checked both pieces, which are aligned to more than an element.
                unsafe {
                    let data = from[c].cast::<[u8; 16]>().read_unaligned();
                    match reduce_as {
                        None => to.cast::<[u8; 16]>().write_unaligned(data),
                        Some((op, n, flush)) => reduce(to, &data, op, n, flush),
                    }
                }
            }
        });
        blame(write, lane)?;
    }
    match (word, done) {
        (Some(_), Done::Told(job)) => chaos::finish(cx, job, 0),
        (Some(word), _) => {
            mbarrier::told(cx, word, bytes, number)
                .map_err(|what| Box::new(RawFault { kind: FaultKind::Mbarrier { what }, lane, pc }))?;
        }
        _ => {}
    }
    Ok(())
}

/// Applies an operation to the elements of a piece.
///
/// # Safety
/// As `replace`, for every element of the piece.
pub(crate) unsafe fn reduce(to: *mut u8, data: &[u8], op: Rmw, bytes: u8, flush: bool) {
    for (k, e) in data.chunks_exact(usize::from(bytes)).enumerate() {
        let v = value(e);
        // SAFETY: the caller keeps the contract.
        unsafe {
            replace(to.add(k * usize::from(bytes)), u64::from(bytes), |old| {
                apply(op, 8 * u32::from(bytes), flush, old, v, 0)
            })
        };
    }
}

/// `st.async` and `red.async`.
pub(crate) fn store<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &AsyncStore,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let (to, mbar) = (addresses(&mut w.regs, &m.addr), addresses(&mut w.regs, &m.mbar));
    for lane in (0..32).filter(|l| exec >> l & 1 != 0) {
        let r = store_one::<COUNT>(w, cx, m, (&to, &mbar), lane, pc);
        if let Some(x) = &mut cx.watch {
            x.issuing = None;
        }
        r?;
    }
    Ok(())
}

fn store_one<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &AsyncStore,
    (to, mbar): (&[u64; 32], &[u64; 32]),
    lane: u32,
    pc: u32,
) -> Step<()> {
    let each = u64::from(m.bytes);
    let bytes = each * u64::from(m.n);
    let mut number = None;
    if let Some(x) = &mut cx.watch {
        number = Some(x.number_copy(w.id, lane));
        x.issuing = Some(Issue { lane, told: number });
    }
    let word = mbarrier::find(w, cx, mbar, (Agent::Posted, lane, pc))?;
    let kind = if m.reduce.is_some() { Kind::Atomic } else { Kind::Store };
    // Stores of this kind are relaxed operations of the cluster.
    let access =
        Access { kind, order: Order::Relaxed, scope: Scope::Cluster, agent: Agent::Posted, ..Access::LOAD };
    let ask = Ask { space: Space::Shared, bytes, exec: 1 << lane, pc, access };
    let mut data = [0u8; chaos::PIECE];
    for (j, &row) in m.regs.iter().take(usize::from(m.n)).enumerate() {
        let v = if each == 8 {
            w.regs.row::<u64>(row)[lane as usize]
        } else {
            u64::from(w.regs.row::<u32>(row)[lane as usize])
        };
        let at = j * each as usize;
        data[at..at + each as usize].copy_from_slice(&v.to_le_bytes()[..each as usize]);
    }
    let mut target = None;
    each_place(w, cx, to, ask, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, true);
        }
        if w.taint.is_some() {
            taint::defined(w, cx, p, bytes, exec);
        }
        // SAFETY: `place` checked range and alignment of the whole vector.
        target = Some(unsafe { p.ptr.add(p.off[lane as usize] as usize) });
    })?;
    let Some(dst) = target else { return Ok(()) };
    let reduce_as = m.reduce.map(|op| (op, m.bytes, false));
    let owner = (cx.uid, w.id, lane);
    if let Some(c) = &mut cx.chaos {
        c.jobs.push(Job { left: 1, word, bytes, number, owner, pc });
        let done = Done::Told(c.jobs.len() - 1);
        let (bytes, issued) = (bytes as u8, cx.now);
        c.fly(Flight { owner, issued, done, src: None, dst, bytes, taken: 0, data, reduce: reduce_as });
        return Ok(());
    }
    let data = &data[..bytes as usize];
    // SAFETY: as above.
    unsafe {
        match reduce_as {
            None => std::ptr::copy_nonoverlapping(data.as_ptr(), dst, data.len()),
            Some((op, n, flush)) => reduce(dst, data, op, n, flush),
        }
    }
    mbarrier::told(cx, word, bytes, number)
        .map_err(|what| Box::new(RawFault { kind: FaultKind::Mbarrier { what }, lane, pc }))
}
