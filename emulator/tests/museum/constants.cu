// A table that no one writes goes through the non-coherent path; what a neighbour block has just written does not.
#include "prelude.cuh"
extern "C" __global__ void constants(const u32* __restrict__ table, const u32* in, u32* x, u32* flag, u32* out) {
    u32 tid = threadIdx.x, b = blockIdx.x;
    if (b == 0) {                                           //@role
        x[tid] = in[tid] * __ldg(&table[tid % 7]);          //@first
        __syncthreads();                                    //@stored
        if (tid == 0) st_release(flag, 1);                  //@signal
    } else {
        if (tid == 0) while (ld_acquire(flag) == 0) {}      //@poll
        __syncthreads();                                    //@seen
#ifdef LDG_AFTER_FLAG
        u32 v = __ldg(&x[tid ^ 5]);
#else
        u32 v = x[tid ^ 5];                                 //@second
#endif
        out[(b - 1) * 64 + tid] = v + __ldg(&table[b]);     //@out
    }
}
