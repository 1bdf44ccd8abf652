//! Maps, reductions and loops.

use tilewright_ir::tile::{AxisBit, Carried, Op, Place, Range, TileProgram};
use tilewright_ir::{Axis, DType, Ex, Expr, Param, Reduction, Tile};

use super::Emitter;
use super::arena::{crossed, element_bits};
use super::expr::{ExprGen, Ty, literal};
use super::kernel::readable;
use super::tiles::{c_type, name, value_type};
use crate::CodegenError;
use crate::access::tiles_of;
use crate::bits::{reg_of, reg_part, weighted};
use crate::layout::dot::Dot;

/// The type of reals in an operation: f64 if any of its tiles is.
pub(super) fn real_type<'e>(
    program: &TileProgram,
    out: Option<Tile>,
    exprs: impl IntoIterator<Item = &'e Ex>,
) -> Ty {
    let is = |t: Tile| program.tiles[t].dtype == DType::F64;
    let mut wide = out.is_some_and(is);
    for e in exprs {
        e.visit(&mut |node| wide |= matches!(node, Expr::Tile(t) if is(*t)));
    }
    if wide { Ty::F64 } else { Ty::F32 }
}

impl Emitter<'_> {
    /// Emits operations in order.
    pub(super) fn body(&mut self, body: &[Op]) -> Result<(), CodegenError> {
        for op in body {
            let at = self.ops;
            self.ops += 1;
            match op {
                Op::Load { out, param, index, mask, fill } => {
                    if self.p.params[*param].area.is_some() {
                        self.synchronise(at, 0);
                    }
                    if self.early(*out, *param, index, mask.as_ref()) {
                        let text = std::mem::take(&mut self.text);
                        let result = self.load(*out, *param, index, mask.as_ref(), *fill);
                        let early = std::mem::replace(&mut self.text, text);
                        self.early.push_str(&early);
                        result?;
                        self.known.insert(*out);
                        continue;
                    }
                    self.load(*out, *param, index, mask.as_ref(), *fill)?;
                    self.refill_after(*out)?;
                    self.release_after(*out)?;
                }
                Op::Store { param, index, mask, value } => {
                    if self.p.params[*param].area.is_some() {
                        self.synchronise(at, 0);
                    }
                    self.store(*param, index, mask.as_ref(), *value)?
                }
                Op::Map { out, expr } => self.map(*out, expr)?,
                Op::Reduce { out, op, axes, src } => self.reduce(at, *out, *op, axes, *src)?,
                Op::Dot { out, a, b, acc, over, kind } => {
                    self.dot(at, Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind })?;
                }
                Op::Convert { out, src } => self.convert(at, *out, *src)?,
                Op::Loop { axis, range, carried, body } => {
                    self.loop_over(at, (*axis, range), carried, body)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a load may stand before the kernel waits for others: of something that nothing writes, at addresses that are
    /// known by then, and of so little that nobody minds the registers.
    fn early(&self, out: Tile, param: Param, index: &[Ex], mask: Option<&Ex>) -> bool {
        let outside = self.flowing.is_empty() && self.bases.is_empty();
        let waits = self.form.is_none() || self.part;
        let few = matches!(&self.p.tiles[out].place, Place::Registers(l) if l.regs.len() <= 1);
        let known = |e: &Ex| tiles_of(e).iter().all(|t| self.known.contains(t));
        outside && waits && few && self.p.params[param].constant && index.iter().chain(mask).all(known)
    }

    fn map(&mut self, out: Tile, expr: &Ex) -> Result<(), CodegenError> {
        let layout = self.layout(out)?;
        let dtype = self.p.tiles[out].dtype;
        let real = real_type(self.p, Some(out), [expr]);
        self.declare(out)?;
        self.open("{");
        let staging = self.stage_values(out)?;
        self.open_unrolled("r", 1 << layout.regs.len());
        // The tile rounds to its type by itself.
        let expr = match &**expr {
            Expr::Cast(d, x) if *d == dtype => x,
            _ => expr,
        };
        let code = {
            let mut g = ExprGen::new(self, &layout, "r", real);
            let v = g.value(expr)?;
            g.stored(dtype, &v)
        };
        self.line(format!("{}[r] = {code};", staging.array));
        self.close();
        self.unstage(out, &staging)?;
        self.close();
        Ok(())
    }

    /// Copies all registers of a tile to another with the same layout.
    pub(super) fn copy(&mut self, to: &str, from: &str, len: usize) {
        self.open_unrolled("r", len);
        self.line(format!("{to}[r] = {from}[r];"));
        self.close();
    }

    /// The first iteration of a loop and the one behind the last, as expressions; emits what they need.
    pub(super) fn bounds(&mut self, axis: Axis, range: &Range) -> Result<(String, String), CodegenError> {
        let data = self.p.axes[axis].clone();
        let (start, end) = self.within(axis, range)?;
        let Some(number) = data.runs else { return Ok((start, end)) };
        let Some(at) = self.base(number).filter(|_| self.p.axes[number].block == 1) else {
            return self.malformed(format!("{axis} has runs by {number}, which is no grid axis"));
        };
        let runs = self.blocks(self.p.axes[number].extent, 1);
        let each = self.fresh("each");
        if start == "0" {
            self.line(format!("const int {each} = ({end} + {runs} - 1) / {runs};"));
            return Ok((format!("{at} * {each}"), format!("tw_min({end}, ({at} + 1) * {each})")));
        }
        self.line(format!("const int {each} = ({end} - {start} + {runs} - 1) / {runs};"));
        Ok((format!("{start} + {at} * {each}"), format!("tw_min({end}, {start} + ({at} + 1) * {each})")))
    }

    fn loop_over(
        &mut self,
        at: usize,
        (axis, range): (Axis, &Range),
        carried: &[Carried],
        body: &[Op],
    ) -> Result<(), CodegenError> {
        let rings = self.rings(at, (axis, range), body)?;
        if let Some(rings) = &rings {
            self.fill(rings)?;
        }
        for c in carried {
            let layouts = [c.initial, c.inside, c.next, c.after].map(|t| self.p.tiles[t].place.clone());
            if layouts.iter().any(|l| *l != layouts[0]) {
                return self
                    .malformed(format!("{} is carried around a loop with different places", c.inside));
            }
            self.declare(c.inside)?;
            let len = self.array_len(c.inside)?;
            self.copy(&name(c.inside), &name(c.initial), len);
        }
        let data = self.p.axes[axis].clone();
        let (n, base) = (format!("n{}", axis.as_u32()), format!("k{}", axis.as_u32()));
        let (first, end) = self.bounds(axis, range)?;
        self.line("#pragma unroll 1");
        self.open(format!("for (int {n} = {first}; {n} < {end}; ++{n}) {{ // {}", readable(&data.name)));
        let times = if data.block == 1 { String::new() } else { format!(" * {}", data.block) };
        self.line(format!("const int {base} = {n}{times};"));
        self.bases.insert(axis, base);
        let streams = rings.clone();
        if let Some(rings) = rings {
            self.enter(rings, &end)?;
        }
        let outer = self.fed;
        self.await_pages(body)?;
        self.body(body)?;
        if streams.is_some() {
            self.leave();
        }
        self.fed = outer;
        self.bases.remove(&axis);
        // All at once: one carried tile may become the next value of another.
        let swaps = |t: Tile| carried.iter().any(|c| c.inside == t);
        let mut late = Vec::new();
        for c in carried.iter().filter(|c| c.next != c.inside && swaps(c.next)) {
            let (len, dtype) = (self.array_len(c.inside)?, self.p.tiles[c.inside].dtype);
            let temp = self.fresh("v");
            self.line(format!("{} {temp}[{len}];", c_type(dtype)));
            self.copy(&temp, &name(c.next), len);
            late.push((c.inside, temp, len));
        }
        for c in carried.iter().filter(|c| !swaps(c.next)) {
            let len = self.array_len(c.inside)?;
            self.copy(&name(c.inside), &name(c.next), len);
        }
        for (inside, temp, len) in late {
            self.copy(&name(inside), &temp, len);
        }
        self.close();
        if let Some(rings) = &streams {
            self.ended(rings);
        }
        for c in carried {
            self.declare(c.after)?;
            let len = self.array_len(c.after)?;
            self.copy(&name(c.after), &name(c.inside), len);
        }
        Ok(())
    }

    fn reduce(
        &mut self,
        at: usize,
        out: Tile,
        op: Reduction,
        axes: &[Axis],
        src: Tile,
    ) -> Result<(), CodegenError> {
        let (from, to) = (self.layout(src)?, self.layout(out)?);
        let (source_type, dtype) = (self.p.tiles[src].dtype, self.p.tiles[out].dtype);
        let value = value_type(source_type).max(value_type(dtype)).max(Ty::I32);
        let gone = |b: AxisBit| axes.contains(&b.axis);
        let combine = |a: &str, b: &str| match op {
            Reduction::Sum => format!("{a} + {b}"),
            Reduction::Max => format!("tw_max({a}, {b})"),
            Reduction::Min => format!("tw_min({a}, {b})"),
        };
        self.declare(out)?;
        self.open("{");
        let count = 1usize << to.regs.len();
        // Within the thread, as a tree. `kept` are the register bits that survive.
        let mut kept: Vec<AxisBit> = from.regs.iter().copied().filter(|&b| !gone(b)).collect();
        let summed: Vec<(usize, i64)> = (0..from.regs.len())
            .filter(|&q| gone(from.regs[q]))
            .enumerate()
            .map(|(n, q)| (n, 1i64 << q))
            .collect();
        let rest: Vec<(usize, i64)> =
            kept.iter().enumerate().filter_map(|(n, &b)| reg_of(&from, b).map(|q| (n, 1i64 << q))).collect();
        let terms = 1usize << summed.len();
        let mut all = self.fresh("v");
        self.line(format!("{} {all}[{}];", value.c(), 1usize << kept.len()));
        self.open_unrolled("r", 1 << kept.len());
        self.line(format!("{} u[{terms}];", value.c()));
        self.open_unrolled("q", terms);
        let element = self.element(src, &super::sum([weighted("r", &rest), weighted("q", &summed)]))?;
        self.line(format!("u[q] = ({}){element};", value.c()));
        self.close();
        // Level by level in the text: a loop over levels is not always unrolled, and then the terms go to local memory.
        let mut half = terms / 2;
        while half > 0 {
            self.open_unrolled("q", half);
            self.line(format!("u[q] = {};", combine("u[q]", &format!("u[q + {half}]"))));
            self.close();
            half /= 2;
        }
        self.line(format!("{all}[r] = u[0];"));
        self.close();
        // Across lanes: first those that share the results (each exchange halves what a lane goes on with), then those
        // that all get them.
        for (n, _) in from.lanes.iter().enumerate().filter(|(_, bit)| bit.is_some_and(gone)) {
            let Some(at) = to.lanes[n].and_then(|bit| kept.iter().position(|&b| b == bit)) else { continue };
            kept.remove(at);
            let half = self.fresh("v");
            self.line(format!("{} {half}[{}];", value.c(), 1usize << kept.len()));
            self.open_unrolled("r", 1 << kept.len());
            let spread: Vec<(usize, i64)> =
                (0..kept.len()).map(|q| (q, 1i64 << (q + usize::from(q >= at)))).collect();
            let low = weighted("r", &spread).unwrap_or_else(|| "0".to_owned());
            self.line(format!("const bool upper = (lane >> {n}) & 1;"));
            self.line(format!("const {} x = {all}[{low}], y = {all}[{low} + {}];", value.c(), 1usize << at));
            let other = format!("tw_lane(upper ? x : y, {})", 1 << n);
            self.line(format!("{half}[r] = {};", combine("(upper ? y : x)", &other)));
            self.close();
            all = half;
        }
        let plain: Vec<usize> = (0..from.lanes.len())
            .filter(|&n| from.lanes[n].is_some_and(gone) && to.lanes[n].is_none())
            .collect();
        if !plain.is_empty() {
            self.open_unrolled("r", count);
            for n in plain {
                let other = format!("tw_lane({all}[r], {})", 1 << n);
                self.line(format!("{all}[r] = {};", combine(&format!("{all}[r]"), &other)));
            }
            self.close();
        }
        if kept != to.regs {
            return self.malformed(format!("the layout of {out} does not follow from that of {src}"));
        }
        self.across_warps(at, value, &all, &from, &to, &combine)?;
        let staging = self.stage_values(out)?;
        self.open_unrolled("r", count);
        let stored = match dtype {
            DType::Bool => format!("{all}[r] != 0"),
            DType::F16 | DType::Bf16 => format!("(float){all}[r]"),
            _ => format!("({}){all}[r]", c_type(dtype)),
        };
        self.line(format!("{}[r] = {stored};", staging.array));
        self.close();
        self.unstage(out, &staging)?;
        self.close();
        Ok(())
    }

    /// Combines the partial results of warps through shared memory, if any warp bit is reduced.
    fn across_warps(
        &mut self,
        at: usize,
        value: Ty,
        all: &str,
        from: &tilewright_ir::tile::Layout,
        to: &tilewright_ir::tile::Layout,
        combine: &dyn Fn(&str, &str) -> String,
    ) -> Result<(), CodegenError> {
        let crossed = crossed(from, to);
        if crossed.is_empty() {
            return Ok(());
        }
        let Some(offset) = self.arena.scratch(at) else {
            return self.malformed("a reduction across warps has no scratch area".to_owned());
        };
        let bits = element_bits(to);
        let elements = 1usize << bits.len();
        let weight = |b: AxisBit| bits.iter().position(|&x| x == b).map_or(0, |n| 1i64 << n);
        let thread = self.thread(to, weight);
        let part: Vec<(usize, i64)> =
            crossed.iter().enumerate().map(|(n, &w)| (w, (elements << n) as i64)).collect();
        let mine = weighted("warp", &part).map(|code| self.per_thread(code));
        let s = self.fresh("s");
        self.line(format!("{0}* {s} = ({0}*)(smem + {offset});", value.c()));
        let count = 1usize << to.regs.len();
        let reg = reg_part(to, "r", weight);
        if self.arena.barrier(at, 0) {
            self.sync();
        }
        // One of the threads that hold the same partial result writes it.
        let copies_l: usize = (0..5).filter(|&n| to.lanes[n].is_none()).map(|n| 1 << n).sum();
        let copies_w: usize = (0..to.warps.len())
            .filter(|&n| to.warps[n].is_none() && !crossed.contains(&n))
            .map(|n| 1 << n)
            .sum();
        let guard = guard(copies_l, copies_w);
        if let Some(guard) = &guard {
            self.open(format!("if ({guard}) {{"));
        }
        self.open_unrolled("r", count);
        self.line(format!("{s}[{}] = {all}[r];", super::sum([thread.clone(), mine, reg.clone()])));
        self.close();
        if guard.is_some() {
            self.close();
        }
        if self.arena.barrier(at, 1) {
            self.sync();
        }
        self.open_unrolled("r", count);
        let address = super::sum([thread, reg]);
        self.line(format!("{} x = {s}[{address}];", value.c()));
        self.line("#pragma unroll");
        self.open(format!("for (int q = 1; q < {}; ++q) {{", 1 << crossed.len()));
        self.line(format!("x = {};", combine("x", &format!("{s}[{address} + q * {elements}]"))));
        self.close();
        self.line(format!("{all}[r] = x;"));
        self.close();
        Ok(())
    }
}

/// The condition under which a thread is the first of those that differ only in the given lane and warp bits.
pub(super) fn guard(lanes: usize, warps: usize) -> Option<String> {
    match (lanes, warps) {
        (0, 0) => None,
        (l, 0) => Some(format!("(lane & {l}) == 0")),
        (0, w) => Some(format!("(warp & {w}) == 0")),
        (l, w) => Some(format!("(lane & {l}) == 0 && (warp & {w}) == 0")),
    }
}

/// A literal for C of a value type; for callers outside of expressions.
pub(super) fn constant(x: f64, ty: Ty) -> String {
    literal(x, ty)
}
