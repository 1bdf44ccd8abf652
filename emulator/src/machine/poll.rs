//! What: finding loops that poll, so that their threads are parked instead of spinning.
//! Why here: a loop that comes back to the same place with the same registers, and that changed nothing on the
//! way, does the same again until memory changes; parking it makes waiting cheap and deadlock exact.
//! Pre: `Poll::visit` is called at backward branches that a whole split takes.
//! Post: a parked split is woken when a value that its loop loads differs.
#![allow(unsafe_code)] // Re-reads addresses that `place` checked, in memory that lives as long as the launch.

use super::context::Context;
use super::place::{Kind, Place};
use super::warp::{Split, Wait, Warp};
use crate::inst::Space;
use crate::watch;

/// A value that a loop loaded.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: *const u8,
    bytes: u64,
    value: u64,
    /// Where it is, for messages.
    region: u32,
    offset: u64,
    shared: bool,
}

/// The loads of one turn of a loop.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trace {
    seen: Vec<Seen>,
    /// More was loaded than is remembered.
    overflow: bool,
    /// The time that the loop was told, and the number of the leap before it, if it asked.
    time: Option<(u64, u32)>,
}

/// Loads remembered per turn.
const MOST: usize = 512;

/// Up to 8 bytes; longer ones are folded.
fn read(at: *const u8, bytes: u64) -> u64 {
    (0..bytes).fold(0u64, |v, i| {
        // SAFETY: `place` checked the range.
        let b = unsafe { at.add(i as usize).read_volatile() };
        v ^ u64::from(b) << (8 * (i % 8))
    })
}

impl Trace {
    /// What a loop that is looked at is told when it asks for the time.
    pub(crate) fn time(&mut self, now: u64, leaps: u32) -> u64 {
        self.time.get_or_insert((now, leaps)).0
    }

    fn absorb(&mut self, other: &Trace) {
        self.seen.extend_from_slice(&other.seen);
        self.time = self.time.or(other.time);
    }

    pub(crate) fn see(&mut self, p: &Place, bytes: u64, exec: u32, kind: Kind) {
        if kind == Kind::Store {
            return;
        }
        for l in (0..32).filter(|l| exec >> l & 1 != 0) {
            if self.seen.len() >= MOST {
                self.overflow = true;
                return;
            }
            // SAFETY: `place` checked the range.
            let at = unsafe { p.ptr.add(p.off[l] as usize) }.cast_const();
            if self.seen.iter().any(|s| s.at == at && s.bytes == bytes) {
                continue;
            }
            let shared = p.space == Space::Shared;
            let value = read(at, bytes);
            self.seen.push(Seen { at, bytes, value, region: p.region, offset: p.off[l], shared });
        }
    }
}

/// A point of a loop with the state that was found there.
#[derive(Debug, Default)]
pub(crate) struct Poll {
    pc: u32,
    /// The lanes that came there. Others may come to the same place before anything else has changed.
    mask: u32,
    regs: Vec<u32>,
    preds: Vec<u32>,
    splits: Vec<Split>,
    effects: u64,
    /// Backward branches since the last look began.
    visits: u32,
    /// Whether the point was remembered again since the loop asked for the time, which stands still from then on.
    again: bool,
    /// What the parked loop loads.
    trace: Option<Box<Trace>>,
}

/// Backward branches between looks, and in one look.
const BETWEEN: u32 = 4;
const LOOK: u32 = 24;

impl Poll {
    fn remember(&mut self, w: &Warp, effects: u64, (pc, mask): (u32, u32)) {
        (self.pc, self.mask) = (pc, mask);
        self.regs.clear();
        self.regs.extend_from_slice(w.regs.words());
        self.preds.clone_from(&w.regs.preds);
        self.splits.clone_from(&w.splits);
        self.effects = effects;
    }
}

fn same_splits(a: &[Split], b: &[Split]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(x, y)| (x.pc, x.mask, x.frame, x.wait) == (y.pc, y.mask, y.frame, y.wait))
}

