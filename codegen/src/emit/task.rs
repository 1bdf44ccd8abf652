//! Tile programs as tasks of a persistent kernel: a device function that does the work of one block, and one that copies
//! what the work needs and nothing writes.
//!
//! What: [`TaskBody`] decides what is copied ahead by another warp (its loops are *fed*), and which other loads go through
//! rings of the task's own. A fed loop takes the pages of its iterations from a ring of pages that all tasks share, one
//! stage after the other; whoever copies takes the same ones in the same order. Of each page two barriers are known: it is
//! full, it is empty. A lap of the ring completes one phase of each.
//! Why here: the function that copies must mirror the one that computes.
//! Pre: see [`BodyOptions`]. Post: what a task computes is bit for bit what the kernel of its program does.

use cranelift_entity::PrimaryMap;
use tilewright_ir::tile::{Copier, Op, Range, TileProgram};
use tilewright_ir::{Extent, Param, Sym, SymData, Tile};

use super::kernel::readable;
use super::memory::Vector;
use super::prelude::{BODY_PRELUDE, FEED_PRELUDE, PRELUDE, RING_PRELUDE};
use super::{Emitter, Inlining, arena, sum};
use crate::bits::weighted;
use crate::feed::{FeedLoop, feeds};
use crate::stream::{Budget, stream_within};
use crate::{CodegenError, Target, assign_layouts};

/// The ring of pages in a kernel's shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePlan {
    /// The first byte of the first page.
    pub at: u32,
    /// Bytes of a page.
    pub size: u32,
    /// Pages.
    pub count: u32,
    /// The first of the barriers that say that a page is full, 8 bytes for each page; those for empty pages follow, then
    /// a word that says whether to stop and one that counts stages.
    pub bars: u32,
    /// Warps of tasks that are fed, all of which have as many: a page is empty after so many arrivals.
    pub warps: u32,
    /// Whether copies are made in bulk, by one thread; else all lanes of the warp copy, and each arrives where a page is full.
    pub bulk: bool,
}

impl PagePlan {
    /// The first of the barriers that say that a page is empty.
    pub fn empty(&self) -> u32 {
        self.bars + 8 * self.count
    }

    /// The word that says whether to stop.
    pub fn flag(&self) -> u32 {
        self.bars + 16 * self.count
    }

    /// How many arrive where a page is full.
    pub fn fillers(&self) -> u32 {
        if self.bulk { 1 } else { 32 }
    }

    /// The word that counts stages.
    pub fn counted(&self) -> u32 {
        self.flag() + 4
    }

    /// Pages of a stage of so many bytes.
    pub fn pages(&self, stage: u64) -> u64 {
        stage.div_ceil(u64::from(self.size.max(1)))
    }
}

/// How a program becomes a device function that another kernel calls.
#[derive(Clone, Copy, Debug)]
pub struct BodyOptions<'a> {
    /// The name of the function.
    pub name: &'a str,
    /// For each buffer, whether nothing writes it while the calling kernel runs. Only such buffers are read past the
    /// coherent caches.
    pub constant: &'a [bool],
    /// The first byte of the barriers of rings in shared memory. Each is initialised for one arrival.
    pub bars: u32,
    /// The pages; without them a task copies everything itself.
    pub pages: Option<PagePlan>,
}

/// Device functions of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodySource {
    /// Its name.
    pub name: String,
    /// The text of the function, which goes behind [`prelude`]. Its arguments are the buffers, the parameter block, the
    /// linear index of the block, and where pages begin if there are any; its shared memory is the caller's, from the
    /// first byte.
    pub cuda: String,
    /// The function that copies, with the same arguments: a name and a text. One warp calls it. It returns where it is in the
    /// ring of pages, with bit 30 set if it was told to stop.
    pub feeder: Option<(String, String)>,
    /// The C types of its buffer arguments.
    pub params: Vec<String>,
    /// How many threads call it: the first ones of the block. They meet at the named barrier 1.
    pub threads: u32,
    /// Shared memory in bytes.
    pub shared_bytes: u32,
}

/// The text in front of functions.
pub fn prelude() -> String {
    [PRELUDE, BODY_PRELUDE, RING_PRELUDE, FEED_PRELUDE].concat()
}

/// A tile program that becomes a task: its places, and what is copied ahead.
#[derive(Debug)]
pub struct TaskBody {
    program: TileProgram,
    arena: arena::Arena,
    feeds: Vec<FeedLoop>,
}

impl TaskBody {
    /// Decides for a program. A stage of pages has at most so many bytes, none without pages; rings of its own take at most
    /// `rings` bytes.
    pub fn new(
        program: &TileProgram,
        target: Target,
        constant: &[bool],
        stage: u64,
        rings: u64,
    ) -> Result<TaskBody, CodegenError> {
        let placed = assign_layouts(program)?;
        let feeds = feeds(&placed, constant, stage);
        let fed = |tile: Tile| feeds.iter().any(|f| f.loads.iter().any(|l| l.tile == tile));
        let budget = Budget { usual: rings, most: rings };
        let program = stream_within(&placed, target, budget, &|tile| !fed(tile))?;
        let arena = arena::plan(&program, target.program_limit())?;
        Ok(TaskBody { program, arena, feeds })
    }

