//! What: branches, barriers and warp-wide operations; calls and tensor-core instructions have their own modules.
//! Why here: these are the instructions at which lanes meet or part.
//! Pre: an instruction of this family.
//! Post: branch targets are label indices until the function ends.

use super::build::Build;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{BarKind, ClusterBar, GridDep, NONE, Op, ReduxKind, ShflMode, Slot, VoteKind, WarpOp};
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
                self.leave(self.in_entry);
            }
            "exit" => self.push(Op::Exit, [NONE; 4], [NO; 4]),
            "trap" | "brkpt" => self.push(Op::Trap, [NONE; 4], [NO; 4]),
            "nanosleep" => {
                let _ = m.types();
                self.need(o, 1)?;
                self.push(Op::Pause, [NONE; 4], [NO; 4]);
            }
            "pmevent" => {
                let _ = m.has("mask");
                self.nop();
            }
            "griddepcontrol" => {
                let what = match m.one_of(&["wait", "launch_dependents"]) {
                    Some(0) => GridDep::Wait,
                    Some(_) => GridDep::Launch,
                    None => return self.fail("griddepcontrol without an action"),
                };
                self.push(Op::GridDep(what), [NONE; 4], [NO; 4]);
            }
            "setmaxnreg" => {
                let Some(way) = m.one_of(&["inc", "dec"]) else {
                    return self.fail("setmaxnreg wants .inc or .dec");
                };
                let _ = (m.has("sync"), m.has("aligned"), m.types());
                self.need(o, 1)?;
                let count = match o[0] {
                    Operand::Int(n) if (24..=256).contains(&n) && n % 8 == 0 => n as u32,
                    _ => return self.fail("setmaxnreg wants a multiple of 8 from 24 to 256"),
                };
                self.push(Op::Registers { inc: way == 0, count }, [NONE; 4], [NO; 4]);
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
            let Some(what) = m.one_of(&["arrive", "wait"]) else {
                return self.fail("a cluster barrier without an action");
            };
            let order = m.one_of(&["release", "relaxed", "acquire"]);
            let aligned = m.has("aligned");
            if order == Some(if what == 0 { 2 } else { 0 }) || what == 1 && order == Some(1) {
                return self.fail("a cluster barrier releases where it arrives and acquires where it waits");
            }
            self.need(o, 0)?;
            let bar = ClusterBar { arrive: what == 0, orders: order != Some(1), aligned };
            self.push(Op::Cluster(bar), [NONE; 4], [NO; 4]);
            return Ok(());
        }
        let kind = m.one_of(&["sync", "arrive", "red"]);
        let aligned = m.has("aligned") || m.name == "bar";
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
        self.push(Op::Bar { kind, neg, aligned }, [d, a, b, c], slots);
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
}
