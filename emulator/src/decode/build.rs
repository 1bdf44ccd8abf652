//! What: the state of decoding one entry, and the walk over its bodies.
//! Why here: names, scopes, labels, variables and emission are one concern; families of instructions are
//! others.
//! Pre: a parsed module and the symbols of its module variables.
//! Post: code of the entry and of every function it can reach, with rows allocated.

use super::indirect::{Pointers, signature};
use super::mods::Mods;
use crate::error::PtxError;
use crate::inst::{Flops, Inst, Meta, NONE, Op, Slot};
use crate::lanes::AluFn;
use crate::parse::ast::{Func, Module, Operand, Pos, RawInst, Stmt};
use crate::program::{Kernel, ParamInfo, RowInit, RowValue};
use crate::regalloc;
use std::collections::HashMap;

/// The address of a variable, by space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symbol {
    Global(u64),
    Const(u64),
    Shared(u64),
    /// The start of dynamic shared memory, known when all static variables are.
    DynShared,
    Local(u64),
    /// A kernel parameter.
    Param(u64),
    /// A function: a number that only calls understand.
    Func(u64),
}

/// A virtual register row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VReg {
    pub(crate) bits: u32,
    /// The function it belongs to; `NONE` for rows with a fixed value.
    pub(crate) func: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum RegRef {
    Row {
        first: u32,
        bits: u32,
        count: Option<u32>,
    },
    Pred {
        first: u32,
        count: Option<u32>,
    },
    /// 128 bits: pairs of 64-bit rows.
    Wide {
        first: u32,
        count: Option<u32>,
    },
}

impl RegRef {
    pub(super) fn count(self) -> Option<u32> {
        match self {
            RegRef::Row { count, .. } | RegRef::Pred { count, .. } | RegRef::Wide { count, .. } => count,
        }
    }
}

#[derive(Default)]
pub(super) struct Scope<'a> {
    pub(super) regs: HashMap<&'a str, RegRef>,
    pub(super) vars: HashMap<&'a str, Symbol>,
    pub(super) id: u32,
}

/// The frame of a function: where its parameters and results lie in local memory.
pub(super) struct Frame {
    pub(super) func: usize,
    pub(super) params: Vec<(u64, u64)>,
    pub(super) rets: Vec<(u64, u64)>,
    pub(super) pc: u32,
    /// A thunk for calls through pointers: the frame that it calls.
    pub(super) thunk: Option<u32>,
    /// The predicate of lanes that are inside, where recursion can only show at run time.
    pub(super) inside: Option<u32>,
}

pub(crate) struct Build<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    pub(super) globals: &'m HashMap<&'a str, Symbol>,
    pub(super) code: Vec<Inst>,
    meta: Vec<Meta>,
    texts: Vec<String>,
    mix: Vec<String>,
    mix_index: HashMap<String, u32>,
    pub(super) vregs: Vec<VReg>,
    pub(super) preds: u32,
    pub(super) consts: HashMap<(u32, RowValue), u32>,
    pub(super) inits: Vec<(u32, RowValue)>,
    pub(super) module_shared: HashMap<&'a str, Symbol>,
    pub(super) shared: u64,
    pub(super) shared_names: Vec<(u64, u64, String)>,
    pub(super) dyn_align: u64,
    pub(super) local: u64,
    pub(super) frames: Vec<Frame>,
    pub(super) frame_of: HashMap<&'a str, u32>,
    /// (pc, frame) of calls to patch.
    pub(super) calls: Vec<(u32, u32)>,
    /// Edges of the call graph, to find recursion.
    pub(super) edges: Vec<(u32, u32)>,
    // The function at hand.
    pub(super) func: u32,
    pub(super) in_entry: bool,
    pub(super) scopes: Vec<Scope<'a>>,
    pub(super) scope_parent: Vec<u32>,
    pub(super) labels: HashMap<(u32, &'a str), u32>,
    pub(super) label_pc: Vec<u32>,
    pub(super) targets: HashMap<&'a str, Vec<&'a str>>,
    pub(super) pointers: Pointers<'a>,
    pub(super) branches: Vec<u32>,
    // The instruction at hand.
    pub(super) guard: u32,
    pub(super) guard_neg: bool,
    pub(super) pos: Pos,
    pub(super) text: &'a str,
    loc: (u32, u32),
    first: bool,
    pub(super) flops: Flops,
}

