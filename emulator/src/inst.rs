//! What: the decoded instruction.
//! Why here: decoder, register allocation and machine agree on it; it is dense, because the machine reads it
//! once per warp and step.
//! Pre: built by the decoder, which checks every width.
//! Post: row operands are offsets (in 32-bit words) into a warp's register file, predicates are slots.

use crate::lanes::AluFn;

/// "No operand" for rows and predicate slots.
pub(crate) const NONE: u32 = u32::MAX;

/// State spaces as the machine sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// What an operand slot of an instruction is, for liveness and allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    No,
    Row,
    Pred,
}

/// Who an access or a fence is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Scope {
    Cta,
    Cluster,
    Gpu,
    Sys,
}

/// What an access orders beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Weak,
    Relaxed,
    Acquire,
    Release,
    AcqRel,
}

impl Order {
    pub(crate) fn acquires(self) -> bool {
        matches!(self, Order::Acquire | Order::AcqRel)
    }
    pub(crate) fn releases(self) -> bool {
        matches!(self, Order::Release | Order::AcqRel)
    }
}

/// What a fence orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Accesses of the thread; `sc` fences are also in one order among themselves.
    Thread { scope: Scope, sc: bool },
    /// Generic accesses before with asynchronous ones after: in shared memory, in global memory.
    Proxy { shared: bool, global: bool },
    /// Initialisations of mbarriers.
    MbarrierInit,
}

/// Commits and waits of asynchronous copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Commit {
        bulk: bool,
    },
    /// Waits until at most `left` groups are incomplete; `None` waits for everything, committed or not.
    Wait {
        bulk: bool,
        left: Option<u32>,
        read: bool,
    },
}

/// `barrier.cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClusterBar {
    pub(crate) arrive: bool,
    /// Whether it orders memory.
    pub(crate) orders: bool,
    pub(crate) aligned: bool,
}

/// `griddepcontrol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GridDep {
    Wait,
    Launch,
}

/// A load or store.
#[derive(Debug, Clone)]
pub(crate) struct Mem {
    pub(crate) space: Space,
    /// Bytes of one element in memory.
    pub(crate) bytes: u8,
    /// Elements per lane.
    pub(crate) n: u8,
    pub(crate) signed: bool,
    /// Bytes of the registers.
    pub(crate) reg_bytes: u8,
    pub(crate) order: Order,
    pub(crate) scope: Scope,
    /// Whether a load takes the non-coherent path.
    pub(crate) nc: bool,
    pub(crate) addr: Addr,
    pub(crate) regs: [u32; 8],
}

/// An address operand: an optional base row and a constant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addr {
    pub(crate) base: u32,
    pub(crate) wide: bool,
    pub(crate) offset: i64,
}

/// Read-modify-write operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rmw {
    AddInt,
    AddF32,
    AddF64,
    AddF16,
    AddBf16,
    AddF16x2,
    AddBf16x2,
    MinS,
    MaxS,
    MinU,
    MaxU,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// An `atom` or `red`.
#[derive(Debug, Clone)]
pub(crate) struct Atom {
    pub(crate) space: Space,
    pub(crate) bytes: u8,
    pub(crate) op: Rmw,
    pub(crate) order: Order,
    pub(crate) scope: Scope,
    pub(crate) addr: Addr,
}

/// Modes of `shfl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// Kinds of `vote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoteKind {
    All,
    Any,
    Uni,
    Ballot,
}

/// Kinds of `redux`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReduxKind {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}

/// What a `bar`/`barrier` does on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarKind {
    Sync,
    Arrive,
    RedPopc,
    RedAnd,
    RedOr,
}

