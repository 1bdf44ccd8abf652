// A ring of bulk copies: one thread of warp 0 fills, the other warps use and give back.
#include "prelude.cuh"
constexpr int STAGES = 3, TILE = 64;
extern "C" __global__ void bulk_ring(const u32* in, u32* out, int tiles) {
    __shared__ __align__(128) u32 buf[STAGES][TILE];
    __shared__ __align__(8) u64 full[STAGES], empty[STAGES];
    u32 tid = threadIdx.x, warp = tid / 32, lane = tid % 32, users = blockDim.x / 32 - 1;
    const u32* src = in + blockIdx.x * tiles * TILE;
    if (tid == 0) {                                         //@init
#pragma unroll 1
        for (int s = 0; s < STAGES; s++) {
            mbar_init(smem(&full[s]), 1);        //@init_full
            mbar_init(smem(&empty[s]), users);   //@init_empty
        }
        fence_init();                            //@fence_init
    }
    __syncthreads();                             //@ready
    u32 stage = 0, phase = 0, acc = 0;
    if (warp == 0) {                                        //@role
        if (lane == 0) {                                    //@producer
#pragma unroll 1
            for (int t = 0; t < tiles; t++) {    //@fill_loop
#ifdef WRONG_PARITY
                while (!mbar_try(smem(&empty[stage]), phase)) {}
#elif defined(NO_EMPTY_WAIT)
#else
                while (!mbar_try(smem(&empty[stage]), phase ^ 1)) {}  //@wait_empty
#endif
#ifdef EXPECT_LATE
                bulk_load(smem(buf[stage]), src + t * TILE, TILE * 4, smem(&full[stage]));
                mbar_expect(smem(&full[stage]), TILE * 4);
#else
                mbar_expect(smem(&full[stage]), TILE * 4);            //@expect
                bulk_load(smem(buf[stage]), src + t * TILE, TILE * 4, smem(&full[stage]));  //@load
#endif
                if (++stage == STAGES) stage = 0, phase ^= 1;         //@fill_turn
            }
        }
    } else {
#pragma unroll 1
        for (int t = 0; t < tiles; t++) {        //@use_loop
            while (!mbar_try(smem(&full[stage]), phase)) {}           //@wait_full
#ifdef GIVEN_BACK_EARLY
            __syncwarp();
            if (lane == 0) mbar_arrive(smem(&empty[stage]));
            acc = acc * 3 + buf[stage][lane] + buf[stage][TILE - 1 - lane];
#elif defined(EVERY_LANE_ARRIVES)
            acc = acc * 3 + buf[stage][lane] + buf[stage][TILE - 1 - lane];
            mbar_arrive(smem(&empty[stage]));
#else
            acc = acc * 3 + buf[stage][lane] + buf[stage][TILE - 1 - lane];  //@use
            __syncwarp();                        //@warp
            if (lane == 0) mbar_arrive(smem(&empty[stage]));          //@free
#endif
#ifdef PHASE_BY_ITERATION
            if (++stage == STAGES) stage = 0;
            phase ^= 1;
#else
            if (++stage == STAGES) stage = 0, phase ^= 1;             //@use_turn
#endif
        }
        out[blockIdx.x * (blockDim.x - 32) + tid - 32] = acc;         //@out
    }
}
