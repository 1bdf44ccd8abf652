//! Loads and stores of buffers, in global memory and in areas of the block.
//!
//! What: registers are grouped into the widest aligned vectors that can be proved. The address of a group is a base
//! (once per operation: block and thread part), a constant of the registers, and whatever depends on tables.
//! Pre: buffers start at multiples of 16 bytes.

use tilewright_ir::tile::{AxisBit, Layout, TileProgram};
use tilewright_ir::{Axis, DType, Ex, Extent, Param, Sym, Tile};

use super::elements::{fill_words, from_bits, round_element, to_bits, word_element};
use super::expr::ExprGen;
use super::kernel::memory_type;
use super::ops::{constant, guard, real_type};
use super::tiles::{name, packed, value_type};
use super::{Emitter, sum};
use crate::CodegenError;
use crate::access::{self, Access, Atom, Field, Term};
use crate::bits::{LANE_BITS, axis_bits, reg_of, weighted};

/// The vector of an access: the register bits that it spans, lowest first.
pub(super) struct Vector {
    pub(super) regs: Vec<usize>,
    /// `(bit of the group number, weight)` that gives the first register of a group.
    group: Vec<(usize, i64)>,
}

impl Vector {
    pub(super) fn new(layout: &Layout, regs: Vec<usize>) -> Vector {
        let others = (0..layout.regs.len()).filter(|q| !regs.contains(q));
        let group = others.enumerate().map(|(n, q)| (n, 1i64 << q)).collect();
        Vector { regs, group }
    }

    fn size(&self) -> usize {
        1 << self.regs.len()
    }

    fn groups(&self) -> usize {
        1 << self.group.len()
    }

    /// The register of element `e` of the group whose first is `r`.
    fn element(&self, e: &str) -> String {
        let pairs: Vec<(usize, i64)> = self.regs.iter().enumerate().map(|(n, &q)| (n, 1i64 << q)).collect();
        sum([Some("r".to_owned()), weighted(e, &pairs)])
    }

    /// Whether the elements of a group are consecutive registers.
    fn consecutive(&self) -> bool {
        self.regs.iter().enumerate().all(|(n, &q)| n == q)
    }
}

/// The parts of an address.
pub(super) struct Address {
    /// The pointer with the part that does not depend on the register.
    pointer: String,
    terms: Vec<Term>,
    wide: bool,
}

/// The vector in which the threads of a layout access a tile in memory.
pub(super) fn vector_of(program: &TileProgram, access: Access<'_>, tile: Tile, layout: &Layout) -> Vector {
    let mut best = Vec::new();
    for &axis in &program.tiles[tile].axes {
        let limit = access.vector_bits(program, axis) as usize;
        let regs: Vec<usize> =
            (0..limit).map_while(|bit| reg_of(layout, AxisBit { axis, bit: bit as u8 })).collect();
        if regs.len() > best.len() {
            best = regs;
        }
    }
    Vector::new(layout, best)
}

