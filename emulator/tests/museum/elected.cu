// One elected lane writes for its warp; the others read after a warp barrier.
#include "prelude.cuh"
extern "C" __global__ void elected(const u32* in, u32* out, int rounds) {
    __shared__ u32 box[2];
    u32 tid = threadIdx.x, warp = tid / 32, acc = 0;
#pragma unroll 1
    for (int t = 0; t < rounds; t++) {                               //@loop
        if (elect()) box[warp] = in[(blockIdx.x * 2 + warp) * rounds + t];  //@put
        __syncwarp();                                                //@after_put
        acc = acc * 3 + box[warp];                                   //@use
        __syncwarp();                                                //@after_use
    }
    out[blockIdx.x * 64 + tid] = acc + tid;                          //@out
}
