//! Rings: copies that run ahead of a loop, the waits for them, and reading what arrived.
//!
//! What: iteration `n` of a loop reads stage `n % stages`, or one of several iterations that a stage is for (`span.rs`).
//! Before the loop the first stages are filled, and after the last read of a stage it is filled for what comes `stages`
//! later. What is constant is copied before the
//! kernel waits for the launches before it, everything else after.
//! Bulk copies: one barrier per stage counts their bytes. All threads have read a stage (they meet) before it is
//! overwritten. What other launches wrote was written through the generic proxy, so a proxy fence stands between the
//! wait for them and the first copy of it. The barriers are initialised before anything, with a fence and a meeting of
//! all threads.
//! Copies by threads: a thread reads only what it copied itself, so its own wait suffices.
//! In a task of a persistent kernel barriers outlive the task: the kernel initialises them, one thread arrives once for
//! each stage, and a task leaves every barrier as it found it, behind an even number of phases.
//! Pre: rings come from the stream pass. Post: a copy is issued only for an iteration that will wait for it.

use tilewright_ir::tile::{Copier, Layout, Op, Range, Ring};
use tilewright_ir::{Axis, Ex, Param, Tile};

use super::memory::{Vector, vector_of};
use super::{Emitter, sum};
use crate::CodegenError;
use crate::access::{Access, tiles_of};
use crate::bits::{LANE_BITS, weighted};
use crate::rows::{Limit, Rows, UNIT};
use crate::stream::threads_stage;

/// A load that runs ahead.
#[derive(Clone)]
pub(super) struct Ahead {
    pub(super) tile: Tile,
    pub(super) param: Param,
    pub(super) index: Vec<Ex>,
    mask: Option<Ex>,
    layout: Layout,
    /// Bytes of a vector that a thread reads.
    vector: usize,
    /// Bytes of an iteration.
    pub(super) stage: u64,
    /// For bulk copies.
    pub(super) rows: Option<(Rows, u32)>,
    /// Whether iterations lie one behind the other in memory.
    pub(super) joined: bool,
    constant: bool,
}

/// The rings of a loop.
#[derive(Clone)]
pub(super) struct Rings {
    /// The number of the loop among the operations.
    at: usize,
    pub(super) axis: Axis,
    range: Range,
    /// Stages, a power of two.
    pub(super) stages: u32,
    /// How many iterations a stage is for, a power of two.
    pub(super) span: u32,
    /// In a task: the first of its barriers among those of the kernel.
    first: u32,
    pub(super) loads: Vec<Ahead>,
    /// The name of the counter of iterations.
    pub(super) count: String,
    /// The name of the loop's counter, and its end.
    bounds: (String, String),
}

/// Who issues copies: what is constant, what is not, or both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Constant,
    Other,
    All,
}

impl Part {
    pub(super) fn has(self, load: &Ahead) -> bool {
        match self {
            Part::Constant => load.constant,
            Part::Other => !load.constant,
            Part::All => true,
        }
    }
}

/// The loads of a loop's body that run ahead.
pub(super) fn ahead(
    program: &tilewright_ir::tile::TileProgram,
    axis: Axis,
    body: &[Op],
) -> Result<Vec<Ahead>, CodegenError> {
    let mut out = Vec::new();
    for op in body {
        let Op::Load { out: tile, param, index, mask, .. } = op else { continue };
        let Some(Ring { copier, .. }) = program.tiles[*tile].ring else { continue };
        let malformed = |what: &str| CodegenError::Malformed {
            program: program.name.clone(),
            what: format!("{tile} has a ring, and {what}"),
        };
        let tilewright_ir::tile::Place::Registers(layout) = &program.tiles[*tile].place else {
            return Err(malformed("is not in registers"));
        };
        let access = Access { param: *param, index, mask: mask.as_ref() };
        let vector = super::vector_bytes(program, access, *tile, layout);
        let element = program.params[*param].dtype.bytes();
        let (stage, rows) = match copier {
            Copier::Threads if (vector as u64) < UNIT => {
                return Err(malformed("threads do not read it in vectors of 16 bytes"));
            }
            Copier::Threads => (threads_stage(program, layout, vector, element), None),
            Copier::Bulk { pad } => {
                let Some(rows) = Rows::of(program, *tile, access) else {
                    return Err(malformed("it has no rows that could be copied in bulk"));
                };
                (rows.stage(pad), Some((rows, pad)))
            }
        };
        let joined = rows.as_ref().is_some_and(|(r, pad)| *pad == 0 && r.go_on(program, access, axis));
        out.push(Ahead {
            tile: *tile,
            joined,
            param: *param,
            index: index.clone(),
            mask: mask.clone(),
            layout: layout.clone(),
            vector,
            stage,
            rows,
            constant: program.params[*param].constant,
        });
    }
    Ok(out)
}

