//! What: rows for virtual registers, by liveness and linear scan.
//! Why here: PTX names thousands of registers; a warp's row is 128 bytes or more, and only rows that fit the
//! host's caches are fast.
//! Pre: code with virtual registers, function by function.
//! Post: registers that are live at the same time in a thread have different rows. That suffices under
//! divergence too, because a lane only ever writes its own column.

use crate::decode::VReg;
use crate::inst::{Inst, Meta, NONE, Op, Slot};

/// The result of allocation.
pub(crate) struct Allocation {
    /// Offset in words of every virtual register.
    pub(crate) offsets: Vec<u32>,
    /// Size of the register file in words.
    pub(crate) words: u32,
    /// Rows that are read before they are written: (offset, words).
    pub(crate) live_in: Vec<(u32, u32)>,
    /// The most 32-bit registers that are live at once.
    pub(crate) max_live: u32,
}

/// Calls `f(vreg, is_definition)` for every row operand.
fn rows(inst: &mut Inst, meta: &Meta, f: &mut dyn FnMut(&mut u32, bool)) {
    let [sd, sa, sb, sc] = meta.slots;
    for (slot, r) in [(sa, &mut inst.a), (sb, &mut inst.b), (sc, &mut inst.c)] {
        if slot == Slot::Row && *r != NONE {
            f(r, false);
        }
    }
    if sd == Slot::Row && inst.d != NONE {
        f(&mut inst.d, true);
    }
    inst.boxed_rows(f);
}

/// Successors of the instruction at `pc`, within its function.
fn successors(inst: &Inst, pc: u32, end: u32, out: &mut Vec<u32>) {
    out.clear();
    let falls = match &inst.op {
        Op::Bra(t) => {
            out.push(*t);
            inst.guard != NONE
        }
        Op::Brx(ts) => {
            out.extend(ts.iter());
            inst.guard != NONE
        }
        Op::Ret | Op::Exit | Op::Trap => inst.guard != NONE,
        _ => true,
    };
    if falls && pc + 1 < end {
        out.push(pc + 1);
    }
}

struct Block {
    start: u32,
    end: u32,
    next: Vec<u32>,
    gen_: Vec<u64>,
    kill: Vec<u64>,
    live_in: Vec<u64>,
    live_out: Vec<u64>,
}

/// Allocates rows and rewrites the code.
pub(crate) fn allocate(
    code: &mut [Inst],
    meta: &mut [Meta],
    vregs: &[VReg],
    ranges: &[(u32, u32)],
) -> Allocation {
    let mut offsets = vec![NONE; vregs.len()];
    let mut words = 0u32;
    let mut live_in = vec![];
    let mut max_live = 0;
    // Rows of constants lie first and live always.
    for (v, r) in vregs.iter().enumerate() {
        if r.func == NONE {
            offsets[v] = words;
            words += r.bits.max(16);
        }
    }
    for &(start, end) in ranges {
        function(code, meta, vregs, start, end, &mut offsets, &mut words, &mut live_in, &mut max_live);
    }
    for (inst, m) in code.iter_mut().zip(meta) {
        for (i, r) in [inst.d, inst.a, inst.b, inst.c].into_iter().enumerate() {
            if m.slots[i] == Slot::Row && r != NONE {
                m.bits[i] = vregs[r as usize].bits as u8;
            }
        }
        rows(inst, m, &mut |r, _| *r = offsets[*r as usize]);
    }
    Allocation { offsets, words, live_in, max_live }
}

