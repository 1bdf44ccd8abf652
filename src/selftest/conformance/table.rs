//! What: the conformance kernels: which instruction, on which operands, judged how.
//! Why here: data, apart from how it is run.
//! Pre: bodies use the registers that the template in `mod.rs` declares.
//! Post: names are unique; every family of instructions that kernels use occurs.

/// What the input words are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Input {
    /// Edge cases and random bits.
    Bits,
    /// f32: edge cases, random bits, moderate values.
    F32,
    /// f32 in a range.
    Range(f32, f32),
    /// f64: edge cases, random bits, moderate values.
    F64,
    /// Pairs of f16: edge cases, random bits, moderate values.
    F16,
    /// Pairs of bf16: as above.
    Bf16,
    /// Small whole numbers as pairs of f16.
    WholeF16,
    /// Small whole numbers as pairs of bf16.
    WholeBf16,
    /// Small whole numbers as f32.
    WholeF32,
    /// Pairs of bf16 from -1 to 1, and f32 from -1 to 1 from the seventh word on.
    UnitBf16,
    /// Small whole numbers as quadruples of e4m3, and as f32 from the seventh word on.
    WholeE4m3,
}

/// The register that holds the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// `%ro`.
    B32,
    /// `%rdo`.
    B64,
    /// `%fo`.
    F32,
    /// `%fdo`.
    F64,
    /// `%ho`.
    B16,
    /// `%p2`.
    Pred,
    /// `%o0` to `%o3`, as integers.
    Words,
    /// `%o0` to `%o3`, as f32.
    Floats,
    /// The body stores by itself, and results are read from the scratch memory of the block, a word per thread.
    Scratch,
}

/// What two devices may differ in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compare {
    /// Bits are equal.
    Exact,
    /// Bits are equal, or both are NaN of the result's type.
    Values,
    /// The ISA states a relative error for f32 and another absolute one; each device may be off by that much.
    Within { relative: f64, absolute: f64 },
}

/// A kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) body: &'static str,
    pub(super) out: Out,
    pub(super) input: Input,
    pub(super) compare: Compare,
    /// The least architecture: 80, 89 or 90.
    pub(super) arch: u32,
}

const fn of(name: &'static str, out: Out, input: Input, compare: Compare, body: &'static str) -> Kernel {
    Kernel { name, body, out, input, compare, arch: 80 }
}

const fn int(name: &'static str, body: &'static str) -> Kernel {
    of(name, Out::B32, Input::Bits, Compare::Exact, body)
}

const fn long(name: &'static str, body: &'static str) -> Kernel {
    of(name, Out::B64, Input::Bits, Compare::Exact, body)
}

const fn single(name: &'static str, body: &'static str) -> Kernel {
    of(name, Out::F32, Input::F32, Compare::Values, body)
}

const fn double(name: &'static str, body: &'static str) -> Kernel {
    of(name, Out::F64, Input::F64, Compare::Values, body)
}

const fn f16(name: &'static str, body: &'static str) -> Kernel {
    of(name, Out::B32, Input::F16, Compare::Exact, body)
}

const fn bf16(name: &'static str, body: &'static str) -> Kernel {
    of(name, Out::B32, Input::Bf16, Compare::Exact, body)
}

const fn approx(
    name: &'static str,
    (low, high): (f32, f32),
    (relative, absolute): (f64, f64),
    body: &'static str,
) -> Kernel {
    of(name, Out::F32, Input::Range(low, high), Compare::Within { relative, absolute }, body)
}

const fn from(arch: u32, k: Kernel) -> Kernel {
    Kernel { arch, ..k }
}

/// 2 to a negative power.
const fn two(n: u32) -> f64 {
    1.0 / (1u64 << n) as f64
}

/// Sixteen products of values up to 1, each rounded to no less than 2^-23 of the sum's magnitude, in any order.
const DOT: Compare = Compare::Within { relative: 0.0, absolute: 17.0 * 16.0 / (1u64 << 23) as f64 };

