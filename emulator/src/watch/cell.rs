//! What: the last accesses to each word of memory.
//! Why here: two accesses conflict when they meet at a byte, one writes, and they are not both strong enough for
//! each other; a word remembers as few of them as keep every conflict findable.
//! Pre: stamps rise.
//! Post: an access is dropped only when a later one stands for it: it is ordered before that one, covers no other
//! bytes, conflicts with no more, and is no weaker.

use crate::inst::Scope;

/// Who performs an access, as far as completion goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Agent {
    /// The thread itself.
    Thread,
    /// Streams, in the order of `clock::STREAMS`.
    Copy,
    BulkSource,
    BulkTarget,
    /// A copy whose completion an mbarrier tells; the record's lanes are its number.
    Told,
    /// A store of which the same holds, but that goes through the generic proxy.
    Posted,
}

impl Agent {
    /// The stream of a thread that completes it.
    pub(crate) fn stream(self) -> Option<usize> {
        match self {
            Agent::Copy => Some(0),
            Agent::BulkSource => Some(1),
            Agent::BulkTarget => Some(2),
            Agent::Thread | Agent::Told | Agent::Posted => None,
        }
    }

    /// Whether the access goes through the asynchronous proxy.
    pub(crate) fn bulk(self) -> bool {
        !matches!(self, Agent::Thread | Agent::Copy | Agent::Posted)
    }
}

/// Program counters beyond this are not told apart.
pub(crate) const MAX_PC: u32 = (1 << 20) - 1;

/// One access to some bytes of a word.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Record {
    /// 0 for none.
    pub(crate) stamp: u32,
    /// The warp, counted over the launch: 32 times the block, plus the warp in it.
    pub(crate) warp: u32,
    /// The lanes; the number of the copy for `Agent::Told`.
    pub(crate) lanes: u32,
    /// pc, bytes, write, strong, scope, agent.
    info: u32,
}

impl Record {
    pub(crate) fn new(
        (stamp, warp, lanes): (u32, u32, u32),
        pc: u32,
        bytes: u8,
        write: bool,
        strong: Option<Scope>,
        agent: Agent,
    ) -> Record {
        let scope = strong.map_or(0, |s| s as u32);
        let info = pc.min(MAX_PC)
            | u32::from(bytes) << 20
            | u32::from(write) << 24
            | u32::from(strong.is_some()) << 25
            | scope << 26
            | (agent as u32) << 28;
        Record { stamp, warp, lanes, info }
    }
    pub(crate) fn pc(&self) -> u32 {
        self.info & MAX_PC
    }
    pub(crate) fn bytes(&self) -> u8 {
        (self.info >> 20 & 15) as u8
    }
    pub(crate) fn writes(&self) -> bool {
        self.info >> 24 & 1 != 0
    }
    pub(crate) fn strong(&self) -> Option<Scope> {
        match self.info >> 25 & 7 {
            1 => Some(Scope::Cta),
            3 => Some(Scope::Cluster),
            5 => Some(Scope::Gpu),
            7 => Some(Scope::Sys),
            _ => None,
        }
    }
    pub(crate) fn agent(&self) -> Agent {
        match self.info >> 28 & 7 {
            0 => Agent::Thread,
            1 => Agent::Copy,
            2 => Agent::BulkSource,
            3 => Agent::BulkTarget,
            4 => Agent::Told,
            _ => Agent::Posted,
        }
    }
    pub(crate) fn block(&self) -> u32 {
        self.warp / 32
    }
    /// Whether `new`, which is ordered after this, conflicts with all that this conflicts with.
    fn stands_for(new: &Record, old: &Record) -> bool {
        old.bytes() & !new.bytes() == 0
            && (new.writes() || !old.writes())
            && (new.strong().is_none() || old.strong().is_some() && old.strong() <= new.strong())
            && (new.agent().bulk() || !old.agent().bulk())
    }
}

/// How an earlier access stands to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It happens before.
    Ordered,
    /// It happens before, but through another proxy, and no proxy fence lies between.
    Unfenced,
    /// Nothing orders them.
    Racy,
}

/// Records of a word that are kept in place.
const NEAR: usize = 2;
/// Records beyond them that are always kept; the oldest give way, so that counters that everybody meets at stay cheap.
const FAR: usize = 128;
/// How many give way at once.
const WAY: usize = 32;

