// Each block pushes values into the next block of its cluster by asynchronous stores; the receiver gives each
// box back by an arrival at the sender's mbarrier.
#include "prelude.cuh"
extern "C" __global__ void cluster_push(const u32* in, u32* out, int rounds) {
    __shared__ u32 box[2][32];
    __shared__ __align__(8) u64 full[2], empty[2];
    u32 tid = threadIdx.x, rank = cluster_rank(), ranks = cluster_ranks();
    u32 next = rank + 1 == ranks ? 0 : rank + 1, before = rank ? rank - 1 : ranks - 1;
    if (tid == 0) {                                         //@init
#pragma unroll 1
        for (int s = 0; s < 2; s++) {                                 //@init_loop
            mbar_init(smem(&full[s]), 1);                             //@init_full
            mbar_init(smem(&empty[s]), 32);                           //@init_empty
        }
        fence_init();                                                 //@fence_init
    }
#ifdef ONLY_BLOCK_BARRIER
    __syncthreads();
#else
    cluster_arrive();                                                 //@ready_arrive
    cluster_wait();                                                   //@ready_wait
#endif
    u32 v = in[blockIdx.x * 32 + tid];                                //@in
#pragma unroll 1
    for (int t = 0; t < rounds; t++) {                                //@loop
        u32 s = t & 1, phase = t >> 1 & 1;
        while (!mbar_try_cluster(smem(&empty[s]), phase ^ 1)) {}      //@wait_empty
        st_async(mapa(smem(&box[s][tid]), next), v, mapa(smem(&full[s]), next));  //@send
        if (tid == 0) mbar_expect(smem(&full[s]), 128);               //@expect
        while (!mbar_try_cluster(smem(&full[s]), phase)) {}           //@wait_full
        v = v * 3 + box[s][tid ^ 1];                                  //@use
#ifdef ARRIVES_AT_HOME
        mbar_arrive(smem(&empty[s]));
#else
        mbar_arrive_remote(mapa(smem(&empty[s]), before));            //@free
#endif
    }
    out[blockIdx.x * 32 + tid] = v;                                   //@out
    cluster_arrive();                                                 //@end_arrive
    cluster_wait();                                                   //@end_wait
}
