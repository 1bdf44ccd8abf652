// Launches that overlap: each one does what it can before it waits for the one before it.
#include "prelude.cuh"
extern "C" __global__ void produce(const u32* in, u32* x, u32 factor) {
    u32 i = blockIdx.x * 32 + threadIdx.x;
    u32 v = in[i] * factor;                                           //@in
    grid_wait();                                                      //@wait_produce
    launch_dependents();                                              //@launch_produce
    x[i] = v;                                                         //@put
}
extern "C" __global__ void consume(const u32* table, const u32* x, u32* out, u32 n) {
    u32 i = blockIdx.x * 32 + threadIdx.x;
    u32 k = table[threadIdx.x];                                       //@table
    launch_dependents();                                              //@launch_consume
#ifdef READS_BEFORE_WAIT
    u32 v = x[(i + 37) % n];
    grid_wait();
#else
    grid_wait();                                                      //@wait_consume
    u32 v = x[(i + 37) % n];                                          //@get
#endif
    out[i] = v * 3 + k;                                               //@out
}
