//! What: bulk copies and reductions, and the stores that count as transactions.
//! Why here: one lane moves many bytes, which are handled 32 pieces at a time.
//! Pre: `exec` is not empty.
//! Post: bytes have arrived and mbarriers know it when the instruction is over, which is one of the orders that
//! are allowed.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::atom::{apply, replace};
use super::context::{Context, RawFault, Step};
use super::mbarrier::complete_tx;
use super::place::{Access, Ask, addresses, each_place};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{AsyncStore, Bulk, Rmw, Space};

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
        if let Some(x) = &mut cx.watch {
            x.issuer = Some(lane);
        }
        for at in (0..bytes).step_by(32 * PIECE as usize) {
            let pieces = ((bytes - at) / PIECE).min(32) as u32;
            let mask = u32::MAX >> (32 - pieces);
            let of = |base: u64| -> [u64; 32] {
                std::array::from_fn(|c| base.wrapping_add(at).wrapping_add(PIECE * c as u64))
            };
            let mut data = [[0u8; PIECE as usize]; 32];
            let ask = Ask { space: m.src_space, bytes: PIECE, exec: mask, pc, access: Access::Load };
            let read = each_place(w, cx, &of(src[l]), ask, |_, cx, p, exec| {
                if COUNT {
                    cx.tally.access(p, PIECE, exec, false);
                }
                for c in (0..32).filter(|c| exec >> c & 1 != 0) {
                    // SAFETY: `place` checked the piece.
                    data[c] = unsafe { p.ptr.add(p.off[c] as usize).cast::<[u8; 16]>().read_unaligned() };
                }
            });
            blame(read, lane)?;
            let access = if m.reduce.is_some() { Access::Atomic } else { Access::Store };
            let ask = Ask { space: m.dst_space, exec: mask, access, ..ask };
            let write = each_place(w, cx, &of(dst[l]), ask, |_, cx, p, exec| {
                if COUNT {
                    cx.tally.access(p, PIECE, exec, true);
                }
                for c in (0..32).filter(|c| exec >> c & 1 != 0) {
                    // SAFETY: `place` checked the piece, which is aligned to more than an element.
                    unsafe {
                        let to = p.ptr.add(p.off[c] as usize);
                        match m.reduce {
                            None => to.cast::<[u8; 16]>().write_unaligned(data[c]),
                            Some((op, n)) => reduce(to, &data[c], op, n, p.space == Space::Global),
                        }
                    }
                }
            });
            blame(write, lane)?;
        }
        if let Some(x) = &mut cx.watch {
            x.issuer = None;
        }
        if let Some(mbar) = &mbar {
            complete_tx(w, cx, mbar, bytes, lane, pc)?;
        }
    }
    Ok(())
}

/// Applies an operation to the elements of a piece.
///
/// # Safety
/// As `replace`, for every element of the piece.
unsafe fn reduce(to: *mut u8, data: &[u8], op: Rmw, bytes: u8, flush: bool) {
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
    let each = u64::from(m.bytes);
    let bytes = each * u64::from(m.n);
    let access = if m.reduce.is_some() { Access::Atomic } else { Access::Store };
    let ask = Ask { space: Space::Shared, bytes, exec, pc, access };
    each_place(w, cx, &to, ask, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, true);
        }
        for (j, &row) in m.regs.iter().take(usize::from(m.n)).enumerate() {
            let v: [u64; 32] =
                if each == 8 { *w.regs.row::<u64>(row) } else { w.regs.row::<u32>(row).map(u64::from) };
            for l in (0..32).filter(|l| exec >> l & 1 != 0) {
                let new =
                    |old: u64| m.reduce.map_or(v[l], |op| apply(op, 8 * each as u32, false, old, v[l], 0));
                // SAFETY: `place` checked range and alignment of the whole vector.
                unsafe { replace(p.ptr.add(p.off[l] as usize + j * each as usize), each, new) };
            }
        }
    })?;
    for lane in (0..32).filter(|l| exec >> l & 1 != 0) {
        complete_tx(w, cx, &mbar, bytes, lane, pc)?;
    }
    Ok(())
}
