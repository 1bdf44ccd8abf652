//! What: where the lanes of an access are on the host.
//! Why here: the addresses of 32 lanes are checked together (one region, one alignment test); only what does
//! not fit that goes lane by lane.
//! Pre: the mask of lanes is not empty.
//! Post: no access leaves its buffer; a bad one is a fault that names the lane.

use super::context::{Context, RawFault, Step};
use super::space;
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{Addr, NONE, Order, Scope, Space};
use crate::lanes::RegFile;
use crate::memory::{Region, nearest};
use crate::watch;
use crate::watch::cell::Agent;

/// What an access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Load,
    Store,
    Atomic,
}

/// What an access is, for messages and checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) kind: Kind,
    pub(crate) order: Order,
    pub(crate) scope: Scope,
    /// Through the non-coherent path.
    pub(crate) nc: bool,
    pub(crate) agent: Agent,
    /// Strong, but of an mbarrier, whose own rules say what it orders.
    pub(crate) quiet: bool,
}

impl Access {
    pub(crate) const LOAD: Access = Access {
        kind: Kind::Load,
        order: Order::Weak,
        scope: Scope::Cta,
        nc: false,
        agent: Agent::Thread,
        quiet: false,
    };
    pub(crate) const STORE: Access = Access { kind: Kind::Store, ..Access::LOAD };
    /// An operation on an mbarrier.
    pub(crate) const MBARRIER: Access =
        Access { kind: Kind::Atomic, order: Order::Relaxed, scope: Scope::Sys, quiet: true, ..Access::LOAD };

    pub(crate) fn name(self) -> &'static str {
        match self.kind {
            Kind::Load => "load",
            Kind::Store => "store",
            Kind::Atomic => "atomic",
        }
    }
    #[inline(always)]
    pub(crate) fn writes(self) -> bool {
        self.kind != Kind::Load
    }
    /// The scope of a strong access.
    pub(crate) fn strong(self) -> Option<Scope> {
        (self.order != Order::Weak).then_some(self.scope)
    }
}

/// An access before its addresses are settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) space: Space,
    /// Bytes per lane, a power of two.
    pub(crate) bytes: u64,
    /// The lanes.
    pub(crate) exec: u32,
    pub(crate) pc: u32,
    pub(crate) access: Access,
}

