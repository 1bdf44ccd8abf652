//! Which part of a state a kernel reads that reads what an update leaves as it was.
//!
//! What: of `where(c, new, state[j])` the state is read where `c` fails. Where `c` is an interval of one axis and what is left of
//! the axis is one too, only that is in memory for it.
//! Why here: counts from plans speak of the same bytes as counters of a device, and lowered loads are masked so.
//! Pre: a read of a state that an update takes over, and the condition around it. Post: `None` where nothing is known.

use std::collections::BTreeMap;

use tilewright_ir::written::{AtLeast, Within, conditions};
use tilewright_ir::{Axis, Ex, Expr, Extent};

/// The axis of which a part is left, and the part: from the first position up to the second.
pub(super) fn left(
    c: &Ex,
    within: Within<'_>,
    extent: &dyn Fn(Extent) -> u64,
    seen: &dyn Fn(Axis) -> (u64, u64),
) -> Option<(Axis, u64, u64)> {
    let mut holds: BTreeMap<Axis, (i64, i64)> = BTreeMap::new();
    for condition in conditions(c, within)? {
        let (axis, times, number) = along(&condition, extent)?;
        let (from, to) = holds.entry(axis).or_insert((i64::MIN, i64::MAX));
        match times {
            1 => *from = (*from).max(-number),
            -1 => *to = (*to).min(number + 1),
            _ => return None,
        }
    }
    let (&axis, &(from, to)) = holds.iter().next().filter(|_| holds.len() == 1)?;
    let (first, end) = seen(axis);
    let (first, end) = (i64::try_from(first).ok()?, i64::try_from(end).ok()?);
    let (from, to) = (from.clamp(first, end), to.clamp(first, end));
    let (first, end) = match (from >= to, from == first, to == end) {
        (true, ..) => (first, end),
        (_, true, _) => (to, end),
        (_, _, true) => (first, from),
        _ => return None,
    };
    Some((axis, first.unsigned_abs(), end.unsigned_abs()))
}

/// A condition on the position along one axis, which counts so many times.
fn along(condition: &AtLeast, extent: &dyn Fn(Extent) -> u64) -> Option<(Axis, i64, i64)> {
    let mut found = None;
    let mut number = condition.number;
    for (e, &times) in &condition.terms {
        match &**e {
            Expr::Pos(a) if found.is_none() => found = Some((*a, times)),
            Expr::Size(s) => {
                let size = i64::try_from(extent(*s)).ok()?;
                number = number.checked_add(size.checked_mul(times)?)?;
            }
            _ => return None,
        }
    }
    found.map(|(a, times)| (a, times, number))
}
