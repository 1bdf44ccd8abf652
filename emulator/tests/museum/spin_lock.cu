// A lock by compare-and-swap guards plain memory that all blocks change.
#include "prelude.cuh"
extern "C" __global__ void spin_lock(const u32* in, u32* lock, u32* count, u32* sums, int rounds) {
    u32 lane = threadIdx.x;
#pragma unroll 1
    for (int r = 0; r < rounds; r++) {                      //@loop
        u32 v = in[(blockIdx.x * rounds + r) * 32 + lane];  //@in
        if (lane == 0) {                                    //@one
            u32 old;
            do asm volatile("atom.acquire.gpu.global.cas.b32 %0, [%1], 0, 1;" : "=r"(old) : "l"(lock) : "memory");  //@lock
            while (old != 0);
        }
        __syncwarp();                                       //@locked
        sums[lane] += v;                                    //@sums
        if (lane == 0) count[0] = count[0] + 1;             //@count
        __syncwarp();                                       //@changed
        if (lane == 0) st_release(lock, 0);                 //@unlock
    }
}