/// The next multiple.
pub(super) fn align_up(v: u64, a: u64) -> u64 {
    v.div_ceil(a.max(1)).saturating_mul(a.max(1))
}

/// Decodes an entry.
pub(crate) fn decode_entry<'a>(
    module: &Module<'a>,
    entry: usize,
    globals: &HashMap<&'a str, Symbol>,
) -> Result<Kernel, PtxError> {
    let mut b = Build {
        module,
        globals,
        code: vec![],
        meta: vec![],
        texts: vec![],
        mix: vec![],
        mix_index: HashMap::new(),
        vregs: vec![],
        preds: 1, // Slot 0 is the carry.
        consts: HashMap::new(),
        inits: vec![],
        module_shared: HashMap::new(),
        shared: 0,
        shared_names: vec![],
        dyn_align: 16,
        local: 0,
        frames: vec![],
        frame_of: HashMap::new(),
        calls: vec![],
        edges: vec![],
        func: 0,
        in_entry: true,
        scopes: vec![],
        scope_parent: vec![],
        labels: HashMap::new(),
        label_pc: vec![],
        targets: HashMap::new(),
        pointers: Pointers::default(),
        branches: vec![],
        guard: NONE,
        guard_neg: false,
        pos: Pos::default(),
        text: "",
        loc: (0, 0),
        first: true,
        flops: Flops::default(),
    };
    b.entry(entry)
}

impl<'m, 'a> Build<'m, 'a> {
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T, PtxError> {
        Err(self.error(message))
    }
    pub(super) fn error(&self, message: impl Into<String>) -> PtxError {
        PtxError {
            line: self.pos.line,
            column: self.pos.column,
            instruction: self.text.split_whitespace().collect::<Vec<_>>().join(" "),
            message: message.into(),
        }
    }

    fn entry(&mut self, entry: usize) -> Result<Kernel, PtxError> {
        let f = &self.module.funcs[entry];
        (self.pos, self.text) = (f.pos, f.name);
        let mut params = vec![];
        let mut offset = 0u64;
        for p in &f.params {
            offset = align_up(offset, u64::from(p.align));
            params.push(ParamInfo {
                name: p.name.to_owned(),
                offset: offset as u32,
                size: p.bytes as u32,
                align: p.align,
            });
            offset += p.bytes;
            if offset > 32_764 {
                return self.fail("more than 32764 bytes of kernel parameters");
            }
        }
        self.frames.push(Frame {
            func: entry,
            params: vec![],
            rets: vec![],
            pc: 0,
            thunk: None,
            inside: None,
        });
        let mut next = 0;
        let mut ranges = vec![];
        while next < self.frames.len() {
            let start = self.code.len() as u32;
            self.frames[next].pc = start;
            match self.frames[next].thunk {
                Some(target) => self.thunk(next, target),
                None => self.function(next, &params)?,
            }
            ranges.push((start, self.code.len() as u32));
            next += 1;
        }
        for &(pc, frame) in &self.calls {
            let target = self.frames[frame as usize].pc;
            self.code[pc as usize].op = Op::Call(target);
        }
        self.check_recursion()?;
        let dyn_offset = align_up(self.shared, self.dyn_align);
        if dyn_offset > 1 << 24 {
            return self.fail("more static shared memory than any device has");
        }
        if self.local > super::names::MAX_LOCAL {
            return self.fail("more local memory per thread than any device has");
        }
        let alloc = regalloc::allocate(&mut self.code, &mut self.meta, &self.vregs, &ranges);
        let inits = self
            .inits
            .iter()
            .map(|&(v, value)| RowInit {
                offset: alloc.offsets[v as usize],
                bits: self.vregs[v as usize].bits,
                value: if value == RowValue::DynShared { RowValue::Const(dyn_offset) } else { value },
            })
            .collect();
        Ok(Kernel {
            name: f.name.to_owned(),
            code: std::mem::take(&mut self.code),
            meta: std::mem::take(&mut self.meta),
            texts: std::mem::take(&mut self.texts),
            mix: std::mem::take(&mut self.mix),
            words: alloc.words,
            preds: self.preds,
            inits,
            zero_rows: alloc.live_in,
            shared_names: std::mem::take(&mut self.shared_names),
            static_shared: self.shared as u32,
            dyn_offset: dyn_offset as u32,
            local_bytes: align_up(self.local, 16) as u32,
            param_bytes: offset as u32,
            params,
            reqntid: f.reqntid,
            maxntid: f.maxntid,
            maxnreg: f.maxnreg,
            cluster: f.cluster,
            max_live: alloc.max_live,
            workspace: match self.globals.get(crate::program::WORKSPACE) {
                Some(Symbol::Global(a)) => *a,
                _ => 0,
            },
        })
    }

