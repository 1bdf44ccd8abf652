//! What: operands to rows, predicates and addresses.
//! Why here: widths are checked in one place, on which the unchecked row access of the machine relies.
//! Pre: an operand of the syntax tree.
//! Post: a virtual row of exactly the width asked for, or an error that names the operand.

use super::build::{Build, RegRef, Symbol};
use crate::error::PtxError;
use crate::inst::{Addr, NONE, Op, Slot};
use crate::lanes::un;
use crate::parse::ast::Operand;
use crate::program::{RowValue, Special};
use crate::types::Ty;

/// The fixed special registers; those that change while a thread runs are read by an instruction.
fn special(name: &str) -> Option<Special> {
    Some(match name {
        "%tid.x" => Special::Tid(0),
        "%tid.y" => Special::Tid(1),
        "%tid.z" => Special::Tid(2),
        "%ntid.x" => Special::Ntid(0),
        "%ntid.y" => Special::Ntid(1),
        "%ntid.z" => Special::Ntid(2),
        "%ctaid.x" => Special::Ctaid(0),
        "%ctaid.y" => Special::Ctaid(1),
        "%ctaid.z" => Special::Ctaid(2),
        "%nctaid.x" => Special::Nctaid(0),
        "%nctaid.y" => Special::Nctaid(1),
        "%nctaid.z" => Special::Nctaid(2),
        "%clusterid.x" => Special::ClusterId(0),
        "%clusterid.y" => Special::ClusterId(1),
        "%clusterid.z" => Special::ClusterId(2),
        "%nclusterid.x" => Special::Nclusterid(0),
        "%nclusterid.y" => Special::Nclusterid(1),
        "%nclusterid.z" => Special::Nclusterid(2),
        "%cluster_ctaid.x" => Special::ClusterCtaid(0),
        "%cluster_ctaid.y" => Special::ClusterCtaid(1),
        "%cluster_ctaid.z" => Special::ClusterCtaid(2),
        "%cluster_nctaid.x" => Special::ClusterNctaid(0),
        "%cluster_nctaid.y" => Special::ClusterNctaid(1),
        "%cluster_nctaid.z" => Special::ClusterNctaid(2),
        "%cluster_ctarank" => Special::ClusterRank,
        "%cluster_nctarank" => Special::ClusterRanks,
        "%is_explicit_cluster" => Special::Clustered,
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%smid" => Special::Sm,
        "%nsmid" => Special::Sms,
        "%gridid" | "%reserved_smem_offset_begin" | "%reserved_smem_offset_end" => Special::Zero,
        "%lanemask_eq" => Special::MaskEq,
        "%lanemask_le" => Special::MaskLe,
        "%lanemask_lt" => Special::MaskLt,
        "%lanemask_ge" => Special::MaskGe,
        "%lanemask_gt" => Special::MaskGt,
        "%dynamic_smem_size" => Special::DynShared,
        "%total_smem_size" => Special::TotalShared,
        "%envreg1" => Special::Workspace(0),
        "%envreg2" => Special::Workspace(1),
        _ if zero_register(name) => Special::Zero,
        _ => return None,
    })
}

/// Registers that a driver or a profiler fills: nobody does here, so they read as zero.
fn zero_register(name: &str) -> bool {
    let (stem, number) = match split_range(name.trim_end_matches("_64")) {
        Some(v) => v,
        None => return false,
    };
    stem == "%envreg" && number < 32 || stem == "%pm" && number < 8
}

/// Splits the number off a register of a range.
fn split_range(name: &str) -> Option<(&str, u32)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (prefix, number) = name.split_at(name.len() - digits);
    // `%r01` is not a member of `%r<n>`.
    if number.len() > 1 && number.starts_with('0') {
        return None;
    }
    Some((prefix, number.parse().ok()?))
}

