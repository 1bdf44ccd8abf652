// The chain with fences around volatile flags.
#include "prelude.cuh"
extern "C" __global__ void chain_fence(const u32* in, u32* data, volatile u32* flag, u32* out, int rounds) {
    u32 tid = threadIdx.x, b = blockIdx.x, blocks = gridDim.x;
#pragma unroll 1
    for (int r = 0; r < rounds; r++) {                      //@loop
        u32 v = in[r * 64 + tid];                           //@in
        if (b > 0) {                                        //@not_first
            if (tid == 0) {                                 //@one_poll
                while (flag[b - 1] < (u32)r + 1) {}         //@poll
                __threadfence();                            //@acquire
            }
            __syncthreads();                                //@seen
            v += data[((b - 1) * rounds + r) * 64 + (tid ^ 40)] * 3;  //@get
        }
        data[(b * rounds + r) * 64 + tid] = v;              //@put
        __syncthreads();                                    //@stored
        if (tid == 0) {                                     //@one_signal
#ifdef FENCE_AFTER_FLAG
            flag[b] = r + 1;
            __threadfence();
#elif defined(FENCE_OF_OTHER_THREADS)
            flag[b] = r + 1;
        } else {
            __threadfence();
#else
            __threadfence();                                //@release
            flag[b] = r + 1;                                //@signal
#endif
        }
        if (b == blocks - 1) out[r * 64 + tid] = v;         //@out
    }
}
