// Integer and bit operations, one result row per operation.
typedef long long ll; typedef unsigned long long ull; typedef unsigned u32;
#define R(e) o[(k++) * n + i] = (ull)(e);
#define ASM3(op, c, T, a, b, d) ({ T r_; asm(op " %0, %1, %2, %3;" : "=" c(r_) : c(a), c(b), c(d)); r_; })
extern "C" __global__ void ints32(const int* x, const int* y, ull* o, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return; int k = 0; int a = x[i], b = y[i]; u32 ua = a, ub = b;
    R(ua + ub) R(ua - ub) R(ua * ub) R((u32)__mulhi(a, b)) R(__umulhi(ua, ub)) R((ll)a * b) R((ull)ua * ub) R(b ? (a == (int)0x80000000 && b == -1 ? 0u : (u32)(a / b)) : 7u) R(b ? (a == (int)0x80000000 && b == -1 ? 0u : (u32)(a % b)) : 7u) R(ub ? ua / ub : 7u) R(ub ? ua % ub : 7u)
    R(ua & ub) R(ua | ub) R(ua ^ ub) R(~ua) R(ua << (ub & 31)) R(ua >> (ub & 31)) R((u32)(a >> (b & 31))) R((u32)min(a, b)) R((u32)max(a, b)) R(min(ua, ub)) R(max(ua, ub)) R((u32)abs(a)) R((u32)-a)
    R(__popc(ua)) R(__clz(a)) R(__brev(ua)) R((u32)__ffs(a)) R(__byte_perm(ua, ub, ub)) R(__funnelshift_l(ua, ub, ub)) R(__funnelshift_r(ua, ub, ub)) R(__funnelshift_lc(ua, ub, ub)) R((ll)a * b + (ll)b) R(a < b) R(ua < ub) R(a == b) R((u32)(short)a) R((unsigned char)a) R((u32)(signed char)a) R((ull)(ll)a)
    R((u32)__hadd(a, b)) R((u32)__sad(a, b, ub)) { u32 r; asm("bfe.u32 %0, %1, %2, %3;" : "=r"(r) : "r"(ua), "r"(ub & 63), "r"((ub >> 8) & 63)); R(r) asm("bfe.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(ua), "r"(ub & 63), "r"((ub >> 8) & 63)); R(r) asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(ua), "r"(ub), "r"(ub & 63), "r"((ub >> 8) & 63)); R(r)
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(r) : "r"(ua), "r"(ub), "r"(ua * 3)); R(r) asm("bfind.u32 %0, %1;" : "=r"(r) : "r"(ua)); R(r) asm("mad.hi.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(ua), "r"(ub), "r"(ua)); R(r) asm("shl.b32 %0, %1, %2;" : "=r"(r) : "r"(ua), "r"(ub & 127)); R(r) asm("shr.s32 %0, %1, %2;" : "=r"(r) : "r"(ua), "r"(ub & 127)); R(r)
    asm("add.cc.u32 %0, %1, %2;\n\taddc.u32 %0, %1, %0;" : "=&r"(r) : "r"(ua), "r"(ub)); R(r) asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(ua), "r"(ub), "r"(ua)); R(r) asm("add.sat.s32 %0, %1, %2;" : "=r"(r) : "r"(ua), "r"(ub)); R(r) }
}
extern "C" __global__ void ints64(const ll* x, const ll* y, ull* o, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return; int k = 0; ll a = x[i], b = y[i]; ull ua = a, ub = b; bool bad = b == 0 || b == -1;
    R(ua + ub) R(ua - ub) R(ua * ub) R(__mul64hi(a, b)) R(__umul64hi(ua, ub)) R(bad ? 7 : a / b) R(bad ? 7 : a % b) R(bad ? 7 : ua / ub) R(bad ? 7 : ua % ub) R(ua & ub) R(ua | ub) R(ua ^ ub) R(ua << (ub & 63)) R(ua >> (ub & 63)) R(a >> (b & 63)) R(min(a, b)) R(max(ua, ub)) R(llabs(a)) R(__popcll(ua)) R(__clzll(a)) R(__brevll(ua)) R((ull)__ffsll(a)) R(a < b) R(ua <= ub)
}
