//! Choosing blocks and roles.
//!
//! Wishes first (`wish`): contractions (`products`) ask for tiles that feed tensor cores or register tiles, long reductions for
//! wide contiguous reads, everything else for a contiguous row (`deal`); what is dear to compute (`work`) is not to be repeated.
//! Then every tile that the lowering would make is checked against the capacity of a thread block, and the largest block in a
//! tile that is too large is halved until all fit (`shrink`).

mod deal;
mod products;
mod shrink;
mod wish;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan};
use tilewright_ir::tile::Role;
use tilewright_ir::{Axis, DType, Ex, Expr, Extent, Local, Reduction, Sym, SymData};

pub use products::worth;

/// Elements of the largest tile that is held in registers, per thread block.
pub const TILE_ELEMENTS: u64 = 8192;

/// Rows of one instruction of tensor cores.
const ROWS: u64 = 16;

/// The fewest terms of a sum for which a few columns are worth tensor cores: what is padded to whole instructions costs
/// as much as what is not, and the sums of attention scores are shorter.
const LONG_SUM: u64 = 256;

/// Rows or columns of a block of a product of which there are many of both.
pub(crate) const WIDE: u64 = 64;

/// Positions of axes that a block holds whole.
const RESIDENT: u64 = 256;

/// Blocks and roles for a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// Blocks of grid axes.
    pub grid: BTreeMap<Axis, (u32, Role)>,
    /// Blocks of axes that reductions bind.
    pub bound: BTreeMap<Axis, (u32, Role)>,
    /// Warps of a thread block.
    pub warps: u32,
    /// The fewest columns with which a product goes to tensor cores.
    pub columns: u64,
    /// Whether a product of a packed weight with 16 columns or more has all of them in each block.
    pub beside: bool,
}

struct Chooser<'a> {
    plan: &'a Plan,
    kernel: &'a KernelPlan,
    symbols: &'a PrimaryMap<Sym, SymData>,
    /// The 16-bit type that operands may be rounded to.
    narrow: Option<DType>,
    /// Whether products of many rows and few columns may go to tensor cores.
    few_columns: bool,
    /// Whether the kernel has a product of many rows and few columns on tensor cores.
    skinny: bool,
    /// Whether a product of a packed weight with 16 columns or more has all of them in each block.
    beside: bool,
    /// Whether products within a pass go to tensor cores however few columns they have.
    padded: bool,
    /// Whether a tile fits only because a pass that folds is cut where that is dear.
    cut: bool,
    /// Axes that each local spans when it is computed, its own streamed axes excluded.
    streamed: BTreeSet<Axis>,
    blocks: BTreeMap<Axis, u32>,
    /// The axes that are dealt out to blocks, and how many of their positions, if that is not for the kernel to choose. What
    /// else is in its grid a block goes through.
    rows: Option<&'a BTreeMap<Axis, u32>>,
    /// Axes of the grid that blocks hold whole, because a reduction over them reduces what took a pass to compute.
    whole: BTreeSet<Axis>,
}

/// Chooses for a kernel. `narrow` is the 16-bit type that operands of contractions may be rounded to.
pub fn choose(
    plan: &Plan,
    kernel: &KernelPlan,
    symbols: &PrimaryMap<Sym, SymData>,
    narrow: Option<DType>,
) -> Blocks {
    choose_within(plan, kernel, symbols, narrow, None)
}

/// The same for a kernel of which a block has so many positions along some axes of its grid, and all along the others.
pub fn choose_within(
    plan: &Plan,
    kernel: &KernelPlan,
    symbols: &PrimaryMap<Sym, SymData>,
    narrow: Option<DType>,
    rows: Option<&BTreeMap<Axis, u32>>,
) -> Blocks {
    let streamed: BTreeSet<Axis> = kernel
        .locals
        .values()
        .filter_map(|l| match l.def {
            LocalDef::Block { axis, .. } | LocalDef::Running { axis, .. } | LocalDef::Fold { axis, .. } => {
                Some(axis)
            }
            _ => None,
        })
        .chain(kernel.runs.map(|r| r.axis))
        .collect();
    let fresh = |few_columns: bool, padded: bool| {
        let mut c = Chooser {
            plan,
            kernel,
            symbols,
            narrow,
            few_columns,
            skinny: false,
            beside: false,
            padded,
            cut: false,
            streamed: streamed.clone(),
            blocks: BTreeMap::new(),
            rows,
            whole: BTreeSet::new(),
        };
        c.wish();
        // A block is of one run.
        c.blocks.extend(kernel.runs.map(|r| (r.number, 1)));
        c.blocks.extend(rows.into_iter().flatten().map(|(&a, &block)| (a, block)));
        c.shrink();
        c
    };
    // One warp is not enough for a block that has a multiprocessor to itself.
    let mut c = fresh(rows.is_none(), false);
    if c.skinny && !c.columns_fit() {
        c = fresh(false, false);
    }
    // Products of operand tiles take fewer registers than what is multiplied element by element.
    if c.cut {
        let other = fresh(false, true);
        if !other.cut && other.passes_dot() {
            c = other;
        }
    }
    c.finish()
}

