//! What: loads, stores, matrix loads and asynchronous copies.
//! Why here: addresses of 32 lanes are checked together (one region, one alignment test); only what does not
//! fit that goes lane by lane.
//! Pre: `exec` is not empty.
//! Post: no access leaves its buffer; a bad one is a fault that names the lane.
#![allow(unsafe_code)] // Raw access after the range check; see `Storage` for why races are harmless here.

use super::context::{Context, RawFault, Step};
use super::space;
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{Addr, CpAsync, Matrix, Mem, NONE, Space};
use crate::lanes::{Elem, RegFile};
use crate::memory::nearest;

/// What an access is, for messages and checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Load,
    Store,
    Atomic,
}

impl Access {
    fn name(self) -> &'static str {
        match self {
            Access::Load => "load",
            Access::Store => "store",
            Access::Atomic => "atomic",
        }
    }
}

/// Where the lanes of an access are on the host.
pub(crate) struct Place {
    pub(crate) ptr: *mut u8,
    /// Offsets from `ptr`; those of lanes outside the mask repeat an active lane's.
    pub(crate) off: [u64; 32],
    /// The space that the lanes turned out to access.
    pub(crate) space: Space,
    /// Index of the global region.
    pub(crate) region: u32,
}

/// The addresses of all lanes.
#[inline(always)]
pub(crate) fn addresses(r: &mut RegFile, a: &Addr) -> [u64; 32] {
    let mut out = [a.offset as u64; 32];
    if a.base != NONE {
        if a.wide {
            let b = r.row::<u64>(a.base);
            for l in 0..32 {
                out[l] = b[l].wrapping_add(a.offset as u64);
            }
        } else {
            let b = r.row::<u32>(a.base);
            for l in 0..32 {
                out[l] = u64::from(b[l]).wrapping_add(a.offset as u64);
            }
        }
    }
    out
}

/// Settles where lanes access memory. `None` when they do not share one region: then go lane by lane.
#[inline(always)]
pub(crate) fn place(
    w: &mut Warp,
    cx: &mut Context<'_>,
    space: Space,
    addrs: &[u64; 32],
    bytes: u64,
    exec: u32,
    pc: u32,
    access: Access,
) -> Step<Option<Place>> {
    let mut off = *addrs;
    if exec != u32::MAX {
        let first = addrs[exec.trailing_zeros() as usize % 32];
        for l in 0..32 {
            off[l] = if exec >> l & 1 != 0 { off[l] } else { first };
        }
    }
    let (mut lo, mut hi, mut bits) = (u64::MAX, 0u64, 0u64);
    for o in off {
        lo = lo.min(o);
        hi = hi.max(o);
        bits |= o;
    }
    if bits & (bytes - 1) != 0 {
        return Err(fault(cx, space, addrs, bytes, exec, pc, access));
    }
    let mut space = space;
    if space == Space::Generic {
        let (a, b) = (space::window(lo), space::window(hi));
        if a != b {
            return if exec.count_ones() == 1 {
                Err(fault(cx, space, addrs, bytes, exec, pc, access))
            } else {
                Ok(None)
            };
        }
        let base = match a {
            space::SHARED_WINDOW => {
                space = Space::Shared;
                space::SHARED_BASE
            }
            space::LOCAL_WINDOW => {
                space = Space::Local;
                space::LOCAL_BASE
            }
            space::PARAM_WINDOW => {
                space = Space::Param;
                space::PARAM_BASE
            }
            space::CONST_WINDOW => {
                space = Space::Const;
                space::CONST_BASE
            }
            _ => {
                space = Space::Global;
                0
            }
        };
        if base != 0 {
            for o in &mut off {
                *o = o.wrapping_sub(base);
            }
            lo = lo.wrapping_sub(base);
            hi = hi.wrapping_sub(base);
        }
    }
    let (ptr, limit): (*mut u8, u64) = match space {
        Space::Global | Space::Generic => {
            let hint = cx.hints[pc as usize] as usize;
            let holds = |r: &crate::memory::Region| {
                lo >= r.base && hi - r.base < r.bytes && r.bytes - (hi - r.base) >= bytes
            };
            let mut index = hint;
            if !cx.regions.get(hint).is_some_and(|r| hi >= r.base && holds(r)) {
                index = cx.regions.partition_point(|r| r.base <= lo).wrapping_sub(1);
                match cx.regions.get(index) {
                    Some(r) if hi >= r.base && holds(r) => cx.hints[pc as usize] = index as u32,
                    _ if exec.count_ones() == 1 => {
                        return Err(fault(cx, space, addrs, bytes, exec, pc, access));
                    }
                    _ => return Ok(None),
                }
            }
            let r = &cx.regions[index];
            if access != Access::Load && !r.writable {
                let kind = FaultKind::ReadOnly {
                    access: access.name(),
                    space: "global",
                    address: addrs[exec.trailing_zeros() as usize % 32],
                    label: r.label.clone(),
                };
                return Err(Box::new(RawFault { kind, lane: exec.trailing_zeros(), pc }));
            }
            let base = r.base;
            for o in &mut off {
                *o -= base;
            }
            return Ok(Some(Place { ptr: r.ptr, off, space: Space::Global, region: index as u32 }));
        }
        Space::Shared => (cx.shared.as_mut_ptr().cast(), cx.shared_bytes),
        Space::Local => (w.local.as_mut_ptr().cast(), cx.local_bytes),
        Space::Const => {
            let c = &cx.program.inner.image.consts;
            (c.as_ptr().cast_mut(), c.len() as u64)
        }
        Space::Param => (cx.params.as_ptr().cast_mut(), cx.params.len() as u64),
    };
    let read_only = matches!(space, Space::Const | Space::Param) && access != Access::Load;
    if read_only || hi >= limit || limit - hi < bytes {
        return Err(fault(cx, space, addrs, bytes, exec, pc, access));
    }
    if space == Space::Local {
        for (l, o) in off.iter_mut().enumerate() {
            // Inactive lanes point into their own area, which is as good.
            *o += l as u64 * limit;
        }
    }
    Ok(Some(Place { ptr, off, space, region: NONE }))
}