    fn function(&mut self, frame: usize, params: &[ParamInfo]) -> Result<(), PtxError> {
        let f: &'m Func<'a> = &self.module.funcs[self.frames[frame].func];
        (self.pos, self.text) = (f.pos, f.name);
        let Some(body) = &f.body else { return self.fail("a function without a body cannot be called") };
        self.func = frame as u32;
        self.in_entry = frame == 0;
        self.scopes = vec![Scope::default()];
        self.scope_parent = vec![0];
        self.labels.clear();
        self.label_pc.clear();
        self.targets.clear();
        self.pointers.prototypes.clear();
        self.branches.clear();
        for (i, p) in f.params.iter().enumerate() {
            let s = if frame == 0 {
                Symbol::Param(u64::from(params[i].offset))
            } else {
                Symbol::Local(self.frames[frame].params[i].0)
            };
            self.scopes[0].vars.insert(p.name, s);
        }
        for (i, p) in f.rets.iter().enumerate() {
            if let Some(r) = self.frames[frame].rets.get(i) {
                let s = Symbol::Local(r.0);
                self.scopes[0].vars.insert(p.name, s);
            }
        }
        self.find_labels(body)?;
        self.enter(frame);
        let mut scope_ids = 0u32;
        let mut last_label = "";
        for s in body {
            match s {
                Stmt::Open => {
                    scope_ids += 1;
                    self.scopes.push(Scope { id: scope_ids, ..Scope::default() });
                }
                Stmt::Close => {
                    self.scopes.pop();
                }
                Stmt::Regs { ty, name, count, pos } => {
                    (self.pos, self.text) = (*pos, name);
                    self.declare(*ty, name, *count)?;
                }
                Stmt::Var(v) => self.variable(v)?,
                Stmt::Label(l, _) => {
                    last_label = l;
                    let id = self.scopes.last().map_or(0, |s| s.id);
                    if let Some(&i) = self.labels.get(&(id, *l)) {
                        self.label_pc[i as usize] = self.code.len() as u32;
                    }
                }
                Stmt::Targets(t) => {
                    self.targets.insert(last_label, t.clone());
                }
                Stmt::Prototype { rets, params } => {
                    self.pointers.prototypes.insert(last_label, signature(rets, params));
                }
                Stmt::Loc { file, line } => self.loc = (*file, *line),
                Stmt::Inst(raw) => self.inst(raw)?,
            }
        }
        // Falling off the end returns.
        self.guard = NONE;
        self.first = true;
        self.text = "ret";
        self.leave(false);
        for &pc in &self.branches {
            match &mut self.code[pc as usize].op {
                Op::Bra(t) => *t = self.label_pc[*t as usize],
                Op::Brx(ts) => ts.iter_mut().for_each(|t| *t = self.label_pc[*t as usize]),
                _ => {}
            }
        }
        Ok(())
    }

    /// A fresh row.
    pub(super) fn temp(&mut self, bits: u32) -> u32 {
        self.vregs.push(VReg { bits, func: self.func });
        self.vregs.len() as u32 - 1
    }

    /// A fresh predicate.
    pub(super) fn temp_pred(&mut self) -> u32 {
        self.preds += 1;
        self.preds - 1
    }

