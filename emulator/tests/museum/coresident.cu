// Each block waits for the one after it, so all of them must be on the device at once.
#include "prelude.cuh"
extern "C" __global__ void coresident(const u32* in, u32* data, u32* flag, u32* out) {
    u32 tid = threadIdx.x, b = blockIdx.x, next = b + 1 == gridDim.x ? 0 : b + 1;
    data[b * 64 + tid] = in[b * 64 + tid] * 5;                        //@put
    __syncthreads();                                                  //@stored
    if (tid == 0) {                                         //@one
        st_release(&flag[b], 1);                                      //@signal
        while (ld_acquire(&flag[next]) == 0) {}                       //@poll
    }
    __syncthreads();                                                  //@seen
    out[b * 64 + tid] = data[next * 64 + (tid ^ 35)];                 //@out
}
