// Steps over a ring of values until no thread sees a change: the barrier itself carries the vote.
#include "prelude.cuh"
extern "C" __global__ void settle(const u32* in, u32* out, u32* steps) {
    __shared__ u32 v[2][64];
    u32 tid = threadIdx.x, n = 0, mine = in[blockIdx.x * 64 + tid];          //@in
    v[0][tid] = mine;                                                       //@put
    __syncthreads();                                                        //@first
    while (true) {
        u32 left = v[n & 1][(tid + 63) & 63], best = left > mine ? left : mine;  //@look
        v[n & 1 ^ 1][tid] = best;                                           //@step
        bool changed = best != mine;
        mine = best;
        n++;
        if (!__syncthreads_or(changed)) break;                              //@vote
    }
    out[blockIdx.x * 64 + tid] = mine;                                      //@out
    if (tid == 0) steps[blockIdx.x] = n;                                    //@steps
}
