//! What: loads and stores.
//! Why here: rows move whole where lanes are neighbours, and lane by lane where not.
//! Pre: the mask of lanes is not empty.
//! Post: strong accesses are ordered as acquire loads and release stores among host threads.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::context::{Context, Step};
use super::place::{Access, Ask, Place, addresses, each_place};
use super::warp::Warp;
use crate::inst::{Mem, Order, Space};
use crate::lanes::{Elem, RegFile};
use crate::watch::taint;
use std::sync::atomic::{Ordering, fence};

/// Whether lanes are at `step` bytes from each other.
#[inline(always)]
fn contiguous(off: &[u64; 32], step: u64) -> bool {
    let mut bad = 0u64;
    for (l, o) in off.iter().enumerate() {
        bad |= o ^ (off[0].wrapping_add(l as u64 * step));
    }
    bad == 0
}

/// Loads element `j` of each lane into a row.
#[inline(always)]
fn gather<E: Copy, R: Elem>(r: &mut RegFile, row: u32, p: &Place, j: u64, exec: u32, conv: impl Fn(E) -> R) {
    let size = size_of::<E>() as u64;
    let mut v = [R::default(); 32];
    for l in 0..32 {
        // SAFETY: `place` checked the lane's range (inactive lanes repeat a valid one).
        v[l] = conv(unsafe { p.ptr.add((p.off[l] + j * size) as usize).cast::<E>().read_unaligned() });
    }
    r.store(row, &v, exec);
}

#[inline(always)]
fn scatter<E: Copy, R: Elem>(r: &mut RegFile, row: u32, p: &Place, j: u64, exec: u32, conv: impl Fn(R) -> E) {
    let size = size_of::<E>() as u64;
    let v = *r.row::<R>(row);
    for l in 0..32 {
        if exec >> l & 1 != 0 {
            // SAFETY: `place` checked the lane's range.
            unsafe { p.ptr.add((p.off[l] + j * size) as usize).cast::<E>().write_unaligned(conv(v[l])) };
        }
    }
}

#[inline(always)]
fn load_rows(r: &mut RegFile, p: &Place, m: &Mem, exec: u32) {
    if m.bytes == 4 && m.reg_bytes == 4 {
        if m.n == 4 {
            return load_quads(r, p, m, exec);
        }
        if m.n == 1 && exec == u32::MAX && contiguous(&p.off, 4) {
            // SAFETY: the lanes' ranges form this one, and the first and last were checked.
            let v = unsafe { p.ptr.add(p.off[0] as usize).cast::<[u32; 32]>().read_unaligned() };
            *r.row::<u32>(m.regs[0]) = v;
            return;
        }
    }
    for j in 0..u64::from(m.n) {
        let row = m.regs[j as usize % 8];
        match (m.bytes, m.reg_bytes, m.signed) {
            (4, 4, _) => gather(r, row, p, j, exec, |v: u32| v),
            (8, 8, _) => gather(r, row, p, j, exec, |v: u64| v),
            (2, 2, _) => gather(r, row, p, j, exec, |v: u16| v),
            (1, 2, false) => gather(r, row, p, j, exec, |v: u8| u16::from(v)),
            (1, 2, true) => gather(r, row, p, j, exec, |v: i8| i16::from(v)),
            (1, 4, false) => gather(r, row, p, j, exec, |v: u8| u32::from(v)),
            (1, 4, true) => gather(r, row, p, j, exec, |v: i8| i32::from(v)),
            (2, 4, false) => gather(r, row, p, j, exec, |v: u16| u32::from(v)),
            (2, 4, true) => gather(r, row, p, j, exec, |v: i16| i32::from(v)),
            (1, _, false) => gather(r, row, p, j, exec, |v: u8| u64::from(v)),
            (1, _, true) => gather(r, row, p, j, exec, |v: i8| i64::from(v)),
            (2, _, false) => gather(r, row, p, j, exec, |v: u16| u64::from(v)),
            (2, _, true) => gather(r, row, p, j, exec, |v: i16| i64::from(v)),
            (_, _, false) => gather(r, row, p, j, exec, |v: u32| u64::from(v)),
            (_, _, true) => gather(r, row, p, j, exec, |v: i32| i64::from(v)),
        }
    }
}