impl Chooser<'_> {
    /// An upper bound of the positions of an axis, or of those that a block may have.
    fn most(&self, a: Axis) -> u64 {
        if let Some(&block) = self.rows.and_then(|r| r.get(&a)) {
            return u64::from(block);
        }
        match self.plan.axes[a].extent {
            Extent::Const(n) => n.max(1),
            Extent::Sym(s) => self.symbols[s].max.max(1),
        }
    }

    fn cover(&self, a: Axis, want: u64) -> u32 {
        // At most `want`, and no more than covers the axis.
        self.most(a).next_power_of_two().min(1 << want.max(1).ilog2()) as u32
    }

    fn is_row(&self, a: Axis) -> bool {
        self.rows.is_some_and(|r| r.contains_key(&a))
    }

    fn is_grid(&self, a: Axis) -> bool {
        self.kernel.grid.contains(&a)
    }

    /// The axes that an expression spans, through locals.
    fn axes(&self, e: &Ex) -> BTreeSet<Axis> {
        e.free_axes_with(&|leaf| match leaf {
            Expr::Local(l) => self.kernel.locals[*l].axes.clone(),
            _ => Vec::new(),
        })
    }

    fn reductions(&self) -> Vec<(Local, Reduction, Vec<Axis>, Ex)> {
        self.kernel
            .locals
            .iter()
            .filter_map(|(l, d)| match &d.def {
                LocalDef::Reduce { op, axes, body } => Some((l, *op, axes.clone(), body.clone())),
                LocalDef::Block { op, axis, body } => Some((l, *op, vec![*axis], body.clone())),
                _ => None,
            })
            .collect()
    }

    fn total(&self, axes: &BTreeSet<Axis>) -> u64 {
        axes.iter().map(|&a| self.most(a)).fold(1, u64::saturating_mul)
    }

    fn exprs(&self) -> Vec<Ex> {
        let locals = self.kernel.locals.values().flat_map(|l| l.def.exprs());
        locals.chain(self.kernel.stores.iter().map(|s| &s.expr)).cloned().collect()
    }

    fn block(&self, a: Axis) -> u64 {
        u64::from(self.blocks.get(&a).copied().unwrap_or(1))
    }

    fn product(&self, axes: &BTreeSet<Axis>) -> u64 {
        axes.iter().map(|&a| self.block(a)).fold(1, u64::saturating_mul)
    }

    /// Whether one block holds an axis.
    fn covers(&self, a: Axis) -> bool {
        matches!(self.plan.axes[a].extent, Extent::Const(n) if n > 0 && self.block(a) >= n)
    }

    fn finish(self) -> Blocks {
        let mut grid = BTreeMap::new();
        let mut bound = BTreeMap::new();
        let covers = |a: Axis, b: u32| matches!(self.plan.axes[a].extent, Extent::Const(n) if n > 0 && u64::from(b) >= n);
        for &a in &self.kernel.grid {
            let b = self.block(a) as u32;
            let role = match self.rows {
                _ if covers(a, b) => Role::Resident,
                Some(_) if !self.is_row(a) => Role::Loop,
                _ => Role::Grid,
            };
            grid.insert(a, (b, role));
        }
        let mut all: BTreeSet<Axis> = self.reductions().into_iter().flat_map(|(_, _, a, _)| a).collect();
        all.extend(self.streamed.iter().copied());
        for a in all {
            let b = self.block(a) as u32;
            let loops = self.streamed.contains(&a) || !covers(a, b);
            bound.insert(a, (b, if loops { Role::Loop } else { Role::Resident }));
        }
        // A warp keeps up with what memory delivers, and several blocks share an SM.
        let warps = if self.skinny { 1 } else { 4 };
        Blocks { grid, bound, warps, columns: self.columns(), beside: self.beside }
    }
}
