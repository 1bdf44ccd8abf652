// Reads p[0] pieces of p[1] bytes through a ring of p[2] of them in shared memory: one thread issues bulk copies as far
// ahead as the ring allows, all threads add the words up. One sum per thread, so that nothing can be left out.
extern "C" __global__ void __launch_bounds__(256) ring(const unsigned char* x, unsigned* sums, const int* p) {
    extern __shared__ __align__(128) unsigned char places[];
    __shared__ __align__(8) unsigned long long full[64];
    const unsigned pieces = p[0], bytes = p[1], depth = p[2];
    const unsigned own = pieces > blockIdx.x ? (pieces - blockIdx.x - 1) / gridDim.x + 1 : 0;
    const unsigned at = (unsigned)__cvta_generic_to_shared(places);
    const unsigned bars = (unsigned)__cvta_generic_to_shared(full);
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < depth; ++i)
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bars + 8 * i) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();
    auto issue = [&](unsigned i) {
        const unsigned place = i % depth;
        const unsigned char* from = x + (unsigned long long)(blockIdx.x + i * gridDim.x) * bytes;
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bars + 8 * place), "r"(bytes)
                     : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         at + place * bytes),
                     "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(bars + 8 * place)
                     : "memory");
    };
    if (threadIdx.x == 0)
        for (unsigned i = 0; i < depth && i < own; ++i) issue(i);
    unsigned s = 0;
    for (unsigned i = 0; i < own; ++i) {
        const unsigned place = i % depth, phase = i / depth & 1;
        unsigned done = 0;
        while (!done)
            asm volatile(
                "{ .reg .pred q; mbarrier.try_wait.parity.shared::cta.b64 q, [%1], %2; selp.u32 %0, 1, 0, q; }"
                : "=r"(done)
                : "r"(bars + 8 * place), "r"(phase)
                : "memory");
        const uint4* words = (const uint4*)(places + place * bytes);
        for (unsigned w = threadIdx.x; w < bytes / 16; w += 256) {
            const uint4 v = words[w];
            s += v.x + v.y + v.z + v.w;
        }
        __syncthreads();
        if (threadIdx.x == 0 && i + depth < own) issue(i + depth);
    }
    sums[blockIdx.x * 256u + threadIdx.x] = s;
}
