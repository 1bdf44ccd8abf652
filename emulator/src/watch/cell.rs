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
    /// Whether both are of one instruction of a warp, and differ in lanes alone.
    fn same(&self, o: &Record) -> bool {
        self.stamp == o.stamp && self.warp == o.warp && self.info == o.info
    }
    /// Whether this and an earlier access are reads of which this does not stand for that, since nothing simple orders
    /// them: what most accesses to a word are that many warps read.
    fn apart(&self, old: &Record, since: Since) -> bool {
        !(self.writes() || old.writes())
            && old.stamp > since.base
            && old.warp != self.warp
            && (old.stamp > since.floor || old.block() != self.block())
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

/// What is before an access whoever performed it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Since {
    /// Everything up to here.
    pub(crate) base: u32,
    /// What threads of the same block did up to here.
    pub(crate) floor: u32,
}

/// Records in the order of their stamps.
#[derive(Debug, Clone, Default)]
struct Far {
    records: Vec<Record>,
    /// Of each record, apart from it: they are looked through at each access.
    warps: Vec<u32>,
    writes: usize,
}

impl Far {
    /// Whether all are apart from `new`, as far as a short look tells.
    fn apart(&self, new: &Record, since: Since) -> bool {
        !new.writes()
            && self.writes == 0
            && self.records.first().is_none_or(|r| r.stamp > since.base)
            && !self.warps.contains(&new.warp)
    }

    /// Keeps those that `keep` says.
    fn retain(&mut self, keep: impl FnMut(&mut Record) -> bool) {
        let before = self.records.len();
        self.records.retain_mut(keep);
        if self.records.len() < before {
            self.count();
        }
    }

    fn push(&mut self, new: Record) {
        if self.records.len() >= FAR + WAY {
            self.records.drain(..WAY);
            self.count();
        }
        self.records.push(new);
        self.warps.push(new.warp);
        self.writes += usize::from(new.writes());
    }

    fn count(&mut self) {
        self.warps.clear();
        self.warps.extend(self.records.iter().map(|r| r.warp));
        self.writes = self.records.iter().filter(|r| r.writes()).count();
    }
}

/// A word of memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    near: [Record; NEAR],
    far: Option<Box<Far>>,
    /// Stamp and pc of the last non-coherent load.
    pub(crate) nc: (u32, u32),
    /// Stamp and pc of the last write.
    pub(crate) written: (u32, u32),
}

impl Cell {
    /// All accesses that are remembered.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        let far = self.far.iter().flat_map(|f| &f.records);
        self.near.iter().filter(|r| r.stamp != 0).chain(far)
    }

    /// Records `new`. `judge` says how an old access stands to it; gives the first conflicting one that is not
    /// fine.
    #[inline]
    pub(crate) fn touch(
        &mut self,
        new: &Record,
        since: Since,
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
            verdict != Verdict::Racy && Record::stands_for(new, r)
        };
        let mut merged = false;
        for (i, r) in self.near.iter_mut().enumerate() {
            if r.stamp == 0 {
                free.get_or_insert(i);
            } else if r.same(new) {
                r.lanes |= new.lanes;
                merged = true;
            } else if !new.apart(r, since) && see(r) {
                r.stamp = 0;
                free.get_or_insert(i);
            }
        }
        if let Some(far) = &mut self.far
            && !far.apart(new, since)
        {
            far.retain(|r| {
                if r.same(new) {
                    r.lanes |= new.lanes;
                    merged = true;
                    return true;
                }
                new.apart(r, since) || !see(r)
            });
        }
        if !merged {
            match free {
                Some(i) => self.near[i] = *new,
                None => self.far.get_or_insert_default().push(*new),
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
        let (since, conflicts) = (Since::default(), |_: &Record| true);
        assert!(c.touch(&rec(1, 1, 3, true), since, conflicts, |_| Verdict::Racy).is_none());
        assert!(c.touch(&rec(2, 2, 12, true), since, conflicts, |_| Verdict::Racy).is_none());
        // Ordered after both halves: it replaces them.
        assert!(c.touch(&rec(3, 4, 15, true), since, conflicts, |_| Verdict::Ordered).is_none());
        // Nothing but the last write is left to conflict with.
        let bad = c.touch(&rec(4, 8, 15, false), since, conflicts, |_| Verdict::Racy);
        assert_eq!(bad.map(|b| b.0.stamp), Some(3));
        // Many readers that nothing orders are all kept.
        let mut c = Cell::default();
        for w in 0..10u32 {
            let r = Record::new((w + 1, w, 1), 3, 15, false, None, Agent::Thread);
            assert!(c.touch(&r, since, |o| o.writes(), |_| Verdict::Racy).is_none());
        }
        let mut seen = 0;
        c.touch(
            &rec(20, 1, 15, true),
            since,
            |_| false,
            |_| {
                seen += 1;
                Verdict::Racy
            },
        );
        assert_eq!(seen, 10);
    }

    #[test]
    fn a_word_that_many_warps_read_keeps_the_last_of_them_and_its_writes() {
        let new = |stamp: u32, warp: u32, write: bool| {
            Record::new((stamp, warp, 1), 3, 15, write, None, Agent::Thread)
        };
        let conflicts = |r: &Record| r.writes();
        let mut c = Cell::default();
        for w in 1..=1000 {
            assert!(c.touch(&new(w, w, false), Since::default(), |_| true, |_| Verdict::Racy).is_none());
            assert!(c.records().count() >= FAR.min(w as usize));
        }
        // A write nothing orders, of a warp of its own; every later read meets it.
        c.touch(&new(1001, 2000, true), Since::default(), |_| false, |_| Verdict::Racy);
        for w in 1..=10 {
            let bad =
                c.touch(&new(1001 + w, 3000 + w, false), Since::default(), conflicts, |_| Verdict::Racy);
            assert_eq!(bad.map(|b| b.0.stamp), Some(1001));
        }
        // What is before everybody's eyes goes, with the write: one stands for all.
        let since = Since { base: 2000, floor: 2000 };
        assert!(c.touch(&new(2001, 1, true), since, conflicts, |_| Verdict::Ordered).is_none());
        assert_eq!(c.records().count(), 1);
        assert!(c.touch(&new(2002, 9, false), since, conflicts, |_| Verdict::Ordered).is_none());
    }
}
