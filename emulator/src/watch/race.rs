//! What: accesses: remembering them, and finding those that conflict with nothing between them.
//! Why here: the one place that reads clocks and cells together.
//! Pre: as `threads`.
//! Post: a race, a missing proxy fence, a non-coherent load of written memory or an unordered use of an mbarrier
//! is recorded when the second access shows it. Warps of a block that store the same array by the same
//! instruction do not race, since their order decides nothing; where they all store one word, a guard is missing.

use super::cell::{Agent, Cell, Record, Since, Verdict};
use super::clock::Row;
use super::threads::{EXECUTED, need};
use super::{BlockState, Issue, PAGE, Raw, Told, Watch, name};
use crate::inst::{Op, Scope, Space};
use crate::machine::context::Context;
use crate::machine::place::{Access, Kind, Place};
use crate::sanitize::FindingKind;
use std::cell::RefCell;

/// The access at hand, as far as order goes.
struct View<'a> {
    blocks: &'a [BlockState],
    told: &'a [Told],
    slot: usize,
    /// In the block.
    warp: u32,
    /// Over the launch, as records have it.
    me: u32,
    lanes: u32,
    since: Since,
    /// Whether it goes through the asynchronous proxy.
    bulk: bool,
    /// 0 for shared memory, 1 for global memory.
    proxy: usize,
    /// Whether the word is an mbarrier, whose initialisation has a fence of its own.
    mbarrier: bool,
}

/// The lanes of `r` that a row does not know up to the record.
fn missing(row: Option<&Row>, r: &Record, stream: Option<usize>) -> u32 {
    let Some(row) = row else { return r.lanes };
    let list = match stream {
        None => &row.threads,
        Some(s) => &row.streams[s],
    };
    let first = (r.warp % 32 * 32) as usize;
    let (mut m, mut rest) = (0, r.lanes);
    while rest != 0 {
        let l = rest.trailing_zeros();
        rest &= rest - 1;
        if list.get(first + l as usize).is_none_or(|v| *v < r.stamp) {
            m |= 1 << l;
        }
    }
    m
}

impl View<'_> {
    /// How an old access stands to the one at hand, which writes or does not.
    #[inline]
    fn judge(&self, r: &Record, writes: bool) -> Verdict {
        if r.stamp <= self.since.base {
            return Verdict::Ordered;
        }
        if !writes && !r.writes() {
            // Reads do not conflict: it only matters whether this one stands for that one, which is so where every
            // lane of that one reads again.
            let again = r.warp == self.me && r.lanes & !self.lanes == 0;
            let synced = r.block() == self.me / 32 && r.stamp <= self.since.floor;
            let plain = r.agent() == Agent::Thread && !self.bulk;
            return if plain && (again || synced) { Verdict::Ordered } else { Verdict::Racy };
        }
        self.order(r)
    }

    fn order(&self, r: &Record) -> Verdict {
        let b = &self.blocks[self.slot];
        let agent = r.agent();
        let own_warp = r.warp == self.me;
        let synced = r.block() == self.me / 32 && r.stamp <= self.since.floor;
        let same = own_warp && r.lanes == self.lanes && self.lanes.is_power_of_two();
        if agent == Agent::Thread && !self.bulk && (synced || same) {
            return Verdict::Ordered;
        }
        let mut last: Option<(&super::clock::Clock, u32)> = None;
        let mut rest = self.lanes;
        while rest != 0 {
            let l = rest.trailing_zeros();
            rest &= rest - 1;
            let t = &b.threads[(32 * self.warp + l) as usize];
            let unknown = match last {
                Some((c, m)) if c.same(&t.known.clock) => m,
                _ => {
                    let m = match agent {
                        Agent::Told | Agent::Posted => match self.told[r.lanes as usize].done {
                            None => 1,
                            Some((block, id, phases)) => {
                                let row = t.known.clock.row(block);
                                let known = row.and_then(|x| x.phases.get(id as usize));
                                u32::from(known.is_none_or(|k| *k < phases))
                            }
                        },
                        _ => missing(t.known.clock.row(r.block()), r, agent.stream()),
                    };
                    last = Some((&t.known.clock, m));
                    m
                }
            };
            // What a thread did itself it knows.
            let own = if own_warp && agent == Agent::Thread { 1 << l } else { 0 };
            if unknown & !own != 0 {
                // Initialisations of mbarriers have a fence of their own, which releases them alone.
                let init = self.mbarrier
                    && r.strong().is_none()
                    && agent == Agent::Thread
                    && missing(t.known.fenced[2].row(r.block()), r, None) == 0;
                if init {
                    continue;
                }
                return Verdict::Racy;
            }
            if self.bulk && r.writes() && !agent.bulk() {
                let row = |k: usize| t.known.fenced[k].row(r.block());
                let fenced = |k: usize| missing(row(k), r, agent.stream()) == 0;
                if !(fenced(self.proxy) || self.mbarrier && fenced(2)) {
                    return Verdict::Unfenced;
                }
            }
        }
        Verdict::Ordered
    }
}