/// Vectors of four words: one 16-byte read per lane, then a transposition.
#[inline(always)]
fn load_quads(r: &mut RegFile, p: &Place, m: &Mem, exec: u32) {
    let mut rows = [[0u32; 32]; 4];
    for l in 0..32 {
        // SAFETY: `place` checked the lane's 16 bytes.
        let v = unsafe { p.ptr.add(p.off[l] as usize).cast::<[u32; 4]>().read_unaligned() };
        for j in 0..4 {
            rows[j][l] = v[j];
        }
    }
    for j in 0..4 {
        r.store(m.regs[j], &rows[j], exec);
    }
}

#[inline(always)]
fn store_rows(r: &mut RegFile, p: &Place, m: &Mem, exec: u32) {
    if m.bytes == 4 && m.reg_bytes == 4 && m.n == 1 && exec == u32::MAX && contiguous(&p.off, 4) {
        let v = *r.row::<u32>(m.regs[0]);
        // SAFETY: the lanes' ranges form this one, and the first and last were checked.
        unsafe { p.ptr.add(p.off[0] as usize).cast::<[u32; 32]>().write_unaligned(v) };
        return;
    }
    for j in 0..u64::from(m.n) {
        let row = m.regs[j as usize % 8];
        match (m.bytes, m.reg_bytes) {
            (4, 4) => scatter(r, row, p, j, exec, |v: u32| v),
            (8, 8) => scatter(r, row, p, j, exec, |v: u64| v),
            (2, 2) => scatter(r, row, p, j, exec, |v: u16| v),
            (1, 2) => scatter(r, row, p, j, exec, |v: u16| v as u8),
            (1, 4) => scatter(r, row, p, j, exec, |v: u32| v as u8),
            (2, 4) => scatter(r, row, p, j, exec, |v: u32| v as u16),
            (1, _) => scatter(r, row, p, j, exec, |v: u64| v as u8),
            (2, _) => scatter(r, row, p, j, exec, |v: u64| v as u16),
            _ => scatter(r, row, p, j, exec, |v: u64| v as u32),
        }
    }
}

/// `ld`.
#[inline(always)]
pub(crate) fn load<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &Mem,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let bytes = u64::from(m.bytes) * u64::from(m.n);
    let access = Access { order: m.order, scope: m.scope, nc: m.nc, ..Access::LOAD };
    let ask = Ask { space: m.space, bytes, exec, pc, access };
    each_place(w, cx, &addrs, ask, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, false);
        }
        if w.taint.is_some() {
            taint::loaded(
                w,
                cx,
                p,
                (u64::from(m.bytes), 8 * m.reg_bytes, pc),
                &m.regs[..usize::from(m.n)],
                exec,
            );
        }
        load_rows(&mut w.regs, p, m, exec);
        if m.order != Order::Weak
            && let Some(x) = &cx.watch
            && x.stale.0 & exec != 0
        {
            older(w, m, x.stale);
            // Who polls will see the new value some time.
            cx.effects += 1;
        }
        if m.order != Order::Weak {
            fence(Ordering::SeqCst);
        }
    })
}

/// What a store is about to write, for those who watch it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storing {
    regs: [u32; 8],
    n: u8,
    bytes: u8,
    reg_bytes: u8,
}

impl Storing {
    /// Whether memory already holds what the lanes are about to write.
    pub(crate) fn repeats(&self, r: &mut RegFile, p: &Place, lanes: u32) -> bool {
        let size = usize::from(self.bytes);
        (0..32usize).filter(|l| lanes >> l & 1 != 0).all(|l| {
            (0..usize::from(self.n)).all(|j| {
                let row = self.regs[j % 8];
                let v = match self.reg_bytes {
                    2 => u64::from(r.row::<u16>(row)[l]),
                    4 => u64::from(r.row::<u32>(row)[l]),
                    _ => r.row::<u64>(row)[l],
                };
                let mut old = [0u8; 8];
                for (i, b) in old.iter_mut().enumerate().take(size) {
                    // SAFETY: `place` checked the lane's range.
                    *b = unsafe { p.ptr.add(p.off[l] as usize + j * size + i).read() };
                }
                old[..size.min(8)] == v.to_le_bytes()[..size.min(8)]
            })
        })
    }
}

