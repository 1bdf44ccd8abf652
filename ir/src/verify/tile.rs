//! Invariants of tile programs.
//!
//! * `T1` the name is an identifier; the warps are a power of two, at most 32.
//! * `T2` blocks are powers of two; the block of a resident axis covers its extent for all values of its symbol.
//! * `T3` everything that is referred to exists; the axes of a tile are different.
//! * `T4` each tile is computed once, before its uses; what a loop's body computes is not seen after the loop.
//! * `T5` loads read buffers that are not written, stores write buffers that are; there is one integer index per
//!   dimension. What is constant is not written.
//! * `T6` what an expression mentions varies along axes of the result only (positions along axes of block 1 are one
//!   number); positions along loop axes are mentioned inside of their loops only.
//! * `T7` a reduction is over one or more different axes of its source, and its result has the others.
//! * `T8` a contraction is over axes that both operands have; they share no other; the result has the others of both; the
//!   accumulator has the result's type and axes.
//! * `T9` tensor cores: 16-bit operands of the kind's type, an f32 result, and at least 16, 8 and 16 positions of m, n, k; for
//!   operands in vectors at least 1, 8 and 32.
//! * `T10` a conversion keeps type and axes.
//! * `T11` a loop is over a loop axis, not within a loop over the same one; the four tiles that are carried together have
//!   one type and the same axes.
//! * `T12` either no tile has a place or all have; a layout has five lane bits and one bit for each doubling of the
//!   warps, and holds each bit of each axis' block exactly once; shared memory orders just the tile's axes; the tiles
//!   carried together have one place.
//! * `T13` expressions satisfy the invariants of expressions; masks are truth values.
//! * `T14` what is cut into runs is a loop axis; the axis that numbers the runs is a grid axis of block 1, declared before.
//! * `T15` a tile with a ring is loaded in the body of a loop, at an address and under a mask that do not depend on tiles,
//!   and has a place in registers; the stages, and the iterations that one is for, are powers of two, at most 64, and
//!   equal within a loop; threads copy for one iteration at a time; paddings are multiples of 16 bytes.
//! * `T16` what is packed is constant, has constant extents, and its packing is one of so many elements.
//! * `T17` gaps of shared memory are of at most 65536 elements, after powers of two of elements that increase and are fewer
//!   than the tile has.
//! * `T18` bounds of a loop are integer expressions of what interval arithmetic knows: sums, differences, products with
//!   literals, `max`, `min`, positions, sizes and tiles without axes. What lies beyond them adds nothing to what the loop
//!   carries: that is for whoever set them to know.
//! * `T19` areas of the block come after the buffers in global memory; they are neither constant nor packed nor written in
//!   global memory and have constant extents; buffers of one area have one type and one number of elements.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;

use crate::eval::Sort;
use crate::tile::{AxisBit, Copier, DotKind, Layout, Op, Place, Ring, Role, TileProgram};
use crate::verify::expr::{self, Info, Leaf, Scope, no_leaf};
use crate::verify::plan::identifier;
use crate::verify::{Report, Violation, at_most, distinct, extent_exists, packed};
use crate::{Axis, Binary, DType, Ex, Expr, Param, Sym, SymData, Tile};

