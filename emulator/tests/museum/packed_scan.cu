// Prefix sums in one pass with status and value in one word: relaxed accesses suffice, since nothing else is handed on.
// A whole warp looks back, 32 blocks at a time.
#include "prelude.cuh"
extern "C" __global__ void packed_scan(const u32* in, u32* out, u64* state, u32* ticket, int n) {
    __shared__ u32 mine;
    u32 lane = threadIdx.x;
    if (lane == 0) mine = atomicAdd(ticket, 1u);                        //@ticket
    __syncwarp();                                                       //@told
    int b = mine, i = b * 32 + lane;                                    //@mine
    u32 v = i < n ? in[i] : 0;                                          //@in
#pragma unroll 1
    for (int d = 1; d < 32; d <<= 1) {                                  //@scan
        u32 w = __shfl_up_sync(~0u, v, d);
        if (lane >= d) v += w;                                          //@lane
    }
    u32 total = __shfl_sync(~0u, v, 31), before = 0;
    if (lane == 0) st_relaxed64(&state[b], (u64)(b ? 1 : 2) << 32 | total);  //@has_sum
#pragma unroll 1
    for (int k = b - 1 - (int)lane; b > 0;) {                           //@look
        u64 s = 2ull << 32;
        if (k >= 0) while ((s = ld_relaxed64(&state[k])) >> 32 == 0) {}  //@poll
        u32 full = __ballot_sync(~0u, s >> 32 == 2);
        int stop = full ? __ffs(full) - 1 : 31;
        u32 part = lane <= stop ? (u32)s : 0;                           //@part
        before += __reduce_add_sync(~0u, part);
        if (full) break;                                                //@found
        k -= 32;
    }
    if (lane == 0 && b > 0) st_relaxed64(&state[b], 2ull << 32 | (before + total));  //@has_prefix
    if (i < n) out[i] = v + before;                                     //@out
}