/// `st`.
#[inline(always)]
pub(crate) fn store<const COUNT: bool>(
    w: &mut Warp,
    cx: &mut Context<'_>,
    m: &Mem,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let bytes = u64::from(m.bytes) * u64::from(m.n);
    let access = Access { order: m.order, scope: m.scope, ..Access::STORE };
    let ask = Ask { space: m.space, bytes, exec, pc, access };
    if cx.hooked && m.order == Order::Weak {
        cx.storing = Some(Storing { regs: m.regs, n: m.n, bytes: m.bytes, reg_bytes: m.reg_bytes });
    }
    let r = each_place(w, cx, &addrs, ask, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, true);
        }
        if w.taint.is_some() {
            taint::stored(
                w,
                cx,
                p,
                (u64::from(m.bytes), 8 * m.reg_bytes, pc),
                &m.regs[..usize::from(m.n)],
                exec,
            );
        }
        if m.order != Order::Weak {
            fence(Ordering::SeqCst);
        }
        if cx.watch.is_some() && matches!(p.space, Space::Global | Space::Shared) {
            clash(w, cx, p, m, exec, pc);
        }
        if m.order != Order::Weak && cx.chaos.is_some() && p.space == Space::Global && bytes <= 8 {
            replaced(w, cx, p, bytes, exec);
        }
        store_rows(&mut w.regs, p, m, exec);
    });
    cx.storing = None;
    r
}

/// Tells of lanes that store different values to one place.
#[cold]
fn clash(w: &mut Warp, cx: &mut Context<'_>, p: &Place, m: &Mem, exec: u32, pc: u32) {
    let lanes = || (0..32u32).filter(|l| exec >> l & 1 != 0);
    let mut top = None;
    let rising = lanes().all(|l| {
        let o = Some(p.off[l as usize]);
        let rises = o > top;
        top = o;
        rises
    });
    if rising {
        return;
    }
    let mut value = |l: u32| -> Vec<u64> {
        let one = |r: &mut RegFile, row: u32| match m.reg_bytes {
            2 => u64::from(r.row::<u16>(row)[l as usize]),
            4 => u64::from(r.row::<u32>(row)[l as usize]),
            _ => r.row::<u64>(row)[l as usize],
        };
        let mask = if m.bytes >= 8 { u64::MAX } else { (1 << (8 * m.bytes)) - 1 };
        m.regs[..usize::from(m.n)].iter().map(|r| one(&mut w.regs, *r) & mask).collect()
    };
    let mut first: Vec<(u64, u32)> = vec![];
    let mut bad = None;
    for l in lanes() {
        let at = p.off[l as usize];
        match first.iter().find(|f| f.0 == at) {
            Some(&(_, k)) if value(k) != value(l) => bad = Some((l, k)),
            Some(_) => {}
            None => first.push((at, l)),
        }
    }
    if let Some((a, b)) = bad
        && let Some(mut x) = cx.watch.take()
    {
        x.clash(cx, w.id, p, (a, b, pc));
        cx.watch = Some(x);
    }
}

/// Puts older values where lanes read them.
#[cold]
fn older(w: &mut Warp, m: &Mem, (lanes, values): (u32, [u64; 32])) {
    for (j, row) in m.regs[..usize::from(m.n)].iter().enumerate() {
        let bits = 8 * u32::from(m.bytes);
        let part = |v: u64| -> u64 {
            let v = v >> (bits * j as u32);
            let low = if bits >= 64 { v } else { v & ((1 << bits) - 1) };
            if m.signed && bits < 64 { ((low << (64 - bits)) as i64 >> (64 - bits)) as u64 } else { low }
        };
        match m.reg_bytes {
            2 => w.regs.store::<u16>(*row, &values.map(|v| part(v) as u16), lanes),
            4 => w.regs.store::<u32>(*row, &values.map(|v| part(v) as u32), lanes),
            _ => w.regs.store::<u64>(*row, &values.map(part), lanes),
        }
    }
}

/// Remembers what strong stores replace.
#[cold]
fn replaced(w: &Warp, cx: &mut Context<'_>, p: &Place, bytes: u64, exec: u32) {
    let now = cx.now;
    let Some(x) = &mut cx.watch else { return };
    for l in (0..32u32).filter(|l| exec >> l & 1 != 0) {
        let at = p.off[l as usize];
        // SAFETY: `place` checked the lane's range.
        let old = (0..bytes)
            .rev()
            .fold(0u64, |v, i| v << 8 | u64::from(unsafe { p.ptr.add((at + i) as usize).read() }));
        x.replaced((p.region, at), 32 * w.id + l, (old, bytes as u8), now);
    }
}
