//! Stages of rings that are for several iterations: one bulk copy for all of them, where they lie one behind the other.
//!
//! Why here: what a block computes at a time follows from registers, and what is copied at a time from what a copy costs;
//! weights are packed so that the one is a piece of the other.
//! Pre: all loads of the loop are copied in bulk; the counter of iterations is a multiple of the span where a loop begins.
//! Post: one barrier counts the bytes of a stage, which are those of the iterations that there are.

use super::Emitter;
use super::memory::Vector;
use super::ring::{Ahead, Rings};
use crate::CodegenError;
use crate::bits::LANE_BITS;
use crate::rows::Rows;

impl Emitter<'_> {
    /// Copies what iterations from `m` on need to a stage: as many as there are before `end` and as the stage has room for.
    pub(super) fn copy_span(
        &mut self,
        rings: &Rings,
        load: &Ahead,
        end: &str,
        to: &str,
        bar: &str,
    ) -> Result<(), CodegenError> {
        let Some((rows, pad)) = &load.rows else {
            return self.malformed(format!("{} is copied for several iterations by threads", load.tile));
        };
        let data = &self.p.axes[rings.axis];
        let known = data.extent.as_const().filter(|_| data.runs.is_none() && rings.whole());
        let full = known
            .is_some_and(|n| n.div_ceil(u64::from(data.block.max(1))).is_multiple_of(u64::from(rings.span)));
        let many = if full { rings.span.to_string() } else { format!("tw_min({}, {end} - m)", rings.span) };
        let expect = if self.task() { "tw_expect_more" } else { "tw_expect" };
        let lanes = 1u32 << rows.rows.len().min(LANE_BITS);
        let warp = (self.p.warps > 1).then_some("warp == 0");
        let lane = (lanes < 32).then(|| format!("lane < {lanes}"));
        let who: Vec<String> = warp.map(str::to_owned).into_iter().chain(lane).collect();
        self.open(if who.is_empty() { "{".to_owned() } else { format!("if ({}) {{", who.join(" && ")) });
        self.line(format!("const u32 bar = {bar};"));
        self.line(format!("const u32 many = {many};"));
        let all = rows.count() * rows.bytes();
        if load.joined {
            self.iteration(rings, "m", |e| {
                let size = e.joined_size(rows, "(int)many");
                e.line(format!("const u32 all = {size};"));
                e.line(format!("{expect}(bar, all);"));
                e.copies(load, (rows, *pad), to, Some("all"))
            })?;
        } else {
            if rows.masks.is_empty() && rows.limit.is_none() {
                self.line(format!("if (lane == 0) {expect}(bar, many * {all});"));
            } else {
                self.line("u32 all = 0;");
                self.each(rings, |e| e.add_sizes(rows))?;
                self.line(format!("{expect}(bar, all);"));
            }
            let to = format!("{to} + u * {}", load.stage);
            self.each(rings, |e| e.copies(load, (rows, *pad), &to, None))?;
        }
        self.close();
        Ok(())
    }

    /// Code for each iteration of a stage.
    fn each(
        &mut self,
        rings: &Rings,
        body: impl FnOnce(&mut Self) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        self.line("#pragma unroll 1");
        self.open("for (u32 u = 0; u < many; ++u) {");
        self.iteration(rings, "(m + (int)u)", body)?;
        self.close();
        Ok(())
    }

    /// Code with the positions of an iteration.
    fn iteration(
        &mut self,
        rings: &Rings,
        number: &str,
        body: impl FnOnce(&mut Self) -> Result<(), CodegenError>,
    ) -> Result<(), CodegenError> {
        let base = self.fresh("ka");
        self.line(format!("const int {base} = {number} * {};", self.p.axes[rings.axis].block));
        let before = self.bases.insert(rings.axis, base);
        let result = body(self);
        match before {
            Some(name) => self.bases.insert(rings.axis, name),
            None => self.bases.remove(&rings.axis),
        };
        result
    }

    /// Adds up how many bytes of its rows each lane copies.
    fn add_sizes(&mut self, rows: &Rows) -> Result<(), CodegenError> {
        let layout = rows.layout(self.p);
        self.open_unrolled("r", 1usize << layout.regs.len());
        let size = self.row_size(rows, &layout)?;
        self.line(format!("all += {size};"));
        self.close();
        Ok(())
    }

    /// Copies the rows of an iteration, or so many bytes from where it begins.
    fn copies(
        &mut self,
        load: &Ahead,
        (rows, pad): (&Rows, u32),
        to: &str,
        bytes: Option<&str>,
    ) -> Result<(), CodegenError> {
        let layout = rows.layout(self.p);
        let address = self.address(load.param, &load.index, &layout);
        let whole = Vector::new(&layout, Vec::new());
        let place = self.place_of_row(rows, &layout, pad, to);
        self.open_unrolled("r", 1usize << layout.regs.len());
        let from = self.group_address(&address, &layout, &whole)?;
        let some = !rows.masks.is_empty() || rows.limit.is_some();
        match bytes {
            Some(bytes) => self.line(format!("tw_copy_bulk({place}, {from}, {bytes}, bar);")),
            None if some => {
                let size = self.row_size(rows, &layout)?;
                self.line(format!("const u32 size = {size};"));
                self.line(format!("if (size > 0) tw_copy_bulk({place}, {from}, size, bar);"));
            }
            None => self.line(format!("tw_copy_bulk({place}, {from}, {}, bar);", rows.bytes())),
        }
        self.close();
        Ok(())
    }
}
