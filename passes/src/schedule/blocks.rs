//! Choosing blocks and roles.
//!
//! Wishes first: contractions ask for tiles that feed tensor cores or register tiles, long reductions for wide
//! contiguous reads, everything else for a contiguous row. Then every tile that the lowering would make is checked
//! against the capacity of a thread block, and the largest block in a tile that is too large is halved until all fit.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::plan::{KernelPlan, LocalDef, Plan};
use tilewright_ir::tile::Role;
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Local, Reduction, Sym, SymData};

use super::contract::{factors, nearness, packed, split};

/// Elements of the largest tile that is held in registers, per thread block.
pub const TILE_ELEMENTS: u64 = 8192;

/// Columns of one instruction of tensor cores.
const COLUMNS: u64 = 8;

/// Rows of one instruction of tensor cores.
const ROWS: u64 = 16;

/// The fewest terms of a sum for which a few columns are worth tensor cores: what is padded to whole instructions costs
/// as much as what is not, and the sums of attention scores are shorter.
const LONG_SUM: u64 = 256;

/// Rows or columns of a block of a product of which there are many of both.
pub(crate) const WIDE: u64 = 64;

/// Blocks that leave few multiprocessors of a large device idle, and blocks that draw its bandwidth all the same.
const BUSY: u64 = 96;
const ENOUGH: u64 = 48;

/// A product with fewer terms than one of so many of another reduction's has no say in blocks.
const LIGHT: f64 = 64.0;

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

/// A tile that the lowering makes: the axes it spans.
struct Demand {
    axes: BTreeSet<Axis>,
    limit: u64,
}

/// A summed product.
struct Contraction {
    /// The reduction.
    of: Local,
    summed: BTreeSet<Axis>,
    a: BTreeSet<Axis>,
    b: BTreeSet<Axis>,
    /// Axes that both operands have.
    shared: BTreeSet<Axis>,
    /// Whether both operands have one type of 16 bits, or may be rounded to it.
    half: bool,
    /// Whether an operand is a packed weight.
    packed: bool,
    work: f64,
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

