// A warp group that writes and gives registers up, and one that reads and takes them; mbarriers in between.
#include "prelude.cuh"
constexpr int STAGES = 2, G = 128;
extern "C" __global__ void __launch_bounds__(256, 1) roles(const u32* in, u32* out, int tiles) {
    __shared__ u32 buf[STAGES][G];
    __shared__ __align__(8) u64 full[STAGES], empty[STAGES];
    u32 tid = threadIdx.x % G, stage = 0, phase = 0;
    if (threadIdx.x == 0) {                                 //@init
#pragma unroll 1
        for (int s = 0; s < STAGES; s++) {                            //@init_loop
            mbar_init(smem(&full[s]), G);                             //@init_full
            mbar_init(smem(&empty[s]), G);                            //@init_empty
        }
    }
    __syncthreads();                                                  //@ready
    if (threadIdx.x < G) {                                            //@role
        regs_dec<40>();                                               //@dec
#pragma unroll 1
        for (int t = 0; t < tiles; t++) {                             //@write_loop
            u32 v = in[(blockIdx.x * tiles + t) * G + tid] * 3;       //@in
            while (!mbar_try(smem(&empty[stage]), phase ^ 1)) {}      //@wait_empty
#ifdef ARRIVES_BEFORE_WRITE
            mbar_arrive(smem(&full[stage]));
            buf[stage][tid] = v;
#else
            buf[stage][tid] = v;                                      //@put
            mbar_arrive(smem(&full[stage]));                          //@full
#endif
            if (++stage == STAGES) stage = 0, phase ^= 1;             //@write_turn
        }
    } else {
        regs_inc<232>();                                              //@inc
        u32 acc = 0;
#pragma unroll 1
        for (int t = 0; t < tiles; t++) {                             //@read_loop
            while (!mbar_try(smem(&full[stage]), phase)) {}           //@wait_full
            acc = acc * 3 + buf[stage][tid ^ 33];                     //@use
            mbar_arrive(smem(&empty[stage]));                         //@empty
            if (++stage == STAGES) stage = 0, phase ^= 1;             //@read_turn
        }
        out[blockIdx.x * G + tid] = acc;                              //@out
    }
}
