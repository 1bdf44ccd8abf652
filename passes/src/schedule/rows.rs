//! How many rows a block of a chain has.
//!
//! Why here: what kernels of a chain pass to one another is memory of the block, so the rows of a block are what there is room
//! for. Counts, and all kernels of the chain, must agree on it.
//!
//! Pre: a verified plan. Post: a power of two for each axis that is dealt out to blocks; what is kept at one time fits.

use std::collections::BTreeMap;
use std::ops::Range;

use tilewright_ir::chain::{Chain, chain};
use tilewright_ir::plan::Plan;
use tilewright_ir::{Axis, Extent, Value};

use crate::PassError;
use crate::partition::build::reads;
use crate::report::value_name;

/// Bytes of shared memory for what a block keeps: three quarters of what a block has on any target. Tiles and what is on its way
/// need the rest.
const KEPT: u64 = 74 << 10;

/// The most rows of a block: more are no fewer bytes from memory, and there are to be many blocks.
const MOST: u64 = 16;

/// The axes that are dealt out to blocks of a chain and how many of their positions a block has; `None` for a kernel alone.
pub fn of(plan: &Plan, kernels: Range<usize>) -> Result<Option<BTreeMap<Axis, u32>>, PassError> {
    let members: Vec<usize> = kernels.clone().collect();
    if members.len() < 2 {
        return Ok(None);
    }
    let chain = chain(plan, &members);
    let (mut rows, mut others): (Vec<Axis>, Vec<Axis>) =
        chain.rows.iter().partition(|&&a| matches!(plan.axes[a].extent, Extent::Sym(_)));
    others.reverse();
    // Of axes of constant extents blocks have all positions, if there is room for them.
    loop {
        let row = most(plan, &members, &chain, &rows)?;
        let room = (KEPT / row.max(1)).min(MOST);
        if room > 0 {
            // The last of them is the longest: the first are those of a batch.
            let last = rows.iter().rposition(|&a| matches!(plan.axes[a].extent, Extent::Sym(_)));
            let block = |n: usize| if Some(n) == last { 1 << room.ilog2() } else { 1 };
            return Ok(Some(rows.iter().enumerate().map(|(n, &a)| (a, block(n))).collect()));
        }
        let Some(more) = others.pop() else {
            return Err(PassError::Limit(format!(
                "a block of `{}` would keep {row} bytes for each row, and there is room for {KEPT}",
                plan.kernels[kernels.start].name
            )));
        };
        rows.insert(0, more);
    }
}

/// The most bytes that a block keeps at one time for one row.
fn most(plan: &Plan, members: &[usize], chain: &Chain, rows: &[Axis]) -> Result<u64, PassError> {
    // When each value is stored first and read last.
    let mut lives: Vec<(usize, usize, u64)> = Vec::new();
    for &v in &chain.kept {
        let first = members.iter().position(|&k| plan.kernels[k].stores.iter().any(|s| s.value == v));
        let last = members.iter().rposition(|&k| reads(&plan.kernels[k]).contains(&v));
        let (Some(first), Some(last), Some(bytes)) = (first, last, bytes(plan, v, rows)) else {
            return Err(PassError::Limit(format!(
                "a block would keep `{}` for all positions of an axis of unknown extent",
                value_name(plan, v)
            )));
        };
        lives.push((first, last, bytes));
    }
    let at = |k: usize| lives.iter().filter(|l| (l.0..=l.1).contains(&k)).map(|l| l.2).sum();
    Ok((0..members.len()).map(at).max().unwrap_or(0))
}

/// Bytes of a value for one position along the rows, if its other axes have constant extents.
fn bytes(plan: &Plan, v: Value, rows: &[Axis]) -> Option<u64> {
    let data = plan.values.get(v)?;
    let others = data.axes.iter().filter(|a| !rows.contains(a));
    let elements =
        others.map(|&a| plan.axes[a].extent.as_const()).try_fold(1u64, |n, e| n.checked_mul(e?))?;
    elements.checked_mul(data.dtype.bytes() as u64)
}
