// What block 0 wrote reaches block 2 through block 1, which acquires one flag and releases another.
#include "prelude.cuh"
extern "C" __global__ void handover(const u32* in, u32* data, u32* flag, u32* out) {
    u32 tid = threadIdx.x, b = blockIdx.x;
    if (b == 0) {                                                       //@first
        data[tid] = in[tid] * 7;                                        //@put
        __syncthreads();                                                //@stored
        if (tid == 0) st_release(&flag[0], 1);                          //@signal0
    } else if (b == 1) {                                                //@second
        if (tid == 0) while (ld_acquire(&flag[0]) == 0) {}              //@poll0
        __syncthreads();                                                //@between
        if (tid == 32) st_release(&flag[1], 1);                         //@signal1
    } else {
        if (tid == 0) while (ld_acquire(&flag[1]) == 0) {}              //@poll1
        __syncthreads();                                                //@seen
        out[tid] = data[tid ^ 43];                                      //@get
    }
}
