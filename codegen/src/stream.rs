//! Loads that run ahead: which loads of loops are streamed through rings of shared memory, who copies, and how far ahead.
//!
//! What: a load in a loop gets a [`Ring`] if its address is known without loading anything and moves with the loop.
//! Where rows of the tile are contiguous in memory and the target copies in bulk, one warp copies rows and a barrier
//! counts their bytes; elsewhere each thread copies the vectors that it reads itself, which takes no barrier at all. What
//! goes on to shared memory as an operand of tensor cores has none.
//! Why here: distributions of tiles and the shared memory that is left are known only after the layout pass.
//! Pre: a program whose tiles have places.
//! Post: `T15`; all rings of a loop have as many stages as fit the target's budget, but no more than the loop has
//! iterations. Nothing else of the program changes, and neither do its results.

use tilewright_ir::tile::{Copier, Layout, Op, Place, Ring, Role, TileProgram};
use tilewright_ir::{Axis, Param, Tile};

use crate::CodegenError;
use crate::access::{Access, mentions, tiles_of};
use crate::emit::{shared_bytes, vector_bytes};
use crate::layout::visit;
use crate::rows::{Rows, UNIT};
use crate::target::Target;

/// The most stages of a ring.
const MOST_STAGES: u32 = 16;
/// The most rows that are worth copying one by one, and the fewest bytes of a row.
const MOST_ROWS: u64 = 128;
pub(crate) const LEAST_ROW: u64 = 64;

/// Bytes of one bulk copy of constants that are worth asking for: a stage is for as many iterations as it takes. Larger
/// copies would only be fewer stages.
const COPY: u64 = 16 << 10;

/// A load that may run ahead.
#[derive(Clone)]
struct Candidate {
    tile: Tile,
    copier: Copier,
    /// Bytes of an iteration.
    stage: u64,
    constant: bool,
    /// Bytes of an iteration, if iterations lie one behind the other in memory.
    joined: Option<u64>,
}

/// The stages of the rings of a loop, and how many iterations one is for.
#[derive(Clone, Copy)]
struct Stages {
    stages: u32,
    span: u32,
}

impl Stages {
    /// The iterations of all stages.
    fn iterations(self) -> u64 {
        u64::from(self.stages) * u64::from(self.span)
    }
}

/// A loop whose loads may run ahead.
struct Stream {
    /// Iterations, where they are known.
    trips: Option<u64>,
    loads: Vec<Candidate>,
}

/// Gives rings to the loads that gain by them. A program that has rings is returned as it is.
pub fn stream_loads(program: &TileProgram, target: Target) -> Result<TileProgram, CodegenError> {
    if program.tiles.values().any(|t| t.ring.is_some()) {
        return Ok(program.clone());
    }
    let budget = Budget { usual: target.ring_budget(), most: target.ring_limit() };
    stream_within(program, target, budget, &|_| true)
}

/// Bytes of shared memory for what is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// What stages are made of.
    pub(crate) usual: u64,
    /// What two stages may take so that copies are as large as is worth it.
    pub(crate) most: u64,
}

impl Budget {
    /// One of so many parts.
    fn share(self, parts: u64) -> Budget {
        Budget { usual: self.usual / parts, most: self.most / parts }
    }

    fn take(&mut self, bytes: u64) {
        self.usual = self.usual.saturating_sub(bytes);
        self.most = self.most.saturating_sub(bytes);
    }
}

/// The same with other budgets, for some tiles.
pub(crate) fn stream_within(
    program: &TileProgram,
    target: Target,
    budget: Budget,
    which: &dyn Fn(Tile) -> bool,
) -> Result<TileProgram, CodegenError> {
    let mut out = program.clone();
    let mut streams = Vec::new();
    collect(program, &program.body, target, &mut streams);
    streams.iter_mut().for_each(|s| s.loads.retain(|l| which(l.tile)));
    streams.retain(|s| !s.loads.is_empty());
    if streams.is_empty() {
        return Ok(out);
    }
    // Barriers and alignment take a little.
    let free = target.program_limit().saturating_sub(shared_bytes(program)? + 1024);
    // What is read of weights comes last, and has what the other loops leave.
    streams.sort_by_key(Stream::weights);
    let mut budget = Budget { usual: budget.usual.min(free), most: budget.most.min(free) };
    let count = streams.len() as u64;
    for (left, mut stream) in (1..=count).rev().zip(streams) {
        let (loads, stages) = stream.fit(budget.share(left));
        budget.take(loads.iter().map(|l| l.stage).sum::<u64>() * stages.iterations());
        for load in loads {
            let Stages { stages, span } = stages;
            out.tiles[load.tile].ring = Some(Ring { stages, span, copier: load.copier });
        }
    }
    Ok(out)
}

