//! What: the generic address space: which bits say which window.
//! Why here: `cvta`, `isspacep` and generic accesses must agree.
//! Pre: none.
//! Post: windows never overlap; a null pointer lies in none.

/// Generic address of shared memory.
pub(crate) const SHARED_BASE: u64 = 0x1000_0000_0000;
/// Bits of a shared address that say where in a block's memory; above them is the rank in the cluster, plus one,
/// or nothing for the block's own memory.
pub(crate) const RANK_SHIFT: u32 = 24;
/// Generic address of local memory.
pub(crate) const LOCAL_BASE: u64 = 0x2000_0000_0000;
/// Generic address of kernel parameters.
pub(crate) const PARAM_BASE: u64 = 0x3000_0000_0000;
/// Generic address of constant memory.
pub(crate) const CONST_BASE: u64 = 0x4000_0000_0000;
/// Where module variables start.
pub(crate) const MODULE_BASE: u64 = 0x5000_0000_0000;
/// Numbers of functions, for pointers to them; no memory lies there.
pub(crate) const FUNC_BASE: u64 = 0x6000_0000_0000;
/// Where allocations start.
pub(crate) const HEAP_BASE: u64 = 0x7000_0000_0000;

pub(crate) const GLOBAL_WINDOW: u64 = 0;
pub(crate) const SHARED_WINDOW: u64 = 1;
pub(crate) const LOCAL_WINDOW: u64 = 2;
pub(crate) const PARAM_WINDOW: u64 = 3;
pub(crate) const CONST_WINDOW: u64 = 4;

/// The window of a generic address; everything that is not special is global.
#[inline(always)]
pub(crate) fn window(a: u64) -> u64 {
    let w = a >> 44;
    if w <= CONST_WINDOW { w } else { GLOBAL_WINDOW }
}