/// Warp-wide operations: all lanes of the member mask arrive before one of them goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WarpOp {
    /// d, a = value, b = lane, c = clamp; `pred` is the in-range predicate.
    Shfl {
        mode: ShflMode,
        pred: u32,
    },
    /// a = source predicate, d = destination (row for ballot, slot otherwise).
    Vote {
        kind: VoteKind,
        negate: bool,
    },
    /// d, a = value; `pred` for `.all`.
    Match {
        all: bool,
        wide: bool,
        pred: u32,
    },
    Redux(ReduxKind),
    /// d = leader row, `pred` = elected.
    Elect {
        pred: u32,
    },
    Sync,
}

/// Element types of tensor-core multiplicands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MmaTy {
    Bf16,
    F16,
    Tf32,
    S8,
    U8,
    E4m3,
    E5m2,
    F64,
}

/// Accumulator types of tensor-core instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MmaAcc {
    F32,
    F16,
    S32,
    F64,
}

/// An `mma.sync` of shape m x 8 x k.
#[derive(Debug, Clone)]
pub(crate) struct Mma {
    pub(crate) a_ty: MmaTy,
    pub(crate) b_ty: MmaTy,
    pub(crate) acc: MmaAcc,
    pub(crate) m: u8,
    pub(crate) k: u8,
    pub(crate) saturate: bool,
    /// Registers per lane of A, B and C/D.
    pub(crate) counts: [u8; 3],
    pub(crate) a: [u32; 8],
    pub(crate) b: [u32; 4],
    pub(crate) c: [u32; 8],
    pub(crate) d: [u32; 8],
    /// For `m8n8k4` of f16, which is a product per eight lanes: whether A and B are column-major.
    pub(crate) quads: Option<[bool; 2]>,
    /// C is f16 where D is f32; its four registers stand twice.
    pub(crate) c_half: bool,
}

/// `ldmatrix` and `stmatrix` of 8x8 b16 matrices.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) store: bool,
    pub(crate) trans: bool,
    pub(crate) n: u8,
    /// `Shared` or `Generic`.
    pub(crate) space: Space,
    pub(crate) addr: Addr,
    pub(crate) regs: [u32; 4],
}

/// `wmma.load` and `wmma.store`.
#[derive(Debug, Clone)]
pub(crate) struct Tile {
    pub(crate) store: bool,
    /// `Global`, `Shared` or `Generic`.
    pub(crate) space: Space,
    pub(crate) addr: Addr,
    /// Row of the elements from line to line, or `NONE`.
    pub(crate) stride: u32,
    /// Bytes of an element.
    pub(crate) size: u8,
    /// Elements of a line of memory.
    pub(crate) line: u8,
    /// Bytes that a lane moves at a time.
    pub(crate) chunk: u8,
    /// What the address is a multiple of.
    pub(crate) align: u8,
    /// Registers that differ; the others repeat them.
    pub(crate) distinct: u8,
    pub(crate) n: u8,
    pub(crate) regs: [u32; 8],
    /// For each element in the order of memory, its byte among those of the distinct registers, register by
    /// register and lane by lane.
    pub(crate) map: Box<[u16]>,
}

/// `cp.async` of 4, 8 or 16 bytes per lane.
#[derive(Debug, Clone)]
pub(crate) struct CpAsync {
    pub(crate) bytes: u8,
    pub(crate) dst: Addr,
    pub(crate) src: Addr,
    /// Row of the source size, or `NONE`.
    pub(crate) size: u32,
    /// Slot of the predicate that ignores the source, or `NONE`.
    pub(crate) ignore: u32,
    pub(crate) ignore_neg: bool,
}

/// What an `mbarrier` instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MbarKind {
    /// a = arrivals of a phase.
    Init,
    Inval,
    /// b = bytes.
    ExpectTx,
    /// b = bytes.
    CompleteTx,
    /// d = state or `NONE`, a = count or `NONE`, b = bytes to expect first, or `NONE`.
    Arrive,
    /// `cp.async.mbarrier.arrive`; the copies are complete already.
    CopyArrive,
    /// d = predicate, a = state or parity.
    TestWait,
    /// As `TestWait`, but waits.
    TryWait,
}

