// Blocks sum parts of a column; the last one to finish, known by its ticket, adds the parts.
#include "prelude.cuh"
extern "C" __global__ void split_k(const u32* in, u32* part, u32* ticket, u32* out, int rows) {
    __shared__ u32 last;
    u32 tid = threadIdx.x, split = blockIdx.x, splits = gridDim.x, tile = blockIdx.y;
    u32 v = 0;
#pragma unroll 1
    for (int r = split; r < rows; r += splits) v += in[(tile * rows + r) * 64 + tid] * (r + 1);  //@sum
    part[(tile * splits + split) * 64 + tid] = v;           //@part
    __syncthreads();                                        //@stored
    if (tid == 0) {                                         //@one
#ifndef FORGOTTEN_RELEASE
        __threadfence();                                    //@release
#endif
        u32 t = atomicAdd(&ticket[tile], 1u);               //@ticket
#ifndef FORGOTTEN_ACQUIRE
        __threadfence();                                    //@acquire
#endif
        last = t == splits - 1;                             //@set_last
    }
    __syncthreads();                                        //@told
    if (last) {                                             //@get_last
        u32 s = 0;
#pragma unroll 1
        for (u32 i = 0; i < splits; i++) s = s * 5 + part[(tile * splits + i) * 64 + (tid ^ 33)];  //@add
        out[tile * 64 + tid] = s;                           //@out
    }
}
