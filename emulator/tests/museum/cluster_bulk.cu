// Block 0 of a cluster copies a tile into the shared memory of all others.
#include "prelude.cuh"
extern "C" __global__ void cluster_bulk(const u32* in, u32* out) {
    __shared__ __align__(128) u32 src[64], dst[64];
    __shared__ __align__(8) u64 full;
    u32 tid = threadIdx.x, rank = cluster_rank(), ranks = cluster_ranks();
    if (tid == 0) {                                         //@init
        mbar_init(smem(&full), 1);                                    //@init
        fence_init();                                                 //@fence_init
        if (rank) mbar_expect(smem(&full), 256);                      //@expect
    }
    cluster_arrive();                                                 //@ready_arrive
    cluster_wait();                                                   //@ready_wait
    if (rank == 0) {                                        //@role
        src[tid] = in[blockIdx.x / ranks * 64 + tid] * 3;             //@put
        fence_proxy();                                                //@proxy
        __syncthreads();                                              //@stored
        if (tid == 0) {                                     //@one
#pragma unroll 1
            for (u32 k = 1; k < ranks; k++) bulk_to_peer(mapa(smem(dst), k), smem(src), 256, mapa(smem(&full), k));  //@copy
        }
    } else {
        while (!mbar_try_cluster(smem(&full), 0)) {}                  //@wait_full
        out[(blockIdx.x - blockIdx.x / ranks - 1) * 64 + tid] = dst[tid ^ 1] + rank;  //@out
    }
    cluster_arrive();                                                 //@end_arrive
    cluster_wait();                                                   //@end_wait
}
