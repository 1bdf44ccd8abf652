// The blocks of a cluster read each other's shared memory between two cluster barriers.
#include "prelude.cuh"
extern "C" __global__ void cluster_sum(const u32* in, u32* out, int rounds) {
    __shared__ u32 part[32];
    u32 tid = threadIdx.x, ranks = cluster_ranks();
#pragma unroll 1
    for (int r = 0; r < rounds; r++) {                                //@loop
        part[tid] = in[(blockIdx.x * rounds + r) * 32 + tid];         //@put
        cluster_arrive();                                             //@ready_arrive
        cluster_wait();                                               //@ready_wait
        u32 s = 0;
#pragma unroll 1
        for (u32 k = 0; k < ranks; k++) s = s * 3 + ld_cluster(mapa(smem(&part[tid ^ 9]), k));  //@get
        out[(blockIdx.x * rounds + r) * 32 + tid] = s;                //@out
#ifndef LEAVES_EARLY
        cluster_arrive();                                             //@done_arrive
        cluster_wait();                                               //@done_wait
#endif
    }
}
