// Blocks take items from a queue until it is empty; the item travels to all threads through shared memory.
#include "prelude.cuh"
extern "C" __global__ void queue(const u32* in, u32* out, u32* head, int items) {
    __shared__ int item;
    u32 tid = threadIdx.x;
    while (true) {
        if (tid == 0) item = (int)atomicAdd(head, 1u);      //@take
        __syncthreads();                                    //@told
        int i = item;                                       //@item
        if (i >= items) break;                              //@end
        u32 v = in[i * 64 + (tid ^ 1)];                     //@in
        out[i * 64 + tid] = v * v + i;                      //@out
#ifndef ONE_BARRIER
        __syncthreads();                                    //@heard
#endif
    }
}