/// What lanes of a warp access.
struct Batch {
    bytes: u64,
    exec: u32,
    pc: u32,
    access: Access,
    now: u32,
}

/// A conflict: the lanes of the new access, the byte, the old access.
type Conflict = (u32, u64, Record, Verdict);

/// Lanes of a warp access memory.
#[cold]
pub(crate) fn seen(
    cx: &mut Context<'_>,
    warp: u32,
    p: &Place,
    what: (u64, u32, u32),
    access: Access,
    repeats: &mut dyn FnMut(u32) -> bool,
) {
    if !matches!(p.space, Space::Shared | Space::Global) {
        return;
    }
    let Some(mut w) = cx.watch.take() else { return };
    w.stale.0 = 0;
    if w.checks.race
        && p.space == Space::Global
        && access.kind == Kind::Load
        && access.strong().is_some()
        && let Some(c) = &mut cx.chaos
        && what.0 <= 8
    {
        for l in (0..32u32).filter(|l| what.1 >> l & 1 != 0) {
            let place = (p.region, p.off[l as usize]);
            if let Some(v) = w.older(c, place, 32 * warp + l, what.0 as u8) {
                w.stale.0 |= 1 << l;
                w.stale.1[l as usize] = v;
            }
        }
    }
    if w.remembers() {
        let (bytes, exec, pc) = what;
        let batch = Batch { bytes, exec, pc, access, now: cx.now };
        w.access(cx, warp, p, &batch, repeats);
    }
    cx.watch = Some(w);
}

/// Groups lanes by offset.
fn groups(off: &[u64; 32], exec: u32, out: &mut [(u64, u32); 32]) -> usize {
    let mut n = 0;
    let mut top = 0;
    for l in (0..32usize).filter(|l| exec >> l & 1 != 0) {
        let o = off[l];
        if n > 0 && o == out[n - 1].0 {
            out[n - 1].1 |= 1 << l;
        } else if n == 0 || o > top {
            out[n] = (o, 1 << l);
            n += 1;
            top = o;
        } else if let Some(g) = out[..n].iter_mut().find(|g| g.0 == o) {
            g.1 |= 1 << l;
        } else {
            out[n] = (o, 1 << l);
            n += 1;
        }
    }
    n
}

