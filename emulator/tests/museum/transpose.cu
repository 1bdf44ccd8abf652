// out[c][r] = in[r][c] through a padded tile of 16 x 16.
#include "prelude.cuh"
constexpr int T = 16;
extern "C" __global__ void transpose(const u32* in, u32* out, int rows, int cols) {
    __shared__ u32 tile[T][T + 1];
    int x = blockIdx.x * T + threadIdx.x, y = blockIdx.y * T;
#pragma unroll 1
    for (int j = threadIdx.y; j < T; j += 4)                //@in_loop
#ifdef WRONG_GUARD
        if (x < cols && y + j <= rows) tile[j][threadIdx.x] = in[(y + j) * cols + x];
#else
        if (x < cols && y + j < rows) tile[j][threadIdx.x] = in[(y + j) * cols + x];  //@in
#endif
    __syncthreads();                                        //@bar
    int u = blockIdx.y * T + threadIdx.x, v = blockIdx.x * T;
#pragma unroll 1
    for (int j = threadIdx.y; j < T; j += 4)                //@out_loop
        if (u < rows && v + j < cols) out[(v + j) * rows + u] = tile[threadIdx.x][j];  //@out
}
