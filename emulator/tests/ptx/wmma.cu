// Matrix products through nvcuda::wmma: C = alpha A B + beta C, and what is done to fragments one element at a time.
#include <mma.h>
#include <cuda_bf16.h>
using namespace nvcuda;

template <class A, class B>
struct Same {
    static constexpr bool value = false;
};
template <class A>
struct Same<A, A> {
    static constexpr bool value = true;
};

// One warp per tile of C; all operands in global memory.
template <int M, int N, int K, class T, class S, class U, class LA, class LB>
__device__ void direct(const T* a, const T* b, U* c, int m, int n, int k) {
    int tile = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int across = n / N;
    if (tile >= m / M * across) return;
    int i = tile / across * M, j = tile % across * N;
    constexpr bool ar = Same<LA, wmma::row_major>::value, br = Same<LB, wmma::row_major>::value;
    wmma::fragment<wmma::matrix_a, M, N, K, S, LA> fa;
    wmma::fragment<wmma::matrix_b, M, N, K, S, LB> fb;
    wmma::fragment<wmma::accumulator, M, N, K, U> fc;
    wmma::fill_fragment(fc, U(0));
    for (int x = 0; x < k; x += K) {
        wmma::load_matrix_sync(fa, ar ? a + i * k + x : a + x * m + i, ar ? k : m);
        wmma::load_matrix_sync(fb, br ? b + x * n + j : b + j * k + x, br ? n : k);
        if constexpr (Same<S, wmma::precision::tf32>::value) {
            for (int e = 0; e < fa.num_elements; e++) fa.x[e] = wmma::__float_to_tf32(fa.x[e]);
            for (int e = 0; e < fb.num_elements; e++) fb.x[e] = wmma::__float_to_tf32(fb.x[e]);
        }
        wmma::mma_sync(fc, fa, fb, fc);
    }
    wmma::store_matrix_sync(c + i * n + j, fc, n, wmma::mem_row_major);
}

#define DIRECT(name, M, N, K, T, S, U, LA, LB)                                                                  \
    extern "C" __global__ void name(const T* a, const T* b, U* c, int m, int n, int k) {                        \
        direct<M, N, K, T, S, U, wmma::LA, wmma::LB>(a, b, c, m, n, k);                                         \
    }
DIRECT(direct_f16, 16, 16, 16, half, half, float, row_major, col_major)
DIRECT(direct_f16_tall, 32, 8, 16, half, half, half, row_major, col_major)
DIRECT(direct_bf16_wide, 8, 32, 16, __nv_bfloat16, __nv_bfloat16, float, row_major, row_major)
DIRECT(direct_tf32, 16, 16, 8, float, wmma::precision::tf32, float, col_major, row_major)
DIRECT(direct_s8, 16, 16, 16, signed char, signed char, int, row_major, col_major)
DIRECT(direct_u8_tall, 32, 8, 16, unsigned char, unsigned char, int, row_major, col_major)
DIRECT(direct_f64, 8, 8, 4, double, double, double, row_major, col_major)

// A block of 64 x 64 by four warps, through padded shared memory in two stages; the result is
// h = half(alpha A B + beta C), with C in f32.
extern "C" __global__ void blocked(const half* a, const half* b, const float* c, half* h, int n, int k, float alpha,
                                   float beta) {
    constexpr int LD = 32 + 16;
    __shared__ __align__(32) half sa[2][64 * LD];
    __shared__ __align__(32) half sb[2][64 * LD];
    int warp = threadIdx.x / 32, row = blockIdx.y * 64, col = blockIdx.x * 64;
    int wi = warp / 2 * 32, wj = warp % 2 * 32;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc[2][2], old;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) wmma::fill_fragment(acc[i][j], 0.0f);
    int stage = 0;
    for (int x = 0; x < k; x += 32, stage ^= 1) {
        for (int t = threadIdx.x; t < 64 * 4; t += 128) {
            int r = t / 4, q = t % 4 * 8;
            *(uint4*)&sa[stage][r * LD + q] = *(const uint4*)&a[(row + r) * k + x + q];
            *(uint4*)&sb[stage][r * LD + q] = *(const uint4*)&b[(col + r) * k + x + q];
        }
        __syncthreads();
        for (int y = 0; y < 32; y += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa[2];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb[2];
            for (int i = 0; i < 2; i++) {
                wmma::load_matrix_sync(fa[i], &sa[stage][(wi + 16 * i) * LD + y], LD);
                wmma::load_matrix_sync(fb[i], &sb[stage][(wj + 16 * i) * LD + y], LD);
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 2; j++) wmma::mma_sync(acc[i][j], fa[i], fb[j], acc[i][j]);
        }
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            int at = (row + wi + 16 * i) * n + col + wj + 16 * j;
            wmma::fragment<wmma::accumulator, 16, 16, 16, half> out;
            wmma::load_matrix_sync(old, c + at, n, wmma::mem_row_major);
            for (int e = 0; e < old.num_elements; e++) {
                acc[i][j].x[e] = alpha * acc[i][j].x[e] + beta * old.x[e];
                out.x[e] = __float2half(acc[i][j].x[e]);
            }
            wmma::store_matrix_sync(h + at, out, n, wmma::mem_row_major);
        }
}
