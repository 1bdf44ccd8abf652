// Tensor-core instructions, ldmatrix, cp.async and conversions by inline PTX.
typedef unsigned u32; typedef unsigned short u16;
__device__ u32 sptr(const void* p) { return (u32)__cvta_generic_to_shared(p); }
extern "C" __global__ void mma_bf16(const u32* a, const u32* b, const float* c, float* d) {
    int l = threadIdx.x; float r[4] = {c[l*4], c[l*4+1], c[l*4+2], c[l*4+3]};
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(r[0]), "+f"(r[1]), "+f"(r[2]), "+f"(r[3]) : "r"(a[l*4]), "r"(a[l*4+1]), "r"(a[l*4+2]), "r"(a[l*4+3]), "r"(b[l*2]), "r"(b[l*2+1]));
    for (int i = 0; i < 4; i++) d[l*4+i] = r[i];
}
extern "C" __global__ void mma_f16(const u32* a, const u32* b, const float* c, float* d) {
    int l = threadIdx.x; float r[4] = {c[l*4], c[l*4+1], c[l*4+2], c[l*4+3]};
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(r[0]), "+f"(r[1]), "+f"(r[2]), "+f"(r[3]) : "r"(a[l*4]), "r"(a[l*4+1]), "r"(a[l*4+2]), "r"(a[l*4+3]), "r"(b[l*2]), "r"(b[l*2+1]));
    for (int i = 0; i < 4; i++) d[l*4+i] = r[i];
}
extern "C" __global__ void mma_tf32(const u32* a, const u32* b, const float* c, float* d) {
    int l = threadIdx.x; float r[4] = {c[l*4], c[l*4+1], c[l*4+2], c[l*4+3]};
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(r[0]), "+f"(r[1]), "+f"(r[2]), "+f"(r[3]) : "r"(a[l*4]), "r"(a[l*4+1]), "r"(a[l*4+2]), "r"(a[l*4+3]), "r"(b[l*2]), "r"(b[l*2+1]));
    for (int i = 0; i < 4; i++) d[l*4+i] = r[i];
}
extern "C" __global__ void mma_loop(const u32* a, const u32* b, float* d, int n) {
    int l = threadIdx.x % 32; float r[4] = {0, 0, 0, 0}; u32 a0 = a[l*4], a1 = a[l*4+1], a2 = a[l*4+2], a3 = a[l*4+3], b0 = b[l*2], b1 = b[l*2+1];
    #pragma unroll 8
    for (int i = 0; i < n; i++) asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"(r[0]), "+f"(r[1]), "+f"(r[2]), "+f"(r[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    for (int i = 0; i < 4; i++) d[(blockIdx.x * blockDim.x + threadIdx.x)*4+i] = r[i];
}
extern "C" __global__ void ldmatrices(const u16* x, u32* o) {
    __shared__ __align__(16) u16 s[4 * 64]; int l = threadIdx.x; for (int i = l; i < 256; i += 32) s[i] = x[i]; __syncthreads();
    u32 r0, r1, r2, r3; u32 p = sptr(&s[l * 8]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(p)); o[l*4] = r0; o[l*4+1] = r1; o[l*4+2] = r2; o[l*4+3] = r3;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3) : "r"(p)); o[128+l*4] = r0; o[128+l*4+1] = r1; o[128+l*4+2] = r2; o[128+l*4+3] = r3;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r0), "=r"(r1) : "r"(p)); o[256+l*2] = r0; o[256+l*2+1] = r1;
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r0) : "r"(p)); o[320+l] = r0;
}
extern "C" __global__ void cp_asyncs(const float* x, float* o, int bytes) {
    __shared__ __align__(16) float s[32 * 4 + 32 + 64]; int l = threadIdx.x; for (int i = l; i < 224; i += 32) s[i] = -1.0f; __syncthreads();
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(sptr(&s[l*4])), "l"(x + l*4), "r"(bytes));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(sptr(&s[128+l])), "l"(x + 128 + l));
    asm volatile("cp.async.commit_group;"); 
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" :: "r"(sptr(&s[160+l*2])), "l"(x + 160 + l*2));
    asm volatile("cp.async.commit_group;"); asm volatile("cp.async.wait_group 1;"); asm volatile("cp.async.wait_all;" ::: "memory"); __syncthreads();
    for (int i = l; i < 224; i += 32) o[i] = s[i];
}
extern "C" __global__ void converts(const float* x, u32* o, int n) {
    int i = threadIdx.x + blockIdx.x * blockDim.x; if (i >= n) return; float f = x[i], g = x[(i + 1) % n]; u16 h; u32 w; float r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f)); o[i] = h; asm("{.reg .f32 t; mov.b32 t, {0, %1}; mov.f32 %0, t;}" : "=f"(r) : "h"(h)); o[n+i] = __float_as_uint(r);
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(f), "f"(g)); o[2*n+i] = w;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); o[3*n+i] = h; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h)); o[4*n+i] = __float_as_uint(r);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(f), "f"(g)); o[5*n+i] = w;
    asm("cvt.rz.bf16.f32 %0, %1;" : "=h"(h) : "f"(f)); o[6*n+i] = h; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(w) : "f"(f)); o[7*n+i] = w; asm("cvt.rz.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); o[8*n+i] = h;
}
extern "C" __global__ void vectors(const float4* x, float4* o, const u16* h, u16* p, const int2* i2, int2* o2) { int i = threadIdx.x; float4 v = x[i]; v.x += 1; v.w *= 2; o[i] = v; ushort4 q = ((const ushort4*)h)[i]; q.y = q.x ^ 3; ((ushort4*)p)[i] = q; int2 z = i2[i]; z.x -= z.y; o2[i] = z; }
