// Each block sums its rows into a tile in shared memory, which a bulk reduction adds to the output.
#include "prelude.cuh"
DEV void bulk_add(void* dst, u32 src, u32 bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%0], [%1], %2;" ::"l"(dst), "r"(src), "r"(bytes) : "memory");
}
extern "C" __global__ void bulk_reduce(const u32* in, u32* out, int rows) {
    __shared__ __align__(16) u32 tile[64];
    u32 tid = threadIdx.x, v = 0;
#pragma unroll 1
    for (int r = blockIdx.x; r < rows; r += gridDim.x) v += in[r * 64 + tid];  //@sum
    tile[tid ^ 33] = v;                                                        //@put
    fence_proxy();                                                             //@proxy
    __syncthreads();                                                           //@ready
    if (tid == 0) {                                                            //@one
        bulk_add(out, smem(tile), 256);                                        //@add
        bulk_commit();                                                         //@commit
        bulk_wait<0>();                                                        //@wait
    }
}
