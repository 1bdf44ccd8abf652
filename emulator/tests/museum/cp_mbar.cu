// cp.async that arrives at an mbarrier; a second mbarrier per stage says that all have read.
#include "prelude.cuh"
constexpr int STAGES = 2, TILE = 256;
extern "C" __global__ void cp_mbar(const u32* in, u32* out, int tiles) {
    __shared__ __align__(16) u32 buf[STAGES][TILE];
    __shared__ __align__(8) u64 full[STAGES], empty[STAGES];
    u32 tid = threadIdx.x, n = blockDim.x;
    const u32* src = in + blockIdx.x * tiles * TILE + 4 * tid;
    if (tid == 0) {                                         //@init
        for (int s = 0; s < STAGES; s++) {
            mbar_init(smem(&full[s]), n);     //@init_full
            mbar_init(smem(&empty[s]), n);    //@init_empty
        }
    }
    __syncthreads();                          //@ready
#pragma unroll
    for (int s = 0; s < STAGES; s++) {
        cp16(smem(&buf[s][4 * tid]), src + s * TILE);  //@pre_copy
        cp_arrive(smem(&full[s]));                     //@pre_arrive
    }
    u32 acc = 0, stage = 0, phase = 0;
#pragma unroll 1
    for (int t = 0; t < tiles; t++) {         //@loop
        while (!mbar_test(smem(&full[stage]), phase)) {}  //@wait_full
        for (int i = 0; i < 4; i++) acc = acc * 3 + buf[stage][(tid * 5 + 64 * i + 37) & (TILE - 1)];  //@use
        mbar_arrive(smem(&empty[stage]));     //@free
        if (t + STAGES < tiles) {             //@more
            while (!mbar_test(smem(&empty[stage]), phase)) {}  //@wait_empty
            cp16(smem(&buf[stage][4 * tid]), src + (t + STAGES) * TILE);  //@copy
            cp_arrive(smem(&full[stage]));    //@arrive
        }
        if (++stage == STAGES) stage = 0, phase ^= 1;  //@turn
    }
    out[blockIdx.x * n + tid] = acc;          //@out
}
