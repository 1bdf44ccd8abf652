//! What: mbarriers: arrivals, transactions and phases.
//! Why here: the state lives in shared memory, as on hardware, so that its misuse shows where it happens.
//! Pre: `exec` is not empty.
//! Post: lanes act in lane order; those whose phase is not over are handed back, to be parked.
#![allow(unsafe_code)] // The word is read and written where `place` found it; a cluster runs on one host thread.

use super::chaos::{Late, Owner};
use super::context::{Context, RawFault, Step};
use super::place::{Access, Ask, Kind, addresses, each_place};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{Inst, Mbar, MbarKind, NONE, Space};
use crate::watch::cell::Agent;
use crate::watch::shared_name;

/// Says that the word is an mbarrier.
const LIVE: u64 = 1 << 63;
/// The most that counts hold.
const MAX: u32 = (1 << 20) - 1;

/// The word, taken apart. Its layout is our own: PTX calls it opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Arrivals that the phase lacks.
    pending: u32,
    /// Arrivals of the next phase.
    expected: u32,
    /// Bytes that the phase lacks; below zero while bytes came before they were expected.
    tx: i32,
    /// Modulo 4.
    phase: u32,
}

/// Arrivals that were pending when a state was taken.
pub(crate) fn pending_count(state: u64) -> u32 {
    state as u32 & MAX
}

impl State {
    fn unpack(word: u64) -> Option<State> {
        (word & LIVE != 0).then_some(State {
            pending: word as u32 & MAX,
            expected: (word >> 20) as u32 & MAX,
            tx: ((word << 3) as i64 >> 43) as i32,
            phase: (word >> 61) as u32 & 3,
        })
    }

    fn pack(self) -> u64 {
        let tx = self.tx as u64 & ((1 << 21) - 1);
        LIVE | u64::from(self.phase & 3) << 61
            | tx << 40
            | u64::from(self.expected) << 20
            | u64::from(self.pending)
    }

    /// Ends the phase if it lacks nothing.
    fn settle(&mut self) -> bool {
        let over = self.pending == 0 && self.tx == 0;
        if over {
            self.phase = (self.phase + 1) & 3;
            self.pending = self.expected;
        }
        over
    }

    fn add_tx(&mut self, bytes: i64) -> Result<(), String> {
        let tx = i64::from(self.tx) + bytes;
        if tx.unsigned_abs() > u64::from(MAX) {
            return Err(format!("the mbarrier's transaction count would be {tx}; it holds up to {MAX}"));
        }
        self.tx = tx as i32;
        Ok(())
    }

    fn arrive(&mut self, count: u32, leave: bool, no_complete: bool) -> Result<bool, String> {
        if count == 0 || count > self.pending {
            return Err(format!("{count} arrivals at an mbarrier whose phase lacks {}", self.pending));
        }
        self.pending -= count;
        if leave {
            self.expected = self.expected.saturating_sub(count);
        }
        let over = self.settle();
        if over && no_complete {
            return Err("an arrival with .noComplete completed the phase".into());
        }
        Ok(over)
    }
}

/// An mbarrier: its word, and the slot and offset by which the checks know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word {
    pub(crate) at: *mut u64,
    pub(crate) slot: usize,
    pub(crate) off: u64,
}

impl Word {
    fn get(self) -> u64 {
        // SAFETY: `place` checked 8 aligned bytes, in memory that lives until its block ends.
        unsafe { self.at.read() }
    }
    fn set(self, v: u64) {
        // SAFETY: as above.
        unsafe { self.at.write(v) }
    }
    /// Stores a state, and says so when a phase ended.
    fn put(self, cx: &mut Context<'_>, s: State, over: bool) {
        self.set(s.pack());
        cx.effects += 1;
        if over {
            cx.phases = cx.phases.wrapping_add(1);
            if let Some(x) = &mut cx.watch {
                x.end_phase((self.slot, self.off));
            }
        }
    }
}

