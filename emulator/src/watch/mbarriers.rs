//! What: what mbarriers order, and how they are misused.
//! Why here: a phase gathers what its arrivals release and the copies that it tells of; who waits for it takes all
//! of that.
//! Pre: calls in the order of the machine; the machine itself checks counts.
//! Post: as `threads`.

use super::Watch;
use super::threads::{Known, need};
use crate::inst::{Order, Scope};
use crate::sanitize::FindingKind;
use std::collections::HashMap;

/// An mbarrier.
#[derive(Debug, Default)]
struct Mbarrier {
    id: u32,
    live: bool,
    /// Phases that are complete.
    phases: u32,
    /// What the phase at hand has gathered.
    gathered: Known,
    told: Vec<u32>,
    /// What the last complete phase gave.
    given: Known,
    /// Per thread (block, index), the phases it has seen complete.
    seen: HashMap<(u32, u32), u32>,
}

/// The mbarriers of a block, by shared offset.
#[derive(Debug, Default)]
pub(crate) struct Mbarriers {
    of: HashMap<u64, Mbarrier>,
    next: u32,
}

/// An mbarrier of a block in flight: its slot and its offset.
pub(crate) type Key = (usize, u64);

fn lanes(mask: u32) -> impl Iterator<Item = u32> {
    (0..32u32).filter(move |l| mask >> l & 1 != 0)
}

impl Watch {
    fn mbarrier(&mut self, (slot, at): Key) -> &mut Mbarrier {
        let m = &mut self.blocks[slot].mbarriers;
        if !m.of.contains_key(&at) {
            m.of.insert(at, Mbarrier { id: m.next, ..Mbarrier::default() });
            m.next += 1;
        }
        m.of.entry(at).or_default()
    }

    /// An mbarrier is initialised by a thread; `valid` says whether the word holds one already.
    pub(crate) fn init_mbarrier(&mut self, key: Key, thread: u32, valid: bool, pc: u32) {
        let m = &mut self.blocks[key.0].mbarriers;
        // Phases of the new life must not be taken for those of the old one.
        let fresh = Mbarrier { id: m.next, live: true, ..Mbarrier::default() };
        m.next += 1;
        let old = m.of.insert(key.1, fresh);
        if valid && old.is_some_and(|o| o.live) {
            let message = format!(
                "the mbarrier at shared address {:#x} is initialised while it is valid: invalidate it first",
                key.1
            );
            self.note(FindingKind::Mbarrier, pc, thread, message);
        }
    }

    /// An mbarrier is invalidated.
    pub(crate) fn end_mbarrier(&mut self, key: Key) {
        self.mbarrier(key).live = false;
    }

    /// A thread of the running block arrives.
    pub(crate) fn arrive_mbarrier(&mut self, key: Key, thread: u32, order: Order, scope: Scope, now: u32) {
        let (me, owner) = (&self.blocks[self.cur], &self.blocks[key.0]);
        let heard = scope >= need((me.uid, me.cluster), (owner.uid, owner.cluster));
        if order.releases() && heard {
            let k = self.release((self.cur, thread), now);
            self.mbarrier(key).gathered.join(&k);
        }
    }

    /// The copies that a thread has issued so far are complete, and the phase says so.
    pub(crate) fn arrive_copies(&mut self, key: Key, (uid, warp, lane): (u32, u32, u32), issued: u32) {
        let (n, thread) = (self.blocks[key.0].threads.len(), 32 * warp + lane);
        self.mbarrier(key).gathered.clock.tell_stream(uid, n, 0, thread, issued);
    }

    /// A copy of the phase at hand is complete.
    pub(crate) fn complete_copy(&mut self, key: Key, told: u32) {
        self.mbarrier(key).told.push(told);
    }

    /// The phase at hand is over.
    pub(crate) fn end_phase(&mut self, key: Key) {
        let uid = self.blocks[key.0].uid;
        let m = self.mbarrier(key);
        m.phases += 1;
        let (id, phases) = (m.id, m.phases);
        m.given = std::mem::take(&mut m.gathered);
        m.given.clock.tell_phase(uid, id, phases);
        for t in std::mem::take(&mut m.told) {
            self.told[t as usize].done = Some((uid, id, phases));
        }
    }

    /// Threads wait for a phase of that parity; those of `passed` go on.
    pub(crate) fn wait_mbarrier(
        &mut self,
        key: Key,
        (warp, exec, passed): (u32, u32, u32),
        parity: Option<&[u64; 32]>,
        (order, scope): (Order, Scope),
        pc: u32,
    ) {
        let (uid, cluster) = (self.blocks[self.cur].uid, self.blocks[self.cur].cluster);
        let owner = (self.blocks[key.0].uid, self.blocks[key.0].cluster);
        let heard = scope >= need((uid, cluster), owner);
        let m = self.mbarrier(key);
        let phases = m.phases;
        let mut behind = None;
        for l in lanes(exec) {
            let t = 32 * warp + l;
            let seen = m.seen.entry((uid, t)).or_insert(0);
            if let Some(p) = parity
                && u64::from(*seen & 1) == p[l as usize] & 1
                && phases >= *seen + 2
            {
                behind.get_or_insert((t, *seen));
                *seen = phases;
            }
            if passed >> l & 1 != 0 {
                *seen = (*seen).max(phases);
            }
        }
        if order.acquires() && heard && passed != 0 {
            let given = m.given.clone();
            let b = &mut self.blocks[self.cur];
            for l in lanes(passed) {
                b.threads[(32 * warp + l) as usize].known.join(&given);
            }
        }
        if let Some((thread, seen)) = behind {
            let message = format!(
                "a wait for phase {seen} of the mbarrier at shared address {:#x}, of which {phases} phases are \
                 complete: a wait two phases behind passes or blocks by luck; let the next phase need an arrival \
                 of this thread",
                key.1
            );
            self.note(FindingKind::Mbarrier, pc, thread, message);
        }
    }
}
