//! What: which registers hold data that nobody wrote, and where such data decides something.
//! Why here: undefined data is harmless until a branch, an address or a store to global memory depends on it;
//! copies of padding, and sums over it that nobody stores, are common in clean kernels.
//! Pre: called before an instruction takes effect; loads and stores tell of themselves.
//! Post: a lane of a register counts as undefined when none of its bytes is defined.

use super::Raw;
use super::defined::Bits;
use crate::inst::{Inst, MmaAcc, NONE, Op, Slot, Space, WarpOp};
use crate::machine::context::Context;
use crate::machine::place::Place;
use crate::machine::warp::Warp;
use crate::machine::warp_ops;
use crate::program::Kernel;
use crate::sanitize::FindingKind;

/// The undefined lanes of a warp.
#[derive(Debug)]
pub(crate) struct Taint {
    /// Per line of the register file, the lanes of the row that starts there; rows of 64 bits have their upper halves
    /// in the next line.
    rows: Vec<u32>,
    preds: Vec<u32>,
    /// Where the undefined data of rows and predicates were read: pc, `NONE` for registers that nobody wrote.
    row_from: Vec<u32>,
    pred_from: Vec<u32>,
    /// The origin of what the instruction at hand reads.
    origin: u32,
    /// Local memory of all lanes.
    pub(crate) local: Bits,
}

impl Taint {
    pub(crate) fn new(kernel: &Kernel) -> Taint {
        Taint {
            rows: vec![0; kernel.words as usize / 16 + 2],
            preds: vec![0; kernel.preds as usize],
            row_from: vec![NONE; kernel.words as usize / 16 + 2],
            pred_from: vec![NONE; kernel.preds as usize],
            origin: NONE,
            local: Bits::new(u64::from(kernel.local_bytes) * 32),
        }
    }

    /// A block begins: registers that are read before they are written are undefined.
    pub(crate) fn reset(&mut self, kernel: &Kernel) {
        self.rows.fill(0);
        self.preds.fill(0);
        self.row_from.fill(NONE);
        self.pred_from.fill(NONE);
        self.origin = NONE;
        self.local.clear();
        for &(offset, words) in &kernel.zero_rows {
            self.set_whole((offset, if words >= 64 { 64 } else { 32 }), u32::MAX, u32::MAX);
        }
    }

    fn any(&self) -> bool {
        self.rows.iter().chain(&self.preds).any(|m| *m != 0)
    }

    fn row(&self, offset: u32) -> u32 {
        if offset == NONE { 0 } else { self.rows.get(offset as usize / 16).copied().unwrap_or(0) }
    }

    /// The lanes of a row of which nothing is defined.
    fn whole(&self, offset: u32, bits: u8) -> u32 {
        if bits == 64 && offset != NONE { self.row(offset) & self.row(offset + 16) } else { self.row(offset) }
    }

    fn set_whole(&mut self, (offset, bits): (u32, u8), exec: u32, undefined: u32) {
        self.set(offset, exec, undefined);
        if bits == 64 && offset != NONE {
            self.set(offset + 16, exec, undefined);
        }
    }

    /// Remembers where what a row or a predicate lacks was read.
    fn note_row(&mut self, offset: u32, exec: u32) {
        if self.row(offset) & exec != 0 {
            self.origin = self.row_from[offset as usize / 16];
        }
    }

    fn note_pred(&mut self, slot: u32, exec: u32) {
        if self.pred(slot) & exec != 0 {
            self.origin = self.pred_from[slot as usize];
        }
    }

    fn set(&mut self, offset: u32, exec: u32, undefined: u32) {
        if offset != NONE
            && let Some(r) = self.rows.get_mut(offset as usize / 16)
        {
            *r = *r & !exec | undefined & exec;
            if undefined & exec != 0 {
                self.row_from[offset as usize / 16] = self.origin;
            }
        }
    }

    fn pred(&self, slot: u32) -> u32 {
        self.preds.get(slot as usize).copied().unwrap_or(0)
    }

    fn set_pred(&mut self, slot: u32, exec: u32, undefined: u32) {
        if let Some(p) = self.preds.get_mut(slot as usize) {
            *p = *p & !exec | undefined & exec;
            if undefined & exec != 0 {
                self.pred_from[slot as usize] = self.origin;
            }
        }
    }
}

/// Begins to keep track in a warp.
pub(crate) fn begin(w: &mut Warp) {
    w.tainted = w.taint.as_ref().is_some_and(|t| t.any());
}

