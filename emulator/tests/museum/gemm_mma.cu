// c = a * b (bf16 in, f32 out) with mma: two stages of cp.async, ldmatrix, one warp per 16 x 8 of a tile of 32 x 16.
// The 32 rows of a lie by tiles of 32 x 16.
#include "prelude.cuh"
DEV void ldmatrix4(u32 (&r)[4], u32 addr) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(addr) : "memory");
}
DEV void ldmatrix2(u32 (&r)[2], u32 addr) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(addr) : "memory");
}
DEV void mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
typedef unsigned short u16;
constexpr int BM = 32, BN = 16, BK = 16;
extern "C" __global__ void gemm_mma(const u16* a, const u16* b, float* c, int n, int k) {
    __shared__ __align__(16) u16 as[2][BM][BK], bs[2][BK][BN];
    int tid = threadIdx.x, warp = tid / 32, lane = tid % 32, wm = warp / 2 * 16, wn = warp % 2 * 8;
    int col = blockIdx.x * BN, tiles = k / BK;
    // 64 threads bring 8 words of a each, 32 threads those of b.
    int r = tid % 64 / 2, h = tid % 2 * 8;
    const u16* from = tid < 64 ? a + r * BK + h : b + (r % BK) * n + col + h;  //@from
    u32 to[2];
    for (int s = 0; s < 2; s++) to[s] = tid < 64 ? smem(&as[s][r][h]) : smem(&bs[s][r % BK][h]);  //@to
    int step = tid < 64 ? BM * BK : BK * n;                                                //@stride
    bool brings = tid < 96;                                                           //@brings
    if (brings) cp16(to[0], from);                                                    //@first_copy
    cp_commit();                                                                      //@first_commit
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 1
    for (int t = 0; t < tiles; t++) {                                                 //@loop
        if (t + 1 < tiles && brings) cp16(to[(t + 1) & 1], from + (t + 1) * step);    //@copy
        cp_commit();                                                                  //@commit
        cp_wait<1>();                                                                 //@wait
        __syncthreads();                                                              //@ready
        u32 fa[4], fb[2];
        ldmatrix4(fa, smem(&as[t & 1][wm + lane % 16][lane / 16 * 8]));               //@load_a
        ldmatrix2(fb, smem(&bs[t & 1][lane % 16][wn]));                               //@load_b
        mma(d, fa, fb);
        __syncthreads();                                                              //@used
    }
    float* o = c + (wm + lane / 4) * n + col + wn + lane % 4 * 2;
    o[0] = d[0];                                                                      //@out
    o[1] = d[1];                                                                      //@out
    o[8 * n] = d[2];                                                                  //@out
    o[8 * n + 1] = d[3];                                                              //@out
}
