// Results leave by bulk stores from two buffers in shared memory.
#include "prelude.cuh"
constexpr int TILE = 64;
extern "C" __global__ void bulk_store(const u32* in, u32* out, int tiles) {
    __shared__ __align__(128) u32 buf[2][TILE];
    u32 tid = threadIdx.x;
    u32 v = in[blockIdx.x * TILE + tid];             //@in
#pragma unroll 1
    for (int t = 0; t < tiles; t++) {                //@loop
#ifdef WAIT_BY_OTHER_THREAD
        if (tid == 32) bulk_wait_read<1>();
#else
        if (tid == 0) bulk_wait_read<1>();           //@wait_read
#endif
        __syncthreads();                             //@free
        v = v * 5 + t;
        buf[t & 1][tid ^ 1] = v;                     //@put
#ifdef FENCE_AFTER_BARRIER
        __syncthreads();
        if (tid == 32) fence_proxy();
#else
        fence_proxy();                               //@proxy
        __syncthreads();                             //@ready
#endif
        if (tid == 0) {                                     //@issue
            bulk_store(out + (blockIdx.x * tiles + t) * TILE, smem(buf[t & 1]), TILE * 4);  //@store
            bulk_commit();                           //@commit
        }
    }
    if (tid == 0) bulk_wait<0>();                    //@wait_all
}