/// The bytes of the memory that a place lies in, where they are tracked.
fn with_bits(w: &Warp, cx: &Context<'_>, p: &Place, f: impl FnOnce(&Bits)) {
    match p.space {
        Space::Local => {
            if let Some(t) = &w.taint {
                f(&t.local);
            }
        }
        Space::Shared => {
            if let Some(x) = &cx.watch {
                f(&x.blocks[x.slot_of(p)].defined);
            }
        }
        _ => {
            if let Some(b) = cx.regions.get(p.region as usize).and_then(|r| r.defined.as_ref()) {
                f(b);
            }
        }
    }
}

/// Lanes loaded elements of `bytes` into registers.
#[cold]
pub(crate) fn loaded(
    w: &mut Warp,
    cx: &Context<'_>,
    p: &Place,
    (bytes, bits, pc): (u64, u8, u32),
    regs: &[u32],
    exec: u32,
) {
    let mut clean = true;
    with_bits(w, cx, p, |b| {
        let all = bytes * regs.len() as u64;
        clean = (0..32).all(|l| exec >> l & 1 == 0 || b.all(p.off[l], all));
    });
    if clean && !w.tainted {
        return;
    }
    for (j, &r) in regs.iter().enumerate() {
        let mut undefined = 0;
        with_bits(w, cx, p, |b| {
            for l in (0..32).filter(|l| exec >> l & 1 != 0) {
                undefined |= u32::from(!b.any(p.off[l] + j as u64 * bytes, bytes)) << l;
            }
        });
        if let Some(t) = &mut w.taint {
            t.origin = pc;
            t.set_whole((r, bits), exec, undefined);
            w.tainted |= undefined != 0;
        }
    }
}

/// Lanes store registers as elements of `bytes`.
#[cold]
pub(crate) fn stored(
    w: &Warp,
    cx: &mut Context<'_>,
    p: &Place,
    (bytes, bits, pc): (u64, u8, u32),
    regs: &[u32],
    exec: u32,
) {
    let (mut bad, mut origin) = (0, NONE);
    for (j, &r) in regs.iter().enumerate() {
        let undefined = w.taint.as_ref().map_or(0, |t| t.whole(r, bits)) & exec;
        bad |= undefined;
        if undefined != 0 {
            origin = w.taint.as_ref().map_or(NONE, |t| t.row_from[r as usize / 16]);
        }
        with_bits(w, cx, p, |b| {
            for l in (0..32).filter(|l| exec >> l & 1 != 0) {
                b.set(
                    p.off[l] + j as u64 * bytes,
                    bytes,
                    undefined >> l & 1 == 0 || p.space == Space::Global,
                );
            }
        });
    }
    if bad != 0 && p.space == Space::Global {
        leaves(w, cx, p, (p.off[bad.trailing_zeros() as usize], bad), (pc, origin));
    }
}

/// Bytes are copied within memory, with what is known of them.
#[cold]
pub(crate) fn copied(
    w: &Warp,
    cx: &mut Context<'_>,
    (from, at): (&Place, u64),
    (to, dst): (&Place, u64),
    (bytes, lane, pc): (u64, u32, u32),
) {
    let mut known = [true; 16];
    let n = (bytes as usize).min(16);
    with_bits(w, cx, from, |b| {
        for (i, k) in known.iter_mut().enumerate().take(n) {
            *k = b.any(at + i as u64, 1);
        }
    });
    let leaves = to.space == Space::Global;
    with_bits(w, cx, to, |b| {
        for (i, k) in known.iter().enumerate().take(n) {
            b.set(dst + i as u64, 1, *k || leaves);
        }
    });
    if leaves && known[..n].contains(&false) {
        let at = super::name(cx, to, dst);
        note(
            w,
            cx,
            (pc, NONE),
            1 << lane,
            format!("a copy to {at} of data that nobody wrote: initialise its source"),
        );
    }
}

/// An atomic reads what is there before it writes.
#[cold]
pub(crate) fn read_modify(
    w: &Warp,
    cx: &mut Context<'_>,
    p: &Place,
    (bytes, pc): (u64, u32),
    exec: u32,
    reads: bool,
) {
    let mut bad = 0;
    with_bits(w, cx, p, |b| {
        for l in (0..32).filter(|l| exec >> l & 1 != 0) {
            bad |= u32::from(reads && !b.any(p.off[l], bytes)) << l;
            b.set(p.off[l], bytes, true);
        }
    });
    if bad != 0 {
        let at = super::name(cx, p, p.off[bad.trailing_zeros() as usize]);
        note(w, cx, (pc, NONE), bad, format!("an atomic reads {at}, which nobody wrote: initialise it"));
    }
}

