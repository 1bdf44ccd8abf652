//! Invariants of steps.
//!
//! * `S1` symbols and buffers have unique names; ranges of symbols are not empty; symbols of extents exist.
//! * `S2` the buffers of a launch exist, and each says whether it is written.
//! * `S3` inputs, weights and tables are never written; a launch does not write a buffer that it has another time among
//!   its arguments, nor one whose bytes overlap with another of its arguments.
//! * `S4` buffers of the arena lie inside of it at the largest values of the symbols, aligned to 16 bytes.
//! * `S5` buffers of the arena that share bytes are not live at once: one is done with before the other is begun.
//! * `S6` temporaries are written before they are read, and outputs are written.
//! * `S7` blocks of grid axes are positive; tables have as many elements as their extents say.
//! * `S8` the first entry is beside none; entries of one launch do not touch the bytes that another of them writes, and the
//!   kernels that share one have no `__` in their names. Of a state that a later entry updates, an earlier one may read the
//!   rest; which elements those are is for plans to say (`P11`).
//! * `S9` what is packed is a weight of constant extents, and its packing is one of so many elements.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::Buffer;
use crate::step::{BufferData, BufferKind, Step, TOGETHER};
use crate::verify::graph::table;
use crate::verify::{Report, Violation, at_most, extent_exists, packed, symbols, unique};

/// Verifies a step.
pub fn verify_step(s: &Step) -> Result<(), Vec<Violation>> {
    let mut r = Report::default();
    symbols(&mut r, "S1", &s.symbols);
    unique(&mut r, "S1", "buffers", "the buffers", s.buffers.values().map(|b| b.name.as_str()));
    for (b, data) in s.buffers.iter() {
        let at = format!("{b} `{}`", data.name);
        let exist = data.dims.iter().all(|&e| extent_exists(e, &s.symbols));
        r.check(exist, "S1", &at, || "there is no such symbol".to_owned());
        if let BufferKind::Table(t) = &data.kind {
            table(&mut r, "S7", &at, t, &data.dims);
        }
        if let Some(packing) = &data.packing {
            let weight = matches!(data.kind, BufferKind::Weight(_));
            r.check(weight, "S9", &at, || "it is packed and no weight".to_owned());
            packed(&mut r, "S9", &at, packing, &data.dims);
        }
        if let BufferKind::Arena(offset) = data.kind {
            let end = bytes(s, data).and_then(|n| n.checked_add(offset));
            r.check(end.is_some_and(|e| e <= s.arena_bytes), "S4", &at, || {
                format!("it does not lie inside of the arena of {} bytes", s.arena_bytes)
            });
            r.check(offset.is_multiple_of(16), "S4", &at, || format!("the offset {offset} is not aligned"));
        }
    }
    // The first and the last launch that touches a buffer.
    let mut lives: BTreeMap<Buffer, (usize, usize)> = BTreeMap::new();
    let mut written: BTreeSet<Buffer> = BTreeSet::new();
    r.check(s.launches.first().is_none_or(|l| !l.beside), "S8", "launch 0", || {
        "there is no launch before the first one".to_owned()
    });
    let groups = s.groups();
    for group in groups.iter().filter(|g| g.len() > 1) {
        for n in group.clone() {
            let at = format!("launch {n} of `{}`", s.launches[n].kernel);
            together(&mut r, s, &at, n, group.clone());
        }
    }
    // What happens side by side has one time.
    let times: Vec<usize> = groups.iter().flat_map(|g| std::iter::repeat_n(g.start, g.len())).collect();
    for (n, launch) in s.launches.iter().enumerate() {
        let time = times[n];
        let at = format!("launch {n} of `{}`", launch.kernel);
        r.check(launch.args.len() == launch.writes.len(), "S2", &at, || {
            format!("{} arguments and {} marks", launch.args.len(), launch.writes.len())
        });
        for g in &launch.grid {
            let ok = g.block > 0 && extent_exists(g.extent, &s.symbols);
            r.check(ok, "S7", &at, || format!("a grid axis of {:?} in blocks of {}", g.extent, g.block));
        }
        for (i, &b) in launch.args.iter().enumerate() {
            let Some(data) = s.buffers.get(b) else {
                r.add("S2", &at, format!("there is no buffer {b}"));
                continue;
            };
            let writes = launch.writes.get(i).copied().unwrap_or(false);
            lives.entry(b).and_modify(|l| l.1 = time).or_insert((time, time));
            if writes {
                let constant =
                    matches!(data.kind, BufferKind::Input | BufferKind::Weight(_) | BufferKind::Table(_));
                r.check(!constant, "S3", &at, || format!("`{}` is written", data.name));
                for (j, &other) in launch.args.iter().enumerate() {
                    let clash = i != j && (other == b || overlap(s, b, other));
                    r.check(!clash, "S3", &at, || {
                        format!("it writes `{}`, which is argument {j}, too", data.name)
                    });
                }
            } else {
                let made =
                    written.contains(&b) || !matches!(data.kind, BufferKind::Arena(_) | BufferKind::Output);
                r.check(made, "S6", &at, || format!("`{}` is read before it is written", data.name));
            }
        }
        written.extend(launch.args.iter().zip(&launch.writes).filter(|(_, w)| **w).map(|(&b, _)| b));
    }
    let arena: Vec<(Buffer, (usize, usize))> = lives
        .iter()
        .filter(|(b, _)| matches!(s.buffers[**b].kind, BufferKind::Arena(_)))
        .map(|(&b, &l)| (b, l))
        .collect();
    for (i, &(a, la)) in arena.iter().enumerate() {
        for &(b, lb) in &arena[i + 1..] {
            let together = la.0 <= lb.1 && lb.0 <= la.1;
            if together && overlap(s, a, b) {
                let (x, y) = (&s.buffers[a].name, &s.buffers[b].name);
                r.add("S5", "arena", format!("`{x}` and `{y}` share bytes and are live at once"));
            }
        }
    }
    for (b, data) in s.buffers.iter() {
        if data.kind == BufferKind::Output {
            r.check(written.contains(&b), "S6", &data.name, || "the output is never written".to_owned());
        }
    }
    r.finish()
}

