// Block 0 writes and releases; the middle blocks only count up by relaxed atomics once they have seen the flag; the
// last one acquires the full count and reads what block 0 wrote, which reaches it through them.
#include "prelude.cuh"
extern "C" __global__ void relay(const u32* in, u32* data, u32* flag, u32* out) {
    u32 tid = threadIdx.x, b = blockIdx.x, last = gridDim.x - 1;
    if (b == 0) {                                                       //@first
        data[tid] = in[tid] * 7;                                        //@put
        __syncthreads();                                                //@stored
        if (tid == 0) st_release(flag, 1);                              //@signal
    } else if (b < last) {                                              //@middle
        if (tid == 0) {                                                 //@one
            while (ld_relaxed(flag) == 0) {}                            //@see
            atom_relaxed_add(flag, 1);                                  //@count
        }
    } else {
        if (tid == 0) while (ld_acquire(flag) < last) {}                //@poll
        __syncthreads();                                                //@seen
        out[tid] = data[tid ^ 43];                                      //@get
    }
}
