// A histogram spread over the blocks of a cluster: remote atomics between two barriers, with work between arrival and wait.
#include "prelude.cuh"
extern "C" __global__ void cluster_hist(const u32* in, u32* out, int n) {
    __shared__ u32 bins[8];
    u32 tid = threadIdx.x, rank = cluster_rank(), ranks = cluster_ranks(), lead = blockIdx.x - rank;
    if (tid < 8) bins[tid] = 0;                                         //@zero
    cluster_arrive();                                                   //@ready_arrive
    u32 v = blockIdx.x * 32 + tid < n ? in[blockIdx.x * 32 + tid] : ~0u;  //@in
    cluster_wait();                                                     //@ready_wait
    if (v != ~0u) red_cluster(mapa(smem(&bins[v % 8]), v / 8 % ranks), 1);  //@add
    cluster_arrive();                                                   //@done_arrive
    cluster_wait();                                                     //@done_wait
    if (tid < 8) out[(lead + rank) * 8 + tid] = bins[tid];              //@out
}
