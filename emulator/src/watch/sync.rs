//! What: the edges of happens-before: barriers of blocks, warps and clusters, fences, strong accesses, groups of
//! copies, dependent grids.
//! Why here: each is one rule of the memory model.
//! Pre: as `threads`.
//! Post: as `threads`.

use super::Watch;
use super::threads::{EXECUTED, Known, Release, need};
use crate::inst::{Fence, Group, Order, Scope};
use crate::sanitize::FindingKind;

/// What has been brought to a barrier so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meeting {
    known: Known,
    /// Threads that wait there.
    waiting: u32,
    /// What those take who leave, once all have come.
    taken: Known,
}

/// What the last write to a location releases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variable(Vec<Release>);

fn lanes(mask: u32) -> impl Iterator<Item = u32> + Clone {
    (0..32u32).filter(move |l| mask >> l & 1 != 0)
}

impl Watch {
    /// What several threads of the running block release together.
    fn release_all(&mut self, warp: u32, mask: u32, now: u32) -> Known {
        let b = &self.blocks[self.cur];
        let mut all: Option<Known> = None;
        let mut last: Option<&Known> = None;
        for l in lanes(mask) {
            let k = &b.threads[(32 * warp + l) as usize].known;
            if last.is_some_and(|x| x.same(k)) {
                continue;
            }
            last = Some(k);
            match &mut all {
                None => all = Some(k.clone()),
                Some(a) => a.join(k),
            }
        }
        let mut k = all.unwrap_or_default();
        k.clock.tell(b.uid, b.threads.len(), lanes(mask).map(|l| 32 * warp + l), now);
        k
    }

    /// What several threads of the running block have released to their cluster by fences.
    fn fenced_all(&self, warp: u32, mask: u32, now: u32) -> Known {
        let b = &self.blocks[self.cur];
        let mut all = Known::default();
        for l in lanes(mask) {
            let me = 32 * warp + l;
            let t = &b.threads[me as usize];
            if let Some((scope, stamp, known)) = t.fence.as_deref()
                && *scope >= Scope::Cluster
            {
                let mut k = known.clone();
                k.clock.tell(b.uid, b.threads.len(), std::iter::once(me), *stamp);
                all.join(&k);
            }
            all.fenced[2].join(&t.known.fenced[2]);
            all.fenced[EXECUTED].join(&t.known.clock);
        }
        let all_of = lanes(mask).map(|l| 32 * warp + l);
        all.fenced[EXECUTED].tell(b.uid, b.threads.len(), all_of, now);
        all
    }

    fn learn(&mut self, warp: u32, mask: u32, k: &Known) {
        let b = &mut self.blocks[self.cur];
        for l in lanes(mask) {
            b.threads[(32 * warp + l) as usize].known.join(k);
        }
    }

    /// As `learn`, for threads that have learned nothing since they gave what they knew to `k`.
    fn replace(&mut self, warp: u32, mask: u32, k: &Known) {
        let b = &mut self.blocks[self.cur];
        for l in lanes(mask) {
            b.threads[(32 * warp + l) as usize].known = k.clone();
        }
    }

    /// Lanes arrive at a barrier of the block; the first ones begin it anew.
    pub(crate) fn arrive(&mut self, id: u32, warp: u32, mask: u32, (first, waits): (bool, bool), now: u32) {
        if first {
            self.blocks[self.cur].meetings[id as usize % 16] = Meeting::default();
        }
        let k = self.release_all(warp, mask, now);
        let m = &mut self.blocks[self.cur].meetings[id as usize % 16];
        m.known.join(&k);
        if waits {
            m.waiting += mask.count_ones();
        }
    }

    /// All have come to a barrier of the block; `all` threads are in the block.
    pub(crate) fn complete(&mut self, id: u32, all: u32, now: u32) {
        let b = &mut self.blocks[self.cur];
        let m = &mut b.meetings[id as usize % 16];
        if m.waiting == all {
            b.floor = b.floor.max(now);
        }
        m.taken = std::mem::take(&mut m.known);
    }

    /// Lanes that waited at a barrier go on.
    pub(crate) fn leave(&mut self, id: u32, warp: u32, mask: u32) {
        let k = self.blocks[self.cur].meetings[id as usize % 16].taken.clone();
        self.replace(warp, mask, &k);
    }

    /// Lanes of a warp synchronise.
    pub(crate) fn together(&mut self, warp: u32, mask: u32, now: u32) {
        let k = self.release_all(warp, mask, now);
        self.replace(warp, mask, &k);
    }

    /// Lanes arrive at the barrier of their cluster.
    pub(crate) fn arrive_cluster(&mut self, warp: u32, mask: u32, orders: bool, now: u32) {
        let k = if orders { self.release_all(warp, mask, now) } else { self.fenced_all(warp, mask, now) };
        let cluster = self.blocks[self.cur].cluster;
        self.clusters.entry(cluster).or_default().known.join(&k);
    }

    /// All have come to the barrier of a cluster.
    pub(crate) fn complete_cluster(&mut self) {
        let m = self.clusters.entry(self.blocks[self.cur].cluster).or_default();
        m.taken = std::mem::take(&mut m.known);
    }

    /// Lanes that waited at the barrier of their cluster go on.
    pub(crate) fn leave_cluster(&mut self, warp: u32, mask: u32) {
        let cluster = self.blocks[self.cur].cluster;
        let k = self.clusters.entry(cluster).or_default().taken.clone();
        self.learn(warp, mask, &k);
    }