/// That entry `n` of a launch keeps away from what the others write.
fn together(r: &mut Report, s: &Step, at: &str, n: usize, group: Range<usize>) {
    let own = &s.launches[n];
    r.check(!own.kernel.contains(TOGETHER), "S8", at, || format!("its name has `{TOGETHER}`"));
    for m in group.filter(|&m| m != n) {
        let other = &s.launches[m];
        for (&b, _) in other.args.iter().zip(&other.writes).filter(|(_, w)| **w) {
            // What is read of a state that is updated later is for the plan to say.
            let rest = n < m && matches!(s.buffers.get(b).map(|d| &d.kind), Some(BufferKind::State));
            let kept = |i: usize| rest && !own.writes.get(i).copied().unwrap_or(true);
            let mut args = own.args.iter().enumerate();
            let touched = args.any(|(i, &a)| !kept(i) && (a == b || overlap(s, a, b)));
            r.check(!touched, "S8", at, || format!("it touches what `{}` writes beside it", other.kernel));
        }
    }
}

/// The bytes of a buffer at the largest values of the symbols.
fn bytes(s: &Step, data: &BufferData) -> Option<u64> {
    data.dims.iter().try_fold(data.dtype.bytes() as u64, |n, &e| n.checked_mul(at_most(e, &s.symbols)))
}

/// Whether two buffers of the arena share bytes.
fn overlap(s: &Step, a: Buffer, b: Buffer) -> bool {
    let range = |b: Buffer| -> Option<(u64, u64)> {
        let data = s.buffers.get(b)?;
        let BufferKind::Arena(start) = data.kind else { return None };
        Some((start, start.saturating_add(bytes(s, data).unwrap_or(u64::MAX))))
    };
    match (range(a), range(b)) {
        (Some(x), Some(y)) => x.0 < y.1 && y.0 < x.1,
        _ => false,
    }
}
