// Groups of 8 lanes reduce by themselves, some in one branch and some in another; masks name who meets.
#include "prelude.cuh"
extern "C" __global__ void groups(const u32* in, u32* out) {
    __shared__ u32 s[64];
    u32 tid = threadIdx.x, lane = tid % 32, group = lane / 8, k = tid % 8, mask = 255u << 8 * group;
    s[tid] = in[blockIdx.x * 64 + tid];                                 //@put
    if (group & 1) {                                                    //@odd
        __syncwarp(mask);                                               //@odd_put
        u32 v = s[tid ^ 7];                                             //@odd_get
        __syncwarp(mask);                                               //@odd_got
        s[tid] = v * 5;                                                 //@odd_back
        __syncwarp(mask);                                               //@odd_done
    } else {
        for (u32 d = 4; d; d >>= 1) {
            __syncwarp(mask);                                           //@even_step
            if (k < d) s[tid] += s[tid + d];                            //@even_add
        }
        __syncwarp(mask);                                               //@even_done
    }
    out[blockIdx.x * 64 + tid] = s[tid - k];                            //@out
}