/// An `mbarrier` instruction.
#[derive(Debug, Clone)]
pub(crate) struct Mbar {
    pub(crate) kind: MbarKind,
    /// `Shared` or `Generic`.
    pub(crate) space: Space,
    pub(crate) addr: Addr,
    pub(crate) order: Order,
    pub(crate) scope: Scope,
    /// A wait names a parity instead of a state.
    pub(crate) parity: bool,
    /// An arrival leaves for good.
    pub(crate) leave: bool,
    /// An arrival must not complete the phase.
    pub(crate) no_complete: bool,
    /// A copy's arrival counts as one that was expected.
    pub(crate) noinc: bool,
}

/// A bulk copy or reduction.
#[derive(Debug, Clone)]
pub(crate) struct Bulk {
    pub(crate) dst_space: Space,
    pub(crate) src_space: Space,
    pub(crate) dst: Addr,
    pub(crate) src: Addr,
    /// Row of the size in bytes.
    pub(crate) size: u32,
    /// The mbarrier that is told of the bytes.
    pub(crate) mbar: Option<Addr>,
    /// The operation and the bytes of an element, for reductions.
    pub(crate) reduce: Option<(Rmw, u8)>,
}

/// `st.async` and `red.async`.
#[derive(Debug, Clone)]
pub(crate) struct AsyncStore {
    pub(crate) addr: Addr,
    pub(crate) mbar: Addr,
    /// Bytes of an element.
    pub(crate) bytes: u8,
    pub(crate) n: u8,
    pub(crate) regs: [u32; 4],
    pub(crate) reduce: Option<Rmw>,
}

/// What the runtime does for a kernel. Arguments lie in local memory, where calls put them.
#[derive(Debug, Clone)]
pub(crate) enum Host {
    /// `vprintf`: offsets of the format, of the pointer to the arguments, and of the result.
    Print { format: u64, args: u64, result: Option<u64> },
    /// `__assertfail`: offsets of expression, file, line and function.
    Assert([u64; 4]),
    /// Fails, with the reason; a is the row of a pointer to name, or `NONE`.
    Fail(String),
}

/// Logic on predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PredOp {
    And,
    Or,
    Xor,
    Mov,
}

/// Special registers that change while a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dynamic {
    Clock32,
    ClockHi,
    Clock64,
    GlobalTimer,
}

/// What an instruction does.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Register to register, lane by lane.
    Alu(AluFn),
    /// Predicate logic: d = a op b, each source optionally negated.
    Pred {
        op: PredOp,
        neg_a: bool,
        neg_b: bool,
        neg_d: bool,
    },
    Bra(u32),
    /// Indexed branch: a = index.
    Brx(Box<[u32]>),
    Call(u32),
    Ret,
    Exit,
    Trap,
    Host(Box<Host>),
    Nop,
    Ld(Box<Mem>),
    St(Box<Mem>),
    /// d = old value or `NONE`, a = operand, b = swap value of cas.
    Atom(Box<Atom>),
    /// a = id, b = count or `NONE`, c = predicate of a reduction, d = its destination.
    Bar {
        kind: BarKind,
        neg: bool,
        /// Whether all lanes of a warp must execute it together.
        aligned: bool,
    },
    /// `mask` is the row of the member mask.
    Warp {
        op: WarpOp,
        mask: u32,
    },
    ActiveMask,
    Mma(Box<Mma>),
    Matrix(Box<Matrix>),
    Tile(Box<Tile>),
    CpAsync(Box<CpAsync>),
    Mbar(Box<Mbar>),
    Bulk(Box<Bulk>),
    AsyncStore(Box<AsyncStore>),
    Fence(Fence),
    Group(Group),
    Cluster(ClusterBar),
    GridDep(GridDep),
    /// d = address in the cluster of a shared address a, in the block of rank b.
    Mapa {
        wide: bool,
        generic: bool,
    },
    /// d = rank of the block whose shared memory the address a lies in.
    Rank {
        wide: bool,
        generic: bool,
    },
    /// `setmaxnreg`.
    Registers {
        inc: bool,
        count: u32,
    },
    /// `nanosleep`: others get a turn.
    Pause,
    Read(Dynamic),
}