impl Ahead {
    /// How often a barrier is arrived at for one stage of this load.
    fn arrivals(&self) -> u32 {
        match &self.rows {
            Some((rows, _)) if rows.masks.is_empty() && rows.limit.is_none() => 1,
            Some((rows, _)) => 1 << rows.rows.len().min(LANE_BITS),
            None => 0,
        }
    }
}

impl Rings {
    fn bulk(&self) -> bool {
        self.loads.iter().any(|l| l.rows.is_some())
    }

    fn by_threads(&self) -> bool {
        self.loads.iter().any(|l| l.rows.is_none())
    }

    /// The stage of this iteration, or that of so many stages later.
    fn slot(&self, ahead: &str) -> String {
        let log = self.span.trailing_zeros();
        let own = if log == 0 { self.count.clone() } else { format!("({} >> {log})", self.count) };
        let count = if ahead == "0" { own } else { format!("({own} + {ahead})") };
        format!("({count} & {})", self.stages - 1)
    }

    /// Bytes of a stage of a load.
    fn stage(&self, load: &Ahead) -> u64 {
        load.stage * u64::from(self.span)
    }

    /// Whether the loop visits all blocks of its axis.
    pub(super) fn whole(&self) -> bool {
        self.range.is_whole()
    }

    /// The number of the phase of a barrier is that of the iteration shifted by so many bits.
    fn lap(&self) -> u32 {
        self.span.trailing_zeros() + self.stages.trailing_zeros()
    }
}

