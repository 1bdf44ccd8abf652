//! What: calls.
//! Why here: arguments and results travel through the static frames of functions in local memory.
//! Pre: the callee has a body in the module (or is one of the runtime's functions).
//! Post: the target is patched when all functions are placed.

use super::build::{Build, Symbol};
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{Addr, Host, Mem, NONE, Op, Order, Scope, Slot, Space};
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
        match name {
            "abort" => {
                self.push(Op::Trap, [NONE; 4], [NO; 4]);
                return Ok(());
            }
            "vprintf" => {
                let [format, values] = self.host_args(args, [8, 8])?;
                let result = match rets {
                    [r] => Some(self.local_of(r)?),
                    _ => None,
                };
                self.host(Host::Print { format, args: values, result }, NONE);
                return Ok(());
            }
            "__assertfail" => {
                let [expression, file, line, function, _] = self.host_args(args, [8, 8, 4, 8, 8])?;
                self.host(Host::Assert([expression, file, line, function]), NONE);
                return Ok(());
            }
            _ => {}
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

    /// Puts the arguments of a function of the runtime into local memory; the answer is where.
    fn host_args<const N: usize>(
        &mut self,
        args: &[Operand<'a>],
        sizes: [u64; N],
    ) -> Result<[u64; N], PtxError> {
        if args.len() != N {
            return self.fail(format!("{} arguments where this function takes {N}", args.len()));
        }
        let mut at = [0; N];
        for ((slot, arg), bytes) in at.iter_mut().zip(args).zip(sizes) {
            *slot = self.local_slot(bytes, 8)?;
            self.pass(arg, *slot, bytes)?;
        }
        Ok(at)
    }

    /// Asks the runtime; `row` holds what a refusal names.
    pub(super) fn host(&mut self, what: Host, row: u32) {
        let slot = if row == NONE { NO } else { Slot::Row };
        self.push(Op::Host(Box::new(what)), [NONE, row, NONE, NONE], [NO, slot, NO, NO]);
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