/// All kernels.
pub(super) const KERNELS: &[Kernel] = &[
    // Integers.
    int("add.s32", "add.s32 %ro, %ra, %rb;"),
    int("add.sat.s32", "add.sat.s32 %ro, %ra, %rb;"),
    int("sub.sat.s32", "sub.sat.s32 %ro, %ra, %rb;"),
    int("mul.lo.s32", "mul.lo.s32 %ro, %ra, %rb;"),
    int("mul.hi.s32", "mul.hi.s32 %ro, %ra, %rb;"),
    int("mul.hi.u32", "mul.hi.u32 %ro, %ra, %rb;"),
    int("mul24.lo.s32", "mul24.lo.s32 %ro, %ra, %rb;"),
    int("mad.lo.s32", "mad.lo.s32 %ro, %ra, %rb, %rc;"),
    int("mad.hi.s32", "mad.hi.s32 %ro, %ra, %rb, %rc;"),
    int("sad.s32", "sad.s32 %ro, %ra, %rb, %rc;"),
    int("sad.u32", "sad.u32 %ro, %ra, %rb, %rc;"),
    int("div.u32", "or.b32 %r9, %rb, 1; div.u32 %ro, %ra, %r9;"),
    int("div.s32", "and.b32 %r9, %rb, 0x7fffffff; or.b32 %r9, %r9, 1; div.s32 %ro, %ra, %r9;"),
    int("rem.s32", "and.b32 %r9, %rb, 0x7fffffff; or.b32 %r9, %r9, 1; rem.s32 %ro, %ra, %r9;"),
    int("abs.s32", "abs.s32 %ro, %ra;"),
    int("neg.s32", "neg.s32 %ro, %ra;"),
    int("min.s32", "min.s32 %ro, %ra, %rb;"),
    int("max.u32", "max.u32 %ro, %ra, %rb;"),
    int("add.cc", "add.cc.u32 %r9, %ra, %rb; addc.cc.u32 %r8, %rb, %rc; addc.u32 %ro, %r8, %r9;"),
    int("sub.cc", "sub.cc.u32 %r9, %ra, %rb; subc.cc.u32 %r8, %rb, %rc; subc.u32 %ro, %r8, %r9;"),
    int("dp4a.s32.s32", "dp4a.s32.s32 %ro, %ra, %rb, %rc;"),
    int("dp4a.u32.s32", "dp4a.u32.s32 %ro, %ra, %rb, %rc;"),
    // Bits.
    int("popc.b32", "popc.b32 %ro, %ra;"),
    int("clz.b32", "clz.b32 %ro, %ra;"),
    int("brev.b32", "brev.b32 %ro, %ra;"),
    int("bfind.s32", "bfind.s32 %ro, %ra;"),
    int("bfind.shiftamt.u32", "bfind.shiftamt.u32 %ro, %ra;"),
    int("bfe.u32", "bfe.u32 %ro, %ra, %rb, %rc;"),
    int("bfe.s32", "bfe.s32 %ro, %ra, %rb, %rc;"),
    int("bfi.b32", "bfi.b32 %ro, %ra, %rb, %rc, %i6;"),
    int("lop3.b32", "lop3.b32 %ro, %ra, %rb, %rc, 0x6a;"),
    int("prmt.b32", "prmt.b32 %ro, %ra, %rb, %rc;"),
    int("prmt.b32.f4e", "prmt.b32.f4e %ro, %ra, %rb, %rc;"),
    int("prmt.b32.rc16", "prmt.b32.rc16 %ro, %ra, %rb, %rc;"),
    int("shl.b32", "shl.b32 %ro, %ra, %rb;"),
    int("shr.s32", "shr.s32 %ro, %ra, %rb;"),
    int("shf.l.wrap.b32", "shf.l.wrap.b32 %ro, %ra, %rb, %rc;"),
    int("shf.r.clamp.b32", "shf.r.clamp.b32 %ro, %ra, %rb, %rc;"),
    int("cnot.b32", "cnot.b32 %ro, %ra;"),
    int("slct.s32.s32", "slct.s32.s32 %ro, %ra, %rb, %rc;"),
    int("set.lt.u32.s32", "set.lt.u32.s32 %ro, %ra, %rb;"),
    of("setp.hi.u32", Out::Pred, Input::Bits, Compare::Exact, "setp.hi.u32 %p2, %ra, %rb;"),
    // 64 bits.
    long("mul.lo.s64", "mul.lo.s64 %rdo, %rda, %rdb;"),
    long("mul.hi.u64", "mul.hi.u64 %rdo, %rda, %rdb;"),
    long("mul.wide.s32", "mul.wide.s32 %rdo, %ra, %rb;"),
    long("mad.wide.u32", "mad.wide.u32 %rdo, %ra, %rb, %rdc;"),
    long("div.u64", "or.b64 %rd9, %rdb, 1; div.u64 %rdo, %rda, %rd9;"),
    long("shl.b64", "shl.b64 %rdo, %rda, %rb;"),
    long("shr.s64", "shr.s64 %rdo, %rda, %rb;"),
    long("brev.b64", "brev.b64 %rdo, %rda;"),
    long("bfe.u64", "bfe.u64 %rdo, %rda, %rb, %rc;"),
    long("min.s64", "min.s64 %rdo, %rda, %rdb;"),
    // f32.
    single("add.rn.f32", "add.rn.f32 %fo, %fa, %fb;"),
    single("add.rz.f32", "add.rz.f32 %fo, %fa, %fb;"),
    single("sub.rm.f32", "sub.rm.f32 %fo, %fa, %fb;"),
    single("add.ftz.f32", "add.ftz.f32 %fo, %fa, %fb;"),
    single("mul.rn.f32", "mul.rn.f32 %fo, %fa, %fb;"),
    single("mul.rp.ftz.f32", "mul.rp.ftz.f32 %fo, %fa, %fb;"),
    single("fma.rn.f32", "fma.rn.f32 %fo, %fa, %fb, %fc;"),
    single("fma.rz.sat.f32", "fma.rz.sat.f32 %fo, %fa, %fb, %fc;"),
    single("div.rn.f32", "div.rn.f32 %fo, %fa, %fb;"),
    single("rcp.rn.f32", "rcp.rn.f32 %fo, %fa;"),
    single("sqrt.rn.f32", "sqrt.rn.f32 %fo, %fa;"),
    single("min.f32", "min.f32 %fo, %fa, %fb;"),
    single("max.NaN.f32", "max.NaN.f32 %fo, %fa, %fb;"),
    int("abs.f32", "abs.f32 %fo, %fa; mov.b32 %ro, %fo; and.b32 %ro, %ro, 0x7f800000;"),
    single("copysign.f32", "copysign.f32 %fo, %fa, %fb;"),
    of("testp.subnormal.f32", Out::Pred, Input::F32, Compare::Exact, "testp.subnormal.f32 %p2, %fa;"),
    of("setp.ltu.ftz.f32", Out::Pred, Input::F32, Compare::Exact, "setp.ltu.ftz.f32 %p2, %fa, %fb;"),
    // f64.
    double("add.rz.f64", "add.rz.f64 %fdo, %fda, %fdb;"),
    double("mul.rp.f64", "mul.rp.f64 %fdo, %fda, %fdb;"),
    double("fma.rn.f64", "fma.rn.f64 %fdo, %fda, %fdb, %fdc;"),
    double("div.rn.f64", "div.rn.f64 %fdo, %fda, %fdb;"),
    double("sqrt.rn.f64", "sqrt.rn.f64 %fdo, %fda;"),
    double("min.f64", "min.f64 %fdo, %fda, %fdb;"),
    // Approximations, with the errors that the ISA states.
    approx("ex2.approx.f32", (-120.0, 127.0), (two(22), 0.0), "ex2.approx.f32 %fo, %fa;"),
    approx("ex2.approx.ftz.f32", (-20.0, 20.0), (two(22), 0.0), "ex2.approx.ftz.f32 %fo, %fa;"),
    approx("lg2.approx.f32", (2.0, 1e30), (two(22), 0.0), "lg2.approx.f32 %fo, %fa;"),
    approx("lg2.approx.f32 near 1", (0.5, 2.0), (0.0, two(22)), "lg2.approx.f32 %fo, %fa;"),
    approx("rcp.approx.f32", (1e-30, 1e30), (two(23), 0.0), "rcp.approx.f32 %fo, %fa;"),
    approx("rsqrt.approx.f32", (1e-30, 1e30), (two(22), 0.0), "rsqrt.approx.f32 %fo, %fa;"),
    approx("sqrt.approx.f32", (1e-30, 1e30), (two(22), 0.0), "sqrt.approx.f32 %fo, %fa;"),
    approx("sin.approx.f32", (-3.1, 3.1), (0.0, two(20)), "sin.approx.f32 %fo, %fa;"),
    approx("cos.approx.f32", (-3.1, 3.1), (0.0, two(20)), "cos.approx.f32 %fo, %fa;"),
    approx("tanh.approx.f32", (-8.0, 8.0), (two(10), 0.0), "tanh.approx.f32 %fo, %fa;"),
    approx("div.approx.f32", (1.0, 1e10), (two(22), 0.0), "div.approx.f32 %fo, %fa, %fb;"),
    approx("div.full.f32", (1.0, 1e10), (two(22), 0.0), "div.full.f32 %fo, %fa, %fb;"),
    // Halves.
    f16("add.rn.f16x2", "add.rn.f16x2 %ro, %ra, %rb;"),
    f16("mul.ftz.f16x2", "mul.ftz.f16x2 %ro, %ra, %rb;"),
    f16("fma.rn.f16x2", "fma.rn.f16x2 %ro, %ra, %rb, %rc;"),
    f16("fma.rn.sat.f16x2", "fma.rn.sat.f16x2 %ro, %ra, %rb, %rc;"),
    f16("fma.rn.relu.f16x2", "fma.rn.relu.f16x2 %ro, %ra, %rb, %rc;"),
    f16("min.f16x2", "min.f16x2 %ro, %ra, %rb;"),
    f16("max.NaN.f16x2", "max.NaN.f16x2 %ro, %ra, %rb;"),
    bf16("fma.rn.bf16x2", "fma.rn.bf16x2 %ro, %ra, %rb, %rc;"),
    bf16("fma.rn.relu.bf16x2", "fma.rn.relu.bf16x2 %ro, %ra, %rb, %rc;"),
    bf16("min.NaN.bf16x2", "min.NaN.bf16x2 %ro, %ra, %rb;"),
    from(90, bf16("add.rn.bf16x2", "add.rn.bf16x2 %ro, %ra, %rb;")),
    // Conversions.
    of("cvt.rni.s32.f32", Out::B32, Input::F32, Compare::Exact, "cvt.rni.s32.f32 %ro, %fa;"),
    of("cvt.rzi.u32.f32", Out::B32, Input::F32, Compare::Exact, "cvt.rzi.u32.f32 %ro, %fa;"),
    of("cvt.rmi.s64.f64", Out::B64, Input::F64, Compare::Exact, "cvt.rmi.s64.f64 %rdo, %fda;"),
    of("cvt.rni.f32.f32", Out::F32, Input::F32, Compare::Values, "cvt.rni.f32.f32 %fo, %fa;"),
    of("cvt.rn.f32.s32", Out::F32, Input::Bits, Compare::Exact, "cvt.rn.f32.s32 %fo, %ra;"),
    of("cvt.rz.f32.u64", Out::F32, Input::Bits, Compare::Exact, "cvt.rz.f32.u64 %fo, %rda;"),
    of("cvt.rp.f64.s64", Out::F64, Input::Bits, Compare::Exact, "cvt.rp.f64.s64 %fdo, %rda;"),
    of("cvt.rn.f32.f64", Out::F32, Input::F64, Compare::Values, "cvt.rn.f32.f64 %fo, %fda;"),
    of("cvt.f64.f32", Out::F64, Input::F32, Compare::Values, "cvt.f64.f32 %fdo, %fa;"),
    of(
        "cvt.sat.u8.s32",
        Out::B32,
        Input::Bits,
        Compare::Exact,
        "cvt.sat.u8.s32 %h9, %ra; cvt.u32.u16 %ro, %h9;",
    ),
    of("cvt.rn.f16.f32", Out::B16, Input::F32, Compare::Exact, "cvt.rn.f16.f32 %ho, %fa;"),
    of("cvt.rz.f16.f32", Out::B16, Input::F32, Compare::Exact, "cvt.rz.f16.f32 %ho, %fa;"),
    of("cvt.f32.f16", Out::F32, Input::F16, Compare::Values, "cvt.f32.f16 %fo, %ha;"),
    of("cvt.rn.bf16.f32", Out::B16, Input::F32, Compare::Exact, "cvt.rn.bf16.f32 %ho, %fa;"),
    of("cvt.rn.f16x2.f32", Out::B32, Input::F32, Compare::Exact, "cvt.rn.f16x2.f32 %ro, %fa, %fb;"),
    of(
        "cvt.rn.relu.bf16x2.f32",
        Out::B32,
        Input::F32,
        Compare::Exact,
        "cvt.rn.relu.bf16x2.f32 %ro, %fa, %fb;",
    ),
    of("cvt.rna.tf32.f32", Out::B32, Input::Range(-1e9, 1e9), Compare::Exact, "cvt.rna.tf32.f32 %ro, %fa;"),
    from(
        89,
        of(
            "cvt.rn.satfinite.e4m3x2.f32",
            Out::B16,
            Input::F32,
            Compare::Exact,
            "cvt.rn.satfinite.e4m3x2.f32 %ho, %fa, %fb;",
        ),
    ),
    from(
        89,
        of(
            "cvt.rn.satfinite.e5m2x2.f32",
            Out::B16,
            Input::F32,
            Compare::Exact,
            "cvt.rn.satfinite.e5m2x2.f32 %ho, %fa, %fb;",
        ),
    ),
    from(
        89,
        of("cvt.rn.f16x2.e4m3x2", Out::B32, Input::Bits, Compare::Exact, "cvt.rn.f16x2.e4m3x2 %ro, %ha;"),
    ),
    // Warps.
    int("shfl.sync.bfly", "shfl.sync.bfly.b32 %ro, %ra, 9, 31, -1;"),
    int("shfl.sync.up", "shfl.sync.up.b32 %ro|%p2, %ra, 3, 0, -1; @%p2 add.u32 %ro, %ro, 1;"),
    int(
        "shfl.sync.down by eights",
        "shfl.sync.down.b32 %ro|%p2, %ra, 2, 0x1807, -1; @%p2 xor.b32 %ro, %ro, 5;",
    ),
    int("shfl.sync.idx", "shfl.sync.idx.b32 %ro, %ra, %rb, 31, -1;"),
    int("vote.sync.ballot", "setp.lt.s32 %p2, %ra, %rb; vote.sync.ballot.b32 %ro, %p2, -1;"),
    int("match.any.sync", "and.b32 %r9, %ra, 3; match.any.sync.b32 %ro, %r9, -1;"),
    int("match.all.sync", "and.b32 %r9, %lane, 32; match.all.sync.b32 %ro|%p2, %r9, -1;"),
    int("redux.sync.add", "redux.sync.add.u32 %ro, %ra, -1;"),
    int("redux.sync.min", "redux.sync.min.s32 %ro, %ra, -1;"),
    int("redux.sync.xor", "redux.sync.xor.b32 %ro, %ra, -1;"),
    // Memory. The order of atomics is open, so only what memory holds in the end is compared.
    of(
        "atom.global.add.u32",
        Out::Scratch,
        Input::Bits,
        Compare::Exact,
        "and.b32 %r9, %tid, 15; mul.wide.u32 %rd9, %r9, 4; add.u64 %rd9, %rdg, %rd9; atom.global.add.u32 %r8, [%rd9], %ra;",
    ),
    of(
        "red.global.max.s32",
        Out::Scratch,
        Input::Bits,
        Compare::Exact,
        "and.b32 %r9, %tid, 15; mul.wide.u32 %rd9, %r9, 4; add.u64 %rd9, %rdg, %rd9; red.global.max.s32 [%rd9], %ra;",
    ),
    of(
        "red.global.add.f32 of whole numbers",
        Out::Scratch,
        Input::WholeF32,
        Compare::Exact,
        "and.b32 %r9, %tid, 15; mul.wide.u32 %rd9, %r9, 4; add.u64 %rd9, %rdg, %rd9; red.global.add.f32 [%rd9], %fa;",
    ),
    of(
        "atom.global.inc.u32",
        Out::Scratch,
        Input::Bits,
        Compare::Exact,
        "atom.global.inc.u32 %r8, [%rdg], 9; atom.global.dec.u32 %r8, [%rdg+4], 9; atom.global.xor.b32 %r8, [%rdg+8], %ra;",
    ),
    of(
        "st.shared.v4",
        Out::Words,
        Input::Bits,
        Compare::Exact,
        "mov.u32 %r9, s; mad.lo.u32 %r8, %tid, 16, %r9; st.shared.v4.u32 [%r8], {%i0, %i1, %i2, %i3}; bar.sync 0; \
         xor.b32 %r8, %tid, 77; mad.lo.u32 %r8, %r8, 16, %r9; ld.shared.v4.u32 {%o0, %o1, %o2, %o3}, [%r8];",
    ),
    of(
        "ldmatrix.x4",
        Out::Words,
        Input::Bits,
        Compare::Exact,
        "mov.u32 %r9, s; mad.lo.u32 %r8, %tid, 16, %r9; st.shared.v4.u32 [%r8], {%i0, %i1, %i2, %i3}; bar.sync 0; \
         ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%o0, %o1, %o2, %o3}, [%r8];",
    ),
    of(
        "ldmatrix.x2.trans",
        Out::Words,
        Input::Bits,
        Compare::Exact,
        "mov.u32 %r9, s; mad.lo.u32 %r8, %tid, 16, %r9; st.shared.v4.u32 [%r8], {%i0, %i1, %i2, %i3}; bar.sync 0; \
         ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%o0, %o1}, [%r8];",
    ),
    of(
        "cp.async",
        Out::Words,
        Input::Bits,
        Compare::Exact,
        "mov.u32 %r9, s; mad.lo.u32 %r8, %tid, 16, %r9; cp.async.cg.shared.global [%r8], [%rdx], 16; \
         cp.async.commit_group; cp.async.wait_group 0; ld.shared.v4.u32 {%o0, %o1, %o2, %o3}, [%r8];",
    ),
    from(
        90,
        of(
            "stmatrix.x4",
            Out::Words,
            Input::Bits,
            Compare::Exact,
            "mov.u32 %r9, s; mad.lo.u32 %r8, %tid, 16, %r9; \
             stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r8], {%i0, %i1, %i2, %i3}; bar.sync 0; \
             ld.shared.v4.u32 {%o0, %o1, %o2, %o3}, [%r8];",
        ),
    ),
    // Tensor cores. Sums of whole numbers are exact in any order; others are within bounds.
    of(
        "mma.m16n8k16.f32.bf16 of whole numbers",
        Out::Floats,
        Input::WholeBf16,
        Compare::Exact,
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%fo0, %fo1, %fo2, %fo3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%z, %z, %z, %z};",
    ),
    of(
        "mma.m16n8k16.f32.f16 of whole numbers",
        Out::Floats,
        Input::WholeF16,
        Compare::Exact,
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%fo0, %fo1, %fo2, %fo3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%z, %z, %z, %z};",
    ),
    of(
        "mma.m16n8k16.f32.bf16",
        Out::Floats,
        Input::UnitBf16,
        DOT,
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%fo0, %fo1, %fo2, %fo3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%f6, %f7, %f8, %f9};",
    ),
    of(
        "mma.m16n8k8.f32.tf32 of whole numbers",
        Out::Floats,
        Input::WholeF32,
        Compare::Exact,
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%fo0, %fo1, %fo2, %fo3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%f6, %f7, %f8, %f9};",
    ),
    of(
        "mma.m16n8k32.s32.s8",
        Out::Words,
        Input::Bits,
        Compare::Exact,
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%o0, %o1, %o2, %o3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%i6, %i7, %i8, %i9};",
    ),
    of(
        "mma.m16n8k32.satfinite.s32.u8",
        Out::Words,
        Input::Bits,
        Compare::Exact,
        "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.u8.u8.s32 {%o0, %o1, %o2, %o3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%i6, %i7, %i8, %i9};",
    ),
    from(
        89,
        of(
            "mma.m16n8k32.f32.e4m3 of whole numbers",
            Out::Floats,
            Input::WholeE4m3,
            Compare::Exact,
            "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%fo0, %fo1, %fo2, %fo3}, {%i0, %i1, %i2, %i3}, {%i4, %i5}, {%f6, %f7, %f8, %f9};",
        ),
    ),
];
