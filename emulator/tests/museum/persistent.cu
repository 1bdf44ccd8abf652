// Persistent blocks: a ring of bulk loads that goes on from tile to tile, and results that leave by bulk stores from
// two buffers, with a named barrier for the warps that compute.
#include "prelude.cuh"
constexpr int STAGES = 2, TILE = 64, STEPS = 3;
extern "C" __global__ void persistent(const u32* in, u32* out, int tiles) {
    __shared__ __align__(128) u32 buf[STAGES][TILE], res[2][TILE];
    __shared__ __align__(8) u64 full[STAGES], empty[STAGES];
    u32 tid = threadIdx.x, warp = tid / 32, lane = tid % 32, stage = 0, phase = 0;
    if (tid == 0) {                                                     //@init
#pragma unroll 1
        for (int s = 0; s < STAGES; s++) {                              //@init_loop
            mbar_init(smem(&full[s]), 1);                               //@init_full
            mbar_init(smem(&empty[s]), 2);                              //@init_empty
        }
        fence_init();                                                   //@fence_init
    }
    __syncthreads();                                                    //@ready
    if (warp == 2) {                                                    //@role
        if (elect()) {                                                  //@producer
#pragma unroll 1
            for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {  //@fill_tiles
#pragma unroll 1
                for (int k = 0; k < STEPS; k++) {                       //@fill_steps
                    while (!mbar_try(smem(&empty[stage]), phase ^ 1)) {}  //@wait_empty
                    mbar_expect(smem(&full[stage]), TILE * 4);          //@expect
                    bulk_load(smem(buf[stage]), in + (tile * STEPS + k) * TILE, TILE * 4, smem(&full[stage]));  //@load
                    if (++stage == STAGES) stage = 0, phase ^= 1;       //@fill_turn
                }
            }
        }
    } else {
        u32 round = 0;
#pragma unroll 1
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x, round ^= 1) {  //@use_tiles
            u32 acc = 0;
#pragma unroll 1
            for (int k = 0; k < STEPS; k++) {                           //@use_steps
                while (!mbar_try(smem(&full[stage]), phase)) {}         //@wait_full
                acc = acc * 3 + buf[stage][tid ^ 41];                   //@use
                __syncwarp();                                           //@used
                if (lane == 0) mbar_arrive(smem(&empty[stage]));        //@free
                if (++stage == STAGES) stage = 0, phase ^= 1;           //@use_turn
            }
            if (tid == 0) bulk_wait_read<1>();                          //@wait_read
            bar_sync(1, 64);                                            //@may_write
            res[round][tid] = acc;                                      //@result
            fence_proxy();                                              //@proxy
            bar_sync(1, 64);                                            //@written
            if (tid == 0) {                                             //@issue
                bulk_store(out + tile * TILE, smem(res[round]), TILE * 4);  //@store
                bulk_commit();                                          //@commit
            }
        }
        if (tid == 0) bulk_wait<0>();                                   //@wait_all
    }
}
