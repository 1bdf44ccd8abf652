// An mbarrier with tokens orders a block; then its memory is invalidated, used for data, and made an mbarrier again.
#include "prelude.cuh"
extern "C" __global__ void recycled(const u32* in, u32* out, int rounds) {
    __shared__ __align__(8) u64 place;
    __shared__ u32 data[64];
    u32 tid = threadIdx.x, v = in[blockIdx.x * 64 + tid];               //@in
#pragma unroll 1
    for (int r = 0; r < rounds; r++) {                                  //@loop
        if (tid == 0) mbar_init(smem(&place), 64);                      //@init
        __syncthreads();                                                //@ready
        data[tid] = v;                                                  //@put
        u64 token = mbar_arrive_token(smem(&place));                    //@arrive
        while (!mbar_test_token(smem(&place), token)) {}                //@wait
        v = v * 3 + data[tid ^ 33];                                     //@get
        __syncthreads();                                                //@over
        if (tid == 0) {                                                 //@one
            mbar_inval(smem(&place));                                   //@inval
            *(volatile u32*)&place = v;                                 //@reuse
        }
        __syncthreads();                                                //@reused
        v += *(volatile u32*)&place;                                    //@read
        __syncthreads();                                                //@done
    }
    out[blockIdx.x * 64 + tid] = v;                                     //@out
}
