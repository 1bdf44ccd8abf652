// Blocks add to a tile one after the other; all threads of a block leave the wait together, by a voting barrier.
#include "prelude.cuh"
extern "C" __global__ void semaphore(const u32* in, u32* tile, u32* state) {
    u32 tid = threadIdx.x, b = blockIdx.x, seen = ~0u;
    while (__syncthreads_and(seen != b)) {                              //@wait
        if (tid == 0) seen = ld_acquire(state);                         //@fetch
    }
    tile[tid] = tile[tid] * 3 + in[b * 64 + tid];                       //@add
    __syncthreads();                                                    //@added
    if (tid == 0) st_release(state, b + 1);                             //@pass
}
