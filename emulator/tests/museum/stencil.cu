// out[i] = in[i-1] + 2 in[i] + 4 in[i+1] with zeros beyond the ends; a tile and its two neighbours in shared memory.
#include "prelude.cuh"
constexpr int T = 64;
extern "C" __global__ void stencil(const u32* in, u32* out, int n) {
    __shared__ u32 s[T + 2];
    int tid = threadIdx.x, base = blockIdx.x * T, i = base + tid;
    s[tid + 1] = i < n ? in[i] : 0;                         //@mid
#ifdef UNSIGNED_UNDERFLOW
    if (tid == 0) s[0] = in[(u32)base - 1u < (u32)n + 1u ? base - 1 : (u32)base - 1u];
#else
    if (tid == 0) s[0] = base > 0 ? in[base - 1] : 0;       //@left
#endif
#ifndef NO_RIGHT
    if (tid == T - 1) s[T + 1] = base + T < n ? in[base + T] : 0;  //@right
#endif
    __syncthreads();                                        //@bar
    if (i < n) out[i] = s[tid] + 2 * s[tid + 1] + 4 * s[tid + 2];  //@out
}