impl<'a> Build<'_, 'a> {
    fn find_reg(&self, name: &str) -> Option<(RegRef, u32)> {
        let range = split_range(name);
        for s in self.scopes.iter().rev() {
            if let Some(r) = s.regs.get(name)
                && r.count().is_none()
            {
                return Some((*r, 0));
            }
            if let Some((prefix, i)) = range
                && let Some(r) = s.regs.get(prefix)
                && r.count().is_some_and(|n| i < n)
            {
                return Some((*r, i));
            }
        }
        None
    }

    /// A data register and its width, if the name is one.
    pub(super) fn reg(&self, name: &str) -> Option<(u32, u32)> {
        match self.find_reg(name)? {
            (RegRef::Row { first, bits, .. }, i) => Some((first + i, bits)),
            _ => None,
        }
    }

    /// The two rows of a 128-bit register, low part first; `_` gives scratch rows.
    pub(super) fn wide(&mut self, op: &Operand<'a>) -> Result<[u32; 2], PtxError> {
        match op {
            Operand::Word("_") => Ok([self.temp(64), self.temp(64)]),
            Operand::Word(w) => match self.find_reg(w) {
                Some((RegRef::Wide { first, .. }, i)) => Ok([first + 2 * i, first + 2 * i + 1]),
                _ => self.fail(format!("`{w}` is not a 128-bit register")),
            },
            _ => self.fail("this operand must be a 128-bit register"),
        }
    }

    /// A row with a fixed value.
    pub(super) fn constant(&mut self, bits: u32, value: RowValue) -> u32 {
        let value = match value {
            RowValue::Const(v) if bits < 64 => RowValue::Const(v & ((1 << bits) - 1)),
            v => v,
        };
        if let Some(&v) = self.consts.get(&(bits, value)) {
            return v;
        }
        let v = self.temp(bits);
        self.vregs[v as usize].func = NONE;
        self.consts.insert((bits, value), v);
        self.inits.push((v, value));
        v
    }

    pub(super) fn imm(&mut self, bits: u32, v: u64) -> u32 {
        self.constant(bits, RowValue::Const(v))
    }

    fn symbol_value(&mut self, name: &str, offset: i64) -> Result<RowValue, PtxError> {
        let add = |a: u64| RowValue::Const(a.wrapping_add(offset as u64));
        Ok(match self.symbol(name)? {
            Symbol::Global(a)
            | Symbol::Const(a)
            | Symbol::Shared(a)
            | Symbol::Local(a)
            | Symbol::Func(a)
            | Symbol::Param(a) => add(a),
            Symbol::DynShared if offset == 0 => RowValue::DynShared,
            Symbol::DynShared => {
                return self.fail("an offset from dynamic shared memory: add it in a register");
            }
        })
    }

    /// A source operand of a type, as a row of the type's width.
    pub(super) fn src(&mut self, op: &Operand<'a>, ty: Ty) -> Result<u32, PtxError> {
        let bits = ty.bits().max(16);
        match op {
            Operand::Word(w) => {
                if let Some((v, have)) = self.reg(w) {
                    if have != bits {
                        return self
                            .fail(format!("`{w}` has {have} bits where the instruction wants {bits}"));
                    }
                    return Ok(v);
                }
                match self.find_reg(w) {
                    Some((RegRef::Wide { .. }, _)) => {
                        return self.fail(format!("`{w}` has 128 bits where the instruction wants {bits}"));
                    }
                    Some(_) => return self.fail(format!("`{w}` is a predicate where a value is wanted")),
                    None => {}
                }
                if w.starts_with('%') {
                    if let Some(s) = special(w) {
                        return Ok(self.constant(bits, RowValue::Special(s)));
                    }
                    return self.dynamic(w, bits);
                }
                if *w == "WARP_SZ" {
                    return Ok(self.imm(bits, 32));
                }
                let v = self.symbol_value(w, 0)?;
                Ok(self.constant(bits, v))
            }
            Operand::SymbolOffset(w, off) => {
                let v = self.symbol_value(w, *off)?;
                Ok(self.constant(bits, v))
            }
            Operand::Int(v) => Ok(self.imm(bits, *v as u64)),
            Operand::F32(v) => {
                let v = match bits {
                    32 => u64::from(*v),
                    64 => f64::from(f32::from_bits(*v)).to_bits(),
                    _ => return self.fail("a 16-bit operand cannot be an f32 literal: write its bits"),
                };
                Ok(self.imm(bits, v))
            }
            Operand::F64(v) => {
                let v = match bits {
                    64 => *v,
                    32 => u64::from((f64::from_bits(*v) as f32).to_bits()),
                    _ => return self.fail("a 16-bit operand cannot be an f64 literal: write its bits"),
                };
                Ok(self.imm(bits, v))
            }
            _ => self.fail("this operand must be a register or a constant"),
        }
    }

    fn dynamic(&mut self, name: &str, bits: u32) -> Result<u32, PtxError> {
        use crate::inst::Dynamic;
        let (what, want) = match name {
            "%clock" => (Dynamic::Clock32, 32),
            "%clock_hi" => (Dynamic::ClockHi, 32),
            "%clock64" => (Dynamic::Clock64, 64),
            "%globaltimer" => (Dynamic::GlobalTimer, 64),
            "%globaltimer_lo" => (Dynamic::Clock32, 32),
            _ => {
                return self
                    .fail(format!("`{name}` is neither declared nor a special register of this machine"));
            }
        };
        if bits != want {
            return self.fail(format!("`{name}` has {want} bits where the instruction wants {bits}"));
        }
        let t = self.temp(bits);
        self.push(Op::Read(what), [t, NONE, NONE, NONE], [Slot::Row, Slot::No, Slot::No, Slot::No]);
        Ok(t)
    }

    /// A source that may be wider than its type (as `cvt`, `st` and `ld` allow): the row and its width.
    pub(super) fn src_any(&mut self, op: &Operand<'a>, ty: Ty) -> Result<(u32, u32), PtxError> {
        if let Operand::Word(w) = op
            && let Some((v, have)) = self.reg(w)
        {
            if have < ty.bits() {
                return self.fail(format!("`{w}` has {have} bits, fewer than the type's {}", ty.bits()));
            }
            return Ok((v, have));
        }
        Ok((self.src(op, ty)?, ty.bits().max(16)))
    }

    /// A destination of exactly the type's width; `_` gives a scratch row.
    pub(super) fn dst(&mut self, op: &Operand<'a>, ty: Ty) -> Result<u32, PtxError> {
        let bits = ty.bits().max(16);
        let (v, have) = self.dst_any(op, ty)?;
        if have != bits {
            return self.fail(format!("the destination has {have} bits where the instruction gives {bits}"));
        }
        Ok(v)
    }

    /// A destination that may be wider than its type.
    pub(super) fn dst_any(&mut self, op: &Operand<'a>, ty: Ty) -> Result<(u32, u32), PtxError> {
        match op {
            Operand::Word("_") => {
                let bits = ty.bits().max(16);
                Ok((self.temp(bits), bits))
            }
            Operand::Word(w) => match self.reg(w) {
                Some((_, have)) if have < ty.bits() => {
                    self.fail(format!("`{w}` has {have} bits, fewer than the type's {}", ty.bits()))
                }
                Some(v) => Ok(v),
                None => self.fail(format!("`{w}` is not a data register")),
            },
            _ => self.fail("the destination must be a register"),
        }
    }

    /// A source predicate and whether it is negated.
    pub(super) fn pred(&mut self, op: &Operand<'a>) -> Result<(u32, bool), PtxError> {
        match op {
            Operand::Not(p) => {
                let (s, n) = self.pred(p)?;
                Ok((s, !n))
            }
            Operand::Word(w) => match self.find_reg(w) {
                Some((RegRef::Pred { first, .. }, i)) => Ok((first + i, false)),
                _ => self.fail(format!("`{w}` is not a predicate")),
            },
            Operand::Int(v) => {
                // A constant predicate: a fresh slot is never written, so it is false.
                Ok((self.temp_pred(), *v != 0))
            }
            _ => self.fail("this operand must be a predicate"),
        }
    }

    /// A destination predicate, or `NONE` for `_`.
    pub(super) fn pred_dst(&mut self, op: &Operand<'a>) -> Result<u32, PtxError> {
        match op {
            Operand::Word("_") => Ok(NONE),
            Operand::Word(_) => Ok(self.pred(op)?.0),
            _ => self.fail("the destination must be a predicate"),
        }
    }

    /// The operands, checked for number.
    pub(super) fn need(&self, o: &[Operand<'a>], n: usize) -> Result<(), PtxError> {
        if o.len() == n { Ok(()) } else { self.fail(format!("{} operands where {n} are wanted", o.len())) }
    }

    /// An address operand, and the symbol it names, if it does.
    pub(super) fn addr(&mut self, op: &Operand<'a>) -> Result<(Addr, Option<Symbol>), PtxError> {
        let Operand::Addr { base, offset, rest } = op else {
            return self.fail("this operand must be an address in brackets");
        };
        if !rest.is_empty() {
            return self.fail("tensor coordinates are not supported by this instruction");
        }
        let Some(base) = base else {
            return Ok((Addr { base: NONE, wide: true, offset: *offset }, None));
        };
        if let Some((v, bits)) = self.reg(base) {
            if bits == 16 {
                return self.fail(format!("`{base}` has 16 bits and cannot hold an address"));
            }
            return Ok((Addr { base: v, wide: bits == 64, offset: *offset }, None));
        }
        let s = self.symbol(base)?;
        Ok((
            match s {
                Symbol::Global(a)
                | Symbol::Const(a)
                | Symbol::Shared(a)
                | Symbol::Local(a)
                | Symbol::Func(a)
                | Symbol::Param(a) => {
                    Addr { base: NONE, wide: true, offset: (a as i64).wrapping_add(*offset) }
                }
                Symbol::DynShared => {
                    let v = self.constant(32, RowValue::DynShared);
                    Addr { base: v, wide: false, offset: *offset }
                }
            },
            Some(s),
        ))
    }

    /// Copies a row to another of the same width.
    pub(super) fn copy(&mut self, bits: u32, d: u32, a: u32) {
        let f = match bits {
            16 => un(|a: u16| a),
            32 => un(|a: u32| a),
            _ => un(|a: u64| a),
        };
        self.alu1(f, d, a);
    }
}
