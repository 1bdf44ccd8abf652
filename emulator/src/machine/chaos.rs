//! What: the adversarial schedule: a seeded generator, and asynchronous copies that land late and in pieces.
//! Why here: what the machine leaves open is decided here, so that one seed is one execution.
//! Pre: one host thread runs the launch.
//! Post: every piece lands between its issue and the wait that covers it, each source is read in that time, and
//! nothing else is promised.
#![allow(unsafe_code)] // Pieces are ranges that `place` checked, in memory that lives until their block ends.

use std::collections::{BTreeMap, HashMap};

use super::bulk::reduce;
use super::context::Context;
use super::mbarrier;
use crate::inst::Rmw;

/// Bytes of a piece.
pub(crate) const PIECE: usize = 16;

/// Who issued a copy: block, warp, lane.
pub(crate) type Owner = (u32, u32, u32);

/// What completes with the last piece of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// A stream of the lane.
    Copy,
    Bulk,
    /// The mbarrier of a numbered job.
    Told(usize),
}

/// A piece under way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) owner: Owner,
    /// When it was issued.
    pub(crate) issued: u32,
    pub(crate) done: Done,
    /// None once it was read.
    pub(crate) src: Option<*const u8>,
    pub(crate) dst: *mut u8,
    pub(crate) bytes: u8,
    /// Source bytes that are copied; the rest is zero.
    pub(crate) taken: u8,
    pub(crate) data: [u8; PIECE],
    /// The operation, the bytes of an element, and whether subnormals are flushed.
    pub(crate) reduce: Option<(Rmw, u8, bool)>,
}

/// A copy that an mbarrier is told of.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) left: usize,
    pub(crate) word: mbarrier::Word,
    pub(crate) bytes: u64,
    pub(crate) number: Option<u32>,
    pub(crate) owner: Owner,
    pub(crate) pc: u32,
}

/// An arrival that waits for the copies of its lane.
#[derive(Debug, Clone)]
pub(crate) struct Late {
    pub(crate) owner: Owner,
    pub(crate) issued: u32,
    pub(crate) word: mbarrier::Word,
    pub(crate) pc: u32,
}

/// The schedule of one seed.
#[derive(Debug)]
pub(crate) struct Chaos {
    state: u64,
    flights: Vec<Flight>,
    /// Pieces of lanes' own copies among them, by lane and by when they were issued: late arrivals ask for the oldest.
    copies: HashMap<Owner, BTreeMap<u32, u32>>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) late: Vec<Late>,
}

impl Chaos {
    pub(crate) fn new(seed: u64) -> Chaos {
        Chaos {
            state: seed ^ 0x6a09_e667_f3bc_c909,
            flights: vec![],
            copies: HashMap::new(),
            jobs: vec![],
            late: vec![],
        }
    }

    /// Puts a piece under way.
    pub(crate) fn fly(&mut self, f: Flight) {
        if f.done == Done::Copy {
            *self.copies.entry(f.owner).or_default().entry(f.issued).or_default() += 1;
        }
        self.flights.push(f);
    }

    /// Whether nothing is under way.
    pub(crate) fn idle(&self) -> bool {
        self.flights.is_empty() && self.late.is_empty()
    }

    /// A piece is not under way any more.
    fn landed(&mut self, f: &Flight) {
        if f.done != Done::Copy {
            return;
        }
        let Some(lane) = self.copies.get_mut(&f.owner) else { return };
        if let Some(count) = lane.get_mut(&f.issued) {
            *count -= 1;
            if *count == 0 {
                lane.remove(&f.issued);
            }
        }
        if lane.is_empty() {
            self.copies.remove(&f.owner);
        }
    }

