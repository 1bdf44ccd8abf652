// Two warps take turns at a shared tile: each waits for its own barrier and arrives at the other one's.
#include "prelude.cuh"
extern "C" __global__ void pingpong(const u32* in, u32* out, int rounds) {
    __shared__ u32 tile[32];
    u32 lane = threadIdx.x % 32, me = threadIdx.x / 32, v = in[blockIdx.x * 64 + threadIdx.x];  //@in
    if (me == 0) tile[lane] = v;                                        //@start
    if (me == 1) bar_arrive(1, 64);                                     //@first_turn
#pragma unroll 1
    for (int t = 0; t < rounds; t++) {                                  //@loop
        bar_sync(1 + me, 64);                                           //@wait
        v = v * 3 + tile[31 - lane];                                    //@get
        __syncwarp();                                                   //@got
        tile[lane] = v;                                                 //@put
        if (t + 1 < rounds || me == 0) bar_arrive(2 - me, 64);          //@turn
    }
    out[blockIdx.x * 64 + threadIdx.x] = v;                             //@out
}