/// Where the lanes of an access are on the host.
pub(crate) struct Place {
    pub(crate) ptr: *mut u8,
    /// Offsets from `ptr`; those of lanes outside the mask repeat an active lane's.
    pub(crate) off: [u64; 32],
    /// The space that the lanes turned out to access.
    pub(crate) space: Space,
    /// Index of the global region; the rank in the cluster for shared memory.
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
pub(crate) fn place(w: &mut Warp, cx: &mut Context<'_>, addrs: &[u64; 32], ask: Ask) -> Step<Option<Place>> {
    let Ask { space, bytes, exec, pc, access } = ask;
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
        return Err(fault(cx, addrs, Ask { space, ..ask }));
    }
    let mut space = space;
    if space == Space::Generic {
        let (a, b) = (space::window(lo), space::window(hi));
        if a != b {
            return if exec.count_ones() == 1 {
                Err(fault(cx, addrs, Ask { space, ..ask }))
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
            let holds =
                |r: &Region| lo >= r.base && hi - r.base < r.bytes && r.bytes - (hi - r.base) >= bytes;
            let mut index = hint;
            if !cx.regions.get(hint).is_some_and(|r| hi >= r.base && holds(r)) {
                index = cx.regions.partition_point(|r| r.base <= lo).wrapping_sub(1);
                match cx.regions.get(index) {
                    Some(r) if hi >= r.base && holds(r) => cx.hints[pc as usize] = index as u32,
                    _ if exec.count_ones() == 1 => {
                        return Err(fault(cx, addrs, Ask { space, ..ask }));
                    }
                    _ => return Ok(None),
                }
            }
            let r = &cx.regions[index];
            if access.writes() && !r.writable {
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
        Space::Shared => {
            // Addresses of other blocks of the cluster carry their rank plus one.
            let rank = lo >> space::RANK_SHIFT;
            if rank != 0
                && hi >> space::RANK_SHIFT == rank
                && let Some(&peer) = cx.peers.get(rank as usize - 1)
            {
                for o in &mut off {
                    *o &= (1 << space::RANK_SHIFT) - 1;
                }
                let hi = hi & ((1 << space::RANK_SHIFT) - 1);
                if hi >= cx.shared_bytes || cx.shared_bytes - hi < bytes {
                    return Err(fault(cx, addrs, Ask { space, ..ask }));
                }
                if peer.is_null() {
                    let lane = exec.trailing_zeros();
                    let kind = FaultKind::Gone { access: access.name(), rank: rank as u32 - 1 };
                    return Err(Box::new(RawFault { kind, lane, pc }));
                }
                return Ok(Some(Place { ptr: peer, off, space, region: rank as u32 - 1 }));
            }
            if rank != hi >> space::RANK_SHIFT && exec.count_ones() > 1 && cx.peers.len() > 1 {
                return Ok(None);
            }
            (cx.shared, cx.shared_bytes)
        }
        Space::Local => (w.local.as_mut_ptr().cast(), cx.local_bytes),
        Space::Const => {
            let c = &cx.program.inner.image.consts;
            (c.as_ptr().cast_mut(), c.len() as u64)
        }
        Space::Param => (cx.params.as_ptr().cast_mut(), cx.params.len() as u64),
    };
    let read_only = matches!(space, Space::Const | Space::Param) && access.writes();
    if read_only || hi >= limit || limit - hi < bytes {
        return Err(fault(cx, addrs, Ask { space, ..ask }));
    }
    if space == Space::Local {
        for (l, o) in off.iter_mut().enumerate() {
            // Inactive lanes point into their own area, which is as good.
            *o += l as u64 * limit;
        }
    }
    let region = if space == Space::Shared { cx.rank } else { NONE };
    Ok(Some(Place { ptr, off, space, region }))
}

/// Finds the first lane that is at fault and says why.
#[cold]
#[inline(never)]
pub(crate) fn fault(cx: &Context<'_>, addrs: &[u64; 32], ask: Ask) -> Box<RawFault> {
    let Ask { space, bytes, exec, pc, access } = ask;
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
        if inside && access.writes() && matches!(name, "const" | "param") {
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
    addrs: &[u64; 32],
    ask: Ask,
    mut f: impl FnMut(&mut Warp, &mut Context<'_>, &Place, u32),
) -> Step<()> {
    if cx.hooked {
        cx.now += 1;
    }
    if ask.access.kind == Kind::Store {
        cx.effects += 1;
    }
    if let Some(p) = place(w, cx, addrs, ask)? {
        if cx.hooked {
            hook(w, cx, &p, (ask.bytes, ask.exec, ask.pc), ask.access);
        }
        f(w, cx, &p, ask.exec);
        return Ok(());
    }
    for l in 0..32 {
        let one = ask.exec & 1 << l;
        if one != 0
            && let Some(p) = place(w, cx, addrs, Ask { exec: one, ..ask })?
        {
            if cx.hooked {
                hook(w, cx, &p, (ask.bytes, one, ask.pc), ask.access);
            }
            f(w, cx, &p, one);
        }
    }
    Ok(())
}

/// Tells those who watch accesses.
#[cold]
#[inline(never)]
fn hook(w: &mut Warp, cx: &mut Context<'_>, p: &Place, what: (u64, u32, u32), access: Access) {
    if let Some(t) = &mut cx.trace {
        t.see(p, what.0, what.1, access.kind);
    }
    let (regs, storing) = (&mut w.regs, cx.storing);
    let mut repeats = |lanes: u32| storing.is_some_and(|s| s.repeats(regs, p, lanes));
    watch::seen(cx, w.id, p, what, access, &mut repeats);
}
