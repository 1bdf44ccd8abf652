// Reads p[0] pieces of 16 bytes, four in flight per thread, and adds their words up; one sum per thread, so that nothing
// can be left out.
extern "C" __global__ void __launch_bounds__(256) read_stream(const uint4* x, unsigned* sums, const int* p) {
    const unsigned n = p[0], stride = gridDim.x * 256u;
    unsigned at = blockIdx.x * 256u + threadIdx.x, s = 0;
    for (; at + 3 * stride < n; at += 4 * stride) {
        uint4 a = x[at], b = x[at + stride], c = x[at + 2 * stride], d = x[at + 3 * stride];
        s += a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w;
        s += c.x + c.y + c.z + c.w + d.x + d.y + d.z + d.w;
    }
    for (; at < n; at += stride) {
        uint4 a = x[at];
        s += a.x + a.y + a.z + a.w;
    }
    sums[blockIdx.x * 256u + threadIdx.x] = s;
}