    /// Emits one instruction under the guard at hand. Only the first of an instruction counts.
    pub(super) fn push(&mut self, op: Op, [d, a, b, c]: [u32; 4], slots: [Slot; 4]) {
        let mix = if self.first {
            let name = self.text.split_whitespace().find(|w| !w.starts_with('@')).unwrap_or("");
            let name = name.trim_end_matches(';');
            match self.mix_index.get(name) {
                Some(&i) => i,
                None => {
                    let i = self.mix.len() as u32;
                    self.mix.push(name.to_owned());
                    self.mix_index.insert(name.to_owned(), i);
                    i
                }
            }
        } else {
            NONE
        };
        if self.first {
            self.texts.push(self.text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        self.first = false;
        self.code.push(Inst { op, guard: self.guard, guard_neg: self.guard_neg, d, a, b, c });
        self.meta.push(Meta {
            slots,
            d_read: false,
            bits: [0; 4],
            ptx_line: self.pos.line,
            file: self.loc.0,
            line: self.loc.1,
            text: self.texts.len() as u32 - 1,
            mix,
            flops: std::mem::take(&mut self.flops),
        });
    }

    /// Says that the last instruction reads its destination too.
    pub(super) fn reads_d(&mut self) {
        if let Some(m) = self.meta.last_mut() {
            m.d_read = true;
        }
    }

    pub(super) fn alu1(&mut self, f: AluFn, d: u32, a: u32) {
        self.push(Op::Alu(f), [d, a, NONE, NONE], [Slot::Row, Slot::Row, Slot::No, Slot::No]);
    }
    pub(super) fn alu2(&mut self, f: AluFn, d: u32, a: u32, b: u32) {
        self.push(Op::Alu(f), [d, a, b, NONE], [Slot::Row, Slot::Row, Slot::Row, Slot::No]);
    }
    pub(super) fn alu3(&mut self, f: AluFn, d: u32, a: u32, b: u32, c: u32) {
        self.push(Op::Alu(f), [d, a, b, c], [Slot::Row; 4]);
    }

    /// Starts the code of a thunk.
    pub(super) fn start(&mut self, func: u32, text: &'a str, pos: Pos) {
        self.func = func;
        (self.pos, self.text, self.loc) = (pos, text, (0, 0));
        self.guard = NONE;
        self.first = true;
    }

    fn inst(&mut self, raw: &RawInst<'a>) -> Result<(), PtxError> {
        self.pos = raw.pos;
        self.text = raw.text;
        self.first = true;
        self.flops = Flops::default();
        self.guard = NONE;
        self.guard_neg = false;
        if let Some((p, neg)) = raw.guard {
            let (slot, _) = self.pred(&Operand::Word(p))?;
            self.guard = slot;
            self.guard_neg = neg;
        }
        let m = Mods::new(raw.op);
        let o = raw.operands.as_slice();
        match m.name {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max"
            | "addc" | "subc" | "madc" | "sad" | "mul24" | "mad24" | "dp4a" | "dp2a" => self.arith(&m, o)?,
            "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "testp" => {
                self.float(&m, o)?;
            }
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt" | "bfe"
            | "bfi" | "bfind" | "popc" | "clz" | "brev" | "bmsk" | "szext" | "fns" => self.logic(&m, o)?,
            "setp" | "set" | "selp" | "slct" => self.compare(&m, o)?,
            "mov" => self.mov(&m, o)?,
            "movmatrix" => self.movmatrix(&m, o)?,
            "createpolicy" => self.policy(&m, o)?,
            "vabsdiff2" | "vabsdiff4" => self.video(&m, o)?,
            "cvt" => self.cvt(&m, o)?,
            "cvta" | "isspacep" => self.cvta(&m, o)?,
            "ld" | "ldu" | "st" | "atom" | "red" | "cp" | "mbarrier" | "prefetch" | "prefetchu"
            | "discard" | "applypriority" | "mapa" | "getctarank" | "ldmatrix" | "stmatrix" | "membar"
            | "fence" => self.memory(&m, o)?,
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" | "bar" | "barrier" | "shfl"
            | "vote" | "match" | "redux" | "activemask" | "elect" | "mma" | "nanosleep" | "pmevent"
            | "griddepcontrol" | "setmaxnreg" => self.control(&m, o)?,
            "wmma" => self.wmma(&m, o)?,
            _ => return self.fail(super::unsupported::unsupported(m.name)),
        }
        if let Some(left) = m.leftover() {
            return self.fail(format!("unknown modifier `.{left}` of `{}`", m.name));
        }
        Ok(())
    }
}
