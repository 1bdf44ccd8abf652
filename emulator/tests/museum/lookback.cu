// Prefix sums in one pass: a block adds the sums of those before it, as far as they are known.
#include "prelude.cuh"
extern "C" __global__ void lookback(const u32* in, u32* out, u32* state, u32* sum, u32* prefix, u32* ticket, int n) {
    __shared__ u32 warp_sum[2], base, mine;
    u32 tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    if (tid == 0) mine = atomicAdd(ticket, 1u);             //@ticket
    __syncthreads();                                        //@told
    u32 b = mine;                                           //@mine
    int i = b * 64 + tid;
    u32 v = i < n ? in[i] : 0;                              //@in
#pragma unroll 1
    for (int d = 1; d < 32; d <<= 1) {                      //@scan
        u32 w = __shfl_up_sync(~0u, v, d);
        if (lane >= d) v += w;                              //@lane
    }
    if (lane == 31) warp_sum[warp] = v;                     //@put_sum
    __syncthreads();                                        //@sums
    if (tid == 0) {                                         //@one
        u32 total = warp_sum[0] + warp_sum[1], before = 0;  //@total
        if (b > 0) {                                        //@not_first
            sum[b] = total;                                 //@sum
            st_release(&state[b], 1);                       //@has_sum
            int k = b - 1;
            while (true) {
                u32 s = ld_acquire(&state[k]);              //@poll
                if (s == 0) continue;
                if (s == 2) { before += prefix[k]; break; }  //@get_prefix
                before += sum[k];                           //@get_sum
                k--;
            }
        }
        prefix[b] = before + total;                         //@prefix
        st_release(&state[b], 2);                           //@has_prefix
        base = before;                                      //@put_base
    }
    __syncthreads();                                        //@based
    v += base + (warp ? warp_sum[0] : 0);                   //@base
    if (i < n) out[i] = v;                                  //@out
}
