// cp.async of fewer bytes than its width fills up with zeros: the tail of a row needs no branch.
#include "prelude.cuh"
extern "C" __global__ void zero_fill(const u32* in, u32* out, int n) {
    __shared__ __align__(16) u32 s[128];
    int tid = threadIdx.x, i = blockIdx.x * 128 + 4 * tid, left = n - i;
    u32 bytes = left <= 0 ? 0 : left >= 4 ? 16 : 4 * left;              //@bytes
    cp16_part(smem(&s[4 * tid]), bytes ? in + i : in, bytes);           //@copy
    cp_wait_all();                                                      //@wait
    __syncthreads();                                                    //@bar
    u32 v = 0;
#pragma unroll 1
    for (int k = tid; k < 128; k += 32) v = v * 3 + s[127 - k];         //@sum
    out[blockIdx.x * 32 + tid] = v;                                     //@out
}
