//! What: names: labels, registers, variables, functions and their frames.
//! Why here: scoping rules in one place; the rest of the decoder only asks.
//! Pre: declarations before uses, as PTX wants.
//! Post: every name is an index or an address.

use super::build::{Build, Frame, RegRef, Symbol, VReg, align_up};
use crate::error::PtxError;
use crate::parse::ast::{Stmt, Var, VarSpace};
use crate::types::Ty;

/// At most this many registers per entry, so that hostile text cannot exhaust the host.
const MAX_VREGS: usize = 1 << 21;
/// At most this much local memory per thread (the limit of the hardware).
pub(super) const MAX_LOCAL: u64 = 512 << 10;

impl<'a> Build<'_, 'a> {
    pub(super) fn find_labels(&mut self, body: &[Stmt<'a>]) -> Result<(), PtxError> {
        let mut stack = vec![0u32];
        let mut ids = 0u32;
        for s in body {
            match s {
                Stmt::Open => {
                    ids += 1;
                    self.scope_parent.push(*stack.last().unwrap_or(&0));
                    stack.push(ids);
                }
                Stmt::Close => {
                    stack.pop();
                }
                Stmt::Label(l, pos) => {
                    let id = self.label_pc.len() as u32;
                    self.label_pc.push(0);
                    if self.labels.insert((*stack.last().unwrap_or(&0), l), id).is_some() {
                        (self.pos, self.text) = (*pos, l);
                        return self.fail("a label is defined twice in one scope");
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The index of a label seen from the scope at hand.
    pub(super) fn label(&self, name: &str) -> Result<u32, PtxError> {
        let mut id = self.scopes.last().map_or(0, |s| s.id);
        loop {
            if let Some(&i) = self.labels.get(&(id, name)) {
                return Ok(i);
            }
            if id == 0 {
                return self.fail(format!("no label `{name}` in this function"));
            }
            id = self.scope_parent.get(id as usize).copied().unwrap_or(0);
        }
    }

    pub(super) fn declare(&mut self, ty: Ty, name: &'a str, count: Option<u32>) -> Result<(), PtxError> {
        let n = count.unwrap_or(1);
        let r = if ty == Ty::Pred {
            let first = self.preds;
            self.preds += n;
            RegRef::Pred { first, count }
        } else {
            let bits = match ty.bits() {
                8 => 16,
                b => b,
            };
            let first = self.vregs.len() as u32;
            for _ in 0..if bits == 128 { 2 * n } else { n } {
                self.vregs.push(VReg { bits: bits.min(64), func: self.func });
            }
            if bits == 128 { RegRef::Wide { first, count } } else { RegRef::Row { first, bits, count } }
        };
        if self.vregs.len() > MAX_VREGS || self.preds as usize > MAX_VREGS {
            return self.fail("too many registers");
        }
        if let Some(s) = self.scopes.last_mut() {
            s.regs.insert(name, r);
        }
        Ok(())
    }

    pub(super) fn variable(&mut self, v: &Var<'a>) -> Result<(), PtxError> {
        (self.pos, self.text) = (v.pos, v.name);
        let s = match v.space {
            VarSpace::Shared => self.shared_var(v)?,
            VarSpace::Local | VarSpace::Param => Symbol::Local(self.local_slot(v.bytes, v.align)?),
            VarSpace::Global | VarSpace::Const => match self.globals.get(v.name) {
                Some(s) => *s,
                None => return self.fail("a module variable declared in a function is not supported"),
            },
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.vars.insert(v.name, s);
        }
        Ok(())
    }

    pub(super) fn local_slot(&mut self, bytes: u64, align: u32) -> Result<u64, PtxError> {
        let at = align_up(self.local, u64::from(align));
        self.local = at.saturating_add(bytes);
        if self.local > MAX_LOCAL {
            return self.fail("more local memory per thread than any device has (512 KiB)");
        }
        Ok(at)
    }

    fn shared_var(&mut self, v: &Var<'a>) -> Result<Symbol, PtxError> {
        if v.bytes == 0 {
            self.dyn_align = self.dyn_align.max(u64::from(v.align));
            return Ok(Symbol::DynShared);
        }
        let at = align_up(self.shared, u64::from(v.align));
        self.shared = at.saturating_add(v.bytes);
        self.shared_names.push((at, v.bytes, v.name.to_owned()));
        if self.shared > 1 << 24 {
            return self.fail("more static shared memory than any device has");
        }
        Ok(Symbol::Shared(at))
    }

    /// The variable of that name, seen from the scope at hand.
    pub(super) fn symbol(&mut self, name: &str) -> Result<Symbol, PtxError> {
        for s in self.scopes.iter().rev() {
            if let Some(v) = s.vars.get(name) {
                return Ok(*v);
            }
        }
        if let Some(s) = self.globals.get(name).or_else(|| self.module_shared.get(name)) {
            return Ok(*s);
        }
        let module = self.module;
        if let Some(v) = module.vars.iter().find(|v| v.name == name && v.space == VarSpace::Shared) {
            let s = self.shared_var(v)?;
            self.module_shared.insert(v.name, s);
            return Ok(s);
        }
        self.fail(format!("`{name}` is not declared"))
    }

    /// The frame of a function that is called, made on the first call.
    pub(super) fn frame(&mut self, name: &str) -> Result<u32, PtxError> {
        if let Some(&f) = self.frame_of.get(name) {
            return Ok(f);
        }
        let module = self.module;
        let found = module.funcs.iter().rposition(|f| f.name == name && f.body.is_some() && !f.entry);
        let Some(func) = found else {
            return self.fail(format!("no body of function `{name}` in this module"));
        };
        let f = &module.funcs[func];
        let mut slots = |vars: &[Var<'a>]| -> Result<Vec<(u64, u64)>, PtxError> {
            vars.iter().map(|p| Ok((self.local_slot(p.bytes, p.align)?, p.bytes))).collect()
        };
        let params = slots(&f.params)?;
        let rets = slots(&f.rets)?;
        let id = self.frames.len() as u32;
        self.frames.push(Frame { func, params, rets, pc: 0, thunk: None, inside: None });
        self.frame_of.insert(f.name, id);
        Ok(id)
    }

    pub(super) fn check_recursion(&self) -> Result<(), PtxError> {
        // Frames are static, so a cycle in the call graph cannot run. Peel functions without callees.
        let n = self.frames.len();
        let mut done = vec![false; n];
        loop {
            let mut changed = false;
            for f in 0..n {
                if !done[f] && self.edges.iter().all(|&(a, b)| a as usize != f || done[b as usize]) {
                    done[f] = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        let Some(first) = done.iter().position(|d| !d) else { return Ok(()) };
        // Every function that is left calls another one that is left, so that n steps end in a cycle.
        let next = |f: usize| {
            self.edges
                .iter()
                .find(|&&(a, b)| a as usize == f && !done[b as usize])
                .map_or(f, |e| e.1 as usize)
        };
        let start = (0..n).fold(first, |f, _| next(f));
        let mut cycle = vec![start];
        while let Some(&f) = cycle.last()
            && (cycle.len() == 1 || f != start)
        {
            cycle.push(next(f));
        }
        let func = &self.module.funcs[self.frames[start].func];
        let mut names: Vec<_> = cycle.iter().map(|f| self.module.funcs[self.frames[*f].func].name).collect();
        names.dedup();
        if names.len() == 1 {
            names.push(names[0]);
        }
        Err(PtxError {
            line: func.pos.line,
            column: func.pos.column,
            instruction: func.name.to_owned(),
            message: format!("recursion is not supported ({}): make it iterative", names.join(" calls ")),
        })
    }
}
