//! What: calls through pointers.
//! Why here: functions have static frames, so that a pointer alone does not say where arguments go. Callers of one
//! signature and the functions of that signature whose address is taken meet in slots of their own: the call
//! compares the pointer with each of them and calls a thunk, which moves arguments and results.
//! Pre: a prototype, a list of targets, or a table of functions.
//! Post: a pointer to anything else traps, and so does a function that a pointer leads into a second time.

use super::build::{Build, Frame, Symbol};
use crate::error::PtxError;
use crate::inst::{Host, NONE, Op, PredOp, Slot};
use crate::lanes::cmp;
use crate::parse::ast::{Func, Init, Operand, Stmt, Var};
use crate::types::Ty;
use std::collections::{BTreeSet, HashMap};

/// Instructions of an entry up to which calls through pointers may grow it.
const MAX_CODE: usize = 1 << 22;

/// Bytes of results and of parameters.
pub(super) type Signature = (Vec<u64>, Vec<u64>);
/// Offset and bytes of parameters and of results in local memory.
type Slots = (Vec<(u64, u64)>, Vec<(u64, u64)>);

pub(super) fn signature(rets: &[Var<'_>], params: &[Var<'_>]) -> Signature {
    let bytes = |v: &[Var<'_>]| v.iter().map(|p| p.bytes).collect();
    (bytes(rets), bytes(params))
}

/// What calls through pointers share.
#[derive(Default)]
pub(super) struct Pointers<'a> {
    /// Prototypes of the function at hand, by label.
    pub(super) prototypes: HashMap<&'a str, Signature>,
    /// Functions whose address is taken, once somebody asked.
    taken: Option<Vec<usize>>,
    /// Whether the module calls through pointers at all, once somebody asked.
    used: Option<bool>,
    slots: HashMap<Signature, Slots>,
    thunks: HashMap<usize, u32>,
}