/// One decoded instruction.
#[derive(Debug, Clone)]
pub(crate) struct Inst {
    pub(crate) op: Op,
    /// Slot of the guard predicate, or `NONE`.
    pub(crate) guard: u32,
    pub(crate) guard_neg: bool,
    pub(crate) d: u32,
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) c: u32,
}

/// Where an instruction came from and how it counts; beside the code, so that the code stays dense.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    /// Roles of d, a, b, c.
    pub(crate) slots: [Slot; 4],
    /// Bits of the rows d, a, b, c; known after allocation.
    pub(crate) bits: [u8; 4],
    /// Whether d is read as well as written.
    pub(crate) d_read: bool,
    pub(crate) ptx_line: u32,
    pub(crate) file: u32,
    pub(crate) line: u32,
    /// Index into the kernel's texts.
    pub(crate) text: u32,
    /// Index into the kernel's mix names.
    pub(crate) mix: u32,
    pub(crate) flops: Flops,
}

/// Floating-point operations of one lane (or of one warp for tensor operations).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flops {
    pub(crate) f32: u8,
    pub(crate) f64: u8,
    pub(crate) f16: u8,
}

impl Inst {
    /// Visits the rows that live in the boxed parts of the instruction: `(row, is_definition)`.
    pub(crate) fn boxed_rows(&mut self, f: &mut dyn FnMut(&mut u32, bool)) {
        let addr = |a: &mut Addr, f: &mut dyn FnMut(&mut u32, bool)| {
            if a.base != NONE {
                f(&mut a.base, false);
            }
        };
        match &mut self.op {
            Op::Ld(m) => {
                addr(&mut m.addr, f);
                for r in m.regs.iter_mut().take(m.n as usize) {
                    f(r, true);
                }
            }
            Op::St(m) => {
                addr(&mut m.addr, f);
                for r in m.regs.iter_mut().take(m.n as usize) {
                    f(r, false);
                }
            }
            Op::Atom(m) => addr(&mut m.addr, f),
            Op::Warp { mask, .. } => f(mask, false),
            Op::Mma(m) => {
                let n = m.counts;
                m.a.iter_mut().take(n[0] as usize).for_each(|r| f(r, false));
                m.b.iter_mut().take(n[1] as usize).for_each(|r| f(r, false));
                m.c.iter_mut().take(n[2] as usize).for_each(|r| f(r, false));
                m.d.iter_mut().take(n[2] as usize).for_each(|r| f(r, true));
            }
            Op::Matrix(m) => {
                addr(&mut m.addr, f);
                let store = m.store;
                for r in m.regs.iter_mut().take(m.n as usize) {
                    f(r, !store);
                }
            }
            Op::Tile(m) => {
                addr(&mut m.addr, f);
                if m.stride != NONE {
                    f(&mut m.stride, false);
                }
                let store = m.store;
                for r in m.regs.iter_mut().take(m.n as usize) {
                    f(r, !store);
                }
            }
            Op::CpAsync(m) => {
                addr(&mut m.dst, f);
                addr(&mut m.src, f);
                if m.size != NONE {
                    f(&mut m.size, false);
                }
            }
            Op::Mbar(m) => addr(&mut m.addr, f),
            Op::Bulk(m) => {
                addr(&mut m.dst, f);
                addr(&mut m.src, f);
                if let Some(a) = &mut m.mbar {
                    addr(a, f);
                }
                f(&mut m.size, false);
            }
            Op::AsyncStore(m) => {
                addr(&mut m.addr, f);
                addr(&mut m.mbar, f);
                for r in m.regs.iter_mut().take(m.n as usize) {
                    f(r, false);
                }
            }
            _ => {}
        }
    }
}
