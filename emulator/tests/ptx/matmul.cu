// A shared-memory tiled f32 matmul: 64x64 tile of C for 256 threads, 4x4 outputs per thread.
extern "C" __global__ void matmul_tiled(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
    __shared__ float as[16][64];
    __shared__ float bs[16][64];
    int tid = threadIdx.x, tx = tid % 16, ty = tid / 16;
    int row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
    float acc[4][4];
    #pragma unroll
    for (int i = 0; i < 4; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    for (int k0 = 0; k0 < k; k0 += 16) {
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            int e = tid + i * 256, r = e / 16, kk = e % 16;
            as[kk][r] = (row0 + r < m && k0 + kk < k) ? a[(row0 + r) * k + k0 + kk] : 0.0f;
            int bk = e / 64, bc = e % 64;
            bs[bk][bc] = (k0 + bk < k && col0 + bc < n) ? b[(k0 + bk) * n + col0 + bc] : 0.0f;
        }
        __syncthreads();
        #pragma unroll
        for (int kk = 0; kk < 16; kk++) {
            float4 av = *(float4*)&as[kk][ty * 4];
            float4 bv = *(float4*)&bs[kk][tx * 4];
            float ar[4] = {av.x, av.y, av.z, av.w}, br[4] = {bv.x, bv.y, bv.z, bv.w};
            #pragma unroll
            for (int i = 0; i < 4; i++)
                #pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = __fmaf_rn(ar[i], br[j], acc[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int r = row0 + ty * 4 + i, q = col0 + tx * 4 + j;
            if (r < m && q < n) c[r * n + q] = acc[i][j];
        }
}