impl<'a> Build<'_, 'a> {
    /// The function of that name that has a body.
    fn defined(&self, name: &str) -> Option<usize> {
        self.module.funcs.iter().rposition(|f| f.name == name && f.body.is_some() && !f.entry)
    }

    /// The functions whose address stands somewhere in the module.
    fn taken(&mut self) -> Vec<usize> {
        if let Some(t) = &self.pointers.taken {
            return t.clone();
        }
        fn words<'a>(o: &Operand<'a>, out: &mut BTreeSet<&'a str>) {
            match o {
                Operand::Word(w) | Operand::SymbolOffset(w, _) => {
                    out.insert(w);
                }
                Operand::Vec(v) | Operand::List(v) => v.iter().for_each(|o| words(o, out)),
                _ => {}
            }
        }
        let mut names = BTreeSet::new();
        let module = self.module;
        let statements = || module.funcs.iter().filter_map(|f| f.body.as_ref()).flatten();
        for v in module.vars.iter().chain(statements().filter_map(|s| match s {
            Stmt::Var(v) => Some(v),
            _ => None,
        })) {
            for i in &v.init {
                if let Init::Symbol { name, .. } = i {
                    names.insert(*name);
                }
            }
        }
        for s in statements() {
            if let Stmt::Inst(i) = s
                && !i.op.starts_with("call")
            {
                i.operands.iter().for_each(|o| words(o, &mut names));
            }
        }
        let all: Vec<usize> = names.into_iter().filter_map(|n| self.defined(n)).collect();
        self.pointers.taken = Some(all.clone());
        all
    }

    /// `call` of a register: results, pointer, arguments and what says who may be meant.
    pub(super) fn call_pointer(
        &mut self,
        rets: &[Operand<'a>],
        pointer: &Operand<'a>,
        tail: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let (args, who) = match tail {
            [Operand::List(a), Operand::Word(w)] => (a.as_slice(), *w),
            [Operand::Word(w)] => (&[][..], *w),
            _ => return self.fail("a call through a pointer wants a prototype or a list of targets"),
        };
        let module = self.module;
        let of = |f: &Func<'_>| signature(&f.rets, &f.params);
        let listed = match (self.targets.get(who), module.vars.iter().find(|v| v.name == who)) {
            (Some(t), _) => Some(t.clone()),
            (None, Some(v)) => Some(
                v.init
                    .iter()
                    .filter_map(|i| match i {
                        Init::Symbol { name, .. } => Some(*name),
                        _ => None,
                    })
                    .collect(),
            ),
            _ => None,
        };
        let (wanted, mut targets) = match listed {
            Some(names) => {
                let targets = names
                    .iter()
                    .map(|n| match self.defined(n) {
                        Some(f) => Ok(f),
                        None => self.fail(format!("no body of function `{n}` in this module")),
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                match targets.first() {
                    Some(f) => (of(&module.funcs[*f]), targets),
                    None => return self.fail(format!("`{who}` lists no functions")),
                }
            }
            None => match self.pointers.prototypes.get(who) {
                Some(p) => (p.clone(), self.taken()),
                None => return self.fail(format!("no `.callprototype` or `.calltargets` under `{who}`")),
            },
        };
        targets.retain(|f| of(&module.funcs[*f]) == wanted);
        targets.sort_unstable();
        targets.dedup();
        if args.len() != wanted.1.len() || rets.len() != wanted.0.len() {
            return self.fail(format!(
                "the functions take {} arguments and give {} results",
                wanted.1.len(),
                wanted.0.len()
            ));
        }
        if self.code.len() + 8 * targets.len() > MAX_CODE {
            return self.fail("too many calls through pointers to too many functions");
        }
        let pointer = self.src(pointer, Ty::U64)?;
        let (params, results) = self.meeting(wanted)?;
        for (a, &(at, bytes)) in args.iter().zip(&params) {
            self.pass(a, at, bytes)?;
        }
        let (guard, guard_neg) = (self.guard, self.guard_neg);
        // Lanes that have found no function yet.
        let rest = self.temp_pred();
        self.guard = NONE;
        // A slot that nobody writes is false.
        let all = (self.temp_pred(), true);
        match guard {
            NONE => self.pred_op(PredOp::Mov, rest, all, all),
            g => self.pred_op(PredOp::Mov, rest, (g, guard_neg), (g, guard_neg)),
        }
        for f in targets {
            let Some(&Symbol::Func(number)) = self.globals.get(module.funcs[f].name) else { continue };
            let (number, hit) = (self.imm(64, number), self.temp_pred());
            self.alu_pred2(cmp(|a: u64, b: u64| a == b), hit, pointer, number);
            self.pred_op(PredOp::And, hit, (hit, false), (rest, false));
            self.pred_op(PredOp::And, rest, (rest, false), (hit, true));
            let thunk = self.thunk_of(f)?;
            (self.guard, self.guard_neg) = (hit, false);
            self.calls.push((self.code.len() as u32, thunk));
            self.push(Op::Call(0), [NONE; 4], [Slot::No; 4]);
            self.guard = NONE;
        }
        self.guard = rest;
        let why = "a call through a pointer that names no function of this signature";
        self.host(Host::Fail(why.into()), pointer);
        (self.guard, self.guard_neg) = (guard, guard_neg);
        for (r, &(at, bytes)) in rets.iter().zip(&results) {
            let to = self.local_of(r)?;
            self.copy_local(to, at, bytes);
        }
        Ok(())
    }

    /// Where callers and functions of a signature meet.
    fn meeting(&mut self, s: Signature) -> Result<Slots, PtxError> {
        if let Some(known) = self.pointers.slots.get(&s) {
            return Ok(known.clone());
        }
        let mut place = |sizes: &[u64]| -> Result<Vec<(u64, u64)>, PtxError> {
            sizes.iter().map(|b| Ok((self.local_slot(*b, 16)?, *b))).collect()
        };
        let slots = (place(&s.1)?, place(&s.0)?);
        self.pointers.slots.insert(s, slots.clone());
        Ok(slots)
    }

    /// The thunk of a function, made when it is first wanted.
    fn thunk_of(&mut self, func: usize) -> Result<u32, PtxError> {
        if let Some(&t) = self.pointers.thunks.get(&func) {
            return Ok(t);
        }
        let target = self.frame(self.module.funcs[func].name)?;
        let f = &self.module.funcs[func];
        let (params, rets) = self.meeting(signature(&f.rets, &f.params))?;
        let id = self.frames.len() as u32;
        self.frames.push(Frame { func, params, rets, pc: 0, thunk: Some(target), inside: None });
        self.edges.push((id, target));
        self.pointers.thunks.insert(func, id);
        Ok(id)
    }

    /// The first instructions of a function. Where pointers decide who calls whom, the call graph shows no cycle,
    /// so that each function keeps note of the lanes inside it.
    pub(super) fn enter(&mut self, frame: usize) {
        let module = self.module;
        let used = *self.pointers.used.get_or_insert_with(|| {
            let by_pointer = |s: &Stmt<'_>| match s {
                Stmt::Inst(i) => {
                    let callee = i.operands.iter().find_map(|o| match o {
                        Operand::Word(w) => Some(*w),
                        _ => None,
                    });
                    i.op.starts_with("call") && callee.is_some_and(|w| w.starts_with('%'))
                }
                _ => false,
            };
            module.funcs.iter().filter_map(|f| f.body.as_ref()).flatten().any(by_pointer)
        });
        if frame == 0 || !used {
            return;
        }
        let f = &module.funcs[self.frames[frame].func];
        self.start(frame as u32, f.name, f.pos);
        let inside = self.temp_pred();
        self.frames[frame].inside = Some(inside);
        self.guard = inside;
        let why = format!("`{}` is called again before it has returned: recursion is not supported", f.name);
        self.host(Host::Fail(why), NONE);
        self.guard = NONE;
        let never = (self.temp_pred(), true);
        self.pred_op(PredOp::Mov, inside, never, never);
    }

    /// The end of a function, or of the kernel.
    pub(super) fn leave(&mut self, kernel: bool) {
        if let Some(inside) = self.frames[self.func as usize].inside {
            let never = (self.temp_pred(), false);
            self.pred_op(PredOp::Mov, inside, never, never);
        }
        self.push(if kernel { Op::Exit } else { Op::Ret }, [NONE; 4], [Slot::No; 4]);
    }

    /// The code of a thunk: arguments in, call, results out.
    pub(super) fn thunk(&mut self, frame: usize, target: u32) {
        let module = self.module;
        let f = &module.funcs[self.frames[frame].func];
        self.start(frame as u32, "call", f.pos);
        let slots = |f: &Frame| (f.params.clone(), f.rets.clone());
        let (outer, inner) = (slots(&self.frames[frame]), slots(&self.frames[target as usize]));
        for (from, to) in outer.0.iter().zip(&inner.0) {
            self.copy_local(to.0, from.0, from.1);
        }
        self.calls.push((self.code.len() as u32, target));
        self.push(Op::Call(0), [NONE; 4], [Slot::No; 4]);
        for (from, to) in inner.1.iter().zip(&outer.1) {
            self.copy_local(to.0, from.0, from.1);
        }
        self.push(Op::Ret, [NONE; 4], [Slot::No; 4]);
    }
}
