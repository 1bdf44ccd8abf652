// What the runtime does for kernels: printf and assertions.

extern "C" int printf(const char *, ...);

extern "C" __global__ void prints(const int *x, int *counts) {
    int t = threadIdx.x;
    if (t % 3 == 0) {
        counts[blockIdx.x * blockDim.x + t] =
            printf("block %d thread %2d: %+.2f %s %lld%%\n", blockIdx.x, t, x[t] * 0.5, t & 1 ? "odd" : "even", 1ll << t);
    } else if (t == 4) {
        printf("four\n");
    }
}

extern "C" __global__ void asserts(const int *x) {
    int t = threadIdx.x;
    if (x[t] < 0) __assertfail("x[t] >= 0", "dir/file.cu", 42, "asserts", 1);
}