/// Gives `f` the word of each lane.
fn each_word(
    w: &mut Warp,
    cx: &mut Context<'_>,
    addrs: &[u64; 32],
    (space, exec, pc): (Space, u32, u32),
    access: Access,
    mut f: impl FnMut(&mut Context<'_>, usize, Word) -> Result<(), String>,
) -> Step<u32> {
    let ask = Ask { space, bytes: 8, exec, pc, access };
    let mut bad = None;
    let mut first = 0;
    each_place(w, cx, addrs, ask, |_, cx, p, exec| {
        for l in (0..32usize).filter(|l| exec >> l & 1 != 0) {
            if bad.is_some() {
                return;
            }
            if p.space != Space::Shared {
                bad = Some((l, "an mbarrier must lie in shared memory".to_owned()));
                return;
            }
            first = p.off[l] as u32;
            let slot = cx.watch.as_ref().map_or(0, |x| x.slot_of(p));
            // SAFETY: `place` checked 8 aligned bytes.
            let at = unsafe { p.ptr.add(p.off[l] as usize) }.cast::<u64>();
            if let Err(what) = f(cx, l, Word { at, slot, off: p.off[l] }) {
                bad = Some((l, format!("{what} (mbarrier at {})", shared_name(cx, u64::from(first)))));
            }
        }
    })?;
    match bad {
        None => Ok(first),
        Some((l, what)) => Err(Box::new(RawFault { kind: FaultKind::Mbarrier { what }, lane: l as u32, pc })),
    }
}

fn live(word: u64) -> Result<State, String> {
    State::unpack(word).ok_or_else(|| "this word is no initialised mbarrier".to_owned())
}

/// Runs an instruction; gives back the lanes that must wait and the shared address of what they wait for.
pub(crate) fn run(
    w: &mut Warp,
    cx: &mut Context<'_>,
    i: &Inst,
    m: &Mbar,
    exec: u32,
    pc: u32,
) -> Step<Option<(u32, u32)>> {
    let addrs = addresses(&mut w.regs, &m.addr);
    let waits = matches!(m.kind, MbarKind::TestWait | MbarKind::TryWait);
    let mut read = |row: u32, wide: bool| -> [u64; 32] {
        match (row, wide) {
            (NONE, _) => [1; 32],
            (_, true) => *w.regs.row::<u64>(row),
            (_, false) => w.regs.row::<u32>(row).map(u64::from),
        }
    };
    let a = read(i.a, waits && !m.parity);
    let b = read(i.b, false);
    let mut states = [0u64; 32];
    let mut done = 0u32;
    let warp = w.id;
    let access = match m.kind {
        MbarKind::Init | MbarKind::Inval => Access::STORE,
        MbarKind::TestWait | MbarKind::TryWait => Access { kind: Kind::Load, ..Access::MBARRIER },
        _ => Access::MBARRIER,
    };
    // A wait may fail for no reason.
    let moody = waits && cx.chaos.as_mut().is_some_and(|c| c.one_in(4));
    let mut key = None;
    let at = each_word(w, cx, &addrs, (m.space, exec, pc), access, |cx, l, word| {
        let thread = 32 * warp + l as u32;
        let now = cx.now;
        let at = (word.slot, word.off);
        key = Some(at);
        let too_many = |n: u64| n == 0 || n > u64::from(MAX);
        if m.kind == MbarKind::Init {
            if too_many(a[l]) {
                return Err(format!("an mbarrier for {} arrivals; it holds 1 to {MAX}", a[l]));
            }
            let n = a[l] as u32;
            if let Some(x) = &mut cx.watch {
                x.init_mbarrier(at, thread, State::unpack(word.get()).is_some(), pc);
            }
            word.put(cx, State { pending: n, expected: n, tx: 0, phase: 0 }, false);
            return Ok(());
        }
        let mut s = live(word.get())?;
        let mut over = false;
        match m.kind {
            MbarKind::Init => {}
            MbarKind::Inval => {
                word.set(0);
                if let Some(x) = &mut cx.watch {
                    x.end_mbarrier(at);
                }
                return Ok(());
            }
            MbarKind::ExpectTx => s.add_tx(b[l] as i64)?,
            MbarKind::CompleteTx => {
                s.add_tx(-(b[l] as i64))?;
                over = s.settle();
            }
            MbarKind::Arrive => {
                states[l] = word.get();
                if i.b != NONE {
                    s.add_tx(b[l] as i64)?;
                }
                over = s.arrive(a[l].min(u64::from(u32::MAX)) as u32, m.leave, m.no_complete)?;
                if let Some(x) = &mut cx.watch {
                    x.arrive_mbarrier(at, thread, m.order, m.scope, now);
                }
            }
            // Without .noinc the arrival was not expected: it raises the count and lowers it again.
            MbarKind::CopyArrive => {
                if !m.noinc {
                    if s.pending == MAX {
                        return Err(format!("an mbarrier holds up to {MAX} arrivals"));
                    }
                    s.pending += 1;
                    word.put(cx, s, false);
                }
                let owner = (cx.uid, warp, l as u32);
                if let Some(c) = &mut cx.chaos {
                    c.late.push(Late { owner, issued: now, word, pc });
                    return Ok(());
                }
                return copies_arrive(cx, word, owner, now);
            }
            MbarKind::TestWait | MbarKind::TryWait => {
                let past = if m.parity {
                    u64::from(s.phase & 1) != a[l] & 1
                } else {
                    let Some(old) = State::unpack(a[l]) else {
                        return Err("the state to wait for came from no arrival".into());
                    };
                    // A state is of the phase at hand or of the one before it.
                    match (s.phase + 4 - old.phase) & 3 {
                        0 => false,
                        1 => true,
                        n => return Err(format!("a wait on a state that is {n} phases old")),
                    }
                };
                done |= u32::from(past && !moody) << l;
                // A wait that failed for no reason may pass the next time: that is no place to park.
                cx.effects += u64::from(past && moody);
                if let Some(x) = &mut cx.watch {
                    let parity = m.parity.then_some(&a);
                    let passed = done & 1 << l;
                    x.wait_mbarrier(at, (warp, 1 << l, passed), parity, (m.order, m.scope), pc);
                }
                return Ok(());
            }
        }
        word.put(cx, s, over);
        Ok(())
    })?;
    match m.kind {
        MbarKind::Arrive if i.d != NONE => w.regs.store::<u64>(i.d, &states, exec),
        MbarKind::TestWait => w.regs.set_pred(i.d, done, exec),
        MbarKind::TryWait if moody => w.regs.set_pred(i.d, done, exec),
        // It waits for a limited time only.
        MbarKind::TryWait if done != exec && w.leaps != cx.leaps => {
            w.leaps = cx.leaps;
            w.regs.set_pred(i.d, done, exec);
        }
        MbarKind::TryWait => {
            w.regs.set_pred(i.d, u32::MAX, done);
            if done != exec {
                return Ok(Some((exec & !done, at)));
            }
        }
        _ => {}
    }
    Ok(None)
}

/// The arrival of a lane's copies, which are complete.
pub(crate) fn copies_arrive(
    cx: &mut Context<'_>,
    word: Word,
    owner: Owner,
    issued: u32,
) -> Result<(), String> {
    let mut s = live(word.get())?;
    let over = s.arrive(1, false, false)?;
    if let Some(x) = &mut cx.watch {
        x.arrive_copies((word.slot, word.off), owner, issued);
    }
    word.put(cx, s, over);
    Ok(())
}

/// Tells an mbarrier that bytes have arrived: those of the copy of that number.
pub(crate) fn told(cx: &mut Context<'_>, word: Word, bytes: u64, number: Option<u32>) -> Result<(), String> {
    let mut s = live(word.get())?;
    s.add_tx(-(bytes as i64))?;
    let over = s.settle();
    if let (Some(x), Some(n)) = (&mut cx.watch, number) {
        x.complete_copy((word.slot, word.off), n);
    }
    word.put(cx, s, over);
    Ok(())
}

/// Finds the mbarrier of a lane's copy, and checks that the asynchronous proxy may use it.
pub(crate) fn find(
    w: &mut Warp,
    cx: &mut Context<'_>,
    addrs: &[u64; 32],
    (agent, lane, pc): (Agent, u32, u32),
) -> Step<Word> {
    let mut found = None;
    let access = Access { agent, ..Access::MBARRIER };
    each_word(w, cx, addrs, (Space::Shared, 1 << lane, pc), access, |_, _, word| {
        live(word.get())?;
        found = Some(word);
        Ok(())
    })?;
    let what = || "a copy names no mbarrier".to_owned();
    found.ok_or_else(|| Box::new(RawFault { kind: FaultKind::Mbarrier { what: what() }, lane, pc }))
}

/// What those who wait for a phase wait for, in words.
pub(crate) fn describe(cx: &Context<'_>, shared: *const u8, at: u32) -> String {
    let name = shared_name(cx, u64::from(at));
    // SAFETY: the address was checked when the wait began.
    let word = unsafe { shared.add(at as usize).cast::<u64>().read() };
    match State::unpack(word) {
        None => format!("for the mbarrier at {name}, which was invalidated"),
        Some(s) => format!(
            "for the mbarrier at {name} (phase parity {}, which lacks {} arrivals and {} bytes)",
            s.phase & 1,
            s.pending,
            s.tx
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_fields() {
        for pending in [0, 1, MAX] {
            for tx in [0, 1, -1, MAX as i32, -(MAX as i32)] {
                for phase in 0..4 {
                    let s = State { pending, expected: MAX - pending, tx, phase };
                    assert_eq!(State::unpack(s.pack()), Some(s));
                }
            }
        }
        assert_eq!(State::unpack(0), None);
    }
}
