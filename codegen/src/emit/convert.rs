//! Conversions between places.
//!
//! What: where every thread already holds what it needs, registers are renamed, with selections for bits that the
//! destination gives to lanes or warps; else elements travel through shared memory.

use tilewright_ir::Tile;
use tilewright_ir::tile::{AxisBit, Layout, Place};

use super::arena::exchange;
use super::ops::guard;
use super::tiles::{name, packed};
use super::{Emitter, sum};
use crate::CodegenError;
use crate::bits::{LANE_BITS, by_lanes, local, reg_of, reg_part, weighted};
use crate::layout::shared::SharedMap;

impl Emitter<'_> {
    /// Emits a conversion.
    pub(super) fn convert(&mut self, at: usize, out: Tile, src: Tile) -> Result<(), CodegenError> {
        let registers = |t: Tile| matches!(self.p.tiles[t].place, Place::Registers(_));
        match (registers(src), registers(out)) {
            (true, true) => {
                let (from, to) = (self.layout(src)?, self.layout(out)?);
                self.declare(out)?;
                if local(&from, &to) {
                    return self.rename(out, src, &from, &to);
                }
                if by_lanes(&from, &to) {
                    return self.exchange_lanes(out, src, &from, &to);
                }
                let Some((map, offset)) = exchange(self.p, out, src).zip(self.arena.scratch(at)) else {
                    return self.malformed(format!("the conversion into {out} has no scratch area"));
                };
                self.synchronise(at, 0);
                self.write_shared(src, &map, offset)?;
                self.synchronise(at, 1);
                self.read_shared(out, &map, offset)
            }
            (true, false) => {
                let (map, offset) = self.shared(out)?;
                self.synchronise(at, 0);
                self.write_shared(src, &map, offset)
            }
            (false, true) => {
                let (map, offset) = self.shared(src)?;
                self.declare(out)?;
                self.synchronise(at, 0);
                self.read_shared(out, &map, offset)
            }
            (false, false) => self.malformed(format!("{out} is converted within shared memory")),
        }
    }

    /// Synchronises the block before an access if the plan says so.
    pub(super) fn synchronise(&mut self, at: usize, access: usize) {
        if self.arena.barrier(at, access) {
            self.sync();
        }
    }

    fn rename(&mut self, out: Tile, src: Tile, from: &Layout, to: &Layout) -> Result<(), CodegenError> {
        // Bits that the source has in registers and the destination in lanes or warps.
        let chosen = |slots: &[Option<AxisBit>], var: &str| -> Vec<(usize, String)> {
            let with = slots.iter().enumerate().filter_map(|(n, b)| {
                let q = reg_of(from, (*b)?)?;
                Some((q, format!("(({var} >> {n}) & 1)")))
            });
            with.collect()
        };
        let mut select = chosen(&to.lanes, "lane");
        select.extend(chosen(&to.warps, "warp"));
        let (t, s) = (name(out), name(src));
        // Whole words move when the lowest register bit is the same.
        let words = packed(self.p.tiles[out].dtype);
        let by_word = words && !from.regs.is_empty() && from.regs.first() == to.regs.first();
        self.open("{");
        if by_word || !words {
            let skip = usize::from(by_word);
            let pairs: Vec<(usize, i64)> = to.regs[skip..]
                .iter()
                .enumerate()
                .filter_map(|(n, &b)| reg_of(from, b).map(|q| (n, 1i64 << (q - skip))))
                .collect();
            self.open_unrolled("r", 1 << (to.regs.len() - skip));
            let base = weighted("r", &pairs).unwrap_or_else(|| "0".to_owned());
            let select: Vec<(usize, String)> = select.into_iter().map(|(q, c)| (q - skip, c)).collect();
            let code = choose(&select, &base, &|reg| Ok(format!("{s}[{reg}]")))?;
            self.line(format!("{t}[r] = {code};"));
            self.close();
        } else {
            let staging = self.stage_bits(out)?;
            let pairs: Vec<(usize, i64)> = to
                .regs
                .iter()
                .enumerate()
                .filter_map(|(n, &b)| reg_of(from, b).map(|q| (n, 1i64 << q)))
                .collect();
            self.open_unrolled("r", 1 << to.regs.len());
            let base = weighted("r", &pairs).unwrap_or_else(|| "0".to_owned());
            let code = choose(&select, &base, &|reg| self.element_bits(src, reg))?;
            self.line(format!("{}[r] = {code};", staging.array));
            self.close();
            self.unstage(out, &staging)?;
        }
        self.close();
        Ok(())
    }

    /// Fetches each element from the lane of the same warp that holds it.
    fn exchange_lanes(
        &mut self,
        out: Tile,
        src: Tile,
        from: &Layout,
        to: &Layout,
    ) -> Result<(), CodegenError> {
        let dtype = self.p.tiles[out].dtype;
        // The lane to ask: bits of positions where the source has them, the asking lane's own bits elsewhere.
        let lane_of = |bit: AxisBit| from.lanes.iter().position(|&b| b == Some(bit));
        let ask = |slots: &mut dyn Iterator<Item = (usize, Option<AxisBit>)>| -> Vec<(usize, i64)> {
            slots.filter_map(|(n, b)| Some((n, 1i64 << lane_of(b?)?))).collect()
        };
        let mut lanes = ask(&mut to.lanes.iter().copied().enumerate());
        lanes.extend((0..LANE_BITS).filter(|&n| from.lanes[n].is_none()).map(|n| (n, 1i64 << n)));
        let warps = ask(&mut to.warps.iter().copied().enumerate());
        let regs = ask(&mut to.regs.iter().map(|&b| Some(b)).enumerate());
        let thread = sum([weighted("lane", &lanes), weighted("warp", &warps)]);
        let thread = self.per_thread(thread);
        let ask = sum([Some(thread), weighted("r", &regs)]);
        // Which register: by register bits, and by selection where the destination has the bit in lanes or warps.
        let base: Vec<(usize, i64)> = to
            .regs
            .iter()
            .enumerate()
            .filter_map(|(n, &b)| reg_of(from, b).map(|q| (n, 1i64 << q)))
            .collect();
        let base = weighted("r", &base).unwrap_or_else(|| "0".to_owned());
        let mut select: Vec<(usize, String)> = Vec::new();
        for (slots, var) in [(&to.lanes, "lane"), (&to.warps, "warp")] {
            for (n, bit) in slots.iter().enumerate() {
                if let Some(q) = bit.and_then(|b| reg_of(from, b)) {
                    select.push((q, format!("(({var} >> {n}) & 1)")));
                }
            }
        }
        self.open("{");
        let staging = self.stage_bits(out)?;
        self.open_unrolled("r", 1 << to.regs.len());
        let ty = if packed(dtype) { "u32" } else { super::tiles::c_type(dtype) };
        // All lanes take part in every exchange; what a lane does not need it drops afterwards.
        for candidate in 0..1usize << select.len() {
            let offset: usize = select
                .iter()
                .enumerate()
                .filter(|(n, _)| candidate >> n & 1 == 1)
                .map(|(_, (q, _))| 1 << q)
                .sum();
            let reg = if offset == 0 { base.clone() } else { format!("{base} + {offset}") };
            let element =
                if packed(dtype) { self.element_bits(src, &reg)? } else { format!("{}[{reg}]", name(src)) };
            self.line(format!("const {ty} x{candidate} = tw_pick({element}, {ask});"));
        }
        let pick = |names: Vec<String>| -> String {
            let mut names = names;
            for (_, condition) in &select {
                let pairs = names.chunks(2).map(|c| format!("({condition} ? {} : {})", c[c.len() - 1], c[0]));
                names = pairs.collect();
            }
            names.concat()
        };
        let code = pick((0..1usize << select.len()).map(|n| format!("x{n}")).collect());
        self.line(format!("{}[r] = {code};", staging.array));
        self.close();
        self.unstage(out, &staging)?;
        self.close();
        Ok(())
    }

    /// Writes a tile in registers to shared memory; of threads that hold the same elements one writes.
    fn write_shared(&mut self, src: Tile, map: &SharedMap, offset: u64) -> Result<(), CodegenError> {
        let layout = self.layout(src)?;
        let weight = |b: AxisBit| map.weight(b);
        let vector = map.vector(&layout);
        let copies: usize = (0..LANE_BITS).filter(|&n| layout.lanes[n].is_none()).map(|n| 1 << n).sum();
        let warps: usize =
            (0..layout.warps.len()).filter(|&n| layout.warps[n].is_none()).map(|n| 1 << n).sum();
        let guard = guard(copies, warps);
        let thread = self.thread(&layout, weight);
        self.open(guard.map_or("{".to_owned(), |g| format!("if ({g}) {{")));
        let element = map.element;
        let s = self.fresh("s");
        let pointer = sum([thread]);
        if element == 8 {
            let ty = super::tiles::c_type(self.p.tiles[src].dtype);
            self.line(format!("{ty}* {s} = ({ty}*)(smem + {offset}) + ({pointer});"));
            self.open_unrolled("r", 1 << layout.regs.len());
            let reg = sum([reg_part(&layout, "r", weight)]);
            let x = self.element(src, "r")?;
            self.line(format!("{s}[{reg}] = {x};"));
            self.close();
            self.close();
            return Ok(());
        }
        self.line(format!("unsigned char* {s} = smem + {offset} + ({pointer}) * {element};"));
        self.open_vectors(&layout, &vector);
        let bytes = element << vector.len();
        let words = bytes.div_ceil(4);
        self.line(format!("u32 v[{words}];"));
        self.open_unrolled("w", words);
        let reg_of_element = |e: &str| register(&vector, e);
        let t = name(src);
        let code = match element {
            2 if vector.first() == Some(&0) => {
                format!("{t}[({}) >> 1]", reg_of_element("(2 * w)"))
            }
            2 if !vector.is_empty() => {
                let lo = self.element_bits(src, &reg_of_element("(2 * w)"))?;
                let hi = self.element_bits(src, &reg_of_element("(2 * w + 1)"))?;
                format!("tw_pair({lo}, {hi})")
            }
            _ => self.element_bits(src, &reg_of_element("w"))?,
        };
        self.line(format!("v[w] = {code};"));
        self.close();
        let reg = sum([reg_part(&layout, "r", weight)]);
        self.line(format!("tw_store{}({s} + ({reg}) * {element}, v);", narrow(bytes)));
        self.close();
        self.close();
        Ok(())
    }

    fn read_shared(&mut self, out: Tile, map: &SharedMap, offset: u64) -> Result<(), CodegenError> {
        let layout = self.layout(out)?;
        let dtype = self.p.tiles[out].dtype;
        let weight = |b: AxisBit| map.weight(b);
        let vector = map.vector(&layout);
        let thread = self.thread(&layout, weight);
        let element = map.element;
        let s = self.fresh("s");
        let pointer = sum([thread]);
        self.open("{");
        if element == 8 {
            let ty = super::tiles::c_type(dtype);
            self.line(format!("const {ty}* {s} = (const {ty}*)(smem + {offset}) + ({pointer});"));
            self.open_unrolled("r", 1 << layout.regs.len());
            let reg = sum([reg_part(&layout, "r", weight)]);
            self.line(format!("{}[r] = {s}[{reg}];", name(out)));
            self.close();
            self.close();
            return Ok(());
        }
        self.line(format!("const unsigned char* {s} = smem + {offset} + ({pointer}) * {element};"));
        let by_word = element == 2 && vector.first() == Some(&0);
        let staging = if by_word { None } else { Some(self.stage_bits(out)?) };
        self.open_vectors(&layout, &vector);
        let bytes = element << vector.len();
        let words = bytes.div_ceil(4);
        let reg = sum([reg_part(&layout, "r", weight)]);
        self.line(format!("u32 v[{words}];"));
        self.line(format!("tw_fetch{}(v, {s} + ({reg}) * {element});", narrow(bytes)));
        match &staging {
            None => {
                self.open_unrolled("w", words);
                self.line(format!("{}[({}) >> 1] = v[w];", name(out), register(&vector, "(2 * w)")));
                self.close();
            }
            Some(staging) => {
                self.open_unrolled("q", 1 << vector.len());
                let at = register(&vector, "q");
                let array = &staging.array;
                let line = match (element, dtype) {
                    (4, _) => format!("tw_put({array}[{at}], v[q]);"),
                    (2, _) => format!("{array}[{at}] = tw_half(v[q >> 1], q & 1);"),
                    (_, tilewright_ir::DType::Bool) => format!("{array}[{at}] = v[0] != 0;"),
                    (_, tilewright_ir::DType::I8) => format!("{array}[{at}] = (int)(signed char)v[0];"),
                    _ => format!("{array}[{at}] = (int)v[0];"),
                };
                self.line(line);
                self.close();
            }
        }
        self.close();
        if let Some(staging) = &staging {
            self.unstage(out, staging)?;
        }
        self.close();
        Ok(())
    }

    /// Opens a loop over the vectors of a layout; `r` is the first register of each.
    fn open_vectors(&mut self, layout: &Layout, vector: &[usize]) {
        let others = (0..layout.regs.len()).filter(|q| !vector.contains(q));
        let group: Vec<(usize, i64)> = others.enumerate().map(|(n, q)| (n, 1i64 << q)).collect();
        self.open_unrolled("g", 1 << group.len());
        let first = weighted("g", &group).unwrap_or_else(|| "0".to_owned());
        self.line(format!("const int r = {first};"));
    }
}

/// The register of element `e` of the vector that starts at `r`.
fn register(vector: &[usize], e: &str) -> String {
    let pairs: Vec<(usize, i64)> = vector.iter().enumerate().map(|(n, &q)| (n, 1i64 << q)).collect();
    sum([Some("r".to_owned()), weighted(e, &pairs)])
}

fn narrow(bytes: usize) -> &'static str {
    match bytes {
        1 => "8",
        2 => "16",
        _ => "",
    }
}

/// A selection among registers by thread bits: `bits` are (register bit, condition).
fn choose(
    bits: &[(usize, String)],
    base: &str,
    leaf: &dyn Fn(&str) -> Result<String, CodegenError>,
) -> Result<String, CodegenError> {
    let Some(((q, condition), rest)) = bits.split_last() else { return leaf(base) };
    let one = choose(rest, &format!("{base} + {}", 1usize << q), leaf)?;
    let zero = choose(rest, base, leaf)?;
    Ok(format!("({condition} ? {one} : {zero})"))
}