    /// The grid before has ended and its memory is visible: everything up to `stamp` happens before.
    pub(crate) fn after_grid(&mut self, warp: u32, mask: u32, stamp: u32) {
        let b = &mut self.blocks[self.cur];
        for l in lanes(mask) {
            let t = &mut b.threads[(32 * warp + l) as usize];
            t.base = t.base.max(stamp);
        }
    }

    pub(crate) fn fence(&mut self, f: Fence, warp: u32, mask: u32, now: u32) {
        let b = &mut self.blocks[self.cur];
        let (uid, n) = (b.uid, b.threads.len());
        let kinds: &[usize] = match f {
            Fence::Thread { scope, sc } => {
                if sc && scope >= Scope::Gpu && self.before.is_some() {
                    self.recents.fence(uid, lanes(mask).map(|l| 32 * warp + l), now);
                }
                for l in lanes(mask) {
                    b.threads[(32 * warp + l) as usize].fence(scope, now);
                }
                return;
            }
            Fence::Proxy { shared: true, global: true } => &[0, 1],
            Fence::Proxy { shared: true, .. } => &[0],
            Fence::Proxy { .. } => &[1],
            Fence::MbarrierInit => &[2],
        };
        for l in lanes(mask) {
            let me = 32 * warp + l;
            let t = &mut b.threads[me as usize];
            let mut seen = t.known.clock.clone();
            seen.tell(uid, n, std::iter::once(me), now);
            for &k in kinds {
                t.known.fenced[k].join(&seen);
            }
        }
    }

    /// A group of asynchronous copies of a lane is complete: all that was issued up to `issued`.
    pub(crate) fn group_done(&mut self, g: Group, thread: u32, issued: u32) {
        let b = &mut self.blocks[self.cur];
        let (uid, n) = (b.uid, b.threads.len());
        let Group::Wait { bulk, read, .. } = g else { return };
        let streams: &[usize] = match (bulk, read) {
            (false, _) => &[0],
            (true, true) => &[1],
            (true, false) => &[1, 2],
        };
        let t = &mut b.threads[thread as usize];
        for &s in streams {
            t.known.clock.tell_stream(uid, n, s, thread, issued);
        }
    }

    /// A strong read by a thread of the running block of what is at `key`, or of what was there before.
    pub(crate) fn observe(
        &mut self,
        key: (u32, u64),
        thread: u32,
        older: bool,
        (order, scope): (Order, Scope),
    ) {
        let map = if older { self.before.as_ref() } else { Some(&self.variables) };
        let Some(v) = map.and_then(|m| m.get(&key)) else { return };
        let b = &mut self.blocks[self.cur];
        let me = (b.uid, b.cluster);
        let t = &mut b.threads[thread as usize];
        for r in &v.0 {
            let need = need(me, (r.block, r.cluster));
            if r.scope < need || scope < need {
                continue;
            }
            if order.acquires() {
                t.known.join(&r.known);
            } else {
                t.observed.get_or_insert_default()[need as usize].join(&r.known);
            }
        }
    }

    /// A strong write; `rmw` continues the releases of what it replaces.
    pub(crate) fn publish(
        &mut self,
        key: (u32, u64),
        thread: u32,
        (order, scope, rmw): (Order, Scope, bool),
        now: u32,
    ) {
        if let Some(map) = &mut self.before {
            map.insert(key, self.variables.get(&key).cloned().unwrap_or_default());
        }
        let b = &self.blocks[self.cur];
        let (uid, cluster) = (b.uid, b.cluster);
        let own = if order.releases() {
            Some(Release { known: self.release((self.cur, thread), now), scope, block: uid, cluster })
        } else {
            b.threads[thread as usize].fence.as_ref().map(|f| {
                let (fence, stamp, known) = &**f;
                let mut known = known.clone();
                known.clock.tell(uid, b.threads.len(), std::iter::once(thread), *stamp);
                Release { known, scope: scope.min(*fence), block: uid, cluster }
            })
        };
        if own.is_none() && (rmw || !self.variables.contains_key(&key)) {
            return;
        }
        let v = self.variables.entry(key).or_default();
        if !rmw {
            v.0.clear();
        }
        let Some(own) = own else { return };
        // Who is heard by the whole device is heard the same wherever it ran.
        let wide = own.scope >= Scope::Gpu;
        let twin = |r: &&mut Release| {
            if wide { r.scope >= Scope::Gpu } else { r.scope == own.scope && r.block == own.block }
        };
        match v.0.iter_mut().find(twin) {
            Some(r) => r.known.join(&own.known),
            None => v.0.push(own),
        }
    }

    /// A barrier that a warp must execute as a whole meets some of its lanes.
    pub(crate) fn parted(&mut self, pc: u32, warp: u32, exec: u32, live: u32) {
        let thread = 32 * warp + exec.trailing_zeros() % 32;
        let message = format!(
            "an aligned barrier executed by lanes {exec:#010x} of a warp whose live lanes are {live:#010x}: \
             make the branch uniform, or use barrier without .aligned"
        );
        self.note(FindingKind::Barrier, pc, thread, message);
    }

    /// A block has ended: what waits for its cluster's barrier is forgotten with the cluster.
    pub(crate) fn end_cluster(&mut self, cluster: u32) {
        self.clusters.remove(&cluster);
    }
}
