// A persistent chain: each block waits for the flag of the one before it, in every round.
#include "prelude.cuh"
extern "C" __global__ void chain(const u32* in, u32* data, u32* flag, u32* out, int rounds) {
    u32 tid = threadIdx.x, b = blockIdx.x, blocks = gridDim.x;
#pragma unroll 1
    for (int r = 0; r < rounds; r++) {                      //@loop
        u32 v = in[r * 64 + tid];                           //@in
        if (b > 0) {                                        //@not_first
            if (tid == 0) while (ld_acquire(&flag[b - 1]) < (u32)r + 1) {}  //@poll
            __syncthreads();                                //@seen
            v += data[((b - 1) * rounds + r) * 64 + (tid ^ 40)] * 3;  //@get
        }
        data[(b * rounds + r) * 64 + tid] = v;              //@put
        __syncthreads();                                    //@stored
        if (tid == 0) st_release(&flag[b], r + 1);          //@signal
        if (b == blocks - 1) out[r * 64 + tid] = v;         //@out
    }
}
