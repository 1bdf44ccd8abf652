//! Blocks small enough for their weights to be on their way before a task begins.
//!
//! What: what a block copies may be more than the ring of pages holds; the rest is copied only once the block has begun to
//! compute. Where that is too much of a step, [`narrow`] halves the blocks of the kernel that has most of it, as long as a
//! program with the same results allows it.
//! Why here: launches have no use for it: they are better off with long pieces, and their blocks share no memory. How much
//! there is room for is known once all tasks of a step are.
//! Pre: a step and its programs. Post: a step that computes the same bits; blocks are no smaller than needed.

use std::collections::BTreeMap;

use tilewright_codegen::{Target, halve};
use tilewright_ir::Extent;
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;

use crate::MegaError;
use crate::graph::kinds;
use crate::page_size::behind;
use crate::pages::Bodies;

/// The part of the copied bytes that fit the ring before their task begins, at least.
const AHEAD: f64 = 0.9;
/// Blocks are halved so many times in all, at most.
const MOST: usize = 16;

/// The step with blocks of which the ring holds enough, where there are any.
pub fn narrow(
    step: &Step,
    programs: &[TileProgram],
    target: Target,
) -> Result<(Step, Vec<TileProgram>), MegaError> {
    let (mut step, mut programs) = (step.clone(), programs.to_vec());
    let (mut all, mut late) = weigh(&step, &programs, target)?;
    for _ in 0..MOST {
        let sum: u64 = late.values().sum();
        if sum as f64 <= (1.0 - AHEAD) * all as f64 {
            break;
        }
        let mut order: Vec<(u64, u32)> = late.iter().map(|(&kind, &bytes)| (bytes, kind)).collect();
        order.sort_by_key(|&(bytes, kind)| (std::cmp::Reverse(bytes), kind));
        let mut found = None;
        for (_, kind) in order.into_iter().filter(|o| o.0 > 0) {
            let Some(tried) = halved(&step, &programs, kind)? else { continue };
            let (all, late) = weigh(&tried.0, &tried.1, target)?;
            if late.values().sum::<u64>() < sum {
                found = Some((tried, all, late));
                break;
            }
        }
        let Some(better) = found else { break };
        ((step, programs), all, late) = better;
    }
    Ok((step, programs))
}

/// A kind of task with half the blocks along the first axis that allows it.
fn halved(
    step: &Step,
    programs: &[TileProgram],
    kind: u32,
) -> Result<Option<(Step, Vec<TileProgram>)>, MegaError> {
    let program = &programs[kind as usize];
    for (at, (axis, _)) in program.grid().enumerate() {
        let Some(half) = halve(program, axis)? else { continue };
        let (mut step, mut programs) = (step.clone(), programs.to_vec());
        for launch in step.launches.iter_mut().filter(|l| l.kernel == half.name) {
            if let Some(grid) = launch.grid.get_mut(at) {
                grid.block = half.axes[axis].block;
            }
        }
        programs[kind as usize] = half;
        return Ok(Some((step, programs)));
    }
    Ok(None)
}

/// Bytes of a step that are copied through the ring, and by kind those of them that do not fit beside what comes before
/// them in the same block.
fn weigh(
    step: &Step,
    programs: &[TileProgram],
    target: Target,
) -> Result<(u64, BTreeMap<u32, u64>), MegaError> {
    let bodies = Bodies::new(step, programs, target)?;
    let ring = bodies.pages().map_or(0, |(count, _)| u64::from(count));
    let mut known: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let (mut all, mut late) = (0, BTreeMap::new());
    for (launch, kind) in step.launches.iter().zip(kinds(step, programs)?) {
        let (copied, own) = *known.entry(kind).or_insert_with(|| {
            // Fed tasks have grids that no symbol changes.
            let blocks = launch.grid.iter().map(|g| match g.extent {
                Extent::Const(n) => n.div_ceil(u64::from(g.block.max(1))),
                Extent::Sym(_) => 1,
            });
            let (mut copied, mut late) = (0, 0);
            for block in 0..blocks.product() {
                let stages = bodies.stages(kind, block);
                copied += stages.iter().map(|s| s.count * s.bytes).sum::<u64>();
                late += behind(ring, stages);
            }
            (copied, late)
        });
        all += copied;
        *late.entry(kind).or_insert(0) += own;
    }
    Ok((all, late))
}