/// A word of memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    near: [Record; NEAR],
    far: Vec<Record>,
    /// Stamp and pc of the last non-coherent load.
    pub(crate) nc: (u32, u32),
    /// Stamp and pc of the last write.
    pub(crate) written: (u32, u32),
}

impl Cell {
    /// All accesses that are remembered.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.near.iter().filter(|r| r.stamp != 0).chain(&self.far)
    }

    /// Records `new`. `judge` says how an old access stands to it; gives the first conflicting one that is not
    /// fine. Old accesses that are `apart` need no judgement: `new` neither conflicts with them nor stands for them.
    #[inline]
    pub(crate) fn touch(
        &mut self,
        new: Record,
        apart: impl Fn(&Record) -> bool,
        conflicts: impl Fn(&Record) -> bool,
        mut judge: impl FnMut(&Record) -> Verdict,
    ) -> Option<(Record, Verdict)> {
        let mut bad = None;
        let mut free = None;
        let mut see = |r: &mut Record| -> bool {
            let overlap = r.bytes() & new.bytes() != 0;
            let verdict = judge(r);
            if overlap && verdict != Verdict::Ordered && conflicts(r) {
                bad.get_or_insert((*r, verdict));
            }
            verdict != Verdict::Racy && Record::stands_for(&new, r)
        };
        let mut merged = false;
        for (i, r) in self.near.iter_mut().enumerate() {
            if r.stamp == 0 {
                free.get_or_insert(i);
            } else if r.stamp == new.stamp && r.warp == new.warp && r.info == new.info {
                r.lanes |= new.lanes;
                merged = true;
            } else if see(r) {
                r.stamp = 0;
                free.get_or_insert(i);
            }
        }
        if !self.far.iter().all(&apart) {
            self.far.retain_mut(|r| {
                if apart(r) {
                    return true;
                }
                if r.stamp == new.stamp && r.warp == new.warp && r.info == new.info {
                    r.lanes |= new.lanes;
                    merged = true;
                    return true;
                }
                !see(r)
            });
        }
        if !merged {
            match free {
                Some(i) => self.near[i] = new,
                None => {
                    if self.far.len() >= FAR + WAY {
                        self.far.drain(..WAY);
                    }
                    self.far.push(new);
                }
            }
        }
        bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rec(stamp: u32, lanes: u32, bytes: u8, write: bool) -> Record {
        Record::new((stamp, 7, lanes), 3, bytes, write, None, Agent::Thread)
    }

    #[test]
    fn records_keep_their_fields() {
        for (write, strong, agent) in [
            (false, None, Agent::Thread),
            (true, Some(Scope::Cta), Agent::Copy),
            (true, Some(Scope::Sys), Agent::Told),
            (false, Some(Scope::Gpu), Agent::BulkTarget),
        ] {
            let r = Record::new((9, 65, 4), 77, 0b0110, write, strong, agent);
            assert_eq!((r.pc(), r.bytes(), r.writes()), (77, 6, write));
            assert_eq!((r.strong(), r.agent(), r.block()), (strong, agent, 2));
        }
    }

    #[test]
    fn a_later_access_stands_for_an_earlier_one_of_fewer_bytes() {
        let mut c = Cell::default();
        let (near, conflicts) = (|_: &Record| false, |_: &Record| true);
        assert!(c.touch(rec(1, 1, 3, true), near, conflicts, |_| Verdict::Racy).is_none());
        assert!(c.touch(rec(2, 2, 12, true), near, conflicts, |_| Verdict::Racy).is_none());
        // Ordered after both halves: it replaces them.
        assert!(c.touch(rec(3, 4, 15, true), near, conflicts, |_| Verdict::Ordered).is_none());
        // Nothing but the last write is left to conflict with.
        let bad = c.touch(rec(4, 8, 15, false), near, conflicts, |_| Verdict::Racy);
        assert_eq!(bad.map(|b| b.0.stamp), Some(3));
        // Many readers that nothing orders are all kept.
        let mut c = Cell::default();
        for w in 0..10u32 {
            let r = Record::new((w + 1, w, 1), 3, 15, false, None, Agent::Thread);
            assert!(c.touch(r, near, |o| o.writes(), |_| Verdict::Racy).is_none());
        }
        let mut seen = 0;
        c.touch(
            rec(20, 1, 15, true),
            near,
            |_| false,
            |_| {
                seen += 1;
                Verdict::Racy
            },
        );
        assert_eq!(seen, 10);
    }
}