    /// The next number of the generator (SplitMix64; Steele, Lea and Flood, 2014).
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Flight {
    pub(crate) fn read(&mut self) {
        if let Some(src) = self.src.take() {
            for (i, b) in self.data.iter_mut().enumerate().take(usize::from(self.taken)) {
                // SAFETY: `place` checked the range.
                *b = unsafe { src.add(i).read_volatile() };
            }
        }
    }

    pub(crate) fn write(&self) {
        // SAFETY: `place` checked the range; reductions are aligned to their elements.
        unsafe {
            match self.reduce {
                None => std::ptr::copy_nonoverlapping(self.data.as_ptr(), self.dst, usize::from(self.bytes)),
                Some((op, n, flush)) => reduce(self.dst, &self.data[..usize::from(self.bytes)], op, n, flush),
            }
        }
    }
}

/// Lands a piece that was taken from the list.
fn land(cx: &mut Context<'_>, mut f: Flight) {
    f.read();
    f.write();
    if let Some(c) = &mut cx.chaos {
        c.landed(&f);
    }
    cx.effects += 1;
    if let Done::Told(j) = f.done {
        finish(cx, j, 1);
    }
}

/// Lands pieces in any order.
fn land_all(cx: &mut Context<'_>, mut list: Vec<Flight>) {
    while !list.is_empty() {
        let Some(c) = &mut cx.chaos else { return };
        let i = c.below(list.len() as u64) as usize;
        land(cx, list.swap_remove(i));
    }
}

/// Pieces of a numbered copy have landed.
pub(crate) fn finish(cx: &mut Context<'_>, job: usize, pieces: usize) {
    let Some(c) = &mut cx.chaos else { return };
    let Some(j) = c.jobs.get_mut(job) else { return };
    j.left = j.left.saturating_sub(pieces);
    if j.left == 0 {
        let j = j.clone();
        // A count that breaks is a fault of the copy; the block that runs reports it.
        if let Err(what) = mbarrier::told(cx, j.word, j.bytes, j.number) {
            cx.broken.get_or_insert((what, j.owner, j.pc));
        }
    }
}

/// Arrivals whose copies have all landed.
fn settle_late(cx: &mut Context<'_>) {
    let Some(c) = &mut cx.chaos else { return };
    let mut ready = vec![];
    let copies = &c.copies;
    c.late.retain(|l| {
        let oldest = copies.get(&l.owner).and_then(|lane| lane.keys().next());
        let waits = oldest.is_some_and(|&issued| issued <= l.issued);
        if !waits {
            ready.push(l.clone());
        }
        waits
    });
    for l in ready {
        if let Err(what) = mbarrier::copies_arrive(cx, l.word, l.owner, l.issued) {
            cx.broken.get_or_insert((what, l.owner, l.pc));
        }
    }
}

/// Lets some pieces move.
pub(crate) fn tick(cx: &mut Context<'_>) {
    let Some(c) = &mut cx.chaos else { return };
    if c.idle() {
        return;
    }
    for _ in 0..c.below(4) {
        let Some(c) = &mut cx.chaos else { return };
        if c.flights.is_empty() {
            break;
        }
        let i = c.below(c.flights.len() as u64) as usize;
        if c.one_in(3) {
            // Read early, written late.
            c.flights[i].read();
        } else {
            let f = c.flights.swap_remove(i);
            land(cx, f);
        }
    }
    settle_late(cx);
}

/// Lands pieces that everybody waits for, or lets late arrivals happen; says whether there were any.
pub(crate) fn push(cx: &mut Context<'_>) -> bool {
    let Some(c) = &mut cx.chaos else { return false };
    let any = !c.idle();
    let n = 1 + c.below(c.flights.len() as u64);
    for _ in 0..n {
        let Some(c) = &mut cx.chaos else { break };
        if c.flights.is_empty() {
            break;
        }
        let i = c.below(c.flights.len() as u64) as usize;
        let f = c.flights.swap_remove(i);
        land(cx, f);
    }
    settle_late(cx);
    any
}

/// Completes a lane's copies that were issued up to a stamp; with `read`, only their sources are read.
pub(crate) fn complete(cx: &mut Context<'_>, owner: Owner, done: Done, issued: u32, read: bool) {
    let Some(c) = &mut cx.chaos else { return };
    let mine = |f: &Flight| f.owner == owner && f.done == done && f.issued <= issued;
    if read {
        c.flights.iter_mut().filter(|f| mine(f)).for_each(Flight::read);
        return;
    }
    // Each lane asks at each wait, mostly when all of its own have landed.
    let none = done == Done::Copy
        && c.copies.get(&owner).and_then(|lane| lane.keys().next()).is_none_or(|&first| first > issued);
    let list = if none { vec![] } else { c.flights.extract_if(.., |f| mine(f)).collect() };
    land_all(cx, list);
    settle_late(cx);
}

/// A block ends: what it has under way lands before its memory goes.
pub(crate) fn drain(cx: &mut Context<'_>, block: u32, memory: (usize, usize)) {
    let Some(c) = &mut cx.chaos else { return };
    let inside = |p: usize| p >= memory.0 && p < memory.1;
    let touches = |f: &Flight| {
        f.owner.0 == block || inside(f.dst as usize) || f.src.is_some_and(|s| inside(s as usize))
    };
    let list = c.flights.extract_if(.., |f| touches(f)).collect();
    land_all(cx, list);
    settle_late(cx);
}