/// Verifies a tile program of a module with the given symbols.
pub fn verify_tile(p: &TileProgram, symbols: &PrimaryMap<Sym, SymData>) -> Result<(), Vec<Violation>> {
    let mut r = Report::default();
    let at = format!("tile @{}", p.name);
    r.check(identifier(&p.name), "T1", &at, || "the name is no identifier".to_owned());
    r.check(p.warps.is_power_of_two() && p.warps <= 32, "T1", &at, || format!("{} warps", p.warps));
    for (a, data) in p.axes.iter() {
        let at = format!("{at} {a} `{}`", data.name);
        r.check(data.block.is_power_of_two(), "T2", &at, || format!("a block of {}", data.block));
        let exists =
            r.check(extent_exists(data.extent, symbols), "T3", &at, || "there is no such symbol".to_owned());
        if exists && data.role == Role::Resident {
            let most = at_most(data.extent, symbols);
            r.check(u64::from(data.block) >= most, "T2", &at, || {
                format!("it is resident, and its block of {} does not cover {most} positions", data.block)
            });
        }
    }
    for (a, data) in p.axes.iter() {
        let Some(number) = data.runs else { continue };
        let numbers = p.axes.get(number).is_some_and(|n| n.role == Role::Grid && n.block == 1) && number < a;
        r.check(data.role == Role::Loop && numbers, "T14", &format!("{at} {a} `{}`", data.name), || {
            format!("its runs are numbered by {number}")
        });
    }
    for (b, data) in p.params.iter() {
        let exist = data.dims.iter().all(|&e| extent_exists(e, symbols));
        r.check(exist, "T3", &format!("{at} {b}"), || "there is no such symbol".to_owned());
        r.check(!(data.constant && data.written), "T5", &format!("{at} {b}"), || {
            "it is constant and written".to_owned()
        });
        if let Some(packing) = &data.packing {
            let at = format!("{at} {b} `{}`", data.name);
            r.check(data.constant, "T16", &at, || "it is packed and not constant".to_owned());
            packed(&mut r, "T16", &at, packing, &data.dims);
        }
    }
    areas(&mut r, p, &at);
    for (t, data) in p.tiles.iter() {
        let exist = data.axes.iter().all(|&a| p.axes.is_valid(a));
        r.check(exist && distinct(&data.axes), "T3", &format!("{at} {t}"), || {
            "its axes do not exist or repeat".to_owned()
        });
    }
    if r.violations.is_empty() {
        places(&mut r, p, &at);
        rings(&mut r, p, &at);
        let mut c = Checker {
            p,
            symbols,
            at,
            r: &mut r,
            ready: BTreeSet::new(),
            computed: BTreeSet::new(),
            loops: Vec::new(),
        };
        c.ops(&p.body);
    }
    r.finish()
}

fn areas(r: &mut Report, p: &TileProgram, at: &str) {
    let mut sizes: BTreeMap<u32, (DType, Option<u64>)> = BTreeMap::new();
    let mut last = None;
    for (b, data) in p.params.iter() {
        let at = format!("{at} {b} `{}`", data.name);
        r.check(data.area.is_some() || last.is_none(), "T19", &at, || {
            "it is in global memory and comes after an area".to_owned()
        });
        let Some(area) = data.area else { continue };
        last = Some(area);
        r.check(!data.written && !data.constant && data.packing.is_none(), "T19", &at, || {
            "an area is constant, packed or in global memory".to_owned()
        });
        let mut dims = data.dims.iter().map(|d| d.as_const());
        let elements = dims.try_fold(1u64, |n, d| n.checked_mul(d?));
        r.check(elements.is_some(), "T19", &at, || "an area has no constant extents".to_owned());
        let own = (data.dtype, elements);
        let first = *sizes.entry(area).or_insert(own);
        r.check(first == own, "T19", &at, || format!("area {area} has another type or size elsewhere"));
    }
}

