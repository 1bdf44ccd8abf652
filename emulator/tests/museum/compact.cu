// Compaction: in a branch that only some lanes take, one of them reserves places for all, and every lane fills its own.
#include "prelude.cuh"
extern "C" __global__ void compact(const u32* in, u32* out, u32* count, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    u32 lane = threadIdx.x % 32;
    if (i < n && in[i] % 3 == 0) {                                      //@branch
        u32 mask = __activemask(), leader = __ffs(mask) - 1, at = 0;
        if (lane == leader) at = atomicAdd(count, __popc(mask));        //@reserve
        at = __shfl_sync(mask, at, leader) + __popc(mask & ((1u << lane) - 1));
        out[at] = in[i];                                                //@out
    }
}
