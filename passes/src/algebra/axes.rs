//! Axes as the algebra sees them: whole, or cut into blocks.
//!
//! Cutting axis `k` writes its position as `B * k.outer + k.inner` for a block size `B` that stays symbolic.

use std::fmt;

use cranelift_entity::EntityRef;
use tilewright_ir::Axis;

/// Which part of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// All of it.
    Whole,
    /// Which block.
    Outer,
    /// Where in the block.
    Inner,
}

/// An axis or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubAxis {
    /// The axis.
    pub axis: Axis,
    /// The part.
    pub part: Part,
}

impl SubAxis {
    /// The whole axis.
    pub fn whole(axis: Axis) -> Self {
        SubAxis { axis, part: Part::Whole }
    }
    /// The block number.
    pub fn outer(axis: Axis) -> Self {
        SubAxis { axis, part: Part::Outer }
    }
    /// The position in the block.
    pub fn inner(axis: Axis) -> Self {
        SubAxis { axis, part: Part::Inner }
    }

    fn bit(self) -> usize {
        self.axis.index() * 3 + self.part as usize
    }
}

impl fmt::Display for SubAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Whole => write!(f, "{}", self.axis),
            Part::Outer => write!(f, "{}.o", self.axis),
            Part::Inner => write!(f, "{}.i", self.axis),
        }
    }
}

const WORDS: usize = 6;

/// The number of axes of one function that the algebra can hold.
pub const MAX_AXES: usize = WORDS * 64 / 3;

/// A set of axis parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AxisSet([u64; WORDS]);

impl AxisSet {
    /// The set of the given parts.
    pub fn of(parts: &[SubAxis]) -> Self {
        let mut s = AxisSet::default();
        for &p in parts {
            s.insert(p);
        }
        s
    }

    /// The set with all parts of its axes: what must not be free in a term that moves under a binder of these axes, lest a
    /// later cut of the binder captures it.
    pub fn all_parts(&self) -> Self {
        let parts = [Part::Whole, Part::Outer, Part::Inner];
        self.iter().flat_map(|p| parts.map(|part| SubAxis { axis: p.axis, part })).collect()
    }

    /// Adds a part.
    pub fn insert(&mut self, p: SubAxis) {
        self.0[p.bit() / 64] |= 1 << (p.bit() % 64);
    }

    /// Removes a part.
    pub fn remove(&mut self, p: SubAxis) {
        self.0[p.bit() / 64] &= !(1 << (p.bit() % 64));
    }

    /// Whether the part is in the set.
    pub fn contains(&self, p: SubAxis) -> bool {
        self.0[p.bit() / 64] >> (p.bit() % 64) & 1 == 1
    }

    /// The parts of either.
    pub fn union(mut self, other: AxisSet) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a |= b;
        }
        self
    }

    /// The parts of both.
    pub fn intersection(mut self, other: AxisSet) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a &= b;
        }
        self
    }

    /// The parts of `self` that are not in `other`.
    pub fn difference(mut self, other: AxisSet) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a &= !b;
        }
        self
    }

    /// Whether nothing is in both.
    pub fn is_disjoint(&self, other: &AxisSet) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| a & b == 0)
    }

    /// Whether all of `self` is in `other`.
    pub fn is_subset(&self, other: &AxisSet) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| a & !b == 0)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&w| w == 0)
    }

    /// The parts, in order.
    pub fn iter(&self) -> impl Iterator<Item = SubAxis> + '_ {
        (0..WORDS * 64)
            .filter(|i| self.0[i / 64] >> (i % 64) & 1 == 1)
            .map(|i| SubAxis { axis: Axis::new(i / 3), part: [Part::Whole, Part::Outer, Part::Inner][i % 3] })
    }
}

impl FromIterator<SubAxis> for AxisSet {
    fn from_iter<T: IntoIterator<Item = SubAxis>>(iter: T) -> Self {
        let mut s = AxisSet::default();
        for p in iter {
            s.insert(p);
        }
        s
    }
}
