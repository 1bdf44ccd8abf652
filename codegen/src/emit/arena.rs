//! Shared memory: which bytes each tile and each scratch area gets, and where the block must synchronise.
//!
//! What: lifetimes over the operations in program order (extended over loops that read what was written before them),
//! first-fit placement, and a forward analysis of accesses that no barrier has ordered yet.
//! Post: two things alive at once do not overlap, and between conflicting accesses of different threads there is a
//! barrier on every path, around loops included.

use std::collections::{HashMap, HashSet};

use tilewright_ir::tile::{Layout, Op, Place, TileProgram};
use tilewright_ir::{Param, Tile};

use super::ring;
use crate::bits::{by_lanes, local};
use crate::layout::banks::{self, Use};
use crate::layout::shared::SharedMap;
use crate::{CodegenError, SHARED_LIMIT};

/// What occupies shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Tile(Tile),
    Scratch(usize),
    Area(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// The plan.
#[derive(Debug, Default)]
pub(super) struct Arena {
    places: HashMap<Slot, (u64, u64)>,
    barriers: HashSet<(usize, usize)>,
    /// The first byte of each ring.
    rings: HashMap<Tile, u64>,
    /// The first byte of the barriers of the rings of each loop.
    bars: HashMap<usize, u64>,
    /// Bytes in all.
    pub(super) bytes: u64,
}

impl Arena {
    /// The first byte of a tile.
    pub(super) fn tile(&self, tile: Tile) -> Option<u64> {
        self.places.get(&Slot::Tile(tile)).map(|p| p.0)
    }

    /// The first byte of the scratch area of an operation.
    pub(super) fn scratch(&self, op: usize) -> Option<u64> {
        self.places.get(&Slot::Scratch(op)).map(|p| p.0)
    }

    /// The first byte of an area.
    pub(super) fn area(&self, area: u32) -> Option<u64> {
        self.places.get(&Slot::Area(area)).map(|p| p.0)
    }

    /// The first byte of a ring.
    pub(super) fn ring(&self, tile: Tile) -> Option<u64> {
        self.rings.get(&tile).copied()
    }

    /// The first byte of the barriers of the rings of a loop.
    pub(super) fn bars(&self, op: usize) -> Option<u64> {
        self.bars.get(&op).copied()
    }

    /// Whether the block synchronises before an access of an operation; accesses are numbered within it.
    pub(super) fn barrier(&self, op: usize, access: usize) -> bool {
        self.barriers.contains(&(op, access))
    }
}

/// How a conversion between registers is carried out.
pub(super) fn exchange(program: &TileProgram, out: Tile, src: Tile) -> Option<SharedMap> {
    let (Place::Registers(to), Place::Registers(from)) =
        (&program.tiles[out].place, &program.tiles[src].place)
    else {
        return None;
    };
    if local(from, to) || by_lanes(from, to) {
        return None;
    }
    let data = &program.tiles[out];
    let place = banks::choose(
        program,
        &data.axes,
        data.dtype,
        &[Use::Layout(from.clone(), 16), Use::Layout(to.clone(), 16)],
    );
    SharedMap::of(program, &place, data.dtype)
}

/// The warp bits that a reduction crosses.
pub(super) fn crossed(from: &Layout, to: &Layout) -> Vec<usize> {
    let gone = |n: &usize| from.warps[*n].is_some() && to.warps.get(*n).is_none_or(Option::is_none);
    (0..from.warps.len()).filter(gone).collect()
}

/// The numbering of the elements of a reduction's result in its scratch area: as wide as the bits it has.
pub(super) fn element_bits(layout: &Layout) -> Vec<tilewright_ir::tile::AxisBit> {
    layout.lanes.iter().chain(&layout.warps).flatten().chain(&layout.regs).copied().collect()
}

struct Planner<'a> {
    program: &'a TileProgram,
    /// Accesses of each operation.
    accesses: Vec<Vec<(Slot, Kind)>>,
    sizes: HashMap<Slot, u64>,
    /// Loops as ranges of operations.
    loops: Vec<(usize, usize)>,
    arena: Arena,
}