    /// Threads of the task.
    pub fn threads(&self) -> u32 {
        self.program.threads()
    }

    /// Shared memory besides pages.
    pub fn shared_bytes(&self) -> u64 {
        self.arena.bytes
    }

    /// Barriers of its rings.
    pub fn bars(&self) -> u32 {
        fn of(program: &TileProgram, body: &[Op], out: &mut u32) {
            for op in body {
                let Op::Loop { body, .. } = op else { continue };
                let bulk = body.iter().find_map(|op| match op {
                    Op::Load { out, .. } => {
                        program.tiles[*out].ring.filter(|r| matches!(r.copier, Copier::Bulk { .. }))
                    }
                    _ => None,
                });
                *out += bulk.map_or(0, |r| r.stages);
                of(program, body, out);
            }
        }
        let mut out = 0;
        of(&self.program, &self.program.body, &mut out);
        out
    }

    /// The stages that a block takes from the ring of pages: loop after loop, how many there are, the bytes of shared memory
    /// of one and the bytes that are copied to it.
    pub fn stages(&self, block: u64) -> Vec<(u64, u64, u64)> {
        self.feeds.iter().map(|f| (f.trips(&self.program, block), f.stage, f.bytes)).collect()
    }

    /// What a block loads by itself of buffers that nothing writes: the buffer, and bytes with masked ones included. `size`
    /// says how large an extent is.
    pub fn unfed(&self, constant: &[bool], size: &dyn Fn(Extent) -> u64) -> Vec<(Param, u64)> {
        let mut out = Vec::new();
        let mut open: Vec<(&[Op], u64)> = vec![(&self.program.body, 1)];
        while let Some((body, times)) = open.pop() {
            for op in body {
                match op {
                    Op::Load { out: tile, param, .. } => {
                        let fed = self.feeds.iter().any(|f| f.loads.iter().any(|l| l.tile == *tile));
                        if !fed && constant.get(param.as_u32() as usize).is_some_and(|&c| c) {
                            let each = self.program.params[*param].dtype.bytes() as u64;
                            out.push((*param, times.saturating_mul(self.program.elements(*tile)) * each));
                        }
                    }
                    Op::Loop { axis, body, .. } => {
                        let data = &self.program.axes[*axis];
                        let runs = data.runs.map_or(1, |r| size(self.program.axes[r].extent)).max(1);
                        let trips = size(data.extent).div_ceil(u64::from(data.block.max(1))).div_ceil(runs);
                        open.push((body, times.saturating_mul(trips)));
                    }
                    _ => {}
                }
            }
        }
        out
    }

    /// Writes the functions.
    pub fn emit(
        &self,
        symbols: &PrimaryMap<Sym, SymData>,
        options: &BodyOptions<'_>,
    ) -> Result<BodySource, CodegenError> {
        let new = || {
            let mut e = Emitter::new(&self.program, symbols, &self.arena, Some(*options));
            e.feeds = &self.feeds;
            e
        };
        let mut body = new().function(options, Inlining::Never)?;
        if !self.feeds.is_empty() {
            let name = format!("{}_feed", options.name);
            let text = new().feeder(&name)?;
            body.feeder = Some((name, text));
        }
        Ok(body)
    }
}

fn address(at: u32) -> String {
    format!("(u32)__cvta_generic_to_shared(smem) + {at}")
}

impl<'a> Emitter<'a> {
    fn page_plan(&self) -> Result<PagePlan, CodegenError> {
        match self.form.and_then(|f| f.pages) {
            Some(plan) => Ok(plan),
            None => self.malformed("it is fed, and there are no pages".to_owned()),
        }
    }

    /// At the start of an iteration: waits for its pages, if it has any.
    pub(super) fn await_pages(&mut self, body: &[Op]) -> Result<(), CodegenError> {
        let feeds: &'a [FeedLoop] = self.feeds;
        let own = |f: &&FeedLoop| {
            body.iter().any(|op| matches!(op, Op::Load { out, .. } if f.loads.iter().any(|l| l.tile == *out)))
        };
        let Some(feed) = feeds.iter().find(own) else { return Ok(()) };
        let plan = self.page_plan()?;
        if plan.warps != self.p.warps {
            return self.malformed(format!("it is fed, and {} warps release pages", plan.warps));
        }
        let (full, empty) = (address(plan.bars), address(plan.empty()));
        self.line(format!(
            "at = tw_next_pages<{}, {}>(at, {full}, {empty});",
            plan.pages(feed.stage),
            plan.count
        ));
        self.line("const u32 page = at & 0xffffu;");
        self.fed = Some(feed);
        Ok(())
    }