/// Bytes are written with defined data.
#[cold]
pub(crate) fn defined(w: &Warp, cx: &Context<'_>, p: &Place, bytes: u64, exec: u32) {
    with_bits(w, cx, p, |b| {
        for l in (0..32).filter(|l| exec >> l & 1 != 0) {
            b.set(p.off[l], bytes, true);
        }
    });
}

/// Visits `n` elements of `size` bytes from each lane's offset on: their bits, their offset, the lane and their number.
#[cold]
pub(crate) fn elements(
    w: &Warp,
    cx: &Context<'_>,
    p: &Place,
    (size, n, exec): (u64, u64, u32),
    mut f: impl FnMut(&Bits, u64, usize, u64),
) {
    with_bits(w, cx, p, |b| {
        for l in (0..32).filter(|l| exec >> l & 1 != 0) {
            (0..n).for_each(|j| f(b, p.off[l] + j * size, l, j));
        }
    });
}

/// The undefined lanes of a register of that many bits, and where they were read.
pub(crate) fn register(w: &Warp, row: u32, bits: u8) -> (u32, u32) {
    let Some(t) = &w.taint else { return (0, NONE) };
    (t.whole(row, bits), t.row_from.get(row as usize / 16).copied().unwrap_or(NONE))
}

/// All lanes loaded a fragment; what is known of its registers repeats.
#[cold]
pub(crate) fn fragment(w: &mut Warp, (regs, bits, pc): (&[u32], u8, u32), undefined: &[u32]) {
    let Some(t) = &mut w.taint else { return };
    t.origin = pc;
    regs.iter().zip(undefined.iter().cycle()).for_each(|(r, u)| t.set_whole((*r, bits), u32::MAX, *u));
    w.tainted |= undefined.iter().any(|u| *u != 0);
}

/// Undefined data of a register is stored to global memory.
#[cold]
pub(crate) fn leaves(w: &Warp, cx: &mut Context<'_>, p: &Place, (at, lanes): (u64, u32), from: (u32, u32)) {
    let at = super::name(cx, p, at);
    let message = format!("a store to {at} of data that nobody wrote: initialise what it comes from");
    note(w, cx, from, lanes, message);
}

/// Matrix rows were loaded or are stored: lane 8 i + g addresses row g of matrix i.
#[cold]
pub(crate) fn matrix(
    w: &mut Warp,
    cx: &Context<'_>,
    p: &Place,
    (regs, pc): (&[u32], u32),
    (store, trans): (bool, bool),
) {
    for (i, &r) in regs.iter().enumerate() {
        let mut undefined = 0u32;
        let old = w.taint.as_ref().map_or(0, |t| t.row(r));
        with_bits(w, cx, p, |b| {
            for l in 0..32usize {
                // The two elements of the lane: (row, column) of b16.
                for k in 0..2 {
                    let (row, col) = if trans { (2 * (l % 4) + k, l / 4) } else { (l / 4, 2 * (l % 4) + k) };
                    let at = p.off[8 * i + row] + 2 * col as u64;
                    if store {
                        b.set(at, 2, old >> l & 1 == 0);
                    } else {
                        // Both go into one product.
                        undefined |= u32::from(!b.any(at, 2)) << l;
                    }
                }
            }
        });
        if !store && let Some(t) = &mut w.taint {
            t.origin = pc;
            t.set(r, u32::MAX, undefined);
            w.tainted |= undefined != 0;
        }
    }
}

/// Reports what undefined data decide, with the access that read them.
fn note(w: &Warp, cx: &mut Context<'_>, (pc, origin): (u32, u32), lanes: u32, message: String) {
    let thread = 32 * w.id + lanes.trailing_zeros() % 32;
    if let Some(x) = &mut cx.watch {
        let block = x.blocks[x.cur].uid;
        let other = (origin != NONE).then_some((block, Some(thread), origin));
        x.report(FindingKind::Uninit, Raw { block, pc, thread: Some(thread), other, message });
    }
}

/// Carries undefined lanes through an instruction of a warp that has some, and reports what they decide.
#[cold]
pub(crate) fn step(w: &mut Warp, cx: &mut Context<'_>, inst: &Inst, (mask, exec, pc): (u32, u32, u32)) {
    let Some(mut t) = w.taint.take() else { return };
    if inst.guard != NONE {
        let undefined = t.pred(inst.guard) & mask;
        let branches =
            matches!(inst.op, Op::Bra(_) | Op::Brx(_) | Op::Ret | Op::Exit | Op::Call(_) | Op::Bar { .. });
        if undefined != 0 && (branches || matches!(inst.op, Op::St(_) | Op::Atom(_))) {
            let what = if branches { "a branch" } else { "whether a store happens" };
            note(
                w,
                cx,
                (pc, t.pred_from[inst.guard as usize]),
                undefined,
                format!("{what} depends on data that nobody wrote"),
            );
        }
    }
    if exec != 0 {
        carry(w, cx, &mut t, inst, exec, pc);
    }
    if cx.now & 63 == 0 {
        w.tainted = t.any();
    }
    w.taint = Some(t);
}

