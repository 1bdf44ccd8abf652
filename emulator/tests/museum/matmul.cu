// c = a * b by tiles of 8 x 8; the next tile is fetched into registers while the present one is used.
#include "prelude.cuh"
constexpr int T = 8;
extern "C" __global__ void matmul(const float* a, const float* b, float* c, int m, int n, int k) {
    __shared__ float as[2][T][T], bs[2][T][T];
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, col = blockIdx.x * T + tx;
    int tiles = (k + T - 1) / T;
    float x = 0.0f, y = 0.0f, acc = 0.0f;
    if (row < m && tx < k) x = a[row * k + tx];          //@a0
    if (col < n && ty < k) y = b[ty * n + col];          //@b0
    as[0][ty][tx] = x;                                   //@as0
    bs[0][ty][tx] = y;                                   //@bs0
    __syncthreads();                                     //@first
#pragma unroll 1
    for (int t = 0; t < tiles; t++) {                    //@loop
        int cur = t & 1, at = (t + 1) * T;
        if (t + 1 < tiles) {                             //@more
            x = row < m && at + tx < k ? a[row * k + at + tx] : 0.0f;    //@a
            y = col < n && at + ty < k ? b[(at + ty) * n + col] : 0.0f;  //@b
            as[cur ^ 1][ty][tx] = x;                     //@as
            bs[cur ^ 1][ty][tx] = y;                     //@bs
        }
#pragma unroll 2
        for (int i = 0; i < T; i++) acc += as[cur][ty][i] * bs[cur][i][tx];  //@mad
        __syncthreads();                                 //@bar
    }
    if (row < m && col < n) c[row * n + col] = acc;      //@out
}
