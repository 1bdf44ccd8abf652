//! What: older values that relaxed reads may still return.
//! Why here: coherence lets a strong read miss a write that does not happen before it, as long as the thread has not
//! seen that write yet; kernels that poll must bear it. Only an adversarial schedule makes use of it.
//! Pre: strong writes and atomics to global memory tell what they replace.
//! Post: no thread reads a value older than one that it has read or written, or that happens before its read.

use super::Watch;
use crate::machine::chaos::Chaos;
use std::collections::HashMap;

/// A write that some may not see yet.
#[derive(Debug, Clone, Copy)]
struct Recent {
    /// What it replaced.
    old: u64,
    bytes: u8,
    stamp: u32,
    /// Its thread: block and index.
    by: (u32, u32),
    /// The first sequentially consistent fence of that thread after it.
    fenced: Option<u32>,
}

/// Recent writes by place, and the last ones that threads have seen.
#[derive(Debug, Default)]
pub(crate) struct Recents {
    writes: HashMap<(u32, u64), Recent>,
    seen: HashMap<(u32, u32, u32, u64), u32>,
    /// The last sequentially consistent fence of each thread.
    fences: HashMap<(u32, u32), u32>,
}

impl Recents {
    /// Threads of a block execute a sequentially consistent fence.
    pub(crate) fn fence(&mut self, block: u32, threads: impl Iterator<Item = u32>, stamp: u32) {
        for t in threads {
            self.fences.insert((block, t), stamp);
            for w in self.writes.values_mut().filter(|w| w.by == (block, t) && w.fenced.is_none()) {
                w.fenced = Some(stamp);
            }
        }
    }
}

/// One read in so many is offered an old value.
const RARE: u64 = 4;

impl Watch {
    /// A thread of the running block replaces `old` at a place.
    pub(crate) fn replaced(&mut self, place: (u32, u64), thread: u32, (old, bytes): (u64, u8), stamp: u32) {
        let uid = self.blocks[self.cur].uid;
        self.recents.writes.insert(place, Recent { old, bytes, stamp, by: (uid, thread), fenced: None });
        self.recents.seen.insert((uid, thread, place.0, place.1), stamp);
    }

    /// The older value that a strong read of the running block may return, if the schedule picks it.
    pub(crate) fn older(
        &mut self,
        chaos: &mut Chaos,
        place: (u32, u64),
        thread: u32,
        bytes: u8,
    ) -> Option<u64> {
        let r = *self.recents.writes.get(&place)?;
        let b = &self.blocks[self.cur];
        let t = &b.threads[thread as usize];
        let me = (b.uid, thread);
        let key = (b.uid, thread, place.0, place.1);
        let row = t.known.clock.row(r.by.0);
        let known = row.and_then(|x| x.threads.get(r.by.1 as usize)).is_some_and(|v| *v >= r.stamp);
        // Fences in one order: what was written before an earlier one is seen after a later one.
        let fence = self.recents.fences.get(&me);
        let ordered = r.fenced.is_some_and(|f| fence.is_some_and(|mine| *mine > f));
        let seen = ordered || self.recents.seen.get(&key).is_some_and(|s| *s >= r.stamp);
        if r.bytes == bytes && r.by != me && !known && !seen && r.stamp > t.base && chaos.one_in(RARE) {
            return Some(r.old);
        }
        self.recents.seen.insert(key, r.stamp);
        None
    }
}
