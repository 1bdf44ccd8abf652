//! What: control flow, barriers, warp-wide operations and tensor-core instructions.
//! Why here: these are the instructions at which lanes meet or part.
//! Pre: an instruction of this family.
//! Post: branch targets are label indices until the function ends.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{BarKind, Mma, MmaAcc, MmaTy, NONE, Op, ReduxKind, ShflMode, Slot, VoteKind, WarpOp};
use crate::parse::ast::Operand;
use crate::types::Ty;

const ROW: Slot = Slot::Row;
const NO: Slot = Slot::No;

impl<'a> Build<'_, 'a> {
    pub(super) fn control(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        match m.name {
            "bra" => {
                let _ = m.has("uni");
                self.need(o, 1)?;
                let Operand::Word(l) = o[0] else { return self.fail("a branch wants a label") };
                let t = self.label(l)?;
                self.branches.push(self.code.len() as u32);
                self.push(Op::Bra(t), [NONE; 4], [NO; 4]);
            }
            "brx" => {
                let _ = (m.has("idx"), m.has("uni"));
                self.need(o, 2)?;
                let a = self.src(&o[0], Ty::U32)?;
                let Operand::Word(l) = o[1] else { return self.fail("brx wants a list of targets") };
                let Some(list) = self.targets.get(l).cloned() else {
                    return self.fail(format!("no `.branchtargets` under `{l}`"));
                };
                let ts = list.iter().map(|t| self.label(t)).collect::<Result<Vec<_>, _>>()?;
                self.branches.push(self.code.len() as u32);
                self.push(Op::Brx(ts.into()), [NONE, a, NONE, NONE], [NO, ROW, NO, NO]);
            }
            "call" => return self.call(m, o),
            "ret" => {
                let _ = m.has("uni");
                self.push(if self.in_entry { Op::Exit } else { Op::Ret }, [NONE; 4], [NO; 4]);
            }
            "exit" => self.push(Op::Exit, [NONE; 4], [NO; 4]),
            "trap" | "brkpt" => self.push(Op::Trap, [NONE; 4], [NO; 4]),
            "nanosleep" => {
                let _ = m.types();
                self.nop();
            }
            "pmevent" => {
                let _ = m.has("mask");
                self.nop();
            }
            "griddepcontrol" => {
                // One launch runs at a time, so there is nothing to wait for or to release.
                if m.one_of(&["wait", "launch_dependents"]).is_none() {
                    return self.fail("griddepcontrol without an action");
                }
                self.nop();
            }
            "setmaxnreg" => {
                let _ = (m.one_of(&["inc", "dec"]), m.has("sync"), m.has("aligned"), m.types());
                self.nop();
            }
            "bar" | "barrier" => return self.barrier(m, o),
            "shfl" => return self.shfl(m, o),
            "vote" => return self.vote(m, o),
            "match" => return self.matching(m, o),
            "redux" => return self.redux(m, o),
            "activemask" => {
                let _ = m.types();
                self.need(o, 1)?;
                let d = self.dst(&o[0], Ty::B32)?;
                self.push(Op::ActiveMask, [d, NONE, NONE, NONE], [ROW, NO, NO, NO]);
            }
            "elect" => {
                let _ = m.has("sync");
                self.need(o, 2)?;
                let (d, p) = match &o[0] {
                    Operand::Pair(d, p) => (self.dst(d, Ty::B32)?, self.pred_dst(p)?),
                    _ => return self.fail("elect wants `d|p`"),
                };
                let mask = self.src(&o[1], Ty::B32)?;
                self.push(
                    Op::Warp { op: WarpOp::Elect { pred: p }, mask },
                    [d, NONE, NONE, NONE],
                    [ROW, NO, NO, NO],
                );
            }
            "mma" => return self.mma(m, o),
            _ => return self.fail("unknown instruction"),
        }
        Ok(())
    }

    fn call(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let _ = m.has("uni");
        let (rets, rest) = match o {
            [Operand::List(r), rest @ ..] => (r.as_slice(), rest),
            rest => (&[][..], rest),
        };
        let (name, args) = match rest {
            [Operand::Word(f)] => (*f, &[][..]),
            [Operand::Word(f), Operand::List(a)] => (*f, a.as_slice()),
            [Operand::Word(f), Operand::List(a), Operand::Word(_)] if !f.starts_with('%') => {
                (*f, a.as_slice())
            }
            _ => return self.fail("this form of call is not supported"),
        };
        if name.starts_with('%') {
            return self.fail("calls through pointers are not supported: call the function by name");
        }
        if name == "__assertfail" || name == "abort" {
            self.push(Op::Trap, [NONE; 4], [NO; 4]);
            return Ok(());
        }
        if name == "vprintf" {
            // The output of kernels is not collected; printf answers that nothing was printed.
            self.nop();
            if let [r] = rets {
                let zero = self.imm(32, 0);
                let (at, _) = self.local_of(r)?;
                self.local_store(zero, at, 4);
            }
            return Ok(());
        }
        let frame = self.frame(name)?;
        let (params, results) = {
            let f = &self.frames[frame as usize];
            (f.params.clone(), f.rets.clone())
        };
        if args.len() != params.len() || rets.len() != results.len() {
            return self.fail(format!(
                "`{name}` takes {} arguments and gives {} results",
                params.len(),
                results.len()
            ));
        }
        self.edges.push((self.func, frame));
        for (a, &(at, bytes)) in args.iter().zip(&params) {
            self.pass(a, at, bytes)?;
        }
        self.calls.push((self.code.len() as u32, frame));
        self.push(Op::Call(0), [NONE; 4], [NO; 4]);
        for (r, &(at, bytes)) in rets.iter().zip(&results) {
            let (to, _) = self.local_of(r)?;
            self.copy_local(to, at, bytes);
        }
        Ok(())
    }

    /// The local address of a `.param` variable of the caller.
    fn local_of(&mut self, op: &Operand<'a>) -> Result<(u64, ()), PtxError> {
        let Operand::Word(w) = op else { return self.fail("arguments and results are `.param` variables") };
        match self.symbol(w)? {
            super::Symbol::Local(at) => Ok((at, ())),
            _ => self.fail(format!("`{w}` is not a `.param` variable of this function")),
        }
    }

    fn pass(&mut self, op: &Operand<'a>, to: u64, bytes: u64) -> Result<(), PtxError> {
        if let Operand::Word(w) = op
            && let Some((v, bits)) = self.reg(w)
        {
            if u64::from(bits / 8) < bytes {
                return self.fail(format!("`{w}` is narrower than the parameter"));
            }
            self.local_store(v, to, bytes as u8);
            return Ok(());
        }
        let (from, ()) = self.local_of(op)?;
        self.copy_local(to, from, bytes);
        Ok(())
    }

    fn local_mem(&self, reg: u32, reg_bytes: u8, at: u64, bytes: u8) -> Box<crate::inst::Mem> {
        let mut regs = [NONE; 8];
        regs[0] = reg;
        Box::new(crate::inst::Mem {
            space: crate::inst::Space::Local,
            bytes,
            n: 1,
            signed: false,
            reg_bytes,
            strong: false,
            addr: crate::inst::Addr { base: NONE, wide: true, offset: at as i64 },
            regs,
        })
    }

    fn local_store(&mut self, reg: u32, at: u64, bytes: u8) {
        let reg_bytes = (self.vregs[reg as usize].bits / 8) as u8;
        let mem = self.local_mem(reg, reg_bytes, at, bytes);
        self.push(Op::St(mem), [NONE; 4], [NO; 4]);
    }

    /// Copies bytes within local memory, in the largest pieces that both alignments allow.
    fn copy_local(&mut self, to: u64, from: u64, bytes: u64) {
        let mut i = 0;
        while i < bytes {
            let all = (to + i) | (from + i);
            let step =
                [8u64, 4, 2, 1].into_iter().find(|s| all.is_multiple_of(*s) && i + s <= bytes).unwrap_or(1);
            let reg_bytes = step.max(2) as u8;
            let t = self.temp(u32::from(reg_bytes) * 8);
            let load = self.local_mem(t, reg_bytes, from + i, step as u8);
            self.push(Op::Ld(load), [NONE; 4], [NO; 4]);
            let store = self.local_mem(t, reg_bytes, to + i, step as u8);
            self.push(Op::St(store), [NONE; 4], [NO; 4]);
            i += step;
        }
    }

    fn barrier(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let _ = m.has("cta");
        if m.has("warp") {
            if !m.has("sync") {
                return self.fail("bar.warp wants .sync");
            }
            self.need(o, 1)?;
            let mask = self.src(&o[0], Ty::B32)?;
            self.push(Op::Warp { op: WarpOp::Sync, mask }, [NONE; 4], [NO; 4]);
            return Ok(());
        }
        if m.has("cluster") {
            // A cluster is one block here, whose own barrier orders more than is asked.
            return self.fail("cluster barriers are not supported");
        }
        let kind = m.one_of(&["sync", "arrive", "red"]);
        let _ = m.has("aligned");
        let red = m.one_of(&["popc", "and", "or"]);
        let types = m.types();
        let (kind, o, d) = match (kind, red) {
            (Some(0), None) => (BarKind::Sync, o, NONE),
            (Some(1), None) => (BarKind::Arrive, o, NONE),
            (Some(2), Some(r)) => {
                let Some((first, rest)) = o.split_first() else { return self.fail("operands are missing") };
                let want = if r == 0 { Ty::U32 } else { Ty::Pred };
                if types != [want] {
                    return self.fail("a barrier reduction of this type does not exist");
                }
                let d = if r == 0 { self.dst(first, Ty::U32)? } else { self.pred_dst(first)? };
                ([BarKind::RedPopc, BarKind::RedAnd, BarKind::RedOr][r], rest, d)
            }
            _ => return self.fail("a barrier without an action"),
        };
        let reduces = !matches!(kind, BarKind::Sync | BarKind::Arrive);
        let (o, c, neg) = if reduces {
            let Some((last, rest)) = o.split_last() else { return self.fail("operands are missing") };
            let (c, neg) = self.pred(last)?;
            (rest, c, neg)
        } else {
            (o, NONE, false)
        };
        if o.is_empty() || o.len() > 2 || kind == BarKind::Arrive && o.len() != 2 {
            return self.fail("a barrier wants an id, and a thread count where threads only arrive");
        }
        let a = self.src(&o[0], Ty::U32)?;
        let b = if o.len() == 2 { self.src(&o[1], Ty::U32)? } else { NONE };
        let slots = [
            match kind {
                BarKind::RedPopc => ROW,
                _ if reduces => Slot::Pred,
                _ => NO,
            },
            ROW,
            if b == NONE { NO } else { ROW },
            if reduces { Slot::Pred } else { NO },
        ];
        self.push(Op::Bar { kind, neg }, [d, a, b, c], slots);
        Ok(())
    }

    fn shfl(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if !m.has("sync") {
            return self.fail("only shfl.sync is supported: name the member mask");
        }
        let mode = match m.one_of(&["up", "down", "bfly", "idx"]) {
            Some(i) => [ShflMode::Up, ShflMode::Down, ShflMode::Bfly, ShflMode::Idx][i],
            None => return self.fail("shfl without a mode"),
        };
        if m.types() != [Ty::B32] {
            return self.fail("shfl wants .b32");
        }
        self.need(o, 5)?;
        let (d, pred) = match &o[0] {
            Operand::Pair(d, p) => (self.dst(d, Ty::B32)?, self.pred_dst(p)?),
            d => (self.dst(d, Ty::B32)?, NONE),
        };
        let (a, b, c) = (self.src(&o[1], Ty::B32)?, self.src(&o[2], Ty::B32)?, self.src(&o[3], Ty::B32)?);
        let mask = self.src(&o[4], Ty::B32)?;
        self.push(Op::Warp { op: WarpOp::Shfl { mode, pred }, mask }, [d, a, b, c], [ROW; 4]);
        Ok(())
    }

    fn vote(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if !m.has("sync") {
            return self.fail("only vote.sync is supported: name the member mask");
        }
        let kind = match m.one_of(&["all", "any", "uni", "ballot"]) {
            Some(i) => [VoteKind::All, VoteKind::Any, VoteKind::Uni, VoteKind::Ballot][i],
            None => return self.fail("vote without a mode"),
        };
        let _ = m.types();
        self.need(o, 3)?;
        let ballot = kind == VoteKind::Ballot;
        let d = if ballot { self.dst(&o[0], Ty::B32)? } else { self.pred_dst(&o[0])? };
        let (a, negate) = self.pred(&o[1])?;
        let mask = self.src(&o[2], Ty::B32)?;
        let slot = if ballot { ROW } else { Slot::Pred };
        self.push(
            Op::Warp { op: WarpOp::Vote { kind, negate }, mask },
            [d, a, NONE, NONE],
            [slot, Slot::Pred, NO, NO],
        );
        Ok(())
    }

    fn matching(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let all = m.one_of(&["any", "all"]);
        if !m.has("sync") {
            return self.fail("match wants .sync");
        }
        let types = m.types();
        let (Some(all), [ty]) = (all, &types[..]) else {
            return self.fail("match wants .any or .all and a type");
        };
        self.need(o, 3)?;
        let (d, pred) = match &o[0] {
            Operand::Pair(d, p) => (self.dst(d, Ty::B32)?, self.pred_dst(p)?),
            d => (self.dst(d, Ty::B32)?, NONE),
        };
        let wide = ty.bits() == 64;
        let a = self.src(&o[1], if wide { Ty::B64 } else { Ty::B32 })?;
        let mask = self.src(&o[2], Ty::B32)?;
        let op = WarpOp::Match { all: all == 1, wide, pred };
        self.push(Op::Warp { op, mask }, [d, a, NONE, NONE], [ROW, ROW, NO, NO]);
        Ok(())
    }

    fn redux(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if !m.has("sync") {
            return self.fail("redux wants .sync");
        }
        let op = m.one_of(&["add", "min", "max", "and", "or", "xor"]);
        let types = m.types();
        let [ty] = types[..] else { return self.fail("redux has one type") };
        let kind = match (op, ty) {
            (Some(0), Ty::U32 | Ty::S32) => ReduxKind::Add,
            (Some(1), Ty::U32) => ReduxKind::MinU,
            (Some(1), Ty::S32) => ReduxKind::MinS,
            (Some(2), Ty::U32) => ReduxKind::MaxU,
            (Some(2), Ty::S32) => ReduxKind::MaxS,
            (Some(3), Ty::B32) => ReduxKind::And,
            (Some(4), Ty::B32) => ReduxKind::Or,
            (Some(5), Ty::B32) => ReduxKind::Xor,
            _ => return self.fail("this redux is not supported"),
        };
        self.need(o, 3)?;
        let (d, a, mask) = (self.dst(&o[0], Ty::B32)?, self.src(&o[1], Ty::B32)?, self.src(&o[2], Ty::B32)?);
        self.push(Op::Warp { op: WarpOp::Redux(kind), mask }, [d, a, NONE, NONE], [ROW, ROW, NO, NO]);
        Ok(())
    }

    fn mma(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if !m.has("sync") || !m.has("aligned") || !m.has("row") || !m.has("col") {
            return self.fail("only mma.sync.aligned with .row.col is supported");
        }
        let shapes = ["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m8n8k4", "m8n8k16"];
        let Some(shape) = m.one_of(&shapes) else { return self.fail("this shape of mma is not supported") };
        let (rows, k) = [(16u8, 4u8), (16, 8), (16, 16), (16, 32), (8, 4), (8, 16)][shape];
        let saturate = m.has("satfinite");
        let types = m.types();
        let [dt, at, bt, ct] = types[..] else { return self.fail("mma has four types") };
        let ty = |t: Ty| {
            Some(match t {
                Ty::Bf16 => MmaTy::Bf16,
                Ty::F16 => MmaTy::F16,
                Ty::Tf32 => MmaTy::Tf32,
                Ty::S8 => MmaTy::S8,
                Ty::U8 => MmaTy::U8,
                Ty::E4m3 => MmaTy::E4m3,
                Ty::E5m2 => MmaTy::E5m2,
                Ty::F64 => MmaTy::F64,
                _ => return None,
            })
        };
        let (Some(a_ty), Some(b_ty)) = (ty(at), ty(bt)) else {
            return self.fail("mma of these types is not supported");
        };
        let (acc, counts) = match (dt, ct) {
            (Ty::F32, Ty::F32) => (MmaAcc::F32, rows / 4),
            (Ty::F16, Ty::F16) => (MmaAcc::F16, rows / 8),
            (Ty::S32, Ty::S32) => (MmaAcc::S32, rows / 4),
            (Ty::F64, Ty::F64) => (MmaAcc::F64, rows / 4),
            _ => return self.fail("mma with these accumulators is not supported"),
        };
        let per_reg = match a_ty {
            MmaTy::Bf16 | MmaTy::F16 => 2u8,
            MmaTy::Tf32 | MmaTy::F64 => 1,
            _ => 4,
        };
        let blocks = k / (4 * per_reg);
        let ok = match a_ty {
            MmaTy::F64 => acc == MmaAcc::F64 && b_ty == MmaTy::F64 && rows == 8 && k == 4,
            MmaTy::S8 | MmaTy::U8 => {
                acc == MmaAcc::S32
                    && matches!(b_ty, MmaTy::S8 | MmaTy::U8)
                    && matches!((rows, k), (16, 16 | 32) | (8, 16))
            }
            MmaTy::Tf32 => acc == MmaAcc::F32 && a_ty == b_ty && matches!((rows, k), (16, 4 | 8)),
            MmaTy::Bf16 => acc == MmaAcc::F32 && a_ty == b_ty && matches!((rows, k), (16, 8 | 16)),
            MmaTy::F16 => {
                matches!(acc, MmaAcc::F32 | MmaAcc::F16) && a_ty == b_ty && matches!((rows, k), (16, 8 | 16))
            }
            MmaTy::E4m3 | MmaTy::E5m2 => {
                matches!(acc, MmaAcc::F32)
                    && matches!(b_ty, MmaTy::E4m3 | MmaTy::E5m2)
                    && matches!((rows, k), (16, 16 | 32))
            }
        };
        if !ok {
            return self.fail("this combination of shape and types is not supported");
        }
        self.need(o, 4)?;
        let counts = [blocks * (rows / 8), blocks, counts];
        let mut v: [Vec<u32>; 4] = Default::default();
        let wide_in = a_ty == MmaTy::F64;
        let operand_ty = if wide_in { Ty::B64 } else { Ty::B32 };
        let acc_ty = if acc == MmaAcc::F64 { Ty::B64 } else { Ty::B32 };
        for (i, (op, n, t)) in [
            (&o[0], counts[2], acc_ty),
            (&o[1], counts[0], operand_ty),
            (&o[2], counts[1], operand_ty),
            (&o[3], counts[2], acc_ty),
        ]
        .into_iter()
        .enumerate()
        {
            let list = match op {
                Operand::Vec(l) => l.as_slice(),
                one => std::slice::from_ref(one),
            };
            if list.len() != n as usize {
                return self.fail(format!("{} registers where mma wants {n}", list.len()));
            }
            for r in list {
                let row = if i == 0 { self.dst(r, t)? } else { self.src(r, t)? };
                v[i].push(row);
            }
        }
        fn fill<const N: usize>(v: &[u32]) -> [u32; N] {
            let mut out = [NONE; N];
            out.iter_mut().zip(v).for_each(|(o, v)| *o = *v);
            out
        }
        let mma = Box::new(Mma {
            a_ty,
            b_ty,
            acc,
            m: rows,
            k,
            saturate,
            counts,
            d: fill(&v[0]),
            a: fill(&v[1]),
            b: fill(&v[2]),
            c: fill(&v[3]),
        });
        self.push(Op::Mma(mma), [NONE; 4], [NO; 4]);
        Ok(())
    }
}
