// Two buffers between a warp that writes and a warp that reads; four named barriers.
#include "prelude.cuh"
extern "C" __global__ void named_bars(const u32* in, u32* out, int rounds) {
    __shared__ u32 buf[2][32];
    u32 lane = threadIdx.x % 32, acc = 0;
    if (threadIdx.x < 32) {                          //@role
#pragma unroll 1
        for (int t = 0; t < rounds; t++) {           //@write_loop
#ifdef WRONG_BUFFER
            if (t >= 2) bar_sync(3 + (t & 1 ^ 1), 64);
#else
            if (t >= 2) bar_sync(3 + (t & 1), 64);   //@wait_free
#endif
            buf[t & 1][lane] = in[(blockIdx.x * rounds + t) * 32 + lane] * 7;  //@put
#ifdef ARRIVE_EARLY
            bar_arrive(1 + (t & 1), 64);
            buf[t & 1][lane] += 1;
#else
            bar_arrive(1 + (t & 1), 64);             //@full
#endif
        }
    } else {
#pragma unroll 1
        for (int t = 0; t < rounds; t++) {           //@read_loop
            bar_sync(1 + (t & 1), 64);               //@wait_full
            acc = acc * 3 + buf[t & 1][31 - lane];   //@use
            if (t + 2 < rounds) bar_arrive(3 + (t & 1), 64);  //@free
        }
        out[blockIdx.x * 32 + lane] = acc;           //@out
    }
}