impl Watch {
    fn access(
        &mut self,
        cx: &Context<'_>,
        warp: u32,
        p: &Place,
        x: &Batch,
        repeats: &mut dyn FnMut(u32) -> bool,
    ) {
        let writable =
            p.space == Space::Shared || cx.regions.get(p.region as usize).is_some_and(|r| r.writable);
        if !writable {
            return;
        }
        let slot = self.slot_of(p);
        let key = if p.space == Space::Shared { 1 << 31 | slot as u32 } else { p.region };
        let strong = x.access.strong();
        let issue = self.issuing;
        if let (Some(scope), false) = (strong, x.access.quiet) {
            let stale = self.stale.0;
            for l in (0..32).filter(|l| x.exec >> l & 1 != 0 && x.access.kind != Kind::Store) {
                self.observe(
                    (key, p.off[l]),
                    32 * warp + l as u32,
                    stale >> l & 1 != 0,
                    (x.access.order, scope),
                );
            }
        }
        let mut list = [(0u64, 0u32); 32];
        let n = groups(&p.off, x.exec, &mut list);
        let mut conflicts: Vec<Conflict> = vec![];
        let mut shared = std::mem::take(&mut self.blocks[slot].shared);
        let mut nc: Option<(u32, u32, u64)> = None;
        let (repeats, doubts) = (RefCell::new(repeats), RefCell::new(Vec::<Conflict>::new()));
        let grid = self.blocks[self.cur].grid;
        if n == 1 && x.access.kind == Kind::Store {
            self.alone(grid, x.pc, warp, list[0].0);
        }
        let cur = &self.blocks[self.cur];
        let view = |lanes: u32| -> View<'_> {
            let base = |l: u32| cur.threads[(32 * warp + l) as usize].base;
            View {
                blocks: &self.blocks,
                told: &self.told,
                slot: self.cur,
                warp,
                me: 32 * cur.uid + warp,
                lanes,
                since: Since {
                    base: (0..32).filter(|l| lanes >> l & 1 != 0).map(base).min().unwrap_or(0),
                    floor: cur.floor,
                },
                bulk: x.access.agent.bulk(),
                proxy: usize::from(p.space == Space::Global),
                mbarrier: x.access.quiet,
            }
        };
        let mut v = view(issue.map_or(x.exec, |i: Issue| 1 << i.lane));
        let me = v.me;
        let mut page: Option<(u64, &mut Box<[Cell]>)> = None;
        for &(at, lanes) in &list[..n] {
            let lanes = issue.map_or(lanes, |i| 1 << i.lane);
            v.lanes = lanes;
            let tag = issue.and_then(|i| i.told).unwrap_or(lanes);
            let end = at + x.bytes;
            for word in at / 4..end.div_ceil(4) {
                let lo = at.max(4 * word) - 4 * word;
                let hi = end.min(4 * word + 4) - 4 * word;
                let mask = ((1u8 << hi) - 1) & !((1u8 << lo) - 1);
                let cell = if p.space == Space::Shared {
                    let Some(c) = shared.get_mut(word as usize) else { continue };
                    c
                } else {
                    if page.as_ref().is_none_or(|(i, _)| *i != word / PAGE) {
                        let fresh = || vec![Cell::default(); PAGE as usize].into_boxed_slice();
                        let b = self.pages.entry((p.region, word / PAGE)).or_insert_with(fresh);
                        page = Some((word / PAGE, b));
                    }
                    match &mut page {
                        Some((_, b)) => &mut b[(word % PAGE) as usize],
                        None => continue,
                    }
                };
                if x.access.nc {
                    cell.nc = (x.now, x.pc);
                }
                if x.access.writes() {
                    cell.written = (x.now, x.pc);
                }
                if (x.access.nc || x.access.writes())
                    && cell.nc.0 > v.since.base
                    && cell.written.0 > v.since.base
                {
                    nc.get_or_insert((cell.nc.1, cell.written.1, at));
                }
                let new =
                    Record::new((x.now, me, tag), x.pc, mask, x.access.writes(), strong, x.access.agent);
                let (blocks, slot) = (v.blocks, v.slot);
                let conflicting = |r: &Record| {
                    if !(r.writes() || new.writes()) {
                        return false;
                    }
                    // Compilers let several warps hold and store the same array.
                    let twin = new.writes()
                        && r.writes()
                        && r.strong().is_none()
                        && r.agent() == Agent::Thread
                        && r.pc() == x.pc
                        && r.block() == blocks[slot].uid;
                    if twin && (repeats.borrow_mut())(lanes) {
                        if n == 1 {
                            doubts.borrow_mut().push((lanes, 4 * word + lo, *r, Verdict::Racy));
                        }
                        return false;
                    }
                    match (r.strong(), strong) {
                        (Some(a), Some(b)) if r.agent() == Agent::Thread => {
                            let me = (blocks[slot].uid, blocks[slot].cluster);
                            let them = blocks.iter().find(|s| s.uid == r.block());
                            let need = need(me, (r.block(), them.map_or(r.block(), |s| s.cluster)));
                            a.min(b) < need
                        }
                        // Bulk reductions are relaxed operations on their elements.
                        (Some(_), Some(_)) => false,
                        _ => true,
                    }
                };
                let judge = |r: &Record| v.judge(r, new.writes());
                if let Some((old, verdict)) = cell.touch(&new, v.since, conflicting, judge) {
                    conflicts.push((lanes, 4 * word + u64::from(lo as u8), old, verdict));
                }
            }
        }
        self.blocks[slot].shared = shared;
        for c in conflicts {
            let (kind, raw) = self.conflict(cx, warp, p, x, c);
            self.report(kind, raw);
        }
        for c in doubts.into_inner() {
            let (_, raw) = self.conflict(cx, warp, p, x, c);
            self.doubtful.entry((grid, x.pc)).or_insert(raw);
        }
        if let Some((load, write, at)) = nc {
            let uid = self.blocks[self.cur].uid;
            let thread = 32 * warp + issue.map_or(x.exec.trailing_zeros(), |i| i.lane);
            let mine = load == x.pc;
            let raw = Raw {
                block: uid,
                pc: load,
                thread: mine.then_some(thread),
                other: Some((uid, (!mine).then_some(thread), write)),
                message: format!(
                    "non-coherent load of {}, which the same launch writes: load it without .nc (drop \
                     `__restrict__` or `const`, or read through a volatile or atomic access)",
                    name(cx, p, at)
                ),
            };
            self.report(FindingKind::NonCoherent, raw);
        }
        if let (Some(scope), false, true) = (strong, x.access.quiet, x.access.writes()) {
            let how = (x.access.order, scope, x.access.kind == Kind::Atomic);
            for l in (0..32).filter(|l| x.exec >> l & 1 != 0) {
                if x.access.agent == Agent::Thread {
                    self.publish((key, p.off[l]), 32 * warp + l as u32, how, x.now);
                }
            }
        }
    }

    /// A warp stores one word. An array with an element per warp shows in that the warps begin at different words
    /// between two barriers; where they all begin at one word, a guard is missing.
    fn alone(&mut self, grid: u32, pc: u32, warp: u32, at: u64) {
        let (uid, floor) = (self.blocks[self.cur].uid, self.blocks[self.cur].floor);
        if self.began.insert((uid, pc, warp), floor) == Some(floor) {
            return;
        }
        match self.single.insert((uid, pc), (floor, at)) {
            Some((f, first)) if f == floor && first != at => {
                self.arrays.insert((grid, pc));
            }
            _ => {}
        }
    }

    /// Words a conflict.
    fn conflict(&self, cx: &Context<'_>, warp: u32, p: &Place, x: &Batch, c: Conflict) -> (FindingKind, Raw) {
        let (lanes, at, old, verdict) = c;
        let me = &self.blocks[self.cur];
        let uid = me.uid;
        let agent = old.agent();
        // The lane at fault is another one than that of the old access.
        let own = agent == Agent::Thread && old.warp == 32 * uid + warp && old.lanes.is_power_of_two();
        let others = if own && lanes & !old.lanes != 0 { lanes & !old.lanes } else { lanes };
        let thread = 32 * warp + others.trailing_zeros();
        let (old_warp, old_lane) = match agent {
            Agent::Told | Agent::Posted => {
                let t = self.told[old.lanes as usize];
                (t.warp, t.lane)
            }
            _ => (
                old.warp,
                (old.lanes & !if old.warp == 32 * uid + warp { lanes } else { 0 }).trailing_zeros(),
            ),
        };
        let old_lane = if old_lane > 31 { old.lanes.trailing_zeros() % 32 } else { old_lane };
        let other = (old_warp / 32, Some(old_warp % 32 * 32 + old_lane), old.pc());
        let mbarrier = |pc: u32| matches!(cx.kernel.code.get(pc as usize).map(|i| &i.op), Some(Op::Mbar(_)));
        let place = name(cx, p, at);
        let (verb, verb2) = (x.access.name(), if old.writes() { "write" } else { "read" });
        let (kind, message) = if mbarrier(x.pc) || mbarrier(old.pc()) || x.access.quiet {
            let what = match verdict {
                Verdict::Unfenced => {
                    "asynchronous copies see its initialisation only after a fence by the thread that initialised \
                     it: fence.mbarrier_init or fence.proxy.async"
                }
                _ => "put a barrier between its initialisation (or its end) and its use",
            };
            (
                FindingKind::Mbarrier,
                format!("{verb} of the mbarrier at {place} is not ordered with another access: {what}"),
            )
        } else if verdict == Verdict::Unfenced {
            let what = if p.space == Space::Global {
                "fence.proxy.async.global"
            } else {
                "fence.proxy.async.shared::cta"
            };
            (
                FindingKind::Proxy,
                format!(
                    "{verb} of {place} through the asynchronous proxy after a generic {verb2} without a proxy fence: \
                     execute {what} after the {verb2}, before the barrier that orders the two"
                ),
            )
        } else {
            let edge = match agent {
                Agent::Copy => {
                    "wait for the group of that copy (cp.async.wait_group) in its thread, then synchronise"
                }
                Agent::BulkSource => {
                    "the bulk copy may still read it: wait (cp.async.bulk.wait_group.read) in its thread, then synchronise"
                }
                Agent::BulkTarget => {
                    "wait for the bulk group (cp.async.bulk.wait_group) in the thread that issued it, then synchronise"
                }
                Agent::Told | Agent::Posted => "wait for the phase of the mbarrier that the copy completes",
                Agent::Thread if old.strong().is_some() && x.access.strong().is_some() => {
                    "both are strong, but a scope does not include the other thread: widen the scope"
                }
                Agent::Thread if old.block() != uid => {
                    "no release of one happens before an acquire of the other with scopes that include both: use \
                     st.release and ld.acquire of .gpu scope, or fences on both sides of a flag"
                }
                Agent::Thread if old.warp == 32 * uid + warp => {
                    "lanes of a warp are not ordered by themselves: put a bar.warp.sync (__syncwarp) between them"
                }
                Agent::Thread => "put a barrier between them",
            };
            let them = if other.0 == uid && old_warp == 32 * uid + warp && other.1 == Some(thread) {
                "an asynchronous copy of the same thread"
            } else if other.0 == uid {
                "another thread of the block"
            } else {
                "a thread of another block"
            };
            (FindingKind::Race, format!("{verb} of {place} races with a {verb2} by {them}; missing: {edge}"))
        };
        let raw = Raw { block: uid, pc: x.pc, thread: Some(thread), other: Some(other), message };
        (kind, raw)
    }

    /// The running block exits, and its shared memory with it: whatever other blocks did there must be known.
    pub(crate) fn leave_shared(&mut self) {
        let b = &self.blocks[self.cur];
        let mut all = super::threads::Known::default();
        let mut base = u32::MAX;
        for t in &b.threads {
            base = base.min(t.base);
            if !all.same(&t.known) {
                all.join(&t.known);
            }
        }
        let executed = std::mem::take(&mut all.fenced[EXECUTED]);
        all.clock.join(&executed);
        let mut late = vec![];
        for r in b.shared.iter().flat_map(Cell::records) {
            let told = matches!(r.agent(), Agent::Told | Agent::Posted);
            if r.block() == b.uid && !told || r.stamp <= base {
                continue;
            }
            let known = match r.agent() {
                Agent::Told | Agent::Posted => match self.told[r.lanes as usize].done {
                    None => false,
                    Some((block, id, phases)) => {
                        let row = all.clock.row(block);
                        row.and_then(|x| x.phases.get(id as usize)).is_some_and(|k| *k >= phases)
                    }
                },
                a => missing(all.clock.row(r.block()), r, a.stream()) == 0,
            };
            if !known {
                late.push(*r);
            }
        }
        for r in late {
            let (warp, lane) = match r.agent() {
                Agent::Told | Agent::Posted => {
                    let t = self.told[r.lanes as usize];
                    (t.warp, t.lane)
                }
                _ => (r.warp, r.lanes.trailing_zeros() % 32),
            };
            let message = if warp / 32 == self.blocks[self.cur].uid {
                "a copy may still be under way in the shared memory of a block that exits; missing: a wait for the \
                 phase that it completes, known before the exit"
            } else {
                "access to the shared memory of another block of the cluster, which may have exited; missing: \
                 barrier.cluster between this and that block's exit"
            };
            let thread = Some(warp % 32 * 32 + lane);
            let (block, pc) = (warp / 32, r.pc());
            self.report(FindingKind::Race, Raw { block, pc, thread, other: None, message: message.into() });
        }
    }

    /// Lanes of one instruction store different values to one place: which one stays is not defined.
    pub(crate) fn clash(&mut self, cx: &Context<'_>, warp: u32, p: &Place, (a, b, pc): (u32, u32, u32)) {
        let uid = self.blocks[self.cur].uid;
        let message = format!(
            "lanes of one store write different values to {}: which one stays is not defined",
            name(cx, p, p.off[a as usize])
        );
        let other = Some((uid, Some(32 * warp + b), pc));
        self.report(FindingKind::Race, Raw { block: uid, pc, thread: Some(32 * warp + a), other, message });
    }

    /// Numbers a copy whose completion an mbarrier will tell.
    pub(crate) fn number_copy(&mut self, warp: u32, lane: u32) -> u32 {
        self.blocks[self.cur].copies = true;
        let warp = 32 * self.blocks[self.cur].uid + warp;
        self.told.push(Told { done: None, warp, lane });
        self.told.len() as u32 - 1
    }
}

const _: () = assert!(Scope::Cta as u32 == 0 && Scope::Sys as u32 == 3);
