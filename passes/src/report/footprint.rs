//! Which elements of a tensor a kernel touches.
//!
//! Each dimension of an access covers an interval of positions when its index is affine and dense, else a number of
//! positions. Accesses of one tensor are joined: one that lies within another adds nothing.

use indexmap::IndexMap;
use tilewright_ir::{Axis, Binary, Ex, Expr, Extent, Local, Value};

/// The most terms of an index whose range is looked for.
const TERMS: usize = 256;

/// What indices mean.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The positions of an axis.
    pub size: &'a dyn Fn(Axis) -> u64,
    /// Those of them that are looked at: from the first, up to the second.
    pub seen: &'a dyn Fn(Axis) -> (u64, u64),
    /// The value of an extent.
    pub extent: &'a dyn Fn(Extent) -> u64,
    /// The axes of a leaf.
    pub axes_of: &'a dyn Fn(&Expr) -> Vec<Axis>,
    /// The expression behind a local, if it is one.
    pub value_of: &'a dyn Fn(Local) -> Option<Ex>,
}

/// The positions of one dimension.
#[derive(Clone, Debug, PartialEq)]
enum Side {
    /// All from the first up to the second.
    Dense(i64, i64),
    /// So many, nobody knows which.
    Some(Ex, u64),
}

impl Side {
    fn count(&self) -> u64 {
        match self {
            Side::Dense(lo, hi) => hi.abs_diff(*lo),
            Side::Some(_, n) => *n,
        }
    }

    fn within(&self, other: &Side) -> bool {
        match (self, other) {
            (Side::Dense(a, b), Side::Dense(c, d)) => c <= a && b <= d,
            (a, b) => a == b,
        }
    }
}

/// What one access touches.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    sides: Vec<Side>,
    /// No more than there are positions of the axes that the indices mention together.
    most: u64,
}

impl Region {
    /// Distinct elements.
    pub fn elements(&self) -> u64 {
        self.sides.iter().map(Side::count).fold(1u64, u64::saturating_mul).min(self.most)
    }

    fn within(&self, other: &Region) -> bool {
        self.sides.len() == other.sides.len()
            && self.sides.iter().zip(&other.sides).all(|(a, b)| a.within(b))
            && other.elements() >= self.elements()
    }
}

/// The region of an access to a tensor of the given extents.
pub fn region(index: &[Ex], dims: &[u64], scope: &Scope) -> Region {
    let mut axes: Vec<Axis> = index.iter().flat_map(|i| i.free_axes_with(scope.axes_of)).collect();
    axes.sort_unstable();
    axes.dedup();
    let positions =
        |axes: &mut dyn Iterator<Item = Axis>| axes.map(|a| width(scope, a)).fold(1u64, u64::saturating_mul);
    let sides = index
        .iter()
        .zip(dims)
        .map(|(i, &extent)| {
            let most = positions(&mut i.free_axes_with(scope.axes_of).into_iter());
            match affine(i, scope) {
                Some(r) if r.count == r.hi.abs_diff(r.lo) + 1 => {
                    // What lies outside of the tensor is not in memory.
                    let end = i64::try_from(extent).unwrap_or(i64::MAX);
                    Side::Dense(r.lo.clamp(0, end), (r.hi + 1).clamp(0, end))
                }
                Some(r) => Side::Some(i.clone(), most.min(r.count).min(extent)),
                None => Side::Some(i.clone(), most.min(extent)),
            }
        })
        .collect();
    Region { sides, most: positions(&mut axes.into_iter()) }
}

/// Positions of an axis that are looked at.
fn width(scope: &Scope, a: Axis) -> u64 {
    let (from, to) = (scope.seen)(a);
    to.saturating_sub(from)
}

/// Values of an index: the least, the greatest, and how many at most.
pub(super) struct Range {
    pub(super) lo: i64,
    pub(super) hi: i64,
    count: u64,
}

/// The range of an index that is built from positions, sizes and literals.
pub(super) fn affine(e: &Ex, scope: &Scope) -> Option<Range> {
    range(e, scope, &mut { TERMS })
}

/// The same of an index of no more than so many terms.
fn range(e: &Ex, scope: &Scope, terms: &mut usize) -> Option<Range> {
    *terms = terms.checked_sub(1)?;
    let point = |n: i64| Range { lo: n, hi: n, count: 1 };
    let width = |lo: i64, hi: i64| hi.abs_diff(lo).saturating_add(1);
    Some(match &**e {
        Expr::Num(n) if n.0.fract() == 0.0 => point(n.0 as i64),
        Expr::Size(s) => point(i64::try_from((scope.extent)(*s)).ok()?),
        Expr::Pos(a) => {
            let (from, to) = (scope.seen)(*a);
            let (lo, end) = (i64::try_from(from).ok()?, i64::try_from(to).ok()?);
            Range { lo, hi: end.max(lo + 1) - 1, count: to.saturating_sub(from).max(1) }
        }
        Expr::Local(l) => range(&(scope.value_of)(*l)?, scope, terms)?,
        Expr::Binary(op, a, b) => {
            let (x, y) = (range(a, scope, terms)?, range(b, scope, terms)?);
            let all = x.count.saturating_mul(y.count);
            match op {
                Binary::Add => {
                    let (lo, hi) = (x.lo.checked_add(y.lo)?, x.hi.checked_add(y.hi)?);
                    Range { lo, hi, count: all.min(width(lo, hi)) }
                }
                Binary::Sub => {
                    let (lo, hi) = (x.lo.checked_sub(y.hi)?, x.hi.checked_sub(y.lo)?);
                    Range { lo, hi, count: all.min(width(lo, hi)) }
                }
                Binary::Mul if x.count == 1 || y.count == 1 => {
                    let ends = [x.lo.checked_mul(y.lo)?, x.lo.checked_mul(y.hi)?, x.hi.checked_mul(y.hi)?];
                    Range { lo: *ends.iter().min()?, hi: *ends.iter().max()?, count: all }
                }
                Binary::FloorDiv if y.count == 1 && y.lo > 0 => {
                    let (lo, hi) = (x.lo.div_euclid(y.lo), x.hi.div_euclid(y.lo));
                    Range { lo, hi, count: x.count.min(width(lo, hi)) }
                }
                Binary::Mod if y.count == 1 && y.lo > 0 => {
                    // Consecutive values go around; others may leave gaps.
                    let dense = x.count == width(x.lo, x.hi);
                    if !dense {
                        return None;
                    }
                    if x.count >= y.lo.unsigned_abs() {
                        Range { lo: 0, hi: y.lo - 1, count: y.lo.unsigned_abs() }
                    } else {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// The regions of tensors, in order of first access.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    regions: IndexMap<Value, Vec<Region>>,
}

impl Touched {
    /// Adds an access.
    pub fn add(&mut self, v: Value, region: Region) {
        let known = self.regions.entry(v).or_default();
        if known.iter().any(|k| region.within(k)) {
            return;
        }
        known.retain(|k| !k.within(&region));
        known.push(region);
    }

    /// Adds all accesses of another.
    pub fn merge(&mut self, other: &Touched) {
        for (&v, regions) in &other.regions {
            for r in regions {
                self.add(v, r.clone());
            }
        }
    }

    /// The tensors.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        self.regions.keys().copied()
    }

    /// Distinct elements of a tensor, at most; the tensor's own size is the caller's to know.
    pub fn elements(&self, v: Value) -> u64 {
        self.regions.get(&v).map_or(0, |r| r.iter().map(Region::elements).fold(0, u64::saturating_add))
    }
}
