//! What: `wmma.load` and `wmma.store`.
//! Why here: a matrix in memory is dealt to the registers of a warp by the decoder's table.
//! Pre: all 32 lanes execute it.
//! Post: memory is accessed as though each lane moved an equal part of the matrix, 16 bytes at most at a time; so
//! are the accesses checked and counted.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::context::{Context, RawFault, Step};
use super::place::{Access, Ask, Place, addresses, each_place, fault};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{NONE, Space, Tile};
use crate::watch::taint;

/// The bytes of a fragment, register by register and lane by lane. The largest have eight registers of 32 bits.
type Stage = [u8; 1024];

/// Runs a load or store of a fragment.
pub(crate) fn tile<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, t: &Tile, pc: u32) -> Step<()> {
    let addrs = addresses(&mut w.regs, &t.addr);
    let line = u32::from(t.line);
    let strides = if t.stride == NONE { [line; 32] } else { *w.regs.row::<u32>(t.stride) };
    if let Some(l) = (1..32).find(|&l| addrs[l] != addrs[0] || strides[l] != strides[0]) {
        let what = format!(
            "lanes 0 and {l} of a wmma access give addresses {:#x} and {:#x} with strides {} and {}: all lanes must \
             give the same",
            addrs[0], addrs[l], strides[0], strides[l]
        );
        return Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane: l as u32, pc }));
    }
    if (strides[0] as i32) < i32::from(t.line) {
        let what = format!(
            "a wmma access with a stride of {} where a line of the matrix has {line} elements",
            strides[0] as i32
        );
        return Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane: 0, pc }));
    }
    let (size, chunk) = (u64::from(t.size), u64::from(t.chunk));
    let (base, stride) = (addrs[0], u64::from(strides[0]) * size);
    let access = if t.store { Access::STORE } else { Access::LOAD };
    let ask = Ask { space: t.space, bytes: chunk, exec: u32::MAX, pc, access };
    if !base.is_multiple_of(u64::from(t.align)) {
        return Err(fault(cx, &addrs, Ask { bytes: u64::from(t.align), ..ask }));
    }
    if !stride.is_multiple_of(chunk) {
        return Err(fault(cx, &[base.wrapping_add(stride); 32], ask));
    }
    let mut stage: Stage = [0; 1024];
    if t.store {
        collect(w, t, &mut stage);
    }
    let mut undefined = [0u32; 8];
    let (per, per_line) = (chunk / size, u64::from(t.line) * size / chunk);
    for pass in 0..t.map.len() as u64 / (32 * per) {
        let at = std::array::from_fn(|l| {
            let part = pass * 32 + l as u64;
            base.wrapping_add(part / per_line * stride + part % per_line * chunk)
        });
        each_place(w, cx, &at, ask, |w, cx, p, exec| {
            if COUNT {
                cx.tally.access(p, chunk, exec, t.store);
            }
            let first = (pass * 32 * per) as usize;
            if w.taint.is_some() {
                definition(w, cx, t, (p, exec, pc), first, &mut undefined);
            }
            match t.size {
                1 => transfer::<1>(t, (p, exec), first, &mut stage),
                2 => transfer::<2>(t, (p, exec), first, &mut stage),
                4 => transfer::<4>(t, (p, exec), first, &mut stage),
                _ => transfer::<8>(t, (p, exec), first, &mut stage),
            }
        })?;
    }
    if !t.store {
        deal(w, t, &stage);
        if w.taint.is_some() {
            let bits = 8 * t.size.max(4);
            taint::fragment(
                w,
                (&t.regs[..usize::from(t.n)], bits, pc),
                &undefined[..usize::from(t.distinct)],
            );
        }
    }
    Ok(())
}

