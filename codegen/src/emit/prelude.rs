//! The text in front of every kernel: small functions over compiler builtins and inline PTX.
//!
//! Why here: kernels include nothing, so what they call is spelled out once. Overloads by argument type keep the
//! emission of expressions free of suffixes.

/// The text.
pub(super) const PRELUDE: &str = r#"// Most kernels use a part of what follows.
#pragma nv_diag_suppress 177
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
#define TW static __device__ __forceinline__
#define TW_INF __int_as_float(0x7f800000)
#define TW_NAN __int_as_float(0x7fc00000)
#define TW_INF64 __longlong_as_double(0x7ff0000000000000ll)
#define TW_NAN64 __longlong_as_double(0x7ff8000000000000ll)
// A constant that the optimizer of NVRTC does not see: where it folds, it takes 0 + nan and 0 * inf for numbers.
TW float tw_hidden(float x) { float y; asm("mov.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
TW double tw_hidden(double x) { double y; asm("mov.f64 %0, %1;" : "=d"(y) : "d"(x)); return y; }

// Bits of 32-bit elements.
TW u32 tw_bits(float x) { return __float_as_uint(x); }
TW u32 tw_bits(int x) { return (u32)x; }
TW void tw_put(float& x, u32 w) { x = __uint_as_float(w); }
TW void tw_put(int& x, u32 w) { x = (int)w; }

// 16-bit floats, two in a word.
TW u32 tw_half(u32 w, int hi) { return hi ? w >> 16 : w & 0xffffu; }
TW u32 tw_pair(u32 lo, u32 hi) { return lo | (hi << 16); }
TW float tw_bf16(u32 w, int hi) { return __uint_as_float(hi ? w & 0xffff0000u : w << 16); }
TW float tw_f16(u32 w, int hi) {
    float x;
    u16 h = (u16)tw_half(w, hi);
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
TW u32 tw_pack_bf16(float lo, float hi) {
    u32 w;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(hi), "f"(lo));
    return w;
}
TW u32 tw_pack_f16(float lo, float hi) {
    u32 w;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(hi), "f"(lo));
    return w;
}
TW float tw_round_bf16(float x) { return tw_bf16(tw_pack_bf16(x, 0.0f), 0); }
TW float tw_round_f16(float x) { return tw_f16(tw_pack_f16(x, 0.0f), 0); }

// Arithmetic. Products are added unrounded only where the source says so.
TW float tw_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
TW double tw_fma(double a, double b, double c) { return __fma_rn(a, b, c); }
TW int tw_fma(int a, int b, int c) { return a * b + c; }
TW i64 tw_fma(i64 a, i64 b, i64 c) { return a * b + c; }
TW float tw_div(float a, float b) { return __fdiv_rn(a, b); }
TW double tw_div(double a, double b) { return __ddiv_rn(a, b); }
TW float tw_inv(float x) { return __frcp_rn(x); }
TW double tw_inv(double x) { return __drcp_rn(x); }
TW float tw_max(float a, float b) { return fmaxf(a, b); }
TW double tw_max(double a, double b) { return fmax(a, b); }
TW int tw_max(int a, int b) { return a > b ? a : b; }
TW i64 tw_max(i64 a, i64 b) { return a > b ? a : b; }
TW float tw_min(float a, float b) { return fminf(a, b); }
TW double tw_min(double a, double b) { return fmin(a, b); }
TW int tw_min(int a, int b) { return a < b ? a : b; }
TW i64 tw_min(i64 a, i64 b) { return a < b ? a : b; }
TW float tw_abs(float x) { return fabsf(x); }
TW double tw_abs(double x) { return fabs(x); }
TW int tw_abs(int x) { return x < 0 ? -x : x; }
TW i64 tw_abs(i64 x) { return x < 0 ? -x : x; }
TW float tw_floor(float x) { return floorf(x); }
TW double tw_floor(double x) { return floor(x); }
TW float tw_exp(float x) { return expf(x); }
TW double tw_exp(double x) { return exp(x); }
TW float tw_exp2(float x) { return exp2f(x); }
TW double tw_exp2(double x) { return exp2(x); }
TW float tw_log(float x) { return logf(x); }
TW double tw_log(double x) { return log(x); }
TW float tw_sqrt(float x) { return __fsqrt_rn(x); }
TW double tw_sqrt(double x) { return __dsqrt_rn(x); }
TW float tw_rsqrt(float x) { return rsqrtf(x); }
TW double tw_rsqrt(double x) { return rsqrt(x); }
TW float tw_tanh(float x) { return tanhf(x); }
TW double tw_tanh(double x) { return tanh(x); }
// The quadrant is removed in double precision, which needs no table and no local memory.
TW float tw_quadrant(float x, int& q) {
    const double n = rint((double)x * 0.63661977236758134308);
    q = (int)((i64)n & 3);
    return (float)__fma_rn(n, -6.123233995736766036e-17, __fma_rn(n, -1.57079632679489655800, (double)x));
}
TW float tw_turn(float x, int by) {
    int q;
    const float r = tw_quadrant(x, q), z = __fmul_rn(r, r);
    float s = __fmaf_rn(z, 2.7557319e-6f, -1.9841270e-4f);
    s = __fmaf_rn(z, __fmaf_rn(z, s, 8.3333333e-3f), -0.16666667f);
    s = __fmaf_rn(__fmul_rn(z, s), r, r);
    float c = __fmaf_rn(z, -2.7557319e-7f, 2.4801587e-5f);
    c = __fmaf_rn(z, __fmaf_rn(z, c, -1.3888889e-3f), 4.1666667e-2f);
    c = __fmaf_rn(z, __fmaf_rn(z, c, -0.5f), 1.0f);
    q += by;
    const float y = (q & 1) ? c : s;
    return (q & 2) ? -y : y;
}
TW float tw_sin(float x) { return tw_turn(x, 0); }
TW double tw_sin(double x) { return sin(x); }
TW float tw_cos(float x) { return tw_turn(x, 1); }
TW double tw_cos(double x) { return cos(x); }
TW float tw_mod(float a, float b) { return a - b * floorf(__fdiv_rn(a, b)); }
TW double tw_mod(double a, double b) { return a - b * floor(a / b); }
// Philox4x32-10 with the key and the low half of the counter given; a number in (0, 1] of its first word.
TW float tw_random(i64 key, i64 counter) {
    u32 k0 = (u32)key, k1 = (u32)(key >> 32), c0 = (u32)counter, c1 = (u32)(counter >> 32), c2 = 0u, c3 = 0u;
#pragma unroll
    for (int n = 0; n < 10; n++) {
        const u32 a = 0xD2511F53u * c0, b = 0xCD9E8D57u * c2;
        const u32 x = __umulhi(0xD2511F53u, c0), y = __umulhi(0xCD9E8D57u, c2);
        c0 = y ^ c1 ^ k0;
        c1 = b;
        c2 = x ^ c3 ^ k1;
        c3 = a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (float)__fma_rn((double)c0, 2.3283064365386962890625e-10, 1.16415321826934814453125e-10);
}
template <typename T> TW T tw_floordiv(T a, T b) {
    const T q = a / b;
    return q - (q * b != a && ((a < 0) != (b < 0)) ? 1 : 0);
}
template <typename T> TW T tw_floormod(T a, T b) {
    const T r = a % b;
    return r != 0 && ((r < 0) != (b < 0)) ? r + b : r;
}
// Toward zero, saturating; NaN gives 0 (which the instructions do not agree on).
TW int tw_to_int(float x) { return x != x ? 0 : __float2int_rz(x); }
TW int tw_to_int(double x) { return x != x ? 0 : __double2int_rz(x); }
TW i64 tw_to_long(float x) { return x != x ? 0 : __float2ll_rz(x); }
TW i64 tw_to_long(double x) { return x != x ? 0 : __double2ll_rz(x); }

// Exchange between lanes: with the one that differs in some bits, and from a given one.
TW float tw_lane(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
TW int tw_lane(int x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
TW double tw_lane(double x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
TW i64 tw_lane(i64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
TW float tw_pick(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
TW u32 tw_pick(u32 x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
TW int tw_pick(int x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
TW bool tw_pick(bool x, int lane) { return __shfl_sync(0xffffffffu, (int)x, lane) != 0; }
TW double tw_pick(double x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
TW i64 tw_pick(i64 x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }

// Launches that overlap: the next one may start, and everything that the ones before wrote can be seen. Before sm_90
// launches do not overlap.
TW void tw_let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
TW void tw_await_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Memory: words of one aligned access. Masked loads leave the words as they are where the mask is off.
TW void tw_load(u32 (&v)[4], const void* p) { const uint4 x = __ldg((const uint4*)p); v[0] = x.x; v[1] = x.y; v[2] = x.z; v[3] = x.w; }
TW void tw_load(u32 (&v)[2], const void* p) { const uint2 x = __ldg((const uint2*)p); v[0] = x.x; v[1] = x.y; }
TW void tw_load(u32 (&v)[1], const void* p) { v[0] = __ldg((const u32*)p); }
TW void tw_load16(u32 (&v)[1], const void* p) { v[0] = __ldg((const u16*)p); }
TW void tw_load8(u32 (&v)[1], const void* p) { v[0] = __ldg((const unsigned char*)p); }
TW void tw_load_if(u32 (&v)[4], const void* p, bool ok) {
    asm("{ .reg .pred q; setp.ne.s32 q, %5, 0; @q ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4]; }"
        : "+r"(v[0]), "+r"(v[1]), "+r"(v[2]), "+r"(v[3]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_load_if(u32 (&v)[2], const void* p, bool ok) {
    asm("{ .reg .pred q; setp.ne.s32 q, %3, 0; @q ld.global.nc.v2.u32 {%0, %1}, [%2]; }"
        : "+r"(v[0]), "+r"(v[1]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_load_if(u32 (&v)[1], const void* p, bool ok) {
    asm("{ .reg .pred q; setp.ne.s32 q, %2, 0; @q ld.global.nc.u32 %0, [%1]; }"
        : "+r"(v[0]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_load16_if(u32 (&v)[1], const void* p, bool ok) {
    asm("{ .reg .pred q; setp.ne.s32 q, %2, 0; @q ld.global.nc.u16 %0, [%1]; }"
        : "+r"(v[0]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_load8_if(u32 (&v)[1], const void* p, bool ok) {
    asm("{ .reg .pred q; setp.ne.s32 q, %2, 0; @q ld.global.nc.u8 %0, [%1]; }"
        : "+r"(v[0]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
// What other launches write is read in the order of the source and through the coherent path.
TW void tw_read(u32 (&v)[4], const void* p) {
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "l"(__cvta_generic_to_global(p)));
}
TW void tw_read(u32 (&v)[2], const void* p) {
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "l"(__cvta_generic_to_global(p)));
}
TW void tw_read(u32 (&v)[1], const void* p) {
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(v[0]) : "l"(__cvta_generic_to_global(p)));
}
TW void tw_read16(u32 (&v)[1], const void* p) {
    asm volatile("ld.global.u16 %0, [%1];" : "=r"(v[0]) : "l"(__cvta_generic_to_global(p)));
}
TW void tw_read8(u32 (&v)[1], const void* p) {
    asm volatile("ld.global.u8 %0, [%1];" : "=r"(v[0]) : "l"(__cvta_generic_to_global(p)));
}
TW void tw_read_if(u32 (&v)[4], const void* p, bool ok) {
    asm volatile("{ .reg .pred q; setp.ne.s32 q, %5, 0; @q ld.global.v4.u32 {%0, %1, %2, %3}, [%4]; }"
        : "+r"(v[0]), "+r"(v[1]), "+r"(v[2]), "+r"(v[3]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_read_if(u32 (&v)[2], const void* p, bool ok) {
    asm volatile("{ .reg .pred q; setp.ne.s32 q, %3, 0; @q ld.global.v2.u32 {%0, %1}, [%2]; }"
        : "+r"(v[0]), "+r"(v[1]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_read_if(u32 (&v)[1], const void* p, bool ok) {
    asm volatile("{ .reg .pred q; setp.ne.s32 q, %2, 0; @q ld.global.u32 %0, [%1]; }"
        : "+r"(v[0]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_read16_if(u32 (&v)[1], const void* p, bool ok) {
    asm volatile("{ .reg .pred q; setp.ne.s32 q, %2, 0; @q ld.global.u16 %0, [%1]; }"
        : "+r"(v[0]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_read8_if(u32 (&v)[1], const void* p, bool ok) {
    asm volatile("{ .reg .pred q; setp.ne.s32 q, %2, 0; @q ld.global.u8 %0, [%1]; }"
        : "+r"(v[0]) : "l"(__cvta_generic_to_global(p)), "r"((int)ok));
}
TW void tw_store(void* p, const u32 (&v)[4]) { *(uint4*)p = make_uint4(v[0], v[1], v[2], v[3]); }
TW void tw_store(void* p, const u32 (&v)[2]) { *(uint2*)p = make_uint2(v[0], v[1]); }
TW void tw_store(void* p, const u32 (&v)[1]) { *(u32*)p = v[0]; }
TW void tw_store16(void* p, const u32 (&v)[1]) { *(u16*)p = (u16)v[0]; }
TW void tw_store8(void* p, const u32 (&v)[1]) { *(unsigned char*)p = (unsigned char)v[0]; }
TW void tw_fetch(u32 (&v)[4], const void* p) { const uint4 x = *(const uint4*)p; v[0] = x.x; v[1] = x.y; v[2] = x.z; v[3] = x.w; }
TW void tw_fetch(u32 (&v)[2], const void* p) { const uint2 x = *(const uint2*)p; v[0] = x.x; v[1] = x.y; }
TW void tw_fetch(u32 (&v)[1], const void* p) { v[0] = *(const u32*)p; }
TW void tw_fetch16(u32 (&v)[1], const void* p) { v[0] = *(const u16*)p; }
TW void tw_fetch8(u32 (&v)[1], const void* p) { v[0] = *(const unsigned char*)p; }

// Tensor cores.
TW void tw_matrix4(u32 (&v)[4], u32 p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(p) : "memory");
}
TW void tw_matrix4t(u32 (&v)[4], u32 p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(p) : "memory");
}
TW void tw_matrix2(u32 (&v)[2], u32 p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "r"(p) : "memory");
}
TW void tw_matrix2t(u32 (&v)[2], u32 p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "r"(p) : "memory");
}
TW void tw_mma_bf16(float& c0, float& c1, float& c2, float& c3, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
TW void tw_mma_f16(float& c0, float& c1, float& c2, float& c3, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
"#;

/// What device functions need besides: kernels of their own have no use for it.
pub(super) const BODY_PRELUDE: &str = r#"// The first threads of a block meet, the others take no part.
template <int THREADS> TW void tw_bar() { asm volatile("bar.sync 1, %0;" :: "n"(THREADS) : "memory"); }
"#;

/// What rings of tasks and feeding them need besides. A cursor is a page, with the parity of its lap in the top bit.
pub(super) const FEED_PRELUDE: &str = r#"
TW void tw_expect_more(u32 bar, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared.b64 [%0], %1;" :: "r"(bar), "r"(bytes) : "memory");
#endif
}
TW void tw_arrive(u32 bar, u32 count) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared.b64 _, [%0], %1;" :: "r"(bar), "r"(count) : "memory");
#else
    for (; count > 0; --count) {
        asm volatile("{ .reg .b64 t; mbarrier.arrive.shared.b64 t, [%0]; }" :: "r"(bar) : "memory");
    }
#endif
}
// Arrives when the copies of this thread so far have.
TW void tw_arrive_copied(u32 bar) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" :: "r"(bar) : "memory");
}
// A flag of the block: whether to stop.
TW void tw_stop(u32 flag) { asm volatile("st.relaxed.cta.shared.u32 [%0], 1;" :: "r"(flag) : "memory"); }
TW bool tw_stopped(u32 flag) {
    u32 v;
    asm volatile("ld.relaxed.cta.shared.u32 %0, [%1];" : "=r"(v) : "r"(flag) : "memory");
    return v != 0;
}
// How many stages were copied, for those who look at it.
TW void tw_count(u32 word) { asm volatile("red.relaxed.cta.shared.add.u32 [%0], 1;" :: "r"(word) : "memory"); }
TW u32 tw_counted(u32 word) {
    u32 v;
    asm volatile("ld.relaxed.cta.shared.u32 %0, [%1];" : "=r"(v) : "r"(word) : "memory");
    return v;
}
// A page is always looked after by the same lane of a warp, which so sees every phase of its barriers: the number of the
// page of this lane among those from some page on.
TW u32 tw_own(u32 first) { return (threadIdx.x - first) & 31; }
// Pages that hold nothing count as full: the lane that looks after each arrives, or all lanes do.
template <bool ALL> TW void tw_no_copies(u32 full, u32 first, u32 count) {
    if (ALL) {
        for (u32 n = 0; n < count; ++n) tw_arrive(full + 8 * (first + n), 1);
    } else if (tw_own(first) < count) {
        tw_arrive(full + 8 * (first + tw_own(first)), 1);
    }
}
// A warp copies rows, each as large as its lane says, of at most so many units of 16 bytes: the lanes take turns within rows,
// and short rows are copied side by side.
template <int ROWS, int UNITS> TW void tw_copy_rows(u32 to, const void* from, u32 size) {
    const u32 lane = threadIdx.x & 31;
    const u64 address = (u64)from;
    constexpr u32 WIDE = UNITS < 32 ? UNITS : 32;
    for (u32 n = 0; n < ROWS; n += 32 / WIDE) {
        const u32 row = n + lane / WIDE;
        const u32 bytes = __shfl_sync(0xffffffffu, size, row);
        const u32 place = __shfl_sync(0xffffffffu, to, row);
        const u32 low = __shfl_sync(0xffffffffu, (u32)address, row);
        const u32 high = __shfl_sync(0xffffffffu, (u32)(address >> 32), row);
        const u64 source = (u64)high << 32 | low;
        for (u32 k = 16 * (lane % WIDE); k < bytes; k += 16 * WIDE) tw_copy(place + k, (const void*)(source + k));
    }
}
// Waits for a phase, or until a flag is set: an arrival that says so may come before the wait, and then ends another phase.
TW bool tw_await_or(u32 bar, u32 parity, u32 flag) {
    u32 done;
    asm volatile("{ .reg .pred q; .reg .b32 f;\n"
        "$tw_again: " TW_WAIT_OR " selp.u32 %0, 1, 0, q; @q bra $tw_done;\n"
        "ld.relaxed.cta.shared.u32 f, [%3]; setp.eq.u32 q, f, 0; @q bra $tw_again;\n"
        "$tw_done: }" : "=r"(done) : "r"(bar), "r"(parity), "r"(flag) : "memory");
    return done != 0;
}
// Waits until nobody reads some pages any more; whether to go on. Copies to them are complete then, too.
TW bool tw_pages_free(u32 full, u32 empty, u32 first, u32 count, u32 lap, u32 flag) {
    const u32 mine = tw_own(first);
    if (mine < count) {
        if (tw_await_or(empty + 8 * (first + mine), lap ^ 1, flag)) tw_await(full + 8 * (first + mine), lap ^ 1);
    }
    // Each lane looked at its own page; now all may write to all of them.
    __syncwarp();
    return !__any_sync(0xffffffffu, tw_stopped(flag));
}
// Lets go of all pages, for who copies to see that it is to stop: it may wait for one of them.
template <int COUNT> TW void tw_let_go(u32 empty, u32 flag) {
    if (threadIdx.x == 0) tw_stop(flag);
    __syncwarp();
    for (u32 page = threadIdx.x & 31; page < COUNT; page += 32) tw_arrive(empty + 8 * page, 1);
}
// The one warp that copies takes the next pages in a row. Pages that are left out at the end of a lap count as full at once.
// A set bit 30 says that it was told to stop.
template <int PAGES, int COUNT, bool ALL> TW u32 tw_claim(u32 at, u32 full, u32 empty, u32 flag) {
    u32 page = at & 0xffffu;
    u32 lap = at >> 31;
    if (page + PAGES > COUNT) {
        const u32 rest = COUNT - page;
        if (rest > 0) {
            if (!tw_pages_free(full, empty, page, rest, lap, flag)) return at | 1u << 30;
            tw_no_copies<ALL>(full, page, rest);
        }
        page = 0;
        lap ^= 1;
    }
    const u32 found = page | lap << 31;
    return tw_pages_free(full, empty, page, PAGES, lap, flag) ? found : found | 1u << 30;
}
// A warp that computes goes past pages that are left out.
TW void tw_pass(u32 full, u32 empty, u32 first, u32 count, u32 lap) {
    const u32 mine = tw_own(first);
    if (mine < count) {
        tw_await(full + 8 * (first + mine), lap);
        tw_arrive(empty + 8 * (first + mine), 1);
    }
}
// A warp that computes goes on to its next pages, and waits until they are full.
template <int PAGES, int COUNT> TW u32 tw_next_pages(u32 at, u32 full, u32 empty) {
    u32 page = at & 0xffffu;
    u32 lap = at >> 31;
    if (page + PAGES > COUNT) {
        tw_pass(full, empty, page, COUNT - page, lap);
        page = 0;
        lap ^= 1;
    }
    if (tw_own(page) < PAGES) tw_await(full + 8 * (page + tw_own(page)), lap);
    __syncwarp();
    return page | lap << 31;
}
// A warp has read some pages.
template <int PAGES> TW void tw_release(u32 first) {
    __syncwarp();
    const u32 lane = threadIdx.x & 31;
    if (lane < PAGES) tw_arrive(first + 8 * lane, 1);
}
"#;

/// What rings need besides.
pub(super) const RING_PRELUDE: &str = r#"
// Copies to shared memory that run ahead. Those of a thread are waited for in groups.
TW void tw_copy(u32 to, const void* p) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(__cvta_generic_to_global(p)) : "memory");
}
TW void tw_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int MORE> TW void tw_await_groups() { asm volatile("cp.async.wait_group %0;" :: "n"(MORE) : "memory"); }
// Bytes of bulk copies are counted by a barrier, whose phase ends when everybody has arrived and all of them are there.
TW void tw_barrier_init(u32 bar, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" :: "r"(bar), "r"(arrivals) : "memory");
}
TW void tw_barrier_fence() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
TW void tw_expect(u32 bar, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" :: "r"(bar), "r"(bytes) : "memory");
#endif
}
TW void tw_copy_bulk(u32 to, const void* p, u32 bytes, u32 bar) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        :: "r"(to), "l"(__cvta_generic_to_global(p)), "r"(bytes), "r"(bar) : "memory");
#endif
}
#if __CUDA_ARCH__ >= 900
#define TW_WAIT "mbarrier.try_wait.parity.shared.b64 q, [%0], %1;"
#define TW_WAIT_OR "mbarrier.try_wait.parity.shared.b64 q, [%1], %2;"
#else
#define TW_WAIT "mbarrier.test_wait.parity.shared.b64 q, [%0], %1;"
#define TW_WAIT_OR "mbarrier.test_wait.parity.shared.b64 q, [%1], %2;"
#endif
#ifdef TW_PATIENCE
// Nobody can leave a copy of its own behind. A persistent kernel keeps how long such a wait may take, and the place where the
// host sees who waited for longer: then the kernel ends by force.
TW void tw_await(u32 bar, u32 parity) {
    extern __shared__ __align__(128) unsigned char smem[];
    asm volatile("{ .reg .pred q; .reg .b64 now, since, most; mov.u64 since, 0;\n"
        "$tw_again: " TW_WAIT " @q bra $tw_done;\n"
        "mov.u64 now, %%globaltimer; setp.eq.u64 q, since, 0; @q mov.u64 since, now;\n"
        "sub.u64 now, now, since; ld.shared.u64 most, [%2]; setp.gt.u64 q, now, most; @!q bra $tw_again;\n"
        "ld.shared.u64 now, [%2+8]; st.relaxed.sys.global.u32 [now], 3; membar.sys; trap;\n"
        "$tw_done: }" :: "r"(bar), "r"(parity), "r"((u32)__cvta_generic_to_shared(smem) + TW_PATIENCE) : "memory");
}
#else
TW void tw_await(u32 bar, u32 parity) {
    asm volatile("{ .reg .pred q;\n$tw_again: " TW_WAIT " @!q bra $tw_again; }" :: "r"(bar), "r"(parity) : "memory");
}
#endif
// What was written through the generic proxy, and waited for, may be copied in bulk.
TW void tw_proxy_fence() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
}
"#;
