//! What: `atom` and `red`.
//! Why here: read-modify-write that other host threads see whole, one lane after the other.
//! Pre: `exec` is not empty.
//! Post: each active lane has applied its operation once, in lane order.
#![allow(unsafe_code)] // Host atomics on checked, aligned device addresses.

use super::context::{Context, Step};
use super::place::{Access, Ask, Kind, addresses, each_place};
use super::warp::Warp;
use crate::inst::{Atom, Inst, NONE, Rmw, Space};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::numeric::{canon, ftz};
use crate::watch::taint;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

/// Replaces a value of 2, 4 or 8 bytes in one indivisible step; gives the old one.
///
/// # Safety
/// `at` holds that many bytes, is aligned to them, and lives as long as the call.
pub(crate) unsafe fn replace(at: *mut u8, bytes: u64, new: impl Fn(u64) -> u64) -> u64 {
    // SAFETY: the caller keeps the contract above.
    unsafe {
        match bytes {
            2 => {
                let c = AtomicU16::from_ptr(at.cast());
                let r = c.fetch_update(SeqCst, SeqCst, |v| Some(new(u64::from(v)) as u16));
                u64::from(r.unwrap_or_else(|v| v))
            }
            4 => {
                let c = AtomicU32::from_ptr(at.cast());
                let r = c.fetch_update(SeqCst, SeqCst, |v| Some(new(u64::from(v)) as u32));
                u64::from(r.unwrap_or_else(|v| v))
            }
            _ => {
                let c = AtomicU64::from_ptr(at.cast());
                c.fetch_update(SeqCst, SeqCst, |v| Some(new(v))).unwrap_or_else(|v| v)
            }
        }
    }
}

/// The new value of an operation on 64-bit images; `bits` is the width.
pub(crate) fn apply(op: Rmw, bits: u32, flush: bool, old: u64, a: u64, b: u64) -> u64 {
    let sign = |v: u64| if bits == 32 { i64::from(v as i32) } else { v as i64 };
    let pair = |f: &dyn Fn(u16, u16) -> u16| {
        u64::from(f(old as u16, a as u16)) | u64::from(f((old >> 16) as u16, (a >> 16) as u16)) << 16
    };
    let h = |x: u16, y: u16| f32_to_f16(f16_to_f32(x) + f16_to_f32(y));
    let bf = |x: u16, y: u16| f32_to_bf16(bf16_to_f32(x) + bf16_to_f32(y));
    match op {
        Rmw::AddInt => old.wrapping_add(a),
        // Atomics on f32 in global memory flush subnormals on hardware, those in shared memory do not.
        Rmw::AddF32 if !flush => {
            u64::from(canon(f32::from_bits(old as u32) + f32::from_bits(a as u32)).to_bits())
        }
        Rmw::AddF32 => {
            u64::from(canon(ftz(ftz(f32::from_bits(old as u32)) + ftz(f32::from_bits(a as u32)))).to_bits())
        }
        Rmw::AddF64 => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        Rmw::AddF16 => u64::from(h(old as u16, a as u16)),
        Rmw::AddBf16 => u64::from(bf(old as u16, a as u16)),
        Rmw::AddF16x2 => pair(&h),
        Rmw::AddBf16x2 => pair(&bf),
        Rmw::MinS => {
            if sign(a) < sign(old) {
                a
            } else {
                old
            }
        }
        Rmw::MaxS => {
            if sign(a) > sign(old) {
                a
            } else {
                old
            }
        }
        Rmw::MinU => old.min(a),
        Rmw::MaxU => old.max(a),
        Rmw::And => old & a,
        Rmw::Or => old | a,
        Rmw::Xor => old ^ a,
        Rmw::Exch => a,
        Rmw::Cas => {
            if old == a {
                b
            } else {
                old
            }
        }
        Rmw::Inc => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        Rmw::Dec => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
    }
}

/// Runs an atomic.
pub(crate) fn atom<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    i: &Inst,
    m: &Atom,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let bytes = u64::from(m.bytes);
    let mut read = |row: u32| -> [u64; 32] {
        match (row, m.bytes) {
            (NONE, _) => [0; 32],
            (_, 2) => w.regs.row::<u16>(row).map(u64::from),
            (_, 4) => w.regs.row::<u32>(row).map(u64::from),
            _ => *w.regs.row::<u64>(row),
        }
    };
    let (a, b) = (read(i.a), read(i.b));
    let mut old = [0u64; 32];
    let op = m.op;
    let access = Access { kind: Kind::Atomic, order: m.order, scope: m.scope, ..Access::LOAD };
    let ask = Ask { space: m.space, bytes, exec, pc, access };
    each_place(w, cx, &addrs, ask, |w, cx, p, exec| {
        if COUNT {
            cx.tally.atomic(p, bytes, exec);
        }
        if w.taint.is_some() {
            taint::read_modify(w, cx, p, (bytes, pc), exec, op != Rmw::Exch);
        }
        let flush = p.space == Space::Global;
        for l in 0..32 {
            if exec >> l & 1 == 0 {
                continue;
            }
            let new = |v: u64| apply(op, 8 * bytes as u32, flush, v, a[l], b[l]);
            // SAFETY: `place` checked range and alignment; device storage is aligned to 16 bytes at least, and
            // lives as long as the launch.
            unsafe { old[l] = replace(p.ptr.add(p.off[l] as usize), bytes, new) };
            // A poll by an atomic that changes nothing is a read.
            cx.effects += u64::from(new(old[l]) != old[l]);
            if p.space == Space::Global
                && cx.chaos.is_some()
                && let Some(x) = &mut cx.watch
            {
                x.replaced((p.region, p.off[l]), 32 * w.id + l as u32, (old[l], bytes as u8), cx.now);
            }
        }
    })?;
    if i.d != NONE {
        match m.bytes {
            2 => w.regs.store::<u16>(i.d, &old.map(|v| v as u16), exec),
            4 => w.regs.store::<u32>(i.d, &old.map(|v| v as u32), exec),
            _ => w.regs.store::<u64>(i.d, &old, exec),
        }
    }
    Ok(())
}