impl Emitter<'_> {
    fn symbols_product(&mut self, syms: &[Sym]) -> String {
        syms.iter().map(|&s| format!(" * {}", self.sym(s))).collect()
    }

    /// Bits of the offset of the current block along an axis; `None` if they are 0.
    fn base_of(&self, axis: Axis, field: Field) -> Option<String> {
        let base = self.base(axis).filter(|_| field.to > axis_bits(self.p, axis))?;
        let shifted = if field.from == 0 { base } else { format!("({base} >> {})", field.from) };
        // Positions are 32 bits.
        if field.to >= 31 {
            return Some(shifted);
        }
        Some(format!("({shifted} & {})", (1u64 << (field.to - field.from)) - 1))
    }

    fn scaled(&mut self, code: &str, coef: i64, syms: &[Sym], wide: bool) -> String {
        if coef == 1 && syms.is_empty() && !wide {
            return code.to_owned();
        }
        let cast = if wide { "(i64)" } else { "" };
        let times = if coef == 1 { String::new() } else { format!(" * {coef}") };
        let code = if code.contains(' ') { format!("({code})") } else { code.to_owned() };
        format!("{cast}{code}{times}{}", self.symbols_product(syms))
    }

    /// Splits the offset of an access and emits the part that all registers share.
    pub(super) fn address(&mut self, param: Param, index: &[Ex], layout: &Layout) -> Address {
        let terms = access::offset(self.p, param, index);
        let data = &self.p.params[param];
        let elements = data.dims.iter().fold(1u64, |n, d| {
            n.saturating_mul(match d {
                Extent::Const(n) => *n,
                Extent::Sym(s) => self.symbols.get(*s).map_or(u64::from(u32::MAX), |s| s.max),
            })
        });
        // Offsets of masked positions may lie beyond the buffer, by less than one block along each axis.
        let wide = elements.saturating_mul(data.dtype.bytes() as u64) >= 1 << 30;
        let mut parts: Vec<Option<String>> = Vec::new();
        for term in &terms {
            match &term.atom {
                Atom::One => parts.push(Some(self.scaled(&term.coef.to_string(), 1, &term.syms, wide))),
                Atom::Pos(axis, field) => {
                    if let Some(base) = self.base_of(*axis, *field) {
                        let code = self.scaled(&base, term.coef, &term.syms, wide);
                        parts.push(Some(code));
                    }
                }
                Atom::Other(_) => {}
            }
        }
        for (syms, coef, axes) in position_groups(&terms, wide) {
            let weight = |b: AxisBit| position_weight(&terms, &syms, &axes, b);
            if let Some(thread) = self.thread(layout, weight) {
                parts.push(Some(self.scaled(&thread, coef, &syms, wide)));
            }
        }
        let pointer = self.fresh("a");
        let qualifier = if data.written || data.area.is_some() { "" } else { "const " };
        let ty = memory_type(data.dtype);
        let offset = sum(parts);
        self.line(format!("{qualifier}{ty}* {pointer} = p{} + ({offset});", param.as_u32()));
        Address { pointer, terms, wide }
    }

    /// The address of the group of registers that starts at `r`; emitted inside the loop over groups.
    pub(super) fn group_address(
        &mut self,
        a: &Address,
        layout: &Layout,
        vector: &Vector,
    ) -> Result<String, CodegenError> {
        let mut parts = vec![Some(a.pointer.clone())];
        for (syms, coef, axes) in position_groups(&a.terms, a.wide) {
            let moving = layout.regs.iter().enumerate().filter(|(q, _)| !vector.regs.contains(q));
            let pairs: Vec<(usize, i64)> =
                moving.map(|(q, &b)| (q, position_weight(&a.terms, &syms, &axes, b))).collect();
            if let Some(code) = weighted("r", &pairs) {
                parts.push(Some(self.scaled(&code, coef, &syms, a.wide)));
            }
        }
        let others: Vec<(i64, Vec<Sym>, Ex)> = a
            .terms
            .iter()
            .filter_map(|t| match &t.atom {
                Atom::Other(e) => Some((t.coef, t.syms.clone(), e.clone())),
                _ => None,
            })
            .collect();
        let exprs: Vec<&Ex> = others.iter().map(|(_, _, e)| e).collect();
        let real = real_type(self.p, None, exprs);
        let mut codes = Vec::new();
        {
            let mut g = ExprGen::new(self, layout, "r", real);
            for (_, _, e) in &others {
                let v = g.value(e)?;
                let v = g.cast(DType::I64, &v);
                codes.push(v.to(super::expr::Ty::I64));
            }
        }
        for ((coef, syms, _), code) in others.iter().zip(codes) {
            let code = if a.wide { code } else { format!("(int){code}") };
            parts.push(Some(self.scaled(&code, *coef, syms, a.wide)));
        }
        Ok(sum(parts))
    }

    /// The mask of the group; `None` if it always holds. Emitted inside the loop over groups.
    pub(super) fn group_mask(
        &mut self,
        mask: Option<&Ex>,
        layout: &Layout,
    ) -> Result<Option<String>, CodegenError> {
        let Some(mask) = mask else { return Ok(None) };
        let real = real_type(self.p, None, [mask]);
        let mut g = ExprGen::new(self, layout, "r", real);
        let v = g.value(mask)?;
        Ok(match v.always() {
            Some(true) => None,
            _ => Some(v.to(super::expr::Ty::Bool)),
        })
    }

    pub(super) fn open_groups(&mut self, vector: &Vector) {
        self.open_unrolled("g", vector.groups());
        let first = weighted("g", &vector.group).unwrap_or_else(|| "0".to_owned());
        self.line(format!("const int r = {first};"));
    }

    /// Emits a load.
    pub(super) fn load(
        &mut self,
        out: Tile,
        param: Param,
        index: &[Ex],
        mask: Option<&Ex>,
        fill: f64,
    ) -> Result<(), CodegenError> {
        let layout = self.layout(out)?;
        let (dtype, stored) = (self.p.tiles[out].dtype, self.p.params[param].dtype);
        let vector = vector_of(self.p, Access { param, index, mask }, out, &layout);
        self.declare(out)?;
        self.open("{");
        let staged = self.staged(out, &vector)?;
        let address = match staged {
            Some(_) => None,
            None => Some(self.address(param, index, &layout)),
        };
        let bytes = stored.bytes() << vector.regs.len();
        // Words of packed elements go to the array as they are.
        let whole_words = packed(dtype) && dtype == stored && vector.consecutive() && bytes >= 4;
        let raw = dtype == stored;
        let staging = match (whole_words, raw) {
            (true, _) => None,
            (false, true) => Some(self.stage_bits(out)?),
            (false, false) => Some(self.stage_values(out)?),
        };
        self.open_groups(&vector);
        let ok = self.group_mask(mask, &layout)?;
        let at = match (&address, &staged) {
            (Some(address), _) => self.group_address(address, &layout, &vector)?,
            (None, Some((pointer, group))) => format!("{pointer} + {group}"),
            (None, None) => return self.malformed(format!("{out} is loaded from nowhere")),
        };
        let words = bytes.div_ceil(4);
        let representable = fill.is_nan() || stored.round(fill) == fill || raw;
        let background = fill_words(stored, if representable { fill } else { 0.0 }, words);
        let narrow = match bytes {
            1 => "8",
            2 => "16",
            _ => "",
        };
        let shared = staged.is_some() || self.p.params[param].area.is_some();
        let load = if shared { "tw_fetch" } else { self.loader(param) };
        match &ok {
            None => {
                self.line(format!("u32 v[{words}];"));
                self.line(format!("{load}{narrow}(v, {at});"));
            }
            Some(ok) => {
                self.line(format!("u32 v[{words}] = {{{background}}};"));
                match shared {
                    true => self.line(format!("if ({ok}) tw_fetch{narrow}(v, {at});")),
                    false => self.line(format!("{load}{narrow}_if(v, {at}, {ok});")),
                }
            }
        }
        match &staging {
            None => {
                self.open_unrolled("w", words);
                self.line(format!("{}[(r >> 1) + w] = v[w];", name(out)));
                self.close();
            }
            Some(staging) => {
                self.open_unrolled("q", vector.size());
                let bits = word_element(stored, "q");
                let value = if raw && packed(dtype) { bits } else { from_bits(stored, &bits, "q") };
                let value = if raw { value } else { round_element(stored, dtype, &value) };
                let value = match &ok {
                    Some(ok) if !representable => {
                        let fill = constant(dtype.round(fill), value_type(dtype));
                        format!("{ok} ? {value} : {fill}")
                    }
                    _ => value,
                };
                self.line(format!("{}[{}] = {value};", staging.array, vector.element("q")));
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

    /// Emits a store.
    pub(super) fn store(
        &mut self,
        param: Param,
        index: &[Ex],
        mask: Option<&Ex>,
        value: Tile,
    ) -> Result<(), CodegenError> {
        let layout = self.layout(value)?;
        let (dtype, stored) = (self.p.tiles[value].dtype, self.p.params[param].dtype);
        let vector = vector_of(self.p, Access { param, index, mask }, value, &layout);
        self.open("{");
        let address = self.address(param, index, &layout);
        let lanes: usize = (0..LANE_BITS).filter(|&n| layout.lanes[n].is_none()).map(|n| 1 << n).sum();
        let warps: usize =
            (0..layout.warps.len()).filter(|&n| layout.warps[n].is_none()).map(|n| 1 << n).sum();
        let guard = guard(lanes, warps);
        if let Some(guard) = &guard {
            self.open(format!("if ({guard}) {{"));
        }
        self.open_groups(&vector);
        let ok = self.group_mask(mask, &layout)?;
        if let Some(ok) = &ok {
            self.open(format!("if ({ok}) {{"));
        }
        let at = self.group_address(&address, &layout, &vector)?;
        let bytes = stored.bytes() << vector.regs.len();
        let words = bytes.div_ceil(4);
        self.line(format!("u32 v[{words}];"));
        let per_word = (4 / stored.bytes()).clamp(1, vector.size());
        let word_bits = |e: &mut Self, nth: usize| -> Result<String, CodegenError> {
            let q = if per_word == 1 { "w".to_owned() } else { format!("(w * {per_word} + {nth})") };
            let reg = vector.element(&q);
            if dtype == stored && dtype.bytes() <= 4 {
                return e.element_bits(value, &reg);
            }
            let element = e.element(value, &reg)?;
            Ok(to_bits(stored, &round_element(dtype, stored, &element)))
        };
        if stored.bytes() == 8 {
            self.open_unrolled("w", vector.size());
            let element = self.element(value, &vector.element("w"))?;
            let element = round_element(dtype, stored, &element);
            let bits = if stored == DType::F64 { "__double_as_longlong" } else { "(i64)" };
            self.line(format!("const u64 x = (u64){bits}({element});"));
            self.line("v[2 * w] = (u32)x;");
            self.line("v[2 * w + 1] = (u32)(x >> 32);");
            self.close();
        } else if packed(dtype) && dtype == stored && vector.consecutive() && bytes >= 4 {
            self.open_unrolled("w", words);
            self.line(format!("v[w] = {}[(r >> 1) + w];", name(value)));
            self.close();
        } else {
            self.open_unrolled("w", words);
            let width = stored.bytes() * 8;
            let mut parts = Vec::new();
            // Two floats become one word of 16-bit floats by one instruction.
            let pair = width == 16 && per_word == 2 && stored.is_float() && dtype != stored;
            if pair {
                let mut halves = Vec::new();
                for nth in 0..2 {
                    let element = self.element(value, &vector.element(&format!("(w * 2 + {nth})")))?;
                    halves.push(round_element(dtype, stored, &element));
                }
                let suffix = super::tiles::suffix(stored);
                parts.push(format!("tw_pack_{suffix}({}, {})", halves[0], halves[1]));
            }
            for nth in 0..if pair { 0 } else { per_word } {
                let bits = word_bits(self, nth)?;
                let mask = match (per_word, width) {
                    (1, _) | (_, 32) => bits,
                    (_, 16) => format!("({bits} & 0xffffu)"),
                    _ => format!("({bits} & 0xffu)"),
                };
                parts.push(if nth == 0 { mask } else { format!("({mask} << {})", nth * width) });
            }
            self.line(format!("v[w] = {};", parts.join(" | ")));
            self.close();
        }
        let narrow = match bytes {
            1 => "8",
            2 => "16",
            _ => "",
        };
        self.line(format!("tw_store{narrow}({at}, v);"));
        if ok.is_some() {
            self.close();
        }
        self.close();
        if guard.is_some() {
            self.close();
        }
        self.close();
        Ok(())
    }
}

/// Which axes' positions a part of an address is linear in, and how their strides enter.
enum Axes {
    /// All, each with its stride.
    All,
    /// One, whose stride is applied afterwards in 64 bits.
    One(Axis, Field),
}

/// The parts into which the positions of an address are grouped: symbols, a factor, axes. Terms with equal symbols are
/// one linear function; where offsets take 64 bits each axis is on its own, because positions always fit 32.
fn position_groups(terms: &[Term], wide: bool) -> Vec<(Vec<Sym>, i64, Axes)> {
    let mut out: Vec<(Vec<Sym>, i64, Axes)> = Vec::new();
    for t in terms {
        let Atom::Pos(axis, field) = t.atom else { continue };
        if wide {
            out.push((t.syms.clone(), t.coef, Axes::One(axis, field)));
        } else if !out.iter().any(|(s, ..)| *s == t.syms) {
            out.push((t.syms.clone(), 1, Axes::All));
        }
    }
    out
}

fn position_weight(terms: &[Term], syms: &[Sym], axes: &Axes, bit: AxisBit) -> i64 {
    match axes {
        Axes::One(axis, field) => {
            if *axis == bit.axis {
                field.weight(bit.bit)
            } else {
                0
            }
        }
        Axes::All => {
            let matching = terms.iter().filter(|t| t.syms == syms);
            let weights = matching.map(|t| match t.atom {
                Atom::Pos(axis, field) if axis == bit.axis => t.coef.wrapping_mul(field.weight(bit.bit)),
                _ => 0,
            });
            weights.sum()
        }
    }
}
