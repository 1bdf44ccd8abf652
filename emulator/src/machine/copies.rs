//! What: `ldmatrix`, `stmatrix` and `cp.async`.
//! Why here: copies between memories, or of whole 8x8 matrices, in which a lane's data is another lane's address.
//! Pre: the mask of lanes is not empty.
//! Post: an asynchronous copy is complete when its instruction is, which is one of the orders that are allowed.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::context::{Context, RawFault, Step};
use super::place::{Access, Ask, Place, addresses, each_place, fault};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{CpAsync, Matrix, NONE, Space};

/// `ldmatrix` and `stmatrix`: lane 8 i + g holds the address of row g of matrix i.
#[inline(always)]
pub(crate) fn matrix<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, m: &Matrix, pc: u32) -> Step<()> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let lanes = if m.n == 4 { u32::MAX } else { (1u32 << (8 * m.n)) - 1 };
    let access = if m.store { Access::Store } else { Access::Load };
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

/// `cp.async`: the copy is complete when the instruction is.
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
    // Lanes whose source size is zero do not touch the source.
    let reads = (0..32).filter(|&l| exec >> l & 1 != 0 && size[l] > 0).fold(0u32, |m, l| m | 1 << l);
    let mut data = [[0u8; 16]; 32];
    let load = Ask { space: Space::Global, bytes, exec: reads, pc, access: Access::Load };
    if reads != 0 {
        // A source is read for its size only, but must be aligned for the whole copy.
        let partial = (0..32).any(|l| reads >> l & 1 != 0 && size[l] != bytes);
        let mut fetch = |_: &mut Warp, cx: &mut Context<'_>, p: &Place, exec: u32, n: u64| {
            if COUNT {
                cx.tally.access(p, n, exec, false);
            }
            for l in 0..32 {
                if exec >> l & 1 != 0 {
                    // SAFETY: `place` checked n bytes at the lane's address.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            p.ptr.add(p.off[l] as usize),
                            data[l].as_mut_ptr(),
                            n as usize,
                        );
                    }
                }
            }
        };
        if partial {
            for l in 0..32 {
                let one = reads & 1 << l;
                if one == 0 {
                    continue;
                }
                if !src[l].is_multiple_of(bytes) {
                    return Err(fault(cx, &src, Ask { exec: one, ..load }));
                }
                for i in 0..size[l] {
                    let mut at = src;
                    at[l] = src[l] + i;
                    let mut byte = 0u8;
                    each_place(w, cx, &at, Ask { bytes: 1, exec: one, ..load }, |_, cx, p, exec| {
                        if COUNT && i == 0 {
                            cx.tally.access(p, 1, exec, false);
                        }
                        // SAFETY: `place` checked the byte.
                        byte = unsafe { p.ptr.add(p.off[l] as usize).read() };
                    })?;
                    data[l][i as usize] = byte;
                }
            }
        } else {
            each_place(w, cx, &src, load, |w, cx, p, e| fetch(w, cx, p, e, bytes))?;
        }
    }
    let store = Ask { space: Space::Shared, bytes, exec, pc, access: Access::Store };
    each_place(w, cx, &dst, store, |_, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, true);
        }
        for l in 0..32 {
            if exec >> l & 1 != 0 {
                // SAFETY: `place` checked the lane's range.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        data[l].as_ptr(),
                        p.ptr.add(p.off[l] as usize),
                        bytes as usize,
                    )
                };
            }
        }
    })
}