/// Moves the elements of the lanes' parts between memory and the stage; `first` is that of lane 0.
fn transfer<const N: usize>(t: &Tile, (p, exec): (&Place, u32), first: usize, stage: &mut Stage) {
    let per = usize::from(t.chunk) / N;
    for l in (0..32).filter(|l| exec >> l & 1 != 0) {
        // SAFETY: `place` checked `chunk` bytes at the lane's address.
        let ptr = unsafe { p.ptr.add(p.off[l] as usize) };
        for (j, &at) in t.map[first + l * per..first + (l + 1) * per].iter().enumerate() {
            let slot = &mut stage[usize::from(at)..usize::from(at) + N];
            // SAFETY: element j lies in the chunk.
            unsafe {
                let m = ptr.add(j * N).cast::<[u8; N]>();
                if t.store {
                    let mut v = [0; N];
                    v.copy_from_slice(slot);
                    m.write_unaligned(v);
                } else {
                    slot.copy_from_slice(&m.read_unaligned());
                }
            }
        }
    }
}

/// Registers to the stage.
fn collect(w: &mut Warp, t: &Tile, stage: &mut Stage) {
    for (i, &r) in t.regs.iter().enumerate().take(usize::from(t.distinct)) {
        if t.size == 8 {
            let row = w.regs.row::<u64>(r);
            let to = stage[256 * i..256 * (i + 1)].chunks_exact_mut(8);
            to.zip(row).for_each(|(s, v)| s.copy_from_slice(&v.to_le_bytes()));
        } else {
            let row = w.regs.row::<u32>(r);
            let to = stage[128 * i..128 * (i + 1)].chunks_exact_mut(4);
            to.zip(row).for_each(|(s, v)| s.copy_from_slice(&v.to_le_bytes()));
        }
    }
}

/// The stage to registers; where there are more than differ, they repeat.
fn deal(w: &mut Warp, t: &Tile, stage: &Stage) {
    for (i, &r) in t.regs.iter().enumerate().take(usize::from(t.n)) {
        let i = i % usize::from(t.distinct);
        if t.size == 8 {
            let from = stage[256 * i..256 * (i + 1)].as_chunks::<8>().0;
            w.regs.row::<u64>(r).iter_mut().zip(from).for_each(|(v, s)| *v = u64::from_le_bytes(*s));
        } else {
            let from = stage[128 * i..128 * (i + 1)].as_chunks::<4>().0;
            w.regs.row::<u32>(r).iter_mut().zip(from).for_each(|(v, s)| *v = u32::from_le_bytes(*s));
        }
    }
}

/// Notes which registers get data that nobody wrote, or which memory does.
#[cold]
fn definition(
    w: &Warp,
    cx: &mut Context<'_>,
    t: &Tile,
    (p, exec, pc): (&Place, u32, u32),
    first: usize,
    undefined: &mut [u32; 8],
) {
    let (size, per) = (u64::from(t.size), u64::from(t.chunk / t.size));
    let reg_bytes = t.size.max(4);
    // Register and lane of an element.
    let owner = |l: usize, j: u64| {
        let slot = t.map[first + l * per as usize + j as usize] / u16::from(reg_bytes);
        (usize::from(slot / 32), slot % 32)
    };
    if !t.store {
        taint::elements(w, cx, p, (size, per, exec), |b, at, l, j| {
            let (reg, lane) = owner(l, j);
            undefined[reg] |= u32::from(!b.any(at, size)) << lane;
        });
        return;
    }
    let old: [(u32, u32); 8] = std::array::from_fn(|i| taint::register(w, t.regs[i], 8 * reg_bytes));
    let known = |l: usize, j: u64| {
        let (reg, lane) = owner(l, j);
        old[reg].0 >> lane & 1 == 0
    };
    let leaves = p.space == Space::Global;
    taint::elements(w, cx, p, (size, per, exec), |b, at, l, j| b.set(at, size, leaves || known(l, j)));
    if !leaves || old.iter().all(|o| o.0 == 0) {
        return;
    }
    let lanes = (0..32).filter(|l| exec >> l & 1 != 0);
    let bad = lanes.flat_map(|l| (0..per).map(move |j| (l, j))).find(|&(l, j)| !known(l, j));
    if let Some((l, j)) = bad {
        let (reg, lane) = owner(l, j);
        taint::leaves(w, cx, p, (p.off[l] + j * size, 1 << lane), (pc, old[reg].1));
    }
}
