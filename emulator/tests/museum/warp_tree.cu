// A sum over each warp by a tree in shared memory; only warp barriers order the lanes.
#include "prelude.cuh"
extern "C" __global__ void warp_tree(const u32* in, u32* out) {
    __shared__ u32 s[64];
    u32 tid = threadIdx.x, lane = tid % 32;
    s[tid] = in[blockIdx.x * 64 + tid];       //@put
    __syncwarp();                             //@first
#pragma unroll 1
    for (u32 d = 16; d > 0; d >>= 1) {        //@loop
        if (lane < d) s[tid] += s[tid + d];   //@add
        __syncwarp();                         //@step
    }
    out[blockIdx.x * 64 + tid] = s[tid - lane] + lane;  //@out
}
