// Turns by ticket: a relaxed counter gives the place in the queue, an acquiring poll and a release pass the turn on.
#include "prelude.cuh"
extern "C" __global__ void ticket_lock(const u32* in, u32* next, u32* turn, u32* sums, int rounds) {
    u32 tid = threadIdx.x;
    __shared__ u32 mine;
#pragma unroll 1
    for (int r = 0; r < rounds; r++) {                                  //@loop
        if (tid == 0) {                                                 //@one
            mine = atom_relaxed_add(next, 1);                           //@ticket
            while (ld_acquire(turn) != mine) {}                         //@poll
        }
        __syncthreads();                                                //@locked
        sums[tid] = sums[tid] * 3 + in[mine * 64 + tid];                //@sums
        __syncthreads();                                                //@changed
        if (tid == 0) st_release(turn, mine + 1);                       //@unlock
    }
}
