// Two launches, one after the other: the second may read through the non-coherent path what the first one wrote, and
// the counter that tells the last block wraps back to zero for the next launch.
#include "prelude.cuh"
extern "C" __global__ void sum_parts(const u32* in, u32* part, u32* count, u32* total) {
    __shared__ u32 s[64];
    __shared__ bool last;
    u32 tid = threadIdx.x, b = blockIdx.x;
    s[tid] = in[b * 64 + tid];                                          //@put
    __syncthreads();                                                    //@bar
#pragma unroll 1
    for (u32 d = 32; d; d >>= 1) {                                      //@tree
        if (tid < d) s[tid] += s[tid + d];                              //@add
        __syncthreads();                                                //@step
    }
    if (tid == 0) {                                                     //@one
        part[b] = s[0];                                                 //@part
        __threadfence();                                                //@release
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;        //@ticket
        __threadfence();                                                //@acquire
        if (last) {                                                     //@last
            u32 t = 0;
            for (u32 k = 0; k < gridDim.x; k++) t = t * 3 + part[k];    //@sum
            *total = t;                                                 //@total
        }
    }
}
extern "C" __global__ void scale(const u32* __restrict__ part, const u32* __restrict__ total, u32* out) {
    u32 i = blockIdx.x * 32 + threadIdx.x;
    out[i] = i * *total + part[i % 3];                                  //@out
}