/// Finds the first lane that is at fault and says why.
#[cold]
#[inline(never)]
fn fault(
    cx: &Context<'_>,
    space: Space,
    addrs: &[u64; 32],
    bytes: u64,
    exec: u32,
    pc: u32,
    access: Access,
) -> Box<RawFault> {
    let mut lane = exec.trailing_zeros();
    let describe = |a: u64| -> (&'static str, Option<FaultKind>) {
        let (mut name, mut local, mut limit) = ("global", a, None);
        let window = if space == Space::Generic { space::window(a) } else { u64::MAX };
        match (space, window) {
            (Space::Shared, _) => (name, limit) = ("shared", Some(cx.shared_bytes)),
            (Space::Local, _) => (name, limit) = ("local", Some(cx.local_bytes)),
            (Space::Const, _) => (name, limit) = ("const", Some(cx.program.inner.image.consts.len() as u64)),
            (Space::Param, _) => (name, limit) = ("param", Some(cx.params.len() as u64)),
            (_, space::SHARED_WINDOW) => {
                (name, local, limit) = ("shared", a - space::SHARED_BASE, Some(cx.shared_bytes));
            }
            (_, space::LOCAL_WINDOW) => {
                (name, local, limit) = ("local", a - space::LOCAL_BASE, Some(cx.local_bytes))
            }
            (_, space::PARAM_WINDOW) => {
                (name, local, limit) = ("param", a - space::PARAM_BASE, Some(cx.params.len() as u64));
            }
            (_, space::CONST_WINDOW) => {
                (name, local, limit) =
                    ("const", a - space::CONST_BASE, Some(cx.program.inner.image.consts.len() as u64));
            }
            _ => {}
        }
        let near = || match limit {
            Some(n) => format!("{name} memory has {n} bytes here"),
            None => nearest(cx.regions, a),
        };
        if a & (bytes - 1) != 0 {
            let kind = FaultKind::Misaligned {
                access: access.name(),
                space: name,
                address: local,
                bytes: bytes as u32,
                nearest: near(),
            };
            return (name, Some(kind));
        }
        let inside = match limit {
            Some(n) => local < n && n - local >= bytes,
            None => cx
                .regions
                .iter()
                .any(|r| a >= r.base && a - r.base < r.bytes && r.bytes - (a - r.base) >= bytes),
        };
        if inside && access != Access::Load && matches!(name, "const" | "param") {
            let kind = FaultKind::ReadOnly {
                access: access.name(),
                space: name,
                address: local,
                label: name.into(),
            };
            return (name, Some(kind));
        }
        if inside {
            return (name, None);
        }
        let kind = FaultKind::OutOfBounds {
            access: access.name(),
            space: name,
            address: local,
            bytes: bytes as u32,
            nearest: near(),
        };
        (name, Some(kind))
    };
    for l in 0..32 {
        if exec >> l & 1 != 0
            && let (_, Some(kind)) = describe(addrs[l as usize])
        {
            return Box::new(RawFault { kind, lane: l, pc });
        }
    }
    lane %= 32;
    let kind = FaultKind::BadOperand {
        what: format!("an access at {:#x} that no memory serves", addrs[lane as usize]),
    };
    Box::new(RawFault { kind, lane, pc })
}

