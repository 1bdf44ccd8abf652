// Three stages of cp.async: each thread copies 16 bytes and reads what others copied.
#include "prelude.cuh"
constexpr int STAGES = 3, TILE = 256;
extern "C" __global__ void cp_pipe(const u32* in, u32* out, int tiles) {
    __shared__ __align__(16) u32 buf[STAGES][TILE];
    u32 tid = threadIdx.x;
    const u32* src = in + blockIdx.x * tiles * TILE + 4 * tid;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < tiles) cp16(smem(&buf[s][4 * tid]), src + s * TILE);  //@pre_copy
        cp_commit();                                                  //@pre_commit
    }
    u32 acc = 0, stage = 0, fill = STAGES - 1;
#pragma unroll 1
    for (int t = 0; t < tiles; t++) {                                 //@loop
        cp_wait<STAGES - 2>();                                        //@wait
        __syncthreads();                                              //@bar
        int next = t + STAGES - 1;
        if (next < tiles) cp16(smem(&buf[fill][4 * tid]), src + next * TILE);  //@copy
        cp_commit();                                                  //@commit
        fill = stage;
#ifdef REUSED_EARLY
        // The stage that is read below is filled again before it is read.
        if (next + 1 < tiles) cp16(smem(&buf[fill][4 * tid]), src + (next + 1) * TILE);
#endif
        for (int i = 0; i < 4; i++) acc = acc * 3 + buf[stage][(tid * 5 + 64 * i + 37) & (TILE - 1)];  //@use
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
    out[blockIdx.x * blockDim.x + tid] = acc;                         //@out
}
