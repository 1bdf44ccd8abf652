//! What: loads, stores, atomics, matrix loads, asynchronous copies and fences.
//! Why here: they share addresses and state spaces.
//! Pre: an instruction of this family.
//! Post: the machine gets widths, spaces and rows that fit together.

use super::build::{Build, Symbol};
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{Atom, CpAsync, Fence, Group, Matrix, Mem, NONE, Op, Order, Rmw, Scope, Slot, Space};
use crate::parse::ast::Operand;
use crate::types::Ty;

/// Whether a modifier is a cache hint without meaning for the result.
fn cache_hint(p: &str) -> bool {
    matches!(
        p,
        "ca" | "cg"
            | "cs"
            | "lu"
            | "cv"
            | "wb"
            | "wt"
            | "nc"
            | "L1::evict_normal"
            | "L1::evict_unchanged"
            | "L1::evict_first"
            | "L1::evict_last"
            | "L1::no_allocate"
            | "L2::evict_normal"
            | "L2::evict_first"
            | "L2::evict_last"
            | "L2::64B"
            | "L2::128B"
            | "L2::256B"
            | "unified"
    )
}

/// The operation of that name on a type.
pub(super) fn rmw(name: &str, ty: Ty) -> Option<Rmw> {
    Some(match (name, ty) {
        ("add", Ty::F32) => Rmw::AddF32,
        ("add", Ty::F64) => Rmw::AddF64,
        ("add", Ty::F16) => Rmw::AddF16,
        ("add", Ty::Bf16) => Rmw::AddBf16,
        ("add", Ty::F16x2) => Rmw::AddF16x2,
        ("add", Ty::Bf16x2) => Rmw::AddBf16x2,
        ("add", Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64) => Rmw::AddInt,
        ("min", Ty::S32 | Ty::S64) => Rmw::MinS,
        ("max", Ty::S32 | Ty::S64) => Rmw::MaxS,
        ("min", Ty::U32 | Ty::U64) => Rmw::MinU,
        ("max", Ty::U32 | Ty::U64) => Rmw::MaxU,
        ("and", Ty::B32 | Ty::B64) => Rmw::And,
        ("or", Ty::B32 | Ty::B64) => Rmw::Or,
        ("xor", Ty::B32 | Ty::B64) => Rmw::Xor,
        ("exch", Ty::B32 | Ty::B64) => Rmw::Exch,
        ("cas", Ty::B16 | Ty::B32 | Ty::B64) => Rmw::Cas,
        ("inc", Ty::U32) => Rmw::Inc,
        ("dec", Ty::U32) => Rmw::Dec,
        _ => return None,
    })
}