fn places(r: &mut Report, p: &TileProgram, at: &str) {
    let assigned = p.tiles.values().filter(|t| t.place != Place::Unassigned).count();
    r.check(assigned == 0 || assigned == p.tiles.len(), "T12", at, || {
        format!("{assigned} of {} tiles have a place", p.tiles.len())
    });
    for (t, data) in p.tiles.iter() {
        let at = format!("{at} {t}");
        match &data.place {
            Place::Unassigned => {}
            Place::Shared { order, pads } => {
                let (a, b): (BTreeSet<_>, BTreeSet<_>) = (order.iter().collect(), data.axes.iter().collect());
                r.check(a == b && distinct(order), "T12", &at, || {
                    "shared memory does not order just its axes".to_owned()
                });
                let size: u64 =
                    order.iter().filter_map(|&a| p.axes.get(a)).map(|a| u64::from(a.block)).product();
                let fit = pads.iter().all(|p| {
                    p.every.is_power_of_two() && u64::from(p.every) < size && (1..=1 << 16).contains(&p.by)
                });
                let increase = pads.windows(2).all(|w| w[0].every < w[1].every);
                r.check(fit && increase, "T17", &at, || {
                    let gaps: Vec<_> =
                        pads.iter().map(|p| format!("{} after every {}", p.by, p.every)).collect();
                    format!("gaps of {} in {size} elements", gaps.join(", "))
                });
            }
            Place::Registers(Layout { regs, lanes, warps }) => {
                r.check(
                    lanes.len() == 5 && 1u64.checked_shl(warps.len() as u32) == Some(u64::from(p.warps)),
                    "T12",
                    &at,
                    || format!("{} lane bits and {} warp bits", lanes.len(), warps.len()),
                );
                let mut bits: Vec<AxisBit> =
                    regs.iter().copied().chain(lanes.iter().chain(warps).flatten().copied()).collect();
                let mut wanted: Vec<AxisBit> = data
                    .axes
                    .iter()
                    .flat_map(|&axis| {
                        let bits = p.axes[axis].block.trailing_zeros() as u8;
                        (0..bits).map(move |bit| AxisBit { axis, bit })
                    })
                    .collect();
                bits.sort_unstable();
                wanted.sort_unstable();
                r.check(bits == wanted, "T12", &at, || {
                    "the layout does not hold each bit of its positions exactly once".to_owned()
                });
            }
        }
    }
}

fn rings(r: &mut Report, p: &TileProgram, at: &str) {
    let mut loaded: BTreeSet<Tile> = BTreeSet::new();
    loops(&p.body, &mut |body| {
        let mut stages = None;
        for op in body {
            let Op::Load { out, index, mask, .. } = op else { continue };
            let Some(ring) = p.tiles.get(*out).and_then(|t| t.ring) else { continue };
            loaded.insert(*out);
            let at = format!("{at} {out}");
            let own = (ring.stages, ring.span);
            let equal = *stages.get_or_insert(own) == own;
            r.check(equal, "T15", &at, || "another ring of the loop has other stages".to_owned());
            let mut tiles = false;
            for e in index.iter().chain(mask) {
                e.visit(&mut |e| tiles |= matches!(e, Expr::Tile(_)));
            }
            r.check(!tiles, "T15", &at, || "its address depends on a tile".to_owned());
        }
    });
    for (t, data) in p.tiles.iter() {
        let Some(Ring { stages, span, copier }) = data.ring else { continue };
        let at = format!("{at} {t}");
        let loaded = loaded.contains(&t) && matches!(data.place, Place::Registers(_));
        r.check(loaded, "T15", &at, || "it has a ring and is not loaded to registers in a loop".to_owned());
        r.check(stages.is_power_of_two() && stages <= 64, "T15", &at, || {
            format!("a ring of {stages} stages")
        });
        r.check(span.is_power_of_two() && span <= 64, "T15", &at, || format!("a stage of {span} iterations"));
        r.check(span == 1 || copier != Copier::Threads, "T15", &at, || {
            format!("threads copy a stage of {span} iterations")
        });
        if let Copier::Bulk { pad } = copier {
            r.check(pad.is_multiple_of(16), "T15", &at, || format!("rows padded by {pad} bytes"));
        }
    }
}

/// Calls `f` on the body of every loop.
fn loops(body: &[Op], f: &mut impl FnMut(&[Op])) {
    for op in body {
        if let Op::Loop { body, .. } = op {
            f(body);
            loops(body, f);
        }
    }
}

