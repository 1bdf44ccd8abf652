//! Regions of memory: boxes of elements of a buffer, and which buffers share bytes.
//!
//! Why here: dependencies are overlaps of regions. A box may be larger than what is touched, never smaller.

use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::{Buffer, Extent};

/// A box: for each dimension the first and the last index. Empty when some first is beyond its last.
pub(crate) type Box_ = Vec<(i64, i64)>;

/// Whether two boxes of one buffer share an element.
pub(crate) fn meet(a: &Box_, b: &Box_) -> bool {
    a.iter().zip(b).all(|(x, y)| x.0 <= y.1 && y.0 <= x.1) && !empty(a) && !empty(b)
}

/// Whether a box holds no element.
pub(crate) fn empty(a: &Box_) -> bool {
    a.iter().any(|x| x.0 > x.1)
}

/// The smallest box that holds both.
pub(crate) fn hull(a: &mut Box_, b: &Box_) {
    if empty(b) {
        return;
    }
    if empty(a) {
        a.clone_from(b);
        return;
    }
    for (x, y) in a.iter_mut().zip(b) {
        *x = (x.0.min(y.0), x.1.max(y.1));
    }
}

/// The elements of a box.
pub(crate) fn volume(a: &Box_) -> u64 {
    a.iter().fold(1u64, |n, x| n.saturating_mul((x.1 - x.0 + 1).max(0).unsigned_abs()))
}

/// Where the bytes of a buffer are, at its largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The memory: buffers of different spaces share nothing.
    pub(crate) space: u32,
    /// The first byte and the one after the last.
    pub(crate) bytes: (u64, u64),
}

impl Place {
    /// Whether two buffers share bytes.
    pub(crate) fn meets(self, other: Place) -> bool {
        self.space == other.space && self.bytes.0 < other.bytes.1 && other.bytes.0 < self.bytes.1
    }

    /// Whether all bytes of the other are also this one's.
    pub(crate) fn covers(self, other: Place) -> bool {
        self.space == other.space && self.bytes.0 <= other.bytes.0 && other.bytes.1 <= self.bytes.1
    }
}

/// The extents of a buffer at its largest.
pub(crate) fn dims(step: &Step, buffer: Buffer) -> Vec<u64> {
    let of = |e: &Extent| match e {
        Extent::Const(n) => *n,
        Extent::Sym(s) => step.symbols[*s].max,
    };
    step.buffers[buffer].dims.iter().map(of).collect()
}

/// The place of each buffer: temporaries share the arena, the others lie apart. (Weights may be views of one tensor, but
/// nothing writes them.)
pub(crate) fn places(step: &Step) -> Vec<Place> {
    step.buffers
        .iter()
        .map(|(b, data)| {
            let bytes = dims(step, b).iter().fold(data.dtype.bytes() as u64, |n, &d| n.saturating_mul(d));
            match data.kind {
                BufferKind::Arena(at) => Place { space: u32::MAX, bytes: (at, at.saturating_add(bytes)) },
                _ => Place { space: b.as_u32(), bytes: (0, bytes.max(1)) },
            }
        })
        .collect()
}

/// Whether nothing may write a buffer while the step runs.
pub(crate) fn constant(kind: &BufferKind) -> bool {
    matches!(kind, BufferKind::Weight(_) | BufferKind::Table(_))
}
