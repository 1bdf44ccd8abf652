//! What: `mbarrier`, bulk copies, and stores that count as transactions.
//! Why here: they share the mbarrier operand and its completion mechanism.
//! Pre: an instruction of this family.
//! Post: forms that do not exist in PTX are errors.

use super::build::Build;
use super::mem::rmw;
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{AsyncStore, Bulk, Group, Mbar, MbarKind, NONE, Op, Order, Scope, Slot, Space};
use crate::lanes::un;
use crate::machine::mbarrier::pending_count;
use crate::parse::ast::Operand;
use crate::types::Ty;

const COMPLETE: &str = "mbarrier::complete_tx::bytes";

fn role(v: u32, slot: Slot) -> Slot {
    if v == NONE { Slot::No } else { slot }
}

impl<'a> Build<'_, 'a> {
    pub(super) fn mbarrier(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let what = [
            "init",
            "inval",
            "expect_tx",
            "complete_tx",
            "arrive",
            "arrive_drop",
            "test_wait",
            "try_wait",
            "pending_count",
        ];
        let Some(what) = m.one_of(&what) else { return self.fail("this form of mbarrier is not supported") };
        let expects = what != 2 && m.has("expect_tx");
        let (no_complete, parity) = (m.has("noComplete"), m.has("parity"));
        let order = m.order().unwrap_or(Order::AcqRel);
        let scope = m.scope();
        let remote = m.take_if(|p| p == "shared::cluster").len() == 1;
        // Who arrives at another block's barrier means to be heard there.
        let scope = scope.unwrap_or(if remote { Scope::Cluster } else { Scope::Cta });
        let space = if remote { Space::Shared } else { self.space(m).unwrap_or(Space::Generic) };
        if m.types() != [Ty::B64] || !matches!(space, Space::Shared | Space::Generic) {
            return self.fail("an mbarrier is a .b64 in shared memory");
        }
        if what == 8 {
            self.need(o, 2)?;
            let (d, a) = (self.dst(&o[0], Ty::U32)?, self.src(&o[1], Ty::B64)?);
            self.alu1(un(pending_count), d, a);
            return Ok(());
        }
        let kind = match what {
            0 => MbarKind::Init,
            1 => MbarKind::Inval,
            2 => MbarKind::ExpectTx,
            3 => MbarKind::CompleteTx,
            4 | 5 => MbarKind::Arrive,
            6 => MbarKind::TestWait,
            _ => MbarKind::TryWait,
        };
        let allowed = match kind {
            MbarKind::Arrive => !(parity || expects && no_complete),
            MbarKind::TestWait | MbarKind::TryWait => !expects && !no_complete,
            _ => !expects && !no_complete && !parity,
        };
        if !allowed {
            return self.fail("these modifiers do not go together");
        }
        let result = matches!(kind, MbarKind::Arrive | MbarKind::TestWait | MbarKind::TryWait);
        let args = match kind {
            MbarKind::Inval => 0..=0,
            MbarKind::Arrive if !expects && !no_complete => 0..=1,
            MbarKind::TryWait => 1..=2,
            _ => 1..=1,
        };
        let first = usize::from(result);
        if o.len() <= first || !args.contains(&(o.len() - first - 1)) {
            return self.fail("a wrong number of operands");
        }
        let (mut d, mut d_slot, mut a, mut b) = (NONE, Slot::No, NONE, NONE);
        if kind == MbarKind::Arrive {
            if !matches!(o[0], Operand::Word("_")) {
                (d, d_slot) = (self.dst(&o[0], Ty::B64)?, Slot::Row);
            }
        } else if result {
            d = self.pred_dst(&o[0])?;
            d_slot = role(d, Slot::Pred);
        }
        let (addr, _) = self.addr(&o[first])?;
        if let Some(x) = o.get(first + 1) {
            match kind {
                MbarKind::ExpectTx | MbarKind::CompleteTx => b = self.src(x, Ty::U32)?,
                MbarKind::Arrive if expects => b = self.src(x, Ty::U32)?,
                MbarKind::TestWait | MbarKind::TryWait if !parity => a = self.src(x, Ty::B64)?,
                _ => a = self.src(x, Ty::U32)?,
            }
        }
        let leave = what == 5;
        let mbar = Mbar { kind, space, addr, order, scope, parity, leave, no_complete, noinc: false };
        let slots = [d_slot, role(a, Slot::Row), role(b, Slot::Row), Slot::No];
        self.push(Op::Mbar(Box::new(mbar)), [d, a, b, NONE], slots);
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`.
    pub(super) fn copy_arrive(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        if !m.has("arrive") {
            return self.fail("cp.async.mbarrier without .arrive");
        }
        let noinc = m.has("noinc");
        let space = self.space(m).unwrap_or(Space::Generic);
        if m.types() != [Ty::B64] {
            return self.fail("an mbarrier is a .b64 in shared memory");
        }
        self.need(o, 1)?;
        let (addr, _) = self.addr(&o[0])?;
        let kind = MbarKind::CopyArrive;
        let (order, scope, parity) = (Order::AcqRel, Scope::Cta, false);
        let mbar = Mbar { kind, space, addr, order, scope, parity, leave: false, no_complete: false, noinc };
        self.push(Op::Mbar(Box::new(mbar)), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    /// `cp.async.bulk` after these words, or `cp.reduce` when `reduces`.
    pub(super) fn bulk(&mut self, m: &Mods<'a>, o: &[Operand<'a>], reduces: bool) -> Result<(), PtxError> {
        if reduces && !(m.has("async") && m.has("bulk")) {
            return self.fail("cp.reduce wants .async.bulk");
        }
        if m.has("tensor") {
            return self.fail("tensor copies are not supported: copy rows with cp.async.bulk");
        }
        if m.has("commit_group") {
            self.need(o, 0)?;
            return self.group(Group::Commit { bulk: true });
        }
        if m.has("wait_group") {
            let read = m.has("read");
            return self.wait_group(o, true, read);
        }
        let policy = usize::from(m.has("L2::cache_hint"));
        if m.has("prefetch") {
            if !m.has("L2") || !m.has("global") {
                return self.fail("a bulk prefetch goes from .global to .L2");
            }
            self.need(o, 2 + policy)?;
            let _ = (self.addr(&o[0])?, self.src(&o[1], Ty::U32)?);
            self.nop();
            return Ok(());
        }
        if m.has("multicast::cluster") {
            return self.fail("multicast is not supported: copy to each block of the cluster");
        }
        let (tells, grouped) = (m.has(COMPLETE), m.has("bulk_group"));
        let (to, from) = (self.space(m), self.space(m));
        let (Some(dst_space), Some(src_space)) = (to, from) else {
            return self.fail("a bulk copy names the spaces of its destination and its source");
        };
        let fits = match (dst_space, src_space) {
            (Space::Shared, Space::Global) => tells && !grouped && !reduces,
            (Space::Shared, Space::Shared) => tells && !grouped,
            (Space::Global, Space::Shared) => grouped && !tells,
            _ => false,
        };
        if !fits {
            return self.fail("this form of bulk copy does not exist");
        }
        let mut reduce = None;
        if reduces {
            let names = ["add", "min", "max", "and", "or", "xor", "inc", "dec"];
            let Some(op) = m.one_of(&names) else { return self.fail("a reduction without an operation") };
            let _ = m.has("noftz");
            let types = m.types();
            let [ty] = types[..] else { return self.fail("a reduction has one type") };
            let Some(op) = rmw(names[op], ty) else {
                return self.fail("reductions of this operation and type are not supported");
            };
            reduce = Some((op, (ty.bits() / 8) as u8));
        }
        self.need(o, 3 + usize::from(tells) + policy)?;
        let ((dst, _), (src, _)) = (self.addr(&o[0])?, self.addr(&o[1])?);
        let size = self.src(&o[2], Ty::U32)?;
        let mbar = if tells { Some(self.addr(&o[3])?.0) } else { None };
        let bulk = Bulk { dst_space, src_space, dst, src, size, mbar, reduce };
        self.push(Op::Bulk(Box::new(bulk)), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }

    /// `st.async` and `red.async` after these words.
    pub(super) fn async_store(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let reduces = m.name == "red";
        let _ = m.has("weak") || m.has("relaxed");
        m.scope();
        if !m.has(COMPLETE) {
            return self.fail(format!("only the completion mechanism .{COMPLETE} is supported"));
        }
        if !matches!(self.space(m), None | Some(Space::Shared)) {
            return self.fail("the destination must lie in shared memory");
        }
        let n = m.one_of(&["v2", "v4"]).map_or(1usize, |i| 2 << i);
        let names = ["add", "min", "max", "and", "or", "xor", "inc", "dec"];
        let op = if reduces { m.one_of(&names) } else { None };
        let types = m.types();
        let [ty] = types[..] else { return self.fail("an asynchronous store has one type") };
        if !matches!(ty.bits(), 32 | 64) || n * ty.bits() as usize > 128 || reduces && n != 1 {
            return self.fail("asynchronous stores have up to 16 bytes of 32- or 64-bit elements");
        }
        let reduce = match op {
            None if reduces => return self.fail("a reduction without an operation"),
            None => None,
            Some(i) => match rmw(names[i], ty) {
                None => return self.fail("this type has no such reduction"),
                some => some,
            },
        };
        self.need(o, 3)?;
        let ((addr, _), (mbar, _)) = (self.addr(&o[0])?, self.addr(&o[2])?);
        let list = match &o[1] {
            Operand::Vec(v) => v.as_slice(),
            one => std::slice::from_ref(one),
        };
        if list.len() != n {
            return self.fail(format!("{} registers where the instruction wants {n}", list.len()));
        }
        let mut regs = [NONE; 4];
        for (slot, op) in regs.iter_mut().zip(list) {
            *slot = self.src(op, ty)?;
        }
        let store = AsyncStore { addr, mbar, bytes: (ty.bits() / 8) as u8, n: n as u8, regs, reduce };
        self.push(Op::AsyncStore(Box::new(store)), [NONE; 4], [Slot::No; 4]);
        Ok(())
    }
}
