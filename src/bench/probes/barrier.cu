// p[0] barriers of the first p[1] threads of a block. With p[2], they hand a word on from thread to thread, so that a
// barrier that does not hold back shows. out: clock cycles, errors, nanoseconds.
extern "C" __global__ void __launch_bounds__(1024) barrier(unsigned* out, const int* p) {
    __shared__ unsigned word, wrong;
    const int rounds = p[0], threads = p[1], check = p[2];
    if (threadIdx.x == 0) word = wrong = 0;
    __syncthreads();
    if ((int)threadIdx.x < threads) {
        unsigned long long first, last;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(first));
        const long long begin = clock64();
        for (int r = 0; r < rounds; ++r) {
            if (check && (int)threadIdx.x == r % threads) word = word + 1;
            asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
            if (check) {
                if (word != (unsigned)(r + 1)) atomicAdd(&wrong, 1u);
                asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
            }
        }
        const long long end = clock64();
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(last));
        asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
        if (threadIdx.x == 0) {
            out[0] = (unsigned)(end - begin);
            out[1] = wrong;
            out[2] = (unsigned)(last - first);
        }
    }
}
