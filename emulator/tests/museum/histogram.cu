// Counts per block in shared memory, then merged.
#include "prelude.cuh"
constexpr int BINS = 16;
extern "C" __global__ void histogram(const u32* in, u32* out, int n) {
    __shared__ u32 bins[BINS];
    u32 tid = threadIdx.x;
    if (tid < BINS) bins[tid] = 0;                          //@zero
    __syncthreads();                                        //@zeroed
#ifdef UNSIGNED_COUNTDOWN
    // An index without a sign is never below zero.
    for (u32 i = n - 1 - tid; i >= 0; i -= 64) atomicAdd(&bins[in[i] % BINS], 1u);
#else
#pragma unroll 1
    for (int i = blockIdx.x * 64 + tid; i < n; i += gridDim.x * 64)  //@loop
#ifdef PLAIN_INCREMENT
        bins[in[i] % BINS]++;
#else
        atomicAdd(&bins[in[i] % BINS], 1u);                 //@add
#endif
#endif
    __syncthreads();                                        //@added
    if (tid < BINS) atomicAdd(&out[tid], bins[tid]);        //@merge
}