/// Plans the shared memory of a program, which has at most so many bytes with its rings.
pub(super) fn plan(program: &TileProgram, limit: u64) -> Result<Arena, CodegenError> {
    let fits = |need: u64, limit: u64| match need > limit {
        true => Err(CodegenError::SharedMemory { program: program.name.clone(), need, limit }),
        false => Ok(()),
    };
    let mut p =
        Planner { program, accesses: vec![], sizes: HashMap::new(), loops: vec![], arena: Arena::default() };
    p.collect(&program.body);
    p.place();
    fits(p.arena.bytes, SHARED_LIMIT.into())?;
    p.rings(&program.body, &mut 0)?;
    fits(p.arena.bytes, limit)?;
    let mut state = Vec::new();
    p.barriers(&program.body, 0, &mut state, true);
    Ok(p.arena)
}

impl Planner<'_> {
    fn collect(&mut self, body: &[Op]) {
        for op in body {
            let at = self.accesses.len();
            let accesses = self.accesses_of(op, at);
            self.accesses.push(accesses);
            if let Op::Loop { body, .. } = op {
                self.collect(body);
                self.loops.push((at, self.accesses.len() - 1));
            }
        }
    }

    fn in_shared(&mut self, tile: Tile) -> Option<Slot> {
        let data = &self.program.tiles[tile];
        let map = SharedMap::of(self.program, &data.place, data.dtype)?;
        let slot = Slot::Tile(tile);
        self.sizes.insert(slot, map.bytes());
        Some(slot)
    }

    /// The area that a buffer is, if it is one.
    fn area(&mut self, param: Param) -> Option<Slot> {
        let data = &self.program.params[param];
        let slot = Slot::Area(data.area?);
        let elements = data.dims.iter().filter_map(|d| d.as_const()).fold(1u64, u64::saturating_mul);
        self.sizes.insert(slot, elements.saturating_mul(data.dtype.bytes() as u64));
        Some(slot)
    }

    fn accesses_of(&mut self, op: &Op, at: usize) -> Vec<(Slot, Kind)> {
        let scratch = Slot::Scratch(at);
        match op {
            Op::Convert { out, src } => {
                if let Some(map) = exchange(self.program, *out, *src) {
                    self.sizes.insert(scratch, map.bytes());
                    return vec![(scratch, Kind::Write), (scratch, Kind::Read)];
                }
                let read = self.in_shared(*src).map(|s| (s, Kind::Read));
                let write = self.in_shared(*out).map(|s| (s, Kind::Write));
                read.into_iter().chain(write).collect()
            }
            Op::Reduce { out, src, .. } => {
                let tiles = &self.program.tiles;
                let (Place::Registers(from), Place::Registers(to)) = (&tiles[*src].place, &tiles[*out].place)
                else {
                    return vec![];
                };
                let crossed = crossed(from, to).len();
                if crossed == 0 {
                    return vec![];
                }
                let wide = tiles[*src].dtype.bytes().max(tiles[*out].dtype.bytes()).max(4) as u64;
                self.sizes.insert(scratch, wide << (crossed + element_bits(to).len()));
                vec![(scratch, Kind::Write), (scratch, Kind::Read)]
            }
            Op::Dot { a, b, .. } => {
                [*a, *b].into_iter().filter_map(|t| self.in_shared(t)).map(|s| (s, Kind::Read)).collect()
            }
            Op::Load { param, .. } => self.area(*param).map(|s| (s, Kind::Read)).into_iter().collect(),
            Op::Store { param, .. } => self.area(*param).map(|s| (s, Kind::Write)).into_iter().collect(),
            Op::Map { .. } | Op::Loop { .. } => vec![],
        }
    }

    /// First and last operation between which a slot must keep its bytes.
    fn lifetimes(&self) -> Vec<(Slot, usize, usize)> {
        let mut out: Vec<(Slot, usize, usize)> = Vec::new();
        for (at, accesses) in self.accesses.iter().enumerate() {
            for (slot, _) in accesses {
                match out.iter_mut().find(|(s, _, _)| s == slot) {
                    Some((_, _, last)) => *last = at,
                    None => out.push((*slot, at, at)),
                }
            }
        }
        for (slot, first, last) in &mut out {
            // What iterations store of an area stays there.
            if matches!(slot, Slot::Area(_)) {
                for &(start, end) in &self.loops {
                    if (start..=end).contains(first) {
                        *first = start;
                        *last = (*last).max(end);
                    }
                }
            }
            // A loop that reads what was written before it reads it in its last iteration, too.
            for &(start, end) in &self.loops {
                if (start..=end).contains(last) && *first < start {
                    *last = (*last).max(end);
                }
            }
        }
        out
    }

    fn place(&mut self) {
        let lifetimes = self.lifetimes();
        let mut done: Vec<(u64, u64, usize, usize)> = Vec::new();
        for (slot, first, last) in lifetimes {
            let size = self.sizes.get(&slot).copied().unwrap_or(0).next_multiple_of(128);
            let mut at = 0;
            let mut busy: Vec<(u64, u64)> =
                done.iter().filter(|d| d.2 <= last && first <= d.3).map(|d| (d.0, d.1)).collect();
            busy.sort_unstable();
            for (start, end) in busy {
                if at + size <= start {
                    break;
                }
                at = at.max(end);
            }
            done.push((at, at + size, first, last));
            self.arena.places.insert(slot, (at, at + size));
            self.arena.bytes = self.arena.bytes.max(at + size);
        }
    }

    /// Rings share their bytes with nothing: copies to them are on their way while everything else happens.
    fn rings(&mut self, body: &[Op], at: &mut usize) -> Result<(), CodegenError> {
        for op in body {
            let number = *at;
            *at += 1;
            let Op::Loop { axis, body, .. } = op else { continue };
            let mut any = false;
            for load in ring::ahead(self.program, *axis, body)? {
                any = true;
                let start = self.arena.bytes.next_multiple_of(128);
                self.arena.rings.insert(load.tile, start);
                let (stages, span) =
                    self.program.tiles[load.tile].ring.map_or((1, 1), |r| (r.stages, r.span));
                self.arena.bytes = start + load.stage * u64::from(stages) * u64::from(span);
                self.arena.bars.insert(number, u64::from(stages));
            }
            if any {
                let start = self.arena.bytes.next_multiple_of(16);
                if let Some(bars) = self.arena.bars.get_mut(&number) {
                    self.arena.bytes = start + 8 * *bars;
                    *bars = start;
                }
            }
            self.rings(body, at)?;
        }
        Ok(())
    }

    /// Follows the accesses that no barrier has ordered yet; records the barriers that are needed.
    fn barriers(&mut self, body: &[Op], start: usize, open: &mut Vec<(Slot, Kind)>, record: bool) -> usize {
        let mut at = start;
        for op in body {
            let accesses = self.accesses[at].clone();
            for (n, &(slot, kind)) in accesses.iter().enumerate() {
                let mine = self.arena.places[&slot];
                let conflicts = open.iter().any(|(other, k)| {
                    let theirs = self.arena.places[other];
                    (*k == Kind::Write || kind == Kind::Write) && mine.0 < theirs.1 && theirs.0 < mine.1
                });
                if conflicts {
                    open.clear();
                    // The barrier stands before all reads of the operation: they are still open.
                    open.extend(accesses[..n].iter().filter(|(_, k)| *k == Kind::Read));
                    if record {
                        self.arena.barriers.insert((at, n));
                    }
                }
                if !open.contains(&(slot, kind)) {
                    open.push((slot, kind));
                }
            }
            at += 1;
            let Op::Loop { body, .. } = op else { continue };
            // The start of an iteration follows either what is before the loop or the end of another iteration.
            loop {
                let mut end = open.clone();
                self.barriers(body, at, &mut end, false);
                let before = open.len();
                for access in end {
                    if !open.contains(&access) {
                        open.push(access);
                    }
                }
                if open.len() == before {
                    break;
                }
            }
            let mut end = open.clone();
            at = self.barriers(body, at, &mut end, record);
            for access in end {
                if !open.contains(&access) {
                    open.push(access);
                }
            }
        }
        at
    }
}
