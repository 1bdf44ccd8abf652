//! What one block of a program touches: a box of each buffer, from the loads and stores of its tile program.
//!
//! Why here: the graph of tasks and its checker must both know it, and tile programs say it exactly where indices are
//! linear in grid axes.
//! Post: boxes hold every element that the block touches, whatever the symbols are.

use tilewright_ir::step::{Launch, Step};
use tilewright_ir::tile::{Op, Role, TileProgram};
use tilewright_ir::{Axis, Binary, Ex, Expr, Extent, Param, SymData, Unary};

use crate::MegaError;
use crate::region::{Box_, dims, hull, volume};

/// An interval of integers, or nothing known.
type Range = Option<(i64, i64)>;

/// One load or store.
struct Site {
    param: Param,
    index: Vec<Ex>,
    /// Elements that one block moves, masked ones included.
    elements: u64,
}

/// How the blocks of a launch touch its buffers.
pub(crate) struct Accesses<'a> {
    step: &'a Step,
    launch: &'a Launch,
    program: &'a TileProgram,
    sites: Vec<Site>,
    /// Grid axes and their numbers of blocks at the largest symbols.
    grid: Vec<(Axis, u64)>,
    /// Whether block indices split into positions in the same way for all values of the symbols.
    fixed: bool,
    /// Extents of the buffers.
    dims: Vec<Vec<u64>>,
}

/// The sites of a body that runs so many times.
fn collect(
    program: &TileProgram,
    size: &dyn Fn(Extent) -> u64,
    body: &[Op],
    times: u64,
    out: &mut Vec<Site>,
) {
    for op in body {
        match op {
            Op::Load { param, index, out: tile, .. } | Op::Store { param, index, value: tile, .. } => {
                let elements = program.elements(*tile).saturating_mul(times);
                out.push(Site { param: *param, index: index.clone(), elements });
            }
            Op::Loop { axis, body, .. } => {
                let data = &program.axes[*axis];
                let runs = data.runs.map_or(1, |r| size(program.axes[r].extent)).max(1);
                let trips = size(data.extent).div_ceil(u64::from(data.block.max(1))).div_ceil(runs);
                collect(program, size, body, times.saturating_mul(trips.max(1)), out);
            }
            _ => {}
        }
    }
}

impl<'a> Accesses<'a> {
    /// The accesses of a launch.
    pub(crate) fn new(
        step: &'a Step,
        launch: &'a Launch,
        program: &'a TileProgram,
    ) -> Result<Accesses<'a>, MegaError> {
        let bad = |what: &str| MegaError::Mismatch { kernel: launch.kernel.clone(), what: what.to_owned() };
        if program.arguments().count() < program.params.len() {
            return Err(bad(
                "its blocks keep values between kernels, which tasks do not; use `--mode launch`",
            ));
        }
        if program.params.len() != launch.args.len() || launch.args.len() != launch.writes.len() {
            return Err(bad("its arguments are not those of the program"));
        }
        let axes: Vec<_> = program.grid().collect();
        if axes.len() != launch.grid.len() {
            return Err(bad("its grid is not that of the program"));
        }
        let largest = |e: Extent| match e {
            Extent::Const(n) => n,
            Extent::Sym(s) => step.symbols[s].max,
        };
        let mut sites = Vec::new();
        collect(program, &largest, &program.body, 1, &mut sites);
        let grid: Vec<(Axis, u64)> = axes
            .iter()
            .map(|(a, data)| (*a, largest(data.extent).div_ceil(u64::from(data.block.max(1)))))
            .collect();
        // The first axis is the slowest: its number of blocks splits nothing.
        let fixed = axes.iter().skip(1).all(|(_, data)| data.extent.as_const().is_some());
        let dims = launch.args.iter().map(|&b| dims(step, b)).collect();
        Ok(Accesses { step, launch, program, sites, grid, fixed, dims })
    }

    /// Blocks of the launch at the largest symbols.
    pub(crate) fn blocks(&self) -> u64 {
        self.grid.iter().fold(1u64, |n, (_, blocks)| n.saturating_mul(*blocks))
    }

    /// Bytes that some blocks move, as an estimate: of each buffer what their accesses count, and not more than the box.
    pub(crate) fn bytes(&self, boxes: &[Option<Box_>], count: u64) -> u64 {
        let counted = |n: usize| {
            let sites = self.sites.iter().filter(|s| s.param.as_u32() as usize == n);
            sites.fold(0u64, |sum, s| sum.saturating_add(s.elements)).saturating_mul(count)
        };
        boxes
            .iter()
            .enumerate()
            .map(|(n, b)| {
                let size = self.step.buffers[self.launch.args[n]].dtype.bytes() as u64;
                b.as_ref().map_or(0, volume).min(counted(n)).saturating_mul(size)
            })
            .fold(0, u64::saturating_add)
    }

    /// The box of each parameter that some blocks in a row touch; `None` for parameters without an access.
    pub(crate) fn boxes(&self, first: u64, count: u64) -> Vec<Option<Box_>> {
        let mut out: Vec<Option<Box_>> = vec![None; self.launch.args.len()];
        let last = first.saturating_add(count.max(1)) - 1;
        if !self.fixed || self.grid.is_empty() {
            self.add(&vec![None; self.grid.len()], &mut out);
            return out;
        }
        // Blocks that agree on all axes but the last are a run along the last one.
        let fastest = self.grid.last().map_or(1, |(_, n)| (*n).max(1));
        let mut at = first;
        while at <= last {
            let end = last.min(at - at % fastest + fastest - 1);
            let mut rest = at;
            let mut positions = Vec::with_capacity(self.grid.len());
            for (n, (_, blocks)) in self.grid.iter().enumerate().rev() {
                let index = if n == 0 { rest } else { rest % (*blocks).max(1) };
                rest /= (*blocks).max(1);
                let span = if n + 1 == self.grid.len() { end - at } else { 0 };
                positions.push(Some((index, index + span)));
            }
            positions.reverse();
            self.add(&positions, &mut out);
            at = end + 1;
        }
        out
    }

    /// Adds what blocks at these places of the grid touch; an unknown place is any.
    fn add(&self, positions: &[Option<(u64, u64)>], out: &mut [Option<Box_>]) {
        let env = |axis: Axis| -> (i64, i64) {
            let data = &self.program.axes[axis];
            let extent = match data.extent {
                Extent::Const(n) => n,
                Extent::Sym(s) => self.step.symbols[s].max,
            };
            let top = signed(extent.max(1)) - 1;
            let place = self.grid.iter().position(|(a, _)| *a == axis).and_then(|n| positions[n]);
            match (data.role, place) {
                (Role::Grid, Some((from, to))) => {
                    let block = i64::from(data.block);
                    (signed(from) * block, ((signed(to) + 1) * block - 1).min(top))
                }
                _ => (0, top),
            }
        };
        for site in &self.sites {
            let n = site.param.as_u32() as usize;
            let found = self.aligned(site, n, &env);
            match &mut out[n] {
                Some(known) => hull(known, &found),
                none => *none = Some(found),
            }
        }
    }
}

