// Sums of rows: shuffles within warps, shared memory between them; the partial sums' place is used again.
#include "prelude.cuh"
extern "C" __global__ void block_reduce(const u32* in, u32* out, int rows, int n) {
    __shared__ u32 part[4];
    u32 tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
#pragma unroll 1
    for (int r = 0; r < rows; r++) {                                //@rows
        u32 v = 0;
#pragma unroll 1
        for (int i = tid; i < n; i += blockDim.x) v += in[r * n + i];  //@cols
        for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
        if (lane == 0) part[warp] = v;                              //@put
        __syncthreads();                                            //@put_done
        if (tid == 0) out[r] = part[0] + part[1] + part[2] + part[3];  //@sum
#ifndef ONE_BARRIER
        __syncthreads();                                            //@sum_done
#endif
    }
}