/// What is copied of a buffer for a loop, as rings have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The buffer.
    pub param: Param,
    /// Whether one thread copies many bytes.
    pub bulk: bool,
    /// Bytes of one copy; of the last ones of a loop there may be fewer.
    pub copy: u64,
    /// Bytes that lie one behind the other in memory and that the loop reads in this order.
    pub row: u64,
    /// Bytes of two stages of the loop, all buffers together, if copies were twice as large.
    pub double: u64,
    /// Bytes that are on their way for the loop when its copies have just begun: those of all stages and all buffers.
    pub ahead: u64,
    /// The same while a stage is read.
    pub behind: u64,
}

/// What a program whose loads run ahead copies.
pub fn streamed(program: &TileProgram) -> Vec<Streamed> {
    let mut out = Vec::new();
    each_loop(&program.body, &mut |axis, body| {
        let data = &program.axes[axis];
        let iterations = data.extent.as_const().map(|n| n.div_ceil(u64::from(data.block)));
        let mut own = Vec::new();
        let mut bytes = 0;
        let mut ring = None;
        for op in body {
            let Op::Load { out: tile, param, index, mask, .. } = op else { continue };
            let (Some(r), Place::Registers(layout)) =
                (program.tiles[*tile].ring, &program.tiles[*tile].place)
            else {
                continue;
            };
            ring = Some(r);
            let access = Access { param: *param, index, mask: mask.as_ref() };
            let rows = Rows::of(program, *tile, access).filter(|_| r.copier != Copier::Threads);
            let (copy, row) = match &rows {
                Some(rows) if rows.go_on(program, access, axis) => {
                    let runs = data.runs.and_then(|r| program.axes[r].extent.as_const()).unwrap_or(1);
                    let each = iterations.map(|n| n.div_ceil(runs.max(1)));
                    let all = each.map_or(u64::MAX, |n| rows.bytes().saturating_mul(n));
                    let all = rows.limit.map_or(all, |l| all.min((l.end >> l.low) * l.step));
                    ((rows.bytes() * u64::from(r.span)).min(all), all)
                }
                Some(rows) => (rows.bytes(), rows.bytes()),
                None => {
                    let vector = vector_bytes(program, access, *tile, layout) as u64;
                    (vector, vector)
                }
            };
            let element = program.params[*param].dtype.bytes() as u64;
            bytes += program.elements(*tile) * element * u64::from(r.span);
            let bulk = rows.is_some();
            own.push(Streamed { param: *param, bulk, copy, row, double: 0, ahead: 0, behind: 0 });
        }
        let Some(Ring { stages, span, .. }) = ring else { return };
        let filled = u64::from(stages) * u64::from(span);
        let some = iterations.unwrap_or(filled).min(filled);
        let ahead = bytes / u64::from(span) * some;
        // What is there at once is never behind.
        let behind = if iterations == Some(some) { ahead } else { ahead - bytes };
        out.extend(own.into_iter().map(|s| Streamed { ahead, behind, double: 4 * bytes, ..s }));
    });
    out
}

/// Calls `f` on the axis and the body of every loop.
fn each_loop(body: &[Op], f: &mut impl FnMut(Axis, &[Op])) {
    for op in body {
        if let Op::Loop { axis, body, .. } = op {
            f(*axis, body);
            each_loop(body, f);
        }
    }
}

impl Stream {
    /// Whether weights are read.
    fn weights(&self) -> bool {
        self.loads.iter().any(|l| l.constant && l.joined.is_some())
    }

    /// The loads that fit, and their stages. What is not constant was written just before and comes from the cache: where it
    /// takes most of the room, and copies of what is constant are small for it, it does not run ahead.
    fn fit(&mut self, budget: Budget) -> (Vec<Candidate>, Stages) {
        let mut loads = std::mem::take(&mut self.loads);
        loads.sort_by_key(|c| (!c.constant, std::cmp::Reverse(c.stage), c.tile));
        let constants: Vec<Candidate> = loads.iter().filter(|c| c.constant).cloned().collect();
        let room = |loads: &[Candidate]| loads.iter().map(|c| c.stage).sum::<u64>();
        let copy = |loads: &[Candidate], stages: Stages| {
            let each = loads.iter().filter(|c| c.constant).filter_map(|c| c.joined).max();
            each.unwrap_or(COPY).saturating_mul(stages.span.into()).min(COPY)
        };
        let crowded = room(&loads) > 2 * room(&constants);
        let all = self.stages(loads, budget);
        if copy(&all.0, all.1) < COPY && crowded {
            let alone = self.stages(constants, budget);
            if copy(&alone.0, alone.1) > copy(&all.0, all.1) {
                return alone;
            }
        }
        all
    }