impl<'a> Build<'_, 'a> {
    pub(super) fn memory(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        match m.name {
            "st" | "red" if m.has("async") => self.async_store(m, o),
            "mbarrier" => self.mbarrier(m, o),
            "ld" | "ldu" | "st" => self.ld_st(m, o),
            "atom" | "red" => self.atom(m, o),
            "ldmatrix" | "stmatrix" => self.matrix(m, o),
            "cp" => self.cp(m, o),
            "membar" => {
                if m.has("proxy") {
                    return self.fence(m);
                }
                let Some(i) = m.one_of(&["cta", "gl", "sys"]) else {
                    return self.fail("membar without a level");
                };
                let scope = [Scope::Cta, Scope::Gpu, Scope::Sys][i];
                self.barrier_of(Fence::Thread { scope, sc: true })
            }
            "fence" => self.fence(m),
            "mapa" | "getctarank" => self.cluster_address(m, o),
            // Prefetches and cache policies move no data that a program can see.
            _ => {
                let _ = m
                    .take_if(|p| p.starts_with("L1") || p.starts_with("L2") || p == "global" || p == "local");
                self.nop();
                Ok(())
            }
        }
    }

    fn barrier_of(&mut self, f: Fence) -> Result<(), PtxError> {
        self.push(Op::Fence(f), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    fn fence(&mut self, m: &Mods<'a>) -> Result<(), PtxError> {
        if m.has("proxy") {
            if m.has("async") {
                let spaces = ["global", "shared", "shared::cta", "shared::cluster"];
                let (shared, global) = match m.one_of(&spaces) {
                    None => (true, true),
                    Some(0) => (false, true),
                    Some(_) => (true, false),
                };
                return self.barrier_of(Fence::Proxy { shared, global });
            }
            // Directed forms order the asynchronous proxy with the generic one across a cluster; the others
            // are for views of memory that programs here do not have.
            let both = m.has("async::generic");
            if !both && m.one_of(&["alias", "tensormap::generic", "constant", "texture"]).is_none() {
                return self.fail("a fence between unknown proxies");
            }
            let _ = (m.order(), m.take_if(|p| p.starts_with("sync_restrict::")), m.scope());
            if both {
                return self.barrier_of(Fence::Proxy { shared: true, global: false });
            }
            self.nop();
            return Ok(());
        }
        if m.has("mbarrier_init") {
            if !(m.has("release") && m.scope() == Some(Scope::Cluster)) {
                return self.fail("fence.mbarrier_init wants .release.cluster");
            }
            return self.barrier_of(Fence::MbarrierInit);
        }
        let sc = matches!(m.one_of(&["sc", "acq_rel", "acquire", "release"]), Some(0) | None);
        let _ = m.take_if(|p| p.starts_with("sync_restrict::"));
        let Some(scope) = m.scope() else { return self.fail("a fence without a scope") };
        self.barrier_of(Fence::Thread { scope, sc })
    }

    /// `mapa` and `getctarank`.
    fn cluster_address(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let generic = !m.has("shared::cluster");
        let types = m.types();
        let [ty] = types[..] else { return self.fail("a type is missing") };
        let wide = match ty {
            Ty::U32 => false,
            Ty::U64 => true,
            _ => return self.fail("addresses in a cluster are .u32 or .u64"),
        };
        if m.name == "getctarank" {
            self.need(o, 2)?;
            let d = self.dst(&o[0], Ty::U32)?;
            let a = self.src(&o[1], if wide { Ty::U64 } else { Ty::U32 })?;
            let op = Op::Rank { wide, generic };
            self.push(op, [d, a, NONE, NONE], [Slot::Row, Slot::Row, Slot::No, Slot::No]);
            return Ok(());
        }
        self.need(o, 3)?;
        let d = self.dst(&o[0], ty)?;
        let (a, b) = (self.src(&o[1], ty)?, self.src(&o[2], Ty::U32)?);
        let op = Op::Mapa { wide, generic };
        self.push(op, [d, a, b, NONE], [Slot::Row, Slot::Row, Slot::Row, Slot::No]);
        Ok(())
    }

    pub(super) fn nop(&mut self) {
        self.push(Op::Nop, [NONE; 4], [Slot::No; 4]);
    }

    pub(super) fn space(&self, m: &Mods<'a>) -> Option<Space> {
        let names = [
            "global",
            "shared",
            "shared::cta",
            "shared::cluster",
            "local",
            "const",
            "param",
            "param::entry",
            "param::func",
        ];
        m.one_of(&names).map(|i| match i {
            0 => Space::Global,
            // The shared memory of a cluster of one block is that of the block.
            1..=3 => Space::Shared,
            4 => Space::Local,
            5 => Space::Const,
            _ => Space::Param,
        })
    }

    fn ld_st(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let store = m.name == "st";
        // Volatile accesses are relaxed ones that the whole system may see.
        let (volatile, mmio) = (m.has("volatile"), m.has("mmio"));
        let order = m.order().unwrap_or(if volatile || mmio { Order::Relaxed } else { Order::Weak });
        let _ = m.has("weak");
        let scope = m.scope().unwrap_or(Scope::Sys);
        let space = self.space(m);
        let policy = m.has("L2::cache_hint");
        let nc = m.take_if(cache_hint).contains(&"nc");
        let n = match m.one_of(&["v2", "v4", "v8"]) {
            None => 1usize,
            Some(i) => 2 << i,
        };
        let types = m.types();
        let [ty] = types[..] else { return self.fail("a load or store has one type") };
        if ty == Ty::Pred {
            return self.fail("loads and stores of this type are not supported");
        }
        self.need(o, if policy { 3 } else { 2 })?;
        let (address, value) = if store { (&o[0], &o[1]) } else { (&o[1], &o[0]) };
        let (addr, symbol) = self.addr(address)?;
        let space = match (space, symbol) {
            // Parameters of functions, and parameter space of calls, lie in local memory.
            (Some(Space::Param), Some(Symbol::Local(_))) => Space::Local,
            (Some(Space::Param), None) if !self.in_entry || store => Space::Local,
            (Some(Space::Param), Some(Symbol::Param(_)) | None) => Space::Param,
            (Some(Space::Param), _) => return self.fail("this symbol is not in parameter space"),
            (Some(s), _) => s,
            (None, Some(Symbol::Global(_) | Symbol::Func(_)) | None) => Space::Generic,
            (None, Some(Symbol::Shared(_) | Symbol::DynShared)) => Space::Shared,
            (None, Some(Symbol::Local(_))) => Space::Local,
            (None, Some(Symbol::Const(_))) => Space::Const,
            (None, Some(Symbol::Param(_))) => Space::Param,
        };
        if store && matches!(space, Space::Const | Space::Param) {
            return self.fail("this state space is read-only");
        }
        let list = match value {
            Operand::Vec(v) => v.as_slice(),
            one => std::slice::from_ref(one),
        };
        if list.len() != n || n * ty.bits() as usize > 256 {
            return self.fail(format!("{} registers where the instruction wants {n}", list.len()));
        }
        let mut regs = [NONE; 8];
        let mut width = 0;
        if ty == Ty::B128 {
            for (pair, op) in regs.chunks_exact_mut(2).zip(list) {
                pair.copy_from_slice(&self.wide(op)?);
            }
            width = 64;
        }
        let (n, ty, rest) = if ty == Ty::B128 { (2 * n, Ty::B64, 0) } else { (n, ty, n) };
        for (slot, op) in regs.iter_mut().zip(list).take(rest) {
            let (v, bits) = if store { self.src_any(op, ty)? } else { self.dst_any(op, ty)? };
            if width != 0 && bits != width {
                return self.fail("the registers of a vector must have one width");
            }
            width = bits;
            *slot = v;
        }
        let mem = Box::new(Mem {
            space,
            bytes: (ty.bits() / 8) as u8,
            n: n as u8,
            signed: ty.signed(),
            reg_bytes: (width / 8) as u8,
            order,
            scope,
            nc,
            addr,
            regs,
        });
        self.push(if store { Op::St(mem) } else { Op::Ld(mem) }, [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    fn atom(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let order = m.order().unwrap_or(Order::Relaxed);
        let scope = m.scope().unwrap_or(Scope::Gpu);
        let space = self.space(m).unwrap_or(Space::Generic);
        if m.has("L2::cache_hint") {
            return self.fail("cache policies on atomics are not supported");
        }
        let names = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
        let Some(op) = m.one_of(&names) else { return self.fail("an atomic without an operation") };
        let noftz = m.has("noftz");
        let lanes = m.one_of(&["v2", "v4", "v8"]).map_or(1usize, |i| 2 << i);
        let types = m.types();
        let [ty] = types[..] else { return self.fail("an atomic has one type") };
        let _ = noftz;
        let Some(rmw) = rmw(names[op], ty) else { return self.fail("this type has no such atomic") };
        let red = m.name == "red";
        let args = if rmw == Rmw::Cas { 2 } else { 1 };
        self.need(o, args + if red { 1 } else { 2 })?;
        let list = |op: &Operand<'a>| match op {
            Operand::Vec(v) => v.clone(),
            one => vec![one.clone()],
        };
        let ds = if red { vec![] } else { list(&o[0]) };
        let o = if red { o } else { &o[1..] };
        let values = list(&o[1]);
        if values.len() != lanes || !red && ds.len() != lanes {
            return self.fail(format!("{} registers where the instruction wants {lanes}", values.len()));
        }
        // A vector is as many atomics: the ISA makes no promise about the whole.
        let mut late = vec![];
        for (i, value) in values.iter().enumerate() {
            let mut d = if red { NONE } else { self.dst(&ds[i], ty)? };
            if lanes > 1 && !red {
                // A destination may be a source of a later element.
                late.push((d, self.temp(ty.bits())));
                d = late[i].1;
            }
            let (mut addr, _) = self.addr(&o[0])?;
            addr.offset = addr.offset.wrapping_add(i as i64 * i64::from(ty.bits() / 8));
            let a = self.src(value, ty)?;
            let b = if rmw == Rmw::Cas { self.src(&o[2], ty)? } else { NONE };
            let role = |v: u32| if v == NONE { Slot::No } else { Slot::Row };
            let atom = Box::new(Atom { space, bytes: (ty.bits() / 8) as u8, op: rmw, order, scope, addr });
            self.push(Op::Atom(atom), [d, a, b, NONE], [role(d), Slot::Row, role(b), Slot::No]);
        }
        for (d, t) in late {
            self.copy(ty.bits(), d, t);
        }
        Ok(())
    }

    fn matrix(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let store = m.name == "stmatrix";
        if !m.has("sync") || !m.has("aligned") || !m.has("m8n8") {
            return self.fail("only `.sync.aligned.m8n8` is supported");
        }
        let Some(n) = m.one_of(&["x1", "x2", "x4"]) else {
            return self.fail("`.x1`, `.x2` or `.x4` is missing");
        };
        let trans = m.has("trans");
        let space = self.space(m).unwrap_or(Space::Generic);
        if !matches!(space, Space::Shared | Space::Generic) {
            return self.fail("matrices lie in shared memory");
        }
        if m.types() != [Ty::B16] {
            return self.fail("only .b16 matrices are supported");
        }
        self.need(o, 2)?;
        let (address, value) = if store { (&o[0], &o[1]) } else { (&o[1], &o[0]) };
        let (addr, _) = self.addr(address)?;
        let list = match value {
            Operand::Vec(v) => v.as_slice(),
            one => std::slice::from_ref(one),
        };
        let n = 1usize << n;
        if list.len() != n {
            return self.fail(format!("{} registers where the instruction wants {n}", list.len()));
        }
        let mut regs = [NONE; 4];
        for (slot, op) in regs.iter_mut().zip(list) {
            *slot = if store { self.src(op, Ty::B32)? } else { self.dst(op, Ty::B32)? };
        }
        let matrix = Box::new(Matrix { store, trans, n: n as u8, space, addr, regs });
        self.push(Op::Matrix(matrix), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    pub(super) fn group(&mut self, g: Group) -> Result<(), PtxError> {
        self.push(Op::Group(g), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    pub(super) fn wait_group(&mut self, o: &[Operand<'a>], bulk: bool, read: bool) -> Result<(), PtxError> {
        self.need(o, 1)?;
        match o[0] {
            Operand::Int(n) if (0..=i128::from(u32::MAX)).contains(&n) => {
                self.group(Group::Wait { bulk, left: Some(n as u32), read })
            }
            _ => self.fail("wait_group wants a constant number of groups"),
        }
    }

    fn cp(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if m.has("reduce") {
            return self.bulk(m, o, true);
        }
        if !m.has("async") {
            return self.fail("only cp.async and cp.reduce.async are supported");
        }
        if m.has("bulk") {
            return self.bulk(m, o, false);
        }
        if m.has("mbarrier") {
            return self.copy_arrive(m, o);
        }
        if m.has("commit_group") {
            self.need(o, 0)?;
            return self.group(Group::Commit { bulk: false });
        }
        if m.has("wait_all") {
            self.need(o, 0)?;
            return self.group(Group::Wait { bulk: false, left: None, read: false });
        }
        if m.has("wait_group") {
            return self.wait_group(o, false, false);
        }
        if !(m.has("ca") || m.has("cg")) || !(m.has("shared") || m.has("shared::cta")) || !m.has("global") {
            return self.fail("this form of cp.async is not supported");
        }
        let _ = m.take_if(|p| p.starts_with("L2::") && p != "L2::cache_hint");
        let hint = m.has("L2::cache_hint");
        let o = if hint { o.get(..o.len().saturating_sub(1)).unwrap_or(o) } else { o };
        if o.len() < 3 || o.len() > 5 {
            return self.fail("cp.async wants a destination, a source and a size");
        }
        let (dst, _) = self.addr(&o[0])?;
        let (src, _) = self.addr(&o[1])?;
        let bytes = match o[2] {
            Operand::Int(b @ (4 | 8 | 16)) => b as u8,
            _ => return self.fail("cp.async copies 4, 8 or 16 bytes"),
        };
        let (mut size, mut ignore, mut ignore_neg) = (NONE, NONE, false);
        for op in o.iter().skip(3) {
            let is_pred = match op {
                Operand::Not(_) => true,
                Operand::Word(w) => self.reg(w).is_none() && w.starts_with('%') || self.pred(op).is_ok(),
                _ => false,
            };
            if is_pred {
                (ignore, ignore_neg) = self.pred(op)?;
            } else {
                size = self.src(op, Ty::U32)?;
            }
        }
        let cp = Box::new(CpAsync { bytes, dst, src, size, ignore, ignore_neg });
        self.push(Op::CpAsync(cp), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }
}
