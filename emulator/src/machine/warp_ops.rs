//! What: warp-wide instructions: shuffles, votes, matches, reductions, election.
//! Why here: they read other lanes, so they run only when every member has arrived.
//! Pre: `exec` holds every live member.
//! Post: destination lanes of `exec` are written.

use crate::inst::{Inst, ReduxKind, ShflMode, VoteKind, WarpOp};
use crate::lanes::RegFile;

/// Runs a warp-wide instruction.
pub(crate) fn run(r: &mut RegFile, i: &Inst, op: &WarpOp, exec: u32) {
    match *op {
        WarpOp::Sync => {}
        WarpOp::Shfl { mode, pred } => shfl(r, i, mode, pred, exec),
        WarpOp::Vote { kind, negate } => {
            let p = r.pred(i.a) ^ if negate { u32::MAX } else { 0 };
            let votes = p & exec;
            match kind {
                VoteKind::Ballot => r.store::<u32>(i.d, &[votes; 32], exec),
                VoteKind::All => r.set_pred(i.d, if votes == exec { u32::MAX } else { 0 }, exec),
                VoteKind::Any => r.set_pred(i.d, if votes != 0 { u32::MAX } else { 0 }, exec),
                VoteKind::Uni => {
                    r.set_pred(i.d, if votes == 0 || votes == exec { u32::MAX } else { 0 }, exec)
                }
            }
        }
        WarpOp::Match { all, wide, pred } => {
            let v: [u64; 32] = if wide { *r.row::<u64>(i.a) } else { r.row::<u32>(i.a).map(u64::from) };
            let same = |l: usize| {
                (0..32).filter(|&k| exec >> k & 1 != 0 && v[k] == v[l]).fold(0u32, |m, k| m | 1 << k)
            };
            let mut out = [0u32; 32];
            for l in 0..32 {
                out[l] = same(l);
            }
            if all {
                let whole = out[exec.trailing_zeros() as usize % 32] == exec;
                out = [if whole { exec } else { 0 }; 32];
                r.set_pred(pred, if whole { u32::MAX } else { 0 }, exec);
            }
            r.store(i.d, &out, exec);
        }
        WarpOp::Redux(kind) => {
            let v = *r.row::<u32>(i.a);
            let lanes = (0..32).filter(|&l| exec >> l & 1 != 0).map(|l| v[l]);
            let x = lanes.reduce(|a, b| match kind {
                ReduxKind::Add => a.wrapping_add(b),
                ReduxKind::MinU => a.min(b),
                ReduxKind::MaxU => a.max(b),
                ReduxKind::MinS => (a as i32).min(b as i32) as u32,
                ReduxKind::MaxS => (a as i32).max(b as i32) as u32,
                ReduxKind::And => a & b,
                ReduxKind::Or => a | b,
                ReduxKind::Xor => a ^ b,
            });
            r.store(i.d, &[x.unwrap_or(0); 32], exec);
        }
        WarpOp::Elect { pred } => {
            let leader = exec.trailing_zeros();
            r.store::<u32>(i.d, &[leader; 32], exec);
            r.set_pred(pred, 1 << leader, exec);
        }
    }
}

#[inline(always)]
fn shfl(r: &mut RegFile, i: &Inst, mode: ShflMode, pred: u32, exec: u32) {
    let v = *r.row::<u32>(i.a);
    let (from, inside) = sources(r, i, mode);
    let out = from.map(|j| v[j as usize & 31]);
    r.store(i.d, &out, exec);
    r.set_pred(pred, inside, exec);
}

/// The lane that each lane reads in a shuffle, and the lanes whose source was in range.
#[inline(always)]
pub(crate) fn sources(r: &mut RegFile, i: &Inst, mode: ShflMode) -> ([u32; 32], u32) {
    let (b, c) = (*r.row::<u32>(i.b), *r.row::<u32>(i.c));
    let mut out = [0u32; 32];
    let mut inside = 0u32;
    for l in 0..32u32 {
        let bval = b[l as usize] & 31;
        let (cval, seg) = (c[l as usize] & 31, c[l as usize] >> 8 & 31);
        let max = (l & seg) | (cval & !seg);
        let min = l & seg;
        let (j, ok) = match mode {
            ShflMode::Up => (l.wrapping_sub(bval), l as i32 - bval as i32 >= max as i32),
            ShflMode::Down => (l + bval, l + bval <= max),
            ShflMode::Bfly => (l ^ bval, (l ^ bval) <= max),
            ShflMode::Idx => (min | (bval & !seg), (min | (bval & !seg)) <= max),
        };
        let j = if ok { j } else { l };
        out[l as usize] = j;
        inside |= u32::from(ok) << l;
    }
    (out, inside)
}