    /// Those of some loads that fit, in order, and their stages.
    fn stages(&self, loads: Vec<Candidate>, budget: Budget) -> (Vec<Candidate>, Stages) {
        let least = self.trips.unwrap_or(2).min(2);
        let mut taken = Vec::new();
        let mut total = 0;
        for load in loads {
            if (total + load.stage) * least <= budget.usual {
                total += load.stage;
                taken.push(load);
            }
        }
        let span = self.span(&taken, total, budget.most);
        let total = total * u64::from(span);
        let trips = self.trips.map_or(u64::MAX, |n| n.div_ceil(u64::from(span)));
        let most = trips.min(u64::from(MOST_STAGES)).next_power_of_two();
        // Two stages are there in any case: the span was chosen so.
        let budget = budget.usual.max(if span > 1 { 2 * total } else { 0 });
        let mut stages = 1u32;
        while u64::from(stages) * 2 <= most && total * u64::from(stages) * 2 <= budget {
            stages *= 2;
        }
        (taken, Stages { stages, span })
    }

    /// How many iterations a stage is for: so many that copies of the largest constant are large, and that there are two
    /// stages, the second of which may be for fewer.
    fn span(&self, loads: &[Candidate], total: u64, budget: u64) -> u32 {
        let largest = loads.iter().filter(|c| c.constant).max_by_key(|c| c.stage);
        let (Some(trips), Some(each)) = (self.trips, largest.and_then(|c| c.joined)) else { return 1 };
        let bulk = loads.iter().all(|c| c.copier != Copier::Threads);
        let mut span = 1u32;
        while bulk && each * u64::from(span) < COPY {
            let next = u64::from(span) * 2;
            if next >= trips || total * next * 2 > budget {
                break;
            }
            span *= 2;
        }
        span
    }
}

fn collect(program: &TileProgram, body: &[Op], target: Target, out: &mut Vec<Stream>) {
    for op in body {
        let Op::Loop { axis, range, body, .. } = op else { continue };
        let data = &program.axes[*axis];
        // The most that one of several runs has.
        let runs = data.runs.map_or(Some(1), |r| program.axes[r].extent.as_const());
        let count = data.extent.as_const().filter(|_| range.is_whole());
        let trips = count.zip(runs).map(|(n, runs)| n.div_ceil(u64::from(data.block)).div_ceil(runs.max(1)));
        let loads = body.iter().filter_map(|op| candidate(program, op, *axis, target)).collect();
        if trips != Some(0) {
            out.push(Stream { trips, loads });
        }
        collect(program, body, target, out);
    }
}

/// A load that may run ahead of the loop over `axis`.
fn candidate(program: &TileProgram, op: &Op, axis: Axis, target: Target) -> Option<Candidate> {
    let Op::Load { out, param, index, mask, .. } = op else { return None };
    let Place::Registers(layout) = &program.tiles[*out].place else { return None };
    // What is in shared memory needs no copy there.
    if program.params[*param].area.is_some() || feeds_shared(program, *out) {
        return None;
    }
    let known = index.iter().chain(mask).all(|e| tiles_of(e).is_empty());
    if !known || !index.iter().any(|e| mentions(program, e, axis)) || program.axes[axis].role != Role::Loop {
        return None;
    }
    let access = Access { param: *param, index, mask: mask.as_ref() };
    let vector = vector_bytes(program, access, *out, layout);
    let constant = program.params[*param].constant;
    let rows = Rows::of(program, *out, access)
        .filter(|r| target.bulk_copies() && r.count() <= MOST_ROWS && r.bytes() >= LEAST_ROW);
    if let Some(rows) = rows {
        let pad = rows.pad(layout, vector);
        let joined = (pad == 0 && rows.go_on(program, access, axis)).then(|| rows.bytes());
        return Some(Candidate {
            tile: *out,
            copier: Copier::Bulk { pad },
            stage: rows.stage(pad),
            constant,
            joined,
        });
    }
    // What several warps hold each of them would copy for itself.
    if (vector as u64) < UNIT || layout.warps.iter().any(Option::is_none) {
        return None;
    }
    let stage = threads_stage(program, layout, vector, program.params[*param].dtype.bytes());
    Some(Candidate { tile: *out, copier: Copier::Threads, stage, constant, joined: None })
}

/// Bytes of a stage where each thread copies what it reads.
pub(crate) fn threads_stage(program: &TileProgram, layout: &Layout, vector: usize, element: usize) -> u64 {
    let own = (element as u64) << layout.regs.len();
    own.max(vector as u64) * u64::from(program.threads())
}

/// Whether what is made of a tile goes on to shared memory: then the ring would be a detour through registers, and its
/// reads would have the banks of another layout.
fn feeds_shared(program: &TileProgram, tile: Tile) -> bool {
    let mut ops = Vec::new();
    visit(&program.body, &mut |op| ops.push(op));
    let mut reach = vec![tile];
    loop {
        let before = reach.len();
        for op in &ops {
            match op {
                Op::Map { out, expr }
                    if !reach.contains(out) && tiles_of(expr).iter().any(|t| reach.contains(t)) =>
                {
                    reach.push(*out);
                }
                Op::Convert { out, src } if reach.contains(src) => {
                    if matches!(program.tiles[*out].place, Place::Shared { .. }) {
                        return true;
                    }
                    if !reach.contains(out) {
                        reach.push(*out);
                    }
                }
                _ => {}
            }
        }
        if reach.len() == before {
            return false;
        }
    }
}