impl Emitter<'_> {
    /// The rings of a loop, if it has any. Declares what they need for the whole kernel.
    pub(super) fn rings(
        &mut self,
        at: usize,
        (axis, range): (Axis, &Range),
        body: &[Op],
    ) -> Result<Option<Rings>, CodegenError> {
        let loads = ahead(self.p, axis, body)?;
        let Some(first) = loads.first() else { return Ok(None) };
        let (stages, span) = self.p.tiles[first.tile].ring.map_or((1, 1), |r| (r.stages, r.span));
        if !stages.is_power_of_two()
            || !span.is_power_of_two()
            || span > 1 && loads.iter().any(|l| l.rows.is_none())
        {
            return self.malformed(format!("{} has a ring that is not possible here", first.tile));
        }
        let rings = Rings {
            at,
            axis,
            range: range.clone(),
            stages,
            span,
            first: self.bar_count,
            loads,
            count: format!("q{at}"),
            bounds: (format!("n{}", axis.as_u32()), String::new()),
        };
        self.ahead.push_str(&format!("    unsigned {} = 0;\n", rings.count));
        if rings.bulk() && self.task() {
            self.bar_count += stages;
            self.turned.push(rings.clone());
        } else if rings.bulk() {
            let arrivals: u32 = rings.loads.iter().map(Ahead::arrivals).sum();
            let bars = self.bars(&rings)?;
            self.inits.push_str(&format!(
                "        for (int s = 0; s < {stages}; ++s) tw_barrier_init({bars} + s * 8, {arrivals});\n"
            ));
        }
        Ok(Some(rings))
    }

    /// A device function of a persistent kernel, whose barriers were initialised long before.
    pub(super) fn task(&self) -> bool {
        self.form.is_some() && !self.part
    }

    /// Where the barriers of the rings of a loop are. Those of tasks are the kernel's.
    fn bars(&self, rings: &Rings) -> Result<String, CodegenError> {
        if let Some(form) = self.form.filter(|_| !self.part) {
            return Ok(format!("((u32)__cvta_generic_to_shared(smem) + {})", form.bars + 8 * rings.first));
        }
        match self.arena.bars(rings.at) {
            Some(at) => Ok(format!("((u32)__cvta_generic_to_shared(smem) + {at})")),
            None => self.malformed(format!("the rings of the loop over {} have no barriers", rings.axis)),
        }
    }

    fn ring_at(&self, tile: Tile) -> Result<u64, CodegenError> {
        self.arena.ring(tile).map_or_else(|| self.malformed(format!("the ring of {tile} has no memory")), Ok)
    }

    /// Fills the first stages before a loop: what is constant before the kernel waits for others, where the loop is not
    /// within another and its range is known that early.
    pub(super) fn fill(&mut self, rings: &Rings) -> Result<(), CodegenError> {
        let first = self.flowing.is_empty() && self.bases.is_empty();
        // A task waited before it began.
        let known = rings.range.exprs().all(|e| tiles_of(e).is_empty());
        let early = first && known && !self.task();
        if early && rings.loads.iter().any(|l| l.constant) {
            let text = std::mem::take(&mut self.text);
            let result = self.fill_part(rings, Part::Constant);
            let early = std::mem::replace(&mut self.text, text);
            self.ahead.push_str(&early);
            result?;
        }
        let part = if early { Part::Other } else { Part::All };
        if !first && rings.bulk() {
            // The stages may still be read for the last time.
            self.sync();
        }
        if rings.loads.iter().any(|l| part.has(l)) { self.fill_part(rings, part) } else { Ok(()) }
    }

    fn fill_part(&mut self, rings: &Rings, part: Part) -> Result<(), CodegenError> {
        self.open("{");
        // The memory of a task's stages was another task's scratch before.
        if rings.loads.iter().any(|l| part.has(l) && l.rows.is_some() && (!l.constant || self.task())) {
            self.line("tw_proxy_fence();");
        }
        let (first, end) = self.bounds(rings.axis, &rings.range)?;
        self.line("#pragma unroll 1");
        self.open(format!("for (int s = 0; s < {}; ++s) {{", rings.stages));
        let first_of = if rings.span == 1 { "s".to_owned() } else { format!("s * {}", rings.span) };
        self.line(format!("const int m = {first} + {first_of};"));
        self.issue(rings, part, &end, &rings.slot("s"))?;
        self.close();
        self.close();
        Ok(())
    }

    /// Copies what iteration `m` needs to a stage, if there is such an iteration.
    fn issue(&mut self, rings: &Rings, part: Part, end: &str, slot: &str) -> Result<(), CodegenError> {
        let block = self.p.axes[rings.axis].block;
        self.open(format!("if (m < {end}) {{"));
        let loads: Vec<&Ahead> = rings.loads.iter().filter(|l| part.has(l)).collect();
        if rings.span > 1 {
            for load in loads {
                let (bar, to) = self.stage_of(rings, load, slot)?;
                self.copy_span(rings, load, end, &to, &bar)?;
            }
        } else {
            let times = if block == 1 { String::new() } else { format!(" * {block}") };
            let base = self.fresh("ka");
            self.line(format!("const int {base} = m{times};"));
            let before = self.bases.insert(rings.axis, base);
            for load in loads {
                match &load.rows {
                    Some((rows, pad)) => {
                        let (bar, to) = self.stage_of(rings, load, slot)?;
                        self.copy_rows(load.param, &load.index, (rows, *pad), &to, &bar)?;
                    }
                    None => self.copy_vectors(load, slot)?,
                }
            }
            match before {
                Some(name) => self.bases.insert(rings.axis, name),
                None => self.bases.remove(&rings.axis),
            };
        }
        if self.task() && rings.bulk() {
            // Once for all loads, so that the barriers of all tasks are alike.
            self.open(if self.p.warps > 1 { "if (warp == 0) {" } else { "{" });
            self.line("__syncwarp();");
            let bars = self.bars(rings)?;
            self.line(format!("if (lane == 0) tw_arrive({bars} + {slot} * 8, 1);"));
            self.close();
        }
        self.close();
        if rings.loads.iter().any(|l| part.has(l) && l.rows.is_none()) {
            // Also where nothing was copied: waits count groups.
            self.line("tw_commit();");
        }
        Ok(())
    }

    /// The barrier of a stage, and where the bytes of a load are in it.
    fn stage_of(&self, rings: &Rings, load: &Ahead, slot: &str) -> Result<(String, String), CodegenError> {
        let (bars, at) = (self.bars(rings)?, self.ring_at(load.tile)?);
        let to = format!("(u32)__cvta_generic_to_shared(smem) + {at} + {slot} * {}", rings.stage(load));
        Ok((format!("{bars} + {slot} * 8"), to))
    }

    /// Copies rows to an address of shared memory; a barrier learns how many bytes to expect.
    pub(super) fn copy_rows(
        &mut self,
        param: Param,
        index: &[Ex],
        (rows, pad): (&Rows, u32),
        to: &str,
        bar: &str,
    ) -> Result<(), CodegenError> {
        let layout = rows.layout(self.p);
        let expect = if self.task() { "tw_expect_more" } else { "tw_expect" };
        let lanes = 1u32 << rows.rows.len().min(LANE_BITS);
        let mut who = Vec::new();
        if self.p.warps > 1 {
            who.push("warp == 0".to_owned());
        }
        if lanes < 32 {
            who.push(format!("lane < {lanes}"));
        }
        self.open(if who.is_empty() { "{".to_owned() } else { format!("if ({}) {{", who.join(" && ")) });
        let address = self.address(param, index, &layout);
        let whole = Vector::new(&layout, Vec::new());
        self.line(format!("const u32 bar = {bar};"));
        let place = self.place_of_row(rows, &layout, pad, to);
        let count = 1usize << layout.regs.len();
        if rows.masks.is_empty() && rows.limit.is_none() {
            self.line(format!("if (lane == 0) {expect}(bar, {});", rows.count() * rows.bytes()));
            self.open_unrolled("r", count);
            let from = self.group_address(&address, &layout, &whole)?;
            self.line(format!("tw_copy_bulk({place}, {from}, {}, bar);", rows.bytes()));
            self.close();
        } else {
            self.line(format!("u32 size[{count}];"));
            self.line("u32 all = 0;");
            self.open_unrolled("r", count);
            let size = self.row_size(rows, &layout)?;
            self.line(format!("size[r] = {size};"));
            self.line("all += size[r];");
            self.close();
            self.line(format!("{expect}(bar, all);"));
            self.open_unrolled("r", count);
            let from = self.group_address(&address, &layout, &whole)?;
            self.line(format!("if (size[r] > 0) tw_copy_bulk({place}, {from}, size[r], bar);"));
            self.close();
        }
        self.close();
        Ok(())
    }

    /// Where row `r` of this thread goes, from the place `to` of the stage.
    pub(super) fn place_of_row(&mut self, rows: &Rows, layout: &Layout, pad: u32, to: &str) -> String {
        let thread = self.thread(layout, |b| rows.weight(b, pad));
        let to = sum([Some(to.to_owned()), thread]);
        self.line(format!("const u32 to = {to};"));
        let pairs: Vec<(usize, i64)> =
            layout.regs.iter().enumerate().map(|(q, &b)| (q, rows.weight(b, pad))).collect();
        sum([Some("to".to_owned()), weighted("r", &pairs)])
    }

    /// How many bytes of a row are there that goes on for so many iterations.
    pub(super) fn joined_size(&mut self, rows: &Rows, many: &str) -> String {
        match rows.limit {
            Some(Limit { axis, end, low, step }) => {
                let base = self.base(axis).unwrap_or_else(|| "0".to_owned());
                let most = rows.bytes() / step;
                let most = if many == "1" { most.to_string() } else { format!("{many} * {most}") };
                format!("(u32)(tw_max(0, tw_min(({end} - {base}) >> {low}, {most})) * {step})")
            }
            None if many == "1" => format!("{}u", rows.bytes()),
            None => format!("{many} * {}", rows.bytes()),
        }
    }

    /// How many bytes of row `r` are there.
    pub(super) fn row_size(&mut self, rows: &Rows, layout: &Layout) -> Result<String, CodegenError> {
        let mut size = self.joined_size(rows, "1");
        for mask in &rows.masks {
            if let Some(ok) = self.group_mask(Some(mask), layout)? {
                size = format!("({ok} ? {size} : 0u)");
            }
        }
        Ok(size)
    }

    /// Copies rows to an address of shared memory, all lanes of a warp together.
    pub(super) fn copy_rows_by_lanes(
        &mut self,
        param: Param,
        index: &[Ex],
        (rows, pad): (&Rows, u32),
        to: &str,
    ) -> Result<(), CodegenError> {
        let layout = rows.layout(self.p);
        let lanes = 1u32 << rows.rows.len().min(LANE_BITS);
        self.open("{");
        let address = self.address(param, index, &layout);
        let whole = Vector::new(&layout, Vec::new());
        let place = self.place_of_row(rows, &layout, pad, to);
        self.open_unrolled("r", 1usize << layout.regs.len());
        let mut size = self.row_size(rows, &layout)?;
        if lanes < 32 {
            size = format!("lane < {lanes} ? {size} : 0u");
        }
        let from = self.group_address(&address, &layout, &whole)?;
        let units = rows.bytes() / UNIT;
        self.line(format!("tw_copy_rows<{lanes}, {units}>({place}, {from}, {size});"));
        self.close();
        self.close();
        Ok(())
    }

    fn copy_vectors(&mut self, load: &Ahead, slot: &str) -> Result<(), CodegenError> {
        let access = Access { param: load.param, index: &load.index, mask: load.mask.as_ref() };
        let vector = vector_of(self.p, access, load.tile, &load.layout);
        let at = self.ring_at(load.tile)?;
        self.open("{");
        let address = self.address(load.param, &load.index, &load.layout);
        self.line(format!(
            "const u32 to = (u32)__cvta_generic_to_shared(smem) + {at} + {slot} * {} + threadIdx.x * {};",
            load.stage, load.vector
        ));
        self.open_groups(&vector);
        let ok = self.group_mask(load.mask.as_ref(), &load.layout)?;
        let from = self.group_address(&address, &load.layout, &vector)?;
        let guard = ok.map_or(String::new(), |ok| format!("if ({ok}) "));
        let each = load.vector as u64 * u64::from(self.p.threads());
        self.line(format!("{guard}tw_copy(to + g * {each}, {from});"));
        self.close();
        self.close();
        Ok(())
    }

    /// Waits for the stage of this iteration.
    pub(super) fn await_stage(&mut self, rings: &Rings) -> Result<(), CodegenError> {
        if rings.bulk() {
            let bars = self.bars(rings)?;
            let parity = format!("({} >> {}) & 1", rings.count, rings.lap());
            // The first iteration of a stage waits for all of them.
            let first = match rings.span {
                1 => String::new(),
                span => format!("if (({} & {}) == 0) ", rings.count, span - 1),
            };
            self.line(format!("{first}tw_await({bars} + {} * 8, {parity});", rings.slot("0")));
        }
        if rings.by_threads() {
            self.line(format!("tw_await_groups<{}>();", rings.stages - 1));
        }
        Ok(())
    }

    /// Where a thread finds a vector of a tile in the stage of this iteration: a pointer, and what to add to it for a group.
    pub(super) fn staged(
        &mut self,
        tile: Tile,
        vector: &Vector,
    ) -> Result<Option<(String, String)>, CodegenError> {
        if let Some(found) = self.fed_at(tile, vector)? {
            return Ok(Some(found));
        }
        let found =
            self.flowing.iter().rev().find_map(|r| r.loads.iter().find(|l| l.tile == tile).map(|l| (r, l)));
        let Some((rings, load)) = found else { return Ok(None) };
        let mut place = format!("{} * {}", rings.slot("0"), rings.stage(load));
        if rings.span > 1 {
            place.push_str(&format!(" + ({} & {}) * {}", rings.count, rings.span - 1, load.stage));
        }
        let load = load.clone();
        let at = self.ring_at(tile)?;
        let (thread, group) = match &load.rows {
            Some((rows, pad)) => {
                let weight = |b| rows.weight(b, *pad);
                let moving = load.layout.regs.iter().enumerate().filter(|(q, _)| !vector.regs.contains(q));
                let pairs: Vec<(usize, i64)> = moving.map(|(q, &b)| (q, weight(b))).collect();
                (self.thread(&load.layout, weight), weighted("r", &pairs))
            }
            None => {
                let each = load.vector as u64 * u64::from(self.p.threads());
                (Some(format!("threadIdx.x * {}", load.vector)), Some(format!("g * {each}")))
            }
        };
        let pointer = self.fresh("a");
        let from = sum([Some(format!("smem + {at} + {place}")), thread]);
        self.line(format!("const unsigned char* {pointer} = {from};"));
        Ok(Some((pointer, group.unwrap_or_else(|| "0".to_owned()))))
    }

    /// After a load: if it was the last of its loop that runs ahead, the stage is filled again.
    pub(super) fn refill_after(&mut self, tile: Tile) -> Result<(), CodegenError> {
        let Some(rings) =
            self.flowing.last().filter(|r| r.loads.last().is_some_and(|l| l.tile == tile)).cloned()
        else {
            return Ok(());
        };
        let data = &self.p.axes[rings.axis];
        let trips = data.extent.as_const().filter(|_| data.runs.is_none() && rings.range.is_whole());
        let filled = u64::from(rings.stages) * u64::from(rings.span);
        let enough = trips.is_some_and(|n| n.div_ceil(u64::from(data.block)) <= filled);
        if enough {
            // Nothing is left to copy; waits count groups all the same.
            if rings.by_threads() {
                self.line("tw_commit();");
            }
            return Ok(());
        }
        if rings.span > 1 {
            self.open(format!("if (({} & {1}) == {1}) {{", rings.count, rings.span - 1));
        }
        if rings.bulk() {
            self.sync();
        }
        self.open("{");
        // From the last iteration of a stage to the first of the one that is filled.
        let ahead = rings.stages * rings.span - (rings.span - 1);
        self.line(format!("const int m = {} + {ahead};", rings.bounds.0));
        self.issue(&rings, Part::All, &rings.bounds.1, &rings.slot("0"))?;
        self.close();
        if rings.span > 1 {
            self.close();
        }
        Ok(())
    }

    /// Enters and leaves the body of a loop.
    pub(super) fn enter(&mut self, mut rings: Rings, end: &str) -> Result<(), CodegenError> {
        rings.bounds.1 = end.to_owned();
        self.await_stage(&rings)?;
        self.flowing.push(rings);
        Ok(())
    }

    /// The end of a task: barriers that ended an odd number of phases end one more, so that every task finds them alike.
    pub(super) fn even(&mut self) -> Result<(), CodegenError> {
        for (n, rings) in std::mem::take(&mut self.turned).iter().enumerate() {
            if n == 0 {
                // Everybody is through with the last phase.
                self.sync();
            }
            let warp = if self.p.warps > 1 { "warp == 0 && " } else { "" };
            let (stages, log) = (rings.stages, rings.stages.trailing_zeros());
            let used = match rings.span {
                1 => rings.count.clone(),
                span => format!("(({} + {}) >> {})", rings.count, span - 1, span.trailing_zeros()),
            };
            let odd = format!("((({used} + {} - lane) >> {log}) & 1)", stages - 1);
            let bars = self.bars(rings)?;
            self.line(format!("if ({warp}lane < {stages} && {odd}) tw_arrive({bars} + lane * 8, 1);"));
        }
        Ok(())
    }

    /// The end of an iteration.
    pub(super) fn leave(&mut self) {
        if let Some(rings) = self.flowing.pop() {
            self.line(format!("++{};", rings.count));
        }
    }

    /// After a loop: the next one begins with a stage.
    pub(super) fn ended(&mut self, rings: &Rings) {
        if rings.span > 1 {
            self.line(format!("{0} = ({0} + {1}) & ~{1}u;", rings.count, rings.span - 1));
        }
    }
}