/// Runs `f` on the lanes together where they share a region, and one by one where not.
#[inline(always)]
pub(crate) fn each_place(
    w: &mut Warp,
    cx: &mut Context<'_>,
    space: Space,
    addrs: &[u64; 32],
    bytes: u64,
    exec: u32,
    pc: u32,
    access: Access,
    mut f: impl FnMut(&mut Warp, &mut Context<'_>, &Place, u32),
) -> Step<()> {
    if let Some(p) = place(w, cx, space, addrs, bytes, exec, pc, access)? {
        f(w, cx, &p, exec);
        return Ok(());
    }
    for l in 0..32 {
        let one = exec & 1 << l;
        if one != 0
            && let Some(p) = place(w, cx, space, addrs, bytes, one, pc, access)?
        {
            f(w, cx, &p, one);
        }
    }
    Ok(())
}

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
        if m.n == 1 && exec == u32::MAX {
            if contiguous(&p.off, 4) {
                // SAFETY: the lanes' ranges form this one, and the first and last were checked.
                *r.row::<u32>(m.regs[0]) =
                    unsafe { p.ptr.add(p.off[0] as usize).cast::<[u32; 32]>().read_unaligned() };
                return;
            }
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
    each_place(w, cx, m.space, &addrs, bytes, exec, pc, Access::Load, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, false);
        }
        load_rows(&mut w.regs, p, m, exec);
    })
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
    each_place(w, cx, m.space, &addrs, bytes, exec, pc, Access::Store, |w, cx, p, exec| {
        if COUNT {
            cx.tally.access(p, bytes, exec, true);
        }
        store_rows(&mut w.regs, p, m, exec);
    })
}

/// `ldmatrix` and `stmatrix`: lane 8 i + g holds the address of row g of matrix i.
#[inline(always)]
pub(crate) fn matrix<const COUNT: bool>(w: &mut Warp, cx: &mut Context<'_>, m: &Matrix, pc: u32) -> Step<()> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let lanes = if m.n == 4 { u32::MAX } else { (1u32 << (8 * m.n)) - 1 };
    let access = if m.store { Access::Store } else { Access::Load };
    each_place(w, cx, m.space, &addrs, 16, lanes, pc, access, |w, cx, p, exec| {
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
                // Lanes one by one see only their own matrix row; merge what they bring.
                let whole = exec.count_ones() > 1;
                let d = w.regs.row::<u32>(m.regs[i]);
                if whole {
                    *d = row;
                }
            }
        }
    })
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
                if src[l] % bytes != 0 {
                    return Err(fault(cx, Space::Global, &src, bytes, one, pc, Access::Load));
                }
                for i in 0..size[l] {
                    let mut at = src;
                    at[l] = src[l] + i;
                    let mut byte = 0u8;
                    each_place(w, cx, Space::Global, &at, 1, one, pc, Access::Load, |_, cx, p, exec| {
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
            each_place(w, cx, Space::Global, &src, bytes, reads, pc, Access::Load, |w, cx, p, e| {
                fetch(w, cx, p, e, bytes)
            })?;
        }
    }
    each_place(w, cx, Space::Shared, &dst, bytes, exec, pc, Access::Store, |_, cx, p, exec| {
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