    /// Factors of a body, looking through locals that only name a product.
    fn factors(&self, e: &Ex) -> Vec<Ex> {
        factors(e)
            .into_iter()
            .flat_map(|f| match &*f {
                Expr::Local(l) => match &self.kernel.locals[*l].def {
                    LocalDef::Map(m) if matches!(&**m, Expr::Binary(Binary::Mul, ..)) => factors(m),
                    _ => vec![f],
                },
                _ => vec![f],
            })
            .collect()
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

    fn contractions(&self) -> Vec<Contraction> {
        let mut out = Vec::new();
        for (of, op, summed, body) in self.reductions() {
            if op != Reduction::Sum {
                continue;
            }
            let summed: BTreeSet<Axis> = summed.into_iter().collect();
            // Axes of one position do not keep operands apart.
            let wide = |e: &Ex| -> BTreeSet<Axis> {
                self.axes(e).into_iter().filter(|&a| self.most(a) > 1).collect()
            };
            let fs = self.factors(&body);
            let real: BTreeSet<Axis> = summed.iter().copied().filter(|&a| self.most(a) > 1).collect();
            // Axes that both operands have are batched: they do not keep the product from being a contraction.
            let sets: Vec<BTreeSet<Axis>> = fs.iter().map(&wide).collect();
            let all: BTreeSet<Axis> = sets.iter().flatten().copied().collect();
            let with_sum: Vec<&BTreeSet<Axis>> = sets.iter().filter(|s| !s.is_disjoint(&real)).collect();
            let shared: BTreeSet<Axis> = all
                .iter()
                .copied()
                .filter(|a| {
                    !real.contains(a)
                        && with_sum.len() > 1
                        && with_sum.iter().filter(|s| s.contains(a)).count() > 1
                })
                .collect();
            let unshared = |e: &Ex| wide(e).difference(&shared).copied().collect::<BTreeSet<Axis>>();
            let weight = |e: &Ex| matches!(&**e, Expr::Read(v, _) if self.plan.is_constant(*v));
            if let Some(s) = split(&fs, &real, &unshared, &weight) {
                let span = |es: &[Ex]| -> BTreeSet<Axis> {
                    es.iter().flat_map(&unshared).filter(|a| !real.contains(a)).collect()
                };
                let work = all.iter().map(|&a| self.most(a) as f64).product();
                let (a, b) = (span(&s.a), span(&s.b));
                let half = self.half(&s.a, &s.b);
                let packed = !packed(self.plan, self.kernel, &body, &self.kernel.locals[of].axes).is_empty();
                out.push(Contraction { of, summed: real, a, b, shared: shared.clone(), half, packed, work });
            }
        }
        out
    }

    /// Whether two operands have one type of 16 bits, those that are read as they are, or may be rounded to it, those that are
    /// computed. The lowering decides the same.
    fn half(&self, a: &[Ex], b: &[Ex]) -> bool {
        let read = |factors: &[Ex]| match factors {
            [one] => match &**one {
                Expr::Read(v, _) => Some(self.plan.values[*v].dtype),
                _ => None,
            },
            _ => None,
        };
        let half = |d: DType| matches!(d, DType::Bf16 | DType::F16);
        match (read(a), read(b)) {
            (Some(x), Some(y)) => x == y && half(x),
            (Some(x), None) | (None, Some(x)) => half(x) && self.narrow == Some(x),
            (None, None) => self.narrow.is_some(),
        }
    }

    /// Whether a product with few positions on one side goes to tensor cores: a long sum of known length, outside of what
    /// is folded.
    fn on_columns(&self, c: &Contraction) -> bool {
        let few = self.total(&c.a).min(self.total(&c.b));
        let known =
            |&a: &Axis| matches!(self.plan.axes[a].extent, Extent::Const(_)) && !self.streamed.contains(&a);
        self.few_columns
            && c.half
            && (2..16).contains(&few)
            && self.total(&c.a).max(self.total(&c.b)) >= 16
            && c.shared.is_empty()
            && c.a.union(&c.b).all(|a| !self.streamed.contains(a))
            && c.summed.iter().all(known)
            && self.total(&c.summed) >= LONG_SUM
    }

    fn total(&self, axes: &BTreeSet<Axis>) -> u64 {
        axes.iter().map(|&a| self.most(a)).fold(1, u64::saturating_mul)
    }

    /// Gives the axes blocks whose product is at most `budget`, the nearest to contiguous first.
    fn deal(&mut self, axes: &BTreeSet<Axis>, budget: u64, near: &BTreeMap<Axis, usize>) {
        let mut left = budget;
        for a in Self::order(axes, near) {
            let b = self.cover(a, left);
            left /= u64::from(b);
            let e = self.blocks.entry(a).or_insert(1);
            *e = (*e).max(b);
        }
    }

    /// Gives axes of rows blocks of as many rows as an instruction of tensor cores has, the nearest to contiguous first. A
    /// block that ends within the last one of an axis would be padded for each head, and its rows be no whole piece of
    /// memory: where eights of rows divide the axis, a block takes rows of the next axes as well instead.
    fn deal_rows(&mut self, axes: &BTreeSet<Axis>, near: &BTreeMap<Axis, usize>) {
        let before = self.blocks.clone();
        self.deal(axes, ROWS, near);
        let extent = |c: &Self, a: Axis| c.plan.axes[a].extent.as_const();
        let cut = |c: &Self, a: Axis, b: u64| extent(c, a).is_some_and(|n| n > b && !n.is_multiple_of(b));
        if !axes.iter().any(|&a| cut(self, a, self.block(a))) {
            return;
        }
        // What reductions bind of the rows, such as both halves of what is rotated, blocks hold whole.
        let (grid, bound): (Vec<Axis>, Vec<Axis>) =
            Self::order(axes, near).into_iter().partition(|&a| self.is_grid(a));
        let mut left = ROWS / self.total(&bound.into_iter().collect()).min(ROWS);
        let mut even = Vec::new();
        for a in grid {
            let mut b = u64::from(self.cover(a, left));
            if cut(self, a, b) {
                b = 1 << self.most(a).trailing_zeros();
                if b < ROWS / 2 {
                    return;
                }
            }
            left /= b;
            even.push((a, before.get(&a).copied().unwrap_or(1).max(b as u32)));
        }
        if left == 1 {
            self.blocks.extend(even);
        }
    }

    /// How many rows of a packed weight a block has beside these columns, if they are known to be few. Each block reads all columns, so the
    /// fewer its rows, the more is read of the cache; but cutting the sum into runs instead would take a launch to merge
    /// them. So blocks have fewer rows where they are too few: as many as columns, and half as many where that is not enough.
    fn rows_beside(&self, rows: &BTreeSet<Axis>, columns: &BTreeSet<Axis>) -> Option<u64> {
        let known = |&a: &Axis| matches!(self.plan.axes[a].extent, Extent::Const(_));
        let known = columns.iter().all(known) && self.rows.is_none();
        let (all, columns) = (self.total(rows), self.total(columns).next_power_of_two());
        if !known || columns > WIDE || all <= columns {
            return None;
        }
        let few = |r: u64| r > columns && all / r < BUSY || 2 * r > columns && all / r < ENOUGH;
        let mut rows = WIDE;
        while rows > ROWS && few(rows) {
            rows /= 2;
        }
        Some(rows)
    }

    /// The nearest to contiguous first.
    fn order(axes: &BTreeSet<Axis>, near: &BTreeMap<Axis, usize>) -> Vec<Axis> {
        let mut order: Vec<Axis> = axes.iter().copied().collect();
        order.sort_by_key(|a| (near.get(a).copied().unwrap_or(usize::MAX), std::cmp::Reverse(*a)));
        order
    }

    /// Makes the block of the longest axis so long that all of them have so many positions.
    fn pad(&mut self, axes: &BTreeSet<Axis>, positions: u64) {
        let more = positions / self.product(axes).max(1);
        if let Some(widest) = axes.iter().copied().max_by_key(|&a| (self.most(a), a)).filter(|_| more > 1) {
            *self.blocks.entry(widest).or_insert(1) *= more as u32;
        }
    }

    /// Makes one loop of a sum over several axes, if all but the farthest fit so many positions whole: a loop within a loop
    /// begins anew for each iteration of the outer one, and so does what is streamed.
    fn one_loop(&mut self, summed: &BTreeSet<Axis>, most: u64, near: &BTreeMap<Axis, usize>) {
        let mut order = Self::order(summed, near);
        order.retain(|&a| self.most(a) > 1);
        let Some((&far, inner)) = order.split_last() else { return };
        let whole = |a: Axis| self.most(a).next_power_of_two();
        let run = inner.iter().map(|&a| whole(a)).fold(1, u64::saturating_mul);
        let constant = |a: &Axis| matches!(self.plan.axes[*a].extent, Extent::Const(_));
        if inner.iter().all(|&a| self.covers(a)) || run > most || !inner.iter().all(constant) {
            return;
        }
        let blocks: Vec<(Axis, u32)> = inner.iter().map(|&a| (a, whole(a) as u32)).collect();
        self.blocks.extend(blocks);
        self.blocks.insert(far, 1);
    }

    fn exprs(&self) -> Vec<Ex> {
        let locals = self.kernel.locals.values().flat_map(|l| l.def.exprs());
        locals.chain(self.kernel.stores.iter().map(|s| &s.expr)).cloned().collect()
    }

    fn wish(&mut self) {
        let exprs = self.exprs();
        let near = nearness(exprs.iter());
        let mut store_near = BTreeMap::new();
        for s in &self.kernel.stores {
            for (k, i) in s.index.iter().rev().enumerate() {
                for a in i.free_axes() {
                    store_near.entry(a).or_insert(k);
                }
            }
        }
        let mut contractions = self.contractions();
        contractions.sort_by(|x, y| y.work.total_cmp(&x.work));
        // What is far lighter than something else of the kernel, such as a rotation of what is projected, has no say.
        let heaviest = self.work().iter().map(|w| w.2).fold(0.0, f64::max);
        contractions.retain(|c| c.work * LIGHT >= heaviest);
        for c in &contractions {
            let near = nearness_of_sum(&exprs, &c.summed, &near);
            let (m, n) = (self.total(&c.a), self.total(&c.b));
            if m.min(n) >= 16 || self.padded {
                // Both sides are wide: a tile of each, contracted in short steps.
                let k = if self.narrow.is_some() { 32 } else { 16 };
                let inner: BTreeSet<Axis> = c.summed.clone();
                self.deal(&inner, k, &near);
                for (side, other) in [(&c.a, &c.b), (&c.b, &c.a)] {
                    // In a chain others' stores are made in place: what is reduced further lies as what it is made of.
                    let stored = self.rows.is_none() || side.iter().all(|&a| self.is_grid(a));
                    let few = if c.packed { self.rows_beside(side, other) } else { None };
                    self.beside |= few.is_some();
                    self.deal(side, few.unwrap_or(WIDE), if stored { &store_near } else { &near });
                    self.pad(side, COLUMNS);
                }
            } else if self.on_columns(c) {
                // The side with few positions is columns, padded to whole instructions; one warp streams the other.
                self.skinny = true;
                let (few, many) = if m < n { (&c.a, &c.b) } else { (&c.b, &c.a) };
                let columns = self.total(few).next_power_of_two().max(COLUMNS);
                self.deal(few, columns, &store_near);
                self.pad(few, columns);
                self.deal(&c.summed, 1024 / columns, &near);
                self.deal_rows(many, &store_near);
            } else {
                // One side is narrow: stream the other, reading long contiguous runs.
                let (few, many) = if m < n { (&c.a, &c.b) } else { (&c.b, &c.a) };
                let few_total = self.total(few).min(16);
                self.deal(few, few_total.next_power_of_two(), &store_near);
                let run = (512 / few_total.next_power_of_two()).max(64);
                self.deal(&c.summed, run, &near);
                self.deal_rows(many, &store_near);
            }
        }
        // What no contraction asked for.
        for (_, _, axes, _) in self.reductions() {
            let set: BTreeSet<Axis> = axes.iter().copied().filter(|a| !self.blocks.contains_key(a)).collect();
            let passes = set.iter().any(|a| self.streamed.contains(a));
            let near = nearness_of_sum(&exprs, &set, &near);
            self.deal(&set, if passes { 64 } else { LONG_SUM }, &near);
            if !passes {
                self.one_loop(&set, 2 * LONG_SUM, &near);
            }
        }
        let rest: BTreeSet<Axis> =
            self.kernel.grid.iter().copied().filter(|a| !self.blocks.contains_key(a)).collect();
        match (contractions.is_empty(), self.reductions().is_empty()) {
            (true, true) => self.deal(&rest, 512, &store_near),
            (true, false) => self.deal_rows(&rest, &store_near),
            (false, _) => self.deal(&rest, 1, &store_near),
        }
        // Short axes that reductions bind are resident: all of them in one tile.
        let bound: BTreeSet<Axis> = self.reductions().into_iter().flat_map(|(_, _, a, _)| a).collect();
        let of_passes = self.of_passes();
        for a in bound {
            let b = self.blocks.get(&a).copied().unwrap_or(1);
            let whole = self.most(a).next_power_of_two();
            // A loop over what took a pass would be a pass in each iteration.
            let inner = self.inner_to_stream(a) || (self.skinny || self.beside) && of_passes.contains(&a);
            if matches!(self.plan.axes[a].extent, Extent::Const(_))
                && !self.streamed.contains(&a)
                && inner
                && whole <= RESIDENT
            {
                self.blocks.insert(a, whole as u32);
            } else {
                self.blocks.insert(a, b);
            }
        }
        // Operands that share an axis are multiplied one position of it at a time.
        for c in &contractions {
            if self.total(&c.a).min(self.total(&c.b)) >= 16 {
                for &a in &c.shared {
                    if self.is_grid(a) {
                        self.blocks.insert(a, 1);
                    }
                }
            }
        }
        // An output axis that heavy work does not depend on is resident, or that work would be repeated.
        for a in self.kernel.grid.clone() {
            let whole = self.most(a).next_power_of_two();
            if !matches!(self.plan.axes[a].extent, Extent::Const(_)) || whole > RESIDENT {
                continue;
            }
            if self.repeated(a) {
                self.blocks.insert(a, whole as u32);
            }
        }
        if contractions.is_empty() {
            self.repeat_less();
        }
        self.hold_whole();
        for a in self.ragged() {
            self.blocks.insert(a, 1);
        }
    }

    /// Axes of the grid along which the length of a pass varies, because it is compared with something in memory that they
    /// index: several of their positions in a block would all be as long as the longest.
    fn ragged(&self) -> BTreeSet<Axis> {
        let mut out = BTreeSet::new();
        for e in self.exprs() {
            e.visit(&mut |e| {
                let Expr::Binary(Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge, x, y) = e else { return };
                for (position, bound) in [(x, y), (y, x)] {
                    if matches!(&**position, Expr::Pos(a) if self.streamed.contains(a)) {
                        self.indices(bound, &mut out);
                    }
                }
            });
        }
        out.retain(|&a| self.is_grid(a));
        out
    }

    /// The axes that index what an expression reads, through locals that only name something.
    fn indices(&self, e: &Ex, out: &mut BTreeSet<Axis>) {
        let mut seen = BTreeSet::new();
        let mut todo = vec![e];
        while let Some(e) = todo.pop() {
            let mut named = Vec::new();
            e.visit(&mut |e| match e {
                Expr::Read(_, index) => out.extend(index.iter().flat_map(|i| self.axes(i))),
                Expr::Local(l) => named.push(*l),
                _ => {}
            });
            for l in named.into_iter().filter(|l| seen.insert(*l)) {
                if let LocalDef::Map(e) = &self.kernel.locals[l].def {
                    todo.push(e);
                }
            }
        }
    }

    /// Where an output axis that the work does not depend on is too long to be resident, each of its blocks repeats that work:
    /// there are few of them, and the other axes make blocks.
    fn repeat_less(&mut self) {
        // Also what is reduced over the very axis: its result is the same in each block.
        let work = self.work();
        let total: f64 = work.iter().map(|w| w.2).sum();
        let again = |a: Axis| -> f64 {
            work.iter().filter(|(l, ..)| !self.kernel.locals[*l].axes.contains(&a)).map(|w| w.2).sum()
        };
        let heavy: Vec<Axis> = self.kernel.grid.iter().copied().filter(|&a| again(a) > 0.1 * total).collect();
        let [wide] = heavy[..] else { return };
        if self.most(wide) <= RESIDENT {
            return;
        }
        for a in self.kernel.grid.clone() {
            if a != wide {
                self.blocks.insert(a, 1);
            }
        }
        let wanted = self.cover(wide, TILE_ELEMENTS / 8);
        self.blocks.insert(wide, wanted);
    }

    /// Axes over which something is reduced that is itself reduced over a long axis, a product of matrices, or one with a
    /// packed weight.
    fn of_passes(&self) -> BTreeSet<Axis> {
        // The axes along which each local varies and took a pass to compute.
        let mut dear: BTreeMap<Local, BTreeSet<Axis>> = BTreeMap::new();
        // What is made of a fold takes the pass again wherever it is computed.
        let mut folded: BTreeSet<Local> = BTreeSet::new();
        let mut out = BTreeSet::new();
        let wide = |c: &Contraction| self.total(&c.a).min(self.total(&c.b)) >= ROWS;
        let products: BTreeSet<Local> = self.contractions().into_iter().filter(wide).map(|c| c.of).collect();
        for (l, data) in self.kernel.locals.iter() {
            let needs = data.def.needs();
            let mut of: BTreeSet<Axis> =
                needs.iter().flat_map(|n| dear.get(n).into_iter().flatten().copied()).collect();
            if matches!(data.def, LocalDef::Fold { .. }) || !needs.is_disjoint(&folded) {
                folded.insert(l);
            }
            if let LocalDef::Reduce { axes, body, .. } = &data.def {
                out.extend(axes.iter().copied().filter(|a| of.contains(a)));
                of.retain(|a| !axes.contains(a));
                let long = axes.iter().any(|&a| self.most(a) > RESIDENT);
                let weighs = || !packed(self.plan, self.kernel, body, &data.axes).is_empty();
                if long || folded.contains(&l) || products.contains(&l) || weighs() {
                    of.extend(data.axes.iter().copied());
                }
            }
            dear.insert(l, of);
        }
        out
    }

    /// Axes of the grid over which something is reduced that is itself dear to compute: a block that held only
    /// some of their positions would compute that for all of them, again in every block.
    fn hold_whole(&mut self) {
        self.whole = self.of_passes().into_iter().filter(|&a| self.is_grid(a)).collect();
        let whole = |a: Axis| self.most(a).next_power_of_two();
        let fit = self.whole.iter().map(|&a| whole(a)).fold(1, u64::saturating_mul) <= RESIDENT
            && self.whole.iter().all(|&a| matches!(self.plan.axes[a].extent, Extent::Const(_)));
        if !fit {
            self.whole.clear();
        }
        for a in self.whole.clone() {
            self.blocks.insert(a, self.most(a).next_power_of_two() as u32);
        }
        // The other axes of the same operand make blocks: the tile is wide enough without them.
        let sides = self.contractions().into_iter().flat_map(|c| [c.a, c.b]);
        let mut same: BTreeSet<Axis> = sides.filter(|s| !s.is_disjoint(&self.whole)).flatten().collect();
        if same.is_empty() && !self.whole.is_empty() {
            same.extend(self.kernel.grid.iter().copied().filter(|&a| !self.repeated(a)));
        }
        for a in same {
            if self.is_grid(a) && !self.whole.contains(&a) {
                self.blocks.insert(a, 1);
            }
        }
    }

    /// Whether a reduction over `a` happens inside a streamed axis: then a loop of its own would be nested.
    fn inner_to_stream(&self, a: Axis) -> bool {
        self.kernel.locals.values().any(|l| match &l.def {
            LocalDef::Reduce { axes, .. } => {
                axes.contains(&a) && l.axes.iter().any(|x| self.streamed.contains(x) || !self.is_grid(*x))
            }
            _ => false,
        })
    }

    /// Whether much of the kernel's work does not depend on the grid axis.
    fn repeated(&self, axis: Axis) -> bool {
        let work = self.work();
        let total: f64 = work.iter().map(|w| w.2).sum();
        let without: f64 = work.iter().filter(|(_, span, _)| !span.contains(&axis)).map(|w| w.2).sum();
        without > 0.1 * total && without > 0.0
    }

    /// The reductions with the axes that they span and how many terms they have.
    fn work(&self) -> Vec<(Local, BTreeSet<Axis>, f64)> {
        let one = |(l, _, axes, body): (Local, Reduction, Vec<Axis>, Ex)| {
            let span: BTreeSet<Axis> = self.axes(&body).into_iter().chain(axes).collect();
            let terms = span.iter().map(|&a| self.most(a) as f64).product();
            (l, span, terms)
        };
        self.reductions().into_iter().map(one).collect()
    }

    fn demands(&self) -> Vec<Demand> {
        let mut out = Vec::new();
        let contractions = self.contractions();
        for (l, op, axes, body) in self.reductions() {
            let span: BTreeSet<Axis> = self.axes(&body).into_iter().chain(axes.iter().copied()).collect();
            let dot = (op == Reduction::Sum)
                .then(|| contractions.iter().find(|c| c.of == l && self.dots(c)))
                .flatten();
            let result: BTreeSet<Axis> = self.kernel.locals[l].axes.iter().copied().collect();
            out.push(Demand { axes: result, limit: self.most_elements() });
            match dot {
                Some(c) => {
                    for side in [&c.a, &c.b] {
                        let operand = side.union(&c.summed).copied().collect();
                        out.push(Demand { axes: operand, limit: self.most_elements() * 2 });
                    }
                }
                None => out.push(Demand { axes: span, limit: self.most_elements() }),
            }
        }
        for s in &self.kernel.stores {
            out.push(Demand { axes: s.axes.iter().copied().collect(), limit: self.most_elements() });
        }
        for l in self.kernel.locals.values() {
            if matches!(l.def, LocalDef::Map(_) | LocalDef::Fold { .. } | LocalDef::Running { .. }) {
                out.push(Demand { axes: l.axes.iter().copied().collect(), limit: self.most_elements() });
            }
        }
        for e in self.exprs() {
            e.visit(&mut |e| {
                if let Expr::Read(v, index) = e {
                    let axes = index.iter().flat_map(|i| self.axes(i)).collect();
                    // What a warp streams alone may be twice as many, of 16 bits.
                    let half = self.skinny && self.plan.values[*v].dtype.bytes() == 2;
                    let limit = self.most_elements() * if half { 2 } else { 1 };
                    out.push(Demand { axes, limit });
                }
            });
        }
        out
    }

    fn block(&self, a: Axis) -> u64 {
        u64::from(self.blocks.get(&a).copied().unwrap_or(1))
    }

    fn product(&self, axes: &BTreeSet<Axis>) -> u64 {
        axes.iter().map(|&a| self.block(a)).fold(1, u64::saturating_mul)
    }

    /// Whether the lowering will contract operand tiles rather than multiply elementwise.
    fn dots(&self, c: &Contraction) -> bool {
        self.product(&c.shared) == 1
            && worth(self.product(&c.a), self.product(&c.b), self.product(&c.summed), self.columns())
    }

    /// Whether one block holds an axis.
    fn covers(&self, a: Axis) -> bool {
        matches!(self.plan.axes[a].extent, Extent::Const(n) if n > 0 && self.block(a) >= n)
    }

    /// Whether the products with few columns are those of whole tiles: not where the sizes that fit leave too little of
    /// them, or several loops that each sum a part.
    fn columns_fit(&self) -> bool {
        let parts =
            |c: &Contraction| c.summed.iter().filter(|&&a| self.block(a) > 1 && !self.covers(a)).count();
        self.contractions().iter().filter(|c| self.on_columns(c)).all(|c| self.dots(c) && parts(c) <= 1)
    }

    /// Whether all products within a pass are those of operand tiles.
    fn passes_dot(&self) -> bool {
        let within = |c: &Contraction| [&c.a, &c.b, &c.summed].iter().any(|s| !s.is_disjoint(&self.streamed));
        self.contractions().iter().filter(|c| within(c)).all(|c| c.half && self.dots(c))
    }

    /// Elements of the largest tile: as many for each thread, whatever their number.
    fn most_elements(&self) -> u64 {
        if self.skinny { TILE_ELEMENTS / 4 } else { TILE_ELEMENTS }
    }

    /// With fewer columns than this, several warps would do the same.
    fn columns(&self) -> u64 {
        if self.skinny || self.padded { COLUMNS } else { 2 * COLUMNS }
    }

    fn shrink(&mut self) {
        // What is cut of a pass that folds is dear. Blocks along an output axis that something read by the pass does not vary
        // along would each read it again; and a loop within the pass computes again what does not vary along the pass.
        let mut dear: BTreeSet<Axis> = BTreeSet::new();
        if self.kernel.locals.values().any(|l| matches!(l.def, LocalDef::Fold { .. })) {
            for e in self.exprs() {
                e.visit(&mut |e| {
                    let Expr::Read(_, index) = e else { return };
                    let own: BTreeSet<Axis> = index.iter().flat_map(|i| self.axes(i)).collect();
                    if !own.is_disjoint(&self.streamed) {
                        dear.extend(self.kernel.grid.iter().filter(|a| !own.contains(a)));
                    }
                });
            }
            dear.extend(self.blocks.keys().copied().filter(|&a| self.covers(a) && self.inner_to_stream(a)));
        }
        loop {
            let too_large = self.demands().into_iter().find(|d| self.product(&d.axes) > d.limit);
            let Some(d) = too_large else { break };
            // Streamed axes give way first, as long as a tile of them is worth a pass; then the largest block, and of
            // equals one that a reduction binds, so that output tiles stay wide.
            let Some(&a) =
                d.axes.iter().filter(|&&a| self.block(a) > 1 && !self.is_row(a)).max_by_key(|&&a| {
                    let block = self.block(a);
                    // Nor is a pass to have short steps.
                    let short = !dear.is_empty() && self.streamed.contains(&a) && block <= 16;
                    let gives = (!self.whole.contains(&a), !dear.contains(&a) && !short);
                    // Of a product with few columns, sums over several axes stay in one loop.
                    let loops = self.skinny && !self.covers(a);
                    let pass = if self.skinny { 32 } else { 16 };
                    (gives, self.streamed.contains(&a) && block > pass, loops, block, !self.is_grid(a), a)
                })
            else {
                break;
            };
            self.cut |= dear.contains(&a);
            let b = self.blocks[&a] / 2;
            self.blocks.insert(a, b);
        }
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

/// How near to contiguous axes are, those of a sum as the operands have them that have all of these: what has some of them,
/// such as a scale of each head, does not say how they lie.
fn nearness_of_sum(
    exprs: &[Ex],
    summed: &BTreeSet<Axis>,
    near: &BTreeMap<Axis, usize>,
) -> BTreeMap<Axis, usize> {
    let mut whole = Vec::new();
    for e in exprs {
        e.visit(&mut |e| {
            if let Expr::Read(_, index) = e
                && summed.iter().all(|&a| index.iter().any(|i| matches!(**i, Expr::Pos(p) if p == a)))
            {
                whole.push(Ex::new(e.clone()));
            }
        });
    }
    let mut out = near.clone();
    out.extend(nearness(whole.iter()).into_iter().filter(|(a, _)| summed.contains(a)));
    out
}

/// Whether a contraction of tiles of these sizes is worth operand tiles: all three sides fill a fragment, columns with at
/// least so many positions.
pub fn worth(m: u64, n: u64, k: u64, columns: u64) -> bool {
    m.max(n) >= 16 && m.min(n) >= columns && k >= 16
}
