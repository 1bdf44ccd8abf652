// Block 0 posts messages in one mailbox; all others read each of them before the next one is posted.
#include "prelude.cuh"
extern "C" __global__ void mailbox(const u32* in, u32* box, u32* posted, u32* taken, u32* out, int messages) {
    u32 tid = threadIdx.x, readers = gridDim.x - 1, acc = 0;
#pragma unroll 1
    for (int m = 0; m < messages; m++) {                    //@loop
        if (blockIdx.x == 0) {                              //@role
            if (tid == 0) {                                 //@one_wait_taken
                while (ld_relaxed(taken) < m * readers) {}  //@wait_taken
                fence_gpu();                                //@after_taken
            }
            __syncthreads();                                //@may_post
            box[tid] = in[m * 64 + tid];                    //@post
            __syncthreads();                                //@wrote
            if (tid == 0) {                                 //@one_posted
                fence_gpu();                                //@before_posted
                st_relaxed(posted, m + 1);                  //@posted
            }
        } else {
            if (tid == 0) {                                 //@one_wait_posted
                while (ld_relaxed(posted) < (u32)m + 1) {}  //@wait_posted
                fence_gpu();                                //@after_posted
            }
            __syncthreads();                                //@may_read
            acc = acc * 3 + box[tid ^ 37];                  //@read
            __syncthreads();                                //@did_read
            if (tid == 0) red_release(taken, 1);            //@taken
        }
    }
    if (blockIdx.x > 0) out[(blockIdx.x - 1) * 64 + tid] = acc;  //@out
}
