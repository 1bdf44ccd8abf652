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
use tilewright_ir::{Axis, Tile};

use crate::access::{Access, mentions, tiles_of};
use crate::emit::{shared_bytes, vector_bytes};
use crate::layout::visit;
use crate::rows::{Rows, UNIT};
use crate::target::Target;
use crate::{CodegenError, SHARED_LIMIT};

/// The most stages of a ring.
const MOST_STAGES: u32 = 16;
/// The most rows that are worth copying one by one, and the fewest bytes of a row.
const MOST_ROWS: u64 = 128;
pub(crate) const LEAST_ROW: u64 = 64;

/// A load that may run ahead.
struct Candidate {
    tile: Tile,
    copier: Copier,
    /// Bytes of a stage.
    stage: u64,
    constant: bool,
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
    stream_within(program, target, target.ring_budget(), &|_| true)
}

/// The same with so many bytes of shared memory, for some tiles.
pub(crate) fn stream_within(
    program: &TileProgram,
    target: Target,
    budget: u64,
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
    let free = u64::from(SHARED_LIMIT).saturating_sub(shared_bytes(program)? + 1024);
    let budget = budget.min(free) / streams.len() as u64;
    for mut stream in streams {
        let (loads, stages) = stream.fit(budget);
        for load in loads {
            out.tiles[load.tile].ring = Some(Ring { stages, copier: load.copier });
        }
    }
    Ok(out)
}

impl Stream {
    /// The loads that fit, what is read only once and large first, and their stages.
    fn fit(&mut self, budget: u64) -> (Vec<Candidate>, u32) {
        let least = self.trips.unwrap_or(2).min(2);
        let mut loads = std::mem::take(&mut self.loads);
        loads.sort_by_key(|c| (!c.constant, std::cmp::Reverse(c.stage), c.tile));
        let mut taken = Vec::new();
        let mut total = 0;
        for load in loads {
            if (total + load.stage) * least <= budget {
                total += load.stage;
                taken.push(load);
            }
        }
        let most = self.trips.unwrap_or(u64::MAX).min(u64::from(MOST_STAGES)).next_power_of_two();
        let mut stages = 1u32;
        while u64::from(stages) * 2 <= most && total * u64::from(stages) * 2 <= budget {
            stages *= 2;
        }
        (taken, stages)
    }
}

fn collect(program: &TileProgram, body: &[Op], target: Target, out: &mut Vec<Stream>) {
    for op in body {
        let Op::Loop { axis, range, body, .. } = op else { continue };
        let data = &program.axes[*axis];
        let known = data.runs.is_none() && range.is_whole();
        let trips = data.extent.as_const().filter(|_| known).map(|n| n.div_ceil(u64::from(data.block)));
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
    if feeds_shared(program, *out) {
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
        return Some(Candidate {
            tile: *out,
            copier: Copier::Bulk { pad },
            stage: rows.stage(pad),
            constant,
        });
    }
    // What several warps hold each of them would copy for itself.
    if (vector as u64) < UNIT || layout.warps.iter().any(Option::is_none) {
        return None;
    }
    let stage = threads_stage(program, layout, vector, program.params[*param].dtype.bytes());
    Some(Candidate { tile: *out, copier: Copier::Threads, stage, constant })
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
