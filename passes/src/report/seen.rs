//! Which positions of a streamed axis a kernel looks at.
//!
//! What: where a mask makes all that a kernel reduces over an axis nothing, its loop leaves blocks out. The positions that some
//! thread block visits, and how many one visits on average.
//! Why here: a window reads its window, and a causal mask halves the work; a count that does not know this would prefer
//! plans for the wrong reason.
//! Pre: a kernel of a verified plan, and its blocks. Post: whole blocks, at least one; bounds that depend on data, or on
//! more than the positions of the grid, are none.

use std::collections::BTreeMap;

use tilewright_ir::plan::{KernelPlan, LocalDef};
use tilewright_ir::{Axis, Expr, Local};

use super::footprint::{Scope, affine};
use crate::schedule::support::{Bound, Supports};

/// What is looked at of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The first position that any thread block looks at.
    pub from: u64,
    /// The end of what any thread block looks at.
    pub to: u64,
    /// How many positions one thread block looks at, on average.
    pub mean: f64,
}

/// An end of what is looked at: by the thread block that looks farthest, and on average.
struct Ends {
    most: i64,
    mean: f64,
}

impl Ends {
    fn at(place: i64) -> Ends {
        Ends { most: place, mean: place as f64 }
    }
}

/// The mean of what grows evenly from `lo` to `hi`, where it is kept within 0 and `end`.
fn mean_within(lo: f64, hi: f64, end: f64) -> f64 {
    if hi - lo < 1.0 {
        return lo.clamp(0.0, end);
    }
    // The integral of the kept value up to x.
    let up_to = |x: f64| {
        let inside = x.clamp(0.0, end);
        inside * inside / 2.0 + (x - end).max(0.0) * end
    };
    (up_to(hi) - up_to(lo)) / (hi - lo)
}

/// The axes of which a kernel sees a part only. `loops` are the axes that it streams, with their blocks; `within` is the
/// scope of one thread block.
pub(super) fn seen(
    kernel: &KernelPlan,
    loops: impl Iterator<Item = (Axis, u64)>,
    scope: &Scope,
    within: &Scope,
) -> BTreeMap<Axis, Seen> {
    let supports = Supports::new(&kernel.locals);
    let mut out = BTreeMap::new();
    for (axis, block) in loops {
        let over = |def: &LocalDef| match def {
            LocalDef::Reduce { axes, .. } => axes.contains(&axis),
            LocalDef::Running { axis: a, .. } | LocalDef::Fold { axis: a, .. } => *a == axis,
            LocalDef::Map(_) | LocalDef::Block { .. } => false,
        };
        let members: Vec<Local> =
            kernel.locals.iter().filter(|(_, d)| over(&d.def)).map(|(l, _)| l).collect();
        let extent = (scope.size)(axis);
        let end = i64::try_from(extent).unwrap_or(i64::MAX);
        if block == 0 || block >= extent {
            continue;
        }
        let (mut from, mut to) = (Ends::at(0), Ends::at(end));
        for bound in supports.of(&members, axis).into_iter().flatten() {
            let (Bound::From(e) | Bound::To(e)) = &bound;
            let known = e.free_axes().iter().all(|a| kernel.grid.contains(a));
            let mut data = false;
            e.visit(&mut |e| data |= matches!(e, Expr::Read(..)));
            let (Some(all), Some(one)) = (affine(e, scope), affine(e, within)) else { continue };
            if !known || data {
                continue;
            }
            // Within a thread block the ends differ by so much, and a block of the loop is visited whole.
            let beyond = ((one.hi - one.lo) as f64 + block as f64) / 2.0;
            let mean = mean_within(all.lo as f64, all.hi as f64, end as f64);
            match bound {
                Bound::From(_) => {
                    from.most = from.most.max(all.lo.clamp(0, end));
                    from.mean = from.mean.max(mean - beyond);
                }
                Bound::To(_) => {
                    to.most = to.most.min(all.hi.clamp(0, end));
                    to.mean = to.mean.min(mean + beyond);
                }
            }
        }
        if from.most == 0 && from.mean == 0.0 && to.most == end && to.mean == end as f64 {
            continue;
        }
        let first = from.most.unsigned_abs() / block * block;
        let last = to.most.unsigned_abs().div_ceil(block).saturating_mul(block).min(extent);
        // One block is always visited.
        let (first, last) = if last > first {
            (first, last)
        } else {
            let first = first.min((extent - 1) / block * block);
            (first, (first + block).min(extent))
        };
        let most = (last - first) as f64;
        let mean = (to.mean - from.mean).clamp((block as f64).min(most), most);
        out.insert(axis, Seen { from: first, to: last, mean });
    }
    out
}
