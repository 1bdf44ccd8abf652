//! What: calls.
//! Why here: arguments and results travel through the static frames of functions in local memory.
//! Pre: the callee has a body in the module (or is one of the runtime's functions).
//! Post: the target is patched when all functions are placed.

use super::build::{Build, Symbol};
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{Addr, Mem, NONE, Op, Order, Scope, Slot, Space};
use crate::parse::ast::Operand;

const NO: Slot = Slot::No;

impl<'a> Build<'_, 'a> {
    pub(super) fn call(&mut self, m: &Mods<'a>, o: &[Operand<'a>]) -> Result<(), PtxError> {
        let _ = m.has("uni");
        let (rets, rest) = match o {
            [Operand::List(r), rest @ ..] => (r.as_slice(), rest),
            rest => (&[][..], rest),
        };
        if let Some((Operand::Word(f), tail)) = rest.split_first()
            && f.starts_with('%')
        {
            return self.call_pointer(rets, &rest[0], tail);
        }
        let (name, args) = match rest {
            [Operand::Word(f)] => (*f, &[][..]),
            [Operand::Word(f), Operand::List(a)] => (*f, a.as_slice()),
            [Operand::Word(f), Operand::List(a), Operand::Word(_)] if !f.starts_with('%') => {
                (*f, a.as_slice())
            }
            _ => return self.fail("this form of call is not supported"),
        };
        if name == "__assertfail" || name == "abort" {
            self.push(Op::Trap, [NONE; 4], [NO; 4]);
            return Ok(());
        }
        if name == "vprintf" {
            // The output of kernels is not collected; printf answers that nothing was printed.
            self.nop();
            if let [r] = rets {
                let zero = self.imm(32, 0);
                let at = self.local_of(r)?;
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
            let to = self.local_of(r)?;
            self.copy_local(to, at, bytes);
        }
        Ok(())
    }

    /// The local address of a `.param` variable of the caller.
    pub(super) fn local_of(&mut self, op: &Operand<'a>) -> Result<u64, PtxError> {
        let Operand::Word(w) = op else { return self.fail("arguments and results are `.param` variables") };
        match self.symbol(w)? {
            Symbol::Local(at) => Ok(at),
            _ => self.fail(format!("`{w}` is not a `.param` variable of this function")),
        }
    }

    pub(super) fn pass(&mut self, op: &Operand<'a>, to: u64, bytes: u64) -> Result<(), PtxError> {
        if let Operand::Word(w) = op
            && let Some((v, bits)) = self.reg(w)
        {
            if u64::from(bits / 8) < bytes {
                return self.fail(format!("`{w}` is narrower than the parameter"));
            }
            self.local_store(v, to, bytes as u8);
            return Ok(());
        }
        let from = self.local_of(op)?;
        self.copy_local(to, from, bytes);
        Ok(())
    }

    fn local_mem(&self, reg: u32, reg_bytes: u8, at: u64, bytes: u8) -> Box<Mem> {
        let mut regs = [NONE; 8];
        regs[0] = reg;
        Box::new(Mem {
            space: Space::Local,
            bytes,
            n: 1,
            signed: false,
            reg_bytes,
            order: Order::Weak,
            scope: Scope::Cta,
            nc: false,
            addr: Addr { base: NONE, wide: true, offset: at as i64 },
            regs,
        })
    }

    fn local_store(&mut self, reg: u32, at: u64, bytes: u8) {
        let reg_bytes = (self.vregs[reg as usize].bits / 8) as u8;
        let mem = self.local_mem(reg, reg_bytes, at, bytes);
        self.push(Op::St(mem), [NONE; 4], [NO; 4]);
    }

    /// Copies bytes within local memory, in the largest pieces that both alignments allow.
    pub(super) fn copy_local(&mut self, to: u64, from: u64, bytes: u64) {
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
}