struct Checker<'a> {
    p: &'a TileProgram,
    symbols: &'a PrimaryMap<Sym, SymData>,
    at: String,
    r: &'a mut Report,
    /// The tiles that can be used here.
    ready: BTreeSet<Tile>,
    /// The tiles that some operation computes.
    computed: BTreeSet<Tile>,
    /// The loops around this place.
    loops: Vec<Axis>,
}

impl Checker<'_> {
    fn ops(&mut self, body: &[Op]) {
        body.iter().for_each(|op| self.op(op));
    }

    /// Whether a tile exists and can be used here.
    fn uses(&mut self, at: &str, t: Tile) -> bool {
        if !self.r.check(self.p.tiles.is_valid(t), "T3", at, || format!("there is no tile {t}")) {
            return false;
        }
        let ready = self.ready.contains(&t);
        self.r.check(ready, "T4", at, || format!("{t} is not computed before this"));
        true
    }

    fn makes(&mut self, at: &str, t: Tile) {
        if self.p.tiles.is_valid(t) {
            let first = self.computed.insert(t);
            self.r.check(first, "T4", at, || format!("{t} is computed twice"));
            self.ready.insert(t);
        }
    }

    fn axes(&self, t: Tile) -> BTreeSet<Axis> {
        self.p.tiles[t].axes.iter().copied().collect()
    }

    fn dtype(&self, t: Tile) -> DType {
        self.p.tiles[t].dtype
    }

    /// Checks an expression whose result has the given axes.
    fn expr(&mut self, at: &str, e: &Ex, axes: &BTreeSet<Axis>) -> Info {
        let (p, ready) = (self.p, &self.ready);
        let tile = |t: Tile| match p.tiles.get(t) {
            Some(d) if ready.contains(&t) => Ok(Leaf { axes: d.axes.clone(), sort: Sort::of(d.dtype) }),
            Some(_) => Err(format!("{t} is not computed before this")),
            None => Err(format!("there is no tile {t}")),
        };
        let scope = Scope {
            symbols: self.symbols,
            axis_exists: &|a| p.axes.is_valid(a),
            value: &no_leaf("reads of tensors", "tile programs"),
            local: &no_leaf("locals", "tile programs"),
            tile: &tile,
            reductions: false,
        };
        let info = expr::check(self.r, at, e, &scope);
        for &a in info.free.iter().filter(|a| p.axes.is_valid(**a)) {
            let data = &p.axes[a];
            self.r.check(axes.contains(&a) || data.block == 1, "T6", at, || {
                format!("`{}` varies in the expression and is no axis of the result", data.name)
            });
        }
        let loops = &self.loops;
        let r = &mut *self.r;
        e.visit(&mut |e| {
            if let Expr::Pos(a) = e
                && p.axes.get(*a).is_some_and(|d| d.role == Role::Loop)
            {
                r.check(loops.contains(a), "T6", at, || {
                    format!("the position along `{}` is mentioned outside of its loop", p.axes[*a].name)
                });
            }
        });
        info
    }

    fn memory(
        &mut self,
        at: &str,
        b: Param,
        index: &[Ex],
        mask: Option<&Ex>,
        axes: &BTreeSet<Axis>,
        write: bool,
    ) {
        let p = self.p;
        let Some(data) = p.params.get(b) else {
            self.r.add("T3", at, format!("there is no buffer {b}"));
            return;
        };
        self.r.check(data.written == write || data.area.is_some(), "T5", at, || {
            let state = if data.written { "written" } else { "only read" };
            format!("{b} `{}` is {state}", data.name)
        });
        self.r.check(index.len() == data.dims.len(), "T5", at, || {
            format!("{} indices for {} dimensions", index.len(), data.dims.len())
        });
        for (n, e) in index.iter().enumerate() {
            let info = self.expr(at, e, axes);
            self.r.check(info.is_integer(), "T5", at, || format!("index {n} is no integer expression"));
        }
        if let Some(m) = mask {
            let info = self.expr(at, m, axes);
            self.r.check(info.is_truth(), "T13", at, || "the mask is no truth value".to_owned());
        }
    }

    /// The place of an operation with a result, if the result exists.
    fn result(&mut self, t: Tile) -> Option<String> {
        let at = format!("{} {t}", self.at);
        self.r.check(self.p.tiles.is_valid(t), "T3", &at, || format!("there is no tile {t}")).then_some(at)
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Load { out, param, index, mask, fill: _ } => {
                let Some(at) = self.result(*out) else { return };
                let axes = self.axes(*out);
                self.memory(&at, *param, index, mask.as_ref(), &axes, false);
                self.makes(&at, *out);
            }
            Op::Store { param, index, mask, value } => {
                let at = format!("{} store to {param}", self.at);
                if self.uses(&at, *value) {
                    let axes = self.axes(*value);
                    self.memory(&at, *param, index, mask.as_ref(), &axes, true);
                }
            }
            Op::Map { out, expr } => {
                let Some(at) = self.result(*out) else { return };
                let axes = self.axes(*out);
                self.expr(&at, expr, &axes);
                self.makes(&at, *out);
            }
            Op::Reduce { out, op: _, axes, src } => {
                let Some(at) = self.result(*out) else { return };
                if self.uses(&at, *src) {
                    let (from, to) = (self.axes(*src), self.axes(*out));
                    let over: BTreeSet<Axis> = axes.iter().copied().collect();
                    let inside = !axes.is_empty() && distinct(axes) && over.is_subset(&from);
                    self.r.check(inside, "T7", &at, || {
                        "it reduces over no axis, one twice, or one that the source lacks".to_owned()
                    });
                    let rest: BTreeSet<Axis> = from.difference(&over).copied().collect();
                    self.r.check(rest == to, "T7", &at, || {
                        "the result does not have the other axes of the source".to_owned()
                    });
                }
                self.makes(&at, *out);
            }
            Op::Dot { out, a, b, acc, over, kind } => {
                let Some(at) = self.result(*out) else { return };
                let ok = [self.uses(&at, *a), self.uses(&at, *b)];
                if ok == [true, true] {
                    self.dot(&at, *out, *a, *b, over, *kind);
                }
                if let Some(acc) = acc
                    && self.uses(&at, *acc)
                {
                    let same = self.axes(*acc) == self.axes(*out) && self.dtype(*acc) == self.dtype(*out);
                    self.r.check(same, "T8", &at, || "the accumulator has another type or axes".to_owned());
                }
                self.makes(&at, *out);
            }
            Op::Convert { out, src } => {
                let Some(at) = self.result(*out) else { return };
                if self.uses(&at, *src) {
                    let same = self.axes(*src) == self.axes(*out) && self.dtype(*src) == self.dtype(*out);
                    self.r.check(same, "T10", &at, || "a conversion changes type or axes".to_owned());
                }
                self.makes(&at, *out);
            }
            Op::Loop { axis, range, carried, body } => {
                let at = format!("{} loop {axis}", self.at);
                let role = self.p.axes.get(*axis).map(|d| d.role);
                if !self.r.check(role.is_some(), "T3", &at, || "there is no such axis".to_owned()) {
                    return;
                }
                self.r.check(role == Some(Role::Loop), "T11", &at, || "the axis is no loop axis".to_owned());
                self.r.check(!self.loops.contains(axis), "T11", &at, || {
                    "the loop is within a loop over the same axis".to_owned()
                });
                for bound in range.exprs() {
                    self.bound(&at, bound);
                }
                for c in carried {
                    self.uses(&at, c.initial);
                }
                let outside = self.ready.clone();
                for c in carried {
                    self.makes(&at, c.inside);
                }
                self.loops.push(*axis);
                self.ops(body);
                self.loops.pop();
                for c in carried {
                    self.uses(&at, c.next);
                }
                self.ready = outside;
                for c in carried {
                    self.makes(&at, c.after);
                    let all = [c.initial, c.inside, c.next, c.after];
                    if all.iter().all(|&t| self.p.tiles.is_valid(t)) {
                        let first = &self.p.tiles[c.initial];
                        let alike = all
                            .iter()
                            .all(|&t| self.dtype(t) == first.dtype && self.axes(t) == self.axes(c.initial));
                        self.r.check(alike, "T11", &at, || {
                            format!("{} and what is carried with it differ in type or axes", c.initial)
                        });
                        let placed = all.iter().all(|&t| self.p.tiles[t].place == first.place);
                        self.r.check(placed, "T12", &at, || {
                            format!("{} and what is carried with it have different places", c.initial)
                        });
                    }
                }
            }
        }
    }

    /// A bound of a loop: what interval arithmetic knows, over what is one number for the thread block.
    fn bound(&mut self, at: &str, e: &Ex) {
        let mut positions = BTreeSet::new();
        let mut known = true;
        e.visit(&mut |e| match e {
            Expr::Pos(a) => {
                positions.insert(*a);
            }
            Expr::Tile(t) => known &= self.p.tiles.get(*t).is_none_or(|d| d.axes.is_empty()),
            Expr::Num(_) | Expr::Size(_) => {}
            Expr::Binary(Binary::Add | Binary::Sub | Binary::Max | Binary::Min, ..) => {}
            Expr::Binary(Binary::Mul, a, b) => {
                known &= [a, b].iter().any(|x| matches!(***x, Expr::Num(_)));
            }
            _ => known = false,
        });
        self.r.check(known, "T18", at, || "interval arithmetic does not know a bound".to_owned());
        let info = self.expr(at, e, &positions);
        self.r.check(info.is_integer(), "T18", at, || "a bound is no integer expression".to_owned());
    }

    fn dot(&mut self, at: &str, out: Tile, a: Tile, b: Tile, over: &[Axis], kind: DotKind) {
        let (xs, ys) = (self.axes(a), self.axes(b));
        let k: BTreeSet<Axis> = over.iter().copied().collect();
        let contracted = !over.is_empty() && distinct(over) && k.is_subset(&xs) && k.is_subset(&ys);
        self.r.check(contracted, "T8", at, || {
            "it is over no axis, one twice, or one that an operand lacks".to_owned()
        });
        let m: BTreeSet<Axis> = xs.difference(&k).copied().collect();
        let n: BTreeSet<Axis> = ys.difference(&k).copied().collect();
        self.r.check(m.is_disjoint(&n), "T8", at, || "the operands share an axis that stays".to_owned());
        let both: BTreeSet<Axis> = m.union(&n).copied().collect();
        self.r.check(both == self.axes(out), "T8", at, || {
            "the result does not have the other axes of the operands".to_owned()
        });
        if let Some(t) = kind.matrix() {
            let types = matches!(t, DType::Bf16 | DType::F16)
                && self.dtype(a) == t
                && self.dtype(b) == t
                && self.dtype(out) == DType::F32;
            self.r.check(types, "T9", at, || {
                "tensor cores take 16-bit operands of one type into f32".to_owned()
            });
            let size = |axes: &BTreeSet<Axis>| -> u64 {
                axes.iter().map(|&a| u64::from(self.p.axes[a].block)).product()
            };
            let (m, n, k) = (size(&m), size(&n), size(&k));
            let (rows, least) = if matches!(kind, DotKind::Vectors(_)) { (1, 32) } else { (16, 16) };
            self.r.check(m >= rows && n >= 8 && k >= least, "T9", at, || {
                format!("tensor cores need {rows} x 8 x {least} positions, found {m} x {n} x {k}")
            });
        } else {
            let floats = [a, b, out].into_iter().all(|t| self.dtype(t).is_float());
            self.r.check(floats, "T8", at, || "an operand is no real".to_owned());
        }
    }
}
