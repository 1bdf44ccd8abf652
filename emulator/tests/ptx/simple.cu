// Small kernels: an element-wise tail, shuffles, divergence, calls, structs, atomics.
struct Pair { int first; float second[3]; };
extern "C" __global__ void axpy(const float* x, float* y, float a, int n) { int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = a * x[i] + y[i]; }
extern "C" __global__ void by_struct(Pair p, long long* o) { o[threadIdx.x] = p.first * (long long)threadIdx.x + (long long)p.second[threadIdx.x % 3]; }
extern "C" __global__ void warp_sum(const float* x, float* o, int n) {
    float s = 0.0f; for (int i = threadIdx.x; i < n; i += blockDim.x) s += x[i];
    for (int d = 16; d; d >>= 1) s += __shfl_xor_sync(0xffffffffu, s, d);
    __shared__ float part[32];
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x < 32) { s = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
        for (int d = 16; d; d >>= 1) s += __shfl_down_sync(0xffffffffu, s, d);
        if (threadIdx.x == 0) *o = s; }
}
extern "C" __global__ void shuffles(const int* x, int* o) {
    int v = x[threadIdx.x], l = threadIdx.x;
    o[l] = __shfl_sync(~0u, v, (l * 7) % 32); o[32 + l] = __shfl_up_sync(~0u, v, 3); o[64 + l] = __shfl_down_sync(~0u, v, 5, 16); o[96 + l] = __shfl_xor_sync(~0u, v, 9, 16);
    o[128 + l] = __ballot_sync(~0u, v > 0); o[160 + l] = __any_sync(~0u, v > 100); o[192 + l] = __all_sync(~0u, v > -1000); o[224 + l] = __activemask();
    o[256 + l] = __match_any_sync(~0u, v & 3); o[288 + l] = __reduce_add_sync(~0u, v); o[320 + l] = __reduce_max_sync(~0u, v); o[352 + l] = __reduce_xor_sync(~0u, (unsigned)v);
}
extern "C" __global__ void collatz(const int* x, int* o, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
    unsigned long long v = x[i]; int s = 0;
    while (true) { if (v == 1) break; if (s > 1000) { s = -1; break; } if (v & 1) v = 3 * v + 1; else v >>= 1; s++; if (s == 77 && (i & 1)) continue; }
    o[i] = s;
}
extern "C" __global__ void switched(const int* x, int* o, int n) {
    int i = threadIdx.x; int v = x[i]; int r = 0;
    for (int k = 0; k < 5; k++) switch ((v + k) & 7) { case 0: r += 3; break; case 1: r ^= v; case 2: r *= 5; break; case 3: if (v > 50) goto out; r -= k; break; case 5: r = r * 7 + k; break; default: r++; }
out: o[i] = r;
}
__device__ __noinline__ int helper(int a, long long b, Pair p) { return a * 3 + (int)(b >> 2) + p.first + (int)p.second[a & 1]; }
__device__ __noinline__ float poly(float x) { float s = 0; for (int i = 0; i < 4; i++) s = s * x + i; return s; }
extern "C" __global__ void calls(int* o, float* f) {
    int i = threadIdx.x; Pair p; p.first = i * 2; p.second[0] = i; p.second[1] = 2.5f; p.second[2] = 0;
    if (i % 3) o[i] = helper(i, (long long)i << 20, p); else o[i] = helper(i + 1, 5, p);
    f[i] = poly((float)i * 0.25f);
}
__device__ int counter = 7; __constant__ float table[4] = {1.0f, 2.5f, -3.0f, 0.125f}; __device__ const char text[] = "abc";
extern "C" __global__ void globals(float* o) { o[threadIdx.x] = table[threadIdx.x & 3] + (float)counter + (float)text[threadIdx.x & 3]; }
extern "C" __global__ void bump() { atomicAdd(&counter, 1); }
extern "C" __global__ void atomics(int* i, unsigned* u, float* f, unsigned long long* l, double* d) {
    int t = threadIdx.x; atomicAdd(&i[0], t); atomicMax(&i[1], t - 5); atomicMin(&i[2], t - 5); atomicXor(&i[3], t * 77); atomicOr(&i[4], 1 << (t & 31)); atomicAnd(&i[5], ~(1 << (t & 31)));
    atomicInc(&u[0], 10); atomicDec(&u[1], 10); atomicCAS(&u[2], 0u, 5u); atomicAdd(&f[0], 1.5f); atomicAdd(&l[0], 3ull << 33); atomicMax(&l[1], (unsigned long long)t << 40); atomicAdd(&d[0], 0.5);
    i[8 + t] = atomicAdd(&i[6], 1); atomicExch(&i[7], 9);
    __shared__ int s; if (t == 0) s = 0; __syncthreads(); atomicAdd(&s, 2); __syncthreads(); if (t == 0) u[3] = s;
}
extern "C" __global__ void dynamic_shared(float* o) { extern __shared__ float sh[]; int t = threadIdx.x; sh[t] = t; __syncthreads(); o[t] = sh[blockDim.x - 1 - t]; }
extern "C" __global__ void local_array(const int* idx, int* o) { int a[40]; for (int i = 0; i < 40; i++) a[i] = i * i + threadIdx.x; a[idx[threadIdx.x]] += 1000; int s = 0; for (int i = 0; i < 40; i++) s = s * 3 + a[(i * 7 + idx[threadIdx.x]) % 40]; o[threadIdx.x] = s; }
extern "C" __global__ void generic_ptr(int* g, int* o, int w) { __shared__ int s[64]; int l[2] = {(int)threadIdx.x, 5}; s[threadIdx.x] = threadIdx.x * 2; __syncthreads(); int* p = w == 0 ? g : w == 1 ? s : l; o[threadIdx.x] = p[w == 2 ? threadIdx.x & 1 : threadIdx.x]; }
extern "C" __global__ void spin(int* o) { while (*(volatile int*)o == 0) {} }
extern "C" __global__ void half_barrier(int* o) { if (threadIdx.x < 32) { asm volatile("bar.sync 1, 64;"); } o[threadIdx.x] = 1; }
extern "C" __global__ void out_of_bounds(int* o) { o[threadIdx.x + 1] = 1; }
extern "C" __global__ void misaligned(char* o) { *(int*)(o + 2 + 4 * threadIdx.x) = 1; }
extern "C" __global__ void shared_oob(int* o, int i) { __shared__ int s[8]; s[threadIdx.x & 7] = 1; __syncthreads(); o[0] = s[i]; }
extern "C" __global__ void trap_it(int* o) { if (threadIdx.x == 5) __trap(); o[0] = 1; }
extern "C" __global__ void lock(int* m, int* o) { bool done = false; while (!done) { if (atomicCAS(m, 0, 1) == 0) { o[0] = o[0] + 1; __threadfence(); atomicExch(m, 0); done = true; } } }