    /// Where a thread finds a vector of a fed tile: a pointer, and what to add to it for a group.
    pub(super) fn fed_at(
        &mut self,
        tile: Tile,
        vector: &Vector,
    ) -> Result<Option<(String, String)>, CodegenError> {
        let Some(load) = self.fed.and_then(|f| f.loads.iter().find(|l| l.tile == tile)) else {
            return Ok(None);
        };
        let plan = self.page_plan()?;
        let weight = |b| load.rows.weight(b, load.pad);
        let moving = load.layout.regs.iter().enumerate().filter(|(q, _)| !vector.regs.contains(q));
        let pairs: Vec<(usize, i64)> = moving.map(|(q, &b)| (q, weight(b))).collect();
        let thread = self.thread(&load.layout, weight);
        let pointer = self.fresh("a");
        let from =
            sum([Some(format!("smem + {} + page * {}", u64::from(plan.at) + load.at, plan.size)), thread]);
        self.line(format!("const unsigned char* {pointer} = {from};"));
        Ok(Some((pointer, weighted("r", &pairs).unwrap_or_else(|| "0".to_owned()))))
    }

    /// After a load: if it was the last of an iteration that is fed, its pages are free again.
    pub(super) fn release_after(&mut self, tile: Tile) -> Result<(), CodegenError> {
        let Some(feed) = self.fed.filter(|f| f.loads.last().is_some_and(|l| l.tile == tile)) else {
            return Ok(());
        };
        let plan = self.page_plan()?;
        let pages = plan.pages(feed.stage);
        self.line(format!("tw_release<{pages}>({} + 8 * page);", address(plan.empty())));
        self.line(format!("at += {pages};"));
        Ok(())
    }

    /// Writes the function that copies.
    fn feeder(mut self, name: &str) -> Result<String, CodegenError> {
        let plan = self.page_plan()?;
        let feeds: &'a [FeedLoop] = self.feeds;
        for feed in feeds {
            self.open("{");
            let (first, end) = self.bounds(feed.axis, &Range::default())?;
            self.line("#pragma unroll 1");
            self.open(format!("for (int m = {first}; m < {end}; ++m) {{"));
            let pages = plan.pages(feed.stage);
            self.line(format!(
                "at = tw_claim<{pages}, {}, {}>(at, {}, {}, {});",
                plan.count,
                !plan.bulk,
                address(plan.bars),
                address(plan.empty()),
                address(plan.flag())
            ));
            self.line("if (at >> 30 & 1) return at;");
            self.line("const u32 page = at & 0xffffu;");
            let block = self.p.axes[feed.axis].block;
            let times = if block == 1 { String::new() } else { format!(" * {block}") };
            let base = self.fresh("ka");
            self.line(format!("const int {base} = m{times};"));
            self.bases.insert(feed.axis, base);
            let full = format!("{} + 8 * page", address(plan.bars));
            for load in &feed.loads {
                let to = format!("{} + page * {}", address(plan.at + load.at as u32), plan.size);
                if plan.bulk {
                    self.copy_rows(load.param, &load.index, (&load.rows, load.pad), &to, &full)?;
                } else {
                    self.copy_rows_by_lanes(load.param, &load.index, (&load.rows, load.pad), &to)?;
                }
            }
            self.bases.remove(&feed.axis);
            if plan.bulk {
                self.line("__syncwarp();");
                self.line(format!("if (lane < {pages}) tw_arrive({full} + 8 * lane, 1);"));
            } else {
                self.line(format!("for (u32 n = 0; n < {pages}; ++n) tw_arrive_copied({full} + 8 * n);"));
            }
            self.line(format!("if (lane == 0) tw_count({});", address(plan.counted())));
            self.line(format!("at += {pages};"));
            self.close();
            self.close();
        }
        let body = std::mem::take(&mut self.text);
        self.grid();
        let grid = std::mem::take(&mut self.text);
        let params: String =
            self.typed_params().iter().enumerate().map(|(n, ty)| format!("{ty} p{n}, ")).collect();
        let mut text = format!(
            "// Copies what {} needs.\nextern \"C\" __device__ __noinline__ __attribute__((used)) u32 {name}({params}const int* sy, unsigned index, u32 at) {{\n    extern __shared__ __align__(128) unsigned char smem[];\n    const int lane = threadIdx.x & 31;\n",
            readable(&self.p.name)
        );
        if self.p.warps > 1 {
            text.push_str("    const int warp = 0;\n");
        }
        if !self.used.is_empty() {
            return self.malformed("what is copied ahead depends on symbols".to_owned());
        }
        text.push_str(&grid);
        text.push_str(&self.head);
        text.push_str(&body);
        text.push_str("    return at;\n}\n");
        Ok(text)
    }
}