impl Accesses<'_> {
    /// The box of the buffer's elements that an access touches: a dimension of the program may stand for several of the
    /// buffer's.
    fn aligned(&self, site: &Site, n: usize, env: &dyn Fn(Axis) -> (i64, i64)) -> Box_ {
        let own = &self.program.params[site.param].dims;
        let mut left = self.dims[n].iter().map(|&d| signed(d));
        let mut out: Box_ = Vec::with_capacity(self.dims[n].len());
        for (e, dim) in site.index.iter().zip(own) {
            let Some(first) = left.next() else { break };
            // Dimensions whose positions together are those of this one.
            let mut dims = vec![first];
            let mut all = first;
            while dim.as_const().map(signed).is_some_and(|d| all < d) {
                let Some(next) = left.next() else { break };
                all = all.saturating_mul(next);
                dims.push(next);
            }
            // What does not end where one of theirs ends may touch any of them.
            let ends = dims.len() == 1 || dim.as_const().map(signed) == Some(all);
            let known = if ends { range(e, env, &self.step.symbols) } else { None };
            let (lo, hi) = known.unwrap_or((0, all - 1));
            // What lies outside is masked.
            let (lo, hi) = (lo.max(0), hi.min(all - 1));
            let inner = dims[1..].iter().fold(1i64, |n, &d| n.saturating_mul(d)).max(1);
            out.push((lo.div_euclid(inner), hi.div_euclid(inner)));
            out.extend(dims[1..].iter().map(|&d| (0, d - 1)));
            if !ends {
                break;
            }
        }
        out.extend(left.map(|d| (0, d - 1)));
        out
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// The values of an integer expression.
fn range(
    e: &Ex,
    env: &dyn Fn(Axis) -> (i64, i64),
    symbols: &cranelift_entity::PrimaryMap<tilewright_ir::Sym, SymData>,
) -> Range {
    let sub = |x: &Ex| range(x, env, symbols);
    match &**e {
        Expr::Num(n) if n.0.fract() == 0.0 && n.0.abs() < 1e15 => Some((n.0 as i64, n.0 as i64)),
        Expr::Pos(a) => Some(env(*a)),
        Expr::Size(Extent::Const(n)) => Some((signed(*n), signed(*n))),
        Expr::Size(Extent::Sym(s)) => Some((signed(symbols[*s].min), signed(symbols[*s].max))),
        Expr::Cast(dtype, x) if !dtype.is_float() => sub(x),
        Expr::Unary(Unary::Neg, x) => sub(x).map(|(lo, hi)| (-hi, -lo)),
        Expr::Select(_, a, b) => {
            let (a, b) = (sub(a)?, sub(b)?);
            Some((a.0.min(b.0), a.1.max(b.1)))
        }
        Expr::Binary(op, a, b) => {
            let (a, b) = (sub(a)?, sub(b)?);
            match op {
                Binary::Add => Some((a.0.checked_add(b.0)?, a.1.checked_add(b.1)?)),
                Binary::Sub => Some((a.0.checked_sub(b.1)?, a.1.checked_sub(b.0)?)),
                Binary::Mul => {
                    let all = [
                        a.0.checked_mul(b.0)?,
                        a.0.checked_mul(b.1)?,
                        a.1.checked_mul(b.0)?,
                        a.1.checked_mul(b.1)?,
                    ];
                    Some((all.into_iter().min()?, all.into_iter().max()?))
                }
                Binary::Max => Some((a.0.max(b.0), a.1.max(b.1))),
                Binary::Min => Some((a.0.min(b.0), a.1.min(b.1))),
                Binary::FloorDiv if b.0 == b.1 && b.0 > 0 => Some((a.0.div_euclid(b.0), a.1.div_euclid(b.0))),
                Binary::Mod if b.0 == b.1 && b.0 > 0 => {
                    if a.0.div_euclid(b.0) == a.1.div_euclid(b.0) {
                        Some((a.0.rem_euclid(b.0), a.1.rem_euclid(b.0)))
                    } else {
                        Some((0, b.0 - 1))
                    }
                }
                _ => None,
            }
        }
        _ => None,
    }
}
