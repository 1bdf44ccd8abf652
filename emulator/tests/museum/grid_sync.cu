// A barrier of the whole grid by a counter; each step reads what neighbours wrote in the one before.
#include "prelude.cuh"
DEV void grid_sync(u32* count, u32 blocks) {
    __syncthreads();                                        //@in
    if (threadIdx.x == 0) {
#ifndef NO_FENCE
        __threadfence();                                    //@release
#endif
        u32 old = atomicAdd(count, 1u);                     //@arrive
#ifdef TARGET_TOO_LOW
        u32 target = old / blocks * blocks + blocks - 1;
#else
        u32 target = old / blocks * blocks + blocks;
#endif
        while (ld_acquire(count) < target) {}               //@poll
    }
    __syncthreads();                                        //@out
}
extern "C" __global__ void steps(u32* x, u32* y, u32* count, int n, int steps) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;          //@index
#pragma unroll 1
    for (int s = 0; s < steps; s++) {                       //@loop
        if (i < n)                                              //@range
            y[i] = x[i] * 3 + x[i + 1 < n ? i + 1 : 0];  //@step
        grid_sync(count, gridDim.x);                        //@sync
        u32* t = x;
        x = y;
        y = t;
    }
}
