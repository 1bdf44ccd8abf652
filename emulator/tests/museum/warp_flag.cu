// One warp hands values to another one through volatile flags in shared memory and fences of the block.
#include "prelude.cuh"
extern "C" __global__ void warp_flag(const u32* in, u32* out, int rounds) {
    __shared__ u32 data[32];
    __shared__ volatile u32 full, taken;
    u32 lane = threadIdx.x % 32, acc = 0;
    if (threadIdx.x == 0) full = taken = 0;                             //@zero
    __syncthreads();                                                    //@ready
    if (threadIdx.x < 32) {                                             //@role
#pragma unroll 1
        for (u32 t = 0; t < rounds; t++) {                              //@write_loop
            if (lane == 0) {                                            //@one_wait_taken
                while (taken != t) {}                                   //@wait_taken
                __threadfence_block();                                  //@after_taken
            }
            __syncwarp();                                               //@may_put
            data[lane] = in[(blockIdx.x * rounds + t) * 32 + lane];     //@put
            __syncwarp();                                               //@did_put
            if (lane == 0) {                                            //@one_full
                __threadfence_block();                                  //@before_full
                full = t + 1;                                           //@full
            }
        }
    } else {
#pragma unroll 1
        for (u32 t = 0; t < rounds; t++) {                              //@read_loop
            if (lane == 0) {                                            //@one_wait_full
                while (full != t + 1) {}                                //@wait_full
                __threadfence_block();                                  //@after_full
            }
            __syncwarp();                                               //@may_get
            acc = acc * 3 + data[31 - lane];                            //@get
            __syncwarp();                                               //@did_get
            if (lane == 0) {                                            //@one_taken
                __threadfence_block();                                  //@before_taken
                taken = t + 1;                                          //@taken
            }
        }
        out[blockIdx.x * 32 + lane] = acc;                              //@out
    }
}