/// The split of these lanes of a warp that has changed nothing for long takes a branch back to `pc`; says whether it is
/// to be parked there.
#[cold]
pub(crate) fn visit(w: &mut Warp, cx: &mut Context<'_>, pc: u32, mask: u32) -> bool {
    let mut poll = w.poll.take().unwrap_or_default();
    poll.visits += 1;
    let mut park = false;
    if cx.trace.is_some() {
        let same = (poll.pc, poll.mask) == (pc, mask)
            && poll.effects == cx.effects
            && w.regs.words() == poll.regs
            && w.regs.preds == poll.preds
            && same_splits(&w.splits, &poll.splits);
        let full = cx.trace.as_ref().is_some_and(|t| t.overflow);
        let timed = cx.trace.as_ref().is_some_and(|t| t.time.is_some());
        if same && !full {
            // Other lanes of the warp may be parked, too: a change of what they look at wakes all.
            let others = poll.trace.take().filter(|_| w.splits.iter().any(|s| s.wait == Wait::Poll));
            poll.trace = cx.trace.take();
            if let (Some(t), Some(others)) = (&mut poll.trace, others) {
                t.absorb(&others);
            }
            park = true;
        } else if timed && !poll.again && poll.effects == cx.effects {
            poll.remember(w, cx.effects, (pc, mask));
            poll.again = true;
        } else if same || poll.visits > LOOK || poll.effects != cx.effects {
            poll.visits = 0;
            cx.trace = None;
        }
        cx.rehook();
    } else if poll.visits >= BETWEEN {
        // Remember this point and watch a turn or two.
        poll.remember(w, cx.effects, (pc, mask));
        (poll.visits, poll.again) = (0, false);
        cx.trace = Some(Box::default());
        cx.rehook();
    }
    w.poll = Some(poll);
    park
}

/// The state of a whole block at a barrier where all its threads met.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    /// Effects so far, arrivals at barriers apart.
    effects: u64,
    /// Meetings since they changed.
    meetings: u32,
    state: Vec<(Vec<u32>, Vec<u32>, Vec<Split>)>,
    /// What was loaded since the state was taken, while another block runs.
    pub(crate) trace: Option<Box<Trace>>,
}

/// Meetings without effect between looks, and in one look.
const QUIET: u32 = 64;
const TURNS: u32 = 8;

impl Calm {
    /// Whether loads are being traced from one meeting to another.
    pub(crate) fn looks(&self) -> bool {
        !self.state.is_empty()
    }

    /// All threads of a block have met at a barrier. Where they come back in the same state, with nothing done in
    /// between, the block polls: all its threads are parked.
    pub(crate) fn meet(&mut self, warps: &mut [Warp], cx: &mut Context<'_>) {
        let effects = cx.effects - cx.arrivals;
        if effects != self.effects {
            *self = Calm { effects, ..Calm::default() };
            pause(cx);
            return;
        }
        self.meetings += 1;
        let of = |w: &Warp| (w.regs.words().to_vec(), w.regs.preds.clone(), w.splits.clone());
        if self.looks() {
            let same = warps
                .iter()
                .zip(&self.state)
                .all(|(w, s)| w.regs.words() == s.0 && w.regs.preds == s.1 && same_splits(&w.splits, &s.2));
            let full = cx.trace.as_ref().is_none_or(|t| t.overflow);
            if same && !full {
                for w in warps.iter_mut() {
                    let poll = w.poll.get_or_insert_default();
                    poll.trace.clone_from(&cx.trace);
                    for s in w.splits.iter_mut().filter(|s| s.wait == Wait::Ready) {
                        s.wait = Wait::Poll;
                    }
                }
            }
            if same || self.meetings > TURNS {
                self.meetings = 0;
                self.state.clear();
                pause(cx);
            }
        } else if self.meetings >= QUIET {
            self.meetings = 0;
            self.state = warps.iter().map(of).collect();
            cx.trace = Some(Box::default());
            cx.rehook();
        }
    }
}

/// Drops what is being traced: another warp is about to run.
pub(crate) fn pause(cx: &mut Context<'_>) {
    if cx.trace.take().is_some() {
        cx.rehook();
    }
}

/// Wakes a split that polls when a value has changed, or when time has gone on and it looks at that.
pub(crate) fn wake(w: &mut Warp, leaps: u32) {
    if !w.splits.iter().any(|s| s.wait == Wait::Poll) {
        return;
    }
    let changed = match w.poll.as_ref().and_then(|p| p.trace.as_ref()) {
        None => true,
        Some(t) => {
            t.time.is_some_and(|(_, before)| before != leaps)
                || t.seen.iter().any(|s| read(s.at, s.bytes) != s.value)
        }
    };
    if changed {
        for s in w.splits.iter_mut().filter(|s| s.wait == Wait::Poll) {
            s.wait = Wait::Ready;
        }
        if let Some(p) = &mut w.poll {
            p.trace = None;
        }
    }
}

/// What a parked split polls, in words.
pub(crate) fn describe(w: &Warp, cx: &Context<'_>) -> String {
    let Some(t) = w.poll.as_ref().and_then(|p| p.trace.as_ref()) else { return "polls".into() };
    let mut names: Vec<String> = vec![];
    for s in &t.seen {
        let space = if s.shared { Space::Shared } else { Space::Global };
        let place = Place { ptr: std::ptr::null_mut(), off: [0; 32], space, region: s.region };
        let name = format!("{} (value {:#x})", watch::name(cx, &place, s.offset), s.value);
        if names.len() < 4 && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return "spin in a loop that reads no memory".into();
    }
    format!("poll {}", names.join(" and "))
}