#[allow(clippy::too_many_arguments)] // The accumulators of `allocate`.
fn function(
    code: &mut [Inst],
    meta: &[Meta],
    vregs: &[VReg],
    start: u32,
    end: u32,
    offsets: &mut [u32],
    words: &mut u32,
    live_in: &mut Vec<(u32, u32)>,
    max_live: &mut u32,
) {
    // Dense numbers for the registers that this function touches.
    let mut dense = std::collections::HashMap::new();
    let mut names = vec![];
    let mut touched: Vec<Vec<(u32, bool)>> = vec![];
    for pc in start..end {
        let mut list = vec![];
        let d_read = meta[pc as usize].d_read;
        rows(&mut code[pc as usize], &meta[pc as usize], &mut |r, def| {
            if vregs[*r as usize].func != NONE {
                let id = *dense.entry(*r).or_insert_with(|| {
                    names.push(*r);
                    names.len() as u32 - 1
                });
                if def && d_read {
                    list.push((id, false));
                }
                list.push((id, def));
            }
        });
        // Reads come before writes.
        list.sort_by_key(|&(_, def)| def);
        touched.push(list);
    }
    let n = names.len();
    let set_words = n.div_ceil(64);
    // Basic blocks.
    let mut leader = vec![false; (end - start) as usize + 1];
    leader[0] = true;
    let mut next = vec![];
    for pc in start..end {
        successors(&code[pc as usize], pc, end, &mut next);
        if next.len() != 1 || next[0] != pc + 1 {
            for t in &next {
                leader[(t - start) as usize] = true;
            }
            leader[(pc + 1 - start) as usize] = true;
        }
    }
    let starts: Vec<u32> = (start..end).filter(|pc| leader[(pc - start) as usize]).collect();
    let mut block_of = vec![0u32; (end - start) as usize];
    let mut blocks: Vec<Block> = vec![];
    for (i, &s) in starts.iter().enumerate() {
        let e = starts.get(i + 1).copied().unwrap_or(end);
        let (mut gen_, mut kill) = (vec![0u64; set_words], vec![0u64; set_words]);
        for pc in s..e {
            block_of[(pc - start) as usize] = i as u32;
            // A write under a guard keeps the old value of other lanes, so it does not end a life.
            let kills = code[pc as usize].guard == NONE;
            for &(id, def) in &touched[(pc - start) as usize] {
                let (w, b) = (id as usize / 64, 1u64 << (id % 64));
                if !def {
                    if kill[w] & b == 0 {
                        gen_[w] |= b;
                    }
                } else if kills {
                    kill[w] |= b;
                }
            }
        }
        successors(&code[e as usize - 1], e - 1, end, &mut next);
        let zero = vec![0u64; set_words];
        blocks.push(Block {
            start: s,
            end: e,
            next: next.clone(),
            gen_,
            kill,
            live_in: zero.clone(),
            live_out: zero,
        });
    }
    loop {
        let mut changed = false;
        for i in (0..blocks.len()).rev() {
            let mut out = vec![0u64; set_words];
            for t in &blocks[i].next {
                let s = &blocks[block_of[(t - start) as usize] as usize].live_in;
                out.iter_mut().zip(s).for_each(|(o, s)| *o |= s);
            }
            let b = &mut blocks[i];
            for (w, o) in out.iter().enumerate() {
                let v = b.gen_[w] | o & !b.kill[w];
                changed |= v != b.live_in[w];
                b.live_in[w] = v;
            }
            b.live_out = out;
        }
        if !changed {
            break;
        }
    }
    // Intervals: reads at 2 pc, writes at 2 pc + 1.
    let mut span = vec![(u32::MAX, 0u32); n];
    let mut touch = |id: usize, at: u32| {
        span[id].0 = span[id].0.min(at);
        span[id].1 = span[id].1.max(at);
    };
    for b in &blocks {
        for id in 0..n {
            if b.live_in[id / 64] >> (id % 64) & 1 != 0 {
                touch(id, 2 * b.start);
            }
            if b.live_out[id / 64] >> (id % 64) & 1 != 0 {
                touch(id, 2 * (b.end - 1) + 1);
            }
        }
        for pc in b.start..b.end {
            for &(id, def) in &touched[(pc - start) as usize] {
                touch(id as usize, 2 * pc + u32::from(def));
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| span[i]);
    let mut free: [Vec<u32>; 3] = Default::default();
    let mut active: std::collections::BinaryHeap<std::cmp::Reverse<(u32, u32, usize)>> = Default::default();
    let class = |bits: u32| match bits {
        16 => 0usize,
        32 => 1,
        _ => 2,
    };
    let mut live_words = 0u32;
    for i in order {
        while let Some(&std::cmp::Reverse((e, off, c))) = active.peek() {
            if e >= span[i].0 {
                break;
            }
            active.pop();
            free[c].push(off);
            live_words -= [16, 32, 64][c];
        }
        let bits = vregs[names[i] as usize].bits.max(16);
        let c = class(bits);
        let off = free[c].pop().unwrap_or_else(|| {
            let o = *words;
            *words += bits;
            o
        });
        live_words += bits;
        *max_live = (*max_live).max(live_words / 32);
        offsets[names[i] as usize] = off;
        active.push(std::cmp::Reverse((span[i].1, off, c)));
    }
    if let Some(b) = blocks.first() {
        for (id, name) in names.iter().enumerate() {
            if b.live_in[id / 64] >> (id % 64) & 1 != 0 {
                live_in.push((offsets[*name as usize], vregs[*name as usize].bits.max(16)));
            }
        }
    }
}