fn carry(w: &mut Warp, cx: &mut Context<'_>, t: &mut Taint, inst: &Inst, exec: u32, pc: u32) {
    let meta = &cx.kernel.meta[pc as usize];
    let text = cx.kernel.texts.get(meta.text as usize).map_or("", String::as_str);
    let mut sources = 0;
    for (i, r) in [inst.a, inst.b, inst.c].into_iter().enumerate() {
        match meta.slots[i + 1] {
            Slot::Row => t.note_row(r, exec),
            Slot::Pred if r != NONE => t.note_pred(r, exec),
            _ => {}
        }
    }
    if let Op::Mma(m) = &inst.op {
        let list = m.a.iter().take(usize::from(m.counts[0])).chain(m.b.iter().take(usize::from(m.counts[1])));
        for r in list.chain(m.c.iter().take(usize::from(m.counts[2]))) {
            t.note_row(*r, exec);
        }
    }
    let base = match &inst.op {
        Op::Ld(m) | Op::St(m) => m.addr.base,
        Op::Atom(m) => m.addr.base,
        _ => NONE,
    };
    t.note_row(base, exec);
    for (i, r) in [inst.a, inst.b, inst.c].into_iter().enumerate() {
        sources |= match meta.slots[i + 1] {
            Slot::Row => t.whole(r, meta.bits[i + 1]),
            Slot::Pred if r != NONE => t.pred(r),
            _ => 0,
        };
    }
    let address = |base: u32| -> u32 { t.row(base) & exec };
    let at = match &inst.op {
        Op::Ld(m) | Op::St(m) => address(m.addr.base),
        Op::Atom(m) => address(m.addr.base),
        Op::Matrix(m) => address(m.addr.base),
        Op::Tile(m) => address(m.addr.base) | address(m.stride),
        Op::CpAsync(m) => address(m.dst.base) | address(m.src.base) | address(m.size),
        Op::Bulk(m) => address(m.dst.base) | address(m.src.base) | address(m.size),
        Op::AsyncStore(m) => address(m.addr.base),
        Op::Mbar(m) => address(m.addr.base),
        Op::Brx(_) => t.row(inst.a) & exec,
        _ => 0,
    };
    if at != 0 {
        note(
            w,
            cx,
            (pc, t.origin),
            at,
            "an address (or size, or target) depends on data that nobody wrote".into(),
        );
    }
    match &inst.op {
        Op::Atom(_) => {
            let bad = sources & exec;
            if bad != 0 {
                note(w, cx, (pc, t.origin), bad, "an atomic takes data that nobody wrote".into());
            }
            t.set_whole((inst.d, meta.bits[0]), exec, 0);
        }
        Op::Ld(_) | Op::St(_) | Op::Matrix(_) | Op::Tile(_) => {}
        Op::Warp { op, .. } => {
            let all = |m: u32| if m & exec != 0 { u32::MAX } else { 0 };
            match *op {
                WarpOp::Shfl { mode, pred } => {
                    let (from, _) = warp_ops::sources(&mut w.regs, inst, mode);
                    let src = t.row(inst.a);
                    let mut out = t.row(inst.b) | t.row(inst.c);
                    for (l, f) in from.iter().enumerate() {
                        out |= (src >> (f & 31) & 1) << l;
                    }
                    t.set(inst.d, exec, out);
                    if pred != NONE {
                        t.set_pred(pred, exec, t.row(inst.b) | t.row(inst.c));
                    }
                }
                WarpOp::Vote { .. } => {
                    let u = all(t.pred(inst.a));
                    if meta.slots[0] == Slot::Row {
                        t.set(inst.d, exec, u);
                    } else if inst.d != NONE {
                        t.set_pred(inst.d, exec, u);
                    }
                }
                WarpOp::Match { pred, .. } => {
                    let u = all(t.row(inst.a));
                    t.set(inst.d, exec, u);
                    if pred != NONE {
                        t.set_pred(pred, exec, u);
                    }
                }
                WarpOp::Redux(_) => t.set(inst.d, exec, all(t.row(inst.a))),
                WarpOp::Elect { pred } => {
                    t.set(inst.d, exec, 0);
                    if pred != NONE {
                        t.set_pred(pred, exec, 0);
                    }
                }
                WarpOp::Sync => {}
            }
        }
        Op::Mma(m) => {
            // Undefined rows of A and columns of B make the same rows and columns of D so.
            let quads = |x: u32| -> u32 { (0..8).fold(0, |q, g| q | u32::from(x >> (4 * g) & 15 != 0) << g) };
            let half = |k: usize| -> u32 {
                let regs = m.a.iter().take(usize::from(m.counts[0])).enumerate();
                regs.filter(|(i, _)| m.m == 8 || i % 2 == k).fold(0, |u, (_, r)| u | t.row(*r))
            };
            let rows = [quads(half(0)), quads(half(1))];
            let cols = quads(m.b.iter().take(usize::from(m.counts[1])).fold(0, |u, r| u | t.row(*r)));
            let packed = m.acc == MmaAcc::F16;
            let new: Vec<u32> = (0..usize::from(m.counts[2]))
                .map(|j| {
                    let high = if m.m == 8 {
                        0
                    } else if packed {
                        j % 2
                    } else {
                        j / 2 % 2
                    };
                    (0..32u32).fold(t.row(m.c[j]), |u, l| {
                        let pair = cols >> (2 * (l % 4)) & 3;
                        let col = if packed { pair != 0 } else { pair >> (j % 2) & 1 != 0 };
                        u | u32::from(rows[high] >> (l / 4) & 1 != 0 || col) << l
                    })
                })
                .collect();
            let bits = if m.acc == MmaAcc::F64 { 64 } else { 32 };
            for (j, u) in new.into_iter().enumerate() {
                t.set_whole((m.d[j], bits), exec, u);
            }
        }
        _ => {
            let [bits, from, _, _] = meta.bits;
            // Halves that are put together or taken apart keep their own state.
            if text.starts_with("mov.b64") && bits == 64 && from == 32 && meta.slots[2] == Slot::Row {
                let (lo, hi) = (t.row(inst.a), t.row(inst.b));
                t.set(inst.d, exec, lo);
                t.set(inst.d + 16, exec, hi);
                return;
            }
            if bits == 32 && from == 64 && meta.slots[2] == Slot::No {
                let first =
                    cx.kernel.meta[..pc as usize].iter().rev().take_while(|m| m.text == meta.text).count();
                let high = text.starts_with("mov.b64") && first == 1;
                let half = t.row(inst.a + if high { 16 } else { 0 });
                t.set(inst.d, exec, half);
                return;
            }
            // As long as one part is defined, so is a register of several parts.
            let parts = ["mov.b16", "mov.b32", "cvt."].iter().any(|o| text.starts_with(o));
            if parts && meta.slots[2] == Slot::Row && meta.slots[3] == Slot::No {
                let both = t.row(inst.a) & t.row(inst.b);
                t.set(inst.d, exec, both);
                return;
            }
            // The same of bytes that a permutation chooses.
            if text.strip_prefix("prmt.b32").is_some_and(|rest| !rest.starts_with('.')) {
                let chosen = w.regs.row::<u32>(inst.c);
                let lanes = |of: &dyn Fn(u32) -> bool| -> u32 {
                    (0..32)
                        .filter(|&l| (0..4).any(|n| of(chosen[l] >> (4 * n) & 7)))
                        .fold(0, |m, l| m | 1 << l)
                };
                let [a, b] = [lanes(&|byte| byte < 4), lanes(&|byte| byte > 3)];
                let both = (t.row(inst.a) | !a) & (t.row(inst.b) | !b);
                t.set(inst.d, exec, both | t.row(inst.c));
                return;
            }
            if text.starts_with("shr.") && bits == 64 && w.regs.row::<u32>(inst.b)[0] == 32 {
                let high = t.row(inst.a + 16);
                t.set(inst.d, exec, high);
                t.set(inst.d + 16, exec, 0);
                return;
            }
            if text.contains("selp.") {
                // Only the chosen source counts.
                let p = w.regs.pred(inst.c);
                sources = p & t.whole(inst.a, from) | !p & t.whole(inst.b, from) | t.pred(inst.c);
            }
            if meta.d_read && meta.slots[0] == Slot::Row {
                sources |= t.whole(inst.d, bits);
            }
            match meta.slots[0] {
                Slot::Row => t.set_whole((inst.d, bits), exec, sources),
                Slot::Pred if inst.d != NONE => t.set_pred(inst.d, exec, sources),
                _ => {}
            }
        }
    }
}
