// Two blocks each raise a flag and then look at the other one's: with fences of sequential consistency at least one of
// them sees the other.
#include "prelude.cuh"
extern "C" __global__ void look(u32* x, u32* y, u32* saw) {
    u32 i = threadIdx.x * 32;
    u32 *own = blockIdx.x ? y : x, *other = blockIdx.x ? x : y;
    st_relaxed(&own[i], 1);                                             //@raise
    fence_sc();                                                         //@fence
    saw[blockIdx.x * 32 + threadIdx.x] = ld_relaxed(&other[i]);         //@look
}
extern "C" __global__ void judge(const u32* saw, u32* out) {
    out[threadIdx.x] = saw[threadIdx.x] | saw[32 + threadIdx.x];        //@judge
}
