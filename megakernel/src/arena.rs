//! Memory of temporaries for a step that is one kernel.
//!
//! Why here: between separate launches memory that is used again costs nothing, because everything waits anyway. Within one
//! kernel whoever writes it must wait for all who read what was there, which nothing else asks for.
//! Post: temporaries share no bytes, as long as all of them together are small; nothing else changes.

use tilewright_ir::Extent;
use tilewright_ir::step::{BufferKind, Step};

/// All temporaries together, at most: what a step with few sequences has is far less, and stays in the caches.
const MOST: u64 = 256 << 20;
/// Places are multiples of it.
const ALIGN: u64 = 256;

/// The step with a place of its own for each temporary.
pub fn spread(step: &Step) -> Step {
    let mut out = step.clone();
    let size = |e: &Extent| match e {
        Extent::Const(n) => *n,
        Extent::Sym(s) => step.symbols[*s].max,
    };
    let mut end = 0u64;
    for data in out.buffers.values_mut() {
        if !matches!(data.kind, BufferKind::Arena(_)) {
            continue;
        }
        let elements = data.dims.iter().fold(1u64, |n, d| n.saturating_mul(size(d)));
        let bytes = elements.saturating_mul(data.dtype.bytes() as u64).max(1);
        data.kind = BufferKind::Arena(end);
        end = end.saturating_add(bytes.min(MOST + 1).next_multiple_of(ALIGN));
    }
    if end > MOST {
        return step.clone();
    }
    out.arena_bytes = end;
    out
}
